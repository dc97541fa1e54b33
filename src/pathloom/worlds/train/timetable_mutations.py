"""Mutations of a plan's timetable and of what it says of itself. See `pathloom.worlds.train.mutate`."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Objective, Plan
from pathloom.timeline import Timeline
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, SYNC, WEIGHT, TrainDecisions, TrainProblem
from pathloom.worlds.train.route_mutations import Mutant

Edge = tuple[int, int, float, str]
"""Span, later span, least seconds from start to start, and the rule that asks for them."""


class Sheet:
    """The spans of a plan, open for changes; `plan` closes it."""

    def __init__(self, problem: TrainProblem, plan: Plan) -> None:
        timeline = plan.timeline
        self.problem, self.source, self.items = problem, plan, timeline.items
        self.decisions: TrainDecisions = plan.decisions
        self.node, self.item, self.kind = timeline.resource.copy(), timeline.item.copy(), timeline.kind.copy()
        self.start, self.end = timeline.start.copy(), timeline.end.copy()
        self.columns: dict[str, NDArray[Any]] = {name: column.copy() for name, column in timeline.columns.items()}
        self.margin = 1e-4 * timeline.makespan  # a mutation must exceed any checker's tolerance

    def tasks(self) -> dict[tuple[int, int, int], int]:
        """Span of each task by (microbatch, kind, visit)."""
        rows = zip(self.item.tolist(), self.kind.tolist(), self.columns["visit"].tolist())
        return {key: row for row, key in enumerate(rows) if key[1] != SYNC}

    def rest(self, row: int) -> float:
        """Seconds that the node rests after a span."""
        injected = self.kind[row] == FORWARD and self.columns["visit"][row] == 0
        return self.problem.injection_gap if injected else self.problem.gap

    def chain(self, m: int) -> list[int]:
        """Spans of a microbatch's tasks in their order, weight tasks left out."""
        task, k = self.tasks(), self.decisions.routes.shape[1]
        steps = [(FORWARD, v) for v in range(k)] + [(LOSS, -1)] + [(BACKWARD, v) for v in range(k - 1, -1, -1)]
        return [task[m, kind, visit] for kind, visit in steps]

    def insert_idle(self, at: float, seconds: float) -> None:
        """Everything that starts at `at` or later starts `seconds` later. Breaks no rule of a valid timetable."""
        later = self.start >= at - 1e-9 * abs(at)
        self.start[later] += seconds
        self.end[later] += seconds

    def append(self, node: int, item: int, kind: int, start: float, end: float, stage: int, visit: int) -> None:
        """One more span."""
        self.node, self.item = np.append(self.node, node), np.append(self.item, item)
        self.kind = np.append(self.kind, kind)
        self.start, self.end = np.append(self.start, start), np.append(self.end, end)
        for name, value in (("stage", stage), ("visit", visit)):
            self.columns[name] = np.append(self.columns[name], value)

    def remove(self, row: int) -> None:
        """One span less."""
        for name in ("node", "item", "kind", "start", "end"):
            setattr(self, name, np.delete(getattr(self, name), row))
        self.columns = {name: np.delete(column, row) for name, column in self.columns.items()}

    def postpone_sync(self) -> None:
        """Synchronisation spans wait for whatever their stages do now."""
        stage = self.decisions.placement[self.node]
        for row in np.flatnonzero(self.kind == SYNC):
            done = self.end[(self.kind != SYNC) & (stage == stage[row])].max(initial=0.0)
            late = max(done - self.start[row], 0.0)
            self.start[row] += late
            self.end[row] += late

    def edges(self) -> list[Edge]:
        """What the order of work asks for, if every node keeps it; the order settles the memory of each node, too."""
        found: list[Edge] = []
        task, length = self.tasks(), self.end - self.start
        for m in range(len(self.decisions.routes)):
            chain = self.chain(m)
            for i, j in pairwise(chain):
                same = self.node[i] == self.node[j]
                link = 0.0 if same else float(self.problem.link[self.node[i], self.node[j]])
                found.append((i, j, float(length[i]) + link, "link"))
            if self.decisions.after is not None and self.decisions.after[m] >= 0:
                i = task[int(self.decisions.after[m]), BACKWARD, 0]
                found.append((i, chain[0], float(length[i]), "after"))
        for (m, kind, visit), j in task.items():
            if kind == WEIGHT:
                i = task[m, BACKWARD, visit]
                found.append((i, j, float(length[i]), "weight"))
        work = np.flatnonzero(self.kind != SYNC)
        order = work[np.lexsort((self.end[work], self.start[work], self.node[work]))].tolist()
        for i, j in pairwise(order):
            if self.node[i] == self.node[j]:
                found.append((i, j, float(length[i]) + self.rest(i), "TC2"))
        return found

    def break_edge(self, edge: Edge, by: float, edges: list[Edge]) -> bool:
        """Postpone the first span of an edge until the edge is `by` seconds short, and all that depends on it.

        Returns False if the later span depends on the first one in another way, so that the edge cannot be broken.
        """
        first, second, least, _ = edge
        length = self.end - self.start
        start = self.start.copy()
        start[first] = start[second] - least + by
        after: dict[int, list[tuple[int, float]]] = {}
        for other in edges:
            if other != edge:
                after.setdefault(other[0], []).append((other[1], other[2]))
        for row in np.lexsort((self.end, self.start)).tolist():
            if start[row] != self.start[row]:
                for j, seconds in after.get(row, ()):
                    start[j] = max(start[j], start[row] + seconds)
        if start[second] > start[first] + least - self.margin - 0.5 * by:
            return False
        self.start, self.end = start, start + length
        return True

    def plan(self, postpone: bool = True) -> Plan:
        """The changed plan, its objective set to its new length."""
        if postpone:
            self.postpone_sync()
        old = self.source.timeline
        columns = (self.node, self.item, self.kind, self.start, self.end)
        timeline = Timeline(*columns, old.resources, self.items, old.kinds, old.unit, self.columns)
        value = replace(self.source.objective, value=timeline.makespan)
        return replace(self.source, timeline=timeline, objective=value, bound=None, bound_by=None)


