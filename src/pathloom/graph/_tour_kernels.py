"""Compiled kernels of shortest paths through all points.

All see the same shape of problem: m points to put in order, `first[j]` to reach the first of them, `inner[i, j]` from
one to the next, `last[j]` to leave the last, and `allowed[j, position]` where each may stand. A fixed start, a free
start, an open path and a closed tour are all cases of it.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.graph._matching_kernels import match_bottleneck

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@njit(cache=True)
def held_karp_table(first: Floats, inner: Floats, last: Floats, allowed: Mask, table: Floats) -> float:
    """Least cost of an order of the m points; fills ``table[visited, j]``, the cost to go after a set that ended at j.

    `table` has shape (2**m or more, m or more). Infinity means that no allowed order has a finite cost.
    """
    m = len(first)
    full = (1 << m) - 1
    for j in range(m):
        table[full, j] = last[j]
    following = np.empty(m, np.int64)
    to_go = np.empty(m)
    for visited in range(full - 1, 0, -1):
        position = 0
        for j in range(m):
            position += (visited >> j) & 1
        count = 0
        for k in range(m):
            if not (visited >> k) & 1 and allowed[k, position]:
                following[count] = k
                to_go[count] = table[visited | (1 << k), k]
                count += 1
        for j in range(m):
            if (visited >> j) & 1:
                best = np.inf
                for t in range(count):
                    best = min(best, inner[j, following[t]] + to_go[t])
                table[visited, j] = best
    best = np.inf
    for j in range(m):
        if allowed[j, 0]:
            best = min(best, first[j] + table[1 << j, j])
    return best


@njit(cache=True)
def held_karp_order(first: Floats, inner: Floats, allowed: Mask, table: Floats) -> Ints:
    """The order that `held_karp_table` priced; of several the one that is first in lexicographic order."""
    m = len(first)
    order = np.empty(m, np.int64)
    visited = 0
    for position in range(m):
        best = np.inf
        chosen = -1
        for k in range(m):
            if (visited >> k) & 1 or not allowed[k, position]:
                continue
            step = first[k] if position == 0 else inner[order[position - 1], k]
            cost = step + table[visited | (1 << k), k]
            if cost < best:
                best = cost
                chosen = k
        order[position] = chosen
        visited |= 1 << chosen
    return order


@njit(cache=True)
def path_cost(first: Floats, inner: Floats, last: Floats, order: Ints) -> float:
    """Cost of visiting the points in `order`."""
    cost = first[order[0]]
    for position in range(1, len(order)):
        cost += inner[order[position - 1], order[position]]
    return cost + last[order[len(order) - 1]]


@njit(cache=True)
def nearest_insertion(first: Floats, inner: Floats, last: Floats) -> Ints:
    """Grow an order: the point nearest to those placed goes where it lengthens the path least (all costs finite)."""
    m = len(first)
    order = np.empty(m, np.int64)
    order[0] = np.argmin(first + last)
    placed = np.zeros(m, np.bool_)
    placed[order[0]] = True
    distance = np.minimum(inner[order[0]], inner[:, order[0]])
    for size in range(1, m):
        point = -1
        for j in range(m):
            if not placed[j] and (point < 0 or distance[j] < distance[point]):
                point = j
        best = np.inf
        where = 0
        for position in range(size + 1):
            enter = first[point] if position == 0 else inner[order[position - 1], point]
            leave = last[point] if position == size else inner[point, order[position]]
            if position == 0:
                old = first[order[0]]
            elif position == size:
                old = last[order[size - 1]]
            else:
                old = inner[order[position - 1], order[position]]
            added = enter + leave - old
            if added < best:
                best = added
                where = position
        for position in range(size, where, -1):
            order[position] = order[position - 1]
        order[where] = point
        placed[point] = True
        for j in range(m):
            distance[j] = min(distance[j], inner[point, j], inner[j, point])
    return order


@njit(cache=True)
def allowed_order(allowed: Mask) -> Ints:
    """Any order in which every point stands where it may; an order of -1 if there is none."""
    m = len(allowed)
    forbidden = np.empty((m, m))
    for j in range(m):
        for position in range(m):
            forbidden[j, position] = 0.0 if allowed[j, position] else 1.0
    order = np.empty(m, np.int64)
    if match_bottleneck(forbidden, order) > 0.0:
        order[:] = -1
    return order


@njit(cache=True)
def _may_stand(allowed: Mask, order: Ints) -> bool:
    fits = True
    for position in range(len(order)):
        fits = fits and allowed[order[position], position]
    return fits


@njit(cache=True)
def _write_move(order: Ints, kind: int, i: int, j: int, moved: Ints) -> None:
    """Write `order` after one move to `moved`.

    Kind 0 reverses positions i..j; kind 1 swaps them; kinds 2..4 take the segment of 1..3 points at i out and put it
    back so that it starts at j; kinds 5 and 6 do the same with a segment of 2 or 3 points, reversed.
    """
    m = len(order)
    if kind == 0:
        for position in range(m):
            moved[position] = order[i + j - position] if i <= position <= j else order[position]
        return
    if kind == 1:
        for position in range(m):
            moved[position] = order[position]
        moved[i] = order[j]
        moved[j] = order[i]
        return
    length = kind - 1 if kind <= 4 else kind - 3
    source = 0
    for position in range(m):
        if j <= position < j + length:
            offset = position - j if kind <= 4 else length - 1 - (position - j)
            moved[position] = order[i + offset]
            continue
        if source == i:
            source += length
        moved[position] = order[source]
        source += 1


@njit(cache=True)
def improve_order(first: Floats, inner: Floats, last: Floats, allowed: Mask, order: Ints) -> float:
    """Reverse, swap and move segments of `order` in place while that shortens the path; returns its cost.

    All costs must be finite, and `order` must be allowed.
    """
    m = len(order)
    moved = np.empty(m, np.int64)
    cost = path_cost(first, inner, last, order)
    improved = True
    while improved:
        improved = False
        for kind in range(7):
            length = 1
            if 2 <= kind <= 4:
                length = kind - 1
            elif kind >= 5:
                length = kind - 3
            for i in range(m - length + 1):
                # Reversals and swaps are the same for (i, j) and (j, i).
                for j in range(i + 1 if kind <= 1 else 0, m - length + 1):
                    if i == j and kind <= 4:
                        continue
                    _write_move(order, kind, i, j, moved)
                    candidate = path_cost(first, inner, last, moved)
                    # The margin keeps rounding from passing for progress, which could go on for ever.
                    if candidate < cost - 1e-12 * abs(cost) and _may_stand(allowed, moved):
                        order[:] = moved
                        cost = candidate
                        improved = True
    return cost
