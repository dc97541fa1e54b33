"""Why a problem has no schedule: a smallest set of its constraints that cannot hold together, in words.

First the arguments of `pathloom.schedule.obvious_conflicts`; then CP-SAT proves that the problem has no schedule, and
parts of it are left out, many at a time and then fewer, as long as the proof still succeeds (the deletion filter of
J. Chinneck, E. Dravnieks: "Locating minimal infeasible constraint sets in linear programs", ORSA Journal on Computing
3, 1991, with halving steps as in A. Zeller's delta debugging). What is left is needed, each part of it.
"""

from __future__ import annotations

import time

from pathloom.plan import ProvenInfeasible, stop_requested
from pathloom.schedule.constraint_groups import Part, part_in_words, parts, without_others
from pathloom.schedule.obvious_conflicts import called, obvious_conflict
from pathloom.schedule.problem import Problem

__all__ = ["conflicting_constraints", "obvious_conflict", "proven_infeasible"]

SLICE = 2.0
"""Most seconds for one proof with parts left out."""
SHOWN = 8
"""Most constraints that a message lists."""


def conflicting_constraints(problem: Problem, *, time_limit: float, workers: int = 1) -> list[str]:
    """A minimal set of constraints that no schedule keeps together, one a sentence.

    Parameters
    ----------
    time_limit
        Seconds; when they are over, the set that is left may be larger than needed.
    workers
        Threads of CP-SAT.

    Returns
    -------
    list of str
        Empty if no conflict was proven.
    """
    found = obvious_conflict(problem)
    return found or _Filter(problem, time_limit, workers).conflict()


def proven_infeasible(conflict: list[str]) -> ProvenInfeasible:
    """The exception that lists a conflict."""
    more = len(conflict) - SHOWN
    shown = "; ".join(conflict[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return ProvenInfeasible("these constraints cannot hold together", shown)


class _Filter:
    def __init__(self, problem: Problem, time_limit: float, workers: int) -> None:
        self._problem, self._workers = problem, workers
        self._end = time.monotonic() + time_limit

    def conflict(self) -> list[str]:
        """Sentences of the conflict, empty if there is none or no proof in time."""
        problem = self._problem
        if not self._refuted(problem, self._left()):
            return []
        every = parts(problem)
        tasks = [part for part in every if part[0] == "task"]
        rest = [part for part in every if part[0] != "task"]
        tasks = self._needed(tasks, rest)
        rest = self._needed(rest, tasks)
        kept = {*tasks, *rest}
        words = [sentence for part in rest for sentence in part_in_words(problem, part, kept)]
        said = " ".join(words)
        silent = [called(problem, task) for _, task in tasks if called(problem, task) not in said]
        return list(dict.fromkeys([*words, *(f"{name} has to be carried out" for name in silent)]))

    def _needed(self, candidates: list[Part], others: list[Part]) -> list[Part]:
        """The candidates without which the proof fails."""
        kept = list(candidates)
        size = max(1, len(kept))
        while kept:
            at = 0
            while at < len(kept):
                trial = [*kept[:at], *kept[at + size :]]
                if self._left() <= 0:
                    return kept
                if self._refuted(without_others(self._problem, {*trial, *others}), min(SLICE, self._left())):
                    kept = trial
                else:
                    at += size
            if size == 1:
                return kept
            size = min(-(-size // 2), max(1, len(kept)))
        return kept

    def _left(self) -> float:
        return 0.0 if stop_requested() else self._end - time.monotonic()

    def _refuted(self, problem: Problem, seconds: float) -> bool:
        """Whether it is proven in time that there is no schedule."""
        if obvious_conflict(problem):
            return True
        if seconds <= 0:
            return False
        from ortools.sat.python import cp_model

        from pathloom.schedule.constraint_model import ConstraintModel

        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = self._workers
        solver.parameters.catch_sigint_signal = False
        return bool(solver.solve(ConstraintModel(problem).model) == cp_model.INFEASIBLE)
