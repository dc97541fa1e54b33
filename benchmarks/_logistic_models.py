"""Many logistic regressions trained together: every schedule, base rate and seed of a setting in one array.

Models differ in nothing but their learning rates; those of one seed share labels, batches and the zero start, so that
two schedules are compared on the same draws. Source of the suite: A. Defazio et al., "When, Why and How Much? Adaptive
Learning Rate Scheduling by Refinement", 2023, whose convex experiments are of this kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DATA_SETS = ("digits", "breast cancer", "wine")
BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Samples:
    """A classification task, drawn anew for every seed.

    Attributes
    ----------
    features
        Shape (samples, columns): standardised, constant columns left out, and a last column of ones for the bias.
    labels
        Shape (seeds, samples): classes from 0, with each seed's own label noise.
    classes
        Number of classes.
    """

    features: Floats
    labels: Ints
    classes: int


@dataclass(frozen=True)
class Trained:
    """Outcome of `train_together`.

    Attributes
    ----------
    loss
        Shape (seeds, models): mean cross entropy of the last iterate over all samples, nats.
    norms
        Shape (steps, seeds, models): norm of each batch's gradient, l1 for Adam and l2 for SGD.
    """

    loss: Floats
    norms: Floats


def samples(name: str, noise: float, seeds: int) -> Samples:
    """One of `DATA_SETS` from scikit-learn.

    Parameters
    ----------
    noise
        Share of samples whose label is replaced by another class, drawn anew for every seed.
    seeds
        Number of draws.
    """
    from sklearn import datasets

    loaded = {"digits": datasets.load_digits, "breast cancer": datasets.load_breast_cancer, "wine": datasets.load_wine}
    data, target = loaded[name](return_X_y=True)
    columns = np.asarray(data, dtype=np.float64)[:, np.ptp(data, axis=0) > 0]
    columns = (columns - columns.mean(0)) / columns.std(0)
    clean = np.asarray(target, dtype=np.int64)
    classes, count = int(clean.max()) + 1, len(clean)
    labels = np.tile(clean, (seeds, 1))
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 1])
        wrong = rng.permutation(count)[: round(noise * count)]
        labels[seed, wrong] = (clean[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return Samples(np.hstack([columns, np.ones((count, 1))]), labels, classes)


def train_together(task: Samples, optimizer: str, rates: Floats, batch: int) -> Trained:
    """Train one multinomial logistic regression a seed and model, from zero.

    Parameters
    ----------
    optimizer
        "adam" or "sgd" (no momentum).
    rates
        Shape (steps, seeds, models): learning rate of each step.
    batch
        Samples a step, drawn with replacement by a generator that depends on the seed only.
    """
    steps, seeds, models = rates.shape
    count, width = task.features.shape
    classes = task.classes
    axis = np.arange(seeds)[:, None]
    draws = np.stack([np.random.default_rng([seed, 2]).integers(0, count, (steps, batch)) for seed in range(seeds)])
    truth = np.eye(classes)[task.labels]
    weights = np.zeros((seeds, width, models * classes))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    norms = np.empty(rates.shape)
    for step in range(steps):
        drawn = draws[:, step]
        inputs = task.features[drawn]
        error = _probabilities(inputs @ weights, classes)
        error -= truth[axis, drawn][:, :, None, :]
        gradient = inputs.transpose(0, 2, 1) @ error.reshape(seeds, batch, -1) / batch
        norms[step] = gradient_norms(gradient, classes, "l1" if optimizer == "adam" else "l2")
        rate = np.repeat(rates[step], classes, axis=1)[:, None, :]
        if optimizer == "adam":
            first += (1 - BETAS[0]) * (gradient - first)
            second += (1 - BETAS[1]) * (gradient * gradient - second)
            scale = np.sqrt(second / (1 - BETAS[1] ** (step + 1))) + EPSILON
            gradient = first / (1 - BETAS[0] ** (step + 1)) / scale
        weights -= rate * gradient
    return Trained(full_loss(task, weights), norms)


def gradient_norms(gradient: Floats, classes: int, norm: str) -> Floats:
    """Norm of each model's gradient over all of its weights: (seeds, columns, models x classes) -> (seeds, models)."""
    seeds, width, _ = gradient.shape
    apart = gradient.reshape(seeds, width, -1, classes)
    if norm == "l1":
        return np.asarray(np.abs(apart).sum((1, 3)))
    return np.sqrt(np.square(apart).sum((1, 3)))


def full_loss(task: Samples, weights: Floats) -> Floats:
    """Mean cross entropy over all samples: weights (seeds, columns, models x classes) -> (seeds, models)."""
    seeds, _, width = weights.shape
    count = len(task.features)
    logits = (task.features @ weights).reshape(seeds, count, width // task.classes, task.classes)
    top = logits.max(-1)
    spread = np.log(np.exp(logits - top[..., None]).sum(-1)) + top
    right = np.take_along_axis(logits, task.labels[:, :, None, None], axis=3)[..., 0]
    return np.asarray((spread - right).mean(1))


def _probabilities(logits: Floats, classes: int) -> Floats:
    """Softmax over classes: (seeds, batch, models x classes) -> (seeds, batch, models, classes)."""
    apart = logits.reshape(*logits.shape[:2], -1, classes)
    apart -= apart.max(-1, keepdims=True)
    np.exp(apart, out=apart)
    apart /= apart.sum(-1, keepdims=True)
    return apart
