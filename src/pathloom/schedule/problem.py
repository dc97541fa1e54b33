"""The scheduling problem: tasks of jobs, each in one of several modes, on limited resources, in order and in time.

One model for every world: classic, flexible and blocking job shops, single- and multi-mode projects, tasks with
transport between them, calendars, set-ups, address ranges and periodic repetition. All times are whole numbers of
`Problem.unit`; an interval ``[start, end)`` is half open, so that a task may begin at the very moment another one ends.

The terms are those of M. Pinedo, "Scheduling: Theory, Algorithms, and Systems", and of P. Brucker et al.,
"Resource-constrained project scheduling: notation, classification, models, and methods", EJOR 112 (1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathloom.schedule.compiled import Compiled

FULL_SPEED = 100
LATEST = 2**40
"""Times, durations and lags stay below this, so that sums of a million of them fit into 64 bits."""

Relation = Literal["end-start", "start-start", "end-end", "start-end"]
RELATIONS: tuple[Relation, ...] = ("end-start", "start-start", "end-end", "start-end")
SelectionRule = Literal["all-or-none", "at-least-one", "exactly-one", "at-most-one"]
SELECTION_RULES: tuple[SelectionRule, ...] = ("all-or-none", "at-least-one", "exactly-one", "at-most-one")
Measure = Literal["makespan", "flow", "tardiness", "max-tardiness", "tardy-jobs", "earliness", "setup-time", "cost"]
MEASURES: tuple[Measure, ...] = (
    "makespan",
    "flow",
    "tardiness",
    "max-tardiness",
    "tardy-jobs",
    "earliness",
    "setup-time",
    "cost",
)
NoiseKind = Literal["normal", "uniform", "lognormal", "exponential", "triangular"]
NOISE_KINDS: tuple[NoiseKind, ...] = ("normal", "uniform", "lognormal", "exponential", "triangular")


@dataclass(frozen=True)
class Calendar:
    """Speed of a resource over time, in percent; 0 is a break.

    Parameters
    ----------
    changes
        (time, speed) in rising order of time: from that time on the resource works at that speed, and at full speed
        before the first one. A task of duration d ends at the first whole time by which the speeds since its start
        add up to at least 100 d. Of several resources the slowest counts.
    """

    changes: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        before = -1
        for position, (time, speed) in enumerate(self.changes):
            if not before < time < LATEST:
                raise ValueError(f"changes[{position}]: expected rising times from 0, found {time} after {before}")
            if speed < 0:
                raise ValueError(f"changes[{position}]: expected a speed of at least 0 percent, found {speed}")
            before = time

    @classmethod
    def with_breaks(cls, breaks: Sequence[tuple[int, int]]) -> Calendar:
        """Full speed but for the breaks [start, end), which must not overlap."""
        changes: dict[int, int] = {}
        for start, end in sorted(breaks):
            if not max(changes, default=0) <= start < end:
                raise ValueError(
                    f"break [{start}, {end}): expected an end after its start, and breaks that do not overlap"
                )
            changes[start] = 0
            changes[end] = FULL_SPEED
        return cls(tuple(sorted(changes.items())))

    @property
    def breaks(self) -> tuple[tuple[int, int], ...]:
        """The intervals of speed 0; a last one that never ends reaches to `LATEST`."""
        ends = [time for time, _ in self.changes[1:]] + [LATEST]
        return tuple((time, end) for (time, speed), end in zip(self.changes, ends, strict=False) if speed == 0)


@dataclass(frozen=True)
class Machine:
    """A unary resource: one task at a time.

    Parameters
    ----------
    name
        Unique among the resources.
    calendar
        Breaks and speeds.
    setup
        Shape (k, k): time between the end of a task that leaves the machine in the first state and the start of the
        next one, which needs the second (`Demand.state`). Empty: no set-ups. Of tasks of no length at one instant the
        one that comes first in `Problem.tasks` is done first.
    initial
        State before the first task; None: the first task needs no set-up.
    no_idle
        Whether the machine, once started, must work without gaps until its last task; set-ups count as work, breaks
        as gaps. A task of no length may not lie strictly inside another one.
    """

    name: str
    calendar: Calendar = Calendar()
    setup: tuple[tuple[int, ...], ...] = ()
    initial: int | None = None
    no_idle: bool = False


@dataclass(frozen=True)
class Renewable:
    """A cumulative resource: the amounts of the tasks under way never exceed the capacity."""

    name: str
    capacity: int
    calendar: Calendar = Calendar()


@dataclass(frozen=True)
class Consumable:
    """A stock that tasks take from when they start, or (a negative amount) add to when they end; never below 0.

    Parameters
    ----------
    name, capacity
        Name, and stock at time 0. A stock has no upper limit.
    supplies
        (time, amount) of deliveries.
    """

    name: str
    capacity: int
    supplies: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class AddressRange:
    """Addresses 0..size-1, of which a task holds a contiguous block, at one address, while it is under way."""

    name: str
    size: int


@dataclass(frozen=True)
class State:
    """A shared state: tasks that need the same one may overlap, others are apart by the set-up time.

    `setup` has shape (k, k): least time from the end of any task in the first state to the start of any later task in
    the second; `initial` is the state before the first task (None: any, at no cost).
    """

    name: str
    setup: tuple[tuple[int, ...], ...]
    initial: int | None = None


Resource = Machine | Renewable | Consumable | AddressRange | State


@dataclass(frozen=True)
class Demand:
    """What a mode needs of a resource.

    Parameters
    ----------
    resource
        Position in `Problem.resources`.
    amount
        Units of a renewable or consumable resource, length of an address block; 1 for machines and states.
    start, end
        The part of the task in which it is needed, in time since its start, cut off at its end (None: to its end, and
        beyond it while the task is blocked). Several demands for one renewable resource make a profile.
    state
        State that a machine with set-ups, or a state resource, must be in.
    """

    resource: int
    amount: int = 1
    start: int = 0
    end: int | None = None
    state: int = 0


@dataclass(frozen=True)
class Noise:
    """Random factor (mean 1) on a duration; `spread` is its standard deviation, or half the width of a uniform one."""

    kind: NoiseKind = "lognormal"
    spread: float = 0.1


@dataclass(frozen=True)
class Mode:
    """One way to carry out a task: processing time, demands, cost."""

    duration: int
    demands: tuple[Demand, ...] = ()
    cost: int = 0
    noise: Noise | None = None


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Parameters
    ----------
    modes
        The ways to do it, one of which is chosen.
    job
        Position in `Problem.jobs`; None for a task of no job.
    name
        For people; unique names are not needed.
    optional
        Whether it may be left out.
    earliest_start, latest_start, earliest_end, latest_end
        Time windows; None is no limit.
    allow_breaks
        Whether breaks of its resources may interrupt it; otherwise it fits between them.
    allow_idle
        Whether it may end (and free its resources) later than its processing takes.
    """

    modes: tuple[Mode, ...]
    job: int | None = None
    name: str = ""
    optional: bool = False
    earliest_start: int = 0
    latest_start: int | None = None
    earliest_end: int = 0
    latest_end: int | None = None
    allow_breaks: bool = False
    allow_idle: bool = False


