"""How far a recorded iteration is from its plan and from the simulation of the plan, phase by phase.

Phases of a node are the kinds of work (forward, loss, backward, weight, sync) and waiting, which is all the time of
the iteration in which the node does nothing. They add up to the iteration time of the node, so their errors add up to
the error of the iteration. Messages cut across the nodes: they are the gaps between consecutive tasks of a microbatch
on different nodes, time on the link and in the queue of the receiver together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Plan
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import BACKWARD, FORWARD, KINDS, LOSS, SYNC

WAITING, MESSAGES, ITERATION = "waiting", "messages", "iteration"

COLUMNS = (
    "phase",
    "tasks",
    "planned",
    "simulated",
    "measured",
    "mean planned",
    "mean measured",
    "off the plan",
    "error",
)

MOST_NODES = 32
"""Most nodes that get a row each in the table; the figures have all of them."""


@dataclass(frozen=True)
class Spent:
    """Seconds that went into a phase, and the number of spans (or gaps) that they are spread over."""

    seconds: float
    count: int

    @property
    def mean(self) -> float:
        """Seconds of one; 0 where there is none."""
        return self.seconds / self.count if self.count else 0.0


@dataclass(frozen=True)
class PhaseError:
    """One phase in plan, simulation and run, over all nodes or of one.

    Attributes
    ----------
    phase
        A kind of work, "waiting", "messages" or "iteration".
    node
        Name of the node; empty for all nodes together.
    planned, simulated, measured
        What went into it.
    """

    phase: str
    node: str
    planned: Spent
    simulated: Spent
    measured: Spent

    @property
    def error(self) -> float | None:
        """(Measured - simulated) / simulated seconds; None where the simulation has none and the run has some."""
        return relative(self.measured.seconds, self.simulated.seconds)

    @property
    def off_plan(self) -> float | None:
        """(Measured - planned) / planned seconds; None where the plan has none and the run has some."""
        return relative(self.measured.seconds, self.planned.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain figures for ``--json``."""
        figures: dict[str, Any] = {"phase": self.phase, "node": self.node or None}
        for name in ("planned", "simulated", "measured"):
            spent: Spent = getattr(self, name)
            figures[name] = {"seconds": spent.seconds, "count": spent.count, "mean": spent.mean}
        return {**figures, "error": self.error, "off_plan": self.off_plan}


def relative(value: float, reference: float) -> float | None:
    """``(value - reference) / reference``; 0 where both are 0, None where only the reference is."""
    if reference == 0:
        return 0.0 if value == 0 else None
    return (value - reference) / abs(reference)


def phase_errors(plan: Timeline, simulation: Timeline, run: Timeline) -> list[PhaseError]:
    """Compare the phases of a recorded iteration with plan and simulation.

    Parameters
    ----------
    plan, simulation, run
        Timelines of one iteration of one problem, in seconds from its start. The column ``visit`` (position in the
        microbatch's route) orders the tasks of a microbatch where it is there, else their starts do.

    Returns
    -------
    list of PhaseError
        First all nodes together: the kinds of work that occur, waiting, messages, the iteration; then the same without
        messages and iteration for each node.
    """
    timelines = (plan, simulation, run)
    kinds = [kind for kind in _names(timelines, "kinds") if any(_has(timeline, kind) for timeline in timelines)]
    nodes = _names(timelines, "resources")
    spent = [_spent(timeline, kinds, nodes) for timeline in timelines]
    messages = [_messages(timeline) for timeline in timelines]
    rows = [PhaseError(kind, "", *(_total(table[kind]) for table in spent)) for kind in (*kinds, WAITING)]
    rows.append(PhaseError(MESSAGES, "", *messages))
    rows.append(PhaseError(ITERATION, "", *(Spent(timeline.makespan, 1) for timeline in timelines)))
    for position, node in enumerate(nodes):
        rows += [PhaseError(kind, node, *(table[kind][position] for table in spent)) for kind in (*kinds, WAITING)]
    return rows


def table(plan: Plan, timelines: Mapping[str, Timeline]) -> tuple[Sequence[str], list[tuple[str, ...]], dict[str, Any]]:
    """Columns, rows and figures for `pathloom.world.World.phase_errors`.

    Parameters
    ----------
    timelines
        "simulation" (the plan's own timeline stands in where it is missing) and "run".
    """
    simulation = timelines.get("simulation", plan.timeline)
    found = phase_errors(plan.timeline, simulation, timelines["run"])
    work = _work_of_nodes(found)
    rows = [_cells(row, row.phase) for row in found if not row.node]
    if len(work) <= MOST_NODES:
        rows += [_cells(row, f"work of {row.node}") for row in work]
    iteration = next(row for row in found if row.phase == ITERATION)
    figures = {
        "iteration_time_error": iteration.error,
        "phases": [row.to_dict() for row in found if not row.node],
        "nodes": [row.to_dict() for row in found if row.node],
    }
    return COLUMNS, rows, figures


