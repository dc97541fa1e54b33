"""Compiled kernels against slow twins that enumerate paths."""

from __future__ import annotations

import itertools

import networkx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.worlds.motion import _kernels
from pathloom.worlds.motion._kernels import AT_LEAST, AT_MOST, BAN_CELL, BAN_MOVE, NEVER
from pathloom.worlds.motion.problem import GridProblem, number_cells

from .conftest import drawn, small_grids

Rows = list[tuple[int, int, int, int]]


@st.composite
def constrained(draw: st.DrawFn) -> tuple[GridProblem, Rows]:
    """One agent on a small grid and some constraints on it."""
    problem = draw(small_grids(agents=1, rows=3, columns=3))
    cell = st.integers(0, int(problem.free.sum()) - 1)
    time = st.integers(0, 5)
    row = st.one_of(
        st.tuples(st.just(BAN_CELL), cell, time, time).map(lambda r: (r[0], r[1], min(r[2:]), max(r[2:]))),
        st.tuples(st.just(BAN_CELL), cell, time, st.just(NEVER)),
        st.tuples(st.just(BAN_MOVE), cell, st.integers(1, 4), st.integers(1, 5)),
        st.tuples(st.just(AT_LEAST), time, st.just(0), st.just(0)),
        st.tuples(st.just(AT_MOST), st.integers(2, 9), st.just(0), st.just(0)),
    )
    return problem, draw(st.lists(row, max_size=5))


def allowed_paths(problem: GridProblem, rows: Rows, longest: int) -> dict[int, set[tuple[int, ...]]]:
    """Every path of at most `longest` steps that keeps the constraints, by its time of finishing."""
    grid = number_cells(problem)
    start, goal = int(grid.starts[0]), int(grid.goals[0])

    def keeps(path: tuple[int, ...]) -> bool:
        finish = len(path) - 1
        for kind, what, first, last in rows:
            if kind == AT_LEAST and finish < what:
                return False
            if kind == AT_MOST and finish > what:
                return False
            if kind == BAN_CELL:
                if any(cell == what and first <= time <= last for time, cell in enumerate(path)):
                    return False
                if goal == what and last >= finish:
                    return False
            if kind == BAN_MOVE and last <= finish and path[last] == what:
                back = {1: 3, 2: 4, 3: 1, 4: 2}[first]
                if path[last - 1] == grid.neighbours[what, back]:
                    return False
        return True

    found: dict[int, set[tuple[int, ...]]] = {}
    stack = [(start,)]
    while stack:
        path = stack.pop()
        if path[-1] == goal and (len(path) == 1 or path[-2] != goal) and keeps(path):
            found.setdefault(len(path) - 1, set()).add(path)
        if len(path) <= longest:
            stack.extend((*path, int(cell)) for cell in grid.neighbours[path[-1]] if cell >= 0)
    return found


def diagram(problem: GridProblem, rows: Rows, slack: int) -> tuple:
    grid = number_cells(problem)
    table = _kernels.tabulate(np.array(rows, dtype=np.int64).reshape(-1, 4), len(grid.cells))
    start, goal = int(grid.starts[0]), int(grid.goals[0])
    distance = _kernels.distances(grid.neighbours, goal)
    return _kernels.decision_diagram(grid.neighbours, distance, start, goal, *table, slack)


def paths_of(problem: GridProblem, found: tuple) -> dict[int, set[tuple[int, ...]]]:
    """All paths that a diagram stands for, by their time of finishing."""
    _cost, first_finish, layer, cells, _finish, successor = found
    goal = int(number_cells(problem).goals[0])
    paths: dict[int, set[tuple[int, ...]]] = {}
    stack = [((int(cells[0]),), 0)]
    if cells[0] == goal and first_finish == 0:
        paths[0] = {(goal,)}
    while stack:
        path, node = stack.pop()
        assert layer[len(path) - 1] <= node < layer[len(path)]
        for move, to in enumerate(successor[node]):
            if to >= 0:
                longer = (*path, int(cells[to]))
                if cells[to] == goal and move != 0 and len(path) >= first_finish:
                    paths.setdefault(len(path), set()).add(longer)
                stack.append((longer, int(to)))
    return paths


