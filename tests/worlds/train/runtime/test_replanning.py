"""Plans for the nodes that are left: weights stay where they are as long as anybody has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_networks import random_problem
from small_plans import varied_case

from pathloom.plan import NoPlanFound, Objective, Plan, ProvenInfeasible
from pathloom.worlds.train.check import check
from pathloom.worlds.train.full_pipelines import full_problem, one_f_one_b, zb_h1
from pathloom.worlds.train.greedy import greedy
from pathloom.worlds.train.llama import LlamaShape
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem, Workload
from pathloom.worlds.train.runtime.reassignment import recut
from pathloom.worlds.train.runtime.replanning import Reassigned, Replanned, reassign, replan, with_measured_speeds
from pathloom.worlds.train.runtime.surviving_problem import widened, without_dead
from pathloom.worlds.train.simulator import simulate
from pathloom.worlds.train.stage_budget import StageBudget

QUICK: dict[str, Any] = {"time_limit": 5.0, "iterations": 40}


def violations(found: Replanned | Reassigned) -> list[str]:
    objective = Objective("iteration time", found.timeline.makespan, "s")
    plan = Plan(found.problem, found.decisions, found.timeline, objective, "next")
    return [str(v) for v in check(found.problem, plan)]


def planned(seed: int, **changes: object) -> tuple[TrainProblem, TrainDecisions]:
    """Ten nodes in four stages, and greedy routes."""
    problem = random_problem(seed, sizes=(3, 3, 2, 2), microbatches=8, **changes)  # type: ignore[arg-type]
    return problem, greedy(problem, time_limit=0.0).decisions


def dead(problem: TrainProblem, *nodes: int) -> np.ndarray:
    live = np.ones(problem.n_nodes, dtype=bool)
    live[list(nodes)] = False
    return live


def nodes_of(decisions: TrainDecisions, stage: int) -> list[int]:
    return np.flatnonzero(np.asarray(decisions.placement) == stage).tolist()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), deaths=st.integers(0, 3))
def test_the_live_nodes_keep_their_stages_and_the_checker_accepts_their_plan(seed: int, deaths: int) -> None:
    problem, decisions = varied_case(seed, nodes=10, stages=4, route_length=3, chunks=1, missing=0.0)
    rng = np.random.default_rng(seed)
    live = dead(problem, *rng.choice(10, deaths, replace=False))
    assume(all(live[nodes_of(decisions, p)].any() for p in range(4)))
    found = replan(problem, live, decisions, seed=seed, **QUICK)
    assert violations(found) == []
    assert found.problem.nodes == tuple(problem.nodes[n] for n in found.node_map)
    np.testing.assert_array_equal(found.node_map, np.flatnonzero(live))
    np.testing.assert_array_equal(found.decisions.placement, np.asarray(decisions.placement)[live])
    np.testing.assert_array_equal(found.problem.forward, problem.forward[live])
    np.testing.assert_array_equal(found.problem.link, problem.link[np.ix_(live, live)])
    assert len(found.decisions.routes) == problem.microbatches
    assert np.isfinite(simulate(found.problem, found.decisions).iteration_time)


def test_the_next_plan_is_no_worse_than_the_old_routes_with_the_dead_replaced() -> None:
    problem, decisions = planned(4)
    found = replan(problem, dead(problem, nodes_of(decisions, 1)[0]), decisions, **QUICK)
    stay = replan(problem, dead(problem), decisions, **QUICK)
    assert stay.timeline.makespan <= simulate(problem, decisions).iteration_time + 1e-9
    assert found.timeline.makespan > 0


@pytest.mark.parametrize("seed", range(6))
def test_caps_are_widened_by_the_least_that_leaves_room(seed: int) -> None:
    problem, decisions = planned(seed)
    for node in (nodes_of(decisions, 0)[0], nodes_of(decisions, 2)[0]):
        smaller = without_dead(problem, dead(problem, node), np.asarray(decisions.placement))
        wide = widened(smaller)
        more = int((wide.node_cap - smaller.node_cap)[0])
        assert (wide.node_cap - smaller.node_cap == more).all()
        assert StageBudget.of(wide, wide.placement).possible
        if more:
            narrow = replace(wide, node_cap=wide.node_cap - 1)
            assert not StageBudget.of(narrow, narrow.placement).possible
        sources = len(nodes_of(decisions, 0)) - (node in nodes_of(decisions, 0))
        assert wide.source_cap == max(problem.source_cap, -(-8 // sources))
        np.testing.assert_array_equal(wide.stage_cap, problem.stage_cap)
    as_it_is = replace(problem, placement=decisions.placement)
    assert widened(as_it_is) is as_it_is


def test_a_stage_without_nodes_cannot_be_planned_for() -> None:
    problem, decisions = planned(1)
    with pytest.raises(ProvenInfeasible, match="a live node of stage 2"):
        replan(problem, dead(problem, *nodes_of(decisions, 2)), decisions, **QUICK)
    with pytest.raises(ProvenInfeasible, match="all nodes have died"):
        reassign(problem, dead(problem, *range(10)), decisions, stage_layers=(1,) * 4, **QUICK)


def test_nodes_without_links_have_no_plan() -> None:
    problem, decisions = planned(1)
    cut_off = problem.link.copy()
    cut_off[~np.eye(10, dtype=bool)] = np.inf
    with pytest.raises(NoPlanFound):
        replan(replace(problem, link=cut_off), dead(problem), decisions, **QUICK)


def test_a_slow_node_gets_less_to_do() -> None:
    problem, decisions = planned(2, slack=4, regions=1)
    slow = nodes_of(decisions, 2)[0]
    usual = replan(problem, dead(problem), decisions, **QUICK)
    seconds = problem.forward[slow, 2], problem.backward[slow, 2]
    measured = {slow: (20 * seconds[0], 20 * seconds[1])}
    around = replan(problem, dead(problem), decisions, measured=measured, **QUICK)
    assert violations(around) == []
    np.testing.assert_allclose(around.problem.forward[slow], 20 * problem.forward[slow])
    assert (around.decisions.routes == slow).sum() < (usual.decisions.routes == slow).sum()
    same = replan(problem, dead(problem), decisions, measured={slow: seconds}, **QUICK)
    np.testing.assert_array_equal(same.problem.forward, problem.forward)


def test_measured_speeds_scale_all_that_a_node_computes() -> None:
    problem, _ = planned(0)
    changed = with_measured_speeds(problem, {3: 2.0})
    for name in ("forward", "backward", "weight", "loss"):
        ratio = getattr(changed, name) / getattr(problem, name)
        assert (ratio[3] == 2.0).all() and (np.delete(ratio, 3, axis=0) == 1.0).all()
    assert with_measured_speeds(problem, np.ones(10)) is problem
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="factors"):
            with_measured_speeds(problem, {3: wrong})


def test_a_full_pipeline_stays_one_and_a_split_stays_split() -> None:
    base = random_problem(5, sizes=(3, 3, 3), microbatches=6, route_length=2)
    for method, split in ((one_f_one_b, False), (zb_h1, True)):
        plan = method(base, time_limit=0.1)
        found = replan(plan.problem, dead(base, 4), plan.decisions, **QUICK)
        assert violations(found) == []
        assert (found.decisions.stages == np.arange(3)).all()
        assert found.decisions.split_backward == split


def test_model_chunks_stay_where_they_are() -> None:
    problem, decisions = varied_case(3, nodes=8, stages=3, route_length=3, microbatches=4, chunks=2, missing=0.0,
                                     memory=(2, 4), sync=False)  # fmt: skip
    full = full_problem(problem)
    spare = next(n for n in range(8) if len(nodes_of(decisions, decisions.placement[n])) > 1)
    found = replan(full, dead(problem, spare), decisions, **QUICK)
    assert violations(found) == []
    assert found.decisions.chunks == 2 and found.decisions.stages.max() == 5


@pytest.mark.parametrize("stage", [0, 2])
def test_a_stage_that_lost_all_nodes_gets_one_of_another_stage(stage: int) -> None:
    problem, decisions = planned(6)
    gone = nodes_of(decisions, stage)
    found = reassign(problem, dead(problem, *gone), decisions, stage_layers=(3, 2, 2, 1), **QUICK)
    assert violations(found) == []
    assert found.stage_layers == (3, 2, 2, 1)
    (move,) = found.moves
    layers = {0: (0, 1, 2), 2: (5, 6)}[stage]
    assert (move.to_stage, move.layers) == (stage, layers)
    assert move.node not in gone and decisions.placement[move.node] == move.from_stage != stage
    before, after = np.asarray(decisions.placement)[found.node_map], found.decisions.placement
    assert found.node_map[before != after].tolist() == [move.node]
    assert (np.bincount(after, minlength=4) >= 1).all()


def test_the_node_that_moves_is_the_one_that_is_missed_least() -> None:
    """All stages could spare a node; one has a node that is of little use there, but quick in the empty stage."""
    problem, decisions = planned(7, regions=1, slack=6)
    gone = nodes_of(decisions, 3)
    slow = nodes_of(decisions, 1)[1]
    factors = np.ones((10, 1))
    factors[slow] = 30.0  # useless where it is, because others do its work; but quick in stage 3
    times = {name: getattr(problem, name) * factors for name in ("forward", "backward", "weight")}
    for name in times:
        times[name][slow, 3] = getattr(problem, name)[slow, 3]
    problem = replace(problem, **times)  # type: ignore[arg-type]
    found = reassign(problem, dead(problem, *gone), decisions, stage_layers=(1,) * 4, **QUICK)
    assert [m.node for m in found.moves] == [slow]


def test_two_empty_stages_get_two_nodes() -> None:
    problem, decisions = planned(8)
    gone = [*nodes_of(decisions, 0), *nodes_of(decisions, 3)]
    found = reassign(problem, dead(problem, *gone), decisions, stage_layers=(1, 1, 1, 1), **QUICK)
    assert violations(found) == []
    assert sorted(m.to_stage for m in found.moves) == [0, 3]


@pytest.mark.parametrize("left", [3, 2, 1])
def test_fewer_nodes_than_stages_hold_larger_stages(left: int) -> None:
    shape = LlamaShape(dim=16, layers=10, heads=2, kv_heads=2, ffn_dim=32, context=8, vocab=32)
    problem, decisions = planned(9, workload=Workload(shape, (4, 2, 2, 2), 1), route_length=3)
    live = dead(problem, *range(10 - left))
    found = reassign(problem, live, decisions, stage_layers=(4, 2, 2, 2), **QUICK)
    assert violations(found) == []
    assert sum(found.stage_layers) == 10 and len(found.stage_layers) == left == found.problem.n_stages
    assert found.problem.workload is not None and found.problem.workload.stage_layers == found.stage_layers
    assert sorted(layer for m in found.moves for layer in m.layers) == list(range(10))
    # all layers are still there, each at its old price
    np.testing.assert_allclose(found.problem.forward.sum(axis=1), problem.forward[live].sum(axis=1))
    np.testing.assert_allclose(found.problem.backward.sum(axis=1), problem.backward[live].sum(axis=1))
    assert found.problem.route_length == max(1, round(3 * left / 4))
    assert (found.problem.memory <= problem.memory[live]).all()


def test_layers_keep_their_prices_when_the_model_is_cut_anew() -> None:
    """Stages of 4 and 2 layers that cost 4 s and 6 s, and one of 3 that costs 3 s: layers of 1 s, 3 s and 1 s."""
    problem = random_problem(1, sizes=(1, 1, 1), microbatches=2, route_length=3, sync_latency=np.ones((3, 3)),
                             sync_seconds=np.ones((3, 3)), memory=np.full(3, 3))  # fmt: skip
    forward = np.tile([4.0, 6.0, 3.0], (3, 1))
    problem = replace(problem, forward=forward, backward=2 * forward, weight=forward)
    cut, layers = recut(problem, np.array([True, False, True]), (4, 2, 3))
    assert layers == (5, 4)
    np.testing.assert_allclose(cut.forward, [[7.0, 6.0]] * 2)
    np.testing.assert_allclose(cut.backward, [[14.0, 12.0]] * 2)
    assert cut.memory.tolist() == [2, 2] and cut.route_length == 2
    np.testing.assert_allclose(cut.sync_seconds, 1.5)
    with pytest.raises(ValueError, match="stage_layers"):
        recut(problem, np.array([True, False, True]), (4, 2))
