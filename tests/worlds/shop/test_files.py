"""Recognising problem files, options of the reader, and plan.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import random_problem

from pathloom.plan import InputError, Plan, ProvenInfeasible
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import recognised_shape
from pathloom.schedule.solve import solve
from pathloom.worlds.shop.check import check
from pathloom.worlds.shop.files import FORMAT, OWN, load, plan_to_dict, read_plan, recognise
from pathloom.worlds.shop.methods import plan_of

JSPLIB = "2 2\n0 3 1 2\n1 2 0 4\n"


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.yaml", "# mine\nkind: shop\nunit: s\n", OWN),
        ("a.yml.gz", "unit: s\nkind: shop  # of mine\n", OWN),
        ("a.yaml", "kind: 'shop'\n", OWN),
        ("a.yaml", "{kind: shop, tasks: []}", OWN),
        ("a.json", '{"kind": "shop"}', OWN),
        ("a.json", '{"name": "x", "kind":"shop", "tasks": []}', OWN),
        ("a.json", '{\n  "name": "x",\n  "kind": "shop",\n  "jobs": []\n}', OWN),
        ("a.yaml", "kind: grid\n", None),
        ("a.yaml", "kind: shopping\n", None),
        ("a.json", '{"format": "pathloom-shop-plan-1", "problem": {"kind": "shop", "name": "x"}}', None),
        ("a.json", '{\n "format": "pathloom-shop-plan-1",\n "problem": {\n  "kind": "shop",\n  "name": "x"}}', None),
        ("a.txt", JSPLIB, "job shop (JSPLIB)"),
        ("a.yaml", JSPLIB, None),
        ("a.txt", "kind: shop\n", None),
        ("a.sm", "*****\njobs (incl. supersource/sink ):  5\n", "project (PSPLIB)"),
    ],
)
def test_kinds_of_files(name: str, head: str, kind: str | None) -> None:
    assert recognise(Path(name), head) == kind


def test_a_shop_may_be_made_blocking_or_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    path.write_text(JSPLIB)
    names = []
    for options in ({}, {"blocking": True}, {"blocking": True, "swap": False}, {"no_wait": True}):
        shape = recognised_shape(load(path, **options))
        assert shape is not None
        names.append(shape.name)
    assert names == ["job shop", "blocking job shop", "blocking job shop without swaps", "no-wait job shop"]


def test_what_the_file_says_about_swaps_holds_unless_they_are_forbidden(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    own = "kind: shop\nresources: [{name: a, kind: machine}, {name: b, kind: machine}]\njobs:\n"
    own += "- {link: {blocking: true}, tasks: [{duration: 1, uses: a}, {duration: 1, uses: b}]}\n"
    path.write_text(own + "swap: false\n")
    assert not load(path).swap and not load(path, blocking=True).swap
    path.write_text(own)
    assert load(path).swap and not load(path, swap=False).swap


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (JSPLIB, {"blocking": True, "no_wait": True}, "no_wait: expected blocking or no_wait, not both"),
        (JSPLIB, {"blocking": 1}, "blocking: expected true or false, found 1"),
        ("hello\n", {}, "is no problem of the shop world"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, text: str, options: dict[str, Any], said: str) -> None:
    path = tmp_path / "two.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load(path, **options)


@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ("{relation: start-start}", {"blocking": True}, "relation 'end-start' only"),
        ("{min_lag: 3}", {"no_wait": True}, "expected a max_lag of at least 3"),
    ],
)
def test_links_that_cannot_block_are_named(tmp_path: Path, more: str, options: dict[str, bool], said: str) -> None:
    path = tmp_path / "own.yaml"
    link = "first: x, second: y, " + more.strip("{}")
    path.write_text(
        "kind: shop\nresources: [{name: a, kind: machine}]\n"
        f"tasks: [{{name: x, duration: 1}}, {{name: y, duration: 1}}]\nprecedences: [{{{link}}}]\n"
    )
    with pytest.raises(InputError, match=f"own.yaml: .*{said}"):
        load(path, **options)


def test_only_shops_of_machines_block(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("kind: shop\nresources: [{name: crew, kind: renewable, capacity: 2}]\n")
    with pytest.raises(InputError, match="only shops of machines"):
        load(path, blocking=True)


def planned(problem: Problem) -> Plan:
    return plan_of(problem, solve(problem, method="cp-sat", time_limit=30, workers=1), "cp-sat", 30.0, 0)


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_plan_that_was_written_is_read_back_and_still_right(tmp_path_factory: Any, seed: int) -> None:
    problem = random_problem(seed)
    try:
        plan = planned(problem)
    except ProvenInfeasible:
        return
    assert check(problem, plan) == []
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    path.write_text(json.dumps(plan_to_dict(plan)))
    again = read_plan(path)
    assert check(again.problem, again) == []
    assert (again.objective, again.bound, again.bound_by, again.method, again.settings, again.metrics) == (
        plan.objective,
        plan.bound,
        plan.bound_by,
        plan.method,
        plan.settings,
        plan.metrics,
    )
    assert sorted(again.decisions.end) == sorted(plan.decisions.end)
    assert again.timeline.makespan == plan.timeline.makespan
    assert plan_to_dict(again) == plan_to_dict(replace(again, problem=again.problem))


def test_tasks_of_mixed_jobs_keep_their_times() -> None:
    model = Model()
    saw = model.machine("saw")
    jobs = [model.job() for _ in "ab"]
    for number in range(4):
        model.task(1 + number, saw, job=jobs[number % 2])
    plan = planned(model.problem())
    data = plan_to_dict(plan)
    start = plan.decisions.start
    assert data["schedule"]["start"] == [start[task] for task in (0, 2, 1, 3)]
    spans = zip(data["timeline"]["columns"]["task"], data["timeline"]["start"], strict=True)
    assert {task: begin for task, begin in spans} == dict(enumerate(data["schedule"]["start"]))


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    model = Model("two")
    saw = model.machine("saw")
    for _ in "ab":
        model.task(2, saw)
    return plan_to_dict(planned(model.problem()))


def change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        *path, last = key.split(".")
        for part in path:
            data = data[part]
        data[last] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (change("format", "other"), f"format: expected '{FORMAT}'"),
        (lambda data: data.pop("schedule"), "schedule: expected this key, found none"),
        (lambda data: data["schedule"].pop("mode"), "mode: expected this key, found none"),
        (lambda data: data.pop("objective"), "objective: expected this key"),
        (change("schedule.start", [0]), "holds no plan: 'end' has shape"),
        (change("schedule.start", [[0], [1]]), "holds no plan"),
        (change("schedule.start", ["x", "y"]), "holds no plan"),
        (change("schedule.start", None), "holds no plan"),
        (change("schedule", 5), "holds no plan"),
        (change("problem.tasks", [{"duration": 2}]), "holds no plan: 1 tasks are expected, 2 are scheduled"),
        (change("problem.tasks", [{"duration": -2}]), "problem.tasks[0].duration: expected a whole number"),
        (change("objective", {"name": "x"}), "holds no plan"),
        (change("bound", "high"), "holds no plan"),
        (change("timeline", {}), "holds no plan: expected a timeline with format"),
        (change("metrics", 3), "holds no plan"),
        (change("seed", None), "holds no plan"),
    ],
)
def test_a_plan_that_was_spoilt_is_refused(
    tmp_path: Path, stored: dict[str, Any], edit: Callable[[dict[str, Any]], Any], said: str
) -> None:
    data = json.loads(json.dumps(stored))
    edit(data)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)


def test_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"format": ')
    with pytest.raises(InputError, match=r"plan.json: line 1: is not JSON"):
        read_plan(path)
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="format: expected"):
        read_plan(path)


def test_columns_have_the_types_that_a_schedule_has(tmp_path: Path, stored: dict[str, Any]) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(stored))
    found = read_plan(path).decisions
    assert found.mode.dtype == np.int32 and found.start.dtype == found.address.dtype == np.int64
