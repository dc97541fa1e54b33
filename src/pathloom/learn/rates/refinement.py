"""Refinement: the gradient norms of one run give the learning-rate schedule of the next.

Source: Defazio, Cutkosky, Mehta, Mishchenko: "When, Why and How Much? Adaptive Learning Rate Scheduling by
Refinement", 2023 (v2: "Optimal Linear Decay Learning Rate Schedules and Further Refinements"). For any positive
weights w_t, step sizes proportional to ``w_t * (w_{t+1} + ... + w_T)`` give the last iterate the guarantee of the
weighted average; that guarantee is best for w_t = 1 / ||g_t||_2**2 (SGD), and for w_t = 1 / ||g_t||_1 with
coordinate-wise step sizes (Adam). Equal norms give linear decay; norms that fall at the start give a warm-up. The
norms are those of a run with linear decay, before clipping, smoothed by a running median.

Beyond the paper: a guard. Where a model fits its data perfectly the norms vanish at the end, the weights explode
there, and the "refined" rate rises to the end of the run; then the schedule falls back to linear decay and says why.
The same where the norms of neighbouring steps lie far apart: a few batches then carry the gradient, and the running
median, which the weights are made from, says little about the mean square, which the guarantee is about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pathloom.learn.rates.norms import Array, GradientNormRecord, on_grid, scatter
from pathloom.learn.rates.profile import Tabulated

Norm = Literal["l1", "l2"]

LEAST_NORMS = 20
"""Fewer norms than these say nothing about a shape."""

_ROW = 8
"""Steps that are neighbours, where norms come as an array; as in a record."""

_COLLAPSE = 0.3
"""Norms of the last tenth over those of the middle third below which they are said to collapse."""

_SCATTER = 0.45
"""Median of ``|log(norm / neighbours' median)|`` above which the median says too little. Logistic regressions have 0.1
to 0.3 where a fifth of the labels is wrong and 0.6 to 1.3 on separable data; only the latter are harmed by refinement.
"""

_FALL = 0.6
"""Norms of the second half over those of the second and third tenth below which they are said to keep falling. Logistic
regressions have 0.62 to 1.04 where a fifth of the labels is wrong (one run of 48: 0.51), and 0.55 at most on the
separable digits and wine data.
"""

_LATEST_PEAK = 0.6
"""Share of the run after which a refined rate must not peak."""


@dataclass(frozen=True)
class Refinement:
    """A refined schedule and how it came about.

    Attributes
    ----------
    profile
        The schedule to use, highest factor 1.
    guarded
        Whether the guard replaced the refined schedule.
    reason
        Why it did; "" if it did not.
    power_fit
        (p, q): linear warm-up for the share p, then a fall like ``(1 - u) ** q``, the nearest of that form to
        `profile`.
    norm
        "l1" or "l2".
    scatter
        How far norms of neighbouring steps lie apart, as in `pathloom.learn.rates.norms.scatter`.
    norms, smoothed
        Norms on an even grid from the first to the last step, before and after the running median, both ``(n,)``.
    unguarded
        The refined schedule on the same grid whatever the guard says, ``(n,)``.
    """

    profile: Tabulated
    guarded: bool
    reason: str
    power_fit: tuple[float, float]
    norm: Norm = "l2"
    scatter: float = 0.0
    norms: Array = field(default_factory=lambda: np.empty(0), compare=False, repr=False)
    smoothed: Array = field(default_factory=lambda: np.empty(0), compare=False, repr=False)
    unguarded: Array = field(default_factory=lambda: np.empty(0), compare=False, repr=False)


def refine(
    record: GradientNormRecord | npt.ArrayLike,
    *,
    norm: Norm = "l2",
    smoothing: float = 0.1,
    guard: bool = True,
    points: int = 1000,
) -> Refinement:
    """The schedule for the next run from the gradient norms of a run with linear decay.

    Parameters
    ----------
    record
        Gradient norms of the run: a `GradientNormRecord`, or one norm a step in an array ``(T,)``, of which infinite
        and undefined ones are left out.
    norm
        Which norm these are: "l2" (over all parameters) for SGD, "l1" for Adam and its kin.
    smoothing
        Width of the running median as a share of the run, in [0, 1).
    guard
        Whether to fall back to linear decay where the norms degenerate.
    points
        Points of the grid on which the schedule is computed.

    Raises
    ------
    ValueError
        For parameters outside their range, norms that are all zero, and fewer than `LEAST_NORMS` norms.
    """
    if norm not in ("l1", "l2"):
        raise ValueError(f"norm: expected l1 or l2, found {norm!r}")
    if points < LEAST_NORMS:
        raise ValueError(f"points: expected at least {LEAST_NORMS}, found {points!r}")
    norms, apart = _curve(record, points)
    # A few at both ends, where a single odd norm would count for half a window.
    trim = points // 500
    if trim:
        norms[:trim], norms[-trim:] = norms[trim], norms[-trim - 1]
    smoothed = smooth_norms(norms, smoothing)
    if not smoothed.any():
        raise ValueError("the gradient norms are zero nearly all the time")
    unguarded = refined_factors(smoothed, norm)
    reason = _degenerate(norms, unguarded, apart) if guard else ""
    warm_up = _warm_up(smoothed, norm) if reason and apart <= _SCATTER else 0.0
    factors = _linear_decay(points, warm_up) if reason else unguarded
    return Refinement(
        Tabulated(tuple(factors.tolist())),
        bool(reason),
        reason,
        fit_power(factors),
        norm,
        apart,
        norms,
        smoothed,
        unguarded,
    )


def refined_factors(norms: npt.ArrayLike, norm: Norm = "l2") -> Array:
    """The closed form: factors ``(T,)`` with the highest 1 and the last 0 from positive norms ``(T,)``; one pass."""
    g = np.asarray(norms, dtype=np.float64)
    # Only ratios count. A norm of zero would have an infinite weight, which no sum survives.
    ratio = g.max() / np.maximum(g, 1e-9 * g.max())
    weight = ratio**2 if norm == "l2" else ratio
    weight = weight / weight.max()
    later = np.zeros(len(weight))
    later[:-1] = np.cumsum(weight[:0:-1])[::-1]
    factors = weight * later
    return np.asarray(factors / factors.max(), dtype=np.float64)


def smooth_norms(norms: npt.ArrayLike, smoothing: float = 0.1) -> Array:
    """Running median over the share `smoothing` of the norms ``(n,)``.

    The window has ``2 * floor(smoothing * n / 2) + 1`` points. Before the start the first norm stands; the end goes on
    in its mirror image, so that the window does not shrink where the schedule is most sensitive.

    Raises
    ------
    ValueError
        If `smoothing` is not in [0, 1).
    """
    from scipy.ndimage import median_filter

    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing: expected a share in [0, 1), found {smoothing!r}")
    g = np.asarray(norms, dtype=np.float64)
    width = 2 * int(smoothing * len(g) / 2) + 1
    padded = np.pad(g, (0, min(2 * width, len(g) - 1)), mode="reflect")
    return np.asarray(median_filter(padded, size=width, mode="nearest")[: len(g)], dtype=np.float64)


def fit_power(factors: npt.ArrayLike) -> tuple[float, float]:
    """The nearest "linear warm-up for the share p, then ``((1 - u) / (1 - p)) ** q``" in mean square, as (p, q).

    p is found to about 0.001 and q to about 1 %, in [0, 0.95] and [0.05, 20].
    """
    s = np.asarray(factors, dtype=np.float64)
    u = np.linspace(0.0, 1.0, 201)
    s = np.interp(u, np.linspace(0.0, 1.0, len(s)), s / s.max())
    p, log_q = np.linspace(0.0, 0.95, 39), np.linspace(np.log(0.05), np.log(20.0), 41)
    best_p, best_q = 0.0, 0.0
    for _ in range(4):
        errors = np.array([_power_errors(s, u, share, np.exp(log_q)) for share in p])
        i, j = np.unravel_index(int(errors.argmin()), errors.shape)
        best_p, best_q = float(p[i]), float(log_q[j])
        around_p, around_q = 2 * (p[1] - p[0]), 2 * (log_q[1] - log_q[0])
        p = np.linspace(max(best_p - around_p, 0.0), min(best_p + around_p, 0.95), 17)
        log_q = np.linspace(best_q - around_q, best_q + around_q, 17).clip(np.log(0.05), np.log(20.0))
    return best_p, float(np.exp(best_q))


def _power_errors(s: Array, u: Array, p: float, q: Array) -> Array:
    """Mean squared errors ``(len(q),)`` of the warm-up share `p` with the powers `q`."""
    rising = u < p
    left = (1.0 - u[~rising]) / (1.0 - p)
    fall = ((left[None, :] ** q[:, None] - s[~rising]) ** 2).sum(axis=1)
    return np.asarray(fall + ((u[rising] / max(p, 1e-12) - s[rising]) ** 2).sum(), dtype=np.float64)


def _curve(record: GradientNormRecord | npt.ArrayLike, points: int) -> tuple[Array, float]:
    """Norms on an even grid of `points` points, and their scatter."""
    if isinstance(record, GradientNormRecord):
        if record.count < LEAST_NORMS:
            raise ValueError(f"expected at least {LEAST_NORMS} gradient norms, found {record.count}")
        return record.curve(points)[1], record.scatter()
    given = np.asarray(record, dtype=np.float64)
    if given.ndim != 1 or (given < 0).any():
        raise ValueError("expected gradient norms in one row, none of them negative")
    kept = np.flatnonzero(np.isfinite(given))
    if len(kept) < LEAST_NORMS:
        raise ValueError(f"expected at least {LEAST_NORMS} gradient norms, found {len(kept)}")
    rows = given[kept][: len(kept) // _ROW * _ROW].reshape(-1, _ROW)
    return on_grid(kept / (len(given) - 1), given[kept], points)[1], scatter(rows)


def _degenerate(norms: Array, factors: Array, apart: float) -> str:
    """Why these norms give no schedule, "" if they do."""
    n = len(norms)
    middle, end = float(np.median(norms[n // 3 : 2 * n // 3])), float(np.median(norms[-(n // 10) :]))
    if end < _COLLAPSE * middle:
        return (
            f"the gradient norms collapse: in the last tenth of the run their median is {end:.3g}, which is "
            f"{end / middle:.2g} of the {middle:.3g} in the middle third (at least {_COLLAPSE:g} is asked for)"
        )
    if apart > _SCATTER:
        return (
            f"the gradient norms scatter: half of them differ by more than a factor of {np.exp(apart):.2g} from their "
            f"neighbours' median (at most {np.exp(_SCATTER):.2g} is asked for)"
        )
    peak = int(factors.argmax()) / (n - 1)
    if peak > _LATEST_PEAK:
        return (
            f"the refined rate would rise until {peak:.0%} of the run, "
            f"beyond the {_LATEST_PEAK:.0%} that leave time to anneal"
        )
    early, late = float(np.median(norms[n // 10 : 3 * n // 10])), float(np.median(norms[n // 2 :]))
    if late < _FALL * early:
        return (
            f"the gradient norms keep falling: in the second half of the run their median is {late:.3g}, which is "
            f"{late / early:.2g} of the {early:.3g} between 10 and 30 % of it (at least {_FALL:g} is asked for)"
        )
    return ""


def _warm_up(smoothed: Array, norm: Norm) -> float:
    """Share of warm-up for the linear decay that stands in for a degenerate refinement; 0 for none.

    Only where norms that fall at the start, settle, and vanish at the end are three separate things: where they fall
    all the time, the fall at the start is part of the collapse and says nothing about a warm-up.
    """
    n = len(smoothed)
    start, early = float(np.median(smoothed[: n // 50])), float(np.median(smoothed[n // 5 : 3 * n // 10]))
    middle = float(np.median(smoothed[n // 2 : 3 * n // 5]))
    falls = np.median(smoothed[n // 2 :]) < _FALL * np.median(smoothed[n // 10 : 3 * n // 10])
    if middle == 0 or falls or start < 1.5 * early or not 2 / 3 < early / middle < 1.5:
        return 0.0
    settled = np.maximum(smoothed, min(early, middle))
    return min(fit_power(refined_factors(settled, norm))[0], 0.2)


def _linear_decay(n: int, warm_up: float) -> Array:
    u = np.linspace(0.0, 1.0, n)
    down = (1.0 - u) / (1.0 - warm_up)
    return np.asarray(np.minimum(down, u / warm_up), dtype=np.float64) if warm_up else down
