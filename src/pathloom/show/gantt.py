"""Gantt charts of timelines: an interactive Plotly figure and a printed Matplotlib picture of the same look.

Rows are resources, bars are spans, one colour an item. Kinds of work differ in lightness and hatching: by default
forward passes are saturated, backward passes light and hatched, losses dark, weight and synchronisation work grey.
Several timelines (plan, simulation, run) stand one below another over one axis of time.

Up to `BAR_LIMIT` spans the page draws real bars. Beyond that it draws one outline a colour and kind, whatever the
number of spans, and carries the spans once more as packed columns, from which the page of `pathloom.show.report`
answers what lies under the pointer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from pathloom.show.colours import BAND, COLOURED, GRID, INK, LOOKS, MUTED, Shade, sample_shades
from pathloom.show.gantt_layout import (
    BAR_HEIGHT,
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
from pathloom.show.gantt_pointer import axis_number, packed_spans
from pathloom.show.gantt_print import gantt_png
from pathloom.show.type_face import FONT_STACK
from pathloom.timeline import Timeline

__all__ = ["BAR_LIMIT", "Panel", "gantt_figure", "gantt_png"]

#: Most spans that are drawn as bars of their own; browsers get slow beyond.
BAR_LIMIT = 2500
#: Most items that get a legend entry each.
LEGEND_LIMIT = 40

_PANEL_SPACE = 46  # pixels above a panel, for its title
_MARGIN = {"l": 10, "r": 96, "t": 30, "b": 52}


def gantt_figure(
    timelines: Timeline | Mapping[str, Timeline] | Sequence[Panel],
    *,
    order: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    looks: Mapping[str, str] | None = None,
    title: str = "",
    stage_column: str = "stage",
    row_height: float | None = None,
) -> Any:
    """Gantt chart with zoom and hover.

    Parameters
    ----------
    timelines
        One timeline, ``{name: timeline}`` for several one below another, or `Panel` objects where the panels differ in
        the order, labels or groups of their rows.
    order, labels, groups
        As in `Panel`, for all panels.
    looks
        Kind name -> "solid", "light", "dark", "grey", "pale" or "tint", where the defaults do not fit.
    title
        Title of the figure.
    stage_column
        Column of the timeline that the hover text shows as the stage, if it has it.
    row_height
        Pixels a row; chosen by the number of rows if None.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ValueError
        If there is nothing to draw, or if names, units or looks do not fit.
    """
    import plotly.graph_objects as go

    layout = gantt_layout(as_panels(timelines, order, labels, groups), looks)
    rows = sum(panel.height for panel in layout.panels)
    pitch = row_height or _row_pixels(rows)
    bars = layout.spans <= BAR_LIMIT
    figure = go.Figure()
    short = layout.short_names()
    if bars:
        for position, panel in enumerate(layout.panels):
            _add_bars(figure, layout, panel, f"y{axis_number(position)}", short, stage_column, position == 0)
    else:
        for position, panel in enumerate(layout.panels):
            _add_outlines(figure, layout, panel, f"y{axis_number(position)}", bar_height(pitch))
    _add_legend_of_kinds(figure, layout)
    top = _MARGIN["t"] + (26 if title else 0)
    plot = sum(panel.height * pitch + _PANEL_SPACE for panel in layout.panels)
    legend_rows = -(-len(layout.coloured) // 24) if bars and len(layout.coloured) <= LEGEND_LIMIT else 0
    bottom = _MARGIN["b"] + 24 * legend_rows
    figure.update_layout(
        title={
            "text": escape(title),
            "x": 0,
            "xref": "paper",
            "font": {"size": 17},
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 14},
        },
        height=plot + top + bottom,
        margin={**_MARGIN, "t": top, "b": bottom},
        barmode="overlay",
        bargap=0,
        plot_bgcolor="#ffffff",
        paper_bgcolor="#ffffff",
        font={"family": FONT_STACK, "size": 12, "color": INK},
        hoverlabel={
            "bgcolor": "#ffffff",
            "bordercolor": "#c9d1d9",
            "font": {"color": INK, "size": 12},
            "align": "left",
        },
        hovermode="closest",
        uniformtext={"minsize": 8, "mode": "hide"},
        legend={
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": -40 / plot,
            "yanchor": "top",
            "traceorder": "normal",
            "font": {"size": 11},
            "itemwidth": 30,
            "entrywidth": 18,
            "entrywidthmode": "pixels",
        },
        legend2={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1 - (_PANEL_SPACE - 4) / plot,
            "yanchor": "bottom",
            "font": {"size": 12},
            "itemclick": False,
            "itemdoubleclick": False,
        },
        dragmode="zoom",
        meta={"gantt": packed_spans(layout, stage_column)} if not bars else None,
    )
    _style_axes(figure, layout, pitch, plot)
    return figure


def _row_pixels(rows: float) -> float:
    """Room for numbers on the bars of up to 50 rows, for a label at each of 100, and never a page without end."""
    rows = max(rows, 1.0)
    return min(22.0, max(1.5, 900 / rows, min(14.0, 1500 / rows)))


def _style_axes(figure: Any, layout: GanttLayout, pitch: float, plot: float) -> None:
    """One shared axis of time, one axis of rows a panel, group bands and titles, and the line of each makespan."""
    end = layout.end or 1.0
    last = len(layout.panels) - 1
    figure.update_layout(
        xaxis={
            "range": [0, end * 1.015],
            "anchor": f"y{axis_number(last)}",
            "showgrid": True,
            "gridcolor": GRID,
            "zeroline": False,
            "ticks": "outside",
            "tickcolor": GRID,
            "ticksuffix": f" {layout.unit}",
            "minallowed": -0.05 * end,
            "maxallowed": 1.2 * end,
            "tickfont": {"color": MUTED},
        }
    )
    floor = plot
    for position, panel in enumerate(layout.panels):
        ceiling = floor - _PANEL_SPACE
        floor = ceiling - panel.height * pitch
        values, names = row_ticks(panel, pitch)
        texts = [escape(name) for name in names]
        figure.update_layout(
            {
                f"yaxis{axis_number(position)}": {
                    "domain": [max(0.0, floor / plot), ceiling / plot],
                    "range": [panel.height, 0],
                    "anchor": "x",
                    "tickmode": "array",
                    "tickvals": values,
                    "ticktext": texts,
                    "showgrid": False,
                    "zeroline": False,
                    "automargin": True,
                    "ticksuffix": "\u00a0\u00a0",
                    "fixedrange": pitch >= 12,
                    "ticks": "",
                    "tickfont": {"size": 11 if pitch >= 14 else 10},
                }
            }
        )
        axis = f"y{axis_number(position)}"
        for number, group in enumerate(panel.groups):
            if number % 2 == 0:
                figure.add_shape(
                    type="rect",
                    xref="paper",
                    x0=0,
                    x1=1,
                    yref=axis,
                    y0=group.top,
                    y1=group.bottom,
                    fillcolor=BAND,
                    line_width=0,
                    layer="below",
                )
            if pitch >= LABEL_PITCH:  # else the groups are named on the left
                figure.add_annotation(
                    text=escape(group.title),
                    xref="paper",
                    x=1,
                    xanchor="left",
                    xshift=8,
                    yref=axis,
                    y=(group.top + group.bottom) / 2,
                    showarrow=False,
                    font={"color": MUTED, "size": 12},
                )
        makespan = panel.panel.timeline.makespan
        figure.add_shape(
            type="line",
            xref="x",
            x0=makespan,
            x1=makespan,
            yref=axis,
            y0=0,
            y1=panel.height,
            line={"color": INK, "width": 1, "dash": "dot"},
            layer="above",
        )
        name = f"<b>{escape(panel.panel.name)}</b>&nbsp;&nbsp;" if panel.panel.name else ""
        figure.add_annotation(
            text=f"{name}<span style='color:{MUTED}'>ends at {duration_text(makespan, layout.unit)}</span>",
            xref="paper",
            x=0,
            xanchor="left",
            yref="paper",
            y=ceiling / plot,
            yanchor="bottom",
            yshift=6,
            showarrow=False,
            font={"size": 14 if name else 12},
            align="left",
        )


def _stage_texts(timeline: Timeline, stage_column: str) -> list[str]:
    column = timeline.columns.get(stage_column)
    return [""] * len(timeline) if column is None else [f"{stage_column} {value}<br>" for value in column.tolist()]


def _add_bars(
    figure: Any, layout: GanttLayout, panel: PanelLayout, axis: str, short: list[str], stage_column: str, first: bool
) -> None:
    """Traces of bars, the plain ones and each kind of hatching apart, as the hatching of a trace has one colour.

    One set of traces an item where items have legend entries, which hide and single out, else one set a colour.
    """
    import plotly.graph_objects as go

    timeline = panel.panel.timeline
    label = dict(zip(panel.rows.tolist(), panel.labels))
    stages = _stage_texts(timeline, stage_column)
    legend = len(layout.coloured) <= LEGEND_LIMIT
    hues = [shade["solid"].fill for shade in layout.shades]
    series = np.arange(len(hues)) if legend else np.array([hues.index(hue) for hue in hues], dtype=np.int64)
    sample = sample_shades()
    pattern = np.array([position if sample[look].hatch else -1 for position, look in enumerate(LOOKS)])[panel.look]
    pairs = np.unique(np.stack((series[panel.item], pattern), axis=1), axis=0).tolist() if len(timeline) else []
    for which, lines in pairs:
        rows = np.flatnonzero((series[panel.item] == which) & (pattern == lines)).tolist()
        own: list[Shade] = [layout.shades[panel.item[row]][LOOKS[panel.look[row]]] for row in rows]
        coloured = which in layout.coloured
        marker = {"color": [shade.fill for shade in own]} if lines < 0 else _hatched(own[0])
        figure.add_trace(
            go.Bar(
                orientation="h",
                base=timeline.start[rows],
                x=timeline.end[rows] - timeline.start[rows],
                y=panel.y[rows],
                width=BAR_HEIGHT,
                yaxis=axis,
                marker=marker,
                text=[short[panel.item[row]] if LOOKS[panel.look[row]] in COLOURED else "" for row in rows],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": [shade.text for shade in own], "size": 10},
                hovertext=[
                    f"<b>{escape(layout.items[panel.item[row]])}</b> {escape(timeline.kinds[timeline.kind[row]])}<br>"
                    f"{stages[row]}"
                    f"{escape(label[int(timeline.resource[row])])}<br>"
                    f"{timeline.start[row]:,.3f} to {timeline.end[row]:,.3f} {layout.unit}<br>"
                    f"lasts {timeline.end[row] - timeline.start[row]:,.3f} {layout.unit}"
                    for row in rows
                ],
                hovertemplate="%{hovertext}<extra></extra>",
                name=short[which] if coloured else layout.items[which],
                legendgroup=layout.items[which],
                legendrank=1000 + which,
                showlegend=first and legend and coloured and [which, lines] == next(p for p in pairs if p[0] == which),
            )
        )


def _hatched(shade: Shade) -> dict[str, Any]:
    return {
        "color": shade.fill,
        "line": {"width": 0.6, "color": shade.hatch},
        "pattern": {
            "shape": "/",
            "fgcolor": shade.hatch,
            "bgcolor": shade.fill,
            "fillmode": "replace",
            "size": 6,
            "solidity": 0.25,
            "fgopacity": 1,
        },
    }


def _add_outlines(figure: Any, layout: GanttLayout, panel: PanelLayout, axis: str, height: float) -> None:
    """All spans of one shade as one filled outline."""
    import plotly.graph_objects as go

    timeline = panel.panel.timeline
    for (shade, look), rows in rows_by_shade(layout, panel).items():
        corners = np.full((len(rows), 5, 2), np.nan, dtype=np.float32)
        corners[:, :4] = corners_of(timeline.start[rows], timeline.end[rows], panel.y[rows], height)
        figure.add_trace(
            go.Scatter(
                x=corners[:, :, 0].ravel(),
                y=corners[:, :, 1].ravel(),
                yaxis=axis,
                mode="lines",
                line={"width": 0, "simplify": False},
                fill="toself",
                fillcolor=shade.fill if look != "light" else shade.hatch,
                hoverinfo="skip",
                showlegend=False,
            )
        )


def _add_legend_of_kinds(figure: Any, layout: GanttLayout) -> None:
    import plotly.graph_objects as go

    sample = sample_shades()
    for kind, look in layout.looks.items():
        shade = sample[look]
        figure.add_trace(
            go.Bar(
                x=[None],
                y=[None],
                orientation="h",
                name=kind,
                legend="legend2",
                showlegend=True,
                hoverinfo="skip",
                marker=_hatched(shade) if shade.hatch else {"color": shade.fill},
            )
        )
