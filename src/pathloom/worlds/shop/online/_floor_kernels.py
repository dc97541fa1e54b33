"""Compiled event core of the shop floor: jobs on machines, blocking and swaps, breakdowns, rules, batches of runs.

Time is a whole number of units. One run is a `Run` of arrays, a batch a `Run` whose arrays have one more axis in front.
The clock stops at instants; at each one the order is: ends of operations, repairs, breakdowns of machines whose time is
up, arrivals, breakdowns drawn at the event, changes of place in cycles, decisions.

`rule` below is a number of `rules.py`; `ASK` stops at every decision. All random draws are hashes of what they belong
to (seed, machine, number of the draw), so that runs under different rules meet the same disturbances.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.shop.online._floor_state import (
    ARRIVED,
    ASK,
    ASK_SINGLE,
    ASKED,
    ASKING,
    AT,
    BETWEEN,
    BLOCKED,
    BLOCKING,
    BREAKDOWN,
    BREAKDOWNS,
    BROKEN,
    BUSY,
    CHANCE,
    DEADLOCKED,
    DECISIONS,
    DEPARTURE,
    DONE,
    DOWN,
    DOWN_SINCE,
    DRAWS,
    END,
    EVENTS,
    FAIL_AT,
    FIFO,
    FINISH,
    FINISHED,
    FIXED,
    FORCED,
    GEOMETRIC,
    GONE,
    HELD,
    HOLD,
    IDLE,
    INCOMING,
    INSTANT,
    JOB_EVENTS,
    JOBS,
    LEFT,
    LOG_FULL,
    LOGGED,
    LOST,
    MACHINES,
    MARK,
    NEVER,
    NEXT,
    NOW,
    OCCUPANT,
    ORDER,
    OUTSIDE,
    PHASE,
    PROCESS,
    QUEUE,
    REPAIR,
    REPAIR_AT,
    REPAIR_KIND,
    RESTART,
    ROTATIONS,
    RUNNING,
    SAFE,
    SEED,
    SINCE,
    SPAN,
    START,
    STATUS,
    STOP_BROKEN,
    SWAP,
    TARGET,
    WAY,
    Run,
    run_of,
    uniform,
)
from pathloom.worlds.shop.online._rule_kernels import choose, few_candidates, is_candidate
from pathloom.worlds.shop.online._safety_kernels import drop_step, leads_out


@njit(cache=True, nogil=True)
def repair_time(run: Run, m: int) -> int:
    mean = run.trouble[REPAIR]
    kind = int(run.trouble[REPAIR_KIND])
    u = uniform(run.whole[SEED], m, run.machine[m, DRAWS], 2)
    if kind == FIXED:
        return max(1, int(np.rint(mean)))
    if kind == GEOMETRIC:
        return 1 if mean <= 1.0 else 1 + int(np.floor(np.log(u) / np.log1p(-1.0 / mean)))
    return max(1, int(np.rint(-mean * np.log(u))))


@njit(cache=True, nogil=True)
def next_failure(run: Run, m: int) -> int:
    """Time of the next failure of a machine that begins to work now."""
    if run.trouble[BETWEEN] <= 0.0:
        return NEVER
    u = uniform(run.whole[SEED], m, run.machine[m, DRAWS], 3)
    return run.whole[NOW] + max(1, int(np.rint(-run.trouble[BETWEEN] * np.log(u))))


@njit(cache=True, nogil=True)
def _log(run: Run, m: int, j: int, o: int, kind: int, start: int) -> None:
    now = run.whole[NOW]
    if len(run.log) == 0 or now == start:
        return
    row = run.log[run.whole[LOGGED]]
    row[0], row[1], row[2], row[3], row[4], row[5] = m, j, o, kind, start, now
    run.whole[LOGGED] += 1


@njit(cache=True, nogil=True)
def begin(run: Run) -> None:
    """Put a run at its beginning: `whole` must hold the seed, the sizes and the modes."""
    whole = run.whole
    for entry in (NOW, INSTANT, EVENTS, BREAKDOWNS, ARRIVED, STATUS, JOB_EVENTS, DECISIONS, FORCED, ROTATIONS, LOGGED):
        whole[entry] = 0
    whole[WAY] = 0
    whole[ASKED] = -1
    whole[LEFT] = whole[JOBS]
    run.operation[:] = -1
    run.served[:] = 0
    for j in range(whole[JOBS]):
        run.job[j, NEXT] = run.first[j]
        run.job[j, AT] = OUTSIDE
        run.job[j, SINCE] = run.arrival[j]
    run.machine[:] = 0
    for m in range(whole[MACHINES]):
        run.machine[m, OCCUPANT] = -1
        run.machine[m, END] = NEVER
        run.machine[m, REPAIR_AT] = NEVER
        run.machine[m, HELD] = -1
        run.machine[m, FAIL_AT] = next_failure(run, m)
    _arrive(run)
    _draw_breakdowns(run)
    _rotate(run)


@njit(cache=True, nogil=True)
def _arrive(run: Run) -> bool:
    whole, came = run.whole, False
    while whole[ARRIVED] < whole[JOBS]:
        j = run.by_arrival[whole[ARRIVED]]
        if run.arrival[j] > whole[NOW]:
            break
        whole[ARRIVED] += 1
        whole[EVENTS] += 1
        came = True
        if run.first[j] == run.first[j + 1]:  # nothing to do
            run.job[j, AT] = GONE
            whole[LEFT] -= 1
        else:
            run.machine[run.on[run.first[j]], QUEUE] += 1
    return came


@njit(cache=True, nogil=True)
def _draw_breakdowns(run: Run) -> None:
    """The paper's breakdowns: at an event every working machine stops with the same chance."""
    whole = run.whole
    if run.trouble[CHANCE] > 0.0:
        for m in range(whole[MACHINES]):
            if not run.machine[m, DOWN] and uniform(whole[SEED], m, whole[JOB_EVENTS], 1) < run.trouble[CHANCE]:
                _fail(run, m)
    whole[JOB_EVENTS] += 1


