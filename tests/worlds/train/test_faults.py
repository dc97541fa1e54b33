"""What a plan does under noise, stragglers, slow links and failures, over seeded runs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pathloom.plan import InputError, Plan, Progress
from pathloom.worlds.train.faults import simulate_plan, statistics
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem
from pathloom.worlds.train.simulator import plan_of


def plan(split: bool = False, chunks: int = 1) -> Plan:
    """Two pipelines of three stages on six nodes, four microbatches."""
    rng = np.random.default_rng(2)
    forward = rng.uniform(1, 2, (6, 3))
    problem = TrainProblem(
        name="two pipelines",
        nodes=("paris-0", "paris-1", "oslo-0", "oslo-1", "rome-0", "rome-1"),
        locations=("paris", "paris", "oslo", "oslo", "rome", "rome"),
        forward=forward,
        backward=2 * forward,
        weight=forward,
        loss=0.25 * forward[:, 0],
        link=rng.uniform(0.1, 0.5, (6, 6)),
        memory=np.full(6, 2),
        stage_sizes=np.array([2, 2, 2]),
        microbatches=4,
        route_length=3,
        source_cap=2,
        stage_cap=np.array([4, 4, 4]),
        node_cap=np.full(6, 2),
    )
    routes = np.array([[0, 2, 4], [1, 3, 5], [0, 2, 4], [1, 3, 5]])
    stages = np.tile(np.arange(3), (4, 1))
    if chunks > 1:
        routes, stages = np.tile(routes, (1, chunks)), np.tile(np.arange(3 * chunks), (4, 1))
    decisions = TrainDecisions(np.array([0, 0, 1, 1, 2, 2]), routes, stages, split_backward=split, chunks=chunks)
    return plan_of(problem, decisions, method="by hand")


def test_a_calm_run_is_the_plan() -> None:
    report = simulate_plan(plan())
    assert report.seconds.tolist() == [report.planned]
    assert report.slowest_factor == pytest.approx(1.0)
    assert report.busiest_share == pytest.approx(plan().metrics["busiest_share"])
    assert report.timeline.makespan == report.planned
    assert report.rows[0] == ("planned", f"{report.planned:.2f} s", "")


def test_runs_differ_by_seed_and_repeat() -> None:
    a, b, c = (simulate_plan(plan(), runs=20, noise=0.2, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.seconds, b.seconds)
    assert a.statistics == b.statistics
    assert len(set(a.seconds.tolist())) == 20
    np.testing.assert_array_equal(a.seconds[1:], c.seconds[:-1])  # run r of seed s is run r - 1 of seed s + 1


def test_statistics_are_those_of_the_runs() -> None:
    report = simulate_plan(plan(), runs=40, noise=0.3)
    found = {s.name: s for s in report.statistics}
    assert found["mean"].value == pytest.approx(report.seconds.mean())
    assert (found["least"].value, found["largest"].value) == (report.seconds.min(), report.seconds.max())
    assert all(s.low <= s.value <= s.high for s in report.statistics)
    assert found["percentile 5"].value <= found["percentile 50"].value <= found["percentile 95"].value
    assert found["mean"].high - found["mean"].low < report.seconds.max() - report.seconds.min()


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        mean = statistics(rng.normal(10.0, 1.0, 40), trial)[0]
        hits += mean.low <= 10.0 <= mean.high
    assert 0.88 <= hits / 200 <= 0.99


def test_runs_that_never_end_count_as_endless() -> None:
    found = {s.name: s.value for s in statistics(np.array([1.0, 2.0, 3.0, np.inf]), 0)}
    assert found["percentile 50"] == 3.0 and found["least"] == 1.0
    assert found["mean"] == found["largest"] == np.inf


@pytest.mark.parametrize(("split", "chunks"), [(False, 1), (True, 1), (False, 2)])
def test_the_straggler_is_found(split: bool, chunks: int) -> None:
    report = simulate_plan(plan(split, chunks), stragglers=[("oslo-1", 3.0)])
    assert report.slowest_node == "oslo-1"
    assert report.slowest_factor == pytest.approx(3.0)
    assert report.seconds[0] > report.planned
    later = simulate_plan(plan(split, chunks), stragglers=[("oslo-1", 3.0, report.seconds[0] + 1, float("inf"))])
    assert later.seconds[0] == later.planned


def test_a_slow_link_is_slow_in_both_directions() -> None:
    hand = plan()
    link = hand.problem.link
    report = simulate_plan(hand, slow_links=[("rome-0", "oslo-0", 11.0)])
    # each microbatch of the first pipeline pays there and back, the last one at least once each
    assert report.seconds[0] >= report.planned + 10 * min(link[2, 4], link[4, 2])
    backwards = simulate_plan(hand, slow_links=[("oslo-0", "rome-0", 11.0)])
    assert backwards.seconds[0] == report.seconds[0]


def test_failures_are_recovered_from_and_reported() -> None:
    report = simulate_plan(plan(), failures=[("oslo-1", 4.0)], runs=3, noise=0.1)
    first = report.outcomes[0]
    assert len(report.outcomes) == 3 and all(o.completed for o in report.outcomes)
    assert first.lost == ("mb1", "mb3") and first.restart_lost_time > 0
    assert np.isnan(report.outcomes[1].restart_lost_time)
    assert report.seconds.tolist() == [o.iteration_time for o in report.outcomes]
    shown = {row[0]: row[1] for row in report.rows}
    assert shown["microbatches lost (first run)"] == "mb1, mb3"
    assert shown["throughput caps exceeded by (first run)"] == "source +0, node +2"
    again = simulate_plan(plan(), failures=[("oslo-1", 4.0)], policy="restart")
    assert again.outcomes[0].policy == "restart"


def test_the_report_is_plain_data() -> None:
    report = simulate_plan(plan(), failures=[("oslo-1", 4.0)], runs=2, noise=0.1)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["runs"] == 2 and data["failures"][0]["lost"] == ["mb1", "mb3"]
    assert data["failures"][1]["restart_lost_time"] is None


def test_progress_is_told_once_a_run() -> None:
    told: list[Progress] = []
    report = simulate_plan(plan(), runs=4, noise=0.1, on_progress=told.append)
    assert [p.phase for p in told] == [f"run {r} of 4" for r in range(1, 5)]
    assert told[-1].best == pytest.approx(report.seconds.mean())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"runs": 0}, "runs: expected a whole number of at least 1"),
        ({"seed": -1}, "seed: expected a whole number of at least 0"),
        ({"noise": float("nan")}, "noise: expected a number"),
        ({"noise": -0.1}, "noise: expected a number of at least 0"),
        ({"stragglers": [("oslo-7", 2.0)]}, "straggler: there is no node 'oslo-7'; did you mean oslo-"),
        ({"stragglers": [("oslo-1",)]}, r"straggler: expected \(node, factor\) or"),
        ({"stragglers": [("oslo-1", 0.0)]}, "straggler: expected a number larger than 0"),
        ({"stragglers": [("oslo-1", 2.0, 5.0, 4.0)]}, "straggler: expected a number larger than 5"),
        ({"slow_links": [("oslo-1", "oslo-1", 2.0)]}, "slow link: expected two nodes"),
        ({"slow_links": [("oslo-1", "nowhere", 2.0)]}, "slow link: there is no node 'nowhere'; the nodes are paris-0"),
        ({"failures": [("oslo-1", -3.0)]}, "failure: expected a number of at least 0"),
        ({"failures": [("oslo-1",)]}, r"failure: expected \(node, second\)"),
        ({"failures": [("oslo-1", "soon")]}, "failure: expected a number, found 'soon'"),
        ({"policy": "hope"}, "policy: expected 'reroute' or 'restart'"),
    ],
)
def test_mistakes_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate_plan(plan(), **wrong)
