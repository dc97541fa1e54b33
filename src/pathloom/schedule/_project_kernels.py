"""Compiled schedule-generation schemes for projects with renewable resources, and the justification of schedules.

What all resources have free at one time is kept in a few 64-bit words: each resource has a field of its own, with a
guard bit above it that is always set. Subtracting a demand borrows from the guard bit exactly where too little is free,
so one subtraction and one mask test up to a dozen resources at once.

The free amounts over time are kept in one of two ways. With short durations there is one row for each unit of time
(`Scratch.knots` is empty). With long ones there is one row for each time at which anything begins or ends, and `knots`
holds these times.

A backward pass is a forward pass in mirrored time: successors take the place of predecessors.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.schedule._project_order_kernels import (
    BACKWARD,
    FIRST,
    FORWARD,
    Ints,
    Network,
    Positions,
    Scratch,
    sort_by_time,
)


@njit(cache=True, nogil=True)
def fits(free: Ints, row: int, guard: Ints, need: Ints, mode: int) -> bool:
    """Whether a row has enough free for a mode."""
    missing = np.int64(0)
    for word in range(guard.shape[0]):
        missing |= guard[word] & ~(free[row, word] - need[mode, word])
    return missing == 0


@njit(cache=True, nogil=True)
def row_of(knots: Ints, count: int, time: int) -> int:
    """Last of the first `count` knots that is not after `time` (the first knot is never after it)."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) >> 1
        if knots[middle] <= time:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def earliest_fit(network: Network, scratch: Scratch, count: int, mode: int, earliest: int) -> int:
    """First time from `earliest` on at which a mode has enough free for its whole duration.

    `count` is the number of knots; 0 where there is a row for each unit of time.
    """
    free, knots, guard, need = scratch.free, scratch.knots, network.guard, network.need
    duration = network.duration[mode]
    begin = earliest
    if duration == 0:
        return begin
    if count == 0:
        known = begin  # everything in begin..known has been seen to fit
        while True:
            end = begin + duration
            at = end - 1
            while at >= known and fits(free, at, guard, need, mode):
                at -= 1
            if at < known:
                return begin
            begin = at + 1
            known = end
    row = row_of(knots, count, begin)
    while row < count and knots[row] < begin + duration:
        if not fits(free, row, guard, need, mode):
            begin = knots[row + 1]  # the last knot has everything free, so there is a next one
        row += 1
    return begin


@njit(cache=True, nogil=True)
def take(network: Network, scratch: Scratch, count: int, mode: int, begin: int) -> int:
    """Use what a mode needs from `begin` on for its duration, and return the new number of knots."""
    free, knots, need = scratch.free, scratch.knots, network.need
    words = need.shape[1]
    end = begin + network.duration[mode]
    if end == begin:
        return count
    if count == 0:
        for at in range(begin, end):
            for word in range(words):
                free[at, word] -= need[mode, word]
        return 0
    for side in range(2):  # make both ends knots
        time = begin if side == 0 else end
        row = row_of(knots, count, time)
        if knots[row] == time:
            continue
        for at in range(count, row + 1, -1):
            knots[at] = knots[at - 1]
            for word in range(words):
                free[at, word] = free[at - 1, word]
        knots[row + 1] = time
        for word in range(words):
            free[row + 1, word] = free[row, word]
        count += 1
    row = row_of(knots, count, begin)
    while knots[row] < end:
        for word in range(words):
            free[row, word] -= need[mode, word]
        row += 1
    return count


@njit(cache=True, nogil=True)
def best_mode(
    network: Network, scratch: Scratch, count: int, used: Ints, activity: int, current: int, earliest: int
) -> int:
    """Of the modes that overdraw nothing beyond what is overdrawn already, that which ends first, then uses least."""
    best, best_end, best_use = -1, 0, 0.0
    for chosen in range(np.int64(network.mode_start[activity]), np.int64(network.mode_start[activity + 1])):
        use = 0.0
        allowed = True
        for kind in range(used.shape[0]):
            more = network.consumption[chosen, kind] - network.consumption[current, kind]
            if more > 0 and used[kind] + more > network.stock[kind]:
                allowed = False
            use += network.consumption[chosen, kind] / (network.stock[kind] + 1.0)
        if chosen != current and not allowed:
            continue
        if best >= 0 and earliest + network.duration[chosen] > best_end:
            continue
        end = earliest_fit(network, scratch, count, chosen, earliest) + network.duration[chosen]
        if best < 0 or end < best_end or (end == best_end and use < best_use):
            best, best_end, best_use = chosen, end, use
    for kind in range(used.shape[0]):
        used[kind] += network.consumption[best, kind] - network.consumption[current, kind]
    return best


