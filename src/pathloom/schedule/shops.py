"""The shapes that specialised methods work on: job shop, flexible job shop, project, as flat arrays.

They are views of a `Problem` (see `recognised_shapes`), free of everything that the shape does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Positions = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class JobShop:
    """Operations in a fixed order within each job, each on one given machine.

    Operations are numbered job by job, in processing order: those of job j are ``job_start[j]:job_start[j + 1]``.

    Attributes
    ----------
    job_start
        Shape (jobs + 1,).
    machine, duration
        Shape (operations,); durations are at least 0.
    machines
        Number of machines.
    release
        Shape (jobs,): earliest start of each job.
    blocking
        Whether an operation holds its machine until the job's next one starts (the last one leaves at its end).
    no_wait
        Whether the operations of a job follow each other without any waiting.
    swap
        With `blocking`: whether jobs that wait for each other in a cycle may change places at one instant.
    """

    job_start: Positions
    machine: Positions
    duration: Ints
    machines: int
    release: Ints
    blocking: bool = False
    no_wait: bool = False
    swap: bool = True

    @property
    def jobs(self) -> int:
        return len(self.job_start) - 1

    @property
    def operations(self) -> int:
        return len(self.machine)

    @cached_property
    def job(self) -> Positions:
        """Shape (operations,): job of each operation."""
        return np.repeat(np.arange(self.jobs, dtype=np.int32), np.diff(self.job_start))

    @cached_property
    def tail(self) -> Ints:
        """Shape (operations,): work of the job after the operation."""
        whole = np.concatenate((np.zeros(1, np.int64), np.cumsum(self.duration)))
        return whole[self.job_start[1:]][self.job] - whole[1:]

    @classmethod
    def from_rows(cls, rows: list[list[tuple[int, int]]], machines: int | None = None) -> JobShop:
        """A shop from one list of (machine, duration) a job."""
        flat = [pair for row in rows for pair in row]
        pairs = np.array(flat, dtype=np.int64).reshape(-1, 2)
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
        count = int(pairs[:, 0].max()) + 1 if machines is None and len(pairs) else machines or 0
        machine = np.ascontiguousarray(pairs[:, 0]).astype(np.int32)
        return cls(starts, machine, np.ascontiguousarray(pairs[:, 1]), count, np.zeros(len(rows), np.int64))


@dataclass(frozen=True, eq=False)
class FlexibleShop:
    """A job shop whose operations choose one of several machines.

    Attributes
    ----------
    job_start
        Shape (jobs + 1,): as in `JobShop`.
    alternative_start
        Shape (operations + 1,): the alternatives of operation o are ``alternative_start[o]:alternative_start[o + 1]``.
    alternative_machine, alternative_duration
        Shape (alternatives,).
    machines, release
        As in `JobShop`.
    """

    job_start: Positions
    alternative_start: Positions
    alternative_machine: Positions
    alternative_duration: Ints
    machines: int
    release: Ints

    @property
    def jobs(self) -> int:
        return len(self.job_start) - 1

    @property
    def operations(self) -> int:
        return len(self.alternative_start) - 1

    @cached_property
    def job(self) -> Positions:
        """Shape (operations,): job of each operation."""
        return np.repeat(np.arange(self.jobs, dtype=np.int32), np.diff(self.job_start))


@dataclass(frozen=True, eq=False)
class Project:
    """Activities in one of several modes, with end-start precedences (lag 0) and resources of constant capacity.

    Attributes
    ----------
    successor_start, successor
        Shapes (activities + 1,) and (precedences,): successors of activity a are
        ``successor[successor_start[a]:successor_start[a + 1]]``. There are no dummy activities.
    mode_start
        Shape (activities + 1,): the modes of activity a are ``mode_start[a]:mode_start[a + 1]``.
    mode_duration
        Shape (modes,).
    renewable, consumable
        Shapes (modes, renewable resources) and (modes, consumable resources): demands.
    renewable_capacity, consumable_capacity
        Shapes (renewable resources,) and (consumable resources,).
    release
        Shape (activities,): earliest starts.
    """

    successor_start: Positions
    successor: Positions
    mode_start: Positions
    mode_duration: Ints
    renewable: Ints
    renewable_capacity: Ints
    consumable: Ints
    consumable_capacity: Ints
    release: Ints

    @property
    def activities(self) -> int:
        return len(self.mode_start) - 1

    @property
    def single_mode(self) -> bool:
        """Whether no activity has a choice."""
        return len(self.mode_duration) == self.activities
