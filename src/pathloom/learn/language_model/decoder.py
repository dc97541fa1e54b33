"""A LLaMA-type decoder, whole or as the part of it that one pipeline node holds.

Parameters carry the names of Hugging Face's `LlamaForCausalLM`; the layers are in `decoder_layer`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder_layer import DecoderLayer, RMSNorm, Rotary
from pathloom.learn.language_model.token_loss import token_cross_entropy
from pathloom.learn.language_model.weight_gradients import SplitLinear, counted


class _Body(nn.Module):
    """What `LlamaForCausalLM` keeps under the name "model"; embedding and norm exist only in some parts."""

    embed_tokens: nn.Embedding
    layers: nn.ModuleDict
    rotary: Rotary
    norm: RMSNorm


class DecoderPart(nn.Module):
    """Some layers of a decoder, and optionally its embedding and its final norm and output head.

    `state_dict` and `named_parameters` carry the names of the whole model ("model.layers.7.self_attn.q_proj.weight"),
    so that parts of one model never collide. Initial values depend on (seed, parameter name) only: any cut of a model
    into parts starts from the same weights.

    Parameters
    ----------
    config
        The whole model.
    layers
        Numbers of the layers held, counted from 0 through the whole model.
    embedding, head
        Whether the part holds the embedding, and the final norm with the output head. With `config.tied` the head is
        the embedding matrix, and a part with a head needs the embedding.
    seed
        Of the initial weights; None leaves them uninitialised, to be loaded.

    Raises
    ------
    ValueError
        "field: message" for layers that the model does not have, or a tied head without embedding.
    """

    def __init__(
        self,
        config: LanguageModelConfig,
        layers: Sequence[int],
        *,
        embedding: bool = False,
        head: bool = False,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        numbers = sorted(layers)
        if len(set(numbers)) < len(numbers) or any(not 0 <= i < config.layers for i in numbers):
            message = f"expected different numbers between 0 and {config.layers - 1}, found {list(layers)}"
            raise ValueError(f"layers: {message}")
        if head and config.tied and not embedding:
            raise ValueError("head: a tied head is the embedding matrix, which this part does not hold")
        self.config = config
        self.layers = tuple(numbers)
        self.has_embedding, self.has_head = embedding, head
        self._split_backward = False
        self.model = _Body()
        if embedding:
            # Given its matrix, nn.Embedding does not draw one from the global random state
            self.model.embed_tokens = nn.Embedding(
                config.vocab, config.dim, _weight=torch.empty(config.vocab, config.dim)
            )
        self.model.layers = nn.ModuleDict({str(i): DecoderLayer(config) for i in numbers})
        self.model.rotary = Rotary(config)
        if head:
            self.model.norm = RMSNorm(config.dim, config.norm_eps)
            if not config.tied:
                self.lm_head = SplitLinear(config.dim, config.vocab)
        if seed is not None:
            self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw the initial weights: normal matrices, ones for norms; a residual branch's last matrix is narrower.

        The last matrix of each branch is scaled by 1 / sqrt(2 layers), so that the residual stream's variance does not
        grow with depth (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3).
        """
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
                continue
            deviation = self.config.initializer_range
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                deviation /= (2 * self.config.layers) ** 0.5
            # Python's hash() differs from process to process
            digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            # Always drawn on the CPU, in float32: the same model on every device
            drawn = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
            parameter.copy_(drawn.normal_(0.0, deviation, generator=generator))

    @property
    def split_backward(self) -> bool:
        """Whether backward passes of forwards from now on can be split by `DeferredWeightGradients`."""
        return self._split_backward

    @split_backward.setter
    def split_backward(self, value: bool) -> None:
        self._split_backward = value
        for module in self.modules():
            if isinstance(module, SplitLinear | RMSNorm):
                module.split_backward = value

    def _embedding_matrix(self, user: str) -> Tensor:
        if not self.has_embedding:
            raise ValueError(f"{user}: this part does not hold the embedding")
        weight = self.model.embed_tokens.weight
        return counted(weight) if self._split_backward else weight

    def embed(self, tokens: Tensor) -> Tensor:
        """Token ids (b, t) int64 -> hidden states (b, t, dim); ValueError where the part holds no embedding."""
        return F.embedding(tokens, self._embedding_matrix("embed"))

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply the part's layers in ascending order: hidden (b, t, dim) -> (b, t, dim), t at most `context`."""
        length = hidden.shape[1]
        if length > self.config.context:
            raise ValueError(f"hidden: {length} positions, the model's context is {self.config.context}")
        cos, sin = self.model.rotary(length)
        for layer in self.model.layers.values():
            hidden = layer(hidden, cos, sin)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm and output head: hidden (b, t, dim) -> (b, t, vocab); ValueError where the part holds no head."""
        if not self.has_head:
            raise ValueError("logits: this part does not hold the head")
        normed = self.model.norm(hidden)
        if self.config.tied:
            return F.linear(normed, self._embedding_matrix("logits"))
        return self.lm_head(normed)

    def loss(self, hidden: Tensor, targets: Tensor, *, reduction: str = "mean") -> Tensor:
        """Cross entropy of the next tokens in nats, computed in float32.

        Parameters
        ----------
        hidden
            (b, t, dim), after the layers.
        targets
            (b, t) int64, the token that follows each position; -100 is left out.
        reduction
            "mean" (per token), "sum" or "none" (one loss a token).
        """
        return token_cross_entropy(self.logits(hidden), targets, reduction=reduction)


class Decoder(nn.Module):
    """A whole decoder as a list of stages that may be run in any order, or only in part.

    `state_dict` and `named_parameters` are those of one `DecoderPart` over all layers, however the model is cut.

    Parameters
    ----------
    config
        The model.
    stage_layers
        Number of layers of each stage, in ascending order of layers; None for one stage. Stage 0 also holds the
        embedding and the head.
    seed
        As in `DecoderPart`.

    Raises
    ------
    ValueError
        "stage_layers: message" where the stages do not share out exactly the model's layers.
    """

    def __init__(
        self, config: LanguageModelConfig, stage_layers: Sequence[int] | None = None, seed: int | None = 0
    ) -> None:
        super().__init__()
        counts = [config.layers] if stage_layers is None else list(stage_layers)
        if not counts or min(counts) < 0 or sum(counts) != config.layers:
            raise ValueError(f"stage_layers: expected counts with sum {config.layers}, found {counts}")
        starts = [sum(counts[:i]) for i in range(len(counts))]
        self.config = config
        self.stage_layers = tuple(counts)
        self.stages = nn.ModuleList(
            DecoderPart(config, range(start, start + count), embedding=stage == 0, head=stage == 0, seed=seed)
            for stage, (start, count) in enumerate(zip(starts, counts))
        )

    @property
    def first(self) -> DecoderPart:
        """Stage 0, which holds embedding and head."""
        return self.stages[0]  # type: ignore[return-value]

    def run(self, tokens: Tensor, order: Sequence[int] | None = None) -> Tensor:
        """Embed and run the stages of `order`.

        Parameters
        ----------
        tokens
            (b, t) int64.
        order
            Different stage numbers in the order to run them; stages not named are skipped. None for all, ascending.

        Returns
        -------
        Tensor
            Hidden states (b, t, dim).
        """
        stages = range(len(self.stages)) if order is None else order
        if len(set(stages)) < len(stages) or any(not 0 <= stage < len(self.stages) for stage in stages):
            message = f"expected different numbers between 0 and {len(self.stages) - 1}, found {list(stages)}"
            raise ValueError(f"order: {message}")
        hidden = self.first.embed(tokens)
        for stage in stages:
            hidden = self.stages[stage](hidden)
        return hidden

    forward = run

    def logits(self, tokens: Tensor, order: Sequence[int] | None = None) -> Tensor:
        """Logits (b, t, vocab) of the next token after each of tokens (b, t), through the stages of `order`."""
        return self.first.logits(self.run(tokens, order))

    def loss(self, tokens: Tensor, targets: Tensor, order: Sequence[int] | None = None) -> Tensor:
        """Mean cross entropy (nats per token, float32 scalar) of targets (b, t) through the stages of `order`."""
        return self.first.loss(self.run(tokens, order), targets)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters under the names of the whole model."""
        for stage in self.stages if recurse else ():
            yield from stage.named_parameters(prefix, recurse, remove_duplicate)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The tensors under the names of the whole model."""
        for stage in self.stages:
            destination = stage.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        return destination

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take tensors under the names of the whole model; RuntimeError where `strict` and names do not agree."""
        own = {name for name, _ in self.named_parameters()}
        missing, unexpected = sorted(own - set(state_dict)), sorted(set(state_dict) - own)
        if strict and (missing or unexpected):
            raise RuntimeError(
                f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}"
            )
        for stage in self.stages:
            names = {name for name, _ in stage.named_parameters()}
            stage.load_state_dict({k: v for k, v in state_dict.items() if k in names}, strict=strict, assign=assign)
        return nn.modules.module._IncompatibleKeys(missing, unexpected)
