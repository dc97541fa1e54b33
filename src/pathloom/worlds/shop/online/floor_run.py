"""What became of a run of the shop floor, and its timeline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.shops import JobShop
from pathloom.timeline import Timeline
from pathloom.worlds.shop.online import _floor_state as state

if TYPE_CHECKING:
    from pathloom.worlds.shop.online.floor import Floor

KINDS = ("process", "blocked", "down", "lost")


@dataclass(frozen=True, eq=False)
class FloorRun:
    """One finished run.

    Attributes
    ----------
    shop
        What ran.
    makespan
        When the last job left.
    start, end, departure
        Shape (operations,): first start, end, and when the job left the machine.
    events
        Number of ends, arrivals, breakdowns and repairs.
    breakdowns, rotations, decisions
        Numbers of breakdowns, of swaps along a circle, of decisions.
    log
        Shape (spans, 6): machine, job, operation, kind (position in `KINDS`), start, end.
    """

    shop: JobShop
    makespan: int
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    departure: NDArray[np.int64]
    events: int
    breakdowns: int
    rotations: int
    decisions: int
    log: NDArray[np.int64]

    @cached_property
    def timeline(self) -> Timeline:
        """Spans of jobs on machines: "process", "blocked", "lost" (work that a restart repeats); "down" of a repair.

        Spans of one machine never overlap; the item of a down span is "breakdown".
        """
        jobs = self.shop.jobs
        rows = self.log[np.lexsort((self.log[:, 0], self.log[:, 4]))]
        return Timeline(
            rows[:, 0].astype(np.int32),
            np.where(rows[:, 3] == state.BREAKDOWN, jobs, rows[:, 1]).astype(np.int32),
            rows[:, 3].astype(np.int32),
            rows[:, 4].astype(np.float64),
            rows[:, 5].astype(np.float64),
            tuple(f"machine {m}" for m in range(self.shop.machines)),
            (*(f"job {j}" for j in range(jobs)), "breakdown"),
            KINDS,
            "units",
            {"operation": rows[:, 2]},
        )


def finished_run(floor: Floor, b: int = 0) -> FloorRun:
    """What became of run `b` of a floor."""
    shop, batch = floor.shops[b], floor.batch
    whole, operation, machine = batch.whole[b], batch.operation[b, : shop.operations], batch.machine[b]
    now = int(whole[state.NOW])
    rows = [batch.log[b, : whole[state.LOGGED]]]
    if batch.log.shape[1]:  # repairs that the end of the run cuts off
        broken = np.flatnonzero((machine[:, state.DOWN] != 0) & (machine[:, state.DOWN_SINCE] < now))
        rows += [np.array([[m, -1, -1, state.BREAKDOWN, machine[m, state.DOWN_SINCE], now]]) for m in broken]
    return FloorRun(
        shop,
        now,
        operation[:, state.START].copy(),
        operation[:, state.FINISH].copy(),
        operation[:, state.DEPARTURE].copy(),
        int(whole[state.EVENTS]),
        int(whole[state.BREAKDOWNS]),
        int(whole[state.ROTATIONS]),
        int(whole[state.DECISIONS]),
        np.concatenate(rows),
    )
