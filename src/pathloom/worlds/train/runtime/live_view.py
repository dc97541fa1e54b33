"""A running iteration as its coordinator knows it, shown to a recovery policy the way the simulator shows its own.

Nodes report which tasks they have begun and ended; the coordinator says which nodes it has lost. From that alone follow
the state of every microbatch, what a recovery would lead to, and, once a policy has decided, what every live node has
to do. Attempts are numbered as in `pathloom.worlds.train.attempts`; after a restart the numbers go on, so that a late
report of an attempt that was thrown away is not taken for one of a new attempt.

One moment is delicate: a node that ends a backward pass after the decision was taken, and before it hears of it, has
counted a gradient that will be counted again. A coordinator that lets its nodes stand still while it decides (they
finish their task, report, and wait for the decision) has no such moment; otherwise `LiveIteration.doubled` names what
was counted twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.timeline import Timeline
from pathloom.worlds.train.attempts import Attempts, Conditions, Replay
from pathloom.worlds.train.fault_story import FAULT_KINDS, WASTED
from pathloom.worlds.train.problem import Floats, TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import ClusterView, MicrobatchState, Recovery, Status
from pathloom.worlds.train.runtime.applied_recovery import AppliedRecovery, NewAttempt, must_fit
from pathloom.worlds.train.runtime.gradient_ledger import LOSS_GRADIENT, Gradient, GradientLedger, gradients_of
from pathloom.worlds.train.runtime.live_outlook import LiveOutlook, planned_order
from pathloom.worlds.train.runtime.reported_times import ReportedTimes, numbers_of_attempts
from pathloom.worlds.train.simulator import sync_seconds


class LiveIteration:
    """Bookkeeping of one real iteration.

    Parameters
    ----------
    problem
        The plan's. Speeds of nodes and links, and rests, are corrected by what is measured; see `ReportedTimes.pace`.
    decisions
        The plan's.
    redo_gradients
        Microbatches whose gradients die with a node are lost, and done again; otherwise those gradients are given up.
    """

    def __init__(self, problem: TrainProblem, decisions: TrainDecisions, *, redo_gradients: bool = False) -> None:
        self.problem = problem
        self.decisions = planned_order(problem, decisions)
        self.redo_gradients = redo_gradients
        self.live: NDArray[np.bool_] = np.ones(problem.n_nodes, dtype=np.bool_)
        self._died: dict[int, float] = {}
        self._noticed: dict[int, float] = {}
        self._times = ReportedTimes(problem, self.decisions, Attempts.planned(self.decisions))
        self._ledger = GradientLedger()
        self._base = 0  # number of the first attempt since the last restart
        self._past: list[tuple[int, ReportedTimes, float]] = []  # what restarts threw away: base, reports, when

    @property
    def attempts(self) -> Attempts:
        """All attempts since the last restart; the first of them has the number `base`."""
        return self._times.attempts

    @property
    def base(self) -> int:
        """Number of the first attempt since the last restart."""
        return self._base

    def report(self, row: int, task: int, start: float, end: float) -> None:
        """A task has begun and, unless `end` is nan, ended. Reports may come late and in any order.

        Parameters
        ----------
        row
            Number of the attempt.
        task
            As in `Chains`: with K visits, t < K is the forward pass of visit t, K the loss, K < t <= 2K the backward
            pass of visit 2K - t, and t > 2K, where weight gradients are tasks of their own, that of visit 3K - t.
        start, end
            Seconds since the iteration began, on the coordinator's clock.

        Raises
        ------
        ValueError
            If there is no such attempt or task, or the times are no seconds.
        """
        times, own = self._find(row, task)
        times.report(own, task, float(start), float(end))

    def delivered(self, row: int, task: int) -> None:
        """The message after a task has arrived, so that the death of its sender does not take it along."""
        times, own = self._find(row, task)
        times.delivered[own, task] = True

    def node_lost(self, node: int, second: float) -> None:
        """A node has died or is given up; nothing that it reports from now on is waited for."""
        self.live[node] = False
        self._died.setdefault(node, float(second))

    def view(self, now: float) -> ClusterView:
        """The state of the iteration for a policy, see `ClusterView`."""
        history = self._history(now)
        states = self._states(history, now)
        visits = np.zeros(self.problem.n_nodes, dtype=np.int64)
        for state in states:
            if state.status in ("returned", "in flight"):
                visits[list(set(state.route))] += 1
        after = self.decisions.after
        return ClusterView(
            time=now,
            problem=self.problem,
            placement=np.asarray(self.decisions.placement, dtype=np.int64),
            chunks=self.decisions.chunks,
            live=self.live.copy(),
            microbatches=states,
            plan_after=np.full(len(states), -1) if after is None else np.asarray(after, dtype=np.int64),
            visits=visits,
            expect=self._outlook(history, now),
        )

    def apply(self, recovery: Recovery, now: float) -> AppliedRecovery:
        """Carry a decision out. Do so after every death, even if the policy changes nothing: see `counted`.

        Raises
        ------
        ValueError
            If the decision leaves a microbatch behind or cannot be carried out, because the policy is wrong or because
            the cluster has gone on since it looked.
        """
        view = self.view(now)
        must_fit(view, recovery)
        outlook = view.expect
        assert isinstance(outlook, LiveOutlook)
        expected = outlook(recovery)
        if recovery.reissues and not np.isfinite(expected.seconds):
            never = np.flatnonzero(np.isnan(expected.returned)).tolist()
            raise ValueError(f"the policy sends microbatches over links that are missing: {never} never return")
        stuck, starts = outlook.stuck, outlook.starts(recovery)
        self._ledger.settle(self._times, self._times.known(now)[1])
        dropped = self._carry_out(recovery, outlook, now)
        counted = self._not_to_count()
        self._ledger.tell(now, frozenset(counted))
        return AppliedRecovery(
            time=now,
            restart=recovery.restart,
            attempts=self._new_attempts(recovery),
            dropped=dropped,
            counted=counted,
            keys=self._keys(starts),
            widening=recovery.widening,
            expected_end=expected.seconds,
            stuck=stuck,
        )

    def incomplete(self) -> list[Gradient]:
        """Microbatch and stage of gradients that died with a node and are given up."""
        if self.redo_gradients:
            return []
        return [gradient for gone in self._gradients_gone(self._times.known()[1]) for gradient in gone]

    def counted_at(self) -> list[tuple[int, int]]:
        """Live node and stage of every gradient that one holds."""
        self._ledger.settle(self._times, self._times.known()[1])
        return [(node, stage) for (_, stage), node in self._ledger.held(self.live).items() if stage != LOSS_GRADIENT]

    def microbatch_of(self, row: int) -> int:
        """Microbatch that the attempt of this number attempts; ValueError if there is no such attempt."""
        times, own = self._find(row, 0)
        return int(times.attempts.microbatch[own])

    def doubled(self) -> list[Gradient]:
        """Gradients that two live nodes have counted, see the top of this file."""
        self._ledger.settle(self._times, self._times.known()[1])
        return self._ledger.doubled(self.live)

    def passes(self) -> dict[int, tuple[float, float]]:
        """Median seconds that a stage's forward and backward pass took on each node that has done one."""
        return self._times.passes()

    @property
    def done(self) -> bool:
        """Whether every microbatch has returned and all weight gradients have been computed."""
        last = self._times.end[self.attempts.present, self._times.laid.chain - 1 :]
        if np.isnan(last).all(axis=1).any():
            return False  # the usual answer, at little cost
        start, end = self._times.known()
        useful = self._replay(start, end).useful
        if np.isnan(end[useful]).any():
            return False
        return not self.redo_gradients or not any(self._gradients_gone(end))

    def timeline(self) -> Timeline:
        """What has really happened, wasted work included; kinds and columns as those of a simulated failure."""
        current = self._times
        useful = self._replay(*current.known()).useful
        parts = [self._spans(times, np.zeros_like(times.delivered), until) for _, times, until in self._past]
        parts.append(self._spans(current, useful, np.inf))
        begun = np.zeros(len(self.decisions.routes), dtype=np.int64)
        for part in parts:  # attempts are counted on over restarts
            part["attempt"] = part["attempt"] + begun[part["item"]]
            np.maximum.at(begun, part["item"], part["attempt"] + 1)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return Timeline(
            columns["node"],
            columns["item"],
            columns["kind"],
            columns["start"],
            columns["end"],
            resources=self.problem.nodes,
            items=tuple(f"mb{b}" for b in range(len(self.decisions.routes))),
            kinds=FAULT_KINDS,
            columns={name: columns[name].astype(np.int32) for name in ("stage", "visit", "attempt", "work")},
        ).sorted()

    def _find(self, row: int, task: int) -> tuple[ReportedTimes, int]:
        kept = [*((base, times) for base, times, _ in self._past), (self._base, self._times)]
        for base, times in reversed(kept):
            if row >= base:
                if row - base >= len(times.start):
                    break
                if not 0 <= task < times.start.shape[1]:
                    raise ValueError(f"there is no task {task}: attempts have {times.start.shape[1]}")
                return times, row - base
        raise ValueError(f"there is no attempt {row}")

    def _replay(self, start: Floats, end: Floats) -> Replay:
        fail_at = np.full(self.problem.n_nodes, np.inf)
        fail_at[list(self._died)] = list(self._died.values())
        conditions = Conditions(self.problem, self.decisions)
        laid = self._times.laid
        return Replay(self.attempts, conditions, laid, laid.hop, fail_at, start, end)

    def _history(self, now: float) -> Replay:
        for node in self._died:
            self._noticed.setdefault(node, now)
        return self._replay(*self._times.known(now))

    def _outlook(self, history: Replay, now: float) -> LiveOutlook:
        """The outlook at the speeds measured so far, with tasks under way taken to end as planned, or right now."""
        pace = self._times.pace()
        laid, running = history.laid, np.isfinite(history.start) & np.isnan(history.end) & self.live[history.laid.node]
        due = np.maximum(history.start + laid.duration * pace.nodes[laid.node], now)
        estimated = self._replay(history.start, np.where(running, due, history.end))
        return LiveOutlook(
            Conditions(pace.of(self.problem), self.decisions),
            estimated,
            self._times.delivered,
            now,
            list(self._died),
            self._end_of_averaging,
        )

    def _end_of_averaging(self, done: Floats) -> float:
        """End of the last stage's gradient averaging, if it is part of the problem; `done` has shape (S,)."""
        if self.problem.sync_latency is None:
            return 0.0
        placement, done = np.array(self.decisions.placement, dtype=np.int64), done.copy()
        until = done + sync_seconds(self.problem, placement)
        for node, second in sorted(self._died.items(), key=lambda death: death[1]):
            p = placement[node]
            if second < until[p]:
                placement[node] = -1
                done[p] = max(done[p], self._noticed.get(node, second))
                until[p] = done[p] + sync_seconds(self.problem, placement)[p]
        return float(until.max())

    def _states(self, history: Replay, now: float) -> tuple[MicrobatchState, ...]:
        gone = [[]] * len(self.attempts.present) if not self.redo_gradients else self._gradients_gone(history.end)
        return tuple(self._state(history, b, int(row), bool(gone[b])) for b, row in enumerate(self.attempts.present))

    def _state(self, history: Replay, b: int, row: int, gradients_gone: bool) -> MicrobatchState:
        attempts, laid, k = self.attempts, history.laid, self.attempts.routes.shape[1]
        first = int(attempts.first[row])
        begun, ended = np.isfinite(history.start[row]), np.isfinite(history.end[row])
        begun[:first] = True
        dead = ~self.live[laid.node[row]]
        mine = np.arange(len(dead)) >= first
        # a message is lost with its sender unless it is known to have come
        lost_message = dead & ended & ~self._times.delivered[row]
        lost_message[laid.chain - 1 :] = False
        lost_message[: laid.chain - 1] &= ~begun[1 : laid.chain]
        status: Status
        if first == 0 and not begun[0]:
            status = "waiting"
        elif (dead & mine & ~ended).any() or lost_message.any() or gradients_gone:
            status = "lost"
        else:
            status = "returned" if ended[laid.chain - 1] else "in flight"
        forwards = int(begun[:k].sum())
        resume = 0
        if status == "lost" and not gradients_gone:
            gap = int(np.argmax(dead[:k])) if dead[:k].any() else k
            resume = min(gap, forwards, k - 1)
            if begun[2 * k - np.arange(resume)].any():  # an activation that would be kept is being used up
                resume = 0
        after = int(attempts.after[row])
        return MicrobatchState(
            b,
            status,
            tuple(attempts.routes[row].tolist()),
            tuple(attempts.stages[row].tolist()),
            forwards,
            resume,
            int(attempts.microbatch[after]) if after >= 0 else -1,
        )

    def _gradients_gone(self, end: Floats) -> list[list[Gradient]]:
        """For each microbatch the gradients of its present attempt that are due and that no live node holds."""
        self._ledger.settle(self._times, end)
        held = self._ledger.held(self.live)
        return [
            [
                gradient
                for t, gradient in gradients_of(self._times.laid, int(row), b)
                if gradient[1] != LOSS_GRADIENT and np.isfinite(end[row, t]) and gradient not in held
            ]
            for b, row in enumerate(self.attempts.present)
        ]

    def _carry_out(self, recovery: Recovery, outlook: LiveOutlook, now: float) -> tuple[int, ...]:
        """Extend the attempts, or begin them anew; numbers of those that are dropped."""
        if not recovery.reissues:
            return ()
        attempts = outlook.attempts(recovery)
        given = [r.microbatch for r in recovery.reissues]
        dropped = tuple(sorted((self._base + self.attempts.present[given]).tolist()))
        if recovery.restart:
            self._past.append((self._base, self._times, now))
            self._base += len(self.attempts)
            self._times = ReportedTimes(self.problem, self.decisions, attempts)
            self._ledger = GradientLedger()
        else:
            self._times.extend(attempts)
        return dropped

    def _new_attempts(self, recovery: Recovery) -> tuple[NewAttempt, ...]:
        attempts, base = self.attempts, self._base
        rows = range(len(attempts) - len(recovery.reissues), len(attempts))
        return tuple(
            NewAttempt(
                row=base + row,
                microbatch=r.microbatch,
                route=tuple(r.route),
                stages=tuple(r.stages),
                first=r.first,
                parent=base + int(attempts.parent[row]) if r.first > 0 else -1,
                after=base + int(attempts.after[row]) if attempts.after[row] >= 0 else -1,
                release=float(attempts.release[row]),
            )
            for row, r in zip(rows, recovery.reissues, strict=True)
        )

    def _not_to_count(self) -> dict[Gradient, int]:
        """Gradients that live nodes hold and that attempts under way have yet to compute once more."""
        held = self._ledger.held(self.live)
        ahead = np.isnan(self._times.known()[1])
        gradients = [
            gradient
            for b, row in enumerate(self.attempts.present)
            for t, gradient in gradients_of(self._times.laid, int(row), b)
            if ahead[row, t]
        ]
        return {gradient: held[gradient] for gradient in gradients if gradient in held}

    def _keys(self, starts: Floats) -> dict[int, Floats]:
        unfinished = [int(row) for row in self.attempts.present if np.isnan(self._times.end[row]).any()]
        return {self._base + row: np.nan_to_num(starts[row], nan=0.0) for row in unfinished}

    def _spans(self, times: ReportedTimes, useful: NDArray[np.bool_], until: float) -> dict[str, NDArray[Any]]:
        """Columns of what ran before `until`; what a death or a decision cut off ends there."""
        laid, attempts = times.laid, times.attempts
        start, end = times.known()
        died = np.full(self.problem.n_nodes, np.inf)
        died[list(self._died)] = list(self._died.values())
        cut = np.minimum(np.minimum(died[laid.node], until), attempts.dropped_at[:, None])
        stop = np.maximum(np.where(np.isnan(end), cut, np.minimum(end, until)), start)
        ran = (start < until) & np.isfinite(stop)  # a task that is going on has no span yet
        kind = np.broadcast_to(laid.kind, ran.shape)
        grid: dict[str, NDArray[Any]] = {
            "node": laid.node,
            "item": np.broadcast_to(attempts.microbatch[:, None], ran.shape),
            "kind": np.where(useful & np.isfinite(end), kind, WASTED),
            "start": start,
            "end": stop,
            "stage": laid.stage,
            "visit": np.broadcast_to(laid.visit, ran.shape),
            "attempt": np.broadcast_to(numbers_of_attempts(attempts.microbatch)[:, None], ran.shape),
            "work": kind,
        }
        return {name: column[ran] for name, column in grid.items()}
