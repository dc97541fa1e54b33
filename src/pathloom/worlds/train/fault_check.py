"""Independent check of an iteration with failures, from its timetable alone; shares no code with the simulator.

Rules

``completeness``
    Every microbatch has exactly one useful span of each task of one full route; nothing useful besides.
``route``
    It begins at stage 0, loss and last backward pass are there too, every backward pass (and weight task) is on the
    node of its forward pass, and each node belongs to the stage of the span. Stages differ.
``death``
    Nothing runs on a node after its death, and useful work has ended before it.
``causality``
    Every useful task starts after the one before it in its microbatch has ended and the message has arrived; an attempt
    does not begin before a failure has been noticed. No message leaves a node that dies before it has arrived.
``collision``
    A node does one task at a time and rests after each, wasted work included.
``memory``
    A node holds no more activations than it has slots; a lost attempt's count until the first notice of a failure
    after the last task that it began.
``duration``
    Useful spans last what the problem says (only of exact timetables, without noise or stragglers).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pathloom.plan import Violation
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, SYNC, WEIGHT, TrainDecisions, TrainProblem


def check_recovery(
    problem: TrainProblem,
    decisions: TrainDecisions,
    timeline: Timeline,
    failures: Sequence[tuple[int, float]],
    *,
    detection: float,
    restarts: Sequence[float] = (),
    exact: bool = True,
) -> list[Violation]:
    """What is wrong with an iteration with failures, see the module's text; empty if nothing is.

    Parameters
    ----------
    timeline
        Of `pathloom.worlds.train.fault_outcome.FaultOutcome`.
    failures
        (node, second) pairs.
    detection
        Seconds until a failure is noticed.
    restarts
        Seconds at which everything was thrown away: nodes stop what they are doing and owe no rest.
    exact
        Durations and messages are the problem's.
    """
    check = _Check(problem, decisions, timeline, failures, detection, restarts, exact)
    for b in range(len(decisions.routes)):
        check.microbatch(b)
    check.deaths()
    check.collisions()
    check.memory()
    return check.found


@dataclass(frozen=True)
class _Span:
    node: int
    item: int
    start: float
    end: float
    stage: int
    visit: int
    attempt: int
    work: int
    wasted: bool


class _Check:
    def __init__(
        self,
        problem: TrainProblem,
        decisions: TrainDecisions,
        timeline: Timeline,
        failures: Sequence[tuple[int, float]],
        detection: float,
        restarts: Sequence[float],
        exact: bool,
    ) -> None:
        self.problem, self.decisions, self.exact = problem, decisions, exact
        self.tolerance = 1e-6 * max(timeline.makespan, 1e-3)
        self.died = dict(failures)
        self.noticed = sorted(second + detection for _, second in failures)
        self.restarts = restarts
        self.found: list[Violation] = []
        wasted = timeline.kinds.index("wasted")
        more = timeline.columns
        columns = (
            timeline.resource,
            timeline.item,
            timeline.start,
            timeline.end,
            *(more[name] for name in ("stage", "visit", "attempt", "work")),
            timeline.kind == wasted,
        )
        self.spans = [_Span(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        self.of: dict[int, list[_Span]] = defaultdict(list)
        for span in self.spans:
            if span.work != SYNC:
                self.of[span.item].append(span)

    def wrong(self, rule: str, message: str, b: int | None = None, n: int | None = None) -> None:
        items = () if b is None else (f"mb{b}",)
        self.found.append(Violation(rule, message, items, () if n is None else (self.problem.nodes[n],)))

    def death_of(self, node: int) -> float:
        return self.died.get(node, np.inf)

    def deaths(self) -> None:
        for span in self.spans:
            if span.end > self.death_of(span.node) + self.tolerance:
                self.wrong("death", f"runs until {span.end:.6g} s, after its death", n=span.node)

    def microbatch(self, b: int) -> None:
        k = np.asarray(self.decisions.routes).shape[1]
        useful: dict[tuple[int, int], _Span] = {}
        for span in self.of[b]:
            if not span.wasted:
                if (span.work, span.visit) in useful:
                    self.wrong("completeness", f"has done ({span.work}, {span.visit}) twice", b, span.node)
                useful[span.work, span.visit] = span
            if span.attempt > 0 and span.start < min(self.noticed, default=np.inf) - self.tolerance:
                self.wrong("causality", "begins a new attempt before a failure has been noticed", b, span.node)
        order = [(FORWARD, v) for v in range(k)] + [(LOSS, -1)] + [(BACKWARD, v) for v in reversed(range(k))]
        weights = [(WEIGHT, v) for v in range(k)] if self.decisions.split_backward else []
        if set(useful) != {*order, *weights}:
            expected = len(order) + len(weights)
            self.wrong("completeness", f"has done {len(useful)} tasks of the {expected} of a route", b)
            return
        stages = [useful[FORWARD, v].stage for v in range(k)]
        if stages[0] != 0 or len(set(stages)) != k:
            self.wrong("route", f"visits the stages {stages}", b)
        for span in useful.values():
            self._place_and_length(b, span, useful[FORWARD, 0 if span.work == LOSS else span.visit])
        for before, then in pairwise(order):
            self._message(b, useful[before], useful[then], None if LOSS in (before[0], then[0]) else then[1])
        for v in range(len(weights)):
            if useful[WEIGHT, v].start < useful[BACKWARD, v].end - self.tolerance:
                self.wrong("causality", f"weight gradients of visit {v} start before its backward pass ends", b)

    def _place_and_length(self, b: int, span: _Span, home: _Span) -> None:
        problem, chunks = self.problem, self.decisions.chunks
        host = span.stage % problem.n_stages
        if (span.node, span.stage) != (home.node, home.stage):
            self.wrong("route", f"does ({span.work}, {span.visit}) away from its forward pass", b, span.node)
        if self.decisions.placement[span.node] != host:
            self.wrong("route", f"does stage {span.stage} on a node of another stage", b, span.node)
        if not self.exact:
            return
        if span.work == LOSS:
            length = problem.loss[span.node]
        else:
            table = {FORWARD: problem.forward, BACKWARD: problem.backward, WEIGHT: problem.weight}
            length = table[span.work][span.node, host] / chunks
            if span.work == BACKWARD and self.decisions.split_backward:
                length -= problem.weight[span.node, host] / chunks
        if abs(span.end - span.start - length) > self.tolerance:
            lasts = f"lasts {span.end - span.start:.6g} s, expected {length:.6g} s"
            self.wrong("duration", f"({span.work}, {span.visit}) {lasts}", b, span.node)

    def _message(self, b: int, before: _Span, then: _Span, visit: int | None) -> None:
        known = self.exact and before.node != then.node
        message = float(self.problem.link[before.node, then.node]) if known else 0.0
        arrival = before.end + message
        sent = before.end
        if before.attempt == 0 < then.attempt and visit is not None and self.decisions.routes[b, visit] != then.node:
            sent = max(sent, self.noticed[0])  # to a node that nobody had thought of before
        if then.start < sent + message - self.tolerance:
            self.wrong("causality", f"({then.work}, {then.visit}) starts before its message arrives", b, then.node)
        if arrival > self.death_of(before.node) + self.tolerance:
            self.wrong("causality", f"the message from ({before.work}, {before.visit}) died with its sender", b)

    def collisions(self) -> None:
        by_node: dict[int, list[_Span]] = defaultdict(list)
        for span in self.spans:
            if span.work != SYNC:
                by_node[span.node].append(span)
        for n, spans in by_node.items():
            for a, c in pairwise(sorted(spans, key=lambda span: span.start)):
                rest = self.problem.injection_gap if (a.work, a.visit) == (FORWARD, 0) else self.problem.gap
                if any(a.end - self.tolerance <= m <= c.start + self.tolerance for m in self.restarts):
                    rest = 0.0
                if c.start < a.end + rest - self.tolerance:
                    self.wrong("collision", f"starts a task at {c.start:.6g} s before it is free", c.item, n)

    def memory(self) -> None:
        changes: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for spans in self.of.values():
            for span in spans:
                if span.work == FORWARD:
                    until = max(self._held_until(span, spans) - self.tolerance, span.start)
                    changes[span.node] += [(span.start, 1), (until, -1)]
        for n, steps in changes.items():
            level, slots = 0, self.problem.memory[n] * self.decisions.chunks
            for time, change in sorted(steps):
                level += change
                if level > slots:
                    self.wrong("memory", f"holds {level} activations at {time:.6g} s and has {slots} slots", n=n)
                    break

    def _held_until(self, forward: _Span, spans: Sequence[_Span]) -> float:
        freeing = WEIGHT if self.decisions.split_backward else BACKWARD
        for other in spans:
            if (other.work, other.visit, other.wasted) == (freeing, forward.visit, forward.wasted) and (
                not forward.wasted or other.attempt == forward.attempt
            ):
                return other.end
        begun = max(other.start for other in spans if other.attempt == forward.attempt)
        return min((m for m in self.noticed if m >= begun), default=np.inf)
