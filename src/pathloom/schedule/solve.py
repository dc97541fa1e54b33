"""One call for every scheduling problem: recognise its shape, run the methods for it side by side, stop at proof.

`solve` starts with bounds and quick constructions, then shares the cores between searches of the shape and CP-SAT,
each of which begins where the others are. Whatever comes out is left to the caller's checker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pathloom.plan import NoPlanFound, OnProgress, ProvenInfeasible, stop_requested
from pathloom.schedule.conflicts import conflicting_constraints, obvious_conflict, proven_infeasible
from pathloom.schedule.incumbent import Improvement, Incumbent, Translated
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import Shape, recognised_shape
from pathloom.schedule.schedule import Schedule, objective_values
from pathloom.schedule.shops import FlexibleShop, JobShop, Project

METHODS = {
    "auto": "the portfolio for the shape of the problem",
    "search": "local search for the shape of the problem alone",
    "cp-sat": "CP-SAT alone",
    "rules": "the best of the dispatching rules, without search",
}

Run = Callable[[], Any]
EXPLAIN = 10.0
"""Most seconds for finding out why a problem has no schedule."""


@dataclass(frozen=True)
class Result:
    """What `solve` found.

    Attributes
    ----------
    schedule
        The best one.
    values
        Its value on every level of the objective.
    bound, bound_by
        Proven lower bound on the first level (None if there is none), and by what.
    found_by
        Method that found the schedule.
    shape
        Name of the recognised shape, "general" if there is none.
    seconds
        Wall time.
    history
        Improvements of value and bound of the first level.
    """

    schedule: Schedule
    values: tuple[int, ...]
    bound: int | None
    bound_by: str
    found_by: str
    shape: str
    seconds: float
    history: Sequence[Improvement]

    @property
    def optimal(self) -> bool:
        """Whether the first level is proven optimal."""
        return self.bound is not None and self.values[0] <= self.bound


def solve(
    problem: Problem,
    *,
    method: str = "auto",
    time_limit: float = 30.0,
    seed: int = 0,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
    initial: Schedule | None = None,
) -> Result:
    """Find a good schedule, and a bound on how good one can be.

    Parameters
    ----------
    method
        One of `METHODS`.
    time_limit
        Seconds.
    workers
        Threads; the cores that this process may use by default.
    initial
        A feasible schedule to begin with.

    Raises
    ------
    ProvenInfeasible
        If there is no schedule; names a smallest set of constraints that cannot hold together.
    NoPlanFound
        If none was found in time.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method '{method}', expected one of {', '.join(METHODS)}")
    threads = workers or len(os.sched_getaffinity(0))
    conflict = obvious_conflict(problem)
    if conflict:
        raise proven_infeasible(conflict)
    try:
        return _solve(problem, method, time_limit, seed, threads, on_progress, initial)
    except ProvenInfeasible as error:
        limit = min(EXPLAIN, max(1.0, time_limit))
        found = conflicting_constraints(problem, time_limit=limit, workers=threads)
        raise (proven_infeasible(found) if found else error) from None


def _solve(
    problem: Problem,
    method: str,
    time_limit: float,
    seed: int,
    threads: int,
    on_progress: OnProgress | None,
    initial: Schedule | None,
) -> Result:
    shape = None if method == "cp-sat" else recognised_shape(problem)
    incumbent: Incumbent[Any] = Incumbent(time_limit, on_progress=on_progress)
    if shape is None:
        if method in ("search", "rules"):
            raise NoPlanFound(f"method '{method}' knows job shops, flexible job shops and projects only")
        return _solve_generally(problem, incumbent, seed, threads, initial)
    if initial is not None:
        incumbent.offer(initial.makespan, shape.solution(initial), "initial")
    effort = _Effort(shape, incumbent, seed, threads)
    {"auto": effort.portfolio, "search": effort.search_alone, "rules": effort.construct}[method]()
    found = incumbent.best()
    if found is None and method == "rules" and incumbent.left > 0:
        raise NoPlanFound(f"no dispatching rule makes a schedule of this {shape.name}")
    if found is None:
        raise NoPlanFound("the time limit ended the search first")
    schedule = shape.schedule(found[1])
    return _result(problem, schedule, incumbent, shape.name)