@dataclass(frozen=True)
class Job:
    """A group of tasks with a release date, due date, deadline and weight; it completes with its last present task.

    Release and deadline bind every task of the job; flow time counts from the release.
    """

    name: str = ""
    release: int = 0
    due: int | None = None
    deadline: int | None = None
    weight: int = 1


@dataclass(frozen=True)
class Precedence:
    """``first's event + lag <= second's event``, if both tasks are present.

    Parameters
    ----------
    first, second
        Positions in `Problem.tasks`.
    relation
        Which events: "end-start" is end of the first to start of the second, and so on.
    min_lag, max_lag
        The time between the events is in [min_lag, max_lag]; lags may be negative; max_lag None is no limit, and
        ``min_lag = max_lag = 0`` of an end-start is no-wait.
    transport
        Whether the time of moving from the resource of the first task to that of the second (`Problem.transport`)
        comes on top of both lags. Only for "end-start".
    blocking
        Whether the first task holds its resources until the second one starts (less the transport time). Only for
        "end-start".
    """

    first: int
    second: int
    relation: Relation = "end-start"
    min_lag: int = 0
    max_lag: int | None = None
    transport: bool = False
    blocking: bool = False


@dataclass(frozen=True)
class Selection:
    """How many of some optional tasks are present; binds only if the `condition` task (None: always) is present."""

    rule: SelectionRule
    tasks: tuple[int, ...]
    condition: int | None = None


