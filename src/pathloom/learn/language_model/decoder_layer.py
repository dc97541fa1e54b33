"""One layer of a LLaMA-type decoder, for training: few passes over memory, few tensors kept for the backward pass.

RMSNorm before attention and feed-forward network (Zhang, Sennrich, 2019), rotary positions (Su et al., 2021), SwiGLU
(Shazeer, 2020), grouped-query attention (Ainslie et al., 2023), put together as in LLaMA (Touvron et al., 2023). Names
and orientation of the parameters, and the pairing of the rotary dimensions (i with i + head_dim / 2), are those of
Hugging Face's `LlamaForCausalLM`, so that weights are interchangeable.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.weight_gradients import SplitLinear, counted


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension; the quotient in float32 for any type of x."""

    split_backward = False

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim)."""
        weight = counted(self.weight) if self.split_backward else self.weight
        if x.is_cuda and x.dtype == weight.dtype == torch.float32:
            return F.rms_norm(x, weight.shape, weight, self.eps)  # one fused kernel
        return _Normalise.apply(x, weight, self.eps)  # type: ignore[no-untyped-call]


class _Normalise(torch.autograd.Function):
    """RMSNorm that keeps only its input and one scale a row, in half the passes over memory that autograd takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).to(x.dtype) * weight

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        wide = gradient.float()
        normed = x.float() * scale
        product = wide * normed
        for_weight = product.reshape(-1, x.shape[-1]).sum(0).to(weight.dtype)
        # What the norm removes again: the part of the gradient that lies along the normed row
        along = (product @ weight.float()).unsqueeze_(-1).div_(-x.shape[-1])
        for_x = (wide * weight).addcmul_(normed, along).mul_(scale)
        return for_x.to(x.dtype), for_weight, None


class Rotary(nn.Module):
    """Cosines and sines of the rotary angles of every position, float32 whatever type the model is cast to.

    Cosines (context, 1, head_dim) and sines of the first half (context, 1, head_dim / 2) broadcast over heads.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self._shape = (config.context, config.head_dim, config.rope_theta)
        self.register_buffer("cos", torch.empty(0), persistent=False)
        self.register_buffer("sin", torch.empty(0), persistent=False)
        self._fill(self.cos.device)

    def _fill(self, device: torch.device) -> None:
        context, head_dim, theta = self._shape
        frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim)
        angles = torch.arange(context, dtype=torch.float32, device=device)[:, None] * frequencies
        self.cos = torch.cat((angles, angles), -1).cos()[:, None, :]
        self.sin = angles.sin()[:, None, :]

    def _apply(self, fn: Any, recurse: bool = True) -> Rotary:
        # Moved or cast: computed again, for bfloat16 angles would confuse far positions
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._fill(self.cos.device)
        return self

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """Tables of the first `length` positions."""
        return self.cos[:length], self.sin[:length]


class _Rotate(torch.autograd.Function):
    """Turn pairs (i, i + half) of the last dimension of x (..., t, heads, head_dim); the gradient turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, sin, 1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    # Products are formed in float32 (the type of the tables) and stored in the type of x.
    turned = torch.mul(x, cos, out=torch.empty(x.shape, dtype=x.dtype, device=x.device))
    first, second = x.chunk(2, -1)
    turned_first, turned_second = turned.chunk(2, -1)
    turned_first.addcmul_(second, sin, value=sign)
    turned_second.addcmul_(first, sin, value=-sign)
    return turned


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.head_dim, self.grouped = config.head_dim, config.kv_heads < config.heads
        self.q_proj = SplitLinear(config.dim, config.dim)
        self.k_proj = SplitLinear(config.dim, config.kv_heads * config.head_dim)
        self.v_proj = SplitLinear(config.dim, config.kv_heads * config.head_dim)
        self.o_proj = SplitLinear(config.dim, config.dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x (b, t, dim) -> (b, t, dim)."""
        b, t, _ = x.shape
        q = _Rotate.apply(self.q_proj(x).view(b, t, -1, self.head_dim), cos, sin)  # type: ignore[no-untyped-call]
        k = _Rotate.apply(self.k_proj(x).view(b, t, -1, self.head_dim), cos, sin)  # type: ignore[no-untyped-call]
        v = self.v_proj(x).view(b, t, -1, self.head_dim)
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=self.grouped
        )
        return self.o_proj(mixed.transpose(1, 2).reshape(b, t, -1))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.gate_proj = SplitLinear(config.dim, config.ffn_dim)
        self.up_proj = SplitLinear(config.dim, config.ffn_dim)
        self.down_proj = SplitLinear(config.ffn_dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention and feed-forward network, each added to the residual stream after a norm."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.dim, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.dim, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """hidden (b, t, dim) -> (b, t, dim)."""
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), cos, sin)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))
