"""Grids for tests: drawn by hand, drawn at random, public ones, and a brute force that shares no code with methods."""

from __future__ import annotations

import heapq
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.worlds.motion.problem import GridProblem


def drawn(picture: str, name: str = "drawn") -> GridProblem:
    """A problem from a picture: '.' free, '@' blocked; agent a starts at 'a' and wants to be at 'A', and so on."""
    rows = [row.strip() for row in picture.strip().splitlines()]
    letters = sorted({c for row in rows for c in row if c.islower()})
    place = {c: (r, row.index(c)) for r, row in enumerate(rows) for c in row if c.isalpha()}
    return GridProblem(
        np.array([[c != "@" for c in row] for row in rows]),
        np.array([place[c] for c in letters], dtype=np.int32),
        np.array([place[c.upper()] for c in letters], dtype=np.int32),
        name,
    )


@st.composite
def small_grids(draw: st.DrawFn, agents: int = 3, rows: int = 4, columns: int = 4) -> GridProblem:
    """Up to `agents` agents on a random grid with some blocked cells."""
    shape = draw(st.integers(1, rows)), draw(st.integers(2, columns))
    blocked = draw(st.sets(st.integers(0, shape[0] * shape[1] - 1), max_size=shape[0] * shape[1] // 3))
    cells = [divmod(cell, shape[1]) for cell in range(shape[0] * shape[1]) if cell not in blocked]
    k = draw(st.integers(1, min(agents, len(cells))))
    starts = draw(st.permutations(cells))[:k]
    goals = draw(st.permutations(cells))[:k]
    free = np.zeros(shape, dtype=bool)
    for cell in cells:
        free[cell] = True
    return GridProblem(free, np.array(starts, dtype=np.int32), np.array(goals, dtype=np.int32))


def least_sum_of_costs(problem: GridProblem) -> int | None:
    """Optimum by Dijkstra's algorithm over joint positions and who has finished; None if there is no plan.

    An agent that has finished stays; one that has not may decide so at its goal on arrival; each unfinished agent
    pays 1 a step.
    """
    goals = [tuple(goal) for goal in problem.goals.tolist()]
    starts = tuple(tuple(start) for start in problem.starts.tolist())
    rows, columns = problem.free.shape
    agents = range(problem.agents)

    def finishing(cells: tuple, done: tuple) -> list[tuple]:
        options = [(True,) if done[a] else (False, True) if cells[a] == goals[a] else (False,) for a in agents]
        return list(itertools.product(*options))

    best = {(starts, done): 0 for done in finishing(starts, (False,) * problem.agents)}
    queue = [(0, *state) for state in best]
    heapq.heapify(queue)
    while queue:
        paid, cells, done = heapq.heappop(queue)
        if best[cells, done] < paid:
            continue
        if all(done):
            return paid
        choices = []
        for a in agents:
            (r, c), steps = cells[a], [cells[a]]
            if not done[a]:
                for y, x in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                    if 0 <= y < rows and 0 <= x < columns and problem.free[y, x]:
                        steps.append((y, x))
            choices.append(steps)
        cost = paid + problem.agents - sum(done)
        for onward in itertools.product(*choices):
            if len(set(onward)) < problem.agents:
                continue
            if any(onward[a] == cells[b] and onward[b] == cells[a] for a, b in itertools.combinations(agents, 2)):
                continue
            for ended in finishing(onward, done):
                if best.get((onward, ended), 1 << 30) > cost:
                    best[onward, ended] = cost
                    heapq.heappush(queue, (cost, onward, ended))
    return None


@pytest.fixture(scope="session")
def benchmark_folder() -> Path:
    """Folder of the public MovingAI instances."""
    from pathloom.data import find

    try:
        return find("mapf")
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
