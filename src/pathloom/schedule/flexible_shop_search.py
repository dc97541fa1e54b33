"""Anytime search for flexible job shops: tabu search from good starts, then between the best schedules found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from pathloom.schedule.flexible_shop_construction import RULES, flexible_shop_start
from pathloom.schedule.flexible_shop_relinking import Elite, ElitePool, between
from pathloom.schedule.flexible_shop_tabu import FlexibleTabu

if TYPE_CHECKING:
    from pathloom.schedule.incumbent import Incumbent
    from pathloom.schedule.shops import FlexibleShop, Ints, Positions

__all__ = ["flexible_shop_search", "flexible_shop_start"]

SOURCE = "flexible-shop tabu"
# Seconds that the compiled search may take before it lets others run
_CHUNK = 0.15
# Moves without a better schedule after which a tabu search ends; by trial, short ones from many places do better
_PATIENCE = 1500
_POOL = 8
# Children in a row that do not enter the pool, after which it is begun anew
_FRUITLESS = 24
# Priorities of the first schedules vary by so much, and so much the prices of the machines that they may use
_NOISE = 0.4
_SPREADS = (0.0, None, 0.6, 0.05, 0.2)
# Part of the time left that the choice of the very first schedule may take
_CHOICE = 0.1


def flexible_shop_search(
    shop: FlexibleShop,
    incumbent: Incumbent[tuple[Positions, Ints]],
    *,
    seed: int = 0,
    initial: tuple[Positions, Ints] | None = None,
) -> None:
    """Offer better and better schedules until the incumbent is finished.

    A pool of local optima of `FlexibleTabu`, begun from dispatching rules, is improved by searching from schedules
    between two of them (`between`); it is begun anew when that brings nothing more. The best schedule of the other
    methods that share the incumbent is taken into the pool. Searches with unlike seeds complement each other.

    Parameters
    ----------
    shop
        The shop.
    incumbent
        Where to put what is found; the makespan is to be minimised, a solution is the index into the shop's
        alternatives and the start of each operation.
    seed
        Of all random choices.
    initial
        A schedule to begin from.
    """
    if shop.operations == 0:
        incumbent.offer(0, (np.zeros(0, np.int32), np.zeros(0, np.int64)), SOURCE)
        return
    search = _Search(shop, incumbent, seed)
    while not incumbent.finished:
        search.fill_pool(initial)
        initial = None
        search.use_pool()


class _Search:
    """The state of one search: the tabu search, the pool, and how fast the machine is."""

    def __init__(self, shop: FlexibleShop, incumbent: Incumbent[tuple[Positions, Ints]], seed: int) -> None:
        self.shop, self.incumbent = shop, incumbent
        self.random = np.random.default_rng(seed)
        self.tabu = FlexibleTabu(shop, seed)
        machine = self.tabu.state.alternative_machine
        self.pool = ElitePool(machine, _POOL, max(1, shop.operations // 50))
        self._iterations = 16
        # makespan of the last schedule taken from the incumbent
        self._taken: int | None = None

    def fill_pool(self, initial: tuple[Positions, Ints] | None) -> None:
        """Search from dispatching rules until the pool is full."""
        self.pool.clear()
        for trial in range(3 * _POOL):
            if trial > 0:
                start = self.any_start()
            elif initial is not None:
                start = initial
            else:
                start = self.best_start()
            self.tabu.load_start(*start)
            self.pool.add(self.improve())
            if self.incumbent.finished or self.pool.full:
                return

    def any_start(self) -> tuple[Positions, Ints]:
        """A greedy schedule by lot."""
        rule = str(self.random.choice(list(RULES)))
        spread = _SPREADS[int(self.random.integers(len(_SPREADS)))]
        seed = int(self.random.integers(2**32))
        return flexible_shop_start(self.shop, rule, seed=seed, noise=_NOISE, spread=spread)

    def best_start(self) -> tuple[Positions, Ints]:
        """The best of the greedy schedules that are free of chance, or of those that there is time for."""
        latest = self.incumbent.left * (1.0 - _CHOICE)
        best = flexible_shop_start(self.shop)
        value = self.tabu.load_start(*best)
        for spread in _SPREADS:
            for rule in ("mwkr", "mor"):
                if self.incumbent.left < latest:
                    return best
                start = flexible_shop_start(self.shop, rule, spread=spread)
                reached = self.tabu.load_start(*start)
                if reached < value:
                    best, value = start, reached
        return best

    def use_pool(self) -> None:
        """Search between pairs of the pool until that brings nothing more."""
        fruitless = 0
        while not self.incumbent.finished and fruitless < _FRUITLESS:
            self.take_up()
            elites = self.pool.elites
            if len(elites) < 2:
                return
            one, other = self.random.choice(len(elites), 2, replace=False)
            share = self.random.uniform(0.3, 0.7)
            self.tabu.load_order(*between(elites[one], elites[other], share, self.random))
            fruitless = 0 if self.pool.add(self.improve()) else fruitless + 1

    def take_up(self) -> None:
        """Put the incumbent into the pool if another method has found it."""
        best = self.incumbent.best()
        if (
            best is None
            or best[0] == self._taken
            or best[0] >= min((e.value for e in self.pool.elites), default=best[0])
        ):
            return
        self._taken = best[0]
        value = self.tabu.load_start(*best[1])
        self.pool.add(Elite(value, self.tabu.best_choice, self.tabu.best_order))

    def improve(self) -> Elite:
        """Run the tabu search from what it is loaded with, and offer what it finds."""
        tabu, incumbent = self.tabu, self.incumbent
        self.offer()
        while not incumbent.finished:
            began = time.perf_counter()
            going = tabu.run(self._iterations, _PATIENCE, incumbent.bound or 0)
            seconds = time.perf_counter() - began
            self.offer()
            if not going:
                break
            faster = min(4.0, 0.7 * _CHUNK / max(seconds, 1e-9))
            self._iterations = max(1, int(self._iterations * faster))
        return Elite(tabu.best, tabu.best_choice, tabu.best_order)

    def offer(self) -> None:
        """Offer the best schedule of the tabu search if it is better than the incumbent."""
        value = self.incumbent.value
        if value is None or self.tabu.best < value:
            solution = self.tabu.schedule(self.tabu.best_choice, self.tabu.best_order)
            self.incumbent.offer(self.tabu.best, solution, SOURCE)