def _result(problem: Problem, schedule: Schedule, incumbent: Incumbent[Any], shape: str) -> Result:
    return Result(
        schedule,
        objective_values(problem, schedule),
        incumbent.bound,
        incumbent.bound_source,
        incumbent.source,
        shape,
        incumbent.seconds,
        tuple(incumbent.history),
    )


def _solve_generally(
    problem: Problem, incumbent: Incumbent[Schedule], seed: int, threads: int, initial: Schedule | None
) -> Result:
    """Level by level, CP-SAT and large neighbourhoods of it."""
    from pathloom.schedule.cp_sat import cp_sat
    from pathloom.schedule.neighbourhoods import general_neighbourhoods

    held: list[int] = []
    first: Result | None = None
    schedule = initial
    levels = len(problem.objective)
    for level in range(levels):
        share = incumbent if level == 0 else Incumbent(max(0.05, incumbent.left / (levels - level)))
        if schedule is not None:
            share.offer(objective_values(problem, schedule)[level], schedule, "initial")
        with share.phase(share.left * (0.4 if level == 0 and levels == 1 else 0.6 / levels + 0.2)):
            done = cp_sat(problem, share, seed=seed, workers=threads, held=held)
        if not done and share.value is None and not share.finished:  # nothing yet that neighbourhoods could improve
            done = cp_sat(problem, share, seed=seed + 1, workers=threads, held=held)
        if not done and not share.finished and share.value is not None:
            _side_by_side(
                [
                    partial(general_neighbourhoods, problem, share, seed=seed + i, held=tuple(held))
                    for i in range(threads)
                ]
            )
        found = share.best()
        if found is None:
            break
        schedule = found[1]
        held.append(found[0])
        if level == 0:
            first = _result(problem, schedule, share, "general")
        if stop_requested():
            break
    if first is None or schedule is None:
        raise NoPlanFound("the time limit ended the search first")
    values = objective_values(problem, schedule)
    return replace(first, schedule=schedule, values=values, seconds=incumbent.seconds)


