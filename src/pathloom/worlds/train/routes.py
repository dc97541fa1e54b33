"""Orders in which a microbatch may visit stages (CC-a to CC-d), and what a route costs without waiting.

How a route may go on depends only on a little of where it has been: its frontier, which stages shortly behind that it
has visited, and what is left of its swap budget. So the admissible orders are the paths of a small automaton, which
lists, counts and samples them, and over which shortest routes are found (`greedy`).

Source of the constraints: N. Blagoev, L. Y. Chen, O. Ersoy, "SkipPipe: Partial and Reordered Pipelining Framework for
Training LLMs in Heterogeneous Networks", 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train.problem import Floats, Ints, Reordering, TrainProblem

MOST_ORDERS = 1_000_000
MOST_STATES = 50_000


class _State(NamedTuple):
    """A route so far: `behind` has bit d - 1 set if the stage d behind the frontier was visited."""

    visits: int
    stage: int
    frontier: int
    behind: int
    swaps: int
    total: int


@dataclass(frozen=True)
class StageOrders:
    """All orders of `route_length` of `n_stages` stages that keep CC-a to CC-d, as the paths of an automaton.

    Build it with `admissible_orders`.

    Attributes
    ----------
    n_stages, route_length
        S and K.
    stage
        Shape (Q,): stage in which a route is in state q. State 0 is the start; states are sorted by number of visits,
        and every state can be completed to a whole order.
    before
        Shape (T,): states before the steps into state q are ``before[into[q]:into[q + 1]]``.
    into
        Shape (Q + 1,).
    final
        First of the states with `route_length` visits; they are the last ones. Equal to Q if there is no order.
    """

    n_stages: int
    route_length: int
    stage: Ints
    before: Ints
    into: Ints
    final: int

    @cached_property
    def _onward(self) -> list[list[int]]:
        """States after each state, by stage."""
        onward: list[list[int]] = [[] for _ in self.stage]
        for q in range(len(self.stage)):
            for r in self.before[self.into[q] : self.into[q + 1]]:
                onward[r].append(q)
        for row in onward:
            row.sort(key=lambda q: int(self.stage[q]))
        return onward

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """The orders one by one, in lexicographic order."""
        if not len(self.stage):
            return
        stack: list[tuple[int, tuple[int, ...]]] = [(0, (0,))]
        while stack:
            q, order = stack.pop()
            if len(order) == self.route_length:
                yield order
            else:
                stack.extend((r, (*order, int(self.stage[r]))) for r in reversed(self._onward[q]))

    def completions(self, allowed: NDArray[np.bool_] | None = None) -> Floats:
        """In how many ways each state can be completed, shape (Q,), visiting only stages of the mask, shape (S,)."""
        ways = np.zeros(len(self.stage))
        ways[self.final :] = 1.0
        usable = np.ones(self.n_stages, dtype=bool) if allowed is None else allowed
        for q in range(len(self.stage) - 1, 0, -1):
            if usable[self.stage[q]]:
                ways[self.before[self.into[q] : self.into[q + 1]]] += ways[q]
        return ways

    @property
    def count(self) -> int:
        """Number of orders (exact up to 2^53)."""
        return int(self.completions()[0]) if len(self.stage) else 0

    def sample(
        self, rng: np.random.Generator, ways: Floats, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[int, ...] | None:
        """One order drawn uniformly from those that visit only `allowed` stages, None if there is none.

        `ways` is `completions` of the same mask, which the caller may keep.
        """
        if not len(ways) or ways[0] == 0:
            return None
        q, order = 0, [0]
        while len(order) < self.route_length:
            after = [r for r in self._onward[q] if ways[r] > 0 and (allowed is None or allowed[self.stage[r]])]
            weight = np.cumsum(ways[after])
            q = after[int(np.searchsorted(weight, rng.random() * weight[-1], side="right"))]
            order.append(int(self.stage[q]))
        return tuple(order)


def admissible_orders(n_stages: int, route_length: int, reordering: Reordering) -> StageOrders:
    """The automaton of all orders in which a microbatch may visit `route_length` of `n_stages` stages.

    Raises
    ------
    ValueError
        If there cannot be a route of that length, or if the reordering budget is so wide that the automaton would
        have more than 50,000 states.
    """
    if not 1 <= route_length <= n_stages:
        raise ValueError(f"a route visits between 1 and {n_stages} stages, not {route_length}")
    layers: list[dict[_State, list[_State]]] = [{_State(1, 0, 0, 0, 0, 0): []}]
    size = 1
    for _ in range(route_length - 1):
        layer: dict[_State, list[_State]] = {}
        for state in layers[-1]:
            for after in _steps(state, n_stages, reordering):
                layer.setdefault(after, []).append(state)
            if size + len(layer) > MOST_STATES:
                raise ValueError(f"the budget {reordering} is too wide to work with for {n_stages} stages")
        layers.append(layer)
        size += len(layer)
    alive = [set(layers[-1])]
    for layer in reversed(layers[1:]):
        alive.append({before for state in alive[-1] for before in layer[state]})
    alive.reverse()
    states = [state for layer, kept in zip(layers, alive, strict=True) for state in layer if state in kept]
    number = {state: q for q, state in enumerate(states)}
    before = [
        [number[b] for b in layer[state]]
        for layer, kept in zip(layers, alive, strict=True)
        for state in layer
        if state in kept
    ]
    return StageOrders(
        n_stages,
        route_length,
        np.array([state.stage for state in states], dtype=np.int64),
        np.array([q for row in before for q in row], dtype=np.int64),
        np.concatenate([[0], np.cumsum([len(row) for row in before], dtype=np.int64)]).astype(np.int64),
        len(states) - len(alive[-1]),
    )


def _steps(state: _State, n_stages: int, budget: Reordering) -> Iterator[_State]:
    """States after one more visit."""
    visits, _, frontier, behind, swaps, total = state
    for distance in range(1, min(budget.distance, frontier - 1) + 1):
        bit = 1 << (distance - 1)
        if not behind & bit and swaps < budget.swaps and total + distance <= budget.total:
            yield _trimmed(
                _State(visits + 1, frontier - distance, frontier, behind | bit, swaps + 1, total + distance), budget
            )
    for stage in range(frontier + 1, min(frontier + budget.jump, n_stages - 1) + 1):
        step = stage - frontier
        yield _trimmed(_State(visits + 1, stage, stage, (behind << step) | 1 << (step - 1), swaps, total), budget)


def _trimmed(state: _State, budget: Reordering) -> _State:
    """The state without what no longer matters: visits that are too far behind for the swaps that are left."""
    reach = min(budget.distance, budget.total - state.total) if state.swaps < budget.swaps else 0
    return state._replace(behind=state.behind & ((1 << max(reach, 0)) - 1))


def stage_orders(
    n_stages: int,
    route_length: int,
    reordering: Reordering,
    *,
    in_order: bool = False,
    limit: int | None = None,
) -> Ints:
    """All orders in which a microbatch may visit `route_length` of `n_stages` stages, in lexicographic order.

    Under SkipPipe's budget six stages of which four are visited have 22 orders, sixteen of which eleven are visited
    have 51,700. Where they are too many to list, iterate over `admissible_orders`, or sample from it.

    Parameters
    ----------
    in_order
        Only orders without swaps. For every set of stages that has an admissible order, the increasing one is among
        them: swapping two neighbours into their order makes no jump longer.
    limit
        List only the first `limit` orders.

    Returns
    -------
    Shape (R, route_length), stages; ``[:, 0]`` is 0.

    Raises
    ------
    ValueError
        As `admissible_orders`; or if there is no limit and there are more than a million orders.
    """
    budget = Reordering(0, 0, 0, reordering.jump) if in_order else reordering
    orders = admissible_orders(n_stages, route_length, budget)
    if limit is None and orders.count > MOST_ORDERS:
        raise ValueError(f"there are {orders.count} orders; give a limit, or iterate over admissible_orders")
    return np.array(list(islice(orders, limit)), dtype=np.int64).reshape(-1, route_length)


def route_cost(problem: TrainProblem, routes: Ints, stages: Ints) -> Floats:
    """Seconds from injection to last return of microbatches that never wait, shape (B,); a node's rests not counted.

    Parameters
    ----------
    routes, stages
        Shape (B, K): nodes and stages of the visits. Infinite where a link is missing.
    """
    routes, stages = np.asarray(routes), np.asarray(stages)
    work = (problem.forward[routes, stages] + problem.backward[routes, stages]).sum(axis=1)
    after = np.roll(routes, -1, axis=1)  # the last visit is followed by the loss at the source
    apart = routes != after
    links = np.where(apart, problem.link[routes, after], 0.0) + np.where(apart, problem.link[after, routes], 0.0)
    return np.asarray(work + problem.loss[routes[:, 0]] + links.sum(axis=1), dtype=np.float64)
