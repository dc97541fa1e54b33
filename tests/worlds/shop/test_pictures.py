"""What the command line shows and writes of a shop's plan."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from pathloom.plan import Plan, verified
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem
from pathloom.schedule.schedule import Schedule, objective_values
from pathloom.schedule.solve import Result
from pathloom.world import resolve
from pathloom.worlds.shop import WORLD
from pathloom.worlds.shop.check import check
from pathloom.worlds.shop.files import read_plan
from pathloom.worlds.shop.methods import plan_of
from pathloom.worlds.shop.pictures import LOOKS, draw, drawn, row


def made(problem: Problem, start: list[int], end: list[int], bound: int | None = None) -> Plan:
    schedule = Schedule.of(np.array(start), np.array(end))
    values = objective_values(problem, schedule)
    history = ()
    return plan_of(problem, Result(schedule, values, bound, "path", "rule", "general", 0.25, history), "auto", 1.0, 0)


@pytest.fixture
def plan() -> Plan:
    model = Model("two jobs", "min")
    saw, crew = model.machine("saw", breaks=[(7, 9), (50, 60)]), model.renewable("crew", 2)
    door, frame = model.job("door"), model.job("frame")
    model.chain(model.task(3, [saw, (crew, 1)], job=door), model.task(4, [(crew, 1)], job=door))
    model.chain(model.task(2, [saw, (crew, 1)], job=frame), model.task(3, [(crew, 1)], job=frame))
    return verified(made(model.problem(), [0, 3, 3, 5], [3, 7, 5, 8], 7), check)


def test_critical_tasks_and_breaks_are_set_apart(plan: Plan) -> None:
    panel = drawn(plan)
    shown = panel.timeline
    assert shown.kinds == tuple(LOOKS)
    kinds = Counter(shown.kinds[kind] for kind in shown.kind)
    # The path: first cut 0-3, second cut 3-5, last task 5-8; tasks on two resources are drawn twice
    assert kinds == {"critical": 5, "work": 1, "break": 1}
    (breaks,) = np.flatnonzero(shown.kind == list(LOOKS).index("break"))
    assert (shown.start[breaks], shown.end[breaks]) == (7, 8), "as far as the schedule goes"
    assert panel.name == "auto: makespan 8 min, at least 7"


def test_tasks_side_by_side_get_rows_of_their_own(plan: Plan) -> None:
    shown = drawn(plan).timeline
    assert shown.resources == ("saw", "crew [1]", "crew [2]")
    for position in range(len(shown.resources)):
        spans = sorted(zip(shown.start[shown.resource == position], shown.end[shown.resource == position], strict=True))
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_breaks_are_drawn_over_every_row_of_their_resource() -> None:
    """Two of the crew work side by side over their break from 2 to 4; nobody uses the van."""
    model = Model()
    crew = model.renewable("crew", 2, breaks=[(2, 4)])
    model.machine("van", breaks=[(1, 3)])
    for _ in range(2):
        model.task(5, [(crew, 1)], allow_breaks=True)
    plan = verified(made(model.problem(), [0, 0], [7, 7]), check)
    shown = drawn(plan).timeline
    breaks = shown.kind == list(LOOKS).index("break")
    places = [shown.resources[row] for row in shown.resource[breaks]]
    assert list(zip(places, shown.start[breaks], shown.end[breaks], strict=True)) == [
        ("crew [1]", 2, 4),
        ("crew [2]", 2, 4),
        ("van", 1, 3),
    ]
    assert sorted(shown.resources[row] for row in shown.resource[~breaks]) == ["crew [1]", "crew [2]"]


def test_a_table_has_a_cell_for_every_title(plan: Plan) -> None:
    assert row(plan) == ("8", "7", "12.50%", "rule", "0.25") and len(WORLD.columns) == 5
    model = Model()
    model.task(3)
    assert row(made(model.problem(), [0], [3]))[1:3] == ("-", "-")


def test_a_written_plan_is_read_back_as_it_was(plan: Plan, tmp_path: Path) -> None:
    files = resolve(WORLD.write)(plan, [plan], tmp_path / "out")
    assert {what: path.name for what, path in files.items()} == {
        "plan": "plan.json",
        "page": "schedule.html",
        "picture": "schedule.png",
        "convergence": "convergence.png",
        "trace": "trace.json",
    }
    again = verified(read_plan(files["plan"]), check)
    assert again.decisions.start.tolist() == plan.decisions.start.tolist() and again.timeline == plan.timeline
    page = files["page"].read_text()
    assert "two jobs" in page and "critical path" in page and "general: 4 tasks, 2 resources" in page
    assert json.loads(files["trace"].read_text())["traceEvents"]
    picture = imread(files["picture"])
    assert picture.shape[1] > 400 and len({tuple(pixel) for pixel in picture.reshape(-1, picture.shape[-1])}) > 10


def test_plans_are_drawn_one_below_another(plan: Plan, tmp_path: Path) -> None:
    files = draw({"first": plan.timeline, "second": plan.timeline}, plan, tmp_path)
    assert all(path.is_file() for path in files.values()) and "second" in files["page"].read_text()


def test_a_problem_of_nothing_is_drawn_too(tmp_path: Path) -> None:
    empty = made(Problem(()), [], [], 0)
    assert check(empty.problem, empty) == []
    files = resolve(WORLD.write)(empty, [], tmp_path)
    assert all(path.is_file() for path in files.values())
    assert drawn(empty).name.endswith("proven optimal")
