"""Compiled genetic search over activity lists and modes of a project, in steps of some hundred children.

Values to be minimised: the makespan where no consumable resource is overdrawn; else above every makespan, by the share
that is overdrawn. Times are in the unit of the network.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.schedule._project_kernels import left_pass, parallel_pass, right_pass, serial_pass
from pathloom.schedule._project_offspring_kernels import Population, below, blur_window, cross, shift_some
from pathloom.schedule._project_order_kernels import (
    FORWARD,
    Ints,
    Network,
    Positions,
    Scratch,
    list_by_key,
    sort_by_time,
)

OVERDRAWN = 1 << 40
"""Above every makespan, in units of the network."""


@njit(cache=True, nogil=True)
def seed_kernels(seed: int) -> None:
    """Begin the random numbers of this thread anew."""
    np.random.seed(seed)


@njit(cache=True, nogil=True)
def overdraft(network: Network, mode: Positions) -> int:
    """By how many thousandths of their stocks the modes overdraw consumable resources in all; at least 1 if any."""
    total = 0
    for kind in range(network.stock.shape[0]):
        used = 0
        for activity in range(mode.shape[0]):
            used += network.consumption[mode[activity], kind]
        if used > network.stock[kind]:
            total += 1 + (used - network.stock[kind]) * 1000 // max(1, network.stock[kind])
    return total


@njit(cache=True, nogil=True)
def repair_modes(network: Network, mode: Positions, steps: int) -> bool:
    """Change modes one at a time until no consumable resource is overdrawn; at most `steps` times.

    Each step takes a random one of the changes that lessen the overdraft most, and now and then any change of a random
    activity, so that it does not end in a trap. Returns whether nothing is overdrawn.
    """
    kinds = network.stock.shape[0]
    activities = mode.shape[0]
    used = np.zeros(kinds, np.int64)
    for activity in range(activities):
        for kind in range(kinds):
            used[kind] += network.consumption[mode[activity], kind]
    for _ in range(steps):
        now = 0.0
        for kind in range(kinds):
            now += max(0, used[kind] - network.stock[kind]) / max(1, network.stock[kind])
        if now <= 0.0:
            return True
        chosen_activity, chosen_mode = -1, -1
        if np.random.random() < 0.1:
            chosen_activity = below(activities)
            width = network.mode_start[chosen_activity + 1] - network.mode_start[chosen_activity]
            chosen_mode = network.mode_start[chosen_activity] + below(width)
        else:
            best = np.inf
            ties = 0
            for activity in range(activities):
                current = mode[activity]
                for other in range(network.mode_start[activity], network.mode_start[activity + 1]):
                    if other == current:
                        continue
                    excess = 0.0
                    for kind in range(kinds):
                        then = used[kind] + network.consumption[other, kind] - network.consumption[current, kind]
                        excess += max(0, then - network.stock[kind]) / max(1, network.stock[kind])
                    if excess < best - 1e-12:
                        best, ties = excess, 1
                        chosen_activity, chosen_mode = activity, other
                    elif excess <= best + 1e-12:
                        ties += 1
                        if below(ties) == 0:
                            chosen_activity, chosen_mode = activity, other
        if chosen_activity < 0:
            return False
        for kind in range(kinds):
            used[kind] += network.consumption[chosen_mode, kind] - network.consumption[mode[chosen_activity], kind]
        mode[chosen_activity] = chosen_mode
    return overdraft(network, mode) == 0


@njit(cache=True, nogil=True)
def justified(network: Network, scratch: Scratch, order: Positions, mode: Positions, share: float, begin: Ints) -> int:
    """Schedule of a list by the serial scheme, then double justification; its value. Changes `mode` if share > 0.

    With `share` above 0 there is one more pass to the right, and the last pass to the left chooses modes anew.
    """
    serial_pass(network, scratch, order, mode, FORWARD, 0.0, begin)
    right_pass(network, scratch, mode, begin)
    last = left_pass(network, scratch, mode, 0.0, begin)
    if share > 0.0:
        activities = begin.shape[0]
        other_mode = np.empty(activities, np.int32)
        other_begin = np.empty(activities, np.int64)
        for activity in range(activities):
            other_mode[activity] = mode[activity]
            other_begin[activity] = begin[activity]
        right_pass(network, scratch, other_mode, other_begin)
        then = left_pass(network, scratch, other_mode, share, other_begin)
        if then <= last:
            last = then
            for activity in range(activities):
                mode[activity] = other_mode[activity]
                begin[activity] = other_begin[activity]
    excess = overdraft(network, mode)
    return last if excess == 0 else OVERDRAWN + excess


@njit(cache=True, nogil=True)
def mark_of(begin: Ints, mode: Positions) -> int:
    """A number that differs between different schedules, almost surely."""
    mark = 0
    for activity in range(begin.shape[0]):
        mark = (mark * 1000003 + begin[activity] * 31 + mode[activity]) & 0xFFFFFFFFFFFF
    return mark


@njit(cache=True, nogil=True)
def put(
    network: Network, scratch: Scratch, population: Population, row: int, mode: Positions, begin: Ints, value: int
) -> None:
    """Make a schedule the member `row`."""
    sort_by_time(network, scratch, begin, FORWARD, scratch.order)
    for index in range(begin.shape[0]):
        population.order[row, index] = scratch.order[index]
        population.mode[row, index] = mode[index]
        population.begin[row, index] = begin[index]
    population.value[row] = value
    population.mark[row] = mark_of(begin, mode)


@njit(cache=True, nogil=True)
def settle(network: Network, scratch: Scratch, population: Population, first: int, key: NDArray[np.float64]) -> None:
    """Fill members `first` and later by sampling around a priority rule (smallest key first).

    Keys are blurred by up to a random share of their spread. Half of the lists go through the parallel scheme first.
    Modes are random where they are free, then repaired.
    """
    activities = network.release.shape[0]
    blurred = np.empty(activities, np.float64)
    order = np.empty(activities, np.int32)
    mode = np.empty(activities, np.int32)
    begin = np.empty(activities, np.int64)
    low, high = np.inf, -np.inf
    for activity in range(activities):
        low, high = min(low, key[activity]), max(high, key[activity])
    spread = max(1.0, high - low)
    several = network.duration.shape[0] > activities
    for row in range(first, population.value.shape[0]):
        width = 0.0 if row == 0 else spread * 0.6 * np.random.random()
        for activity in range(activities):
            blurred[activity] = key[activity] + width * (np.random.random() - 0.5)
            options = network.mode_start[activity + 1] - network.mode_start[activity]
            mode[activity] = network.mode_start[activity] + below(options)
        if several:
            repair_modes(network, mode, 4 * activities)
        if row % 2 == 0:
            list_by_key(network, blurred, FORWARD, order)
        else:
            parallel_pass(network, blurred, mode, begin)
            sort_by_time(network, scratch, begin, FORWARD, order)
        value = justified(network, scratch, order, mode, 0.5 if several else 0.0, begin)
        put(network, scratch, population, row, mode, begin, value)


@njit(cache=True, nogil=True)
def evolve(
    network: Network,
    scratch: Scratch,
    population: Population,
    weight: NDArray[np.float64],
    children: int,
    shaken: float,
    best_begin: Ints,
    best_mode: Positions,
) -> tuple[int, int]:
    """Make `children` children, each of which may take the place of a worse member.

    Parameters
    ----------
    weight
        Shape (modes,): how much work in scarce resources a mode is.
    shaken
        Share of children that are one parent with a window of time shaken, not a cross of two.
    best_begin, best_mode
        Written with the best child if it beats every member there was at the start.

    Returns
    -------
    Value of the best child that beats the members (or 1 << 62), and the number of passes made.
    """
    members, activities = population.order.shape
    order = np.empty(activities, np.int32)
    mode = np.empty(activities, np.int32)
    begin = np.empty(activities, np.int64)
    key = np.empty(activities, np.float64)
    several = network.duration.shape[0] > activities
    best = population.value[0]
    for row in range(members):
        best = min(best, population.value[row])
    found = np.int64(1) << np.int64(62)
    passes = 0
    for _ in range(children):
        one, two = below(members), below(members)
        mother = one if population.value[one] <= population.value[two] else two
        if np.random.random() < shaken:
            for activity in range(activities):
                mode[activity] = population.mode[mother, activity]
            blur_window(network, population.begin[mother], mode, key, order)
            father = mother
        else:
            one, two = below(members), below(members)
            father = one if population.value[one] <= population.value[two] else two
            if np.random.random() < 0.5:
                mother, father = father, mother
            cross(network, population, mother, father, weight, order, mode)
            if np.random.random() < 0.6 or population.mark[mother] == population.mark[father]:
                shift_some(network, order, 1 + below(max(1, activities // 15)))
        share = 0.0
        if several:
            changes = below(4)
            for _ in range(changes):
                activity = below(activities)
                width = network.mode_start[activity + 1] - network.mode_start[activity]
                mode[activity] = network.mode_start[activity] + below(width)
            repair_modes(network, mode, 2 * activities)
            share = np.random.random() if np.random.random() < 0.6 else 0.0
        value = justified(network, scratch, order, mode, share, begin)
        passes += 3 if share == 0.0 else 5
        mark = mark_of(begin, mode)
        known = False
        for row in range(members):
            if population.value[row] == value and population.mark[row] == mark:
                known = True
                break
        if known:
            continue
        worst = below(members)
        for _ in range(2):
            other = below(members)
            if population.value[other] > population.value[worst]:
                worst = other
        if value <= population.value[worst]:
            put(network, scratch, population, worst, mode, begin, value)
        if value < best:
            best = value
            found = np.int64(value)
            for activity in range(activities):
                best_begin[activity] = begin[activity]
                best_mode[activity] = mode[activity]
    return int(found), passes


@njit(cache=True, nogil=True)
def wander(network: Network, scratch: Scratch, mode: Positions, begin: Ints, tries: int, slack: int) -> int:
    """Walk through schedules that are at most `slack` longer than the first, by shaking windows of time.

    Changes `begin` to where the walk ends and returns its makespan; the walk stops at once where it gets shorter.
    """
    activities = begin.shape[0]
    order = np.empty(activities, np.int32)
    trial = np.empty(activities, np.int64)
    key = np.empty(activities, np.float64)
    start = 0
    for activity in range(activities):
        start = max(start, begin[activity] + network.duration[mode[activity]])
    now = start
    for _ in range(tries):
        blur_window(network, begin, mode, key, order)
        serial_pass(network, scratch, order, mode, FORWARD, 0.0, trial)
        right_pass(network, scratch, mode, trial)
        last = left_pass(network, scratch, mode, 0.0, trial)
        if last <= start + slack:
            for activity in range(activities):
                begin[activity] = trial[activity]
            now = last
            if last < start:
                break
    return now
