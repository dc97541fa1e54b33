"""Why a problem has no schedule, by arguments that need no search: demands above capacities, stocks, circles of times.

What must happen when is a system of differences, ``event + distance <= other event``: durations, lags and windows of
the tasks that cannot be left out. It has a solution exactly if no circle of it is longer than 0 (R. Bellman, "On a
routing problem", Quarterly of Applied Mathematics 16, 1958), and a circle that is longer is a smallest conflict:
without any one of its parts the others could be kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pathloom.schedule.compiled import Compiled
from pathloom.schedule.problem import (
    LATEST,
    AddressRange,
    Consumable,
    Machine,
    Mode,
    Precedence,
    Problem,
    Renewable,
)

PATIENCE = 2.0
"""Seconds after which the search for a circle is given up."""


def obvious_conflict(problem: Problem) -> list[str]:
    """A smallest set of constraints that cannot hold together, in words; empty if these arguments find none.

    Takes milliseconds for problems without windows, deadlines and maximal lags whose precedences lead to later tasks.
    """
    return _demands(problem) or _stocks(problem) or _circle(problem)


def called(problem: Problem, task: int) -> str:
    """A task's name in quotes, with that of its job where it has one of its own."""
    found = problem.tasks[task]
    name = problem.task_name(task)
    return f"'{problem.job_name(found.job)}.{name}'" if found.name and found.job is not None else f"'{name}'"


# Demands and stocks


def _demands(problem: Problem) -> list[str]:
    """A task all of whose modes need more of a resource than there is."""
    compiled = problem.compiled
    pairs = compiled.demand_mode.astype(np.int64) * max(1, len(problem.resources)) + compiled.demand_resource
    suspicious = compiled.demand_amount > compiled.capacity[compiled.demand_resource]
    modes = set(compiled.demand_mode[suspicious].tolist())
    if len(np.unique(pairs)) < len(pairs):  # parts of a profile may add up
        modes |= set(compiled.demand_mode.tolist())
    for task in dict.fromkeys(compiled.mode_task[sorted(modes)].tolist()):
        found = problem.tasks[task]
        reasons = [_excess(problem, mode) for mode in found.modes]
        if not found.optional and all(reasons):
            return [f"{called(problem, task)} needs {reason}" for reason in dict.fromkeys(reasons)]
    return []


def _excess(problem: Problem, mode: Mode) -> str:
    """What the mode needs more of than there is; empty if nothing."""
    timed = any(
        isinstance(resource, Machine | Renewable) and resource.calendar.changes
        for resource in (problem.resources[demand.resource] for demand in mode.demands)
    )
    for demand in mode.demands:
        resource = problem.resources[demand.resource]
        if isinstance(resource, AddressRange) and demand.amount > resource.size:
            return f"{demand.amount} addresses of '{resource.name}', which has {resource.size}"
        # With calendars a task may be over before a later part of its profile begins.
        if not isinstance(resource, Renewable) or demand.start >= (1 if timed and mode.duration else mode.duration):
            continue
        amount = sum(
            other.amount
            for other in mode.demands
            if other.resource == demand.resource
            and other.start <= demand.start
            and (other.end is None or other.end > demand.start)
        )
        if amount > resource.capacity:
            return f"{amount} of '{resource.name}', whose capacity is {resource.capacity}"
    return ""


def _stocks(problem: Problem) -> list[str]:
    """Tasks that need more of a stock than it ever gets."""
    for position, resource in enumerate(problem.resources):
        if not isinstance(resource, Consumable):
            continue
        stock = resource.capacity + sum(amount for _, amount in resource.supplies)
        least: dict[int, int] = {}
        for number, task in enumerate(problem.tasks):
            amounts = [sum(d.amount for d in mode.demands if d.resource == position) for mode in task.modes]
            stock += max(0, -min(amounts))
            if not task.optional and min(amounts) > 0:
                least[number] = min(amounts)
        if sum(least.values()) <= stock:
            continue
        words, left = [f"the stock '{resource.name}' has {stock} in all"], stock
        for number in sorted(least, key=lambda task: -least[task]):  # the largest ones: each of them is needed
            words.append(f"{called(problem, number)} needs at least {least[number]} of '{resource.name}'")
            left -= least[number]
            if left < 0:
                return words
    return []


# Times


@dataclass(frozen=True)
class _Distance:
    """``event[origin] + least <= event[goal]`` and where it comes from: a field, and a task or precedence."""

    origin: int
    goal: int
    least: int
    field: str
    number: int


