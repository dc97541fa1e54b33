"""Schedules between two schedules keep what both have in common, and a pool keeps good ones apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flexible_shops import broken_rules, random_shop, tiny_shops

from pathloom.schedule.flexible_shop_construction import flexible_shop_start
from pathloom.schedule.flexible_shop_relinking import Elite, ElitePool, between, distance
from pathloom.schedule.flexible_shop_tabu import FlexibleTabu
from pathloom.schedule.shops import FlexibleShop


def two_elites(shop: FlexibleShop, seed: int) -> tuple[FlexibleTabu, Elite, Elite]:
    tabu = FlexibleTabu(shop)
    found = []
    for rule in ("fifo", "mor"):
        value = tabu.load_start(*flexible_shop_start(shop, rule, seed=seed, noise=1.0))
        found.append(Elite(value, tabu.best_choice, tabu.best_order))
    return tabu, found[0], found[1]


@settings(max_examples=60, deadline=None)
@given(tiny_shops(jobs=5, longest=4), st.integers(0, 99), st.floats(0.0, 1.0))
def test_a_schedule_between_two_has_their_common_machines_and_orders(
    shop: FlexibleShop, seed: int, share: float
) -> None:
    tabu, first, second = two_elites(shop, seed)
    choice, order = between(first, second, share, np.random.default_rng(seed))
    assert ((choice == first.choice) | (choice == second.choice)).all()
    place = np.argsort(order)
    for x in range(shop.operations):
        for y in range(shop.operations):
            if first.position[x] < first.position[y] and second.position[x] < second.position[y]:
                assert place[x] < place[y]
    tabu.load_order(choice, order)
    assert broken_rules(shop, *tabu.schedule(choice, order)) == []


def test_the_ends_of_the_way_are_the_two_schedules() -> None:
    shop = random_shop(8, 5, 4, 2)
    tabu, first, second = two_elites(shop, 5)
    machine = tabu.state.alternative_machine
    for share, end in ((0.0, first), (1.0, second)):
        choice, order = between(first, second, share, np.random.default_rng(0))
        assert distance(Elite(0, choice, order), end, machine) == 0
    middle = Elite(0, *between(first, second, 0.5, np.random.default_rng(0)))
    whole = distance(first, second, machine)
    assert distance(first, middle, machine) > 0
    assert distance(middle, second, machine) > 0
    assert 0 < whole <= shop.operations


def test_distance_counts_operations_that_follow_another_one() -> None:
    machine = np.array([0, 0, 0, 1], np.uint32)
    one = Elite(0, np.array([0, 1, 2], np.uint32), np.array([0, 1, 2], np.uint32))
    swapped = Elite(0, np.array([0, 1, 2], np.uint32), np.array([0, 2, 1], np.uint32))
    moved = Elite(0, np.array([0, 1, 3], np.uint32), np.array([0, 1, 2], np.uint32))
    assert one.followed(machine).tolist() == [-1, 0, 1]
    assert distance(one, one, machine) == 0
    assert distance(one, swapped, machine) == 2
    assert distance(one, moved, machine) == 1


def test_a_pool_takes_better_ones_and_keeps_them_apart() -> None:
    machine = np.zeros(4, np.uint32)

    def elite(value: int, *order: int) -> Elite:
        return Elite(value, np.arange(4, dtype=np.uint32), np.array(order, np.uint32))

    pool = ElitePool(machine, 2, 2)
    assert pool.add(elite(10, 0, 1, 2, 3))
    assert not pool.full
    assert not pool.add(elite(10, 0, 1, 2, 3)), "the same once more"
    assert pool.add(elite(12, 3, 2, 1, 0))
    assert pool.full
    assert not pool.add(elite(12, 2, 3, 0, 1)), "no better than the worst"
    assert pool.add(elite(11, 2, 3, 0, 1)), "better than the worst, and unlike the others"
    assert sorted(e.value for e in pool.elites) == [10, 11]
    assert pool.add(elite(9, 0, 1, 2, 3)), "like the best, but better"
    assert sorted(e.value for e in pool.elites) == [9, 11]
    pool.clear()
    assert pool.elites == []
