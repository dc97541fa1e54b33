"""Optimal multi-agent path finding by conflict-based search.

The engine is `pathloom.search.conflict_search`; this module says what a grid's conflicts are and how to resolve them:

* single agents: decision diagrams of all cheapest paths under the constraints, and in them the path that meets the
  fewest other agents (ties and bypass: E. Boyarski et al., "ICBS", IJCAI 2015);
* bound of a node: the least cover of the weighted dependency graph (see `dependency`);
* target symmetry: an agent that is run over while it rests at its goal either finishes later or closes its goal to
  all others (J. Li et al., "Pairwise symmetry reasoning for multi-agent path finding search", Artificial
  Intelligence 301, 2021);
* delays: two agents whose delays must add up to something, but who meet in no cardinal conflict (as in the rectangle
  and corridor symmetries of the same paper), are split by their Pareto front of delays: either a
  finishes with delay at most d, and then b with at least what the front says, or a is delayed by more than d. This
  is our own generalisation: it looks at no geometry, and both sides of the split cost more than their parent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress, ProvenInfeasible
from pathloom.search.conflict_search import conflict_search
from pathloom.worlds.motion import _kernels, _pair_kernels
from pathloom.worlds.motion._kernels import AT_LEAST, AT_MOST, BAN_CELL, BAN_MOVE, NEVER
from pathloom.worlds.motion.dependency import least_cover
from pathloom.worlds.motion.prioritised import BOUND as SINGLE_BOUND
from pathloom.worlds.motion.prioritised import PathTable, compile_kernels, first_paths, repair, shortest_distances
from pathloom.worlds.motion.problem import Grid, GridProblem, number_cells, route_plan

METHOD = "conflict-based"
# The move that leads back.
OPPOSITE = (0, 3, 4, 1, 2)

Constraint = tuple[int, int, int, int]
Route = NDArray[np.int32]
_Key = tuple[int, frozenset[Constraint]]


class Diagram(NamedTuple):
    """All paths of one agent under its constraints, as `_kernels.decision_diagram` returns them."""

    cost: int
    first_finish: int
    layer: NDArray[np.int32]
    cells: NDArray[np.int32]
    finish: NDArray[np.int32]
    successor: NDArray[np.int32]

    def width(self, at: int) -> int:
        """Number of cells where the agent can be at a time (1 once it has finished)."""
        return 1 if at >= self.cost else int(self.layer[at + 1] - self.layer[at])


@dataclass(frozen=True)
class Split:
    """A conflict, and the alternatives that resolve it."""

    kind: str
    agents: tuple[int, int]
    alternatives: tuple[tuple[tuple[int, Constraint], ...], ...]


class GridConflicts:
    """Conflicts of agents on a grid, as `pathloom.search.conflict_search` wants them.

    Paths are arrays of cell numbers by time, of length cost + 1.

    Parameters
    ----------
    slack
        Largest sum of two agents' delays that is looked into.
    work
        Number of joint states a pair may take.
    """

    def __init__(self, problem: GridProblem, *, slack: int = 16, work: int = 200_000) -> None:
        self.grid: Grid = number_cells(problem)
        self.size = len(self.grid.cells)
        self.distance = [_kernels.distances(self.grid.neighbours, int(goal)) for goal in self.grid.goals]
        self.slack, self.work = slack, work
        self._diagrams: dict[tuple[_Key, int], Diagram | None] = {}
        self._fronts: dict[tuple[_Key, _Key], tuple[NDArray[np.int32], int]] = {}

    @property
    def agents(self) -> int:
        """Number of agents."""
        return len(self.grid.starts)

    def diagram(self, key: _Key, slack: int = 0) -> Diagram | None:
        """All paths of an agent that cost at most `slack` more than the cheapest; None if there is no path."""
        known = (key, slack)
        if known not in self._diagrams:
            if len(self._diagrams) > 200_000:
                self._diagrams.clear()
            agent, constraints = key
            rows = np.array(list(constraints), dtype=np.int64).reshape(-1, 4)
            found = Diagram(
                *_kernels.decision_diagram(
                    self.grid.neighbours,
                    self.distance[agent],
                    int(self.grid.starts[agent]),
                    int(self.grid.goals[agent]),
                    *_kernels.tabulate(rows, self.size),
                    slack,
                )
            )
            self._diagrams[known] = found if found.cost >= 0 else None
        return self._diagrams[known]

    def plan(self, agent: int, constraints: Sequence[Constraint]) -> Route | None:
        """A cheapest path of `agent`."""
        return self.plan_among(agent, constraints, ())

    def plan_among(self, agent: int, constraints: Sequence[Constraint], paths: Sequence[Route | None]) -> Route | None:
        """A cheapest path of `agent` that meets as few of the other paths as possible."""
        diagram = self.diagram((agent, frozenset(constraints)))
        if diagram is None:
            return None
        others = _side_by_side([path for j, path in enumerate(paths) if j != agent and path is not None])
        return _kernels.path_among(diagram.cost, diagram.layer, diagram.cells, diagram.successor, others)

    def cost(self, path: Route) -> float:
        """Time of finishing."""
        return len(path) - 1.0

    def keeps(self, agent: int, path: Route, constraint: Constraint) -> bool:
        """Whether `path` keeps `constraint`."""
        kind, what, first, last = constraint
        cost = len(path) - 1
        if kind == AT_LEAST:
            return cost >= what
        if kind == AT_MOST:
            return cost <= what
        if kind == BAN_CELL:
            return not ((path[-1] == what and last >= cost) or (path[first : last + 1] == what).any())
        if last > cost or path[last] != what:
            return True
        return int(path[last - 1]) != int(self.grid.neighbours[what, OPPOSITE[first]])

    def conflict_count(self, paths: Sequence[Route]) -> int:
        """Number of pairs that collide."""
        return int(_pair_kernels.count_conflicting_pairs(_side_by_side(paths)))

    def conflict(self, paths: Sequence[Route]) -> Split | None:
        """The first collision, split at its cell or move."""
        table = _side_by_side(paths)
        found = _pair_kernels.find_conflicts(table, 1)
        return self._split_at(table, paths, *found[0].tolist()) if len(found) else None

    def branch(self, conflict: Split) -> Sequence[Sequence[tuple[int, Constraint]]]:
        """The alternatives of a split."""
        return conflict.alternatives

    def appraise(
        self, paths: Sequence[Route], constraints: Sequence[Sequence[Constraint]], cutoff: float
    ) -> tuple[Split | None, float]:
        """The most telling conflict, and the sum of costs plus the least cover of the pairs' delays."""
        table = _side_by_side(paths)
        found = _pair_kernels.find_conflicts(table, 1 << 20)
        if not len(found):
            return None, 0.0
        keys: dict[int, _Key] = {
            agent: (agent, frozenset(constraints[agent])) for agent in np.unique(found[:, :2]).tolist()
        }
        pairs = dict.fromkeys(map(tuple, found[:, :2].tolist()))
        delays = {(a, b): self.least_delay(keys[a], keys[b]) for a, b in pairs}
        bound = sum(len(path) - 1 for path in paths) + least_cover(delays)

        best: tuple[tuple[int, ...], Split] | None = None
        for a, b, at, swap in found.tolist():
            widths = []
            for agent in (a, b):
                diagram = self.diagram(keys[agent])
                assert diagram is not None
                widths.append(diagram.width(at) == 1 and (not swap or diagram.width(at - 1) == 1))
            cardinal = sum(widths)
            rests = not swap and (at >= len(paths[a]) - 1 or at >= len(paths[b]) - 1)
            # Conflicts that cost both sides something first, among them those that close a goal or keep its agent away.
            rank = (cardinal, int(rests), delays[a, b], -at)
            if best is None or rank > best[0]:
                best = rank, self._split_at(table, paths, a, b, at, swap)
            if cardinal < 2 and delays[a, b] > 0:
                # Both sides of a split by delays cost more too, but it keeps nobody away from any place.
                rank = (2, -1, delays[a, b], 0)
                if rank > best[0]:
                    best = rank, self._split_delays(keys[a], keys[b])
        assert best is not None
        return best[1], float(bound)

    def front(self, one: _Key, other: _Key) -> NDArray[np.int32]:
        """Pareto front of the delays of two agents, up to the least sum of delays where it is within reach."""
        return self._front(one, other)[0]

    def least_delay(self, one: _Key, other: _Key) -> int:
        """Least sum of the delays of two agents; a lower bound on it where it is beyond the slack."""
        return self._front(one, other)[1]

    def _front(self, one: _Key, other: _Key) -> tuple[NDArray[np.int32], int]:
        if (one, other) in self._fronts:
            return self._fronts[one, other]
        if len(self._fronts) > 200_000:
            self._fronts.clear()
        front = np.zeros(0, dtype=np.int32)
        slack = 0
        while slack <= self.slack:
            sides: list[Any] = []
            for key in (one, other):
                diagram = self.diagram(key, slack)
                assert diagram is not None
                sides += [
                    diagram.cost,
                    diagram.layer,
                    diagram.cells,
                    diagram.finish,
                    diagram.successor,
                    diagram.first_finish,
                    int(self.grid.goals[key[0]]),
                ]
            sweep: Any = _pair_kernels.trade_off  # unpacked lists are beyond the type checker
            tried = sweep(*sides, slack, self.work)
            if not len(tried):
                break
            front = tried
            if (front < NEVER).any():
                break
            slack = max(1, 2 * slack)
        self._fronts[one, other] = front, least_delay(front)
        return self._fronts[one, other]

    def _split_at(self, table: NDArray[np.int32], paths: Sequence[Route], a: int, b: int, at: int, swap: int) -> Split:
        if swap:
            alternatives = []
            for agent in (a, b):
                here, there = int(table[agent, at - 1]), int(table[agent, at])
                move = int(np.flatnonzero(self.grid.neighbours[here] == there)[0])
                alternatives.append(((agent, (BAN_MOVE, there, move, at)),))
            return Split("swap", (a, b), tuple(alternatives))
        cell = int(table[a, at])
        for resting, moving in ((a, b), (b, a)):
            if at >= len(paths[resting]) - 1:
                later = ((resting, (AT_LEAST, at + 1, 0, 0)),)
                closed = [(other, (BAN_CELL, cell, at, NEVER)) for other in range(self.agents) if other != resting]
                return Split("target", (resting, moving), (later, ((resting, (AT_MOST, at, 0, 0)), *closed)))
        return Split("cell", (a, b), tuple(((agent, (BAN_CELL, cell, at, at)),) for agent in (a, b)))

    def _split_delays(self, one: _Key, other: _Key) -> Split:
        front = self.front(one, other)
        a, b = one[0], other[0]
        first, second = self.diagram(one), self.diagram(other)
        assert first is not None and second is not None
        slack = len(front) - 1
        needs = [int(front[d]) if front[d] < NEVER else slack - d + 1 for d in range(slack + 1)]
        delay = max(range(slack + 1), key=lambda d: (min(needs[d], d + 1), needs[d] + d))
        later = ((a, (AT_LEAST, first.cost + delay + 1, 0, 0)),)
        sooner = ((a, (AT_MOST, first.cost + delay, 0, 0)), (b, (AT_LEAST, second.cost + needs[delay], 0, 0)))
        return Split("delays", (a, b), (sooner, later))


