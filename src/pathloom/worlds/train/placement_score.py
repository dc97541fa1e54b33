"""What a partition of the nodes into stages is worth to DT-FM and to SkipPipe, and the chains that it holds.

The definitions, their sources, and the departures from the authors' programs are listed in `dtfm_placement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pathloom.worlds.train.problem import Floats, Ints, TrainProblem

Variant = Literal["dtfm", "skippipe"]

GRADIENT_FACTOR = 4 * 16_779_264 * 4 / (6 * 8 * 4 * 1024 * 1024)
"""Gradient of SkipPipe's default stage (4 layers of 16.8 M float32) over the activations of its 6 microbatches."""


@dataclass(frozen=True)
class PartitionScore:
    """What a partition is worth.

    Attributes
    ----------
    score
        ``data_cost + 2 * pipeline_cost``.
    pipeline_cost, data_cost
        Seconds, as the variant defines them.
    order
        Shape (S,): ``order[p]`` is the group that serves as stage p.
    """

    score: float
    pipeline_cost: float
    data_cost: float
    order: Ints


@dataclass(frozen=True)
class PartitionCosts:
    """A problem as the kernels see it.

    Attributes
    ----------
    starts, sizes
        Shapes (S + 1,) and (S,): where each group's nodes begin in a list by group, and how many they are.
    weight, edge
        Shape (N, N), symmetric: what the gains of the local search and the matching between groups count.
    fixed, sharded, summed
        Data cost, see `_placement_kernels.data_cost`.
    closed
        Whether the groups are ordered as a closed tour from group 0.
    allowed
        Shape (S, S): whether group g has the size of stage p.
    """

    starts: Ints
    sizes: Ints
    weight: Floats
    edge: Floats
    fixed: Floats
    sharded: Floats
    summed: bool
    closed: bool
    allowed: NDArray[np.bool_]


def partition_costs(problem: TrainProblem, variant: Variant, gradient_factor: float) -> PartitionCosts:
    """The arrays of `problem` in the units of the variant; raises ValueError if there is no such variant."""
    if variant not in ("dtfm", "skippipe"):
        raise ValueError(f"variant is {variant!r}, expected 'dtfm' or 'skippipe'")
    # A copy: the problem's arrays are read-only, which to numba is another type and another compilation.
    sizes = np.array(problem.stage_sizes, dtype=np.int64)
    n = problem.n_nodes
    finite = np.isfinite(problem.link)
    # Dear enough to be avoided wherever that is possible, finite so that sums and differences stay numbers.
    missing = 1e3 * (1.0 + float(problem.link[finite].max(initial=0.0)))
    one_way = np.where(finite, problem.link, missing)
    np.fill_diagonal(one_way, 0.0)
    link = np.ascontiguousarray((one_way + one_way.T) / 2)
    closed = variant == "skippipe"
    if variant == "skippipe":
        forward = np.asarray(problem.forward, dtype=np.float64).mean(axis=1)
        edge = link + (forward[:, None] + forward[None, :]) / 2
        weight = link * (1.0 - gradient_factor)
        fixed, sharded = one_way, np.zeros((n, n))
    else:
        edge = weight = link
        if problem.sync_latency is not None and problem.sync_seconds is not None:
            fixed = 2.0 * np.asarray(problem.sync_latency, dtype=np.float64)
            sharded = 2.0 * np.asarray(problem.sync_seconds, dtype=np.float64)
        else:
            fixed, sharded = np.zeros((n, n)), 2.0 * gradient_factor * one_way
        fixed, sharded = (np.where(np.isfinite(c), c, missing) for c in (fixed, sharded))
    return PartitionCosts(
        starts=np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
        sizes=sizes,
        weight=np.ascontiguousarray(weight),
        edge=np.ascontiguousarray(edge),
        fixed=np.ascontiguousarray(fixed),
        sharded=np.ascontiguousarray(sharded),
        summed=variant == "dtfm",
        closed=closed,
        allowed=np.ascontiguousarray(sizes[:, None] == sizes[None, :]),
    )


def checked_group(problem: TrainProblem, group: ArrayLike) -> Ints:
    """`group` as an array of shape (N,), if its groups have the sizes of the stages; else raises ValueError."""
    array = np.array(group, dtype=np.int64)
    sizes = np.asarray(problem.stage_sizes)
    if array.shape != (problem.n_nodes,) or (array < 0).any() or (array >= len(sizes)).any():
        raise ValueError(f"expected one group from 0 to {len(sizes) - 1} for each of {problem.n_nodes} nodes")
    count = np.bincount(array, minlength=len(sizes))
    if (count != sizes).any():
        raise ValueError(f"the groups have {count.tolist()} nodes, expected {sizes.tolist()}")
    return array


