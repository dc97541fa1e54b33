"""The pages and pictures of a plan."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pathloom.worlds.shop.cells.files import load_cell, read_cell_plan
from pathloom.worlds.shop.cells.kinematics import handling_time
from pathloom.worlds.shop.cells.layout import layout, robot_scene, robot_spans, slot_stays
from pathloom.worlds.shop.cells.pictures import CELL_COLUMNS, animated_page, cell_row, draw_still, write_cell
from pathloom.worlds.shop.cells.rules import Rule, follow, rules, run_plan

EXAMPLES = Path(__file__).parents[4] / "examples"
NAMES = ["cell-linear-8", "cell-cluster-6", "cell-track-12", "cell-line-6"]


def _plan(name: str, lot: int = 8):
    cell = replace(load_cell(EXAMPLES / f"{name}.yaml"), lot=lot)
    return run_plan(follow(cell, Rule("longest")), method="rules", settings={"rule": "longest"}, seconds=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_places_do_not_overlap(name: str) -> None:
    where = layout(load_cell(EXAMPLES / f"{name}.yaml"))
    for i, (x, y) in enumerate(where.centres):
        for u, v in where.centres[:i]:
            assert max(abs(x - u), abs(y - v)) >= where.size


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_self_contained_and_knows_both_lights(name: str) -> None:
    page = animated_page(_plan(name))
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "prefers-color-scheme: dark" in page
    assert "FONT_STACK" not in page
    data = json.loads(re.search(r'id="cell-data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["entries"]) == len(data["exits"]) == 8
    assert all(len(slot["stays"]) for slot in data["slots"]) or name == "cell-track-12"


@pytest.mark.parametrize("name", NAMES)
def test_items_are_at_one_place_at_a_time(name: str) -> None:
    """At any moment each item lies in at most one slot or on one arm."""
    plan = _plan(name)
    cell, end = plan.problem, plan.timeline.makespan
    spans, stays = robot_spans(cell, plan.timeline), slot_stays(cell, plan.timeline)
    for k in range(200):
        moment = (k + 0.37) * end / 200
        seen = [stay[2] for rows in stays.values() for stay in rows if stay[0] <= moment < stay[1]]
        for robot, one in zip(cell.robots, spans):
            scene = robot_scene(cell, robot, one, moment)
            seen += [item for item in scene.held if item >= 0]
        assert len(seen) == len(set(seen))


def test_the_arm_is_out_in_the_middle_of_a_hand_over_and_in_while_the_base_moves() -> None:
    plan = _plan("cell-cluster-6")
    cell = plan.problem
    robot, spans = cell.robots[0], robot_spans(cell, plan.timeline)[0]
    for start, end, kind, _, arm, _ in spans:
        scene = robot_scene(cell, robot, spans, 0.5 * (start + end))
        if kind in (2, 3):
            assert scene.out[arm] == pytest.approx(1.0)
            assert end - start == pytest.approx(handling_time(robot))
        else:
            assert scene.out == (0.0, 0.0)


def test_everything_is_written_and_the_plan_is_read_back(tmp_path: Path) -> None:
    plan = rules(replace(load_cell(EXAMPLES / "cell-cluster-6.yaml"), lot=12))
    files = write_cell(plan, [plan], tmp_path)
    assert all(path.stat().st_size > 1000 for path in files.values())
    assert not list(tmp_path.glob("*.part"))
    again = read_cell_plan(files["plan"])
    assert again.problem == plan.problem
    assert again.timeline == plan.timeline
    assert again.objective == plan.objective
    assert len(cell_row(plan)) == len(CELL_COLUMNS)


def test_a_still_is_drawn_at_any_moment(tmp_path: Path) -> None:
    plan = _plan("cell-track-12")
    for k, share in enumerate((0.0, 0.33, 1.0)):
        path = tmp_path / f"{k}.png"
        draw_still(plan, path, time=share * plan.timeline.makespan)
        assert path.read_bytes().startswith(b"\x89PNG")
