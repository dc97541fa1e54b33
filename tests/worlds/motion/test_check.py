"""The checker names the rule that a mutated plan breaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InfeasiblePlan, Objective, Plan, verified
from pathloom.timeline import Timeline
from pathloom.worlds.motion.check import check
from pathloom.worlds.motion.problem import route_plan

from .conftest import drawn

Cells = list[tuple[int, int]]

PICTURE = """
    a...A
    .@...
    b..B.
"""
A: Cells = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]
B: Cells = [(2, 0), (2, 0), (2, 1), (2, 2), (2, 3)]


def told(*routes: Cells) -> Plan:
    """The plan of some routes, right or wrong, with objective and timeline as the routes say."""
    arrays = [np.array(route, dtype=np.int32) for route in routes]
    return route_plan(drawn(PICTURE), arrays, method="by hand", settings={}, seed=0, seconds=0.0)


def rules(plan: Plan) -> set[str]:
    return {violation.rule for violation in check(plan.problem, plan)}


def test_a_plan_that_keeps_every_rule_passes() -> None:
    plan = told(A, B)
    assert check(plan.problem, plan) == []
    assert verified(plan, check) is plan
    assert rules(replace(plan, bound=plan.objective.value)) == set()
    assert rules(told([*A, A[-1], A[-1]], B)) == set()


@pytest.mark.parametrize(
    ("broken", "a", "b"),
    [
        ("start", A[1:], B),
        ("goal", A[:-1], B),
        ("move", [A[0], *A[2:]], B),
        ("move", A, [(2, 0), (1, 0), (2, 1), (2, 2), (2, 3)]),
        ("obstacle", A, [(2, 0), (2, 1), (1, 1), (2, 1), (2, 2), (2, 3)]),
        ("obstacle", [(0, 0), (-1, 0), *A], B),
        ("obstacle", [*A, (0, 5), (0, 4)], B),
        # Both at (1, 2) at time 3: b on its detour, a on its own.
        (
            "vertex",
            [(0, 0), (0, 1), (0, 2), (1, 2), (0, 2), (0, 3), (0, 4)],
            [(2, 0), (2, 1), (2, 2), (1, 2), (2, 2), (2, 3)],
        ),
        # At time 4 a steps from (1, 2) to (2, 2), b the other way.
        (
            "swap",
            [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 2), (1, 2), (1, 3), (0, 3), (0, 4)],
            [(2, 0), (2, 0), (2, 1), (2, 2), (1, 2), (1, 3), (2, 3)],
        ),
        # b rests at (2, 3) from time 4 on; a comes by at time 6, long after b's route has ended.
        (
            "rest",
            [(0, 0), (0, 1), (0, 2), (0, 3), (1, 3), (1, 3), (2, 3), (1, 3), (0, 3), (0, 4)],
            B,
        ),
    ],
)
def test_a_broken_route_is_rejected_by_its_rule_alone(broken: str, a: Cells, b: Cells) -> None:
    plan = told(a, b)
    assert rules(plan) == {broken}
    with pytest.raises(InfeasiblePlan, match=broken):
        verified(plan, check)


def test_every_agent_needs_one_route_of_cells() -> None:
    plan = told(A, B)
    assert rules(replace(plan, decisions=plan.decisions[:1])) == {"agents"}
    for wrong in (np.zeros((0, 2), dtype=np.int32), np.zeros((3, 3), dtype=np.int32), np.zeros((3, 2))):
        assert rules(replace(plan, decisions=(plan.decisions[0], wrong))) == {"agents"}


@pytest.mark.parametrize("value", [7.0, 9.0, float("nan"), float("inf")])
def test_the_objective_is_what_the_routes_cost(value: float) -> None:
    plan = told(A, B)
    assert rules(replace(plan, objective=Objective("sum of costs", value, "steps"))) == {"cost"}


@pytest.mark.parametrize("bound", [8.5, float("nan"), float("inf")])
def test_no_bound_exceeds_the_cost(bound: float) -> None:
    assert rules(replace(told(A, B), bound=bound)) == {"bound"}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_timeline_that_differs_from_the_routes_is_rejected(data: st.DataObject) -> None:
    plan = told(A, B)
    line = plan.timeline
    row = data.draw(st.integers(0, len(line) - 1))
    columns = {name: getattr(line, name).copy() for name in ("resource", "item", "start", "end")}
    word = data.draw(st.sampled_from(["resource", "item", "start", "end", "drop"]))
    if word == "drop":
        keep = np.arange(len(line)) != row
        changed = line.rows(keep)
    else:
        names = {"resource": len(line.resources), "item": len(line.items)}.get(word)
        if names:
            columns[word][row] = (columns[word][row] + data.draw(st.integers(1, names - 1))) % names
        else:
            columns[word][row] += {"start": -1, "end": 1}[word] * data.draw(st.sampled_from([0.25, 1.0, 2.0]))
        changed = Timeline(
            columns["resource"],
            columns["item"],
            line.kind,
            columns["start"],
            columns["end"],
            line.resources,
            line.items,
            line.kinds,
            line.unit,
        )
    assert rules(replace(plan, timeline=changed)) == {"timeline"}


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_random_change_of_one_cell_is_rejected(data: st.DataObject) -> None:
    # On shortest routes, no cell but the ends' waiting can be exchanged for any other one.
    plan = told(A, [(2, 0), (2, 1), (2, 2), (2, 3)])
    routes = [route.copy() for route in plan.decisions]
    agent = data.draw(st.integers(0, 1))
    time = data.draw(st.integers(0, len(routes[agent]) - 1))
    cell = (data.draw(st.integers(-1, 3)), data.draw(st.integers(-1, 5)))
    if cell == tuple(routes[agent][time].tolist()):
        return
    routes[agent][time] = cell
    assert check(plan.problem, told(*(route.tolist() for route in routes)))
