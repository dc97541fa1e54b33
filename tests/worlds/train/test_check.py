"""What the checker of training plans accepts and what it rejects."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_check import broken_rules
from small_plans import pair, rigid_plan, serial_plan, varied_case

import pathloom.worlds.train.check as check_module
from pathloom.plan import InfeasiblePlan, Objective, Plan, Violation, verified
from pathloom.timeline import Timeline
from pathloom.worlds.train.check import RULES, check
from pathloom.worlds.train.mutate import MUTATIONS, Mutation, mutate, mutated_case
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, SYNC, WEIGHT, Reordering, TrainProblem

SEEDS = st.integers(0, 2**32 - 1)


def rules(problem: TrainProblem, plan: Plan) -> set[str]:
    return {violation.rule for violation in check(problem, plan)}


def row_of(plan: Plan, item: str, kind: int, visit: int) -> int:
    table = plan.timeline
    hit = (table.item == table.items.index(item)) & (table.kind == kind) & (table.columns["visit"] == visit)
    return int(np.flatnonzero(hit)[0])


def moved(plan: Plan, row: int, seconds: float) -> Plan:
    """The plan with one span at another time and an objective that says so."""
    start, end = plan.timeline.start.copy(), plan.timeline.end.copy()
    start[row] += seconds
    end[row] += seconds
    table = replace(plan.timeline, start=start, end=end)
    return replace(plan, timeline=table, objective=replace(plan.objective, value=table.makespan))


# --- valid plans ---------------------------------------------------------------------------------------------------


@given(SEEDS)
@settings(max_examples=120, deadline=None)
def test_plain_plans_of_any_problem_keep_every_rule(seed: int) -> None:
    problem, decisions = varied_case(seed)
    assert check(problem, serial_plan(problem, decisions)) == []
    assert check(problem, rigid_plan(problem, decisions)) == []


def test_order_of_the_rows_means_nothing() -> None:
    problem, decisions = varied_case(3, sync=True)
    plan = rigid_plan(problem, decisions)
    shuffled = plan.timeline.rows(np.random.default_rng(0).permutation(len(plan.timeline)))
    assert check(problem, replace(plan, timeline=shuffled)) == []
    assert check(problem, replace(plan, timeline=Timeline.from_dict(shuffled.to_dict()))) == []


def test_two_microbatches_in_one_slot_take_turns() -> None:
    problem, decisions = pair(memory=np.array([1, 1]))
    plan = rigid_plan(problem, decisions)
    # 1 forward, 0.25 to b, 1 forward, 0.25 back, 0.5 loss, 0.25 to b, 2 backward, 0.25 to a, 2 backward; rest 0.125
    assert plan.objective.value == pytest.approx(2 * 7.5 + 0.125)
    assert check(problem, plan) == []
    assert slots_of(problem, plan) == 1


def slots_of(problem: TrainProblem, plan: Plan) -> int:
    """Fewest slots at all nodes with which the checker accepts the plan."""
    slots = 1
    while "memory" in rules(replace(problem, memory=np.full(problem.n_nodes, slots)), plan):
        slots += 1
    return slots


def test_a_plan_may_be_idle() -> None:
    problem, decisions = varied_case(11, sync=True)
    table = rigid_plan(problem, decisions).timeline
    late = replace(table, start=table.start + 5.0, end=table.end + 5.0)
    plan = Plan(problem, decisions, late, Objective("iteration time", late.makespan, "s"), "idle")
    assert check(problem, plan) == []


def test_times_are_compared_with_a_millionth_of_the_iteration() -> None:
    problem, decisions = pair(microbatches=1)
    plan = rigid_plan(problem, decisions)
    loss = row_of(plan, "mb0", LOSS, -1)
    assert check(problem, moved(plan, loss, -0.5e-6 * plan.timeline.makespan)) == []
    assert rules(problem, moved(plan, loss, -2e-6 * plan.timeline.makespan)) == {"link"}


# --- mutated plans -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A mutated plan and what the checker says of it and of the plan before."""

    problem: TrainProblem
    mutation: Mutation
    before: list[Violation]
    found: list[Violation]

    @property
    def rules(self) -> set[str]:
        return {violation.rule for violation in self.found}


