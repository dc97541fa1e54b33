"""Which learning-rate schedule is best at which training budget? REX against torch's schedulers, WSD and schedule-free.

MNIST-1D with a small convolutional net, budgets of 5 to 100 % of 2,400 steps, SGD with momentum and AdamW, every
schedule at its own best rate. The measured ranks become the table from which `recommend` picks, and its picks are then
judged on data sets that the table has not seen: MNIST (8,000 training and 2,000 test images) and scikit-learn's digits,
with a perceptron.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import argparse
import gzip
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict
from pathloom.data import find
from pathloom.learn.rates.budget_sweep import SweepResult, budget_sweep
from pathloom.learn.rates.recommendation import TABLE, ScheduleRanks, recommend
from pathloom.learn.rates.stacked_networks import SmallConvNet, SmallPerceptron
from pathloom.learn.rates.stacked_training import Classification
from pathloom.learn.rates.sweep_schedules import default_schedules

NAME = "rex_budgets"
BUDGETS = (0.05, 0.1, 0.25, 0.5, 1.0)
SEEDS = (0, 1, 2)
STEPS = 2400
OPTIMIZERS = ("sgdm", "adamw")
# Grids of factor 3 that a pilot with another seed found to hold the best rates of most schedules
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "mnist1d": {"sgdm": (0.03, 0.1, 0.3, 0.9), "adamw": (0.003, 0.01, 0.03, 0.09)},
    "mnist": {"sgdm": (0.01, 0.03, 0.1, 0.3), "adamw": (0.001, 0.003, 0.01, 0.03)},
    "digits": {"sgdm": (0.01, 0.03, 0.1, 0.3), "adamw": (0.001, 0.003, 0.01, 0.03)},
}


def mnist1d() -> Classification:
    """MNIST-1D: 4,000 training and 1,000 test signals of 40 points."""
    with np.load(find("images") / "mnist1d.npz") as saved:
        inputs, labels, test, test_labels = (saved[key] for key in ("x", "y", "x_test", "y_test"))
    return _task("mnist1d", inputs, labels, test, test_labels, SmallConvNet(length=40, channels=24))


def mnist() -> Classification:
    """The 10,000 MNIST images that are here, shuffled: 8,000 to train with, 2,000 to test."""
    folder = find("images")
    with gzip.open(folder / "mnist-t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(folder / "mnist-t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return _split("mnist", images, labels, 8000, SmallPerceptron(784, hidden=32))


def digits() -> Classification:
    """The 1,797 digits of scikit-learn, shuffled: 1,437 to train with, 360 to test."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return _split("digits", loaded.data, loaded.target, 1437, SmallPerceptron(64, hidden=32))


MEASURED, HELD_OUT = "mnist1d", ("mnist", "digits")
TASKS: dict[str, Callable[[], Classification]] = {"mnist1d": mnist1d, "mnist": mnist, "digits": digits}


def _split(name: str, inputs: np.ndarray, labels: np.ndarray, train: int, network: SmallPerceptron) -> Classification:
    order = np.random.default_rng(0).permutation(len(inputs))
    inputs, labels = inputs[order], labels[order]
    return _task(name, inputs[:train], labels[:train], inputs[train:], labels[train:], network)


def _task(
    name: str,
    inputs: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    network: SmallConvNet | SmallPerceptron,
) -> Classification:
    """With inputs centred and scaled by the training set's mean and deviation."""
    mean, deviation = float(inputs.mean()), float(inputs.std())
    scaled = [((each - mean) / deviation).astype(np.float32) for each in (inputs, test)]
    return Classification(
        name, scaled[0], labels.astype(np.int64), scaled[1], test_labels.astype(np.int64), network, batch=100
    )


