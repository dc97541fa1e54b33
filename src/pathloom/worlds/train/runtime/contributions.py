"""Which node has summed how many gradients of a step, and what a stage's sum lacks when a node dies with its share."""

from __future__ import annotations

from collections import Counter

from pathloom.worlds.train.runtime.live_view import LiveIteration


class Contributions:
    """Gradients of microbatches that have gone into the sums of one optimizer step."""

    def __init__(self) -> None:
        self._given: Counter[tuple[str, int]] = Counter()  # (node, stage) -> microbatches
        self._gone: Counter[int] = Counter()  # stage -> microbatches whose gradient died

    def add(self, live: LiveIteration) -> None:
        """Enter a finished iteration."""
        stages = live.problem.n_stages
        for node, stage in live.counted_at():
            self._given[live.problem.nodes[node], stage % stages] += 1
        for _, stage in live.incomplete():
            self._gone[stage % stages] += 1

    def lose(self, node: str) -> None:
        """A node has died with what it had summed."""
        for key in [key for key in self._given if key[0] == node]:
            self._gone[key[1]] += self._given.pop(key)

    def scales(self, stages: int) -> list[float] | None:
        """Factor on each stage's sum that makes up for what died, so that it stands for all microbatches that visited.

        None if all that a stage had died.
        """
        scales = []
        for stage in range(stages):
            held = sum(count for (_, p), count in self._given.items() if p == stage)
            gone = self._gone[stage]
            if gone and not held:
                return None
            scales.append((held + gone) / held if gone else 1.0)
        return scales
