"""What a machine's compute profile says: seconds of each piece of a microbatch's work, and the input file's ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated measurements: their median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Median and quartiles of `seconds`, at least one."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0])
        low, middle, high = quantiles(seconds, n=4, method="inclusive")
        return cls(middle, low, high)

    def to_dict(self) -> dict[str, float]:
        """Plain figures."""
        return {"median": self.median, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class ComputeProfile:
    """Seconds that one microbatch takes on this machine, piece by piece.

    Attributes
    ----------
    samples, context
        Samples of the microbatch and tokens of each.
    forward
        Forward pass of one decoder layer.
    backward
        Its backward pass in one go.
    input_part, weight_part
        Its backward pass in two goes: gradient of the input, then gradients of the weights.
    embed, embed_backward
        Looking up the embeddings, and adding their gradient.
    loss
        Last norm, head and cross entropy, forward and backward.
    device, threads, precision, repeats
        Where and how it was measured.
    """

    samples: int
    context: int
    forward: Timing
    backward: Timing
    input_part: Timing
    weight_part: Timing
    embed: Timing
    embed_backward: Timing
    loss: Timing
    device: str
    threads: int
    precision: str
    repeats: int

    @property
    def speed(self) -> float:
        """Seconds of the forward pass per layer and sample: a node's ``speed``."""
        return self.forward.median / self.samples

    @property
    def backward_ratio(self) -> float:
        """Backward pass in forward passes: ``times.backward``."""
        return self.backward.median / self.forward.median

    @property
    def weight_share(self) -> float:
        """Share of the weight gradients in the backward pass: ``times.weight``."""
        return self.weight_part.median / (self.input_part.median + self.weight_part.median)

    def loss_ratio(self, stage_layers: int) -> float:
        """Loss in forward passes through a stage 0 of that many layers: ``times.loss``.

        The embedding is not part of it: it belongs to stage 0's own passes, whose model counts layers alone.
        """
        return self.loss.median / (self.forward.median * stage_layers)

    def timings(self) -> dict[str, Timing]:
        """Every measured piece by its name for people."""
        return {
            "layer, forward": self.forward,
            "layer, backward": self.backward,
            "layer, backward, input part": self.input_part,
            "layer, backward, weight part": self.weight_part,
            "embedding, forward": self.embed,
            "embedding, backward": self.embed_backward,
            "norm, head and loss, both ways": self.loss,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain figures, in seconds."""
        return {
            "samples": self.samples,
            "context": self.context,
            "device": self.device,
            "threads": self.threads,
            "precision": self.precision,
            "repeats": self.repeats,
            "forward": self.forward.to_dict(),
            "backward": self.backward.to_dict(),
            "input_part": self.input_part.to_dict(),
            "weight_part": self.weight_part.to_dict(),
            "embed": self.embed.to_dict(),
            "embed_backward": self.embed_backward.to_dict(),
            "loss": self.loss.to_dict(),
            "speed": self.speed,
            "backward_ratio": self.backward_ratio,
            "weight_share": self.weight_share,
        }