def _pick(rng: np.random.Generator, rows: NDArray[Any] | list[int]) -> int | None:
    return int(rng.choice(rows)) if len(rows) else None


def _any_task(sheet: Sheet, rng: np.random.Generator) -> int:
    return int(rng.choice(np.flatnonzero(sheet.kind != SYNC)))


def message_outrun(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """link, precedence: a task starts before its message has arrived, or before the task before it ends."""
    sheet = Sheet(problem, plan)
    edges = sheet.edges()
    apart = [e for e in edges if e[3] == "link" and sheet.node[e[0]] != sheet.node[e[1]]]
    if not apart:
        return None
    edge = apart[rng.integers(len(apart))]
    length = float(sheet.end[edge[0]] - sheet.start[edge[0]])
    link, share = edge[2] - length, float(rng.uniform(0.2, 0.9))
    by = share * link if rule == "link" else link + share * length
    if min(link if rule == "link" else length, by) < 20 * sheet.margin or not sheet.break_edge(edge, by, edges):
        return None
    return sheet.plan(), f"span {edge[1]} starts {by:.3g} s before span {edge[0]}'s message arrives", True


def collision(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """TC2: a task starts before the one before it on its node has ended, or in the rest after that."""
    sheet = Sheet(problem, plan)
    edges = sheet.edges()
    pairs = [e for e in edges if e[3] == "TC2"]
    if not pairs:
        return None
    edge = pairs[rng.integers(len(pairs))]
    first, second, _, _ = edge
    rest = sheet.rest(first)
    by = float(rng.uniform(0.2, 0.9)) * rest
    frees = sheet.kind[first] == (WEIGHT if sheet.decisions.split_backward else BACKWARD)
    if rng.random() < 0.5 and not (frees and sheet.kind[second] == FORWARD):  # the slot's memory is left alone
        shorter = min(float(sheet.end[row] - sheet.start[row]) for row in (first, second))
        by = rest + float(rng.uniform(0.2, 0.9)) * shorter
    if by < 20 * sheet.margin or not sheet.break_edge(edge, by, edges):
        return None
    return sheet.plan(), f"span {second} starts {by:.3g} s before span {first} leaves its node", True


def weight_first(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """weight: a weight task is done before the backward pass that it belongs to."""
    sheet = Sheet(problem, plan)
    task = sheet.tasks()
    rows = [(row, task[key[0], BACKWARD, key[2]]) for key, row in task.items() if key[1] == WEIGHT]
    if not rows:
        return None
    weight, backward = rows[rng.integers(len(rows))]
    seconds = float(sheet.end[weight] - sheet.start[weight])
    if seconds < 20 * sheet.margin:
        return None
    hole = float(sheet.start[backward])
    sheet.insert_idle(hole, seconds + problem.gap)
    sheet.start[weight], sheet.end[weight] = hole, hole + seconds
    return sheet.plan(), f"weight task {weight} comes before its backward pass {backward}", True


def wrong_duration(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """duration: a task is shorter or longer than the problem says."""
    sheet = Sheet(problem, plan)
    row = _any_task(sheet, rng)
    by = float(rng.uniform(0.1, 0.9) * (sheet.end[row] - sheet.start[row]))
    if by < 2 * sheet.margin:
        return None
    if rng.random() < 0.5:
        sheet.end[row] -= by
        return sheet.plan(), f"span {row} is {by:.3g} s too short", True
    sheet.insert_idle(float(sheet.end[row]), by)
    sheet.end[row] += by
    return sheet.plan(), f"span {row} is {by:.3g} s too long", True


def lost_or_twice(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """completeness: a span is missing, there twice, or foreign; or its stage or visit is wrong."""
    sheet = Sheet(problem, plan)
    row = _any_task(sheet, rng)
    node, item, kind = int(sheet.node[row]), int(sheet.item[row]), int(sheet.kind[row])
    seconds = float(sheet.end[row] - sheet.start[row])
    stage, visit = (int(sheet.columns[name][row]) for name in ("stage", "visit"))
    rest = max(problem.gap, problem.injection_gap)
    free = float(sheet.end[(sheet.node == node) & (sheet.kind != SYNC)].max(initial=0.0)) + rest
    way = int(rng.integers(6))
    if way == 0:
        sheet.remove(row)
        return sheet.plan(), f"span {row} is missing", True
    if way == 1:
        sheet.append(node, item, kind, free, free + seconds, stage, visit)
        return sheet.plan(), f"span {row} is there twice", True
    if way == 2:
        sheet.items = (*sheet.items, "guest")
        sheet.append(node, len(sheet.items) - 1, kind, free, free + seconds, stage, visit)
        return sheet.plan(), "an unknown item uses a node", True
    if way == 3 and not sheet.decisions.split_backward:
        sheet.append(node, item, WEIGHT, free, free + seconds, stage, max(visit, 0))
        return sheet.plan(), "a weight task is there in a plan without any", True
    if way == 4:
        sheet.columns["stage"][row] = stage + 1
        return sheet.plan(), f"span {row} is labelled with another stage", True
    if way == 5 and kind != LOSS and (kind, visit) != (FORWARD, 0):  # the rest after it would change, too
        sheet.columns["visit"][row] = sheet.decisions.routes.shape[1]
        return sheet.plan(), f"span {row} is labelled with a visit that does not exist", True
    return None


def too_early(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """release: a microbatch starts before its release, or before time 0."""
    sheet = Sheet(problem, plan)
    if rng.random() < 0.3:
        by = float(sheet.start.min() + rng.uniform(0.1, 1.0))
        sheet.start -= by
        sheet.end -= by
        return sheet.plan(), "the iteration begins before time 0", True
    m = int(rng.integers(len(sheet.decisions.routes)))
    given = sheet.decisions.release
    release = np.zeros(len(sheet.decisions.routes)) if given is None else np.array(given, dtype=np.float64)
    release[m] = sheet.start[sheet.tasks()[m, FORWARD, 0]] + float(rng.uniform(0.01, 0.5)) * plan.timeline.makespan
    decisions = replace(sheet.decisions, release=release)
    return replace(plan, decisions=decisions), f"mb{m} starts before its release", True


def not_returned(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """after: a microbatch starts before the one that it waits for has returned."""
    sheet = Sheet(problem, plan)
    task, b = sheet.tasks(), len(sheet.decisions.routes)
    m, other = (int(rng.integers(b)) for _ in range(2))
    if m == other or sheet.end[task[other, BACKWARD, 0]] < sheet.start[task[m, FORWARD, 0]] + sheet.margin:
        return None
    given = sheet.decisions.after
    after = np.full(b, -1) if given is None else np.array(given, dtype=np.int64)
    after[m] = other
    return replace(plan, decisions=replace(sheet.decisions, after=after)), f"mb{m} does not wait for mb{other}", True


def bad_sync(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """sync: a synchronisation starts too early, lasts too long or too short, is missing, there twice or mislabelled."""
    sheet = Sheet(problem, plan)
    row = _pick(rng, np.flatnonzero(sheet.kind == SYNC))
    if row is None:
        return None
    stage = sheet.decisions.placement[sheet.node]
    done = float(sheet.end[(sheet.kind != SYNC) & (stage == stage[row])].max(initial=0.0))
    seconds, share = float(sheet.end[row] - sheet.start[row]), float(rng.uniform(0.1, 0.9))
    way = int(rng.integers(6))
    if way == 0 and done > 20 * sheet.margin:
        sheet.start[row] = done * (1.0 - 0.5 * share)
        sheet.end[row] = sheet.start[row] + seconds
        what = "starts before its stage is done"
    elif way == 1:
        sheet.end[row] += share * sheet.source.timeline.makespan
        what = "lasts too long"
    elif way == 2 and share * seconds > sheet.margin:
        sheet.end[row] -= share * seconds
        what = "lasts too short"
    elif way == 3:
        sheet.remove(row)
        what = "is missing"
    elif way == 4:
        start, item = float(sheet.end[row]), int(sheet.item[row])
        sheet.append(int(sheet.node[row]), item, SYNC, start, start + seconds, int(stage[row]), -1)
        what = "is there twice"
    elif way == 5:
        sheet.columns["stage"][row] = stage[row] + 1
        what = "is labelled with another stage"
    else:
        return None
    return sheet.plan(postpone=False), f"synchronisation span {row} {what}", True


def false_objective(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """objective: its value or its bound cannot be true."""
    value = plan.timeline.makespan
    off = float(rng.uniform(0.001, 0.5)) * value
    lies: list[tuple[float, float | None, str]] = [
        (value - off, None, "the objective is too low"),
        (value + off, None, "the objective is too high"),
        (float("nan"), None, "the objective is no number"),
        (float("inf"), None, "the objective is infinite"),
        (value, value + off, "the bound exceeds the objective"),
        (value, float("nan"), "the bound is no number"),
    ]
    lie, bound, what = lies[rng.integers(len(lies))]
    return replace(plan, objective=Objective(plan.objective.name, lie, "s"), bound=bound), what, True


def unreadable(problem: TrainProblem, plan: Plan, rule: str, rng: np.random.Generator) -> Mutant | None:
    """malformed: an array of the plan is missing, misshapen, out of range or not finite."""
    decisions, old = plan.decisions, plan.timeline
    b, k = decisions.routes.shape
    m, visit, row = int(rng.integers(b)), int(rng.integers(k)), int(rng.integers(len(old)))
    outside, beyond = decisions.routes.copy(), decisions.stages.copy()
    outside[m, visit] = problem.n_nodes
    beyond[m, visit] = -1
    stage = old.columns["stage"].astype(np.float64)
    stage[row] = np.nan
    broken_start = old.rows(np.arange(len(old)))
    broken_start.start[row] = np.nan  # behind the back of the timeline's own validation
    release = np.zeros(b)
    release[m] = np.nan
    ragged = [list(route) for route in decisions.routes]
    ragged[m] = [*ragged[m], 0]
    ways: list[tuple[str, Plan]] = [
        ("a node that does not exist", replace(plan, decisions=replace(decisions, routes=outside))),
        ("a stage that does not exist", replace(plan, decisions=replace(decisions, stages=beyond))),
        ("one route too few", replace(plan, decisions=replace(decisions, routes=decisions.routes[:-1]))),
        ("routes of unlike length", replace(plan, decisions=replace(decisions, routes=ragged))),
        ("stages turned", replace(plan, decisions=replace(decisions, stages=decisions.stages[:, :, None]))),
        ("a node without a stage", replace(plan, decisions=replace(decisions, placement=decisions.placement[1:]))),
        ("a release that is no number", replace(plan, decisions=replace(decisions, release=release))),
        ("a wait for nobody", replace(plan, decisions=replace(decisions, after=np.full(b, b)))),
        ("no chunks", replace(plan, decisions=replace(decisions, chunks=0))),
        ("no decisions", replace(plan, decisions=None)),
        ("no objective", replace(plan, objective=Objective("iteration time", "soon", "s"))),  # type: ignore[arg-type]
        ("a start that is no number", replace(plan, timeline=broken_start)),
        ("a stage that is no number", replace(plan, timeline=replace(old, columns={**old.columns, "stage": stage}))),
        ("no visits", replace(plan, timeline=replace(old, columns={"stage": old.columns["stage"]}))),
        ("other nodes", replace(plan, timeline=replace(old, resources=(*old.resources, "stranger")))),
        ("other kinds", replace(plan, timeline=replace(old, kinds=(*old.kinds, "coffee")))),
        ("other items", replace(plan, timeline=replace(old, items=tuple(f"job{i}" for i in range(len(old.items)))))),
    ]
    what, mutant = ways[rng.integers(len(ways))]
    return mutant, what, True
