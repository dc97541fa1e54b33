"""A problem in parts that can be left out one by one, each of which only makes schedules easier to find.

`parts` lists them, `without_others` is the problem with some of them alone, and `part_in_words` says what one asks for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pathloom.schedule.obvious_conflicts import called, date_in_words, lag_in_words, taken, window_in_words
from pathloom.schedule.problem import (
    AddressRange,
    Calendar,
    Consumable,
    Demand,
    Job,
    Machine,
    Problem,
    Renewable,
    Resource,
    State,
    Task,
)

Part = tuple[str, int]
"""Kind of a constraint, and position of the task, job, resource or entry that states it."""

ABSENT = {"earliest_start": 0, "latest_start": None, "earliest_end": 0, "latest_end": None}
WINDOWS = tuple(ABSENT)
ENTRIES = {
    "selection": "selections",
    "same resources": "same_resources",
    "consecutive": "consecutive",
    "same sequence": "same_sequences",
    "mode dependency": "mode_dependencies",
    "precedence": "precedences",
}
MOST_NAMES = 6


def parts(problem: Problem) -> list[Part]:
    """What can be left out: tasks first, then all that is asked of them."""
    found: list[Part] = [("task", task) for task in range(len(problem.tasks)) if _dispensable(problem, task)]
    for kind, field in ENTRIES.items():
        found += [(kind, number) for number in range(len(getattr(problem, field)))]
    for number, resource in enumerate(problem.resources):
        timed = isinstance(resource, Machine | Renewable) and bool(resource.calendar.changes)
        kinds = {
            "calendar": timed,
            "set-ups": isinstance(resource, Machine) and bool(resource.setup),
            "no idle time": isinstance(resource, Machine) and resource.no_idle,
            "capacity": True,
        }
        found += [(kind, number) for kind, stated in kinds.items() if stated]
    for number, task in enumerate(problem.tasks):
        found += [(field, number) for field in WINDOWS if getattr(task, field) != ABSENT[field]]
    found += [("release", number) for number, job in enumerate(problem.jobs) if job.release]
    found += [("deadline", number) for number, job in enumerate(problem.jobs) if job.deadline is not None]
    if any(map(any, problem.transport)):
        found.append(("transport", 0))
    if not problem.swap and any(link.blocking for link in problem.precedences):
        found.append(("swap", 0))
    return found


def _dispensable(problem: Problem, task: int) -> bool:
    """Whether any schedule stays one when the task is taken out of it."""
    for mode in problem.tasks[task].modes:
        for demand in mode.demands:
            resource = problem.resources[demand.resource]
            if demand.amount < 0 or (isinstance(resource, Machine) and (resource.setup or resource.no_idle)):
                return False
    return not any(task in (*selection.tasks, selection.condition) for selection in problem.selections)


def without_others(problem: Problem, kept: set[Part]) -> Problem:
    """The problem of finding any schedule that keeps the parts `kept`; tasks that are none of its parts stay."""
    there = [
        number for number in range(len(problem.tasks)) if ("task", number) in kept or not _dispensable(problem, number)
    ]
    position = {task: place for place, task in enumerate(there)}
    limited = {number for kind, number in kept if kind == "capacity"}
    resources = tuple(_resource(problem, number, kept) for number in range(len(problem.resources)))
    entries = {field: _entries(problem, kind, field, kept, position, limited) for kind, field in ENTRIES.items()}
    jobs = tuple(
        Job(
            job.name,
            job.release if ("release", number) in kept else 0,
            None,
            job.deadline if ("deadline", number) in kept else None,
        )
        for number, job in enumerate(problem.jobs)
    )
    count = len(resources)
    transport: Any = problem.transport if ("transport", 0) in kept else ((0,) * count,) * count
    return Problem(
        tasks=tuple(_task(problem, number, resources, kept) for number in there),
        resources=resources,
        jobs=jobs,
        transport=transport if problem.transport else (),
        swap=("swap", 0) not in kept,
        name=problem.name,
        unit=problem.unit,
        **entries,
    )


def _task(problem: Problem, number: int, resources: tuple[Resource, ...], kept: set[Part]) -> Task:
    task = problem.tasks[number]
    dropped: dict[str, Any] = {field: value for field, value in ABSENT.items() if (field, number) not in kept}

    def state(demand: Demand) -> int:
        resource = resources[demand.resource]
        return demand.state if isinstance(resource, Machine | State) and resource.setup else 0

    modes = tuple(
        replace(mode, demands=tuple(replace(demand, state=state(demand)) for demand in mode.demands))
        for mode in task.modes
    )
    return replace(task, modes=modes, **dropped)


def _resource(problem: Problem, number: int, kept: set[Part]) -> Resource:
    resource = problem.resources[number]
    if isinstance(resource, Machine | Renewable) and ("calendar", number) not in kept:
        resource = replace(resource, calendar=Calendar())
    if isinstance(resource, Machine) and ("set-ups", number) not in kept:
        resource = replace(resource, setup=(), initial=None)
    if isinstance(resource, Machine) and ("no idle time", number) not in kept:
        resource = replace(resource, no_idle=False)
    if ("capacity", number) in kept:
        return resource
    uses = [d.amount for task in problem.tasks for mode in task.modes for d in mode.demands if d.resource == number]
    enough = sum(map(abs, uses))
    if isinstance(resource, Consumable):
        return replace(resource, capacity=resource.capacity + enough)
    # Any resource is a renewable one of which there is enough.
    return Renewable(resource.name, enough, getattr(resource, "calendar", Calendar()))


def _entries(
    problem: Problem, kind: str, field: str, kept: set[Part], position: dict[int, int], limited: set[int]
) -> tuple[Any, ...]:
    """Those that are kept and whose tasks are there, with the tasks' new positions."""
    found: list[Any] = []
    for number, entry in enumerate(getattr(problem, field)):
        if (kind, number) not in kept:
            continue
        if kind == "selection":
            condition = None if entry.condition is None else position[entry.condition]
            found.append(replace(entry, tasks=tuple(position[task] for task in entry.tasks), condition=condition))
        elif kind == "same sequence":
            pairs = [
                (position[first], position[second])
                for first, second in zip(entry.first_tasks, entry.second_tasks, strict=True)
                if first in position and second in position
            ]
            if {entry.first_machine, entry.second_machine} <= limited:
                firsts, seconds = tuple(first for first, _ in pairs), tuple(second for _, second in pairs)
                found.append(replace(entry, first_tasks=firsts, second_tasks=seconds))
        elif entry.first in position and entry.second in position:
            found.append(replace(entry, first=position[entry.first], second=position[entry.second]))
    return tuple(found)


