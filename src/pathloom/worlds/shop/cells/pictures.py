"""Pictures of a cell at work: an animated page, a still, a Gantt chart; what the command line shows and writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from pathloom.plan import Plan
from pathloom.show.colours import INK, MUTED, item_shades
from pathloom.show.type_face import FONT_STACK, print_font
from pathloom.worlds.shop.cells.cell import Cell, Port
from pathloom.worlds.shop.cells.files import plan_to_dict
from pathloom.worlds.shop.cells.layout import TUCKED, layout, robot_scene, robot_spans, slot_stays, view_data

CELL_COLUMNS = ("time per item", "bound", "gap", "items per hour", "limits broken", "seconds")
COLOURS = 14
"""Items share this many colours, so that those in the cell at one time differ."""
GANTT_ITEMS = 40
"""A Gantt chart shows the cell until so many items are done; more would be too small to see."""


def cell_row(plan: Plan) -> Sequence[str]:
    """Cells of the table of methods, one for each of `CELL_COLUMNS`."""
    return (
        f"{plan.objective.value:.2f} s",
        "-" if plan.bound is None else f"{plan.bound:.2f} s",
        "-" if plan.gap is None else f"{plan.gap:.1%}",
        f"{3600.0 / plan.objective.value:.1f}",
        f"{plan.metrics.get('dwell limits broken', 0)}",
        f"{plan.seconds:.2f}",
    )


def _colours() -> list[str]:
    return [shade["solid"].fill for shade in item_shades(COLOURS)]


def animated_page(plan: Plan, *, speed: int = 10) -> str:
    """A self-contained HTML page that plays the plan: robots, arms and items over the floor plan, and a running Gantt.

    Play and pause, speed, and a slider through time; it follows the reader's light or dark setting and starts still
    where the reader asks for reduced motion.

    Parameters
    ----------
    speed
        Seconds of the cell in a second of the page, at first; one of 1, 2, 5, 10, 20, 60.
    """
    cell: Cell = plan.problem
    assets = files("pathloom.worlds.shop.cells")
    style = assets.joinpath("cell_view.css").read_text(encoding="utf-8").replace("FONT_STACK", FONT_STACK)
    script = assets.joinpath("cell_view.js").read_text(encoding="utf-8").replace("</", "<\\/")
    data = json.dumps(view_data(cell, plan.timeline, _colours()), separators=(",", ":")).replace("</", "<\\/")
    bound = "" if plan.bound is None else f", at least {plan.bound:.2f} s by the {plan.bound_by}"
    said = f"{plan.method}: {plan.objective.value:.2f} s per item over {cell.lot} items{bound}"
    speeds = "".join(
        f'<option value="{one}"{" selected" if one == speed else ""}>{one}&times;</option>'
        for one in (1, 2, 5, 10, 20, 60)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(cell.name)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{escape(cell.name)}</h1>
<p class="subtitle">{escape(said)}</p>
<svg id="scene" role="img" aria-label="Floor plan of the cell with its robots at work"></svg>
<div class="controls">
<button id="play" type="button">Play</button>
<label>Speed <select id="speed">{speeds}</select></label>
<input id="time" type="range" min="0" step="0.1" value="0" aria-label="Time">
<output id="label" for="time"></output>
</div>
<svg id="strip" class="strip" role="img" aria-label="What robots and stations do around the present moment"></svg>
<p class="legend">
<span><i style="background: var(--accent)"></i>processing</span>
<span><i style="background: var(--ready)"></i>ready, waits for a robot</span>
<span><i style="background: var(--late)"></i>beyond its dwell limit</span>
<span><i style="background: var(--steel)"></i>robot handles</span>
<span><i style="background: var(--steel); opacity: 0.4"></i>robot moves</span>
</p>
</main>
<script type="application/json" id="cell-data">{data}</script>
<script>
{script}</script>
</body>
</html>
"""


