"""The page of results, made from the saved tables: every target with its measured figure, then every table.

Nothing on it is typed by hand. A target that no saved table answers is listed as not measured.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from _table import RESULTS, Table
from _targets import TARGETS, Verdict
from pathloom.show.table import markdown_table

PAGE = Path(__file__).parent / "RESULTS.md"
ORDER = tuple(dict.fromkeys(target.benchmark for target in TARGETS.values()))
COLUMNS = ("what", "compared with", "to reach", "measured", "verdict", "benchmark")


def saved_tables(folder: Path) -> dict[str, Table]:
    """Benchmark -> its saved table: those that answer targets in the targets' order, then the others by name.

    Raises
    ------
    ValueError
        If a file is not a saved table; the message names it.
    """
    found = {}
    for path in folder.glob("*.json"):
        try:
            found[path.stem] = Table.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: is not a table that a benchmark saved: {error!r}") from None
    order = {name: at for at, name in enumerate(ORDER)}
    return dict(sorted(found.items(), key=lambda entry: (order.get(entry[0], len(order)), entry[0])))


def verdicts_of(tables: Mapping[str, Table]) -> dict[str, Verdict]:
    """Target -> its verdict, taken from the table of the benchmark that answers it and from no other."""
    return {
        verdict.key: verdict
        for name, table in tables.items()
        for verdict in table.verdicts
        if verdict.key in TARGETS and TARGETS[verdict.key].benchmark == name
    }


def summary(verdicts: Mapping[str, Verdict], tables: Mapping[str, Table]) -> str:
    """All targets one by one, in Markdown, after a line that counts them."""
    rows = []
    for key, target in TARGETS.items():
        verdict = verdicts.get(key)
        link = f"[{target.benchmark}](#{_anchor(target.benchmark)})" if target.benchmark in tables else target.benchmark
        said = ("-", "not measured") if verdict is None else (verdict.shown, verdict.word)
        rows.append((target.what, target.reference, target.reach, *said, link))
    reached = sum(verdict.reached is True for verdict in verdicts.values())
    missed = sum(verdict.reached is False for verdict in verdicts.values())
    judged = sum(target.limit is not None for target in TARGETS.values())
    line = f"Of {judged} targets with a limit {reached} are reached, {missed} missed, {judged - reached - missed} open."
    return f"{line}\n\n{markdown_table(COLUMNS, rows)}"


def page(tables: Mapping[str, Table]) -> str:
    """The whole page in Markdown."""
    parts = [
        "# Benchmark results",
        "Made by `python benchmarks/results_page.py` from the files in `benchmarks/results`; how to measure them anew "
        "is said in [README.md](README.md).",
        "## Targets",
        summary(verdicts_of(tables), tables),
    ]
    for name, table in tables.items():
        parts.append(f'<a id="{_anchor(name)}"></a>\n\n{table.page().rstrip()}')
    return "\n\n".join(parts) + "\n"


def _anchor(name: str) -> str:
    return name.replace("_", "-")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; exit status 2 if a saved file is not a table, 1 if there is none."""
    parser = argparse.ArgumentParser(prog="results_page", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of saved tables (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="file to write (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the targets' verdicts as one JSON object")
    chosen = parser.parse_args(argv)
    try:
        tables = saved_tables(chosen.results)
    except ValueError as error:
        print(f"results_page: {error}", file=sys.stderr)
        return 2
    if not tables:
        print(f"results_page: no saved tables in {chosen.results}", file=sys.stderr)
        return 1
    chosen.page.write_text(page(tables), encoding="utf-8")
    if chosen.json:
        print(json.dumps({key: verdict.to_dict() for key, verdict in verdicts_of(tables).items()}))
    else:
        print(summary(verdicts_of(tables), tables))
        print(f"results_page: wrote {chosen.page}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
