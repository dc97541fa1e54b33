"""The checker's timetable rules, as `pathloom.worlds.train.check` documents them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pathloom.plan import Violation
from pathloom.worlds.train.check_reading import Described, Reading, report
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, WEIGHT


def completeness(r: Reading) -> list[Violation]:
    k = r.routes.shape[1]
    known = r.code >= 0
    times = np.zeros(r.row.shape, dtype=np.int64)
    np.add.at(times, (r.item[known], r.code[known]), 1)
    found = report(
        "completeness",
        np.argwhere(times != 1),
        lambda at: (
            f"{r.task(at[1])} of mb{at[0]} has {times[at[0], at[1]]} spans, expected 1",
            [f"mb{at[0]}"],
            [r.problem.nodes[r.routes[at[0], max(r.visit_of[at[1]], 0)]]],
        ),
    )
    found += report(
        "completeness",
        np.flatnonzero(~known & ~r.sync),
        lambda i: (f"{r.span(i)} is no task of the problem", r.item_names([i]), r.node_names([i])),
    )
    spans = np.flatnonzero(known)
    visit = np.maximum(r.visit_of[r.code[spans]], 0)
    at_source = np.isin(r.code[spans], (k, 2 * k))  # where these two belong is CC-a's question
    away = ~at_source & (r.node[spans] != r.routes[r.item[spans], visit])
    found += report(
        "completeness",
        spans[away],
        lambda i: (
            f"{r.span(i)} belongs on {_routed(r, i)}",
            r.item_names([i]),
            [*r.node_names([i]), _routed(r, i)],
        ),
    )
    return found + report(
        "completeness",
        spans[r.stage[spans] != r.stages[r.item[spans], visit]],
        lambda i: (
            f"{r.span(i)} is labelled stage {r.stage[i]}, its route says "
            f"{r.stages[r.item[i], max(r.visit_of[r.code[i]], 0)]}",
            r.item_names([i]),
            r.node_names([i]),
        ),
    )


def _routed(r: Reading, span: int) -> str:
    """Name of the node to which the route takes the task of a span."""
    return r.problem.nodes[int(r.routes[r.item[span], max(r.visit_of[r.code[span]], 0)])]


def durations(r: Reading) -> list[Violation]:
    problem = r.problem
    split = len(r.kind_of) > 2 * r.routes.shape[1] + 1
    spans = np.flatnonzero(r.code >= 0)
    node, kind = r.node[spans], r.kind[spans]
    stage = r.stages[r.item[spans], np.maximum(r.visit_of[r.code[spans]], 0)] % problem.n_stages
    forward, weight = problem.forward[node, stage], problem.weight[node, stage]
    backward = problem.backward[node, stage] - (weight if split else 0.0)
    work = np.select([kind == FORWARD, kind == BACKWARD, kind == WEIGHT], [forward, backward, weight]) / r.chunks
    expected = np.where(kind == LOSS, problem.loss[node], work)
    wrong = np.flatnonzero(~(np.abs(r.end[spans] - r.start[spans] - expected) <= r.tolerance))

    def describe(at: int) -> Described:
        i = int(spans[at])
        message = f"{r.span(i)} lasts {r.end[i] - r.start[i]:.6g} s, expected {expected[at]:.6g} s"
        return message, r.item_names([i]), r.node_names([i])

    return report("duration", wrong, describe)


def messages(r: Reading) -> list[Violation]:
    chain = r.row[:, : 2 * r.routes.shape[1] + 1]
    has = (chain[:, :-1] >= 0) & (chain[:, 1:] >= 0)
    before, then = chain[:, :-1][has], chain[:, 1:][has]
    a, b = r.node[before], r.node[then]
    message = np.where(a == b, 0.0, r.problem.link[a, b])
    pause = r.start[then] - r.end[before]
    early = pause < -r.tolerance
    late = ~early & (pause < message - r.tolerance) | np.isinf(message)

    def turned(at: int) -> Described:
        i, j = int(before[at]), int(then[at])
        return f"{r.span(j)} starts before {r.span(i)} ends", r.item_names([i]), r.node_names([i, j])

    def missed(at: int) -> Described:
        i, j = int(before[at]), int(then[at])
        if np.isinf(message[at]):
            text = f"there is no link for the message from {r.span(i)} to {r.span(j)}"
        else:
            text = f"{r.span(j)} starts before the message of {message[at]:.6g} s from {r.span(i)} arrives"
        return text, r.item_names([i]), r.node_names([i, j])

    return report("precedence", np.flatnonzero(early), turned) + report("link", np.flatnonzero(late), missed)


def weights(r: Reading) -> list[Violation]:
    k = r.routes.shape[1]
    weight = r.row[:, 2 * k + 1 :]
    backward = r.row[:, 2 * k : k : -1][:, : weight.shape[1]]
    has = (weight >= 0) & (backward >= 0)
    weight, backward = weight[has], backward[has]
    early = np.flatnonzero(r.start[weight] < r.end[backward] - r.tolerance)
    return report(
        "weight",
        early,
        lambda at: (
            f"{r.span(int(weight[at]))} starts before {r.span(int(backward[at]))} ends",
            r.item_names([int(weight[at])]),
            r.node_names([int(weight[at]), int(backward[at])]),
        ),
    )


def collisions(r: Reading) -> list[Violation]:
    spans = np.flatnonzero(~r.sync)
    node, start = r.node[spans], r.start[spans]
    free = r.end[spans] + np.where(r.code[spans] == 0, r.problem.injection_gap, r.problem.gap)
    order = np.lexsort((free, start, node))
    # Each span is held against the one before it on its node that keeps the node busy longest. Ranks of `free` are
    # whole numbers, so a running maximum over (node, rank) finds that span for all nodes at once, without rounding.
    n = len(spans)
    by_free = np.argsort(free, kind="stable")
    rank = np.empty(n, dtype=np.int64)
    rank[by_free] = np.arange(n)
    busiest = np.maximum.accumulate(node[order] * n + rank[order])
    earlier, later = by_free[busiest[:-1] % n] if n else order, order[1:]
    hit = (node[earlier] == node[later]) & (start[later] < free[earlier] - r.tolerance)
    earlier, later = spans[earlier[hit]], spans[later[hit]]

    def describe(at: int) -> Described:
        i, j = int(earlier[at]), int(later[at])
        overlap = "overlaps" if r.start[j] < r.end[i] - r.tolerance else "starts in the rest after"
        return f"{r.span(j)} {overlap} {r.span(i)}", r.item_names([i, j]), r.node_names([i])

    return report("TC2", np.arange(len(later)), describe)


def memory(r: Reading) -> list[Violation]:
    k = r.routes.shape[1]
    taken = r.row[:, :k]
    freed = r.row[:, 2 * k + 1 :] if r.row.shape[1] > 2 * k + 1 else r.row[:, 2 * k : k : -1]
    has = (taken >= 0) & (freed >= 0)
    spans, until = taken[has], r.end[freed[has]] - r.tolerance
    held = until > r.start[spans]
    spans, until = spans[held], until[held]
    node = np.concatenate([r.node[spans], r.node[spans]])
    time = np.concatenate([r.start[spans], until])
    change = np.repeat([1, -1], len(spans))
    order = np.lexsort((change, time, node))
    # every slot that is taken is freed on the same node, so the running sum is 0 wherever a node's part begins
    level = np.cumsum(change[order])
    slots = r.problem.memory * r.chunks
    over = level > slots[node[order]]
    full, first = np.unique(node[order][over], return_index=True)
    moments = time[order][over][first]

    def describe(at: int) -> Described:
        n, moment = int(full[at]), float(moments[at])
        holding = spans[(r.node[spans] == n) & (r.start[spans] <= moment) & (until > moment)]
        name = r.problem.nodes[n]
        message = f"{name} holds {len(holding)} activations at {moment:.6g} s and has {slots[n]} slots"
        return message, r.item_names(holding), [name]

    return report("memory", np.arange(len(full)), describe)


def injections(r: Reading) -> list[Violation]:
    k = r.routes.shape[1]
    first, last = r.row[:, 0], r.row[:, 2 * k]
    has = np.flatnonzero(first >= 0)
    earliest = np.maximum(r.release, 0.0)
    found = report(
        "release",
        has[r.start[first[has]] < earliest[has] - r.tolerance],
        lambda b: (
            f"{r.span(first[b])} starts before its release at {earliest[b]:.6g} s",
            [f"mb{b}"],
            r.node_names([first[b]]),
        ),
    )
    waits = has[r.after[has] >= 0]
    waits = waits[last[r.after[waits]] >= 0]
    return found + report(
        "after",
        waits[r.start[first[waits]] < r.end[last[r.after[waits]]] - r.tolerance],
        lambda b: (
            f"{r.span(first[b])} starts before mb{r.after[b]} has returned at {r.end[last[r.after[b]]]:.6g} s",
            [f"mb{b}", f"mb{r.after[b]}"],
            r.node_names([first[b], last[r.after[b]]]),
        ),
    )


def synchronisation(r: Reading) -> list[Violation]:
    problem, nodes = r.problem, r.problem.nodes
    if problem.sync_latency is None or problem.sync_seconds is None:
        return []
    spans = np.flatnonzero(r.sync)
    times = np.bincount(r.node[spans], minlength=problem.n_nodes)
    found = report(
        "sync",
        np.flatnonzero(times != 1),
        lambda i: (f"{nodes[i]} has {times[i]} synchronisation spans, expected 1", ["sync"], [nodes[i]]),
    )
    done, length = np.zeros(problem.n_stages), np.zeros(problem.n_stages)
    work = ~r.sync
    np.maximum.at(done, r.placement[r.node[work]], r.end[work])
    for p in range(problem.n_stages):
        members = np.flatnonzero(r.placement == p)
        pair = np.ix_(members, members)
        exchange = 2.0 * (problem.sync_latency[pair] + problem.sync_seconds[pair] / max(len(members), 1))
        exchange[np.arange(len(members)), np.arange(len(members))] = 0.0
        length[p] = exchange.sum(axis=1).max(initial=0.0)
    stage = r.placement[r.node[spans]]
    lasts = r.end[spans] - r.start[spans]

    def told(text: Callable[[int], str]) -> Callable[[int], Described]:
        return lambda i: (f"{r.span(i)} {text(int(r.placement[r.node[i]]))}", ["sync"], r.node_names([i]))

    for wrong, text in (
        (r.start[spans] < done[stage] - r.tolerance, lambda p: f"starts before stage {p} is done at {done[p]:.6g} s"),
        (
            ~(np.abs(lasts - length[stage]) <= r.tolerance),
            lambda p: f"does not last the {length[p]:.6g} s of stage {p}'s all-reduce",
        ),
        (r.stage[spans] != stage, lambda p: f"is not labelled with its node's stage {p}"),
    ):
        found += report("sync", spans[wrong], told(text))
    return found


def objective(r: Reading) -> list[Violation]:
    value, latest = r.value, float(r.end.max()) if len(r.end) else 0.0
    found = []
    if not np.isfinite(value):
        found.append(Violation("objective", f"the objective is {value}"))
    elif abs(value - latest) > r.tolerance:
        ends = np.flatnonzero(r.end == latest)[:1]
        message = f"the objective is {value:.9g} s, the last span ends at {latest:.9g} s"
        found.append(Violation("objective", message, tuple(r.item_names(ends)), tuple(r.node_names(ends))))
    if r.bound is not None and not r.bound <= value + r.tolerance and np.isfinite(value):
        message = f"the bound is {r.bound:.9g} s, expected no more than the objective of {value:.9g} s"
        found.append(Violation("objective", message))
    return found
