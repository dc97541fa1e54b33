"""Schedules with one broken constraint are rejected and that one is named alone, for every kind of constraint."""

from __future__ import annotations

import numpy as np
import pytest

from pathloom.schedule.check import CONSTRAINTS, check_objective, check_schedule
from pathloom.schedule.check_mutations import MUTATIONS, mutated_schedule

RANDOM = {name: number for number, name in enumerate(MUTATIONS)}


def rejected(constraint: str, count: int, *, first: int = 0, every: int = 1) -> int:
    """How many mutated schedules are rejected with `constraint` alone, their feasible originals being accepted.

    One in `every` stands among tasks under constraints of all other kinds.
    """
    number = 0
    for seed in range(first, first + count):
        case = mutated_schedule(
            constraint, np.random.default_rng([seed, RANDOM[constraint]]), size=0 if seed % every else 2
        )
        assert check_schedule(case.problem, case.feasible) == []
        found = check_schedule(case.problem, case.broken)
        number += {violation.rule for violation in found} == {constraint}
        assert all(str(violation).startswith(violation.rule) for violation in found)
    return number


def test_there_is_a_mutation_for_every_constraint() -> None:
    assert set(CONSTRAINTS) == {*MUTATIONS, "objective"}


@pytest.mark.parametrize("constraint", MUTATIONS)
def test_mutated_schedules_are_rejected_by_name(constraint: str) -> None:
    assert rejected(constraint, 100, every=20) == 100


@pytest.mark.slow
@pytest.mark.parametrize("constraint", MUTATIONS)
def test_a_thousand_mutated_schedules_are_rejected_by_name(constraint: str) -> None:
    assert rejected(constraint, 1000, first=1000) == 1000


@pytest.mark.parametrize("constraint", sorted(set(MUTATIONS) - {"shape"}))
def test_a_violation_names_the_tasks_that_were_moved(constraint: str) -> None:
    for seed in range(20):
        case = mutated_schedule(constraint, np.random.default_rng([seed, RANDOM[constraint]]), size=0)
        before, after = case.feasible, case.broken
        moved = {
            case.problem.task_name(task)
            for task in range(len(case.problem.tasks))
            if any(
                getattr(before, name)[task] != getattr(after, name)[task]
                for name in ("start", "end", "mode", "departure", "address")
            )
        }
        named = {name for violation in check_schedule(case.problem, after) for name in violation.items}
        assert named & moved


@pytest.mark.parametrize("seed", range(30))
def test_a_wrong_value_of_the_objective_is_rejected(seed: int) -> None:
    case = mutated_schedule("window", np.random.default_rng(seed), size=2)
    values = [0, 0, 0]
    for number in range(3):
        found = check_objective(case.problem, case.feasible, values)
        assert all(violation.rule == "objective" for violation in found)
        said = {str(v).split("level ")[1].split(" ")[0]: int(str(v).rsplit(" ", 1)[1]) for v in found}
        values[number] = said.get(str(number), 0)
    assert check_objective(case.problem, case.feasible, values) == []
    wrong = [value + (number == seed % 3) * (1 + seed) for number, value in enumerate(values)]
    assert [v.rule for v in check_objective(case.problem, case.feasible, wrong)] == ["objective"]
