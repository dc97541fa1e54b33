"""Annealing of one state of the route search: a placement, routes of groups of microbatches, and shifts of the order.

Every move is judged by simulating the whole iteration (tens of microseconds for 30 microbatches), so what is optimised
is exactly what is paid. `route_search` drives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pathloom.plan import stop_requested
from pathloom.simulate._kernels import INJECTION, run_chains, workspace
from pathloom.worlds.train import _route_kernels as kernels
from pathloom.worlds.train.problem import Floats, Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.route_start import Groups
from pathloom.worlds.train.simulator import chains, simulate

SLICE = 0.15  # seconds of annealing between looks at the clock
SMOOTH = 1.0  # weight of the mean return time beside the iteration time
NEAR = 16  # nodes that count as near a node


@dataclass(frozen=True)
class Arena:
    """The problem as the annealing kernel takes it."""

    problem: TrainProblem
    forward: Floats
    backward: Floats
    loss: Floats
    link: Floats
    slots: Ints
    rest: Floats
    slot: np.ndarray
    spawn: np.ndarray
    stage_cap: Ints
    node_cap: Ints
    budget: Ints
    near: Ints
    sync_latency: Floats
    sync_seconds: Floats
    weights: Floats

    @classmethod
    def of(cls, problem: TrainProblem) -> Arena:
        k = problem.route_length
        tasks = 2 * k + 1
        rest = np.full(tasks, problem.gap)
        rest[0] = problem.injection_gap
        slot = np.zeros(tasks, dtype=np.int8)
        slot[:k], slot[k + 1 :] = 1, -1
        budget = problem.reordering
        none = np.zeros((1, 1))
        return cls(
            problem,
            np.array(problem.forward),
            np.array(problem.backward),
            np.array(problem.loss),
            np.array(problem.link),
            np.array(problem.memory),
            rest,
            slot,
            np.full(tasks, -1, dtype=np.int32),
            np.array(problem.stage_cap),
            np.array(problem.node_cap),
            np.array([budget.distance, budget.swaps, budget.total, budget.jump], dtype=np.int64),
            _near_nodes(problem),
            none if problem.sync_latency is None else np.array(problem.sync_latency),
            none if problem.sync_seconds is None else np.array(problem.sync_seconds),
            _move_weights(problem),
        )


def _near_nodes(problem: TrainProblem) -> Ints:
    """For each node the others with the cheapest links, shape (N, q)."""
    cost = np.array(problem.link + problem.link.T)
    np.fill_diagonal(cost, np.inf)
    q = min(NEAR, max(problem.n_nodes - 1, 1))
    return np.argsort(cost, axis=1, kind="stable")[:, :q].astype(np.int64)


def _move_weights(problem: TrainProblem) -> Floats:
    """Frequencies of the kinds of moves; those that the problem leaves no room for get none."""
    weights = np.zeros(kernels.N_MOVES)
    k, s = problem.route_length, problem.n_stages
    skipping = k < s
    weights[kernels.SWAP_NODES] = 3.0
    weights[kernels.EXCHANGE_VISITS] = 3.0 if skipping else 0.0
    weights[kernels.SWAP_TAILS] = 2.0
    weights[kernels.REORDER] = 1.0 if problem.reordering.distance > 0 and problem.reordering.swaps > 0 else 0.0
    visits = problem.microbatches * (k - 1)
    later = np.argsort(-problem.node_cap)[: problem.n_nodes - int(problem.stage_sizes[0])]
    if problem.node_cap[later].sum() > visits:
        weights[kernels.CHANGE_NODE] = 2.0
        weights[kernels.CHANGE_VISIT] = 2.0 if skipping else 0.0
    if int(problem.stage_sizes[0]) * problem.source_cap > problem.microbatches:
        weights[kernels.SOURCE] = 1.0
    if problem.placement is None:
        weights[kernels.PLACE] = 1.5
    weights[kernels.NEAR] = 3.0
    weights[kernels.BIAS], weights[kernels.INJECT] = 0.7, 0.2
    return weights


@dataclass
class State:
    """A candidate: placement, and nodes and stages of each group's route."""

    placement: Ints
    routes: Ints
    stages: Ints
    groups: Groups
    key: Floats
    value: float = np.inf

    @property
    def complete(self) -> bool:
        """Whether its value was simulated with all microbatches."""
        return bool((self.groups.simulated == self.groups.count).all())


def expanded(state: State, field_: Ints) -> Ints:
    """Routes (or stages) of groups, as rows of their simulated microbatches."""
    rows = np.empty((state.groups.rows, field_.shape[1]), dtype=np.int64)
    for g, members in enumerate(state.groups.members):
        rows[members[members >= 0]] = field_[g]
    return rows


