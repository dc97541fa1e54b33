"""SkipPipe's path scheduler: its plans keep every rule, and its search does what the authors' does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.data import find
from pathloom.plan import InputError, NoPlanFound, Progress, ProvenInfeasible
from pathloom.worlds.train.check import check
from pathloom.worlds.train.phased_search import SkipPipeSettings
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.reference import reference_instance, shipped_instance
from pathloom.worlds.train.skippipe import skippipe, skippipe_coarse, skippipe_no_tc2
from pathloom.worlds.train.small_waves import draw_wave

# Nodes of each stage that SkipPipe's own placement finds for its default instance.
STAGES = ((0, 6, 13, 18, 19), (10, 8, 11), (17, 16, 1), (3, 5, 2), (14, 15, 9), (4, 7, 12))
LONG = 1e6


def default_instance() -> TrainProblem:
    placement = np.zeros(20, dtype=np.int64)
    for stage, nodes in enumerate(STAGES):
        placement[list(nodes)] = stage
    return reference_instance(placement=placement)


def waves(seed: int, count: int) -> TrainProblem:
    """A small instance that repeats one wave, with room for a microbatch or two more than the even share of a node."""
    problem = draw_wave(seed)
    placement, memory = problem.placement, problem.memory.copy()
    assert placement is not None
    slots = int(memory[placement == 0].sum())
    stage_cap = np.full(problem.n_stages, count * slots)
    for p in range(1, problem.n_stages):
        members = placement == p
        visits = -(-slots * (problem.route_length - 1) // (problem.n_stages - 1))
        stage_cap[p] = count * visits
        memory[members] = -(-visits // members.sum()) + 1
    return replace(
        problem,
        microbatches=count * slots,
        memory=memory,
        source_cap=count * int(memory.max()),
        node_cap=count * memory,
        stage_cap=stage_cap,
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 400), count=st.integers(1, 3), aware=st.booleans())
def test_every_plan_passes_the_checker(seed: int, count: int, aware: bool) -> None:
    problem = waves(seed, count)
    try:
        plan = skippipe(problem, time_limit=LONG, node_limit=60, collision_aware=aware)
    except NoPlanFound:
        return
    assert check(problem, plan) == []


def test_small_instances_mostly_have_a_plan() -> None:
    found = 0
    for seed in range(20):
        try:
            skippipe(waves(seed, 2), time_limit=LONG, node_limit=100)
        except NoPlanFound:
            continue
        found += 1
    assert found >= 18


def test_default_instance_is_planned_at_least_as_well_as_by_the_authors_search() -> None:
    problem = default_instance()
    without = skippipe_no_tc2(problem, time_limit=LONG)
    aware = skippipe(problem, time_limit=LONG, node_limit=3500)
    assert check(problem, without) == [] and check(problem, aware) == []
    assert without.objective.value <= 79.89
    assert aware.objective.value <= 79.82
    assert aware.objective.value <= without.objective.value


def test_shipped_schedule_is_found_again_by_the_coarse_search() -> None:
    try:
        path: Path = find("train-gcp") / "skippipe-schedule.json.gz"
    except (InputError, OSError):
        pytest.skip("data set train-gcp is not at hand")
    problem, runs = shipped_instance(path)
    plan = skippipe_coarse(problem, time_limit=LONG)
    assert check(problem, plan) == []
    assert plan.objective.value == pytest.approx(runs["collision"].seconds, abs=1e-9)
    fine = skippipe_no_tc2(problem, time_limit=LONG)
    assert fine.objective.value <= runs["no-collision"].seconds


def test_microbatches_of_a_source_share_a_route_when_coarse() -> None:
    problem = default_instance()
    decisions = skippipe_coarse(problem, time_limit=LONG).decisions
    for source in np.unique(decisions.routes[:, 0]):
        assert len(np.unique(decisions.routes[decisions.routes[:, 0] == source], axis=0)) == 1


def test_same_seed_same_plan() -> None:
    problem = replace(waves(5, 2), placement=None)
    first, second = (skippipe(problem, time_limit=LONG, seed=3, node_limit=300) for _ in range(2))
    assert first.objective == second.objective
    assert (first.decisions.routes == second.decisions.routes).all()
    assert (first.decisions.placement == second.decisions.placement).all()


def test_collision_awareness_never_makes_the_plan_worse() -> None:
    for seed in (0, 2, 7, 11):
        problem = waves(seed, 2)
        try:
            without = skippipe_no_tc2(problem, time_limit=LONG)
        except NoPlanFound:
            continue
        aware = skippipe(problem, time_limit=LONG, node_limit=500)
        assert aware.objective.value <= without.objective.value


def test_where_few_nodes_of_the_tree_keep_tc1_assignments_are_repaired() -> None:
    """Five of six stages under tight caps: the tree alone finds nothing for a long time."""
    problem = reference_instance(placement=default_instance().placement)
    five = replace(
        problem,
        route_length=5,
        node_cap=np.full(20, 8),
        stage_cap=np.array([30, 24, 24, 24, 24, 24]),
    )
    plan = skippipe(five, time_limit=LONG, collision_aware=False, settings=SkipPipeSettings(patience=300))
    assert check(five, plan) == []


def test_no_time_no_plan() -> None:
    with pytest.raises(NoPlanFound, match="time limit"):
        skippipe(default_instance(), time_limit=0.0)


def test_too_many_microbatches_for_the_sources_are_proven_infeasible() -> None:
    with pytest.raises(ProvenInfeasible):
        skippipe(replace(default_instance(), source_cap=5), time_limit=5.0)


def test_progress_never_gets_worse() -> None:
    seen: list[Progress] = []
    plan = skippipe(default_instance(), time_limit=LONG, node_limit=3500, on_progress=seen.append)
    best = [p.best for p in seen if p.best is not None]
    assert best == sorted(best, reverse=True)
    assert best[-1] == plan.objective.value