def swept(name: str, chosen: argparse.Namespace) -> SweepResult:
    """The sweep of one task under both optimisers; finished budgets are kept in the folder of checkpoints."""
    task, schedules = TASKS[name](), default_schedules()
    parts = [
        budget_sweep(
            task,
            schedules,
            chosen.budgets,
            RATES[name][optimizer],
            chosen.seeds,
            optimizer,
            steps=chosen.steps,
            widen=chosen.widen,
            refine=chosen.refine,
            checkpoint=chosen.checkpoints / f"{name}-{optimizer}.json",
            on_progress=lambda share, line: say(f"{NAME}: {line} ({share:.0%} of this sweep)"),
        )
        for optimizer in OPTIMIZERS
    ]
    return parts[0] + parts[1]


def closer_look(chosen: argparse.Namespace) -> SweepResult | None:
    """REX and linear alone under SGD at the budgets up to 25 %, with more seeds, if that is asked for.

    The seeds count from 100, so that nothing else uses them.
    """
    if not chosen.closer_seeds:
        return None
    return budget_sweep(
        TASKS[MEASURED](),
        [schedule for schedule in default_schedules() if schedule.name in ("linear", "rex")],
        [budget for budget in chosen.budgets if budget <= 0.25],
        RATES[MEASURED]["sgdm"],
        range(100, 100 + chosen.closer_seeds),
        "sgdm",
        steps=chosen.steps,
        widen=chosen.widen,
        refine=chosen.refine,
        checkpoint=chosen.checkpoints / "closer-look.json",
        on_progress=lambda share, line: say(f"{NAME}: {line} ({share:.0%} of the closer look)"),
    )


def behind_the_best(result: SweepResult, ranks: ScheduleRanks) -> dict[tuple[str, float], tuple[str, float]]:
    """For each optimiser and budget what `recommend` says, and how many points of error that lies behind the best."""
    found = {}
    for optimizer, budget in result.ranks():
        name = recommend(budget, optimizer, ranks).measured_as
        least = min(result.cell(optimizer, budget, other).error for other in result.schedules)
        found[optimizer, budget] = name, result.cell(optimizer, budget, name).error - least
    return found


def rows_of(result: SweepResult, ranks: ScheduleRanks) -> list[list[Cell]]:
    """Errors of every optimiser and budget, and the mean ranks."""
    rows: list[list[Cell]] = []
    recommended = behind_the_best(result, ranks)
    for optimizer in OPTIMIZERS:
        for (name, budget), row in result.ranks().items():
            if name != optimizer:
                continue
            errors = [round(result.cell(optimizer, budget, schedule).error, 2) for schedule in result.schedules]
            pick, behind = recommended[optimizer, budget]
            budget_name = f"{budget:.0%}".replace("%", " %")
            rows.append(
                [result.task, optimizer, budget_name, *errors, min(row, key=row.__getitem__), pick, round(behind, 2)]
            )
        rows.append(_mean_ranks(result, optimizer))
    rows.append(_mean_ranks(result, None))
    return rows


def _mean_ranks(result: SweepResult, optimizer: str | None) -> list[Cell]:
    means = result.mean_ranks(optimizer)
    ranks = [round(means[schedule], 2) for schedule in result.schedules]
    return [result.task, optimizer or "both", "mean rank", *ranks, next(iter(means)), None, None]


def verdicts(results: Sequence[SweepResult], ranks: ScheduleRanks, short_of: str) -> list[Verdict]:
    """Answers to the targets that the suite lists; from the sweep itself, whatever a closer look says."""
    measured = results[0]
    gains = gains_of(measured)
    worst = {
        result.task: max((points, *row) for row, (_, points) in behind_the_best(result, ranks).items())
        for result in results[1:]
    }
    answers: dict[str, tuple[float | None, str]] = {
        "rex-linear": (min((gain for gain, _ in gains.values()), default=None), f"points: {_by_budget(gains)}"),
        "rex-ten": (gains[0.1][0], f"{_points(gains[0.1])} points") if 0.1 in gains else (None, "not measured"),
        "rex-rank": _behind_torch(measured),
        "rex-recommend": (
            max((points for points, *_ in worst.values()), default=None),
            "most points behind the best: "
            + ", ".join(f"{points:.2f} on {name} ({opt}, {at:.0%})" for name, (points, opt, at) in worst.items()),
        ),
    }
    return [
        TARGETS[key].judge(value, text, short_of=short_of) for key, (value, text) in answers.items() if key in TARGETS
    ]


