"""How long a robot's axes take: trapezoid speed profiles, and the interlock that keeps the arm in while the base moves.

An axis accelerates, runs at its top speed and brakes, with equal rates up and down; a short way never reaches the top
speed. The base (rotation, track, height) moves with all axes at once, but only while the arm is retracted; the arm
extends, hands over and retracts only while the base stands. A whole transfer is therefore

    base move (the slowest axis)  +  extension  +  lift stroke and handshake  +  retraction.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathloom.worlds.shop.cells.cell import Axis, Cell, Robot


def travel_time(distance: float, axis: Axis) -> float:
    """Seconds to go `distance` from rest to rest.

    ``2 sqrt(d / a)`` where the top speed v is never reached (d < v^2 / a), else ``d / v + v / a``.

    Parameters
    ----------
    distance
        In the axis's unit of length (metres, or degrees for a rotation); its sign does not matter.
    """
    way = abs(distance)
    if way * axis.acceleration < axis.speed * axis.speed:
        return 2.0 * math.sqrt(way / axis.acceleration)
    return way / axis.speed + axis.speed / axis.acceleration


def profile_position(fraction: float, distance: float, axis: Axis) -> float:
    """Share of `distance` covered after `fraction` of its `travel_time`, both from 0 to 1."""
    way = abs(distance)
    if way == 0.0:
        return 1.0
    total = travel_time(way, axis)
    time = min(max(fraction, 0.0), 1.0) * total
    ramp = min(axis.speed / axis.acceleration, total / 2)
    top = axis.acceleration * ramp
    if time <= ramp:
        covered = 0.5 * axis.acceleration * time * time
    elif time <= total - ramp:
        covered = 0.5 * top * ramp + top * (time - ramp)
    else:
        covered = way - 0.5 * axis.acceleration * (total - time) ** 2
    return covered / way


def shortest_turn(start: float, end: float) -> float:
    """Signed degrees from `start` to `end` the shorter way round, in (-180, 180]."""
    turn = math.fmod(end - start, 360.0)
    if turn > 180.0:
        return turn - 360.0
    return turn + 360.0 if turn <= -180.0 else turn


def base_move_time(robot: Robot, turn: float, way: float, rise: float) -> float:
    """Seconds of a base move by `turn` degrees, `way` metres of track and `rise` metres of height, all axes at once."""
    slowest = max(travel_time(turn, robot.rotation), travel_time(rise, robot.lift))
    if way:
        if robot.track is None:
            raise ValueError(f"robot '{robot.name}': a fixed base cannot go {way:g} m along a track")
        slowest = max(slowest, travel_time(way, robot.track))
    return slowest


def handling_time(robot: Robot) -> float:
    """Seconds of a pick or a place at a standing base: out, lift stroke and handshake, back in."""
    arm = travel_time(robot.stroke, robot.extension)
    return arm + travel_time(robot.lift_stroke, robot.lift) + robot.handshake + arm


def poses(cell: Cell, robot: Robot) -> NDArray[np.float64]:
    """Where the base stands for each pose, shape (2 * places + 1, 3): track (m), rotation (degrees), height (m).

    Pose ``2 * place + arm`` serves a place with an arm; the last pose is the robot's home. A second arm that points
    `arm_angle` degrees away from the first needs the base turned by as much less.
    """
    stands = np.empty((2 * len(cell.places) + 1, 3))
    for number, place in enumerate(cell.places):
        for arm in range(2):
            turned = place.angle - arm * robot.arm_angle
            stands[2 * number + arm] = (place.x, turned, place.height)
    stands[-1] = (robot.home, robot.home_angle, 0.0)
    return stands


def travel_table(cell: Cell, robot: Robot) -> NDArray[np.float64]:
    """Seconds of base moves between all poses, shape (2 * places + 1, 2 * places + 1); see `poses`.

    A robot without a track keeps its place on it whatever the places say; the cell's validation has made sure that
    they all lie there.
    """
    stands = poses(cell, robot)
    size = len(stands)
    table = np.zeros((size, size))
    for a in range(size):
        for b in range(a):
            way = float(stands[b, 0] - stands[a, 0]) if robot.track is not None else 0.0
            turn = shortest_turn(float(stands[a, 1]), float(stands[b, 1]))
            table[a, b] = table[b, a] = base_move_time(robot, turn, way, float(stands[b, 2] - stands[a, 2]))
    return table
