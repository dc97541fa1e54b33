"""Random draws of regions on the corrected network: how much shorter is an iteration than today's pipelines make it?

Each draw puts 20 nodes into random regions of gcp12, in stages of 5, 3, 3, 3, 3, 3. A case either skips a third of the
stages (every microbatch runs 4 of 6) or none (equal compute: what is gained comes from reordering, choice of nodes and
order of work), with equal nodes or with speeds drawn between once and four times the reference node's.

Baselines run all stages. Each of them is tried on every placement that DT-FM's genetic search finds under three
settings, in full length, and only its best one counts.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from _baselines import FULL, SEARCHES, SKIPPING, best_of_each, checked, placements, warm_up
from _table import Cell, Table, finish, options, say
from _targets import TARGETS, Verdict
from pathloom.data.network import measured_network
from pathloom.worlds.train.balance import Balance
from pathloom.worlds.train.instance import pipeline_instance
from pathloom.worlds.train.problem import Floats, TrainProblem
from pathloom.worlds.train.route_search import pathloom

NAME = "random_draws"
NODES, SIZES, MICROBATCHES, MEMORY = 20, (5, 3, 3, 3, 3, 3), 30, 3
SECONDS = 0.055  # per layer and sample on the reference node
FREE = Balance(node="free", source="free", stage="strict")


@dataclass(frozen=True)
class Case:
    """Stages that a microbatch runs, speeds of the nodes, caps of TC1, and the target that the case answers."""

    name: str
    route_length: int
    unequal: bool
    balance: Balance
    target: str = ""
    slower: bool = False


CASES = (
    Case("a third skipped", 4, False, Balance(), "draws-skip"),
    Case("equal compute", 6, False, Balance(), "draws-equal"),
    Case("unequal, a third skipped", 4, True, FREE, "unequal-skip"),
    Case("unequal, equal compute", 6, True, FREE, "unequal-equal"),
    Case("unequal, a third skipped, strict caps", 4, True, Balance()),
    Case("unequal, equal compute, strict caps", 6, True, Balance()),
    Case("1x to 4x slower, a third skipped", 4, True, FREE, slower=True),
    Case("1x to 4x slower, equal compute", 6, True, FREE, slower=True),
)
COLUMNS = (
    "case",
    "draw",
    "compute alone (s)",
    *(f"{name} (s)" for name in FULL),
    "best baseline",
    *(f"{name} (s)" for name in SKIPPING),
    "pathloom (s)",
    "below dtfm (%)",
    "below best (%)",
    "bound (s)",
    "gap (%)",
    "planning (s)",
)
FIRST_NUMBER = 2


def drawn(seed: int, case: Case) -> TrainProblem:
    """The instance of a draw; regions depend on the seed alone, and so do speeds."""
    network = measured_network("gcp12")
    regions = np.random.default_rng(seed).integers(len(network.regions), size=NODES)
    return pipeline_instance(
        [network.regions[i] for i in regions],
        network,
        name=f"draw {seed}",
        stages=SIZES,
        stage_layers=4,
        samples=8,
        layer_seconds=layer_seconds(seed, case),
        activation_bytes=4.0 * 1024 * 1024,
        memory=MEMORY,
        microbatches=MICROBATCHES,
        route_length=case.route_length,
        balance=case.balance,
    )


def layer_seconds(seed: int, case: Case) -> Floats:
    """Seconds per layer and sample of each node, shape (N,)."""
    if not case.unequal:
        return np.full(NODES, SECONDS)
    factor = np.random.default_rng([seed, 1]).uniform(1.0, 4.0, NODES)
    return np.asarray(SECONDS * factor if case.slower else SECONDS / factor, dtype=np.float64)


def compute_alone(problem: TrainProblem) -> float:
    """Seconds that the iteration's passes and losses take if all nodes share them by speed and nothing is ever sent.

    Valid where a node takes equally long for every stage.
    """
    share = 1.0 / problem.forward[:, 0]
    a_pass = (problem.forward + problem.backward)[:, 0] * share  # in forward passes, the same for every node
    loss = problem.loss * share
    return float(problem.microbatches * (problem.route_length * a_pass.max() + loss.max()) / share.sum())


def summary(case: str, rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """Median, least and most of every column of numbers."""
    made: list[list[Cell]] = []
    for name, of in (("median", median), ("least", min), ("most", max)):
        cells: list[Cell] = [f"{case}: {name}", None]
        for column in list(zip(*rows, strict=True))[FIRST_NUMBER:]:
            numbers = [cell for cell in column if isinstance(cell, (int, float))]
            cells.append(round(float(of(numbers)), 2) if numbers else None)
        made.append(cells)
    return made


def verdict(case: Case, rows: Sequence[Sequence[Cell]], seconds: float) -> Verdict:
    """Whether the median over the draws is low enough."""
    title = "below dtfm (%)" if case.route_length < len(SIZES) else "below best (%)"
    lower = [float(cells[COLUMNS.index(title)] or 0.0) for cells in rows]
    value = float(median(lower))
    said = f"median {value:.1f} % lower over {len(rows)} draws, from {min(lower):.1f} % to {max(lower):.1f} %"
    said += f", {seconds:g} s of planning each"
    return TARGETS[case.target].judge(value, said, short_of="20 draws" if len(rows) < 20 else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, save."""
    parser = options(NAME, __doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="planning time of pathloom for each draw and case")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw")
    parser.add_argument("--trials", type=int, default=8000, help="trials of DT-FM's genetic search")
    parser.add_argument(
        "--cases", type=int, nargs="+", default=list(range(len(CASES))), choices=range(len(CASES)), metavar="CASE",
        help="; ".join(f"{i}: {case.name}" for i, case in enumerate(CASES)),
    )  # fmt: skip
    chosen = parser.parse_args(argv)
    warm_up()

    seeds = list(range(chosen.first, chosen.first + chosen.draws))
    full: dict[tuple[int, bool, bool], tuple[list[Cell], str, float, float]] = {}
    rows: list[list[Cell]] = []
    heads: list[list[Cell]] = []
    verdicts: list[Verdict] = []
    for case in (CASES[i] for i in chosen.cases):
        found: list[list[Cell]] = []
        for seed in seeds:
            problem = drawn(seed, case)
            candidates = placements(problem, trials=chosen.trials, seed=seed)
            key = seed, case.unequal, case.slower
            if key not in full:  # baselines run all stages whatever the case skips
                values = {
                    name: plan.objective.value
                    for name, plan in best_of_each(FULL, problem, candidates, seed=seed).items()
                }
                best = min(values, key=values.__getitem__)
                full[key] = [round(v, 2) for v in values.values()], best, values["dtfm"], values[best]
            cells, best, of_dtfm, of_best = full[key]
            skipping = best_of_each(SKIPPING, problem, candidates, seed=seed)
            ours = checked(pathloom(problem, time_limit=chosen.seconds, seed=seed))
            value = ours.objective.value
            found.append(
                [
                    case.name,
                    str(seed),
                    round(compute_alone(problem), 2),
                    *cells,
                    best,
                    *(round(plan.objective.value, 2) for plan in skipping.values()),
                    round(value, 2),
                    round(100 * (1 - value / of_dtfm), 1),
                    round(100 * (1 - value / of_best), 1),
                    None if ours.bound is None else round(ours.bound, 2),
                    None if ours.gap is None else round(100 * ours.gap, 1),
                    round(ours.seconds, 1),
                ]
            )
            say(f"{case.name}, draw {seed}: {value:.2f} s, best baseline {best} {of_best:.2f} s, dtfm {of_dtfm:.2f} s")
        heads += summary(case.name, found)
        rows += found
        if case.target:
            verdicts.append(verdict(case, found, chosen.seconds))

    table = Table(
        title="Random draws of regions, corrected network: 20 nodes, 6 stages, 30 microbatches",
        columns=COLUMNS,
        rows=[*heads, *rows],
        settings={
            "seconds": chosen.seconds,
            "draws": chosen.draws,
            "trials of the genetic search": chosen.trials,
            "cases": [CASES[i].name for i in chosen.cases],
        },
        seeds=seeds,
        notes=[
            "All methods have the same 30 microbatches and 3 activations a node. "
            f"Every baseline has the best of {len(SEARCHES)} placements: {'; '.join(SEARCHES)}.",
            '"Compute alone" is what the passes and losses of the case take if all nodes share them by speed and '
            "nothing is ever sent: the rest of an iteration is waiting for links, for slots and for each other. "
            "Full pipelines do the compute of six stages.",
            '"Below dtfm" and "below best" compare pathloom with the full pipelines, which run all six stages. Where a '
            "third is skipped pathloom does a third less work per microbatch; greedy and dtfm-skip skip as much.",
            "A full pipeline has as many chains as its smallest stage has nodes, three here: two of the five sources "
            "stay idle. Putting them to use is part of what node choice gains.",
            "1F1B and ZB-H1 start with the textbook warm-up of S - p forward passes on stage p, cut to the 3 "
            "activations that a node holds, so longer warm-ups that would cover the trip to the loss do not fit. "
            "Interleaving splits every node's stage in two and so pays for each link twice.",
            "Unequal nodes are 1x to 4x as fast as the reference node (uniformly drawn); the last two cases make them "
            "1x to 4x as slow instead. Pipelines deal microbatches evenly over their chains, as published.",
            "With unequal nodes the caps of TC1 on single nodes and sources are free for pathloom, greedy and "
            "dtfm-skip: a slow node must not be forced to an equal share. The balance of the stages is kept, so every "
            "stage is trained as often as before. The strict variants force equal shares.",
            "Bounds are for plans of the same case; gaps compare with them.",
        ],
        verdicts=verdicts,
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
