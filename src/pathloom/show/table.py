"""Tables from column titles and rows of cells: for the terminal, for Markdown, for HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

_NUMBER = re.compile(
    r"^[<>\u2264\u2265~\u00b1+\-\u2212]?\s*[\d,]*\.?\d+(e[+-]?\d+)?\s*(%|[a-zA-Zµ]{1,3}(/[a-zA-Z]+)?)?$"
)
_EMPTY = {"", "-", "\u2013", "\u2014"}


def checked_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """`rows` as lists of text.

    Raises
    ------
    ValueError
        If a row has another number of cells than there are columns.
    """
    found = [[str(cell) for cell in row] for row in rows]
    for number, row in enumerate(found):
        if len(row) != len(columns):
            raise ValueError(f"row {number} has {len(row)} cells for {len(columns)} columns")
    return found


def numeric_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns hold numbers (a unit or a percent sign may follow) and are therefore set flush right."""
    cells = checked_rows(columns, rows)
    numeric = []
    for position in range(len(columns)):
        said = [row[position].strip() for row in cells if row[position].strip() not in _EMPTY]
        numeric.append(bool(said) and all(_NUMBER.match(cell) for cell in said))
    return numeric


def rich_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", best: int | None = None
) -> Any:
    """A ``rich.table.Table``; the row `best` is bold. Cells are plain text, square brackets in them too."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column, number in zip(columns, numeric_columns(columns, rows)):
        table.add_column(Text(column), justify="right" if number else "left")
    for position, row in enumerate(checked_rows(columns, rows)):
        table.add_row(*(Text(cell) for cell in row), style="bold" if position == best else None)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned pipes; bars and line breaks in cells are escaped."""

    def safe(cell: str) -> str:
        return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", "<br>")

    numeric = numeric_columns(columns, rows)
    cells = [[safe(cell) for cell in row] for row in ([str(c) for c in columns], *checked_rows(columns, rows))]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        padded = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric))
        return "| " + " | ".join(padded) + " |"

    rule = "| " + " | ".join("-" * (w - 1) + ":" if n else "-" * w for w, n in zip(widths, numeric)) + " |"
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, best: int | None = None) -> str:
    """An HTML table without style; numbers have the class "n", the row `best` has the class "best"."""
    kinds = [' class="n"' if number else "" for number in numeric_columns(columns, rows)]
    head = "".join(f'<th scope="col"{kind}>{escape(str(column))}</th>' for column, kind in zip(columns, kinds))
    body = "".join(
        f"<tr{' class=best' if position == best else ''}>"
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, kinds))
        + "</tr>\n"
        for position, row in enumerate(checked_rows(columns, rows))
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
