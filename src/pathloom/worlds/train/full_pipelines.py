"""Today's pipelines as baselines: GPipe, 1F1B, interleaved 1F1B, ZB-H1 and DT-FM, every microbatch through every stage.

Nodes are placed on stages by DT-FM's search and matched into parallel chains, one node a stage; microbatches are dealt
evenly over the chains. The methods differ in the order of work at a node. As in SkipPipe the head sits on stage 0: a
microbatch returns to its first node for the loss, so a pass through the pipeline costs one link more each way than in a
pipeline that ends in its loss. A node takes the loss when it arrives, whatever the schedule; the losses' places in the
strict orders below are found that way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pathloom.plan import NoPlanFound, OnProgress, Plan, Progress
from pathloom.schedule import pipelines
from pathloom.schedule.pipelines import Orders, StageTimes, execute
from pathloom.worlds.train.problem import Floats, Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.simulator import plan_of

DTFM_STAGGER = 0.1
"""Seconds by which SkipPipe's script releases each further wave of its full-pipeline baseline."""


def full_problem(problem: TrainProblem) -> TrainProblem:
    """The problem that a full pipeline solves: all S stages, caps wide enough for an even deal over its chains.

    A full pipeline does ``S / route_length`` times the compute of a plan that skips stages, so its iteration time
    compares with that of such a plan as what one would have done without skipping, not as another plan of the same
    problem. There are as many chains as the smallest stage has nodes; nodes of larger stages beyond that stay idle.
    The even deal keeps TC1 in the sense of its purpose (no node of a chain gets more than its share), so caps only
    ever widen to it and forbid the pipeline nothing.
    """
    share = -(-problem.microbatches // int(np.min(problem.stage_sizes)))
    return replace(
        problem,
        route_length=problem.n_stages,
        source_cap=max(problem.source_cap, share),
        stage_cap=np.full(problem.n_stages, problem.microbatches, dtype=np.int64),
        node_cap=np.maximum(problem.node_cap, share),
    )


def gpipe(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    placement: Ints | None = None,
) -> Plan:
    """GPipe: all forwards, then all backwards, in groups of as many microbatches as the chain's nodes can hold.

    This and the methods below plan `full_problem`; `time_limit` bounds the placement search, which is skipped
    where the problem or the argument `placement` (shape (N,)) gives one. They raise `NoPlanFound` where a chain needs a
    link that is missing.
    """
    return _strict(
        problem,
        "gpipe",
        lambda limits, m: pipelines.gpipe(len(limits), m, limits=limits),
        time_limit,
        seed,
        on_progress,
        placement,
    )


def one_f_one_b(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    placement: Ints | None = None,
) -> Plan:
    """1F1B: a warm-up of S - p + 1 forwards on stage p if memory allows, then a backward and a forward in turn."""
    return _strict(
        problem,
        "1f1b",
        lambda limits, m: pipelines.one_f_one_b(len(limits), m, limits=limits, loss_on_first=True),
        time_limit,
        seed,
        on_progress,
        placement,
    )


def interleaved(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    placement: Ints | None = None,
    chunks: int = 2,
) -> Plan:
    """Interleaved 1F1B: every node hosts `chunks` parts of the model, a microbatch passes the chain that many times."""
    return _strict(
        problem,
        "interleaved-1f1b",
        lambda limits, m: pipelines.interleaved(len(limits), m, chunks=chunks, limits=[chunks * x for x in limits]),
        time_limit,
        seed,
        on_progress,
        placement,
        chunks=chunks,
    )


def zb_h1(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    placement: Ints | None = None,
) -> Plan:
    """ZB-H1: 1F1B with the weight gradients split from the backward passes to fill the bubble."""
    return _strict(
        problem,
        "zb-h1",
        lambda limits, m: pipelines.zb_h1(len(limits), m, limits=limits),
        time_limit,
        seed,
        on_progress,
        placement,
        split=True,
    )


def dtfm(
    problem: TrainProblem,
    *,
    time_limit: float,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    placement: Ints | None = None,
) -> Plan:
    """DT-FM's full pipeline, first come, first served, as many microbatches under way as the source can hold.

    This is the "baseline" of SkipPipe's script, which gives each of its 3 chains 9 microbatches, 27 in all, where its
    partial pipelines do 30. Here all of ``problem.microbatches`` are dealt.
    """
    begin = time.monotonic()
    full = full_problem(problem)
    stage_of_node, chain_nodes = _chains(full, placement, time_limit, seed, on_progress, begin)
    decisions = first_come_first_served(full, stage_of_node, chain_nodes)
    return _finished(full, decisions, "dtfm", seed, begin, {}, on_progress)


def first_come_first_served(problem: TrainProblem, placement: Ints, chain_nodes: Ints) -> TrainDecisions:
    """Full pipelines through the chains, shape (S, C), released in waves of as many as the source can hold."""
    routes, position = _dealt(problem, chain_nodes)
    memory = np.asarray(problem.memory)[routes[:, 0]]
    return TrainDecisions(
        placement=placement,
        routes=routes,
        stages=_all_stages(problem, 1),
        release=np.asarray(DTFM_STAGGER * (position // memory), dtype=np.float64),
    )


def _strict(
    problem: TrainProblem,
    method: str,
    orders_of: Callable[[list[int], int], Orders],
    time_limit: float,
    seed: int,
    on_progress: OnProgress | None,
    placement: Ints | None,
    *,
    chunks: int = 1,
    split: bool = False,
) -> Plan:
    """Plan with the orders that ``orders_of(activations each stage can hold, microbatches)`` gives for each chain."""
    begin = time.monotonic()
    full = full_problem(problem)
    stage_of_node, chain_nodes = _chains(full, placement, time_limit, seed, on_progress, begin)
    routes, _ = _dealt(full, chain_nodes, chunks)
    n_visits = full.n_stages * chunks
    priority = np.zeros((full.microbatches, (3 if split else 2) * n_visits + 1))
    n_chains = chain_nodes.shape[1]
    for c in range(min(n_chains, full.microbatches)):
        members = np.arange(c, full.microbatches, n_chains)
        nodes = chain_nodes[:, c]
        orders = orders_of([int(m) for m in np.asarray(full.memory)[nodes]], len(members))
        priority[members] = _priority(full, nodes, orders, len(members), chunks, split)
    decisions = TrainDecisions(
        placement=stage_of_node,
        routes=routes,
        stages=_all_stages(full, chunks),
        priority=priority,
        strict=True,
        split_backward=split,
        chunks=chunks,
    )
    return _finished(full, decisions, method, seed, begin, {"chunks": chunks} if chunks > 1 else {}, on_progress)


def _priority(
    problem: TrainProblem, nodes: Ints, orders: Orders, n_microbatches: int, chunks: int, split: bool
) -> Floats:
    """Keys of the tasks of one chain's microbatches: positions in the sequence that the orders lead to."""
    stages = np.arange(len(nodes))
    backward = problem.backward[nodes, stages]
    weight = problem.weight[nodes, stages]
    times = StageTimes(
        forward=problem.forward[nodes, stages] / chunks,
        backward=(backward - weight if split else backward) / chunks,
        weight=weight / chunks,
        link=problem.link[np.ix_(nodes, nodes)],
        loss=float(problem.loss[nodes[0]]),
        rest=problem.gap,
        injection_rest=problem.injection_gap,
    )
    n_visits = len(nodes) * chunks
    key = np.zeros((n_microbatches, (3 if split else 2) * n_visits + 1))
    offset = {"L": n_visits, "B": n_visits + 1, "W": 2 * n_visits + 1}
    for at, (stage, kind, microbatch, chunk) in enumerate(execute(orders, times).sequence):
        visit = chunk * len(nodes) + stage
        task = visit if kind == "F" else n_visits if kind == "L" else offset[kind] + n_visits - 1 - visit
        key[microbatch, task] = at
    return key


def _chains(
    problem: TrainProblem,
    placement: Ints | None,
    time_limit: float,
    seed: int,
    on_progress: OnProgress | None,
    begin: float,
) -> tuple[Ints, Ints]:
    """Placement, and the nodes of complete chains with all their links, shape (S, C)."""
    from pathloom.worlds.train.dtfm_placement import chains, dtfm_placement

    if on_progress is not None:
        on_progress(Progress(time.monotonic() - begin, None, None, "placement"))
    if placement is None:
        found = dtfm_placement(problem, time_limit=max(time_limit, 0.0), seed=seed)
        placement, matched = found.placement, found.chains
    else:
        placement = np.array(placement, dtype=np.int64)
        matched = chains(problem, placement)
    count = int(np.min(problem.stage_sizes))
    nodes = np.stack([np.asarray(row[:count], dtype=np.int64) for row in matched])
    ahead = problem.link[nodes, np.roll(nodes, -1, axis=0)]
    back = problem.link[np.roll(nodes, -1, axis=0), nodes]
    if problem.n_stages > 1 and not (np.isfinite(ahead).all() and np.isfinite(back).all()):
        p, c = np.argwhere(~(np.isfinite(ahead) & np.isfinite(back)))[0]
        other = nodes[(p + 1) % len(nodes), c]
        raise NoPlanFound(
            f"a full pipeline needs a link between {problem.nodes[nodes[p, c]]} (stage {p}) and {problem.nodes[other]}"
        )
    return placement, nodes


def _dealt(problem: TrainProblem, chain_nodes: Ints, chunks: int = 1) -> tuple[Ints, Ints]:
    """Route of each microbatch, shape (B, S * chunks), and its position on its chain, shape (B,)."""
    position, chain = np.divmod(np.arange(problem.microbatches), chain_nodes.shape[1])
    return np.tile(chain_nodes[:, chain].T, (1, chunks)), position


def _all_stages(problem: TrainProblem, chunks: int) -> Ints:
    return np.tile(np.arange(problem.n_stages * chunks), (problem.microbatches, 1))


def _finished(
    problem: TrainProblem,
    decisions: TrainDecisions,
    method: str,
    seed: int,
    begin: float,
    settings: dict[str, object],
    on_progress: OnProgress | None,
) -> Plan:
    plan = plan_of(problem, decisions, method=method, seed=seed, settings={"full_pipeline": True, **settings})
    plan = replace(plan, seconds=time.monotonic() - begin)
    if on_progress is not None:
        on_progress(Progress(plan.seconds, plan.objective.value, None, method))
    return plan
