"""Schedule-generation schemes and justification against plain versions and from their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_projects import (
    assert_feasible,
    least_makespan,
    lists,
    makespan,
    plain_serial,
    project,
    projects,
    public_project,
    random_list,
)

from pathloom.plan import InputError
from pathloom.schedule.schedule_generation import Generator, pack
from pathloom.schedule.shops import Project

seeds = st.integers(0, 2**31 - 1)


def generator(shape: Project) -> Generator:
    return Generator.of(shape) or pytest.fail("every activity has a mode")


def stretched(shape: Project) -> Project:
    """The same with times so long that free amounts are kept by knots (a prime keeps them from being divided out)."""
    scale = 1009
    release = shape.release * scale
    release[0] += 1 if shape.mode_duration.any() or release.any() else 0
    return replace(shape, mode_duration=shape.mode_duration * scale, release=release)


@given(projects(), seeds)
@settings(max_examples=150, deadline=None)
def test_serial_scheme_equals_plain_one(shape: Project, seed: int) -> None:
    order = random_list(shape, seed)
    mode = np.arange(shape.activities)
    start = generator(shape).serial(order)
    assert start.tolist() == plain_serial(shape, order.tolist(), mode.tolist())
    assert_feasible(shape, mode, start)


@given(projects(activities=4, longest=3), seeds)
@settings(max_examples=20, deadline=None)
def test_serial_scheme_by_knots_equals_plain_one(shape: Project, seed: int) -> None:
    long = stretched(shape)
    made = generator(long)
    if long.mode_duration.any():
        assert len(made.scratch.knots)
    order = random_list(long, seed)
    mode = np.arange(long.activities)
    start = made.serial(order)
    assert_feasible(long, mode, start)
    assert start.tolist() == plain_serial(long, order.tolist(), mode.tolist())


@given(projects(), seeds)
@settings(max_examples=100, deadline=None)
def test_parallel_scheme_never_idles_what_could_run(shape: Project, seed: int) -> None:
    key = np.random.default_rng(seed).random(shape.activities)
    mode = np.arange(shape.activities)
    start = generator(shape).parallel(key)
    assert_feasible(shape, mode, start)
    end = start + shape.mode_duration
    for activity in range(shape.activities):
        before = [
            other
            for other in range(shape.activities)
            if activity in shape.successor[shape.successor_start[other] : shape.successor_start[other + 1]]
        ]
        ready = max([int(shape.release[activity]), *(int(end[other]) for other in before)])
        for time in range(ready, int(start[activity])):
            # Whatever ran at that time left too little for the activity to start then
            running = (start <= time) & (time < end)
            use = shape.renewable[running].sum(axis=0) + shape.renewable[activity]
            assert shape.mode_duration[activity] > 0 and (use > shape.renewable_capacity).any()


@given(projects(), seeds)
@settings(max_examples=150, deadline=None)
def test_justification_never_lengthens(shape: Project, seed: int) -> None:
    made = generator(shape)
    mode = np.arange(shape.activities)
    start = made.serial(random_list(shape, seed))
    right = made.justify_right(start)
    left = made.justify_left(right)
    for schedule in (right, left):
        assert_feasible(shape, mode, schedule)
    assert (right >= start).all()
    assert (left <= right).all()
    assert makespan(shape, mode, right) == makespan(shape, mode, start)
    assert makespan(shape, mode, left) <= makespan(shape, mode, start)
    assert (made.justify(start) == left).all()


@given(projects(), seeds)
@settings(max_examples=60, deadline=None)
def test_justification_by_knots_never_lengthens(shape: Project, seed: int) -> None:
    long = stretched(shape)
    made = generator(long)
    start = made.serial(random_list(long, seed))
    justified = made.justify(start)
    assert_feasible(long, np.arange(long.activities), justified)
    assert makespan(long, np.arange(long.activities), justified) <= makespan(long, np.arange(long.activities), start)


@given(projects(), seeds)
@settings(max_examples=60, deadline=None)
def test_backward_scheme_is_feasible(shape: Project, seed: int) -> None:
    start = generator(shape).serial_backward(random_list(shape, seed)[::-1])
    assert_feasible(shape, np.arange(shape.activities), start)
    assert (start == shape.release).any()


@given(projects(activities=5, longest=4), seeds)
@settings(max_examples=15, deadline=None)
def test_some_list_gives_an_optimal_schedule(shape: Project, seed: int) -> None:
    made = generator(shape)
    mode = np.arange(shape.activities)
    best = min(makespan(shape, mode, made.serial(np.array(order))) for order in lists(shape))
    assert best == least_makespan(shape)


@given(projects(), seeds)
@settings(max_examples=60, deadline=None)
def test_list_by_key_keeps_precedences_and_else_the_keys(shape: Project, seed: int) -> None:
    key = np.random.default_rng(seed).random(shape.activities)
    order = generator(shape).list_by_key(key).tolist()
    assert sorted(order) == list(range(shape.activities))
    assert order in lists(shape) if shape.activities <= 5 else True
    if not len(shape.successor):
        assert order == np.argsort(key).tolist()


def test_many_resources_are_told_apart() -> None:
    # 24 resources with fields of 3 bits and guards take more than one word; only the last is scarce
    demands = [[[1] * 23 + [3]], [[1] * 23 + [2]], [[1] * 23 + [1]]]
    shape = project([[2], [2], [2]], demands, [7] * 23 + [4], [])
    assert generator(shape).network.full.shape[0] > 1
    assert generator(shape).serial(np.array([0, 1, 2])).tolist() == [0, 2, 0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_packed_demands_fit_exactly_where_plain_ones_do(rows: list[tuple[int, int]]) -> None:
    demand, capacity = np.array(rows, np.int64), np.array([10, 12], np.int64)
    need, full, guard = pack(demand, capacity)
    free, word = capacity.copy(), full.copy()
    for row, packed in zip(demand, need, strict=True):
        fits = bool((row <= free).all())
        assert fits == bool((((word - packed) & guard) == guard).all())
        if fits:
            free -= row
            word -= packed


def test_modes_that_cannot_be_had_or_are_worse_in_all_are_left_out() -> None:
    shape = project(
        [[3, 4, 2, 2], [5, 6]],
        [[[1], [1], [9], [2]], [[1], [1]]],
        [4],
        [(0, 1)],
        consumed=[[[1], [1], [0], [1]], [[2], [2]]],
        stock=[3],
    )
    assert generator(shape).mode.tolist() == [0, 3, 4]


def test_a_demand_above_capacity_leaves_no_generator() -> None:
    assert Generator.of(project([[1]], [[[5]]], [4], [])) is None


def test_a_cycle_is_named() -> None:
    with pytest.raises(InputError, match=r"cycle through some of the activities 1, 2"):
        Generator.of(project([[1], [1], [1]], [[[1]], [[1]], [[1]]], [4], [(1, 2), (2, 1)]))


def test_justified_samples_around_a_priority_rule_reach_the_optimum_of_a_public_project() -> None:
    shape = public_project("j301_1.sm")
    made = generator(shape)
    random = np.random.default_rng(3)
    latest_end = made.latest_starts()[1]
    mode = np.arange(shape.activities)
    best = 10**9
    for _ in range(500):
        order = made.list_by_key(latest_end + 12 * random.random(shape.activities))
        start = made.justify(made.serial(order))
        assert_feasible(shape, mode, start)
        best = min(best, makespan(shape, mode, start))
    assert best == 43
