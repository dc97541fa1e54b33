"""Shortest path through all points and shortest tour, exactly, by dynamic programming over subsets.

M. Held, R. Karp, "A dynamic programming approach to sequencing problems", SIAM Journal 10 (1962); independently
R. Bellman, "Dynamic programming treatment of the travelling salesman problem", Journal of the ACM 9 (1962).
Time O(2^n n^2), memory 8 * 2^n * n bytes (half of it when the start is fixed). For more points see `tour_local_search`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

MAX_POINTS = 20


@dataclass(frozen=True)
class Tour:
    """An order of all points and its cost, the way back to the first point included if the tour is closed."""

    cost: float
    order: Ints


@dataclass(frozen=True)
class OrderProblem:
    """m points to put in order, behind a fixed start where there is one; the shape in which the kernels take it.

    Attributes
    ----------
    first, last
        Shape (m,): cost to reach j as the first, and to leave it as the last.
    inner
        Shape (m, m): cost from one to the next.
    allowed
        Shape (m, m): ``allowed[j, position]``.
    points
        Shape (m,): name of each of the m points in the caller's numbering.
    start
        The point that stands before all others, -1 if the start is free.
    """

    first: Floats
    inner: Floats
    last: Floats
    allowed: Mask
    points: Ints
    start: int

    def order(self, inside: Ints) -> Ints:
        """The caller's order of an order of the m points."""
        order = self.points[inside]
        return order if self.start < 0 else np.concatenate((np.array([self.start], dtype=np.int64), order))


def order_problem(
    cost: ArrayLike, *, closed: bool = False, start: int | None = None, allowed: ArrayLike | None = None
) -> OrderProblem:
    """Check the arguments of a path or tour search and bring them into the kernels' shape.

    A closed tour without a fixed start and without `allowed` is made to start at point 0, where it costs nothing to
    begin; with `allowed` its start must be fixed, since turning a tour changes the positions.
    """
    # Copies, so that the kernels meet one array type and are compiled once, also for read-only input.
    matrix = np.array(cost, dtype=np.float64, order="C")
    n = len(matrix)
    if matrix.shape != (n, n) or n == 0:
        raise ValueError(f"cost has shape {matrix.shape}, expected a square matrix with at least one row")
    if np.isnan(matrix).any():
        raise ValueError("cost holds a NaN")
    may = np.ones((n, n), dtype=np.bool_) if allowed is None else np.array(allowed, dtype=np.bool_, order="C")
    if may.shape != (n, n):
        raise ValueError(f"allowed has shape {may.shape}, expected ({n}, {n}): point, position")
    if start is None and closed:
        if allowed is not None:
            raise ValueError("a closed tour with `allowed` positions needs a `start`")
        start = 0
    if start is None:
        free = np.zeros(n)
        return OrderProblem(free, matrix, free, may, np.arange(n, dtype=np.int64), -1)
    if not 0 <= start < n:
        raise ValueError(f"start is {start}, expected a point from 0 to {n - 1}")
    if not may[start, 0]:
        raise ValueError(f"the start {start} is not allowed at position 0")
    others = np.delete(np.arange(n, dtype=np.int64), start)
    return OrderProblem(
        first=np.ascontiguousarray(matrix[start, others]),
        inner=np.ascontiguousarray(matrix[np.ix_(others, others)]),
        last=np.ascontiguousarray(matrix[others, start]) if closed else np.zeros(n - 1),
        allowed=np.ascontiguousarray(may[others, 1:]),
        points=others,
        start=start,
    )


def held_karp(
    cost: ArrayLike, *, closed: bool = False, start: int | None = None, allowed: ArrayLike | None = None
) -> Tour:
    """Cheapest order of all points.

    Parameters
    ----------
    cost
        Shape (n, n): cost from point i to point j, not necessarily symmetric; infinity where there is no way. The
        diagonal is not read.
    closed
        Whether the way from the last point back to the first is paid too.
    start
        The first point; None lets the method choose (a closed tour then starts at point 0).
    allowed
        Shape (n, n): whether point i may stand at position k; None allows all.

    Returns
    -------
    Tour
        Of several cheapest orders the first in lexicographic order (up to rounding).

    Raises
    ------
    ValueError
        If the matrix is not square, holds NaN, has more than `MAX_POINTS` points, or no allowed order is finite.
    """
    from pathloom.graph._tour_kernels import held_karp_order, held_karp_table

    problem = order_problem(cost, closed=closed, start=start, allowed=allowed)
    m = len(problem.points)
    if m + (problem.start >= 0) > MAX_POINTS:
        raise ValueError(f"{m} points are too many for dynamic programming over subsets (at most {MAX_POINTS})")
    if m == 0:
        return Tour(0.0, problem.order(np.empty(0, np.int64)))
    table = np.full((1 << m, m), np.inf)
    best = float(held_karp_table(problem.first, problem.inner, problem.last, problem.allowed, table))
    if best == np.inf:
        raise ValueError("no allowed order of the points has a finite cost")
    return Tour(best, problem.order(held_karp_order(problem.first, problem.inner, problem.allowed, table)))
