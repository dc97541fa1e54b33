"""Random skips: every microbatch takes a random route that CC and TC1 allow, whatever its links cost.

The "DT-FM skip" of SkipPipe's comparison (N. Blagoev, L. Y. Chen, O. Ersoy, 2025): DT-FM's placement, skipping without
scheduling. Microbatches are routed one after the other in random order; sources are dealt evenly.

Each draws a stage order uniformly from the admissible ones that visit stages with room, and draws again if the stages
left would not do for all later microbatches (`stage_budget`). After `TRIES` such draws, which happens only when caps
are all but used up, it takes a set of stages that is known to leave enough, in a random admissible order. The node at
each stage is drawn in proportion to what its cap still allows, so every way to fill the nodes of a stage is as likely
as any other. The stage orders of different microbatches are not exactly uniform over all assignments (counting those
is intractable): early ones are freer than late ones, which the random order of the microbatches evens out.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress
from pathloom.worlds.train.greedy import dealt_sources, feasible_budget, orders_within, placed
from pathloom.worlds.train.hold_and_wait import without_deadlock
from pathloom.worlds.train.problem import Floats, Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.routes import StageOrders
from pathloom.worlds.train.simulator import plan_of
from pathloom.worlds.train.stage_budget import StageBudget

TRIES = 32
RESTARTS = 20


def random_skips(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    placement: Ints | None = None,
) -> Plan:
    """DT-FM's placement with random routes.

    Parameters
    ----------
    time_limit
        Seconds; bounds the placement search, which is skipped where the problem or `placement` (shape (N,)) gives one.

    Raises
    ------
    ProvenInfeasible, NoPlanFound
        If TC1 leaves no routes for all microbatches (proven where the placement is given), or missing links do not.
    """
    begin = time.monotonic()
    placement = placed(problem, time_limit, seed, on_progress, begin, placement)
    orders = orders_within(problem)
    rng = np.random.default_rng(seed)
    for _ in range(RESTARTS):  # only missing links can spoil a start
        drawn = _draw(problem, placement, orders, rng)
        if drawn is not None:
            break
    else:
        raise NoPlanFound(f"{RESTARTS} times random routes ran into a missing link")
    routes, stages = drawn
    decisions, _ = without_deadlock(problem, TrainDecisions(placement=placement, routes=routes, stages=stages))
    plan = replace(plan_of(problem, decisions, method="dtfm-skip", seed=seed), seconds=time.monotonic() - begin)
    if on_progress is not None:
        on_progress(Progress(plan.seconds, plan.objective.value, None, "dtfm-skip"))
    return plan


def _draw(
    problem: TrainProblem, placement: Ints, orders: StageOrders, rng: np.random.Generator
) -> tuple[Ints, Ints] | None:
    """Routes and stages of all microbatches, shape (B, K); None where a node has no link to go on."""
    budget = feasible_budget(problem, placement)
    left = np.array(problem.node_cap, dtype=np.int64)
    members = [np.flatnonzero(placement == p) for p in range(problem.n_stages)]
    linked = np.isfinite(problem.link) & np.isfinite(problem.link.T)
    sources = dealt_sources(problem, placement)
    routes = np.empty((problem.microbatches, problem.route_length), dtype=np.int64)
    stages = np.empty_like(routes)
    ways: dict[bytes, Floats] = {}
    for b in rng.permutation(problem.microbatches):
        stages[b] = _stage_order(orders, budget, rng, ways)
        budget.take(_mask(stages[b], problem.n_stages))
        routes[b, 0] = sources[b]
        for k in range(1, problem.route_length):
            nodes = members[stages[b, k]]
            usable = linked[routes[b, k - 1], nodes]
            if k == problem.route_length - 1:
                usable = usable & linked[nodes, sources[b]]
            weight = np.cumsum(left[nodes] * usable)
            if weight[-1] == 0:
                return None
            routes[b, k] = nodes[np.searchsorted(weight, rng.integers(weight[-1]), side="right")]
            left[routes[b, k]] -= 1
    return routes, stages


def _stage_order(
    orders: StageOrders, budget: StageBudget, rng: np.random.Generator, ways: dict[bytes, Floats]
) -> tuple[int, ...]:
    """A random stage order that the budget allows; `ways` keeps completions by mask of allowed stages."""
    part = budget.parts[int(rng.integers(len(budget.parts)))]
    open_stages = np.zeros(orders.n_stages, dtype=bool)
    open_stages[: len(part.room)] = part.room > 0
    open_stages[0] = True
    for _ in range(TRIES):
        order = _sample(orders, rng, ways, open_stages)
        if order is not None and budget.allows(_mask(order, orders.n_stages)):
            return order
    known = list(budget.sets(part))
    order = _sample(orders, rng, ways, known[int(rng.integers(len(known)))])
    assert order is not None  # the increasing order of such a set is admissible
    return order


def _sample(
    orders: StageOrders, rng: np.random.Generator, ways: dict[bytes, Floats], allowed: NDArray[np.bool_]
) -> tuple[int, ...] | None:
    mask = allowed.tobytes()
    if mask not in ways:
        ways[mask] = orders.completions(allowed)
    return orders.sample(rng, ways[mask], allowed)


def _mask(stages: Ints | tuple[int, ...], n_stages: int) -> NDArray[np.bool_]:
    mask = np.zeros(n_stages, dtype=bool)
    mask[np.asarray(stages)] = True
    return mask
