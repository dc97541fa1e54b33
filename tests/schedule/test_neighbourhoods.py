"""Large neighbourhoods: better and better schedules, each of which is one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import random_problem

from pathloom.plan import ProvenInfeasible
from pathloom.schedule.check import check_schedule
from pathloom.schedule.cp_sat import cp_sat
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.model import Model
from pathloom.schedule.neighbourhoods import general_neighbourhoods
from pathloom.schedule.problem import Problem
from pathloom.schedule.schedule import Schedule, objective_values


def one_after_another(problem: Problem) -> Schedule:
    end = np.cumsum([task.modes[0].duration for task in problem.tasks])
    return Schedule.of(end - [task.modes[0].duration for task in problem.tasks], end)


def tardy_shop(jobs: int, machines: int) -> Problem:
    model = Model()
    places = [model.machine() for _ in range(machines)]
    for j in range(jobs):
        job = model.job(due=10 + 3 * j, weight=1 + j % 3)
        order = sorted(range(machines), key=lambda m: (j * 5 + m * 3) % 7)
        model.chain(*(model.task(1 + (j * 5 + m * 11) % 9, places[m], job=job) for m in order))
    model.minimise(tardiness=1)
    return model.problem()


def test_the_incumbent_gets_better_and_stays_a_schedule() -> None:
    problem = tardy_shop(6, 3)
    start = one_after_another(problem)
    assert check_schedule(problem, start) == []
    incumbent: Incumbent[Schedule] = Incumbent(3.0)
    before = objective_values(problem, start)[0]
    incumbent.offer(before, start, "in a row")
    general_neighbourhoods(problem, incumbent, seed=1)
    best = incumbent.best()
    assert best is not None and best[0] < before / 2
    assert best[0] == objective_values(problem, best[1])[0] and check_schedule(problem, best[1]) == []
    assert incumbent.source == "large neighbourhoods"
    assert incumbent.bound is None, "a neighbourhood proves nothing about the problem"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_problem_states_is_kept(seed: int) -> None:
    draft = draw_draft(np.random.default_rng(seed), 3)
    problem, schedule = draft.problem(), draft.schedule()
    incumbent: Incumbent[Schedule] = Incumbent(0.7)
    incumbent.offer(objective_values(problem, schedule)[0], schedule, "drawn")
    general_neighbourhoods(problem, incumbent, seed=seed)
    best = incumbent.best()
    assert best is not None and check_schedule(problem, best[1]) == []


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_small_problem_ends_with_its_optimum(seed: int) -> None:
    problem = random_problem(seed)
    exact: Incumbent[Schedule] = Incumbent(10.0)
    try:
        cp_sat(problem, exact)
    except ProvenInfeasible:
        return
    best = exact.best()
    assert best is not None
    again: Incumbent[Schedule] = Incumbent(10.0, bound=exact.bound)
    again.offer(best[0] + 1, best[1], "said to be worse")
    general_neighbourhoods(problem, again)
    assert again.optimal and again.value == best[0]


def test_without_a_schedule_there_is_nothing_to_improve() -> None:
    incumbent: Incumbent[Schedule] = Incumbent(60.0)
    general_neighbourhoods(tardy_shop(3, 2), incumbent)
    assert incumbent.best() is None
