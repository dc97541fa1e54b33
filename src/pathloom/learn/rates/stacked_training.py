"""Training many small classifiers in lockstep on one thread, each with its own learning rate at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pathloom.learn.rates.stacked_networks import StackedNetwork, as_leaves, initial_parameters
from pathloom.learn.rates.stacked_optimizers import stacked_optimizer

FloatArray = np.ndarray


@dataclass(frozen=True)
class Classification:
    """A classification task with the network that learns it.

    Attributes
    ----------
    name
        What tables call it.
    inputs, labels, test_inputs, test_labels
        Shapes (samples, features) float32 and (samples,) int64.
    network
        A `StackedNetwork`.
    batch
        Samples a step; samples that fill no whole batch are left out until the next shuffle.
    weight_decay
        For each optimiser: L2 penalty with "sgdm", decoupled with "adamw".
    """

    name: str
    inputs: FloatArray
    labels: FloatArray
    test_inputs: FloatArray
    test_labels: FloatArray
    network: StackedNetwork
    batch: int = 100
    weight_decay: dict[str, float] = field(default_factory=lambda: {"sgdm": 5e-4, "adamw": 0.01})

    def __post_init__(self) -> None:
        for name, inputs, labels in (
            ("inputs", self.inputs, self.labels),
            ("test_inputs", self.test_inputs, self.test_labels),
        ):
            if inputs.ndim != 2 or labels.shape != inputs.shape[:1]:
                raise ValueError(f"{name}: shape {inputs.shape} with labels of shape {labels.shape}")
        if set(self.weight_decay) != {"sgdm", "adamw"}:
            raise ValueError(f"weight_decay: expected sgdm and adamw, found {', '.join(self.weight_decay) or 'none'}")
        if not 1 <= self.batch <= len(self.inputs):
            raise ValueError(f"batch: {self.batch} of {len(self.inputs)} samples")


@dataclass(frozen=True)
class Course:
    """What one model is trained with.

    Attributes
    ----------
    rates, momenta
        Learning rate and momentum (first beta of Adam) of every step, shape (steps,).
    schedule_free
        Whether the schedule-free form of the optimiser is used.
    """

    rates: FloatArray
    momenta: FloatArray
    schedule_free: bool = False


def train_stack(task: Classification, optimizer: str, courses: Sequence[Course], seed: int) -> FloatArray:
    """Test errors in percent of models that differ in nothing but their courses.

    All start from the same parameters and see the same batches, both drawn with `seed`. A model whose parameters are no
    longer finite counts as wrong everywhere.

    Parameters
    ----------
    optimizer
        "sgdm" or "adamw".
    courses
        One a model; all of the same number of steps.

    Raises
    ------
    ValueError
        If the courses differ in length or there are none, or for an unknown optimiser.
    """
    lengths = {len(course.rates) for course in courses} | {len(course.momenta) for course in courses}
    if len(lengths) != 1:
        raise ValueError(f"courses: expected one or more of one length, got lengths {sorted(lengths)}")
    # schedule-free models come last, so that each kind of optimiser owns consecutive rows
    order = sorted(range(len(courses)), key=lambda at: courses[at].schedule_free)
    ordinary = sum(not course.schedule_free for course in courses)
    stacked = initial_parameters(task.network, len(courses), seed)
    leaves = as_leaves(task.network, stacked)
    parts = [
        (
            rows,
            stacked_optimizer(optimizer, stacked[rows], weight_decay=task.weight_decay[optimizer], schedule_free=free),
        )
        for rows, free in ((slice(0, ordinary), False), (slice(ordinary, len(courses)), True))
        if rows.stop > rows.start
    ]
    rates = torch.tensor(np.stack([courses[at].rates for at in order], 1), dtype=torch.float32)
    momenta = torch.tensor(np.stack([courses[at].momenta for at in order], 1), dtype=torch.float32)

    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    batches = len(inputs) // task.batch
    shuffle = np.random.default_rng(seed)
    for step in range(lengths.pop()):
        if step % batches == 0:
            drawn = torch.from_numpy(shuffle.permutation(len(inputs)))
        rows = drawn[(step % batches) * task.batch :][: task.batch]
        gradients = _gradients(task.network, leaves, inputs[rows], labels[rows])
        for part, stepper in parts:
            stepper.step(gradients[part], rates[step, part], momenta[step, part])
    for _, stepper in parts:
        stepper.finish()

    errors = np.empty(len(courses))
    errors[order] = _errors(task, leaves)
    return errors


def _gradients(network: StackedNetwork, leaves: list[Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each model's mean cross entropy, shape (models, parameters)."""
    logits = network.logits(leaves, inputs)
    truth = labels.expand(len(logits), 1, -1)
    loss = (torch.logsumexp(logits, 1) - logits.gather(1, truth).squeeze(1)).mean(1).sum()
    return torch.cat([part.flatten(1) for part in torch.autograd.grad(loss, leaves)], 1)


@torch.no_grad()
def _errors(task: Classification, leaves: list[Tensor]) -> FloatArray:
    inputs, labels = torch.from_numpy(task.test_inputs), torch.from_numpy(task.test_labels)
    wrong = torch.zeros(len(leaves[0]))
    for start in range(0, len(inputs), 500):
        logits = task.network.logits(leaves, inputs[start : start + 500])
        finite = torch.isfinite(logits).all(1)
        wrong += ((logits.argmax(1) != labels[start : start + 500]) | ~finite).sum(1)
    errors: FloatArray = 100.0 * wrong.double().numpy() / len(inputs)
    return errors
