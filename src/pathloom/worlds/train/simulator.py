"""Exact simulation of one training iteration: decisions in, timetable out.

The event loop is `pathloom.simulate`'s; this module lays a training iteration out as chains of tasks. With the default
order (first come, first served, injections last) it computes the times of the simulator that ships with SkipPipe
wherever that one brings all microbatches back and none has to wait for memory (it looks for a free slot every 0.1 s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Objective, Plan
from pathloom.simulate._kernels import run_chains, workspace
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import (
    BACKWARD,
    FORWARD,
    KINDS,
    LOSS,
    SYNC,
    WEIGHT,
    TrainDecisions,
    TrainProblem,
)

OBJECTIVE = "iteration time"


@dataclass(frozen=True)
class Chains:
    """A training iteration as the event loop takes it: see `pathloom.simulate._kernels.run_chains`.

    `node`, `duration` and `hop` have shape (B, T) with T = 2K + 1 tasks a microbatch, or 3K + 1 when weight
    gradients are tasks of their own; `visit` and `kind` have shape (T,).
    """

    node: NDArray[np.int32]
    duration: NDArray[np.float64]
    hop: NDArray[np.float64]
    rest: NDArray[np.float64]
    slot: NDArray[np.int8]
    spawn: NDArray[np.int32]
    chain: int
    slots: NDArray[np.int64]
    kind: NDArray[np.int64]
    visit: NDArray[np.int64]
    stage: NDArray[np.int64]


@dataclass(frozen=True)
class Disturbances:
    """What goes wrong in an iteration; the default is nothing.

    Attributes
    ----------
    noise
        Standard deviation of the logarithm of a random factor (mean 1) on every duration and message.
    node_windows
        Rows (node, from, to, factor): tasks that start within the window take factor times as long.
    link_windows
        Rows (node, node, from, to, factor): the same for messages, one direction a row.
    fail_at
        (node, second) pairs: the node dies then.
    cancel_at
        (microbatch, second) pairs: the microbatch is dropped then.
    """

    noise: float = 0.0
    node_windows: Sequence[tuple[int, float, float, float]] = ()
    link_windows: Sequence[tuple[int, int, float, float, float]] = ()
    fail_at: Sequence[tuple[int, float]] = ()
    cancel_at: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class Simulation:
    """Outcome of one simulated iteration.

    Attributes
    ----------
    iteration_time
        Seconds until everything has ended, synchronisation included.
    start, end
        Seconds, shape (B, T); nan for tasks that never ran (or, in `end`, never ended).
    returned
        Shape (B,): time of each microbatch's last backward pass, nan for those that were lost.
    stage_sync
        Shape (S, 2): start and end of each stage's gradient synchronisation; empty when it is not part of the problem.
    """

    iteration_time: float
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    returned: NDArray[np.float64]
    stage_sync: NDArray[np.float64]
    chains: Chains = field(repr=False)


def chains(problem: TrainProblem, decisions: TrainDecisions) -> Chains:
    """Lay the decisions out as chains of tasks."""
    routes = np.asarray(decisions.routes, dtype=np.int64)
    stages = np.asarray(decisions.stages, dtype=np.int64)
    n_microbatches, k = routes.shape
    v = decisions.chunks
    host = stages % problem.n_stages
    forward = problem.forward[routes, host] / v
    backward = problem.backward[routes, host] / v
    weight = problem.weight[routes, host] / v
    if decisions.split_backward:
        backward = backward - weight
    back = slice(None, None, -1)
    parts = [routes, routes[:, :1], routes[:, back]]
    lengths = [forward, problem.loss[routes[:, :1]], backward[:, back]]
    if decisions.split_backward:
        parts.append(routes[:, back])
        lengths.append(weight[:, back])
    node = np.concatenate(parts, axis=1)
    duration = np.concatenate(lengths, axis=1)
    chain = 2 * k + 1
    n_tasks = node.shape[1]
    hop = np.zeros((n_microbatches, n_tasks))
    a, b = node[:, : chain - 1], node[:, 1:chain]
    hop[:, : chain - 1] = np.where(a == b, 0.0, problem.link[a, b])
    kind = np.full(n_tasks, BACKWARD)
    kind[:k], kind[k], kind[chain:] = FORWARD, LOSS, WEIGHT
    order = np.arange(k)
    visit = np.concatenate([order, [-1], order[back], order[back]])[:n_tasks]
    slot = np.zeros(n_tasks, dtype=np.int8)
    slot[:k] = 1
    slot[chain if decisions.split_backward else k + 1 :] = -1
    spawn = np.full(n_tasks, -1, dtype=np.int32)
    if decisions.split_backward:
        spawn[k + 1 : chain] = np.arange(chain, n_tasks)
    rest = np.full(n_tasks, problem.gap)
    rest[0] = problem.injection_gap
    stage = np.concatenate([stages, stages[:, :1], stages[:, back], stages[:, back]], axis=1)[:, :n_tasks]
    return Chains(
        node=np.ascontiguousarray(node, dtype=np.int32),
        duration=np.ascontiguousarray(duration),
        hop=hop,
        rest=rest,
        slot=slot,
        spawn=spawn,
        chain=chain,
        slots=problem.memory * v,
        kind=kind,
        visit=visit,
        stage=stage,
    )


def sync_seconds(problem: TrainProblem, placement: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds that each stage's gradient synchronisation takes, shape (S,); zeros if it is not part of the problem."""
    seconds = np.zeros(problem.n_stages)
    if problem.sync_latency is None or problem.sync_seconds is None:
        return seconds
    for p in range(problem.n_stages):
        members = np.flatnonzero(placement == p)
        pairs = np.ix_(members, members)
        each = 2.0 * (problem.sync_latency[pairs] + problem.sync_seconds[pairs] / max(len(members), 1))
        np.fill_diagonal(each, 0.0)
        seconds[p] = each.sum(axis=1).max(initial=0.0)
    return seconds


