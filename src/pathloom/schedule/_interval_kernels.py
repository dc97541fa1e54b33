"""Compiled steps of the interval environment (see `interval_environment` for the meaning and the shapes).

A `pack` is the tuple of arrays that describe the shops (never written), a `state` the tuple of arrays that describe
the episodes. Operations, alternatives, jobs and machines are numbered through all shops of a pack; those of an episode
lie in `state` at the episode's own offsets.
"""

from __future__ import annotations

import numpy as np
from numba import njit

FAR = np.int64(2**62)
START_OF_JOB, END_OF_JOB, FIXED, UNFIXED, LEGAL = 0, 1, 2, 3, 4
SHORTEST, MOST_WORK, MOST_OPERATIONS, FIRST_COME = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def advance(pack, state, e):
    """Find the episode's time (least lower bound of a next operation) and the second one, -1 if there is none."""
    (shop_job, _, shop_machine, job_op, op_alt, alt_machine, _, _, _, _, _) = pack
    (shop, ep_job, _, ep_machine, next_op, ready, free, _, _, _, floor, now, later, _, _) = state
    p = shop[e]
    least, second = FAR, FAR
    for j in range(shop_job[p], shop_job[p + 1]):
        here = ep_job[e] + j - shop_job[p]
        o = next_op[here]
        if o == job_op[j + 1]:
            continue
        for a in range(op_alt[o], op_alt[o + 1]):
            bound = max(ready[here], free[ep_machine[e] + alt_machine[a] - shop_machine[p]], floor[e])
            if bound < least:
                least, second = bound, least
            elif least < bound < second:
                second = bound
    now[e] = least
    later[e] = -1 if second == FAR else second


@njit(cache=True, nogil=True)
def reset(pack, state, release, available):
    """Put every episode at its beginning; `release` (jobs of the pack,) and `available` (machines of the pack,)."""
    (shop_job, shop_op, shop_machine, job_op, op_alt, alt_machine, alt_duration, _, _, _, _) = pack
    (shop, ep_job, ep_op, ep_machine, next_op, ready, free, load, start, choice, floor, _, _, left, makespan) = state
    for e in range(len(shop)):
        p = shop[e]
        for j in range(shop_job[p], shop_job[p + 1]):
            here = ep_job[e] + j - shop_job[p]
            next_op[here] = job_op[j]
            ready[here] = release[j]
        for m in range(shop_machine[p], shop_machine[p + 1]):
            free[ep_machine[e] + m - shop_machine[p]] = available[m]
            load[ep_machine[e] + m - shop_machine[p]] = 0.0
        for o in range(shop_op[p], shop_op[p + 1]):
            start[ep_op[e] + o - shop_op[p]] = -1
            choice[ep_op[e] + o - shop_op[p]] = -1
            share = 1.0 / (op_alt[o + 1] - op_alt[o])
            for a in range(op_alt[o], op_alt[o + 1]):
                load[ep_machine[e] + alt_machine[a] - shop_machine[p]] += alt_duration[a] * share
        floor[e] = 0
        left[e] = shop_op[p + 1] - shop_op[p]
        makespan[e] = 0
        advance(pack, state, e)


@njit(cache=True, nogil=True)
def act(pack, state, e, action):
    """Fix the alternative `action` at the episode's time, or (-1) wait; returns whether that was legal."""
    (shop_job, shop_op, shop_machine, _, op_alt, alt_machine, alt_duration, alt_op, op_job, _, _) = pack
    (_, ep_job, ep_op, ep_machine, next_op, ready, free, load, start, choice, floor, now, later, left, makespan) = state
    p = state[0][e]
    if left[e] == 0:
        return False
    if action < 0:
        if later[e] < 0:
            return False
        floor[e] = later[e]
        advance(pack, state, e)
        return True
    if action >= len(alt_op):
        return False
    o = alt_op[action]
    if o < shop_op[p] or o >= shop_op[p + 1]:
        return False
    j = op_job[o]
    here = ep_job[e] + j - shop_job[p]
    machine = ep_machine[e] + alt_machine[action] - shop_machine[p]
    if next_op[here] != o or max(ready[here], free[machine], floor[e]) != now[e]:
        return False
    end = now[e] + alt_duration[action]
    start[ep_op[e] + o - shop_op[p]] = now[e]
    choice[ep_op[e] + o - shop_op[p]] = action
    next_op[here] = o + 1
    ready[here] = end
    free[machine] = end
    share = 1.0 / (op_alt[o + 1] - op_alt[o])
    for a in range(op_alt[o], op_alt[o + 1]):
        load[ep_machine[e] + alt_machine[a] - shop_machine[p]] -= alt_duration[a] * share
    left[e] -= 1
    makespan[e] = max(makespan[e], end)
    advance(pack, state, e)
    return True


