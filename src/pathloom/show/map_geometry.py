"""Geometry of a map on plain axes: land, bows between places, spreading of nodes, and places for labels.

The plane is equirectangular: ``x`` is the longitude in degrees, ``y`` the latitude in degrees times `STRETCH`, so that
lands between 20 and 50 degrees keep their shape on axes of equal scale.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Plane units per degree of latitude.
STRETCH = 1.22


def plane(lon: Floats, lat: Floats) -> Floats:
    """Points of the plane, shape (n, 2), of longitudes and latitudes in degrees."""
    return np.stack((np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64) * STRETCH), axis=-1)


@lru_cache(maxsize=1)
def land_rings() -> tuple[Floats, ...]:
    """Outlines of the world's land in the plane, each of shape (m, 2), largest first."""
    text = files("pathloom.show").joinpath("land.json").read_text(encoding="utf-8")
    rings = (np.array(ring, dtype=np.float64).reshape(-1, 2) / 10 for ring in json.loads(text)["rings"])
    return tuple(plane(ring[:, 0], ring[:, 1]) for ring in rings)


def bow(start: Floats, end: Floats, *, bend: float = 0.16, points: int = 25) -> Floats:
    """Curve between two points of the plane by the shortest way round the world, not yet wrapped.

    The curve bows to the left of the direction of travel, so that the two directions of one hop do not cover each
    other.

    Parameters
    ----------
    start, end
        Shape (2,).
    bend
        Distance of the control point from the chord, as a share of the chord.

    Returns
    -------
    numpy.ndarray
        Shape (points, 2); starts at `start` and ends at `end` or at its copy 360 degrees east or west.
    """
    step = end - start
    step = np.array([(step[0] + 180) % 360 - 180, step[1]])
    control = start + step / 2 + bend * np.array([-step[1], step[0]])
    t = np.linspace(0, 1, points)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * (start + step)


def wrapped(curve: Floats) -> list[Floats]:
    """Pieces of `curve` within -180 to 180 degrees, cut exactly where it crosses the antimeridian.

    Parameters
    ----------
    curve
        Shape (n, 2), neighbouring points less than 360 degrees apart.

    Returns
    -------
    list
        Pieces of shape (m, 2), in the order of travel.
    """
    world = np.floor((curve[:, 0] + 180) / 360)
    # A curve that ends on the antimeridian stays on the side it came from.
    on_edge = (curve[:, 0] + 180) % 360 == 0
    for i in range(1, len(curve)):
        if on_edge[i] and abs(world[i] - world[i - 1]) == 1:
            world[i] = world[i - 1]
    if on_edge[0] and len(curve) > 1:
        world[0] = world[1]
    pieces: list[Floats] = []
    current = [curve[0] - [360 * world[0], 0]]
    for i in range(1, len(curve)):
        before, here = world[i - 1], world[i]
        if here != before:
            edge = 360 * max(before, here) - 180
            share = (edge - curve[i - 1, 0]) / (curve[i, 0] - curve[i - 1, 0])
            y = curve[i - 1, 1] + share * (curve[i, 1] - curve[i - 1, 1])
            current.append(np.array([edge - 360 * before, y]))
            pieces.append(np.array(current))
            current = [np.array([edge - 360 * here, y])]
        current.append(curve[i] - [360 * here, 0])
    pieces.append(np.array(current))
    return [piece for piece in pieces if len(piece) > 1]


def spread(points: Floats, radii: Floats, *, rounds: int = 600) -> Floats:
    """Move discs apart until no two overlap, keeping each near where it was.

    Parameters
    ----------
    points
        Shape (n, 2) in the plane; many may coincide.
    radii
        Shape (n,).

    Returns
    -------
    numpy.ndarray
        Shape (n, 2). Deterministic; discs that overlap nothing stay where they are.
    """
    from scipy.spatial import cKDTree

    n = len(points)
    if n < 2:
        return points.astype(np.float64, copy=True)
    reach = 2 * float(radii.max())
    turn = np.arange(n) * (np.pi * (3 - 5**0.5))  # sunflower: coinciding discs leave in different directions
    nudge = 0.02 * radii[:, None] * np.stack((np.cos(turn), np.sin(turn)), axis=1)
    twins = np.unique(cKDTree(points).query_pairs(1e-6 * reach, output_type="ndarray"))
    moved = points.astype(np.float64, copy=True)
    moved[twins] += nudge[twins]
    for round_ in range(rounds):
        settle = round_ > rounds // 3  # first hold on to the origin, then only make room
        pairs = cKDTree(moved).query_pairs(reach, output_type="ndarray")
        gap = moved[pairs[:, 0]] - moved[pairs[:, 1]]
        length = np.maximum(np.hypot(gap[:, 0], gap[:, 1]), 1e-9)
        wanted = radii[pairs[:, 0]] + radii[pairs[:, 1]]
        close = length < wanted * (1 - 1e-3)
        if not close.any() and settle:
            break
        pairs, gap, length, wanted = pairs[close], gap[close], length[close], wanted[close]
        push = (0.5 * (wanted - length) / length)[:, None] * gap
        force = np.zeros_like(moved)
        np.add.at(force, pairs[:, 0], push)
        np.add.at(force, pairs[:, 1], -push)
        crowd = np.bincount(pairs.ravel(), minlength=n).clip(1)
        moved += force / np.sqrt(crowd)[:, None]
        if not settle:
            moved += 0.06 * (points - moved)
    return moved


