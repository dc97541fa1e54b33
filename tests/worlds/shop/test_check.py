"""The shop world's checker: what a plan says must be what its schedule is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pathloom.plan import Objective, Plan
from pathloom.schedule.model import Model
from pathloom.schedule.schedule import Schedule, objective_values
from pathloom.schedule.solve import Result
from pathloom.timeline import Timeline
from pathloom.worlds.shop.check import check
from pathloom.worlds.shop.methods import plan_of


@pytest.fixture
def plan() -> Plan:
    """A blocked task on the saw, another one after it, and a stock."""
    model = Model("two")
    saw, lathe = model.machine("saw"), model.machine("lathe")
    paint = model.consumable("paint", 3)
    model.chain(model.task(3, [saw, (paint, 2)], name="cut", cost=5), model.task(2, lathe, name="turn"), blocking=True)
    model.minimise(makespan=1)
    model.minimise(cost=1)
    problem = model.problem()
    schedule = Schedule.of(np.array([0, 4]), np.array([3, 6]), None, np.array([4, 6]))
    result = Result(schedule, objective_values(problem, schedule), 5, "path", "rule", "general", 0.1, ())
    return plan_of(problem, result, "auto", 1.0, 0)


def rules(plan: Plan) -> list[str]:
    return [violation.rule for violation in check(plan.problem, plan)]


def test_a_right_plan_passes(plan: Plan) -> None:
    assert check(plan.problem, plan) == []


@pytest.mark.parametrize("value", [7.0, 5.0, 6.5, float("nan"), float("inf")])
def test_a_wrong_value_is_found(plan: Plan, value: float) -> None:
    wrong = replace(plan, objective=Objective("makespan", value, "units"))
    assert rules(wrong)[0] == "objective"


@pytest.mark.parametrize("metrics", [{}, {"level 1": 6}, {"level 1": None}, {"level 1": "5"}, {"level 1": 5.5}])
def test_a_wrong_value_of_a_lower_level_is_found(plan: Plan, metrics: dict[str, Any]) -> None:
    assert rules(replace(plan, metrics=metrics)) == ["objective"]


def test_a_bound_above_the_value_is_found(plan: Plan) -> None:
    found = check(plan.problem, replace(plan, bound=7.0))
    assert str(found[0]) == "objective: the value 6 is below the bound 7"


def test_a_schedule_that_breaks_a_rule_is_found_first(plan: Plan) -> None:
    early = Schedule.of(np.array([0, 2]), np.array([3, 4]), None, np.array([3, 4]))
    assert "min-lag" in rules(replace(plan, decisions=early))


def changed(timeline: Timeline, **columns: Any) -> Timeline:
    return replace(timeline, **{name: np.array(values) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"start": [0, 3, 5]}, "does not show turn on lathe in [4, 6): work"),
        ({"end": [3, 4, 7]}, "does not show turn on lathe in [4, 6): work"),
        ({"resource": [1, 0, 1]}, "does not show cut on saw in [0, 3): work"),
        ({"kind": [0, 0, 0]}, "does not show cut on saw in [3, 4): blocked"),
    ],
)
def test_a_timeline_that_shows_something_else_is_found(plan: Plan, columns: dict[str, Any], said: str) -> None:
    (found,) = check(plan.problem, replace(plan, timeline=changed(plan.timeline, **columns)))
    assert str(found) == f"timeline: {said}"


def test_a_timeline_that_shows_more_or_less_is_found(plan: Plan) -> None:
    shown = plan.timeline
    rows = {name: getattr(shown, name) for name in ("resource", "item", "kind", "start", "end")}
    less = replace(shown, **{n: c[:2] for n, c in rows.items()}, columns={n: c[:2] for n, c in shown.columns.items()})
    assert "does not show turn" in str(check(plan.problem, replace(plan, timeline=less))[0])
    twice = {n: np.concatenate((c, c[:1])) for n, c in rows.items()}
    more = replace(shown, **twice, columns={n: np.concatenate((c, c[:1])) for n, c in shown.columns.items()})
    assert str(check(plan.problem, replace(plan, timeline=more))[0]) == "timeline: shows cut on saw in [0, 3): work"


@pytest.mark.parametrize("column", [None, [0.0, 0.0, 1.5], [0, 0, 9], [0, 0, -1]])
def test_a_timeline_of_unknown_tasks_is_found(plan: Plan, column: list[float] | None) -> None:
    columns = dict(plan.timeline.columns)
    columns.pop("task")
    if column is not None:
        columns["task"] = np.array(column)
    assert rules(replace(plan, timeline=replace(plan.timeline, columns=columns))) == ["timeline"]
