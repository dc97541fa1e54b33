"""Small random job shops for tests, and slow, plain versions of what the compiled search computes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from pathloom.schedule.shops import JobShop


@st.composite
def job_shops(draw: st.DrawFn, jobs: int = 6, machines: int = 4, length: int = 6, shortest: int = 0) -> JobShop:
    """Ragged job shops with releases, empty jobs, durations of 0, and jobs that visit a machine twice."""
    operation = st.tuples(st.integers(0, machines - 1), st.integers(shortest, 9))
    rows = draw(st.lists(st.lists(operation, max_size=length), min_size=1, max_size=jobs).filter(any))
    releases = draw(st.lists(st.sampled_from([0, 0, 3, 8]), min_size=len(rows), max_size=len(rows)))
    return replace(JobShop.from_rows(rows, machines), release=np.array(releases, np.int64))


def random_order(shop: JobShop, seed: int) -> NDArray[np.int32]:
    """All operations, those of a job in their order, otherwise mixed at random."""
    turns = np.random.default_rng(seed).permutation(shop.job)
    order = np.empty(shop.operations, np.int32)
    order[np.argsort(turns, kind="stable")] = np.arange(shop.operations)
    return order


def generated_shop(jobs: int, machines: int, seed: int) -> JobShop:
    """A shop as Taillard draws them: every job visits every machine once, durations 1 to 99."""
    random = np.random.default_rng(seed)
    return JobShop.from_rows(
        [[(int(k), int(random.integers(1, 100))) for k in random.permutation(machines)] for _ in range(jobs)], machines
    )


def slow_schedule(shop: JobShop, order: NDArray[np.int32]) -> list[int]:
    """Starts when the operations are begun in this order, each as early as its job and its machine let it."""
    free, ready, start = [0] * shop.machines, [int(r) for r in shop.release], [0] * shop.operations
    for o in order:
        j, k = int(shop.job[o]), int(shop.machine[o])
        start[o] = max(free[k], ready[j])
        free[k] = ready[j] = start[o] + int(shop.duration[o])
    return start


def slow_tails(shop: JobShop, order: NDArray[np.int32]) -> list[int]:
    """Longest path from every operation on, with it."""
    behind_machine, behind_job, tail = [0] * shop.machines, [0] * shop.jobs, [0] * shop.operations
    for o in reversed(order):
        j, k = int(shop.job[o]), int(shop.machine[o])
        tail[o] = max(behind_machine[k], behind_job[j]) + int(shop.duration[o])
        behind_machine[k] = behind_job[j] = tail[o]
    return tail


def makespan(shop: JobShop, start: NDArray[np.int64] | list[int]) -> int:
    return int((np.asarray(start) + shop.duration).max())


def assert_feasible(shop: JobShop, start: NDArray[np.int64]) -> None:
    """Releases, the order within each job, and one operation at a time on each machine."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for o in range(shop.operations):
        begin, end = int(start[o]), int(start[o] + shop.duration[o])
        first = o == shop.job_start[shop.job[o]]
        assert begin >= (shop.release[shop.job[o]] if first else start[o - 1] + shop.duration[o - 1])
        spans.setdefault(int(shop.machine[o]), []).append((begin, end))
    for rows in spans.values():
        rows.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(rows))


def least_makespan(shop: JobShop) -> int:
    """Optimum by trying the operations in every order that keeps those of the jobs."""
    best = int(shop.duration.sum() + shop.release.max())
    job_start = [int(o) for o in shop.job_start]
    duration, machine = shop.duration.tolist(), shop.machine.tolist()
    seen: set[tuple[tuple[int, ...], ...]] = set()

    def extend(following: tuple[int, ...], ready: tuple[int, ...], free: tuple[int, ...], longest: int) -> None:
        nonlocal best
        if longest >= best or (following, ready, free) in seen:
            return
        seen.add((following, ready, free))
        left = [j for j, o in enumerate(following) if o < job_start[j + 1]]
        if not left:
            best = longest
        for j in left:
            o = following[j]
            end = max(ready[j], free[machine[o]]) + duration[o]
            extend(
                (*following[:j], o + 1, *following[j + 1 :]),
                (*ready[:j], end, *ready[j + 1 :]),
                (*free[: machine[o]], end, *free[machine[o] + 1 :]),
                max(longest, end),
            )

    extend(tuple(job_start[:-1]), tuple(shop.release.tolist()), (0,) * shop.machines, 0)
    return best
