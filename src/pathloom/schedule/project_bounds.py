"""Lower bounds on the makespan of a project: critical path, capacity, pairs that exclude each other, destructive.

All are valid in several modes: an activity counts with its shortest duration, its least energy, its least overlap.
Survey: Neumann, Schwindt, Zimmermann, "Project Scheduling with Time Windows and Scarce Resources", section 2.
The destructive bound (Klein, Scholl, "Computing lower bounds by destructive improvement", EJOR 112 (1999)) assumes that
the project ends by a time, draws conclusions, and where they contradict each other the project must end later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.schedule_generation import predecessors, topological_order, useful_modes
from pathloom.schedule.shops import Ints, Project

MOST_TIMES = 150
"""So many begins and ends of intervals of time are looked at, at most; more are thinned out evenly."""


@dataclass(frozen=True, eq=False)
class _Relaxed:
    """What the bounds look at: useful modes, precedences, heads and tails on the critical path."""

    order: NDArray[np.int32]
    pred_start: NDArray[np.int32]
    pred: NDArray[np.int32]
    succ_start: NDArray[np.int32]
    succ: NDArray[np.int32]
    release: Ints
    mode_start: Ints
    mode_duration: Ints
    demand: Ints
    capacity: Ints
    duration: Ints
    head: Ints
    tail: Ints

    @classmethod
    def of(cls, project: Project) -> _Relaxed | None:
        kept, _ = useful_modes(project)
        owner = np.repeat(np.arange(project.activities), np.diff(project.mode_start))[kept]
        options = np.bincount(owner, minlength=project.activities)
        if project.activities == 0 or (options == 0).any():
            return None
        mode_start = np.concatenate(([0], np.cumsum(options)))
        mode_duration = project.mode_duration[kept]
        duration = np.minimum.reduceat(mode_duration, mode_start[:-1])
        order = topological_order(project)
        pred_start, pred = predecessors(project)
        relaxed = cls(
            order,
            pred_start,
            pred,
            project.successor_start,
            project.successor,
            project.release,
            mode_start,
            mode_duration,
            project.renewable[kept],
            project.renewable_capacity,
            duration,
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
        )
        head = relaxed.earliest(project.release)
        tail = relaxed.longest_after(np.zeros(project.activities, np.int64))
        return cls(**{**relaxed.__dict__, "head": head, "tail": tail})

    def earliest(self, start: Ints) -> Ints:
        """Starts not below `start` that keep the precedences."""
        head = start.copy()
        for a in self.order:
            before = self.pred[self.pred_start[a] : self.pred_start[a + 1]]
            if len(before):
                head[a] = max(head[a], int((head[before] + self.duration[before]).max()))
        return head

    def longest_after(self, least: Ints) -> Ints:
        """Times between the end of an activity and the end of the project, not below `least`."""
        tail = least.copy()
        for a in self.order[::-1]:
            after = self.succ[self.succ_start[a] : self.succ_start[a + 1]]
            if len(after):
                tail[a] = max(tail[a], int((tail[after] + self.duration[after]).max()))
        return tail


def critical_path_bound(project: Project) -> int:
    """Longest chain of precedences, after releases, with the shortest modes."""
    relaxed = _Relaxed.of(project)
    return 0 if relaxed is None else int((relaxed.head + relaxed.duration + relaxed.tail).max())


def capacity_bound(project: Project) -> int:
    """Energy over capacity, for every resource and every set of activities with at least some head and tail."""
    relaxed = _Relaxed.of(project)
    return 0 if relaxed is None else _capacity_bound(relaxed)


def exclusion_bound(project: Project) -> int:
    """One-machine bound over sets of activities of which no two fit beside each other (Carlier, EJOR 11 (1982))."""
    relaxed = _Relaxed.of(project)
    return 0 if relaxed is None else _exclusion_bound(relaxed, _exclusions(relaxed))


def project_bound(project: Project, *, upper: int | None = None, seconds: float = 0.5) -> tuple[int, str]:
    """The best of all bounds here, and which one it is.

    Parameters
    ----------
    upper
        Makespan of a known schedule: the bound need not be raised above it.
    seconds
        Wall time for the destructive bound.
    """
    relaxed = _Relaxed.of(project)
    if relaxed is None:
        return 0, "no modes"
    exclusions = _exclusions(relaxed)
    bounds = [
        (int((relaxed.head + relaxed.duration + relaxed.tail).max()), "critical path"),
        (_capacity_bound(relaxed), "capacity"),
        (_exclusion_bound(relaxed, exclusions), "one machine"),
    ]
    lower, source = max(bounds, key=lambda entry: entry[0])
    raised = _destructive_bound(relaxed, exclusions, lower, upper, seconds)
    return (raised, "destructive") if raised > lower else (lower, source)


def destructive_bound(project: Project, lower: int, *, upper: int | None = None, seconds: float = 0.5) -> int:
    """Raise a bound by refuting that the project ends by it or somewhat later, never above `upper`.

    Conclusions drawn: precedences, pairs that exclude each other, and energetic reasoning (Baptiste, Le Pape, Nuijten,
    "Satisfiability tests and time-bound adjustments for cumulative scheduling problems", Annals of OR 92 (1999)).
    Goes up in strides that double and halve, until a time is not refuted or `seconds` are over.
    """
    relaxed = _Relaxed.of(project)
    return lower if relaxed is None else _destructive_bound(relaxed, _exclusions(relaxed), lower, upper, seconds)


def _destructive_bound(
    relaxed: _Relaxed, exclusions: NDArray[np.bool_], lower: int, upper: int | None, seconds: float
) -> int:
    began = time.monotonic()
    stride = 1
    while time.monotonic() - began < seconds and (upper is None or lower < upper):
        # What is refuted at a time is refuted at every earlier one
        end = lower + stride - 1 if upper is None else min(lower + stride, upper) - 1
        if _refuted(relaxed, exclusions, end):
            lower = end + 1
            stride *= 2
        elif stride == 1:
            break
        else:
            stride = max(1, stride // 4)
    return lower


def _capacity_bound(relaxed: _Relaxed) -> int:
    energy = np.minimum.reduceat(relaxed.demand * relaxed.mode_duration[:, None], relaxed.mode_start[:-1], axis=0)
    best = 0
    for resource, capacity in enumerate(relaxed.capacity):
        busy = np.flatnonzero(energy[:, resource] > 0)
        if len(busy) and capacity > 0:
            best = max(
                best, _head_work_tail(relaxed.head[busy], energy[busy, resource], relaxed.tail[busy], int(capacity))
            )
    return best


def _head_work_tail(head: Ints, work: Ints, tail: Ints, capacity: int) -> int:
    """Largest h + work / capacity + q over thresholds h and q, of activities with head >= h and tail >= q."""
    heads, tails = _thinned(head), _thinned(tail)
    table = np.zeros((len(heads), len(tails)), np.int64)
    np.add.at(table, (np.searchsorted(heads, head, "right") - 1, np.searchsorted(tails, tail, "right") - 1), work)
    table = table[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    value = heads[:, None] + -(-table // capacity) + tails[None, :]
    return int(np.where(table > 0, value, 0).max())


def _thinned(times: Ints) -> Ints:
    """Distinct times, at most `MOST_TIMES` of them, the smallest among them."""
    distinct = np.unique(times)
    if len(distinct) <= MOST_TIMES:
        return distinct
    return distinct[np.linspace(0, len(distinct) - 1, MOST_TIMES).astype(np.int64)]


def _exclusions(relaxed: _Relaxed) -> NDArray[np.bool_]:
    """Which pairs of activities of positive duration never fit beside each other, in any modes; none above 1000."""
    count = len(relaxed.duration)
    if count > 1000:
        return np.zeros((0, 0), np.bool_)
    least = np.minimum.reduceat(relaxed.demand, relaxed.mode_start[:-1], axis=0)
    pairs = np.zeros((count, count), np.bool_)
    for resource, capacity in enumerate(relaxed.capacity):
        pairs |= least[:, resource][:, None] + least[:, resource][None, :] > capacity
    pairs &= (relaxed.duration > 0)[:, None] & (relaxed.duration > 0)[None, :]
    np.fill_diagonal(pairs, False)
    return pairs


def _exclusion_bound(relaxed: _Relaxed, exclusions: NDArray[np.bool_]) -> int:
    best = 0
    for first in range(len(exclusions)):
        if not exclusions[first].any():
            continue
        # Grow a clique from each activity, the longest that still excludes all others first
        clique, rest = [first], exclusions[first].copy()
        while rest.any():
            candidates = np.flatnonzero(rest)
            chosen = int(candidates[np.argmax(relaxed.duration[candidates])])
            clique.append(chosen)
            rest &= exclusions[chosen]
        members = np.array(clique)
        best = max(best, _head_work_tail(relaxed.head[members], relaxed.duration[members], relaxed.tail[members], 1))
    return best


def _refuted(relaxed: _Relaxed, exclusions: NDArray[np.bool_], end: int) -> bool:
    """Whether no schedule ends by `end`, as far as can be seen cheaply."""
    head, tail = relaxed.head, relaxed.tail
    duration = relaxed.duration
    for _ in range(20):
        latest_end = end - tail
        if (head + duration > latest_end).any():
            return True
        if not len(exclusions):
            break
        # j cannot come before i where it would end too late for i to follow
        too_late = head[None, :] + duration[None, :] + duration[:, None] > latest_end[:, None]
        i_first = exclusions & too_late
        if (i_first & i_first.T).any():
            return True
        after = np.where(i_first, (head + duration)[:, None], 0).max(axis=0, initial=0)
        before = np.where(i_first, (tail + duration)[None, :], 0).max(axis=1, initial=0)
        new_head = relaxed.earliest(np.maximum(head, after))
        new_tail = relaxed.longest_after(np.maximum(tail, before))
        if (new_head == head).all() and (new_tail == tail).all():
            break
        head, tail = new_head, new_tail
    return _energy_exceeded(relaxed, head, end - tail)


def _energy_exceeded(relaxed: _Relaxed, head: Ints, latest_end: Ints) -> bool:
    """Whether some interval of time must hold more energy of a resource than it has."""
    latest_start = latest_end - relaxed.duration
    begins = _thinned(np.concatenate((head, latest_start)))
    ends = _thinned(np.concatenate((latest_end, head + relaxed.duration)))
    owner = np.repeat(np.arange(len(head)), np.diff(relaxed.mode_start))
    duration = relaxed.mode_duration
    possible = head[owner] + duration <= latest_end[owner]
    for begin in begins:
        length = ends - begin
        useful = ends[length > 0]
        if not len(useful):
            continue
        length = length[length > 0]
        # Least part of each mode inside each interval: as far left or as far right as it can go
        left = np.maximum(0, np.minimum(duration, head[owner] + duration - begin))[:, None]
        right = useful[None, :] - np.maximum(latest_end[owner] - duration, begin)[:, None]
        inside = np.minimum(np.minimum(left, np.maximum(right, 0)), np.minimum(duration[:, None], length[None, :]))
        for resource, capacity in enumerate(relaxed.capacity):
            energy = inside * relaxed.demand[:, resource][:, None]
            energy = np.where(possible[:, None], energy, np.iinfo(np.int64).max)
            if (np.minimum.reduceat(energy, relaxed.mode_start[:-1], axis=0).sum(axis=0) > capacity * length).any():
                return True
    return False
