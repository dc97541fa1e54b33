"""One iteration as the coordinator leads it: begin, watch, recover where nodes are lost, finish.

When a node is lost, everybody finishes the task in hand and stands still, so that what has been done is known for
certain; the recovery policy decides; the nodes go on along the routes that it gives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pathloom.plan import NoPlanFound, ProvenInfeasible
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import Floats
from pathloom.worlds.train.recovery import RecoveryPolicy
from pathloom.worlds.train.runtime.attempt import Attempt
from pathloom.worlds.train.runtime.cluster import POLL
from pathloom.worlds.train.runtime.contributions import Contributions
from pathloom.worlds.train.runtime.live_view import LiveIteration
from pathloom.worlds.train.runtime.membership import Membership
from pathloom.worlds.train.runtime.recorded_iteration import busy_share, pace, with_averaging
from pathloom.worlds.train.simulator import sync_seconds

NEVER = 1e18
"""A key behind all others, for JSON knows no infinity."""


class Redo(Exception):
    """The iteration cannot be saved; the step begins anew."""


@dataclass
class Incident:
    """A node that was lost, and what came of it; a line of the metrics."""

    node: str
    step: int
    why: str
    lost_microbatches: int = 0
    rerouted: int = 0
    steps_lost: int = 0
    decided_seconds: float = 0.0
    replanned_seconds: float = 0.0
    weights_from: str = "replicas"


@dataclass(frozen=True)
class Done:
    """A finished iteration.

    Attributes
    ----------
    seconds
        To the last return, and to the end of averaging where that is part of the plan.
    busy
        Mean share of these seconds in which nodes computed.
    losses
        By microbatch.
    calm
        Whether no node was lost.
    pace
        Measured over planned seconds of each node's work, shape (N,).
    answers
        What the nodes said at its end.
    """

    seconds: float
    busy: float
    losses: Mapping[int, float]
    timeline: Timeline
    calm: bool
    pace: Floats
    answers: Mapping[str, Mapping[str, Any]]


class LedIteration:
    """Leads the nodes through one iteration.

    Parameters
    ----------
    windows
        Windows of the data used so far.
    contributions
        Where the gradients of this iteration are entered.
    lost
        Takes note of the nodes lost since it was last called, and returns them with the second of the loss.
    """

    def __init__(
        self,
        membership: Membership,
        policy: RecoveryPolicy,
        windows: int,
        contributions: Contributions,
        lost: Callable[[], Sequence[tuple[Incident, float]]],
    ) -> None:
        self.membership, self.policy, self.windows = membership, policy, windows
        self.cluster, self.settings = membership.cluster, membership.settings
        self.contributions, self._lost = contributions, lost
        self._losses: dict[int, float] = {}
        self.live = LiveIteration(membership.problem, membership.decisions, redo_gradients=self.settings.redo_gradients)

    def lead(self, *, reduce: bool) -> Done:
        """From beginning to end; with `reduce`, stages sum their gradients at the end if no node is lost.

        Raises
        ------
        Redo
            If the step must begin anew.
        """
        membership = self.membership
        attempts = membership.attempts()
        self._share = 1.0 / (len(attempts) * self.settings.accumulation)
        membership.begin("iterate", attempts, self.windows, self._share)
        calm, progress = True, time.monotonic()
        while True:
            if self._listen("done"):
                progress = time.monotonic()
                if not self.cluster.losses and self.live.done:
                    break
            if self.cluster.losses:
                calm = False
                self._recover()
                progress = time.monotonic()
                if self.live.done:
                    break
            elif time.monotonic() - progress > self.settings.stall_timeout:
                self._give_up(f"no task ended for {self.settings.stall_timeout:.0f} s")
        self.contributions.add(self.live)
        self._finish(reduce=reduce and calm)
        timeline = self.live.timeline()
        seconds = timeline.makespan
        answers = membership.answers("finished")
        spans = {
            membership.problem.nodes.index(name): (a["sync"][0] - membership.start, a["sync"][1] - membership.start)
            for name, a in answers.items()
            if "sync" in a
        }
        if spans and membership.problem.sync_latency is not None and not self.cluster.losses:
            timeline = with_averaging(timeline, spans, membership.decisions)
            seconds = timeline.makespan
        return Done(
            seconds,
            busy_share(timeline, seconds),
            self._losses,
            timeline,
            calm,
            pace(membership.problem, membership.decisions, timeline),
            answers,
        )

    def _listen(self, say: str) -> dict[str, dict[str, Any]]:
        """Take in reports for a moment; what nodes say besides, or, for "done", reports too."""
        found = {}
        for name, message in self.cluster.events(POLL):
            if message["say"] == "done":
                for row, task, start, end in message["tasks"]:
                    self.live.report(int(row), int(task), float(start), float(end))
                self._losses.update((int(b), float(loss)) for b, loss in message["losses"])
            if message["say"] == say:
                found[name] = message
        return found

    def _finish(self, *, reduce: bool) -> None:
        scales = self.contributions.scales(self.membership.problem.n_stages)
        until = self._end_of_averaging().tolist()
        self.cluster.tell({"do": "finish", "reduce": reduce and scales is not None, "scales": scales, "until": until})

    def _end_of_averaging(self) -> Floats:
        """Second of the monotonic clock at which each stage's averaging may end, where links are the plan's."""
        problem = self.membership.problem
        if self.settings.links != "planned" or problem.sync_latency is None or not self.membership.same_clock:
            return np.zeros(problem.n_stages)
        last, timeline = np.zeros(problem.n_stages), self.live.timeline()
        np.maximum.at(last, timeline.columns["stage"] % problem.n_stages, timeline.end)
        seconds = sync_seconds(problem, np.asarray(self.membership.decisions.placement)) * self.settings.time_scale
        return np.asarray(self.membership.start + last + seconds)

    def _recover(self) -> None:
        """Nodes were lost: stop everybody, let the policy decide, go on."""
        began = time.monotonic()
        incidents = self._stand_still()
        if self.membership.stage_is_empty:
            self._give_up("a stage has lost its last node", paused=True)
        now = time.monotonic() - self.membership.start
        try:
            view = self.live.view(now)
            recovery = self.policy.decide(view)
            applied = self.live.apply(recovery, now)
        except (NoPlanFound, ProvenInfeasible, ValueError) as error:
            self._give_up(f"no recovery was found: {error}", paused=True)
        for incident in incidents:
            incident.lost_microbatches, incident.rerouted = len(view.lost), len(recovery.reissues)
            incident.decided_seconds = time.monotonic() - began
        attempts = [
            Attempt(
                row=new.row,
                microbatch=new.microbatch,
                route=new.route,
                stages=new.stages,
                keys=tuple(np.minimum(applied.keys[new.row], NEVER).tolist()),
                first=new.first,
                parent=new.parent,
                after=new.after,
                release=max(new.release, 0.0) if new.first == 0 else 0.0,
            )
            for new in applied.attempts
        ]
        if recovery.restart:
            if self.settings.accumulation > 1:  # gradients of the iterations before would be forgotten with this one's
                self._give_up("one of several accumulated iterations was to restart", paused=True)
            self.membership.begin("restart", attempts, self.windows, self._share)
            return
        self.cluster.tell(
            {
                "do": "recover",
                "dropped": applied.dropped,
                "attempts": [attempt.to_dict() for attempt in attempts],
                "counted": list(applied.counted),
                "more_slots": len(applied.attempts) if applied.stuck else 0,
                "keys": {row: np.minimum(keys, NEVER).tolist() for row, keys in applied.keys.items()},
            }
        )

    def _stand_still(self) -> list[Incident]:
        """Wait until every live node has stopped and reported; the losses so far, those of the meantime too."""
        incidents: list[Incident] = []
        nodes = self.membership.problem.nodes
        while fresh := self._lost():
            lost = [nodes.index(incident.node) for incident, _ in fresh]
            for node, (incident, second) in zip(lost, fresh, strict=True):
                incidents.append(incident)
                self.live.node_lost(node, second - self.membership.start)
            self.cluster.tell({"do": "pause", "lost": lost})
            still: dict[str, dict[str, Any]] = {}
            while set(self.cluster.members) - set(still):
                still.update(self._listen("paused"))
            for answer in still.values():
                for row, task in answer["arrived"]:
                    if task > 0:
                        self.live.delivered(int(row), int(task) - 1)
        return incidents

    def _give_up(self, why: str, *, paused: bool = False) -> NoReturn:
        """End the iteration on all nodes and forget it."""
        if not paused:
            self.cluster.tell({"do": "pause", "lost": []})
            self.membership.answers("paused")
        self.cluster.tell({"do": "finish", "reduce": False})
        self.membership.answers("finished")
        raise Redo(why)
