"""Routes that cannot deadlock over memory.

A microbatch holds a slot at every node that it has passed and waits for one at the next. If one goes through A and then
B, another through B and then A, and both nodes are full of such, nothing ever moves. That takes swaps: as long as all
visit stages in increasing order, whoever is furthest ahead can always go on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pathloom.plan import NoPlanFound
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem
from pathloom.worlds.train.routes import route_cost
from pathloom.worlds.train.simulator import Simulation, simulate


def without_deadlock(problem: TrainProblem, decisions: TrainDecisions) -> tuple[TrainDecisions, Simulation]:
    """Let those that got stuck visit their stages in increasing order, until all microbatches return.

    Increasing order keeps CC-c and CC-d, and TC1 does not ask for the order at all.

    Raises
    ------
    NoPlanFound
        If a route in increasing order needs a link that is missing, so that it cannot be used.
    """
    while True:
        outcome = simulate(problem, decisions)
        stuck = np.isnan(outcome.returned)
        if not stuck.any():
            return decisions, outcome
        swapped = stuck & (np.diff(decisions.stages, axis=1) < 0).any(axis=1)
        if not swapped.any():
            raise NoPlanFound(f"{int(stuck.sum())} microbatches wait for each other and have no swap to give up")
        order = np.argsort(decisions.stages, axis=1)
        routes = np.where(swapped[:, None], np.take_along_axis(decisions.routes, order, axis=1), decisions.routes)
        stages = np.where(swapped[:, None], np.sort(decisions.stages, axis=1), decisions.stages)
        if not np.isfinite(route_cost(problem, routes, stages)).all():
            raise NoPlanFound("a deadlock over memory can only be undone over a link that is missing")
        decisions = replace(decisions, routes=routes, stages=stages)
