"""What a recorded iteration says beyond its spans: averaging added, and how fast each node was."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, SYNC, WEIGHT, Floats, TrainDecisions, TrainProblem


def with_averaging(timeline: Timeline, spans: Mapping[int, tuple[float, float]], decisions: TrainDecisions) -> Timeline:
    """The timeline with each node's averaging of gradients, as in a plan (`spans`: node -> start and end)."""
    nodes = np.array(list(spans), dtype=np.int64)
    bounds = np.array(list(spans.values()), dtype=np.float64).reshape(-1, 2)
    extra = {"stage": np.asarray(decisions.placement)[nodes], "visit": np.full(len(nodes), -1)}
    columns = {
        name: np.concatenate([column, extra.get(name, np.zeros(len(nodes)))]).astype(column.dtype)
        for name, column in timeline.columns.items()
    }
    return Timeline(
        np.concatenate([timeline.resource, nodes]),
        np.concatenate([timeline.item, np.full(len(nodes), len(timeline.items))]),
        np.concatenate([timeline.kind, np.full(len(nodes), SYNC)]),
        np.concatenate([timeline.start, bounds[:, 0]]),
        np.concatenate([timeline.end, bounds[:, 1]]),
        timeline.resources,
        (*timeline.items, "sync"),
        timeline.kinds,
        timeline.unit,
        columns,
    ).sorted()


def busy_share(timeline: Timeline, seconds: float) -> float:
    """Mean share of `seconds` in which the nodes computed."""
    work = np.isin(timeline.kind, (FORWARD, LOSS, BACKWARD, WEIGHT))
    return float((timeline.end - timeline.start)[work].sum() / max(seconds * len(timeline.resources), 1e-9))


def pace(problem: TrainProblem, decisions: TrainDecisions, timeline: Timeline) -> Floats:
    """Measured over planned seconds of each node's work, shape (N,); nan where it had none."""
    node, kind = timeline.resource, timeline.kind
    stage = timeline.columns["stage"] % problem.n_stages
    weight = problem.weight if decisions.split_backward else np.zeros_like(problem.weight)
    tables = np.stack([problem.forward, problem.backward - weight, problem.weight]) / decisions.chunks
    of = np.select([kind == FORWARD, kind == BACKWARD], [0, 1], 2)
    planned = np.where(kind == LOSS, problem.loss[node], tables[of, node, stage])
    work = np.isin(kind, (FORWARD, LOSS, BACKWARD, WEIGHT))
    n = problem.n_nodes
    expected = np.bincount(node[work], weights=planned[work], minlength=n)
    taken = np.bincount(node[work], weights=(timeline.end - timeline.start)[work], minlength=n)
    return np.where(expected > 0, taken / np.where(expected > 0, expected, 1.0), np.nan)
