"""Large networks: a checked plan of hundreds or thousands of microbatches, its time and its memory.

200 nodes, 10 stages, 600 microbatches and 1,000 nodes, 16 stages, 3,000 microbatches, nodes in random regions of the
corrected gcp12 network, about a third of the stages skipped. Greedy routing and DT-FM's full pipeline get the same
time, which goes into their placement. Every method runs in a process of its own, whose peak memory is measured.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict

NAME = "large_networks"
METHODS = ("pathloom", "greedy", "dtfm")
RESERVE = 0.06
"""Share of the time that is kept back from the methods for simulating, writing down and checking the plan."""

COLUMNS = (
    "nodes",
    "stages",
    "microbatches",
    "stages run",
    "method",
    "time (s)",
    "iteration time (s)",
    "below dtfm (%)",
    "bound (s)",
    "gap (%)",
    "planning (s)",
    "checking (s)",
    "spans checked",
    "peak memory (MB)",
)


@dataclass(frozen=True)
class Size:
    """A network: nodes, stages, microbatches, stages that each runs, and seconds of planning."""

    nodes: int
    stages: int
    microbatches: int
    route_length: int
    seconds: float


SIZES = {200: Size(200, 10, 600, 7, 30.0), 1000: Size(1000, 16, 3000, 11, 120.0)}


def peak_memory() -> float:
    """Most memory, in MB, that this process has had in use."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


def plan_here(size: Size, method: str, seed: int, reserve: float) -> dict[str, Any]:
    """Plan and check in this process."""
    from _baselines import checked, warm_up
    from pathloom.data.network import measured_network
    from pathloom.plan import Plan
    from pathloom.worlds.train.full_pipelines import dtfm
    from pathloom.worlds.train.greedy import greedy
    from pathloom.worlds.train.instance import pipeline_instance
    from pathloom.worlds.train.route_search import pathloom

    warm_up()
    functions: dict[str, Callable[..., Plan]] = {"pathloom": pathloom, "greedy": greedy, "dtfm": dtfm}
    network = measured_network("gcp12")
    regions = np.random.default_rng(seed).integers(len(network.regions), size=size.nodes)
    problem = pipeline_instance(
        [network.regions[i] for i in regions],
        network,
        name=f"{size.nodes} nodes",
        stages=size.stages,
        stage_layers=4,
        samples=8,
        layer_seconds=0.055,
        activation_bytes=4.0 * 1024 * 1024,
        memory=3,
        microbatches=size.microbatches,
        route_length=size.route_length,
    )
    began = time.perf_counter()
    plan = functions[method](problem, time_limit=(1.0 - reserve) * size.seconds, seed=seed)
    planned = time.perf_counter()
    checked(plan)
    return {
        "value": plan.objective.value,
        "bound": plan.bound,
        "gap": plan.gap,
        "stages run": plan.problem.route_length,
        "planning": planned - began,
        "checking": time.perf_counter() - planned,
        "spans": len(plan.timeline),
        "memory": peak_memory(),
    }


def plan_apart(size: Size, method: str, seed: int, reserve: float) -> dict[str, Any]:
    """`plan_here` in a process of its own."""
    task = json.dumps({"size": vars(size), "method": method, "seed": seed, "reserve": reserve})
    command = [sys.executable, str(Path(__file__).resolve()), "--child", task]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def verdicts(size: Size, found: dict[str, dict[str, Any]], below: float) -> list[Verdict]:
    """The targets of a network's size."""
    ours, asked = found["pathloom"], SIZES[size.nodes]
    fair = "the same network" if (size.stages, size.microbatches) != (asked.stages, asked.microbatches) else ""
    fair = fair or (f"{asked.seconds:g} s of planning" if size.seconds > asked.seconds else "")
    fair = fair or (f"{asked.seconds:g} s for dtfm" if size.seconds < asked.seconds else "")
    key, taken = f"large-{size.nodes}", ours["planning"] + ours["checking"]
    time_words = f"{taken:.1f} s, of which checking {ours['checking']:.2f} s"
    value_words = f"{below:.1f} % lower: {ours['value']:.1f} s against {found['dtfm']['value']:.1f} s"
    return [
        TARGETS[f"{key}-time"].judge(taken, time_words, short_of=fair),
        TARGETS[key].judge(below, value_words, short_of=fair),
        TARGETS[f"{key}-memory"].judge(ours["memory"], f"{ours['memory']:.0f} MB", short_of=fair),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, save."""
    parser = options(NAME, __doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--seconds", type=float, help="planning time instead of 30 s and 120 s")
    parser.add_argument("--microbatches", type=int, help="instead of 600 and 3,000, for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reserve", type=float, default=RESERVE, help="share of the time kept back for the check")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    if chosen.child:
        task = json.loads(chosen.child)
        print(json.dumps(plan_here(Size(**task["size"]), task["method"], task["seed"], task["reserve"])))
        return 0

    rows: list[list[Cell]] = []
    judged: list[Verdict] = []
    for nodes in chosen.nodes:
        standard = SIZES[nodes]
        size = Size(
            nodes,
            standard.stages,
            chosen.microbatches or standard.microbatches,
            standard.route_length,
            chosen.seconds or standard.seconds,
        )
        found: dict[str, dict[str, Any]] = {}
        for method in METHODS:
            say(f"{nodes} nodes: {method}, {size.seconds:g} s")
            found[method] = plan_apart(size, method, chosen.seed, chosen.reserve)
        full = found["dtfm"]["value"]
        for method, figures in found.items():
            rows.append(
                [
                    nodes,
                    size.stages,
                    size.microbatches,
                    f"{figures['stages run']} of {size.stages}",
                    method,
                    size.seconds,
                    round(figures["value"], 1),
                    None if method == "dtfm" else round(100 * (1 - figures["value"] / full), 1),
                    None if figures["bound"] is None else round(figures["bound"], 1),
                    None if figures["gap"] is None else round(100 * figures["gap"], 1),
                    round(figures["planning"], 1),
                    round(figures["checking"], 2),
                    figures["spans"],
                    round(figures["memory"]),
                ]
            )
        judged += verdicts(size, found, 100 * (1 - found["pathloom"]["value"] / full))

    table = Table(
        title="Large networks: corrected gcp12, nodes in random regions",
        columns=COLUMNS,
        rows=rows,
        settings={"reserve": chosen.reserve, "memory of a node": 3},
        seeds=[chosen.seed],
        notes=[
            "Each method ran in a process of its own, after its kernels were compiled; its peak memory includes "
            "Python, the libraries, the plan and the check. MB are 10^6 bytes.",
            f"Methods are given all but {100 * chosen.reserve:g} % of the time, so that the plan is simulated, written "
            "down and checked within it. DT-FM's genetic search and that of greedy stop by the clock.",
            "DT-FM's full pipeline runs all stages: it does more work per microbatch.",
            "Every plan was checked. The bound is that of pathloom's problem.",
        ],
        verdicts=judged,
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
