"""A job shop of 1,000 jobs and 10 machines: ours after 10 s beside CP-SAT through PyJobShop after 60 s.

Run ``python benchmarks/thousand_jobs.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

from collections.abc import Sequence

import numpy as np

from _shop_instances import Instance
from _shop_runs import Runs, options
from _table import Table, finish
from _table import options as table_options
from _targets import TARGETS
from pathloom.schedule.job_shop_bounds import job_shop_bound
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import as_job_shop

NAME = "thousand_jobs"
COLUMNS = [
    "seed",
    "bound",
    "pathloom",
    "gap to the bound %",
    "seconds",
    "peer",
    "gap of the peer %",
    "seconds of the peer",
]


def generated(jobs: int, machines: int, seed: int) -> Problem:
    """Durations uniform in 1..99 and a random order of the machines for every job, as E. Taillard generates them."""
    draw = np.random.default_rng(seed)
    model = Model(f"{jobs}x{machines}-{seed}")
    handles = [model.machine() for _ in range(machines)]
    for _ in range(jobs):
        order = draw.permutation(machines)
        job = model.job()
        model.chain(*(model.task(int(draw.integers(1, 100)), handles[machine], job=job) for machine in order))
    return model.problem()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = table_options(NAME, __doc__)
    options(parser, 10.0)
    parser.set_defaults(peer_time=60.0)
    parser.add_argument("--draws", type=int, default=3)
    chosen = parser.parse_args(argv)
    runs = Runs(NAME, chosen)
    small = generated(20, 10, 0)
    runs.warm(Instance("small", small, 10**9, 0))
    rows, ahead = [], []
    for seed in range(chosen.draws):
        problem = generated(1000, 10, seed)
        shop = as_job_shop(problem)
        assert shop is not None
        bound, _ = job_shop_bound(shop)
        pair = runs.pair(Instance(problem.name, problem, 10**9, bound))
        mine, other = pair["ours"], pair["peer"]
        gap = 100 * (mine["value"] / bound - 1)
        peer_gap = None if other["value"] is None else round(100 * (other["value"] / bound - 1), 2)
        rows.append([seed, bound, mine["value"], round(gap, 2), round(mine["seconds"], 1), other["value"], peer_gap])
        rows[-1].append(round(other["seconds"], 1))
        ahead.append(np.inf if other["value"] is None else other["value"] / mine["value"])
    worst = float(min(ahead))
    shown = "the peer finds no schedule" if worst == np.inf else f"the peer's makespan is at least {worst:.3f} of ours"
    table = Table(
        title="1,000 jobs x 10 machines, generated",
        columns=COLUMNS,
        rows=rows,
        settings=runs.settings,
        seeds=range(chosen.draws),
        verdicts=[TARGETS["shop-thousand"].judge(min(worst, 1e9), shown)],
        notes=["The bound is that of our machine-based argument; the times include stating the model."],
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
