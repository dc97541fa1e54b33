"""Large-neighbourhood search of any problem, with CP-SAT as the repair.

A neighbourhood frees some tasks and holds the rest: their modes and presence, and, on each unary machine, their order.
Times stay free, so that what was freed can make room. Which tasks are freed: those of a time window, those of some
jobs, those on some machines, or random ones; the share grows when neighbourhoods are exhausted without gain and
shrinks when time runs out first (P. Laborie, D. Godard: "Self-adapting large neighborhood search", MISTA 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.constraint_model import ConstraintModel
from pathloom.schedule.cp_sat import cp_sat
from pathloom.schedule.incumbent import Incumbent, Translated
from pathloom.schedule.problem import Machine, Problem
from pathloom.schedule.schedule import Schedule

SLICE = 2.0
"""Most seconds for one neighbourhood."""


def general_neighbourhoods(
    problem: Problem,
    incumbent: Incumbent[Schedule] | Translated[Schedule],
    *,
    seed: int = 0,
    held: Sequence[int] = (),
    workers: int = 1,
) -> None:
    """Improve the incumbent, neighbourhood after neighbourhood, until it is finished.

    Parameters
    ----------
    incumbent
        Holds a schedule already; of the first level that is not `held`.
    """
    draw = np.random.default_rng(seed)
    share = 0.3
    while not incumbent.finished:
        known = incumbent.best()
        if known is None:
            return
        value, schedule = known
        free = _freed(problem, schedule, share, draw)

        def restrict(stated: ConstraintModel, free: NDArray[np.bool_] = free, schedule: Schedule = schedule) -> None:
            _hold(stated, schedule, ~free)

        exhausted = cp_sat(
            problem,
            incumbent,
            seed=int(draw.integers(2**31)),
            workers=workers,
            hint=schedule,
            held=held,
            seconds=SLICE,
            restrict=restrict,
            name="large neighbourhoods",
        )
        better = incumbent.value is not None and incumbent.value < value
        if exhausted and free.all():
            return
        if not better:
            share = min(1.0, share * 1.1) if exhausted else max(0.02, share * 0.85)


def _freed(problem: Problem, schedule: Schedule, share: float, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Shape (tasks,): the tasks of a neighbourhood of about `share` of all."""
    compiled = problem.compiled
    count = len(problem.tasks)
    kind = draw.integers(4)
    free = np.zeros(count, np.bool_)
    if kind == 0:
        span = max(1, int(share * max(1, schedule.makespan)))
        low = draw.integers(-span // 2, max(1, schedule.makespan))
        free |= (schedule.end > low) & (schedule.start < low + span)
        free |= ~schedule.present & (draw.random(count) < share)
    elif kind == 1 and len(problem.jobs) > 1:
        free |= (draw.random(len(problem.jobs)) < share)[compiled.job] & (compiled.job >= 0)
    elif kind == 2 and len(problem.resources) > 1:
        chosen = draw.random(len(problem.resources)) < share
        tasks = compiled.mode_task[compiled.demand_mode]
        free[tasks[chosen[compiled.demand_resource]]] = True
    else:
        free |= draw.random(count) < share
    if not free.any():
        free[draw.integers(count)] = True
    return free


def _hold(stated: ConstraintModel, schedule: Schedule, held: NDArray[np.bool_]) -> None:
    """Keep presence and mode of the held tasks, and their order on machines."""
    problem, model = stated.problem, stated.model
    order: dict[int, list[tuple[int, int, int]]] = {}
    for task in np.flatnonzero(held).tolist():
        chosen = int(schedule.mode[task])
        for position, literal in enumerate(stated.mode[task]):
            if not isinstance(literal, int):
                model.add(literal == int(position == chosen))
        if chosen < 0:
            continue
        for demand in problem.tasks[task].modes[chosen].demands:
            if isinstance(problem.resources[demand.resource], Machine):
                times = (int(schedule.start[task]), int(schedule.departure[task]), task)
                order.setdefault(demand.resource, []).append(times)
    for tasks in order.values():
        for (_, _, first), (_, _, second) in pairwise(sorted(tasks)):
            model.add(stated.start[second] >= stated.departure[first])
