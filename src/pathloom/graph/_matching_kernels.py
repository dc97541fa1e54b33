"""Compiled kernels of bipartite matching."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def bottleneck_bound(cost: NDArray[np.float64]) -> float:
    """A value that no matching of all rows of `cost` (n, m), ``n <= m``, can have its largest entry below.

    It is the dearest of the rows' cheapest entries, and if ``n == m`` of the columns' cheapest entries too.
    """
    n, m = cost.shape
    bound = -np.inf
    column_least = np.full(m, np.inf)
    for row in range(n):
        row_least = np.inf
        for column in range(m):
            value = cost[row, column]
            row_least = min(row_least, value)
            column_least[column] = min(column_least[column], value)
        bound = max(bound, row_least)
    if n == m:
        for column in range(m):
            bound = max(bound, column_least[column])
    return bound


@njit(cache=True)
def match_bottleneck(cost: NDArray[np.float64], row_of: NDArray[np.int64]) -> float:
    """Match every row of `cost` to a column of its own so that the largest matched entry is smallest.

    `cost` has shape (n, m) with ``1 <= n <= m``; `row_of` of shape (m,) receives the row of each column, -1 where the
    column stays free. Returns the largest matched entry (infinity if no finite matching exists).
    """
    n, m = cost.shape
    bottleneck = bottleneck_bound(cost)
    row_of[:] = -1
    column_of = np.full(n, -1)
    for row in range(n):
        for column in range(m):
            if row_of[column] < 0 and cost[row, column] <= bottleneck:
                row_of[column] = row
                column_of[row] = column
                break

    slack = np.empty(m)
    parent = np.empty(m, np.int64)
    outside = np.empty(m, np.int64)
    for root in range(n):
        if column_of[root] >= 0:
            continue
        # Prim's tree from `root`: the cheapest edge that leaves the tree is one that any matching must pay for, so the
        # bottleneck is raised no more than needed; the first free column ends an augmenting path.
        for column in range(m):
            slack[column] = np.inf
            parent[column] = root
            outside[column] = column
        n_outside = m
        row = root
        end = -1
        while end < 0:
            nearest = 0
            for k in range(n_outside):
                column = outside[k]
                if cost[row, column] < slack[column]:
                    slack[column] = cost[row, column]
                    parent[column] = row
                    if row_of[column] < 0 and slack[column] <= bottleneck:
                        end = column
                        break
                if slack[column] < slack[outside[nearest]]:
                    nearest = k
            if end >= 0:
                break
            column = outside[nearest]
            bottleneck = max(bottleneck, slack[column])
            if row_of[column] < 0:
                end = column
            else:
                row = row_of[column]
                n_outside -= 1
                outside[nearest] = outside[n_outside]
        # Walk back to the root: each row on the path gives its old column to the row before it.
        column = end
        while column >= 0:
            row = parent[column]
            row_of[column] = row
            previous = column_of[row]
            column_of[row] = column
            column = previous
    return bottleneck
