"""Who takes over a stage that has lost its last node, and how to cut the model when there are too few nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import NoPlanFound, ProvenInfeasible
from pathloom.timeline import Timeline
from pathloom.worlds.train.balance import even_sizes, split_layers, tc1_caps
from pathloom.worlds.train.greedy import greedy
from pathloom.worlds.train.problem import Floats, Ints, TrainDecisions, TrainProblem
from pathloom.worlds.train.route_search import pathloom
from pathloom.worlds.train.runtime.measured_speeds import speed_factors, with_measured_speeds
from pathloom.worlds.train.runtime.surviving_problem import NOT_SOUGHT, Measured, plan_for, widened, without_dead

FINALISTS = 3  # candidates that are judged by a short search of routes, after all were judged by greedy ones
SHORT = 60  # moves of each run of that search


class Move(NamedTuple):
    """A node (position in the old problem) that must load weights: those of `layers`, global numbers, of `to_stage`.

    `from_stage` is where it was; where the model is cut anew, the two number different stages.
    """

    node: int
    from_stage: int
    to_stage: int
    layers: tuple[int, ...]


class Reassigned(NamedTuple):
    """A plan in which nodes have changed their stages.

    Attributes
    ----------
    problem, decisions, timeline, node_map
        As in `Replanned`.
    moves
        Nodes that hold other layers than before.
    stage_layers
        Layers of each stage of the new plan.
    """

    problem: TrainProblem
    decisions: TrainDecisions
    timeline: Timeline
    node_map: Ints
    moves: tuple[Move, ...]
    stage_layers: tuple[int, ...]


def reassign(
    problem: TrainProblem,
    live: NDArray[np.bool_],
    decisions: TrainDecisions,
    *,
    stage_layers: Sequence[int],
    measured: Measured | None = None,
    time_limit: float,
    seed: int = 0,
    iterations: int | None = None,
) -> Reassigned:
    """Plan for the live nodes when stages have lost all theirs.

    Each empty stage gets the node of a stage with others left whose move gives the shortest iteration; of equal ones,
    that with the fastest links. With fewer nodes than stages the model is cut into as many stages as there are nodes
    (see `recut`), and their placement is planned, too.

    Parameters
    ----------
    stage_layers
        Layers of each stage, in the order of the model.
    live, decisions, measured, time_limit, seed, iterations
        As for `replan`.

    Raises
    ------
    ProvenInfeasible
        If no node is left.
    NoPlanFound
        If no routes were found in which all microbatches return.
    """
    deadline = time.perf_counter() + time_limit
    live = np.asarray(live, dtype=np.bool_)
    node_map = np.flatnonzero(live)
    placement = np.asarray(decisions.placement, dtype=np.int64)
    if not len(node_map):
        raise ProvenInfeasible("a live node", "all nodes have died")
    if measured:
        problem = with_measured_speeds(problem, speed_factors(problem, placement, measured))
    if len(node_map) < problem.n_stages:
        cut, layers = recut(problem, live, stage_layers)
        like = replace(decisions, chunks=1)
        plan = plan_for(cut, like, time_limit=deadline - time.perf_counter(), seed=seed, iterations=iterations)
    else:
        layers = tuple(int(count) for count in stage_layers)
        enough = deadline - 0.5 * time_limit if iterations is None else np.inf
        moved = _moved(problem, live, _best_placement(problem, live, placement, enough, seed))
        left = deadline - time.perf_counter()
        plan = plan_for(moved, decisions, time_limit=left, seed=seed, iterations=iterations)
    held = _layers_of(stage_layers, decisions.chunks)
    holds = _layers_of(layers, plan.decisions.chunks)
    moves = tuple(
        Move(int(old), int(placement[old]), int(stage), holds[stage])
        for old, stage in zip(node_map, plan.decisions.placement, strict=True)
        if held[placement[old]] != holds[stage] or (placement[old] == 0) != (stage == 0)
    )
    return Reassigned(plan.problem, plan.decisions, plan.timeline, node_map, moves, layers)


def recut(
    problem: TrainProblem, live: NDArray[np.bool_], stage_layers: Sequence[int]
) -> tuple[TrainProblem, tuple[int, ...]]:
    """The problem for the live nodes, too few for its stages, with as many stages as there are nodes.

    Layers are cut evenly by their mean cost. A layer takes a node its share of the time of the layer's old stage;
    memory holds the fewer activations the more layers a stage has; the share of the stages that a microbatch visits
    stays as it was, as nearly as can be; and the caps TC1 are those of an instance of that shape. Gradients of a stage
    take longer to average by as much as the stages are larger. The placement is open.

    Returns
    -------
    tuple
        The problem, and the layers of each of its stages.
    """
    keep = np.flatnonzero(live)
    old = np.asarray(stage_layers, dtype=np.int64)
    if old.shape != (problem.n_stages,) or old.sum() < 1 or (old < 0).any():
        raise ValueError(f"stage_layers: expected layers of {problem.n_stages} stages, found {list(stage_layers)}")
    s = min(len(keep), int(old.sum()))
    of_layer = np.repeat(np.arange(problem.n_stages), old)
    mean = (problem.forward / np.maximum(old, 1))[keep].mean(axis=0)
    layers = split_layers(mean[of_layer].tolist(), s)
    to = np.repeat(np.arange(s), layers)

    def merged(seconds: Floats) -> Floats:
        each = (seconds / np.maximum(old, 1))[keep]
        found = np.zeros((len(keep), s))
        for layer, stage in enumerate(to):
            found[:, stage] += each[:, of_layer[layer]]
        if old[0] == 0:  # embedding and head alone
            found[:, 0] += seconds[keep, 0]
        return found

    pairs = np.ix_(keep, keep)
    larger = problem.n_stages / s
    memory = np.maximum(1, (problem.memory[keep] / larger).astype(np.int64))
    length = min(s, max(1, round(problem.route_length / larger)))
    sizes = even_sizes(len(keep), s)
    source_cap, stage_cap, node_cap = tc1_caps(problem.microbatches, length, sizes, memory)
    workload = problem.workload
    new_layers = tuple(int(count) for count in layers)
    return replace(
        problem,
        nodes=tuple(problem.nodes[n] for n in keep),
        locations=tuple(problem.locations[n] for n in keep),
        forward=merged(problem.forward),
        backward=merged(problem.backward),
        weight=merged(problem.weight),
        loss=problem.loss[keep],
        link=problem.link[pairs],
        memory=memory,
        stage_sizes=sizes,
        route_length=length,
        source_cap=source_cap,
        stage_cap=stage_cap,
        node_cap=node_cap,
        placement=None,
        sync_latency=None if problem.sync_latency is None else problem.sync_latency[pairs],
        sync_seconds=None if problem.sync_seconds is None else problem.sync_seconds[pairs] * larger,
        workload=None if workload is None else replace(workload, stage_layers=new_layers),
    ), new_layers


def _moved(problem: TrainProblem, live: NDArray[np.bool_], placement: Ints) -> TrainProblem:
    """The problem of the live nodes under another placement; who was a source gets the cap of the other nodes."""
    later = problem.node_cap[problem.node_cap > 0]
    cap = np.where(problem.node_cap > 0, problem.node_cap, int(later.min()) if len(later) else 1)
    return widened(without_dead(replace(problem, placement=None, node_cap=cap), live, placement))


def _best_placement(
    problem: TrainProblem, live: NDArray[np.bool_], placement: Ints, deadline: float, seed: int
) -> Ints:
    """The placement in which every stage has a live node again, one stage after another."""
    speed = _link_seconds(problem, live)
    at = placement.copy()
    empty = [p for p in range(problem.n_stages) if not live[at == p].any()]
    for stage in empty:  # somebody everywhere, so that there is something to judge
        donors = _donors(problem, live, at)
        at[donors[int(np.argmin(speed[donors]))]] = stage
    for stage in empty:
        holder = int(np.flatnonzero((at == stage) & live)[0])
        back = at.copy()
        back[holder] = placement[holder]
        donors = [n for n in _donors(problem, live, back) if placement[n] == back[n]]
        tried = [np.where(np.arange(len(at)) == n, stage, back) for n in sorted(donors, key=lambda n: speed[n])]
        at = _fastest(problem, live, tried, deadline, seed)
    return at


def _donors(problem: TrainProblem, live: NDArray[np.bool_], placement: Ints) -> list[int]:
    """Live nodes of the stages that have more than one."""
    sizes = np.bincount(placement[live], minlength=problem.n_stages)
    return [int(n) for n in np.flatnonzero(live) if sizes[placement[n]] > 1]


def _link_seconds(problem: TrainProblem, live: NDArray[np.bool_]) -> Floats:
    """Mean seconds of a message between each node and the other live ones, shape (N,); missing links count as long."""
    finite = problem.link[np.isfinite(problem.link)]
    link = np.minimum(problem.link, 10.0 * float(finite.max(initial=1.0)))
    others = link[:, live].sum(axis=1) + link[live].sum(axis=0)
    return np.asarray(others / max(2 * int(live.sum()), 1), dtype=np.float64)


def _fastest(
    problem: TrainProblem, live: NDArray[np.bool_], placements: Sequence[Ints], deadline: float, seed: int
) -> Ints:
    """The placement of the shortest iteration, of equal ones the first: greedy routes first, then a short search.

    What is not judged when time is up does not win.
    """
    judged: list[tuple[float, int]] = []
    for i, placement in enumerate(placements):
        if judged and time.perf_counter() > deadline:
            break
        try:
            found = greedy(_moved(problem, live, placement), time_limit=0.0, seed=seed).objective.value
        except (NoPlanFound, ProvenInfeasible):
            found = np.inf
        judged.append((found, i))
    finalists = sorted(judged)[:FINALISTS]
    if len(finalists) == 1:
        return placements[finalists[0][1]]
    final: list[tuple[float, int]] = []
    for _, i in finalists:
        if final and time.perf_counter() > deadline:
            break
        smaller = _moved(problem, live, placements[i])
        try:
            plan = pathloom(smaller, time_limit=60.0, threads=1, iterations=SHORT, seed=seed, bound=NOT_SOUGHT)
            final.append((round(plan.objective.value, 9), i))
        except (NoPlanFound, ProvenInfeasible):
            final.append((np.inf, i))
    return placements[min(final)[1]]


def _layers_of(stage_layers: Sequence[int], chunks: int) -> list[tuple[int, ...]]:
    """Global numbers of the layers that a node of each stage holds."""
    counts = [int(count) // chunks for _ in range(chunks) for count in stage_layers]
    ends = np.cumsum(counts).tolist()
    virtual = [range(end - count, end) for end, count in zip(ends, counts, strict=True)]
    stages = len(stage_layers)
    return [tuple(layer for c in range(chunks) for layer in virtual[p + stages * c]) for p in range(stages)]
