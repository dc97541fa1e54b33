"""The best collision-free wave by conflict search: sound branching, and timetables that nodes can keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.search.conflict_search import conflict_search
from pathloom.worlds.train.check import check
from pathloom.worlds.train.conflict_free import prioritised, solve, wave_of
from pathloom.worlds.train.exact import solve_exact
from pathloom.worlds.train.problem import FORWARD
from pathloom.worlds.train.simulator import plan_of
from pathloom.worlds.train.small_waves import TICK, draw_wave
from pathloom.worlds.train.timed_routes import RoutesFrom, TimedRoute
from pathloom.worlds.train.wave import Wave
from pathloom.worlds.train.wave_conflicts import Closed, ConflictFreeWave, Crowd, Here, Overlap

seeds = st.integers(0, 300)


def broken(wave: Wave, paths: tuple[TimedRoute, ...] | list[TimedRoute]) -> list[str]:
    """Rules that a wave breaks, read off their definitions."""
    problem, found = wave.problem, []
    holds = [
        (node, start, leave)
        for path in paths
        for (node, _), start, leave in zip(path.uses, path.start, path.leave, strict=True)
    ]
    for i, (node, start, leave) in enumerate(holds):
        for other, other_start, other_leave in holds[:i]:
            if node == other and start < other_leave and other_start < leave:
                found.append(f"overlap on {node}")
    for p in range(1, problem.n_stages):
        if sum(p in path.stages for path in paths) > problem.stage_cap[p]:
            found.append(f"stage {p}")
    for n in np.flatnonzero(wave.placement != 0):
        if sum(int(n) in path.nodes for path in paths) > min(problem.node_cap[n], problem.memory[n]):
            found.append(f"node {n}")
    return found


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_a_wave_keeps_tc1_and_tc2_and_its_nodes_can_keep_its_order(seed: int) -> None:
    problem = draw_wave(seed, agents=(2, 4))
    found = solve(problem, time_limit=2.0)
    if found.paths is None:
        return
    wave = wave_of(problem, None, None)
    assert broken(wave, found.paths) == []
    assert found.bound <= found.cost == max(path.end for path in found.paths)
    starts = np.array([path.start for path in found.paths])
    decisions = replace(wave.decisions(found.paths), priority=starts, strict=True)
    plan = plan_of(problem, decisions, method="conflict-free")
    assert check(problem, plan) == []
    # Nothing starts later than planned when every node works in the planned order; no wave ends before the best one.
    if found.proven:
        assert plan.objective.value == found.cost
    else:
        assert plan.objective.value <= found.cost


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_every_branch_leaves_the_optimum_in_some_child_and_the_paths_in_none(seed: int) -> None:
    problem = draw_wave(seed, agents=(3, 5))
    exact = solve_exact(problem, tick=TICK, time_limit=5.0)
    if exact.routes is None or exact.start is None:
        return
    wave = ConflictFreeWave(wave_of(problem, None, None))
    best = timed(wave.wave, exact.routes, exact.start)
    constraints: list[list[object]] = [[] for _ in best]
    for _ in range(40):
        planned = [wave.plan(a, constraints[a]) for a in range(wave.agents)]  # type: ignore[arg-type]
        paths = [path for path in planned if path is not None]
        assert len(paths) == wave.agents
        for path, constrained in zip(paths, best, strict=True):
            assert path.end <= constrained.end  # a cheapest path under constraints that the optimum keeps
        conflict = wave.conflict(paths)
        if conflict is None:
            break
        if isinstance(conflict, Overlap) and conflict.first_use == conflict.second_use and conflict.first_use[1] == 0:
            sources = wave.wave.source[[conflict.first, conflict.second]]
            if sources[0] == sources[1] == conflict.first_use[0]:
                break  # which of two injections comes first is a symmetry, this optimum may have the other order
        children = wave.branch(conflict)
        for child in children:
            assert not all(wave.keeps(agent, paths[agent], constraint) for agent, constraint in child)
        kept = [c for c in children if all(wave.keeps(agent, best[agent], constraint) for agent, constraint in c)]
        assert kept
        if isinstance(conflict, Crowd):
            assert len(kept) == 1  # children of a crowd share no solution
        for agent, constraint in kept[0]:
            constraints[agent].append(constraint)


def timed(wave: Wave, routes: np.ndarray, start: np.ndarray) -> list[TimedRoute]:
    """Routes with given starts."""
    found = []
    for agent, nodes in enumerate(routes.tolist()):
        of_source = RoutesFrom(wave.problem, wave.placement, nodes[0], rests=True)
        at = [tuple(each) for each in of_source.nodes.tolist()].index(tuple(nodes))
        tasks = of_source.tasks(at)
        starts = tuple(start[agent].tolist())
        leave = tuple(s + task.hold for s, task in zip(starts, tasks, strict=True))
        stages = tuple(of_source.stages[at].tolist())
        found.append(TimedRoute(tuple(nodes), stages, starts, leave, starts[-1] + tasks[-1].duration))
    return found


@pytest.mark.parametrize("seed", [2, 3, 5, 8, 10, 17, 27, 28])
def test_the_first_plan_does_not_change_the_optimum(seed: int) -> None:
    problem = draw_wave(seed)
    plain = solve(problem, orders=0, time_limit=20.0)
    assert plain.proven
    assert plain.cost == solve(problem, orders=50).cost


@pytest.mark.parametrize("seed", [3, 5, 8, 17])
def test_the_choice_of_conflict_does_not_change_the_optimum(seed: int) -> None:
    """The plain engine, without appraisal, bypass or kept paths, proves the same value."""
    problem = draw_wave(seed, agents=(2, 3))
    full = ConflictFreeWave(wave_of(problem, None, None))

    class Plain:
        agents = full.agents
        plan, cost, conflict, branch = full.plan, full.cost, full.conflict, full.branch

    found = conflict_search(Plain(), objective="max", time_limit=20.0)  # type: ignore[arg-type]
    assert found.proven
    assert found.cost == solve(problem).cost


@settings(max_examples=10, deadline=None)
@given(seed=seeds, nodes=st.integers(0, 30), objective=st.sampled_from(["max", "sum"]))
def test_a_stopped_search_still_has_a_bound(seed: int, nodes: int, objective: str) -> None:
    problem = draw_wave(seed, agents=(2, 4))
    stopped = solve(problem, objective=objective, node_limit=nodes)
    exact = solve_exact(problem, objective=objective, tick=TICK, time_limit=5.0)
    if exact.proven:
        assert stopped.bound <= exact.cost <= stopped.cost


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_agents_one_after_another_give_a_wave(seed: int) -> None:
    wave = ConflictFreeWave(wave_of(draw_wave(seed), None, None))
    paths = prioritised(wave, orders=20, seed=seed)
    assert paths is None or broken(wave.wave, paths) == []


def test_a_single_microbatch_takes_its_cheapest_route() -> None:
    problem = draw_wave(4)
    found = solve(problem, agents=1)
    wave = wave_of(problem, None, 1)
    routes = RoutesFrom(problem, wave.placement, int(wave.source[0]), rests=True)
    assert found.cost == routes.cost[0] and found.proven


def test_nothing_below_the_optimum() -> None:
    problem = draw_wave(1)
    optimum = solve(problem).cost
    below = solve(problem, upper_bound=optimum - TICK)
    assert below.paths is None and below.bound > optimum - TICK
    assert solve(problem, upper_bound=optimum).cost == optimum


def test_a_stage_that_nobody_may_visit_but_everybody_must_is_infeasible() -> None:
    problem = draw_wave(2)  # visits all of its stages
    assert problem.route_length == problem.n_stages
    caps = problem.stage_cap.copy()
    caps[1] = 0
    found = solve(replace(problem, stage_cap=caps))
    assert found.paths is None and found.proven and found.bound == float("inf")


def test_two_injections_of_a_source_are_in_the_order_of_their_releases() -> None:
    problem = draw_wave(11)
    wave = ConflictFreeWave(wave_of(problem, None, None))
    i, j = (a for a in range(wave.agents) if wave.wave.source[a] == wave.wave.source[0] and wave.wave.rank[a] < 2)
    use = (int(wave.wave.source[0]), FORWARD)
    conflict = Overlap(i, use, (0.0, 5 * TICK), j, use, (4 * TICK, 9 * TICK))
    assert wave.branch(conflict) == [[(j, Closed(use, 4 * TICK, 5 * TICK))]]


def test_one_of_a_crowd_goes_elsewhere_and_those_before_it_come() -> None:
    wave = ConflictFreeWave(wave_of(draw_wave(11), None, None))
    children = wave.branch(Crowd((0, 2, 3), frozenset((5,))))
    assert [len(child) for child in children] == [1, 2, 3]
    assert children[2][:2] == [(0, Here(frozenset((5,)))), (2, Here(frozenset((5,))))]


def test_tasks_of_no_duration_are_refused() -> None:
    problem = draw_wave(0)
    with pytest.raises(ValueError, match="positive"):
        solve(replace(problem, loss=np.zeros(problem.n_nodes)))


def test_a_placement_is_needed() -> None:
    with pytest.raises(ValueError, match="placement"):
        solve(replace(draw_wave(0), placement=None))


def test_more_agents_than_slots_are_refused() -> None:
    problem = replace(draw_wave(0), source_cap=50)
    with pytest.raises(ValueError, match="one wave"):
        solve(problem, agents=40)
