"""Where everything of a cell is drawn, and where it is at a moment; for the animated page and the still picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pathloom.timeline import Timeline
from pathloom.worlds.shop.cells.cell import Cell, Port, Robot, Station
from pathloom.worlds.shop.cells.kinematics import profile_position, shortest_turn, travel_time

KINDS = ("move", "wait", "pick", "place", "turn")
TUCKED = 0.42
"""Metres from the robot's axis to the blade of an arm that is in."""


@dataclass(frozen=True)
class Layout:
    """Places as squares of `size` metres around or along the robots' way, at `reach` from the axis of a robot.

    Attributes
    ----------
    centres
        Centre of each place, x to the right and y up.
    rail
        Ends of the track, None for robots on a fixed base.
    """

    size: float
    reach: float
    centres: tuple[tuple[float, float], ...]
    rail: tuple[float, float] | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top (y down), width and height of all, with a margin for names."""
        left = min(x for x, _ in self.centres) - self.size
        right = max(x for x, _ in self.centres) + self.size
        high = max(max(y for _, y in self.centres), 0.0) + self.size
        low = min(min(y for _, y in self.centres), 0.0) - self.size
        if self.rail is not None:
            left, right = min(left, self.rail[0] - 0.5), max(right, self.rail[1] + 0.5)
        return left, -high, right - left, high - low


def layout(cell: Cell) -> Layout:
    """Squares as large as fit without overlap, up to 0.8 m, at 1.25 m or, where they need it, further out."""

    def centres(reach: float) -> list[tuple[float, float]]:
        return [
            (p.x + reach * math.cos(math.radians(p.angle)), reach * math.sin(math.radians(p.angle)))
            for p in cell.places
        ]

    def room(points: list[tuple[float, float]]) -> float:
        gaps = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in combinations(points, 2)]
        return min(gaps, default=1.0)

    reach = 1.25
    if all(place.x == cell.places[0].x for place in cell.places):
        while room(centres(reach)) < 0.9 and reach < 4.0:
            reach += 0.05
    points = centres(reach)
    rail = None
    if any(robot.track is not None for robot in cell.robots):
        ends = [place.x for place in cell.places] + [robot.home for robot in cell.robots]
        rail = (min(ends), max(ends))
    return Layout(max(0.2, min(0.8, 0.86 * room(points))), reach, tuple(points), rail)


def robot_spans(cell: Cell, timeline: Timeline) -> list[list[tuple[float, float, int, int, int, int]]]:
    """Start, end, kind (in `KINDS`), place, arm and item (-1: none) of what each robot does, in order."""
    names = {robot.name: number for number, robot in enumerate(cell.robots)}
    number = {f"item{n + 1}": n for n in range(cell.lot)}
    spans: list[list[tuple[float, float, int, int, int, int]]] = [[] for _ in cell.robots]
    for row in range(len(timeline)):
        robot = names.get(timeline.resources[timeline.resource[row]])
        kind = timeline.kinds[timeline.kind[row]]
        if robot is None or kind not in KINDS:
            continue
        spans[robot].append(
            (
                float(timeline.start[row]),
                float(timeline.end[row]),
                KINDS.index(kind),
                int(timeline.columns["place"][row]),
                int(timeline.columns["arm"][row]),
                number.get(timeline.items[timeline.item[row]], -1),
            )
        )
    return [sorted(one) for one in spans]


def slot_stays(cell: Cell, timeline: Timeline) -> dict[str, list[tuple[float, float, int, float, float, float]]]:
    """By slot: when an item comes and goes, the item, when its processing begins and ends, and its deadline.

    An item changes hands in the middle of a hand-over.
    """
    moves: dict[tuple[int, int], list[tuple[float, float, int]]] = {}
    for spans in robot_spans(cell, timeline):
        for start, end, kind, place, _, item in spans:
            if kind in (2, 3):
                moves.setdefault((item, place), []).append((start, end, kind))
    number = {f"item{n + 1}": n for n in range(cell.lot)}
    stays: dict[str, list[tuple[float, float, int, float, float, float]]] = {}
    for spot in (*cell.stations, *cell.buffers):
        for slot in range(spot.slots):
            stays[spot.name + (f"#{slot + 1}" if slot else "")] = []
    for row in range(len(timeline)):
        name, kind = timeline.resources[timeline.resource[row]], timeline.kinds[timeline.kind[row]]
        buffered = name.partition("#")[0] in {buffer.name for buffer in cell.buffers}
        if name not in stays or kind != ("hold" if buffered else "process"):
            continue
        begun, ready = float(timeline.start[row]), float(timeline.end[row])
        where = cell.places[int(timeline.columns["place"][row])]
        if not isinstance(where, Station):
            ready = begun
        item = number[timeline.items[timeline.item[row]]]
        hands = moves[item, int(timeline.columns["place"][row])]
        come = max((hand for hand in hands if hand[2] == 3 and hand[1] <= begun + 1e-6), default=None)
        go = min((hand for hand in hands if hand[2] == 2 and hand[0] >= ready - 1e-6), default=None)
        arrival = begun if come is None else 0.5 * (come[0] + come[1])
        leaving = timeline.makespan if go is None else 0.5 * (go[0] + go[1])
        limit = where.longest_wait if isinstance(where, Station) else math.inf
        stays[name].append((arrival, leaving, item, begun, ready, ready + limit))
    return {name: sorted(rows) for name, rows in stays.items()}


@dataclass(frozen=True)
class RobotScene:
    """A robot at a moment: metres on the track, degrees, how far each arm is out (0 to 1), what each holds."""

    x: float
    angle: float
    out: tuple[float, float]
    held: tuple[int, int]


def stand(cell: Cell, robot: Robot, place: int, arm: int) -> tuple[float, float]:
    """Metres on the track and degrees at which an arm serves a place; -1: home."""
    if place < 0:
        return robot.home, robot.home_angle
    where = cell.places[place]
    return (where.x if robot.track is not None else robot.home), where.angle - (robot.arm_angle if arm == 1 else 0.0)


def robot_scene(
    cell: Cell, robot: Robot, spans: list[tuple[float, float, int, int, int, int]], time: float
) -> RobotScene:
    """Where a robot is at `time` and what it holds."""
    x, angle = robot.home, robot.home_angle
    held, out = [-1, -1], [0.0, 0.0]
    for start, end, kind, place, arm, item in spans:
        if start > time:
            break
        goal_x, goal_angle = stand(cell, robot, place, arm)
        if kind in (0, 4):
            way, turn = goal_x - x, shortest_turn(angle, goal_angle)
            if time >= end:
                x, angle = goal_x, goal_angle
                continue
            passed = time - start
            if robot.track is not None and way:
                x += way * profile_position(passed / travel_time(way, robot.track), way, robot.track)
            if turn:
                angle += turn * profile_position(passed / travel_time(turn, robot.rotation), turn, robot.rotation)
        elif kind in (2, 3):
            share = min((time - start) / max(end - start, 1e-12), 1.0)
            if share >= 0.5:
                held[arm] = item if kind == 2 else -1
            if share < 1.0 and robot.stroke > 0.0:
                seconds = travel_time(robot.stroke, robot.extension)
                nearest = min(time - start, end - time)
                out[arm] = profile_position(min(nearest / seconds, 1.0), robot.stroke, robot.extension)
    return RobotScene(x, angle, (out[0], out[1]), (held[0], held[1]))


def view_data(cell: Cell, timeline: Timeline, colours: list[str]) -> dict[str, Any]:
    """Everything that the animated page needs, as plain values."""
    plan = layout(cell)
    spans = robot_spans(cell, timeline)
    entries: list[float] = []
    exits: list[float] = []
    leaving: dict[int, list[float]] = {}
    for one in spans:
        for start, end, kind, place, _, _ in one:
            where = cell.places[place] if place >= 0 else None
            if isinstance(where, Port) and kind == 2:
                entries.append(0.5 * (start + end))
            elif isinstance(where, Port) and kind == 3:
                exits.append(0.5 * (start + end))
                leaving.setdefault(place, []).append(0.5 * (start + end))

    def axis(pair: Any) -> list[float] | None:
        return None if pair is None else [pair.speed, pair.acceleration]

    places = [
        {
            "name": place.name,
            "x": round(centre[0], 4),
            "y": round(centre[1], 4),
            "trackX": place.x,
            "angle": place.angle,
            "slots": place.slots,
            "port": place.role if isinstance(place, Port) else "",
            "label": "above",
            "times": sorted(leaving.get(number, [])),
        }
        for number, (place, centre) in enumerate(zip(cell.places, plan.centres))
    ]
    stays = slot_stays(cell, timeline)
    slots = []
    for name, rows in stays.items():
        base, _, count = name.partition("#")
        slots.append(
            {
                "name": name,
                "place": cell.place_number[base],
                "number": int(count or 1) - 1,
                "stays": [[*map(_short, row[:5]), None if math.isinf(row[5]) else _short(row[5])] for row in rows],
            }
        )
    robots = [
        {
            "name": robot.name,
            "arms": robot.arms,
            "armAngle": robot.arm_angle,
            "home": robot.home,
            "homeAngle": robot.home_angle,
            "stroke": robot.stroke,
            "rotation": axis(robot.rotation),
            "extension": axis(robot.extension),
            "track": axis(robot.track),
            "spans": [[*map(_short, span)] for span in one],
        }
        for robot, one in zip(cell.robots, spans)
    ]
    return {
        "box": [round(value, 3) for value in plan.box],
        "size": plan.size,
        "reach": plan.reach,
        "rail": plan.rail,
        "places": places,
        "slots": slots,
        "robots": robots,
        "entries": sorted(entries),
        "exits": sorted(exits),
        "items": cell.lot,
        "end": _short(timeline.makespan),
        "colours": colours,
    }


def _short(value: float) -> float:
    return value if isinstance(value, int) else round(value, 3)
