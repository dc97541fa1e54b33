"""Prioritised planning: its plans keep the rules, and repair never makes them worse."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import NoPlanFound, Progress, ProvenInfeasible
from pathloom.worlds.motion.check import check
from pathloom.worlds.motion.files import read_scenario
from pathloom.worlds.motion.prioritised import prioritised
from pathloom.worlds.motion.problem import GridProblem

from .conftest import drawn, least_sum_of_costs, small_grids


@settings(max_examples=100, deadline=None)
@given(small_grids(), st.integers(0, 3))
def test_plans_keep_every_rule_and_lie_between_bound_and_no_better_than_the_optimum(
    problem: GridProblem, seed: int
) -> None:
    optimum = least_sum_of_costs(problem)
    try:
        plan = prioritised(problem, time_limit=0.3, seed=seed, rounds=20)
    except NoPlanFound:
        return
    except ProvenInfeasible:
        assert optimum is None
        return
    assert check(problem, plan) == []
    assert optimum is not None and plan.bound is not None
    assert plan.bound <= optimum <= plan.objective.value


def test_a_walled_goal_is_proven_to_be_out_of_reach() -> None:
    with pytest.raises(ProvenInfeasible, match="agent 1: no way over free cells from \\(0, 1\\) to \\(0, 4\\)"):
        prioritised(drawn("ab.@B\n..A@."))


def test_two_agents_that_cannot_pass_get_no_plan() -> None:
    with pytest.raises(NoPlanFound, match="2 agents"):
        prioritised(drawn("aB.bA"), time_limit=0.2)


def test_an_agent_in_the_way_of_others_is_planned_first() -> None:
    # a is the longest way and goes first, straight on; b then starts in front of it and has nowhere to go.
    plan = prioritised(drawn("@@@@@.@\na...b.A\n@@@@@B@"), time_limit=1.0)
    assert check(plan.problem, plan) == []


def test_a_seed_repeats_a_plan_and_repairs_only_improve(benchmark_folder: Path) -> None:
    problem = read_scenario(benchmark_folder / "random-32-32-20-random-1.scen.gz", 60)
    seen: list[Progress] = []
    one = prioritised(problem, time_limit=60, seed=3, rounds=60, on_progress=seen.append)
    other = prioritised(problem, time_limit=60, seed=3, rounds=60)
    assert [route.tolist() for route in one.decisions] == [route.tolist() for route in other.decisions]
    assert check(problem, one) == []
    first = prioritised(problem, time_limit=60, seed=3, rounds=0)
    costs = [first.objective.value, *(progress.best for progress in seen if progress.best is not None)]
    assert all(after < before for before, after in itertools.pairwise(costs))
    assert costs[-1] == one.objective.value < first.objective.value
