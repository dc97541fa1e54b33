"""Method "pathloom": joint search over placement, routes and order of work, judged by the exact simulator.

Simulated annealing on all cores. A state is a placement, one route a group of microbatches, and small shifts of the
first-come-first-served order; every move is judged by simulating the whole iteration (tens of microseconds for 30
microbatches), so what is optimised is exactly what is paid. Groups shrink from level to level: first all microbatches
of a source share a route (few decisions, and often a collision-free pattern), then waves, then each goes its own way.
With many microbatches a coarse level simulates only the first waves of each group.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from threading import Lock

import numpy as np

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress, ProvenInfeasible, stop_requested
from pathloom.worlds.train import _route_kernels as kernels
from pathloom.worlds.train.bounds import LowerBound, lower_bound
from pathloom.worlds.train.dtfm_placement import dtfm_placement
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.route_annealing import Arena, State, anneal, decisions_of, first_come
from pathloom.worlds.train.route_start import (
    block_start,
    deal_routes,
    dealt_placement,
    group_microbatches,
    source_quota,
)
from pathloom.worlds.train.simulator import plan_of

METHOD = "pathloom"
HOT, WARM, COLD = 0.02, 0.004, 0.0006  # temperatures as fractions of the iteration time
MISSES = 100  # open placements without routes under the caps after which no other one is tried
LARGE = 20_000  # tasks above which a coarse level simulates only some waves


@dataclass
class _Best:
    """The best complete state that any core has found."""

    state: State | None = None
    lock: Lock = field(default_factory=Lock)

    def offer(self, state: State) -> None:
        if not state.complete or state.value >= kernels.STUCK:
            return
        with self.lock:
            if self.state is None or state.value < self.state.value - 1e-9:
                self.state = state


def _start(arena: Arena, quota_size: int | None, turn: int, rng: np.random.Generator) -> State | None:
    """A starting state: a placement, and routes for groups of `quota_size` microbatches (None: a source's all)."""
    problem = arena.problem
    tasks = problem.microbatches * (2 * problem.route_length + 1)
    most = None if tasks <= LARGE else 2 * int(np.median(problem.memory))
    if problem.placement is None and quota_size is None and turn % 5 != 4:
        even = -(-problem.microbatches // int(problem.stage_sizes[0]))
        blocks = block_start(problem, even, rng=rng)
        if blocks is not None:
            groups = group_microbatches(source_quota(problem, blocks[0]), even, most)
            if len(groups.source) == len(blocks[1]) and groups.count.max() <= even:
                return State(*blocks, groups, first_come(problem, groups.rows))
    if problem.placement is not None:
        placement = np.array(problem.placement)
    elif turn % 3 == 2 and problem.n_nodes <= 64:
        placement = dtfm_placement(problem, trials=400, population=50, seed=int(rng.integers(1 << 30))).placement
    else:
        placement = dealt_placement(problem, rng=rng)
    quota = source_quota(problem, placement)
    size = int(quota.max()) if quota_size is None else quota_size
    groups = group_microbatches(quota, size, None if most is None else max(1, most * size // int(quota.max())))
    dealt = deal_routes(problem, placement, groups, cheapest=turn % 4 != 3, rng=rng)
    if dealt is None:
        return None
    return State(placement, *dealt, groups, first_come(problem, groups.rows))


def _refine(problem: TrainProblem, state: State, size: int) -> State:
    """The same plan with smaller groups, so that each may then go its own way."""
    quota = np.bincount(
        state.groups.source, weights=state.groups.count, minlength=int(state.groups.source.max()) + 1
    ).astype(np.int64)
    groups = group_microbatches(quota, size)
    # new groups of a source inherit, in turn, the routes of its old ones in proportion to their sizes
    parent = np.empty(len(groups.source), dtype=np.int64)
    for s in range(len(quota)):
        old = np.flatnonzero(state.groups.source == s)
        left = state.groups.count[old].astype(np.int64).copy()
        for g in np.flatnonzero(groups.source == s):
            i = int(left.argmax())
            fits = np.flatnonzero(left >= groups.count[g])
            if len(fits):
                i = int(fits[int(np.argmax(left[fits]))])
            parent[g] = old[i]
            left[i] -= groups.count[g]
    routes, stages = state.routes[parent].copy(), state.stages[parent].copy()
    # a source stays one source: SOURCE moves change routes[:, 0], not the group's own index
    return State(state.placement.copy(), routes, stages, groups, first_come(problem, groups.rows))


def pathloom(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    threads: int | None = None,
    iterations: int | None = None,
    bound: LowerBound | None = None,
) -> Plan:
    """Plan an iteration: placement (where it is open), routes and order of work.

    Parameters
    ----------
    time_limit
        Seconds of wall time, the lower bound included; compiling the kernels, once after an installation, is not.
    threads
        Cores to use, all that this process may use by default.
    iterations
        Moves of each annealing run instead of the clock: the plan then depends on the seed alone.
    bound
        Lower bound of the problem where it is known already.

    Raises
    ------
    ProvenInfeasible
        If the lower bound shows that there is no plan.
    NoPlanFound
        If no state in which all microbatches return was found.
    """
    if iterations is None:
        _compile()
    began = time.perf_counter()
    deadline = began + time_limit
    cores = threads or _cores()
    arena = Arena.of(problem)
    best = _Best()
    sequence = np.random.SeedSequence(seed)
    bound_share = began + 0.3 * time_limit
    proven: list[LowerBound] = [bound] if bound is not None else []

    def work(worker: int, rng: np.random.Generator) -> None:
        _search(arena, best, worker, rng, deadline, iterations)

    with ThreadPoolExecutor(cores + 1) as pool:
        jobs = [pool.submit(work, i, np.random.default_rng(s)) for i, s in enumerate(sequence.spawn(cores))]
        if bound is None:
            bound_job = pool.submit(lower_bound, problem, time_limit=bound_share - began)
        while not all(job.done() for job in jobs):
            time.sleep(0.05)
            if bound is None and bound_job.done() and not proven:
                proven.append(bound_job.result())
            if on_progress is not None:
                on_progress(
                    Progress(
                        time.perf_counter() - began,
                        best.state.value if best.state else None,
                        proven[0].value if proven else None,
                        METHOD,
                    )
                )
        for job in jobs:
            job.result()
        if not proven:
            proven.append(bound_job.result())
    if proven[0].value == np.inf:
        raise ProvenInfeasible("routes", proven[0].by)
    if best.state is None:
        raise NoPlanFound(f"{METHOD}: found no plan in which every microbatch returns within {time_limit:g} s")
    return plan_of(
        problem,
        decisions_of(problem, best.state),
        method=METHOD,
        seed=seed,
        seconds=time.perf_counter() - began,
        settings={"time_limit": time_limit, "threads": cores, "iterations": iterations},
        bound=(proven[0].value, proven[0].by),
    )


@cache
def _compile() -> None:
    """Compile or load the kernels on a problem of four nodes, so that the clock measures search."""
    n, s = 4, 2
    ones = np.ones((n, s))
    tiny = TrainProblem(
        name="tiny",
        nodes=tuple("abcd"),
        locations=tuple("abcd"),
        forward=ones,
        backward=ones,
        weight=0.5 * ones,
        loss=np.ones(n),
        link=1.0 - np.eye(n),
        memory=np.ones(n, dtype=np.int64),
        stage_sizes=np.array([2, 2]),
        microbatches=4,
        route_length=2,
        source_cap=2,
        stage_cap=np.array([4, 4]),
        node_cap=np.full(n, 4),
    )
    pathloom(tiny, time_limit=1.0, threads=1, iterations=1, bound=LowerBound(0.0, "none"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _search(
    arena: Arena, best: _Best, worker: int, rng: np.random.Generator, deadline: float, iterations: int | None
) -> None:
    """One core's share: runs from fresh starts through ever smaller groups, then runs from the best state."""
    problem = arena.problem
    begin = time.perf_counter()
    total = max(deadline - begin, 1e-3)
    quota = -(-problem.microbatches // int(problem.stage_sizes[0]))
    pair = max(1, quota // max(1, int(np.median(problem.memory))))
    ladders: list[list[int | None]] = [[pair, 1], [None, 1], [1], [None, pair, 1]]
    if problem.microbatches * (2 * problem.route_length + 1) > LARGE:
        ladders = [[None, None, pair]]
    turn, misses = worker, 0
    fresh_until = begin + 0.75 * total
    run_length = max(2.0, min(8.0, total / 4)) if len(ladders) > 1 else total
    rounds = 0
    while True:
        now = time.perf_counter()
        if (iterations is not None and rounds >= len(ladders)) or stop_requested():
            break
        if iterations is None and rounds > 0 and now >= fresh_until:
            break
        ladder = ladders[turn % len(ladders)]
        state = _start(arena, ladder[0], turn, rng)
        if state is None:  # groups as large as these do not fit under the caps, so do not go back to them later
            ladder = [1]
            state = _start(arena, 1, turn, rng)
        if state is None:
            if problem.placement is not None:
                raise ProvenInfeasible("TC1", "no choice of stages for all microbatches keeps the caps")
            misses += 1
            if misses == MISSES:
                break
            turn += 1
            continue
        end = min(now + run_length, deadline if len(ladders) == 1 else max(fresh_until, now + 0.5 * run_length))
        for level, size in enumerate(ladder):
            if level > 0:
                state = _refine(problem, state, size or quota)
            share = now + (end - now) * (level + 1) / len(ladder)
            state = anneal(
                arena, state, hot=HOT if level == 0 else WARM, cold=COLD, until=share,
                order_moves=state.complete and level == len(ladder) - 1, rng=rng, iterations=iterations,
                report=best.offer,
            )  # fmt: skip
            best.offer(state)
        turn += 1
        rounds += 1
    while best.state is not None and time.perf_counter() < deadline and iterations is None and not stop_requested():
        start = best.state
        state = State(start.placement, start.routes, start.stages, start.groups, start.key)
        until = min(deadline, time.perf_counter() + max(1.0, 0.12 * total))
        state = anneal(
            arena, state, hot=WARM * float(rng.uniform(0.3, 1.0)), cold=COLD / 2, until=until, order_moves=True,
            rng=rng, iterations=None, report=best.offer,
        )  # fmt: skip
