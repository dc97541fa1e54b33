"""Convergence with a third of the stages skipped: does a model learn as well, faster, and survive missing stages?

A byte-level LLaMA of six stages is trained on two texts with the same data, initial weights, optimizer and schedule:
through all stages, along the routes of a real plan (4 of 6 stages, neighbours may swap), and through 4 stages at
random. Losses are compared at equal tokens, and at equal emulated wall time: steps times the simulated iteration time
of the plan, against the fastest full pipeline on the same network. Then stages are removed from the trained models.

All runs take about 40 minutes of one core; a run that ended is kept under --scratch, so that a stopped benchmark goes
on where it was.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from _baselines import FULL as PIPELINES
from _baselines import warm_up
from _convergence_pictures import Line, draw_losses, draw_removals
from _convergence_runs import (
    FULL,
    FULL_LONG,
    KINDS,
    LONG,
    PLANNED,
    PLANNED_LONG,
    RANDOM,
    TEXTS,
    Planning,
    Runs,
    python_version,
)
from _emulated_network import visits
from _route_training import Size
from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict

NAME = "convergence"
FULL_SEEDS = 3
HALF = 3
"""Half of six stages."""
PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
TIMED_BY = {FULL: "", FULL_LONG: "", PLANNED: "pathloom", PLANNED_LONG: "pathloom", RANDOM: "dtfm-skip"}
"""Method whose iteration time counts; the fastest full pipeline where empty."""

Run = dict[str, Any]


class Results:
    """Figures of all runs, by text, kind and seed."""

    def __init__(self, runs: Runs, texts: Sequence[str], seeds: int) -> None:
        self.runs, self.texts, self.seeds = runs, texts, range(seeds)
        # Seeds outermost, so that a first answer is there early.
        self.of = {
            (text, kind, seed): runs.run(text, kind, seed) for seed in self.seeds for text in texts for kind in KINDS
        }

    def each(self, text: str, kind: str) -> list[Run]:
        """Runs of all seeds."""
        return [self.of[text, kind, seed] for seed in self.seeds]

    def losses(self, text: str, kind: str) -> list[float]:
        """Final validation loss by seed, nats a byte."""
        return [run["points"][-1][1] for run in self.each(text, kind)]

    def hours(self, kind: str, seed: int) -> float:
        """Emulated hours of a step."""
        plan = self.runs.plan(seed)
        return plan.seconds[TIMED_BY[kind] or plan.full] / 3600

    def weighted(self, text: str, kind: str) -> list[float]:
        """The same with stages weighted by how often they were trained."""
        return [self.runs.weighted_loss(text, kind, seed) for seed in self.seeds]

    def above(self, text: str, kind: str, other: str, *, weighted: bool = False) -> list[float]:
        """How far the loss of a kind lies above that of another one by seed, in percent."""
        losses = self.weighted(text, kind) if weighted else self.losses(text, kind)
        return [100 * (a / b - 1) for a, b in zip(losses, self.losses(text, other), strict=True)]

    def perplexities(self, text: str, kind: str) -> list[list[float]]:
        """By seed: mean perplexity over all sets of 0, 1, ... removed stages."""
        return [[row["mean_perplexity"] for row in run["curve"]] for run in self.each(text, kind)]

    def rises(self, text: str, kind: str) -> list[float]:
        """Rise of the mean perplexity when half of the stages are gone, by seed."""
        return [curve[HALF] - curve[0] for curve in self.perplexities(text, kind)]


def columns(stages: int) -> list[str]:
    """Titles of the table."""
    return [
        "text",
        "trained",
        "over seeds",
        "steps",
        "bytes (millions)",
        "emulated hours",
        "validation loss (nats)",
        "above full, same bytes (%)",
        "above full, same time (%)",
        "loss, stages weighted (nats)",
        "weighted: above full, same bytes (%)",
        *(f"perplexity, {removed} removed" for removed in range(stages)),
        "rise at 3",
        "rise, share of full's (%)",
    ]


def rows(results: Results, text: str, kind: str) -> list[list[Cell]]:
    """Mean and standard deviation over seeds, and each seed."""
    like = FULL_LONG if kind in LONG else FULL
    nothing: list[float | None] = [None] * len(results.seeds)
    by_column: list[Sequence[float | None]] = [
        [run["steps"] for run in results.each(text, kind)],
        [run["tokens"] / 1e6 for run in results.each(text, kind)],
        [run["steps"] * results.hours(kind, seed) for seed, run in zip(results.seeds, results.each(text, kind))],
        results.losses(text, kind),
        results.above(text, kind, like),
        results.above(text, kind, FULL) if kind in (FULL, PLANNED_LONG) else nothing,
        results.weighted(text, kind),
        results.above(text, kind, like, weighted=True),
        *map(list, zip(*results.perplexities(text, kind), strict=True)),
        results.rises(text, kind),
        list(map(share, results.rises(text, kind), results.rises(text, like))),
    ]
    means = [_over(column, mean) for column in by_column[:-1]]
    means.append(share(mean(results.rises(text, kind)), mean(results.rises(text, like))))
    made = [[text, kind, "mean", *_rounded(means)]]
    if len(results.seeds) > 1:
        made.append([text, kind, "deviation", None, None, None, *_rounded([_over(c, stdev) for c in by_column])[3:]])
    lines = zip(results.seeds, zip(*by_column, strict=True), strict=True)
    return made + [[text, kind, f"seed {seed}", *_rounded(line)] for seed, line in lines]


def share(rise: float, of: float) -> float | None:
    """`rise` in percent of another one; None where that is no rise."""
    return 100 * rise / of if of > 0 else None


def _over(column: Sequence[float | None], of: Callable[[list[float]], float]) -> float | None:
    numbers = [number for number in column if number is not None]
    return of(numbers) if len(numbers) == len(column) else None


def _rounded(numbers: Sequence[float | None]) -> list[Cell]:
    """Steps whole, losses with four digits, percents and all others with fewer."""
    digits = [None, 2, 2, 4, 2, 2, 4, 2, *([3] * (len(numbers) - 9)), 1]
    return [None if number is None else round(number, to) for number, to in zip(numbers, digits, strict=True)]


def verdicts(results: Results, short_of: str) -> list[Verdict]:
    """The targets that are listed, judged by the text, and at equal tokens by the length of run, that does worst."""
    tokens = {
        f"{text}, {results.each(text, kind)[0]['steps']} steps": (
            results.above(text, kind, full),
            results.above(text, kind, full, weighted=True),
        )
        for text in results.texts
        for kind, full in ((PLANNED, FULL), (PLANNED_LONG, FULL_LONG))
    }
    weighted = ", ".join(f"{mean(each):+.1f} %" for _, each in tokens.values())
    plain = {name: each for name, (each, _) in tokens.items()}
    times = {text: results.above(text, PLANNED_LONG, FULL) for text in results.texts}
    rises = {text: (mean(results.rises(text, PLANNED)), mean(results.rises(text, FULL))) for text in results.texts}
    shares = [share(*pair) for pair in rises.values()]
    said = "; ".join(
        f"{text} {skipped:.2f} against {full:.2f}" + (f", {full / skipped:.1f} times smaller" if skipped > 0 else "")
        for text, (skipped, full) in rises.items()
    )
    worst = None if None in shares else max(each for each in shares if each is not None)
    found = {
        "convergence-tokens": (
            max(map(mean, plain.values())),
            f"{_percents(plain)}; with stages weighted {weighted}",
        ),
        "convergence-time": (max(map(mean, times.values())), _percents(times)),
        "missing-layers": (worst, f"rise of perplexity with half removed, planned skips against full: {said}"),
    }
    return [
        TARGETS[key].judge(value, words, short_of=short_of) for key, (value, words) in found.items() if key in TARGETS
    ]


def _percents(by_text: dict[str, list[float]]) -> str:
    return "; ".join(
        f"{text} {mean(each):+.1f} % (seeds {', '.join(f'{value:+.1f}' for value in each)})"
        for text, each in by_text.items()
    )


def notes_on(results: Results) -> list[str]:
    """What a reader must know to judge the figures."""
    size, runs = results.runs.size, results.runs
    plans = [runs.plan(seed) for seed in results.seeds]
    first = plans[0]
    shown = "; ".join(
        f"seed {p.seed}: {', '.join(f'{order} x{n}' for order, n in visits(p.orders).items())}" for p in plans
    )
    seconds = ", ".join(
        f"{name} {min(p.seconds[name] for p in plans):.1f} to {max(p.seconds[name] for p in plans):.1f}"
        for name in (*PIPELINES, "greedy", "dtfm-skip", "pathloom")
    )
    core = sum(run["seconds"] for run in results.of.values()) / 60
    counts = "; ".join(f"{text}: {_sizes(runs, text)}" for text in results.texts)
    return [
        f"Model: LLaMA-type, byte-level, {size.stages} stages of one layer, {size.dim} wide, "
        f"{size.config.parameters:,} parameters, {size.context} bytes of context. A step is one iteration: "
        f"{len(first.orders)} microbatches of {size.samples} x {size.context} bytes.",
        f"AdamW, rate {size.learning_rate:g}, {size.schedule} to zero after {size.warmup_share:.0%} of warm-up, each "
        "over its own number of steps. The rate was chosen for the full pipeline alone (the best of 0.002, 0.004 and "
        "0.008 on TinyShakespeare, 300 steps, one seed) and is everybody's. Skips have no schedule: 4 of 6 stages from "
        "the first step to the last.",
        f"Texts (training, validation): {counts}. Python's library: the standard library's own modules in order of "
        f"name, from the Python that runs this ({python_version()}), until they have 1.2 MB; the last tenth of each is "
        "for validation.",
        f"Validation: all six stages in order, {size.blocks} evenly spread pieces of "
        f"{size.block_windows * size.context} bytes, the same for all runs.",
        "The network that the time is emulated on: 20 equal nodes over the 12 regions of gcp12, in stages of 5, 3, 3, "
        "3, 3, 3, LLaMA of 500 million parameters, one wave of 15 microbatches (the input file is in "
        "benchmarks/_emulated_network.py). The small model learns along the plan's routes, the large one gives times.",
        f"Simulated seconds an iteration, over the seeds: {seconds}. A full pipeline has the fastest of its methods "
        f"({', '.join(sorted({p.full for p in plans}))}), the best of three placements each.",
        f"Routes as planned, microbatches that take them: {shown}. One plan a seed, which never changes: a microbatch "
        "of an iteration keeps its route, and which text falls on it changes from iteration to iteration. The caps of "
        "TC1 give every stage but the first 3 of 5 microbatches.",
        "Random skips: stage 0 and 3 others at random for each microbatch, in order of the model. Their time is that "
        "of dtfm-skip, random routes that keep to the caps.",
        f"'{PLANNED_LONG}' has as many steps as end before the last one of '{FULL}', and its schedule over them; "
        f"losses at equal time compare where both have ended, as rates are not yet low before that. '{FULL_LONG}' is "
        "the full pipeline with as many steps again: the second comparison at equal tokens.",
        f"Above full at equal tokens, mean and standard deviation over the seeds: {_spreads(results)}. Where the "
        "deviation is as large as the mean, three seeds do not tell planned from random skips, nor a target that is "
        "just reached from one that is just missed.",
        "Perplexity with stages removed: mean over all sets of so many stages (10 for 2 and 3); stage 0 stays, as it "
        "holds embedding and head. The rise is compared with that of the full-trained model of as many steps; the "
        "share in a mean row is that of the mean rises.",
        "Weighted: what each stage adds is multiplied by the share of microbatches that visited it in training (3/5, "
        "and 1 for stage 0), as stochastic depth does at inference (Huang et al., 2016). No other factor was chosen, "
        "and no target is judged by these columns.",
        f"{core:.0f} minutes of processor time for all runs, evaluations included. Microbatches that are at the same "
        "stage at the same place of their routes are computed in one batch: the sums of the distributed runtime but "
        "for rounding, which a test checks.",
    ]


def _spreads(results: Results) -> str:
    """How far skipping lies above the full pipeline, for each text and kind at equal tokens."""
    said = []
    for text in results.texts:
        for kind, full in ((PLANNED, FULL), (RANDOM, FULL), (PLANNED_LONG, FULL_LONG)):
            above = results.above(text, kind, full)
            spread = f" +- {stdev(above):.1f}" if len(above) > 1 else ""
            said.append(f"{text}, {kind} {mean(above):+.1f}{spread} %")
    return "; ".join(said)


def _sizes(runs: Runs, text: str) -> str:
    counts = runs.data(text).counts
    return f"{counts['train']:,} and {counts['validation']:,} bytes"


def pictures(results: Results, folder: Path) -> None:
    """Draw losses and removals into `folder`."""
    by_tokens, by_hours, removals = {}, {}, {}
    for text in results.texts:
        by_tokens[text] = [_losses(results, text, kind, False) for kind in KINDS]
        by_hours[text] = [_losses(results, text, kind, True) for kind in (FULL, PLANNED_LONG, RANDOM)]
        lines = []
        for kind in KINDS:
            curves = results.perplexities(text, kind)
            lines.append(Line(kind, [list(range(len(curve))) for curve in curves], curves))
        removals[text] = lines
    draw_losses(folder / "convergence.png", by_tokens, by_hours, "(20 nodes in 12 regions, LLaMA 500M)")
    draw_removals(folder / "missing-layers.png", removals)


def _losses(results: Results, text: str, kind: str, timed: bool) -> Line:
    x, y = [], []
    for seed in results.seeds:
        run = results.of[text, kind, seed]
        unit = results.hours(kind, seed) if timed else run["tokens"] / run["steps"] / 1e6
        x.append([step * unit for step, _ in run["points"]])
        y.append([loss for _, loss in run["points"]])
    return Line(kind, x, y)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a listed target is missed."""
    parser = options(NAME, __doc__)
    parser.add_argument("--seeds", type=int, default=FULL_SEEDS, help="seeds, from 0 (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=Size.steps, help="steps of a full run (default: %(default)s)")
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS), help="texts to train on")
    parser.add_argument(
        "--scratch", type=Path, default=Path(tempfile.gettempdir()) / "pathloom-convergence",
        help="folder for tokens, finished runs and weights (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--pictures", type=Path, default=None, help=f"folder for the pictures; the full run draws into {PICTURES}"
    )
    parser.add_argument("--quick", action="store_true", help="one seed and 12 steps of a tiny model: a smoke test")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    size, planning = replace(Size(), steps=chosen.steps), Planning()
    if chosen.quick:
        size = replace(size, dim=16, heads=2, ffn_dim=32, steps=12, points=3, blocks=2)
        planning, chosen.seeds = Planning(0.3, 40), 1
    complete = chosen.seeds >= FULL_SEEDS and size.steps >= Size.steps and len(chosen.texts) == len(TEXTS)
    short_of = "" if complete and not chosen.quick else "3 seeds, 2 texts, 300 steps"
    warm_up()
    results = Results(Runs(size, planning, chosen.scratch), chosen.texts, chosen.seeds)
    table = Table(
        title="Convergence with a third of the stages skipped, and perplexity with stages missing",
        columns=columns(size.stages),
        rows=[line for text in chosen.texts for kind in KINDS for line in rows(results, text, kind)],
        settings={"size": asdict(size), "planning": asdict(planning), "texts": chosen.texts},
        seeds=list(results.seeds),
        notes=notes_on(results),
        verdicts=verdicts(results, short_of),
    )
    finish(table, NAME, chosen)
    folder = chosen.pictures or (None if short_of or chosen.out != parser.get_default("out") else PICTURES)
    if folder is not None:
        pictures(results, folder)
        say(f"{NAME}: wrote {folder / 'convergence.png'} and {folder / 'missing-layers.png'}")
    return int(any(verdict.reached is False for verdict in table.verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
