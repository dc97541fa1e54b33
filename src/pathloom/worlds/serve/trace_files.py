"""Reading and writing traces: Azure, Mooncake, BurstGPT, vidur, tables of lengths, and JSON lines of our own.

A file is recognised by the names of its columns. Rows out of order are sorted, times are counted from the first
arrival, rows without an answer (requests that failed) are left out and counted; anything else that cannot be meant is
an error that names the line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.data.text_stream import text_pieces
from pathloom.plan import InputError
from pathloom.worlds.serve.trace import LONGEST, Floats, Ints, Trace

_ROWS = 1 << 17
"""Rows that are turned into arrays at a time."""


@dataclass(frozen=True)
class _Columns:
    """Where a format keeps what: names of its columns, and how it writes times ("date", seconds otherwise)."""

    arrival: str
    prompt: str
    output: str
    date: bool = False


TABLES: Mapping[str, _Columns] = {
    "azure": _Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", date=True),
    "burstgpt": _Columns("Timestamp", "Request tokens", "Response tokens"),
    "vidur": _Columns("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    "lengths": _Columns("", "num_prefill_tokens", "num_decode_tokens"),
}
"""Formats with a line of titles, in the order in which they are tried. Those of "lengths" all arrive at time 0."""
MOONCAKE, OWN = "mooncake", "pathloom"
MOONCAKE_BLOCK = 512
FIELDS = ("arrival", "prompt", "output", "user", "priority", "blocks")
"""Of a line of our own; the first three must be there. A first line ``{"block_tokens": n}`` goes with blocks."""


def trace_format(head: str) -> str | None:
    """The format of a file that begins with this text; None if it is no trace that we know."""
    first = head.lstrip("\ufeff").split("\n", 1)[0].strip()
    if first.startswith("{"):
        try:
            row = json.loads(first)
        except ValueError:
            return None
        if not isinstance(row, dict):
            return None
        if {"timestamp", "input_length", "output_length"} <= row.keys():
            return MOONCAKE
        return OWN if "block_tokens" in row or {"arrival", "prompt", "output"} <= row.keys() else None
    titles = {title.strip() for title in first.split(",")}
    for name, columns in TABLES.items():
        if {columns.arrival, columns.prompt, columns.output} - {""} <= titles:
            return name
    return None


def read_trace(path: Path) -> Trace:
    """Read a trace of any of the formats, packed (gzip) or not.

    Raises
    ------
    InputError
        If the file is no trace, or holds something that cannot be meant; names the line.
    """
    lines = _lines(path)
    first = next(lines, "")
    known = trace_format(first)
    if known is None:
        titles = "; ".join(
            ", ".join(title for title in (c.arrival, c.prompt, c.output) if title) for c in TABLES.values()
        )
        raise InputError(
            f"is no trace; expected JSON lines of Mooncake's or our format, or a table with the columns {titles}",
            file=str(path),
            key="line 1",
        )
    if known in TABLES:
        return _table(path, TABLES[known], first, lines)
    return _json_lines(path, known, first, lines)


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace as JSON lines of our own format."""
    with path.open("w", encoding="utf-8") as out:
        if trace.block_tokens:
            out.write(json.dumps({"block_tokens": trace.block_tokens}) + "\n")
        columns = (trace.arrival, trace.prompt, trace.output, trace.user, trace.priority)
        for r, values in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            row: dict[str, Any] = dict(zip(FIELDS, values, strict=False))
            for name in ("user", "priority"):
                if not row[name]:
                    del row[name]
            if trace.block_tokens:
                row["blocks"] = trace.block[trace.block_start[r] : trace.block_start[r + 1]].tolist()
            out.write(json.dumps(row) + "\n")


def _lines(path: Path) -> Iterator[str]:
    rest = ""
    for piece in text_pieces(path):
        *whole, rest = (rest + piece).split("\n")
        yield from whole
    if rest:
        yield rest


def _table(path: Path, columns: _Columns, first: str, lines: Iterator[str]) -> Trace:
    titles = [title.strip() for title in first.split(",")]
    wanted = [titles.index(name) for name in (columns.arrival, columns.prompt, columns.output) if name]
    parts: list[list[Floats]] = []
    line = 2
    while rows := list(islice(lines, _ROWS)):
        cells: list[list[str]] = [[] for _ in wanted]
        numbers: list[int] = []
        for number, row in enumerate(csv.reader(rows), line):
            if not any(map(str.strip, row)):
                continue
            if len(row) != len(titles):
                raise InputError(
                    f"expected {len(titles)} columns, found {len(row)}", file=str(path), key=f"line {number}"
                )
            numbers.append(number)
            for column, place in zip(cells, wanted, strict=True):
                column.append(row[place])
        line += len(rows)
        values = [
            _converted(
                path, titles[place], column, numbers, columns.date and place == wanted[0] and bool(columns.arrival)
            )
            for column, place in zip(cells, wanted, strict=True)
        ]
        for place, lengths in zip(wanted[-2:], values[-2:], strict=True):
            _expect_lengths(path, titles[place], lengths, numbers)
        parts.append(values)
    whole = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0)] * len(wanted)
    arrival = whole[0] if columns.arrival else np.zeros(len(whole[0]))
    return _made(path, arrival, whole[-2].astype(np.int64), whole[-1].astype(np.int64))


