"""The parts of a problem: calendars and names."""

from __future__ import annotations

import pytest

from pathloom.schedule.problem import LATEST, Calendar, Job, Mode, Problem, Task


def test_breaks_are_times_of_no_speed() -> None:
    lunch = Calendar.with_breaks([(12, 13), (4, 6)])
    assert lunch.changes == ((4, 0), (6, 100), (12, 0), (13, 100))
    assert lunch.breaks == ((4, 6), (12, 13))
    assert Calendar(((0, 50), (7, 0))).breaks == ((7, LATEST),), "one that never ends"
    assert Calendar().breaks == ()


def test_breaks_may_touch() -> None:
    assert Calendar.with_breaks([(2, 4), (4, 6)]).changes == ((2, 0), (4, 0), (6, 100))


@pytest.mark.parametrize("breaks", [[(3, 3)], [(5, 4)], [(1, 4), (3, 6)], [(-2, 1)]])
def test_breaks_that_overlap_or_end_before_they_start_are_refused(breaks: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"break \["):
        Calendar.with_breaks(breaks)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (((4, 50), (4, 60)), "expected rising times"),
        (((-1, 50),), "expected rising times"),
        (((LATEST, 50),), "expected rising times"),
        (((1, -5),), "expected a speed of at least 0"),
    ],
)
def test_speeds_change_at_rising_times(changes: tuple[tuple[int, int], ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Calendar(changes)


def test_everything_has_a_name_for_people() -> None:
    one = (Mode(1),)
    problem = Problem((Task(one, name="cut"), Task(one, 0), Task(one, 1), Task(one)), jobs=(Job("door"), Job()))
    assert [problem.task_name(task) for task in range(4)] == ["cut", "door task 1", "job 1 task 2", "task 3"]
    assert problem.job_name(1) == "job 1"


def test_a_problem_is_compiled_once() -> None:
    problem = Problem((Task((Mode(3),)),))
    assert problem.compiled is problem.compiled
