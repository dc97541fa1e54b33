"""RatePlan: the learning rate at step t as a closed form of t, which resumes anywhere and survives a changed budget.

Profile, reading points ("sampling rate"), warm-up and floor are those of Chen, Wolfe, Kyrillidis: "REX: Revisiting
Budgeted Training with an Improved Schedule", MLSys 2022. Beyond the paper: the budget may change in the middle of a
run, and the plan still answers for every step, past ones included, without having been stepped through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pathloom.learn.rates.profile import PROFILES, Array, Profile

EVERY_STEP, EVERY_EPOCH = "every-step", "every-epoch"

_BLOCK = 1 << 14
"""Steps computed at once: the arrays in between stay in the cache, which halves the time for a million steps."""

SAMPLING_RATES: dict[str, str | tuple[float, ...]] = {
    "50-75": (0.5, 0.75),
    "30-60-90": (0.3, 0.6, 0.9),
    "25-50-75": (0.25, 0.5, 0.75),
    "33-66": (0.33, 0.66),
    "10-20-30-40-50-60-70-80-90": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    EVERY_EPOCH: EVERY_EPOCH,
    EVERY_STEP: EVERY_STEP,
}
"""Sampling rates by name: percentages of the budget at which the profile is read, or how regularly."""

PAPER_COMBINATIONS: dict[str, tuple[str, str]] = {
    f"{profile}@{sampling}": (profile, sampling)
    for profile in ("exponential", "linear", "rex", "cosine", "delayed-linear")
    for sampling in SAMPLING_RATES
}
"""Profile x sampling rate of the paper's two-part view, by the name that `plan_named` takes: "rex@every-step",
"linear@50-75", ...

