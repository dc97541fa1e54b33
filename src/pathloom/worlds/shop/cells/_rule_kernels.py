"""Rules that drive a cell, what a policy sees of it, and batches of cells, all compiled."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.shop.cells._cell_kernels import (
    BUFFER,
    BUSY,
    DONE,
    FIFO,
    INNER,
    INPUT,
    LONGEST,
    NEAREST,
    NONE,
    OUTER,
    OUTPUT,
    PICK,
    PLACE,
    SEQUENCE,
    STATION,
    STUCK,
    SWAP,
    CellArrays,
    CellState,
    Trace,
    advance,
    commit,
    free_arm,
    slack,
    slot_out,
)
from pathloom.worlds.shop.cells._legal_kernels import legal


@njit(**INNER)
def _available(C: CellArrays, S: CellState, e: int, kind: int, p: int) -> float:
    """When a pick or swap can take its item, as far as the robot knows: now, or the expected ready time."""
    if C.kind[p] == INPUT:
        return S.now[e]
    s = S.choice[e, kind, p]
    if S.ready[e, s] <= S.now[e]:
        return S.now[e]
    return max(S.expected[e, s], S.now[e] + 1e-6)  # overdue, and yet not ready


@njit(**INNER)
def _welcome(C: CellArrays, S: CellState, e: int, r: int, p: int, horizon: float) -> bool:
    """Whether the next item of place `p` can be put down soon: its next station is free, or ready for a swap.

    A station counts as ready if it is expected to be within `horizon` seconds; with 0, if it is.
    """
    if C.kind[p] == INPUT:
        step = 0
    else:
        step = S.step[e, S.choice[e, PICK, p]]
    for q in range(C.kind.shape[0]):
        if not C.can[step, q] or not C.reach[r, q]:
            continue
        if C.kind[q] == OUTPUT:
            return True
        for s in range(C.first_slot[q], C.first_slot[q + 1]):
            if S.item[e, s] < 0:
                return True
            soon = S.ready[e, s] <= S.now[e] or (horizon > 0.0 and S.expected[e, s] <= S.now[e] + horizon)
            if C.arms[r] == 2 and q != p and soon:
                return True
    return False


@njit(**INNER)
def _urgency(C: CellArrays, S: CellState, e: int, r: int, p: int, rule: int) -> float:
    """Rank of fetching the next item of place `p` under a rule; the smallest goes first."""
    arm = max(free_arm(C, S, e, r, p), 0)
    way = C.travel[r, S.pose[e, r], 2 * p + arm]
    if C.kind[p] == INPUT:
        item, since, step = S.entered[e], S.last_entry[e], 0
    else:
        s = S.choice[e, PICK, p]
        item, since, step = S.item[e, s], S.ready[e, s], S.step[e, s]
    if rule == FIFO:
        return float(item)
    if rule == LONGEST:
        return since
    if rule == NEAREST:
        return way
    return -float(step) + 1e-6 * way


@njit(**OUTER)
def rule_action(
    C: CellArrays,
    S: CellState,
    e: int,
    r: int,
    mask: NDArray[np.bool_],
    rule: int,
    ahead: bool,
    horizon: float,
    most: int,
) -> int:
    """The legal action that a rule takes.

    What the robot holds goes first: to a free station, then by swap into one that is ready. Otherwise it fetches the
    item that the rule ranks first among those that are ready and can be put down at once.

    Parameters
    ----------
    rule
        FIFO (lowest item number), LONGEST (longest ready), NEAREST (shortest way), PULL (furthest step), or SEQUENCE
        (a held item goes to its next station and waits there for the swap; else the next item is let in, else PULL).
    ahead
        Whether the robot, with nothing ready to fetch, goes to the place that is expected to be ready first and waits
        there, instead of waiting where it is.
    horizon
        Seconds for which a robot with two arms looks ahead: it fetches an item for a station that is expected to be
        ready by then, and waits there to swap. 0 for the plain rule.
    most
        Items that may be in the cell at a time (constant work in process), 0 for any number.
    """
    places = C.kind.shape[0]
    at = S.pose[e, r]
    best, key = -1, np.inf
    holds = False
    for p in range(places):
        if mask[PLACE * places + p]:
            way = C.travel[r, at, 2 * p] + (1e6 if C.kind[p] == BUFFER else 0.0)
            if way < key:
                best, key = PLACE * places + p, way
    if best >= 0 and C.kind[best % places] != BUFFER:
        return best
    store = best
    best, key = -1, np.inf
    for a in range(C.arms[r]):
        holds |= S.hand[e, r, a] >= 0
    for p in range(places):
        if mask[SWAP * places + p]:
            free = _available(C, S, e, SWAP, p)
            time = max(free, S.now[e] + C.travel[r, at, 2 * p])
            if (rule == SEQUENCE or free <= S.now[e] + horizon) and time < key:
                best, key = SWAP * places + p, time
    if best >= 0:
        return best
    full = most > 0 and S.entered[e] - S.done[e] >= most
    if rule == SEQUENCE and not holds and not full:
        for p in range(places):
            if C.kind[p] == INPUT and mask[p] and _welcome_later(C, S, e, r):
                return PICK * places + p
    for p in range(places):
        if not mask[PICK * places + p] or (full and C.kind[p] == INPUT):
            continue
        if _available(C, S, e, PICK, p) <= S.now[e] and _welcome(C, S, e, r, p, horizon):
            rank = _urgency(C, S, e, r, p, rule)
            if rank < key:
                best, key = PICK * places + p, rank
    if best >= 0:
        return best
    if store >= 0:
        return store
    if ahead or rule == SEQUENCE or not mask[3 * places]:
        for p in range(places):
            fetch = mask[PICK * places + p] and C.kind[p] != INPUT and _welcome(C, S, e, r, p, horizon)
            if fetch or mask[SWAP * places + p]:
                kind = PICK if fetch else SWAP
                time = max(_available(C, S, e, kind, p), S.now[e] + C.travel[r, at, 2 * p])
                if time < key:
                    best, key = kind * places + p, time
        if best >= 0:
            return best
    if mask[3 * places]:
        return 3 * places
    for a in range(3 * places):
        if mask[a]:
            return a
    return -1


@njit(**INNER)
def _welcome_later(C: CellArrays, S: CellState, e: int, r: int) -> bool:
    """Whether a new item finds a first station that is free or, with a second arm, can be swapped into."""
    for q in range(C.kind.shape[0]):
        if C.can[0, q] and C.reach[r, q]:
            if C.arms[r] == 2:
                return True
            for s in range(C.first_slot[q], C.first_slot[q + 1]):
                if S.item[e, s] < 0:
                    return True
    return False


@njit(**OUTER)
def run_rule(
    C: CellArrays,
    S: CellState,
    e: int,
    rule: int,
    ahead: bool,
    horizon: float,
    most: int,
    mask: NDArray[np.bool_],
    T: Trace,
    until: float,
) -> int:
    """Drive cell `e` by a rule until its lot is done or its time passes `until`; returns the number of decisions.

    Negative if the run got stuck.
    """
    decisions = 0
    while S.now[e] < until:
        r = advance(C, S, e)
        if r == DONE:
            break
        if r == STUCK or legal(C, S, e, r, mask) == 0:
            return -1
        commit(C, S, e, r, rule_action(C, S, e, r, mask, rule, ahead, horizon, most), T)
        decisions += 1
    return decisions


@njit(**OUTER)
def observe(
    C: CellArrays,
    S: CellState,
    e: int,
    r: int,
    tokens: NDArray[np.float32],
    overall: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> None:
    """What robot `r` sees: features of each place (P, TOKEN_FEATURES) and of the whole (GLOBAL_FEATURES,).

    Times are in units of the bound's time per item, squashed where they can grow without end.
    """
    places, steps = C.kind.shape[0], C.low.shape[0]
    now, unit = S.now[e], C.scale
    for f in range(overall.shape[0]):
        overall[f] = 0.0
    for p in range(places):
        row = tokens[p]
        for f in range(row.shape[0]):
            row[f] = 0.0
        row[C.kind[p]] = 1.0
        row[4] = C.load[p]
        slots = C.first_slot[p + 1] - C.first_slot[p]
        items, ready, oldest, free = 0, 0, 0.0, 0
        for s in range(C.first_slot[p], C.first_slot[p + 1]):
            if S.item[e, s] >= 0:
                items += 1
                if S.ready[e, s] <= now:
                    ready += 1
                    oldest = max(oldest, now - S.ready[e, s])
            elif S.shut[e, s] <= now:
                free += 1
        if slots > 0:
            row[5] = items / slots
            row[6] = ready / slots
            row[7] = free / slots
        row[8] = oldest / (oldest + unit)
        out = -1
        if C.kind[p] == STATION or C.kind[p] == BUFFER:
            out = slot_out(C, S, e, p)
        following = 0
        if out >= 0:
            following = S.step[e, out]
            if S.ready[e, out] > now:
                row[9] = min(max(S.expected[e, out] - now, 0.0) / unit, 4.0)
                row[10] = min(max(S.soonest[e, out] - now, 0.0) / unit, 4.0)
                row[11] = min((S.latest[e, out] - now) / unit, 4.0)
                row[12] = min(max(now - S.soonest[e, out], 0.0) / max(S.latest[e, out] - S.soonest[e, out], 1e-9), 1.0)
            if C.longest_wait[p] < np.inf:
                due = max(S.ready[e, out] if S.ready[e, out] <= now else S.soonest[e, out], 0.0) + C.longest_wait[p]
                row[13] = 1.0
                row[14] = max(min((due - now) / unit, 4.0), -1.0)
        row[15] = following / (steps + 1)
        near = min(C.travel[r, S.pose[e, r], 2 * p], C.travel[r, S.pose[e, r], 2 * p + C.arms[r] - 1])
        row[16] = near / unit * 4.0
        row[17] = 1.0 if S.pose[e, r] // 2 == p else 0.0
        row[18] = 1.0 if mask[PICK * places + p] else 0.0
        row[19] = 1.0 if mask[PLACE * places + p] else 0.0
        row[20] = 1.0 if mask[SWAP * places + p] else 0.0
        if out >= 0 or (C.kind[p] == INPUT and S.entered[e] < S.lot[e]):
            # How soon the item's next station takes it: at once, ready for a swap, or when it is expected to be.
            soon = np.inf
            empty = 0.0
            for q in range(places):
                if C.can[following, q] and C.reach[r, q]:
                    if C.kind[q] == OUTPUT:
                        soon, empty = 0.0, 1.0
                    for s in range(C.first_slot[q], C.first_slot[q + 1]):
                        if S.item[e, s] < 0:
                            soon, empty = 0.0, 1.0
                        elif S.ready[e, s] <= now:
                            soon = 0.0
                        else:
                            soon = min(soon, max(S.expected[e, s] - now, 0.0))
            row[21] = empty
            row[22] = min(soon / unit, 4.0)
        for a in range(C.arms[r]):
            if S.hand[e, r, a] >= 0 and C.can[S.hand_step[e, r, a], p]:
                row[23] = 1.0
        row[24] = 1.0 if C.reach[r, p] else 0.0
        for o in range(C.arms.shape[0]):
            if o != r and S.target[e, o] == p and S.status[e, o] == BUSY:
                row[25] = 1.0
    for a in range(C.arms[r]):
        if S.hand[e, r, a] >= 0:
            overall[2 * a] = 1.0
            overall[2 * a + 1] = (S.hand_step[e, r, a] + 1) / (steps + 1)
    overall[4] = 1.0 if mask[3 * places] else 0.0
    overall[5] = min((S.lot[e] - S.entered[e]) / (steps + 1), 3.0)
    spare = slack(C, S, e, r, S.pose[e, r], now, NONE) if C.limited else np.inf
    overall[6] = min(max(spare / unit, -1.0), 4.0)
    for o in range(C.arms.shape[0]):
        if o != r:
            overall[7] = 1.0
            overall[8] = 1.0 if S.status[e, o] == BUSY else 0.0
            overall[9] = min(max(S.until[e, o] - now, 0.0) / unit, 4.0)
            for a in range(C.arms[o]):
                if S.hand[e, o, a] >= 0:
                    overall[10 + a] = (S.hand_step[e, o, a] + 1) / (steps + 1)
            overall[12] = float(r)
    overall[13] = 1.0


@njit(**OUTER)
def settle(
    C: CellArrays,
    S: CellState,
    e: int,
    asked: NDArray[np.int64],
    tokens: NDArray[np.float32],
    overall: NDArray[np.float32],
    mask: NDArray[np.bool_],
    T: Trace,
) -> None:
    """Go on to the next decision of cell `e` that leaves a choice and write down what is seen there.

    Where one action alone is legal, it is taken without asking.
    """
    while True:
        r = advance(C, S, e)
        asked[e] = r
        if r < 0:
            return
        count = legal(C, S, e, r, mask[e])
        if count == 0:
            asked[e] = STUCK
            return
        if count > 1:
            observe(C, S, e, r, tokens[e], overall[e], mask[e])
            return
        for a in range(mask.shape[1]):
            if mask[e, a]:
                commit(C, S, e, r, a, T)
                break


@njit(**OUTER)
def step_cells(
    C: CellArrays,
    S: CellState,
    actions: NDArray[np.int64],
    asked: NDArray[np.int64],
    tokens: NDArray[np.float32],
    overall: NDArray[np.float32],
    mask: NDArray[np.bool_],
    reward: NDArray[np.float64],
    penalty: float,
    T: Trace,
) -> None:
    """One action in each cell, on to the next choice; a cell whose lot is done (or that is stuck) asks no more.

    The reward counts items that left (1 each, most of it paid in advance as they enter the busiest stations), the time
    that went by in units of the bound's time per item, and broken dwell limits (`penalty` each).
    """
    for e in range(actions.shape[0]):
        if asked[e] < 0:
            reward[e] = 0.0
            continue
        then, late, work = S.now[e], S.late[e], _progress(C, S, e)
        commit(C, S, e, asked[e], actions[e], T)
        settle(C, S, e, asked, tokens, overall, mask, T)
        reward[e] = _progress(C, S, e) - work - (S.now[e] - then) / C.scale - penalty * (S.late[e] - late)


@njit(**INNER)
def _progress(C: CellArrays, S: CellState, e: int) -> float:
    """Items done, with a part of one (`CellArrays.worth`) for the steps that the items under way have behind them."""
    total = float(S.done[e])
    for s in range(C.slot_place.shape[0]):
        if S.item[e, s] >= 0:
            total += C.worth[S.step[e, s]]
    for r in range(C.arms.shape[0]):
        for a in range(C.arms[r]):
            if S.hand[e, r, a] >= 0:
                total += C.worth[S.hand_step[e, r, a]]
    return total