def noise_factors(noise: float, seed: int, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random factors (log-normal, mean 1) on durations and on messages, each of the given shape."""
    draw = np.random.default_rng(seed)
    shift = -0.5 * noise**2
    on_tasks = np.exp(draw.normal(shift, noise, shape))
    return on_tasks, np.exp(draw.normal(shift, noise, shape))


def order_of_work(
    problem: TrainProblem, decisions: TrainDecisions, laid: Chains
) -> tuple[NDArray[np.float64], int, NDArray[np.int64], NDArray[np.int64]]:
    """`key`, `use_key`, `sequence` and `sequence_start` of the event loop for the decisions' order of work."""
    n_tasks = laid.node.shape[1]
    use_key = int(decisions.priority is not None)
    key = np.zeros(laid.node.shape)
    if decisions.priority is not None:
        given = np.asarray(decisions.priority, dtype=np.float64)
        key[:, : given.shape[1]] = given
        if given.shape[1] < n_tasks:  # weight tasks come when nothing else is ready
            key[:, given.shape[1] :] = np.abs(given).max() + 1.0
    sequence = np.zeros(0, dtype=np.int64)
    sequence_start = np.zeros(problem.n_nodes + 1, dtype=np.int64)
    if decisions.strict and use_key:
        flat = laid.node.ravel()
        sequence = np.lexsort((np.arange(flat.size), key.ravel(), flat)).astype(np.int64)
        sequence_start[1:] = np.cumsum(np.bincount(flat, minlength=problem.n_nodes))
    return key, use_key, sequence, sequence_start


def simulate(
    problem: TrainProblem,
    decisions: TrainDecisions,
    *,
    disturbances: Disturbances | None = None,
    seed: int = 0,
    cutoff: float = np.inf,
) -> Simulation:
    """Simulate one iteration; the same seed gives the same times.

    Parameters
    ----------
    cutoff
        The simulation stops, with an infinite iteration time, once time passes this.
    """
    wrong = disturbances or Disturbances()
    laid = chains(problem, decisions)
    n_microbatches, n_tasks = laid.node.shape
    duration, hop = laid.duration, laid.hop
    if wrong.noise > 0:
        on_tasks, on_messages = noise_factors(wrong.noise, seed, duration.shape)
        duration, hop = duration * on_tasks, hop * on_messages
    fail_at = np.full(problem.n_nodes, np.inf)
    for node, second in wrong.fail_at:
        fail_at[node] = min(fail_at[node], second)
    cancel_at = np.full(n_microbatches, np.inf)
    for microbatch, second in wrong.cancel_at:
        cancel_at[microbatch] = min(cancel_at[microbatch], second)
    key, use_key, sequence, sequence_start = order_of_work(problem, decisions, laid)
    start = np.empty((n_microbatches, n_tasks))
    end = np.empty((n_microbatches, n_tasks))
    zeros, none = np.zeros(n_microbatches), np.full(n_microbatches, -1, dtype=np.int64)
    latest, _ = run_chains(
        laid.node,
        duration,
        hop,
        laid.rest,
        laid.slot,
        laid.spawn,
        laid.chain,
        zeros if decisions.release is None else np.asarray(decisions.release, dtype=np.float64),
        none if decisions.after is None else np.asarray(decisions.after, dtype=np.int64),
        key,
        int(use_key),
        sequence,
        sequence_start,
        laid.slots,
        fail_at,
        cancel_at,
        np.array(wrong.node_windows, dtype=np.float64).reshape(-1, 4),
        np.array(wrong.link_windows, dtype=np.float64).reshape(-1, 5),
        cutoff,
        start,
        end,
        workspace(n_microbatches, n_tasks, problem.n_nodes),
    )
    stage_sync = np.zeros((0, 2))
    if problem.sync_latency is not None and np.isfinite(latest):
        done = np.zeros(problem.n_stages)
        host = np.asarray(decisions.placement)[laid.node].ravel()
        used = host >= 0
        np.maximum.at(done, host[used], np.nan_to_num(end).ravel()[used])
        stage_sync = np.stack([done, done + sync_seconds(problem, decisions.placement)], axis=1)
        latest = max(latest, float(stage_sync[:, 1].max()))
    return Simulation(float(latest), start, end, end[:, laid.chain - 1], stage_sync, laid)


def timeline(problem: TrainProblem, decisions: TrainDecisions, simulation: Simulation) -> Timeline:
    """The timetable of a simulated iteration; tasks that never ended are left out."""
    laid = simulation.chains
    n_microbatches = len(laid.node)
    ran = np.isfinite(simulation.end)
    shape = laid.node.shape
    item = np.broadcast_to(np.arange(n_microbatches)[:, None], shape)
    kind = np.broadcast_to(laid.kind[None, :], shape)
    visit = np.broadcast_to(laid.visit[None, :], shape)
    columns: list[NDArray[Any]] = [laid.node[ran], item[ran], kind[ran], simulation.start[ran], simulation.end[ran]]
    stage_column, visit_column = laid.stage[ran], visit[ran]
    items = tuple(f"mb{b}" for b in range(n_microbatches))
    if len(simulation.stage_sync):
        nodes = np.flatnonzero(decisions.placement >= 0)
        stage = decisions.placement[nodes]
        extra = [
            nodes,
            np.full(len(nodes), n_microbatches),
            np.full(len(nodes), SYNC),
            simulation.stage_sync[stage, 0],
            simulation.stage_sync[stage, 1],
        ]
        columns = [np.concatenate([c, e]) for c, e in zip(columns, extra, strict=True)]
        stage_column = np.concatenate([stage_column, stage])
        visit_column = np.concatenate([visit_column, np.full(len(nodes), -1)])
        items = (*items, "sync")
    node_column, item_column, kind_column, start_column, end_column = columns
    return Timeline(
        node_column,
        item_column,
        kind_column,
        start_column,
        end_column,
        resources=problem.nodes,
        items=items,
        kinds=KINDS,
        columns={"stage": stage_column.astype(np.int32), "visit": visit_column.astype(np.int32)},
    ).sorted()


def plan_of(
    problem: TrainProblem,
    decisions: TrainDecisions,
    *,
    method: str,
    seed: int = 0,
    seconds: float = 0.0,
    settings: dict[str, object] | None = None,
    bound: tuple[float, str] | None = None,
) -> Plan:
    """The plan that the decisions give when every node keeps its order: simulated, not yet checked."""
    outcome = simulate(problem, decisions)
    if np.isnan(outcome.returned).any():
        stuck = int(np.isnan(outcome.returned).sum())
        raise ValueError(
            f"{method}: {stuck} of {len(outcome.returned)} microbatches never return under this order of work"
        )
    table = timeline(problem, decisions, outcome)
    return Plan(
        problem=problem,
        decisions=decisions,
        timeline=table,
        objective=Objective(OBJECTIVE, outcome.iteration_time, "s"),
        method=method,
        settings=dict(settings or {}),
        seed=seed,
        bound=bound[0] if bound else None,
        bound_by=bound[1] if bound else None,
        seconds=seconds,
        metrics=metrics(problem, table, outcome.iteration_time),
    )


def metrics(problem: TrainProblem, table: Timeline, iteration_time: float) -> dict[str, object]:
    """Figures of a timetable: bubble share, busiest node and its share, time of the last return."""
    work = table.rows(table.kind != SYNC)
    busy = work.busy()
    busiest = int(busy.argmax())
    return {
        "bubble_share": float(1.0 - busy.sum() / (problem.n_nodes * iteration_time)),
        "busiest_node": problem.nodes[busiest],
        "busiest_share": float(busy[busiest] / iteration_time),
        "last_return": work.makespan,
    }
