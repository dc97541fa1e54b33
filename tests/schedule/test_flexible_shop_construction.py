"""Greedy schedules of flexible shops are right, active, and what a person gets by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flexible_shops import broken_rules, flexible_shop, makespan_of, random_shop, tiny_shops

from pathloom.plan import InputError
from pathloom.schedule.flexible_shop_bounds import flexible_shop_bound
from pathloom.schedule.flexible_shop_construction import RULES, flexible_shop_start, least_durations, least_tails
from pathloom.schedule.shops import FlexibleShop


@settings(max_examples=60, deadline=None)
@given(tiny_shops(jobs=5, longest=4), st.sampled_from(sorted(RULES)), st.integers(0, 99), st.sampled_from([0.0, 0.5]))
def test_a_greedy_schedule_keeps_all_rules(shop: FlexibleShop, rule: str, seed: int, noise: float) -> None:
    alternative, start = flexible_shop_start(shop, rule, seed=seed, noise=noise)
    assert broken_rules(shop, alternative, start) == []


def test_an_operation_goes_where_it_ends_first_and_the_longest_job_goes_first() -> None:
    # machine 0 is faster for both jobs, and the second job has more work behind; the first one then ends earlier on
    # machine 1 than behind the second job, unless that needs machine 1 before it would be free
    first = [[(0, 3), (1, 5)]]
    shop = flexible_shop([first, [[(0, 3), (1, 5)], [(2, 9)]]], 3)
    alternative, start = flexible_shop_start(shop, "mwkr")
    assert shop.alternative_machine[alternative].tolist() == [1, 0, 2]
    assert start.tolist() == [0, 0, 3]
    shop = flexible_shop([first, [[(0, 3), (1, 5)], [(1, 9)]]], 3)
    alternative, start = flexible_shop_start(shop, "mwkr")
    assert shop.alternative_machine[alternative].tolist() == [0, 0, 1]
    assert start.tolist() == [3, 0, 3]
    alternative, start = flexible_shop_start(shop, "fifo")
    assert shop.alternative_machine[alternative].tolist() == [0, 1, 1]
    assert start.tolist() == [0, 0, 5]


def test_shortest_processing_puts_short_operations_first() -> None:
    shop = flexible_shop([[[(0, 7)]], [[(0, 2)]], [[(0, 4)]]], 1)
    assert flexible_shop_start(shop, "spt")[1].tolist() == [6, 0, 2]


def test_least_work_takes_every_operation_on_its_fastest_machine() -> None:
    shop = flexible_shop([[[(0, 7), (1, 4)], [(0, 2)]], [], [[(1, 6), (0, 5)]]], 2)
    assert least_durations(shop).tolist() == [4, 2, 5]
    assert least_tails(shop).tolist() == [6, 2, 5]


def test_noise_gives_other_schedules_and_a_seed_the_same_one() -> None:
    shop = random_shop(12, 6, 5, 0)
    found = [flexible_shop_start(shop, "mwkr", seed=seed, noise=0.5) for seed in range(10)]
    assert len({start.tobytes() for _, start in found}) > 5
    again = flexible_shop_start(shop, "mwkr", seed=3, noise=0.5)
    assert (again[1] == found[3][1]).all()
    assert len({makespan_of(shop, *pair) for pair in found}) > 2


def test_an_empty_shop_has_an_empty_schedule() -> None:
    alternative, start = flexible_shop_start(flexible_shop([[], []], 2))
    assert len(alternative) == len(start) == 0
    assert start.dtype == np.int64


def test_unknown_rules_and_impossible_noise_are_named() -> None:
    shop = random_shop(2, 2, 2, 0)
    with pytest.raises(InputError, match=r"rule: no rule 'lpt'; expected one of mwkr, mor, spt, fifo"):
        flexible_shop_start(shop, "lpt")
    with pytest.raises(InputError, match="expected a number from 0 to 1"):
        flexible_shop_start(shop, noise=1.5)


def test_an_even_spread_of_work_beats_the_earliest_completion_with_many_jobs() -> None:
    """What is idle now is a poor reason to use a slow machine when there is much work for it later."""
    for seed in range(3):
        shop = random_shop(150, 4, 5, seed)
        even = flexible_shop_start(shop, spread=0.0)
        assert broken_rules(shop, *even) == []
        bound = flexible_shop_bound(shop)[0]
        assert makespan_of(shop, *even) <= 1.04 * bound
        assert makespan_of(shop, *flexible_shop_start(shop)) > 1.06 * bound
        # with room enough every machine is allowed
        free = flexible_shop_start(shop, spread=1000.0)
        assert (free[1] == flexible_shop_start(shop)[1]).all()


def test_a_negative_spread_is_refused() -> None:
    with pytest.raises(InputError, match="expected a number of at least 0"):
        flexible_shop_start(random_shop(2, 2, 2, 0), spread=-0.1)
