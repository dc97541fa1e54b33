"""The critical path of a schedule: a chain of tasks without a gap, whose last one ends with the schedule."""

from __future__ import annotations

import numpy as np

from pathloom.schedule.problem import LATEST, Machine, Problem, Renewable
from pathloom.schedule.schedule import Schedule


def critical_tasks(problem: Problem, schedule: Schedule) -> list[int]:
    """Tasks of one critical path, the first one first.

    Each task begins at the very moment when what held it up is over: a predecessor (with its lag and transport), or a
    task that it shares a machine (with its set-up) or a renewable resource with. The path begins with a task that
    nothing holds up.
    """
    present = np.flatnonzero(schedule.present)
    if not len(present):
        return []
    before = _predecessors(problem, schedule)
    users: dict[int, list[tuple[int, int]]] = {}
    for task in present.tolist():
        for demand in problem.tasks[task].modes[schedule.mode[task]].demands:
            if isinstance(problem.resources[demand.resource], Machine | Renewable) and demand.amount:
                users.setdefault(demand.resource, []).append((task, demand.state))
    ends: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for resource, tasks in users.items():
        for task, state in tasks:
            ends.setdefault((resource, int(schedule.departure[task])), []).append((task, state))
    task = int(present[np.argmax(schedule.end[present])])
    path = [task]
    while True:
        held = before.get(task)
        if held is None:
            held = _sharing(problem, schedule, ends, task)
        if held is None or held in path:  # tasks of no duration may wait for each other at one moment
            return path[::-1]
        path.append(held)
        task = held


def _predecessors(problem: Problem, schedule: Schedule) -> dict[int, int]:
    """Task -> a predecessor whose precedence leaves it no room."""
    found: dict[int, int] = {}
    compiled = problem.compiled
    for link in problem.precedences:
        if schedule.mode[link.first] < 0 or schedule.mode[link.second] < 0:
            continue
        event = (schedule.end if link.relation.startswith("end") else schedule.start)[link.first]
        second = (schedule.end if link.relation.endswith("end") else schedule.start)[link.second]
        lag = link.min_lag
        if link.transport:
            lag += _transport(problem, schedule, link.first, link.second)
        longer = compiled.mode_duration[compiled.mode_start[link.first] + schedule.mode[link.first]] > 0
        if second - event == lag and lag < LATEST and (longer or link.second not in found):
            found[link.second] = link.first
    return found


def _transport(problem: Problem, schedule: Schedule, first: int, second: int) -> int:
    places = []
    for task in (first, second):
        demands = problem.tasks[task].modes[schedule.mode[task]].demands
        if not demands:
            return 0
        places.append(demands[0].resource)
    return problem.transport[places[0]][places[1]]


def _sharing(
    problem: Problem, schedule: Schedule, ends: dict[tuple[int, int], list[tuple[int, int]]], task: int
) -> int | None:
    """A task that frees a resource when `task` begins."""
    start = int(schedule.start[task])
    for demand in problem.tasks[task].modes[schedule.mode[task]].demands:
        resource = problem.resources[demand.resource]
        times = {0}
        if isinstance(resource, Machine) and resource.setup:
            times |= {row[demand.state] for row in resource.setup}
        for setup in times:
            for other, state in ends.get((demand.resource, start - setup), []):
                fits = not (isinstance(resource, Machine) and resource.setup)
                fits = fits or resource.setup[state][demand.state] == setup
                if other != task and fits and schedule.start[other] < start:
                    return other
    return None
