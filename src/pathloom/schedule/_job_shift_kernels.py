"""Compiled moves that keep a blocking shop feasible, and annealing over them.

A move takes one operation of a job before (or behind) another one on its machine. What else of the SAME job must then
move the same way follows from the graph without that job: job insertion in the alternative graph is closed under
single-premise implications (Groeflin and Klinkert 2009, section 3), so that the smallest consequent move always exists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.schedule._alternative_kernels import (
    DEADLOCK,
    FAR,
    Orders,
    earliest_starts,
    link,
    unlink,
)
from pathloom.schedule._random_kernels import uniform


class Moves(NamedTuple):
    """Working memory of the moves of one search; `label` is all zero between moves."""

    label: NDArray[np.int64]  # (nodes,)
    target: NDArray[np.int32]  # (nodes,) operation that this one is to precede (or follow) directly, -1 if it stays
    stack: NDArray[np.int32]  # (nodes,)
    touched: NDArray[np.int32]  # (nodes,)
    undo: NDArray[np.int32]  # (nodes, 3) operation, old before, old after
    critical: NDArray[np.int32]  # (nodes, 2)
    trial: NDArray[np.int64]  # (nodes,)


@njit(cache=True, nogil=True)
def plan_forward(nodes, orders, start, k, x, moves):
    """Which operations of k's job must go before others if k goes before x, which is before it on its machine.

    label[v] = 2 c + f says that node c of the job starts no later than v does, f = 1: that v starts strictly later,
    or that no tie is allowed. Nodes that start after the job's last concerned node are of no interest.
    """
    label, target, stack, touched = moves.label, moves.target, moves.stack, moves.touched
    job_of, machine, place, after = nodes.job, nodes.machine, orders.place, orders.after
    visit_start, visits, first = nodes.visit_start, nodes.visits, nodes.first
    job = job_of[k]
    row = job * nodes.machines
    tie = 0 if nodes.swap else 1
    for o in range(first[job], first[job + 1]):
        target[o] = -1
    target[k] = x
    stack[0] = x
    touched[0] = x
    depth = 1
    met = 1
    label[x] = 2 * (k + 1) + tie
    while depth > 0:
        depth -= 1
        v = stack[depth]
        key = label[v]
        label[v] = -key  # negative: not on the stack
        y = v - 1
        if machine[y] >= 0:
            # v frees the machine of y: operations of the job that precede v's start cannot wait for that
            cell = row + machine[y]
            for i in range(visit_start[cell], visit_start[cell + 1]):
                o = visits[i]
                if 2 * o + 1 <= key and place[y] < place[o] and (target[o] < 0 or place[y] < place[target[o]]):
                    target[o] = y
                    new = 2 * (o + 1) + tie
                    old = label[y]
                    if new > abs(old):
                        if old == 0:
                            touched[met] = y
                            met += 1
                        if old <= 0:
                            stack[depth] = y
                            depth += 1
                        label[y] = new
        for side in range(2):
            if side == 0:
                w = v + 1
                if w == first[job_of[v] + 1]:
                    continue
                reach = key | 1
            else:
                w = after[y]
                while w >= 0 and job_of[w] == job:
                    w = after[w]
                if w < 0:
                    continue
                reach = key
            old = label[w]
            if reach > abs(old) and start[w] <= start[reach >> 1]:
                if old == 0:
                    touched[met] = w
                    met += 1
                if old <= 0:
                    stack[depth] = w
                    depth += 1
                label[w] = reach
    for i in range(met):
        label[touched[i]] = 0


@njit(cache=True, nogil=True)
def plan_backward(nodes, orders, start, k, x, moves):
    """Mirror image of `plan_forward`: k goes behind x.

    label[v] = 2 (N - c) + f: v starts no later than node c of the job does (N: number of nodes).
    """
    label, target, stack, touched = moves.label, moves.target, moves.stack, moves.touched
    job_of, machine, place, before = nodes.job, nodes.machine, orders.place, orders.before
    visit_start, visits, first = nodes.visit_start, nodes.visits, nodes.first
    job = job_of[k]
    row = job * nodes.machines
    tie = 0 if nodes.swap else 1
    n = len(start)
    for o in range(first[job], first[job + 1]):
        target[o] = -1
    target[k] = x
    stack[0] = x + 1
    touched[0] = x + 1
    depth = 1
    met = 1
    label[x + 1] = 2 * (n - k) + tie
    while depth > 0:
        depth -= 1
        v = stack[depth]
        key = label[v]
        label[v] = -key
        if machine[v] >= 0:
            # operations o of the job before v on its machine: their departure o + 1 would have to precede v
            cell = row + machine[v]
            for i in range(visit_start[cell], visit_start[cell + 1]):
                o = visits[i]
                if 2 * (n - o) - 1 <= key and place[v] > place[o] and (target[o] < 0 or place[v] > place[target[o]]):
                    target[o] = v
                    new = 2 * (n - o) + tie
                    old = label[v + 1]
                    if new > abs(old):
                        if old == 0:
                            touched[met] = v + 1
                            met += 1
                        if old <= 0:
                            stack[depth] = v + 1
                            depth += 1
                        label[v + 1] = new
        for side in range(2):
            if side == 0:
                if v == first[job_of[v]]:
                    continue
                w = v - 1
                reach = key | 1
            else:
                w = before[v]
                while w >= 0 and job_of[w] == job:
                    w = before[w]
                if w < 0:
                    continue
                w += 1
                reach = key
            old = label[w]
            if reach > abs(old) and start[w] >= start[n - (reach >> 1)]:
                if old == 0:
                    touched[met] = w
                    met += 1
                if old <= 0:
                    stack[depth] = w
                    depth += 1
                label[w] = reach
    for i in range(met):
        label[touched[i]] = 0


@njit(cache=True, nogil=True)
def carry_out(nodes, orders, start, job, forward, moves):
    """Move the operations of a job as planned; returns their number and the time before which no start changes.

    Every node whose arcs in have changed started, before the move, at that time or later; hence so did all that follow.
    """
    target, undo, place = moves.target, moves.undo, orders.place
    lead, beyond = nodes.first[job] + 1, nodes.first[job + 1] - 1
    moved = 0
    since = FAR
    for i in range(beyond - lead):
        # of several visits to one machine the earlier one must end up in front
        o = lead + i if forward else beyond - 1 - i
        t = target[o]
        if t < 0:
            continue
        a, b = orders.before[o], orders.after[o]
        undo[moved, 0] = o
        undo[moved, 1] = a
        undo[moved, 2] = b
        moved += 1
        since = min(since, start[o])
        if b >= 0:
            since = min(since, start[b])
        at = place[t]
        p = t
        if forward:
            while p != o:
                place[p] += 1
                p = orders.after[p]
            unlink(nodes, orders, o)
            since = min(since, start[t])
            link(nodes, orders, o, orders.before[t], t)
        else:
            while p != o:
                place[p] -= 1
                p = orders.before[p]
            unlink(nodes, orders, o)
            b = orders.after[t]
            if b >= 0:
                since = min(since, start[b])
            link(nodes, orders, o, t, b)
        place[o] = at
    return moved, since


@njit(cache=True, nogil=True)
def take_back(nodes, orders, forward, undo, moved):
    """Undo `carry_out`."""
    place = orders.place
    for i in range(moved - 1, -1, -1):
        o, a, b = undo[i, 0], undo[i, 1], undo[i, 2]
        at = place[o]
        if forward:
            p = orders.after[o]
            while p != b:
                place[p] -= 1
                at += 1
                p = orders.after[p]
        else:
            p = orders.before[o]
            while p != a:
                place[p] += 1
                at -= 1
                p = orders.before[p]
        unlink(nodes, orders, o)
        link(nodes, orders, o, a, b)
        place[o] = at


@njit(cache=True, nogil=True)
def critical_pairs(nodes, orders, start, makespan, random, pairs):
    """Fill `pairs` with the waits of operations for their machines along a random longest path; returns their number.

    A pair (a, u): u starts the moment that a, directly before it on the machine, departs.
    """
    before, first, job, duration = orders.before, nodes.first, nodes.job, nodes.duration
    jobs = len(first) - 1
    u = -1
    ties = 0
    for j in range(jobs):
        o = first[j + 1] - 1
        if start[o] == makespan:
            ties += 1
            if ties == 1 or uniform(random) * ties < 1.0:
                u = o
    met = 0
    for _ in range(len(pairs)):
        if u < 0 or u == first[job[u]]:
            break
        by_job = start[u - 1] + duration[u - 1] == start[u]
        a = before[u]
        by_machine = a >= 0 and a + 1 != u and start[a + 1] == start[u]
        if by_machine and not (by_job and uniform(random) < 0.5):
            if job[a] != job[u]:
                pairs[met, 0] = a
                pairs[met, 1] = u
                met += 1
            u = a + 1
        elif by_job:
            u -= 1
        else:
            break
    return met


@njit(cache=True, nogil=True)
def keep_orders(source, sink):
    """Copy one set of orders over another."""
    sink.before[:] = source.before
    sink.after[:] = source.after
    sink.place[:] = source.place
    sink.foremost[:] = source.foremost


@njit(cache=True, nogil=True)
def anneal(nodes, orders, best, scratch, moves, start, random, values, heat, cooling, steps, far):
    """Annealing steps on `orders`, in place; `best` keeps the best orders met.

    Parameters
    ----------
    start
        Shape (nodes,): starts of `orders` on entry and on return.
    values
        Shape (5,): makespan of `orders`, makespan of `best`, and counts of steps, accepted steps, refused orders.
    heat, cooling
        Temperature (time units) at the first step and its factor a step.
    far
        Chance to go one operation further than the neighbour on the machine, again and again.
    """
    trial = moves.trial
    pairs = moves.critical
    n = len(start)
    known = 0
    for _ in range(steps):
        heat *= cooling
        values[2] += 1
        if known == 0:
            known = critical_pairs(nodes, orders, start, values[0], random, pairs)
            if known == 0:
                return
        i = int(uniform(random) * known)
        forward = uniform(random) < 0.5
        if forward:
            k, x = pairs[i, 1], pairs[i, 0]
            while uniform(random) < far and orders.before[x] >= 0 and nodes.job[orders.before[x]] != nodes.job[k]:
                x = orders.before[x]
            plan_forward(nodes, orders, start, k, x, moves)
        else:
            k, x = pairs[i, 0], pairs[i, 1]
            while uniform(random) < far and orders.after[x] >= 0 and nodes.job[orders.after[x]] != nodes.job[k]:
                x = orders.after[x]
            plan_backward(nodes, orders, start, k, x, moves)
        moved, since = carry_out(nodes, orders, start, nodes.job[k], forward, moves)
        limit = np.int64(min(values[0] - heat * np.log(1.0 - uniform(random)), 1e17))
        for u in range(n):
            trial[u] = start[u]
        value = earliest_starts(nodes, orders, scratch, limit, since, -1, trial)
        if value < 0:
            if value == DEADLOCK:
                values[4] += 1
            take_back(nodes, orders, forward, moves.undo, moved)
            continue
        known = 0
        values[3] += 1
        values[0] = value
        for u in range(n):
            start[u] = trial[u]
        if value < values[1]:
            values[1] = value
            keep_orders(orders, best)


class Replicas(NamedTuple):
    """States of parallel tempering, one a row; the one at temperature k (from cold to hot) is row ``row[k]``."""

    before: NDArray[np.int32]  # (replicas, nodes), and so on as in `Orders`
    after: NDArray[np.int32]
    place: NDArray[np.int32]
    foremost: NDArray[np.int32]  # (replicas, machines)
    start: NDArray[np.int64]  # (replicas, nodes)
    value: NDArray[np.int64]  # (replicas,) makespans
    row: NDArray[np.int32]  # (replicas,)


@njit(cache=True, nogil=True)
def temper(nodes, replicas, best, scratch, moves, random, values, heats, rounds, steps, far):
    """Rounds of `steps` annealing steps at each temperature, each followed by exchanges between neighbours.

    Replica exchange (Geyer 1991): states at inverse temperatures b and c with makespans x and y change places with
    probability min(1, exp((b - c)(x - y))). Arguments as in `anneal`; ``heats`` has shape (replicas,), rising.
    """
    count = len(heats)
    for turn in range(rounds):
        for k in range(count):
            r = replicas.row[k]
            orders = Orders(replicas.before[r], replicas.after[r], replicas.place[r], replicas.foremost[r])
            values[0] = replicas.value[r]
            anneal(nodes, orders, best, scratch, moves, replicas.start[r], random, values, heats[k], 1.0, steps, far)
            replicas.value[r] = values[0]
        for k in range(turn % 2, count - 1, 2):
            cold, hot = replicas.row[k], replicas.row[k + 1]
            gain = float(replicas.value[cold] - replicas.value[hot]) * (1.0 / heats[k] - 1.0 / heats[k + 1])
            if gain >= 0.0 or uniform(random) < np.exp(gain):
                replicas.row[k] = hot
                replicas.row[k + 1] = cold
