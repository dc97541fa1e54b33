"""Timing the pieces of a microbatch's work: a stack of decoder layers, the embedding, and the head with the loss."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder import DecoderPart
from pathloom.learn.language_model.weight_gradients import DeferredWeightGradients

STACK = 2
"""Layers that are timed together. One alone would find its own weights in the cache every time, as in no training."""

PER_LAYER = ("forward", "backward", "input_part", "weight_part")
PIECES = (*PER_LAYER, "embed", "embed_backward", "loss")

Done = TypeVar("Done")


class MicrobatchTimer:
    """The pieces of one microbatch, ready to be timed on a device.

    Parameters
    ----------
    config
        The model, of which a few layers, the embedding and the head are built.
    samples, context
        Samples of the microbatch and tokens of each.
    device
        Where to.
    autocast
        Whether matrix products are in bfloat16.
    """

    def __init__(
        self, config: LanguageModelConfig, *, samples: int, context: int, device: torch.device, autocast: bool
    ) -> None:
        self.device = device
        self.stack = DecoderPart(config, range(min(STACK, config.layers))).to(device)
        self.ends = DecoderPart(config, (), embedding=True, head=True).to(device)
        random = torch.Generator().manual_seed(0)
        self.hidden = torch.randn(samples, context, config.dim, generator=random).to(device)
        self.gradient = torch.randn(samples, context, config.dim, generator=random).to(device) / (samples * context)
        self.tokens = torch.randint(config.vocab, (samples, context), generator=random).to(device)
        self.targets = torch.randint(config.vocab, (samples, context), generator=random).to(device)
        self._autocast = partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=autocast)

    def round(self) -> dict[str, float]:
        """Seconds of every piece in `PIECES`, each done once; those of `PER_LAYER` are of one layer."""
        seconds: dict[str, float] = {}
        store = DeferredWeightGradients()
        whole = self._timed(seconds, "forward", partial(self._forward, split=False))
        self._timed(seconds, "backward", partial(self._backward, whole))
        halves = self._forward(split=True)
        with store:
            self._timed(seconds, "input_part", partial(self._backward, halves))
        self._timed(seconds, "weight_part", store.compute)
        looked_up = self._timed(seconds, "embed", partial(self.ends.embed, self.tokens))
        self._timed(seconds, "embed_backward", partial(self._backward, looked_up))
        self._timed(seconds, "loss", self._loss)
        return {
            piece: taken / (len(self.stack.layers) if piece in PER_LAYER else 1) for piece, taken in seconds.items()
        }

    def _timed(self, seconds: dict[str, float], piece: str, work: Callable[[], Done]) -> Done:
        self._wait()
        began = time.perf_counter()
        done = work()
        self._wait()
        seconds[piece] = time.perf_counter() - began
        return done

    def _wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _forward(self, *, split: bool) -> Tensor:
        self.stack.split_backward = split
        with self._autocast():
            return self.stack(self.hidden.detach().requires_grad_())

    def _backward(self, output: Tensor) -> None:
        torch.autograd.backward(output, self.gradient.to(output.dtype))

    def _loss(self) -> None:
        with self._autocast():
            loss = self.ends.loss(self.hidden.detach().requires_grad_(), self.targets)
        loss.backward()  # type: ignore[no-untyped-call]
