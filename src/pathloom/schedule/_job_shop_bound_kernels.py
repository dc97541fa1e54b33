"""Compiled parts of job-shop bounds: Jackson's preemptive schedule of one machine, and edge finding on all of them."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

LONG_AGO = -(2**62)


@njit(cache=True, nogil=True)
def preemptive_bound(head: NDArray, duration: NDArray, tail: NDArray) -> int:
    """Least makespan of one machine with heads and tails if operations may be interrupted; shapes (operations,).

    Jackson's schedule: of the operations that have arrived, the one with the longest tail is under way.
    """
    count = len(head)
    order = np.argsort(head, kind="mergesort")
    left = duration.copy()
    heap = np.empty(count, np.int64)  # operations that have arrived, the longest tail on top
    size = arrived = 0
    now = bound = np.int64(0)
    while arrived < count or size > 0:
        if size == 0:
            now = max(now, head[order[arrived]])
        while arrived < count and head[order[arrived]] <= now:
            op = order[arrived]
            arrived += 1
            place = size
            size += 1
            while place > 0 and tail[heap[(place - 1) // 2]] < tail[op]:
                heap[place] = heap[(place - 1) // 2]
                place = (place - 1) // 2
            heap[place] = op
        op = heap[0]
        until = now + left[op]
        if arrived < count and head[order[arrived]] < until:
            until = head[order[arrived]]
        left[op] -= until - now
        now = until
        if left[op] > 0:
            continue
        bound = max(bound, now + tail[op])
        size -= 1
        moved = heap[size]
        place = 0
        while True:
            below = 2 * place + 1
            if below >= size:
                break
            if below + 1 < size and tail[heap[below + 1]] > tail[heap[below]]:
                below += 1
            if tail[heap[below]] <= tail[moved]:
                break
            heap[place] = heap[below]
            place = below
        heap[place] = moved
    return int(bound)


@njit(cache=True, nogil=True)
def _raise_heads(head: NDArray, due: NDArray, duration: NDArray, raised: NDArray) -> bool:
    """Edge finding on one machine: later heads into `raised`; False if there is no schedule within the windows.

    For every due date, the operations that have to end by it: another one that does not fit in before or between those
    of them that come no earlier than it comes after them all.
    """
    count = len(head)
    order = np.argsort(head, kind="mergesort")
    ends = np.empty(count, np.int64)
    raised[:] = head
    for k in range(count):
        limit = due[k]
        work = np.int64(0)
        end = np.int64(LONG_AGO)  # of the set so far, without a gap since some head of it
        for place in range(count - 1, -1, -1):
            op = order[place]
            if due[op] <= limit:
                work += duration[op]
                end = max(end, head[op] + work)
                if end > limit:
                    return False
            ends[place] = end
        reach = np.int64(LONG_AGO)
        for place in range(count):
            op = order[place]
            if due[op] <= limit:
                reach = max(reach, head[op] + work)
                work -= duration[op]
            else:
                if work > 0 and head[op] + work + duration[op] > limit:
                    raised[op] = max(raised[op], ends[place])
                if reach + duration[op] > limit:
                    raised[op] = max(raised[op], end)
    return True


@njit(cache=True, nogil=True)
def refutes(
    job_start: NDArray,
    job: NDArray,
    machine: NDArray,
    duration: NDArray,
    machine_start: NDArray,
    on_machine: NDArray,
    head: NDArray,
    due: NDArray,
) -> bool:
    """Whether windows [head, due), which it narrows, admit no schedule, as far as edge finding and job orders tell.

    ``on_machine[machine_start[m]:machine_start[m + 1]]`` are the operations of machine m.
    """
    machines, operations = len(machine_start) - 1, len(job)
    stale = np.ones(machines, np.bool_)
    for op in range(operations):
        if head[op] + duration[op] > due[op]:
            return True
    while True:
        m = -1
        for candidate in range(machines):
            if stale[candidate]:
                m = candidate
                break
        if m < 0:
            return False
        stale[m] = False
        mine = on_machine[machine_start[m] : machine_start[m + 1]]
        raised = np.empty(len(mine), np.int64)
        for side in range(2):
            here, there, length = head[mine], due[mine], duration[mine]
            if side == 0:
                if not _raise_heads(here, there, length, raised):
                    return True
            elif not _raise_heads(-there, -here, length, raised):
                return True
            for i in range(len(mine)):
                op = mine[i]
                if side == 0 and raised[i] > head[op]:
                    head[op] = raised[i]
                    stale[m] = True
                    while True:  # the rest of its job comes later, too
                        if head[op] + duration[op] > due[op]:
                            return True
                        if op + 1 == job_start[job[op] + 1] or head[op + 1] >= head[op] + duration[op]:
                            break
                        head[op + 1] = head[op] + duration[op]
                        op += 1
                        stale[machine[op]] = True
                elif side == 1 and -raised[i] < due[op]:
                    due[op] = -raised[i]
                    stale[m] = True
                    while True:
                        if head[op] + duration[op] > due[op]:
                            return True
                        if op == job_start[job[op]] or due[op - 1] <= due[op] - duration[op]:
                            break
                        due[op - 1] = due[op] - duration[op]
                        op -= 1
                        stale[machine[op]] = True
