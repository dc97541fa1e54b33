"""Machine orders and the earliest starts that belong to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job_shops import assert_feasible, job_shops, least_makespan, makespan, random_order, slow_schedule

from pathloom.schedule.job_shop_graph import load_bound, machine_order, machine_start, semi_active_starts, time_order
from pathloom.schedule.shops import JobShop


@settings(deadline=None)
@given(job_shops(shortest=1), st.integers(0, 1000))
def test_a_semi_active_schedule_is_that_of_its_own_machine_order(shop: JobShop, seed: int) -> None:
    start = slow_schedule(shop, random_order(shop, seed))
    assert semi_active_starts(shop, machine_order(shop, start)).tolist() == start


@settings(deadline=None)
@given(job_shops(), st.integers(0, 1000), st.integers(1, 20))
def test_idle_time_is_taken_out_of_a_schedule(shop: JobShop, seed: int, idle: int) -> None:
    start = np.array(slow_schedule(shop, random_order(shop, seed)))
    # Stretching all times and putting off all starts keeps a schedule feasible
    loose = start * 2 + idle
    tight = semi_active_starts(shop, machine_order(shop, loose))
    assert_feasible(shop, tight)
    assert (tight <= start).all()  # earlier only where an operation without duration changes places


@settings(deadline=None)
@given(job_shops(), st.integers(0, 1000))
def test_in_time_order_everything_comes_after_what_it_waits_for(shop: JobShop, seed: int) -> None:
    start = slow_schedule(shop, random_order(shop, seed))
    order = time_order(shop, start)
    again = slow_schedule(shop, order)
    assert all(a <= b for a, b in zip(again, start))  # earlier only where an operation without duration changes places
    place = np.argsort(order)
    assert all(place[o] < place[o + 1] for o in range(shop.operations - 1) if shop.job[o] == shop.job[o + 1])


def test_a_machine_order_lists_the_machines_one_after_another() -> None:
    shop = JobShop.from_rows([[(0, 3), (2, 2)], [(2, 4), (0, 1)]], machines=4)
    assert machine_order(shop, [0, 4, 0, 4]).tolist() == [0, 3, 2, 1]
    assert machine_start(shop).tolist() == [0, 2, 2, 4, 4]


def test_machines_and_jobs_that_wait_for_each_other_are_refused() -> None:
    shop = JobShop.from_rows([[(0, 3), (1, 2)], [(1, 4), (0, 1)]])
    with pytest.raises(ValueError, match="cycle"):
        semi_active_starts(shop, [3, 0, 1, 2])


@pytest.mark.parametrize("order", [[0, 3, 1], [0, 3, 1, 1], [0, 1, 2, 3]])
def test_an_order_that_is_not_one_of_the_machines_is_refused(order: list[int]) -> None:
    shop = JobShop.from_rows([[(0, 3), (1, 2)], [(1, 4), (0, 1)]])
    with pytest.raises(ValueError, match="order: expected"):
        semi_active_starts(shop, order)


def test_starts_of_another_shop_are_refused() -> None:
    with pytest.raises(ValueError, match=r"start: expected shape \(2,\)"):
        machine_order(JobShop.from_rows([[(0, 3), (1, 2)]]), [0])


def test_the_load_of_a_machine_bounds_the_makespan() -> None:
    # Machine 1 works 7 and cannot begin before 2; after it every job has 1 to do
    shop = JobShop.from_rows([[(0, 2), (1, 3), (2, 1)], [(0, 3), (1, 4), (2, 2)]])
    assert load_bound(shop) == 2 + 7 + 1


@settings(max_examples=60, deadline=None)
@given(job_shops(jobs=3, machines=2, length=3))
def test_the_bound_is_never_above_the_optimum(shop: JobShop) -> None:
    assert load_bound(shop) <= least_makespan(shop) <= makespan(shop, slow_schedule(shop, random_order(shop, 0)))
