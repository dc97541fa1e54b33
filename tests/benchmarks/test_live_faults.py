"""What counts as a lost step, as going on and as recovery time, when nodes of a real run are killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import live_faults
from _fault_figures import FaultFigures, figures, simulated_loss
from _killed_runs import AVERAGING, CHECKPOINT, ITERATION, RECOVERY, VALIDATION, Hit, phase_of
from pathloom.plan import Plan

SETTINGS = {**live_faults.SETTINGS, "seed": 0}


@pytest.fixture(scope="module")
def alone() -> Plan:
    return live_faults.planned(live_faults.PROBLEMS[live_faults.ALONE], 0)


@pytest.fixture(scope="module")
def doubled() -> Plan:
    return live_faults.planned(live_faults.PROBLEMS[live_faults.SKIPPING], 0)


def recorded(
    steps: list[tuple[int, float]],
    *,
    struck: float | None = None,
    node: str = "a0",
    saved: int = 0,
    steps_lost: int = 0,
) -> dict[str, Any]:
    """A run with these (step, second) records, hit in an iteration at a second, and noticed a tenth of one later."""
    hit = {"node": node, "second": struck, "since_start": 0.5, "step": 0, "phase": ITERATION, "checkpoint": saved}
    event = {"event": "node lost", "node": node, "step": 0, "lost_microbatches": 1, "rerouted": 2}
    event |= {"steps_lost": steps_lost, "replanned_seconds": 1.0, "decided_seconds": 0.1}
    hits = [] if struck is None else [hit]
    return {
        "steps": [
            {"step": step, "second": second, "loss": 5.0 - step, "tokens": 64, "iteration_seconds": 1.0}
            for step, second in steps
        ],
        "events": [] if struck is None else [{**event, "second": struck + 0.2}],
        "struck": hits,
        "losses": [{"node": node, "second": (struck or 0.0) + 0.1, "why": "killed"} for _ in hits],
        "pauses": [],
        "decisions": [],
        "status": "done",
        "error": "",
        "passes": 1.0,
        "hits": hits,
    }


CALM = recorded([(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)])


def of(run: dict[str, Any], plan: Plan) -> FaultFigures:
    return figures(run, CALM, plan, SETTINGS)


def test_steps_since_the_checkpoint_are_lost_without_a_replica_but_none_beyond_it(alone: Plan) -> None:
    steps = [(1, 1.0), (2, 2.0), (3, 3.0), (3, 6.0), (4, 7.0)]
    found = of(recorded(steps, struck=3.5, saved=2, steps_lost=1), alone)
    assert (found.goes_on, found.steps_lost, found.beyond) == (True, 1, 0)
    assert found.recovery == pytest.approx(7.0 - 3.0 - 1.0)
    assert found.noticed == pytest.approx(0.1)
    # the checkpoint of step 3 was there and was not used
    assert of(recorded(steps, struck=3.5, saved=3, steps_lost=1), alone).beyond == 1


def test_every_lost_step_counts_where_a_replica_lives(doubled: Plan) -> None:
    steps = [(1, 1.0), (2, 2.0), (2, 5.0), (3, 6.0), (4, 7.0)]
    found = of(recorded(steps, struck=2.5, steps_lost=1), doubled)
    assert (found.steps_lost, found.beyond) == (1, 1)
    found = of(recorded([(1, 1.0), (2, 2.0), (3, 4.5), (4, 5.5)], struck=2.5), doubled)
    assert (found.steps_lost, found.beyond, found.recovery) == (0, 0, pytest.approx(1.5))


def test_a_step_that_is_lost_before_it_was_recorded_is_lost(alone: Plan) -> None:
    found = of(recorded([(1, 1.0), (2, 2.0), (3, 6.0), (4, 7.0)], struck=2.9, saved=2, steps_lost=1), alone)
    assert (found.steps_lost, found.beyond) == (1, 0)


def test_a_run_that_ends_early_or_drops_a_microbatch_does_not_go_on(doubled: Plan) -> None:
    whole = [(1, 1.0), (2, 2.0), (3, 4.5), (4, 5.5)]
    assert of(recorded(whole, struck=2.5), doubled).goes_on
    assert not of(recorded(whole[:3], struck=2.5), doubled).goes_on
    short = recorded(whole, struck=2.5)
    short["steps"][2]["tokens"] = 48
    assert not of(short, doubled).goes_on


def test_a_death_after_the_last_pass_costs_the_simulated_iteration_nothing(doubled: Plan) -> None:
    node = doubled.problem.nodes[0]
    assert simulated_loss(doubled, node, 10.0, 0.1, SETTINGS) == pytest.approx(0.0)
    early = simulated_loss(doubled, node, 0.2, 0.1, SETTINGS)
    assert 0.0 < early < simulated_loss(doubled, node, 0.2, 0.1, {**SETTINGS, "recovery": "restart"}) + 1e-9


def test_messages_of_the_coordinator_begin_phases() -> None:
    assert phase_of({"do": "iterate", "forward_only": False}) == ITERATION
    assert phase_of({"do": "iterate", "forward_only": True}) == VALIDATION
    assert phase_of({"do": "finish", "reduce": True}) == AVERAGING
    assert phase_of({"do": "pause"}) == RECOVERY
    assert phase_of({"do": "save"}) == CHECKPOINT
    assert phase_of({"say": "beat"}) is None


def test_hits_are_drawn_from_all_nodes_and_the_whole_step_and_depend_on_the_seed_alone(doubled: Plan) -> None:
    case = live_faults.CASES[live_faults.REROUTE]

    def drawn(seed: int) -> list[Hit]:
        rngs = (np.random.default_rng([seed, number]) for number in range(20))
        return [live_faults.hits_of(case, number, doubled, 2.0, rng)[0] for number, rng in enumerate(rngs)]

    hits = drawn(0)
    assert hits == drawn(0) != drawn(1)
    assert {hit.node for hit in hits} == set(doubled.problem.nodes)
    assert 0.0 <= min(hit.seconds for hit in hits) < 0.5 < 1.5 < max(hit.seconds for hit in hits) < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["back to the checkpoint, aimed at other phases", "rerouted, another dies meanwhile"])
def test_training_goes_on_when_a_stage_dies_while_it_is_saved_or_a_node_while_others_regroup(
    name: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    assert live_faults.main(["--runs", "1", "--cases", name, "--out", str(tmp_path)]) == 0


@pytest.mark.slow
def test_training_goes_on_when_a_node_of_a_real_run_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    assert live_faults.main(["--quick", "--out", str(tmp_path)]) == 0
    saved = json.loads((tmp_path / "live_faults.json").read_text(encoding="utf-8"))
    rows = [dict(zip(saved["columns"], row, strict=True)) for row in saved["rows"]]
    assert [row["go on to the last step"] for row in rows] == [row["runs"] for row in rows]
    assert [row["beyond the last checkpoint"] for row in rows] == [0, 0]