@pytest.fixture(scope="module")
def judged() -> list[Judged]:
    """52 plans a rule, each broken in that rule."""
    found = []
    for number, rule in enumerate(MUTATIONS):
        for seed in range(52):
            problem, plan, mutation = mutated_case(rule, np.random.default_rng([number, seed]))
            found.append(Judged(problem, mutation, check(problem, plan), check(problem, mutation.plan)))
    return found


def test_there_is_a_mutation_of_every_rule(judged: list[Judged]) -> None:
    count = Counter(one.mutation.rule for one in judged)
    assert set(count) == set(RULES) == set(MUTATIONS)
    assert min(count.values()) >= 50
    assert sum(count.values()) >= 1000
    assert [one.before for one in judged if one.before] == []


def test_every_mutated_plan_is_rejected_and_the_broken_rule_named(judged: list[Judged]) -> None:
    assert [(one.mutation, one.rules) for one in judged if one.mutation.rule not in one.rules] == []


def test_a_rule_that_is_broken_alone_is_named_alone(judged: list[Judged]) -> None:
    alone = [one for one in judged if one.mutation.alone]
    assert [(one.mutation, one.rules) for one in alone if one.rules != {one.mutation.rule}] == []
    count = Counter(one.mutation.rule for one in alone)
    assert min(count[rule] for rule in RULES) >= 20


def test_violations_name_whom_they_concern(judged: list[Judged]) -> None:
    for one in judged:
        for violation in one.found:
            if violation.rule not in ("malformed", "objective"):
                assert violation.items or violation.resources, (one.mutation.what, violation)
                assert set(violation.items) <= {*one.mutation.plan.timeline.items}
                assert set(violation.resources) <= {*one.problem.nodes}


def test_a_mutated_plan_never_becomes_a_result() -> None:
    problem, decisions = pair()
    plan = rigid_plan(problem, decisions)
    assert verified(plan, check) is plan
    mutation = mutate(problem, plan, "TC2", np.random.default_rng(1))
    assert mutation is not None
    with pytest.raises(InfeasiblePlan, match="TC2: "):
        verified(mutation.plan, check)


# --- the slow twin -------------------------------------------------------------------------------------------------


def disturbed(problem: TrainProblem, plan: Plan, rng: np.random.Generator) -> Plan:
    """A plan spoilt in several ways at once."""
    table, d = plan.timeline, plan.decisions
    n = len(table)
    columns = {name: column.copy() for name, column in table.columns.items()}
    node, item, kind = table.resource.copy(), table.item.copy(), table.kind.copy()
    hit = rng.random(n) < rng.choice([0.0, 0.05, 0.5])
    shift = np.where(hit, rng.normal(0.0, 0.5, n), 0.0)
    stretch = np.where(rng.random(n) < rng.choice([0.0, 0.05]), rng.uniform(0.0, 0.5, n), 0.0)
    for column, high in ((node, problem.n_nodes), (item, len(table.items)), (kind, 5), (columns["visit"], 3)):
        hit = rng.random(n) < rng.choice([0.0, 0.0, 0.05])
        column[hit] = rng.integers(0, high, int(hit.sum()))
    rows = rng.integers(0, n, n) if rng.random() < 0.1 else np.arange(n)
    spoilt = Timeline(
        *(node, item, kind, table.start + shift, table.end + shift + stretch),
        *(table.resources, table.items, table.kinds),
        columns=columns,
    ).rows(rows)
    changes: dict[str, Any] = {}
    for name, high in (("routes", problem.n_nodes), ("stages", problem.n_stages * d.chunks), ("placement", 2)):
        array = getattr(d, name).copy()
        hit = rng.random(array.shape) < rng.choice([0.0, 0.0, 0.1])
        array[hit] = rng.integers(0, min(high, problem.n_stages if name == "placement" else high), int(hit.sum()))
        changes[name] = array
    if rng.random() < 0.2:
        changes["after"] = rng.integers(-1, problem.microbatches, problem.microbatches)
    if rng.random() < 0.2:
        changes["release"] = rng.uniform(0.0, plan.timeline.makespan, problem.microbatches)
    value = spoilt.makespan if rng.random() < 0.8 else plan.objective.value
    return replace(plan, timeline=spoilt, decisions=replace(d, **changes), objective=Objective("", value, "s"))


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_spoilt_plans_break_the_same_rules_for_the_checker_and_its_slow_twin(seed: int) -> None:
    problem, decisions = varied_case(seed)
    rng = np.random.default_rng(seed)
    plan = disturbed(problem, rigid_plan(problem, decisions), rng)
    assert rules(problem, plan) == broken_rules(problem, plan)


