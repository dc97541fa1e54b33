"""The same training in one process: every microbatch through the stages of its route, one after another.

It computes what a run computes (same weights, same data, same order of stages, same sums), with nothing in between that
could go wrong, so it is what runs are measured against; and where only learning is in question, it learns the same
without the time that nodes and links would take.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pathloom.data.token_files import TokenData
from pathloom.learn.language_model.config import LanguageModelConfig
from pathloom.learn.language_model.decoder import Decoder
from pathloom.worlds.train.runtime.batches import Batches
from pathloom.worlds.train.runtime.cut import layers_of
from pathloom.worlds.train.runtime.gradients import FlatGradients, adamw, apply_step, clip_factor
from pathloom.worlds.train.runtime.settings import RunSettings


class Alone:
    """One process that trains a model along routes.

    Parameters
    ----------
    config, stage_layers, samples
        The model, its cut into stages, and the samples of a microbatch.
    chunks
        Virtual stages a stage, as in `TrainDecisions`.
    """

    def __init__(
        self,
        config: LanguageModelConfig,
        stage_layers: Sequence[int],
        samples: int,
        data: TokenData,
        settings: RunSettings,
        *,
        chunks: int = 1,
    ) -> None:
        self.settings = settings
        counts = [len(layers) for layers in layers_of(stage_layers, chunks)]
        self.model = Decoder(config, counts, seed=settings.seed)
        self.parameters = dict(self.model.named_parameters())
        self.gradients = FlatGradients(self.parameters)
        self.optimizer = adamw(self.parameters, settings)
        self.batches = {
            split: Batches(data, split, context=config.context, samples=samples, seed=settings.seed)
            for split in ("train", "validation")
        }

    def accumulate(self, windows: int, orders: Sequence[Sequence[int]], share: float) -> list[float]:
        """Add the gradient of microbatches, one for each order of stages, that begin at window `windows` of the data.

        Parameters
        ----------
        orders
            Virtual stages of each microbatch, in the order in which it visits them.
        share
            Weight of a microbatch's loss.

        Returns
        -------
        list of float
            Loss of each microbatch, nats per token.
        """
        losses = []
        batches = self.batches["train"]
        for b, order in enumerate(orders):
            tokens, targets = batches.microbatch(windows + b * batches.samples)
            loss = self.model.loss(tokens, targets, order)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
        return losses

    def apply(self, rate: float) -> float:
        """Take a step with the gradient summed so far, and return its norm before clipping."""
        norm = float(torch.linalg.vector_norm(self.gradients.flat))
        factor = clip_factor(norm, self.settings.clip)
        apply_step(self.optimizer, self.gradients, factor=factor, rate=rate)
        return norm

    def step(self, windows: int, orders: Sequence[Sequence[int]], rate: float) -> tuple[float, float]:
        """One optimizer step of one iteration: mean loss and gradient norm."""
        losses = self.accumulate(windows, orders, 1.0 / len(orders))
        return sum(losses) / len(losses), self.apply(rate)

    @torch.no_grad()
    def validate(self, windows: int) -> float:
        """Mean loss of the first `windows` windows of the validation data through all stages in order."""
        batches = self.batches["validation"]
        count = max(1, windows // batches.samples)
        losses = []
        for b in range(count):
            tokens, targets = batches.microbatch(b * batches.samples)
            losses.append(float(self.model.loss(tokens, targets)))
        return sum(losses) / count