def first_come(problem: TrainProblem, rows: int) -> Floats:
    key = np.zeros((rows, 2 * problem.route_length + 1))
    key[:, 0] = INJECTION
    return key


def anneal(
    arena: Arena,
    state: State,
    *,
    hot: float,
    cold: float,
    until: float,
    order_moves: bool,
    rng: np.random.Generator,
    iterations: int | None,
    report: Callable[[State], None],
) -> State:
    """Anneal from `state` until the clock says `until` (or for a number of iterations); returns the best state."""
    problem, groups = arena.problem, state.groups
    routes, stages = expanded(state, state.routes), expanded(state, state.stages)
    key, placement = state.key.copy(), state.placement.copy()
    best_routes, best_stages, best_key, best_place = routes.copy(), stages.copy(), key.copy(), placement.copy()
    best_value = np.array([np.inf, np.inf])
    n, tasks = key.shape
    work = workspace(n, tasks, problem.n_nodes)
    weights = arena.weights.copy()
    if not order_moves:
        weights[[kernels.BIAS, kernels.INJECT]] = 0.0
    release, after = np.zeros(n), np.full(n, -1, dtype=np.int64)
    first = groups.members[:, 0]
    stretch = problem.microbatches / n  # above 1 where only some waves are simulated

    def run(first_temperature: float, last_temperature: float, count: int) -> None:
        kernels.anneal(
            routes, stages, key, placement, groups.members, groups.simulated, groups.count,
            arena.forward, arena.backward, arena.loss, arena.link, arena.slots, arena.rest, arena.slot, arena.spawn,
            problem.source_cap, arena.stage_cap, arena.node_cap, arena.budget, arena.near, arena.sync_latency,
            arena.sync_seconds, problem.sync_latency is not None, weights, release, after, SMOOTH,
            first_temperature, last_temperature, count, int(rng.integers(1 << 30)),
            best_routes, best_stages, best_key, best_place, best_value, work,
        )  # fmt: skip

    def found() -> State:
        return State(
            best_place.copy(),
            best_routes[first].copy(),
            best_stages[first].copy(),
            groups,
            best_key.copy(),
            float(best_value[0]) * stretch,
        )

    run(1e-9, 1e-9, 0)
    scale = min(float(best_value[0]), kernels.STUCK / 100)
    hot, cold = hot * scale, cold * scale
    if iterations is not None:
        run(hot, cold, iterations)
        report(found())
        return found()
    began = time.perf_counter()
    duration = max(until - began, 1e-3)
    count = 50
    while (now := time.perf_counter()) < until and not stop_requested():
        done = (now - began) / duration
        run(hot * (cold / hot) ** done, hot * (cold / hot) ** min(1.0, done + SLICE / duration), count)
        spent = time.perf_counter() - now
        count = max(20, min(4 * count, int(count * SLICE / max(spent, 1e-4))))
        report(found())
    return found()


def decisions_of(problem: TrainProblem, state: State) -> TrainDecisions:
    """The decisions of a complete state: plain first come, first served where that gives the same time."""
    routes, stages = expanded(state, state.routes), expanded(state, state.stages)
    plain = TrainDecisions(state.placement.copy(), routes, stages)
    outcome = simulate(problem, plain)
    if not np.isnan(outcome.returned).any() and outcome.iteration_time <= state.value + 1e-9:
        return plain
    return TrainDecisions(
        state.placement.copy(), routes, stages, priority=_order_of_starts(problem, state, routes, stages)
    )


def _order_of_starts(problem: TrainProblem, state: State, routes: Ints, stages: Ints) -> Floats:
    """Rank of every task by its start under the state's own order; as a priority it gives the same timetable."""
    laid = chains(problem, TrainDecisions(state.placement, routes, stages))
    n, tasks = laid.node.shape
    start, end = np.empty((n, tasks)), np.empty((n, tasks))
    never = np.zeros(0, dtype=np.int64)
    run_chains(
        laid.node, laid.duration, laid.hop, laid.rest, laid.slot, laid.spawn, laid.chain, np.zeros(n),
        np.full(n, -1, dtype=np.int64), state.key, 2, never, never, laid.slots, np.full(problem.n_nodes, np.inf),
        np.full(n, np.inf), np.zeros((0, 4)), np.zeros((0, 5)), np.inf, start, end,
        workspace(n, tasks, problem.n_nodes),
    )  # fmt: skip
    # of two tasks that start together, which a loss of no duration may do, the one that ended went first
    rank = np.empty(n * tasks)
    rank[np.lexsort((end.ravel(), start.ravel()))] = np.arange(n * tasks)
    return rank.reshape(n, tasks)
