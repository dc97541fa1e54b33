"""The coordinator: leads the nodes through the steps of the optimizer, and keeps the run going when nodes are lost.

A step is a few rounds of messages. ``iterate``: all nodes work along their routes until every microbatch has returned.
``finish``: losses come in, and the nodes of each stage sum their gradients. ``apply``: the norm over all stages is
known, and every node takes the step. No node takes it before all have summed, so a node that is lost before costs no
step, and one that is lost after has no part in it. What happens to microbatches in mid-iteration is the decision of a
policy (`pathloom.worlds.train.recovery`), the very object that the simulator drives; the routes of later iterations are
planned anew for the nodes that are left.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.learn.rates import RatePlan
from pathloom.plan import InputError, NoPlanFound, ProvenInfeasible, stop_requested
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import Floats, TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import RecoveryPolicy, policy_named
from pathloom.worlds.train.runtime import checkpoint as checkpoints
from pathloom.worlds.train.runtime.cluster import POLL
from pathloom.worlds.train.runtime.contributions import Contributions
from pathloom.worlds.train.runtime.gradients import clip_factor
from pathloom.worlds.train.runtime.led_iteration import Done, Incident, LedIteration, Redo
from pathloom.worlds.train.runtime.live_view import LiveIteration
from pathloom.worlds.train.runtime.measured_speeds import with_measured_speeds
from pathloom.worlds.train.runtime.membership import Membership
from pathloom.worlds.train.runtime.replanning import reassign, replan


@dataclass(frozen=True)
class Place:
    """Where the run stands.

    Attributes
    ----------
    step
        Optimizer steps done.
    windows
        Windows of the data used.
    """

    step: int = 0
    windows: int = 0


class Coordinator:
    """Leads a run.

    Parameters
    ----------
    rates
        Learning-rate factor by step.
    folder
        The run's folder.
    initial
        Where the weights come from: None for random ones, or {"kind": "checkpoint" | "pretrained", "path": ...}.
    on_step, on_event
        Called with the record of each step, and with events.

    Attributes
    ----------
    incidents
        Nodes that were lost.
    timeline
        Of the last undisturbed iteration, None before the first.
    calm_seconds
        Seconds of each undisturbed iteration.
    peaks
        Node -> most activations that it has held at once.
    """

    def __init__(
        self,
        membership: Membership,
        *,
        rates: RatePlan,
        folder: Path,
        place: Place,
        initial: Mapping[str, Any] | None,
        on_step: Callable[[dict[str, Any]], None],
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.membership, self.cluster, self.settings = membership, membership.cluster, membership.settings
        self.rates, self.folder, self.place = rates, folder, place
        self.on_step, self.on_event = on_step, on_event
        self.policy: RecoveryPolicy = policy_named(
            self.settings.recovery, evaluations=EVALUATIONS, seed=self.settings.seed
        )
        self.incidents: list[Incident] = []
        self.timeline: Timeline | None = None
        self.calm_seconds: list[float] = []
        self.peaks: dict[str, int] = {}
        self._initial = None if initial is None else dict(initial)
        self._begun = place
        self._planned = membership.problem, membership.decisions
        self._unhealed: list[Incident] = []
        self._contributions = Contributions()

    def run(self) -> None:
        """Train until the last step, or until a stop is requested; ends with a checkpoint."""
        threading.Thread(target=_rehearse, args=self._planned, daemon=True).start()
        self.membership.join(self._initial, keep_gradients=False)
        saved = self.place.step if self._initial is not None and self._initial["kind"] == "checkpoint" else -1
        every, anew = self.settings.checkpoint_every, False
        while True:
            try:
                if anew:
                    self._heal(keep_gradients=False)
                    anew = False
                over = self.place.step >= self.settings.steps or stop_requested()
                if not over:
                    self._step()
                if saved != self.place.step and (over or (every and self.place.step % every == 0)):
                    self._save()
                    saved = self.place.step
                if over:
                    return
            except Redo as redo:  # weights can be lost at any time, while they are saved too
                self.on_event({"event": "step begun anew", "step": self.place.step + 1, "why": str(redo)})
                anew = True

    # -- a step -----------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """One step of the optimizer."""
        settings, began = self.settings, time.monotonic()
        windows = self.place.windows
        samples = self.membership.workload.samples
        contributions = self._contributions = Contributions()
        done: list[Done] = []
        for number in range(settings.accumulation):
            self._heal(keep_gradients=True)
            iteration = LedIteration(self.membership, self.policy, windows, contributions, self._take_losses)
            done.append(iteration.lead(reduce=number == settings.accumulation - 1))
            windows += len(self.membership.decisions.routes) * samples
        for name, answer in done[-1].answers.items():
            self.peaks[name] = max(self.peaks.get(name, 0), int(answer["peak"]))
        self._scales()
        norm, absolute = self._norms(self._reduced(done[-1].answers))
        rate = settings.learning_rate * self.rates.factor(self.place.step)
        self.cluster.tell({"do": "apply", "factor": clip_factor(norm, settings.clip), "rate": rate})
        self.membership.answers("applied")
        self.place = Place(self.place.step + 1, windows)
        calm = [d for d in done if d.calm]
        if calm:
            self.timeline = calm[-1].timeline
            self.calm_seconds += [d.seconds for d in calm]
        seconds = time.monotonic() - began
        tokens = sum(len(d.losses) for d in done) * samples * self.membership.workload.model.context
        scale = settings.time_scale if settings.compute == "planned" else 1.0
        record: dict[str, Any] = {
            "step": self.place.step,
            "loss": float(np.mean([d.losses[b] for d in done for b in sorted(d.losses)])),
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
            "seconds": seconds,
            "iteration_seconds": float(np.mean([d.seconds for d in done])),
            "planned_seconds": self.membership.planned_seconds * scale,
            "learning_rate": rate,
            "gradient_norm": norm,
            "gradient_norm_l1": absolute,
            "bubble": float(1.0 - np.mean([d.busy for d in done])),
            "nodes": len(self.cluster.members),
        }
        if settings.validate_every and (
            self.place.step % settings.validate_every == 0 or self.place.step == settings.steps
        ):
            record["validation_loss"] = self._validate()
        self.on_step(record)
        if settings.slow_factor and calm:
            self._look_for_slow_nodes(calm[-1].pace)

    def _reduced(self, answers: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """What the nodes say of the gradients summed over their stages, if need be in another membership."""
        while self.cluster.losses or self._unhealed or any("square" not in a for a in answers.values()):
            self._heal(keep_gradients=True)
            scales = self._scales()
            self.cluster.tell({"do": "reduce", "scales": scales, "until": [0.0] * len(scales)})
            answers = self.membership.answers("finished")
        return answers

    def _scales(self) -> list[float]:
        """Factors on the sums of the stages that make up for gradients that died; Redo if that is not good enough."""
        scales = self._contributions.scales(self.membership.problem.n_stages)
        if scales is None:
            raise Redo("all gradients of a stage died with its nodes")
        if self.settings.redo_gradients and max(scales) > 1.0:
            raise Redo("gradients that are not to be given up died with a node")
        return scales

    def _norms(self, answers: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
        """Euclidean and absolute norm of the whole gradient, every stage counted once."""
        placement, nodes = np.asarray(self.membership.decisions.placement), self.membership.problem.nodes
        by_stage = {int(placement[nodes.index(name)]): answer for name, answer in sorted(answers.items())}
        norm = float(np.sqrt(sum(by_stage[p]["square"] for p in sorted(by_stage))))
        if not np.isfinite(norm):
            message = f"the gradient of step {self.place.step + 1} is not finite; expected a lower rate or more warm-up"
            raise InputError(message, key="learning_rate")
        return norm, float(sum(by_stage[p]["absolute"] for p in sorted(by_stage)))

    # -- nodes that are lost, or slow -------------------------------------------------------------------------------

    def _take_losses(self) -> Sequence[tuple[Incident, float]]:
        """Note the nodes lost since the last look; a new membership is due."""
        fresh, self.cluster.losses = self.cluster.losses, []
        for loss in fresh:
            self._contributions.lose(loss.node)
        noted = [(Incident(loss.node, self.place.step + 1, loss.why), loss.second) for loss in fresh]
        self.incidents += [incident for incident, _ in noted]
        self._unhealed += [incident for incident, _ in noted]
        return noted

    def _heal(self, *, keep_gradients: bool) -> None:
        """Where nodes were lost since the last membership, or gradients are to be forgotten, make a new one."""
        self._take_losses()
        while self._unhealed or not keep_gradients:
            began = time.monotonic()
            if not self.cluster.members:
                raise InputError("every node is lost; the run can be resumed from its last checkpoint", key="nodes")
            try:
                keep_gradients = self._renew(keep_gradients=keep_gradients)
            finally:
                for incident in self._unhealed:
                    incident.replanned_seconds += time.monotonic() - began
            for incident in self._unhealed:
                self.on_event({"event": "node lost", **vars(incident)})
            self._unhealed = []
            if not self._take_losses():
                break

    def _renew(self, *, keep_gradients: bool) -> bool:
        """Make a membership of the live nodes; whether gradients were kept as asked for, True if nobody asked.

        Raises
        ------
        Redo
            If somebody was about to go on with gradients that do not fit the weights any more.
        """
        membership, settings = self.membership, self.settings
        live, empty = membership.live, membership.stage_is_empty
        seed = settings.seed + membership.number
        if settings.respawn and not live.all():
            lost = [membership.problem.nodes[n] for n in np.flatnonzero(~live)]
            self.cluster.join(membership.problem.nodes, settings.join_timeout)
            fresh = [] if empty else [membership.problem.nodes.index(name) for name in lost]
            membership.join(self._load() if empty else None, keep_gradients=keep_gradients and not empty, fresh=fresh)
        elif empty:
            found = reassign(
                membership.problem,
                live,
                membership.decisions,
                stage_layers=membership.workload.stage_layers,
                time_limit=settings.replan_seconds,
                seed=seed,
            )
            membership.adopt(found.problem, found.decisions)
            membership.join(self._load(), keep_gradients=False)
        else:
            if not live.all():
                anew = replan(
                    membership.problem, live, membership.decisions, time_limit=settings.replan_seconds, seed=seed
                )
                membership.adopt(anew.problem, anew.decisions)
            membership.join(None, keep_gradients=keep_gradients)
        if empty and keep_gradients:
            raise Redo("weights were taken from a checkpoint")
        return True

    def _load(self) -> dict[str, Any]:
        """Go back to the last checkpoint, or to the beginning: where the weights are to come from."""
        last = checkpoints.latest(self.folder)
        before = self.place.step
        self.place = self._begun if last is None else Place(last.step, int(last.required("windows")))
        for incident in self._unhealed:
            incident.steps_lost += before - self.place.step
            incident.weights_from = "first weights" if last is None else f"checkpoint of step {last.step}"
        if last is not None:
            return {"kind": "checkpoint", "path": str(last.path)}
        return {"kind": "seed"} if self._initial is None else self._initial

    def _look_for_slow_nodes(self, pace: Floats) -> None:
        """Plan around nodes that have become slow."""
        usual = float(np.nanmedian(pace))
        slow = np.nan_to_num(pace / usual) > self.settings.slow_factor
        if not slow.any() or self.cluster.losses:
            return
        began, membership = time.monotonic(), self.membership
        factors = np.where(slow, pace / usual, 1.0)
        try:
            anew = replan(
                with_measured_speeds(membership.problem, factors),
                np.ones(membership.problem.n_nodes, dtype=np.bool_),
                membership.decisions,
                time_limit=self.settings.replan_seconds,
                seed=self.settings.seed + membership.number,
            )
        except (NoPlanFound, ProvenInfeasible):  # then it goes on as before, only slower
            return
        membership.adopt(anew.problem, anew.decisions)
        membership.join(None, keep_gradients=False)
        self.on_event(
            {
                "event": "slow nodes",
                "step": self.place.step,
                "nodes": {membership.problem.nodes[n]: float(factors[n]) for n in np.flatnonzero(slow)},
                "replanned_seconds": time.monotonic() - began,
                "planned_seconds": membership.planned_seconds,
            }
        )

    # -- validation and checkpoints ---------------------------------------------------------------------------------

    def _validate(self) -> float:
        """Mean loss of the validation windows through all stages in order."""
        while True:
            self._heal(keep_gradients=True)
            found = self._validation_loss()
            if found is not None:
                return found

    def _validation_loss(self) -> float | None:
        """One attempt at it; None if nodes are lost meanwhile."""
        membership = self.membership
        count = max(1, self.settings.validation_windows // membership.workload.samples)
        membership.begin("iterate", membership.full_passes(count), 0, 1.0, forward_only=True)
        head = membership.problem.n_stages * membership.decisions.chunks  # the task that computes the loss
        left = count
        while left > 0 and not self.cluster.losses:
            for _, message in self.cluster.events(POLL):
                if message["say"] == "done":
                    left -= sum(int(task) == head for _, task, *_ in message["tasks"])
        self.cluster.tell({"do": "finish", "reduce": False})
        answers = membership.answers("finished")
        if self.cluster.losses:
            return None
        losses = {int(b): float(loss) for answer in answers.values() for b, loss in answer["losses"]}
        return float(np.mean([losses[b] for b in sorted(losses)]))

    def _save(self) -> None:
        """Write a checkpoint, one writer a stage.

        Raises
        ------
        InputError
            If it cannot be written; earlier ones are as they were.
        """
        while True:
            self._heal(keep_gradients=True)
            shards = self._shards()
            if shards is not None:
                break
        state = {
            "windows": self.place.windows,
            "seed": self.settings.seed,
            "model": self.membership.model,
            "settings": self.settings.model_dump(mode="json"),
            "rate_plan": self.rates.to_dict(),
        }
        checkpoints.commit(self.folder, self.place.step, shards, state)
        checkpoints.prune(self.folder, self.settings.keep)

    def _shards(self) -> list[checkpoints.ShardRecord] | None:
        """Let the first node of each stage write its shard; None if a node is lost meanwhile."""
        placement, nodes = np.asarray(self.membership.decisions.placement), self.membership.problem.nodes
        writers = {nodes[int(np.argmax(placement == p))] for p in range(self.membership.problem.n_stages)}
        self.cluster.tell(
            lambda name: {
                "do": "save" if name in writers else "rest",
                "folder": str(self.folder),
                "step": self.place.step,
            }
        )
        shards: dict[str, checkpoints.ShardRecord] = {}
        try:
            while writers - set(shards):
                for name, message in self.cluster.events(POLL):
                    if message["say"] == "saved":
                        shards[name] = checkpoints.ShardRecord.from_dict(message["shard"])
                if self.cluster.losses:
                    return None
        except InputError:
            checkpoints.abandon(self.folder, self.place.step)
            raise
        return list(shards.values())


EVALUATIONS = 600
"""Simulations that the recovery policy may spend, while the nodes stand still."""


def _rehearse(problem: TrainProblem, decisions: TrainDecisions) -> None:
    """Go through a loss that has not happened, so that compiled code is at hand when one does."""
    with contextlib.suppress(NoPlanFound, ProvenInfeasible, ValueError):  # if this node cannot be spared
        rehearsal = LiveIteration(problem, decisions)
        rehearsal.node_lost(int(decisions.routes[0, -1]), 0.0)
        rehearsal.apply(policy_named("reroute", evaluations=10).decide(rehearsal.view(0.0)), 0.0)
    with contextlib.suppress(NoPlanFound, ProvenInfeasible, ValueError):
        replan(problem, np.ones(problem.n_nodes, dtype=np.bool_), decisions, time_limit=0.1)
