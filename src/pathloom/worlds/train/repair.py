"""Routes around dead nodes: which are allowed, and random changes to them for a local search.

A `RouteDraft` holds one new attempt for each microbatch that needs one, keeps the throughput caps TC1 over all
microbatches, and changes one or two attempts at a time within the convergence constraints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pathloom.plan import ProvenInfeasible
from pathloom.worlds.train.attempts import Reissue
from pathloom.worlds.train.problem import Ints, Reordering, TrainProblem

MOST_ORDERS = 300  # stage orders that a search chooses from; small instances have fewer

Moved = tuple[int, tuple[int, ...], tuple[int, ...], int, int]


@dataclass(frozen=True)
class Widening:
    """By how much TC1 is exceeded, because the live nodes cannot take all microbatches within it.

    Attributes
    ----------
    source, node
        Added to `source_cap`, and to every entry of `node_cap`. With the smallest such numbers every microbatch can
        keep its stages; `stage_cap` never needs widening then.
    """

    source: int = 0
    node: int = 0

    def __or__(self, other: Widening) -> Widening:
        return Widening(max(self.source, other.source), max(self.node, other.node))


def stage_orders(n_stages: int, length: int, budget: Reordering, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Orders of stages that keep CC-a to CC-d: all of them, or a random sample where there are many.

    Parameters
    ----------
    length
        Number of stages of a route, stage 0 included.
    """
    found: dict[tuple[int, ...], None] = {}

    def steps(order: tuple[int, ...], swaps: int, total: int) -> list[tuple[int, int, int]]:
        frontier = max(order)
        choices = []
        for p in range(1, n_stages):
            if p in order:
                continue
            if p > frontier:
                if p - frontier <= budget.jump:
                    choices.append((p, swaps, total))
            elif frontier - p <= budget.distance and swaps < budget.swaps and total + frontier - p <= budget.total:
                choices.append((p, swaps + 1, total + frontier - p))
        # enough stages must be left ahead of the frontier, or swaps to fetch those behind it
        left = length - len(order) - 1
        return [c for c in choices if n_stages - 1 - max(frontier, c[0]) + budget.swaps - c[1] >= left]

    def every(order: tuple[int, ...], swaps: int, total: int) -> bool:
        if len(order) == length:
            found[order] = None
            return len(found) <= MOST_ORDERS
        return all(every((*order, p), s, t) for p, s, t in steps(order, swaps, total))

    if every((0,), 0, 0):
        return list(found)
    found.clear()
    for _ in range(4 * MOST_ORDERS):
        order: tuple[int, ...] = (0,)
        swaps = total = 0
        while len(order) < length and (choices := steps(order, swaps, total)):
            p, swaps, total = choices[rng.integers(len(choices))]
            order = (*order, p)
        if len(order) == length:
            found[order] = None
    return list(found)[:MOST_ORDERS]