@dataclass
class _Effort:
    """The methods for a shape, and how the cores are shared between them."""

    shape: Shape
    incumbent: Incumbent[Any]
    seed: int
    threads: int

    def construct(self) -> None:
        """Bounds and quick constructions."""
        view, incumbent, seed = self.shape.view, self.incumbent, self.seed
        if isinstance(view, JobShop):
            from pathloom.schedule.job_shop_bounds import job_shop_bound

            incumbent.raise_bound(*job_shop_bound(view))
            if not view.blocking and not view.no_wait:
                from pathloom.schedule.dispatching import dispatch

                for rule in ("MWKR", "MOR", "SPT", "FIFO"):
                    start = dispatch(view, rule, seed=seed)
                    incumbent.offer(int((start + view.duration).max(initial=0)), start, rule)
        elif isinstance(view, FlexibleShop):
            from pathloom.schedule.flexible_shop_bounds import flexible_shop_bound
            from pathloom.schedule.flexible_shop_search import flexible_shop_start

            incumbent.raise_bound(*flexible_shop_bound(view))
            alternative, start = flexible_shop_start(view)
            ends = start + view.alternative_duration[alternative]
            incumbent.offer(int(ends.max(initial=0)), (alternative, start), "earliest completion")
        else:
            from pathloom.schedule.project_bounds import project_bound
            from pathloom.schedule.project_rules import project_rules

            incumbent.raise_bound(*project_bound(view))
            for name, mode, start in project_rules(view, seed=seed):
                incumbent.offer(int((start + view.mode_duration[mode]).max(initial=0)), (mode, start), name)

    def search_alone(self) -> None:
        """Searches of the shape on all cores."""
        self.construct()
        if not self.incumbent.finished:
            _side_by_side([self.search(number) for number in range(self.threads)])

    def portfolio(self) -> None:
        """Searches and CP-SAT, each where it is strong."""
        self.construct()
        if self.incumbent.finished:
            return
        view = self.shape.view
        if isinstance(view, Project):
            self._project(view)
        elif isinstance(view, FlexibleShop) or view.blocking or view.no_wait:
            self._phase(0.1, [self.search(number) for number in range(self.threads)])
            self._last(self._exact_beside(1))
        elif view.operations <= PROVABLE:
            searches = [self.search(number) for number in range(self.threads)]
            self._phase(0.1, searches)
            self._phase(0.7, [self.exact(self.threads)])
            self._last(searches)
        else:
            self._last([self.search(number) for number in range(self.threads)])

    def _project(self, view: Project) -> None:
        self._phase(0.03, [self.search(number) for number in range(self.threads)])
        self._phase(0.4, [self.exact(self.threads)])
        self._last([self.search(0), *(self.neighbourhoods(number) for number in range(self.threads - 1))])

    def _exact_beside(self, searches: int) -> list[Run]:
        """Searches on some cores and CP-SAT on the others."""
        rest = self.threads - searches
        if rest < 1:
            return [self.search(0)]
        return [*(self.search(number) for number in range(searches)), self.exact(rest)]

    def _phase(self, share: float, runs: Sequence[Run]) -> None:
        if not self.incumbent.finished:
            with self.incumbent.phase(share * self.incumbent.time_limit):
                _side_by_side(runs)

    def _last(self, runs: Sequence[Run]) -> None:
        if not self.incumbent.finished:
            _side_by_side(runs)

    def search(self, number: int) -> Run:
        """Local search of the shape with its own seed."""
        view, incumbent, seed = self.shape.view, self.incumbent, self.seed * 1009 + number
        if isinstance(view, FlexibleShop):
            from pathloom.schedule.flexible_shop_search import flexible_shop_search

            return partial(flexible_shop_search, view, incumbent, seed=seed)
        if isinstance(view, Project):
            from pathloom.schedule.project_search import project_search

            return partial(project_search, view, incumbent, seed=seed)
        if view.blocking:
            from pathloom.schedule.blocking_shop_search import blocking_shop_search

            return partial(blocking_shop_search, view, incumbent, seed=seed)
        if view.no_wait:
            from pathloom.schedule.no_wait_search import no_wait_search

            return partial(no_wait_search, view, incumbent, seed=seed)
        from pathloom.schedule.job_shop_search import job_shop_search

        return partial(job_shop_search, view, incumbent, seed=seed)

    def neighbourhoods(self, number: int) -> Run:
        """Large neighbourhoods repaired by CP-SAT."""
        view = self.shape.view
        assert isinstance(view, Project)
        from pathloom.schedule.project_neighbourhoods import project_lns

        return partial(project_lns, view, self.incumbent, seed=self.seed * 1009 + number)

    def exact(self, workers: int) -> Run:
        """CP-SAT on the whole problem, from the best solution on."""
        from pathloom.schedule.cp_sat import cp_sat

        shape = self.shape
        seen = Translated(self.incumbent, shape.solution, shape.schedule)

        def run() -> None:
            # Nothing that ends later than the best so far is worth looking at.
            latest = None if self.incumbent.value is None else self.incumbent.value
            proving = isinstance(shape.view, JobShop) and not (shape.view.blocking or shape.view.no_wait)
            if cp_sat(shape.problem, seen, seed=self.seed, workers=workers, latest=latest, proving=proving):
                self.incumbent.end_phase()

        return run


PROVABLE, PROVABLE_BLOCKED = 250, 100
"""Most operations of a classic, and of a blocking or no-wait, job shop that CP-SAT may close within a minute or so."""


def _side_by_side(runs: Sequence[Run]) -> None:
    """Run in threads until all have ended; the first error of any is raised."""
    if len(runs) == 1:
        runs[0]()
        return
    errors: list[BaseException] = []

    def guarded(run: Run) -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(run,), daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # in steps, so that signals get through
            thread.join(0.2)
    if errors:
        raise errors[0]
