"""The shop world's methods: `pathloom.schedule.solve` with all cores, one kind of method alone, or rules only."""

from __future__ import annotations

import numpy as np

from pathloom.plan import Objective, OnProgress, Plan
from pathloom.schedule.problem import AddressRange, Consumable, Machine, Problem, Renewable, State
from pathloom.schedule.schedule import Schedule, measures
from pathloom.schedule.solve import Result, solve
from pathloom.timeline import Timeline

Timed = Machine | Renewable | AddressRange | State
WORK, HELD = "work", "blocked"


def portfolio(problem: Problem, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """Bounds, dispatching, local search and CP-SAT side by side on all cores; stops at proof."""
    return _plan(problem, "auto", time_limit, seed, on_progress)


def search(problem: Problem, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """Local search of the recognised shape (tabu search, genetic search, iterated greedy) on all cores."""
    return _plan(problem, "search", time_limit, seed, on_progress)


def constraint(problem: Problem, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """OR-Tools' CP-SAT alone, on all cores."""
    return _plan(problem, "cp-sat", time_limit, seed, on_progress)


def rules(problem: Problem, *, time_limit: float, seed: int = 0, on_progress: OnProgress | None = None) -> Plan:
    """The best of a few dispatching rules or schedule-generation schemes, without search."""
    return _plan(problem, "rules", time_limit, seed, on_progress)


def _plan(problem: Problem, method: str, time_limit: float, seed: int, on_progress: OnProgress | None) -> Plan:
    result = solve(problem, method=method, time_limit=time_limit, seed=seed, on_progress=on_progress)
    return plan_of(problem, result, method, time_limit, seed)


def plan_of(problem: Problem, result: Result, method: str, time_limit: float, seed: int) -> Plan:
    """A `Plan` of what `solve` returned."""
    names = [" + ".join(criterion.measure for criterion in level) for level in problem.objective]
    further = {f"level {number}": value for number, value in enumerate(result.values) if number}
    return Plan(
        problem=problem,
        decisions=result.schedule,
        timeline=timeline(problem, result.schedule),
        objective=Objective(names[0], float(result.values[0]), problem.unit),
        method=method,
        settings={"time_limit": time_limit},
        seed=seed,
        bound=None if result.bound is None else float(result.bound),
        bound_by=result.bound_by or None,
        seconds=result.seconds,
        metrics={
            **measures(problem, result.schedule),
            **further,
            "shape": result.shape,
            "found_by": result.found_by,
            "history": [
                [round(step.seconds, 4), step.value, step.bound, step.source]
                for step in _thinned(list(result.history), 200)
            ],
        },
    )


def _thinned(steps: list, most: int) -> list:
    """At most `most` of the steps, evenly spread, the last one among them."""
    if len(steps) <= most:
        return steps
    chosen = np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))
    return [steps[position] for position in chosen]


def timeline(problem: Problem, schedule: Schedule) -> Timeline:
    """Spans of the tasks on their machines and other resources, and of the time for which they block them.

    Stocks are not shown, nor are demands of 0. Columns: `task`, and `amount` on renewable resources.
    """
    rows: list[tuple[int, int, int, float, float]] = []
    tasks: list[int] = []
    amounts: list[int] = []
    jobs = [problem.job_name(number) for number in range(len(problem.jobs))]
    items = list(jobs)
    own: dict[int, int] = {}
    for number, task in enumerate(problem.tasks):
        if task.job is None:
            own[number] = len(items)
            items.append(problem.task_name(number))
    for number, mode in enumerate(schedule.mode.tolist()):
        if mode < 0:
            continue
        task = problem.tasks[number]
        item = own[number] if task.job is None else task.job
        start, end, gone = (int(column[number]) for column in (schedule.start, schedule.end, schedule.departure))
        for demand in task.modes[mode].demands:
            if isinstance(problem.resources[demand.resource], Consumable) or demand.amount == 0:
                continue
            low = min(start + demand.start, end)
            high = gone if demand.end is None else min(start + demand.end, gone)
            rows.append((demand.resource, item, 0, low, max(low, min(high, end))))
            tasks.append(number)
            amounts.append(demand.amount)
            if high > end:
                rows.append((demand.resource, item, 1, end, high))
                tasks.append(number)
                amounts.append(demand.amount)
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Timeline(
        table[:, 0].astype(np.int32),
        table[:, 1].astype(np.int32),
        table[:, 2].astype(np.int32),
        table[:, 3],
        table[:, 4],
        resources=tuple(resource.name for resource in problem.resources),
        items=_told_apart(items),
        kinds=(WORK, HELD),
        unit=problem.unit,
        columns={"task": np.array(tasks, dtype=np.int32), "amount": np.array(amounts, dtype=np.int64)},
    )


def _told_apart(names: list[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)
