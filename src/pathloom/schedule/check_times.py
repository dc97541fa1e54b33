"""When tasks take place: durations under calendars, windows, lags between tasks, blocking."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Violation
from pathloom.schedule.check_reading import NONE, OPEN, Flags, Ints, Reading
from pathloom.schedule.problem import FULL_SPEED, Calendar


class _Clock:
    """The slowest of some calendars: speed of work over time, and the work that could be done until a time."""

    def __init__(self, calendars: tuple[Calendar, ...]) -> None:
        times = sorted({time for calendar in calendars for time, _ in calendar.changes})
        speeds = [min(_speed(calendar, time) for calendar in calendars) for time in times]
        self.times = np.array(times, np.int64)
        # before the first change all work at full speed
        self.speeds = np.array([FULL_SPEED, *speeds], np.int64)
        lengths = np.diff(self.times, prepend=0)
        self.fastest = int(self.speeds.max())
        self.done = np.cumsum([0, *(int(s) * int(t) for s, t in zip(self.speeds[:-1], lengths, strict=True))])
        self.since = np.concatenate(([0], self.times))
        still = np.flatnonzero(np.array(speeds) == 0)
        self.break_start = self.times[still]
        self.break_end = np.append(self.times, OPEN)[still + 1]

    def work(self, time: Ints) -> NDArray:
        """Percent of units of work that are done from time 0 to each time; whole numbers of any size."""
        piece = np.searchsorted(self.times, time, side="right")
        large = int(np.abs(time).max(initial=0)) * self.fastest >= 2**61
        kind = object if large else np.int64
        return self.done[piece].astype(kind) + self.speeds[piece].astype(kind) * (time - self.since[piece]).astype(kind)


def _speed(calendar: Calendar, time: int) -> int:
    """Speed at a time: that of the last change until then."""
    return next((speed for at, speed in reversed(calendar.changes) if at <= time), FULL_SPEED)


def durations(reading: Reading) -> list[Violation]:
    """Tasks last as long as their work takes, and no break comes in between where none may."""
    columns, found = reading.columns, []
    tasks = np.flatnonzero(reading.present)
    calendar = columns.calendar[columns.resource[reading.row]] if len(columns.calendar) else reading.row
    timed = np.flatnonzero(calendar != NONE) if len(columns.calendar) else np.zeros(0, np.int64)
    plain = reading.present.copy()
    plain[reading.task[timed]] = False
    length = reading.end - reading.start
    wrong = plain & ((length < reading.duration) | (~columns.allow_idle & (length > reading.duration)))
    for task in np.flatnonzero(wrong):
        found.append(_duration(reading, int(task), int(reading.start[task] + reading.duration[task])))
    if not len(timed):
        return found
    for calendars, members in _groups(reading.task[timed], calendar[timed], len(tasks) and int(tasks[-1]) + 1):
        clock = _Clock(tuple(columns.calendars[number] for number in calendars))
        start, end, idle = reading.start[members], reading.end[members], columns.allow_idle[members]
        needed = reading.duration[members]
        before = clock.work(start)
        target = before + needed.astype(before.dtype) * FULL_SPEED
        early = (clock.work(end) < target) | (end < start)
        late = ~idle & ((end > start) & (clock.work(end - 1) >= target))
        late |= ~idle & (needed == 0) & (end > start)
        for task in members[np.flatnonzero(early | late)]:
            found.append(_duration(reading, int(task), None))
        if not len(clock.break_end):
            continue
        next_break = np.searchsorted(clock.break_end, start, side="right")
        begins = np.append(clock.break_start, OPEN)[next_break]
        for at in np.flatnonzero(~columns.allow_breaks[members] & (begins < end)):
            (name,) = reading.names(members[at])
            used = {int(r) for r in columns.resource[reading.row[reading.task == members[at]]]}
            named = reading.resource_names(*sorted(r for r in used if columns.calendar[r] in calendars))
            when = f"[{int(begins[at])}, {int(clock.break_end[next_break[at]])})"
            message = (
                f"{name} in [{int(start[at])}, {int(end[at])}) is interrupted by the break {when}, which it may not"
            )
            found.append(Violation("break", message, (name,), named))
    return found


def _groups(tasks: Ints, calendars: Ints, count: int) -> Iterator[tuple[tuple[int, ...], Ints]]:
    """Tasks that work under the same calendars, with these calendars."""
    pairs = np.unique(np.stack((tasks, calendars), axis=1), axis=0)
    number = np.bincount(pairs[:, 0], minlength=count)
    single = pairs[number[pairs[:, 0]] == 1]
    for calendar in np.unique(single[:, 1]):
        yield (int(calendar),), single[single[:, 1] == calendar, 0]
    several: dict[tuple[int, ...], list[int]] = {}
    for task in np.flatnonzero(number > 1):
        low, high = np.searchsorted(pairs[:, 0], (task, task + 1))
        several.setdefault(tuple(pairs[low:high, 1].tolist()), []).append(int(task))
    for key, members in several.items():
        yield key, np.array(members, np.int64)


def _duration(reading: Reading, task: int, expected: int | None) -> Violation:
    (name,) = reading.names(task)
    work = f"{int(reading.duration[task])} units of work"
    asked = f", expected an end at {expected}" if expected is not None else " at the speeds of its resources"
    if reading.columns.allow_idle[task]:
        asked += " or later"
    message = f"{name} takes [{int(reading.start[task])}, {int(reading.end[task])}) for {work}{asked}"
    return Violation("duration", message, (name,))


def windows(reading: Reading) -> list[Violation]:
    """Starts and ends lie in the tasks' own windows and those of their jobs."""
    columns, found = reading.columns, []
    low_start, high_start, low_end, high_end = columns.windows
    limits: list[tuple[str, Ints, str, Flags, Ints]] = [
        ("window", reading.start, "starts at {} before its earliest start", reading.start < low_start, low_start),
        ("window", reading.start, "starts at {} after its latest start", reading.start > high_start, high_start),
        ("window", reading.end, "ends at {} before its earliest end", reading.end < low_end, low_end),
        ("window", reading.end, "ends at {} after its latest end", reading.end > high_end, high_end),
        ("release", reading.start, "starts at {} before its release", reading.start < columns.release, columns.release),
        ("deadline", reading.end, "ends at {} after its deadline", reading.end > columns.deadline, columns.deadline),
    ]
    for rule, value, words, wrong, limit in limits:
        for task in np.flatnonzero(reading.present & wrong):
            (name,) = reading.names(task)
            message = f"{name} {words.format(int(value[task]))} {int(limit[task])}"
            found.append(Violation(rule, message, (name,)))
    return found


