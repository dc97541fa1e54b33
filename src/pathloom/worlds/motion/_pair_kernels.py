"""Compiled kernels for pairs of agents: where their paths conflict, and what they give up to pass each other.

Cells, moves and times are those of `_kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pathloom.worlds.motion._kernels import NEVER


@njit(cache=True)
def side_by_side(paths: NDArray[np.int32], lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    """Paths that follow each other in one array, as rows of a table of shape (k, longest), each resting at its end."""
    table = np.empty((lengths.shape[0], lengths.max()), np.int32)
    first = 0
    for row in range(lengths.shape[0]):
        last = first + lengths[row]
        table[row, : lengths[row]] = paths[first:last]
        table[row, lengths[row] :] = paths[last - 1]
        first = last
    return table


@njit(cache=True)
def count_conflicting_pairs(paths: NDArray[np.int32]) -> int:
    """Number of pairs of rows of `paths`, shape (k, t), that meet at a cell or swap cells."""
    agents, length = paths.shape
    pairs = 0
    for a in range(agents):
        for b in range(a + 1, agents):
            for time in range(1, length):
                if paths[a, time] == paths[b, time] or (
                    paths[a, time] == paths[b, time - 1] and paths[b, time] == paths[a, time - 1]
                ):
                    pairs += 1
                    break
    return pairs


@njit(cache=True)
def find_conflicts(paths: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
    """Conflicts as rows (a, b, time, swap), swap 0 or 1, ordered by pair; at most `limit` a pair, at least 1."""
    agents, length = paths.shape
    found = np.empty((64, 4), np.int32)
    size = 0
    for a in range(agents):
        for b in range(a + 1, agents):
            mine = 0
            for time in range(1, length):
                swap = 0
                if paths[a, time] != paths[b, time]:
                    if paths[a, time] != paths[b, time - 1] or paths[b, time] != paths[a, time - 1]:
                        continue
                    swap = 1
                if size == found.shape[0]:
                    larger = np.empty((2 * size, 4), np.int32)
                    larger[:size] = found
                    found = larger
                found[size, 0], found[size, 1], found[size, 2], found[size, 3] = a, b, time, swap
                size += 1
                mine += 1
                if mine >= limit:
                    break
    return found[:size]


@njit(cache=True)
def trade_off(
    cost_a: int,
    layer_a: NDArray[np.int32],
    cells_a: NDArray[np.int32],
    finish_a: NDArray[np.int32],
    successor_a: NDArray[np.int32],
    first_a: int,
    goal_a: int,
    cost_b: int,
    layer_b: NDArray[np.int32],
    cells_b: NDArray[np.int32],
    finish_b: NDArray[np.int32],
    successor_b: NDArray[np.int32],
    first_b: int,
    goal_b: int,
    slack: int,
    work_limit: int,
) -> NDArray[np.int32]:
    """What two agents must give up to pass each other: the Pareto front of their delays.

    A sweep over time through the product of the agents' decision diagrams (both with slack `slack`), restricted to
    pairs of delays whose sum is at most `slack`. A finished agent keeps only its earliest finish, which is best for
    whatever the other one does later.

    Parameters
    ----------
    first_a, first_b
        Times from which the agents may finish.
    work_limit
        Number of joint states after which the sweep gives up.

    Returns
    -------
    ndarray
        Shape (slack + 1,): entry d is the least delay of b when a's delay is at most d, NEVER if none keeps the slack.
        Of shape (0,) if the sweep gave up.
    """
    front = np.full(slack + 1, NEVER, np.int32)
    end_a, end_b = layer_a.shape[0] - 1, layer_b.shape[0] - 1
    end = max(end_a, end_b)
    widest_a, widest_b = 0, 0
    for time in range(end_a):
        widest_a = max(widest_a, layer_a[time + 1] - layer_a[time])
    for time in range(end_b):
        widest_b = max(widest_b, layer_b[time + 1] - layer_b[time])
    # Row `widest_a` (column `widest_b`) stands for a finished agent; entries hold its finish, 0 without one.
    now = np.full((widest_a + 1, widest_b + 1), NEVER, np.int32)
    then = np.full((widest_a + 1, widest_b + 1), NEVER, np.int32)
    done_a, done_b = widest_a, widest_b
    ended_a = cost_a == 0
    ended_b = cost_b == 0
    now[0, 0] = 0
    if ended_a:
        now[done_a, 0] = 0
    if ended_b:
        now[0, done_b] = 0
    if ended_a and ended_b:
        front[:] = 0
        return front
    work = 0
    for time in range(end - 1):
        base_a = layer_a[time] if time < end_a else 0
        base_b = layer_b[time] if time < end_b else 0
        width_a = layer_a[time + 1] - base_a if time < end_a else 0
        width_b = layer_b[time + 1] - base_b if time < end_b else 0
        next_a = layer_a[time + 1] if time + 1 < end_a else 0
        next_b = layer_b[time + 1] if time + 1 < end_b else 0
        next_width_a = layer_a[time + 2] - next_a if time + 1 < end_a else 0
        next_width_b = layer_b[time + 2] - next_b if time + 1 < end_b else 0
        for i in range(next_width_a):
            for j in range(next_width_b):
                then[i, j] = NEVER
            then[i, done_b] = NEVER
        for j in range(next_width_b):
            then[done_a, j] = NEVER
        alive = False
        work += (width_a + 1) * (width_b + 1)
        if work > work_limit:
            return front[:0]
        for i in range(width_a + 1):
            row = i if i < width_a else done_a
            for j in range(width_b + 1):
                column = j if j < width_b else done_b
                value = now[row, column]
                if value == NEVER or (row == done_a and column == done_b):
                    continue
                alive = True
                if row != done_a and column != done_b:
                    node_a, node_b = base_a + i, base_b + j
                    for move_a in range(5):
                        to_a = successor_a[node_a, move_a]
                        if to_a < 0:
                            continue
                        cell_a = cells_a[to_a]
                        if finish_a[to_a] >= NEVER:
                            go_a = NEVER
                        else:
                            go_a = finish_a[to_a] - cost_a
                        end_now_a = cell_a == goal_a and move_a != 0 and time + 1 >= first_a
                        for move_b in range(5):
                            to_b = successor_b[node_b, move_b]
                            if to_b < 0:
                                continue
                            cell_b = cells_b[to_b]
                            if cell_a == cell_b or (cell_a == cells_b[node_b] and cell_b == cells_a[node_a]):
                                continue
                            go_b = NEVER
                            if finish_b[to_b] < NEVER:
                                go_b = finish_b[to_b] - cost_b
                            end_now_b = cell_b == goal_b and move_b != 0 and time + 1 >= first_b
                            if go_a + go_b <= slack:
                                then[to_a - next_a, to_b - next_b] = 0
                            if end_now_a and time + 1 - cost_a + go_b <= slack:
                                then[done_a, to_b - next_b] = min(then[done_a, to_b - next_b], time + 1)
                            if end_now_b and time + 1 - cost_b + go_a <= slack:
                                then[to_a - next_a, done_b] = min(then[to_a - next_a, done_b], time + 1)
                            if end_now_a and end_now_b and 2 * (time + 1) - cost_a - cost_b <= slack:
                                late = time + 1 - cost_a
                                front[late] = min(front[late], time + 1 - cost_b)
                elif row == done_a:
                    node_b = base_b + j
                    late_a = value - cost_a
                    for move_b in range(5):
                        to_b = successor_b[node_b, move_b]
                        if to_b < 0 or cells_b[to_b] == goal_a:
                            continue
                        if finish_b[to_b] < NEVER and late_a + finish_b[to_b] - cost_b <= slack:
                            then[done_a, to_b - next_b] = min(then[done_a, to_b - next_b], value)
                        if cells_b[to_b] == goal_b and move_b != 0 and time + 1 >= first_b:
                            late_b = time + 1 - cost_b
                            if late_a + late_b <= slack:
                                front[late_a] = min(front[late_a], late_b)
                else:
                    node_a = base_a + i
                    late_b = value - cost_b
                    for move_a in range(5):
                        to_a = successor_a[node_a, move_a]
                        if to_a < 0 or cells_a[to_a] == goal_b:
                            continue
                        if finish_a[to_a] < NEVER and late_b + finish_a[to_a] - cost_a <= slack:
                            then[to_a - next_a, done_b] = min(then[to_a - next_a, done_b], value)
                        if cells_a[to_a] == goal_a and move_a != 0 and time + 1 >= first_a:
                            late_a = time + 1 - cost_a
                            if late_a + late_b <= slack:
                                front[late_a] = min(front[late_a], late_b)
        if not alive:
            break
        now, then = then, now
    for late in range(1, slack + 1):
        front[late] = min(front[late], front[late - 1])
    return front
