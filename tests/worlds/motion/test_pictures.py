"""What the command line shows and writes of a grid plan."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.image import imread

from pathloom.plan import verified
from pathloom.world import resolve
from pathloom.worlds.motion import WORLD
from pathloom.worlds.motion.check import check
from pathloom.worlds.motion.files import FORMAT, load, read_plan
from pathloom.worlds.motion.prioritised import prioritised

from .conftest import drawn


def test_a_written_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    plan = prioritised(drawn("a..B\n.@..\nb..A"), time_limit=5.0)
    files = resolve(WORLD.write)(plan, [plan], tmp_path / "out")
    assert sorted(path.name for path in files.values()) == ["paths-prioritised.png", "paths.png", "plan.json"]
    again = verified(read_plan(files["plan"]), check)
    assert [route.tolist() for route in again.decisions] == [route.tolist() for route in plan.decisions]
    assert (again.objective, again.bound, again.method, again.settings) == (
        plan.objective,
        plan.bound,
        plan.method,
        plan.settings,
    )
    assert again.timeline.to_dict() == plan.timeline.to_dict()
    assert json.loads(files["plan"].read_text())["metrics"] == again.metrics == plan.metrics
    picture = imread(files["picture"])
    # Walls are grey, free cells white, and each of the two agents brings a colour of its own.
    assert picture.shape[0] > 200 and len({tuple(pixel) for pixel in picture.reshape(-1, 4).tolist()}) > 20


def test_a_table_has_a_cell_for_every_title() -> None:
    plan = prioritised(drawn("a..A"), time_limit=5.0)
    cells = resolve(WORLD.row)(plan)
    assert len(cells) == len(WORLD.columns)
    assert cells[:4] == ("3", "3", "0.00%", "3")


def test_what_the_world_declares_exists(tmp_path: Path) -> None:
    assert WORLD.plan_format == FORMAT
    targets = [WORLD.recognise, WORLD.load, WORLD.check, WORLD.read_plan, WORLD.example, *WORLD.methods.values()]
    assert all(callable(resolve(target)) for target in targets)
    assert {WORLD.default_method, *WORLD.default_table} <= set(WORLD.methods)
    path = tmp_path / "robots.yaml"
    path.write_text(resolve(WORLD.example)())
    problem = load(path)
    plan = resolve(WORLD.methods[WORLD.default_method])(problem, time_limit=20.0)
    assert verified(plan, resolve(WORLD.check)).gap == 0
