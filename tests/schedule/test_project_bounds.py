"""Lower bounds of projects: never above the optimum, and sharp where the reason is plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from small_projects import least_makespan, project, projects, public_project

from pathloom.schedule.project_bounds import (
    capacity_bound,
    critical_path_bound,
    destructive_bound,
    exclusion_bound,
    project_bound,
)
from pathloom.schedule.shops import Project


@given(projects(activities=5, longest=4))
@settings(max_examples=60, deadline=None)
def test_no_bound_exceeds_the_optimum(shape: Project) -> None:
    optimum = least_makespan(shape)
    assert optimum is not None
    lower = critical_path_bound(shape)
    assert max(lower, capacity_bound(shape), exclusion_bound(shape)) <= optimum
    bound, source = project_bound(shape)
    assert lower <= bound <= optimum
    assert source
    assert destructive_bound(shape, lower) <= optimum
    assert destructive_bound(shape, lower, upper=optimum) <= optimum


@given(projects(activities=4, modes=2, longest=4))
@settings(max_examples=40, deadline=None)
def test_no_bound_exceeds_the_optimum_in_several_modes(shape: Project) -> None:
    optimum = least_makespan(shape)
    if optimum is not None:
        assert project_bound(shape)[0] <= optimum
        assert max(critical_path_bound(shape), capacity_bound(shape), exclusion_bound(shape)) <= optimum


def test_critical_path_counts_releases_and_shortest_modes() -> None:
    shape = project([[4, 2], [3], [1]], [[[1], [3]], [[1]], [[1]]], [9], [(0, 1)], release=[1, 0, 20])
    assert critical_path_bound(shape) == 21
    assert critical_path_bound(project([[4, 2], [3]], [[[1], [3]], [[1]]], [9], [(0, 1)], release=[1, 0])) == 6


def test_capacity_counts_energy_between_head_and_tail() -> None:
    # 2 before and 3 after five activities of 4 x 2 on a capacity of 4
    arcs = [(0, a) for a in range(1, 6)] + [(a, 6) for a in range(1, 6)]
    shape = project([[2]] + [[4]] * 5 + [[3]], [[[0]]] + [[[2]]] * 5 + [[[0]]], [4], arcs)
    assert capacity_bound(shape) == 2 + 10 + 3


def test_three_that_exclude_each_other_take_their_sum() -> None:
    shape = project([[3], [4], [5]], [[[3]], [[3]], [[3]]], [5], [])
    assert capacity_bound(shape) == 8
    assert exclusion_bound(shape) == 12
    assert project_bound(shape) == (12, "one machine")


def test_energy_in_windows_refutes_what_heads_and_tails_allow() -> None:
    # Two long activities must overlap in the middle however they are moved, and a third sits there
    shape = project([[6], [6], [2], [5], [5]], [[[1]], [[1]], [[2]], [[0]], [[0]]], [2], [(3, 2), (2, 4)])
    lower = critical_path_bound(shape)
    assert lower == 12
    assert destructive_bound(shape, lower) > capacity_bound(shape)


def test_a_project_without_possible_modes_is_bounded_by_nothing() -> None:
    assert project_bound(project([[1]], [[[5]]], [4], [])) == (0, "no modes")


@pytest.mark.parametrize(
    ("name", "optimum"), [("j301_1.sm", 43), ("j3048_10.sm", 54), ("j601_1.sm", 77), ("j1010_1.mm", 17)]
)
def test_bounds_of_public_projects_stay_below_their_optima(name: str, optimum: int) -> None:
    shape = public_project(name)
    assert critical_path_bound(shape) <= project_bound(shape, upper=optimum)[0] <= optimum
    assert np.all(shape.mode_duration >= 0)
