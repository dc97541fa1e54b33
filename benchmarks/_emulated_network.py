"""The emulated network of the convergence benchmark: what an iteration takes there, full and with a third skipped.

The network is that of SkipPipe's first experiment: 20 equal nodes dealt over the 12 regions of gcp12 (with the
bandwidth between the Netherlands and London corrected), LLaMA of 500 million parameters, 6 stages, of which 5, 3, 3, 3,
3 and 3 nodes hold a copy. One wave of 15 microbatches, 3 a source, so that the caps of TC1 give every stage but the
first exactly 3 of 5 microbatches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from _baselines import FULL, SKIPPING, best_of_each, checked, placements
from pathloom.worlds.train.files import loads
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.route_search import pathloom

INPUT = """\
name: gcp12-one-wave
nodes: {count: 20, speed: 0.055, memory: 3}   # seconds per layer and sample; activations that a node holds
links: {network: gcp12, overhead: 350 ms, precision: fp32}
model: {dim: 1024, layers: 24, heads: 16, ffn_dim: 4096, context: 1024, vocab: 32000}
microbatches: 15
samples: 8
stages: {count: 6, sizes: auto}
run_share: 4/6
reordering: {distance: 1, swaps: 2, total: 2, jump: 4}
times: {backward: 1.5, loss: 0.25, gap: 130 ms, injection_gap: 90 ms}
synchronisation: none
"""
"""A file for ``pathloom plan``."""


@dataclass(frozen=True)
class Planned:
    """Iterations of one seed.

    Attributes
    ----------
    seed
        Of the placements and of the planner.
    orders
        Stages of each microbatch in the order in which pathloom's plan visits them.
    seconds
        Simulated iteration time of each method: "pathloom" and "dtfm-skip" skip a third, the others run all stages.
    """

    seed: int
    orders: list[list[int]]
    seconds: dict[str, float]

    @property
    def full(self) -> str:
        """The fastest full pipeline."""
        return min(FULL, key=self.seconds.__getitem__)

    @property
    def ratio(self) -> float:
        """How many planned iterations fit into one of the fastest full pipeline."""
        return self.seconds[self.full] / self.seconds["pathloom"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def problem() -> TrainProblem:
    """The problem of `INPUT`."""
    return loads(INPUT, "gcp12-one-wave.yaml")


def planned(seed: int, *, time_limit: float, trials: int) -> Planned:
    """Plan an iteration by all methods; every plan has passed the checker.

    Parameters
    ----------
    time_limit
        Seconds of planning for pathloom.
    trials
        Of DT-FM's genetic search, which places the nodes of the other methods; each has the best of three placements.
    """
    given = problem()
    candidates = placements(given, trials=trials, seed=seed)
    plans = best_of_each(FULL | SKIPPING, given, candidates, seed=seed)
    ours = checked(pathloom(given, time_limit=time_limit, seed=seed, threads=1))
    return Planned(
        seed,
        [[int(stage) for stage in order] for order in ours.decisions.stages],
        {name: plan.objective.value for name, plan in {**plans, "pathloom": ours}.items()},
    )


def visits(orders: Sequence[Sequence[int]]) -> dict[str, int]:
    """How many microbatches take each order of stages, the most frequent first."""
    return dict(Counter("".join(map(str, order)) for order in orders).most_common())
