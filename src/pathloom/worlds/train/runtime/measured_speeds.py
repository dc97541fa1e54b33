"""Nodes that are faster or slower than the plan thought: the problem with the times that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pathloom.worlds.train.problem import Floats, Ints, TrainProblem

ALIKE = 1e-6  # factors this close to 1 are the clock's rounding


def with_measured_speeds(problem: TrainProblem, factors: Mapping[int, float] | Floats) -> TrainProblem:
    """The problem whose nodes take `factors` times as long for everything that they compute.

    Parameters
    ----------
    factors
        Shape (N,), or node -> factor for some nodes; 1 is the problem's own speed.

    Raises
    ------
    ValueError
        If a factor is not a number above 0.
    """
    scale = np.ones(problem.n_nodes)
    if isinstance(factors, Mapping):
        scale[list(factors)] = list(factors.values())
    else:
        scale[:] = factors
    if not np.isfinite(scale).all() or (scale <= 0).any():
        raise ValueError("factors: expected numbers above 0")
    if (scale == 1.0).all():
        return problem
    rows = scale[:, None]
    return replace(
        problem,
        forward=problem.forward * rows,
        backward=problem.backward * rows,
        weight=problem.weight * rows,
        loss=problem.loss * scale,
    )


def speed_factors(problem: TrainProblem, placement: Ints, measured: Mapping[int, tuple[float, float]]) -> Floats:
    """Factors of nodes, shape (N,), from the seconds that a microbatch's forward and backward pass took on some.

    Parameters
    ----------
    placement
        Shape (N,): stage of each node, whose passes were measured.
    measured
        Node -> seconds of the forward and of the whole backward pass. Nodes without measurement keep factor 1.
    """
    factors = np.ones(problem.n_nodes)
    for node, seconds in measured.items():
        stage = int(placement[node])
        factors[node] = sum(seconds) / float(problem.forward[node, stage] + problem.backward[node, stage])
    return rounded(factors)


def rounded(factors: Floats) -> Floats:
    """Factors that differ from 1 by nothing but the rounding of clocks become 1."""
    return np.where(np.abs(factors - 1.0) <= ALIKE, 1.0, factors)
