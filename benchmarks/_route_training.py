"""Training a small language model along routes of stages, and what it is then worth: whole, and with stages missing.

`Alone` computes what the distributed runtime computes, one microbatch after another. `Together` computes the same sums
with the microbatches that are at the same stage in one batch, which a small model on one core needs to get anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathloom.data.token_files import TokenData
from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder import Decoder
from pathloom.learn.language_model.evaluation import Evaluation, Removal, removal_curve
from pathloom.learn.rates.plan import plan_named
from pathloom.worlds.train.runtime.alone import Alone
from pathloom.worlds.train.runtime.settings import RunSettings

Orders = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Size:
    """Model, data and optimizer of all runs.

    Attributes
    ----------
    stages
        Of one layer each.
    dim, heads, ffn_dim, context
        As in `LanguageModelConfig`.
    samples
        Windows of `context` bytes in a microbatch.
    steps, warmup_share, schedule, learning_rate, weight_decay
        Optimizer steps of a full run, the share of a run's own steps that warms up, and what all runs have alike.
    points
        Measurements of the validation loss along a run, its end included.
    blocks, block_windows
        Validation text on which losses are taken: evenly spread blocks of so many windows.
    """

    stages: int = 6
    dim: int = 96
    heads: int = 4
    ffn_dim: int = 256
    context: int = 64
    samples: int = 1
    steps: int = 300
    warmup_share: float = 0.05
    schedule: str = "linear"
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    points: int = 10
    blocks: int = 24
    block_windows: int = 8

    @property
    def config(self) -> LanguageModelConfig:
        """The model; a vocabulary of bytes."""
        return LanguageModelConfig(
            dim=self.dim, layers=self.stages, heads=self.heads, kv_heads=self.heads, ffn_dim=self.ffn_dim,
            context=self.context, vocab=256,
        )  # fmt: skip


class Together(Alone):
    """`Alone` with the microbatches that visit the same stage at the same place of their routes in one batch."""

    def accumulate(self, windows: int, orders: Orders, share: float) -> list[float]:
        """As in `Alone`: the same losses and gradients but for rounding. Routes must be equally long."""
        batches, model = self.batches["train"], self.model
        pairs = [batches.microbatch(windows + b * batches.samples) for b in range(len(orders))]
        hidden = model.first.embed(torch.cat([tokens for tokens, _ in pairs]))
        for at in np.array(orders).T:
            hidden = _visit(model, hidden, np.repeat(at, batches.samples))
        targets = torch.cat([following for _, following in pairs])
        losses = model.first.loss(hidden, targets, reduction="none").view(len(orders), -1).mean(1)
        (losses.sum() * share).backward()  # type: ignore[no-untyped-call]
        return [float(loss) for loss in losses.detach()]


def _visit(model: Decoder, hidden: Tensor, stage_of_row: np.ndarray) -> Tensor:
    """Each row of `hidden` through its own stage."""
    stages = np.unique(stage_of_row)
    if len(stages) == 1:
        return model.stages[int(stages[0])](hidden)  # type: ignore[no-any-return]
    rows = [np.flatnonzero(stage_of_row == stage) for stage in stages]
    parts = [model.stages[int(stage)](hidden[torch.from_numpy(row)]) for stage, row in zip(stages, rows)]
    return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(rows)))]


def ascending(stages: int, length: int, rng: np.random.Generator) -> list[int]:
    """Stage 0 and `length` - 1 others drawn at random, in order of the model."""
    return [0, *sorted(int(s) for s in rng.choice(np.arange(1, stages), length - 1, replace=False))]


def evaluation_blocks(data: TokenData, size: Size) -> list[np.ndarray]:
    """Evenly spread pieces of the validation text, the same for every run."""
    tokens = data.split("validation")
    length = size.block_windows * size.context + 1
    starts = np.linspace(0, len(tokens) - length, size.blocks).astype(np.int64)
    return [np.asarray(tokens[start : start + length], np.int64) for start in starts]


def curve_over(model: Decoder, blocks: Sequence[np.ndarray], most: int) -> list[Removal]:
    """Losses with 0 to `most` stages removed, all sets of them, each over all blocks (which are equally long)."""
    each = [removal_curve(model, block, most=most, sets=None) for block in blocks]
    merged = []
    for rows in zip(*each, strict=True):
        losses = np.mean([row.losses for row in rows], axis=0)
        tokens = sum(row.evaluations[0].tokens for row in rows)
        evaluations = tuple(
            Evaluation(e.order, float(loss), tokens) for e, loss in zip(rows[0].evaluations, losses, strict=True)
        )
        merged.append(Removal(rows[0].removed, rows[0].sets, evaluations, rows[0].complete))
    return merged


@torch.no_grad()
def weight_stages(model: Decoder, shares: Sequence[float]) -> None:
    """Weight what each stage adds by the share of microbatches that it was trained on, in place.

    Training with skips, a stage finds the contributions of some of the others before it; with all of them in place it
    finds more than it is used to. Weighting each by the probability of its visit gives it their mean (stochastic depth:
    G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Weinberger, 2016, section 3). The factor goes into the matrices that end a
    layer's two branches, so the model remains an ordinary one.

    Parameters
    ----------
    shares
        One a stage, from 0 to 1.
    """
    for stage, share in zip(model.stages, shares, strict=True):
        for name, parameter in stage.named_parameters():
            if name.endswith(("self_attn.o_proj.weight", "mlp.down_proj.weight")):
                parameter.mul_(share)


@dataclass(frozen=True)
class Trained:
    """One finished run.

    Attributes
    ----------
    points
        Steps done and validation loss of the whole model in order, nats a byte, along the run.
    curve
        What removing stages does to the final model, as `Removal.to_dict` gives it.
    """

    steps: int
    tokens: int
    points: list[tuple[int, float]]
    training: float
    curve: list[dict[str, Any]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def train(
    size: Size,
    data: TokenData,
    seed: int,
    steps: int,
    orders_of: Callable[[int], Orders],
    on_point: Callable[[int, float], None] | None = None,
) -> tuple[Trained, Decoder]:
    """Train along ``orders_of(step)``, one order of stages a microbatch, with a schedule over this run's own steps."""
    began = time.process_time()
    settings = RunSettings(
        data=str(data.folder), steps=steps, seed=seed, learning_rate=size.learning_rate, schedule=size.schedule,
        weight_decay=size.weight_decay,
    )  # fmt: skip
    rates = plan_named(size.schedule, steps, warmup=round(size.warmup_share * steps))
    run = Together(size.config, [1] * size.stages, size.samples, data, settings)
    blocks = evaluation_blocks(data, size)
    measured = set(np.linspace(0, steps, size.points + 1).round().astype(int).tolist()[1:])
    points: list[tuple[int, float]] = []
    losses: list[float] = []
    windows = 0
    for step in range(steps):
        orders = orders_of(step)
        loss, _ = run.step(windows, orders, size.learning_rate * rates.factor(step))
        losses.append(loss)
        windows += len(orders) * size.samples
        if step + 1 in measured:
            found = curve_over(run.model, blocks, 0)[0].mean_loss
            points.append((step + 1, found))
            if on_point is not None:
                on_point(step + 1, found)
    curve = [row.to_dict() for row in curve_over(run.model, blocks, size.stages - 1)]
    last = float(np.mean(losses[-max(1, steps // 20) :]))
    return Trained(steps, windows * size.context, points, last, curve, round(time.process_time() - began, 1)), run.model
