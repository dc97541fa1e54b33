"""CP-SAT as an anytime method: hints, earlier levels held, solutions and bounds as they come, deterministic mode.

CP-SAT (L. Perron, F. Didier, S. Gay: "The CP-SAT-LP solver", CP 2023) is OR-Tools' constraint solver; it proves bounds
and closes small instances, and repairs parts of large ones in `pathloom.schedule.neighbourhoods`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ortools.sat.python import cp_model

from pathloom.plan import InputError, ProvenInfeasible
from pathloom.schedule.constraint_model import ConstraintModel
from pathloom.schedule.incumbent import Incumbent, Translated
from pathloom.schedule.problem import Problem
from pathloom.schedule.schedule import Schedule, objective_values

POLL = 0.05
"""Seconds between looks at the clock and at Ctrl-C."""
_PROVERS = ("no_lp", "quick_restart_no_lp")
"""CP-SAT's search strategies that close job shops soonest, for as few workers as these."""


def cp_sat(
    problem: Problem,
    incumbent: Incumbent[Schedule] | Translated[Schedule],
    *,
    seed: int = 0,
    workers: int = 1,
    hint: Schedule | None = None,
    held: Sequence[int] = (),
    deterministic_time: float | None = None,
    seconds: float | None = None,
    restrict: Callable[[ConstraintModel], None] | None = None,
    latest: int | None = None,
    proving: bool = False,
    name: str = "cp-sat",
) -> bool:
    """Search with CP-SAT until the incumbent is finished, and offer it what is found and proven.

    Parameters
    ----------
    incumbent
        Of the first level of the objective that is not `held`.
    workers
        Threads of CP-SAT.
    hint
        Schedule to begin at; the incumbent's by default.
    held
        Values of the first levels, which must not be exceeded.
    deterministic_time
        Limit in CP-SAT's own units; with one worker the result depends on problem, seed and this alone.
    seconds
        Limit of this search; that of the incumbent by default.
    restrict
        Adds constraints to the model; what is proven then holds for the restricted problem and is not passed on.
    latest
        No task ends after this time; one that an optimal schedule keeps by default.
    proving
        Spend the workers on closing a shop of machines whose best schedule is probably known: no linear relaxation,
        stronger reasoning on each machine. By trial it proves 15x15 shops several times sooner.

    Returns
    -------
    bool
        Whether the search space was exhausted.

    Raises
    ------
    ProvenInfeasible
        If CP-SAT proves that there is no schedule (of the unrestricted problem).
    InputError
        If numbers are so large that sums of products leave 64 bits.
    """
    stated = ConstraintModel(problem, latest)
    level = len(held)
    for expression, value in zip(stated.levels, held, strict=False):
        stated.model.add(expression <= value)
    stated.model.minimize(stated.levels[level])
    known = incumbent.best()
    hint = hint or (known[1] if known else None)
    if hint is not None:
        stated.hint(hint)
    if restrict is not None:
        restrict(stated)
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.num_workers = workers
    parameters.random_seed = seed % 2**31
    parameters.catch_sigint_signal = False  # Ctrl-C belongs to the command line
    limit = incumbent.left if seconds is None else min(seconds, incumbent.left)
    parameters.max_time_in_seconds = max(0.01, limit)
    if proving:
        parameters.linearization_level = 0
        parameters.use_dynamic_precedence_in_disjunctive = True
        parameters.use_strong_propagation_in_disjunctive = True
        if workers <= len(_PROVERS):
            parameters.subsolvers.extend(_PROVERS[:workers])
    if deterministic_time is not None:
        parameters.max_deterministic_time = deterministic_time
    if restrict is None:

        def bounded(bound: float) -> None:
            if math.isfinite(bound):
                incumbent.raise_bound(math.ceil(bound - 1e-6), name)

        solver.best_bound_callback = bounded
    status = _watched(solver, stated, incumbent, level, name)
    if restrict is None and status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        incumbent.raise_bound(math.ceil(solver.best_objective_bound - 1e-6), name)
    if status == cp_model.MODEL_INVALID:
        reason = stated.model.validate()
        if "overflow" in reason:
            raise InputError("the numbers are too large: weights times times must stay below 2^62", key=problem.name)
        raise ValueError(f"CP-SAT refuses the model: {reason}")
    if status == cp_model.INFEASIBLE and restrict is None and not held and latest is None and incumbent.value is None:
        raise ProvenInfeasible("constraints", "no schedule keeps all constraints (proven by CP-SAT)")
    return status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)


def _watched(
    solver: Any, stated: ConstraintModel, incumbent: Incumbent[Schedule] | Translated[Schedule], level: int, name: str
) -> Any:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL):
            if incumbent.finished:
                solver.stop_search()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return solver.solve(stated.model, _Offering(stated, incumbent, level, name))
    finally:
        ended.set()
        watcher.join()


class _Offering(cp_model.CpSolverSolutionCallback):
    """Offers every solution to the incumbent."""

    def __init__(
        self, stated: ConstraintModel, incumbent: Incumbent[Schedule] | Translated[Schedule], level: int, name: str
    ) -> None:
        super().__init__()
        self._stated, self._incumbent, self._level, self._name = stated, incumbent, level, name

    def on_solution_callback(self) -> None:
        schedule = self._stated.schedule(self.value)
        # Not the solver's own value: an auxiliary variable may be above what the schedule is worth.
        value = objective_values(self._stated.problem, schedule)[self._level]
        self._incumbent.offer(value, schedule, self._name)
        if self._incumbent.finished:
            self.stop_search()
