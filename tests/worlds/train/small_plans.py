"""Small random problems and valid plans for them, by constructions that are plain enough to be believed.

`serial_plan` lets one microbatch after another through, every task after the one before it; `rigid_plan` lets them
overlap without any of them ever waiting on its way. Neither uses the simulator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pathloom.plan import Plan
from pathloom.worlds.train.drawn_cases import draw_varied_case
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, WEIGHT, Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.rigid_trips import plan_of, rigid_timeline, timeline_of


def varied_case(seed: int, **changes: Any) -> tuple[TrainProblem, TrainDecisions]:
    """A small instance and decisions for it; the seed also settles which features it has, `changes` overrule it."""
    return draw_varied_case(np.random.default_rng(seed), **changes)


def pair(microbatches: int = 2, **changes: Any) -> tuple[TrainProblem, TrainDecisions]:
    """Two nodes, "a" in stage 0 and "b" in stage 1, that take 1 s forward, 0.5 s for the loss and 2 s backward.

    Messages take 0.25 s, rests 0.125 s; all microbatches go a, b. `changes` go into the problem.
    """
    given: dict[str, Any] = {
        "name": "pair",
        "nodes": ("a", "b"),
        "locations": ("here", "there"),
        "forward": np.ones((2, 2)),
        "backward": np.full((2, 2), 2.0),
        "weight": np.full((2, 2), 0.75),
        "loss": np.full(2, 0.5),
        "link": np.array([[0.0, 0.25], [0.25, 0.0]]),
        "memory": np.array([2, 2]),
        "stage_sizes": np.array([1, 1]),
        "microbatches": microbatches,
        "route_length": 2,
        "source_cap": microbatches,
        "stage_cap": np.array([microbatches, microbatches]),
        "node_cap": np.array([microbatches, microbatches]),
        "reordering": Reordering(),
        "gap": 0.125,
        "injection_gap": 0.125,
    }
    visits = np.tile(np.array([[0, 1]]), (microbatches, 1))
    return TrainProblem(**{**given, **changes}), TrainDecisions(np.array([0, 1]), visits, visits.copy())


def serial_plan(problem: TrainProblem, decisions: TrainDecisions) -> Plan:
    """A valid plan in which only one task is done at a time, one microbatch after another."""
    split, chunks, rest = decisions.split_backward, decisions.chunks, max(problem.gap, problem.injection_gap)
    rows = []
    now = 0.0
    done: set[int] = set()
    while len(done) < len(decisions.routes):
        m = next(
            b
            for b in range(len(decisions.routes))
            if b not in done and (decisions.after is None or decisions.after[b] < 0 or int(decisions.after[b]) in done)
        )
        done.add(m)
        if decisions.release is not None:
            now = max(now, float(decisions.release[m]))
        route, stages = decisions.routes[m].tolist(), decisions.stages[m].tolist()
        order = list(range(len(route)))
        steps = [(FORWARD, v) for v in order] + [(LOSS, -1)] + [(BACKWARD, v) for v in reversed(order)]
        steps += [(WEIGHT, v) for v in order if split]
        previous = route[0]
        for kind, visit in steps:
            node, stage = route[max(visit, 0)], stages[max(visit, 0)]
            host = stage % problem.n_stages
            link = problem.link[previous, node]
            now += rest + (float(link) if kind != WEIGHT and previous != node else 0.0)
            seconds = {
                FORWARD: problem.forward[node, host] / chunks,
                LOSS: problem.loss[node],
                BACKWARD: (problem.backward[node, host] - (problem.weight[node, host] if split else 0.0)) / chunks,
                WEIGHT: problem.weight[node, host] / chunks,
            }[kind]
            rows.append((node, m, kind, now, now + float(seconds), stage, visit))
            now += float(seconds)
            previous = node
    table = timeline_of(problem, decisions.placement, rows, problem.microbatches)
    return plan_of(problem, decisions, table, "serial")


def rigid_plan(problem: TrainProblem, decisions: TrainDecisions) -> Plan:
    """A valid plan in which microbatches overlap, but none waits on its way."""
    table = rigid_timeline(problem, decisions)
    if table is None:
        raise ValueError("these decisions have no rigid timetable")
    return plan_of(problem, decisions, table)
