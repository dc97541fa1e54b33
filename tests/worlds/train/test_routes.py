"""Facts about stage orders and about the cost of routes."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import all_orders, random_problem

from pathloom.worlds.train.problem import Reordering, TrainDecisions
from pathloom.worlds.train.routes import admissible_orders, route_cost, stage_orders
from pathloom.worlds.train.simulator import simulate

BUDGETS = st.builds(
    Reordering, st.integers(0, 4), st.integers(0, 4), st.integers(0, 6), st.integers(1, 6)
)  # distance, swaps, total, jump


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 6), st.data())
def test_the_automaton_lists_what_the_definitions_allow(n_stages: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, n_stages))
    budget = data.draw(BUDGETS)
    expected = all_orders(n_stages, length, budget)
    found = stage_orders(n_stages, length, budget)
    assert [tuple(row) for row in found.tolist()] == expected  # both in lexicographic order
    assert admissible_orders(n_stages, length, budget).count == len(expected)


def test_skippipes_setting_has_22_orders_of_which_10_are_increasing() -> None:
    assert stage_orders(6, 4, Reordering()).shape == (22, 4)
    assert stage_orders(6, 4, Reordering(), in_order=True).shape == (10, 4)


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 6), st.data())
def test_a_set_of_stages_with_an_admissible_order_has_an_increasing_one(n_stages: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, n_stages))
    budget = data.draw(BUDGETS)
    increasing = {tuple(row) for row in stage_orders(n_stages, length, budget, in_order=True).tolist()}
    assert increasing == {tuple(sorted(order)) for order in all_orders(n_stages, length, budget)}


def test_many_stages_are_counted_and_listed_lazily() -> None:
    orders = admissible_orders(16, 11, Reordering())
    first = list(islice(orders, 1000))
    assert orders.count == 51_700 == sum(1 for _ in orders) == len(stage_orders(16, 11, Reordering()))
    assert stage_orders(16, 11, Reordering(), limit=1000).tolist() == [list(order) for order in first]
    with pytest.raises(ValueError, match="give a limit"):
        stage_orders(24, 16, Reordering(1, 5, 5, 4))


def test_samples_are_uniform_and_keep_to_the_allowed_stages() -> None:
    orders = admissible_orders(6, 4, Reordering())
    allowed = np.array([True, True, False, True, True, True])
    ways = orders.completions(allowed)
    rng = np.random.default_rng(1)
    drawn = [orders.sample(rng, ways, allowed) for _ in range(6000)]
    expected = [order for order in all_orders(6, 4, Reordering()) if 2 not in order]
    counts = np.array([drawn.count(order) for order in expected])
    assert counts.sum() == 6000
    assert ways[0] == len(expected)
    mean = 6000 / len(expected)
    assert ((counts - mean) ** 2 / mean).sum() < 3 * len(expected)  # chi-square far below a biased draw's


def test_there_is_no_sample_where_jumps_cannot_cross_the_gap() -> None:
    orders = admissible_orders(5, 3, Reordering(jump=2))
    allowed = np.array([True, False, False, True, True])
    assert orders.sample(np.random.default_rng(0), orders.completions(allowed), allowed) is None
    assert admissible_orders(3, 3, Reordering(jump=0)).count == 0


@pytest.mark.parametrize("length", [0, 5])
def test_a_route_visits_at_least_stage_0_and_at_most_all(length: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 4 stages"):
        admissible_orders(4, length, Reordering())


def test_a_budget_without_bounds_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(ValueError, match="too wide"):
        admissible_orders(40, 30, Reordering(30, 30, 400, 30))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_cost_is_the_iteration_time_of_a_microbatch_alone(seed: int, length: int) -> None:
    problem = replace(random_problem(seed, route_length=length), microbatches=1, gap=0.0, injection_gap=0.0)
    assert problem.placement is not None
    rng = np.random.default_rng(seed)
    stages = rng.permutation(stage_orders(4, length, problem.reordering))[:1]
    routes = np.array([[rng.choice(np.flatnonzero(problem.placement == p)) for p in stages[0]]])
    alone = simulate(problem, TrainDecisions(problem.placement, routes, stages)).iteration_time
    assert route_cost(problem, routes, stages).tolist() == pytest.approx([alone])


def test_cost_is_infinite_over_a_missing_link() -> None:
    problem = random_problem(3, route_length=2)
    assert problem.placement is not None
    source, other = (int(np.flatnonzero(problem.placement == p)[0]) for p in (0, 1))
    link = problem.link.copy()
    link[other, source] = np.inf
    cost = route_cost(replace(problem, link=link), np.array([[source, other]]), np.array([[0, 1]]))
    assert np.isinf(cost).all()
