"""The learned dispatcher as a method of the shop world."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from pathloom.plan import InputError, NoPlanFound, OnProgress, Plan, Progress, stop_requested
from pathloom.schedule.flexible_shop_bounds import flexible_shop_bound
from pathloom.schedule.incumbent import Improvement
from pathloom.schedule.job_shop_bounds import job_shop_bound
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import recognised_shape
from pathloom.schedule.shops import FlexibleShop, JobShop
from pathloom.schedule.solve import Result
from pathloom.worlds.shop.methods import plan_of

if TYPE_CHECKING:
    from pathloom.learn.dispatching.lessons import ProblemKind

SAMPLES = 32


def learned(problem: Problem, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """The best of 32 passes of the dispatcher that was trained with CP-SAT as its teacher (job and flexible shops)."""
    began = time.monotonic()
    shape = recognised_shape(problem)
    view = shape.view if shape is not None else None
    if shape is None or not isinstance(view, JobShop | FlexibleShop):
        raise NoPlanFound("the learned dispatcher knows job shops and flexible job shops only")
    if isinstance(view, JobShop) and (view.blocking or view.no_wait):
        raise NoPlanFound("the learned dispatcher knows shops with room for waiting jobs only")
    try:
        from pathloom.learn.dispatching.card import shipped_policy
        from pathloom.learn.dispatching.inference import best_of
    except ModuleNotFoundError as error:
        raise InputError("needs the extra 'train': pip install 'pathloom[train]'", key=error.name) from None

    flexible = isinstance(view, FlexibleShop)
    policy = shipped_policy("flexible-shop" if flexible else "job-shop")
    bound, by = flexible_shop_bound(view) if isinstance(view, FlexibleShop) else job_shop_bound(view)

    def stop() -> bool:
        return stop_requested() or time.monotonic() - began > time_limit

    found = best_of(policy, view, SAMPLES, seed=seed, stop=stop)
    if found is None:
        raise NoPlanFound("the time limit ended the passes first")
    if on_progress is not None:
        on_progress(Progress(time.monotonic() - began, float(found.makespan), float(bound), "learned"))
    solution = (found.alternative.astype(np.int32), found.start) if flexible else found.start
    schedule = shape.schedule(solution)
    seconds = time.monotonic() - began
    history = (Improvement(seconds, found.makespan, bound, "learned"),)
    result = Result(schedule, (schedule.makespan,), bound, by, "learned", shape.name, seconds, history)
    return plan_of(problem, result, "learned", time_limit, seed)


def train(
    out: Path,
    *,
    seconds: float = 1800.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    problem: str = "job-shop",
) -> Path:
    """Dispatcher of job shops (with problem=flexible-shop: of flexible ones): CP-SAT teaches it on generated shops.

    See `pathloom.learn.dispatching.trainer.train`.
    """
    from pathloom.learn.dispatching.trainer import train as train_dispatcher

    # An unknown kind is refused by the trainer.
    kind = cast("ProblemKind", problem)
    return train_dispatcher(out, seconds=seconds, seed=seed, on_progress=on_progress, problem=kind)
