"""The plan as priority: whatever the order in which messages arrive, nodes keep their memory and never lock up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_plans import pair, varied_case
from small_runs import training

from pathloom.worlds.train.problem import FORWARD, LOSS, Floats, TrainDecisions, TrainProblem
from pathloom.worlds.train.rigid_trips import rigid_timeline
from pathloom.worlds.train.runtime.attempt import Attempt
from pathloom.worlds.train.runtime.order_of_work import OrderOfWork, Task, Work
from pathloom.worlds.train.simulator import Simulation, simulate

quick = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
SEEDS = st.integers(0, 10**6)


def attempts_of(decisions: TrainDecisions, starts: Floats) -> list[Attempt]:
    after = np.full(len(decisions.routes), -1) if decisions.after is None else decisions.after
    return [
        Attempt(
            row=b,
            microbatch=b,
            route=tuple(decisions.routes[b].tolist()),
            stages=tuple(decisions.stages[b].tolist()),
            keys=tuple(starts[b].tolist()),
            after=int(after[b]),
        )
        for b in range(len(decisions.routes))
    ]


@dataclass
class Cluster:
    """Nodes that keep an `OrderOfWork` each, and messages that arrive when somebody picks them."""

    problem: TrainProblem
    decisions: TrainDecisions
    attempts: list[Attempt]
    strict: bool = False
    under_way: list[tuple[int, Task]] = field(default_factory=list)
    begun: list[tuple[int, Task]] = field(default_factory=list)

    def __post_init__(self) -> None:
        slots = self.problem.memory * self.decisions.chunks
        self.split = self.decisions.split_backward
        self.nodes = [OrderOfWork(int(s), strict=self.strict) for s in slots]
        for n, node in enumerate(self.nodes):
            for attempt in self.attempts:
                node.add(attempt.tasks_at(n, split=self.split))
        self.under_way = [(a.route[0], (a.row, 0)) for a in self.attempts if a.after < 0]

    def arrive(self, position: int) -> None:
        """One of the messages under way arrives."""
        node, task = self.under_way.pop(position)
        self.nodes[node].ready(task)

    def work(self, n: int) -> bool:
        """Node n does a task, if it may; what follows from it is sent."""
        task = self.nodes[n].next()
        if task is None:
            return False
        assert self.nodes[n].held <= self.nodes[n].slots
        self.begun.append((n, task))
        row, t = task
        attempt = self.attempts[row]
        k, split = attempt.visits, self.split
        if t < k:
            self.under_way.append((attempt.route[t + 1] if t + 1 < k else attempt.route[0], (row, t + 1)))
        elif t == k:
            self.under_way.append((attempt.route[-1], (row, k + 1)))
        elif t <= 2 * k:
            visit = 2 * k - t
            self.nodes[n].ended(0 if split else -1)
            if split:
                self.nodes[n].ready((row, 3 * k - visit))
            if visit:
                self.under_way.append((attempt.route[visit - 1], (row, t + 1)))
            else:
                self.under_way += [(a.route[0], (a.row, 0)) for a in self.attempts if a.after == row]
        else:
            self.nodes[n].ended(-1)
        return True

    def finish(self, choose: Callable[[int], int]) -> None:
        """Let messages arrive and nodes work in the order that `choose` picks, until nothing moves."""
        idle: set[int] = set()
        while self.under_way or len(idle) < len(self.nodes):
            awake = [n for n in range(len(self.nodes)) if n not in idle]
            choice = choose(len(self.under_way) + len(awake))
            if choice < len(self.under_way):
                idle.discard(self.under_way[choice][0])
                self.arrive(choice)
            elif not self.work(awake[choice - len(self.under_way)]):
                idle.add(awake[choice - len(self.under_way)])

    @property
    def left(self) -> int:
        return sum(len(node) for node in self.nodes)


def planned_case(seed: int) -> tuple[TrainProblem, TrainDecisions, list[Attempt], Simulation]:
    problem, decisions = varied_case(seed)
    planned = simulate(problem, decisions)
    assume(np.isfinite(planned.start).all())
    return problem, decisions, attempts_of(decisions, planned.start), planned


def crossing_case(seed: int, *, nodes: int = 5, microbatches: int = 6) -> tuple[TrainProblem, list[Attempt]]:
    """Every microbatch goes through all nodes, each in an order of its own, and only the source holds more than one.

    Two that hold what the other one needs would wait for ever. The plan is a timetable in which nobody waits.
    """
    rng = np.random.default_rng(seed)
    visits = np.array([[0, *(1 + rng.permutation(nodes - 1))] for _ in range(microbatches)])
    decisions = TrainDecisions(np.arange(nodes), visits, visits.copy())
    problem = training((1,) * nodes, microbatches=microbatches, memory=np.array([microbatches] + [1] * (nodes - 1)))
    plan = rigid_timeline(problem, decisions)
    assert plan is not None
    visit = plan.columns["visit"]
    task = np.select([plan.kind == FORWARD, plan.kind == LOSS], [visit, nodes], 2 * nodes - visit)
    starts = np.zeros((microbatches, 2 * nodes + 1))
    starts[plan.item, task] = plan.start
    return problem, attempts_of(decisions, starts)


@quick
@given(seed=SEEDS, order=st.randoms(use_true_random=False))
def test_microbatches_that_cross_each_other_never_wait_for_each_other_for_ever(seed: int, order) -> None:
    problem, attempts = crossing_case(seed)
    decisions = TrainDecisions(
        np.arange(5), np.array([a.route for a in attempts]), np.array([a.stages for a in attempts])
    )
    cluster = Cluster(problem, decisions, attempts)
    cluster.finish(order.randrange)
    assert cluster.left == 0
    assert all(node.peak <= node.slots for node in cluster.nodes)


@quick
@given(seed=SEEDS, order=st.randoms(use_true_random=False))
def test_every_task_gets_done_within_memory_whatever_the_order_of_arrivals(seed: int, order) -> None:
    problem, decisions, attempts, planned = planned_case(seed)
    cluster = Cluster(problem, decisions, attempts)
    cluster.finish(order.randrange)
    assert cluster.left == 0
    assert len(cluster.begun) == planned.start.size
    for node in cluster.nodes:
        assert node.held == 0
        assert node.peak <= node.slots


@quick
@given(seed=SEEDS, slow=st.integers(0, 9))
def test_one_slow_node_or_one_slow_microbatch_locks_nobody_up(seed: int, slow: int) -> None:
    """Everything that concerns it comes last: the arrivals that a straggler leads to."""
    problem, decisions, attempts, _ = planned_case(seed)
    cluster = Cluster(problem, decisions, attempts)

    def others_first(count: int) -> int:
        for position, (node, task) in enumerate(cluster.under_way):
            if node != slow % problem.n_nodes and task[0] != slow % len(attempts):
                return position
        return count - 1

    cluster.finish(others_first)
    assert cluster.left == 0


@quick
@given(seed=SEEDS)
def test_with_arrivals_as_planned_the_order_is_the_plans(seed: int) -> None:
    problem, decisions, attempts, planned = planned_case(seed)
    cluster = Cluster(problem, decisions, attempts)
    laid = planned.chains
    due = np.zeros(planned.start.shape)  # of the message before each task
    due[:, 1 : laid.chain] = (planned.end + laid.hop)[:, : laid.chain - 1]
    by_start = np.argsort(planned.start, axis=None, kind="stable")
    for row, task in np.array(np.unravel_index(by_start, planned.start.shape)).T.tolist():
        node, now = int(laid.node[row, task]), planned.start[row, task]
        for position in reversed(range(len(cluster.under_way))):
            if due[cluster.under_way[position][1]] <= now + 1e-9:
                cluster.arrive(position)
        before = len(cluster.begun)
        assert cluster.work(node)
        assert cluster.begun[before] == (node, (row, task))


@quick
@given(seed=SEEDS, order=st.randoms(use_true_random=False))
def test_a_strict_order_is_kept_whatever_arrives_first(seed: int, order) -> None:
    problem, decisions, attempts, planned = planned_case(seed)
    cluster = Cluster(problem, decisions, attempts, strict=True)
    cluster.finish(order.randrange)
    assert cluster.left == 0
    for n in range(problem.n_nodes):
        starts = [planned.start[task] for node, task in cluster.begun if node == n]
        assert starts == sorted(starts)


def one_node(slots: int, works: dict[Task, Work], *ready: Task, strict: bool = False) -> OrderOfWork:
    node = OrderOfWork(slots, strict=strict)
    node.add(works)
    for task in ready:
        node.ready(task)
    return node


def test_what_could_begin_overtakes_what_has_not_arrived() -> None:
    works = {(0, 0): Work(0.0, 1), (1, 0): Work(1.0, 1), (0, 2): Work(2.0, -1), (1, 2): Work(3.0, -1)}
    assert one_node(2, works, (1, 0)).next() == (1, 0)
    assert one_node(2, works, (1, 0), strict=True).next() is None


def test_a_forward_pass_does_not_take_the_slot_that_an_earlier_one_needs() -> None:
    works = {(0, 0): Work(0.0, 1), (0, 2): Work(1.0, -1), (1, 0): Work(2.0, 1), (1, 2): Work(3.0, -1)}
    node = one_node(1, works, (1, 0))
    assert node.next() is None
    node.ready((0, 0))
    assert node.next() == (0, 0)
    assert node.next() is None
    node.ready((0, 2))
    assert node.next() == (0, 2)
    node.ended(-1)
    assert node.next() == (1, 0)


def test_weight_gradients_are_done_when_nothing_else_can_be() -> None:
    works = {(0, 5): Work(1.0, -1, last_resort=True), (1, 3): Work(2.0, 0)}
    node = one_node(2, works, (0, 5), (1, 3))
    assert [node.next(), node.next(), node.next()] == [(1, 3), (0, 5), None]


def test_a_dropped_attempt_is_forgotten_and_gives_its_slots_back() -> None:
    works = {(0, 0): Work(0.0, 1), (0, 2): Work(1.0, -1), (1, 0): Work(2.0, 1), (1, 2): Work(3.0, -1)}
    node = one_node(1, works, (0, 0), (1, 0))
    assert node.next() == (0, 0)
    node.drop(0, held=1)
    assert node.next() == (1, 0)
    node.ready((0, 2))
    assert node.next() is None
    assert len(node) == 1


def test_new_starts_change_whose_turn_it_is() -> None:
    works = {(0, 0): Work(0.0, 1), (1, 0): Work(1.0, 1)}
    node = one_node(2, works, (0, 0), (1, 0))
    node.reorder({0: [5.0]})
    assert node.next() == (1, 0)
    assert node.next() == (0, 0)


def test_slots_that_are_taken_over_count() -> None:
    node = one_node(1, {(2, 0): Work(0.0, 1), (1, 2): Work(1.0, -1)}, (2, 0))
    node.take_over(1)
    assert node.next() is None
    node.ready((1, 2))
    assert node.next() == (1, 2)
    node.ended(-1)
    assert node.next() == (2, 0)


def test_a_memory_of_one_activation_makes_two_nodes_take_turns() -> None:
    problem, decisions = pair(microbatches=3, memory=np.array([1, 1]))
    cluster = Cluster(problem, decisions, attempts_of(decisions, simulate(problem, decisions).start))
    cluster.finish(lambda count: count - 1)
    assert [task for _, task in cluster.begun] == [(b, t) for b in range(3) for t in range(5)]
