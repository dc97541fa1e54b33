"""Parameters, arithmetic and activation sizes of a LLaMA-shaped transformer.

Shape as in H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023: attention with rotary
positions (grouped keys and values allowed), a gated feed-forward block of three matrices, two RMS norms a layer.
"""

from __future__ import annotations

from dataclasses import dataclass


def default_ffn_dim(dim: int, multiple: int = 256) -> int:
    """Width of the feed-forward block in LLaMA: two thirds of ``4 * dim``, rounded up to a multiple of 256."""
    return -(-(8 * dim // 3) // multiple) * multiple


@dataclass(frozen=True)
class LlamaShape:
    """A LLaMA-shaped model.

    Attributes
    ----------
    dim, layers, heads, kv_heads, ffn_dim
        Width, number of layers, heads of the queries, heads of keys and values, width of the feed-forward block.
    context
        Tokens of a sample.
    vocab
        Tokens of the vocabulary.
    tied
        Whether the output head is the embedding's matrix.
    """

    dim: int
    layers: int
    heads: int
    kv_heads: int
    ffn_dim: int
    context: int
    vocab: int
    tied: bool = False

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: query and output, key and value, three feed-forward matrices, two norms."""
        kv_dim = self.dim // self.heads * self.kv_heads
        return 2 * self.dim * self.dim + 2 * self.dim * kv_dim + 3 * self.dim * self.ffn_dim + 2 * self.dim

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding, the output head and the last norm; all on stage 0."""
        return (1 if self.tied else 2) * self.vocab * self.dim + self.dim

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return self.layers * self.layer_parameters + self.embedding_parameters

    @property
    def layer_flops(self) -> float:
        """FLOP of one layer's forward pass over one sample.

        Two a parameter and token, and ``4 * context**2 * dim`` for scores and weighted values of the attention (the
        full square: kernels that skip the masked half need less).
        """
        return 2.0 * self.layer_parameters * self.context + 4.0 * self.context**2 * self.dim

    def activation_bytes(self, element_bytes: float) -> float:
        """Bytes that one sample's activation takes between two layers."""
        return element_bytes * self.dim * self.context
