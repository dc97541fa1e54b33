"""Compiled annealing over routes, orders of work and placement, with the exact event loop as the objective."""

from __future__ import annotations

import numpy as np
from numba import njit

from pathloom.simulate._kernels import INJECTION, run_chains

# kinds of moves
SWAP_NODES, EXCHANGE_VISITS, REORDER, CHANGE_NODE, CHANGE_VISIT, SWAP_TAILS, BIAS, INJECT, PLACE, SOURCE, NEAR = range(
    11
)
N_MOVES = 11
STUCK = 1e7  # seconds of penalty for a microbatch that never returns


@njit(cache=True)
def valid_order(stages, budget):
    """CC-a to CC-d for one route: stages of its visits, shape (K,), under a reordering budget, shape (4,)."""
    if stages[0] != 0:
        return False
    frontier = 0
    n_swaps = 0
    sum_swaps = 0
    for k in range(1, len(stages)):
        p = stages[k]
        if p > frontier:
            if p - frontier > budget[3]:
                return False
            frontier = p
        else:
            back = frontier - p
            if p == 0 or back == 0 or back > budget[0]:
                return False
            n_swaps += 1
            sum_swaps += back
            if n_swaps > budget[1] or sum_swaps > budget[2]:
                return False
        for j in range(k):
            if stages[j] == p:
                return False
    return True


@njit(cache=True)
def lay_out(b, routes, stages, forward, backward, loss, link, node, duration, hop):
    """Write the chain of microbatch b into `node`, `duration` and `hop`."""
    k_visits = routes.shape[1]
    last = 2 * k_visits
    for k in range(k_visits):
        n = routes[b, k]
        p = stages[b, k]
        node[b, k] = n
        node[b, last - k] = n
        duration[b, k] = forward[n, p]
        duration[b, last - k] = backward[n, p]
    source = routes[b, 0]
    node[b, k_visits] = source
    duration[b, k_visits] = loss[source]
    for t in range(last):
        x = node[b, t]
        y = node[b, t + 1]
        hop[b, t] = 0.0 if x == y else link[x, y]


@njit(cache=True)
def stage_sync(placement, latency, seconds, n_stages, out):
    """Duration of each stage's gradient synchronisation, into `out` of shape (S,)."""
    n_nodes = len(placement)
    size = np.zeros(n_stages)
    for n in range(n_nodes):
        size[placement[n]] += 1.0
    out[:] = 0.0
    for i in range(n_nodes):
        p = placement[i]
        total = 0.0
        for j in range(n_nodes):
            if j != i and placement[j] == p:
                total += 2.0 * (latency[i, j] + seconds[i, j] / size[p])
        if total > out[p]:
            out[p] = total


@njit(cache=True)
def objective(latest, returned, end, node, chain, placement, sync, done):
    """Iteration time and a smooth companion: the mean return time of the microbatches.

    When some microbatches block each other for ever (each holds the memory that another one waits for) the value is
    a penalty that falls with the number of those that return.
    """
    n_items = end.shape[0]
    if returned < n_items:
        return STUCK * (n_items - returned), 0.0
    mean = 0.0
    for b in range(n_items):
        mean += end[b, chain - 1]
    mean /= n_items
    if len(sync) > 0:
        done[:] = 0.0
        for b in range(n_items):
            for t in range(chain):
                p = placement[node[b, t]]
                if end[b, t] > done[p]:
                    done[p] = end[b, t]
        for p in range(len(sync)):
            if done[p] + sync[p] > latest:
                latest = done[p] + sync[p]
    return latest, mean


