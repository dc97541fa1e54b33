"""Our own file of scheduling problems, YAML or JSON with ``kind: shop``: everything that `Problem` states, by names.

Resources and jobs are named, tasks are called by ``job.task``; see `EXAMPLE` for the keys.
`pathloom.worlds.shop.problem_writing.problem_to_dict` is the inverse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pathloom.data.input_model import validated
from pathloom.data.naming import unknown_name
from pathloom.data.reading import read_text
from pathloom.data.strict_yaml import parse_yaml
from pathloom.plan import InputError
from pathloom.schedule.problem import (
    AddressRange,
    Calendar,
    Consecutive,
    Consumable,
    Criterion,
    Demand,
    Job,
    Machine,
    Mode,
    ModeDependency,
    Noise,
    Precedence,
    Problem,
    Renewable,
    Resource,
    SameResources,
    SameSequence,
    Selection,
    State,
    Task,
)
from pathloom.worlds.shop.problem_entries import NoiseEntry, PairEntry, ProblemFile, ResourceEntry, TaskEntry, UseEntry

EXAMPLE = """\
# A small shop: pathloom plan shop.yaml
kind: shop
unit: min

resources:
  - {name: saw, kind: machine}
  - name: paint booth
    kind: machine
    states: [white, black]              # sequence-dependent set-up times, row = from, column = to
    setup: [[0, 4], [9, 0]]
    breaks: [[30, 40]]                  # no work in [30, 40)
  - {name: worker, kind: renewable, capacity: 2}

# Tasks of a job follow each other in the order of the list.
jobs:
  - name: door
    due: 25
    tasks:
      - {name: cut, duration: 6, uses: [saw, worker]}
      - {name: paint, duration: 8, uses: [{resource: paint booth, state: white}, worker]}
  - name: frame
    release: 2
    due: 20
    weight: 2
    tasks:
      - {name: cut, duration: 4, uses: [saw, worker]}
      - {name: paint, duration: 5, uses: [{resource: paint booth, state: black}, worker]}
  - name: table
    tasks:
      - name: cut                       # a choice: on the saw alone, or by two workers by hand
        modes:
          - {duration: 7, uses: [saw, worker]}
          - {duration: 12, uses: {worker: 2}}
      - {name: paint, duration: 9, uses: [{resource: paint booth, state: white}, worker]}

# Further links between tasks, by job.task; lags in units of time.
precedences:
  - {first: door.paint, second: table.paint, relation: start-start, min_lag: 3}

