"""Which schedule for this budget? An answer from measured ranks, with the evidence.

The table ``schedule_ranks.json`` in this folder holds the ranks of one budget sweep and says on which data set, with
which seeds and when it was measured; ``benchmarks/rex_budgets.py`` writes it and judges the answers on other data sets.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pathloom.learn.rates.budget_sweep import SweepResult
from pathloom.learn.rates.plan import RatePlan, plan_named
from pathloom.learn.rates.sweep_schedules import Schedule, plan_options
from pathloom.plan import InputError

FORMAT = "pathloom-schedule-ranks-1"
TABLE = Path(__file__).with_name("schedule_ranks.json")
OPTIMIZERS = {"sgdm": "sgdm", "sgd": "sgdm", "adamw": "adamw", "adam": "adamw"}
"""Optimisers that `recommend` knows, and under which name they were measured; "sgd" is the one with momentum."""

# A rank at one budget is a few runs' chance; neighbours count too, with a normal weight of deviation log 2
NEIGHBOURHOOD = math.log(2.0)


@dataclass(frozen=True)
class Measured:
    """A schedule in one row of the table: error and spread over the seeds in percent, best rate, rank in the row."""

    rank: float
    error: float
    spread: float
    rate: float


@dataclass(frozen=True)
class ScheduleRanks:
    """The measured table.

    Attributes
    ----------
    task, steps, seeds, date
        Where the figures come from: data set, optimizer steps of the budget 1, seeds, day of the measurement.
    plans
        For each schedule that this package can build: name and options of its plan.
    rows
        For each optimiser and budget the schedules that were measured.
    """

    task: str
    steps: int
    seeds: tuple[int, ...]
    date: str
    plans: Mapping[str, tuple[str, Mapping[str, Any]]]
    rows: Mapping[tuple[str, float], Mapping[str, Measured]]

    @classmethod
    def of(cls, result: SweepResult, schedules: Sequence[Schedule], date: str) -> ScheduleRanks:
        """The table of a sweep over `schedules`."""
        rows: dict[tuple[str, float], dict[str, Measured]] = {}
        ranks = result.ranks()
        for cell in result.cells():
            row = cell.optimizer, cell.budget
            measured = Measured(
                ranks[row][cell.schedule], round(cell.error, 3), round(cell.spread, 3), float(f"{cell.rate:.3g}")
            )
            rows.setdefault(row, {})[cell.schedule] = measured
        plans = {schedule.name: schedule.plan for schedule in schedules if schedule.plan is not None}
        seeds = tuple(sorted({run.seed for run in result.runs}))
        return cls(result.task, result.steps, seeds, date, plans, rows)

    @classmethod
    def read(cls, path: Path = TABLE) -> ScheduleRanks:
        """The table in a file.

        Raises
        ------
        InputError
            If there is no such file, or it is no such table.
        """
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["format"] != FORMAT:
                raise InputError(f"expected {FORMAT}, found {saved['format']!r}", file=str(path), key="format")
            return cls(
                saved["task"],
                saved["steps"],
                tuple(saved["seeds"]),
                saved["date"],
                {name: (plan["name"], plan["options"]) for name, plan in saved["plans"].items()},
                {
                    (row["optimizer"], row["budget"]): {
                        name: Measured(**figures) for name, figures in row["schedules"].items()
                    }
                    for row in saved["rows"]
                },
            )
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", file=str(path)) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"is no table of measured ranks ({error!r:.80})", file=str(path)) from None

    def write(self, path: Path = TABLE) -> None:
        """Write the table, whole or not at all."""
        saved = {
            "format": FORMAT,
            "task": self.task,
            "steps": self.steps,
            "seeds": list(self.seeds),
            "date": self.date,
            "plans": {name: {"name": plan, "options": dict(options)} for name, (plan, options) in self.plans.items()},
            "rows": [
                {
                    "optimizer": optimizer,
                    "budget": budget,
                    "schedules": {name: vars(figures) for name, figures in row.items()},
                }
                for (optimizer, budget), row in self.rows.items()
            ],
        }
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


@dataclass(frozen=True)
class Evidence:
    """Why a schedule is recommended.

    Attributes
    ----------
    task, steps, seeds, date
        As in `ScheduleRanks`.
    budget
        The measured budget nearest to the one asked for.
    mean_ranks
        Mean rank of every measured schedule, weighted by the nearness of the budgets; best first.
    errors
        Test error in percent of every schedule at `budget`.
    outside
        Whether the budget asked for lies outside the measured ones.
    """

    task: str
    steps: int
    seeds: tuple[int, ...]
    date: str
    budget: float
    mean_ranks: Mapping[str, float]
    errors: Mapping[str, float]
    outside: bool


@dataclass(frozen=True)
class Recommendation:
    """A schedule to use.

    Attributes
    ----------
    schedule, options
        Name and options of its plan, with a warm-up as a share of the steps under "warmup_share"; `plan` makes it.
    measured_as
        Its name in the table.
    evidence
        The measurements behind it.
    """

    schedule: str
    options: Mapping[str, Any]
    measured_as: str
    evidence: Evidence

    def plan(self, steps: int) -> RatePlan:
        """The plan over `steps` steps."""
        return plan_named(self.schedule, steps, **plan_options(self.options, steps))

    def sentence(self) -> str:
        """The recommendation and its evidence in words."""
        seen = self.evidence
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        others = [name for name in seen.mean_ranks if name != self.measured_as]
        rivals = ", ".join(f"{name} {seen.errors[name]:.1f} %" for name in others[:2])
        beyond = "; no such budget was measured, this is the nearest" if seen.outside else ""
        return (
            f"{self.schedule}{f' ({options})' if options else ''}: mean rank {seen.mean_ranks[self.measured_as]:.1f} "
            f"of {len(seen.mean_ranks)} near this budget; at {seen.budget:.0%} of {seen.steps:,} steps on {seen.task} "
            f"{seen.errors[self.measured_as]:.1f} % test error against {rivals} "
            f"({len(seen.seeds)} seeds, {seen.date}){beyond}"
        )


def recommend(budget: float, optimizer: str, table: ScheduleRanks | None = None) -> Recommendation:
    """The schedule with the best measured rank around a budget, among those that this package can build.

    Parameters
    ----------
    budget
        Share of the training that would usually be given to the model (1: as long as helps). Budgets outside the
        measured ones are answered with the nearest.
    optimizer
        "sgdm" (or "sgd": with momentum), "adamw" (or "adam").
    table
        Another table than the one of the package.

    Raises
    ------
    ValueError
        For a budget that is no positive number, or an optimiser that was not measured.
    """
    if isinstance(budget, bool) or not (budget > 0 and math.isfinite(budget)):
        raise ValueError(f"budget: expected a positive share of the full training, found {budget!r}")
    measured_name = OPTIMIZERS.get(optimizer.lower())
    if measured_name is None:
        raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, found {optimizer!r}")
    table = table or _package_table()
    rows = {at: row for (name, at), row in table.rows.items() if name == measured_name}
    if not rows:
        raise ValueError(f"optimizer: {measured_name} was not measured on {table.task}")
    within = min(max(budget, min(rows)), max(rows))
    weights = {at: math.exp(-0.5 * (math.log(at / within) / NEIGHBOURHOOD) ** 2) for at in rows}
    total = sum(weights.values())
    scores = {
        name: sum(weights[at] * row[name].rank for at, row in rows.items()) / total
        for name in next(iter(rows.values()))
    }
    best = min((name for name in scores if name in table.plans), key=lambda name: scores[name])
    nearest = min(rows, key=lambda at: abs(math.log(at / within)))
    evidence = Evidence(
        task=table.task,
        steps=table.steps,
        seeds=table.seeds,
        date=table.date,
        budget=nearest,
        mean_ranks=dict(sorted(scores.items(), key=lambda item: item[1])),
        errors={name: figures.error for name, figures in rows[nearest].items()},
        outside=within != budget,
    )
    schedule, options = table.plans[best]
    return Recommendation(schedule, options, best, evidence)


@lru_cache(maxsize=1)
def _package_table() -> ScheduleRanks:
    return ScheduleRanks.read()
