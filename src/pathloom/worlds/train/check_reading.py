"""What the checker reads: a plan of a training iteration as arrays of trusted shape and range."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Objective, Plan, Violation
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import (
    BACKWARD,
    FORWARD,
    KINDS,
    LOSS,
    SYNC,
    WEIGHT,
    Floats,
    Ints,
    TrainDecisions,
    TrainProblem,
)

TOLERANCE = 1e-6
"""Tolerance of times, as a share of the timetable's length."""

SHOWN = 1000
"""Most violations of one kind that are spelled out; the others are counted in one more."""

MOST = 2**31
"""Whole numbers of a plan are below this."""

Bools = NDArray[np.bool_]
Described = tuple[str, Iterable[str], Iterable[str]]


class Malformed(Exception):
    """The plan cannot be read."""


@dataclass(frozen=True)
class Reading:
    """A plan as arrays of trusted shape and range.

    Tasks of a microbatch have codes: forward of visit k is k, the loss K, backward of visit k is 2K-k, and the weight
    task of visit k, if there are any, 2K+1+k. `code` is -1 for spans that are no task of a microbatch. `row` (B, T) is
    the span of each task, -1 if it has none; `kind_of` and `visit_of` (T,) say what the codes stand for.
    """

    problem: TrainProblem
    value: float
    bound: float | None
    placement: Ints
    routes: Ints
    stages: Ints
    release: Floats
    after: Ints
    chunks: int
    timeline: Timeline
    node: Ints
    item: Ints
    kind: Ints
    stage: Ints
    start: Floats
    end: Floats
    sync: Bools
    code: Ints
    row: Ints
    kind_of: Ints
    visit_of: Ints
    tolerance: float

    def item_names(self, spans: Iterable[int]) -> list[str]:
        return [self.timeline.items[self.item[span]] for span in spans]

    def node_names(self, spans: Iterable[int]) -> list[str]:
        return [self.problem.nodes[self.node[span]] for span in spans]

    def task(self, code: int) -> str:
        kind = KINDS[self.kind_of[code]]
        return kind if self.visit_of[code] < 0 else f"{kind} of visit {self.visit_of[code]}"

    def span(self, span: int) -> str:
        """A span in words."""
        what = self.task(int(self.code[span])) if self.code[span] >= 0 else KINDS[self.kind[span]]
        where = f"{self.item_names([span])[0]} on {self.node_names([span])[0]}"
        return f"{what} of {where} ({self.start[span]:.6g} to {self.end[span]:.6g})"


def report(rule: str, positions: NDArray[Any], describe: Callable[[Any], Described]) -> list[Violation]:
    """One violation a position, the first `SHOWN` of them in full."""
    found = []
    for position in positions[:SHOWN]:
        message, items, resources = describe(position)
        found.append(Violation(rule, message, tuple(dict.fromkeys(items)), tuple(dict.fromkeys(resources))))
    if len(positions) > SHOWN:
        found.append(Violation(rule, f"and {len(positions) - SHOWN} more of this kind"))
    return found


def _shape(name: str, value: Any) -> tuple[int, ...]:
    try:
        return np.shape(value)
    except (TypeError, ValueError) as error:
        raise Malformed(f"{name} is no array: {error}") from None


