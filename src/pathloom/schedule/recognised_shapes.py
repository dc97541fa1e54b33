"""Does a problem have one of the shapes that specialised methods know? Views of it, and the way back.

A shape is recognised only if every part of the problem is expressed by it, so that an optimum of the view is one of
the problem. The objective must be the makespan alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.compiled import RESOURCE_KINDS, WHOLE, Compiled
from pathloom.schedule.problem import (
    LATEST,
    Consumable,
    Criterion,
    Machine,
    Problem,
    Renewable,
)
from pathloom.schedule.schedule import Schedule
from pathloom.schedule.shops import FlexibleShop, JobShop, Project

Positions = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Shape:
    """A view of a problem and where its parts are in the problem.

    Attributes
    ----------
    problem, view
        The problem, and a `JobShop`, `FlexibleShop` or `Project`.
    task
        Shape (operations,): task of each operation (or activity) of the view.
    """

    problem: Problem
    view: JobShop | FlexibleShop | Project
    task: Positions

    @property
    def name(self) -> str:
        """What the shape is called."""
        if isinstance(self.view, JobShop):
            kind = "job shop"
            if self.view.blocking:
                return f"blocking {kind}" if self.view.swap else f"blocking {kind} without swaps"
            return f"no-wait {kind}" if self.view.no_wait else kind
        if isinstance(self.view, FlexibleShop):
            return "flexible job shop"
        return "project" if self.view.single_mode else "multi-mode project"

    def schedule(self, solution: Any) -> Schedule:
        """Schedule of the problem that a solution of the view stands for (see `pathloom.schedule.incumbent`)."""
        compiled = self.problem.compiled
        mode: NDArray[Any] = compiled.mode_start[self.task]
        if isinstance(self.view, JobShop):
            start = np.asarray(solution, dtype=np.int64)
        else:
            chosen, start = solution  # alternatives of a view are numbered as the task's modes are, task by task
            mode = mode + (np.asarray(chosen) - _first_alternative(self.view))
        count = len(self.problem.tasks)
        starts, ends, modes = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int32)
        starts[self.task] = start
        ends[self.task] = start + compiled.mode_duration[mode]
        modes[self.task] = mode - compiled.mode_start[self.task]
        departure = ends.copy()
        if compiled.blocking.any():
            first, second = compiled.first[compiled.blocking], compiled.second[compiled.blocking]
            departure[first] = starts[second]
        return Schedule.of(starts, ends, modes, departure)

    def solution(self, schedule: Schedule) -> Any:
        """The view's solution for a schedule of the problem."""
        start = schedule.start[self.task]
        if isinstance(self.view, JobShop):
            return start
        return (_first_alternative(self.view) + schedule.mode[self.task]).astype(np.int32), start


def _first_alternative(view: FlexibleShop | Project) -> Positions:
    """Shape (operations,): global number of the first alternative (or mode) of each."""
    starts = view.alternative_start if isinstance(view, FlexibleShop) else view.mode_start
    return starts[:-1]


def recognised_shape(problem: Problem) -> Shape | None:
    """The most special shape that expresses the whole problem; None if there is none."""
    if not _plain(problem):
        return None
    return _shop(problem) or _project(problem)


def as_job_shop(problem: Problem) -> JobShop | None:
    """The problem as a job shop (classic, blocking or no-wait), if it is one."""
    shape = recognised_shape(problem)
    return shape.view if shape is not None and isinstance(shape.view, JobShop) else None


def as_flexible_shop(problem: Problem) -> FlexibleShop | None:
    """The problem as a flexible job shop, if it is one and no job shop."""
    shape = recognised_shape(problem)
    return shape.view if shape is not None and isinstance(shape.view, FlexibleShop) else None


def as_project(problem: Problem) -> Project | None:
    """The problem as a project, if it is one and no shop."""
    shape = recognised_shape(problem)
    return shape.view if shape is not None and isinstance(shape.view, Project) else None


def _plain(problem: Problem) -> bool:
    """Whether it has nothing that no shape knows."""
    compiled = problem.compiled
    if problem.objective != ((Criterion("makespan", 1),),) or not problem.tasks:
        return False
    further = (
        problem.selections
        or problem.same_resources
        or problem.consecutive
        or problem.same_sequences
        or problem.mode_dependencies
        or problem.transport
    )
    if further or compiled.optional.any() or compiled.allow_idle.any() or compiled.has_setups:
        return False
    windows = (compiled.latest_start < LATEST).any() or (compiled.latest_end < LATEST).any()
    if windows or compiled.earliest_end.any():
        return False
    if (compiled.relation != 0).any() or (compiled.min_lag != 0).any():
        return False
    if not np.isin(compiled.max_lag, (0, LATEST)).all():
        return False
    if compiled.demand_from.any() or (compiled.demand_until != WHOLE).any():
        return False
    kinds = {type(resource) for resource in problem.resources}
    if not kinds <= {Machine, Renewable, Consumable}:
        return False
    for resource in problem.resources:
        if isinstance(resource, Machine | Renewable) and resource.calendar.changes:
            return False
        if isinstance(resource, Machine) and resource.no_idle:
            return False
        if isinstance(resource, Consumable) and resource.supplies:
            return False
    return True


