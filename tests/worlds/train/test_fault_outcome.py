"""Nodes die in mid-iteration: every microbatch is completed, history stands, and a restart would have cost more."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pathloom.plan import InfeasiblePlan, ProvenInfeasible
from pathloom.timeline import Timeline
from pathloom.worlds.train.fault_check import check_recovery
from pathloom.worlds.train.fault_outcome import Failure, FaultOutcome, simulate_failures
from pathloom.worlds.train.fault_story import FAULT_KINDS, WASTED
from pathloom.worlds.train.problem import FORWARD, Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import ClusterView, Recovery, Reroute
from pathloom.worlds.train.repair import RouteDraft, Widening, stage_orders
from pathloom.worlds.train.simulator import Disturbances, simulate

SIZES = (3, 2, 2, 2)
PLACEMENT = np.repeat(np.arange(4), SIZES)


def cluster(seed: int = 0, **changes: object) -> TrainProblem:
    """Nine nodes in four stages, three of which each of twelve microbatches visits."""
    rng = np.random.default_rng(seed)
    forward = rng.uniform(0.5, 1.5, (9, 4))
    weight = 0.6 * forward
    problem = TrainProblem(
        name="nine",
        nodes=tuple(f"n{i}" for i in range(9)),
        locations=("here",) * 9,
        forward=forward,
        backward=1.5 * forward,
        weight=weight,
        loss=0.25 * forward[:, 0],
        link=rng.uniform(0.1, 1.0, (9, 9)),
        memory=np.full(9, 3),
        stage_sizes=np.array(SIZES),
        microbatches=12,
        route_length=3,
        source_cap=4,
        stage_cap=np.array([12, 8, 8, 8]),
        node_cap=np.full(9, 4),
        placement=PLACEMENT,
        gap=0.05,
        injection_gap=0.02,
    )
    return replace(problem, **changes)  # type: ignore[arg-type]


def routes(seed: int = 0, **changes: object) -> TrainDecisions:
    """Random routes within the caps: each stage skipped by a third, each node used four times."""
    rng = np.random.default_rng(seed)
    skipped = rng.permutation(np.repeat([1, 2, 3], 4))
    stages = np.array([[p for p in range(4) if p != s] for s in skipped])
    nodes = np.zeros((12, 3), dtype=np.int64)
    for p, members in enumerate(np.split(np.arange(9), np.cumsum(SIZES)[:-1])):
        where = np.argwhere(stages == p)
        taken = rng.permutation(np.repeat(members, 4))[: len(where)]
        nodes[tuple(where.T)] = taken
    first_of: dict[int, list[int]] = {}
    after = np.full(12, -1)
    for b, source in enumerate(nodes[:, 0]):
        started = first_of.setdefault(int(source), [])
        if len(started) >= 3:
            after[b] = started[-3]
        started.append(b)
    decisions = TrainDecisions(PLACEMENT, nodes, stages, release=np.zeros(12), after=after)
    return replace(decisions, **changes)  # type: ignore[arg-type]


def spans(table: Timeline) -> set[tuple[object, ...]]:
    columns = (table.resource, table.item, table.columns["work"], table.columns["visit"], table.start, table.end)
    return set(zip(*(c.tolist() for c in columns), strict=True))


def check(problem: TrainProblem, decisions: TrainDecisions, outcome: FaultOutcome, **options: object) -> list[str]:
    failures = [(f.node, f.second) for f in outcome.failures]
    found = check_recovery(
        problem, decisions, outcome.timeline, failures, detection=outcome.detection, **options  # type: ignore[arg-type]
    )  # fmt: skip
    return [str(v) for v in found]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_every_node_may_die_and_every_microbatch_is_completed(share: float) -> None:
    problem, decisions = cluster(), routes()
    nominal = simulate(problem, decisions).iteration_time
    for node in range(9):
        outcome = simulate_failures(problem, decisions, [Failure(node, share * nominal)], evaluations=60)
        assert outcome.completed
        assert check(problem, decisions, outcome) == []
        assert outcome.lost_time == pytest.approx(outcome.iteration_time - nominal)
        assert outcome.lost_time <= outcome.restart_lost_time or not outcome.lost
        dead = outcome.timeline.resource == node
        assert not (outcome.timeline.end[dead] > share * nominal + 1e-9).any()


def test_rerouting_loses_at_most_half_of_what_a_restart_loses() -> None:
    problem, decisions = cluster(3), routes(3)
    nominal = simulate(problem, decisions).iteration_time
    shares = []
    for node in range(9):
        for share in (0.4, 0.6):
            outcome = simulate_failures(problem, decisions, [Failure(node, share * nominal)], evaluations=100)
            shares.append(outcome.lost_time / outcome.restart_lost_time if outcome.restart_lost_time else 0.0)
    assert np.median(shares) <= 0.5


def test_what_happened_before_the_notice_stands() -> None:
    problem, decisions = cluster(), routes()
    calm = simulate(problem, decisions)
    time, detection, victim = 8.0, 2.0, 4
    outcome = simulate_failures(
        problem, decisions, [Failure(victim, time)], detection=detection, evaluations=50, compare_restart=False
    )
    happened = {
        (int(calm.chains.node[b, t]), int(b), int(calm.chains.kind[t]), int(calm.chains.visit[t]), *when)
        for b, t in np.argwhere(calm.end <= time)
        for when in [(float(calm.start[b, t]), float(calm.end[b, t]))]
    }
    assert happened <= spans(outcome.timeline)
    # whoever does not need the dead node neither stops nor changes its route
    rows = outcome.timeline.columns["attempt"] > 0
    assert {f"mb{b}" for b in outcome.timeline.item[rows]} >= set(outcome.lost)
    assert outcome.timeline.start[rows].min() >= time + detection


def test_a_failure_after_the_end_or_of_an_idle_node_costs_nothing() -> None:
    problem, decisions = cluster(), routes()
    nominal = simulate(problem, decisions).iteration_time
    late = simulate_failures(problem, decisions, [Failure(0, nominal + 1)], evaluations=10)
    assert (late.lost_time, late.restart_lost_time, late.lost) == (0.0, 0.0, ())
    avoided = decisions.routes.copy()
    avoided[avoided == 8] = 7
    idle = simulate_failures(problem, replace(decisions, routes=avoided), [Failure(8, 3.0)], evaluations=10)
    assert (idle.lost_time, idle.lost, idle.rerouted) == (0.0, (), ())


def test_losing_the_source_moves_its_microbatches_to_another_node_of_stage_0() -> None:
    problem, decisions = cluster(), routes()
    outcome = simulate_failures(problem, decisions, [Failure(1, 6.0)], evaluations=60)
    table = outcome.timeline
    first = (table.columns["work"] == FORWARD) & (table.columns["visit"] == 0) & (table.kind != WASTED)
    assert set(table.resource[first & (table.columns["attempt"] > 0)].tolist()) <= {0, 2}
    assert first.sum() == 12
    # twelve microbatches, of which the dead source has kept at most what returned: two sources of four must take more
    assert outcome.widening.source >= 1


def test_the_last_node_of_a_stage_takes_its_weights_along() -> None:
    problem, decisions = cluster(), routes()
    with pytest.raises(ProvenInfeasible, match=r"all nodes of stage 2 have died, and the weights"):
        simulate_failures(problem, decisions, [Failure(5, 3.0), Failure(6, 5.0)], evaluations=10)


def test_several_failures_one_after_another() -> None:
    problem, decisions = cluster(), routes()
    failures = [Failure(4, 9.0), Failure(1, 5.0), Failure(8, 9.3), Failure(4, 20.0)]
    outcome = simulate_failures(problem, decisions, failures, evaluations=60)
    assert [(f.node, f.second) for f in outcome.failures] == [(1, 5.0), (4, 9.0), (8, 9.3)]
    assert outcome.completed and check(problem, decisions, outcome) == []


def test_a_restart_throws_away_what_was_done() -> None:
    problem, decisions = cluster(), routes()
    outcome = simulate_failures(problem, decisions, [Failure(4, 8.0)], policy="restart", evaluations=60)
    assert outcome.iteration_time == outcome.restart_time
    table = outcome.timeline
    useful = table.kind != WASTED
    assert table.start[useful].min() >= 9.0
    assert table.end[~useful].max() <= 9.0
    assert check(problem, decisions, outcome, restarts=[9.0]) == []


def test_resuming_saves_the_forward_passes_that_are_still_held() -> None:
    problem, decisions = cluster(), routes()
    kept = []
    for node in range(3, 9):
        outcome = simulate_failures(
            problem,
            decisions,
            [Failure(node, 6.0)],
            policy=Reroute(evaluations=100),
            compare_restart=False,
        )
        table = outcome.timeline
        for b in outcome.lost:
            mine = (table.item == int(b[2:])) & (table.kind != WASTED)
            kept.append(len(set(table.columns["attempt"][mine].tolist())))
    assert max(kept) == 2  # useful work of both attempts: the second went on where the first had stopped


def test_gradients_that_died_are_done_again_on_demand() -> None:
    problem, decisions = cluster(), routes()
    nominal = simulate(problem, decisions).iteration_time
    failure = [Failure(3, 0.7 * nominal)]
    usual = simulate_failures(problem, decisions, failure, evaluations=40, compare_restart=False)
    assert usual.incomplete_gradients
    exact = simulate_failures(problem, decisions, failure, evaluations=40, compare_restart=False, redo_gradients=True)
    assert exact.incomplete_gradients == ()
    assert set(exact.lost) >= set(usual.incomplete_gradients)
    assert check(problem, decisions, exact) == []


def test_averaging_goes_on_without_the_dead() -> None:
    rng = np.random.default_rng(1)
    latency, seconds = rng.uniform(0.01, 0.1, (9, 9)), rng.uniform(1, 2, (9, 9))
    problem, decisions = cluster(sync_latency=latency, sync_seconds=seconds), routes()
    calm = simulate(problem, decisions)
    last = calm.stage_sync[0]
    # the death of a node in the middle of the averaging: the two others of stage 0 begin again when they have noticed
    outcome = simulate_failures(problem, decisions, [Failure(0, float(last.mean()))], evaluations=10)
    pair = 2 * max(latency[1, 2] + seconds[1, 2] / 2, latency[2, 1] + seconds[2, 1] / 2)
    expected = max(calm.iteration_time, last.mean() + 1.0 + pair)
    others = calm.stage_sync[1:, 1].max()
    assert outcome.iteration_time == pytest.approx(max(last.mean() + 1.0 + pair, others))
    assert expected >= outcome.iteration_time
    table = outcome.timeline
    assert 0 not in table.resource[table.kind == FAULT_KINDS.index("sync")]


def test_noise_is_repeatable_and_the_policy_cannot_foresee_it() -> None:
    problem, decisions = cluster(), routes()
    noisy = Disturbances(noise=0.2, node_windows=[(3, 0.0, 50.0, 1.5)])
    runs = [
        simulate_failures(
            problem, decisions, [Failure(4, 6.0)], disturbances=noisy, seed=5, evaluations=30, compare_restart=False
        )
        for _ in range(2)
    ]
    assert runs[0].iteration_time == runs[1].iteration_time
    assert spans(runs[0].timeline) == spans(runs[1].timeline)
    assert runs[0].nominal == simulate(problem, decisions, disturbances=noisy, seed=5).iteration_time


def test_the_prediction_of_a_quiet_run_is_what_comes_true() -> None:
    problem, decisions = cluster(), routes()
    foreseen: list[float] = []

    class Watched:
        name = "watched"

        def decide(self, view: ClusterView) -> Recovery:
            recovery = Reroute(evaluations=30).decide(view)
            foreseen.append(view.expect(recovery).seconds)
            return recovery

    outcome = simulate_failures(problem, decisions, [Failure(4, 6.0)], policy=Watched(), compare_restart=False)
    assert foreseen == [outcome.iteration_time]


@pytest.mark.parametrize(("order", "noise"), [("first come", 0.0), ("priority", 0.2)])
def test_changing_a_recovery_step_by_step_gives_what_judging_it_afresh_gives(order: str, noise: float) -> None:
    problem, decisions = cluster(), routes()
    if order == "priority":
        decisions = replace(decisions, priority=simulate(problem, decisions).start)

    class Careful:
        name = "careful"

        def decide(self, view: ClusterView) -> Recovery:
            moved = [m for m in view.microbatches if m.status in ("lost", "waiting")]
            assert {m.status for m in moved} == {"lost", "waiting"} and any(m.resume for m in moved)
            draft = RouteDraft.of(
                problem,
                PLACEMENT,
                view.live,
                [(m.index, m.route, m.stages, m.resume, m.after if m.status == "waiting" else -1) for m in moved],
                [m.route for m in view.microbatches if m not in moved],
            )
            rng = np.random.default_rng(0)
            changes = 0
            for _ in range(300):
                undo = draft.propose(rng)
                recovery = Recovery(tuple(draft.reissues))
                stepwise, afresh = view.expect(recovery), copy(view.expect)
                afresh._ready = None  # type: ignore[attr-defined]
                again = afresh(recovery)
                assert stepwise.seconds == again.seconds
                np.testing.assert_array_equal(stepwise.returned, again.returned)
                changes += undo is not None
                if undo is not None and rng.random() < 0.3:
                    undo()
            assert changes > 100
            return recovery

    simulate_failures(
        problem,
        decisions,
        [Failure(4, 6.0)],
        policy=Careful(),
        disturbances=Disturbances(noise=noise),
        compare_restart=False,
    )


def test_a_policy_that_forgets_somebody_is_told_so() -> None:
    class Idle:
        name = "idle"

        def decide(self, view: ClusterView) -> Recovery:
            return Recovery()

    with pytest.raises(ValueError, match="leaves microbatches without a new attempt"):
        simulate_failures(cluster(), routes(), [Failure(4, 6.0)], policy=Idle(), compare_restart=False)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    order=st.sampled_from(["first come", "priority", "strict"]),
    split=st.booleans(),
    redo=st.booleans(),
    detection=st.sampled_from([0.0, 0.5, 3.0]),
    policy=st.sampled_from(["reroute", "restart"]),
    n_failures=st.integers(1, 3),
)
def test_any_failures_under_any_order_of_work_pass_the_check(
    seed: int, order: str, split: bool, redo: bool, detection: float, policy: str, n_failures: int
) -> None:
    rng = np.random.default_rng(seed)
    problem, decisions = cluster(seed), routes(seed, split_backward=split)
    calm = simulate(problem, decisions)
    if order != "first come":
        decisions = replace(decisions, priority=calm.start[:, :7], strict=order == "strict" and not split)
    victims = [0, 3, 5, 7]  # one of each stage
    failures = [
        Failure(int(n), float(rng.uniform(0, calm.iteration_time)))
        for n in rng.choice(victims, n_failures, replace=False)
    ]
    outcome = simulate_failures(
        problem,
        decisions,
        failures,
        policy=policy,
        detection=detection,
        redo_gradients=redo,
        evaluations=10,
        compare_restart=False,
    )  # raises InfeasiblePlan where the check finds something
    assert outcome.completed
    assert redo <= (outcome.incomplete_gradients == ())


def test_the_check_sees_what_is_wrong() -> None:
    problem, decisions = cluster(), routes()
    outcome = simulate_failures(problem, decisions, [Failure(4, 6.0)], evaluations=30, compare_restart=False)
    table = outcome.timeline
    useful = np.flatnonzero(table.kind != WASTED)

    def changed(**columns: np.ndarray) -> list[str]:
        extra = dict(table.columns) | {n: columns.pop(n) for n in list(columns) if n in table.columns}
        worse = replace(table, **columns, columns=extra)  # type: ignore[arg-type]
        return [v.split(":")[0] for v in check(problem, decisions, replace(outcome, timeline=worse))]

    kinds = table.kind.copy()
    kinds[useful[3]] = WASTED
    assert "completeness" in changed(kind=kinds)
    moved = table.resource.copy()
    moved[useful[5]] = (moved[useful[5]] + 3) % 9
    assert "route" in changed(resource=moved)
    end = table.end.copy()
    end[useful[7]] += 0.5
    assert "duration" in changed(end=end)
    start = table.start - 5.0 * (table.columns["attempt"] > 0)
    assert "causality" in changed(start=start)
    held = check(replace(problem, memory=np.full(9, 1)), decisions, outcome)
    assert any(v.startswith("memory") for v in held)
    early = [(4, 2.0)]
    found = check_recovery(problem, decisions, table, early, detection=1.0)
    assert any(v.rule == "death" for v in found)
    together = table.start.copy(), table.end.copy()
    rows = np.flatnonzero(table.resource == 0)[:2]
    together[0][rows[1]], together[1][rows[1]] = together[0][rows[0]], together[1][rows[0]]
    assert "collision" in changed(start=together[0], end=together[1])


def test_an_outcome_that_the_check_rejects_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathloom.worlds.train import attempts

    original = attempts.Replay.leaves
    # a simulator that forgets the message to the first new node
    monkeypatch.setattr(attempts.Replay, "leaves", lambda self, *a: min(original(self, *a), a[-1]))
    far = cluster(link=np.full((9, 9), 4.0) - 4.0 * np.eye(9))
    with pytest.raises(InfeasiblePlan, match="causality"):
        for node in range(3, 9):
            simulate_failures(far, routes(), [Failure(node, 12.0)], evaluations=60, compare_restart=False)


def test_stage_orders_are_those_that_the_budget_allows() -> None:
    rng = np.random.default_rng(0)
    assert stage_orders(4, 3, Reordering(0, 0, 0, 4), rng) == [(0, 1, 2), (0, 1, 3), (0, 2, 3)]
    swapped = stage_orders(4, 3, Reordering(1, 1, 1, 4), rng)
    assert set(swapped) == {(0, 1, 2), (0, 1, 3), (0, 2, 3), (0, 2, 1), (0, 3, 2)}
    assert all(b - a <= 1 for order in stage_orders(6, 4, Reordering(1, 2, 2, 1), rng) for a, b in [order[:2]])
    sampled = stage_orders(16, 11, Reordering(), rng)
    assert len(sampled) >= 250 and all(len(set(order)) == 11 and order[0] == 0 for order in sampled)


def test_widenings_add_up_to_the_larger() -> None:
    assert Widening(1, 0) | Widening(0, 2) == Widening(1, 2)
