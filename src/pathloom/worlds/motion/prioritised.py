"""Prioritised planning with repair of large neighbourhoods: fast plans for many agents, and bounds from above.

Agents are planned one after another, each around the paths of those before it (M. Erdmann, T. Lozano-Perez, "On
multiple moving objects", Algorithmica 2, 1987). An agent that finds no way goes to the front of the next order. Then
small groups of agents are taken out and planned again in random order, and what is no worse is kept (J. Li, Z. Chen,
D. Harabor, P. Stuckey, S. Koenig, "Anytime multi-agent path finding via large neighborhood search", IJCAI 2021): half
of the groups are random, half are one delayed agent with those who stand in its way.

Neither step is complete: some solvable instances get no plan.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress, ProvenInfeasible
from pathloom.worlds.motion import _kernels
from pathloom.worlds.motion.problem import Grid, GridProblem, number_cells, route_plan

METHOD = "prioritised"
BOUND = "shortest path of each agent alone"


class PathTable:
    """Paths of all agents side by side, and what it takes to plan one around the others."""

    def __init__(self, grid: Grid, distance: list[NDArray[np.int32]], generator: np.random.Generator) -> None:
        self.grid = grid
        self.distance = distance
        self.generator = generator
        agents = len(grid.starts)
        self.paths = np.repeat(grid.starts[:, None], 2, axis=1).astype(np.int32)
        self.costs = np.full(agents, -1, dtype=np.int32)

    @property
    def total(self) -> int:
        """Sum of costs."""
        return int(self.costs.sum())

    def remove(self, agents: NDArray[np.int64]) -> None:
        """Take agents out, so that they block nothing."""
        self.costs[agents] = -1

    def insert(self, agent: int) -> bool:
        """Plan one agent around those who have a path; False if it finds no way."""
        blocked, forever = _kernels.block_paths(self.grid.neighbours, self.paths, self.costs)
        start, goal = int(self.grid.starts[agent]), int(self.grid.goals[agent])
        cost, _, layer, cells, _, successor = _kernels.decision_diagram(
            self.grid.neighbours, self.distance[agent], start, goal, blocked, forever, 0, _kernels.NEVER, 0
        )
        if cost < 0:
            return False
        # Among equally short paths, the one that crosses the fewest random others: this keeps repairs varied.
        some = self.generator.integers(len(self.costs), size=4)
        path = _kernels.path_among(cost, layer, cells, successor, self.paths[some])
        if cost >= self.paths.shape[1]:
            more = cost + 1 + cost // 2 - self.paths.shape[1]
            self.paths = np.hstack([self.paths, np.repeat(self.paths[:, -1:], more, axis=1)])
        self.paths[agent, : cost + 1] = path
        self.paths[agent, cost + 1 :] = goal
        self.costs[agent] = cost
        return True

    def routes(self) -> list[NDArray[np.int32]]:
        """Cell numbers by time of each agent."""
        return [path[: cost + 1].copy() for path, cost in zip(self.paths, self.costs)]


def shortest_distances(problem: GridProblem, grid: Grid) -> list[NDArray[np.int32]]:
    """Distances of all cells to each agent's goal.

    Raises
    ------
    ProvenInfeasible
        If a goal cannot be reached from its start.
    """
    tables = [_kernels.distances(grid.neighbours, int(goal)) for goal in grid.goals]
    for agent, table in enumerate(tables):
        if table[grid.starts[agent]] >= _kernels.NEVER:
            start, goal = tuple(problem.starts[agent].tolist()), tuple(problem.goals[agent].tolist())
            raise ProvenInfeasible("connection", f"agent {agent}: no way over free cells from {start} to {goal}")
    return tables


@cache
def compile_kernels() -> None:
    """Compile what planning needs, or load it from disk, so that no method pays for it out of its time limit."""
    free = np.ones((3, 3), dtype=np.bool_)
    crossing = GridProblem(free, np.array([[0, 1], [1, 0]]), np.array([[2, 1], [1, 2]]), "crossing")
    grid = number_cells(crossing)
    table = PathTable(grid, shortest_distances(crossing, grid), np.random.default_rng(0))
    first_paths(table, time.perf_counter() + 60.0, 1)


def first_paths(table: PathTable, deadline: float, attempts: int) -> bool:
    """Fill an empty table by prioritised planning; False if no order worked."""
    length = np.array([distance[start] for distance, start in zip(table.distance, table.grid.starts)])
    order = np.argsort(-length, kind="stable").tolist()
    for attempt in range(attempts):
        table.remove(np.arange(len(order)))
        stuck = next((agent for agent in order if not table.insert(agent)), None)
        if stuck is None:
            return True
        if time.perf_counter() > deadline:
            return False
        order.remove(stuck)
        if attempt % 10 == 9:
            table.generator.shuffle(order)
        order.insert(0, stuck)
    return False


def repair(table: PathTable, deadline: float, rounds: int, lower: int, on_better: OnProgress | None) -> int:
    """Improve a full table in place; returns the number of rounds."""
    began = time.perf_counter()
    shortest = np.array([distance[start] for distance, start in zip(table.distance, table.grid.starts)])
    agents = len(shortest)
    for done in range(rounds):
        if table.total <= lower or time.perf_counter() > deadline:
            return done
        size = min(agents, int(table.generator.integers(2, 9)))
        group = table.generator.choice(agents, size, replace=False)
        if table.generator.random() < 0.5:
            group = _in_the_way(table, table.costs - shortest, group)
        old_paths, old_costs = table.paths.copy(), table.costs.copy()
        before = table.total
        table.remove(group)
        table.generator.shuffle(group)
        kept = all(table.insert(int(agent)) for agent in group) and table.total <= before
        if not kept:
            table.paths, table.costs = old_paths, old_costs
        elif table.total < before and on_better is not None:
            on_better(Progress(time.perf_counter() - began, float(table.total), float(lower), "repair"))
    return rounds


def _in_the_way(table: PathTable, delay: NDArray[np.int32], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """A delayed agent and the agents on the cells of a shortest path of it, filled up from `group` to its size."""
    late = np.flatnonzero(delay > 0)
    if not len(late):
        return group
    agent = int(table.generator.choice(late))
    distance, cell = table.distance[agent], int(table.grid.starts[agent])
    found = [agent]
    for at in range(1, int(distance[cell]) + 1):
        steps = table.grid.neighbours[cell, 1:]
        cell = int(table.generator.choice([step for step in steps if step >= 0 and distance[step] < distance[cell]]))
        column = min(at, table.paths.shape[1] - 1)
        found.extend(np.flatnonzero(table.paths[:, column] == cell).tolist())
    chosen = list(dict.fromkeys([*found, *group.tolist()]))
    return np.array(chosen[: len(group)], dtype=np.int64)


def prioritised(
    problem: GridProblem,
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    rounds: int = 5_000,
) -> Plan:
    """Plan agents one after another, then repair groups of them.

    Parameters
    ----------
    time_limit
        Seconds for both together.
    seed
        Seed of orders and groups.
    rounds
        Number of repairs after which the method ends within its time.

    Raises
    ------
    ProvenInfeasible
        If a goal cannot be reached from its start.
    NoPlanFound
        If no order of agents gave a plan within the time.
    """
    compile_kernels()
    began = time.perf_counter()
    grid = number_cells(problem)
    table = PathTable(grid, shortest_distances(problem, grid), np.random.default_rng(seed))
    lower = int(sum(distance[start] for distance, start in zip(table.distance, grid.starts)))
    if not first_paths(table, began + time_limit, attempts=1_000):
        raise NoPlanFound(f"prioritised planning found no order for {problem.agents} agents in {time_limit:g} s")
    done = repair(table, began + time_limit, rounds, lower, on_progress)
    return route_plan(
        problem,
        [grid.cells[route] for route in table.routes()],
        method=METHOD,
        settings={"time_limit": time_limit, "rounds": rounds},
        seed=seed,
        seconds=time.perf_counter() - began,
        bound=float(lower),
        bound_by=BOUND,
        metrics={"repairs": done},
    )
