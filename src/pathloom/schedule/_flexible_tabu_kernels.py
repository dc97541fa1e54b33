"""Compiled tabu search over a `FlexibleState`: a critical path, the best move of its operations, the tabu list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.schedule._flexible_kernels import FlexibleState, Ints, Links, make_move, makespan

# Places in `TabuState.counters`
ITERATION, IMPROVED_AT, BEST, MAKESPAN, FAILED, STOPPED = range(6)
# Places in `TabuState.settings`
ORDER_TENURE, MACHINE_TENURE = range(2)
# Places in a move in hand, `TabuState.pick` and `TabuState.blocked`
ESTIMATE, THROUGH, OPERATION, ALTERNATIVE, PLACE, TIES = range(6)
NO_MOVE = 2**62
# Longer critical paths are looked at through a window of this many operations
WINDOW = 400
# An operation passes at most so many others of its machine in one move
REACH = 60


class TabuState(NamedTuple):
    """What the search keeps beside the schedule.

    Attributes
    ----------
    counters
        Iteration, iteration of the last best schedule, best and present makespan, whether the last move failed or
        there was none, whether the search cannot go on.
    settings
        Base tenures of the two kinds of tabu.
    machine_tabu
        Shape (A,): iteration until which an alternative may not be taken.
    order_tabu
        Shape (a power of two,): iteration until which x may not come before y again, at ``x * N + y`` modulo the size.
    best_alternative, best_order
        Shape (N,): the best schedule since the counters were set.
    path, block_first, block_last, detour
        Shape (N,): a critical path from front to end, the first and last place on it of each one's block, and the
        longest path past each one.
    pick, blocked
        The best allowed move, and one that is tabu, drawn by lot.
    random
        State of the generator.
    """

    counters: Ints
    settings: Ints
    machine_tabu: Ints
    order_tabu: Ints
    best_alternative: Links
    best_order: Links
    path: Links
    block_first: Ints
    block_last: Ints
    detour: Ints
    pick: Ints
    blocked: Ints
    random: NDArray[np.uint64]


@njit(cache=True, nogil=True)
def draw(random: NDArray[np.uint64], bound: int) -> int:
    """A number from 0 to bound - 1 by a xorshift generator with multiplication (Vigna 2016); its state is not 0."""
    x = random[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    random[0] = x
    return (np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(33)) * np.int64(bound)) >> np.int64(31)


@njit(cache=True, nogil=True)
def critical_path(s: FlexibleState, t: TabuState) -> int:
    """Draw one critical path into ``path`` with its blocks; its length.

    A block is a maximal run of operations that follow each other on one machine.
    """
    done, duration, before, job_before = s.done, s.duration, s.before, s.job_before
    path, first = t.path, t.block_first
    n = path.shape[0]
    longest = t.counters[MAKESPAN]
    o = np.int64(-1)
    ties = 0
    for i in range(s.last.shape[0]):
        e = s.last[i]
        if done[e] == longest:
            ties += 1
            if draw(t.random, ties) == 0:
                o = np.int64(e)
    at = n
    while True:
        at -= 1
        path[at] = o
        begin = done[o] - duration[o]
        j, b = np.int64(job_before[o]), np.int64(before[o])
        by_job = j < n and done[j] == begin
        by_machine = b < n and done[b] == begin and (not by_job or j == b or draw(t.random, 2) == 0)
        # 1: a block begins here
        first[at] = 0 if by_machine else 1
        if by_machine:
            o = b
        elif by_job:
            o = j
        else:
            break
    count = n - at
    begins = 0
    for i in range(count):
        path[i] = path[at + i]
        if first[at + i] == 1:
            begins = i
        first[i] = begins
    ends = count - 1
    for i in range(count - 1, -1, -1):
        t.block_last[i] = ends
        if first[i] == i:
            ends = i - 1
    return count


@njit(cache=True, nogil=True)
def longest_detours(s: FlexibleState, t: TabuState, count: int, floor: int) -> None:
    """Longest path past each operation of the critical path, where longer than `floor`, into ``detour``.

    A path past v crosses v's position in the topological order by an arc (a, b), and neither what leads to a nor what
    follows b holds v: the longest is the largest ``done[a] + left[b]`` over the arcs across v. Each arc serves all
    critical operations between its ends at once.
    """
    position, path, detour, done, left = s.position, t.path, t.detour, s.done, s.left
    duration, before, job_before = s.duration, s.before, s.job_before
    n = duration.shape[0]
    detour[:count] = floor
    for b in range(n):
        if done[b] - duration[b] + left[b] <= floor:
            continue
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if position[path[middle]] < position[b]:
                low = middle + 1
            else:
                high = middle
        for side in range(2):
            a = job_before[b] if side == 0 else before[b]
            length = done[a] + left[b]
            if length > floor:
                since = np.int64(position[a]) if a < n else -1
                i = low - 1
                while i >= 0 and np.int64(position[path[i]]) > since:
                    detour[i] = max(detour[i], length)
                    i -= 1
    for e in range(s.last.shape[0]):
        a = s.last[e]
        if done[a] > floor:
            i = count - 1
            while i >= 0 and position[path[i]] > position[a]:
                detour[i] = max(detour[i], done[a])
                i -= 1


@njit(cache=True, nogil=True)
def consider(
    pick: Ints, random: NDArray[np.uint64], estimate: int, through: int, v: int, alternative: int, place: int
) -> None:
    """Take a move in hand if it is better than the one there, or by lot if it is as good."""
    if estimate < pick[ESTIMATE] or (estimate == pick[ESTIMATE] and through <= pick[THROUGH]):
        equal = estimate == pick[ESTIMATE] and through == pick[THROUGH]
        pick[TIES] = pick[TIES] + 1 if equal else 1
        if not equal or draw(random, pick[TIES]) == 0:
            pick[ESTIMATE] = estimate
            pick[THROUGH] = through
            pick[OPERATION] = v
            pick[ALTERNATIVE] = alternative
            pick[PLACE] = place


# The next two are compiled into their caller: handing over the arrays takes longer than what they do.


@njit(cache=True, nogil=True, inline="always")
def moves_on_machine(
    i: int, count: int, rest: int, now: int, best: int, path: Links, block_first: Ints, block_last: Ints,
    done: Ints, left: Ints, duration: Ints, job_before: Links, job_after: Links, before: Links, after: Links,
    place: Links, alternative: Links, order_tabu: Ints, pick: Ints, blocked: Ints, random: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Consider the places of the critical operation ``path[i]`` on its own machine.

    Only those that take an operation out of its critical block, or change which one is first or last in it: no other
    shortens the path (Balas and Vazacopoulos 1998; Zhang, Li, Guan and Rao 2007 for moves of the ends inside).
    `left` of the last one passed, or `done` of it, says that it hangs on v by no other path.
    """
    n = duration.shape[0]
    first, last = block_first[i], block_last[i]
    v = np.int64(path[i])
    head, tail, own = done[job_before[v]], left[job_after[v]], duration[v]
    mask = order_tabu.shape[0] - 1
    # a block at an end of the path has an end that no order of it changes
    entry = first > 0 or done[path[0]] > duration[path[0]]
    leave = last < count - 1
    for side in range(2):
        if side == 0:
            # towards the end of the sequence
            useful = i < last and (leave or (i == first and entry))
            inside = i == first and entry
            x = np.int64(after[v])
            end = done[before[v]]
            room = last - i
        else:
            useful = i > first and (entry or (i == last and leave))
            inside = i == last and leave
            x = np.int64(before[v])
            end = left[after[v]]
            room = i - first
        if not useful:
            continue
        tabu = False
        passed = 0
        while x < n and passed < REACH:
            passed += 1
            if side == 0:
                if left[x] <= tail:
                    break
                y = np.int64(after[x])
                end = max(end, done[job_before[x]]) + duration[x]
                through = max(head, end) + own + max(tail, left[y])
                tabu = tabu or order_tabu[(x * n + v) & mask] > now
                to = np.int64(place[v]) + passed
            else:
                if done[x] <= head:
                    break
                y = np.int64(before[x])
                end = max(end, left[job_after[x]]) + duration[x]
                through = max(head, done[y]) + own + max(tail, end)
                tabu = tabu or order_tabu[(v * n + x) & mask] > now
                to = np.int64(place[v]) - passed
            if passed >= room or inside:
                estimate = max(rest, through)
                if not tabu or estimate < best:
                    consider(pick, random, estimate, through, v, np.int64(alternative[v]), to)
                else:
                    consider(blocked, random, 0, 0, v, np.int64(alternative[v]), to)
            x = y


