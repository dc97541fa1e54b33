"""The compiled tabu search of job shops against its definitions, move by move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_job_shops import (
    assert_feasible,
    generated_shop,
    job_shops,
    makespan,
    random_order,
    slow_schedule,
    slow_tails,
)

from pathloom.schedule import _tabu_kernels as kernels
from pathloom.schedule.job_shop_graph import load_bound, machine_order, semi_active_starts
from pathloom.schedule.job_shop_tabu import TabuSearch
from pathloom.schedule.shops import JobShop

ENDLESS = 1 << 40

EMPTY_JOBS = JobShop(
    job_start=np.array([0, 6, 8, 8, 8, 8, 8], np.int32),
    machine=np.array([0, 0, 1, 0, 1, 3, 3, 0], np.int32),
    duration=np.array([9, 5, 2, 9, 5, 1, 1, 9]),
    machines=4,
    release=np.array([3, 3, 3, 8, 8, 8]),
)
"""Four jobs without operations: once taken for operations of the others."""


def assert_consistent(search: TabuSearch) -> None:
    """Order, starts and tails of the current solution belong together, and nothing waits in a cycle."""
    shop, order = search.shop, search.order
    assert sorted(order.tolist()) == list(range(shop.operations))
    place = np.argsort(order)
    assert all(place[o] < place[o + 1] for o in range(shop.operations - 1) if shop.job[o] == shop.job[o + 1])
    assert slow_schedule(shop, order) == search.start.tolist()
    assert slow_tails(shop, order) == search.tail.tolist()
    assert search.makespan == makespan(shop, search.start)
    assert_feasible(shop, search.start)


@example(EMPTY_JOBS, 641)
@settings(max_examples=150, deadline=None)
@given(job_shops(), st.integers(0, 1000))
def test_after_every_move_starts_and_tails_are_the_longest_paths(shop: JobShop, seed: int) -> None:
    search = TabuSearch(shop, seed=seed, tenure=3)
    search.load(random_order(shop, seed))
    assert_consistent(search)
    for _ in range(15):
        search.run(1, ENDLESS)
        assert_consistent(search)


@pytest.mark.parametrize("size", [(6, 6), (12, 5), (30, 10)])
def test_a_long_search_stays_consistent(size: tuple[int, int]) -> None:
    search = TabuSearch(generated_shop(*size, seed=1), seed=2)
    search.load(random_order(search.shop, 0))
    for _ in range(20):
        search.run(500, ENDLESS)
        assert_consistent(search)
        assert makespan(search.shop, search.best_start) == search.best <= search.makespan
        assert slow_schedule(search.shop, search.best_order) == search.best_start.tolist()


def longest_path_through(shop: JobShop, search: TabuSearch, stretch: list[int], first: int, behind: int) -> int:
    """Longest path through the operations of a stretch of a machine in their new order, from the definition.

    What lies outside keeps its starts and tails; `first` is the machine's operation before the stretch, `behind` the
    one after it, -1 for none.
    """
    start, tail, duration = search.start, search.tail, shop.duration
    head: dict[int, int] = {}
    rest: dict[int, int] = {}
    for o, previous in zip(stretch, [first, *stretch[:-1]]):
        at_job = shop.job_start[shop.job[o]] == o
        job_ready = shop.release[shop.job[o]] if at_job else start[o - 1] + duration[o - 1]
        if previous == first:
            ready = start[first] + duration[first] if first >= 0 else 0
        else:
            ready = head[previous] + duration[previous]
        head[o] = max(int(job_ready), int(ready))
    for o, following in reversed(list(zip(stretch, [*stretch[1:], behind]))):
        last = shop.job_start[shop.job[o] + 1] == o + 1
        after_job = 0 if last else tail[o + 1]
        after_machine = (tail[behind] if behind >= 0 else 0) if following == behind else rest[following]
        rest[o] = max(int(after_job), int(after_machine)) + int(duration[o])
    return max(head[o] + rest[o] for o in stretch)


def estimate(search: TabuSearch, block: list[int], i: int, j: int, ahead: bool) -> int:
    kernel = kernels.estimate_ahead if ahead else kernels.estimate_behind
    return int(
        kernel(
            np.array(block, np.uint32), i, j, search._duration, search._job_before, search._job_after, search._before,
            search._after, search._end, search._tail, search._heads,
        )
    )  # fmt: skip


def apply(search: TabuSearch, u: int, v: int, ahead: bool) -> None:
    """Move v ahead of u, or u behind v."""
    arrays = (
        search._duration, search._job_before, search._job_after, search._before, search._after, search._order,
        search._place, search._end, search._tail, search._mark, search._aside,
    )  # fmt: skip
    if ahead:
        kernels.move_ahead(v, u, *arrays)
    else:
        kernels.move_behind(u, v, *arrays)


def stretches(search: TabuSearch, longest: int) -> list[tuple[list[int], int, int]]:
    """Stretches of 2 to `longest` operations of a machine, each with the operations before and after it."""
    order = search.order
    found = []
    for k in range(search.shop.machines):
        row = [-1, *order[search.shop.machine[order] == k].tolist(), -1]
        found += [
            (row[a:b], row[a - 1], row[b])
            for a in range(1, len(row) - 1)
            for b in range(a + 2, min(a + longest, len(row) - 1) + 1)
        ]
    return found


@settings(deadline=None)
@given(job_shops(), st.integers(0, 1000))
def test_the_estimate_of_a_move_is_the_longest_path_through_what_it_shifts(shop: JobShop, seed: int) -> None:
    search = TabuSearch(shop)
    search.load(random_order(shop, seed))
    for block, first, behind in stretches(search, 5):
        last = len(block) - 1
        moved_behind = longest_path_through(shop, search, [*block[1:], block[0]], first, behind)
        moved_ahead = longest_path_through(shop, search, [block[-1], *block[:-1]], first, behind)
        assert estimate(search, block, 0, last, ahead=False) == moved_behind
        assert estimate(search, block, 0, last, ahead=True) == moved_ahead


@settings(deadline=None)
@given(job_shops(shortest=1), st.integers(0, 1000))
def test_the_estimate_of_a_swap_is_exact(shop: JobShop, seed: int) -> None:
    """For neighbours the longest path through them is known, so that the new makespan is at least the estimate."""
    order = random_order(shop, seed)
    search = TabuSearch(shop)
    search.load(order)
    for (u, v), _, _ in stretches(search, 2):
        search.load(order)
        if shop.job[u] == shop.job[v] or search.start[u] + shop.duration[u] < search.start[v]:
            continue
        value = estimate(search, [u, v], 0, 1, ahead=True)
        if u + 1 < shop.operations and shop.job[u + 1] == shop.job[u] and search.start[u + 1] < search.start[v]:
            continue  # a path from the one to the other may lie there
        apply(search, u, v, ahead=True)
        search_start = semi_active_starts(shop, machine_order(shop, search.start))
        assert search.start.tolist() == search_start.tolist()
        through = max(int(search.start[o] + search.tail[o]) for o in (u, v))
        assert value == through <= makespan(shop, search_start)


@settings(deadline=None)
@given(job_shops(shortest=1), st.integers(0, 1000), st.booleans())
def test_moving_there_and_back_changes_nothing(shop: JobShop, seed: int, ahead: bool) -> None:
    order = random_order(shop, seed)
    search = TabuSearch(shop)
    search.load(order)
    start, tail = search.start, search.tail
    for (u, v), _, _ in stretches(search, 2):
        following = u + 1 if u + 1 < shop.operations and shop.job[u + 1] == shop.job[u] else None
        if following is not None and start[following] + shop.duration[following] <= start[v]:
            continue
        if following == v:
            continue
        apply(search, u, v, ahead)
        assert_feasible(shop, search.start)
        apply(search, v, u, ahead)
        assert search.start.tolist() == start.tolist()
        assert search.tail.tolist() == tail.tolist()


def test_a_search_is_the_same_in_one_piece_and_in_many() -> None:
    shop = generated_shop(10, 10, seed=5)
    whole, pieces = TabuSearch(shop, seed=1), TabuSearch(shop, seed=1)
    for search in (whole, pieces):
        search.load(random_order(shop, 1))
    whole.run(1000, ENDLESS)
    for _ in range(100):
        pieces.run(10, ENDLESS)
    assert pieces.order.tolist() == whole.order.tolist()
    assert (pieces.best, pieces.moves) == (whole.best, whole.moves)


def test_seeds_lead_to_different_searches() -> None:
    shop = generated_shop(10, 10, seed=5)
    orders = set()
    for seed in range(3):
        search = TabuSearch(shop, seed=seed)
        search.load(random_order(shop, 1))
        search.run(500, ENDLESS)
        orders.add(tuple(search.order.tolist()))
    assert len(orders) == 3


def test_the_search_ends_at_its_target_and_when_it_has_lost_patience() -> None:
    shop = generated_shop(10, 10, seed=5)
    search = TabuSearch(shop, seed=1)
    begin = search.load(random_order(shop, 1))
    assert search.run(ENDLESS, 300) == search.moves < ENDLESS
    assert search.best < begin
    reached = search.best
    search.load(random_order(shop, 1))
    search.run(ENDLESS, ENDLESS, target=reached + 20)
    assert reached < search.best <= reached + 20


@settings(deadline=None)
@given(job_shops())
def test_where_no_move_is_left_the_load_proves_the_optimum(shop: JobShop) -> None:
    """Without machines that a job meets twice: a critical path without a move is one job's or one machine's."""
    if len({(int(j), int(k)) for j, k in zip(shop.job, shop.machine)}) < shop.operations or (shop.duration == 0).any():
        return
    search = TabuSearch(replace(shop, release=np.zeros_like(shop.release)))
    search.load(random_order(shop, 0))
    if search.run(200, ENDLESS) < 200:
        assert search.best == load_bound(search.shop)


def test_blocking_shops_are_refused() -> None:
    with pytest.raises(ValueError, match="classic"):
        TabuSearch(replace(generated_shop(3, 3, 1), blocking=True))
