"""Random instances together with decisions that keep every route rule, for tests and benchmarks.

The caps of an instance are drawn around what its routes need, so that they are met, and often only just.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pathloom.worlds.train.problem import Floats, Ints, Reordering, TrainDecisions, TrainProblem


def draw_case(
    rng: np.random.Generator,
    *,
    nodes: int = 8,
    stages: int = 4,
    route_length: int = 3,
    microbatches: int = 6,
    memory: tuple[int, int] = (1, 4),
    unequal: bool = True,
    fixed: bool = False,
    sync: bool = False,
    missing: float = 0.1,
    release: bool = False,
    after: bool = False,
    split_backward: bool = False,
    chunks: int = 1,
) -> tuple[TrainProblem, TrainDecisions]:
    """An instance and decisions for it.

    Parameters
    ----------
    memory
        Smallest and largest number of slots of a node.
    unequal
        True: nodes are 1 to 4 times slower than the fastest, stages differ too. False: all alike.
    fixed
        True: the problem gives the placement.
    sync
        True: gradient synchronisation is part of the problem.
    missing
        Share of the links that routes do not use which are missing.
    release, after
        True: some microbatches have a release, or wait for the return of another one.
    split_backward, chunks
        As in `TrainDecisions`.

    Raises
    ------
    ValueError
        If there are fewer nodes than stages or fewer stages than a route visits.
    """
    if nodes < stages or stages < route_length:
        raise ValueError(f"{nodes} nodes and {stages} stages cannot host routes of {route_length} stages")
    n, s, b = nodes, stages, microbatches
    sizes = np.ones(s, dtype=np.int64) + np.bincount(rng.integers(0, s, n - s), minlength=s)
    placement = rng.permutation(np.repeat(np.arange(s), sizes))
    budget = Reordering(
        distance=int(rng.integers(0, 3)),
        swaps=int(rng.integers(0, 3)),
        total=int(rng.integers(0, 4)),
        jump=int(rng.integers(1, s + 1)),
    )
    visited = np.array([_stages(rng, s, route_length, chunks, budget) for _ in range(b)])
    routes = np.array([[rng.choice(np.flatnonzero(placement == p % s)) for p in row] for row in visited])
    speed = rng.uniform(1.0, 4.0, (n, 1)) * rng.uniform(0.8, 1.2, (1, s)) if unequal else np.ones((n, s))
    forward = 0.5 * speed
    backward = 1.5 * forward
    comes = np.array([(routes == i).any(axis=1).sum() for i in range(n)])
    passes = np.array([(visited % s == p).any(axis=1).sum() for p in range(s)])
    stage_cap = np.maximum(passes + rng.integers(0, 3, s), 1)
    stage_cap[0] = b
    node_cap = comes + rng.integers(0, 3, n)
    node_cap[placement == 0] = 0  # the cap of a node means nothing while it is in stage 0
    slots = rng.integers(memory[0], memory[1] + 1, n)
    if chunks > 1:  # a trip alone must fit: several visits of one microbatch may fall on one node
        slots = np.maximum(slots, [-(-max((row == i).sum() for row in routes) // chunks) for i in range(n)])
    problem = TrainProblem(
        name="drawn",
        nodes=tuple(f"node{i}" for i in range(n)),
        locations=tuple(f"region{i % 3}" for i in range(n)),
        forward=forward,
        backward=backward,
        weight=backward * rng.uniform(0.3, 0.6, (n, 1)),
        loss=0.25 * forward[:, 0],
        link=_links(rng, routes, n, missing),
        memory=slots,
        stage_sizes=sizes,
        microbatches=b,
        route_length=route_length,
        source_cap=int(np.bincount(routes[:, 0]).max() + rng.integers(0, 2)),
        stage_cap=stage_cap,
        node_cap=node_cap,
        placement=placement.copy() if fixed else None,
        reordering=budget,
        gap=float(rng.uniform(0.05, 0.15)),
        injection_gap=float(rng.uniform(0.05, 0.15)),
        sync_latency=rng.uniform(0.01, 0.1, (n, n)) if sync else None,
        sync_seconds=rng.uniform(0.1, 1.0, (n, n)) if sync else None,
    )
    waits = np.array([rng.integers(-1, i) if rng.random() < 0.3 else -1 for i in range(b)])
    return problem, TrainDecisions(
        placement=placement,
        routes=routes,
        stages=visited,
        release=rng.uniform(0.0, 3.0, b) if release else None,
        after=waits if after else None,
        split_backward=split_backward,
        chunks=chunks,
    )


def draw_varied_case(rng: np.random.Generator, **features: Any) -> tuple[TrainProblem, TrainDecisions]:
    """A small case whose features are drawn, too, except for those given: see `draw_case`.

    Up to 10 nodes, 5 stages and 8 microbatches; equal nodes or not, 1 to 4 slots, given placement, synchronisation,
    releases, waits, split backward passes and model chunks come and go.
    """
    route_length = int(features.get("route_length", rng.integers(1, 5)))
    stages = int(features.get("stages", rng.integers(route_length, 6)))
    drawn: dict[str, Any] = {
        "route_length": route_length,
        "stages": stages,
        "nodes": int(rng.integers(stages, 11)),
        "microbatches": int(rng.integers(1, 9)),
        "unequal": bool(rng.random() < 0.6),
        "fixed": bool(rng.random() < 0.4),
        "sync": bool(rng.random() < 0.5),
        "release": bool(rng.random() < 0.3),
        "after": bool(rng.random() < 0.3),
        "split_backward": bool(rng.random() < 0.3),
        "chunks": int(rng.choice([1, 1, 1, 2, 3])),
        "missing": float(rng.choice([0.0, 0.3])),
    }
    return draw_case(rng, **{**drawn, **features})


def _stages(rng: np.random.Generator, s: int, length: int, chunks: int, budget: Reordering) -> Ints:
    """Stages of one route, from stage 0 on."""
    if chunks > 1:
        later = rng.choice(np.arange(1, s * chunks), length * chunks - 1, replace=False)
        return np.concatenate([[0], np.sort(later)])
    for _ in range(30):
        row = np.sort(rng.choice(np.arange(1, s), length - 1, replace=False))
        for at in range(len(row) - 1):
            if rng.random() < 0.4:
                row[[at, at + 1]] = row[[at + 1, at]]
        row = np.concatenate([[0], row])
        ahead = row[1:] - np.maximum.accumulate(row)[:-1]
        back = -ahead[ahead < 0]
        if (
            (ahead <= budget.jump).all()
            and (back <= budget.distance).all()
            and len(back) <= budget.swaps
            and back.sum() <= budget.total
        ):
            return row
    return np.arange(length)


def _links(rng: np.random.Generator, routes: Ints, n: int, missing: float) -> Floats:
    """Seconds of messages, infinite for some of the links that no route uses."""
    link = rng.uniform(0.1, 1.5, (n, n))
    used = np.zeros((n, n), dtype=bool)
    ring = np.concatenate([routes, routes[:, :1]], axis=1)
    used[ring[:, :-1], ring[:, 1:]] = used[ring[:, 1:], ring[:, :-1]] = True
    link[(rng.random((n, n)) < missing) & ~used] = np.inf
    np.fill_diagonal(link, 0.0)
    return link
