"""The anytime search for projects: feasible, optimal on small ones, known optima of public ones."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_projects import assert_feasible, least_makespan, makespan, project, projects, public_project

from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.project_search import (
    GeneticSettings,
    ProjectSolution,
    SearchEffort,
    mode_assignment,
    project_search,
)
from pathloom.schedule.schedule_generation import Generator
from pathloom.schedule.shops import Project


def best_of(incumbent: Incumbent[ProjectSolution], shape: Project) -> int:
    """Value of the incumbent, after a look at its solution."""
    value, (mode, start) = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shape, mode, start)
    assert makespan(shape, mode, start) == value
    return value


@given(projects(activities=5, longest=4), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_small_projects_are_solved_to_optimality(shape: Project, seed: int) -> None:
    optimum = least_makespan(shape)
    incumbent: Incumbent[ProjectSolution] = Incumbent(20.0, bound=optimum)
    project_search(shape, incumbent, seed=seed)
    assert best_of(incumbent, shape) == optimum


@given(projects(activities=4, modes=3, longest=4), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_small_projects_in_several_modes_are_solved_to_optimality(shape: Project, seed: int) -> None:
    optimum = least_makespan(shape)
    assume(optimum is not None)
    incumbent: Incumbent[ProjectSolution] = Incumbent(20.0, bound=optimum)
    project_search(shape, incumbent, seed=seed)
    assert best_of(incumbent, shape) == optimum


@given(projects(activities=5, modes=3, longest=4))
@settings(max_examples=40, deadline=None)
def test_modes_are_assigned_exactly_where_some_fit_the_stocks(shape: Project) -> None:
    made = Generator.of(shape)
    mode = None if made is None else mode_assignment(made, 10.0)
    if mode is None:
        assert least_makespan(shape) is None
    else:
        assert made is not None
        assert (shape.consumable[made.mode[mode]].sum(axis=0) <= shape.consumable_capacity).all()


def tight_stock(count: int) -> Project:
    """Each activity has a mode that takes from either of two stocks; halves of both just suffice for a partition."""
    weights = [2 ** (i % 11) + i for i in range(count)]
    half = sum(weights[::2])
    consumed = [[[w, 0], [0, w]] for w in weights]
    demands = [[[1], [1]] for _ in weights]
    return project([[1, 2]] * count, demands, [2], [], consumed, [half, sum(weights) - half])


def test_modes_are_found_where_the_stocks_suffice_exactly() -> None:
    shape = tight_stock(24)
    incumbent: Incumbent[ProjectSolution] = Incumbent(30.0, bound=10**6)  # ends with the first schedule
    project_search(shape, incumbent, seed=1)
    best_of(incumbent, shape)


def test_nothing_is_offered_where_no_modes_fit() -> None:
    consumed = [[[2]], [[2]]]
    impossible = project([[1], [1]], [[[1]], [[1]]], [1], [], consumed, [3])
    incumbent: Incumbent[ProjectSolution] = Incumbent(5.0)
    project_search(impossible, incumbent)
    assert incumbent.best() is None


def test_long_durations_are_as_well_searched_as_short_ones() -> None:
    shape = public_project("j301_1.sm")
    long = Project(**{**shape.__dict__, "mode_duration": shape.mode_duration * 1009})
    long.mode_duration[0] += 1  # keeps the factor from being divided out
    incumbent: Incumbent[ProjectSolution] = Incumbent(30.0, bound=43 * 1009 + 1)
    project_search(long, incumbent, seed=2)
    assert 43 * 1009 <= best_of(incumbent, long) <= 43 * 1009 + 1


@pytest.mark.parametrize(("name", "optimum"), [("j301_1.sm", 43), ("j3048_10.sm", 54), ("j1010_1.mm", 17)])
def test_known_optima_of_public_projects_are_reached(name: str, optimum: int) -> None:
    shape = public_project(name)
    incumbent: Incumbent[ProjectSolution] = Incumbent(60.0, bound=optimum)
    effort = SearchEffort()
    project_search(shape, incumbent, seed=1, effort=effort)
    assert best_of(incumbent, shape) == optimum
    assert effort.schedules > 0 and effort.populations >= 1


@pytest.mark.slow
def test_known_optimum_of_a_project_of_sixty_is_reached() -> None:
    shape = public_project("j601_1.sm")
    incumbent: Incumbent[ProjectSolution] = Incumbent(120.0, bound=77)
    project_search(shape, incumbent, seed=1)
    assert best_of(incumbent, shape) == 77


def test_a_first_solution_is_taken_up_and_only_improved() -> None:
    shape = public_project("j301_1.sm")
    exact: Incumbent[ProjectSolution] = Incumbent(60.0, bound=43)
    project_search(shape, exact, seed=4)
    assert exact.solution is not None
    again: Incumbent[ProjectSolution] = Incumbent(60.0, bound=43)
    project_search(shape, again, seed=5, initial=exact.solution)
    assert best_of(again, shape) == 43


def test_the_search_ends_when_another_method_proves_the_best_optimal() -> None:
    shape = public_project("j601_1.sm")
    incumbent: Incumbent[ProjectSolution] = Incumbent(600.0)
    thread = threading.Thread(target=project_search, args=(shape, incumbent))
    thread.start()
    while incumbent.best() is None and thread.is_alive():
        thread.join(0.01)
    incumbent.raise_bound(10**6, "another method")
    thread.join(60)
    assert not thread.is_alive()
    best_of(incumbent, shape)


def test_a_project_of_nothing_takes_no_time() -> None:
    nothing = project([], [], [1], [])
    incumbent: Incumbent[ProjectSolution] = Incumbent(5.0)
    project_search(nothing, incumbent)
    value, (mode, start) = incumbent.best() or pytest.fail("no solution")
    assert (value, len(mode), len(start)) == (0, 0, 0)
    assert np.asarray(start).dtype == np.int64


@pytest.mark.parametrize("wrong", [{"members": 1}, {"shaken": 1.5}, {"patience": 0}, {"chunk_seconds": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GeneticSettings(**wrong)  # type: ignore[arg-type]
