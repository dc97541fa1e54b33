"""Rollouts of rules: try every choice, let rules play on under drawn breakdowns, take the choice that ends earliest.

One step of policy improvement over the best of several rules (D. Bertsekas, J. Tsitsiklis, C. Wu, "Rollout algorithms
for combinatorial optimization", 1997). Far slower than a rule and clearly better; it is the teacher from which the
learned policy starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online.floor import HOLD, View
from pathloom.worlds.shop.online.rules import Rule


@dataclass(frozen=True)
class Rollout:
    """A decision object that looks ahead by simulation.

    Attributes
    ----------
    samples
        Drawn futures a choice; one is enough where nothing is drawn.
    rules
        Names of the rules that play on; the best of them counts.
    seed
        Of the futures, which have nothing to do with what will happen.
    """

    samples: int = 8
    rules: tuple[str, ...] = ("LOR", "LIFO", "SPT", "MWKR")
    seed: int = 0
    may_hold = True

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"is {self.samples}, expected at least 1", key="samples")
        if not self.rules:
            raise InputError("is empty, expected names of rules", key="rules")

    def values(self, view: View) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The choices, `HOLD` last where it is allowed, and the expected makespan after each."""
        from pathloom.worlds.shop.online._rollout_kernels import rollout_values

        choices = np.append(view.candidates, [HOLD] if view.may_hold else []).astype(np.int64)
        outlook = view.outlook(breakdowns=True).part(0)
        disturbed = outlook.trouble[0, state.CHANCE] > 0 or outlook.trouble[0, state.BETWEEN] > 0
        samples = self.samples if disturbed or view.down.any() or "RANDOM" in self.rules else 1
        numbers = np.array([Rule(name).number for name in self.rules], dtype=np.int64)
        out = np.empty((len(choices), len(numbers)))
        # Futures differ from decision to decision, else one lucky draw would be counted on for the whole run.
        seed = (self.seed + 1) * 1_000_003 + 1009 * int(view.run.whole[state.DECISIONS])
        rollout_values(outlook, choices, numbers, samples, seed, out)
        return choices, out.min(axis=1)

    def decide(self, view: View) -> int:
        """The choice with the least expected makespan; a job rather than holding where they are alike."""
        choices, value = self.values(view)
        return int(choices[np.argmin(value)])
