"""Refinement: linear decay from equal norms, a warm-up from norms that fall, and a guard against norms that vanish."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.learn.rates import GradientNormRecord, fit_power, refine
from pathloom.learn.rates.pictures import power_curve
from pathloom.learn.rates.refinement import refined_factors, smooth_norms

T = 1000
U = np.linspace(0, 1, T)
LINEAR = 1 - U


def spread(seed: int = 0, size: int = T) -> np.ndarray:
    """Factors around 1, as norms of small batches have them."""
    return np.exp(0.3 * np.random.default_rng(seed).normal(size=size))


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("level", [1e-30, 0.3, 1e12])
def test_equal_norms_give_linear_decay(norm, level: float):
    assert refined_factors(np.full(T, level), norm) == pytest.approx(LINEAR, abs=1e-12)
    found = refine(np.full(T, level), norm=norm)
    assert found.profile(U) == pytest.approx(LINEAR, abs=1e-12)
    assert not found.guarded
    assert found.reason == ""
    assert found.power_fit == pytest.approx((0, 1), abs=0.01)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=40), st.sampled_from(["l1", "l2"]))
def test_the_closed_form_is_weight_times_later_weights(norms: list[float], norm):
    w = [1 / g**2 if norm == "l2" else 1 / g for g in norms]
    by_hand = np.array([w[t] * sum(w[t + 1 :]) for t in range(len(w))])
    assert refined_factors(norms, norm) == pytest.approx(by_hand / by_hand.max(), abs=1e-9)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_norms_that_fall_at_the_start_give_a_warm_up_and_a_decay_to_zero(norm):
    found = refine((1 + 4 * np.exp(-U / 0.08)) * spread(), norm=norm)
    factors = found.profile(U)
    assert not found.guarded
    assert factors[0] < 0.5
    assert 0.05 < factors.argmax() / T < 0.45
    assert factors[-1] == 0
    assert factors[900] < 0.3
    assert found.power_fit[0] > 0.05


def test_the_adam_form_reacts_less_than_the_sgd_form():
    norms = 1 + 4 * np.exp(-U / 0.08)
    assert refine(norms, norm="l1").profile(0.0) > refine(norms, norm="l2").profile(0.0)


def test_norms_that_rise_make_the_rate_fall_faster_than_linear():
    assert (refine(1 + U).profile(U)[1:-1] < LINEAR[1:-1]).all()


def test_the_record_gives_what_the_array_gives():
    norms = (1 + 4 * np.exp(-U / 0.1)) * spread()
    record = GradientNormRecord()
    for step, norm in enumerate(norms):
        record.add(step, norm)
    assert refine(record).profile == refine(norms).profile


def test_a_long_run_in_little_memory_gives_nearly_the_same_schedule():
    n = 30_000
    norms = (1 + 4 * np.exp(-np.arange(n) / (0.1 * n))) * spread(size=n)
    record = GradientNormRecord(capacity=256)
    for step, norm in enumerate(norms):
        record.add(step, norm)
    assert refine(record).profile(U) == pytest.approx(refine(norms).profile(U), abs=0.08)


def test_a_few_odd_norms_change_next_to_nothing():
    norms = 1 + 4 * np.exp(-U / 0.1)
    spoiled = norms.copy()
    spoiled[[0, 50, 400, 700, 999]] = [1e6, 1e-6, 1e6, 0.0, 1e-6]
    spoiled[[100, 600]] = [np.inf, np.nan]
    assert refine(spoiled).profile(U) == pytest.approx(refine(norms).profile(U), abs=0.03)


# Smoothing


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 200), st.floats(0, 0.5), st.integers(0, 2**32 - 1))
def test_the_running_median_repeats_the_start_and_mirrors_the_end(n: int, smoothing: float, seed: int):
    norms = np.random.default_rng(seed).random(n)
    half = int(smoothing * n / 2)
    padded = np.concatenate([np.full(half, norms[0]), norms, norms[::-1][1 : half + 1]])
    by_hand = [np.median(padded[i : i + 2 * half + 1]) for i in range(n)]
    assert smooth_norms(norms, smoothing).tolist() == by_hand


def test_no_smoothing_leaves_the_norms_alone():
    assert smooth_norms(spread(), 0.0).tolist() == spread().tolist()


# Guard


@pytest.mark.parametrize(
    "norms",
    [np.exp(-8 * U) + 1e-6, 0.001 + (U < 0.85), np.where(U < 0.7, 1.0, 0.0)],
    ids=["falling all the time", "sudden", "exactly zero"],
)
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_norms_that_collapse_fall_back_to_linear_and_say_why(norms: np.ndarray, norm):
    found = refine(norms * spread(), norm=norm)
    assert found.guarded
    assert "the gradient norms collapse" in found.reason
    assert found.profile(U) == pytest.approx(LINEAR, abs=1e-12)
    # What the guard saves from: a rate that is highest near the end.
    assert found.unguarded.argmax() / T > 0.6


def test_without_the_guard_the_rate_rises_to_the_end():
    found = refine(np.exp(-8 * U) + 1e-6, guard=False)
    assert not found.guarded
    assert found.profile(U).argmax() / T > 0.8


def test_a_peak_after_sixty_percent_is_refused_even_where_the_norms_end_high_enough():
    found = refine(0.2 + 0.8 * (1 - U))
    assert found.guarded
    assert "would rise until" in found.reason
    assert found.profile(U) == pytest.approx(LINEAR, abs=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_norms_of_which_few_batches_have_most_are_refused(norm):
    settled = 1 + 4 * np.exp(-U / 0.08)
    assert not refine(settled * spread(), norm=norm).guarded
    found = refine(settled * spread() ** 4, norm=norm)
    assert found.guarded
    assert "the gradient norms scatter" in found.reason
    assert found.profile(U) == pytest.approx(LINEAR, abs=1e-12)


def test_a_fall_at_the_start_apart_from_the_collapse_keeps_its_warm_up():
    settled = 1 + 4 * np.exp(-U / 0.05)
    found = refine(np.where(U < 0.8, settled, 0.01) * spread())
    assert found.guarded
    peak = found.profile(U).argmax() / T
    assert 0.02 < peak <= 0.2
    down = found.profile(U)[U > 0.25]
    assert np.diff(down) == pytest.approx(np.full(len(down) - 1, down[1] - down[0]), abs=1e-9)


def test_rising_and_slightly_falling_norms_pass_the_guard():
    for norms in (1 + U, 1 - 0.4 * U, 1 + 9 * np.exp(-U / 0.02)):
        assert not refine(norms * spread()).guarded


# The power that sums a schedule up


@pytest.mark.parametrize(("p", "q"), [(0.01, 3.0), (0.0, 1.5), (0.28, 1.0), (0.45, 0.8), (0.2, 0.9), (0.4, 0.9)])
def test_the_fit_finds_the_warm_up_and_the_power_of_a_curve_of_that_form(p: float, q: float):
    assert fit_power(power_curve(p, q, 2000)) == pytest.approx((p, q), abs=0.02, rel=0.03)


# Mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: refine(np.ones(100), norm="l3"), "norm: expected l1 or l2"),
        (lambda: refine(np.ones(100), smoothing=1.0), "smoothing: "),
        (lambda: refine(np.ones(100), points=3), "points: "),
        (lambda: refine(np.ones(19)), "expected at least 20 gradient norms, found 19"),
        (lambda: refine(np.r_[np.ones(19), [np.nan] * 30]), "found 19"),
        (lambda: refine(GradientNormRecord()), "found 0"),
        (lambda: refine(-np.ones(100)), "none of them negative"),
        (lambda: refine(np.zeros(100)), "zero"),
    ],
)
def test_norms_that_say_nothing_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
