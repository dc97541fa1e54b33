"""Small random problems with parts of every kind, and their best value by trying every schedule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import numpy as np
from hypothesis import strategies as st

from pathloom.schedule.check import check_schedule
from pathloom.schedule.problem import (
    MEASURES,
    RELATIONS,
    SELECTION_RULES,
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
    Precedence,
    Problem,
    Renewable,
    Resource,
    SameResources,
    Selection,
    State,
    Task,
)
from pathloom.schedule.schedule import Schedule, objective_values

TWO_STATES = 2


def random_problem(
    seed: int, tasks: int = 5, kinds: str = "machine setup renewable stock range state no-idle"
) -> Problem:
    """Up to `tasks` tasks on up to three resources; often, but not always, there is a schedule."""
    draw = random.Random(seed)
    resources = [_resource(draw, f"r{number}", draw.choice(kinds.split())) for number in range(draw.randint(1, 3))]
    jobs = tuple(
        Job("", draw.randint(0, 3), draw.choice([None, draw.randint(4, 15)]), None, draw.randint(1, 3)) for _ in "ab"
    )
    count = draw.randint(2, tasks)
    made = []
    for _ in range(count):
        modes = tuple(_mode(draw, resources) for _ in range(draw.choice([1, 1, 2])))
        made.append(
            Task(
                modes,
                draw.choice([None, 0, 1]),
                optional=draw.random() < 0.25,
                earliest_start=draw.choice([0, 0, 2]),
                latest_end=draw.choice([None, None, 25]),
                allow_breaks=draw.random() < 0.5,
                allow_idle=draw.random() < 0.2,
            )
        )
    links = []
    for first, second in ((a, b) for a in range(count) for b in range(a + 1, count)):
        if draw.random() < 0.3:
            relation = draw.choice(RELATIONS)
            flags = [relation == "end-start" and draw.random() < 0.3 for _ in range(2)]
            links.append(
                Precedence(first, second, relation, draw.choice([0, 0, 1]), draw.choice([None, None, 6]), *flags)
            )
    loose = [number for number, task in enumerate(made) if task.optional]
    selections = ()
    if loose and draw.random() < 0.6:
        selections = (Selection(draw.choice(SELECTION_RULES), tuple(loose), draw.choice([None, 0])),)
    transport = tuple(
        tuple(0 if a == b else draw.randint(0, 2) for b in range(len(resources))) for a in range(len(resources))
    )
    same = (SameResources(0, 1, draw.random() < 0.5),) if draw.random() < 0.2 else ()
    return Problem(
        tuple(made),
        tuple(resources),
        jobs,
        tuple(links),
        selections,
        same,
        (Consecutive(0, 1),) if draw.random() < 0.2 else (),
        (),
        (ModeDependency(0, 0, 1, (0,)),) if draw.random() < 0.2 else (),
        ((Criterion(draw.choice(MEASURES)), Criterion(draw.choice(MEASURES), 2)),),
        transport,
        draw.random() < 0.5,
    )


def _resource(draw: random.Random, name: str, kind: str) -> Resource:
    setup = tuple(tuple(0 if a == b else draw.randint(0, 3) for b in range(TWO_STATES)) for a in range(TWO_STATES))
    clock = draw.choice(
        [
            Calendar(),
            Calendar.with_breaks([(draw.randint(2, 5), draw.randint(6, 8))]),
            Calendar(((3, 50), (9, 200))),
        ]
    )
    match kind:
        case "machine":
            return Machine(name, clock)
        case "setup":
            return Machine(name, Calendar(), setup, draw.choice([None, 0, 1]))
        case "no-idle":
            return Machine(name, no_idle=True)
        case "renewable":
            return Renewable(name, draw.randint(1, 4), clock)
        case "stock":
            supplies = ((draw.randint(1, 5), draw.randint(1, 3)),) if draw.random() < 0.5 else ()
            return Consumable(name, draw.randint(2, 8), supplies)
        case "range":
            return AddressRange(name, draw.randint(2, 6))
        case _:
            return State(name, setup, draw.choice([None, 0]))


def _mode(draw: random.Random, resources: list[Resource]) -> Mode:
    demands = []
    ranged = False
    for position, resource in enumerate(resources):
        if draw.random() > 0.6:
            continue
        if isinstance(resource, Machine):
            demands.append(Demand(position, state=draw.randint(0, 1) if resource.setup else 0))
        elif isinstance(resource, State):
            demands.append(Demand(position, state=draw.randint(0, 1)))
        elif isinstance(resource, Renewable):
            part = (draw.randint(0, 1), draw.randint(2, 3)) if draw.random() < 0.4 else (0, None)
            demands.append(Demand(position, draw.randint(0, resource.capacity), *part))
        elif isinstance(resource, Consumable):
            demands.append(Demand(position, draw.randint(-1, 2)))
        elif not ranged:
            ranged = True
            demands.append(Demand(position, draw.randint(1, max(1, resource.size - 1))))
    return Mode(draw.randint(0, 4), tuple(demands), draw.randint(0, 5))


def problems(tasks: int = 5) -> st.SearchStrategy[Problem]:
    """Random problems for Hypothesis."""
    return st.integers(0, 2**32 - 1).map(lambda seed: random_problem(seed, tasks))


def schedules(problem: Problem, latest: int) -> Iterator[Schedule]:
    """Every feasible schedule in which tasks end by `latest`; for problems without addresses and idle times."""
    options = [list(_options(problem, number, latest)) for number in range(len(problem.tasks))]
    for chosen in product(*options):
        mode = np.array([option[0] for option in chosen], np.int32)
        start, end = (np.array([option[i] for option in chosen], np.int64) for i in (1, 2))
        schedule = Schedule.of(start, end, mode, _departures(problem, start, end, mode))
        if not check_schedule(problem, schedule):
            yield schedule


def _options(problem: Problem, number: int, latest: int) -> Iterator[tuple[int, int, int]]:
    """Mode, start and end of a task."""
    task = problem.tasks[number]
    if task.optional:
        yield -1, 0, 0
    for position, mode in enumerate(task.modes):
        used = [problem.resources[demand.resource] for demand in mode.demands]
        timed = any(isinstance(r, Machine | Renewable) and r.calendar.changes for r in used)
        for start in range(latest + 1):
            for end in range(start, latest + 1):
                # At twice the speed at most; whatever else the times must be the checker says.
                if (end - start == mode.duration) if not timed else (2 * (end - start) >= mode.duration):
                    yield position, start, end


def _departures(problem: Problem, start: np.ndarray, end: np.ndarray, mode: np.ndarray) -> np.ndarray:
    departure = end.copy()
    for link in problem.precedences:
        if link.blocking and mode[link.first] >= 0 and mode[link.second] >= 0:
            places = [problem.tasks[t].modes[mode[t]].demands for t in (link.first, link.second)]
            move = problem.transport[places[0][0].resource][places[1][0].resource] if all(places) else 0
            leaves = start[link.second] - (move if link.transport else 0)
            departure[link.first] = max(departure[link.first], leaves)
    return departure


def least_value(problem: Problem, latest: int) -> int | None:
    """Best value of the first level over all schedules that end by `latest`; None if there are none."""
    return min((objective_values(problem, schedule)[0] for schedule in schedules(problem, latest)), default=None)
