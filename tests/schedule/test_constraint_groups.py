"""Parts of a problem that are left out only make schedules easier to find."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import problems

from pathloom.schedule.check import check_schedule
from pathloom.schedule.constraint_groups import part_in_words, parts, without_others
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.problem import Consumable, Problem, Renewable
from pathloom.schedule.schedule import Schedule


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_schedule_stays_one_when_parts_are_left_out(seed: int, choice: int) -> None:
    """Times, modes and departures are kept; tasks that nobody waits for any more leave when they end."""
    draft = draw_draft(np.random.default_rng(seed), 3)
    problem, schedule = draft.problem(), draft.schedule()
    every = parts(problem)
    draw = np.random.default_rng(choice)
    kept = {part for part in every if draw.random() < 0.8}
    relaxed = without_others(problem, kept)
    there = [n for n in range(len(problem.tasks)) if ("task", n) in kept or ("task", n) not in every]
    assert len(relaxed.tasks) == len(there)
    found = check_schedule(relaxed, Schedule(*(column[there] for column in columns_of(schedule))))
    # Leaving out a calendar changes when work is done, and leaving out a blocking precedence when a task may leave.
    assert {violation.rule for violation in found} <= {"duration", "blocking", "no-idle", "address-range"}


def columns_of(schedule: Schedule) -> list[np.ndarray]:
    return [schedule.start, schedule.end, schedule.mode, schedule.departure, schedule.address]


@given(problems())
@settings(max_examples=30, deadline=None)
def test_with_all_parts_it_is_the_same_problem(problem: Problem) -> None:
    every = set(parts(problem))
    found = without_others(problem, every)
    assert found.tasks == problem.tasks and found.precedences == problem.precedences
    assert found.resources == problem.resources and found.selections == problem.selections
    assert (found.consecutive, found.mode_dependencies) == (problem.consecutive, problem.mode_dependencies)
    for part in every:
        for sentence in part_in_words(problem, part, every):
            assert sentence.strip()


@given(problems())
@settings(max_examples=40, deadline=None)
def test_without_any_part_nothing_is_scarce(problem: Problem) -> None:
    found = without_others(problem, set())
    assert not found.precedences and not found.selections
    for resource in found.resources:
        assert isinstance(resource, Renewable | Consumable)
    assert all(task.latest_end is None and not task.earliest_start for task in found.tasks)
