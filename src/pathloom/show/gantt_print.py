"""Gantt charts in print: the chart of `pathloom.show.gantt` drawn with Matplotlib.

Spans go into one collection a colour and kind, so that a picture of many spans costs pixels rather than objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.show.colours import BAND, COLOURED, GRID, INK, LOOKS, MUTED, sample_shades
from pathloom.show.gantt_layout import (
    LABEL_PITCH,
    GanttLayout,
    Panel,
    PanelLayout,
    as_panels,
    bar_height,
    corners_of,
    duration_text,
    gantt_layout,
    row_ticks,
    rows_by_shade,
)
from pathloom.show.type_face import print_font
from pathloom.timeline import Timeline

#: Print is finer than a screen: a point carries as much as this many pixels.
_PITCH = 1.6


def draw_gantt(axes: Any, layout: GanttLayout, panel: PanelLayout, *, row_points: float, plot_points: float) -> None:
    """Draw one panel onto Matplotlib axes.

    Parameters
    ----------
    axes
        ``matplotlib.axes.Axes``; its limits, ticks and labels are set.
    layout, panel
        The chart and which of its panels.
    row_points
        Height of a row in points (1/72 inch), which decides about text and hatching.
    plot_points
        Width of the axes in points.
    """
    from matplotlib import rc_context
    from matplotlib.collections import PolyCollection
    from matplotlib.transforms import blended_transform_factory

    timeline = panel.panel.timeline
    pitch = row_points * _PITCH
    tall = bar_height(pitch)
    fine = layout.spans <= 4000 and row_points >= 6
    for number, group in enumerate(panel.groups):
        if number % 2 == 0:
            axes.axhspan(group.top, group.bottom, facecolor=BAND, edgecolor="none", zorder=0)
    for (shade, look), rows in rows_by_shade(layout, panel).items():
        hatched = fine and bool(shade.hatch)
        fill = shade.fill if fine or look != "light" else shade.hatch
        with rc_context({"hatch.color": shade.hatch or shade.fill, "hatch.linewidth": 0.7}):
            axes.add_collection(
                PolyCollection(
                    list(corners_of(timeline.start[rows], timeline.end[rows], panel.y[rows], tall)),
                    facecolors=fill,
                    edgecolors=(shade.hatch or shade.fill) if fine else "none",
                    linewidths=0.5 if fine else 0,
                    hatch="//////" if hatched else None,
                    zorder=2,
                    antialiaseds=fine,
                    rasterized=not fine,
                ),
                autolim=False,
            )
    end = (layout.end or 1.0) * 1.012
    if fine:
        size = min(6.5, row_points * 0.6)
        short = layout.short_names()
        width = (timeline.end - timeline.start) / end * plot_points
        for row in np.flatnonzero(panel.look < len(COLOURED)).tolist():
            text = short[panel.item[row]]
            if width[row] > size * 0.62 * len(text) + 1.5:
                shade = layout.shades[panel.item[row]][LOOKS[panel.look[row]]]
                axes.text(
                    (timeline.start[row] + timeline.end[row]) / 2,
                    panel.y[row],
                    text,
                    ha="center",
                    va="center_baseline",
                    fontsize=size,
                    color=shade.text,
                    zorder=3,
                    clip_on=True,
                    fontweight="bold" if LOOKS[panel.look[row]] == "light" else "normal",
                )
    makespan = timeline.makespan
    axes.plot([makespan, makespan], [0, panel.height], color=INK, lw=0.8, ls=(0, (2, 2)), zorder=4)
    axes.set_xlim(0, end)
    axes.set_ylim(panel.height + 0.15, -0.15)
    values, texts = row_ticks(panel, pitch)
    axes.set_yticks(values, texts, fontsize=min(8.5, row_points * 0.72) if pitch >= LABEL_PITCH else 8.5)
    axes.tick_params(axis="both", length=0, colors=INK)
    axes.tick_params(axis="x", labelsize=8.5, colors=MUTED)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} {layout.unit}")
    axes.grid(axis="x", color=GRID, lw=0.7, zorder=1)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    if pitch >= LABEL_PITCH:
        for group in panel.groups:
            axes.text(
                1.006,
                (group.top + group.bottom) / 2,
                group.title,
                transform=beside,
                fontsize=8.5,
                color=MUTED,
                va="center",
                ha="left",
            )
    ending = f"ends at {duration_text(makespan, layout.unit)}"
    name = axes.annotate(
        panel.panel.name,
        (0, 1),
        (0, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=11,
        fontweight="bold",
        color=INK,
        va="bottom",
    )
    axes.annotate(
        ending,
        (1, 0) if panel.panel.name else (0, 0),
        (8, 0) if panel.panel.name else (0, 0),
        xycoords=name,
        textcoords="offset points",
        fontsize=9.5,
        color=MUTED,
        va="bottom",
    )


def draw_legend(axes: Any, layout: GanttLayout, *, y: float) -> None:
    """Write the kinds, with a sample of each, above the right end of Matplotlib `axes`, `y` points above it."""
    from matplotlib import rc_context
    from matplotlib.patches import Patch

    if not layout.looks:
        return
    sample = sample_shades()
    handles = []
    for kind, look in layout.looks.items():
        shade = sample[look]
        with rc_context({"hatch.color": shade.hatch or shade.fill, "hatch.linewidth": 0.7}):
            handles.append(
                Patch(
                    facecolor=shade.fill,
                    edgecolor=shade.hatch or shade.fill,
                    linewidth=0.5,
                    hatch="//////" if shade.hatch else None,
                    label=kind,
                )
            )
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1 + y / height),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.8,
        handleheight=0.9,
        columnspacing=1.4,
    )


def gantt_png(
    timelines: Timeline | Mapping[str, Timeline] | Sequence[Panel],
    path: Path,
    *,
    order: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    looks: Mapping[str, str] | None = None,
    title: str = "",
    width: float = 14.0,
    dpi: int = 160,
) -> Path:
    """Draw the chart of `gantt_figure` as a PNG (or any format that Matplotlib knows by the suffix of `path`).

    Parameters
    ----------
    timelines, order, labels, groups, looks, title
        As in `gantt_figure`.
    width
        Width in inches; the height follows from the rows.
    dpi
        Dots an inch.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        As in `gantt_figure`.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = gantt_layout(as_panels(timelines, order, labels, groups), looks)
    with rc_context(print_font()):
        inches = gantt_inches(layout)
        head = 0.5 if title else 0.1
        figure = Figure(figsize=(width, inches + head), facecolor="white")
        FigureCanvasAgg(figure)
        place_gantt(figure, layout, top=1 - head / (inches + head), bottom=0.0)
        if title:
            figure.text(
                0.25 / width, 1 - 0.16 / (inches + head), title, fontsize=14, fontweight="bold", color=INK, va="top"
            )
        figure.savefig(path, dpi=dpi)
    return path


