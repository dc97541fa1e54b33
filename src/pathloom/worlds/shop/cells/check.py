"""Independent checker of a cell's timeline: it reads spans and the cell, and shares no code with simulator or kernels.

Rules
-----
``names``      resources are the cell's robots and slots, items its lot;
``robot``      a robot does one thing at a time;
``move``       a robot is where its hand-over happens, within its zone, and no base move, turn or hand-over is quicker
               than its axes allow (trapezoid profiles; the base moves only between hand-overs, so the arm is in);
``arm``        an arm takes an item only when it is free and gives only what it holds;
``transfer``   an item is taken from where it lies;
``slot``       a slot holds one item, and none from the arm's coming in to its leaving;
``recipe``     every item goes through the steps in order, at stations of each step, from an input to an output port;
``process``    an item is processed for as long as its lot says, and is not taken out before that;
``dwell``      a finished item is fetched within its station's limit;
``clearance``  two robots on a track keep their distance;
``objective``  the time per item is the end of the last one divided by their number, and the bound is not above it.

Times are compared with a tolerance of 1e-6 s.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from pathloom.plan import Plan, Violation
from pathloom.worlds.shop.cells.cell import Axis, Buffer, Cell, Port, Robot, Station

TOLERANCE = 1e-6
MOST = 200
"""Findings of one rule that are listed."""


@dataclass(frozen=True)
class _Span:
    kind: str
    item: str
    place: int
    arm: int
    step: int
    start: float
    end: float


class _Findings:
    def __init__(self) -> None:
        self.list: list[Violation] = []
        self.count: dict[str, int] = defaultdict(int)

    def add(self, rule: str, message: str, item: str = "", resource: str = "") -> None:
        self.count[rule] += 1
        if self.count[rule] <= MOST:
            self.list.append(Violation(rule, message, (item,) if item else (), (resource,) if resource else ()))


def check_cell(cell: Cell, plan: Plan) -> list[Violation]:
    """Broken rules of a plan, empty if there are none."""
    found = _Findings()
    robots, slots = _read(cell, plan, found)
    if found.list:
        return found.list
    handed: dict[str, list[tuple[float, float, str, int]]] = defaultdict(list)  # item -> (start, end, kind, place)
    for number, robot in enumerate(cell.robots):
        _check_robot(cell, robot, robots[number], handed, found)
    _check_items(cell, plan, handed, slots, found)
    _check_slots(cell, slots, found)
    if len(cell.robots) == 2:
        _check_clearance(cell, robots, found)
    last = max((end for spans in robots for span in spans for end in (span.end,) if span.kind == "place"), default=0.0)
    if abs(plan.objective.value - last / cell.lot) > TOLERANCE:
        found.add("objective", f"stated {plan.objective.value:g} s per item, the last one ends at {last:g} s")
    if plan.bound is not None and plan.bound > plan.objective.value + TOLERANCE:
        found.add("objective", f"the bound {plan.bound:g} s is above the value {plan.objective.value:g} s")
    return found.list


def _read(cell: Cell, plan: Plan, found: _Findings) -> tuple[list[list[_Span]], dict[str, list[_Span]]]:
    """Spans by robot and by slot, in order of time."""
    table = plan.timeline
    robots: list[list[_Span]] = [[] for _ in cell.robots]
    slots: dict[str, list[_Span]] = {}
    for place in (*cell.stations, *cell.buffers):
        for slot in range(place.slots):
            slots[place.name + (f"#{slot + 1}" if slot else "")] = []
    names = {robot.name: number for number, robot in enumerate(cell.robots)}
    items = {f"item{number + 1}" for number in range(cell.lot)}
    missing = {"place", "arm", "step"} - set(table.columns)
    if missing:
        found.add("names", f"the timeline lacks the column '{min(missing)}'")
        return robots, slots
    order = np.lexsort((table.end, table.start))
    for row in order.tolist():
        resource, item = table.resources[table.resource[row]], table.items[table.item[row]]
        span = _Span(
            table.kinds[table.kind[row]],
            item,
            int(table.columns["place"][row]),
            int(table.columns["arm"][row]),
            int(table.columns["step"][row]),
            float(table.start[row]),
            float(table.end[row]),
        )
        if not -1 <= span.place < len(cell.places):
            found.add("names", f"a span points to place {span.place} of {len(cell.places)}", item, resource)
        elif item not in items and not (item == "-" and span.kind in ("move", "wait")):
            found.add("names", f"'{item}' is no item of a lot of {cell.lot}", item, resource)
        elif resource in names and span.kind in ("move", "wait", "pick", "place", "turn"):
            robots[names[resource]].append(span)
        elif resource in slots and span.kind in ("process", "hold"):
            if cell.places[span.place].name != resource.partition("#")[0]:
                found.add("names", f"a span at place {span.place} is told of '{resource}'", item, resource)
            slots[resource].append(span)
        else:
            found.add("names", f"'{span.kind}' of '{resource}' is nothing that the cell does", item, resource)
    return robots, slots


def _axis_seconds(distance: float, axis: Axis) -> float:
    """Rest to rest: a triangle of speed over time, cut off at the top speed."""
    way = abs(distance)
    peak = math.sqrt(way * axis.acceleration)
    if peak <= axis.speed:
        return 2.0 * peak / axis.acceleration if way else 0.0
    ramps = axis.speed**2 / axis.acceleration
    return 2.0 * axis.speed / axis.acceleration + (way - ramps) / axis.speed


def _base_seconds(robot: Robot, start: tuple[float, float, float], end: tuple[float, float, float]) -> float:
    turn = abs(end[1] - start[1]) % 360.0
    turn = min(turn, 360.0 - turn)
    times = [_axis_seconds(turn, robot.rotation), _axis_seconds(end[2] - start[2], robot.lift)]
    if robot.track is not None:
        times.append(_axis_seconds(end[0] - start[0], robot.track))
    return max(times)


def _stand(cell: Cell, robot: Robot, place: int, arm: int) -> tuple[float, float, float]:
    """Track, rotation and height at which an arm serves a place; -1: home."""
    if place < 0:
        return robot.home, robot.home_angle, 0.0
    at = cell.places[place]
    return at.x, at.angle - (robot.arm_angle if arm == 1 else 0.0), at.height


def _check_robot(
    cell: Cell,
    robot: Robot,
    spans: list[_Span],
    handed: dict[str, list[tuple[float, float, str, int]]],
    found: _Findings,
) -> None:
    hand = (
        2.0 * _axis_seconds(robot.stroke, robot.extension)
        + _axis_seconds(robot.lift_stroke, robot.lift)
        + robot.handshake
    )
    held: dict[int, str] = {}
    here, free = _stand(cell, robot, -1, 0), 0.0
    for span in spans:
        where = f"{robot.name} at {span.start:g} s"
        if span.start < free - TOLERANCE:
            found.add("robot", f"{where}: two things at once", span.item, robot.name)
        free = max(free, span.end)
        seconds = span.end - span.start
        if span.kind != "wait" and not 0 <= span.arm < robot.arms and span.place >= 0:
            found.add("arm", f"{where}: arm {span.arm} of {robot.arms}", span.item, robot.name)
            continue
        there = _stand(cell, robot, span.place, span.arm)
        if robot.zone is not None and span.place >= 0 and not robot.zone[0] <= there[0] <= robot.zone[1]:
            found.add("move", f"{where}: at {there[0]:g} m, outside the robot's zone", span.item, robot.name)
        if span.kind in ("move", "turn"):
            if seconds < _base_seconds(robot, here, there) - TOLERANCE:
                found.add(
                    "move",
                    f"{where}: a {span.kind} of {seconds:g} s, its axes need {_base_seconds(robot, here, there):g} s",
                    span.item,
                    robot.name,
                )
            here = there
        elif span.kind in ("pick", "place"):
            if _base_seconds(robot, here, there) > TOLERANCE:
                found.add("move", f"{where}: a {span.kind} where the robot is not", span.item, robot.name)
                here = there
            if seconds < hand - TOLERANCE:
                found.add(
                    "move", f"{where}: a {span.kind} of {seconds:g} s, its axes need {hand:g} s", span.item, robot.name
                )
            if span.kind == "pick" and span.arm in held:
                found.add("arm", f"{where}: arm {span.arm} holds {held[span.arm]} already", span.item, robot.name)
            if span.kind == "place" and held.get(span.arm) != span.item:
                found.add("arm", f"{where}: arm {span.arm} does not hold {span.item}", span.item, robot.name)
            if span.kind == "pick":
                held[span.arm] = span.item
            else:
                held.pop(span.arm, None)
            handed[span.item].append((span.start, span.end, span.kind, span.place))


def _check_items(
    cell: Cell,
    plan: Plan,
    handed: dict[str, list[tuple[float, float, str, int]]],
    slots: dict[str, list[_Span]],
    found: _Findings,
) -> None:
    # What the lot's seed says about processing times; the same draw that any control of this lot meets.
    draws = np.random.default_rng([plan.seed, 0x0CE11]).random((cell.lot, len(cell.recipe)))
    processed: dict[str, list[_Span]] = defaultdict(list)
    for spans in slots.values():
        for span in spans:
            if span.kind == "process":
                processed[span.item].append(span)
    for number in range(cell.lot):
        item = f"item{number + 1}"
        moves = sorted(handed.get(item, []))
        told = sorted(processed.get(item, []), key=lambda span: span.start)
        step, place, kind = 0, -1, "place"
        arrived = 0.0
        for start, end, does, at in moves:
            if does == kind:  # an item that was never taken counts as put down
                found.add("transfer", f"{item}: two of '{does}' in a row at {start:g} s", item)
            where = cell.places[at]
            if does == "pick":
                if place == -1:
                    if not (isinstance(where, Port) and where.role == "input"):
                        found.add("recipe", f"{item}: begins at '{where.name}', expected an input port", item)
                elif at != place:
                    found.add(
                        "transfer", f"{item}: taken from '{where.name}', it lies at '{cell.places[place].name}'", item
                    )
                elif isinstance(where, Station):
                    _check_stay(
                        cell, where, item, step - 1, float(draws[number, step - 1]), arrived, start, told, found
                    )
                elif start < arrived - TOLERANCE:
                    found.add("transfer", f"{item}: taken from '{where.name}' before it lies there", item)
            else:
                if isinstance(where, Station):
                    if step >= len(cell.recipe) or where.name not in cell.recipe[step].stations:
                        found.add("recipe", f"{item}: '{where.name}' is no station of step {step}", item, where.name)
                        break
                    step += 1
                elif isinstance(where, Port) and (where.role != "output" or step != len(cell.recipe)):
                    found.add("recipe", f"{item}: brought to '{where.name}' after {step} steps", item, where.name)
                    break
                arrived = end
            place, kind = at, does
        else:
            out = place >= 0 and isinstance(cell.places[place], Port) and kind == "place"
            if not out or step != len(cell.recipe):
                found.add(
                    "recipe", f"{item}: ends after {step} of {len(cell.recipe)} steps, not in an output port", item
                )
            if len(told) != step:
                found.add("process", f"{item}: {len(told)} spans of processing for {step} steps", item)


def _check_stay(
    cell: Cell,
    station: Station,
    item: str,
    step: int,
    draw: float,
    arrived: float,
    fetched: float,
    told: list[_Span],
    found: _Findings,
) -> None:
    """An item's stay at a station: processing from arrival on, its length, and the dwell limit after it."""
    law = cell.step_time(step, station.name)
    span, mode = law.high - law.low, law.mode
    if span == 0.0:
        seconds = law.low
    elif mode is None:
        seconds = law.low + draw * span
    elif draw * span < mode - law.low:
        seconds = law.low + math.sqrt(draw * span * (mode - law.low))
    else:
        seconds = law.high - math.sqrt((1.0 - draw) * span * (law.high - mode))
    ready = arrived + max(seconds, station.least_stay)
    where = f"{item} at '{station.name}'"
    if fetched < ready - TOLERANCE:
        found.add("process", f"{where}: taken at {fetched:g} s, ready at {ready:g} s", item, station.name)
    if fetched > ready + station.longest_wait + TOLERANCE:
        over = fetched - ready
        found.add("dwell", f"{where}: waits {over:g} s, its limit is {station.longest_wait:g} s", item, station.name)
    shown = [one for one in told if one.step == step]
    if not shown or abs(shown[0].start - arrived) > TOLERANCE or abs(shown[0].end - ready) > TOLERANCE:
        found.add("process", f"{where}: no span of processing from {arrived:g} to {ready:g} s", item, station.name)


