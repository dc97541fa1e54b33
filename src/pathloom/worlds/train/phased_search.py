"""The phased conflict search of SkipPipe over one wave; `skippipe` says what it does and where it comes from."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import NoPlanFound
from pathloom.worlds.train.problem import FORWARD, TrainDecisions
from pathloom.worlds.train.simulator import simulate
from pathloom.worlds.train.timed_routes import RoutesFrom, TimedRoute, Use, merged, overlap_window
from pathloom.worlds.train.wave import Wave

Mask = NDArray[np.bool_]
Window = tuple[Use, float, float]


@dataclass(frozen=True)
class SkipPipeSettings:
    """Constants of the search, by default the authors'.

    Attributes
    ----------
    assignments
        Assignments of stages that phase A collects.
    stage_children, node_children, forward_window
        Most alternatives for an overloaded stage and node; share of the agents, slowest first, that keep their slot
        against a faster one without an alternative.
    crowded
        Once a plan is known, nodes of the tree that break TC1 are dropped while more than this many wait.
    slack
        Seconds by which a child's iteration may exceed the best one.
    enough
        Stop when the best iteration is below this share of the first one.
    solutions
        Stop after this many collision-free nodes.
    copies
        Microbatches of a source that share a route (coarsening); 1 for none.
    patience
        Nodes after which phase B, if it has found nothing, repairs the assignments of phase A.
    placement_share
        Share of the time limit that the placement of nodes on stages may take.
    """

    assignments: int = 32
    stage_children: int = 3
    node_children: int = 2
    forward_window: float = 0.25
    crowded: int = 500
    slack: float = 5.0
    enough: float = 0.88
    solutions: int = 8
    copies: int = 1
    patience: int = 5_000
    placement_share: float = 0.3


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of the constraint tree: what each agent may visit and when, and its cheapest path under that."""

    stage_open: Mask  # (A, S)
    node_open: Mask  # (A, N)
    windows: tuple[tuple[Window, ...], ...]
    paths: tuple[TimedRoute, ...]
    timed: bool = False

    def slowest_first(self) -> list[int]:
        return sorted(range(len(self.paths)), key=lambda a: -self.paths[a].end)

    def key(self) -> tuple[bytes, bytes, tuple[frozenset[Window], ...]]:
        return self.stage_open.tobytes(), self.node_open.tobytes(), tuple(frozenset(w) for w in self.windows)


class _Finished(Exception):
    """The search may stop: a stopping rule holds or the time is over."""


