"""Pictures of what removing stages does: perplexity against the number of removed stages, in print and as a page.

A point is one set of removed stages, the line is the mean over the sets, the band reaches from the best to the worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathloom.learn.language_model.stage_orders import shown
from pathloom.show.colours import GRID, INK, MUTED, group_colours

if TYPE_CHECKING:
    from pathloom.learn.language_model.evaluation import Removal

COLUMNS = ("stages removed", "sets", "mean loss", "mean perplexity", "best", "without", "worst", "without")

_CAPTION = "One point a set of removed stages; the line is the mean perplexity, the band reaches from best to worst."
_LOG_FROM = 4.0
"""Ratio of the largest to the smallest perplexity from which the axis is logarithmic."""
_MOST_POINTS = 2000

Curves = Mapping[str, Sequence["Removal"]]


def removal_rows(curve: Sequence[Removal]) -> list[tuple[str, ...]]:
    """Cells for `COLUMNS`, one row a number of removed stages."""
    rows: list[tuple[str, ...]] = []
    for row in curve:
        best, worst = row.evaluations[row.best], row.evaluations[row.worst]
        rows.append(
            (
                str(row.removed),
                str(len(row.sets)) + ("" if row.complete else " drawn"),
                f"{row.mean_loss:.4f}",
                figure_text(row.mean_perplexity),
                figure_text(best.perplexity),
                shown(row.sets[row.best]) if row.removed else "-",
                figure_text(worst.perplexity),
                shown(row.sets[row.worst]) if row.removed else "-",
            )
        )
    return rows


def figure_text(value: float) -> str:
    """A perplexity with four digits, and all digits before the point."""
    if not math.isfinite(value):
        return "inf"
    return f"{value:.{max(0, 3 - math.floor(math.log10(max(value, 1e-9))))}f}" if value < 1e4 else f"{value:.2e}"


def removal_png(path: Path, curves: Curves, *, title: str, subtitle: str = "", dpi: int = 150) -> Path:
    """Draw curves of one or more models into a PNG (or any format that Matplotlib knows by the suffix of `path`).

    Parameters
    ----------
    curves
        Name of the model to its curve, from `pathloom.learn.language_model.evaluation.removal_curve`.
    title, subtitle
        Plain text.

    Returns
    -------
    Path
        `path`.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    from pathloom.show.type_face import print_font

    width, height = 9.0, 5.4
    with rc_context(print_font()):
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(0.03, 0.97, title, fontsize=16, fontweight="bold", color=INK, va="top")
        figure.text(0.03, 0.90, subtitle, fontsize=10, color=MUTED, va="top")
        named = len(curves) > 1
        axes = figure.add_axes((0.085, 0.115, 0.885 - (0.14 if named else 0.0), 0.665))
        for curve, colour in zip(curves.values(), group_colours(len(curves))):
            x, y = _points(curve)
            axes.plot(x, y, "o", ms=4, mew=0, color=colour, alpha=0.35, zorder=3)
            numbers, mean, best, worst = _lines(curve)
            axes.fill_between(numbers, best, worst, color=colour, alpha=0.12, lw=0, zorder=1)
            axes.plot(numbers, mean, "-o", color=colour, lw=2, ms=6, mec="white", mew=1, zorder=4)
            for number, value in zip(numbers, mean):
                if not named and math.isfinite(value):
                    axes.annotate(
                        figure_text(value), (number, value), (-5, 7), textcoords="offset points", fontsize=9, color=INK,
                        ha="right", fontweight="bold", zorder=5,
                    )  # fmt: skip
        values = _finite(curves)
        low, high, log = _axis(values)
        if log:
            axes.set_yscale("log")
            ticks = _log_ticks(low, high)
            axes.yaxis.set_major_locator(FixedLocator(ticks))
            axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(low, high)
        most = max((row.removed for curve in curves.values() for row in curve), default=0)
        axes.set_xlim(-0.35, most + 0.25)
        axes.set_xticks(range(most + 1))
        axes.set_xlabel("stages removed", fontsize=10, color=MUTED)
        figure.text(0.03, 0.835, _y_title(log), fontsize=10, color=MUTED, va="top")
        axes.tick_params(length=0, labelsize=9.5, colors=INK)
        axes.grid(axis="y", color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if named:
            _write_names(axes, curves)
        figure.savefig(path, dpi=dpi)
    return path


def removal_figure(curves: Curves) -> Any:
    """The curves as an interactive figure; points tell which stages are missing.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    import plotly.graph_objects as go

    from pathloom.show.type_face import FONT_STACK

    figure = go.Figure()
    for (name, curve), colour in zip(curves.items(), group_colours(len(curves))):
        numbers, mean, best, worst = _lines(curve)
        figure.add_scatter(
            x=numbers + numbers[::-1], y=worst + best[::-1], fill="toself", fillcolor=colour, opacity=0.14,
            line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
        chosen = _chosen(curve)
        figure.add_scatter(
            x=[row.removed for row, _ in chosen],
            y=[row.evaluations[i].perplexity for row, i in chosen],
            customdata=[[shown(row.sets[i]), row.evaluations[i].loss] for row, i in chosen],
            mode="markers", marker={"color": colour, "size": 7, "opacity": 0.45}, showlegend=False, legendgroup=name,
            hovertemplate="without %{customdata[0]}<br>perplexity %{y:.5g}, loss %{customdata[1]:.4f}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=numbers, y=mean, name=name, mode="lines+markers", legendgroup=name,
            line={"color": colour, "width": 2.5}, marker={"size": 9, "line": {"color": "white", "width": 1}},
            hovertemplate="%{x} removed: mean perplexity %{y:.5g}<extra></extra>",
        )  # fmt: skip
    low, high, log = _axis(_finite(curves))
    axis: dict[str, Any] = {"title": {"text": _y_title(log)}, "gridcolor": GRID, "zeroline": False}
    if log:
        ticks = _log_ticks(low, high)
        axis |= {"type": "log", "range": [math.log10(low), math.log10(high)], "tickvals": ticks}
        axis["ticktext"] = [f"{tick:g}" for tick in ticks]
    else:
        axis["range"] = [low, high]
    figure.update_layout(
        height=460,
        margin={"l": 70, "r": 20, "t": 20, "b": 55},
        paper_bgcolor="white",
        plot_bgcolor="white",
        font={"family": FONT_STACK, "size": 13, "color": INK},
        xaxis={"title": {"text": "stages removed"}, "dtick": 1, "showgrid": False, "zeroline": False},
        yaxis=axis,
        showlegend=len(curves) > 1,
        legend={"orientation": "h", "y": 1.08},
    )
    return figure


def removal_page(path: Path, curves: Curves, *, title: str, subtitle: str = "") -> Path:
    """Write the interactive figure and the table of every curve as one page that needs no network."""
    from pathloom.show.report import html_report

    named = len(curves) > 1
    return html_report(
        path,
        title=title,
        subtitle=subtitle,
        columns=("model", *COLUMNS) if named else COLUMNS,
        rows=[(name, *row) if named else row for name, curve in curves.items() for row in removal_rows(curve)],
        figures=[(removal_figure(curves), _CAPTION)],
        notes=["Stage 0 always stays, as it holds the embedding and the head."],
    )


def _write_names(axes: Any, curves: Curves) -> None:
    """Write each model's name behind the end of its line, moved apart where lines end close together."""
    ends = []
    for (name, curve), colour in zip(curves.items(), group_colours(len(curves))):
        numbers, mean, _, _ = _lines(curve)
        if numbers and math.isfinite(mean[-1]):
            point = axes.transData.transform((numbers[-1], mean[-1])) / axes.figure.dpi * 72
            ends.append((float(point[1]), numbers[-1], mean[-1], name, colour))
    lowest = -math.inf
    for y, number, value, name, colour in sorted(ends):
        place = max(y, lowest)
        lowest = place + 13
        axes.annotate(
            name, (number, value), (10, place - y), textcoords="offset points", va="center", fontsize=10,
            fontweight="bold", color=colour, annotation_clip=False,
        )  # fmt: skip


def _y_title(log: bool) -> str:
    return "perplexity (logarithmic)" if log else "perplexity"


def _lines(curve: Sequence[Removal]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Numbers of removed stages, and mean, lowest and highest perplexity for each."""
    return (
        [row.removed for row in curve],
        [row.mean_perplexity for row in curve],
        [row.evaluations[row.best].perplexity for row in curve],
        [row.evaluations[row.worst].perplexity for row in curve],
    )


def _chosen(curve: Sequence[Removal]) -> list[tuple[Removal, int]]:
    """Evaluations to draw as points, thinned evenly where there are very many."""
    every = [(row, i) for row in curve for i in range(len(row.sets))]
    return every[:: -(-len(every) // _MOST_POINTS)] if every else []


def _points(curve: Sequence[Removal]) -> tuple[list[int], list[float]]:
    chosen = _chosen(curve)
    return [row.removed for row, _ in chosen], [row.evaluations[i].perplexity for row, i in chosen]


def _finite(curves: Curves) -> list[float]:
    found = [e.perplexity for curve in curves.values() for row in curve for e in row.evaluations]
    return [value for value in found if math.isfinite(value)] or [1.0]


def _axis(values: Sequence[float]) -> tuple[float, float, bool]:
    """Limits of the axis of perplexity, and whether it is logarithmic."""
    low, high = min(values), max(values)
    if high > _LOG_FROM * low:
        return low / 1.25, high * 1.25, True
    room = max(high - low, 0.02 * high)
    return low - 0.12 * room, high + 0.15 * room, False


def _log_ticks(low: float, high: float) -> list[float]:
    """Numbers 1, 2, 5 times powers of ten between the limits; powers alone where that would be many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 4 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    apart = max(1, (last - first) // 10)
    return [tick for tick in ticks if low <= tick <= high][::apart]
