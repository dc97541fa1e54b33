"""Compiled longest paths of a flexible job shop, and the move of an operation to another place or machine.

Nodes are the N operations, then N + j before the first operation of each job j (it ends at the job's release), and
last END = N + jobs, which stands before and after every machine sequence and behind every job. ``done`` is the longest
path into an operation and through it (head + duration), ``left`` the longest path out of it, with it (duration +
tail): an operation is critical if ``done + left - duration`` is the makespan. Links are unsigned because numba then
leaves out its handling of negative positions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Links = NDArray[np.uint32]
Flags = NDArray[np.uint8]


class FlexibleState(NamedTuple):
    """A flexible shop and one of its schedules as a graph; N operations, A alternatives, V = N + jobs + 1 nodes.

    Attributes
    ----------
    alternative_start, alternative_machine, alternative_duration
        Shapes (N + 1,), (A,), (A,): as in `FlexibleShop`.
    job_before, job_after
        Shape (N,): neighbours in the job.
    last
        Shape (jobs with operations,): last operation of each job.
    alternative, machine, duration
        Shape (N,): what each operation has chosen.
    order, position
        Shapes (N,), (V,): a topological order of all job and machine arcs, and its inverse.
    sequence, length, place
        Shapes (machines, N), (machines,), (N,): operations of each machine in order, how many, and where each one is.
    before, after
        Shape (V,): neighbours in the machine's sequence.
    done, left
        Shape (V,): longest paths.
    mark, spare
        Shapes (V,) all zero between calls, (N,).
    """

    alternative_start: Links
    alternative_machine: Links
    alternative_duration: Ints
    job_before: Links
    job_after: Links
    last: Links
    alternative: Links
    machine: Links
    duration: Ints
    order: Links
    position: Links
    sequence: Links
    length: Ints
    place: Links
    before: Links
    after: Links
    done: Ints
    left: Ints
    mark: Flags
    spare: Links


@njit(cache=True, nogil=True)
def lay_out(s: FlexibleState) -> int:
    """Build sequences, links and longest paths from ``order`` and ``alternative``; the makespan.

    Every machine takes its operations in the given order, which must respect the jobs.
    """
    n = s.order.shape[0]
    end = s.before.shape[0] - 1
    s.length[:] = 0
    for i in range(n):
        o = s.order[i]
        a = s.alternative[o]
        k = s.alternative_machine[a]
        s.machine[o] = k
        s.duration[o] = s.alternative_duration[a]
        s.position[o] = i
        at = s.length[k]
        s.before[o] = end
        s.after[o] = end
        if at > 0:
            b = s.sequence[k, at - 1]
            s.before[o] = b
            s.after[b] = o
        s.sequence[k, at] = o
        s.place[o] = at
        s.length[k] = at + 1
        s.done[o] = s.duration[o] + max(s.done[s.job_before[o]], s.done[s.before[o]])
    for i in range(n - 1, -1, -1):
        o = s.order[i]
        s.left[o] = s.duration[o] + max(s.left[s.job_after[o]], s.left[s.after[o]])
    return makespan(s.last, s.done)


@njit(cache=True, nogil=True)
def makespan(last: Links, done: Ints) -> int:
    """Latest end of a job."""
    value = np.int64(0)
    for i in range(last.shape[0]):
        value = max(value, done[last[i]])
    return value


@njit(cache=True, nogil=True, inline="always")
def changed_paths(s: FlexibleState, v: int, x: int, y: int, u: int, w: int) -> None:
    """Longest paths after v left its place between x and y and came between u and w.

    All from the first place in the order that can have changed: to look which of them did change takes longer, as the
    processor cannot foresee it.
    """
    order, position, duration = s.order, s.position, s.duration
    job_before, job_after, before, after, done, left = s.job_before, s.job_after, s.before, s.after, s.done, s.left
    n = order.shape[0]
    low = position[v]
    if y < n:
        low = min(low, position[y])
    if w < n:
        low = min(low, position[w])
    for i in range(low, n):
        o = order[i]
        done[o] = duration[o] + max(done[job_before[o]], done[before[o]])
    high = position[v]
    if x < n:
        high = max(high, position[x])
    if u < n:
        high = max(high, position[u])
    for i in range(np.int64(high), -1, -1):
        o = order[i]
        left[o] = duration[o] + max(left[job_after[o]], left[after[o]])


@njit(cache=True, nogil=True, inline="always")
def repair_order(s: FlexibleState, v: int, u: int, w: int) -> bool:
    """Make `order` hold with v between u and w of one machine; False, with nothing changed, if that closes a cycle.

    The links are those before the move; v's own machine arcs are passed over. Of the operations between v and the one
    that it must pass, those that hang on v go with it (Pearce and Kelly, A Dynamic Topological Sort Algorithm for
    Directed Acyclic Graphs, 2007, for one arc).
    """
    order, position, mark, spare = s.order, s.position, s.mark, s.spare
    n = order.shape[0]
    here = np.int64(position[v])
    if u < n and position[u] > here:
        goal, step, job, link = np.int64(position[u]), 1, s.job_before, s.before
    elif w < n and position[w] < here:
        goal, step, job, link = np.int64(position[w]), -1, s.job_after, s.after
    else:
        return True
    target = order[goal]
    mark[v] = 1
    i = here
    while i != goal:
        i += step
        o = order[i]
        neighbour = link[o]
        if mark[job[o]] == 1 or (neighbour != v and mark[neighbour] == 1):
            mark[o] = 1
    cycle = mark[target] == 1
    kept = 0
    free = here
    i = here
    while True:
        o = order[i]
        if mark[o] == 1:
            mark[o] = 0
            spare[kept] = o
            kept += 1
        elif not cycle:
            order[free] = o
            position[o] = free
            free += step
        if i == goal:
            break
        i += step
    if not cycle:
        for i in range(kept):
            order[free] = spare[i]
            position[spare[i]] = free
            free += step
    return not cycle


@njit(cache=True, nogil=True)
def make_move(s: FlexibleState, v: int, a: int, to: int) -> bool:
    """Give v its alternative a, at place `to` of the machine's sequence without v, and bring all paths up to date.

    Returns False, with nothing changed, if that closes a cycle.
    """
    sequence, place, before, after = s.sequence, s.place, s.before, s.after
    n = s.order.shape[0]
    end = np.int64(before.shape[0] - 1)
    old = np.int64(s.machine[v])
    new = np.int64(s.alternative_machine[a])
    here = np.int64(place[v])
    size = s.length[new]
    # behind v's own place, the places of the sequence with v are one further
    skip = 1 if old == new and to >= here else 0
    u = np.int64(sequence[new, to - 1 + (1 if old == new and to > here else 0)]) if to > 0 else end
    w = np.int64(sequence[new, to + skip]) if to + skip < size else end
    if not repair_order(s, v, u, w):
        return False
    x = np.int64(before[v])
    y = np.int64(after[v])
    if x < n:
        after[x] = y
    if y < n:
        before[y] = x
    before[v] = u
    after[v] = w
    if u < n:
        after[u] = v
    if w < n:
        before[w] = v
    if old == new:
        step = 1 if to > here else -1
        i = here
        while i != to:
            o = sequence[old, i + step]
            sequence[old, i] = o
            place[o] = i
            i += step
    else:
        for i in range(here, s.length[old] - 1):
            o = sequence[old, i + 1]
            sequence[old, i] = o
            place[o] = i
        s.length[old] -= 1
        for i in range(size, to, -1):
            o = sequence[new, i - 1]
            sequence[new, i] = o
            place[o] = i
        s.length[new] = size + 1
    sequence[new, to] = v
    place[v] = to
    s.alternative[v] = a
    s.machine[v] = new
    s.duration[v] = s.alternative_duration[a]
    changed_paths(s, v, x, y, u, w)
    return True
