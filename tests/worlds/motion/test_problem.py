"""Grid problems: what is refused, and how cells, routes and timelines are told."""

from __future__ import annotations

import numpy as np
import pytest

from pathloom.worlds.motion.problem import GridProblem, number_cells, route_costs, route_plan

from .conftest import drawn

OPEN = np.ones((2, 3), dtype=bool)


@pytest.mark.parametrize(
    ("free", "starts", "goals", "words"),
    [
        (np.ones(3, dtype=bool), [[0, 0]], [[0, 1]], "expected \\(rows, columns\\)"),
        (np.ones((0, 3), dtype=bool), [], [], "expected \\(rows, columns\\)"),
        (OPEN, [[0, 3]], [[0, 0]], "agent 0: start .*column 3.* outside"),
        (OPEN, [[0, 0]], [[-1, 0]], "agent 0: goal .*row -1.* outside"),
        (~OPEN, [[0, 0]], [[0, 1]], "blocked"),
        (OPEN, [[0, 0], [0, 0]], [[0, 1], [0, 2]], "agent 1: start .* taken by agent 0"),
        (OPEN, [[0, 0], [0, 1]], [[1, 1], [1, 1]], "agent 1: goal .* taken by agent 0"),
        (OPEN, [[0, 0], [0, 1]], [[1, 1]], "2 starts and 1 goals"),
    ],
)
def test_an_impossible_instance_is_refused(free: np.ndarray, starts: list, goals: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GridProblem(free, np.array(starts, dtype=np.int32), np.array(goals, dtype=np.int32))


def test_a_problem_cannot_be_changed_under_a_plan() -> None:
    problem = drawn("a.A")
    with pytest.raises(ValueError, match="read-only"):
        problem.free[0, 0] = False


def test_neighbours_lie_north_east_south_west() -> None:
    grid = number_cells(drawn("a.@\n..A"))
    assert grid.cells.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert grid.neighbours.tolist() == [
        [0, -1, 1, 2, -1],
        [1, -1, -1, 3, 0],
        [2, 0, 3, -1, -1],
        [3, 1, 4, -1, 2],
        [4, -1, -1, -1, 3],
    ]
    assert (grid.starts.tolist(), grid.goals.tolist()) == ([0], [4])


def test_the_first_agents_are_a_problem_of_their_own() -> None:
    problem = drawn("ab.\nBA.")
    assert problem.first(1).goals.tolist() == [[1, 1]]
    for wrong in (0, 3):
        with pytest.raises(ValueError, match="expected 1 to 2"):
            problem.first(wrong)


def test_an_agent_pays_until_its_last_arrival() -> None:
    goal, beside = [0, 2], [0, 1]
    assert route_costs([np.array([goal])]) == [0]
    assert route_costs([np.array([beside, goal, goal, goal])]) == [1]
    assert route_costs([np.array([goal, beside, goal, goal])]) == [2]


def test_a_timeline_says_who_is_where() -> None:
    problem = drawn("a.A\nb.B")
    routes = [np.array([[0, 0], [0, 1], [0, 2], [0, 2]]), np.array([[1, 0], [1, 0], [1, 1], [1, 2]])]
    plan = route_plan(problem, routes, method="by hand", settings={}, seed=0, seconds=0.0)
    assert plan.objective.value == 5
    assert [len(route) for route in plan.decisions] == [3, 4]
    line = plan.timeline
    told = {
        (line.items[i], line.resources[r], a, b) for i, r, a, b in zip(line.item, line.resource, line.start, line.end)
    }
    assert told == {
        ("agent0", "0,0", 0, 1),
        ("agent0", "0,1", 1, 2),
        ("agent0", "0,2", 2, 3),
        ("agent1", "1,0", 0, 2),
        ("agent1", "1,1", 2, 3),
        ("agent1", "1,2", 3, 3),
    }
    assert not len(line.overlaps())
