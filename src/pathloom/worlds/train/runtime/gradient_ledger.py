"""Which node holds the gradient of which microbatch and stage, when backward passes are done again and nodes die.

A node sums up the gradients of its microbatches, and nobody can take one out of the sum. A backward pass that a new
attempt repeats must therefore not count where the same gradient is in the sum of a live node already; and it must count
where the node that held it has died.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train.problem import LOSS, Floats
from pathloom.worlds.train.runtime.reported_times import ReportedTimes
from pathloom.worlds.train.simulator import Chains

Gradient = tuple[int, int]
"""Microbatch and stage (a virtual stage where nodes hold several model chunks), or `LOSS_GRADIENT` for the stage."""

LOSS_GRADIENT = -1
"""Stands for the stage in the gradient of the head, which the loss adds to before the backward pass of stage 0 does."""


def gradients_of(laid: Chains, row: int, microbatch: int) -> list[tuple[int, Gradient]]:
    """The tasks of an attempt that complete gradients, and which."""
    found = [(int(t), (microbatch, int(laid.stage[row, t]))) for t in np.flatnonzero(laid.slot == -1)]
    found += [(int(t), (microbatch, LOSS_GRADIENT)) for t in np.flatnonzero(laid.kind == LOSS)]
    return found


class GradientLedger:
    """Holders of gradients, from reported ends and from what nodes were told not to count."""

    def __init__(self) -> None:
        self._holders: dict[Gradient, list[int]] = {}
        self._told_at: list[float] = []
        self._told: list[frozenset[Gradient]] = []
        self._seen: NDArray[np.bool_] = np.zeros((0, 0), dtype=np.bool_)

    def settle(self, times: ReportedTimes, end: Floats) -> None:
        """Enter the gradients of all tasks whose end is known and that were not entered before.

        A node counts a gradient when the task that completes it ends (the backward pass, or its weight task; the loss
        for the head), unless the attempt was dropped before, or the node had been told not to.
        """
        laid, attempts = times.laid, times.attempts
        ended = np.isfinite(end)
        seen = np.zeros(end.shape, dtype=np.bool_)
        seen[: len(self._seen)] = self._seen if self._seen.size else False
        for row in np.flatnonzero((ended & ~seen).any(axis=1)):
            for t, gradient in gradients_of(laid, int(row), int(attempts.microbatch[row])):
                if not ended[row, t] or seen[row, t] or end[row, t] > attempts.dropped_at[row]:
                    continue
                if gradient not in self._told_by(float(end[row, t])):
                    self._holders.setdefault(gradient, []).append(int(laid.node[row, t]))
        self._seen = ended

    def tell(self, time: float, gradients: frozenset[Gradient]) -> None:
        """From `time` on, nodes count all gradients but these."""
        self._told_at.append(time)
        self._told.append(gradients)

    def held(self, live: NDArray[np.bool_]) -> dict[Gradient, int]:
        """The live node that holds each gradient that one holds."""
        holders = {gradient: [n for n in nodes if live[n]] for gradient, nodes in self._holders.items()}
        return {gradient: nodes[0] for gradient, nodes in holders.items() if nodes}

    def doubled(self, live: NDArray[np.bool_]) -> list[Gradient]:
        """Gradients that more than one live node holds, because an end was reported after it had been decided upon."""
        return sorted(g for g, nodes in self._holders.items() if sum(bool(live[n]) for n in nodes) > 1)

    def _told_by(self, time: float) -> frozenset[Gradient]:
        at = bisect_left(self._told_at, time)
        return self._told[at - 1] if at else frozenset()