def least_delay(front: NDArray[np.int32]) -> int:
    """Least sum of two delays on a Pareto front; one more than its slack if it holds none."""
    reached = front < NEVER
    if not reached.any():
        return len(front)
    return int((np.flatnonzero(reached) + front[reached]).min())


def _side_by_side(paths: Sequence[Route]) -> NDArray[np.int32]:
    """Paths as rows of one table, each resting at its end."""
    if not len(paths):
        return np.full((0, 1), -1, dtype=np.int32)
    lengths = np.fromiter(map(len, paths), dtype=np.int64, count=len(paths))
    return _pair_kernels.side_by_side(np.concatenate(paths), lengths)


@cache
def compile_all_kernels() -> None:
    """Compile, or load from disk, what this method needs beyond `prioritised.compile_kernels`."""
    compile_kernels()
    free = np.ones((2, 4), dtype=np.bool_)
    free[1, ::3] = False  # two agents head on, with room to pass in the middle only
    ends = np.array([[0, 0], [0, 3]])
    conflict_search(GridConflicts(GridProblem(free, ends, ends[::-1].copy(), "head on")), node_limit=50)


def conflict_based(
    problem: GridProblem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    node_limit: int | None = None,
    slack: int = 16,
    quick_nodes: int = 100,
    repairs: int = 2_000,
) -> Plan:
    """Least sum of costs, proven, if the time suffices; else the best plan known, with a bound.

    An interrupt (Ctrl-C) ends the search likewise, once there is a plan.

    Easy instances are solved by a search of a few nodes. For others, a run of `prioritised.repair` gives a first plan,
    and the search starts again to look only for cheaper ones; if it finds none to exist, the first plan is optimal.

    Parameters
    ----------
    time_limit
        Seconds for all of it.
    seed
        Seed of the first plan; the search itself draws nothing at random.
    node_limit
        Number of expanded nodes after which the search stops.
    slack
        Largest sum of two agents' delays that is looked into for bounds.
    quick_nodes
        Number of nodes of the search without a first plan.
    repairs
        Rounds of repair for the first plan, which get at most a fifth of the time.

    Raises
    ------
    ProvenInfeasible
        If a goal cannot be reached from its start.
    NoPlanFound
        If neither a plan nor a proof was found within the limits, as on every connected instance without a plan.
    """
    compile_all_kernels()
    began = time.perf_counter()
    grid = number_cells(problem)
    table = PathTable(grid, shortest_distances(problem, grid), np.random.default_rng(seed))
    shortest = int(sum(distance[start] for distance, start in zip(table.distance, grid.starts)))
    bound, bound_by = float(shortest), SINGLE_BOUND
    best: list[Route] | None = None
    known = float("inf")
    expanded = generated = 0
    interrupted = False

    def report(lower: float, nodes: int) -> None:
        nonlocal bound, bound_by
        bound, bound_by = max(bound, lower), METHOD
        if on_progress is not None:
            seconds = time.perf_counter() - began
            on_progress(Progress(seconds, known if best else None, bound, f"{nodes} nodes"))

    def search(nodes: int | None, until: float) -> None:
        nonlocal bound, bound_by, best, known, expanded, generated
        solution = conflict_search(
            conflicts,
            time_limit=max(0.0, until - time.perf_counter()),
            node_limit=nodes,
            # Costs are integers: all that is left to find costs at least one step less.
            upper_bound=known - 1,
            on_progress=report,
        )
        expanded, generated = expanded + solution.expanded, generated + solution.generated
        if solution.bound > bound:
            bound, bound_by = min(solution.bound, known), METHOD
        if solution.paths is not None:
            best, known = list(solution.paths), solution.cost
        elif solution.proven:
            raise ProvenInfeasible("agents", "every way of resolving their conflicts is closed")

    deadline = began + time_limit
    conflicts = GridConflicts(problem, slack=slack)
    try:
        search(quick_nodes if node_limit is None else min(quick_nodes, node_limit), began + 0.5 * time_limit)
        if best is None and first_paths(table, deadline, attempts=100):
            best, known = table.routes(), float(table.total)
            until = min(deadline, time.perf_counter() + 0.2 * time_limit)
            repair(table, until, repairs, int(bound), None)
            best, known = table.routes(), float(table.total)
        if known > bound and (node_limit is None or expanded < node_limit):
            search(None if node_limit is None else node_limit - expanded, deadline)
    except KeyboardInterrupt:
        if best is None:
            raise
        interrupted = True
    if best is None:
        raise NoPlanFound(
            f"no plan for {problem.agents} agents within {time_limit:g} s and {expanded} nodes; any plan costs at "
            f"least {bound:g} steps, if there is one"
        )
    return route_plan(
        problem,
        [grid.cells[route] for route in best],
        method=METHOD,
        settings={
            "time_limit": time_limit,
            "node_limit": node_limit,
            "slack": slack,
            "quick_nodes": quick_nodes,
            "repairs": repairs,
        },
        seed=seed,
        seconds=time.perf_counter() - began,
        bound=bound,
        bound_by=bound_by,
        metrics={"expanded": expanded, "generated": generated, "interrupted": interrupted},
    )
