"""The flat arrays say what the parts said."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from small_problems import problems

from pathloom.schedule.compiled import NO_DATE, RESOURCE_KINDS, WHOLE
from pathloom.schedule.problem import LATEST, RELATIONS, Job, Mode, Problem, Task


@given(problems())
@settings(max_examples=40, deadline=None)
def test_nothing_is_lost(problem: Problem) -> None:
    flat = problem.compiled
    for number, task in enumerate(problem.tasks):
        assert flat.job[number] == (-1 if task.job is None else task.job)
        assert flat.optional[number] == task.optional and flat.allow_idle[number] == task.allow_idle
        modes = range(flat.mode_start[number], flat.mode_start[number + 1])
        assert [(flat.mode_duration[m], flat.mode_cost[m]) for m in modes] == [(m.duration, m.cost) for m in task.modes]
        assert (flat.mode_task[modes.start : modes.stop] == number).all()
        for row, mode in zip(modes, task.modes, strict=True):
            span = range(flat.demand_start[row], flat.demand_start[row + 1])
            assert [
                (flat.demand_mode[d], flat.demand_resource[d], flat.demand_amount[d], flat.demand_from[d]) for d in span
            ] == [(row, d.resource, d.amount, d.start) for d in mode.demands]
            assert [flat.demand_until[d] for d in span] == [WHOLE if d.end is None else d.end for d in mode.demands]
            assert [flat.demand_state[d] for d in span] == [d.state for d in mode.demands]
    for number, link in enumerate(problem.precedences):
        assert (flat.first[number], flat.second[number]) == (link.first, link.second)
        assert RELATIONS[flat.relation[number]] == link.relation
        assert flat.max_lag[number] == (LATEST if link.max_lag is None else link.max_lag)
        assert (flat.transported[number], flat.blocking[number]) == (link.transport, link.blocking)
    assert [RESOURCE_KINDS[kind] for kind in flat.resource_kind] == [type(r) for r in problem.resources]


def test_release_and_deadline_of_the_job_are_part_of_each_tasks_window() -> None:
    one = (Mode(1),)
    tasks = (Task(one, 0, earliest_start=2), Task(one, 0, latest_end=7), Task(one, 0, latest_end=30), Task(one))
    flat = Problem(tasks, jobs=(Job(release=5, deadline=20),)).compiled
    assert flat.earliest_start.tolist() == [5, 5, 5, 0]
    assert flat.latest_end.tolist() == [20, 7, 20, LATEST]
    assert flat.job_due.tolist() == [NO_DATE] and flat.job_deadline.tolist() == [20]


def test_a_problem_of_nothing_has_empty_arrays() -> None:
    flat = Problem(()).compiled
    assert flat.mode_start.tolist() == flat.demand_start.tolist() == [0]
    assert flat.job.shape == flat.first.shape == (0,) and not flat.has_setups
    assert flat.demand_amount.dtype == np.int64