def packed(n: int, radius: float) -> Floats:
    """Middles of `n` discs of one radius close together around the origin, shape (n, 2)."""
    if n <= 1:
        return np.zeros((n, 2))
    if n <= 4:  # on a ring, the first pair side by side
        turn = 2 * np.pi * np.arange(n) / n + (np.pi / 2 if n == 3 else np.pi / 4 if n == 4 else 0)
        return radius / np.sin(np.pi / n) * np.stack((np.cos(turn), np.sin(turn)), axis=1)
    # Hexagonal grid, the n cells nearest to the origin.
    side = int(n**0.5) + 2
    column, row = np.meshgrid(np.arange(-side, side + 1), np.arange(-side, side + 1))
    cells = 2 * radius * np.stack(((column + row / 2).ravel(), (row * 3**0.5 / 2).ravel()), axis=1)
    distance = np.round(np.hypot(cells[:, 0], cells[:, 1]) / radius, 6)
    chosen = cells[np.lexsort((np.arctan2(cells[:, 1], cells[:, 0]), distance))[:n]]
    return chosen - chosen.mean(axis=0)


def _overlap(box: Floats, boxes: Floats) -> float:
    """Total area that `box` (left, bottom, right, top) shares with `boxes`, shape (m, 4)."""
    if not len(boxes):
        return 0.0
    wide = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    high = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    return float((wide.clip(0) * high.clip(0)).sum())


def label_places(
    boxes: Floats, sizes: Sequence[tuple[float, float]], air: float, window: tuple[float, float, float, float]
) -> Floats:
    """Middles for labels, one beside each box of nodes, clear of boxes and of one another where possible.

    Parameters
    ----------
    boxes
        Shape (n, 4): left, bottom, right, top of what each label names.
    sizes
        Width and height of each label in the plane.
    air
        Distance between a label and its box; tried in growing multiples.
    window
        Left, bottom, right, top of the visible plane.

    Returns
    -------
    numpy.ndarray
        Shape (n, 2).
    """
    taken = np.zeros((0, 4))
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = 2 * max((wide for wide, _ in sizes), default=0.0)
    # The most crowded choose first: they have the fewest free sides.
    crowd = [int((np.hypot(*(middles - middle).T) < near).sum()) for middle in middles]
    for which in sorted(range(len(boxes)), key=lambda i: (-crowd[i], i)):
        middle, half = (boxes[which, :2] + boxes[which, 2:]) / 2, (boxes[which, 2:] - boxes[which, :2]) / 2
        wide, tall = sizes[which]
        best, best_cost = middle, np.inf
        for ring in range(5):
            away = air * (1 + 3 * ring)
            for rank, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, -1), (0, 1), (1, 1), (-1, 1), (1, -1), (-1, -1))):
                at = middle + np.array([dx * (half[0] + wide / 2 + away), dy * (half[1] + tall / 2 + away)])
                if dx and dy:  # a corner label need not clear both sides
                    at[0] -= dx * min(half[0] + away, wide / 2) * 0.6
                box = np.array([at[0] - wide / 2, at[1] - tall / 2, at[0] + wide / 2, at[1] + tall / 2])
                outside = max(0.0, window[0] - box[0], box[2] - window[2], window[1] - box[1], box[3] - window[3])
                cost = (
                    _overlap(box, boxes) * 8
                    + _overlap(box, taken) * 12
                    + outside * tall * 20
                    + wide * tall * (0.45 * ring + 0.03 * rank)
                )
                if cost < best_cost:
                    best, best_cost = at, cost
        middles[which] = best
        half = np.array([wide, tall]) / 2
        taken = np.concatenate((taken, np.concatenate((best - half, best + half))[None]))
    return middles
