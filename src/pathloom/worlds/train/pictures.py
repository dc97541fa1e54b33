"""Pictures of training plans: who works when, grouped by stage, and the chosen paths on a map of the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.data.network import places
from pathloom.plan import Plan
from pathloom.show.gantt_layout import Panel
from pathloom.show.map_layout import NodeMap
from pathloom.timeline import Timeline
from pathloom.worlds.train.method_table import COLUMNS, row
from pathloom.worlds.train.plan_files import write_plan
from pathloom.worlds.train.problem import FORWARD, TrainDecisions, TrainProblem

MOST_SPANS_BESIDE = 20_000
"""Spans of other methods' plans that the page still draws under the plan."""

_LOOKS = {"wasted": "grey"}


def write(plan: Plan, others: Sequence[Plan], out: Path) -> dict[str, Path]:
    """Write ``plan.json``, ``plan.html``, ``plan.png`` and ``trace.json`` into the folder `out`.

    Parameters
    ----------
    others
        Plans of other methods, for the table and, where they are small, for a chart of their own.
    """
    from pathloom.show.gantt import gantt_figure
    from pathloom.show.report import html_report, png_report
    from pathloom.show.trace import write_perfetto
    from pathloom.show.world_map import map_figure

    problem: TrainProblem = plan.problem
    title = f"{problem.name}: {plan.objective.value:.2f} s an iteration"
    subtitle = _subtitle(plan)
    columns = ("method", *COLUMNS)
    rows = [(p.method, *row(p)) for p in (plan, *others)]
    panel = panel_of(plan)
    node_map = node_map_of(plan)
    figures: list[tuple[Any, str]] = [
        (gantt_figure([panel]), "Who works when: one colour a microbatch; drag to zoom, double click to go back.")
    ]
    if node_map is not None:
        figures.append((map_figure(node_map), "The chosen paths: wider lines carry more microbatches."))
    if others and sum(len(other.timeline) for other in others) <= MOST_SPANS_BESIDE:
        beside = [panel_of(other, name=other.method) for other in others]
        figures.append((gantt_figure(beside), "What the other methods would do, over one axis of time."))
    files = {
        "plan": write_plan(plan, out / "plan.json"),
        "page": html_report(
            out / "plan.html",
            title=title,
            subtitle=subtitle,
            columns=columns,
            rows=rows,
            best=0,
            figures=figures,
            notes=_notes(plan, rows, node_map),
        ),
        "picture": png_report(
            out / "plan.png",
            [panel],
            node_map=node_map,
            title=title,
            subtitle=subtitle,
            columns=columns,
            rows=rows,
            best=0,
        ),
        "trace": write_perfetto(plan.timeline, out / "trace.json", groups=panel.groups),
    }
    return files


def draw(timelines: Mapping[str, Timeline], plan: Plan, out: Path) -> dict[str, Path]:
    """Draw timelines of one problem one below another, as ``timelines.html`` and ``timelines.png`` in `out`.

    Parameters
    ----------
    plan
        Names and groups the rows of each timeline that does not say itself in which stage its nodes work.
    """
    from pathloom.show.gantt import gantt_figure
    from pathloom.show.report import html_report, png_report

    panels = [panel_of(plan, timeline=timeline, name=name) for name, timeline in timelines.items()]
    looks = {kind: look for kind, look in _LOOKS.items() if any(kind in t.kinds for t in timelines.values())}
    title = f"{plan.problem.name}: {', '.join(timelines)}"
    figure = gantt_figure(panels, looks=looks)
    page = html_report(
        out / "timelines.html",
        title=title,
        figures=[(figure, "One axis of time; drag to zoom, double click to go back.")],
    )
    return {"page": page, "picture": png_report(out / "timelines.png", panels, title=title, looks=looks)}


