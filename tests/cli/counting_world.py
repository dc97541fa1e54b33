"""A world small enough to see through, for tests of the command line: count to a number, one step a second.

A plan is right if it ends at the number; methods count right, wrong, not at all, or until they are told to stop.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.plan import (
    InputError,
    NoPlanFound,
    Objective,
    OnProgress,
    Plan,
    Progress,
    ProvenInfeasible,
    Violation,
    stop_requested,
)
from pathloom.timeline import Timeline
from pathloom.world import World

FORMAT = "counting-plan-1"


@dataclass(frozen=True)
class Counting:
    """Count to `goal`."""

    name: str
    goal: int


def recognise(path: Path, head: str) -> str | None:
    return "counting problem" if head.startswith("count to") else None


def load(path: Path, more: int = 0) -> Counting:
    word = path.read_text().removeprefix("count to").strip()
    if not word.isdigit():
        raise InputError(f"expected a whole number, found '{word}'", file=str(path), key="line 1")
    return Counting(path.stem, int(word) + more)


def check(problem: Counting, plan: Plan) -> list[Violation]:
    if plan.decisions != problem.goal:
        return [Violation("goal", f"counts to {plan.decisions}, expected {problem.goal}")]
    return []


def plan_of(problem: Counting, number: int, method: str, seed: int = 0, bound: float | None = None) -> Plan:
    spans = [("counter", f"number{i}", "say", float(i), i + 1.0) for i in range(number)]
    return Plan(
        problem,
        number,
        Timeline.from_spans(spans, resources=("counter",), kinds=("say",)),
        Objective("time", float(number), "s"),
        method,
        seed=seed,
        bound=bound,
        metrics={"odd": np.bool_(number % 2), "never": float("inf")},
    )


def right(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    return plan_of(problem, problem.goal, "right", seed, bound=1.0)


def unbounded(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    return plan_of(problem, problem.goal, "unbounded", seed)


def wrong(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    return plan_of(problem, problem.goal + 1, "wrong", seed)


def larger(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    changed = Counting(problem.name, problem.goal + 1)
    return plan_of(changed, changed.goal, "larger", seed)


def lost(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    raise NoPlanFound(f"lost count within {time_limit:g} s")


def hopeless(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    raise ProvenInfeasible("finiteness", "one cannot count that far")


def patient(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """Counts until it is told to stop."""
    end = time.monotonic() + time_limit
    while not stop_requested() and time.monotonic() < end:
        if on_progress is not None:
            on_progress(Progress(0.0, float(problem.goal), 1.0, "counting"))
        time.sleep(0.02)
    return plan_of(problem, problem.goal, "patient", seed)


def deaf(problem: Counting, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """Does not listen to requests to stop."""
    end = time.monotonic() + time_limit
    while time.monotonic() < end:
        if on_progress is not None:
            on_progress(Progress(0.0, float(problem.goal), 1.0, "counting"))
        time.sleep(0.02)
    return plan_of(problem, problem.goal, "deaf", seed)


def row(plan: Plan) -> Sequence[str]:
    return (f"{plan.objective.value:g} s", "-" if plan.bound is None else f"{plan.bound:g} s")


def write(plan: Plan, others: Sequence[Plan], out: Path) -> dict[str, Path]:
    data = {"format": FORMAT, "name": plan.problem.name, "goal": plan.problem.goal, "count": plan.decisions}
    (out / "plan.json").write_text(json.dumps({**data, "method": plan.method}))
    return {"plan": out / "plan.json"}


def write_half(plan: Plan, others: Sequence[Plan], out: Path) -> dict[str, Path]:
    (out / "plan.json").write_text("{")
    raise OSError(28, "No space left on device")


def read_plan(path: Path) -> Plan:
    data = json.loads(path.read_text())
    return plan_of(Counting(data["name"], data["goal"]), data["count"], data["method"])


def bound(plan: Plan, known: Sequence[Plan], *, time_limit: float) -> tuple[float, str] | None:
    return 2.0, "two at least"


def example() -> str:
    return "count to 3\n"


METHODS = ("right", "unbounded", "wrong", "larger", "lost", "hopeless", "patient", "deaf")


def world(**changes: Any) -> World:
    """The world "counting"; keyword arguments replace fields."""
    fields: dict[str, Any] = {
        "name": "counting",
        "summary": "Counting: a file 'count to N'.",
        "recognise": "counting_world:recognise",
        "load": "counting_world:load",
        "check": "counting_world:check",
        "methods": {name: f"counting_world:{name}" for name in METHODS},
        "default_method": "right",
        "default_table": ("unbounded", "larger"),
        "columns": ("time", "bound"),
        "row": "counting_world:row",
        "write": "counting_world:write",
        "read_plan": "counting_world:read_plan",
        "plan_format": FORMAT,
        "example": "counting_world:example",
        "bound": "counting_world:bound",
        "options": {"more": "added to the number"},
        "rank": 1,
    }
    return World(**{**fields, **changes})
