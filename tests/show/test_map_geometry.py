"""Facts about the map's geometry: shortest ways, clean cuts at the antimeridian, discs that make room."""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.show.map_geometry import STRETCH, bow, label_places, land_rings, packed, plane, spread, wrapped

longitude = st.floats(-180, 180, allow_nan=False)
latitude = st.floats(-60, 75, allow_nan=False)


def inside(lon: float, lat: float) -> bool:
    """Even-odd rule over all outlines."""
    x, y = lon, lat * STRETCH
    hits = 0
    for ring in land_rings():
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                hits += 1
    return hits % 2 == 1


@pytest.mark.parametrize(
    ("place", "lon", "lat", "land"),
    [
        ("Iowa", -93.5, 42, True),
        ("Moscow", 37.6, 55.7, True),
        ("Sydney's hinterland", 149.5, -33, True),
        ("Sahara", 10, 23, True),
        ("Chukotka, east of the antimeridian", -176.5, 67, True),
        ("Chukotka, west of it", 177, 67, True),
        ("Madagascar", 47, -19, True),
        ("mid Atlantic", -35, 30, False),
        ("mid Pacific", -150, 0, False),
        ("Pacific west of the antimeridian", 170, 20, False),
        ("Caspian Sea", 51, 42, False),
        ("Hudson Bay", -85, 60, False),
    ],
)
def test_land_is_land_and_sea_is_sea(place, lon, lat, land):
    assert inside(lon, lat) is land


def test_the_outline_is_small_names_its_source_and_stays_on_the_map():
    source = files("pathloom.show").joinpath("land.json")
    data = json.loads(source.read_text(encoding="utf-8"))
    assert len(source.read_bytes()) <= 40_000
    assert "Natural Earth" in data["source"] and "ublic domain" in data["licence"]
    for ring in land_rings():
        assert len(ring) >= 3 and (np.abs(ring[:, 0]) <= 180).all()
        # no edge jumps across the map, which would fill a stripe of sea
        assert np.abs(np.diff(ring[:, 0], append=ring[:1, 0])).max() < 40


@settings(deadline=None)
@given(longitude, latitude, longitude, latitude)
def test_a_bow_goes_the_shorter_way_round_and_bows_to_the_left(lon0, lat0, lon1, lat1):
    start, end = plane(np.array([lon0, lon1]), np.array([lat0, lat1]))
    curve = bow(start, end)
    assert curve[0] == pytest.approx(start)
    step = curve[-1] - curve[0]
    assert abs(step[0]) <= 180 + 1e-9
    assert (curve[-1, 0] - end[0]) % 360 == pytest.approx(0, abs=1e-6) or (
        curve[-1, 0] - end[0]
    ) % 360 == pytest.approx(360, abs=1e-6)
    assert curve[-1, 1] == pytest.approx(end[1])
    offset = curve - start
    left = step[0] * offset[:, 1] - step[1] * offset[:, 0]
    assert (left >= -1e-6).all()


@settings(deadline=None)
@given(longitude, latitude, longitude, latitude)
def test_wrapping_keeps_every_point_and_cuts_only_at_the_antimeridian(lon0, lat0, lon1, lat1):
    start, end = plane(np.array([lon0, lon1]), np.array([lat0, lat1]))
    curve = bow(start, end)
    pieces = wrapped(curve)
    for piece in pieces:
        assert (np.abs(piece[:, 0]) <= 180 + 1e-9).all()
        assert np.abs(np.diff(piece[:, 0])).max() < 180  # no line runs back across the map
    for before, after in pairwise(pieces):
        assert abs(before[-1, 0]) == pytest.approx(180) and after[0, 0] == pytest.approx(-before[-1, 0])
        assert before[-1, 1] == pytest.approx(after[0, 1])
    length = sum(np.hypot(*np.diff(piece, axis=0).T).sum() for piece in pieces)
    assert length == pytest.approx(np.hypot(*np.diff(curve, axis=0).T).sum(), abs=1e-6)


def test_tokyo_to_oregon_crosses_the_pacific_and_not_asia():
    tokyo, oregon = plane(np.array([139.7, -121.2]), np.array([35.7, 45.6]))
    first, second = wrapped(bow(tokyo, oregon))
    assert first[0] == pytest.approx(tokyo) and second[-1] == pytest.approx(oregon)
    assert (first[:, 0] >= 139).all() and first[-1, 0] == 180
    assert second[0, 0] == -180 and (second[:, 0] <= -121).all()


def test_a_hop_that_ends_on_the_antimeridian_is_one_piece():
    for a, b in (((170.0, 0.0), (180.0, 0.0)), ((-170.0, 0.0), (-180.0, 0.0)), ((180.0, 0.0), (170.0, 0.0))):
        assert len(wrapped(bow(np.array(a), np.array(b)))) == 1


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-40, 40), st.floats(0.5, 3)), max_size=16))
def test_spread_discs_do_not_overlap_and_repeat_exactly(discs):
    points = np.array([d[:2] for d in discs]).reshape(-1, 2)
    radii = np.array([d[2] for d in discs])
    moved = spread(points, radii)
    for i, j in combinations(range(len(discs)), 2):
        assert np.hypot(*(moved[i] - moved[j])) >= (radii[i] + radii[j]) * 0.99
    assert np.array_equal(moved, spread(points, radii))


def test_discs_with_room_stay_where_they_are():
    points = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    assert np.array_equal(spread(points, np.array([1.0, 1.0, 1.0])), points)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 19, 84])
def test_packed_discs_touch_but_do_not_overlap(n):
    discs = packed(n, 1.5)
    assert discs.shape == (n, 2)
    apart = [float(np.hypot(*(a - b))) for a, b in combinations(discs, 2)]
    assert all(d >= 3 - 1e-9 for d in apart)
    if n > 1:
        assert min(apart) == pytest.approx(3)
        # at least half as dense as the densest packing
        assert np.hypot(*discs.T).max() <= 1.5 * (1 + (2 * n) ** 0.5)


def test_labels_keep_clear_of_nodes_of_each_other_and_of_the_edge():
    middles = plane(np.array([-0.1, 3.8, 6.8, 8.7]) * 3, np.array([51.5, 50.5, 53.4, 50.1]))
    boxes = np.concatenate((middles - 2, middles + 2), axis=1)
    sizes = [(14.0, 3.0)] * 4
    window = (-60.0, 20.0, 60.0, 100.0)
    found = label_places(boxes, sizes, 0.5, window)
    taken = [(x - 7, y - 1.5, x + 7, y + 1.5) for x, y in found]
    for a, b in [*combinations(taken, 2), *((a, tuple(b)) for a in taken for b in boxes)]:
        wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        assert wide <= 1e-9 or high <= 1e-9
    for left, bottom, right, top in taken:
        assert left >= window[0] and bottom >= window[1] and right <= window[2] and top <= window[3]
