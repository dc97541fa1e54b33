"""Facts about synchronous pipeline schedules."""

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.schedule.pipelines import (
    Operation,
    Orders,
    StageTimes,
    execute,
    gpipe,
    interleaved,
    one_f_one_b,
    warm_up,
    zb_h1,
)

SHEET = [(4, 8, 0.273), (8, 24, 0.226), (8, 32, 0.179)]
SMALL = st.tuples(st.integers(1, 7), st.integers(1, 14))


def spelled(orders: Orders) -> list[str]:
    return [" ".join(f"{op.kind}{op.microbatch}" for op in row) for row in orders]


def held(row: list[Operation], released_by: str) -> int:
    """Most activations that a stage holds at once in the course of its order."""
    steps = [1 if op.kind == "F" else -1 if op.kind == released_by else 0 for op in row]
    return int(np.cumsum(steps).max())


@pytest.mark.parametrize(("p", "m", "bubble"), SHEET)
def test_gpipe_and_1f1b_waste_p_minus_1_of_m_plus_p_minus_1_slots(p: int, m: int, bubble: float) -> None:
    for orders in (gpipe(p, m), one_f_one_b(p, m)):
        found = execute(orders, StageTimes(forward=1, backward=2)).bubble
        assert found == pytest.approx((p - 1) / (m + p - 1))
        assert found == pytest.approx(bubble, abs=5e-4)


@settings(max_examples=60, deadline=None)
@given(SMALL, st.floats(0.1, 5), st.floats(0.1, 5))
def test_bubble_time_is_p_minus_1_passes_whatever_their_length(
    size: tuple[int, int], forward: float, backward: float
) -> None:
    p, m = size
    for orders in (gpipe(p, m), one_f_one_b(p, m)):
        makespan = execute(orders, StageTimes(forward=forward, backward=backward)).makespan
        assert makespan == pytest.approx((m + p - 1) * (forward + backward))


@pytest.mark.parametrize("chunks", [2, 3, 4])
@pytest.mark.parametrize(("p", "m"), [(4, 8), (8, 24), (8, 32), (3, 3), (2, 10)])
def test_interleaving_divides_the_bubble_time_by_the_number_of_chunks(p: int, m: int, chunks: int) -> None:
    whole = execute(one_f_one_b(p, m), StageTimes(forward=1, backward=2)).makespan - 3 * m
    split = execute(interleaved(p, m, chunks=chunks), StageTimes(forward=1 / chunks, backward=2 / chunks))
    assert split.makespan - 3 * m == pytest.approx(whole / chunks)
    assert split.bubble == pytest.approx((p - 1) / (chunks * m + p - 1))


@pytest.mark.parametrize("p", range(1, 9))
@pytest.mark.parametrize("more", [0, 1, 2, 5, 16])
def test_zb_h1_has_a_third_of_the_bubble_of_1f1b_where_f_b_and_w_are_equal(p: int, more: int) -> None:
    m = p + more
    whole = execute(one_f_one_b(p, m), StageTimes(forward=1, backward=2)).makespan - 3 * m
    assert execute(zb_h1(p, m)).makespan - 3 * m == pytest.approx(whole / 3)


def test_1f1b_alternates_after_the_warm_up() -> None:
    assert spelled(one_f_one_b(3, 4)) == [
        "F0 F1 F2 B0 F3 B1 B2 B3",
        "F0 F1 B0 F2 B1 F3 B2 B3",
        "F0 B0 F1 B1 F2 B2 F3 B3",
    ]


def test_gpipe_flushes_as_often_as_memory_makes_it() -> None:
    assert spelled(gpipe(2, 5, limits=[2, 3])) == ["F0 F1 B0 B1 F2 F3 B2 B3 F4 B4"] * 2


def test_interleaved_stages_take_chunks_in_turn_as_megatron_does() -> None:
    first = interleaved(2, 4, chunks=2)[0]
    assert " ".join(f"{op.kind}{op.microbatch}.{op.chunk}" for op in first) == (
        "F0.0 F1.0 F0.1 F1.1 F2.0 B0.1 F3.0 B1.1 F2.1 B0.0 F3.1 B1.0 B2.1 B3.1 B2.0 B3.0"
    )


def test_a_stage_cannot_be_further_ahead_than_the_one_before_it() -> None:
    assert warm_up(5) == [5, 4, 3, 2, 1]
    assert warm_up(5, [9, 3, 9, 9, 9]) == [5, 3, 3, 2, 1]
    assert warm_up(4, [1, 4, 4, 4]) == [1, 1, 1, 1]


@settings(max_examples=200, deadline=None)
@given(SMALL, st.integers(1, 4), st.data())
def test_no_order_deadlocks_or_holds_more_than_memory_allows(
    size: tuple[int, int], chunks: int, data: st.DataObject
) -> None:
    p, m = size
    limits = data.draw(st.lists(st.integers(1, 9), min_size=p, max_size=p))
    wide = [chunks * limit for limit in limits]
    for orders, released_by, room, v in (
        (gpipe(p, m, limits=limits), "B", limits, 1),
        (one_f_one_b(p, m, limits=limits), "B", limits, 1),
        (zb_h1(p, m, limits=limits), "W", limits, 1),
        (interleaved(p, m, chunks=chunks, limits=wide), "B", wide, chunks),
        (interleaved(p, m, chunks=chunks), "B", [10**9] * p, chunks),
    ):
        execute(orders)
        kinds = "FBW" if released_by == "W" else "FB"
        for s, row in enumerate(orders):
            assert sorted(row) == sorted(
                Operation(s, kind, b, c)  # type: ignore[arg-type]
                for kind in kinds
                for b in range(m)
                for c in range(v)
            )
            assert held(row, released_by) <= room[s]


