"""Tabu search for the makespan of a classic job shop.

Neighbourhood N7 (Zhang, Li, Guan and Rao 2007, which adds to the N6 of Balas and Vazacopoulos 1998): within a block of
operations that follow each other on one machine of a critical path, move one behind the last or ahead of the first, or
move the first or the last to the inside. A move is judged by the longest path through the operations that it shifts,
were all others to stay (Balas and Vazacopoulos 1998, section 3).

Departures from the papers: a move is let through when any of three facts rules out a cycle (starts, tails, or places in
a topological order); a move makes every pair that it turns round tabu, and is tabu when its two ends form such a pair;
starts and tails are recomputed along a topological order that is kept up to date, from the first place that a move
touched on.
"""

from __future__ import annotations

import numpy as np

from pathloom.schedule import _tabu_kernels as kernels
from pathloom.schedule.shops import Ints, JobShop, Positions

_TABU_SLOTS = 1 << 20
_REACH = 100  # how many places of a block a move is tried over: blocks of large shops have hundreds of operations


class TabuSearch:
    """One search with its current and its best solution; the shop must be classic (no blocking, no no-wait).

    Parameters
    ----------
    tenure
        A reversed pair stays tabu for `tenure` to 1.5 `tenure` moves.

    Attributes
    ----------
    moves
        Made since the search began.
    """

    def __init__(self, shop: JobShop, *, seed: int = 0, tenure: int = 10) -> None:
        if shop.blocking or shop.no_wait:
            raise ValueError("tabu search works on classic job shops, without blocking and no-wait")
        n, jobs = shop.operations, shop.jobs
        nodes = n + 1 + jobs
        self.shop = shop
        self._duration = np.concatenate((shop.duration, np.zeros(1 + jobs, np.int64)))
        start = shop.job_start.astype(np.int64)
        some = np.flatnonzero(start[1:] > start[:-1])
        job_before, job_after = np.full(nodes, n, np.uint32), np.full(nodes, n, np.uint32)
        job_before[1:n] = np.arange(n - 1) if n else 0
        job_after[: n - 1] = np.arange(1, n) if n else 0
        job_before[start[some]] = np.where(shop.release[some] > 0, n + 1 + some, n)
        job_after[start[some + 1] - 1] = n
        self._job_before, self._job_after = job_before, job_after
        self._job_last = (start[some + 1] - 1).astype(np.uint32)
        self._machine = np.append(shop.machine, shop.machines).astype(np.uint32)
        # A pair of operations of a machine has the slot (first's number, second's rank among the machine's operations)
        by_machine = np.argsort(shop.machine, kind="stable")
        counts = np.bincount(shop.machine, minlength=shop.machines)
        rank = np.empty(n + 1, np.uint32)
        rank[by_machine] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
        rank[n] = width = int(counts.max(initial=1))
        self._rank = rank
        slots = 1
        while slots < min(n * width, _TABU_SLOTS):
            slots *= 2
        self._tabu = np.zeros(slots, np.int64)
        self._before, self._after, self._place, self._aside, self._path, self._block = np.full((6, nodes), n, np.uint32)
        self._order, self._best_order = np.zeros((2, n), np.uint32)
        self._end, self._tail, self._best_end, self._heads = np.zeros((4, nodes), np.int64)
        self._end[n + 1 :] = shop.release
        self._mark = np.zeros(nodes, np.uint8)
        self._random = np.random.default_rng(seed).integers(1, 2**63, 1, np.uint64)
        self._state = np.zeros(kernels.STATES, np.int64)
        self._state[kernels.TENURE] = tenure
        self._state[kernels.REACH] = _REACH

    @property
    def moves(self) -> int:
        return int(self._state[kernels.ITERATION])

    @property
    def makespan(self) -> int:
        """Of the current solution."""
        return int(self._state[kernels.MAKESPAN])

    @property
    def best(self) -> int:
        """Least makespan since the last `load`."""
        return int(self._state[kernels.BEST])

    @property
    def best_order(self) -> Positions:
        """Shape (operations,): all operations of the best solution, each after those that it waits for."""
        return self._best_order.astype(np.int32)

    @property
    def best_start(self) -> Ints:
        """Shape (operations,): starts of the best solution."""
        return self._best_end[: self.shop.operations] - self.shop.duration

    @property
    def order(self) -> Positions:
        """As `best_order`, of the current solution."""
        return self._order.astype(np.int32)

    @property
    def start(self) -> Ints:
        """As `best_start`, of the current solution."""
        return self._end[: self.shop.operations] - self.shop.duration

    @property
    def tail(self) -> Ints:
        """Shape (operations,): longest path from each operation on, with it, in the current solution."""
        return self._tail[: self.shop.operations].copy()

    def load(self, order: Positions) -> int:
        """Begin anew at the solution whose machines take the operations as they come in `order`; its makespan.

        `order` holds each operation once, each after its predecessor in its job. What was tabu is so no longer.
        """
        self._order[:] = order
        makespan = int(
            kernels.load(
                self._order, self._machine, self.shop.machines, self._duration, self._job_before, self._job_after,
                self._before, self._after, self._place, self._end, self._tail,
            )
        )  # fmt: skip
        self._best_order[:] = self._order
        self._best_end[:] = self._end
        self._tabu[:] = 0
        self._state[kernels.MAKESPAN] = self._state[kernels.BEST] = makespan
        self._state[kernels.SINCE_BEST] = 0
        return makespan

    def run(self, steps: int, patience: int, target: int = 0) -> int:
        """Up to `steps` moves; fewer after `patience` moves without a new best, at `target`, or when there is none.

        Returns
        -------
        Number of moves made. A later call goes on where this one ended.
        """
        self._state[kernels.TARGET] = target
        return int(
            kernels.search(
                steps, patience, self._state, self._random, self._job_last, self._duration, self._rank,
                self._job_before, self._job_after, self._machine, self._before, self._after, self._order, self._place,
                self._end, self._tail, self._tabu, self._best_order, self._best_end, self._mark, self._aside,
                self._path, self._block, self._heads,
            )
        )  # fmt: skip
