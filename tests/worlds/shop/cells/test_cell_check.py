"""The checker names the broken rule of every mutated timeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pathloom.plan import Plan
from pathloom.timeline import Timeline
from pathloom.worlds.shop.cells.check import check_cell
from pathloom.worlds.shop.cells.files import load_cell
from pathloom.worlds.shop.cells.rules import Rule, follow, run_plan

EXAMPLES = Path(__file__).parents[4] / "examples"


def _plan(name: str, lot: int = 25) -> Plan:
    cell = replace(load_cell(EXAMPLES / f"{name}.yaml"), lot=lot)
    return run_plan(follow(cell, Rule("longest"), seed=1), method="rules", settings={}, seconds=0.0)


PLANS = {name: _plan(name) for name in ("cell-cluster-6", "cell-track-12")}


def _rows(plan: Plan, *kinds: str, held: bool | None = None) -> np.ndarray:
    table = plan.timeline
    rows = np.isin(table.kind, [table.kinds.index(kind) for kind in kinds])
    return np.flatnonzero(rows)


def _changed(plan: Plan, **columns: np.ndarray) -> Plan:
    table = plan.timeline
    inner = {key: columns.pop(key) for key in list(columns) if key in table.columns}
    return replace(plan, timeline=replace(table, columns={**table.columns, **inner}, **columns))


def _without(plan: Plan, row: int) -> Plan:
    return replace(plan, timeline=plan.timeline.rows(np.arange(len(plan.timeline)) != row))


@pytest.mark.parametrize("name", PLANS)
def test_a_run_of_the_simulator_keeps_every_rule(name: str) -> None:
    assert check_cell(PLANS[name].problem, PLANS[name]) == []


def _broken(name: str, rule: str, generator: np.random.Generator) -> Plan:
    plan = PLANS[name]
    table: Timeline = plan.timeline
    start, end, item = table.start.copy(), table.end.copy(), table.item.copy()
    pick = lambda *kinds: int(generator.choice(_rows(plan, *kinds)))  # noqa: E731
    if rule == "robot":  # a hand-over begins before the move to it has ended
        row = pick("pick", "place")
        start[row] -= 1.0
        return _changed(plan, start=start)
    if rule == "move":  # a move that is quicker than its axes, or a hand-over that is
        row = pick("move", "pick", "place")
        start[row] = end[row] - 0.5 * (end[row] - start[row])
        return _changed(plan, start=start)
    if rule == "arm":  # the other arm gives what this one holds
        row = pick("place")
        arms = table.columns["arm"].copy()
        arms[row] = 1 - arms[row]
        return _changed(plan, arm=arms)
    if rule == "transfer":  # a pick is lost
        return _without(plan, pick("pick"))
    if rule == "slot":  # an item is in the slot before its arrival, and so before the last one was out
        spans = [r for r in _rows(plan, "process") if (table.resource[:r] == table.resource[r]).any()]
        row = int(generator.choice(spans))
        before = [r for r in range(row) if table.resource[r] == table.resource[row]][-1]
        start[row] = end[before] - 0.1
        return _changed(plan, start=np.minimum(start, end))
    if rule == "recipe":  # the last hand-over of an item never happens
        last = int(np.flatnonzero((table.item == item[pick("place")]) & np.isin(table.kind, [3]))[-1])
        return _without(plan, last)
    if rule == "process":  # a shorter process
        row = pick("process")
        end[row] -= 0.5
        return _changed(plan, end=end)
    if rule == "names":
        item[pick("pick")] = len(table.items) - 1
        return _changed(plan, item=item)
    assert rule == "objective"
    return replace(plan, objective=replace(plan.objective, value=plan.objective.value - 0.1))


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize(
    "rule", ["robot", "move", "arm", "transfer", "slot", "recipe", "process", "names", "objective"]
)
def test_every_mutation_is_rejected_with_its_rule_named(name: str, rule: str) -> None:
    for seed in range(8):
        plan = _broken(name, rule, np.random.default_rng(seed))
        assert rule in {violation.rule for violation in check_cell(plan.problem, plan)}


def test_a_tighter_limit_is_a_broken_dwell_limit() -> None:
    plan = PLANS["cell-cluster-6"]
    cell = plan.problem
    tight = replace(cell, stations=tuple(replace(s, longest_wait=0.0) for s in cell.stations))
    assert {v.rule for v in check_cell(tight, replace(plan, problem=tight))} == {"dwell"}


def test_a_wider_clearance_is_a_broken_clearance() -> None:
    plan = PLANS["cell-track-12"]
    wide = replace(plan.problem, clearance=3.0)
    assert {v.rule for v in check_cell(wide, replace(plan, problem=wide))} == {"clearance"}


def test_a_bound_above_the_value_is_found() -> None:
    plan = PLANS["cell-cluster-6"]
    wrong = replace(plan, bound=plan.objective.value + 1.0)
    assert {v.rule for v in check_cell(plan.problem, wrong)} == {"objective"}


def test_times_of_another_lot_are_found() -> None:
    plan = PLANS["cell-cluster-6"]
    rules = {v.rule for v in check_cell(plan.problem, replace(plan, seed=2))}
    assert "process" in rules
    assert rules <= {"process", "dwell"}
