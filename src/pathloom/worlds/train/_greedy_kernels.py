"""Compiled search for the cheapest route of one microbatch over stages, orders and groups of like nodes."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


# infinities are welcome, so only the flags about not-a-number and signed zeros: enough to vectorise the minimum
@njit(cache=True, fastmath={"nnan", "nsz"})
def cheapest_route(
    stage: Ints,
    before: Ints,
    into: Ints,
    final: int,
    length: int,
    groups: Ints,
    work: Floats,
    hop: Floats,
    allowed: Mask,
    wanted: Mask,
    least: int,
    source: int,
    table: Floats,
    picked: Ints,
    path: Ints,
) -> float:
    """Find the cheapest way through the automaton of stage orders, visiting one group of nodes per stage.

    Parameters
    ----------
    stage, before, into, final
        The automaton, see `pathloom.worlds.train.routes.StageOrders`.
    length
        Number of visits K.
    groups
        int64 (S,): number of node groups of each stage.
    work
        float64 (S, G): seconds of the best node of each group, infinite where none is left.
    hop
        float64 (S, S, G, G): seconds there and back between a group of one stage and a group of another.
    allowed, wanted
        bool (S,): stages that may be visited; and those of which at least `least` must be.
    source
        Group of the microbatch's source.
    table
        float64 (Q, K, G): space to work in; only its first ``least + 1`` layers are used.
    picked, path
        int64 (K,), filled: stage and group of each visit.

    Returns
    -------
    float
        Cost without the work at the source; infinity if there is no route.
    """
    n_states = len(stage)
    for q in range(n_states):
        for j in range(least + 1):
            for c in range(groups[stage[q]]):
                table[q, j, c] = np.inf
    table[0, 0, source] = 0.0
    for q in range(1, n_states):
        p = stage[q]
        if not allowed[p]:
            continue
        size = groups[p]
        gain = 1 if wanted[p] else 0
        for i in range(into[q], into[q + 1]):
            r = before[i]
            links = hop[stage[r], p]
            for j in range(least + 1):
                goal = min(least, j + gain)
                row = table[q, goal]
                for b in range(groups[stage[r]]):
                    so_far = table[r, j, b]
                    if so_far < np.inf:
                        for c in range(size):
                            row[c] = min(row[c], so_far + links[b, c])
        for j in range(least + 1):
            for c in range(size):
                table[q, j, c] += work[p, c]
    best = np.inf
    state, group = -1, -1
    for q in range(final, n_states):
        for c in range(groups[stage[q]]):
            cost = table[q, least, c] + (hop[stage[q], 0, c, source] if length > 1 else 0.0)
            if cost < best:
                best, state, group = cost, q, c
    if state < 0:
        return np.inf
    count = least
    for k in range(length - 1, 0, -1):
        p = stage[state]
        picked[k] = p
        path[k] = group
        gain = 1 if wanted[p] else 0
        reached = np.inf
        next_state, next_count, next_group = -1, -1, -1
        for i in range(into[state], into[state + 1]):
            r = before[i]
            for j in range(least + 1):
                if min(least, j + gain) == count:
                    for b in range(groups[stage[r]]):
                        cost = table[r, j, b] + hop[stage[r], p, b, group]
                        if cost < reached:
                            reached, next_state, next_count, next_group = cost, r, j, b
        state, count, group = next_state, next_count, next_group
    picked[0] = 0
    path[0] = group
    return best
