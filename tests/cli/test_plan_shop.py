"""``pathloom plan`` and ``pathloom compare`` on files of the shop world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from answers import Answer, Call

JSPLIB = "3 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n1 4 2 3 0 1\n"
TAILLARD = "2 2\nTimes\n3 2\n2 4\nMachines\n1 2\n2 1\n"
FJSPLIB = "2 2 1.5\n2 2 1 5 2 4 1 2 3\n1 1 1 6\n"
PROJECT = """\
****
jobs (incl. supersource/sink ):  4
RESOURCES
  - renewable                 :  1   R
  - nonrenewable              :  0   N
  - doubly constrained        :  0   D
****
PRECEDENCE RELATIONS:
1 1 2 2 3
2 1 1 4
3 1 1 4
4 1 0
****
REQUESTS/DURATIONS:
1 1 0 0
2 1 3 2
3 1 4 2
4 1 0 0
****
RESOURCEAVAILABILITIES:
3
****
"""
OWN = """\
kind: shop
name: own
unit: min
resources: [{name: saw, kind: machine, setup: [[0, 2], [3, 0]]}]
jobs:
  - {name: door, due: 4, tasks: [{name: cut, duration: 3, uses: [{resource: saw, state: "1"}]}]}
  - {name: frame, due: 6, tasks: [{name: cut, duration: 2, uses: [{resource: saw, state: "0"}]}]}
