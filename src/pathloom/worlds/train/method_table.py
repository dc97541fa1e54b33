"""The table of methods that ``pathloom plan`` prints for a training problem, and bounds for plans without one."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from pathloom.plan import Plan
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem

COLUMNS = (
    "stages run",
    "iteration time",
    "bubble share",
    "busiest node",
    "lower bound",
    "proven gap",
    "planning time",
)


def row(plan: Plan) -> Sequence[str]:
    """Cells of the table, one for each of `COLUMNS`.

    The stages that a microbatch runs are part of it, because full pipelines do more work than plans that skip; their
    bound and gap are those of the problem that they solve.
    """
    problem: TrainProblem = plan.problem
    metrics = plan.metrics
    return (
        f"{problem.route_length} of {problem.n_stages}",
        f"{plan.objective.value:.2f} s",
        f"{metrics['bubble_share']:.1%}",
        f"{metrics['busiest_node']} ({metrics['busiest_share']:.0%})",
        "-" if plan.bound is None else f"{plan.bound:.2f} s",
        "-" if plan.gap is None else f"{plan.gap:.1%}",
        f"{plan.seconds:.1f} s",
    )


def bound_for(plan: Plan, known: Sequence[Plan], *, time_limit: float) -> tuple[float, str] | None:
    """A lower bound for `plan`: one that is known for its very problem, or one computed now.

    Bounds count on backward passes being one task and on one activation a slot. They do not hold for plans with
    several model chunks a node, which get none, and plans that split the backward pass get a weaker one.
    """
    from pathloom.worlds.train.bounds import lower_bound

    decisions: TrainDecisions = plan.decisions
    if decisions.chunks > 1:
        return None
    problem = pickle.dumps(plan.problem)
    best: tuple[float, str] | None = None
    for other in known:
        alike = other.decisions.split_backward == decisions.split_backward and other.decisions.chunks == 1
        if other.bound is None or not alike or pickle.dumps(other.problem) != problem:
            continue
        if best is None or other.bound > best[0]:
            best = other.bound, other.bound_by or ""
    if best is not None:
        return best
    found = lower_bound(plan.problem, time_limit=time_limit, split_backward=decisions.split_backward)
    return found.value, found.by
