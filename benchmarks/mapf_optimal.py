"""Optimal multi-agent path finding: our conflict-based search beside the one of the package w9-pathfinding.

Instances: the MovingAI map random-32-32-20, scenarios random-1 to random-5, the first k agents of each. Both methods
get the same time for each instance; ours proves the least sum of costs, or ends with a plan and a bound. Paths of
both are judged by our checker. The other method reports no bound, so its bound is the cost it claims to be optimal.

Run ``python benchmarks/mapf_optimal.py --help`` for the settings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.data import find
from pathloom.plan import NoPlanFound, Plan, verified
from pathloom.worlds.motion.check import check
from pathloom.worlds.motion.conflict_based import conflict_based
from pathloom.worlds.motion.files import read_scenario
from pathloom.worlds.motion.problem import GridProblem, route_plan

MAP = "random-32-32-20"
COLUMNS = ["scenario", "agents", "method", "cost", "bound", "seconds", "expanded"]
RESULTS = Path(__file__).parent / "results" / "mapf_optimal.json"

Row = list[Any]


def ours(problem: GridProblem, time_limit: float, seed: int) -> tuple[Plan | None, Row]:
    """Cost, bound, seconds and expanded nodes of our method."""
    began = time.perf_counter()
    try:
        plan = verified(conflict_based(problem, time_limit=time_limit, seed=seed), check)
    except NoPlanFound:
        return None, [None, None, round(time.perf_counter() - began, 3), None]
    return plan, [plan.objective.value, plan.bound, round(time.perf_counter() - began, 3), plan.metrics["expanded"]]


def peer(problem: GridProblem, time_limit: float, seed: int) -> tuple[Plan | None, Row]:
    """The same of the conflict-based search of w9-pathfinding, on the same grid with its own default settings."""
    from w9_pathfinding.envs import Grid
    from w9_pathfinding.mapf import CBS

    grid = Grid(weights=np.where(problem.free, 1, -1).tolist(), edge_collision=True)
    finder = CBS(grid, seed=seed)
    starts = [(int(column), int(row)) for row, column in problem.starts]
    goals = [(int(column), int(row)) for row, column in problem.goals]
    began = time.perf_counter()
    try:
        paths = finder.mapf(starts, goals, max_length=1000, max_time=time_limit)
    except RuntimeError:  # how it says that its time is over
        paths = []
    seconds = time.perf_counter() - began
    if not paths:
        return None, [None, None, round(seconds, 3), finder.num_closed_nodes]
    routes = [np.array([(row, column) for column, row in path], dtype=np.int32) for path in paths]
    plan = verified(route_plan(problem, routes, method="w9", settings={}, seed=seed, seconds=seconds), check)
    return plan, [plan.objective.value, plan.objective.value, round(seconds, 3), finder.num_closed_nodes]


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += [
        "| "
        + " | ".join("-" if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in row)
        + " |"
        for row in rows
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = argparse.ArgumentParser(description="optimal multi-agent path finding on random-32-32-20")
    parser.add_argument("--time", type=float, default=30.0, help="seconds for each instance and method")
    parser.add_argument("--agents", type=int, nargs="+", default=[10, 20, 30, 40, 50])
    parser.add_argument("--scenarios", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)

    methods: dict[str, Callable[[GridProblem, float, int], tuple[Plan | None, Row]]] = {"pathloom": ours}
    notes = ["The first call of a compiled kernel is made before the measurement."]
    try:
        import w9_pathfinding  # noqa: F401

        methods["w9-pathfinding CBS"] = peer
    except ImportError:
        notes.append("w9-pathfinding is not installed: no comparison.")

    folder = find("mapf")
    ours(read_scenario(folder / f"{MAP}-random-1.scen.gz", 20), 60.0, arguments.seed)  # compiles the kernels
    rows: list[Row] = []
    for agents in arguments.agents:
        for scenario in arguments.scenarios:
            problem = read_scenario(folder / f"{MAP}-random-{scenario}.scen.gz", agents)
            costs: dict[str, tuple[float | None, float | None]] = {}
            for name, method in methods.items():
                _, cells = method(problem, arguments.time, arguments.seed)
                costs[name] = cells[0], cells[1]
                rows.append([f"random-{scenario}", agents, name, *cells])
            # Whoever claims an optimum must not be undercut by the other, nor by the other's bound.
            known = [cost for cost, _ in costs.values() if cost is not None]
            for name, (_, bound) in costs.items():
                if bound is not None and bound > min(known):
                    notes.append(f"random-{scenario}, {agents} agents: the bound {bound:g} of {name} is above a plan.")
    processor = platform.processor() or platform.machine()
    result = {
        "title": f"Optimal multi-agent path finding, {MAP}",
        "machine": f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": [arguments.seed],
        "settings": {"time_limit": arguments.time, "agents": arguments.agents, "scenarios": arguments.scenarios},
        "columns": COLUMNS,
        "rows": rows,
        "notes": notes,
    }
    print(markdown(rows))
    for note in notes:
        print(f"\n{note}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
