"""Five rules of flow control, and the best of them on a cell.

* ``fifo``: the oldest item goes first;
* ``longest``: the item that has been ready for the longest time;
* ``nearest``: the item that the robot reaches first;
* ``pull``: the item furthest along its recipe;
* ``sequence``: with two arms, a held item goes to its next station and is swapped there; with one, like ``pull``.

Each comes in two forms: waiting where the robot stands while nothing is ready, or going ahead to the place that is
expected to be ready first. For robots with two arms a rule may also look ahead, fetching an item for a station that is
expected to be ready soon, and may limit the items in the cell (constant work in process, M. Spearman, D. Woodruff,
W. Hopp, 1990). `rule_forms` lists all of these: plain rules alone would be no fair measure of a learned control. All of
them obey the same mask of legal moves as a learned policy does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from pathloom.plan import NoPlanFound, Objective, OnProgress, Plan, Progress, stop_requested
from pathloom.worlds.shop.cells._rule_kernels import rule_action, run_rule
from pathloom.worlds.shop.cells.bounds import Bound, long_run_bound, lot_bound
from pathloom.worlds.shop.cells.cell import Cell
from pathloom.worlds.shop.cells.simulator import (
    CellView,
    Run,
    StuckCell,
    cell_arrays,
    finished_run,
    lot_draws,
    new_state,
    new_trace,
    simulate,
    trace_rows,
)

METHOD = "rules"
RULES = ("fifo", "longest", "nearest", "pull", "sequence")
OBJECTIVE, UNIT = "time per item", "s"


@dataclass(frozen=True)
class Rule:
    """A rule by name, in its waiting form or going ahead; `horizon` (s), `most` as in `_rule_kernels.rule_action`."""

    name: str
    ahead: bool = False
    horizon: float = 0.0
    most: int = 0

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise ValueError(f"rule '{self.name}' is unknown, expected one of {', '.join(RULES)}")

    def __str__(self) -> str:
        looks = f" looking {self.horizon:.3g} s ahead" if self.horizon else ""
        most = f", at most {self.most} items" if self.most else ""
        return self.name + (" ahead" if self.ahead else "") + looks + most

    def __call__(self, view: CellView) -> int:
        """The action that the rule takes, so that it can drive `simulate` too."""
        number = RULES.index(self.name)
        looks = self.ahead, self.horizon, self.most
        return int(rule_action(view.arrays, view.state, view.copy, view.robot, view.mask, number, *looks))


EVERY_RULE = tuple(Rule(name, ahead) for name in RULES for ahead in (False, True))


def rule_forms(cell: Cell) -> tuple[Rule, ...]:
    """Every form of every rule for a cell: plain, and looking 0.1 to 0.45 of the bound's time per item ahead.

    Each with any number of items in the cell, and with at most one per station slot, or one less.
    """
    unit, slots = long_run_bound(cell).seconds, sum(station.slots for station in cell.stations)
    looks = (0.0, 0.1, 0.2, 0.3, 0.45) if any(robot.arms == 2 for robot in cell.robots) else (0.0,)
    return tuple(
        Rule(name, ahead, 0.0 if name == "sequence" else share * unit, most)
        for name in RULES
        for share in (looks if name != "sequence" else (0.0,))
        for ahead in (False, True)
        for most in (0, max(slots - 1, 1), slots)
    )


def follow(cell: Cell, rule: Rule, *, seed: int = 0, lot: int | None = None, traced: bool = True) -> Run:
    """Work a lot off by a rule, in compiled code from end to end.

    Parameters
    ----------
    seed
        Seed of the processing times.
    lot
        Number of items, the cell's own if None.
    traced
        Whether the run keeps its trace.
    """
    if traced and cell.buffers:
        return simulate(cell, rule, seed=seed, lot=lot)  # the trace of a cell with buffers has no bound in advance
    C, draws = cell_arrays(cell), lot_draws(cell, seed, lot)
    state, trace = new_state(cell, draws[None]), new_trace(trace_rows(cell, len(draws)) if traced else 0)
    mask = np.zeros(3 * len(cell.places) + 1, dtype=np.bool_)
    number = RULES.index(rule.name)
    decisions = int(run_rule(C, state, 0, number, rule.ahead, rule.horizon, rule.most, mask, trace, np.inf))
    if decisions < 0:
        raise StuckCell(f"{cell.name}: no legal action at {state.now[0]:g} s under the rule '{rule}'")
    return finished_run(cell, seed, state, 0, decisions, trace)


def run_plan(run: Run, *, method: str, settings: dict[str, object], seconds: float, bound: Bound | None = None) -> Plan:
    """The plan that a run carries out: its decisions are the control's settings and the seed, its timeline the run."""
    proven = lot_bound(run.cell, lot_draws(run.cell, run.seed)) if bound is None else bound
    value = run.seconds_per_item
    if 0.0 < proven.seconds - value < 1e-9 * value:
        proven = Bound(value, proven.by)  # reached: the rest is rounding of two sums
    timeline = run.timeline()
    busy = timeline.busy()[: len(run.cell.robots)]
    return Plan(
        problem=run.cell,
        decisions=settings,
        timeline=timeline,
        objective=Objective(OBJECTIVE, value, UNIT),
        method=method,
        settings=settings,
        seed=run.seed,
        bound=proven.seconds,
        bound_by=proven.by,
        seconds=seconds,
        metrics={
            "items": len(run.finish),
            "items per hour": 3600.0 / run.seconds_per_item,
            "steady seconds per item": run.steady_seconds_per_item,
            "decisions": run.decisions,
            "dwell limits broken": run.late,
            "robot busy": [round(float(share), 4) for share in busy / max(timeline.makespan, 1e-300)],
        },
    )


def rules(problem: Cell, *, time_limit: float = 10.0, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """The best form of the five rules on one lot; runs that break a dwell limit do not count.

    Raises
    ------
    NoPlanFound
        If every rule breaks a dwell limit.
    """
    began = time.perf_counter()
    bound = lot_bound(problem, lot_draws(problem, seed))
    best: tuple[float, Rule] | None = None
    tried: dict[str, float | None] = {}
    for rule in rule_forms(problem):
        run = follow(problem, rule, seed=seed, traced=False)
        tried[str(rule)] = run.seconds_per_item if not run.late else None
        if not run.late and (best is None or run.seconds_per_item < best[0]):
            best = (run.seconds_per_item, rule)
            if on_progress is not None:
                on_progress(Progress(time.perf_counter() - began, best[0], bound.seconds, str(rule)))
        if stop_requested() or (best is not None and time.perf_counter() - began > time_limit):
            break
    if best is None:
        raise NoPlanFound(f"{problem.name}: every rule breaks a dwell limit")
    run = follow(problem, best[1], seed=seed)
    settings: dict[str, object] = {"rule": best[1].name, "ahead": best[1].ahead}
    settings |= {"looks ahead (s)": best[1].horizon, "most items": best[1].most}
    plan = run_plan(run, method=METHOD, settings=settings, seconds=time.perf_counter() - began, bound=bound)
    plan.metrics["rules"] = tried
    return plan
