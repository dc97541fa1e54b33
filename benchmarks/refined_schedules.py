"""Schedules refined from gradient norms: how near the best bound, how good on convex tasks, how fast to build.

The closed form is compared with the numerical minimiser of the last-iterate bound on four shapes of gradient norms.
Eleven schedules then train logistic regressions on scikit-learn's digits, breast cancer and wine data: twelve settings
with 20 % wrong labels, in which nothing interpolates, and six without, where the norms collapse and the guard must
notice. Every schedule has the same five base rates; what counts is the full training loss of the last iterate, the mean
of all seeds at the best rate.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from statistics import median
from typing import Any

import numpy as np

from _logistic_models import Floats
from _refinement_suite import (
    CLOSED_FORMS,
    LINEAR,
    NOISY,
    RANKED,
    RATES,
    REFINED,
    SEPARABLE,
    UNGUARDED,
    Setting,
    at_edge,
    best_loss,
    norm_shapes,
    plan_of,
    ranks,
    run_setting,
)
from _saved_parts import SavedParts
from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict
from pathloom.learn.rates.last_iterate_bound import bound_at_best_rate, last_iterate_bound, minimise_bound
from pathloom.learn.rates.norms import GradientNormRecord
from pathloom.learn.rates.plan import RatePlan
from pathloom.learn.rates.refinement import refine, refined_factors

NAME = "refined_schedules"
SHOWN = (*RANKED, UNGUARDED)
COLUMNS = ["what", "unit", *SHOWN, "refined over linear (%)", "unguarded over linear (%)", "seeds guarded"]
FULL_SEEDS, MILLION = 4, 1_000_000


def bound_rows(steps: int) -> tuple[list[list[Cell]], dict[str, float]]:
    """Bound of every schedule over the least one, in per cent above it, and that of the closed form by norm shape."""
    rows: list[list[Cell]] = []
    excess = {}
    for name, norms in norm_shapes(steps).items():
        least = last_iterate_bound(minimise_bound(norms, 1.0), norms, 1.0)
        shapes = {schedule: plan_of(schedule, steps).factors() for schedule in CLOSED_FORMS}
        shapes[REFINED] = refined_factors(norms)
        above = {
            schedule: 100 * (bound_at_best_rate(shape, norms, 1.0) / least - 1) for schedule, shape in shapes.items()
        }
        excess[name] = above[REFINED]
        cells = [round(above[schedule], 2) if schedule in above else None for schedule in SHOWN]
        rows.append([f"bound, norms {name}", "% above least", *cells, None, None, None])
    return rows, excess


def setting_row(setting: Setting, outcome: dict[str, Any]) -> list[Cell]:
    """Losses of all schedules in one setting."""
    linear = best_loss(outcome, LINEAR)
    over = [round(100 * (best_loss(outcome, name) / linear - 1), 2) for name in (REFINED, UNGUARDED)]
    losses = [float(f"{best_loss(outcome, name):.5g}") for name in SHOWN]
    guarded = [reason for reason in outcome["reasons"] if reason]
    return [setting.name, "nats", *losses, *over, f"{len(guarded)}/{len(outcome['reasons'])}"]


def build_times(steps: int, repeats: int) -> dict[str, float]:
    """Milliseconds of processor time to build `steps` steps of closed forms, and of a refinement from its record."""
    rng = np.random.default_rng(0)
    record = GradientNormRecord()
    for step, norm in enumerate(1.0 + np.exp(-np.arange(steps) / (0.2 * steps)) + rng.exponential(0.3, steps)):
        record.add(step, float(norm))

    def refinement() -> Floats:
        return RatePlan(refine(record, norm="l1").profile, steps).factors()

    made = {name: (lambda name=name: plan_of(name, steps).factors()) for name in ("REX", "cosine", "one-cycle")}
    norms = 1.0 + rng.random(steps)
    made |= {"refined from its record": refinement, "closed form, unsmoothed": lambda: refined_factors(norms)}
    taken: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, make in made.items():
            began = time.process_time()
            factors = make()
            taken[name].append(1e3 * (time.process_time() - began))
            assert factors.shape == (steps,)
    return {name: round(median(times), 2) for name, times in taken.items()}


def verdicts(
    noisy: dict[Setting, dict[str, Any]],
    separable: dict[Setting, dict[str, Any]],
    excess: dict[str, float],
    times: dict[str, float],
    short_of: str,
) -> list[Verdict]:
    """The targets that are listed, judged."""
    mean = mean_ranks(noisy)
    gap = mean[LINEAR] - mean["cosine"]
    shape = max(excess, key=lambda name: excess[name])
    found: list[tuple[str, float, str]] = [
        ("refine-bound", excess[shape], f"{excess[shape]:.2f} % above the minimiser at most (norms {shape})"),
        ("refine-rank", gap, f"linear {mean[LINEAR]:.2f}, cosine {mean['cosine']:.2f}: {gap:+.2f}"),
    ]
    for key, other in (("constant", "constant"), ("step", "step"), ("inverse-time", "1/t")):
        wins = wins_of_linear(noisy, other)
        found.append((f"refine-{key}", wins, f"linear below {other} in {wins} of {len(noisy)}"))
    for key, group in (("guard", noisy), ("separable", separable)):
        over = {setting: _over_linear(each, REFINED) for setting, each in group.items()}
        free = {setting: _over_linear(each, UNGUARDED) for setting, each in group.items()}
        worst, freest = max(over, key=lambda s: over[s]), max(free, key=lambda s: free[s])
        words = (
            f"{over[worst]:+.2f} % at most ({worst.name}); unguarded {free[freest]:+.2f} %, "
            f"{1 + free[freest] / 100:.1f} times linear's loss ({freest.name})"
        )
        found.append((f"refine-{key}", over[worst], words))
    slowest = max(times, key=lambda name: times[name])
    words = f"{times[slowest]:.1f} ms for the slowest ({slowest})"
    found.append(("refine-speed", times[slowest], words))
    return [TARGETS[key].judge(value, words, short_of=short_of) for key, value, words in found if key in TARGETS]


def mean_ranks(outcomes: dict[Setting, dict[str, Any]]) -> dict[str, float]:
    """Mean rank of every ranked schedule over the settings."""
    each = [ranks(outcome) for outcome in outcomes.values()]
    return {name: sum(rank[name] for rank in each) / len(each) for name in RANKED}


def wins_of_linear(outcomes: dict[Setting, dict[str, Any]], other: str) -> int:
    """Settings in which linear ends below another schedule."""
    return sum(best_loss(each, LINEAR) < best_loss(each, other) for each in outcomes.values())


def _over_linear(outcome: dict[str, Any], schedule: str) -> float:
    return 100 * (best_loss(outcome, schedule) / best_loss(outcome, LINEAR) - 1)


def notes_on(
    outcomes: dict[Setting, dict[str, Any]],
    separable: dict[Setting, dict[str, Any]],
    others: dict[int, dict[Setting, dict[str, Any]]],
    times: dict[str, float],
) -> list[str]:
    """What a reader must know to judge the losses."""
    edges = {name: sum(at_edge(outcome, name) for outcome in outcomes.values()) for name in SHOWN}
    said = [reason for outcome in outcomes.values() for reason in outcome["reasons"] if reason]
    reasons = {" ".join(reason.split()[:5]): reason for reason in said}  # one of each kind
    wins = [s.name for s, outcome in separable.items() if best_loss(outcome, UNGUARDED) < best_loss(outcome, LINEAR)]
    return [
        "Refined: from the norms of the linear run of the same setting and seed at linear's best rate (l1 for Adam, l2 "
        "for SGD), then run at all five rates as every other schedule.",
        "Models of one seed see the same batches; labels (20 % wrong), batches and nothing else depend on the seed.",
        "Best rate at an end of the grid: "
        + ", ".join(f"{name} {count}" for name, count in edges.items() if count)
        + f" of {len(outcomes)} settings.",
        "The bound's rows take each schedule at its own best base rate; refined is the closed form from the exact "
        "norms, without smoothing.",
        f"The guard spoke for {len(said)} seeds; one reason of each kind: "
        + ("; ".join(reasons.values()) or "none")
        + ".",
        "Separable settings in which the unguarded refinement beats linear: " + (", ".join(wins) or "none") + ".",
        "Other batch sizes, beside the one that is judged: "
        + "; ".join(
            f"{batch}: linear below constant in {wins_of_linear(group, 'constant')}, step in "
            f"{wins_of_linear(group, 'step')}, 1/t in {wins_of_linear(group, '1/t')} of {len(group)}, refined "
            f"{max(_over_linear(each, REFINED) for each in group.values()):+.2f} % over linear at most"
            for batch, group in others.items()
        )
        + ".",
        f"A schedule of {MILLION:,} steps (10,000 in a quick run), milliseconds of processor time (median): "
        + ", ".join(f"{name} {value:g}" for name, value in times.items())
        + ".",
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a listed target is missed."""
    parser = options(NAME, __doc__)
    parser.add_argument("--seeds", type=int, default=FULL_SEEDS, help="seeds, from 0 (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="samples a step (default: %(default)s)")
    parser.add_argument("--other-batches", type=int, nargs="*", default=[16, 64], help="whose mean ranks stand beside")
    parser.add_argument("--smoothing", type=float, default=0.1, help="width of the median filter, share of the run")
    parser.add_argument("--bound-steps", type=int, default=200, help="steps of the bound's minimiser")
    parser.add_argument("--repeats", type=int, default=11, help="builds timed; the median counts")
    parser.add_argument("--quick", action="store_true", help="wine at 200 steps alone, one seed: a smoke test")
    chosen = parser.parse_args(argv)
    if chosen.quick:
        chosen.seeds, chosen.bound_steps, chosen.repeats, chosen.other_batches = 1, 40, 1, [16]
    settings: dict[str, Any] = {key: getattr(chosen, key) for key in ("seeds", "smoothing")}
    settings |= {"rates": RATES}
    saved = SavedParts(chosen.out / "parts" / f"{NAME}.json", settings)

    def outcomes(group: tuple[Setting, ...], batch: int) -> dict[Setting, dict[str, Any]]:
        done = {}
        for setting in group:
            if chosen.quick and not (setting.data == "wine" and setting.steps != 800):
                continue
            say(f"{setting.name}, batch {batch}")
            done[setting] = saved.part(
                f"{setting.name}, batch {batch}",
                lambda s=setting: run_setting(s, chosen.seeds, batch, chosen.smoothing),
            )
        return done

    noisy, separable = outcomes(NOISY, chosen.batch), outcomes(SEPARABLE, chosen.batch)
    rows = [setting_row(setting, outcome) for setting, outcome in (noisy | separable).items()]
    others = {batch: outcomes(NOISY, batch) for batch in chosen.other_batches}
    for batch, group in {chosen.batch: noisy, **others}.items():
        mean = mean_ranks(group)
        cells = [round(mean[name], 2) for name in RANKED]
        rows.append([f"mean rank, {len(group)} noisy settings, batch {batch}", "rank", *cells, *4 * [None]])
    bounds, excess = bound_rows(chosen.bound_steps)
    times = build_times(10_000 if chosen.quick else MILLION, chosen.repeats)
    short_of = "all settings and 4 seeds" if chosen.quick or chosen.seeds < FULL_SEEDS else ""
    table = Table(
        title="Learning-rate schedules refined from gradient norms",
        columns=COLUMNS,
        rows=[*rows, *bounds],
        settings=settings | {"batch": chosen.batch, "bound_steps": chosen.bound_steps},
        seeds=list(range(chosen.seeds)),
        notes=notes_on(noisy | separable, separable, others, times),
        verdicts=verdicts(noisy, separable, excess, times, short_of),
    )
    finish(table, NAME, chosen)
    saved.clear()
    return int(any(verdict.reached is False for verdict in table.verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
