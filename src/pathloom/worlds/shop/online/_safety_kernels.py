"""Compiled look-ahead for blocking without swaps: moves after which every job on the floor can still leave."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.shop.online._floor_state import (
    AT,
    JOBS,
    MACHINES,
    NEXT,
    OCCUPANT,
    SEARCH_LIMIT,
    SEEN,
    WAY,
    Run,
)


@njit(cache=True, nogil=True)
def _still_leads_out(run: Run, moved: int, m: int) -> bool:
    """Whether the known way out, without the next step of `moved`, still works once that job is on machine `m`."""
    holder, place = np.full(run.whole[MACHINES], -1), np.empty(run.whole[JOBS], np.int64)
    _positions(run, moved, m, holder, place)
    skip = True
    for step in range(run.whole[WAY]):
        j = run.way[step]
        if j == moved and skip:
            skip = False
            continue
        if not _step(run, j, holder, place):
            return False
    for n in range(len(holder)):
        if holder[n] >= 0:
            return False
    return not skip  # a job that was not on the floor is not in the old way


@njit(cache=True, nogil=True)
def _positions(run: Run, moved: int, m: int, holder: NDArray[np.int64], place: NDArray[np.int64]) -> None:
    """Who is on which machine (`holder`) and what each job does next (`place`), with `moved` on machine `m`.

    Jobs in their last operation leave by themselves and are taken to have left.
    """
    for n in range(len(holder)):
        holder[n] = run.machine[n, OCCUPANT]
    for j in range(len(place)):
        place[j] = run.job[j, NEXT]
    if run.job[moved, AT] >= 0:
        holder[run.job[moved, AT]] = -1
    holder[m] = moved
    place[moved] += 1
    for n in range(len(holder)):
        j = holder[n]
        if j >= 0 and place[j] == run.first[j + 1]:
            holder[n] = -1


@njit(cache=True, nogil=True)
def _step(run: Run, j: int, holder: NDArray[np.int64], place: NDArray[np.int64]) -> bool:
    """Move job `j` on by one operation, if the machine is empty or its own."""
    to = run.on[place[j]]
    if holder[to] >= 0 and holder[to] != j:
        return False
    holder[run.on[place[j] - 1]] = -1
    place[j] += 1
    if place[j] < run.first[j + 1]:
        holder[to] = j
    return True


@njit(cache=True, nogil=True)
def leads_out(run: Run, moved: int, m: int, keep: bool) -> bool:
    """Without swaps: could all jobs on the floor still leave, once job `moved` is on machine `m`?

    Deciding this is NP-hard. Jobs whose whole way is empty are sent out first, as in the banker's test, which is never
    wrong; otherwise a search moves jobs one machine on, depth first, with a table of positions that it has seen and a
    limit, beyond which the move counts as unsafe. The way out that was found is kept (`keep`) when the move is made: a
    floor whose last way out is known can always take its next step, so that it never comes to a standstill.
    """
    if _still_leads_out(run, moved, m):
        if keep:
            drop_step(run, moved)
        return True
    machines = run.whole[MACHINES]
    holder, place = np.full(machines, -1), np.empty(run.whole[JOBS], np.int64)
    _positions(run, moved, m, holder, place)
    on_floor = np.empty(machines, np.int64)
    count, steps = 0, 0
    for n in range(machines):
        if holder[n] >= 0:
            on_floor[count] = holder[n]
            steps += run.first[holder[n] + 1] - place[holder[n]]
            count += 1
    way = np.empty(steps + 1, np.int64)  # jobs in the order of their steps
    chosen = np.full(steps + 1, -1)  # position in `on_floor` that was tried last at each depth of the search
    marks = np.zeros(steps + 2, np.int64)  # steps made before each depth
    seen = np.zeros(SEEN, np.uint64)
    made, depth, tried = 0, 0, 0
    while True:
        # Send out everybody whose way is empty.
        again = True
        while again:
            again = False
            for k in range(count):
                j = on_floor[k]
                if place[j] == run.first[j + 1]:
                    continue
                free = True
                for o in range(place[j], run.first[j + 1]):
                    if holder[run.on[o]] >= 0 and holder[run.on[o]] != j:
                        free = False
                        break
                if free:
                    while place[j] < run.first[j + 1]:
                        _step(run, j, holder, place)
                        way[made] = j
                        made += 1
                    again = True
        if made == steps:
            if keep:
                run.way[:made] = way[:made]
                run.whole[WAY] = made
            return True
        key = np.uint64(1)
        for k in range(count):
            key = (key ^ np.uint64(place[on_floor[k]])) * np.uint64(0x9E3779B97F4A7C15)
            key = key ^ (key >> np.uint64(29))
        slot = int(key % np.uint64(SEEN))
        known = seen[slot] == key
        seen[slot] = key
        # One step of one job; where none is left to try, back to the depth above.
        if known or tried >= SEARCH_LIMIT:
            if tried >= SEARCH_LIMIT:
                return False
            chosen[depth] = count
        moved_on = False
        while not moved_on:
            k = chosen[depth] + 1
            while k < count:
                j = on_floor[k]
                if place[j] < run.first[j + 1] and _step(run, j, holder, place):
                    break
                k += 1
            if k < count:
                chosen[depth] = k
                marks[depth + 1] = made
                way[made] = on_floor[k]
                made += 1
                depth += 1
                chosen[depth] = -1
                tried += 1
                moved_on = True
            else:
                if depth == 0:
                    return False
                # Undo all steps of this depth, the latest first.
                while made > marks[depth]:
                    made -= 1
                    j = way[made]
                    if place[j] < run.first[j + 1]:
                        holder[run.on[place[j] - 1]] = -1
                    place[j] -= 1
                    holder[run.on[place[j] - 1]] = j
                depth -= 1


@njit(cache=True, nogil=True)
def drop_step(run: Run, j: int) -> None:
    """Take the next step of job `j`, which is made now, from the known way out."""
    whole, found = run.whole, 0
    for step in range(whole[WAY]):
        if run.way[step] == j and not found:
            found = 1
        else:
            run.way[step - found] = run.way[step]
    whole[WAY] -= found
