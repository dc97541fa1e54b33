"""Placement of nodes on pipeline stages by genetic search over partitions of given sizes: DT-FM and SkipPipe.

B. Yuan, Y. He, J. Q. Davis, T. Zhang, T. Dao, B. Chen, P. Liang, C. Ré, C. Zhang, "Decentralized Training of Foundation
Models in Heterogeneous Environments", NeurIPS 2022, section 3 (``variant="dtfm"``); N. Blagoev, L. Y. Chen, O. Ersoy,
"SkipPipe: Partial and Reordered Pipelining Framework for Training LLMs in Heterogeneous Networks", 2025, node
allocation (``variant="skippipe"``). Genetic search with a local search by cycles of moves is a method of multi-way
graph partitioning, on which both build.

A partition of the nodes into groups of the stage sizes is worth ``data cost + 2 x pipeline cost``. The pipeline cost is
that of the best order of the groups, where going from one group to another costs the dearest link of the best
matching of their nodes.

=================  ============================================  =====================================================
part               dtfm                                          skippipe
=================  ============================================  =====================================================
edge of matching   link                                          link + time of one forward pass
order of groups    open path, free start                         closed tour from group 0
data cost          dearest member of a sharded all-reduce        dearest link inside a group
gain of a move     mean link to the new group - cheapest link    sum over the new group - sum over the old one of
                   inside the old one                            link x (1 - `gradient_factor`)
=================  ============================================  =====================================================

What the authors' programs do that is not taken over, and why:

* SkipPipe pads the matching of a larger group with a smaller later one so that only the first nodes of the larger group
  are matched; the score then hangs on the order in which a group lists its nodes. Here the matching is over all nodes.
  ``truncated=True`` brings their score back, to compare with it.
* Both read the matched pairs after the edge that proves the bottleneck was removed, so a pair may be dearer than the
  bottleneck; SkipPipe also swaps rows and columns. Here pairs come from a matching that attains the bottleneck with
  the least sum.
* DT-FM's replacement rule compares with a truth value in place of the second parent's score. Here, as in SkipPipe, a
  child replaces the worse parent if it is no worse than that one.
* The authors have equal stage sizes (SkipPipe: all but stage 0). Here every order of the groups keeps the given size of
  each stage.
* SkipPipe charges a forward pass to the group of smaller number, which is right only if all nodes are equally
  fast; here half of it is charged at either end, which sums to the same around the tour. Links that differ by direction
  are averaged, since activations and gradients go both ways; a missing link counts as very slow.

What they do that looks like an oversight and is kept:

* The partition that the last cycle of moves reaches is never taken. ``last_cycle=True`` takes it; under SkipPipe's
  gain, which knows nothing of the order of the stages, that draws all children to one kind of partition and ends worse.
* A chain of moves is closed by the node that moved last, although the gain that was weighed is that of the best node.

A child whose score is already proven worse than both parents is not scored to the end; that changes no result.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

import numpy as np

from pathloom.worlds.train.placement_score import (
    GRADIENT_FACTOR,
    PartitionCosts,
    Variant,
    chains,
    checked_group,
    partition_costs,
    partition_score,
    placement_score,
)
from pathloom.worlds.train.problem import Floats, Ints, TrainProblem

__all__ = ["DtfmPlacement", "chains", "dtfm_placement", "partition_score", "placement_score"]

CROSSOVER_POINTS = 5
_BATCH = 32


@dataclass(frozen=True)
class DtfmPlacement:
    """Placement of nodes on stages.

    Attributes
    ----------
    placement
        Shape (N,): stage of each node.
    chains
        For each stage p the nodes of that stage: ``chains[p][c]`` is the node of chain c, see `chains`.
    score, pipeline_cost, data_cost
        As in `PartitionScore`.
    history
        Shape (trials done + 1,): best score after the first population and after each trial.
    """

    placement: Ints
    chains: tuple[Ints, ...]
    score: float
    pipeline_cost: float
    data_cost: float
    history: Floats


def dtfm_placement(
    problem: TrainProblem,
    *,
    variant: Variant = "skippipe",
    population: int = 200,
    trials: int = 8000,
    time_limit: float = inf,
    seed: int = 0,
    gain: Variant | None = None,
    gradient_factor: float = GRADIENT_FACTOR,
    truncated: bool = False,
    last_cycle: bool = False,
) -> DtfmPlacement:
    """Search for a placement of the nodes on the stages.

    Parameters
    ----------
    problem
        See `partition_score`. If it has a `placement`, that one is returned, with its score and chains.
    variant
        Whose costs, see the module.
    population, trials
        Number of partitions that are kept, and of children that are bred (DT-FM: 100 and 4,900 for 64 nodes;
        SkipPipe: 200 and 8,000 for 20 nodes).
    time_limit
        Seconds of wall time, looked at every 32 partitions.
    seed
        Of the NumPy generator; the same seed gives the same placement as long as the time limit does not bind.
    gain
        Whose gain guides the local search; the variant's own by default.
    gradient_factor
        Transfer time of a stage gradient in units of the link time. SkipPipe's gain vanishes where it is 1.
    truncated
        Match unequal groups as SkipPipe does, see the module.
    last_cycle
        Let the local search keep what its last cycle of moves reached, which the authors' programs do not.

    Returns
    -------
    DtfmPlacement
        The best partition met, its groups numbered by stage.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    if problem.placement is not None:
        stage = checked_group(problem, problem.placement)
        given = placement_score(problem, stage, variant=variant, gradient_factor=gradient_factor)
        return DtfmPlacement(
            stage,
            chains(problem, stage, variant=variant),
            given.score,
            given.pipeline_cost,
            given.data_cost,
            np.array([given.score]),
        )
    if population < 1 or trials < 0:
        raise ValueError(f"population is {population} and trials {trials}, expected at least 1 and 0")
    end = time.monotonic() + time_limit
    costs = partition_costs(problem, variant, gradient_factor)
    weight = costs.weight if gain in (None, variant) else partition_costs(problem, gain, gradient_factor).weight
    group, history = _search(
        costs, weight, (gain or variant) == "dtfm", population, trials, end, seed, truncated, last_cycle
    )
    found = partition_score(problem, group, variant=variant, truncated=truncated, gradient_factor=gradient_factor)
    stage_of_group = np.empty(len(found.order), np.int64)
    stage_of_group[found.order] = np.arange(len(found.order))
    stage = stage_of_group[group]
    return DtfmPlacement(
        stage, chains(problem, stage, variant=variant), found.score, found.pipeline_cost, found.data_cost, history
    )


