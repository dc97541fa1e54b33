"""Large neighbourhoods with CP-SAT: every answer is a shorter feasible schedule, every refutation is true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_projects import assert_feasible, least_makespan, makespan, project, projects, public_project

from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.project_neighbourhoods import NeighbourhoodCounts, project_lns
from pathloom.schedule.project_search import ProjectSolution
from pathloom.schedule.schedule_generation import Generator
from pathloom.schedule.shops import Project


@given(projects(activities=5, longest=4), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_small_projects_are_closed(shape: Project, seed: int) -> None:
    incumbent: Incumbent[ProjectSolution] = Incumbent(20.0)
    project_lns(shape, incumbent, seed=seed)
    value, (mode, start) = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shape, mode, start)
    assert makespan(shape, mode, start) == value == incumbent.bound == least_makespan(shape)


@given(projects(activities=4, modes=3, longest=4), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_small_projects_in_several_modes_are_closed(shape: Project, seed: int) -> None:
    optimum = least_makespan(shape)
    assume(optimum is not None)
    incumbent: Incumbent[ProjectSolution] = Incumbent(20.0)
    project_lns(shape, incumbent, seed=seed)
    value, (mode, start) = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shape, mode, start)
    assert makespan(shape, mode, start) == value == incumbent.bound == optimum


@pytest.mark.parametrize(("name", "optimum"), [("j301_1.sm", 43), ("j3048_10.sm", 54), ("j1010_1.mm", 17)])
def test_known_optima_of_public_projects_are_reached(name: str, optimum: int) -> None:
    shape = public_project(name)
    incumbent: Incumbent[ProjectSolution] = Incumbent(60.0, bound=optimum)
    counts = NeighbourhoodCounts()
    project_lns(shape, incumbent, seed=1, counts=counts)
    value, (mode, start) = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shape, mode, start)
    assert makespan(shape, mode, start) == value == optimum
    assert counts.asked == counts.improved + counts.refuted + counts.unanswered


def test_a_bad_incumbent_is_improved() -> None:
    shape = public_project("j601_1.sm")
    made = Generator.of(shape) or pytest.fail("every activity has a mode")
    one_by_one = np.zeros(shape.activities, np.int64)
    now = 0
    for activity in made.list_by_key(np.zeros(shape.activities)):
        one_by_one[activity] = now
        now += int(shape.mode_duration[activity])
    incumbent: Incumbent[ProjectSolution] = Incumbent(60.0, bound=90)
    incumbent.offer(now, (np.arange(shape.activities, dtype=np.int32), one_by_one), "one by one")
    project_lns(shape, incumbent, seed=1)
    value, (mode, start) = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shape, mode, start)
    assert makespan(shape, mode, start) == value <= 90


def test_nothing_is_offered_where_no_modes_fit() -> None:
    impossible = project([[1], [1]], [[[1]], [[1]]], [1], [], [[[2]], [[2]]], [3])
    incumbent: Incumbent[ProjectSolution] = Incumbent(5.0)
    project_lns(impossible, incumbent)
    assert incumbent.best() is None