@dataclass
class PhasedSearch:
    """The search over one wave; `run` fills `best`."""

    wave: Wave
    settings: SkipPipeSettings
    collision_aware: bool
    deadline: float
    node_limit: int | None
    report: Callable[[float | None, str], None]
    best: TrainDecisions | None = None
    best_seconds: float = np.inf
    first_seconds: float | None = None
    expanded: int = 0
    collision_free: int = 0
    stopped_by: str = "nothing left to search"
    _routes: dict[int, RoutesFrom] = field(default_factory=dict)
    _within: dict[tuple[int, bytes], NDArray[np.int64]] = field(default_factory=dict)
    _serial: int = 0

    def __post_init__(self) -> None:
        problem, placement = self.wave.problem, self.wave.placement
        for source in dict.fromkeys(self.wave.source.tolist()):
            self._routes[source] = RoutesFrom(problem, placement, source, rests=False)
        self.inner: list[int] = np.flatnonzero(placement != 0).tolist()
        self.members = [np.flatnonzero(placement == p) for p in range(problem.n_stages)]

    # Single agents

    def plan(self, agent: int, node_open: Mask, windows: Sequence[Window]) -> TimedRoute | None:
        source = int(self.wave.source[agent])
        key = (source, node_open[agent].tobytes())
        candidates = self._within.get(key)
        if candidates is None:
            candidates = self._within[key] = self._routes[source].within(node_open[agent])
        return self._routes[source].cheapest(float(self.wave.offset[agent]), merged(windows), candidates)

    def root(self) -> TreeNode:
        wave = self.wave
        node_open = np.ones((wave.agents, wave.problem.n_nodes), dtype=bool)
        stage_open = np.ones((wave.agents, wave.problem.n_stages), dtype=bool)
        paths = [self.plan(agent, node_open, ()) for agent in range(wave.agents)]
        found = tuple(path for path in paths if path is not None)
        if len(found) < len(paths):
            raise NoPlanFound("skippipe: a source has no route under this placement and its links")
        return TreeNode(stage_open, node_open, ((),) * wave.agents, found)

    def replanned(
        self,
        parent: TreeNode,
        changed: Sequence[int],
        *,
        stage_open: Mask | None = None,
        node_open: Mask | None = None,
        windows: tuple[tuple[Window, ...], ...] | None = None,
    ) -> TreeNode | None:
        """A child of `parent` with other constraints for the `changed` agents; None if one of them has no route."""
        stage_open = parent.stage_open if stage_open is None else stage_open
        node_open = parent.node_open if node_open is None else node_open
        timed = windows is not None
        windows = parent.windows if windows is None else windows
        paths = list(parent.paths)
        for agent in changed:
            path = self.plan(agent, node_open, windows[agent])
            if path is None:
                return None
            paths[agent] = path
        return TreeNode(stage_open, node_open, windows, tuple(paths), timed)

    # Conflicts

    def visitors(self, node: TreeNode) -> tuple[list[list[int]], list[list[int]]]:
        """Agents that visit each stage and each network node, fastest first."""
        by_stage: list[list[int]] = [[] for _ in range(self.wave.problem.n_stages)]
        by_node: list[list[int]] = [[] for _ in range(self.wave.problem.n_nodes)]
        for agent in reversed(node.slowest_first()):
            for n, p in zip(node.paths[agent].nodes, node.paths[agent].stages, strict=True):
                by_stage[p].append(agent)
                by_node[n].append(agent)
        return by_stage, by_node

    def excess(self, agents: Sequence[int], too_many: Callable[[Sequence[int]], bool]) -> int:
        """Fewest agents that have to go elsewhere, those that the iteration repeats most counted first."""
        heaviest = sorted(agents, key=lambda a: -self.wave.repeats[a])
        return next(m for m in range(len(agents) + 1) if not too_many(heaviest[m:]))

    def leavers(
        self, agents: Sequence[int], bound: set[int], too_many: Callable[[Sequence[int]], bool], most: int
    ) -> list[tuple[int, ...]]:
        """The first sets of agents, at most `most`, of which each takes the excess away; none if that is hopeless."""
        if too_many([a for a in agents if a in bound]):
            return []
        size = 1 if self.settings.copies > 1 else self.excess(agents, too_many)
        return list(islice(combinations([a for a in agents if a not in bound], size), most))

    def without_stage(self, node: TreeNode, stage: int, agents: Sequence[int]) -> Iterator[TreeNode | None]:
        full = np.flatnonzero(node.stage_open.sum(axis=1) == self.wave.problem.route_length)
        for group in self.leavers(
            agents, set(full.tolist()), lambda a: self.wave.stage_overload(a, stage), self.settings.stage_children
        ):
            stage_open, node_open = node.stage_open.copy(), node.node_open.copy()
            leaving = np.array(group, dtype=np.int64)
            stage_open[leaving, stage] = False
            node_open[leaving[:, None], self.members[stage]] = False
            yield self.replanned(node, group, stage_open=stage_open, node_open=node_open)

    def without_node(self, node: TreeNode, n: int, agents: Sequence[int]) -> Iterator[TreeNode | None]:
        others = [m for m in self.members[int(self.wave.placement[n])] if m != n]
        bound = {a for a in agents if not node.node_open[a, others].any()}
        for group in self.leavers(agents, bound, lambda a: self.wave.overload(a, n), self.settings.node_children):
            node_open = node.node_open.copy()
            node_open[list(group), n] = False
            yield self.replanned(node, group, node_open=node_open)

    def overlaps(self, node: TreeNode) -> list[tuple[int, Window]]:
        """The first overlap, slowest agents first, as alternatives: an agent and when it may not use a node."""
        ranking = node.slowest_first()
        spans = [
            {
                n: [
                    (start, leave, kind == FORWARD)
                    for (at, kind), start, leave in zip(path.uses, path.start, path.leave, strict=True)
                    if at == n
                ]
                for n in sorted(set(path.nodes))
            }
            for path in node.paths
        ]
        for rank, i in enumerate(ranking):
            for j in ranking[rank + 1 :]:
                for n, of_i in spans[i].items():
                    for a, a_end, a_forward in of_i:
                        for b, b_end, b_forward in spans[j].get(n, ()):
                            if a >= b_end or b >= a_end or not (a_forward or b_forward):
                                continue
                            if not (a_forward and b_forward):
                                return [(j, ((n, -1), a, a_end)) if a < b else (i, ((n, -1), b, b_end))]
                            later = [(j, ((n, -1), a, a_end))]
                            if rank > len(ranking) * self.settings.forward_window:
                                later.insert(0, (i, ((n, -1), b, b_end)))
                            return later
        return []

    def waiting(self, node: TreeNode, agent: int, window: Window) -> TreeNode | None:
        """The child in which an agent keeps off a node for a time, whatever it does there."""
        (n, _), low, high = window
        routes = self._routes[int(self.wave.source[agent])]
        added = [
            (use, *overlap_window(low, high, duration))
            for use, duration in routes.holds(n, int(self.wave.placement[n]))
        ]
        windows = list(node.windows)
        windows[agent] = (*windows[agent], *added)
        return self.replanned(node, [agent], windows=tuple(windows))

    # The phases

    def tick(self, phase: str) -> None:
        self.expanded += 1
        if self.node_limit is not None and self.expanded > self.node_limit:
            self.stopped_by = "node limit"
            raise _Finished
        if time.perf_counter() > self.deadline:
            self.stopped_by = "time limit"
            raise _Finished
        self.report(self.best_seconds if self.best is not None else None, phase)

    def judge(self, node: TreeNode, *, first: bool = True) -> float:
        """Simulate the iteration that repeats a node's routes; the best one that keeps TC1 is kept."""
        decisions = self.wave.decisions(node.paths)
        outcome = simulate(self.wave.problem, decisions)
        # Where caps allow more visits than memory, swapped routes can wait for each other's slots for ever.
        seconds = np.inf if np.isnan(outcome.returned).any() else outcome.iteration_time
        if seconds >= self.best_seconds or not self.keeps_caps(node):
            return seconds
        if seconds < np.inf:
            self.best, self.best_seconds = decisions, seconds
        if self.first_seconds is None and first:
            self.first_seconds = seconds
        if self.first_seconds is not None and self.best_seconds < self.settings.enough * self.first_seconds:
            self.stopped_by = f"iteration below {self.settings.enough} of the first"
            raise _Finished
        return seconds

    def keeps_caps(self, node: TreeNode) -> bool:
        """True if no node gets more agents than it may; stages are settled since phase A."""
        _, by_node = self.visitors(node)
        return not any(self.wave.overload(by_node[n], n) for n in self.inner)

    def item(self, node: TreeNode, extra: float = 0.0) -> tuple[float, bool, int, TreeNode]:
        self._serial += 1
        return (max(path.end for path in node.paths) + extra, node.timed, self._serial, node)

    def assignments(self) -> list[TreeNode]:
        """Phase A: assignments of stages to agents that keep TC1, cheapest first."""
        found: dict[bytes, TreeNode] = {}
        heap = [self.item(self.root())]
        seen: set[bytes] = set()
        while heap and len(found) < self.settings.assignments:
            self.tick("stages")
            node = heapq.heappop(heap)[-1]
            by_stage, _ = self.visitors(node)
            crowded = next(
                (p for p in range(1, len(by_stage)) if self.wave.stage_overload(by_stage[p], p)),
                None,
            )
            if crowded is None:
                settled = self.settle(node)
                found.setdefault(settled.stage_open.tobytes(), settled)
                continue
            for child in self.without_stage(node, crowded, by_stage[crowded]):
                if child is not None and child.stage_open.tobytes() not in seen:
                    seen.add(child.stage_open.tobytes())
                    heapq.heappush(heap, self.item(child))
        return list(found.values())

    def settle(self, node: TreeNode) -> TreeNode:
        """The node with every agent bound to the stages that its path visits."""
        stage_open = np.zeros_like(node.stage_open)
        for agent, path in enumerate(node.paths):
            stage_open[agent, list(path.stages)] = True
        node_open = node.node_open & stage_open[:, self.wave.placement]
        return TreeNode(stage_open, node_open, node.windows, node.paths)

    def repair(self, node: TreeNode) -> TreeNode | None:
        """Move agents one by one from overloaded nodes to nodes with room; None if that is impossible.

        Of the agents of an overloaded node the one moves that then returns first.
        """
        while True:
            self.tick("nodes")
            _, by_node = self.visitors(node)
            crowded = next((n for n in self.inner if self.wave.overload(by_node[n], n)), None)
            if crowded is None:
                return node
            moved: tuple[float, int, TimedRoute] | None = None
            for agent in by_node[crowded]:
                room = node.node_open.copy()
                for n in self.inner:
                    if n == crowded or (
                        n not in node.paths[agent].nodes and self.wave.overload([*by_node[n], agent], n)
                    ):
                        room[agent, n] = False
                path = self.plan(agent, room, node.windows[agent])
                if path is not None and (moved is None or path.end < moved[0]):
                    moved = (path.end, agent, path)
            if moved is None:
                return None
            _, agent, path = moved
            node_open, paths = node.node_open.copy(), list(node.paths)
            node_open[agent, crowded] = False
            paths[agent] = path
            node = TreeNode(node.stage_open, node_open, node.windows, tuple(paths))

    def run(self) -> None:
        """Search until a stopping rule holds; an interrupt ends it with the best plan so far."""
        try:
            assignments = self.assignments()
            heap = [self.item(node) for node in assignments]
            heapq.heapify(heap)
            seen: set[Any] = set()
            patience = self.expanded + self.settings.patience
            repaired = False
            while True:
                if self.best is None and not repaired and (not heap or self.expanded > patience):
                    repaired = True
                    for leaf in filter(None, map(self.repair, assignments)):
                        heapq.heappush(heap, self.item(leaf))
                        self.judge(leaf, first=False)
                if not heap:
                    break
                self.tick("times" if self.best is not None else "nodes")
                node = heapq.heappop(heap)[-1]
                key = node.key()
                if key in seen:
                    continue
                seen.add(key)
                for child, extra in self.expand(node, len(heap)):
                    heapq.heappush(heap, self.item(child, extra))
        except _Finished:
            pass
        except KeyboardInterrupt:
            if self.best is None:
                raise
            self.stopped_by = "interrupted"

    def expand(self, node: TreeNode, waiting: int) -> Iterator[tuple[TreeNode, float]]:
        """Children of a node in phases B and C, each with what its cost is raised by in the order of search."""
        _, by_node = self.visitors(node)
        crowded = [n for n in self.inner if self.wave.overload(by_node[n], n)]
        if crowded:
            if self.best is not None and waiting > self.settings.crowded:
                return
            rest = sum(self.excess(by_node[n], lambda a, n=n: self.wave.overload(a, n)) for n in crowded[1:])  # type: ignore[misc]
            for child in self.without_node(node, crowded[0], by_node[crowded[0]]):
                if child is not None:
                    yield child, 0.01 * rest / self.wave.problem.n_nodes
            return
        if not node.timed:
            self.judge(node)
        if not self.collision_aware:
            self.stopped_by = "first assignment that keeps TC1"
            raise _Finished
        alternatives = self.overlaps(node)
        if not alternatives:
            self.collision_free += 1
            if self.collision_free >= self.settings.solutions:
                self.stopped_by = f"{self.collision_free} collision-free nodes"
                raise _Finished
        for agent, window in alternatives:
            child = self.waiting(node, agent, window)
            if child is not None and self.judge(child) <= self.best_seconds + self.settings.slack:
                yield child, 0.0
