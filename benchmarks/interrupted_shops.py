"""Dispatching in blocking shops with swaps whose machines break down: rules, the learned policy, rolling re-solve.

Lawrence's shops la01-40 without buffers, four breakdown chances, common random numbers: under one seed all decisions
meet the same breakdowns. Repairs are geometric with the mean duration of an operation as their mean; operations resume.
The re-solve plans the rest anew with CP-SAT for a second at each breakdown, the rollouts play three rules on for every
choice; both take far longer than a policy, and are measured on a part of the shops, on which all are compared.

Finished parts are kept beside the results, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from _saved_parts import SavedParts
from _shop_instances import blocking_shop
from _table import Table, finish, options, say
from _targets import TARGETS, Verdict
from pathloom.schedule.recognised_shapes import as_job_shop
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor import Decision, Floor, simulate, simulate_many
from pathloom.worlds.shop.online.policy import load_policy
from pathloom.worlds.shop.online.resolve import RollingResolve
from pathloom.worlds.shop.online.rollout import Rollout
from pathloom.worlds.shop.online.rules import RULES

NAME = "interrupted_shops"
CHANCES = (0.0, 0.05, 0.1, 0.2)
COLUMNS = [
    "breakdown chance",
    "decisions by",
    "shops x seeds",
    "mean makespan",
    "against the best rule, %",
    "95 % interval from",
    "to",
    "runs below it, %",
    "ms a decision",
]
POLICY, ROLLOUT, RESOLVE = "policy", "rollouts", "re-solve"
Part = dict[str, Any]


def shop_of(name: str) -> JobShop:
    """The shop without buffers, jobs may swap."""
    shop = as_job_shop(blocking_shop(name).problem)
    assert shop is not None and shop.blocking
    return replace(shop, swap=True)


def with_rule(shop: JobShop, rule: str, trouble: Disturbances, seeds: Sequence[int]) -> Part:
    """Makespans of a rule, and its time a decision."""
    began = time.process_time()
    makespans = simulate_many(shop, rule, trouble, seeds).tolist()
    return {"makespans": makespans, "ms": 1e3 * (time.process_time() - began) / (len(seeds) * shop.operations)}


def with_policy(shop: JobShop, trouble: Disturbances, seeds: Sequence[int]) -> Part:
    """Makespans of the shipped policy, all seeds in one batch."""
    import torch

    torch.set_num_threads(1)
    policy = load_policy()
    floor = Floor([shop] * len(seeds), trouble, seeds, ask_single=True)
    began = time.process_time()
    policy.run_all(floor)
    decisions = int(floor.batch.whole[:, state.DECISIONS].sum())
    return {"makespans": floor.makespans.tolist(), "ms": 1e3 * (time.process_time() - began) / decisions}


def with_object(shop: JobShop, decision: Decision, trouble: Disturbances, seeds: Sequence[int]) -> Part:
    """Makespans of any other decision object."""
    began, decisions, makespans = time.perf_counter(), 0, []
    for seed in seeds:
        run = simulate(shop, decision, trouble, seed=seed)
        makespans.append(run.makespan)
        decisions += run.decisions
    return {"makespans": makespans, "ms": 1e3 * (time.perf_counter() - began) / decisions}


def against(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Paired difference in percent of theirs: mean, 95 % interval (Student's t over the runs), share of runs below."""
    difference = 100.0 * (ours / theirs - 1.0)
    mean = float(difference.mean())
    if len(difference) < 2 or np.ptp(difference) == 0.0:
        return mean, mean, mean, float(100 * (ours < theirs).mean())
    half = float(stats.sem(difference) * stats.t.ppf(0.975, len(difference) - 1))
    return mean, mean - half, mean + half, float(100 * (ours < theirs).mean())


