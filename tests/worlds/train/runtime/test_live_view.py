"""A running iteration, told by reports alone, looks to a recovery policy as the simulated one does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_plans import pair, varied_case

from pathloom.plan import NoPlanFound
from pathloom.worlds.train.attempts import Attempts, Conditions, Reissue, Replay, replay
from pathloom.worlds.train.fault_story import FAULT_KINDS, WASTED, Failure, Story
from pathloom.worlds.train.problem import SYNC, TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import ClusterView, Recovery, RecoveryPolicy, Reroute, Restart
from pathloom.worlds.train.repair import RouteDraft
from pathloom.worlds.train.runtime.applied_recovery import AppliedRecovery
from pathloom.worlds.train.runtime.gradient_ledger import LOSS_GRADIENT
from pathloom.worlds.train.runtime.live_outlook import LiveOutlook, planned_order
from pathloom.worlds.train.runtime.live_view import LiveIteration
from pathloom.worlds.train.runtime.measured_speeds import with_measured_speeds
from pathloom.worlds.train.simulator import Disturbances, simulate


def some_case(seed: int, **features: object) -> tuple[TrainProblem, TrainDecisions]:
    """A drawn case with a node to spare in some stages, and the order of work of a run."""
    given = {"nodes": 9, "stages": 4, "route_length": 3, "microbatches": 7, **features}
    problem, decisions = varied_case(seed, **given)
    return problem, planned_order(problem, decisions)


def expendable(problem: TrainProblem, decisions: TrainDecisions, rng: np.random.Generator, count: int) -> list[int]:
    """Nodes that may all die without a stage losing its last."""
    left = np.array(problem.stage_sizes)
    chosen: list[int] = []
    for node in rng.permutation(problem.n_nodes).tolist():
        if left[decisions.placement[node]] > 1 and len(chosen) < count:
            left[decisions.placement[node]] -= 1
            chosen.append(node)
    return chosen


def tell(live: LiveIteration, run: Replay, until: float, rng: np.random.Generator | None = None) -> None:
    """Report what a simulated run has done by then; with `rng`, in any order, not all, and with times 20 % off."""
    reports = []
    for row, task in np.argwhere(run.start <= until):
        start, end = float(run.start[row, task]), float(run.end[row, task])
        fail_at = run.fail_at[run.laid.node[row, task]]
        ended = end <= until
        if rng is not None and fail_at - start < 1.0 and np.isfinite(until) and rng.random() < 0.4:
            continue  # the last words of the dead are not heard
        if rng is not None:
            length = float(run.laid.duration[row, task])
            start = max(0.0, start + length * rng.uniform(-0.2, 0.2))
            end = max(start, end + length * rng.uniform(-0.2, 0.2))
        reports.append((live.base + int(row), int(task), start, end if ended else np.nan))
        if ended and task < run.laid.chain - 1:
            arrival = run.end[row, task] + run.message(int(row), int(task))
            if arrival <= min(until, fail_at):
                live.delivered(live.base + int(row), int(task))
    for at in np.arange(len(reports)) if rng is None else rng.permutation(len(reports)):
        live.report(*reports[at])


def keeps_memory(live: LiveIteration, applied: AppliedRecovery) -> bool:
    """Whether all that is left, one task after another in the new order of work, fits into the nodes' memory."""
    times, attempts = live._times, live.attempts
    laid, begun, ended = times.laid, np.isfinite(times.start), np.isfinite(times.end)
    held = np.zeros(live.problem.n_nodes, dtype=np.int64)
    left: list[tuple[float, int, int]] = []
    for number, keys in applied.keys.items():
        row = number - live.base
        first = int(attempts.first[row])
        np.add.at(held, laid.node[row, :first], 1)  # handed over
        done = begun[row] & ((laid.slot == 1) | ended[row])
        np.add.at(held, laid.node[row, done], laid.slot[done])
        left += [(float(keys[t]), row, t) for t in range(first, len(keys)) if not done[t]]
    order: dict[int, list[int]] = {}
    for _, row, t in sorted(left):
        order.setdefault(row, []).append(t)
        held[laid.node[row, t]] += laid.slot[t]
        if (held > laid.slots)[live.live].any():
            return False
    chains = [[t for t in tasks if t < laid.chain] for tasks in order.values()]
    return all(tasks == sorted(tasks) for tasks in chains)


