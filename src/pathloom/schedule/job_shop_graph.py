"""The disjunctive graph of a job shop: orders of its machines, and the earliest starts that belong to them.

A schedule is semi-active when no operation can start earlier with the machines' orders as they are; among the schedules
with these orders it is the best for every objective that grows with the ends (Roy and Sussmann 1964).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pathloom.schedule.shops import Ints, JobShop, Positions


def time_order(shop: JobShop, start: ArrayLike) -> Positions:
    """All operations of a feasible schedule, shape (operations,), by start, end and number.

    Every operation comes after its predecessors in its job and on its machine, also where durations are 0.
    """
    begin = _per_operation(shop, start, "start")
    return np.lexsort((begin + shop.duration, begin)).astype(np.int32)


def machine_order(shop: JobShop, start: ArrayLike) -> Positions:
    """The order of each machine in a feasible schedule.

    Parameters
    ----------
    start
        Shape (operations,).

    Returns
    -------
    Shape (operations,): the operations of machine 0 in their order, then those of machine 1, and so on
    (`machine_start` says where each machine's begin).
    """
    order = time_order(shop, start)
    return order[np.argsort(shop.machine[order], kind="stable")]


def machine_start(shop: JobShop) -> Positions:
    """Shape (machines + 1,): where the operations of each machine lie in a machine order."""
    counts = np.bincount(shop.machine, minlength=shop.machines)
    return np.concatenate(([0], np.cumsum(counts))).astype(np.int32)


def semi_active_starts(shop: JobShop, order: ArrayLike) -> Ints:
    """Earliest starts, shape (operations,), of a classic job shop with the machine order `order` (see `machine_order`).

    Raises
    ------
    ValueError
        The order does not hold each machine's operations in its place, or it forms a cycle with the jobs' orders.
    """
    from pathloom.schedule._job_shop_kernels import earliest_starts

    n = shop.operations
    sequence = np.asarray(order, np.int64)
    if sequence.shape != (n,) or not np.array_equal(np.sort(sequence), np.arange(n)):
        raise ValueError(f"order: expected each of the operations 0 to {n - 1} once")
    machine = shop.machine[sequence]
    if (np.diff(machine) < 0).any():
        raise ValueError("order: expected the operations of machine 0 first, then those of machine 1, and so on")
    before, after = np.full(n, -1), np.full(n, -1)
    same = np.flatnonzero(machine[1:] == machine[:-1])
    before[sequence[same + 1]] = sequence[same]
    after[sequence[same]] = sequence[same + 1]
    start, work = np.zeros(n, np.int64), np.zeros((2, n), np.int64)
    reached = earliest_starts(
        shop.job_start, shop.job, shop.duration, shop.release, before, after, work[0], work[1], start
    )
    if reached < n:
        raise ValueError("order: the machines and the jobs wait for each other in a cycle")
    return start


def load_bound(shop: JobShop) -> int:
    """A lower bound on the makespan: the longest job, or a machine's load with its least head and its least tail."""
    if shop.operations == 0:
        return 0
    done = np.concatenate(([0], np.cumsum(shop.duration)))
    whole = shop.release + done[shop.job_start[1:]] - done[shop.job_start[:-1]]
    head = whole[shop.job] - shop.tail - shop.duration
    bound = int((head + shop.duration + shop.tail).max())
    for k in range(shop.machines):
        mine = np.flatnonzero(shop.machine == k)
        if len(mine):
            bound = max(bound, int(head[mine].min() + shop.duration[mine].sum() + shop.tail[mine].min()))
    return bound


def _per_operation(shop: JobShop, values: ArrayLike, name: str) -> Ints:
    array = np.asarray(values, np.int64)
    if array.shape != (shop.operations,):
        raise ValueError(f"{name}: expected shape ({shop.operations},), found {array.shape}")
    return array
