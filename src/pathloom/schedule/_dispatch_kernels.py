"""Compiled dispatching of job shops and flexible job shops; every operation's priority is least first.

A priority is ``base + arrival * a + slope * t + hinge * max(0, latest - t)`` with a the moment at which the operation
became available and t the time of the decision; `moving` says whether any slope or hinge is not 0. Ties go to the
smaller operation, which is the one of the smaller job.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

NON_DELAY, ACTIVE, SEMI_ACTIVE = 0, 1, 2
NEVER = 2**62


@njit(cache=True, nogil=True)
def _push(keys: NDArray, values: NDArray, at: int, size: int, key: float, value: int) -> None:
    """Add to the heap of that size at ``at`` (the caller counts)."""
    place = size
    while place > 0:
        above = (place - 1) // 2
        other = keys[at + above]
        if other < key or (other == key and values[at + above] < value):
            break
        keys[at + place] = other
        values[at + place] = values[at + above]
        place = above
    keys[at + place] = key
    values[at + place] = value


@njit(cache=True, nogil=True)
def _pop(keys: NDArray, values: NDArray, at: int, size: int) -> None:
    """Take the top off the heap of that size at ``at`` (the caller has read it, and counts)."""
    size -= 1
    key, value = keys[at + size], values[at + size]
    place = 0
    while True:
        below = 2 * place + 1
        if below >= size:
            break
        right = at + below + 1
        if below + 1 < size and (
            keys[right] < keys[right - 1] or (keys[right] == keys[right - 1] and values[right] < values[right - 1])
        ):
            below += 1
        other = keys[at + below]
        if key < other or (key == other and value < values[at + below]):
            break
        keys[at + place] = other
        values[at + place] = values[at + below]
        place = below
    keys[at + place] = key
    values[at + place] = value


@njit(cache=True, nogil=True)
def _earliest_end(
    op: int, ready: int, alternative_start: NDArray, machine: NDArray, duration: NDArray, free: NDArray
) -> tuple[int, int]:
    """The alternative that ends first (of equal ones the shortest, then the first), and its start."""
    best, best_start, best_end = -1, NEVER, NEVER
    for a in range(alternative_start[op], alternative_start[op + 1]):
        start = max(ready, free[machine[a]])
        end = start + duration[a]
        if end < best_end or (end == best_end and start > best_start):
            best, best_start, best_end = a, start, end
    return best, best_start


@njit(cache=True, nogil=True)
def _non_delay(
    job_start: NDArray,
    job: NDArray,
    release: NDArray,
    alternative_start: NDArray,
    machine: NDArray,
    duration: NDArray,
    machines: int,
    base: NDArray,
    arrival: float,
    slope: NDArray,
    hinge: NDArray,
    latest: NDArray,
    moving: bool,
    chosen: NDArray,
    start: NDArray,
) -> None:
    """Event by event: whenever an operation and one of its machines are free, the best such operation goes.

    Every machine has a queue with all available operations that could use it: a heap, or where priorities move with
    time a list. An operation that has gone to another machine is dropped from the queue when it is met there.
    """
    jobs, operations = len(job_start) - 1, len(job)
    at = np.zeros(machines + 1, np.int64)
    for a in range(len(machine)):
        at[machine[a] + 1] += 1
    for m in range(machines):
        at[m + 1] += at[m]
    queue_key = np.empty(len(machine))
    queue = np.empty(len(machine), np.int64)
    size = np.zeros(machines, np.int64)
    free = np.zeros(machines, np.int64)
    event_key = np.empty(jobs + 1)
    event = np.empty(jobs + 1, np.int64)
    events = 0
    for j in range(jobs):  # an event is the number of an operation that has become available
        if job_start[j] < job_start[j + 1]:
            _push(event_key, event, 0, events, float(release[j]), job_start[j])
            events += 1
    left = operations
    while left > 0:
        now = np.int64(event_key[0])
        while events > 0 and event_key[0] == now:
            op = event[0]
            _pop(event_key, event, 0, events)
            events -= 1
            if op < 0:
                continue
            key = base[op] + arrival * now
            for a in range(alternative_start[op], alternative_start[op + 1]):
                m = machine[a]
                if moving:
                    queue_key[at[m] + size[m]] = key
                    queue[at[m] + size[m]] = op
                else:
                    _push(queue_key, queue, at[m], size[m], key, op)
                size[m] += 1
            start[op] = -1
        while True:
            best, best_key = -1, np.inf
            for m in range(machines):
                if free[m] > now or size[m] == 0:
                    continue
                if moving:
                    i = at[m]
                    while i < at[m] + size[m]:
                        op = queue[i]
                        if start[op] >= 0:
                            size[m] -= 1
                            queue[i] = queue[at[m] + size[m]]
                            queue_key[i] = queue_key[at[m] + size[m]]
                            continue
                        key = queue_key[i] + slope[op] * now + hinge[op] * max(0.0, latest[op] - now)
                        if best < 0 or key < best_key or (key == best_key and op < best):
                            best, best_key = op, key
                        i += 1
                else:
                    while size[m] > 0 and start[queue[at[m]]] >= 0:
                        _pop(queue_key, queue, at[m], size[m])
                        size[m] -= 1
                    if size[m] > 0:
                        op, key = queue[at[m]], queue_key[at[m]]
                        if best < 0 or key < best_key or (key == best_key and op < best):
                            best, best_key = op, key
            if best < 0:
                break
            a, begin = _earliest_end(best, now, alternative_start, machine, duration, free)
            start[best] = begin
            chosen[best] = a
            free[machine[a]] = begin + duration[a]
            left -= 1
            end = begin + duration[a]
            if best + 1 < job_start[job[best] + 1]:
                _push(event_key, event, 0, events, float(end), best + 1)
                events += 1
                if end == now:  # what follows an operation of no length competes at this very moment
                    break
            elif end > now:  # the last operation of a job makes but its machine available
                _push(event_key, event, 0, events, float(end), -1)
                events += 1


@njit(cache=True, nogil=True)
def _active(
    job_start: NDArray,
    job: NDArray,
    release: NDArray,
    alternative_start: NDArray,
    machine: NDArray,
    duration: NDArray,
    machines: int,
    base: NDArray,
    arrival: float,
    slope: NDArray,
    hinge: NDArray,
    latest: NDArray,
    chosen: NDArray,
    start: NDArray,
) -> None:
    """Giffler and Thompson: on the machine of the operation that could end first, the best that could start before.

    Of its alternatives an operation takes the one that ends first. The best alternative of every job's next operation
    is kept, and found anew only when one of its machines has been taken.
    """
    jobs, operations = len(job_start) - 1, len(job)
    at = np.zeros(machines + 1, np.int64)
    for a in range(len(machine)):
        at[machine[a] + 1] += 1
    for m in range(machines):
        at[m + 1] += at[m]
    queue = np.empty(len(machine), np.int64)
    size = np.zeros(machines, np.int64)
    free = np.zeros(machines, np.int64)
    ready = release.copy()
    following = np.empty(jobs, np.int64)
    begin = np.empty(jobs, np.int64)
    end = np.full(jobs, NEVER)
    for j in range(jobs):
        following[j] = op = job_start[j]
        if op < job_start[j + 1]:
            for a in range(alternative_start[op], alternative_start[op + 1]):
                queue[at[machine[a]] + size[machine[a]]] = op
                size[machine[a]] += 1
            chosen[op], begin[j] = _earliest_end(op, ready[j], alternative_start, machine, duration, free)
            end[j] = begin[j] + duration[chosen[op]]
    for _ in range(operations):
        first = np.argmin(end)
        m = machine[chosen[following[first]]]
        latest_start = max(end[first] - 1, begin[first])  # one of no length competes with those that start with it
        best, best_key = -1, np.inf
        i = at[m]
        while i < at[m] + size[m]:
            op = queue[i]
            j = job[op]
            if following[j] != op:
                size[m] -= 1
                queue[i] = queue[at[m] + size[m]]
                continue
            if machine[chosen[op]] == m and begin[j] <= latest_start:
                now = begin[j]
                key = base[op] + arrival * ready[j] + slope[op] * now + hinge[op] * max(0.0, latest[op] - now)
                if best < 0 or key < best_key or (key == best_key and op < best):
                    best, best_key = op, key
            i += 1
        j = job[best]
        start[best] = begin[j]
        free[m] = ready[j] = end[j]
        following[j] = op = best + 1
        end[j] = NEVER
        if op < job_start[j + 1]:
            for a in range(alternative_start[op], alternative_start[op + 1]):
                queue[at[machine[a]] + size[machine[a]]] = op
                size[machine[a]] += 1
            chosen[op], begin[j] = _earliest_end(op, ready[j], alternative_start, machine, duration, free)
            end[j] = begin[j] + duration[chosen[op]]
        for i in range(at[m], at[m] + size[m]):
            op = queue[i]
            j = job[op]
            if following[j] == op:
                chosen[op], begin[j] = _earliest_end(op, ready[j], alternative_start, machine, duration, free)
                end[j] = begin[j] + duration[chosen[op]]


@njit(cache=True, nogil=True)
def _semi_active(
    job_start: NDArray,
    job: NDArray,
    release: NDArray,
    alternative_start: NDArray,
    machine: NDArray,
    duration: NDArray,
    machines: int,
    base: NDArray,
    arrival: float,
    slope: NDArray,
    hinge: NDArray,
    latest: NDArray,
    chosen: NDArray,
    start: NDArray,
) -> None:
    """The best of all jobs' next operations goes to the end of its machine's queue, whenever it is ready.

    Priorities are those of the moment at which an operation's predecessor ends.
    """
    jobs, operations = len(job_start) - 1, len(job)
    free = np.zeros(machines, np.int64)
    ready = release.copy()
    keys = np.empty(jobs + 1)
    heap = np.empty(jobs + 1, np.int64)
    size = 0
    for j in range(jobs):
        if job_start[j] < job_start[j + 1]:
            op, now = job_start[j], ready[j]
            key = base[op] + (arrival + slope[op]) * now + hinge[op] * max(0.0, latest[op] - now)
            _push(keys, heap, 0, size, key, op)
            size += 1
    for _ in range(operations):
        op = heap[0]
        _pop(keys, heap, 0, size)
        size -= 1
        j = job[op]
        chosen[op], start[op] = _earliest_end(op, ready[j], alternative_start, machine, duration, free)
        free[machine[chosen[op]]] = ready[j] = now = start[op] + duration[chosen[op]]
        op += 1
        if op < job_start[j + 1]:
            key = base[op] + (arrival + slope[op]) * now + hinge[op] * max(0.0, latest[op] - now)
            _push(keys, heap, 0, size, key, op)
            size += 1


@njit(cache=True, nogil=True)
def dispatch_batch(
    mode: int,
    job_start: NDArray,
    job: NDArray,
    release: NDArray,
    alternative_start: NDArray,
    machine: NDArray,
    duration: NDArray,
    machines: int,
    base: NDArray,
    arrival: float,
    slope: NDArray,
    hinge: NDArray,
    latest: NDArray,
    moving: bool,
    chosen: NDArray,
    start: NDArray,
) -> None:
    """One schedule for every row of `base`, written to the rows of `chosen` and `start`."""
    for b in range(len(base)):
        if mode == NON_DELAY:
            _non_delay(
                job_start, job, release, alternative_start, machine, duration, machines,
                base[b], arrival, slope, hinge, latest, moving, chosen[b], start[b],
            )  # fmt: skip
        elif mode == ACTIVE:
            _active(
                job_start, job, release, alternative_start, machine, duration, machines,
                base[b], arrival, slope, hinge, latest, chosen[b], start[b],
            )  # fmt: skip
        else:
            _semi_active(
                job_start, job, release, alternative_start, machine, duration, machines,
                base[b], arrival, slope, hinge, latest, chosen[b], start[b],
            )  # fmt: skip
