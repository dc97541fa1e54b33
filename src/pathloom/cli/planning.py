"""Running methods for ``pathloom plan``: the one asked for first, then the others that its plan is compared with.

Every plan is checked here, and gets a bound of the world's where its method gave none.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pathloom.plan import (
    InfeasiblePlan,
    NoPlanFound,
    OnProgress,
    Plan,
    ProvenInfeasible,
    stop_requested,
    verified,
)
from pathloom.world import World, resolve

SHARE, MOST, LEAST = 1 / 4, 10.0, 1.0
"""Of the time limit, what each other method may use (most need less), in seconds between `LEAST` and `MOST`."""

Watch = Callable[[str, float], Any]
"""``(method, time_limit) -> context manager that yields an OnProgress``."""


@dataclass
class Outcome:
    """Plans of one problem, the main one first, and why methods have none.

    Attributes
    ----------
    plans
        Checked plans; the first one is the result.
    failures
        Method name -> reason.
    interrupted
        Whether the user stopped the work early.
    """

    plans: list[Plan] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def run_method(
    world: World, method: str, problem: Any, *, time_limit: float, seed: int, on_progress: OnProgress | None
) -> Plan:
    """Run one method; its plan comes back checked.

    Raises
    ------
    ProvenInfeasible, NoPlanFound
        From the method.
    InfeasiblePlan
        If the checker rejects the plan.
    """
    target = resolve(world.methods[method])
    began = time.perf_counter()
    plan: Plan = target(problem, time_limit=time_limit, seed=seed, on_progress=on_progress)
    # What the user waited for, compilation included.
    plan = replace(plan, seconds=time.perf_counter() - began)
    return verified(plan, resolve(world.check))


def plan_and_compare(
    world: World, problem: Any, method: str, *, time_limit: float, seed: int, alone: bool, watch: Watch
) -> Outcome:
    """Plan with `method`, then with the world's other methods unless `alone`.

    If `method` ends without a plan, the best plan that another one finds for the very problem takes its place.

    Raises
    ------
    ProvenInfeasible
        If `method` proves that there is no plan.
    NoPlanFound
        If none was found.
    InfeasiblePlan
        If the checker rejects the plan of `method`.
    """
    outcome = Outcome()
    others = [] if alone else [m for m in (world.default_method, *world.default_table) if m != method]
    nothing: NoPlanFound | None = None
    try:
        with watch(method, time_limit) as on_progress:
            found = run_method(world, method, problem, time_limit=time_limit, seed=seed, on_progress=on_progress)
        outcome.plans.append(found)
    except NoPlanFound as error:
        nothing = error
        outcome.failures[method] = str(error)
    share = min(max(SHARE * time_limit, LEAST), MOST, time_limit)
    for other in others:
        if stop_requested():
            break
        try:
            with watch(other, share) as on_progress:
                found = run_method(world, other, problem, time_limit=share, seed=seed, on_progress=on_progress)
            outcome.plans.append(found)
        except (NoPlanFound, ProvenInfeasible) as error:
            outcome.failures[other] = str(error)
        except InfeasiblePlan as error:
            # A broken comparison must not cost the user the result, but is never shown as one.
            outcome.failures[other] = f"internal error, please report it: {error}"
    outcome.interrupted = stop_requested()
    if nothing is not None:
        _put_best_first(outcome, problem, nothing)
    _add_bounds(world, outcome, watch)
    return outcome


def _put_best_first(outcome: Outcome, problem: Any, nothing: NoPlanFound) -> None:
    """Make the best plan of the problem itself the result; plans of a changed problem (full pipelines) do not count."""
    key = _identity(problem)
    same = [plan for plan in outcome.plans if _identity(plan.problem) == key]
    if not same:
        raise nothing
    best = min(same, key=lambda plan: plan.objective.value * (1 if plan.objective.sense == "min" else -1))
    outcome.plans = [best, *(plan for plan in outcome.plans if plan is not best)]


def _identity(problem: Any) -> bytes:
    """Equal for equal problems; dataclasses of arrays have no equality of their own."""
    return pickle.dumps(problem)


def _add_bounds(world: World, outcome: Outcome, watch: Watch) -> None:
    """Give plans whose method proved nothing a bound of the world's; the checker then looks at them once more."""
    for number, plan in enumerate(outcome.plans):
        if plan.bound is not None or not world.bound:
            continue
        with watch(f"bound of {plan.method}", LEAST):
            found = resolve(world.bound)(plan, outcome.plans, time_limit=LEAST)
        if found is None:
            continue
        bounded = replace(plan, bound=found[0], bound_by=found[1])
        outcome.plans[number] = verified(bounded, resolve(world.check))
