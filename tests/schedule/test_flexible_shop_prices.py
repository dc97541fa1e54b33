"""Prices of machine time: the dual of spreading work, checked against loads that a person can work out."""

from __future__ import annotations

import numpy as np
import pytest
from small_flexible_shops import flexible_shop, random_shop

from pathloom.schedule import flexible_shop_prices
from pathloom.schedule.flexible_shop_prices import least_costs, machine_prices
from pathloom.schedule.shops import FlexibleShop


def spread_length(shop: FlexibleShop) -> float:
    prices = machine_prices(shop)
    return float(least_costs(shop, prices).sum() / prices.sum())


@pytest.fixture(params=["programme", "adjustment"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "adjustment":
        monkeypatch.setattr(flexible_shop_prices, "_PROGRAMME", 0)
    return str(request.param)


def test_work_that_any_machine_can_do_costs_the_same_on_all(way: str) -> None:
    shop = flexible_shop([[[(0, 3), (1, 3), (2, 3)]] for _ in range(10)], 3)
    prices = machine_prices(shop)
    assert prices.min() == pytest.approx(prices.max(), rel=1e-3)
    assert spread_length(shop) == pytest.approx(10.0, rel=1e-3)


def test_a_machine_that_nothing_can_be_taken_off_sets_the_price(way: str) -> None:
    # 40 units belong to machine 0; the others could not make it finish sooner
    shop = flexible_shop([[[(0, 4)]] for _ in range(10)] + [[[(1, 3), (2, 3)]] for _ in range(4)], 3)
    assert spread_length(shop) == pytest.approx(40.0, rel=0.03)


def test_the_faster_machine_costs_more(way: str) -> None:
    # the balance is at 1 unit on machine 0 for 2 on machine 1: of 30 operations 20 go to the faster one
    shop = flexible_shop([[[(0, 5), (1, 10)]] for _ in range(30)], 2)
    prices = machine_prices(shop)
    assert prices[0] / prices[1] == pytest.approx(2.0, rel=0.02)
    assert spread_length(shop) == pytest.approx(100.0, rel=0.01)


def test_only_the_chosen_operations_count(way: str) -> None:
    shop = flexible_shop([[[(0, 9)]], [[(1, 4)]], [[(1, 5)]]], 2)
    inside = np.array([False, True, True])
    prices = machine_prices(shop, inside)
    assert int(least_costs(shop, prices)[inside].sum()) / int(prices.sum()) == pytest.approx(9.0, rel=0.03)


def test_both_ways_agree_on_random_shops(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        shop = random_shop(60, 4, 6, seed)
        exact = spread_length(shop)
        with monkeypatch.context() as patch:
            patch.setattr(flexible_shop_prices, "_PROGRAMME", 0)
            assert 0.97 * exact <= spread_length(shop) <= exact * (1.0 + 1e-5)
