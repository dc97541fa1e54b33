"""Mutations of a plan's decisions: routes, placement, releases. See `pathloom.worlds.train.mutate`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from pathloom.plan import Plan
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, WEIGHT, Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.rigid_trips import plan_of, rigid_timeline

Mutant = tuple[Plan, str, bool]
"""The mutated plan, what was done to it, and whether no other rule than the intended one is broken."""


def broken_route_rules(problem: TrainProblem, decisions: TrainDecisions) -> set[str]:
    """Route rules that the decisions break, found by plain loops over microbatches."""
    found = set()
    budget, s, chunks = problem.reordering, problem.n_stages, decisions.chunks
    placement = [int(p) for p in decisions.placement]
    starts: Counter[int] = Counter()
    comes: Counter[int] = Counter()
    passes: Counter[int] = Counter()
    for route, stages in zip(decisions.routes.tolist(), decisions.stages.tolist()):
        if stages[0] != 0:
            found.add("CC-a")
        if len(stages) != problem.route_length * chunks or len(set(stages)) < len(stages):
            found.add("CC-b")
        frontier, swaps = stages[0], []
        for stage in stages[1:]:
            if stage < frontier:
                swaps.append(frontier - stage)
            if chunks == 1 and stage - frontier > budget.jump:
                found.add("CC-d")
            frontier = max(frontier, stage)
        if chunks > 1:
            if any(later < earlier for earlier, later in pairwise(stages)):
                found.add("CC-c")
        elif max(swaps, default=0) > budget.distance or len(swaps) > budget.swaps or sum(swaps) > budget.total:
            found.add("CC-c")
        if any(placement[node] != stage % s for node, stage in zip(route, stages)):
            found.add("placement")
        starts[route[0]] += 1
        comes.update(set(route))
        passes.update({stage % s for stage in stages})
    if max(starts.values()) > problem.source_cap:
        found.add("TC1-source")
    if any(count > problem.stage_cap[p] for p, count in passes.items()):
        found.add("TC1-stage")
    if any(count > problem.node_cap[n] and placement[n] != 0 for n, count in comes.items()):
        found.add("TC1-node")
    if [placement.count(p) for p in range(s)] != [int(size) for size in problem.stage_sizes]:
        found.add("placement")
    if problem.placement is not None and placement != [int(p) for p in problem.placement]:
        found.add("placement")
    return found


def _timed(problem: TrainProblem, plan: Plan, rule: str, what: str, **changes: Ints) -> Mutant | None:
    """The plan with other decisions and a timetable for them, if they break the rule."""
    decisions = replace(plan.decisions, **changes)
    broken = broken_route_rules(problem, decisions)
    if rule not in broken:
        return None
    # with whole stages that have no nodes there is nothing to synchronise, so sizes never drop to zero here
    if len(set(decisions.placement.tolist())) < problem.n_stages:
        return None
    timeline = rigid_timeline(problem, decisions)
    if timeline is None:
        return None
    mutant = replace(plan_of(problem, decisions, timeline, plan.method), settings=plan.settings, seed=plan.seed)
    return mutant, what, broken == {rule}


def _nodes_for(
    decisions: TrainDecisions, s: int, old: Sequence[int], row: Sequence[int], rng: np.random.Generator
) -> list[int]:
    """A node for each stage of a route: the old one where it serves, else any of the stage's."""
    placement = decisions.placement
    keeps = {int(placement[n]): int(n) for n in old}
    return [
        keeps[p % s] if p % s in keeps and rng.random() < 0.7 else int(rng.choice(np.flatnonzero(placement == p % s)))
        for p in row
    ]


