"""The schedules that a budget sweep compares: our plans, torch's own schedulers, and schedule-free learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pathloom.learn.rates.plan import plan_named
from pathloom.learn.rates.profile import Array

MOMENTUM = 0.9
"""Momentum of "sgdm" and first beta of "adamw" where a schedule does not cycle it."""


@dataclass(frozen=True)
class Curve:
    """Factor on the base rate, and momentum (first beta of Adam), at every step; both of shape (steps,)."""

    factors: Array
    momenta: Array


@dataclass(frozen=True)
class Schedule:
    """A schedule under comparison.

    Attributes
    ----------
    name
        What tables call it.
    curve
        From the number of steps and the optimiser ("sgdm", "adamw") to its curve.
    schedule_free
        Whether it runs the schedule-free form of the optimiser.
    rate_scale
        Factor on the grid of rates for an optimiser, where a method asks for another range.
    plan
        Name and options of `plan_named` for the same factors, with the warm-up as a share of the steps under
        "warmup_share"; None where no plan of this package does the same.
    """

    name: str
    curve: Callable[[int, str], Curve]
    schedule_free: bool = False
    rate_scale: Mapping[str, float] = field(default_factory=dict)
    plan: tuple[str, Mapping[str, Any]] | None = None


def plan_options(options: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Options for `plan_named` over `steps` steps: a "warmup_share" becomes a number of steps."""
    ready = dict(options)
    share = ready.pop("warmup_share", 0.0)
    if share:
        ready["warmup"] = round(share * steps)
    return ready


def planned(name: str, profile: str | None = None, **options: Any) -> Schedule:
    """A plan of this package (`plan_named`), called `name` in the table; `warmup_share` is a share of the steps."""
    profile = profile or name

    def curve(steps: int, optimizer: str) -> Curve:
        return Curve(plan_named(profile, steps, **plan_options(options, steps)).factors(), np.full(steps, MOMENTUM))

    return Schedule(name, curve, plan=(profile, options))


def of_torch(
    name: str, build: Callable[[Any, int], Any], plan: tuple[str, Mapping[str, Any]] | None = None
) -> Schedule:
    """A scheduler of torch: its factors and momenta are read off an optimiser with base rate 1 that it drives.

    Parameters
    ----------
    build
        From an optimiser and the number of steps to the scheduler.
    plan
        Our plan of the same factors, if there is one.
    """

    def curve(steps: int, optimizer: str) -> Curve:
        import torch

        weight = torch.zeros(1, requires_grad=True)
        driven: torch.optim.Optimizer
        if optimizer == "sgdm":
            driven = torch.optim.SGD([weight], lr=1.0, momentum=MOMENTUM)
        else:
            driven = torch.optim.AdamW([weight], lr=1.0, betas=(MOMENTUM, 0.999))
        scheduler = build(driven, steps)
        factors, momenta = np.empty(steps), np.empty(steps)
        for step in range(steps):
            group = driven.param_groups[0]
            factors[step] = group["lr"]
            momenta[step] = group["momentum"] if optimizer == "sgdm" else group["betas"][0]
            driven.step()
            if step + 1 < steps:  # a one-cycle refuses to be stepped beyond its end
                scheduler.step()
        return Curve(factors, momenta)

    return Schedule(name, curve, plan=plan)


def without_schedule(name: str, warmup_share: float, rate_scale: Mapping[str, float]) -> Schedule:
    """Schedule-free learning: constant after a linear warm-up that reaches the full rate in its last step."""

    def curve(steps: int, optimizer: str) -> Curve:
        warmup = max(1, round(warmup_share * steps))
        return Curve(np.minimum((np.arange(steps) + 1.0) / warmup, 1.0), np.full(steps, MOMENTUM))

    return Schedule(name, curve, schedule_free=True, rate_scale=rate_scale)


def default_schedules() -> list[Schedule]:
    """The schedules of the committed table.

    Ours: constant, linear, REX (every step, no warm-up), WSD (5 % warm-up, linear tail of 20 %). Torch's, with its
    defaults: CosineAnnealingLR, MultiStepLR (a tenth at 50 and 75 %; at 30, 60 and 90 %), OneCycleLR (peak at 30 %,
    momentum or first beta cycled between 0.95 and 0.85). Schedule-free with 5 % warm-up and ten times the rates of SGD
    with momentum, the range that its authors advise; for AdamW they advise 1 to 10 times, and a pilot found 1.
    """

    def torch_cosine(optimizer: Any, steps: int) -> Any:
        from torch.optim.lr_scheduler import CosineAnnealingLR

        return CosineAnnealingLR(optimizer, T_max=steps)

    def torch_steps(shares: tuple[float, ...]) -> Callable[[Any, int], Any]:
        def build(optimizer: Any, steps: int) -> Any:
            from torch.optim.lr_scheduler import MultiStepLR

            return MultiStepLR(optimizer, milestones=[round(share * steps) for share in shares], gamma=0.1)

        return build

    def torch_one_cycle(optimizer: Any, steps: int) -> Any:
        from torch.optim.lr_scheduler import OneCycleLR

        return OneCycleLR(optimizer, max_lr=1.0, total_steps=steps)

    return [
        planned("constant"),
        planned("linear"),
        planned("rex"),
        planned("wsd", decay=0.2, warmup_share=0.05),
        of_torch("torch cosine", torch_cosine, ("cosine", {})),
        of_torch("torch multi-step 50-75", torch_steps((0.5, 0.75)), ("step", {"milestones": [0.5, 0.75]})),
        of_torch("torch multi-step 30-60-90", torch_steps((0.3, 0.6, 0.9)), ("step", {"milestones": [0.3, 0.6, 0.9]})),
        of_torch("torch one-cycle", torch_one_cycle),
        without_schedule("schedule-free", 0.05, {"sgdm": 10.0, "adamw": 1.0}),
    ]