class Witness:
    """A policy that asks another one, while a `LiveIteration` is told the same story and must show the same view."""

    name = "witness"

    def __init__(self, story: Story, live: LiveIteration, policy: RecoveryPolicy) -> None:
        self.story, self.live, self.policy = story, live, policy
        self.applied: list[AppliedRecovery] = []
        self.statuses: set[str] = set()
        self.resumed = 0

    def decide(self, view: ClusterView) -> Recovery:
        story, live = self.story, self.live
        for failure in story.failures:
            if failure.second + story.detection <= view.time:
                live.node_lost(failure.node, failure.second)
        tell(live, story.now, view.time)
        mine = live.view(view.time)
        self.statuses |= {m.status for m in view.microbatches}
        assert mine.microbatches == view.microbatches
        np.testing.assert_array_equal(mine.visits, view.visits)
        np.testing.assert_array_equal(mine.live, view.live)
        np.testing.assert_array_equal(mine.plan_after, view.plan_after)
        assert mine.lost == view.lost and mine.stranded == view.stranded
        recovery = self.policy.decide(view)
        self._compare(view, mine, recovery)
        if not recovery.restart and recovery.reissues:
            moved = [view.microbatches[r.microbatch] for r in recovery.reissues]
            moving = [(m.index, m.route, m.stages, m.resume, m.after if m.status == "waiting" else -1) for m in moved]
            rest = [m.route for m in view.microbatches if m not in moved]
            draft = RouteDraft.of(view.problem, view.placement, view.live, moving, rest, chunks=view.chunks)
            rng = np.random.default_rng(0)
            for _ in range(8):
                self._compare(view, mine, Recovery(tuple(draft.reissues)))
                draft.propose(rng)
        self.resumed += sum(r.first > 0 for r in recovery.reissues)
        applied = live.apply(recovery, view.time)
        assert applied.stuck or keeps_memory(live, applied)
        self.applied.append(applied)
        return recovery

    @staticmethod
    def _compare(view: ClusterView, mine: ClusterView, recovery: Recovery) -> None:
        found = mine.expect(recovery)
        if not recovery.reissues:  # the simulator's outlook wants a decision
            assert np.isfinite(found.seconds)
            return
        expected = view.expect(recovery)
        if np.isfinite(expected.seconds):
            np.testing.assert_allclose(found.seconds, expected.seconds, rtol=1e-9)
            np.testing.assert_allclose(found.returned, expected.returned, rtol=1e-9)


def lived(
    problem: TrainProblem,
    decisions: TrainDecisions,
    failures: list[Failure],
    policy: RecoveryPolicy,
    *,
    detection: float = 0.4,
    redo: bool = False,
) -> tuple[Story, LiveIteration, Witness]:
    """A story and a live iteration that was told the same, to the end."""
    story = Story(Conditions(problem, decisions), failures, detection, redo)
    live = LiveIteration(problem, decisions, redo_gradients=redo)
    witness = Witness(story, live, policy)
    story.run(witness)
    for failure in story.failures:
        if np.isfinite(story.now.fail_at[failure.node]):
            live.node_lost(failure.node, failure.second)
    tell(live, story.now, np.inf)
    return story, live, witness


@pytest.mark.parametrize("policy", [Reroute(evaluations=15), Restart(evaluations=15)])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), deaths=st.integers(1, 3), redo=st.booleans())
def test_exact_reports_show_what_the_simulator_shows(
    policy: RecoveryPolicy, seed: int, deaths: int, redo: bool
) -> None:
    rng = np.random.default_rng(seed)
    problem, decisions = some_case(seed)
    span = simulate(problem, decisions).iteration_time
    victims = expendable(problem, decisions, rng, deaths)
    assume(victims)
    # where a gradient that died is done again the ledger knows more than the simulator from the second death on
    failures = [Failure(n, float(rng.uniform(0, span))) for n in (victims[:1] if redo else victims)]
    try:
        story, live, _ = lived(problem, decisions, failures, policy, redo=redo)
    except NoPlanFound:
        assume(False)
    assert live.done == bool(story.now.completed.all())
    np.testing.assert_array_equal(live.attempts.routes, story.attempts.routes)
    np.testing.assert_array_equal(live.attempts.first, story.attempts.first)
    np.testing.assert_allclose(live.attempts.release, story.attempts.release, rtol=1e-12)
    table = story.timeline()
    assert live.timeline() == replace(table.rows(table.kind != SYNC), items=table.items[: len(decisions.routes)])
    if not redo and len(failures) == 1:
        assert sorted({b for b, _ in live.incomplete()}) == story.incomplete_gradients()
    assert not live.doubled()


