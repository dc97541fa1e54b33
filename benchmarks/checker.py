"""Does the checker of training plans find every broken rule, and how long does it take?

1,000 random plans, each broken in one rule, must be rejected with that rule named; rules that are broken alone must be
named alone. Times are those of checking a valid plan of 270 and of 70,000 spans, and one of 70,000 spans in which
everything is wrong.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from collections import Counter
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from _table import Table, finish, options
from _targets import TARGETS
from pathloom.plan import Plan
from pathloom.worlds.train.check import check
from pathloom.worlds.train.drawn_cases import draw_case
from pathloom.worlds.train.mutate import MUTATIONS, mutated_case
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.rigid_trips import plan_of, rigid_timeline

NAME = "checker"
COLUMNS = ["what", "mutated", "rejected", "rule named", "broken alone", "named alone", "ms per check"]
SIZES: dict[int, dict[str, Any]] = {
    270: {"nodes": 20, "stages": 6, "route_length": 4, "microbatches": 30},
    70_000: {"nodes": 1000, "stages": 16, "route_length": 12, "microbatches": 2800},
}


def mutations(total: int, seed: int) -> list[list[Any]]:
    """Rows of the table: one a rule, and all together."""
    count: dict[str, Counter[str]] = {rule: Counter() for rule in MUTATIONS}
    rules = list(MUTATIONS)
    for number in range(total):
        rule = rules[number % len(rules)]
        problem, _, mutation = mutated_case(rule, np.random.default_rng([seed, number]))
        found = {violation.rule for violation in check(problem, mutation.plan)}
        count[rule].update(
            {
                "mutated": 1,
                "rejected": bool(found),
                "named": rule in found,
                "alone": mutation.alone,
                "named alone": mutation.alone and found == {rule},
            }
        )
    keys = ("mutated", "rejected", "named", "alone", "named alone")
    rows = [[rule, *(count[rule][key] for key in keys), None] for rule in rules]
    return [*rows, ["all rules", *(sum(count[rule][key] for rule in rules) for key in keys), None]]


def large_plan(spans: int, seed: int) -> tuple[TrainProblem, Plan]:
    """A valid plan with that many spans."""
    problem, decisions = draw_case(np.random.default_rng(seed), memory=(3, 3), missing=0.0, **SIZES[spans])
    timeline = rigid_timeline(problem, decisions)
    if timeline is None or len(timeline) != spans:
        raise RuntimeError(f"no timetable of {spans} spans for seed {seed}")
    return problem, plan_of(problem, decisions, timeline)


def milliseconds(problem: TrainProblem, plan: Plan, repeats: int) -> float:
    """Median time of one check."""
    check(problem, plan)
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        check(problem, plan)
        taken.append(time.perf_counter() - began)
    return round(1e3 * median(taken), 3)


def spoilt(plan: Plan, seed: int) -> Plan:
    """The same spans at random times on random nodes."""
    rng, table = np.random.default_rng(seed), plan.timeline
    start = rng.uniform(0.0, table.makespan, len(table))
    wrong = replace(
        table, start=start, end=start + rng.uniform(0.0, 1.0, len(table)), resource=rng.permutation(table.resource)
    )
    return replace(plan, timeline=wrong)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a mutation was missed or a valid plan rejected."""
    parser = options(NAME, __doc__)
    parser.add_argument("--mutations", type=int, default=1000, help="number of mutated plans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=21, help="checks timed a size; the median counts")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES), help="spans")
    chosen = parser.parse_args(argv)

    rows = mutations(chosen.mutations, chosen.seed)
    accepted = True
    for spans in chosen.sizes:
        problem, plan = large_plan(spans, chosen.seed)
        accepted &= check(problem, plan) == []
        none = [None] * (len(COLUMNS) - 2)
        rows.append([f"valid plan, {spans:,} spans", *none, milliseconds(problem, plan, chosen.repeats)])
    wrong = spoilt(plan, chosen.seed)
    rows.append([f"all wrong, {len(wrong.timeline):,} spans", *none, milliseconds(problem, wrong, chosen.repeats)])

    every = next(row for row in rows if row[0] == "all rules")
    missed = every[1] - every[3]
    table = Table(
        title="The checker of training plans against plans that break one rule",
        columns=COLUMNS,
        rows=rows,
        settings={
            "mutations": chosen.mutations,
            "repeats": chosen.repeats,
            "sizes": {n: SIZES[n] for n in chosen.sizes},
        },
        seeds=[chosen.seed],
        notes=[
            "Mutated plans are small random ones (up to 10 nodes, 5 stages, 8 microbatches), broken in the named rule "
            "by a mutator that never looks at the checker's result.",
            "Broken alone: by construction no other rule is broken; named alone: the checker named no other rule.",
            f"Valid plans of {' and '.join(f'{n:,}' for n in chosen.sizes)} spans "
            + ("were accepted." if accepted else "were REJECTED."),
            "Times are medians of the given number of repeats, in one thread.",
        ],
        verdicts=[
            TARGETS["checker"].judge(
                missed,
                f"{missed} of {every[1]:,}; {every[2]:,} rejected, {every[3]:,} with the rule named",
                short_of="1,000 mutated plans" if chosen.mutations < 1000 else "",
            )
        ],
    )
    finish(table, NAME, chosen)
    return 0 if accepted and every[1] == every[2] == every[3] and every[4] == every[5] else 1


if __name__ == "__main__":
    raise SystemExit(main())
