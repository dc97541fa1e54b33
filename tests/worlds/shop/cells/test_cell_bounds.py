"""No control beats a bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cells import random_cell, ring

from pathloom.worlds.shop.cells.bounds import long_run_bound, lot_bound, station_loads
from pathloom.worlds.shop.cells.cell import Step
from pathloom.worlds.shop.cells.kinematics import handling_time
from pathloom.worlds.shop.cells.rules import EVERY_RULE, follow
from pathloom.worlds.shop.cells.simulator import lot_draws


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_no_rule_beats_the_bound_of_its_lot(seed: int) -> None:
    try:
        cell = random_cell(np.random.default_rng(seed))
    except ValueError:
        return
    least = lot_bound(cell, lot_draws(cell, seed % 97)).seconds
    for rule in EVERY_RULE[:: 1 + seed % 3]:
        assert follow(cell, rule, seed=seed % 97, traced=False).seconds_per_item >= least - 1e-9


def test_the_bound_of_a_slow_station_by_hand() -> None:
    """Process, both hand-overs, and with one arm the way out, a put, a fetch and the way back."""
    cell = ring([1000.0])
    hand = handling_time(cell.robots[0])
    bound = long_run_bound(cell)
    assert bound.by == "station bottleneck"
    # 120 degrees at 90 and 180: 120/90 + 0.5 s, three times: out, to the input, back.
    assert bound.seconds == pytest.approx(1000.0 + 4 * hand + 3 * (120 / 90 + 0.5))
    two = long_run_bound(ring([1000.0], arms=2))
    assert two.seconds == pytest.approx(1000.0 + 2 * hand + (180 / 90 + 0.5))


def test_quick_stations_leave_the_robot_as_the_bottleneck() -> None:
    assert long_run_bound(ring([0.1, 0.1, 0.1])).by == "robot busy time"


def test_an_item_that_stays_for_its_next_step_leaves_no_gap() -> None:
    """Two steps at one station: the robot may put the item back at once, so that only hand-overs lie between them."""
    cell = ring([100.0])
    twice = replace(cell, recipe=(Step(("s1",)), Step(("s1",))))
    assert long_run_bound(twice).seconds == pytest.approx(2 * (100.0 + 2 * handling_time(cell.robots[0])))


def test_the_bottleneck_has_load_one() -> None:
    loads = station_loads(ring([10.0, 500.0, 10.0]))
    assert max(loads) == pytest.approx(1.0)
    assert loads.index(max(loads)) == 3
