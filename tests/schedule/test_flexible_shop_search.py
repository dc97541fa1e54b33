"""The anytime search of flexible shops: right, exact on tiny shops, at the known optimum on small public ones."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from small_flexible_shops import (
    best_makespan,
    broken_rules,
    flexible_shop,
    makespan_of,
    random_shop,
    tiny_shops,
)

from pathloom.data import local_folder
from pathloom.schedule.flexible_shop_bounds import flexible_shop_bound
from pathloom.schedule.flexible_shop_construction import flexible_shop_start
from pathloom.schedule.flexible_shop_search import flexible_shop_search
from pathloom.schedule.flexible_shop_tabu import FlexibleTabu
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.shops import FlexibleShop, Ints, Positions

Schedules = Incumbent[tuple[Positions, Ints]]


class Checked(Schedules):
    """An incumbent that looks at every offer, and ends after so many searches between offers."""

    def __init__(self, shop: FlexibleShop, *, bound: int | None = None, pieces: int = 10**9) -> None:
        super().__init__(60.0, bound=bound)
        self.shop, self.pieces, self.offers = shop, pieces, 0

    @property
    def finished(self) -> bool:
        self.pieces -= 1
        return super().finished or self.pieces <= 0

    def offer(self, value: int, solution: tuple[Positions, Ints], source: str) -> bool:
        alternative, start = solution
        assert broken_rules(self.shop, alternative, start) == []
        assert makespan_of(self.shop, alternative, start) == value
        assert alternative.dtype == np.int32
        assert start.dtype == np.int64
        self.offers += 1
        return super().offer(value, solution, source)


def public_shop(name: str) -> FlexibleShop:
    """A shop of the public collection, skipped where that is not at hand."""
    folder = local_folder("fjsp")
    if folder is None:
        pytest.skip("the data set 'fjsp' is not on this machine")
    with zipfile.ZipFile(Path(folder) / "instances.zip") as archive:
        lines = [line.split() for line in archive.read(name).decode().splitlines() if line.strip()]
    rows = []
    for line in lines[1 : 1 + int(lines[0][0])]:
        numbers = iter([int(word) for word in line])
        rows.append([[(next(numbers), next(numbers)) for _ in range(next(numbers))] for _ in range(next(numbers))])
    return flexible_shop(rows, int(lines[0][1]))


@settings(max_examples=25, deadline=None)
@given(tiny_shops(longest=2))
def test_the_best_schedule_of_a_tiny_shop_is_found(shop: FlexibleShop) -> None:
    best = best_makespan(shop)
    incumbent = Checked(shop, bound=best)
    flexible_shop_search(shop, incumbent)
    assert incumbent.value == best


def test_an_empty_shop_is_solved_at_once() -> None:
    shop = flexible_shop([[], []], 1)
    incumbent = Checked(shop)
    flexible_shop_search(shop, incumbent)
    assert incumbent.value == 0


def test_a_shop_without_choice_does_not_hang() -> None:
    """One job: there is nothing to move, and without a bound only the clock ends the search."""
    shop = flexible_shop([[[(0, 3)], [(0, 2)]]], 1)
    incumbent = Checked(shop, pieces=200)
    flexible_shop_search(shop, incumbent)
    assert incumbent.value == 5


def test_the_search_begins_from_the_schedule_it_is_given() -> None:
    shop = random_shop(6, 4, 3, 5)
    good = Checked(shop, pieces=60)
    flexible_shop_search(shop, good, seed=1)
    assert good.solution is not None
    again = Checked(shop, pieces=3)
    flexible_shop_search(shop, again, seed=2, initial=good.solution)
    assert again.value is not None
    assert good.value is not None
    assert again.value <= good.value
    assert again.history[0].value == good.value


def test_a_better_schedule_of_another_method_is_taken_into_the_pool() -> None:
    from pathloom.schedule.flexible_shop_search import _Search

    shop = random_shop(10, 5, 4, 6)
    incumbent = Checked(shop, pieces=30)
    search = _Search(shop, incumbent, 0)
    alternative, start = flexible_shop_start(shop)
    long = start * 2
    search.tabu.load_start(alternative, long)
    found = search.improve()
    incumbent.pieces = 10**6
    incumbent.value = None
    incumbent.offer(found.value, search.tabu.schedule(found.choice, found.order), "another method")
    search.take_up()
    assert [e.value for e in search.pool.elites] == []
    worse = search.tabu.load_start(alternative, start)
    search.pool.add(type(found)(worse, search.tabu.best_choice, search.tabu.best_order))
    assert found.value < worse
    search.take_up()
    assert min(e.value for e in search.pool.elites) == found.value


def test_two_searches_share_an_incumbent() -> None:
    shop = random_shop(12, 6, 5, 9)
    incumbent = Checked(shop, pieces=80)
    threads = [
        threading.Thread(target=flexible_shop_search, args=(shop, incumbent), kwargs={"seed": s}) for s in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = [entry.value for entry in incumbent.history]
    assert values == sorted(values, reverse=True)
    assert incumbent.value is not None
    assert incumbent.value < makespan_of(shop, *flexible_shop_start(shop))
    assert incumbent.value >= flexible_shop_bound(shop)[0]


@pytest.mark.parametrize(
    ("name", "optimum"),
    [
        ("kacem/k1.txt", 11),
        ("kacem/k4.txt", 11),
        ("brandimarte/mk01.txt", 40),
        ("brandimarte/mk03.txt", 204),
        ("brandimarte/mk08.txt", 523),
        ("hurink/edata/mt06.txt", 55),
        ("hurink/vdata/la16.txt", 717),
    ],
)
def test_small_public_shops_are_solved_to_the_known_optimum(name: str, optimum: int) -> None:
    shop = public_shop(name)
    assert flexible_shop_bound(shop)[0] <= optimum
    best = []
    for seed in range(3):
        tabu = FlexibleTabu(shop, seed)
        tabu.load_start(*flexible_shop_start(shop, seed=seed, noise=0.2))
        tabu.run(40_000, 40_000, optimum)
        best.append(tabu.best)
    assert min(best) == optimum
