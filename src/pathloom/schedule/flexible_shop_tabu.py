"""Tabu search for flexible job shops, as an object that can be loaded with a schedule and run in short pieces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.shops import FlexibleShop, Ints, Positions

__all__ = ["FlexibleTabu"]

Links = NDArray[np.uint32]

# Entries of the table of forbidden orders, at most: pairs of operations beyond it share entries
_ORDER_TABLE = 2**20
# Base tenures of orders and of machines; each move's own is up to twice as long. By trial on public shops: tenures
# twice and four times as long end 0.3 and 1.5 per cent worse after the same number of moves.
_ORDER_TENURE = 5
_MACHINE_TENURE = 4


class FlexibleTabu:
    """Tabu search on the disjunctive graph of a flexible job shop.

    A move takes an operation of one random critical path to a better place of its machine, or to the best place of
    another one. Moves are judged by the longest path through the operation and the longest one past it: the first is
    Mastrolilli and Gambardella's (Effective Neighbourhood Functions for the Flexible Job Shop Problem, Journal of
    Scheduling 3, 2000) but with the longest paths of the present graph in place of those without the operation, which
    would have to be computed for each; the second they do not use.

    Parameters
    ----------
    shop
        The shop. Of alternatives of an operation on one machine only the shortest counts.
    seed
        Of the choices by lot. The same seed, loads and iterations give the same schedules.
    """

    def __init__(self, shop: FlexibleShop, seed: int = 0) -> None:
        from pathloom.schedule._flexible_kernels import FlexibleState
        from pathloom.schedule._flexible_tabu_kernels import TabuState

        self.shop = shop
        n, jobs = shop.operations, shop.jobs
        self._kept, self._renamed = _undominated(shop)
        counts = np.bincount(np.repeat(np.arange(n), np.diff(shop.alternative_start))[self._kept], minlength=n)
        machine = shop.alternative_machine[self._kept].astype(np.uint32)
        end = n + jobs
        operations = np.arange(n)
        first, last = shop.job_start[:-1], shop.job_start[1:]
        filled = last > first
        before, after = operations - 1, operations + 1
        before[first[filled]] = n + np.flatnonzero(filled)
        after[last[filled] - 1] = end
        done = np.zeros(end + 1, np.int64)
        done[n:end] = shop.release
        self.state = FlexibleState(
            alternative_start=np.concatenate(([0], np.cumsum(counts))).astype(np.uint32),
            alternative_machine=machine,
            alternative_duration=shop.alternative_duration[self._kept].astype(np.int64),
            job_before=before.astype(np.uint32),
            job_after=after.astype(np.uint32),
            last=(last[filled] - 1).astype(np.uint32),
            alternative=np.zeros(n, np.uint32),
            machine=np.zeros(n, np.uint32),
            duration=np.zeros(n, np.int64),
            order=np.arange(n, dtype=np.uint32),
            position=np.zeros(end + 1, np.uint32),
            # no machine can take more operations than name it
            sequence=np.zeros((shop.machines, int(np.bincount(machine).max(initial=0))), np.uint32),
            length=np.zeros(shop.machines, np.int64),
            place=np.zeros(n, np.uint32),
            before=np.full(end + 1, end, np.uint32),
            after=np.full(end + 1, end, np.uint32),
            done=done,
            left=np.zeros(end + 1, np.int64),
            mark=np.zeros(end + 1, np.uint8),
            spare=np.zeros(n, np.uint32),
        )
        size = 1
        while size < min(n * n, _ORDER_TABLE):
            size *= 2
        generator = np.random.default_rng(seed)
        self.tabu = TabuState(
            counters=np.zeros(6, np.int64),
            settings=np.array((_ORDER_TENURE + n // max(1, shop.machines) // 4, _MACHINE_TENURE), np.int64),
            machine_tabu=np.zeros(len(self._kept), np.int64),
            order_tabu=np.zeros(size, np.int64),
            best_alternative=np.zeros(n, np.uint32),
            best_order=np.zeros(n, np.uint32),
            path=np.zeros(n, np.uint32),
            block_first=np.zeros(n, np.int64),
            block_last=np.zeros(n, np.int64),
            detour=np.zeros(n, np.int64),
            pick=np.zeros(6, np.int64),
            blocked=np.zeros(6, np.int64),
            random=generator.integers(1, 2**63, 1, dtype=np.uint64),
        )

    def load_start(self, alternative: Positions, start: Ints) -> int:
        """Begin from a schedule in the shop's own terms; the makespan when nothing waits without need.

        Operations that begin together go by their ends, so that one without duration does not get behind the next.
        """
        choice = self._renamed[alternative]
        end = start + self.shop.alternative_duration[alternative]
        return self.load_order(choice, np.lexsort((np.arange(len(start)), end, start)).astype(np.uint32))

    def load_order(self, choice: Links, order: Links) -> int:
        """Begin from choices of alternatives, as `best_choice` names them, and an order that respects the jobs."""
        from pathloom.schedule._flexible_kernels import lay_out
        from pathloom.schedule._flexible_tabu_kernels import BEST, FAILED, IMPROVED_AT, ITERATION, MAKESPAN, STOPPED

        self.state.alternative[:] = choice
        self.state.order[:] = order
        value = int(lay_out(self.state))
        counters = self.tabu.counters
        counters[[BEST, MAKESPAN]] = value
        counters[[FAILED, STOPPED]] = 0
        # what was forbidden before stays behind
        counters[ITERATION] += 10 * int(self.tabu.settings.max())
        counters[IMPROVED_AT] = counters[ITERATION]
        self.tabu.best_alternative[:] = self.state.alternative
        self.tabu.best_order[:] = self.state.order
        return value

    def run(self, iterations: int, patience: int, target: int = 0) -> bool:
        """Make up to `iterations` moves; False when it ended before.

        It ends after `patience` moves without a better schedule, at a makespan of `target`, and when a critical path
        leaves no move at all.
        """
        from pathloom.schedule._flexible_tabu_kernels import STOPPED, search_chunk

        search_chunk(self.state, self.tabu, iterations, patience, target)
        return not self.tabu.counters[STOPPED]

    @property
    def best(self) -> int:
        """Best makespan since the last load."""
        from pathloom.schedule._flexible_tabu_kernels import BEST

        return int(self.tabu.counters[BEST])

    @property
    def best_choice(self) -> Links:
        """Shape (operations,): alternatives of the best schedule, numbered among those that are not dominated."""
        return self.tabu.best_alternative.copy()

    @property
    def best_order(self) -> Links:
        """Shape (operations,): a topological order of the best schedule."""
        return self.tabu.best_order.copy()

    def schedule(self, choice: Links, order: Links) -> tuple[Positions, Ints]:
        """A schedule in the shop's own terms, every operation at its earliest start."""
        machine = self.state.alternative_machine[choice]
        duration = self.state.alternative_duration[choice]
        start = np.zeros(len(order), np.int64)
        ready = self.shop.release.astype(np.int64)
        free = np.zeros(self.shop.machines, np.int64)
        job = self.shop.job
        for o in order.tolist():
            begin = max(ready[job[o]], free[machine[o]])
            start[o] = begin
            ready[job[o]] = free[machine[o]] = begin + duration[o]
        return self._kept[choice].astype(np.int32), start


def _undominated(shop: FlexibleShop) -> tuple[NDArray[np.int64], Links]:
    """Alternatives that are the shortest of their operation on their machine, and which of them stands in for each."""
    operation = np.repeat(np.arange(shop.operations), np.diff(shop.alternative_start))
    ranked = np.lexsort((shop.alternative_duration, shop.alternative_machine, operation))
    pair = operation[ranked] * max(1, shop.machines) + shop.alternative_machine[ranked]
    fresh = np.concatenate((np.ones(min(1, len(pair)), bool), pair[1:] != pair[:-1]))
    kept = np.sort(ranked[fresh])
    stands = np.zeros(len(ranked), np.int64)
    stands[ranked] = ranked[fresh][np.cumsum(fresh) - 1]
    return kept, np.searchsorted(kept, stands).astype(np.uint32)
