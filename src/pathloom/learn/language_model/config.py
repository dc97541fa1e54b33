"""Sizes and constants of a LLaMA-type decoder, and their Hugging Face `config.json` form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pathloom.plan import InputError

_REQUIRED = object()

# Our field -> key of config.json and the value that `LlamaConfig` takes where the key is absent.
_HUGGING_FACE_KEYS: dict[str, tuple[str, Any]] = {
    "dim": ("hidden_size", _REQUIRED),
    "layers": ("num_hidden_layers", _REQUIRED),
    "heads": ("num_attention_heads", _REQUIRED),
    "kv_heads": ("num_key_value_heads", None),
    "ffn_dim": ("intermediate_size", _REQUIRED),
    "context": ("max_position_embeddings", 2048),
    "vocab": ("vocab_size", _REQUIRED),
    "norm_eps": ("rms_norm_eps", 1e-6),
    "tied": ("tie_word_embeddings", False),
    "initializer_range": ("initializer_range", 0.02),
}

# Keys that change the computation, with the values under which they do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish", None),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0, None),
    "sliding_window": (None,),
    "quantization_config": (None,),
}


@dataclass(frozen=True)
class LanguageModelConfig:
    """Sizes of a decoder with RMSNorm, rotary positions, SwiGLU and grouped-query attention, without biases.

    Attributes
    ----------
    dim
        Width of the residual stream; `heads` heads of `dim / heads` (even) each.
    layers
        Number of decoder layers.
    heads, kv_heads
        Query heads, and key and value heads; `heads` is a multiple of `kv_heads`.
    ffn_dim
        Inner width of the feed-forward network.
    context
        Longest sequence, in tokens.
    vocab
        Number of token ids.
    rope_theta
        Base of the rotary wavelengths.
    norm_eps
        Added to the mean square in RMSNorm.
    tied
        Whether the output head is the embedding matrix.
    initializer_range
        Standard deviation of initial weights.

    Raises
    ------
    ValueError
        "field: message" for a value that makes no model.
    """

    dim: int
    layers: int
    heads: int
    kv_heads: int
    ffn_dim: int
    context: int
    vocab: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = False
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "kv_heads", "ffn_dim", "context", "vocab"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a positive integer, found {value!r}")
        for name in ("rope_theta", "norm_eps", "initializer_range"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name}: expected a positive number, found {value!r}")
        if not isinstance(self.tied, bool):
            raise ValueError(f"tied: expected true or false, found {self.tied!r}")
        if self.dim % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide dim {self.dim}")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads: {self.kv_heads} does not divide heads {self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"heads: dim / heads = {self.head_dim} must be even, rotary positions turn pairs")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    @property
    def layer_parameters(self) -> int:
        """Number of parameters of one decoder layer."""
        attention = 2 * self.dim * self.dim + 2 * self.dim * self.kv_heads * self.head_dim
        return attention + 3 * self.dim * self.ffn_dim + 2 * self.dim

    @property
    def parameters(self) -> int:
        """Number of parameters of the whole model; a tied matrix counts once."""
        matrices = self.vocab * self.dim * (1 if self.tied else 2)
        return matrices + self.layers * self.layer_parameters + self.dim

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name (as in `LlamaForCausalLM`) and shape of every parameter, from the embedding to the head.

        A tied model has no "lm_head.weight".
        """
        dim, kv_dim, ffn = self.dim, self.kv_heads * self.head_dim, self.ffn_dim
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm": (dim,),
            "self_attn.q_proj": (dim, dim),
            "self_attn.k_proj": (kv_dim, dim),
            "self_attn.v_proj": (kv_dim, dim),
            "self_attn.o_proj": (dim, dim),
            "post_attention_layernorm": (dim,),
            "mlp.gate_proj": (ffn, dim),
            "mlp.up_proj": (ffn, dim),
            "mlp.down_proj": (dim, ffn),
        }
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab, dim)}
        for i in range(self.layers):
            shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
        shapes["model.norm.weight"] = (dim,)
        if not self.tied:
            shapes["lm_head.weight"] = (self.vocab, dim)
        return shapes

    def to_hugging_face(self) -> dict[str, Any]:
        """The contents of a `config.json` that `transformers` opens as `LlamaForCausalLM`."""
        written: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
        written |= {key: getattr(self, name) for name, (key, _) in _HUGGING_FACE_KEYS.items()}
        return written | {
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            # Version 4 of transformers reads the first, version 5 the second.
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            # Without these two, LlamaConfig assumes ids 1 and 2, which mean nothing here.
            "bos_token_id": None,
            "eos_token_id": None,
        }

    @classmethod
    def from_hugging_face(cls, data: Mapping[str, Any], file: str = "") -> LanguageModelConfig:
        """The model that a `config.json` describes.

        Parameters
        ----------
        data
            Contents of the `config.json` of a `LlamaForCausalLM`.
        file
            Name of the file, for messages.

        Raises
        ------
        InputError
            For another architecture, a missing or impossible size, or a feature that this decoder does not have
            (scaled rotary positions, biases, another activation, sliding windows, quantised weights).
        """
        if data.get("model_type", "llama") != "llama":
            raise InputError(f'expected "llama", found {data["model_type"]!r}', file=file, key="model_type")
        architectures = data.get("architectures") or ["LlamaForCausalLM"]
        if architectures != ["LlamaForCausalLM"]:
            raise InputError(f'expected ["LlamaForCausalLM"], found {architectures!r}', file=file, key="architectures")
        for key, neutral in _NEUTRAL.items():
            if data.get(key) not in neutral:
                raise InputError(f"expected {neutral[0]!r}, found {data[key]!r}: not supported", file=file, key=key)
        values: dict[str, Any] = {"rope_theta": _rope_theta(data, file)}
        for name, (key, default) in _HUGGING_FACE_KEYS.items():
            value = data.get(key, default)
            if value is _REQUIRED:
                raise InputError("is missing", file=file, key=key)
            values[name] = value
        if values["kv_heads"] is None:
            values["kv_heads"] = values["heads"]
        try:
            config = cls(**values)
        except ValueError as error:
            name, _, message = str(error).partition(": ")
            raise InputError(message, file=file, key=_HUGGING_FACE_KEYS.get(name, (name,))[0]) from None
        if data.get("head_dim") not in (None, config.head_dim):
            message = f"expected hidden_size / num_attention_heads = {config.head_dim}, found {data['head_dim']!r}"
            raise InputError(message, file=file, key="head_dim")
        return config

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], file: str = "") -> LanguageModelConfig:
        """The model of `dataclasses.asdict(config)`; InputError for unknown, missing or impossible fields."""
        known = {field.name for field in fields(cls)}
        for name in data:
            if name not in known:
                raise InputError(f"is unknown; expected one of {', '.join(sorted(known))}", file=file, key=name)
        for name in ("dim", "layers", "heads", "kv_heads", "ffn_dim", "context", "vocab"):
            if name not in data:
                raise InputError("is missing", file=file, key=name)
        try:
            return cls(**data)
        except ValueError as error:
            name, _, message = str(error).partition(": ")
            raise InputError(message, file=file, key=name) from None


def _rope_theta(data: Mapping[str, Any], file: str) -> Any:
    """Base of unscaled rotary positions, from the keys of either version of transformers."""
    theta = data.get("rope_theta", 10000.0)
    for key in ("rope_scaling", "rope_parameters"):
        rope = data.get(key)
        if rope is None:
            continue
        if not isinstance(rope, Mapping):
            raise InputError(f"expected an object or null, found {rope!r}", file=file, key=key)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            message = f'expected "default", found {kind!r}: scaled rotary positions are not supported'
            raise InputError(message, file=file, key=f"{key}.rope_type")
        theta = rope.get("rope_theta", theta)
        if rope.get("partial_rotary_factor", 1) != 1:
            raise InputError("expected 1", file=file, key=f"{key}.partial_rotary_factor")
    if data.get("partial_rotary_factor", 1) not in (1, None):
        raise InputError("expected 1", file=file, key="partial_rotary_factor")
    return theta
