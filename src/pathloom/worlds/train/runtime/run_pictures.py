"""Pictures of runs: loss against tokens and against time, and a recorded iteration under its plan."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError, Plan
from pathloom.show.colours import GRID, INK, MUTED, item_shades
from pathloom.timeline import Timeline
from pathloom.worlds.train.runtime.metrics import read_metrics

Floats = NDArray[np.float64]

SMOOTHED_SHARE = 0.03
"""Share of a run that the smoothed training loss is averaged over."""

HIDDEN_SHARE = 0.04
"""Share of a run at its beginning whose loss may lie above the picture, so that the rest is not a flat line."""

_TIMES = (("h", 3600.0), ("min", 60.0), ("s", 1.0))


@dataclass(frozen=True)
class LossCurve:
    """Losses of one run.

    Attributes
    ----------
    name
        Of the run.
    tokens, seconds
        Shape (n,): tokens and seconds spent until the end of each recorded step, from the run's first step on.
    loss, smoothed
        Shape (n,): training loss, and its centred running mean, in nats a token; nan where it was not finite.
    validation_tokens, validation_seconds, validation
        Shape (m,): the same at each measurement of the validation loss.
    """

    name: str
    tokens: Floats
    seconds: Floats
    loss: Floats
    smoothed: Floats
    validation_tokens: Floats
    validation_seconds: Floats
    validation: Floats

    @classmethod
    def read(cls, name: str, run: Path, step_seconds: float | None = None) -> LossCurve:
        """The losses in the metrics of a run.

        Parameters
        ----------
        run
            The run's folder or its ``metrics.jsonl``.
        step_seconds
            Seconds that a step counts for, where the run was not slowed down for real; None: those it took.

        Raises
        ------
        InputError
            If there are no metrics, or no step has tokens, seconds and a loss.
        """
        records = [record for record in read_metrics(run) if "event" not in record and "step" in record]
        steps: dict[int, dict[str, Any]] = {}
        for record in records:  # a validation may have a line of its own, and a step that was repeated has two
            steps.setdefault(record["step"], {}).update(record)
        trained = [steps[step] for step in sorted(steps) if {"loss", "tokens", "seconds"} <= steps[step].keys()]
        if not trained:
            raise InputError("holds no step with loss, tokens and seconds yet", file=str(run))
        loss = _floats([record["loss"] for record in trained])
        at = _floats([record["step"] for record in trained])
        tokens = np.cumsum(_floats([record["tokens"] for record in trained]))
        spent = np.cumsum([record["seconds"] for record in trained]) if step_seconds is None else at * step_seconds
        measured = [step for step in sorted(steps) if isinstance(steps[step].get("validation_loss"), (int, float))]
        when = _floats(measured)
        zero = np.concatenate(([at[0] - 1.0], at))
        return cls(
            name,
            tokens,
            spent,
            loss,
            smoothed(loss),
            np.interp(when, zero, np.concatenate(([0.0], tokens))),
            np.interp(when, zero, np.concatenate(([0.0], spent))),
            _floats([steps[step]["validation_loss"] for step in measured]),
        )

    def row(self) -> tuple[str, ...]:
        """Cells of the table under the curves, see `COLUMNS`."""
        last = self.smoothed[-1]
        return (
            self.name,
            f"{len(self.loss):,}",
            f"{self.tokens[-1]:,.0f}",
            f"{self.seconds[-1]:,.1f} s",
            "-" if np.isnan(last) else f"{last:.4f}",
            f"{self.validation[-1]:.4f}" if len(self.validation) else "-",
            f"{self.validation.min():.4f}" if len(self.validation) else "-",
        )


COLUMNS = ("run", "steps", "tokens", "time", "training loss at the end", "validation loss", "least validation loss")


def smoothed(loss: Floats, share: float = SMOOTHED_SHARE) -> Floats:
    """Centred running mean over `share` of the steps; values that are not finite count nothing. Shape as `loss`."""
    reach = int(share * len(loss) / 2)
    known = np.isfinite(loss)
    total = np.concatenate(([0.0], np.cumsum(np.where(known, loss, 0.0))))
    count = np.concatenate(([0], np.cumsum(known)))
    position = np.arange(len(loss))
    # At the steep beginning the window shrinks evenly, which adds no lag. At the flat end it is cut off on one side
    # only, so that the last value, which people quote, is a mean too.
    low = position - np.minimum(reach, position)
    high = np.minimum(position + np.minimum(reach, position), len(loss) - 1) + 1
    found = np.full(len(loss), np.nan)
    np.divide(total[high] - total[low], count[high] - count[low], out=found, where=count[high] > count[low])
    return found


def loss_curves(
    runs: Mapping[str, Path], out: Path, *, step_seconds: Mapping[str, float] | None = None, title: str = "Loss"
) -> dict[str, Path]:
    """Draw the losses of runs against tokens and against time, as ``loss.html`` and ``loss.png`` in `out`.

    Parameters
    ----------
    runs
        Name -> the run's folder or its ``metrics.jsonl``.
    step_seconds
        Name -> seconds that each of its steps counts for, such as the plan's; for runs that were not slowed down for
        real. All runs or none.

    Raises
    ------
    InputError
        If a run's metrics cannot be read or hold no step, or only some runs have seconds of a step.
    """
    if not runs:
        raise InputError("expected at least one run", key="runs")
    if step_seconds is not None and set(step_seconds) != set(runs):
        raise InputError("expected the seconds of a step for every run or for none", key="step_seconds")
    curves = [
        LossCurve.read(name, run, None if step_seconds is None else step_seconds[name]) for name, run in runs.items()
    ]
    clock = "wall time" if step_seconds is None else "emulated time"

    def write(folder: Path) -> None:
        from pathloom.show.report import html_report

        notes = "Thin: every step; thick: smoothed; dots: validation. Click a name to hide it, drag to zoom."
        axes = _axes(curves, clock)
        figures = [(_plotly(curves, *axis), notes if i == 0 else "") for i, axis in enumerate(axes)]
        rows = [curve.row() for curve in curves]
        html_report(folder / "loss.html", title=title, columns=COLUMNS, rows=rows, figures=figures)
        _matplotlib(folder / "loss.png", curves, axes, title)

    return _written(out, {"page": "loss.html", "picture": "loss.png"}, write)


def plan_over_run(plan: Plan, run: Timeline, out: Path, *, simulation: Timeline | None = None) -> dict[str, Path]:
    """Draw a plan, its simulation if given, and a recorded iteration one over another.

    Returns
    -------
    dict
        "page" (``timelines.html``) and "picture" (``timelines.png``) in `out`.
    """
    from pathloom.worlds.train.pictures import draw

    timelines = {"plan": plan.timeline, **({} if simulation is None else {"simulation": simulation}), "run": run}
    return _written(
        out, {"page": "timelines.html", "picture": "timelines.png"}, lambda folder: draw(timelines, plan, folder)
    )


def _written(out: Path, names: Mapping[str, str], write: Callable[[Path], object]) -> dict[str, Path]:
    """Let `write` fill a folder beside, then move its files into `out`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pictures-", dir=out) as part:
            write(Path(part))
            for name in names.values():
                os.replace(Path(part) / name, out / name)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(out)) from None
    return {what: out / name for what, name in names.items()}


