"""Facts about exact paths and tours, against enumeration."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pathloom.graph.held_karp import MAX_POINTS, held_karp

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def price(cost: Floats, order: tuple[int, ...], closed: bool) -> float:
    steps = list(pairwise(order)) + ([(order[-1], order[0])] if closed and len(order) > 1 else [])
    return float(sum(cost[i, j] for i, j in steps))


def orders(n: int, start: int | None, allowed: Mask | None = None) -> list[tuple[int, ...]]:
    return [
        order
        for order in permutations(range(n))
        if (start is None or order[0] == start)
        and (allowed is None or all(allowed[point, position] for position, point in enumerate(order)))
    ]


@st.composite
def instances(draw: st.DrawFn) -> tuple[Floats, int | None]:
    n = draw(st.integers(1, 6))
    cost = draw(st.lists(st.integers(0, 20), min_size=n * n, max_size=n * n))
    return np.array(cost, dtype=np.float64).reshape(n, n), draw(st.none() | st.integers(0, n - 1))


@settings(deadline=None)
@given(instances(), st.booleans())
def test_no_order_is_cheaper(instance: tuple[Floats, int | None], closed: bool) -> None:
    cost, start = instance
    tour = held_karp(cost, closed=closed, start=start)
    order = tuple(tour.order.tolist())
    assert tour.cost == min(price(cost, o, closed) for o in orders(len(cost), start))
    assert price(cost, order, closed) == tour.cost
    assert order in orders(len(cost), start)


@settings(deadline=None)
@given(instances(), st.booleans())
def test_of_equally_cheap_orders_the_first_in_lexicographic_order_is_given(
    instance: tuple[Floats, int | None], closed: bool
) -> None:
    cost, start = instance
    start = 0 if closed and start is None else start
    tour = held_karp(cost, closed=closed, start=start)
    assert tuple(tour.order.tolist()) == min(o for o in orders(len(cost), start) if price(cost, o, closed) == tour.cost)


@settings(deadline=None)
@given(instances(), st.booleans(), st.integers(0, 2**31))
def test_positions_that_are_not_allowed_stay_empty(
    instance: tuple[Floats, int | None], closed: bool, seed: int
) -> None:
    cost, start = instance
    start = 0 if closed and start is None else start
    allowed = np.random.default_rng(seed).random(cost.shape) < 0.7
    if start is not None:
        allowed[start, 0] = True
    possible = orders(len(cost), start, allowed)
    if not possible:
        with pytest.raises(ValueError, match="no allowed order"):
            held_karp(cost, closed=closed, start=start, allowed=allowed)
        return
    tour = held_karp(cost, closed=closed, start=start, allowed=allowed)
    assert tuple(tour.order.tolist()) in possible
    assert tour.cost == min(price(cost, o, closed) for o in possible)


def test_points_on_a_line_are_visited_from_end_to_end() -> None:
    x = np.array([3.0, 0.0, 7.0, 5.0, 1.0])
    cost = np.abs(x[:, None] - x[None, :])
    assert held_karp(cost).cost == 7.0
    assert held_karp(cost, closed=True).cost == 14.0
    # From the middle the shorter side has to be walked twice.
    assert held_karp(cost, start=0).cost == 3.0 + 7.0


def test_sixteen_points_on_a_circle_are_toured_around_it() -> None:
    angle = np.random.default_rng(3).permutation(16) * 2 * np.pi / 16
    where = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    cost = np.linalg.norm(where[:, None] - where[None, :], axis=2)
    side = 2 * np.sin(np.pi / 16)
    assert held_karp(cost, closed=True, start=5).cost == pytest.approx(16 * side)
    assert held_karp(cost).cost == pytest.approx(15 * side)


def test_a_missing_way_is_gone_around_or_reported() -> None:
    inf = np.inf
    ring = np.array([[0, 1, inf], [inf, 0, 1], [1, inf, 0]])
    assert held_karp(ring, closed=True).cost == 3.0
    assert held_karp(ring, start=1).order.tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="no allowed order"):
        held_karp(np.where(np.eye(3) > 0, 0.0, inf))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="square"):
        held_karp(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="NaN"):
        held_karp([[np.nan]])
    with pytest.raises(ValueError, match="start is 4"):
        held_karp(np.zeros((3, 3)), start=4)
    with pytest.raises(ValueError, match="needs a `start`"):
        held_karp(np.zeros((3, 3)), closed=True, allowed=np.ones((3, 3)))
    with pytest.raises(ValueError, match="not allowed at position 0"):
        held_karp(np.zeros((2, 2)), start=1, allowed=np.eye(2))
    with pytest.raises(ValueError, match="expected \\(3, 3\\)"):
        held_karp(np.zeros((3, 3)), allowed=np.ones((2, 2)))
    with pytest.raises(ValueError, match="too many"):
        held_karp(np.zeros((MAX_POINTS + 1, MAX_POINTS + 1)))
