"""A model in a stack moves as the same model under torch's, or the package's, own optimiser does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pathloom.learn.rates.stacked_networks import (  # noqa: E402
    SmallConvNet,
    SmallPerceptron,
    as_leaves,
    initial_parameters,
)
from pathloom.learn.rates.stacked_optimizers import stacked_optimizer  # noqa: E402
from pathloom.learn.rates.stacked_training import Classification, Course, train_stack  # noqa: E402
from pathloom.learn.rates.sweep_schedules import default_schedules  # noqa: E402

MODELS, SIZE, STEPS = 3, 7, 40
SCALES = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def gradient(parameters: Any, step: int) -> Any:
    """Of a quadratic bowl with noise that depends on the step alone; any number of models."""
    bowl = torch.linspace(0.2, 3.0, SIZE, dtype=torch.float64)
    noise = torch.sin(torch.arange(SIZE, dtype=torch.float64) * (step + 1))
    return bowl * parameters + 0.3 * noise


def stacked_path(name: str, free: bool, rates: Any, momenta: Any, decay: float) -> Any:
    """Where MODELS models end whose rates are `rates` times SCALES."""
    parameters = torch.linspace(-1, 1, SIZE, dtype=torch.float64).repeat(MODELS, 1)
    optimizer = stacked_optimizer(name, parameters, weight_decay=decay, schedule_free=free)
    for step in range(STEPS):
        momentum = torch.full((MODELS,), momenta[step], dtype=torch.float64)
        optimizer.step(gradient(parameters, step), rates[step] * SCALES, momentum)
    optimizer.finish()
    return parameters


def single_path(build: Callable[[Any], Any], drive: Callable[[Any, int], None], at_end: Callable[[Any], None]) -> Any:
    """Where one model ends under an ordinary optimiser; `drive` sets its rate before each step."""
    weight = torch.linspace(-1, 1, SIZE, dtype=torch.float64).requires_grad_()
    optimizer = build([weight])
    for step in range(STEPS):
        drive(optimizer, step)
        weight.grad = gradient(weight.detach(), step)
        optimizer.step()
    at_end(optimizer)
    return weight.detach()


@pytest.mark.parametrize("schedule", default_schedules(), ids=lambda schedule: schedule.name)
@pytest.mark.parametrize("name", ["sgdm", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_each_model_of_a_stack_moves_as_it_would_alone_under_torch(name: str, schedule: Any, decay: float) -> None:
    if schedule.schedule_free:
        pytest.skip("compared with its own package below")
    curve = schedule.curve(STEPS, name)
    together = stacked_path(name, False, 0.05 * curve.factors, curve.momenta, decay)
    for row, scale in zip(together, SCALES.tolist(), strict=True):

        def build(weights: Any) -> Any:
            if name == "sgdm":
                return torch.optim.SGD(weights, lr=1.0, momentum=0.9, weight_decay=decay)
            return torch.optim.AdamW(weights, lr=1.0, weight_decay=decay)

        def drive(optimizer: Any, step: int, scale: float = scale) -> None:
            group = optimizer.param_groups[0]
            group["lr"] = 0.05 * curve.factors[step] * scale
            if name == "sgdm":
                group["momentum"] = curve.momenta[step]
            else:
                group["betas"] = (curve.momenta[step], 0.999)

        torch.testing.assert_close(row, single_path(build, drive, lambda _: None), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sgdm", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_schedule_free_models_of_a_stack_move_as_under_the_package(name: str, decay: float) -> None:
    package = pytest.importorskip("schedulefree")
    warmup = 8
    factors = np.minimum((np.arange(STEPS) + 1) / warmup, 1.0)
    together = stacked_path(name, True, 0.05 * factors, np.full(STEPS, 0.9), decay)
    for row, scale in zip(together, SCALES.tolist(), strict=True):

        def build(weights: Any, scale: float = scale) -> Any:
            kind = package.SGDScheduleFree if name == "sgdm" else package.AdamWScheduleFree
            optimizer = kind(weights, lr=0.05 * scale, weight_decay=decay, warmup_steps=warmup)
            optimizer.train()
            return optimizer

        alone = single_path(build, lambda *_: None, lambda optimizer: optimizer.eval())
        torch.testing.assert_close(row, alone, rtol=1e-9, atol=1e-12)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="optimizer"):
        stacked_optimizer("lion", torch.zeros(1, 1), weight_decay=0.0, schedule_free=False)


def different(network: Any, models: int) -> Any:
    """Parameters of models that differ."""
    return torch.cat([initial_parameters(network, 1, seed) for seed in range(models)])


def test_the_convolutional_net_is_torchs_own() -> None:
    network, models, samples = SmallConvNet(40, 6, 5), 3, 4
    leaves = as_leaves(network, different(network, models))
    inputs = torch.randn(samples, 40, generator=torch.Generator().manual_seed(0))
    logits = network.logits(leaves, inputs)
    for model in range(models):
        hidden = inputs[:, None]
        for layer, kernel in enumerate((5, 3, 3)):
            weight, bias = leaves[2 * layer][model], leaves[2 * layer + 1][model]
            filters = weight.unflatten(1, (kernel, -1)).transpose(1, 2)
            hidden = torch.nn.functional.conv1d(hidden, filters, bias[:, 0], stride=2, padding=1).relu()
        expected = torch.nn.functional.linear(hidden.flatten(1), leaves[6][model], leaves[7][model, :, 0])
        torch.testing.assert_close(logits[model].T, expected, rtol=1e-5, atol=1e-6)


def test_the_gradients_of_the_convolutional_net_are_those_of_finite_differences() -> None:
    network = SmallConvNet(9, 2, 2)
    leaves = [leaf.detach().double().requires_grad_() for leaf in as_leaves(network, different(network, 2))]
    inputs = torch.randn(3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *given: network.logits(given, inputs), leaves)


def test_the_perceptron_is_torchs_own() -> None:
    network = SmallPerceptron(12, 8, 3)
    leaves = as_leaves(network, different(network, 2))
    inputs = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    linear = torch.nn.functional.linear
    for model, logits in enumerate(network.logits(leaves, inputs)):
        hidden = linear(inputs, leaves[0][model], leaves[1][model, :, 0]).relu()
        expected = linear(hidden, leaves[2][model], leaves[3][model, :, 0])
        torch.testing.assert_close(logits.T, expected, rtol=1e-5, atol=1e-6)


def test_initial_parameters_are_alike_in_all_models_and_differ_with_the_seed() -> None:
    network = SmallPerceptron(12, 8, 3)
    drawn = initial_parameters(network, 3, seed=4)
    assert drawn.shape == (3, 8 * 12 + 8 + 3 * 8 + 3)
    assert torch.equal(drawn[0], drawn[2])
    assert drawn[:, : 9 * 8].abs().max() <= 12**-0.5
    assert not torch.equal(drawn, initial_parameters(network, 3, seed=5))


def blobs(classes: int = 3, samples: int = 120, features: int = 40, apart: float = 2.0) -> Classification:
    """Clouds of points around centres that are `apart`."""
    draw = np.random.default_rng(0)
    centres = apart * draw.standard_normal((classes, features))
    labels = draw.integers(0, classes, 2 * samples)
    points = (centres[labels] + draw.standard_normal((2 * samples, features))).astype(np.float32)
    network = SmallPerceptron(features, 8, classes)
    return Classification(
        "blobs", points[:samples], labels[:samples], points[samples:], labels[samples:], network, batch=25
    )


def course(rate: float, steps: int = 60, *, free: bool = False) -> Course:
    return Course(np.full(steps, rate), np.full(steps, 0.9), free)


@pytest.mark.parametrize("name", ["sgdm", "adamw"])
def test_models_trained_together_are_as_good_as_trained_alone(name: str) -> None:
    task = blobs()
    courses = [course(0.003), course(0.01, free=True), course(0.0), course(0.03), course(0.001, free=True)]
    together = train_stack(task, name, courses, seed=1)
    alone = [train_stack(task, name, [each], seed=1)[0] for each in courses]
    np.testing.assert_allclose(together, alone, atol=1e-9)
    assert together[3] < 5.0 < 30.0 < together[2]  # the one with rate 0 has learnt nothing


def test_a_stack_trains_as_a_torch_loop_does() -> None:
    task = blobs(apart=0.8)
    steps = 12  # three epochs of four batches
    shapes = task.network.shapes
    stacked = initial_parameters(task.network, 1, 7)
    weights = [leaf.detach().clone()[0].requires_grad_() for leaf in as_leaves(task.network, stacked)]
    assert [tuple(weight.shape) for weight in weights] == shapes
    optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=task.weight_decay["sgdm"])
    shuffle = np.random.default_rng(7)
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    for step in range(steps):
        if step % 4 == 0:
            drawn = torch.from_numpy(shuffle.permutation(len(inputs)))
        rows = drawn[step % 4 * 25 :][:25]
        logits = task.network.logits([weight[None] for weight in weights], inputs[rows])[0].T
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        logits = task.network.logits([weight[None] for weight in weights], torch.from_numpy(task.test_inputs))[0]
    expected = 100.0 * (logits.argmax(0).numpy() != task.test_labels).mean()
    assert 0.0 < expected < 60.0
    assert train_stack(task, "sgdm", [course(0.01, steps)], seed=7)[0] == pytest.approx(expected)


def test_a_model_that_diverges_is_wrong_everywhere_and_harms_no_other() -> None:
    errors = train_stack(blobs(), "sgdm", [course(1e30), course(0.03)], seed=0)
    assert errors[0] == 100.0
    assert errors[1] < 5.0


def test_courses_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="courses"):
        train_stack(blobs(), "sgdm", [course(0.1, 3), course(0.1, 4)], seed=0)
    with pytest.raises(ValueError, match="courses"):
        train_stack(blobs(), "sgdm", [], seed=0)


def test_a_task_with_labels_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="inputs"):
        Classification(
            "x", np.zeros((3, 2), np.float32), np.zeros(2, np.int64), np.zeros((1, 2)), np.zeros(1), SmallPerceptron(2)
        )
