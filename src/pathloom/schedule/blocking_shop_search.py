"""Search for short schedules of blocking shops, with and without swaps.

A solution is the order of the operations on each machine. A step takes a wait on a longest path, a operation u that
starts the moment a departs from its machine, and lets the job of u pass a, or the job of a give way to u, together with
whatever else of that one job must move the same way lest the shop deadlock (Groeflin and Klinkert 2009). So every
neighbour is feasible, and only the part of the graph after the first changed start is computed again.

Steps are accepted as in annealing. One slow cooling first passes all temperatures of a ladder and leaves a copy of its
state at each rung; from there on the copies stay at their temperatures and change places (parallel tempering, Geyer
1991), so that the search has no end to be planned for and hot copies keep feeding the cold ones.
"""

from __future__ import annotations

import time

import numpy as np

from pathloom.schedule import _alternative_kernels as graph_kernels
from pathloom.schedule import _job_shift_kernels as kernels
from pathloom.schedule.alternative_graph import AlternativeGraph, blocking_makespan, machine_orders
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.shops import Ints, JobShop

SOURCE = "blocking shop search"
RUNGS = 6  # temperatures of the ladder
COLDEST, HOTTEST = 0.2, 1.0  # temperatures, in mean durations of an operation
COOLING = 0.2  # share of the time limit for the first cooling
STEPS = 200  # at one temperature between exchanges
FURTHER = 0.2  # chance to pass one operation more
CHUNK = 0.1  # seconds in compiled code between looks at the clock
CONSTRUCTIONS = 8


class _Search:
    """State of one run."""

    def __init__(self, shop: JobShop, incumbent: Incumbent[Ints], seed: int) -> None:
        self.graph = graph = AlternativeGraph(shop)
        self.shop, self.incumbent = shop, incumbent
        self.generator = np.random.default_rng(seed)
        # xorshift never leaves 0
        self.random = np.array([self.generator.integers(1, 1 << 62)], np.uint64)
        nodes = len(graph)
        self.scratch = graph.scratch()
        self.best = graph.no_orders()
        self.values = np.zeros(5, np.int64)
        self.moves = kernels.Moves(
            label=np.zeros(nodes, np.int64),
            target=np.zeros(nodes, np.int32),
            stack=np.zeros(nodes, np.int32),
            touched=np.zeros(nodes, np.int32),
            undo=np.zeros((nodes, 3), np.int32),
            critical=np.zeros((nodes, 2), np.int32),
            trial=np.zeros(nodes, np.int64),
        )
        self.replicas = kernels.Replicas(
            before=np.zeros((RUNGS, nodes), np.int32),
            after=np.zeros((RUNGS, nodes), np.int32),
            place=np.zeros((RUNGS, nodes), np.int32),
            foremost=np.zeros((RUNGS, shop.machines), np.int32),
            start=np.zeros((RUNGS, nodes), np.int64),
            value=np.zeros(RUNGS, np.int64),
            row=np.arange(RUNGS, dtype=np.int32),
        )
        self.orders = graph.no_orders()
        self.start = np.zeros(nodes, np.int64)
        self.heat = max(1e-3, float(shop.duration.mean()))

    def construct(self, initial: Ints | None) -> None:
        """Set `orders` to the best of some sequences of job insertions, or to the given schedule."""
        shop = self.shop
        work = np.bincount(shop.job, shop.duration, shop.jobs)
        sequences = [np.argsort(-work, kind="stable")]
        sequences += [self.generator.permutation(shop.jobs) for _ in range(CONSTRUCTIONS - 1)]
        least, start = -1, self.start.copy()
        for sequence in sequences:
            if least >= 0 and self.incumbent.finished:
                break
            made = graph_kernels.insert_all(self.graph.nodes, self.orders, self.scratch, sequence, self.start)
            if least < 0 or made < least:
                least, start = int(made), self.start.copy()
                kernels.keep_orders(self.orders, self.best)
                self.incumbent.offer(least, start[self.graph.node], SOURCE)
        kernels.keep_orders(self.best, self.orders)
        self.start[:] = start
        self.values[:2] = least
        if initial is not None:
            self.incumbent.offer(blocking_makespan(shop, initial), initial, SOURCE)
            if self.load(initial) and self.values[0] < least:
                self.values[1] = self.values[0]
                kernels.keep_orders(self.orders, self.best)

    def load(self, start: Ints) -> bool:
        """Set `orders` to those of a schedule, and say whether they admit one."""
        orders = self.graph.linked(machine_orders(self.shop, start))
        # the kernels' own evaluation, as the moves rely on what it accepts
        value = graph_kernels.earliest_starts(
            self.graph.nodes, orders, self.scratch, graph_kernels.FAR, 0, -1, trial := np.zeros_like(self.start)
        )
        if value < 0:
            return False
        kernels.keep_orders(orders, self.orders)
        self.start[:] = trial
        self.values[0] = value
        return True

    def tell(self) -> None:
        """Offer the best orders met."""
        if self.incumbent.value is None or self.values[1] < self.incumbent.value:
            start = self.graph.evaluate(self.best)
            assert start is not None  # an accepted move has been evaluated
            self.incumbent.offer(int(self.values[1]), start[self.graph.node], SOURCE)

    def put(self, rung: int) -> None:
        """Copy `orders` to a rung of the ladder."""
        replicas, row = self.replicas, self.replicas.row[rung]
        replicas.before[row] = self.orders.before
        replicas.after[row] = self.orders.after
        replicas.place[row] = self.orders.place
        replicas.foremost[row] = self.orders.foremost
        replicas.start[row] = self.start
        replicas.value[row] = self.values[0]

    def cool(self, seconds: float) -> None:
        """Anneal `orders` from the hottest to the coldest temperature, leaving a copy at every rung."""
        began, steps, rung = time.monotonic(), 200, RUNGS - 1
        while rung >= 0:
            share = min(1.0, (time.monotonic() - began) / seconds) if seconds > 0 else 1.0
            if share >= (RUNGS - 1 - rung) / (RUNGS - 1) or self.incumbent.finished:
                self.put(rung)
                rung -= 1
                continue
            heat = self.heat * HOTTEST * (COLDEST / HOTTEST) ** share
            clock = time.monotonic()
            self.anneal(heat, steps)
            steps = _rescaled(steps, time.monotonic() - clock, min(CHUNK, seconds / 40))
            self.tell()

    def anneal(self, heat: float, steps: int) -> None:
        """Annealing steps on `orders` at one temperature."""
        kernels.anneal(
            self.graph.nodes,
            self.orders,
            self.best,
            self.scratch,
            self.moves,
            self.start,
            self.random,
            self.values,
            heat,
            1.0,
            steps,
            FURTHER,
        )

    def temper(self, rounds: int, steps: int) -> None:
        """Rounds of parallel tempering."""
        kernels.temper(
            self.graph.nodes,
            self.replicas,
            self.best,
            self.scratch,
            self.moves,
            self.random,
            self.values,
            self.heat * np.geomspace(COLDEST, HOTTEST, RUNGS),
            rounds,
            steps,
            FURTHER,
        )

    def take_up(self) -> None:
        """Put a better solution of another method on the coldest rung."""
        best = self.incumbent.best()
        if best is None or best[0] >= self.values[1] or not self.load(best[1]):
            return
        self.put(0)
        if self.values[0] < self.values[1]:
            self.values[1] = self.values[0]
            kernels.keep_orders(self.orders, self.best)


