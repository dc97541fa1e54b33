"""Flexible job shops: our portfolio beside CP-SAT through PyJobShop, the same time and threads, on public instances.

Run ``python benchmarks/flexible_shops.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

from collections.abc import Sequence
from typing import Any

from _shop_instances import flexible_shops
from _shop_runs import COLUMNS, Runs, behind, judged, mean_gap, options, row
from _table import Table, finish
from _table import options as table_options

NAME = "flexible_shops"
SETS = ["brandimarte", "hurink/edata", "hurink/rdata", "hurink/vdata"]
LARGE = 200
"""Instances of at least so many operations count as large."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = table_options(NAME, __doc__)
    options(parser, 30.0)
    chosen = parser.parse_args(argv)
    runs = Runs(NAME, chosen)
    runs.warm(next(iter(flexible_shops("brandimarte"))))
    results: dict[str, list[dict[str, Any]]] = {}
    large: list[dict[str, Any]] = []
    counts: list[int] = []
    for name in chosen.sets or SETS:
        results[name] = []
        instances = {instance.name: instance for instance in flexible_shops(name)}
        counts += [len(instance.problem.tasks) for instance in instances.values()]
        for instance in map(instances.__getitem__, runs.drawn(list(instances))):
            pair = runs.pair(instance)
            results[name].append(pair)
            if len(instance.problem.tasks) >= LARGE:
                large.append(pair)
    pairs = [pair for found in results.values() for pair in found]
    short = "" if chosen.time == 30.0 else f"{chosen.time:g} s"
    if chosen.sets:
        short = f"{len(results)} sets only"
    verdicts = []
    for key, those, least in (("shop-flexible", pairs, 0), ("shop-flexible-large", large, LARGE)):
        mine, other = mean_gap(those, "ours"), mean_gap(those, "peer")
        if mine is not None and other is not None:
            of = sum(count >= least for count in counts)
            verdicts.append(judged(key, those, behind, f"{mine:.2f} % against {other:.2f} %", of=of, short_of=short))
    table = Table(
        title="Flexible job shops: gap to the best known makespans",
        columns=COLUMNS,
        rows=[*(row(name, found) for name, found in results.items()), row(f"{LARGE} operations or more", large)],
        settings=runs.settings | {"every": chosen.every},
        seeds=[chosen.seed],
        notes=[
            "Schedules of both are judged by our checker. Best known values of Hurink's sets are FJSPLIB's, some "
            "of which are not the newest: gaps may be negative.",
        ],
        verdicts=verdicts,
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
