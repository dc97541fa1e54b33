"""Prices of machine time in a flexible job shop: what work costs where all machines are to be loaded evenly.

At the right prices an operation of a large shop goes, near enough, to the machine where its work is cheapest: the
prices are the dual values of the linear programme that spreads the work. They give bounds and good constructions.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.shops import FlexibleShop, Ints

__all__ = ["least_costs", "machine_prices"]

# Prices are rounded to multiples of one part in so many
_UNIT = 2**20
# With more alternatives than this, prices come from repeated adjustment instead of a linear programme
_PROGRAMME = 15_000
_ADJUSTMENTS = 150


def least_costs(shop: FlexibleShop, prices: Ints) -> Ints:
    """Shape (operations,): least price of each operation's work over its machines."""
    return np.minimum.reduceat(
        prices[shop.alternative_machine] * shop.alternative_duration, shop.alternative_start[:-1]
    )


def machine_prices(shop: FlexibleShop, inside: NDArray[np.bool_] | None = None) -> Ints:
    """Whole prices of the machines, not all 0.

    Parameters
    ----------
    shop
        A shop with operations.
    inside
        Shape (operations,): those whose work is to be spread; all if None.

    Returns
    -------
    Ints
        Shape (machines,).
    """
    chosen = np.ones(shop.operations, bool) if inside is None else inside
    if len(shop.alternative_machine) <= _PROGRAMME:
        return _programme_prices(shop, chosen)
    return _adjusted_prices(shop, chosen)


def _programme_prices(shop: FlexibleShop, inside: NDArray[np.bool_]) -> Ints:
    """Dual values of spreading the chosen operations evenly over the machines."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    owner = np.repeat(np.arange(shop.operations), np.diff(shop.alternative_start))
    used = np.flatnonzero(inside[owner])
    rows = np.cumsum(inside)[owner[used]] - 1
    count, machines = len(used), shop.machines
    # variables: share of each alternative, length; the shares of an operation add up to 1, no machine works longer
    work = coo_array(
        (
            np.concatenate((shop.alternative_duration[used], np.full(machines, -1))).astype(np.float64),
            (
                np.concatenate((shop.alternative_machine[used], np.arange(machines))),
                np.concatenate((np.arange(count), np.full(machines, count))),
            ),
        ),
        shape=(machines, count + 1),
    )
    whole = coo_array((np.ones(count), (rows, np.arange(count))), shape=(int(inside.sum()), count + 1))
    cost = np.zeros(count + 1)
    cost[count] = 1.0
    found = linprog(
        cost,
        A_ub=work.tocsr(),
        b_ub=np.zeros(machines),
        A_eq=whole.tocsr(),
        b_eq=np.ones(whole.shape[0]),
        method="highs",
    )
    prices = np.zeros(machines, np.int64)
    if found.status == 0:
        prices = np.rint(np.maximum(0.0, -found.ineqlin.marginals) * _UNIT).astype(np.int64)
    return prices if prices.sum() > 0 else np.ones(machines, np.int64)


def _adjusted_prices(shop: FlexibleShop, inside: NDArray[np.bool_]) -> Ints:
    """Prices that were raised where the cheapest choices load a machine more than the others."""
    prices = np.full(shop.machines, _UNIT, np.int64)
    best, kept = Fraction(0), prices
    counts = np.diff(shop.alternative_start)
    used = np.repeat(inside, counts)
    for step in range(_ADJUSTMENTS):
        cost = prices[shop.alternative_machine] * shop.alternative_duration
        cheapest = np.minimum.reduceat(cost, shop.alternative_start[:-1])
        length = Fraction(int(cheapest[inside].sum()), int(prices.sum()))
        if length > best:
            best, kept = length, prices
        # of equally cheap alternatives all get the work: only the direction counts
        taken = (cost == np.repeat(cheapest, counts)) & used
        load = np.bincount(
            shop.alternative_machine[taken], shop.alternative_duration[taken].astype(float), minlength=shop.machines
        )
        raised = prices * np.exp((load / max(1.0, load.mean()) - 1.0) / (2.0 + step))
        prices = np.maximum(1, np.rint(raised * (shop.machines * _UNIT / raised.sum()))).astype(np.int64)
    return kept
