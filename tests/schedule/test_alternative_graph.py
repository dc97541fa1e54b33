"""Machine orders of blocking shops: earliest starts, deadlocks, swaps, and moves that keep a shop feasible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocking_shops import all_orders, blocking_shops, broken_rules, generated, operations_of, slow_starts

from pathloom.schedule import _alternative_kernels as graph_kernels
from pathloom.schedule import _job_shift_kernels as shifts
from pathloom.schedule.alternative_graph import AlternativeGraph, machine_orders, starts_of_orders
from pathloom.schedule.shops import JobShop


def two_that_meet(swap: bool) -> JobShop:
    """Job 0 goes from machine 0 to machine 1, job 1 the other way."""
    return replace(JobShop.from_rows([[(0, 3), (1, 2)], [(1, 5), (0, 4)]]), blocking=True, swap=swap)


def test_two_jobs_change_places_at_one_instant_where_swaps_are_legal() -> None:
    order = np.array([0, 3, 2, 1])
    assert np.array_equal(starts_of_orders(two_that_meet(True), order), [0, 5, 0, 5])


def test_two_jobs_that_want_each_others_machine_deadlock_where_swaps_are_illegal() -> None:
    assert starts_of_orders(two_that_meet(False), np.array([0, 3, 2, 1])) is None
    assert np.array_equal(starts_of_orders(two_that_meet(False), np.array([0, 3, 1, 2])), [0, 3, 5, 10])


def test_a_chain_of_hand_overs_at_one_instant_is_legal_without_swaps() -> None:
    rows = [[(0, 4), (1, 4), (2, 1)], [(0, 4), (1, 4)], [(0, 4)]]
    shop = replace(JobShop.from_rows(rows), blocking=True, swap=False)
    start = starts_of_orders(shop, np.array([0, 3, 5, 1, 4, 2]))
    assert start is not None
    # at 8 job 0 moves on to machine 2, job 1 to machine 1, job 2 to machine 0
    assert start.tolist() == [0, 4, 8, 4, 8, 8]


def test_an_order_against_the_jobs_own_is_refused() -> None:
    shop = replace(JobShop.from_rows([[(0, 1), (1, 1), (0, 1)]]), blocking=True)
    assert starts_of_orders(shop, np.array([0, 2, 1])) is not None
    assert starts_of_orders(shop, np.array([2, 0, 1])) is None


def test_orders_that_leave_out_or_misplace_operations_are_errors() -> None:
    with pytest.raises(ValueError, match="every operation once, grouped by machine"):
        starts_of_orders(two_that_meet(True), np.array([0, 3, 2, 2]))
    with pytest.raises(ValueError, match="every operation once, grouped by machine"):
        starts_of_orders(two_that_meet(True), np.array([0, 2, 3, 1]))


def shuffled(shop: JobShop, seed: int) -> list[int]:
    """Machine orders at random, half of them by the positions of the operations in their jobs, hence often feasible."""
    random = np.random.default_rng(seed)
    rank = np.arange(shop.operations) - shop.job_start[shop.job] if seed % 2 else np.zeros(shop.operations)
    key = rank + random.random(shop.operations)
    return [o for m in range(shop.machines) for o in sorted(operations_of(shop, m), key=lambda o: key[o])]


@given(blocking_shops(), st.integers(0, 1 << 20))
@settings(max_examples=150, deadline=None)
def test_starts_and_deadlocks_are_those_of_bellman_ford(shop: JobShop, seed: int) -> None:
    order = shuffled(shop, seed)
    start = starts_of_orders(shop, np.array(order))
    assert (None if start is None else start.tolist()) == slow_starts(shop, order)


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_every_order_of_a_tiny_shop_is_judged_as_bellman_ford_does(swap: bool, seed: int) -> None:
    shop = generated(3, 3, seed, most=3, blocking=True, swap=swap)
    graph = AlternativeGraph(shop)
    legal = 0
    for order in all_orders(shop):
        start = graph.evaluate(graph.linked(np.array(order)))
        expected = slow_starts(shop, order)
        assert (None if start is None else start[graph.node].tolist()) == expected
        legal += expected is not None
    assert 0 < legal < 216


@given(blocking_shops(shortest=1), st.integers(0, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_orders_read_from_a_schedule_give_that_schedule_or_an_earlier_one(shop: JobShop, seed: int) -> None:
    start = inserted(shop, seed)[2]
    again = starts_of_orders(shop, machine_orders(shop, start))
    assert again is not None
    assert np.array_equal(again, start)


def inserted(shop: JobShop, seed: int) -> tuple[AlternativeGraph, graph_kernels.Orders, np.ndarray]:
    """Orders and starts after inserting the jobs one by one, in a random sequence."""
    graph = AlternativeGraph(shop)
    orders, start = graph.no_orders(), np.zeros(len(graph), np.int64)
    sequence = np.random.default_rng(seed).permutation(shop.jobs)
    value = graph_kernels.insert_all(graph.nodes, orders, graph.scratch(), sequence, start)
    assert value == (start[graph.node] + shop.duration).max()
    return graph, orders, start[graph.node]


@given(blocking_shops(jobs=6, shortest=1), st.integers(0, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_inserting_jobs_one_by_one_keeps_every_rule(shop: JobShop, seed: int) -> None:
    assert broken_rules(shop, inserted(shop, seed)[2]) == []


def order_of(graph: AlternativeGraph, orders: graph_kernels.Orders) -> list[int]:
    """The operations, grouped by machine, as linked."""
    operation = {int(node): o for o, node in enumerate(graph.node)}
    found = []
    for m in range(graph.shop.machines):
        at = int(orders.foremost[m])
        while at >= 0:
            found.append(operation[at])
            at = int(orders.after[at])
    return found


def moving(graph: AlternativeGraph) -> shifts.Moves:
    n = len(graph)
    label, trial = np.zeros(n, np.int64), np.zeros(n, np.int64)
    three = [np.zeros(n, np.int32) for _ in range(3)]
    return shifts.Moves(label, *three, np.zeros((n, 3), np.int32), np.zeros((n, 2), np.int32), trial)


@given(blocking_shops(jobs=6, length=5, shortest=1), st.integers(0, 1 << 20))
@settings(max_examples=100, deadline=None)
def test_a_job_that_passes_another_takes_along_what_must_follow_and_nothing_deadlocks(shop: JobShop, seed: int) -> None:
    graph, orders, _ = inserted(shop, seed)
    start = graph.evaluate(orders)
    assert start is not None
    moves, random = moving(graph), np.random.default_rng(seed)
    nodes = graph.nodes
    for _ in range(12):
        u = int(random.choice(graph.node))
        a = int(orders.before[u])
        if a < 0 or nodes.job[a] == nodes.job[u]:
            continue
        forward = bool(random.integers(2))
        old = order_of(graph, orders)
        old_place = {o: k for k, o in enumerate(old)}
        k, x = (u, a) if forward else (a, u)
        if forward:
            shifts.plan_forward(nodes, orders, start, k, x, moves)
        else:
            shifts.plan_backward(nodes, orders, start, k, x, moves)
        assert not moves.label.any()
        moved, since = shifts.carry_out(nodes, orders, start, nodes.job[k], forward, moves)
        new = order_of(graph, orders)
        expected = slow_starts(shop, new)
        assert expected is not None
        # the operations of other jobs keep their order, the job's own move one way only
        job = int(nodes.job[k])
        assert [o for o in new if shop.job[o] != job] == [o for o in old if shop.job[o] != job]
        passes = {o: new.index(o) - old_place[o] for o in new if shop.job[o] == job}
        assert all(step <= 0 for step in passes.values()) if forward else all(step >= 0 for step in passes.values())
        for m in range(shop.machines):
            line = [int(orders.place[graph.node[o]]) for o in new if shop.machine[o] == m]
            assert line == sorted(set(line))
        # computing only from the first changed start on gives the same as computing all
        trial = start.copy()
        value = graph_kernels.earliest_starts(nodes, orders, graph.scratch(), graph_kernels.FAR, since, -1, trial)
        assert trial[graph.node].tolist() == expected
        assert value == max(t + d for t, d in zip(expected, shop.duration.tolist(), strict=True))
        if random.integers(2):
            shifts.take_back(nodes, orders, forward, moves.undo, moved)
            assert order_of(graph, orders) == old
        else:
            start = trial


@pytest.mark.parametrize("swap", [True, False])
def test_evaluation_ends_early_exactly_when_the_makespan_is_above_the_limit(swap: bool) -> None:
    shop = generated(6, 4, 5, blocking=True, swap=swap)
    graph, orders, starts = inserted(shop, 1)
    makespan, start = int((starts + shop.duration).max()), np.zeros(len(graph), np.int64)
    for limit, expected in ((makespan, makespan), (makespan - 1, graph_kernels.TOO_LONG)):
        value = graph_kernels.earliest_starts(graph.nodes, orders, graph.scratch(), limit, 0, -1, start)
        assert value == expected
