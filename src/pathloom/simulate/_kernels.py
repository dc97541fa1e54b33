"""Compiled event loop: items follow chains of tasks over resources with a bounded number of slots.

Tasks of item b are numbered t = 0 .. T-1; tasks before `chain` form a chain in which each one sends a message to the
next, tasks from `chain` on are spawned on the spot by another task (weight gradients of a split backward pass).
The memory of the loop is a binary heap of message arrivals and of resources that become free, and one linked list of
waiting tasks a resource.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Keys from here on come after every time of a run; near it, keys still tell a tenth of a microsecond apart.
INJECTION = 2.0**30


@njit(cache=True, inline="always")
def _push(times, codes, size, time, code):
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if times[parent] < time or (times[parent] == time and codes[parent] <= code):
            break
        times[i] = times[parent]
        codes[i] = codes[parent]
        i = parent
    times[i] = time
    codes[i] = code
    return size + 1


@njit(cache=True, inline="always")
def _pop(times, codes, size):
    size -= 1
    time = times[size]
    code = codes[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            times[right] < times[child] or (times[right] == times[child] and codes[right] < codes[child])
        ):
            child = right
        if times[child] > time or (times[child] == time and codes[child] >= code):
            break
        times[i] = times[child]
        codes[i] = codes[child]
        i = child
    times[i] = time
    codes[i] = code
    return size


@njit(cache=True)
def workspace(n_items, n_tasks, n_nodes):
    """Arrays that one run needs; they may be used again by the next run of the same shape."""
    total = n_items * n_tasks
    heap = 2 * total + 2 * n_nodes + 2 * n_items + 16
    return (
        np.empty(heap, np.float64),  # heap: times
        np.empty(heap, np.int64),  # heap: codes
        np.empty(total, np.int64),  # next task in the waiting list of its node
        np.empty(total, np.float64),  # key of a waiting task
        np.empty(n_nodes, np.int64),  # head of the waiting list
        np.empty(n_nodes, np.float64),  # time at which the node is free
        np.empty(n_nodes, np.bool_),  # an event at that time is in the heap
        np.empty(n_nodes, np.int64),  # used slots
        np.empty(n_nodes, np.int64),  # nodes touched at the present time
        np.empty(n_nodes, np.bool_),
        np.empty(n_items, np.int64),  # first item that waits for the return of this one
        np.empty(n_items, np.int64),  # next item that waits for the same one
    )


@njit(cache=True)
def run_chains(
    node,
    duration,
    hop,
    rest,
    slot,
    spawn,
    chain,
    release,
    after,
    key,
    use_key,
    sequence,
    sequence_start,
    slots,
    fail_at,
    cancel_at,
    node_windows,
    link_windows,
    cutoff,
    start,
    end,
    work,
    loosen_at=np.inf,
    first=None,
    heir=None,
):
    """Run all items to their end and fill `start` and `end`.

    Parameters
    ----------
    node
        int32 (B, T): resource of each task.
    duration, hop
        float64 (B, T): duration, and time of the message from task t to task t+1 (unused behind the chain).
    rest
        float64 (T,): time for which the resource rests after task t.
    slot
        int8 (T,): 1 if the task takes a slot at its start, -1 if it frees one at its end, else 0.
    spawn
        int32 (T,): task that the end of task t makes ready on the same resource, -1 for none.
    chain
        Number of tasks in the chain.
    release, after
        float64 (B,), int64 (B,): earliest start of task 0, and the item whose chain must have ended first (or -1).
    key, use_key
        Order among the tasks that wait at a resource. ``use_key == 0``: first come, first served, task 0 (injection)
        last and spawned tasks after it. ``use_key == 1``: the smallest key, float64 (B, T), first. ``use_key == 2``:
        the smallest arrival time plus key first, where the key of a task 0 stands by itself.
    sequence, sequence_start
        int64: for a strict order, tasks b*T+t of each resource one after another, those of resource n at
        ``sequence_start[n]:sequence_start[n+1]``; an empty `sequence` leaves the order to the keys. Tasks of dropped
        items are passed over.
    slots
        int64 (N,): slots of each resource.
    fail_at, cancel_at
        float64 (N,), (B,): time at which a resource dies (a task that has not ended by then is lost, and so is
        every message to it or from it that has not arrived), and at which an item is dropped (its tasks that have
        not started before then never start, and its slots become free; items that wait for its return wait for
        ever); infinity for never.
    node_windows, link_windows
        float64 (w, 4) rows (n, from, to, factor): tasks that start on n within the window last factor times as
        long; float64 (v, 5) rows (i, j, from, to, factor): the same for messages that leave i for j.
    cutoff
        The run stops, and returns infinity, as soon as a task is sure to end after this.
    start, end
        float64 (B, T), filled; nan for tasks that never ran.
    work
        From `workspace`.
    loosen_at
        From this time on the strict order holds no longer, and the smallest key among the ready tasks goes first.
    first
        int64 (B,) or None: first task of each item, whose earliest start is `release`; the tasks before it count as
        done by an item that was dropped (``heir[dropped] == b``). None: 0 for all.
    heir
        int64 (B,) or None: item that takes over, when this one is dropped, the slots that the tasks before its own
        first task hold (or -1).

    Returns
    -------
    tuple
        Largest end of any task (infinity after a cut-off), and the number of items whose chain ended.
    """
    n_items, n_tasks = node.shape
    n_nodes = len(slots)
    total = n_items * n_tasks
    times, codes, follower, waiting_key, head, free_at, free_event, used, touched, is_touched, waiter, next_waiter = (
        work
    )
    strict = len(sequence) > 0
    by_class = not use_key  # first come, first served: chain tasks, then injections by release, then spawned tasks
    failures = False
    for n in range(n_nodes):
        head[n] = -1
        free_at[n] = -1.0
        free_event[n] = False
        used[n] = 0
        is_touched[n] = False
        if fail_at[n] < np.inf:
            failures = True
    position = sequence_start.copy() if strict else sequence_start
    for b in range(n_items):
        waiter[b] = -1
        for t in range(n_tasks):
            start[b, t] = np.nan
            end[b, t] = np.nan
    size = 0
    for b in range(n_items):
        if after[b] >= 0:
            next_waiter[b] = waiter[after[b]]
            waiter[after[b]] = b
        elif first is None:
            size = _push(times, codes, size, release[b], b * n_tasks)
        else:
            size = _push(times, codes, size, release[b], b * n_tasks + first[b])
        if cancel_at[b] < np.inf:
            size = _push(times, codes, size, cancel_at[b], total + n_nodes + b)
    if strict and loosen_at < np.inf:
        for n in range(n_nodes):
            size = _push(times, codes, size, loosen_at, total + n)
    latest = 0.0
    returned = 0
    while size > 0:
        now = times[0]
        n_touched = 0
        while size > 0 and times[0] == now:
            code = codes[0]
            size = _pop(times, codes, size)
            if code < total:  # a task becomes ready on its resource
                b = code // n_tasks
                t = code - b * n_tasks
                n = node[b, t]
                if failures and now >= fail_at[n]:
                    continue
                if now >= cancel_at[b]:
                    continue
                if use_key == 1 or (use_key == 2 and t == 0):
                    waiting_key[code] = key[b, t]
                elif use_key == 2:
                    waiting_key[code] = now + key[b, t]
                elif t == 0:
                    waiting_key[code] = release[b]
                else:
                    waiting_key[code] = now
                follower[code] = head[n]
                head[n] = code
            elif code < total + n_nodes:  # a resource becomes free
                n = code - total
                free_event[n] = False
            else:  # an item is dropped: the slots that it holds become free, or its heir's
                b = code - total - n_nodes
                for t in range(n_tasks):
                    m = node[b, t]
                    done = not np.isnan(start[b, t])
                    if first is not None:
                        done = done or t < first[b]
                    if done:
                        used[m] -= slot[t]
                    if not is_touched[m]:
                        is_touched[m] = True
                        touched[n_touched] = m
                        n_touched += 1
                if heir is not None and heir[b] >= 0:
                    h = heir[b]
                    for t in range(first[h]):
                        used[node[h, t]] += slot[t]
                continue
            if not is_touched[n]:
                is_touched[n] = True
                touched[n_touched] = n
                n_touched += 1
        for k in range(n_touched):
            n = touched[k]
            is_touched[n] = False
            if free_at[n] > now:
                if not free_event[n] and head[n] >= 0:
                    free_event[n] = True
                    size = _push(times, codes, size, free_at[n], total + n)
                continue
            if failures and now >= fail_at[n]:
                continue
            # the waiting task of smallest key that may start
            best = -1
            before_best = -1
            previous = -1
            task = head[n]
            if strict and now < loosen_at:
                while position[n] < sequence_start[n + 1] and cancel_at[sequence[position[n]] // n_tasks] <= now:
                    position[n] += 1
                wanted = sequence[position[n]] if position[n] < sequence_start[n + 1] else -1
                while task >= 0 and task != wanted:
                    previous = task
                    task = follower[task]
                if task >= 0 and (slot[task % n_tasks] != 1 or used[n] < slots[n]):
                    best = task
                    before_best = previous
            else:
                best_class = 0
                while task >= 0:
                    b = task // n_tasks
                    t = task - b * n_tasks
                    if cancel_at[b] <= now:  # dropped while it waited
                        if previous < 0:
                            head[n] = follower[task]
                        else:
                            follower[previous] = follower[task]
                        task = follower[task]
                        continue
                    if slot[t] != 1 or used[n] < slots[n]:
                        its_class = 0
                        if by_class and (t == 0 or t >= chain):
                            its_class = 1 if t == 0 else 2
                        if (
                            best < 0
                            or its_class < best_class
                            or (
                                its_class == best_class
                                and (
                                    waiting_key[task] < waiting_key[best]
                                    or (waiting_key[task] == waiting_key[best] and task < best)
                                )
                            )
                        ):
                            best = task
                            best_class = its_class
                            before_best = previous
                    previous = task
                    task = follower[task]
            if best < 0:
                continue
            if before_best < 0:
                head[n] = follower[best]
            else:
                follower[before_best] = follower[best]
            if strict:
                position[n] += 1
            b = best // n_tasks
            t = best - b * n_tasks
            length = duration[b, t]
            for w in range(len(node_windows)):
                if node_windows[w, 0] == n and node_windows[w, 1] <= now < node_windows[w, 2]:
                    length *= node_windows[w, 3]
            finish = now + length
            start[b, t] = now
            if slot[t] == 1:
                used[n] += 1
            elif slot[t] == -1:  # nobody can look at the slots before the task has ended
                used[n] -= 1
            free_at[n] = finish + rest[t]
            if head[n] >= 0:
                free_event[n] = True
                size = _push(times, codes, size, free_at[n], total + n)
            if failures and finish > fail_at[n]:
                continue
            if finish > cutoff:
                return np.inf, returned
            end[b, t] = finish
            if finish > latest:
                latest = finish
            if spawn[t] >= 0:
                size = _push(times, codes, size, finish, b * n_tasks + spawn[t])
            if t + 1 < chain:
                travel = hop[b, t]
                if len(link_windows) > 0:
                    m = node[b, t + 1]
                    for w in range(len(link_windows)):
                        if (
                            link_windows[w, 0] == n
                            and link_windows[w, 1] == m
                            and link_windows[w, 2] <= finish < link_windows[w, 3]
                        ):
                            travel *= link_windows[w, 4]
                if travel < np.inf and not (failures and finish + travel > fail_at[n]):
                    size = _push(times, codes, size, finish + travel, b * n_tasks + t + 1)
            elif t + 1 == chain:
                returned += 1
                nxt = waiter[b]
                while nxt >= 0:
                    ready = max(finish, release[nxt])
                    if first is None:
                        size = _push(times, codes, size, ready, nxt * n_tasks)
                    else:
                        size = _push(times, codes, size, ready, nxt * n_tasks + first[nxt])
                    nxt = next_waiter[nxt]
    return latest, returned
