"""Non-delay dispatching by rules: ours beside job-shop-lib's, and the gaps of the rules by set.

All 218 instances are dispatched by SPT, MWKR, MOR and FIFO. Time is that of dispatching alone, from the instance in
memory to the starts; ours is the faster of two passes, the peer's that of one. Makespans are checked by our checker.

Run ``python benchmarks/dispatching_rules.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from _shop_instances import JOB_SHOP_SETS, Instance, job_shop
from _table import Table, finish, options, say
from _targets import TARGETS
from pathloom.schedule.check import check_schedule
from pathloom.schedule.dispatching import dispatch
from pathloom.schedule.recognised_shapes import Shape, recognised_shape
from pathloom.schedule.shops import JobShop

NAME = "dispatching_rules"
RULES = {
    "SPT": "shortest_processing_time",
    "MWKR": "most_work_remaining",
    "MOR": "most_operations_remaining",
    "FIFO": "first_come_first_served",
}
COLUMNS = ["set", *(f"{rule}, gap %" for rule in RULES), "pathloom, s", "job-shop-lib, s", "times faster"]
PUBLISHED = {
    "la": (20.0, 12.6, 13.9, 18.9),
    "abz": (25.1, 16.6, 18.0, 24.6),
    "orb": (26.3, 25.2, 29.1, 29.7),
    "ta01-10 (15x15)": (25.9, 19.2, 20.5, 23.9),
    "ta11-20 (20x15)": (32.8, 23.4, 23.6, 31.4),
    "ta21-30 (20x20)": (27.8, 21.8, 21.7, 27.4),
    "ta31-40 (30x15)": (35.3, 23.9, 22.8, 31.2),
    "ta41-50 (30x20)": (34.5, 25.2, 25.0, 31.2),
    "ta51-60 (50x15)": (24.1, 16.9, 17.4, 20.7),
    "ta61-70 (50x20)": (25.5, 17.9, 17.7, 23.9),
    "ta71-80 (100x20)": (14.4, 8.3, 9.2, 13.6),
    "swv": (23.1, 28.4, 35.9, 37.4),
    "dmu01-40": (30.4, 20.4, 19.9, 27.2),
}
"""Mean gaps in percent, measured with an implementation of its own before this one was written."""


def peer_seconds(shop: JobShop, rule: str) -> float:
    """Wall time of job-shop-lib's rule solver."""
    from job_shop_lib import JobShopInstance, Operation
    from job_shop_lib.dispatching.rules import DispatchingRuleSolver

    jobs = [
        [
            Operation(int(shop.machine[o]), int(shop.duration[o]))
            for o in range(shop.job_start[j], shop.job_start[j + 1])
        ]
        for j in range(shop.jobs)
    ]
    instance = JobShopInstance(jobs)
    solver = DispatchingRuleSolver(dispatching_rule=RULES[rule])
    began = time.perf_counter()
    solver.solve(instance)
    return time.perf_counter() - began


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = options(NAME, __doc__)
    parser.add_argument("--no-peer", action="store_true", help="leave job-shop-lib out")
    chosen = parser.parse_args(argv)
    sets: dict[str, list[tuple[Instance, Shape, JobShop]]] = {}
    for name, members in JOB_SHOP_SETS.items():
        sets[name] = []
        for member in members:
            instance = job_shop(member)
            shape = recognised_shape(instance.problem)
            assert shape is not None and isinstance(shape.view, JobShop)
            sets[name].append((instance, shape, shape.view))
    for rule in RULES:
        dispatch(sets["ft"][0][2], rule)
    rows: list[list[Any]] = []
    total, peer_total, off = 0.0, 0.0, 0.0
    for name, members_ in sets.items():
        passes = []
        for _ in range(2):
            began = time.perf_counter()
            starts = [[dispatch(shop, rule) for rule in RULES] for _, _, shop in members_]
            passes.append(time.perf_counter() - began)
        found = np.array(
            [
                [100 * (int((start + shop.duration).max()) / instance.best - 1) for start in each]
                for (instance, _, shop), each in zip(members_, starts, strict=True)
            ]
        )
        for (instance, shape, _), each in zip(members_, starts, strict=True):
            for start in each:
                violations = check_schedule(instance.problem, shape.schedule(start))
                if violations:
                    raise AssertionError(f"{instance.name}: {violations[0]}")
        gaps = found.mean(axis=0)
        if name in PUBLISHED:
            off = max(off, float(np.abs(gaps - PUBLISHED[name]).max()))
        ours, other = min(passes), 0.0
        total += ours
        if not chosen.no_peer:
            other = sum(peer_seconds(shop, rule) for _, _, shop in members_ for rule in RULES)
            peer_total += other
        say(f"{name}: {ours:.3f} s, peer {other:.1f} s")
        ratio = None if chosen.no_peer else round(other / ours, 1)
        rows.append([name, *(round(float(gap), 1) for gap in gaps), round(ours, 4), round(other, 2) or None, ratio])
    short = "the peer was left out" if chosen.no_peer else ""
    ratio = None if chosen.no_peer else peer_total / total
    rows.append(
        ["all", None, None, None, None, round(total, 4), round(peer_total, 2) or None, ratio and round(ratio, 1)]
    )
    table = Table(
        title="Dispatching rules (non-delay): gap to the best known makespan, and speed",
        columns=COLUMNS,
        rows=rows,
        notes=["One thread. job-shop-lib runs its DispatchingRuleSolver with the rule of that name."],
        verdicts=[
            TARGETS["shop-dispatch-seconds"].judge(total, f"{total:.2f} s"),
            TARGETS["shop-dispatch-ratio"].judge(ratio, "-" if ratio is None else f"{ratio:.0f} times", short_of=short),
            TARGETS["shop-dispatch-table"].judge(off, f"{off:.2f} points"),
        ],
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
