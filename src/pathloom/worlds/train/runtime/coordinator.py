"""The coordinator: leads the nodes through iterations and steps, and decides with the recovery policy when one is lost.

A step of the optimizer is a few rounds of messages. ``iterate``: all nodes work along their routes until every
microbatch has returned. ``finish``: losses come in, and the nodes of each stage sum their gradients. ``apply``: the
norm over all stages is known, and every node takes the step. No node takes it before all have summed, so a node that
is lost before costs no step, and one that is lost after has no part in it. What happens to microbatches in
mid-iteration is the policy's decision (`pathloom.worlds.train.recovery`), the very object that the simulator drives;
the routes of later iterations are planned anew for the nodes that are left.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.learn.rates import RatePlan
from pathloom.plan import InputError, NoPlanFound, ProvenInfeasible, stop_requested
from pathloom.timeline import Timeline
from pathloom.worlds.train.plan_files import problem_to_dict
from pathloom.worlds.train.problem import BACKWARD, LOSS, SYNC, Floats, TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import RecoveryPolicy, policy_named
from pathloom.worlds.train.runtime import checkpoint as checkpoints
from pathloom.worlds.train.runtime.attempt import Attempt
from pathloom.worlds.train.runtime.cluster import POLL, Cluster, Loss
from pathloom.worlds.train.runtime.gradients import clip_factor
from pathloom.worlds.train.runtime.live_view import LiveIteration
from pathloom.worlds.train.runtime.measured_speeds import with_measured_speeds
from pathloom.worlds.train.runtime.node import planned_slots
from pathloom.worlds.train.runtime.replanning import reassign, replan
from pathloom.worlds.train.runtime.settings import RunSettings
from pathloom.worlds.train.simulator import simulate, sync_seconds

HEAD_START = 0.002
"""Seconds from the message that begins an iteration to its beginning, for the message to reach everybody."""


NEVER = 1e18
"""A key behind all others, for JSON knows no infinity."""


class Redo(Exception):
    """The iteration cannot be saved; the step begins anew."""


@dataclass
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


@dataclass
class Incident:
    """A node that was lost, and what came of it."""

    node: str
    step: int
    why: str
    lost_microbatches: int = 0
    rerouted: int = 0
    steps_lost: int = 0
    decided_seconds: float = 0.0
    replanned_seconds: float = 0.0
    weights_from: str = "replicas"

    def to_dict(self) -> dict[str, Any]:
        """As a line of the metrics."""
        return {"event": "node lost", **vars(self)}


@dataclass
class Done:
    """A finished iteration: seconds, busy share, losses by microbatch, timeline, and whether it was undisturbed."""

    seconds: float
    busy: float
    losses: dict[int, float]
    timeline: Timeline
    calm: bool
    ratios: Floats


class Coordinator:
    """Leads a run.

    Parameters
    ----------
    problem, decisions
        The plan.
    model
        Keyword arguments of `LanguageModelConfig`.
    rates
        Learning-rate factor by step.
    folder
        The run's folder.
    on_step, on_event
        Called with the record of each step, and with events.
    store
        Address of the key-value store through which process groups find each other.
    initial
        Where the weights come from: None for random ones, or {"kind": "checkpoint" | "pretrained", "path": ...}.
    """

    def __init__(
        self,
        cluster: Cluster,
        problem: TrainProblem,
        decisions: TrainDecisions,
        settings: RunSettings,
        *,
        model: Mapping[str, Any],
        rates: RatePlan,
        folder: Path,
        store: tuple[str, int],
        place: Place,
        initial: Mapping[str, Any] | None,
        same_clock: bool,
        on_step: Callable[[dict[str, Any]], None],
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.cluster, self.settings, self.model, self.rates = cluster, settings, dict(model), rates
        self.folder, self.store, self.place, self.same_clock = folder, store, place, same_clock
        self.initial = None if initial is None else dict(initial)
        self.on_step, self.on_event = on_step, on_event
        self.policy: RecoveryPolicy = policy_named(settings.recovery, evaluations=600, seed=settings.seed)
        self.epoch = 0
        self._iterations = 0
        self.incidents: list[Incident] = []
        self.timeline: Timeline | None = None
        self.calm_seconds: list[float] = []
        self.begun = place
        self._unhealed: list[Incident] = []
        self.peaks: dict[str, int] = {}
        self._adopt(problem, decisions)

    # -- the plan ---------------------------------------------------------------------------------------------------

    def _adopt(self, problem: TrainProblem, decisions: TrainDecisions) -> None:
        """Make this plan the one that is run."""
        self.problem, self.decisions = problem, decisions
        planned = simulate(problem, decisions)
        if not np.isfinite(planned.start).all():
            raise InputError("holds a plan in which microbatches never return", key="decisions")
        self.planned_seconds = planned.iteration_time
        self.keys = planned.start
        self.peaks_planned = np.zeros(problem.n_nodes, dtype=np.int64)
        laid = planned.chains
        for n in range(problem.n_nodes):
            at = laid.node == n
            slot = np.broadcast_to(laid.slot[None, :], laid.node.shape)
            times = np.concatenate([planned.start[at & (slot > 0)], planned.end[at & (slot < 0)]])
            change = np.concatenate([np.ones((at & (slot > 0)).sum()), -np.ones((at & (slot < 0)).sum())])
            order = np.lexsort((change, times))
            self.peaks_planned[n] = int(np.cumsum(change[order]).max(initial=1))

    def _attempts(self) -> list[Attempt]:
        d = self.decisions
        count = len(d.routes)
        release = np.zeros(count) if d.release is None else np.asarray(d.release)
        after = np.full(count, -1) if d.after is None else np.asarray(d.after)
        return [
            Attempt(
                row=b,
                microbatch=b,
                route=tuple(int(n) for n in d.routes[b]),
                stages=tuple(int(p) for p in d.stages[b]),
                keys=tuple(float(s) for s in self.keys[b]),
                after=int(after[b]),
                release=float(release[b]),
            )
            for b in range(count)
        ]

    def _join(self, load: Mapping[str, Any] | None, *, keep_gradients: bool, fresh: Sequence[int] = ()) -> None:
        """Give every node its place in a new membership."""
        self.epoch += 1
        d, problem = self.decisions, self.problem
        strict = self.settings.order == "strict" and d.strict
        slots = planned_slots(problem, d.chunks, d.strict, self.peaks_planned)
        members = self.cluster.members
        self.cluster.forgive_silence()
        self.cluster.tell(
            {
                "do": "join",
                "epoch": self.epoch,
                "problem": problem_to_dict(problem),
                "placement": np.asarray(d.placement).tolist(),
                "chunks": d.chunks,
                "split_backward": d.split_backward,
                "strict": strict,
                "slots": slots,
                "settings": self.settings.model_dump(mode="json"),
                "model": self.model,
                "addresses": [members[name].address if name in members else ("", 0) for name in problem.nodes],
                "store": self.store,
                "same_clock": self.same_clock,
                "load": None if load is None else dict(load),
                "keep_gradients": keep_gradients,
                "fresh": list(fresh),
            }
        )
        self._answers("joined", timeout=self.settings.join_timeout)

    def _answers(self, say: str, *, timeout: float = 600.0) -> dict[str, dict[str, Any]]:
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

    # -- the run ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until the last step, or until a stop is requested; ends with a checkpoint."""
        threading.Thread(target=self._rehearse, args=(self.problem, self.decisions), daemon=True).start()
        self._join(self.initial, keep_gradients=False)
        settings = self.settings
        saved = self.place.step if self.initial is not None and self.initial["kind"] == "checkpoint" else -1
        while self.place.step < settings.steps and not stop_requested():
            try:
                self._step()
            except Redo as redo:
                self.on_event({"event": "step begun anew", "step": self.place.step + 1, "why": str(redo)})
                self._heal(keep_gradients=False)
                continue
            if settings.checkpoint_every and self.place.step % settings.checkpoint_every == 0:
                self._save()
                saved = self.place.step
        if saved != self.place.step:
            self._save()

    def _step(self) -> None:
        """One step of the optimizer."""
        settings, began = self.settings, time.monotonic()
        self._given: Counter[tuple[str, int]] = Counter()  # (node, stage) -> microbatches whose gradient it has summed
        self._gone: Counter[int] = Counter()  # stage -> microbatches whose gradient died
        windows = self.place.windows
        done: list[Done] = []
        answers: dict[str, dict[str, Any]] = {}
        samples = self._samples
        for number in range(settings.accumulation):
            self._heal(keep_gradients=True)
            last = number == settings.accumulation - 1
            iteration, answers = self._iterate(windows, reduce=last)
            windows += len(self.decisions.routes) * samples
            done.append(iteration)
        while self.cluster.losses or self._unhealed or not answers or any("square" not in a for a in answers.values()):
            self._heal(keep_gradients=True)
            self.cluster.tell({"do": "reduce", "scales": self._scales(), "until": [0.0] * self.problem.n_stages})
            answers = self._answers("finished")
        by_stage = {int(self.decisions.placement[self.problem.nodes.index(n)]): a for n, a in answers.items()}
        norm = float(np.sqrt(sum(a["square"] for a in by_stage.values())))
        absolute = float(sum(a["absolute"] for a in by_stage.values()))
        if not np.isfinite(norm):
            raise InputError(f"the gradient of step {self.place.step + 1} is not finite; try a lower learning rate",
                             key="learning_rate")  # fmt: skip
        rate = settings.learning_rate * self.rates.factor(self.place.step)
        self.cluster.tell({"do": "apply", "factor": clip_factor(norm, settings.clip), "rate": rate})
        self._answers("applied")
        self.place = Place(self.place.step + 1, windows)
        self._note_peaks(answers)
        calm = [d for d in done if d.calm]
        if calm:
            self.timeline = calm[-1].timeline
            self.calm_seconds += [d.seconds for d in calm]
        tokens = sum(len(d.losses) for d in done) * samples * self._context
        seconds = time.monotonic() - began
        record: dict[str, Any] = {
            "step": self.place.step,
            "loss": float(np.mean([d.losses[b] for d in done for b in sorted(d.losses)])),
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
            "seconds": seconds,
            "iteration_seconds": float(np.mean([d.seconds for d in done])),
            "planned_seconds": self.planned_seconds * (settings.time_scale if settings.compute == "planned" else 1.0),
            "learning_rate": rate,
            "gradient_norm": norm,
            "gradient_norm_l1": absolute,
            "bubble": float(1.0 - np.mean([d.busy for d in done])),
            "nodes": len(self.cluster.members),
        }
        due = settings.validate_every and self.place.step % settings.validate_every == 0
        if due or (settings.validate_every and self.place.step == settings.steps):
            record["validation_loss"] = self._validate()
        self.on_step(record)
        if settings.slow_factor and calm:
            self._look_for_slow_nodes(calm[-1].ratios)

    @property
    def _samples(self) -> int:
        assert self.problem.workload is not None
        return self.problem.workload.samples

    @property
    def _context(self) -> int:
        assert self.problem.workload is not None
        return self.problem.workload.model.context

    def _note_peaks(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        for name, answer in answers.items():
            self.peaks[name] = max(self.peaks.get(name, 0), int(answer["peak"]))

    # -- one iteration ----------------------------------------------------------------------------------------------

    def _iterate(self, windows: int, *, reduce: bool) -> tuple[Done, dict[str, dict[str, Any]]]:
        """Lead the nodes through one iteration."""
        settings, decisions, problem = self.settings, self.decisions, self.problem
        live = LiveIteration(problem, decisions, redo_gradients=settings.redo_gradients)
        attempts = self._attempts()
        share = 1.0 / (len(attempts) * settings.accumulation)
        self._start = time.monotonic() + HEAD_START
        self._begin("iterate", attempts, windows, share)
        calm = True
        progress = time.monotonic()
        while not live.done:
            if stop_requested():
                raise KeyboardInterrupt
            for _, message in self.cluster.events(POLL):
                if message["say"] == "done":
                    progress = time.monotonic()
                    self._report(live, message["tasks"])
            if self.cluster.losses:
                calm = False
                self._recover(live, windows, share)
                progress = time.monotonic()
            elif time.monotonic() - progress > settings.stall_timeout:
                self._abort(f"no task ended for {settings.stall_timeout:.0f} s")
        timeline = live.timeline()
        seconds = timeline.makespan
        until = self._sync_until(timeline)
        self.cluster.tell({"do": "finish", "reduce": reduce and not self._unhealed, "scales": self._scales(),
                           "until": until.tolist()})  # fmt: skip
        answers = self._answers("finished")
        if calm and reduce and problem.sync_latency is not None and not self.cluster.losses:
            timeline = self._with_syncs(timeline, answers)
            seconds = max(seconds, timeline.makespan)
        losses: dict[int, float] = {}
        for answer in answers.values():
            losses.update({int(b): float(loss) for b, loss in answer["losses"]})
        work = timeline.kind <= BACKWARD + 1
        busy = float((timeline.end - timeline.start)[work].sum() / max(seconds * problem.n_nodes, 1e-9))
        done = Done(seconds, busy, losses, timeline, calm, self._ratios(timeline))
        self._count(live)
        return done, answers

    def _begin(
        self, do: str, attempts: Sequence[Attempt], windows: int, share: float, forward_only: bool = False
    ) -> None:
        self._iterations += 1
        self.cluster.tell(
            {
                "do": do,
                "number": self._iterations,
                "start": self._start,
                "same_clock": self.same_clock,
                "position": windows,
                "attempts": [attempt.to_dict() for attempt in attempts],
                "forward_only": forward_only,
                "share": share,
            }
        )

    @staticmethod
    def _report(live: LiveIteration, tasks: Sequence[Sequence[float]]) -> None:
        for row, task, start, end in tasks:
            live.report(int(row), int(task), float(start), float(end))

    def _recover(self, live: LiveIteration, windows: int, share: float) -> None:
        """Nodes were lost in mid-iteration: stop everybody, let the policy decide, go on."""
        began = time.monotonic()
        lost = []
        while fresh := self._take_losses():
            lost += fresh
            for loss in fresh:
                live.node_lost(self.problem.nodes.index(loss.node), loss.second - self._start)
            self.cluster.tell({"do": "pause", "lost": [self.problem.nodes.index(loss.node) for loss in fresh]})
            for answer in self._pauses(live).values():
                for row, task in answer["arrived"]:
                    if task > 0:
                        live.delivered(int(row), int(task) - 1)
        live_nodes = np.array([name in self.cluster.members for name in self.problem.nodes])
        placement = np.asarray(self.decisions.placement)
        if any(not live_nodes[placement == p].any() for p in range(self.problem.n_stages)):
            self._abort("a stage has lost its last node", paused=True)
        now = time.monotonic() - self._start
        try:
            view = live.view(now)
            recovery = self.policy.decide(view)
            applied = live.apply(recovery, now)
        except (NoPlanFound, ProvenInfeasible, ValueError) as error:
            self._abort(f"no recovery was found: {error}", paused=True)
        incident = self.incidents[-1]
        incident.lost_microbatches = len(view.lost)
        incident.rerouted = len(recovery.reissues)
        incident.decided_seconds = time.monotonic() - began
        attempts = [
            Attempt(
                row=new.row,
                microbatch=new.microbatch,
                route=new.route,
                stages=new.stages,
                keys=tuple(applied.keys[new.row].tolist()),
                first=new.first,
                parent=new.parent,
                after=new.after,
                release=max(new.release, 0.0) if new.first == 0 else 0.0,
            )
            for new in applied.attempts
        ]
        if recovery.restart:
            self._start_again(attempts, windows, share)
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

    def _start_again(self, attempts: Sequence[Attempt], windows: int, share: float) -> None:
        """The restart policy: everybody forgets the iteration, and begins it on the new routes."""
        if self.settings.accumulation > 1:
            self._abort("the restart of one of several accumulated iterations", paused=True)
        self._begin("restart", attempts, windows, share)

    def _pauses(self, live: LiveIteration) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        while set(self.cluster.members) - set(found):
            for name, message in self.cluster.events(POLL):
                if message["say"] == "done":
                    self._report(live, message["tasks"])
                elif message["say"] == "paused":
                    found[name] = message
        return found

    def _abort(self, why: str, *, paused: bool = False) -> None:
        """End the iteration on all nodes, forget it, and begin the step anew."""
        if not paused:
            self.cluster.tell({"do": "pause", "lost": []})
            self._answers("paused")
        self.cluster.tell({"do": "finish", "reduce": False, "scales": [], "until": []})
        self._answers("finished")
        raise Redo(why)

    def _count(self, live: LiveIteration) -> None:
        """Remember who holds whose gradient, to know what a later loss costs."""
        for node, stage in live.counted_at():
            self._given[self.problem.nodes[node], stage] += 1
        for _, stage in live.incomplete():
            self._gone[stage] += 1

    def _scales(self) -> list[float]:
        """Factor on each stage's gradient that makes up for contributions that died with a node."""
        stages = self.problem.n_stages
        held: Counter[int] = Counter()
        for (name, stage), number in self._given.items():
            if name in self.cluster.members:
                held[stage % stages] += number
        scales = []
        for stage in range(stages):
            gone = self._gone[stage] + sum(
                number
                for (name, p), number in self._given.items()
                if p % stages == stage and name not in self.cluster.members
            )
            if gone and not held[stage]:
                raise Redo("all gradients of a stage died with its node")
            scales.append((held[stage] + gone) / held[stage] if gone else 1.0)
        return scales

    # -- averaging --------------------------------------------------------------------------------------------------

    def _sync_until(self, timeline: Timeline) -> Floats:
        """Second of the monotonic clock at which each stage's averaging may end, where links are the plan's."""
        until = np.zeros(self.problem.n_stages)
        if self.settings.links != "planned" or self.problem.sync_latency is None:
            return until
        lasts = np.zeros(self.problem.n_stages)
        stage = timeline.columns["stage"] % self.problem.n_stages
        np.maximum.at(lasts, stage, timeline.end)
        seconds = sync_seconds(self.problem, np.asarray(self.decisions.placement))
        return np.asarray(self._start + lasts + seconds * self.settings.time_scale)

    def _with_syncs(self, timeline: Timeline, answers: Mapping[str, Mapping[str, Any]]) -> Timeline:
        spans = [(n, a["sync"]) for n, a in answers.items() if "sync" in a]
        placement = np.asarray(self.decisions.placement)
        nodes = np.array([self.problem.nodes.index(name) for name, _ in spans])
        extra = {
            "stage": placement[nodes],
            "visit": np.full(len(nodes), -1),
        }
        columns = {
            name: np.concatenate([column, extra.get(name, np.zeros(len(nodes)))]).astype(column.dtype)
            for name, column in timeline.columns.items()
        }
        return Timeline(
            np.concatenate([timeline.resource, nodes]),
            np.concatenate([timeline.item, np.full(len(nodes), len(timeline.items))]),
            np.concatenate([timeline.kind, np.full(len(nodes), SYNC)]),
            np.concatenate([timeline.start, [s[0] - self._start for _, s in spans]]),
            np.concatenate([timeline.end, [s[1] - self._start for _, s in spans]]),
            timeline.resources,
            (*timeline.items, "sync"),
            timeline.kinds,
            timeline.unit,
            columns,
        ).sorted()

    def _rehearse(self, problem: TrainProblem, decisions: TrainDecisions) -> None:
        """Go through a loss that has not happened, so that compiled code is at hand when one does."""
        try:
            rehearsal = LiveIteration(problem, decisions)
            rehearsal.node_lost(int(decisions.routes[0, -1]), 0.0)
            rehearsal.apply(policy_named("reroute", evaluations=10).decide(rehearsal.view(0.0)), 0.0)
        except (NoPlanFound, ProvenInfeasible, ValueError):
            pass  # this node cannot be spared; what has been compiled stays
        with contextlib.suppress(NoPlanFound, ProvenInfeasible, ValueError):
            replan(problem, np.ones(problem.n_nodes, dtype=np.bool_), decisions, time_limit=0.1)

    # -- nodes that are lost, or slow -------------------------------------------------------------------------------

    def _take_losses(self) -> list[Loss]:
        """Losses since the last look; they are noted, and a new membership is due."""
        fresh, self.cluster.losses = self.cluster.losses, []
        self.incidents += [Incident(loss.node, self.place.step + 1, loss.why) for loss in fresh]
        self._unhealed += [self.incidents[-1 - i] for i in reversed(range(len(fresh)))]
        return fresh

    def _heal(self, *, keep_gradients: bool) -> None:
        """Where nodes were lost since the last membership, plan for those that are left, and make a new one."""
        self._take_losses()
        while self._unhealed or not keep_gradients:
            live = np.array([name in self.cluster.members for name in self.problem.nodes])
            if not live.any():
                raise InputError("every node is lost; the run can be resumed from its last checkpoint", key="nodes")
            began = time.monotonic()
            if live.all():
                self._join(None, keep_gradients=keep_gradients)
            else:
                self._replan(live, keep_gradients=keep_gradients)
            for incident in self._unhealed:
                incident.replanned_seconds = time.monotonic() - began
                self.on_event(incident.to_dict())
            self._unhealed = []
            if not self._take_losses():
                return

    def _replan(self, live: NDArray[np.bool_], *, keep_gradients: bool) -> None:
        """Adopt a plan for the live nodes."""
        placement = np.asarray(self.decisions.placement)
        seconds, seed = self.settings.replan_seconds, self.settings.seed + self.epoch
        if all(live[placement == p].any() for p in range(self.problem.n_stages)):
            found = replan(self.problem, live, self.decisions, time_limit=seconds, seed=seed)
            self._adopt(found.problem, found.decisions)
            self._join(None, keep_gradients=keep_gradients)
            return
        self._roll_back(live, seconds, seed)
        if keep_gradients:  # somebody was about to go on with them
            raise Redo("weights were taken from a checkpoint")

    def _roll_back(self, live: NDArray[np.bool_], seconds: float, seed: int) -> None:
        """A stage has lost all its weights: another node takes it over, from the last checkpoint."""
        workload = self.problem.workload
        assert workload is not None
        found = reassign(self.problem, live, self.decisions, stage_layers=workload.stage_layers, time_limit=seconds,
                         seed=seed)  # fmt: skip
        self._adopt(found.problem, found.decisions)
        last = checkpoints.latest(self.folder)
        before = self.place.step
        load: dict[str, Any] = {"kind": "seed"} if self.initial is None else self.initial
        if last is not None:
            load = {"kind": "checkpoint", "path": str(last.path)}
        self.place = self.begun if last is None else Place(last.step, int(last.required("windows")))
        for incident in self._unhealed:
            incident.steps_lost = before - self.place.step
            incident.weights_from = "first weights" if last is None else f"checkpoint of step {last.step}"
        self._join(load, keep_gradients=False)

    def _ratios(self, timeline: Timeline) -> Floats:
        """Measured over planned time of each node's work, shape (N,); 1 where it had none."""
        problem, d = self.problem, self.decisions
        node, kind = timeline.resource, timeline.kind
        stage = timeline.columns["stage"] % problem.n_stages
        weight = problem.weight if d.split_backward else np.zeros_like(problem.weight)
        tables = np.stack([problem.forward, problem.backward - weight, problem.weight]) / d.chunks
        of = np.select([kind == 0, kind == BACKWARD], [0, 1], 2)
        planned = np.where(kind == LOSS, problem.loss[node], tables[of, node, stage])
        counted = kind <= BACKWARD + 1
        n = problem.n_nodes
        expected = np.bincount(node[counted], weights=planned[counted], minlength=n)
        taken = np.bincount(node[counted], weights=(timeline.end - timeline.start)[counted], minlength=n)
        return np.where(expected > 0, taken / np.where(expected > 0, expected, 1.0), np.nan)

    def _look_for_slow_nodes(self, ratios: Floats) -> None:
        """Plan around nodes that have become slow."""
        usual = float(np.nanmedian(ratios))
        slow = ratios / usual > self.settings.slow_factor
        if not slow.any() or self.cluster.losses:
            return
        factors = np.where(slow, ratios / usual, 1.0)
        changed = with_measured_speeds(self.problem, factors)
        live = np.ones(self.problem.n_nodes, dtype=bool)
        began = time.monotonic()
        found = replan(changed, live, self.decisions, time_limit=self.settings.replan_seconds,
                       seed=self.settings.seed + self.epoch)  # fmt: skip
        self._adopt(found.problem, found.decisions)
        self._join(None, keep_gradients=False)
        self.on_event(
            {
                "event": "slow node",
                "step": self.place.step,
                "nodes": {self.problem.nodes[n]: float(factors[n]) for n in np.flatnonzero(slow)},
                "replanned_seconds": time.monotonic() - began,
                "planned_seconds": self.planned_seconds,
            }
        )

    # -- validation and checkpoints ---------------------------------------------------------------------------------

    def _validate(self) -> float | None:
        """Mean loss of the validation windows through all stages in order; None if nodes are lost meanwhile."""
        d, problem = self.decisions, self.problem
        stages = problem.n_stages
        hosts = [np.flatnonzero(np.asarray(d.placement) == p).tolist() for p in range(stages)]
        virtual = problem.n_stages * d.chunks
        count = max(1, self.settings.validation_windows // self._samples)
        attempts = [
            Attempt(
                row=b,
                microbatch=b,
                route=tuple(
                    int(hosts[p % problem.n_stages][b % len(hosts[p % problem.n_stages])]) for p in range(virtual)
                ),
                stages=tuple(range(virtual)),
                keys=tuple(float(b + t) for t in range(virtual + 1)),
            )
            for b in range(count)
        ]
        self._heal(keep_gradients=True)
        self._start = time.monotonic() + HEAD_START
        self._begin("iterate", attempts, 0, 1.0, forward_only=True)
        left = count
        while left > 0 and not self.cluster.losses:
            for _, message in self.cluster.events(POLL):
                if message["say"] == "done":
                    left -= sum(int(task) == virtual for _, task, *_ in message["tasks"])
        self.cluster.tell({"do": "finish", "reduce": False, "scales": [], "until": []})
        answers = self._answers("finished")
        if self.cluster.losses:
            return None
        losses = {int(b): float(loss) for answer in answers.values() for b, loss in answer["losses"]}
        return float(np.mean([losses[b] for b in sorted(losses)]))

    def _save(self) -> None:
        """Write a checkpoint, one writer a stage."""
        while True:
            self._heal(keep_gradients=True)
            placement = np.asarray(self.decisions.placement)
            writers = {self.problem.nodes[int(np.flatnonzero(placement == p)[0])] for p in range(self.problem.n_stages)}
            for name in writers:
                self.cluster.members[name].channel.send(
                    {"do": "save", "folder": str(self.folder), "step": self.place.step}
                )
            shards: dict[str, checkpoints.ShardRecord] = {}
            try:
                while writers - set(shards) and not self.cluster.losses:
                    for name, message in self.cluster.events(POLL):
                        if message["say"] == "saved":
                            shards[name] = checkpoints.ShardRecord.from_dict(message["shard"])
            except InputError:
                checkpoints.abandon(self.folder, self.place.step)
                raise
            if not self.cluster.losses:
                break
        state = {
            "windows": self.place.windows,
            "seed": self.settings.seed,
            "model": self.model,
            "settings": self.settings.model_dump(mode="json"),
            "rate_plan": self.rates.to_dict(),
        }
        checkpoints.commit(self.folder, self.place.step, list(shards.values()), state)
        checkpoints.prune(self.folder, self.settings.keep)