def _shop(problem: Problem) -> Shape | None:
    """As a job shop or flexible job shop: chains of tasks on one machine each."""
    compiled = problem.compiled
    machine = compiled.resource_kind == RESOURCE_KINDS.index(Machine)
    if not len(compiled.demand_resource) or not machine[compiled.demand_resource].all():
        return None
    if (np.diff(compiled.demand_start) != 1).any():
        return None
    order = _chains(problem, compiled)
    if order is None:
        return None
    task = np.array([number for chain in order for number in chain], dtype=np.int32)
    job_start = np.concatenate(([0], np.cumsum([len(chain) for chain in order]))).astype(np.int32)
    heads = [chain[0] for chain in order]
    release = compiled.earliest_start[heads]
    if (compiled.earliest_start[task] > np.repeat(release, np.diff(job_start))).any():
        return None  # a shop knows releases of jobs only
    no_wait, blocking = compiled.max_lag == 0, compiled.blocking
    if (no_wait.any() and not no_wait.all()) or (blocking.any() and not blocking.all()):
        return None
    strict, held = bool(no_wait.any()), bool(blocking.any())
    count = np.diff(compiled.mode_start)[task]
    machine_of_mode = compiled.demand_resource  # one demand a mode
    if (count == 1).all():
        modes = compiled.mode_start[task]
        shop = JobShop(
            job_start,
            np.ascontiguousarray(machine_of_mode[modes]),
            np.ascontiguousarray(compiled.mode_duration[modes]),
            len(problem.resources),
            release,
            blocking=held and not strict,
            no_wait=strict,
            swap=problem.swap,
        )
        return Shape(problem, shop, task)
    if strict or held:
        return None
    alternatives = np.concatenate([np.arange(compiled.mode_start[t], compiled.mode_start[t + 1]) for t in task])
    starts = np.concatenate(([0], np.cumsum(count))).astype(np.int32)
    flexible = FlexibleShop(
        job_start,
        starts,
        np.ascontiguousarray(machine_of_mode[alternatives]),
        np.ascontiguousarray(compiled.mode_duration[alternatives]),
        len(problem.resources),
        release,
    )
    return Shape(problem, flexible, task)


def _chains(problem: Problem, compiled: Compiled) -> list[list[int]] | None:
    """Tasks as chains of precedences, in order of their first tasks; None if some task has two neighbours on a side."""
    count = len(problem.tasks)
    following = np.full(count, -1, np.int64)
    leading = np.full(count, -1, np.int64)
    for first, second in {*zip(compiled.first.tolist(), compiled.second.tolist(), strict=True)}:
        if following[first] >= 0 or leading[second] >= 0:
            return None
        following[first], leading[second] = second, first
    if len(compiled.first) != int((following >= 0).sum()):
        return None  # the same precedence twice may carry different flags
    chains = []
    for head in np.flatnonzero(leading < 0).tolist():
        chain = [head]
        while following[chain[-1]] >= 0:
            chain.append(int(following[chain[-1]]))
        chains.append(chain)
    return chains if sum(map(len, chains)) == count else None  # a circle has no head


def _runs_in_a_circle(compiled: Compiled) -> bool:
    """Whether precedences lead back to where they began; tasks of no length may do so."""
    if (compiled.first < compiled.second).all():
        return False
    leading: dict[int, set[int]] = {}
    for first, second in zip(compiled.first.tolist(), compiled.second.tolist(), strict=True):
        leading.setdefault(second, set()).add(first)
    try:
        TopologicalSorter(leading).prepare()
    except CycleError:
        return True
    return False


def _project(problem: Problem) -> Shape | None:
    """As a project: any precedences, renewable and consumable resources, machines of capacity 1 among them."""
    compiled = problem.compiled
    if compiled.blocking.any() or (compiled.max_lag < LATEST).any() or (compiled.demand_amount < 0).any():
        return None
    if _runs_in_a_circle(compiled):
        return None
    machine = compiled.resource_kind[compiled.demand_resource] == RESOURCE_KINDS.index(Machine)
    if (compiled.mode_duration[compiled.demand_mode[machine]] == 0).any():
        return None  # on a machine a task of no length is at no time inside another one, in a project it may be
    consumable = compiled.resource_kind == RESOURCE_KINDS.index(Consumable)
    amounts = np.zeros((len(compiled.mode_duration), len(problem.resources)), np.int64)
    np.add.at(amounts, (compiled.demand_mode, compiled.demand_resource), compiled.demand_amount)
    count = len(problem.tasks)
    pairs = np.unique(np.stack([compiled.first, compiled.second], axis=1).reshape(-1, 2), axis=0)
    starts = np.searchsorted(pairs[:, 0], np.arange(count + 1)).astype(np.int32)
    project = Project(
        starts,
        np.ascontiguousarray(pairs[:, 1]).astype(np.int32),
        compiled.mode_start,
        compiled.mode_duration,
        np.ascontiguousarray(amounts[:, ~consumable]),
        np.ascontiguousarray(compiled.capacity[~consumable]),
        np.ascontiguousarray(amounts[:, consumable]),
        np.ascontiguousarray(compiled.capacity[consumable]),
        compiled.earliest_start,
    )
    return Shape(problem, project, np.arange(count, dtype=np.int32))
