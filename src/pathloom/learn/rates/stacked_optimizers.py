"""Optimisers of many models at once: parameters stacked along a leading model axis, every model with its own rate.

The update rules are those of `torch.optim.SGD` (with momentum), `torch.optim.AdamW` and, for schedule-free learning, of
the package schedulefree 1.4 (A. Defazio et al., The Road Less Scheduled, 2024); one row of a stack moves exactly as a
single model under the original optimiser does. They exist because a comparison of learning rates trains hundreds of
small models, for each of which an optimiser call costs more than the arithmetic.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class StackedOptimizer(Protocol):
    """What `train_stack` needs of an optimiser over parameters of shape (models, parameters)."""

    def step(self, gradients: Tensor, rates: Tensor, momenta: Tensor) -> None:
        """Move the parameters in place.

        Parameters
        ----------
        gradients
            Shape (models, parameters); may be overwritten.
        rates, momenta
            Shape (models,): learning rate, and momentum (for Adam its first beta), of each model at this step.
        """

    def finish(self) -> None:
        """Turn the parameters into those to be evaluated; no step may follow."""


class StackedSgd:
    """Stochastic gradient descent with momentum and an L2 penalty, as `torch.optim.SGD`."""

    def __init__(self, parameters: Tensor, *, weight_decay: float = 0.0) -> None:
        self.parameters, self.weight_decay = parameters, weight_decay
        self.velocity = torch.zeros_like(parameters)

    @torch.no_grad()
    def step(self, gradients: Tensor, rates: Tensor, momenta: Tensor) -> None:
        if self.weight_decay:
            gradients.add_(self.parameters, alpha=self.weight_decay)
        self.velocity.mul_(momenta[:, None]).add_(gradients)
        self.parameters.addcmul_(self.velocity, rates[:, None], value=-1.0)

    def finish(self) -> None:
        pass


class StackedAdamW:
    """Adam with decoupled weight decay, as `torch.optim.AdamW`; `momenta` is its first beta."""

    def __init__(
        self, parameters: Tensor, *, weight_decay: float = 0.0, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self.parameters, self.weight_decay, self.beta2, self.epsilon = parameters, weight_decay, beta2, epsilon
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: Tensor, rates: Tensor, momenta: Tensor) -> None:
        self.steps += 1
        self.parameters.mul_((1.0 - rates * self.weight_decay)[:, None])
        self.mean.lerp_(gradients, (1.0 - momenta)[:, None])
        self.square.mul_(self.beta2).addcmul_(gradients, gradients, value=1.0 - self.beta2)
        # torch corrects the bias with the beta of this step, also where a schedule changes it
        size = rates / (1.0 - momenta**self.steps)
        root = torch.sqrt(self.square).div_((1.0 - self.beta2**self.steps) ** 0.5).add_(self.epsilon)
        self.parameters.sub_(torch.div(self.mean, root, out=root).mul_(size[:, None]))

    def finish(self) -> None:
        pass


class StackedScheduleFreeSgd:
    """Schedule-free SGD: gradients at a point between a fast sequence and its running average, which is the result.

    Rates below the largest so far (warm-up) weigh with the square of the largest so far in the average.
    """

    def __init__(self, parameters: Tensor, *, weight_decay: float = 0.0) -> None:
        self.parameters, self.weight_decay = parameters, weight_decay
        self.fast = parameters.clone()
        self.largest = parameters.new_zeros(len(parameters))
        self.weights = parameters.new_zeros(len(parameters))
        self.momenta: Tensor | None = None

    @torch.no_grad()
    def step(self, gradients: Tensor, rates: Tensor, momenta: Tensor) -> None:
        self.momenta = momenta
        if self.weight_decay:
            gradients.add_(self.parameters, alpha=self.weight_decay)
        self._move(gradients, rates, momenta)

    def _move(self, direction: Tensor, rates: Tensor, momenta: Tensor) -> None:
        self.largest = torch.maximum(self.largest, rates)
        weight = self.largest**2
        self.weights = self.weights + weight
        share = torch.where(self.weights > 0, weight / self.weights, torch.zeros_like(weight))
        self.parameters.lerp_(self.fast, share[:, None])
        self.parameters.addcmul_(direction, (rates * (momenta * (1.0 - share) - 1.0))[:, None])
        self.fast.addcmul_(direction, rates[:, None], value=-1.0)

    @torch.no_grad()
    def finish(self) -> None:
        if self.momenta is not None:
            self.parameters.lerp_(self.fast, (1.0 - 1.0 / self.momenta)[:, None])


class StackedScheduleFreeAdamW(StackedScheduleFreeSgd):
    """Schedule-free AdamW; `momenta` is the first beta."""

    def __init__(
        self, parameters: Tensor, *, weight_decay: float = 0.0, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        super().__init__(parameters, weight_decay=weight_decay)
        self.beta2, self.epsilon, self.steps = beta2, epsilon, 0
        self.square = torch.zeros_like(parameters)

    @torch.no_grad()
    def step(self, gradients: Tensor, rates: Tensor, momenta: Tensor) -> None:
        self.momenta = momenta
        self.steps += 1
        self.square.mul_(self.beta2).addcmul_(gradients, gradients, value=1.0 - self.beta2)
        root = self.square.div(1.0 - self.beta2**self.steps).sqrt_().add_(self.epsilon)
        gradients.div_(root)
        if self.weight_decay:
            gradients.add_(self.parameters, alpha=self.weight_decay)
        self._move(gradients, rates, momenta)


def stacked_optimizer(name: str, parameters: Tensor, *, weight_decay: float, schedule_free: bool) -> StackedOptimizer:
    """The optimiser called "sgdm" or "adamw", in its ordinary or its schedule-free form.

    Raises
    ------
    ValueError
        For another name.
    """
    if name == "sgdm":
        return (StackedScheduleFreeSgd if schedule_free else StackedSgd)(parameters, weight_decay=weight_decay)
    if name == "adamw":
        return (StackedScheduleFreeAdamW if schedule_free else StackedAdamW)(parameters, weight_decay=weight_decay)
    raise ValueError(f"optimizer: {name!r} is unknown, expected sgdm or adamw")