def reroute(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """One microbatch takes a route that breaks CC-a, CC-b, CC-c or CC-d."""
    decisions: TrainDecisions = plan.decisions
    s, stages, routes = problem.n_stages, decisions.stages.copy(), decisions.routes.copy()
    b, k = stages.shape
    m = int(rng.integers(b))
    row = [int(p) for p in stages[m]]
    virtual = s * decisions.chunks
    unvisited = [p for p in range(virtual) if p not in row]
    if rule == "CC-a" and unvisited:
        row[0] = int(rng.choice(unvisited))
    elif rule == "CC-b" and k > 2:
        at, again = rng.choice(np.arange(1, k), 2, replace=False)
        row[at] = row[again]
    elif rule == "CC-c" and k > 2:
        row[1:] = rng.permutation(row[1:]).tolist()
    elif rule == "CC-d" and k > 1:
        row[1:] = np.sort(rng.choice(np.arange(1, virtual), k - 1, replace=False)).tolist()
    else:
        return None
    stages[m], routes[m] = row, _nodes_for(decisions, s, decisions.routes[m].tolist(), row, rng)
    return _timed(problem, plan, rule, f"mb{m} visits stages {row}", stages=stages, routes=routes)


def wrong_length(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """CC-b: all routes are one visit too short."""
    decisions: TrainDecisions = plan.decisions
    if decisions.routes.shape[1] < 2:
        return None
    what = "the last visit of every route is left out"
    return _timed(problem, plan, rule, what, stages=decisions.stages[:, :-1], routes=decisions.routes[:, :-1])


def _elsewhere(
    problem: TrainProblem, plan: Plan, task: tuple[int, int, int], rng: np.random.Generator
) -> tuple[Plan, str] | None:
    """One task is done by another node than the route's, and everything is timed for that."""
    decisions: TrainDecisions = plan.decisions
    m, kind, visit = task
    home = int(decisions.routes[m, max(visit, 0)])
    other = int(rng.choice([n for n in range(problem.n_nodes) if n != home]))
    timeline = rigid_timeline(problem, decisions, moved={task: other})
    if timeline is None:
        return None
    return plan_of(problem, decisions, timeline, plan.method), f"task {kind}, {visit} of mb{m} is done by node {other}"


def head_elsewhere(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """CC-a: a loss or a last backward pass is not done where the microbatch started."""
    m = int(rng.integers(problem.microbatches))
    kind, visit = [(LOSS, -1), (BACKWARD, 0)][rng.integers(2)]
    found = _elsewhere(problem, plan, (m, kind, visit), rng)
    return None if found is None else (*found, True)


def task_elsewhere(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """completeness: a task is done by another node than the route says."""
    decisions: TrainDecisions = plan.decisions
    m, visit = int(rng.integers(problem.microbatches)), int(rng.integers(decisions.routes.shape[1]))
    kinds = [FORWARD] + [BACKWARD] * (visit > 0) + [WEIGHT] * decisions.split_backward
    found = _elsewhere(problem, plan, (m, int(rng.choice(kinds)), visit), rng)
    return None if found is None else (*found, True)


def over_source_cap(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """TC1-source: one microbatch more than allowed starts at a node."""
    decisions: TrainDecisions = plan.decisions
    routes = decisions.routes.copy()
    source = int(rng.choice(np.flatnonzero(decisions.placement == 0)))
    others = rng.permutation(np.flatnonzero(routes[:, 0] != source))
    need = problem.source_cap + 1 - (len(routes) - len(others))
    if need > len(others):
        return None
    routes[others[:need], 0] = source
    return _timed(problem, plan, rule, f"{problem.source_cap + 1} microbatches start at node {source}", routes=routes)


def over_node_cap(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """TC1-node: one microbatch more than allowed visits a node."""
    decisions: TrainDecisions = plan.decisions
    routes, s = decisions.routes.copy(), problem.n_stages
    if s < 2:
        return None
    node = int(rng.choice(np.flatnonzero(decisions.placement != 0)))
    host = decisions.stages % s == decisions.placement[node]
    others = rng.permutation(np.flatnonzero(host.any(axis=1) & (routes != node).all(axis=1)))
    need = int(problem.node_cap[node]) + 1 - int((routes == node).any(axis=1).sum())
    if need > len(others):
        return None
    for m in others[:need]:
        routes[m, int(rng.choice(np.flatnonzero(host[m])))] = node
    return _timed(problem, plan, rule, f"{problem.node_cap[node] + 1} microbatches visit node {node}", routes=routes)


def over_stage_cap(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """TC1-stage: one microbatch more than allowed visits a stage."""
    decisions: TrainDecisions = plan.decisions
    routes, stages, s = decisions.routes.copy(), decisions.stages.copy(), problem.n_stages
    if s < 2:
        return None
    stage = int(rng.integers(1, s))
    others = rng.permutation(np.flatnonzero((stages % s != stage).all(axis=1)))
    need = int(problem.stage_cap[stage]) + 1 - (len(stages) - len(others))
    if need > len(others) or stages.shape[1] < 2:
        return None
    for m in others[:need]:
        row = stages[m].tolist()
        row[int(rng.integers(1, len(row)))] = stage + s * int(rng.integers(decisions.chunks))
        row[1:] = sorted(row[1:])
        stages[m], routes[m] = row, _nodes_for(decisions, s, routes[m].tolist(), row, rng)
    what = f"{problem.stage_cap[stage] + 1} microbatches visit stage {stage}"
    return _timed(problem, plan, rule, what, routes=routes, stages=stages)


def nodes_swapped(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """placement: two nodes of different stages change places, with or without the routes that use them."""
    decisions: TrainDecisions = plan.decisions
    if problem.n_stages < 2:
        return None
    p, q = rng.choice(problem.n_stages, 2, replace=False)
    i, j = (int(rng.choice(np.flatnonzero(decisions.placement == stage))) for stage in (p, q))
    placement, routes = decisions.placement.copy(), decisions.routes.copy()
    placement[[i, j]] = placement[[j, i]]
    if problem.placement is not None and rng.random() < 0.5:  # only the given placement is broken then
        routes[decisions.routes == i], routes[decisions.routes == j] = j, i
    return _timed(problem, plan, rule, f"nodes {i} and {j} change stages", placement=placement, routes=routes)


def stage_resized(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """placement: a node goes over to another stage."""
    placement = plan.decisions.placement.copy()
    node, stage = int(rng.integers(problem.n_nodes)), int(rng.integers(problem.n_stages))
    placement[node] = stage
    return _timed(problem, plan, rule, f"node {node} goes over to stage {stage}", placement=placement)


def visit_misplaced(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """placement: a microbatch visits a stage at a node that is not in it."""
    routes = plan.decisions.routes.copy()
    m, visit, node = (int(rng.integers(high)) for high in (*routes.shape, problem.n_nodes))
    routes[m, visit] = node
    return _timed(problem, plan, rule, f"visit {visit} of mb{m} is at node {node}", routes=routes)


def unlinked(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """link: a route goes where there is no link."""
    decisions: TrainDecisions = plan.decisions
    routes = decisions.routes.copy()
    m, visit = (int(rng.integers(high)) for high in routes.shape)
    routes[m, visit] = rng.choice(np.flatnonzero(decisions.placement == decisions.placement[routes[m, visit]]))
    changed = replace(decisions, routes=routes)
    ring = np.append(routes[m], routes[m, 0])
    there, back = problem.link[ring[:-1], ring[1:]], problem.link[ring[1:], ring[:-1]]
    if not (np.isinf(there) | np.isinf(back)).any():
        return None
    timeline = rigid_timeline(problem, changed, missing_link=float(rng.uniform(0.0, 1.0)))
    if timeline is None:
        return None
    what = f"visit {visit} of mb{m} is at node {routes[m, visit]}, where a link is missing"
    return plan_of(problem, changed, timeline, plan.method), what, not broken_route_rules(problem, changed)


def slots_ignored(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """memory: the timetable is made as if memory had no end."""
    decisions: TrainDecisions = plan.decisions
    order = rng.permutation(problem.microbatches).tolist()
    timeline = rigid_timeline(problem, decisions, memory=False, order=order)
    if timeline is None:
        return None
    tolerance = 1e-4 * timeline.makespan
    freeing = WEIGHT if decisions.split_backward else BACKWARD
    visits = timeline.columns["visit"]
    task = {
        (int(timeline.item[i]), int(timeline.kind[i]), int(visits[i])): i
        for i in range(len(timeline))
        if timeline.kind[i] in (FORWARD, freeing)
    }
    for node in range(problem.n_nodes):
        held = [
            (float(timeline.start[i]), float(timeline.end[task[m, freeing, visit]]))
            for (m, kind, visit), i in task.items()
            if kind == FORWARD and timeline.resource[i] == node
        ]
        most = max((sum(since <= at and at + tolerance < until for since, until in held) for at, _ in held), default=0)
        if most > problem.memory[node] * decisions.chunks:
            what = f"node {node} holds {most} activations"
            return plan_of(problem, decisions, timeline, plan.method), what, True
    return None
