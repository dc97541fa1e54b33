"""Attempts: what has been started, dropped and started again in an iteration whose nodes die, and its exact replay.

Every microbatch begins as one attempt. When a node's death costs it that attempt, the attempt is dropped (its slots
become free) and another one is appended: from a source anew, or from the last node before the gap, which still holds
the activation. Nothing is ever removed, so the simulator replays the history to the last bit before it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pathloom.simulate._kernels import run_chains, workspace
from pathloom.worlds.train.problem import Floats, Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.simulator import Chains, Disturbances, chains, noise_factors, order_of_work


class Reissue(NamedTuple):
    """A new attempt of a microbatch.

    Attributes
    ----------
    microbatch
        Its index.
    route, stages
        Node and stage of each of the K visits.
    first
        Visit with which the attempt begins; the visits before it are those of the attempt that it continues, whose
        nodes still hold their activations. 0: from the source.
    after
        Microbatch that must have returned before this one is injected, -1 for none.
    """

    microbatch: int
    route: tuple[int, ...]
    stages: tuple[int, ...]
    first: int = 0
    after: int = -1


@dataclass(frozen=True)
class Attempts:
    """All attempts of an iteration, one row each; the last row of a microbatch is its present one.

    Attributes
    ----------
    microbatch
        Shape (R,): which microbatch the row attempts.
    routes, stages
        Shape (R, K).
    begun
        Shape (R,): second at which the attempt was decided, 0 for the plan's own.
    release, after
        Shape (R,): earliest start of the row's first task, and the row that must have returned before (-1 for none).
    first
        Shape (R,): visit with which the row begins; the forward passes before it are those of row `parent`.
    parent, heir
        Shape (R,): the row whose activations this one takes over, and the row that takes over from it; -1 for none.
    dropped_at
        Shape (R,): second at which the row was dropped, infinity if it was not.
    """

    microbatch: Ints
    routes: Ints
    stages: Ints
    begun: Floats
    release: Floats
    after: Ints
    first: Ints
    parent: Ints
    heir: Ints
    dropped_at: Floats

    def __len__(self) -> int:
        return len(self.microbatch)

    @cached_property
    def present(self) -> Ints:
        """Shape (B,): present row of each microbatch."""
        rows = np.full(int(self.microbatch.max(initial=-1)) + 1, -1, dtype=np.int64)
        rows[self.microbatch] = np.arange(len(self))  # the last assignment stands
        return rows

    @classmethod
    def planned(cls, decisions: TrainDecisions) -> Attempts:
        """The plan's own attempts."""
        routes = np.asarray(decisions.routes, dtype=np.int64)
        n = len(routes)
        return cls._new(
            np.arange(n),
            routes,
            np.asarray(decisions.stages, dtype=np.int64),
            np.zeros(n),
            np.zeros(n) if decisions.release is None else np.asarray(decisions.release, dtype=np.float64),
            np.full(n, -1) if decisions.after is None else np.asarray(decisions.after, dtype=np.int64),
        )

    @classmethod
    def restarted(cls, decisions: TrainDecisions, reissues: Sequence[Reissue], time: float) -> Attempts:
        """The iteration from its beginning at `time`, with other routes; releases are the plan's, shifted."""
        microbatch = np.array([r.microbatch for r in reissues], dtype=np.int64)
        row_of = np.argsort(microbatch)
        return cls._new(
            microbatch,
            np.array([r.route for r in reissues], dtype=np.int64),
            np.array([r.stages for r in reissues], dtype=np.int64),
            np.full(len(reissues), time),
            cls.planned(decisions).release[microbatch] + time,
            np.array([row_of[r.after] if r.after >= 0 else -1 for r in reissues], dtype=np.int64),
        )

    @classmethod
    def _new(
        cls, microbatch: Ints, routes: Ints, stages: Ints, begun: Floats, release: Floats, after: Ints
    ) -> Attempts:
        n = len(routes)
        none = np.full(n, -1, dtype=np.int64)
        return cls(
            microbatch, routes, stages, begun, release, after, np.zeros(n, np.int64), none, none, np.full(n, np.inf)
        )

    def extended(self, reissues: Sequence[Reissue], time: float, history: Replay) -> Attempts:
        """Drop the present attempts of the microbatches at `time` and append new ones.

        Parameters
        ----------
        history
            Replay of these attempts, from which the time is read at which a continued microbatch can leave the last
            node that it keeps.
        """
        n_old, present = len(self), self.present
        old = np.array([present[r.microbatch] for r in reissues], dtype=np.int64)
        new = np.arange(n_old, n_old + len(reissues))
        row_of = present.copy()
        row_of[[r.microbatch for r in reissues]] = new
        heir, dropped_at = self.heir.copy(), self.dropped_at.copy()
        dropped_at[old] = time
        first = np.array([r.first for r in reissues], dtype=np.int64)
        heir[old[first > 0]] = new[first > 0]
        release = [
            time if r.first == 0 else history.leaves(int(row), r.first, r.route, time)
            for r, row in zip(reissues, old, strict=True)
        ]
        after = [row_of[r.after] if r.after >= 0 and r.first == 0 else -1 for r in reissues]
        return Attempts(
            microbatch=np.append(self.microbatch, [r.microbatch for r in reissues]).astype(np.int64),
            routes=np.concatenate([self.routes, np.array([r.route for r in reissues], dtype=np.int64)]),
            stages=np.concatenate([self.stages, np.array([r.stages for r in reissues], dtype=np.int64)]),
            begun=np.append(self.begun, np.full(len(reissues), time)),
            release=np.append(self.release, release),
            after=np.append(self.after, after).astype(np.int64),
            first=np.append(self.first, first),
            parent=np.append(self.parent, np.where(first > 0, old, -1)),
            heir=np.append(heir, np.full(len(reissues), -1)),
            dropped_at=np.append(dropped_at, np.full(len(reissues), np.inf)),
        )


