"""Compiled kernels of path finding on grids: distances, decision diagrams under constraints, paths in them.

Cells are numbered 0..n-1. `neighbours` has shape (n, 5): column 0 is the cell itself (waiting), columns 1 to 4 are the
cells to the north, east, south and west, -1 where there is none; a *move* is a column of that table. An agent is at a
cell at every integer time 0, 1, 2, ...; it *finishes* at the time of its last arrival at its goal, and stays there.

Constraints of one agent are rows of four integers:

=========  ==================================================================================
BAN_CELL   (0, cell, first, last): not at `cell` at the times first..last (last may be NEVER)
BAN_MOVE   (1, cell, move, time): does not arrive at `cell` by `move` at `time`
AT_LEAST   (2, length, 0, 0): does not finish before `length`
AT_MOST    (3, length, 0, 0): does not finish after `length`
=========  ==================================================================================
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

BAN_CELL, BAN_MOVE, AT_LEAST, AT_MOST = 0, 1, 2, 3
NEVER = 1 << 28
ALL_MOVES = 31


@njit(cache=True)
def distances(neighbours: NDArray[np.int32], goal: int) -> NDArray[np.int32]:
    """Moves from every cell to `goal`, shape (n,); NEVER where the goal cannot be reached."""
    n = neighbours.shape[0]
    found = np.full(n, NEVER, np.int32)
    queue = np.empty(n, np.int32)
    found[goal] = 0
    queue[0] = goal
    head, tail = 0, 1
    while head < tail:
        cell = queue[head]
        head += 1
        for move in range(1, 5):
            other = neighbours[cell, move]
            if other >= 0 and found[other] == NEVER:
                found[other] = found[cell] + 1
                queue[tail] = other
                tail += 1
    return found


@njit(cache=True)
def tabulate(rows: NDArray[np.int64], n: int) -> tuple[NDArray[np.uint8], NDArray[np.int32], int, int]:
    """Constraint rows as tables.

    Returns
    -------
    blocked
        Shape (t, n): bit m of ``blocked[time, cell]`` says that arriving by move m is forbidden; nothing is forbidden
        from time t on, except what `forever` says.
    forever
        Shape (n,): the time from which a cell is forbidden for good.
    at_least, at_most
        Limits on the time of finishing.
    """
    last = -1
    at_least, at_most = 0, NEVER
    for row in range(rows.shape[0]):
        kind = rows[row, 0]
        if kind == BAN_CELL:
            last = max(last, rows[row, 2] - 1 if rows[row, 3] >= NEVER else rows[row, 3])
        elif kind == BAN_MOVE:
            last = max(last, rows[row, 3])
        elif kind == AT_LEAST:
            at_least = max(at_least, rows[row, 1])
        else:
            at_most = min(at_most, rows[row, 1])
    blocked = np.zeros((last + 1, n), np.uint8)
    forever = np.full(n, NEVER, np.int32)
    for row in range(rows.shape[0]):
        kind, cell = rows[row, 0], rows[row, 1]
        if kind == BAN_CELL:
            if rows[row, 3] >= NEVER:
                forever[cell] = min(forever[cell], rows[row, 2])
            else:
                for time in range(rows[row, 2], rows[row, 3] + 1):
                    blocked[time, cell] = ALL_MOVES
        elif kind == BAN_MOVE:
            blocked[rows[row, 3], cell] |= np.uint8(1 << rows[row, 2])
    return blocked, forever, at_least, at_most


@njit(cache=True)
def block_paths(
    neighbours: NDArray[np.int32], paths: NDArray[np.int32], costs: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """What agents with fixed paths forbid to another one, as `tabulate` returns it.

    Parameters
    ----------
    paths
        Shape (k, t): cells by time, resting at the end.
    costs
        Shape (k,): times of finishing, below t; -1 leaves an agent out.
    """
    n = neighbours.shape[0]
    longest = 0
    for agent in range(paths.shape[0]):
        longest = max(longest, costs[agent])
    blocked = np.zeros((longest + 1, n), np.uint8)
    forever = np.full(n, NEVER, np.int32)
    for agent in range(paths.shape[0]):
        cost = costs[agent]
        if cost < 0:
            continue
        forever[paths[agent, cost]] = cost
        for time in range(cost):
            here, there = paths[agent, time], paths[agent, time + 1]
            blocked[time, here] = ALL_MOVES
            for move in range(1, 5):
                if neighbours[there, move] == here:
                    blocked[time + 1, here] |= np.uint8(1 << move)
    return blocked, forever


@njit(cache=True)
def decision_diagram(
    neighbours: NDArray[np.int32],
    distance: NDArray[np.int32],
    start: int,
    goal: int,
    blocked: NDArray[np.uint8],
    forever: NDArray[np.int32],
    at_least: int,
    at_most: int,
    slack: int,
) -> tuple[int, int, NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """All paths of an agent that finish at the earliest possible time, or up to `slack` later, by layers of time.

    A space-time search in order of time plus distance finds the earliest finish; a backward pass keeps the nodes that
    lie on a path which finishes in time (Sharon et al. 2013, multi-value decision diagrams).

    Parameters
    ----------
    distance
        Shape (n,): a lower bound on the moves to `goal` that changes by at most 1 along a move, as `distances` gives.
    blocked, forever, at_least, at_most
        As `tabulate` returns them.

    Returns
    -------
    cost
        Earliest finish, -1 if there is no path.
    first_finish
        Time from which finishing is allowed.
    layer
        Shape (t + 1,): nodes of time s are ``layer[s]:layer[s + 1]``.
    cells
        Shape (m,): cell of each node.
    finish
        Shape (m,): earliest finish of a path that is at the node and not finished there; NEVER if there is none in
        time (a node of the goal that only ends paths).
    successor
        Shape (m, 5): position of the node that a move leads to, -1 where the move is no part of such a path. A move
        other than waiting that leads to the goal at or after the first time at which finishing is allowed may end
        the path.
    """
    n = neighbours.shape[0]
    nothing = np.zeros(0, np.int32)
    failed = (-1, 0, nothing, nothing, nothing, np.zeros((0, 5), np.int32))
    horizon_blocked = blocked.shape[0]
    if forever[goal] < NEVER or forever[start] <= 0 or distance[start] >= NEVER:
        return failed
    if horizon_blocked > 0 and blocked[0, start] == ALL_MOVES:
        return failed
    # The agent stays at the goal for good, so it finishes after the last time at which the goal is forbidden.
    first_finish = at_least
    for time in range(horizon_blocked - 1, -1, -1):
        if blocked[time, goal] == ALL_MOVES:
            first_finish = max(first_finish, time + 1)
            break
    settled = max(horizon_blocked, first_finish)
    for cell in range(n):
        if forever[cell] < NEVER:
            settled = max(settled, forever[cell])
    # Nothing changes after `settled`: a path exists only if a simple one from there does.
    last_level = min(at_most, settled + n + 2)
    horizon = max(distance[start], first_finish) + 16
    while True:
        horizon = min(horizon, last_level)
        width = horizon + slack
        seen = np.zeros((width + 1, n), np.uint8)
        pool_time = np.empty((width + 1) * n, np.int32)
        pool_cell = np.empty((width + 1) * n, np.int32)
        following = np.empty((width + 1) * n, np.int32)
        head = np.full(width + 2, -1, np.int32)
        pooled = 0
        level = max(distance[start], first_finish)
        cost = -1
        earliest = NEVER
        if start == goal and first_finish == 0:
            earliest = 0
        if level <= horizon:
            seen[0, start] = 1
            pool_time[0], pool_cell[0], following[0] = 0, start, -1
            head[level] = 0
            pooled = 1
        end_level = horizon
        while level <= end_level:
            while head[level] >= 0:
                state = head[level]
                head[level] = following[state]
                time, cell = pool_time[state] + 1, pool_cell[state]
                if time > width:
                    continue
                for move in range(5):
                    other = neighbours[cell, move]
                    if other < 0 or time >= forever[other]:
                        continue
                    if time < horizon_blocked and (blocked[time, other] >> move) & 1:
                        continue
                    if other == goal and move != 0 and time >= first_finish:
                        earliest = min(earliest, time)
                    total = time + distance[other]
                    if total > width or seen[time, other]:
                        continue
                    seen[time, other] = 1
                    total = max(total, level)
                    pool_time[pooled], pool_cell[pooled], following[pooled] = time, other, head[total]
                    head[total] = pooled
                    pooled += 1
            if cost < 0 and earliest <= level:
                cost = earliest
                end_level = min(cost + slack, at_most)
            level += 1
        if cost >= 0:
            break
        if horizon >= last_level:
            return failed
        horizon = 2 * horizon + 16

    # Backward pass over the layers of the states that were expanded.
    limit = min(cost + slack, at_most)
    count = np.zeros(limit + 2, np.int64)
    for state in range(pooled):
        if pool_time[state] <= limit:
            count[pool_time[state] + 1] += 1
    for time in range(limit + 1):
        count[time + 1] += count[time]
    order = np.empty(count[limit + 1], np.int32)
    fill = count[: limit + 1].copy()
    for state in range(pooled):
        time = pool_time[state]
        if time <= limit:
            order[fill[time]] = state
            fill[time] += 1
    best = np.empty((limit + 1, n), np.int32)
    keep = np.zeros(pooled, np.uint8)
    layer = np.zeros(limit + 2, np.int32)
    for time in range(limit, -1, -1):
        for position in range(count[time], count[time + 1]):
            state = order[position]
            cell = pool_cell[state]
            value = NEVER
            if time < limit:
                for move in range(5):
                    other = neighbours[cell, move]
                    if other < 0 or not seen[time + 1, other] or time + 1 >= forever[other]:
                        continue
                    if time + 1 < horizon_blocked and (blocked[time + 1, other] >> move) & 1:
                        continue
                    value = min(value, best[time + 1, other])
                    if other == goal and move != 0 and time + 1 >= first_finish:
                        value = min(value, time + 1)
            if value > limit:
                value = NEVER
            best[time, cell] = value
            if value <= limit or (cell == goal and time >= max(first_finish, cost)):
                keep[state] = 1
                layer[time + 1] += 1
    for time in range(limit + 1):
        layer[time + 1] += layer[time]
    kept = layer[limit + 1]
    cells = np.empty(kept, np.int32)
    finish = np.empty(kept, np.int32)
    successor = np.full((kept, 5), -1, np.int32)
    place = np.full((2, n), -1, np.int32)
    for time in range(limit, -1, -1):
        here, there = time & 1, (time + 1) & 1
        place[here, :] = -1
        node = layer[time]
        for position in range(count[time], count[time + 1]):
            state = order[position]
            if not keep[state]:
                continue
            cell = pool_cell[state]
            cells[node] = cell
            finish[node] = best[time, cell]
            place[here, cell] = node
            if time < limit:
                for move in range(5):
                    other = neighbours[cell, move]
                    if other < 0 or place[there, other] < 0:
                        continue
                    if time + 1 < horizon_blocked and (blocked[time + 1, other] >> move) & 1:
                        continue
                    ends = other == goal and move != 0 and time + 1 >= first_finish
                    if ends or best[time + 1, other] <= limit:
                        successor[node, move] = place[there, other]
            node += 1
    return cost, first_finish, layer, cells, finish, successor


@njit(cache=True)
def path_among(
    cost: int,
    layer: NDArray[np.int32],
    cells: NDArray[np.int32],
    successor: NDArray[np.int32],
    others: NDArray[np.int32],
) -> NDArray[np.int32]:
    """The path of a decision diagram without slack that meets the fewest others, shape (cost + 1,).

    Parameters
    ----------
    others
        Shape (k, t): cells of other agents by time, the last column holding from then on; -1 in column 0 of a row
        says that the row is empty.
    """
    size = cells.shape[0]
    met = np.zeros(size, np.int32)
    step = np.zeros(size, np.int32)
    agents, length = others.shape
    for time in range(cost - 1, -1, -1):
        now, then = min(time, length - 1), min(time + 1, length - 1)
        for node in range(layer[time], layer[time + 1]):
            least = NEVER
            for move in range(5):
                following = successor[node, move]
                if following < 0:
                    continue
                value = met[following]
                for agent in range(agents):
                    if others[agent, 0] < 0:
                        continue
                    if others[agent, then] == cells[following] or (
                        others[agent, then] == cells[node] and others[agent, now] == cells[following]
                    ):
                        value += 1
                if value < least:
                    least = value
                    step[node] = move
            met[node] = least
    path = np.empty(cost + 1, np.int32)
    node = 0
    path[0] = cells[0]
    for time in range(cost):
        node = successor[node, step[node]]
        path[time + 1] = cells[node]
    return path
