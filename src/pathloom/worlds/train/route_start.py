"""Starting points for the route search: placements dealt along a tour, microbatches in groups, balanced routes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pathloom.graph.tour_local_search import tour_local_search
from pathloom.plan import NoPlanFound, ProvenInfeasible
from pathloom.worlds.train.greedy import CheapestRoutes
from pathloom.worlds.train.problem import Floats, Ints, TrainProblem
from pathloom.worlds.train.stage_budget import StageBudget

FEW = 120  # nodes up to which a tour is worth its time


@dataclass(frozen=True)
class Groups:
    """Microbatches that share a route.

    Attributes
    ----------
    source
        Shape (G,): index of each group's source among the nodes of stage 0.
    count
        Shape (G,): microbatches of each group.
    simulated
        Shape (G,): how many of them are simulated, at most `count`.
    members
        Shape (G, max(simulated)): rows of the simulated microbatches, padded with -1.
    """

    source: Ints
    count: Ints
    simulated: Ints
    members: Ints

    @property
    def rows(self) -> int:
        """Number of simulated microbatches."""
        return int(self.simulated.sum())


def group_microbatches(quota: Ints, size: int, most: int | None = None) -> Groups:
    """Split each source's microbatches into groups of about `size`.

    Groups of one source take turns: the i-th injections of all groups come before their (i+1)-th ones.

    Parameters
    ----------
    quota
        Shape (m_0,): microbatches of each source.
    size
        Microbatches a group (a source with fewer has one group).
    most
        Number of microbatches of a group that are simulated, all by default.
    """
    source: list[int] = []
    count: list[int] = []
    for s, q in enumerate(quota.tolist()):
        n = max(1, q // size) if q else 0
        source += [s] * n
        count += [q // n + (i < q % n) for i in range(n)]
    counts = np.array(count, dtype=np.int64)
    simulated = counts if most is None else np.minimum(counts, most)
    order = sorted((source[g], turn, g) for g in range(len(source)) for turn in range(int(simulated[g])))
    members = np.full((len(source), int(simulated.max(initial=0))), -1, dtype=np.int64)
    for row, (_, turn, g) in enumerate(order):
        members[g, turn] = row
    return Groups(np.array(source, dtype=np.int64), counts, simulated, members)


def source_quota(problem: TrainProblem, placement: Ints) -> Ints:
    """Microbatches of each node of stage 0, in node order: where the cap leaves a choice, more for those that get
    them back sooner, over nodes of median speed and links of median length.
    """
    sources = np.flatnonzero(placement == 0)
    own = problem.forward[sources, 0] + problem.loss[sources] + problem.backward[sources, 0]
    links = problem.link[np.isfinite(problem.link) & ~np.eye(problem.n_nodes, dtype=bool)]
    away = (problem.route_length - 1) * float(np.median(problem.forward + problem.backward))
    if problem.route_length > 1 and len(links):
        away += 2 * problem.route_length * float(np.median(links))
    speed = int(problem.memory[sources].min()) / (own + away)
    if speed.max() - speed.min() < 1e-9 * speed.max():
        speed = np.ones(len(sources))
    quota = np.minimum(np.floor(problem.microbatches * speed / speed.sum()).astype(np.int64), problem.source_cap)
    while quota.sum() < problem.microbatches:
        finish = np.where(quota < problem.source_cap, (quota + 1) / speed, np.inf)
        if not np.isfinite(finish).any():
            raise ProvenInfeasible(
                "TC1-source", f"{len(sources)} sources of at most {problem.source_cap} cannot start them all"
            )
        quota[int(finish.argmin())] += 1
    return quota


def deal_routes(
    problem: TrainProblem, placement: Ints, groups: Groups, *, cheapest: bool, rng: np.random.Generator
) -> tuple[Ints, Ints] | None:
    """Routes of groups that keep CC-a to CC-d and TC1.

    Parameters
    ----------
    cheapest
        True: the groups, in random order, take the cheapest route that is left. False: stages are dealt evenly, and
        each step goes to a near node with room.

    Returns
    -------
    tuple or None
        Nodes and stages, shape (G, K) each; None if groups as large as these do not fit under the caps.
    """
    n_groups = len(groups.source)
    unit = int(groups.count.max(initial=1))
    for node_cap in (np.minimum(problem.node_cap, _fair_share(problem, placement)), np.asarray(problem.node_cap)):
        room_of = np.where(placement == 0, 0, node_cap // unit)
        by_stage = np.bincount(placement, weights=room_of, minlength=problem.n_stages).astype(np.int64)
        room = np.minimum(by_stage, problem.stage_cap // unit)
        budget = StageBudget(room, n_groups, problem.route_length, problem.reordering.jump)
        if budget.possible:
            break
    else:
        return None
    sources = np.flatnonzero(placement == 0)
    routes = np.zeros((n_groups, problem.route_length), dtype=np.int64)
    stages = np.zeros_like(routes)
    if cheapest:
        # groups take the part of microbatches, of which a node then serves the fewer
        whole = replace(problem, microbatches=n_groups, node_cap=node_cap // unit)
        left = CheapestRoutes(whole, placement, budget)
        try:
            for g in rng.permutation(n_groups):
                routes[g], stages[g] = left.route(int(sources[groups.source[g]]))
            return routes, stages
        except NoPlanFound:  # missing links: greed has led nowhere, and has used the budget up
            budget = StageBudget(room, n_groups, problem.route_length, problem.reordering.jump)
    free = room_of.astype(np.int64)
    waiting = rng.permutation(n_groups)
    done = 0
    for part in budget.parts:
        loads = budget.loads(part.room, part.count)
        assert loads is not None
        ends = np.cumsum(loads[1:])
        for first in range(part.count):
            points = first + part.count * np.arange(problem.route_length - 1)
            g = waiting[done]
            stages[g, 1:] = 1 + np.searchsorted(ends, points, side="right")
            done += 1
    members = [np.flatnonzero(placement == p) for p in range(problem.n_stages)]
    # caps are kept at any price: a missing link is left to the search, which only knows moves within the caps
    far = 1e6 * float(problem.link[np.isfinite(problem.link)].max(initial=1.0))
    link = np.minimum(problem.link, far)
    for g in waiting:
        at = routes[g, 0] = sources[groups.source[g]]
        for k in range(1, problem.route_length):
            here = members[stages[g, k]]
            cost = link[at, here] + link[here, routes[g, 0]] / (problem.route_length - k)
            cost = np.where(free[here] > 0, cost + problem.forward[here, stages[g, k]], np.inf)
            at = routes[g, k] = here[int(cost.argmin())]
            free[at] -= 1
    return routes, stages


def _fair_share(problem: TrainProblem, placement: Ints) -> Ints:
    """Visits of each node if its stage's are shared by speed, and a quarter more, so that none starts out crowded."""
    speed = 1.0 / (problem.forward + problem.backward)[np.arange(problem.n_nodes), placement]
    whole = np.bincount(placement, weights=speed, minlength=problem.n_stages)
    visits = problem.microbatches * (problem.route_length - 1) / max(problem.n_stages - 1, 1)
    return np.ceil(1.25 * visits * speed / whole[placement]).astype(np.int64)


