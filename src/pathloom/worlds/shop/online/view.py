"""The one protocol by which anything decides on a shop floor: a view of it goes in, a job comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.shop.online import _floor_kernels as kernels
from pathloom.worlds.shop.online import _floor_state as state

if TYPE_CHECKING:
    from pathloom.worlds.shop.online.floor import Floor

HOLD = state.HOLD
"""Instead of a job: leave the machine empty until something happens."""


class Decision(Protocol):
    """Anything that decides online: a rule, a learned policy, a rolling re-solve, a person."""

    def decide(self, view: View) -> int:
        """The job that ``view.machine`` takes, one of ``view.candidates``, or `HOLD` if ``view.may_hold``."""
        ...


class View:
    """What a decision sees: the floor at one instant, and the machine that is to take a job.

    The arrays are views of the simulator's own and change when the run goes on. True durations of what has not ended,
    lengths of repairs and jobs that have not arrived are not to be seen.
    """

    def __init__(self, floor: Floor, number: int) -> None:
        self.floor, self.number = floor, number
        self.shop = floor.shops[number]
        self.run = state.run_of.py_func(floor.batch, number)

    @property
    def now(self) -> int:
        return int(self.run.whole[state.NOW])

    @property
    def machine(self) -> int:
        """The machine that is asked for."""
        return int(self.run.whole[state.ASKED])

    @property
    def may_hold(self) -> bool:
        """False where holding everything back would stop the floor for ever."""
        return not self.run.whole[state.FORCED]

    @property
    def candidates(self) -> NDArray[np.int64]:
        """Jobs that the machine could take, ascending, at least one."""
        mask = np.empty((1, self.run.job.shape[0]), dtype=bool)
        kernels.candidate_mask(self.floor.part(self.number), mask)
        return np.flatnonzero(mask[0])

    @property
    def breakdowns(self) -> int:
        """Number of breakdowns so far."""
        return int(self.run.whole[state.BREAKDOWNS])

    @property
    def arrived(self) -> NDArray[np.bool_]:
        """Shape (jobs,): whether each job is known."""
        return self.run.arrival[: self.shop.jobs] <= self.now

    @property
    def next_operation(self) -> NDArray[np.int64]:
        """Shape (jobs,): next operation that each job has to start; the end of its range where there is none."""
        return self.run.job[: self.shop.jobs, state.NEXT]

    @property
    def location(self) -> NDArray[np.int64]:
        """Shape (jobs,): machine that each job is on, -1 for none, -2 when it is gone."""
        return self.run.job[: self.shop.jobs, state.AT]

    @property
    def occupant(self) -> NDArray[np.int64]:
        """Shape (machines,): job on each machine, -1 for none."""
        return self.run.machine[: self.shop.machines, state.OCCUPANT]

    @property
    def down(self) -> NDArray[np.bool_]:
        """Shape (machines,): whether each machine is broken."""
        return self.run.machine[: self.shop.machines, state.DOWN] != 0

    @property
    def expected_remaining(self) -> NDArray[np.int64]:
        """Shape (machines,): what is left, by plan, of the operation on each machine, 0 where none is under way.

        An operation that lasts longer than planned is expected to end in one unit.
        """
        machine = self.run.machine[: self.shop.machines]
        busy = machine[:, state.PHASE] == state.BUSY
        o = self.run.job[machine[:, state.OCCUPANT], state.NEXT] - 1
        true_rest = machine[:, state.END] - np.where(self.down, 0, self.now)
        worked = self.run.actual[o] - true_rest
        return np.where(busy, np.maximum(self.run.nominal[o] - worked, np.minimum(true_rest, 1)), 0)

    @property
    def expected_repair(self) -> NDArray[np.int64]:
        """Shape (machines,): expected time until each broken machine works, 0 for the others.

        A repair of fixed length is known; the others have no memory, so that their mean is always still to come.
        """
        mean = max(1, round(self.run.trouble[state.REPAIR]))
        since = self.run.machine[: self.shop.machines, state.DOWN_SINCE]
        fixed = self.run.trouble[state.REPAIR_KIND] == state.FIXED
        return np.where(self.down, since + mean - self.now if fixed else mean, 0)

    def outlook(self, *, breakdowns: bool = False) -> Floor:
        """A floor of its own that goes on from here as planned, with expected times and the known jobs.

        Further breakdowns do not happen, or (`breakdowns`) are those of the same seed, which the caller is to change.
        """
        return self.floor.outlook(self.number, breakdowns=breakdowns)
