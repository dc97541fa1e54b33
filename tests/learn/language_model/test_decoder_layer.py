"""Norm and rotation are their formulas, and so are their hand-written gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from pathloom.learn.language_model.config import LanguageModelConfig  # noqa: E402
from pathloom.learn.language_model.decoder_layer import RMSNorm, Rotary, _Rotate  # noqa: E402

CONFIG = LanguageModelConfig(dim=32, layers=1, heads=4, kv_heads=2, ffn_dim=80, context=24, vocab=61)


@pytest.fixture(autouse=True)
def fixed_numbers() -> None:
    torch.manual_seed(0)


def test_rotary_attention_depends_on_distance_only() -> None:
    """The score of two vectors is the same at positions (3, 1) and (13, 11)."""
    rotary = Rotary(CONFIG)
    q, k = torch.randn(2, 1, 1, 8).unbind()
    q, k = (_Rotate.apply(v.expand(24, 1, 8), *rotary(24)) for v in (q, k))
    scores = q[:, 0] @ k[:, 0].T
    assert scores[3, 1].item() == pytest.approx(scores[13, 11].item(), abs=1e-5)
    assert scores[3, 1].item() != pytest.approx(scores[3, 2].item(), abs=1e-3)


def test_gradient_of_the_rotation_is_that_of_finite_differences() -> None:
    x = torch.randn(2, 3, 2, 8, dtype=torch.float64, requires_grad=True)
    cos, sin = (table.double() for table in Rotary(CONFIG)(3))
    assert torch.autograd.gradcheck(lambda v: _Rotate.apply(v, cos, sin), x)


@pytest.mark.parametrize("shape", [(5, 32), (2, 7, 32)])
def test_norm_is_the_formula_and_so_is_its_gradient(shape: tuple[int, ...]) -> None:
    norm = RMSNorm(32, 1e-3)
    x = torch.randn(shape, requires_grad=True)
    with torch.no_grad():
        norm.weight.normal_()
    formula = norm.weight * x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(norm(x), formula)
    gradient = torch.randn(shape)
    found = torch.autograd.grad(norm(x), (x, norm.weight), gradient)
    torch.testing.assert_close(found, torch.autograd.grad(formula, (x, norm.weight), gradient), atol=1e-5, rtol=1e-4)


def test_in_bfloat16_the_norm_divides_in_float32() -> None:
    norm = RMSNorm(32, 1e-6)
    torch.nn.init.ones_(norm.weight)
    x = (100 * torch.randn(64, 32)).bfloat16()
    exact = x.double() / x.double().square().mean(-1, keepdim=True).sqrt()
    assert torch.equal(norm.bfloat16()(x), exact.bfloat16())