@settings(max_examples=150, deadline=None)
@given(small_grids(agents=1))
def test_distances_are_those_of_the_graph_of_free_cells(problem: GridProblem) -> None:
    grid = number_cells(problem)
    graph = networkx.grid_2d_graph(*problem.free.shape)
    graph.remove_nodes_from([tuple(cell) for cell in np.argwhere(~problem.free).tolist()])
    truth = networkx.single_source_shortest_path_length(graph, tuple(problem.goals[0].tolist()))
    found = _kernels.distances(grid.neighbours, int(grid.goals[0]))
    assert {tuple(c): d for c, d in zip(grid.cells.tolist(), found.tolist()) if d < NEVER} == truth


@settings(max_examples=250, deadline=None)
@given(constrained(), st.integers(0, 2))
def test_a_diagram_holds_exactly_the_cheapest_paths(case: tuple[GridProblem, Rows], slack: int) -> None:
    problem, rows = case
    found = diagram(problem, rows, slack)
    cost = found[0]
    truth = allowed_paths(problem, rows, longest=7)
    if cost < 0 or cost > 7:
        assert not truth
        return
    assert cost == min(truth)
    if cost + slack <= 7:
        assert paths_of(problem, found) == {t: truth[t] for t in range(cost, cost + slack + 1) if t in truth}


@settings(max_examples=100, deadline=None)
@given(constrained(), st.data())
def test_among_the_cheapest_paths_the_one_that_meets_fewest_others(
    case: tuple[GridProblem, Rows], data: st.DataObject
) -> None:
    problem, rows = case
    cost, _, layer, cells, _, successor = diagram(problem, rows, 0)
    if not 0 <= cost <= 7:
        return
    n = int(problem.free.sum())
    others = np.array(
        data.draw(st.lists(st.lists(st.integers(0, n - 1), min_size=4, max_size=4), min_size=1, max_size=3)),
        dtype=np.int32,
    )

    def met(path: tuple[int, ...]) -> int:
        def at(other: np.ndarray, time: int) -> int:
            return int(other[min(time, len(other) - 1)])

        return sum(
            at(other, t + 1) == path[t + 1] or (at(other, t + 1) == path[t] and at(other, t) == path[t + 1])
            for t in range(len(path) - 1)
            for other in others
        )

    truth = allowed_paths(problem, rows, longest=cost)[cost]
    found = tuple(_kernels.path_among(cost, layer, cells, successor, others).tolist())
    assert found in truth
    assert met(found) == min(map(met, truth))


def test_an_agent_waits_for_its_goal_to_be_free_for_good() -> None:
    problem = drawn("a.A")
    goal = int(number_cells(problem).goals[0])
    assert diagram(problem, [(BAN_CELL, goal, 6, 6)], 0)[0] == 7
    assert diagram(problem, [(BAN_CELL, goal, 6, NEVER)], 0)[0] == -1


def test_finishing_late_means_arriving_late() -> None:
    # Standing at the goal from step 1 on is finishing at 1, so a later finish has to leave, or to come later.
    problem = drawn("aA")
    found = diagram(problem, [(AT_LEAST, 3, 0, 0)], 0)
    assert found[0] == 3
    assert paths_of(problem, found)[3] == {(0, 0, 0, 1), (0, 1, 0, 1)}


@settings(max_examples=100, deadline=None)
@given(small_grids(agents=3, rows=3, columns=3), st.data())
def test_fixed_paths_block_what_would_collide_with_them(problem: GridProblem, data: st.DataObject) -> None:
    grid = number_cells(problem)
    n = len(grid.cells)
    path = [data.draw(st.integers(0, n - 1))]
    for _ in range(data.draw(st.integers(0, 4))):
        path.append(data.draw(st.sampled_from([int(c) for c in grid.neighbours[path[-1]] if c >= 0])))
    blocked, forever = _kernels.block_paths(
        grid.neighbours, np.array([path], dtype=np.int32), np.array([len(path) - 1], dtype=np.int32)
    )
    for time, (here, move) in itertools.product(range(1, 7), itertools.product(range(n), range(5))):
        there = int(grid.neighbours[here, move])
        if there < 0:
            continue
        now, then = path[min(time - 1, len(path) - 1)], path[min(time, len(path) - 1)]
        collides = then == there or (now == there and then == here)
        stops = time >= forever[there] or bool(time < len(blocked) and blocked[time, there] >> move & 1)
        # Whoever stood at the other's cell a step before has collided then already.
        assert stops == collides
