"""Good first schedules for flexible job shops: greedy choice of machines and of the order, by dispatching rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.schedule.flexible_shop_prices import least_costs, machine_prices
from pathloom.schedule.shops import FlexibleShop, Ints, Positions

__all__ = ["RULES", "flexible_shop_start", "least_durations", "least_tails"]

Reals = NDArray[np.float64]


def least_durations(shop: FlexibleShop) -> Ints:
    """Shape (operations,): duration of each operation on its fastest machine."""
    if shop.operations == 0:
        return np.zeros(0, np.int64)
    return np.minimum.reduceat(shop.alternative_duration, shop.alternative_start[:-1])


def least_tails(shop: FlexibleShop) -> Ints:
    """Shape (operations,): work of the job from the operation on, with it, on the fastest machines."""
    whole = np.concatenate((np.zeros(1, np.int64), np.cumsum(least_durations(shop))))
    return whole[shop.job_start[1:]][shop.job] - whole[:-1]


def _most_work_remaining(shop: FlexibleShop) -> Reals:
    return least_tails(shop).astype(np.float64)


def _most_operations_remaining(shop: FlexibleShop) -> Reals:
    return (shop.job_start[1:][shop.job] - np.arange(shop.operations)).astype(np.float64)


def _shortest_processing(shop: FlexibleShop) -> Reals:
    durations = least_durations(shop).astype(np.float64)
    return durations.max(initial=0.0) + 1.0 - durations


def _first_come(shop: FlexibleShop) -> Reals:
    return np.ones(shop.operations)


RULES: dict[str, Callable[[FlexibleShop], Reals]] = {
    "mwkr": _most_work_remaining,
    "mor": _most_operations_remaining,
    "spt": _shortest_processing,
    "fifo": _first_come,
}


@lru_cache(maxsize=4)
def _costs(shop: FlexibleShop) -> tuple[Ints, Ints]:
    """Shape (alternatives,) each: price of the work, and the least one of the same operation."""
    prices = machine_prices(shop)
    least = np.repeat(least_costs(shop, prices), np.diff(shop.alternative_start))
    return prices[shop.alternative_machine] * shop.alternative_duration, least


def flexible_shop_start(
    shop: FlexibleShop, rule: str = "mwkr", *, seed: int = 0, noise: float = 0.0, spread: float | None = None
) -> tuple[Positions, Ints]:
    """An active schedule in which operations go to the machine that completes them first, in the order of a rule.

    Parameters
    ----------
    shop
        The shop.
    rule
        "mwkr" (most work remaining), "mor" (most operations remaining), "spt" (shortest processing time) or "fifo"
        (first come, first served).
    seed
        Of the noise.
    noise
        Priorities are multiplied by random factors from ``1 - noise`` to 1, at least 0 and at most 1.
    spread
        If given, at least 0: an operation uses only machines where its work costs at most ``1 + spread`` times the
        least, at the prices of `machine_prices`. Loads the machines evenly, which is what counts with many jobs.

    Returns
    -------
    tuple
        Shape (operations,) each: index into the shop's alternatives, and start.

    Raises
    ------
    InputError
        If there is no such rule, or the noise or the spread is out of range.
    """
    if rule not in RULES:
        raise InputError(f"no rule '{rule:.40}'; expected one of {', '.join(RULES)}", key="rule")
    if not 0.0 <= noise <= 1.0:
        raise InputError(f"{noise} is no noise; expected a number from 0 to 1", key="noise")
    if spread is not None and not spread >= 0.0:
        raise InputError(f"{spread} is no spread; expected a number of at least 0", key="spread")
    from pathloom.schedule._flexible_construction_kernels import build_active

    random = np.random.default_rng(seed)
    priority = RULES[rule](shop) * (1.0 - noise * random.random(shop.operations))
    allowed = np.ones(len(shop.alternative_machine), bool)
    if spread is not None and shop.operations > 0:
        cost, least = _costs(shop)
        allowed = cost <= least * (1.0 + spread)
    alternative = np.zeros(shop.operations, np.int32)
    start = np.zeros(shop.operations, np.int64)
    build_active(
        np.asarray(shop.job_start, np.int32),
        np.asarray(shop.alternative_start, np.int32),
        np.asarray(shop.alternative_machine, np.int32),
        np.asarray(shop.alternative_duration, np.int64),
        np.asarray(shop.release, np.int64),
        shop.machines,
        priority,
        allowed,
        alternative,
        start,
    )
    return alternative, start
