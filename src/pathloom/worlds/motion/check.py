"""Independent checker of grid plans: it reads routes and the map, and shares no code with any planner.

Rules: ``agents`` (one route of rows and columns an agent), ``start``, ``goal``, ``move`` (at most one step in one of
four directions), ``obstacle`` (outside the map or blocked), ``vertex`` (two agents at one cell at one time), ``rest``
(an agent at the cell of another one that has finished), ``swap`` (two agents exchange cells), ``cost`` (the objective
is the sum of last arrivals), ``bound`` (it does not exceed the cost), ``timeline`` (it tells what the routes tell).
"""

from __future__ import annotations

import numpy as np

from pathloom.plan import Plan, Violation
from pathloom.worlds.motion.problem import GridProblem


def check(problem: GridProblem, plan: Plan) -> list[Violation]:
    """Broken rules of a plan, empty if there are none; at most one a rule and agent (or pair of agents)."""
    found: dict[tuple[str, tuple[str, ...]], Violation] = {}

    def broken(rule: str, message: str, *agents: int, cell: tuple[int, int] | None = None) -> None:
        items = tuple(f"agent{agent}" for agent in agents)
        places = () if cell is None else (f"{cell[0]},{cell[1]}",)
        found.setdefault(
            (rule, items), Violation(rule, ": ".join(filter(None, (" and ".join(items), message))), items, places)
        )

    routes = [np.asarray(route) for route in plan.decisions]
    if len(routes) != problem.agents:
        return [Violation("agents", f"{len(routes)} routes for {problem.agents} agents")]
    for agent, route in enumerate(routes):
        if route.ndim != 2 or route.shape[1] != 2 or not len(route) or not np.issubdtype(route.dtype, np.integer):
            broken("agents", f"route of shape {route.shape} and {route.dtype}, expected (t + 1, 2) integers", agent)
    if found:
        return list(found.values())

    rows, columns = problem.free.shape
    visits: dict[tuple[int, int, int], int] = {}  # (time, row, column) -> agent
    steps: dict[tuple[int, tuple[int, int], tuple[int, int]], int] = {}  # (time, from, to) -> agent
    finished: dict[tuple[int, int], tuple[int, int]] = {}  # goal cell -> (agent, last arrival)
    cost = 0
    for agent, route in enumerate(routes):
        cells: list[tuple[int, int]] = [(int(row), int(column)) for row, column in route]
        start, goal = tuple(problem.starts[agent].tolist()), tuple(problem.goals[agent].tolist())
        if cells[0] != start:
            broken("start", f"begins at {cells[0]}, its start is {start}", agent, cell=cells[0])
        if cells[-1] != goal:
            broken("goal", f"ends at {cells[-1]}, its goal is {goal}", agent, cell=cells[-1])
        arrival = max((time + 1 for time, cell in enumerate(cells) if cell != cells[-1]), default=0)
        cost += arrival
        finished.setdefault(cells[-1], (agent, arrival))
        for time, (row, column) in enumerate(cells):
            if not (0 <= row < rows and 0 <= column < columns and problem.free[row, column]):
                broken("obstacle", f"at the blocked cell {row, column} at time {time}", agent, cell=(row, column))
            other = visits.setdefault((time, row, column), agent)
            if other != agent:
                broken("vertex", f"both at {row, column} at time {time}", other, agent, cell=(row, column))
            if time and cells[time - 1] != (row, column):
                before = cells[time - 1]
                if abs(before[0] - row) + abs(before[1] - column) != 1:
                    broken("move", f"from {before} to {row, column} at time {time}", agent, cell=(row, column))
                steps[time, before, (row, column)] = agent
    for (time, here, there), agent in steps.items():
        other = steps.get((time, there, here), agent)
        if agent < other:
            broken("swap", f"exchange {here} and {there} at time {time}", agent, other, cell=there)
    for (time, row, column), agent in visits.items():
        other, since = finished.get((row, column), (agent, 0))
        if other != agent and time >= since:
            broken(
                "rest", f"{row, column} entered at time {time}, held since {since}", agent, other, cell=(row, column)
            )
    if plan.objective.value != cost:
        broken("cost", f"stated sum of costs {plan.objective.value:g}, the routes cost {cost}")
    if plan.bound is not None and not plan.bound <= cost:
        broken("bound", f"stated bound {plan.bound:g} above the cost {cost}")
    # The timeline must tell the same: one span a stay, up to the next arrival, and at the goal to the end of all.
    end = max((arrival for _, arrival in finished.values()), default=0)
    expected: list[tuple[str, str, float, float]] = []
    for agent, route in enumerate(routes):
        stays = [0, *(time for time in range(1, len(route)) if (route[time] != route[time - 1]).any())]
        for first, last in zip(stays, [*stays[1:], end]):
            expected.append((f"agent{agent}", f"{route[first][0]},{route[first][1]}", first, last))
    line = plan.timeline
    told = [
        (line.items[item], line.resources[resource], start, stop)
        for item, resource, start, stop in zip(line.item, line.resource, line.start, line.end)
    ]
    if sorted(told) != sorted(expected):
        wrong = min(set(told) ^ set(expected), default=told[0])
        side = "the timeline, not in the routes" if wrong in told else "the routes, not in the timeline"
        broken("timeline", f"{wrong[0]} at {wrong[1]} from {wrong[2]:g} to {wrong[3]:g} is in {side}")
    return list(found.values())
