"""The constraint model holds the schedules that the definitions allow: no more, and no fewer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model
from small_problems import random_problem

from pathloom.schedule.check import check_schedule
from pathloom.schedule.constraint_model import ConstraintModel, horizon
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Calendar, Problem
from pathloom.schedule.schedule import Schedule, objective_values


def solved(stated: ConstraintModel, seconds: float = 5.0) -> tuple[int, cp_model.CpSolver]:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.catch_sigint_signal = False
    return solver.solve(stated.model), solver


def pinned(problem: Problem, schedule: Schedule) -> ConstraintModel:
    """The model with all times and modes given, so that a schedule is in it or not."""
    stated = ConstraintModel(problem, max(horizon(problem), int(schedule.departure.max(initial=0))))
    for task, mode in enumerate(schedule.mode.tolist()):
        stated.model.add(stated.presence[task] == int(mode >= 0))
        for position, literal in enumerate(stated.mode[task]):
            stated.model.add(literal == int(position == mode))
        if mode >= 0:
            stated.model.add(stated.start[task] == int(schedule.start[task]))
            stated.model.add(stated.end[task] == int(schedule.end[task]))
        if mode >= 0 and schedule.address[task] >= 0:
            stated.model.add(stated.address[task] == int(schedule.address[task]))
    return stated


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_every_feasible_schedule_is_in_the_model_and_worth_what_it_is(seed: int) -> None:
    draft = draw_draft(np.random.default_rng(seed), 3)
    problem, schedule = draft.problem(), draft.schedule()
    stated = pinned(problem, schedule)
    values = objective_values(problem, schedule)
    stated.model.minimize(sum(stated.levels))
    status, solver = solved(stated)
    assert status == cp_model.OPTIMAL
    assert tuple(solver.value(level) for level in stated.levels) == values
    assert check_schedule(problem, stated.schedule(solver.value)) == []


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_schedule_that_the_checker_refuses_is_not_in_it(seed: int, change: int) -> None:
    draft = draw_draft(np.random.default_rng(seed), 3)
    problem, schedule = draft.problem(), draft.schedule()
    draw = np.random.default_rng(change)
    task = int(draw.choice(np.flatnonzero(schedule.present)))
    shift = int(draw.integers(-3, 4))
    start, end, departure = (column.copy() for column in (schedule.start, schedule.end, schedule.departure))
    start[task] = max(0, start[task] + shift)
    end[task] = max(start[task], end[task] + shift)
    departure[task] = max(end[task], departure[task])
    moved = Schedule(start, end, schedule.mode, departure, schedule.address)
    stated = pinned(problem, moved)
    status, solver = solved(stated)
    # The model finds departures by itself, so it may mend one that the move has made wrong.
    found = stated.schedule(solver.value) if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else moved
    assert (check_schedule(problem, found) == []) == (status in (cp_model.OPTIMAL, cp_model.FEASIBLE))


@pytest.mark.parametrize("seed", range(12))
def test_the_horizon_is_long_enough(seed: int) -> None:
    """Twice the time admits no better makespan, nor a schedule where there was none."""
    problem = random_problem(seed)
    results = []
    for latest in (horizon(problem), 2 * horizon(problem)):
        stated = ConstraintModel(problem, latest)
        makespan = stated._measure("makespan")
        stated.model.minimize(makespan)
        status, solver = solved(stated)
        results.append((status, None if status == cp_model.INFEASIBLE else solver.value(makespan)))
    assert results[0] == results[1]


def test_speeds_are_added_up() -> None:
    model = Model()
    lathe = model.machine("lathe", calendar=Calendar(((2, 50), (6, 0), (8, 200))))
    model.task(6, lathe, allow_breaks=True)
    stated = ConstraintModel(model.problem())
    stated.model.minimize(stated.levels[0])
    status, solver = solved(stated)
    assert status == cp_model.OPTIMAL
    # 2 by time 2, 2 more by 6, none until 8, the last 2 in one unit
    assert stated.schedule(solver.value).end.tolist() == [9]
