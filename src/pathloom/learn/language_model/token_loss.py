"""Cross entropy of next tokens in float32, without whole float32 copies of half-precision logits.

Logits in bfloat16 or float16, made float32 as precision asks, cost PyTorch's cross entropy matrices of (tokens, vocab)
in float32 beside them: the copy, its log-softmax, the gradient. Here float32 values exist for a slice of the tokens at
a time; between the passes only the logits and one normaliser a token are kept. For float32 logits PyTorch's own is
used: it needs no more memory and is faster on CPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100

# Logits turned to float32 at a time (32 MiB)
_SLICE = 2**23


def token_cross_entropy(logits: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
    """Cross entropy in nats, in float32 whatever the type of the logits.

    Parameters
    ----------
    logits
        (..., vocab).
    targets
        (...) int64 token ids; -100 is left out.
    reduction
        "mean" over the tokens that count (nan where none does), "sum", or "none" for a loss of shape (...), 0 where
        left out.

    Raises
    ------
    ValueError
        For another reduction.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction: expected "mean", "sum" or "none", found {reduction!r}')
    flat = targets.reshape(-1)
    if logits.dtype == torch.float32:
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), flat, ignore_index=IGNORED, reduction=reduction)
        return loss.view(targets.shape) if reduction == "none" else loss
    losses = _TokenCrossEntropy.apply(logits.reshape(-1, logits.shape[-1]), flat)  # type: ignore[no-untyped-call]
    if reduction == "none":
        return losses.view(targets.shape)
    total = losses.sum()
    return total if reduction == "sum" else total / (flat != IGNORED).sum()


class _TokenCrossEntropy(torch.autograd.Function):
    """logits (n, vocab), targets (n,) -> losses (n,) float32."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        index = targets.clamp(min=0)[:, None]
        normalisers = torch.empty(len(logits), 1, dtype=torch.float32, device=logits.device)
        for rows in _slices(logits):
            torch.logsumexp(logits[rows].float(), -1, keepdim=True, out=normalisers[rows])
        losses = (normalisers - logits.gather(1, index)).squeeze(1)
        ctx.save_for_backward(logits, targets, normalisers)
        return losses.masked_fill_(targets == IGNORED, 0.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets, normalisers = ctx.saved_tensors
        scale = gradient.masked_fill(targets == IGNORED, 0.0)[:, None]
        index = targets.clamp(min=0)[:, None]
        for_logits = torch.empty_like(logits)
        for rows in _slices(logits):
            # softmax minus the target's one
            probability = logits[rows].float().sub(normalisers[rows]).exp_().mul_(scale[rows])
            for_logits[rows] = probability.scatter_add_(1, index[rows], -scale[rows])
        return for_logits, None


def _slices(logits: Tensor) -> Iterator[slice]:
    step = max(1, _SLICE // logits.shape[1])
    return (slice(start, start + step) for start in range(0, len(logits), step))
