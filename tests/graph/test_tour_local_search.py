"""Facts about the local search for paths and tours, against the exact method where that reaches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.graph._tour_kernels import _write_move
from pathloom.graph.held_karp import held_karp
from pathloom.graph.tour_local_search import tour_local_search


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**31), st.booleans(), st.booleans())
def test_it_is_a_tour_of_its_stated_cost_and_never_beats_the_best(n: int, seed: int, closed: bool, fixed: bool) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.integers(1, 50, size=(n, n)).astype(float)
    start = int(rng.integers(n)) if fixed or closed else None
    tour = tour_local_search(cost, closed=closed, start=start)
    assert sorted(tour.order.tolist()) == list(range(n))
    assert start is None or tour.order[0] == start
    walked = float(cost[tour.order[:-1], tour.order[1:]].sum())
    if closed and n > 1:
        walked += float(cost[tour.order[-1], tour.order[0]])
    assert tour.cost == walked
    assert tour.cost >= held_karp(cost, closed=closed, start=start).cost


def test_in_the_plane_it_stays_close_to_the_best_tour() -> None:
    rng = np.random.default_rng(8)
    for closed in (True, False):
        ratios = []
        for _ in range(10):
            where = rng.random((13, 2))
            cost = np.linalg.norm(where[:, None] - where[None, :], axis=2)
            ratios.append(tour_local_search(cost, closed=closed).cost / held_karp(cost, closed=closed).cost)
        assert np.mean(ratios) < 1.05


def test_forty_points_on_a_circle_are_toured_around_it() -> None:
    angle = np.random.default_rng(3).permutation(40) * 2 * np.pi / 40
    where = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    cost = np.linalg.norm(where[:, None] - where[None, :], axis=2)
    assert tour_local_search(cost, closed=True).cost == pytest.approx(40 * 2 * np.sin(np.pi / 40))


def test_points_keep_to_positions_of_their_own_kind() -> None:
    rng = np.random.default_rng(1)
    kind = np.array([0, 1, 1, 2, 1, 2, 1, 1, 2, 1])
    cost = rng.random((10, 10))
    allowed = kind[:, None] == kind[None, :]
    tour = tour_local_search(cost, closed=True, start=0, allowed=allowed)
    assert kind[tour.order].tolist() == kind.tolist()
    assert tour.cost >= held_karp(cost, closed=True, start=0, allowed=allowed).cost
    assert tour.cost <= float(cost[np.arange(10), np.roll(np.arange(10), -1)].sum())
    with pytest.raises(ValueError, match="no order puts every point"):
        tour_local_search(np.ones((3, 3)), allowed=[[1, 0, 0], [1, 0, 0], [1, 1, 1]])


def test_missing_ways_are_avoided_where_the_moves_can() -> None:
    n = 12
    step = np.full((n, n), np.inf)
    line = np.random.default_rng(5).permutation(n)
    step[line[:-1], line[1:]] = step[line[1:], line[:-1]] = 1.0
    tour = tour_local_search(step)
    assert tour.cost == n - 1
    with pytest.raises(ValueError, match="no order of finite cost"):
        tour_local_search(step, closed=True)


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(3, 7), st.data())
def test_moves_are_what_they_say(kind: int, m: int, data: st.DataObject) -> None:
    length = {2: 1, 3: 2, 4: 3, 5: 2, 6: 3}.get(kind, 1)
    i = data.draw(st.integers(0, m - length))
    j = data.draw(st.integers(i if kind < 2 else 0, m - length))
    order = np.arange(m)
    moved = np.empty(m, np.int64)
    _write_move(order, kind, i, j, moved)
    names = order.tolist()
    if kind == 0:
        expected = names[:i] + names[i : j + 1][::-1] + names[j + 1 :]
    elif kind == 1:
        expected = names.copy()
        expected[i], expected[j] = names[j], names[i]
    else:
        segment, rest = names[i : i + length], names[:i] + names[i + length :]
        expected = rest[:j] + (segment[::-1] if kind >= 5 else segment) + rest[j:]
    assert moved.tolist() == expected
