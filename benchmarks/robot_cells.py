"""Robot cells: kinematics, exact cycles, the simulator against SimPy, and the learned control against five rules.

Every run that is reported has passed the independent checker. Rules and policy meet the same lots (common random
numbers). A rule counts in its plain forms (waiting, going ahead) and in its tuned ones, which look ahead and limit the
items in the cell; "the best rule" is the best of all of them on these very lots, of those that break the fewest dwell
limits. The learned policies are those that ship with the package, if one was trained for the cell.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from _simpy_cell import SimPyCell
from _table import Table, finish, options, say
from _targets import TARGETS, Verdict
from pathloom.worlds.shop.cells.bounds import long_run_bound
from pathloom.worlds.shop.cells.cell import Axis, Cell
from pathloom.worlds.shop.cells.check import check_cell
from pathloom.worlds.shop.cells.cycles import best_cycle, enumerate_cycles, flow_cell, follow_cycle
from pathloom.worlds.shop.cells.files import load_cell
from pathloom.worlds.shop.cells.kinematics import travel_time
from pathloom.worlds.shop.cells.rules import RULES, Rule, follow, rule_forms, run_plan
from pathloom.worlds.shop.cells.simulator import Run, lot_draws, simulate

NAME = "robot_cells"
EXAMPLES = Path(__file__).parents[1] / "examples"
LEARNED = ("cell-cluster-6", "cell-line-6")
SIMPY = ("cell-linear-8", "cell-cluster-6", "cell-line-6")
COLUMNS = ["what", "cell", "s per item", "share of bound", "ahead of best rule %", "limits broken", "items", "figure"]


def row(what: str, cell: str = "", *figures: Any, figure: str = "") -> list[Any]:
    """A row of the table with as many figures as there are, and a closing word."""
    cells = list(figures) + [None] * (5 - len(figures))
    return [what, cell, *cells, figure]


def kinematics(samples: int, seed: int) -> float:
    """Largest difference between a move time and the closed form."""
    rng = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(samples):
        v, a, d = rng.uniform(0.05, 300.0), rng.uniform(0.05, 600.0), rng.uniform(0.0, 400.0)
        exact = 2.0 * math.sqrt(d / a) if d < v * v / a else d / v + v / a
        worst = max(worst, abs(travel_time(d, Axis(v, a)) - exact))
    return worst


def three_stations(rng: np.random.Generator) -> Cell:
    """A single-arm flow cell of three stations, the first ones of the line cell with other times."""
    line = load_cell(EXAMPLES / "cell-linear-8.yaml")
    stations = tuple(
        replace(s, time=type(s.time).fixed(float(rng.uniform(5.0, 120.0))), longest_wait=math.inf)
        for s in line.stations[:3]
    )
    return replace(line, stations=stations, recipe=line.recipe[:3], lot=200, name="three stations")


def cycles(count: int, seed: int) -> tuple[float, float, int]:
    """Largest gap to the enumerated optimum, largest relative gap of the simulated rate, and violations."""
    rng = np.random.default_rng(seed)
    optimum, rate, violations = 0.0, 0.0, 0
    for _ in range(count):
        cell = three_stations(rng)
        flow = flow_cell(cell)
        found = None if flow is None else best_cycle(flow)
        if flow is None or found is None:
            raise RuntimeError("the cell has no one-unit cycle")
        optimum = max(optimum, abs(found.period - enumerate_cycles(flow)[0].period))
        run = follow_cycle(cell, found.order)
        rate = max(rate, abs(run.steady_seconds_per_item / found.period - 1.0))
        violations += len(check_cell(cell, run_plan(run, method="cycle", settings={}, seconds=0.0)))
    return optimum, rate, violations


def against_simpy(name: str, lot: int, repeats: int) -> tuple[bool, float, float, int]:
    """Whether the traces are identical, processor seconds of SimPy and of ours, and rows of the trace."""
    cell = load_cell(EXAMPLES / f"{name}.yaml")
    cell = replace(cell, lot=lot, stations=tuple(replace(s, longest_wait=math.inf) for s in cell.stations))
    draws, rule = lot_draws(cell, 3), Rule("pull")
    follow(cell, rule, seed=3)  # compiles
    theirs, ours = math.inf, math.inf
    for _ in range(repeats):
        began = time.process_time()
        rows = SimPyCell(cell, draws).run()
        theirs = min(theirs, time.process_time() - began)
        began = time.process_time()
        run = follow(cell, rule, seed=3)
        ours = min(ours, time.process_time() - began)
    names = ("move", "wait", "pick", "place", "turn")
    mine = [
        (names[w[1]], w[2], w[3], w[4], a, b) for w, (a, b) in zip(run.what.tolist(), run.when.tolist()) if w[0] == 0
    ]
    return rows == mine, theirs, ours, len(rows)


def checked(cell: Cell, run: Run) -> int:
    """Violations other than dwell limits, which the run counts itself."""
    found = check_cell(replace(cell, lot=len(run.finish)), run_plan_of(cell, run))
    return sum(violation.rule != "dwell" for violation in found)


def run_plan_of(cell: Cell, run: Run) -> Any:
    return run_plan(replace(run, cell=replace(cell, lot=len(run.finish))), method="", settings={}, seconds=0.0)


@dataclass(frozen=True)
class Lead:
    """What a learned control does: percent ahead of the best rule and of the best plain one, percent of the bound."""

    best: float
    plain: float
    share: float
    late: int


def interval(values: list[float]) -> float:
    """Half the width of the 95 % confidence interval of a mean (Student's t)."""
    from scipy.stats import t

    count = len(values)
    return float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)) if count > 1 else math.nan


