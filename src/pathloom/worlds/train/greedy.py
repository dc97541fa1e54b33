"""Greedy routing: microbatches in turn take the cheapest route that TC1 still allows.

Cost is the time of a microbatch that never waits, so the first ones crowd onto the best nodes until their caps are
reached: what a planner does that looks at links and speeds but not at collisions. Nodes are placed on stages by DT-FM's
search, sources are dealt evenly.

The cheapest route is found by dynamic programming over the automaton of stage orders (`routes`) and, for each stage,
groups of nodes that all links treat alike (the nodes of one region, usually); of a group only its best node counts. A
route is taken only if the stages that it leaves suffice for all later microbatches (`stage_budget`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress, ProvenInfeasible
from pathloom.worlds.train.hold_and_wait import without_deadlock
from pathloom.worlds.train.problem import Floats, Ints, Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.routes import StageOrders, admissible_orders
from pathloom.worlds.train.simulator import plan_of
from pathloom.worlds.train.stage_budget import Part, StageBudget

PLACEMENT_SHARE = 0.7
"""Share of the time limit that the placement search may take."""


def greedy(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    placement: Ints | None = None,
) -> Plan:
    """Route microbatches one after the other over the cheapest route that is left.

    Parameters
    ----------
    time_limit
        Seconds; bounds the placement search, which is skipped where the problem or `placement` (shape (N,)) gives one.

    Raises
    ------
    ProvenInfeasible, NoPlanFound
        If TC1 leaves no routes for all microbatches (proven where the placement is given), or missing links do not.
    """
    begin = time.monotonic()
    placement = placed(problem, time_limit, seed, on_progress, begin, placement)
    budget = feasible_budget(problem, placement)
    sources = dealt_sources(problem, placement)
    search = CheapestRoutes(problem, placement, budget)
    routes = np.empty((problem.microbatches, problem.route_length), dtype=np.int64)
    stages = np.empty_like(routes)
    for b, source in enumerate(sources):
        routes[b], stages[b] = search.route(int(source))
        if on_progress is not None and b % 256 == 0:
            on_progress(Progress(time.monotonic() - begin, None, None, f"greedy: {b} of {len(sources)} routed"))
    decisions, _ = without_deadlock(problem, TrainDecisions(placement=placement, routes=routes, stages=stages))
    plan = replace(plan_of(problem, decisions, method="greedy", seed=seed), seconds=time.monotonic() - begin)
    if on_progress is not None:
        on_progress(Progress(plan.seconds, plan.objective.value, None, "greedy"))
    return plan


def placed(
    problem: TrainProblem,
    time_limit: float,
    seed: int,
    on_progress: OnProgress | None,
    begin: float,
    placement: Ints | None,
) -> Ints:
    """The placement that is given, else DT-FM's."""
    if placement is None:
        placement = problem.placement
    if placement is not None:
        return np.array(placement, dtype=np.int64)
    from pathloom.worlds.train.dtfm_placement import dtfm_placement

    if on_progress is not None:
        on_progress(Progress(time.monotonic() - begin, None, None, "placement"))
    return dtfm_placement(problem, time_limit=max(PLACEMENT_SHARE * time_limit, 0.0), seed=seed).placement


