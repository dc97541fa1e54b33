"""Who takes part in a run, and along which plan: nodes and their places until the next change.

A membership lasts until a node is lost or comes back, or until a slow one is planned around. Every node then learns its
stage, where the others are, and whose weights it takes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.worlds.train.plan_files import problem_to_dict
from pathloom.worlds.train.problem import Ints, TrainDecisions, TrainProblem, Workload
from pathloom.worlds.train.runtime.attempt import Attempt
from pathloom.worlds.train.runtime.cluster import POLL, Cluster
from pathloom.worlds.train.runtime.settings import RunSettings
from pathloom.worlds.train.simulator import Simulation, simulate

HEAD_START = 0.002
"""Seconds from the message that begins an iteration to its beginning, where all are to begin at once."""


class Membership:
    """The nodes of a run and the plan that they follow.

    Parameters
    ----------
    model
        Keyword arguments of `LanguageModelConfig`.
    store
        Address of the key-value store through which process groups find each other.
    same_clock
        Whether all nodes run on one machine.

    Attributes
    ----------
    number
        Counts memberships.
    start
        Second of the monotonic clock at which the last iteration began.
    planned_seconds
        Simulated iteration time of the plan.
    """

    def __init__(
        self,
        cluster: Cluster,
        problem: TrainProblem,
        decisions: TrainDecisions,
        settings: RunSettings,
        *,
        model: Mapping[str, Any],
        store: tuple[str, int],
        same_clock: bool,
    ) -> None:
        self.cluster, self.settings, self.model = cluster, settings, dict(model)
        self.store, self.same_clock = store, same_clock
        self.number = 0
        self.start = 0.0
        self._fresh: set[str] = set()  # nodes that hold no weights yet
        self._iterations = 0
        self.adopt(problem, decisions)

    def adopt(self, problem: TrainProblem, decisions: TrainDecisions) -> None:
        """Make this plan the one that is run, from the next `join` on.

        Raises
        ------
        InputError
            If microbatches never return under it.
        """
        planned = simulate(problem, decisions)
        if not np.isfinite(planned.start).all():
            raise InputError("holds a plan in which microbatches never return", key="decisions")
        self.problem, self.decisions = problem, decisions
        self.planned_seconds = planned.iteration_time
        self.keys = planned.start
        # where the plan fixes the order of work, what it needs of a node's memory is part of it
        memory = problem.memory * decisions.chunks
        self.slots = np.minimum(memory, most_held(problem, planned)) if decisions.strict else memory

    @property
    def live(self) -> NDArray[np.bool_]:
        """Shape (N,): nodes of the plan that have not been lost."""
        return np.array([name in self.cluster.members for name in self.problem.nodes])

    @property
    def stage_is_empty(self) -> bool:
        """Whether some stage has lost its last node, or the last one that holds its weights."""
        holds = self.live & np.array([name not in self._fresh for name in self.problem.nodes])
        held = set(np.asarray(self.decisions.placement)[holds].tolist())
        return len(held) < self.problem.n_stages

    @property
    def workload(self) -> Workload:
        """The model that is trained."""
        assert self.problem.workload is not None
        return self.problem.workload

    def attempts(self) -> list[Attempt]:
        """The plan's microbatches."""
        d = self.decisions
        count = len(d.routes)
        release = np.zeros(count) if d.release is None else np.asarray(d.release)
        after = np.full(count, -1) if d.after is None else np.asarray(d.after)
        return [
            Attempt(
                row=b,
                microbatch=b,
                route=tuple(d.routes[b].tolist()),
                stages=tuple(d.stages[b].tolist()),
                keys=tuple(self.keys[b].tolist()),
                after=int(after[b]),
                release=float(release[b]),
            )
            for b in range(count)
        ]

    def full_passes(self, count: int) -> list[Attempt]:
        """Microbatches that go forward through all stages in order, dealt over the nodes of each stage."""
        stages, virtual = self.problem.n_stages, self.problem.n_stages * self.decisions.chunks
        hosts = [np.flatnonzero(np.asarray(self.decisions.placement) == p).tolist() for p in range(stages)]
        return [
            Attempt(
                row=b,
                microbatch=b,
                route=tuple(hosts[p % stages][b % len(hosts[p % stages])] for p in range(virtual)),
                stages=tuple(range(virtual)),
                keys=tuple(float(b + task) for task in range(virtual + 1)),
            )
            for b in range(count)
        ]

    def join(self, load: Mapping[str, Any] | None, *, keep_gradients: bool, fresh: Sequence[int] = ()) -> None:
        """Give every node its place; ends early when one is lost meanwhile, as another membership is due then.

        Parameters
        ----------
        load
            Where weights come from: {"kind": "checkpoint" | "pretrained", "path": ...}, {"kind": "seed"}, or None for
            those that the nodes hold (random ones where they hold none).
        keep_gradients
            Whether gradients summed so far are kept.
        fresh
            Nodes that hold nothing yet and take weights and optimizer state from another node of their stage.

        Raises
        ------
        InputError
            If nodes of a stage do not reach each other.
        """
        self.number += 1
        self._fresh = self._fresh | {self.problem.nodes[n] for n in fresh} if load is None else set()
        d, members = self.decisions, self.cluster.members
        self.cluster.forgive_silence()
        self.cluster.tell(
            {
                "do": "join",
                "number": self.number,
                "problem": problem_to_dict(self.problem),
                "placement": np.asarray(d.placement).tolist(),
                "chunks": d.chunks,
                "split_backward": d.split_backward,
                "slots": self.slots.tolist(),
                "settings": self.settings.model_dump(mode="json"),
                "model": self.model,
                "addresses": [members[name].address if name in members else ("", 0) for name in self.problem.nodes],
                "store": self.store,
                "same_clock": self.same_clock,
                "load": None if load is None else dict(load),
                "keep_gradients": keep_gradients,
                "fresh": [n for n, name in enumerate(self.problem.nodes) if name in self._fresh],
            }
        )
        if self._all_join():
            self._fresh = set()

    def _all_join(self) -> bool:
        """Wait until every live node has taken its place; False if one is lost meanwhile."""
        joined: set[str] = set()
        until = time.monotonic() + self.settings.join_timeout
        apart = ""  # a node that did not find the others of its stage, because one of them was about to be lost
        while set(self.cluster.members) - joined and not self.cluster.losses:
            for name, message in self.cluster.events(POLL):
                if message["say"] != "joined" or message["number"] != self.number:
                    continue
                if message.get("apart"):
                    apart = f"node '{name}' does not reach the others of its stage: {message['apart']}"
                    until = min(until, time.monotonic() + self.settings.patience)
                else:
                    joined.add(name)
            if time.monotonic() > until:
                if apart:
                    raise InputError(apart, key="nodes")
                for name in sorted(set(self.cluster.members) - joined):
                    self.cluster.lose(name, f"did not take its place within {self.settings.join_timeout:.0f} s")
        return not self.cluster.losses

    def answers(self, say: str, *, timeout: float = 600.0) -> dict[str, dict[str, Any]]:
        """One answer of every live node; those that are lost meanwhile have none."""
        found: dict[str, dict[str, Any]] = {}
        until = time.monotonic() + timeout
        while set(self.cluster.members) - set(found):
            for name, message in self.cluster.events(POLL):
                if message["say"] == say:
                    found[name] = message
            if time.monotonic() > until:
                for name in sorted(set(self.cluster.members) - set(found)):
                    self.cluster.lose(name, f"no answer for {timeout:.0f} s")
        return {name: answer for name, answer in found.items() if name in self.cluster.members}

    def begin(
        self, do: str, attempts: Sequence[Attempt], windows: int, share: float, *, forward_only: bool = False
    ) -> None:
        """Let an iteration begin ("iterate"), or begin anew ("restart")."""
        self._iterations += 1
        if do == "iterate":
            self.start = time.monotonic() + (HEAD_START if self.settings.compute == "planned" else 0.0)
        self.cluster.tell(
            {
                "do": do,
                "number": self._iterations,
                "start": self.start,
                "same_clock": self.same_clock,
                "position": windows,
                "attempts": [attempt.to_dict() for attempt in attempts],
                "forward_only": forward_only,
                "share": share,
            }
        )


def most_held(problem: TrainProblem, planned: Simulation) -> Ints:
    """Most activations that each node holds at once in a simulated iteration, shape (N,), at least 1."""
    laid = planned.chains
    slot = np.broadcast_to(laid.slot[None, :], laid.node.shape)
    most = np.ones(problem.n_nodes, dtype=np.int64)
    for n in range(problem.n_nodes):
        taken, freed = (laid.node == n) & (slot > 0), (laid.node == n) & (slot < 0)
        times = np.concatenate([planned.start[taken], planned.end[freed]])
        change = np.concatenate([np.ones(taken.sum(), dtype=np.int64), -np.ones(freed.sum(), dtype=np.int64)])
        held = np.cumsum(change[np.lexsort((change, times))])
        most[n] = max(1, int(held.max(initial=1)))
    return most
