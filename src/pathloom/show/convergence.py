"""Convergence of searches: best value and proven bound over time, one colour a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pathloom.show.colours import GRID, INK, group_colours
from pathloom.show.type_face import FONT_STACK, print_font

Step = Sequence[Any]
"""(seconds, best value or None, bound or None, ...)."""


def _line(steps: Sequence[Step], column: int, end: float) -> tuple[list[float], list[float]]:
    """Times and values of one column, held until `end`."""
    times: list[float] = []
    values: list[float] = []
    for step in steps:
        value = step[column]
        if value is not None and (not values or value != values[-1]):
            times.append(float(step[0]))
            values.append(float(value))
    if values and times[-1] < end:
        times.append(end)
        values.append(values[-1])
    return times, values


def convergence_figure(runs: Mapping[str, Sequence[Step]], *, unit: str = "", title: str = "") -> Any:
    """Interactive figure: value as a full line, bound as a dotted one; seconds on a logarithmic axis.

    Parameters
    ----------
    runs
        Method -> its improvements in order of time.
    unit
        Of the values.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    import plotly.graph_objects as go

    end = _end(runs)
    figure = go.Figure()
    for (name, steps), colour in zip(runs.items(), group_colours(len(runs)), strict=True):
        for column, dash, what in ((1, "solid", "best"), (2, "dot", "bound")):
            times, values = _line(steps, column, end)
            if not values:
                continue
            figure.add_scatter(
                x=[max(time, 1e-3) for time in times],
                y=values,
                name=f"{name}: {what}",
                mode="lines",
                line={"shape": "hv", "color": colour, "dash": dash, "width": 2},
                hovertemplate=f"{name}, {what}: %{{y}} after %{{x:.2f}} s<extra></extra>",
            )
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 17}},
        height=360,
        margin={"l": 60, "r": 20, "t": 50 if title else 20, "b": 50},
        plot_bgcolor="#ffffff",
        paper_bgcolor="#ffffff",
        font={"family": FONT_STACK, "size": 12, "color": INK},
    )
    figure.update_xaxes(type="log", title="seconds", gridcolor=GRID)
    figure.update_yaxes(title=unit, gridcolor=GRID)
    return figure


def convergence_png(path: Path, runs: Mapping[str, Sequence[Step]], *, unit: str = "", title: str = "") -> Path:
    """The same as a printed picture."""
    from matplotlib import rc_context

    with rc_context(print_font()):
        return _printed(path, runs, unit, title)


def _printed(path: Path, runs: Mapping[str, Sequence[Step]], unit: str, title: str) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    end = _end(runs)
    figure = Figure(figsize=(8.0, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (name, steps), colour in zip(runs.items(), group_colours(len(runs)), strict=True):
        for column, style, what in ((1, "-", "best"), (2, ":", "bound")):
            times, values = _line(steps, column, end)
            if values:
                shown = [max(time, 1e-3) for time in times]
                axes.step(shown, values, style, where="post", color=colour, label=f"{name}: {what}", linewidth=1.6)
    axes.set_xscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel(unit)
    axes.set_title(title, loc="left")
    axes.grid(color=GRID, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    figure.savefig(path)
    return path


def _end(runs: Mapping[str, Sequence[Step]]) -> float:
    return max((float(step[0]) for steps in runs.values() for step in steps), default=1.0)
