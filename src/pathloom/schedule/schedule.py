"""A schedule: which tasks are present, in which mode, when they start and end, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.problem import Machine, Problem

ABSENT = -1
NOWHERE = -1


@dataclass(frozen=True, eq=False)
class Schedule:
    """Decisions of a schedule, one entry a task of the problem.

    Attributes
    ----------
    start, end
        Shape (tasks,), int64: when each task starts, and when its processing (with idle time where that is allowed)
        ends; 0 for absent tasks.
    mode
        Shape (tasks,), int32: position of the chosen mode among the task's modes; -1 for absent tasks.
    departure
        Shape (tasks,), int64: when the resources are freed; equals `end` unless the task is blocked.
    address
        Shape (tasks,), int64: first address of the block, -1 where there is none.

    Raises
    ------
    ValueError
        If the shapes differ.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    mode: NDArray[np.int32]
    departure: NDArray[np.int64]
    address: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, kind in (("start", "i8"), ("end", "i8"), ("mode", "i4"), ("departure", "i8"), ("address", "i8")):
            given = np.asarray(getattr(self, name))
            column = np.ascontiguousarray(given, dtype=kind)
            if given.dtype.kind not in "iu" and not np.array_equal(column, given):
                raise ValueError(f"'{name}' holds values that are no whole numbers")
            if column.shape != (len(self.start),):
                raise ValueError(f"'{name}' has shape {column.shape}, expected ({len(self.start)},)")
            object.__setattr__(self, name, column)

    @classmethod
    def of(
        cls,
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        mode: NDArray[np.int32] | None = None,
        departure: NDArray[np.int64] | None = None,
        address: NDArray[np.int64] | None = None,
    ) -> Schedule:
        """A schedule in which all tasks are in their first mode, not blocked and without addresses, if not said."""
        count = len(start)
        return cls(
            start,
            end,
            np.zeros(count, np.int32) if mode is None else mode,
            end if departure is None else departure,
            np.full(count, NOWHERE, np.int64) if address is None else address,
        )

    @property
    def present(self) -> NDArray[np.bool_]:
        """Shape (tasks,): whether each task is carried out."""
        return self.mode != ABSENT

    @property
    def makespan(self) -> int:
        """Latest end of a present task; 0 if there is none."""
        return int(self.end[self.present].max(initial=0))


def setup_time(problem: Problem, schedule: Schedule) -> int:
    """Sum of the set-up times between consecutive tasks of the machines, first ones from the initial state included."""
    total = 0
    use: dict[int, list[tuple[int, int, int, int]]] = {}
    for task, mode in enumerate(schedule.mode.tolist()):
        if mode == ABSENT:
            continue
        for demand in problem.tasks[task].modes[mode].demands:
            resource = problem.resources[demand.resource]
            if isinstance(resource, Machine) and resource.setup:
                times = (int(schedule.start[task]), int(schedule.departure[task]), task, demand.state)
                use.setdefault(demand.resource, []).append(times)
    for position, tasks in use.items():
        machine = problem.resources[position]
        assert isinstance(machine, Machine)
        state = machine.initial
        for _, _, _, needed in sorted(tasks):
            if state is not None:
                total += machine.setup[state][needed]
            state = needed
    return total


def completions(problem: Problem, schedule: Schedule) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Shapes (jobs,): latest end of each job's present tasks (0 if none), and whether it has one."""
    job = problem.compiled.job
    counted = schedule.present & (job >= 0)
    done = np.zeros(len(problem.jobs), np.int64)
    np.maximum.at(done, job[counted], schedule.end[counted])
    has = np.zeros(len(problem.jobs), np.bool_)
    has[job[counted]] = True
    return done, has


def measures(problem: Problem, schedule: Schedule) -> dict[str, int]:
    """Value of every measure, see `pathloom.schedule.problem.Criterion`."""
    done, has = completions(problem, schedule)
    compiled = problem.compiled
    weight = compiled.job_weight * has
    dated = compiled.job_due >= 0
    late = np.where(dated, np.maximum(done - compiled.job_due, 0), 0)
    early = np.where(dated, np.maximum(compiled.job_due - done, 0), 0)
    chosen = compiled.mode_start[:-1] + schedule.mode
    return {
        "makespan": schedule.makespan,
        "flow": int((weight * (done - compiled.job_release)).sum()),
        "tardiness": int((weight * late).sum()),
        "max-tardiness": int((weight * late).max(initial=0)),
        "tardy-jobs": int((weight * (late > 0)).sum()),
        "earliness": int((weight * early).sum()),
        "setup-time": setup_time(problem, schedule) if compiled.has_setups else 0,
        "cost": int(compiled.mode_cost[chosen[schedule.present]].sum()),
    }


def objective_values(problem: Problem, schedule: Schedule) -> tuple[int, ...]:
    """Value of every level of the objective, the most important first."""
    found = measures(problem, schedule)
    return tuple(sum(criterion.weight * found[criterion.measure] for criterion in level) for level in problem.objective)
