"""Even use of the network: sizes of stages, layers of stages, and the caps of throughput constraint TC1.

TC1 (N. Blagoev, L. Y. Chen, O. Ersoy, SkipPipe, 2025) keeps one wave of microbatches from piling up on a node or a
stage: with memory for M activations a node serves at most M microbatches a wave. A source that starts more than M
microbatches starts them in waves, and the caps of the iteration are those of one wave times the waves. Where that would
leave too little room for all visits (small memory, many visited stages) the caps are raised to the least that has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pathloom.worlds.train.problem import Ints

Strictness = Literal["strict", "free"]


@dataclass(frozen=True)
class Balance:
    """Which caps of TC1 hold ("strict") and which do not ("free": as many as there are microbatches)."""

    node: Strictness = "strict"
    source: Strictness = "strict"
    stage: Strictness = "strict"


def even_sizes(n: int, parts: int) -> Ints:
    """Sizes of `parts` groups of `n` things, as even as possible, the rest in the first group: 20 in 6 is 5,3,3,3,3,3.

    Stage 0 gets the rest because its nodes have most to do: they take every microbatch, and compute the loss too.
    """
    sizes = np.full(parts, n // parts, dtype=np.int64)
    sizes[0] += n - sizes.sum()
    return sizes


def split_layers(costs: Sequence[float], stages: int) -> Ints:
    """Number of consecutive layers of each stage, so that the most expensive stage is as cheap as possible.

    Parameters
    ----------
    costs
        Cost of each layer, above 0, at least as many as stages.
    stages
        Number of stages; each gets at least one layer. Equal layers are dealt evenly, extra ones from stage 1 on.
    """
    if min(costs) == max(costs):
        counts = np.full(stages, len(costs) // stages, dtype=np.int64)
        extra = len(costs) - counts.sum()
        # Stage 0 already has the loss on top of its layers.
        counts[[(1 + i) % stages for i in range(extra)]] += 1
        return counts
    low, high = max(costs), float(sum(costs))
    for _ in range(100):  # halving ends at neighbouring floats long before
        middle = (low + high) / 2
        if _pack(costs, stages, middle) is None:
            low = middle
        else:
            high = middle
    packed = _pack(costs, stages, high)
    assert packed is not None
    return packed


def _pack(costs: Sequence[float], stages: int, limit: float) -> Ints | None:
    """Fill stages from the front up to `limit`, leaving a layer for each later stage; None if they do not hold all."""
    counts = np.zeros(stages, dtype=np.int64)
    layer = 0
    for stage in range(stages):
        later = stages - stage - 1
        load = 0.0
        while layer < len(costs) - later and (load + costs[layer] <= limit or counts[stage] == 0):
            load += costs[layer]
            counts[stage] += 1
            layer += 1
    return counts if layer == len(costs) else None


def tc1_caps(
    microbatches: int,
    route_length: int,
    stage_sizes: ArrayLike,
    memory: ArrayLike,
    balance: Balance | None = None,
) -> tuple[int, Ints, Ints]:
    """Caps of TC1 for an iteration.

    Parameters
    ----------
    microbatches, route_length
        Microbatches of the iteration and stages that each visits.
    stage_sizes
        Shape (S,): nodes of each stage.
    memory
        Shape (N,): activations that each node holds; their lower median counts.
    balance
        Which caps are strict.

    Returns
    -------
    source_cap
        Most microbatches that may start at one node of stage 0: an even share, rounded up.
    stage_cap
        Shape (S,): most that may visit stage p, its size times the strict node cap (all of them for stage 0).
    node_cap
        Shape (N,): most that may visit one node of a later stage.
    """
    balance = balance or Balance()
    sizes = np.asarray(stage_sizes, dtype=np.int64)
    slots = np.sort(np.asarray(memory, dtype=np.int64))
    source = -(-microbatches // int(sizes[0]))
    median = int(slots[(len(slots) - 1) // 2])
    waves = -(-source // median)
    visits = microbatches * (route_length - 1)
    # Smallest cap c with room for all visits: a stage takes at most size * c of them and each microbatch once.
    low, high = 0, microbatches
    while low < high:
        middle = (low + high) // 2
        if int(np.minimum(microbatches, sizes[1:] * middle).sum()) >= visits:
            high = middle
        else:
            low = middle + 1
    node = max(median * waves, low)
    stage_cap = sizes * node if balance.stage == "strict" else np.full(len(sizes), microbatches, dtype=np.int64)
    stage_cap[0] = microbatches
    return (
        source if balance.source == "strict" else microbatches,
        stage_cap,
        np.full(len(slots), node if balance.node == "strict" else microbatches, dtype=np.int64),
    )
