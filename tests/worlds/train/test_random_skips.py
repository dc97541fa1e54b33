"""Facts about random routes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import all_orders, random_problem

from pathloom.plan import NoPlanFound, ProvenInfeasible
from pathloom.worlds.train.check import check
from pathloom.worlds.train.problem import Reordering
from pathloom.worlds.train.random_skips import random_skips
from pathloom.worlds.train.reference import reference_instance
from pathloom.worlds.train.stage_budget import StageBudget


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(2, 2, 2, 2), (1, 2, 1, 3), (3, 1, 1, 1, 1), (2, 2, 1, 2, 1)]),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_a_plan_is_found_whenever_tc1_leaves_one(
    seed: int, sizes: tuple[int, ...], length: int, microbatches: int, jump: int
) -> None:
    problem = random_problem(
        seed, sizes=sizes, microbatches=microbatches, route_length=length, reordering=Reordering(jump=jump)
    )
    possible = StageBudget.of(problem, np.asarray(problem.placement)).possible
    try:
        plan = random_skips(problem, time_limit=1.0, seed=seed)
    except ProvenInfeasible:
        assert not possible
    else:
        assert possible
        assert check(problem, plan) == []


def test_thirty_microbatches_fill_the_caps_of_skippipes_instance_exactly() -> None:
    placement = np.repeat(np.arange(6), [5, 3, 3, 3, 3, 3])
    problem = reference_instance(as_published=False, placement=placement)
    for seed in range(10):
        plan = random_skips(problem, time_limit=1.0, seed=seed)
        assert check(problem, plan) == []
        visits = np.bincount(plan.decisions.routes.ravel(), minlength=20)
        assert visits.tolist() == [6] * 20


def test_routes_change_with_the_seed_and_only_with_it() -> None:
    problem = random_problem(0, microbatches=12)
    one, same, other = (random_skips(problem, time_limit=1.0, seed=seed).decisions.routes for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_without_binding_caps_every_route_is_as_likely_as_any_other() -> None:
    problem = random_problem(0, sizes=(1, 2, 1, 2, 1), microbatches=4000, route_length=3, slack=4000)
    problem = replace(problem, stage_cap=np.full(5, 4000), memory=np.full(7, 4000))
    decisions = random_skips(problem, time_limit=1.0, seed=3).decisions
    orders = all_orders(5, 3, problem.reordering)
    counts = np.array([(decisions.stages == order).all(axis=1).sum() for order in orders])
    mean = 4000 / len(orders)
    assert ((counts - mean) ** 2 / mean).sum() < 3 * len(orders)
    for p in (1, 3):
        share = np.bincount(decisions.routes[decisions.stages == p])
        share = share[share > 0]
        assert len(share) == 2
        assert abs(share[0] - share[1]) < 5 * np.sqrt(share.sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_one_slot_a_node_does_not_end_in_deadlock(seed: int) -> None:
    problem = random_problem(seed, sizes=(2, 1, 1, 1, 1), microbatches=10, route_length=4, memory=np.ones(6, np.int64))
    plan = random_skips(problem, time_limit=1.0, seed=seed)
    assert check(problem, plan) == []


def test_missing_links_are_never_used() -> None:
    problem = random_problem(7, sizes=(2, 3, 3, 3), microbatches=6, route_length=3, slack=6)
    rng = np.random.default_rng(0)
    link = np.where(rng.random(problem.link.shape) < 0.05, np.inf, problem.link)
    np.fill_diagonal(link, 0.0)
    plan = random_skips(replace(problem, link=link), time_limit=1.0)
    assert check(replace(problem, link=link), plan) == []
    with pytest.raises(NoPlanFound, match="missing link"):
        random_skips(replace(problem, link=np.where(np.eye(11) > 0, 0.0, np.inf)), time_limit=1.0)


def test_caps_that_are_too_tight_are_proven_infeasible() -> None:
    problem = random_problem(1, sizes=(2, 2, 2, 2), microbatches=6, route_length=3)
    with pytest.raises(ProvenInfeasible, match="TC1"):
        random_skips(replace(problem, stage_cap=np.array([6, 6, 2, 2])), time_limit=1.0)
    with pytest.raises(NoPlanFound, match="under this placement"):
        random_skips(
            replace(problem, stage_cap=np.array([6, 6, 2, 2]), placement=None),
            time_limit=1.0,
            placement=problem.placement,
        )
