"""A plain timetable: microbatches enter one after another, and each goes through without ever waiting.

The trip of a microbatch (forward passes, loss, backward passes, messages between them) is laid out once as a rigid
pattern and pushed back in time until it touches nothing that is on the nodes already. There is no queue and no event
loop, and no trip can block another one, so any decisions that respect the memory of single nodes have such a
timetable. It is slower than what a planner gives, and meant as a starting point for tests of checkers and simulators.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pathloom.plan import Objective, Plan
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import (
    BACKWARD,
    FORWARD,
    KINDS,
    LOSS,
    SYNC,
    WEIGHT,
    Ints,
    TrainDecisions,
    TrainProblem,
)

Task = tuple[int, int, int, int, float, float, float]
"""Kind, visit, stage, node, start, end and end of the rest after it, times from the injection."""


@dataclass
class _Node:
    """What is on a node: disjoint busy intervals, rests included, and intervals in which a slot is held."""

    busy: list[tuple[float, float]] = field(default_factory=list)
    held: list[tuple[float, float]] = field(default_factory=list)

    def free_from(self, start: float, end: float, slack: float) -> float:
        """Earliest time from `start` on at which the node is free for ``end - start`` seconds."""
        length = end - start
        at = max(0, bisect_right(self.busy, (start, np.inf)) - 1)
        for since, until in self.busy[at:]:
            if since >= start + length - slack:
                break
            if until > start + slack:
                start = until
        return start

    def slot_from(self, start: float, end: float, slots: int, slack: float) -> float:
        """Earliest time from `start` on at which fewer than `slots` slots are held for ``end - start`` seconds."""
        length = end - start
        while True:
            inside = [h for h in self.held if h[0] < start + length - slack and h[1] > start + slack]
            if len(inside) < slots:
                return start
            ends = sorted(h[1] for h in inside)
            full = [
                moment
                for moment in sorted({max(start, h[0]) for h in inside})
                if sum(1 for h in inside if h[0] <= moment + slack) - bisect_left(ends, moment + 2 * slack) >= slots
            ]
            if not full:
                return start
            start = ends[bisect_left(ends, full[0] + 2 * slack)]


def trip(
    problem: TrainProblem,
    decisions: TrainDecisions,
    microbatch: int,
    moved: Mapping[tuple[int, int, int], int] | None = None,
    missing_link: float | None = None,
) -> list[Task] | None:
    """The tasks of one microbatch as early as they can follow each other, from time 0; None if a link is missing.

    Parameters
    ----------
    moved
        Nodes of single tasks, by (microbatch, kind, visit), where they differ from the route's.
    missing_link
        Seconds of a message where there is no link; None: no such message.
    """
    route = [int(n) for n in decisions.routes[microbatch]]
    stages = [int(p) for p in decisions.stages[microbatch]]
    k = len(route)
    steps = [(FORWARD, v) for v in range(k)] + [(LOSS, -1)] + [(BACKWARD, v) for v in range(k - 1, -1, -1)]
    tasks: list[Task] = []
    rested: dict[int, float] = {}

    def place(kind: int, visit: int, ready: float, seconds: float, rest: float, node: int) -> float:
        start = max(ready, rested.get(node, 0.0))
        rested[node] = start + seconds + rest
        tasks.append((kind, visit, stages[max(visit, 0)], node, start, start + seconds, start + seconds + rest))
        return start + seconds

    now, previous = 0.0, -1
    for kind, visit in steps:
        node = (moved or {}).get((microbatch, kind, visit), route[max(visit, 0)])
        hosted = stages[max(visit, 0)] % problem.n_stages
        if previous >= 0 and previous != node:
            link = float(problem.link[previous, node])
            if np.isinf(link):
                if missing_link is None:
                    return None
                link = missing_link
            now += link
        rest = problem.injection_gap if (kind, visit) == (FORWARD, 0) else problem.gap
        weight = float(problem.weight[node, hosted]) / decisions.chunks
        if kind == LOSS:
            seconds = float(problem.loss[node])
        elif kind == FORWARD:
            seconds = float(problem.forward[node, hosted]) / decisions.chunks
        else:
            seconds = float(problem.backward[node, hosted]) / decisions.chunks
            seconds -= weight if decisions.split_backward else 0.0
        now = place(kind, visit, now, seconds, rest, node)
        if kind == BACKWARD and decisions.split_backward:
            at = (moved or {}).get((microbatch, WEIGHT, visit), route[visit])
            place(WEIGHT, visit, now, float(problem.weight[at, hosted]) / decisions.chunks, problem.gap, at)
        previous = node
    return tasks


def _held(tasks: Sequence[Task], split: bool) -> list[tuple[int, float, float]]:
    """Node, start and end of every slot that a trip holds."""
    last = WEIGHT if split else BACKWARD
    freed = {visit: end for kind, visit, _, _, _, end, _ in tasks if kind == last}
    return [(node, start, freed[visit]) for kind, visit, _, node, start, _, _ in tasks if kind == FORWARD]


def rigid_timeline(
    problem: TrainProblem,
    decisions: TrainDecisions,
    *,
    order: Sequence[int] | None = None,
    moved: Mapping[tuple[int, int, int], int] | None = None,
    missing_link: float | None = None,
    memory: bool = True,
) -> Timeline | None:
    """The timetable of rigid trips, each as early as the trips before it allow.

    Parameters
    ----------
    order
        Order in which microbatches choose their time, by default by release; one that waits for the return of
        another chooses after it.
    moved, missing_link
        As for `trip`.
    memory
        False: as if memory had no end.

    Returns
    -------
    Timeline or None
        None if there is no such timetable: a missing link, a trip that needs more slots of a node than it has, or
        microbatches that wait for each other.
    """
    b, split = len(decisions.routes), decisions.split_backward
    release = np.zeros(b) if decisions.release is None else np.asarray(decisions.release, dtype=np.float64)
    after = np.full(b, -1) if decisions.after is None else np.asarray(decisions.after)
    waiting = list(np.argsort(release, kind="stable")) if order is None else list(order)
    nodes = [_Node() for _ in range(problem.n_nodes)]
    rows: list[tuple[int, int, int, float, float, int, int]] = []
    returned: dict[int, float] = {}
    while waiting:
        ready = [i for i in waiting if after[i] < 0 or int(after[i]) in returned]
        if not ready:
            return None
        m = int(ready[0])
        waiting.remove(ready[0])
        tasks = trip(problem, decisions, m, moved, missing_link)
        if tasks is None:
            return None
        slack = 1e-10 * (tasks[-1][5] + 1e-300)
        held = _held(tasks, split)
        own = [node for node, _, _ in held]
        slots = {n: int(problem.memory[n]) * decisions.chunks - own.count(n) + 1 for n in own}
        if memory and min(slots.values()) < 1:
            return None
        shift = max(float(release[m]), 0.0, returned.get(int(after[m]), 0.0))
        before = -1.0
        while shift > before:
            before = shift
            for _, _, _, node, start, _, rested in tasks:
                at = shift + start
                found = nodes[node].free_from(at, shift + rested, slack)
                shift += found - at if found > at + slack else 0.0
            for node, start, end in held if memory else ():
                at = shift + start
                found = nodes[node].slot_from(at, shift + end, slots[node], slack)
                shift += found - at if found > at + slack else 0.0
        for kind, visit, stage, node, start, end, rested in tasks:
            insort(nodes[node].busy, (shift + start, shift + rested))
            rows.append((node, m, kind, shift + start, shift + end, stage, visit))
            if (kind, visit) == (BACKWARD, 0):
                returned[m] = shift + end
        for node, start, end in held:
            nodes[node].held.append((shift + start, shift + end))
    return timeline_of(problem, decisions.placement, rows, b)


def timeline_of(
    problem: TrainProblem,
    placement: Ints,
    rows: Sequence[tuple[int, int, int, float, float, int, int]],
    microbatches: int,
) -> Timeline:
    """A timeline from rows (node, microbatch, kind, start, end, stage, visit), each stage's synchronisation added."""
    rows = list(rows)
    items = tuple(f"mb{i}" for i in range(microbatches))
    if problem.sync_latency is not None and problem.sync_seconds is not None:
        items = (*items, "sync")
        for p in range(problem.n_stages):
            members = [int(n) for n in np.flatnonzero(placement == p)]
            done = max((row[4] for row in rows if row[2] != SYNC and placement[row[0]] == p), default=0.0)
            seconds = max(
                sum(
                    2.0 * float(problem.sync_latency[i, j] + problem.sync_seconds[i, j] / len(members))
                    for j in members
                    if j != i
                )
                for i in members
            )
            rows += [(i, microbatches, SYNC, done, done + seconds, p, -1) for i in members]
    node, item, kind, start, end, stage, visit = (np.array(column) for column in zip(*rows))
    return Timeline(
        *(node, item, kind, start, end),
        resources=problem.nodes,
        items=items,
        kinds=KINDS,
        columns={"stage": stage, "visit": visit},
    )


def plan_of(problem: TrainProblem, decisions: TrainDecisions, timeline: Timeline, method: str = "rigid trips") -> Plan:
    """The plan that consists of these decisions and this timetable."""
    return Plan(problem, decisions, timeline, Objective("iteration time", timeline.makespan, "s"), method)
