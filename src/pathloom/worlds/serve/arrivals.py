"""Arrival times and users made up by chance: Poisson, Gamma, bursts, the course of a day, tenants of unlike size.

Every function gives times in seconds from 0 on, as many as were asked for, and depends on the generator alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.worlds.serve.trace import Floats, Ints


def _positive(**given: float) -> None:
    for name, value in given.items():
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"expected a number above 0, found {value:g}", key=name)


def evenly(count: int, rate: float) -> Floats:
    """One request every 1 / `rate` seconds."""
    _positive(rate=rate)
    return np.arange(count) / rate


def poisson(count: int, rate: float, generator: np.random.Generator) -> Floats:
    """Exponential gaps with the mean 1 / `rate`."""
    return gamma(count, rate, 1.0, generator)


def gamma(count: int, rate: float, variation: float, generator: np.random.Generator) -> Floats:
    """Gamma gaps with the mean 1 / `rate` and the coefficient of variation `variation`; above 1 arrivals clump."""
    _positive(rate=rate, variation=variation)
    shape = variation**-2
    return np.cumsum(generator.gamma(shape, 1.0 / (shape * rate), count))


def bursts(
    count: int,
    rate: float,
    generator: np.random.Generator,
    *,
    factor: float = 5.0,
    quiet: float = 60.0,
    busy: float = 10.0,
) -> Floats:
    """A Poisson process whose rate is `factor` times as high in bursts.

    Parameters
    ----------
    rate
        Mean over all times, requests a second.
    quiet, busy
        Mean seconds between bursts and of a burst, both exponential.
    """
    _positive(rate=rate, factor=factor, quiet=quiet, busy=busy)
    low = rate * (quiet + busy) / (quiet + factor * busy)
    # Time runs at the speed of the rate: arrivals are Poisson of rate 1 in it.
    ticks = np.cumsum(generator.exponential(1.0, count))
    ends, passed = [0.0], [0.0]
    while passed[-1] <= (ticks[-1] if count else 0.0):
        for mean, speed in ((quiet, low), (busy, low * factor)):
            lasts = generator.exponential(mean)
            ends.append(ends[-1] + lasts)
            passed.append(passed[-1] + lasts * speed)
    return np.interp(ticks, passed, ends)


def diurnal(
    count: int, rate: float, generator: np.random.Generator, *, swing: float = 0.6, period: float = 86400.0
) -> Floats:
    """A Poisson process whose rate follows a sine: ``rate (1 + swing sin(2 pi t / period))``.

    Parameters
    ----------
    swing
        From 0 to below 1.
    period
        Seconds.
    """
    _positive(rate=rate, period=period)
    if not 0 <= swing < 1:
        raise InputError(f"expected a number from 0 to below 1, found {swing:g}", key="swing")
    ticks = np.cumsum(generator.exponential(1.0, count))
    low, high = np.zeros(count), ticks / (rate * (1.0 - swing)) + period
    turn = 2.0 * np.pi / period
    for _ in range(80):  # bisection of the integrated rate, which never falls
        middle = 0.5 * (low + high)
        passed = rate * (middle + swing / turn * (1.0 - np.cos(turn * middle)))
        below = passed < ticks
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


def zipf_users(count: int, users: int, generator: np.random.Generator, *, exponent: float = 1.0) -> Ints:
    """Shape (count,): whom each request is from; user k sends with a probability in proportion to (k + 1)^-exponent."""
    if users < 1:
        raise InputError(f"expected at least 1, found {users}", key="users")
    if not exponent >= 0:
        raise InputError(f"expected at least 0, found {exponent:g}", key="exponent")
    weight: NDArray[np.float64] = np.arange(1, users + 1, dtype=np.float64) ** -exponent
    return generator.choice(users, count, p=weight / weight.sum()).astype(np.int64)