def test_the_comparison_above_has_seen_every_state() -> None:
    seen: set[str] = set()
    resumed = 0
    for seed in range(8):
        problem, decisions = some_case(seed, microbatches=8)
        rng = np.random.default_rng(seed)
        failures = [
            Failure(n, float(rng.uniform(0.2, 0.8)) * simulate(problem, decisions).iteration_time)
            for n in expendable(problem, decisions, rng, 2)
        ]
        try:
            witness = lived(problem, decisions, failures, Reroute(evaluations=15))[2]
        except NoPlanFound:
            continue
        seen |= witness.statuses
        resumed += witness.resumed
    assert seen == {"returned", "in flight", "waiting", "lost"}
    assert resumed > 0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    deaths=st.integers(1, 3),
    redo=st.booleans(),
    restart=st.booleans(),
    noise=st.sampled_from([0.0, 0.3]),
)
def test_inexact_and_late_reports_lead_to_decisions_that_bring_every_microbatch_back(
    seed: int, deaths: int, redo: bool, restart: bool, noise: float
) -> None:
    """Times are 20 % off, the run itself is not as planned, a dead node's last words are missing."""
    rng = np.random.default_rng(seed)
    problem, decisions = some_case(seed, missing=0.0)
    reality = Conditions(problem, decisions, Disturbances(noise=noise), seed)
    live = LiveIteration(problem, decisions, redo_gradients=redo)
    policy: RecoveryPolicy = Restart(evaluations=10) if restart else Reroute(evaluations=10)
    attempts = live.attempts
    span = simulate(problem, decisions).iteration_time
    deaths_at: dict[int, float] = {}
    for node in expendable(problem, decisions, rng, deaths):
        second = max([0.0, *deaths_at.values()]) + 0.5 + float(rng.uniform(0, 0.5 * span))
        deaths_at[node] = second
        now = second + 0.4
        run = replay(reality, attempts, deaths_at)
        tell(live, run, now, rng)
        if rng.random() < 0.5:  # the coordinator knows about when, not when
            second -= 0.3
        live.node_lost(node, second)
        view = live.view(now)
        recovery = policy.decide(view)
        expected = view.expect(recovery)
        assert np.isfinite(expected.seconds) and np.isfinite(expected.returned).all()
        assert expected.seconds >= now or not recovery.reissues
        applied = live.apply(recovery, now)
        assert {a.microbatch for a in applied.attempts} >= {m.index for m in (*view.lost, *view.stranded)}
        assert all(live.live[list(a.route)].all() for a in applied.attempts)
        assert applied.restart == (restart and bool(recovery.reissues))
        assert not (applied.restart and applied.counted)
        dead = ~live.live
        assert not any(dead[n] for n in applied.counted.values())
        assert all(np.isfinite(key).all() for key in applied.keys.values())
        attempts = live.attempts
    run = replay(reality, attempts, deaths_at)
    stuck = np.isnan(run.returned).any()
    tell(live, run, np.inf)
    assert live.done or stuck or redo
    assert not live.doubled()
    table = live.timeline()
    assert not len(table.rows(table.kind != WASTED).overlaps(1.0))
    if live.done:
        shares = np.bincount(table.item[table.kind != WASTED], minlength=len(decisions.routes))
        assert (shares == live.attempts.routes.shape[1] * (3 if decisions.split_backward else 2) + 1).all()