`plan_named` takes every other pair as well: any profile, any percentages.
"""


@dataclass(frozen=True)
class RatePlan:
    """Factor on the base learning rate at every step of a budget.

    With W = `warmup`, T = `steps` and u = (step - W) / (T - W), the factor is
    ``floor + (1 - floor) * profile(u)`` from step W on, and at and after step T the one of u = 1. Before step W it
    rises linearly from `warmup_start` at step 0 to the factor of u = 0 at step W. A profile that is not read at every
    step is held: between two reading points it has the value of the earlier one, and before the first one the value at
    u = 0.

    Attributes
    ----------
    profile
        Shape of the rate.
    steps
        Budget in optimizer steps, the warm-up included.
    warmup
        Steps of warm-up, fewer than `steps`.
    floor
        Least factor that the profile leads to, in [0, 1]; the warm-up may start lower.
    sampling
        "every-step"; "every-epoch" (needs `epoch_steps`); or the rising shares of `steps` at which the profile is
        read, such as (0.5, 0.75).
    warmup_start
        Factor at step 0 where there is a warm-up, in [0, 1].
    epoch_steps
        Steps of an epoch, for "every-epoch".
    earlier
        Budgets of the past, ``((until, steps), ...)`` with rising `until`: before step `until` the budget was `steps`.
        Made by `with_steps`.

    Raises
    ------
    ValueError
        For a value outside its range: ``"field: what was expected"``.
    """

    profile: Profile
    steps: int
    warmup: int = 0
    floor: float = 0.0
    sampling: str | tuple[float, ...] = EVERY_STEP
    warmup_start: float = 0.0
    epoch_steps: int | None = None
    earlier: tuple[tuple[int, int], ...] = field(default=())

    def __post_init__(self) -> None:
        if not isinstance(self.profile, Profile):
            raise ValueError(f"profile: expected a Profile, found {self.profile!r:.60}")
        for name, least in (("steps", 1), ("warmup", 0)):
            _whole(getattr(self, name), name, least)
        for name in ("floor", "warmup_start"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a number in [0, 1], found {value!r}")
        object.__setattr__(self, "sampling", _checked_sampling(self.sampling))
        if self.epoch_steps is not None:
            _whole(self.epoch_steps, "epoch_steps", 1)
        elif self.sampling == EVERY_EPOCH:
            raise ValueError("epoch_steps: expected the number of steps of an epoch, which 'every-epoch' needs")
        object.__setattr__(self, "earlier", tuple((until, steps) for until, steps in self.earlier))
        last = 0
        for until, steps in self.earlier:
            _whole(until, "earlier", last + 1)
            _whole(steps, "earlier", 1)
            last = until
        for steps in (self.steps, *(steps for _, steps in self.earlier)):
            if self.warmup >= steps:
                raise ValueError(f"warmup: expected fewer steps than the budget of {steps}, found {self.warmup}")

    def factor(self, step: int) -> float:
        """Factor on the base rate at `step` (counted from 0; past the budget it stays at its last value).

        Raises
        ------
        ValueError
            For a negative step.
        """
        if step < 0:
            raise ValueError(f"step: expected a whole number of at least 0, found {step!r}")
        budget = next((steps for until, steps in self.earlier if step < until), self.steps)
        return float(self._of(np.array([step], dtype=np.int64), budget)[0])

    def factors(self, start: int = 0, stop: int | None = None) -> Array:
        """Factors of the steps from `start` up to before `stop` (the whole budget if left out), ``(stop - start,)``."""
        stop = self.steps if stop is None else stop
        if not 0 <= start <= stop:
            raise ValueError(f"start: expected a step between 0 and {stop}, found {start!r}")
        factors = np.empty(stop - start)
        first = start
        for until, budget in (*self.earlier, (stop, self.steps)):
            while start < min(until, stop):
                end = min(until, stop, start + _BLOCK)
                factors[start - first : end - first] = self._of(np.arange(start, end, dtype=np.int64), budget)
                start = end
        return factors

    def with_steps(self, new: int, at: int) -> RatePlan:
        """The plan after the budget changed to `new` steps when `at` steps were done.

        Step `at` is the first one of the new budget: from there on the factor is exactly that of a fresh plan over
        `new` steps at the same step, and before it nothing changes. Warm-up and epochs keep their lengths in steps;
        reading points are shares of the new budget. Changes that an earlier call made for steps from `at` on are
        forgotten, so a run that goes back to an old checkpoint and is changed there is described correctly.

        Raises
        ------
        ValueError
            If `at` is negative, or `new` less than `at` or not more than the warm-up.
        """
        _whole(at, "at", 0)
        _whole(new, "steps", max(at, 1))
        past = [piece for piece in self.earlier if piece[0] < at]
        if at > 0:
            past.append((at, next((steps for until, steps in self.earlier if at <= until), self.steps)))
        while past and past[-1][1] == new:  # the same budget as before: nothing changed there
            past.pop()
        return replace(self, steps=int(new), earlier=tuple(past))

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        sampling = self.sampling if isinstance(self.sampling, str) else list(self.sampling)
        return values | {
            "profile": self.profile.to_dict(),
            "sampling": sampling,
            "earlier": [list(piece) for piece in self.earlier],
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> RatePlan:
        """The plan that `to_dict` wrote.

        Raises
        ------
        ValueError
            For a missing or unknown key, or a value outside its range.
        """
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise ValueError(f"{key}: unknown; a rate plan has {', '.join(known)}")
        for key in ("profile", "steps"):
            if key not in given:
                raise ValueError(f"{key}: missing")
        if not isinstance(given["profile"], Mapping):
            raise ValueError(f"profile: expected an object, found {given['profile']!r:.60}")
        try:
            profile = Profile.from_dict(given["profile"])
        except ValueError as error:
            raise ValueError(f"profile: {error}") from None
        values = dict(given) | {"profile": profile}
        if isinstance(values.get("sampling"), list):
            values["sampling"] = tuple(values["sampling"])
        try:
            values["earlier"] = tuple((until, steps) for until, steps in values.get("earlier", ()))
        except (TypeError, ValueError):
            raise ValueError("earlier: expected pairs of whole numbers") from None
        return cls(**values)

    def _of(self, step: npt.NDArray[np.int64], budget: int) -> Array:
        """Factors at `step`, which may be any steps in which the budget is `budget`."""
        length = budget - self.warmup
        if self.sampling == EVERY_STEP:
            u = (step - self.warmup) / length
        elif isinstance(self.sampling, str):
            assert self.epoch_steps is not None  # checked when the plan was made
            u = (np.minimum(step, budget) // self.epoch_steps * self.epoch_steps - self.warmup) / length
        else:
            # The share of a step and a decimal share such as 0.3 are both rounded once, so a step that lies exactly on
            # a reading point is found to lie on it.
            warm = self.warmup / budget
            at = np.maximum((np.array([0.0, *self.sampling]) - warm) / (1.0 - warm), 0.0)
            values = self.profile(at)
            values[0] = self.profile(0.0)
            shape = values[np.searchsorted(self.sampling, step / budget, side="right")]
            return self._warm(step, self.floor + (1.0 - self.floor) * shape)
        return self._warm(step, self.floor + (1.0 - self.floor) * self.profile(u))

    def _warm(self, step: npt.NDArray[np.int64], factor: Array) -> Array:
        """`factor` with the steps of the warm-up put right."""
        if self.warmup and (warm := step < self.warmup).any():
            top = self.floor + (1.0 - self.floor) * self.profile(0.0)
            factor[warm] = self.warmup_start + (top - self.warmup_start) * (step[warm] / self.warmup)
        return factor


def plan_named(name: str, steps: int, **options: Any) -> RatePlan:
    """The plan of a named schedule over `steps` steps.

    Parameters
    ----------
    name
        A profile ("linear", "rex", "cosine", "constant", "one-cycle", "step", "wsd", "exponential", ..., see
        `PROFILES`), or a profile and a sampling rate: "linear@50-75", "rex@every-epoch" (see `PAPER_COMBINATIONS`; any
        percentages will do).
    steps
        Budget in optimizer steps.
    options
        Fields of `RatePlan` (`warmup`, `floor`, `sampling`, ...) and of the profile (`decay` of "wsd", `a` of "rex",
        ...). `epochs=` gives the number of epochs instead of `epoch_steps`, the last of which may be shorter.

    Raises
    ------
    ValueError
        For an unknown name or option, or a value outside its range.
    """
    profile_name, _, sampling = name.partition("@")
    kind = PROFILES.get(profile_name)
    if kind is None:
        raise ValueError(f"name: expected one of {', '.join(PROFILES)}, found {profile_name!r}")
    own = {field.name for field in fields(kind)}
    of_plan = {field.name for field in fields(RatePlan)} - {"profile", "steps", "earlier"}
    for option in options:
        if option not in own | of_plan | {"epochs"}:
            raise ValueError(
                f"{option}: unknown; '{profile_name}' takes {', '.join(sorted(own | of_plan | {'epochs'}))}"
            )
    settings = {key: value for key, value in options.items() if key in of_plan}
    if sampling:
        if "sampling" in settings:
            raise ValueError(f"sampling: given twice, in the name '{name}' and as an option")
        settings["sampling"] = sampling_named(sampling)
    if "epochs" in options:
        if "epoch_steps" in options:
            raise ValueError("epochs: given together with epoch_steps, of which it is the other face")
        _whole(options["epochs"], "epochs", 1)
        settings["epoch_steps"] = -(-steps // options["epochs"])
    return RatePlan(kind(**{key: value for key, value in options.items() if key in own}), steps, **settings)


def sampling_named(name: str) -> str | tuple[float, ...]:
    """The sampling rate of a name: "every-step", "every-epoch", or percentages of the budget such as "30-60-90".

    Raises
    ------
    ValueError
        If the name is none of these.
    """
    if name in SAMPLING_RATES:
        return SAMPLING_RATES[name]
    try:
        # A share written as a decimal, so that 12.5 % is the number 0.125 and 30 % the number 0.3.
        return _checked_sampling(tuple(float(f"{part}e-2") for part in name.split("-")))
    except ValueError:
        wanted = f"{EVERY_STEP}, {EVERY_EPOCH} or rising percentages such as 30-60-90"
        raise ValueError(f"sampling: expected {wanted}, found {name!r}") from None


def _checked_sampling(sampling: str | Sequence[float]) -> str | tuple[float, ...]:
    if isinstance(sampling, str):
        if sampling not in (EVERY_STEP, EVERY_EPOCH):
            raise ValueError(f"sampling: expected {EVERY_STEP}, {EVERY_EPOCH} or shares, found {sampling!r}")
        return sampling
    try:
        shares = tuple(float(share) for share in sampling)
    except (TypeError, ValueError):
        raise ValueError(f"sampling: expected numbers, found {sampling!r}") from None
    if not shares or not all(0 < a < b for a, b in zip(shares, (*shares[1:], 1.0), strict=True)):
        raise ValueError(f"sampling: expected rising numbers between 0 and 1, found {shares!r}")
    return shares


def _whole(value: Any, name: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, found {value!r}")