def _search(
    costs: PartitionCosts,
    weight: Floats,
    by_mean: bool,
    population: int,
    trials: int,
    end: float,
    seed: int,
    truncated: bool,
    last_cycle: bool,
) -> tuple[Ints, Floats]:
    """Best partition met and the best score after the first population and after each trial."""
    from pathloom.worlds.train._placement_kernels import EXACT_GROUPS, genetic_trials
    from pathloom.worlds.train._placement_kernels import partition_score as score_kernel

    rng = np.random.default_rng(seed)
    n, n_groups = int(costs.sizes.sum()), len(costs.sizes)
    ordered = n_groups - 1 if costs.closed else n_groups
    table = np.full((1 << ordered, ordered) if n_groups <= EXACT_GROUPS else (1, 1), np.inf)
    scoring = (
        costs.edge,
        costs.fixed,
        costs.sharded,
        costs.summed,
        costs.closed,
        truncated,
        costs.allowed,
        table,
    )
    blocks = np.repeat(np.arange(n_groups, dtype=np.int64), costs.sizes)
    partitions = rng.permuted(np.tile(blocks, (population, 1)), axis=1)
    scores = np.empty(population)
    scored = 0
    while scored < population and (scored == 0 or time.monotonic() < end):
        for i in range(scored, min(scored + _BATCH, population)):
            scores[i] = score_kernel(partitions[i], costs.starts, *scoring, inf)
        scored = min(scored + _BATCH, population)
    partitions, scores = partitions[:scored].copy(), scores[:scored].copy()
    best_group = partitions[np.argmin(scores)].copy()
    best = float(scores.min())
    histories = [np.array([best])]
    done = 0
    points = min(CROSSOVER_POINTS, n)
    while done < trials and time.monotonic() < end:
        batch = min(_BATCH, trials - done)
        # One row of the stream a trial, so that the draws do not depend on how trials are batched.
        drawn = rng.random((batch, n + 2))
        parents = (drawn[:, :2] * scored).astype(np.int64)
        chosen = np.ascontiguousarray(np.argsort(drawn[:, 2:], axis=1)[:, :points])
        history = np.empty(batch)
        best = genetic_trials(
            partitions,
            scores,
            parents,
            chosen,
            best_group,
            best,
            history,
            costs.sizes,
            costs.starts,
            weight,
            by_mean,
            last_cycle,
            *scoring,
        )
        histories.append(history)
        done += batch
    return best_group, np.concatenate(histories)
