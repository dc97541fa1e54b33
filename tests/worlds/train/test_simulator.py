"""A training iteration in the simulator: the reference's figures, gradient averaging, noise, a microbatch by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.data import find
from pathloom.plan import InputError
from pathloom.worlds.train.problem import KINDS, TrainDecisions, TrainProblem
from pathloom.worlds.train.simulator import Disturbances, plan_of, simulate, sync_seconds, timeline


@pytest.fixture(scope="module")
def shipped_file() -> Path:
    try:
        path = find("train-gcp") / "skippipe-schedule.json.gz"
    except InputError as error:
        pytest.skip(f"the data set train-gcp is not at hand: {error}")
    if not path.is_file():
        pytest.skip("the data set train-gcp lacks the shipped schedule")
    return path


@pytest.mark.parametrize(
    ("run", "seconds", "microbatches"),
    [
        ("no-collision", 35.43481420147051, 30),
        ("random", 48.915682705668054, 30),
        ("collision", 33.31379002209655, 30),
        ("full", 79.93971963540922, 27),
    ],
)
def test_shipped_schedules_take_exactly_what_the_reference_simulator_says(
    shipped_file: Path, run: str, seconds: float, microbatches: int
) -> None:
    from pathloom.worlds.train.reference import shipped_instance

    problem, runs = shipped_instance(shipped_file)
    outcome = simulate(problem, runs[run].decisions)
    assert len(outcome.returned) == microbatches
    assert outcome.iteration_time == seconds == runs[run].seconds


def small_problem(seed: int = 0, sync: bool = False) -> TrainProblem:
    """Six nodes, three stages of two."""
    rng = np.random.default_rng(seed)
    forward = rng.uniform(1, 2, (6, 3))
    weight = rng.uniform(0.3, 0.9, (6, 3))
    latency, seconds = rng.uniform(0.01, 0.2, (6, 6)), rng.uniform(1, 5, (6, 6))
    return TrainProblem(
        name="small",
        nodes=tuple("abcdef"),
        locations=tuple("xxyyzz"),
        forward=forward,
        backward=1.1 * forward + weight,
        weight=weight,
        loss=rng.uniform(0.2, 0.5, 6),
        link=rng.uniform(0.1, 1.5, (6, 6)),
        memory=np.full(6, 2),
        stage_sizes=np.array([2, 2, 2]),
        microbatches=4,
        route_length=3,
        source_cap=2,
        stage_cap=np.array([4, 4, 4]),
        node_cap=np.full(6, 2),
        placement=np.array([0, 0, 1, 1, 2, 2]),
        sync_latency=latency if sync else None,
        sync_seconds=seconds if sync else None,
    )


def small_decisions(**changes: object) -> TrainDecisions:
    decisions = TrainDecisions(
        placement=np.array([0, 0, 1, 1, 2, 2]),
        routes=np.array([[0, 2, 4], [1, 3, 5], [0, 3, 4], [1, 2, 5]]),
        stages=np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]),
    )
    return replace(decisions, **changes)  # type: ignore[arg-type]


def test_one_microbatch_alone_takes_its_critical_path() -> None:
    problem = small_problem()
    alone = TrainDecisions(np.array([0, 0, 1, 1, 2, 2]), np.array([[1, 2, 5]]), np.array([[0, 1, 2]]))
    f, b, link = problem.forward, problem.backward, problem.link
    there = f[1, 0] + link[1, 2] + f[2, 1] + link[2, 5] + f[5, 2] + link[5, 1]
    back = problem.loss[1] + link[1, 5] + b[5, 2] + link[5, 2] + b[2, 1] + link[2, 1] + b[1, 0]
    assert simulate(problem, alone).iteration_time == pytest.approx(there + back, rel=1e-12)
    split = simulate(problem, replace(alone, split_backward=True))
    weights = problem.weight[5, 2] + problem.weight[2, 1] + problem.weight[1, 0]
    assert split.returned[0] == pytest.approx(there + back - weights, rel=1e-12)
    # the node rests after the backward pass, then computes the weight gradients
    assert split.iteration_time == pytest.approx(split.returned[0] + problem.gap + problem.weight[1, 0], rel=1e-12)


def test_two_model_chunks_halve_every_task_but_the_loss() -> None:
    problem = small_problem()
    alone = TrainDecisions(
        np.array([0, 0, 1, 1, 2, 2]), np.array([[1, 2, 5, 1, 2, 5]]), np.array([[0, 1, 2, 3, 4, 5]]), chunks=2
    )
    outcome = simulate(problem, alone)
    lengths = (outcome.end - outcome.start)[0]
    f, b = problem.forward, problem.backward
    forwards = [f[1, 0] / 2, f[2, 1] / 2, f[5, 2] / 2] * 2
    backwards = [b[5, 2] / 2, b[2, 1] / 2, b[1, 0] / 2] * 2
    np.testing.assert_allclose(lengths, [*forwards, problem.loss[1], *backwards])


def test_memory_makes_a_node_wait() -> None:
    problem = small_problem()
    roomy, tight = replace(problem, memory=np.full(6, 9)), replace(problem, memory=np.full(6, 1))
    assert simulate(problem, small_decisions()).iteration_time < simulate(tight, small_decisions()).iteration_time
    assert simulate(roomy, small_decisions()).iteration_time <= simulate(problem, small_decisions()).iteration_time


def test_gradients_are_averaged_after_the_last_task_of_the_stage() -> None:
    problem = small_problem(sync=True)
    assert problem.sync_latency is not None and problem.sync_seconds is not None
    decisions = small_decisions()
    outcome = simulate(problem, decisions)
    without = simulate(small_problem(), decisions)
    for p in range(3):
        i, j = np.flatnonzero(decisions.placement == p)
        each = [2 * (problem.sync_latency[a, b] + problem.sync_seconds[a, b] / 2) for a, b in ((i, j), (j, i))]
        assert sync_seconds(problem, decisions.placement)[p] == pytest.approx(max(each))
        last = without.end[np.isin(without.chains.node, (i, j))].max()
        assert outcome.stage_sync[p] == pytest.approx([last, last + max(each)])
    assert outcome.iteration_time == pytest.approx(outcome.stage_sync[:, 1].max())
    table = timeline(problem, decisions, outcome)
    assert table.makespan == outcome.iteration_time
    assert (table.kind == KINDS.index("sync")).sum() == problem.n_nodes


def test_a_stage_of_three_adds_up_its_links() -> None:
    problem = small_problem(sync=True)
    assert problem.sync_latency is not None and problem.sync_seconds is not None
    placement = np.array([0, 0, 0, 1, 2, 2])
    cost = 2 * (problem.sync_latency + problem.sync_seconds / 3)
    expected = max(cost[0, 1] + cost[0, 2], cost[1, 0] + cost[1, 2], cost[2, 0] + cost[2, 1])
    found = sync_seconds(replace(problem, stage_sizes=np.array([3, 1, 2]), placement=placement), placement)
    assert found[0] == pytest.approx(expected)
    assert found[1] == 0.0


def test_noise_repeats_under_a_seed_and_has_mean_one() -> None:
    problem, decisions = small_problem(), small_decisions()
    noisy = Disturbances(noise=0.3)
    first, again, other = (simulate(problem, decisions, disturbances=noisy, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.end, again.end)
    assert first.iteration_time != other.iteration_time
    calm = simulate(problem, decisions)
    expected = calm.end - calm.start
    factors = [
        (run.end - run.start) / expected
        for run in (simulate(problem, decisions, disturbances=noisy, seed=s) for s in range(400))
    ]
    # 11,200 draws with standard deviation 0.31: four standard errors are 0.012
    assert np.mean(factors) == pytest.approx(1.0, abs=0.012)
    assert np.std(np.log(factors)) == pytest.approx(0.3, abs=0.01)


def test_a_straggler_slows_the_tasks_that_start_in_its_window() -> None:
    problem, decisions = small_problem(), small_decisions()
    slow = simulate(problem, decisions, disturbances=Disturbances(node_windows=[(2, 0.0, 4.0, 3.0)]))
    base = problem.forward[2, 1]
    on_2 = np.argwhere(slow.chains.node == 2)
    for b, t in on_2:
        stretched = 3.0 if slow.start[b, t] < 4.0 else 1.0
        usual = base if t < 3 else problem.backward[2, 1]
        assert slow.end[b, t] - slow.start[b, t] == pytest.approx(usual * stretched)


def test_a_slow_link_delays_its_messages_in_one_direction() -> None:
    problem = small_problem()
    alone = TrainDecisions(np.array([0, 0, 1, 1, 2, 2]), np.array([[1, 2, 5]]), np.array([[0, 1, 2]]))
    calm = simulate(problem, alone).iteration_time
    slow = simulate(problem, alone, disturbances=Disturbances(link_windows=[(1, 2, 0.0, 1e9, 2.0)])).iteration_time
    assert slow - calm == pytest.approx(problem.link[1, 2])


def test_a_dead_node_loses_the_microbatches_that_need_it() -> None:
    problem, decisions = small_problem(), small_decisions()
    calm = simulate(problem, decisions)
    outcome = simulate(problem, decisions, disturbances=Disturbances(fail_at=[(2, 3.0)]))
    assert np.isnan(outcome.returned).tolist() == [True, False, False, True]
    assert not (outcome.end[outcome.chains.node == 2] > 3.0).any()
    early = calm.end <= 3.0
    np.testing.assert_array_equal(outcome.end[early], calm.end[early])


def test_a_dropped_microbatch_gives_its_slots_back() -> None:
    problem = replace(small_problem(), memory=np.full(6, 1))
    decisions = small_decisions(routes=np.array([[0, 2, 4], [0, 2, 4]]), stages=np.array([[0, 1, 2]] * 2))
    calm = simulate(problem, decisions)
    dropped = simulate(problem, decisions, disturbances=Disturbances(cancel_at=[(0, 5.0)]))
    assert np.isnan(dropped.returned[0])
    assert dropped.returned[1] < calm.returned[1]


def test_a_plan_whose_order_of_work_blocks_itself_is_refused() -> None:
    stuck = small_decisions(after=np.array([1, 0, -1, -1]))
    with pytest.raises(ValueError, match="2 of 4 microbatches never return"):
        plan_of(small_problem(), stuck, method="by hand")


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), split=st.booleans())
def test_a_strict_order_taken_from_a_run_repeats_that_run(seed: int, split: bool) -> None:
    """Start times as keys, and nodes that wait for their turn, give the timetable again."""
    problem = small_problem(seed)
    rng = np.random.default_rng(seed)
    decisions = small_decisions(
        routes=np.stack([rng.integers(2 * p, 2 * p + 2, 6) for p in range(3)], axis=1),
        stages=np.tile(np.arange(3), (6, 1)),
        split_backward=split,
    )
    free = simulate(problem, decisions)
    repeated = simulate(problem, replace(decisions, priority=free.start, strict=True))
    np.testing.assert_allclose(repeated.start, free.start)
