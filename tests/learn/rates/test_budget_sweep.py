"""A budget sweep judges every schedule at its own best rate, goes on where it stopped, and knows torch's curves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.learn.rates.budget_sweep import Run, SweepResult, budget_sweep
from pathloom.learn.rates.plan import plan_named
from pathloom.learn.rates.sweep_schedules import default_schedules, plan_options, planned, without_schedule
from pathloom.plan import InputError


def schedule(name: str) -> Any:
    return next(each for each in default_schedules() if each.name == name)


@pytest.mark.parametrize("name", [each.name for each in default_schedules() if each.plan is not None])
@pytest.mark.parametrize("optimizer", ["sgdm", "adamw"])
def test_torchs_schedulers_and_our_plans_of_the_same_name_agree(name: str, optimizer: str) -> None:
    pytest.importorskip("torch")
    known = schedule(name)
    steps = 120
    curve = known.curve(steps, optimizer)
    ours = plan_named(known.plan[0], steps, **plan_options(known.plan[1], steps)).factors()
    np.testing.assert_allclose(curve.factors, ours, atol=1e-12)
    assert (curve.momenta == 0.9).all()


def test_torchs_linear_decay_is_our_linear_plan() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=50)
    for factor in schedule("linear").curve(50, "sgdm").factors:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(factor)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("optimizer", ["sgdm", "adamw"])
def test_torchs_one_cycle_moves_momentum_against_the_rate(optimizer: str) -> None:
    pytest.importorskip("torch")
    curve = schedule("torch one-cycle").curve(200, optimizer)
    peak = int(curve.factors.argmax())
    assert (curve.factors[0], curve.factors[peak]) == (pytest.approx(1 / 25), pytest.approx(1.0))
    assert 0.28 < peak / 200 < 0.31
    assert (curve.momenta[0], curve.momenta[peak]) == (pytest.approx(0.95), pytest.approx(0.85))
    assert int(curve.momenta.argmin()) == peak


@given(st.integers(1, 3000), st.floats(0.0, 0.5))
def test_schedule_free_warms_up_to_the_full_rate_and_stays(steps: int, share: float) -> None:
    factors = without_schedule("free", share, {}).curve(steps, "sgdm").factors
    warmup = max(1, round(share * steps))
    assert factors.shape == (steps,)
    assert (np.diff(factors) >= 0).all()
    assert (factors[warmup - 1 :] == 1.0).all()


def runs(errors: dict[tuple[str, float], list[float]], budget: float = 1.0, optimizer: str = "sgdm") -> list[Run]:
    """Runs by schedule and rate, one a seed."""
    return [
        Run(optimizer, budget, name, rate, seed, error)
        for (name, rate), of_seeds in errors.items()
        for seed, error in enumerate(of_seeds)
    ]


def test_a_schedule_counts_with_the_rate_of_its_least_mean_error() -> None:
    result = SweepResult(
        "task",
        100,
        tuple(
            runs(
                {
                    ("rex", 0.1): [5.0, 7.0],
                    ("rex", 0.3): [1.0, 5.0],  # the best mean, though one seed is worse than at 1.0
                    ("rex", 1.0): [4.0, 4.0],
                    ("linear", 0.1): [3.5, 3.5],
                    ("linear", 0.3): [9.0, 9.0],
                }
            )
        ),
    )
    rex, linear = result.cells()
    assert (rex.rate, rex.error, rex.inside) == (0.3, 3.0, True)
    assert rex.spread == pytest.approx(math.sqrt(8.0))
    assert (linear.rate, linear.error, linear.inside) == (0.1, 3.5, False)
    assert result.mean_ranks() == {"rex": 1.0, "linear": 2.0}
    assert result.cell("sgdm", 1.0, "linear") == linear


def test_equal_errors_share_their_rank_and_rows_count_alike() -> None:
    first = runs({("a", 1.0): [2.0], ("b", 1.0): [2.0], ("c", 1.0): [1.0]}, budget=0.1)
    second = runs({("a", 1.0): [1.0], ("b", 1.0): [2.0], ("c", 1.0): [3.0]}, budget=0.5)
    third = runs({("a", 1.0): [3.0], ("b", 1.0): [2.0], ("c", 1.0): [1.0]}, optimizer="adamw")
    result = SweepResult("task", 10, tuple(first + second)) + SweepResult("task", 10, tuple(third))
    assert result.ranks()["sgdm", 0.1] == {"a": 2.5, "b": 2.5, "c": 1.0}
    assert result.mean_ranks("sgdm") == {"a": 1.75, "c": 2.0, "b": 2.25}
    assert result.mean_ranks() == pytest.approx({"a": 6.5 / 3, "c": 5 / 3, "b": 6.5 / 3})
    assert next(iter(result.mean_ranks())) == "c"


@given(
    st.lists(st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_ranks_sum_to_the_same_in_every_row_whatever_the_order_of_the_runs(rows: list[list[int]], draw: Any) -> None:
    given_runs = [
        Run("sgdm", (at + 1) / 10, name, 1.0, 0, float(error))
        for at, row in enumerate(rows)
        for name, error in zip("abcd", row, strict=True)
    ]
    ranks = SweepResult("task", 10, tuple(given_runs)).ranks()
    assert all(sum(row.values()) == 10.0 for row in ranks.values())
    draw.shuffle(given_runs)
    assert SweepResult("task", 10, tuple(given_runs)).ranks() == ranks


def test_sweeps_of_different_tasks_are_not_added() -> None:
    with pytest.raises(ValueError, match="sweeps of"):
        SweepResult("one", 10, ()) + SweepResult("other", 10, ())


# Real sweeps, on a small task


def clouds() -> Any:
    """Three clouds of points that overlap."""
    pytest.importorskip("torch")
    from pathloom.learn.rates.stacked_networks import SmallPerceptron
    from pathloom.learn.rates.stacked_training import Classification

    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 400)
    points = draw.standard_normal((3, 10))[labels] + draw.standard_normal((400, 10))
    points = points.astype(np.float32)
    network = SmallPerceptron(10, 8, 3)
    return Classification("clouds", points[:300], labels[:300], points[300:], labels[300:], network, batch=50)


def sweep(rates: tuple[float, ...] = (0.01, 0.03, 0.1), **settings: Any) -> SweepResult:
    chosen = {
        "budgets": (0.25, 1.0),
        "seeds": (0, 1),
        "optimizer": "sgdm",
        "steps": 40,
        "widen": 0,
        "refine": False,
    } | settings
    schedules = chosen.pop("schedules", [planned("linear"), planned("rex"), schedule("schedule-free")])
    return budget_sweep(
        clouds(), schedules, chosen.pop("budgets"), rates, chosen.pop("seeds"), chosen.pop("optimizer"), **chosen
    )


@pytest.mark.parametrize("optimizer", ["sgdm", "adamw"])
def test_a_sweep_trains_every_schedule_budget_rate_and_seed_once(optimizer: str) -> None:
    result = sweep(optimizer=optimizer)
    keys = {(run.budget, run.schedule, run.rate, run.seed) for run in result.runs}
    scale = 10.0 if optimizer == "sgdm" else 1.0
    assert len(result.runs) == len(keys) == 2 * 3 * 3 * 2
    assert {run.rate for run in result.runs if run.schedule == "rex"} == {0.01, 0.03, 0.1}
    assert {run.rate for run in result.runs if run.schedule == "schedule-free"} == {
        0.01 * scale,
        0.03 * scale,
        1 * 0.1 * scale,
    }
    assert all(0.0 <= run.error <= 100.0 for run in result.runs)
    assert result.cell(optimizer, 1.0, "rex").error < 30.0  # of 67 % by chance


def test_a_sweep_is_the_same_whatever_it_is_swept_with() -> None:
    together = {(r.budget, r.rate, r.seed): r.error for r in sweep().runs if r.schedule == "rex"}
    alone = {(r.budget, r.rate, r.seed): r.error for r in sweep(schedules=[planned("rex")]).runs}
    assert together == pytest.approx(alone, abs=1.01)  # one test sample of 100 may flip with the rounding


def test_a_grid_is_widened_where_its_best_rate_lies_at_an_edge() -> None:
    low = sweep(rates=(0.001, 0.003), widen=2, budgets=(1.0,), schedules=[planned("rex")])
    assert sorted({run.rate for run in low.runs}) == [0.001, 0.003, 0.009, 0.027]
    high = sweep(rates=(300.0, 900.0), widen=1, budgets=(1.0,), schedules=[planned("rex")])
    assert sorted({run.rate for run in high.runs}) == [100.0, 300.0, 900.0]


def test_a_grid_is_made_finer_around_the_best_rate_of_each_schedule() -> None:
    coarse = sweep(budgets=(1.0,))
    fine = sweep(budgets=(1.0,), refine=True)
    assert fine.runs[: len(coarse.runs)] == coarse.runs
    for cell in coarse.cells():
        tried = {run.rate for run in fine.runs if run.schedule == cell.schedule}
        added = tried - {run.rate for run in coarse.runs if run.schedule == cell.schedule}
        assert sorted(added) == pytest.approx([cell.rate / 3**0.5, cell.rate * 3**0.5], rel=0.01)
        assert fine.cell("sgdm", 1.0, cell.schedule).error <= cell.error


def test_a_sweep_stopped_between_its_rounds_goes_on_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathloom.learn.rates import budget_sweep as module

    file = tmp_path / "sweep.json"
    whole = sweep(budgets=(1.0,), refine=True)
    train, calls = module._train, []

    def until_second(*arguments: Any) -> list[Run]:
        calls.append(arguments[2])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(module, "_train", until_second)
    with pytest.raises(KeyboardInterrupt):
        sweep(budgets=(1.0,), refine=True, checkpoint=file)
    assert sweep(budgets=(1.0,), refine=True, checkpoint=file).runs == whole.runs
    assert calls[1] == calls[2]
    assert len(calls) == 3


def test_a_stopped_sweep_goes_on_after_its_last_finished_budget(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "sweep.json"
    whole = sweep()
    said: list[float] = []

    def stop(done: float, line: str) -> None:
        said.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(checkpoint=file, on_progress=stop)
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert [block["budget"] for block in saved["blocks"]] == [0.25]
    assert said == [0.2]
    saved["blocks"][0]["runs"][0]["error"] = 77.0  # to be told from a run that is made again
    file.write_text(json.dumps(saved), encoding="utf-8")
    resumed = sweep(checkpoint=file)
    assert resumed.runs[0].error == 77.0
    assert resumed.runs[1:] == whole.runs[1:]
    assert list(file.parent.iterdir()) == [file]
    assert resumed.cpu_seconds > 0


def test_a_checkpoint_of_another_sweep_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    sweep(checkpoint=file, budgets=(0.25,))
    with pytest.raises(InputError, match=r"sweep\.json: settings\.steps: is of another sweep: 40, expected 30"):
        sweep(checkpoint=file, steps=30)
    with pytest.raises(InputError, match=r"settings\.optimizer"):
        sweep(checkpoint=file, optimizer="adamw")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "else"}', '{"format": "pathloom-budget-sweep-1"}'])
def test_a_broken_checkpoint_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"sweep\.json"):
        sweep(checkpoint=file)
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("budgets", {"budgets": (0.0, 1.0)}),
        ("budgets", {"budgets": ()}),
        ("budgets", {"budgets": (1.5,)}),
        ("rates", {"rates": (0.1, 0.01)}),
        ("rates", {"rates": (-1.0, 0.01)}),
        ("seeds", {"seeds": (1, 1)}),
        ("schedules", {"schedules": [planned("rex"), planned("rex")]}),
        ("optimizer", {"optimizer": "lion"}),
    ],
)
def test_wrong_arguments_are_named(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=field):
        sweep(**settings)
