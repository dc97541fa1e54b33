"""The compiled annealing of routes: its parts against plain twins, and what no mix of moves may ever break."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_networks import keeps_definitions, random_problem
from slow_check import _of_routes as broken_route_rules

from pathloom.simulate._kernels import INJECTION, workspace
from pathloom.worlds.train import _route_kernels as kernels
from pathloom.worlds.train import check_routes
from pathloom.worlds.train.check import check
from pathloom.worlds.train.problem import Floats, Ints, Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.route_annealing import SMOOTH, Arena, State, decisions_of
from pathloom.worlds.train.route_start import Groups, deal_routes, group_microbatches, source_quota
from pathloom.worlds.train.simulator import chains, plan_of, simulate, sync_seconds

BUDGETS = [
    Reordering(),
    Reordering(0, 0, 0, 1),
    Reordering(0, 2, 2, 4),
    Reordering(1, 1, 1, 2),
    Reordering(2, 2, 2, 3),
    Reordering(2, 2, 3, 2),
    Reordering(3, 3, 9, 5),
]


def array_of(budget: Reordering) -> Ints:
    return np.array([budget.distance, budget.swaps, budget.total, budget.jump], dtype=np.int64)


def checker_accepts(order: tuple[int, ...], budget: Reordering) -> bool:
    """Whether the checker finds no rule of CC-a to CC-d broken by one route."""
    row = np.array([order], dtype=np.int64)
    reading: Any = SimpleNamespace(
        problem=SimpleNamespace(nodes=tuple("abcdefgh"), reordering=budget, route_length=len(order)),
        stages=row,
        routes=row,
        chunks=1,
        code=np.zeros(0, dtype=np.int64),
        item=np.zeros(0, dtype=np.int64),
        node=np.zeros(0, dtype=np.int64),
    )
    return not (check_routes.first_stage(reading) + check_routes.visits(reading) + check_routes.reordering(reading))


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_orders_are_valid_exactly_if_the_checker_accepts_them(budget: Reordering) -> None:
    """All sequences of up to four visits of four stages, those that repeat a stage included."""
    for k in range(1, 5):
        for order in product(range(4), repeat=k):
            assert kernels.valid_order(np.array(order), array_of(budget)) == checker_accepts(order, budget), order


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_orders_of_six_stages_are_valid_exactly_if_they_keep_the_definitions(budget: Reordering) -> None:
    for k in range(1, 7):
        for order in permutations(range(6), k):
            assert kernels.valid_order(np.array(order), array_of(budget)) == keeps_definitions(order, budget), order


@settings(max_examples=300, deadline=None)
@given(st.permutations(range(1, 7)), st.integers(1, 6), st.sampled_from(BUDGETS))
def test_settling_sorts_a_route_only_if_it_must(shuffled: list[int], visits: int, budget: Reordering) -> None:
    order = (0, *shuffled[: visits - 1])
    stages, routes = np.array(order), 10 + np.array(order)
    kernels.settle(stages, routes, array_of(budget))
    assert tuple(stages) == (order if keeps_definitions(order, budget) else tuple(sorted(order)))
    assert (routes == 10 + stages).all()  # nodes stay with their stages


def synced(problem: TrainProblem, seed: int) -> TrainProblem:
    rng = np.random.default_rng(seed)
    n = problem.n_nodes
    return replace(problem, sync_latency=rng.uniform(0.01, 0.5, (n, n)), sync_seconds=rng.uniform(0.5, 9.0, (n, n)))


@st.composite
def instances(draw: st.DrawFn) -> TrainProblem:
    """Unequal nodes, caps tight or not, with and without given placement, synchronisation, rests and missing links."""
    sizes = draw(st.sampled_from([(2, 2, 2, 2), (1, 2, 1, 3), (3, 1, 1, 1, 1), (2, 3), (3,)]))
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    problem = random_problem(
        seed,
        sizes=sizes,
        microbatches=draw(st.integers(1, 9)),
        route_length=draw(st.integers(1, min(4, len(sizes)))),
        slack=draw(st.integers(0, 2)),
        reordering=draw(st.sampled_from([Reordering(), Reordering(2, 2, 3, 2), Reordering(0, 0, 0, 2)])),
    )
    changes: dict[str, Any] = {"source_cap": problem.source_cap + draw(st.integers(0, 1))}
    if draw(st.booleans()):
        changes["node_cap"] = problem.node_cap + rng.integers(0, 3, problem.n_nodes)
    if draw(st.booleans()):
        changes["gap"], changes["injection_gap"] = 0.0, 0.0
    if draw(st.booleans()):
        changes["loss"] = np.zeros(problem.n_nodes)
    if draw(st.booleans()):
        changes["link"] = np.where(rng.random(problem.link.shape) < 0.1, np.inf, problem.link)
        np.fill_diagonal(changes["link"], 0.0)
    problem = replace(problem, **changes)
    return synced(problem, seed) if draw(st.booleans()) else problem


def started(problem: TrainProblem, size: int, most: int | None = None, seed: int = 0) -> State | None:
    placement = np.array(problem.placement)
    groups = group_microbatches(source_quota(problem, placement), size, most)
    dealt = deal_routes(problem, placement, groups, cheapest=seed % 2 == 0, rng=np.random.default_rng(seed))
    if dealt is None:
        return None
    key = np.zeros((groups.rows, 2 * problem.route_length + 1))
    key[:, 0] = INJECTION
    return State(placement, *dealt, groups, key)


class Run:
    """The arrays of one annealing run, as `route_search` lays them out."""

    def __init__(self, problem: TrainProblem, state: State) -> None:
        self.arena, self.groups = Arena.of(problem), state.groups
        self.routes, self.stages = rows(state.groups, state.routes), rows(state.groups, state.stages)
        self.key, self.placement = state.key.copy(), state.placement.copy()
        self.best = [self.routes.copy(), self.stages.copy(), self.key.copy(), self.placement.copy()]
        self.value = np.full(2, np.inf)

    def anneal(self, iterations: int, *, weights: Floats, hot: float = 2.0, cold: float = 0.05, seed: int = 0) -> int:
        arena, problem, n = self.arena, self.arena.problem, len(self.routes)
        return int(
            kernels.anneal(
                self.routes, self.stages, self.key, self.placement, self.groups.members, self.groups.simulated,
                self.groups.count, arena.forward, arena.backward, arena.loss, arena.link, arena.slots, arena.rest,
                arena.slot, arena.spawn, problem.source_cap, arena.stage_cap, arena.node_cap, arena.budget, arena.near,
                arena.sync_latency, arena.sync_seconds, problem.sync_latency is not None, weights, np.zeros(n),
                np.full(n, -1, dtype=np.int64), SMOOTH, hot, cold, iterations, seed, *self.best, self.value,
                workspace(n, 2 * problem.route_length + 1, problem.n_nodes),
            )
        )  # fmt: skip

    def states(self) -> list[State]:
        """The present state and the best one."""
        first = self.groups.members[:, 0]
        return [
            State(placement, routes[first], stages[first], self.groups, key)
            for routes, stages, key, placement in ((self.routes, self.stages, self.key, self.placement), self.best)
        ]


def rows(groups: Groups, of_groups: Ints) -> Ints:
    """A row a simulated microbatch."""
    out = np.full((groups.rows, of_groups.shape[1]), -1, dtype=np.int64)
    for g, members in enumerate(groups.members):
        out[members[members >= 0]] = of_groups[g]
    return out


def every_microbatch(state: State) -> TrainDecisions:
    count = state.groups.count
    return TrainDecisions(
        state.placement, np.repeat(state.routes, count, axis=0), np.repeat(state.stages, count, axis=0)
    )


@settings(max_examples=60, deadline=None)
@given(instances())
def test_a_route_is_laid_out_as_the_simulator_does(problem: TrainProblem) -> None:
    state = started(problem, 1)
    assume(state is not None)
    assert state is not None
    laid = chains(problem, TrainDecisions(state.placement, state.routes, state.stages))
    n, tasks = laid.node.shape
    node, duration, hop = np.full((n, tasks), -1, dtype=np.int32), np.full((n, tasks), -1.0), np.zeros((n, tasks))
    arena = Arena.of(problem)
    for b in range(n):
        kernels.lay_out(
            b, state.routes, state.stages, arena.forward, arena.backward, arena.loss, arena.link, node, duration, hop
        )
    np.testing.assert_array_equal(node, laid.node)
    np.testing.assert_array_equal(duration, laid.duration)
    np.testing.assert_array_equal(hop[:, : laid.chain - 1], laid.hop[:, : laid.chain - 1])
    for ours, simulators in ((arena.rest, laid.rest), (arena.slot, laid.slot), (arena.slots, laid.slots)):
        np.testing.assert_array_equal(ours, simulators)


@pytest.mark.parametrize("seed", range(6))
def test_stages_are_synchronised_as_long_as_the_simulator_says(seed: int) -> None:
    problem = synced(random_problem(seed, sizes=(3, 2, 1, 4)), seed)
    placement = np.random.default_rng(seed).permutation(np.array(problem.placement))
    out = np.full(4, -1.0)
    kernels.stage_sync(placement, np.array(problem.sync_latency), np.array(problem.sync_seconds), 4, out)
    np.testing.assert_allclose(out, sync_seconds(problem, placement), rtol=1e-12)


def plain_objective(
    latest: float, returned: int, end: Floats, node: Ints, placement: Ints, sync: Floats
) -> tuple[float, float]:
    if returned < len(end):
        return kernels.STUCK * (len(end) - returned), 0.0
    stage = placement[node]
    done = [float(end[stage == p].max(initial=0.0)) + x for p, x in enumerate(sync)]
    return max([latest, *done]), float(np.mean(end[:, -1]))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_objective_is_the_end_of_the_last_synchronisation(seed: int, use_sync: bool, stuck: bool) -> None:
    rng = np.random.default_rng(seed)
    n_items, tasks = int(rng.integers(1, 5)), 5
    node = rng.integers(0, 6, (n_items, tasks)).astype(np.int32)
    placement = rng.integers(0, 3, 6)
    end = np.cumsum(rng.uniform(0, 2, (n_items, tasks)), axis=1)
    sync = rng.uniform(0, 5, 3) if use_sync else np.zeros(0)
    returned = n_items - int(stuck)
    latest = float(end.max())
    done = np.zeros(3)
    assert kernels.objective(latest, returned, end, node, tasks, placement, sync, done) == pytest.approx(
        plain_objective(latest, returned, end, node, placement, sync)
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_swapping_places_renames_two_nodes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 6
    placement, load = rng.integers(0, 3, n), rng.integers(0, 9, n)
    routes = np.array([rng.permutation(n)[:3] for _ in range(4)])
    x, y = rng.integers(0, n, 2)
    name = np.arange(n)
    name[[x, y]] = name[[y, x]]
    swapped = routes.copy(), placement.copy(), load.copy()
    kernels.swap_places(x, y, *swapped)
    for found, expected in zip(swapped, (name[routes], placement[name], load[name]), strict=True):
        np.testing.assert_array_equal(found, expected)
    kernels.swap_places(x, y, *swapped)
    for found, expected in zip(swapped, (routes, placement, load), strict=True):
        np.testing.assert_array_equal(found, expected)


MOVES = {
    name: getattr(kernels, name)
    for name in (
        *("SWAP_NODES", "EXCHANGE_VISITS", "REORDER", "CHANGE_NODE", "CHANGE_VISIT", "SWAP_TAILS"),
        *("BIAS", "INJECT", "PLACE", "SOURCE", "NEAR"),
    )
}


def test_these_are_all_moves() -> None:
    assert sorted(MOVES.values()) == list(range(kernels.N_MOVES))


mixes = st.lists(st.sampled_from([0.0, 0.0, 1.0, 3.0]), min_size=len(MOVES), max_size=len(MOVES)).filter(any)


@settings(max_examples=200, deadline=None)
@given(instances(), st.integers(1, 4), mixes, st.integers(0, 400), st.integers(0, 10**6), st.sampled_from([0.1, 50.0]))
def test_no_mix_of_moves_breaks_a_rule(
    problem: TrainProblem, size: int, mix: list[float], iterations: int, seed: int, hot: float
) -> None:
    state = started(problem, size, seed=seed)
    assume(state is not None)
    assert state is not None
    assert broken_route_rules(problem, every_microbatch(state)) == set()
    run = Run(problem, state)
    given_placement = np.array(problem.placement)
    run.anneal(iterations, weights=np.array(mix), hot=hot, seed=seed)
    opened = replace(problem, placement=None)
    for found in run.states():
        assert broken_route_rules(opened, every_microbatch(found)) == set()
        if not mix[kernels.PLACE]:
            assert (found.placement == given_placement).all()
        if not mix[kernels.SOURCE] and not mix[kernels.PLACE]:
            assert (found.routes[:, 0] == state.routes[:, 0]).all()
    # whole groups have moved
    np.testing.assert_array_equal(run.routes, rows(run.groups, run.states()[0].routes))
    np.testing.assert_array_equal(run.stages, rows(run.groups, run.states()[0].stages))


@settings(max_examples=150, deadline=None)
@given(instances(), st.integers(1, 3), mixes, st.integers(0, 300), st.integers(0, 10**6))
def test_the_value_of_the_best_state_is_what_the_simulator_says(
    problem: TrainProblem, size: int, mix: list[float], iterations: int, seed: int
) -> None:
    state = started(problem, size, seed=seed)
    assume(state is not None)
    assert state is not None
    opened = replace(problem, placement=None)
    run = Run(opened, state)
    run.anneal(0, weights=np.array(mix))
    before = float(run.value[0])
    plain = simulate(opened, every_row(state))
    if np.isfinite(plain.returned).all():
        assert before == pytest.approx(plain.iteration_time, rel=1e-12)
    else:
        assert before == kernels.STUCK * np.isnan(plain.returned).sum()
    run.anneal(iterations, weights=np.array(mix), seed=seed)
    assert run.value[0] <= before + 1e-6  # values that differ by rounding alone count as equal
    best = run.states()[1]
    best.value = float(run.value[0])
    if best.value >= kernels.STUCK:
        return
    plan = plan_of(opened, decisions_of(opened, best), method="anneal")
    if plan.decisions.priority is None:  # first come, first served is at least as good
        assert plan.objective.value <= best.value * (1 + 1e-9)
    else:
        assert plan.objective.value == pytest.approx(best.value, rel=1e-9)
    assert check(opened, plan) == []


@pytest.mark.parametrize("seed", range(30))
def test_losses_that_take_no_time_keep_their_turn(seed: int) -> None:
    """Without rests a loss of no duration starts together with the task after it, and must still come before it."""
    problem = random_problem(
        seed, sizes=(1, 2, 1), microbatches=6, slack=2, loss=np.zeros(4), gap=0.0, injection_gap=0.0
    )
    state = started(problem, 1, seed=seed)
    assert state is not None
    run = Run(problem, state)
    weights = np.zeros(kernels.N_MOVES)
    weights[[kernels.BIAS, kernels.INJECT]] = 1.0
    run.anneal(100, weights=weights, seed=seed)
    best = run.states()[1]
    best.value = float(run.value[0])
    if best.value < kernels.STUCK:
        assert simulate(problem, decisions_of(problem, best)).iteration_time <= best.value * (1 + 1e-9)


def every_row(state: State) -> TrainDecisions:
    return TrainDecisions(state.placement, rows(state.groups, state.routes), rows(state.groups, state.stages))


@settings(max_examples=40, deadline=None)
@given(instances(), mixes, st.integers(0, 10**6))
def test_the_same_seed_gives_the_same_run(problem: TrainProblem, mix: list[float], seed: int) -> None:
    state = started(problem, 2, seed=seed)
    assume(state is not None)
    assert state is not None
    runs = [Run(replace(problem, placement=None), state) for _ in range(2)]
    accepted = [run.anneal(200, weights=np.array(mix), seed=seed) for run in runs]
    assert accepted[0] == accepted[1]
    for one, other in zip((runs[0].value, *runs[0].best), (runs[1].value, *runs[1].best), strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=60, deadline=None)
@given(instances(), st.integers(1, 2), mixes, st.integers(0, 10**6))
def test_groups_of_which_some_are_simulated_keep_the_caps_for_all(
    problem: TrainProblem, most: int, mix: list[float], seed: int
) -> None:
    state = started(problem, 4, most, seed)
    assume(state is not None)
    assert state is not None
    run = Run(problem, state)
    run.anneal(200, weights=np.array(mix), seed=seed)
    for found in run.states():
        assert broken_route_rules(replace(problem, placement=None), every_microbatch(found)) == set()


@pytest.mark.parametrize("name", MOVES)
def test_every_kind_of_move_changes_something(name: str) -> None:
    """On an instance with room each move alone finds a neighbour that it may accept."""
    problem = random_problem(5, sizes=(3, 3, 3, 3), microbatches=9, slack=4, memory=np.full(12, 4))
    problem = replace(problem, source_cap=9, stage_cap=np.full(4, 9), reordering=Reordering(2, 2, 3, 3))
    state = started(problem, 1, seed=1)
    assert state is not None
    run = Run(replace(problem, placement=None), state)
    weights = np.zeros(kernels.N_MOVES)
    weights[MOVES[name]] = 1.0
    before = [x.copy() for x in (run.routes, run.stages, run.key, run.placement)]
    assert run.anneal(300, weights=weights, hot=1e3, cold=1e3) > 0
    assert any((x != y).any() for x, y in zip(before, (run.routes, run.stages, run.key, run.placement), strict=True))


def test_annealing_gets_microbatches_out_of_a_deadlock() -> None:
    """Two microbatches that go 0-1-2 and 0-2-1 with one slot a node hold what the other one needs."""
    problem = random_problem(
        0,
        sizes=(2, 1, 1),
        microbatches=2,
        route_length=3,
        placement=np.array([0, 0, 1, 2]),
        link=1.0 - np.eye(4),
        forward=np.ones((4, 3)),
        memory=np.ones(4),
        slack=1,
    )
    groups = group_microbatches(np.array([1, 1]), 1)
    key = np.zeros((2, 7))
    key[:, 0] = INJECTION
    state = State(problem.placement, np.array([[0, 2, 3], [1, 3, 2]]), np.array([[0, 1, 2], [0, 2, 1]]), groups, key)
    run = Run(problem, state)
    run.anneal(0, weights=np.ones(kernels.N_MOVES))
    assert run.value[0] == 2 * kernels.STUCK
    weights = np.zeros(kernels.N_MOVES)
    weights[kernels.REORDER] = 1.0
    run.anneal(50, weights=weights)
    assert run.value[0] < 100.0
