"""Errors of the phases of a run: none where it does what was planned, and they add up to the error of the iteration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import pair, rigid_plan, serial_plan, varied_case

from pathloom.plan import Plan
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import KINDS, SYNC
from pathloom.worlds.train.runtime.phase_errors import COLUMNS, PhaseError, phase_errors, relative, table

SEEDS = st.integers(0, 10_000)


def changed(timeline: Timeline, **columns: object) -> Timeline:
    return replace(timeline, **columns)  # type: ignore[arg-type]


def stretched(timeline: Timeline, factor: float) -> Timeline:
    return changed(timeline, start=timeline.start * factor, end=timeline.end * factor)


def row(rows: list[PhaseError], phase: str, node: str = "") -> PhaseError:
    (found,) = (row for row in rows if (row.phase, row.node) == (phase, node))
    return found


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_run_that_equals_its_plan_has_no_errors(seed: int) -> None:
    plan = rigid_plan(*varied_case(seed)).timeline
    order = np.random.default_rng(seed).permutation(len(plan))
    rows = phase_errors(plan, plan, plan.rows(order))
    for found in rows:
        assert found.error == pytest.approx(0.0, abs=1e-9)
        assert found.off_plan == pytest.approx(0.0, abs=1e-9)
        assert found.planned.count == found.measured.count


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0.5, 3.0))
def test_a_run_that_takes_a_factor_longer_is_wrong_by_that_factor_everywhere(seed: int, factor: float) -> None:
    plan = rigid_plan(*varied_case(seed)).timeline
    for found in phase_errors(plan, plan, stretched(plan, factor)):
        if found.planned.seconds > 1e-9:
            assert found.error == pytest.approx(factor - 1, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SEEDS)
def test_work_and_waiting_of_a_node_fill_the_iteration(seed: int, other: int) -> None:
    """So the errors in seconds add up to the error of the iteration."""
    plan = serial_plan(*varied_case(seed)).timeline
    draw = np.random.default_rng(other)
    length = (plan.end - plan.start) * draw.uniform(0.3, 1.0, len(plan))
    run = changed(plan, end=plan.start + length)
    rows = phase_errors(plan, plan, run)
    assert {found.node for found in rows} == {"", *plan.resources}
    for side, timeline in (("planned", plan), ("measured", run)):
        for node in plan.resources:
            filled = sum(getattr(found, side).seconds for found in rows if found.node == node)
            assert filled == pytest.approx(timeline.makespan)
        for phase in {found.phase for found in rows if found.node}:
            parts = [getattr(found, side) for found in rows if found.node and found.phase == phase]
            whole = getattr(row(rows, phase), side)
            assert whole.seconds == pytest.approx(sum(part.seconds for part in parts))
            assert whole.count == sum(part.count for part in parts)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_each_hop_of_a_route_is_one_message_there_and_one_back(seed: int) -> None:
    problem, decisions = varied_case(seed)
    plan = serial_plan(problem, decisions)
    routes = np.asarray(decisions.routes)
    around = np.concatenate([routes, routes[:, :1]], axis=1)
    hops = int((around[:, 1:] != around[:, :-1]).sum())
    messages = row(phase_errors(plan.timeline, plan.timeline, plan.timeline), "messages").planned
    assert messages.count == 2 * hops
    links = problem.link[around[:, :-1], around[:, 1:]][around[:, 1:] != around[:, :-1]].sum()
    back = problem.link[around[:, 1:], around[:, :-1]][around[:, 1:] != around[:, :-1]].sum()
    rests = 2 * hops * max(problem.gap, problem.injection_gap)
    # One task is done at a time, so the gap of a message is its link and the rest before.
    assert messages.seconds == pytest.approx(links + back + rests)


def two_nodes() -> Plan:
    """One microbatch: 1 s forward on a and b, 0.5 s loss on a, 2 s backward on b and a, messages of 0.375 s."""
    return serial_plan(*pair(1))


def test_a_slow_link_is_an_error_of_messages_and_waiting_but_of_no_work() -> None:
    plan = two_nodes().timeline
    late = np.where(plan.start > 1.1, 1.0, 0.0)  # the first message takes a second longer
    rows = phase_errors(plan, plan, changed(plan, start=plan.start + late, end=plan.end + late))
    by_phase = {found.phase: found for found in rows if not found.node}
    assert list(by_phase) == ["forward", "loss", "backward", "waiting", "messages", "iteration"]
    for phase in ("forward", "loss", "backward"):
        assert by_phase[phase].error == pytest.approx(0.0)
    assert by_phase["messages"].planned.count == 4
    assert by_phase["messages"].measured.mean - by_phase["messages"].planned.mean == pytest.approx(0.25)
    assert by_phase["iteration"].error == pytest.approx(1.0 / plan.makespan)
    assert row(rows, "waiting", "b").measured.seconds == pytest.approx(plan.makespan + 1.0 - 3.0)


def test_clocks_that_differ_by_more_than_a_message_do_not_confuse_the_order_of_tasks() -> None:
    plan = two_nodes().timeline
    behind = np.where(plan.resource == plan.resources.index("b"), -2.0, 0.0)
    run = changed(plan, start=plan.start + behind + 5, end=plan.end + behind + 5)
    found = row(phase_errors(plan, plan, run), "messages")
    assert found.measured.count == 4
    assert found.measured.seconds == pytest.approx(found.planned.seconds)


def test_without_the_column_of_visits_the_starts_order_the_tasks() -> None:
    plan = two_nodes().timeline
    rows = phase_errors(plan, plan, changed(plan, columns={}))
    assert row(rows, "messages").error == pytest.approx(0.0)


def test_a_microbatch_that_was_sent_out_again_is_counted_for_each_time() -> None:
    plan = two_nodes().timeline
    n = len(plan)
    twice = plan.rows(np.concatenate([np.arange(n), np.arange(n)]))
    late = np.repeat([0.0, plan.makespan], n)
    again = changed(
        twice,
        start=twice.start + late,
        end=twice.end + late,
        columns={**twice.columns, "attempt": np.repeat([0, 1], n)},
    )
    found = row(phase_errors(plan, plan, again), "messages")
    assert (found.measured.count, found.planned.count) == (8, 4)
    assert found.error == pytest.approx(1.0)


def test_kinds_and_nodes_of_any_side_have_a_row() -> None:
    plan = two_nodes().timeline
    spans = [("a", "mb0", "forward", 0.0, 1.0), ("c", "mb0", "wasted", 1.0, 2.0), ("c", "sync", "sync", 2.0, 2.5)]
    rows = phase_errors(plan, plan, Timeline.from_spans(spans))
    assert row(rows, "wasted").error is None and row(rows, "wasted").measured.seconds == 1.0
    assert row(rows, "backward").error == pytest.approx(-1.0)
    assert row(rows, "wasted", "c").measured.count == 1
    phases = [found.phase for found in rows if found.node == "c"]
    assert phases == ["forward", "loss", "backward", "sync", "wasted", "waiting"]


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_errors_are_measured_against_the_simulation_and_shown_against_the_plan_too(seed: int) -> None:
    plan = rigid_plan(*varied_case(seed))
    slower = stretched(plan.timeline, 1.25)
    columns, cells, figures = table(plan, {"simulation": slower, "run": slower})
    assert tuple(columns) == COLUMNS and all(len(line) == len(columns) for line in cells)
    assert figures["iteration_time_error"] == pytest.approx(0.0)
    iteration = next(line for line in cells if line[0] == "iteration")
    assert iteration[-2:] == ("+25.0%", "+0.0%")
    busy = {
        f"work of {node}"
        for node in plan.timeline.resources
        if (plan.timeline.kind != SYNC)[plan.timeline.resource == plan.timeline.resources.index(node)].any()
    }
    assert {line[0] for line in cells} - set(KINDS) == busy | {"waiting", "messages", "iteration"}
    assert {entry["phase"] for entry in figures["phases"]} >= {"forward", "iteration"}
    assert {entry["node"] for entry in figures["nodes"]} == set(plan.timeline.resources)
    for entry in figures["phases"]:
        assert entry["simulated"]["seconds"] == pytest.approx(1.25 * entry["planned"]["seconds"])


def test_a_run_without_a_simulation_is_measured_against_the_plan() -> None:
    plan = two_nodes()
    figures = table(plan, {"run": stretched(plan.timeline, 1.5)})[2]
    assert figures["iteration_time_error"] == pytest.approx(0.5)


@pytest.mark.parametrize(("value", "reference", "error"), [(3, 2, 0.5), (0, 0, 0.0), (1, 0, None), (1, -2, 1.5)])
def test_relative_errors(value: float, reference: float, error: float | None) -> None:
    assert relative(value, reference) == error