@njit(cache=True, nogil=True)
def _fail(run: Run, m: int) -> None:
    row, now = run.machine[m], run.whole[NOW]
    run.whole[BREAKDOWNS] += 1
    run.whole[EVENTS] += 1
    j = row[OCCUPANT]
    if row[PHASE] == BUSY:
        o = run.job[j, NEXT] - 1
        if run.trouble[RESTART] > 0.0:
            _log(run, m, j, o, LOST, row[SPAN])
            row[END] = run.actual[o]
        else:
            _log(run, m, j, o, PROCESS, row[SPAN])
            row[END] -= now
    elif row[PHASE] == DONE:
        _log(run, m, j, run.job[j, NEXT] - 1, BLOCKED, row[SPAN])
    row[DOWN] = 1
    row[DOWN_SINCE] = now
    row[REPAIR_AT] = now + repair_time(run, m)
    row[FAIL_AT] = NEVER
    row[DRAWS] += 1


@njit(cache=True, nogil=True)
def _repair(run: Run, m: int) -> None:
    row, now = run.machine[m], run.whole[NOW]
    run.whole[EVENTS] += 1
    _log(run, m, row[OCCUPANT], -1, BREAKDOWN, row[DOWN_SINCE])
    row[DOWN] = 0
    row[REPAIR_AT] = NEVER
    row[SPAN] = now
    if row[PHASE] == BUSY:
        row[END] += now
    row[FAIL_AT] = next_failure(run, m)


@njit(cache=True, nogil=True)
def _complete(run: Run, m: int) -> None:
    row, whole = run.machine[m], run.whole
    j = row[OCCUPANT]
    o = run.job[j, NEXT] - 1
    whole[EVENTS] += 1
    _log(run, m, j, o, PROCESS, row[SPAN])
    run.operation[o, FINISH] = whole[NOW]
    row[END] = NEVER
    row[SPAN] = whole[NOW]
    run.job[j, SINCE] = whole[NOW]
    last = o + 1 == run.first[j + 1]
    if last or not whole[BLOCKING]:
        run.operation[o, DEPARTURE] = whole[NOW]
        row[OCCUPANT] = -1
        row[PHASE] = IDLE
        run.job[j, AT] = GONE if last else OUTSIDE
        whole[LEFT] -= last
    else:
        row[PHASE] = DONE
    if not last:
        run.machine[run.on[o + 1], QUEUE] += 1


@njit(cache=True, nogil=True)
def _leave(run: Run, j: int) -> None:
    """Job `j` leaves the machine that it is on, if any."""
    m = run.job[j, AT]
    if m < 0:
        return
    row = run.machine[m]
    if not row[DOWN]:  # a breakdown has logged its blocking already
        _log(run, m, j, run.job[j, NEXT] - 1, BLOCKED, row[SPAN])
    run.operation[run.job[j, NEXT] - 1, DEPARTURE] = run.whole[NOW]
    row[OCCUPANT] = -1
    row[PHASE] = IDLE
    run.job[j, AT] = OUTSIDE


