"""Proven bounds on the time per item of a robot cell: the busiest stations, and the busiest robot.

A slot is taken from the moment that an arm comes in with an item until an arm has left with it, and then stays empty
until the next item can be there: the turn from one arm to the other with a dual-arm robot; with a single arm, the way
to put the item down, to fetch another and to come back. Stations that share steps are bounded together by a small
linear programme. A robot is busy for two hand-overs and a loaded move for each transfer, and a single-arm robot also
for the empty moves between them, of which a minimum-cost assignment is the least total.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.shop.cells.cell import Cell, Station
from pathloom.worlds.shop.cells.kinematics import handling_time, travel_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """Seconds per item that no control beats, and the argument that proves it."""

    seconds: float
    by: str


@dataclass(frozen=True)
class _Times:
    """Least times of a cell: stops are the input, the steps, the output.

    Attributes
    ----------
    stops
        Numbers of the places of each stop.
    handling
        Seconds of a hand-over by the quickest robot.
    gap
        Place number of a station -> least seconds between two items in one of its slots.
    loaded
        Least seconds of a move from any place of each stop to any of the next.
    empty
        Least seconds of a move from any place of stop i + 1 to any place of stop j, shape (K + 1, K + 1).
    first
        Least seconds from a robot's home to an input.
    """

    stops: tuple[tuple[int, ...], ...]
    handling: float
    gap: dict[int, float]
    loaded: Floats
    empty: Floats
    first: float


def _stops(cell: Cell) -> tuple[tuple[int, ...], ...]:
    number = cell.place_number
    inputs = tuple(number[port.name] for port in cell.ports if port.role == "input")
    outputs = tuple(number[port.name] for port in cell.ports if port.role == "output")
    return (inputs, *(tuple(number[name] for name in step.stations) for step in cell.recipe), outputs)


@lru_cache(maxsize=64)
def _times(cell: Cell) -> _Times:
    stops = _stops(cell)
    tables = [travel_table(cell, robot) for robot in cell.robots]
    arms = [robot.arms for robot in cell.robots]

    def way(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        least = np.inf
        for robot, table in enumerate(tables):
            for p in a:
                for q in b:
                    if cell.reaches(robot, p) and cell.reaches(robot, q):
                        ends = [(i, j) for i in range(arms[robot]) for j in range(arms[robot])]
                        least = min(least, *(float(table[2 * p + i, 2 * q + j]) for i, j in ends), np.inf)
        return least

    handling = min(handling_time(robot) for robot in cell.robots)
    buffers = tuple(cell.place_number[buffer.name] for buffer in cell.buffers)
    gap: dict[int, float] = {}
    for k in range(1, len(stops) - 1):
        for s in stops[k]:
            before = {p for i in range(1, len(stops) - 1) if s in stops[i] for p in (*stops[i - 1], *buffers)}
            after = {p for i in range(1, len(stops) - 1) if s in stops[i] for p in (*stops[i + 1], *buffers)}
            again = any(s in stops[i] and s in stops[i + 1] for i in range(1, len(stops) - 2))
            if len(tables) == 2 or again:
                gap[s] = 0.0  # the other robot may bring the next item, or the robot put the same one back at once
                continue
            least = min(way((s,), (d,)) + way((d,), (b,)) + way((b,), (s,)) for d in after for b in before)
            gap[s] = least + 2.0 * handling
            if arms[0] == 2:
                gap[s] = min(gap[s], float(tables[0][2 * s, 2 * s + 1]))
    moves = len(stops) - 1
    loaded = np.array([way(stops[k], stops[k + 1]) for k in range(moves)])
    empty = np.array([[way(stops[i + 1], stops[j]) for j in range(moves)] for i in range(moves)])
    empty[~np.isfinite(empty)] = 0.0  # no robot reaches both: the move is never made by one, and bounds nothing
    first = min(
        min(float(table[-1, 2 * p + arm]) for arm in range(count) for p in stops[0] if cell.reaches(robot, p))
        for robot, (table, count) in enumerate(zip(tables, arms))
        if any(cell.reaches(robot, p) for p in stops[0])
    )
    return _Times(stops, handling, gap, loaded, empty, first)


def _least_stay(cell: Cell, place: int) -> float:
    station = cell.places[place]
    assert isinstance(station, Station)
    return station.least_stay


def _robot_seconds(cell: Cell) -> tuple[float, float]:
    """Least robot time per item, and the largest empty move in it that a lot can save at its end."""
    from scipy.optimize import linear_sum_assignment

    times = _times(cell)
    transfers = len(times.loaded)
    busy = 2.0 * transfers * times.handling
    spared = 0.0
    if all(robot.arms == 1 for robot in cell.robots):
        busy += float(times.loaded.sum())
        if len(cell.robots) == 1:
            rows, columns = linear_sum_assignment(times.empty)
            busy += float(times.empty[rows, columns].sum())
            spared = float(times.empty.max())
    return busy / len(cell.robots), spared


@lru_cache(maxsize=64)
def long_run_bound(cell: Cell) -> Bound:
    """Least expected seconds per item of any control in the long run (the lot's size does not matter)."""
    from scipy.optimize import linprog

    times = _times(cell)
    pairs = [(k, s) for k in range(1, len(times.stops) - 1) for s in times.stops[k]]
    stations = sorted({s for _, s in pairs})
    # Variables: share of the items that do step k at station s, then the seconds per item.
    upper = np.zeros((len(stations), len(pairs) + 1))
    equal = np.zeros((len(cell.recipe), len(pairs) + 1))
    for column, (k, s) in enumerate(pairs):
        process = max(cell.step_time(k - 1, cell.places[s].name).mean, _least_stay(cell, s))
        upper[stations.index(s), column] = process + 2.0 * times.handling + times.gap[s]
        equal[k - 1, column] = 1.0
    for row, s in enumerate(stations):
        upper[row, -1] = -cell.places[s].slots
    cost = np.zeros(len(pairs) + 1)
    cost[-1] = 1.0
    found = linprog(cost, A_ub=upper, b_ub=np.zeros(len(stations)), A_eq=equal, b_eq=np.ones(len(cell.recipe)))
    busy, _ = _robot_seconds(cell)
    by_stations = float(found.fun)
    return Bound(by_stations, "station bottleneck") if by_stations >= busy else Bound(busy, "robot busy time")


@lru_cache(maxsize=64)
def station_loads(cell: Cell) -> tuple[float, ...]:
    """Share of the bound's time per item that each place is in use, shape (places,); equal shares in a step."""
    times = _times(cell)
    seconds = long_run_bound(cell).seconds
    loads = [0.0] * len(cell.places)
    for k in range(1, len(times.stops) - 1):
        slots = sum(cell.places[s].slots for s in times.stops[k])
        for s in times.stops[k]:
            process = max(cell.step_time(k - 1, cell.places[s].name).mean, _least_stay(cell, s))
            loads[s] += (process + 2.0 * times.handling + times.gap[s]) / slots / max(seconds, 1e-12)
    return tuple(loads)


def lot_bound(cell: Cell, draws: Floats) -> Bound:
    """Least seconds per item with which any control ends a lot whose processing times follow from `draws`.

    Unlike `long_run_bound` it counts how the cell fills and empties, and holds for this very lot.

    Parameters
    ----------
    draws
        Shape (items, steps): the uniform numbers behind the processing times.
    """
    times = _times(cell)
    items, steps = draws.shape
    hand = times.handling
    # Least process time of each item in each step, and the least that any item can take there.
    least = np.empty((items, steps))
    floor = np.empty(steps)
    for k in range(steps):
        options = [(cell.step_time(k, cell.places[s].name), _least_stay(cell, s)) for s in times.stops[k + 1]]
        columns = [np.maximum([law.quantile(float(u)) for u in draws[:, k]], stay) for law, stay in options]
        least[:, k] = np.min(columns, axis=0)
        floor[k] = min(max(law.low, stay) for law, stay in options)
    transfer = times.loaded + 2.0 * hand
    before = times.first + np.array([transfer[: k + 1].sum() - hand + floor[:k].sum() for k in range(steps)])
    after = np.array([transfer[k + 1 :].sum() - hand + floor[k + 1 :].sum() for k in range(steps)])
    best = Bound(0.0, "station bottleneck")
    for group in _shared_steps(times.stops[1:-1]):
        stations = {s for k in group for s in times.stops[k + 1]}
        slots = sum(cell.places[s].slots for s in stations)
        gap = min(times.gap[s] for s in stations)
        visits = len(group) * items
        held = float(least[:, group].sum()) + visits * (2.0 * hand + gap) - min(slots, visits) * gap
        total = float(before[group].min()) + held / slots + float(after[group].min())
        if total > best.seconds:
            best = Bound(total, "station bottleneck")
    busy, spared = _robot_seconds(cell)
    if times.first + items * busy - spared > best.seconds:
        best = Bound(times.first + items * busy - spared, "robot busy time")
    longest = times.first + float((least.sum(axis=1)).max()) + float(transfer.sum())
    if longest > best.seconds:
        best = Bound(longest, "longest item")
    return Bound(best.seconds / items, best.by)


def _shared_steps(stops: tuple[tuple[int, ...], ...]) -> list[list[int]]:
    """Steps grouped so that those of different groups share no station."""
    groups: list[tuple[set[int], list[int]]] = []
    for k, places in enumerate(stops):
        joined, members = set(places), [k]
        for group in [g for g in groups if g[0] & joined]:
            groups.remove(group)
            joined |= group[0]
            members = group[1] + members
        groups.append((joined, members))
    return [sorted(members) for _, members in groups]
