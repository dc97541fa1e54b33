"""Learning-rate schedules on text: a small character transformer on TinyShakespeare, judged by its last iterate.

Our linear, refined, WSD, REX and constant schedules, torch's `CosineAnnealingLR` and `OneCycleLR` and the package
`schedulefree` train the same model with AdamW on the same batches. The refined schedule comes from the gradient norms
of the linear run of the same seed at linear's best rate. The runs are kept as they finish; a run of this benchmark that
was stopped goes on.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from _refined_picture import Example, draw_refined
from _refinement_suite import Setting, linear_norms
from _saved_parts import SavedParts
from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict
from _text_training import (
    LINEAR,
    LINEAR_ALONE,
    OURS,
    REFINED,
    REFINED_ALONE,
    SCHEDULE_FREE,
    TAKES_PROFILE,
    TORCH_COSINE,
    TORCH_ONE_CYCLE,
    Size,
    Text,
    shakespeare,
    train,
)
from pathloom.learn.rates.refinement import Refinement, refine

NAME = "text_schedules"
# What the targets need comes first, so that a stopped run has it
JUDGED = (LINEAR, REFINED, TORCH_COSINE, *(name for name in OURS if name != LINEAR), SCHEDULE_FREE, TORCH_ONE_CYCLE)
BESIDE = (LINEAR_ALONE, REFINED_ALONE)
FULL_SEEDS, STARTING_RATES, MOST_RATES = 3, (7.5e-4, 1.5e-3, 3e-3), 4
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "refined-schedules.png"
COLUMNS = [
    "schedule",
    "validation loss (nats)",
    "spread of seeds",
    "above the best",
    "best rate",
    "rates tried",
    "losses by rate",
    "training loss (nats)",
    "s per run",
]

Runs = dict[float, list[dict[str, Any]]]


class Sweep:
    """All runs of the benchmark, made when they are first asked for."""

    def __init__(self, text: Text, size: Size, seeds: int, rates: Sequence[float], saved: SavedParts) -> None:
        self.text, self.size, self.seeds, self.rates, self.saved = text, size, seeds, rates, saved

    def runs(self, schedule: str) -> Runs:
        """Rate -> its runs by seed. A best rate at the end of the grid gets a neighbour, up to `MOST_RATES` rates.

        Those of `BESIDE` run at linear's best rate alone.
        """
        if schedule in BESIDE:
            best = best_rate(self.runs(LINEAR))
            return {best: self._at(schedule, best)}
        done = {rate: self._at(schedule, rate) for rate in self.rates}
        while len(done) < MOST_RATES:
            best, tried = best_rate(done), sorted(done)
            if best not in (tried[0], tried[-1]):
                break
            further = best / 2 if best == tried[0] else best * 2
            done[further] = self._at(schedule, further)
        return dict(sorted(done.items()))

    def norms(self, seed: int) -> list[float]:
        """Gradient norms of the linear run of a seed at linear's best rate, one a step."""
        runs = self.runs(LINEAR)
        norms: list[float] = runs[best_rate(runs)][seed]["norms"]
        return norms

    def refinement(self, schedule: str, seed: int) -> Refinement:
        """What `schedule` runs with: `REFINED` has the common warm-up, and what is refined is the rest."""
        return refine(self.norms(seed)[self.size.warmup if schedule == REFINED else 0 :], norm="l1")

    def _at(self, schedule: str, rate: float) -> list[dict[str, Any]]:
        return [self._run(schedule, rate, seed) for seed in range(self.seeds)]

    def _run(self, schedule: str, rate: float, seed: int) -> dict[str, Any]:
        name, profile = f"{schedule}, {rate:g}, seed {seed}", None
        if schedule in TAKES_PROFILE:
            profile = self.refinement(schedule, seed).profile
            # A run that was saved with another profile is not this run
            name += f", profile {hashlib.sha256(json.dumps(profile.to_dict()).encode()).hexdigest()[:12]}"

        def make() -> dict[str, Any]:
            say(name)
            return train(self.text, self.size, schedule, rate, seed, profile)

        return self.saved.part(name, make)


def loss_of(runs: Sequence[dict[str, Any]]) -> float:
    """Mean validation loss over seeds; infinite if one diverged."""
    losses = [run["validation"] for run in runs]
    return float("inf") if None in losses else mean(losses)


def best_rate(runs: Runs) -> float:
    """The rate with the least mean validation loss."""
    return min(runs, key=lambda rate: loss_of(runs[rate]))


def row(schedule: str, runs: Runs, least: float) -> list[Cell]:
    """Line of the table for one schedule."""
    best = best_rate(runs)
    losses = [run["validation"] for run in runs[best]]
    training = [run["training"] for run in runs[best]]
    return [
        schedule,
        round(loss_of(runs[best]), 4),
        round(stdev(losses), 4) if len(losses) > 1 else None,
        round(loss_of(runs[best]) - least, 4),
        f"{best:g}",
        len(runs),
        ", ".join(f"{loss_of(each):.4f}" for each in runs.values()),
        round(mean(training), 4) if None not in training else None,
        round(mean(run["seconds"] for each in runs.values() for run in each), 1),
    ]


