"""Lower bounds on the iteration time, valid for every plan of an instance.

Five arguments, the strongest that applies wins:

critical path
    No microbatch returns sooner than along the cheapest route.
source slots
    A microbatch holds a memory slot of its source from its injection to its return, so a source of M slots gets through
    at most M microbatches in the time of one cheapest route; its first injections and last returns follow one another.
source shop (CP-SAT)
    The same source as a small re-entrant shop: forwards, losses and backwards share its machine, and microbatches are
    away between them for at least the cheapest way out and back (`source_shop`).
routes (linear program)
    Where the placement is fixed and its routes can be listed: how many microbatches take each route, such that slots
    and working time of every node and the caps of TC1 are kept within T; T is minimised.
cycles (linear program)
    The same where the placement is open: every set of nodes in every cyclic order may become a route, and a share of
    each node may act as a source; the smallest feasible T is found by bisection.

What a plan can gain by splitting the backward pass is left to it when ``split_backward`` is given.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import combinations, permutations, product
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import stop_requested
from pathloom.worlds.train.problem import Floats, Ints, TrainProblem
from pathloom.worlds.train.routes import admissible_orders, stage_orders
from pathloom.worlds.train.simulator import sync_seconds
from pathloom.worlds.train.source_shop import SourceShop, shop_bound

MOST_ROUTES = 60_000
MOST_CYCLES = 150_000
MOST_JOBS = 60  # microbatches of one source up to which its shop is worth its time
MANY_NODES = 150  # above this, an open placement's cycles are bounded by location
SAFETY = 1e-6  # relative amount by which a bound from floating-point arithmetic is lowered


@dataclass(frozen=True)
class LowerBound:
    """A proven lower bound in seconds, and the argument that gave it."""

    value: float
    by: str


@dataclass(frozen=True)
class _Work:
    """Times of the problem that a bound may count on: `hold` is backward as far as it delays the way back."""

    forward: Floats
    hold: Floats
    total: Floats


def _work(problem: TrainProblem, split_backward: bool) -> _Work:
    hold = problem.backward - problem.weight if split_backward else problem.backward
    return _Work(np.asarray(problem.forward), np.asarray(hold), np.asarray(problem.backward))


def lower_bound(problem: TrainProblem, *, time_limit: float = 10.0, split_backward: bool = False) -> LowerBound:
    """The best of the bounds that can be computed within about `time_limit` seconds.

    Parameters
    ----------
    split_backward
        The bound also holds for plans that postpone weight gradients (`TrainDecisions.split_backward`).

    Returns
    -------
    LowerBound
        Its value is infinite where the argument proves that there is no plan at all.
    """
    began = time.perf_counter()
    work = _work(problem, split_backward)
    found = [_slots_bound(problem, work)]
    found.append(_shop_bound(problem, work, 0.5 * time_limit))
    if found[0].value == np.inf:
        return found[0]
    if problem.placement is None:
        k, n = problem.route_length, problem.n_nodes
        n_cycles = comb(n, k) * max(1, factorial(k - 1) // 2) * k if k >= 3 else comb(n, k) * k
        if n_cycles <= MOST_CYCLES:
            found.append(_cycle_bound(problem, work, found[0].value, began + time_limit))
    else:
        placement = np.asarray(problem.placement)
        routes = _all_routes(problem, placement)
        if routes is not None:
            found.append(_route_bound(problem, placement, work, *routes))
    best = max(found, key=lambda bound: bound.value)
    return LowerBound(best.value * (1.0 - SAFETY), best.by)


# --- source slots -----------------------------------------------------------------------------------------------------


def _cheapest_cycles(problem: TrainProblem, work: _Work, both: Floats) -> Floats:
    """For each node a lower bound on the cost of a route that starts there, shape (N,); infinite if it cannot.

    `both` is the cost of a hop: there and back, or one way only.
    """
    n, k = problem.n_nodes, problem.route_length
    may_start = np.ones(n, dtype=bool)
    if problem.placement is not None:
        try:
            return _cheapest_routes(problem, np.asarray(problem.placement), work, both)
        except ValueError:  # a reordering budget too wide to work with: any walk over the nodes is let through
            may_start = np.asarray(problem.placement) == 0
    least = (work.forward + work.hold).min(axis=1)
    at_home = work.forward[:, 0] + work.hold[:, 0] + problem.loss
    if k == 1:
        return np.where(may_start, at_home, np.inf)
    off = both.copy()
    np.fill_diagonal(off, np.inf)
    place = np.arange(n)
    if n > MANY_NODES:  # nodes of one location count as one that has the best of each
        _, place = np.unique(np.array(problem.locations), return_inverse=True)
        off, least = _merged(off, least, place)
    # relaxed walks: k - 1 further nodes, none directly after itself
    by_place = np.empty(len(least))
    for s in range(len(least)):
        way = off[s] + least
        if n <= MANY_NODES:
            way[s] = np.inf
        for _ in range(k - 2):
            way = (way[:, None] + off).min(axis=0) + least
            if n <= MANY_NODES:
                way[s] = np.inf
        by_place[s] = float((way + off[:, s]).min())
    return np.where(may_start, at_home + by_place[place], np.inf)


def _merged(off: Floats, least: Floats, place: Ints) -> tuple[Floats, Floats]:
    """Smallest link between two places, or within one, and smallest work at each."""
    size = int(place.max()) + 1
    links, work = np.full((size, size), np.inf), np.full(size, np.inf)
    np.minimum.at(links, (place[:, None], place[None, :]), off)
    np.minimum.at(work, place, least)
    return links, work


def _cheapest_routes(problem: TrainProblem, placement: Ints, work: _Work, both: Floats) -> Floats:
    """Cost of the cheapest route from each source under a fixed placement (shortest path over the order automaton)."""
    orders = admissible_orders(problem.n_stages, problem.route_length, problem.reordering)
    members = [np.flatnonzero(placement == p) for p in range(problem.n_stages)]
    here = np.full(problem.n_nodes, np.inf)
    n_states = len(orders.stage)
    if n_states == 0:
        return here
    for s in members[0]:
        reach: list[Floats] = [np.zeros(0)] * n_states
        reach[0] = np.array([work.forward[s, 0] + work.hold[s, 0] + problem.loss[s]])
        for q in range(1, n_states):
            p = int(orders.stage[q])
            nodes = members[p]
            best = np.full(len(nodes), np.inf)
            for b in orders.before[orders.into[q] : orders.into[q + 1]]:
                came = np.array([s]) if b == 0 else members[int(orders.stage[b])]
                best = np.minimum(best, (reach[b][:, None] + both[np.ix_(came, nodes)]).min(axis=0))
            reach[q] = best + work.forward[nodes, p] + work.hold[nodes, p]
        for q in range(orders.final, n_states):
            last = np.array([s]) if q == 0 else members[int(orders.stage[q])]
            back = 0.0 if q == 0 else both[last, s]
            here[s] = min(here[s], float((reach[q] + back).min()))
    return here


def _spread(problem: TrainProblem, work: _Work) -> Floats:
    """Per node as a source: seconds by which the holds of one more slot begin later and end sooner."""
    return np.asarray(work.forward[:, 0] + work.hold[:, 0] + problem.injection_gap + problem.gap)


def _slot_seconds(problem: TrainProblem, spread: Floats, t: float) -> Floats:
    """Per node as a source: most seconds for which its slots can be held until `t`, with a rest after each hold.

    The u slots that are used begin their first holds, and end their last ones, one after another; after its last hold
    a slot has no rest to wait for. So u slots have ``u (t + gap) - u (u - 1) / 2 spread`` seconds, most of all where
    one more would lose: more memory than that is of no use.
    """
    used = np.minimum(problem.memory, np.floor((t + problem.gap) / spread) + 1.0)
    return np.asarray(used * (t + problem.gap) - used * (used - 1.0) / 2.0 * spread)


def _slots_bound(problem: TrainProblem, work: _Work) -> LowerBound:
    cost = _cheapest_cycles(problem, work, problem.link + problem.link.T)
    able = np.isfinite(cost)
    if not able.any():
        return LowerBound(np.inf, "no admissible route has all its links")
    sources = int(problem.stage_sizes[0])
    if problem.source_cap * min(sources, int(able.sum())) < problem.microbatches:
        return LowerBound(np.inf, "no routes keep the caps of TC1")
    path = float(cost[able].min())
    spread = _spread(problem, work)

    def enough(t: float) -> bool:
        quota = np.minimum(problem.source_cap, _slot_seconds(problem, spread, t)[able] / (cost[able] + problem.gap))
        return float(np.sort(quota)[::-1][:sources].sum()) >= problem.microbatches

    low, high = path, path
    while not enough(high):
        low, high = high, 2.0 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        if enough(middle):
            high = middle
        else:
            low = middle
    return LowerBound(low, "source slots") if low > path * (1 + 1e-9) else LowerBound(path, "critical path")


# --- source shop ------------------------------------------------------------------------------------------------------


def _shop_bound(problem: TrainProblem, work: _Work, time_limit: float) -> LowerBound:
    """Bound of the source that must be busiest: of all sources where each has its full quota, else of the best one.

    Where the placement is open, the sources are at best the nodes with the smallest bounds.
    """
    sources = int(problem.stage_sizes[0])
    quota = -(-problem.microbatches // sources)  # some source has at least as many
    if problem.route_length < 2 or quota > MOST_JOBS:
        return LowerBound(0.0, "source shop (CP-SAT)")
    out = _cheapest_cycles(problem, _Work(work.forward, np.zeros_like(work.hold), work.total), problem.link)
    back = _cheapest_cycles(problem, _Work(np.zeros_like(work.forward), work.hold, work.total), problem.link.T)
    # cycles count the source's own work, which the shop has as operations
    out = out - work.forward[:, 0] - problem.loss
    back = back - work.hold[:, 0] - problem.loss
    able = np.flatnonzero(np.isfinite(out) & np.isfinite(back))
    shops = {
        int(s): SourceShop(
            quota,
            int(problem.memory[s]),
            float(work.forward[s, 0]),
            float(problem.loss[s]),
            float(work.hold[s, 0]),
            max(0.0, float(out[s])),
            max(0.0, float(back[s])),
            problem.injection_gap,
            problem.gap,
        )
        for s in able
    }
    distinct = list(dict.fromkeys(shops.values()))
    values = dict.fromkeys(distinct, 0.0)
    for shop in distinct:
        if stop_requested():  # a bound of 0 holds as well
            break
        values[shop] = shop_bound(shop, time_limit=time_limit / len(distinct))
    ordered = sorted(values[shop] for shop in shops.values())
    if not ordered:
        return LowerBound(0.0, "source shop (CP-SAT)")
    full = sources * problem.source_cap == problem.microbatches
    rank = sources - 1 if full else 0
    return LowerBound(ordered[min(rank, len(ordered) - 1)], "source shop (CP-SAT)")


# --- routes of a fixed placement --------------------------------------------------------------------------------------


def _all_routes(problem: TrainProblem, placement: Ints) -> tuple[Ints, Ints] | None:
    """Nodes and stages of every admissible route, shape (R, K) each; None if there are too many."""
    members = [np.flatnonzero(placement == p) for p in range(problem.n_stages)]
    try:
        automaton = admissible_orders(problem.n_stages, problem.route_length, problem.reordering)
    except ValueError:  # too many to think of
        return None
    if automaton.count > MOST_ROUTES:
        return None
    orders = stage_orders(problem.n_stages, problem.route_length, problem.reordering)
    counts = [int(np.prod([len(members[p]) for p in order])) for order in orders]
    if sum(counts) > MOST_ROUTES:
        return None
    routes = [np.array(list(product(*(members[p] for p in order))), dtype=np.int64) for order in orders]
    stages = np.repeat(orders, counts, axis=0)
    nodes = np.concatenate(routes)
    hop = problem.link[nodes, np.roll(nodes, -1, axis=1)] + problem.link[np.roll(nodes, -1, axis=1), nodes]
    keep = np.isfinite(hop).all(axis=1) if problem.route_length > 1 else np.ones(len(nodes), dtype=bool)
    return nodes[keep], stages[keep]


def _route_times(problem: TrainProblem, work: _Work, nodes: Ints, stages: Ints) -> tuple[Floats, Floats, Floats]:
    """For every visit: earliest start, time from its forward's start to its backward's end, and the way home after."""
    after = np.roll(nodes, -1, axis=1)
    apart = nodes != after
    out = np.where(apart, problem.link[nodes, after], 0.0)
    back = np.where(apart, problem.link[after, nodes], 0.0)
    forward, hold = work.forward[nodes, stages], work.hold[nodes, stages]
    there = np.cumsum(forward + out, axis=1)
    head = there - forward - out
    home = np.cumsum(hold + back, axis=1)
    tail = home - hold - back
    whole = there[:, -1:] + problem.loss[nodes[:, :1]] + home[:, -1:]
    # work ends with the backward of visit k; the link behind it belongs to the way home
    stay = whole - head - np.concatenate([np.zeros_like(tail[:, :1]), tail[:, 1:]], axis=1)
    return head, stay, tail


def _route_bound(problem: TrainProblem, placement: Ints, work: _Work, nodes: Ints, stages: Ints) -> LowerBound:
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    n_routes, k = nodes.shape
    if n_routes == 0:
        return LowerBound(np.inf, "no route has all its links")
    n = problem.n_nodes
    head, stay, tail = _route_times(problem, work, nodes, stages)
    shortest = float(stay[:, 0].min())
    flat, route = nodes.ravel(), np.repeat(np.arange(n_routes), k)
    visit_head = np.full(n, np.inf)
    visit_tail = np.full(n, np.inf)
    np.minimum.at(visit_head, flat, head.ravel())
    np.minimum.at(visit_tail, flat, tail.ravel())
    is_source = placement == 0
    memory = problem.memory.astype(np.float64)
    at_stage = (np.arange(n), placement)
    forward, hold, total = (x[at_stage] for x in (work.forward, work.hold, work.total))
    first_rest = np.where(is_source, problem.injection_gap, problem.gap)
    spread = forward + hold + first_rest + problem.gap
    ends = np.where(is_source, 0.0, np.nan_to_num(visit_head + visit_tail, posinf=0.0))
    fixed = memory * (ends - problem.gap) + memory * (memory - 1) / 2 * spread
    # the slots lose this time only if all are used; with fewer used they must not be able to do more
    staggered = ends + (memory - 1) * spread <= shortest
    busy = forward + total + first_rest + problem.gap + np.where(is_source, problem.loss + problem.gap, 0.0)
    sync = sync_seconds(problem, placement)[placement]
    idle = np.where(is_source, 0.0, np.nan_to_num(visit_head, posinf=0.0)) - problem.gap
    closing = np.where(is_source, 0.0, np.nan_to_num(visit_tail, posinf=0.0))
    # weight gradients that wait for the last backward pass to end, one a slot at most, may be done on the way home
    closing = np.maximum(closing - memory * (total - hold), sync)
    # a node that no microbatch visits loses nothing, but the iteration lasts at least this long all the same
    lost = np.minimum(idle + closing, np.maximum(shortest, sync))
    used = np.bincount(flat, minlength=n) > 0
    rows: list[Ints] = []
    columns: list[Ints] = []
    values: list[Floats] = []
    right: list[float] = []

    def add(which: NDArray[np.bool_], value: Floats, limit: Floats, t: Floats) -> None:
        """One row a node of the mask: sum of value * x over its visits - t * T <= limit."""
        base, row_of = len(right), np.cumsum(which) - 1
        chosen = which[flat]
        rows.append(base + row_of[flat[chosen]])
        columns.append(route[chosen])
        values.append(value[chosen])
        picked = np.flatnonzero(which)
        rows.append(base + row_of[picked])
        columns.append(np.full(len(picked), n_routes))
        values.append(-t[picked])
        right.extend(limit[picked].tolist())

    ones = np.ones(len(flat))
    add(used & staggered, stay.ravel() + problem.gap, -fixed, memory)
    add(used & ~(staggered & (fixed > 0)), stay.ravel(), np.zeros(n), memory)
    add(used, busy[flat], -lost, np.ones(n))
    cap = np.where(is_source, problem.source_cap, problem.node_cap).astype(np.float64)
    add(used, ones, cap, np.zeros(n))
    base = len(right)
    rows.append(base + stages.ravel())
    columns.append(route)
    values.append(ones)
    right.extend(np.where(np.arange(problem.n_stages) == 0, problem.microbatches, problem.stage_cap).astype(float))
    matrix = csr_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(len(right), n_routes + 1)
    )
    everyone = np.ones((1, n_routes + 1))
    everyone[0, -1] = 0.0
    cost = np.zeros(n_routes + 1)
    cost[-1] = 1.0
    result = linprog(
        cost, matrix, np.array(right), everyone, [float(problem.microbatches)], bounds=(0, None), method="highs"
    )
    if result.status == 2:
        return LowerBound(np.inf, "no routes keep the caps of TC1")
    return LowerBound(float(result.fun) if result.status == 0 else shortest, "routes (linear program)")


# --- cycles of an open placement --------------------------------------------------------------------------------------


def _cycle_bound(problem: TrainProblem, work: _Work, floor: float, deadline: float) -> LowerBound:
    from scipy.optimize import linprog
    from scipy.sparse import coo_array, csr_array

    n, k = problem.n_nodes, problem.route_length
    subsets = np.array(list(combinations(range(n), k)), dtype=np.int64)
    if k <= 2:
        turns = np.array([list(range(k))])
    else:  # a cycle and its reverse cost the same
        turns = np.array([(0, *rest) for rest in permutations(range(1, k)) if rest[0] < rest[-1]])
    cycles = subsets[:, turns].reshape(-1, k)
    after = np.roll(cycles, -1, axis=1)
    both = problem.link + problem.link.T
    least = (work.forward + work.hold)[:, 1:].min(axis=1) if problem.n_stages > 1 else np.zeros(n)
    at_home = work.forward[:, 0] + work.hold[:, 0] + problem.loss
    links = both[cycles, after].sum(axis=1) if k > 1 else np.zeros(len(cycles))
    keep = np.isfinite(links)
    cycles, links = cycles[keep], links[keep]
    if len(cycles) == 0:
        return LowerBound(floor, "critical path")
    # for each cycle the cheapest order only, and each of its nodes as the source
    keys = np.sort(cycles, axis=1)
    _, first = np.unique(keys @ (n ** np.arange(k)), return_inverse=True)
    best = np.full(first.max() + 1, np.inf)
    np.minimum.at(best, first, links)
    chosen = np.zeros(len(best), dtype=np.int64)
    for i in np.flatnonzero(links <= best[first]):
        chosen[first[i]] = i
    sets, links = keys[chosen], links[chosen]
    source = sets.ravel()
    column = np.arange(len(source))
    others = least[sets].sum(axis=1)
    cost = np.repeat(links + others, k) - least[source] + at_home[source]
    spread = _spread(problem, work)
    n_columns = len(source)
    visit = np.repeat(sets, k, axis=0)  # (columns, k)
    inner = visit != source[:, None]
    row_inner = visit[inner]
    col_inner = np.repeat(column, k - 1) if k > 1 else np.zeros(0, dtype=np.int64)
    z = n_columns + np.arange(n)
    one, inner_one = np.ones(n_columns), np.ones(len(row_inner))
    matrix_rows = np.concatenate(
        [source, np.arange(n), n + source, n + np.arange(n), 2 * n + row_inner, 2 * n + np.arange(n)]
    )
    matrix_columns = np.concatenate([column, z, column, z, col_inner, z])
    node_cap = problem.node_cap.astype(np.float64)
    source_cap = np.full(n, float(problem.source_cap))
    total = np.zeros((2, n_columns + n))
    total[0, :n_columns] = 1.0
    total[1, n_columns:] = 1.0
    right_total = [float(problem.microbatches), float(problem.stage_sizes[0])]
    upper = np.concatenate([np.full(n_columns, np.inf), np.ones(n)])
    bounds = np.stack([np.zeros(n_columns + n), upper], axis=1)

    def feasible(t: float) -> bool | None:
        values = np.concatenate(
            [cost + problem.gap, -_slot_seconds(problem, spread, t), one, -source_cap, inner_one, node_cap]
        )
        matrix = csr_array(coo_array((values, (matrix_rows, matrix_columns)), shape=(3 * n, n_columns + n)))
        right = np.concatenate([np.zeros(2 * n), node_cap])
        for method in ("highs", "highs-ipm"):  # where the simplex method ends undecided, interior points may not
            result = linprog(
                np.zeros(n_columns + n), matrix, right, total, right_total, bounds=bounds, method=method,
                options={"time_limit": max(0.1, deadline - time.perf_counter())},
            )  # fmt: skip
            if result.status in (0, 2):
                return result.status == 0
        return None

    low, high = floor, floor
    enough = problem.source_cap * (float(cost.max()) + problem.gap)  # from here on, time is not what is lacking
    while (answer := feasible(high)) is False:
        if high > enough:
            return LowerBound(np.inf, "no routes keep the caps of TC1")
        low = high
        if time.perf_counter() > deadline:
            break
        high *= 1.15
    while high - low > 1e-3 * high and answer is not None and time.perf_counter() < deadline and not stop_requested():
        middle = 0.5 * (low + high)
        answer = feasible(middle)
        if answer is None:
            break
        low, high = (low, middle) if answer else (middle, high)
    return LowerBound(low, "cycles (linear program)" if low > floor else "source slots")
