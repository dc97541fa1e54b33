"""Which stages a microbatch may visit so that all later ones still find theirs under the caps of TC1.

Methods that route one microbatch after the other must not use stages up in a way that leaves too few different ones
for the last. Whether n microbatches can each visit v different stages of 1 .. S-1, with no gap over `jump`, and with at
most ``room[p]`` of them at stage p, is a question about loads ``y``: there is such an assignment exactly if there is y
with

* ``0 <= y[p] <= min(room[p], n)`` and ``sum(y) == n v``;
* at least n in every window of `jump` consecutive stages, so that none of the n jumps further.

Necessary is clear. Sufficient: lay the loads end to end on a line and let microbatch i take the stages in whose piece
the points i, i + n, i + 2n, ... lie (systematic sampling). No piece is longer than n, so it takes no stage twice; the
line has length n v, so it takes v; every window has length n or more, so it is hit.

A route may end early, though, with more than `jump` stages left behind it. Where the above fails, the microbatches are
divided by where their routes end (a small integer program); within each part it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train.problem import Ints, TrainProblem


@dataclass
class Part:
    """Microbatches still to be routed whose routes stay below stage ``len(room)``.

    Attributes
    ----------
    count
        How many they are.
    room
        Shape (L,): how many of them can visit stage p; entry 0 stands for stage 0, which all visit, and is not read.
    """

    count: int
    room: Ints


class StageBudget:
    """Keeps the microbatches that are still to be routed feasible.

    Parameters
    ----------
    room
        Shape (S,): how many microbatches can visit each stage; entry 0 is not read.
    microbatches, route_length, jump
        As in `TrainProblem`.

    Attributes
    ----------
    parts
        What is still to be routed; empty at once if there is no assignment at all (`possible` is False).
    possible
        Whether there is an assignment of stages to all microbatches.
    """

    def __init__(self, room: Ints, microbatches: int, route_length: int, jump: int) -> None:
        room = np.array(room, dtype=np.int64)
        self.visits, self.jump, self.n_stages = route_length - 1, jump, len(room)
        if self.loads(room, microbatches) is not None:
            self.parts = [Part(microbatches, room)]
        else:
            self.parts = _divided(room, microbatches, self.visits, jump)
        self.possible = bool(self.parts) or microbatches == 0

    @classmethod
    def of(cls, problem: TrainProblem, placement: Ints) -> StageBudget:
        """The budget of a whole iteration under a placement: caps of stages and of their nodes."""
        nodes = np.bincount(placement, weights=np.asarray(problem.node_cap), minlength=problem.n_stages)
        room = np.minimum(problem.stage_cap, nodes.astype(np.int64))
        return cls(room, problem.microbatches, problem.route_length, problem.reordering.jump)

    def loads(self, room: Ints, count: int) -> Ints | None:
        """Loads as the module's text asks for, as even as can be, for `count` microbatches; None if there are none."""
        return _loads(room, count, self.visits, self.jump)

    def allows(self, visited: NDArray[np.bool_]) -> bool:
        """Whether a microbatch may visit the stages of the mask, shape (S,), and leave enough for the rest."""
        return any(self._fits(part, visited) for part in self.parts)

    def take(self, visited: NDArray[np.bool_]) -> None:
        """Use the stages of the mask, shape (S,), which must be allowed, for one microbatch."""
        for part in self.parts:
            if self._fits(part, visited):
                part.room -= visited[: len(part.room)]
                part.count -= 1
                break
        else:
            raise ValueError(f"the stages {np.flatnonzero(visited).tolist()} leave no assignment for the rest")
        self.parts = [part for part in self.parts if part.count]

    def sets(self, part: Part) -> Iterator[NDArray[np.bool_]]:
        """Sets of stages, masks of shape (S,), each of which a microbatch of the part may visit; at least one."""
        loads = self.loads(part.room, part.count)
        assert loads is not None
        ends = np.cumsum(loads[1:])
        # between two ends (modulo the count) all starting points meet the same stages
        for first in sorted({0, *(int(end) % part.count for end in ends)}):
            visited = np.zeros(self.n_stages, dtype=bool)
            visited[0] = True
            points = first + part.count * np.arange(self.visits)
            visited[1 + np.searchsorted(ends, points, side="right")] = True
            yield visited

    def _fits(self, part: Part, visited: NDArray[np.bool_]) -> bool:
        last = len(part.room)
        if visited[last:].any():
            return False
        left = part.room - visited[:last]
        if (left[1:] < 0).any():
            return False
        return part.count == 1 or self.loads(left, part.count - 1) is not None


def _loads(room: Ints, count: int, visits: int, jump: int) -> Ints | None:
    n = len(room)
    if visits == 0:
        return np.zeros(n, dtype=np.int64)
    limit = [0, *(min(int(r), count) for r in room[1:])]
    if sum(limit) < count * visits:
        return None
    least = [0] * n
    for end in range(jump, n):  # fewest visits that hit every window: add what is missing as far right as possible
        missing = count - sum(least[end - jump + 1 : end + 1])
        for p in range(end, end - jump, -1):
            if missing <= 0:
                break
            more = min(missing, limit[p] - least[p])
            least[p] += more
            missing -= more
        if missing > 0:
            return None
    if sum(least) > count * visits:
        return None
    low, high = np.array(least, dtype=np.int64), np.array(limit, dtype=np.int64)
    level = 0
    for bit in reversed(range(int(count).bit_length())):  # the highest common level that is not too much
        if int(np.maximum(low, np.minimum(high, level + (1 << bit))).sum()) <= count * visits:
            level += 1 << bit
    loads = np.maximum(low, np.minimum(high, level))
    raised = np.flatnonzero((loads < high) & (loads == level))[: count * visits - int(loads.sum())]
    loads[raised] += 1
    return loads


def _divided(room: Ints, count: int, visits: int, jump: int) -> list[Part]:
    """Divide the microbatches by the window of `jump` stages in which their routes end; empty if there is no way."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    if jump == 0:
        return []
    lengths = [n for n in range(len(room), 1, -jump) if n - 1 >= visits]
    if not lengths:
        return []
    # unknowns of a part: its count, then its loads
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows, low, high = [], [], []

    def add(terms: dict[int, float], at_least: float, at_most: float) -> None:
        row = np.zeros(starts[-1])
        for column, value in terms.items():
            row[column] += value
        rows.append(row)
        low.append(at_least)
        high.append(at_most)

    add({int(start): 1.0 for start in starts[:-1]}, count, count)
    for p in range(1, len(room)):
        sharing = {int(start) + p: 1.0 for start, n in zip(starts, lengths, strict=False) if p < n}
        add(sharing, 0, float(room[p]))
    for start, n in zip(starts.tolist(), lengths, strict=False):
        add({start: -float(visits), **{start + p: 1.0 for p in range(1, n)}}, 0, 0)
        for p in range(1, n):
            add({start: -1.0, start + p: 1.0}, -np.inf, 0)
        for end in range(jump, n):
            add({start: -1.0, **{start + p: 1.0 for p in range(end - jump + 1, end + 1)}}, 0, np.inf)
    result = milp(
        np.zeros(starts[-1]),
        constraints=LinearConstraint(np.array(rows), low, high),
        integrality=np.ones(starts[-1]),
        bounds=Bounds(0, count * max(visits, 1)),
    )
    if result.x is None:
        return []
    values = np.rint(result.x).astype(np.int64)
    parts = [
        Part(int(values[start]), values[start : start + n].copy()) for start, n in zip(starts, lengths, strict=False)
    ]
    return [part for part in parts if part.count]
