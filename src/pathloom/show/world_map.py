"""World map with nodes and the paths chosen between them, as a Plotly figure and in print.

Plain axes of longitude and latitude with the land as filled outlines: nothing is fetched when the map is looked at.
A node's colour and number are its group (stage); a line's width says how many items use the hop, its colour is that of
the node it leaves, and it bows to the left of the direction of travel.
"""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from pathloom.show.colours import INK, LAND, MUTED
from pathloom.show.map_geometry import Floats, land_rings
from pathloom.show.map_layout import Hop, MapLayout, NodeMap, map_layout
from pathloom.show.type_face import FONT_STACK

__all__ = ["NodeMap", "draw_map", "map_figure", "map_ratio"]

_SEA = "#fbfcfd"
_HOP = "#7b8794"
_CLASSES = 6
_LEGEND_LIMIT = 24


def _width_class(count: int, busiest: int) -> int:
    """Class 0 .. _CLASSES - 1 of a hop's width; the area of the line, not its width, would need a longer legend."""
    return min(_CLASSES - 1, int(_CLASSES * count / (busiest + 1e-9)))


def _bundles(node_map: NodeMap, layout: MapLayout) -> dict[tuple[int, str], list[Hop]]:
    """Hops by (width class, colour), thin classes first."""
    bundles: dict[tuple[int, str], list[Hop]] = {}
    for hop in layout.hops:
        colour = _HOP if hop.source < 0 else layout.colours[int(node_map.group[hop.source])]
        bundles.setdefault((_width_class(hop.count, layout.busiest), colour), []).append(hop)
    return dict(sorted(bundles.items()))


def _joined(lines: list[Floats]) -> Floats:
    """One line of all `lines` with gaps (nan) between them."""
    gap = np.full((1, 2), np.nan)
    return np.concatenate([part for line in lines for part in (line, gap)]) if lines else np.zeros((0, 2))


def map_ratio(node_map: NodeMap) -> float:
    """Height over width of the map of `node_map`."""
    left, bottom, right, top = map_layout(node_map, width=1000, font=11, node_size=14).window
    return (top - bottom) / (right - left)


