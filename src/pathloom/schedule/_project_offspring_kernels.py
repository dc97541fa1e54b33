"""Compiled ways to make a list of activities out of one or two schedules of a project."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.schedule._project_order_kernels import FORWARD, Ints, Network, Positions, list_by_key


class Population(NamedTuple):
    """The members of a genetic search.

    Attributes
    ----------
    order, mode
        Shape (members, activities): activities by rising start, and their local modes.
    begin
        Shape (members, activities): left-justified start times.
    value, mark
        Shape (members,): value, and a number that differs between different schedules (almost surely).
    """

    order: Positions
    mode: Positions
    begin: Ints
    value: Ints
    mark: Ints


@njit(cache=True, nogil=True)
def below(limit: int) -> int:
    """Random number from 0 to limit - 1."""
    return int(np.random.random() * limit)


@njit(cache=True, nogil=True)
def dense_window(
    network: Network, population: Population, row: int, weight: NDArray[np.float64], tries: int
) -> tuple[int, int]:
    """Of some random windows first..end of a member's list, the one whose activities use most in the time they span."""
    activities = population.order.shape[1]
    order, begin, mode = population.order[row], population.begin[row], population.mode[row]
    best_first, best_end, best = 0, activities, -1.0
    for _ in range(tries):
        length = max(1, int(activities * (0.15 + 0.5 * np.random.random())))
        first = below(max(1, activities - length + 1))
        end = min(activities, first + length)
        work, latest = 0.0, 0
        for position in range(first, end):
            activity = order[position]
            work += weight[mode[activity]]
            latest = max(latest, begin[activity] + network.duration[mode[activity]])
        density = work / max(1, latest - begin[order[first]])
        if density > best:
            best_first, best_end, best = first, end, density
    return best_first, best_end


@njit(cache=True, nogil=True)
def cross(
    network: Network,
    population: Population,
    mother: int,
    father: int,
    weight: NDArray[np.float64],
    order: Positions,
    mode: Positions,
) -> None:
    """A child that keeps a part of its mother's list, with the rest as the father has it.

    One time in two the part is a dense window (the peaks of Valls, Ballestín and Quintanilla, EJOR 185 (2008)): the
    father orders what stands before it in the mother's list, and what stands after it. Else it is everything outside
    a window (two-point crossover, Hartmann, Naval Research Logistics 45 (1998)): the father fills the window. An
    activity takes the mode of the parent that gave it its place.
    """
    activities = order.shape[0]
    his = population.order[father]
    hers = population.order[mother]
    part = np.empty(activities, np.int64)  # 0 before the window, 1 in it, 2 after it
    if np.random.random() < 0.5:
        first, end = dense_window(network, population, mother, weight, 3)
        for position in range(activities):
            part[hers[position]] = 0 if position < first else (1 if position < end else 2)
        at_before, at_after = 0, end
        for position in range(activities):
            activity = his[position]
            if part[activity] == 0:
                order[at_before] = activity
                at_before += 1
                mode[activity] = population.mode[father, activity]
            elif part[activity] == 2:
                order[at_after] = activity
                at_after += 1
                mode[activity] = population.mode[father, activity]
        for position in range(first, end):
            order[position] = hers[position]
            mode[hers[position]] = population.mode[mother, hers[position]]
    else:
        first, end = below(activities), below(activities + 1)
        if first > end:
            first, end = end, first
        for position in range(activities):
            part[position] = 2
        for position in range(first):
            order[position] = hers[position]
            part[hers[position]] = 0
            mode[hers[position]] = population.mode[mother, hers[position]]
        at = first
        position = 0
        while at < end:
            activity = his[position]
            position += 1
            if part[activity] == 2:
                order[at] = activity
                part[activity] = 1
                mode[activity] = population.mode[father, activity]
                at += 1
        for position in range(activities):
            activity = hers[position]
            if part[activity] == 2:
                order[at] = activity
                mode[activity] = population.mode[mother, activity]
                at += 1


@njit(cache=True, nogil=True)
def shift_some(network: Network, order: Positions, shifts: int) -> None:
    """Move `shifts` random activities to random places of the list between their predecessors and successors."""
    activities = order.shape[0]
    place = np.empty(activities, np.int64)
    for position in range(activities):
        place[order[position]] = position
    for _ in range(shifts):
        activity = order[below(activities)]
        low, high = 0, activities - 1
        for index in range(network.pred_start[activity], network.pred_start[activity + 1]):
            low = max(low, place[network.pred[index]] + 1)
        for index in range(network.succ_start[activity], network.succ_start[activity + 1]):
            high = min(high, place[network.succ[index]] - 1)
        target = low + below(high - low + 1)
        position = place[activity]
        step = 1 if target > position else -1
        while position != target:
            order[position] = order[position + step]
            place[order[position]] = position
            position += step
        order[target] = activity
        place[activity] = target


@njit(cache=True, nogil=True)
def blur_window(network: Network, begin: Ints, mode: Positions, key: NDArray[np.float64], order: Positions) -> None:
    """List of a schedule in which the activities of a random window of time are shaken within their neighbourhood."""
    activities = begin.shape[0]
    last, longest = 1, 1
    for activity in range(activities):
        last = max(last, begin[activity] + network.duration[mode[activity]])
        longest = max(longest, network.duration[mode[activity]])
    span = max(1.0, last * (0.1 + 0.3 * np.random.random()))
    left = np.random.random() * (last + span) - span
    reach = longest * 2.0 * np.random.random()
    for activity in range(activities):
        key[activity] = begin[activity]
        if left <= begin[activity] <= left + span:
            key[activity] += reach * (2.0 * np.random.random() - 1.0)
    list_by_key(network, key, FORWARD, order)
