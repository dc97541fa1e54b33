"""The compiled kernels of the placement against slow twins that follow the definitions literally."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pathloom.worlds.train._placement_kernels import (
    EXACT_GROUPS,
    crossover,
    cyclic_moves,
    order_bound,
    order_cost,
    partition_score,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def random_partition(rng: np.random.Generator) -> tuple[Ints, Ints]:
    sizes = rng.integers(1, 5, size=rng.integers(1, 6))
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes)), sizes


def random_weights(rng: np.random.Generator, n: int) -> Floats:
    """Whole numbers, so that sums are exact in any order and ties are common."""
    weight = np.triu(rng.integers(-4, 9, size=(n, n)), 1).astype(float)
    return weight + weight.T


def slow_gains(
    group: list[int], locked: set[int], weight: Floats, n_groups: int, by_mean: bool
) -> dict[int, tuple[float, int, int, dict[int, float]]]:
    """For each group with an unlocked node: best gain, its node, its target, and the best gain to every group."""
    members = [[v for v, g in enumerate(group) if g == q] for q in range(n_groups)]
    best: dict[int, tuple[float, int, int, dict[int, float]]] = {}
    for p in range(n_groups):
        movable = [v for v in members[p] if v not in locked]
        if by_mean:
            nearest = {v: min((weight[v, u] for u in members[p] if u != v), default=np.inf) for v in movable}
            movable = [v for v in movable if nearest[v] < np.inf]
            movable = sorted(movable, key=lambda v: (nearest[v], v))[:1]
        gains: dict[tuple[int, int], float] = {}
        for v in movable:
            for q in range(n_groups):
                if q == p:
                    continue
                there = sum(weight[v, u] for u in members[q] if u != v)
                if by_mean:
                    gains[v, q] = (there / len(members[q]) if members[q] else 0.0) - nearest[v]
                else:
                    gains[v, q] = there - sum(weight[v, u] for u in members[p] if u != v)
        if gains:
            (v, q), gain = max(gains.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
            to = {t: max(g for (_, r), g in gains.items() if r == t) for _, t in gains}
            best[p] = (gain, v, q, to)
    return best


def slow_cyclic_moves(group: Ints, n_groups: int, weight: Floats, by_mean: bool, last_cycle: bool) -> list[int]:
    states, worth = [group.tolist()], [0.0]
    locked: set[int] = set()
    entered: set[int] = set()
    for _ in range(n_groups):
        state = states[-1].copy()
        gains = slow_gains(state, locked, weight, n_groups, by_mean)
        if not gains:
            break
        home = min(gains, key=lambda p: (-gains[p][0], p))
        chain: list[tuple[int, int]] = []
        gained: list[float] = []
        closing: list[float] = []
        source = home
        while len(chain) < len(state):
            gains = slow_gains(state, locked, weight, n_groups, by_mean)
            gain, v, target, to = gains.get(source, (-np.inf, chain[-1][0] if chain else -1, home, {}))
            chain.append((v, source))
            gained.append(gain)
            closing.append(to.get(home, -np.inf))
            state[v] = target
            locked.add(v)
            entered.add(target)
            source = target
            if source == home:
                break
        values = [0.0] + [sum(gained[:i]) + closing[i] for i in range(1, len(chain))]
        kept = int(np.argmax(values))
        for v, came_from in reversed(chain[kept + 1 :]):
            state[v] = came_from
        state[chain[kept][0]] = home
        states.append(state)
        worth.append(worth[-1] + values[kept])
        if len(entered) == n_groups:
            break
    if last_cycle or len(states) == 1:
        return states[-1]
    return states[int(np.argmax(worth[:-1]))]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_cycles_of_moves_are_those_of_the_slow_twin(seed: int, by_mean: bool, last_cycle: bool) -> None:
    rng = np.random.default_rng(seed)
    group, sizes = random_partition(rng)
    weight = random_weights(rng, len(group))
    moved = group.copy()
    cyclic_moves(moved, sizes, weight, by_mean, last_cycle)
    if len(sizes) > 1:
        assert moved.tolist() == slow_cyclic_moves(group, len(sizes), weight, by_mean, last_cycle)
    assert np.bincount(moved, minlength=len(sizes)).tolist() == sizes.tolist()


def test_one_swap_brings_two_separated_pairs_together() -> None:
    # Nodes 0, 1 and nodes 2, 3 are far apart; each group holds one of either pair.
    weight = np.array([[0.0, 1, 9, 9], [1, 0, 9, 9], [9, 9, 0, 1], [9, 9, 1, 0]])
    group = np.array([0, 1, 0, 1])
    cyclic_moves(group, np.array([2, 2]), -weight, False, True)
    assert group[0] == group[1] != group[2] == group[3]


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_a_child_keeps_the_sizes_and_takes_each_node_from_a_parent_unless_repaired(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, sizes = random_partition(rng)
    second = rng.permutation(first)
    points = rng.permutation(len(first))[:5]
    child = crossover(first, second, points, sizes)
    assert np.bincount(child, minlength=len(sizes)).tolist() == sizes.tolist()
    taken = second.copy()
    taken[points] = first[points]
    # The repair walks up the nodes: what leaves an over-full group goes to the first group with room.
    count = np.bincount(taken, minlength=len(sizes))
    for node, g in enumerate(taken.tolist()):
        if count[g] > sizes[g]:
            room = int(np.flatnonzero(count < sizes)[0])
            taken[node] = room
            count[g] -= 1
            count[room] += 1
    assert child.tolist() == taken.tolist()


@settings(deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.booleans(), st.booleans())
def test_score_is_its_definition_and_a_limit_only_cuts_what_is_above_it(
    seed: int, summed: bool, closed: bool, truncated: bool
) -> None:
    rng = np.random.default_rng(seed)
    group, sizes = random_partition(rng)
    n, s = len(group), len(sizes)
    edge, fixed, sharded = (np.abs(random_weights(rng, n)) for _ in range(3))
    allowed = sizes[:, None] == sizes[None, :]
    members = [np.flatnonzero(group == g) for g in range(s)]

    def bottleneck(a: int, b: int) -> float:
        a, b = min(a, b), max(a, b)
        rows, columns = members[a], members[b]
        if truncated:
            rows = rows[: len(columns)]
        if len(rows) > len(columns):
            rows, columns = columns, rows
        return min(float(edge[rows, list(p)].max()) for p in permutations(columns, len(rows)))

    cross = np.array([[bottleneck(a, b) if a != b else 0.0 for b in range(s)] for a in range(s)])
    pipeline = min(
        sum(cross[a, b] for a, b in pairwise(order)) + (cross[order[-1], order[0]] if closed else 0.0)
        for order in permutations(range(s))
        if all(sizes[g] == sizes[p] for p, g in enumerate(order)) and (not closed or order[0] == 0)
    )
    inside = 0.0
    for m in members:
        for i in m:
            others = m[m != i]
            if summed:
                inside = max(inside, float((fixed[i, others] + sharded[i, others] / len(m)).sum()))
            else:
                inside = max(inside, float(fixed[i, others].max(initial=0.0)))

    starts = np.concatenate(([0], np.cumsum(sizes)))
    table = np.full((1 << s, s), np.inf)

    def score(limit: float) -> float:
        return partition_score(group, starts, edge, fixed, sharded, summed, closed, truncated, allowed, table, limit)

    exact = inside + 2 * pipeline
    assert score(np.inf) == pytest.approx(exact)
    for limit in (0.5 * exact, exact + 1e-6, 2.0 * exact + 1.0):
        if exact <= limit:
            assert score(limit) == pytest.approx(exact)
        else:
            assert limit < score(limit) <= exact + 1e-9 or exact == 0.0
    assert order_bound(cross, closed) <= pipeline + 1e-9


def test_more_groups_than_dynamic_programming_takes_are_ordered_by_local_search() -> None:
    s = EXACT_GROUPS + 4
    angle = np.random.default_rng(0).permutation(s) * 2 * np.pi / s
    where = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    cross = np.linalg.norm(where[:, None] - where[None, :], axis=2)
    table = np.full((1, 1), np.inf)
    everywhere = np.ones((s, s), dtype=bool)
    assert order_cost(cross, True, everywhere, table) == pytest.approx(s * 2 * np.sin(np.pi / s))
    # Two kinds of groups that must alternate.
    kind = np.arange(s) % 2
    paired = order_cost(cross, True, kind[:, None] == kind[None, :], table)
    assert paired >= s * 2 * np.sin(np.pi / s) - 1e-9
