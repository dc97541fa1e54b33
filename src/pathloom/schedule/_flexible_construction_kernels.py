"""Compiled greedy construction for flexible job shops."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Positions = NDArray[np.int32]
Reals = NDArray[np.float64]


@njit(cache=True, nogil=True)
def build_active(
    job_start: Positions,
    alternative_start: Positions,
    alternative_machine: Positions,
    alternative_duration: Ints,
    release: Ints,
    machines: int,
    priority: Reals,
    allowed: NDArray[np.bool_],
    alternative: Positions,
    start: Ints,
) -> None:
    """Fill `alternative` and `start`: an active schedule (Giffler and Thompson 1960) by `priority`, larger first.

    The next operation of each job is meant for the machine that completes it first, of those allowed. Of the ones
    meant for the machine of the earliest completion and able to start before it, that of the highest priority is
    placed.
    """
    jobs = job_start.shape[0] - 1
    free = np.zeros(machines, np.int64)
    ready = release.copy()
    step = job_start[:-1].copy()
    choice = np.full(jobs, -1, np.int32)
    begin = np.zeros(jobs, np.int64)
    finish = np.zeros(jobs, np.int64)
    for _ in range(alternative_start.shape[0] - 1):
        first = -1
        for j in range(jobs):
            o = step[j]
            if o == job_start[j + 1]:
                continue
            if choice[j] < 0:
                for a in range(alternative_start[o], alternative_start[o + 1]):
                    if not allowed[a]:
                        continue
                    at = max(ready[j], free[alternative_machine[a]])
                    end = at + alternative_duration[a]
                    # of equal completions the later start: it leaves the other machine free for longer
                    if choice[j] < 0 or end < finish[j] or (end == finish[j] and at > begin[j]):
                        choice[j] = a
                        begin[j] = at
                        finish[j] = end
            if first < 0 or finish[j] < finish[first]:
                first = j
        k = alternative_machine[choice[first]]
        taken = first
        for j in range(jobs):
            if step[j] == job_start[j + 1] or alternative_machine[choice[j]] != k or begin[j] >= finish[first]:
                continue
            if priority[step[j]] > priority[step[taken]]:
                taken = j
        o = step[taken]
        alternative[o] = choice[taken]
        start[o] = begin[taken]
        free[k] = finish[taken]
        ready[taken] = finish[taken]
        step[taken] = o + 1
        choice[taken] = -1
        # the others' best completion can only have changed where it was on this machine
        for j in range(jobs):
            if choice[j] >= 0 and alternative_machine[choice[j]] == k:
                choice[j] = -1