def test_a_task_that_has_begun_shows_that_the_one_before_has_ended() -> None:
    problem, decisions = pair(1)
    live = LiveIteration(problem, decisions)
    live.report(0, 1, 1.25, np.nan)  # the forward pass at b began; a's own reports are on their way
    state = live.view(1.5).microbatches[0]
    assert (state.status, state.forwards) == ("in flight", 2)
    live.report(0, 0, 0.0, 1.0)
    assert live.view(1.5).microbatches[0] == state


def test_a_message_dies_with_its_sender_unless_it_has_come() -> None:
    problem, decisions = pair(
        1,
        nodes=("a", "b", "c"),
        locations=("",) * 3,
        stage_sizes=np.array([1, 2]),
        forward=np.ones((3, 2)),
        backward=np.ones((3, 2)),
        weight=np.ones((3, 2)),
        loss=np.ones(3),
        link=1 - np.eye(3),
        memory=np.full(3, 2),
        node_cap=np.ones(3),
    )
    decisions = replace(decisions, placement=np.array([0, 1, 1]))
    for arrived, status in ((False, "lost"), (True, "lost")):
        live = LiveIteration(problem, decisions)
        for task, start in enumerate((0.0, 2.0)):
            live.report(0, task, start, start + 1)
        if arrived:
            live.delivered(0, 1)
        live.node_lost(1, 3.0)
        state = live.view(3.5).microbatches[0]
        assert (state.status, state.resume) == (status, 1)  # its backward pass at b is still to come in any case
    for arrived, status in ((False, "lost"), (True, "in flight")):
        live = LiveIteration(problem, decisions)
        for task, start in enumerate((0.0, 2.0, 4.0, 6.0)):
            live.report(0, task, start, start + 1)
        if arrived:
            live.delivered(0, 3)
        live.node_lost(1, 7.5)
        assert live.view(7.75).microbatches[0].status == status
        assert live.incomplete() == [(0, 1)]


def test_a_backward_pass_that_is_done_again_counts_where_nobody_alive_has_counted_it() -> None:
    """Stage 2's node has counted a gradient when stage 1's dies: the new attempt must not count it again, until the
    node that did dies, too."""
    n, s = 6, 3
    problem, _ = pair(1)
    problem = replace(
        problem, nodes=tuple("abcdef"), locations=("",) * n, forward=np.ones((n, s)), backward=np.ones((n, s)),
        weight=np.ones((n, s)), loss=np.ones(n), link=1 - np.eye(n), memory=np.full(n, 2), microbatches=1,
        stage_sizes=np.array([2, 2, 2]), route_length=3, stage_cap=np.ones(s), node_cap=np.ones(n),
    )  # fmt: skip
    decisions = TrainDecisions(np.array([0, 0, 1, 1, 2, 2]), np.array([[0, 2, 4]]), np.array([[0, 1, 2]]))
    live = LiveIteration(problem, decisions)
    for task in range(5):  # up to and with the backward pass of stage 2
        live.report(0, task, 2.0 * task, 2.0 * task + 1)
    live.node_lost(2, 9.5)
    new = Reissue(0, (0, 3, 5), (0, 1, 2))
    applied = live.apply(Recovery((new,)), 10.0)
    assert applied.counted == {(0, 2): 4, (0, LOSS_GRADIENT): 0}
    assert applied.dropped == (0,) and applied.attempts[0].row == 1 and applied.attempts[0].parent == -1
    assert live.counted_at() == [(4, 2)]
    live.node_lost(4, 11.0)  # it held the gradient, and nothing else of the new attempt
    assert live.apply(Recovery(), 11.5).counted == {(0, LOSS_GRADIENT): 0}
    for task in range(7):
        live.report(1, task, 12.0 + 2 * task, 13.0 + 2 * task)
    assert live.done and live.incomplete() == [] and live.doubled() == []
    assert sorted(live.counted_at()) == [(0, 0), (3, 1), (5, 2)]
    # had that node died only after its gradient was computed once more in vain, it would be gone
    late = LiveIteration(problem, decisions)
    for task in range(5):
        late.report(0, task, 2.0 * task, 2.0 * task + 1)
    late.node_lost(2, 9.5)
    late.apply(Recovery((new,)), 10.0)
    for task in range(7):
        late.report(1, task, 12.0 + 2 * task, 13.0 + 2 * task)
    late.node_lost(4, 30.0)
    assert late.done and late.incomplete() == [(0, 2)]


