"""Move times are those of trapezoid speed profiles; the base moves with all axes at once, the arm only at rest."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_cells import ring, robot

from pathloom.worlds.shop.cells.cell import Axis
from pathloom.worlds.shop.cells.kinematics import (
    base_move_time,
    handling_time,
    profile_position,
    shortest_turn,
    travel_table,
    travel_time,
)

axes = st.builds(Axis, st.floats(0.01, 1e3), st.floats(0.01, 1e4))
ways = st.floats(0.0, 1e4)


@given(ways, axes)
def test_travel_time_is_the_closed_form(way: float, axis: Axis) -> None:
    v, a = axis.speed, axis.acceleration
    expected = 2 * math.sqrt(way / a) if way < v * v / a else way / v + v / a
    assert travel_time(way, axis) == pytest.approx(expected, abs=1e-9, rel=1e-12)
    assert travel_time(-way, axis) == travel_time(way, axis)


@given(st.floats(0.01, 1e3), axes)
def test_the_area_under_the_speed_is_the_way(way: float, axis: Axis) -> None:
    """Integrates the speed numerically: an oracle that knows no formula for the time of a way."""
    total = travel_time(way, axis)
    steps = 4000
    width = total / steps
    area = 0.0
    for k in range(steps):
        t = (k + 0.5) * width
        area += width * min(axis.speed, axis.acceleration * t, axis.acceleration * (total - t))
    assert area == pytest.approx(way, rel=1e-3)


@given(ways, ways, axes)
def test_a_stop_on_the_way_never_saves_time(a: float, b: float, axis: Axis) -> None:
    assert travel_time(a + b, axis) <= travel_time(a, axis) + travel_time(b, axis) + 1e-9


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.01, 100.0), axes)
def test_a_profile_runs_from_start_to_end_without_turning_back(s: float, t: float, way: float, axis: Axis) -> None:
    assert profile_position(0.0, way, axis) == 0.0
    assert profile_position(1.0, way, axis) == pytest.approx(1.0)
    first, second = sorted((s, t))
    assert profile_position(first, way, axis) <= profile_position(second, way, axis) + 1e-12
    assert profile_position(0.5, way, axis) == pytest.approx(0.5)


@given(st.floats(-720, 720), st.floats(-720, 720))
def test_a_turn_takes_the_shorter_way_round(start: float, end: float) -> None:
    turn = shortest_turn(start, end)
    assert -180.0 - 1e-9 <= turn <= 180.0
    assert math.cos(math.radians(start + turn)) == pytest.approx(math.cos(math.radians(end)), abs=1e-9)


def test_a_transfer_by_hand() -> None:
    """90 degrees at 90 and 180: 1.5 s; out and in again 0.5 m at 1 and 2 are 1 s each; the lift is idle."""
    arm = robot(handshake=0.25)
    assert base_move_time(arm, 90.0, 0.0, 0.0) == pytest.approx(1.5)
    assert handling_time(arm) == pytest.approx(2.25)
    assert base_move_time(arm, 90.0, 0.0, 1.0) == pytest.approx(10.25), "the slowest axis decides: 1 m of lift"


def test_the_second_arm_needs_another_rotation() -> None:
    cell = ring([10.0, 10.0], arms=2)
    table = travel_table(cell, cell.robots[0])
    assert table[2 * 2, 2 * 2 + 1] == pytest.approx(travel_time(180.0, cell.robots[0].rotation))
    assert table[0, 0] == 0.0
    assert (table == table.T).all()


def test_a_fixed_base_does_not_go_along_a_track() -> None:
    with pytest.raises(ValueError, match="fixed base"):
        base_move_time(robot(), 0.0, 1.0, 0.0)
