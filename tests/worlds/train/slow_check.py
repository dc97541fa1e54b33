"""The checker's slow twin: the rules of a readable training plan, one plain loop each."""

from __future__ import annotations

import math
from itertools import pairwise

from pathloom.plan import Plan
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, SYNC, WEIGHT, TrainDecisions, TrainProblem


def broken_rules(problem: TrainProblem, plan: Plan) -> set[str]:
    """Names of the rules that a plan breaks; the plan must not be malformed."""
    return _of_routes(problem, plan.decisions) | _of_timetable(problem, plan)


def _of_routes(problem: TrainProblem, d: TrainDecisions) -> set[str]:
    broken = set()
    s = problem.n_stages
    for route, stages in zip(d.routes.tolist(), d.stages.tolist()):
        if stages[0] != 0:
            broken.add("CC-a")
        if len(stages) != problem.route_length * d.chunks:
            broken.add("CC-b")
        if any(stages.count(p) > 1 for p in stages):
            broken.add("CC-b")
        if d.chunks > 1 and stages != sorted(stages):
            broken.add("CC-c")
        if d.chunks == 1:
            distances = [max(stages[:k]) - stages[k] for k in range(1, len(stages)) if stages[k] < max(stages[:k])]
            jumps = [stages[k] - max(stages[:k]) for k in range(1, len(stages))]
            if any(x > problem.reordering.distance for x in distances):
                broken.add("CC-c")
            if len(distances) > problem.reordering.swaps or sum(distances) > problem.reordering.total:
                broken.add("CC-c")
            if any(jump > problem.reordering.jump for jump in jumps):
                broken.add("CC-d")
        if any(d.placement[n] != p % s for n, p in zip(route, stages)):
            broken.add("placement")
    for p in range(s):
        if list(d.placement).count(p) != problem.stage_sizes[p]:
            broken.add("placement")
        if sum(p in {q % s for q in stages} for stages in d.stages.tolist()) > problem.stage_cap[p]:
            broken.add("TC1-stage")
    for n in range(problem.n_nodes):
        if problem.placement is not None and d.placement[n] != problem.placement[n]:
            broken.add("placement")
        if sum(route[0] == n for route in d.routes.tolist()) > problem.source_cap:
            broken.add("TC1-source")
        if d.placement[n] != 0 and sum(n in route for route in d.routes.tolist()) > problem.node_cap[n]:
            broken.add("TC1-node")
    return broken


def _of_timetable(problem: TrainProblem, plan: Plan) -> set[str]:
    broken = set()
    d: TrainDecisions = plan.decisions
    table = plan.timeline
    s, k = problem.n_stages, d.routes.shape[1]
    tolerance = 1e-6 * max(max(abs(t) for t in (*table.start, *table.end)), 0.0)
    spans = [
        (table.items[item], int(kind), int(visit), int(node), float(start), float(end), int(stage))
        for item, kind, visit, node, start, end, stage in zip(
            table.item,
            table.kind,
            table.columns["visit"],
            table.resource,
            table.start,
            table.end,
            table.columns["stage"],
        )
    ]
    syncs = [x for x in spans if problem.sync_latency is not None and x[0] == "sync" and x[1] == SYNC]
    work = [x for x in spans if x not in syncs]
    chain = [(FORWARD, v) for v in range(k)] + [(LOSS, -1)] + [(BACKWARD, v) for v in range(k - 1, -1, -1)]
    weights = [(WEIGHT, v) for v in range(k)] if d.split_backward else []
    expected = {(f"mb{b}", *step) for b in range(problem.microbatches) for step in chain + weights}
    found: dict[tuple[str, int, int], tuple[int, float, float]] = {}
    for item, kind, visit, node, start, end, stage in work:
        key = (item, kind, visit)
        if key not in expected or key in found:
            broken.add("completeness")
        if key not in expected:
            continue
        found.setdefault(key, (node, start, end))
        b, v = int(item[2:]), max(visit, 0)
        home, routed = int(d.routes[b, v]), int(d.stages[b, v])
        if stage != routed:
            broken.add("completeness")
        if node != home:
            broken.add("CC-a" if kind == LOSS or (kind == BACKWARD and visit == 0) else "completeness")
        backward = problem.backward[node, routed % s] - (problem.weight[node, routed % s] if d.split_backward else 0.0)
        lasts = {
            FORWARD: problem.forward[node, routed % s] / d.chunks,
            LOSS: problem.loss[node],
            BACKWARD: backward / d.chunks,
            WEIGHT: problem.weight[node, routed % s] / d.chunks,
        }[kind]
        if abs(end - start - lasts) > tolerance:
            broken.add("duration")
    if expected - found.keys():
        broken.add("completeness")

    for b in range(problem.microbatches):
        name = f"mb{b}"
        for before, then in pairwise(chain):
            if (name, *before) in found and (name, *then) in found:
                i, _, ended = found[name, *before]
                j, started, _ = found[name, *then]
                message = 0.0 if i == j else float(problem.link[i, j])
                if started < ended - tolerance:
                    broken.add("precedence")
                elif started < ended + message - tolerance:
                    broken.add("link")
                if math.isinf(message):
                    broken.add("link")
        for _, v in weights:
            late, back = found.get((name, WEIGHT, v)), found.get((name, BACKWARD, v))
            if late and back and late[1] < back[2] - tolerance:
                broken.add("weight")
        first = found.get((name, FORWARD, 0))
        if first:
            if first[1] < max(0.0, 0.0 if d.release is None else float(d.release[b])) - tolerance:
                broken.add("release")
            if d.after is not None and d.after[b] >= 0:
                last = found.get((f"mb{d.after[b]}", BACKWARD, 0))
                if last and first[1] < last[2] - tolerance:
                    broken.add("after")

    uses = []
    for item, kind, visit, node, start, end, _ in work:
        injected = (item, kind, visit) in expected and (kind, visit) == (FORWARD, 0)
        uses.append((node, start, end + (problem.injection_gap if injected else problem.gap)))
    uses.sort()
    for x, (node, _, free) in enumerate(uses):
        if any(other == node and start < free - tolerance for other, start, _ in uses[x + 1 :]):
            broken.add("TC2")

    freeing = WEIGHT if d.split_backward else BACKWARD
    for n in range(problem.n_nodes):
        held = [
            (start, found[item, freeing, visit][2])
            for (item, kind, visit), (node, start, _) in found.items()
            if kind == FORWARD and node == n and (item, freeing, visit) in found
        ]
        for moment, _ in held:
            if sum(a <= moment < z - tolerance for a, z in held) > problem.memory[n] * d.chunks:
                broken.add("memory")

    if problem.sync_latency is not None and problem.sync_seconds is not None:
        for n in range(problem.n_nodes):
            members = [i for i in range(problem.n_nodes) if d.placement[i] == d.placement[n]]
            done = max([0.0] + [x[5] for x in work if x[3] in members])
            length = max(
                sum(
                    2 * (problem.sync_latency[i, j] + problem.sync_seconds[i, j] / len(members))
                    for j in members
                    if j != i
                )
                for i in members
            )
            mine = [x for x in syncs if x[3] == n]
            if len(mine) != 1:
                broken.add("sync")
            for _, _, _, _, start, end, stage in mine:
                if start < done - tolerance or abs(end - start - length) > tolerance or stage != d.placement[n]:
                    broken.add("sync")

    value, latest = plan.objective.value, max(x[5] for x in spans)
    if not math.isfinite(value) or abs(value - latest) > tolerance:
        broken.add("objective")
    if plan.bound is not None and math.isfinite(value) and not plan.bound <= value + tolerance:
        broken.add("objective")
    return broken