def test_an_end_reported_after_the_decision_is_named_as_counted_twice() -> None:
    problem, decisions = pair(
        1,
        nodes=("a", "b", "c"),
        locations=("",) * 3,
        stage_sizes=np.array([2, 1]),
        forward=np.ones((3, 2)),
        backward=np.ones((3, 2)),
        weight=np.ones((3, 2)),
        loss=np.ones(3),
        link=1 - np.eye(3),
        memory=np.full(3, 2),
        node_cap=np.ones(3),
    )
    decisions = replace(decisions, placement=np.array([0, 1, 0]))
    live = LiveIteration(problem, decisions)
    for task in range(3):
        live.report(0, task, 2.0 * task, 2.0 * task + 1)
    live.report(0, 3, 6.0, np.nan)
    live.node_lost(0, 7.0)
    applied = live.apply(Recovery((Reissue(0, (2, 1), (0, 1)),)), 8.0)
    assert applied.counted == {}
    live.report(0, 3, 6.0, 7.0)  # b had counted it before it was told to drop the attempt
    for task in range(5):
        live.report(1, task, 10.0 + 2 * task, 11.0 + 2 * task)
    assert live.done and live.doubled() == [(0, 1)]


def test_rows_go_on_after_a_restart_and_old_words_are_not_taken_for_new_ones() -> None:
    problem, decisions = some_case(3, missing=0.0, split_backward=False, chunks=1)
    live = LiveIteration(problem, decisions)
    run = replay(Conditions(problem, decisions), live.attempts, {})
    rng = np.random.default_rng(0)
    node = next(n for n in expendable(problem, decisions, rng, 5) if (run.laid.node == n).any())
    now = float(np.median(run.start[run.laid.node == node]))
    tell(live, run, now)
    live.node_lost(node, now)
    applied = live.apply(Restart(evaluations=10).decide(live.view(now)), now)
    count = len(decisions.routes)
    assert applied.restart and applied.counted == {} and applied.dropped == tuple(range(count))
    assert sorted(a.row for a in applied.attempts) == list(range(count, 2 * count)) and live.base == count
    live.report(0, 0, 0.0, 0.5)  # a straggler among the reports
    assert all(m.status == "waiting" for m in live.view(now).microbatches)
    assert [live.microbatch_of(a.row) for a in applied.attempts] == [a.microbatch for a in applied.attempts]
    table = live.timeline()
    assert len(table) and set(table.kind.tolist()) == {WASTED} and table.kinds == FAULT_KINDS
    with pytest.raises(ValueError, match="there is no attempt"):
        live.report(2 * count, 0, 0.0, 1.0)
    with pytest.raises(ValueError, match="there is no task"):
        live.report(0, 99, 0.0, 1.0)
    with pytest.raises(ValueError, match="expected seconds"):
        live.report(0, 0, np.nan, 1.0)


