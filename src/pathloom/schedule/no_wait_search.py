"""Search for short schedules of no-wait job shops.

A job that never waits is one rigid block, so a schedule is one start a job, and two jobs clash exactly while the
difference of their starts lies in one of a few open intervals, known beforehand. Timetabling places the jobs in a given
sequence, each at the earliest time that fits beside those placed before (Macchiaroli, Mole and Riemma 1999; Framinan
and Schuster 2006). Such timetables may miss all optimal schedules, since an early fit can be in the way of a later
job; here a job may therefore pass over its first fitting times. With that, some sequence gives an optimal schedule: in
one whose starts have been shifted to the left together as far as they go, each job rests on its release or on another
job, and placing the jobs in the order of these supports finds every start again.

The sequences are annealed, with the temperature going up again between ever longer coolings.
"""

from __future__ import annotations

import time

import numpy as np

from pathloom.schedule import _no_wait_kernels as kernels
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.shops import Ints, JobShop

SOURCE = "no-wait search"
COLDEST, HOTTEST = 0.05, 1.0  # temperatures, in mean durations of an operation
FIRST_COOLING, LONGER = 0.04, 1.5  # share of the time limit, and growth from one to the next
CHUNK = 0.1  # seconds in compiled code between looks at the clock


def job_offsets(shop: JobShop) -> Ints:
    """Shape (operations,): start of each operation after the start of its job, without any waiting."""
    before = np.cumsum(shop.duration) - shop.duration
    return before - before[shop.job_start[shop.job]]


def clashes(shop: JobShop) -> kernels.Clashes:
    """For every ordered pair of jobs the differences of their starts at which they would use a machine together.

    Operations a of i and b of j overlap exactly if ``offset(a) - offset(b) - duration(b) < start(j) - start(i) <
    offset(a) + duration(a) - offset(b)``. An operation of duration 0 may not lie strictly inside another one.
    """
    offset, jobs = job_offsets(shop), shop.jobs
    # operations a, b of different jobs on one machine
    by_machine = [np.flatnonzero(shop.machine == m) for m in range(shop.machines)]
    pairs = [np.array(np.meshgrid(those, those, indexing="ij")).reshape(2, -1) for those in by_machine]
    a, b = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    low, high = offset[a] - offset[b] - shop.duration[b], offset[a] + shop.duration[a] - offset[b]
    cell = shop.job[a].astype(np.int64) * jobs + shop.job[b]
    kept = (shop.job[a] != shop.job[b]) & (low < high)
    low, high, cell = low[kept], high[kept], cell[kept]
    by_cell = np.lexsort((low, cell))
    merged: list[tuple[int, int, int]] = []
    for c, least, most in zip(cell[by_cell].tolist(), low[by_cell].tolist(), high[by_cell].tolist(), strict=True):
        # two open intervals that only touch leave their common end free
        if merged and merged[-1][0] == c and least < merged[-1][2]:
            merged[-1] = (c, merged[-1][1], max(most, merged[-1][2]))
        else:
            merged.append((c, least, most))
    table = np.array(merged, np.int64).reshape(-1, 3)
    begin = np.concatenate(([0], np.cumsum(np.bincount(table[:, 0], minlength=jobs * jobs))))
    length = np.bincount(shop.job, shop.duration, jobs).astype(np.int64)
    low, high = np.ascontiguousarray(table[:, 1]), np.ascontiguousarray(table[:, 2])
    release = np.ascontiguousarray(shop.release, np.int64)
    return kernels.Clashes(begin.astype(np.int64), low, high, length, release)


def timetable(shop: JobShop, sequence: np.ndarray, skips: np.ndarray | None = None) -> Ints:
    """Starts of the operations when jobs are placed in a sequence, each at the earliest time that fits.

    Parameters
    ----------
    sequence
        Shape (jobs,): the jobs in the order of placing.
    skips
        Shape (jobs,): how many fitting times each job passes over; none by default.

    Returns
    -------
    Ints
        Shape (operations,).
    """
    start = np.zeros(shop.jobs, np.int64)
    passed = np.zeros(shop.jobs, np.int64) if skips is None else skips.astype(np.int64)
    kernels.lay(clashes(shop), sequence.astype(np.int64), passed, start, 0, kernels.FAR)
    return start[shop.job] + job_offsets(shop)


def no_wait_search(shop: JobShop, incumbent: Incumbent[Ints], *, seed: int = 0, initial: Ints | None = None) -> None:
    """Offer ever shorter schedules of a no-wait job shop until `incumbent.finished`.

    Parameters
    ----------
    shop
        With `no_wait`.
    incumbent
        Receives start arrays of shape (operations,); better ones of other methods are taken up.
    seed
        Of the random draws; runs still differ, as the coolings follow the clock.
    initial
        Shape (operations,): starts of a feasible schedule to begin with.

    Raises
    ------
    ValueError
        If the shop is not no-wait.
    """
    if not shop.no_wait or shop.blocking:
        raise ValueError("expected a no-wait shop")
    if shop.operations == 0:
        incumbent.offer(0, np.zeros(0, np.int64), SOURCE)
        return
    incumbent.raise_bound(int((shop.release[shop.job] + shop.duration + shop.tail).max()), "longest job")
    generator = np.random.default_rng(seed)
    random = np.array([generator.integers(1, 1 << 62)], np.uint64)  # xorshift never leaves 0
    table, offset = clashes(shop), job_offsets(shop)
    # jobs without operations take no time and no place
    busy = np.flatnonzero(np.diff(shop.job_start) > 0)
    leading = shop.job_start[:-1][busy]
    heat = max(1e-3, float(shop.duration.mean()))
    skips, start, trial = np.zeros(shop.jobs, np.int64), np.zeros(shop.jobs, np.int64), np.zeros(shop.jobs, np.int64)

    def placed(sequence: np.ndarray) -> int:
        skips[:] = 0
        return int(kernels.lay(table, sequence, skips, start, 0, kernels.FAR))

    sequence = busy[np.argsort(-table.length[busy], kind="stable")].astype(np.int64)
    if initial is not None:
        sequence = busy[np.argsort(initial[leading], kind="stable")].astype(np.int64)
    value = placed(sequence)
    best = start.copy()
    values = np.array([value, value, 0], np.int64)
    incumbent.offer(value, start[shop.job] + offset, SOURCE)
    if initial is not None and (given := int((initial + shop.duration).max())) < value:
        incumbent.offer(given, initial, SOURCE)
    cooling, steps = FIRST_COOLING * incumbent.left, 200
    while not incumbent.finished:
        began = time.monotonic()
        while not incumbent.finished and (share := (time.monotonic() - began) / max(cooling, 1e-6)) < 1.0:
            clock = time.monotonic()
            temperature = heat * HOTTEST * (COLDEST / HOTTEST) ** share
            kernels.anneal(table, sequence, skips, start, trial, best, random, values, temperature, 1.0, steps)
            wanted = min(CHUNK, max(cooling, 1e-3) / 40)
            pace = wanted / max(time.monotonic() - clock, 1e-6)
            steps = min(1 << 30, max(10, int(steps * min(4.0, max(0.1, pace)))))
            incumbent.offer(int(values[1]), best[shop.job] + offset, SOURCE)
        cooling *= LONGER
        known = incumbent.best()
        if known is not None and known[0] < values[1]:
            sequence[:] = busy[np.argsort(known[1][leading], kind="stable")]
            values[0] = placed(sequence)
