"""Every benchmark runs with tiny settings, saves its table, and does not call a short run a proof."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _targets import TARGETS
from pathloom.data import find
from pathloom.plan import InputError


def run(name: str, out: Path, *arguments: str) -> dict[str, Any]:
    """The table that the benchmark saved."""
    status = import_module(name).main([*arguments, "--out", str(out)])
    assert status in (0, 1), name
    saved: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert saved["rows"] and saved["notes"]
    assert all(len(row) == len(saved["columns"]) for row in saved["rows"])
    assert all(TARGETS[verdict["key"]].benchmark == name for verdict in saved["targets"])
    return saved


def needs(data_set: str) -> None:
    try:
        find(data_set)
    except InputError:
        pytest.skip(f"data set {data_set} is not here")


def column(saved: dict[str, Any], title: str) -> list[Any]:
    at = saved["columns"].index(title)
    return [row[at] for row in saved["rows"]]


def test_random_draws_compare_with_the_best_baseline(tmp_path: Path) -> None:
    saved = run("random_draws", tmp_path, "--seconds", "0.3", "--draws", "1", "--trials", "50", "--cases", "0", "1")
    drawn = [dict(zip(saved["columns"], row, strict=True)) for row in saved["rows"] if row[1] is not None]
    assert [each["case"] for each in drawn] == ["a third skipped", "equal compute"]
    for each in drawn:
        full = {name: each[f"{name} (s)"] for name in ("dtfm", "gpipe", "1f1b", "interleaved-1f1b", "zb-h1")}
        assert full[each["best baseline"]] == min(full.values())
        assert each["below best (%)"] <= each["below dtfm (%)"]
        assert each["compute alone (s)"] < each["bound (s)"] <= each["pathloom (s)"]
    # short of draws: neither reached nor missed
    assert [(verdict["key"], verdict["reached"]) for verdict in saved["targets"]] == [
        ("draws-skip", None),
        ("draws-equal", None),
    ]


def test_draws_depend_on_their_seed_alone_and_speeds_lie_within_four_times() -> None:
    draws = import_module("random_draws")
    skip, unequal, slower = draws.CASES[0], draws.CASES[2], draws.CASES[6]
    assert draws.drawn(3, skip).locations == draws.drawn(3, unequal).locations
    assert draws.drawn(3, skip).locations != draws.drawn(4, skip).locations
    normal = draws.drawn(3, skip).forward
    for case, low, high in ((unequal, 0.25, 1.0), (slower, 1.0, 4.0)):
        ratio = draws.drawn(3, case).forward / normal
        assert low <= ratio.min() < ratio.max() <= high
        assert np.ptp(ratio[:, 0]) > 0


def test_compute_alone_of_equal_nodes_is_an_even_share_of_all_work() -> None:
    draws = import_module("random_draws")
    problem = draws.drawn(0, draws.CASES[0])
    work = 30 * (4 * 2.5 * 1.76 + 0.25 * 1.76)
    assert draws.compute_alone(problem) == pytest.approx(work / 20)


def test_the_placement_of_the_reference_has_its_stage_sizes() -> None:
    benchmark = import_module("reference_instances")
    placement = benchmark.stage_of_node(benchmark.PARTITION)
    assert np.bincount(placement).tolist() == [5, 3, 3, 3, 3, 3]
    assert sorted(node for part in benchmark.PARTITION for node in part) == list(range(20))


def test_the_reference_s_full_pipeline_takes_the_time_that_its_script_prints() -> None:
    benchmark = import_module("reference_instances")
    problem = benchmark.reference_instance(placement=benchmark.stage_of_node(benchmark.PARTITION))
    plan, rules = benchmark.reference_plan(problem, benchmark.listed_chains(problem, benchmark.PARTITION), "full")
    assert plan.objective.value == pytest.approx(165.39, abs=0.005)
    assert rules == "none"


@pytest.mark.slow
def test_reference_instances_show_recorded_and_measured_figures(tmp_path: Path) -> None:
    needs("train-gcp")
    times = ("--seconds", "1", "--short", "0.5", "--seeds", "0", "--bound", "0.5")
    saved = run("reference_instances", tmp_path, *times, "--no-judge")
    rows = [dict(zip(saved["columns"], row, strict=True)) for row in saved["rows"]]
    theirs = {
        r["method"]: r for r in rows if r["instance"] == "shipped" and r["method"].startswith("reference's routes")
    }
    assert {m.split(": ")[1]: r["iteration time (s)"] for m, r in theirs.items()} == {
        "full": 79.94,
        "random": 48.92,
        "no-collision": 35.43,
        "collision": 33.31,
    }
    assert {verdict["key"] for verdict in saved["targets"]} == {
        key for key, target in TARGETS.items() if target.benchmark == "reference_instances"
    }


def test_start_up_times_the_help_and_leaves_the_job_out_if_told(tmp_path: Path) -> None:
    saved = run("start_up", tmp_path, "--runs", "1", "--no-job")
    assert column(saved, "what") == ["pathloom --help", "python -c pass"]
    assert [(verdict["key"], verdict["reached"]) for verdict in saved["targets"]] == [("help", None)]


@pytest.mark.slow
def test_the_phases_of_the_main_job_add_up(tmp_path: Path) -> None:
    saved = run("start_up", tmp_path, "--runs", "1", "--seconds", "1")
    shares = [share for share in column(saved, "share (%)") if share is not None]
    assert sum(shares) == pytest.approx(100.0, abs=0.1 * len(shares))
    assert all(share >= 0 for share in shares)


@pytest.mark.slow
def test_large_networks_are_planned_in_processes_of_their_own(tmp_path: Path) -> None:
    saved = run("large_networks", tmp_path, "--nodes", "200", "--seconds", "2", "--microbatches", "100")
    assert column(saved, "method") == ["pathloom", "greedy", "dtfm"]
    assert column(saved, "spans checked") == [100 * 15, 100 * 15, 100 * 21]
    assert all(megabytes > 50 for megabytes in column(saved, "peak memory (MB)"))


def test_the_checker_s_benchmark_counts_mutations_of_every_rule(tmp_path: Path) -> None:
    saved = run("checker", tmp_path, "--mutations", "40", "--repeats", "1", "--sizes", "270")
    total = saved["rows"][column(saved, "what").index("all rules")]
    assert total[1:4] == [40, 40, 40]


def test_small_instances_have_one_row_each(tmp_path: Path) -> None:
    saved = run("small_instances", tmp_path, "--instances", "2", "--time", "5")
    assert column(saved, "equal") == [True, True]


def test_the_event_kernel_is_timed_without_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("train-gcp")
    monkeypatch.delenv("PATHLOOM_PEER_SKIPPIPE", raising=False)
    arguments = ("--random", "1", "--two-waves", "0", "--least", "0.001", "--large", "0")
    saved = run("event_kernel", tmp_path, *arguments)
    reached = {verdict["key"]: verdict["reached"] for verdict in saved["targets"]}
    assert reached["kernel-times"] is None  # nobody to compare with
    assert all(each is None for each in column(saved, "times faster"))


@pytest.mark.slow
def test_node_failures_are_judged_by_all_deaths_together(tmp_path: Path) -> None:
    saved = run("node_failure", tmp_path, "--plan-seconds", "1", "--every", "19", "--evaluations", "50")
    assert {verdict["key"] for verdict in saved["targets"]} == {"failure-complete", "failure-lost"}
