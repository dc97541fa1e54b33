"""Split a backward pass into its input part and its weight part.

Zero bubble pipelines (Qi, Wan, Huang, Lin, "Zero Bubble Pipeline Parallelism", 2024, section 2) send the gradient of a
stage's input upstream first and fill idle time with the gradients of its weights. The linear layers of `decoder`, told
to (`DecoderPart.split_backward`), leave their weight gradients to the `DeferredWeightGradients` that is active while
the backward pass runs; without one they compute both, as PyTorch does.

Departures: only matrices are deferred. The gradients of norm weights, of the embedding and of a tied head come with the
input part: they are a vanishing share of the work, and a tied head would otherwise add to the embedding's gradient in
another order than an ordinary backward pass does.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The stores of the `with` blocks that are open, innermost last. A plain list, for CUDA runs backward functions on a
# thread of its own, which sees neither thread-local nor context variables of the caller.
_active: list[DeferredWeightGradients] = []


class DeferredWeightGradients:
    """Holds what the weight gradients of one backward pass need, until they are computed or dropped.

    ::

        store = DeferredWeightGradients()
        with store:
            torch.autograd.backward(output, output_gradient)    # input part
        ...
        store.compute()                                         # weight part

    The sum in ``.grad`` is the same, bit for bit, as after an ordinary backward pass in the place of `compute`, for the
    same products are formed and added in the same order (passes that share a store: in the order they ran). Until
    `compute` or `discard`, the inputs and output gradients of the linear layers stay in memory (`bytes`). One backward
    pass at a time may run in a process.

    Parameters
    ----------
    count
        False for a backward pass that is repeated only for the gradient of its input (a lost node's work done again
        downstream of a stage that has already counted it): no parameter's ``.grad`` changes at all, norms and
        embedding included, and nothing is kept.
    """

    def __init__(self, *, count: bool = True) -> None:
        self.count = count
        self._pending: list[tuple[nn.Parameter, Tensor, Tensor]] = []

    def __enter__(self) -> DeferredWeightGradients:
        _active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _active.remove(self)

    def __len__(self) -> int:
        """Number of matrices whose gradient is outstanding."""
        return len(self._pending)

    @property
    def bytes(self) -> int:
        """Memory of the inputs and output gradients that are kept; a tensor that several layers share counts once."""
        kept = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for _, *ts in self._pending for t in ts}
        return sum(kept.values())

    def keep(self, weight: nn.Parameter, x: Tensor, gradient: Tensor) -> None:
        """Leave the gradient of a linear layer's `weight` for later; `x` (n, in), `gradient` (n, out)."""
        if self.count:
            self._pending.append((weight, x, gradient))

    @torch.no_grad()
    def compute(self) -> None:
        """Add the outstanding gradients to ``.grad``, in place where one exists, and forget what they needed."""
        pending, self._pending = self._pending, []
        pending.reverse()  # popped from the end, so that each layer's tensors are freed as soon as it is done
        while pending:
            weight, x, gradient = pending.pop()
            product = _weight_gradient(x, gradient).to(weight.dtype)
            if weight.grad is None:
                weight.grad = product
            else:
                weight.grad.add_(product)

    def discard(self) -> None:
        """Drop the outstanding gradients. What the input part has already added (norms, embedding) stays."""
        self._pending.clear()


def _weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    # The expression that autograd evaluates for F.linear without bias; another one may round differently.
    return gradient.t().mm(x)


class _SplitLinear(torch.autograd.Function):
    """x (..., in) times the transpose of weight (out, in)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: nn.Parameter) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        rows = x.reshape(-1, x.shape[-1])
        for_x = gradient.mm(weight.to(x.dtype)).view(x.shape) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return for_x, None
        if _active:
            # Detached, for a plain view would keep the graph of the forward pass alive
            _active[-1].keep(weight, x.detach().reshape(rows.shape), gradient)
            return for_x, None
        return for_x, _weight_gradient(rows, gradient).to(weight.dtype)


class _CountedWeight(torch.autograd.Function):
    """The weight itself; its gradient vanishes in a backward pass that does not count."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor | None:
        return None if _active and not _active[-1].count else gradient


def counted(weight: Tensor) -> Tensor:
    """`weight`, for a layer that is not deferred but must heed ``DeferredWeightGradients(count=False)``."""
    return _CountedWeight.apply(weight)  # type: ignore[no-untyped-call]


class SplitLinear(nn.Linear):
    """A linear layer without bias, uninitialised, whose backward pass can be split.

    With `split_backward` False (the default) it is `torch.nn.functional.linear`; True lets backward passes of later
    forwards leave the weight gradient to a `DeferredWeightGradients`.
    """

    split_backward = False

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Leave the weights as they are: the decoder sets them, and the global random state is not its to use."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        if not self.split_backward:
            return F.linear(x, self.weight)
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        return _SplitLinear.apply(x, self.weight)  # type: ignore[no-untyped-call]
