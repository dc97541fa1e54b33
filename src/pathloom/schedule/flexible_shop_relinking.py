"""Elite schedules of a flexible job shop and new ones on the way from one to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.shops import Ints

__all__ = ["Elite", "ElitePool", "between", "distance"]

Links = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Elite:
    """A schedule as choices and a topological order, as `FlexibleTabu` takes them, with its makespan.

    Attributes
    ----------
    choice
        Shape (operations,): alternative of each operation.
    order
        Shape (operations,): operations in an order that respects the jobs; each machine takes its own in this order.
    """

    value: int
    choice: Links
    order: Links

    @property
    def position(self) -> Ints:
        """Shape (operations,): place of each operation in the order."""
        position = np.empty(len(self.order), np.int64)
        position[self.order] = np.arange(len(self.order))
        return position

    def followed(self, machine: Links) -> Ints:
        """Shape (operations,): the operation before each one on its machine, -1 - machine for the first one.

        `machine` names the machine of each alternative.
        """
        used = machine[self.choice[self.order]]
        ranked = np.argsort(used, kind="stable")
        operation, group = self.order[ranked].astype(np.int64), used[ranked].astype(np.int64)
        before = np.empty(len(operation), np.int64)
        before[operation[1:]] = np.where(group[1:] == group[:-1], operation[:-1], -1 - group[1:])
        before[operation[:1]] = -1 - group[:1]
        return before


def distance(first: Elite, second: Elite, machine: Links) -> int:
    """Number of operations that come behind another operation, or first on another machine, in the two schedules."""
    return int((first.followed(machine) != second.followed(machine)).sum())


def between(first: Elite, second: Elite, share: float, random: np.random.Generator) -> tuple[Links, Links]:
    """Choices and order of a schedule on the way from `first` to `second`.

    Each operation takes its alternative from the second with probability `share`. Operations are put in order by
    ``(1 - share) * place in the first + share * place in the second``: two that both schedules have in one order keep
    it, the others are decided by how far apart they are, so the result is feasible and lies between the two (path
    relinking as in Gonzalez, Vela and Varela, Scatter search with path relinking for the flexible job shop scheduling
    problem, European Journal of Operational Research 245, 2015, in one step instead of many).
    """
    rank = (1.0 - share) * first.position + share * second.position
    # ranks of operations of a job differ by at least 1 in both schedules: ties are between jobs, and may fall by lot
    order = np.lexsort((random.random(len(rank)), rank)).astype(np.uint32)
    choice = np.where(random.random(len(rank)) < share, second.choice, first.choice)
    return choice.astype(np.uint32), order


class ElitePool:
    """Good schedules that are not too much alike.

    Parameters
    ----------
    machine
        Machine of each alternative.
    size
        How many it holds.
    apart
        Least distance of two of them.
    """

    def __init__(self, machine: Links, size: int, apart: int) -> None:
        self._machine, self._size, self._apart = machine, size, apart
        self.elites: list[Elite] = []

    @property
    def full(self) -> bool:
        """Whether a new one must push out another one."""
        return len(self.elites) >= self._size

    def add(self, elite: Elite) -> bool:
        """Take up a schedule if there is room or it is better than the worst; say whether it was.

        One that is like others is taken up only if it is better than they are, and in their place.
        """
        alike = [e for e in self.elites if distance(e, elite, self._machine) < self._apart]
        if alike:
            if min(e.value for e in alike) <= elite.value:
                return False
            self.elites = [e for e in self.elites if all(e is not a for a in alike)]
        elif self.full:
            worst = max(self.elites, key=lambda e: e.value)
            if worst.value <= elite.value:
                return False
            self.elites = [e for e in self.elites if e is not worst]
        self.elites.append(elite)
        return True

    def clear(self) -> None:
        """Forget all."""
        self.elites = []
