"""Solutions of a job shop between two others, and how far two are apart.

Path relinking (Glover 1997; for the job shop Nowicki and Smutnicki 2005, Peng, Lü and Cheng 2014) walks from one good
solution towards another and searches anew from a point on the way. The walks of these papers swap pairs of neighbours
and must mend cycles. Here the point is found at once and never has a cycle: every operation has a time in each
solution, the middle of its earliest and its latest start; sort all operations by a weighted mean of the two times, or
of any rising functions of them, and the jobs' orders are kept, so that the machines' orders read off that one sequence
fit together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pathloom.schedule.shops import Ints, JobShop, Positions

_SPAN = 2.2  # times lie between 0 and 2 makespans, and a little beyond for a schedule that is not semi-active


@dataclass(frozen=True, eq=False)
class Relinkable:
    """A solution as path relinking sees it.

    Attributes
    ----------
    makespan
        Its value.
    order
        Shape (operations,): all operations, each after those that it waits for.
    time
        Shape (operations,): sum of earliest and latest start, in makespans; it never falls along a job or a machine.
    place
        Shape (operations,): position of each operation when all are sorted by machine, then by the machine's order.
    """

    makespan: int
    order: Positions
    time: np.ndarray
    place: Ints


def relinkable(shop: JobShop, order: Positions, earliest: Ints, tail: Ints) -> Relinkable:
    """A solution from its order, its earliest starts, and its tails (longest path from an operation on, with it)."""
    makespan = int((earliest + tail).max(initial=0))
    place = np.empty(shop.operations, np.int64)
    place[order[np.argsort(shop.machine[order], kind="stable")]] = np.arange(shop.operations)
    return Relinkable(makespan, order, (earliest + (makespan - tail)) / max(makespan, 1), place)


def distance(a: Relinkable, b: Relinkable) -> float:
    """Mean number of places by which an operation's position on its machine differs; 0 for equal machine orders."""
    return float(np.abs(a.place - b.place).mean()) if len(a.place) else 0.0


def between(
    shop: JobShop,
    a: Relinkable,
    b: Relinkable,
    share: float,
    random: np.random.Generator | None = None,
    bends: int = 4,
) -> Positions:
    """An order of all operations, `share` of the way (0 to 1) from a to b.

    With `random`, time runs at different speeds in the two solutions, in `bends` stretches each: the point then lies
    beside the straight way, closer to a in some parts of the schedule and to b in others.
    """
    first, second = a.time, b.time
    if random is not None:
        first, second = _bent(first, random, bends), _bent(second, random, bends)
    # Equal times are left in the order of numbers, which is that of the jobs
    order = np.argsort((1 - share) * first + share * second, kind="stable").astype(np.int32)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    in_order = (np.diff(place) > 0) | (np.diff(shop.job) > 0)
    # Only the rounding of makespans beyond 2^40 or so could break a job's order
    return order if in_order.all() else a.order


def _bent(time: np.ndarray, random: np.random.Generator, bends: int) -> np.ndarray:
    """A rising piecewise linear function of the times with random slopes."""
    slopes = random.uniform(0.05, 1.0, bends)
    values = np.concatenate(([0.0], np.cumsum(slopes))) * (_SPAN / slopes.sum())
    return np.interp(time, np.linspace(0.0, _SPAN, bends + 1), values)