@njit(cache=True, nogil=True)
def serial_pass(
    network: Network, scratch: Scratch, order: Positions, mode: Positions, backward: np.int64, share: float, begin: Ints
) -> int:
    """Serial scheme: each activity in turn as early as it can; writes `begin` and returns the latest end.

    Parameters
    ----------
    order
        Each activity after all its predecessors (successors where `backward`).
    backward
        `BACKWARD` where time is mirrored (successors come first, and releases do not count), else `FORWARD`.
    share
        Probability with which an activity takes the mode that ends first, within the stocks of consumable resources
        (the extended scheme of Van Peteghem and Vanhoucke 2010). Above 0, `mode` is changed.
    """
    free, knots, finish = scratch.free, scratch.knots, scratch.finish
    kinds, words = network.stock.shape[0], network.full.shape[0]
    used = np.zeros(kinds, np.int64)
    if share > 0.0:
        for activity in range(mode.shape[0]):
            for kind in range(kinds):
                used[kind] += network.consumption[mode[activity], kind]
    before_start = network.succ_start if backward == BACKWARD else network.pred_start
    before = network.succ if backward == BACKWARD else network.pred
    count = 0
    if knots.shape[0] > 0:
        count = 1
        knots[0] = 0
        for word in range(words):
            free[0, word] = network.full[word]
    last = 0
    for position in range(order.shape[0]):
        activity = order[position]
        at = 0 if backward == BACKWARD else network.release[activity]
        for index in range(before_start[activity], before_start[activity + 1]):
            if finish[before[index]] > at:
                at = finish[before[index]]
        chosen = np.int64(mode[activity])
        if share > 0.0 and np.random.random() < share:
            chosen = best_mode(network, scratch, count, used, activity, chosen, at)
            mode[activity] = chosen
        at = earliest_fit(network, scratch, count, chosen, at)
        count = take(network, scratch, count, chosen, at)
        begin[activity] = at
        at += network.duration[chosen]
        finish[activity] = at
        if at > last:
            last = at
    if count == 0:
        for at in range(last):
            for word in range(words):
                free[at, word] = network.full[word]
    return last


@njit(cache=True, nogil=True)
def parallel_pass(network: Network, key: NDArray[np.float64], mode: Positions, begin: Ints) -> int:
    """Parallel scheme: at each time, in rising order of `key`, start every ready activity that fits.

    Writes `begin` and returns the latest end. A schedule of this scheme never delays an activity that could start
    without delaying another; the best schedule need not be among them.
    """
    activities = network.release.shape[0]
    open_preds = np.empty(activities, np.int64)
    ready_at = np.empty(activities, np.int64)
    finish = np.empty(activities, np.int64)
    waiting = np.empty(activities, np.int64)  # all predecessors are placed, the activity is not
    running = np.empty(activities, np.int64)
    words = network.full.shape[0]
    free = np.empty((1, words), np.int64)
    for word in range(words):
        free[0, word] = network.full[word]
    n_waiting, n_running = 0, 0
    for activity in range(activities):
        ready_at[activity] = network.release[activity]
        open_preds[activity] = network.pred_start[activity + 1] - network.pred_start[activity]
        if open_preds[activity] == 0:
            waiting[n_waiting] = activity
            n_waiting += 1
    time, last, left = np.int64(0), np.int64(0), activities
    while left > 0:
        still = 0
        for index in range(n_running):
            activity = running[index]
            if finish[activity] <= time:
                for word in range(words):
                    free[0, word] += network.need[mode[activity], word]
            else:
                running[still] = activity
                still += 1
        n_running = still
        while True:
            best = -1
            for index in range(n_waiting):
                activity = waiting[index]
                if ready_at[activity] > time or (best >= 0 and key[activity] >= key[waiting[best]]):
                    continue
                chosen = np.int64(mode[activity])
                if network.duration[chosen] == 0 or fits(free, FIRST, network.guard, network.need, chosen):
                    best = index
            if best < 0:
                break
            activity = waiting[best]
            n_waiting -= 1
            waiting[best] = waiting[n_waiting]
            left -= 1
            duration = network.duration[mode[activity]]
            begin[activity] = time
            finish[activity] = time + duration
            last = max(last, time + duration)
            if duration > 0:
                for word in range(words):
                    free[0, word] -= network.need[mode[activity], word]
                running[n_running] = activity
                n_running += 1
            for index in range(network.succ_start[activity], network.succ_start[activity + 1]):
                after = network.succ[index]
                ready_at[after] = max(ready_at[after], time + duration)
                open_preds[after] -= 1
                if open_preds[after] == 0:
                    waiting[n_waiting] = after
                    n_waiting += 1
        later = np.int64(1) << np.int64(62)
        for index in range(n_running):
            later = min(later, finish[running[index]])
        for index in range(n_waiting):
            if ready_at[waiting[index]] > time:
                later = min(later, ready_at[waiting[index]])
        time = later
    return last


@njit(cache=True, nogil=True)
def right_pass(network: Network, scratch: Scratch, mode: Positions, begin: Ints) -> int:
    """Justify to the right: in falling order of end, each activity as late as it can, within the latest end.

    Changes `begin`; returns the latest end, which stays.
    """
    activities = begin.shape[0]
    key, mirrored = scratch.key, scratch.begin
    last = 0
    for activity in range(activities):
        end = begin[activity] + network.duration[mode[activity]]
        if end > last:
            last = end
    for activity in range(activities):
        key[activity] = last - begin[activity] - network.duration[mode[activity]]
    sort_by_time(network, scratch, key, BACKWARD, scratch.order)
    serial_pass(network, scratch, scratch.order, mode, BACKWARD, 0.0, mirrored)
    for activity in range(activities):
        begin[activity] = last - mirrored[activity] - network.duration[mode[activity]]
    return last


@njit(cache=True, nogil=True)
def left_pass(network: Network, scratch: Scratch, mode: Positions, share: float, begin: Ints) -> int:
    """Justify to the left: in rising order of start, each activity as early as it can.

    Changes `begin`; returns the latest end, which is never later than before where `share` (see `serial_pass`) is 0.
    """
    sort_by_time(network, scratch, begin, FORWARD, scratch.order)
    return serial_pass(network, scratch, scratch.order, mode, FORWARD, share, begin)
