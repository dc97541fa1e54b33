"""A wave as a conflict problem: what its microbatches may not do together, and how that is resolved.

How conflicts are resolved without losing a solution:

* Too many agents at a stage or at a node: take the first few of them that are too many already. In every solution at
  least one of these goes elsewhere. Child i: the i-th goes elsewhere and those before it come. The children share no
  solution.
* Task t of agent i holds a node in [a, a') and task u of agent j in [b, b'), and they overlap. A start of t in [a, b')
  together with a start of u in [b, a') would overlap again, since holds have fixed lengths. So either t does not start
  in [a, b') or u does not start in [b, a') (A. Andreychuk et al., "Multi-agent pathfinding with continuous time",
  Artificial Intelligence 305, 2022).
* Injections of two agents of one source that the iteration repeats equally often: some best solution injects them in
  the order of their releases, since otherwise they could exchange all that follows. So the later one waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train.problem import FORWARD
from pathloom.worlds.train.timed_routes import RoutesFrom, TimedRoute, Use, merged
from pathloom.worlds.train.wave import Wave


@dataclass(frozen=True, slots=True)
class Closed:
    """The agent may not start a use of a node in the window from `low` up to, but not at, `high`."""

    use: Use
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The agent visits none of these nodes (a whole stage, or one node)."""

    nodes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Here:
    """The agent visits one of these nodes."""

    nodes: frozenset[int]


Constraint = Closed | Elsewhere | Here


