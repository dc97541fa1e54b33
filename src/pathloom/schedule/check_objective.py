"""The measures of a schedule, computed anew from their definitions, to check what a method says that it reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pathloom.plan import Violation
from pathloom.schedule.check_machines import Sequences, setup_times
from pathloom.schedule.check_reading import NONE, Reading, Unreadable, read
from pathloom.schedule.problem import Problem
from pathloom.schedule.schedule import Schedule

_NEVER = -(2**62)


def recomputed_measures(reading: Reading) -> dict[str, int]:
    """Every measure of `pathloom.schedule.problem.Criterion`."""
    columns, problem = reading.columns, reading.problem
    counted = np.flatnonzero(reading.present & (columns.job != NONE))
    latest = np.full(len(problem.jobs), _NEVER)
    np.maximum.at(latest, columns.job[counted], reading.end[counted])
    flow = tardiness = tardy = earliness = worst = 0
    for job, done in zip(problem.jobs, latest.tolist(), strict=True):
        if done == _NEVER:
            continue  # no task of it is present
        flow += job.weight * (done - job.release)
        if job.due is not None:
            late = max(0, done - job.due)
            tardiness += job.weight * late
            worst = max(worst, job.weight * late)
            tardy += job.weight * (late > 0)
            earliness += job.weight * max(0, job.due - done)
    uses = Sequences.of(reading)
    before = uses.state.copy()
    before[1:] = uses.state[:-1]
    opening = ~uses.follows
    before[opening] = columns.initial[uses.machine[opening]]
    known = np.flatnonzero(before != NONE)
    setups = setup_times(reading, uses.machine[known], before[known], uses.state[known])
    chosen = zip(np.flatnonzero(reading.present), reading.mode[reading.present], strict=True)
    return {
        "makespan": int(reading.end[reading.present].max()) if reading.present.any() else 0,
        "flow": flow,
        "tardiness": tardiness,
        "max-tardiness": worst,
        "tardy-jobs": tardy,
        "earliness": earliness,
        "setup-time": int(setups.sum()),
        "cost": sum(problem.tasks[task].modes[mode].cost for task, mode in chosen),
    }


def check_objective(problem: Problem, schedule: Schedule, values: Sequence[int] | Mapping[str, int]) -> list[Violation]:
    """Compare what a method says with what the schedule is worth; each difference is a violation of "objective".

    Parameters
    ----------
    values
        One value a level of the objective, or some measures by name.
    """
    try:
        found = recomputed_measures(read(problem, schedule))
    except Unreadable as error:
        return [error.violation]
    if isinstance(values, Mapping):
        expected = {f"measure '{name}'": found.get(name) for name in values}
        claimed = [int(value) for value in values.values()]
    else:
        expected = {
            f"level {number} of the objective": sum(part.weight * found[part.measure] for part in level)
            for number, level in enumerate(problem.objective)
        }
        claimed = [int(value) for value in values]
        if len(claimed) != len(expected):
            message = f"{len(claimed)} values, expected {len(expected)}, one a level of the objective"
            return [Violation("objective", message)]
    return [
        Violation("objective", f"{what} is said to be {said}, but is {value}")
        for (what, value), said in zip(expected.items(), claimed, strict=True)
        if value != said
    ]
