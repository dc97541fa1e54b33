"""Changes of feasible schedules that break constraints on times, presence and modes; see `check_mutations`.

Each function adds tasks to a draft that keep a constraint, and gives the change by which they break it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pathloom.schedule.drawn_schedules import Draft, end_of_work
from pathloom.schedule.problem import (
    RELATIONS,
    SELECTION_RULES,
    Calendar,
    Demand,
    Machine,
    Mode,
    ModeDependency,
    Precedence,
    Relation,
    Renewable,
    Selection,
)

Rng = np.random.Generator
Change = Callable[[dict[str, list[int]]], None]
"""Changes the columns of a schedule."""


def upto(rng: Rng, most: int, least: int = 1) -> int:
    """A random whole number from `least` to `most`."""
    return int(rng.integers(least, most + 1))


def span(task: int, start: int, end: int, departure: int | None = None) -> Change:
    """Move a task."""

    def change(columns: dict[str, list[int]]) -> None:
        columns["start"][task], columns["end"][task] = start, end
        columns["departure"][task] = end if departure is None else departure

    return change


def entry(name: str, task: int, value: int) -> Change:
    """Change one entry."""

    def change(columns: dict[str, list[int]]) -> None:
        columns[name][task] = value

    return change


def moved_by(draft: Draft, task: int, time: int) -> Change:
    start, end, departure = (draft.columns[name][task] + time for name in ("start", "end", "departure"))
    return span(task, start, end, departure)


def broken_range(draft: Draft, rng: Rng) -> Change:
    task = draft.task(0, 1)
    far = 2**60 + upto(rng, 2**40)
    return span(task, far, far + 1) if rng.random() < 0.5 else span(task, -far, 1 - far)


def broken_presence(draft: Draft, rng: Rng) -> Change:
    return entry("mode", draft.task(upto(rng, 20), upto(rng, 5)), -1)


def broken_mode(draft: Draft, rng: Rng) -> Change:
    modes = tuple(Mode(upto(rng, 5)) for _ in range(upto(rng, 3)))
    task = draft.task(upto(rng, 20), modes[0].duration, modes=modes)
    return entry("mode", task, len(modes) - 1 + upto(rng, 4) if rng.random() < 0.5 else -1 - upto(rng, 4))


def broken_duration(draft: Draft, rng: Rng) -> Change:
    """Too short, or too long without being allowed to idle; half of them under a calendar."""
    start, duration, idle = upto(rng, 20, 0), upto(rng, 9), bool(rng.random() < 0.3)
    end = start + duration
    demands: tuple[Demand, ...] = ()
    if rng.random() < 0.5:
        speeds = tuple(
            (time, int(rng.choice([0, 40, 130]))) for time in sorted(rng.choice(30, 3, replace=False).tolist())
        )
        calendar = Calendar((*speeds, (30, 100)))
        machine = draft.resource(Machine(draft.name("machine"), calendar))
        end, demands = end_of_work(calendar, start, duration), (Demand(machine),)
    task = draft.task(start, duration, *demands, end=end, allow_idle=idle, allow_breaks=True)
    longer = not idle and rng.random() < 0.5
    return span(task, start, end + upto(rng, 5) if longer else end - upto(rng, end - start))


def broken_break(draft: Draft, rng: Rng) -> Change:
    low, long, duration = upto(rng, 20, 10), upto(rng, 5), upto(rng, 9, 2)
    calendar = Calendar.with_breaks([(low, low + long)])
    kind = (
        Machine(draft.name("machine"), calendar) if rng.random() < 0.5 else Renewable(draft.name("crew"), 2, calendar)
    )
    task = draft.task(low - duration, duration, Demand(draft.resource(kind)))
    start = low - upto(rng, duration - 1)
    return span(task, start, end_of_work(calendar, start, duration))


def broken_window(draft: Draft, rng: Rng) -> Change:
    start, duration, spare, beyond = upto(rng, 30, 10), upto(rng, 5), upto(rng, 4, 0), upto(rng, 5)
    side = int(rng.integers(4))
    name = ("earliest_start", "latest_start", "earliest_end", "latest_end")[side]
    limit = (start if side < 2 else start + duration) + (spare if side % 2 else -spare)
    limits: dict[str, Any] = {name: limit}
    task = draft.task(start, duration, **limits)
    moved = start + (spare + beyond if side % 2 else -spare - beyond)
    return span(task, moved, moved + duration)


def broken_release(draft: Draft, rng: Rng) -> Change:
    release, duration = upto(rng, 20), upto(rng, 5)
    task = draft.task(release + upto(rng, 3, 0), duration, job=draft.job(release=release))
    start = release - upto(rng, release)
    return span(task, start, start + duration)


def broken_deadline(draft: Draft, rng: Rng) -> Change:
    start, duration, spare = upto(rng, 20), upto(rng, 5), upto(rng, 3, 0)
    task = draft.task(start, duration, job=draft.job(deadline=start + duration + spare))
    start += spare + upto(rng, 5)
    return span(task, start, start + duration)


def _linked(draft: Draft, rng: Rng) -> tuple[int, int, int, int, Relation]:
    """Two free tasks: the second, its start and duration, the gap of a relation between them, the relation."""
    first = draft.task(upto(rng, 30, 10), upto(rng, 5, 0))
    start, duration = upto(rng, 60, 40), upto(rng, 5, 0)
    second = draft.task(start, duration)
    relation = RELATIONS[int(rng.integers(4))]
    event, other = (draft.columns[name] for name in relation.split("-"))
    return second, start, duration, other[second] - event[first], relation


def broken_min_lag(draft: Draft, rng: Rng) -> Change:
    second, start, duration, gap, relation = _linked(draft, rng)
    spare = upto(rng, 3, 0)
    draft.add("precedences", Precedence(second - 1, second, relation, gap - spare))
    start -= spare + upto(rng, 9)
    return span(second, start, start + duration)


def broken_max_lag(draft: Draft, rng: Rng) -> Change:
    second, start, duration, gap, relation = _linked(draft, rng)
    spare = upto(rng, 3, 0)
    draft.add("precedences", Precedence(second - 1, second, relation, -upto(rng, 9, 0), gap + spare))
    start += spare + upto(rng, 9)
    return span(second, start, start + duration)


def broken_selection(draft: Draft, rng: Rng) -> Change:
    rule = SELECTION_RULES[int(rng.integers(4))]
    many = upto(rng, 4, 2)
    right = {"all-or-none": int(rng.choice([0, many])), "at-least-one": 1, "exactly-one": 1, "at-most-one": 1}[rule]
    after = {"all-or-none": upto(rng, many - 1), "at-least-one": 0, "at-most-one": upto(rng, many, 2)}
    wrong = after.get(rule, 0 if rng.random() < 0.5 else 2)
    tasks = [draft.task(upto(rng, 20), 2, optional=True, present=number < right) for number in range(many)]
    condition = draft.task(0, 1, optional=True) if rng.random() < 0.5 else None
    draft.add("selections", Selection(rule, tuple(tasks), condition))

    def change(columns: dict[str, list[int]]) -> None:
        for number, task in enumerate(tasks):
            columns["mode"][task] = 0 if number < wrong else -1
            columns["end"][task] = columns["departure"][task] = columns["start"][task] + 2

    return change


def broken_mode_dependency(draft: Draft, rng: Rng) -> Change:
    modes = (Mode(upto(rng, 5)),) * 3
    first, second = (draft.task(upto(rng, 20), modes[0].duration, modes=modes, mode=number) for number in (0, 1))
    draft.add("mode_dependencies", ModeDependency(first, 0, second, (0, 1)))
    return entry("mode", second, 2)
