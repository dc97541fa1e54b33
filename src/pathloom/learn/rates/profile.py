"""Profiles: the shape of a learning rate over the used share of the budget, without steps, warm-up or base rate.

A learning-rate schedule is a profile, read at certain points, over a number of steps (Chen, Wolfe, Kyrillidis: "REX:
Revisiting Budgeted Training with an Improved Schedule", MLSys 2022). This module has the profiles;
`pathloom.learn.rates.plan` adds the reading points, the warm-up, the floor and the steps.

A profile maps u in [0, 1], the used share of the budget, to a factor in [0, 1] on the base rate. Profiles are frozen,
compare by value, go through JSON (`to_dict`, `Profile.from_dict`) and work on whole arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def _demand(holds: bool, field: str, message: str) -> None:
    if not holds:
        raise ValueError(f"{field}: {message}")


def _share(value: float, field: str, *, zero: bool, one: bool = True) -> None:
    """`value` must be a number between 0 and 1; the ends belong to it as said."""
    wanted = f"expected a number in {'[' if zero else '('}0, 1{']' if one else ')'}, found {value!r}"
    _demand((value >= 0 if zero else value > 0) and (value <= 1 if one else value < 1), field, wanted)


@dataclass(frozen=True)
class Profile:
    """Base of all profiles; a profile defines `name` and `_value`.

    Raises
    ------
    ValueError
        By every profile, for a parameter outside its range: ``"field: what was expected"``.
    """

    name: ClassVar[str] = ""

    @overload
    def __call__(self, u: float) -> float: ...
    @overload
    def __call__(self, u: npt.NDArray[Any]) -> Array: ...
    def __call__(self, u: float | npt.NDArray[Any]) -> float | Array:
        """Factor on the base rate, in [0, 1], at the used shares `u` of the budget (any shape; clipped to [0, 1])."""
        shares = np.clip(np.atleast_1d(np.asarray(u, dtype=np.float64)), 0.0, 1.0)
        value = self._value(shares)
        return value if isinstance(u, np.ndarray) else float(value[0])

    def _value(self, u: Array) -> Array:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The profile as plain JSON values: its name and its parameters."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"name": self.name} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> Profile:
        """The profile that `to_dict` wrote.

        Raises
        ------
        ValueError
            For an unknown name, an unknown parameter, or a value outside its range.
        """
        name = given.get("name")
        kind = PROFILES.get(name) if isinstance(name, str) else None
        if kind is None:
            raise ValueError(f"name: expected one of {', '.join(PROFILES)}, found {name!r}")
        known = {field.name for field in fields(kind)}
        parameters = {key: value for key, value in given.items() if key != "name"}
        for key, value in parameters.items():
            _demand(key in known, key, f"the profile '{name}' has {', '.join(sorted(known)) or 'no parameters'}")
            parameters[key] = tuple(value) if isinstance(value, list) else value
        try:
            return kind(**parameters)
        except TypeError:
            raise ValueError(f"the parameters of the profile '{name}' do not have the right types") from None


@dataclass(frozen=True)
class Constant(Profile):
    """The base rate all the time."""

    name = "constant"

    def _value(self, u: Array) -> Array:
        return np.ones_like(u)


@dataclass(frozen=True)
class Linear(Profile):
    """Linear decay to zero, 1 - u: optimal in the worst case for the last iterate (Defazio et al. 2023)."""

    name = "linear"

    def _value(self, u: Array) -> Array:
        return 1.0 - u


@dataclass(frozen=True)
class Cosine(Profile):
    """Half a cosine, (1 + cos(pi u)) / 2 (Loshchilov, Hutter: "SGDR", 2017, without restarts)."""

    name = "cosine"

    def _value(self, u: Array) -> Array:
        return 0.5 * (1.0 + np.cos(np.pi * u))


@dataclass(frozen=True)
class Exponential(Profile):
    """Exponential decay, ``gamma ** u``: `gamma` is the factor that is left when the whole budget is used."""

    gamma: float = 0.05
    name = "exponential"

    def __post_init__(self) -> None:
        _share(self.gamma, "gamma", zero=False)

    def _value(self, u: Array) -> Array:
        return np.exp(math.log(self.gamma) * u)


@dataclass(frozen=True)
class Polynomial(Profile):
    """``(1 - u) ** power``: 1 is linear, larger falls earlier, smaller later."""

    power: float = 2.0
    name = "polynomial"

    def __post_init__(self) -> None:
        _demand(0 < self.power < math.inf, "power", f"expected a positive number, found {self.power!r}")

    def _value(self, u: Array) -> Array:
        return np.asarray((1.0 - u) ** self.power, dtype=np.float64)


@dataclass(frozen=True)
class InverseSqrt(Profile):
    """``1 / sqrt(1 + rate u)``; with `rate` = the steps of the budget it is the textbook's 1 / sqrt(1 + step)."""

    rate: float = 100.0
    name = "inverse-sqrt"

    def __post_init__(self) -> None:
        _demand(0 < self.rate < math.inf, "rate", f"expected a positive number, found {self.rate!r}")

    def _value(self, u: Array) -> Array:
        return 1.0 / np.sqrt(1.0 + self.rate * u)


@dataclass(frozen=True)
class InverseTime(Profile):
    """``1 / (1 + rate u)``; with `rate` = the steps of the budget it is the textbook's 1 / (1 + step)."""

    rate: float = 100.0
    name = "inverse-time"

    def __post_init__(self) -> None:
        _demand(0 < self.rate < math.inf, "rate", f"expected a positive number, found {self.rate!r}")

    def _value(self, u: Array) -> Array:
        return 1.0 / (1.0 + self.rate * u)


