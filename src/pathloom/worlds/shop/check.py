"""The shop world's checker: the engine's independent checker on the schedule, and the plan's figures recomputed."""

from __future__ import annotations

from pathloom.plan import Plan, Violation
from pathloom.schedule.check import check_objective, check_schedule
from pathloom.schedule.problem import Problem
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
    levels = len(problem.objective)
    values = [int(plan.objective.value), *(int(plan.metrics[f"level {number}"]) for number in range(1, levels))]
    found += check_objective(problem, schedule, tuple(values))
    if plan.bound is not None and plan.bound > plan.objective.value:
        found.append(Violation("objective", f"the value {plan.objective.value:g} is below the bound {plan.bound:g}"))
    found += _timeline(problem, plan)
    return found


def _timeline(problem: Problem, plan: Plan) -> list[Violation]:
    shown = plan.timeline
    schedule: Schedule = plan.decisions
    if "task" not in shown.columns:
        return [Violation("timeline", "has no column 'task'")]
    spans = zip(shown.columns["task"].tolist(), shown.start.tolist(), shown.end.tolist(), strict=True)
    seen = set()
    for task, start, end in spans:
        if not 0 <= task < len(problem.tasks) or schedule.mode[task] < 0:
            return [Violation("timeline", f"shows a task {task} that is not carried out")]
        if start < schedule.start[task] or end > schedule.departure[task]:
            name = problem.task_name(task)
            return [Violation("timeline", f"shows {name} outside of its time", items=(name,))]
        seen.add(task)
    for task in range(len(problem.tasks)):
        mode = int(schedule.mode[task])
        used = [] if mode < 0 else problem.tasks[task].modes[mode].demands
        visible = any(
            demand.amount > 0 and not hasattr(problem.resources[demand.resource], "supplies") for demand in used
        )
        if visible and task not in seen:
            name = problem.task_name(task)
            return [Violation("timeline", f"does not show {name}", items=(name,))]
    return []
