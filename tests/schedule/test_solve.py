"""One call for every problem: each shape, levels, proofs, time limits, schedules to begin with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flexible_shops import random_shop
from small_job_shops import generated_shop, least_makespan
from small_problems import random_problem
from small_projects import project, projects
from stated_shapes import stated_flexible_shop, stated_project, stated_shop

from pathloom.plan import InputError, NoPlanFound, Progress, ProvenInfeasible, clear_stop, request_stop
from pathloom.schedule.check import check_objective, check_schedule
from pathloom.schedule.conflicts import conflicting_constraints
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Criterion, Problem
from pathloom.schedule.schedule import Schedule
from pathloom.schedule.shops import JobShop
from pathloom.schedule.solve import METHODS, Result, solve


def checked(problem: Problem, result: Result) -> Result:
    assert check_schedule(problem, result.schedule) == []
    assert check_objective(problem, result.schedule, result.values) == []
    assert result.bound is None or result.bound <= result.values[0]
    return result


SMALL = generated_shop(3, 3, 4)
PROJECT = project([[3], [4], [2], [5], [1]], [[[2]], [[2]], [[1]], [[3]], [[1]]], [3], [(0, 2), (1, 3), (2, 4)])
MODES = project(
    [[3, 5], [4, 6], [2]], [[[2], [1]], [[2], [1]], [[1]]], [3], [(0, 2)], [[[2], [0]], [[2], [0]], [[1]]], [3]
)


@pytest.mark.parametrize(
    ("problem", "shape"),
    [
        (stated_shop(SMALL), "job shop"),
        (stated_shop(replace(SMALL, blocking=True)), "blocking job shop"),
        (stated_shop(replace(SMALL, blocking=True, swap=False)), "blocking job shop without swaps"),
        (stated_shop(replace(SMALL, no_wait=True)), "no-wait job shop"),
        (stated_flexible_shop(random_shop(3, 3, 3, 1)), "flexible job shop"),
        (stated_project(PROJECT), "project"),
        (stated_project(MODES), "multi-mode project"),
        (replace(stated_shop(SMALL), objective=((Criterion("flow"),),)), "general"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_shape_is_solved_and_compared_with_cp_sat(problem: Problem, shape: str, workers: int) -> None:
    result = checked(problem, solve(problem, time_limit=2, workers=workers))
    assert result.shape == shape
    exact = checked(problem, solve(problem, method="cp-sat", time_limit=20, workers=1))
    assert exact.optimal and exact.shape == "general"
    assert result.values[0] >= exact.values[0]
    assert result.bound is None or result.bound <= exact.values[0]
    if workers == 2 and "blocking" not in shape:
        assert result.values == exact.values


def test_a_small_job_shop_is_solved_to_proof() -> None:
    result = solve(stated_shop(SMALL), time_limit=20, workers=1)
    assert result.optimal and result.values == (least_makespan(SMALL),)
    assert result.seconds < 20


@given(projects(activities=5, modes=2, shortest=1))
@settings(max_examples=6, deadline=None)
def test_projects_and_their_conflicts(found: object) -> None:
    problem = stated_project(found)  # type: ignore[arg-type]
    try:
        checked(problem, solve(problem, time_limit=2, workers=1))
    except ProvenInfeasible as error:
        conflict = conflicting_constraints(problem, time_limit=10)
        assert conflict and conflict[0] in str(error)


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_any_problem_is_solved_or_its_conflict_named(seed: int) -> None:
    problem = random_problem(seed)
    try:
        checked(problem, solve(problem, time_limit=5, workers=1, seed=seed))
    except ProvenInfeasible as error:
        assert str(error).startswith("proven infeasible: these constraints cannot hold together: ")


def test_methods_one_by_one() -> None:
    problem = stated_shop(SMALL)
    best = {}
    for method in METHODS:
        best[method] = checked(problem, solve(problem, method=method, time_limit=2, workers=1)).values[0]
    assert best["auto"] == best["cp-sat"] <= best["search"] <= best["rules"]
    with pytest.raises(ValueError, match="unknown method 'luck', expected one of auto, search"):
        solve(problem, method="luck")


@pytest.mark.parametrize("problem", [stated_project(PROJECT), stated_project(MODES)])
def test_rules_make_schedules_of_projects(problem: Problem) -> None:
    result = checked(problem, solve(problem, method="rules", time_limit=10, workers=1))
    assert result.found_by


def test_rules_that_do_not_exist_are_no_matter_of_time() -> None:
    problem = stated_shop(replace(SMALL, blocking=True))
    with pytest.raises(NoPlanFound, match="no dispatching rule"):
        solve(problem, method="rules", time_limit=30, workers=1)
    general = replace(problem, objective=((Criterion("flow"),),))
    for method in ("rules", "search"):
        with pytest.raises(NoPlanFound, match="knows job shops, flexible job shops and projects only"):
            solve(general, method=method, time_limit=30, workers=1)


def test_levels_are_minimised_one_after_another() -> None:
    """By hand a task takes 3 more; the makespan of 7 costs 42 of weighted flow, one of 8 only 30."""
    model = Model()
    saw = model.machine("saw")
    for duration, weight in ((3, 5), (4, 1), (5, 1)):
        model.task(alternatives=[(duration, saw), (duration + 3, ())], job=model.job(weight=weight))
    levels = {"makespan": Criterion("makespan"), "flow": Criterion("flow"), "cost": Criterion("cost")}
    values = []
    for order in (("makespan", "flow"), ("flow", "makespan"), ("cost", "makespan", "flow")):
        problem = replace(model.problem(), objective=tuple((levels[name],) for name in order))
        values.append(checked(problem, solve(problem, time_limit=6, workers=1)).values)
    assert values == [(7, 42), (30, 8), (0, 7, 42)]


def test_a_given_schedule_is_the_least_that_comes_out() -> None:
    shop = generated_shop(8, 5, 1)
    problem = stated_shop(shop)
    good = solve(problem, time_limit=1, workers=1)
    again = checked(problem, solve(problem, method="rules", time_limit=5, workers=1, initial=good.schedule))
    assert again.values[0] <= good.values[0]
    assert again.history[0].source == "initial"
    general = replace(problem, objective=((Criterion("makespan", 3),),))
    kept = checked(general, solve(general, time_limit=0.05, workers=1, initial=good.schedule))
    assert kept.values[0] <= 3 * good.values[0] and kept.history[0].source == "initial"


def test_progress_is_reported_and_the_history_kept() -> None:
    seen: list[Progress] = []
    result = solve(stated_shop(generated_shop(6, 4, 2)), time_limit=1, workers=1, on_progress=seen.append)
    assert len(seen) == len(result.history) > 1
    values = [step.value for step in result.history if step.value is not None]
    bounds = [step.bound for step in result.history if step.bound is not None]
    assert values == sorted(values, reverse=True) and bounds == sorted(bounds)
    assert values[-1] == result.values[0] and bounds[-1] == result.bound


def test_the_same_seed_starts_with_the_same_rules() -> None:
    problem = stated_shop(generated_shop(9, 5, 3))
    first, second = (solve(problem, method="rules", workers=1, seed=4) for _ in "ab")
    assert first.schedule.start.tolist() == second.schedule.start.tolist()


@pytest.fixture
def stopping() -> Iterator[None]:
    yield
    clear_stop()


@pytest.mark.usefixtures("stopping")
def test_a_stop_keeps_what_there_is() -> None:
    request_stop()
    problem = stated_shop(generated_shop(10, 10, 5))
    result = checked(problem, solve(problem, time_limit=600, workers=1))
    assert result.found_by and not result.optimal


def test_nothing_to_do_is_done_at_once() -> None:
    result = solve(Problem(()), time_limit=5, workers=1)
    assert result.values == (0,) and result.optimal
    absent = Model()
    absent.task(3, optional=True)
    assert solve(absent.problem(), time_limit=5, workers=1).values == (0,)


def test_conflicts_are_named() -> None:
    model = Model()
    crew = model.renewable("crew", 2)
    model.task(3, [(crew, 3)], name="lift")
    for method in METHODS:
        with pytest.raises(ProvenInfeasible, match="'lift' needs 3 of 'crew', whose capacity is 2"):
            solve(model.problem(), method=method, time_limit=5, workers=1)
    model = Model()
    first, second = model.task(2, name="a"), model.task(2, name="b")
    model.chain(first, second, first)
    with pytest.raises(ProvenInfeasible, match=r"'a' \(takes 2\) ends before 'b'"):
        solve(model.problem(), time_limit=5, workers=1)
    model = Model()
    lathe = model.machine("lathe")
    for name in "abc":
        model.task(5, lathe, name=name, latest_end=14)
    with pytest.raises(ProvenInfeasible, match="'lathe' does one task at a time: 'a'"):
        solve(model.problem(), time_limit=5, workers=1)


def test_a_stock_that_no_modes_keep_is_a_conflict_of_the_project() -> None:
    model = Model()
    stocks = [model.consumable(name, 3) for name in ("N1", "N2")]
    crew = model.renewable("crew", 2)
    for name in "pqr":
        model.task(alternatives=[(2, [(stock, 2), (crew, 1)]) for stock in stocks], name=name)
    with pytest.raises(ProvenInfeasible, match="'N1' has a stock of 3"):
        solve(model.problem(), time_limit=20, workers=1)


def test_numbers_that_are_too_large_are_named() -> None:
    model = Model("heavy")
    for _ in range(2):
        model.task(2**30, job=model.job(weight=2**39))
    model.minimise(flow=1)
    with pytest.raises(InputError, match="too large"):
        solve(model.problem(), time_limit=5, workers=1)


@pytest.mark.parametrize(
    ("folder", "name", "optimum"), [("jsp", "ft06.txt", 55), ("fjsp", "mk01.txt", 40), ("psplib", "j301_1.sm", 43)]
)
def test_known_optima_of_public_instances(folder: str, name: str, optimum: int) -> None:
    from pathloom.data import find
    from pathloom.worlds.shop.files import load

    try:
        files = [path for path in (find(folder) / "plain").iterdir() if path.stem == name.split(".")[0]]
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    if not files:
        pytest.skip(f"{name} is not at hand")
    problem = load(files[0])
    result = checked(problem, solve(problem, time_limit=20, workers=2))
    assert result.values == (optimum,)
    assert result.optimal


def test_a_shop_whose_jobs_have_no_operations_is_none() -> None:
    empty = JobShop.from_rows([[(0, 3)]])
    assert solve(stated_shop(empty), time_limit=5, workers=1).values == (3,)
    assert isinstance(solve(stated_shop(empty), workers=1).schedule, Schedule)
    assert np.array_equal(solve(stated_shop(empty), workers=1).schedule.start, [0])
