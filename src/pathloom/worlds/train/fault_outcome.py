"""Nodes that die in mid-iteration: what is lost, what a recovery policy does about it, and what that costs.

A failure is noticed `detection` seconds after it happens. Until then everybody carries on; tasks on the dead node and
messages to and from it are lost. Then the policy (see `pathloom.worlds.train.recovery`) decides new attempts, and the
iteration goes on. The data of stage 0 is replicated on all its nodes, and so are the weights of a stage; when the last
node of a stage dies, its weights are gone and there is nothing to recover.

A dead node takes with it the gradients that it has summed over the microbatches that it had finished. By default these
microbatches count as done, and the stage's gradient averages over the others; with ``redo_gradients`` they are lost and
done again, so that the gradient is exactly that of a restarted iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pathloom.plan import InfeasiblePlan
from pathloom.timeline import Timeline
from pathloom.worlds.train.attempts import Conditions
from pathloom.worlds.train.fault_check import check_recovery
from pathloom.worlds.train.fault_story import Failure, Story
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import RecoveryPolicy, policy_named
from pathloom.worlds.train.repair import Widening
from pathloom.worlds.train.simulator import Disturbances, simulate


@dataclass(frozen=True)
class FaultOutcome:
    """One iteration with failures.

    Attributes
    ----------
    policy
        Name of the recovery policy.
    iteration_time
        Seconds until every microbatch has been completed and gradients are synchronised.
    nominal
        The same without the failures.
    lost_time
        ``iteration_time - nominal``.
    restart_time, restart_lost_time
        The same for the restart of the iteration; nan where it was not asked for.
    failures
        The failures, by time.
    detection
        Seconds after which each was noticed.
    lost, rerouted
        Names of the microbatches that lost an attempt, and of those that had not been injected and got another route.
    incomplete_gradients
        Names of the microbatches whose gradient a dead node had summed and took with it.
    widening
        By how much throughput caps had to be exceeded.
    completed
        Whether every microbatch was completed; if not, `iteration_time` is infinite.
    timeline
        What happened. Kinds are `FAULT_KINDS`: work that was done for nothing is "wasted". Columns: "stage", "visit"
        (as in plans), "attempt" (of the microbatch, from 0), "work" (kind of the task, also of wasted ones).
    """

    policy: str
    iteration_time: float
    nominal: float
    lost_time: float
    restart_time: float
    restart_lost_time: float
    failures: tuple[Failure, ...]
    detection: float
    lost: tuple[str, ...]
    rerouted: tuple[str, ...]
    incomplete_gradients: tuple[str, ...]
    widening: Widening
    completed: bool
    timeline: Timeline


def simulate_failures(
    problem: TrainProblem,
    decisions: TrainDecisions,
    failures: Sequence[Failure],
    *,
    policy: str | RecoveryPolicy = "reroute",
    detection: float = 1.0,
    disturbances: Disturbances | None = None,
    seed: int = 0,
    redo_gradients: bool = False,
    evaluations: int | None = None,
    compare_restart: bool = True,
) -> FaultOutcome:
    """Simulate one iteration in which nodes die.

    Parameters
    ----------
    policy
        "reroute", "restart", or a policy object.
    detection
        Seconds between a failure and the policy's decision.
    disturbances
        Noise, stragglers and slow links of the iteration; its failures and drops are not looked at. The policy knows
        stragglers and slow links, and noise only on what has begun.
    redo_gradients
        Do the microbatches again whose gradients die with a node.
    evaluations
        Simulations that the named policy, and the restart, may spend on new routes.
    compare_restart
        Also find out what the restart of the iteration would take.

    Raises
    ------
    ProvenInfeasible
        If a stage loses its last node.
    NoPlanFound
        If no routes around the dead nodes were found.
    InfeasiblePlan
        If the independent check of the outcome finds a broken rule.
    """
    wrong = disturbances or Disturbances()
    calm = Disturbances(wrong.noise, wrong.node_windows, wrong.link_windows)
    nominal = simulate(problem, decisions, disturbances=calm, seed=seed).iteration_time
    chosen = policy_named(policy, evaluations=evaluations, seed=seed)
    story = Story(Conditions(problem, decisions, calm, seed), tuple(failures), detection, redo_gradients)
    story.run(chosen)
    restart_time = np.nan
    if compare_restart:
        if chosen.name == "restart":
            restart_time = story.finished
        else:
            other = Story(story.conditions_at_start, story.failures, detection, redo_gradients)
            other.run(policy_named("restart", evaluations=evaluations, seed=seed))
            restart_time = other.finished
    table = story.timeline()
    outcome = FaultOutcome(
        policy=chosen.name,
        iteration_time=story.finished,
        nominal=nominal,
        lost_time=story.finished - nominal,
        restart_time=restart_time,
        restart_lost_time=restart_time - nominal,
        failures=story.failures,
        detection=detection,
        lost=tuple(f"mb{b}" for b in sorted(story.lost)),
        rerouted=tuple(f"mb{b}" for b in sorted(story.rerouted)),
        incomplete_gradients=tuple(f"mb{b}" for b in story.incomplete_gradients()),
        widening=story.widening,
        completed=bool(np.isfinite(story.finished)),
        timeline=table,
    )
    exact = calm.noise == 0 and not len(calm.node_windows) and not len(calm.link_windows)
    violations = check_recovery(
        problem,
        decisions,
        table,
        [(f.node, f.second) for f in story.failures],
        detection=detection,
        restarts=[time for _, time in story.thrown_away],
        exact=exact,
    )
    if outcome.completed and violations:
        raise InfeasiblePlan(violations)
    return outcome
