"""What the table of the convergence benchmark says about its runs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

pytest.importorskip("torch")

import convergence
from _convergence_runs import FULL, FULL_LONG, KINDS, LONG, PLANNED, PLANNED_LONG, RANDOM
from _emulated_network import Planned
from _targets import Target
from pathloom.data import find
from pathloom.plan import InputError

PIPELINES = {"dtfm": 85.0, "gpipe": 90.0, "1f1b": 100.0, "interleaved-1f1b": 150.0, "zb-h1": 80.0}
LOSS = {FULL: 2.0, PLANNED: 2.04, RANDOM: 2.06, PLANNED_LONG: 1.9, FULL_LONG: 1.8}
RISE = {FULL: 4.0, PLANNED: 0.5, RANDOM: 0.4, PLANNED_LONG: 0.8, FULL_LONG: 5.0}


class Recorded:
    """Runs with known figures instead of trained ones."""

    def plan(self, seed: int) -> Planned:
        return Planned(seed, [[0, 1, 2, 3]], {**PIPELINES, "greedy": 45.0, "dtfm-skip": 48.0, "pathloom": 32.0})

    def run(self, text: str, kind: str, seed: int) -> dict[str, Any]:
        loss = LOSS[kind] + 0.01 * seed + (0.02 if text == "b" and kind == PLANNED else 0.0)
        steps = 250 if kind in LONG else 100
        curve = [{"mean_perplexity": 7.0 + seed + RISE[kind] * removed / 3} for removed in range(6)]
        points = [[steps // 2, 2.5], [steps, loss]]
        return {"steps": steps, "tokens": 960 * steps, "points": points, "curve": curve, "seconds": 1.0}

    def weighted_loss(self, text: str, kind: str, seed: int) -> float:
        return float(self.run(text, kind, seed)["points"][-1][1]) - (0.0 if kind in (FULL, FULL_LONG) else 0.02)


def results(seeds: int = 3) -> convergence.Results:
    return convergence.Results(Recorded(), ["a", "b"], seeds)  # type: ignore[arg-type]


def named(line: list[Any]) -> dict[str, Any]:
    return dict(zip(convergence.columns(6), line, strict=True))


def test_rows_show_mean_deviation_and_every_seed() -> None:
    lines = [named(line) for line in convergence.rows(results(), "a", PLANNED)]
    assert [line["over seeds"] for line in lines] == ["mean", "deviation", "seed 0", "seed 1", "seed 2"]
    losses = [line["validation loss (nats)"] for line in lines]
    assert losses[2:] == [2.04, 2.05, 2.06]
    assert losses[:2] == pytest.approx([mean(losses[2:]), stdev(losses[2:])])
    assert lines[2]["above full, same bytes (%)"] == pytest.approx(2.0)
    assert lines[2]["weighted: above full, same bytes (%)"] == pytest.approx(1.0)
    assert lines[2]["above full, same time (%)"] is None
    assert lines[0]["rise at 3"] == pytest.approx(0.5)
    assert lines[0]["rise, share of full's (%)"] == pytest.approx(12.5)
    assert [lines[2][f"perplexity, {n} removed"] for n in (0, 3)] == pytest.approx([7.0, 7.5])


def test_time_is_steps_times_the_iteration_of_the_plan_or_of_the_fastest_full_pipeline() -> None:
    hours = {kind: named(convergence.rows(results(), "a", kind)[0])["emulated hours"] for kind in KINDS}
    assert hours[FULL] == hours[PLANNED_LONG] == round(100 * 80 / 3600, 2)
    assert hours[PLANNED] == round(100 * 32 / 3600, 2)
    assert hours[RANDOM] == round(100 * 48 / 3600, 2)


def test_a_longer_run_is_compared_with_a_full_one_of_as_many_steps_and_of_as_much_time() -> None:
    line = named(convergence.rows(results(), "a", PLANNED_LONG)[2])
    assert line["above full, same bytes (%)"] == pytest.approx(100 * (1.9 / 1.8 - 1), abs=0.005)
    assert line["above full, same time (%)"] == pytest.approx(-5.0)
    assert line["rise, share of full's (%)"] == pytest.approx(100 * 0.8 / 5.0)


def test_one_seed_has_no_deviation() -> None:
    assert [line[2] for line in convergence.rows(results(1), "a", FULL)] == ["mean", "seed 0"]


def test_targets_are_judged_by_the_worst_and_not_at_all_in_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        "convergence-tokens": (3.0, "at most"),
        "convergence-time": (0.0, "below"),
        "missing-layers": (12.0, "at most"),
    }
    targets = {key: Target(key, "", "", "", "convergence", limit, sense) for key, (limit, sense) in keys.items()}  # type: ignore[arg-type]
    monkeypatch.setattr(convergence, "TARGETS", targets)
    found = {verdict.key: verdict for verdict in convergence.verdicts(results(), "")}
    assert {key: verdict.reached for key, verdict in found.items()} == {
        "convergence-tokens": False, "convergence-time": True, "missing-layers": False,
    }  # fmt: skip
    tokens = found["convergence-tokens"].value
    assert tokens == pytest.approx(mean(100 * (0.1 / (1.8 + 0.01 * seed)) for seed in range(3)))
    assert "a, 100 steps +2.0 % (seeds +2.0, +2.0, +2.0)" in found["convergence-tokens"].shown
    assert found["missing-layers"].value == pytest.approx(12.5)
    assert "8.0 times smaller" in found["missing-layers"].shown
    assert {verdict.reached for verdict in convergence.verdicts(results(), "3 seeds")} == {None}


def test_a_rise_is_no_share_of_a_fall() -> None:
    assert convergence.share(0.5, -0.1) is None
    assert convergence.share(-0.1, 0.5) == pytest.approx(-20.0)


def test_pictures_are_drawn_for_all_texts(tmp_path: Path) -> None:
    convergence.pictures(results(), tmp_path)
    for name in ("convergence.png", "missing-layers.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_quick_run_proves_nothing_and_ends_with_equal_steps_where_it_must(tmp_path: Path) -> None:
    try:
        find("text")
    except InputError:
        pytest.skip("data set text is not here")
    out = tmp_path / "out"
    status = convergence.main(["--quick", "--out", str(out), "--scratch", str(tmp_path / "s"), "--pictures", str(out)])
    assert status == 0
    saved = json.loads((out / "convergence.json").read_text(encoding="utf-8"))
    assert all(verdict["reached"] is None for verdict in saved["targets"])
    lines = [dict(zip(saved["columns"], row, strict=True)) for row in saved["rows"] if row[2] == "mean"]
    assert [(line["text"], line["trained"]) for line in lines] == [
        (text, kind) for text in ("TinyShakespeare", "Python's library") for kind in KINDS
    ]
    for line in lines:
        assert (line["steps"] > 12) == (line["trained"] in LONG)
        assert line["validation loss (nats)"] < 5.6
    assert (out / "missing-layers.png").exists() and (out / "convergence.png").exists()
