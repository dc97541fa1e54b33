"""Results for people (a table) and for programs (one JSON object a line)."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from pathloom.plan import Plan

LOG_WIDTH = 240
"""Columns of a table where the output is no terminal and so has no width."""


def consoles(as_json: bool) -> tuple[Console, Console]:
    """Console of results and console of everything else; with `as_json` both are standard error."""
    notes = Console(stderr=True)
    results = notes if as_json else Console()
    for console in {notes, results}:
        if not console.is_terminal:
            console.width = max(console.width, LOG_WIDTH)
    return results, notes


def plain(value: Any) -> Any:
    """`value` in types of JSON: arrays as lists, what is not finite as null, and anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # NumPy arrays and numbers
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def result_object(
    plan: Plan,
    *,
    kind: str,
    file: Path,
    files: Mapping[str, Path],
    objective: float | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    metrics: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The object that ``--json`` prints for a checked plan; keyword arguments replace what the plan says."""
    return {
        "problem": {"name": plan.problem.name, "kind": kind, "file": str(file)},
        "method": plan.method,
        "objective": {
            "name": plan.objective.name,
            "value": plan.objective.value if objective is None else objective,
            "unit": plan.objective.unit,
            "sense": plan.objective.sense,
        },
        "bound": plan.bound,
        "bound_by": plan.bound_by,
        "gap": plan.gap,
        "seconds": plan.seconds if seconds is None else seconds,
        "checked": True,
        "seed": plan.seed if seed is None else seed,
        "settings": plan.settings,
        "files": {what: str(path) for what, path in files.items()},
        "metrics": plan.metrics if metrics is None else metrics,
        **more,
    }


def print_json(result: Mapping[str, Any]) -> None:
    """Print one object as one line on standard output."""
    sys.stdout.write(json.dumps(plain(result), allow_nan=False) + "\n")


def print_files(console: Console, files: Mapping[str, Path]) -> None:
    """One line a file that was written."""
    for what, path in files.items():
        console.print(f"{what}: {path}", soft_wrap=True, highlight=False, markup=False)
