"""Pictures of runs show the losses that the metrics hold, and a recorded iteration under its plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_plans import pair, serial_plan

from pathloom.plan import InputError
from pathloom.worlds.train.runtime.run_pictures import LossCurve, loss_curves, plan_over_run, smoothed


def made_run(folder: Path, steps: int = 60, rate: float = 0.05, seconds: float = 0.5, seed: int = 0) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = [{"event": "begun"}]
    for step in range(1, steps + 1):
        loss = 1.5 + 4 * np.exp(-rate * step) + 0.1 * draw.standard_normal()
        lines.append({"step": step, "loss": loss, "tokens": 4096, "seconds": seconds})
        if step % 20 == 0:
            lines.append({"step": step, "validation_loss": 1.6 + 4 * np.exp(-rate * step)})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_curve_counts_tokens_and_seconds_from_the_first_step(tmp_path: Path) -> None:
    curve = LossCurve.read("full", made_run(tmp_path / "a"))
    assert curve.tokens[[0, -1]].tolist() == [4096, 60 * 4096]
    assert curve.seconds[[0, -1]] == pytest.approx([0.5, 30.0])
    assert curve.validation_tokens.tolist() == [20 * 4096, 40 * 4096, 60 * 4096]
    assert curve.validation_seconds == pytest.approx([10.0, 20.0, 30.0])
    assert curve.row()[:4] == ("full", "60", "245,760", "30.0 s")
    assert curve.row()[-1] == f"{curve.validation.min():.4f}"


def test_seconds_of_a_step_may_be_those_of_the_plan(tmp_path: Path) -> None:
    curve = LossCurve.read("full", made_run(tmp_path / "a"), step_seconds=8.0)
    assert curve.seconds[[0, -1]] == pytest.approx([8.0, 480.0])
    assert curve.validation_seconds == pytest.approx([160.0, 320.0, 480.0])


def test_repeated_steps_count_once_and_losses_that_are_not_finite_leave_a_gap(tmp_path: Path) -> None:
    lines = [
        {"step": s, "loss": loss, "tokens": 10, "seconds": 1.0} for s, loss in ((1, 3.0), (2, 2.5), (2, 2.0), (3, None))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = LossCurve.read("x", tmp_path / "metrics.jsonl")
    assert curve.tokens.tolist() == [10, 20, 30]
    assert curve.loss[:2].tolist() == [3.0, 2.0] and np.isnan(curve.loss[2])
    assert curve.row()[-3:] == ("-", "-", "-")


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.integers(1, 200), elements=st.floats(-100, 100)), st.floats(0, 1))
def test_a_running_mean_stays_within_the_values_and_ends_in_a_mean(values: np.ndarray, share: float) -> None:
    mean = smoothed(values, share)
    assert mean.shape == values.shape
    assert mean.min() >= values.min() - 1e-9 and mean.max() <= values.max() + 1e-9
    assert mean[0] == pytest.approx(values[0])
    reach = int(share * len(values) / 2)
    assert mean[-1] == pytest.approx(values[-reach - 1 :].mean())


def test_a_straight_line_is_its_own_running_mean_until_the_window_meets_the_end() -> None:
    line = np.linspace(3.0, 1.0, 101)
    assert smoothed(line, 0.2)[:-10] == pytest.approx(line[:-10])
    hole = np.where(np.arange(101) == 50, np.nan, line)
    assert smoothed(hole, 0.2)[50] == pytest.approx(line[50])
    assert np.isnan(smoothed(hole, 0.0)[50])


def test_losses_of_several_runs_are_drawn_together(tmp_path: Path) -> None:
    runs = {"full <1F1B>": made_run(tmp_path / "a"), "33 % skip": made_run(tmp_path / "b", seconds=0.3, seed=1)}
    files = loss_curves(runs, tmp_path / "out", title="TinyShakespeare")
    page = files["page"].read_text()
    assert "33 % skip" in page and "full &lt;1F1B&gt;" in page and "wall time, s" in page
    assert files["picture"].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["loss.html", "loss.png"]
    again = loss_curves(runs, tmp_path / "out", step_seconds=dict.fromkeys(runs, 600.0))
    assert "emulated time, h" in again["page"].read_text()


def test_a_single_short_run_is_drawn_too(tmp_path: Path) -> None:
    files = loss_curves({"one": made_run(tmp_path / "a", steps=1)}, tmp_path)
    assert files["picture"].stat().st_size > 10_000


def test_runs_without_anything_to_draw_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one run"):
        loss_curves({}, tmp_path)
    with pytest.raises(InputError, match=r"metrics\.jsonl: no such file"):
        loss_curves({"one": tmp_path}, tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"event": "begun"}\n')
    with pytest.raises(InputError, match="no step with loss, tokens and seconds"):
        loss_curves({"one": tmp_path}, tmp_path)
    run = made_run(tmp_path / "a")
    with pytest.raises(InputError, match="for every run or for none"):
        loss_curves({"one": run, "two": run}, tmp_path, step_seconds={"one": 1.0})
    with pytest.raises(InputError, match=r"metrics\.jsonl: cannot be written"):
        loss_curves({"one": run}, tmp_path / "metrics.jsonl")


def test_a_run_is_drawn_under_its_plan(tmp_path: Path) -> None:
    plan = serial_plan(*pair(2))
    line = plan.timeline
    late = replace(line, start=line.start * 1.1, end=line.end * 1.1)
    files = plan_over_run(plan, late, tmp_path / "out", simulation=line)
    page = files["page"].read_text()
    assert page.index("plan, simulation, run") > 0
    assert files["picture"].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["timelines.html", "timelines.png"]
