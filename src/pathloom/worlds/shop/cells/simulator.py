"""The robot-cell simulator in Python's terms: compile a cell, drive it by a rule or a function, get a timeline.

The event core is compiled (`_cell_kernels`); a run is a function of the cell, the seed of its processing times and the
decisions. Processing times belong to items and steps, not to the moment, so two controls that are run with one seed
meet the same lot (common random numbers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pathloom.timeline import Timeline
from pathloom.worlds.shop.cells import _cell_kernels as core
from pathloom.worlds.shop.cells._legal_kernels import legal
from pathloom.worlds.shop.cells.bounds import long_run_bound, station_loads
from pathloom.worlds.shop.cells.cell import Buffer, Cell, Port, Station
from pathloom.worlds.shop.cells.kinematics import handling_time, travel_table

ACTIONS = ("pick", "place", "swap")
ROBOT_KINDS = ("move", "wait", "pick", "place", "turn")
STATION_KINDS = {core.PROCESSED: "process", core.HELD: "hold"}


@lru_cache(maxsize=64)
def cell_arrays(cell: Cell) -> core.CellArrays:
    """The cell as the arrays that the kernels read."""
    places, steps, robots = cell.places, len(cell.recipe), len(cell.robots)
    kind = np.empty(len(places), dtype=np.int64)
    first_slot = np.zeros(len(places) + 1, dtype=np.int64)
    slot_place: list[int] = []
    can = np.zeros((steps + 1, len(places)), dtype=np.bool_)
    least_stay = np.zeros(len(places))
    longest_wait = np.full(len(places), np.inf)
    for p, place in enumerate(places):
        if isinstance(place, Port):
            kind[p] = core.INPUT if place.role == "input" else core.OUTPUT
            can[steps, p] = place.role == "output"
        else:
            kind[p] = core.BUFFER if isinstance(place, Buffer) else core.STATION
            slot_place += [p] * place.slots
        if isinstance(place, Station):
            least_stay[p], longest_wait[p] = place.least_stay, place.longest_wait
        first_slot[p + 1] = len(slot_place)
    low, mode, high, mean = (np.zeros((steps, len(places))) for _ in range(4))
    for k, step in enumerate(cell.recipe):
        for name in step.stations:
            p, law = cell.place_number[name], cell.step_time(k, name)
            can[k, p] = True
            low[k, p], high[k, p], mean[k, p] = law.low, law.high, law.mean
            mode[k, p] = -1.0 if law.mode is None else law.mode
    return core.CellArrays(
        kind=kind,
        first_slot=first_slot,
        slot_place=np.array(slot_place, dtype=np.int64),
        travel=np.stack([travel_table(cell, robot) for robot in cell.robots]),
        handling=np.array([handling_time(robot) for robot in cell.robots]),
        arms=np.array([robot.arms for robot in cell.robots], dtype=np.int64),
        reach=np.array([[cell.reaches(r, p) for p in range(len(places))] for r in range(robots)], dtype=np.bool_),
        x=np.array([place.x for place in places]),
        home=np.array([robot.home for robot in cell.robots]),
        clearance=float(cell.clearance),
        can=can,
        low=low,
        mode=mode,
        high=high,
        mean=mean,
        least_stay=least_stay,
        longest_wait=longest_wait,
        load=np.array(station_loads(cell)),
        worth=_worth(cell),
        ordered=robots == 1 and not cell.re_entrant,
        limited=bool(np.isfinite(longest_wait).any()),
        scale=long_run_bound(cell).seconds,
    )


def _worth(cell: Cell) -> NDArray[np.float64]:
    """Share of an item's reward earned before each step, shape (steps + 1,).

    In the long run a cell finishes items as fast as its busiest stations are fed. Paying for entering those, and little
    for the rest, says the same at once that finished items would say much later.
    """
    loads = station_loads(cell)
    busiest = [max(loads[cell.place_number[name]] for name in step.stations) for step in cell.recipe]
    shares = np.array([*(load**6 for load in busiest), 0.05 * max(busiest) ** 6])
    return np.concatenate([[0.0], np.cumsum(shares)[:-1]]) / shares.sum()


def lot_draws(cell: Cell, seed: int, lot: int | None = None) -> NDArray[np.float64]:
    """Uniform numbers behind the processing times of a lot, shape (items, steps)."""
    size = cell.lot if lot is None else lot
    return np.random.default_rng([seed, 0x0CE11]).random((size, len(cell.recipe)))


def new_state(cell: Cell, draws: NDArray[np.float64]) -> core.CellState:
    """Books of empty cells, one for each lot in `draws` of shape (E, items, steps), each before its first decision."""
    C = cell_arrays(cell)
    copies, lot, _ = draws.shape
    robots, slots, places = len(cell.robots), len(C.slot_place), len(C.kind)
    most = slots + 2 * robots

    def whole(*shape: int) -> NDArray[np.int64]:
        return np.zeros(shape, dtype=np.int64)

    state = core.CellState(
        now=np.zeros(copies),
        lot=whole(copies),
        entered=whole(copies),
        done=whole(copies),
        late=whole(copies),
        last_entry=np.zeros(copies),
        pose=whole(copies, robots),
        status=whole(copies, robots),
        until=np.zeros((copies, robots)),
        least_x=np.zeros((copies, robots)),
        most_x=np.zeros((copies, robots)),
        target=whole(copies, robots),
        hand=whole(copies, robots, 2),
        hand_step=whole(copies, robots, 2),
        item=whole(copies, slots),
        step=whole(copies, slots),
        begun=np.zeros((copies, slots)),
        ready=np.zeros((copies, slots)),
        soonest=np.zeros((copies, slots)),
        expected=np.zeros((copies, slots)),
        latest=np.zeros((copies, slots)),
        shut=np.zeros((copies, slots)),
        draws=np.ascontiguousarray(draws, dtype=np.float64),
        finish=np.zeros((copies, lot)),
        used=whole(places),
        at_place=whole(most),
        at_step=whole(most),
        free_arms=whole(robots),
        gone=np.zeros(most, dtype=np.bool_),
        choice=np.full((copies, 3, places), -1, dtype=np.int64),
        keeps=np.zeros((3, places), dtype=np.bool_),
        by_then=np.zeros(slots),
    )
    for e in range(copies):
        core.start(C, state, e, lot)
    return state


def new_trace(rows: int) -> core.Trace:
    """Room for `rows` rows of what happens; none are written with 0."""
    return core.Trace(np.zeros(1, np.int64), np.zeros((rows, 6), np.int64), np.zeros((rows, 2)))


def trace_rows(cell: Cell, lot: int) -> int:
    """More rows than a run of `lot` items writes: at most eight an action, and buffers may be visited often."""
    visits = len(cell.recipe) + 1
    return lot * visits * (16 if not cell.buffers else 64) + 256


@dataclass(frozen=True)
class Run:
    """One lot worked off.

    Attributes
    ----------
    finish
        Shape (items,): seconds at which each item lies in an output port.
    decisions
        Number of decisions taken.
    late
        Number of dwell limits broken.
    what, when
        Rows of the trace, see `_cell_kernels.Trace`; empty if it was not kept.
    """

    cell: Cell
    seed: int
    finish: NDArray[np.float64]
    decisions: int
    late: int
    what: NDArray[np.int64]
    when: NDArray[np.float64]

    @property
    def seconds_per_item(self) -> float:
        """Time until the last item is done, filling and emptying included, divided by the items."""
        return float(self.finish.max()) / len(self.finish)

    @property
    def steady_seconds_per_item(self) -> float:
        """Seconds between finished items in the middle of the lot, from a tenth to nine tenths of them."""
        times = np.sort(self.finish)
        first, last = len(times) // 10, len(times) - 1 - len(times) // 10
        return float(times[last] - times[first]) / max(last - first, 1)

    def timeline(self) -> Timeline:
        """What robots and stations do; columns say place, arm or slot, and step (see `trace_timeline`)."""
        return trace_timeline(self.cell, self.what, self.when, len(self.finish))


class StuckCell(RuntimeError):
    """A run in which no robot can do anything any more; it would be a fault of the deadlock avoidance."""


def simulate(cell: Cell, choose: Choose, *, seed: int = 0, lot: int | None = None) -> Run:
    """Work a lot off; `choose(view)` returns a legal action for every decision.

    Parameters
    ----------
    choose
        Called with a `CellView`.
    seed
        Seed of the processing times.
    lot
        Number of items, the cell's own if None.

    Raises
    ------
    ValueError
        If the chosen action is not legal.
    """
    C, draws = cell_arrays(cell), lot_draws(cell, seed, lot)
    state, trace = new_state(cell, draws[None]), new_trace(trace_rows(cell, len(draws)))
    mask = np.zeros(3 * len(cell.places) + 1, dtype=np.bool_)
    decisions = 0
    while (robot := core.advance(C, state, 0)) != core.DONE:
        if robot == core.STUCK or not legal(C, state, 0, robot, mask):
            raise StuckCell(f"{cell.name}: no legal action at {state.now[0]:g} s")
        action = int(choose(CellView(cell, C, state, 0, robot, mask)))
        if not 0 <= action < len(mask) or not mask[action]:
            raise ValueError(f"action {action} of robot {robot} is not legal at {state.now[0]:g} s")
        if trace.count[0] + 10 > len(trace.what):
            trace = core.Trace(
                trace.count,
                np.concatenate([trace.what, np.zeros_like(trace.what)]),
                np.concatenate([trace.when, np.zeros_like(trace.when)]),
            )
        core.commit(C, state, 0, robot, action, trace)
        decisions += 1
    return finished_run(cell, seed, state, 0, decisions, trace)


def finished_run(cell: Cell, seed: int, state: core.CellState, e: int, decisions: int, trace: core.Trace) -> Run:
    """The run that the books of cell `e` tell."""
    rows = int(trace.count[0])
    return Run(
        cell,
        seed,
        state.finish[e].copy(),
        decisions,
        int(state.late[e]),
        trace.what[:rows].copy(),
        trace.when[:rows].copy(),
    )


@dataclass(frozen=True)
class CellView:
    """What a control sees when robot `robot` asks: books (read only), legal actions, and words for both."""

    cell: Cell
    arrays: core.CellArrays
    state: core.CellState
    copy: int
    robot: int
    mask: NDArray[np.bool_]

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return float(self.state.now[self.copy])

    @property
    def held(self) -> tuple[int, ...]:
        """Items on the robot's arms, -1 for a free arm."""
        return tuple(int(item) for item in self.state.hand[self.copy, self.robot, : self.arrays.arms[self.robot]])

    def number(self, kind: str, place: str = "") -> int:
        """Number of an action: ``("pick" | "place" | "swap", place)`` or ``("wait",)``."""
        if kind == "wait":
            return 3 * len(self.cell.places)
        return ACTIONS.index(kind) * len(self.cell.places) + self.cell.place_number[place]

    def legal_actions(self) -> list[tuple[int, str, str]]:
        """Number, kind and place of every legal action."""
        return [(int(a), *action_words(self.cell, int(a))) for a in np.flatnonzero(self.mask)]


