"""``pathloom compare`` lays timelines of one problem side by side and refuses those that have nothing in common."""

from __future__ import annotations

import json
from pathlib import Path

import counting_world
import pytest
from answers import Call, Install

from pathloom.timeline import Timeline


@pytest.fixture
def plan(call: Call, counting: Install) -> Path:
    assert call("plan", counting(), "--only").status == 0
    return Path("three-plan/plan.json")


def recorded(path: str, *, resource: str = "counter", unit: str = "s", late: float = 0.5) -> Path:
    spans = [(resource, f"number{i}", "say", i + late, i + late + 1.0) for i in range(3)]
    Timeline.from_spans(spans, unit=unit).save(Path(path))
    return Path(path)


def test_a_recorded_run_is_measured_against_the_plan(call: Call, plan: Path) -> None:
    answer = call("compare", plan, recorded("run.json"), "--json")
    assert answer.status == 0, answer.err
    first, second = (json.loads(line) for line in answer.out.splitlines())
    assert (first["method"], first["checked"]) == ("right", True)
    assert (second["method"], second["checked"]) == ("recorded", False)
    assert second["metrics"]["comparison"]["start_shift"] == pytest.approx(0.5)
    assert second["metrics"]["comparison"]["matched"] == 3
    assert set(first["files"]) == {"page", "picture"}
    assert all(Path(path).is_file() for path in first["files"].values())


def test_the_table_names_each_file(call: Call, plan: Path) -> None:
    answer = call("compare", plan, recorded("run.json"), plan)
    assert answer.status == 0
    for word in ("three-plan/plan", "run", "three-plan/plan (2)", "recorded"):
        assert word in answer.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resource": "robot"}, "resources: has no resource in common with the first file"),
        ({"unit": "h"}, "unit: counts time in h, the first file in s"),
    ],
)
def test_timelines_of_something_else_are_refused(call: Call, plan: Path, change: dict[str, str], said: str) -> None:
    answer = call("compare", plan, recorded("run.json", **change))
    assert answer.status == 2
    assert f"run.json: {said}" in answer.lines[0]
    assert not Path("comparison").exists()


def test_plans_of_different_problems_are_refused(call: Call, plan: Path) -> None:
    data = json.loads(plan.read_text())
    Path("four.json").write_text(json.dumps({**data, "name": "four"}))
    answer = call("compare", plan, "four.json")
    assert answer.status == 2
    assert "four.json: problem: plans 'four', the others plan 'three'" in answer.lines[0]


def test_plans_of_different_worlds_are_refused(call: Call, plan: Path, counting: Install) -> None:
    counting(others=[counting_world.world(name="sheep", plan_format="sheep-plan-1", recognise="counting_world:bound")])
    data = json.loads(plan.read_text())
    Path("sheep.json").write_text(json.dumps({**data, "format": "sheep-plan-1"}))
    answer = call("compare", plan, "sheep.json")
    assert answer.status == 2
    assert "is a plan of the world 'sheep', the others are of 'counting'" in answer.lines[0]


def test_a_plan_that_breaks_a_rule_is_refused(call: Call, plan: Path) -> None:
    data = json.loads(plan.read_text())
    plan.write_text(json.dumps({**data, "count": 2}))
    answer = call("compare", plan)
    assert answer.status == 2
    assert "checker rejects: goal: counts to 2, expected 3" in answer.lines[0]
