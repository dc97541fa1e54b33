"""Reports: one page of HTML that works without a network, and one picture with the same content.

The page carries its style, its figures and one copy of plotly.js. A figure whose layout holds ``meta["gantt"]`` (a
Gantt chart too large for hover texts, see `pathloom.show.gantt`) gets a pointer that finds the span under it by binary
search.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from pathloom.show.colours import GRID, INK, MUTED
from pathloom.show.gantt_layout import Panel, as_panels, gantt_layout
from pathloom.show.gantt_print import gantt_inches, place_gantt
from pathloom.show.map_layout import NodeMap
from pathloom.show.table import checked_rows, html_table, numeric_columns
from pathloom.show.type_face import FONT_STACK, print_font
from pathloom.show.world_map import draw_map, map_ratio
from pathloom.timeline import Timeline

_CONFIG = (
    '{"responsive":true,"displaylogo":false,"modeBarButtonsToRemove":["select2d","lasso2d","autoScale2d"],'
    '"toImageButtonOptions":{"format":"png","scale":2}}'
)


def _json_safe(text: str) -> str:
    """JSON for use inside a <script> element: a "<" can stand only within its strings, where it may be written so."""
    return text.replace("<", "\\u003c")


def _code_safe(text: str) -> str:
    """Code for use inside a <script> element, which the first "</script" would end, even one within a string."""
    return re.sub(r"</(?=script)", r"<\\/", text, flags=re.IGNORECASE)


def html_report(
    path: Path,
    *,
    title: str,
    subtitle: str = "",
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    best: int | None = None,
    figures: Sequence[tuple[Any, str]] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write a self-contained page.

    Parameters
    ----------
    path
        File to write.
    title, subtitle
        Plain text.
    columns, rows
        Titles and cells of a table; no table without columns.
    best
        Position of the row to set apart.
    figures
        (Plotly figure, caption) pairs, in order; captions are plain text.
    notes
        Paragraphs of plain text at the end.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        If a row of the table has another number of cells than there are columns.
    """
    from plotly.offline import get_plotlyjs

    assets = files("pathloom.show")
    style = assets.joinpath("report.css").read_text(encoding="utf-8").replace("FONT_STACK", FONT_STACK)
    script = assets.joinpath("report.js").read_text(encoding="utf-8")
    table = f'<div class="scroll">{html_table(columns, rows, best=best)}</div>' if columns else ""
    blocks, data = [], []
    for number, (figure, caption) in enumerate(figures):
        text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        height = int(figure.layout.height or 450)
        blocks.append(
            f'<figure>{text}<div class="scroll">'
            f'<div class="plot" id="plot{number}" style="height:{height}px"></div></div></figure>'
        )
        data.append(
            f'<script type="application/json" id="data{number}">{_json_safe(figure.to_json(engine="json"))}</script>'
        )
    library = f"<script>{_code_safe(get_plotlyjs())}</script>" if figures else ""
    start = f"<script>{_code_safe(script)}\npathloomPlots({len(data)}, {_CONFIG});</script>" if figures else ""
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    path.write_text(
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header><h1>{escape(title)}</h1>{f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""}</header>
{table}
{"".join(blocks)}
{f'<section class="notes">{said}</section>' if said else ""}
</main>
{"".join(data)}
{library}
{start}
</body>
</html>
""",
        encoding="utf-8",
    )
    return path


def png_report(
    path: Path,
    timelines: Timeline | Mapping[str, Timeline] | Sequence[Panel],
    *,
    node_map: NodeMap | None = None,
    title: str = "",
    subtitle: str = "",
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
    best: int | None = None,
    order: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    looks: Mapping[str, str] | None = None,
    width: float = 14.0,
    dpi: int = 150,
) -> Path:
    """Draw title, table, Gantt chart and map into one PNG.

    Parameters
    ----------
    path
        File to write.
    timelines, order, labels, groups, looks
        As in `pathloom.show.gantt.gantt_figure`.
    node_map
        Map under the chart; none if None.
    title, subtitle, columns, rows, best
        As in `html_report`.
    width
        Inches; the height follows from the content.
    dpi
        Dots an inch.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        As in `pathloom.show.gantt.gantt_figure` and `html_report`.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = gantt_layout(as_panels(timelines, order, labels, groups), looks)
    cells = checked_rows(columns, rows)
    side = 0.35
    head = 0.25 + (0.42 if title else 0) + (0.3 if subtitle else 0)
    table = 0.3 * (len(cells) + 1) + 0.25 if columns else 0.0
    chart = gantt_inches(layout)
    chart_width = width - 2 * side
    world = chart_width * map_ratio(node_map) + 0.6 if node_map is not None else 0.0
    height = head + table + chart + world + 0.25
    with rc_context(print_font()):
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)
        if title:
            figure.text(side / width, 1 - 0.25 / height, title, fontsize=18, fontweight="bold", color=INK, va="top")
        if subtitle:
            y = 1 - (0.25 + (0.42 if title else 0)) / height
            figure.text(side / width, y, subtitle, fontsize=11, color=MUTED, va="top")
        if columns:
            _draw_table(figure, columns, cells, best, left=side, top=head + 0.1, width=chart_width)
        top = 1 - (head + table) / height
        place_gantt(figure, layout, top=top, bottom=top - chart / height)
        if node_map is not None:
            axes = figure.add_axes((side / width, 0.2 / height, chart_width / width, (world - 0.6) / height))
            draw_map(axes, node_map, width_points=chart_width * 72)
        figure.savefig(path, dpi=dpi)
    return path


def _draw_table(
    figure: Any,
    columns: Sequence[str],
    cells: list[list[str]],
    best: int | None,
    *,
    left: float,
    top: float,
    width: float,
) -> None:
    """Write a table with hairlines; `left`, `top` and `width` in inches from the upper left corner."""
    from matplotlib.lines import Line2D

    total, height = figure.get_size_inches()
    numeric = numeric_columns(columns, cells)
    longest = [max(len(text) for text in column) + 4 for column in zip([str(c) for c in columns], *cells)]
    inch = min(0.082, width / sum(longest))
    size = 9.5 * min(1.0, inch / 0.078)
    edge = [left]
    for letters in longest:
        edge.append(edge[-1] + letters * inch)

    def rule(y: float, colour: str, weight: float) -> None:
        ends = [left / total, edge[-1] / total]
        figure.add_artist(Line2D(ends, [1 - y / height] * 2, color=colour, lw=weight))

    for number, row in enumerate([[str(c) for c in columns], *cells]):
        y = top + 0.3 * number
        for position, text in enumerate(row):
            x = edge[position + 1] - 0.28 if numeric[position] else edge[position]
            figure.text(
                x / total,
                1 - (y + 0.13) / height,
                text,
                fontsize=size,
                ha="right" if numeric[position] else "left",
                va="center_baseline",
                color=MUTED if number == 0 else INK,
                fontweight="bold" if number and number - 1 == best else "normal",
            )
        rule(y + 0.28, MUTED if number == 0 else GRID, 0.8)
