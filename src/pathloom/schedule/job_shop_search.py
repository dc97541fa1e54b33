"""Job-shop local search: tabu search from points between the best solutions found.

A few solutions, each the best of a tabu search of its own, form a population. Again and again two of them are drawn and
a solution between them is searched from (Peng, Lü and Cheng 2014, "A tabu search/path relinking algorithm to solve the
job shop scheduling problem"). What is found joins the population, and one goes: the worst of those that lie too close
to a better one, or else the worst. How close is too close falls from a share of the first solutions' distance to
nothing at the time limit, so that the population does not become alike too early, however much time there is
(Constantino and Segura 2022, "A parallel memetic algorithm with explicit management of diversity for the job shop
scheduling problem").

Departures from the papers: the points between come from `path_relinking`, one for each tabu search; the population is
smaller and the tabu searches are shorter, as fits half a minute; when all solutions have become alike all the same, all
but the best are made anew.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import ArrayLike

from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.job_shop_graph import load_bound, time_order
from pathloom.schedule.path_relinking import Relinkable, between, distance, relinkable
from pathloom.schedule.shops import Ints, JobShop, Positions

POPULATION = 8
_FILLED = (4, 0.12)  # a new population takes so many, and then more until this share of the time is over
APART = 0.25  # least distance of two members at the beginning, as a share of the mean distance of the first ones
PATIENCE = 10  # moves an operation without a new best that end a tabu search
_PATIENCE = (1500, 12000)  # its limits, in moves
_SHARES = (0.3, 0.7)  # of the way from one solution to the other
_ALIKE = 0.12  # mean distance, in places, below which the population begins anew
_CHUNK = 0.1  # seconds of one kernel call
_SOURCE = "tabu search"


def job_shop_search(
    shop: JobShop,
    incumbent: Incumbent[Ints],
    *,
    seed: int = 0,
    initial: ArrayLike | None = None,
    moves: int | None = None,
) -> None:
    """Offer better and better schedules of a classic job shop until the incumbent is finished.

    Parameters
    ----------
    shop
        Without blocking and no-wait.
    incumbent
        Its solutions are starts, shape (operations,), its value is the makespan. Better solutions of others are taken
        into the population.
    seed
        Searches with different seeds may run side by side on one incumbent.
    initial
        Starts of a feasible schedule, shape (operations,), to begin from.
    moves
        End after so many moves (and the chunk in which the last one lies): for runs that do not depend on time.

    Raises
    ------
    ValueError
        The shop is blocking or no-wait, or `initial` has another shape.
    """
    if shop.blocking or shop.no_wait:
        raise ValueError("job_shop_search works on classic job shops, without blocking and no-wait")
    incumbent.raise_bound(load_bound(shop), "machine load")
    if shop.operations == 0:
        incumbent.offer(0, np.zeros(0, np.int64), _SOURCE)
        return
    _Population(shop, incumbent, seed, moves).run(None if initial is None else time_order(shop, initial))


class _Population:
    """The state of one search."""

    def __init__(self, shop: JobShop, incumbent: Incumbent[Ints], seed: int, moves: int | None) -> None:
        from pathloom.schedule.job_shop_tabu import TabuSearch

        self.shop = shop
        self.incumbent = incumbent
        self.random = np.random.default_rng((seed, 1))
        self.tabu = TabuSearch(shop, seed=seed)
        self.moves = moves
        self.horizon = max(incumbent.left, 1e-9)  # seconds
        self.patience = int(np.clip(PATIENCE * shop.operations, *_PATIENCE))
        self.members: list[Relinkable] = []
        self.steps = 200  # moves of one kernel call, adapted to the machine's speed
        self.made = 0  # moves, and one a tabu search
        self.adopted: int | None = None
        self.apart = 0.0  # least distance of two members at the beginning

    @property
    def elapsed(self) -> float:
        """Share of the time or of the moves that is over, 0 to 1."""
        if self.moves is not None:
            return self.made / self.moves
        return 1.0 - self.incumbent.left / self.horizon

    @property
    def finished(self) -> bool:
        return self.incumbent.finished or (self.moves is not None and self.made >= self.moves)

    def run(self, initial: Positions | None) -> None:
        self.populate(initial)
        since_checked = 0
        while not self.finished:
            self.adopt()
            if len(self.members) < 2:
                self.populate(None)
                continue
            a, b = self.random.choice(len(self.members), 2, replace=False)
            share = float(self.random.uniform(*_SHARES))
            self.settle(self.improve(between(self.shop, self.members[a], self.members[b], share, self.random)))
            since_checked += 1
            if since_checked >= 2 * POPULATION:
                since_checked = 0
                if self.spread() < _ALIKE:
                    self.members = [min(self.members, key=lambda member: member.makespan)]
                    self.populate(None)

    def populate(self, initial: Positions | None) -> None:
        """Fill the population: from `initial`, else the incumbent, else a rule; then from orders drawn at random."""
        began = self.elapsed
        least, share = _FILLED
        while len(self.members) < POPULATION and not self.finished:
            if len(self.members) >= least and self.elapsed - began > share:
                break
            if self.members:
                order = self.drawn()
            elif initial is not None:
                order = initial
            else:
                best = self.incumbent.best()
                order = self.dispatched() if best is None else time_order(self.shop, best[1])
            self.members.append(self.improve(order))
        self.apart = max(self.apart, APART * self.spread())

    def improve(self, order: Positions) -> Relinkable:
        """The best solution of a tabu search from `order`, offered to the incumbent whenever that improves."""
        tabu, incumbent = self.tabu, self.incumbent
        offered = tabu.load(order)
        self.offer()
        self.made += 1  # so that a search without any move counts, too
        while not self.finished:
            began = time.perf_counter()
            limit = self.steps if self.moves is None else min(self.steps, self.moves - self.made)
            done = tabu.run(limit, self.patience, incumbent.bound or 0)
            seconds = time.perf_counter() - began
            self.made += done
            if tabu.best < offered:
                offered = tabu.best
                self.offer()
            if done < limit:
                break
            # Double at most, so that one quick call does not make the next one long
            self.steps = max(20, int(self.steps * min(2.0, min(_CHUNK, incumbent.left) / max(seconds, 1e-6))))
        tabu.load(tabu.best_order)
        return relinkable(self.shop, tabu.order, tabu.start, tabu.tail)

    def offer(self) -> None:
        value = self.incumbent.value
        if value is None or self.tabu.best < value:
            self.incumbent.offer(self.tabu.best, self.tabu.best_start, _SOURCE)
            self.adopted = self.tabu.best

    def settle(self, found: Relinkable) -> None:
        """Add a solution to the population, and drop one: of those too close to a better one, or else the worst."""
        pool = sorted([found, *self.members], key=lambda member: member.makespan)
        if len(pool) <= POPULATION:
            self.members = pool
            return
        apart = self.apart * max(0.0, 1.0 - self.elapsed)
        kept, pool = pool[:1], pool[1:]
        gap = np.array([distance(kept[0], other) for other in pool])
        while len(kept) < POPULATION:
            far = np.flatnonzero((gap >= apart) & (gap > 0))
            chosen = int(far[0]) if len(far) else int(gap.argmax())
            kept.append(pool.pop(chosen))
            gap = np.minimum(np.delete(gap, chosen), [distance(kept[-1], other) for other in pool])
        self.members = kept

    def adopt(self) -> None:
        """Take a solution of another method that is better than all of ours into the population."""
        best = self.incumbent.best()
        if best is None or (self.adopted is not None and best[0] >= self.adopted):
            return
        self.adopted = best[0]
        self.tabu.load(time_order(self.shop, best[1]))
        self.settle(relinkable(self.shop, self.tabu.order, self.tabu.start, self.tabu.tail))

    def spread(self) -> float:
        """Mean distance of two members."""
        members = self.members
        return float(
            np.mean([0.0] if len(members) < 2 else [distance(a, b) for i, a in enumerate(members) for b in members[:i]])
        )

    def dispatched(self) -> Positions:
        """Operations as the rule "most work remaining" starts them."""
        from pathloom.schedule.dispatching import dispatch

        return time_order(self.shop, dispatch(self.shop, -self.shop.tail - self.shop.duration))

    def drawn(self) -> Positions:
        """Operations job by job in turns drawn at random."""
        turns = self.random.permutation(self.shop.job)
        order = np.empty(self.shop.operations, np.int32)
        # The k-th turn of a job is its k-th operation
        order[np.argsort(turns, kind="stable")] = np.arange(self.shop.operations)
        return order