def feasible_budget(problem: TrainProblem, placement: Ints) -> StageBudget:
    """The stage budget of an iteration, which is checked to have a way for all microbatches."""
    needed = -(-problem.microbatches // int(problem.stage_sizes[0]))
    if needed > problem.source_cap:
        raise ProvenInfeasible("TC1", f"a source must start {needed} microbatches, at most {problem.source_cap} may")
    budget = StageBudget.of(problem, placement)
    if not budget.possible:
        message = (
            f"the caps of stages and nodes leave no {problem.route_length} stages for each of "
            f"{problem.microbatches} microbatches"
        )
        if problem.placement is None:
            raise NoPlanFound(f"under this placement {message}")
        raise ProvenInfeasible("TC1", message)
    return budget


def dealt_sources(problem: TrainProblem, placement: Ints) -> Ints:
    """Source of each microbatch, shape (B,): the nodes of stage 0 in turn."""
    return np.resize(np.flatnonzero(placement == 0), problem.microbatches)


def orders_within(problem: TrainProblem) -> StageOrders:
    """Admissible stage orders; without swaps where the swap budget is too wide for the automaton."""
    try:
        return admissible_orders(problem.n_stages, problem.route_length, problem.reordering)
    except ValueError:
        only_jumps = Reordering(0, 0, 0, problem.reordering.jump)
        return admissible_orders(problem.n_stages, problem.route_length, only_jumps)


def alike(problem: TrainProblem) -> Ints:
    """Group of each node, shape (N,): nodes of one group have the same links, there and back, to any third node."""
    both = np.array(problem.link + problem.link.T)
    np.fill_diagonal(both, -1.0)
    profile = np.sort(both, axis=1)
    group = np.full(problem.n_nodes, -1, dtype=np.int64)
    first_of: dict[bytes, list[int]] = {}  # groups with this profile, by their first node
    for node in range(problem.n_nodes):
        candidates = first_of.setdefault(profile[node].tobytes(), [])
        for first in candidates:
            same = both[node] == both[first]
            same[[node, first]] = True
            if same.all():
                group[node] = group[first]
                break
        else:
            candidates.append(node)
            group[node] = group.max() + 1
    return group


@dataclass
class _Kept:
    """A route over groups that was the cheapest when nothing but what was used up stood in its way."""

    stages: Ints
    groups: Ints
    work: Floats


@dataclass
class CheapestRoutes:
    """State of the greedy: what is left of nodes and stages."""

    problem: TrainProblem
    placement: Ints
    budget: StageBudget
    kept: dict[int, _Kept] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = self.problem
        self.orders = orders_within(problem)
        group = alike(problem)
        members = [np.flatnonzero(self.placement == p) for p in range(problem.n_stages)]
        present = [np.unique(group[nodes]) for nodes in members]
        width = max(len(found) for found in present)
        self.groups = np.array([len(found) for found in present], dtype=np.int64)
        self.group_of = np.empty(problem.n_nodes, dtype=np.int64)
        # nodes of each stage and group that have capacity: a heap of (seconds, visits so far, node)
        self.left: list[list[list[tuple[float, int, int]]]] = []
        one_of = np.zeros((problem.n_stages, width, 2), dtype=np.int64)
        for p, found in enumerate(present):
            self.left.append([])
            for c, g in enumerate(found):
                nodes = members[p][group[members[p]] == g]
                self.group_of[nodes] = c
                everywhere = np.flatnonzero(group == g)
                # two different nodes where there are two, because a link within a group is one between two of its nodes
                one_of[p, c] = everywhere[0], everywhere[-1]
                heap = [
                    (float(problem.forward[n, p] + problem.backward[n, p]), 0, int(n))
                    for n in nodes
                    if p == 0 or problem.node_cap[n] > 0
                ]
                heapify(heap)
                self.left[p].append(heap)
        self.work = np.full((problem.n_stages, width), np.inf)
        for p in range(problem.n_stages):
            for c in range(int(self.groups[p])):
                self._update(p, c)
        there, back = one_of[:, None, :, None, 0], one_of[None, :, None, :, 1]
        self.hop = np.ascontiguousarray(problem.link[there, back] + problem.link[back, there])
        k = problem.route_length
        self.table = np.empty((len(self.orders.stage), k, width))

    def route(self, source: int) -> tuple[Ints, Ints]:
        """Nodes and stages of the next microbatch, which are used up."""
        best: tuple[float, _Kept] | None = None
        free = len(self.budget.parts) == 1 and self._must(self.budget.parts[0])[1] == 0
        kept = self.kept.get(source)
        if free and kept is not None and self._still_best(kept):
            best = (0.0, kept)
        else:
            for part in self.budget.parts:
                found = self._cheapest(part, source)
                if found is not None and (best is None or found[0] < best[0]):
                    best = found
        if best is None:
            raise NoPlanFound(f"no route from {self.problem.nodes[source]} that TC1 allows has all its links")
        stages, groups = best[1].stages, best[1].groups
        if free:
            self.kept[source] = best[1]
        self.budget.take(self._mask(stages))
        route = np.empty_like(stages)
        route[0] = source
        for k in range(1, len(stages)):
            p, c = int(stages[k]), int(groups[k])
            seconds, used, node = heappop(self.left[p][c])
            route[k] = node
            if used + 1 < self.problem.node_cap[node]:
                heappush(self.left[p][c], (seconds, used + 1, node))
            self._update(p, c)
        return route, stages

    def _cheapest(self, part: Part, source: int) -> tuple[float, _Kept] | None:
        """Cheapest route of one of the part's microbatches that leaves enough for the others."""
        open_stages = np.zeros(self.problem.n_stages, dtype=bool)
        open_stages[: len(part.room)] = part.room > 0
        open_stages[0] = True
        plenty, least = self._must(part)
        found = self._solve(source, open_stages, plenty, least)
        if found is None or self.budget.allows(self._mask(found[1].stages)):
            return found
        # The count of stages was not all that binds, jumps did too: choose among sets that are known to be allowed.
        nothing = np.zeros(self.problem.n_stages, dtype=bool)
        options = [self._solve(source, visited, nothing, 0) for visited in self.budget.sets(part)]
        return min((option for option in options if option is not None), key=lambda option: option[0], default=None)

    def _must(self, part: Part) -> tuple[NDArray[np.bool_], int]:
        """Stages with room for all microbatches of the part, and how many of them the next one must visit at least.

        A visit to any other stage takes room that a later microbatch could use: with n microbatches after this one,
        ``sum(min(room, n))`` after it must be at least n (K - 1).
        """
        n, visits = part.count - 1, self.problem.route_length - 1
        plenty = np.zeros(self.problem.n_stages, dtype=bool)
        plenty[1 : len(part.room)] = part.room[1:] > n
        if n == 0:
            return plenty, 0
        spare = int(np.minimum(part.room[1:], n).sum()) - n * visits
        scarce = int(((part.room[1:] > 0) & (part.room[1:] <= n)).sum())
        return plenty, 0 if spare >= min(scarce, visits) else visits - spare

    def _solve(
        self, source: int, allowed: NDArray[np.bool_], wanted: NDArray[np.bool_], least: int
    ) -> tuple[float, _Kept] | None:
        from pathloom.worlds.train._greedy_kernels import cheapest_route

        k = self.problem.route_length
        stages, groups = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.int64)
        cost = cheapest_route(
            self.orders.stage,
            self.orders.before,
            self.orders.into,
            self.orders.final,
            k,
            self.groups,
            self.work,
            self.hop,
            allowed,
            wanted,
            least,
            self.group_of[source],
            self.table,
            stages,
            groups,
        )
        if cost == np.inf:
            return None
        return float(cost), _Kept(stages, groups, self.work[stages[1:], groups[1:]])

    def _still_best(self, kept: _Kept) -> bool:
        """While nothing but capacity binds costs only rise, so a route whose cost did not rise stays the cheapest."""
        unchanged = bool((self.work[kept.stages[1:], kept.groups[1:]] == kept.work).all())
        return unchanged and self.budget.allows(self._mask(kept.stages))

    def _mask(self, stages: Ints) -> NDArray[np.bool_]:
        mask = np.zeros(self.problem.n_stages, dtype=bool)
        mask[stages] = True
        return mask

    def _update(self, p: int, c: int) -> None:
        heap = self.left[p][c]
        self.work[p, c] = heap[0][0] if heap else np.inf
