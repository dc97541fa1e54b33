"""Facts about the world map: every node is visible, every used hop is drawn, widths follow the traffic."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from pathloom.show.map_layout import HOP_LIMIT, NodeMap, map_layout
from pathloom.show.world_map import draw_map, map_figure, map_ratio

PLACES = {"Oregon": (-121.2, 45.6), "Tokyo": (139.7, 35.7), "London": (-0.1, 51.5), "Belgium": (3.8, 50.5)}


def nodes(places, traffic=None, groups=3, **more) -> NodeMap:
    n = len(places)
    return NodeMap(
        [f"node{i}" for i in range(n)],
        places,
        np.array([PLACES[p][0] for p in places]),
        np.array([PLACES[p][1] for p in places]),
        np.arange(n) % groups,
        [f"stage {g}" for g in range(groups)],
        np.zeros((n, n), dtype=int) if traffic is None else np.asarray(traffic),
        **more,
    )


def test_nodes_of_one_place_are_all_visible_and_near_it():
    places = ["London"] * 7 + ["Belgium"] * 5 + ["Tokyo"]
    layout = map_layout(nodes(places), width=1000, font=11, node_size=15)
    for a, b in combinations(layout.nodes, 2):
        assert np.hypot(*(a - b)) >= 2 * layout.radius
    assert len(layout.labels) == 3
    home = dict(zip(dict.fromkeys(places), layout.homes))
    for place, at in zip(places, layout.nodes):
        assert np.hypot(*(at - home[place])) < 20 * layout.radius


def test_a_hop_over_the_pacific_shows_the_whole_world_and_leaves_by_one_edge_to_return_by_the_other():
    layout = map_layout(nodes(["Tokyo", "Oregon"], [[0, 5], [0, 0]]), width=1000, font=11, node_size=15)
    assert layout.window[0] == -180 and layout.window[2] == 180
    (hop,) = layout.hops
    east, west = hop.pieces
    assert east[-1, 0] == 180 and west[0, 0] == -180 and east[0, 0] > 100 and west[-1, 0] < -100


def test_a_map_of_europe_is_not_a_map_of_the_world():
    layout = map_layout(nodes(["London", "Belgium"], [[0, 1], [0, 0]]), width=1000, font=11, node_size=15)
    left, bottom, right, top = layout.window
    assert right - left <= 60
    for x, y in layout.nodes:
        assert left < x < right and bottom < y < top


def test_both_directions_of_a_hop_are_apart():
    layout = map_layout(nodes(["London", "Tokyo"], [[0, 2], [3, 0]]), width=1000, font=11, node_size=15)
    there, back = layout.hops
    assert {(there.source, there.target), (back.source, back.target)} == {(0, 1), (1, 0)}
    assert np.hypot(*(there.middle - back.middle)) > 5
    assert abs((there.heading - back.heading + 360) % 360 - 180) < 1


def test_width_grows_with_the_number_of_microbatches_and_unused_hops_are_not_drawn():
    traffic = np.zeros((4, 4), dtype=int)
    traffic[0, 1], traffic[1, 2], traffic[2, 3], traffic[3, 3] = 1, 6, 30, 9
    figure = map_figure(nodes(["Oregon", "Tokyo", "London", "Belgium"], traffic))
    heads = next(trace for trace in figure.data if trace.marker.symbol == "triangle-up")
    counts = [int(text.split("<b>")[1].split("<")[0]) for text in heads.hovertext]
    assert counts == [1, 6, 30]
    assert list(heads.marker.size) == sorted(heads.marker.size) and heads.marker.size[0] < heads.marker.size[-1]
    widths = {trace.line.width for trace in figure.data if trace.opacity == 0.55}
    assert len(widths) == 3
    assert any("thickest line: 30 microbatches" in note.text for note in figure.layout.annotations)


def test_each_stage_is_a_legend_entry_with_its_nodes():
    figure = map_figure(nodes(["Oregon", "Tokyo", "London", "Belgium"]))
    shown = {trace.name: len(trace.x) for trace in figure.data if trace.showlegend}
    assert shown == {"stage 0": 2, "stage 1": 1, "stage 2": 1}
    texts = [text for trace in figure.data if trace.showlegend for text in trace.hovertext]
    assert any(text.startswith("<b>node1</b><br>Tokyo, stage 1<br>") for text in texts)
    assert "own words" in map_figure(nodes(["Oregon"], hover=["own words"])).to_json()


def test_nothing_on_the_map_needs_the_network():
    figure = map_figure(nodes(["Oregon", "Tokyo"], [[0, 1], [0, 0]]))
    assert {trace.type for trace in figure.data} == {"scatter"}
    assert "http" not in figure.to_json()


def test_many_hops_are_drawn_by_place_and_keep_their_sum():
    rng = np.random.default_rng(3)
    places = [list(PLACES)[i % 4] for i in range(40)]
    traffic = rng.integers(0, 4, (40, 40))
    assert np.count_nonzero(traffic) > HOP_LIMIT
    layout = map_layout(nodes(places, traffic), width=1000, font=11, node_size=15)
    apart = np.array([[a != b for b in places] for a in places])
    assert len(layout.hops) == 12
    assert sum(hop.count for hop in layout.hops) == traffic[apart].sum()
    assert all(hop.source == -1 for hop in layout.hops)


def test_a_thousand_nodes_fit():
    places = [list(PLACES)[i % 4] for i in range(1000)]
    layout = map_layout(nodes(places), width=1000, font=11, node_size=15)
    left, _, right, _ = layout.window
    assert (layout.nodes[:, 0] > left).all() and (layout.nodes[:, 0] < right).all()
    assert np.unique(layout.nodes.round(6), axis=0).shape == (1000, 2)


def test_the_print_puts_a_node_where_its_place_is():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    node_map = nodes(["Oregon", "Tokyo", "London"], np.eye(3, k=1, dtype=int) * 4)
    figure = Figure(figsize=(10, 10 * map_ratio(node_map)))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_map(axes, node_map, width_points=720)
    figure.canvas.draw()
    drawn = np.concatenate([c.get_offsets() for c in axes.collections if c.get_offsets().any()])
    wanted = map_layout(node_map, width=720, font=9, node_size=13).homes
    assert sorted(map(tuple, np.round(drawn, 6))) == sorted(map(tuple, np.round(wanted, 6)))
    assert {t.get_text() for t in axes.texts} >= {"Oregon", "Tokyo", "London"}
    box = axes.get_window_extent()
    assert box.width / figure.bbox.width > 0.98 and box.height / figure.bbox.height > 0.98


def test_no_nodes_make_an_empty_map():
    empty = NodeMap([], [], np.zeros(0), np.zeros(0), np.zeros(0, dtype=int), [], np.zeros((0, 0)))
    assert map_figure(empty).layout.height > 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lon": np.array([0.0, 200.0])}, "node 'b' lies at longitude 200.0"),
        ({"lat": np.array([np.nan, 0.0])}, "node 'a' lies at"),
        ({"lat": np.array([0.0])}, "'lat' has 1 entries for 2 nodes"),
        ({"group": np.array([0, 2])}, "'group' points outside its 1 names"),
        ({"traffic": np.zeros((2, 3))}, "'traffic' has shape"),
        ({"traffic": np.array([[0, -1], [0, 0]])}, "negative"),
        ({"hover": ["x"]}, "'hover' has 1 entries"),
    ],
)
def test_wrong_input_is_named(change, message):
    fields = {
        "names": ["a", "b"],
        "places": ["p", "q"],
        "lon": np.array([0.0, 1.0]),
        "lat": np.array([0.0, 1.0]),
        "group": np.array([0, 0]),
        "group_names": ["g"],
        "traffic": np.zeros((2, 2)),
    }
    with pytest.raises(ValueError, match=message):
        NodeMap(**{**fields, **change})
