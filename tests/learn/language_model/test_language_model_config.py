"""Sizes validate themselves, count parameters, and are config.json's both ways."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.plan import InputError

SMALL = LanguageModelConfig(dim=32, layers=4, heads=4, kv_heads=2, ffn_dim=80, context=64, vocab=257)

configs = st.builds(
    lambda group, kv_heads, pair, **sizes: LanguageModelConfig(
        dim=group * kv_heads * 2 * pair, heads=group * kv_heads, kv_heads=kv_heads, **sizes
    ),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 8),
    layers=st.integers(1, 9),
    ffn_dim=st.integers(1, 99),
    context=st.integers(1, 999),
    vocab=st.integers(1, 999),
    rope_theta=st.sampled_from([1e4, 5e5]),
    norm_eps=st.sampled_from([1e-5, 1e-6]),
    tied=st.booleans(),
    initializer_range=st.floats(1e-3, 1.0),
)


@given(configs)
def test_config_json_round_trip(config: LanguageModelConfig) -> None:
    written = json.loads(json.dumps(config.to_hugging_face()))
    assert LanguageModelConfig.from_hugging_face(written) == config
    assert LanguageModelConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


@given(configs)
def test_parameter_count_is_that_of_the_shapes(config: LanguageModelConfig) -> None:
    assert config.parameters == sum(prod(shape) for shape in config.parameter_shapes().values())


def test_llama_2_7b_and_llama_3_8b_have_their_published_numbers_of_parameters() -> None:
    llama_2 = LanguageModelConfig(4096, 32, 32, 32, 11008, 4096, 32000)
    llama_3 = LanguageModelConfig(4096, 32, 32, 8, 14336, 8192, 128256, rope_theta=5e5)
    assert (llama_2.parameters, llama_3.parameters) == (6_738_415_616, 8_030_261_248)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers: expected a positive integer, found 0"),
        ({"vocab": 2.5}, "vocab: expected a positive integer"),
        ({"dim": True}, "dim: expected a positive integer"),
        ({"heads": 5}, "heads: 5 does not divide dim 32"),
        ({"kv_heads": 3}, "kv_heads: 3 does not divide heads 4"),
        ({"heads": 32, "kv_heads": 1}, "heads: dim / heads = 1 must be even"),
        ({"rope_theta": 0}, "rope_theta: expected a positive number"),
        ({"norm_eps": float("nan")}, "norm_eps: expected a positive number"),
        ({"initializer_range": "0.02"}, "initializer_range: expected a positive number"),
        ({"tied": None}, "tied: expected true or false"),
    ],
)
def test_impossible_sizes_name_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "gpt2"),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("attention_dropout", 0.1),
        ("sliding_window", 4096),
        ("quantization_config", {"bits": 4}),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_scaling", "linear"),
        ("rope_parameters", {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}),
        ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
        ("head_dim", 16),
        ("num_attention_heads", 5),
        ("hidden_size", None),
    ],
)
def test_config_json_that_this_decoder_cannot_be(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^model/config.json: {key}"):
        LanguageModelConfig.from_hugging_face(SMALL.to_hugging_face() | {key: value}, file="model/config.json")


def test_a_missing_size_is_named() -> None:
    written = SMALL.to_hugging_face()
    del written["intermediate_size"]
    with pytest.raises(InputError, match=r"^config.json: intermediate_size: is missing"):
        LanguageModelConfig.from_hugging_face(written, file="config.json")


def test_the_config_of_older_transformers() -> None:
    """Version 4 wrote rope_theta and rope_scaling beside the sizes, and Llama 1 no number of key heads."""
    old = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 32,
        "intermediate_size": 80,
        "max_position_embeddings": 64,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": 4,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": 500000.0,
        "vocab_size": 257,
    }
    assert LanguageModelConfig.from_hugging_face(old) == replace(SMALL, kv_heads=4, rope_theta=500000.0)


def test_unknown_and_missing_fields_of_a_dictionary() -> None:
    with pytest.raises(InputError, match=r"^run.json: depth: is unknown"):
        LanguageModelConfig.from_dict(asdict(SMALL) | {"depth": 3}, file="run.json")
    with pytest.raises(InputError, match=r"^run.json: dim: is missing"):
        LanguageModelConfig.from_dict({"layers": 2}, file="run.json")
    with pytest.raises(InputError, match=r"^run.json: heads: 5 does not divide dim 32"):
        LanguageModelConfig.from_dict(asdict(SMALL) | {"heads": 5}, file="run.json")