@dataclass(frozen=True, slots=True)
class Crowd:
    """Agents of which one has to go elsewhere than these nodes."""

    agents: tuple[int, ...]
    nodes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two tasks that hold a node at the same time."""

    first: int
    first_use: Use
    first_span: tuple[float, float]
    second: int
    second_use: Use
    second_span: tuple[float, float]


Conflict = Crowd | Overlap


class ConflictFreeWave:
    """The wave as a `pathloom.search.conflict_search.ConflictProblem`.

    Attributes
    ----------
    wave, objective
        What is planned, and "max" or "sum" of the returns.
    routes
        All routes by source.
    members
        Nodes of each stage.
    """

    def __init__(self, wave: Wave, objective: str = "max") -> None:
        self.wave = wave
        self.objective = objective
        problem, placement = wave.problem, wave.placement
        shortest = min(problem.forward.min(), problem.backward.min(), problem.loss[placement == 0].min())
        if not shortest > 0:
            raise ValueError("a task of zero seconds cannot be kept from overlapping; every duration must be positive")
        self.routes = {
            source: RoutesFrom(problem, placement, source, rests=True) for source in dict.fromkeys(wave.source.tolist())
        }
        self.members = [frozenset(np.flatnonzero(placement == p).tolist()) for p in range(problem.n_stages)]
        self._known: dict[tuple[int, frozenset[Constraint]], TimedRoute | None] = {}
        self._within: dict[tuple[int, frozenset[Constraint]], NDArray[np.int64]] = {}

    @property
    def agents(self) -> int:
        return self.wave.agents

    def plan(self, agent: int, constraints: Sequence[Constraint]) -> TimedRoute | None:
        """Route of earliest return under the constraints."""
        key = (agent, frozenset(constraints))
        if key not in self._known:
            routes = self.routes[int(self.wave.source[agent])]
            windows = merged((c.use, c.low, c.high) for c in key[1] if isinstance(c, Closed))
            candidates = self.candidates(agent, frozenset(c for c in key[1] if not isinstance(c, Closed)))
            self._known[key] = routes.cheapest(float(self.wave.offset[agent]), windows, candidates)
        return self._known[key]

    def candidates(self, agent: int, constraints: frozenset[Constraint]) -> NDArray[np.int64]:
        """Positions of the routes that keep the constraints on nodes among these."""
        source = int(self.wave.source[agent])
        key = (source, constraints)
        if key not in self._within:
            routes = self.routes[source]
            keep = np.ones(len(routes.cost), dtype=bool)
            for constraint in constraints:
                if isinstance(constraint, Closed):
                    continue
                comes = np.isin(routes.nodes, sorted(constraint.nodes)).any(axis=1)
                keep &= comes if isinstance(constraint, Here) else ~comes
            self._within[key] = np.flatnonzero(keep)
        return self._within[key]

    def cost(self, path: TimedRoute) -> float:
        """Return of the microbatch, seconds after the start of the wave."""
        return path.end

    def conflict(self, paths: Sequence[TimedRoute]) -> Conflict | None:
        """Stages with too many agents first, then nodes, then the overlap that begins first."""
        return self._crowd(paths) or min(self._overlaps(paths), key=_begins, default=None)

    def appraise(
        self, paths: Sequence[TimedRoute], constraints: Sequence[Sequence[Constraint]], cutoff: float
    ) -> tuple[Conflict | None, float]:
        """The conflict whose children cost most, and the cost of the cheaper of them as a bound of the node."""
        crowd = self._crowd(paths)
        ends = [path.end for path in paths]
        now = self._total(ends)
        if crowd is not None:
            return crowd, 0.0
        best: Conflict | None = None
        best_score = (-1.0, -1.0)
        bound = now
        for overlap in sorted(self._overlaps(paths), key=_begins):
            gains: list[float] = []
            costs: list[float] = []
            for alternative in self.branch(overlap):
                ((agent, constraint),) = alternative
                path = self.plan(agent, (*constraints[agent], constraint))
                cost = inf if path is None else self._total([*ends[:agent], path.end, *ends[agent + 1 :]])
                costs.append(cost)
                # How much of the room that the agent has is used up; all of it if the child is hopeless.
                room = cutoff - (now if self.objective == "sum" else ends[agent])
                if path is None or cost > cutoff:
                    gains.append(inf)
                else:
                    gains.append((path.end - ends[agent]) / max(room, 1e-12))
            bound = max(bound, min(costs))
            score = (min(gains), max(gains)) if len(gains) > 1 else (gains[0], inf)
            if score > best_score:
                best, best_score = overlap, score
            if bound > cutoff:
                break
        return best, bound

    def total(self, paths: Sequence[TimedRoute]) -> float:
        """Objective of a wave."""
        return self._total([path.end for path in paths])

    def _total(self, ends: Sequence[float]) -> float:
        return max(ends) if self.objective == "max" else sum(ends)

    def conflict_count(self, paths: Sequence[TimedRoute]) -> int:
        """Number of overlapping pairs of tasks, and a large number more while agents are too many somewhere."""
        return len(self._overlaps(paths)) + (1_000 if self._crowd(paths) else 0)

    def keeps(self, agent: int, path: TimedRoute, constraint: Constraint) -> bool:
        """True if the path keeps the constraint, so that it is still a cheapest one under it."""
        if isinstance(constraint, Closed):
            return not any(
                use == constraint.use and constraint.low <= start < constraint.high
                for use, start in zip(path.uses, path.start, strict=True)
            )
        return isinstance(constraint, Here) == (not constraint.nodes.isdisjoint(path.nodes))

    def branch(self, conflict: Conflict) -> list[list[tuple[int, Constraint]]]:
        """Alternatives of which every solution keeps at least one; see the module's docstring."""
        if isinstance(conflict, Crowd):
            return [
                [
                    *((other, Here(conflict.nodes)) for other in conflict.agents[:i]),
                    (agent, Elsewhere(conflict.nodes)),
                ]
                for i, agent in enumerate(conflict.agents)
            ]
        o = conflict
        first = (o.first, Closed(o.first_use, o.first_span[0], o.second_span[1]))
        second = (o.second, Closed(o.second_use, o.second_span[0], o.first_span[1]))
        if o.first_use == o.second_use == (self.wave.source[o.first], FORWARD) and self._exchangeable(
            o.first, o.second
        ):
            return [[second] if self._first(o.first, o.second) else [first]]
        return [[first], [second]]

    def _exchangeable(self, i: int, j: int) -> bool:
        """True for two agents that differ in their release only."""
        wave = self.wave
        return i != j and wave.source[i] == wave.source[j] and wave.repeats[i] == wave.repeats[j]

    def _first(self, i: int, j: int) -> bool:
        """True if agent i is injected before its exchangeable agent j."""
        return (self.wave.offset[i], i) < (self.wave.offset[j], j)

    def _crowd(self, paths: Sequence[TimedRoute]) -> Crowd | None:
        wave = self.wave
        by_stage: list[list[int]] = [[] for _ in self.members]
        by_node: dict[int, list[int]] = {}
        for agent, path in enumerate(paths):
            for n, p in zip(path.nodes[1:], path.stages[1:], strict=True):
                by_stage[p].append(agent)
                by_node.setdefault(n, []).append(agent)
        for p, visitors in enumerate(by_stage):
            if p > 0 and wave.stage_overload(visitors, p):
                return Crowd(self._least(visitors, lambda a, p=p: wave.stage_overload(a, p)), self.members[p])  # type: ignore[misc]
        for n, visitors in sorted(by_node.items()):
            if wave.overload(visitors, n):
                return Crowd(self._least(visitors, lambda a, n=n: wave.overload(a, n)), frozenset((n,)))  # type: ignore[misc]
        return None

    @staticmethod
    def _least(visitors: list[int], too_many: Callable[[Sequence[int]], bool]) -> tuple[int, ...]:
        return next(tuple(visitors[:m]) for m in range(1, len(visitors) + 1) if too_many(visitors[:m]))

    def _overlaps(self, paths: Sequence[TimedRoute]) -> list[Overlap]:
        holds: dict[int, list[tuple[float, float, int, Use]]] = {}
        for agent, path in enumerate(paths):
            for use, start, leave in zip(path.uses, path.start, path.leave, strict=True):
                holds.setdefault(use[0], []).append((start, leave, agent, use))
        found: list[Overlap] = []
        for spans in holds.values():
            spans.sort()
            for at, (start, leave, agent, use) in enumerate(spans):
                for other_start, other_leave, other, other_use in spans[at + 1 :]:
                    if other_start >= leave:
                        break
                    if other != agent:
                        found.append(Overlap(agent, use, (start, leave), other, other_use, (other_start, other_leave)))
        return found


def _begins(overlap: Overlap) -> tuple[float, int, int]:
    return (overlap.second_span[0], overlap.first, overlap.second)
