"""Which stages of a model run, and in which order: stages left out, neighbours swapped, an early end.

Stage 0 holds the embedding and the head, so every order begins with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import comb

import numpy as np

Order = tuple[int, ...]

MOST_SETS = 100_000
"""Most sets of removed stages that one curve may have."""


def checked_order(order: Sequence[int], stages: int) -> Order:
    """`order` as a tuple.

    Raises
    ------
    ValueError
        If it does not begin with stage 0, names a stage twice, or names one that the model does not have.
    """
    found = tuple(order)
    for stage in found:
        if not 0 <= stage < stages:
            raise ValueError(f"there is no stage {stage}; the model has stages 0 to {stages - 1}")
    repeated = [stage for stage in found if found.count(stage) > 1]
    if repeated:
        raise ValueError(f"stage {repeated[0]} appears {found.count(repeated[0])} times, expected each at most once")
    if not found or found[0] != 0:
        raise ValueError(f"expected stage 0 first, as it holds the embedding and the head, found {shown(found)}")
    return found


def whole(stages: int) -> Order:
    """Every stage in its place."""
    return tuple(range(stages))


def without(stages: int, removed: Iterable[int]) -> Order:
    """Every stage but the `removed` ones, in its place; ValueError for stage 0 and for stages that do not exist."""
    gone = list(removed)
    if 0 in gone:
        raise ValueError("stage 0 holds the embedding and the head and cannot be left out")
    checked_order((0, *gone), stages)
    return tuple(stage for stage in range(stages) if stage not in gone)


def swapped(stages: int, first: int) -> Order:
    """Every stage, with `first` and its next neighbour in each other's place; `first` from 1 to stages - 2."""
    if not 1 <= first <= stages - 2:
        raise ValueError(f"there are no neighbours {first} and {first + 1} among stages 1 to {stages - 1}")
    return (*range(first), first + 1, first, *range(first + 2, stages))


def early_exit(stages: int, last: int) -> Order:
    """The stages up to `last`; the head reads what that stage gives."""
    if not 0 <= last < stages:
        raise ValueError(f"there is no stage {last}; the model has stages 0 to {stages - 1}")
    return tuple(range(last + 1))


def removals(stages: int, removed: int, *, sets: int | None = None, seed: int = 0) -> list[tuple[int, ...]]:
    """Sets of `removed` stages of 1 to stages - 1, each ascending, in lexical order.

    Parameters
    ----------
    sets
        Draw that many of them, all different, where there are more; None for all.
    seed
        Of the draw; the sets for one number of removed stages do not depend on those for another.

    Raises
    ------
    ValueError
        If so many stages cannot be removed, or if there would be more than `MOST_SETS` sets.
    """
    if not 0 <= removed <= stages - 1:
        raise ValueError(f"from 0 to {stages - 1} of {stages} stages can be removed, not {removed}")
    if sets is not None and sets < 1:
        raise ValueError(f"expected at least one set, found {sets}")
    there = comb(stages - 1, removed)
    if min(there, sets or there) > MOST_SETS:
        raise ValueError(f"{there} sets of {removed} stages are too many; draw at most {MOST_SETS} of them")
    if sets is None or there <= sets:
        return list(combinations(range(1, stages), removed))
    return sorted(_drawn(stages, removed, sets, there, seed))


def _drawn(stages: int, removed: int, sets: int, there: int, seed: int) -> Iterator[tuple[int, ...]]:
    generator = np.random.default_rng([seed, removed])
    if there <= 4 * sets:  # few enough to list; rejection would draw the same ones again and again
        everything = list(combinations(range(1, stages), removed))
        for position in generator.choice(there, sets, replace=False):
            yield everything[position]
        return
    seen: set[tuple[int, ...]] = set()
    while len(seen) < sets:
        found = tuple(sorted(1 + int(s) for s in generator.choice(stages - 1, removed, replace=False)))
        if found not in seen:
            seen.add(found)
            yield found


def shown(order: Sequence[int]) -> str:
    """An order as people write it: ``0, 2, 1``."""
    return ", ".join(map(str, order)) or "nothing"
