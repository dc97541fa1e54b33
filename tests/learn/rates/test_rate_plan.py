"""Rate plans: closed form, warm-up, floor, reading points, and a budget that changes in mid-run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.learn.rates import PAPER_COMBINATIONS, PROFILES, SAMPLING_RATES, Linear, RatePlan, Rex, plan_named

names = st.sampled_from(sorted(PROFILES))


@st.composite
def plans(draw: st.DrawFn) -> RatePlan:
    steps = draw(st.integers(2, 300))
    options: dict[str, Any] = {
        "warmup": draw(st.integers(0, min(steps - 1, 20))),
        "floor": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "warmup_start": draw(st.sampled_from([0.0, 0.3])),
        "epochs": draw(st.integers(1, 12)),
    }
    sampling = draw(st.sampled_from(["", *(f"@{name}" for name in SAMPLING_RATES), "@12.5-99"]))
    return plan_named(draw(names) + sampling, steps, **options)


def test_rex_over_ten_steps_with_warm_up_and_floor_is_its_formula():
    plan = plan_named("rex", 12, warmup=2, floor=0.1)
    assert plan.factor(0) == 0.0
    assert plan.factor(1) == 0.5
    for step in range(2, 13):
        u = (step - 2) / 10
        assert plan.factor(step) == pytest.approx(0.1 + 0.9 * (1 - u) / (0.5 + 0.5 * (1 - u)), abs=1e-15)


def test_the_warm_up_starts_where_it_is_told_and_is_complete_at_its_last_step():
    factors = plan_named("cosine", 100, warmup=10, warmup_start=0.2).factors()
    assert factors[:11] == pytest.approx(np.linspace(0.2, 1.0, 11), abs=1e-15)


@settings(max_examples=50, deadline=None)
@given(plans(), st.integers(0, 400))
def test_one_factor_is_the_same_number_as_in_the_whole_curve(plan: RatePlan, step: int):
    assert plan.factor(step) == plan.factors(0, 401)[step]


@settings(max_examples=50, deadline=None)
@given(plans())
def test_factors_lie_between_zero_and_one_and_stay_after_the_end(plan: RatePlan):
    factors = plan.factors()
    assert factors.shape == (plan.steps,)
    assert 0 <= factors.min() <= factors.max() <= 1
    assert plan.factor(plan.steps) == plan.factor(plan.steps + 1000)


@settings(max_examples=50, deadline=None)
@given(plans())
def test_after_the_warm_up_no_factor_is_below_the_floor(plan: RatePlan):
    assert plan.factors(plan.warmup, plan.steps + 1).min() >= plan.floor


def test_blocks_of_a_long_curve_fit_together():
    plan = plan_named("wsd", 100_000, warmup=300).with_steps(150_000, at=70_001)
    chosen = np.random.default_rng(0).integers(0, 150_000, 300)
    factors = plan.factors()
    assert [plan.factor(int(step)) for step in chosen] == factors[chosen].tolist()
    assert plan.factors(40_000, 90_000).tolist() == factors[40_000:90_000].tolist()


# Reading points


def test_a_profile_read_at_half_and_three_quarters_is_held_in_between():
    factors = plan_named("linear@50-75", 8).factors()
    assert factors.tolist() == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_a_profile_read_every_epoch_is_held_for_an_epoch():
    factors = plan_named("linear", 10, sampling="every-epoch", epochs=5).factors()
    assert factors == pytest.approx([1, 1, 0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2])


def test_the_last_epoch_may_be_shorter():
    assert plan_named("linear@every-epoch", 10, epochs=3).factors() == pytest.approx([1] * 4 + [0.6] * 4 + [0.2] * 2)


@pytest.mark.parametrize("steps", [10, 30, 70, 1000, 12_340])
def test_steps_on_a_decimal_share_of_the_budget_are_on_the_reading_point(steps: int):
    factors = plan_named("linear@10-20-30-40-50-60-70-80-90", steps).factors()
    falls = np.flatnonzero(np.diff(factors)) + 1
    assert falls.tolist() == [steps * tenth // 10 for tenth in range(1, 10)]


@settings(max_examples=50, deadline=None)
@given(names, st.integers(2, 200))
def test_reading_at_every_step_or_every_epoch_of_one_step_is_the_same(name: str, steps: int):
    whole, each = plan_named(name, steps), plan_named(f"{name}@every-epoch", steps, epoch_steps=1)
    assert whole.factors().tolist() == each.factors().tolist()


@settings(max_examples=50, deadline=None)
@given(names, st.integers(4, 400))
def test_a_held_profile_has_only_values_of_the_profile_at_its_reading_points(name: str, steps: int):
    plan = plan_named(f"{name}@30-60-90", steps)
    assert set(plan.factors().tolist()) <= set(plan.profile(np.array([0.0, 0.3, 0.6, 0.9])).tolist())


def test_a_step_schedule_is_an_exponential_profile_read_at_its_milestones():
    held = plan_named("exponential@30-60-90", 100, gamma=0.1 ** (1 / 0.3))
    assert held.factors() == pytest.approx(plan_named("step", 100, gamma=0.1).factors(), abs=1e-12)


@pytest.mark.parametrize("name", PAPER_COMBINATIONS)
def test_every_combination_of_profile_and_sampling_rate_makes_a_plan(name: str):
    profile, sampling = PAPER_COMBINATIONS[name]
    plan = plan_named(name, 90, epochs=9)
    assert plan.profile.name == profile
    assert plan.sampling == SAMPLING_RATES[sampling]
    assert plan.factor(0) == 1


# A changed budget


@settings(max_examples=50, deadline=None)
@given(plans(), st.data())
def test_after_a_change_the_curve_is_that_of_a_fresh_plan_and_before_it_the_old_one(
    plan: RatePlan, data: st.DataObject
):
    at = data.draw(st.integers(0, plan.steps))
    new = data.draw(st.integers(max(at, plan.warmup + 1), 500))
    changed = plan.with_steps(new, at=at)
    fresh = RatePlan.from_dict(plan.to_dict() | {"steps": new})
    assert changed.steps == new
    assert changed.factors(at, new + 5).tolist() == fresh.factors(at, new + 5).tolist()
    assert changed.factors(0, at).tolist() == plan.factors(0, at).tolist()


@settings(max_examples=50, deadline=None)
@given(plans(), st.data())
def test_any_number_of_changes_leaves_what_was_done_as_it_was(plan: RatePlan, data: st.DataObject):
    done: list[float] = []
    for _ in range(data.draw(st.integers(1, 5))):
        more = data.draw(st.integers(0, 60))
        done += plan.factors(len(done), len(done) + more).tolist()
        plan = plan.with_steps(data.draw(st.integers(max(len(done), plan.warmup + 1), 600)), at=len(done))
        plan = RatePlan.from_dict(json.loads(json.dumps(plan.to_dict())))
        assert plan.factors(0, len(done)).tolist() == done
        assert [plan.factor(step) for step in range(len(done))] == done


def test_going_back_to_a_checkpoint_forgets_changes_that_came_after_it():
    plan = plan_named("linear", 100)
    late = plan.with_steps(200, at=80)
    assert late.with_steps(150, at=50) == plan.with_steps(150, at=50)


def test_a_change_at_the_start_or_to_the_same_budget_is_no_change():
    plan = plan_named("rex", 100)
    assert plan.with_steps(70, at=0) == plan_named("rex", 70)
    assert plan.with_steps(100, at=40) == plan
    assert plan.with_steps(120, at=40).with_steps(100, at=40) == plan


# The way through JSON, and mistakes


@settings(max_examples=50, deadline=None)
@given(plans())
def test_a_plan_survives_json(plan: RatePlan):
    assert RatePlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RatePlan(Rex(), 0), "steps: expected a whole number of at least 1"),
        (lambda: RatePlan(Rex(), 10.5), "steps: "),
        (lambda: RatePlan(Rex(), True), "steps: "),
        (lambda: RatePlan("rex", 10), "profile: expected a Profile"),
        (lambda: RatePlan(Rex(), 10, warmup=10), "warmup: expected fewer steps than the budget of 10"),
        (lambda: RatePlan(Rex(), 10, floor=1.5), "floor: "),
        (lambda: RatePlan(Rex(), 10, floor=float("nan")), "floor: "),
        (lambda: RatePlan(Rex(), 10, warmup_start="0"), "warmup_start: "),
        (lambda: RatePlan(Rex(), 10, sampling="sometimes"), "sampling: "),
        (lambda: RatePlan(Rex(), 10, sampling=(0.5, 0.5)), "sampling: expected rising numbers"),
        (lambda: RatePlan(Rex(), 10, sampling=()), "sampling: "),
        (lambda: RatePlan(Rex(), 10, sampling="every-epoch"), "epoch_steps: "),
        (lambda: RatePlan(Rex(), 10, earlier=((5, 20), (5, 30))), "earlier: "),
        (lambda: RatePlan(Rex(), 10).factor(-1), "step: "),
        (lambda: RatePlan(Rex(), 10).factors(5, 3), "start: "),
        (lambda: RatePlan(Rex(), 10).with_steps(4, at=5), "steps: expected a whole number of at least 5"),
        (lambda: RatePlan(Rex(), 10).with_steps(4, at=-1), "at: "),
        (lambda: plan_named("triangle", 10), "name: expected one of constant, linear"),
        (lambda: plan_named("rex", 10, decay=0.2), "decay: unknown; 'rex' takes a, epoch_steps"),
        (lambda: plan_named("rex@now-and-then", 10), "sampling: expected every-step"),
        (lambda: plan_named("rex@50-75", 10, sampling="every-step"), "sampling: given twice"),
        (lambda: plan_named("rex@every-epoch", 10, epochs=2, epoch_steps=5), "epochs: given together"),
        (lambda: RatePlan.from_dict({"profile": {"name": "rex"}}), "steps: missing"),
        (lambda: RatePlan.from_dict({"profile": 3, "steps": 10}), "profile: expected an object"),
        (lambda: RatePlan.from_dict({"profile": {"name": "re"}, "steps": 10}), "profile: name: expected one of"),
        (lambda: RatePlan.from_dict(RatePlan(Linear(), 10).to_dict() | {"lr": 1}), "lr: unknown"),
        (lambda: RatePlan.from_dict(RatePlan(Linear(), 10).to_dict() | {"earlier": [3]}), "earlier: "),
    ],
)
def test_what_no_plan_can_be_is_refused_with_the_name_of_the_field(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