def test_mutated_plans_break_the_same_rules_for_the_slow_twin(judged: list[Judged]) -> None:
    for one in judged[::4]:
        if one.mutation.rule != "malformed":
            assert one.rules == broken_rules(one.problem, one.mutation.plan), one.mutation.what


# --- single facts --------------------------------------------------------------------------------------------------


def test_forgetting_the_rest_after_a_task_is_a_collision() -> None:
    problem, decisions = pair()
    plan = rigid_plan(replace(problem, gap=0.0), decisions)
    found = [violation for violation in check(problem, plan) if violation.rule == "TC2"]
    assert found and all("rest" in violation.message for violation in found)


def test_a_short_rest_after_injections_counts_only_there() -> None:
    problem, decisions = pair(injection_gap=0.0, gap=0.5)
    plan = rigid_plan(problem, decisions)
    assert check(problem, plan) == []
    assert rules(replace(problem, injection_gap=0.5), plan) in ({"TC2"}, set())
    turned = rigid_plan(replace(problem, injection_gap=0.5, gap=0.0), decisions)
    assert "TC2" in rules(problem, turned)


def test_a_span_inside_a_long_one_does_not_hide_it_from_the_next() -> None:
    problem, decisions = pair(microbatches=3, gap=0.0, injection_gap=0.0)
    plan = serial_plan(problem, decisions)
    table = plan.timeline
    start, end = table.start.copy(), table.end.copy()
    long, inside, then = (row_of(plan, f"mb{m}", FORWARD, 0) for m in range(3))
    start[long], end[long] = 0.0, 100.0
    start[inside], end[inside] = 1.0, 2.0
    start[then], end[then] = 3.0, 4.0
    found = [v for v in check(problem, replace(plan, timeline=replace(table, start=start, end=end))) if v.rule == "TC2"]
    pairs = {v.items for v in found if v.resources == ("a",)}
    assert ("mb0", "mb1") in pairs and ("mb0", "mb2") in pairs and ("mb1", "mb2") not in pairs


def test_the_link_of_a_message_has_a_direction() -> None:
    problem, decisions = pair(microbatches=1, link=np.array([[0.0, 0.25], [5.0, 0.0]]))
    symmetric = replace(problem, link=np.full((2, 2), 0.25))
    plan = rigid_plan(symmetric, decisions)
    late = [v for v in check(problem, plan) if v.rule == "link"]
    assert len(late) == 2  # from b to the loss at a, and from b's backward pass to a's
    assert all(v.resources == ("b", "a") and v.items == ("mb0",) for v in late)


def test_messages_within_a_node_take_no_time_and_missing_links_are_no_way() -> None:
    problem, decisions = pair(microbatches=1, link=np.array([[9.0, 0.25], [0.25, 9.0]]), gap=0.0, injection_gap=0.0)
    alone = replace(decisions, routes=np.array([[0, 0]]))
    plan = rigid_plan(problem, alone)
    assert plan.objective.value == pytest.approx(1.0 + 1.0 + 0.5 + 2.0 + 2.0)
    assert rules(problem, plan) == {"placement"}
    plan = rigid_plan(problem, decisions)
    assert check(problem, plan) == []
    cut = replace(problem, link=np.array([[0.0, np.inf], [0.25, 0.0]]))
    assert [str(v) for v in check(cut, plan) if v.rule != "link"] == []
    assert len(check(cut, plan)) == 2  # forward to b, and the loss's gradient to b


