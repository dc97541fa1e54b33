"""Pictures of the convergence benchmark: losses against tokens and against time, perplexity against missing stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pathloom.show.colours import GRID, INK, MUTED, group_colours
from pathloom.show.type_face import print_font


@dataclass(frozen=True)
class Line:
    """One kind of training.

    Attributes
    ----------
    name
        For the legend.
    x, y
        Shape (seeds, points): where, and what was found there.
    """

    name: str
    x: ArrayLike
    y: ArrayLike


Panels = Mapping[str, Sequence[Line]]
"""Title -> its lines."""


def draw_losses(path: Path, tokens: Panels, hours: Panels, network: str) -> None:
    """A row a text; left against trained tokens, right against emulated wall time.

    Parameters
    ----------
    path
        PNG file to write.
    tokens, hours
        The same texts; x in millions of tokens and in hours.
    network
        Where the hours are from, in a few words.
    """
    names = _names(tokens, hours)
    figure = _figure(10.0, 3.5 * len(tokens) + 1.1)
    axes = figure.subplots(len(tokens), 2, squeeze=False, sharey="row")
    for row, text in zip(axes, tokens):
        both = [*tokens[text], *hours[text]]
        for panel, lines, title, label in (
            (row[0], tokens[text], f"{text}: at equal tokens", "bytes of text trained on (millions)"),
            (row[1], hours[text], f"{text}: at equal time", f"emulated hours {network}"),
        ):
            _draw(panel, lines, names)
            _dress(panel, title, label)
        row[0].set_ylabel("validation loss (nats a byte)", color=INK)
        least = min(float(np.min(line.y)) for line in both)
        # The first measurements would press all that follows into the bottom of the picture.
        most = max(float(np.max(np.asarray(line.y)[:, 1 if np.shape(line.y)[1] > 2 else 0])) for line in tokens[text])
        row[0].set_ylim(least - 0.08 * (most - least), most)
    _legend(figure, axes[0][0], axes[0][1])
    _save(figure, path, "Training with a third of the stages skipped")


def draw_removals(path: Path, panels: Panels) -> None:
    """Perplexity against the number of removed stages, a panel a text.

    Parameters
    ----------
    path
        PNG file to write.
    panels
        x the number of removed stages, y the mean perplexity over all sets of them.
    """
    names = _names(panels)
    figure = _figure(10.0, 4.9)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (text, lines) in zip(axes, panels.items()):
        _draw(panel, lines, names, marker="o")
        _dress(panel, text, "stages removed at inference, of six")
        panel.set_xticks(range(int(max(np.max(line.x) for line in lines)) + 1))
    axes[0].set_ylabel("perplexity a byte, mean over all sets", color=INK)
    _legend(figure, *axes)
    _save(figure, path, "Perplexity with stages missing, by how the model was trained")


def _draw(axes: Any, lines: Sequence[Line], names: Sequence[str], marker: str = "") -> None:
    """Mean over seeds as a line, from the least to the most as a band."""
    for line in lines:
        colour = group_colours(len(names))[names.index(line.name)]
        x, y = np.asarray(line.x, float), np.asarray(line.y, float)
        axes.fill_between(x.mean(0), y.min(0), y.max(0), color=colour, alpha=0.18, linewidth=0)
        axes.plot(x.mean(0), y.mean(0), color=colour, linewidth=1.9, marker=marker, markersize=5, label=line.name)


def _names(*groups: Panels) -> list[str]:
    """Names of all lines, in the order in which they come."""
    return list(dict.fromkeys(line.name for panels in groups for lines in panels.values() for line in lines))


def _figure(width: float, height: float) -> Any:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(print_font()):
        figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
    return figure


def _dress(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(label, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.02)
    axes.tick_params(colors=MUTED)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)


def _legend(figure: Any, *axes: Any) -> None:
    """One for all panels, below them."""
    entries: dict[str, Any] = {}
    for each in axes:
        handles, labels = each.get_legend_handles_labels()
        entries |= {label: handle for handle, label in zip(handles, labels) if label not in entries}
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries), frameon=False, fontsize=9.5,
        labelcolor=INK,
    )  # fmt: skip


def _save(figure: Any, path: Path, title: str) -> None:
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(print_font()):
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
        figure.savefig(path, dpi=150)
