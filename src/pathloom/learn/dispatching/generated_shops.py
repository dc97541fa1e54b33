"""Random shops to train on and to judge by: Taillard's job shops, and flexible ones of the same kind.

E. Taillard, "Benchmarks for basic scheduling problems", EJOR 64 (1993), section 4: every job visits every machine once,
in random order, with durations drawn evenly from 1..99.
"""

from __future__ import annotations

import numpy as np

from pathloom.schedule.shops import FlexibleShop, JobShop

LONGEST = 99
SPREAD = 0.3
"""Durations of an operation's alternatives differ by up to this share of the drawn one."""


def taillard_shop(jobs: int, machines: int, generator: np.random.Generator) -> JobShop:
    """A job shop with `jobs` x `machines` operations."""
    machine = np.argsort(generator.random((jobs, machines)), axis=1).astype(np.int32)
    duration = generator.integers(1, LONGEST + 1, size=(jobs, machines))
    starts = np.arange(0, jobs * machines + 1, machines, dtype=np.int32)
    return JobShop(starts, machine.ravel(), duration.ravel().astype(np.int64), machines, np.zeros(jobs, np.int64))


def flexible_shop(jobs: int, machines: int, choices: int, generator: np.random.Generator) -> FlexibleShop:
    """A flexible job shop: each operation of a `taillard_shop` gets 1 to `choices` alternatives, one of them the drawn
    machine and duration, the others on random further machines at durations that differ by up to `SPREAD`."""
    base = taillard_shop(jobs, machines, generator)
    counts = generator.integers(1, min(choices, machines) + 1, size=base.operations)
    starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    machine = np.empty(starts[-1], np.int32)
    duration = np.empty(starts[-1], np.int64)
    for o, count in enumerate(counts):
        others = generator.permutation(machines)
        others = others[others != base.machine[o]][: count - 1]
        part = slice(starts[o], starts[o + 1])
        machine[part] = np.concatenate(([base.machine[o]], others))
        factors = np.concatenate(([1.0], 1 + generator.uniform(-SPREAD, SPREAD, size=count - 1)))
        duration[part] = np.maximum(np.rint(base.duration[o] * factors), 1).astype(np.int64)
    return FlexibleShop(base.job_start, starts, machine, duration, machines, base.release)
