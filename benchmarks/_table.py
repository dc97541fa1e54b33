"""A table of measured figures with all that is needed to judge it: settings, seeds, machine, notes, verdicts.

Every benchmark builds one `Table`, prints it as Markdown (or JSON) and saves it under ``results``; the page of results
is made from these files alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _one_thread import VARIABLES
from _targets import Verdict

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "scipy", "numba", "ortools", "highspy")
Cell = str | int | float | bool | None


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, versions, thread settings, and the load of the last minute.

    The load counts the benchmark's own threads; one above its cores says that the machine was shared with other work.
    """
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": _memory(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "threads": {name: os.environ.get(name) for name in VARIABLES},
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def machine_line(described: Mapping[str, Any] | str) -> str:
    """`machine` in one line."""
    if isinstance(described, str):
        return described
    gibibytes = f", {described['memory'] / 2**30:.0f} GiB" if described.get("memory") else ""
    versions = ", ".join(f"{name} {described[name]}" for name in ("python", *PACKAGES) if described.get(name))
    threads = sorted({str(value) for value in described.get("threads", {}).values() if value is not None})
    pinned = f"; library threads {'/'.join(threads)}" if threads else ""
    load = f"; load {described['load']}" if described.get("load") is not None else ""
    return f"{described['cpu']}, {described['cores']} cores{gibibytes}, {described['system']}; {versions}{pinned}{load}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Table:
    """Figures of one benchmark run.

    Attributes
    ----------
    title
        What was measured.
    columns, rows
        Titles with units, and one cell a title: numbers, text, yes or no, None where there is nothing.
    settings, seeds
        What the run can be repeated with.
    notes
        What a reader must know to judge the figures.
    verdicts
        The targets that the figures answer.

    Raises
    ------
    ValueError
        If a row has another number of cells than there are columns, or a title comes twice.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    notes: Sequence[str] = ()
    verdicts: Sequence[Verdict] = ()
    machine: Mapping[str, Any] | str = field(default_factory=machine)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"two columns have the same title: {list(self.columns)}")
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns")

    def column(self, title: str) -> list[Cell]:
        """All cells under `title`."""
        at = list(self.columns).index(title)
        return [row[at] for row in self.rows]

    def markdown(self) -> str:
        """The table alone, in Markdown."""
        from pathloom.show.table import markdown_table

        return markdown_table(list(self.columns), cells_as_text(self.columns, self.rows))

    def all_notes(self) -> list[str]:
        """Notes, and a sentence on each target."""
        return [*self.notes, *(verdict.sentence() for verdict in self.verdicts)]

    def page(self, level: int = 2) -> str:
        """Title, settings, machine, date, table and notes in Markdown."""
        seeds = f"seeds {_range(self.seeds)}" if len(self.seeds) > 1 else f"seed {self.seeds[0]}" if self.seeds else ""
        settings = ", ".join(f"{key} {_setting(value)}" for key, value in self.settings.items())
        said = [f"{'#' * level} {self.title}", self.markdown()]
        said.append("\n".join(f"- {note}" for note in self.all_notes()))
        said.append(f"Settings: {'; '.join(part for part in (settings, seeds) if part) or 'none'}.")
        said.append(f"Measured {self.date} on {machine_line(self.machine)}.")
        return "\n\n".join(part for part in said if part) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """What is saved; infinities and NaN become null, as JSON has none."""
        return {
            "title": self.title,
            "machine": _plain(self.machine),
            "date": self.date,
            "seeds": _plain(self.seeds),
            "settings": _plain(self.settings),
            "columns": list(self.columns),
            "rows": _plain(self.rows),
            "notes": list(self.notes),
            "targets": [verdict.to_dict() for verdict in self.verdicts],
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Table:
        """The table that `to_dict` gave."""
        return cls(
            title=saved["title"],
            columns=saved["columns"],
            rows=saved["rows"],
            settings=saved["settings"],
            seeds=saved["seeds"],
            notes=saved["notes"],
            verdicts=[Verdict.from_dict(each) for each in saved.get("targets", ())],
            machine=saved["machine"],
            date=saved["date"],
        )

    def save(self, name: str, folder: Path = RESULTS) -> Path:
        """Write ``folder/name.json`` and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return path


def options(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser of the options that every benchmark has: where the results go, and JSON instead of Markdown."""
    parser = argparse.ArgumentParser(
        prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"folder for {name}.json (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, nothing else")
    return parser


def finish(table: Table, name: str, chosen: argparse.Namespace) -> None:
    """Save the table, and print it as the user wants it."""
    path = table.save(name, chosen.out)
    if chosen.json:
        print(json.dumps(table.to_dict(), allow_nan=False))
    else:
        print(table.page())
        print(f"{name}: wrote {path}", file=sys.stderr)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def cells_as_text(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[list[str]]:
    """Cells as text; numbers of one column with as many decimals as the one that needs most of them."""
    rows = list(rows)
    text = [[""] * len(columns) for _ in rows]
    for at in range(len(columns)):
        places = max((_places(row[at]) for row in rows), default=0)
        for number, row in enumerate(rows):
            text[number][at] = _shown(row[at], places)
    return text


def _places(cell: Cell) -> int:
    if not isinstance(cell, float):
        return 0
    digits = f"{cell:.8g}"
    return 0 if "e" in digits or "." not in digits else len(digits.split(".")[1])


def _shown(cell: Cell, places: int) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.{places}f}"
    return cell


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, range)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {_setting(entry)}" for key, entry in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return "/".join(_setting(entry) for entry in value)
    return str(value)


def _range(seeds: Sequence[int]) -> str:
    whole = list(seeds)
    if whole == list(range(whole[0], whole[-1] + 1)) and len(whole) > 2:
        return f"{whole[0]} to {whole[-1]}"
    return ", ".join(map(str, whole))
