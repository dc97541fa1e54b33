"""Routes of one microbatch in time: every admissible route from a source, and the cheapest one under constraints.

This is the low level of both conflict searches of this world, the faithful one (`skippipe`) and the exact one
(`conflict_free`). A microbatch may wait before any task, for free, and a task that waits less is never worse off: the
earliest start of each task in turn gives the earliest return of a route. So the cheapest route under constraints is
found by a walk through the routes in the order of their cost without waiting, which ends as soon as the next route
costs more even if it never waits. Best-first search over partial routes, as SkipPipe does it, finds the same cost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, nextafter

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import NoPlanFound
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, TrainProblem
from pathloom.worlds.train.routes import admissible_orders, route_cost, stage_orders

Use = tuple[int, int]
"""A use of a node by one microbatch: (node, kind), with kind FORWARD, LOSS or BACKWARD; each happens once at most."""

Windows = Mapping[Use, tuple[tuple[float, float], ...]]
"""For each use the disjoint half-open windows, in order, in which it may not start."""

MOST_ROUTES = 2_000_000


@dataclass(frozen=True, slots=True)
class TimedRoute:
    """One route with the times of its tasks.

    Attributes
    ----------
    nodes, stages
        K visits each.
    start
        Seconds, 2K + 1 entries: start of the forwards in the order of the visits, of the loss, and of the backwards in
        the reverse order.
    leave
        Seconds, 2K + 1 entries: when the node is free again after each task.
    end
        Seconds: end of the last backward pass.
    """

    nodes: tuple[int, ...]
    stages: tuple[int, ...]
    start: tuple[float, ...]
    leave: tuple[float, ...]
    end: float

    @property
    def uses(self) -> tuple[Use, ...]:
        """Node and kind of each task."""
        return uses(self.nodes)


def uses(nodes: tuple[int, ...]) -> tuple[Use, ...]:
    """Node and kind of the 2K + 1 tasks of a route."""
    return (
        *((node, FORWARD) for node in nodes),
        (nodes[0], LOSS),
        *((node, BACKWARD) for node in reversed(nodes)),
    )


def merged(windows: Iterable[tuple[Use, float, float]]) -> dict[Use, tuple[tuple[float, float], ...]]:
    """Windows in which a use may not start, as disjoint windows in order.

    Examples
    --------
    >>> merged([((3, 0), 4.0, 6.0), ((3, 0), 1.0, 2.0), ((3, 0), 5.0, 7.0)])
    {(3, 0): ((1.0, 2.0), (4.0, 7.0))}
    """
    found: dict[Use, list[tuple[float, float]]] = {}
    for use, low, high in sorted(windows):
        of_use = found.setdefault(use, [])
        if of_use and low <= of_use[-1][1]:
            of_use[-1] = (of_use[-1][0], max(of_use[-1][1], high))
        else:
            of_use.append((low, high))
    return {use: tuple(of_use) for use, of_use in found.items()}


def overlap_window(low: float, high: float, duration: float) -> tuple[float, float]:
    """Starts at which a task of `duration` would overlap the interval from `low` to `high` (touching is allowed)."""
    return nextafter(low - duration, inf), high


@dataclass(frozen=True)
class _Task:
    """A task of a route: its use, its duration, how long it holds the node, and the message to the next task."""

    use: Use
    duration: float
    hold: float
    hop: float
    after: int  # the earlier task of the same microbatch that must have left this node, -1 for none
    tail: float  # from the start of the task to the end of the route, without waiting


class RoutesFrom:
    """All admissible routes that start at one node, cheapest first.

    Attributes
    ----------
    nodes, stages
        Shape (R, K).
    cost
        Seconds, shape (R,), ascending but for rounding: from injection to last return, without waiting.
    """

    def __init__(self, problem: TrainProblem, placement: NDArray[np.int64], source: int, rests: bool) -> None:
        self.problem = problem
        self.source = source
        self.rests = rests
        self.nodes, self.stages = _enumerate(problem, placement, source)
        cost = route_cost(problem, self.nodes, self.stages)
        # Routes that differ by rounding alone stay in the order of their nodes, whatever the order of summation.
        order = np.lexsort((np.arange(len(cost)), np.round(cost, 9)))
        order = order[np.isfinite(cost[order])]
        self.nodes, self.stages, self.cost = self.nodes[order], self.stages[order], cost[order]
        self._least = np.minimum.accumulate(self.cost[::-1])[::-1]  # least cost from a position on
        self._tasks: dict[int, tuple[_Task, ...]] = {}

    @cached_property
    def all(self) -> NDArray[np.int64]:
        """Positions of all routes."""
        return np.arange(len(self.cost))

    def within(self, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Positions of the routes that visit only nodes of the mask `allowed`, shape (N,)."""
        return np.flatnonzero(allowed[self.nodes[:, 1:]].all(axis=1))

    def holds(self, node: int, stage: int) -> list[tuple[Use, float]]:
        """What a microbatch from this source may do at a node, and how long each holds the node."""
        problem = self.problem
        rest = problem.gap if self.rests else 0.0
        first = problem.injection_gap if self.rests and node == self.source else rest
        found = [
            ((node, FORWARD), float(problem.forward[node, stage]) + first),
            ((node, BACKWARD), float(problem.backward[node, stage]) + rest),
        ]
        if node == self.source:
            found.append(((node, LOSS), float(problem.loss[node]) + rest))
        return found

    def tasks(self, route: int) -> tuple[_Task, ...]:
        """The tasks of a route, laid out once."""
        found = self._tasks.get(route)
        if found is None:
            found = self._tasks[route] = self._lay_out(route)
        return found

    def _lay_out(self, route: int) -> tuple[_Task, ...]:
        problem = self.problem
        nodes = tuple(int(n) for n in self.nodes[route])
        stages = tuple(int(p) for p in self.stages[route])
        k = len(nodes)
        chain = uses(nodes)
        duration = [float(problem.forward[n, p]) for n, p in zip(nodes, stages, strict=True)]
        duration.append(float(problem.loss[nodes[0]]))
        duration.extend(float(problem.backward[n, p]) for n, p in zip(reversed(nodes), reversed(stages), strict=True))
        hops = [float(problem.link[a, b]) if a != b else 0.0 for (a, _), (b, _) in pairwise(chain)]
        hops.append(0.0)
        tail = 0.0
        found: list[_Task] = []
        for t in range(2 * k, -1, -1):
            tail += duration[t] + hops[t]
            rest = 0.0
            if self.rests:
                rest = problem.injection_gap if t == 0 else problem.gap
            before = -1 if t < k else 0 if t == k else k if t == 2 * k else 2 * k - t
            found.append(_Task(chain[t], duration[t], duration[t] + rest, hops[t], before, tail))
        return tuple(reversed(found))

    def timed(self, route: int, begin: float, windows: Windows, give_up: float = inf) -> TimedRoute | None:
        """The earliest timetable of a route that keeps out of the windows; None if it cannot end before `give_up`."""
        time = begin
        start: list[float] = []
        leave: list[float] = []
        for task in self.tasks(route):
            if task.after >= 0:
                time = max(time, leave[task.after])
            closed = windows.get(task.use)
            if closed is not None:
                at = bisect_right(closed, (time, inf)) - 1
                if at >= 0:
                    time = max(time, closed[at][1])
            if time + task.tail >= give_up:
                return None
            start.append(time)
            leave.append(time + task.hold)
            time += task.duration
            end = time
            time += task.hop
        return TimedRoute(
            tuple(int(n) for n in self.nodes[route]),
            tuple(int(p) for p in self.stages[route]),
            tuple(start),
            tuple(leave),
            end,
        )

    def cheapest(
        self, begin: float, windows: Windows, candidates: NDArray[np.int64] | None = None
    ) -> TimedRoute | None:
        """The route of earliest return among the candidates (positions in ascending order); None if there is none.

        Of routes that return at the same time the one that costs least without waiting is taken, then the first.
        """
        best: TimedRoute | None = None
        best_end = inf
        for route in self.all if candidates is None else candidates:
            if begin + self._least[route] >= best_end:
                break
            found = self.timed(int(route), begin, windows, best_end)
            if found is not None:
                best, best_end = found, found.end
        return best


