"""Compiled evaluation of machine orders on the alternative graph of a blocking shop, and insertion of a job in time.

Every job has a node for its release, one for each operation, and one for its end, numbered in a row: the start of node
u + 1 is also the moment at which the job leaves the machine of node u. A node u waits (1) for the end of node u - 1 and
(2) for the departure a + 1 of the operation a before it on its machine. The arcs of kind (2) have length 0; no node has
two of them out or in, so that among themselves they form paths and simple rings. A ring is a swap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

DEADLOCK = -1  # the orders admit no schedule
TOO_LONG = -2  # the makespan is above the limit
FAR = np.int64(1) << np.int64(60)


class Nodes(NamedTuple):
    """What does not change: the shop as nodes."""

    first: NDArray[np.int32]  # (jobs + 1,) release node of each job; node 0 is the first, with start 0
    job: NDArray[np.int32]  # (nodes,)
    machine: NDArray[np.int32]  # (nodes,) -1 at releases and ends
    duration: NDArray[np.int64]  # (nodes,) of a release node: the release; of an end: 0
    rest: NDArray[np.int64]  # (nodes,) work of the job from the node on
    visit_start: NDArray[np.int32]  # (jobs * machines + 1,)
    visits: NDArray[np.int32]  # (operations,) nodes of each pair (job, machine)
    machines: int
    swap: bool


class Orders(NamedTuple):
    """One order a machine, as lists linked both ways; -1 where there is none; `place` grows along each list."""

    before: NDArray[np.int32]  # (nodes,)
    after: NDArray[np.int32]  # (nodes,)
    place: NDArray[np.int32]  # (nodes,)
    foremost: NDArray[np.int32]  # (machines,)


class Scratch(NamedTuple):
    """Working memory of one search, so that the inner loops allocate nothing."""

    following: NDArray[np.int32]  # (jobs,) first node of the job without a start
    seen: NDArray[np.int32]  # (jobs,)
    queue: NDArray[np.int32]  # (nodes,)


@njit(cache=True, nogil=True)
def release_ring(before, first, job, duration, start, following, seen, queue, tail):
    """Start all nodes of one ring of jobs that wait for each other only; returns the new end of the queue."""
    jobs = len(following)
    for j in range(jobs):
        seen[j] = -1
    for j in range(jobs):
        at = j
        while seen[at] < 0:
            seen[at] = j
            u = following[at]
            if u == first[at + 1] or before[u] < 0:
                break
            b = job[before[u]]
            if following[b] != before[u] + 1:
                break
            at = b
            if seen[at] == j:
                # met before on this very walk: `at` lies on a ring
                t = np.int64(0)
                k = at
                while True:
                    u = following[k]
                    t = max(t, start[u - 1] + duration[u - 1])
                    k = job[before[u]]
                    if k == at:
                        break
                begin = tail
                while True:
                    u = following[k]
                    start[u] = t
                    queue[tail] = u
                    tail += 1
                    k = job[before[u]]
                    if k == at:
                        break
                for i in range(begin, tail):
                    following[job[queue[i]]] += 1
                return tail
    return tail


@njit(cache=True, nogil=True)
def earliest_starts(nodes, orders, scratch, limit, known, absent, start):
    """Fill `start` with the longest paths and return the makespan, `DEADLOCK`, or `TOO_LONG` if it is above `limit`.

    Nodes are started as soon as all that they wait for is; when none is left, a ring of jobs each of which waits only
    for the next one may move at once (`nodes.swap`). With operations of duration 0 an order may be refused although a
    larger group of simultaneous moves would do (see `starts_by_rounds`).

    Parameters
    ----------
    known
        Starts below this time are right on entry; 0 to compute all.
    absent
        A job that is in no order, or -1. Its nodes keep start -1.
    """
    before, after = orders.before, orders.after
    first, job, duration, rest = nodes.first, nodes.job, nodes.duration, nodes.rest
    following, seen, queue = scratch.following, scratch.seen, scratch.queue
    jobs = len(following)
    open_nodes = 0
    makespan = np.int64(0)
    for j in range(jobs):
        u = first[j]
        beyond = first[j + 1]
        if j == absent:
            following[j] = beyond
            while u < beyond:
                start[u] = -1
                u += 1
            continue
        start[u] = 0
        u += 1
        while u < beyond and 0 <= start[u] < known:
            u += 1
        following[j] = u
        if u == beyond:
            makespan = max(makespan, start[u - 1])
        open_nodes += beyond - u
        while u < beyond:
            start[u] = -1
            u += 1
    head = 0
    tail = 0
    for j in range(jobs):
        u = following[j]
        if u < first[j + 1] and start[u] < 0:
            a = before[u]
            s = start[a + 1] if a + 1 != u else np.int64(0)
            if s >= 0:
                t = max(s, start[u - 1] + duration[u - 1])
                if t + rest[u] > limit:
                    return np.int64(TOO_LONG)
                start[u] = t
                queue[tail] = u
                tail += 1
                following[j] += 1
    while True:
        while head < tail:
            u = queue[head]
            head += 1
            t0 = start[u]
            x = after[u - 1]  # -1 for all but operations, and for the last ones of machines
            if x >= 0 and start[x] < 0 and start[x - 1] >= 0:
                t = max(t0, start[x - 1] + duration[x - 1])
                if t + rest[x] > limit:
                    return np.int64(TOO_LONG)
                start[x] = t
                queue[tail] = x
                tail += 1
                following[job[x]] += 1
            x = u + 1
            j = job[u]
            if x == first[j + 1]:
                makespan = max(makespan, t0)
            elif start[x] < 0:
                a = before[x]
                s = start[a + 1] if a + 1 != x else np.int64(0)
                if s >= 0:
                    t = max(s, t0 + duration[u])
                    if t + rest[x] > limit:
                        return np.int64(TOO_LONG)
                    start[x] = t
                    queue[tail] = x
                    tail += 1
                    following[j] += 1
        if tail == open_nodes:
            return makespan
        if not nodes.swap:
            return np.int64(DEADLOCK)
        tail = release_ring(before, first, job, duration, start, following, seen, queue, tail)
        if head == tail:
            return np.int64(DEADLOCK)
        if start[queue[head]] >= limit:
            return np.int64(TOO_LONG)


@njit(cache=True, nogil=True)
def starts_by_rounds(nodes, orders, start):
    """As `earliest_starts` with swaps, for any durations: starts rise until nothing changes or a cycle is positive."""
    n = len(start)
    start[:] = 0
    for _ in range(n + 1):
        changed = False
        for u in range(n):
            if u == nodes.first[nodes.job[u]]:
                continue
            t = max(start[u - 1] + nodes.duration[u - 1], start[orders.before[u] + 1])
            if t > start[u]:
                start[u] = t
                changed = True
        if not changed:
            return start.max()
    return np.int64(DEADLOCK)


@njit(cache=True, nogil=True)
def unlink(nodes, orders, u):
    """Take operation u out of the order of its machine."""
    a = orders.before[u]
    b = orders.after[u]
    if a >= 0:
        orders.after[a] = b
    else:
        orders.foremost[nodes.machine[u]] = b
    if b >= 0:
        orders.before[b] = a
    orders.before[u] = -1
    orders.after[u] = -1


@njit(cache=True, nogil=True)
def link(nodes, orders, u, a, b):
    """Put operation u between its neighbours-to-be a and b (-1: none)."""
    orders.before[u] = a
    orders.after[u] = b
    if a >= 0:
        orders.after[a] = u
    else:
        orders.foremost[nodes.machine[u]] = u
    if b >= 0:
        orders.before[b] = u


@njit(cache=True, nogil=True)
def remove_job(nodes, orders, job):
    """Take all operations of a job out of the orders."""
    for u in range(nodes.first[job] + 1, nodes.first[job + 1] - 1):
        unlink(nodes, orders, u)


@njit(cache=True, nogil=True)
def insert_in_time(nodes, orders, start, job, not_before):
    """Insert an absent job where it ends first while all others keep their starts.

    A gap of a machine lies between the departure of one operation and the start of the next. The earliest arrival in
    each gap of the machine of an operation follows from those of the operation before, as a job may stay until its gap
    ends.
    Without swaps a hand-over that is tight on both sides is refused, so that no ring of equal times can arise.

    Parameters
    ----------
    start
        Shape (nodes,): starts of the others; receives those of the job.
    not_before
        The job starts at this time or later (to draw other insertions than the first).

    Returns
    -------
    int
        End of the job.
    """
    lead = nodes.first[job] + 1
    count = nodes.first[job + 1] - 1 - lead
    widest = 0
    for k in range(count):
        o = orders.foremost[nodes.machine[lead + k]]
        width = 1
        while o >= 0:
            width += 1
            o = orders.after[o]
        widest = max(widest, width)
    reached = np.full((count, widest), FAR)
    came_from = np.full((count, widest), -1, np.int32)
    opens = np.zeros((count, widest), np.int64)
    closes = np.zeros((count, widest), np.int64)
    gaps = np.zeros(count, np.int32)
    for k in range(count):
        o = orders.foremost[nodes.machine[lead + k]]
        g = 0
        while o >= 0:
            # a job that stays on the machine for its next operation leaves no gap
            closes[k, g] = start[o] if orders.before[o] < 0 or orders.before[o] + 1 != o else -1
            g += 1
            opens[k, g] = start[o + 1]
            o = orders.after[o]
        closes[k, g] = FAR
        gaps[k] = g + 1
        need = nodes.duration[lead + k]
        if k == 0:
            for h in range(gaps[k]):
                t = max(opens[k, h], nodes.duration[lead - 1], not_before)
                if t + need <= closes[k, h]:
                    reached[k, h] = t
            continue
        same = nodes.machine[lead + k] == nodes.machine[lead + k - 1]
        for h in range(gaps[k]):
            for p in range(gaps[k - 1]):
                if reached[k - 1, p] >= FAR or (same and p != h):
                    continue
                ready = reached[k - 1, p] + nodes.duration[lead + k - 1]
                t = ready if same else max(ready, opens[k, h])
                if t > closes[k - 1, p] or t + need > closes[k, h] or t >= reached[k, h]:
                    continue
                if not same and not nodes.swap and t == opens[k, h] and t == closes[k - 1, p] and h > 0:
                    continue
                reached[k, h] = t
                came_from[k, h] = p
    g = 0
    for h in range(gaps[count - 1]):
        if reached[count - 1, h] < reached[count - 1, g]:
            g = h
    chosen = np.zeros(count, np.int32)
    start[lead - 1] = 0
    start[lead + count] = reached[count - 1, g] + nodes.duration[lead + count - 1]
    for k in range(count - 1, -1, -1):
        chosen[k] = g
        start[lead + k] = reached[k, g]
        g = came_from[k, g]
    for k in range(count):
        a, b = -1, orders.foremost[nodes.machine[lead + k]]
        passed = 0
        # earlier operations of this very job do not bound gaps; in a gap they come first
        while b >= 0 and (passed < chosen[k] or nodes.job[b] == job):
            if nodes.job[b] != job:
                passed += 1
            a, b = b, orders.after[b]
        link(nodes, orders, lead + k, a, b)
    for k in range(count):
        o = orders.foremost[nodes.machine[lead + k]]
        place = np.int32(0)
        while o >= 0:
            orders.place[o] = place
            place += 1
            o = orders.after[o]
    return start[lead + count]


@njit(cache=True, nogil=True)
def clear(orders):
    """Take all operations out of the orders."""
    orders.before[:] = -1
    orders.after[:] = -1
    orders.place[:] = 0
    orders.foremost[:] = -1


@njit(cache=True, nogil=True)
def insert_all(nodes, orders, scratch, sequence, start):
    """Empty the orders and insert all jobs in a given sequence, each where it ends first; returns the makespan.

    Where operations of duration 0 have led into a deadlock, the jobs follow each other as wholes instead.
    """
    clear(orders)
    start[:] = 0
    for j in sequence:
        if nodes.first[j] + 2 < nodes.first[j + 1]:
            insert_in_time(nodes, orders, start, j, np.int64(0))
    makespan = earliest_starts(nodes, orders, scratch, FAR, np.int64(0), -1, start)
    if makespan >= 0:
        return makespan
    clear(orders)
    rearmost = np.full(len(orders.foremost), -1, np.int32)
    for j in sequence:
        for u in range(nodes.first[j] + 1, nodes.first[j + 1] - 1):
            a = rearmost[nodes.machine[u]]
            link(nodes, orders, u, a, -1)
            orders.place[u] = 0 if a < 0 else orders.place[a] + 1
            rearmost[nodes.machine[u]] = u
    return earliest_starts(nodes, orders, scratch, FAR, np.int64(0), -1, start)
