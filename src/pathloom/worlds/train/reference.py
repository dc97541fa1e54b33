"""SkipPipe's own instances: its default setting, and the schedule that its repository ships.

Source: N. Blagoev, L. Y. Chen, O. Ersoy, "SkipPipe: Partial and Reordered Pipelining Framework for Training LLMs in
Heterogeneous Networks", 2025, and its public repository (gensyn-ai/skippipe, commit 7f20d8a), whose simulated times
are the yardstick of our benchmarks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pathloom.data.network import measured_network
from pathloom.data.reading import read_text
from pathloom.plan import InputError
from pathloom.worlds.train.balance import tc1_caps
from pathloom.worlds.train.instance import node_names, pipeline_instance, round_robin
from pathloom.worlds.train.problem import Floats, Ints, TrainDecisions, TrainProblem

NODES, STAGE_SIZES, MICROBATCHES, ROUTE_LENGTH, MEMORY = 20, (5, 3, 3, 3, 3, 3), 30, 4, 3


def reference_instance(*, as_published: bool = True, placement: ArrayLike | None = None) -> TrainProblem:
    """SkipPipe's default instance: 20 equal nodes dealt over the twelve regions of gcp12, 6 stages, 4 visited.

    A forward pass takes 4 layers x 8 samples x 0.055 s = 1.76 s, a message carries 32 MiB, a node holds 3
    activations, and each of the 5 sources starts 6 microbatches.

    Parameters
    ----------
    as_published
        With the publisher's NL-London bandwidth (1024 times too small), which its published times contain.
    placement
        Shape (20,): stage of each node; None leaves it open.
    """
    network = measured_network("gcp12", as_published=as_published)
    return pipeline_instance(
        round_robin(network.regions, NODES),
        network,
        name="gcp12-as-published" if as_published else "gcp12-corrected",
        stages=STAGE_SIZES,
        placement=placement,
        stage_layers=4,
        samples=8,
        layer_seconds=0.055,
        activation_bytes=4.0 * 1024 * 1024,
        memory=MEMORY,
        microbatches=MICROBATCHES,
        route_length=ROUTE_LENGTH,
    )


@dataclass(frozen=True)
class ReferenceRun:
    """One of the schedules in SkipPipe's file.

    Attributes
    ----------
    seconds
        Its iteration time by the reference's simulator.
    decisions
        Placement, routes, releases, and which return each second-wave microbatch waits for. The full pipeline has 27
        microbatches over all 6 stages, the others 30 over 4.
    """

    seconds: float
    decisions: TrainDecisions


def shipped_instance(path: Path) -> tuple[TrainProblem, dict[str, ReferenceRun]]:
    """The instance of the schedule that SkipPipe ships, with its own delays and partitions.

    Its delays are those of 8 samples a microbatch (over gcp12 as published), but its forward pass is that of 2 samples:
    4 layers x 2 samples x 0.055 s = 0.44 s, as the times in the file show.

    Parameters
    ----------
    path
        ``skippipe-schedule.json.gz`` of the data set "train-gcp".

    Returns
    -------
    The problem, and the reference's runs: "full" (27 microbatches over all stages), "random" (skips without regard to
    links), "no-collision" (its search without collision awareness) and "collision" (with it).

    Raises
    ------
    InputError
        If the file is not such a schedule.
    """
    try:
        data = json.loads(read_text(path))
        partitions = [[int(node) for node in part] for part in data["partitions"]]
        locations = [str(region) for region in data["locations"]]
        link = np.array(data["delays"], dtype=np.float64)
        memory = np.full(len(locations), int(data["memory"]), dtype=np.int64)
        problem = _shipped_problem(partitions, locations, link, memory)
        placement = problem.placement
        assert placement is not None
        runs = {
            "full": ReferenceRun(data["baseline-expected-time"], _full(placement, partitions)),
            "random": ReferenceRun(data["random-expected-time"], _skipped(placement, data["random-paths"])),
            "no-collision": ReferenceRun(data["nonca-expected-time"], _skipped(placement, data["non-ca-paths"])),
            "collision": ReferenceRun(data["ca-expected-time"], _skipped(placement, data["ca-paths"])),
        }
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = f"lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"is no SkipPipe schedule: {reason}", file=str(path)) from None
    return problem, runs


_FORWARD = 4 * 2 * 0.055


def _shipped_problem(partitions: list[list[int]], locations: list[str], link: Floats, memory: Ints) -> TrainProblem:
    n, sizes = len(locations), np.array([len(part) for part in partitions], dtype=np.int64)
    placement = np.full(n, -1, dtype=np.int64)
    for stage, part in enumerate(partitions):
        placement[part] = stage
    source_cap, stage_cap, node_cap = tc1_caps(MICROBATCHES, ROUTE_LENGTH, sizes, memory)
    forward = np.full((n, len(sizes)), _FORWARD)
    return TrainProblem(
        name="skippipe-shipped",
        nodes=node_names(locations),
        locations=tuple(locations),
        forward=forward,
        backward=1.5 * forward,
        weight=0.75 * forward,
        loss=0.25 * forward[:, 0],
        link=link,
        memory=memory,
        stage_sizes=sizes,
        microbatches=MICROBATCHES,
        route_length=ROUTE_LENGTH,
        source_cap=source_cap,
        stage_cap=stage_cap,
        node_cap=node_cap,
        placement=placement,
    )


def _decisions(placement: Ints, rows: list[tuple[list[int], float, int]]) -> TrainDecisions:
    routes = np.array([row[0] for row in rows], dtype=np.int64)
    return TrainDecisions(
        placement=placement,
        routes=routes,
        stages=placement[routes],
        release=np.array([row[1] for row in rows]),
        after=np.array([row[2] for row in rows], dtype=np.int64),
    )


def _skipped(placement: Ints, paths: dict[str, dict[str, int]]) -> TrainDecisions:
    """Routes of a partial schedule: each agent's path is taken by two waves, the second after the first returned.

    The file holds one path an agent, either three agents a source (which start one forward time apart) or one agent
    that stands for three microbatches (which start one second apart).
    """
    per_source = 3 * 5 // len(paths)
    rows: list[tuple[list[int], float, int]] = []
    counts: dict[int, int] = {}
    for agent in sorted(paths, key=int):
        step = {int(a): int(b) for a, b in paths[agent].items()}
        (source,) = set(step) - set(step.values())
        route = [source]
        while route[-1] in step:
            route.append(step[route[-1]])
        start = counts.get(source, 0) * _FORWARD
        counts[source] = counts.get(source, 0) + 1
        for copy in range(per_source):
            first = len(rows)
            rows.append((route, start + copy * 1.0, -1))
            rows.append((route, start + copy * 1.0 + 2.5, first))
    return _decisions(placement, rows)


def _full(placement: Ints, partitions: list[list[int]]) -> TrainDecisions:
    """Three parallel full pipelines through the n-th node of every stage, nine microbatches each in three waves."""
    rows: list[tuple[list[int], float, int]] = []
    for column in range(min(len(part) for part in partitions)):
        route = [part[column] for part in partitions]
        for _ in range(3):
            first = len(rows)
            rows.extend((route, wave * 0.1, first if wave else -1) for wave in range(3))
    return _decisions(placement, rows)
