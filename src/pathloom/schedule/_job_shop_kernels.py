"""Compiled kernel of the disjunctive graph: earliest starts of a job shop whose machines have their orders."""

from __future__ import annotations

from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def earliest_starts(
    job_start: NDArray,
    job: NDArray,
    duration: NDArray,
    release: NDArray,
    machine_before: NDArray,
    machine_after: NDArray,
    open_arcs: NDArray,
    queue: NDArray,
    start: NDArray,
) -> int:
    """Longest paths by levels (Kahn 1962); how many operations were reached: all, unless there is a cycle.

    `machine_before` and `machine_after` are -1 where there is none; `open_arcs` and `queue` are work space.
    """
    n = len(job)
    found = 0
    for o in range(n):
        first = job_start[job[o]] == o
        start[o] = release[job[o]] if first else 0
        open_arcs[o] = (0 if first else 1) + (0 if machine_before[o] < 0 else 1)
        if open_arcs[o] == 0:
            queue[found] = o
            found += 1
    done = 0
    while done < found:
        o = queue[done]
        done += 1
        end = start[o] + duration[o]
        w = o + 1
        if w < job_start[job[o] + 1]:
            start[w] = max(start[w], end)
            open_arcs[w] -= 1
            if open_arcs[w] == 0:
                queue[found] = w
                found += 1
        w = machine_after[o]
        if w >= 0:
            start[w] = max(start[w], end)
            open_arcs[w] -= 1
            if open_arcs[w] == 0:
                queue[found] = w
                found += 1
    return done
