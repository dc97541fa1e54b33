"""Priority rules for projects: activity lists by rule through the serial and the parallel scheme, then justified.

The rules are those that do best in R. Kolisch, S. Hartmann, "Experimental investigation of heuristics for
resource-constrained project scheduling: an update", EJOR 174 (2006): latest finish time, latest start time, most
total successors, greatest rank positional weight.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.project_search import mode_assignment
from pathloom.schedule.schedule_generation import Generator
from pathloom.schedule.shops import Ints, Positions, Project

RULES = {
    "LFT": "latest finish time",
    "LST": "latest start time",
    "MTS": "most total successors",
    "GRPW": "greatest rank positional weight",
}
SECONDS = 2.0
"""For finding modes that the stocks allow."""


def project_rules(project: Project, *, seed: int = 0) -> Iterator[tuple[str, Positions, Ints]]:
    """Schedules of all `RULES`: name, mode of each activity (global), start times.

    Activities with a choice take modes that the stocks allow with little work on scarce resources. Nothing is yielded
    where there are none, or where they are not found in time.

    Raises
    ------
    InputError
        If the precedences run in a circle.
    """
    generator = Generator.of(project)
    if generator is None:
        return
    mode: Positions | None = None
    if not project.single_mode:
        mode = mode_assignment(generator, SECONDS, seed=seed)
        if mode is None:
            return
    chosen = generator.network.mode_start[:-1] if mode is None else mode
    duration = generator.network.duration[chosen] * generator.unit
    own = generator.mode[chosen].astype(np.int32)
    for name, key in _keys(project, generator, mode, duration).items():
        for scheme in ("parallel", "serial"):
            start = (
                generator.parallel(key, mode)
                if scheme == "parallel"
                else generator.serial(generator.list_by_key(key), mode)
            )
            yield f"{name}, {scheme}", own, generator.justify(start, mode)


def _keys(
    project: Project, generator: Generator, mode: Positions | None, duration: Ints
) -> dict[str, NDArray[np.float64]]:
    """Rule -> shape (activities,): the activity of the smallest key comes first."""
    latest_start, latest_end = generator.latest_starts(mode)
    after: list[set[int]] = [set() for _ in range(project.activities)]
    for activity in generator.network.backward.tolist():
        for following in project.successor[project.successor_start[activity] : project.successor_start[activity + 1]]:
            after[activity] |= {int(following)} | after[int(following)]
    successors = np.array([len(found) for found in after], dtype=np.float64)
    direct = np.array(
        [
            duration[project.successor[project.successor_start[a] : project.successor_start[a + 1]]].sum()
            for a in range(project.activities)
        ],
        dtype=np.float64,
    )
    return {
        "LFT": latest_end.astype(np.float64),
        "LST": latest_start.astype(np.float64),
        "MTS": -successors,
        "GRPW": -(duration + direct),
    }