def _behind_torch(result: SweepResult) -> tuple[float, str]:
    """REX's mean rank less the best mean rank of torch's schedulers, and the mean ranks in words."""
    means = result.mean_ranks()
    best = min(rank for name, rank in means.items() if name.startswith("torch "))
    shown = "; ".join(
        f"{optimizer or 'both optimizers'}: "
        + ", ".join(f"{name} {rank:.2f}" for name, rank in result.mean_ranks(optimizer).items())
        for optimizer in (None, *OPTIMIZERS)
    )
    return means["rex"] - best, shown


def gains_of(result: SweepResult) -> dict[float, tuple[float, float]]:
    """Points by which REX's error lies below linear's under SGD, for the budgets up to 25 %, and standard errors."""
    return {budget: _gain(result, budget) for name, budget in result.ranks() if name == "sgdm" and budget <= 0.25}


def on_the_first_grid(result: SweepResult) -> SweepResult:
    """The runs with the four rates that every schedule began with, without widening and refinement."""
    scales = {schedule.name: schedule.rate_scale for schedule in default_schedules()}
    runs = [
        run
        for run in result.runs
        if any(
            np.isclose(run.rate, rate * scales[run.schedule].get(run.optimizer, 1.0), rtol=0.01)
            for rate in RATES[result.task][run.optimizer]
        )
    ]
    return SweepResult(result.task, result.steps, tuple(runs))


def _by_budget(gains: dict[float, tuple[float, float]]) -> str:
    return ", ".join(f"{_points(gain)} at {budget:.0%}" for budget, gain in gains.items())


def _points(gain: tuple[float, float]) -> str:
    return f"{gain[0]:+.1f} ± {gain[1]:.1f}"


def _gain(result: SweepResult, budget: float) -> tuple[float, float]:
    """Mean over the seeds, of linear's error less REX's, each at its best rate, and the standard error of that mean."""
    by_seed = []
    for name in ("linear", "rex"):
        rate = result.cell("sgdm", budget, name).rate
        by_seed.append(
            {
                run.seed: run.error
                for run in result.runs
                if (run.optimizer, run.budget, run.schedule, run.rate) == ("sgdm", budget, name, rate)
            }
        )
    gains = np.array([by_seed[0][seed] - by_seed[1][seed] for seed in by_seed[0]])
    return float(gains.mean()), float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else 0.0


