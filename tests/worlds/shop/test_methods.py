"""Methods of the shop world: plans with checked schedules, their figures and their timelines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job_shops import generated_shop
from stated_shapes import stated_shop

from pathloom.plan import NoPlanFound, Plan, Progress, ProvenInfeasible, verified
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.incumbent import Improvement
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Demand, Problem
from pathloom.schedule.schedule import Schedule, objective_values
from pathloom.schedule.solve import Result
from pathloom.world import resolve
from pathloom.worlds.shop import WORLD
from pathloom.worlds.shop.check import check
from pathloom.worlds.shop.methods import constraint, plan_of, portfolio, rules, search, timeline


@pytest.fixture(scope="module")
def shop() -> Problem:
    return stated_shop(generated_shop(4, 3, 7))


@pytest.mark.parametrize("method", [portfolio, search, constraint, rules])
def test_every_method_makes_a_plan_that_passes(shop: Problem, method: object) -> None:
    seen: list[Progress] = []
    plan: Plan = method(shop, time_limit=3.0, seed=3, on_progress=seen.append)  # type: ignore[operator]
    verified(plan, check)
    assert plan.method == {portfolio: "auto", search: "search", constraint: "cp-sat", rules: "rules"}[method]
    assert plan.objective.name == "makespan" and plan.objective.value == plan.decisions.makespan
    assert plan.bound is not None and plan.bound <= plan.objective.value and plan.bound_by
    assert plan.seed == 3 and plan.settings == {"time_limit": 3.0}
    assert plan.metrics["makespan"] == plan.objective.value and plan.metrics["found_by"]
    assert seen and len(plan.metrics["history"]) == len(seen)
    assert len(plan.timeline) == len(shop.tasks) and plan.timeline.makespan == plan.objective.value


def test_the_world_names_methods_that_there_are() -> None:
    for target in WORLD.methods.values():
        assert callable(resolve(target))
    assert WORLD.default_method in WORLD.methods and set(WORLD.default_table) <= set(WORLD.methods)


def test_without_a_schedule_the_conflict_is_named() -> None:
    model = Model()
    crew = model.renewable("crew", 2)
    model.task(3, [(crew, 3)], name="lift")
    for method in (portfolio, search, constraint, rules):
        with pytest.raises(ProvenInfeasible, match="'lift' needs 3 of 'crew'"):
            method(model.problem(), time_limit=5.0)


def test_methods_for_shapes_say_so() -> None:
    model = Model()
    model.task(3, job=model.job())
    model.minimise(flow=1)
    with pytest.raises(NoPlanFound, match="knows job shops"):
        search(model.problem(), time_limit=5.0)


def test_lower_levels_are_part_of_the_figures() -> None:
    model = Model(unit="min")
    model.task(3, job=model.job(), cost=7)
    model.minimise(makespan=1, flow=2)
    model.minimise(cost=1)
    plan = portfolio(model.problem(), time_limit=10.0)
    assert (plan.objective.name, plan.objective.value, plan.objective.unit) == ("makespan + flow", 9.0, "min")
    assert plan.metrics["level 1"] == 7 and "level 0" not in plan.metrics


def test_a_long_history_is_thinned_evenly() -> None:
    model = Model()
    model.task(3)
    schedule = Schedule.of(np.array([0]), np.array([3]))
    history = [Improvement(number / 10, 1000 - number, None, "tabu") for number in range(999)]
    plan = plan_of(model.problem(), Result(schedule, (3,), None, "", "", "project", 1.0, history), "auto", 1.0, 0)
    steps = plan.metrics["history"]
    assert len(steps) == 200 and steps[0][1] == 1000 and steps[-1][1] == 2
    assert plan.bound is None and plan.bound_by is None and plan.gap is None
    assert np.ptp(np.diff([step[1] for step in steps])) <= 1


def test_a_blocked_task_is_shown_on_its_machine_until_it_leaves() -> None:
    model = Model()
    saw, lathe = model.machine("saw"), model.machine("lathe")
    model.chain(model.task(3, saw), model.task(2, lathe), blocking=True)
    found = timeline(model.problem(), Schedule.of(np.array([0, 5]), np.array([3, 7]), None, np.array([5, 7])))
    assert [tuple(span) for span in zip(found.resource, found.kind, found.start, found.end, strict=True)] == [
        (0, 0, 0, 3),
        (0, 1, 3, 5),
        (1, 0, 5, 7),
    ]
    assert found.kinds == ("work", "blocked") and found.columns["task"].tolist() == [0, 0, 1]


def test_parts_of_a_task_are_shown_where_they_are_needed() -> None:
    model = Model()
    crew, paint = model.renewable("crew", 3), model.consumable("paint", 9)
    model.task(6, [Demand(crew.position, 2, 1, 4), Demand(crew.position, 1, 4), (paint, 5)], name="spray")
    model.task(2, [(crew, 0)], name="look on")
    found = timeline(model.problem(), Schedule.of(np.array([2, 0]), np.array([8, 2])))
    assert [(s, e, a) for s, e, a in zip(found.start, found.end, found.columns["amount"], strict=True)] == [
        (3, 6, 2),
        (6, 8, 1),
    ]
    assert found.items == ("spray", "look on")


def test_items_of_the_same_name_are_told_apart() -> None:
    model = Model()
    saw = model.machine("saw")
    for _ in range(3):
        model.task(1, saw, name="cut")
    model.job("cut")
    found = timeline(model.problem(), Schedule.of(np.arange(3), np.arange(1, 4)))
    assert len(set(found.items)) == 4


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_plans_of_any_feasible_schedule_pass(seed: int) -> None:
    draft = draw_draft(np.random.default_rng(seed), 3)
    problem, schedule = draft.problem(), draft.schedule()
    values = objective_values(problem, schedule)
    plan = plan_of(problem, Result(schedule, values, None, "", "drawn", "general", 0.1, ()), "auto", 1.0, 0)
    assert check(problem, plan) == []
