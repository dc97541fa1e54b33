"""Where everything of a Gantt chart goes: panels, rows, groups of rows, and the shade of every span.

Both renderers (page and print) draw the same layout, so that they show the same picture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.show.colours import COLOURED, KIND_LOOKS, LOOKS, Shade, item_shades
from pathloom.timeline import Timeline

#: Empty space between two groups of rows, in rows.
GROUP_SPACE = 0.45
#: Height of a bar, in rows.
BAR_HEIGHT = 0.8
#: Pixels (or as many points in print) a row from which every row has its label.
LABEL_PITCH = 11


@dataclass(frozen=True)
class Panel:
    """One timeline of a chart, and how its rows are to be shown.

    Parameters
    ----------
    timeline
        What to draw.
    name
        Title above the rows; empty for none.
    order
        Names of the resources from top to bottom; those left out follow in the timeline's order. None: the
        timeline's order.
    labels
        Resource name -> text at the row; the name itself where it is missing.
    groups
        Resource name -> title of its group. Rows of one group stand together, groups in order of first appearance.

    Raises
    ------
    ValueError
        If `order` or `groups` name a resource that the timeline does not have.
    """

    timeline: Timeline
    name: str = ""
    order: Sequence[str] | None = None
    labels: Mapping[str, str] | None = None
    groups: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        known = set(self.timeline.resources)
        for what, names in (("order", self.order or ()), ("groups", self.groups or {})):
            strange = [name for name in names if name not in known]
            if strange:
                raise ValueError(f"{what} names the resource '{strange[0]}', which the timeline does not have")


@dataclass(frozen=True)
class Group:
    """Rows of one group: title, and the y coordinates of its upper and lower edge."""

    title: str
    top: float
    bottom: float


@dataclass(frozen=True)
class PanelLayout:
    """One panel with its rows placed.

    Attributes
    ----------
    panel
        What was asked for.
    rows
        Positions in ``timeline.resources`` from top to bottom.
    labels
        One text a row.
    centre
        Shape (len(rows),): y of each row's middle; y grows downwards, a row is 1 high.
    y
        Shape (n,): y of each span's middle.
    height
        Total height in rows.
    groups
        The groups in order; empty if the caller gave none.
    look
        Shape (n,): position in `LOOKS` of each span.
    item
        Shape (n,): position of each span's item among the chart's `items`.
    """

    panel: Panel
    rows: NDArray[np.int64]
    labels: tuple[str, ...]
    centre: NDArray[np.float64]
    y: NDArray[np.float64]
    height: float
    groups: tuple[Group, ...]
    look: NDArray[np.int64]
    item: NDArray[np.int64]


@dataclass(frozen=True)
class GanttLayout:
    """A chart of one or more panels over one axis of time.

    Attributes
    ----------
    panels
        From top to bottom.
    items
        Names of all items, in order of first appearance.
    coloured
        Positions of the items that have a colour of their own (a solid or light span).
    shades
        One ``{look: Shade}`` an item.
    looks
        Kind name -> look, for the kinds that occur, in the timelines' order.
    end
        Latest end of any span.
    unit
        Unit of time.
    """

    panels: tuple[PanelLayout, ...]
    items: tuple[str, ...]
    coloured: tuple[int, ...]
    shades: tuple[Mapping[str, Shade], ...]
    looks: Mapping[str, str]
    end: float
    unit: str

    @property
    def spans(self) -> int:
        """Number of spans of all panels."""
        return sum(len(p.panel.timeline) for p in self.panels)

    def short_names(self) -> list[str]:
        """What is written on a bar: the number at the end of an item's name, or the name."""
        found = [re.search(r"\d+$", name) for name in self.items]
        return [match.group() if match else name for match, name in zip(found, self.items)]


def as_panels(
    timelines: Timeline | Mapping[str, Timeline] | Sequence[Panel],
    order: Sequence[str] | None,
    labels: Mapping[str, str] | None,
    groups: Mapping[str, str] | None,
) -> tuple[Panel, ...]:
    """Panels of a timeline, of named timelines, or of panels that are given ready.

    With named timelines `order` and `groups` may name resources that only some of them have.

    Raises
    ------
    ValueError
        If there is none, if units differ, or if ready panels come with a second `order`, `labels` or `groups`.
    """
    panels: tuple[Panel, ...]
    if isinstance(timelines, Timeline):
        panels = (Panel(timelines, "", order, labels, groups),)
    elif isinstance(timelines, Mapping):
        panels = tuple(
            Panel(
                timeline,
                name,
                None if order is None else [r for r in order if r in timeline.resources],
                labels,
                None if groups is None else {r: g for r, g in groups.items() if r in timeline.resources},
            )
            for name, timeline in timelines.items()
        )
    else:
        if order is not None or labels is not None or groups is not None:
            raise ValueError("panels carry their own order, labels and groups; do not give them twice")
        panels = tuple(timelines)
    if not panels:
        raise ValueError("no timeline to draw")
    units = sorted({panel.timeline.unit for panel in panels})
    if len(units) > 1:
        raise ValueError(f"timelines have different units of time: {', '.join(units)}")
    return panels


