"""The arrays of a shop floor's run, the names of their columns, and draws that depend on nothing but their names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

NEVER = 1 << 62
HOLD = -1
"""Instead of a job: leave the machine empty until the next instant."""

# Where a run stands.
RUNNING, ASKING, BROKEN, FINISHED, DEADLOCKED, LOG_FULL = 0, 1, 2, 3, 4, 5
# Columns of `job`: next operation to start, machine that it is on (OUTSIDE, GONE), since when it waits.
NEXT, AT, SINCE = 0, 1, 2
OUTSIDE, GONE = -1, -2
# Columns of `machine`; END is the end of the operation, or what is left of it while the machine is down.
OCCUPANT, PHASE, END, DOWN, REPAIR_AT, FAIL_AT, DRAWS, QUEUE, HELD, SPAN, DOWN_SINCE, MARK, TARGET, INCOMING = range(14)
MACHINE_COLUMNS = 14
IDLE, BUSY, DONE = 0, 1, 2
# Columns of `operation`.
START, FINISH, DEPARTURE = 0, 1, 2
# Entries of `whole`.
NOW, LEFT, INSTANT, EVENTS, BREAKDOWNS, ARRIVED, STATUS, ASKED, JOB_EVENTS, DECISIONS, FORCED, ROTATIONS = range(12)
LOGGED, SEED, JOBS, MACHINES, BLOCKING, SWAP, SAFE, ASK_SINGLE, STOP_BROKEN, WAY = range(12, 22)
WHOLE_ENTRIES = 22
# Entries of `trouble`: chance of a breakdown at an event, mean time between failures, mean repair, kind of repair,
# whether the operation starts anew after a repair.
CHANCE, BETWEEN, REPAIR, REPAIR_KIND, RESTART = 0, 1, 2, 3, 4
FIXED, GEOMETRIC, EXPONENTIAL = 0, 1, 2
# Kinds of logged spans.
PROCESS, BLOCKED, BREAKDOWN, LOST = 0, 1, 2, 3
# Search for a way out without swaps: size of the table of seen positions, and largest number of tried steps.
SEEN, SEARCH_LIMIT = 509, 400

ASK = -1
SPT, LPT, MWKR, LWKR, MOR, LOR, FIFO, LIFO, FDD, FDD_MWKR, RANDOM, ORDER = range(12)


class Run(NamedTuple):
    """Arrays of one run: what is fixed, then what changes.

    `first` (jobs + 1,), `on` (operations,) machine, `nominal`, `actual` (operations,) durations, `work` (operations,)
    nominal work of the job from the operation on, `rank` (operations,) place in the order of its machine (for ORDER),
    `arrival` (jobs,), `by_arrival` (jobs,) jobs by arrival, `trouble` (5,); then `job` (jobs, 3), `machine`
    (machines, MACHINE_COLUMNS), `operation` (operations, 3), `served` (machines,) operations started a machine,
    `way` (operations,) jobs in the order of the steps by which all could leave (without swaps), `whole` (entries,),
    `log` (rows, 6): machine, job, operation, kind, start, end.
    """

    first: NDArray[np.int64]
    on: NDArray[np.int64]
    nominal: NDArray[np.int64]
    actual: NDArray[np.int64]
    work: NDArray[np.int64]
    rank: NDArray[np.int64]
    arrival: NDArray[np.int64]
    by_arrival: NDArray[np.int64]
    trouble: NDArray[np.float64]
    job: NDArray[np.int64]
    machine: NDArray[np.int64]
    operation: NDArray[np.int64]
    served: NDArray[np.int64]
    way: NDArray[np.int64]
    whole: NDArray[np.int64]
    log: NDArray[np.int64]


@njit(cache=True, nogil=True, inline="always")
def run_of(batch: Run, b: int) -> Run:
    """Run `b` of a batch; its arrays are views."""
    return Run(
        batch.first[b],
        batch.on[b],
        batch.nominal[b],
        batch.actual[b],
        batch.work[b],
        batch.rank[b],
        batch.arrival[b],
        batch.by_arrival[b],
        batch.trouble[b],
        batch.job[b],
        batch.machine[b],
        batch.operation[b],
        batch.served[b],
        batch.way[b],
        batch.whole[b],
        batch.log[b],
    )


@njit(cache=True, nogil=True)
def uniform(seed: int, a: int, b: int, c: int) -> float:
    """A number in (0, 1) that is a function of its arguments (the finaliser of SplitMix64, once an argument)."""
    x = np.uint64(seed)
    for part in (a, b, c):
        x = (x + np.uint64(part) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (float(x >> np.uint64(11)) + 0.5) / 9007199254740992.0