def _check_slots(cell: Cell, slots: dict[str, list[_Span]], found: _Findings) -> None:
    """Between two items of a slot an arm takes one out and brings the other; at least two hand-overs lie there."""
    quickest = min(
        2.0 * _axis_seconds(r.stroke, r.extension) + _axis_seconds(r.lift_stroke, r.lift) + r.handshake
        for r in cell.robots
    )
    for name, spans in slots.items():
        kind = "buffer" if isinstance(_place(cell, name), Buffer) else "station"
        before: _Span | None = None
        for span in spans:
            if before is not None:
                same = before.item == span.item and before.kind == "process" and span.kind == "hold"
                gap = 0.0 if same else 2.0 * quickest
                if span.start < before.end + gap - TOLERANCE:
                    found.add(
                        "slot",
                        f"{kind} {name} at {span.start:g} s: {span.item} in it before {before.item} is out",
                        span.item,
                        name,
                    )
            before = span


def _place(cell: Cell, slot: str) -> object:
    return next(place for place in cell.places if place.name == slot.partition("#")[0])


def _check_clearance(cell: Cell, robots: list[list[_Span]], found: _Findings) -> None:
    """Ranges of the track that the robots need at the same time lie apart by the clearance."""
    ranges: list[list[tuple[float, float, float, float]]] = []
    for robot, spans in zip(cell.robots, robots):
        mine: list[tuple[float, float, float, float]] = []
        here, since = robot.home, 0.0
        for span in spans:
            if span.kind != "move":
                continue
            there = _stand(cell, robot, span.place, span.arm)[0]
            mine.append((since, span.start, here, here))
            mine.append((span.start, span.end, min(here, there), max(here, there)))
            here, since = there, span.end
        mine.append((since, math.inf, here, here))
        ranges.append([one for one in mine if one[1] > one[0] + TOLERANCE])
    left, right = ranges
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = left[i], right[j]
        shared = min(a[1], b[1]) - max(a[0], b[0])
        if shared > TOLERANCE and a[3] + cell.clearance > b[2] + TOLERANCE:
            found.add(
                "clearance",
                f"robots {b[2] - a[3]:g} m apart at {max(a[0], b[0]):g} s, expected {cell.clearance:g} m",
                resource=cell.robots[0].name,
            )
        if a[1] <= b[1]:
            i += 1
        else:
            j += 1
