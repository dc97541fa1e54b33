"""Which tasks are present and in which mode: what a schedule chooses, whenever it happens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Violation
from pathloom.schedule.check_reading import NONE, Reading


def presence(reading: Reading, given: NDArray[np.integer]) -> list[Violation]:
    """Tasks that are not optional are carried out, each in one of its modes; `given` are the schedule's own modes."""
    found = []
    for task in np.flatnonzero((given == NONE) & ~reading.columns.optional):
        (name,) = reading.names(task)
        found.append(Violation("presence", f"{name} is left out, but it is not optional", (name,)))
    for task in np.flatnonzero((given < NONE) | (given >= reading.columns.modes)):
        (name,) = reading.names(task)
        modes = int(reading.columns.modes[task])
        message = f"{name} is in mode {int(given[task])}, expected one of 0 to {modes - 1}, or -1 if it is left out"
        found.append(Violation("mode", message, (name,)))
    return found


def selections(reading: Reading) -> list[Violation]:
    """As many of the tasks of a selection are present as its rule says, if its condition is present."""
    found = []
    for selection in reading.problem.selections:
        if selection.condition is not None and not reading.present[selection.condition]:
            continue
        many, all_of_them = int(reading.present[list(selection.tasks)].sum()), len(selection.tasks)
        right = {
            "all-or-none": many in (0, all_of_them),
            "at-least-one": many >= 1,
            "exactly-one": many == 1,
            "at-most-one": many <= 1,
        }[selection.rule]
        if not right:
            message = f"{many} of {all_of_them} tasks are present, expected {selection.rule}"
            found.append(Violation("selection", message, reading.names(*selection.tasks)))
    return found


def resource_choices(reading: Reading) -> list[Violation]:
    """Pairs of present tasks use the same resources, or no common one."""
    found = []
    for pair in reading.problem.same_resources:
        if not (reading.present[pair.first] and reading.present[pair.second]):
            continue
        first, second = _resources(reading, pair.first), _resources(reading, pair.second)
        names = reading.names(pair.first, pair.second)
        if pair.same and first != second:
            uncommon = reading.resource_names(*sorted(first ^ second))
            message = f"{' and '.join(names)} use different resources, expected the same"
            found.append(Violation("same-resources", message, names, uncommon))
        if not pair.same and first & second:
            common = reading.resource_names(*sorted(first & second))
            message = f"{' and '.join(names)} both use {', '.join(common)}, expected different resources"
            found.append(Violation("different-resources", message, names, common))
    return found


def mode_dependencies(reading: Reading) -> list[Violation]:
    """The mode of one task narrows the modes of another one."""
    found = []
    for link in reading.problem.mode_dependencies:
        bound = reading.mode[link.first] == link.first_mode and reading.present[link.second]
        if bound and int(reading.mode[link.second]) not in link.second_modes:
            first, second = reading.names(link.first, link.second)
            message = (
                f"{first} is in mode {link.first_mode}, so {second} must be in one of the modes "
                f"{', '.join(map(str, link.second_modes)) or '(none)'}, found {int(reading.mode[link.second])}"
            )
            found.append(Violation("mode-dependency", message, (first, second)))
    return found


def _resources(reading: Reading, task: int) -> set[int]:
    """Resources that the chosen mode of a task uses."""
    mode = reading.problem.tasks[task].modes[int(reading.mode[task])]
    return {demand.resource for demand in mode.demands}