def controls(name: str, lots: int, lot: int, first_seed: int) -> tuple[list[list[Any]], Lead | None]:
    """Rows of all controls of a cell, each rule in its best plain and its best form, and what the learned one does."""
    cell = load_cell(EXAMPLES / f"{name}.yaml")
    bound = long_run_bound(cell).seconds
    seeds = range(first_seed, first_seed + lots)
    results: dict[Rule, tuple[int, float]] = {}
    for rule in rule_forms(cell):
        runs = [follow(cell, rule, seed=seed, lot=lot, traced=False) for seed in seeds]
        seconds = float(np.mean([run.steady_seconds_per_item for run in runs]))
        results[rule] = (sum(run.late for run in runs), seconds)
    plain = [rule for rule in results if not rule.horizon and not rule.most]
    best, best_plain = min(results, key=lambda rule: results[rule]), min(plain, key=lambda rule: results[rule])
    shown: list[Rule] = []
    for kind in RULES:
        shown.append(min((rule for rule in plain if rule.name == kind), key=lambda rule: results[rule]))
        shown.append(min((rule for rule in results if rule.name == kind), key=lambda rule: results[rule]))
    rows = []
    for rule in dict.fromkeys(shown):
        runs = [follow(cell, rule, seed=seed, lot=lot) for seed in seeds]
        if sum(checked(cell, run) for run in runs):
            raise RuntimeError(f"{name}: the checker rejects a run of the rule '{rule}'")
        late, seconds = results[rule]
        ahead = 100.0 * (results[best][1] / seconds - 1.0)
        mark = "best rule" if rule == best else "best plain rule" if rule == best_plain else ""
        rows.append(row(str(rule), cell.name, seconds, bound / seconds, ahead, late, lots * lot, figure=mark))
    from pathloom.worlds.shop.cells.policy import policy_for

    policy = policy_for(cell) if name in LEARNED else None
    if policy is None:
        return rows, None
    runs = [simulate(cell, policy, seed=seed, lot=lot) for seed in seeds]
    if sum(checked(cell, run) for run in runs):
        raise RuntimeError(f"{name}: the checker rejects a run of the learned policy")
    each, late = [run.steady_seconds_per_item for run in runs], sum(run.late for run in runs)
    seconds = float(np.mean(each))
    lead = Lead(
        100.0 * (results[best][1] / seconds - 1.0),
        100.0 * (results[best_plain][1] / seconds - 1.0),
        100.0 * bound / seconds,
        late,
    )
    figure = f"+-{interval(each):.2g} s at 95 %; {lead.plain:+.1f} % to the best plain rule"
    rows.append(row("learned", cell.name, seconds, bound / seconds, lead.best, late, lots * lot, figure=figure))
    return rows, lead


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a trace differs or the checker rejects a run."""
    parser = options(NAME, __doc__)
    parser.add_argument("--lots", type=int, default=10, help="lots a control")
    parser.add_argument("--lot", type=int, default=400, help="items a lot")
    parser.add_argument("--cells", type=int, default=100, help="random three-station cells")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs; the quickest counts")
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="small samples; proves nothing")
    chosen = parser.parse_args(argv)
    if chosen.quick:
        chosen.lots, chosen.lot, chosen.cells, chosen.repeats = 2, 100, 10, 2
    short = "the full samples" if chosen.quick else ""

    rows: list[list[Any]] = []
    worst = kinematics(20_000, chosen.seed)
    rows.append(row("move times", figure=f"largest difference {worst:.1e} s"))
    say("cycles")
    optimum, rate, violations = cycles(chosen.cells, chosen.seed)
    rows.append(row("one-unit cycles", "three stations", figure=f"optimum to {optimum:.1e} s, rate to {rate:.1e}"))
    say("SimPy")
    different, slowest = 0, math.inf
    for name in SIMPY:
        same, theirs, ours, events = against_simpy(name, chosen.lot, chosen.repeats)
        different += not same
        slowest = min(slowest, theirs / ours)
        word = "identical" if same else "DIFFERENT"
        rows.append(row("SimPy", name, figure=f"{word} in {events:,} rows; {theirs / ours:.1f} times faster"))
    leads: list[Lead] = []
    for name in (*LEARNED, "cell-linear-8", "cell-track-12"):
        say(name)
        more, lead = controls(name, chosen.lots, chosen.lot, chosen.seed)
        rows += more
        leads += [] if lead is None else [lead]
    complete = len(leads) == len(LEARNED)

    def verdict(key: str, value: float | None, words: str) -> Verdict:
        return TARGETS[key].judge(value, words, short_of=short)

    def least(values: list[float]) -> float | None:
        return min(values) if complete else None

    gains, plain = [lead.best for lead in leads], [lead.plain for lead in leads]
    shares, broken = [lead.share for lead in leads], sum(lead.late for lead in leads)
    verdicts = [
        verdict("cells-kinematics", worst, f"{worst:.1e} s over 20,000 random moves"),
        verdict("cells-cycle", optimum, f"{optimum:.1e} s over {chosen.cells} cells"),
        verdict("cells-cycle-rate", 100.0 * rate, f"{100 * rate:.4f} % over {chosen.cells} cells"),
        verdict("cells-simpy-traces", different, f"{different} of {len(SIMPY)}"),
        verdict("cells-simpy-ratio", slowest, f"{slowest:.1f}"),
        verdict("cells-gain", least(gains), ", ".join(f"{gain:+.2f} %" for gain in gains)),
        verdict("cells-gain-plain", least(plain), ", ".join(f"{gain:+.1f} %" for gain in plain)),
        verdict("cells-share", least(shares), ", ".join(f"{share:.1f} %" for share in shares)),
        verdict(
            "cells-limits", broken if complete else None, f"{broken} in {len(leads) * chosen.lots * chosen.lot} items"
        ),
    ]
    table = Table(
        title="Robot cells: rules, a learned control, exact cycles, and a model in SimPy",
        columns=COLUMNS,
        rows=rows,
        settings={"lots": chosen.lots, "lot": chosen.lot, "cells": chosen.cells, "repeats": chosen.repeats},
        seeds=[chosen.seed],
        notes=[
            "Seconds per item in the middle of the lots (from a tenth to nine tenths of their items).",
            "Share of bound: long-run bottleneck bound divided by it.",
            "Of each rule the best plain form and the best of all forms; the best rule is chosen on these very lots.",
            "A rule that goes ahead walks to the place that is expected to be ready first when nothing is ready.",
            "Times against SimPy are processor seconds of a whole run with its trace, the quickest of the repeats.",
        ],
        verdicts=verdicts,
    )
    finish(table, NAME, chosen)
    return 1 if different or violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
