"""Conflicts that need no search: demands above capacities, stocks, circles of times."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.model import Model
from pathloom.schedule.obvious_conflicts import obvious_conflict
from pathloom.schedule.problem import Calendar, Demand, Mode, Precedence, Problem, Task


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_problem_that_has_a_schedule_has_no_conflict(seed: int) -> None:
    assert obvious_conflict(draw_draft(np.random.default_rng(seed), 3).problem()) == []


def test_a_demand_above_the_capacity_in_every_mode() -> None:
    model = Model()
    crew, sram = model.renewable("crew", 2), model.address_range("sram", 8)
    model.task(alternatives=[(3, [(crew, 3)]), (5, [(sram, 9)])], name="lift")
    assert obvious_conflict(model.problem()) == [
        "'lift' needs 3 of 'crew', whose capacity is 2",
        "'lift' needs 9 addresses of 'sram', which has 8",
    ]


def test_a_way_out_is_no_conflict() -> None:
    model = Model()
    crew = model.renewable("crew", 2)
    model.task(alternatives=[(3, [(crew, 3)]), (9, [(crew, 2)])])
    model.task(3, [(crew, 7)], optional=True)
    model.task(0, [(crew, 7)])  # at no time
    model.task(2, [Demand(crew.position, 9, 5, 8)])  # over before it would need them
    assert obvious_conflict(model.problem()) == []


def test_parts_of_a_profile_add_up_where_they_overlap() -> None:
    model = Model()
    crew = model.renewable("crew", 3)
    model.task(6, [Demand(0, 2, 0, 3), Demand(0, 2, 3, 6)], name="apart")
    assert obvious_conflict(model.problem()) == []
    model.task(6, [Demand(crew.position, 2, 0, 4), Demand(crew.position, 2, 3, 6)], name="together")
    assert obvious_conflict(model.problem()) == ["'together' needs 4 of 'crew', whose capacity is 3"]


def test_with_twice_the_speed_a_late_part_may_not_come() -> None:
    model = Model()
    model.renewable("crew", 3, calendar=Calendar(((0, 200),)))
    model.task(6, [Demand(0, 2), Demand(0, 2, 5, 6)])
    assert obvious_conflict(model.problem()) == []


def test_a_stock_that_is_too_small_names_the_tasks_that_use_it_up() -> None:
    model = Model()
    paint = model.consumable("paint", 4, [(7, 3)])
    for name, amount in (("door", 4), ("frame", 1), ("table", 5), ("drum", -1)):
        model.task(1, [(paint, amount)], name=name)
    assert obvious_conflict(model.problem()) == [
        "the stock 'paint' has 8 in all",
        "'table' needs at least 5 of 'paint'",
        "'door' needs at least 4 of 'paint'",
    ]


def test_a_window_that_is_too_short() -> None:
    model = Model()
    model.task(4, name="cut", earliest_start=3, latest_end=6)
    assert obvious_conflict(model.problem()) == [
        "'cut' (takes 4) starts at 3 or later",
        "'cut' ends by 6",
    ]


def test_release_and_deadline_of_a_job() -> None:
    model = Model()
    job = model.job("door", release=3, deadline=9)
    model.chain(*(model.task(4, job=job, name=name) for name in ("cut", "paint")))
    model.task(4, job=job, name="pack")
    assert obvious_conflict(model.problem()) == [
        "job 'door' is released at 3",
        "'door.cut' (takes 4) ends before 'door.paint' (takes 4) starts",
        "job 'door' has the deadline 9",
    ]


def test_a_circle_of_precedences() -> None:
    model = Model()
    tasks = [model.task(duration, name=name) for duration, name in ((1, "a"), (2, "b"), (0, "c"), (5, "d"))]
    model.chain(*tasks[:3], tasks[0])
    model.precede(tasks[2], tasks[3])
    found = obvious_conflict(model.problem())
    assert len(found) == 3
    assert {"'c' ends before 'a' (takes 1) starts", "'c' ends before 'a' starts"} & set(found)
    assert not any("'d'" in sentence for sentence in found)


def test_a_circle_of_tasks_that_take_no_time_is_none() -> None:
    model = Model()
    tasks = [model.task(0) for _ in range(3)]
    model.chain(*tasks, tasks[0])
    assert obvious_conflict(model.problem()) == []


def test_a_maximal_lag_that_work_between_exceeds() -> None:
    model = Model()
    first, middle, last = (model.task(5, name=name) for name in ("a", "b", "c"))
    model.chain(first, middle, last)
    model.precede(first, last, max_lag=4)
    assert obvious_conflict(model.problem()) == [
        "'a' ends before 'b' (takes 5) starts",
        "'b' ends before 'c' starts",
        "'c' starts at most 4 after 'a' ends",
    ]
    assert obvious_conflict(replace(model.problem(), precedences=model.problem().precedences[:-1])) == []


def test_tasks_that_may_be_left_out_are_in_no_conflict() -> None:
    model = Model()
    first, second = model.task(1), model.task(1, optional=True)
    model.chain(first, second, first)
    model.task(4, latest_end=3, optional=True)
    assert obvious_conflict(model.problem()) == []


def test_moves_count_only_where_every_choice_of_machines_needs_them() -> None:
    model = Model()
    saw, lathe = model.machine("saw"), model.machine("lathe")
    first, second = model.task(2, saw), model.task(2, lathe, latest_end=6)
    model.chain(first, second, transport=True)
    model.travel(saw, lathe, 3)
    assert len(obvious_conflict(model.problem())) == 2
    model.mode(second, 2, saw)
    assert obvious_conflict(model.problem()) == []


@st.composite
def systems(draw: st.DrawFn) -> Problem:
    """Tasks with windows and lags of every kind, no resources: a system of differences and nothing else."""
    number = st.integers
    count = draw(number(1, 6))
    tasks = [
        Task(
            task.modes,
            earliest_start=draw(number(0, 6)),
            latest_end=draw(st.none() | number(0, 25)),
            latest_start=draw(st.none() | number(0, 25)),
        )
        for task in (_of(draw(number(0, 5))) for _ in range(count))
    ]
    links = []
    for _ in range(draw(number(0, 8)) if count > 1 else 0):
        first, second = draw(st.permutations(range(count)))[:2]
        least = draw(number(-4, 4))
        most = draw(st.none() | number(least, least + 5))
        relation = draw(st.sampled_from(["end-start", "start-start", "end-end", "start-end"]))
        links.append(Precedence(first, second, relation, least, most))
    return Problem(tuple(tasks), precedences=tuple(links))


def _of(duration: int) -> Task:
    return Task((Mode(duration),))


def solvable(problem: Problem) -> bool:
    """By the lack of negative cycles in the graph of differences, which networkx looks for."""
    graph = nx.MultiDiGraph()
    graph.add_node("zero")

    def at_least(first: object, second: object, least: int) -> None:
        graph.add_edge(first, second, weight=-least)

    for number, task in enumerate(problem.tasks):
        duration = task.modes[0].duration
        at_least("zero", (number, "start"), task.earliest_start)
        at_least((number, "start"), (number, "end"), duration)
        at_least((number, "end"), (number, "start"), -duration)
        if task.latest_start is not None:
            at_least((number, "start"), "zero", -task.latest_start)
        if task.latest_end is not None:
            at_least((number, "end"), "zero", -task.latest_end)
    for link in problem.precedences:
        first, second = (link.first, link.relation.split("-")[0]), (link.second, link.relation.split("-")[1])
        at_least(first, second, link.min_lag)
        if link.max_lag is not None:
            at_least(second, first, -link.max_lag)
    return not nx.negative_edge_cycle(graph)


@given(systems())
@settings(max_examples=60, deadline=None)
def test_a_system_of_times_without_a_solution_is_always_found(problem: Problem) -> None:
    assert (obvious_conflict(problem) == []) == solvable(problem)


def test_a_long_chain_against_its_numbering() -> None:
    model = Model()
    tasks = [model.task(1) for _ in range(1000)]
    model.chain(*reversed(tasks))
    assert obvious_conflict(model.problem()) == []
    model.precede(tasks[-1], tasks[0], max_lag=997)
    assert len(obvious_conflict(model.problem())) == 1000
