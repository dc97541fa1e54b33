"""Conflict search against a constraint program on small waves: both optima, proven, and what they cost."""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

from collections.abc import Sequence
from statistics import median
from typing import Any

from _table import Table, finish, options
from _targets import TARGETS, Verdict
from pathloom.worlds.train.conflict_free import solve
from pathloom.worlds.train.exact import solve_exact
from pathloom.worlds.train.small_waves import TICK, draw_wave

NAME = "small_instances"
COLUMNS = (
    "instance",
    "nodes",
    "stages",
    "visits",
    "agents",
    "CP-SAT optimum (s)",
    "CP-SAT (s)",
    "conflict search (s)",
    "proven",
    "search (s)",
    "nodes expanded",
    "equal",
)


def row(seed: int, objective: str, time_limit: float) -> dict[str, Any]:
    """Solve one instance both ways."""
    problem = draw_wave(seed)
    exact = solve_exact(problem, objective=objective, time_limit=time_limit, tick=TICK)
    search = solve(problem, objective=objective, time_limit=time_limit)
    values = (
        problem.name,
        problem.n_nodes,
        problem.n_stages,
        problem.route_length,
        problem.microbatches,
        exact.cost if exact.proven else None,
        exact.seconds,
        search.cost,
        search.proven,
        search.seconds,
        search.expanded,
        search.cost == exact.cost if exact.proven else None,
    )
    return dict(zip(COLUMNS, values, strict=True))


def notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the table says, in sentences; misses included."""
    known = [each for each in rows if each["equal"] is not None]
    equal = sum(each["equal"] for each in known)
    proven = sum(each["equal"] and each["proven"] for each in known)
    return [
        f"Conflict search returns CP-SAT's optimum on {equal} of {len(known)} instances that CP-SAT proves, and proves "
        f"it itself on {proven}.",
        f"Median seconds: CP-SAT {median(each['CP-SAT (s)'] for each in rows):.3f}, "
        f"conflict search {median(each['search (s)'] for each in rows):.3f}; one thread each.",
        "Instances are drawn by seed 0, 1, 2, ... and none is left out.",
    ]


def verdict(rows: Sequence[dict[str, Any]], objective: str) -> Verdict:
    """Whether conflict search has CP-SAT's optimum wherever there is one."""
    known = [each for each in rows if each["equal"] is not None]
    missed = sum(not each["equal"] for each in known)
    short = "40 instances" if len(rows) < 40 else "the objective of the iteration" if objective != "max" else ""
    return TARGETS["small-equal"].judge(
        missed if known else None,
        f"{missed} of {len(known)} whose optimum CP-SAT proves ({len(rows)} drawn)",
        short_of=short,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = options(NAME, __doc__)
    parser.add_argument("--instances", type=int, default=40)
    parser.add_argument("--time", type=float, default=30.0, help="seconds an instance and solver")
    parser.add_argument("--objective", choices=("max", "sum"), default="max")
    chosen = parser.parse_args(argv)
    seeds = list(range(chosen.instances))
    rows = [row(seed, chosen.objective, chosen.time) for seed in seeds]
    table = Table(
        title="Conflict search and CP-SAT on small waves",
        columns=COLUMNS,
        rows=[[_cell(each[column]) for column in COLUMNS] for each in rows],
        settings={"objective": chosen.objective, "time_limit": chosen.time, "tick": TICK, "threads": 1},
        seeds=seeds,
        notes=notes(rows),
        verdicts=[verdict(rows, chosen.objective)],
    )
    finish(table, NAME, chosen)
    return 0


def _cell(value: Any) -> Any:
    """Seconds to the microsecond; an infinite cost is no cost."""
    if isinstance(value, float):
        return None if value == float("inf") else round(value, 6)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
