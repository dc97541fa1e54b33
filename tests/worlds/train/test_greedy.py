"""Facts about greedy routing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import all_routes, random_problem

from pathloom.data.network import measured_network
from pathloom.plan import NoPlanFound, Progress, ProvenInfeasible
from pathloom.worlds.train.check import check
from pathloom.worlds.train.greedy import alike, greedy
from pathloom.worlds.train.instance import pipeline_instance, round_robin
from pathloom.worlds.train.problem import Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.reference import reference_instance
from pathloom.worlds.train.routes import route_cost
from pathloom.worlds.train.stage_budget import StageBudget


def plain_greedy_costs(problem: TrainProblem, taken: TrainDecisions) -> list[float]:
    """Cost of the cheapest route that each microbatch is allowed, by trying all, after those before it took theirs."""
    budget = StageBudget.of(problem, taken.placement)
    left = np.array(problem.node_cap)
    costs = []
    for b in range(problem.microbatches):
        allowed = []
        for nodes, order in all_routes(problem, taken.placement, int(taken.routes[b, 0])):
            if (left[list(nodes[1:])] > 0).all() and budget.allows(np.isin(np.arange(problem.n_stages), order)):
                allowed.append((nodes, order))
        routes, stages = (np.array(column) for column in zip(*allowed, strict=True))
        costs.append(float(route_cost(problem, routes, stages).min()))
        budget.take(np.isin(np.arange(problem.n_stages), taken.stages[b]))
        left[taken.routes[b, 1:]] -= 1
    return costs


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(2, 2, 2, 2), (1, 2, 1, 3), (3, 1, 1, 1, 1), (2, 2, 1, 2, 1)]),
    st.integers(2, 4),
    st.integers(1, 7),
    st.integers(0, 2),
    st.integers(1, 4),
)
def test_every_microbatch_takes_the_cheapest_route_that_is_left(
    seed: int, sizes: tuple[int, ...], length: int, microbatches: int, slack: int, jump: int
) -> None:
    problem = random_problem(
        seed,
        sizes=sizes,
        microbatches=microbatches,
        route_length=length,
        slack=slack,
        reordering=Reordering(jump=jump),
        memory=np.full(sum(sizes), microbatches * 2),  # no deadlock, so that no order is changed afterwards
    )
    try:
        plan = greedy(problem, time_limit=1.0)
    except ProvenInfeasible:
        assert not StageBudget.of(problem, np.asarray(problem.placement)).possible
        return
    assert check(problem, plan) == []
    taken = plan.decisions
    assert route_cost(problem, taken.routes, taken.stages).tolist() == pytest.approx(plain_greedy_costs(problem, taken))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 2))
def test_little_memory_does_not_end_in_deadlock(seed: int, memory: int) -> None:
    problem = random_problem(seed, sizes=(2, 1, 1, 1), microbatches=8, route_length=4, memory=np.full(5, memory))
    assert check(problem, greedy(problem, time_limit=1.0)) == []


def test_caps_that_are_exactly_used_up_leave_nobody_without_a_route() -> None:
    problem = reference_instance(as_published=False)
    plan = greedy(problem, time_limit=0.2, seed=1)
    assert check(problem, plan) == []
    others = plan.decisions.placement != 0
    visits = np.bincount(plan.decisions.routes[:, 1:].ravel(), minlength=20)
    assert visits[others].tolist() == problem.node_cap[others].tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 4), st.floats(0, 0.4))
def test_nodes_of_one_group_have_the_same_links(seed: int, n: int, regions: int, odd: float) -> None:
    problem = random_problem(seed, sizes=(n, 1), regions=regions, route_length=2)
    rng = np.random.default_rng(seed)
    link = np.where(rng.random(problem.link.shape) < odd * odd, problem.link + 1.0, problem.link)
    group = alike(replace(problem, link=link))
    both = link + link.T
    for i in range(n + 1):
        for j in range(n + 1):
            others = [k for k in range(n + 1) if k not in (i, j)]
            assert (group[i] == group[j]) == bool((both[i, others] == both[j, others]).all())


def test_a_thousand_nodes_and_three_thousand_microbatches_are_routed() -> None:
    network = measured_network("gcp12")
    problem = pipeline_instance(
        round_robin(network.regions, 1000), network, stages=16, microbatches=3000, route_length=11
    )
    placement = np.random.default_rng(0).permutation(np.repeat(np.arange(16), problem.stage_sizes))
    plan = greedy(problem, time_limit=60.0, placement=placement)
    assert check(problem, plan) == []


def test_missing_links_are_avoided_or_named() -> None:
    problem = random_problem(5, sizes=(1, 2, 2), microbatches=2, route_length=2, slack=2)
    assert problem.placement is not None
    source = int(np.flatnonzero(problem.placement == 0)[0])
    link = problem.link.copy()
    one = np.flatnonzero(problem.placement == 1)[0]
    link[source, one] = np.inf
    plan = greedy(replace(problem, link=link), time_limit=1.0)
    assert one not in plan.decisions.routes
    assert check(replace(problem, link=link), plan) == []
    link[source] = np.inf
    link[source, source] = 0.0
    with pytest.raises(NoPlanFound, match="no route from"):
        greedy(replace(problem, link=link), time_limit=1.0)


def test_caps_that_are_too_tight_are_proven_infeasible() -> None:
    problem = random_problem(1, sizes=(2, 2, 2, 2), microbatches=6, route_length=3)
    with pytest.raises(ProvenInfeasible, match="TC1"):
        greedy(replace(problem, node_cap=np.ones(8, dtype=np.int64)), time_limit=1.0)
    with pytest.raises(ProvenInfeasible, match="TC1"):
        greedy(replace(problem, source_cap=2), time_limit=1.0)


def test_a_budget_too_wide_for_the_automaton_is_used_without_swaps() -> None:
    n = 24
    problem = random_problem(
        2, sizes=(1,) * n, microbatches=3, route_length=16, slack=3, reordering=Reordering(20, 20, 200, 8)
    )
    plan = greedy(problem, time_limit=1.0)
    assert (np.diff(plan.decisions.stages, axis=1) > 0).all()
    assert check(problem, plan) == []


def test_progress_ends_with_the_objective() -> None:
    seen: list[Progress] = []
    problem = random_problem(4)
    plan = greedy(problem, time_limit=1.0, on_progress=seen.append)
    assert seen[-1].best == plan.objective.value
    assert plan.method == "greedy"
    assert greedy(problem, time_limit=1.0).objective == plan.objective
