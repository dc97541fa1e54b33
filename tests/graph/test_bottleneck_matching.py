"""Facts about bottleneck matchings, against enumeration and against the procedure that the placement papers use."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pathloom.graph.bottleneck_matching import bottleneck_matching, bottleneck_value

Floats = NDArray[np.float64]


def by_enumeration(cost: Floats) -> tuple[float, float]:
    """Least largest entry, and the least sum among the matchings that have it."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    n, m = cost.shape
    entries = [cost[range(n), list(columns)] for columns in permutations(range(m), n)]
    return min((float(e.max()), float(e.sum())) for e in entries)


def by_deleting_edges(cost: Floats) -> float:
    """Delete the heaviest edges one by one until no perfect matching is left; the last one is the bottleneck."""
    left = cost.copy()
    for edge in np.argsort(cost, axis=None)[::-1]:
        at = np.unravel_index(edge, cost.shape)
        left[at] = np.inf
        try:
            linear_sum_assignment(left)
        except ValueError:
            return float(cost[at])
    raise AssertionError("a matching without any edge")


@st.composite
def costs(draw: st.DrawFn) -> Floats:
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    entries = st.lists(st.integers(0, draw(st.sampled_from([2, 9, 100]))), min_size=n * m, max_size=n * m)
    return np.array(draw(entries), dtype=np.float64).reshape(n, m)


@settings(deadline=None)
@given(costs())
def test_no_matching_has_a_smaller_bottleneck_nor_a_smaller_sum_at_it(cost: Floats) -> None:
    found = bottleneck_matching(cost)
    assert (found.bottleneck, found.total) == by_enumeration(cost)
    assert bottleneck_value(cost) == found.bottleneck


@settings(deadline=None)
@given(costs())
def test_the_pairs_are_a_matching_of_the_smaller_side_and_have_the_stated_values(cost: Floats) -> None:
    found = bottleneck_matching(cost)
    assert len(found.rows) == len(found.columns) == min(cost.shape)
    assert len(set(found.rows.tolist())) == len(set(found.columns.tolist())) == min(cost.shape)
    assert np.all(np.diff(found.rows) > 0)
    entries = cost[found.rows, found.columns]
    assert entries.max() == found.bottleneck
    assert entries.sum() == pytest.approx(found.total)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 25])
@pytest.mark.parametrize("distinct", [3, 10_000])
def test_threshold_equals_deleting_the_heaviest_edges_one_by_one(n: int, distinct: int) -> None:
    rng = np.random.default_rng(n * distinct)
    for _ in range(10 if n < 10 else 2):
        cost = rng.integers(distinct, size=(n, n)) / 7.0
        assert bottleneck_value(cost) == by_deleting_edges(cost)


@pytest.mark.parametrize("shape", [(40, 40), (40, 41), (62, 63), (80, 30), (1, 50)])
def test_edges_below_the_bottleneck_hold_no_matching_and_those_up_to_it_do(shape: tuple[int, int]) -> None:
    cost = np.random.default_rng(sum(shape)).random(shape)
    value = bottleneck_value(cost)
    linear_sum_assignment(np.where(cost <= value, cost, np.inf))
    with pytest.raises(ValueError, match="infeasible"):
        linear_sum_assignment(np.where(cost < value, cost, np.inf))


def test_the_sum_is_traded_for_the_bottleneck() -> None:
    # The cheapest assignment is 1 + 1 + 8; the fairest never pays more than 5.
    cost = np.array([[1.0, 5.0, 9.0], [9.0, 1.0, 5.0], [5.0, 9.0, 8.0]])
    found = bottleneck_matching(cost)
    assert (found.bottleneck, found.total) == (5.0, 15.0)
    rows, columns = linear_sum_assignment(cost)
    assert cost[rows, columns].sum() == 10.0


def test_a_larger_side_leaves_its_dearest_nodes_out() -> None:
    cost = np.array([[9.0, 9.0], [1.0, 2.0], [2.0, 1.0], [9.0, 9.0]])
    found = bottleneck_matching(cost)
    assert found.rows.tolist() == [1, 2]
    assert found.columns.tolist() == [0, 1]


def test_forbidden_pairs_are_avoided_and_their_lack_of_a_matching_is_said() -> None:
    inf = np.inf
    assert bottleneck_matching([[inf, 3.0], [2.0, inf]]).bottleneck == 3.0
    stuck = [[1.0, inf], [1.0, inf]]
    assert bottleneck_value(stuck) == inf
    with pytest.raises(ValueError, match="no matching of 2 pairs"):
        bottleneck_matching(stuck)


@pytest.mark.parametrize("cost", [[], [1.0, 2.0], [[]], [[np.nan]]])
def test_what_is_no_cost_matrix_is_refused(cost: list) -> None:
    with pytest.raises(ValueError, match="cost"):
        bottleneck_matching(cost)
