"""Small random projects for tests, and slow, plain versions of what the compiled schemes compute."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.schedule.shops import Ints, Project


def project(
    durations: list[list[int]],
    demands: list[list[list[int]]],
    capacity: list[int],
    arcs: list[tuple[int, int]],
    consumed: list[list[list[int]]] | None = None,
    stock: list[int] | None = None,
    release: list[int] | None = None,
) -> Project:
    """A project from lists: by activity and mode durations, demands for renewables, amounts of consumables."""
    count = len(durations)
    after = [sorted({b for a, b in arcs if a == activity}) for activity in range(count)]
    flat = [mode for modes in demands for mode in modes]
    used = [mode for modes in consumed for mode in modes] if consumed is not None else [[] for _ in flat]
    return Project(
        np.concatenate(([0], np.cumsum([len(row) for row in after]))).astype(np.int32),
        np.array([b for row in after for b in row], np.int32),
        np.concatenate(([0], np.cumsum([len(modes) for modes in durations]))).astype(np.int32),
        np.array([d for modes in durations for d in modes], np.int64),
        np.array(flat, np.int64).reshape(len(flat), len(capacity)),
        np.array(capacity, np.int64),
        np.array(used, np.int64).reshape(len(flat), len(stock or [])),
        np.array(stock or [], np.int64),
        np.array(release or [0] * count, np.int64),
    )


@st.composite
def projects(
    draw: st.DrawFn, activities: int = 8, modes: int = 1, longest: int = 6, shortest: int = 0, releases: bool = True
) -> Project:
    """Projects with durations of 0, arcs against the numbering, resources nobody uses, late releases.

    With several modes there are two consumable resources; they may be too scarce for any choice of modes.
    """
    count = draw(st.integers(1, activities))
    resources = draw(st.integers(1, 3))
    number = st.integers
    options = [draw(number(1, modes)) for _ in range(count)]
    durations = [[draw(number(shortest, longest)) for _ in range(options[a])] for a in range(count)]
    demands = [[[draw(number(0, 3)) for _ in range(resources)] for _ in range(options[a])] for a in range(count)]
    capacity = [draw(number(3, 6)) for _ in range(resources)]
    rank = draw(st.permutations(range(count)))
    pairs = [(rank[i], rank[j]) for i in range(count) for j in range(i + 1, count)]
    arcs = draw(st.lists(st.sampled_from(pairs), max_size=2 * count, unique=True)) if pairs else []
    release = [draw(st.sampled_from([0, 0, 0, 4, 9])) if releases else 0 for _ in range(count)]
    if modes == 1:
        return project(durations, demands, capacity, arcs, release=release)
    consumed = [[[draw(number(0, 5)) for _ in range(2)] for _ in range(options[a])] for a in range(count)]
    stock = [draw(number(count, 4 * count)) for _ in range(2)]
    return project(durations, demands, capacity, arcs, consumed, stock, release)


def assert_feasible(shape: Project, mode: NDArray[np.integer], start: Ints) -> None:
    """Every condition of a project's schedule, from the definition, unit of time by unit of time."""
    duration = shape.mode_duration[mode]
    for activity in range(shape.activities):
        assert shape.mode_start[activity] <= mode[activity] < shape.mode_start[activity + 1]
        assert start[activity] >= shape.release[activity]
        for after in shape.successor[shape.successor_start[activity] : shape.successor_start[activity + 1]]:
            assert start[activity] + duration[activity] <= start[after]
    for time in np.unique(start):  # use grows at starts only
        running = (start <= time) & (time < start + duration)
        assert (shape.renewable[mode][running].sum(axis=0) <= shape.renewable_capacity).all()
    assert (shape.consumable[mode].sum(axis=0) <= shape.consumable_capacity).all()


def makespan(shape: Project, mode: NDArray[np.integer], start: Ints) -> int:
    """End of the last activity."""
    return int((start + shape.mode_duration[mode]).max(initial=0))


def plain_serial(shape: Project, order: list[int], mode: list[int]) -> list[int]:
    """Serial scheme with a list of amounts in use for every unit of time."""
    horizon = int(shape.release.max(initial=0) + shape.mode_duration[mode].sum()) + 1
    use = np.zeros((horizon, len(shape.renewable_capacity)), np.int64)
    start = [0] * shape.activities
    for activity in order:
        duration = int(shape.mode_duration[mode[activity]])
        at = int(shape.release[activity])
        for other in range(shape.activities):
            if activity in shape.successor[shape.successor_start[other] : shape.successor_start[other + 1]]:
                at = max(at, start[other] + int(shape.mode_duration[mode[other]]))
        demand = shape.renewable[mode[activity]]
        while duration and (use[at : at + duration] + demand > shape.renewable_capacity).any():
            at += 1
        use[at : at + duration] += demand
        start[activity] = at
    return start


def lists(shape: Project) -> list[list[int]]:
    """All orders of the activities that agree with the precedences."""
    found: list[list[int]] = []

    def grow(order: list[int]) -> None:
        if len(order) == shape.activities:
            found.append(order)
        for activity in range(shape.activities):
            before = [
                other
                for other in range(shape.activities)
                if activity in shape.successor[shape.successor_start[other] : shape.successor_start[other + 1]]
            ]
            if activity not in order and all(other in order for other in before):
                grow([*order, activity])

    grow([])
    return found


def least_makespan(shape: Project) -> int | None:
    """Over all modes and lists, by the plain serial scheme; None where no modes fit the resources."""
    best: int | None = None
    orders = lists(shape)
    options = [range(shape.mode_start[a], shape.mode_start[a + 1]) for a in range(shape.activities)]
    for chosen in product(*options):
        mode = list(chosen)
        if (shape.consumable[mode].sum(axis=0) > shape.consumable_capacity).any():
            continue
        if (shape.renewable[mode] > shape.renewable_capacity).any():
            continue
        for order in orders:
            start = np.array(plain_serial(shape, order, mode))
            end = makespan(shape, np.array(mode), start)
            best = end if best is None else min(best, end)
    return best


def random_list(shape: Project, seed: int) -> NDArray[np.int32]:
    """An order of the activities that agrees with the precedences, at random."""
    random = np.random.default_rng(seed)
    waits = np.bincount(shape.successor, minlength=shape.activities)
    ready = [a for a in range(shape.activities) if waits[a] == 0]
    order: list[int] = []
    while ready:
        activity = ready.pop(int(random.integers(len(ready))))
        order.append(activity)
        for after in shape.successor[shape.successor_start[activity] : shape.successor_start[activity + 1]]:
            waits[after] -= 1
            if waits[after] == 0:
                ready.append(int(after))
    return np.array(order, np.int32)


def public_project(name: str) -> Project:
    """One of the public project files that lie unpacked."""
    from pathloom.data import find
    from pathloom.schedule.recognised_shapes import as_project
    from pathloom.worlds.shop.project_files import read_project

    try:
        path: Path = find("psplib") / "plain" / name
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    if not path.exists():
        pytest.skip(f"public instances are not at hand: {name}")
    shape = as_project(read_project(path))
    assert shape is not None
    return shape