def _circle(problem: Problem) -> list[str]:
    compiled = problem.compiled
    needed = ~compiled.optional
    limited = ((compiled.latest_start < LATEST) | (compiled.latest_end < LATEST)) & needed
    if not (limited.any() or (compiled.max_lag < LATEST).any() or (compiled.first >= compiled.second).any()):
        return []
    circle = _positive_circle(_order(compiled), _distances(problem))
    return _in_words(problem, circle)


def _distances(problem: Problem) -> list[_Distance]:
    """Events: start of task t is 2 t, its end 2 t + 1, and the beginning of time comes last."""
    compiled = problem.compiled
    zero = 2 * len(problem.tasks)
    found: list[_Distance] = []
    for number, task in enumerate(problem.tasks):
        if task.optional:
            continue
        start, end = 2 * number, 2 * number + 1
        modes = range(compiled.mode_start[number], compiled.mode_start[number + 1])
        durations = [int(compiled.mode_duration[mode]) for mode in modes]
        clocks = [
            resource.calendar.changes
            for mode in task.modes
            for resource in (problem.resources[demand.resource] for demand in mode.demands)
            if isinstance(resource, Machine | Renewable)
        ]
        fast = max((speed for changes in clocks for _, speed in changes), default=100)
        shortest = min(durations) if fast <= 100 else -(-min(durations) * 100 // fast)
        found.append(_Distance(start, end, shortest, "duration", number))
        if not task.allow_idle and not any(clocks):
            found.append(_Distance(end, start, -max(durations), "duration", number))
        found.append(_Distance(zero, start, int(compiled.earliest_start[number]), "earliest_start", number))
        if task.earliest_end:
            found.append(_Distance(zero, end, task.earliest_end, "earliest_end", number))
        for event, field in ((start, "latest_start"), (end, "latest_end")):
            latest = int(getattr(compiled, field)[number])
            if latest < LATEST:
                found.append(_Distance(event, zero, -latest, field, number))
    for number, link in enumerate(problem.precedences):
        if problem.tasks[link.first].optional or problem.tasks[link.second].optional:
            continue
        first = 2 * link.first + link.relation.startswith("end")
        second = 2 * link.second + link.relation.endswith("end")
        moves = _moves(problem, link)
        found.append(_Distance(first, second, link.min_lag + min(moves), "min_lag", number))
        if link.max_lag is not None:
            found.append(_Distance(second, first, -link.max_lag - max(moves), "max_lag", number))
    return found


def _order(compiled: Compiled) -> list[int]:
    """All events: the beginning of time, then those of the tasks, each after its predecessors unless in a circle."""
    count = len(compiled.job)
    after: list[list[int]] = [[] for _ in range(count)]
    waits = [0] * count
    for first, second in zip(compiled.first.tolist(), compiled.second.tolist(), strict=True):
        after[first].append(second)
        waits[second] += 1
    tasks = [task for task in range(count) if not waits[task]]
    for task in tasks:
        for following in after[task]:
            waits[following] -= 1
            if not waits[following]:
                tasks.append(following)
    tasks += [task for task in range(count) if waits[task] > 0]
    return [2 * count, *(event for task in tasks for event in (2 * task, 2 * task + 1))]


def _moves(problem: Problem, link: Precedence) -> list[int]:
    """Transport times between the places where the two tasks may be."""
    if not link.transport:
        return [0]
    places = [
        [mode.demands[0].resource if mode.demands else None for mode in problem.tasks[task].modes]
        for task in (link.first, link.second)
    ]
    return [
        0 if here is None or there is None else problem.transport[here][there]
        for here in places[0]
        for there in places[1]
    ]


def _positive_circle(order: list[int], distances: list[_Distance]) -> list[_Distance]:
    """Distances of a circle that add up to more than 0; empty if there is none, or none was found in time.

    `order` is in which order events are looked at first; the last one in number is the beginning of time.

    Longest paths by labels: an event that moves puts those that wait for it into a queue; a circle in which each event
    was last moved by the one before it is longer than 0.
    """
    events, began = len(order), time.monotonic()
    away: list[list[int]] = [[] for _ in range(events)]
    for number, distance in enumerate(distances):
        away[distance.origin].append(number)
    zero = events - 1
    value = [0] * events
    moved_by = [-1] * events
    queue = deque(order)
    waiting = [True] * events
    steps, look = 0, events
    while queue:
        event = queue.popleft()
        waiting[event] = False
        for number in away[event]:
            distance = distances[number]
            steps += 1
            if value[event] + distance.least <= value[distance.goal]:
                continue
            value[distance.goal] = value[event] + distance.least
            moved_by[distance.goal] = number
            if distance.goal == zero:
                return _back(distances, moved_by, zero)
            if not waiting[distance.goal]:
                waiting[distance.goal] = True
                queue.append(distance.goal)
        if steps >= look:
            circle = _moved_in_a_circle(distances, moved_by)
            if circle or time.monotonic() - began > PATIENCE:
                return circle
            look = steps + events + len(distances)
    return []


def _back(distances: list[_Distance], moved_by: list[int], event: int) -> list[_Distance]:
    """The circle that following `moved_by` from an event leads into; empty if it leads to an event that never moved."""
    seen: dict[int, int] = {}
    path: list[_Distance] = []
    while event not in seen:
        if moved_by[event] < 0:
            # It stands where it began, at the beginning of time, which began the walk as well if it is the last event.
            return path[::-1] if path and path[0].goal == len(moved_by) - 1 else []
        seen[event] = len(path)
        path.append(distances[moved_by[event]])
        event = path[-1].origin
    return path[seen[event] :][::-1]


def _moved_in_a_circle(distances: list[_Distance], moved_by: list[int]) -> list[_Distance]:
    state = [0] * len(moved_by)
    for root in range(len(moved_by)):
        event, trail = root, []
        while state[event] == 0 and moved_by[event] >= 0:
            state[event] = 1
            trail.append(event)
            event = distances[moved_by[event]].origin
        if state[event] == 1 and event in trail:
            return _back(distances, moved_by, event)
        for passed in trail:
            state[passed] = 2
    return []


# Words


def _in_words(problem: Problem, parts: list[_Distance]) -> list[str]:
    lasting = {d.number for d in parts if d.field == "duration"}
    words: list[str] = []
    mentioned: set[int] = set()

    def name(task: int) -> str:
        if task in lasting and task not in mentioned:
            mentioned.add(task)
            return f"{called(problem, task)} (takes {taken(problem, task)})"
        return called(problem, task)

    for part in parts:
        if part.field == "duration" or (part.field == "earliest_start" and not part.least):
            continue
        if part.field in ("min_lag", "max_lag"):
            link = problem.precedences[part.number]
            words.append(lag_in_words(problem, link, part.field, name(link.first), name(link.second)))
        else:
            words.append(_bound_in_words(problem, part, name))
    words += [
        f"{called(problem, task)} takes {taken(problem, task)}" for task in sorted(lasting) if task not in mentioned
    ]
    return list(dict.fromkeys(words))


def taken(problem: Problem, task: int) -> str:
    """Processing times of a task."""
    durations = sorted({mode.duration for mode in problem.tasks[task].modes})
    return str(durations[0]) if len(durations) == 1 else f"{durations[0]} to {durations[-1]}"


def window_in_words(field: str, date: int, task: str) -> str:
    """A window of a task: ``earliest_start``, ``latest_end`` and so on."""
    verb = "starts" if field.endswith("start") else "ends"
    return f"{task} {verb} {f'at {date} or later' if field.startswith('earliest') else f'by {date}'}"


def date_in_words(problem: Problem, job: int, field: str) -> str:
    """The release or deadline of a job."""
    found = problem.jobs[job]
    when = f"is released at {found.release}" if field == "release" else f"has the deadline {found.deadline}"
    return f"job '{problem.job_name(job)}' {when}"


def _bound_in_words(problem: Problem, bound: _Distance, name: Callable[[int], str]) -> str:
    """A window of a task, or the release or deadline of its job where that is what binds."""
    task, date = problem.tasks[bound.number], abs(bound.least)
    if task.job is not None and bound.field == "earliest_start" and task.earliest_start < date:
        return date_in_words(problem, task.job, "release")
    if task.job is not None and bound.field == "latest_end" and task.latest_end != date:
        return date_in_words(problem, task.job, "deadline")
    return window_in_words(bound.field, date, name(bound.number))


def lag_in_words(problem: Problem, link: Precedence, field: str, first: str, second: str) -> str:
    """The least or greatest time between two tasks."""
    before = "ends" if link.relation.startswith("end") else "starts"
    after = "ends" if link.relation.endswith("end") else "starts"
    move = " and the way there" if link.transport else ""
    if field == "max_lag":
        lag = link.max_lag or 0
        return f"{second} {after} at most {lag}{move} after {first} {before}"
    if link.min_lag == 0 and not move:
        return f"{first} {before} before {second} {after}"
    return f"{second} {after} at least {link.min_lag}{move} after {first} {before}"