@njit(cache=True, nogil=True)
def anneal(
    routes,
    stages,
    key,
    placement,
    groups,
    count,
    load_of,
    forward,
    backward,
    loss,
    link,
    slots,
    rest,
    slot,
    spawn,
    source_cap,
    stage_cap,
    node_cap,
    budget,
    near,
    sync_latency,
    sync_seconds,
    use_sync,
    weights,
    release,
    after,
    smooth,
    hot,
    cold,
    iterations,
    seed,
    best_routes,
    best_stages,
    best_key,
    best_placement,
    best_value,
    work,
):
    """Anneal for a number of iterations; the state arrays are changed in place and the best state is kept.

    Parameters
    ----------
    routes, stages
        int64 (B, K): see TrainDecisions. `key`: float64 (B, T) for ``use_key == 2`` of the event loop.
    placement
        int64 (N,): stage of each node; changed by `PLACE` moves.
    groups, count
        int64 (G, most), (G,): microbatches that share one route (same source) and are moved together; row g holds
        ``count[g]`` of them. Microbatches that stand in no group keep their routes.
    load_of
        int64 (G,): visits that one visit of group g counts for in TC1; its `count`, or more where the groups stand
        for more microbatches than are simulated.
    budget
        int64 (4,): distance, swaps, total, jump of the reordering budget.
    near
        int64 (N, q): for each node some of those with the cheapest links; `NEAR` and half of the `PLACE` moves bring a
        visit next to the visit before or after it.
    weights
        float64 (N_MOVES,): relative frequency of each kind of move.
    smooth
        Weight of the mean return time in the annealed objective.
    hot, cold
        Temperatures, in seconds, at the first and last iteration.
    best_value
        float64 (2,): iteration time and smoothed objective of the best state; read and written.

    Returns
    -------
    int
        Number of accepted moves.
    """
    np.random.seed(seed)
    n_items, k_visits = routes.shape
    n_nodes, n_stages = forward.shape
    n_tasks = 2 * k_visits + 1
    n_groups = len(groups)
    node = np.empty((n_items, n_tasks), np.int32)
    duration = np.empty((n_items, n_tasks))
    hop = np.zeros((n_items, n_tasks))
    start = np.empty((n_items, n_tasks))
    end = np.empty((n_items, n_tasks))
    done = np.zeros(n_stages)
    sync = np.zeros(n_stages if use_sync else 0)
    no_order = np.zeros(0, np.int64)
    no_windows_4 = np.zeros((0, 4))
    no_windows_5 = np.zeros((0, 5))
    never_node = np.full(n_nodes, np.inf)
    never_item = np.full(n_items, np.inf)
    load = np.zeros(n_nodes, np.int64)
    stage_load = np.zeros(n_stages, np.int64)
    for b in range(n_items):
        lay_out(b, routes, stages, forward, backward, loss, link, node, duration, hop)
    for g in range(n_groups):
        for k in range(k_visits):
            load[routes[groups[g, 0], k]] += load_of[g]
            stage_load[stages[groups[g, 0], k]] += load_of[g]
    if use_sync:
        stage_sync(placement, sync_latency, sync_seconds, n_stages, sync)
    latest, returned = run_chains(
        node, duration, hop, rest, slot, spawn, n_tasks, release, after, key, 2, no_order, no_order, slots,
        never_node, never_item, no_windows_4, no_windows_5, np.inf, start, end, work,
    )  # fmt: skip
    value, mean = objective(latest, returned, end, node, n_tasks, placement, sync, done)
    current = value + smooth * mean
    if value < best_value[0]:
        best_value[0] = value
        best_value[1] = current
    critical = np.empty(n_groups, np.int64)  # groups of the source that returns last
    n_critical = _critical_groups(groups, routes, end, n_tasks, critical)
    visitor = np.full(n_nodes, -1, np.int64)  # group and visit that came to a node last, g * K + k
    for g in range(n_groups):
        for k in range(k_visits):
            visitor[routes[groups[g, 0], k]] = g * k_visits + k
    cumulative = np.cumsum(weights)
    old_routes = np.empty((2, k_visits), np.int64)
    old_stages = np.empty((2, k_visits), np.int64)
    new_routes = np.empty((2, k_visits), np.int64)
    new_stages = np.empty((2, k_visits), np.int64)
    old_key = np.empty(n_tasks)
    picked = np.empty(2, np.int64)
    accepted = 0
    for iteration in range(iterations):
        temperature = hot * (cold / hot) ** (iteration / iterations)
        draw = np.random.random() * cumulative[-1]
        move = 0
        while cumulative[move] < draw:
            move += 1
        n_picked = 0
        swapped_x = -1
        swapped_y = -1
        if n_critical > 0 and np.random.random() < 0.5:
            picked[0] = critical[np.random.randint(n_critical)]
        else:
            picked[0] = np.random.randint(n_groups)
        b1 = groups[picked[0], 0]
        for k in range(k_visits):
            old_routes[0, k] = routes[b1, k]
            old_stages[0, k] = stages[b1, k]
            new_routes[0, k] = routes[b1, k]
            new_stages[0, k] = stages[b1, k]
        if move in (SWAP_NODES, EXCHANGE_VISITS, SWAP_TAILS):
            if n_groups < 2 or k_visits < 2:
                continue
            picked[1] = np.random.randint(n_groups)
            b2 = groups[picked[1], 0]
            if b2 == b1:
                continue
            for k in range(k_visits):
                old_routes[1, k] = routes[b2, k]
                old_stages[1, k] = stages[b2, k]
                new_routes[1, k] = routes[b2, k]
                new_stages[1, k] = stages[b2, k]
            if move == SWAP_NODES:
                k1 = np.random.randint(1, k_visits)
                for k2 in range(1, k_visits):
                    if stages[b2, k2] == stages[b1, k1] and routes[b2, k2] != routes[b1, k1]:
                        new_routes[0, k1] = routes[b2, k2]
                        new_routes[1, k2] = routes[b1, k1]
                        n_picked = 2
                        break
                if n_picked == 0:
                    continue
            elif move == EXCHANGE_VISITS:
                k1 = np.random.randint(1, k_visits)
                k2 = np.random.randint(1, k_visits)
                if stages[b1, k1] == stages[b2, k2]:
                    continue
                new_stages[0, k1] = stages[b2, k2]
                new_routes[0, k1] = routes[b2, k2]
                new_stages[1, k2] = stages[b1, k1]
                new_routes[1, k2] = routes[b1, k1]
                settle(new_stages[0], new_routes[0], budget)
                settle(new_stages[1], new_routes[1], budget)
            else:
                for k in range(np.random.randint(1, k_visits), k_visits):
                    new_stages[0, k] = stages[b2, k]
                    new_routes[0, k] = routes[b2, k]
                    new_stages[1, k] = stages[b1, k]
                    new_routes[1, k] = routes[b1, k]
            if not (valid_order(new_stages[0], budget) and valid_order(new_stages[1], budget)):
                continue
            n_picked = 2
        elif move == NEAR:
            if k_visits < 2:
                continue
            k1 = np.random.randint(1, k_visits)
            y = _near_neighbour(k1, old_routes[0], near)
            p = stages[b1, k1]
            q = placement[y]
            if q == 0 or y == routes[b1, k1]:
                continue
            new_routes[0, k1] = y
            new_stages[0, k1] = q
            n_picked = 1
            own = load_of[picked[0]]
            if load[y] + own > node_cap[y] or (q != p and stage_load[q] + own > stage_cap[q]):
                # no room: change places with the one who goes there
                g = visitor[y] // k_visits
                k2 = visitor[y] % k_visits
                if visitor[y] < 0 or g == picked[0] or k2 == 0 or routes[groups[g, 0], k2] != y:
                    continue
                picked[1] = g
                b2 = groups[g, 0]
                for k in range(k_visits):
                    old_routes[1, k] = routes[b2, k]
                    old_stages[1, k] = stages[b2, k]
                    new_routes[1, k] = routes[b2, k]
                    new_stages[1, k] = stages[b2, k]
                new_routes[1, k2] = routes[b1, k1]
                new_stages[1, k2] = p
                n_picked = 2
            if q != p:
                for i in range(n_picked):
                    settle(new_stages[i], new_routes[i], budget)
                if not valid_order(new_stages[0], budget) or (n_picked == 2 and not valid_order(new_stages[1], budget)):
                    continue
        elif move == REORDER:
            if k_visits < 3:
                continue
            k1 = np.random.randint(1, k_visits - 1)
            new_stages[0, k1] = stages[b1, k1 + 1]
            new_stages[0, k1 + 1] = stages[b1, k1]
            new_routes[0, k1] = routes[b1, k1 + 1]
            new_routes[0, k1 + 1] = routes[b1, k1]
            if not valid_order(new_stages[0], budget):
                continue
            n_picked = 1
        elif move == SOURCE:
            y = np.random.randint(n_nodes)
            if y == routes[b1, 0] or placement[y] != 0:
                continue
            new_routes[0, 0] = y
            n_picked = 1
        elif move in (CHANGE_NODE, CHANGE_VISIT):
            if k_visits < 2:
                continue
            k1 = np.random.randint(1, k_visits)
            y = np.random.randint(n_nodes)
            p = stages[b1, k1]
            q = placement[y]
            if q == 0 or y == routes[b1, k1] or (q != p and move == CHANGE_NODE):
                continue
            new_stages[0, k1] = q
            new_routes[0, k1] = y
            if q != p:
                settle(new_stages[0], new_routes[0], budget)
                if not valid_order(new_stages[0], budget):
                    continue
            n_picked = 1
        elif move in (BIAS, INJECT):
            b1 = groups[picked[0], np.random.randint(count[picked[0]])]
            for t in range(n_tasks):
                old_key[t] = key[b1, t]
            if move == BIAS:
                t = np.random.randint(1, n_tasks)
                if np.random.random() < 0.3:
                    key[b1, t] = 0.0
                else:
                    key[b1, t] += np.random.normal() * 3.0 * duration[b1, t]
            elif np.random.random() < 0.3:
                key[b1, 0] = INJECTION + release[b1]
            else:
                key[b1, 0] = np.random.random() * current
        else:  # PLACE: two nodes of different stages change places, with all their visits
            if k_visits > 1 and np.random.random() < 0.5:
                k1 = np.random.randint(0, k_visits)
                swapped_x = routes[b1, k1]
                swapped_y = _near_neighbour(k1, old_routes[0], near)
            else:
                swapped_x = np.random.randint(n_nodes)
                swapped_y = np.random.randint(n_nodes)
            p = placement[swapped_x]
            q = placement[swapped_y]
            refused = p == q or (q != 0 and load[swapped_y] > node_cap[swapped_x])
            if refused or (p != 0 and load[swapped_x] > node_cap[swapped_y]):
                continue
            swap_places(swapped_x, swapped_y, routes, placement, load)
            for b in range(n_items):
                lay_out(b, routes, stages, forward, backward, loss, link, node, duration, hop)
            if use_sync:
                stage_sync(placement, sync_latency, sync_seconds, n_stages, sync)
        if n_picked > 0:
            within = True
            for i in range(n_picked):
                for k in range(k_visits):
                    load[old_routes[i, k]] -= load_of[picked[i]]
                    load[new_routes[i, k]] += load_of[picked[i]]
                    stage_load[old_stages[i, k]] -= load_of[picked[i]]
                    stage_load[new_stages[i, k]] += load_of[picked[i]]
            for i in range(n_picked):
                for k in range(k_visits):
                    cap = source_cap if k == 0 else node_cap[new_routes[i, k]]
                    if load[new_routes[i, k]] > cap or stage_load[new_stages[i, k]] > stage_cap[new_stages[i, k]]:
                        within = False
            if not within:
                _take_back(n_picked, picked, load_of, old_routes, old_stages, new_routes, new_stages, load, stage_load)
                continue
        for i in range(n_picked):
            for j in range(count[picked[i]]):
                b = groups[picked[i], j]
                for k in range(k_visits):
                    routes[b, k] = new_routes[i, k]
                    stages[b, k] = new_stages[i, k]
                lay_out(b, routes, stages, forward, backward, loss, link, node, duration, hop)
        threshold = current - temperature * np.log(np.random.random() + 1e-300)
        latest, returned = run_chains(
            node, duration, hop, rest, slot, spawn, n_tasks, release, after, key, 2, no_order, no_order, slots,
            never_node, never_item, no_windows_4, no_windows_5, threshold, start, end, work,
        )  # fmt: skip
        candidate = np.inf
        if latest < np.inf:
            value, mean = objective(latest, returned, end, node, n_tasks, placement, sync, done)
            candidate = value + smooth * mean
        if candidate <= threshold:
            accepted += 1
            current = candidate
            n_critical = _critical_groups(groups, routes, end, n_tasks, critical)
            for i in range(n_picked):
                for k in range(k_visits):
                    visitor[new_routes[i, k]] = picked[i] * k_visits + k
            if swapped_x >= 0:
                g = visitor[swapped_x]
                visitor[swapped_x] = visitor[swapped_y]
                visitor[swapped_y] = g
            if value < best_value[0] - 1e-9 or (value < best_value[0] + 1e-9 and candidate < best_value[1] - 1e-9):
                best_value[0] = value
                best_value[1] = candidate
                best_routes[:] = routes
                best_stages[:] = stages
                best_key[:] = key
                best_placement[:] = placement
        elif swapped_x >= 0:
            swap_places(swapped_x, swapped_y, routes, placement, load)
            for b in range(n_items):
                lay_out(b, routes, stages, forward, backward, loss, link, node, duration, hop)
            if use_sync:
                stage_sync(placement, sync_latency, sync_seconds, n_stages, sync)
        elif n_picked == 0:
            for t in range(n_tasks):
                key[b1, t] = old_key[t]
        else:
            _take_back(n_picked, picked, load_of, old_routes, old_stages, new_routes, new_stages, load, stage_load)
            for i in range(n_picked):
                for j in range(count[picked[i]]):
                    b = groups[picked[i], j]
                    for k in range(k_visits):
                        routes[b, k] = old_routes[i, k]
                        stages[b, k] = old_stages[i, k]
                    lay_out(b, routes, stages, forward, backward, loss, link, node, duration, hop)
    return accepted


