"""Bottleneck bipartite matching: pair two sets so that the dearest pair is as cheap as possible.

The bottleneck is found by augmenting along paths whose dearest edge is cheapest, starting from a bound that no
matching can beat (U. Derigs, U. Zimmermann, "An augmenting path method for solving linear bottleneck assignment
problems", Computing 19, 1978; R. Burkard, M. Dell'Amico, S. Martello, "Assignment Problems", section 6.2). That takes
O(n^2 m) steps for n rows and m >= n columns, in one pass. Among the matchings that reach the bottleneck, one of least
sum is then taken by solving the linear assignment problem on the edges that are not dearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class BottleneckMatching:
    """A matching that saturates the smaller side.

    Attributes
    ----------
    bottleneck
        Largest matched entry.
    total
        Sum of the matched entries, least among the matchings with this bottleneck.
    rows, columns
        Shape (min(n, m),): ``rows[k]`` is matched to ``columns[k]``; rows ascend.
    """

    bottleneck: float
    total: float
    rows: Ints
    columns: Ints


def bottleneck_value(cost: ArrayLike) -> float:
    """Smallest possible largest entry of a matching that saturates the smaller side.

    Parameters
    ----------
    cost
        Shape (n, m); infinity forbids a pair.

    Returns
    -------
    float
        The bottleneck; infinity if the allowed pairs hold no such matching.

    Raises
    ------
    ValueError
        If `cost` is not a matrix with at least one entry, or holds a NaN.
    """
    from pathloom.graph._matching_kernels import match_bottleneck

    matrix = _matrix(cost)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = np.ascontiguousarray(matrix.T)
    return float(match_bottleneck(matrix, np.empty(matrix.shape[1], np.int64)))


def bottleneck_matching(cost: ArrayLike) -> BottleneckMatching:
    """Matching of least sum among those whose largest entry is smallest.

    Parameters
    ----------
    cost
        Shape (n, m), rectangular allowed; infinity forbids a pair.

    Returns
    -------
    BottleneckMatching
        It has min(n, m) pairs.

    Raises
    ------
    ValueError
        If `cost` is not a matrix with at least one entry, holds a NaN, or allows no matching of min(n, m) pairs.
    """
    from scipy.optimize import linear_sum_assignment

    matrix = _matrix(cost)
    bottleneck = bottleneck_value(matrix)
    if bottleneck == np.inf:
        raise ValueError(f"no matching of {min(matrix.shape)} pairs avoids the forbidden (infinite) entries")
    rows, columns = linear_sum_assignment(np.where(matrix <= bottleneck, matrix, np.inf))
    return BottleneckMatching(
        bottleneck=bottleneck,
        total=float(matrix[rows, columns].sum()),
        rows=rows.astype(np.int64),
        columns=columns.astype(np.int64),
    )


def _matrix(cost: ArrayLike) -> Floats:
    # A copy, so that the kernel meets one array type and is compiled once, also for read-only input.
    matrix = np.array(cost, dtype=np.float64, order="C")
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"cost has shape {matrix.shape}, expected a matrix with at least one row and one column")
    if np.isnan(matrix).any():
        raise ValueError("cost holds a NaN")
    return matrix
