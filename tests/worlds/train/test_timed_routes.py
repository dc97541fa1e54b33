"""Routes of one microbatch in time: all of them are there, and waiting no longer than needed is best."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import NoPlanFound
from pathloom.worlds.train import timed_routes
from pathloom.worlds.train.problem import Reordering, TrainProblem
from pathloom.worlds.train.routes import route_cost
from pathloom.worlds.train.small_waves import TICK, draw_wave
from pathloom.worlds.train.timed_routes import RoutesFrom, Use, Windows, merged, overlap_window

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda x: (x[0], x[0] + x[1])), max_size=8)


def routes_of(problem: TrainProblem, rests: bool = True) -> RoutesFrom:
    assert problem.placement is not None
    source = int(np.flatnonzero(problem.placement == 0)[0])
    return RoutesFrom(problem, problem.placement, source, rests)


def admissible(order: tuple[int, ...], budget: Reordering) -> bool:
    """CC-c and CC-d, read off their definitions."""
    swaps = [max(order[:k]) - p for k, p in enumerate(order) if k and p < max(order[:k])]
    jumps = [p - max(order[:k]) for k, p in enumerate(order) if k and p > max(order[:k])]
    return (
        max(swaps, default=0) <= budget.distance
        and len(swaps) <= budget.swaps
        and sum(swaps) <= budget.total
        and max(jumps, default=0) <= budget.jump
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 500))
def test_every_admissible_route_is_listed_once_and_cheapest_first(seed: int) -> None:
    problem = draw_wave(seed)
    placement = problem.placement
    assert placement is not None
    routes = routes_of(problem)
    orders = [
        (0, *rest)
        for rest in permutations(range(1, problem.n_stages), problem.route_length - 1)
        if admissible((0, *rest), problem.reordering)
    ]
    expected = {
        nodes
        for order in orders
        for nodes in product([routes.source], *(np.flatnonzero(placement == p).tolist() for p in order[1:]))
    }
    listed = [tuple(nodes) for nodes in routes.nodes.tolist()]
    assert len(listed) == len(set(listed)) and set(listed) == expected
    assert (placement[routes.nodes] == routes.stages).all()
    assert (np.diff(routes.cost) >= 0).all()


def ticks(seconds: float) -> int:
    assert seconds / TICK == round(seconds / TICK)
    return round(seconds / TICK)


def walk(problem: TrainProblem, routes: RoutesFrom, route: int, begin: int, windows: Windows) -> tuple[list[int], int]:
    """Tick by tick: each task starts at the first tick after its message that is not closed, the node being free."""
    nodes, stages = routes.nodes[route].tolist(), routes.stages[route].tolist()
    chain = [(n, 0, problem.forward[n, p]) for n, p in zip(nodes, stages, strict=True)]
    chain.append((nodes[0], 1, problem.loss[nodes[0]]))
    chain += [(n, 2, problem.backward[n, p]) for n, p in reversed(list(zip(nodes, stages, strict=True)))]
    free: dict[int, int] = {}
    time, starts, before = begin, [], None
    for position, (node, kind, seconds) in enumerate(chain):
        if before is not None and before != node:
            time += ticks(problem.link[before, node])
        while time < free.get(node, 0) or any(low <= time * TICK < high for low, high in windows.get((node, kind), ())):
            time += 1
        starts.append(time)
        time += ticks(seconds)
        free[node] = time + ticks(problem.injection_gap if position == 0 else problem.gap)
        before = node
    return starts, time


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 500), data=st.data(), begin=st.integers(0, 20))
def test_the_cheapest_route_under_closed_times_is_found(seed: int, data: st.DataObject, begin: int) -> None:
    problem = draw_wave(seed)
    routes = routes_of(problem)
    closed = data.draw(
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 300), st.integers(1, 90)))
    )
    windows = merged(((n, kind), low * TICK, (low + length) * TICK) for n, kind, low, length in closed)
    walked = [walk(problem, routes, route, begin, windows) for route in range(len(routes.cost))]
    found = routes.cheapest(begin * TICK, windows)
    assert found is not None
    assert found.end == min(end for _, end in walked) * TICK
    at = [tuple(nodes) for nodes in routes.nodes.tolist()].index(found.nodes)
    assert list(found.start) == [start * TICK for start in walked[at][0]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 500), first=st.integers(0, 50), later=st.integers(0, 50))
def test_a_later_injection_never_returns_earlier(seed: int, first: int, later: int) -> None:
    problem = draw_wave(seed)
    routes = routes_of(problem)
    draw = np.random.default_rng(seed)
    windows = merged(
        ((int(n), kind), low * TICK, (low + 25) * TICK)
        for n in range(problem.n_nodes)
        for kind in range(3)
        for low in draw.integers(0, 200, 3).tolist()
    )
    early, late = routes.cheapest(first * TICK, windows), routes.cheapest((first + later) * TICK, windows)
    assert early is not None and late is not None
    assert early.end <= late.end
    alone = routes.cheapest(first * TICK, {})
    assert alone is not None and alone.end <= early.end


def test_without_waiting_a_route_costs_what_route_cost_says() -> None:
    problem = draw_wave(3)
    routes = routes_of(problem, rests=False)
    for route in range(len(routes.cost)):
        timed = routes.timed(route, 0.0, {})
        assert timed is not None
        assert timed.end == route_cost(problem, routes.nodes[route : route + 1], routes.stages[route : route + 1])[0]


@given(first=spans, second=spans)
def test_merged_windows_close_the_same_times(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    given_windows: list[tuple[Use, float, float]] = [((0, 0), low, high) for low, high in first]
    given_windows += [((0, 2), low, high) for low, high in second]
    found = merged(given_windows)
    for use, of_use in (((0, 0), first), ((0, 2), second)):
        for time in np.arange(0, 90, 0.5):
            inside = any(low <= time < high for low, high in found.get(use, ()))
            assert inside == any(low <= time < high for low, high in of_use)
        ends = [x for window in found.get(use, ()) for x in window]
        assert ends == sorted(set(ends))


@given(low=st.integers(0, 50), length=st.integers(1, 20), duration=st.integers(1, 20), start=st.integers(0, 100))
def test_a_task_starts_outside_the_window_iff_it_misses_the_interval(
    low: int, length: int, duration: int, start: int
) -> None:
    window = overlap_window(low, low + length, duration)
    overlaps = start < low + length and low < start + duration
    assert (window[0] <= start < window[1]) == overlaps


def test_a_network_with_too_many_routes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_routes, "MOST_ROUTES", 3)
    with pytest.raises(NoPlanFound, match="lists all routes"):
        routes_of(draw_wave(0))
