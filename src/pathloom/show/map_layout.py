"""What a map of nodes shows and where: nodes, hops between them, labels, and the window of the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from pathloom.show.colours import group_colours
from pathloom.show.map_geometry import STRETCH, Floats, bow, label_places, packed, plane, spread, wrapped

#: Most hops that are drawn one by one; beyond, hops between the same two places are drawn as one.
HOP_LIMIT = 400


@dataclass(frozen=True)
class NodeMap:
    """Nodes on the globe and the traffic between them.

    Parameters
    ----------
    names, places
        Names of the N nodes and of the places where they are; a place is labelled once.
    lon, lat
        Degrees east and north, shape (N,).
    group
        Shape (N,): position in `group_names` of each node (its stage), which gives its colour.
    group_names
        Names of the groups, in order.
    traffic
        Shape (N, N): how many items go from node i directly to node j. The diagonal is not drawn.
    traffic_name
        What is counted, in the plural.
    hover
        A text a node (HTML) for the page; name, place and group if None.

    Raises
    ------
    ValueError
        If shapes differ, a coordinate is not on the globe, a group has no name, or traffic is negative.
    """

    names: Sequence[str]
    places: Sequence[str]
    lon: Floats
    lat: Floats
    group: NDArray[np.int64]
    group_names: Sequence[str]
    traffic: NDArray[np.int64]
    traffic_name: str = "microbatches"
    hover: Sequence[str] | None = None

    def __post_init__(self) -> None:
        n = len(self.names)
        for name in ("lon", "lat"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        for name in ("group", "traffic"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        for name in ("places", "lon", "lat", "group", "hover"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise ValueError(f"'{name}' has {len(value)} entries for {n} nodes")
        if self.traffic.shape != (n, n):
            raise ValueError(f"'traffic' has shape {self.traffic.shape}, expected ({n}, {n})")
        on_globe = (np.abs(self.lon) <= 180) & (np.abs(self.lat) <= 90)  # also false for NaN
        if not on_globe.all():
            i = int(np.argmin(on_globe))
            raise ValueError(
                f"node '{self.names[i]}' lies at longitude {self.lon[i]}, latitude {self.lat[i]}; "
                "expected -180 to 180 and -90 to 90"
            )
        if n and (self.group.min() < 0 or self.group.max() >= len(self.group_names)):
            raise ValueError(f"'group' points outside its {len(self.group_names)} names")
        if (self.traffic < 0).any():
            raise ValueError("'traffic' holds a negative count")


@dataclass(frozen=True)
class Hop:
    """A drawn connection: `source` and `target` are nodes, or -1 where `text` speaks of whole places."""

    source: int
    target: int
    count: int
    text: str
    pieces: tuple[Floats, ...]
    middle: Floats
    heading: float


@dataclass(frozen=True)
class MapLayout:
    """Everything of a map in plane coordinates.

    Attributes
    ----------
    window
        Left, bottom, right, top.
    homes
        Shape (P, 2): where the places are.
    nodes
        Shape (N, 2): where the nodes are drawn.
    discs, reach
        Shapes (P, 2) and (P,): the circle around the drawn nodes of each place.
    radius
        Radius of a drawn node.
    colours
        One a group.
    hops
        Thin ones first, so that thick ones lie on top.
    labels
        (text, middle) a place.
    busiest
        Largest count of a drawn hop.
    """

    window: tuple[float, float, float, float]
    homes: Floats
    nodes: Floats
    discs: Floats
    reach: Floats
    radius: float
    colours: tuple[str, ...]
    hops: tuple[Hop, ...]
    labels: tuple[tuple[str, Floats], ...]
    busiest: int


def map_layout(node_map: NodeMap, *, width: float, font: float, node_size: float) -> MapLayout:
    """Place everything for a drawing `width` points (or pixels) wide.

    Parameters
    ----------
    font, node_size
        Height of the label text and diameter of a node, in the unit of `width`; nodes shrink where they are many.
    """
    anchors = plane(node_map.lon, node_map.lat).reshape(-1, 2)
    n = len(anchors)
    window = _window(node_map, anchors)
    unit = (window[2] - window[0]) / width
    radius = 0.5 * unit * max(3.0, node_size * min(1.0, (60 / max(n, 1)) ** 0.5))
    # Nodes of one place stay together: first they are packed, then whole places make room for one another.
    spots: dict[tuple[str, float, float], list[int]] = {}
    for i, (place, (x, y)) in enumerate(zip(node_map.places, anchors.round(0).tolist())):
        spots.setdefault((place, x, y), []).append(i)
    members = [np.array(rows) for rows in spots.values()]
    packs = [packed(len(rows), 1.06 * radius) for rows in members]
    homes = np.array([anchors[rows].mean(axis=0) for rows in members]).reshape(-1, 2)
    reach = np.array(
        [np.hypot(*pack.T).max() + 1.06 * radius + (0.35 * radius if len(pack) > 1 else 0) for pack in packs]
    )
    discs = spread(homes, reach) if len(homes) else homes
    nodes = np.zeros_like(anchors)
    for rows, pack, disc in zip(members, packs, discs):
        nodes[rows] = disc + pack
    places = [place for place, _, _ in spots]
    sizes = [(0.5 * font * len(name) * unit, 1.15 * font * unit) for name in places]
    boxes = np.concatenate((discs - reach[:, None], discs + reach[:, None]), axis=1)
    middles = label_places(boxes, sizes, 0.6 * radius, window)
    hops = _hops(node_map, nodes, places, members)
    return MapLayout(
        window,
        homes,
        nodes,
        discs,
        reach,
        radius,
        tuple(group_colours(len(node_map.group_names))),
        hops,
        tuple(zip(places, middles)),
        max((hop.count for hop in hops), default=0),
    )


def _window(node_map: NodeMap, anchors: Floats) -> tuple[float, float, float, float]:
    """Part of the plane to show: all nodes with air around them, and the whole width of the world if a hop wraps."""
    if not len(anchors):
        return -180.0, -58 * STRETCH, 180.0, 84 * STRETCH
    low, high = anchors.min(axis=0), anchors.max(axis=0)
    source, target = np.nonzero(node_map.traffic)
    wraps = bool((np.abs(node_map.lon[source] - node_map.lon[target]) > 180).any())
    air = max(8.0, 0.12 * float(high[0] - low[0]))
    left, right = max(-180.0, low[0] - air), min(180.0, high[0] + air)
    if wraps or right - left > 250:
        left, right = -180.0, 180.0
    wide = max(50.0, right - left)
    left = min(max(-180.0, (left + right - wide) / 2), 180 - wide)
    right = left + wide
    air = max(6.0, 0.06 * wide)
    bottom, top = low[1] - air, high[1] + air
    tall = max(top - bottom, 0.36 * wide)
    bottom = (bottom + top - tall) / 2
    floor, ceiling = -58.0 * STRETCH, 84.0 * STRETCH
    bottom = min(max(bottom, min(floor, low[1] - 2)), ceiling - tall) if tall < ceiling - floor else floor
    return float(left), float(bottom), float(right), float(bottom + tall)


def _hops(node_map: NodeMap, nodes: Floats, places: list[str], members: list[NDArray[np.int64]]) -> tuple[Hop, ...]:
    traffic = node_map.traffic.copy()
    np.fill_diagonal(traffic, 0)
    by_place = np.count_nonzero(traffic) > HOP_LIMIT
    names = list(node_map.names)
    if by_place:
        place = np.zeros(len(names), dtype=np.int64)
        for number, rows in enumerate(members):
            place[rows] = number
        total = np.zeros((len(places), len(places)), dtype=np.int64)
        np.add.at(total, (place[:, None], place[None, :]), traffic)
        np.fill_diagonal(total, 0)
        traffic, names = total, places
        nodes = np.array([nodes[rows].mean(axis=0) for rows in members])
    source, target = np.nonzero(traffic)
    count = traffic[source, target]
    hops = []
    for which in np.lexsort((target, source, count)).tolist():
        i, j = int(source[which]), int(target[which])
        curve = bow(nodes[i], nodes[j])
        half = len(curve) // 2
        step = curve[half + 1] - curve[half - 1]
        middle = curve[half].copy()
        middle[0] = (middle[0] + 180) % 360 - 180
        noun = node_map.traffic_name
        text = f"{escape(names[i])} → {escape(names[j])}<br><b>{count[which]}</b> {escape(noun)}"
        heading = float(np.degrees(np.arctan2(step[0], step[1])))  # clockwise from north
        ends = (-1, -1) if by_place else (i, j)
        hops.append(Hop(*ends, int(count[which]), text, tuple(wrapped(curve)), middle, heading))
    return tuple(hops)