@njit(cache=True)
def _near_neighbour(k, route, near):
    """A node with a cheap link to the visit before or after visit k of a route."""
    k_visits = len(route)
    if np.random.random() < 0.5:
        anchor = route[(k + 1) % k_visits]
    else:
        anchor = route[(k - 1) % k_visits]
    return near[anchor, np.random.randint(near.shape[1])]


@njit(cache=True)
def _take_back(n_picked, picked, load_of, old_routes, old_stages, new_routes, new_stages, load, stage_load):
    """Undo the change of loads that a proposed change of routes made."""
    for i in range(n_picked):
        for k in range(old_routes.shape[1]):
            load[old_routes[i, k]] += load_of[picked[i]]
            load[new_routes[i, k]] -= load_of[picked[i]]
            stage_load[old_stages[i, k]] += load_of[picked[i]]
            stage_load[new_stages[i, k]] -= load_of[picked[i]]


@njit(cache=True)
def _critical_groups(groups, routes, end, chain, critical):
    """Groups whose source is the one that gets its last microbatch back last; returns their number."""
    last = -1.0
    source = -1
    for b in range(len(end)):
        if end[b, chain - 1] > last:
            last = end[b, chain - 1]
            source = routes[b, 0]
    n = 0
    for g in range(len(groups)):
        if routes[groups[g, 0], 0] == source:
            critical[n] = g
            n += 1
    return n


@njit(cache=True)
def settle(stages, routes, budget):
    """Sort the visits of a route by stage unless their order already keeps the reordering budget."""
    if valid_order(stages, budget):
        return
    for i in range(2, len(stages)):
        p = stages[i]
        n = routes[i]
        j = i - 1
        while j >= 1 and stages[j] > p:
            stages[j + 1] = stages[j]
            routes[j + 1] = routes[j]
            j -= 1
        stages[j + 1] = p
        routes[j + 1] = n


@njit(cache=True)
def swap_places(x, y, routes, placement, load):
    p = placement[x]
    placement[x] = placement[y]
    placement[y] = p
    count = load[x]
    load[x] = load[y]
    load[y] = count
    n_items, k_visits = routes.shape
    for b in range(n_items):
        for k in range(k_visits):
            if routes[b, k] == x:
                routes[b, k] = y
            elif routes[b, k] == y:
                routes[b, k] = x
