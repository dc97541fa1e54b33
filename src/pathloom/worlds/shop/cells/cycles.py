"""Exact one-unit cycles of a robotic flow cell with one single-arm robot.

In a flow cell of m stations (one slot each, visited in order) the robot repeats the m + 1 transfers A_0 .. A_m, where
A_i takes an item from station i (0: the input) to station i + 1 (m + 1: the output). A one-unit cycle does each of them
once, in some order; there are m! of them (S. Sethi, C. Sriskandarajah, G. Sorger, J. Blazewicz, W. Kubiak, "Sequencing
of parts and robot moves in a robotic cell", 1992). With the order given, the shortest period T is the largest ratio of
length to height of a cycle in a graph of m + 1 events: the robot goes from one transfer to the next, and an item is
fetched no sooner than it is ready and no later than its dwell limit says; an arc into the next period has height 1.

The orders are searched depth first with bounds. Travel times need not be additive, so that the O(m^3) algorithms for
additive ones (Y. Crama, J. van de Klundert, 1997) do not apply; m up to about ten takes seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress, stop_requested
from pathloom.worlds.shop.cells import _cell_kernels as core
from pathloom.worlds.shop.cells._legal_kernels import legal
from pathloom.worlds.shop.cells.bounds import long_run_bound, lot_bound
from pathloom.worlds.shop.cells.cell import Cell, Station
from pathloom.worlds.shop.cells.kinematics import handling_time, travel_table
from pathloom.worlds.shop.cells.rules import run_plan
from pathloom.worlds.shop.cells.simulator import (
    Run,
    cell_arrays,
    finished_run,
    lot_draws,
    new_state,
    new_trace,
    trace_rows,
)

METHOD = "cycle"
_EPS = 1e-9


@dataclass(frozen=True)
class FlowCell:
    """What cycles depend on, for m stations.

    Attributes
    ----------
    stops
        Numbers of the places: input, the stations in order, output; shape (m + 2,).
    stay
        Seconds from the end of placing an item to the earliest start of picking it, by station; expected values.
    wait
        Dwell limits by station, infinite where there is none.
    loaded
        Seconds of transfer i, both hand-overs counted; shape (m + 1,).
    empty
        Seconds from the end of transfer i to the start of the pick of transfer j; shape (m + 1, m + 1).
    """

    stops: tuple[int, ...]
    stay: tuple[float, ...]
    wait: tuple[float, ...]
    loaded: tuple[float, ...]
    empty: tuple[tuple[float, ...], ...]
    handling: float


@dataclass(frozen=True)
class Cycle:
    """A one-unit cycle: the order of the transfers, beginning with 0, its period, and whether it is proven best."""

    order: tuple[int, ...]
    period: float
    proven: bool = True
    examined: int = 0


def flow_cell(cell: Cell) -> FlowCell | None:
    """The flow cell that a cell is; None where it is none (arms, robots, slots, groups, buffers or a way back)."""
    ports = [port.role for port in cell.ports]
    plain = (
        len(cell.robots) == 1
        and cell.robots[0].arms == 1
        and sorted(ports) == ["input", "output"]
        and all(len(step.stations) == 1 for step in cell.recipe)
        and not cell.re_entrant
    )
    if not plain:
        return None
    number = cell.place_number
    names = [step.stations[0] for step in cell.recipe]
    stations = [cell.places[number[name]] for name in names]
    if any(station.slots != 1 for station in stations):
        return None
    start = next(number[port.name] for port in cell.ports if port.role == "input")
    end = next(number[port.name] for port in cell.ports if port.role == "output")
    stops = (start, *(number[name] for name in names), end)
    travel, hand = travel_table(cell, cell.robots[0]), handling_time(cell.robots[0])
    stay, wait = [], []
    for k, station in enumerate(stations):
        assert isinstance(station, Station)
        stay.append(max(cell.step_time(k, station.name).mean, station.least_stay))
        wait.append(station.longest_wait)
    size = len(stops) - 1
    return FlowCell(
        stops,
        tuple(stay),
        tuple(wait),
        tuple(float(travel[2 * stops[i], 2 * stops[i + 1]]) + 2.0 * hand for i in range(size)),
        tuple(tuple(float(travel[2 * stops[i + 1], 2 * stops[j]]) for j in range(size)) for i in range(size)),
        hand,
    )


def period(flow: FlowCell, order: Sequence[int]) -> float:
    """Shortest period of a cycle, infinite where the dwell limits cannot be kept.

    Finds the largest cycle ratio by raising T to the ratio of a cycle of positive length (arcs weigh their length less
    T times their height) until there is none.

    Parameters
    ----------
    order
        All transfers 0 .. m, once each.
    """
    place = {transfer: at for at, transfer in enumerate(order)}
    arcs: list[tuple[int, int, float, int]] = []  # from, to, length, height
    for a, b in pairwise([*order, order[0]]):
        arcs.append((a, b, flow.loaded[a] + flow.empty[a][b], 1 if b == order[0] else 0))
    for i, (stay, wait) in enumerate(zip(flow.stay, flow.wait)):
        after = 0 if place[i + 1] > place[i] else 1
        arcs.append((i, i + 1, flow.loaded[i] + stay, after))
        if math.isfinite(wait):
            arcs.append((i + 1, i, -(flow.loaded[i] + stay + wait), -after))
    size = len(order)
    best = sum(length for _, _, length, _ in arcs[:size])
    while True:
        cycle = _positive_cycle(size, arcs, best)
        if cycle is None:
            return best
        length = sum(arcs[k][2] for k in cycle)
        height = sum(arcs[k][3] for k in cycle)
        if height <= 0 or length / height <= best + 1e-12 * best:
            return math.inf if height <= 0 else best
        best = length / height


def _positive_cycle(size: int, arcs: list[tuple[int, int, float, int]], T: float) -> list[int] | None:
    """Arcs of a cycle of positive weight, None if there is none (Bellman and Ford's longest paths)."""
    value, via = [0.0] * size, [-1] * size
    touched = -1
    for _ in range(size + 1):
        touched = -1
        for k, (a, b, length, height) in enumerate(arcs):
            reach = value[a] + length - T * height
            if reach > value[b] + _EPS:
                value[b], via[b], touched = reach, k, b
        if touched < 0:
            return None
    node = touched
    for _ in range(size):
        node = arcs[via[node]][0]
    cycle, at = [], node
    while True:
        cycle.append(via[at])
        at = arcs[via[at]][0]
        if at == node:
            return cycle


def best_cycle(
    flow: FlowCell, *, floor: float = 0.0, time_limit: float = math.inf, on_better: OnProgress | None = None
) -> Cycle | None:
    """The one-unit cycle with the shortest period; None if no order keeps the dwell limits.

    Parameters
    ----------
    floor
        A proven bound on the period; the search ends where it is reached.
    time_limit
        Seconds after which the best order so far is returned, unproven.
    """
    began = time.perf_counter()
    size = len(flow.loaded)
    ahead = [min(flow.empty[i][j] for i in range(size)) for j in range(size)]
    best: tuple[float, tuple[int, ...]] = (math.inf, ())
    examined = 0
    stopped = False

    def take(order: Sequence[int]) -> None:
        nonlocal best, examined
        examined += 1
        found = period(flow, order)
        if found < best[0] - _EPS:
            best = (found, tuple(order))
            if on_better is not None:
                on_better(Progress(time.perf_counter() - began, found, floor or None, METHOD))

    def extend(order: list[int], starts: list[float], left: set[int]) -> None:
        """Go on from a prefix; `starts` are the earliest pick times of its transfers, from 0."""
        nonlocal stopped
        if stopped or best[0] <= floor + _EPS:
            return
        if not left:
            take(order)
            return
        last = order[-1]
        done = starts[-1] + flow.loaded[last]
        rest = sum(flow.loaded[j] + ahead[j] for j in left) + ahead[0]
        if done + rest >= best[0] - _EPS:
            return
        stopped = stop_requested() or time.perf_counter() - began > time_limit
        options = []
        for j in left:
            begin = done + flow.empty[last][j]
            if j > 0 and (j - 1) in order:
                before = order.index(j - 1)
                begin = max(begin, starts[before] + flow.loaded[j - 1] + flow.stay[j - 1])
            options.append((begin, -j))
        for begin, minus in sorted(options):
            left.remove(-minus)
            extend([*order, -minus], [*starts, begin], left)
            left.add(-minus)

    take((0, *range(size - 1, 0, -1)))
    extend([0], [0.0], set(range(1, size)))
    if not best[1]:
        if stopped:
            raise NoPlanFound("no one-unit cycle was found within the time limit")
        return None
    return Cycle(best[1], best[0], proven=not stopped, examined=examined)


def follow_cycle(cell: Cell, order: Sequence[int], *, seed: int = 0, lot: int | None = None) -> Run:
    """Work a lot off by repeating a cycle; transfers whose item is not there (filling, emptying) are left out."""
    flow = flow_cell(cell)
    if flow is None:
        raise ValueError("one-unit cycles need a flow cell with one single-arm robot")
    C, draws = cell_arrays(cell), lot_draws(cell, seed, lot)
    state, trace = new_state(cell, draws[None]), new_trace(trace_rows(cell, len(draws)))
    places, decisions = len(cell.places), 0
    mask = np.zeros(3 * places + 1, dtype=np.bool_)
    while state.done[0] < state.lot[0]:
        for i in order:
            slot = int(C.first_slot[flow.stops[i]])
            there = state.entered[0] < state.lot[0] if i == 0 else state.item[0, slot] >= 0
            if not there:
                continue
            for action in (core.PICK * places + flow.stops[i], core.PLACE * places + flow.stops[i + 1]):
                robot = core.advance(C, state, 0)
                legal(C, state, 0, robot, mask)  # tells `commit` what an action takes; the cycle itself is legal
                core.commit(C, state, 0, robot, action, trace)
                decisions += 1
    return finished_run(cell, seed, state, 0, decisions, trace)


def cycle(problem: Cell, *, time_limit: float = 10.0, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """Repeat the best one-unit cycle of a flow cell with one single-arm robot (expected times where they vary).

    Raises
    ------
    NoPlanFound
        If the cell is no such flow cell, no cycle keeps the dwell limits, or filling the cell breaks one.
    """
    began = time.perf_counter()
    flow = flow_cell(problem)
    if flow is None:
        raise NoPlanFound(
            f"{problem.name}: one-unit cycles need one single-arm robot, one station of one slot in each step, and no "
            "station in two steps"
        )
    floor = long_run_bound(problem).seconds
    found = best_cycle(flow, floor=floor, time_limit=time_limit, on_better=on_progress)
    if found is None:
        raise NoPlanFound(f"{problem.name}: no one-unit cycle keeps the dwell limits")
    run = follow_cycle(problem, found.order, seed=seed)
    if run.late:
        raise NoPlanFound(f"{problem.name}: the best one-unit cycle breaks {run.late} dwell limits on the way")
    settings: dict[str, object] = {"order": list(found.order)}
    bound = lot_bound(problem, lot_draws(problem, seed))
    plan = run_plan(run, method=METHOD, settings=settings, seconds=time.perf_counter() - began, bound=bound)
    plan.metrics.update({"period": found.period, "period proven": found.proven, "orders examined": found.examined})
    return plan


def enumerate_cycles(flow: FlowCell) -> list[Cycle]:
    """Every one-unit cycle with its period, best first; m! of them."""
    from itertools import permutations

    orders = [(0, *rest) for rest in permutations(range(1, len(flow.loaded)))]
    periods = np.array([period(flow, order) for order in orders])
    return [Cycle(orders[k], float(periods[k])) for k in np.argsort(periods, kind="stable")]