def blocking_shop_search(
    shop: JobShop, incumbent: Incumbent[Ints], *, seed: int = 0, initial: Ints | None = None
) -> None:
    """Offer ever shorter schedules of a blocking shop until `incumbent.finished`.

    Parameters
    ----------
    shop
        With `blocking`; `swap` True or False.
    incumbent
        Receives start arrays of shape (operations,); better ones of other methods are taken up. Plans its cooling by
        the time left.
    seed
        Of the random draws; runs still differ, as the cooling follows the clock.
    initial
        Shape (operations,): starts of a feasible schedule to begin with.

    Raises
    ------
    ValueError
        If the shop is not blocking.
    """
    if not shop.blocking or shop.no_wait:
        raise ValueError("expected a blocking shop")
    if shop.operations == 0:
        incumbent.offer(0, np.zeros(0, np.int64), SOURCE)
        return
    # a longest path without any wait for a machine is one whole job; no move could shorten it
    incumbent.raise_bound(int((shop.release[shop.job] + shop.duration + shop.tail).max()), "longest job")
    search = _Search(shop, incumbent, seed)
    search.construct(initial)
    search.cool(COOLING * incumbent.left)
    rounds, steps = 1, STEPS
    while not incumbent.finished:
        clock = time.monotonic()
        search.temper(rounds, steps)
        passed = time.monotonic() - clock
        rounds = _rescaled(rounds, passed, CHUNK)
        if rounds == 1 and passed > 2 * CHUNK:
            steps = max(10, steps // 2)
        search.tell()
        search.take_up()


def _rescaled(count: int, passed: float, wanted: float) -> int:
    """The number of steps that should take `wanted` seconds where `count` took `passed`."""
    return min(1 << 30, max(1, int(count * min(4.0, max(0.1, wanted / max(passed, 1e-6))))))
