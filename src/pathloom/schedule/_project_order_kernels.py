"""What the compiled schemes for projects work on, and compiled lists of activities that keep the precedences.

Activities are numbered as in `Project`; a mode is an index into `Network.duration`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Positions = NDArray[np.int32]

# Directions of time. Of a NumPy type, since kernels are compiled anew for every Python number written out in a call.
FORWARD = np.int64(0)
BACKWARD = np.int64(1)
FIRST = np.int64(0)


class Network(NamedTuple):
    """A project as the kernels take it: n activities, m modes, w words of free amounts, k consumable resources.

    Attributes
    ----------
    mode_start
        Shape (n + 1,): modes of each activity.
    duration, need, consumption
        Shapes (m,), (m, w), (m, k): need is the demand for renewable resources, packed in words.
    pred_start, pred, succ_start, succ
        Precedences from both ends.
    release
        Shape (n,): earliest starts.
    forward, backward
        Shape (n,): activities in a topological order and in its reverse.
    full, guard
        Shape (w,): words of a time at which nothing is in use, and their guard bits.
    stock
        Shape (k,): capacities of the consumable resources.
    """

    mode_start: Positions
    duration: Ints
    need: Ints
    consumption: Ints
    pred_start: Positions
    pred: Positions
    succ_start: Positions
    succ: Positions
    release: Ints
    forward: Positions
    backward: Positions
    full: Ints
    guard: Ints
    stock: Ints


class Scratch(NamedTuple):
    """Working memory of one thread.

    Attributes
    ----------
    free
        Shape (units of time or knots, words). Between passes every row in use equals `Network.full`.
    knots
        Shape (0,), or one time for each row of `free`.
    bucket
        Shape (b,): for sorting by times below b - 1.
    begin, finish, key
        Shape (n,).
    order
        Shape (n,).
    """

    free: Ints
    knots: Ints
    bucket: Ints
    begin: Ints
    finish: Ints
    key: Ints
    order: Positions


@njit(cache=True, nogil=True)
def push(heap: Positions, size: int, item: int, key: NDArray[np.float64]) -> int:
    """Add `item` to a heap with the smallest key on top, and return its new size."""
    at = size
    while at > 0:
        above = (at - 1) >> 1
        if key[heap[above]] <= key[item]:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = item
    return size + 1


@njit(cache=True, nogil=True)
def pop(heap: Positions, size: int, key: NDArray[np.float64]) -> int:
    """Take the top item off a heap of `size` items, and return the new size."""
    size -= 1
    item = heap[size]
    at = 0
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and key[heap[below + 1]] < key[heap[below]]:
            below += 1
        if key[item] <= key[heap[below]]:
            break
        heap[at] = heap[below]
        at = below
    heap[at] = item
    return size


@njit(cache=True, nogil=True)
def list_by_key(network: Network, key: NDArray[np.float64], backward: np.int64, order: Positions) -> None:
    """Write into `order` each activity after its predecessors (successors where `backward`), else by rising `key`."""
    activities = key.shape[0]
    before_start = network.succ_start if backward == BACKWARD else network.pred_start
    after_start = network.pred_start if backward == BACKWARD else network.succ_start
    after = network.pred if backward == BACKWARD else network.succ
    waits = np.empty(activities, np.int64)
    heap = np.empty(activities + 1, np.int32)
    size = 0
    for activity in range(activities):
        waits[activity] = before_start[activity + 1] - before_start[activity]
        if waits[activity] == 0:
            size = push(heap, size, activity, key)
    for position in range(activities):
        activity = heap[0]
        size = pop(heap, size, key)
        order[position] = activity
        for index in range(after_start[activity], after_start[activity + 1]):
            waits[after[index]] -= 1
            if waits[after[index]] == 0:
                size = push(heap, size, after[index], key)


@njit(cache=True, nogil=True)
def sort_by_time(network: Network, scratch: Scratch, time: Ints, backward: np.int64, order: Positions) -> None:
    """Write into `order` the activities by rising `time`, which must agree with the precedences.

    Activities of equal times stand in topological order (its reverse where `backward`).
    """
    activities = time.shape[0]
    bucket = scratch.bucket
    ties = network.backward if backward == BACKWARD else network.forward
    largest = 0
    for activity in range(activities):
        if time[activity] > largest:
            largest = time[activity]
    if largest + 2 > bucket.shape[0]:
        key = np.empty(activities, np.float64)
        for activity in range(activities):
            key[activity] = time[activity]
        list_by_key(network, key, backward, order)
        return
    for at in range(largest + 2):
        bucket[at] = 0
    for activity in range(activities):
        bucket[time[activity] + 1] += 1
    for at in range(largest):
        bucket[at + 1] += bucket[at]
    for index in range(activities):
        activity = ties[index]
        order[bucket[time[activity]]] = activity
        bucket[time[activity]] += 1
