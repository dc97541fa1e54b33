"""Feasible schedules with one constraint broken, one kind of constraint at a time, to try the checker on.

A random feasible schedule (`draw_draft`) gets some more tasks on resources of their own, which keep one constraint of
the wanted kind; then the schedule of these tasks is changed so that they break that one, and by construction no other.
The mutations never look at the checker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pathloom.schedule import resource_mutations as resources
from pathloom.schedule import time_mutations as times
from pathloom.schedule.drawn_schedules import COLUMNS, Draft, draw_draft, schedule_of
from pathloom.schedule.problem import Problem
from pathloom.schedule.schedule import Schedule
from pathloom.schedule.time_mutations import Change, Rng


@dataclass(frozen=True)
class Mutated:
    """A problem, a feasible schedule of it, and one that breaks a single constraint."""

    problem: Problem
    feasible: Schedule
    broken: Schedule


def mutated_schedule(constraint: str, rng: Rng, size: int = 3) -> Mutated:
    """A case in which `constraint`, a key of `MUTATIONS`, is broken; `size` as in `draw_draft`."""
    draft = draw_draft(rng, size)
    change = MUTATIONS[constraint](draft, rng)
    columns = {name: list(values) for name, values in draft.columns.items()}
    change(columns)
    return Mutated(draft.problem(), draft.schedule(), schedule_of(columns))


def _shape(draft: Draft, rng: Rng) -> Change:
    """One entry too few or too many."""
    fewer = bool(rng.random() < 0.5)
    draft.task(0, 1)

    def change(columns: dict[str, list[int]]) -> None:
        for name in COLUMNS:
            columns[name] = columns[name][:-1] if fewer else [*columns[name], 0]

    return change


MUTATIONS: dict[str, Callable[[Draft, Rng], Change]] = {
    "shape": _shape,
    "range": times.broken_range,
    "presence": times.broken_presence,
    "mode": times.broken_mode,
    "duration": times.broken_duration,
    "break": times.broken_break,
    "window": times.broken_window,
    "release": times.broken_release,
    "deadline": times.broken_deadline,
    "min-lag": times.broken_min_lag,
    "max-lag": times.broken_max_lag,
    "transport": resources.broken_transport,
    "blocking": resources.broken_blocking,
    "swap": resources.broken_swap,
    "overlap": resources.broken_overlap,
    "set-up": resources.broken_setup,
    "initial-state": resources.broken_initial_state,
    "no-idle": resources.broken_no_idle,
    "capacity": resources.broken_capacity,
    "stock": resources.broken_stock,
    "address-range": resources.broken_address_range,
    "address-overlap": resources.broken_address_overlap,
    "state": resources.broken_state,
    "selection": times.broken_selection,
    "same-resources": lambda draft, rng: resources.resources_of_pair(draft, rng, True),
    "different-resources": lambda draft, rng: resources.resources_of_pair(draft, rng, False),
    "consecutive": resources.broken_consecutive,
    "same-sequence": resources.broken_same_sequence,
    "mode-dependency": times.broken_mode_dependency,
}
"""By name of a constraint: adds tasks that keep it, and gives the change that breaks it."""