@dataclass(frozen=True)
class SameResources:
    """The chosen modes of two present tasks use the same set of resources (`same`), or no common one (not `same`)."""

    first: int
    second: int
    same: bool = True


@dataclass(frozen=True)
class Consecutive:
    """On every machine that both present tasks use, the second comes directly after the first."""

    first: int
    second: int


@dataclass(frozen=True)
class SameSequence:
    """Present tasks ``first_tasks[i]`` on one machine come in the same order as ``second_tasks[i]`` on another."""

    first_machine: int
    second_machine: int
    first_tasks: tuple[int, ...]
    second_tasks: tuple[int, ...]


@dataclass(frozen=True)
class ModeDependency:
    """If the first task is in `first_mode`, the second (if present) is in one of `second_modes`."""

    first: int
    first_mode: int
    second: int
    second_modes: tuple[int, ...]


@dataclass(frozen=True)
class Criterion:
    """A measure and its weight in a sum.

    With C a job's completion, r its release, d its due date and w its weight: "makespan" is the latest end of a task,
    "flow" the sum of w (C - r), "tardiness" that of w max(0, C - d), "earliness" that of w max(0, d - C), "tardy-jobs"
    that of w [C > d], "max-tardiness" the largest w max(0, C - d); "setup-time" the sum of the machines' set-up times,
    "cost" the sum of the chosen modes' costs. Jobs without a present task count nothing.
    """

    measure: Measure = "makespan"
    weight: int = 1


@dataclass(frozen=True)
class Problem:
    """An instance; see the module's and each part's description.

    Parameters
    ----------
    tasks, resources, jobs, precedences
        The parts, which refer to each other by position.
    selections, same_resources, consecutive, same_sequences, mode_dependencies
        Further constraints.
    objective
        Levels, the most important first (lexicographic); each is a weighted sum of measures, to be minimised.
    transport
        Shape (resources, resources): time from one to another; empty if none. The resource of a task is that of the
        first demand of its mode; tasks without demands are anywhere, at no time.
    swap
        Whether blocked tasks that wait for each other's machines in a cycle may change places at the same instant. If
        not, the starts of an instant follow each other such that each finds its machine left; tasks of no length take
        their turn, too, those on one machine as they come in `tasks`.
    name, unit
        Name of the instance, and the unit of its times.

    Raises
    ------
    ValueError
        Names the part and what was expected.
    """

    tasks: tuple[Task, ...]
    resources: tuple[Resource, ...] = ()
    jobs: tuple[Job, ...] = ()
    precedences: tuple[Precedence, ...] = ()
    selections: tuple[Selection, ...] = ()
    same_resources: tuple[SameResources, ...] = ()
    consecutive: tuple[Consecutive, ...] = ()
    same_sequences: tuple[SameSequence, ...] = ()
    mode_dependencies: tuple[ModeDependency, ...] = ()
    objective: tuple[tuple[Criterion, ...], ...] = ((Criterion(),),)
    transport: tuple[tuple[int, ...], ...] = ()
    swap: bool = True
    name: str = "schedule"
    unit: str = "units"

    def __post_init__(self) -> None:
        from pathloom.schedule.validation import validate

        validate(self)

    @cached_property
    def compiled(self) -> Compiled:
        """The problem as flat arrays, made once."""
        from pathloom.schedule.compiled import compile_problem

        return compile_problem(self)

    def task_name(self, task: int) -> str:
        """Name of a task for people: its own, or made from its job and its position."""
        found = self.tasks[task]
        if found.name:
            return found.name
        return f"task {task}" if found.job is None else f"{self.job_name(found.job)} task {task}"

    def job_name(self, job: int) -> str:
        """Name of a job for people."""
        return self.jobs[job].name or f"job {job}"
