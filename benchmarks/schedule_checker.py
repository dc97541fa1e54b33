"""Does the checker of schedules find every broken constraint, and how long does it take?

For every kind of constraint, random feasible schedules among constraints of all kinds are changed so that they break
one constraint of that kind and no other. Each must be rejected with that kind named, and named alone. Times are those
of checking about 10,000 tasks: a job shop's schedule, one with constraints of all kinds, and one in which every task is
at a random time.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from _table import Table, finish, options, say
from _targets import TARGETS
from pathloom.schedule.check import check_schedule
from pathloom.schedule.check_mutations import MUTATIONS, mutated_schedule
from pathloom.schedule.dispatching import dispatch
from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.problem import Demand, Job, Machine, Mode, Precedence, Problem, Task
from pathloom.schedule.schedule import Schedule
from pathloom.schedule.shops import JobShop

NAME = "schedule_checker"
COLUMNS = [
    "what",
    "mutated",
    "rejected",
    "named",
    "named alone",
    "originals accepted",
    "ms, first check",
    "ms per check",
]
SIZE = 3
TASKS_PER_SIZE = 7.75
"""About so many tasks has a drawn schedule for every task of a kind."""


def mutations(constraint: str, number: int, total: int, seed: int) -> list[Any]:
    """Row of the table for one kind of constraint."""
    rejected = named = alone = accepted = 0
    for case_number in range(total):
        case = mutated_schedule(constraint, np.random.default_rng([seed, number, case_number]), SIZE)
        found = {violation.rule for violation in check_schedule(case.problem, case.broken)}
        rejected += bool(found)
        named += constraint in found
        alone += found == {constraint}
        accepted += check_schedule(case.problem, case.feasible) == []
    return [constraint, total, rejected, named, alone, accepted, None, None]


def job_shop(jobs: int, machines: int, seed: int) -> tuple[Problem, Schedule]:
    """A random job shop and its non-delay schedule by most work remaining."""
    rng = np.random.default_rng(seed)
    rows = [[(int(m), int(rng.integers(1, 100))) for m in rng.permutation(machines)] for _ in range(jobs)]
    shop = JobShop.from_rows(rows, machines)
    tasks = tuple(Task((Mode(time, (Demand(m),)),), job=job) for job, row in enumerate(rows) for m, time in row)
    links = tuple(Precedence(o, o + 1) for o in range(len(tasks)) if (o + 1) % machines)
    resources = tuple(Machine(f"machine {m}") for m in range(machines))
    start = dispatch(shop, "MWKR")
    return Problem(tasks, resources, (Job(),) * jobs, links), Schedule.of(start, start + shop.duration)


def timed(problem: Problem, schedule: Schedule, repeats: int) -> tuple[bool, float, float]:
    """Whether the schedule is accepted, and milliseconds of the first check and of the median one after it."""
    taken = []
    for _ in range(repeats + 1):
        began = time.process_time()
        found = check_schedule(problem, schedule)
        taken.append(1e3 * (time.process_time() - began))
    return not found, round(taken[0], 2), round(median(taken[1:]), 2)


def spoilt(schedule: Schedule, seed: int) -> Schedule:
    """The same tasks at random times."""
    start = np.random.default_rng(seed).integers(0, max(1, schedule.makespan), len(schedule.start))
    length = schedule.end - schedule.start
    return replace(schedule, start=start, end=start + length, departure=start + length)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit status is 1 if a mutation was missed or a feasible schedule rejected."""
    parser = options(NAME, __doc__)
    parser.add_argument("--mutations", type=int, default=1000, help="mutated schedules a kind of constraint")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks of the schedules that are timed")
    parser.add_argument("--repeats", type=int, default=21, help="checks timed; the median counts")
    chosen = parser.parse_args(argv)

    rows = []
    for number, constraint in enumerate(MUTATIONS):
        rows.append(mutations(constraint, number, chosen.mutations, chosen.seed))
        say(f"{constraint}: {rows[-1][4]} of {chosen.mutations} named alone")
    rows.append(["all kinds", *(sum(row[at] for row in rows) for at in range(1, 6)), None, None])
    every = rows[-1]

    shop = job_shop(max(1, chosen.tasks // 10), 10, chosen.seed)
    draft = draw_draft(np.random.default_rng(chosen.seed), max(2, round(chosen.tasks / TASKS_PER_SIZE)))
    mixed = (draft.problem(), draft.schedule())
    accepted = True
    for what, (problem, schedule) in (("job shop", shop), ("constraints of all kinds", mixed)):
        valid, first, later = timed(problem, schedule, chosen.repeats)
        accepted &= valid
        rows.append([f"{what}, {len(problem.tasks):,} tasks", *[None] * 5, first, later])
    wrong = spoilt(shop[1], chosen.seed)
    _, first, later = timed(shop[0], wrong, 1)
    rows.append([f"job shop, all wrong, {len(wrong.start):,} tasks", *[None] * 5, first, later])

    missed = every[1] - every[3]
    table = Table(
        title="The checker of schedules against schedules that break one constraint",
        columns=COLUMNS,
        rows=rows,
        settings={"mutations": chosen.mutations, "tasks": chosen.tasks, "repeats": chosen.repeats},
        seeds=[chosen.seed],
        notes=[
            f"Mutated schedules have about {round(SIZE * TASKS_PER_SIZE)} tasks under constraints of all kinds; the "
            "mutator never looks at the checker's result, and by construction breaks one constraint alone.",
            "The feasible schedules that were timed were " + ("accepted." if accepted else "REJECTED."),
            "Times are CPU milliseconds in one thread; the first check of a problem also lays out its columns.",
        ],
        verdicts=[
            TARGETS["schedule-checker"].judge(
                missed,
                f"{missed} of {every[1]:,}; {every[2]:,} rejected, {every[3]:,} with the constraint named, "
                f"{every[4]:,} with no other one",
                short_of="1,000 mutated schedules a kind" if chosen.mutations < 1000 else "",
            )
        ],
    )
    finish(table, NAME, chosen)
    return 0 if accepted and every[1] == every[2] == every[3] == every[5] else 1


if __name__ == "__main__":
    raise SystemExit(main())
