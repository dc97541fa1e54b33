"""The problem that the live nodes have, and plans for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Plan, ProvenInfeasible, verified
from pathloom.worlds.train.bounds import LowerBound
from pathloom.worlds.train.check import check
from pathloom.worlds.train.problem import Ints, Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.route_search import pathloom
from pathloom.worlds.train.simulator import plan_of
from pathloom.worlds.train.stage_budget import StageBudget

Measured = Mapping[int, tuple[float, float]]
"""Node -> seconds that one microbatch's forward and whole backward pass really take there."""

NOT_SOUGHT = LowerBound(0.0, "not sought")
"""In place of a lower bound: the next plan is wanted soon, not proven good."""


def plan_for(
    problem: TrainProblem, like: TrainDecisions, *, time_limit: float, seed: int, iterations: int | None = None
) -> Plan:
    """A checked plan of the same kind as other decisions for the problem.

    Raises
    ------
    ProvenInfeasible, NoPlanFound
        As method "pathloom" does.
    """
    seconds = max(time_limit, 0.0)
    if like.chunks > 1:
        from pathloom.worlds.train.full_pipelines import interleaved

        plan = interleaved(problem, time_limit=seconds, seed=seed, placement=problem.placement, chunks=like.chunks)
        return verified(plan, check)
    if _is_full_pipeline(problem, like):
        problem = replace(problem, reordering=Reordering(0, 0, 0, max(problem.reordering.jump, 1)))
    plan = pathloom(problem, time_limit=seconds, seed=seed, iterations=iterations, bound=NOT_SOUGHT)
    return _split(verified(plan, check), like)


def without_dead(problem: TrainProblem, live: NDArray[np.bool_], placement: Ints) -> TrainProblem:
    """The problem without its dead nodes, the others where they are; every stage must have one.

    Parameters
    ----------
    placement
        Shape (N,): stage of each node; those of dead nodes are not read.
    """
    keep = np.flatnonzero(live)
    pairs = np.ix_(keep, keep)
    return replace(
        problem,
        nodes=tuple(problem.nodes[n] for n in keep),
        locations=tuple(problem.locations[n] for n in keep),
        forward=problem.forward[keep],
        backward=problem.backward[keep],
        weight=problem.weight[keep],
        loss=problem.loss[keep],
        link=problem.link[pairs],
        memory=problem.memory[keep],
        node_cap=problem.node_cap[keep],
        stage_sizes=np.bincount(placement[keep], minlength=problem.n_stages),
        placement=placement[keep],
        sync_latency=None if problem.sync_latency is None else problem.sync_latency[pairs],
        sync_seconds=None if problem.sync_seconds is None else problem.sync_seconds[pairs],
    )


def widened(problem: TrainProblem) -> TrainProblem:
    """The problem with the caps TC1 of sources and nodes raised by the least that leaves room for all microbatches.

    Raises
    ------
    ProvenInfeasible
        If it is not these caps that stand in the way.
    """
    assert problem.placement is not None
    source_cap = max(problem.source_cap, -(-problem.microbatches // int(problem.stage_sizes[0])))
    for more in range(problem.microbatches + 1):
        wider = replace(problem, source_cap=source_cap, node_cap=problem.node_cap + more)
        if StageBudget.of(wider, problem.placement).possible:
            return wider if more or source_cap > problem.source_cap else problem
    raise ProvenInfeasible(
        "TC1-stage",
        f"the caps of the stages leave no {problem.route_length} stages for each of {problem.microbatches} "
        "microbatches, however many of them a node takes",
    )


def _is_full_pipeline(problem: TrainProblem, decisions: TrainDecisions) -> bool:
    every_stage = problem.route_length == problem.n_stages
    return every_stage and bool((np.diff(np.asarray(decisions.stages), axis=1) > 0).all())


def _split(plan: Plan, like: TrainDecisions) -> Plan:
    """The plan with split backward passes if the other decisions had them, and if it works that way."""
    if not like.split_backward:
        return plan
    try:
        return verified(plan_of(plan.problem, replace(plan.decisions, split_backward=True), method=plan.method), check)
    except ValueError:  # slots are free later, and nodes wait for each other's
        return plan
