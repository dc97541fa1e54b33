"""Decisions of the coordinator that need no process: who is slow, and what a stage's sum lacks when a node dies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import full, skipping

from pathloom.plan import NoPlanFound, Plan
from pathloom.worlds.train.check import check
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS
from pathloom.worlds.train.runtime import coordinator as runtime
from pathloom.worlds.train.runtime.contributions import Contributions
from pathloom.worlds.train.runtime.coordinator import Coordinator, Place
from pathloom.worlds.train.runtime.membership import Membership, most_held
from pathloom.worlds.train.runtime.recorded_iteration import busy_share, pace
from pathloom.worlds.train.runtime.settings import RunSettings
from pathloom.worlds.train.simulator import plan_of, simulate


class Silent:
    """A cluster whose nodes all live and answer at once."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.members = {name: SimpleNamespace(address=("127.0.0.1", 1)) for name in names}
        self.losses: list[Any] = []
        self.told: list[dict[str, Any]] = []

    def tell(self, message: Any) -> None:
        self.told.append(message)

    def events(self, wait: float) -> Any:
        last = self.told[-1]
        return [(name, {"say": "joined", "number": last.get("number")}) for name in self.members]

    def forgive_silence(self) -> None:
        """Nobody is silent."""


def coordinator(plan: Plan, **changes: Any) -> tuple[Coordinator, Silent, list[dict[str, Any]]]:
    settings = RunSettings(data="tokens", replan_seconds=0.2, **changes)
    cluster, events = Silent(plan.problem.nodes), list[dict[str, Any]]()
    membership = Membership(
        cluster, plan.problem, plan.decisions, settings, model={}, store=("127.0.0.1", 1), same_clock=True
    )
    led = Coordinator(
        membership,
        rates=None,
        folder=None,
        place=Place(3, 36),
        initial=None,
        on_step=lambda record: None,
        on_event=events.append,
    )
    return led, cluster, events


def visits_of(plan: Any, node: int) -> int:
    return int((np.asarray(plan.decisions.routes) == node).sum())


def test_a_slow_node_is_given_less_to_do_from_the_next_step_on() -> None:
    plan = skipping(3, microbatches=8, node_cap=np.full(6, 8))
    led, cluster, events = coordinator(plan, slow_factor=2.0)
    before = visits_of(plan, 2)
    measured = np.array([1.1, 1.0, 6.0, 0.9, 1.0, 1.0])
    led._look_for_slow_nodes(measured)
    (event,) = events
    assert event["nodes"] == {"n2": pytest.approx(6.0)}
    assert [message["do"] for message in cluster.told] == ["join"]
    assert cluster.told[0]["load"] is None and cluster.told[0]["placement"] == plan.decisions.placement.tolist()
    problem, decisions = led.membership.problem, led.membership.decisions
    assert problem.forward[2, 1] == pytest.approx(6.0 * plan.problem.forward[2, 1])
    assert problem.forward[3, 1] == plan.problem.forward[3, 1]
    assert [str(v) for v in check(problem, plan_of(problem, decisions, method="next"))] == []
    assert before > 0 and visits_of(led.membership, 2) < before


@pytest.mark.parametrize(
    "measured",
    [[1, 1, 1, 1, 1, 1], [5, 5, 5, 5, 5, 5], [1, 1.9, 1, 1, 0.2, 1], [1, 1, np.nan, 1, 1, 1]],
    ids=["as planned", "all five times slower", "a little", "one had nothing to do"],
)
def test_nodes_that_are_no_slower_than_the_others_are_left_alone(measured: list[float]) -> None:
    led, cluster, events = coordinator(skipping(3), slow_factor=2.0)
    led._look_for_slow_nodes(np.array(measured, dtype=np.float64))
    assert events == [] and cluster.told == []


def test_a_run_goes_on_as_before_where_no_better_plan_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise NoPlanFound("for a test")

    monkeypatch.setattr(runtime, "replan", nothing)
    plan = skipping(3)
    led, _, _ = coordinator(plan, slow_factor=2.0)
    led._look_for_slow_nodes(np.array([1.0, 1.0, 6.0, 1.0, 1.0, 1.0]))
    assert led.membership.decisions is plan.decisions