def _converted(path: Path, title: str, cells: Sequence[str], numbers: Sequence[int], date: bool) -> Floats:
    """A column as numbers; dates become seconds since 1970."""
    kind: Callable[[Any], Any] = _seconds if date else lambda column: np.array(column).astype(np.float64)
    try:
        found: Floats = kind(cells) if cells else np.zeros(0)
    except ValueError:
        for number, cell in zip(numbers, cells, strict=True):
            try:
                kind([cell])
            except ValueError:
                expected = "a date and time" if date else "a number"
                raise InputError(
                    f"expected {expected}, found '{cell}'", file=str(path), key=f"line {number}, {title}"
                ) from None
        raise
    if not np.isfinite(found).all():
        number = numbers[int(np.flatnonzero(~np.isfinite(found))[0])]
        raise InputError("expected a finite number", file=str(path), key=f"line {number}, {title}")
    return found


def _seconds(cells: Sequence[str]) -> Floats:
    """Dates with up to nine digits of a second and perhaps "+00:00", as seconds since 1970."""
    bare = np.char.partition(np.char.strip(np.array(cells)), "+")[:, 0]
    since = np.array(bare, dtype="datetime64[ns]")
    if np.isnat(since).any():
        raise ValueError("no date")
    whole = since.astype("datetime64[s]")
    return whole.astype(np.int64) + (since - whole).astype(np.int64) * 1e-9


def _expect_lengths(path: Path, title: str, column: Floats, numbers: Sequence[int]) -> None:
    wrong = (column < 0) | (column > LONGEST) | (column != np.rint(column))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"expected a whole number of tokens from 0 to {LONGEST:,}, found {column[row]:g}",
            file=str(path),
            key=f"line {numbers[row]}, {title}",
        )


def _json_lines(path: Path, known: str, first: str, lines: Iterator[str]) -> Trace:
    names = ("timestamp", "input_length", "output_length") if known == MOONCAKE else FIELDS[:3]
    shared, block_tokens = ("hash_ids", MOONCAKE_BLOCK) if known == MOONCAKE else ("blocks", 0)
    numbers: list[int] = []
    columns: list[list[float]] = [[], [], []]
    further: dict[str, list[float]] = {"user": [], "priority": []}
    blocks: list[list[int]] = []

    def number(row: Mapping[str, Any], name: str, line: int, default: float | None = None) -> float:
        value = row.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(f"expected a number, found {value!r}", file=str(path), key=f"line {line}, {name}")
        return value

    for line, text in enumerate((text for part in ([first], lines) for text in part), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise InputError(f"is no JSON: {error}", file=str(path), key=f"line {line}") from None
        if not isinstance(row, dict):
            raise InputError("expected an object", file=str(path), key=f"line {line}")
        if known == OWN and "block_tokens" in row and not numbers:
            block_tokens = int(number(row, "block_tokens", line))
            if block_tokens < 1:
                raise InputError("expected at least 1", file=str(path), key=f"line {line}, block_tokens")
            continue
        numbers.append(line)
        for column, name in zip(columns, names, strict=True):
            column.append(number(row, name, line))
        for name, column in further.items():
            column.append(number(row, name, line, 0))
        mine = row.get(shared, [])
        if not isinstance(mine, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in mine):
            raise InputError("expected a list of whole numbers", file=str(path), key=f"line {line}, {shared}")
        if mine and not block_tokens:
            raise InputError(
                'expected a first line {"block_tokens": n}, because blocks are given',
                file=str(path),
                key=f"line {line}",
            )
        if block_tokens and len(mine) != -(-int(columns[1][-1]) // block_tokens):
            raise InputError(
                f"expected one block for every {block_tokens} tokens of the prompt, found {len(mine)}",
                file=str(path),
                key=f"line {line}, {shared}",
            )
        blocks.append(mine)
    arrival, prompt, output = (np.array(column, np.float64) for column in columns)
    for name, lengths in ((names[1], prompt), (names[2], output)):
        _expect_lengths(path, name, lengths, numbers)
    if known == MOONCAKE:
        arrival = arrival / 1000.0
    whole = {}
    for name, values in further.items():
        whole[name] = np.array(values, np.float64)
        _expect_lengths(path, name, whole[name], numbers)
    sizes = np.array([len(one) for one in blocks], np.int64)
    flat = np.array([one for mine in blocks for one in mine], np.int64)
    return _made(
        path,
        arrival,
        prompt.astype(np.int64),
        output.astype(np.int64),
        **{name: column.astype(np.int64) for name, column in whole.items()},
        block_start=np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
        block=flat,
        block_tokens=block_tokens,
    )


def _made(path: Path, arrival: Floats, prompt: Ints, output: Ints, **further: Any) -> Trace:
    """The trace of a file's rows: those without an answer or a prompt left out, the others in order of arrival."""
    answered = (prompt > 0) & (output > 0)
    if not answered.any():
        raise InputError("holds no request", file=str(path))
    order = np.argsort(arrival, kind="stable")
    order = order[answered[order]]
    name = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    sizes = np.diff(further.get("block_start", np.zeros(len(arrival) + 1, np.int64)))[order]
    start = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    block = np.zeros(0, np.int64)
    if len(further.get("block", block)):
        first = further["block_start"][order]
        block = further["block"][np.repeat(first - start[:-1], sizes) + np.arange(start[-1])]
    return Trace(
        name=name,
        arrival=arrival[order] - arrival[order[0]],
        prompt=prompt[order],
        output=output[order],
        user=further.get("user", np.zeros(len(arrival), np.int64))[order],
        priority=further.get("priority", np.zeros(len(arrival), np.int64))[order],
        block_start=start,
        block=block,
        block_tokens=further.get("block_tokens", 0),
        skipped=int((~answered).sum()),
    )