def _work_of_nodes(found: Sequence[PhaseError]) -> list[PhaseError]:
    """Everything but waiting and synchronisation, which is mostly waiting for others, summed up by node."""
    work: dict[str, list[PhaseError]] = {}
    for row in found:
        if row.node and row.phase not in (WAITING, KINDS[SYNC]):
            work.setdefault(row.node, []).append(row)
    return [
        PhaseError("work", node, *(_total([getattr(row, name) for row in rows]) for name in _SIDES))
        for node, rows in work.items()
        if any(getattr(row, name).count for row in rows for name in _SIDES)
    ]


_SIDES = ("planned", "simulated", "measured")


def _cells(row: PhaseError, title: str) -> tuple[str, ...]:
    counts = {row.planned.count, row.simulated.count, row.measured.count}
    counted = str(row.measured.count) if len(counts) == 1 else f"{row.measured.count} (plan {row.planned.count})"
    return (
        title,
        counted,
        *(f"{getattr(row, side).seconds:.4g} s" for side in _SIDES),
        f"{row.planned.mean:.4g} s",
        f"{row.measured.mean:.4g} s",
        *("-" if error is None else f"{error:+.1%}" for error in (row.off_plan, row.error)),
    )


def _names(timelines: Sequence[Timeline], what: str) -> list[str]:
    """Names of all timelines, each once, kinds in the order of the field."""
    found = list(dict.fromkeys(name for timeline in timelines for name in getattr(timeline, what)))
    return sorted(found, key=lambda name: KINDS.index(name) if name in KINDS else len(KINDS))


def _has(timeline: Timeline, kind: str) -> bool:
    return kind in timeline.kinds and bool((timeline.kind == timeline.kinds.index(kind)).any())


def _total(spent: Sequence[Spent]) -> Spent:
    return Spent(sum(each.seconds for each in spent), sum(each.count for each in spent))


def _spent(timeline: Timeline, kinds: Sequence[str], nodes: Sequence[str]) -> dict[str, list[Spent]]:
    """By kind, and for waiting: what went into it at each node."""
    position = {name: i for i, name in enumerate(nodes)}
    node = np.array([position[name] for name in timeline.resources], dtype=np.int64)[timeline.resource]
    length = timeline.end - timeline.start
    found: dict[str, list[Spent]] = {}
    for kind in kinds:
        rows = timeline.kind == (timeline.kinds.index(kind) if kind in timeline.kinds else -1)
        seconds = np.bincount(node[rows], weights=length[rows], minlength=len(nodes))
        count = np.bincount(node[rows], minlength=len(nodes))
        found[kind] = [Spent(float(s), int(c)) for s, c in zip(seconds, count, strict=True)]
    idle = timeline.makespan - _covered(node, timeline.start, timeline.end, len(nodes))
    found[WAITING] = [Spent(max(0.0, float(seconds)), 1) for seconds in idle]
    return found


def _covered(
    node: NDArray[np.int64], start: NDArray[np.float64], end: NDArray[np.float64], nodes: int
) -> NDArray[np.float64]:
    """Seconds from 0 on in which each node does something, shape (nodes,); overlapping spans count once."""
    order = np.lexsort((end, start, node))
    covered = np.zeros(nodes)
    reach = np.zeros(nodes)
    for n, begin, finish in zip(node[order].tolist(), start[order].tolist(), end[order].tolist(), strict=True):
        covered[n] += max(0.0, finish - max(begin, reach[n]))
        reach[n] = max(reach[n], finish)
    return covered


def _messages(timeline: Timeline) -> Spent:
    """Gaps between consecutive tasks of a microbatch on different nodes; weight tasks and averaging send nothing."""
    kind = np.array([KINDS.index(name) if name in KINDS else -1 for name in timeline.kinds], dtype=np.int64)
    if not len(timeline):
        return Spent(0.0, 0)
    rows = timeline.rows(np.isin(kind[timeline.kind], (FORWARD, LOSS, BACKWARD)))
    if len(rows) < 2:
        return Spent(0.0, 0)
    # A microbatch that was lost and sent out again is another one here.
    attempt = rows.columns.get("attempt", np.zeros(len(rows), dtype=np.int64))
    order = np.lexsort((rows.start, _turn(rows, kind[rows.kind]), attempt, rows.item))
    before, after = order[:-1], order[1:]
    same = (rows.item[before] == rows.item[after]) & (attempt[before] == attempt[after])
    sent = same & (rows.resource[before] != rows.resource[after])
    gaps = (rows.start[after] - rows.end[before])[sent]
    return Spent(float(gaps.sum()), int(sent.sum()))


def _turn(rows: Timeline, kind: NDArray[np.int64]) -> NDArray[np.float64]:
    """When each task comes in its microbatch's life; clocks of nodes may differ by more than a message takes."""
    visit = rows.columns.get("visit")
    if visit is None or visit.dtype.kind not in "iu":
        return rows.start
    last = float(visit.max()) + 1.0
    return np.where(kind == FORWARD, visit, np.where(kind == LOSS, last, 2 * last - visit)).astype(np.float64)
