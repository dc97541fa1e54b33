"""Judging a policy in training: shops that are set aside, on which it is compared with dispatching rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.learn.dispatching.inference import roll_out
from pathloom.learn.dispatching.lessons import ShopSeed
from pathloom.learn.dispatching.policy import DispatchingPolicy
from pathloom.schedule.interval_environment import RULES, IntervalEnvironment


class Judge:
    """Greedy passes of policies on shops set aside, against the rules.

    Parameters
    ----------
    sizes, each
        (jobs, machines) of the shops, and how many there are of each size.
    choices
        Most alternatives of an operation; 0 for job shops. In flexible shops every rule is tried in both its forms.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], each: int, choices: int) -> None:
        generator = np.random.default_rng([2**31, len(sizes)])
        shops = [
            ShopSeed(jobs, machines, choices, int(generator.integers(2**62))).make()
            for jobs, machines in sizes
            for _ in range(each)
        ]
        self.environment = IntervalEnvironment(shops)
        self.labels = [f"{jobs}x{machines}" for jobs, machines in sizes]
        self.each = each
        self.rules: dict[str, NDArray[np.int64]] = {}
        for rule in RULES:
            for patient in (False, True) if choices else (False,):
                self.environment.reset()
                self.environment.finish_by_rule(rule, patient=patient)
                self.rules[f"{rule}, first to end" if patient else rule] = self.environment.makespan
        # The best rule is one rule for all shops of a size.
        table = np.stack([m.reshape(-1, self.each) for m in self.rules.values()])
        best = table.mean(2).argmin(0)
        self.best_rule = np.concatenate([table[rule, size] for size, rule in enumerate(best)])

    def __call__(self, policy: DispatchingPolicy) -> float:
        """Mean of the greedy pass's makespan over that of the rule that is best for the shop's size."""
        self.environment.reset()
        policy.eval()
        roll_out(policy, self.environment)
        return float((self.environment.makespan / self.best_rule).mean())

    def scores(self, policy: DispatchingPolicy) -> dict[str, Any]:
        """Mean makespans by size: of the greedy pass, and of each rule."""
        self(policy)
        rows = {"policy, greedy": self.environment.makespan, **self.rules}
        return {
            "shops": f"{self.each} generated shops of each size that were not trained on",
            "mean makespan": {
                size: {name: round(float(m[i * self.each : (i + 1) * self.each].mean()), 1) for name, m in rows.items()}
                for i, size in enumerate(self.labels)
            },
        }