def draw_still(plan: Plan, path: Path, *, time: float | None = None) -> None:
    """Draw the cell at a moment (the middle of the plan if None) as a PNG or SVG, from the page's geometry."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle

    cell: Cell = plan.problem
    moment = 0.5 * plan.timeline.makespan if time is None else time
    where, colours = layout(cell), _colours()
    left, top, width, height = where.box
    with rc_context(print_font()):
        scale = min(11.0 / width, 7.0 / height)
        figure = Figure(figsize=(width * scale, height * scale + 0.7), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_xlim(left, left + width)
        axes.set_ylim(-(top + height), -top)
        axes.set_aspect("equal")
        axes.axis("off")
        font = max(6.0, min(10.0, 9.0 * scale * where.size))
        if where.rail is not None:
            axes.plot(where.rail, [0, 0], color="#d5dbe1", linewidth=0.34 * scale * 72, solid_capstyle="round")
        half = where.size / 2
        for place, (x, y) in zip(cell.places, where.centres):
            port = isinstance(place, Port)
            axes.add_patch(
                Rectangle(
                    (x - half, y - half),
                    where.size,
                    where.size,
                    facecolor="#f4f6f8" if port else "white",
                    edgecolor="#9aa5b1",
                    linestyle="--" if port else "-",
                )
            )
            above = y >= -0.01
            axes.text(
                x, y + (half + 0.08) * (1 if above else -1), place.name, ha="center",
                va="bottom" if above else "top", fontsize=font, color=INK,
            )  # fmt: skip
        for name, stays in slot_stays(cell, plan.timeline).items():
            base, _, count = name.partition("#")
            number = cell.place_number[base]
            many = cell.places[number].slots
            side = min(0.62 * where.size, 0.86 * where.size / many - 0.04)
            x = where.centres[number][0] + (int(count or 1) - 1 - (many - 1) / 2) * (side + 0.05)
            y = where.centres[number][1] + 0.06
            stay = next((one for one in stays if one[0] <= moment < one[1]), None)
            face = "#f4f6f8" if stay is None else colours[stay[2] % COLOURS]
            axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, facecolor=face, edgecolor="none"))
            if stay is not None:
                share = 1.0 if stay[4] <= stay[3] else min(max((moment - stay[3]) / (stay[4] - stay[3]), 0.0), 1.0)
                shade = "#2563eb" if moment < stay[4] else "#b45309" if moment <= stay[5] else "#c02626"
                foot = where.centres[number][1] - half + 0.07
                axes.add_patch(Rectangle((x - side / 2, foot), share * side, 0.05, facecolor=shade))
        for robot, spans in zip(cell.robots, robot_spans(cell, plan.timeline)):
            _draw_robot(axes, robot_scene(cell, robot, spans, moment), robot, where.reach, where.size, colours, scale)
            axes.add_patch(Circle((robot_scene(cell, robot, spans, moment).x, 0), 0.15, facecolor="#e2e8f0", zorder=6))
        axes.set_title(
            f"{cell.name}: {plan.method}, {plan.objective.value:.2f} s per item; at {moment:.0f} s",
            fontsize=10,
            color=MUTED,
        )
        figure.savefig(path)


def _draw_robot(axes: Any, scene: Any, robot: Any, reach: float, size: float, colours: list[str], scale: float) -> None:
    from math import cos, radians, sin

    from matplotlib.patches import Circle, Rectangle

    axes.add_patch(Circle((scene.x, 0), 0.3, facecolor="#64748b", zorder=4))
    for arm in range(robot.arms):
        angle = radians(scene.angle + arm * robot.arm_angle)
        shift = (0.07 if arm else -0.07) if robot.arms == 2 and robot.arm_angle == 0 else 0.0
        far = TUCKED + scene.out[arm] * (reach - TUCKED)
        x0, y0 = scene.x - shift * sin(angle), shift * cos(angle)
        x1, y1 = x0 + far * cos(angle), y0 + far * sin(angle)
        axes.plot([x0, x1], [y0, y1], color="#475569", linewidth=0.1 * scale * 72, solid_capstyle="round", zorder=5)
        if scene.held[arm] >= 0:
            side = 0.42 * size / 0.8
            axes.add_patch(
                Rectangle(
                    (x1 - side / 2, y1 - side / 2),
                    side,
                    side,
                    angle=scene.angle + arm * robot.arm_angle,
                    rotation_point="center",
                    facecolor=colours[scene.held[arm] % COLOURS],
                    edgecolor="white",
                    zorder=7,
                )
            )


def gantt_page(plan: Plan, others: Sequence[Plan], path: Path) -> None:
    """A page with the table of methods and a Gantt chart of the plan's beginning."""
    from pathloom.show.gantt import gantt_figure
    from pathloom.show.report import html_report

    cell: Cell = plan.problem
    table = plan.timeline
    until = table.makespan * min(1.0, GANTT_ITEMS / cell.lot)
    figure = gantt_figure(table.rows(table.start < until), order=list(table.resources))
    html_report(
        path,
        title=cell.name,
        subtitle=f"{plan.objective.value:.2f} s per item over {cell.lot} items",
        columns=("method", *CELL_COLUMNS),
        rows=[(one.method, *cell_row(one)) for one in (plan, *others)],
        best=min(range(len(others) + 1), key=lambda k: (plan, *others)[k].objective.value),
        figures=[(figure, f"Robots and slots until about {until:.0f} s: one colour an item.")],
    )


def write_cell(plan: Plan, others: Sequence[Plan], out: Path) -> dict[str, Path]:
    """Write plan.json, the animated page, a still and a page with table and Gantt into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    written = {
        "plan": out / "plan.json",
        "animation": out / "cell.html",
        "picture": out / "cell.png",
        "report": out / "report.html",
    }
    _whole(written["plan"], json.dumps(plan_to_dict(plan)) + "\n")
    _whole(written["animation"], animated_page(plan))
    draw_still(plan, written["picture"])
    gantt_page(plan, others, written["report"])
    return written


def _whole(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
