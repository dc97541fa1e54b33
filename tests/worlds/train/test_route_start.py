"""Facts about where the route search starts: groups, quotas, dealt routes and placements."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_networks import random_problem
from slow_check import _of_routes as broken_route_rules

from pathloom.plan import ProvenInfeasible
from pathloom.worlds.train.problem import Ints, Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.route_start import (
    Groups,
    _cheapest_stretches,
    block_start,
    deal_routes,
    dealt_placement,
    group_microbatches,
    node_order,
    source_quota,
)
from pathloom.worlds.train.stage_budget import StageBudget


@st.composite
def networks(draw: st.DrawFn, placed: bool = True) -> TrainProblem:
    """Unequal nodes, caps of nodes and stages that may be too tight, some links missing."""
    sizes = draw(st.sampled_from([(2, 2, 2, 2), (1, 2, 1, 3), (3, 1, 1, 1, 1), (2, 2, 1, 2, 1), (2, 3), (4,)]))
    microbatches = draw(st.integers(1, 12))
    length = draw(st.integers(1, min(4, len(sizes))))
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    problem = random_problem(
        seed,
        sizes=sizes,
        microbatches=microbatches,
        route_length=length,
        slack=draw(st.integers(0, 3)),
        reordering=Reordering(jump=draw(st.integers(1, 4))),
    )
    changes: dict[str, object] = {"source_cap": problem.source_cap + draw(st.integers(0, 2))}
    if draw(st.booleans()):
        changes["node_cap"] = np.maximum(problem.node_cap + rng.integers(-1, 3, problem.n_nodes), 0)
    if draw(st.booleans()):
        link = problem.link.copy()
        link[rng.random(link.shape) < 0.2] = np.inf
        np.fill_diagonal(link, 0.0)
        changes["link"] = link
    if not placed:
        changes["placement"] = None
    return replace(problem, **changes)


def whole(groups: Groups, rows: Ints) -> Ints:
    """A row a microbatch, from a row a group."""
    return np.repeat(rows, groups.count, axis=0)


quotas = st.lists(st.integers(0, 15), min_size=1, max_size=5).filter(any).map(np.array)


@settings(max_examples=200, deadline=None)
@given(quotas, st.integers(1, 9), st.none() | st.integers(1, 4))
def test_groups_partition_the_microbatches(quota: Ints, size: int, most: int | None) -> None:
    groups = group_microbatches(quota, size, most)
    assert np.bincount(groups.source, weights=groups.count, minlength=len(quota)).tolist() == quota.tolist()
    assert (groups.count > 0).all()
    assert (groups.simulated == np.minimum(groups.count, groups.count if most is None else most)).all()
    members = groups.members[groups.members >= 0]
    assert sorted(members.tolist()) == list(range(groups.rows))
    assert ((groups.members >= 0).sum(axis=1) == groups.simulated).all()


@settings(max_examples=200, deadline=None)
@given(quotas, st.integers(1, 9))
def test_groups_of_a_source_are_as_large_as_asked_and_take_turns(quota: Ints, size: int) -> None:
    groups = group_microbatches(quota, size)
    for s, q in enumerate(quota.tolist()):
        own = np.flatnonzero(groups.source == s)
        if not q:
            assert len(own) == 0
            continue
        counts = groups.count[own]
        assert counts.max() - counts.min() <= 1
        assert len(own) == 1 if q < size else (size <= counts).all() and (counts < 2 * size).all()
        # the rows of a source are consecutive, and round follows round
        turns = [[row for row in groups.members[own, turn].tolist() if row >= 0] for turn in range(counts.max())]
        rows = [row for turn in turns for row in turn]
        assert rows == list(range(rows[0], rows[0] + q))


@settings(max_examples=150, deadline=None)
@given(networks())
def test_quotas_give_every_microbatch_a_source_and_faster_sources_no_fewer(problem: TrainProblem) -> None:
    placement = np.asarray(problem.placement)
    quota = source_quota(problem, placement)
    sources = np.flatnonzero(placement == 0)
    assert quota.shape == sources.shape
    assert quota.sum() == problem.microbatches
    assert (quota >= 0).all() and (quota <= problem.source_cap).all()
    seconds = (problem.forward[:, 0] + problem.loss + problem.backward[:, 0])[sources]
    faster = seconds[:, None] < seconds[None, :] * (1 - 1e-6)
    assert (quota[:, None] >= quota[None, :])[faster].all()
    if np.ptp(seconds) < 1e-9:
        assert np.ptp(quota) <= 1


def test_too_few_sources_are_proven_infeasible() -> None:
    problem = replace(random_problem(0, sizes=(2, 3), microbatches=7, route_length=2), source_cap=3)
    with pytest.raises(ProvenInfeasible, match="TC1-source"):
        source_quota(problem, np.asarray(problem.placement))


@settings(max_examples=200, deadline=None)
@given(networks(), st.booleans(), st.integers(0, 100))
def test_single_microbatches_are_dealt_routes_exactly_if_there_are_some(
    problem: TrainProblem, cheapest: bool, seed: int
) -> None:
    placement = np.asarray(problem.placement)
    groups = group_microbatches(source_quota(problem, placement), 1)
    dealt = deal_routes(problem, placement, groups, cheapest=cheapest, rng=np.random.default_rng(seed))
    assert (dealt is not None) == StageBudget.of(problem, placement).possible
    if dealt is not None:
        assert broken_route_rules(problem, TrainDecisions(placement, *dealt)) == set()


@settings(max_examples=200, deadline=None)
@given(networks(), st.integers(2, 6), st.booleans(), st.integers(0, 100))
def test_dealt_routes_of_groups_keep_the_caps_for_all_their_microbatches(
    problem: TrainProblem, size: int, cheapest: bool, seed: int
) -> None:
    placement = np.asarray(problem.placement)
    groups = group_microbatches(source_quota(problem, placement), size)
    dealt = deal_routes(problem, placement, groups, cheapest=cheapest, rng=np.random.default_rng(seed))
    assume(dealt is not None)
    assert dealt is not None
    routes, stages = dealt
    assert (routes[:, 0] == np.flatnonzero(placement == 0)[groups.source]).all()
    decisions = TrainDecisions(placement, whole(groups, routes), whole(groups, stages))
    assert broken_route_rules(problem, decisions) == set()


def test_dealt_routes_avoid_a_full_node_even_where_the_other_has_no_link() -> None:
    """Every step has to go to a node with room, and a missing link is left to the search to get rid of."""
    link = np.array([[0.0, 1.0, np.inf], [1.0, 0.0, 1.0], [np.inf, 1.0, 0.0]])
    problem = random_problem(
        1, sizes=(1, 2), microbatches=4, route_length=2, placement=np.array([0, 1, 1]), link=link, source_cap=4
    )
    groups = group_microbatches(np.array([4]), 1)
    for cheapest in (True, False):
        dealt = deal_routes(problem, np.array([0, 1, 1]), groups, cheapest=cheapest, rng=np.random.default_rng(0))
        assert dealt is not None
        assert np.bincount(dealt[0][:, 1], minlength=3).tolist() == [0, 2, 2]


@settings(max_examples=100, deadline=None)
@given(networks(placed=False), st.integers(0, 100))
def test_placements_are_dealt_to_the_sizes_of_the_stages(problem: TrainProblem, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert sorted(node_order(problem, rng=rng).tolist()) == list(range(problem.n_nodes))
    placement = dealt_placement(problem, rng=rng)
    assert np.bincount(placement, minlength=problem.n_stages).tolist() == problem.stage_sizes.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_dealt_placement_has_one_of_each_stage_in_every_stretch(seed: int) -> None:
    """Twelve nodes on a line, four stages of three: any four neighbours from the start of the tour on make a chain."""
    place = np.arange(12.0)
    problem = random_problem(
        seed, sizes=(3, 3, 3, 3), link=np.abs(place[:, None] - place[None, :]), placement=None, route_length=3
    )
    rng, twin = np.random.default_rng(seed), np.random.default_rng(seed)
    placement = dealt_placement(problem, rng=rng)
    order = node_order(problem, rng=twin)
    assert all(sorted(placement[order[at : at + 4]].tolist()) == [0, 1, 2, 3] for at in (0, 4, 8))


@settings(max_examples=200, deadline=None)
@given(networks(placed=False), st.integers(0, 100))
def test_blocks_give_every_source_nodes_of_its_own(problem: TrainProblem, seed: int) -> None:
    even = -(-problem.microbatches // int(problem.stage_sizes[0]))
    blocks = block_start(problem, even, rng=np.random.default_rng(seed))
    assume(blocks is not None)
    assert blocks is not None
    placement, routes, stages = blocks
    assert np.bincount(placement, minlength=problem.n_stages).tolist() == problem.stage_sizes.tolist()
    assert routes.shape == stages.shape == (problem.stage_sizes[0], problem.route_length)
    assert len(np.unique(routes)) == routes.size
    assert routes[:, 0].tolist() == np.flatnonzero(placement == 0).tolist()
    each = np.minimum(even, problem.microbatches - even * np.arange(len(routes))).clip(0)
    decisions = TrainDecisions(placement, np.repeat(routes, each, axis=0), np.repeat(stages, each, axis=0))
    assert len(decisions.routes) == problem.microbatches
    assert broken_route_rules(problem, decisions) == set()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4))
def test_stretches_are_the_cheapest_disjoint_ones(seed: int, k: int, blocks: int, spare: int) -> None:
    rng = np.random.default_rng(seed)
    n = k * blocks + spare
    cost = rng.choice([1.0, 2.0, 5.0, np.inf], n - k + 1, p=[0.3, 0.3, 0.3, 0.1])
    disjoint = [c for c in combinations(range(n - k + 1), blocks) if all(b - a >= k for a, b in pairwise(c))]
    best = min(float(cost[list(c)].sum()) for c in disjoint)
    found = _cheapest_stretches(cost, k, n, blocks)
    if found is None:
        assert best == np.inf
        return
    assert tuple(sorted(found.tolist())) in disjoint
    assert cost[found].sum() == best


def test_blocks_of_a_line_with_a_gap_lie_on_either_side_of_it() -> None:
    """Six nodes, three here and three far away; wherever the tour is cut, no block but the cut one spans the gap."""
    place = np.array([0.0, 1.0, 2.0, 50.0, 51.0, 52.0])
    link = np.abs(place[:, None] - place[None, :])
    problem = random_problem(
        0,
        sizes=(2, 2, 2),
        microbatches=4,
        route_length=3,
        placement=None,
        link=link,
        forward=np.ones((6, 3)),
        node_cap=np.full(6, 4),
        stage_cap=np.full(3, 4),
    )
    found = 0
    for seed in range(12):
        order = node_order(problem, rng=np.random.default_rng(seed)).tolist()
        blocks = block_start(problem, 2, rng=np.random.default_rng(seed))
        assert blocks is not None
        assert sorted(sorted(route) for route in blocks[1].tolist()) == sorted([sorted(order[:3]), sorted(order[3:])])
        found += sorted(order[:3]) in ([0, 1, 2], [3, 4, 5])
    assert found
