"""Conflict-based search: plan agents one by one, find a conflict, forbid it to one side or the other, repeat.

The engine knows neither grids nor pipelines. A problem says how to plan one agent under its constraints, which
conflict of a set of paths to resolve next, and by which alternative sets of constraints (`ConflictProblem`). The
search is exact, that is, the first conflict-free node popped from the open list is optimal for the chosen objective
(sum of costs, or the largest cost), as long as the problem keeps three promises:

* `plan` returns a cheapest path under the constraints, and None only where there is none;
* `conflict` returns None only for paths that are free of conflicts;
* every conflict-free solution that keeps a node's constraints also keeps at least one of the alternative sets that
  `branch` returns for the node's conflict (so no solution is lost), and no path of the node keeps all of them (so
  the tree moves on).

A problem that knows more may offer more, by methods that the engine finds on it: `CountsConflicts` (ties and bypass),
`PlansAmong` (ties in the single-agent search), `KeepsPaths` (no replanning of what already keeps a constraint, which
makes positive constraints and so disjoint splitting cheap) and `Appraises` (choice of the conflict and an admissible
bound with the node's constraints at hand). Each says what it must keep for the search to stay exact.

Sources: G. Sharon, R. Stern, A. Felner, N. Sturtevant, "Conflict-based search for optimal multi-agent pathfinding",
Artificial Intelligence 219, 2015; durations as in A. Andreychuk et al., "Multi-agent pathfinding with continuous
time", Artificial Intelligence 305, 2022; bypass and prioritised conflicts: E. Boyarski et al., "ICBS: Improved
conflict-based search algorithm for multi-agent pathfinding", IJCAI 2015; bounds of nodes: A. Felner et al., "Adding
heuristics to conflict-based search for multi-agent path finding", ICAPS 2018; disjoint splitting: J. Li et al.,
"Disjoint splitting for multi-agent path finding with conflict-based search", ICAPS 2019.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

Constraint = TypeVar("Constraint")
Path = TypeVar("Path")
Conflict = TypeVar("Conflict")


class ConflictProblem(Protocol[Constraint, Path, Conflict]):
    """What the engine needs to know of a problem."""

    @property
    def agents(self) -> int:
        """Number of agents."""

    def plan(self, agent: int, constraints: Sequence[Constraint]) -> Path | None:
        """Cheapest path of `agent` that keeps `constraints`; None if there is none."""

    def cost(self, path: Path) -> float:
        """Cost of one path."""

    def conflict(self, paths: Sequence[Path]) -> Conflict | None:
        """The conflict to resolve next; None if `paths` are free of conflicts."""

    def branch(self, conflict: Conflict) -> Sequence[Sequence[tuple[int, Constraint]]]:
        """Alternative sets of (agent, constraint) pairs that resolve `conflict`."""


@runtime_checkable
class CountsConflicts(Protocol):
    """A problem that counts conflicts: ties go to fewer of them, and a child may lend its paths to its parent.

    The bypass: a child whose paths cost every agent exactly as much as the parent's and that counts fewer conflicts
    replaces the parent's paths, instead of both branching. Any count is exact, since such paths keep the
    parent's constraints at the parent's costs.
    """

    def conflict_count(self, paths: Sequence[Any]) -> int:
        """Some measure of how far `paths` are from being free of conflicts."""


@runtime_checkable
class PlansAmong(Protocol):
    """A problem whose single-agent planner breaks ties by the paths of the other agents; used in place of `plan`."""

    def plan_among(self, agent: int, constraints: Sequence[Any], paths: Sequence[Any]) -> Any | None:
        """As `plan`: must be as cheap. `paths[j]` is None for agents not planned yet; ignore `paths[agent]`."""


@runtime_checkable
class KeepsPaths(Protocol):
    """A problem that can tell whether a path keeps a constraint, so that agents which comply are not replanned."""

    def keeps(self, agent: int, path: Any, constraint: Any) -> bool:
        """True only if `path` of `agent` keeps `constraint`; False never costs exactness, only time."""


@runtime_checkable
class Appraises(Protocol):
    """A problem that judges a whole node of the constraint tree; used in place of `conflict`."""

    def appraise(
        self, paths: Sequence[Any], constraints: Sequence[Sequence[Any]], cutoff: float
    ) -> tuple[Any | None, float]:
        """The conflict to resolve next (None if there is none) and a lower bound for the node.

        `constraints[i]` are those of agent i, newest first. The bound must not exceed the objective of any
        conflict-free solution under these constraints; 0 says nothing. Once it exceeds `cutoff` (the upper bound of
        the search), it need not be made tighter. A bound of infinity says that there is no such solution.
        """


@dataclass(frozen=True)
class ConflictSolution(Generic[Path]):
    """Outcome of a search.

    Attributes
    ----------
    paths
        One path an agent, or None if no conflict-free node was reached.
    cost
        Objective of `paths`; infinity without paths.
    bound
        Lower bound on the objective of any conflict-free solution.
    proven
        True if `cost` equals `bound`, or if infeasibility is proven.
    expanded, generated
        Number of constraint-tree nodes.
    seconds
        Wall time.
    """

    paths: tuple[Path, ...] | None
    cost: float
    bound: float
    proven: bool
    expanded: int
    generated: int
    seconds: float


@dataclass(frozen=True)
class _Node:
    """A node of the constraint tree; what it shares with its parent is shared in memory too."""

    constraints: tuple[tuple[Any, ...], ...]  # one tuple an agent, newest first
    paths: tuple[Any, ...]
    costs: tuple[float, ...]
    bound: float
    conflicts: int = 0


_OBJECTIVES: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": lambda costs: float(sum(costs)),
    "max": lambda costs: float(max(costs, default=0.0)),
}


class _OutOfTime(Exception):
    """The time limit passed within an expansion."""


class _Search:
    """State of one search: the open list and what the problem can do."""

    def __init__(self, problem: ConflictProblem[Any, Any, Any], objective: str, deadline: float, upper: float) -> None:
        if objective not in _OBJECTIVES:
            raise ValueError(f"objective '{objective}' is none of {', '.join(_OBJECTIVES)}")
        self.problem = problem
        self.total = _OBJECTIVES[objective]
        self.deadline = deadline
        self.upper = upper
        self.counter = problem if isinstance(problem, CountsConflicts) else None
        self.planner = problem if isinstance(problem, PlansAmong) else None
        self.keeper = problem if isinstance(problem, KeepsPaths) else None
        self.appraiser = problem if isinstance(problem, Appraises) else None
        self.open: list[tuple[float, int, int, bool, Any, _Node]] = []
        self.generated = 0
        self.serial = 0
        self.dropped = float("inf")  # least bound among the nodes that the upper bound cut off

    def plan(self, agent: int, constraints: Sequence[Any], paths: Sequence[Any]) -> Any | None:
        if time.perf_counter() > self.deadline:
            raise _OutOfTime
        if self.planner is not None:
            return self.planner.plan_among(agent, constraints, paths)
        return self.problem.plan(agent, constraints)

    def count(self, paths: Sequence[Any]) -> int:
        return self.counter.conflict_count(paths) if self.counter is not None else 0

    def push(self, node: _Node, *, appraised: bool = False, conflict: Any = None) -> None:
        if node.bound == float("inf"):
            return
        if node.bound > self.upper:
            self.dropped = min(self.dropped, node.bound)
            return
        # The newest of equal nodes goes first: it is the deepest, and so the closest to a solution.
        self.serial += 1
        heapq.heappush(self.open, (node.bound, node.conflicts, -self.serial, appraised, conflict, node))

    def root(self) -> _Node | None:
        paths: list[Any] = [None] * self.problem.agents
        for agent in range(self.problem.agents):
            paths[agent] = self.plan(agent, (), paths)
            if paths[agent] is None:
                return None
        costs = tuple(self.problem.cost(path) for path in paths)
        self.generated += 1
        return _Node(((),) * len(paths), tuple(paths), costs, self.total(costs), self.count(paths))

    def child(self, parent: _Node, added: Sequence[tuple[int, Any]]) -> _Node | None:
        """The parent with further constraints; only the agents that break one of them are planned again."""
        constraints = list(parent.constraints)
        for agent, constraint in added:
            constraints[agent] = (constraint, *constraints[agent])
        broken = dict.fromkeys(
            agent
            for agent, constraint in added
            if self.keeper is None or not self.keeper.keeps(agent, parent.paths[agent], constraint)
        )
        paths, costs = list(parent.paths), list(parent.costs)
        for agent in broken:
            path = self.plan(agent, constraints[agent], paths)
            if path is None:
                return None
            paths[agent], costs[agent] = path, self.problem.cost(path)
        self.generated += 1
        bound = max(parent.bound, self.total(costs))
        return _Node(tuple(constraints), tuple(paths), tuple(costs), bound, self.count(paths))

    def expand(self, node: _Node, conflict: Any) -> None:
        children: list[_Node] = []
        for added in self.problem.branch(conflict):
            child = self.child(node, added)
            if child is None:
                continue
            if self.counter is not None and child.costs == node.costs and child.conflicts < node.conflicts:
                # The parent keeps its constraints (and its bound) and takes over the paths.
                self.push(replace(node, paths=child.paths, conflicts=child.conflicts))
                return
            children.append(child)
        for child in children:
            self.push(child)


def conflict_search(
    problem: ConflictProblem[Any, Any, Any],
    *,
    objective: str = "sum",
    time_limit: float = float("inf"),
    node_limit: int | None = None,
    upper_bound: float = float("inf"),
    on_progress: Callable[[float, int], None] | None = None,
) -> ConflictSolution[Any]:
    """Search for a conflict-free set of paths of least cost.

    Parameters
    ----------
    problem
        See the module's docstring for what makes the search exact, and for what a problem may offer beyond
        `ConflictProblem`.
    objective
        "sum" of the agents' costs or their "max".
    time_limit
        Seconds after which the search stops with the bound that it has.
    node_limit
        Number of expanded nodes after which it stops.
    upper_bound
        Nodes that cost more than this are dropped (a known solution's cost). Where this leaves nothing, the result
        has no paths and a bound above `upper_bound`, which proves that no solution costs `upper_bound` or less.
    on_progress
        Called about once a second with (lower bound, expanded nodes).

    Returns
    -------
    ConflictSolution
        Its bound is infinity where infeasibility is proven. A search that branches for ever, as on an infeasible
        problem without a horizon, ends only by a limit.

    Raises
    ------
    ValueError
        If the objective is unknown.
    """
    began = time.perf_counter()
    search = _Search(problem, objective, began + time_limit, upper_bound)
    expanded = 0
    lower = 0.0
    reported = began

    def outcome(paths: tuple[Any, ...] | None, cost: float, bound: float, proven: bool) -> ConflictSolution[Any]:
        return ConflictSolution(paths, cost, bound, proven, expanded, search.generated, time.perf_counter() - began)

    try:
        root = search.root()
        if root is None:
            return outcome(None, float("inf"), float("inf"), True)
        lower = root.bound
        search.push(root)
        while search.open:
            now = time.perf_counter()
            lower = max(lower, search.open[0][0])
            if on_progress is not None and now - reported >= 1.0:
                reported = now
                on_progress(lower, expanded)
            if now > search.deadline or (node_limit is not None and expanded >= node_limit):
                return outcome(None, float("inf"), lower, False)
            bound, _, _, appraised, conflict, node = heapq.heappop(search.open)
            if not appraised:
                if search.appraiser is None:
                    conflict = problem.conflict(node.paths)
                else:
                    conflict, better = search.appraiser.appraise(node.paths, node.constraints, upper_bound)
                    if better > bound and conflict is not None:
                        search.push(replace(node, bound=better), appraised=True, conflict=conflict)
                        continue
            if conflict is None:
                cost = search.total(node.costs)
                return outcome(node.paths, cost, bound, cost <= bound)
            expanded += 1
            search.expand(node, conflict)
    except _OutOfTime:
        return outcome(None, float("inf"), lower, False)
    return outcome(None, float("inf"), search.dropped, search.dropped == float("inf"))
