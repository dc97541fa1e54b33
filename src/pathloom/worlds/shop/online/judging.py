"""Judging a floor policy in training: disturbed shops that are set aside, on which it is compared with the rules."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pathloom.learn.typed_edge_network import TypedEdgeNetwork
from pathloom.plan import InputError
from pathloom.worlds.shop.online.floor import Floor
from pathloom.worlds.shop.online.policy import DrawnShops, FloorPolicy
from pathloom.worlds.shop.online.rules import RULES

__all__ = ["FloorJudge"]


class FloorJudge:
    """Runs of policies on shops set aside against the best rule, and the best weights so far.

    Parameters
    ----------
    shops
        What to draw from, as training does, with draws of its own.
    file
        Where the best weights and their score are kept, taken up if it exists.
    count
        Shops to judge on.

    Attributes
    ----------
    score
        Mean makespan of the best weights over that of the rule that is best on these shops; infinite before any.
    """

    def __init__(self, shops: DrawnShops, file: Path, count: int = 24) -> None:
        drawn = [shops.draw(np.random.default_rng([2**31, number])) for number in range(count)]
        self.shops, self.trouble = [shop for shop, _ in drawn], [trouble for _, trouble in drawn]
        means = []
        for rule, number in RULES.items():
            if rule != "RANDOM":
                floor = Floor(self.shops, self.trouble, range(count))
                floor.advance(number)
                means.append(floor.makespans.mean())
        self.best_rule = float(min(means))
        self.file, self.score = file, math.inf
        if file.exists():
            self.score = float(self._kept()["score"])

    def __call__(self, network: TypedEdgeNetwork) -> float:
        """Score of the network, whose weights are kept if it is the best so far."""
        training = network.training
        floor = Floor(self.shops, self.trouble, range(len(self.shops)), ask_single=True)
        FloorPolicy(network, {}).run_all(floor)
        network.train(training)
        score = float(floor.makespans.mean()) / self.best_rule
        if score < self.score:
            self.score = score
            beside = self.file.with_name(self.file.name + ".part")
            with beside.open("wb") as file:
                torch.save({"network": network.state_dict(), "score": score}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.file)
        return score

    def restore(self, network: TypedEdgeNetwork) -> None:
        """Give the network the best weights so far."""
        network.load_state_dict(self._kept()["network"])

    def _kept(self) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = torch.load(self.file, weights_only=True)
        except Exception as error:  # torch.load raises errors of many unrelated types
            raise InputError(f"holds no weights ({str(error).splitlines()[0]})", file=str(self.file)) from None
        return kept