def test_what_a_node_takes_is_measured_against_the_plan() -> None:
    for plan in (skipping(3), full("zb-h1"), full("interleaved-1f1b", sizes=(1, 1))):
        timeline = plan.timeline
        assert pace(plan.problem, plan.decisions, timeline) == pytest.approx(1.0)
        slow = timeline.resource == 1
        work = np.isin(timeline.kind, (FORWARD, LOSS, BACKWARD, 3))
        end = np.where(slow & work, timeline.start + 3 * (timeline.end - timeline.start), timeline.end)
        slower = type(timeline)(
            timeline.resource,
            timeline.item,
            timeline.kind,
            timeline.start,
            end,
            timeline.resources,
            timeline.items,
            timeline.kinds,
            timeline.unit,
            timeline.columns,
        )
        factors = pace(plan.problem, plan.decisions, slower)
        assert factors[1] == pytest.approx(3.0)
        assert np.delete(factors, 1) == pytest.approx(1.0)
        assert busy_share(timeline, plan.objective.value) == pytest.approx(1 - plan.metrics["bubble_share"])


@pytest.mark.parametrize("method", ["gpipe", "1f1b", "zb-h1", "interleaved-1f1b"])
def test_where_the_plan_fixes_the_order_its_memory_is_a_part_of_it(method: str) -> None:
    """1F1B holds as many activations as stages follow; GPipe all of them."""
    plan = full(method, sizes=(1, 1, 1, 1), microbatches=6, memory=8)
    most = most_held(plan.problem, simulate(plan.problem, plan.decisions))
    assert (most <= 8 * plan.decisions.chunks).all() and (most >= 1).all()
    if method == "gpipe":
        assert most.tolist() == [6, 6, 6, 6]
    if method == "1f1b":
        assert most[-1] < most[0] <= 6


class Led:
    """What `Contributions` asks of a finished iteration."""

    def __init__(self, held: list[tuple[int, int]], gone: list[tuple[int, int]], nodes: int, stages: int) -> None:
        self.problem = SimpleNamespace(n_stages=stages, nodes=tuple(f"n{i}" for i in range(nodes)))
        self.held, self.gone = held, gone

    def counted_at(self) -> list[tuple[int, int]]:
        return self.held

    def incomplete(self) -> list[tuple[int, int]]:
        return self.gone


def test_what_died_with_a_node_is_made_up_for_by_what_its_stage_still_holds() -> None:
    contributions = Contributions()
    contributions.add(Led([(0, 0), (0, 0), (1, 0), (2, 1), (2, 1), (2, 1)], [], 3, 2))
    assert contributions.scales(2) == [1.0, 1.0]
    contributions.lose("n1")
    assert contributions.scales(2) == [pytest.approx(3 / 2), 1.0]
    contributions.add(Led([(0, 0), (2, 1)], [(5, 0)], 3, 2))
    assert contributions.scales(2) == [pytest.approx(5 / 3), 1.0]
    contributions.lose("n2")
    assert contributions.scales(2) is None


@given(
    held=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30),
    lost=st.lists(st.integers(0, 3), max_size=3),
)
def test_scaled_sums_stand_for_every_microbatch_that_visited(held: list[tuple[int, int]], lost: list[int]) -> None:
    """With chunks a stage hosts several virtual ones; their gradients are one sum."""
    stages = 2
    contributions = Contributions()
    contributions.add(Led([(node, stage) for node, stage in held], [], 4, stages))
    for node in lost:
        contributions.lose(f"n{node}")
    scales = contributions.scales(stages)
    for stage in range(stages):
        visited = sum(p % stages == stage for _, p in held)
        left = sum(p % stages == stage and node not in lost for node, p in held)
        if visited and not left:
            assert scales is None
        elif scales is not None and left:
            assert scales[stage] * left == pytest.approx(visited)
