"""Compiled kernels of the placement of nodes on stages: score of a partition, local search, genetic trials.

A partition is ``group[n]``, the group of each of N nodes; group g has ``sizes[g]`` nodes. Group numbers are not yet
stages: the order of the groups in the pipeline is part of the score.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.graph._matching_kernels import bottleneck_bound, match_bottleneck
from pathloom.graph._tour_kernels import allowed_order, held_karp_table, improve_order, nearest_insertion

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

EXACT_GROUPS = 16
"""Up to this many groups are ordered by Held-Karp, more by local search."""


@njit(cache=True)
def list_members(group: Ints, starts: Ints, members: Ints) -> None:
    """Write the nodes of group g, ascending, to ``members[starts[g]:starts[g + 1]]``."""
    fill = starts[:-1].copy()
    for node in range(len(group)):
        members[fill[group[node]]] = node
        fill[group[node]] += 1


@njit(cache=True)
def data_cost(members: Ints, starts: Ints, fixed: Floats, sharded: Floats, summed: bool) -> float:
    """Cost of averaging gradients inside the groups, largest over groups.

    Per member i, ``sum over j of fixed[i, j] + sharded[i, j] / g`` if `summed` (g members), else the largest `fixed`.
    """
    worst = 0.0
    for g in range(len(starts) - 1):
        low, high = starts[g], starts[g + 1]
        for a in range(low, high):
            i = members[a]
            total = 0.0
            for b in range(low, high):
                j = members[b]
                if i == j:
                    continue
                if summed:
                    total += fixed[i, j] + sharded[i, j] / (high - low)
                else:
                    total = max(total, fixed[i, j])
            worst = max(worst, total)
    return worst


@njit(cache=True)
def cross_edges(edge: Floats, members: Ints) -> Floats:
    """`edge` (N, N) with its rows and columns in the order of `members`, so that two groups meet in one block."""
    n = len(members)
    blocks = np.empty((n, n))
    for i in range(n):
        row = edge[members[i]]
        for j in range(n):
            blocks[i, j] = row[members[j]]
    return blocks


@njit(cache=True)
def cross_costs(blocks: Floats, starts: Ints, truncated: bool, bounds_only: bool, out: Floats) -> None:
    """Bottleneck of the best matching of every two groups, the smaller one saturated; or only a lower bound of it.

    `blocks` are symmetric `cross_edges`. `truncated`: where the group of smaller number is the larger one only its
    first nodes take part.
    """
    n_groups = len(starts) - 1
    row_of = np.empty(np.max(np.diff(starts)), np.int64)
    for a in range(n_groups):
        out[a, a] = 0.0
        for b in range(a + 1, n_groups):
            low_a, high_a, low_b, high_b = starts[a], starts[a + 1], starts[b], starts[b + 1]
            if truncated:
                high_a = min(high_a, low_a + high_b - low_b)
            if high_a - low_a <= high_b - low_b:
                cost = blocks[low_a:high_a, low_b:high_b]
            else:
                cost = blocks[low_b:high_b, low_a:high_a]
            if bounds_only:
                out[a, b] = bottleneck_bound(cost)
            else:
                out[a, b] = match_bottleneck(cost, row_of[: cost.shape[1]])
            out[b, a] = out[a, b]


@njit(cache=True)
def order_bound(cross: Floats, closed: bool) -> float:
    """A cost that no order of the groups can beat.

    Inside a path every group is left and entered over edges no cheaper than its two cheapest; half of their sum counts
    every edge once. The two ends of an open path lack one edge each.
    """
    n_groups = len(cross)
    if n_groups < 3:
        return 0.0
    total = 0.0
    dearest = second_dearest = 0.0
    for a in range(n_groups):
        low = high = np.inf
        for b in range(n_groups):
            if b == a:
                continue
            if cross[a, b] < low:
                high = low
                low = cross[a, b]
            elif cross[a, b] < high:
                high = cross[a, b]
        total += low + high
        if high > dearest:
            second_dearest = dearest
            dearest = high
        elif high > second_dearest:
            second_dearest = high
    if not closed:
        total -= dearest + second_dearest
    return 0.5 * total


@njit(cache=True)
def order_cost(cross: Floats, closed: bool, allowed: Mask, table: Floats) -> float:
    """Cost of the best order of the groups: closed tours start at group 0, open paths anywhere."""
    n_groups = len(cross)
    if n_groups == 1:
        return 0.0
    if closed:
        first = cross[0, 1:].copy()
        inner = cross[1:, 1:].copy()
        last = cross[1:, 0].copy()
        may = allowed[1:, 1:].copy()
    else:
        first = np.zeros(n_groups)
        inner = cross
        last = first
        may = allowed
    if n_groups <= EXACT_GROUPS:
        return held_karp_table(first, inner, last, may, table)
    if np.all(may):
        order = nearest_insertion(first, inner, last)
    else:
        order = allowed_order(may)
    return improve_order(first, inner, last, may, order)


@njit(cache=True)
def partition_score(
    group: Ints,
    starts: Ints,
    edge: Floats,
    fixed: Floats,
    sharded: Floats,
    summed: bool,
    closed: bool,
    truncated: bool,
    allowed: Mask,
    table: Floats,
    limit: float,
) -> float:
    """Data cost + 2 x pipeline cost; a lower bound of it if that is already above `limit`."""
    members = np.empty(len(group), np.int64)
    list_members(group, starts, members)
    data = data_cost(members, starts, fixed, sharded, summed)
    if data > limit:
        return data
    cross = np.empty((len(starts) - 1, len(starts) - 1))
    blocks = cross_edges(edge, members)
    for bounds_only in (True, False):
        if bounds_only and limit == np.inf:
            continue
        cross_costs(blocks, starts, truncated, bounds_only, cross)
        bound = data + 2.0 * order_bound(cross, closed)
        if bound > limit * (1.0 + 1e-9):
            return bound
    return data + 2.0 * order_cost(cross, closed, allowed, table)


@njit(cache=True)
def crossover(first: Ints, second: Ints, points: Ints, sizes: Ints) -> Ints:
    """Child of two partitions: the second parent with `points` from the first, over-full groups repaired.

    Nodes are looked at in ascending order; one in an over-full group goes to the first group that lacks a node.
    """
    child = second.copy()
    for point in points:
        child[point] = first[point]
    count = np.zeros(len(sizes), np.int64)
    for node in range(len(child)):
        count[child[node]] += 1
    for node in range(len(child)):
        full = child[node]
        if count[full] > sizes[full]:
            target = 0
            while count[target] >= sizes[target]:
                target += 1
            count[target] += 1
            count[full] -= 1
            child[node] = target
    return child


@njit(cache=True)
def _best_move(
    source: int,
    home: int,
    group: Ints,
    count: Ints,
    locked: Mask,
    weight: Floats,
    total: Floats,
    by_mean: bool,
) -> tuple[float, float, int, int]:
    """Best move of an unlocked node out of group `source`: gain, gain of the best move to `home`, node, target.

    The node is -1 if the group has none to give.
    """
    n_groups = len(count)
    best = to_home = -np.inf
    node = target = -1
    if by_mean:
        members = np.empty(count[source], np.int64)
        size = 0
        for v in range(len(group)):
            if group[v] == source:
                members[size] = v
                size += 1
        least = np.inf
        for v in members:
            if locked[v]:
                continue
            nearest = np.inf
            for u in members:
                if u != v:
                    nearest = min(nearest, weight[v, u])
            if nearest < least:
                least = nearest
                node = v
        if node < 0:
            return best, to_home, node, target
        for q in range(n_groups):
            if q == source:
                continue
            gain = (total[node, q] / count[q] if count[q] > 0 else 0.0) - least
            if q == home:
                to_home = gain
            if gain > best:
                best = gain
                target = q
        return best, to_home, node, target
    for v in range(len(group)):
        if group[v] != source or locked[v]:
            continue
        for q in range(n_groups):
            if q == source:
                continue
            gain = total[v, q] - total[v, source]
            if q == home:
                to_home = max(to_home, gain)
            if gain > best:
                best = gain
                node = v
                target = q
    return best, to_home, node, target


@njit(cache=True)
def _move(v: int, target: int, group: Ints, count: Ints, weight: Floats, total: Floats) -> None:
    source = group[v]
    for u in range(len(group)):
        total[u, source] -= weight[v, u]
        total[u, target] += weight[v, u]
    count[source] -= 1
    count[target] += 1
    group[v] = target


@njit(cache=True)
def cyclic_moves(group: Ints, sizes: Ints, weight: Floats, by_mean: bool, last_cycle: bool) -> None:
    """Improve a partition in place by cycles of moves that keep the group sizes.

    A cycle starts at the group with the best gain; each move sends a node on to another group, from which the next
    one moves, until the chain is back. Moved nodes are locked. Of each chain the prefix is kept whose gains plus that
    of closing it into the first group are largest (none if no sum is positive).

    `weight` (N, N), symmetric with zero diagonal. `by_mean` (DT-FM): the node that moves is the one whose least weight
    inside its group is smallest, and its gain is the mean weight to the new group minus that. Else (SkipPipe): the gain
    is the sum of weights to the new group minus the sum to the old one, and the node with the largest gain moves.
    Unless `last_cycle`, the partition that the last cycle reached is not taken: the result is the one before it.
    """
    n, n_groups = len(group), len(sizes)
    if n_groups < 2:
        return
    locked = np.zeros(n, np.bool_)
    entered = np.zeros(n_groups, np.bool_)
    count = np.zeros(n_groups, np.int64)
    total = np.zeros((n, n_groups))
    for v in range(n):
        count[group[v]] += 1
        for u in range(n):
            total[v, group[u]] += weight[v, u]
    nodes = np.empty(n + 1, np.int64)
    sources = np.empty(n + 1, np.int64)
    before = group.copy()
    gained_so_far = best_before = 0.0
    best_partition = group.copy()
    for _ in range(n_groups):
        before[:] = group
        home = -1
        best = -np.inf
        for g in range(n_groups):
            gain, _to_home, node, _target = _best_move(g, -1, group, count, locked, weight, total, by_mean)
            if node >= 0 and gain > best:
                best = gain
                home = g
        if home < 0:
            break
        source = home
        moves = 0
        kept = 0
        gains = best_sum = 0.0
        while moves < n:
            gain, to_home, node, target = _best_move(source, home, group, count, locked, weight, total, by_mean)
            if node < 0:
                # Nothing left to send on: the node that came last goes home.
                nodes[moves] = nodes[moves - 1]
                target = home
            else:
                nodes[moves] = node
            sources[moves] = source
            if moves > 0 and gains + to_home > best_sum:
                best_sum = gains + to_home
                kept = moves
            gains += gain
            _move(nodes[moves], target, group, count, weight, total)
            locked[nodes[moves]] = True
            entered[target] = True
            moves += 1
            source = target
            if source == home:
                break
        for i in range(moves - 1, kept, -1):
            _move(nodes[i], sources[i], group, count, weight, total)
        _move(nodes[kept], home, group, count, weight, total)
        # The partition before this cycle is known to be worth what the earlier cycles gained.
        if gained_so_far > best_before:
            best_before = gained_so_far
            best_partition[:] = before
        gained_so_far += best_sum
        if np.all(entered):
            break
    if not last_cycle:
        group[:] = best_partition


@njit(cache=True)
def genetic_trials(
    population: Ints,
    scores: Floats,
    parents: Ints,
    points: Ints,
    best_group: Ints,
    best_score: float,
    history: Floats,
    sizes: Ints,
    starts: Ints,
    weight: Floats,
    by_mean: bool,
    last_cycle: bool,
    edge: Floats,
    fixed: Floats,
    sharded: Floats,
    summed: bool,
    closed: bool,
    truncated: bool,
    allowed: Mask,
    table: Floats,
) -> float:
    """Run one trial for each row of `parents` (T, 2) and `points` (T, 5); returns the best score so far.

    `population` (P, N), `scores` (P,), `best_group` (N,) and `history` (T,), best score after each trial, are updated
    in place. A child that is no worse than the worse of its parents takes that one's place.
    """
    for trial in range(len(parents)):
        a, b = parents[trial, 0], parents[trial, 1]
        child = crossover(population[a], population[b], points[trial], sizes)
        cyclic_moves(child, sizes, weight, by_mean, last_cycle)
        limit = max(scores[a], scores[b])
        score = partition_score(child, starts, edge, fixed, sharded, summed, closed, truncated, allowed, table, limit)
        if score <= limit:
            worse = a if scores[a] > scores[b] else b
            population[worse] = child
            scores[worse] = score
            if score < best_score:
                best_score = score
                best_group[:] = child
        history[trial] = best_score
    return best_score
