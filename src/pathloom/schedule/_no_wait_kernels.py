"""Compiled timetabling and annealing for no-wait job shops: each job is one rigid block that only its start moves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.schedule._random_kernels import uniform

FAR = np.int64(1) << np.int64(60)


class Clashes(NamedTuple):
    """Open intervals of start(j) - start(i) in which jobs i and j would use a machine together, per pair (i, j)."""

    begin: NDArray[np.int64]  # (jobs * jobs + 1,) those of pair i * jobs + j are begin[...]:begin[... + 1]
    low: NDArray[np.int64]  # (intervals,) rising within a pair
    high: NDArray[np.int64]  # (intervals,) rising within a pair
    length: NDArray[np.int64]  # (jobs,) from start to end of each job
    release: NDArray[np.int64]  # (jobs,)


@njit(cache=True, nogil=True)
def earliest_fit(clashes, sequence, start, count, job, t):
    """Earliest start of `job` at t or later beside the first `count` jobs of a sequence."""
    jobs = len(clashes.length)
    quiet = 0
    k = 0
    while quiet < count:
        i = sequence[k]
        row = i * jobs + job
        delta = t - start[i]
        moved = False
        for c in range(clashes.begin[row], clashes.begin[row + 1]):
            if delta <= clashes.low[c]:
                break
            if delta < clashes.high[c]:
                delta = clashes.high[c]
                moved = True
        if moved:
            t = start[i] + delta
            quiet = 0
        quiet += 1
        k += 1
        if k == count:
            k = 0
    return t


@njit(cache=True, nogil=True)
def lay(clashes, sequence, skips, start, position, limit):
    """Place the jobs from a position of the sequence on, each as early as it fits; the makespan, or -1 above `limit`.

    ``skips[j]`` fitting times are passed over: the first one that is later than what the jobs before leave open.
    """
    makespan = np.int64(0)
    for k in range(position):
        j = sequence[k]
        makespan = max(makespan, start[j] + clashes.length[j])
    jobs = len(clashes.length)
    for k in range(position, len(sequence)):
        j = sequence[k]
        t = earliest_fit(clashes, sequence, start, k, j, clashes.release[j])
        for _ in range(skips[j]):
            # the next left end of a fitting time: after the nearest clash with some job before
            beyond = FAR
            for p in range(k):
                i = sequence[p]
                row = i * jobs + j
                for c in range(clashes.begin[row], clashes.begin[row + 1]):
                    if clashes.low[c] >= t - start[i]:
                        beyond = min(beyond, start[i] + clashes.high[c])
                        break
            if beyond == FAR:
                break
            t = earliest_fit(clashes, sequence, start, k, j, beyond)
        start[j] = t
        makespan = max(makespan, t + clashes.length[j])
        if makespan > limit:
            return np.int64(-1)
    return makespan


@njit(cache=True, nogil=True)
def anneal(clashes, sequence, skips, start, trial, best, random, values, heat, cooling, steps):
    """Annealing steps on a sequence of jobs and their skips, in place; `best` keeps the best starts met.

    A step moves a job to another position, exchanges two, or changes how many fitting times one job passes over.

    Parameters
    ----------
    start, trial, best
        Shape (jobs,): starts that belong to `sequence`, working memory, best starts.
    values
        Shape (3,): makespan of `sequence`, of `best`, and number of steps.
    heat, cooling
        Temperature (time units) at the first step and its factor a step.
    """
    jobs = len(sequence)
    for _ in range(steps):
        heat *= cooling
        values[2] += 1
        kind = uniform(random)
        p = int(uniform(random) * jobs)
        q = int(uniform(random) * jobs)
        old = 0
        if kind < 0.9:
            if p == q:
                continue
            from_here = min(p, q)
            if kind < 0.6:
                move(sequence, p, q)
            else:
                sequence[p], sequence[q] = sequence[q], sequence[p]
        else:
            from_here = p
            old = skips[sequence[p]]
            skips[sequence[p]] = 0
            if old == 0:
                skips[sequence[p]] = 1
                while uniform(random) < 0.3:
                    skips[sequence[p]] += 1
        for j in range(len(start)):
            trial[j] = start[j]
        limit = values[0] - heat * np.log(1.0 - uniform(random))
        value = lay(clashes, sequence, skips, trial, from_here, np.int64(min(limit, 1e17)))
        if value < 0:
            if kind < 0.6:
                move(sequence, q, p)
            elif kind < 0.9:
                sequence[p], sequence[q] = sequence[q], sequence[p]
            else:
                skips[sequence[p]] = old
            continue
        values[0] = value
        for j in range(len(start)):
            start[j] = trial[j]
        if value < values[1]:
            values[1] = value
            best[:] = start


@njit(cache=True, nogil=True)
def move(sequence, p, q):
    """Take the job at position p out and put it in at position q."""
    j = sequence[p]
    while p < q:
        sequence[p] = sequence[p + 1]
        p += 1
    while p > q:
        sequence[p] = sequence[p - 1]
        p -= 1
    sequence[q] = j
