"""The command line on training problems: mistakes in the file, infeasible instances, plan, simulation, comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answers import Call

from pathloom.timeline import Timeline
from pathloom.worlds.train.check import check
from pathloom.worlds.train.plan_files import read_plan

BASE = """name: base
nodes: {count: 6, regions: [Iowa, Oregon, LA], speed: 0.055, memory: 3}
links: {network: gcp12}
model: {dim: 1024, layers: 12, heads: 16, context: 1024}
microbatches: 6
samples: 8
stages: 3
"""


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new, 1)


MISTAKES = {
    "unknown region": (changed("Oregon", "Oregno"), ["nodes.regions", "Oregno", "did you mean 'Oregon'"]),
    "unknown network": (changed("gcp12", "gcp13"), ["links.network", "gcp13"]),
    "more stages than nodes": (changed("stages: 3", "stages: 7"), ["stages", "7", "6"]),
    "zero nodes": (changed("count: 6", "count: 0"), ["nodes.count"]),
    "negative speed": (changed("speed: 0.055", "speed: -1"), ["nodes.speed"]),
    "zero speed": (changed("speed: 0.055", "speed: 0"), ["nodes.speed"]),
    "speed that is no number": (changed("speed: 0.055", "speed: .nan"), ["nodes.speed"]),
    "endless speed": (changed("speed: 0.055", "speed: .inf"), ["nodes.speed"]),
    "no memory": (changed("memory: 3", "memory: 0"), ["nodes.memory"]),
    "negative microbatches": (changed("microbatches: 6", "microbatches: -6"), ["microbatches"]),
    "part of a microbatch": (changed("microbatches: 6", "microbatches: 2.5"), ["microbatches"]),
    "unknown key": (BASE + "microbatchs: 3\n", ["microbatchs"]),
    "missing model": (changed("model: {dim: 1024, layers: 12, heads: 16, context: 1024}\n", ""), ["model"]),
    "share of no stage": (BASE + "run_share: 0\n", ["run_share"]),
    "share above one": (BASE + "run_share: 1.5\n", ["run_share"]),
    "truncated": (BASE[: BASE.index("speed: 0.055")], ["line"]),
    "twice the same key": (BASE + "samples: 4\n", ["samples"]),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_the_file_ends_with_2_and_one_line(call: Call, tmp_path: Path, what: str) -> None:
    text, words = MISTAKES[what]
    Path("problem.yaml").write_text(text)
    answer = call("plan", "problem.yaml", "--json")
    assert answer.status == 2
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("pathloom: problem.yaml: ")
    assert all(word in line for word in words), line
    assert [path.name for path in tmp_path.iterdir()] == ["problem.yaml"]


def test_the_base_of_the_mistakes_is_right(call: Call) -> None:
    Path("problem.yaml").write_text(BASE)
    answer = call("plan", "problem.yaml", "--json", "--only", "--method", "greedy", "--time", "1")
    assert answer.status == 0, answer.err


INFEASIBLE = {
    "memory": changed("memory: 3", "memory: 1 KiB"),
    "reordering": BASE + "reordering: {distance: 1, swaps: 2, total: 2, jump: 0}\n",
}


@pytest.mark.parametrize("requirement", INFEASIBLE)
def test_an_instance_without_a_plan_ends_with_3_and_names_the_requirement(call: Call, requirement: str) -> None:
    Path("problem.yaml").write_text(INFEASIBLE[requirement])
    answer = call("plan", "problem.yaml")
    assert answer.status == 3
    (line,) = answer.err.splitlines()
    assert line.startswith(f"pathloom: proven infeasible: {requirement}: problem.yaml: ")


def test_a_network_in_two_parts_is_named(call: Call) -> None:
    """Three regions, and no row joins the third one: no microbatch can get there."""
    Path("links.csv").write_text("a,b,delay_ms,bandwidth_Gbit_per_s\nIowa,Oregon,10,1\nLA,Taiwan,10,1\n")
    Path("problem.yaml").write_text(changed("{network: gcp12}", "{csv: links.csv}"))
    answer = call("plan", "problem.yaml")
    assert answer.status in (2, 3)
    assert len(answer.err.splitlines()) == 1
    assert "problem.yaml" in answer.err


def test_a_region_without_links_in_the_users_own_network_is_named(call: Call) -> None:
    Path("links.csv").write_text("a,b,delay_ms,bandwidth_Gbit_per_s\nIowa,Oregon,10,1\n")
    Path("problem.yaml").write_text(changed("{network: gcp12}", "{csv: links.csv}"))
    answer = call("plan", "problem.yaml")
    assert answer.status == 2
    (line,) = answer.err.splitlines()
    assert "LA" in line


@pytest.mark.parametrize("command", ["plan", "simulate"])
def test_init_writes_a_problem_that_can_be_planned(call: Call, command: str) -> None:
    assert call("plan", "--init").status == 0
    assert Path("train.yaml").read_text().startswith("#")
    extra = ["--only"] if command == "plan" else []
    answer = call(command, "train.yaml", "--method", "greedy", "--time", "1", *extra)
    assert answer.status == 0, answer.err


def test_from_plan_over_simulation_to_comparison(call: Call) -> None:
    """A plan, what a straggler and a failure make of it, and all three side by side."""
    Path("problem.yaml").write_text(BASE)
    plain = ("--only", "--time", "1", "--json")
    found = json.loads(call("plan", "problem.yaml", "--method", "greedy", *plain).out)
    assert set(found["files"]) == {"plan", "page", "picture", "trace"}
    assert all(Path(path).stat().st_size > 1000 for path in found["files"].values())
    plan = read_plan(Path("problem-plan/plan.json"))
    assert check(plan.problem, plan) == []
    assert found["objective"]["value"] == plan.objective.value
    assert found["bound"] <= found["objective"]["value"]
    assert found["gap"] == pytest.approx(1 - found["bound"] / found["objective"]["value"])

    slow = ("--straggler", "Iowa-1:3@0-1000", "--slow-link", "Iowa-1:LA-1:2", "--json")
    answer = call("simulate", found["files"]["plan"], *slow)
    assert answer.status == 0, answer.err
    slowed = json.loads(answer.out)
    assert slowed["objective"]["value"] > plan.objective.value
    assert slowed["bound"] is None
    assert slowed["disturbances"]["straggler"] == [["Iowa-1", 3.0, 0.0, 1000.0]]
    run = Timeline.load(Path(slowed["files"]["simulation"]))
    assert run.makespan == pytest.approx(slowed["objective"]["value"])

    full = json.loads(call("plan", "problem.yaml", "--method", "gpipe", "--out", "full", *plain).out)
    answer = call("compare", "problem-plan/plan.json", full["files"]["plan"], slowed["files"]["simulation"], "--json")
    assert answer.status == 0, answer.err
    compared = [json.loads(line) for line in answer.out.splitlines()]
    assert [entry["method"] for entry in compared] == ["greedy", "gpipe", "recorded"]
    assert [entry["checked"] for entry in compared] == [True, True, False]
    assert compared[2]["metrics"]["comparison"]["makespan"] == run.makespan
    assert compared[2]["metrics"]["comparison"]["matched"] == len(plan.timeline)
    assert Path("comparison/timelines.html").is_file()
    assert Path("comparison/timelines.png").read_bytes().startswith(b"\x89PNG")


def test_a_failure_is_survived_and_unknown_nodes_are_not_guessed(call: Call) -> None:
    Path("problem.yaml").write_text(BASE)
    assert call("plan", "problem.yaml", "--method", "greedy", "--only", "--time", "1").status == 0
    node = read_plan(Path("problem-plan/plan.json")).problem.nodes[-1]
    answer = call("simulate", "problem-plan/plan.json", "--fail", f"{node}@5", "--json")
    assert answer.status in (0, 3), answer.err
    assert answer.status == 0 or "proven infeasible" in answer.err
    answer = call("simulate", "problem-plan/plan.json", "--fail", "LA-7@5")
    assert answer.status == 2
    assert "LA-7" in answer.err.splitlines()[-1]
    answer = call("simulate", "problem-plan/plan.json", "--policy", "hope", "--fail", f"{node}@5")
    assert answer.status == 2


def test_a_plan_that_was_tampered_with_is_refused(call: Call) -> None:
    Path("problem.yaml").write_text(BASE)
    assert call("plan", "problem.yaml", "--method", "greedy", "--only", "--time", "1").status == 0
    path = Path("problem-plan/plan.json")
    data = json.loads(path.read_text())
    data["objective"]["value"] /= 2
    path.write_text(json.dumps(data))
    answer = call("simulate", path)
    assert answer.status == 2
    assert "checker rejects: objective" in answer.lines[0]