@dataclass(frozen=True)
class Conditions:
    """All about a run but its attempts.

    Attributes
    ----------
    problem, decisions
        What was planned; routes are the attempts'.
    disturbances
        Windows and noise (failures are `fail_at`'s).
    seed
        Seed of the noise.
    loosen_at
        Second from which nodes no longer wait for a strict order of work, which a failure has made void.
    known_until
        Noise on tasks that start, and on messages that leave, later than this is left out: what a policy may know.
    """

    problem: TrainProblem
    decisions: TrainDecisions
    disturbances: Disturbances = field(default_factory=Disturbances)
    seed: int = 0
    loosen_at: float = np.inf
    known_until: float = np.inf

    def factors(self, n_rows: int, n_tasks: int) -> tuple[Floats, Floats]:
        """Noise on tasks and messages, shape (R, T); the plan's own rows get the draws of `simulator.simulate`."""
        planned = len(self.decisions.routes)
        noise = self.disturbances.noise
        parts = [noise_factors(noise, self.seed, (planned, n_tasks))]
        # one generator a row, so that what a policy appends changes no other row's noise
        parts += [noise_factors(noise, self.seed + 1_000_003 * (r + 1), (1, n_tasks)) for r in range(planned, n_rows)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


@dataclass(frozen=True)
class Replay:
    """Times of all attempts.

    Attributes
    ----------
    laid
        The attempts as chains of tasks; visit k's forward pass is task k.
    hop
        Shape (R, T): seconds of the message after each task, noise included, windows not.
    fail_at
        Shape (N,): second of each node's death, infinity for none.
    start, end
        Shape (R, T), seconds; nan for tasks that never started, or never ended.
    """

    attempts: Attempts
    conditions: Conditions
    laid: Chains
    hop: Floats
    fail_at: Floats
    start: Floats
    end: Floats

    @cached_property
    def useful(self) -> NDArray[np.bool_]:
        """Shape (R, T): tasks that count, because they belong to a present attempt or to what it continues."""
        attempts, shape = self.attempts, self.start.shape
        counts = np.zeros(shape, dtype=np.bool_)
        for row in attempts.present:
            until = shape[1]
            while row >= 0:
                counts[row, attempts.first[row] : until] = True
                until = min(until, int(attempts.first[row]))  # it may go on from earlier than the one before
                row = attempts.parent[row]
        return counts

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Shape (B,): microbatches of which every task has ended."""
        missing = self.useful & ~np.isfinite(self.end)
        done = np.ones(len(self.attempts.present), dtype=np.bool_)
        np.logical_and.at(done, self.attempts.microbatch, ~missing.any(axis=1))
        return done

    @property
    def returned(self) -> Floats:
        """Shape (B,): last return of each microbatch, nan where it is lost."""
        return self.end[self.attempts.present, self.laid.chain - 1]

    def message(self, row: int, task: int, to: int | None = None, at: float | None = None) -> float:
        """Seconds that the message after a task takes; to another node, or at another time, if given."""
        source, planned = int(self.laid.node[row, task]), int(self.laid.node[row, task + 1])
        target = planned if to is None else to
        seconds = float(self.hop[row, task])
        if target != planned:
            seconds = 0.0 if target == source else float(self.conditions.problem.link[source, target])
        moment = float(self.end[row, task]) if at is None else at
        for i, j, begin, until, factor in self.conditions.disturbances.link_windows:
            if (i, j) == (source, target) and begin <= moment < until:
                seconds *= factor
        return seconds

    def leaves(self, row: int, first: int, route: Sequence[int], time: float) -> float:
        """Second at which visit `first` of a new route can begin for a microbatch that continues a row from there."""
        attempts = self.attempts
        same_node = route[first] == attempts.routes[row, first]
        if first == attempts.first[row] and same_node:  # already on its way there
            return max(time, float(attempts.release[row]))
        while first - 1 < attempts.first[row]:  # the activation comes from an attempt before
            row, same_node = int(attempts.parent[row]), False
        ended = float(self.end[row, first - 1])
        if not np.isfinite(ended):  # its node has died, but nobody knows yet
            ended = time
        elif same_node:
            return max(time, ended + self.message(row, first - 1))
        moment = max(time, ended)
        return moment + self.message(row, first - 1, to=int(route[first]), at=moment)


def replay(
    conditions: Conditions,
    attempts: Attempts,
    failures: Mapping[int, float],
    *,
    history: Replay | None = None,
) -> Replay:
    """Simulate all attempts under the conditions, with the given deaths (node -> second); see `prepare`."""
    ready = prepare(conditions, attempts, failures, history=history)
    run_chains(  # type: ignore[call-arg]
        *ready.work_of_nodes, ready.fail_at, ready.dropped_at, *ready.windows, np.inf, ready.start, ready.end,
        ready.workspace, conditions.loosen_at, ready.first, ready.heir,
    )  # fmt: skip
    return Replay(attempts, conditions, ready.laid, ready.hop, ready.fail_at, ready.start, ready.end)


@dataclass
class Prepared:
    """Arguments of the event loop for all attempts, each array its own: a search may write to them between runs.

    Attributes
    ----------
    work_of_nodes
        The loop's arguments from `node` to `slots`; the named arrays are among them.
    windows
        Stragglers and slow links.
    """

    laid: Chains
    node: NDArray[np.int32]
    duration: Floats
    hop: Floats
    release: Floats
    after: Ints
    key: Floats
    work_of_nodes: tuple[Any, ...]
    fail_at: Floats
    dropped_at: Floats
    windows: tuple[Floats, Floats]
    start: Floats
    end: Floats
    workspace: tuple[Any, ...]
    first: Ints
    heir: Ints


def prepare(
    conditions: Conditions,
    attempts: Attempts,
    failures: Mapping[int, float],
    *,
    history: Replay | None = None,
) -> Prepared:
    """Lay all attempts out for the event loop.

    Parameters
    ----------
    history
        What really happened, for a prediction: the noise on whatever began by `conditions.known_until` is known.
    """
    problem, planned = conditions.problem, conditions.decisions
    priority = None if planned.priority is None else np.asarray(planned.priority)[attempts.microbatch]
    decisions = replace(planned, routes=attempts.routes, stages=attempts.stages, priority=priority)
    laid = chains(problem, decisions)
    n_rows, n_tasks = laid.node.shape
    duration, hop = laid.duration, laid.hop
    if conditions.disturbances.noise > 0:
        on_tasks, on_messages = conditions.factors(n_rows, n_tasks)
        if np.isfinite(conditions.known_until):
            known = np.zeros((n_rows, n_tasks), dtype=np.bool_)
            left = known.copy()
            if history is not None:
                n = len(history.start)
                known[:n] = history.start <= conditions.known_until
                left[:n] = history.end <= conditions.known_until
            on_tasks, on_messages = np.where(known, on_tasks, 1.0), np.where(left, on_messages, 1.0)
        duration, hop = duration * on_tasks, hop * on_messages
    fail_at = np.full(problem.n_nodes, np.inf)
    for node, second in failures.items():
        fail_at[node] = second
    key, use_key, sequence, sequence_start = order_of_work(problem, decisions, laid)
    if len(sequence):  # the strict order is the plan's: it knows its own attempts only
        sequence = sequence[sequence // n_tasks < len(planned.routes)]
        sequence_start[1:] = np.cumsum(np.bincount(laid.node.ravel()[sequence], minlength=problem.n_nodes))
    release, after = attempts.release.copy(), attempts.after.copy()
    hop = np.ascontiguousarray(hop)
    return Prepared(
        laid=laid,
        node=laid.node,
        duration=duration,
        hop=hop,
        release=release,
        after=after,
        key=key,
        work_of_nodes=(
            laid.node,
            duration,
            hop,
            laid.rest,
            laid.slot,
            laid.spawn,
            laid.chain,
            release,
            after,
            key,
            use_key,
            sequence,
            sequence_start,
            laid.slots,
        ),
        fail_at=fail_at,
        dropped_at=attempts.dropped_at.copy(),
        windows=(
            np.array(conditions.disturbances.node_windows, dtype=np.float64).reshape(-1, 4),
            np.array(conditions.disturbances.link_windows, dtype=np.float64).reshape(-1, 5),
        ),
        start=np.empty((n_rows, n_tasks)),
        end=np.empty((n_rows, n_tasks)),
        workspace=workspace(n_rows, n_tasks, problem.n_nodes),
        first=attempts.first.copy(),
        heir=attempts.heir.copy(),
    )
