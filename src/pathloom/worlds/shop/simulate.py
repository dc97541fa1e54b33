"""What becomes of a shop's plan when machines break down and operations take longer: its orders on the online floor.

Every machine serves its operations in the order of the plan and waits for the next of them where needed, as a floor
does that nobody plans anew (`pathloom.worlds.shop.online.floor.follow`). The floor knows shops: job shops with room for
waiting jobs or without, and flexible job shops, whose operations stay on the machines that the plan chose.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.data.naming import unknown_name
from pathloom.plan import InputError, OnProgress, Plan, Progress
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import Shape, recognised_shape
from pathloom.schedule.schedule import Schedule
from pathloom.schedule.shops import FlexibleShop, JobShop
from pathloom.timeline import Timeline
from pathloom.worlds.shop.methods import HELD, WORK
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor import follow
from pathloom.worlds.shop.online.floor_run import FloorRun

__all__ = ["FloorReport", "floor_of", "simulate_plan"]

COLUMNS = ("figure", "value", "95 % interval")
SUPPORTED = "job shops, blocking job shops and flexible job shops that minimise the makespan"
RESAMPLES = 1000
_WORDS = ("repair", "after_repair")


@dataclass(frozen=True, eq=False)
class FloorReport:
    """What `simulate_plan` found; times in the problem's unit.

    Attributes
    ----------
    name, unit
        Of the problem.
    planned, planned_blocked
        Makespan of the plan, and the time for which finished operations hold their machines in it.
    seconds
        Shape (runs,): simulated makespans, in the problem's unit.
    blocked, down, lost
        Shape (runs,) each, over all machines: time blocked by finished operations, time in repair, and work that was
        begun anew.
    breakdowns, swaps
        Shape (runs,) each: their numbers.
    interval
        95 % bootstrap interval of the mean makespan; both ends are the makespan of a single run.
    timeline
        Of the first run; its resources are the plan's.
    """

    name: str
    unit: str
    planned: float
    planned_blocked: int
    seconds: NDArray[np.float64]
    blocked: NDArray[np.int64]
    down: NDArray[np.int64]
    lost: NDArray[np.int64]
    breakdowns: NDArray[np.int64]
    swaps: NDArray[np.int64]
    interval: tuple[float, float]
    timeline: Timeline
    columns: tuple[str, ...] = COLUMNS

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Cells of a table with the titles `columns`."""
        runs, low, high = len(self.seconds), *self.interval
        times = f" {self.unit}"
        mean = self.seconds.mean()
        later = f" ({mean / self.planned - 1:+.1%})" if self.planned > 0 else ""
        found: list[tuple[str, ...]] = [
            ("planned makespan", f"{self.planned:g}{times}", ""),
            ("simulated makespan, mean", f"{mean:.1f}{times}{later}", f"{low:.1f} to {high:.1f}" if runs > 1 else ""),
        ]
        if runs > 1:
            for word, q in (("least", 0), ("median", 50), ("percentile 95", 95), ("largest", 100)):
                value = np.percentile(self.seconds, q, method="higher")
                found.append((f"simulated makespan, {word}", f"{value:g}{times}", ""))
        found.append(("planned blocked time", f"{self.planned_blocked:g}{times}", ""))
        for word, values in (("blocked time", self.blocked), ("repair time", self.down), ("work lost", self.lost)):
            found.append((f"simulated {word}, mean", f"{values.mean():.1f}{times}", ""))
        found.append(("breakdowns, mean", f"{self.breakdowns.mean():.1f}", ""))
        if self.swaps.any():
            found.append(("swaps, mean", f"{self.swaps.mean():.1f}", ""))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain figures for ``--json``."""
        return {
            "planned": self.planned,
            "planned_blocked": self.planned_blocked,
            "unit": self.unit,
            "runs": len(self.seconds),
            "makespans": self.seconds.tolist(),
            "mean": float(self.seconds.mean()),
            "interval": list(self.interval),
            "blocked": self.blocked.tolist(),
            "down": self.down.tolist(),
            "lost": self.lost.tolist(),
            "breakdowns": self.breakdowns.tolist(),
            "swaps": self.swaps.tolist(),
        }


def simulate_plan(
    plan: Plan,
    *,
    seed: int = 0,
    runs: int = 1,
    noise: float = 0.0,
    stragglers: Sequence[Sequence[str | float]] = (),
    slow_links: Sequence[Sequence[str | float]] = (),
    failures: Sequence[Sequence[str | float]] = (),
    policy: str = "reroute",
    on_progress: OnProgress | None = None,
    **trouble: Any,
) -> FloorReport:
    """Run a plan's orders on a floor with disturbances; run r draws them from ``seed + r``.

    Parameters
    ----------
    plan
        Of a job shop or flexible job shop.
    noise
        Standard deviation of the logarithm of a random factor (mean 1) on every duration.
    stragglers, slow_links, failures, policy
        What other worlds know; a floor refuses all but their defaults.
    trouble
        Fields of `Disturbances` other than its noise.

    Raises
    ------
    InputError
        If the floor does not know the plan's shape or a disturbance, or a number makes no sense.
    """
    shape, shop, orders = floor_of(plan)
    given = (("--straggler", stragglers), ("--slow-link", slow_links), ("--fail", failures))
    for key, rows in (*given, ("--policy", policy != "reroute")):
        if rows:
            raise InputError("is unknown to a shop floor, which knows --noise, and breakdowns by --set", key=key)
    for key, value in (("runs", runs), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, int) or value < (key == "runs"):
            raise InputError(f"expected a whole number of at least {int(key == 'runs')}, found {value!r}", key=key)
    disturbances = _disturbances(noise, trouble)
    began = time.perf_counter()
    makespans, figures = np.empty(runs), np.zeros((5, runs), np.int64)
    first: Timeline | None = None
    for r in range(runs):
        run = follow(shop, orders, disturbances, seed=seed + r)
        length = np.bincount(run.log[:, 3], weights=run.log[:, 5] - run.log[:, 4], minlength=4).astype(np.int64)
        makespans[r] = run.makespan
        figures[:, r] = *length[[state.BLOCKED, state.BREAKDOWN, state.LOST]], run.breakdowns, run.rotations
        first = first or _timeline(plan, shape, run)
        if on_progress is not None:
            mean = float(makespans[: r + 1].mean())
            on_progress(Progress(time.perf_counter() - began, mean, None, f"run {r + 1} of {runs}"))
    assert first is not None
    decisions: Schedule = plan.decisions
    blocked, down, lost, breakdowns, swaps = figures
    return FloorReport(
        name=plan.problem.name,
        unit=plan.problem.unit,
        planned=plan.objective.value,
        planned_blocked=int((decisions.departure - decisions.end).sum()),
        seconds=makespans,
        blocked=blocked,
        down=down,
        lost=lost,
        breakdowns=breakdowns,
        swaps=swaps,
        interval=_interval(makespans, seed),
        timeline=first,
    )


def floor_of(plan: Plan) -> tuple[Shape, JobShop, list[list[int]]]:
    """A plan as the floor takes it: its recognised shape, the shop on the chosen machines, and each machine's order.

    Raises
    ------
    InputError
        If the floor does not know problems of that shape.
    """
    problem: Problem = plan.problem
    decisions: Schedule = plan.decisions
    shape = recognised_shape(problem)
    view = None if shape is None else shape.view
    if shape is None or not isinstance(view, JobShop | FlexibleShop):
        found = "a general scheduling problem" if shape is None else f"a {shape.name}"
        raise InputError(f"is {found}, which the shop floor cannot simulate; it knows {SUPPORTED}", key=problem.name)
    if isinstance(view, FlexibleShop):
        chosen, _ = shape.solution(decisions)
        machine, duration = view.alternative_machine[chosen], view.alternative_duration[chosen]
        shop = JobShop(view.job_start, machine, duration, view.machines, view.release)
    else:
        shop = view
    if shop.no_wait:
        raise InputError(
            f"is a {shape.name}: a floor with disturbances cannot promise that no job waits; it knows {SUPPORTED}",
            key=problem.name,
        )
    times = (column[shape.task] for column in (decisions.departure, decisions.end, decisions.start))
    in_time = np.lexsort((np.arange(shop.operations), *times))
    return shape, shop, [in_time[shop.machine[in_time] == m].tolist() for m in range(shop.machines)]


def _disturbances(noise: float, trouble: Mapping[str, Any]) -> Disturbances:
    """Checked values as `Disturbances`; its noise is a coefficient of variation."""
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0.0 <= noise <= 2.0:
        raise InputError(f"expected a number from 0 to 2, found {noise!r}", key="noise")
    known = [each.name for each in fields(Disturbances) if each.name != "noise"]
    for name, value in trouble.items():
        if name not in known:
            raise InputError(unknown_name("disturbance", name, known, "a shop floor"), key=name)
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if name not in _WORDS and not numeric and not (value is None and name != "breakdown_chance"):
            raise InputError(f"expected a number, found {value!r}", key=name)
    return Disturbances(noise=math.sqrt(math.expm1(noise**2)), **trouble)


def _timeline(plan: Plan, shape: Shape, run: FloorRun) -> Timeline:
    """The timeline of a run with the names of the plan's, and "breakdown" for what is repaired."""
    shown = plan.timeline
    item = np.zeros(len(plan.problem.tasks), np.int32)
    item[shown.columns["task"]] = shown.item
    rows = run.log[np.lexsort((run.log[:, 0], run.log[:, 4]))]
    down = rows[:, 3] == state.BREAKDOWN
    task = np.where(down, -1, shape.task[rows[:, 2]])
    kinds = {state.PROCESS: WORK, state.BLOCKED: HELD, state.BREAKDOWN: "down", state.LOST: "lost"}
    # The names of jobs that happen to be called "breakdown" are told apart from it.
    extra = next(name for name in ("breakdown", "(breakdown)", "((breakdown))") if name not in shown.items)
    return Timeline(
        rows[:, 0].astype(np.int32),
        np.where(down, len(shown.items), item[task]).astype(np.int32),
        rows[:, 3].astype(np.int32),
        rows[:, 4].astype(np.float64),
        rows[:, 5].astype(np.float64),
        shown.resources,
        (*shown.items, extra),
        tuple(kinds[number] for number in range(len(kinds))),
        shown.unit,
        {"task": task},
    )


def _interval(makespans: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean (percentile method)."""
    count = len(makespans)
    drawn = makespans[np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))].mean(axis=1)
    return float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))
