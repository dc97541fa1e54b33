"""Problem, method, plan: what every world hands out, and how a plan is judged.

A method is a function ``method(problem, *, time_limit, seed, on_progress) -> Plan``. Every world has a checker
``check(problem, plan) -> list[Violation]`` that shares no code with its methods; `verified` runs it and raises
`InfeasiblePlan` when the plan breaks a rule, so that no unchecked plan becomes a result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import Any, Protocol

from pathloom.timeline import Timeline


class InputError(Exception):
    """A mistake in what the user gave: names the file, the line or key, and what was expected (exit status 2)."""

    def __init__(self, message: str, *, file: str | None = None, key: str | None = None) -> None:
        self.file, self.key, self.reason = file, key, message
        super().__init__(": ".join(part for part in (file, key, message) if part))


class ProvenInfeasible(Exception):
    """The instance has no plan; `requirement` names what cannot be met (exit status 3)."""

    def __init__(self, requirement: str, message: str) -> None:
        self.requirement = requirement
        super().__init__(f"proven infeasible: {requirement}: {message}")


class NoPlanFound(Exception):
    """A method ended without a plan, which proves nothing (exit status 4)."""


@dataclass(frozen=True)
class Violation:
    """One broken rule of a plan.

    Attributes
    ----------
    rule
        Name of the rule, as the world's checker documents it.
    message
        What was found and what the rule asks for.
    items, resources
        Names of those involved.
    """

    rule: str
    message: str
    items: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


class InfeasiblePlan(Exception):
    """A plan that its checker rejects; `violations` lists the broken rules."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        shown = "; ".join(str(v) for v in self.violations[:5])
        rest = len(self.violations) - 5
        super().__init__(f"plan rejected: {shown}" + (f"; and {rest} more" if rest > 0 else ""))


@dataclass(frozen=True)
class Objective:
    """Value of a plan: name, value, unit and whether less is better (``sense="min"``)."""

    name: str
    value: float
    unit: str
    sense: str = "min"


@dataclass(frozen=True)
class Plan:
    """A plan of a problem, with what is needed to repeat and to judge it.

    Attributes
    ----------
    problem
        The world's problem that the plan solves.
    decisions
        The world's own decisions (placement and routes, job orders, ...), enough to rebuild the timeline.
    timeline
        Who uses what, when.
    objective
        Its value.
    method, settings, seed
        Name of the method, its settings and its seed.
    bound
        Proven bound on the objective of any plan of the problem; None where none is known.
    bound_by
        Name of the argument that gave the bound.
    seconds
        Wall time that the method took.
    metrics
        The world's further figures.
    """

    problem: Any
    decisions: Any
    timeline: Timeline
    objective: Objective
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    bound: float | None = None
    bound_by: str | None = None
    seconds: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def gap(self) -> float | None:
        """Proven gap ``|value - bound| / |value|`` as a fraction, None where no bound is known."""
        if self.bound is None:
            return None
        if self.objective.value == self.bound:
            return 0.0
        return abs(self.objective.value - self.bound) / max(abs(self.objective.value), 1e-300)

    def record(self) -> dict[str, Any]:
        """What every world writes about a plan, beside its own problem, decisions and timeline."""
        return {
            "method": self.method,
            "settings": self.settings,
            "seed": self.seed,
            "seconds": self.seconds,
            "objective": asdict(self.objective),
            "bound": self.bound,
            "bound_by": self.bound_by,
            "metrics": self.metrics,
        }


@dataclass(frozen=True)
class Progress:
    """What a running method reports: elapsed seconds, best value so far, bound so far, and a word on its phase."""

    seconds: float
    best: float | None
    bound: float | None = None
    phase: str = ""


_stop = Event()


def request_stop() -> None:
    """Ask running methods to end soon with the best that they have (Ctrl-C does)."""
    _stop.set()


def clear_stop() -> None:
    """Forget an earlier `request_stop`."""
    _stop.clear()


def stop_requested() -> bool:
    """Whether methods should end; long methods look at it between steps."""
    return _stop.is_set()


OnProgress = Callable[[Progress], None]


class Method(Protocol):
    """Signature of every planning method."""

    def __call__(
        self, problem: Any, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None
    ) -> Plan: ...


class Checker(Protocol):
    """Signature of every world's checker; an empty list means that the plan keeps every rule."""

    def __call__(self, problem: Any, plan: Plan) -> list[Violation]: ...


def verified(plan: Plan, check: Checker) -> Plan:
    """Return `plan` if `check` finds nothing wrong with it, else raise `InfeasiblePlan`."""
    violations = check(plan.problem, plan)
    if violations:
        raise InfeasiblePlan(violations)
    return plan
