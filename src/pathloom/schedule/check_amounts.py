"""Resources that several tasks share: capacities, stocks, addresses, states."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

from pathloom.plan import Violation
from pathloom.schedule.check_machines import setup_times
from pathloom.schedule.check_reading import NONE, OPEN, Ints, Reading
from pathloom.schedule.problem import AddressRange, Consumable, Renewable

_LONG_AGO = -(2**61)


def capacities(reading: Reading) -> list[Violation]:
    """Renewable resources: the amounts of the demands under way never exceed the capacity.

    A demand for a part of the processing time counts from the task's start, and no longer than the task holds its
    resources.
    """
    columns, found = reading.columns, []
    rows = reading.rows_on(columns.is_renewable)
    task, demand = reading.task[rows], reading.row[rows]
    low = reading.start[task] + columns.since[demand]
    until = columns.until[demand]
    high = np.minimum(reading.departure[task], np.where(until == OPEN, OPEN, reading.start[task] + until))
    held = (low < high) & (columns.amount[demand] > 0)
    task, demand, low, high = task[held], demand[held], low[held], high[held]
    resource = columns.resource[demand]
    who, when, level = _levels(resource, low, high, columns.amount[demand])
    capacity = np.array([r.capacity if isinstance(r, Renewable) else 0 for r in reading.problem.resources], np.int64)
    over = level > capacity[who] if len(who) else np.zeros(0, np.bool_)
    starting = over & ~(np.concatenate(([False], over[:-1])) & (np.diff(who, prepend=NONE) == 0))
    for at in np.flatnonzero(starting):
        (name,) = reading.resource_names(who[at])
        users = np.unique(task[(resource == who[at]) & (low <= when[at]) & (high > when[at])])
        message = f"{int(level[at])} units of {name} are in use at {int(when[at])}, it has {int(capacity[who[at]])}"
        found.append(Violation("capacity", message, reading.names(*users), (name,)))
    return found


def _levels(resource: Ints, low: Ints, high: Ints, amount: Ints) -> tuple[Ints, Ints, Ints]:
    """For every resource and time at which its use changes: resource, time, and units in use from then on."""
    who, when = np.concatenate((resource, resource)), np.concatenate((low, high))
    change = np.concatenate((amount, -amount))
    order = np.lexsort((when, who))
    who, when = who[order], when[order]
    level = np.cumsum(change[order])  # each resource ends at 0, so that the next one begins there
    last = np.append((np.diff(who) != 0) | (np.diff(when) != 0), True)[: len(who)]
    return who[last], when[last], level[last]


def stocks(reading: Reading) -> list[Violation]:
    """Consumable resources: what has been taken by starts never exceeds what was there, delivered and made by ends."""
    columns, found = reading.columns, []
    rows = reading.rows_on(columns.is_stock)
    resource = columns.resource[reading.row[rows]]
    for number in np.unique(resource):
        stock = reading.problem.resources[number]
        assert isinstance(stock, Consumable)
        mine = rows[resource == number]
        task, amount = reading.task[mine], columns.amount[reading.row[mine]]
        when = np.where(amount >= 0, reading.start[task], reading.end[task])
        supplies = np.array(stock.supplies, np.int64).reshape(-1, 2)
        times = np.concatenate((when, supplies[:, 0]))
        changes = np.concatenate((-amount, supplies[:, 1]))
        order = np.argsort(times, kind="stable")
        level = stock.capacity + np.cumsum(changes[order])
        last = np.append(np.diff(times[order]) != 0, True)
        moments, level = times[order][last], level[last]
        below = level < 0
        for at in np.flatnonzero(below & ~np.concatenate(([False], below[:-1]))):
            takers = np.unique(task[(when == moments[at]) & (amount > 0)])
            message = f"{stock.name} falls to {int(level[at])} at {int(moments[at])}, expected at least 0"
            found.append(Violation("stock", message, reading.names(*takers), (stock.name,)))
    return found


def addresses(reading: Reading) -> list[Violation]:
    """Blocks lie within their range, and no two of them share an address at one time."""
    columns, found = reading.columns, []
    rows = reading.rows_on(columns.is_range)
    rows = rows[columns.amount[reading.row[rows]] > 0]
    task, resource = reading.task[rows], columns.resource[reading.row[rows]]
    address, size = reading.address[task], columns.amount[reading.row[rows]]
    whole = np.array([r.size if isinstance(r, AddressRange) else 0 for r in reading.problem.resources], np.int64)
    outside = (address < 0) | (address + size > whole[resource]) if len(rows) else np.zeros(0, np.bool_)
    for at in np.flatnonzero(outside):
        names, ranges = reading.names(task[at]), reading.resource_names(resource[at])
        message = (
            f"{names[0]} holds the addresses [{int(address[at])}, {int(address[at] + size[at])}) of {ranges[0]}, "
            f"which has [0, {int(whole[resource[at]])})"
        )
        found.append(Violation("address-range", message, names, ranges))
    within = ~outside & (reading.start[task] < reading.departure[task])
    for number in np.unique(resource[within]):
        mine = within & (resource == number)
        for one, other, when in _shared(
            reading.start[task[mine]], reading.departure[task[mine]], address[mine], size[mine]
        ):
            names = reading.names(task[mine][one], task[mine][other])
            ranges = reading.resource_names(number)
            message = f"{names[0]} and {names[1]} share addresses of {ranges[0]} at {when}"
            found.append(Violation("address-overlap", message, names, ranges))
    return found


def _shared(start: Ints, departure: Ints, address: Ints, size: Ints) -> list[tuple[int, int, int]]:
    """Pairs of blocks that share an address, and since when; a sweep through time over the blocks in use.

    Blocks in use are kept by address; a new one is compared with its neighbours, which suffices to find a pair
    wherever there is one.
    """
    count = len(start)
    times = np.concatenate((departure, start))  # at one time, blocks are freed before others are taken
    events = np.lexsort((np.arange(2 * count) >= count, times)).tolist()
    first, end = address.tolist(), (address + size).tolist()
    in_use: list[tuple[int, int]] = []
    found = []
    for event in events:
        block = event % count
        key = (first[block], block)
        if event < count:
            del in_use[bisect_left(in_use, key)]
            continue
        place = bisect_left(in_use, key)
        for neighbour in in_use[max(0, place - 1) : place + 1]:
            other = neighbour[1]
            if first[other] < end[block] and first[block] < end[other]:
                found.append((other, block, int(start[block])))
        insort(in_use, key)
    return found


def states(reading: Reading) -> list[Violation]:
    """State resources: tasks in different states do not overlap, and are apart by the set-up time."""
    columns, found = reading.columns, []
    rows = reading.rows_on(columns.is_state)
    resource = columns.resource[reading.row[rows]]
    for number in np.unique(resource):
        mine = rows[resource == number]  # by start, then departure
        task, state = reading.task[mine], columns.state[reading.row[mine]]
        start, departure = reading.start[task], reading.departure[task]
        alike = np.full(len(task), number)
        (name,) = reading.resource_names(number)
        if columns.initial[number] != NONE:
            initial = np.full(len(task), columns.initial[number])
            least = setup_times(reading, alike, initial, state)
            for at in np.flatnonzero((state != initial) & (start < least)):
                names = reading.names(task[at])
                message = f"{names[0]} starts on {name} at {int(start[at])}, its first set-up ends at {int(least[at])}"
                found.append(Violation("initial-state", message, names, (name,)))
        for before in np.unique(state):
            # the task in this state, among those that come earlier, that is there longest
            reach = np.where(state == before, departure, _LONG_AGO)
            longest = np.maximum.accumulate(reach)
            rises = np.diff(longest, prepend=_LONG_AGO) > 0
            holder = np.maximum.accumulate(np.where(rises, np.arange(len(task)), NONE))
            holder = np.concatenate(([NONE], holder[:-1]))
            setup = setup_times(reading, alike, np.full(len(task), before), state)
            wrong = (holder != NONE) & (state != before) & (start < departure[holder] + setup)
            for at in np.flatnonzero(wrong):
                names = reading.names(task[holder[at]], task[at])
                message = (
                    f"{names[1]} starts at {int(start[at])} in state {int(state[at])} of {name}, expected at least "
                    f"{int(setup[at])} after {names[0]} in state {int(before)} leaves at {int(departure[holder[at]])}"
                )
                found.append(Violation("state", message, names, (name,)))
    return found
