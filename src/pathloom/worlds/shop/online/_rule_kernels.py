"""Compiled choices: who may go on a machine, and whom a dispatching rule prefers."""

from __future__ import annotations

import numpy as np
from numba import njit

from pathloom.worlds.shop.online._floor_state import (
    AT,
    BLOCKING,
    DECISIONS,
    DONE,
    FDD,
    FIFO,
    FORCED,
    GONE,
    HOLD,
    JOBS,
    LIFO,
    LOR,
    LPT,
    LWKR,
    MOR,
    MWKR,
    NEXT,
    NOW,
    ORDER,
    PHASE,
    RANDOM,
    SAFE,
    SEED,
    SINCE,
    SPT,
    SWAP,
    Run,
    uniform,
)
from pathloom.worlds.shop.online._safety_kernels import leads_out


@njit(cache=True, nogil=True, inline="always")
def _waits_for(run: Run, j: int, m: int) -> bool:
    """Whether job `j` waits for machine `m`; inlined, as most jobs that are looked at do not."""
    o = run.job[j, NEXT]
    at = run.job[j, AT]
    waits = at != GONE and o < run.first[j + 1] and run.on[o] == m
    if waits:
        if at >= 0:
            waits = run.machine[at, PHASE] == DONE
        else:
            waits = run.job[j, SINCE] <= run.whole[NOW]
    return waits


@njit(cache=True, nogil=True, inline="always")
def _needs_test(run: Run) -> bool:
    """Whether only safe moves are offered."""
    return run.whole[BLOCKING] != 0 and run.whole[SWAP] == 0 and run.whole[SAFE] != 0


@njit(cache=True, nogil=True)
def is_candidate(run: Run, j: int, m: int) -> bool:
    """Whether machine `m`, empty and working, could take job `j` now."""
    return _waits_for(run, j, m) and (not _needs_test(run) or leads_out(run, j, m, False))


@njit(cache=True, nogil=True)
def _priority(run: Run, rule: int, j: int) -> float:
    """The smaller the better."""
    o = run.job[j, NEXT]
    if rule == SPT:
        return float(run.nominal[o])
    if rule == LPT:
        return -float(run.nominal[o])
    if rule == MWKR:
        return -float(run.work[o])
    if rule == LWKR:
        return float(run.work[o])
    if rule == MOR:
        return -float(run.first[j + 1] - o)
    if rule == LOR:
        return float(run.first[j + 1] - o)
    if rule == FIFO:
        return float(run.job[j, SINCE])
    if rule == LIFO:
        return -float(run.job[j, SINCE])
    if rule == RANDOM:
        return uniform(run.whole[SEED], run.whole[DECISIONS], j, 4)
    # Flow due date: arrival, and the work up to and with this operation.
    due = float(run.arrival[j] + run.work[run.first[j]] - run.work[o] + run.nominal[o])
    return due if rule == FDD else due / max(1.0, float(run.work[o]))


@njit(cache=True, nogil=True)
def choose(run: Run, rule: int, m: int) -> int:
    """The job that a rule puts on machine `m` (ties to the lower number); ORDER holds for a job that is not there."""
    best, best_value, tested = HOLD, np.inf, _needs_test(run)
    for j in range(run.whole[JOBS]):
        if not _waits_for(run, j, m) or (tested and not leads_out(run, j, m, False)):
            continue
        if rule == ORDER:
            o = run.job[j, NEXT]
            if run.rank[o] == run.served[m]:
                return j
            if not run.whole[FORCED]:
                continue
            value = float(run.rank[o])
        else:
            value = _priority(run, rule, j)
        if value < best_value:
            best, best_value = j, value
    return best


@njit(cache=True, nogil=True)
def few_candidates(run: Run, m: int) -> int:
    """Number of candidates, counted up to 2."""
    count, tested = 0, _needs_test(run)
    for j in range(run.whole[JOBS]):
        if _waits_for(run, j, m) and (not tested or leads_out(run, j, m, False)):
            count += 1
            if count == 2:
                break
    return count