@njit(cache=True, nogil=True)
def act_all(pack, state, episodes, actions):
    """`act` on several episodes; returns the position of the first illegal action, -1 if all were legal."""
    for i in range(len(episodes)):
        if not act(pack, state, episodes[i], actions[i]):
            return i
    return -1


@njit(cache=True, nogil=True)
def replay(pack, state, e, actions):
    """`act` one after another on one episode; returns how many were carried out before the first illegal one."""
    for i in range(len(actions)):
        if not act(pack, state, e, actions[i]):
            return i
    return len(actions)


@njit(cache=True, nogil=True)
def count_rows(pack, state, episodes, row_start, episode_group):
    """Number of rows and of groups of the observation of each episode, summed up in the two arrays."""
    (shop_job, _, shop_machine, job_op, op_alt, alt_machine, _, _, _, _, _) = pack
    (shop, ep_job, _, ep_machine, next_op, ready, free, _, _, _, floor, now, _, _, _) = state
    row_start[0] = 0
    episode_group[0] = 0
    for i in range(len(episodes)):
        e = episodes[i]
        p = shop[e]
        machines = shop_machine[p + 1] - shop_machine[p]
        found = np.zeros(machines, np.int64)
        live = np.zeros(machines, np.bool_)
        for j in range(shop_job[p], shop_job[p + 1]):
            here = ep_job[e] + j - shop_job[p]
            o = next_op[here]
            if o == job_op[j + 1]:
                continue
            for a in range(op_alt[o], op_alt[o + 1]):
                m = alt_machine[a] - shop_machine[p]
                found[m] += 1
                if max(ready[here], free[ep_machine[e] + m], floor[e]) == now[e]:
                    live[m] = True
        row_start[i + 1] = row_start[i] + found[live].sum()
        episode_group[i + 1] = episode_group[i] + live.sum()


@njit(cache=True, nogil=True, inline="always")
def _squash(value):
    return np.log1p(value) if value >= 0 else -np.log1p(-value)


