"""Our event kernel against the simulator that SkipPipe ships, on the same routes in one run.

The reference's code is not part of this project: set PATHLOOM_PEER_SKIPPIPE to a checkout of gensyn-ai/skippipe (commit
7f20d8a, MIT). Without it the reference's columns stay empty and a note says so.

Both must give the same time where the reference completes every microbatch and nobody waits for memory. The reference
polls for a free slot in steps of 0.1 s where we wake up when there is one, and it can forget a microbatch of a second
wave whose turn comes while its source is idle; the table says how many microbatches it completed, and how many forward
passes had to wait for a slot.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from _table import Table, finish, options
from _targets import TARGETS, Verdict
from pathloom.data import find
from pathloom.plan import InputError
from pathloom.simulate._kernels import run_chains, workspace
from pathloom.worlds.train.instance import pipeline_instance
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem
from pathloom.worlds.train.reference import shipped_instance
from pathloom.worlds.train.simulator import chains, order_of_work, simulate

NAME = "event_kernel"
PEER = "PATHLOOM_PEER_SKIPPIPE"
COLUMNS = [
    "routes",
    "task events",
    "kernel us/call",
    "events/s",
    "with set-up us/call",
    "reference s/call",
    "times faster",
    "ours s",
    "reference s",
    "completes",
    "equal",
    "waits",
]
WAVES = 16  # of the large instance, which makes about 3,000 microbatches on 1,000 nodes
Reference = Callable[[TrainProblem, TrainDecisions], tuple[float, int]]


def reference_simulator() -> Reference | None:
    """The reference's simulator on our decisions, or None where there is no checkout.

    It gives the time of the last return, and the number of microbatches that returned.
    """
    folder = os.environ.get(PEER)
    if not folder or not (Path(folder) / "schedulers" / "com_sym.py").is_file():
        return None
    sys.path.insert(0, folder)
    from schedulers.com_sym import MB, ComNode, run_simulation  # type: ignore[import-not-found]

    def run(problem: TrainProblem, decisions: TrainDecisions) -> tuple[float, int]:
        nodes = {
            n: ComNode(float(problem.forward[n, p]), n, int(problem.memory[n]))
            for n, p in enumerate(decisions.placement.tolist())
        }
        after = np.full(len(decisions.routes), -1) if decisions.after is None else decisions.after
        release = np.zeros(len(decisions.routes)) if decisions.release is None else decisions.release
        # A microbatch of number w * 100 + l belongs to lane l; those of w > 0 start when that of w = 0 has returned.
        number: dict[int, int] = {}
        size: dict[int, int] = {}
        for b, route in enumerate(decisions.routes.tolist()):
            head = b if after[b] < 0 else int(after[b])
            if head == b:
                number[b] = len(size)
                size[b] = 1
            else:
                number[b] = number[head] + 100 * size[head]
                size[head] += 1
            microbatch = MB(number[b], dict(pairwise(route)), route[0])
            microbatch.tm = float(release[b])
            microbatch.tm_receive = 10_000  # marks an injection, after which nodes rest for a shorter time
            nodes[route[0]].receive(microbatch)
        stages = [np.flatnonzero(decisions.placement == p).tolist() for p in range(problem.n_stages)]
        with contextlib.redirect_stdout(io.StringIO()):
            seconds = float(run_simulation(nodes, stages, problem.link.tolist()))
        return seconds, sum(len(nodes[n].received_sent) for n in stages[0])

    return run


def random_routes(
    problem: TrainProblem, placement: np.ndarray, rng: np.random.Generator, waves: int = 2
) -> TrainDecisions:
    """Random stages in rising order and random nodes, in waves of as many lanes a source as it has slots.

    Each lane takes the stages, and in them the nodes, that were taken least so far, chance breaking ties: the load is
    then as even as TC1 wants it.
    """
    sources = np.flatnonzero(placement == 0)
    stage_use, node_use = np.zeros(problem.n_stages), np.zeros(problem.n_nodes)
    rows: list[list[int]] = []
    after: list[int] = []
    release: list[float] = []
    for slot in range(int(problem.memory[sources].max())):
        for source in sources[problem.memory[sources] > slot]:
            stages = 1 + np.lexsort((rng.random(problem.n_stages - 1), stage_use[1:]))[: problem.route_length - 1]
            stage_use[stages] += 1
            route = [int(source)]
            for p in np.sort(stages):
                members = np.flatnonzero(placement == p)
                route.append(int(members[np.lexsort((rng.random(len(members)), node_use[members]))[0]]))
                node_use[route[-1]] += 1
            begin = slot * float(problem.forward[source, 0])
            for wave in range(waves):
                after.append(len(rows) - 1 if wave else -1)
                release.append(2.5 * wave + begin)
                rows.append(route)
    routes = np.array(rows, dtype=np.int64)
    return TrainDecisions(
        placement=placement,
        routes=routes,
        stages=placement[routes],
        after=np.array(after, dtype=np.int64),
        release=np.array(release),
    )


def large_problem(nodes: int, rng: np.random.Generator) -> tuple[TrainProblem, np.ndarray]:
    """Many nodes in the twelve regions, 16 stages of which 11 are visited."""
    from pathloom.data.network import measured_network

    network = measured_network("gcp12")
    regions = [network.regions[i] for i in rng.integers(0, len(network.regions), nodes)]
    sizes = [nodes // 16 + (p < nodes % 16) for p in range(16)]
    placement = rng.permutation(np.repeat(np.arange(16), sizes))
    problem = pipeline_instance(
        regions,
        network,
        name=f"{nodes} nodes",
        stages=sizes,
        placement=placement,
        stage_layers=4,
        samples=2,
        layer_seconds=0.055,
        activation_bytes=4.0 * 1024 * 1024,
        memory=3,
        microbatches=3 * WAVES * sizes[0],
        route_length=11,
    )
    return problem, placement


def kernel_call(problem: TrainProblem, decisions: TrainDecisions) -> tuple[Callable[[], float], int]:
    """A call of nothing but the compiled loop, and its number of task events."""
    laid = chains(problem, decisions)
    n_microbatches, n_tasks = laid.node.shape
    key, use_key, sequence, sequence_start = order_of_work(problem, decisions, laid)
    start, end = np.empty(laid.node.shape), np.empty(laid.node.shape)
    none = np.full(n_microbatches, -1, dtype=np.int64)
    arguments = (
        laid.node,
        laid.duration,
        laid.hop,
        laid.rest,
        laid.slot,
        laid.spawn,
        laid.chain,
        np.zeros(n_microbatches) if decisions.release is None else np.asarray(decisions.release, dtype=np.float64),
        none if decisions.after is None else np.asarray(decisions.after, dtype=np.int64),
        key,
        use_key,
        sequence,
        sequence_start,
        laid.slots,
        np.full(problem.n_nodes, np.inf),
        np.full(n_microbatches, np.inf),
        np.zeros((0, 4)),
        np.zeros((0, 5)),
        np.inf,
        start,
        end,
        workspace(n_microbatches, n_tasks, problem.n_nodes),
    )
    return lambda: float(run_chains(*arguments)[0]), laid.node.size


def seconds_per_call(call: Callable[[], object], least: float) -> float:
    """Best of five means over enough calls to take `least` seconds altogether."""
    call()
    number, taken = 1, 0.0
    while taken < least / 10:
        began = time.perf_counter()
        for _ in range(number):
            call()
        taken = time.perf_counter() - began
        number *= 2
    means = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(number):
            call()
        means.append((time.perf_counter() - began) / number)
    return min(means)


def waits_for_memory(problem: TrainProblem, decisions: TrainDecisions) -> int:
    """Forward passes whose start was put off for want of a slot: those that start earlier with endless memory."""
    roomy = TrainProblem(**{**vars(problem), "memory": np.full(problem.n_nodes, 10**6)})
    with_slots, without = simulate(problem, decisions), simulate(roomy, decisions)
    k = decisions.routes.shape[1]
    return int((with_slots.start[:, :k] > without.start[:, :k] + 1e-9).sum())


def measure(
    name: str, problem: TrainProblem, decisions: TrainDecisions, reference: Reference | None, least: float
) -> list[Any]:
    """One row of the table."""
    call, events = kernel_call(problem, decisions)
    ours = call()
    each = seconds_per_call(call, least)
    whole = seconds_per_call(lambda: simulate(problem, decisions), least)
    row: list[Any] = [name, events, round(1e6 * each, 2), round(events / each), round(1e6 * whole, 1)]
    waits = waits_for_memory(problem, decisions)
    if reference is None:
        return [*row, None, None, round(ours, 6), None, None, None, waits]
    began = time.perf_counter()
    theirs, completed = reference(problem, decisions)
    taken = time.perf_counter() - began
    return [
        *row,
        round(taken, 3),
        round(taken / each),
        round(ours, 6),
        round(theirs, 6),
        f"{completed}/{len(decisions.routes)}",
        bool(abs(ours - theirs) < 1e-9),
        waits,
    ]


def verdicts(rows: list[list[Any]]) -> list[Verdict]:
    """The kernel's targets; the slowest row counts."""
    speeds = [row[COLUMNS.index("times faster")] for row in rows]
    faster = [speed for speed in speeds if speed is not None]
    rates = [row[COLUMNS.index("events/s")] for row in rows]
    words = (
        f"{min(faster):,} to {max(faster):,} times faster over {len(faster)} sets of routes" if faster else "nothing"
    )
    missing = "" if faster else "a checkout of the reference"
    return [
        TARGETS["kernel-times"].judge(min(faster, default=None), words, short_of=missing),
        TARGETS["kernel-rate"].judge(min(rates), f"{min(rates):,} to {max(rates):,} task events a second"),
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if the kernel differs on a shipped schedule."""
    parser = options(NAME, __doc__)
    parser.add_argument("--random", type=int, default=20, help="random route sets of one wave")
    parser.add_argument("--two-waves", type=int, default=4, help="random route sets of two waves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=float, default=0.2, help="seconds over which calls are timed")
    parser.add_argument("--large", type=int, default=1000, help="nodes of the large instance; 0 leaves it out")
    chosen = parser.parse_args(argv)

    reference = reference_simulator()
    notes = ["Times of our kernel are the best of five means; the reference is called once a row."]
    if reference is None:
        notes.append(f"The reference was not run: {PEER} names no checkout of gensyn-ai/skippipe.")
    rows: list[list[Any]] = []
    try:
        problem, runs = shipped_instance(find("train-gcp") / "skippipe-schedule.json.gz")
    except InputError as error:
        print(f"event_kernel: {error}", file=sys.stderr)
        return 2
    for name, run in runs.items():
        rows.append(measure(f"shipped: {name}", problem, run.decisions, reference, chosen.least))
    shipped_differ = any(
        abs(run.seconds - simulate(problem, run.decisions).iteration_time) > 0 for run in runs.values()
    )
    notes.append(
        "Our times of the shipped schedules "
        + ("DIFFER from" if shipped_differ else "are exactly")
        + " the ones that the reference's file states."
    )
    placement = runs["random"].decisions.placement
    for number in range(chosen.random + chosen.two_waves):
        rng = np.random.default_rng([chosen.seed, number])
        waves = 1 if number < chosen.random else 2
        decisions = random_routes(problem, placement, rng, waves)
        name = f"random {number}, {waves} wave{'s' * (waves - 1)}"
        rows.append(measure(name, problem, decisions, reference, chosen.least))
    if reference is not None:
        fair = [row for row in rows if row[-1] == 0 and row[-3] == "{0}/{0}".format(row[-3].split("/")[1])]
        notes.append(
            f"Where the reference completes every microbatch and none waits for memory: {sum(r[-2] for r in fair)} of "
            f"{len(fair)} equal."
        )
    if chosen.large:
        rng = np.random.default_rng([chosen.seed, 10**6])
        wide, at = large_problem(chosen.large, rng)
        rows.append(measure(f"{chosen.large} nodes", wide, random_routes(wide, at, rng, WAVES), None, chosen.least))
        if reference is not None:
            notes.append("The large instance is ours alone: the reference tells no more than 100 lanes apart.")

    table = Table(
        title="The event kernel against the reference's simulator",
        columns=COLUMNS,
        rows=rows,
        settings={
            "random": chosen.random,
            "two waves": chosen.two_waves,
            "least": chosen.least,
            "large": chosen.large,
        },
        seeds=[chosen.seed],
        notes=notes,
        verdicts=verdicts(rows),
    )
    finish(table, NAME, chosen)
    return int(shipped_differ)


if __name__ == "__main__":
    raise SystemExit(main())