def makespans(parts: dict[str, Part], names: Sequence[str], chance: float, who: str, seeds: int) -> NDArray[np.float64]:
    """Of all shops and seeds, one after another."""
    return np.concatenate([parts[f"{name} {chance:g} {who}"]["makespans"][:seeds] for name in names]).astype(float)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = options(NAME, __doc__)
    parser.add_argument("--every", type=int, default=1, help="every n-th of the 40 shops")
    parser.add_argument("--seeds", type=int, default=10, help="runs of each shop")
    parser.add_argument(
        "--resolve-every", type=int, default=5, help="every n-th shop for re-solve and rollouts, 0: none"
    )
    parser.add_argument("--resolve-seeds", type=int, default=1, help="runs of each shop for re-solve and rollouts")
    parser.add_argument("--resolve-seconds", type=float, default=1.0, help="time limit of a re-solve")
    parser.add_argument("--quick", action="store_true", help="every 8th shop, 2 seeds, re-solve of 0.1 s on two shops")
    chosen = parser.parse_args(argv)
    if chosen.quick:
        chosen.every, chosen.seeds, chosen.resolve_every, chosen.resolve_seconds = 8, 2, 20, 0.1
    names = [f"la{number:02d}" for number in range(1, 41)]
    shown = names[:: chosen.every]
    slow = names[:: chosen.resolve_every] if chosen.resolve_every else []
    card = load_policy().card
    settings = {
        "shops": len(shown),
        "seeds": chosen.seeds,
        "re-solve shops": len(slow),
        "re-solve seeds": chosen.resolve_seeds,
        "re-solve seconds": chosen.resolve_seconds,
        "policy": f"{card['parameters']:,} weights, {card['seconds']:g} s of training",
    }
    saved = SavedParts(chosen.out / f".{NAME}.parts.json", settings)
    parts: dict[str, Part] = {}
    for name in sorted({*shown, *slow}):
        shop = shop_of(name)
        for chance in CHANCES:
            trouble = Disturbances(breakdown_chance=chance)
            # Where nothing is drawn, one run says all; only the random rule differs from seed to seed.
            several = range(chosen.seeds)
            seeds = several if chance else range(1)

            def keep(who: str, make: Any, name: str = name, chance: float = chance) -> None:
                key = f"{name} {chance:g} {who}"
                parts[key] = saved.part(key, make)

            for rule in RULES:
                drawn = several if rule == "RANDOM" else seeds
                keep(rule, lambda s=shop, r=rule, t=trouble, d=drawn: with_rule(s, r, t, d))
            keep(POLICY, lambda s=shop, t=trouble, d=seeds: with_policy(s, t, d))
            if name in slow:
                few = range(chosen.resolve_seeds) if chance else range(1)
                rollout = Rollout(samples=8, rules=("LOR", "LIFO", "SPT"))
                resolve = RollingResolve(seconds=chosen.resolve_seconds)
                keep(ROLLOUT, lambda s=shop, t=trouble, d=few, o=rollout: with_object(s, o, t, d))
                keep(RESOLVE, lambda s=shop, t=trouble, d=few, o=resolve: with_object(s, o, t, d))
        say(f"{name} done")

    rows: list[list[Any]] = []
    worst, sentences = -np.inf, []
    resolve_sentences = []
    for chance in CHANCES:
        for group, whose in ((shown, [*RULES, POLICY]), (slow, [POLICY, ROLLOUT, RESOLVE])):
            if not group:
                continue
            seeds = (chosen.seeds if group is shown else chosen.resolve_seeds) if chance else 1
            values = {who: makespans(parts, group, chance, who, seeds) for who in [*RULES, *whose]}
            best = min(RULES, key=lambda rule: values[rule].mean())
            if group is slow:
                whose = [best, *whose]
            for who in whose:
                mean, low, high, below = against(values[who], values[best])
                spent = float(np.mean([parts[f"{name} {chance:g} {who}"]["ms"] for name in group]))
                rows.append(
                    [
                        chance,
                        who + (" (best rule)" if who == best else ""),
                        f"{len(group)} x {seeds}",
                        round(float(values[who].mean()), 1),
                        *(None if who == best else round(x, 2) for x in (mean, low, high)),
                        None if who == best else round(below, 1),
                        float(f"{spent:.2g}"),
                    ]
                )
            share = 100.0 * (values[POLICY].mean() / values[best].mean() - 1.0)
            if group is shown:
                worst = max(worst, share)
                sentences.append(f"{chance:g}: {share:+.1f} % against {best}")
            else:
                gap = 100.0 * (values[POLICY].mean() / values[RESOLVE].mean() - 1.0)
                resolve_sentences.append((gap, f"{chance:g}: {gap:+.1f} %"))
    short = "" if (len(shown), chosen.seeds) == (40, 10) else f"{len(shown)} shops, {chosen.seeds} seeds"
    verdicts: list[Verdict] = [TARGETS["interrupted-rules"].judge(worst, "; ".join(sentences), short_of=short)]
    if resolve_sentences:
        gaps = [gap for gap, _ in resolve_sentences]
        told = "; ".join(sentence for _, sentence in resolve_sentences)
        verdicts.append(TARGETS["interrupted-resolve"].judge(max(gaps), f"policy against re-solve: {told}"))
    table = Table(
        title="Blocking shops with swaps and breakdowns: makespans by who decides",
        columns=COLUMNS,
        rows=rows,
        settings=settings,
        seeds=list(range(chosen.seeds)),
        notes=[
            "The best rule is the one with the smallest mean makespan at that chance, found on the same runs. "
            "Differences are paired by shop and seed.",
            "At chance 0 nothing is drawn: one run a shop.",
            f"The policy was trained for {card['seconds']:g} s on random shops, none of which is measured here.",
            "Time a decision: processor time of rules (compiled) and policy (a shop's runs in a batch); wall time of "
            "re-solve and rollouts. In the simulation no time passes while anybody decides.",
        ],
        verdicts=verdicts,
    )
    finish(table, NAME, chosen)
    saved.clear()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
