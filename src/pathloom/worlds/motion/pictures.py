"""Drawing of grid plans: the map, the paths over it, and what the command line shows and writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pathloom.plan import Plan
from pathloom.worlds.motion.files import plan_to_dict
from pathloom.worlds.motion.problem import GridProblem

COLUMNS = ("sum of costs", "bound", "gap", "makespan", "seconds")


def row(plan: Plan) -> Sequence[str]:
    """Cells of the table of methods, one for each of `COLUMNS`."""
    return (
        f"{plan.objective.value:g}",
        "-" if plan.bound is None else f"{plan.bound:g}",
        "-" if plan.gap is None else f"{plan.gap:.2%}",
        f"{plan.timeline.makespan:g}",
        f"{plan.seconds:.2f}",
    )


def draw(plan: Plan, path: Path) -> None:
    """Draw the map and every agent's path as a PNG: a ring at the start, a dot at the goal.

    Paths of different agents are shifted a little against each other, so that shared aisles stay readable.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import hsv_to_rgb
    from matplotlib.figure import Figure

    problem: GridProblem = plan.problem
    rows, columns = problem.free.shape
    scale = min(0.35, 14 / max(rows, columns))
    figure = Figure(figsize=(max(4.0, columns * scale), max(3.0, rows * scale) + 0.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(np.where(problem.free, 1.0, 0.35), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for agent, route in enumerate(plan.decisions):
        # Steps of the golden ratio around the colour circle keep neighbours in the list apart.
        colour = hsv_to_rgb(((0.618034 * agent) % 1.0, 0.75, 0.55 + 0.35 * (agent % 2)))
        shift = 0.5 * ((0.754878 * agent) % 1.0) - 0.25
        axes.plot(route[:, 1] + shift, route[:, 0] + shift, color=colour, linewidth=1.4, alpha=0.85)
        start, goal = problem.starts[agent], problem.goals[agent]
        axes.plot(start[1], start[0], "o", color=colour, markerfacecolor="white", markersize=5)
        axes.plot(goal[1], goal[0], "o", color=colour, markersize=5)
    axes.set_xticks([])
    axes.set_yticks([])
    bound = "" if plan.bound is None else f", at least {plan.bound:g}"
    axes.set_title(f"{problem.name}: {plan.method}, sum of costs {plan.objective.value:g}{bound}", fontsize=9)
    figure.savefig(path)


def write(plan: Plan, others: Sequence[Plan], out: Path) -> dict[str, Path]:
    """Write ``plan.json`` and ``paths.png``, and ``paths-METHOD.png`` for each other plan, into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    files = {"plan": out / "plan.json", "picture": out / "paths.png"}
    files["plan"].write_text(json.dumps(plan_to_dict(plan)) + "\n", encoding="utf-8")
    draw(plan, files["picture"])
    for other in others:
        name = f"picture of {other.method}"
        files[name] = out / f"paths-{other.method}.png"
        draw(other, files[name])
    return files
