"""Dispatching: build a schedule of a job shop or flexible job shop operation by operation, by a priority rule.

Three ways of building (Pinedo, "Scheduling", chapters 2 and 7):

- "non-delay": event by event; no machine is idle while it could start an operation. The best operation of those that
  can start first goes next.
- "active": B. Giffler and G. Thompson, "Algorithms for solving production-scheduling problems", Operations Research 8
  (1960): find the operation that could end first; of those that could start on its machine before that, the best goes.
- "semi-active": the best of all jobs' next operations goes to the end of its machine's queue.

Among several machines an operation takes the one on which it ends first, which may be one that it has to wait for.
Ties of priorities go to the smaller job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pathloom.schedule.dispatching_rules import RULES, Keys, Work
from pathloom.schedule.shops import FlexibleShop, Ints, JobShop, Positions

DispatchMode = Literal["non-delay", "active", "semi-active"]
MODES: tuple[DispatchMode, ...] = ("non-delay", "active", "semi-active")  # in the order of the kernels' numbers
Shop = JobShop | FlexibleShop
_EXACT = 2**53  # times are keys of heaps of floating-point numbers


@dataclass(frozen=True, eq=False)
class DispatchView:
    """What a rule of the user's sees of one decision; do not change its arrays.

    Attributes
    ----------
    shop
        The shop.
    work
        Durations, remaining work, due dates and weights of all operations, see `Work`.
    now
        Earliest start of any candidate.
    operation
        Shape (candidates,): the operations among which the rule decides, one a job at most, rising.
    start
        Shape (candidates,): their earliest starts.
    next_operation
        Shape (jobs,): first operation of each job that has not been scheduled; ``shop.job_start[j + 1]`` if all have.
    ready
        Shape (jobs,): end of each job's last scheduled operation, or its release.
    free
        Shape (machines,): end of each machine's last operation.
    """

    shop: Shop
    work: Work
    now: int
    operation: NDArray[np.int64]
    start: Ints
    next_operation: NDArray[np.int64]
    ready: Ints
    free: Ints


UserRule = Callable[[DispatchView], ArrayLike]
"""Gives one priority a candidate, shape (candidates,); the least goes first."""


@overload
def dispatch(
    shop: JobShop,
    rule: str | UserRule | NDArray = "MWKR",
    *,
    seed: int = 0,
    mode: DispatchMode = "non-delay",
    due: NDArray | None = None,
    weight: NDArray | None = None,
) -> Ints: ...
@overload
def dispatch(
    shop: FlexibleShop,
    rule: str | UserRule | NDArray = "MWKR",
    *,
    seed: int = 0,
    mode: DispatchMode = "non-delay",
    due: NDArray | None = None,
    weight: NDArray | None = None,
) -> tuple[Positions, Ints]: ...
def dispatch(
    shop: Shop,
    rule: str | UserRule | NDArray = "MWKR",
    *,
    seed: int = 0,
    mode: DispatchMode = "non-delay",
    due: NDArray | None = None,
    weight: NDArray | None = None,
) -> Ints | tuple[Positions, Ints]:
    """Schedule a shop by a priority rule.

    Parameters
    ----------
    rule
        A name of `RULES`, a function of the user's (`UserRule`; interpreted, so about a hundred times slower), or
        priorities of shape (operations,), the least first.
    seed
        For the rule "RANDOM".
    mode
        How the schedule is built, see the module.
    due, weight
        Shape (jobs,), for rules that look at them; without `due` a job is due after 1.5 times its work.

    Returns
    -------
    Starts, shape (operations,); for a flexible shop the pair of chosen alternatives (positions in
    ``shop.alternative_machine``) and starts.

    Raises
    ------
    ValueError
        If there is no such rule or mode, an array has a wrong shape, or the shop is a blocking or no-wait one.
    """
    if callable(rule):
        _check(shop, mode)
        chosen, start = _interpreted(shop, rule, mode, Work.of(shop, due, weight))
        return (chosen, start) if isinstance(shop, FlexibleShop) else start
    if isinstance(rule, str):
        if rule.upper() not in RULES:
            raise ValueError(f"rule: expected one of {', '.join(RULES)}, found {rule!r}")
        keys = RULES[rule.upper()].keys(Work.of(shop, due, weight), np.random.default_rng(seed))
    else:
        keys = Keys(np.asarray(rule, np.float64))
    if keys.base.shape != (shop.operations,):
        raise ValueError(f"priorities: expected shape ({shop.operations},), found {keys.base.shape}")
    batch = _compiled(shop, keys.base[None], keys, mode)
    if isinstance(batch, tuple):
        return batch[0][0], batch[1][0]
    return batch[0]


@overload
def dispatch_many(shop: JobShop, priorities: ArrayLike, *, mode: DispatchMode = "non-delay") -> Ints: ...
@overload
def dispatch_many(
    shop: FlexibleShop, priorities: ArrayLike, *, mode: DispatchMode = "non-delay"
) -> tuple[Positions, Ints]: ...
def dispatch_many(
    shop: Shop, priorities: ArrayLike, *, mode: DispatchMode = "non-delay"
) -> Ints | tuple[Positions, Ints]:
    """One schedule for every row of `priorities`, shape (b, operations), the least first.

    Returns starts, or alternatives and starts, of shape (b, operations); otherwise as `dispatch`.
    """
    base = np.asarray(priorities, np.float64)
    if base.ndim != 2 or base.shape[1] != shop.operations:
        raise ValueError(f"priorities: expected shape (any, {shop.operations}), found {base.shape}")
    return _compiled(shop, base, Keys(base[0] if len(base) else np.zeros(shop.operations)), mode)


def _check(shop: Shop, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode: expected one of {', '.join(MODES)}, found {mode!r}")
    if isinstance(shop, JobShop) and (shop.blocking or shop.no_wait):
        raise ValueError("a blocking or no-wait shop cannot be dispatched operation by operation")
    durations = shop.duration if isinstance(shop, JobShop) else shop.alternative_duration
    if durations.sum(dtype=np.float64) + (shop.release.max() if shop.jobs else 0) >= _EXACT:
        raise ValueError("durations: expected less than 2^53 in all")


def _alternatives(shop: Shop) -> tuple[Positions, Positions, Ints]:
    """First alternative of each operation, and machine and duration of each alternative."""
    if isinstance(shop, JobShop):
        return np.arange(shop.operations + 1, dtype=np.int32), shop.machine, shop.duration
    return shop.alternative_start, shop.alternative_machine, shop.alternative_duration


def _compiled(shop: Shop, base: NDArray[np.float64], keys: Keys, mode: DispatchMode) -> Ints | tuple[Positions, Ints]:
    from pathloom.schedule._dispatch_kernels import dispatch_batch

    _check(shop, mode)
    if np.isnan(base).any():
        raise ValueError("priorities: expected numbers, found NaN")
    first, machine, duration = _alternatives(shop)
    zeros = np.zeros(shop.operations)
    slope, hinge, latest = (zeros if part is None else part for part in (keys.slope, keys.hinge, keys.latest))
    chosen = np.empty(base.shape, np.int32)
    start = np.empty(base.shape, np.int64)
    dispatch_batch(
        MODES.index(mode),
        shop.job_start,
        shop.job,
        shop.release,
        first,
        machine,
        duration,
        shop.machines,
        np.ascontiguousarray(base),
        float(keys.arrival),
        slope,
        hinge,
        latest,
        bool(slope.any() or hinge.any()),
        chosen,
        start,
    )
    return (chosen, start) if isinstance(shop, FlexibleShop) else start


def _interpreted(shop: Shop, rule: UserRule, mode: DispatchMode, work: Work) -> tuple[Positions, Ints]:
    """The schedule by a rule of the user's, decision by decision."""
    first, machine, duration = _alternatives(shop)
    last = shop.job_start[1:].astype(np.int64)
    following = shop.job_start[:-1].astype(np.int64)
    ready, free = shop.release.copy(), np.zeros(shop.machines, np.int64)
    chosen, start = np.zeros(shop.operations, np.int32), np.zeros(shop.operations, np.int64)
    for _ in range(shop.operations):
        open_jobs = np.flatnonzero(following < last)
        choices = [_ends_first(int(o), int(ready[j]), first, machine, duration, free)
                   for j, o in zip(open_jobs, following[open_jobs])]  # fmt: skip
        best = np.array([choice[0] for choice in choices])
        begin = np.array([choice[1] for choice in choices])
        earliest = np.array([choice[2] for choice in choices])
        if mode == "non-delay":
            among = earliest == earliest.min()
        elif mode == "active":
            end = begin + duration[best]
            at = int(np.argmin(end))
            among = (machine[best] == machine[best[at]]) & (begin <= max(end[at] - 1, begin[at]))
        else:
            among = np.ones(len(best), bool)
        rows = np.flatnonzero(among)
        view = DispatchView(
            shop, work, int(earliest[rows].min()), following[open_jobs[rows]], begin[rows], following, ready, free
        )
        priorities = np.asarray(rule(view), np.float64)
        if priorities.shape != rows.shape or np.isnan(priorities).any():
            raise ValueError(f"rule: expected {len(rows)} priorities, found {priorities!r}")
        row = rows[int(np.argmin(priorities))]
        j, a = open_jobs[row], best[row]
        chosen[following[j]], start[following[j]] = a, begin[row]
        ready[j] = free[machine[a]] = begin[row] + duration[a]
        following[j] += 1
    return chosen, start


def _ends_first(
    operation: int, ready: int, first: Positions, machine: Positions, duration: Ints, free: Ints
) -> tuple[int, int, int]:
    """The alternative that ends first (of equal ones the shortest, then the first), its start, the earliest of all."""
    candidates = range(first[operation], first[operation + 1])
    starts = {a: max(ready, int(free[machine[a]])) for a in candidates}
    best = min(candidates, key=lambda a: (starts[a] + int(duration[a]), -starts[a], a))
    return best, starts[best], min(starts.values())
