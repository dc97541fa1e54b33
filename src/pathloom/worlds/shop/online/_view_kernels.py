"""Compiled view of shop floors for learned policies: a graph of operations with features, from the arrays of the runs.

All features are relative (to the mean duration, to the largest load that is left, to counts), so that small and large
shops look alike. Times that nobody can know (true durations, lengths of repairs) are replaced by what is expected.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online._floor_state import Run, run_of
from pathloom.worlds.shop.online._rule_kernels import is_candidate

NODE_FEATURES = 19
GRAPH_FEATURES = 14


@njit(cache=True, nogil=True)
def _observe_run(
    run: Run,
    mean: float,
    nodes: NDArray[np.float32],
    graph: NDArray[np.float32],
    active: NDArray[np.bool_],
    competing: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    operation: NDArray[np.int32],
    mask: NDArray[np.bool_],
) -> None:
    whole = run.whole
    jobs, machines, now = whole[state.JOBS], whole[state.MACHINES], whole[state.NOW]
    nodes[:] = 0.0
    graph[:] = 0.0
    active[:] = False
    competing[:] = False
    asked[:] = False
    operation[:] = 0
    mask[:] = False
    here = whole[state.ASKED]
    repair = run.trouble[state.REPAIR]

    # Machines: expected time until the operation is over and the machine works, and load still to come.
    ready = np.zeros(machines)
    load = np.zeros(machines)
    blocked = np.zeros(machines, np.bool_)
    down, busy, holding = 0, 0, 0
    for m in range(machines):
        row = run.machine[m]
        if row[state.DOWN]:
            down += 1
            wait = repair
            if int(run.trouble[state.REPAIR_KIND]) == state.FIXED:
                wait = max(1.0, row[state.DOWN_SINCE] + np.rint(repair) - now)
            ready[m] = wait
        if row[state.PHASE] == state.BUSY:
            busy += not row[state.DOWN]
            o = run.job[row[state.OCCUPANT], state.NEXT] - 1
            rest = row[state.END] - (0 if row[state.DOWN] else now)
            left = max(float(run.nominal[o] - run.actual[o] + rest), min(float(rest), 1.0))
            ready[m] += left
            load[m] += left
        elif row[state.PHASE] == state.DONE:
            blocked[m] = True
            holding += 1
    longest, most, done, all_operations, outside, inside = 1.0, 1, 0, 0, 0, 0
    for j in range(jobs):
        first, end = run.first[j], run.first[j + 1]
        most = max(most, end - first)
        if run.arrival[j] > now:
            continue
        following = run.job[j, state.NEXT]
        done += following - first
        all_operations += end - first
        at = run.job[j, state.AT]
        if at == state.GONE:
            continue
        if at >= 0:
            inside += 1
        elif following == first:
            outside += 1
        if following < end:
            longest = max(longest, float(run.work[following]))
        for o in range(following, end):
            load[run.on[o]] += run.nominal[o]
    heaviest = 1.0
    for m in range(machines):
        heaviest = max(heaviest, load[m])

    candidates, from_inside = 0, 0
    for j in range(jobs):
        at = run.job[j, state.AT]
        if at == state.GONE or run.arrival[j] > now:
            continue
        first, end, following = run.first[j], run.first[j + 1], run.job[j, state.NEXT]
        operation[j] = min(following, end - 1)
        ends_here = at >= 0 and run.machine[at, state.PHASE] == state.BUSY
        waits = not ends_here
        offered = here >= 0 and waits and is_candidate(run, j, here)
        if offered:
            mask[j] = True
            candidates += 1
            from_inside += at >= 0
        since = float(now - run.job[j, state.SINCE]) if waits else 0.0
        for o in range(following - (at >= 0), end):
            m = run.on[o]
            row = nodes[o]
            current = o < following
            active[o] = True
            asked[o] = m == here and not current
            row[0] = o > following or (o == following and ends_here)
            row[1] = o == following and waits
            row[2] = current and ends_here
            row[3] = current and not ends_here
            competing[o] = (current or (o == following and waits)) and not run.machine[m, state.DOWN]
            row[4] = run.nominal[o] / mean
            row[5] = (following - first) / (end - first)
            row[6] = (end - 1 - o) / most
            row[7] = since / (since + mean)
            row[8] = np.log1p(ready[m] / mean) if row[2] else 0.0
            row[9] = run.work[o] / longest
            row[10] = run.machine[m, state.DOWN]
            row[11] = run.machine[m, state.OCCUPANT] >= 0 and not current
            row[12] = np.log1p(ready[m] / mean)
            row[13] = offered and o == following
            row[14] = m == here
            row[15] = at >= 0
            row[16] = load[m] / heaviest
            row[17] = (o - following) / most
            row[18] = blocked[m] and not current
    may_hold = not whole[state.FORCED]
    mask[len(mask) - 1] = may_hold or candidates == 0
    graph[0] = 5.0 * run.trouble[state.CHANCE]
    graph[1] = np.log1p(repair / mean)
    graph[2] = done / max(1, all_operations)
    graph[3] = outside / jobs
    graph[4] = inside / machines
    graph[5] = down / machines
    graph[6] = holding / machines
    graph[7] = busy / machines
    graph[8] = may_hold
    graph[9] = candidates / (1.0 + candidates)
    graph[10] = from_inside > 0
    graph[11] = np.log(jobs / machines)
    graph[12] = np.log(heaviest / longest)
    graph[13] = mean / run.trouble[state.BETWEEN] if run.trouble[state.BETWEEN] > 0.0 else 0.0


@njit(cache=True, nogil=True)
def observe(
    batch: Run,
    mean: NDArray[np.float64],
    nodes: NDArray[np.float32],
    graph: NDArray[np.float32],
    active: NDArray[np.bool_],
    competing: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    operation: NDArray[np.int32],
    mask: NDArray[np.bool_],
) -> None:
    """Write what every run of a batch looks like at its decision.

    Parameters
    ----------
    batch
        Runs that ask; others are written as having nothing but `HOLD` to choose.
    mean
        Shape (runs,): mean nominal duration.
    nodes, graph
        Filled: features (runs, operations, NODE_FEATURES) and (runs, GRAPH_FEATURES).
    active, competing, asked
        Filled, (runs, operations): operations not over yet, those that compete for a working machine now, those to
        come on the machine that asks.
    operation
        Filled, (runs, jobs): the operation that each job does next.
    mask
        Filled, (runs, jobs + 1): jobs on offer, and last whether holding is allowed.
    """
    for b in range(len(batch.whole)):
        run = run_of(batch, b)
        if run.whole[state.STATUS] != state.ASKING:
            run.whole[state.ASKED] = -1
        _observe_run(run, mean[b], nodes[b], graph[b], active[b], competing[b], asked[b], operation[b], mask[b])
