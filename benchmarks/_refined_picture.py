"""Picture of what refinement makes of gradient norms: a warm-up and a final fall that nobody asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pathloom.learn.rates.refinement import refine
from pathloom.show.colours import GRID, INK, MUTED, group_colours
from pathloom.show.type_face import print_font

Example = tuple[str, npt.ArrayLike, Literal["l1", "l2"]]
"""Title, norms (seeds, steps), which norm."""


def draw_refined(path: Path, examples: Sequence[Example]) -> None:
    """A row for each example: left the norms that were seen, right the schedules that follow, beside linear decay."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(print_font()):
        figure = Figure(figsize=(10, 3.7 * len(examples)), facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        rows = np.atleast_1d(np.asarray(figure.subfigures(len(examples), 1, hspace=0.04), dtype=object))
        for row, (title, norms, norm) in zip(rows, examples):
            row.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold", color=INK)
            _draw_row(*row.subplots(1, 2), np.asarray(norms, dtype=np.float64), norm)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)


def _draw_row(seen: Any, rates: Any, norms: npt.NDArray[np.float64], norm: Literal["l1", "l2"]) -> None:
    steps = norms.shape[1]
    made = [refine(each, norm=norm, guard=False) for each in norms]
    for seed, (each, refinement, colour) in enumerate(zip(norms, made, group_colours(len(norms)))):
        at = np.linspace(0, steps, len(refinement.smoothed))
        seen.plot(np.arange(steps), each, color=colour, alpha=0.22, linewidth=0.6)
        seen.plot(at, refinement.smoothed, color=colour, linewidth=1.8, label=f"seed {seed}, running median")
        rates.plot(at, refinement.unguarded, color=colour, linewidth=1.8, label=f"refined, seed {seed}")
    rates.plot([0, steps], [1, 0], color=MUTED, linewidth=1.2, linestyle=(0, (5, 3)), label="linear")
    _dress(seen, "what the first run saw", f"{norm} norm of the gradient")
    _dress(rates, "the schedule for the next run", "factor on the base rate")
    # Single batches may lie far above all others
    seen.set_ylim(0, 1.6 * float(np.percentile(norms, 99)))
    rates.set_ylim(0, 1.3)

    middle = np.median([refinement.unguarded for refinement in made], axis=0)
    peak = int(middle.argmax()) / (len(middle) - 1)
    _point_out(
        rates,
        f"warm-up: from {middle[0]:.2f} to the top\nat {peak:.0%} of the run",
        (peak * steps, 1.0),
        (0.17 * steps, 1.18),
    )
    power = float(np.median([refinement.power_fit[1] for refinement in made]))
    _point_out(
        rates,
        f"annealing: about $(1-u)^{{{power:.1f}}}$,\nzero at the end",
        (0.93 * steps, float(middle[int(0.93 * len(middle))])),
        (0.64 * steps, 0.66),
    )


def _point_out(axes: Any, text: str, at: tuple[float, float], place: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "->", "color": MUTED}
    axes.annotate(text, at, place, color=INK, fontsize=9, arrowprops=arrow, va="center")


def _dress(axes: Any, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=MUTED)
    axes.set_xlabel("optimizer step", color=INK)
    axes.set_ylabel(label, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.tick_params(colors=MUTED)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper right")
