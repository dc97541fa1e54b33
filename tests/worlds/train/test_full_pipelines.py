"""Facts about full pipelines."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_problem

from pathloom.data import find
from pathloom.plan import InputError, NoPlanFound, Plan, Progress
from pathloom.schedule import pipelines
from pathloom.schedule.pipelines import StageTimes
from pathloom.worlds.train.check import check
from pathloom.worlds.train.full_pipelines import (
    dtfm,
    first_come_first_served,
    full_problem,
    gpipe,
    interleaved,
    one_f_one_b,
    zb_h1,
)
from pathloom.worlds.train.problem import WEIGHT, TrainProblem
from pathloom.worlds.train.reference import reference_instance, shipped_instance
from pathloom.worlds.train.simulator import simulate

METHODS = [gpipe, one_f_one_b, interleaved, zb_h1, dtfm]


def free_links(stages: int, microbatches: int, **changes: Any) -> TrainProblem:
    """One chain of nodes that take 1 s forward, 2 s backward (half of it weights), with free links and much memory."""
    n = stages
    given: dict[str, Any] = {
        "link": np.zeros((n, n)),
        "forward": np.ones((n, n)),
        "backward": np.full((n, n), 2.0),
        "weight": np.ones((n, n)),
        "loss": np.zeros(n),
        "gap": 0.0,
        "injection_gap": 0.0,
        "memory": np.full(n, 100),
        "placement": np.arange(n),
    }
    return random_problem(0, sizes=(1,) * n, microbatches=microbatches, route_length=n, **{**given, **changes})


def seconds(method: Callable[..., Plan], problem: TrainProblem, **options: Any) -> float:
    plan = method(problem, time_limit=1.0, **options)
    assert check(plan.problem, plan) == []
    return plan.objective.value


def test_two_stages_pay_for_a_loss_that_waits_behind_the_first_stages_work() -> None:
    # in a textbook's pipeline the loss is on the last stage, and three microbatches take 3 * (3 + 1) seconds
    assert seconds(one_f_one_b, free_links(2, 3, memory=np.array([2, 2]))) == pytest.approx(14.0)


def test_room_for_one_activation_more_hides_that_the_loss_is_on_the_first_stage() -> None:
    assert seconds(one_f_one_b, free_links(2, 3, memory=np.array([3, 2]))) == pytest.approx(12.0)


def test_the_reference_baseline_is_reproduced_from_its_own_chains() -> None:
    try:
        problem, runs = shipped_instance(find("train-gcp") / "skippipe-schedule.json.gz")
    except InputError as error:
        pytest.skip(str(error))
    assert problem.placement is not None
    theirs = runs["full"].decisions.routes
    chains = theirs[[0, 9, 18]].T
    full = full_problem(replace(problem, microbatches=27))
    ours = first_come_first_served(full, problem.placement, chains)
    assert sorted(ours.routes.tolist()) == sorted(theirs.tolist())
    assert simulate(full, ours).iteration_time == pytest.approx(79.93971963540922, abs=1e-9)


def test_thirty_microbatches_on_three_chains_of_three_slots_need_a_fourth_wave() -> None:
    placement = np.repeat(np.arange(6), [5, 3, 3, 3, 3, 3])
    problem = reference_instance(as_published=False, placement=placement)
    thirty = dtfm(problem, time_limit=1.0)
    assert check(thirty.problem, thirty) == []
    assert np.bincount(thirty.decisions.routes[:, 0]).max() == 10
    assert thirty.objective.value > dtfm(replace(problem, microbatches=27), time_limit=1.0).objective.value


@pytest.mark.parametrize(("p", "m"), [(4, 8), (6, 6), (3, 7)])
def test_where_losses_find_stage_0_free_they_are_the_textbooks_pipelines(p: int, m: int) -> None:
    problem = free_links(p, m)
    whole = 3.0 * (m + p - 1)
    assert seconds(gpipe, problem) == pytest.approx(whole)
    assert seconds(one_f_one_b, problem) == pytest.approx(whole)
    assert seconds(zb_h1, problem) == pytest.approx(3 * m + p - 1)
    if m % p == 0:
        for chunks in (2, 3):
            assert seconds(interleaved, problem, chunks=chunks) == pytest.approx(3 * m + 3 * (p - 1) / chunks)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9))
def test_simulator_and_schedule_engine_agree_on_the_iteration_time(seed: int, p: int, microbatches: int) -> None:
    problem = random_problem(
        seed, sizes=(1,) * p, microbatches=microbatches, route_length=p, placement=np.arange(p), gap=0.2
    )
    nodes = np.arange(p)
    limits = problem.memory.tolist()
    forward, backward, weight = (x[nodes, nodes] for x in (problem.forward, problem.backward, problem.weight))
    shared = {
        "link": problem.link,
        "loss": float(problem.loss[0]),
        "rest": problem.gap,
        "injection_rest": problem.injection_gap,
    }
    whole = StageTimes(forward=forward, backward=backward, **shared)
    split = StageTimes(forward=forward, backward=backward - weight, weight=weight, **shared)
    half = StageTimes(forward=forward / 2, backward=backward / 2, **shared)
    wide = [2 * limit for limit in limits]
    m = microbatches
    for method, orders, times in (
        (gpipe, pipelines.gpipe(p, m, limits=limits), whole),
        (one_f_one_b, pipelines.one_f_one_b(p, m, limits=limits, loss_on_first=True), whole),
        (zb_h1, pipelines.zb_h1(p, m, limits=limits), split),
        (interleaved, pipelines.interleaved(p, m, chunks=2, limits=wide), half),
    ):
        assert pipelines.execute(orders, times).makespan == pytest.approx(seconds(method, problem))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(1,), (2, 2, 2), (3, 1, 2), (1, 2, 1, 1), (3, 2, 2, 2, 2)]),
    st.integers(1, 9),
    st.booleans(),
)
def test_every_plan_is_feasible(seed: int, sizes: tuple[int, ...], microbatches: int, sync: bool) -> None:
    n = sum(sizes)
    extra = np.random.default_rng(seed).uniform(0, 2, (2, n, n))
    changes = {"sync_latency": extra[0], "sync_seconds": extra[1]} if sync else {}
    problem = random_problem(seed, sizes=sizes, microbatches=microbatches, route_length=1, **changes)
    for method in METHODS:
        plan = method(problem, time_limit=1.0, seed=seed)
        assert check(plan.problem, plan) == []
        stages = plan.decisions.stages
        assert (stages == np.arange(stages.shape[1])).all()
        used = np.bincount(plan.decisions.routes[:, 0], minlength=n)
        assert used.max() - used[np.unique(plan.decisions.routes[:, 0])].min() <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_a_strict_stage_does_its_operations_in_the_schedules_order(seed: int, microbatches: int) -> None:
    problem = random_problem(seed, sizes=(1, 1, 1), microbatches=microbatches, memory=np.array([2, 3, 2]))
    plan = one_f_one_b(problem, time_limit=1.0)
    table = plan.timeline.sorted()
    last = int(np.flatnonzero(plan.decisions.placement == 2)[0])
    rows = table.rows(table.resource == last)
    order = np.argsort(rows.start)
    kinds = [rows.kinds[k][0] + str(i) for k, i in zip(rows.kind[order], rows.item[order], strict=True)]
    assert kinds == [f"{kind}{b}" for b in range(microbatches) for kind in "fb"]


def test_zb_h1_postpones_weight_gradients_and_keeps_to_memory() -> None:
    problem = random_problem(11, sizes=(2, 2, 2, 2), microbatches=10, memory=np.full(8, 2))
    plan = zb_h1(problem, time_limit=1.0)
    assert check(plan.problem, plan) == []
    assert (plan.timeline.kind == WEIGHT).sum() == 10 * 4
    assert plan.decisions.priority.shape == (10, 3 * 4 + 1)


def test_interleaved_visits_every_stage_once_a_chunk() -> None:
    plan = interleaved(random_problem(3, microbatches=5), time_limit=1.0, chunks=3)
    assert plan.decisions.chunks == 3
    assert plan.decisions.routes.shape == (5, 12)
    assert (plan.decisions.routes[:, :4] == plan.decisions.routes[:, 8:]).all()


def test_a_full_pipeline_solves_the_problem_of_all_stages() -> None:
    problem = random_problem(0, sizes=(4, 2, 2, 3), microbatches=9, route_length=2)
    full = full_problem(problem)
    assert full.route_length == 4
    assert full.source_cap == 5  # nine microbatches over two chains
    assert (full.node_cap >= 5).all()
    assert (full.node_cap >= problem.node_cap).all()
    assert full.stage_cap.tolist() == [9] * 4


def test_a_chain_over_a_missing_link_is_no_pipeline() -> None:
    problem = free_links(3, 2)
    link = problem.link.copy()
    link[2, 0] = np.inf
    with pytest.raises(NoPlanFound, match="needs a link"):
        gpipe(replace(problem, link=link), time_limit=1.0)


def test_placements_are_searched_where_none_is_given_and_progress_is_told() -> None:
    problem = replace(random_problem(9, sizes=(2, 2, 2)), placement=None)
    seen: list[Progress] = []
    plan = dtfm(problem, time_limit=5.0, seed=4, on_progress=seen.append)
    assert check(plan.problem, plan) == []
    assert seen[0].phase == "placement"
    assert seen[-1].best == plan.objective.value
    given = dtfm(problem, time_limit=5.0, placement=plan.decisions.placement)
    assert given.objective == plan.objective