def panel_of(plan: Plan, *, timeline: Timeline | None = None, name: str = "") -> Panel:
    """Rows of a chart: nodes labelled with region and stage, grouped by stage.

    Parameters
    ----------
    timeline
        Another timeline of the same problem; the plan's own if None.
    """
    problem: TrainProblem = plan.problem
    shown = plan.timeline if timeline is None else timeline
    stage = _stages(plan, shown)
    location = dict(zip(problem.nodes, problem.locations, strict=True))
    order = sorted(shown.resources, key=lambda node: (stage.get(node, -1) < 0, stage.get(node, -1)))
    labels, groups = {}, {}
    for node in order:
        place = location.get(node, "")
        p = stage.get(node, -1)
        groups[node] = f"stage {p}" if p >= 0 else "idle"
        # Most nodes are named after their region; saying it twice would only widen the margin.
        words = [node, "" if node.startswith(place) else place, f"stage {p}" if p >= 0 else ""]
        labels[node] = " · ".join(word for word in words if word)
    return Panel(shown, name=name, order=order, labels=labels, groups=groups)


def _stages(plan: Plan, timeline: Timeline) -> dict[str, int]:
    """Stage of each node: as the timeline's column says, else as the plan places it."""
    problem: TrainProblem = plan.problem
    decisions: TrainDecisions = plan.decisions
    stage = dict(zip(problem.nodes, np.asarray(decisions.placement).tolist(), strict=True))
    column = timeline.columns.get("stage")
    if column is not None and column.dtype.kind in "iu":
        for position, p in zip(timeline.resource.tolist(), (column % problem.n_stages).tolist(), strict=True):
            stage[timeline.resources[position]] = p
    return stage


def node_map_of(plan: Plan) -> NodeMap | None:
    """Nodes and the forward hops between them on the globe; None if a region's position is not known."""
    problem: TrainProblem = plan.problem
    decisions: TrainDecisions = plan.decisions
    known = places()
    if not all(location in known for location in problem.locations):
        return None
    routes = np.asarray(decisions.routes)
    traffic = np.zeros((problem.n_nodes, problem.n_nodes), dtype=np.int64)
    # There and back to the source for the loss: the way of the activations; gradients take it the other way.
    np.add.at(traffic, (routes.ravel(), np.roll(routes, -1, axis=1).ravel()), 1)
    np.fill_diagonal(traffic, 0)
    placement = np.asarray(decisions.placement)
    busy = plan.timeline.busy() / max(plan.objective.value, 1e-300)
    visits = np.bincount(plan.timeline.resource[plan.timeline.kind == FORWARD], minlength=problem.n_nodes)
    return NodeMap(
        names=problem.nodes,
        places=problem.locations,
        lon=np.array([known[location].lon for location in problem.locations]),
        lat=np.array([known[location].lat for location in problem.locations]),
        group=np.where(placement >= 0, placement, problem.n_stages),
        group_names=[*(f"stage {p}" for p in range(problem.n_stages)), *(["idle"] if (placement < 0).any() else [])],
        traffic=traffic,
        hover=[
            f"<b>{node}</b>, {known[place].city}<br>stage {p}<br>{v} microbatches, busy {share:.0%}"
            for node, place, p, v, share in zip(
                problem.nodes, problem.locations, placement.tolist(), visits.tolist(), busy.tolist(), strict=True
            )
        ],
    )


def _subtitle(plan: Plan) -> str:
    problem: TrainProblem = plan.problem
    return (
        f"{problem.microbatches} microbatches, each through {problem.route_length} of {problem.n_stages} stages, "
        f"on {problem.n_nodes} nodes; method {plan.method}"
    )


def _notes(plan: Plan, rows: Sequence[Sequence[str]], node_map: NodeMap | None) -> list[str]:
    notes = ["Every plan in this page was accepted by the checker, which shares no code with the methods."]
    if plan.bound is not None and plan.gap is not None:
        by = f" ({plan.bound_by})" if plan.bound_by else ""
        notes.append(
            f"No plan of this problem takes less than {plan.bound:.2f} s{by}: "
            f"this one is at most {plan.gap:.1%} of its time away from the best."
        )
    if len({cells[1] for cells in rows}) > 1:
        notes.append(
            "Methods that run all stages do more work for each microbatch; "
            "their bound and gap are those of that larger problem."
        )
    if node_map is None:
        notes.append("There is no map: the position of a region is not known.")
    notes.append("trace.json opens in ui.perfetto.dev and chrome://tracing.")
    return notes
