"""What disturbs a shop floor: late arrivals, durations that differ from the plan, machines that break down.

Every draw belongs to a seed and to the thing that it happens to (job, operation, machine and number of the event),
never to the course of the run: under one seed, different decisions meet the same disturbances (common random numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.schedule.shops import JobShop

RepairKind = Literal["fixed", "geometric", "exponential"]


@dataclass(frozen=True)
class Disturbances:
    """Kinds and sizes of disturbances; times in the shop's unit.

    Attributes
    ----------
    breakdown_chance
        Chance that a working machine stops at an event (an instant at which an operation ends or a job arrives).
    mean_time_between_failures
        Mean of the exponential time from the beginning, and from each repair, to a machine's next failure; None for
        no such failures. Both kinds may come together.
    mean_repair
        Mean time of a repair; None for the mean duration of the shop's operations.
    repair
        "fixed", "geometric" (at least 1) or "exponential" (rounded, at least 1).
    after_repair
        "resume": the operation goes on where it was; "restart": it begins anew.
    noise
        Coefficient of variation of the durations: the true ones are log-normal around the given ones, whole numbers.
    mean_time_between_arrivals
        Mean of the exponential times between the arrivals of the jobs, in the order of their numbers; None: each is
        there from its release on.
    """

    breakdown_chance: float = 0.0
    mean_time_between_failures: float | None = None
    mean_repair: float | None = None
    repair: RepairKind = "geometric"
    after_repair: Literal["resume", "restart"] = "resume"
    noise: float = 0.0
    mean_time_between_arrivals: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.breakdown_chance < 1.0:
            raise InputError(f"is {self.breakdown_chance}, expected at least 0, below 1", key="breakdown_chance")
        for name in ("mean_time_between_failures", "mean_repair", "mean_time_between_arrivals"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise InputError(f"is {value}, expected a time above 0", key=name)
        if not 0.0 <= self.noise <= 10.0:
            raise InputError(f"is {self.noise}, expected from 0 to 10", key="noise")
        for name, known in (("repair", ("fixed", "geometric", "exponential")), ("after_repair", ("resume", "restart"))):
            if getattr(self, name) not in known:
                raise InputError(f"is '{getattr(self, name)}', expected one of {', '.join(known)}", key=name)

    def repair_mean(self, shop: JobShop) -> float:
        """Mean repair time in `shop`."""
        if self.mean_repair is not None:
            return self.mean_repair
        return float(shop.duration.mean()) if shop.operations else 1.0

    def durations(self, shop: JobShop, seed: int) -> NDArray[np.int64]:
        """True durations of all operations, shape (operations,)."""
        if self.noise == 0.0:
            return shop.duration
        spread = np.log1p(self.noise**2)
        drawn = np.random.default_rng([seed, 1]).normal(-spread / 2, np.sqrt(spread), shop.operations)
        return np.maximum(np.rint(shop.duration * np.exp(drawn)), np.minimum(shop.duration, 1)).astype(np.int64)

    def arrivals(self, shop: JobShop, seed: int) -> NDArray[np.int64]:
        """Arrival of every job, shape (jobs,), not before its release."""
        if self.mean_time_between_arrivals is None:
            return shop.release
        gaps = np.random.default_rng([seed, 2]).exponential(self.mean_time_between_arrivals, shop.jobs)
        return np.maximum(np.rint(np.cumsum(gaps) - gaps[:1]).astype(np.int64), shop.release)