def _colours(n: int) -> list[str]:
    """Colours of runs, which have no order, so that any two lie far apart."""
    return [shades["solid"].fill for shades in item_shades(n)]


Axis = tuple[str, list[Floats], list[Floats]]
"""Title, and for each curve the positions of its steps and of its validations."""


def _axes(curves: Sequence[LossCurve], clock: str) -> list[Axis]:
    longest = max(float(curve.seconds[-1]) for curve in curves)
    unit, length = next(((u, s) for u, s in _TIMES if longest >= 2 * s), _TIMES[-1])
    return [
        ("tokens", [curve.tokens for curve in curves], [curve.validation_tokens for curve in curves]),
        (
            f"{clock}, {unit}",
            [curve.seconds / length for curve in curves],
            [curve.validation_seconds / length for curve in curves],
        ),
    ]


def _limits(curves: Sequence[LossCurve]) -> tuple[float, float]:
    """Range of losses to show: everything but the peak of the first steps and single steps far off."""
    low, high = [], []
    for curve in curves:
        late = curve.smoothed[int(HIDDEN_SHARE * len(curve.smoothed)) :]
        late = np.concatenate([late[np.isfinite(late)], curve.validation[1:], curve.validation[-1:]])
        if len(late):
            low.append(float(late.min()))
            high.append(float(late.max()))
    if not low:
        return 0.0, 1.0
    pad = 0.06 * (max(high) - min(low)) or 0.05
    return min(low) - pad, max(high) + pad