def moves(reading: Reading) -> Ints:
    """Shape (precedences,): transport time from the resource of the first task to that of the second; 0 if none."""
    columns, count = reading.columns, len(reading.start)
    time = np.zeros(len(columns.link), np.int64)
    if not columns.transported.any():
        return time
    place = np.full(count, NONE, np.int64)
    leading = np.flatnonzero(np.diff(reading.task, prepend=NONE) != 0)  # rows lie task by task, in order of demands
    place[reading.task[leading]] = columns.resource[reading.row[leading]]
    here, there = place[columns.link[:, 0]], place[columns.link[:, 1]]
    moved = np.flatnonzero(columns.transported & (here != NONE) & (there != NONE))
    time[moved] = columns.transport[here[moved], there[moved]]
    return time


def lags(reading: Reading) -> list[Violation]:
    """Least and greatest times between the events of two present tasks."""
    columns, found = reading.columns, []
    first, second = columns.link[:, 0], columns.link[:, 1]
    both = reading.present[first] & reading.present[second]
    event = np.where(columns.link[:, 2] == 1, reading.end[first], reading.start[first])
    gap = np.where(columns.link[:, 3] == 1, reading.end[second], reading.start[second]) - event
    move = moves(reading)
    least, most = columns.min_lag, np.where(columns.max_lag == OPEN, OPEN, columns.max_lag + move)
    kinds: tuple[tuple[str, Flags, Callable[[int], str]], ...] = (
        ("min-lag", gap < least, lambda i: f"expected at least {int(least[i])}"),
        (
            "transport",
            (gap >= least) & (gap < least + move),
            lambda i: f"expected at least {int(least[i])} and {int(move[i])} for the transport",
        ),
        ("max-lag", gap > most, lambda i: f"expected at most {int(most[i])}"),
    )
    for rule, wrong, expected in kinds:
        for link in np.flatnonzero(both & wrong):
            names = reading.names(first[link], second[link])
            relation = reading.problem.precedences[link].relation
            message = f"{names[1]} follows {names[0]} ({relation}) by {int(gap[link])}, {expected(int(link))}"
            found.append(Violation(rule, message, names))
    return found


def departures(reading: Reading) -> list[Violation]:
    """Resources are freed at the end, or by a blocked task when the task that it waits for starts."""
    columns, found = reading.columns, []
    link = np.flatnonzero(columns.blocking)
    first, second = columns.link[link, 0], columns.link[link, 1]
    both = reading.present[first] & reading.present[second]
    expected = reading.end.copy()
    np.maximum.at(expected, first[both], (reading.start[second] - moves(reading)[link])[both])
    for task in np.flatnonzero(reading.present & (reading.departure != expected)):
        (name,) = reading.names(task)
        message = f"{name} frees its resources at {int(reading.departure[task])}, expected {int(expected[task])}"
        found.append(Violation("blocking", message, (name,)))
    return found