# Minimise this sum of measures; a list of such mappings is minimised one after another.
objective: {makespan: 1}
"""


def read_problem(path: Path) -> Problem:
    """Read a file of our own.

    Raises
    ------
    InputError
        Names the line or key and what was expected.
    """
    return problem_from_dict(parse_yaml(read_text(path), str(path)), file=str(path))


def problem_from_dict(data: Any, file: str | None = None) -> Problem:
    """The problem that a mapping such as `problem_to_dict` makes stands for; errors as `read_problem`."""
    stated = validated(ProblemFile, data, file=file)
    name = stated.name or (Path(file).name.removesuffix(".gz").rsplit(".", 1)[0] if file else "schedule")
    return _Reading(stated, file).problem(name)


class _Reading:
    """Turns names into positions."""

    def __init__(self, stated: ProblemFile, file: str | None) -> None:
        self.stated, self.file = stated, file
        self.resources = self._positions([entry.name for entry in stated.resources], "resources")
        self.entries: list[tuple[TaskEntry, int | None, str]] = []
        self.tasks: dict[str, int] = {}
        names = [entry.name or f"job {number}" for number, entry in enumerate(stated.jobs)]
        self._positions(names, "jobs")
        for number, job in enumerate(stated.jobs):
            for position, task in enumerate(job.tasks):
                self._enter(task, number, f"{names[number]}.", position, f"jobs[{number}].tasks[{position}]")
        for position, task in enumerate(stated.tasks):
            self._enter(task, None, "", position, f"tasks[{position}]")

    def problem(self, name: str) -> Problem:
        stated = self.stated
        resources = tuple(self._resource(number, entry) for number, entry in enumerate(stated.resources))
        count = len(resources)
        transport: tuple[tuple[int, ...], ...] = ()
        if stated.transport:
            times = [[0] * count for _ in range(count)]
            for origin, row in stated.transport.items():
                for goal, time in row.items():
                    key = f"transport.{origin}"
                    times[self._resource_named(origin, "transport")][self._resource_named(goal, key)] = time
            transport = tuple(tuple(row) for row in times)
        try:
            return Problem(
                tasks=tuple(self._task(entry, job, where) for entry, job, where in self.entries),
                resources=resources,
                jobs=tuple(Job(j.name or "", j.release, j.due, j.deadline, j.weight) for j in stated.jobs),
                precedences=tuple(self._precedences()),
                selections=tuple(
                    Selection(
                        entry.rule,
                        self._all(entry.tasks, f"selections[{number}].tasks"),
                        None
                        if entry.condition is None
                        else self._named(entry.condition, f"selections[{number}].condition"),
                    )
                    for number, entry in enumerate(stated.selections)
                ),
                same_resources=tuple(
                    SameResources(*self._both(entry, f"same_resources[{number}]"), entry.same)
                    for number, entry in enumerate(stated.same_resources)
                ),
                consecutive=tuple(
                    Consecutive(*self._both(entry, f"consecutive[{number}]"))
                    for number, entry in enumerate(stated.consecutive)
                ),
                same_sequences=tuple(
                    SameSequence(
                        self._resource_named(entry.first_machine, f"same_sequences[{number}].first_machine"),
                        self._resource_named(entry.second_machine, f"same_sequences[{number}].second_machine"),
                        self._all(entry.first_tasks, f"same_sequences[{number}].first_tasks"),
                        self._all(entry.second_tasks, f"same_sequences[{number}].second_tasks"),
                    )
                    for number, entry in enumerate(stated.same_sequences)
                ),
                mode_dependencies=tuple(
                    ModeDependency(
                        self._named(entry.first, f"mode_dependencies[{number}].first"),
                        entry.first_mode,
                        self._named(entry.second, f"mode_dependencies[{number}].second"),
                        tuple(entry.second_modes),
                    )
                    for number, entry in enumerate(stated.mode_dependencies)
                ),
                objective=tuple(
                    tuple(Criterion(measure, weight) for measure, weight in level.items()) for level in stated.objective
                ),
                transport=transport,
                swap=stated.swap,
                name=name,
                unit=stated.unit,
            )
        except ValueError as error:
            raise InputError(str(error), file=self.file) from None

    def _positions(self, names: list[str], key: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for number, name in enumerate(names):
            if name in found:
                raise InputError(f"the name '{name}' is taken already", file=self.file, key=f"{key}[{number}].name")
            found[name] = number
        return found

    def _enter(self, task: TaskEntry, job: int | None, prefix: str, position: int, where: str) -> None:
        name = f"{prefix}{task.name or f'task {position}'}"
        if name in self.tasks:
            raise InputError(f"the task '{name}' is there already", file=self.file, key=f"{where}.name")
        self.tasks[name] = len(self.entries)
        self.entries.append((task, job, where))

    def _named(self, name: str, key: str) -> int:
        if name not in self.tasks:
            raise InputError(unknown_name("task", name, self.tasks, "this file"), file=self.file, key=key)
        return self.tasks[name]

    def _all(self, names: list[str], key: str) -> tuple[int, ...]:
        return tuple(self._named(name, f"{key}[{number}]") for number, name in enumerate(names))

    def _both(self, entry: PairEntry, key: str) -> tuple[int, int]:
        return self._named(entry.first, f"{key}.first"), self._named(entry.second, f"{key}.second")

    def _resource_named(self, name: str, key: str) -> int:
        if name not in self.resources:
            raise InputError(unknown_name("resource", name, self.resources, "this file"), file=self.file, key=key)
        return self.resources[name]

    def _resource(self, number: int, entry: ResourceEntry) -> Resource:
        key = f"resources[{number}]"
        fits: dict[str, tuple[str, ...]] = {
            "machine": ("breaks", "speeds", "setup", "states", "initial", "no_idle"),
            "renewable": ("capacity", "breaks", "speeds"),
            "consumable": ("capacity", "supplies"),
            "addresses": ("capacity",),
            "state": ("setup", "states", "initial"),
        }
        for name in entry.model_fields_set - {"name", "kind", *fits[entry.kind]}:
            raise InputError(f"a {entry.kind} has no such key", file=self.file, key=f"{key}.{name}")
        if "capacity" in fits[entry.kind] and entry.capacity is None:
            raise InputError("missing; expected a whole number", file=self.file, key=f"{key}.capacity")
        if entry.breaks and entry.speeds:
            raise InputError("expected breaks or speeds, not both", file=self.file, key=key)
        if entry.setup and entry.states and len(entry.setup) != len(entry.states):
            raise InputError(f"expected {len(entry.states)} rows", file=self.file, key=f"{key}.setup")
        initial = None if entry.initial is None else self._state(entry, entry.initial, f"{key}.initial")
        setup = tuple(tuple(row) for row in entry.setup)
        capacity = entry.capacity or 0
        try:
            calendar = Calendar(tuple(entry.speeds)) if entry.speeds else Calendar.with_breaks(entry.breaks)
        except ValueError as error:
            raise InputError(str(error), file=self.file, key=key) from None
        if entry.kind == "machine":
            return Machine(entry.name, calendar, setup, initial, entry.no_idle)
        if entry.kind == "renewable":
            return Renewable(entry.name, capacity, calendar)
        if entry.kind == "consumable":
            return Consumable(entry.name, capacity, tuple(entry.supplies))
        if entry.kind == "addresses":
            return AddressRange(entry.name, capacity)
        return State(entry.name, setup, initial)

    def _state(self, entry: ResourceEntry, state: str, key: str) -> int:
        names = entry.states or [str(number) for number in range(len(entry.setup))]
        if state not in names:
            raise InputError(unknown_name("state", state, names, f"'{entry.name}'"), file=self.file, key=key)
        return names.index(state)

    def _task(self, entry: TaskEntry, job: int | None, where: str) -> Task:
        if (entry.duration is None) == (not entry.modes):
            raise InputError("expected a duration, or a list of modes", file=self.file, key=where)
        if entry.modes and (entry.uses or entry.cost or entry.noise):
            raise InputError("with modes, uses, cost and noise belong to each of them", file=self.file, key=where)
        if entry.duration is not None:
            modes = [self._mode(entry.duration, entry.uses, entry.cost, entry.noise, where)]
        else:
            modes = [
                self._mode(mode.duration, mode.uses, mode.cost, mode.noise, f"{where}.modes[{number}]")
                for number, mode in enumerate(entry.modes)
            ]
        return Task(
            tuple(modes),
            job,
            entry.name or "",
            entry.optional,
            entry.earliest_start,
            entry.latest_start,
            entry.earliest_end,
            entry.latest_end,
            entry.allow_breaks,
            entry.allow_idle,
        )

    def _mode(self, duration: int, uses: list[UseEntry], cost: int, noise: NoiseEntry | None, where: str) -> Mode:
        demands = []
        for number, use in enumerate(uses):
            key = f"{where}.uses[{number}]"
            resource = self._resource_named(use.resource, f"{key}.resource")
            state = 0
            if use.state is not None:
                state = self._state(self.stated.resources[resource], use.state, f"{key}.state")
            demands.append(Demand(resource, use.amount, use.start, use.end, state))
        return Mode(duration, tuple(demands), cost, None if noise is None else Noise(noise.kind, noise.spread))

    def _precedences(self) -> list[Precedence]:
        found = []
        at = 0
        for job in self.stated.jobs:
            here = range(at, at + len(job.tasks))
            at += len(job.tasks)
            if job.ordered:
                link = job.link
                found += [
                    Precedence(first, first + 1, "end-start", link.min_lag, link.max_lag, link.transport, link.blocking)
                    for first in here[:-1]
                ]
        for number, entry in enumerate(self.stated.precedences):
            where = f"precedences[{number}]"
            first, second = self._named(entry.first, f"{where}.first"), self._named(entry.second, f"{where}.second")
            more = (entry.relation, entry.min_lag, entry.max_lag, entry.transport, entry.blocking)
            found.append(Precedence(first, second, *more))
        return found
