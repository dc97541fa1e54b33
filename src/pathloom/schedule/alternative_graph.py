"""Blocking shops as alternative graphs: from machine orders to earliest starts, and back.

In a blocking shop an operation holds its machine from its start until the next operation of its job starts; the last
one leaves at its end. Given the order of the operations on every machine, start times are longest paths in a graph in
which an operation waits for the end of the one before it in its job, and for the DEPARTURE of the one before it on its
machine (Mascis and Pacciarelli 2002, section 2). The orders admit a schedule exactly if

- with swaps: no cycle of the graph is longer than 0. A cycle of length 0 is a ring of jobs each of which waits for the
  machine of the next one; they move at the same instant. A machine is held over the half-open interval [arrival,
  departure), so one job may arrive the moment another departs.
- without swaps: the graph has no cycle at all, of whatever length. That is the same as a strict order of hand-overs:
  all moves of jobs (on to their next machine, or out of the shop) can be numbered such that no move comes before its
  time, and every move into a machine comes AFTER the move by which the job before it leaves, even where both happen at
  one point in time. So a chain of simultaneous moves is legal as long as somebody in it moves to a free machine; only
  a closed ring is not.

An operation of duration 0 that nobody delays still takes its turn in the order of its machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule import _alternative_kernels as kernels
from pathloom.schedule.shops import Ints, JobShop, Positions


class AlternativeGraph:
    """Nodes and compiled evaluation for one blocking shop.

    Attributes
    ----------
    shop
        The job shop; `shop.swap` says whether rings of simultaneous moves are legal.
    nodes
        The shop as the kernels see it.
    node
        Shape (operations,): node of each operation.
    """

    def __init__(self, shop: JobShop) -> None:
        self.shop = shop
        jobs, job_start = shop.jobs, shop.job_start.astype(np.int64)
        first = (job_start + 2 * np.arange(jobs + 1)).astype(np.int32)
        count = shop.operations + 2 * jobs
        self.node: Positions = (np.arange(shop.operations) + 2 * shop.job + 1).astype(np.int32)
        machine = np.full(count, -1, np.int32)
        machine[self.node] = shop.machine
        duration = np.zeros(count, np.int64)
        duration[self.node] = shop.duration
        # a job without operations does not count in the makespan
        duration[first[:-1]] = np.where(np.diff(job_start) > 0, shop.release, 0)
        rest = np.zeros(count, np.int64)
        rest[self.node] = shop.tail + shop.duration
        cell = shop.job.astype(np.int64) * shop.machines + shop.machine
        visits = self.node[np.argsort(cell, kind="stable")]
        visit_start = np.concatenate(([0], np.cumsum(np.bincount(cell, minlength=jobs * shop.machines))))
        self.nodes = kernels.Nodes(
            first,
            np.repeat(np.arange(jobs, dtype=np.int32), np.diff(first)),
            machine,
            duration,
            rest,
            visit_start.astype(np.int32),
            visits,
            shop.machines,
            shop.swap,
        )

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.nodes.job)

    def scratch(self) -> kernels.Scratch:
        """Working memory for one thread."""
        jobs = self.shop.jobs
        return kernels.Scratch(np.zeros(jobs, np.int32), np.zeros(jobs, np.int32), np.zeros(len(self), np.int32))

    def no_orders(self) -> kernels.Orders:
        """Lists without any operation."""
        before, after = np.full(len(self), -1, np.int32), np.full(len(self), -1, np.int32)
        return kernels.Orders(before, after, np.zeros(len(self), np.int32), np.full(self.shop.machines, -1, np.int32))

    def linked(self, order: NDArray[np.integer]) -> kernels.Orders:
        """The lists of an order as `machine_orders` gives it.

        Raises
        ------
        ValueError
            If `order` is no permutation of the operations, grouped by machine.
        """
        shop = self.shop
        if not np.array_equal(np.sort(order), np.arange(shop.operations)) or np.any(np.diff(shop.machine[order]) < 0):
            raise ValueError("expected every operation once, grouped by machine")
        orders = self.no_orders()
        machine, node = shop.machine[order], self.node[order]
        same = machine[1:] == machine[:-1]
        orders.before[node[1:][same]] = node[:-1][same]
        orders.after[node[:-1][same]] = node[1:][same]
        orders.place[node] = np.arange(len(node))
        leading = np.ones(len(node), np.bool_)
        leading[1:] = ~same
        orders.foremost[machine[leading]] = node[leading]
        return orders

    def evaluate(self, orders: kernels.Orders) -> Ints | None:
        """Earliest starts, shape (nodes,), of linked orders; None where they admit no schedule."""
        start = np.zeros(len(self), np.int64)
        value = kernels.earliest_starts(self.nodes, orders, self.scratch(), kernels.FAR, 0, -1, start)
        if value < 0 and self.shop.swap and np.any(self.shop.duration == 0):
            value = kernels.starts_by_rounds(self.nodes, orders, start)
        return None if value < 0 else start


def machine_orders(shop: JobShop, start: NDArray[np.integer]) -> Positions:
    """The order in which a schedule uses its machines.

    Parameters
    ----------
    start
        Shape (operations,): starts of a feasible schedule.

    Returns
    -------
    Positions
        Shape (operations,): all operations, those of machine 0 first, each machine's in the order of their starts.
    """
    end = start + shop.duration
    departure = end.copy()
    inner = np.flatnonzero(shop.job[1:] == shop.job[:-1])
    departure[inner] = start[inner + 1]
    # of two that start together the first has left again at once
    return np.lexsort((departure, start, shop.machine)).astype(np.int32)


def starts_of_orders(shop: JobShop, order: NDArray[np.integer]) -> Ints | None:
    """Earliest starts of a blocking shop whose machines take their operations in given orders.

    Parameters
    ----------
    shop
        With `blocking`; `swap` says whether jobs may change places at one instant.
    order
        Shape (operations,): as `machine_orders` returns it.

    Returns
    -------
    Ints or None
        Shape (operations,): the componentwise least starts; None if the orders deadlock.

    Raises
    ------
    ValueError
        If `order` is no permutation of the operations, grouped by machine.
    """
    graph = AlternativeGraph(shop)
    start = graph.evaluate(graph.linked(order))
    return None if start is None else start[graph.node]


def blocking_makespan(shop: JobShop, start: NDArray[np.integer]) -> int:
    """Latest end of the operations, 0 without any."""
    return int((start + shop.duration).max()) if shop.operations else 0