def _data_and_cross(costs: PartitionCosts, group: Ints, truncated: bool) -> tuple[float, Floats]:
    from pathloom.worlds.train._placement_kernels import cross_costs, cross_edges, data_cost, list_members

    members = np.empty(len(group), np.int64)
    list_members(group, costs.starts, members)
    cross = np.empty((len(costs.sizes), len(costs.sizes)))
    cross_costs(cross_edges(costs.edge, members), costs.starts, truncated, False, cross)
    return float(data_cost(members, costs.starts, costs.fixed, costs.sharded, costs.summed)), cross


def partition_score(
    problem: TrainProblem,
    group: ArrayLike,
    *,
    variant: Variant = "skippipe",
    truncated: bool = False,
    gradient_factor: float = GRADIENT_FACTOR,
) -> PartitionScore:
    """Score of a partition, its groups in the best order found.

    Parameters
    ----------
    problem
        Its link times, forward times, stage sizes and, for ``"dtfm"``, synchronisation times are read. Without
        these DT-FM's data cost takes ``gradient_factor * link`` for the transfer of a stage gradient.
    group
        Shape (N,): group of each node; group g has ``stage_sizes[g]`` nodes.
    variant
        Whose costs, see the module.
    truncated
        Match as SkipPipe does where a larger group meets a smaller one of higher number: only its first nodes.
    gradient_factor
        Transfer time of a stage gradient in units of the link time.

    Returns
    -------
    PartitionScore
        Up to 16 groups the order is optimal, beyond that locally optimal.

    Raises
    ------
    ValueError
        If the groups have not the sizes of the stages, or the variant is unknown.
    """
    from pathloom.graph.held_karp import held_karp
    from pathloom.graph.tour_local_search import tour_local_search
    from pathloom.worlds.train._placement_kernels import EXACT_GROUPS

    costs = partition_costs(problem, variant, gradient_factor)
    data, cross = _data_and_cross(costs, checked_group(problem, group), truncated)
    search = held_karp if len(cross) <= EXACT_GROUPS else tour_local_search
    tour = search(cross, closed=costs.closed, start=0 if costs.closed else None, allowed=costs.allowed)
    return PartitionScore(data + 2 * tour.cost, tour.cost, data, tour.order)


def placement_score(
    problem: TrainProblem,
    placement: ArrayLike,
    *,
    variant: Variant = "skippipe",
    gradient_factor: float = GRADIENT_FACTOR,
) -> PartitionScore:
    """Score of a placement as it stands: group p is stage p. Arguments and errors as in `partition_score`."""
    costs = partition_costs(problem, variant, gradient_factor)
    data, cross = _data_and_cross(costs, checked_group(problem, placement), False)
    order = np.arange(len(cross), dtype=np.int64)
    pipeline = float(cross[order[:-1], order[1:]].sum())
    if costs.closed and len(cross) > 1:
        pipeline += float(cross[-1, 0])
    return PartitionScore(data + 2 * pipeline, pipeline, data, order)


def chains(problem: TrainProblem, placement: ArrayLike, *, variant: Variant = "skippipe") -> tuple[Ints, ...]:
    """Match the nodes of consecutive stages into chains, the dearest link of each step as cheap as possible.

    Parameters
    ----------
    problem, variant
        The variant's edge cost is matched, see the module.
    placement
        Shape (N,): stage of each node; stage p has ``stage_sizes[p]`` nodes.

    Returns
    -------
    tuple of arrays
        One array a stage, shape ``(stage_sizes[p],)``: chain c runs through ``chains[0][c], chains[1][c], ...``. The
        first ``min(stage_sizes)`` chains are complete. A chain that finds no partner in a smaller stage ends there;
        longer chains come before shorter ones, and the nodes of a stage in no chain from stage 0 come last.

    Raises
    ------
    ValueError
        If the placement has not the sizes of the stages.
    """
    from pathloom.graph.bottleneck_matching import bottleneck_matching

    edge = partition_costs(problem, variant, GRADIENT_FACTOR).edge
    stage = checked_group(problem, placement)
    running = [[int(node)] for node in np.flatnonzero(stage == 0)]
    ended: list[list[int]] = []
    unmatched: list[list[int]] = [[]]
    for p in range(1, problem.n_stages):
        nodes = np.flatnonzero(stage == p)
        heads = np.array([chain[-1] for chain in running])
        matching = bottleneck_matching(edge[np.ix_(heads, nodes)])
        partner = dict(zip(matching.rows.tolist(), nodes[matching.columns].tolist()))
        ended = [chain for c, chain in enumerate(running) if c not in partner] + ended
        running = [[*chain, partner[c]] for c, chain in enumerate(running) if c in partner]
        taken = set(partner.values())
        unmatched.append([int(node) for node in nodes if int(node) not in taken])
    return tuple(
        np.array([c[p] for c in running + ended if len(c) > p] + unmatched[p], dtype=np.int64)
        for p in range(problem.n_stages)
    )