def verdicts(losses: dict[str, float], short_of: str) -> list[Verdict]:
    """The targets that are listed, judged."""
    ours = min((LINEAR, REFINED), key=lambda name: losses[name])
    first = min(losses, key=lambda name: losses[name])
    above, ahead = losses[ours] - losses[first], losses[ours] - losses[TORCH_COSINE]
    found = {
        "text-best": (above, f"{ours} {losses[ours]:.4f}, best is {first} with {losses[first]:.4f}: {above:+.4f} nats"),
        "text-cosine": (
            ahead,
            f"{ours} {losses[ours]:.4f}, torch's cosine {losses[TORCH_COSINE]:.4f}: {ahead:+.4f} nats",
        ),
    }
    return [
        TARGETS[key].judge(value, words, short_of=short_of) for key, (value, words) in found.items() if key in TARGETS
    ]


def notes_on(sweep: Sweep, seconds: float) -> list[str]:
    """What a reader must know to judge the losses."""
    size = sweep.size
    made = [sweep.refinement(schedule, seed) for schedule in TAKES_PROFILE for seed in range(sweep.seeds)]
    said = "; ".join(sorted({each.reason for each in made if each.guarded}))
    return [
        f"Model: LLaMA-type, {size.layers} layers, {size.dim} wide, {size.context} characters of context, "
        f"{size.batch * size.context} characters a step: a short run on a small budget, in which no model over-fits.",
        f"All schedules begin with the same linear warm-up of {size.warmup} steps, {SCHEDULE_FREE} with its own of as "
        f"many, except {TORCH_ONE_CYCLE}, whose first 30 % are one, and the two rows that have none.",
        "Refined: from the l1 norms of the linear run of the same seed at linear's best rate, those after the warm-up. "
        f"'{REFINED_ALONE}' takes all norms of that run and has only the warm-up that follows from them; it and "
        f"'{LINEAR_ALONE}' run at linear's best rate alone and are not ranked.",
        "A schedule whose best rate lies at the end of its grid gets the neighbouring rate too (factor 2), at most "
        f"{MOST_RATES} rates in all; rates are chosen by the validation loss that is shown.",
        f"The guard spoke: {said}." if said else "The guard had nothing to object to.",
        f"Runs one after another with torch's fused AdamW, {seconds / 60:.0f} minutes of processor time in all; models "
        "stacked with torch.func.vmap were measured beforehand and are not faster at this size on one thread.",
        "Losses of one seed share initial weights and batches; the spread is the standard deviation over seeds.",
    ]


def text_title(size: Size) -> str:
    """Title of the picture's row of the text runs."""
    return f"TinyShakespeare, transformer, AdamW (first run: {size.warmup} steps of warm-up, then linear)"


def logistic_example(seeds: int) -> Example:
    """Norms of linear runs without a warm-up: digits with 20 % wrong labels, SGD, its best rate of the grid."""
    setting = Setting("digits", 0.2, "sgd", 800)
    norms = linear_norms(setting, seeds, 32)
    return "Digits, logistic regression, SGD (first run: linear, no warm-up)", norms.T, "l2"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a listed target is missed."""
    parser = options(NAME, __doc__)
    parser.add_argument("--seeds", type=int, default=FULL_SEEDS, help="seeds, from 0 (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=Size.steps, help="optimizer steps a run (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=Size.batch, help="windows a step (default: %(default)s)")
    parser.add_argument("--rates", type=float, nargs="+", default=list(STARTING_RATES), help="base rates to begin with")
    parser.add_argument("--picture", type=Path, default=None, help=f"draw the schedules; the full run draws {PICTURE}")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, one rate, 40 steps of a tiny model: a smoke test"
    )
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    size = replace(Size(), steps=chosen.steps, batch=chosen.batch)
    if chosen.quick:
        size = replace(size, dim=16, ffn_dim=32, steps=40, warmup=4, validation_windows=8)
        chosen.seeds, chosen.rates = 1, [1e-3]
    short_of = "3 seeds, 3 rates, 1,000 steps" if chosen.quick or chosen.seeds < FULL_SEEDS or size.steps < 1000 else ""
    settings = {"size": asdict(size), "rates": chosen.rates}
    saved = SavedParts(chosen.out / "parts" / f"{NAME}-{size.steps}x{size.batch}.json", settings)
    sweep = Sweep(shakespeare(), size, chosen.seeds, chosen.rates, saved)

    done = {schedule: sweep.runs(schedule) for schedule in (*JUDGED, *BESIDE)}
    losses = {schedule: loss_of(runs[best_rate(runs)]) for schedule, runs in done.items()}
    least = min(losses[schedule] for schedule in JUDGED)
    order = [*sorted(JUDGED, key=lambda name: losses[name]), *BESIDE]
    seconds = sum(run["seconds"] for runs in done.values() for each in runs.values() for run in each)
    table = Table(
        title="Learning-rate schedules on TinyShakespeare",
        columns=COLUMNS,
        rows=[row(schedule, done[schedule], least) for schedule in order],
        settings=settings,
        seeds=list(range(chosen.seeds)),
        notes=notes_on(sweep, seconds),
        verdicts=verdicts({name: losses[name] for name in JUDGED}, short_of),
    )
    finish(table, NAME, chosen)
    picture = chosen.picture or (None if short_of or chosen.out != parser.get_default("out") else PICTURE)
    if picture is not None:
        text_norms = [sweep.norms(seed) for seed in range(chosen.seeds)]
        draw_refined(picture, [logistic_example(chosen.seeds), (text_title(size), text_norms, "l1")])
        say(f"{NAME}: wrote {picture}")
    return int(any(verdict.reached is False for verdict in table.verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
