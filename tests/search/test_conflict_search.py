"""Conflict-based search on the assignment problem: every agent picks an item, no two agents the same one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.search.conflict_search import (
    Appraises,
    ConflictSolution,
    CountsConflicts,
    KeepsPaths,
    PlansAmong,
    conflict_search,
)

INFINITY = float("inf")


class Picking:
    """Agents pick items at the costs ``prices[agent][item]``; a constraint is an item that an agent must not pick."""

    def __init__(self, prices: Sequence[Sequence[int]]) -> None:
        self.prices = prices
        self.planned: list[int] = []

    @property
    def agents(self) -> int:
        return len(self.prices)

    def plan(self, agent: int, constraints: Sequence[Any]) -> tuple[int, int] | None:
        self.planned.append(agent)
        allowed = [item for item in range(len(self.prices[agent])) if item not in constraints]
        return min(((self.prices[agent][item], item) for item in allowed), default=None)

    def cost(self, path: tuple[int, int]) -> float:
        return path[0]

    def conflict(self, paths: Sequence[tuple[int, int]]) -> tuple[int, int, int] | None:
        for a, b in itertools.combinations(range(len(paths)), 2):
            if paths[a][1] == paths[b][1]:
                return a, b, paths[a][1]
        return None

    def branch(self, conflict: tuple[int, int, int]) -> Sequence[Sequence[tuple[int, Any]]]:
        a, b, item = conflict
        return [[(a, item)], [(b, item)]]


class Counting(Picking):
    def conflict_count(self, paths: Sequence[tuple[int, int]]) -> int:
        return sum(a[1] == b[1] for a, b in itertools.combinations(paths, 2))


class Bounding(Counting):
    """Knows for each pair of agents what it costs them to pick differently; good for the sum only."""

    def appraise(
        self, paths: Sequence[Any], constraints: Sequence[Sequence[Any]], cutoff: float
    ) -> tuple[tuple[int, int, int] | None, float]:
        conflict = self.conflict(paths)
        if conflict is None:
            return None, 0.0
        a, b, _ = conflict
        options = [
            [(price, item) for item, price in enumerate(self.prices[x]) if item not in constraints[x]] for x in (a, b)
        ]
        pairs = [one[0] + other[0] for one, other in itertools.product(*options) if one[1] != other[1]]
        rest = sum(path[0] for x, path in enumerate(paths) if x not in (a, b))
        return conflict, rest + min(pairs, default=INFINITY)


class Choosing(Picking):
    """Disjoint splitting: one agent must pick the item, and all others must not, or that agent must not."""

    def plan(self, agent: int, constraints: Sequence[Any]) -> tuple[int, int] | None:
        self.planned.append(agent)
        allowed = [
            (price, item)
            for item, price in enumerate(self.prices[agent])
            if all(self.keeps(agent, (price, item), constraint) for constraint in constraints)
        ]
        return min(allowed, default=None)

    def keeps(self, agent: int, path: tuple[int, int], constraint: tuple[str, int]) -> bool:
        word, item = constraint
        return (path[1] == item) == (word == "must")

    def branch(self, conflict: tuple[int, int, int]) -> Sequence[Sequence[tuple[int, Any]]]:
        a, _, item = conflict
        others = [(x, ("not", item)) for x in range(self.agents) if x != a]
        return [[(a, ("must", item)), *others], [(a, ("not", item))]]


class Considerate(Counting):
    """Breaks ties in one agent's choice by what the others have picked."""

    def plan_among(self, agent: int, constraints: Sequence[Any], paths: Sequence[Any]) -> tuple[int, int] | None:
        taken = {path[1] for other, path in enumerate(paths) if path is not None and other != agent}
        allowed = [
            (price, item in taken, item) for item, price in enumerate(self.prices[agent]) if item not in constraints
        ]
        found = min(allowed, default=None)
        return None if found is None else (found[0], found[2])


def best_assignment(prices: Sequence[Sequence[int]], total: Any) -> float:
    """Least total by trying every assignment."""
    agents, items = len(prices), len(prices[0])
    return min(
        (total(prices[a][i] for a, i in enumerate(choice)) for choice in itertools.permutations(range(items), agents)),
        default=INFINITY,
    )


prices_of_a_few = st.integers(1, 4).flatmap(
    lambda items: st.lists(st.lists(st.integers(0, 6), min_size=items, max_size=items), min_size=1, max_size=4)
)


