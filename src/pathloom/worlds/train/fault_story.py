"""An iteration as it unfolds while nodes die: what is known, what is decided, what was done in vain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.timeline import Timeline
from pathloom.worlds.train.attempts import Attempts, Conditions, Replay, replay
from pathloom.worlds.train.outlook import Outlook
from pathloom.worlds.train.problem import KINDS, SYNC, Floats
from pathloom.worlds.train.recovery import (
    ClusterView,
    MicrobatchState,
    Recovery,
    RecoveryPolicy,
    Status,
)
from pathloom.worlds.train.repair import Widening
from pathloom.worlds.train.simulator import sync_seconds

FAULT_KINDS = (*KINDS, "wasted")
WASTED = len(KINDS)


@dataclass(frozen=True)
class Failure:
    """A node (position in `TrainProblem.nodes`) dies at a second of the iteration."""

    node: int
    second: float


class Story:
    """An iteration as it unfolds: attempts so far, deaths so far, and what was thrown away."""

    def __init__(
        self, conditions: Conditions, failures: Sequence[Failure], detection: float, redo_gradients: bool
    ) -> None:
        self.conditions = self.conditions_at_start = conditions
        self.problem, self.decisions = conditions.problem, conditions.decisions
        first: dict[int, float] = {}
        for failure in sorted(failures, key=lambda f: f.second):
            first.setdefault(failure.node, failure.second)
        self.failures = tuple(Failure(node, second) for node, second in first.items())
        self.detection = detection
        self.redo_gradients = redo_gradients
        self.attempts = Attempts.planned(self.decisions)
        self.lost: set[int] = set()
        self.rerouted: set[int] = set()
        self.widening = Widening()
        self.finished = np.nan
        self.thrown_away: list[tuple[Replay, float]] = []

    def run(self, policy: RecoveryPolicy) -> None:
        """Let the failures happen one after another, and the policy decide after each."""
        self.now = self._replay(())
        known: list[Failure] = []
        for time in sorted({f.second + self.detection for f in self.failures}):
            fresh = [f for f in self.failures if f.second + self.detection == time]
            if min(f.second for f in fresh) >= self.finish(self.now, known):
                break  # the iteration was over before
            known += fresh
            happened = [f for f in self.failures if f.second <= time]
            self.now = self._replay(happened)
            if self.now.completed.all() and not self.redo_gradients:
                continue
            view = self._view(time, known)
            recovery = policy.decide(view)
            self._apply(view, recovery)
            self.now = self._replay(happened)
        happened = [f for f in self.failures if f.second < self.finish(self.now, self.failures)]
        self.now = self._replay(happened)
        # nodes that wait for each other's slots for ever: possible where noise turns a policy's reckoning over
        self.finished = self.finish(self.now, happened) if self.now.completed.all() else np.inf

    def _replay(
        self, failures: Sequence[Failure], attempts: Attempts | None = None, conditions: Conditions | None = None
    ) -> Replay:
        return replay(conditions or self.conditions, attempts or self.attempts, {f.node: f.second for f in failures})

    def syncs(self, run: Replay, failures: Sequence[Failure]) -> Floats:
        """Start and end of each stage's gradient averaging, shape (S, 2); empty where it is not part of the problem.

        The members are the nodes that live when it starts; if one of them dies meanwhile, the others begin again once
        they have noticed.
        """
        if self.problem.sync_latency is None:
            return np.zeros((0, 2))
        placement = np.asarray(self.decisions.placement, dtype=np.int64)
        done = np.zeros(self.problem.n_stages)
        ended = np.where(run.useful, np.nan_to_num(run.end), 0.0)
        np.maximum.at(done, placement[run.laid.node].ravel(), ended.ravel())
        return self._averaging(done, failures)

    def _last_averaging(self, done: Floats, failures: Sequence[Failure]) -> float:
        if self.problem.sync_latency is None:
            return 0.0
        return float(self._averaging(done, failures)[:, 1].max())

    def _averaging(self, done: Floats, failures: Sequence[Failure]) -> Floats:
        placement, done = np.array(self.decisions.placement, dtype=np.int64), done.copy()
        until = done + sync_seconds(self.problem, placement)
        for failure in sorted(failures, key=lambda f: f.second):
            p = placement[failure.node]
            if failure.second >= until[p]:
                continue
            placement[failure.node] = -1
            done[p] = max(done[p], failure.second + self.detection)
            until[p] = done[p] + sync_seconds(self.problem, placement)[p]
        return np.stack([done, until], axis=1)

    def finish(self, run: Replay, failures: Sequence[Failure]) -> float:
        """End of the iteration: last useful task, and last averaging."""
        ends = run.end[run.useful]
        last = float(np.nan_to_num(ends).max(initial=0.0))
        return max(last, float(self.syncs(run, failures)[:, 1].max(initial=0.0)))

    def _view(self, time: float, dead: Sequence[Failure]) -> ClusterView:
        run, problem = self.now, self.problem
        live = np.ones(problem.n_nodes, dtype=np.bool_)
        live[[f.node for f in dead]] = False
        states = tuple(self._state(run, b, int(row), live, time) for b, row in enumerate(run.attempts.present))
        visits = np.zeros(problem.n_nodes, dtype=np.int64)
        for state in states:
            if state.status in ("returned", "in flight"):
                visits[list(set(state.route))] += 1
        base = self.conditions
        known = Conditions(problem, self.decisions, base.disturbances, base.seed, min(base.loosen_at, time), time)

        deaths = {f.node: f.second for f in dead}
        outlook = Outlook(known, run, time, deaths, lambda done: self._last_averaging(done, dead))
        after = self.decisions.after
        return ClusterView(
            time=time,
            problem=problem,
            placement=np.asarray(self.decisions.placement, dtype=np.int64),
            chunks=self.decisions.chunks,
            live=live,
            microbatches=states,
            plan_after=np.full(len(states), -1) if after is None else np.asarray(after, dtype=np.int64),
            visits=visits,
            expect=outlook,
        )

    def _state(self, run: Replay, b: int, row: int, live: NDArray[np.bool_], time: float) -> MicrobatchState:
        attempts, laid, k = run.attempts, run.laid, run.attempts.routes.shape[1]
        node, end, first = laid.node[row], run.end[row], int(attempts.first[row])
        begun = run.start[row] <= time
        begun[:first] = True
        dead = ~live[node]
        mine = np.arange(len(node)) >= first
        gradients_gone = self.redo_gradients and bool((dead & mine & (laid.slot == -1) & (end <= time)).any())
        status: Status
        if first == 0 and not begun[0]:
            status = "waiting"
        elif (dead & mine & ~(end <= time)).any() or self._lost_message(run, row, dead, time) or gradients_gone:
            status = "lost"
        else:
            status = "returned" if end[laid.chain - 1] <= time else "in flight"
        forwards = int(begun[:k].sum())
        resume = 0
        if status == "lost" and not gradients_gone:
            gap = int(np.argmax(dead[:k])) if dead[:k].any() else k
            resume = min(gap, forwards, k - 1)
            backwards = 2 * k - np.arange(resume)  # backward passes of the visits that would be kept
            if begun[backwards].any():
                resume = 0
        waits_for = int(attempts.after[row])
        return MicrobatchState(
            b,
            status,
            tuple(attempts.routes[row].tolist()),
            tuple(attempts.stages[row].tolist()),
            forwards,
            resume,
            int(attempts.microbatch[waits_for]) if waits_for >= 0 else -1,
        )

    @staticmethod
    def _lost_message(run: Replay, row: int, dead: NDArray[np.bool_], time: float) -> bool:
        """Whether a message of the row was on its way when the dead node that sent it died."""
        for t in np.flatnonzero(dead[: run.laid.chain - 1] & (run.end[row, : run.laid.chain - 1] <= time)):
            if np.isnan(run.start[row, t + 1]) or run.start[row, t + 1] > time:
                arrival = run.end[row, t] + run.message(row, int(t))
                if arrival > run.fail_at[run.laid.node[row, t]]:
                    return True
        return False

    def _attempts_after(self, recovery: Recovery, time: float) -> Attempts:
        if recovery.restart:
            return Attempts.restarted(self.decisions, recovery.reissues, time)
        return self.attempts.extended(recovery.reissues, time, self.now)

    def _apply(self, view: ClusterView, recovery: Recovery) -> None:
        """Carry a decision out, after a look at whether it leaves anybody behind."""
        given = {r.microbatch for r in recovery.reissues}
        needed = {m.index for m in (*view.lost, *view.stranded)}
        if recovery.restart:
            needed = set(range(len(view.microbatches)))
        if needed - given:
            raise ValueError(f"the policy leaves microbatches without a new attempt: {sorted(needed - given)}")
        for r in recovery.reissues:
            if not view.live[list(r.route)].all():
                raise ValueError(f"the policy sends mb{r.microbatch} to a dead node")
            if r.first > view.microbatches[r.microbatch].resume:
                raise ValueError(f"mb{r.microbatch} cannot go on from visit {r.first}")
        abandoned = {m.index for m in view.microbatches if m.status != "waiting"} & given
        for m in view.microbatches:
            if m.status == "waiting" and m.after in abandoned and m.index not in given:
                raise ValueError(f"mb{m.index} waits for mb{m.after}, which gets a new attempt, and has none itself")
        if not recovery.reissues:
            return
        for r in recovery.reissues:
            before = view.microbatches[r.microbatch]
            if before.status == "waiting" and r.route != before.route:
                self.rerouted.add(r.microbatch)
        self.lost |= {m.index for m in view.lost} if not recovery.restart else abandoned
        self.widening |= recovery.widening
        if recovery.restart:
            self.thrown_away.append((self.now, view.time))
        self.attempts = self._attempts_after(recovery, view.time)
        base = self.conditions
        loosen_at = min(base.loosen_at, view.time)
        self.conditions = Conditions(self.problem, self.decisions, base.disturbances, base.seed, loosen_at)

    def incomplete_gradients(self) -> list[int]:
        """Microbatches with a counted backward pass on a node that had died by the end."""
        run = self.now
        freeing = run.useful & (run.laid.slot == -1) & np.isfinite(run.fail_at)[run.laid.node]
        return sorted(set(run.attempts.microbatch[freeing.any(axis=1)].tolist()))

    def timeline(self) -> Timeline:
        """Everything that happened, wasted work included."""
        parts = [self._spans(run, until, whole=False) for run, until in self.thrown_away]
        parts.append(self._spans(self.now, self.finished, whole=True))  # nobody cares what dropped attempts do later
        counts = np.zeros(len(self.decisions.routes), dtype=np.int64)
        for part in parts:  # attempts are counted on over restarts
            seen = part["item"]
            here = counts[seen]
            part["attempt"] = part["attempt"] + here
            np.maximum.at(counts, seen, part["attempt"] + 1)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        items: tuple[str, ...] = tuple(f"mb{b}" for b in range(len(self.decisions.routes)))
        happened = [f for f in self.failures if np.isfinite(self.now.fail_at[f.node])]
        syncs = self.syncs(self.now, happened)
        if len(syncs):
            dead = {f.node for f in happened}
            placement = np.asarray(self.decisions.placement)
            nodes = np.array(
                [
                    n
                    for n in range(self.problem.n_nodes)
                    if n not in dead or self.now.fail_at[n] >= syncs[placement[n], 1]
                ],
                dtype=np.int64,
            )
            stage = placement[nodes]
            extra = {
                "node": nodes,
                "item": np.full(len(nodes), len(items)),
                "kind": np.full(len(nodes), SYNC),
                "start": syncs[stage, 0],
                "end": syncs[stage, 1],
                "stage": stage,
                "visit": np.full(len(nodes), -1),
                "attempt": np.zeros(len(nodes), dtype=np.int64),
                "work": np.full(len(nodes), SYNC),
            }
            columns = {name: np.concatenate([column, extra[name]]) for name, column in columns.items()}
            items = (*items, "sync")
        return Timeline(
            columns["node"],
            columns["item"],
            columns["kind"],
            columns["start"],
            columns["end"],
            resources=self.problem.nodes,
            items=items,
            kinds=FAULT_KINDS,
            columns={name: columns[name].astype(np.int32) for name in ("stage", "visit", "attempt", "work")},
        ).sorted()

    @staticmethod
    def _spans(run: Replay, until: float, *, whole: bool) -> dict[str, NDArray[Any]]:
        """Columns of what ran before `until`; what was running then, or on a node that died, is cut off."""
        laid, attempts = run.laid, run.attempts
        stop = np.minimum(run.fail_at[laid.node], until)
        end = np.where(np.isfinite(run.end), np.minimum(run.end, until), stop)
        ran = (run.start < until) & np.isfinite(run.start)
        useful = run.useful & np.isfinite(run.end) if whole else np.zeros(ran.shape, dtype=np.bool_)
        number = np.zeros(len(attempts), dtype=np.int64)
        for row, b in enumerate(attempts.microbatch):
            number[row] = int((attempts.microbatch[:row] == b).sum())
        kind = np.broadcast_to(laid.kind, ran.shape)
        grid: dict[str, NDArray[Any]] = {
            "node": laid.node,
            "item": np.broadcast_to(attempts.microbatch[:, None], ran.shape),
            "kind": np.where(useful, kind, WASTED),
            "start": run.start,
            "end": end,
            "stage": laid.stage,
            "visit": np.broadcast_to(laid.visit, ran.shape),
            "attempt": np.broadcast_to(number[:, None], ran.shape),
            "work": kind,
        }
        return {name: column[ran] for name, column in grid.items()}
