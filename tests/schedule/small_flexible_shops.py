"""Small flexible shops for tests, their best makespan by trying everything, and what makes a schedule of one right."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from pathloom.schedule.shops import FlexibleShop, Ints, Positions

Rows = list[list[list[tuple[int, int]]]]


def flexible_shop(rows: Rows, machines: int, release: list[int] | None = None) -> FlexibleShop:
    """A shop from one list a job, of one list an operation, of (machine, duration) pairs."""
    operations = [operation for row in rows for operation in row]
    pairs = np.array([pair for operation in operations for pair in operation], np.int64).reshape(-1, 2)
    return FlexibleShop(
        np.cumsum([0, *(len(row) for row in rows)]).astype(np.int32),
        np.cumsum([0, *(len(operation) for operation in operations)]).astype(np.int32),
        pairs[:, 0].astype(np.int32),
        np.ascontiguousarray(pairs[:, 1]),
        machines,
        np.array(release or [0] * len(rows), np.int64),
    )


@st.composite
def tiny_shops(draw: st.DrawFn, jobs: int = 3, longest: int = 3, machines: int = 3, duration: int = 6) -> FlexibleShop:
    """Ragged jobs, releases, machines met twice, alternatives twice on one machine, operations without duration."""
    count = draw(st.integers(1, machines))
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, duration))
    row = st.lists(st.lists(pair, min_size=1, max_size=3), max_size=longest)
    rows = draw(st.lists(row, min_size=1, max_size=jobs).filter(any))
    return flexible_shop(rows, count, draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows))))


def random_shop(jobs: int, operations: int, machines: int, seed: int, zeros: bool = False) -> FlexibleShop:
    """Every job visits random machines, up to three to choose from each time."""
    random = np.random.default_rng(seed)
    rows = [
        [
            [(int(k), int(random.integers(0 if zeros else 1, 20))) for k in random.permutation(machines)[:choices]]
            for choices in random.integers(1, min(3, machines) + 1, operations)
        ]
        for _ in range(jobs)
    ]
    return flexible_shop(rows, machines, random.integers(0, 10, jobs).tolist())


def broken_rules(shop: FlexibleShop, alternative: Positions, start: Ints) -> list[str]:
    """What is wrong with a schedule."""
    wrong = []
    end = start + shop.alternative_duration[alternative]
    machine = shop.alternative_machine[alternative]
    for o in range(shop.operations):
        if not shop.alternative_start[o] <= alternative[o] < shop.alternative_start[o + 1]:
            wrong.append(f"operation {o} has no alternative {alternative[o]}")
        ready = shop.release[shop.job[o]] if o == shop.job_start[shop.job[o]] else end[o - 1]
        if start[o] < ready:
            wrong.append(f"operation {o} begins before {ready}")
        for other in range(o):
            if machine[o] == machine[other] and start[o] < end[other] and start[other] < end[o]:
                wrong.append(f"operations {other} and {o} overlap")
    return wrong


def makespan_of(shop: FlexibleShop, alternative: Positions, start: Ints) -> int:
    return int((start + shop.alternative_duration[alternative]).max(initial=0))


def best_makespan(shop: FlexibleShop) -> int:
    """By all orders and all choices of machines: every schedule without needless waiting is built once or more."""
    best = int(shop.release.max(initial=0) + shop.alternative_duration.sum())

    def place(step: list[int], ready: list[int], free: list[int], latest: int) -> None:
        nonlocal best
        if latest >= best:
            return
        if all(step[j] == shop.job_start[j + 1] for j in range(shop.jobs)):
            best = latest
            return
        for j in range(shop.jobs):
            o = step[j]
            if o == shop.job_start[j + 1]:
                continue
            for a in range(shop.alternative_start[o], shop.alternative_start[o + 1]):
                k = int(shop.alternative_machine[a])
                end = max(ready[j], free[k]) + int(shop.alternative_duration[a])
                place(
                    [*step[:j], o + 1, *step[j + 1 :]],
                    [*ready[:j], end, *ready[j + 1 :]],
                    [*free[:k], end, *free[k + 1 :]],
                    max(latest, end),
                )

    # a schedule that no other beats may be as long as everything in a row
    best += 1
    place(shop.job_start[:-1].tolist(), shop.release.tolist(), [0] * shop.machines, 0)
    return best
