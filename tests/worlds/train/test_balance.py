"""Sizes are even, layers are split so that the slowest stage is as fast as can be, caps leave room for every visit."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.worlds.train.balance import Balance, even_sizes, split_layers, tc1_caps


@given(st.integers(1, 40), st.integers(1, 10))
def test_sizes_are_even_and_the_rest_goes_to_stage_0(n: int, parts: int) -> None:
    if parts > n:
        return
    sizes = even_sizes(n, parts)
    assert sizes.sum() == n
    assert (sizes[1:] == n // parts).all() and sizes[0] == n - (parts - 1) * (n // parts)


def test_twenty_nodes_on_six_stages() -> None:
    assert even_sizes(20, 6).tolist() == [5, 3, 3, 3, 3, 3]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.data())
def test_no_split_of_the_layers_has_a_cheaper_slowest_stage(costs: list[int], data: st.DataObject) -> None:
    stages = data.draw(st.integers(1, len(costs)))
    counts = split_layers([float(c) for c in costs], stages)
    assert counts.sum() == len(costs) and (counts >= 1).all()
    ends = np.cumsum(counts).tolist()
    found = max(sum(costs[a:b]) for a, b in zip([0, *ends[:-1]], ends))
    best = min(
        max(sum(costs[a:b]) for a, b in zip((0, *cuts), (*cuts, len(costs))))
        for cuts in combinations(range(1, len(costs)), stages - 1)
    )
    assert found == best


def test_equal_layers_are_dealt_evenly_with_extra_ones_behind_stage_0() -> None:
    assert split_layers([1.0] * 24, 6).tolist() == [4] * 6
    assert split_layers([1.0] * 8, 5).tolist() == [1, 2, 2, 2, 1]


def test_caps_of_skippipes_default_instance() -> None:
    source, stage, node = tc1_caps(30, 4, [5, 3, 3, 3, 3, 3], np.full(20, 3))
    assert (source, stage.tolist(), set(node.tolist())) == (6, [30, 18, 18, 18, 18, 18], {6})


def test_caps_are_raised_where_the_waves_leave_too_little_room() -> None:
    # All stages visited: each of 3 nodes must take a third of 30 microbatches, more than 2 waves of 3.
    _, stage, node = tc1_caps(30, 6, [5, 3, 3, 3, 3, 3], np.full(20, 3))
    assert set(node.tolist()) == {10} and stage[1:].tolist() == [30] * 5


def test_free_lifts_a_cap_to_the_number_of_microbatches() -> None:
    source, stage, node = tc1_caps(30, 4, [5, 3, 3, 3, 3, 3], np.full(20, 3), Balance("free", "free", "free"))
    assert source == 30 and (stage == 30).all() and (node == 30).all()


@given(
    microbatches=st.integers(1, 60),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    memory=st.integers(1, 5),
    data=st.data(),
)
def test_caps_always_leave_room_for_every_visit(
    microbatches: int, sizes: list[int], memory: int, data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, len(sizes)))
    source, stage, node = tc1_caps(microbatches, length, sizes, np.full(sum(sizes), memory))
    assert source * sizes[0] >= microbatches > (source - 1) * sizes[0]
    assert stage[0] == microbatches
    assert stage[1:].tolist() == [size * node[0] for size in sizes[1:]]
    room = sum(min(microbatches, int(cap)) for cap in stage[1:])
    assert room >= microbatches * (length - 1)
    # No smaller cap than the waves need, and none larger than either reason asks for.
    waves = -(-source // memory)
    smaller = sum(min(microbatches, size * (int(node[0]) - 1)) for size in sizes[1:])
    assert node[0] == memory * waves or (node[0] > memory * waves and smaller < microbatches * (length - 1))


@pytest.mark.parametrize(("memory", "median"), [([1, 1, 9], 1), ([1, 4, 9], 4), ([2, 3, 4, 9], 3)])
def test_unequal_memories_count_by_their_lower_median(memory: list[int], median: int) -> None:
    _, _, node = tc1_caps(1, 1, [len(memory)], memory)
    assert node[0] == median
