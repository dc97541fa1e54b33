"""Plans for the iterations after nodes were lost, or have become slow: on the nodes that are left.

Weights stay where they are: the placement of the live nodes is kept, and only routes and their order are planned anew.
Where a stage has lost its last node, another node must take it over, and where there are fewer nodes than stages, the
model is cut anew: see `reassign`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InfeasiblePlan, NoPlanFound, Plan, ProvenInfeasible, verified
from pathloom.timeline import Timeline
from pathloom.worlds.train.check import check
from pathloom.worlds.train.problem import Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.repair import RouteDraft
from pathloom.worlds.train.runtime.measured_speeds import speed_factors, with_measured_speeds
from pathloom.worlds.train.runtime.reassignment import Move, Reassigned, reassign
from pathloom.worlds.train.runtime.surviving_problem import Measured, plan_for, widened, without_dead
from pathloom.worlds.train.simulator import plan_of

__all__ = ["Move", "Reassigned", "Replanned", "reassign", "replan", "with_measured_speeds"]


class Replanned(NamedTuple):
    """A plan for the nodes that are left.

    Attributes
    ----------
    problem
        Its nodes are the live ones, in their old order; TC1 is widened as little as they need.
    decisions, timeline
        Checked.
    node_map
        Shape (live nodes,): position of each node in the old problem.
    """

    problem: TrainProblem
    decisions: TrainDecisions
    timeline: Timeline
    node_map: Ints


def replan(
    problem: TrainProblem,
    live: NDArray[np.bool_],
    decisions: TrainDecisions,
    *,
    measured: Measured | None = None,
    time_limit: float,
    seed: int = 0,
    iterations: int | None = None,
) -> Replanned:
    """Plan for the live nodes, each in the stage whose weights it has.

    The routes are method "pathloom"'s, or the old ones with dead nodes replaced where that is better. A full pipeline
    stays one, backward passes that were split stay so, and model chunks make it an interleaved pipeline again.

    Parameters
    ----------
    live
        Shape (N,): nodes that can be used; all of them if only their speeds have changed.
    decisions
        The plan so far.
    measured
        What nodes really take, where that is known.
    time_limit
        Seconds of wall time; a search of routes takes at least one.
    iterations
        As for method "pathloom": the plan then depends on the seed alone.

    Raises
    ------
    ProvenInfeasible
        If a stage has no live node (see `reassign`), or no choice of stages keeps the caps.
    NoPlanFound
        If no routes were found in which all microbatches return.
    """
    began = time.perf_counter()
    live = np.asarray(live, dtype=np.bool_)
    placement = np.asarray(decisions.placement, dtype=np.int64)
    for stage in range(problem.n_stages):
        if not live[placement == stage].any():
            raise ProvenInfeasible(
                f"a live node of stage {stage}", "all its nodes have died, and the weights of the stage with them"
            )
    if measured:
        problem = with_measured_speeds(problem, speed_factors(problem, placement, measured))
    smaller = widened(without_dead(problem, live, placement))
    kept = _kept_routes(problem, smaller, live, decisions)
    left = time_limit - (time.perf_counter() - began)
    try:
        plan = plan_for(smaller, decisions, time_limit=left, seed=seed, iterations=iterations)
    except NoPlanFound:
        if kept is None:
            raise
        plan = kept
    if kept is not None and decisions.chunks == 1 and kept.objective.value < plan.objective.value:
        plan = kept
    return Replanned(plan.problem, plan.decisions, plan.timeline, np.flatnonzero(live))


def _kept_routes(
    problem: TrainProblem, smaller: TrainProblem, live: NDArray[np.bool_], decisions: TrainDecisions
) -> Plan | None:
    """The old routes with dead nodes replaced in their stages, first come, first served; None if that is no plan."""
    placement = np.asarray(decisions.placement, dtype=np.int64)
    moved = [
        (b, tuple(route), tuple(stages), 0, -1)
        for b, (route, stages) in enumerate(
            zip(np.asarray(decisions.routes).tolist(), np.asarray(decisions.stages).tolist(), strict=True)
        )
    ]
    draft = RouteDraft.of(problem, placement, live, moved, [], chunks=decisions.chunks)
    position = np.cumsum(live) - 1
    routes = position[np.array([r.route for r in draft.reissues], dtype=np.int64)]
    kept = replace(decisions, placement=placement[live], routes=routes, priority=None, strict=False)
    try:
        return verified(plan_of(smaller, kept, method="kept routes"), check)
    except (ValueError, InfeasiblePlan):  # nobody returns in this order, or the nodes left would take too many
        return None
