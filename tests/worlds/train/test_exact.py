"""The constraint program of a small wave, and that conflict search reaches the very same optimum."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pathloom.worlds.train.conflict_free import solve, wave_of
from pathloom.worlds.train.exact import ExactWave, solve_exact
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.small_waves import TICK, draw_wave


@pytest.mark.parametrize("seed", range(24))
def test_conflict_search_equals_the_constraint_program_on_the_latest_return(seed: int) -> None:
    problem = draw_wave(seed)
    exact = solve_exact(problem, tick=TICK)
    search = solve(problem)
    assert exact.proven and search.proven
    assert search.cost == exact.cost


@pytest.mark.parametrize("seed", range(24, 36))
def test_conflict_search_equals_the_constraint_program_on_the_sum_of_returns(seed: int) -> None:
    problem = draw_wave(seed)
    exact = solve_exact(problem, objective="sum", tick=TICK)
    search = solve(problem, objective="sum")
    assert exact.proven and search.proven
    assert search.cost == exact.cost


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["max", "sum"])
def test_they_are_equal_on_a_hundred_more(objective: str) -> None:
    proven = 0
    for seed in range(100, 200):
        problem = draw_wave(seed)
        exact = solve_exact(problem, objective=objective, tick=TICK, time_limit=20.0)
        search = solve(problem, objective=objective, time_limit=20.0)
        if exact.proven:
            assert search.bound <= exact.cost <= search.cost
        if exact.proven and search.proven:
            assert search.cost == exact.cost
            proven += 1
    assert proven >= 95


def rules(problem: TrainProblem, exact: ExactWave) -> None:
    """Check a solution against the definition of the problem, task by task, in whole ticks."""
    routes, stages, start = exact.routes, exact.stages, exact.start
    assert routes is not None and stages is not None and start is not None
    k = problem.route_length
    offset = wave_of(problem, None, None).offset
    holds: list[tuple[int, float, float]] = []
    for a in range(len(routes)):
        nodes = [*routes[a], routes[a, 0], *routes[a, ::-1]]
        seconds = [
            *problem.forward[routes[a], stages[a]],
            problem.loss[routes[a, 0]],
            *problem.backward[routes[a], stages[a]][::-1],
        ]
        assert start[a, 0] >= offset[a]
        for t, (here, there) in enumerate(pairwise(nodes)):
            hop = 0.0 if here == there else problem.link[here, there]
            assert start[a, t + 1] >= start[a, t] + seconds[t] + hop
        for t in range(2 * k + 1):
            holds.append((int(nodes[t]), start[a, t], start[a, t] + seconds[t] + TICK))
    for i, (node, begin, end) in enumerate(holds):
        assert all(node != other or begin >= e or b >= end for other, b, e in holds[:i])
    assert problem.placement is not None
    for p in range(1, problem.n_stages):
        assert (stages == p).sum() <= problem.stage_cap[p]
    for n in np.flatnonzero(problem.placement != 0):
        assert (routes == n).sum() <= problem.node_cap[n]


@pytest.mark.parametrize("objective", ["max", "sum"])
def test_a_solution_keeps_the_definition_of_the_problem(objective: str) -> None:
    for seed in (0, 2, 5, 7, 11):
        problem = draw_wave(seed)
        exact = solve_exact(problem, objective=objective, tick=TICK)
        rules(problem, exact)
        assert exact.routes is not None and exact.stages is not None and exact.start is not None
        returns = exact.start[:, -1] + problem.backward[exact.routes[:, 0], 0]
        assert exact.cost == (returns.max() if objective == "max" else returns.sum())


def test_without_room_there_is_no_wave() -> None:
    problem = draw_wave(2)
    caps = problem.stage_cap.copy()
    caps[1] = 0
    exact = solve_exact(replace(problem, stage_cap=caps), tick=TICK)
    assert exact.routes is None and exact.proven and exact.bound == float("inf")


def test_the_bound_holds_when_time_is_short() -> None:
    problem = draw_wave(4)
    short = solve_exact(problem, tick=TICK, time_limit=0.01)
    assert short.bound <= solve(problem).cost <= short.cost


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="none of max, sum"):
        solve_exact(draw_wave(0), objective="mean")
