"""Facts about deadlock over memory."""

from dataclasses import replace

import numpy as np
import pytest
from random_networks import random_problem

from pathloom.plan import NoPlanFound
from pathloom.worlds.train.hold_and_wait import without_deadlock
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem
from pathloom.worlds.train.simulator import simulate


def opposed() -> tuple[TrainProblem, TrainDecisions]:
    """One microbatch goes through a and then b, the other through b and then a; each node holds one."""
    problem = random_problem(0, sizes=(2, 1, 1), microbatches=2, route_length=3, placement=np.array([0, 0, 1, 2]))
    link = np.ones((4, 4)) - np.eye(4)
    problem = replace(problem, link=link, memory=np.ones(4, dtype=np.int64), forward=np.ones((4, 3)))
    return problem, TrainDecisions(
        np.array([0, 0, 1, 2]), np.array([[0, 2, 3], [1, 3, 2]]), np.array([[0, 1, 2], [0, 2, 1]])
    )


def test_opposed_routes_deadlock_and_are_put_in_order() -> None:
    problem, decisions = opposed()
    assert np.isnan(simulate(problem, decisions).returned).all()
    mended, outcome = without_deadlock(problem, decisions)
    assert mended.stages.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert mended.routes.tolist() == [[0, 2, 3], [1, 2, 3]]
    assert outcome.iteration_time == simulate(problem, mended).iteration_time < np.inf


def test_routes_that_return_are_left_as_they_are() -> None:
    problem, decisions = opposed()
    roomy = replace(problem, memory=np.full(4, 2))
    mended, _ = without_deadlock(roomy, decisions)
    assert mended is decisions


def test_a_deadlock_that_a_missing_link_keeps_up_is_reported() -> None:
    problem, decisions = opposed()
    link = problem.link.copy()
    link[1, 2] = np.inf  # the second microbatch cannot go to stage 1 first
    with pytest.raises(NoPlanFound, match="missing"):
        without_deadlock(replace(problem, link=link), decisions)
