"""Pairs of agents: conflicts and Pareto fronts of delays against enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.worlds.motion import _pair_kernels
from pathloom.worlds.motion._kernels import AT_LEAST, AT_MOST, BAN_CELL, NEVER
from pathloom.worlds.motion.conflict_based import Constraint, GridConflicts
from pathloom.worlds.motion.problem import GridProblem

from .conftest import drawn, small_grids
from .test_kernels import allowed_paths


def collide(one: tuple[int, ...], other: tuple[int, ...]) -> list[tuple[int, int]]:
    """Times at which two paths collide, each with 1 for a swap of cells and 0 for one cell."""
    end = max(len(one), len(other))
    a, b = ((*path, *([path[-1]] * (end - len(path)))) for path in (one, other))
    found = []
    for t in range(1, end):
        if a[t] == b[t]:
            found.append((t, 0))
        elif a[t] == b[t - 1] and b[t] == a[t - 1]:
            found.append((t, 1))
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=5))
def test_conflicts_are_those_of_every_pair_and_time(paths: list[list[int]]) -> None:
    table = np.array(paths, dtype=np.int32)
    truth = [
        (a, b, *hit)
        for a, b in itertools.combinations(range(len(paths)), 2)
        for hit in collide(tuple(paths[a]), tuple(paths[b]))
    ]
    assert [tuple(row) for row in _pair_kernels.find_conflicts(table, 1 << 20).tolist()] == truth
    pairs = {row[:2] for row in truth}
    assert [tuple(row[:2]) for row in _pair_kernels.find_conflicts(table, 1).tolist()] == sorted(pairs)
    assert _pair_kernels.count_conflicting_pairs(table) == len(pairs)


@st.composite
def constrained_pairs(draw: st.DrawFn) -> tuple[GridProblem, list[list[Constraint]]]:
    problem = draw(small_grids(agents=2, rows=3, columns=3).filter(lambda p: p.agents == 2))
    cell, time = st.integers(0, int(problem.free.sum()) - 1), st.integers(0, 4)
    row = st.one_of(
        st.tuples(st.just(BAN_CELL), cell, time, st.just(NEVER)),
        st.tuples(st.just(BAN_CELL), cell, time, time).map(lambda r: (r[0], r[1], min(r[2:]), max(r[2:]))),
        st.tuples(st.just(AT_LEAST), time, st.just(0), st.just(0)),
        st.tuples(st.just(AT_MOST), st.integers(3, 9), st.just(0), st.just(0)),
    )
    return problem, [draw(st.lists(row, max_size=2)) for _ in range(2)]


@settings(max_examples=200, deadline=None)
@given(constrained_pairs(), st.integers(0, 3))
def test_the_front_of_delays_is_that_of_all_pairs_of_paths(
    case: tuple[GridProblem, list[list[Constraint]]], slack: int
) -> None:
    problem, constraints = case
    longest = 6
    paths = [
        allowed_paths(GridProblem(problem.free, problem.starts[[a]], problem.goals[[a]]), constraints[a], longest)
        for a in range(2)
    ]
    if not all(paths) or any(min(p) + slack > longest for p in paths):
        return
    shortest = [min(p) for p in paths]
    truth = np.full(slack + 1, NEVER)
    for late_a, late_b in itertools.product(range(slack + 1), repeat=2):
        pairs = itertools.product(*(p.get(c + d, ()) for p, c, d in zip(paths, shortest, (late_a, late_b))))
        if late_a + late_b <= slack and any(not collide(*pair) for pair in pairs):
            truth[late_a:] = np.minimum(truth[late_a:], late_b)
    conflicts = GridConflicts(problem)
    sides = []
    for agent in range(2):
        found = conflicts.diagram((agent, frozenset(constraints[agent])), slack)
        assert found is not None and found.cost == shortest[agent]
        goal = int(conflicts.grid.goals[agent])
        sides += [found.cost, found.layer, found.cells, found.finish, found.successor, found.first_finish, goal]
    assert _pair_kernels.trade_off(*sides, slack, 1 << 30).tolist() == truth.tolist()
    assert len(_pair_kernels.trade_off(*sides, slack, 0)) in (0, slack + 1)


@pytest.mark.parametrize(
    ("picture", "front"),
    [
        # Crossing on parallel rows disturbs nobody.
        ("a..A\n....\nb..B", [0]),
        # Across one crossroads at the same time: one of them waits a step.
        ("@a@\nbcB\n@A@".replace("c", "."), [1, 0]),
        # One bay above the corridor, beside agent b's way: b steps aside, whatever a does.
        ("@@.@@\naB.bA", [2, 2, 2]),
        # No bay: within the slack of 8 there is no way, at any delay.
        ("aB.bA", [NEVER] * 9),
    ],
)
def test_fronts_of_known_situations(picture: str, front: list[int]) -> None:
    conflicts = GridConflicts(drawn(picture), slack=8)
    assert conflicts.front((0, frozenset()), (1, frozenset())).tolist() == front
