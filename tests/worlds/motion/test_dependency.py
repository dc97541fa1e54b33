"""Least covers of weighted edges against enumeration."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.worlds.motion.dependency import least_cover

weighted_edges = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda e: e[0] < e[1]), st.integers(0, 3), max_size=9
)


def by_enumeration(weights: dict[tuple[int, int], int]) -> int:
    vertices = sorted({v for edge in weights for v in edge})
    return min(
        sum(values)
        for values in itertools.product(range(4), repeat=len(vertices))
        if all(values[vertices.index(a)] + values[vertices.index(b)] >= weight for (a, b), weight in weights.items())
    )


@settings(max_examples=60, deadline=None)
@given(weighted_edges)
def test_the_cover_is_least(weights: dict[tuple[int, int], int]) -> None:
    assert least_cover(weights) == by_enumeration(weights)


@settings(max_examples=60, deadline=None)
@given(weighted_edges, st.integers(0, 5))
def test_little_effort_gives_a_bound_from_below(weights: dict[tuple[int, int], int], effort: int) -> None:
    assert least_cover(weights, effort=effort) <= by_enumeration(weights)


def test_covers_of_known_graphs() -> None:
    assert least_cover({}) == 0
    assert least_cover({(0, 1): 7}) == 7
    # A triangle of edges of weight 1 needs two vertices; a star only its centre.
    assert least_cover({(0, 1): 1, (1, 2): 1, (0, 2): 1}) == 2
    assert least_cover({(0, leaf): 3 for leaf in range(1, 9)}) == 3
    # Separate components add up.
    assert least_cover({(0, 1): 2, (5, 6): 1, (6, 7): 1}) == 3
