"""SkipPipe's path scheduler: conflict search over the microbatches of a wave, in three phases.

Source: N. Blagoev, L. Y. Chen, O. Ersoy, "SkipPipe: Partial and Reordered Pipelining Framework for Training LLMs in
Heterogeneous Networks", 2025, and the scheduler that the authors published with it. Agents are the microbatches of one
wave (`wave`); an agent's path is a route with its times (`timed_routes`); the cost of a node of the constraint tree is
the latest return of any agent. Three kinds of conflicts are resolved one after the other:

A. a stage that too many agents visit: some of them may not visit it (at most three alternatives, the fastest agents
   first, so that the slow ones keep their way). This goes on until 32 different assignments of stages are found;
B. from these, with the stages fixed: a node that too many agents visit (at most two alternatives, likewise);
C. from nodes of the tree that keep TC1: two tasks that overlap on a node. Pairs of agents are looked at slowest first;
   one of the two, or either, may not use the node while the other does. Overlapping backward passes are left alone;
   where one task is a backward pass (or the loss) the one that comes earlier keeps its time.

Each child of phase C is simulated as a whole iteration in which every wave repeats the routes. It stays in the tree if
it is at most 5 s slower than the best so far. The search ends after eight collision-free nodes, or when an iteration
is below 0.88 of the first one, or when nothing is left; the best iteration simulated is the plan.

The search itself is `phased_search`: its phases restart the tree, limit their alternatives and judge children by
simulation, so they need a loop of their own. It shares agents, constraints and the single-agent search with
`conflict_free`, the exact search on the general engine.

Departures, and why:

* Single agents: routes are listed once and walked in the order of their cost (`timed_routes`), which finds the cost
  that the authors' best-first search finds; and only agents whose constraints changed are planned again.
* An interval forbids overlap; a task may end at the very moment when the interval begins (theirs may not).
* Agents that cannot give a stage up make a node hopeless only if they are too many for that stage. The authors count
  such agents of all stages, which throws solvable nodes away.
* Nodes of the tree that keep TC1 are simulated too, not only their children, so that there is a plan early. A child of
  phase C whose agent has moved to a full node stays in the tree, but does not become the plan (theirs may).
* Phase C does not search the same set of constraints twice.
* Caps are those of the problem for the whole iteration; an agent counts as often as the iteration repeats its route.
  Where they amount to the memory of a node, that also bounds the agents of a wave that visit it, so that no order of
  work can run into a deadlock.
* Children are judged by the iteration that they would give, coarsened agents with all their microbatches.
* Where phase B finds nothing in 5,000 nodes, the assignments of phase A are repaired agent by agent, and the search
  goes on with them too; otherwise there would often be no plan at all.
* The search stops at the time limit with the best plan so far.
"""

from __future__ import annotations

import time

import numpy as np

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress
from pathloom.worlds.train.dtfm_placement import dtfm_placement
from pathloom.worlds.train.phased_search import PhasedSearch, SkipPipeSettings
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.simulator import plan_of
from pathloom.worlds.train.wave import first_wave


def skippipe(
    problem: TrainProblem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    collision_aware: bool = True,
    settings: SkipPipeSettings | None = None,
    node_limit: int | None = None,
) -> Plan:
    """Plan an iteration as SkipPipe does: placement as DT-FM's adapted, routes by conflict search.

    Parameters
    ----------
    time_limit
        Seconds of wall time for placement and search.
    seed
        Of the placement; the search itself draws nothing.
    collision_aware
        False leaves TC2 out of the search (phase C), the paper's variant without collision awareness.
    node_limit
        Nodes of the constraint tree after which the search stops; with it, and enough time, a plan depends on the
        problem and the seed alone.

    Raises
    ------
    NoPlanFound
        If the time passed before an assignment of nodes that keeps TC1 was found, or if there is none in the tree.
    ProvenInfeasible
        If the sources may not start all microbatches.
    """
    began = time.perf_counter()
    chosen = settings or SkipPipeSettings()
    name = "skippipe" if collision_aware else "skippipe-no-tc2"
    name = "skippipe-coarse" if chosen.copies > 1 and collision_aware else name
    if problem.placement is not None:
        placement = np.asarray(problem.placement, dtype=np.int64)
    else:
        share = chosen.placement_share * time_limit
        placement = dtfm_placement(problem, variant="skippipe", time_limit=share, seed=seed).placement
    reported = began

    def report(best: float | None, phase: str) -> None:
        nonlocal reported
        now = time.perf_counter()
        if on_progress is not None and now - reported >= 0.5:
            reported = now
            on_progress(Progress(now - began, best, phase=phase))

    wave = first_wave(problem, placement, copies=chosen.copies)
    search = PhasedSearch(wave, chosen, collision_aware, began + time_limit, node_limit, report)
    search.run()
    if search.best is None:
        raise NoPlanFound(f"{name}: no routes that keep TC1 found ({search.stopped_by}, {search.expanded} nodes)")
    seconds = time.perf_counter() - began
    if on_progress is not None:
        on_progress(Progress(seconds, search.best_seconds, phase="done"))
    return plan_of(
        problem,
        search.best,
        method=name,
        seed=seed,
        seconds=seconds,
        settings={
            "collision_aware": collision_aware,
            "copies": chosen.copies,
            "nodes": search.expanded,
            "collision_free": search.collision_free,
            "first": search.first_seconds,
            "stopped_by": search.stopped_by,
        },
    )


def skippipe_no_tc2(
    problem: TrainProblem, *, time_limit: float = 60.0, seed: int = 0, on_progress: OnProgress | None = None
) -> Plan:
    """`skippipe` without collision awareness: the first assignment of nodes that keeps TC1."""
    return skippipe(problem, time_limit=time_limit, seed=seed, on_progress=on_progress, collision_aware=False)


def skippipe_coarse(
    problem: TrainProblem, *, time_limit: float = 60.0, seed: int = 0, on_progress: OnProgress | None = None
) -> Plan:
    """`skippipe` with one agent a source: all microbatches of a source share a route, as in the schedule it ships."""
    copies = max(int(np.min(problem.memory)), 1)
    settings = SkipPipeSettings(copies=copies)
    return skippipe(problem, time_limit=time_limit, seed=seed, on_progress=on_progress, settings=settings)
