"""A wave: one agent a memory slot of a source, and the iteration that repeats the agents' routes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import ProvenInfeasible
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.reference import reference_instance
from pathloom.worlds.train.small_waves import draw_wave
from pathloom.worlds.train.timed_routes import RoutesFrom
from pathloom.worlds.train.wave import first_wave

PLACEMENT = np.repeat(np.arange(6), (5, 3, 3, 3, 3, 3))


def repeated(problem: TrainProblem, microbatches: int) -> TrainProblem:
    """The problem with more microbatches than one wave, and without caps."""
    many = np.full(problem.n_nodes, microbatches)
    return replace(
        problem, microbatches=microbatches, source_cap=microbatches, node_cap=many, stage_cap=many[: problem.n_stages]
    )


def test_the_default_instance_has_fifteen_agents_that_are_repeated_twice() -> None:
    wave = first_wave(reference_instance(placement=PLACEMENT), PLACEMENT)
    assert wave.agents == 15 and set(wave.repeats) == {2}
    assert wave.source.tolist() == [n for n in range(5) for _ in range(3)]
    assert wave.offset.tolist() == [0.0, 1.76, 3.52] * 5


def test_coarse_agents_stand_for_all_slots_of_a_source() -> None:
    wave = first_wave(reference_instance(placement=PLACEMENT), PLACEMENT, copies=3)
    assert wave.agents == 5 and set(wave.repeats) == {6}
    assert not wave.overload([0], 7) and wave.overload([0, 1], 7)


def test_a_stage_of_three_nodes_takes_nine_routes_of_a_wave_and_a_node_three() -> None:
    wave = first_wave(reference_instance(placement=PLACEMENT), PLACEMENT)
    assert not wave.stage_overload(range(9), 2) and wave.stage_overload(range(10), 2)
    assert not wave.overload(range(3), 7) and wave.overload(range(4), 7)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 500), microbatches=st.integers(1, 25), copies=st.integers(1, 2))
def test_every_microbatch_waits_for_its_agent_in_the_wave_before(seed: int, microbatches: int, copies: int) -> None:
    problem = repeated(draw_wave(seed), microbatches)
    placement = problem.placement
    assert placement is not None
    sources = np.flatnonzero(placement == 0)
    if copies > problem.memory[sources].max():
        return
    wave = first_wave(problem, placement, copies=copies)
    routes = [RoutesFrom(problem, placement, int(s), rests=False).cheapest(0.0, {}) for s in wave.source]
    decisions = wave.decisions([route for route in routes if route is not None])
    assert decisions.routes.shape == (microbatches, problem.route_length)
    assert (decisions.routes[:, 0] == wave.source[wave.agent]).all()
    assert sum(wave.repeats) == microbatches
    after, release = decisions.after, decisions.release
    assert after is not None and release is not None
    for b, previous in enumerate(after.tolist()):
        if previous < 0:
            assert wave.wave[b] == 0
        else:
            assert (wave.agent[b], wave.copy[b]) == (wave.agent[previous], wave.copy[previous])
            assert wave.wave[b] == wave.wave[previous] + 1
            assert release[b] == pytest.approx(release[previous] + 2.5)
    # No two microbatches share a predecessor, so at most `memory` of a source are under way at once.
    assert len(set(after[after >= 0].tolist())) == (after >= 0).sum()
    for s in sources:
        assert ((after < 0) & (decisions.routes[:, 0] == s)).sum() <= problem.memory[s]


def test_more_microbatches_than_the_sources_may_start_are_proven_infeasible() -> None:
    problem = replace(draw_wave(0), source_cap=1, microbatches=5)
    assert problem.placement is not None
    with pytest.raises(ProvenInfeasible, match="source_cap"):
        first_wave(problem, problem.placement)
