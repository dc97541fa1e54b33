"""Gradients and optimizer of the layers that a node holds.

All gradients of a node lie in one flat buffer, of which every parameter's ``grad`` is a view: one all-reduce averages a
stage, one pass gives a norm, and nothing is gathered or copied for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pathloom.worlds.train.runtime.settings import RunSettings


class FlatGradients:
    """One buffer for the gradients of all given parameters."""

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        first = next(iter(self.parameters.values()))
        size = sum(parameter.numel() for parameter in self.parameters.values())
        self.flat = torch.zeros(size, dtype=torch.float32, device=first.device)
        self._receive_in(self.flat)

    def _receive_in(self, flat: torch.Tensor) -> None:
        at = 0
        for parameter in self.parameters.values():
            parameter.grad = flat[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()

    @contextmanager
    def aside(self) -> Iterator[torch.Tensor]:
        """While inside, gradients are summed in another buffer, which this yields."""
        other = torch.zeros_like(self.flat)
        self._receive_in(other)
        try:
            yield other
        finally:
            self._receive_in(self.flat)

    def zero(self) -> None:
        """Forget what has been summed."""
        self.flat.zero_()

    def norms(self) -> tuple[float, float]:
        """Sum of squares and sum of absolute values."""
        return sums(self.flat)


PIECE = 1 << 16
"""Elements summed in float32 at a time: sums of many more lose digits."""


def sums(flat: torch.Tensor) -> tuple[float, float]:
    """Sum of squares and sum of absolute values of a vector, of the pieces in float32 and over them in float64."""
    pieces = list(torch.split(flat, PIECE))
    squares = torch.stack(torch._foreach_norm(pieces)).double().square_().sum()
    absolutes = torch.stack(torch._foreach_norm(pieces, 1)).double().sum()
    return float(squares), float(absolutes)


class SumInOrder:
    """Sums the gradients of tasks in one order, whatever order the tasks are done in.

    Floating-point sums depend on the order of their terms. A node that takes tasks as their messages arrive would never
    give the same bits twice, and a resumed run not those of one that went through. A gradient that comes before its
    turn waits in a buffer of its own, which happens only where the run and its plan differ.

    Parameters
    ----------
    order
        The tasks in the order of their terms.
    """

    def __init__(self, gradients: FlatGradients, order: Sequence[Any]) -> None:
        self._gradients = gradients
        self._left = list(reversed(order))
        self._waiting: dict[Any, torch.Tensor] = {}

    @contextmanager
    def turn_of(self, task: Any) -> Iterator[None]:
        """While inside, the task's gradient is computed."""
        if not self._left or self._left[-1] == task:
            yield
            if self._left:
                self._left.pop()
        else:
            with self._gradients.aside() as buffer:
                yield
            self._waiting[task] = buffer
        while self._left and self._left[-1] in self._waiting:
            self._gradients.flat.add_(self._waiting.pop(self._left.pop()))

    def any_order(self) -> None:
        """From now on sum as gradients come: the order has become void."""
        for buffer in self._waiting.values():
            self._gradients.flat.add_(buffer)
        self._waiting.clear()
        self._left.clear()


def adamw(parameters: Mapping[str, torch.nn.Parameter], settings: RunSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only; its parameter groups hold the parameters in the given order."""
    matrices = [p for p in parameters.values() if p.dim() >= 2]
    vectors = [p for p in parameters.values() if p.dim() < 2]
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": settings.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,
    )


def apply_step(optimizer: torch.optim.Optimizer, gradients: FlatGradients, *, factor: float, rate: float) -> None:
    """Scale the gradients by `factor` (clipping), take one step with this rate, and forget the gradients."""
    if factor != 1.0:
        gradients.flat.mul_(factor)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    gradients.zero()


def clip_factor(norm: float, most: float) -> float:
    """Factor that brings a gradient of norm `norm` down to `most`; 1 where `most` is 0."""
    return most / (norm + 1e-6) if most and norm > most else 1.0


def optimizer_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]
) -> dict[str, dict[str, torch.Tensor]]:
    """State of each parameter by name; empty before the first step."""
    return {name: dict(optimizer.state[p]) for name, p in parameters.items() if optimizer.state.get(p)}


def load_optimizer_state(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, torch.nn.Parameter],
    state: Mapping[str, Mapping[str, torch.Tensor]],
) -> None:
    """Put back what `optimizer_state` gave, bit for bit; parameters without a state begin anew."""
    optimizer.state.clear()
    for name, parameter in parameters.items():
        if name in state:
            optimizer.state[parameter] = {
                key: value.clone() if key == "step" else value.to(parameter.device, copy=True)
                for key, value in state[name].items()
            }
