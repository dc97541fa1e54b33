"""The benchmarks of learning-rate schedules train what they say they train, and go on where they were stopped."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import _logistic_models as logistic
import _refinement_suite as suite
from _saved_parts import SavedParts
from pathloom.data import find
from pathloom.learn.rates.plan import plan_named
from pathloom.plan import InputError

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

STEPS, SEEDS, BATCH = 30, 2, 8


def torch_loss(task: logistic.Samples, optimizer: str, rates: np.ndarray, seed: int) -> tuple[float, list[float]]:
    """Loss and gradient norms of one model, trained by torch."""
    inputs, labels = torch.from_numpy(task.features), torch.from_numpy(task.labels[seed])
    weights = torch.zeros(inputs.shape[1], task.classes, dtype=torch.float64, requires_grad=True)
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    made = kind([weights], lr=1.0)
    drawn = np.random.default_rng([seed, 2]).integers(0, len(inputs), (len(rates), BATCH))
    norms = []
    for batch, rate in zip(drawn, rates, strict=True):
        made.param_groups[0]["lr"] = rate
        made.zero_grad()
        torch.nn.functional.cross_entropy(inputs[batch] @ weights, labels[batch]).backward()
        assert weights.grad is not None
        norms.append(float(torch.linalg.vector_norm(weights.grad, 1 if optimizer == "adam" else 2)))
        made.step()
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(inputs @ weights, labels)), norms


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_models_trained_together_are_those_that_torch_trains_one_by_one(optimizer: str) -> None:
    task = logistic.samples("wine", 0.2, SEEDS)
    factors = np.stack([plan_named(name, STEPS).factors() for name in ("linear", "rex")])
    rates = np.repeat(0.3 * factors.T[:, None, :], SEEDS, axis=1)
    trained = logistic.train_together(task, optimizer, rates, BATCH)
    for seed in range(SEEDS):
        for model in range(2):
            loss, norms = torch_loss(task, optimizer, rates[:, seed, model], seed)
            assert trained.loss[seed, model] == pytest.approx(loss, rel=1e-9)
            assert trained.norms[:, seed, model] == pytest.approx(norms, rel=1e-9)


def test_a_fifth_of_the_labels_is_wrong_and_others_for_each_seed() -> None:
    clean, noisy = (logistic.samples("digits", noise, SEEDS) for noise in (0.0, 0.2))
    assert (clean.labels[0] == clean.labels[1]).all()
    wrong = clean.labels != noisy.labels
    assert wrong.mean(1) == pytest.approx([0.2, 0.2], abs=1e-3)
    assert (wrong[0] != wrong[1]).any()
    assert noisy.features[:, :-1].std(0) == pytest.approx(np.ones(noisy.features.shape[1] - 1))


def test_the_suite_has_twelve_noisy_settings_and_eleven_schedules() -> None:
    assert len(set(suite.NOISY)) == 12 and len(set(suite.RANKED)) == 11
    assert {setting.steps for setting in suite.NOISY} == {200, 800}


def test_the_textbook_schedules_fall_with_the_step() -> None:
    steps = np.arange(200)
    assert suite.plan_of("1/t", 200).factors() == pytest.approx(1 / (1 + steps))
    assert suite.plan_of("1/sqrt", 200).factors() == pytest.approx(1 / np.sqrt(1 + steps))


def test_rates_and_schedules_are_laid_out_schedule_by_schedule() -> None:
    factors = np.arange(24.0).reshape(2, 3, 4)  # seeds, schedules, steps
    rates = suite._spread(factors, np.array([1.0, 10.0]))
    assert rates.shape == (4, 2, 6)
    assert rates[3, 1].tolist() == [15.0, 150.0, 19.0, 190.0, 23.0, 230.0]


def test_the_best_rate_counts_and_diverged_ones_do_not() -> None:
    outcome = {"loss": {name: [[1.0, 3.0], [0.5, 0.7], [float("nan"), 0.0]] for name in suite.RANKED}}
    outcome["loss"]["linear"] = [[0.4, 0.4], [9.0, 9.0], [9.0, 9.0]]
    assert suite.best_loss(outcome, "REX") == pytest.approx(0.6)
    assert suite.at_edge(outcome, "linear")
    assert not suite.at_edge(outcome, "REX")
    ranked = suite.ranks(outcome)
    assert ranked["linear"] == 1
    assert ranked["REX"] == pytest.approx(6.5)  # ten schedules share the ranks 2 to 11


def test_finished_parts_are_not_made_again_unless_the_settings_differ(tmp_path: Path) -> None:
    made: list[str] = []

    def part(saved: SavedParts, name: str) -> Any:
        return saved.part(name, lambda: made.append(name) or {"loss": 1.5})

    path = tmp_path / "parts" / "x.json"
    assert part(SavedParts(path, {"betas": (0.9, 0.99)}), "a") == {"loss": 1.5}
    assert part(SavedParts(path, {"betas": (0.9, 0.99)}), "a") == {"loss": 1.5}
    assert made == ["a"]
    assert part(SavedParts(path, {"betas": (0.9, 0.95)}), "a") == {"loss": 1.5}
    assert made == ["a", "a"]
    path.write_text('{"settings": {"betas": ', encoding="utf-8")
    part(SavedParts(path, {"betas": (0.9, 0.95)}), "b")
    assert made == ["a", "a", "b"]
    assert list(json.loads(path.read_text(encoding="utf-8"))["parts"]) == ["b"]


def saved_by(name: str, out: Path, *arguments: str) -> dict[str, Any]:
    assert import_module(name).main([*arguments, "--out", str(out)]) in (0, 1)
    saved: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    assert all(len(row) == len(saved["columns"]) for row in saved["rows"])
    return saved


def test_a_quick_run_of_the_logistic_suite_proves_nothing(tmp_path: Path) -> None:
    saved = saved_by("refined_schedules", tmp_path, "--quick")
    at = {title: number for number, title in enumerate(saved["columns"])}
    bounds = [row for row in saved["rows"] if row[0].startswith("bound")]
    assert len(bounds) == 4
    for row in bounds:
        # Nothing is better than the minimiser
        assert min(row[at[name]] for name in suite.RANKED) > -0.01
    assert all(verdict["reached"] is None for verdict in saved["targets"])
    assert not (tmp_path / "parts" / "refined_schedules.json").exists()


def needs_text() -> None:
    try:
        find("text")
    except InputError:
        pytest.skip("data set text is not here")


def test_all_warm_ups_of_the_text_runs_are_the_same_and_torch_s_cosine_is_ours() -> None:
    text = import_module("_text_training")
    size = text.Size(steps=60, warmup=6)

    def rates(schedule: str) -> np.ndarray:
        optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.01)
        scheduler = text.scheduler_of(optimizer, size, schedule, 0.01, None)
        seen = []
        for step in range(size.steps):
            seen.append(optimizer.param_groups[0]["lr"] / 0.01)
            optimizer.step()
            if step + 1 < size.steps:
                scheduler.step()
        return np.array(seen)

    ramp = 1 / 6 + 5 / 6 * np.arange(6) / 6
    for schedule in (*text.OURS, text.TORCH_COSINE):
        assert rates(schedule)[:6] == pytest.approx(ramp), schedule
    assert rates(text.TORCH_COSINE) == pytest.approx(
        plan_named("cosine", 60, warmup=6, warmup_start=1 / 6).factors(), abs=1e-12
    )
    assert rates(text.LINEAR_ALONE) == pytest.approx(1 - np.arange(60) / 60)


def test_a_text_run_is_that_of_torch_s_adamw_written_out(tmp_path: Path) -> None:
    needs_text()
    text = import_module("_text_training")
    shakespeare = text.shakespeare()
    size = text.Size(dim=16, ffn_dim=32, steps=5, warmup=2, validation_windows=4)
    run = text.train(shakespeare, size, "linear", 0.01, seed=1)

    model, rng = text.model_of(shakespeare, size, 1), np.random.default_rng([1, 3])
    optimizer = torch.optim.AdamW(model.parameters(), betas=size.betas, weight_decay=size.weight_decay)
    for factor in (0.5, 0.75, 1.0, 2 / 3, 1 / 3):
        optimizer.param_groups[0]["lr"] = 0.01 * factor
        at = rng.integers(0, len(shakespeare.train) - size.context, size.batch)
        rows = torch.from_numpy(np.stack([shakespeare.train[i : i + size.context + 1] for i in at]))
        optimizer.zero_grad()
        model.loss(rows[:, :-1], rows[:, 1:]).backward()
        norm = sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)
        optimizer.step()
    assert run["norms"][-1] == pytest.approx(norm, rel=1e-4)
    assert run["validation"] == pytest.approx(text.validation_loss(model, shakespeare, size), rel=1e-5)


@pytest.mark.slow
def test_a_stopped_text_benchmark_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_text()
    pytest.importorskip("schedulefree")
    benchmark = import_module("text_schedules")
    trained: list[str] = []
    genuine = benchmark.train

    def counted(*arguments: Any) -> dict[str, Any]:
        trained.append(arguments[2])
        if len(trained) == 7:
            raise KeyboardInterrupt
        done: dict[str, Any] = genuine(*arguments)
        return done

    monkeypatch.setattr(benchmark, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(["--quick", "--out", str(tmp_path)])
    before = len(trained) - 1
    picture = tmp_path / "picture.png"
    saved = saved_by("text_schedules", tmp_path, "--quick", "--picture", str(picture))
    rows = {row[0]: dict(zip(saved["columns"], row, strict=True)) for row in saved["rows"]}
    assert set(rows) == {*benchmark.JUDGED, *benchmark.BESIDE}
    runs = sum(row["rates tried"] for row in rows.values())
    assert len(trained) - 1 == runs and before == 6  # the one that was stopped was made again, no other
    assert min(rows[name]["above the best"] for name in benchmark.JUDGED) == 0
    assert all(verdict["reached"] is None for verdict in saved["targets"])
    assert picture.read_bytes()[:4] == b"\x89PNG"
