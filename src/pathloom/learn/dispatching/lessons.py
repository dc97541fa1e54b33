"""What was learned from: shops, the teacher's schedules of them, and the decisions that these are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathloom.learn.dispatching.generated_shops import flexible_shop, taillard_shop
from pathloom.learn.dispatching.policy import Rows
from pathloom.learn.dispatching.teacher import Lesson, decisions
from pathloom.schedule.interval_environment import IntervalEnvironment, Observation
from pathloom.schedule.shops import FlexibleShop, Ints, JobShop

ProblemKind = Literal["job-shop", "flexible-shop"]
PROBLEM_KINDS: tuple[ProblemKind, ...] = ("job-shop", "flexible-shop")


@dataclass(frozen=True)
class ShopSeed:
    """A generated shop by what it is generated from; `choices` is the most alternatives of an operation, 0 in a
    job shop."""

    jobs: int
    machines: int
    choices: int
    seed: int

    def make(self) -> JobShop | FlexibleShop:
        generator = np.random.default_rng(self.seed)
        if self.choices:
            return flexible_shop(self.jobs, self.machines, self.choices, generator)
        return taillard_shop(self.jobs, self.machines, generator)


@dataclass(frozen=True, eq=False)
class StudiedLesson:
    """A lesson on a generated shop, which begins after the pupil's own decisions `prefix`."""

    shop: ShopSeed
    prefix: Ints
    lesson: Lesson


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions with the answers that are pushed up or down.

    Attributes
    ----------
    seen
        One observation a decision.
    wanted
        Shape (rows of `seen`,): the rows of the answer; a decision without any waits.
    """

    seen: Observation
    wanted: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return self.seen.episodes

    def select(self, chosen: NDArray[np.integer]) -> Decisions:
        sizes = np.diff(self.seen.row_start)[chosen]
        ends = np.cumsum(sizes)
        rows = np.repeat(self.seen.row_start[chosen] - ends + sizes, sizes) + np.arange(int(sizes.sum()))
        return Decisions(self.seen.select(chosen), self.wanted[rows])

    @classmethod
    def joined(cls, parts: Sequence[Decisions]) -> Decisions:
        return cls(Observation.joined([p.seen for p in parts]), np.concatenate([p.wanted for p in parts]))

    def open(self) -> NDArray[np.int64]:
        """The decisions that had more than one legal answer."""
        answers = np.add.reduceat(self.seen.legal.astype(np.int64), self.seen.row_start[:-1]) + self.seen.may_wait
        return np.flatnonzero(answers > 1)


def wanted_mask(chosen: Decisions, rows: Rows) -> Tensor:
    """The wanted answers as a mask of the shape of `policy.log_probabilities`."""
    wanted = torch.from_numpy(chosen.wanted)[rows.legal_row] & rows.legal_mask
    return torch.cat((wanted, ~wanted.any(1, keepdim=True)), 1)


def study(studied: StudiedLesson) -> Decisions:
    """The decisions of a lesson, those without a choice left out."""
    environment = IntervalEnvironment([studied.shop.make()])
    environment.replay(0, studied.prefix)
    generator = np.random.default_rng([studied.shop.seed, len(studied.prefix)])
    seen, wanted, _ = decisions(environment, 0, studied.lesson, generator)
    found = Decisions(seen, wanted)
    return found.select(found.open())


def packed(lessons: Sequence[StudiedLesson]) -> dict[str, NDArray]:
    """Lessons as arrays by name, from which `unpacked` makes them again."""
    spec = [
        [s.shop.jobs, s.shop.machines, s.shop.choices, s.shop.seed, s.lesson.makespan, s.lesson.optimal]
        for s in lessons
    ]
    parts: dict[str, list[NDArray]] = {
        "prefix": [s.prefix for s in lessons],
        "start": [s.lesson.start for s in lessons],
        "alternative": [s.lesson.alternative for s in lessons],
    }
    arrays: dict[str, NDArray] = {"spec": np.array(spec, np.int64).reshape(-1, 6)}
    for name, values in parts.items():
        arrays[name] = np.concatenate([*values, np.zeros(0, np.int64)]).astype(np.int64)
        arrays[f"{name}_size"] = np.array([len(value) for value in values], np.int64)
    return arrays


def unpacked(arrays: dict[str, NDArray]) -> list[StudiedLesson]:
    """Lessons from the arrays of `packed`."""
    parts = {
        name: np.split(arrays[name], np.cumsum(arrays[f"{name}_size"])[:-1])
        for name in ("prefix", "start", "alternative")
    }
    return [
        StudiedLesson(
            ShopSeed(*map(int, row[:4])),
            parts["prefix"][i],
            Lesson(int(row[4]), parts["start"][i], parts["alternative"][i].astype(np.int32), bool(row[5])),
        )
        for i, row in enumerate(arrays["spec"])
    ]
