"""Pictures of learning rates: what a refinement saw and made of it, and all profiles side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.learn.rates.norms import Array
from pathloom.learn.rates.plan import RatePlan
from pathloom.learn.rates.refinement import Refinement
from pathloom.show.colours import GRID, INK, MUTED, colour
from pathloom.show.type_face import FONT_STACK, print_font

_REFINED, _FIT, _REFUSED = colour(0.52, 0.16, 255), colour(0.66, 0.15, 70), colour(0.58, 0.19, 25)
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}


@dataclass(frozen=True)
class _Curve:
    label: str
    y: Array
    colour: str
    dash: str = "solid"
    width: float = 1.8


@dataclass(frozen=True)
class _Panel:
    title: str
    curves: tuple[_Curve, ...]  # the later ones over the earlier ones
    logarithmic: bool = False


def refinement_png(path: Path, refinement: Refinement, *, title: str, subtitle: str = "", dpi: int = 150) -> Path:
    """Draw norms and schedule of a refinement, one below the other over the run, into a PNG file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, side = 10.0, 0.75
    head = 0.75 + 0.2 * len(subtitle.splitlines())
    heights, gap, foot = (2.0, 2.7), 0.75, 0.6
    height = head + 0.3 + sum(heights) + gap + foot
    with rc_context(print_font()):
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(side / width, 1 - 0.25 / height, title, fontsize=16, fontweight="bold", color=INK, va="top")
        figure.text(side / width, 1 - 0.62 / height, subtitle, fontsize=10, color=MUTED, va="top", linespacing=1.4)
        bottom = height - head - 0.3
        for panel, panel_height in zip(_panels(refinement), heights, strict=True):
            bottom -= panel_height
            box = (side / width, bottom / height, (width - side - 0.35) / width, panel_height / height)
            axes = figure.add_axes(box)
            bottom -= gap
            for curve in panel.curves:
                u = np.linspace(0.0, 100.0, len(curve.y))
                axes.plot(u, curve.y, _DASHES[curve.dash], color=curve.colour, lw=curve.width, label=curve.label)
            if panel.logarithmic:
                axes.set_yscale("log")
            else:
                axes.set_ylim(0, 1.05 * max(float(np.nanmax(curve.y)) for curve in panel.curves))
            axes.set_xlim(0, 100)
            axes.set_title(panel.title, loc="left", fontsize=11, color=INK)
            _quiet(axes)
            axes.legend(
                frameon=False,
                fontsize=9,
                labelcolor=INK,
                ncols=len(panel.curves),
                loc="lower right",
                bbox_to_anchor=(1.0, 1.0),
                borderaxespad=0.3,
            )
        axes.set_xlabel("% of the run", fontsize=10, color=MUTED)
        figure.savefig(path, dpi=dpi)
    return path


def refinement_figures(refinement: Refinement) -> list[tuple[Any, str]]:
    """The same as Plotly figures with captions, for `pathloom.show.report.html_report`."""
    from plotly.graph_objects import Figure, Scatter

    made = []
    for panel in _panels(refinement):
        figure = Figure()
        for curve in panel.curves:
            u = np.linspace(0.0, 100.0, len(curve.y))
            line = {"color": curve.colour, "dash": curve.dash, "width": 1.2 * curve.width}
            hover = "%{y:.4g} at %{x:.1f} %"
            figure.add_trace(Scatter(x=u, y=curve.y, name=curve.label, line=line, hovertemplate=hover))
        figure.update_layout(
            height=360,
            margin={"l": 60, "r": 20, "t": 30, "b": 45},
            paper_bgcolor="white",
            plot_bgcolor="white",
            font={"family": FONT_STACK, "color": INK},
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        )
        figure.update_xaxes(title="% of the run", gridcolor=GRID, range=[0, 100])
        figure.update_yaxes(gridcolor=GRID, type="log" if panel.logarithmic else "linear", rangemode="tozero")
        made.append((figure, panel.title))
    return made


