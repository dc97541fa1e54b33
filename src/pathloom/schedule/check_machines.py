"""Machines and the order of the tasks on them: one at a time, set-ups, no gaps, sequences, hand-overs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pathloom.plan import Violation
from pathloom.schedule.check_reading import NONE, Ints, Reading
from pathloom.schedule.check_times import moves
from pathloom.schedule.problem import Machine


@dataclass(frozen=True, eq=False)
class Sequences:
    """Tasks on machines, by machine, start and departure.

    Attributes
    ----------
    machine, task, state
        Shape (uses,).
    follows
        Shape (uses,): whether the use before it is on the same machine.
    """

    machine: Ints
    task: Ints
    state: Ints
    follows: np.ndarray

    @classmethod
    def of(cls, reading: Reading) -> Sequences:
        rows = reading.rows_on(reading.columns.is_machine)
        machine = reading.columns.resource[reading.row[rows]]
        return cls(
            machine, reading.task[rows], reading.columns.state[reading.row[rows]], np.diff(machine, prepend=NONE) == 0
        )


def machines(reading: Reading) -> list[Violation]:
    """No two tasks at a time, set-up times in between, no gaps on machines that allow none."""
    columns, uses, found = reading.columns, Sequences.of(reading), []
    start, departure = reading.start[uses.task], reading.departure[uses.task]

    # Each use against the one of its machine that reaches furthest before it: a running maximum over ranks of
    # departures, each machine's ranks above those of the machines before it.
    rank = np.unique(departure, return_inverse=True)[1] + uses.machine * (len(departure) + 1)
    rises = np.diff(np.maximum.accumulate(rank), prepend=NONE) > 0 if len(rank) else np.zeros(0, np.bool_)
    furthest = np.maximum.accumulate(np.where(rises, np.arange(len(rank)), 0))
    before = np.concatenate(([0], furthest[:-1])).astype(np.int64)[: len(rank)]
    clash = uses.follows & (departure[before] > start)
    for use in np.flatnonzero(clash):
        pair = (before[use], use)
        names = reading.names(*uses.task[list(pair)])
        spans = [f"[{int(start[one])}, {int(departure[one])})" for one in pair]
        (machine,) = reading.resource_names(uses.machine[use])
        message = f"{names[0]} in {spans[0]} and {names[1]} in {spans[1]} are on {machine} at one time"
        found.append(Violation("overlap", message, names, (machine,)))

    last = np.arange(len(rank)) - 1
    before = np.where(uses.follows, uses.state[last], uses.state)  # a state of another machine means nothing here
    setup = np.where(uses.follows, setup_times(reading, uses.machine, before, uses.state), 0)
    gap = start - departure[last]
    short = uses.follows & ~clash & (gap < setup)
    no_idle = np.array([isinstance(r, Machine) and r.no_idle for r in reading.problem.resources], np.bool_)
    idle = uses.follows & (gap > setup) & (no_idle[uses.machine] if len(no_idle) else False)
    for rule, wrong, words in (("set-up", short, "a set-up takes"), ("no-idle", idle, "without idle time there are")):
        for use in np.flatnonzero(wrong):
            names = reading.names(uses.task[use - 1], uses.task[use])
            (machine,) = reading.resource_names(uses.machine[use])
            message = f"{int(gap[use])} between {names[0]} and {names[1]} on {machine}, {words} {int(setup[use])}"
            found.append(Violation(rule, message, names, (machine,)))

    opening = np.flatnonzero(~uses.follows)
    opening = opening[columns.initial[uses.machine[opening]] != NONE] if len(opening) else opening
    first = setup_times(reading, uses.machine[opening], columns.initial[uses.machine[opening]], uses.state[opening])
    for at in np.flatnonzero(start[opening] < first):
        use = opening[at]
        names, resources = reading.names(uses.task[use]), reading.resource_names(uses.machine[use])
        message = f"{names[0]} starts on {resources[0]} at {int(start[use])}, its first set-up ends at {int(first[at])}"
        found.append(Violation("initial-state", message, names, resources))
    return found


def setup_times(reading: Reading, resource: Ints, before: Ints, after: Ints) -> Ints:
    """Set-up times of resources from one state to another, 0 for resources without; all shapes (n,)."""
    columns = reading.columns
    time = np.zeros(len(resource), np.int64)
    known = np.flatnonzero(columns.setup_size[resource] > 0) if len(resource) else np.zeros(0, np.int64)
    which = resource[known]
    time[known] = columns.setup[columns.setup_at[which] + before[known] * columns.setup_size[which] + after[known]]
    return time


def sequences(reading: Reading) -> list[Violation]:
    """Pairs that directly follow each other, and equal orders on two machines."""
    found: list[Violation] = []
    problem = reading.problem
    if not (problem.consecutive or problem.same_sequences):
        return found
    uses = Sequences.of(reading)
    on = {pair: use for use, pair in enumerate(zip(uses.machine.tolist(), uses.task.tolist(), strict=True))}
    used: dict[int, list[int]] = {}
    for machine, task in on:
        used.setdefault(task, []).append(machine)
    # Rank of each use by start and departure; uses that are equal in both may come in any order.
    start, departure = reading.start[uses.task], reading.departure[uses.task]
    rank = np.cumsum(~uses.follows | (np.diff(start, prepend=0) != 0) | (np.diff(departure, prepend=0) != 0))
    for link in problem.consecutive:
        for machine in sorted(set(used.get(link.first, ())) & set(used.get(link.second, ()))):
            low, high = on[machine, link.first], on[machine, link.second]
            if 0 <= rank[high] - rank[low] <= 1:
                continue
            between = uses.task[np.flatnonzero((rank > rank[low]) & (rank < rank[high]))]
            names = reading.names(link.first, link.second)
            (name,) = reading.resource_names(machine)
            why = f"after {', '.join(reading.names(*between))}" if len(between) else "before it"
            message = f"{names[1]} must directly follow {names[0]} on {name}, but comes {why}"
            found.append(Violation("consecutive", message, names + reading.names(*between), (name,)))
    for both in problem.same_sequences:
        pairs = [
            (int(reading.start[first]), int(reading.start[second]), first, second)
            for first, second in zip(both.first_tasks, both.second_tasks, strict=True)
            if (both.first_machine, first) in on and (both.second_machine, second) in on
        ]
        pairs.sort()
        for (_, earlier, first, second), (_, later, next_first, next_second) in pairwise(pairs):
            if earlier > later:
                names = reading.names(first, next_first, second, next_second)
                resources = reading.resource_names(both.first_machine, both.second_machine)
                message = (
                    f"{names[0]} comes before {names[1]} on {resources[0]}, but {names[2]} after {names[3]} on "
                    f"{resources[1]}, expected the same order"
                )
                found.append(Violation("same-sequence", message, names, resources))
    return found


def hand_overs(reading: Reading) -> list[Violation]:
    """Where swaps are not allowed, no tasks that start at one instant wait for each other's machines in a circle.

    A task that starts when a machine is freed waits for what frees it: the start of the task that the blocked task
    before it on the machine waits for, and the start of that one itself if it also starts now. It also waits for the
    task before it in its own job, if that one takes no time.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    columns = reading.columns
    if reading.problem.swap or not columns.blocking.any():
        return []
    uses = Sequences.of(reading)
    at_once = columns.blocking & (moves(reading) == 0)
    first, second = columns.link[at_once, 0], columns.link[at_once, 1]
    moved = reading.present[first] & reading.present[second] & (reading.departure[first] == reading.start[second])
    first, second = first[moved], second[moved]
    here = np.flatnonzero(uses.follows)
    leaver, comer = uses.task[here - 1], uses.task[here]
    handed = reading.departure[leaver] == reading.start[comer]
    leaver, comer = leaver[handed], comer[handed]
    # every (comer, what the leaver waits for); a leaver may wait for several tasks
    order = np.argsort(first, kind="stable")
    low, high = np.searchsorted(first[order], leaver), np.searchsorted(first[order], leaver, side="right")
    waiting = np.repeat(comer, high - low)
    place = np.repeat(low - (np.cumsum(high - low) - (high - low)), high - low) + np.arange(len(waiting))
    needed = second[order][place]
    short = reading.start[first] == reading.start[second]
    passing = reading.start[leaver] == reading.start[comer]
    waiting = np.concatenate((waiting, second[short], comer[passing]))
    needed = np.concatenate((needed, first[short], leaver[passing]))
    proper = waiting != needed  # a job that stays on its machine waits for nobody
    waiting, needed = waiting[proper], needed[proper]
    count = len(reading.start)
    graph = coo_array((np.ones(len(waiting), np.int8), (waiting, needed)), shape=(count, count))
    _, label = connected_components(graph, directed=True, connection="strong")
    found = []
    for part in np.flatnonzero(np.bincount(label, minlength=1) > 1):
        tasks = np.flatnonzero(label == part)
        taken = np.unique(uses.machine[np.isin(uses.task, tasks)])
        names, resources = reading.names(*tasks), reading.resource_names(*taken)
        message = f"{', '.join(names)} change places at {int(reading.start[tasks[0]])}, which needs a swap"
        found.append(Violation("swap", message, names, resources))
    return found
