"""Conflict-based search on grids equals brute force, and the known optima of public instances."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import NoPlanFound, Progress, ProvenInfeasible, verified
from pathloom.search.conflict_search import conflict_search
from pathloom.worlds.motion.check import check
from pathloom.worlds.motion.conflict_based import GridConflicts, conflict_based
from pathloom.worlds.motion.files import read_scenario
from pathloom.worlds.motion.problem import GridProblem

from .conftest import drawn, least_sum_of_costs, small_grids

SCENARIO = "random-32-32-20-random-1.scen.gz"


class PlainConflicts:
    """Only what conflict-based search cannot do without: the first collision, no bounds, no bypass, no symmetries."""

    def __init__(self, problem: GridProblem) -> None:
        self.all = GridConflicts(problem)
        self.agents = self.all.agents
        self.plan, self.cost, self.conflict, self.branch = (
            self.all.plan,
            self.all.cost,
            self.all.conflict,
            self.all.branch,
        )


@settings(max_examples=150, deadline=None)
@given(small_grids())
def test_the_search_finds_the_least_sum_of_costs(problem: GridProblem) -> None:
    optimum = least_sum_of_costs(problem)
    if optimum is None:
        return
    found = conflict_search(GridConflicts(problem), node_limit=5_000)
    assert found.proven and found.cost == found.bound == optimum


@settings(max_examples=60, deadline=None)
@given(small_grids(agents=4, rows=3, columns=3), st.integers(0, 2), st.sampled_from([0, 1, 100]))
def test_the_method_proves_the_least_sum_of_costs(problem: GridProblem, slack: int, quick: int) -> None:
    optimum = least_sum_of_costs(problem)
    if optimum is None:
        with pytest.raises((NoPlanFound, ProvenInfeasible)):
            conflict_based(problem, time_limit=2.0, node_limit=20, slack=slack, quick_nodes=quick)
        return
    plan = verified(conflict_based(problem, time_limit=60.0, slack=slack, quick_nodes=quick, repairs=3), check)
    assert plan.objective.value == plan.bound == optimum


@settings(max_examples=40, deadline=None)
@given(small_grids(agents=2, rows=3, columns=3))
def test_bounds_and_symmetries_change_nothing_but_the_effort(problem: GridProblem) -> None:
    plain = conflict_search(PlainConflicts(problem), node_limit=300)
    if plain.proven:
        assert conflict_search(GridConflicts(problem), node_limit=300).cost == plain.cost


@settings(max_examples=100, deadline=None)
@given(small_grids())
def test_every_bound_on_the_way_holds(problem: GridProblem) -> None:
    optimum = least_sum_of_costs(problem)
    if optimum is None:
        return
    for nodes in (0, 1, 2, 4):
        assert conflict_search(GridConflicts(problem), node_limit=nodes).bound <= optimum


@pytest.mark.parametrize(
    ("picture", "optimum"),
    [
        # Crossing at one cell at the same time: one waits.
        ("@a@\nb.B\n@A@", 5),
        # A rectangle of equally short ways, all of which cross: one step of delay.
        ("@a...\nb....\n....B\n...A@", 5 + 5 + 1),
        # A corridor with one bay: step aside, let pass, step back.
        ("@@.@@\naB.bA", 8),
        # b's only way leads over a's goal: a waits for it to pass.
        ("@.@\nbAa\n@.@\n@B@", 3 + 1 + 1),
    ],
)
def test_classical_symmetries_are_resolved(picture: str, optimum: int) -> None:
    problem = drawn(picture)
    assert least_sum_of_costs(problem) == optimum
    plan = verified(conflict_based(problem, time_limit=30.0), check)
    assert plan.objective.value == plan.bound == optimum


def test_an_instance_without_a_plan_ends_at_the_limit_and_says_so() -> None:
    with pytest.raises(NoPlanFound, match="within 20 s and 40 nodes; any plan costs at least"):
        conflict_based(drawn("aB.bA"), time_limit=20.0, node_limit=40)


def test_a_goal_out_of_reach_is_proven_infeasible() -> None:
    with pytest.raises(ProvenInfeasible, match="agent 0"):
        conflict_based(drawn("a@A"))


def test_out_of_time_there_is_a_plan_with_a_bound(benchmark_folder: Path) -> None:
    problem = read_scenario(benchmark_folder / SCENARIO, 50)
    seen: list[Progress] = []
    plan = verified(conflict_based(problem, time_limit=60.0, node_limit=5, on_progress=seen.append, repairs=5), check)
    assert plan.metrics["expanded"] == 5
    assert plan.bound is not None and 1082 < plan.bound <= 1147 <= plan.objective.value


@pytest.mark.parametrize(
    ("agents", "optimum"),
    [
        (20, 413),
        pytest.param(30, 637, marks=pytest.mark.slow),
        pytest.param(40, 837, marks=pytest.mark.slow),
    ],
)
def test_known_optima_of_a_public_scenario(benchmark_folder: Path, agents: int, optimum: int) -> None:
    problem = read_scenario(benchmark_folder / SCENARIO, agents)
    plan = verified(conflict_based(problem, time_limit=120.0), check)
    assert plan.objective.value == plan.bound == optimum
    # The same by repair of a first plan and a search below its cost.
    plan = verified(conflict_based(problem, time_limit=120.0, quick_nodes=0, repairs=100), check)
    assert plan.objective.value == plan.bound == optimum
