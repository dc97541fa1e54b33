"""Gradients in one buffer: sums that do not depend on the order of work, and an optimizer that can be put away."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.worlds.train.runtime.gradients import (  # noqa: E402
    FlatGradients,
    SumInOrder,
    adamw,
    apply_step,
    clip_factor,
    load_optimizer_state,
    optimizer_state,
)
from pathloom.worlds.train.runtime.settings import RunSettings  # noqa: E402

SETTINGS = RunSettings(data="tokens", learning_rate=0.01)

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parameters(seed: int = 0) -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"matrix": (4, 3), "vector": (5,), "head": (3, 2)}
    return {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


def add_gradient(named: dict[str, torch.nn.Parameter], task: int) -> None:
    """A backward pass whose gradient is different, and of another size, for every task."""
    generator = torch.Generator().manual_seed(1000 + task)
    scale = 10.0 ** ((task * 7) % 5 - 2)
    loss = sum((p * torch.randn(p.shape, generator=generator) * scale).sum() for p in named.values())
    loss.backward()


def summed(order: list[int], terms: list[int], *, any_order_after: int | None = None) -> torch.Tensor:
    """The flat sum when tasks are done in `order` although their terms have the order `terms`."""
    named = parameters()
    flat = FlatGradients(named)
    sums = SumInOrder(flat, terms)
    for count, task in enumerate(order):
        if count == any_order_after:
            sums.any_order()
        with sums.turn_of(task):
            add_gradient(named, task)
    return flat.flat.clone()


@quick
@given(order=st.permutations(list(range(7))))
def test_a_sum_has_the_same_bits_whatever_the_order_of_work(order: list[int]) -> None:
    assert torch.equal(summed(list(order), list(range(7))), summed(list(range(7)), list(range(7))))


def test_sums_in_another_order_do_differ() -> None:
    """Otherwise the fact above would say nothing."""
    assert not torch.equal(summed([6, 5, 4, 3, 2, 1, 0], [6, 5, 4, 3, 2, 1, 0]), summed([*range(7)], [*range(7)]))


@quick
@given(order=st.permutations(list(range(6))), after=st.integers(0, 6))
def test_an_order_that_becomes_void_loses_no_term(order: list[int], after: int) -> None:
    whole = summed(list(range(6)), list(range(6)))
    torch.testing.assert_close(summed(list(order), list(range(6)), any_order_after=after), whole)


def test_a_task_that_fails_leaves_the_sum_of_the_others() -> None:
    named = parameters()
    flat = FlatGradients(named)
    sums = SumInOrder(flat, [0, 1])
    with pytest.raises(RuntimeError, match="broken"), sums.turn_of(1):
        raise RuntimeError("broken")
    with sums.turn_of(0):
        add_gradient(named, 0)
    assert torch.equal(flat.flat, summed([0], [0]))


def test_gradients_are_views_of_one_buffer() -> None:
    named = parameters()
    flat = FlatGradients(named)
    add_gradient(named, 3)
    assert torch.equal(flat.flat, torch.cat([p.grad.flatten() for p in named.values()]))
    square, absolute = flat.norms()
    assert square == pytest.approx(float((flat.flat.double() ** 2).sum()), rel=1e-6)
    assert absolute == pytest.approx(float(flat.flat.double().abs().sum()), rel=1e-6)
    flat.zero()
    assert all(not p.grad.any() for p in named.values())


def test_a_gradient_can_be_computed_aside() -> None:
    named = parameters()
    flat = FlatGradients(named)
    add_gradient(named, 0)
    before = flat.flat.clone()
    with flat.aside() as other:
        add_gradient(named, 1)
    assert torch.equal(flat.flat, before)
    assert torch.equal(other, summed([1], [1]))
    add_gradient(named, 1)
    assert torch.equal(flat.flat, before + other)


def plain_adamw(named: dict[str, torch.nn.Parameter], chosen: RunSettings) -> torch.optim.AdamW:
    """PyTorch's unfused optimizer over the same groups."""
    groups = [
        {"params": [p for p in named.values() if p.dim() >= 2], "weight_decay": chosen.weight_decay},
        {"params": [p for p in named.values() if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (chosen.beta1, chosen.beta2)
    return torch.optim.AdamW(groups, lr=chosen.learning_rate, betas=betas, eps=chosen.epsilon, fused=False)


def test_steps_are_those_of_adamw_with_decay_on_matrices_only() -> None:
    chosen = RunSettings(data="tokens", learning_rate=0.05, weight_decay=0.3, beta1=0.8, beta2=0.9, epsilon=1e-6)
    named, twin = parameters(), parameters()
    flat, optimizer = FlatGradients(named), adamw(named, chosen)
    other = plain_adamw(twin, chosen)
    for step, (factor, rate) in enumerate([(1.0, 0.05), (0.25, 0.02), (1.0, 0.0)]):
        add_gradient(named, step)
        for p, q in zip(named.values(), twin.values()):
            q.grad = p.grad.clone() * factor
        apply_step(optimizer, flat, factor=factor, rate=rate)
        for group in other.param_groups:
            group["lr"] = rate
        other.step()
        assert not flat.flat.any()
        for name in named:
            torch.testing.assert_close(named[name], twin[name], rtol=1e-6, atol=1e-7)


def test_an_optimizer_goes_on_bit_for_bit_after_it_was_put_away() -> None:
    named = parameters()
    flat, optimizer = FlatGradients(named), adamw(named, SETTINGS)
    assert optimizer_state(optimizer, named) == {}
    for step in range(3):
        add_gradient(named, step)
        apply_step(optimizer, flat, factor=1.0, rate=0.01)
    saved = {name: {key: t.clone() for key, t in s.items()} for name, s in optimizer_state(optimizer, named).items()}
    assert set(saved) == set(named) and set(saved["head"]) == {"step", "exp_avg", "exp_avg_sq"}

    heir = {name: torch.nn.Parameter(p.detach().clone()) for name, p in named.items()}
    heirs_flat, heirs = FlatGradients(heir), adamw(heir, SETTINGS)
    load_optimizer_state(heirs, heir, saved)
    for step in range(3, 6):
        for one, gradients, own in ((optimizer, flat, named), (heirs, heirs_flat, heir)):
            add_gradient(own, step)
            apply_step(one, gradients, factor=0.5, rate=0.02)
    for name in named:
        assert torch.equal(named[name], heir[name])
        for key, value in optimizer_state(optimizer, named)[name].items():
            assert torch.equal(value, optimizer_state(heirs, heir)[name][key])
    assert not torch.equal(saved["head"]["exp_avg"], optimizer_state(heirs, heir)["head"]["exp_avg"])


def test_a_parameter_without_a_state_begins_anew() -> None:
    named = parameters()
    flat, optimizer = FlatGradients(named), adamw(named, SETTINGS)
    add_gradient(named, 0)
    apply_step(optimizer, flat, factor=1.0, rate=0.01)
    load_optimizer_state(optimizer, named, {"head": optimizer_state(optimizer, named)["head"]})
    assert set(optimizer_state(optimizer, named)) == {"head"}


def test_a_part_of_vectors_or_of_matrices_alone_has_an_optimizer() -> None:
    for names in (["vector"], ["matrix", "head"]):
        named = {name: p for name, p in parameters().items() if name in names}
        flat, optimizer = FlatGradients(named), adamw(named, SETTINGS)
        add_gradient(named, 0)
        apply_step(optimizer, flat, factor=1.0, rate=0.01)
        assert set(optimizer_state(optimizer, named)) == set(names)


@given(norm=st.floats(0, 1e6), most=st.floats(1e-6, 1e6))
def test_clipping_brings_the_norm_down_to_the_limit_and_never_up(norm: float, most: float) -> None:
    factor = clip_factor(norm, most)
    assert 0 < factor <= 1
    assert norm * factor <= most * (1 + 1e-9)
    assert norm <= most or math.isclose(norm * factor, most, rel_tol=1e-4, abs_tol=2e-6)
    assert clip_factor(norm, 0.0) == 1.0
