"""Facts about which stages may be used up under the caps of TC1."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_networks import all_orders

from pathloom.worlds.train.problem import Reordering
from pathloom.worlds.train.stage_budget import StageBudget


def admissible_sets(n_stages: int, length: int, jump: int) -> list[NDArray[np.bool_]]:
    found = {frozenset(order) for order in all_orders(n_stages, length, Reordering(jump=jump))}
    return [np.isin(np.arange(n_stages), list(members)) for members in sorted(found, key=sorted)]


def assignment_exists(room: NDArray[np.int64], count: int, sets: list[NDArray[np.bool_]]) -> bool:
    """By trying all multisets of admissible sets."""
    return any(
        (sum((s[1:].astype(int) for s in chosen), np.zeros(len(room) - 1, dtype=int)) <= room[1:]).all()
        for chosen in combinations_with_replacement(sets, count)
    )


@st.composite
def instances(draw: st.DrawFn) -> tuple[NDArray[np.int64], int, int, int]:
    n_stages = draw(st.integers(2, 6))
    length = draw(st.integers(2, n_stages))
    jump = draw(st.integers(1, 5))
    count = draw(st.integers(1, 4))
    room = draw(st.lists(st.integers(0, count + 1), min_size=n_stages, max_size=n_stages))
    return np.array(room), count, length, jump


@settings(max_examples=250, deadline=None)
@given(instances())
def test_an_assignment_is_possible_exactly_if_one_is_found_by_trying_all(
    instance: tuple[NDArray[np.int64], int, int, int],
) -> None:
    room, count, length, jump = instance
    sets = admissible_sets(len(room), length, jump)
    assert StageBudget(room, count, length, jump).possible == assignment_exists(room, count, sets)


@settings(max_examples=250, deadline=None)
@given(instances(), st.randoms(use_true_random=False))
def test_whoever_takes_what_is_allowed_never_runs_into_a_dead_end(instance, random) -> None:  # type: ignore[no-untyped-def]
    room, count, length, jump = instance
    budget = StageBudget(room, count, length, jump)
    sets = admissible_sets(len(room), length, jump)
    used = np.zeros(len(room), dtype=int)
    for left in range(count, 0, -1) if budget.possible else ():
        assert sum(part.count for part in budget.parts) == left
        offered = [visited for part in budget.parts for visited in budget.sets(part)]
        assert offered
        assert all(budget.allows(visited) for visited in offered)
        assert all(any((visited == s).all() for s in sets) for visited in offered)
        allowed = [s for s in sets if budget.allows(s)]
        chosen = random.choice(allowed)
        budget.take(chosen)
        used += chosen
        assert (used[1:] <= room[1:]).all()
    assert not budget.possible or budget.parts == []


@settings(max_examples=150, deadline=None)
@given(instances())
def test_a_set_is_refused_only_if_it_leaves_no_assignment(
    instance: tuple[NDArray[np.int64], int, int, int],
) -> None:
    room, count, length, jump = instance
    budget = StageBudget(room, count, length, jump)
    if len(budget.parts) != 1 or len(budget.parts[0].room) != len(room):
        return  # divided by where routes end, some of the freedom is given up
    for part_set in admissible_sets(len(room), length, jump):
        left = room - part_set
        remains = (left[1:] >= 0).all() and StageBudget(left, count - 1, length, jump)
        if budget.allows(part_set):
            assert remains and remains.possible
        elif remains and remains.possible:
            # only routes that end with more than `jump` stages left could still make it
            assert len(remains.parts) != 1 or len(remains.parts[0].room) != len(room)


def test_with_jumps_of_one_all_visit_the_first_stages() -> None:
    budget = StageBudget(np.array([0, 7, 7, 7, 7]), 7, 3, 1)
    assert budget.possible
    assert [np.flatnonzero(s).tolist() for part in budget.parts for s in budget.sets(part)] == [[0, 1, 2]]


def test_what_is_not_allowed_cannot_be_taken() -> None:
    budget = StageBudget(np.array([0, 1, 2, 1]), 2, 3, 4)
    with pytest.raises(ValueError, match="leave no assignment"):
        budget.take(np.array([True, True, False, True]))


def test_three_thousand_microbatches_share_caps_that_are_exactly_enough() -> None:
    budget = StageBudget(np.full(16, 2000), 3000, 11, 4)
    rng = np.random.default_rng(0)
    used = np.zeros(16, dtype=int)
    while budget.parts:
        options = list(budget.sets(budget.parts[0]))
        chosen = options[rng.integers(len(options))]
        budget.take(chosen)
        used += chosen
    assert used.tolist() == [3000] + [2000] * 15
