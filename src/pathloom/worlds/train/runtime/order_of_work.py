"""The order of work at one node: the plan's as priority, not as a straitjacket.

Of the tasks that could begin, a node takes the one that the plan begins first, so that a late message holds up nobody
but its own microbatch. Overtaking has one limit. A forward pass holds an activation until its microbatch comes back, so
nodes that fill their memory out of turn could wait for each other for ever. A forward pass may therefore run ahead of
the plan only if the node could still do all its other tasks in planned order within its memory. Planned starts are one
order of all tasks of all nodes, so whatever has been done, the rest can always be finished in that order: a run cannot
lock up, and never holds more activations than its memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

Task = tuple[int, int]
"""Attempt (row) and task of it, see `pathloom.worlds.train.simulator.Chains`."""


@dataclass(frozen=True)
class Work:
    """A task as the order of work sees it.

    Attributes
    ----------
    key
        Planned start.
    slot
        1 if it takes a memory slot, -1 if it frees one, 0 otherwise.
    last_resort
        True for weight gradients, which are done when nothing else can be.
    """

    key: float
    slot: int
    last_resort: bool = False


class OrderOfWork:
    """Tasks of one node that have not begun yet, and which of them could.

    Parameters
    ----------
    slots
        Activations that the node can hold.
    strict
        Take the tasks in planned order, whatever could begin.
    """

    def __init__(self, slots: int, *, strict: bool = False) -> None:
        self.slots, self.strict = slots, strict
        self.held = 0
        self._left: list[tuple[float, Task]] = []  # ascending
        self._work: dict[Task, Work] = {}
        self._ready: set[Task] = set()
        self.peak = 0

    def add(self, tasks: Mapping[Task, Work]) -> None:
        """Plan further tasks."""
        self._work.update(tasks)
        self._left = sorted((*self._left, *((work.key, task) for task, work in tasks.items())))

    def drop(self, row: int, *, held: int) -> None:
        """Forget all tasks of an attempt, which holds `held` slots here."""
        self._left = [entry for entry in self._left if entry[1][0] != row]
        self._ready = {task for task in self._ready if task[0] != row}
        self._work = {task: work for task, work in self._work.items() if task[0] != row}
        self.held -= held

    def reorder(self, keys: Mapping[int, Sequence[float]]) -> None:
        """Give the tasks of some attempts new planned starts."""
        for task, work in self._work.items():
            if task[0] in keys:
                self._work[task] = replace(work, key=keys[task[0]][task[1]])
        self._left = sorted((work.key, task) for task, work in self._work.items())

    def take_over(self, held: int) -> None:
        """A new attempt keeps `held` slots that were taken before it was planned."""
        self.held += held

    def ready(self, task: Task) -> None:
        """The task has all that it needs but, perhaps, a slot."""
        if task in self._work:
            self._ready.add(task)

    def __len__(self) -> int:
        return len(self._left)

    @property
    def idle(self) -> bool:
        """Whether nothing that is ready waits here."""
        return not self._ready

    def next(self) -> Task | None:
        """The task to begin now, which counts as begun; None if there is none."""
        chosen = self._first_in_order() if self.strict else self._first_that_may()
        if chosen is not None:
            self._begin(chosen)
        return chosen

    def begin(self, task: Task) -> None:
        """Begin a task that is ready, whoever's turn it is."""
        self._begin(task)

    def ended(self, slot: int) -> None:
        """A task with that slot change has ended."""
        if slot < 0:
            self.held += slot

    def _first_in_order(self) -> Task | None:
        task = self._left[0][1] if self._left else None
        if task not in self._ready or task is None:
            return None
        return task if self._work[task].slot <= 0 or self.held < self.slots else None

    def _first_that_may(self) -> Task | None:
        latest: float | None = None
        for task in sorted(self._ready, key=self._rank):
            work = self._work[task]
            if work.slot <= 0:
                return task
            if latest is None:
                latest = self._latest_turn()
            if work.key <= latest:
                return task
        return None

    def _rank(self, task: Task) -> tuple[bool, float, Task]:
        return self._work[task].last_resort, self._work[task].key, task

    def _latest_turn(self) -> float:
        """Largest planned start of a forward pass that may begin now: see the top of this file."""
        held = self.held
        if held >= self.slots:
            return -math.inf
        for key, task in self._left:
            held += self._work[task].slot
            if held >= self.slots:
                return key
        return math.inf

    def _begin(self, task: Task) -> None:
        work = self._work.pop(task)
        self._ready.discard(task)
        self._left.remove((work.key, task))
        if work.slot > 0:
            self.held += 1
            self.peak = max(self.peak, self.held)