@njit(cache=True, nogil=True)
def _enter(run: Run, j: int, m: int) -> None:
    """Job `j` starts its next operation on machine `m`, which is empty and works."""
    o, now, row = run.job[j, NEXT], run.whole[NOW], run.machine[m]
    run.job[j, AT] = m
    run.job[j, NEXT] = o + 1
    run.operation[o, START] = now
    run.served[m] += 1
    row[OCCUPANT] = j
    row[PHASE] = BUSY
    row[END] = now + run.actual[o]
    row[SPAN] = now
    row[QUEUE] -= 1


@njit(cache=True, nogil=True)
def move(run: Run, j: int, m: int) -> None:
    """Take the decision: job `j` goes on machine `m`, or the machine is held empty for now (``j == HOLD``)."""
    run.whole[DECISIONS] += 1
    run.whole[STATUS] = RUNNING
    if j == HOLD:
        run.machine[m, HELD] = run.whole[INSTANT]
    else:
        if run.whole[BLOCKING] and not run.whole[SWAP] and run.whole[SAFE]:
            leads_out(run, j, m, True)
        _leave(run, j)
        _enter(run, j, m)
        run.whole[FORCED] = 0


@njit(cache=True, nogil=True)
def _rotate(run: Run) -> None:
    """Jobs that wait for each other's machines in a cycle change places, if all those machines work.

    Every job waits for one machine, so that the strongly connected components of the wait-for graph are plain cycles:
    they are found by walking from machine to machine. A job whose next operation is on its own machine is a cycle of
    one, which needs no swap.
    """
    whole = run.whole
    if not whole[BLOCKING]:
        return
    machines = whole[MACHINES]
    for m in range(machines):
        run.machine[m, MARK] = -1
        j = run.machine[m, OCCUPANT]
        run.machine[m, TARGET] = run.on[run.job[j, NEXT]] if run.machine[m, PHASE] == DONE else -1
    for origin in range(machines):
        m = origin
        while m >= 0 and run.machine[m, MARK] < 0:
            run.machine[m, MARK] = origin
            m = run.machine[m, TARGET]
        if m < 0 or run.machine[m, MARK] != origin:
            continue
        works, length, at = True, 0, m
        while True:
            works = works and not run.machine[at, DOWN]
            length += 1
            at = run.machine[at, TARGET]
            if at == m:
                break
        if not works or (length > 1 and not whole[SWAP]):
            continue
        whole[ROTATIONS] += length > 1
        if length == 1:
            drop_step(run, run.machine[m, OCCUPANT])
        for _ in range(length):
            j = run.machine[at, OCCUPANT]
            _leave(run, j)
            run.machine[run.machine[at, TARGET], INCOMING] = j
            at = run.machine[at, TARGET]
        for _ in range(length):
            _enter(run, run.machine[at, INCOMING], at)
            at = run.machine[at, TARGET]


@njit(cache=True, nogil=True)
def _decide_all(run: Run, rule: int) -> bool:
    """Take the decisions of this instant; True where one is to be asked for (machine in ``whole[ASKED]``)."""
    whole = run.whole
    again = True
    while again:
        again = False
        for m in range(whole[MACHINES]):
            row = run.machine[m]
            if row[PHASE] != IDLE or row[DOWN] or row[QUEUE] == 0 or row[HELD] == whole[INSTANT]:
                continue
            if rule == ASK:
                count = few_candidates(run, m)
                if count == 0:
                    continue
                if count > 1 or whole[ASK_SINGLE]:
                    whole[ASKED] = m
                    whole[STATUS] = ASKING
                    return True
                job = choose(run, FIFO, m)
            else:
                job = choose(run, rule, m)
                if job == HOLD and rule != ORDER:
                    continue  # no candidate is safe
                if job == HOLD and whole[FORCED]:
                    continue
            freed = job != HOLD and run.job[job, AT] >= 0
            move(run, job, m)
            # A machine with a lower number has become empty, or has become safe to enter.
            again = again or freed
    return False


@njit(cache=True, nogil=True)
def _progress_pending(run: Run) -> bool:
    """Whether something other than a breakdown is going to happen by itself."""
    whole = run.whole
    if whole[ARRIVED] < whole[JOBS]:
        return True
    for m in range(whole[MACHINES]):
        row = run.machine[m]
        if row[PHASE] == BUSY or (row[DOWN] and (row[QUEUE] > 0 or row[PHASE] == DONE)):
            return True
    return False