def test_a_slot_is_held_until_the_weight_task_ends() -> None:
    problem, decisions = pair(microbatches=2)
    split = replace(decisions, split_backward=True)
    plan = serial_plan(problem, split)
    assert check(problem, plan) == [] and slots_of(problem, plan) == 1
    # mb1 is injected between mb0's last backward pass and its weight task on the same node
    table, first, weight = plan.timeline, row_of(plan, "mb1", FORWARD, 0), row_of(plan, "mb0", WEIGHT, 0)
    later = table.start >= table.start[weight] - 1e-9
    start, end = table.start + 1.5 * later, table.end + 1.5 * later
    start[first], end[first] = table.start[weight] + 0.2, table.start[weight] + 1.2
    squeezed = replace(plan, timeline=replace(table, start=start, end=end))
    squeezed = replace(squeezed, objective=Objective("iteration time", squeezed.timeline.makespan, "s"))
    assert check(problem, squeezed) == [] and slots_of(problem, squeezed) == 2


def test_whoever_frees_a_slot_at_a_moment_hands_it_over_at_that_moment() -> None:
    problem, decisions = pair(memory=np.array([1, 1]), gap=0.0, injection_gap=0.0)
    plan = rigid_plan(problem, decisions)
    first, last = row_of(plan, "mb1", FORWARD, 0), row_of(plan, "mb0", BACKWARD, 0)
    assert plan.timeline.start[first] == plan.timeline.end[last]
    assert check(problem, plan) == []


def test_model_chunks_divide_work_and_multiply_slots_but_leave_the_loss_whole() -> None:
    problem, decisions = pair(microbatches=1, memory=np.array([1, 1]))
    virtual = np.array([[0, 1, 2, 3]])
    chunked = replace(decisions, routes=virtual % 2, stages=virtual, chunks=2)
    plan = rigid_plan(problem, chunked)
    assert check(problem, plan) == []
    table = plan.timeline
    assert np.ptp(table.end[table.kind == FORWARD] - table.start[table.kind == FORWARD]) < 1e-9
    assert (table.end - table.start)[table.kind == LOSS] == pytest.approx([0.5])
    assert (table.end - table.start)[table.kind == FORWARD] == pytest.approx([0.5] * 4)
    back = replace(chunked, routes=virtual[:, [0, 1, 3, 2]] % 2, stages=virtual[:, [0, 1, 3, 2]])
    assert rules(problem, rigid_plan(problem, back)) == {"CC-c"}


@pytest.mark.parametrize(
    ("stages", "budget", "broken"),
    [
        ([0, 1, 2, 3], Reordering(0, 0, 0, 1), set()),
        ([0, 2, 1, 3], Reordering(1, 1, 1, 2), set()),
        ([0, 2, 1, 3], Reordering(0, 1, 1, 2), {"CC-c"}),
        ([0, 2, 1, 3], Reordering(1, 0, 1, 2), {"CC-c"}),
        ([0, 2, 1, 3], Reordering(1, 1, 0, 2), {"CC-c"}),
        ([0, 2, 1, 3], Reordering(1, 1, 1, 1), {"CC-d"}),
        ([0, 3, 2, 1], Reordering(2, 2, 3, 3), set()),
        ([0, 3, 2, 1], Reordering(2, 2, 2, 3), {"CC-c"}),
        ([0, 3, 2, 1], Reordering(1, 2, 3, 3), {"CC-c"}),
        ([0, 1, 1, 2], Reordering(0, 0, 0, 1), {"CC-b"}),
        ([0, 1, 0, 2], Reordering(1, 1, 1, 1), {"CC-b"}),
        ([1, 2, 3, 4], Reordering(0, 0, 0, 1), {"CC-a"}),
        ([0, 1, 2, 3, 4], Reordering(0, 0, 0, 1), {"CC-b"}),
        ([0, 1, 2], Reordering(0, 0, 0, 1), {"CC-b"}),
    ],
)
def test_the_order_of_stages_has_a_budget(stages: list[int], budget: Reordering, broken: set[str]) -> None:
    line, visits = np.arange(5), np.array([stages])
    problem, decisions = pair(
        microbatches=1,
        nodes=tuple("abcde"),
        locations=("here",) * 5,
        forward=np.ones((5, 5)),
        backward=np.ones((5, 5)),
        weight=np.ones((5, 5)),
        loss=np.ones(5),
        link=np.zeros((5, 5)),
        memory=np.full(5, 2),
        stage_sizes=np.ones(5, dtype=np.int64),
        route_length=4,
        stage_cap=np.ones(5, dtype=np.int64),
        node_cap=np.ones(5, dtype=np.int64),
        reordering=budget,
    )
    plan = rigid_plan(problem, replace(decisions, placement=line, routes=visits, stages=visits))
    assert rules(problem, plan) == broken


