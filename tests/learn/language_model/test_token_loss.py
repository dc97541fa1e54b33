"""The cross entropy of half-precision logits is that of their float32 values, in slices or not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.learn.language_model import token_loss  # noqa: E402
from pathloom.learn.language_model.token_loss import token_cross_entropy  # noqa: E402


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.sampled_from(["mean", "sum", "none"]),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(2, 40),
    st.integers(1, 100),
    st.integers(0, 999),
)
def test_value_and_gradient_are_those_of_torch_in_float32(
    kind: torch.dtype, reduction: str, batch: int, length: int, vocab: int, at_a_time: int, seed: int
) -> None:
    source = torch.Generator().manual_seed(seed)
    logits = (5 * torch.randn(batch, length, vocab, generator=source)).to(kind).requires_grad_()
    targets = torch.randint(0, vocab, (batch, length), generator=source)
    targets[torch.rand(batch, length, generator=source) < 0.2] = -100
    targets[0, 0] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_loss, "_SLICE", at_a_time)
        loss = token_cross_entropy(logits, targets, reduction=reduction)
        weights = torch.rand(loss.shape, generator=source)
        (gradient,) = torch.autograd.grad(loss, logits, weights)
    exact = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction=reduction)
    (expected,) = torch.autograd.grad(exact.view(loss.shape), logits, weights)
    assert loss.dtype == torch.float32 and gradient.dtype == kind
    torch.testing.assert_close(loss, exact.view(loss.shape), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient, expected)


def test_a_sure_and_right_model_has_no_loss_and_uniform_logits_have_the_logarithm_of_the_vocabulary() -> None:
    targets = torch.tensor([[1, 0]])
    sure = torch.tensor([[[-100.0, 100.0], [100.0, -100.0]]], dtype=torch.bfloat16)
    assert token_cross_entropy(sure, targets).item() == 0.0
    uniform = torch.zeros(1, 2, 257, dtype=torch.bfloat16)
    assert token_cross_entropy(uniform, targets).item() == pytest.approx(5.5490761, abs=1e-6)


def test_between_the_passes_only_the_logits_and_a_normaliser_a_token_are_kept() -> None:
    kept: list[torch.Tensor] = []
    logits = torch.randn(30, 50, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        token_cross_entropy(logits, torch.zeros(30, dtype=torch.int64))
    assert [t.shape for t in kept if t.numel() > 30] == [logits.shape]
    assert next(t for t in kept if t.numel() > 30).untyped_storage().data_ptr() == logits.untyped_storage().data_ptr()


def test_an_unknown_reduction() -> None:
    with pytest.raises(ValueError, match='reduction: expected "mean", "sum" or "none"'):
        token_cross_entropy(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), reduction="max")
