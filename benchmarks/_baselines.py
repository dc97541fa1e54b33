"""What today's pipelines do on an instance, each at its best: every method on several placements, the best one counts.

Nobody should win here because a baseline was given a bad placement: DT-FM's genetic search runs in full for each of
`SEARCHES`, and a baseline's figure is that of the placement that suits it best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pathloom.plan import Plan, verified
from pathloom.worlds.train.check import check
from pathloom.worlds.train.dtfm_placement import dtfm_placement
from pathloom.worlds.train.full_pipelines import dtfm, gpipe, interleaved, one_f_one_b, zb_h1
from pathloom.worlds.train.greedy import greedy
from pathloom.worlds.train.instance import pipeline_instance
from pathloom.worlds.train.problem import Ints, TrainProblem
from pathloom.worlds.train.random_skips import random_skips
from pathloom.worlds.train.route_search import pathloom

SEARCHES: dict[str, dict[str, Any]] = {
    "SkipPipe's costs and gain": {"variant": "skippipe"},
    "SkipPipe's costs, DT-FM's gain": {"variant": "skippipe", "gain": "dtfm"},
    "DT-FM's costs and gain": {"variant": "dtfm"},
}
FULL: dict[str, Callable[..., Plan]] = {
    "dtfm": dtfm,
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved-1f1b": interleaved,
    "zb-h1": zb_h1,
}
SKIPPING: dict[str, Callable[..., Plan]] = {"greedy": greedy, "dtfm-skip": random_skips}


def checked(plan: Plan) -> Plan:
    """The plan, which the checker has accepted; `InfeasiblePlan` otherwise."""
    return verified(plan, check)


def placements(problem: TrainProblem, *, trials: int, seed: int) -> list[Ints]:
    """The placement of each of `SEARCHES`."""
    return [dtfm_placement(problem, trials=trials, seed=seed, **search).placement for search in SEARCHES.values()]


def best_of_each(
    methods: Mapping[str, Callable[..., Plan]], problem: TrainProblem, candidates: Sequence[Ints], *, seed: int
) -> dict[str, Plan]:
    """Method name -> its checked plan on the placement that suits it best."""
    plans = {}
    for name, method in methods.items():
        made = [method(problem, time_limit=1.0, seed=seed, placement=placement) for placement in candidates]
        plans[name] = checked(min(made, key=lambda plan: plan.objective.value))
    return plans


def warm_up() -> None:
    """Compile (or load) all kernels, so that no measured second goes into that."""
    from pathloom.data.network import measured_network

    network = measured_network("gcp12")
    for length in (3, 4):
        problem = pipeline_instance(
            network.regions[:9], network, stages=(3, 2, 2, 2), microbatches=6, route_length=length, memory=3
        )
        candidates = placements(problem, trials=40, seed=0)
        best_of_each(FULL | SKIPPING, problem, candidates, seed=0)
        checked(pathloom(problem, time_limit=0.4, iterations=50))
