"""What the checker reads: a problem's parts as columns, and a schedule's chosen demands as rows of a table.

Nothing here is shared with what makes schedules; the columns are the checker's own, made once a problem.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Violation
from pathloom.schedule.problem import AddressRange, Calendar, Consumable, Machine, Problem, Renewable, State
from pathloom.schedule.schedule import Schedule

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
NONE = -1
OPEN = 2**62
"""Stands for a limit that is not there."""
FURTHEST = 2**60
"""Times from here on are not read: sums of them would not fit into 64 bits."""


class Unreadable(Exception):
    """A schedule that cannot be read; says why as a violation."""

    def __init__(self, rule: str, message: str, items: tuple[str, ...] = ()) -> None:
        self.violation = Violation(rule, message, items)
        super().__init__(message)


def _ints(values: Iterable[int]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _limits(values: Iterable[int | None]) -> Ints:
    return _ints(OPEN if value is None else value for value in values)


@dataclass(frozen=True, eq=False)
class Columns:
    """The parts of a problem as columns.

    Attributes
    ----------
    first_mode, modes
        Shape (tasks,): position of a task's first mode among all modes, and their number.
    duration, first_demand, demands
        Shape (modes,): duration, position of a mode's first demand among all demands, and their number.
    resource, amount, since, until, state
        Shape (demands,): as in `Demand`; `until` is `OPEN` for "to the end".
    optional, allow_breaks, allow_idle, job, windows
        Shape (tasks,), job -1 for none; windows are earliest start, latest start, earliest end and latest end.
    release, deadline
        Shape (tasks,): those of the task's job, `OPEN` or minus that where there is none.
    link
        Shape (precedences, 4): first, second, whether their ends count (else starts) for the first and the second.
    min_lag, max_lag, transported, blocking
        Shape (precedences,).
    is_machine, is_renewable, is_stock, is_range, is_state
        Shape (resources,).
    calendar
        Shape (resources,): position in `calendars`, -1 for full speed at all times.
    setup, setup_at, setup_size
        Set-up times of all resources, flat, and for each resource where its own begin and its number of states.
    initial
        Shape (resources,): state at the beginning, -1 for none.
    """

    first_mode: Ints
    modes: Ints
    duration: Ints
    first_demand: Ints
    demands: Ints
    resource: Ints
    amount: Ints
    since: Ints
    until: Ints
    state: Ints
    optional: Flags
    allow_breaks: Flags
    allow_idle: Flags
    job: Ints
    windows: tuple[Ints, Ints, Ints, Ints]
    release: Ints
    deadline: Ints
    link: Ints
    min_lag: Ints
    max_lag: Ints
    transported: Flags
    blocking: Flags
    is_machine: Flags
    is_renewable: Flags
    is_stock: Flags
    is_range: Flags
    is_state: Flags
    calendar: Ints
    calendars: tuple[Calendar, ...]
    setup: Ints
    setup_at: Ints
    setup_size: Ints
    initial: Ints
    transport: Ints

    @classmethod
    def of(cls, problem: Problem) -> Columns:
        """The columns of a problem, kept with it (a problem never changes)."""
        kept = vars(problem).get("_columns_of_the_checker")
        if isinstance(kept, Columns):
            return kept
        columns = _columns(problem)
        vars(problem)["_columns_of_the_checker"] = columns
        return columns


def _columns(problem: Problem) -> Columns:
    tasks, jobs, links, resources = problem.tasks, problem.jobs, problem.precedences, problem.resources
    modes = [mode for task in tasks for mode in task.modes]
    demands = [demand for mode in modes for demand in mode.demands]
    mode_counts = _ints(len(task.modes) for task in tasks)
    demand_counts = _ints(len(mode.demands) for mode in modes)
    tables = [r.setup if isinstance(r, Machine | State) else () for r in resources]
    sizes = _ints(len(table) for table in tables)
    timetables: dict[Calendar, int] = {}
    calendar = []
    for r in resources:
        changing = isinstance(r, Machine | Renewable) and bool(r.calendar.changes)
        calendar.append(timetables.setdefault(r.calendar, len(timetables)) if changing else NONE)  # type: ignore[union-attr]
    initial = (r.initial if isinstance(r, Machine | State) else None for r in resources)

    def kind(wanted: type) -> Flags:
        return np.array([isinstance(r, wanted) for r in resources], dtype=np.bool_)

    return Columns(
        first_mode=np.cumsum(mode_counts) - mode_counts,
        modes=mode_counts,
        duration=_ints(mode.duration for mode in modes),
        first_demand=np.cumsum(demand_counts) - demand_counts,
        demands=demand_counts,
        resource=_ints(demand.resource for demand in demands),
        amount=_ints(demand.amount for demand in demands),
        since=_ints(demand.start for demand in demands),
        until=_limits(demand.end for demand in demands),
        state=_ints(demand.state for demand in demands),
        optional=np.array([task.optional for task in tasks], dtype=np.bool_),
        allow_breaks=np.array([task.allow_breaks for task in tasks], dtype=np.bool_),
        allow_idle=np.array([task.allow_idle for task in tasks], dtype=np.bool_),
        job=_ints(NONE if task.job is None else task.job for task in tasks),
        windows=(
            _ints(task.earliest_start for task in tasks),
            _limits(task.latest_start for task in tasks),
            _ints(task.earliest_end for task in tasks),
            _limits(task.latest_end for task in tasks),
        ),
        release=_ints(-OPEN if task.job is None else jobs[task.job].release for task in tasks),
        deadline=_limits(None if task.job is None else jobs[task.job].deadline for task in tasks),
        link=_ints(
            entry
            for link in links
            for entry in (link.first, link.second, link.relation.startswith("end"), link.relation.endswith("end"))
        ).reshape(-1, 4),
        min_lag=_ints(link.min_lag for link in links),
        max_lag=_limits(link.max_lag for link in links),
        transported=np.array([link.transport for link in links], dtype=np.bool_),
        blocking=np.array([link.blocking for link in links], dtype=np.bool_),
        is_machine=kind(Machine),
        is_renewable=kind(Renewable),
        is_stock=kind(Consumable),
        is_range=kind(AddressRange),
        is_state=kind(State),
        calendar=_ints(calendar),
        calendars=tuple(timetables),
        setup=_ints(time for table in tables for row in table for time in row),
        setup_at=np.cumsum(sizes**2) - sizes**2,
        setup_size=sizes,
        initial=_ints(NONE if state is None else state for state in initial),
        transport=_ints(time for row in problem.transport for time in row).reshape((len(problem.transport),) * 2),
    )


@dataclass(frozen=True, eq=False)
class Reading:
    """A schedule beside its problem.

    Attributes
    ----------
    start, end, departure, address
        Shape (tasks,), as in the schedule.
    mode
        Shape (tasks,), as in the schedule; -1 where it is no mode of the task.
    present
        Shape (tasks,): whether the task is carried out in one of its modes.
    duration
        Shape (tasks,): that of the chosen mode, 0 if absent.
    row
        Shape (rows,): demands of the chosen modes, as positions in the columns of demands.
    task
        Shape (rows,): their tasks.
    """

    problem: Problem
    columns: Columns
    start: Ints
    end: Ints
    departure: Ints
    address: Ints
    mode: Ints
    present: Flags
    duration: Ints
    row: Ints
    task: Ints

    def rows_on(self, kind: Flags) -> Ints:
        """Positions in `row` and `task` of the demands for resources of a kind, by resource, start, departure."""
        found = np.flatnonzero(kind[self.columns.resource[self.row]]) if kind.any() else np.zeros(0, np.int64)
        tasks = self.task[found]
        order = np.lexsort((tasks, self.departure[tasks], self.start[tasks], self.columns.resource[self.row[found]]))
        return found[order]

    def names(self, *tasks: int | np.integer) -> tuple[str, ...]:
        """Names of tasks, for people."""
        return tuple(self.problem.task_name(int(task)) for task in tasks)

    def resource_names(self, *resources: int | np.integer) -> tuple[str, ...]:
        """Names of resources."""
        return tuple(self.problem.resources[int(resource)].name for resource in resources)


def read(problem: Problem, schedule: Schedule) -> Reading:
    """Lay a schedule beside its problem.

    Raises
    ------
    Unreadable
        If it is no schedule of this problem, or holds times that are out of range.
    """
    columns, count = Columns.of(problem), len(problem.tasks)
    for name in ("start", "end", "mode", "departure", "address"):
        given = getattr(schedule, name, None)
        if not isinstance(given, np.ndarray) or given.dtype.kind not in "iu" or given.shape != (count,):
            found = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
            raise Unreadable("shape", f"'{name}' is {found}, expected whole numbers of shape ({count},)")
    mode = schedule.mode.astype(np.int64)
    present = (mode >= 0) & (mode < columns.modes)
    for name in ("start", "end", "departure", "address"):
        column = getattr(schedule, name)
        wrong = np.flatnonzero(present & ((column >= FURTHEST) | (column <= -FURTHEST)))
        if len(wrong):
            task = problem.task_name(int(wrong[0]))
            raise Unreadable("range", f"{task}: '{name}' is {int(column[wrong[0]])}, expected less than 2^60", (task,))
    tasks = np.flatnonzero(present)
    chosen = columns.first_mode[tasks] + mode[tasks]
    duration = np.zeros(count, np.int64)
    duration[tasks] = columns.duration[chosen]
    each = columns.demands[chosen]
    ahead = np.cumsum(each) - each
    row = np.repeat(columns.first_demand[chosen] - ahead, each) + np.arange(int(each.sum()))
    return Reading(
        problem,
        columns,
        schedule.start.astype(np.int64),
        schedule.end.astype(np.int64),
        schedule.departure.astype(np.int64),
        schedule.address.astype(np.int64),
        np.where(present, mode, NONE),
        present,
        duration,
        row,
        np.repeat(tasks, each),
    )