class RouteDraft:
    """New attempts that keep the caps, and moves between them. Build one with `RouteDraft.of`.

    Attributes
    ----------
    reissues
        The attempts, in order of injection.
    widening
        By how much the caps are exceeded.
    """

    reissues: list[Reissue]
    widening: Widening

    def __init__(
        self,
        problem: TrainProblem,
        placement: Ints,
        live: np.ndarray,
        moved: Sequence[Moved],
        fixed: Sequence[tuple[int, ...]],
        chunks: int,
        beyond: int,
    ) -> None:
        self._n_stages = problem.n_stages
        self._reordering = problem.reordering
        self._known_orders: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        self._link = problem.link
        # lists of plain numbers: a search asks for single entries, millions of times
        self._placement: list[int] = placement.tolist()
        self._kept = {m[0]: m for m in moved}
        self._chunks = chunks
        self._members = [np.flatnonzero((placement == p) & live).tolist() for p in range(problem.n_stages)]
        for p, members in enumerate(self._members):
            if not len(members):
                raise ProvenInfeasible(
                    f"a live node of stage {p}",
                    f"all nodes of stage {p} have died, and the weights of the stage with them; "
                    "go back to the last checkpoint",
                )
        self._load = [0] * problem.n_nodes
        self._stage_load = [0] * problem.n_stages
        for route in fixed:
            self._count(route, 1)
        demand = np.zeros(problem.n_stages, dtype=np.int64)
        planned, planned_stages = np.array(self._load), np.array(self._stage_load)
        for _, route, stages, _, _ in moved:
            np.add.at(demand, np.unique(np.asarray(stages) % problem.n_stages), 1)
            np.add.at(planned, np.unique(route), 1)
        planned_stages += demand
        source_room = [problem.source_cap - self._load[n] for n in self._members[0]]
        room = [[problem.node_cap[n] - self._load[n] for n in members] for members in self._members[1:]]
        source = _least_widening(source_room, int(demand[0]))
        node = max((_least_widening(r, int(d)) for r, d in zip(room, demand[1:], strict=True)), default=0)
        self.widening = Widening(source + beyond * (source > 0), node + beyond * (node > 0))
        cap = np.where(placement == 0, problem.source_cap + self.widening.source, problem.node_cap + self.widening.node)
        # a plan that was let through with more than the caps allow is not asked for more than it kept
        self._cap: list[int] = np.maximum(cap, planned).tolist()
        self._stage_cap: list[int] = np.maximum(problem.stage_cap, planned_stages).tolist()
        self.reissues = []

    @classmethod
    def of(
        cls,
        problem: TrainProblem,
        placement: Ints,
        live: np.ndarray,
        moved: Sequence[Moved],
        fixed: Sequence[tuple[int, ...]],
        *,
        chunks: int = 1,
        beyond: int = 0,
    ) -> RouteDraft:
        """The draft that changes as little as it can: dead nodes are replaced within their stage.

        Parameters
        ----------
        live
            Shape (N,): nodes that can be used.
        moved
            Microbatches that get a new attempt: (index, present route, its stages, furthest visit from which it can go
            on, microbatch that it waits for).
        fixed
            Routes of all other microbatches, which count for the caps.
        chunks
            Model chunks a node.
        beyond
            Widen the caps that must be widened by this much more.

        Raises
        ------
        ProvenInfeasible
            If a stage has no live node left: nobody has its weights.
        """
        draft = cls(problem, placement, live, moved, fixed, chunks, beyond)
        routes = [[n if live[n] else -1 for n in route] for _, route, _, _, _ in moved]
        for route in routes:  # whoever can stay does, before others look for a place
            draft._count([n for n in route if n >= 0], 1)
        for (index, old, stages, resume, after), route in zip(moved, routes, strict=True):
            for k, node in enumerate(route):
                if node < 0:
                    twin = next((route[j] for j, n in enumerate(old) if n == old[k] and route[j] >= 0), None)
                    route[k] = draft._place(route, stages, k) if twin is None else twin
                    if twin is None:
                        draft._count([route[k]], 1)
            draft.reissues.append(Reissue(index, tuple(route), stages, resume, after))
        return draft

    def propose(self, rng: np.random.Generator) -> Callable[[], None] | None:
        """Change one or two attempts at random; returns what takes the change back, None if nothing changed."""
        i = int(rng.integers(len(self.reissues)))
        draw = rng.random()
        if draw < 0.4:
            new = self._other_node(self.reissues[i], rng)
        elif draw < 0.6:
            new = self._other_order(self.reissues[i], rng)
        elif draw < 0.7:
            new = self._other_beginning(self.reissues[i], rng)
        elif len(self.reissues) > 1:
            j = int(rng.integers(len(self.reissues) - 1))
            j += j >= i
            return self._exchange(i, j, rng) if draw < 0.9 else self._swap_turns(i, j)
        else:
            return None
        return None if new is None or new == self.reissues[i] else self._change({i: new})

    def _count(self, route: Sequence[int], by: int) -> None:
        nodes = set(route)
        for n in nodes:
            self._load[n] += by
        for p in {self._placement[n] for n in nodes}:
            self._stage_load[p] += by

    def _change(self, new: dict[int, Reissue]) -> Callable[[], None] | None:
        """Put attempts in place of others if the caps allow it."""
        old = {i: self.reissues[i] for i in new}

        def put(what: dict[int, Reissue], instead: dict[int, Reissue]) -> None:
            for i in what:
                self._count(instead[i].route, -1)
            for i, reissue in what.items():
                self._count(reissue.route, 1)
                self.reissues[i] = reissue

        put(new, old)
        for reissue in new.values():
            for n in reissue.route:
                p = self._placement[n]
                if self._load[n] > self._cap[n] or self._stage_load[p] > self._stage_cap[p]:
                    put(old, new)
                    return None
        return lambda: put(old, new)

    def _place(self, route: Sequence[int], stages: Sequence[int], k: int) -> int:
        """The live node for visit k with the most room, among those with links to the visits beside it."""
        members = self._members[stages[k] % self._n_stages]
        beside = [route[j] for j in (k - 1, k + 1) if 0 <= j < len(route) and route[j] >= 0]
        linked = [bool(np.isfinite(self._link[beside, n]).all()) for n in members]
        room = [self._cap[n] - self._load[n] for n in members]
        return members[max(range(len(members)), key=lambda i: (room[i] > 0, linked[i], room[i]))]

    def _other_node(self, reissue: Reissue, rng: np.random.Generator) -> Reissue | None:
        k = int(rng.integers(reissue.first, len(reissue.route)))
        members = self._members[reissue.stages[k] % self._n_stages]
        route = list(reissue.route)
        route[k] = members[rng.integers(len(members))]
        if self._chunks > 1 and k > 0 and reissue.stages[k] % self._n_stages == 0 and rng.random() < 0.5:
            route[k] = route[0]
        return reissue._replace(route=tuple(route))

    def _other_order(self, reissue: Reissue, rng: np.random.Generator) -> Reissue | None:
        """Other stages, or the same in another order, behind the visits that are kept."""
        if self._chunks > 1:
            return None
        fitting = self._orders(reissue.stages[: max(reissue.first, 1)], rng)
        if not fitting:
            return None
        stages = fitting[int(rng.integers(len(fitting)))]
        at = dict(zip(reissue.stages, reissue.route, strict=True))
        route = [at.get(p, -1) for p in stages]
        for k, node in enumerate(route):
            if node < 0:
                members = self._members[stages[k]]
                route[k] = members[rng.integers(len(members))]
        return reissue._replace(route=tuple(route), stages=stages)

    def _orders(self, kept: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int, ...]]:
        """Orders of stages that begin like this."""
        if not self._known_orders:
            length = len(self.reissues[0].stages)
            orders = stage_orders(self._n_stages, length, self._reordering, rng)
            for order in dict.fromkeys([*(r.stages for r in self.reissues), *orders]):
                for k in range(1, length):
                    self._known_orders.setdefault(order[:k], []).append(order)
        return self._known_orders.get(kept, [])

    def _other_beginning(self, reissue: Reissue, rng: np.random.Generator) -> Reissue | None:
        """Go on from another visit, or begin without waiting for another microbatch's return."""
        _, old, stages, resume, after = self._kept[reissue.microbatch]
        if after >= 0:
            return reissue._replace(after=-1 if reissue.after >= 0 else after)
        if resume == 0:
            return None
        first = int(rng.integers(0, resume + 1))
        kept = max(first, 1) if stages[0] == reissue.stages[0] else first
        if reissue.stages[:kept] == stages[:kept]:
            return reissue._replace(first=first, route=(*old[:first], *reissue.route[first:]))
        live = [n if n in self._members[p % self._n_stages] else -1 for n, p in zip(old, stages, strict=True)]
        route = [n if n >= 0 else self._place(live, stages, k) for k, n in enumerate(live)]
        return reissue._replace(first=first, route=tuple(route), stages=stages)

    def _exchange(self, i: int, j: int, rng: np.random.Generator) -> Callable[[], None] | None:
        """Two attempts exchange their nodes of a stage."""
        a, b = self.reissues[i], self.reissues[j]
        shared = [
            (k, m)
            for k in range(a.first, len(a.route))
            for m in range(b.first, len(b.route))
            if a.stages[k] == b.stages[m] and a.route[k] != b.route[m]
        ]
        if not shared:
            return None
        k, m = shared[int(rng.integers(len(shared)))]
        left, right = list(a.route), list(b.route)
        left[k], right[m] = right[m], left[k]
        return self._change({i: a._replace(route=tuple(left)), j: b._replace(route=tuple(right))})

    def _swap_turns(self, i: int, j: int) -> Callable[[], None]:
        def swap() -> None:
            self.reissues[i], self.reissues[j] = self.reissues[j], self.reissues[i]

        swap()
        return swap


def _least_widening(room: Sequence[int], demand: int) -> int:
    """Smallest w for which the rooms, each w larger and none below 0, hold the demand."""
    w = 0
    while sum(max(0, r + w) for r in room) < demand:
        w += 1
    return w