def test_synchronisation_waits_for_the_whole_stage() -> None:
    for seed in range(40):
        problem, decisions = varied_case(seed, sync=True, nodes=6, stages=2, route_length=2)
        plan = rigid_plan(problem, decisions)
        table = plan.timeline
        for row in np.flatnonzero(table.kind == SYNC):
            start, end = table.start.copy(), table.end.copy()
            if start[row] == 0.0:
                continue
            start[row] -= 0.01
            end[row] -= 0.01
            early = replace(table, start=start, end=end)
            value = Objective("iteration time", early.makespan, "s")
            (violation,) = check(problem, replace(plan, timeline=early, objective=value))
            assert violation.rule == "sync" and violation.resources == (problem.nodes[table.resource[row]],)


def test_synchronisation_is_no_task_where_the_problem_has_none() -> None:
    problem, decisions = varied_case(5, sync=True)
    plan = rigid_plan(problem, decisions)
    without = replace(problem, sync_latency=None, sync_seconds=None)
    assert "completeness" in rules(without, plan)
    assert "sync" not in rules(without, plan)


def test_a_malformed_plan_is_a_violation_and_no_exception() -> None:
    problem, decisions = pair()
    plan = rigid_plan(problem, decisions)
    for decided in ({}, 7, replace(decisions, routes="ab"), replace(decisions, stages=None)):
        assert rules(problem, replace(plan, decisions=decided)) == {"malformed"}
    for table in (None, [], Timeline.from_spans([])):
        assert rules(problem, replace(plan, timeline=table)) == {"malformed"}
    for objective in (None, 3.0, Objective("iteration time", None, "s")):  # type: ignore[arg-type]
        assert rules(problem, replace(plan, objective=objective)) == {"malformed"}
    assert rules(problem, replace(plan, objective=Objective("", 10**400, "s"))) == {"objective"}


def test_an_empty_timetable_is_incomplete() -> None:
    problem, decisions = pair()
    plan = rigid_plan(problem, decisions)
    nothing = replace(plan, timeline=plan.timeline.rows(np.zeros(0, dtype=np.int64)), objective=Objective("", 0.0, "s"))
    assert rules(problem, nothing) == {"completeness"}
    assert len(check(problem, nothing)) == 2 * 5


def test_many_violations_of_a_kind_are_counted_and_not_all_spelled_out() -> None:
    problem, decisions = pair(microbatches=300)
    plan = serial_plan(problem, decisions)
    table = replace(plan.timeline, end=plan.timeline.end + 0.01)
    found = [v for v in check(problem, replace(plan, timeline=table)) if v.rule == "duration"]
    assert len(found) == 1001
    assert found[-1].message == "and 500 more of this kind"


def test_the_checker_imports_nothing_that_makes_plans() -> None:
    allowed = {
        *("__future__", "collections.abc", "dataclasses", "typing", "numpy", "numpy.typing"),
        *("pathloom.plan", "pathloom.timeline", "pathloom.worlds.train", "pathloom.worlds.train.problem"),
        "pathloom.worlds.train.check_reading",
    }
    folder = Path(check_module.__file__).parent
    files = sorted(folder.glob("check*.py"))
    assert [file.name for file in files] == ["check.py", "check_reading.py", "check_routes.py", "check_timetable.py"]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module in allowed, f"{file.name} imports {node.module}"
                if node.module == "pathloom.worlds.train":
                    assert {name.name for name in node.names} <= {"check_routes", "check_timetable"}
            elif isinstance(node, ast.Import):
                assert {name.name for name in node.names} <= allowed
