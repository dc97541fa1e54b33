"""Which actions a robot may take: free destinations, no deadlock to follow, a free way, dwell limits kept."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.shop.cells._cell_kernels import (
    BUFFER,
    EPS,
    INNER,
    INPUT,
    NONE,
    OUTER,
    OUTPUT,
    PASSES,
    PICK,
    PLACE,
    STATION,
    SWAP,
    CellArrays,
    CellState,
    best_hand,
    free_arm,
    passage,
    pending,
    slack,
    slot_in,
    slot_out,
)


@njit(**INNER)
def room(C: CellArrays, S: CellState, e: int, r: int, step: int, buffers: bool) -> bool:
    """Whether a place that robot `r` reaches takes an item for `step`, now or when an arm has left it."""
    for p in range(C.kind.shape[0]):
        if not C.reach[r, p] or not (C.can[step, p] or (buffers and C.kind[p] == BUFFER)):
            continue
        if C.kind[p] == OUTPUT:
            return True
        for s in range(C.first_slot[p], C.first_slot[p + 1]):
            if S.item[e, s] < 0:
                return True
    return False


@njit(**INNER)
def _all_leave(C: CellArrays, S: CellState, e: int, robot: int, hand: int, put: int) -> bool:
    """Whether all items can leave one after another, each by free places while the others stay where they are.

    The item on arm `hand` of `robot` is taken to lie at place `put`, unless `put` is NONE. Each transfer needs a robot
    that reaches both ends and has a free arm, the item's own included.
    """
    places, steps, robots = C.kind.shape[0], C.low.shape[0], C.arms.shape[0]
    for p in range(places):
        S.used[p] = 0
    count = 0
    for r in range(robots):
        S.free_arms[r] = 0
        for a in range(C.arms[r]):
            if S.hand[e, r, a] < 0:
                S.free_arms[r] += 1
                continue
            S.at_place[count] = -1 - r
            S.at_step[count] = S.hand_step[e, r, a]
            if put >= 0 and r == robot and a == hand:
                S.free_arms[r] += 1
                S.used[put] += 1
                S.at_place[count] = put
                S.at_step[count] += 1 if C.kind[put] == STATION else 0
            count += 1
    for s in range(C.slot_place.shape[0]):
        if S.item[e, s] >= 0:
            S.used[C.slot_place[s]] += 1
            S.at_place[count] = C.slot_place[s]
            S.at_step[count] = S.step[e, s]
            count += 1
    for i in range(count):
        S.gone[i] = False
    left, found = count, True
    while left > 0 and found:
        found = False
        for i in range(count - 1, -1, -1):  # later stations first: they are often the later steps
            if S.gone[i]:
                continue
            start = S.at_place[i]
            # Its own slot, or the arm that holds it, is free as soon as it has left.
            if start >= 0:
                S.used[start] -= 1
            else:
                S.free_arms[-1 - start] += 1
            here, k = start, S.at_step[i]
            while k <= steps:
                there = -1
                for p in range(places):
                    if not C.can[k, p]:
                        continue
                    if C.kind[p] != OUTPUT and S.used[p] >= C.first_slot[p + 1] - C.first_slot[p]:
                        continue
                    for r in range(robots):
                        carries = here == -1 - r or (here >= 0 and S.free_arms[r] > 0 and C.reach[r, here])
                        if carries and C.reach[r, p]:
                            there = p
                    if there >= 0:
                        break
                if there < 0:
                    break
                here = there
                k += 1
            if k > steps:
                S.gone[i] = True
                left -= 1
                found = True
            elif start >= 0:
                S.used[start] += 1
            else:
                S.free_arms[-1 - start] -= 1
    return left == 0


@njit(**INNER)
def _free_of_deadlock(C: CellArrays, S: CellState, e: int) -> bool:
    """Whether the books are safe: `_all_leave`, at once or after one held item has been put down."""
    if _all_leave(C, S, e, NONE, NONE, NONE):
        return True
    for r in range(C.arms.shape[0]):
        for a in range(C.arms[r]):
            if S.hand[e, r, a] < 0:
                continue
            step = S.hand_step[e, r, a]
            stations = room(C, S, e, r, step, False)
            for p in range(C.kind.shape[0]):
                if not C.reach[r, p] or C.kind[p] == OUTPUT:
                    continue
                if C.can[step, p] or (C.kind[p] == BUFFER and not stations):
                    for s in range(C.first_slot[p], C.first_slot[p + 1]):
                        if S.item[e, s] < 0:
                            if _all_leave(C, S, e, r, a, p):
                                return True
                            break
    return False


@njit(**INNER)
def _safe(C: CellArrays, S: CellState, e: int, r: int, kind: int, p: int, slot: int, arm: int, into: int) -> bool:
    """Whether no deadlock can follow the action: the books after it are `_free_of_deadlock`.

    Parameters
    ----------
    slot
        Slot that is emptied (NONE: the input port).
    arm
        Arm that takes the item (pick, swap) or gives it (place).
    into
        Slot that is filled by a place (NONE: the output port), or the giving arm of a swap.
    """
    if C.ordered:
        # The same said shortly. With a free arm, the furthest items leave first and make room for the rest; without
        # one, some held item must find a place.
        for a in range(C.arms[r]):
            if kind != PICK or (a != arm and S.hand[e, r, a] < 0):
                return True
        for a in range(C.arms[r]):
            step = S.hand_step[e, r, a]
            if a == arm:
                step = S.step[e, slot] if slot >= 0 else 0
            freed = slot >= 0 and (C.kind[p] == BUFFER or C.can[step, p])  # by the action itself
            if freed or room(C, S, e, r, step, True):
                return True
        return False
    if kind == PLACE:
        item, step = S.hand[e, r, arm], S.hand_step[e, r, arm]
        S.hand[e, r, arm] = -1
        if into >= 0:
            S.item[e, into] = item
            S.step[e, into] = step + 1 if C.kind[p] == STATION else step
        good = _free_of_deadlock(C, S, e)
        S.hand[e, r, arm] = item
        if into >= 0:
            S.item[e, into] = -1
        return good
    taken, step = S.entered[e], 0
    if slot >= 0:
        taken, step = S.item[e, slot], S.step[e, slot]
        S.item[e, slot] = -1
    S.hand[e, r, arm] = taken
    S.hand_step[e, r, arm] = step
    given = NONE
    if kind == SWAP:
        given = S.hand[e, r, into]
        S.hand[e, r, into] = -1
        S.item[e, slot] = given
        S.step[e, slot] = S.hand_step[e, r, into] + 1
    good = _free_of_deadlock(C, S, e)
    S.hand[e, r, arm] = -1
    if kind == SWAP:
        S.hand[e, r, into] = given
    if slot >= 0:
        S.item[e, slot] = taken
        S.step[e, slot] = step
    return good


@njit(**INNER)
def _admits(C: CellArrays, S: CellState, e: int, r: int, p: int, step: int, time: float, taken: int) -> bool:
    """Whether an item may enter the limited station `p` at `time`: somewhere to go by its earliest deadline.

    Items that go to the same next stations before it take their slots first, at their latest ready times; the item
    itself needs a slot then, too, unless a second arm can hold it. Slot `taken` is emptied by the same action.
    """
    due = time + max(C.low[step, p], C.least_stay[p]) + C.longest_wait[p]
    places, robots, slots = C.kind.shape[0], C.arms.shape[0], C.slot_place.shape[0]
    longest, count = 0.0, 0  # S.by_then: when each slot of the next stations can take an item
    for q in range(places):
        if C.can[step + 1, q] and C.kind[q] == OUTPUT:
            return True
        if not C.can[step + 1, q] and C.kind[q] != BUFFER:
            continue
        for s in range(C.first_slot[q], C.first_slot[q + 1]):
            if C.kind[q] == BUFFER:
                if S.item[e, s] < 0:
                    return True
                continue
            free = max(S.now[e], S.shut[e, s])
            if S.item[e, s] >= 0:
                free = S.ready[e, s] if S.ready[e, s] <= S.now[e] else S.latest[e, s]
                if C.arms[r] == 1:
                    # One arm takes the old item away before it brings the new one.
                    free = max(free, time) + 2.0 * C.handling[r] + C.travel[r, 2 * q, 2 * p] + C.travel[r, 2 * p, 2 * q]
            longest = max(longest, C.high[step + 1, q])
            S.by_then[count] = free
            count += 1
    before = 1 if taken >= 0 else 0
    last = time if taken >= 0 else -np.inf
    for o in range(robots):
        for a in range(C.arms[o]):
            if S.hand[e, o, a] >= 0 and S.hand_step[e, o, a] == step + 1:
                before += 1
    for s in range(slots):
        if S.item[e, s] >= 0 and s != taken and S.step[e, s] == step + 1:
            before += 1
            last = max(last, S.latest[e, s])
    if C.arms[r] == 2:
        return True
    for n in range(before + (1 if C.arms[r] == 1 else 0)):
        first = 0
        for i in range(1, count):
            if S.by_then[i] < S.by_then[first]:
                first = i
        at = S.by_then[first]
        if n < before:
            at = max(at, last) if n == before - 1 else at
        if at > due:
            return False
        S.by_then[first] = max(at, S.now[e]) + longest + 2.0 * C.handling[r]
    return True


@njit(**INNER)
def _keeps_limits(C: CellArrays, S: CellState, e: int, r: int, kind: int, p: int, slot: int, arm: int) -> bool:
    """Whether all dwell limits can still be kept after the action in the worst case, as far as `slack` sees."""
    arrive = S.now[e] + C.travel[r, S.pose[e, r], 2 * p + arm]
    begin = arrive
    if slot >= 0:
        known = S.ready[e, slot] if S.ready[e, slot] <= S.now[e] else S.latest[e, slot]
        begin = max(arrive, known)
    end = begin + C.handling[r]
    if kind == SWAP:
        end += C.travel[r, 2 * p, 2 * p + 1] + C.handling[r]
    if slack(C, S, e, r, 2 * p + arm, end, slot) < -EPS:
        return False
    if kind == PICK or C.kind[p] != STATION or C.longest_wait[p] == np.inf:
        return True
    given = arm if kind == PLACE else best_hand(C, S, e, r, p)
    return _admits(C, S, e, r, p, S.hand_step[e, r, given], end, slot)


@njit(**INNER)
def _fetched(C: CellArrays, S: CellState, e: int, r: int, kind: int, p: int, arm: int, hand: int) -> int:
    """Slot whose item a pick or swap takes at a station or buffer, NONE if none may be taken.

    The first one out, unless taking that one could lead into a deadlock where taking another one does not: items of
    different steps can lie side by side in a station that comes in several.
    """
    first = slot_out(C, S, e, p)
    if first < 0:
        return NONE
    for s in range(C.first_slot[p] - 1, C.first_slot[p + 1]):
        slot = first if s < C.first_slot[p] else s
        if S.item[e, slot] < 0 or s == first:
            continue
        good = True
        if kind == PICK:
            following = S.step[e, slot]
            if C.kind[p] == BUFFER:  # an item in a buffer is fetched only for a station that takes it
                good = room(C, S, e, r, following, False)
            elif C.arms.shape[0] == 2:
                good = False
                for q in range(C.kind.shape[0]):
                    good |= C.can[following, q] and C.reach[r, q]
        if good and _safe(C, S, e, r, kind, p, slot, arm, hand):
            return slot
    return NONE


@njit(**INNER)
def _given(C: CellArrays, S: CellState, e: int, r: int, p: int, into: int) -> int:
    """Arm that gives its item to place `p`: the furthest step first, the other one if only that is safe; else NONE."""
    first = best_hand(C, S, e, r, p)
    for a in range(-1, C.arms[r]):
        arm = first if a < 0 else a
        if a == first or S.hand[e, r, arm] < 0:
            continue
        step = S.hand_step[e, r, arm]
        if not C.can[step, p] and C.kind[p] != BUFFER:
            continue
        if C.kind[p] == BUFFER and room(C, S, e, r, step, False):
            continue
        if _safe(C, S, e, r, PLACE, p, NONE, arm, into):
            return arm
    return NONE


@njit(**INNER)
def _taken_by(C: CellArrays, S: CellState, e: int, r: int, kind: int, p: int, arm: int, hand: int) -> bool:
    """Whether an action can be carried out without a deadlock; `choice` gets what it takes (slot, or arm of a place).

    `arm` is the free arm that a pick or swap uses, `hand` the arm that gives; NONE where an action needs none.
    """
    if kind == PICK:
        if C.kind[p] == OUTPUT:
            return False
        if C.kind[p] == INPUT:
            good = S.entered[e] < S.lot[e]
            if good and C.arms.shape[0] == 2:
                good = False
                for q in range(C.kind.shape[0]):
                    good |= C.can[0, q] and C.reach[r, q]
            S.choice[e, kind, p] = -1
            return good and _safe(C, S, e, r, kind, p, NONE, arm, NONE)
        S.choice[e, kind, p] = _fetched(C, S, e, r, kind, p, arm, NONE)
        return S.choice[e, kind, p] >= 0
    into = NONE if C.kind[p] == OUTPUT else slot_in(C, S, e, p)
    free = into >= 0 or C.kind[p] == OUTPUT
    if kind == PLACE:
        S.choice[e, kind, p] = _given(C, S, e, r, p, into) if free else NONE
    else:
        swaps = not free and arm >= 0 and C.kind[p] == STATION
        S.choice[e, kind, p] = _fetched(C, S, e, r, kind, p, arm, hand) if swaps else NONE
    return S.choice[e, kind, p] >= 0


@njit(**OUTER)
def legal(C: CellArrays, S: CellState, e: int, r: int, mask: NDArray[np.bool_]) -> int:
    """Legal actions of robot `r` into `mask`, shape (3P + 1,); returns how many there are.

    Destinations must be free (or be freed by a swap), and no deadlock may follow: afterwards all items must be able to
    leave one after another by free places, the others staying where they are, at once or after one held item has been
    put down. The other robot must let this one pass, and dwell limits must hold as far as `slack` sees. Where no action
    keeps every limit, limits are left aside.
    """
    places = C.kind.shape[0]
    count, kept = 0, 0
    for a in range(3 * places + 1):
        mask[a] = False
    for p in range(places):
        if not C.reach[r, p] or passage(C, S, e, r, p) == 0:
            continue
        arm, hand = free_arm(C, S, e, r, p), best_hand(C, S, e, r, p)
        for kind in range(3):
            if (arm if kind == PICK else hand) < 0 or not _taken_by(C, S, e, r, kind, p, arm, hand):
                continue
            mask[kind * places + p] = True
            count += 1
            if C.limited:
                slot = NONE if kind == PLACE else S.choice[e, kind, p]
                used = S.choice[e, kind, p] if kind == PLACE else arm
                S.keeps[kind, p] = _keeps_limits(C, S, e, r, kind, p, slot, used)
                kept += S.keeps[kind, p]
    ahead = pending(C, S, e)
    if C.limited:
        waits = ahead and slack(C, S, e, r, S.pose[e, r], S.now[e], NONE) > EPS
        if kept > 0 or waits:
            for a in range(3 * places):
                mask[a] &= S.keeps[a // places, a % places]
            mask[3 * places] = waits
            return kept + waits
    if ahead:
        mask[3 * places] = True
        count += 1
    if count > 0:
        return count
    if C.arms.shape[0] == 2 and S.status[e, 1 - r] != PASSES:
        mask[3 * places] = True  # the other robot has to act
        return 1
    return 0
