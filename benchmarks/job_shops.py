"""Classic job shops: our portfolio beside CP-SAT through PyJobShop, the same time and threads, on public instances.

Run ``python benchmarks/job_shops.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

from collections.abc import Sequence
from typing import Any

from _shop_instances import JOB_SHOP_SETS, job_shop
from _shop_runs import COLUMNS, Pairs, Runs, gaps, judged, mean_gap, options, proven, row
from _table import Table, finish
from _table import options as table_options
from _targets import TARGETS, Verdict

NAME = "job_shops"
SETS = [name for name in JOB_SHOP_SETS if name.startswith(("ta01", "ta11", "ta21", "ta31", "ta41"))]
FURTHER = ["ta71-80 (100x20)", "dmu01-40", "swv"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = table_options(NAME, __doc__)
    options(parser, 30.0)
    chosen = parser.parse_args(argv)
    runs = Runs(NAME, chosen)
    runs.warm(job_shop("ft10"))
    wanted = chosen.sets or [*SETS, *FURTHER]
    results: dict[str, list[dict[str, Any]]] = {}
    for name in wanted:
        results[name] = [runs.pair(job_shop(one)) for one in runs.drawn(JOB_SHOP_SETS[name])]
    table = Table(
        title="Job shops: gap to the best known makespans",
        columns=COLUMNS,
        rows=[row(name, pairs) for name, pairs in results.items()],
        settings=runs.settings | {"every": chosen.every},
        seeds=[chosen.seed],
        notes=[
            "Schedules of both are judged by our checker. Gaps are against the best known values of mid-2026.",
            "Compiled kernels are loaded before the measurement.",
        ],
        verdicts=_verdicts(results, chosen),
    )
    finish(table, NAME, chosen)
    return 0


def _verdicts(results: dict[str, list[dict[str, Any]]], chosen: Any) -> list[Verdict]:
    short = "" if chosen.time == 30.0 and chosen.workers == 2 else f"{chosen.time:g} s and {chosen.workers} threads"
    said = []
    if set(SETS) <= set(results):
        pairs = [pair for name in SETS for pair in results[name]]
        hard = [pair for name in SETS[3:] for pair in results[name]]
        shown = f"{mean_gap(pairs, 'ours'):.2f} % (the peer {mean_gap(pairs, 'peer'):.2f} %)"
        said.append(judged("shop-ta-gap", pairs, _ours, shown, of=_size(SETS), short_of=short))
        ahead = f"{_ahead(hard):.2f} points"
        said.append(judged("shop-ta-ahead", hard, _ahead, ahead, of=_size(SETS[3:]), short_of=short))
        small = results[SETS[0]]
        missing = sum(proven(pair, "peer") and not proven(pair, "ours") for pair in small)
        shown = f"{missing} that the peer proves and we do not; {sum(proven(p, 'ours') for p in small)} proven by us"
        few = "" if len(small) == _size(SETS[:1]) else f"{len(small)} instances only"
        said.append(TARGETS["shop-ta-proofs"].judge(missing, shown, short_of=short or few))
    for key, name in (("shop-large-ta", FURTHER[0]), ("shop-large-dmu", FURTHER[1]), ("shop-large-swv", FURTHER[2])):
        if name in results:
            pairs = results[name]
            shown = f"{mean_gap(pairs, 'ours'):.2f} % against {mean_gap(pairs, 'peer'):.2f} %"
            said.append(judged(key, pairs, _ratio, shown, of=_size([name]), short_of=short))
    return said


def _size(names: Sequence[str]) -> int:
    return sum(len(JOB_SHOP_SETS[name]) for name in names)


def _ours(pairs: Pairs) -> float | None:
    return mean_gap(pairs, "ours")


def _ahead(pairs: Pairs) -> float:
    return float((gaps(pairs, "peer") - gaps(pairs, "ours")).mean())


def _ratio(pairs: Pairs) -> float | None:
    mine, other = mean_gap(pairs, "ours"), mean_gap(pairs, "peer")
    return None if mine is None or not other else mine / other


if __name__ == "__main__":
    raise SystemExit(main())