Choose = Callable[[CellView], int]


def action_words(cell: Cell, action: int) -> tuple[str, str]:
    """Kind and place of an action's number."""
    places = len(cell.places)
    if action == 3 * places:
        return "wait", ""
    return ACTIONS[action // places], cell.places[action % places].name


def trace_timeline(cell: Cell, what: NDArray[np.int64], when: NDArray[np.float64], lot: int) -> Timeline:
    """Rows of a trace as a timeline.

    Resources are the robots, then the slots of stations and buffers ("etch", or "etch#2" from the second slot on).
    Robots have spans of the kinds move, wait (standing at a place until its item is ready), pick, place and turn (from
    one arm to the other); slots have process and hold (ready, not yet fetched; a stay in a buffer is a hold). Items are
    "item1" onwards; a move without load belongs to the item "-". Columns: "place" (number, -1 for home), "arm" (-1 at
    slots) and "step" (of the recipe, slots only, else -1).
    """
    C = cell_arrays(cell)
    robots = len(cell.robots)
    names = [robot.name for robot in cell.robots]
    for s, p in enumerate(C.slot_place):
        number = s - int(C.first_slot[p])
        names.append(cell.places[p].name + (f"#{number + 1}" if number else ""))
    kinds = (*ROBOT_KINDS, "process", "hold")
    at_slot = what[:, 0] < 0
    loaded = at_slot | np.isin(what[:, 1], (core.PICKED, core.PLACED, core.TURNED))
    # A base move carries its item only on the way to put it down.
    order = np.arange(len(what))
    following = np.full(len(what), -1)
    for robot in range(robots):
        mine = order[what[:, 0] == robot]
        following[mine[:-1]] = what[mine[1:], 1]
    loaded |= (what[:, 1] == core.MOVED) & (following == core.PLACED)
    item = np.where(loaded, what[:, 2], lot)
    resource = np.where(at_slot, robots + what[:, 4], what[:, 0])
    kind = what[:, 1].copy()
    buffered = at_slot & (C.kind[np.maximum(what[:, 3], 0)] == core.BUFFER)
    # Rows of the same slot that begin and end together say nothing.
    keep = (when[:, 1] > when[:, 0]) | (at_slot & (kind == core.PROCESSED) & ~buffered)
    table = Timeline(
        resource.astype(np.int32),
        item.astype(np.int32),
        kind.astype(np.int32),
        when[:, 0],
        when[:, 1],
        tuple(names),
        (*(f"item{i + 1}" for i in range(lot)), "-"),
        kinds,
        columns={
            "place": np.where(~at_slot & (what[:, 5] == 2 * len(cell.places)), -1, what[:, 3]),
            "arm": np.where(at_slot, -1, what[:, 4]),
            "step": np.where(at_slot, what[:, 5] - 1, -1),
        },
    ).rows(keep)
    return table.rows(np.lexsort((table.end, table.start)))
