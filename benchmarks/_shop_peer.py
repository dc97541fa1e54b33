"""CP-SAT through PyJobShop on the problems of this project: the peer of the scheduling benchmarks.

What PyJobShop returns becomes a `Schedule` that our checker judges. Blocking is stated as its own documentation
does: tasks may idle, and one ends exactly when the next one of its job starts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from pathloom.schedule.check import check_schedule
from pathloom.schedule.problem import Consumable, Machine, Problem
from pathloom.schedule.schedule import Schedule


@dataclass(frozen=True)
class Found:
    """Makespan and bound that a method ended with (None: nothing found), and its wall time."""

    value: int | None
    bound: float | None
    seconds: float


def stated(problem: Problem) -> Any:
    """The problem as a PyJobShop model."""
    from pyjobshop import Model

    model = Model()
    resources = []
    for resource in problem.resources:
        if isinstance(resource, Machine):
            resources.append(model.add_machine())
        elif isinstance(resource, Consumable):
            resources.append(model.add_consumable(resource.capacity))
        else:
            resources.append(model.add_renewable(resource.capacity))
    blocked = {link.first for link in problem.precedences if link.blocking}
    tasks = [
        model.add_task(earliest_start=int(earliest), allow_idle=number in blocked)
        for number, earliest in enumerate(problem.compiled.earliest_start)
    ]
    for task, made in zip(problem.tasks, tasks, strict=True):
        for mode in task.modes:
            used = [resources[demand.resource] for demand in mode.demands]
            amounts = [
                0 if isinstance(problem.resources[demand.resource], Machine) else demand.amount
                for demand in mode.demands
            ]
            model.add_mode(made, used, mode.duration, amounts)
    for link in problem.precedences:
        add = model.add_end_at_start if link.blocking else model.add_end_before_start
        add(tasks[link.first], tasks[link.second])
    model.set_objective(weight_makespan=1)
    return model


def peer(problem: Problem, seconds: float, workers: int) -> Found:
    """Solve with PyJobShop and CP-SAT; the schedule is checked."""
    model = stated(problem)
    began = time.perf_counter()
    result = model.solve(solver="ortools", time_limit=seconds, display=False, num_workers=workers)
    spent = time.perf_counter() - began
    bound = float(result.lower_bound) if np.isfinite(result.lower_bound) else None
    if result.best is None or not np.isfinite(result.objective):
        return Found(None, bound, spent)
    schedule = _schedule(problem, result.best)
    violations = check_schedule(problem, schedule)
    if violations:
        raise AssertionError(f"{problem.name}: PyJobShop's schedule breaks a rule: {violations[0]}")
    return Found(int(result.objective), bound, spent)


def _schedule(problem: Problem, solution: Any) -> Schedule:
    compiled = problem.compiled
    start = np.array([task.start for task in solution.tasks], dtype=np.int64)
    mode = np.array([task.mode for task in solution.tasks], dtype=np.int64)
    end = start + compiled.mode_duration[mode]
    departure = end.copy()
    for link in problem.precedences:
        if link.blocking:
            departure[link.first] = start[link.second]
    return Schedule.of(start, end, (mode - compiled.mode_start[:-1]).astype(np.int32), departure)
