"""Building a `Problem` step by step, by objects instead of positions.

>>> model = Model("two jobs")
>>> saw, lathe = model.machine("saw"), model.machine("lathe")
>>> for name, cut, turn in (("shaft", 3, 5), ("flange", 4, 2)):
...     job = model.job(name)
...     model.chain(model.task(cut, saw, job=job), model.task(turn, lathe, job=job))
>>> len(model.problem().tasks)
4
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pathloom.schedule.problem import (
    AddressRange,
    Calendar,
    Consecutive,
    Consumable,
    Criterion,
    Demand,
    Job,
    Machine,
    Measure,
    Mode,
    ModeDependency,
    Noise,
    Precedence,
    Problem,
    Relation,
    Renewable,
    Resource,
    SameResources,
    SameSequence,
    Selection,
    SelectionRule,
    State,
    Task,
)


@dataclass(frozen=True)
class ResourceHandle:
    """A resource of a model."""

    position: int
    name: str


@dataclass(frozen=True)
class JobHandle:
    """A job of a model."""

    position: int


@dataclass(frozen=True)
class TaskHandle:
    """A task of a model."""

    position: int


Use = ResourceHandle | Demand | tuple[ResourceHandle, int]
"""What a mode needs: a resource (1 unit), a resource and an amount, or a `Demand`."""


class Model:
    """A problem that is being built.

    Parameters
    ----------
    name, unit
        Name of the instance and unit of its times.
    """

    def __init__(self, name: str = "schedule", unit: str = "units") -> None:
        self.name, self.unit = name, unit
        self._resources: list[Resource] = []
        self._jobs: list[Job] = []
        self._tasks: list[Task] = []
        self._precedences: list[Precedence] = []
        self._selections: list[Selection] = []
        self._same_resources: list[SameResources] = []
        self._consecutive: list[Consecutive] = []
        self._same_sequences: list[SameSequence] = []
        self._mode_dependencies: list[ModeDependency] = []
        self._transport: dict[tuple[int, int], int] = {}
        self._objective: list[tuple[Criterion, ...]] = []
        self.swap = True

    def machine(
        self,
        name: str = "",
        *,
        breaks: Sequence[tuple[int, int]] = (),
        calendar: Calendar | None = None,
        setup: Sequence[Sequence[int]] = (),
        initial: int | None = None,
        no_idle: bool = False,
    ) -> ResourceHandle:
        """A resource that works on one task at a time, see `Machine`."""
        times = tuple(tuple(row) for row in setup)
        return self._resource(
            Machine(self._named(name, "machine"), _calendar(breaks, calendar), times, initial, no_idle)
        )

    def renewable(
        self,
        name: str = "",
        capacity: int = 1,
        *,
        breaks: Sequence[tuple[int, int]] = (),
        calendar: Calendar | None = None,
    ) -> ResourceHandle:
        """A resource of which several tasks may use parts, see `Renewable`."""
        return self._resource(Renewable(self._named(name, "resource"), capacity, _calendar(breaks, calendar)))

    def consumable(self, name: str = "", capacity: int = 0, supplies: Iterable[tuple[int, int]] = ()) -> ResourceHandle:
        """A stock, see `Consumable`."""
        return self._resource(Consumable(self._named(name, "stock"), capacity, tuple(supplies)))

    def address_range(self, name: str = "", size: int = 1) -> ResourceHandle:
        """A range of addresses, see `AddressRange`."""
        return self._resource(AddressRange(self._named(name, "range"), size))

    def state(self, name: str, setup: Sequence[Sequence[int]], initial: int | None = None) -> ResourceHandle:
        """A shared state, see `State`."""
        return self._resource(State(name, tuple(tuple(row) for row in setup), initial))

    def job(
        self, name: str = "", *, release: int = 0, due: int | None = None, deadline: int | None = None, weight: int = 1
    ) -> JobHandle:
        """A job, see `Job`."""
        self._jobs.append(Job(name, release, due, deadline, weight))
        return JobHandle(len(self._jobs) - 1)

    def task(
        self,
        duration: int | None = None,
        uses: Use | Sequence[Use] = (),
        *,
        alternatives: Sequence[tuple[int, Use | Sequence[Use]]] | Mapping[ResourceHandle, int] = (),
        job: JobHandle | None = None,
        name: str = "",
        noise: Noise | None = None,
        cost: int = 0,
        **more: Any,
    ) -> TaskHandle:
        """A task with one mode (`duration`, `uses`) or a choice of `alternatives`.

        Parameters
        ----------
        duration, uses
            Processing time, and what is needed meanwhile.
        alternatives
            Instead of these: machine -> processing time, or (processing time, uses) pairs.
        more
            Other fields of `Task`: `optional`, `latest_start`, ...
        """
        if isinstance(alternatives, Mapping):
            choices: list[tuple[int, Use | Sequence[Use]]] = [(time, machine) for machine, time in alternatives.items()]
        else:
            choices = list(alternatives)
        if (duration is None) == (not choices):
            raise ValueError("task: expected a duration, or alternatives that have theirs")
        if duration is not None:
            choices = [(duration, uses)]
        modes = tuple(Mode(time, _demands(needs), cost, noise) for time, needs in choices)
        self._tasks.append(Task(modes, None if job is None else job.position, name, **more))
        return TaskHandle(len(self._tasks) - 1)

    def mode(self, task: TaskHandle, duration: int, uses: Use | Sequence[Use] = (), *, cost: int = 0) -> int:
        """Add another mode to a task; returns its position."""
        found = self._tasks[task.position]
        self._tasks[task.position] = replace(found, modes=(*found.modes, Mode(duration, _demands(uses), cost)))
        return len(found.modes)

    def periodic(
        self,
        period: int,
        repetitions: int,
        duration: int,
        uses: Use | Sequence[Use] = (),
        *,
        offset: int = 0,
        name: str = "",
    ) -> list[TaskHandle]:
        """Repetitions of a task, each a job released at ``offset + i * period`` that must end within its period."""
        made = []
        for number in range(repetitions):
            release = offset + number * period
            job = self.job(
                f"{name or 'task'} {number}", release=release, due=release + period, deadline=release + period
            )
            made.append(self.task(duration, uses, job=job, name=f"{name or 'task'} {number}"))
        return made

    def precede(
        self,
        first: TaskHandle,
        second: TaskHandle,
        *,
        relation: Relation = "end-start",
        min_lag: int = 0,
        max_lag: int | None = None,
        transport: bool = False,
        blocking: bool = False,
    ) -> None:
        """Order two tasks, see `Precedence`."""
        link = Precedence(first.position, second.position, relation, min_lag, max_lag, transport, blocking)
        self._precedences.append(link)

    def chain(self, *tasks: TaskHandle, transport: bool = False, blocking: bool = False, no_wait: bool = False) -> None:
        """Order tasks one after another."""
        for first, second in pairwise(tasks):
            longest = 0 if no_wait else None
            self.precede(first, second, max_lag=longest, transport=transport, blocking=blocking)

    def travel(self, first: ResourceHandle, second: ResourceHandle, time: int, *, both_ways: bool = True) -> None:
        """Transport time between two resources (0 where none is given)."""
        self._transport[first.position, second.position] = time
        if both_ways:
            self._transport[second.position, first.position] = time

    def select(self, rule: SelectionRule, *tasks: TaskHandle, condition: TaskHandle | None = None) -> None:
        """How many of some optional tasks are present, see `Selection`."""
        when = None if condition is None else condition.position
        self._selections.append(Selection(rule, tuple(task.position for task in tasks), when))

    def same_resources(self, first: TaskHandle, second: TaskHandle, *, same: bool = True) -> None:
        """Two tasks use the same resources, or (not `same`) none in common."""
        self._same_resources.append(SameResources(first.position, second.position, same))

    def consecutive(self, first: TaskHandle, second: TaskHandle) -> None:
        """The second task comes directly after the first one on the machines that they share."""
        self._consecutive.append(Consecutive(first.position, second.position))

    def same_sequence(
        self,
        first_machine: ResourceHandle,
        second_machine: ResourceHandle,
        first_tasks: Sequence[TaskHandle],
        second_tasks: Sequence[TaskHandle],
    ) -> None:
        """Tasks come in the same order on both machines, see `SameSequence`."""
        firsts, seconds = (tuple(task.position for task in tasks) for tasks in (first_tasks, second_tasks))
        self._same_sequences.append(SameSequence(first_machine.position, second_machine.position, firsts, seconds))

    def mode_dependency(
        self, first: TaskHandle, first_mode: int, second: TaskHandle, second_modes: Sequence[int]
    ) -> None:
        """A mode of one task allows some modes of another only, see `ModeDependency`."""
        self._mode_dependencies.append(ModeDependency(first.position, first_mode, second.position, tuple(second_modes)))

    def minimise(self, **weights: int) -> None:
        """Add a level to the objective: ``minimise(makespan=1)``, ``minimise(tardiness=5, setup_time=1)``."""
        names: dict[str, Measure] = {
            "makespan": "makespan",
            "flow": "flow",
            "tardiness": "tardiness",
            "max_tardiness": "max-tardiness",
            "tardy_jobs": "tardy-jobs",
            "earliness": "earliness",
            "setup_time": "setup-time",
            "cost": "cost",
        }
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise ValueError(f"unknown measure '{unknown[0]}', expected one of {', '.join(names)}")
        self._objective.append(tuple(Criterion(names[name], weight) for name, weight in weights.items()))

    def problem(self) -> Problem:
        """The finished problem; its objective is the makespan if none was given."""
        count = len(self._resources)
        transport: tuple[tuple[int, ...], ...] = ()
        if self._transport or any(link.transport for link in self._precedences):
            transport = tuple(tuple(self._transport.get((a, b), 0) for b in range(count)) for a in range(count))
        return Problem(
            tasks=tuple(self._tasks),
            resources=tuple(self._resources),
            jobs=tuple(self._jobs),
            precedences=tuple(self._precedences),
            selections=tuple(self._selections),
            same_resources=tuple(self._same_resources),
            consecutive=tuple(self._consecutive),
            same_sequences=tuple(self._same_sequences),
            mode_dependencies=tuple(self._mode_dependencies),
            objective=tuple(self._objective) or ((Criterion(),),),
            transport=transport,
            swap=self.swap,
            name=self.name,
            unit=self.unit,
        )

    def _resource(self, resource: Resource) -> ResourceHandle:
        self._resources.append(resource)
        return ResourceHandle(len(self._resources) - 1, resource.name)

    def _named(self, name: str, kind: str) -> str:
        return name or f"{kind} {len(self._resources)}"


def _calendar(breaks: Sequence[tuple[int, int]], calendar: Calendar | None) -> Calendar:
    if breaks and calendar is not None:
        raise ValueError("expected breaks or a calendar, not both")
    return calendar or Calendar.with_breaks(breaks)


def _demands(uses: Use | Sequence[Use]) -> tuple[Demand, ...]:
    if isinstance(uses, ResourceHandle | Demand):
        return (_demand(uses),)
    if isinstance(uses, tuple) and len(uses) == 2 and isinstance(uses[0], ResourceHandle) and isinstance(uses[1], int):
        return (_demand((uses[0], uses[1])),)
    return tuple(_demand(use) for use in uses)


def _demand(use: Use) -> Demand:
    if isinstance(use, Demand):
        return use
    if isinstance(use, ResourceHandle):
        return Demand(use.position)
    resource, amount = use
    return Demand(resource.position, amount)
