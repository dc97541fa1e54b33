"""What a run with a killed node came to: figures of one run, and the same kill simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from _killed_runs import ITERATION
from pathloom.plan import Plan
from pathloom.worlds.train.faults import Failure, simulate_failures
from pathloom.worlds.train.problem import SYNC, TrainDecisions, TrainProblem
from pathloom.worlds.train.simulator import simulate

EVALUATIONS = 600
"""Simulations that a run's policy may spend."""


@dataclass(frozen=True)
class FaultFigures:
    """Figures of one run; None where there are none.

    Attributes
    ----------
    goes_on
        Every step up to the last is recorded, with a finite loss over all its tokens, and the run ended in order.
    hit
        Whether the node was hit at all, and `phase` in which it was.
    steps_lost, beyond
        Steps that had to be done again, and those of them that the newest checkpoint held, or, where each stage had
        another node, all of them.
    microbatches_lost, rerouted
        As the run's record says.
    noticed, decided, replanned
        Seconds from the kill until it was noticed; from there until the policy had decided, nodes at a standstill;
        and of the new plan and the new membership.
    recovery
        Extra seconds until the disturbed step was done, and the new plan was in force, against the undisturbed run.
    loss_difference
        Of the last step's loss from the undisturbed run's, absolute.
    others_lost
        Nodes that were counted as lost although nobody had hit them.
    begun_anew
        Times that a step was begun anew.
    measured, simulated
        Seconds by which the last pass of the iteration ended later than it does undisturbed, where the iteration
        was saved. In the simulator the policy decides in no time; the nodes' standstill is added.
    """

    goes_on: bool
    hit: bool
    phase: str
    steps_lost: int
    beyond: int
    microbatches_lost: int
    rerouted: int
    noticed: float | None
    decided: float | None
    replanned: float | None
    recovery: float | None
    loss_difference: float | None
    others_lost: int
    begun_anew: int
    measured: float | None
    simulated: float | None

    @property
    def gap(self) -> float | None:
        """Absolute difference of what was measured and what was simulated."""
        return None if self.measured is None or self.simulated is None else abs(self.measured - self.simulated)


def figures(run: Mapping[str, Any], calm: Mapping[str, Any], plan: Plan, settings: Mapping[str, Any]) -> FaultFigures:
    """Figures of a run with kills.

    Parameters
    ----------
    run, calm
        What `_killed_runs.killed_run` gave for it, and for the run of the same plan in which nobody was hit.
    plan, settings
        Those of the run.
    """
    steps, struck = run["steps"], run["struck"]
    first = struck[0] if struck else None
    before = [s for s in steps if first is not None and s["second"] < first["second"]]
    after = steps[len(before) :]
    reached = int(before[-1]["step"]) if before else 0
    resumed = int(after[0]["step"]) - 1 if after else reached
    incidents = [event for event in run["events"] if event["event"] == "node lost"]
    # a step that was taken and lost before it was recorded is in the incident's count only
    lost = max([reached - resumed, *(incident["steps_lost"] for incident in incidents)])
    hit_names = {s["node"] for s in struck}
    noticed = _noticed(run, first)
    healed = max((incident["second"] for incident in incidents), default=0.0)
    disturbed = next((s for s in after if s["step"] > reached and s["second"] > healed), None)
    measured = simulated = None
    if first is not None and disturbed is not None and _saved(run, incidents):
        measured = disturbed["iteration_seconds"] - calm["passes"]
        delay, still = run["pauses"][0] - first["second"], run["decisions"][0] - run["pauses"][0]
        simulated = still + simulated_loss(plan, first["node"], first["since_start"], delay, settings)
    return FaultFigures(
        goes_on=_complete(run, calm),
        hit=len(struck) == len(run["hits"]),
        phase=first["phase"] if first else "",
        steps_lost=lost,
        beyond=max(0, first["checkpoint"] - resumed) if first and _bereft(plan, hit_names) else lost,
        microbatches_lost=sum(i["lost_microbatches"] for i in incidents),
        rerouted=sum(i["rerouted"] for i in incidents),
        noticed=noticed,
        decided=incidents[0]["decided_seconds"] if incidents and run["decisions"] else None,
        replanned=max(i["replanned_seconds"] for i in incidents) if incidents else None,
        recovery=_recovery(steps, before, disturbed, calm, reached) if before else None,
        loss_difference=abs(steps[-1]["loss"] - calm["steps"][-1]["loss"]) if steps else None,
        others_lost=len({loss["node"] for loss in run["losses"]} - hit_names),
        begun_anew=sum(event["event"] == "step begun anew" for event in run["events"]),
        measured=measured,
        simulated=simulated,
    )


def simulated_loss(plan: Plan, node: str, second: float, delay: float, settings: Mapping[str, Any]) -> float:
    """Seconds by which the last pass ends later in the simulator, where the same policy hears of it after `delay`."""
    problem: TrainProblem = plan.problem
    decisions: TrainDecisions = plan.decisions
    outcome = simulate_failures(
        problem,
        decisions,
        [Failure(problem.nodes.index(node), max(second, 0.0))],
        policy=settings["recovery"],
        detection=delay,
        redo_gradients=settings["redo_gradients"],
        evaluations=EVALUATIONS,
        seed=settings["seed"],
        compare_restart=False,
    )
    passes = outcome.timeline.columns["work"] != SYNC
    return float(outcome.timeline.end[passes].max() - np.nanmax(simulate(problem, decisions).end))


def _complete(run: Mapping[str, Any], calm: Mapping[str, Any]) -> bool:
    last = {record["step"]: record for record in run["steps"]}
    whole = calm["steps"][0]["tokens"]
    return (
        run["status"] == "done"
        and sorted(last) == [record["step"] for record in calm["steps"]]
        and all(np.isfinite(record["loss"]) and record["tokens"] == whole for record in last.values())
    )


def _noticed(run: Mapping[str, Any], first: Mapping[str, Any] | None) -> float | None:
    if first is None:
        return None
    return next((loss["second"] - first["second"] for loss in run["losses"] if loss["node"] == first["node"]), None)


def _saved(run: Mapping[str, Any], incidents: list[dict[str, Any]]) -> bool:
    """Whether one node was hit in mid-iteration, and the iteration went on."""
    anew = any(event["event"] == "step begun anew" for event in run["events"])
    once = len(run["struck"]) == len(run["decisions"]) == len(run["losses"]) == 1
    here = once and run["struck"][0]["phase"] == ITERATION and run["struck"][0]["step"] == incidents[0]["step"]
    return here and not anew


def _bereft(plan: Plan, hit: set[str]) -> bool:
    """Whether a stage has lost all its nodes."""
    placement = np.asarray(plan.decisions.placement)
    live = np.array([name not in hit for name in plan.problem.nodes])
    return any(not live[placement == stage].any() for stage in range(plan.problem.n_stages))


def _recovery(
    steps: list[dict[str, Any]],
    before: list[dict[str, Any]],
    disturbed: Mapping[str, Any] | None,
    calm: Mapping[str, Any],
    reached: int,
) -> float | None:
    if disturbed is None:
        return None
    ended = {record["step"]: record["second"] for record in calm["steps"]}
    undisturbed = ended[disturbed["step"]] - ended[reached]
    return float(disturbed["second"] - before[-1]["second"] - undisturbed)