def _row_inches(layout: GanttLayout) -> float:
    rows = sum(panel.height for panel in layout.panels)
    return min(0.21, max(0.012, 11.0 / max(rows, 1.0)))


def gantt_inches(layout: GanttLayout) -> float:
    """Height that `place_gantt` needs, in inches."""
    return sum(p.height * _row_inches(layout) + 0.42 for p in layout.panels) + 0.4


def place_gantt(figure: Any, layout: GanttLayout, *, top: float, bottom: float) -> None:
    """Draw all panels into the band of a Matplotlib figure between `bottom` and `top` (fractions of its height)."""
    width, height = figure.get_size_inches()
    row = _row_inches(layout)
    scale = (top - bottom) / (gantt_inches(layout) / height)
    longest = max(
        (len(label) for panel in layout.panels for label in row_ticks(panel, row * 72 * _PITCH)[1]), default=4
    )
    left = min(0.3, (0.42 + 0.067 * longest) / width)
    titles = max((len(group.title) for panel in layout.panels for group in panel.groups), default=0)
    right = 1 - (0.2 + 0.075 * titles) / width
    y = top
    shared = None
    for position, panel in enumerate(layout.panels):
        y -= 0.42 * scale / height
        tall = max(1.0, panel.height) * row * scale / height
        axes = figure.add_axes((left, y - tall, right - left, tall), sharex=shared)
        shared = shared or axes
        draw_gantt(axes, layout, panel, row_points=row * 72, plot_points=(right - left) * width * 72)
        if position < len(layout.panels) - 1:
            axes.tick_params(axis="x", labelbottom=False)
        if position == 0:
            draw_legend(axes, layout, y=7)
        y -= tall
