"""Budget sweep: every schedule at every share of the usual training, each at its own best rate, ranked.

The protocol of "REX: Revisiting Budgeted Training with an Improved Schedule" (Chen, Wolfe, Kyrillidis, MLSys 2022): a
schedule is judged by its error at the end of a budget, with the rate tuned for each schedule and budget on a log grid.
Here all models of one budget, optimiser and seed train in lockstep (`train_stack`). A grid is widened where its best
rate lies at an edge, and then made finer around the best, for every schedule alike: near the rate at which training
breaks down, a factor of 3 between rates decides more than the schedule does.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathloom.learn.rates.sweep_schedules import Schedule
from pathloom.plan import InputError

if TYPE_CHECKING:
    from pathloom.learn.rates.stacked_training import Classification

FORMAT = "pathloom-budget-sweep-1"
STEPS = 2400
GRID_FACTOR = 3.0


@dataclass(frozen=True)
class Run:
    """Test error in percent of one model: one schedule, budget (share of the full steps), rate and seed."""

    optimizer: str
    budget: float
    schedule: str
    rate: float
    seed: int
    error: float


@dataclass(frozen=True)
class Cell:
    """A schedule at one budget with its best rate.

    Attributes
    ----------
    error, spread
        Mean over the seeds, and standard deviation over them (0 for one seed), in percent.
    rate
        The rate of the least mean error.
    inside
        Whether both neighbours of that rate were tried.
    """

    optimizer: str
    budget: float
    schedule: str
    rate: float
    error: float
    spread: float
    inside: bool


@dataclass(frozen=True)
class SweepResult:
    """All runs of one or more sweeps on one task.

    Attributes
    ----------
    task, steps
        Name of the task, and optimizer steps of the budget 1.
    runs
        One a model.
    cpu_seconds
        Processor time that the training took.
    """

    task: str
    steps: int
    runs: tuple[Run, ...]
    cpu_seconds: float = 0.0

    def __add__(self, other: SweepResult) -> SweepResult:
        """Both together, for instance those of two optimisers.

        Raises
        ------
        ValueError
            If they are of different tasks or steps.
        """
        if (self.task, self.steps) != (other.task, other.steps):
            raise ValueError(f"sweeps of {self.task!r} and {other.task!r} with {self.steps} and {other.steps} steps")
        return SweepResult(self.task, self.steps, self.runs + other.runs, self.cpu_seconds + other.cpu_seconds)

    @property
    def schedules(self) -> list[str]:
        """Names in the order of their first run."""
        return list(dict.fromkeys(run.schedule for run in self.runs))

    def cells(self) -> list[Cell]:
        """One a schedule, budget and optimiser, in the order of their first run."""
        return list(best_cells(self.runs).values())

    def cell(self, optimizer: str, budget: float, schedule: str) -> Cell:
        """One of `cells`; KeyError if there is none."""
        return best_cells(self.runs)[optimizer, budget, schedule]

    def ranks(self) -> dict[tuple[str, float], dict[str, float]]:
        """Rank of each schedule (1 is the least error, ties share their mean) for each optimiser and budget."""
        from scipy.stats import rankdata

        rows: dict[tuple[str, float], list[Cell]] = {}
        for cell in self.cells():
            rows.setdefault((cell.optimizer, cell.budget), []).append(cell)
        return {
            row: dict(zip((c.schedule for c in cells), rankdata([c.error for c in cells]).tolist(), strict=True))
            for row, cells in rows.items()
        }

    def mean_ranks(self, optimizer: str | None = None) -> dict[str, float]:
        """Mean rank of each schedule over all rows, or over those of one optimiser; best first."""
        rows = [ranks for (name, _), ranks in self.ranks().items() if optimizer in (None, name)]
        means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in self.schedules}
        return dict(sorted(means.items(), key=lambda item: item[1]))


def best_cells(runs: Iterable[Run]) -> dict[tuple[str, float, str], Cell]:
    """For each optimiser, budget and schedule the rate of the least mean error; the lower one of equals."""
    errors: dict[tuple[str, float, str], dict[float, list[float]]] = {}
    for run in runs:
        errors.setdefault((run.optimizer, run.budget, run.schedule), {}).setdefault(run.rate, []).append(run.error)
    cells = {}
    for key, by_rate in errors.items():
        rates = sorted(by_rate)
        best = min(rates, key=lambda rate: (np.mean(by_rate[rate]), rate))
        found = np.asarray(by_rate[best])
        spread = float(found.std(ddof=1)) if len(found) > 1 else 0.0
        cells[key] = Cell(*key, best, float(found.mean()), spread, rates[0] < best < rates[-1])
    return cells


def budget_sweep(
    task: Classification,
    schedules: Sequence[Schedule],
    budgets: Sequence[float],
    rates: Sequence[float],
    seeds: Sequence[int],
    optimizer: str,
    *,
    steps: int = STEPS,
    widen: int = 2,
    refine: bool = True,
    checkpoint: Path | None = None,
    on_progress: Callable[[float, str], None] | None = None,
) -> SweepResult:
    """Train every schedule at every budget, rate and seed.

    Parameters
    ----------
    task
        What is learnt, and the network.
    schedules
        With different names.
    budgets
        Shares of `steps`, in (0, 1].
    rates
        Grid of base rates, rising; a schedule's `rate_scale` multiplies it.
    seeds
        Each draws the initial parameters and the batches, the same for all schedules and rates.
    optimizer
        "sgdm" or "adamw".
    widen
        How often one more rate, 3 times larger or smaller, is added beyond an edge of a grid where a schedule's best
        rate lies.
    refine
        Whether rates larger and smaller than a schedule's best by the square root of 3 are tried at the end.
    checkpoint
        JSON file of what is finished: written after each round of a budget (grid, widening, refinement), and read at
        the start, so that a sweep that was stopped goes on. One file an optimiser.
    on_progress
        Called with the finished share of the work (by model steps, without what widening may add) and a line.

    Raises
    ------
    ValueError
        For an empty or wrong argument.
    InputError
        If the checkpoint is no checkpoint, or one of another sweep.
    """
    _demand_sound(schedules, budgets, rates, seeds)
    if optimizer not in task.weight_decay:
        raise ValueError(f"optimizer: expected one of {', '.join(task.weight_decay)}, found {optimizer!r}")
    search = _RateSearch(schedules, rates, optimizer, widen, refine)
    described = _described(task, schedules, rates, seeds, optimizer, steps) | {"widen": widen, "refine": refine}
    file = _Checkpoint.open(checkpoint, described)
    runs: list[Run] = []
    done, seconds, whole = 0.0, 0.0, sum(budgets)
    for budget in budgets:
        block = file.blocks.get(budget, _Block(budget, 0, 0.0, []))
        while block.rounds < search.rounds:
            began = time.process_time()
            wanted = search.wanted(block.rounds, block.runs)
            found = _train(task, schedules, wanted, budget, max(1, round(budget * steps)), seeds, optimizer)
            taken = time.process_time() - began
            block = _Block(budget, block.rounds + 1, block.cpu_seconds + taken, block.runs + found)
            file.add(block)
        runs += block.runs
        seconds += block.cpu_seconds
        done += budget
        if on_progress is not None:
            on_progress(done / whole, f"{task.name}, {optimizer}, budget {budget:.0%}: {_leader(block.runs)}")
    return SweepResult(task.name, steps, tuple(runs), seconds)


def _train(
    task: Classification,
    schedules: Sequence[Schedule],
    wanted: Sequence[tuple[str, float]],
    budget: float,
    steps: int,
    seeds: Sequence[int],
    optimizer: str,
) -> list[Run]:
    """Runs of the wanted schedules and rates, with every seed."""
    from pathloom.learn.rates.stacked_training import Course, train_stack

    if not wanted:
        return []
    kinds = {schedule.name: schedule for schedule in schedules}
    curves = {name: kinds[name].curve(steps, optimizer) for name in dict(wanted)}
    courses = [
        Course(curves[name].factors * rate, curves[name].momenta, kinds[name].schedule_free) for name, rate in wanted
    ]
    runs = []
    for seed in seeds:
        for (name, rate), error in zip(wanted, train_stack(task, optimizer, courses, seed), strict=True):
            runs.append(Run(optimizer, budget, name, rate, seed, float(error)))
    return runs


@dataclass(frozen=True)
class _RateSearch:
    """Which rates a budget tries, round by round: the grid, then beyond its edges, then around the best."""

    schedules: Sequence[Schedule]
    rates: Sequence[float]
    optimizer: str
    widen: int
    refine: bool

    @property
    def rounds(self) -> int:
        return 1 + self.widen + self.refine

    def wanted(self, number: int, runs: Sequence[Run]) -> list[tuple[str, float]]:
        """Schedules and rates of round `number`, after `runs` in the rounds before it."""
        if number == 0:
            scales = {schedule.name: schedule.rate_scale.get(self.optimizer, 1.0) for schedule in self.schedules}
            return [(name, _rounded(rate * scale)) for name, scale in scales.items() for rate in self.rates]
        cells = best_cells(runs).values()
        if number <= self.widen:
            return [(cell.schedule, _beyond(cell, runs)) for cell in cells if not cell.inside]
        finer = math.sqrt(GRID_FACTOR)
        return [(cell.schedule, _rounded(rate)) for cell in cells for rate in (cell.rate / finer, cell.rate * finer)]


def _beyond(cell: Cell, runs: Iterable[Run]) -> float:
    """The rate one grid step beyond the edge at which the best one lies."""
    tried = [run.rate for run in runs if run.schedule == cell.schedule]
    return _rounded(cell.rate * GRID_FACTOR if cell.rate == max(tried) else cell.rate / GRID_FACTOR)


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def _leader(runs: Iterable[Run]) -> str:
    best = min(best_cells(runs).values(), key=lambda cell: cell.error)
    return f"{best.schedule} ahead with {best.error:.2f} % (rate {best.rate:g})"


def _demand_sound(
    schedules: Sequence[Schedule], budgets: Sequence[float], rates: Sequence[float], seeds: Sequence[int]
) -> None:
    names = [schedule.name for schedule in schedules]
    for field, given in (("schedules", names), ("budgets", budgets), ("rates", rates), ("seeds", seeds)):
        if not given or len(set(given)) != len(given):
            raise ValueError(f"{field}: expected one or more, all different, found {list(given)!r}")
    if not all(0 < budget <= 1 for budget in budgets):
        raise ValueError(f"budgets: expected shares in (0, 1], found {list(budgets)!r}")
    if sorted(rates) != list(rates) or rates[0] <= 0:
        raise ValueError(f"rates: expected rising positive numbers, found {list(rates)!r}")


def _described(
    task: Classification,
    schedules: Sequence[Schedule],
    rates: Sequence[float],
    seeds: Sequence[int],
    optimizer: str,
    steps: int,
) -> dict[str, Any]:
    """What a checkpoint must agree with; it may hold other budgets."""
    return {
        "optimizer": optimizer,
        "task": task.name,
        "samples": [len(task.inputs), len(task.test_inputs)],
        "network": repr(task.network),
        "batch": task.batch,
        "weight_decay": dict(task.weight_decay),
        "schedules": [schedule.name for schedule in schedules],
        "rates": list(rates),
        "seeds": list(seeds),
        "steps": steps,
    }


@dataclass(frozen=True)
class _Block:
    """What is finished of one budget."""

    budget: float
    rounds: int
    cpu_seconds: float
    runs: list[Run]


@dataclass
class _Checkpoint:
    """Finished budgets on disk."""

    path: Path | None
    settings: Mapping[str, Any]
    blocks: dict[float, _Block]

    @classmethod
    def open(cls, path: Path | None, settings: Mapping[str, Any]) -> _Checkpoint:
        if path is None or not path.exists():
            return cls(path, settings, {})
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["format"] != FORMAT:
                raise InputError(f"expected {FORMAT}, found {saved['format']!r}", file=str(path), key="format")
            blocks = [_Block(**(block | {"runs": [Run(**run) for run in block["runs"]]})) for block in saved["blocks"]]
            kept = dict(saved["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"is no checkpoint of a budget sweep ({error!r:.80})", file=str(path)) from None
        for key, value in settings.items():
            if kept.get(key) != value:
                raise InputError(
                    f"is of another sweep: {kept.get(key)!r}, expected {value!r}", file=str(path), key=f"settings.{key}"
                )
        return cls(path, settings, {block.budget: block for block in blocks})

    def add(self, block: _Block) -> None:
        self.blocks[block.budget] = block
        if self.path is None:
            return
        blocks = [asdict(each) for each in self.blocks.values()]
        saved = {"format": FORMAT, "settings": dict(self.settings), "blocks": blocks}
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(json.dumps(saved) + "\n", encoding="utf-8")
            os.replace(beside, self.path)
        finally:
            beside.unlink(missing_ok=True)
