"""Cell files: what is read, what is refused and how it is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cells import random_cell, ring, robot

from pathloom.plan import InputError
from pathloom.worlds.shop.cells.cell import Cell, Station
from pathloom.worlds.shop.cells.files import cell_of, cell_to_dict, load_cell, recognise

EXAMPLES = Path(__file__).parents[4] / "examples"
NAMES = ["cell-linear-8", "cell-cluster-6", "cell-track-12", "cell-line-6"]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_cells_are_read_and_written_without_loss(name: str, tmp_path: Path) -> None:
    path = EXAMPLES / f"{name}.yaml"
    assert recognise(path, path.read_text()) == "robot cell"
    cell = load_cell(path)
    copy = tmp_path / "cell.json"
    copy.write_text(json.dumps(cell_to_dict(cell)))
    assert recognise(copy, copy.read_text()) == "robot cell"
    assert load_cell(copy) == cell


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**9))
def test_any_cell_is_written_and_read_without_loss(seed: int) -> None:
    try:
        cell = random_cell(np.random.default_rng(seed))
    except ValueError:
        return
    assert cell_of(json.loads(json.dumps(cell_to_dict(cell)))) == cell


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ("lot: 200", "lot: 0", "lot", "expected a whole number"),
        ("lot: 200", "lott: 200", "lott", "did you mean 'lot'"),
        ("arms: 2", "arms: 3", "robots[0].arms", "from 1 to 2"),
        ("{low: 7, mode: 9, high: 15}", "{low: 30, mode: 9, high: 15}", "stations[0].time", "expected low <= high"),
        ("{low: 7, mode: 9, high: 15}", "quick", "stations[0].time", "expected seconds"),
        ("longest_wait: 150 s}", "longest_wait: soon}", "stations[2].longest_wait", "expected a number of seconds"),
        ("stations: [align]", "stations: [aling]", "recipe[0].stations", "did you mean 'align'"),
        ("role: output", "role: input", "ports", "'output'"),
        ("name: deposit A,", "name: align,", "name", "given twice"),
        ("speed: 120", "speed: -1", "robots[0].rotation.speed", "above 0"),
        ("angle: 67.5,", "x: 3,", "robots[0].track", "expected a track"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, old: str, new: str, key: str, said: str) -> None:
    text = (EXAMPLES / "cell-cluster-6.yaml").read_text()
    assert old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_cell(path)
    assert caught.value.file == str(path)
    assert caught.value.key == key
    assert said in caught.value.reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "kind: robot-cell", "[]", "kind: [", '{"kind": "robot-cell"'])
def test_what_is_no_cell_is_an_input_error(tmp_path: Path, text: str) -> None:
    for suffix in (".yaml", ".json"):
        path = tmp_path / f"wrong{suffix}"
        path.write_text(text)
        with pytest.raises(InputError):
            load_cell(path)


def test_other_files_are_not_taken_for_cells() -> None:
    assert recognise(Path("a.yaml"), "kind: grid\n") is None
    assert recognise(Path("a.txt"), "kind: robot-cell\n") is None
    assert recognise(Path("a.yaml"), "# not of the kind: robot-cells\n") is None


def test_two_robots_need_a_track_a_clearance_and_room() -> None:
    cell = load_cell(EXAMPLES / "cell-track-12.yaml")
    with pytest.raises(ValueError, match="clearance"):
        replace(cell, clearance=0.0)
    with pytest.raises(ValueError, match=r"robots\[1\].home"):
        replace(cell, robots=(cell.robots[0], replace(cell.robots[1], home=0.5)))
    with pytest.raises(ValueError, match="one track"):
        flat = ring([10.0])
        replace(flat, robots=(robot(name="a"), robot(name="b")), clearance=1.0)


def test_a_transfer_that_no_robot_can_make_is_refused() -> None:
    cell = load_cell(EXAMPLES / "cell-track-12.yaml")
    with pytest.raises(ValueError, match="no robot can"):
        replace(cell, robots=(replace(cell.robots[0], zone=(0.0, 4.0)), cell.robots[1]))


def test_frozen_cells_can_be_told_apart() -> None:
    cell = ring([10.0])
    other = replace(cell, stations=(Station(name="s1", angle=120.0, time=cell.stations[0].time, slots=2),))
    assert isinstance(other, Cell)
    assert hash(cell) != hash(other)
