"""Small random waves that can be solved to a proven optimum: a few microbatches over six to nine nodes.

All durations are whole multiples of `TICK`, a power of two, so that sums of them are exact in floating point and in the
integers of a constraint program alike: two optima are equal, or they are not.
"""

from __future__ import annotations

import numpy as np

from pathloom.worlds.train.problem import TrainProblem

TICK = 2.0**-10
"""Seconds of one unit of time, about a millisecond."""


def draw_wave(seed: int, *, agents: tuple[int, int] = (3, 6), message: tuple[int, int] = (10, 60)) -> TrainProblem:
    """A problem with a placement whose iteration is one wave.

    Forward passes take 3 to 8 ticks, backward passes twice as long, losses 1 or 2, rests 1. Caps of TC1 leave little
    or nothing to spare. There may be no wave that keeps them, but mostly there is.

    Parameters
    ----------
    agents, message
        Smallest and largest number of microbatches, and ticks of a message.
    """
    draw = np.random.default_rng(seed)
    n_stages, n_nodes = int(draw.integers(2, 5)), int(draw.integers(6, 10))
    microbatches = int(draw.integers(agents[0], agents[1] + 1))
    sizes = np.ones(n_stages, dtype=np.int64)
    sizes[0] = 2
    for p in draw.integers(0, n_stages, n_nodes - sizes.sum()):
        sizes[p] += 1
    route_length = n_stages if n_stages == 2 else int(draw.integers(n_stages - 1, n_stages + 1))
    placement = draw.permutation(np.repeat(np.arange(n_stages), sizes))
    forward = np.repeat(draw.integers(3, 9, n_nodes)[:, None], n_stages, axis=1).astype(np.float64)
    upper = np.triu(draw.integers(message[0], message[1] + 1, (n_nodes, n_nodes)).astype(np.float64), 1)
    visits = microbatches * (route_length - 1)
    stage_cap = np.full(n_stages, -(-visits // (n_stages - 1)), dtype=np.int64)
    stage_cap[0] = microbatches
    memory = draw.integers(1, 4, n_nodes)
    for p in range(n_stages):
        members = np.flatnonzero(placement == p)
        while memory[members].sum() < stage_cap[p]:
            memory[members[np.argmin(memory[members])]] += 1
    return TrainProblem(
        name=f"wave-{seed}",
        nodes=tuple(f"n{i}" for i in range(n_nodes)),
        locations=("here",) * n_nodes,
        forward=forward * TICK,
        backward=2 * forward * TICK,
        weight=forward * TICK,
        loss=draw.integers(1, 3, n_nodes).astype(np.float64) * TICK,
        link=(upper + upper.T) * TICK,
        memory=memory.astype(np.int64),
        stage_sizes=sizes,
        microbatches=microbatches,
        route_length=route_length,
        source_cap=int(memory[placement == 0].max()),
        stage_cap=stage_cap,
        node_cap=memory.astype(np.int64),
        placement=placement.astype(np.int64),
        gap=TICK,
        injection_gap=TICK,
    )
