"""The shop world's checker: the engine's independent checker on the schedule, and the plan's figures recomputed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from pathloom.plan import Plan, Violation
from pathloom.schedule.check import check_objective, check_schedule
from pathloom.schedule.problem import Consumable, Problem
from pathloom.schedule.schedule import Schedule


def check(problem: Problem, plan: Plan) -> list[Violation]:
    """Every rule that the plan breaks; see `pathloom.schedule.check.CONSTRAINTS` for the rules of schedules.

    Two rules more: "objective" (the value is that of the schedule, and not below the bound that the plan claims) and
    "timeline" (the timeline shows the schedule, no more and no less).
    """
    schedule: Schedule = plan.decisions
    found = list(check_schedule(problem, schedule))
    if found:
        return found
    values = [plan.objective.value, *(plan.metrics.get(f"level {n}") for n in range(1, len(problem.objective)))]
    whole = [value for value in values if isinstance(value, int | float) and float(value).is_integer()]
    if len(whole) < len(values):
        found.append(Violation("objective", f"expected a whole number for every level, found {values}"))
    else:
        found += check_objective(problem, schedule, tuple(int(value) for value in whole))
    if plan.bound is not None and plan.bound > plan.objective.value:
        found.append(Violation("objective", f"the value {plan.objective.value:g} is below the bound {plan.bound:g}"))
    found += _timeline(problem, plan)
    return found


Span = tuple[int, str, str, float, float]
"""Task, resource, what it does there, from when, until when."""


def _timeline(problem: Problem, plan: Plan) -> list[Violation]:
    shown = plan.timeline
    tasks = shown.columns.get("task")
    if tasks is None or (tasks.size and not np.issubdtype(tasks.dtype, np.integer)):
        return [Violation("timeline", "has no column 'task' of whole numbers")]
    found: Counter[Span] = Counter(
        (task, shown.resources[resource], shown.kinds[kind], start, end)
        for task, resource, kind, start, end in zip(
            *(column.tolist() for column in (tasks, shown.resource, shown.kind, shown.start, shown.end)), strict=True
        )
    )
    expected = Counter(_spans(problem, plan.decisions))
    for wrong, said in ((expected - found, "does not show"), (found - expected, "shows")):
        for task, resource, kind, start, end in wrong:
            name = problem.task_name(task) if 0 <= task < len(problem.tasks) else f"a task {task}"
            message = f"{said} {name} on {resource} in [{start:g}, {end:g}): {kind}"
            return [Violation("timeline", message, items=(name,), resources=(resource,))]
    return []


def _spans(problem: Problem, schedule: Schedule) -> Iterator[Span]:
    """What a timeline of the schedule shows."""
    for number, task in enumerate(problem.tasks):
        if schedule.mode[number] < 0:
            continue
        start, end, gone = (int(column[number]) for column in (schedule.start, schedule.end, schedule.departure))
        for demand in task.modes[schedule.mode[number]].demands:
            resource = problem.resources[demand.resource]
            if demand.amount == 0 or isinstance(resource, Consumable):
                continue
            last = gone if demand.end is None else min(gone, start + demand.end)
            first = min(end, start + demand.start)
            yield number, resource.name, "work", first, max(first, min(last, end))
            if last > end:
                yield number, resource.name, "blocked", end, last
