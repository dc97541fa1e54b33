"""The bound on the last iterate: its formula, its exact and its numerical minimiser, and how near the closed form
comes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.learn.rates.last_iterate_bound import (
    bound_at_best_rate,
    last_iterate_bound,
    least_bound_steps,
    minimise_bound,
)
from pathloom.learn.rates.refinement import refined_factors

T = 200
U = np.arange(T) / T
SHAPES = {
    "constant": np.ones(T),
    "falling": 1 + 4 * np.exp(-U / 0.1),
    "falling then rising": 1 + 3 * np.exp(-U / 0.1) + 1.5 * U**2,
    "falling lower": 0.4 + 0.6 * (1 - U),
}


@cache
def numerical(shape: str) -> np.ndarray:
    return minimise_bound(SHAPES[shape], 3.0)


series = st.lists(st.floats(0.1, 10), min_size=2, max_size=25).map(np.array)


def as_published(x: np.ndarray, g: np.ndarray, distance: float) -> float:
    """The bound with its double sum, written out."""
    left = [x[k:].sum() for k in range(len(x))]
    rest = [(g[k:] ** 2 * x[k:] ** 2).sum() for k in range(len(x))]
    nested = sum(x[k] / (left[k + 1] * left[k]) * rest[k] for k in range(len(x) - 1))
    return distance**2 / (2 * left[0]) + rest[0] / (2 * left[0]) + nested / 2


@settings(max_examples=100, deadline=None)
@given(series, st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_the_bound_of_one_pass_is_the_published_one(g: np.ndarray, seed: int, distance: float):
    x = np.random.default_rng(seed).uniform(0.01, 1, len(g))
    assert last_iterate_bound(x, g, distance) == pytest.approx(as_published(x, g, distance), rel=1e-10)


def test_one_step_has_the_textbook_bound():
    # D^2 / (2 x) + G^2 x / 2, least at x = D / G, where it is D G.
    assert last_iterate_bound([0.5], [2.0], 3.0) == pytest.approx(9 / 1 + 4 * 0.5 / 2)
    assert least_bound_steps([2.0], 3.0) == pytest.approx([1.5])
    assert last_iterate_bound([1.5], [2.0], 3.0) == pytest.approx(6.0)


@settings(max_examples=100, deadline=None)
@given(series, st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_no_change_of_the_exact_minimiser_lowers_the_bound(g: np.ndarray, distance: float, seed: int):
    x = least_bound_steps(g, distance)
    least = last_iterate_bound(x, g, distance)
    random = np.random.default_rng(seed)
    for size in (1e-3, 0.1, 1.0):
        assert last_iterate_bound(x * np.exp(size * random.normal(size=len(x))), g, distance) >= least * (1 - 1e-12)
    assert (x > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_numerical_minimiser_finds_the_exact_one(shape: str):
    exact, found = least_bound_steps(SHAPES[shape], 3.0), numerical(shape)
    assert found == pytest.approx(exact, abs=1e-3 * exact.max())
    least = last_iterate_bound(exact, SHAPES[shape], 3.0)
    assert least <= last_iterate_bound(found, SHAPES[shape], 3.0) <= least * (1 + 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_closed_form_comes_within_five_percent_of_the_least_bound(shape: str):
    g = SHAPES[shape]
    least = last_iterate_bound(numerical(shape), g, 3.0)
    assert least * (1 - 1e-6) <= bound_at_best_rate(refined_factors(g, "l2"), g, 3.0) <= 1.05 * least


@pytest.mark.parametrize("shape", ["falling", "falling then rising", "falling lower"])
def test_refined_factors_have_a_lower_bound_than_linear_decay_where_norms_change(shape: str):
    g = SHAPES[shape]
    assert bound_at_best_rate(refined_factors(g), g, 1.0) < 0.95 * bound_at_best_rate(1 - U, g, 1.0)


def test_linear_decay_has_a_lower_bound_than_a_constant_rate():
    g = np.ones(T)
    assert bound_at_best_rate(1 - U, g, 1.0) < 0.8 * bound_at_best_rate(np.ones(T), g, 1.0)


@settings(max_examples=15, deadline=None)
@given(series, st.floats(0.1, 10))
def test_the_best_rate_is_best(g: np.ndarray, distance: float):
    factors = np.linspace(1, 0.2, len(g))
    tried = min(last_iterate_bound(rate * factors, g, distance) for rate in np.geomspace(1e-4, 1e3, 500))
    assert bound_at_best_rate(factors, g, distance) == pytest.approx(tried, rel=1e-3)


def test_steps_of_size_zero_at_the_end_do_not_count():
    assert last_iterate_bound([0.3, 0.2, 0.0], [1.0, 2.0, 5.0], 1.0) == last_iterate_bound([0.3, 0.2], [1.0, 2.0], 1.0)


def test_steps_that_never_move_or_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="steps: expected at least one positive"):
        last_iterate_bound([0.0, 0.0], [1.0, 1.0], 1.0)
    with pytest.raises(ValueError, match="norms: expected as many as steps"):
        last_iterate_bound([0.1, 0.1], [1.0], 1.0)
