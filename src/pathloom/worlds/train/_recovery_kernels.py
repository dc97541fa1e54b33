"""Compiled parts of the search for new attempts: lay one attempt out as a chain of tasks, and judge all of them."""

from __future__ import annotations

import numpy as np
from numba import njit

from pathloom.simulate._kernels import run_chains


@njit(cache=True)
def lay_row(row, route, stages, forward, backward, weight, loss, link, chunks, split, node, duration, hop):
    """Fill row `row` of `node`, `duration` and `hop` (R, T) for a route, as `simulator.chains` does."""
    k_visits = len(route)
    n_stages = forward.shape[1]
    chain = 2 * k_visits + 1
    for v in range(k_visits):
        n, p = route[v], stages[v] % n_stages
        node[row, v] = n
        node[row, chain - 1 - v] = n
        duration[row, v] = forward[n, p] / chunks
        if split:
            node[row, chain + k_visits - 1 - v] = n
            duration[row, chain - 1 - v] = backward[n, p] / chunks - weight[n, p] / chunks
            duration[row, chain + k_visits - 1 - v] = weight[n, p] / chunks
        else:
            duration[row, chain - 1 - v] = backward[n, p] / chunks
    node[row, k_visits] = route[0]
    duration[row, k_visits] = loss[route[0]]
    for t in range(chain - 1):
        a, b = node[row, t], node[row, t + 1]
        hop[row, t] = 0.0 if a == b else link[a, b]


@njit(cache=True)
def judge(
    node, duration, hop, rest, slot, spawn, chain, release, after, key, use_key, sequence, sequence_start, slots,
    fail_at, dropped_at, node_windows, link_windows, start, end, work, loosen_at, first, heir,
    present, placement, returned, done,
):  # fmt: skip
    """Run all attempts; fill the returns (B,) and the last useful end by stage (S,).

    Returns
    -------
    tuple
        Last end of a task that counts, and the number of microbatches with a task that never ends.
    """
    run_chains(
        node, duration, hop, rest, slot, spawn, chain, release, after, key, use_key, sequence, sequence_start, slots,
        fail_at, dropped_at, node_windows, link_windows, np.inf, start, end, work, loosen_at, first, heir,
    )  # fmt: skip
    last = 0.0
    never = 0
    done[:] = 0.0
    for b in range(len(present)):
        row = present[b]
        returned[b] = end[row, chain - 1]
        missing = False
        # what an attempt continues ended on the same nodes before its own backward passes there
        for t in range(first[row], node.shape[1]):
            ended = end[row, t]
            if np.isnan(ended):
                missing = True
                continue
            last = max(last, ended)
            p = placement[node[row, t]]
            done[p] = max(done[p], ended)
        if missing:
            never += 1
    return last, never