@settings(max_examples=40, deadline=None)
@given(SMALL)
def test_zb_h1_needs_no_more_memory_than_the_first_stage_of_1f1b(size: tuple[int, int]) -> None:
    p, m = size
    most = max(held(row, "B") for row in one_f_one_b(p, m))
    assert all(held(row, "W") <= most for row in zb_h1(p, m))
    assert [held(row, "B") for row in one_f_one_b(p, m)] == [min(p - s, m) for s in range(p)]


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(1, 3), st.integers(0, 2**32 - 1), st.booleans())
def test_passes_start_at_their_longest_path(size: tuple[int, int], chunks: int, seed: int, split: bool) -> None:
    p, m = size
    rng = np.random.default_rng(seed)
    f, b, w = rng.uniform(0.5, 2, (3, p))
    link = rng.uniform(0, 2, (p, p))
    rest = float(rng.uniform(0, 1))
    orders = zb_h1(p, m) if split else interleaved(p, m, chunks=chunks)
    v = 1 if split else chunks
    run = execute(orders, StageTimes(forward=f, backward=b, weight=w, link=link, rest=rest, injection_rest=rest))
    length = {"F": f, "B": b, "W": w}
    graph = nx.MultiDiGraph()
    for row in orders:
        for op in row:
            s, kind, mb, c = op
            graph.add_edge("begin", op, lag=0.0)
            after: tuple[int, str, int, int] | None = None
            if kind == "F" and s + 1 < p:
                after = (s + 1, "F", mb, c)
            elif kind == "F":
                after = (0, "F", mb, c + 1) if c + 1 < v else (s, "B", mb, c)
            elif kind == "B" and (s > 0 or c > 0):
                after = (s - 1, "B", mb, c) if s > 0 else (p - 1, "B", mb, c - 1)
            if after is not None:
                graph.add_edge(op, after, lag=length[kind][s] + (link[s, after[0]] if after[0] != s else 0.0))
        for one, other in pairwise(row):
            graph.add_edge(one, other, lag=length[one.kind][one.stage] + rest)
    longest = {}
    for node in nx.topological_sort(graph):
        longest[node] = max((longest[u] + lag for u, _, lag in graph.in_edges(node, data="lag")), default=0.0)
    for task, start in zip(run.sequence, run.start, strict=True):
        assert start == pytest.approx(longest[task])
    assert (np.diff(run.start) >= 0).all()


def test_the_loss_waits_on_the_first_stage_for_the_last_one() -> None:
    run = execute(one_f_one_b(2, 1), StageTimes(forward=[1, 2], backward=[3, 4], link=10, loss=0.5, rest=1))
    assert [(kind, s, start) for (s, kind, _, _), start in zip(run.sequence, run.start, strict=True)] == [
        ("F", 0, 0.0),
        ("F", 1, 11.0),
        ("L", 0, 23.0),
        ("B", 1, 33.5),
        ("B", 0, 47.5),
    ]
    assert run.makespan == 50.5


@settings(max_examples=60, deadline=None)
@given(SMALL, st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_orders_stay_valid_where_the_loss_is_on_the_first_stage(size: tuple[int, int], chunks: int, seed: int) -> None:
    p, m = size
    rng = np.random.default_rng(seed)
    times = StageTimes(link=rng.uniform(0, 9, (p, p)), loss=0.3, rest=0.1)
    limits = [int(x) for x in rng.integers(1, 5, p)]
    for orders in (
        gpipe(p, m, limits=limits),
        one_f_one_b(p, m, limits=limits),
        zb_h1(p, m, limits=limits),
        interleaved(p, m, chunks=chunks, limits=[chunks * x for x in limits]),
    ):
        run = execute(orders, times)
        assert sum(kind == "L" for _, kind, _, _ in run.sequence) == m


def test_an_order_that_cannot_be_kept_is_named() -> None:
    orders = one_f_one_b(2, 2)
    orders[0] = [orders[0][0], orders[0][2], orders[0][1], orders[0][3]]
    orders[1] = [Operation(1, "F", 0), Operation(1, "F", 1), Operation(1, "B", 0), Operation(1, "B", 1)]
    with pytest.raises(ValueError, match=r"deadlock: stage 0 at .*'B'.*; stage 1 at .*'F'"):
        execute(orders)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: warm_up(0), "at least one stage"),
        (lambda: warm_up(2, [1]), "1 memory limits for 2 stages"),
        (lambda: one_f_one_b(2, 2, limits=[1, 0]), "at least one activation"),
        (lambda: one_f_one_b(2, 0), "at least one microbatch"),
        (lambda: gpipe(2, 2, limits=[0, 1]), "at least one activation"),
        (lambda: zb_h1(2, 0), "at least one microbatch"),
        (lambda: interleaved(2, 2, chunks=0), "at least one chunk"),
        (lambda: interleaved(2, 2, chunks=3, limits=[3, 2]), "at least 3 chunk activations"),
    ],
)
def test_impossible_pipelines_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
