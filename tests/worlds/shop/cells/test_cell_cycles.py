"""One-unit cycles of single-arm flow cells: optima by enumeration, periods by simulation, bounds below all."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_cells import ring

from pathloom.plan import NoPlanFound
from pathloom.worlds.shop.cells.bounds import long_run_bound
from pathloom.worlds.shop.cells.check import check_cell
from pathloom.worlds.shop.cells.cycles import (
    best_cycle,
    cycle,
    enumerate_cycles,
    flow_cell,
    follow_cycle,
    period,
)

process = st.floats(1.0, 80.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(process, min_size=1, max_size=4))
def test_the_best_cycle_is_the_enumerated_optimum(times: list[float]) -> None:
    flow = flow_cell(ring(times))
    assert flow is not None
    found, every = best_cycle(flow), enumerate_cycles(flow)
    assert found is not None and found.proven
    assert len(every) == math.factorial(len(times))
    assert found.period == pytest.approx(every[0].period, abs=1e-6)


@example([36.0, 43.0, 37.0])  # its cycles take long to settle: within a lot of 50 they did not
@settings(max_examples=5, deadline=None)
@given(st.lists(process, min_size=3, max_size=3))
def test_the_simulated_rate_of_every_cycle_is_its_period(times: list[float]) -> None:
    cell = ring(times, lot=200)
    flow = flow_cell(cell)
    assert flow is not None
    for one in enumerate_cycles(flow):
        assert follow_cycle(cell, one.order).steady_seconds_per_item == pytest.approx(one.period, rel=5e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(process, min_size=1, max_size=4))
def test_no_cycle_beats_the_bound(times: list[float]) -> None:
    cell = ring(times)
    flow = flow_cell(cell)
    assert flow is not None
    assert enumerate_cycles(flow)[0].period >= long_run_bound(cell).seconds - 1e-9


def test_one_station_by_hand() -> None:
    """The robot fetches, waits for the process, takes away and comes back; there is one order."""
    cell = ring([30.0])
    flow = flow_cell(cell)
    assert flow is not None
    expected = sum(flow.loaded) + 30.0 + flow.empty[1][0]
    assert period(flow, (0, 1)) == pytest.approx(expected)


def test_long_processes_make_the_backward_order_best() -> None:
    flow = flow_cell(ring([200.0, 200.0, 200.0]))
    assert flow is not None
    found = best_cycle(flow)
    assert found is not None and found.order == (0, 3, 2, 1)


def test_short_processes_make_the_forward_order_best() -> None:
    flow = flow_cell(ring([0.5, 0.5, 0.5]))
    assert flow is not None
    found = best_cycle(flow)
    assert found is not None and found.period == pytest.approx(period(flow, (0, 1, 2, 3)))


def test_a_dwell_limit_forbids_orders_that_let_items_wait() -> None:
    free, tight = flow_cell(ring([20.0, 90.0, 20.0])), flow_cell(ring([20.0, 90.0, 20.0], limit=0.0))
    assert free is not None and tight is not None
    every = [math.isfinite(one.period) for one in enumerate_cycles(tight)]
    assert not all(every)
    kept = best_cycle(tight)
    loose = best_cycle(free)
    assert loose is not None
    assert kept is None or kept.period >= loose.period - 1e-9


def test_the_method_plans_a_flow_cell_and_refuses_others() -> None:
    cell = ring([30.0, 50.0, 20.0], lot=30)
    plan = cycle(cell)
    assert check_cell(cell, plan) == []
    assert plan.metrics["period proven"]
    assert plan.bound is not None and plan.bound <= plan.objective.value
    with pytest.raises(NoPlanFound, match="single-arm"):
        cycle(ring([30.0], arms=2))