def notes_of(results: Sequence[SweepResult], closer: SweepResult | None) -> list[str]:
    """What a reader must know to judge the table."""
    cells = [cell for result in results for cell in result.cells()]
    first = on_the_first_grid(results[0])
    outside = [cell for cell in cells if not cell.inside]
    spreads = [cell.spread for cell in cells]
    return [
        "Cells are test errors in percent, the mean over the seeds at the schedule's best rate; that rate is chosen by "
        "the same test errors, for every schedule alike. A mean-rank row has ranks instead.",
        "Every grid has four rates, a factor of about 3 apart, is widened by one rate up to twice where the best lies "
        "at an edge, and made finer around the best by two rates a factor of 1.7 from it; in "
        f"{len(outside)} of {len(cells)} cells the best lies at an edge all the same.",
        f"Standard deviation over the seeds: median {median(spreads):.2f}, largest {max(spreads):.1f} points.",
        "The schedulers called torch are torch's own, with its defaults: OneCycleLR cycles momentum (Adam's first "
        "beta) between 0.85 and 0.95, all others leave it at 0.9. wsd has 5 % warm-up and a linear tail of 20 %; rex "
        "and linear have no warm-up.",
        "schedule-free is the method of the package schedulefree, warm-up 5 %, with ten times the rates for SGD (its "
        "authors advise 10 to 50 times) and the same rates for AdamW (1 to 10 times).",
        *(
            ["One test image of digits is 0.28 points: differences of a few tenths are one image in one or two seeds."]
            if any(result.task == "digits" for result in results)
            else []
        ),
        "The schedules recommended come from the ranks on mnist1d alone, and among the schedules that this package "
        "builds; the best may be any, one-cycle and schedule-free too.",
        f"REX against linear under SGD with momentum, points of error below linear: {_by_budget(gains_of(results[0]))} "
        "(± standard error over the seeds).",
        "With the four rates alone, a factor of 3 apart, as the sweep was first planned: REX below linear by "
        f"{_by_budget(gains_of(first))}; {_behind_torch(first)[1]}. Trying rates between them, for all schedules, was "
        "decided after the rows of SGD up to 25 % had been seen.",
        *(
            [
                f"The same for these two alone with {len({run.seed for run in closer.runs})} other seeds: "
                f"{_by_budget(gains_of(closer))}."
            ]
            if closer
            else []
        ),
        *(
            f"{result.task}: {len(result.runs):,} models trained in {result.cpu_seconds / 60:.0f} minutes of processor "
            "time on one thread."
            for result in results
        ),
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = options(NAME, __doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps, one seed: does it run? proves nothing")
    parser.add_argument("--held-out", nargs="*", default=list(HELD_OUT), choices=HELD_OUT, help="unseen data sets")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        help=f"folder of what is finished, from which a run goes on; kept if given (default: {NAME}.partial)",
    )
    parser.add_argument(
        "--closer-seeds", type=int, default=0, help="REX and linear once more with this many other seeds (default: no)"
    )
    parser.add_argument("--ranks", type=Path, help="where the table of ranks goes (default: into the package)")
    chosen = parser.parse_args(argv)
    chosen.budgets, chosen.seeds, chosen.steps = BUDGETS, SEEDS, STEPS
    chosen.widen, chosen.refine = 2, True
    if chosen.quick:
        chosen.budgets, chosen.seeds, chosen.steps = (0.1, 1.0), (0,), 20
        chosen.widen, chosen.refine = 0, False
    kept = chosen.checkpoints is not None
    chosen.checkpoints = chosen.checkpoints or chosen.out / f"{NAME}{'-quick' if chosen.quick else ''}.partial"

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # momenta of units that have died would otherwise slow everything down
    results = [swept(name, chosen) for name in (MEASURED, *chosen.held_out)]
    closer = closer_look(chosen)
    ranks = ScheduleRanks.of(results[0], default_schedules(), f"{datetime.now(UTC):%Y-%m-%d}")
    if chosen.ranks or not chosen.quick:
        ranks.write(chosen.ranks or TABLE)

    titles = [f"{name} (%)" for name in results[0].schedules]
    short_of = "budgets, steps and seeds" if chosen.quick else "" if chosen.held_out else "an unseen data set"
    table = Table(
        title="Learning-rate schedules at training budgets of 5 to 100 %",
        columns=["data set", "optimizer", "budget", *titles, "best", "recommended", "behind the best (points)"],
        rows=[row for result in results for row in rows_of(result, ranks)],
        settings=_settings(chosen),
        seeds=chosen.seeds,
        notes=notes_of(results, closer),
        verdicts=verdicts(results, ranks, short_of),
    )
    finish(table, NAME, chosen)
    if not kept:
        shutil.rmtree(chosen.checkpoints, ignore_errors=True)
    return 0


def _settings(chosen: argparse.Namespace) -> dict[str, Any]:
    tasks = {name: TASKS[name]() for name in (MEASURED, *chosen.held_out)}
    return {
        "steps": chosen.steps,
        "budgets": chosen.budgets,
        "widen": chosen.widen,
        "refine": chosen.refine,
        "seeds of the closer look": chosen.closer_seeds,
        "momentum": 0.9,
        "batch": 100,
        "weight decay": tasks[MEASURED].weight_decay,
        "networks": {name: str(task.network) for name, task in tasks.items()},
        "rates": {name: RATES[name] for name in tasks},
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    raise SystemExit(main())
