"""Compiled core of the robot-cell simulator: a semi-Markov decision process over flat arrays, many cells side by side.

Whenever a robot is idle it is asked for an action: pick, place or swap at a place, or wait for the next event. An
action takes effect on the books at once and in time as the axes allow, so the books are always consistent: an item on
its way is on the robot's arm, a slot that is being emptied stays shut until the arm has left, and a slot that is being
filled holds its item with a ready time ahead.

The books are many arrays, and counting references to them would take four fifths of the time: kernels here allocate
nothing and are compiled without numba's reference counting (``_nrt=False``). Compiling is quick only if each kernel is
compiled once: those that Python does not call (`INNER`) get no wrapper, and constants are NumPy numbers, since numba
would compile a kernel anew for every plain number that it is called with.

Actions are numbered ``kind * places + place`` with the kinds below, and ``3 * places`` for waiting.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

INNER = {"cache": True, "nogil": True, "_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
SMALL = {**INNER, "inline": "always"}
OUTER = {"cache": True, "nogil": True, "_nrt": False, "no_cfunc_wrapper": True}

NONE = np.int64(-1)
PICK, PLACE, SWAP = np.int64(0), np.int64(1), np.int64(2)
INPUT, STATION, BUFFER, OUTPUT = 0, 1, 2, 3
# A robot waits for the next event, or passes to the other robot where no event is ahead.
ASKS, BUSY, WAITS, PASSES = 0, 1, 2, 3
# Kinds of rows in the trace
MOVED, STOOD, PICKED, PLACED, TURNED, PROCESSED, HELD = (np.int64(kind) for kind in range(7))
FIFO, LONGEST, NEAREST, PULL, SEQUENCE = 0, 1, 2, 3, 4
DONE, STUCK = -1, -2
TOKEN_FEATURES, GLOBAL_FEATURES = 26, 14
EPS = 1e-9


class CellArrays(NamedTuple):
    """A cell as arrays; P places, K steps, R robots, S slots. Times in seconds, ways in metres."""

    kind: NDArray[np.int64]  # (P,)
    first_slot: NDArray[np.int64]  # (P + 1,)
    slot_place: NDArray[np.int64]  # (S,)
    travel: NDArray[np.float64]  # (R, 2P + 1, 2P + 1), see kinematics.travel_table
    handling: NDArray[np.float64]  # (R,)
    arms: NDArray[np.int64]  # (R,)
    reach: NDArray[np.bool_]  # (R, P)
    x: NDArray[np.float64]  # (P,)
    home: NDArray[np.float64]  # (R,)
    clearance: float
    can: NDArray[np.bool_]  # (K + 1, P): places that do a step; row K: output ports
    low: NDArray[np.float64]  # (K, P)
    mode: NDArray[np.float64]  # (K, P), -1: uniform
    high: NDArray[np.float64]  # (K, P)
    mean: NDArray[np.float64]  # (K, P)
    least_stay: NDArray[np.float64]  # (P,)
    longest_wait: NDArray[np.float64]  # (P,)
    load: NDArray[np.float64]  # (P,): share of time that a place must be in use at the bound's rate
    worth: NDArray[np.float64]  # (K + 1,): share of an item's reward that is earned before each step
    ordered: bool  # one robot, and no station in two steps: the deadlock test has a short form
    limited: bool  # some dwell limit is finite
    scale: float  # seconds per item at the bound


class CellState(NamedTuple):
    """Books of E cells side by side; -1 stands for no item."""

    now: NDArray[np.float64]  # (E,)
    lot: NDArray[np.int64]
    entered: NDArray[np.int64]
    done: NDArray[np.int64]
    late: NDArray[np.int64]  # dwell limits broken
    last_entry: NDArray[np.float64]
    pose: NDArray[np.int64]  # (E, R)
    status: NDArray[np.int64]
    until: NDArray[np.float64]
    least_x: NDArray[np.float64]  # reach of the present move along the track
    most_x: NDArray[np.float64]
    target: NDArray[np.int64]
    hand: NDArray[np.int64]  # (E, R, 2)
    hand_step: NDArray[np.int64]
    item: NDArray[np.int64]  # (E, S)
    step: NDArray[np.int64]  # the step that comes next for a slot's item
    begun: NDArray[np.float64]
    ready: NDArray[np.float64]
    soonest: NDArray[np.float64]  # ready time as far as it can be known: earliest, expected, latest
    expected: NDArray[np.float64]
    latest: NDArray[np.float64]
    shut: NDArray[np.float64]  # the slot is shut until then
    draws: NDArray[np.float64]  # (E, N, K) uniform numbers behind the processing times
    finish: NDArray[np.float64]  # (E, N)
    used: NDArray[np.int64]  # (P,) and the next four: scratch of the deadlock test
    at_place: NDArray[np.int64]
    at_step: NDArray[np.int64]
    free_arms: NDArray[np.int64]
    gone: NDArray[np.bool_]
    choice: NDArray[np.int64]  # (E, 3, P): what each action takes: slot of a pick, arm of a place, slot of a swap
    keeps: NDArray[np.bool_]  # (3, P) and the next: scratch of the dwell test
    by_then: NDArray[np.float64]  # (S,)


class Trace(NamedTuple):
    """Rows that an action appends: (robot or -1, kind, item, place, arm or slot, pose) and (start, end)."""

    count: NDArray[np.int64]
    what: NDArray[np.int64]
    when: NDArray[np.float64]


@njit(**OUTER)
def start(C: CellArrays, S: CellState, e: int, lot: int) -> None:
    """Empty cell `e` and put a lot of `lot` items before it."""
    S.now[e] = 0.0
    S.lot[e] = lot
    S.entered[e] = 0
    S.done[e] = 0
    S.late[e] = 0
    S.last_entry[e] = 0.0
    for r in range(C.arms.shape[0]):
        S.pose[e, r] = 2 * C.kind.shape[0]
        S.status[e, r] = ASKS
        S.until[e, r] = 0.0
        S.least_x[e, r] = C.home[r]
        S.most_x[e, r] = C.home[r]
        S.target[e, r] = -1
        S.hand[e, r, 0] = -1
        S.hand[e, r, 1] = -1
    for s in range(C.slot_place.shape[0]):
        S.item[e, s] = -1
        S.ready[e, s] = 0.0
        S.shut[e, s] = 0.0


@njit(**SMALL)
def slot_out(C: CellArrays, S: CellState, e: int, p: int) -> int:
    """Slot of a place whose item leaves next: ready longest, else expected soonest; -1 if it is empty."""
    best, key = -1, np.inf
    for s in range(C.first_slot[p], C.first_slot[p + 1]):
        if S.item[e, s] >= 0:
            k = S.ready[e, s] if S.ready[e, s] <= S.now[e] else 1e12 + S.expected[e, s]
            if k < key:
                best, key = s, k
    return best


@njit(**SMALL)
def slot_in(C: CellArrays, S: CellState, e: int, p: int) -> int:
    """A slot of a place that takes an item now, -1 if there is none."""
    for s in range(C.first_slot[p], C.first_slot[p + 1]):
        if S.item[e, s] < 0 and S.shut[e, s] <= S.now[e]:
            return s
    return -1


@njit(**SMALL)
def best_hand(C: CellArrays, S: CellState, e: int, r: int, p: int) -> int:
    """Arm whose item place `p` takes (the furthest step first), -1 if none does."""
    arm = -1
    for a in range(C.arms[r]):
        if S.hand[e, r, a] >= 0:
            k = S.hand_step[e, r, a]
            fits = C.can[k, p] or C.kind[p] == BUFFER
            if fits and (arm < 0 or k > S.hand_step[e, r, arm]):
                arm = a
    return arm


@njit(**SMALL)
def free_arm(C: CellArrays, S: CellState, e: int, r: int, p: int) -> int:
    """Free arm that stands before place `p` soonest, -1 if there is none."""
    best, key = -1, np.inf
    for a in range(C.arms[r]):
        if S.hand[e, r, a] < 0 and C.travel[r, S.pose[e, r], 2 * p + a] < key:
            best, key = a, C.travel[r, S.pose[e, r], 2 * p + a]
    return best


@njit(**SMALL)
def passage(C: CellArrays, S: CellState, e: int, r: int, p: int) -> int:
    """Whether robot `r` gets to place `p` past the other one: 0 no, 1 yes, 2 if the idle other one goes home."""
    if C.arms.shape[0] == 1:
        return 1
    o = 1 - r
    here = S.most_x[e, r]
    low, high = min(here, C.x[p]), max(here, C.x[p])
    if r < o:
        apart = high + C.clearance <= S.least_x[e, o] + EPS
    else:
        apart = low - C.clearance >= S.most_x[e, o] - EPS
    if apart:
        return 1
    return 0 if S.status[e, o] == BUSY else 2


@njit(**INNER)
def pending(C: CellArrays, S: CellState, e: int) -> bool:
    """Whether an event is ahead: a robot that ends its action, an item that becomes ready."""
    for o in range(C.arms.shape[0]):
        if S.status[e, o] == BUSY:
            return True
    for s in range(C.slot_place.shape[0]):  # noqa: SIM110
        if S.item[e, s] >= 0 and S.ready[e, s] > S.now[e]:
            return True
    return False


@njit(**INNER)
def slack(C: CellArrays, S: CellState, e: int, r: int, pose: int, time: float, skip: int) -> float:
    """Seconds that robot `r`, free at `time` at `pose`, can lose without breaking a dwell limit.

    Items that are ready are fetched one after another by deadline, each brought to the nearest place of its next step;
    an item in process is taken alone, as if it were ready as soon as it can be. Slot `skip` is left out.
    """
    least = np.inf
    if not C.limited:
        return least
    clock, at = time, pose
    last, last_slot = -np.inf, -1
    while True:  # ready items in order of (deadline, slot)
        best, key = -1, np.inf
        for s in range(C.slot_place.shape[0]):
            wait = C.longest_wait[C.slot_place[s]]
            if S.item[e, s] < 0 or s == skip or wait == np.inf or not C.reach[r, C.slot_place[s]]:
                continue
            if S.ready[e, s] <= S.now[e]:
                due = S.ready[e, s] + wait
                if (due > last or (due == last and s > last_slot)) and due < key:
                    best, key = s, due
        if best < 0:
            break
        last, last_slot = key, best
        p = C.slot_place[best]
        arrive = clock + min(C.travel[r, at, 2 * p], C.travel[r, at, 2 * p + C.arms[r] - 1])
        least = min(least, key - arrive)
        near = np.inf
        goal = p
        for q in range(C.kind.shape[0]):
            if C.can[S.step[e, best], q] and C.reach[r, q] and C.travel[r, 2 * p, 2 * q] < near:
                near, goal = C.travel[r, 2 * p, 2 * q], q
        clock = arrive + C.handling[r] + near + C.handling[r]
        at = 2 * goal
    for s in range(C.slot_place.shape[0]):
        p = C.slot_place[s]
        if S.item[e, s] < 0 or s == skip or C.longest_wait[p] == np.inf or not C.reach[r, p]:
            continue
        if S.ready[e, s] > S.now[e]:
            due = max(S.soonest[e, s], S.now[e]) + C.longest_wait[p]
            arrive = time + min(C.travel[r, pose, 2 * p], C.travel[r, pose, 2 * p + C.arms[r] - 1])
            least = min(least, due - arrive)
    return least


@njit(**INNER)
def _write(T: Trace, robot: int, kind: int, item: int, place: int, arm: int, pose: int, t0: float, t1: float) -> None:
    if T.what.shape[0] == 0 or (t1 <= t0 and kind != PROCESSED):
        return
    n = T.count[0]
    T.what[n, 0], T.what[n, 1], T.what[n, 2] = robot, kind, item
    T.what[n, 3], T.what[n, 4], T.what[n, 5] = place, arm, pose
    T.when[n, 0], T.when[n, 1] = t0, t1
    T.count[0] = n + 1


@njit(**INNER)
def _time_of(C: CellArrays, step: int, p: int, u: float) -> float:
    """Processing time for the uniform number `u`: the inverse of the distribution function."""
    low, high, mode = C.low[step, p], C.high[step, p], C.mode[step, p]
    span = high - low
    if span == 0.0:
        return low
    if mode < 0.0:
        return low + u * span
    if u * span < mode - low:
        return low + np.sqrt(u * span * (mode - low))
    return high - np.sqrt((1.0 - u) * span * (high - mode))


@njit(**INNER)
def _fill(C: CellArrays, S: CellState, e: int, slot: int, item: int, step: int, time: float) -> None:
    """Put an item into a slot at `time`: it is processed (station) or waits (buffer)."""
    p = C.slot_place[slot]
    S.item[e, slot] = item
    S.begun[e, slot] = time
    if C.kind[p] == BUFFER:
        S.step[e, slot] = step
        S.ready[e, slot] = time
        S.soonest[e, slot] = time
        S.expected[e, slot] = time
        S.latest[e, slot] = time
        return
    S.step[e, slot] = step + 1
    S.ready[e, slot] = time + max(_time_of(C, step, p, S.draws[e, item, step]), C.least_stay[p])
    S.soonest[e, slot] = time + max(C.low[step, p], C.least_stay[p])
    S.expected[e, slot] = time + max(C.mean[step, p], C.least_stay[p])
    S.latest[e, slot] = time + max(C.high[step, p], C.least_stay[p])


@njit(**OUTER)
def commit(C: CellArrays, S: CellState, e: int, r: int, action: int, T: Trace) -> None:
    """Let robot `r` carry out a legal action from now on; `choice` is what the last call of `legal` left."""
    places = C.kind.shape[0]
    now = S.now[e]
    if action == 3 * places:
        S.status[e, r] = WAITS if pending(C, S, e) else PASSES
        S.target[e, r] = -1
        return
    kind, p = action // places, action % places
    begin = now
    if C.arms.shape[0] == 2:
        o = 1 - r
        if passage(C, S, e, r, p) == 2:
            begin = now + C.travel[o, S.pose[e, o], 2 * places]
            _write(T, o, MOVED, NONE, NONE, NONE, 2 * places, now, begin)
            S.pose[e, o] = 2 * places
            S.status[e, o] = BUSY
            S.until[e, o] = begin
            S.least_x[e, o] = C.home[o]
            S.most_x[e, o] = C.home[o]
            S.target[e, o] = -1
        here = S.most_x[e, r]
        S.least_x[e, r] = min(here, C.x[p])
        S.most_x[e, r] = max(here, C.x[p])
    S.status[e, r] = BUSY
    S.target[e, r] = p
    if kind == PLACE:
        arm = S.choice[e, PLACE, p]
        item, step = S.hand[e, r, arm], S.hand_step[e, r, arm]
        arrive = begin + C.travel[r, S.pose[e, r], 2 * p + arm]
        end = arrive + C.handling[r]
        _write(T, r, MOVED, item, p, arm, 2 * p + arm, begin, arrive)
        _write(T, r, PLACED, item, p, arm, 2 * p + arm, arrive, end)
        S.hand[e, r, arm] = -1
        if C.kind[p] == OUTPUT:
            S.finish[e, item] = end
            S.done[e] += 1
        else:
            _fill(C, S, e, slot_in(C, S, e, p), item, step, end)
        S.pose[e, r] = 2 * p + arm
        S.until[e, r] = end
        return
    arm = free_arm(C, S, e, r, p)
    hand = best_hand(C, S, e, r, p) if kind == SWAP else NONE
    arrive = begin + C.travel[r, S.pose[e, r], 2 * p + arm]
    slot, step, take = -1, 0, arrive
    if C.kind[p] == INPUT:
        item = S.entered[e]
        S.entered[e] += 1
        S.last_entry[e] = arrive
    else:
        slot = S.choice[e, kind, p]
        item, step = S.item[e, slot], S.step[e, slot]
        take = max(arrive, S.ready[e, slot])
        if take > S.ready[e, slot] + C.longest_wait[p] + EPS:
            S.late[e] += 1
    end = take + C.handling[r]
    _write(T, r, MOVED, item, p, arm, 2 * p + arm, begin, arrive)
    _write(T, r, STOOD, item, p, arm, 2 * p + arm, arrive, take)
    _write(T, r, PICKED, item, p, arm, 2 * p + arm, take, end)
    S.hand[e, r, arm] = item
    S.hand_step[e, r, arm] = step
    if slot >= 0:
        _write(T, NONE, PROCESSED, item, p, slot, step, S.begun[e, slot], S.ready[e, slot])
        _write(T, NONE, HELD, item, p, slot, step, S.ready[e, slot], take)
        S.item[e, slot] = -1
        S.shut[e, slot] = end
    S.pose[e, r] = 2 * p + arm
    if kind == SWAP:
        turned = end + C.travel[r, 2 * p + arm, 2 * p + hand]
        given, given_step = S.hand[e, r, hand], S.hand_step[e, r, hand]
        _write(T, r, TURNED, given, p, hand, 2 * p + hand, end, turned)
        end = turned + C.handling[r]
        _write(T, r, PLACED, given, p, hand, 2 * p + hand, turned, end)
        S.hand[e, r, hand] = -1
        _fill(C, S, e, slot, given, given_step, end)
        S.pose[e, r] = 2 * p + hand
    S.until[e, r] = end


@njit(**OUTER)
def advance(C: CellArrays, S: CellState, e: int) -> int:
    """Let time go on until a robot asks for an action; returns it, DONE, or STUCK (which no legal run is)."""
    robots = C.arms.shape[0]
    while True:
        for r in range(robots):
            if S.status[e, r] == ASKS and S.done[e] < S.lot[e]:
                return r
        next_time, waiting, busy = np.inf, False, False
        for r in range(robots):
            if S.status[e, r] == BUSY:
                busy = True
                next_time = min(next_time, S.until[e, r])
            elif S.status[e, r] == WAITS:
                waiting = True
        if S.done[e] == S.lot[e] and not busy:
            return DONE
        if waiting:
            for s in range(C.slot_place.shape[0]):
                if S.item[e, s] >= 0 and S.ready[e, s] > S.now[e]:
                    next_time = min(next_time, S.ready[e, s])
            if C.limited:  # an alarm where a dwell limit needs the robot to leave
                for r in range(robots):
                    if S.status[e, r] == WAITS:
                        spare = slack(C, S, e, r, S.pose[e, r], S.now[e], NONE)
                        if spare > EPS:
                            next_time = min(next_time, S.now[e] + spare)
        if next_time == np.inf:
            if not waiting:
                return STUCK
            for r in range(robots):
                if S.status[e, r] == WAITS:
                    S.status[e, r] = ASKS
            continue
        S.now[e] = next_time
        for r in range(robots):
            if S.status[e, r] == WAITS or S.status[e, r] == PASSES:
                S.status[e, r] = ASKS
            elif S.status[e, r] == BUSY and S.until[e, r] <= next_time:
                S.status[e, r] = ASKS
                if robots == 2:
                    at = S.pose[e, r]
                    stand = C.home[r] if at == 2 * C.kind.shape[0] else C.x[at // 2]
                    S.least_x[e, r] = stand
                    S.most_x[e, r] = stand
