"""What the command line shows and writes of shop plans: Gantt charts with critical path, convergence, plan files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import Plan
from pathloom.schedule.critical import critical_tasks
from pathloom.schedule.problem import Machine, Problem, Renewable
from pathloom.show.gantt_layout import Panel
from pathloom.timeline import Timeline
from pathloom.worlds.shop.files import plan_to_dict

COLUMNS = ("objective", "bound", "gap", "found by", "seconds")


def row(plan: Plan) -> Sequence[str]:
    """Cells of the table of methods, one for each of `COLUMNS`."""
    return (
        f"{plan.objective.value:g}",
        "-" if plan.bound is None else f"{plan.bound:g}",
        "-" if plan.gap is None else f"{plan.gap:.2%}",
        str(plan.metrics.get("found_by", "-")),
        f"{plan.seconds:.2f}",
    )


LOOKS = {"work": "tint", "critical": "solid", "blocked": "light", "break": "grey"}
MOST_LANES = 12
"""Most rows that a resource used by several tasks at a time gets."""


def drawn(plan: Plan) -> Panel:
    """The plan's timeline as it is drawn: critical tasks set apart, breaks added, one row for each task under way."""
    problem: Problem = plan.problem
    shown = plan.timeline
    critical = np.isin(shown.columns["task"], critical_tasks(problem, plan.decisions))
    kind = np.where(shown.kind == 1, 2, np.where(critical, 1, 0)).astype(np.int32)
    resource, item, start, end = shown.resource, shown.item, shown.start, shown.end
    lane = np.minimum(_lanes(resource, start, end), MOST_LANES - 1)
    most = np.full(len(shown.resources), -1, np.int64)
    np.maximum.at(most, resource, lane)
    breaks = [  # over all rows of their resource, and over the tasks that they interrupt
        (position, number, low, min(high, shown.makespan))
        for position, found in enumerate(problem.resources)
        if isinstance(found, Machine | Renewable)
        for low, high in found.calendar.breaks
        if low < shown.makespan
        for number in range(max(int(most[position]), 0) + 1)
    ]
    if breaks:
        table = np.array(breaks, dtype=np.float64)
        count = len(breaks)
        resource = np.concatenate((resource, table[:, 0].astype(np.int32)))
        lane = np.concatenate((lane, table[:, 1].astype(np.int64)))
        item = np.concatenate((item, np.full(count, len(shown.items), np.int32)))
        kind = np.concatenate((kind, np.full(count, 3, np.int32)))
        start, end = np.concatenate((start, table[:, 2])), np.concatenate((end, table[:, 3]))
        np.maximum.at(most, resource, lane)
    items = (*shown.items, "break") if breaks else shown.items
    rows: dict[tuple[int, int], int] = {}
    names: list[str] = []
    groups: dict[str, str] = {}
    for position, name in enumerate(shown.resources):
        for number in range(int(most[position]) + 1):
            rows[position, number] = len(names)
            label = name if most[position] == 0 else f"{name} [{number + 1}]"
            names.append(label)
            groups[label] = name
    row = np.array([rows[place] for place in zip(resource.tolist(), lane.tolist(), strict=True)], dtype=np.int32)
    timeline = Timeline(row, item, kind, start, end, tuple(names), items, tuple(LOOKS), unit=shown.unit)
    title = f"{plan.method}: {plan.objective.name} {plan.objective.value:g} {plan.objective.unit}"
    if plan.bound is not None:
        title += ", proven optimal" if plan.gap == 0 else f", at least {plan.bound:g}"
    return Panel(timeline, name=title, labels=_labels(names, groups))


def _labels(names: Sequence[str], groups: Mapping[str, str]) -> dict[str, str]:
    return {name: groups[name] if name in (groups[name], f"{groups[name]} [1]") else " " for name in names}


def _lanes(resource: NDArray[np.int32], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.int64]:
    """Shape (spans,): the first row of its resource that is free, for each span in order of start."""
    lane = np.zeros(len(start), np.int64)
    free: dict[int, list[float]] = {}
    for span in np.lexsort((end, start)).tolist():
        rows = free.setdefault(int(resource[span]), [])
        for number, until in enumerate(rows):
            if until <= start[span]:
                lane[span] = number
                rows[number] = end[span]
                break
        else:
            lane[span] = len(rows)
            rows.append(float(end[span]))
    return lane


def draw(timelines: Mapping[str, Timeline], plan: Plan, out: Path) -> dict[str, Path]:
    """Draw timelines of the plan's problem one below another, for ``pathloom compare``."""
    from pathloom.show.gantt import gantt_figure
    from pathloom.show.report import html_report, png_report

    title = ", ".join(timelines)
    return {
        "page": html_report(out / "timelines.html", title=title, figures=[(gantt_figure(timelines), "")]),
        "picture": png_report(out / "timelines.png", timelines, title=title),
    }


def write(plan: Plan, others: Sequence[Plan], out: Path) -> dict[str, Path]:
    """Write plan.json, a page and a picture of the plans, their convergence, and a trace into the folder `out`."""
    from pathloom.show.convergence import convergence_figure, convergence_png
    from pathloom.show.gantt import gantt_figure
    from pathloom.show.gantt_print import gantt_png
    from pathloom.show.report import html_report
    from pathloom.show.trace import write_perfetto

    out.mkdir(parents=True, exist_ok=True)
    name = plan.problem.name
    files = {"plan": out / "plan.json", "page": out / "schedule.html", "picture": out / "schedule.png"}
    files["plan"].write_text(json.dumps(plan_to_dict(plan)) + "\n", encoding="utf-8")
    plans = [plan, *others]
    panels = [drawn(one) for one in plans]
    runs = {one.method: one.metrics.get("history", []) for one in plans}
    caption = "In full colour: the critical path. Hatched: a task that blocks its machine."
    figures = [(gantt_figure(panels, looks=LOOKS), caption)]
    unit = f"{plan.objective.name} ({plan.objective.unit})"
    figures.append((convergence_figure(runs, unit=unit), "Best value and proven bound over time"))
    rows = [(one.method, *row(one)) for one in plans]
    html_report(
        files["page"],
        title=name,
        subtitle=f"{plan.metrics['shape']}: {len(plan.problem.tasks)} tasks, {len(plan.problem.resources)} resources",
        columns=("method", *COLUMNS),
        rows=rows,
        best=0,
        figures=figures,
    )
    gantt_png(panels[:1], files["picture"], looks=LOOKS, title=name)
    files["convergence"] = convergence_png(out / "convergence.png", runs, unit=unit, title=f"{name}: convergence")
    files["trace"] = write_perfetto(plan.timeline, out / "trace.json")
    return files