def _array(name: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    found = _shape(name, value)
    if found != shape:
        raise Malformed(f"{name} has shape {found}, expected {shape}")
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise Malformed(f"{name} holds {array.dtype}, expected numbers")
    return array


def _ints(name: str, value: Any, shape: tuple[int, ...], low: int, high: int = MOST) -> Ints:
    """Whole numbers from `low` to below `high`."""
    array = _array(name, value, shape)
    if not np.isfinite(array).all() or (array != np.round(array)).any():
        raise Malformed(f"{name} holds values that are no whole numbers")
    outside = (array < low) | (array >= high)
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise Malformed(f"{name} holds {array[where]} at {where}, expected {low} to {high - 1}")
    return array.astype(np.int64)


def _floats(name: str, value: Any, shape: tuple[int, ...]) -> Floats:
    array = _array(name, value, shape).astype(np.float64)
    if not np.isfinite(array).all():
        raise Malformed(f"{name} holds values that are not finite")
    return array


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise Malformed(f"{name} is {value!r}, expected a whole number of at least 1")
    return int(value)


def _number(name: str, value: Any) -> float:
    """A number, finite or not."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise Malformed(f"{name} is {value!r}, expected a number")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def read(problem: TrainProblem, plan: Plan) -> Reading:
    decisions, timeline, objective = plan.decisions, plan.timeline, plan.objective
    for name, found, expected in (
        ("decisions", decisions, TrainDecisions),
        ("timeline", timeline, Timeline),
        ("objective", objective, Objective),
    ):
        if not isinstance(found, expected):
            raise Malformed(f"plan.{name} is a {type(found).__name__}, expected {expected.__name__}")
    value = _number("plan.objective.value", objective.value)
    bound = None if plan.bound is None else _number("plan.bound", plan.bound)
    b, n = problem.microbatches, problem.n_nodes
    chunks = _whole("decisions.chunks", decisions.chunks)
    shape = _shape("decisions.routes", decisions.routes)
    if len(shape) != 2 or shape[0] != b or shape[1] < 1:
        raise Malformed(f"decisions.routes has shape {shape}, expected ({b}, {problem.route_length * chunks})")
    k = shape[1]
    routes = _ints("decisions.routes", decisions.routes, (b, k), 0, n)
    stages = _ints("decisions.stages", decisions.stages, (b, k), 0, problem.n_stages * chunks)
    placement = _ints("decisions.placement", decisions.placement, (n,), 0, problem.n_stages)
    release = np.zeros(b) if decisions.release is None else _floats("decisions.release", decisions.release, (b,))
    after = np.full(b, -1) if decisions.after is None else _ints("decisions.after", decisions.after, (b,), -1, b)

    # A Timeline validates itself when it is made, but its arrays can be written to afterwards.
    if tuple(timeline.resources) != tuple(problem.nodes):
        raise Malformed("the timeline's resources are not the problem's nodes")
    if tuple(timeline.kinds) != KINDS:
        raise Malformed(f"the timeline's kinds are {timeline.kinds}, expected {KINDS}")
    if tuple(timeline.items[:b]) != tuple(f"mb{i}" for i in range(b)):
        raise Malformed(f"the timeline's items do not begin with mb0 to mb{b - 1}")
    if timeline.unit != "s":
        raise Malformed(f"the timeline's unit is {timeline.unit!r}, expected 's'")
    for name in ("stage", "visit"):
        if name not in timeline.columns:
            raise Malformed(f"the timeline has no column '{name}'")
    rows = _shape("timeline.start", timeline.start)
    if len(rows) != 1:
        raise Malformed(f"timeline.start has shape {rows}, expected one dimension")
    node = _ints("timeline.resource", timeline.resource, rows, 0, n)
    item = _ints("timeline.item", timeline.item, rows, 0, len(timeline.items))
    kind = _ints("timeline.kind", timeline.kind, rows, 0, len(KINDS))
    stage = _ints("timeline column 'stage'", timeline.columns["stage"], rows, -1)
    visit = _ints("timeline column 'visit'", timeline.columns["visit"], rows, -1)
    start = _floats("timeline.start", timeline.start, rows)
    end = _floats("timeline.end", timeline.end, rows)
    if (end < start).any():
        raise Malformed("a span of the timeline ends before it starts")

    is_sync_item = np.array([name == "sync" for name in timeline.items])
    is_sync_item[:b] = False
    sync = is_sync_item[item] & (kind == SYNC) & (problem.sync_latency is not None)
    order = np.arange(k)
    backwards = order[::-1]
    kind_of = np.repeat([FORWARD, LOSS, BACKWARD], [k, 1, k])
    visit_of = np.concatenate([order, [-1], backwards])
    if decisions.split_backward:
        kind_of = np.concatenate([kind_of, np.full(k, WEIGHT)])
        visit_of = np.concatenate([visit_of, order])
    base, slope = np.array([0, k, 2 * k, 2 * k + 1, 0]), np.array([1, 0, -1, 1, 0])
    known = np.where(kind == LOSS, visit == -1, (visit >= 0) & (visit < k)) & (item < b) & (kind != SYNC)
    known &= (kind != WEIGHT) | bool(decisions.split_backward)
    code = np.where(known, base[kind] + slope[kind] * visit, -1)
    row = np.full((b, len(kind_of)), -1)
    spans = np.flatnonzero(known)[::-1]  # of several spans of a task the first one counts
    row[item[spans], code[spans]] = spans
    length = max(np.abs(start).max(initial=0.0), np.abs(end).max(initial=0.0))
    return Reading(
        problem=problem,
        value=value,
        bound=bound,
        placement=placement,
        routes=routes,
        stages=stages,
        release=release,
        after=after,
        chunks=chunks,
        timeline=timeline,
        node=node,
        item=item,
        kind=kind,
        stage=stage,
        start=start,
        end=end,
        sync=sync,
        code=code,
        row=row,
        kind_of=kind_of,
        visit_of=visit_of,
        tolerance=TOLERANCE * float(length),
    )