@njit(cache=True, nogil=True)
def _tick(run: Run) -> bool:
    """Go to the next instant and let happen what happens there; True if a machine broke down."""
    whole = run.whole
    now = run.arrival[run.by_arrival[whole[ARRIVED]]] if whole[ARRIVED] < whole[JOBS] else NEVER
    for m in range(whole[MACHINES]):
        row = run.machine[m]
        if row[DOWN]:
            now = min(now, row[REPAIR_AT])
        else:
            now = min(now, row[END], row[FAIL_AT])
    whole[NOW] = now
    whole[INSTANT] += 1
    whole[FORCED] = 0
    before = whole[BREAKDOWNS]
    job_event = False
    for m in range(whole[MACHINES]):
        row = run.machine[m]
        if not row[DOWN] and row[END] == now:
            _complete(run, m)
            job_event = True
    for m in range(whole[MACHINES]):
        row = run.machine[m]
        if row[DOWN] and row[REPAIR_AT] == now:
            _repair(run, m)
        elif row[FAIL_AT] == now:
            _fail(run, m)
    job_event = _arrive(run) or job_event
    if job_event:
        _draw_breakdowns(run)
    _rotate(run)
    return whole[BREAKDOWNS] > before


@njit(cache=True, nogil=True)
def advance(run: Run, rule: int, until: int) -> int:
    """Go on under `rule` until a decision is asked for, all is done, nothing can move, or `until` is reached.

    Returns the status, which is kept in ``whole[STATUS]``: RUNNING where the next instant lies behind `until`, BROKEN
    after a breakdown where ``whole[STOP_BROKEN]`` asks for that stop, LOG_FULL where the log needs more rows.
    """
    whole = run.whole
    whole[STATUS] = RUNNING
    while True:
        if _decide_all(run, rule):
            return ASKING
        if whole[LEFT] == 0:
            whole[STATUS] = FINISHED
            return FINISHED
        if not _progress_pending(run):
            held = False
            for m in range(whole[MACHINES]):
                held = held or run.machine[m, HELD] == whole[INSTANT]
            if held and not whole[FORCED]:
                # All that could move was held back, for nothing: ask again, without the choice to hold.
                whole[FORCED] = 1
                whole[INSTANT] += 1
                continue
            whole[STATUS] = DEADLOCKED
            return DEADLOCKED
        if len(run.log) > 0 and whole[LOGGED] + 4 * whole[MACHINES] + 8 > len(run.log):
            whole[STATUS] = LOG_FULL
            return LOG_FULL
        if whole[NOW] >= until:
            return RUNNING
        if _tick(run) and whole[STOP_BROKEN]:
            whole[STATUS] = BROKEN
            return BROKEN


@njit(cache=True, nogil=True)
def begin_all(batch: Run) -> None:
    """`begin` for every run of a batch."""
    for b in range(len(batch.whole)):
        begin(run_of(batch, b))


@njit(cache=True, nogil=True)
def advance_all(batch: Run, rules: NDArray[np.int64], until: int) -> None:
    """`advance` for every run of a batch, each under its own rule; runs that wait for an answer stay as they are."""
    for b in range(len(batch.whole)):
        if batch.whole[b, STATUS] == RUNNING:
            advance(run_of(batch, b), rules[b], until)


@njit(cache=True, nogil=True)
def answer_all(batch: Run, jobs: NDArray[np.int64]) -> None:
    """Answer every run that asks: ``jobs[b]`` goes on the machine that run b asks for (or HOLD); then go on."""
    for b in range(len(batch.whole)):
        if batch.whole[b, STATUS] == ASKING:
            run = run_of(batch, b)
            move(run, jobs[b], run.whole[ASKED])
            advance(run, ASK, NEVER)


@njit(cache=True, nogil=True)
def candidate_mask(batch: Run, mask: NDArray[np.bool_]) -> None:
    """Fill `mask` (runs, jobs): who may go on the machine that each run asks for."""
    mask[:] = False
    for b in range(len(batch.whole)):
        if batch.whole[b, STATUS] == ASKING:
            run = run_of(batch, b)
            for j in range(run.whole[JOBS]):
                mask[b, j] = is_candidate(run, j, run.whole[ASKED])
