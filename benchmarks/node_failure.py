"""A node dies in mid-iteration: time lost when the lost microbatches are planned anew, and by a restart.

On SkipPipe's default instance, planned with one of our methods, every node dies at 25, 50 and 75 % of the iteration.
Both policies spend the same number of simulations on new routes and notice the failure after the same delay. Every
outcome has passed the independent check of `pathloom.worlds.train.fault_check`.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from importlib import import_module
from typing import Any

import numpy as np

from _table import Table, finish, options
from _targets import TARGETS, Verdict
from pathloom.plan import Plan, verified
from pathloom.worlds.train.check import check
from pathloom.worlds.train.faults import Failure, FaultOutcome, simulate_failures
from pathloom.worlds.train.reference import reference_instance

NAME = "node_failure"
METHODS = {"pathloom": "route_search:pathloom", "greedy": "greedy:greedy", "dtfm-skip": "random_skips:random_skips"}
SHARES = (0.25, 0.5, 0.75)
COLUMNS = [
    "dies at",
    "gradients of the dead",
    "cases",
    "completed",
    "with losses",
    "lost microbatches (mean)",
    "lost s: median",
    "lost s: 90 %",
    "lost s: most",
    "restart loses s: median",
    "ratio: median",
    "ratio: 90 %",
    "ratio: most",
    "ratio at most 1/2",
    "caps exceeded by (most)",
    "s per case",
]


def planned(method: str, seconds: float, seed: int, corrected: bool) -> Plan:
    """A checked plan of the instance."""
    module, name = METHODS[method].split(":")
    plan_with = getattr(import_module(f"pathloom.worlds.train.{module}"), name)
    problem = reference_instance(as_published=not corrected)
    return verified(plan_with(problem, time_limit=seconds, seed=seed), check)


def row(name: str, gradients: str, cases: list[tuple[FaultOutcome, float]]) -> list[Any]:
    """Summary of outcomes; ratios are over the cases in which a restart loses anything."""
    lost = np.array([o.lost_time for o, _ in cases])
    restart = np.array([o.restart_lost_time for o, _ in cases])
    hit = restart > 0
    ratio = lost[hit] / restart[hit] if hit.any() else np.zeros(1)
    return [
        name,
        gradients,
        len(cases),
        sum(o.completed for o, _ in cases),
        int(hit.sum()),
        round(float(np.mean([len(o.lost) for o, _ in cases])), 2),
        *(round(float(x), 2) for x in (np.median(lost[hit]), np.percentile(lost[hit], 90), lost.max())),
        round(float(np.median(restart[hit])), 2),
        *(round(float(x), 3) for x in (np.median(ratio), np.percentile(ratio, 90), ratio.max())),
        f"{int((ratio <= 0.5).sum())}/{len(ratio)}",
        f"source +{max(o.widening.source for o, _ in cases)}, node +{max(o.widening.node for o, _ in cases)}",
        round(float(np.mean([seconds for _, seconds in cases])), 2),
    ]


def verdicts(rows: list[list[Any]], short_of: str) -> list[Verdict]:
    """The targets, judged by all deaths together under the harsher of both views of the dead node's gradients."""
    whole = [dict(zip(COLUMNS, cells, strict=True)) for cells in rows if cells[0] == "any"]
    lost = sum(view["cases"] - view["completed"] for view in whole)
    cases = sum(view["cases"] for view in whole)
    harsher = max(whole, key=lambda view: view["ratio: median"])
    ratio = 100 * harsher["ratio: median"]
    words = (
        f"median {ratio:.1f} % with gradients {harsher['gradients of the dead']} (the other view is better), "
        f"most {100 * harsher['ratio: most']:.1f} %, at most half in {harsher['ratio at most 1/2']} deaths"
    )
    return [
        TARGETS["failure-complete"].judge(lost, f"{lost} of {cases} iterations incomplete", short_of=short_of),
        TARGETS["failure-lost"].judge(ratio, words, short_of=short_of),
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if an iteration was not completed or a median ratio exceeds one half."""
    parser = options(NAME, __doc__)
    parser.add_argument("--method", choices=sorted(METHODS), default="pathloom", help="what plans the iteration")
    parser.add_argument("--plan-seconds", type=float, default=20.0, help="time limit of the plan")
    parser.add_argument("--corrected", action="store_true", help="with the corrected NL-London bandwidth")
    parser.add_argument("--evaluations", type=int, default=3000, help="simulations that a recovery may spend")
    parser.add_argument("--detection", type=float, default=1.0, help="seconds until a failure is noticed")
    parser.add_argument("--every", type=int, default=1, help="let only every n-th node die")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)

    plan = planned(chosen.method, chosen.plan_seconds, chosen.seed, chosen.corrected)
    problem, nominal = plan.problem, plan.objective.value
    rows: list[list[Any]] = []
    for redo, gradients in ((False, "given up"), (True, "done again")):
        everything: list[tuple[FaultOutcome, float]] = []
        for share in SHARES:
            cases = []
            for node in range(0, problem.n_nodes, chosen.every):
                began = time.perf_counter()
                outcome = simulate_failures(
                    problem,
                    plan.decisions,
                    [Failure(node, share * nominal)],
                    detection=chosen.detection,
                    seed=chosen.seed,
                    evaluations=chosen.evaluations,
                    redo_gradients=redo,
                )
                cases.append((outcome, time.perf_counter() - began))
            rows.append(row(f"{share:.0%}", gradients, cases))
            everything += cases
        rows.append(row("any", gradients, everything))

    short_of = "every node's death" if chosen.every > 1 else ""
    if chosen.method != "pathloom":
        short_of = "the default method"
    table = Table(
        title="Re-planning after the death of a node against a restart of the iteration",
        columns=COLUMNS,
        rows=rows,
        settings={
            "instance": problem.name,
            "method": chosen.method,
            "plan seconds": chosen.plan_seconds,
            "evaluations": chosen.evaluations,
            "detection": chosen.detection,
        },
        seeds=[chosen.seed],
        notes=[
            f"The undisturbed iteration takes {nominal:.2f} s.",
            "A dead node takes along the gradients that it has summed. 'Given up': microbatches that it had finished "
            "count as done; 'done again': they are lost too, as in a restart.",
            "Medians, percentiles and ratios are over the cases with losses: those in which a restart would lose time. "
            "A restart is only made where something is lost.",
            "The restart runs on the nodes that live, its routes are found by the same search with the same number of "
            "simulations, starting from the plan's routes.",
            "Seconds per case: both policies, their searches included.",
        ],
        verdicts=verdicts(rows, short_of),
    )
    finish(table, NAME, chosen)
    reached = all(cells[2] == cells[3] for cells in rows) and all(cells[10] <= 0.5 for cells in rows)
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
