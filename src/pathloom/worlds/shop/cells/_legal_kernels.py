"""Which actions a robot may take: free destinations, no deadlock to follow, a free way, dwell limits kept."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.shop.cells._cell_kernels import (
    BUFFER,
    EPS,
    INPUT,
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


@njit(cache=True, nogil=True, _nrt=False)
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


@njit(cache=True, nogil=True, _nrt=False)
def _can_flush(C: CellArrays, S: CellState, e: int) -> bool:
    """Whether all items in the scratch books can leave one after another (the banker's test).

    Sufficient against deadlock: each item in turn finds, with all others where they are, a free slot at every step that
    is left to it and a robot with a free arm for each transfer.
    """
    places, steps, robots = C.kind.shape[0], C.low.shape[0], C.arms.shape[0]
    count = 0
    for r in range(robots):
        S.free_arms[r] = 0
        for a in range(C.arms[r]):
            if S.hand[e, r, a] >= 0:
                S.at_place[count] = -1 - r
                S.at_step[count] = S.hand_step[e, r, a]
                count += 1
            else:
                S.free_arms[r] += 1
    for p in range(places):
        S.used[p] = 0
        for s in range(C.first_slot[p], C.first_slot[p + 1]):
            if S.item[e, s] >= 0:
                S.used[p] += 1
                S.at_place[count] = p
                S.at_step[count] = S.step[e, s]
                count += 1
    for i in range(count):
        S.gone[i] = False
    left = count
    while left > 0:
        found = False
        for i in range(count):
            if S.gone[i]:
                continue
            here, good = S.at_place[i], True
            # Its own slot, or the arm that holds it, is free as soon as it has left.
            if here >= 0:
                S.used[here] -= 1
            else:
                S.free_arms[-1 - here] += 1
            # Where the item can stand after each step: any free place of the group that some free robot reaches.
            for k in range(S.at_step[i], steps + 1):
                there = -1
                for p in range(places):
                    if not C.can[k, p]:
                        continue
                    if C.kind[p] != OUTPUT and S.used[p] >= C.first_slot[p + 1] - C.first_slot[p]:
                        continue
                    if here < 0:
                        if C.reach[-1 - here, p]:
                            there = p
                    else:
                        for r in range(robots):
                            if S.free_arms[r] > 0 and C.reach[r, here] and C.reach[r, p]:
                                there = p
                    if there >= 0:
                        break
                if there < 0:
                    good = False
                    break
                here = there
            if good:
                S.gone[i] = True
                left -= 1
                found = True
            elif S.at_place[i] >= 0:
                S.used[S.at_place[i]] += 1
            else:
                S.free_arms[-1 - S.at_place[i]] -= 1
        if not found:
            return False
    return True


@njit(cache=True, nogil=True, _nrt=False)
def _safe(C: CellArrays, S: CellState, e: int, r: int, kind: int, p: int, slot: int, arm: int, into: int) -> bool:
    """Whether no deadlock can follow the action: the books after it pass `_can_flush`.

    Parameters
    ----------
    slot
        Slot that is emptied (-1: the input port).
    arm
        Arm that takes the item (pick, swap) or gives it (place).
    into
        Slot that is filled by a place (-1: the output port), or the giving arm of a swap.
    """
    if C.ordered:
        if kind != PICK:
            return True
        for a in range(C.arms[r]):
            if a != arm and S.hand[e, r, a] < 0:
                return True
        leaving = 0 if slot < 0 else S.step[e, slot]
        if room(C, S, e, r, leaving, True):
            return True
        held = False
        for a in range(C.arms[r]):
            held |= a != arm and room(C, S, e, r, S.hand_step[e, r, a], True)
        return held
    if kind == PICK:
        item, step = S.entered[e], 0
        if slot >= 0:
            item, step = S.item[e, slot], S.step[e, slot]
            S.item[e, slot] = -1
        S.hand[e, r, arm] = item
        S.hand_step[e, r, arm] = step
        good = _can_flush(C, S, e)
        S.hand[e, r, arm] = -1
        if slot >= 0:
            S.item[e, slot] = item
        return good
    if kind == PLACE:
        item, step = S.hand[e, r, arm], S.hand_step[e, r, arm]
        S.hand[e, r, arm] = -1
        if into >= 0:
            S.item[e, into] = item
            S.step[e, into] = step + 1 if C.kind[p] == STATION else step
        good = _can_flush(C, S, e)
        S.hand[e, r, arm] = item
        if into >= 0:
            S.item[e, into] = -1
        return good
    given, given_step = S.hand[e, r, into], S.hand_step[e, r, into]
    taken, taken_step = S.item[e, slot], S.step[e, slot]
    S.hand[e, r, into] = -1
    S.hand[e, r, arm] = taken
    S.hand_step[e, r, arm] = taken_step
    S.item[e, slot] = given
    S.step[e, slot] = given_step + 1
    good = _can_flush(C, S, e)
    S.item[e, slot] = taken
    S.step[e, slot] = taken_step
    S.hand[e, r, arm] = -1
    S.hand[e, r, into] = given
    return good


@njit(cache=True, nogil=True, _nrt=False)
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


@njit(cache=True, nogil=True, _nrt=False)
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


@njit(cache=True, nogil=True, _nrt=False)
def _fetched(C: CellArrays, S: CellState, e: int, r: int, kind: int, p: int, arm: int, hand: int) -> int:
    """Slot whose item a pick (`hand` < 0) or swap takes, -1 if none may be taken.

    The first one out, unless taking that one could lead into a deadlock where taking another one does not: items of
    different steps can lie side by side in a station that comes in several.
    """
    first = slot_out(C, S, e, p)
    if first < 0:
        return -1
    for s in range(C.first_slot[p] - 1, C.first_slot[p + 1]):
        slot = first if s < C.first_slot[p] else s
        if S.item[e, slot] < 0 or (s == first):
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
        if C.ordered:
            return -1
    return -1


@njit(cache=True, nogil=True, _nrt=False)
def _given(C: CellArrays, S: CellState, e: int, r: int, p: int, into: int) -> int:
    """Arm that gives its item to place `p`: the furthest step first, the other one if that is safe only; else -1."""
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
        if _safe(C, S, e, r, PLACE, p, -1, arm, into):
            return arm
    return -1


@njit(cache=True, nogil=True, _nrt=False)
def legal(C: CellArrays, S: CellState, e: int, r: int, mask: NDArray[np.bool_]) -> int:
    """Legal actions of robot `r` into `mask`, shape (3P + 1,); returns how many there are.

    Destinations must be free (or be freed by a swap), no deadlock may follow, the other robot must let this one pass,
    and dwell limits must hold. Where no action keeps every limit, limits are left aside.
    """
    places = C.kind.shape[0]
    ahead = pending(C, S, e)
    for attempt in range(2):
        strict = C.limited and attempt == 0
        count = 0
        for a in range(3 * places + 1):
            mask[a] = False
        for p in range(places):
            if not C.reach[r, p] or passage(C, S, e, r, p) == 0:
                continue
            arm = free_arm(C, S, e, r, p)
            if arm >= 0 and C.kind[p] == INPUT:
                if S.entered[e] < S.lot[e]:
                    good = C.arms.shape[0] == 1
                    for q in range(places):
                        good |= C.can[0, q] and C.reach[r, q]
                    good = good and _safe(C, S, e, r, PICK, p, -1, arm, -1)
                    if good and (not strict or _keeps_limits(C, S, e, r, PICK, p, -1, arm)):
                        mask[PICK * places + p] = True
                        count += 1
            elif arm >= 0 and C.kind[p] != OUTPUT:
                slot = _fetched(C, S, e, r, PICK, p, arm, -1)
                S.choice[e, PICK, p] = slot
                if slot >= 0 and (not strict or _keeps_limits(C, S, e, r, PICK, p, slot, arm)):
                    mask[PICK * places + p] = True
                    count += 1
            hand = best_hand(C, S, e, r, p)
            if hand < 0:
                continue
            into = -1 if C.kind[p] == OUTPUT else slot_in(C, S, e, p)
            if into >= 0 or C.kind[p] == OUTPUT:
                giving = _given(C, S, e, r, p, into)
                S.choice[e, PLACE, p] = giving
                if giving >= 0 and (not strict or _keeps_limits(C, S, e, r, PLACE, p, -1, giving)):
                    mask[PLACE * places + p] = True
                    count += 1
            elif arm >= 0 and C.kind[p] == STATION:
                slot = _fetched(C, S, e, r, SWAP, p, arm, hand)
                S.choice[e, SWAP, p] = slot
                if slot >= 0 and (not strict or _keeps_limits(C, S, e, r, SWAP, p, slot, arm)):
                    mask[SWAP * places + p] = True
                    count += 1
        if ahead and (not strict or slack(C, S, e, r, S.pose[e, r], S.now[e], -1) > EPS):
            mask[3 * places] = True
            count += 1
        if count > 0:
            return count
    if C.arms.shape[0] == 2 and not ahead and S.status[e, 1 - r] != PASSES:
        mask[3 * places] = True  # the other robot has to act
        return 1
    return 0
