"""Solutions of a job shop between two others."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job_shops import generated_shop, job_shops, makespan, random_order, slow_schedule, slow_tails

from pathloom.schedule.job_shop_graph import machine_order, semi_active_starts
from pathloom.schedule.path_relinking import Relinkable, between, distance, relinkable
from pathloom.schedule.shops import JobShop

seeds = st.integers(0, 1000)


def solution(shop: JobShop, seed: int) -> Relinkable:
    order = random_order(shop, seed)
    starts, tails = slow_schedule(shop, order), slow_tails(shop, order)
    return relinkable(shop, order, np.array(starts), np.array(tails))


@settings(deadline=None)
@given(job_shops(), seeds)
def test_the_makespan_is_that_of_the_schedule(shop: JobShop, seed: int) -> None:
    assert solution(shop, seed).makespan == makespan(shop, slow_schedule(shop, random_order(shop, seed)))


@settings(deadline=None)
@given(job_shops(), seeds, seeds, st.floats(0, 1), st.booleans())
def test_whatever_lies_between_keeps_the_orders_of_the_jobs(
    shop: JobShop, first: int, second: int, share: float, straight: bool
) -> None:
    random = None if straight else np.random.default_rng(first)
    order = between(shop, solution(shop, first), solution(shop, second), share, random)
    assert sorted(order.tolist()) == list(range(shop.operations))
    place = np.argsort(order)
    assert all(place[o] < place[o + 1] for o in range(shop.operations - 1) if shop.job[o] == shop.job[o + 1])
    # so the machines' orders that are read off it have no cycle
    start = slow_schedule(shop, order)
    assert (semi_active_starts(shop, machine_order(shop, start)) <= start).all()


@settings(deadline=None)
@given(job_shops(shortest=1), seeds, seeds)
def test_the_way_begins_at_one_solution_and_ends_at_the_other(shop: JobShop, first: int, second: int) -> None:
    a, b = solution(shop, first), solution(shop, second)
    assert slow_schedule(shop, between(shop, a, b, 0.0)) == slow_schedule(shop, a.order)
    assert slow_schedule(shop, between(shop, a, b, 1.0)) == slow_schedule(shop, b.order)


def test_a_solution_half_way_is_nearer_to_both_than_they_are_to_each_other() -> None:
    shop = generated_shop(10, 8, seed=3)
    for seed in range(5):
        a, b = solution(shop, 2 * seed), solution(shop, 2 * seed + 1)
        for random in (None, np.random.default_rng(seed)):
            order = between(shop, a, b, 0.5, random)
            middle = relinkable(shop, order, np.array(slow_schedule(shop, order)), np.array(slow_tails(shop, order)))
            assert distance(a, middle) < distance(a, b)
            assert distance(b, middle) < distance(a, b)


def test_distance_counts_places_on_the_machines() -> None:
    shop = JobShop.from_rows([[(0, 1)], [(0, 1)], [(0, 1)]])

    def at(order: list[int]) -> Relinkable:
        o = np.array(order, np.int32)
        return relinkable(shop, o, np.array(slow_schedule(shop, o)), np.array(slow_tails(shop, o)))

    assert distance(at([0, 1, 2]), at([0, 1, 2])) == 0
    assert distance(at([0, 1, 2]), at([1, 0, 2])) == 2 / 3
    assert distance(at([0, 1, 2]), at([2, 1, 0])) == 4 / 3
