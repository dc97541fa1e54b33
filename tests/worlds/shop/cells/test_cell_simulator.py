"""What happens in a cell: by hand, against a model in SimPy, and in random play on random cells."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_cells import random_cell, ring

from pathloom.worlds.shop.cells._legal_kernels import legal
from pathloom.worlds.shop.cells.cell import Cell, ProcessTime
from pathloom.worlds.shop.cells.check import check_cell
from pathloom.worlds.shop.cells.files import load_cell
from pathloom.worlds.shop.cells.kinematics import handling_time, travel_table
from pathloom.worlds.shop.cells.rules import EVERY_RULE, Rule, follow, run_plan
from pathloom.worlds.shop.cells.simulator import CellView, cell_arrays, lot_draws, simulate

ROOT = Path(__file__).parents[4]


def test_one_item_through_one_station_by_hand() -> None:
    cell = ring([10.0], lot=1)
    run = follow(cell, Rule("fifo"))
    arm, hand = cell.robots[0], handling_time(cell.robots[0])
    way = travel_table(cell, arm)
    # Home lies at the angle of the input: no move; then pick, carry, place, process, pick, carry, place.
    expected = hand + way[0, 4] + hand + 10.0 + hand + way[4, 2] + hand
    assert run.finish[0] == pytest.approx(expected, abs=1e-9)
    kinds = [run.timeline().kinds[k] for k in run.timeline().kind]
    assert kinds.count("pick") == kinds.count("place") == 2


def test_a_rule_is_the_same_in_compiled_and_in_python_driving() -> None:
    cell = random_cell(np.random.default_rng(5))
    for rule in EVERY_RULE:
        compiled, driven = follow(cell, rule, seed=2), simulate(cell, rule, seed=2)
        assert compiled.timeline() == driven.timeline()
        assert (compiled.finish == driven.finish).all()


def test_processing_times_belong_to_the_lot_not_to_the_control() -> None:
    cell = replace(ring([10.0, 20.0]), stations=tuple(
        replace(s, time=ProcessTime(5.0, 15.0)) for s in ring([10.0, 20.0]).stations
    ))  # fmt: skip
    lengths = []
    for rule in (Rule("fifo"), Rule("pull", ahead=True)):
        table = follow(cell, rule, seed=7).timeline()
        rows = table.kind == table.kinds.index("process")
        order = np.lexsort((table.start[rows], table.item[rows]))
        lengths.append((table.end - table.start)[rows][order])
    assert np.allclose(lengths[0], lengths[1])


# Found by this test once: a station in which an item of a later step lay behind one that must not leave yet.
@example(445)
@example(498)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_random_play_never_gets_stuck_and_keeps_every_rule_but_dwell(seed: int) -> None:
    """Deadlock avoidance: whatever legal actions are taken, every item leaves, and the checker agrees."""
    generator = np.random.default_rng(seed)
    try:
        cell = random_cell(generator)
    except ValueError:
        return  # no robot can serve that recipe

    def any_legal(view: CellView) -> int:
        moves = np.flatnonzero(view.mask[:-1])
        # Waiting now and then; always waiting would be a choice too, but a test without an end.
        if view.mask[-1] and (not len(moves) or generator.random() < 0.2):
            return len(view.mask) - 1
        return int(generator.choice(moves))

    run = simulate(cell, any_legal, seed=seed % 1000)
    assert (run.finish > 0.0).all()
    plan = run_plan(run, method="random play", settings={}, seconds=0.0)
    broken = check_cell(cell, plan)
    assert {violation.rule for violation in broken} <= {"dwell"}
    assert len(broken) == run.late


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 4))
def test_a_rule_with_limited_work_in_process_lets_no_more_items_in(seed: int, most: int) -> None:
    """Unless nothing else can be done, which one robot without a way back never meets."""
    cell = ring(np.random.default_rng(seed).uniform(5.0, 40.0, size=3).tolist(), arms=2)
    rule, counts = Rule("pull", horizon=10.0, most=most), []

    def watched(view: CellView) -> int:
        counts.append(int(view.state.entered[0] - view.state.done[0]))
        return rule(view)

    simulate(cell, watched)
    assert max(counts) <= most


def test_a_swap_needs_two_arms() -> None:
    kinds: dict[int, set[str]] = {1: set(), 2: set()}
    for arms, seen in kinds.items():

        def watch(view: CellView, seen: set[str] = seen) -> int:
            seen |= {kind for _, kind, _ in view.legal_actions()}
            return Rule("sequence")(view)

        simulate(ring([30.0, 30.0], arms=arms), watch)
    assert "swap" in kinds[2]
    assert "swap" not in kinds[1]


def test_two_arms_are_faster_than_one_where_stations_limit() -> None:
    times = [40.0, 60.0, 40.0]
    two = follow(ring(times, arms=2, lot=60), Rule("sequence")).steady_seconds_per_item
    one = follow(ring(times, arms=1, lot=60), Rule("sequence")).steady_seconds_per_item
    assert two < one


def test_an_illegal_action_is_refused() -> None:
    with pytest.raises(ValueError, match="not legal"):
        simulate(ring([10.0]), lambda view: view.number("place", "out"))


def _same_as_simpy(cell: Cell) -> None:
    """The rule "pull" gives the same trace, to the last bit, in the compiled simulator and in a SimPy model."""
    pytest.importorskip("simpy")
    path = ROOT / "benchmarks" / "_simpy_cell.py"
    spec = importlib.util.spec_from_file_location("_simpy_cell", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_simpy_cell"] = module
    spec.loader.exec_module(module)
    cell = replace(cell, stations=tuple(replace(s, longest_wait=math.inf) for s in cell.stations), lot=40)
    rows = module.SimPyCell(cell, lot_draws(cell, 3)).run()
    run = follow(cell, Rule("pull"), seed=3)
    names = ("move", "wait", "pick", "place", "turn")
    ours = [
        (names[w[1]], w[2], w[3], w[4], a, b) for w, (a, b) in zip(run.what.tolist(), run.when.tolist()) if w[0] == 0
    ]
    assert rows == ours


@pytest.mark.parametrize("name", ["cell-linear-8", "cell-cluster-6", "cell-line-6"])
def test_the_trace_equals_that_of_a_simpy_model(name: str) -> None:
    _same_as_simpy(load_cell(ROOT / "examples" / f"{name}.yaml"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_the_trace_of_a_random_cell_equals_that_of_a_simpy_model(seed: int) -> None:
    """One robot, no buffers: groups, slots, ways back and random times as they come."""
    try:
        cell = replace(random_cell(np.random.default_rng(seed)), buffers=())
    except ValueError:
        return
    if len(cell.robots) == 1:
        _same_as_simpy(cell)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**9))
def test_the_short_deadlock_test_of_cells_without_a_way_back_is_the_long_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    try:
        cell = random_cell(generator)
    except ValueError:
        return
    C = cell_arrays(cell)
    if not C.ordered:
        return
    seen = np.zeros(3 * len(cell.places) + 1, dtype=np.bool_)

    def any_legal(view: CellView) -> int:
        legal(C._replace(ordered=False), view.state, view.copy, view.robot, seen)
        assert (seen == view.mask).all()
        legal(C, view.state, view.copy, view.robot, seen)
        return int(generator.choice(np.flatnonzero(view.mask)))

    simulate(cell, any_legal, seed=1)
