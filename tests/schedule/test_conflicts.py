"""Why a problem has no schedule: the reasons are true and smallest, and the command line gives them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model
from small_problems import problems

from pathloom.plan import clear_stop, request_stop
from pathloom.schedule.conflicts import SHOWN, _Filter, conflicting_constraints, proven_infeasible
from pathloom.schedule.constraint_groups import parts, without_others
from pathloom.schedule.constraint_model import ConstraintModel
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem


def has_schedule(problem: Problem) -> bool:
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False
    status = solver.solve(ConstraintModel(problem).model)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.INFEASIBLE)
    return status != cp_model.INFEASIBLE


def too_much_for_a_machine() -> Problem:
    model = Model()
    lathe, saw = model.machine("lathe"), model.machine("saw")
    for name in "abcd":
        model.task(5, lathe, name=name, latest_end=14 if name != "d" else 40)
    model.task(9, saw, name="far away", latest_end=30)
    return model.problem()


def test_an_overloaded_machine_names_its_tasks_and_their_windows() -> None:
    assert conflicting_constraints(too_much_for_a_machine(), time_limit=20) == [
        "'lathe' does one task at a time: 'a' (takes 5), 'b' (takes 5), 'c' (takes 5)",
        "'a' (takes 5) ends by 14",
        "'b' (takes 5) ends by 14",
        "'c' (takes 5) ends by 14",
    ]


def test_a_capacity_that_no_choice_of_modes_keeps() -> None:
    model = Model()
    stocks = [model.consumable(name, 3) for name in ("N1", "N2")]
    for name in "pqrst":
        model.task(alternatives=[(2, [(stock, 2)]) for stock in stocks], name=name)
    found = conflicting_constraints(model.problem(), time_limit=20)
    assert len(found) == 2
    assert found[0].startswith("'N1' has a stock of 3: ") and found[1].startswith("'N2' has a stock of 3: ")
    assert found[0].count("needs 2") == 3, "three of the five tasks are enough for a conflict"


def test_a_crew_over_time() -> None:
    model = Model()
    crew = model.renewable("crew", 3)
    for name in "ab":
        model.task(6, [(crew, 2)], name=name, latest_end=10)
    model.task(1, [(crew, 1)], name="small", latest_end=10)
    assert conflicting_constraints(model.problem(), time_limit=20) == [
        "'crew' has a capacity of 3: 'a' (needs 2), 'b' (needs 2)",
        "'a' (takes 6) ends by 10",
        "'b' (takes 6) ends by 10",
    ]


def test_breaks_choices_and_modes_are_spoken_of() -> None:
    model = Model()
    night = model.machine("mill", breaks=[(4, 100)])
    early = model.task(6, night, name="mill it", latest_end=50)
    found = conflicting_constraints(model.problem(), time_limit=20)
    assert found == ["'mill' works by its calendar", "'mill it' (takes 6) ends by 50"]

    model = Model()
    tasks = [model.task(2, optional=True, name=name) for name in "ab"]
    model.select("at-least-one", *tasks)
    model.select("at-most-one", *tasks)
    model.select("all-or-none", *tasks)
    assert conflicting_constraints(model.problem(), time_limit=20) == [
        "at least one of 'a', 'b' is carried out",
        "at most one of 'a', 'b' is carried out",
        "all or none of 'a', 'b' is carried out",
    ]

    model = Model()
    saw, lathe = model.machine("saw"), model.machine("lathe")
    early, late = model.task(2, saw, name="x"), model.task(2, lathe, name="y")
    model.same_resources(early, late)
    assert conflicting_constraints(model.problem(), time_limit=20)[0] == "'x' and 'y' use the same resources"


@given(problems())
@settings(max_examples=20, deadline=None)
def test_what_remains_is_needed_and_enough(problem: Problem) -> None:
    found = _Filter(problem, 20.0, 1)
    if has_schedule(problem):
        assert conflicting_constraints(problem, time_limit=20) == []
        return
    assert conflicting_constraints(problem, time_limit=20)
    every = parts(problem)
    rest = [part for part in every if part[0] != "task"]
    tasks = found._needed([part for part in every if part[0] == "task"], rest)
    rest = found._needed(rest, tasks)
    assert not has_schedule(without_others(problem, {*tasks, *rest}))
    for part in (*tasks, *rest):
        assert has_schedule(without_others(problem, {*tasks, *rest} - {part})), part


@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_a_problem_with_a_schedule_has_no_conflict(seed: int) -> None:
    assert conflicting_constraints(draw_draft(np.random.default_rng(seed), 3).problem(), time_limit=5) == []


def test_a_conflict_in_many_parts_is_found_among_them() -> None:
    model = Model()
    machines = [model.machine(f"m{number}") for number in range(5)]
    for number, machine in itertools.product(range(7), machines):
        model.task(3, machine, name=f"{machine.name} {number}", latest_end=60 if machine.name != "m3" else 20)
    found = conflicting_constraints(model.problem(), time_limit=30)
    assert len(found) == 8 and found[0].startswith("'m3' does one task at a time: ") and "and 1 more" in found[0]


def test_a_message_shows_the_first_few() -> None:
    error = proven_infeasible([f"reason {number}" for number in range(SHOWN + 3)])
    assert str(error).startswith("proven infeasible: these constraints cannot hold together: reason 0; reason 1;")
    assert str(error).endswith(f"reason {SHOWN - 1}; and 3 more")


@pytest.fixture
def stopping() -> Iterator[None]:
    yield
    clear_stop()


@pytest.mark.usefixtures("stopping")
def test_a_stop_or_no_time_proves_nothing() -> None:
    assert conflicting_constraints(too_much_for_a_machine(), time_limit=0.0) == []
    request_stop()
    assert conflicting_constraints(too_much_for_a_machine(), time_limit=60.0) == []
