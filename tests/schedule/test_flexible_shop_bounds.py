"""No schedule of a flexible shop is shorter than its bounds, and they are exact where a person can see the best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from small_flexible_shops import best_makespan, flexible_shop, makespan_of, random_shop, tiny_shops

from pathloom.schedule import flexible_shop_bounds as bounds
from pathloom.schedule import flexible_shop_prices
from pathloom.schedule.flexible_shop_bounds import (
    flexible_shop_bound,
    job_bound,
    least_heads,
    load_bound,
    machine_bound,
)
from pathloom.schedule.flexible_shop_construction import flexible_shop_start
from pathloom.schedule.shops import FlexibleShop


@settings(max_examples=20, deadline=None)
@given(tiny_shops(longest=2))
def test_no_bound_is_above_the_best_makespan(shop: FlexibleShop) -> None:
    best = best_makespan(shop)
    values = [bound(shop) for bound in (job_bound, machine_bound, load_bound)]
    assert max(values) == flexible_shop_bound(shop)[0] <= best


@settings(max_examples=12, deadline=None)
@given(tiny_shops())
def test_adjusted_prices_give_a_bound_too(shop: FlexibleShop) -> None:
    usual = flexible_shop_prices._PROGRAMME
    try:
        flexible_shop_prices._PROGRAMME = -1
        assert load_bound(shop) <= best_makespan(shop)
    finally:
        flexible_shop_prices._PROGRAMME = usual


def test_the_longest_job_from_its_release() -> None:
    shop = flexible_shop([[[(0, 7), (1, 4)], [(0, 2)]], [[(1, 3)]]], 2, [1, 9])
    assert least_heads(shop).tolist() == [1, 5, 9]
    assert job_bound(shop) == 12


def test_one_machine_with_heads_and_tails() -> None:
    # released at 0, 1 and 2; tails 0, 5 and 0: the second job interrupts the first
    shop = flexible_shop([[[(0, 4)]], [[(0, 2)], [(1, 5)]], [[(0, 3)]]], 2, [0, 1, 2])
    assert machine_bound(shop) == 9
    assert machine_bound(flexible_shop([[[(0, 4), (1, 4)]]], 2)) == 0


def test_preemptive_schedule_equals_the_best_set_bound() -> None:
    """Carlier: the preemptive bound is the largest of least head + work + least tail over all sets of operations."""
    random = np.random.default_rng(1)
    for _ in range(30):
        heads, durations, tails = (random.integers(0, 12, 6).astype(np.int64) for _ in range(3))
        by_sets = max(
            int(heads[list(s)].min() + durations[list(s)].sum() + tails[list(s)].min())
            for size in range(1, 7)
            for s in itertools.combinations(range(6), size)
        )
        assert bounds._preemptive(heads, durations, tails, np.arange(6)) == by_sets


def test_work_is_spread_over_the_machines_that_can_do_it() -> None:
    # ten operations of 3 on either of two machines, one of 4 that must go to the first: (30 + 4) / 2
    rows = [[[(0, 3), (1, 3)]] for _ in range(10)] + [[[(0, 4)]]]
    assert load_bound(flexible_shop(rows, 2)) == 17
    # behind 5 units on a third machine, and before 6
    rows = [[[(2, 5)], [(0, 3), (1, 3)], [(2, 6)]] for _ in range(10)]
    assert load_bound(flexible_shop(rows, 3)) == max(5 + 15 + 6, 10 * 11)
    assert load_bound(flexible_shop([[[(0, 3)]]], 1), 8) == 8


def test_adjusted_prices_come_near_those_of_the_programme(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = random_shop(60, 5, 6, 3)
    exact = load_bound(shop)
    monkeypatch.setattr(flexible_shop_prices, "_PROGRAMME", 0)
    assert 0.9 * exact <= load_bound(shop) <= exact


def test_bounds_of_a_larger_shop_stay_below_a_schedule() -> None:
    for seed in range(3):
        shop = random_shop(30, 6, 8, seed)
        assert 0 < flexible_shop_bound(shop)[0] <= makespan_of(shop, *flexible_shop_start(shop))


def test_an_empty_shop_is_done_at_once() -> None:
    assert flexible_shop_bound(flexible_shop([[], []], 2, [3, 4]))[0] == 0


def test_the_bound_says_which_argument_gave_it() -> None:
    assert flexible_shop_bound(flexible_shop([[[(0, 9)], [(1, 9)]], [[(0, 1)]]], 2)) == (18, "longest job")
    assert flexible_shop_bound(flexible_shop([[[(0, 4)]], [[(0, 3)]]], 1))[1] == "one-machine bound"
    shared = flexible_shop([[[(0, 4), (1, 4)]] for _ in range(5)], 2)
    assert flexible_shop_bound(shared) == (10, "shared-load bound")