def _placed(panel: Panel) -> tuple[NDArray[np.int64], NDArray[np.float64], float, tuple[Group, ...]]:
    """Rows from top to bottom, their middles, the total height, and the groups."""
    resources = panel.timeline.resources
    wanted = list(dict.fromkeys([*(panel.order or ()), *resources]))
    index = {name: i for i, name in enumerate(resources)}
    if panel.groups is None:
        rows = np.array([index[name] for name in wanted], dtype=np.int64)
        return rows, np.arange(len(rows), dtype=np.float64) + 0.5, float(len(rows)), ()
    members: dict[str, list[str]] = {}
    for name in wanted:
        members.setdefault(panel.groups.get(name, ""), []).append(name)
    rows_, centre, groups, y = [], [], [], 0.0
    for title, names in members.items():
        top = y
        for name in names:
            rows_.append(index[name])
            centre.append(y + 0.5)
            y += 1
        groups.append(Group(title, top, y))
        y += GROUP_SPACE
    height = max(0.0, y - GROUP_SPACE)
    return np.array(rows_, dtype=np.int64), np.array(centre), height, tuple(groups)


def gantt_layout(panels: Sequence[Panel], looks: Mapping[str, str] | None = None) -> GanttLayout:
    """Place `panels` one below another.

    Parameters
    ----------
    looks
        Kind name -> one of `LOOKS`, over the defaults of `KIND_LOOKS`; other kinds are solid.

    Raises
    ------
    ValueError
        If a look is unknown.
    """
    known = {**KIND_LOOKS, **(looks or {})}
    for kind, look in known.items():
        if look not in LOOKS:
            raise ValueError(f"kind '{kind}' has the look '{look}', expected one of {', '.join(LOOKS)}")
    items = tuple(dict.fromkeys(name for panel in panels for name in panel.timeline.items))
    place = {name: i for i, name in enumerate(items)}
    placed = []
    used_kinds: dict[str, str] = {}
    coloured = np.zeros(len(items), dtype=bool)
    for panel in panels:
        timeline = panel.timeline
        rows, centre, height, groups = _placed(panel)
        middle = np.zeros(len(timeline.resources))
        middle[rows] = centre
        kind_look = np.array([LOOKS.index(known.get(kind, "solid")) for kind in timeline.kinds], dtype=np.int64)
        look_of = kind_look[timeline.kind]
        item = np.array([place[name] for name in timeline.items], dtype=np.int64)[timeline.item]
        coloured[item[look_of < len(COLOURED)]] = True
        occurs = np.bincount(timeline.kind, minlength=len(timeline.kinds)) > 0
        used_kinds |= {kind: known.get(kind, "solid") for kind, used in zip(timeline.kinds, occurs) if used}
        labels = tuple((panel.labels or {}).get(timeline.resources[r], timeline.resources[r]) for r in rows)
        y = middle[timeline.resource] if len(middle) else np.zeros(0)
        placed.append(PanelLayout(panel, rows, labels, centre, y, height, groups, look_of, item))
    # Items without a colour of their own (gradient synchronisation) must not use up a hue.
    palette = item_shades(max(1, int(coloured.sum())))
    order = np.cumsum(coloured) - 1
    shades = tuple(palette[max(0, int(order[i]))] for i in range(len(items)))
    return GanttLayout(
        tuple(placed),
        items,
        tuple(np.flatnonzero(coloured).tolist()),
        shades,
        used_kinds,
        max((panel.timeline.makespan for panel in panels), default=0.0),
        panels[0].timeline.unit,
    )


def duration_text(value: float, unit: str) -> str:
    """A time for reading: four significant digits and the unit."""
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
    return f"{value:,.{digits}f} {unit}"


def row_ticks(panel: PanelLayout, pitch: float) -> tuple[list[float], list[str]]:
    """Labels of the rows, or of the groups where rows are too thin for text, or of every so many rows."""
    if pitch >= LABEL_PITCH:
        return panel.centre.tolist(), list(panel.labels)
    if panel.groups:
        return [(g.top + g.bottom) / 2 for g in panel.groups], [g.title for g in panel.groups]
    step = int(np.ceil(14 / pitch))
    return panel.centre[::step].tolist(), list(panel.labels[::step])


def bar_height(pitch: float) -> float:
    """Height of a bar in rows; gaps between rows of a few pixels would only flicker."""
    return BAR_HEIGHT if pitch >= 5 else 1.0


def corners_of(start: NDArray[Any], end: NDArray[Any], y: NDArray[Any], height: float) -> NDArray[np.float64]:
    """Corners of the bars, shape (n, 4, 2)."""
    half = height / 2
    x = np.stack((start, end, end, start), axis=1)
    return np.stack((x, np.stack((y - half, y - half, y + half, y + half), axis=1)), axis=2)


def rows_by_shade(layout: GanttLayout, panel: PanelLayout) -> dict[tuple[Shade, str], NDArray[np.int64]]:
    """Rows of the timeline by (shade, look); items that share a colour share an entry."""
    shades: dict[tuple[Shade, str], int] = {}
    code = panel.item * len(LOOKS) + panel.look
    codes, inverse = np.unique(code, return_inverse=True)
    group = np.zeros(len(codes), dtype=np.int64)
    for position, value in enumerate(codes.tolist()):
        look = LOOKS[value % len(LOOKS)]
        group[position] = shades.setdefault((layout.shades[value // len(LOOKS)][look], look), len(shades))
    of_span = group[inverse] if len(codes) else np.zeros(0, dtype=np.int64)
    return {key: np.flatnonzero(of_span == number) for key, number in shades.items()}