def part_in_words(problem: Problem, part: Part, kept: set[Part]) -> list[str]:
    """What a part asks for, one sentence or two; `kept` are the parts that are spoken of beside it."""
    kind, number = part
    if kind == "task":
        return []
    if kind in WINDOWS:
        task = f"{called(problem, number)} (takes {taken(problem, number)})"
        return [window_in_words(kind, getattr(problem.tasks[number], kind), task)]
    if kind in ("release", "deadline"):
        return [date_in_words(problem, number, kind)]
    if kind == "precedence":
        link = problem.precedences[number]
        names = [f"{called(problem, t)} (takes {taken(problem, t)})" for t in (link.first, link.second)]
        words = [lag_in_words(problem, link, "min_lag", *names)]
        if link.max_lag is not None:
            words.append(lag_in_words(problem, link, "max_lag", *names))
        if link.blocking:
            words.append(f"{names[0]} holds its resources until {names[1]} starts")
        return words
    if kind in ENTRIES:
        return [_entry_in_words(problem, kind, number)]
    if kind == "transport":
        return ["moving from resource to resource takes the stated times"]
    if kind == "swap":
        return ["blocked tasks must not change places at one instant"]
    return [_limit_in_words(problem, kind, number, kept)]


def _entry_in_words(problem: Problem, kind: str, number: int) -> str:
    entry = getattr(problem, ENTRIES[kind])[number]
    if kind == "selection":
        when = "" if entry.condition is None else f" if {called(problem, entry.condition)} is carried out"
        rule = entry.rule.replace("-", " ")
        return f"{rule} of {_listed([called(problem, task) for task in entry.tasks])} is carried out{when}"
    if kind == "same sequence":
        machines = [problem.resources[machine].name for machine in (entry.first_machine, entry.second_machine)]
        return f"tasks come in the same order on '{machines[0]}' and '{machines[1]}'"
    first, second = called(problem, entry.first), called(problem, entry.second)
    if kind == "same resources":
        return f"{first} and {second} use {'the same resources' if entry.same else 'no common resource'}"
    if kind == "consecutive":
        return f"{second} comes directly after {first}"
    allowed = _listed([str(mode) for mode in entry.second_modes]) or "none"
    return f"with {first} in mode {entry.first_mode}, {second} is in one of the modes {allowed}"


def _limit_in_words(problem: Problem, kind: str, number: int, kept: set[Part]) -> str:
    """A limit of a resource, with the tasks that it binds."""
    resource = problem.resources[number]
    title = f"'{resource.name}'"
    if kind == "calendar":
        return f"{title} works by its calendar"
    if kind == "set-ups":
        return f"{title} has to be set up between its tasks"
    if kind == "no idle time":
        return f"{title} works without idle time"
    users = []
    for task, found in enumerate(problem.tasks):
        uses = [d.amount for mode in found.modes for d in mode.demands if d.resource == number]
        if uses and (("task", task) in kept or not _dispensable(problem, task)):
            amounts = f"{min(uses)}" if min(uses) == max(uses) else f"{min(uses)} to {max(uses)}"
            unary = isinstance(resource, Machine | State)
            users.append(
                f"{called(problem, task)} ({f'takes {taken(problem, task)}' if unary else f'needs {amounts}'})"
            )
    limits = {
        Machine: "does one task at a time",
        Renewable: f"has a capacity of {getattr(resource, 'capacity', 0)}",
        Consumable: f"has a stock of {getattr(resource, 'capacity', 0)}",
        AddressRange: f"has {getattr(resource, 'size', 0)} addresses",
        State: "is in one state at a time",
    }
    return f"{title} {limits[type(resource)]}: {_listed(users)}"


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