def node_order(problem: TrainProblem, *, rng: np.random.Generator) -> Ints:
    """Nodes in an order in which near ones stand together: a short tour, or a hierarchical clustering of many."""
    finite = np.isfinite(problem.link)
    far = float(problem.link[finite].max(initial=1.0)) * problem.n_nodes
    near: Floats = np.where(finite, problem.link, far)
    np.fill_diagonal(near, 0.0)
    near = 0.5 * (near + near.T)
    order = _clustered_order(near) if problem.n_nodes > FEW else np.array(tour_local_search(near, closed=True).order)
    return np.roll(order, -int(rng.integers(problem.n_nodes)))


def block_start(problem: TrainProblem, quota: int, *, rng: np.random.Generator) -> tuple[Ints, Ints, Ints] | None:
    """A placement in which every source has k - 1 nodes near it to itself, and the routes through them.

    The nodes stand in a line, near ones together; of all ways to cut as many disjoint stretches of k nodes out of it as
    stage 0 has nodes, dynamic programming takes the cheapest. The other nodes fill the stages up.

    Returns
    -------
    tuple or None
        Placement (N,), and nodes and stages of the routes, (m_0, k) each, in order of their sources; None where TC1 or
        the number of nodes leaves no room for it, each node then serving `quota` microbatches or none.
    """
    k, n, blocks = problem.route_length, problem.n_nodes, int(problem.stage_sizes[0])
    if blocks * k > n or quota > problem.source_cap or (k > 1 and quota > problem.node_cap.min()):
        return None
    room = np.minimum(problem.stage_sizes, problem.stage_cap // quota)
    budget = StageBudget(room, blocks, k, problem.reordering.jump)
    if not budget.possible:
        return None
    order = node_order(problem, rng=rng)
    stretch = order[np.arange(n - k + 1)[:, None] + np.arange(k)[None, :]]
    after = np.roll(stretch, -1, axis=1)
    both = np.array(problem.link + problem.link.T)
    np.fill_diagonal(both, 0.0)
    work = (problem.forward + problem.backward).min(axis=1)
    # a high power of the cost, since the dearest block decides
    cost = (both[stretch, after].sum(axis=1) + work[stretch].sum(axis=1)) ** 6
    if not np.isfinite(cost).any():
        return None
    chosen = _cheapest_stretches(cost / cost.min(), k, n, blocks)
    if chosen is None:
        return None
    placement = np.full(n, -1, dtype=np.int64)
    routes, stages = np.empty((blocks, k), dtype=np.int64), np.zeros((blocks, k), dtype=np.int64)
    row = 0
    turn = rng.permutation(blocks)
    for part in budget.parts:
        loads = budget.loads(part.room, part.count)
        assert loads is not None
        ends = np.cumsum(loads[1:])
        for start in range(part.count):
            nodes = order[chosen[turn[row]] : chosen[turn[row]] + k]
            routes[row] = np.roll(nodes, -int(np.argmin(work[nodes])))
            stages[row, 1:] = 1 + np.searchsorted(ends, start + part.count * np.arange(k - 1), side="right")
            placement[routes[row]] = stages[row]
            row += 1
    left = problem.stage_sizes - np.bincount(placement[placement >= 0], minlength=problem.n_stages)
    placement[placement < 0] = rng.permutation(np.repeat(np.arange(problem.n_stages), left))
    by_source = np.argsort(routes[:, 0])
    return placement, routes[by_source], stages[by_source]


def _cheapest_stretches(cost: Floats, k: int, n: int, blocks: int) -> Ints | None:
    """Starts of `blocks` disjoint stretches of k nodes in a line of n, of least total cost; None if it is infinite."""
    best = np.full((blocks + 1, n + 1), np.inf)
    best[0] = 0.0
    for j in range(1, blocks + 1):
        ends = best[j - 1, : n - k + 1] + cost  # the j-th stretch ends at position k, k + 1, ...
        best[j, k:] = np.minimum.accumulate(ends)
    if not np.isfinite(best[blocks, n]):
        return None
    starts: list[int] = []
    i = n
    for j in range(blocks, 0, -1):
        while best[j, i - 1] == best[j, i]:
            i -= 1
        i -= k
        starts.append(i)
    return np.array(starts, dtype=np.int64)


def _clustered_order(near: Floats) -> Ints:
    """Nodes in the order of a hierarchical clustering: near ones stand together. Takes a blink for 1,000 nodes."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    return np.asarray(leaves_list(linkage(squareform(near, checks=False), method="average")), dtype=np.int64)


def dealt_placement(problem: TrainProblem, *, rng: np.random.Generator) -> Ints:
    """Nodes dealt to the stages along a short tour, so that every stretch of S nodes holds one of each stage.

    Nodes that are near each other then form chains through all stages: routes can stay near their source.
    """
    order = node_order(problem, rng=rng)
    left = problem.stage_sizes.astype(np.int64).copy()
    placement = np.empty(problem.n_nodes, dtype=np.int64)
    turn = np.roll(np.arange(problem.n_stages), -int(rng.integers(problem.n_stages)))
    for node in order:
        share = left / problem.stage_sizes
        p = int(turn[int(np.argmax(share[turn]))])
        placement[node] = p
        left[p] -= 1
    return placement