def map_figure(node_map: NodeMap, *, title: str = "", width: int = 1240) -> Any:
    """Interactive map.

    Parameters
    ----------
    node_map
        What to draw.
    width
        Pixels that sizes are chosen for; the figure itself adapts to its page.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    import plotly.graph_objects as go

    layout = map_layout(node_map, width=width, font=12, node_size=17)
    left, bottom, right, top = layout.window
    unit = (right - left) / width
    figure = go.Figure()
    land = _joined([np.concatenate((ring, ring[:1])) for ring in land_rings()]).astype(np.float32)
    figure.add_trace(
        go.Scatter(
            x=land[:, 0],
            y=land[:, 1],
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=LAND,
            hoverinfo="skip",
            showlegend=False,
        )
    )
    for (size, colour), hops in _bundles(node_map, layout).items():
        line = _joined([piece for hop in hops for piece in hop.pieces]).astype(np.float32)
        figure.add_trace(
            go.Scatter(
                x=line[:, 0],
                y=line[:, 1],
                mode="lines",
                line={"width": 0.9 + 0.8 * size, "color": colour},
                opacity=0.55,
                hoverinfo="skip",
                showlegend=False,
            )
        )
    if layout.hops:
        figure.add_trace(
            go.Scatter(
                x=[hop.middle[0] for hop in layout.hops],
                y=[hop.middle[1] for hop in layout.hops],
                mode="markers",
                marker={
                    "symbol": "triangle-up",
                    "angle": [hop.heading for hop in layout.hops],
                    "opacity": 0.9,
                    "line": {"width": 0},
                    "size": [6 + 0.8 * _width_class(hop.count, layout.busiest) for hop in layout.hops],
                    "color": [
                        _HOP if h.source < 0 else layout.colours[int(node_map.group[h.source])] for h in layout.hops
                    ],
                },
                hovertext=[hop.text for hop in layout.hops],
                hovertemplate="%{hovertext}<extra></extra>",
                showlegend=False,
            )
        )
    rings = _joined(_rings(layout))
    figure.add_trace(
        go.Scatter(
            x=rings[:, 0],
            y=rings[:, 1],
            mode="lines",
            line={"width": 0.8, "color": "#b8c1ca"},
            fill="toself",
            fillcolor="rgba(255,255,255,0.6)",
            hoverinfo="skip",
            showlegend=False,
        )
    )
    leaders = _joined(_leaders(layout))
    figure.add_trace(
        go.Scatter(
            x=leaders[:, 0],
            y=leaders[:, 1],
            mode="lines",
            line={"width": 0.8, "color": MUTED},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    disc = 2 * layout.radius / unit
    for number, name in enumerate(node_map.group_names):
        rows = np.flatnonzero(node_map.group == number).tolist()
        figure.add_trace(
            go.Scatter(
                x=layout.nodes[rows, 0],
                y=layout.nodes[rows, 1],
                mode="markers+text" if disc >= 13 else "markers",
                marker={"size": disc, "color": layout.colours[number], "line": {"width": 1.2, "color": "#ffffff"}},
                text=[str(number)] * len(rows),
                textfont={"size": 10, "color": "#ffffff"},
                textposition="middle center",
                hovertext=[_hover(node_map, row) for row in rows],
                hovertemplate="%{hovertext}<extra></extra>",
                name=escape(name),
                showlegend=number < _LEGEND_LIMIT,
            )
        )
    for text, middle in layout.labels:
        figure.add_annotation(
            x=middle[0],
            y=middle[1],
            text=escape(text),
            showarrow=False,
            font={"size": 12, "color": INK},
            bgcolor="rgba(255,255,255,0.6)",
            borderpad=1,
        )
    if layout.busiest:
        figure.add_annotation(
            text=f"thickest line: {layout.busiest} {escape(node_map.traffic_name)}",
            xref="paper",
            yref="paper",
            x=1,
            y=0,
            xanchor="right",
            yanchor="top",
            yshift=-6,
            showarrow=False,
            font={"size": 12, "color": MUTED},
        )
    head = (84 if title else 44) + (22 if len(node_map.group_names) > 9 else 0)
    figure.update_layout(
        title={"text": escape(title), "x": 0, "xref": "paper", "font": {"size": 17}},
        height=int(width * (top - bottom) / (right - left)) + head + 34,
        margin={"l": 10, "r": 10, "t": head, "b": 34},
        plot_bgcolor=_SEA,
        paper_bgcolor="#ffffff",
        font={"family": FONT_STACK, "size": 12, "color": INK},
        hovermode="closest",
        hoverlabel={
            "bgcolor": "#ffffff",
            "bordercolor": "#c9d1d9",
            "font": {"color": INK, "size": 12},
            "align": "left",
        },
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "xanchor": "left", "itemsizing": "constant"},
        dragmode="pan",
        xaxis={"range": [left, right], "visible": False, "constrain": "domain"},
        yaxis={"range": [bottom, top], "visible": False, "scaleanchor": "x", "constrain": "domain"},
    )
    return figure


def _hover(node_map: NodeMap, row: int) -> str:
    if node_map.hover is not None:
        return node_map.hover[row]
    leave, arrive = int(node_map.traffic[row].sum()), int(node_map.traffic[:, row].sum())
    return (
        f"<b>{escape(node_map.names[row])}</b><br>"
        f"{escape(node_map.places[row])}, {escape(node_map.group_names[int(node_map.group[row])])}<br>"
        f"{leave} {escape(node_map.traffic_name)} leave, {arrive} arrive"
    )


def _leaders(layout: MapLayout) -> list[Floats]:
    """Lines from the places that were moved aside to where they really are."""
    moved = np.hypot(*(layout.discs - layout.homes).T) > layout.reach + 0.3 * layout.radius
    return [np.stack((layout.homes[i], layout.discs[i])) for i in np.flatnonzero(moved).tolist()]


def _rings(layout: MapLayout) -> list[Floats]:
    """Circles around the places with more than one node."""
    turn = np.linspace(0, 2 * np.pi, 49)
    circle = np.stack((np.cos(turn), np.sin(turn)), axis=1)
    shared = np.flatnonzero(layout.reach > 1.5 * layout.radius).tolist()
    return [layout.discs[i] + layout.reach[i] * circle for i in shared]


def draw_map(axes: Any, node_map: NodeMap, *, width_points: float) -> None:
    """Draw the map onto Matplotlib axes.

    Parameters
    ----------
    axes
        ``matplotlib.axes.Axes``, best `map_ratio` times as high as wide; limits and frame are set.
    width_points
        Width of the axes in points (1/72 inch).
    """
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    layout = map_layout(node_map, width=width_points, font=9, node_size=13)
    left, bottom, right, top = layout.window
    unit = (right - left) / width_points
    axes.set_facecolor(_SEA)
    axes.add_collection(PolyCollection(list(land_rings()), facecolors=LAND, edgecolors="none", zorder=1), autolim=False)
    for (size, colour), hops in _bundles(node_map, layout).items():
        axes.add_collection(
            LineCollection(
                [piece for hop in hops for piece in hop.pieces],
                colors=colour,
                linewidths=0.6 + 0.6 * size,
                alpha=0.55,
                zorder=2,
                capstyle="round",
            ),
            autolim=False,
        )
        heads = [_head(hop, unit * (2.4 + 0.5 * size)) for hop in hops]
        axes.add_collection(
            PolyCollection(heads, facecolors=colour, edgecolors="none", alpha=0.9, zorder=3), autolim=False
        )
    axes.add_collection(LineCollection(_leaders(layout), colors=MUTED, linewidths=0.6, zorder=4), autolim=False)
    axes.add_collection(
        PolyCollection(_rings(layout), facecolors=(1, 1, 1, 0.6), edgecolors="#b8c1ca", linewidths=0.6, zorder=4.5),
        autolim=False,
    )
    disc = 2 * layout.radius / unit
    for number in range(len(node_map.group_names)):
        rows = node_map.group == number
        axes.scatter(
            layout.nodes[rows, 0],
            layout.nodes[rows, 1],
            s=disc**2,
            color=layout.colours[number],
            edgecolors="white",
            linewidths=0.9,
            zorder=5,
        )
    if disc >= 9.5:
        for (x, y), group in zip(layout.nodes, node_map.group.tolist()):
            axes.text(
                x, y, str(group), fontsize=disc * 0.55, color="white", ha="center", va="center_baseline", zorder=6
            )
    halo = [withStroke(linewidth=2.6, foreground="white", alpha=0.85)]
    for text, (x, y) in layout.labels:
        axes.text(x, y, text, fontsize=9, color=INK, ha="center", va="center_baseline", zorder=7, path_effects=halo)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal", adjustable="box", anchor="NW")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    handles = [
        Line2D([], [], marker="o", ls="", markersize=8, color=colour, markeredgecolor="white", label=name)
        for name, colour in zip(node_map.group_names, layout.colours)
    ]
    handles = handles[:_LEGEND_LIMIT]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=max(1, len(handles) if len(handles) <= 9 else -(-len(handles) // 2)),
        frameon=False,
        fontsize=9,
        borderpad=0.2,
        borderaxespad=0.2,
        handletextpad=0.1,
        columnspacing=1.1,
    )
    if layout.busiest:
        axes.annotate(
            f"thickest line: {layout.busiest} {node_map.traffic_name}",
            (0, 0),
            (5, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8.5,
            color=MUTED,
            zorder=7,
            path_effects=halo,
        )


def _head(hop: Hop, size: float) -> Floats:
    """Arrowhead at the middle of a hop, shape (3, 2)."""
    angle = np.radians(hop.heading)
    ahead, aside = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    return hop.middle + size * np.stack((1.3 * ahead, aside - 0.7 * ahead, -aside - 0.7 * ahead))
