"""Critical paths: chains without a gap, from a task that nothing holds up to the end of the schedule."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from small_job_shops import job_shops, random_order, slow_schedule
from stated_shapes import stated_shop

from pathloom.schedule.critical import critical_tasks
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Demand
from pathloom.schedule.schedule import Schedule
from pathloom.schedule.shops import JobShop


@given(job_shops(shortest=1).filter(lambda shop: bool((np.diff(shop.job_start) > 0).all())))
@settings(max_examples=40, deadline=None)
def test_the_path_of_a_job_shop_has_no_gap(shop: JobShop) -> None:
    problem = stated_shop(shop)
    start = np.array(slow_schedule(shop, random_order(shop, 2)), np.int64)
    schedule = Schedule.of(start, start + shop.duration)
    path = critical_tasks(problem, schedule)
    assert schedule.end[path[-1]] == schedule.makespan
    for first, second in pairwise(path):
        assert schedule.end[first] == schedule.start[second]
        assert shop.machine[first] == shop.machine[second] or shop.job[first] == shop.job[second]
    assert schedule.start[path[0]] == shop.release[shop.job[path[0]]], "only its release holds the first one up"


def test_a_path_may_begin_with_the_very_first_task() -> None:
    model = Model()
    model.chain(*(model.task(duration) for duration in (3, 2, 4)))
    assert critical_tasks(model.problem(), Schedule.of(np.array([0, 3, 5]), np.array([3, 5, 9]))) == [0, 1, 2]


def test_lags_moves_and_set_ups_belong_to_the_path() -> None:
    model = Model()
    saw = model.machine("saw")
    booth = model.machine("booth", setup=[[0, 4], [9, 0]])
    cut, turn = model.task(3, saw), model.task(2, booth)
    model.precede(cut, turn, min_lag=1, transport=True)
    model.travel(saw, booth, 5)
    problem = model.problem()
    assert critical_tasks(problem, Schedule.of(np.array([0, 9]), np.array([3, 11]))) == [0, 1]
    assert critical_tasks(problem, Schedule.of(np.array([0, 10]), np.array([3, 12]))) == [1], "it waits for nothing"


def test_a_task_that_waits_for_a_set_up_waits_for_the_task_before() -> None:
    model = Model()
    booth = model.machine("booth", setup=[[0, 4], [9, 0]])
    for state in (0, 1):
        model.task(2, Demand(booth.position, state=state))
    problem = model.problem()
    assert critical_tasks(problem, Schedule.of(np.array([0, 6]), np.array([2, 8]))) == [0, 1]
    assert critical_tasks(problem, Schedule.of(np.array([11, 0]), np.array([13, 2]))) == [1, 0]


def test_absent_tasks_are_on_no_path() -> None:
    model = Model()
    model.task(3, optional=True)
    absent = Schedule.of(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([-1], np.int32))
    assert critical_tasks(model.problem(), absent) == []


def test_tasks_of_no_length_do_not_lead_round_in_circles() -> None:
    model = Model()
    crew = model.renewable("crew", 2)
    first, second = model.task(0, crew), model.task(0, crew)
    model.precede(first, second)
    model.precede(second, first)
    last = model.task(4, crew)
    model.precede(first, last)
    path = critical_tasks(model.problem(), Schedule.of(np.array([0, 0, 0]), np.array([0, 0, 4])))
    assert path[-1] == 2 and len(set(path)) == len(path)
