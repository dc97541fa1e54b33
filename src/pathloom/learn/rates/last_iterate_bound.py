"""The bound on the last iterate of sub-gradient descent, and the step sizes that make it least.

Source: Defazio, Cutkosky, Mehta, Mishchenko: "When, Why and How Much? Adaptive Learning Rate Scheduling by
Refinement", 2023 (v2: "Optimal Linear Decay Learning Rate Schedules and Further Refinements"). With x_t the step
sizes, G_t the norms, D the distance to the solution, X_k and Q_k the sums over t >= k of x_t and of (G_t x_t)**2, the
bound on the loss above the least is::

    D**2 / (2 X_1) + Q_1 / (2 X_1) + 1/2 sum_{k < T} x_k Q_k / (X_{k+1} X_k)

Because x_k / (X_{k+1} X_k) = 1 / X_{k+1} - 1 / X_k, summing by parts leaves a form of one pass without cancellation,
which is what is computed here::

    D**2 / (2 X_1) + 1/2 sum_{t < T} (G_t x_t)**2 / X_{t+1} + 1/2 G_T**2 x_T

Beyond the paper: that form can be made least exactly in one pass (`least_bound_steps`). What follows on step k costs
c_k X_k for a number c_k, because every term is homogeneous; c_T = G_T**2 / 2, and the ratio r = x_k / X_{k+1} that is
best before it gives r = sqrt(1 + 2 c_{k+1} / G_k**2) - 1 and c_k = G_k**2 r. The least bound is D sqrt(2 c_1).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def last_iterate_bound(steps: npt.ArrayLike, norms: npt.ArrayLike, distance: float) -> float:
    """Bound on the loss of the last iterate above the least loss.

    Parameters
    ----------
    steps
        Step sizes ``(T,)``, not negative; zeros at the end do not move the iterate and are left out.
    norms
        Norms of the gradients ``(T,)``, positive. For the coordinate-wise (l1) form: the square roots of the l1 norms.
    distance
        Distance from the start to the solution, positive.

    Raises
    ------
    ValueError
        If lengths differ, or no step is positive.
    """
    x, g = _moving(steps, norms)
    return _value_and_gradient(x, g, distance)[0]


def bound_at_best_rate(factors: npt.ArrayLike, norms: npt.ArrayLike, distance: float) -> float:
    """The least bound that step sizes proportional to `factors` reach, over all base rates."""
    x, g = _moving(factors, norms)
    # The bound is a / rate + b * rate.
    a = distance**2 / (2.0 * x.sum())
    b = last_iterate_bound(x, g, distance) - a
    return 2.0 * math.sqrt(a * b)


def minimise_bound(norms: npt.ArrayLike, distance: float, *, iterations: int = 5000) -> Array:
    """Step sizes ``(T,)`` that make the bound least, found numerically (L-BFGS-B); an oracle for T up to about 500.

    Parameters
    ----------
    norms, distance
        As in `last_iterate_bound`.
    iterations
        Most iterations of L-BFGS-B.
    """
    from scipy.optimize import minimize

    g = np.asarray(norms, dtype=np.float64)
    # In units in which the distance and the typical norm are 1 the solver's tolerances fit.
    unit = float(np.median(g))
    start = np.full(len(g), 1.0 / math.sqrt(len(g)))
    found = minimize(
        lambda x: _value_and_gradient(x, g / unit, 1.0),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-8, None)] * len(g),
        options={"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-11, "gtol": 1e-9, "maxcor": 50},
    )
    return np.asarray(found.x, dtype=np.float64) * distance / unit


def least_bound_steps(norms: npt.ArrayLike, distance: float) -> Array:
    """Step sizes ``(T,)`` that make the bound least, exactly, by the recursion above; `norms`, `distance` as
    elsewhere."""
    square = np.asarray(norms, dtype=np.float64) ** 2
    cost = 0.5 * float(square[-1])
    ratio = np.zeros(len(square))
    for k in range(len(square) - 2, -1, -1):
        # sqrt(1 + a) - 1 without cancellation for the small a of long runs.
        a = 2.0 * cost / square[k]
        ratio[k] = a / (math.sqrt(1.0 + a) + 1.0)
        cost = square[k] * ratio[k]
    # X_{k+1} = X_k / (1 + r_k), from the best sum of all steps on.
    left = distance / math.sqrt(2.0 * cost) / np.cumprod(1.0 + ratio)
    steps = left * ratio
    steps[-1] = left[-1]
    return np.asarray(steps, dtype=np.float64)


def _moving(steps: npt.ArrayLike, norms: npt.ArrayLike) -> tuple[Array, Array]:
    """Both as arrays without the steps of size zero at the end."""
    x, g = np.asarray(steps, dtype=np.float64), np.asarray(norms, dtype=np.float64)
    if x.shape != g.shape or x.ndim != 1:
        raise ValueError(f"norms: expected as many as steps, {x.shape}, found {g.shape}")
    moving = np.flatnonzero(x > 0)
    if not len(moving):
        raise ValueError("steps: expected at least one positive step size")
    return x[: moving[-1] + 1], g[: moving[-1] + 1]


def _value_and_gradient(x: Array, g: Array, distance: float) -> tuple[float, Array]:
    left = np.cumsum(x[::-1])[::-1]  # X_k
    square = g**2
    share = square[:-1] * x[:-1] ** 2 / left[1:]
    value = distance**2 / (2.0 * left[0]) + 0.5 * float(share.sum()) + 0.5 * square[-1] * x[-1]
    gradient = np.full(len(x), -(distance**2) / (2.0 * left[0] ** 2))
    gradient[:-1] += square[:-1] * x[:-1] / left[1:]
    gradient[1:] -= 0.5 * np.cumsum(share / left[1:])
    gradient[-1] += 0.5 * square[-1]
    return float(value), gradient
