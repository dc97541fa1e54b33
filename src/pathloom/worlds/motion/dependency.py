"""How much agents must delay each other: a lower bound from pairs, summed over a vertex cover.

For two agents, `_pair_kernels.trade_off` finds which delays let them pass each other. The least sum of delays weighs
the pair's edge in a dependency graph; any conflict-free solution gives the agents delays that cover every edge, so
the least total of integers with ``x_i + x_j >= weight_ij`` is a lower bound on the delays of all.

Sources: J. Li, A. Felner, E. Boyarski, H. Ma, S. Koenig, "Improved heuristics for multi-agent path finding with
conflict-based search", IJCAI 2019 (the weighted dependency graph). There, a pair's weight comes from a small
conflict-based search of the two agents; here, from a sweep over the product of their decision diagrams, which also
gives the whole Pareto front of the two delays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def least_cover(weights: Mapping[tuple[int, int], int], *, effort: int = 20_000) -> int:
    """Least total of non-negative integers, one a vertex, whose sums over every edge reach the edge's weight.

    Parameters
    ----------
    weights
        Weight by edge (i, j); edges without weight may be left out.
    effort
        Number of branchings for each connected component, after which the component's best proven lower bound is
        used; so the result never exceeds the least total.
    """
    adjacent: dict[int, dict[int, int]] = {}
    for (a, b), weight in weights.items():
        if weight > 0:
            adjacent.setdefault(a, {})[b] = weight
            adjacent.setdefault(b, {})[a] = weight
    total = 0
    unseen = set(adjacent)
    while unseen:
        component = [unseen.pop()]
        for vertex in component:
            fresh = unseen.intersection(adjacent[vertex])
            unseen -= fresh
            component.extend(fresh)
        total += _cover_component(sorted(component), adjacent, effort)
    return total


def _cover_component(vertices: list[int], adjacent: dict[int, dict[int, int]], effort: int) -> int:
    if len(vertices) == 2:
        return adjacent[vertices[0]][vertices[1]]
    # Vertices with the heaviest edges first: their values decide most of the others.
    order = sorted(vertices, key=lambda v: (-sum(adjacent[v].values()), v))
    position = {v: p for p, v in enumerate(order)}
    edges = [[(position[u], w) for u, w in adjacent[v].items()] for v in order]
    size = len(order)
    values = np.zeros(size, dtype=np.int64).tolist()

    def matching(first: int, least: list[int]) -> int:
        """A bound on the rest: disjoint edges, each with what its ends do not have to pay anyway."""
        used = [False] * size
        extra = 0
        candidates = sorted(
            (
                (weight - least[p] - least[q], p, q)
                for p in range(first, size)
                for q, weight in edges[p]
                if q > p and weight > least[p] + least[q]
            ),
            reverse=True,
        )
        for short, p, q in candidates:
            if not used[p] and not used[q]:
                used[p] = used[q] = True
                extra += short
        return extra

    start = matching(0, [0] * size)
    # Greedy cover for the upper bound: each vertex in turn pays what the earlier ones leave.
    best = 0
    for p in range(size):
        values[p] = max((w - values[q] for q, w in edges[p] if q < p), default=0)
        if p == 0:
            values[p] = max(w for _, w in edges[p])
        values[p] = max(values[p], 0)
        best += values[p]
    left = effort

    def search(p: int, paid: int, least: list[int]) -> None:
        nonlocal best, left
        if left <= 0:
            return
        left -= 1
        while p < size and all(least[p] + least[q] >= w for q, w in edges[p] if q > p):
            paid += least[p]
            p += 1
        if p == size:
            best = min(best, paid)
            return
        if paid + sum(least[p:]) + matching(p, least) >= best:
            return
        highest = max(w - least[q] for q, w in edges[p] if q > p)
        for value in range(least[p], highest + 1):
            onward = list(least)
            for q, w in edges[p]:
                if q > p:
                    onward[q] = max(onward[q], w - value)
            search(p + 1, paid + value, onward)

    search(0, 0, [0] * size)
    return best if left > 0 else min(best, start)
