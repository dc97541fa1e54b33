"""What a schedule is worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.schedule.check_objective import recomputed_measures
from pathloom.schedule.check_reading import read
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.problem import Criterion, Demand, Job, Machine, Mode, Problem, Task
from pathloom.schedule.schedule import ABSENT, Schedule, completions, measures, objective_values, setup_time

BOOTH = Machine("booth", setup=((0, 4), (9, 0)), initial=1)


def task(duration: int, state: int, job: int | None = None, cost: int = 0) -> Task:
    return Task((Mode(duration, (Demand(0, state=state),), cost),), job, optional=True)


PROBLEM = Problem(
    (task(3, 0, 0, 5), task(2, 1, 0, 7), task(4, 0, 1, 11)),
    (BOOTH,),
    (Job(release=1, due=10, weight=2), Job(due=40, weight=3), Job(due=1, weight=100)),
    objective=((Criterion("tardiness", 2), Criterion("setup-time")), (Criterion("cost"),)),
)
# Set up 9 to white, 3 of work, 4 to black, 2 of work, 9 to white, 4 of work
SCHEDULE = Schedule.of(np.array([9, 16, 27]), np.array([12, 18, 31]))


def test_each_measure_by_hand() -> None:
    assert measures(PROBLEM, SCHEDULE) == {
        "makespan": 31,
        "flow": 2 * (18 - 1) + 3 * 31,
        "tardiness": 2 * 8,
        "max-tardiness": 16,
        "tardy-jobs": 2,
        "earliness": 3 * 9,
        "setup-time": 9 + 4 + 9,
        "cost": 23,
    }
    assert objective_values(PROBLEM, SCHEDULE) == (2 * 16 + 22, 23)
    assert setup_time(PROBLEM, SCHEDULE) == 22


def test_what_is_left_out_counts_nothing() -> None:
    alone = Schedule.of(np.array([9, 0, 0]), np.array([12, 0, 0]), np.array([0, ABSENT, ABSENT], np.int32))
    found = measures(PROBLEM, alone)
    assert (found["makespan"], found["cost"], found["setup-time"], found["flow"]) == (12, 5, 9, 22)
    assert completions(PROBLEM, alone)[1].tolist() == [True, False, False]
    nobody = Schedule.of(np.zeros(3, np.int64), np.zeros(3, np.int64), np.full(3, ABSENT, np.int32))
    assert set(measures(PROBLEM, nobody).values()) == {0}


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_checker_comes_to_the_same_values(seed: int) -> None:
    draft = draw_draft(np.random.default_rng(seed))
    problem, schedule = draft.problem(), draft.schedule()
    assert measures(problem, schedule) == recomputed_measures(read(problem, schedule))


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'mode' has shape \(1,\), expected \(2,\)"):
        Schedule.of(np.zeros(2), np.zeros(2), np.zeros(1, np.int32))
