"""Blocking job shops with swaps: our portfolio beside CP-SAT through PyJobShop, the same time and threads, on la01-40.

Run ``python benchmarks/blocking_shops.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

from collections.abc import Sequence

from _shop_instances import blocking_shop
from _shop_runs import COLUMNS, Pairs, Runs, gaps, judged, mean_gap, options, row
from _table import Table, finish
from _table import options as table_options
from _targets import TARGETS

NAME = "blocking_shops"
GROUPS = {"la01-05 (10x5)": (1, 5), "la06-10 (15x5)": (6, 10), "la11-15 (20x5)": (11, 15), "la16-20 (10x10)": (16, 20)}
GROUPS |= {
    "la21-25 (15x10)": (21, 25),
    "la26-30 (20x10)": (26, 30),
    "la31-35 (30x10)": (31, 35),
    "la36-40 (15x15)": (36, 40),
}
CLOSED = ["la01", "la02", "la03", "la04", "la05", "la16"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = table_options(NAME, __doc__)
    options(parser, 20.0)
    chosen = parser.parse_args(argv)
    runs = Runs(NAME, chosen)
    runs.warm(blocking_shop("ft06"))
    names = [f"la{number:02d}" for number in range(1, 41)]
    pairs = {name: runs.pair(blocking_shop(name)) for name in runs.drawn(names, CLOSED)}
    rows = []
    for name, (first, last) in GROUPS.items():
        found = [pairs[f"la{n:02d}"] for n in range(first, last + 1) if f"la{n:02d}" in pairs]
        if found:
            rows.append(row(name, found))
    whole = list(pairs.values())
    rows.append(row("all", whole))
    short = "" if chosen.time == 20.0 else f"{chosen.time:g} s"
    mine = f"{gaps(whole, 'ours').mean():.2f} %"
    verdicts = [
        judged(
            "shop-blocking", whole, lambda those: float(gaps(those, "ours").mean()), mine, of=len(names), short_of=short
        )
    ]
    closed = {name: pairs[name] for name in CLOSED if name in pairs}
    missed = [name for name, pair in closed.items() if pair["ours"]["value"] > pair["best"]]
    shown = f"{len(closed) - len(missed)} of {len(closed)}" + (f", not {', '.join(missed)}" if missed else "")
    verdicts.append(TARGETS["shop-blocking-closed"].judge(len(missed), shown, short_of=short))
    ours, other = mean_gap(whole, "ours"), mean_gap(whole, "peer")
    table = Table(
        title="Blocking job shops with swaps: gap to the best listed makespans",
        columns=COLUMNS,
        rows=rows,
        settings=runs.settings | {"every": chosen.every},
        seeds=[chosen.seed],
        notes=[
            "Listed values: best of CP Optimizer and OptalCP, 4 threads, 30 minutes.",
            f"Over the instances that both solved: {ours:.2f} % against the peer's {other:.2f} %."
            if ours is not None and other is not None
            else "No instance was solved by both.",
        ],
        verdicts=verdicts,
    )
    finish(table, NAME, chosen)
    return 0


def _ours(pairs: Pairs) -> float:
    return float(gaps(pairs, "ours").mean())


if __name__ == "__main__":
    raise SystemExit(main())
