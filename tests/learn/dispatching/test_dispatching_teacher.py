"""The teacher's lessons: never worse than the pupil's schedule, true to its beginning, and made of legal decisions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from pathloom.learn.dispatching.generated_shops import flexible_shop, taillard_shop
from pathloom.learn.dispatching.teacher import Lesson, decisions, searched, teach
from pathloom.schedule.interval_environment import WAIT, IntervalEnvironment
from pathloom.schedule.shops import FlexibleShop, JobShop

EFFORT = 0.02


def shop_of(seed: int, flexible: bool) -> JobShop | FlexibleShop:
    generator = np.random.default_rng(seed)
    return flexible_shop(4, 3, 3, generator) if flexible else taillard_shop(4, 4, generator)


def random_episode(environment: IntervalEnvironment, generator: np.random.Generator) -> list[int]:
    actions = []
    while 0 in environment.active:
        actions.append(int(generator.choice(environment.legal(0))))
        environment.step(np.array([actions[-1]]))
    return actions


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(0, 1))
def test_a_lesson_keeps_the_beginning_and_replays_to_its_makespan(seed: int, flexible: bool, share: float) -> None:
    generator = np.random.default_rng(seed)
    environment = IntervalEnvironment([shop_of(seed, flexible)])
    actions = random_episode(environment, generator)
    own = environment.schedule(0)
    made = int(environment.makespan[0])
    environment.reset()
    environment.replay(0, np.array(actions[: int(share * len(actions))], np.int64))
    fixed, _ = environment.schedule(0)
    lesson = teach(environment, 0, effort=EFFORT, hint=own)
    assert lesson is not None
    assert lesson.makespan <= made
    assert (lesson.start[fixed >= 0] == fixed[fixed >= 0]).all()
    if environment.left[0]:
        _, _, taken = decisions(environment, 0, lesson, generator)
        assert len(taken) >= (fixed < 0).sum()
    assert environment.makespan[0] == lesson.makespan
    assert environment.left[0] == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_no_operation_of_a_lesson_could_start_earlier_with_the_others_in_place(seed: int, flexible: bool) -> None:
    """Lessons are active schedules: no gap of a machine takes an operation earlier."""
    shop = shop_of(seed, flexible)
    lesson = teach(IntervalEnvironment([shop]), 0, effort=EFFORT)
    assert lesson is not None
    machines = shop.machine if isinstance(shop, JobShop) else shop.alternative_machine
    durations = shop.duration if isinstance(shop, JobShop) else shop.alternative_duration
    machine, duration = machines[lesson.alternative], durations[lesson.alternative]
    end = lesson.start + duration
    for o in range(shop.operations):
        came = 0 if o in shop.job_start else int(end[o - 1])
        others = (machine == machine[o]) & (np.arange(shop.operations) != o)
        for start in range(came, int(lesson.start[o])):
            assert (others & (lesson.start < start + duration[o]) & (start < end)).any()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_searched_schedule_is_a_lesson_and_always_the_same(seed: int, flexible: bool) -> None:
    shop = shop_of(seed, flexible)
    environment = IntervalEnvironment([shop])
    start, alternative = searched(environment, 500)
    again = searched(environment, 500)
    assert np.array_equal(start, again[0]) and np.array_equal(alternative, again[1])
    durations = shop.duration if isinstance(shop, JobShop) else shop.alternative_duration
    made = int((start + durations[alternative]).max())
    environment.finish_by_rule("MWKR")
    assert made <= environment.makespan[0]
    environment.reset()
    lesson = teach(environment, 0, effort=1e-6, hint=(start, alternative))
    assert lesson is not None and lesson.makespan <= made
    decisions(environment, 0, lesson, np.random.default_rng(0))
    assert environment.makespan[0] == lesson.makespan


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))
def test_flexible_shops_are_drawn_as_they_are_described(seed: int, jobs: int, machines: int, choices: int) -> None:
    shop = flexible_shop(jobs, machines, choices, np.random.default_rng(seed))
    lengths, options = np.diff(shop.job_start), np.diff(shop.alternative_start)
    assert shop.jobs == jobs and shop.machines == machines
    assert lengths.min() >= max(1, round(machines / 2)) and lengths.max() <= max(1, round(machines * 1.5))
    assert options.min() >= 1 and options.max() <= min(choices, machines)
    assert shop.alternative_duration.min() >= 1 and shop.alternative_duration.max() <= 99 * 1.9 + 0.5
    for first, last in zip(shop.alternative_start[:-1], shop.alternative_start[1:], strict=True):
        assert len(set(shop.alternative_machine[first:last].tolist())) == last - first
    firsts = shop.alternative_machine[shop.alternative_start[:-1]]
    for begin in shop.job_start[:-1]:
        visited = firsts[begin : begin + min(machines, lengths[0])].tolist()[: lengths.min()]
        assert len(set(visited)) == min(len(visited), machines)


def test_small_shops_are_solved_to_proof() -> None:
    """Two jobs, two machines: 5 units of work cannot be done before time 5, and the best order takes just that."""
    shop = JobShop.from_rows([[(0, 3), (1, 2)], [(1, 2), (0, 2)]])
    lesson = teach(IntervalEnvironment([shop]), 0, effort=1.0)
    assert lesson is not None
    assert lesson.optimal
    assert lesson.makespan == 5


def test_a_lesson_after_a_bad_beginning_is_the_best_end_of_it() -> None:
    """The long operation was put first on the shared machine; the other job can only follow."""
    shop = JobShop.from_rows([[(0, 9)], [(0, 1), (1, 8)]])
    free = teach(IntervalEnvironment([shop]), 0, effort=1.0)
    environment = IntervalEnvironment([shop])
    environment.step(np.array([0]))
    bound = teach(environment, 0, effort=1.0)
    assert free is not None and bound is not None
    assert (free.makespan, bound.makespan) == (10, 18)


def test_all_operations_that_start_together_are_good_answers() -> None:
    shop = JobShop.from_rows([[(0, 4)], [(1, 4)], [(0, 6)]])
    environment = IntervalEnvironment([shop])
    lesson = Lesson(10, np.array([0, 0, 4]), np.arange(3, dtype=np.int32), True)
    seen, wanted, taken = decisions(environment, 0, lesson, np.random.default_rng(0))
    first = seen.action[: seen.row_start[1]][wanted[: seen.row_start[1]]]
    assert sorted(first.tolist()) == [0, 1]
    assert sorted(taken.tolist()) == [0, 1, 2]


def test_waiting_is_part_of_a_lesson() -> None:
    """The machine is kept idle for a short operation that is about to come and has much to follow."""
    shop = JobShop.from_rows([[(0, 9)], [(1, 1), (0, 1), (1, 12)]])
    environment = IntervalEnvironment([shop])
    lesson = teach(environment, 0, effort=1.0)
    assert lesson is not None and lesson.makespan == 14
    _, _, taken = decisions(environment, 0, lesson, np.random.default_rng(0))
    assert WAIT in taken.tolist()


def test_operations_of_no_duration_go_first() -> None:
    shop = JobShop.from_rows([[(0, 5)], [(0, 0), (1, 3)]])
    environment = IntervalEnvironment([shop])
    lesson = Lesson(5, np.array([0, 0, 0]), np.arange(3, dtype=np.int32), True)
    decisions(environment, 0, lesson, np.random.default_rng(0))
    assert environment.makespan[0] == 5


def test_a_schedule_that_cannot_follow_is_refused() -> None:
    """It starts an operation at a time at which nothing is able to: 1, where only 0 and 2 are."""
    shop = JobShop.from_rows([[(0, 5)], [(1, 2), (0, 2)]])
    environment = IntervalEnvironment([shop])
    lesson = Lesson(8, np.array([1, 0, 6]), np.arange(3, dtype=np.int32), False)
    with pytest.raises(ValueError, match="cannot be reached"):
        decisions(environment, 0, lesson, np.random.default_rng(0))
