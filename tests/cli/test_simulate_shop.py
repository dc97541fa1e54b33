"""``pathloom simulate`` on plans and files of the shop world."""

from __future__ import annotations

import json
from pathlib import Path

from answers import Call

from pathloom.timeline import Timeline

SHOP = "3 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n1 4 2 3 0 1\n"
OWN = """\
kind: shop
resources: [{name: saw, kind: machine, setup: [[0, 2], [3, 0]]}]
jobs:
  - {name: door, tasks: [{name: cut, duration: 3, uses: [{resource: saw, state: "1"}]}]}
  - {name: frame, tasks: [{name: cut, duration: 2, uses: [{resource: saw, state: "0"}]}]}
"""


def test_a_plan_meets_breakdowns(call: Call, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text(SHOP)
    made = call("plan", "three.txt", "--only", "--time", "2", "--set", "blocking=true", "--json")
    planned = json.loads(made.out)["objective"]["value"]
    answer = call(
        *("simulate", "three-plan/plan.json", "--runs", "20", "--noise", "0.1", "--json", "--seed", "2"),
        *("--set", "breakdown_chance=0.3", "--set", "mean_repair=5", "--set", "repair=fixed"),
    )
    assert answer.status == 0, answer.err
    found = json.loads(answer.out)
    assert found["metrics"]["planned"] == planned < found["objective"]["value"]
    assert found["disturbances"]["breakdown_chance"] == 0.3
    assert sum(found["metrics"]["breakdowns"]) > 0 and sum(found["metrics"]["down"]) > 0
    assert "simulated makespan, percentile 95" in answer.err
    recorded = Timeline.from_dict(json.loads(Path(found["files"]["simulation"]).read_text()))
    assert recorded.makespan == found["metrics"]["makespans"][0]
    assert set(recorded.kinds) == {"work", "blocked", "down", "lost"}
    assert Path(found["files"]["picture"]).read_bytes().startswith(b"\x89PNG")


def test_a_file_is_planned_with_the_options_of_its_reader_and_simulated(call: Call, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text(SHOP)
    answer = call("simulate", "three.txt", "--time", "2", "--set", "blocking=true", "--json")
    assert answer.status == 0, answer.err
    found = json.loads(answer.out)
    assert found["metrics"]["makespans"] == [found["metrics"]["planned"]]


def test_mistakes_are_one_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "three.txt").write_text(SHOP)
    (tmp_path / "own.yaml").write_text(OWN)
    assert call("plan", "three.txt", "--only", "--time", "1", "--method", "rules").status == 0
    for arguments, line in (
        (("own.yaml", "--time", "1"), "is a general scheduling problem, which the shop floor cannot simulate"),
        (("three-plan/plan.json", "--set", "blocking=true"), "--set: option 'blocking' is unknown to the simulation"),
        (("three.txt", "--set", "breakdown_chanse=1"), "'breakdown_chanse' is unknown"),
        (("three.txt", "--set", "breakdown_chance=2"), "breakdown_chance: is 2, expected at least 0, below 1"),
        (("three.txt", "--set", "mean_repair"), "--set: expected NAME=VALUE"),
        (("three-plan/plan.json", "--straggler", "machine 0:2"), "--straggler: is unknown to a shop floor"),
    ):
        answer = call("simulate", *arguments, "--method", "cp-sat")
        assert answer.status == 2
        assert len(answer.lines) == 1 and line in answer.lines[0]
    assert {path.name for path in tmp_path.iterdir()} == {"three.txt", "own.yaml", "three-plan"}
