"""Priority rules of job shops by name; the operation with the least priority goes first.

Sources: R. Haupt, "A survey of priority rule-based scheduling", OR Spektrum 11 (1989), for the names; A. Vepsalainen
and T. Morton, "Priority rules for job shops with weighted tardiness costs", Management Science 33 (1987), for ATC with
its look-ahead k = 3 and waiting times of b = 2 processing times; J. Park et al., "Learning to schedule job-shop
problems", IJPR 59 (2021), for FDD and FDD/MWKR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.shops import FlexibleShop, JobShop

Floats = NDArray[np.float64]
DUE_FACTOR = 1.5
LOOK_AHEAD, WAITING = 3.0, 2.0


@dataclass(frozen=True)
class Work:
    """What rules know of the operations; all shapes (operations,), times in the shop's unit.

    Attributes
    ----------
    duration
        Processing time; with several machines to choose from their mean.
    remaining, done
        Work of the job from the operation on (it included), and up to it (it included).
    left, number
        Operations of the job from it on (it included), and its position in its job from 0.
    release, due, weight
        Of its job.
    """

    duration: Floats
    remaining: Floats
    done: Floats
    left: Floats
    number: Floats
    release: Floats
    due: Floats
    weight: Floats

    @classmethod
    def of(cls, shop: JobShop | FlexibleShop, due: NDArray | None = None, weight: NDArray | None = None) -> Work:
        """The work of a shop; without `due` a job is due after `DUE_FACTOR` times its work, weights are 1."""
        if isinstance(shop, JobShop):
            duration = shop.duration.astype(np.float64)
        else:
            total = np.concatenate(([0.0], np.cumsum(shop.alternative_duration, dtype=np.float64)))
            duration = np.diff(total[shop.alternative_start]) / np.diff(shop.alternative_start)
        job, first, last = shop.job, shop.job_start[:-1], shop.job_start[1:]
        until = np.concatenate(([0.0], np.cumsum(duration)))
        number = (np.arange(len(job)) - first[job]).astype(np.float64)
        release = shop.release.astype(np.float64)
        dates = release + DUE_FACTOR * (until[last] - until[first]) if due is None else np.asarray(due, np.float64)
        weights = np.ones(shop.jobs) if weight is None else np.asarray(weight, np.float64)
        for name, given in (("due", dates), ("weight", weights)):
            if given.shape != (shop.jobs,):
                raise ValueError(f"{name}: expected one number a job, shape ({shop.jobs},), found {given.shape}")
        return cls(
            duration,
            until[last][job] - until[:-1],
            until[1:] - until[first][job],
            (last - first)[job] - number,
            number,
            release[job],
            dates[job],
            weights[job],
        )


@dataclass(frozen=True)
class Keys:
    """Priorities ``base + arrival * a + slope * t + hinge * max(0, latest - t)``.

    a is when the operation became available, t when the decision is made; the arrays have shape (operations,), None
    stands for zeros.
    """

    base: Floats
    arrival: float = 0.0
    slope: Floats | None = None
    hinge: Floats | None = None
    latest: Floats | None = None


@dataclass(frozen=True)
class Rule:
    """A priority rule: what it prefers, in words, and its priorities."""

    description: str
    keys: Callable[[Work, np.random.Generator], Keys] = field(repr=False)


def _rule(description: str, base: Callable[[Work], Floats]) -> Rule:
    return Rule(description, lambda work, _: Keys(base(work)))


def _later(work: Work) -> Floats:
    """Work of the job after the operation."""
    return work.remaining - work.duration


def _critical_ratio(work: Work, _: np.random.Generator) -> Keys:
    left = np.maximum(work.remaining, 1e-9)
    return Keys(work.due / left, slope=-1.0 / left)


def _slack_per_operation(work: Work, _: np.random.Generator) -> Keys:
    return Keys((work.due - work.remaining) / work.left, slope=-1.0 / work.left)


def _modified_due_date(work: Work, _: np.random.Generator) -> Keys:
    ones = np.ones(len(work.due))
    return Keys(work.remaining, slope=ones, hinge=ones, latest=work.due - work.remaining)


def _apparent_tardiness_cost(work: Work, _: np.random.Generator) -> Keys:
    # the logarithm keeps the order of indices that would all be 0 as floating-point numbers
    mean = max(float(work.duration.mean()) if len(work.duration) else 1.0, 1e-9)
    base = np.log(np.maximum(work.duration, 1e-9)) - np.log(np.maximum(work.weight, 1e-9))
    latest = work.due - work.duration - (1.0 + WAITING) * _later(work)
    return Keys(base, hinge=np.full(len(base), 1.0 / (LOOK_AHEAD * mean)), latest=latest)


RULES: dict[str, Rule] = {
    "SPT": _rule("shortest processing time", lambda w: w.duration),
    "LPT": _rule("longest processing time", lambda w: -w.duration),
    "WSPT": _rule("shortest processing time over the job's weight", lambda w: w.duration / np.maximum(w.weight, 1e-9)),
    "MWKR": _rule("most work of the job remaining, the operation's own included", lambda w: -w.remaining),
    "LWKR": _rule("least work of the job remaining, the operation's own included", lambda w: w.remaining),
    "MOR": _rule("most operations of the job remaining", lambda w: -w.left),
    "LOR": _rule("least operations of the job remaining", lambda w: w.left),
    "TWK": _rule("least total work of the job", lambda w: w.done + _later(w)),
    "MTWK": _rule("most total work of the job", lambda w: -(w.done + _later(w))),
    "SPT/TWK": _rule("smallest share of the job's work", lambda w: w.duration / np.maximum(w.done + _later(w), 1e-9)),
    "FIFO": Rule("first in, first out: available for longest", lambda w, _: Keys(np.zeros(len(w.due)), arrival=1.0)),
    "LIFO": Rule("last in, first out: available for shortest", lambda w, _: Keys(np.zeros(len(w.due)), arrival=-1.0)),
    "FASFS": _rule("first at the shop, first served: earliest release of the job", lambda w: w.release),
    "EDD": _rule("earliest due date of the job", lambda w: w.due),
    "ODD": _rule(
        "earliest operation due date: the job's time until its due date shared out by work",
        lambda w: w.release + (w.due - w.release) * w.done / np.maximum(w.done + _later(w), 1e-9),
    ),
    "SLACK": _rule("least slack: due date less the time and the work that remain", lambda w: w.due - w.remaining),
    "S/OPN": Rule("least slack per remaining operation", _slack_per_operation),
    "CR": Rule("least critical ratio: time until the due date over remaining work", _critical_ratio),
    "MDD": Rule(
        "earliest modified due date: the due date, or when the job could end if that is later", _modified_due_date
    ),
    "ATC": Rule(
        "apparent tardiness cost: weight over time, less with the slack (k = 3, b = 2)", _apparent_tardiness_cost
    ),
    "FDD": _rule(
        "earliest flow due date: release and work of the job up to the operation", lambda w: w.release + w.done
    ),
    "FDD/MWKR": _rule(
        "least ratio of flow due date to remaining work",
        lambda w: (w.release + w.done) / np.maximum(w.remaining, 1e-9),
    ),
    "RANDOM": Rule("random, by the seed", lambda w, rng: Keys(rng.random(len(w.due)))),
}
"""The rules by name."""
