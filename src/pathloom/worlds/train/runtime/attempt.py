"""What a node must know of a microbatch on its way: an attempt, as the coordinator sends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pathloom.worlds.train.runtime.order_of_work import Task, Work


@dataclass(frozen=True)
class Attempt:
    """One attempt of a microbatch.

    Attributes
    ----------
    row, microbatch
        Number of the attempt in its iteration, and which microbatch it attempts.
    route, stages
        Node and (virtual) stage of each of the K visits.
    keys
        Planned start of each task, in the order of `pathloom.worlds.train.simulator.Chains`; K + 1 tasks of an
        evaluation, which ends in its loss.
    first, parent
        Visit with which the attempt begins, and the attempt whose activations of the visits before it takes over.
    after
        Attempt for whose return the injection waits, -1 for none.
    release
        Earliest second of the injection.
    """

    row: int
    microbatch: int
    route: tuple[int, ...]
    stages: tuple[int, ...]
    keys: tuple[float, ...]
    first: int = 0
    parent: int = -1
    after: int = -1
    release: float = 0.0

    @property
    def visits(self) -> int:
        return len(self.route)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `from_dict` reads it."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Attempt:
        """Read what `to_dict` gave."""
        sequences = {name: tuple(data[name]) for name in ("route", "stages", "keys")}
        return cls(**{**data, **sequences})

    def tasks_at(self, node: int, *, split: bool) -> dict[Task, Work]:
        """The attempt's tasks at a node; with `split`, weight gradients are tasks of their own.

        The activations of an attempt that is continued are held already, so the visits before `first` have no forward
        pass here.
        """
        k, forward_only = self.visits, len(self.keys) == self.visits + 1
        found: dict[Task, Work] = {}
        for visit, host in enumerate(self.route):
            if host != node:
                continue
            if visit >= self.first:
                found[self.row, visit] = Work(self.keys[visit], 0 if forward_only else 1)
            if forward_only:
                continue
            back = 2 * k - visit
            found[self.row, back] = Work(self.keys[back], 0 if split else -1)
            if split:
                weight = 3 * k - visit
                found[self.row, weight] = Work(self.keys[weight], -1, last_resort=True)
        if self.route[0] == node:
            found[self.row, k] = Work(self.keys[k], 0)
        return found

    def held_at(self, node: int) -> int:
        """Slots that the attempt takes over at a node from the one that it continues."""
        return sum(host == node for host in self.route[: self.first])
