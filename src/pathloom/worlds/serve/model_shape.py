"""Sizes of language models: what one needs to know to count bytes and operations.

The figures are those of the models' published configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pathloom.data.naming import unknown_name
from pathloom.plan import InputError


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer.

    Attributes
    ----------
    name
        As its publisher writes it.
    layers, hidden, heads, kv_heads, head_size
        Number of blocks, width of the residual stream, heads of the queries, of keys and values, and width of each.
    inner
        Width of the feed-forward part; in mixtures that of one expert.
    vocabulary
        Number of tokens.
    experts, active
        Number of experts of a block and how many a token goes through; 0 in dense models.
    bytes_each
        Of a weight or a cached value.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    vocabulary: int
    experts: int = 0
    active: int = 0
    bytes_each: int = 2

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "kv_heads", "head_size", "inner", "vocabulary", "bytes_each"):
            if getattr(self, name) < 1:
                raise InputError(f"expected at least 1, found {getattr(self, name)}", key=name)
        if self.heads % self.kv_heads:
            raise InputError(f"expected a divisor of the {self.heads} heads, found {self.kv_heads}", key="kv_heads")
        if not 0 <= self.active <= self.experts or bool(self.active) != bool(self.experts):
            raise InputError(f"expected from 1 to the {self.experts} experts, found {self.active}", key="active")

    @property
    def cache_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_size * self.bytes_each

    @property
    def block_weights(self) -> int:
        """Weights of one block, without norms: projections of the attention, and all experts or the one MLP."""
        attention = self.hidden * self.head_size * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden * self.inner * max(1, self.experts) + self.hidden * self.experts

    @property
    def weights(self) -> int:
        """All blocks, embedding and head (not shared)."""
        return self.layers * self.block_weights + 2 * self.vocabulary * self.hidden

    @property
    def active_weights(self) -> int:
        """Weights that one token is multiplied with."""
        attention = self.hidden * self.head_size * 2 * (self.heads + self.kv_heads)
        mlp = 3 * self.hidden * self.inner * max(1, self.active) + self.hidden * self.experts
        return self.layers * (attention + mlp) + self.vocabulary * self.hidden


_ALL = (
    ModelShape("meta-llama/Llama-3.1-8B", 32, 4096, 32, 8, 128, 14336, 128256),
    ModelShape("meta-llama/Llama-3.1-70B", 80, 8192, 64, 8, 128, 28672, 128256),
    ModelShape("meta-llama/Llama-2-7b-hf", 32, 4096, 32, 32, 128, 11008, 32000),
    ModelShape("meta-llama/Llama-2-70b-hf", 80, 8192, 64, 8, 128, 28672, 32000),
    ModelShape("mistralai/Mistral-7B-v0.1", 32, 4096, 32, 8, 128, 14336, 32000),
    ModelShape("mistralai/Mixtral-8x7B-v0.1", 32, 4096, 32, 8, 128, 14336, 32000, experts=8, active=2),
    ModelShape("Qwen/Qwen2-7B", 28, 3584, 28, 4, 128, 18944, 152064),
    ModelShape("Qwen/Qwen3-32B", 64, 5120, 64, 8, 128, 25600, 151936),
    ModelShape("Qwen/Qwen3-30B-A3B-Instruct-2507", 48, 2048, 32, 4, 128, 768, 151936, experts=128, active=8),
)
MODELS: Mapping[str, ModelShape] = {shape.name: shape for shape in _ALL}
"""Models whose sizes are known, by name."""


def model_shape(name: str) -> ModelShape:
    """The model of that name, with or without the publisher before it.

    Raises
    ------
    InputError
        If none is known; names the nearest.
    """
    short = {full.split("/")[-1].lower(): shape for full, shape in MODELS.items()}
    found = MODELS.get(name) or short.get(name.split("/")[-1].lower())
    if found is None:
        raise InputError(unknown_name("model", name, MODELS, "the known models"), key="model")
    return found
