"""The compiled tabu search of flexible shops against its definitions, move by move."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_flexible_shops import best_makespan, broken_rules, flexible_shop, makespan_of, random_shop, tiny_shops

from pathloom.schedule import _flexible_kernels as paths
from pathloom.schedule import _flexible_tabu_kernels as moves
from pathloom.schedule.flexible_shop_construction import flexible_shop_start
from pathloom.schedule.flexible_shop_tabu import FlexibleTabu
from pathloom.schedule.shops import FlexibleShop


def slow_paths(tabu: FlexibleTabu) -> tuple[list[int], list[int]]:
    """Longest paths into and out of each operation, with it, by relaxing all arcs until nothing changes."""
    s, shop = tabu.state, tabu.shop
    arcs = [(o - 1, o) for o in range(shop.operations) if o != shop.job_start[shop.job[o]]]
    for k in range(shop.machines):
        row = s.sequence[k, : s.length[k]].tolist()
        arcs += list(pairwise(row))
    p = s.duration.tolist()
    first = {int(shop.job_start[j]): int(shop.release[j]) for j in range(shop.jobs)}
    done = [first.get(o, 0) + p[o] for o in range(shop.operations)]
    left = list(p)
    for _ in range(shop.operations):
        for x, y in arcs:
            done[y] = max(done[y], done[x] + p[y])
            left[x] = max(left[x], left[y] + p[x])
    return done, left


def loaded(shop: FlexibleShop, seed: int) -> FlexibleTabu:
    tabu = FlexibleTabu(shop, seed)
    tabu.load_start(*flexible_shop_start(shop, "fifo", seed=seed, noise=1.0))
    return tabu


def state_is_sound(tabu: FlexibleTabu) -> None:
    s, shop = tabu.state, tabu.shop
    n = shop.operations
    assert sorted(s.order.tolist()) == list(range(n))
    assert (s.position[s.order] == np.arange(n)).all()
    assert (s.machine == s.alternative_machine[s.alternative]).all()
    assert not s.mark.any()
    held = []
    for k in range(shop.machines):
        row = s.sequence[k, : s.length[k]]
        held += row.tolist()
        assert (s.place[row] == np.arange(len(row))).all()
        assert (s.machine[row] == k).all()
        assert (np.diff(s.position[row].astype(int)) > 0).all()
    assert sorted(held) == list(range(n))
    done, left = slow_paths(tabu)
    assert s.done[:n].tolist() == done
    assert s.left[:n].tolist() == left


@settings(max_examples=60, deadline=None)
@given(tiny_shops(jobs=5, longest=5), st.integers(0, 10**6))
def test_paths_kept_up_to_date_are_those_found_from_nothing(shop: FlexibleShop, seed: int) -> None:
    tabu = loaded(shop, seed)
    for _ in range(12):
        state_is_sound(tabu)
        if not tabu.run(1, 10**9):
            break
    state_is_sound(tabu)


@settings(max_examples=40, deadline=None)
@given(tiny_shops(jobs=4, longest=4), st.data())
def test_any_move_is_made_in_full_or_refused_as_a_cycle(shop: FlexibleShop, data: st.DataObject) -> None:
    tabu = loaded(shop, data.draw(st.integers(0, 99)))
    s = tabu.state
    for _ in range(6):
        v = data.draw(st.integers(0, shop.operations - 1))
        a = data.draw(st.integers(int(s.alternative_start[v]), int(s.alternative_start[v + 1]) - 1))
        new, old = int(s.alternative_machine[a]), int(s.machine[v])
        rest = [o for o in s.sequence[new, : s.length[new]].tolist() if o != v]
        to = data.draw(st.integers(0, len(rest)))
        before = [array.copy() for array in s[:-1]]
        wanted = [*rest[:to], v, *rest[to:]]
        sequences = {k: s.sequence[k, : s.length[k]].tolist() for k in range(shop.machines)}
        sequences[old] = [o for o in sequences[old] if o != v]
        sequences[new] = wanted
        if paths.make_move(s, v, a, to):
            state_is_sound(tabu)
            assert {k: s.sequence[k, : s.length[k]].tolist() for k in range(shop.machines)} == sequences
            assert s.alternative[v] == a
        else:
            assert all((x == y).all() for x, y in zip(before, s[:-1], strict=True))
            assert has_cycle(shop, sequences)


def has_cycle(shop: FlexibleShop, sequences: dict[int, list[int]]) -> bool:
    """Whether operations remain when those with nothing before them are taken away one by one."""
    left = set(range(shop.operations))
    arcs = [(o - 1, o) for o in range(shop.operations) if o != shop.job_start[shop.job[o]]]
    for row in sequences.values():
        arcs += list(pairwise(row))
    while True:
        free = {o for o in left if not any(x in left and y == o for x, y in arcs)}
        if not free:
            return bool(left)
        left -= free


@pytest.mark.parametrize("zeros", [False, True])
def test_the_estimate_of_a_move_is_never_below_the_makespan_it_leads_to(zeros: bool) -> None:
    exact = made = improving = 0
    for seed in range(6):
        tabu = loaded(random_shop(8, 6, 5, seed, zeros), seed)
        s, t = tabu.state, tabu.tabu
        for _ in range(300):
            before = int(t.counters[moves.MAKESPAN])
            moves.find_move(s, t)
            if t.pick[moves.TIES] == 0:
                break
            # detours below the best makespan are not looked at
            estimate = max(int(t.pick[moves.ESTIMATE]), 0)
            v, a, to = (int(t.pick[i]) for i in (moves.OPERATION, moves.ALTERNATIVE, moves.PLACE))
            moves.forbid(s, t, v, a, to)
            t.counters[moves.ITERATION] += 1
            if not paths.make_move(s, v, a, to):
                assert zeros, "only operations without duration can close a cycle"
                continue
            now = int(paths.makespan(s.last, s.done))
            t.counters[moves.MAKESPAN] = now
            t.counters[moves.BEST] = min(now, int(t.counters[moves.BEST]))
            assert now <= estimate
            exact += now == estimate
            made += 1
            improving += now < before
    assert made > 500
    assert improving > 50
    # too high only where paths of the present graph run through the operation that goes
    assert exact > 0.6 * made


def test_a_detour_is_the_longest_path_past_an_operation() -> None:
    for seed in range(8):
        tabu = loaded(random_shop(5, 4, 3, seed), seed)
        s, t = tabu.state, tabu.tabu
        n = tabu.shop.operations
        count = moves.critical_path(s, t)
        path = t.path[:count].tolist()
        assert s.done[path[-1]] == t.counters[moves.MAKESPAN] == s.left[path[0]] + s.done[path[0]] - s.duration[path[0]]
        for x, y in pairwise(path):
            assert s.done[x] == s.done[y] - s.duration[y]
            assert x in (s.job_before[y], s.before[y])
        moves.longest_detours(s, t, count, -1)
        for i, v in enumerate(path):
            # without v: neither it nor an arc to or from it
            done = {}
            for o in s.order.tolist():
                if o == v:
                    continue
                arrivals = [done[int(b)] for b in (s.job_before[o], s.before[o]) if b < n and b != v]
                if s.job_before[o] >= n:
                    arrivals.append(int(tabu.shop.release[tabu.shop.job[o]]))
                done[o] = max(arrivals, default=0) + int(s.duration[o])
            # what ends before v in its job, or begins behind it, is part of every path through v
            ends = max(int(s.done[s.job_before[v]]), int(s.left[s.job_after[v]]))
            assert max(int(t.detour[i]), ends) == max(*done.values(), ends)


@settings(max_examples=40, deadline=None)
@given(tiny_shops(jobs=4, longest=4))
def test_a_loaded_schedule_comes_back_with_the_same_or_earlier_starts(shop: FlexibleShop) -> None:
    alternative, start = flexible_shop_start(shop, "mor", seed=3, noise=0.5)
    tabu = FlexibleTabu(shop)
    value = tabu.load_start(alternative, start + 7)
    again = tabu.schedule(tabu.best_choice, tabu.best_order)
    assert broken_rules(shop, *again) == []
    assert value == makespan_of(shop, *again) <= makespan_of(shop, alternative, start)


def test_of_two_alternatives_on_one_machine_the_shorter_one_counts() -> None:
    shop = flexible_shop([[[(0, 5), (1, 9), (0, 3)]], [[(0, 2)]]], 2)
    tabu = FlexibleTabu(shop)
    value = tabu.load_start(np.array([0, 3], np.int32), np.array([0, 5], np.int64))
    assert value == 5
    alternative, start = tabu.schedule(tabu.best_choice, tabu.best_order)
    assert alternative.tolist() == [2, 3]
    assert start.tolist() == [0, 3]


def test_the_same_seed_gives_the_same_search_whatever_the_pieces() -> None:
    shop = random_shop(10, 6, 5, 1)
    values = []
    for pieces in ([600], [1, 99, 500], [200] * 3):
        tabu = loaded(shop, 4)
        for iterations in pieces:
            tabu.run(iterations, 10**9)
        values.append((tabu.best, tabu.best_order.tolist(), tabu.state.order.tolist()))
    assert values[0] == values[1] == values[2]


@settings(max_examples=60, deadline=None)
@given(tiny_shops(jobs=3, longest=2, machines=3))
def test_a_few_hundred_moves_find_the_best_schedule_of_a_tiny_shop(shop: FlexibleShop) -> None:
    best = best_makespan(shop)
    found = []
    for seed in range(6):
        tabu = loaded(shop, seed)
        tabu.run(300, 300, best)
        found.append(tabu.best)
    assert min(found) == best
