"""Random shops to train on and to judge by: Taillard's job shops, and flexible ones of the same kind.

E. Taillard, "Benchmarks for basic scheduling problems", EJOR 64 (1993), section 4: every job visits every machine once,
in random order, with durations drawn evenly from 1..99.
"""

from __future__ import annotations

import numpy as np

from pathloom.schedule.shops import FlexibleShop, JobShop

LONGEST = 99
SPREADS = (0.0, 0.3, 0.9)
"""Durations of an operation's alternatives differ by up to one of these shares of the drawn one."""
LENGTHS = (0.5, 1.5)
"""Least and most operations of a job in a flexible shop, as shares of the number of machines."""


def taillard_shop(jobs: int, machines: int, generator: np.random.Generator) -> JobShop:
    """A job shop with `jobs` x `machines` operations."""
    machine = np.argsort(generator.random((jobs, machines)), axis=1).astype(np.int32)
    duration = generator.integers(1, LONGEST + 1, size=(jobs, machines))
    starts = np.arange(0, jobs * machines + 1, machines, dtype=np.int32)
    return JobShop(starts, machine.ravel(), duration.ravel().astype(np.int64), machines, np.zeros(jobs, np.int64))


def flexible_shop(jobs: int, machines: int, choices: int, generator: np.random.Generator) -> FlexibleShop:
    """A flexible job shop of one of many kinds.

    The shop first draws its own kind: the most alternatives of an operation, from 2 to `choices` (as many as there are
    machines at most), and one of `SPREADS`. Jobs have different numbers of operations (`LENGTHS`), whose first
    alternatives visit all machines in random order before any again, with durations drawn evenly from 1..99; the
    others are on random further machines.
    """
    most = min(int(generator.integers(min(2, choices), choices + 1)), machines)
    spread = SPREADS[generator.integers(len(SPREADS))]
    shortest, longest = (max(1, round(share * machines)) for share in LENGTHS)
    lengths = generator.integers(shortest, longest + 1, size=jobs)
    drawn = int(lengths.sum())
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    visits = np.concatenate(
        [np.concatenate([generator.permutation(machines) for _ in range(-(-n // machines))])[:n] for n in lengths]
    )
    base = generator.integers(1, LONGEST + 1, size=drawn)
    counts = generator.integers(1, most + 1, size=drawn)
    first = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    machine = np.empty(first[-1], np.int32)
    duration = np.empty(first[-1], np.int64)
    for o, count in enumerate(counts):
        others = generator.permutation(machines)
        others = others[others != visits[o]][: count - 1]
        part = slice(first[o], first[o + 1])
        machine[part] = np.concatenate(([visits[o]], others))
        factors = np.concatenate(([1.0], 1 + generator.uniform(-spread, spread, size=count - 1)))
        duration[part] = np.maximum(np.rint(base[o] * factors), 1).astype(np.int64)
    return FlexibleShop(starts, first, machine, duration, machines, np.zeros(jobs, np.int64))
