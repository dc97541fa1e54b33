"""Lower bounds on the makespan of a job shop, each of which also holds where jobs block or must not wait.

- Longest job: its release and its work.
- One machine: each machine's operations with heads and tails (the work of the job before and after), interrupted at
  will; J. Jackson, "An extension of Johnson's results on job lot scheduling", Naval Research Logistics Quarterly 3
  (1956), in the form of J. Carlier, "The one-machine sequencing problem", EJOR 11 (1982), section 2.
- Edge finding: the least makespan that cannot be refuted by the immediate selections of J. Carlier and E. Pinson, "An
  algorithm for solving the job-shop problem", Management Science 35 (1989). They narrow the windows of all machines'
  and jobs' operations until nothing changes, a pass in quadratic time as in P. Baptiste, C. Le Pape and W. Nuijten,
  "Constraint-based scheduling" (2001), section 2.1. A makespan is refuted if some window becomes too short
  (a "destructive" bound: R. Klein and A. Scholl, EJOR 112, 1999).
"""

from __future__ import annotations

import numpy as np

from pathloom.schedule.shops import Ints, JobShop, Positions

LONGEST_JOB, ONE_MACHINE, EDGE_FINDING = "longest job", "one machine, preemptive", "edge finding"
_LARGEST = 1_000_000
"""Pairs of operations on one machine, of all machines, up to which edge finding takes a moment only."""


def heads_and_tails(shop: JobShop) -> tuple[Ints, Ints]:
    """Earliest start of every operation, and work of its job after it; shapes (operations,)."""
    done = np.concatenate((np.zeros(1, np.int64), np.cumsum(shop.duration)))[:-1]
    first = np.minimum(shop.job_start[:-1], max(0, shop.operations - 1))
    begin = done[first] if shop.operations else np.zeros(shop.jobs, np.int64)
    return done + (shop.release - begin)[shop.job], shop.tail


def longest_job(shop: JobShop) -> int:
    """Latest time by which some job could end at the earliest, on machines of its own."""
    head, tail = heads_and_tails(shop)
    return int((head + shop.duration + tail).max(initial=0))


def machine_bounds(shop: JobShop) -> Ints:
    """The preemptive one-machine bound of every machine, shape (machines,); 0 for a machine without operations."""
    from pathloom.schedule._job_shop_bound_kernels import preemptive_bound

    head, tail = heads_and_tails(shop)
    start, order = _by_machine(shop)
    found = np.zeros(shop.machines, np.int64)
    for m in range(shop.machines):
        mine = order[start[m] : start[m + 1]]
        if len(mine):
            found[m] = preemptive_bound(head[mine], shop.duration[mine], tail[mine])
    return found


def refuted(shop: JobShop, makespan: int) -> bool:
    """Whether edge finding proves that no schedule ends by `makespan`; False proves nothing."""
    from pathloom.schedule._job_shop_bound_kernels import refutes

    head, tail = heads_and_tails(shop)
    start, order = _by_machine(shop)
    return bool(
        refutes(shop.job_start, shop.job, shop.machine, shop.duration, start, order, head.copy(), makespan - tail)
    )


def job_shop_bound(shop: JobShop) -> tuple[int, str]:
    """The best of the module's bounds on the makespan, and its name.

    Edge finding is left out where more than a million pairs of operations share a machine; with so many jobs the
    one-machine bound is close to the optimum anyhow.
    """
    best, source = longest_job(shop), LONGEST_JOB
    machine = int(machine_bounds(shop).max(initial=0))
    if machine > best:
        best, source = machine, ONE_MACHINE
    pairs = np.bincount(shop.machine, minlength=1).astype(np.float64) ** 2
    if not shop.operations or pairs.sum() > _LARGEST or not refuted(shop, best):
        return best, source
    step, low = 1, best  # low is refuted
    while refuted(shop, low + step):
        low, step = low + step, 2 * step
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if refuted(shop, middle):
            low = middle
        else:
            high = middle
    return high, EDGE_FINDING


def _by_machine(shop: JobShop) -> tuple[Positions, Positions]:
    """Operations by machine: offsets, shape (machines + 1,), and operations."""
    order = np.argsort(shop.machine, kind="stable").astype(np.int32)
    return np.searchsorted(shop.machine[order], np.arange(shop.machines + 1)).astype(np.int32), order
