"""Lower bounds on the makespan of a flexible job shop that cost next to nothing beside a search."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.flexible_shop_construction import least_durations, least_tails
from pathloom.schedule.flexible_shop_prices import least_costs, machine_prices
from pathloom.schedule.shops import FlexibleShop, Ints

__all__ = ["flexible_shop_bound", "job_bound", "least_heads", "load_bound", "machine_bound"]

# Windows of heads and tails that the load bound tries, at most, are the square of this
_THRESHOLDS = 24
# Linear programmes that the load bound solves after the first
_REFINED = 4
# Not beyond this many alternatives, where each takes seconds
_REFINE_UP_TO = 15_000


def least_heads(shop: FlexibleShop) -> Ints:
    """Shape (operations,): release and work of the job before each operation, on the fastest machines."""
    whole = np.concatenate((np.zeros(1, np.int64), np.cumsum(least_durations(shop))))
    return shop.release[shop.job] + whole[:-1] - whole[shop.job_start[:-1]][shop.job]


def job_bound(shop: FlexibleShop) -> int:
    """Longest job from its release, each operation on its fastest machine."""
    return int((least_heads(shop) + least_tails(shop)).max(initial=0))


def machine_bound(shop: FlexibleShop) -> int:
    """Preemptive one-machine bound over the operations that have only one machine to go to.

    Jackson's preemptive schedule, the longest tail first (Carlier and Pinson, An Algorithm for Solving the Job-Shop
    Problem, Management Science 35, 1989), with heads and tails on the fastest machines.
    """
    least = least_durations(shop)
    if len(least) == 0:
        return 0
    lowest = np.minimum.reduceat(shop.alternative_machine, shop.alternative_start[:-1])
    highest = np.maximum.reduceat(shop.alternative_machine, shop.alternative_start[:-1])
    heads, tails = least_heads(shop), least_tails(shop) - least
    bound = 0
    for k in range(shop.machines):
        bound = max(bound, _preemptive(heads, least, tails, np.flatnonzero((lowest == k) & (highest == k))))
    return bound


def _preemptive(heads: Ints, durations: Ints, tails: Ints, chosen: NDArray[np.intp]) -> int:
    """Makespan of Jackson's preemptive schedule of the chosen operations."""
    import heapq

    order = sorted(chosen.tolist(), key=lambda o: int(heads[o]))
    waiting: list[tuple[int, int]] = []
    bound, now, i = 0, 0, 0
    while i < len(order) or waiting:
        if not waiting:
            now = max(now, int(heads[order[i]]))
        while i < len(order) and heads[order[i]] <= now:
            heapq.heappush(waiting, (-int(tails[order[i]]), int(durations[order[i]])))
            i += 1
        tail, rest = heapq.heappop(waiting)
        until = int(heads[order[i]]) if i < len(order) else now + rest
        spent = min(rest, until - now)
        now += spent
        if spent == rest:
            bound = max(bound, now - tail)
        else:
            heapq.heappush(waiting, (tail, rest - spent))
    return bound


def load_bound(shop: FlexibleShop, known: int = 0) -> int:
    """Bound from the work that the machines must share, over windows of heads and tails.

    Take the operations with a head of at least a and a tail of at least b. All must be done between a and C - b: spread
    over their machines as evenly as a linear programme can, that needs a certain length of time. For any prices
    w of the machines that add up to 1 the length is at least the sum over the operations of their cheapest
    ``w[machine] * duration``: the programme only has to find good prices (its dual values), the bound itself is taken
    from rounded prices in whole numbers, so nothing hangs on the programme's precision.

    Parameters
    ----------
    shop
        The shop.
    known
        A bound known already; returned if this one is not above it.
    """
    least = least_durations(shop)
    if len(least) == 0:
        return known
    heads, tails = least_heads(shop), least_tails(shop) - least
    prices = machine_prices(shop)
    cheapest = least_costs(shop, prices)
    bound = known
    windows: list[tuple[Fraction, int, int]] = []
    for a in _thresholds(heads):
        later = heads >= a
        for b in _thresholds(tails):
            inside = later & (tails >= b)
            if not inside.any():
                break
            length = Fraction(int(cheapest[inside].sum()), int(prices.sum()))
            windows.append((a + b + length, a, b))
    windows.sort(key=lambda w: w[0], reverse=True)
    for _, a, b in windows[: _REFINED if len(shop.alternative_machine) <= _REFINE_UP_TO else 0]:
        inside = (heads >= a) & (tails >= b)
        refined = machine_prices(shop, inside)
        work = int(least_costs(shop, refined)[inside].sum())
        bound = max(bound, a + b + -(-work // int(refined.sum())))
    return max(bound, math.ceil(windows[0][0]))


def _thresholds(values: Ints) -> list[int]:
    distinct = np.unique(values)
    if len(distinct) > _THRESHOLDS:
        distinct = distinct[np.linspace(0, len(distinct) - 1, _THRESHOLDS).astype(int)]
    return [int(v) for v in distinct]


def flexible_shop_bound(shop: FlexibleShop) -> tuple[int, str]:
    """The best of `job_bound`, `machine_bound` and `load_bound`, and its name: no schedule of the shop is shorter."""
    best, source = job_bound(shop), "longest job"
    for name, bound in (("one-machine bound", machine_bound), ("shared-load bound", load_bound)):
        value = bound(shop)
        if value > best:
            best, source = value, name
    return best, source