objective: [{tardiness: 1}, {makespan: 1}]
"""


def written(text: str, name: str) -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def objects(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.out.splitlines()]


@pytest.mark.parametrize(
    ("name", "text", "kind", "best"),
    [
        ("a.txt", JSPLIB, "job shop (JSPLIB)", 11),
        ("b.txt", TAILLARD, "job shop (Taillard)", 7),
        ("c.fjs", FJSPLIB, "flexible job shop (FJSPLIB)", 7),
        ("d.sm", PROJECT, "project (PSPLIB)", 7),
        ("e.yaml", OWN, "scheduling problem", 2),
        ("e.json", json.dumps({"kind": "shop", "tasks": [{"duration": 4}]}), "scheduling problem", 4),
    ],
)
def test_every_format_is_recognised_and_solved(call: Call, name: str, text: str, kind: str, best: int) -> None:
    answer = call("plan", written(text, name), "--time", "10", "--only", "--json")
    assert answer.status == 0, answer.err
    (found,) = objects(answer)
    assert found["problem"]["kind"] == kind and f"{name}: {kind}, world 'shop'" in answer.err
    assert (found["objective"]["value"], found["bound"], found["gap"]) == (best, best, 0.0)
    assert found["checked"] is True and found["method"] == "auto"
    assert set(found["files"]) == {"plan", "page", "picture", "convergence", "trace"}
    assert all(Path(path).stat().st_size > 20 for path in found["files"].values())


def test_the_table_compares_the_methods_and_names_what_found_the_best(call: Call) -> None:
    answer = call("plan", written(JSPLIB, "a.txt"), "--time", "4", "--out", "there")
    assert answer.status == 0, answer.err
    for word in ("auto *", "cp-sat", "rules", "makespan", "found by", "gap", "0.00%"):
        assert word in answer.out
    assert "no plan of this problem can be better than 11 units" in answer.out
    assert Path("there/schedule.html").is_file() and not Path("a-plan").exists()


def test_lower_levels_and_measures_are_reported(call: Call) -> None:
    (found,) = objects(call("plan", written(OWN, "own.yaml"), "--time", "10", "--only", "--json"))
    assert found["objective"] == {"name": "tardiness", "value": 2.0, "unit": "min", "sense": "min"}
    # Door until 3, a set-up of 3, frame until 8, which is due at 6; the other way round door is late by 3.
    assert found["metrics"]["level 1"] == found["metrics"]["makespan"] == 8
    assert found["metrics"]["tardiness"] == 2 and found["metrics"]["shape"] == "general"


def test_two_plans_are_laid_side_by_side(call: Call) -> None:
    path = written(JSPLIB, "a.txt")
    for method in ("auto", "rules"):
        assert call("plan", path, "--time", "3", "--only", "--method", method, "--out", method).status == 0
    answer = call("compare", "auto/plan.json", "rules/plan.json", "--json")
    assert answer.status == 0, answer.err
    first, second = objects(answer)
    assert (first["method"], second["method"]) == ("auto", "rules") and first["checked"] and second["checked"]
    assert first["objective"]["value"] <= second["objective"]["value"]
    assert all(Path(file).is_file() for file in first["files"].values())
    assert set(first["metrics"]["comparison"]["busy_share"]) == {"machine 0", "machine 1", "machine 2"}


def test_a_plan_that_somebody_changed_is_refused(call: Call) -> None:
    assert call("plan", written(JSPLIB, "a.txt"), "--time", "3", "--only", "--out", "a").status == 0
    path = Path("a/plan.json")
    data = json.loads(path.read_text())
    data["schedule"]["start"][0] += 1
    path.write_text(json.dumps(data))
    answer = call("compare", path, path)
    assert answer.status == 2 and "holds a plan that its checker rejects" in answer.lines[0]


def test_options_make_a_shop_blocking(call: Call) -> None:
    path = written(JSPLIB, "a.txt")
    shapes = {}
    for settings in ((), ("blocking=true",), ("blocking=true", "swap=false"), ("no_wait=true",)):
        more = [word for setting in settings for word in ("--set", setting)]
        (found,) = objects(call("plan", path, "--time", "1", "--only", "--json", *more))
        shapes[found["metrics"]["shape"]] = found["objective"]["value"]
    names = ["job shop", "blocking job shop", "blocking job shop without swaps", "no-wait job shop"]
    assert list(shapes) == names
    assert shapes["job shop"] <= shapes["blocking job shop"] <= shapes["blocking job shop without swaps"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", JSPLIB.replace("3 3\n", "4 3\n"), "a.txt: line 4: expected 4 lines of jobs, found 3"),
        ("a.txt", JSPLIB.replace("0 3 1 2 2 2", "0 3 1 2 2"), "a.txt: line 2: expected pairs of machine and duration"),
        ("a.txt", JSPLIB.replace("0 3 1", "0 3 3"), "a.txt: line 2: expected a machine from 0 to 2, found 3"),
        ("a.txt", JSPLIB.replace("0 3 1", "0 -3 1"), "a.txt: line 2: expected a duration from 0 to"),
        ("a.txt", "3 900000\n0 3 1 2\n0 1\n0 1\n", "a.txt: holds 2,700,000 operations, expected at most 1,000,000"),
        ("b.txt", TAILLARD.replace("2 1\n", "2 3\n"), "b.txt: line 7: expected a machine from 1 to 2, found 3"),
        ("b.txt", TAILLARD.replace("3 2\n", "3\n", 1), "b.txt: line 3: expected 2 numbers, found 1"),
        ("c.txt", FJSPLIB.replace("2 2 1 5", "2 3 1 5"), "c.txt: line 2: operation 1: expected"),
        ("d.sm", PROJECT.replace("2 1 1 4", "2 1 1 9"), "d.sm: line 10: expected successors from 1 to 4, found 9"),
        ("d.sm", PROJECT.replace("3 1 1 4", "3 1 2 2 4").replace("2 1 1 4", "2 1 2 3 4"), "run in a circle: jobs"),
        ("d.sm", PROJECT.replace("2 1 3 2", "2 1 -3 2"), "d.sm: line 16: expected durations and requests from 0"),
        ("e.yaml", OWN.replace("duration: 3", "duration: -3"), "e.yaml: jobs[0].tasks[0].duration: expected a whole"),
        ("e.yaml", OWN.replace("resource: saw", "resource: sow"), "resource 'sow' is unknown to this file"),
        ("e.yaml", OWN.replace("tardiness: 1", "lateness: 1"), "e.yaml: objective: unknown measure 'lateness'"),
        (
            "e.yaml",
            OWN.replace("due: 4", "due: 4, weight: 999999999999").replace("duration: 3", "duration: 999999999"),
            "numbers are too large",
        ),
        ("f.txt", "what is this\n", "f.txt: not recognised; expected a problem file"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(call: Call, name: str, text: str, said: str) -> None:
    answer = call("plan", written(text, name), "--time", "3")
    assert answer.status == 2, answer.err
    assert len(answer.lines) == 1 and said in answer.lines[0]
    assert "Traceback" not in answer.err and answer.out == ""
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["blocking=yes please"], "blocking: expected true or false"),
        (["blocking=true", "no_wait=true"], "expected blocking or no_wait, not both"),
        (["clocking=true"], "option 'clocking' is unknown to world 'shop'; did you mean 'blocking'?"),
    ],
)
def test_options_that_make_no_sense_end_with_2(call: Call, settings: list[str], said: str) -> None:
    more = [word for setting in settings for word in ("--set", setting)]
    answer = call("plan", written(JSPLIB, "a.txt"), *more)
    assert answer.status == 2 and said in answer.lines[0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("d.sm", PROJECT.replace("2 1 3 2", "2 1 3 4"), ["'activity 2' needs 4 of 'R1', whose capacity is 3"]),
        (
            "window.yaml",
            "kind: shop\njobs: [{name: door, release: 3, deadline: 9, tasks: [{name: cut, duration: 7}]}]\n",
            ["job 'door' is released at 3", "job 'door' has the deadline 9", "'door.cut' takes 7"],
        ),
        (
            "circle.yaml",
            "kind: shop\ntasks: [{name: a, duration: 1}, {name: b, duration: 2}]\n"
            "precedences: [{first: a, second: b}, {first: b, second: a}]\n",
            ["'a' ", "ends before 'b'", "ends before 'a'"],
        ),
        (
            "full.yaml",
            "kind: shop\nresources: [{name: saw, kind: machine}]\ntasks:\n"
            + "".join(f"- {{name: t{n}, duration: 5, uses: saw, latest_end: 14}}\n" for n in range(3)),
            [
                "'saw' does one task at a time: 't0' (takes 5), 't1' (takes 5), 't2' (takes 5)",
                "'t1' (takes 5) ends by 14",
            ],
        ),
    ],
)
def test_what_is_proven_infeasible_ends_with_3_and_names_the_conflict(
    call: Call, name: str, text: str, said: list[str]
) -> None:
    answer = call("plan", written(text, name), "--time", "10")
    assert answer.status == 3, answer.err
    assert len(answer.lines) == 1
    assert answer.lines[0].startswith("pathloom: proven infeasible: these constraints cannot hold together: ")
    for words in said:
        assert words in answer.lines[0]
    assert not list(Path().glob("*-plan"))


def test_a_method_that_does_not_know_the_shape_ends_with_4(call: Call) -> None:
    answer = call("plan", written(OWN, "own.yaml"), "--method", "search", "--only")
    assert answer.status == 4 and "knows job shops, flexible job shops and projects only" in answer.lines[0]
    (found, *_) = objects(call("plan", "own.yaml", "--method", "search", "--time", "8", "--json"))
    assert found["method"] == "auto", "the default method's plan takes its place"


def test_the_example_can_be_planned(call: Call) -> None:
    assert call("plan", "--init", "--world", "shop").status == 0
    assert call("plan", "shop.yaml", "--time", "10", "--only").status == 0
    assert Path("shop-plan/plan.json").is_file()


def test_methods_of_the_world_are_listed(call: Call) -> None:
    found = objects(call("plan", written(JSPLIB, "a.txt"), "--list-methods", "--json"))
    assert {"auto", "search", "cp-sat", "rules"} <= {entry["method"] for entry in found}
    assert all(entry["world"] == "shop" and entry["summary"] for entry in found)
