"""Arrivals by chance have the rate, the spread and the shape that was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pathloom.plan import InputError
from pathloom.worlds.serve import arrivals

COUNT, RATE = 20_000, 4.0


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    "times",
    [
        arrivals.evenly(COUNT, RATE),
        arrivals.poisson(COUNT, RATE, drawn()),
        arrivals.gamma(COUNT, RATE, 3.0, drawn()),
        arrivals.bursts(COUNT, RATE, drawn()),
        arrivals.diurnal(COUNT, RATE, drawn(), period=500.0),
    ],
    ids=["evenly", "poisson", "gamma", "bursts", "diurnal"],
)
def test_the_rate_is_kept_in_the_long_run(times: np.ndarray) -> None:
    assert len(times) == COUNT and times[0] >= 0 and (np.diff(times) >= 0).all()
    assert COUNT / times[-1] == pytest.approx(RATE, rel=0.12)


@pytest.mark.parametrize("variation", [0.5, 1.0, 2.0])
def test_gamma_gaps_vary_as_asked(variation: float) -> None:
    gaps = np.diff(arrivals.gamma(COUNT, RATE, variation, drawn(1)))
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.06)


def test_bursts_clump_more_than_chance() -> None:
    """Requests a second vary more than those of a Poisson process, whose variance is their mean."""
    counts = np.bincount(arrivals.bursts(COUNT, RATE, drawn()).astype(int))
    assert counts.var() > 2 * counts.mean()


def test_the_day_has_more_by_its_first_half() -> None:
    times = arrivals.diurnal(COUNT, RATE, drawn(), swing=0.6, period=500.0)
    times = times[times < times[-1] // 500 * 500]
    first = (times % 500 < 250).mean()
    # The sine's half has (1 + 2 swing / pi) / 2 of all.
    assert first == pytest.approx(0.5 + 0.6 / np.pi, abs=0.02)


def test_the_same_generator_gives_the_same_times() -> None:
    for make in (arrivals.poisson, arrivals.bursts, arrivals.diurnal):
        assert np.array_equal(make(100, RATE, drawn(5)), make(100, RATE, drawn(5)))


def test_users_of_low_numbers_send_most() -> None:
    users = arrivals.zipf_users(COUNT, 10, drawn())
    counts = np.bincount(users, minlength=10)
    assert len(counts) == 10 and counts[0] / counts[9] == pytest.approx(10, rel=0.2)
    assert len(set(arrivals.zipf_users(COUNT, 10, drawn(), exponent=0.0).tolist())) == 10


@pytest.mark.parametrize(
    "call",
    [
        lambda: arrivals.poisson(3, 0.0, drawn()),
        lambda: arrivals.gamma(3, 1.0, -1.0, drawn()),
        lambda: arrivals.diurnal(3, 1.0, drawn(), swing=1.0),
        lambda: arrivals.bursts(3, 1.0, drawn(), busy=float("nan")),
        lambda: arrivals.zipf_users(3, 0, drawn()),
    ],
)
def test_numbers_that_make_no_sense_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(InputError, match="expected"):
        call()


@pytest.mark.parametrize("make", [arrivals.poisson, arrivals.bursts, arrivals.diurnal])
def test_none_at_all(make: Callable[..., np.ndarray]) -> None:
    assert make(0, RATE, drawn()).tolist() == []
