"""``pathloom plan``: exit statuses, what is printed where, what is written, and what never is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answers import Answer, Call, Install

KEYS = {"problem", "method", "objective", "bound", "gap", "seconds", "checked", "seed", "files", "metrics"}


def objects(answer: Answer) -> list[dict]:
    return [json.loads(line) for line in answer.out.splitlines()]


def test_a_checked_plan_ends_with_0_is_saved_and_comes_with_a_table(call: Call, counting: Install) -> None:
    answer = call("plan", counting())
    assert answer.status == 0
    assert "right *" in answer.out
    assert "unbounded" in answer.out
    assert json.loads(Path("three-plan/plan.json").read_text())["count"] == 3
    assert "counting problem" in answer.err


def test_json_is_one_object_a_plan_and_nothing_else_on_standard_output(call: Call, counting: Install) -> None:
    answer = call("plan", counting(), "--json", "--seed", "7")
    found = objects(answer)
    assert [entry["method"] for entry in found] == ["right", "unbounded", "larger"]
    for entry in found:
        assert entry.keys() >= KEYS
        assert entry["checked"] is True
        assert entry["seed"] == 7
    best = found[0]
    assert best["problem"] == {"name": "three", "kind": "counting problem", "file": best["problem"]["file"]}
    assert best["objective"] == {"name": "time", "value": 3.0, "unit": "s", "sense": "min"}
    assert best["bound"] == 1.0
    assert best["gap"] == pytest.approx(2 / 3)
    assert best["files"] == {"plan": "three-plan/plan.json"}
    assert best["metrics"] == {"odd": True, "never": None}
    assert found[1]["files"] == {}
    assert "right *" in answer.err


def test_a_plan_without_a_bound_gets_the_worlds(call: Call, counting: Install) -> None:
    found = objects(call("plan", counting(), "--json"))
    assert found[1]["bound"] == 2.0
    assert found[1]["bound_by"] == "two at least"


def test_only_runs_the_one_method(call: Call, counting: Install) -> None:
    (found,) = objects(call("plan", counting(), "--json", "--only", "--method", "unbounded"))
    assert found["method"] == "unbounded"


def test_another_method_is_compared_with_the_default_one(call: Call, counting: Install) -> None:
    found = objects(call("plan", counting(), "--json", "--method", "patient", "--time", "0.1"))
    assert [entry["method"] for entry in found] == ["patient", "right", "unbounded", "larger"]


@pytest.mark.parametrize(
    ("method", "status", "said"),
    [
        ("wrong", 1, "plan rejected: goal: counts to 4, expected 3"),
        ("hopeless", 3, "proven infeasible: finiteness: one cannot count that far"),
        ("lost", 4, "no plan found: lost count within 30 s"),
    ],
)
def test_without_a_checked_plan_nothing_is_written(
    call: Call, counting: Install, method: str, status: int, said: str
) -> None:
    answer = call("plan", counting(), "--method", method, "--only")
    assert answer.status == status
    assert len(answer.lines) == 1
    assert said in answer.lines[0]
    assert answer.out == ""
    assert not Path("three-plan").exists()


def test_a_broken_comparison_is_named_and_never_shown_as_a_result(call: Call, counting: Install) -> None:
    answer = call("plan", counting(default_table=("wrong", "lost", "hopeless")), "--json")
    assert answer.status == 0
    assert [entry["method"] for entry in objects(answer)] == ["right"]
    for method in ("wrong", "lost", "hopeless"):
        assert f"{method}: no plan:" in answer.err


def test_if_the_method_finds_nothing_the_best_plan_of_the_very_problem_counts(call: Call, counting: Install) -> None:
    found = objects(call("plan", counting(default_method="lost", default_table=("larger", "unbounded")), "--json"))
    assert [entry["method"] for entry in found] == ["unbounded", "larger"]
    assert found[0]["files"]
    answer = call("plan", counting(default_method="lost", default_table=("larger",)))
    assert answer.status == 4, "a plan of a changed problem is no plan of this one"


def test_a_write_that_fails_leaves_nothing_behind(call: Call, counting: Install) -> None:
    answer = call("plan", counting(write="counting_world:write_half"))
    assert answer.status == 2
    assert "No space left on device" in answer.lines[0]
    assert sorted(path.name for path in Path().iterdir()) == ["three.txt"]


def test_writing_again_replaces_the_plan_and_keeps_what_the_user_put_there(call: Call, counting: Install) -> None:
    call("plan", counting("3"))
    Path("three-plan/notes.txt").write_text("mine")
    call("plan", counting("5"))
    assert json.loads(Path("three-plan/plan.json").read_text())["count"] == 5
    assert Path("three-plan/notes.txt").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["three-plan", "three.txt"]


def test_the_folder_of_results_can_be_chosen(call: Call, counting: Install) -> None:
    assert call("plan", counting(), "--out", "a/b/c").status == 0
    assert Path("a/b/c/plan.json").is_file()


def test_reader_options_reach_the_world(call: Call, counting: Install) -> None:
    found = objects(call("plan", counting(), "--json", "--only", "--set", "more=4"))
    assert found[0]["objective"]["value"] == 7.0


def test_init_writes_an_example_that_plans_and_does_not_overwrite_it(call: Call, counting: Install) -> None:
    counting()
    assert call("plan", "--init").status == 0
    assert Path("counting.yaml").read_text() == "count to 3\n"
    assert call("plan", "counting.yaml").status == 0
    Path("counting.yaml").write_text("count to 9\n")
    again = call("plan", "--init")
    assert again.status == 2
    assert "counting.yaml: exists already" in again.lines[0]
    assert Path("counting.yaml").read_text() == "count to 9\n"
    assert call("plan", "--init", "mine.txt", "--world", "counting").status == 0
    assert Path("mine.txt").exists()


def test_methods_are_listed_with_what_they_do(call: Call, counting: Install) -> None:
    answer = call("plan", counting(), "--list-methods", "--json")
    found = {entry["method"]: entry for entry in objects(answer)}
    assert found["patient"]["summary"] == "Counts until it is told to stop."
    assert found["right"]["use"] == "default"
    assert found["larger"]["use"] == "compared"
    assert "patient" in call("plan", "--list-methods").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan"], "FILE: expected a problem file"),
        (["plan", "missing.txt"], "missing.txt: no such file"),
        (["plan", "."], ".: is a folder, expected a file"),
        (
            ["plan", "three.txt", "--method", "rihgt"],
            "method 'rihgt' is unknown to world 'counting'; did you mean 'right'?",
        ),
        (["plan", "three.txt", "--time", "0"], "--time: expected a number of seconds above 0, found 0"),
        (["plan", "three.txt", "--time", "-3"], "--time: expected a number of seconds above 0, found -3"),
        (["plan", "three.txt", "--time", "nan"], "--time: expected a number of seconds above 0, found nan"),
        (["plan", "three.txt", "--time", "inf"], "--time: expected a number of seconds above 0, found inf"),
        (["plan", "three.txt", "--time", "soon"], "--time"),
        (["plan", "three.txt", "--seed", "-1"], "--seed: expected a whole number of at least 0, found -1"),
        (["plan", "three.txt", "--seed", "1.5"], "--seed"),
        (["plan", "three.txt", "--sed", "1"], "--sed"),
        (["plan", "three.txt", "--out", "three.txt"], "three.txt: --out: is a file, expected a folder"),
        (["plan", "three.txt", "--out", "three.txt/x"], "--out: cannot be written"),
        (["plan", "three.txt", "--set", "less=1"], "--set: option 'less' is unknown to world 'counting'"),
        (["plan", "three.txt", "--set", "more"], "--set: expected NAME=VALUE, found 'more'"),
        (["plan", "--init", "--world", "walking"], "--world: world 'walking' is unknown"),
        (["plan", "binary.dat"], "binary.dat: is a binary file, expected text"),
        (["plan", "empty.txt"], "empty.txt: is empty"),
        (["plan", "other.txt"], "other.txt: not recognised; expected a problem file of one of the worlds: counting"),
        (["plan", "broken.txt"], "broken.txt: line 1: expected a whole number, found 'ten'"),
        (["paln", "three.txt"], "paln"),
        (["simulate", "three.txt", "--runs", "0"], "--runs: expected a whole number of at least 1, found 0"),
        (["simulate", "three.txt"], "three.txt: is a plan of the world 'counting', which cannot be simulated"),
        (["simulate", "three.txt", "--fail", "node"], "--fail: expected NODE@TIME, found 'node'"),
        (["simulate", "three.txt", "--fail", "node@soon"], "--fail: expected NODE@TIME, found 'node@soon'"),
        (["simulate", "three.txt", "--straggler", "a"], "--straggler: expected NODE:FACTOR"),
        (["simulate", "three.txt", "--slow-link", "a:2"], "--slow-link: expected NODE:NODE:FACTOR"),
        (["compare", "three.txt"], "three.txt: expected a plan.json, a recorded timeline"),
        (["compare", "missing.json"], "missing.json: no such file"),
        (["compare", "cut.json"], "cut.json: line 1: is not JSON, or a truncated file"),
        (["compare", "strange.json"], "strange.json: format: expected one of 'counting-plan-1'"),
        (["compare", "list.json"], "list.json"),
        (["bench", "no-such-table"], "benchmark 'no-such-table' is unknown"),
        (["data", "where", "no-such-set"], "data set 'no-such-set' is unknown"),
        (["data", "where", "../secrets"], "is no name of a data set"),
        (["data", "verify", "no-such-set"], "data set 'no-such-set' is unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_with_2_and_one_line(call: Call, counting: Install, arguments: list[str], said: str) -> None:
    counting()
    Path("binary.dat").write_bytes(b"\0\1\2")
    Path("empty.txt").write_text(" \n")
    Path("other.txt").write_text("walk to 3\n")
    Path("broken.txt").write_text("count to ten\n")
    Path("cut.json").write_text('{"format": "counting-plan-1", "na')
    Path("strange.json").write_text('{"format": "walking-plan-1"}')
    Path("list.json").write_text("[1, 2]")
    before = sorted(Path().rglob("*"))
    answer = call(*arguments)
    assert answer.status == 2
    assert answer.out == ""
    assert len(answer.lines) == 1
    assert said in answer.lines[0]
    assert "Traceback" not in answer.err
    assert sorted(Path().rglob("*")) == before
