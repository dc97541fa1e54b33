"""Multi-agent path finding on a grid: agents, each with a start and a goal, move over free cells in steps of one.

The model is the one of the MovingAI benchmark (R. Stern et al., "Multi-agent pathfinding: definitions, variants, and
benchmarks", SoCS 2019): at every step an agent waits or moves to a neighbour in one of four directions; two agents
are never at one cell at the same time and never swap cells; an agent stays at its goal once it has finished. The
objective is the sum of costs: the steps until each agent's last arrival at its goal, summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Objective, Plan
from pathloom.timeline import Timeline

OBJECTIVE = "sum of costs"
STEP = "steps"
# Rows and columns of the moves north, east, south and west.
DIRECTIONS = ((-1, 0), (0, 1), (1, 0), (0, -1))


@dataclass(frozen=True)
class GridProblem:
    """Agents on a grid map.

    Parameters
    ----------
    free
        Shape (rows, columns), boolean: cells that agents may use.
    starts, goals
        Shape (k, 2): row and column of each agent's start and goal, all free; starts differ from each other, and so
        do goals.
    name
        What to call the instance.

    Raises
    ------
    ValueError
        If a shape is wrong, or a start or goal lies outside, is blocked or is taken by another agent.
    """

    free: NDArray[np.bool_]
    starts: NDArray[np.int32]
    goals: NDArray[np.int32]
    name: str = "grid"

    def __post_init__(self) -> None:
        free = np.array(self.free, dtype=np.bool_)
        if free.ndim != 2 or not free.size:
            raise ValueError(f"free cells have shape {free.shape}, expected (rows, columns)")
        free.setflags(write=False)
        object.__setattr__(self, "free", free)
        for word in ("starts", "goals"):
            places = np.array(getattr(self, word), dtype=np.int32).reshape(-1, 2)
            places.setflags(write=False)
            object.__setattr__(self, word, places)
            taken: dict[tuple[int, int], int] = {}
            for agent, (row, column) in enumerate(places.tolist()):
                where = f"agent {agent}: {word[:-1]} (row {row}, column {column})"
                if not (0 <= row < free.shape[0] and 0 <= column < free.shape[1]):
                    raise ValueError(f"{where} lies outside the map of {free.shape[0]} rows, {free.shape[1]} columns")
                if not free[row, column]:
                    raise ValueError(f"{where} is blocked, expected a free cell")
                if (row, column) in taken:
                    raise ValueError(f"{where} is taken by agent {taken[row, column]} too, expected different cells")
                taken[row, column] = agent
        if len(self.starts) != len(self.goals):
            raise ValueError(f"{len(self.starts)} starts and {len(self.goals)} goals, expected as many of each")

    @property
    def agents(self) -> int:
        """Number of agents."""
        return len(self.starts)

    def first(self, agents: int) -> GridProblem:
        """The instance of the first `agents` agents only.

        Raises
        ------
        ValueError
            If there are not as many.
        """
        if not 1 <= agents <= self.agents:
            raise ValueError(f"{agents} agents wanted, expected 1 to {self.agents}")
        return GridProblem(self.free, self.starts[:agents], self.goals[:agents], self.name)


@dataclass(frozen=True)
class Grid:
    """Free cells of a problem by number, in row-major order, for the kernels.

    Attributes
    ----------
    cells
        Shape (n, 2): row and column of each cell.
    neighbours
        Shape (n, 5): the cell itself, then the cells to the north, east, south and west, -1 where blocked.
    starts, goals
        Shape (k,): numbers of the agents' cells.
    """

    cells: NDArray[np.int32]
    neighbours: NDArray[np.int32]
    starts: NDArray[np.int32]
    goals: NDArray[np.int32]


def number_cells(problem: GridProblem) -> Grid:
    """Number the free cells of `problem`."""
    cells = np.argwhere(problem.free).astype(np.int32)
    number = np.full((problem.free.shape[0] + 2, problem.free.shape[1] + 2), -1, dtype=np.int32)
    inner = cells + 1  # a frame of blocked cells saves the tests for the border
    number[inner[:, 0], inner[:, 1]] = np.arange(len(cells), dtype=np.int32)
    neighbours = np.empty((len(cells), 5), dtype=np.int32)
    for move, (down, right) in enumerate(((0, 0), *DIRECTIONS)):
        neighbours[:, move] = number[inner[:, 0] + down, inner[:, 1] + right]
    starts = number[problem.starts[:, 0] + 1, problem.starts[:, 1] + 1]
    goals = number[problem.goals[:, 0] + 1, problem.goals[:, 1] + 1]
    return Grid(cells, neighbours, starts, goals)


def route_costs(routes: Sequence[NDArray[np.int32]]) -> list[int]:
    """Steps until the last arrival at the last cell of each route of shape (t + 1, 2)."""
    costs = []
    for route in routes:
        away = np.flatnonzero((route != route[-1]).any(axis=1))
        costs.append(int(away[-1]) + 1 if len(away) else 0)
    return costs


def route_plan(
    problem: GridProblem,
    routes: Sequence[NDArray[np.int32]],
    *,
    method: str,
    settings: dict[str, object],
    seed: int,
    seconds: float,
    bound: float | None = None,
    bound_by: str | None = None,
    metrics: dict[str, object] | None = None,
) -> Plan:
    """The plan of one route an agent.

    Parameters
    ----------
    routes
        One array of shape (t + 1, 2) an agent: row and column at the times 0 to t, the last for good.

    Returns
    -------
    Plan
        Its decisions are the routes, each cut after the last arrival. Resources of its timeline are the cells in
        use, "row,column"; items are the agents, "agent0" onwards; a span of the kind "at" reaches from an arrival at
        a cell to the arrival at the next one, and at the goal to the end of the plan.
    """
    costs = route_costs(routes)
    cut = tuple(np.ascontiguousarray(route[: cost + 1], dtype=np.int32) for route, cost in zip(routes, costs))
    end = max(costs, default=0)
    spans: list[tuple[str, str, str, float, float]] = []
    for agent, route in enumerate(cut):
        changes = [0, *(np.flatnonzero((route[1:] != route[:-1]).any(axis=1)) + 1).tolist()]
        for first, last in zip(changes, [*changes[1:], end]):
            row, column = route[first].tolist()
            spans.append((f"{row},{column}", f"agent{agent}", "at", float(first), float(last)))
    items = [f"agent{agent}" for agent in range(problem.agents)]
    timeline = Timeline.from_spans(spans, items=items, kinds=("at",), unit="step")
    return Plan(
        problem=problem,
        decisions=cut,
        timeline=timeline,
        objective=Objective(OBJECTIVE, float(sum(costs)), STEP),
        method=method,
        settings=settings,
        seed=seed,
        bound=bound,
        bound_by=bound_by,
        seconds=seconds,
        metrics={"makespan": end, "agents": problem.agents, **(metrics or {})},
    )