def plans_png(path: Path, plans: Mapping[str, RatePlan], *, title: str, subtitle: str = "", dpi: int = 150) -> Path:
    """Draw the factors of plans over their steps, one small panel a plan, into a PNG file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(4, len(plans))
    down = -(-len(plans) // across)
    cell_width, cell_height, head = 2.9, 2.05, 1.0
    width, height = across * cell_width + 0.4, down * cell_height + head + 0.15
    with rc_context(print_font()):
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)
        figure.text(0.5 / width, 1 - 0.22 / height, title, fontsize=16, fontweight="bold", color=INK, va="top")
        figure.text(0.5 / width, 1 - 0.6 / height, subtitle, fontsize=10, color=MUTED, va="top")
        for place, (name, plan) in enumerate(plans.items()):
            left = 0.5 + (place % across) * cell_width
            bottom = height - head - (place // across + 1) * cell_height + 0.35
            box = (left / width, bottom / height, (cell_width - 0.45) / width, (cell_height - 0.75) / height)
            axes = figure.add_axes(box)
            steps, factors = _drawn(plan)
            axes.plot(steps, factors, color=_REFINED, lw=1.8)
            axes.set_xlim(0, plan.steps)
            axes.set_ylim(0, 1.06)
            axes.set_xticks([0, plan.steps // 2, plan.steps], ["0", "", f"{plan.steps:,}"])
            axes.set_yticks([0, 0.5, 1])
            axes.set_title(name, loc="left", fontsize=10.5, color=INK)
            _quiet(axes)
        figure.savefig(path, dpi=dpi)
    return path


def sparkline(factors: Sequence[float] | Array, length: int = 24) -> str:
    """Factors in [0, 1] as a line of block characters."""
    places = np.linspace(0, len(factors) - 1, length).round().astype(int)
    return "".join("▁▂▃▄▅▆▇█"[min(int(8 * factors[place]), 7)] for place in places)


def power_curve(p: float, q: float, n: int) -> Array:
    """The shape that `pathloom.learn.rates.refinement.fit_power` fits, on an even grid ``(n,)``."""
    u = np.linspace(0.0, 1.0, n)
    fall = ((1.0 - np.maximum(u, p)) / (1.0 - p)) ** q
    return np.asarray(np.where(u < p, u / max(p, 1e-12), fall), dtype=np.float64)


def _panels(refinement: Refinement) -> tuple[_Panel, _Panel]:
    n = len(refinement.norms)
    p, q = refinement.power_fit
    smoothed = refinement.smoothed
    used = np.asarray(refinement.profile.points)
    linear = _Curve("linear", np.linspace(1.0, 0.0, n), MUTED, "dash", 1.4)
    fit = _Curve(f"{p:.0%} warm-up, power {q:.2g}", power_curve(p, q, n), _FIT, "dot", 1.8)
    if refinement.guarded:
        refused = _Curve("refined, refused by the guard", refinement.unguarded, _REFUSED, "dash", 1.4)
        curves = (refused, linear, _Curve("used", used, _REFINED, width=2.4))
    else:
        curves = (linear, fit, _Curve("refined", used, _REFINED, width=2.4))
    # Norms that span more than a decade are told apart on a logarithmic scale only, which has no place for zero.
    spread = bool(smoothed.min() > 0 and smoothed.max() > 10 * smoothed.min())
    raw = np.where(refinement.norms > 0, refinement.norms, np.nan) if spread else refinement.norms
    norms = (_Curve("recorded", raw, "#b4bcc5", width=0.7), _Curve("running median", smoothed, INK, width=1.8))
    return (
        _Panel(f"{refinement.norm} norm of the gradient", norms, spread),
        _Panel("learning rate, as a factor on the base rate", curves),
    )


def _drawn(plan: RatePlan) -> tuple[Array, Array]:
    """At most about 2000 steps of a plan, with the step after the last one, where its curve ends."""
    stride = max(1, plan.steps // 2000)
    steps = np.append(np.arange(0, plan.steps, stride), plan.steps).astype(np.float64)
    factors = plan.factors()
    return steps, np.append(factors[::stride], plan.factor(plan.steps))


def _quiet(axes: Any) -> None:
    """No frame but a base line, a pale grid, small muted figures."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#b4bcc5")
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, labelsize=9, length=0)
