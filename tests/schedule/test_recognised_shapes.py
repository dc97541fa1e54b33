"""Which problems are job shops, flexible shops and projects, and the way from their solutions to schedules and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from small_flexible_shops import tiny_shops
from small_job_shops import job_shops, random_order, slow_schedule
from small_problems import problems
from small_projects import plain_serial, projects, random_list
from stated_shapes import stated_flexible_shop, stated_project, stated_shop

from pathloom.schedule.check import check_schedule
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Calendar, Consumable, Criterion, Job, Machine, Problem, Renewable, Selection
from pathloom.schedule.recognised_shapes import as_flexible_shop, as_job_shop, as_project, recognised_shape
from pathloom.schedule.shops import FlexibleShop, JobShop, Project


def same(first: Any, second: Any, names: str) -> None:
    for name in names.split():
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


SHOP = "job_start machine duration release machines"


@given(job_shops().filter(lambda shop: bool((np.diff(shop.job_start) > 0).all())))
@settings(max_examples=30, deadline=None)
def test_a_job_shop_is_one_and_its_schedules_are_schedules(shop: JobShop) -> None:
    problem = stated_shop(shop)
    view = as_job_shop(problem)
    assert view is not None
    same(view, shop, SHOP)
    start = np.array(slow_schedule(shop, random_order(shop, 1)), np.int64)
    shape = recognised_shape(problem)
    assert shape is not None and shape.name == "job shop"
    schedule = shape.schedule(start)
    assert check_schedule(problem, schedule) == []
    assert schedule.makespan == int((start + shop.duration).max())
    assert shape.solution(schedule).tolist() == start.tolist()


@given(tiny_shops().filter(lambda shop: bool((np.diff(shop.job_start) > 0).all())))
@settings(max_examples=30, deadline=None)
def test_a_flexible_shop_is_one(shop: FlexibleShop) -> None:
    problem = stated_flexible_shop(shop)
    if (np.diff(shop.alternative_start) == 1).all():
        assert as_job_shop(problem) is not None and as_flexible_shop(problem) is None
        return
    view = as_flexible_shop(problem)
    assert view is not None and as_job_shop(problem) is None
    same(view, shop, "job_start alternative_start alternative_machine alternative_duration release machines")
    shape = recognised_shape(problem)
    assert shape is not None and shape.name == "flexible job shop"
    chosen = (shop.alternative_start[1:] - 1).astype(np.int32)  # one operation after the other, in the last mode
    ends = np.cumsum(shop.alternative_duration[chosen]) + int(shop.release.max())
    start = ends - shop.alternative_duration[chosen]
    schedule = shape.schedule((chosen, start))
    assert check_schedule(problem, schedule) == []
    again = shape.solution(schedule)
    assert again[0].tolist() == chosen.tolist() and again[1].tolist() == start.tolist()


@given(projects(modes=2))
@settings(max_examples=30, deadline=None)
def test_a_project_is_one(project: Project) -> None:
    problem = stated_project(project)
    view = as_project(problem)
    assert view is not None
    same(view, project, "successor_start successor mode_start mode_duration renewable renewable_capacity release")
    same(view, project, "consumable consumable_capacity")
    shape = recognised_shape(problem)
    assert shape is not None and shape.name == ("project" if project.single_mode else "multi-mode project")
    mode = project.mode_start[:-1]
    start = np.array(plain_serial(project, random_list(project, 3).tolist(), mode.tolist()), np.int64)
    schedule = shape.schedule((mode, start))
    rules = {violation.rule for violation in check_schedule(problem, schedule)}
    assert rules <= {"stock"}, "the first modes may take too much of a stock"
    again = shape.solution(schedule)
    assert again[0].tolist() == mode.tolist() and again[1].tolist() == start.tolist()


ROWS = [[(0, 2), (1, 3)], [(1, 1), (0, 4)]]


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"blocking": True}, "blocking job shop"),
        ({"blocking": True, "swap": False}, "blocking job shop without swaps"),
        ({"no_wait": True}, "no-wait job shop"),
    ],
)
def test_flags_of_a_shop_are_seen(flags: dict[str, bool], name: str) -> None:
    problem = stated_shop(replace(JobShop.from_rows(ROWS), **flags))
    shape = recognised_shape(problem)
    assert shape is not None and shape.name == name


def test_a_blocked_task_leaves_when_the_next_one_starts() -> None:
    problem = stated_shop(replace(JobShop.from_rows(ROWS), blocking=True))
    shape = recognised_shape(problem)
    assert shape is not None
    schedule = shape.schedule(np.array([0, 5, 2, 6]))
    assert schedule.departure.tolist() == [5, 8, 6, 10]


CLASSIC = stated_shop(JobShop.from_rows(ROWS))
TASK = CLASSIC.tasks[0]


@pytest.mark.parametrize(
    "change",
    [
        {"objective": ((Criterion("flow"),),)},
        {"objective": ((Criterion(),), (Criterion("cost"),))},
        {"objective": ((Criterion("makespan", 2),),)},
        {"tasks": (replace(TASK, optional=True), *CLASSIC.tasks[1:])},
        {"tasks": (replace(TASK, latest_end=99), *CLASSIC.tasks[1:])},
        {"tasks": (replace(TASK, earliest_end=9), *CLASSIC.tasks[1:])},
        {"tasks": (replace(TASK, allow_idle=True), *CLASSIC.tasks[1:])},
        {"jobs": (Job(deadline=50), Job())},
        {"precedences": (replace(CLASSIC.precedences[0], min_lag=1), *CLASSIC.precedences[1:])},
        {"precedences": (replace(CLASSIC.precedences[0], max_lag=4), *CLASSIC.precedences[1:])},
        {"precedences": (replace(CLASSIC.precedences[0], relation="start-start"), *CLASSIC.precedences[1:])},
        {"resources": (Machine("a", Calendar.with_breaks([(3, 4)])), Machine("b"))},
        {"resources": (Machine("a", no_idle=True), Machine("b"))},
        {"resources": (Machine("a", setup=((1,),)), Machine("b"))},
        {"resources": (Machine("a"), Consumable("b", 9, ((3, 1),)))},
        {"transport": ((0, 1), (1, 0))},
        {"selections": (Selection("at-least-one", (0,)),)},
    ],
)
def test_what_a_shape_cannot_say_keeps_a_problem_from_being_one(change: dict[str, Any]) -> None:
    assert recognised_shape(replace(CLASSIC, **change)) is None


def test_some_shops_are_projects_only() -> None:
    late = replace(CLASSIC, tasks=(TASK, replace(CLASSIC.tasks[1], earliest_start=9), *CLASSIC.tasks[2:]))
    assert as_job_shop(late) is None and as_project(late) is not None, "the second task of a job has a release"
    crew = replace(CLASSIC, resources=(Machine("a"), Renewable("b", 2)))
    assert as_project(crew) is not None


def test_precedences_in_a_circle_are_no_project() -> None:
    model = Model()
    crew = model.renewable("crew", 2)
    tasks = [model.task(0, crew) for _ in range(3)]
    model.chain(*tasks, tasks[0])
    assert recognised_shape(model.problem()) is None


def test_tasks_of_no_length_on_machines_are_no_project() -> None:
    """In a project such a task may be inside another one, on a machine it must not."""
    model = Model()
    saw, crew = model.machine("saw"), model.renewable("crew", 2)
    model.task(5, saw)
    model.chain(model.task(2, crew), model.task(0, saw), model.task(2, crew))
    assert recognised_shape(model.problem()) is None


@given(problems())
@settings(max_examples=60, deadline=None)
def test_recognising_never_fails(problem: Problem) -> None:
    shape = recognised_shape(problem)
    assert shape is None or len(shape.task) == len(problem.tasks)