@dataclass(frozen=True)
class Rex(Profile):
    """Reflected exponential, ``(1 - u) / (a + (1 - a) (1 - u))`` (Chen, Wolfe, Kyrillidis, MLSys 2022).

    The paper's is a = 1/2: p(1/2) = 2/3, slope -1/2 at the start and -2 at the end. The family goes from constant (a
    towards 0) over linear (a = 1) to curves that fall early (a > 1); 1/a is the mirror image of a about the linear
    one, so a = 2 is the exponential-like curve of which the paper's is the reflection.
    """

    a: float = 0.5
    name = "rex"

    def __post_init__(self) -> None:
        _demand(0 < self.a < math.inf, "a", f"expected a positive number, found {self.a!r}")

    def _value(self, u: Array) -> Array:
        left = 1.0 - u
        return np.asarray(left / (self.a + (1.0 - self.a) * left), dtype=np.float64)


@dataclass(frozen=True)
class DelayedLinear(Profile):
    """The base rate until the share `delay` of the budget is used, then linear to zero."""

    delay: float = 0.5
    name = "delayed-linear"

    def __post_init__(self) -> None:
        _share(self.delay, "delay", zero=True, one=False)

    def _value(self, u: Array) -> Array:
        return np.minimum((1.0 - u) / (1.0 - self.delay), 1.0)


@dataclass(frozen=True)
class WarmupStableDecay(Profile):
    """The base rate until the last share `decay` of the budget, then down to zero; the warm-up is the plan's.

    `shape` of the decay, with v its used share: "linear" is 1 - v, "1-sqrt" is 1 - sqrt(v) (Hagele et al.: "Scaling
    Laws and Compute-Optimal Training Beyond Fixed Training Durations", 2024).
    """

    decay: float = 0.2
    shape: str = "linear"
    name = "wsd"

    def __post_init__(self) -> None:
        _share(self.decay, "decay", zero=False)
        _demand(self.shape in ("linear", "1-sqrt"), "shape", f"expected linear or 1-sqrt, found {self.shape!r}")

    def _value(self, u: Array) -> Array:
        left = np.minimum((1.0 - u) / self.decay, 1.0)
        return left if self.shape == "linear" else 1.0 - np.sqrt(1.0 - left)


@dataclass(frozen=True)
class OneCycle(Profile):
    """Cosine up to the base rate at u = `peak`, cosine down to almost nothing (Smith, Topin: "Super-Convergence",
    2018).

    Starts at ``1 / div`` and ends at ``1 / (div * final_div)``. The shape of torch's `OneCycleLR` with its defaults,
    where torch counts to ``total_steps - 1`` and peaks at step ``pct_start * total_steps - 1``.
    """

    peak: float = 0.3
    div: float = 25.0
    final_div: float = 1e4
    name = "one-cycle"

    def __post_init__(self) -> None:
        _share(self.peak, "peak", zero=False, one=False)
        _demand(1 <= self.div < math.inf, "div", f"expected a number of at least 1, found {self.div!r}")
        _demand(
            1 <= self.final_div < math.inf, "final_div", f"expected a number of at least 1, found {self.final_div!r}"
        )

    def _value(self, u: Array) -> Array:
        start, end = 1.0 / self.div, 1.0 / (self.div * self.final_div)
        up = u < self.peak
        value = np.empty_like(u)
        value[up] = 1.0 + (start - 1.0) * 0.5 * (1.0 + np.cos(np.pi / self.peak * u[up]))
        down = (u[~up] - self.peak) / (1.0 - self.peak)
        value[~up] = end + (1.0 - end) * 0.5 * (1.0 + np.cos(np.pi * down))
        return value


@dataclass(frozen=True)
class Step(Profile):
    """The base rate times `gamma` for every one of the `milestones` (used shares of the budget) that is reached."""

    milestones: tuple[float, ...] = (0.3, 0.6, 0.9)
    gamma: float = 0.1
    name = "step"

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for share in self.milestones:
            _share(share, "milestones", zero=False)
        rising = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        _demand(rising, "milestones", f"expected rising numbers, found {self.milestones!r}")
        _share(self.gamma, "gamma", zero=True)

    def _value(self, u: Array) -> Array:
        levels = np.float64(self.gamma) ** np.arange(len(self.milestones) + 1)
        return np.asarray(levels[np.searchsorted(self.milestones, u, side="right")], dtype=np.float64)


@dataclass(frozen=True)
class Tabulated(Profile):
    """A table of factors at u = 0, 1/(n-1), ..., 1 with straight lines between them: what refinement yields."""

    points: tuple[float, ...] = (1.0, 0.0)
    name = "tabulated"

    def __post_init__(self) -> None:
        _demand(len(self.points) >= 2, "points", f"expected at least 2 numbers, found {len(self.points)}")
        _demand(all(isinstance(point, int | float) for point in self.points), "points", "expected numbers")
        table = np.asarray(self.points, dtype=np.float64)
        _demand(bool(np.all((table >= 0) & (table <= 1))), "points", "expected numbers in [0, 1]")
        object.__setattr__(self, "points", tuple(table.tolist()))

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        return np.linspace(0.0, 1.0, len(self.points)), np.asarray(self.points, dtype=np.float64)

    def _value(self, u: Array) -> Array:
        return np.interp(u, *self._table)


PROFILES: dict[str, type[Profile]] = {
    kind.name: kind
    for kind in (
        Constant,
        Linear,
        Cosine,
        Exponential,
        Polynomial,
        InverseSqrt,
        InverseTime,
        Rex,
        DelayedLinear,
        WarmupStableDecay,
        OneCycle,
        Step,
        Tabulated,
    )
}
"""All profiles by name."""
