"""Priority rules make feasible schedules of every project that has modes to choose."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from small_projects import assert_feasible, least_makespan, makespan, project, projects

from pathloom.schedule.project_rules import RULES, project_rules
from pathloom.schedule.shops import Project


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from([1, 2]))
def test_every_rule_makes_a_feasible_schedule(data: st.DataObject, modes: int) -> None:
    shape: Project = data.draw(projects(activities=6, modes=modes))
    found = list(project_rules(shape))
    assert not found or {name.partition(",")[0] for name, _, _ in found} == set(RULES)
    for _, mode, start in found:
        assert_feasible(shape, mode, start)


@settings(max_examples=15, deadline=None)
@given(projects(activities=5))
def test_no_rule_beats_the_optimum_and_one_is_near_it(shape: Project) -> None:
    best = least_makespan(shape)
    ends = [makespan(shape, mode, start) for _, mode, start in project_rules(shape)]
    assert (best is None) == (not ends)
    assert best is None or best <= min(ends) <= 2 * best


def test_two_activities_that_exclude_each_other_are_put_one_after_the_other() -> None:
    shape = project([[3], [2]], [[[2]], [[2]]], [3], [])
    for _, mode, start in project_rules(shape):
        assert makespan(shape, mode, start) == 5
