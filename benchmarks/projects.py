"""Resource-constrained projects: our portfolio beside CP-SAT through PyJobShop, the same time and threads, on PSPLIB.

Run ``python benchmarks/projects.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

from collections.abc import Sequence
from typing import Any

from _shop_instances import projects
from _shop_runs import COLUMNS, Runs, behind, judged, mean_gap, options, row
from _table import Table, finish
from _table import options as table_options

NAME = "projects"
SETS = {"j60": "shop-j60", "j120": "shop-j120", "mm_j30": "shop-mm30"}
DRAWN = 12
"""Every so many instances of a set of hundreds: they come in groups of ten by parameters."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = table_options(NAME, __doc__)
    options(parser, 30.0)
    parser.set_defaults(every=DRAWN)
    parser.add_argument("--open-only", action="store_true", help="only instances without a known optimum")
    chosen = parser.parse_args(argv)
    runs = Runs(NAME, chosen)
    runs.warm(next(iter(projects("j30"))))
    runs.warm(next(iter(projects("mm_j10"))))
    results: dict[str, list[dict[str, Any]]] = {}
    verdicts = []
    for name in chosen.sets or SETS:
        instances = [one for one in projects(name) if not chosen.open_only or one.best > one.bound]
        known = {one.name: one for one in instances}
        results[name] = [runs.pair(known[one]) for one in runs.drawn(list(known))]
        mine, other = mean_gap(results[name], "ours"), mean_gap(results[name], "peer")
        if mine is not None and other is not None:
            short = "" if chosen.time == 30.0 else f"{chosen.time:g} s"
            shown = f"{mine:.3f} % against {other:.3f} %"
            of = len(instances)
            verdicts.append(judged(SETS[name], results[name], behind, shown, of=of, short_of=short))
    table = Table(
        title="Projects (PSPLIB): gap to the best known makespans",
        columns=COLUMNS,
        rows=[row(name, found) for name, found in results.items()],
        settings=runs.settings | {"every": chosen.every},
        seeds=[chosen.seed],
        notes=["Schedules of both are judged by our checker."],
        verdicts=verdicts,
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