def _too_many(problem: TrainProblem, source: int) -> NoPlanFound:
    return NoPlanFound(
        f"conflict search lists all routes, and there are more than {MOST_ROUTES} from node {problem.nodes[source]}: "
        "use fewer nodes a stage, or another method"
    )


def _enumerate(
    problem: TrainProblem, placement: NDArray[np.int64], source: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All routes from a source: nodes and stages, shape (R, K) each."""
    members = [np.flatnonzero(placement == p) for p in range(problem.n_stages)]
    members[0] = np.array([source])
    if admissible_orders(problem.n_stages, problem.route_length, problem.reordering).count > MOST_ROUTES:
        raise _too_many(problem, source)
    orders = stage_orders(problem.n_stages, problem.route_length, problem.reordering)
    size = np.array([len(of_stage) for of_stage in members], dtype=np.float64)
    if size[orders].prod(axis=1).sum() > MOST_ROUTES:
        raise _too_many(problem, source)
    nodes: list[NDArray[np.int64]] = [np.zeros((0, problem.route_length), dtype=np.int64)]
    stages: list[NDArray[np.int64]] = [np.zeros((0, problem.route_length), dtype=np.int64)]
    for order in orders:
        grid = np.meshgrid(*(members[p] for p in order), indexing="ij")
        of_order = np.stack([axis.ravel() for axis in grid], axis=1)
        nodes.append(of_order)
        stages.append(np.broadcast_to(np.asarray(order, dtype=np.int64), of_order.shape))
    return np.concatenate(nodes), np.concatenate(stages)