@settings(max_examples=150, deadline=None)
@given(prices_of_a_few, st.sampled_from([Picking, Counting, Choosing, Considerate]), st.sampled_from(["sum", "max"]))
def test_the_first_solution_is_optimal_for_the_sum_and_for_the_largest_cost(
    prices: list[list[int]], problem: type[Picking], objective: str
) -> None:
    found = conflict_search(problem(prices), objective=objective)
    assert found.cost == found.bound == best_assignment(prices, {"sum": sum, "max": max}[objective])
    assert found.proven
    assert (found.paths is None) == (len(prices) > len(prices[0]))
    if found.paths is not None:
        assert len({item for _, item in found.paths}) == len(prices)


@settings(max_examples=100, deadline=None)
@given(prices_of_a_few)
def test_an_admissible_bound_keeps_the_optimum(prices: list[list[int]]) -> None:
    found = conflict_search(Bounding(prices))
    assert found.cost == found.bound == best_assignment(prices, sum) and found.proven


def test_a_bound_above_the_known_cost_saves_the_branching() -> None:
    prices = [[0, 3], [0, 5]]
    assert conflict_search(Counting(prices), upper_bound=2).expanded == 1
    assert conflict_search(Bounding(prices), upper_bound=2).expanded == 0


def test_what_a_problem_offers_is_found_on_it() -> None:
    assert isinstance(Counting([[1]]), CountsConflicts) and not isinstance(Picking([[1]]), CountsConflicts)
    assert isinstance(Bounding([[1]]), Appraises)
    assert isinstance(Choosing([[1]]), KeepsPaths)
    assert isinstance(Considerate([[1]]), PlansAmong)


def test_only_the_constrained_agent_is_planned_again() -> None:
    problem = Picking([[0, 5], [0, 1], [9, 9, 0]])
    found = conflict_search(problem)
    assert found.cost == 1
    # Once each for the root, then one agent for each of the two children.
    assert problem.planned == [0, 1, 2, 0, 1]
    assert (found.expanded, found.generated) == (1, 3)


def test_a_path_that_keeps_its_new_constraint_is_not_planned_again() -> None:
    problem = Choosing([[0, 5], [0, 1], [9, 9, 0]])
    assert conflict_search(problem).cost == 1
    # "Agent 0 must pick item 0, all others must not" concerns agent 1 alone; the other side concerns agent 0.
    assert problem.planned == [0, 1, 2, 1, 0]


def test_equal_costs_with_fewer_conflicts_bypass_a_branching() -> None:
    # Agent 1 has a second item at the same price, so its constraint need not be kept at all.
    prices = [[0, 9, 9], [0, 0, 9]]
    assert conflict_search(Picking(prices)).generated == 3
    found = conflict_search(Counting([prices[1], prices[0]]))
    assert (found.cost, found.expanded, found.generated) == (0, 1, 2)


def test_a_known_cost_drops_what_is_dearer_and_no_more() -> None:
    prices = [[0, 3], [0, 5]]
    assert conflict_search(Picking(prices), upper_bound=3).cost == 3
    none = conflict_search(Picking(prices), upper_bound=2)
    assert none.paths is None and not none.proven
    assert 2 < none.bound <= 3


@pytest.mark.parametrize(("limits", "expanded"), [({"node_limit": 2}, 2), ({"time_limit": 0.0}, 0)])
def test_a_limit_leaves_a_valid_bound(limits: dict[str, Any], expanded: int) -> None:
    prices = [[0, 7, 9, 11], [0, 5, 8, 9], [0, 6, 7, 12], [0, 9, 9, 9]]
    found = conflict_search(Picking(prices), **limits)
    assert found.paths is None and not found.proven and found.expanded == expanded
    assert found.bound <= best_assignment(prices, sum)


def test_more_agents_than_items_are_proven_infeasible() -> None:
    found = conflict_search(Picking([[1, 2], [1, 2], [1, 2]]))
    assert found.proven and found.paths is None and found.bound == INFINITY


def test_no_agents_cost_nothing() -> None:
    assert conflict_search(Picking([])) == ConflictSolution((), 0.0, 0.0, True, 0, 1, pytest.approx(0, abs=60))


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="sum, max"):
        conflict_search(Picking([[1]]), objective="mean")


def test_progress_reports_bounds_that_only_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(0.0, 0.7)
    monkeypatch.setattr("pathloom.search.conflict_search.time.perf_counter", lambda: next(ticks))
    seen: list[tuple[float, int]] = []
    prices = [[0, 7, 9, 11], [0, 5, 8, 9], [0, 6, 7, 12], [0, 9, 9, 9]]
    found = conflict_search(Picking(prices), on_progress=lambda bound, nodes: seen.append((bound, nodes)))
    assert len(seen) > 2 and seen == sorted(seen)
    assert seen[-1][0] <= found.cost == best_assignment(prices, sum)
