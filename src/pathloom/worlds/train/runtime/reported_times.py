"""What nodes have reported about the tasks of an iteration's attempts, and what follows from it.

Reports come late, in any order, and the last ones of a dead node never. A task that has begun shows that the one before
it in its microbatch has ended, whether that was reported or not; its time is then estimated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train.attempts import Attempts
from pathloom.worlds.train.problem import FORWARD, Floats, Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.runtime.measured_speeds import rounded, with_measured_speeds
from pathloom.worlds.train.simulator import Chains, chains


@dataclass(frozen=True)
class Pace:
    """Factors on the plan's seconds.

    Attributes
    ----------
    nodes
        Shape (N,): on everything that a node computes; nodes of which nothing is known are like the median one.
    links
        On messages.
    rests
        On the rests of nodes after a task, at most 1.
    """

    nodes: Floats
    links: float
    rests: float

    def of(self, problem: TrainProblem) -> TrainProblem:
        """The problem at this pace."""
        if self.links != 1.0 or self.rests != 1.0:
            problem = replace(
                problem,
                link=problem.link * self.links,
                gap=problem.gap * self.rests,
                injection_gap=problem.injection_gap * self.rests,
            )
        return with_measured_speeds(problem, self.nodes)


class ReportedTimes:
    """Starts and ends of all tasks of some attempts, as far as they were reported.

    Attributes
    ----------
    attempts, laid
        The attempts, and their tasks.
    start, end
        Shape (R, T), seconds since the iteration began; nan where nothing was reported.
    delivered
        Shape (R, T): the message after the task is known to have arrived.
    """

    attempts: Attempts
    laid: Chains

    def __init__(self, problem: TrainProblem, decisions: TrainDecisions, attempts: Attempts) -> None:
        self._problem, self._decisions = problem, decisions
        n_tasks = (3 if decisions.split_backward else 2) * attempts.routes.shape[1] + 1
        self.start, self.end = np.full((0, n_tasks), np.nan), np.full((0, n_tasks), np.nan)
        self.delivered: NDArray[np.bool_] = np.zeros((0, n_tasks), dtype=np.bool_)
        self.extend(attempts)

    def extend(self, attempts: Attempts) -> None:
        """Go on with these attempts, of which the first are those that there were."""
        self.attempts = attempts
        laid = replace(self._decisions, routes=attempts.routes, stages=attempts.stages, priority=None)
        self.laid = chains(self._problem, laid)
        more = len(attempts) - len(self.start)
        nothing = np.full((more, self.start.shape[1]), np.nan)
        self.start = np.concatenate([self.start, nothing])
        self.end = np.concatenate([self.end, nothing])
        self.delivered = np.concatenate([self.delivered, np.zeros(nothing.shape, dtype=np.bool_)])

    def report(self, row: int, task: int, start: float, end: float) -> None:
        """A task has begun and, unless its end is nan, ended; a later word on the same task stands."""
        if not np.isfinite(start) or np.isinf(end):
            raise ValueError(f"task {task} of attempt {row}: expected seconds, found start {start} and end {end}")
        self.start[row, task] = start
        if not np.isnan(end):
            self.end[row, task] = max(start, end)

    def known(self, now: float = np.inf) -> tuple[Floats, Floats]:
        """Starts and ends, shape (R, T) each, none later than `now`; nan for what has not begun, or not ended."""
        start, end = self.start.copy(), self.end.copy()
        chain = self.laid.chain
        for row in range(len(start) - 1, -1, -1):
            first = int(self.attempts.first[row])
            begun = np.isfinite(start[row])
            for t in np.flatnonzero((self.laid.spawn >= 0) & np.isnan(end[row])).tolist():
                if begun[self.laid.spawn[t]]:
                    self._must_have_ended(start, end, row, t, start[row, self.laid.spawn[t]], now)
            missing = np.isnan(end[row, : chain - 1]) & (begun[1:chain] | self.delivered[row, : chain - 1])
            if missing.any():  # and with it everything before it
                for t in range(int(np.flatnonzero(missing).max()), first - 1, -1):
                    self._must_have_ended(start, end, row, t, start[row, t + 1] - self.laid.hop[row, t], now)
            if np.isfinite(start[row, first]) and self.attempts.parent[row] >= 0:
                parent = int(self.attempts.parent[row])
                while first - 1 < self.attempts.first[parent]:
                    parent = int(self.attempts.parent[parent])
                self._must_have_ended(start, end, parent, first - 1, start[row, first], now)
        return np.minimum(start, now), np.minimum(end, now)

    def _must_have_ended(self, start: Floats, end: Floats, row: int, task: int, by: float, now: float) -> None:
        """Fill a missing end with the best guess: as planned after its start, or `by` where that is not known."""
        if np.isfinite(end[row, task]):
            return
        planned = float(self.laid.duration[row, task])
        guess = start[row, task] + planned
        known = [second for second in (guess, by, now) if np.isfinite(second)]
        latest = min(known) if known else float(self.attempts.begun[row])
        if np.isnan(start[row, task]):
            start[row, task] = max(latest - planned, float(self.attempts.begun[row]))
        end[row, task] = max(latest, start[row, task])

    def pace(self) -> Pace:
        """How fast nodes and links are against the plan, as far as it has been seen."""
        nodes = rounded(_medians(self._ratios(), self.laid.node, self._problem.n_nodes))
        row, task = np.nonzero(np.isfinite(self.start) & np.isfinite(self.end))
        node, start, end = self.laid.node[row, task], self.start[row, task], self.end[row, task]
        order = np.lexsort((start, node))
        same = node[order][1:] == node[order][:-1]
        idle = np.full(len(row), np.inf)  # since the task before ended on the node
        idle[order[1:][same]] = (start[order][1:] - end[order][:-1])[same]
        planned_rest = np.zeros(len(row))
        planned_rest[order[1:][same]] = self.laid.rest[task[order][:-1]][same]
        rested = (planned_rest > 0) & np.isfinite(idle)
        rest = float(np.min(idle[rested] / planned_rest[rested], initial=1.0))
        # whoever finds a node idle, and takes no slot there, has only waited for its message, whose time is seen so
        waited = (idle > 1.5 * planned_rest) & (self.laid.slot[task] != 1) & (task < self.laid.chain)
        before = np.where(waited, task - 1, 0)
        travel = start - self.end[row, before]
        planned_hop = self.laid.hop[row, before]
        seen = waited & (planned_hop > 0) & np.isfinite(planned_hop) & (travel > 0)
        link = float(np.median(travel[seen] / planned_hop[seen])) if seen.any() else 1.0
        link, rest = rounded(np.array([link, max(rest, 0.0)])).tolist()
        return Pace(nodes, link, rest)

    def passes(self) -> dict[int, tuple[float, float]]:
        """Median seconds of a whole stage's forward and backward pass on the nodes that have ended one."""
        factors = _medians(self._ratios(), self.laid.node, self._problem.n_nodes, others=np.nan)
        forward = np.flatnonzero(self.laid.kind == FORWARD)
        found = {}
        for row, t in np.argwhere(np.isfinite(self.end[:, forward])):
            node = int(self.laid.node[row, t])
            stage = int(self.laid.stage[row, t]) % self._problem.n_stages
            seconds = self._problem.forward[node, stage], self._problem.backward[node, stage]
            found[node] = (float(factors[node] * seconds[0]), float(factors[node] * seconds[1]))
        return found

    def _ratios(self) -> Floats:
        """Measured over planned seconds, shape (R, T); nan where either says nothing."""
        planned = self.laid.duration
        taken = self.end - self.start
        return np.where((planned > 0) & (taken > 0), taken / np.where(planned > 0, planned, 1.0), np.nan)


def _medians(ratios: Floats, node: NDArray[np.int32], n_nodes: int, others: float | None = None) -> Floats:
    """Median ratio of each node, shape (N,); `others`, or the median of all nodes, for those without any."""
    found = np.full(n_nodes, np.nan)
    known = np.isfinite(ratios)
    for n in np.unique(node[known]):
        found[n] = np.median(ratios[known & (node == n)])
    if others is None:
        others = float(np.nanmedian(found)) if np.isfinite(found).any() else 1.0
    return np.where(np.isnan(found), others, found)


def numbers_of_attempts(microbatch: Ints) -> Ints:
    """Which attempt of its microbatch each row is, shape (R,), from 0."""
    return np.array([int((microbatch[:row] == b).sum()) for row, b in enumerate(microbatch)], dtype=np.int64)
