"""Profiles: exact values, bounds, and the way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.learn.rates import (
    PROFILES,
    Constant,
    Cosine,
    DelayedLinear,
    Exponential,
    InverseSqrt,
    InverseTime,
    Linear,
    OneCycle,
    Polynomial,
    Profile,
    Rex,
    Step,
    Tabulated,
    WarmupStableDecay,
)

EXAMPLES: list[Profile] = [
    *(kind() for kind in PROFILES.values()),
    Exponential(0.5),
    Polynomial(0.7),
    Rex(0.1),
    Rex(3.0),
    DelayedLinear(0.8),
    WarmupStableDecay(0.5, "1-sqrt"),
    OneCycle(0.6, 10.0, 5.0),
    Step((0.5, 0.75), 0.2),
    Tabulated((0.1, 1.0, 0.4, 0.0)),
]
EACH = pytest.mark.parametrize("profile", EXAMPLES, ids=repr)
shares = st.floats(0, 1)


def test_rex_starts_at_one_ends_at_zero_and_is_two_thirds_in_the_middle():
    rex = Rex()
    assert (rex(0.0), rex(1.0)) == (1.0, 0.0)
    assert rex(0.5) == pytest.approx(2 / 3, abs=1e-15)


def test_rex_falls_at_rate_one_half_at_first_and_two_at_last():
    h = 1e-6
    assert (Rex()(h) - 1) / h == pytest.approx(-0.5, abs=1e-5)
    assert Rex()(1 - h) / h == pytest.approx(2, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(shares)
def test_rex_with_a_one_is_linear_and_towards_zero_constant(u: float):
    assert Rex(1.0)(u) == pytest.approx(Linear()(u), abs=1e-15)
    assert Rex(1e-9)(min(u, 0.99)) == pytest.approx(1, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(shares, st.floats(0.05, 20))
def test_rex_with_one_over_a_is_the_mirror_image_about_the_linear_profile(u: float, a: float):
    # The mirror takes the point (u, p) to (1 - p, 1 - u).
    assert Rex(1 / a)(1 - Rex(a)(u)) == pytest.approx(1 - u, abs=1e-9)


@pytest.mark.parametrize(
    ("profile", "u", "value"),
    [
        (Constant(), 0.7, 1.0),
        (Linear(), 0.25, 0.75),
        (Cosine(), 0.5, 0.5),
        (Exponential(0.01), 0.5, 0.1),
        (Polynomial(2.0), 0.5, 0.25),
        (InverseSqrt(3.0), 1.0, 0.5),
        (InverseTime(4.0), 0.5, 1 / 3),
        (DelayedLinear(0.5), 0.5, 1.0),
        (DelayedLinear(0.5), 0.75, 0.5),
        (WarmupStableDecay(0.2), 0.8, 1.0),
        (WarmupStableDecay(0.2), 0.9, 0.5),
        (WarmupStableDecay(0.2, "1-sqrt"), 0.85, 0.5),
        (WarmupStableDecay(0.2, "1-sqrt"), 1.0, 0.0),
        (OneCycle(), 0.0, 1 / 25),
        (OneCycle(), 0.3, 1.0),
        (OneCycle(), 1.0, 1 / 250_000),
        (Step((0.3, 0.6, 0.9), 0.1), 0.29, 1.0),
        (Step((0.3, 0.6, 0.9), 0.1), 0.3, 0.1),
        (Step((0.3, 0.6, 0.9), 0.1), 1.0, 0.001),
        (Tabulated((1.0, 0.5, 0.0, 0.5, 0.0)), 0.625, 0.25),
    ],
    ids=repr,
)
def test_values_that_can_be_worked_out_by_hand(profile: Profile, u: float, value: float):
    assert profile(u) == pytest.approx(value, abs=1e-12)


@EACH
def test_every_factor_lies_between_zero_and_one(profile: Profile):
    factors = profile(np.linspace(0, 1, 1001))
    assert factors.shape == (1001,)
    assert factors.min() >= 0
    assert factors.max() <= 1


@EACH
def test_all_but_one_cycle_and_tables_never_rise(profile: Profile):
    rises = bool((np.diff(profile(np.linspace(0, 1, 501))) > 1e-15).any())
    assert rises == (isinstance(profile, OneCycle) or profile == Tabulated((0.1, 1.0, 0.4, 0.0)))


@EACH
def test_an_array_gives_what_its_numbers_give_in_any_shape(profile: Profile):
    u = np.random.default_rng(0).random((3, 5))
    assert profile(u).shape == (3, 5)
    assert [profile(float(x)) for x in u.ravel()] == profile(u).ravel().tolist()


@EACH
def test_outside_the_budget_the_ends_hold(profile: Profile):
    assert (profile(-0.5), profile(1.5)) == (profile(0.0), profile(1.0))


@EACH
def test_a_profile_survives_json(profile: Profile):
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rex(0.0), "a: expected a positive number"),
        (lambda: Rex(float("nan")), "a: "),
        (lambda: Exponential(1.5), "gamma: expected a number in"),
        (lambda: DelayedLinear(1.0), r"delay: expected a number in \[0, 1\)"),
        (lambda: WarmupStableDecay(0.0), "decay: "),
        (lambda: WarmupStableDecay(0.2, "cubic"), "shape: expected linear or 1-sqrt"),
        (lambda: OneCycle(peak=0.0), "peak: "),
        (lambda: Step((0.6, 0.3)), "milestones: expected rising numbers"),
        (lambda: Tabulated((1.0,)), "points: expected at least 2"),
        (lambda: Tabulated((1.0, 2.0)), r"points: expected numbers in \[0, 1\]"),
        (lambda: Profile.from_dict({"name": "sawtooth"}), "name: expected one of constant, linear"),
        (lambda: Profile.from_dict({"name": "rex", "b": 1}), "b: the profile 'rex' has a"),
        (lambda: Profile.from_dict({"name": "rex", "a": "half"}), "'rex'"),
        (lambda: Profile.from_dict({"name": "tabulated", "points": ["x", "y"]}), "points: expected numbers"),
    ],
)
def test_what_no_profile_can_be_is_refused_with_the_name_of_the_parameter(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
