"""``pathloom compare plan.json run/`` shows plan, simulation and run, with the error of every phase."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import Answer, Call, Install

from pathloom.timeline import Timeline
from pathloom.worlds.train.drawn_cases import draw_varied_case
from pathloom.worlds.train.plan_files import read_plan, write_plan
from pathloom.worlds.train.rigid_trips import plan_of, rigid_timeline


@pytest.fixture
def plan(call: Call) -> Path:
    """A plan of a small drawn problem, in plan.json of the empty folder that `call` works in."""
    return made_plan(Path("plan.json"), 3)


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out where a test is not about them: they take seconds."""

    def no_picture(world: Any, timelines: Any, plan: Any, out: Path) -> dict[str, Path]:
        (out / "timelines.html").write_text(", ".join(timelines))
        return {"page": out / "timelines.html"}

    monkeypatch.setattr("pathloom.cli.compare.draw", no_picture)


def made_plan(path: Path, seed: int, **changes: Any) -> Path:
    problem, decisions = draw_varied_case(np.random.default_rng(seed))
    problem = replace(problem, name="drawn", **changes)
    table = rigid_timeline(problem, decisions)
    assert table is not None
    return write_plan(plan_of(problem, decisions, table), path)


def made_run(folder: str, plan: Path, *, slower: float = 1.0, jitter: float = 0.0, **record: Any) -> Path:
    """A run's folder whose recorded iteration is the plan's, slower and jittered."""
    run = Path(folder)
    run.mkdir()
    timeline = read_plan(plan).timeline
    draw = np.random.default_rng(0)
    start = (timeline.start + jitter * draw.random(len(timeline))) * slower
    length = (timeline.end - timeline.start) * slower
    replace(timeline, start=start, end=start + length).save(run / "timeline.json")
    (run / "plan.json").write_bytes(plan.read_bytes())
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "tokens": 64, "loss": 5.0, "seconds": 1.0}) + "\n")
    (run / "run.json").write_text(json.dumps({"format": "pathloom-run-1", "status": "done", **record}))
    return run


