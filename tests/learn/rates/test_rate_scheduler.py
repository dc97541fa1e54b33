"""The scheduler for torch: equal to torch's own where the definitions meet, and the same after every way of
resuming."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.learn.rates import PROFILES, OneCycle, Polynomial, RatePlan, Step, plan_named

torch = pytest.importorskip("torch")

from torch.optim import SGD, Optimizer, lr_scheduler  # noqa: E402

from pathloom.learn.rates.torch_scheduler import RateScheduler  # noqa: E402

STEPS = 50
BASES = (0.3, 0.01)


def optimizer(bases: tuple[float, ...] = BASES) -> SGD:
    return SGD([{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": base} for base in bases])


def rates(used: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in used.param_groups]


def run(used: Optimizer, scheduler: lr_scheduler.LRScheduler, steps: int) -> list[list[float]]:
    """The rates with which the next `steps` steps are made."""
    made = []
    for _ in range(steps):
        made.append(rates(used))
        used.step()
        scheduler.step()
    return made


def expected(plan: RatePlan, start: int, stop: int) -> list[list[float]]:
    return [[base * plan.factor(step) for base in BASES] for step in range(start, stop)]


@pytest.mark.parametrize(
    ("plan", "torchs"),
    [
        (plan_named("linear", STEPS), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=STEPS)),
        (plan_named("linear", STEPS, floor=0.25), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.25, total_iters=STEPS)),
        (
            plan_named("constant", STEPS, warmup=20, warmup_start=0.1),
            lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, total_iters=20),
        ),
        (plan_named("cosine", STEPS), lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS)),
        (RatePlan(Polynomial(1.7), STEPS), lambda o: lr_scheduler.PolynomialLR(o, total_iters=STEPS, power=1.7)),
        (RatePlan(Step((0.5, 0.74), 0.2), STEPS), lambda o: lr_scheduler.MultiStepLR(o, [25, 37], gamma=0.2)),
        (plan_named("exponential", STEPS, gamma=0.3), lambda o: lr_scheduler.ExponentialLR(o, 0.3 ** (1 / STEPS))),
    ],
    ids=[
        "LinearLR",
        "LinearLR with floor",
        "warm-up",
        "CosineAnnealingLR",
        "PolynomialLR",
        "MultiStepLR",
        "ExponentialLR",
    ],
)
def test_the_rates_are_those_of_torchs_scheduler(plan: RatePlan, torchs: Callable[[SGD], lr_scheduler.LRScheduler]):
    ours, theirs = optimizer(), optimizer()
    made, wanted = run(ours, RateScheduler(ours, plan), STEPS), run(theirs, torchs(theirs), STEPS)
    for a, b in zip(made, wanted):
        assert a == pytest.approx(b, abs=1e-12)


def test_one_cycle_has_the_shape_of_torchs():
    # torch counts to STEPS - 1 and peaks a step before the share that it is given.
    ours, theirs = optimizer(), optimizer()
    plan = RatePlan(OneCycle(peak=(0.3 * STEPS - 1) / (STEPS - 1)), STEPS - 1)
    made = run(ours, RateScheduler(ours, plan), STEPS)
    cycle = lr_scheduler.OneCycleLR(theirs, max_lr=list(BASES), total_steps=STEPS, cycle_momentum=False)
    wanted = [*run(theirs, cycle, STEPS - 1), rates(theirs)]
    for a, b in zip(made, wanted):
        assert a == pytest.approx(b, abs=1e-12)


def test_a_user_defined_lambda_scheduler_gives_the_same_rates():
    plan = plan_named("rex", STEPS, warmup=5)
    ours, theirs = optimizer(), optimizer()
    assert run(ours, RateScheduler(ours, plan), STEPS) == run(theirs, lr_scheduler.LambdaLR(theirs, plan.factor), STEPS)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(PROFILES)), st.integers(0, STEPS), st.integers(0, 5))
def test_a_saved_scheduler_goes_on_with_the_same_numbers(name: str, at: int, warmup: int):
    plan = plan_named(name, STEPS, warmup=warmup)
    first = optimizer()
    scheduler = RateScheduler(first, plan)
    run(first, scheduler, at)
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    second = optimizer()
    resumed = RateScheduler(second, plan_named("constant", 3))  # whatever was there before, the state replaces it
    second.load_state_dict(saved["optimizer"])
    resumed.load_state_dict(saved["scheduler"])
    assert resumed.plan == plan
    assert run(second, resumed, STEPS - at) == expected(plan, at, STEPS)


@pytest.mark.parametrize("at", [1, 17, STEPS - 1])
def test_the_way_of_torch_to_resume_with_last_epoch_gives_the_same_numbers(at: int):
    plan = plan_named("rex", STEPS, warmup=5)
    used = optimizer()
    for group, base in zip(used.param_groups, BASES):
        group["initial_lr"], group["lr"] = base, 123.0
    scheduler = RateScheduler(used, plan, last_epoch=at - 1)
    assert run(used, scheduler, STEPS - at) == expected(plan, at, STEPS)


def test_resuming_without_initial_rates_is_refused_as_by_torch():
    with pytest.raises(KeyError, match="initial_lr"):
        RateScheduler(optimizer(), plan_named("rex", STEPS), last_epoch=3)


def test_loading_the_state_alone_sets_the_rates_of_its_step():
    first, second = optimizer(), optimizer()
    scheduler, fresh = (RateScheduler(used, plan_named("linear", STEPS)) for used in (first, second))
    run(first, scheduler, 20)
    fresh.load_state_dict(scheduler.state_dict())
    assert rates(second) == rates(first) == fresh.get_last_lr()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_an_extended_budget_holds_from_its_step_on_and_survives_saving(data: st.DataObject):
    at = data.draw(st.integers(0, STEPS))
    new = data.draw(st.integers(max(at, 4), 2 * STEPS))
    plan = plan_named("linear", STEPS, warmup=3)
    used = optimizer()
    scheduler = RateScheduler(used, plan)
    before = run(used, scheduler, at)
    scheduler.extend(new)
    other = optimizer()
    resumed = RateScheduler(other, plan)
    resumed.load_state_dict(scheduler.state_dict())
    after = run(used, scheduler, new - at)
    assert before == expected(plan, 0, at)
    assert after == run(other, resumed, new - at) == expected(plan_named("linear", new, warmup=3), at, new)


def test_jumping_to_a_step_sets_its_rate():
    used = optimizer()
    scheduler = RateScheduler(used, plan_named("cosine", STEPS))
    used.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls the argument deprecated
        scheduler.step(31)
    assert rates(used) == expected(scheduler.plan, 31, 32)[0]


def test_a_rate_that_is_a_tensor_stays_the_same_tensor():
    used = SGD([torch.nn.Parameter(torch.zeros(2))], lr=torch.tensor(0.5))
    tensor = used.param_groups[0]["lr"]
    scheduler = RateScheduler(used, plan_named("linear", 10))
    used.step()
    scheduler.step()
    scheduler.extend(20)
    assert used.param_groups[0]["lr"] is tensor
    assert float(tensor) == pytest.approx(0.5 * 19 / 20)
