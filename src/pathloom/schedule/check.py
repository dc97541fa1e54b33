"""The checker of schedules: which constraints of a problem a schedule violates, and by which tasks.

Written from the definitions in `pathloom.schedule.problem` alone; it shares no code with what makes schedules, and
looks at nothing but the problem and the schedule's columns. Intervals are half open, and a task holds its resources
from its start to its departure. `CONSTRAINTS` says what each name stands for.
"""

from __future__ import annotations

from collections.abc import Callable

from pathloom.plan import Violation
from pathloom.schedule import check_amounts, check_choices, check_machines, check_times
from pathloom.schedule.check_objective import check_objective
from pathloom.schedule.check_reading import Reading, Unreadable, read
from pathloom.schedule.problem import Problem
from pathloom.schedule.schedule import Schedule

__all__ = ["CONSTRAINTS", "check_objective", "check_schedule"]

CONSTRAINTS: dict[str, str] = {
    "shape": "a schedule has one whole number a task in each of its columns",
    "range": "times and addresses are below 2^60",
    "presence": "a task is left out only if it is optional",
    "mode": "a task is in one of its modes",
    "duration": "a task ends at the first time by which its resources have done its work, or later if it may idle",
    "break": "no break of its resources comes into a task that does not allow it",
    "window": "a task starts and ends within its own time windows",
    "release": "a task starts no earlier than its job is released",
    "deadline": "a task ends no later than its job's deadline",
    "min-lag": "the least time between the events of a precedence is kept",
    "max-lag": "the greatest time between the events of a precedence is kept",
    "transport": "there is time to move from the resource of the first task to that of the second",
    "blocking": "resources are freed at the task's end, or when the task that it is blocked by starts",
    "swap": "where swaps are not allowed, no tasks change machines in a circle at one instant",
    "overlap": "a machine does one task at a time",
    "set-up": "between two tasks in succession a machine is set up",
    "initial-state": "before its first task a machine or state resource is set up from its initial state",
    "no-idle": "a machine without idle time starts each task when the one before it, and the set-up, is done",
    "capacity": "the amounts in use of a renewable resource do not exceed its capacity",
    "stock": "the stock of a consumable resource is never below 0",
    "address-range": "a block of addresses lies within its range",
    "address-overlap": "no address belongs to two blocks at one time",
    "state": "tasks in different states of a resource are apart by the set-up time",
    "selection": "as many of some optional tasks are present as their selection says",
    "same-resources": "two tasks use the same resources",
    "different-resources": "two tasks use no common resource",
    "consecutive": "one task directly follows another one on the machines of both",
    "same-sequence": "tasks come in the same order on two machines",
    "mode-dependency": "the mode of one task allows the mode of another",
    "objective": "values that a method claims are those of its schedule (`check_objective`)",
}
"""Name of each constraint, as in `Violation.rule`, and what it asks for."""

_PARTS: tuple[Callable[[Reading], list[Violation]], ...] = (
    check_choices.selections,
    check_choices.resource_choices,
    check_choices.mode_dependencies,
    check_times.durations,
    check_times.windows,
    check_times.lags,
    check_times.departures,
    check_machines.machines,
    check_machines.sequences,
    check_machines.hand_overs,
    check_amounts.capacities,
    check_amounts.stocks,
    check_amounts.addresses,
    check_amounts.states,
)


def check_schedule(problem: Problem, schedule: Schedule) -> list[Violation]:
    """Every constraint that a schedule violates; empty for a feasible schedule.

    Parameters
    ----------
    problem
        The problem that the schedule must solve.
    schedule
        The schedule.

    Returns
    -------
    list of Violation
        ``rule`` is a key of `CONSTRAINTS`, ``items`` are names of tasks (`Problem.task_name`), ``resources`` names of
        resources. A task whose presence or mode is wrong counts as absent in the other constraints. Never raises on a
        bad schedule: what cannot be read is a violation of "shape" or "range", and nothing else is checked then.
    """
    try:
        reading = read(problem, schedule)
    except Unreadable as error:
        return [error.violation]
    found = check_choices.presence(reading, schedule.mode)
    return found + [violation for part in _PARTS for violation in part(reading)]