def objects(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def phases(run: dict[str, Any]) -> dict[str, Any]:
    return {entry["phase"]: entry for entry in run["metrics"]["phase_errors"]["phases"]}


def test_plan_simulation_and_run_stand_one_over_another_with_the_error_of_every_phase(call: Call, plan: Path) -> None:
    run = made_run("out", plan, slower=1.2, jitter=0.01)
    answer = call("compare", plan, run)
    assert answer.status == 0, answer.err
    lines = [line.split() for line in answer.out.splitlines() if line.strip()]
    named = [line[0] for line in lines]
    assert named.index("plan") < named.index("simulation") < named.index("run")
    assert any("error of every phase" in line for line in answer.out.splitlines())
    for phase in ("forward", "loss", "backward", "waiting", "messages", "iteration"):
        assert next(line[-1][-1] for line in lines if line[0] == phase) == "%"
    page = Path("comparison/timelines.html").read_text()
    assert all(f"{name}" in page for name in ("plan", "simulation", "run"))
    assert Path("comparison/timelines.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("unpictured")
def test_json_has_one_object_a_file_and_the_errors_with_the_run(call: Call, plan: Path) -> None:
    run = made_run("out", plan, slower=1.25)
    first, second = objects(call("compare", plan, run, "--json"))
    assert first["checked"] is True
    assert "phase_errors" not in first["metrics"]
    assert second["problem"] == {"name": "run", "kind": "run timeline", "file": "out"}
    assert (second["checked"], second["objective"]["name"]) == (False, "makespan")
    errors = second["metrics"]["phase_errors"]
    planned = read_plan(plan)
    found = phases(second)
    assert found["forward"]["off_plan"] == pytest.approx(0.25)
    assert found["backward"]["error"] == pytest.approx(0.25)
    assert found["iteration"]["planned"]["seconds"] == pytest.approx(planned.timeline.makespan)
    assert found["iteration"]["measured"]["seconds"] == pytest.approx(1.25 * planned.timeline.makespan)
    assert errors["iteration_time_error"] == found["iteration"]["error"]
    assert {entry["node"] for entry in errors["nodes"]} == set(planned.problem.nodes)
    assert second["metrics"]["simulation"]["makespan"] == pytest.approx(found["iteration"]["simulated"]["seconds"])


@pytest.mark.usefixtures("unpictured")
def test_a_run_that_does_what_was_planned_has_no_errors(call: Call, plan: Path) -> None:
    _, run = objects(call("compare", plan, made_run("out", plan), "--json"))
    for entry in run["metrics"]["phase_errors"]["phases"] + run["metrics"]["phase_errors"]["nodes"]:
        assert entry["off_plan"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.usefixtures("unpictured")
def test_a_run_alone_brings_its_plan(call: Call, plan: Path) -> None:
    run = made_run("out", plan, slower=1.5)
    plan.unlink()
    (found,) = objects(call("compare", run, "--json"))
    assert phases(found)["forward"]["off_plan"] == pytest.approx(0.5)
    assert found["files"]
    answer = call("compare", run)
    assert [line.split()[0] for line in answer.out.splitlines() if line.strip()][2:5] == ["plan", "simulation", "run"]


@pytest.mark.usefixtures("unpictured")
def test_a_run_without_any_plan_is_a_recorded_timeline(call: Call, plan: Path) -> None:
    run = made_run("out", plan)
    (run / "plan.json").unlink()
    plan.unlink()
    (found,) = objects(call("compare", run, "--json"))
    assert set(found["metrics"]) == {"comparison"}


@pytest.mark.usefixtures("unpictured")
def test_each_run_is_measured_against_the_plan_that_it_followed(call: Call, plan: Path) -> None:
    other = Path("later.json")
    late = read_plan(plan)
    shifted = replace(late.timeline, start=late.timeline.start + 1.0, end=late.timeline.end + 1.0)
    write_plan(replace(late, timeline=shifted, objective=replace(late.objective, value=shifted.makespan)), other)
    runs = made_run("first", plan), made_run("second", other)
    found = objects(call("compare", plan, other, *reversed(runs), "--json"))
    assert [entry["problem"]["name"] for entry in found] == ["drawn", "drawn", "run second", "run first"]
    for entry, own in zip(found[2:], (shifted, late.timeline), strict=True):
        assert phases(entry)["iteration"]["planned"]["seconds"] == pytest.approx(own.makespan)
        assert phases(entry)["iteration"]["off_plan"] == pytest.approx(0.0, abs=1e-9)
    answer = call("compare", plan, other, *runs)
    for title in ("simulation of plan", "simulation of later", "run first: error of", "run second: error of"):
        assert title in answer.out


@pytest.mark.usefixtures("unpictured")
def test_a_run_of_a_plan_that_is_not_among_them_is_said_to_be_one(call: Call, plan: Path) -> None:
    other = made_plan(Path("other.json"), 3, gap=0.5)
    answer = call("compare", plan, made_run("out", other))
    assert answer.status == 0
    assert "run: did not follow any of these plans, and is measured against 'plan'" in answer.err


@pytest.mark.usefixtures("unpictured")
def test_a_run_at_another_pace_is_shown_in_the_seconds_of_its_plan(call: Call, plan: Path) -> None:
    run = made_run("out", plan, slower=0.05, time_scale=0.05)
    answer = call("compare", plan, run, "--json")
    assert phases(objects(answer)[1])["iteration"]["off_plan"] == pytest.approx(0.0, abs=1e-9)
    assert "out: ran at 0.05 times the plan's seconds; its times are shown in the plan's" in answer.err


@pytest.mark.usefixtures("unpictured")
def test_a_run_takes_no_part_in_the_plans_of_a_world_without_phases(call: Call, counting: Install) -> None:
    assert call("plan", counting(), "--only").status == 0
    plan = Path("three-plan/plan.json")
    Path("out").mkdir()
    Path("out/run.json").write_text("{}")
    Timeline.from_spans([("counter", "number0", "say", 0.0, 1.5)]).save(Path("out/timeline.json"))
    found = objects(call("compare", plan, "out", "--json"))
    assert set(found[1]["metrics"]) == {"comparison"}
    assert "phase" not in call("compare", plan, "out").out


BROKEN = {
    "no run": ("run.json", None, "out: is a folder without run.json"),
    "no iteration yet": ("timeline.json", None, "out: holds no timeline.json: the run has not finished an iteration"),
    "truncated": ("timeline.json", '{"format": "pathl', "out/timeline.json: line 1: is not JSON, or a truncated file"),
    "no timeline": ("timeline.json", '{"format": "x"}', "out/timeline.json: format: expected one of"),
    "truncated record": ("run.json", '{"format": ', "out/run.json: line 1: is not JSON, or a truncated file"),
    "no record": ("run.json", "[]", "out/run.json: expected a JSON object"),
    "odd scale": ("run.json", '{"time_scale": 0}', "out/run.json: time_scale: expected a number above 0, found 0"),
    "broken plan": ("plan.json", '{"format": "pathloom-train-plan-1"}', "out/plan.json: "),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_run_is_refused_by_name(call: Call, plan: Path, what: str) -> None:
    run = made_run("out", plan)
    name, text, said = BROKEN[what]
    if text is None:
        (run / name).unlink()
    else:
        (run / name).write_text(text)
    answer = call("compare", plan, run)
    assert answer.status == 2
    assert len(answer.lines) == 1 and said in answer.lines[0], answer.err
    assert not Path("comparison").exists()
