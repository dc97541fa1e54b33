"""The best collision-free wave: routes and times of a few microbatches, exactly, by conflict search.

SkipPipe plans the microbatches of one wave so that they never meet at a node (TC2), and prunes its tree by rules of
thumb. This is the same problem without the rules of thumb, for the general engine `pathloom.search.conflict_search`:
least largest return (or least sum of returns) over all routes that keep CC-a to CC-d and TC1, and all timetables in
which no two tasks of any kind overlap on a node. A microbatch may wait before every task, off the node.

A node's rest after a task (`gap`, `injection_gap`) belongs to the task's hold of the node: the next task starts after
it. So the timetable is one that the nodes can keep, and the checker's.

`wave_conflicts` says how conflicts are resolved without losing a solution.

What makes it fast enough to prove: `solve` first plans the agents one after another in many orders (`prioritised`), and
then searches only for something better, so that the many nodes that cost as much as the optimum are never opened; and
the overlap to resolve is the one whose children cost most (E. Boyarski et al., "ICBS: Improved conflict-based search
algorithm for multi-agent pathfinding", IJCAI 2015), the cheaper child being a bound of the node. A child that cannot
be in time costs infinitely much in this comparison. So tight times make better choices, and the search goes in rounds:
is there a wave by the deadline? If not, the next deadline is the least that the round has not excluded, or a growing
step further, up to the plan at hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, nextafter

import numpy as np
from numpy.typing import NDArray

from pathloom.search.conflict_search import ConflictSolution, conflict_search
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.timed_routes import TimedRoute, merged, overlap_window
from pathloom.worlds.train.wave import Wave, first_wave
from pathloom.worlds.train.wave_conflicts import ConflictFreeWave, Constraint, Elsewhere


def solve(
    problem: TrainProblem,
    *,
    placement: NDArray[np.int64] | None = None,
    agents: int | None = None,
    objective: str = "max",
    time_limit: float = inf,
    node_limit: int | None = None,
    upper_bound: float = inf,
    orders: int = 100,
    seed: int = 0,
    on_progress: Callable[[float, int], None] | None = None,
) -> ConflictSolution[TimedRoute]:
    """The best collision-free wave of a problem.

    Parameters
    ----------
    placement
        Shape (N,): stage of each node; None takes the problem's.
    agents
        Number of microbatches; None takes the first wave of the whole iteration, whose routes count towards TC1 as
        often as the iteration repeats them.
    objective
        "max" for the latest return, "sum" for the sum of the returns.
    time_limit, node_limit, upper_bound, on_progress
        See `conflict_search`.
    orders, seed
        Orders of the agents that `prioritised` tries before the search, 0 for none, and the seed of their choice.

    Raises
    ------
    ValueError
        If there is no placement, or a task has no duration.
    """
    began = time.perf_counter()
    wave = ConflictFreeWave(wave_of(problem, placement, agents), objective)
    known = prioritised(wave, orders=orders, seed=seed, deadline=began + time_limit)
    cost = wave.total(known) if known is not None else inf
    ceiling = min(upper_bound, nextafter(cost, -inf))
    step, deadline, bound, expanded, generated = 0.0, 0.0, 0.0, 0, 0
    while True:
        found = conflict_search(
            wave,
            objective=objective,
            time_limit=time_limit - (time.perf_counter() - began),
            node_limit=None if node_limit is None else node_limit - expanded,
            upper_bound=deadline,
            on_progress=on_progress,
        )
        expanded, generated = expanded + found.expanded, generated + found.generated
        bound = max(bound, found.bound)  # of every round: one that is stopped early may know less than those before it
        if found.paths is not None or found.bound <= deadline or found.bound == inf or deadline >= ceiling:
            break
        # Nothing ends by this deadline: try the next one that could do, in growing steps.
        deadline = min(max(found.bound, deadline + step), ceiling)
        step = max(2 * step, 1e-3 * found.bound)
    seconds = time.perf_counter() - began
    result = replace(found, bound=bound, expanded=expanded, generated=generated, seconds=seconds)
    if found.paths is not None or known is None or cost > upper_bound:
        return result
    bound = min(bound, cost)
    return replace(result, paths=tuple(known), cost=cost, bound=bound, proven=bound >= cost)


def prioritised(
    wave: ConflictFreeWave, *, orders: int, seed: int = 0, deadline: float = inf
) -> list[TimedRoute] | None:
    """A collision-free wave: agents planned one after another around those before them, in the best of many orders.

    Each order differs from the best one so far by one agent that moves to another place. None if none led to a wave.
    """
    draw = np.random.default_rng(seed)
    alone = [wave.plan(agent, ()) for agent in range(wave.agents)]
    best_order = sorted(range(wave.agents), key=lambda a: -(inf if (path := alone[a]) is None else path.end))
    best: list[TimedRoute] | None = None
    best_cost = inf
    floor = inf if None in alone else wave.total([path for path in alone if path is not None])
    for attempt in range(orders):
        if time.perf_counter() > deadline or best_cost <= floor:
            break
        order = list(best_order)
        if attempt > 0:
            order.insert(int(draw.integers(len(order))), order.pop(int(draw.integers(len(order)))))
        paths = one_after_another(wave, order)
        if paths is None:
            continue
        cost = wave.total(paths)
        if cost <= best_cost:
            best, best_cost, best_order = paths, cost, order
    return best


def one_after_another(problem: ConflictFreeWave, order: Sequence[int]) -> list[TimedRoute] | None:
    """Plan the agents in this order, each around those before it; None if one finds no way under TC1."""
    wave, placement = problem.wave, problem.wave.placement
    found: dict[int, TimedRoute] = {}
    closed: dict[int, list[tuple[float, float]]] = {}
    by_stage: list[list[int]] = [[] for _ in problem.members]
    by_node: dict[int, list[int]] = {n: [] for members in problem.members[1:] for n in members}
    for agent in order:
        routes = problem.routes[int(wave.source[agent])]
        full = {n for n, visitors in by_node.items() if wave.overload([*visitors, agent], n)}
        for p, visitors in enumerate(by_stage):
            if p > 0 and wave.stage_overload([*visitors, agent], p):
                full |= problem.members[p]
        elsewhere: frozenset[Constraint] = frozenset((Elsewhere(frozenset(full)),)) if full else frozenset()
        windows = merged(
            (use, *overlap_window(low, high, hold))
            for n, spans in closed.items()
            for use, hold in routes.holds(n, int(placement[n]))
            for low, high in spans
        )
        path = routes.cheapest(float(wave.offset[agent]), windows, problem.candidates(agent, elsewhere))
        if path is None:
            return None
        found[agent] = path
        for n, p in zip(path.nodes[1:], path.stages[1:], strict=True):
            by_stage[p].append(agent)
            by_node[n].append(agent)
        for (n, _), start, leave in zip(path.uses, path.start, path.leave, strict=True):
            closed.setdefault(n, []).append((start, leave))
    return [found[agent] for agent in range(problem.agents)]


def wave_of(problem: TrainProblem, placement: NDArray[np.int64] | None, agents: int | None) -> Wave:
    """The wave that `solve` is about: no node gets more agents than it has memory, so none ever waits for a slot.

    Raises
    ------
    ValueError
        If neither the problem nor the caller gives a placement, or there are more agents than slots of one wave.
    """
    stage = problem.placement if placement is None else placement
    if stage is None:
        raise ValueError("the problem has no placement: give one")
    wave = first_wave(problem, stage, agents=agents)
    wave = replace(wave, slots=np.asarray(problem.memory, dtype=np.int64))
    if agents is not None and wave.agents < agents:
        raise ValueError(f"one wave has {wave.agents} agents at most under the memory of its sources, not {agents}")
    return wave
