"""Short path through many points, or short tour, by insertion and local search.

For more points than `held_karp` can take. The order grows by nearest insertion (D. Rosenkrantz, R. Stearns, P. Lewis,
"An analysis of several heuristics for the traveling salesman problem", SIAM Journal on Computing 6, 1977), then
segments are reversed (2-opt: G. Croes, 1958), points swapped, and segments of up to three points moved, reversed or not
(Or-opt: I. Or, 1976) until no such move helps. There is no bound on how far the result is from the best. Costs may be
asymmetric and positions restricted: every move is priced in full. One pass costs O(n^3): meant for tens to a few
hundred points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pathloom.graph.held_karp import Tour, order_problem


def tour_local_search(
    cost: ArrayLike, *, closed: bool = False, start: int | None = None, allowed: ArrayLike | None = None
) -> Tour:
    """A locally shortest order of all points; arguments and errors are those of `held_karp`, without its size limit.

    Raises
    ------
    ValueError
        As `held_karp`; also if no order of finite cost was found, which does not prove that there is none.
    """
    from pathloom.graph._tour_kernels import allowed_order, improve_order, nearest_insertion, path_cost

    problem = order_problem(cost, closed=closed, start=start, allowed=allowed)
    if len(problem.points) == 0:
        return Tour(0.0, problem.order(np.empty(0, np.int64)))
    # Missing ways become dearer than any path without them, so that the search has a slope to go down.
    paid = np.concatenate((problem.first, problem.last, problem.inner[~np.eye(len(problem.first), dtype=np.bool_)]))
    missing = 2.0 * (len(problem.first) + 1) * float(np.abs(paid[np.isfinite(paid)]).max(initial=0.0)) + 1.0
    first, inner, last = (np.where(np.isinf(c), missing, c) for c in (problem.first, problem.inner, problem.last))
    if problem.allowed.all():
        inside = nearest_insertion(first, inner, last)
    else:
        inside = allowed_order(problem.allowed)
        if inside[0] < 0:
            raise ValueError("no order puts every point at a position where it may stand")
    improve_order(first, inner, last, problem.allowed, inside)
    best = float(path_cost(problem.first, problem.inner, problem.last, inside))
    if best == np.inf:
        raise ValueError("no order of finite cost was found")
    return Tour(best, problem.order(inside))
