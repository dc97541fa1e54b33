"""CP-SAT as an anytime method: what it offers is a schedule, what it proves is true."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job_shops import generated_shop, least_makespan
from small_problems import least_value, problems, random_problem
from stated_shapes import stated_shop

from pathloom.plan import InputError, ProvenInfeasible, clear_stop, request_stop
from pathloom.schedule.check import check_objective, check_schedule
from pathloom.schedule.constraint_model import ConstraintModel
from pathloom.schedule.cp_sat import cp_sat
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Demand, Problem
from pathloom.schedule.schedule import Schedule, objective_values


@given(problems())
@settings(max_examples=40, deadline=None)
def test_schedules_pass_the_checker_and_bounds_are_kept(problem: Problem) -> None:
    incumbent: Incumbent[Schedule] = Incumbent(20.0)
    try:
        cp_sat(problem, incumbent)
    except ProvenInfeasible:
        return
    best = incumbent.best()
    assert best is not None and incumbent.bound is not None
    value, schedule = best
    assert check_schedule(problem, schedule) == []
    assert check_objective(problem, schedule, objective_values(problem, schedule)) == []
    assert value == objective_values(problem, schedule)[0]
    assert incumbent.bound == value


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_proving_closes_a_job_shop(workers: int) -> None:
    shop = generated_shop(3, 4, 5)
    problem = stated_shop(shop)
    incumbent: Incumbent[Schedule] = Incumbent(20.0)
    assert cp_sat(problem, incumbent, workers=workers, proving=True)
    assert incumbent.optimal and incumbent.value == least_makespan(shop)
    assert check_schedule(problem, incumbent.best()[1]) == []


def test_tasks_of_no_length_at_one_instant_come_in_their_order() -> None:
    """Back from the second state takes 5, so that the two cannot change their order at one instant."""
    model = Model()
    booth = model.machine("booth", setup=[[0, 0], [5, 0]])
    for state in (1, 0):
        model.task(0, Demand(booth.position, state=state))
    model.minimise(makespan=1, setup_time=1)
    problem = model.problem()
    incumbent: Incumbent[Schedule] = Incumbent(20.0)
    cp_sat(problem, incumbent)
    best = incumbent.best()
    assert best is not None and check_schedule(problem, best[1]) == []
    assert best[0] == 1 and best[1].start.tolist() == [1, 0], "one unit apart, the other way round"


LATEST = 7


def few_choices(seed: int) -> Problem:
    """Two tasks, no addresses and no idle times, so that every schedule can be tried."""
    problem = random_problem(seed, 2, "machine setup renewable stock state no-idle")
    return replace(problem, tasks=tuple(replace(task, allow_idle=False) for task in problem.tasks))


@given(st.integers(0, 10**6).map(few_choices))
@settings(max_examples=12, deadline=None)
def test_no_schedule_is_better_than_the_one_proven_optimal(problem: Problem) -> None:
    incumbent: Incumbent[Schedule] = Incumbent(20.0)
    try:
        cp_sat(problem, incumbent)
    except ProvenInfeasible:
        assert least_value(problem, LATEST) is None
        return
    tried = least_value(problem, LATEST)
    assert incumbent.value is not None
    best = incumbent.best()
    assert best is not None
    if tried is not None:
        assert incumbent.value <= tried
    if best[1].departure.max(initial=0) <= LATEST:
        assert tried == incumbent.value


def open_shop(jobs: int, machines: int) -> Problem:
    """Every job visits every machine, durations drawn by a simple recurrence."""
    model = Model("shop")
    places = [model.machine() for _ in range(machines)]
    for j in range(jobs):
        job = model.job()
        order = sorted(range(machines), key=lambda m: (j * 7 + m * 13) % 11 + m / 100)
        model.chain(*(model.task(1 + (j * 17 + m * 29) % 23, places[m], job=job) for m in order))
    return model.problem()


def test_deterministic_time_gives_the_same_schedule_again() -> None:
    found = []
    for _ in range(2):
        incumbent: Incumbent[Schedule] = Incumbent(60.0)
        cp_sat(open_shop(8, 6), incumbent, seed=5, workers=1, deterministic_time=0.05)
        best = incumbent.best()
        assert best is not None
        found.append((best[0], best[1].start.tolist(), incumbent.bound))
    assert found[0] == found[1]


def test_values_that_are_held_are_not_exceeded() -> None:
    """By hand a task takes 3 more; only with the two shorter ones done by hand are all over by 7."""
    model = Model()
    saw = model.machine("saw")
    for duration, weight in ((3, 5), (4, 1), (5, 1)):
        model.task(alternatives=[(duration, saw), (duration + 3, ())], job=model.job(weight=weight))
    model.minimise(makespan=1)
    model.minimise(flow=1)
    problem = model.problem()
    first: Incumbent[Schedule] = Incumbent(20.0)
    cp_sat(problem, first)
    assert first.value == first.bound == 7
    second: Incumbent[Schedule] = Incumbent(20.0)
    assert cp_sat(problem, second, held=[7])
    best = second.best()
    assert best is not None and objective_values(problem, best[1]) == (7, 5 * 6 + 7 + 5)
    free: Incumbent[Schedule] = Incumbent(20.0)
    cp_sat(problem, free, held=[8])
    assert free.value == free.bound == 5 * 3 + 7 + 8


def test_a_restricted_search_proves_nothing_about_the_problem() -> None:
    problem = open_shop(3, 3)
    incumbent: Incumbent[Schedule] = Incumbent(20.0)

    def late(stated: ConstraintModel) -> None:
        stated.model.add(stated.start[0] >= 50)

    assert cp_sat(problem, incumbent, restrict=late)
    assert incumbent.bound is None and incumbent.value is not None and incumbent.value > 50

    def never(stated: ConstraintModel) -> None:
        stated.model.add_bool_or([])

    assert cp_sat(problem, incumbent, restrict=never), "no ProvenInfeasible, but nothing is left to look at"


def test_no_schedule_at_all_is_proven() -> None:
    model = Model()
    saw = model.machine("saw")
    for _ in range(3):
        model.task(4, saw, latest_end=11)
    with pytest.raises(ProvenInfeasible):
        cp_sat(model.problem(), Incumbent(20.0))


def test_numbers_too_large_for_64_bits_are_refused() -> None:
    model = Model("heavy")
    for _ in range(2):
        model.task(2**30, job=model.job(weight=2**39))
    model.minimise(flow=1)
    with pytest.raises(InputError, match="heavy: the numbers are too large"):
        cp_sat(model.problem(), Incumbent(20.0))


@pytest.fixture
def stopping() -> Iterator[None]:
    yield
    clear_stop()


@pytest.mark.usefixtures("stopping")
def test_a_stop_ends_it_soon() -> None:
    request_stop()
    began = time.process_time()
    cp_sat(open_shop(12, 10), Incumbent(600.0))
    assert time.process_time() - began < 60
