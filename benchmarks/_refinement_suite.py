"""Settings of the refinement benchmark: eleven schedules on small convex tasks, and norms for the bound's oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from _logistic_models import DATA_SETS, Floats, samples, train_together
from pathloom.learn.rates.norms import GradientNormRecord
from pathloom.learn.rates.plan import RatePlan, plan_named
from pathloom.learn.rates.refinement import Refinement, refine

RATES = {"adam": (0.003, 0.01, 0.03, 0.1, 0.3), "sgd": (0.03, 0.1, 0.3, 1.0, 3.0)}
NORM = {"adam": "l1", "sgd": "l2"}
LINEAR, REFINED, UNGUARDED = "linear", "refined", "refined, unguarded"
RANKED = (
    "REX",
    LINEAR,
    "cosine",
    REFINED,
    "exponential",
    "WSD",
    "1/sqrt",
    "step",
    "1/t",
    "constant",
    "one-cycle",
)
CLOSED_FORMS = tuple(name for name in RANKED if name != REFINED)
_NAMES = {"REX": "rex", "WSD": "wsd"}


@dataclass(frozen=True)
class Setting:
    """One cell of the suite: data, share of wrong labels, optimizer, steps."""

    data: str
    noise: float
    optimizer: str
    steps: int

    @property
    def name(self) -> str:
        return f"{self.data}, {self.optimizer}, {self.steps} steps" + ("" if self.noise else ", no noise")


NOISY = tuple(Setting(data, 0.2, how, steps) for data in DATA_SETS for how in RATES for steps in (200, 800))
SEPARABLE = tuple(Setting(data, 0.0, how, 1000) for data in DATA_SETS for how in RATES)


def plan_of(schedule: str, steps: int) -> RatePlan:
    """A schedule that needs no norms; the textbook's 1 / sqrt(1 + step) and 1 / (1 + step) under their names."""
    if schedule in ("1/sqrt", "1/t"):
        return plan_named({"1/sqrt": "inverse-sqrt", "1/t": "inverse-time"}[schedule], steps, rate=float(steps))
    return plan_named(_NAMES.get(schedule, schedule), steps)


def run_setting(setting: Setting, seeds: int, batch: int, smoothing: float) -> dict[str, Any]:
    """Train all schedules at all rates and seeds; the refined ones from the linear runs at linear's best rate.

    Returns
    -------
    dict
        "loss": schedule -> one list of seeds a rate; "reasons": why a seed's refinement was guarded, "" if it was not;
        "peaks": share of the run at which the unguarded refinement is largest, one a seed.
    """
    task = samples(setting.data, setting.noise, seeds)
    rates = np.array(RATES[setting.optimizer])
    shapes = np.stack([plan_of(name, setting.steps).factors() for name in CLOSED_FORMS])
    first = train_together(task, setting.optimizer, _spread(np.repeat(shapes[None], seeds, 0), rates), batch)
    loss = dict(zip(CLOSED_FORMS, first.loss.reshape(seeds, len(CLOSED_FORMS), len(rates)).transpose(1, 2, 0)))

    best = int(loss[LINEAR].mean(1).argmin())
    watched = first.norms[:, :, CLOSED_FORMS.index(LINEAR) * len(rates) + best]
    guarded = [refined(watched[:, seed], setting.optimizer, smoothing, guard=True) for seed in range(seeds)]
    free = [refined(watched[:, seed], setting.optimizer, smoothing, guard=False) for seed in range(seeds)]
    both = np.stack([[RatePlan(each.profile, setting.steps).factors() for each in pair] for pair in zip(guarded, free)])
    second = train_together(task, setting.optimizer, _spread(both, rates), batch)
    loss |= dict(zip((REFINED, UNGUARDED), second.loss.reshape(seeds, 2, len(rates)).transpose(1, 2, 0)))
    return {
        "loss": {name: values.tolist() for name, values in loss.items()},
        "reasons": [each.reason if each.guarded else "" for each in guarded],
        "peaks": [float(factors.argmax() / setting.steps) for factors in both[:, 1]],
    }


def linear_norms(setting: Setting, seeds: int, batch: int) -> Floats:
    """Gradient norms of the linear runs at linear's best rate, (steps, seeds)."""
    rates = np.array(RATES[setting.optimizer])
    factors = np.broadcast_to(plan_of(LINEAR, setting.steps).factors(), (seeds, 1, setting.steps))
    done = train_together(
        samples(setting.data, setting.noise, seeds), setting.optimizer, _spread(factors, rates), batch
    )
    return done.norms[:, :, int(done.loss.mean(0).argmin())]


def refined(norms: Floats, optimizer: str, smoothing: float, *, guard: bool) -> Refinement:
    """Refinement from the norms of one run, one a step."""
    record = GradientNormRecord()
    for step, norm in enumerate(norms):
        record.add(step, float(norm))
    return refine(record, norm=NORM[optimizer], smoothing=smoothing, guard=guard)


def _spread(factors: Floats, rates: Floats) -> Floats:
    """Factors (seeds, schedules, steps) and base rates -> learning rates (steps, seeds, schedules x rates)."""
    seeds, schedules, steps = factors.shape
    return (factors[..., None] * rates).transpose(2, 0, 1, 3).reshape(steps, seeds, schedules * len(rates))


def mean_losses(outcome: dict[str, Any], schedule: str) -> Floats:
    """Mean over seeds at each rate; infinite where one diverged."""
    means = np.asarray(outcome["loss"][schedule], dtype=np.float64).mean(1)
    return np.where(np.isfinite(means), means, np.inf)


def best_loss(outcome: dict[str, Any], schedule: str) -> float:
    """Mean over seeds at the rate where that is least; infinite if every rate diverged."""
    return float(mean_losses(outcome, schedule).min())


def at_edge(outcome: dict[str, Any], schedule: str) -> bool:
    """Whether the best rate is the smallest or the largest of the grid."""
    means = mean_losses(outcome, schedule)
    return int(means.argmin()) in (0, len(means) - 1)


def ranks(outcome: dict[str, Any]) -> dict[str, float]:
    """Rank of each of `RANKED`, 1 for the least loss; equal losses share the mean of their ranks."""
    from scipy.stats import rankdata

    return dict(zip(RANKED, rankdata([best_loss(outcome, name) for name in RANKED]).tolist()))


def norm_shapes(steps: int) -> dict[str, Floats]:
    """Gradient norms of four kinds of runs, one a step."""
    u = np.arange(steps) / steps
    return {
        "constant": np.ones(steps),
        "falling": 1.0 / np.sqrt(1.0 + 9.0 * u),
        "falling, then rising": 0.5 + 2.0 * (u - 0.4) ** 2 + 1.5 * np.exp(-12.0 * u),
        "falling far": 0.15 + 2.0 * np.exp(-6.0 * u),
    }
