"""What a feasible schedule is, case by case, and what the checker says of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.schedule.check import CONSTRAINTS, check_objective, check_schedule
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.problem import (
    Calendar,
    Consumable,
    Criterion,
    Demand,
    Job,
    Machine,
    Mode,
    Precedence,
    Problem,
    Renewable,
    Task,
)
from pathloom.schedule.schedule import Schedule, measures, objective_values


def task(duration: int, *demands: Demand, **fields: object) -> Task:
    return Task((Mode(duration, demands),), **fields)  # type: ignore[arg-type]


def rules(problem: Problem, start: list[int], end: list[int], departure: list[int] | None = None) -> list[str]:
    columns = [np.array(column, np.int64) for column in (start, end, departure or end)]
    found = check_schedule(problem, Schedule.of(columns[0], columns[1], departure=columns[2]))
    assert all(violation.rule in CONSTRAINTS for violation in found)
    return [violation.rule for violation in found]


def two_on_a_machine(**fields: object) -> Problem:
    return Problem((task(3, Demand(0)), task(2, Demand(0))), (Machine("lathe", **fields),))  # type: ignore[arg-type]


def test_a_task_may_begin_at_the_very_moment_another_ends() -> None:
    assert rules(two_on_a_machine(), [0, 3], [3, 5]) == []
    assert rules(two_on_a_machine(), [0, 2], [3, 4]) == ["overlap"]


def test_a_task_of_no_length_is_at_no_time_inside_another() -> None:
    problem = Problem((task(3, Demand(0)), task(0, Demand(0))), (Machine("lathe"),))
    assert [rules(problem, [2, moment], [5, moment]) for moment in (2, 3, 5)] == [[], ["overlap"], []]


def test_every_task_under_a_long_one_is_named_with_it() -> None:
    problem = Problem(tuple(task(d, Demand(0), name=n) for d, n in ((9, "a"), (1, "b"), (1, "c"))), (Machine("lathe"),))
    found = check_schedule(problem, Schedule.of(np.array([0, 2, 5]), np.array([9, 3, 6])))
    assert [violation.items for violation in found] == [("a", "b"), ("a", "c")]
    assert found[0].resources == ("lathe",)
    assert str(found[0]) == "overlap: a in [0, 9) and b in [2, 3) are on lathe at one time"


def test_a_slow_machine_and_a_break_stretch_a_task() -> None:
    half, lunch = Calendar(((0, 50),)), Calendar.with_breaks([(4, 6)])
    slow = Problem((task(3, Demand(0)),), (Machine("lathe", half),))
    assert [rules(slow, [0], [end]) for end in (5, 6, 7)] == [["duration"], [], ["duration"]]
    stops = Problem((task(3, Demand(0), allow_breaks=True),), (Machine("lathe", lunch),))
    assert rules(stops, [2], [7]) == []
    strict = Problem((task(3, Demand(0)),), (Machine("lathe", lunch),))
    assert rules(strict, [2], [7]) == ["break"] and rules(strict, [1], [4]) == [] == rules(strict, [6], [9])


def test_the_slowest_of_several_resources_counts() -> None:
    clocks = (Calendar(((0, 50), (10, 100))), Calendar(((0, 100), (10, 25))))
    problem = Problem((task(6, Demand(0), Demand(1)),), (Machine("lathe", clocks[0]), Renewable("crew", 1, clocks[1])))
    assert rules(problem, [0], [14]) == []  # ten units at half speed, four at a quarter


def test_idle_time_may_follow_the_work_of_a_task_that_allows_it() -> None:
    problem = Problem((task(3, allow_idle=True),))
    assert [rules(problem, [0], [end]) for end in (2, 3, 9)] == [["duration"], [], []]


def test_blocked_tasks_hold_their_machine_until_the_next_one_starts() -> None:
    machines = (Machine("a"), Machine("b"))
    problem = Problem(
        (task(2, Demand(0)), task(3, Demand(1)), task(4, Demand(1)), task(1, Demand(0))),
        machines,
        precedences=(Precedence(0, 1, blocking=True),),
    )
    assert rules(problem, [0, 4, 0, 4], [2, 7, 4, 5], [4, 7, 4, 5]) == []
    assert rules(problem, [0, 4, 0, 2], [2, 7, 4, 3], [2, 7, 4, 3]) == ["blocking"]
    assert rules(problem, [0, 4, 0, 3], [2, 7, 4, 4], [4, 7, 4, 4]) == ["overlap"]


def two_jobs_that_swap(swap: bool) -> Problem:
    tasks = tuple(task(2, Demand(machine)) for machine in (0, 1, 1, 0))
    links = (Precedence(0, 1, blocking=True), Precedence(2, 3, blocking=True))
    return Problem(tasks, (Machine("a"), Machine("b")), precedences=links, swap=swap)


def test_two_jobs_change_places_only_where_swaps_are_allowed() -> None:
    start, end = [0, 2, 0, 2], [2, 4, 2, 4]
    assert rules(two_jobs_that_swap(True), start, end) == []
    assert rules(two_jobs_that_swap(False), start, end) == ["swap"]
    (violation,) = check_schedule(two_jobs_that_swap(False), Schedule.of(np.array(start), np.array(end)))
    assert violation.items == ("task 1", "task 3") and violation.resources == ("a", "b")


def test_jobs_in_a_row_may_all_move_at_one_instant_without_a_swap() -> None:
    tasks = tuple(task(2, Demand(machine)) for machine in (0, 1, 1, 2))
    links = (Precedence(0, 1, blocking=True), Precedence(2, 3, blocking=True))
    problem = Problem(tasks, tuple(Machine(name) for name in "abc"), precedences=links, swap=False)
    assert rules(problem, [0, 2, 0, 2], [2, 4, 2, 4]) == []


def test_what_is_made_at_an_instant_can_be_taken_at_that_instant() -> None:
    problem = Problem((task(2, Demand(0, -3)), task(1, Demand(0, 3))), (Consumable("steel", 0),))
    assert rules(problem, [0, 2], [2, 3]) == [] and rules(problem, [0, 1], [2, 2]) == ["stock"]


def test_a_profile_needs_its_units_only_in_its_part_of_the_time() -> None:
    crane = Demand(0, 1, 0, 1)
    problem = Problem((task(4, crane), task(4, crane)), (Renewable("crane", 1),))
    assert rules(problem, [0, 1], [4, 5]) == [] and rules(problem, [0, 0], [4, 4]) == ["capacity"]


def test_times_of_any_size_are_read_or_refused() -> None:
    far = 2**59
    fast = Problem((task(2**39, Demand(0)),), (Machine("lathe", Calendar(((0, 10_000),))),))
    assert rules(fast, [far], [far - (-(2**39) // 100)]) == []
    assert rules(fast, [far], [far + 2**39 // 100]) == ["duration"]
    assert rules(fast, [2**60], [2**60 + 1]) == ["range"]


def test_what_is_no_schedule_of_the_problem_is_said_so() -> None:
    problem = two_on_a_machine()
    assert rules(problem, [0], [3]) == ["shape"]
    halves = Schedule.of(np.array([0, 3]), np.array([3, 5]))
    object.__setattr__(halves, "start", np.array([0.5, 3.5]))
    assert [violation.rule for violation in check_schedule(problem, halves)] == ["shape"]


@pytest.mark.parametrize("resources", [(), (Machine("idle"),)])
def test_problems_without_tasks_or_demands_have_schedules(resources: tuple[Machine, ...]) -> None:
    none = np.zeros(0, np.int64)
    assert check_schedule(Problem((), resources), Schedule.of(none, none)) == []
    assert rules(Problem((task(2), task(3)), resources, swap=False), [0, 1], [2, 4]) == []
    assert check_objective(Problem((), resources), Schedule.of(none, none), (0,)) == []


def test_measures_are_those_of_a_hand_made_schedule() -> None:
    setup = ((0, 2), (5, 0))
    problem = Problem(
        (
            replace(task(3, Demand(0, state=1)), job=0, modes=(Mode(3, (Demand(0, state=1),), cost=7),)),
            replace(task(2, Demand(0, state=0)), job=1),
            replace(task(9, Demand(0, state=1)), job=2, optional=True),
        ),
        (Machine("lathe", setup=setup, initial=0),),
        (Job(release=1, due=4, weight=3), Job(due=20), Job(due=1, weight=50)),
        objective=((Criterion("tardiness"), Criterion("setup-time", 10)), (Criterion("earliness"),)),
    )
    schedule = Schedule.of(np.array([2, 10, 0]), np.array([5, 12, 0]), np.array([0, 0, -1], np.int32))
    assert check_schedule(problem, schedule) == []
    expected = {
        "makespan": 12,
        "flow": 3 * 4 + 12,
        "tardiness": 3,
        "max-tardiness": 3,
        "tardy-jobs": 3,
        "earliness": 8,
        "setup-time": 7,
        "cost": 7,
    }
    assert check_objective(problem, schedule, expected) == []
    assert check_objective(problem, schedule, (73, 8)) == []
    (violation,) = check_objective(problem, schedule, (73, 9))
    assert str(violation) == "objective: level 1 of the objective is said to be 9, but is 8"
    assert [v.rule for v in check_objective(problem, schedule, (73,))] == ["objective"]
    assert [v.rule for v in check_objective(problem, schedule, {"makespan": 11, "hurry": 1})] == ["objective"] * 2


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_measures_of_schedules_are_confirmed(seed: int) -> None:
    """Both are written from the same definitions, apart from each other."""
    draft = draw_draft(np.random.default_rng(seed), 3)
    problem, schedule = draft.problem(), draft.schedule()
    assert check_objective(problem, schedule, measures(problem, schedule)) == []
    assert check_objective(problem, schedule, objective_values(problem, schedule)) == []