def _plotly(curves: Sequence[LossCurve], title: str, steps: list[Floats], validations: list[Floats]) -> Any:
    import plotly.graph_objects as go

    from pathloom.show.type_face import FONT_STACK

    figure = go.Figure()
    for curve, colour, x, v in zip(curves, _colours(len(curves)), steps, validations, strict=True):
        shared: dict[str, Any] = {"name": curve.name, "legendgroup": curve.name}
        quiet: dict[str, Any] = {**shared, "showlegend": False, "hoverinfo": "skip"}
        figure.add_trace(
            go.Scattergl(x=x, y=curve.loss, mode="lines", line={"color": colour, "width": 1}, opacity=0.22, **quiet)
        )
        figure.add_trace(
            go.Scatter(x=x, y=curve.smoothed, mode="lines", line={"color": colour, "width": 2.2}, **shared)
        )
        if len(v):
            dots = {"color": "#ffffff", "size": 8, "line": {"color": colour, "width": 2}}
            line = {"color": colour, "width": 1.4, "dash": "dot"}
            figure.add_trace(
                go.Scatter(
                    x=v,
                    y=curve.validation,
                    mode="lines+markers",
                    marker=dots,
                    line=line,
                    **{**shared, "name": f"{curve.name}, validation", "showlegend": False},
                )
            )
    axis = {"gridcolor": GRID, "zeroline": False, "tickfont": {"color": MUTED}, "ticks": "outside", "tickcolor": GRID}
    figure.update_layout(
        height=440,
        margin={"l": 10, "r": 20, "t": 20, "b": 50},
        plot_bgcolor="#ffffff",
        paper_bgcolor="#ffffff",
        font={"family": FONT_STACK, "size": 12, "color": INK},
        hovermode="x unified",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis={**axis, "title": {"text": title}, "rangemode": "tozero"},
        yaxis={**axis, "title": {"text": "loss, nats a token"}, "range": list(_limits(curves)), "automargin": True},
    )
    return figure


def _matplotlib(path: Path, curves: Sequence[LossCurve], axes: Sequence[Axis], title: str) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    from pathloom.show.type_face import print_font

    colours = _colours(len(curves))
    with rc_context(print_font()):
        figure = Figure(figsize=(13, 5.2), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=16, fontweight="bold", color=INK)
        plots = figure.subplots(1, len(axes), sharey=True)
        for number, (plot, (label, steps, validations)) in enumerate(zip(plots, axes, strict=True)):
            for curve, colour, x, v in zip(curves, colours, steps, validations, strict=True):
                plot.plot(x, curve.loss, color=colour, alpha=0.18, linewidth=0.7)
                plot.plot(x, curve.smoothed, color=colour, linewidth=2.0)
                plot.plot(v, curve.validation, color=colour, linewidth=1.2, linestyle=":")
                plot.plot(v, curve.validation, "o", color=colour, markerfacecolor="white", markersize=5)
            plot.set_xlim(0, 1.02 * max(float(x[-1]) for x in steps))
            plot.set_xlabel(label, color=INK)
            if number == 0:
                plot.set_ylabel("loss, nats a token", color=INK)
                plot.xaxis.set_major_formatter(EngFormatter(sep=" "))
            plot.grid(color=GRID, linewidth=0.8)
            plot.set_axisbelow(True)
            plot.tick_params(colors=MUTED, labelleft=number == 0)
            for side, spine in plot.spines.items():
                spine.set_visible(side in ("left", "bottom"))
                spine.set_color(MUTED)
        plots[0].set_ylim(*_limits(curves))
        handles = [Line2D([], [], color=colour, linewidth=2.5) for colour in colours]
        names = [curve.name for curve in curves]
        if any(len(curve.validation) for curve in curves):
            handles.append(
                Line2D([], [], color=MUTED, linestyle=":", marker="o", markerfacecolor="white", markersize=5)
            )
            names.append("validation")
        plots[-1].legend(handles, names, frameon=False, labelcolor=INK, loc="upper right")
        figure.savefig(path, dpi=150)


def _floats(values: Sequence[Any]) -> Floats:
    """Numbers as an array, null as nan."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
