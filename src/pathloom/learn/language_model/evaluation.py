"""Perplexity of a decoder, whole, with stages left out or reordered, and after an early exit.

Every token but the first is predicted exactly once: the text is cut into consecutive windows of the model's context,
and a token sees what precedes it in its window. Orders that begin alike share the work of their common beginning, so
all subsets of S stages with the first cost 2^(S-1) stage passes instead of (S+1) 2^(S-2).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pathloom.data.token_windows import Windows
from pathloom.learn.language_model.decoder import Decoder
from pathloom.learn.language_model.stage_orders import Order, checked_order, removals, whole, without
from pathloom.plan import OnProgress, Progress

Tokens = npt.NDArray[Any]

BYTES = 256
"""Ids below this are bytes in a byte-level vocabulary."""


@dataclass(frozen=True)
class Evaluation:
    """How well one order of stages predicts a text.

    Attributes
    ----------
    order
        The stages that ran, in that order.
    loss
        Mean negative log-likelihood, in nats per token.
    tokens
        Number of predicted tokens.
    bits_per_byte
        Where tokens are bytes; None elsewhere.
    """

    order: Order
    loss: float
    tokens: int
    bits_per_byte: float | None = None

    @property
    def perplexity(self) -> float:
        """Exponential of the loss; infinite where that is out of range."""
        return perplexity_of(self.loss)

    def to_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return {
            "order": list(self.order),
            "loss": self.loss,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
        }


@dataclass(frozen=True)
class Removal:
    """What removing a number of stages does, over sets of them.

    Attributes
    ----------
    removed
        How many stages are gone.
    sets
        Which ones, a tuple of numbers a set.
    evaluations
        What is left of the model, for each set.
    complete
        Whether these are all sets of that size.
    """

    removed: int
    sets: tuple[tuple[int, ...], ...]
    evaluations: tuple[Evaluation, ...]
    complete: bool

    @property
    def losses(self) -> npt.NDArray[np.float64]:
        """Loss of each set, nats per token."""
        return np.array([evaluation.loss for evaluation in self.evaluations])

    @property
    def mean_loss(self) -> float:
        """Mean loss over the sets, nats per token."""
        return float(self.losses.mean())

    @property
    def mean_perplexity(self) -> float:
        """Arithmetic mean of the sets' perplexities, at least the exponential of the mean loss."""
        return sum(evaluation.perplexity for evaluation in self.evaluations) / len(self.evaluations)

    @property
    def best(self) -> int:
        """Position of the set with the lowest loss."""
        return int(self.losses.argmin())

    @property
    def worst(self) -> int:
        """Position of the set with the highest loss."""
        return int(self.losses.argmax())

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, each set with its own."""
        best, worst = self.evaluations[self.best], self.evaluations[self.worst]
        return {
            "removed": self.removed,
            "complete": self.complete,
            "mean_loss": self.mean_loss,
            "mean_perplexity": self.mean_perplexity,
            "best_loss": best.loss,
            "best_perplexity": best.perplexity,
            "worst_loss": worst.loss,
            "worst_perplexity": worst.perplexity,
            "sets": [
                {"without": list(gone), **evaluation.to_dict()} for gone, evaluation in zip(self.sets, self.evaluations)
            ],
        }


def perplexity_of(loss: float) -> float:
    """Exponential of a loss in nats, infinite where that is out of range."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def perplexity(
    model: Decoder,
    tokens: Tokens | Windows,
    *,
    order: Sequence[int] | None = None,
    batch: int = 8,
    limit: int | None = None,
    context: int | None = None,
    byte_level: bool = False,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Loss of `model` on a text with its stages run in `order` (all of them if None); the rest as in `evaluate`."""
    stages = len(model.stages)
    chosen = whole(stages) if order is None else order
    (found,) = evaluate(
        model,
        tokens,
        [chosen],
        batch=batch,
        limit=limit,
        context=context,
        byte_level=byte_level,
        on_progress=on_progress,
    )
    return found


@torch.no_grad()
def evaluate(
    model: Decoder,
    tokens: Tokens | Windows,
    orders: Sequence[Sequence[int]],
    *,
    batch: int = 8,
    limit: int | None = None,
    context: int | None = None,
    byte_level: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Evaluation]:
    """Loss of `model` on a text, for several orders of its stages at once.

    Parameters
    ----------
    model
        Computes in its own type on its own device, without autocast; losses are float32, their sum float64. Its mode
        (training or not) is as before afterwards.
    tokens
        Ids ``(n,)`` in the order of the text; of `Windows`, their array and context are taken, not their random order.
    orders
        Stage numbers, stage 0 first, none twice.
    batch
        Windows at a time.
    limit
        Predict the first so many tokens only; None for all.
    context
        Tokens a window, at most and by default the model's context.
    byte_level
        Whether ids below 256 are bytes, so that bits a byte are known; other ids (the end of a text) cost bits and
        bring no byte.
    on_progress
        Told how many tokens are predicted.

    Returns
    -------
    list
        One `Evaluation` an order.

    Raises
    ------
    ValueError
        If an order is none, or batch, limit or context are out of range, or there are fewer than two tokens, or a
        token is outside the model's vocabulary.
    """
    if isinstance(tokens, Windows):
        context = tokens.context if context is None else context
        tokens = tokens.tokens
    length = model.config.context if context is None else context
    if not 1 <= length <= model.config.context:
        raise ValueError(f"context: expected 1 to {model.config.context}, found {length}")
    if batch < 1:
        raise ValueError(f"batch: expected at least 1, found {batch}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1, found {limit}")
    if len(tokens) < 2:
        raise ValueError(f"tokens: expected at least 2, found {len(tokens)}")
    checked = [checked_order(order, len(model.stages)) for order in orders]
    trie = _Trie.of(checked)
    count = len(tokens) - 1 if limit is None else min(limit, len(tokens) - 1)
    nats = np.zeros(len(checked))
    predicted = bytes_seen = 0
    began = time.monotonic()
    device = next(model.parameters()).device
    with _evaluating(model, device):
        for piece in _batches(tokens, count, length, batch):
            if piece.min() < 0 or piece.max() >= model.config.vocab:
                wrong = int(piece.min()) if piece.min() < 0 else int(piece.max())
                raise ValueError(f"tokens: id {wrong} is outside the model's vocabulary of {model.config.vocab}")
            ids = torch.from_numpy(piece).to(device)
            targets = ids[:, 1:]
            _descend(model, trie, model.first.embed(ids[:, :-1]), _Adder(model, targets, nats))
            predicted += targets.numel()
            bytes_seen += int((piece[:, 1:] < BYTES).sum())
            if on_progress is not None:
                phase = f"{predicted:,} of {count:,} tokens"
                on_progress(Progress(time.monotonic() - began, None, phase=phase))
    bits = nats / math.log(2) / bytes_seen if byte_level and bytes_seen else None
    return [
        Evaluation(order, float(nats[i]) / predicted, predicted, None if bits is None else float(bits[i]))
        for i, order in enumerate(checked)
    ]


def removal_curve(
    model: Decoder,
    tokens: Tokens | Windows,
    *,
    most: int | None = None,
    sets: int | None = None,
    seed: int = 0,
    batch: int = 8,
    limit: int | None = None,
    context: int | None = None,
    byte_level: bool = False,
    on_progress: OnProgress | None = None,
) -> list[Removal]:
    """What is lost when 0, 1, ... stages are removed; stage 0 always stays.

    Parameters
    ----------
    most
        Largest number of removed stages; None for all but stage 0.
    sets
        Sets of stages to try for each number, drawn where there are more; None for all.
    seed
        Of the draw.
    batch, limit, context, byte_level, on_progress
        As in `evaluate`.

    Returns
    -------
    list
        One `Removal` for 0 to `most` removed stages.

    Raises
    ------
    ValueError
        As `evaluate`, and if so many stages cannot be removed or there are too many sets.
    """
    stages = len(model.stages)
    last = stages - 1 if most is None else most
    if not 0 <= last <= stages - 1:
        raise ValueError(f"most: expected 0 to {stages - 1} removed stages, found {last}")
    chosen = [removals(stages, removed, sets=sets, seed=seed) for removed in range(last + 1)]
    found = iter(
        evaluate(
            model,
            tokens,
            [without(stages, gone) for group in chosen for gone in group],
            batch=batch,
            limit=limit,
            context=context,
            byte_level=byte_level,
            on_progress=on_progress,
        )
    )
    return [
        Removal(
            removed,
            tuple(group),
            tuple(next(found) for _ in group),
            len(group) == math.comb(stages - 1, removed),
        )
        for removed, group in enumerate(chosen)
    ]


@dataclass
class _Trie:
    """Orders by their beginnings: the positions of those that end here, and what follows by stage."""

    ends: list[int] = field(default_factory=list)
    next: dict[int, _Trie] = field(default_factory=dict)

    @classmethod
    def of(cls, orders: Sequence[Order]) -> _Trie:
        root = cls()
        for position, order in enumerate(orders):
            node = root
            for stage in order:
                node = node.next.setdefault(stage, cls())
            node.ends.append(position)
        return root


class _Adder:
    """Adds the loss of hidden states to the sums of the orders that end with them."""

    def __init__(self, model: Decoder, targets: Tensor, nats: npt.NDArray[np.float64]) -> None:
        self._model, self._targets, self._nats = model, targets, nats

    def __call__(self, hidden: Tensor, positions: list[int]) -> None:
        losses = self._model.first.loss(hidden, self._targets, reduction="none")
        self._nats[positions] += float(losses.double().sum())


def _descend(model: Decoder, node: _Trie, hidden: Tensor, add: Callable[[Tensor, list[int]], None]) -> None:
    if node.ends:
        add(hidden, node.ends)
    for stage, following in node.next.items():
        _descend(model, following, model.stages[stage](hidden), add)


def _batches(tokens: Tokens, count: int, length: int, batch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Windows of `length` inputs and their targets, ``(b, length + 1)``; a shorter last window comes alone."""
    full = count // length
    for first in range(0, full, batch):
        starts = range(first * length, min(first + batch, full) * length, length)
        yield np.stack([np.asarray(tokens[start : start + length + 1], np.int64) for start in starts])
    if count > full * length:
        yield np.asarray(tokens[full * length : count + 1], np.int64)[None]


@contextmanager
def _evaluating(model: Decoder, device: torch.device) -> Iterator[None]:
    """No training mode and no automatic casts inside."""
    training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        model.train(training)
