"""Optimal multi-agent path finding: our conflict-based search beside the one of the package w9-pathfinding.

Instances: the MovingAI map random-32-32-20, scenarios random-1 to random-5, the first k agents of each. Both methods
get the same time for each instance; ours proves the least sum of costs, or ends with a plan and a bound. Paths of
both are judged by our checker. The other method reports no bound, so its bound is the cost it claims to be optimal.

Run ``python benchmarks/mapf_optimal.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from _table import Table, finish, options
from pathloom.data import find
from pathloom.plan import NoPlanFound, Plan, verified
from pathloom.worlds.motion.check import check
from pathloom.worlds.motion.conflict_based import conflict_based
from pathloom.worlds.motion.files import read_scenario
from pathloom.worlds.motion.problem import GridProblem, route_plan

NAME = "mapf_optimal"
MAP = "random-32-32-20"
COLUMNS = ["scenario", "agents", "method", "cost", "bound", "seconds", "expanded"]

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


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = options(NAME, __doc__)
    parser.add_argument("--time", type=float, default=30.0, help="seconds for each instance and method")
    parser.add_argument("--agents", type=int, nargs="+", default=[10, 20, 30, 40, 50])
    parser.add_argument("--scenarios", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)

    methods: dict[str, Callable[[GridProblem, float, int], tuple[Plan | None, Row]]] = {"pathloom": ours}
    notes = ["The first call of a compiled kernel is made before the measurement."]
    try:
        import w9_pathfinding  # noqa: F401

        methods["w9-pathfinding CBS"] = peer
    except ImportError:
        notes.append("w9-pathfinding is not installed: no comparison.")

    folder = find("mapf")
    ours(read_scenario(folder / f"{MAP}-random-1.scen.gz", 20), 60.0, chosen.seed)  # compiles the kernels
    rows: list[Row] = []
    for agents in chosen.agents:
        for scenario in chosen.scenarios:
            problem = read_scenario(folder / f"{MAP}-random-{scenario}.scen.gz", agents)
            costs: dict[str, tuple[float | None, float | None]] = {}
            for name, method in methods.items():
                _, cells = method(problem, chosen.time, chosen.seed)
                costs[name] = cells[0], cells[1]
                rows.append([f"random-{scenario}", agents, name, *cells])
            # Whoever claims an optimum must not be undercut by the other, nor by the other's bound.
            known = [cost for cost, _ in costs.values() if cost is not None]
            for name, (_, bound) in costs.items():
                if bound is not None and bound > min(known):
                    notes.append(f"random-{scenario}, {agents} agents: the bound {bound:g} of {name} is above a plan.")
    table = Table(
        title=f"Optimal multi-agent path finding, {MAP}",
        columns=COLUMNS,
        rows=rows,
        settings={"time_limit": chosen.time, "agents": chosen.agents, "scenarios": chosen.scenarios},
        seeds=[chosen.seed],
        notes=notes,
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
