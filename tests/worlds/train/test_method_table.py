"""The table of methods: what a row says, and which bounds a plan may be given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_plans import pair, serial_plan

from pathloom.plan import Plan
from pathloom.worlds.train import WORLD
from pathloom.worlds.train.bounds import lower_bound
from pathloom.worlds.train.method_table import COLUMNS, bound_for, row


@pytest.fixture
def plan() -> Plan:
    figures = {"bubble_share": 0.25, "busiest_node": "a", "busiest_share": 0.5}
    made = serial_plan(*pair(2))
    return replace(made, method="serial", bound=None, metrics=figures, seconds=1.25)


def test_a_row_has_a_cell_for_each_column_that_the_world_declares(plan: Plan) -> None:
    assert tuple(WORLD.columns) == COLUMNS
    value = plan.objective.value
    cells = dict(zip(COLUMNS, row(replace(plan, bound=0.75 * value)), strict=True))
    assert cells["stages run"] == "2 of 2"
    assert cells["iteration time"] == f"{value:.2f} s"
    assert cells["bubble share"] == "25.0%"
    assert cells["busiest node"] == "a (50%)"
    assert cells["proven gap"] == "25.0%"
    assert cells["planning time"] == "1.2 s"
    assert row(plan)[4:6] == ("-", "-")


def test_the_best_bound_that_is_known_for_the_very_problem_is_taken(plan: Plan) -> None:
    known = [plan, replace(plan, bound=0.5, bound_by="weak"), replace(plan, bound=0.625, bound_by="strong")]
    assert bound_for(plan, known, time_limit=1.0) == (0.625, "strong")


def test_a_bound_of_another_problem_or_of_other_freedoms_is_not_taken(plan: Plan) -> None:
    other = replace(plan, problem=replace(plan.problem, gap=0.0), bound=1e6, bound_by="another problem")
    split = replace(plan, decisions=replace(plan.decisions, split_backward=True))
    assert bound_for(plan, [other, replace(split, bound=1e6)], time_limit=1.0) != (1e6, None)
    found = bound_for(plan, [other], time_limit=1.0)
    own = lower_bound(plan.problem)
    assert found is not None
    assert found == (pytest.approx(own.value), own.by)
    unsplit = replace(plan, bound=1e6, bound_by="whole backward passes")
    weaker = bound_for(split, [unsplit], time_limit=1.0)
    assert weaker is not None
    assert weaker[0] <= own.value


def test_plans_with_several_chunks_get_no_bound(plan: Plan) -> None:
    """A chunk takes part of a slot and of a stage, which the bounds do not know."""
    chunked = replace(plan, decisions=replace(plan.decisions, chunks=2, stages=np.array([[0, 1, 2, 3]] * 2)))
    assert bound_for(chunked, [replace(plan, bound=1.0)], time_limit=1.0) is None
