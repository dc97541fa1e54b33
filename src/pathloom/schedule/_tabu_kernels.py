"""Compiled kernels of the job-shop tabu search: load an order, move an operation within its machine's order, search.

Nodes are the operations 0 .. n - 1, then n, which stands for "no operation", then one source a job, whose end is the
job's release. `end` (longest path up to and with a node) and `tail` (longest path from a node on, with it) are both 0
at node n, so that the recursions need no tests. Links lie in unsigned arrays: numba then leaves out its handling of
negative positions, a fifth of the time of a search.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Links = NDArray[np.uint32]
Ints = NDArray[np.int64]

# Positions in the array `state`
ITERATION, MAKESPAN, BEST, SINCE_BEST, TARGET, TENURE, REACH, STATES = range(8)


@njit(cache=True, nogil=True, inline="always")
def random_below(random: NDArray[np.uint64], bound: int) -> int:
    """A number from 0 to bound - 1; `random` is the state of a xorshift generator (Vigna 2016), not 0."""
    x = random[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    random[0] = x
    return (np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(33)) * bound) >> 31


@njit(cache=True, nogil=True)
def load(
    order: Links,
    machine: Links,
    machines: int,
    duration: Ints,
    job_before: Links,
    job_after: Links,
    before: Links,
    after: Links,
    place: Links,
    end: Ints,
    tail: Ints,
) -> int:
    """Set machine links, places, ends and tails from an order of all operations that respects the jobs; makespan."""
    n = order.shape[0]
    last = np.full(machines, n, np.uint32)
    makespan = np.int64(0)
    for i in range(n):
        w = order[i]
        place[w] = i
        previous = last[machine[w]]
        before[w] = previous
        after[previous] = w
        last[machine[w]] = w
        end[w] = max(end[job_before[w]], end[previous]) + duration[w]
        makespan = max(makespan, end[w])
    for k in range(machines):
        after[last[k]] = n
    for i in range(n - 1, -1, -1):
        w = order[i]
        tail[w] = max(tail[job_after[w]], tail[after[w]]) + duration[w]
    return makespan


@njit(cache=True, nogil=True)
def move_behind(
    u: int,
    v: int,
    duration: Ints,
    job_before: Links,
    job_after: Links,
    before: Links,
    after: Links,
    order: Links,
    place: Links,
    end: Ints,
    tail: Ints,
    mark: NDArray[np.uint8],
    aside: Links,
) -> None:
    """Move u to directly behind v, which comes later on the same machine; mend the order, ends and tails."""
    n = order.shape[0]
    first, second, third = before[u], after[u], after[v]
    after[first] = second
    before[second] = first
    after[v] = u
    before[u] = v
    after[u] = third
    before[third] = u
    # What now depends on u must come after v; the rest of the stretch from u to v moves forward and keeps its order
    low, high = np.int64(place[u]), np.int64(place[v])
    mark[u] = 1
    aside[0] = u
    delayed = 1
    free = low
    for i in range(low + 1, high + 1):
        w = order[i]
        if mark[job_before[w]] | mark[before[w]]:
            mark[w] = 1
            aside[delayed] = w
            delayed += 1
        else:
            order[free] = w
            place[w] = free
            free += 1
    for i in range(delayed):
        w = aside[i]
        mark[w] = 0
        order[free] = w
        place[w] = free
        free += 1
    for i in range(low, n):
        w = order[i]
        end[w] = max(end[job_before[w]], end[before[w]]) + duration[w]
    for i in range(high, -1, -1):
        w = order[i]
        tail[w] = max(tail[job_after[w]], tail[after[w]]) + duration[w]


@njit(cache=True, nogil=True)
def move_ahead(
    v: int,
    u: int,
    duration: Ints,
    job_before: Links,
    job_after: Links,
    before: Links,
    after: Links,
    order: Links,
    place: Links,
    end: Ints,
    tail: Ints,
    mark: NDArray[np.uint8],
    aside: Links,
) -> None:
    """Move v to directly before u, which comes earlier on the same machine; mend the order, ends and tails."""
    n = order.shape[0]
    first, second, third = before[u], before[v], after[v]
    after[second] = third
    before[third] = second
    after[first] = v
    before[v] = first
    after[v] = u
    before[u] = v
    low, high = np.int64(place[u]), np.int64(place[v])
    mark[v] = 1
    aside[0] = v
    advanced = 1
    free = high
    for i in range(high - 1, low - 1, -1):
        w = order[i]
        if mark[job_after[w]] | mark[after[w]]:
            mark[w] = 1
            aside[advanced] = w
            advanced += 1
        else:
            order[free] = w
            place[w] = free
            free -= 1
    for i in range(advanced):
        w = aside[i]
        mark[w] = 0
        order[free] = w
        place[w] = free
        free -= 1
    for i in range(low, n):
        w = order[i]
        end[w] = max(end[job_before[w]], end[before[w]]) + duration[w]
    for i in range(high, -1, -1):
        w = order[i]
        tail[w] = max(tail[job_after[w]], tail[after[w]]) + duration[w]


@njit(cache=True, nogil=True)
def critical_path(
    n: int,
    makespan: int,
    job_last: Links,
    duration: Ints,
    job_before: Links,
    before: Links,
    end: Ints,
    path: Links,
    random: NDArray[np.uint64],
) -> int:
    """Write a random critical path to `path`, last operation first; return its length."""
    ties = 0
    w = np.int64(n)
    for j in range(job_last.shape[0]):
        if end[job_last[j]] == makespan:
            ties += 1
            if random_below(random, ties) == 0:
                w = np.int64(job_last[j])
    length = 0
    while w < n:
        path[length] = w
        length += 1
        start = end[w] - duration[w]
        if start == 0:
            break
        a, b = np.int64(job_before[w]), np.int64(before[w])
        if end[b] != start or (end[a] == start and random_below(random, 2) == 0):
            w = a
        else:
            w = b
    return length


@njit(cache=True, nogil=True)
def estimate_behind(
    block: Links,
    i: int,
    j: int,
    duration: Ints,
    job_before: Links,
    job_after: Links,
    before: Links,
    after: Links,
    end: Ints,
    tail: Ints,
    heads: Ints,
) -> int:
    """Longest path through the operations i .. j of a block when i goes behind j, were the rest unchanged."""
    u = block[i]
    finish = end[before[u]]
    for k in range(i + 1, j + 1):
        w = block[k]
        head = max(end[job_before[w]], finish)
        heads[k] = head
        finish = head + duration[w]
    head = max(end[job_before[u]], finish)
    rest = max(tail[job_after[u]], tail[after[block[j]]]) + duration[u]
    longest = head + rest
    for k in range(j, i, -1):
        w = block[k]
        rest = max(tail[job_after[w]], rest) + duration[w]
        longest = max(longest, heads[k] + rest)
    return longest


@njit(cache=True, nogil=True)
def estimate_ahead(
    block: Links,
    i: int,
    j: int,
    duration: Ints,
    job_before: Links,
    job_after: Links,
    before: Links,
    after: Links,
    end: Ints,
    tail: Ints,
    heads: Ints,
) -> int:
    """Longest path through the operations i .. j of a block when j goes before i, were the rest unchanged."""
    v = block[j]
    head = max(end[job_before[v]], end[before[block[i]]])
    finish = head + duration[v]
    for k in range(i, j):
        w = block[k]
        heads[k] = max(end[job_before[w]], finish)
        finish = heads[k] + duration[w]
    rest = tail[after[v]]
    longest = np.int64(0)
    for k in range(j - 1, i - 1, -1):
        w = block[k]
        rest = max(tail[job_after[w]], rest) + duration[w]
        longest = max(longest, heads[k] + rest)
    rest = max(tail[job_after[v]], rest) + duration[v]
    return max(longest, head + rest)


@njit(cache=True, nogil=True)
def search(
    steps: int,
    patience: int,
    state: Ints,
    random: NDArray[np.uint64],
    job_last: Links,
    duration: Ints,
    rank: Links,
    job_before: Links,
    job_after: Links,
    machine: Links,
    before: Links,
    after: Links,
    order: Links,
    place: Links,
    end: Ints,
    tail: Ints,
    tabu: Ints,
    best_order: Links,
    best_end: Ints,
    mark: NDArray[np.uint8],
    aside: Links,
    path: Links,
    block: Links,
    heads: Ints,
) -> int:
    """Up to `steps` moves; ends early after `patience` moves without a new best, at the target, or without a move."""
    n = order.shape[0]
    mask = tabu.shape[0] - 1
    width = rank[n]
    reach = state[REACH]
    tenure = state[TENURE]
    iteration = state[ITERATION]
    makespan = state[MAKESPAN]
    best = state[BEST]
    since = state[SINCE_BEST]
    for _ in range(steps):
        if since >= patience or best <= state[TARGET]:
            break
        length = critical_path(n, makespan, job_last, duration, job_before, before, end, path, random)
        chosen_u, chosen_v, chosen_ahead = np.int64(0), np.int64(0), False
        chosen_value = np.int64(1) << 62
        ties = 0
        spare_u, spare_v, spare_ahead = np.int64(0), np.int64(0), False
        spares = 0
        stop = length
        while stop > 0:
            # One block: operations of one machine that follow each other on the path, in time order
            first_start = end[path[stop - 1]] - duration[path[stop - 1]]
            size = 0
            here = machine[path[stop - 1]]
            while stop > 0 and machine[path[stop - 1]] == here:
                stop -= 1
                block[size] = path[stop]
                size += 1
            if size < 2:
                continue
            front = first_start > 0
            back = stop > 0
            # kinds: 0 behind last, 1 ahead of first, 2 first behind interior, 3 last ahead of interior
            for kind in range(4):
                if kind == 0 or kind == 3:
                    if not back:
                        continue
                elif not front:
                    continue
                if kind == 0:
                    begin, stop_at = max(0, size - 1 - reach), size - 1
                elif kind == 1:
                    begin, stop_at = 1, min(size, 1 + reach)
                    if size == 2 and back:
                        continue
                elif kind == 2:
                    begin, stop_at = 2, min(size - 1, 1 + reach)
                else:
                    begin, stop_at = max(1, size - 1 - reach), size - 2
                for k in range(begin, stop_at):
                    ahead = (kind & 1) == 1
                    if kind == 0:
                        i, j = k, size - 1
                    elif kind == 1 or kind == 2:
                        i, j = 0, k
                    else:
                        i, j = k, size - 1
                    u, v = block[i], block[j]
                    # Without a path from the job successor of u to v (or from u to the job predecessor of v) no
                    # cycle arises; each of three inequalities rules such a path out
                    if ahead:
                        p = job_before[v]
                        if p < n and (
                            p == u
                            or (
                                end[p] - duration[p] >= end[u]
                                and tail[u] - duration[u] >= tail[p]
                                and place[p] > place[u]
                            )
                        ):
                            continue
                        value = estimate_ahead(
                            block, i, j, duration, job_before, job_after, before, after, end, tail, heads
                        )
                    else:
                        s = job_after[u]
                        if s < n and (
                            s == v
                            or (
                                end[v] - duration[v] >= end[s]
                                and tail[s] - duration[s] >= tail[v]
                                and place[v] > place[s]
                            )
                        ):
                            continue
                        value = estimate_behind(
                            block, i, j, duration, job_before, job_after, before, after, end, tail, heads
                        )
                    # The pair that the move would put back in order
                    slot = v * width + rank[u]
                    forbidden = tabu[slot & mask] > iteration
                    if forbidden and value >= best:
                        spares += 1
                        if random_below(random, spares) == 0:
                            spare_u, spare_v, spare_ahead = np.int64(u), np.int64(v), ahead
                        continue
                    if value < chosen_value:
                        chosen_value = value
                        ties = 1
                    elif value == chosen_value:
                        ties += 1
                        if random_below(random, ties) != 0:
                            continue
                    else:
                        continue
                    chosen_u, chosen_v, chosen_ahead = np.int64(u), np.int64(v), ahead
        if ties == 0:
            if spares == 0:
                break
            chosen_u, chosen_v, chosen_ahead = spare_u, spare_v, spare_ahead
        until = iteration + tenure + random_below(random, tenure // 2 + 1)
        u, v = chosen_u, chosen_v
        # All pairs that the move turns round: forbidding only the two ends would let the search run in circles
        if chosen_ahead:
            w = u
            while w != v:
                tabu[(w * width + rank[v]) & mask] = until
                w = np.int64(after[w])
            move_ahead(v, u, duration, job_before, job_after, before, after, order, place, end, tail, mark, aside)
        else:
            w = u
            while w != v:
                w = np.int64(after[w])
                tabu[(u * width + rank[w]) & mask] = until
            move_behind(u, v, duration, job_before, job_after, before, after, order, place, end, tail, mark, aside)
        makespan = np.int64(0)
        for j in range(job_last.shape[0]):
            makespan = max(makespan, end[job_last[j]])
        iteration += 1
        since += 1
        if makespan < best:
            best = makespan
            since = 0
            best_order[:] = order
            best_end[:] = end
    done = iteration - state[ITERATION]
    state[ITERATION] = iteration
    state[MAKESPAN] = makespan
    state[BEST] = best
    state[SINCE_BEST] = since
    return done