@njit(cache=True, nogil=True, inline="always")
def moves_to_machines(
    v: int, rest: int, now: int, best: int, head: int, tail: int, chosen: int,
    alternative_start: Links, alternative_machine: Links, alternative_duration: Ints, sequence: Links, length: Ints,
    done: Ints, left: Ints, machine_tabu: Ints, pick: Ints, blocked: Ints, random: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Consider the best place of the critical operation v on each other machine that it can use.

    With v out, let A operations of the machine's sequence be done by the head of v, and all from place B on have no
    longer path left than the tail of v. A best place is one of those between A and B, and none of them closes a cycle
    (Mastrolilli and Gambardella, Effective Neighbourhood Functions for the Flexible Job Shop Problem, 2000, section 5).
    Paths are those with v still in, which are too long where the operation before hangs on v or the one behind leads
    to v: the estimate is never below the true makespan.
    """
    for a in range(np.int64(alternative_start[v]), np.int64(alternative_start[v + 1])):
        own = alternative_duration[a]
        least = head + own + tail
        if a == chosen or max(least, rest) > pick[ESTIMATE]:
            continue
        k = alternative_machine[a]
        size = length[k]
        low, high = np.int64(0), size
        while low < high:
            middle = (low + high) >> 1
            if done[sequence[k, middle]] <= head:
                low = middle + 1
            else:
                high = middle
        ready = low
        low, high = np.int64(0), size
        while low < high:
            middle = (low + high) >> 1
            if left[sequence[k, middle]] <= tail:
                high = middle
            else:
                low = middle + 1
        patient = low
        if patient <= ready:
            through = least
            to = patient + draw(random, ready - patient + 1)
        else:
            through = np.int64(NO_MOVE)
            to = ready
            for at in range(ready, patient + 1):
                begin = max(head, done[sequence[k, at - 1]]) if at > 0 else head
                behind = max(tail, left[sequence[k, at]]) if at < size else tail
                if begin + own + behind < through:
                    through = begin + own + behind
                    to = at
        estimate = max(rest, through)
        if machine_tabu[a] <= now or estimate < best:
            consider(pick, random, estimate, through, v, a, to)
        else:
            consider(blocked, random, 0, 0, v, a, to)


@njit(cache=True, nogil=True)
def find_move(s: FlexibleState, t: TabuState) -> None:
    """The best allowed move of an operation of one critical path into ``pick``, a blocked one into ``blocked``.

    A move that is tabu is allowed where its estimate is below the best makespan.
    """
    done, left, duration, sequence, length = s.done, s.left, s.duration, s.sequence, s.length
    job_before, job_after, before, after = s.job_before, s.job_after, s.before, s.after
    place, alternative, alternative_start = s.place, s.alternative, s.alternative_start
    alternative_machine, alternative_duration = s.alternative_machine, s.alternative_duration
    path, block_first, block_last, detour = t.path, t.block_first, t.block_last, t.detour
    order_tabu, machine_tabu, pick, blocked, random = t.order_tabu, t.machine_tabu, t.pick, t.blocked, t.random
    n = duration.shape[0]
    now, best = t.counters[ITERATION], t.counters[BEST]
    for move in (pick, blocked):
        move[ESTIMATE] = NO_MOVE
        move[THROUGH] = NO_MOVE
        move[TIES] = 0
    count = critical_path(s, t)
    longest_detours(s, t, count, best - 1)
    begin, stop = 0, count
    if count > WINDOW:
        begin = draw(random, count - WINDOW + 1)
        stop = begin + WINDOW
    for i in range(begin, stop):
        v = np.int64(path[i])
        rest = detour[i]
        if before[v] < n and after[v] < n:
            rest = max(rest, done[before[v]] + left[after[v]])
        if block_last[i] > block_first[i]:
            moves_on_machine(
                i, count, rest, now, best, path, block_first, block_last, done, left, duration, job_before, job_after,
                before, after, place, alternative, order_tabu, pick, blocked, random,
            )  # fmt: skip
        moves_to_machines(
            v, rest, now, best, done[job_before[v]], left[job_after[v]], np.int64(alternative[v]), alternative_start,
            alternative_machine, alternative_duration, sequence, length, done, left, machine_tabu, pick, blocked,
            random,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def forbid(s: FlexibleState, t: TabuState, v: int, alternative: int, place: int) -> None:
    """Forbid, before a move is made, what it undoes: the machine that v leaves, or the order to those it passes."""
    now = t.counters[ITERATION]
    n = s.duration.shape[0]
    chosen = np.int64(s.alternative[v])
    if alternative != chosen:
        base = t.settings[MACHINE_TENURE]
        t.machine_tabu[chosen] = now + base + draw(t.random, base)
        return
    base = t.settings[ORDER_TENURE]
    until = now + base + draw(t.random, base)
    size = t.order_tabu.shape[0]
    k = s.machine[v]
    here = np.int64(s.place[v])
    for i in range(here + 1, place + 1):
        t.order_tabu[(v * n + s.sequence[k, i]) & (size - 1)] = until
    for i in range(place, here):
        t.order_tabu[(s.sequence[k, i] * n + v) & (size - 1)] = until


@njit(cache=True, nogil=True)
def search_chunk(s: FlexibleState, t: TabuState, iterations: int, patience: int, target: int) -> None:
    """Make moves until `iterations` are done, `patience` of them brought no better schedule, or `target` is reached."""
    counters = t.counters
    for _ in range(iterations):
        if counters[BEST] <= target or counters[ITERATION] - counters[IMPROVED_AT] > patience:
            counters[STOPPED] = 1
            return
        find_move(s, t)
        counters[ITERATION] += 1
        # where all moves are tabu one goes by lot, and so after a move that would have closed a cycle
        use_blocked = t.pick[TIES] == 0 or (counters[FAILED] == 1 and t.blocked[TIES] > 0)
        pick = t.blocked if use_blocked else t.pick
        if pick[TIES] == 0:
            counters[STOPPED] = 1
            return
        v, a, to = pick[OPERATION], pick[ALTERNATIVE], pick[PLACE]
        forbid(s, t, v, a, to)
        if not make_move(s, v, a, to):
            if a != np.int64(s.alternative[v]):
                t.machine_tabu[a] = counters[ITERATION] + t.settings[MACHINE_TENURE]
            counters[FAILED] = 1
            continue
        counters[FAILED] = 0
        counters[MAKESPAN] = makespan(s.last, s.done)
        if counters[MAKESPAN] < counters[BEST]:
            counters[BEST] = counters[MAKESPAN]
            counters[IMPROVED_AT] = counters[ITERATION]
            t.best_alternative[:] = s.alternative
            t.best_order[:] = s.order