def test_decisions_that_cannot_be_carried_out_are_refused() -> None:
    problem, decisions = some_case(5, missing=0.0, chunks=1, split_backward=False, after=False)
    rng = np.random.default_rng(0)
    node = next(n for n in expendable(problem, decisions, rng, 5) if (decisions.routes == n).any())
    live = LiveIteration(problem, decisions)
    live.node_lost(node, 0.5)
    view = live.view(1.0)
    assert view.stranded
    good = Reroute(evaluations=5).decide(view)
    first = good.reissues[0]
    other = next(n for n in range(problem.n_nodes) if live.live[n] and view.placement[n] != 0)
    for wrong, message in (
        (Recovery(), "without a new attempt"),
        (Recovery((*good.reissues, first)), "two new attempts"),
        (Recovery(tuple(r._replace(route=tuple(view.microbatches[r.microbatch].route)) for r in good.reissues)),
         "to a dead node"),
        (Recovery((first._replace(first=1), *good.reissues[1:])), "cannot go on from visit 1"),
        (Recovery((first._replace(route=(other, *first.route[1:])), *good.reissues[1:])), "node of another stage"),
        (Recovery((first._replace(route=first.route[:-1]), *good.reissues[1:])), "of another length"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            live.apply(wrong, 1.0)
    before = len(live.attempts)
    live.apply(good, 1.0)
    assert len(live.attempts) == before + len(good.reissues)


def test_the_outlook_follows_the_speed_that_nodes_links_and_rests_really_have() -> None:
    """A run five times as fast as planned, but for one slow node, is expected to go on like that."""
    problem, decisions = some_case(11, missing=0.0, chunks=1, release=False)
    factors = np.full(problem.n_nodes, 0.2)
    slow = int(decisions.routes[0, 1])
    factors[slow] = 0.6
    real = with_measured_speeds(problem, factors)
    real = replace(real, link=0.2 * real.link, gap=0.2 * real.gap, injection_gap=0.2 * real.injection_gap)
    run = replay(Conditions(real, decisions), Attempts.planned(decisions), {})
    end = float(np.nanmax(run.end))
    live = LiveIteration(problem, decisions)
    tell(live, run, 0.6 * end)
    expected = live.view(0.6 * end).expect(Recovery())
    assert expected.seconds == pytest.approx(simulate(real, decisions).iteration_time)
    forward, backward = live.passes()[slow]
    stage = decisions.placement[slow]
    assert forward == pytest.approx(0.6 * problem.forward[slow, stage])
    assert backward == pytest.approx(0.6 * problem.backward[slow, stage])


def test_a_standstill_is_worth_more_than_any_end_and_less_than_a_missing_link() -> None:
    """Two microbatches that go through two full nodes in opposite order wait for each other; in turn they would not."""
    n, s = 4, 3
    problem, _ = pair(2)
    problem = replace(
        problem, nodes=tuple("abcd"), locations=("",) * n, forward=np.ones((n, s)), backward=np.ones((n, s)),
        weight=np.ones((n, s)), loss=np.ones(n), link=1 - np.eye(n), memory=np.array([2, 2, 1, 1]), microbatches=2,
        stage_sizes=np.array([2, 1, 1]), route_length=3, stage_cap=np.full(s, 2), node_cap=np.full(n, 2),
        source_cap=2,
    )  # fmt: skip
    placement = np.array([0, 0, 1, 2])
    straight = TrainDecisions(placement, np.array([[0, 2, 3], [1, 2, 3]]), np.array([[0, 1, 2], [0, 1, 2]]))
    live = LiveIteration(problem, straight)
    expect = live.view(0.0).expect
    assert isinstance(expect, LiveOutlook)
    crossed = Recovery((Reissue(0, (0, 2, 3), (0, 1, 2)), Reissue(1, (1, 3, 2), (0, 2, 1))))
    along = Recovery((Reissue(0, (0, 2, 3), (0, 1, 2)), Reissue(1, (1, 2, 3), (0, 1, 2))))
    standstill = expect(crossed)
    assert expect.stuck and np.isfinite(standstill.seconds) and np.isfinite(standstill.returned).all()
    assert standstill.seconds > expect(along).seconds and not expect.stuck
    cut = replace(problem, link=np.where(np.arange(n)[:, None] * n + np.arange(n) == 3 * n + 2, np.inf, problem.link))
    assert LiveIteration(cut, straight).view(0.0).expect(crossed).seconds == np.inf
    with pytest.raises(ValueError, match="links that are missing"):
        LiveIteration(cut, straight).apply(crossed, 0.0)
    applied = live.apply(crossed, 0.0)
    assert applied.stuck and set(applied.keys) == {2, 3}


def test_the_averaging_waits_until_the_dead_are_missed() -> None:
    problem, decisions = some_case(2, sync=True, missing=0.0)
    rng = np.random.default_rng(2)
    calm = simulate(problem, decisions)
    node = expendable(problem, decisions, rng, 1)[0]
    at = float(calm.stage_sync[decisions.placement[node]].mean())
    story = Story(Conditions(problem, decisions), [Failure(node, at)], 0.4, False)
    story.run(Reroute(evaluations=5))
    live = LiveIteration(problem, decisions)
    tell(live, story.now, at + 0.4)
    live.node_lost(node, at)
    view = live.view(at + 0.4)
    assert not view.lost and not view.stranded
    assert view.expect(Recovery()).seconds == pytest.approx(story.finished)
