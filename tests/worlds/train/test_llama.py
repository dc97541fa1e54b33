"""Parameters and arithmetic of LLaMA shapes agree with the published models and with a layer written out."""

from __future__ import annotations

import pytest

from pathloom.worlds.train.llama import LlamaShape, default_ffn_dim


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        # LLaMA 7B and 13B, and Llama 3 8B with grouped keys and values, as their checkpoints count.
        (LlamaShape(4096, 32, 32, 32, 11008, 2048, 32000), 6_738_415_616),
        (LlamaShape(5120, 40, 40, 40, 13824, 2048, 32000), 13_015_864_320),
        (LlamaShape(4096, 32, 32, 8, 14336, 8192, 128256), 8_030_261_248),
    ],
)
def test_published_models_have_their_published_number_of_parameters(shape: LlamaShape, parameters: int) -> None:
    assert shape.parameters == parameters


def test_skippipes_layer_has_the_number_of_parameters_in_its_script() -> None:
    assert LlamaShape(1024, 24, 16, 16, 4096, 1024, 32000).layer_parameters == 16_779_264


@pytest.mark.parametrize(("dim", "ffn"), [(4096, 11008), (5120, 13824), (8192, 22016), (1024, 2816)])
def test_default_feed_forward_width_is_llamas(dim: int, ffn: int) -> None:
    assert default_ffn_dim(dim) == ffn


def test_flops_of_a_layer_are_those_of_its_matrix_products() -> None:
    dim, heads, kv_heads, ffn, context = 64, 4, 2, 160, 32
    shape = LlamaShape(dim, 1, heads, kv_heads, ffn, context, 100)
    kv_dim = dim // heads * kv_heads

    def product(m: int, k: int, n: int) -> int:
        return 2 * m * k * n

    matrices = (
        2 * product(context, dim, dim)
        + 2 * product(context, dim, kv_dim)
        + 2 * product(context, dim, ffn)
        + product(context, ffn, dim)
    )
    attention = heads * 2 * product(context, dim // heads, context)
    norms = 2 * 2 * dim * context
    assert shape.layer_flops == matrices + attention + norms


def test_one_samples_activation_is_context_times_width() -> None:
    assert LlamaShape(1024, 24, 16, 16, 4096, 1024, 32000).activation_bytes(4) == 4 * 2**20