@njit(cache=True, nogil=True)
def observe(pack, state, episodes, row_start, episode_group, group_start, kind, position, values, legal, action):
    """Fill the rows of the observation; a row is a next operation on a machine that some operation may take now."""
    (shop_job, shop_op, shop_machine, job_op, op_alt, alt_machine, alt_duration, _, _, op_rest, scale) = pack
    (shop, ep_job, ep_op, ep_machine, next_op, ready, free, load, start, choice, floor, now, _, _, _) = state
    window = kind.shape[1]
    group_start[0] = 0
    for i in range(len(episodes)):
        e = episodes[i]
        p = shop[e]
        machines = shop_machine[p + 1] - shop_machine[p]
        base = ep_machine[e]
        found = np.zeros(machines, np.int64)
        live = np.zeros(machines, np.bool_)
        behind = FAR
        chain_end = np.int64(0)
        for j in range(shop_job[p], shop_job[p + 1]):
            here = ep_job[e] + j - shop_job[p]
            o = next_op[here]
            if o == job_op[j + 1]:
                continue
            behind = min(behind, o - job_op[j])
            soonest = FAR
            for a in range(op_alt[o], op_alt[o + 1]):
                m = alt_machine[a] - shop_machine[p]
                found[m] += 1
                bound = max(ready[here], free[base + m], floor[e])
                soonest = min(soonest, bound)
                if bound == now[e]:
                    live[m] = True
            chain_end = max(chain_end, soonest + op_rest[o])
        machine_end = 0.0
        for m in range(machines):
            if load[base + m] > 1e-6:
                machine_end = max(machine_end, max(free[base + m], now[e]) + load[base + m])
        place = np.full(machines, -1, np.int64)
        row, group = row_start[i], episode_group[i]
        for m in range(machines):
            if live[m]:
                place[m] = row
                row += found[m]
                group += 1
                group_start[group] = row
        for j in range(shop_job[p], shop_job[p + 1]):
            here = ep_job[e] + j - shop_job[p]
            o = next_op[here]
            if o == job_op[j + 1]:
                continue
            first_end = FAR
            for a in range(op_alt[o], op_alt[o + 1]):
                m = alt_machine[a] - shop_machine[p]
                first_end = min(first_end, max(ready[here], free[base + m], floor[e]) + alt_duration[a])
            for a in range(op_alt[o], op_alt[o + 1]):
                m = alt_machine[a] - shop_machine[p]
                if place[m] < 0:
                    continue
                r = place[m]
                place[m] += 1
                bound = max(ready[here], free[base + m], floor[e])
                legal[r] = bound == now[e]
                action[r] = a
                index = o - job_op[j] - behind
                kind[r, 0] = START_OF_JOB
                position[r, 0] = index
                values[r, 0, :] = 0.0
                if o > job_op[j]:
                    chosen = choice[ep_op[e] + o - 1 - shop_op[p]]
                    kind[r, 0] = FIXED
                    values[r, 0, 0] = _squash((start[ep_op[e] + o - 1 - shop_op[p]] - now[e]) / scale[p, 0])
                    values[r, 0, 1] = (alt_duration[chosen] - scale[p, 0]) / scale[p, 1]
                duration = alt_duration[a]
                on = m
                for w in range(1, window):
                    q = o + w - 1
                    position[r, w] = index + w
                    if q >= job_op[j + 1]:
                        kind[r, w] = END_OF_JOB
                        values[r, w, :] = 0.0
                        continue
                    if w > 1:
                        bound += duration
                        duration = FAR
                        soonest = FAR
                        for b in range(op_alt[q], op_alt[q + 1]):
                            soonest = min(soonest, free[base + alt_machine[b] - shop_machine[p]])
                            if alt_duration[b] < duration:
                                duration = alt_duration[b]
                                on = alt_machine[b] - shop_machine[p]
                        bound = max(bound, soonest)
                    after = op_rest[q + 1] if q + 1 < job_op[j + 1] else 0
                    kind[r, w] = LEGAL if w == 1 and legal[r] else UNFIXED
                    values[r, w, 0] = _squash((bound - now[e]) / scale[p, 0])
                    values[r, w, 1] = (duration - scale[p, 0]) / scale[p, 1]
                    values[r, w, 2] = _squash((chain_end - bound - duration - after) / scale[p, 0])
                    slack = machine_end - max(free[base + on], now[e]) - load[base + on]
                    values[r, w, 3] = _squash(slack / scale[p, 0])
                    if w == 1:
                        values[r, w, 4] = _squash((bound + duration - first_end) / scale[p, 0])


@njit(cache=True, nogil=True)
def run_rule(pack, state, e, rule, patient):
    """Finish the episode by a rule; ties go to the first job, and within a job to the shorter duration.

    Without `patient` a machine never waits while it could work. With it a job takes only the alternative that would
    end first, and waits for it.
    """
    (shop_job, _, shop_machine, job_op, op_alt, alt_machine, alt_duration, _, _, op_rest, _) = pack
    (shop, ep_job, _, ep_machine, next_op, ready, free, _, _, _, floor, now, _, left, _) = state
    p = shop[e]
    while left[e] > 0:
        best_key, best_duration, best, best_job = FAR, FAR, np.int64(-1), np.int64(-1)
        for j in range(shop_job[p], shop_job[p + 1]):
            here = ep_job[e] + j - shop_job[p]
            o = next_op[here]
            if o == job_op[j + 1]:
                continue
            wanted = np.int64(-1)
            earliest = FAR
            if patient:
                for a in range(op_alt[o], op_alt[o + 1]):
                    machine = ep_machine[e] + alt_machine[a] - shop_machine[p]
                    end = max(ready[here], free[machine], floor[e]) + alt_duration[a]
                    if end < earliest:
                        earliest, wanted = end, a
            for a in range(op_alt[o], op_alt[o + 1]):
                machine = ep_machine[e] + alt_machine[a] - shop_machine[p]
                if max(ready[here], free[machine], floor[e]) != now[e] or (patient and a != wanted):
                    continue
                if rule == SHORTEST:
                    key = np.int64(alt_duration[a])
                elif rule == MOST_WORK:
                    key = -np.int64(op_rest[o])
                elif rule == MOST_OPERATIONS:
                    key = -np.int64(job_op[j + 1] - o)
                else:
                    key = np.int64(ready[here])
                if key < best_key or (key == best_key and j == best_job and alt_duration[a] < best_duration):
                    best_key, best_duration, best, best_job = key, np.int64(alt_duration[a]), np.int64(a), np.int64(j)
        act(pack, state, e, best)
