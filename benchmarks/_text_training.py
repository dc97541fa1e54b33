"""One short training run of a small character transformer on TinyShakespeare, under one learning-rate schedule.

The schedules of torch and of the package `schedulefree` are the real ones, driven as their documentation says. Batches
and initial weights depend on the seed only, so that two schedules see the same text.
"""

from __future__ import annotations

import gzip
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pathloom.data import find
from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder import Decoder
from pathloom.learn.rates.plan import RatePlan, plan_named
from pathloom.learn.rates.profile import Profile
from pathloom.learn.rates.torch_scheduler import RateScheduler

LINEAR = "linear"
OURS = {LINEAR: "linear", "WSD": "wsd", "REX": "rex", "constant": "constant"}
TORCH_COSINE, TORCH_ONE_CYCLE, SCHEDULE_FREE = "torch CosineAnnealingLR", "torch OneCycleLR", "schedulefree AdamW"
REFINED, REFINED_ALONE, LINEAR_ALONE = "refined", "refined, its own warm-up", "linear, no warm-up"
TAKES_PROFILE = (REFINED, REFINED_ALONE)
WITHOUT_WARMUP = (REFINED_ALONE, LINEAR_ALONE)


@dataclass(frozen=True)
class Size:
    """Model and training of all runs.

    Attributes
    ----------
    dim, layers, heads, ffn_dim, context
        As in `LanguageModelConfig`.
    batch
        Windows of `context` characters a step.
    steps, warmup
        Optimizer steps, and how many of them are the linear warm-up that all schedules have.
    weight_decay, betas
        Of AdamW.
    validation_windows
        Windows, evenly spread over the validation text, on which the last iterate is judged.
    """

    dim: int = 128
    layers: int = 2
    heads: int = 4
    ffn_dim: int = 256
    context: int = 64
    batch: int = 4
    steps: int = 1000
    warmup: int = 50
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    validation_windows: int = 580


@dataclass(frozen=True)
class Text:
    """Characters as ids: the first 90 % to train on, the rest to validate."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    vocab: int


def shakespeare() -> Text:
    """TinyShakespeare, one id for each different character.

    Raises
    ------
    InputError
        If the data set "text" is nowhere to be found.
    """
    with gzip.open(find("text") / "tinyshakespeare.txt.gz") as stream:
        raw = np.frombuffer(stream.read(), dtype=np.uint8)
    letters, ids = np.unique(raw, return_inverse=True)
    cut = int(0.9 * len(ids))
    return Text(ids[:cut].astype(np.int64), ids[cut:].astype(np.int64), len(letters))


def train(
    text: Text, size: Size, schedule: str, rate: float, seed: int, profile: Profile | None = None
) -> dict[str, Any]:
    """Train one model.

    Parameters
    ----------
    schedule
        A key of `OURS`, or one of the names above.
    rate
        Base rate: the largest one of the run.
    profile
        What "refined" runs with.

    Returns
    -------
    dict
        "validation" loss of the last iterate (nats a character; None if it is no number), "training" loss (mean of the
        last tenth of the steps), "norms" (of linear runs: l1 norm of each step's gradient over all parameters, before
        the step), "seconds" of processor time.
    """
    began = time.process_time()
    model = model_of(text, size, seed)
    optimizer, scheduler = driven(model, size, schedule, rate, profile)
    parameters = list(model.parameters())
    rng = np.random.default_rng([seed, 3])
    losses, norms = [], []
    for step in range(size.steps):
        windows = _windows(text.train, rng.integers(0, len(text.train) - size.context, size.batch), size.context)
        loss = model.loss(windows[:, :-1], windows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        if schedule == LINEAR:
            norms.append(l1_norm([p.grad for p in parameters if p.grad is not None]))
        losses.append(loss.item())
        optimizer.step()
        if scheduler is not None and step + 1 < size.steps:
            scheduler.step()
    if schedule == SCHEDULE_FREE:
        optimizer.eval()  # puts the averaged weights in place
    validation = validation_loss(model, text, size)
    return {
        "validation": validation if np.isfinite(validation) else None,
        "training": float(np.mean(losses[-max(1, size.steps // 10) :])) if np.isfinite(losses).all() else None,
        "norms": [float(f"{norm:.6g}") for norm in norms] if np.isfinite(norms).all() else [],
        "seconds": round(time.process_time() - began, 2),
    }


def model_of(text: Text, size: Size, seed: int) -> Decoder:
    """The model of a seed before its first step."""
    shape = {key: value for key, value in asdict(size).items() if key in ("dim", "layers", "heads", "ffn_dim")}
    config = LanguageModelConfig(**shape, kv_heads=size.heads, context=size.context, vocab=text.vocab)
    return Decoder(config, seed=seed)


def driven(model: Decoder, size: Size, schedule: str, rate: float, profile: Profile | None) -> tuple[Any, Any]:
    """Optimizer, and its scheduler (None where the optimizer needs none)."""
    common: dict[str, Any] = {"lr": rate, "betas": size.betas, "weight_decay": size.weight_decay}
    if schedule == SCHEDULE_FREE:
        from schedulefree import AdamWScheduleFree

        free = AdamWScheduleFree(model.parameters(), warmup_steps=size.warmup, **common)
        free.train()
        return free, None
    optimizer = torch.optim.AdamW(model.parameters(), fused=True, **common)
    return optimizer, scheduler_of(optimizer, size, schedule, rate, profile)


def scheduler_of(
    optimizer: torch.optim.Optimizer, size: Size, schedule: str, rate: float, profile: Profile | None
) -> torch.optim.lr_scheduler.LRScheduler:
    """The scheduler of that name on an optimizer with base rate `rate`."""
    schedulers = torch.optim.lr_scheduler
    if schedule == TORCH_COSINE:
        # LinearLR cannot start at zero, so all warm-ups start at one step's share
        warm = schedulers.LinearLR(optimizer, 1 / size.warmup, total_iters=size.warmup)
        cosine = schedulers.CosineAnnealingLR(optimizer, size.steps - size.warmup)
        return schedulers.SequentialLR(optimizer, [warm, cosine], [size.warmup])
    if schedule == TORCH_ONE_CYCLE:
        return schedulers.OneCycleLR(optimizer, rate, total_steps=size.steps)
    warmup = 0 if schedule in WITHOUT_WARMUP else size.warmup
    start = 1 / size.warmup if warmup else 0.0
    if schedule in TAKES_PROFILE:
        if profile is None:
            raise ValueError(f"profile: '{schedule}' needs one")
        return RateScheduler(optimizer, RatePlan(profile, size.steps, warmup=warmup, warmup_start=start))
    name = OURS[LINEAR if schedule == LINEAR_ALONE else schedule]
    return RateScheduler(optimizer, plan_named(name, size.steps, warmup=warmup, warmup_start=start))


def l1_norm(gradients: list[Tensor]) -> float:
    """Sum of the absolute values of all entries of all tensors."""
    return float(torch.stack(torch._foreach_norm(gradients, 1)).sum())


@torch.no_grad()
def validation_loss(model: Decoder, text: Text, size: Size) -> float:
    """Mean loss on the validation windows, nats a character."""
    starts = np.linspace(0, len(text.validation) - size.context - 1, size.validation_windows).astype(np.int64)
    total = 0.0
    for part in np.array_split(starts, -(-len(starts) // 32)):
        windows = _windows(text.validation, part, size.context)
        total += model.loss(windows[:, :-1], windows[:, 1:]).item() * len(part)
    return total / len(starts)


def _windows(ids: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], context: int) -> Tensor:
    return torch.from_numpy(ids[starts[:, None] + np.arange(context + 1)])
