"""Small random training problems with unequal nodes, and all routes through them by plain enumeration."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np

from pathloom.worlds.train.problem import Ints, Reordering, TrainProblem


def random_problem(
    seed: int,
    *,
    sizes: tuple[int, ...] = (2, 2, 2, 2),
    microbatches: int = 6,
    route_length: int = 3,
    regions: int = 3,
    slack: int = 0,
    **changes: Any,
) -> TrainProblem:
    """Nodes in a few regions (so that some are alike), caps of TC1 as tight as they can be plus `slack`."""
    rng = np.random.default_rng(seed)
    n, s = sum(sizes), len(sizes)
    region = rng.integers(0, regions, n)
    between = rng.uniform(0.1, 4.0, (regions, regions))
    link = between[np.ix_(region, region)]
    np.fill_diagonal(link, 0.0)
    forward = rng.choice([1.0, 1.5, 2.0], (n, 1)) * rng.choice([1.0, 1.25], (1, s))
    visits, others = microbatches * (route_length - 1), n - sizes[0]
    node_cap = -(-visits // max(others, 1)) + slack if s > 1 else microbatches
    given: dict[str, Any] = {
        "name": f"random-{seed}",
        "nodes": tuple(f"n{i}" for i in range(n)),
        "locations": tuple(f"r{r}" for r in region),
        "forward": forward,
        "backward": 1.5 * forward,
        "weight": 0.75 * forward,
        "loss": 0.25 * forward[:, 0],
        "link": link,
        "memory": rng.integers(1, 5, n),
        "stage_sizes": np.array(sizes),
        "microbatches": microbatches,
        "route_length": route_length,
        "source_cap": -(-microbatches // sizes[0]),
        "stage_cap": np.minimum(microbatches, np.array([microbatches, *(k * node_cap for k in sizes[1:])])),
        "node_cap": np.full(n, node_cap),
        "placement": rng.permutation(np.repeat(np.arange(s), sizes)),
    }
    return TrainProblem(**{**given, **changes})


def keeps_definitions(order: tuple[int, ...], budget: Reordering) -> bool:
    """CC-a, CC-c and CC-d as their definitions read, for an order of different stages."""
    if order[0] != 0:
        return False
    swaps = []
    for k in range(1, len(order)):
        frontier = max(order[:k])
        if order[k] < frontier:
            swaps.append(frontier - order[k])
        elif order[k] - frontier > budget.jump:
            return False
    return max(swaps, default=0) <= budget.distance and len(swaps) <= budget.swaps and sum(swaps) <= budget.total


def all_orders(n_stages: int, route_length: int, budget: Reordering) -> list[tuple[int, ...]]:
    """Every admissible stage order, by trying all."""
    return [order for order in permutations(range(n_stages), route_length) if keeps_definitions(order, budget)]


def all_routes(
    problem: TrainProblem, placement: Ints, source: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every (nodes, stages) of a microbatch from `source`."""
    members = [np.flatnonzero(placement == p).tolist() for p in range(problem.n_stages)]
    for order in all_orders(problem.n_stages, problem.route_length, problem.reordering):
        for nodes in product(*(members[p] for p in order[1:])):
            yield (source, *nodes), order
