"""Facts about Gantt charts: rows stand where they were asked for, and every span is drawn once, where it was."""

from __future__ import annotations

import json
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.show.gantt import BAR_LIMIT, Panel, gantt_figure, gantt_png
from pathloom.show.gantt_layout import as_panels, gantt_layout
from pathloom.timeline import Timeline


def small() -> Timeline:
    rows = []
    for b in range(3):
        rows += [
            ("a", f"mb{b}", "forward", b, b + 0.8),
            ("b", f"mb{b}", "forward", b + 1, b + 1.8),
            ("a", f"mb{b}", "loss", 5 + b, 5.2 + b),
            ("b", f"mb{b}", "backward", 10 + 2 * b, 11.5 + 2 * b),
            ("c", f"mb{b}", "backward", 12 + 2 * b, 13.5 + 2 * b),
        ]
    rows += [(n, "sync", "sync", 20, 21) for n in "abc"]
    t = Timeline.from_spans(rows, resources=["a", "b", "c"])
    return Timeline(
        t.resource, t.item, t.kind, t.start, t.end, t.resources, t.items, t.kinds, "s", {"stage": t.resource * 2}
    )


def large(n: int, resources: int = 50, items: int = 300) -> Timeline:
    rng = np.random.default_rng(1)
    resource = np.arange(n) % resources
    start = np.arange(n) // resources * 1.0
    return Timeline(
        resource,
        rng.integers(0, items, n),
        rng.integers(0, 3, n),
        start,
        start + rng.uniform(0.1, 1.0, n),
        tuple(f"n{i}" for i in range(resources)),
        tuple(f"mb{i}" for i in range(items)),
        ("forward", "loss", "backward"),
        columns={"stage": resource // 10},
    )


def bars(figure):
    """(axis, y, start, end) of every bar of a figure."""
    found = []
    for trace in figure.data:
        if trace.type == "bar" and trace.base is not None:
            found += [
                (trace.yaxis, float(y), float(base), float(base + x))
                for y, base, x in zip(trace.y, trace.base, trace.x)
            ]
    return sorted(found)


def axis_labels(figure, axis="yaxis"):
    return [text.strip("\u00a0") for text in figure.layout[axis].ticktext]


def test_every_span_is_one_bar_at_its_time_and_row():
    t = small()
    figure = gantt_figure(t)
    centre = dict(zip(axis_labels(figure), figure.layout.yaxis.tickvals))
    wanted = sorted(("y", centre[t.resources[r]], float(s), float(e)) for r, s, e in zip(t.resource, t.start, t.end))
    for (axis, y, a, b), (axis2, y2, a2, b2) in zip(bars(figure), wanted, strict=True):
        assert axis == axis2 and (y, a, b) == pytest.approx((y2, a2, b2))


def test_rows_follow_the_asked_order_and_groups_stand_together():
    t = small()
    figure = gantt_figure(t, order=["c", "a"], labels={"a": "node a (Iowa)"})
    assert axis_labels(figure) == ["c", "node a (Iowa)", "b"]
    layout = gantt_layout(as_panels(t, None, None, {"a": "stage 1", "b": "stage 0", "c": "stage 1"}))
    panel = layout.panels[0]
    assert [t.resources[r] for r in panel.rows] == ["a", "c", "b"]
    assert [g.title for g in panel.groups] == ["stage 1", "stage 0"]
    assert panel.groups[0].bottom < panel.groups[1].top
    for group, rows in zip(panel.groups, ([0, 1], [2])):
        assert all(group.top < panel.centre[r] < group.bottom for r in rows)


@settings(deadline=None)
@given(st.permutations(list("abcdef")), st.lists(st.sampled_from(["x", "y", "z"]), min_size=6, max_size=6))
def test_rows_are_a_permutation_one_apart_and_never_mix_groups(order, titles):
    t = Timeline.from_spans([(n, "i", "k", 0, 1) for n in "abcdef"])
    panel = gantt_layout([Panel(t, order=order, groups=dict(zip("abcdef", titles)))]).panels[0]
    assert sorted(panel.rows.tolist()) == list(range(6))
    assert (np.diff(panel.centre) >= 1).all() and panel.centre[-1] + 0.5 == pytest.approx(panel.height)
    seen = [titles[r] for r in panel.rows]
    assert len([1 for a, b in pairwise(seen) if a != b]) == len(set(titles)) - 1
    within = {title: [n for n in order if titles["abcdef".index(n)] == title] for title in set(titles)}
    for title, names in within.items():
        assert [t.resources[r] for r in panel.rows if titles[r] == title] == names


def test_an_item_has_one_colour_and_its_kinds_differ():
    t = small()
    layout = gantt_layout(as_panels(t, None, None, None))
    fills = {(layout.items[i], look): s.fill for i, shade in enumerate(layout.shades) for look, s in shade.items()}
    assert len({fills[f"mb{b}", "solid"] for b in range(3)}) == 3
    assert fills["mb0", "solid"] != fills["mb0", "light"]
    assert [layout.items[i] for i in layout.coloured] == ["mb0", "mb1", "mb2"]  # sync takes no hue
    hatched = [trace for trace in gantt_figure(t).data if trace.marker.pattern.shape == "/" and trace.base is not None]
    texts = [text for trace in hatched for text in trace.hovertext]
    assert len(texts) == 9 and all("backward" in text or "sync" in text for text in texts)


def test_hover_tells_item_kind_stage_row_and_times():
    figure = gantt_figure(small(), labels={"b": "b (Iowa)"})
    texts = [text for trace in figure.data if trace.hovertext is not None for text in trace.hovertext]
    assert "<b>mb1</b> backward<br>stage 2<br>b (Iowa)<br>12.000 to 13.500 s<br>lasts 1.500 s" in texts


def test_names_that_look_like_markup_are_shown_as_text():
    t = Timeline.from_spans([("<b>", "<i>", "k", 0, 1)])
    figure = gantt_figure(t)
    assert axis_labels(figure) == ["&lt;b&gt;"]
    assert any("&lt;i&gt;" in text for trace in figure.data if trace.hovertext is not None for text in trace.hovertext)


def test_legend_has_every_item_once_and_every_kind_once():
    figure = gantt_figure({"plan": small(), "run": small()})
    shown = [(trace.legend or "legend", trace.name) for trace in figure.data if trace.showlegend]
    assert sorted(shown) == sorted(
        [("legend", "0"), ("legend", "1"), ("legend", "2")]
        + [("legend2", kind) for kind in ("forward", "loss", "backward", "sync")]
    )


def test_several_timelines_share_the_axis_of_time_but_not_the_rows():
    late = Timeline.from_spans([("a", "mb0", "forward", 0, 40), ("z", "mb9", "forward", 0, 1)])
    figure = gantt_figure(
        {"plan": small(), "run": late}, order=["b", "a", "c", "z"], groups={"z": "last", "a": "first"}
    )
    assert figure.layout.xaxis.range[1] >= 40
    assert {trace.xaxis for trace in figure.data} == {None}
    assert axis_labels(figure, "yaxis") == ["b", "c", "a"]  # those without a group stand together too
    assert set(axis_labels(figure, "yaxis2")) == {"a", "z"}
    upper, lower = figure.layout.yaxis.domain, figure.layout.yaxis2.domain
    assert lower[1] < upper[0]


def test_the_same_item_has_the_same_colour_in_every_panel():
    other = Timeline.from_spans([("a", "mb2", "forward", 0, 1), ("a", "mb0", "forward", 1, 2)])
    layout = gantt_layout(as_panels({"x": small(), "y": other}, None, None, None))
    assert layout.items == ("mb0", "mb1", "mb2", "sync")
    assert layout.panels[1].item.tolist() == [2, 0]


def test_a_large_timeline_costs_few_traces_and_few_megabytes():
    figure = gantt_figure(large(70_000, 1000, 3000))
    assert len(figure.data) <= 120
    size = len(figure.to_json(engine="json"))
    assert size < 9_000_000  # with plotly.js, under 15 MB
    points = sum(len(trace.x) // 5 for trace in figure.data if trace.type == "scatter")
    assert points == 70_000


def test_large_and_small_charts_draw_the_same_rectangles():
    t = large(BAR_LIMIT + 50)
    figure = gantt_figure(t)
    corners = np.concatenate(
        [
            np.stack((trace.x, trace.y), axis=1).reshape(-1, 5, 2)[:, :4]
            for trace in figure.data
            if trace.type == "scatter"
        ]
    )
    found = sorted((float(c[0, 0]), float(c[1, 0]), float(c[:, 1].mean())) for c in corners)
    layout = gantt_layout(as_panels(t, None, None, None)).panels[0]
    wanted = sorted(zip(t.start.tolist(), t.end.tolist(), layout.y.tolist()))
    assert np.allclose(found, wanted, atol=1e-4)


def test_packed_spans_of_a_large_chart_hold_every_span_in_search_order():
    t = large(BAR_LIMIT + 123)
    data = json.loads(gantt_figure(t, labels={"n3": "three"}).to_json(engine="json"))["layout"]["meta"]["gantt"]
    (panel,) = data["panels"]
    assert panel["labels"][3] == "three" and panel["axis"] == "yaxis" and data["unit"] == "s"

    def column(name, dtype):
        return np.frombuffer(b64decode(panel[name]), dtype=dtype)

    start, end = column("start", "<f8"), column("end", "<f8")
    first = np.array(panel["first"])
    assert first[0] == 0 and first[-1] == len(t) and len(first) == len(t.resources) + 1
    row = np.repeat(np.arange(len(t.resources)), np.diff(first))
    assert all((np.diff(start[first[r] : first[r + 1]]) >= 0).all() for r in range(len(t.resources)))
    got = zip(
        row.tolist(),
        column("item", "<u4").tolist(),
        column("kind", "<u1").tolist(),
        start,
        end,
        column("stage", "<i4").tolist(),
    )
    want = zip(t.resource.tolist(), t.item.tolist(), t.kind.tolist(), t.start, t.end, t.columns["stage"].tolist())
    assert sorted(got) == sorted(want)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gantt_figure({}), "no timeline"),
        (lambda: gantt_figure(small(), order=["nobody"]), "order names the resource 'nobody'"),
        (lambda: gantt_figure(small(), groups={"nobody": "g"}), "groups names the resource 'nobody'"),
        (lambda: gantt_figure(small(), looks={"forward": "shiny"}), "look 'shiny'"),
        (lambda: gantt_figure([Panel(small())], order=["a"]), "do not give them twice"),
        (
            lambda: gantt_figure({"a": small(), "b": Timeline.from_spans([("a", "i", "k", 0, 1)], unit="ms")}),
            "different units of time: ms, s",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_empty_timeline_still_makes_a_chart(tmp_path: Path):
    empty = Timeline.from_spans([], resources=["a"])
    assert axis_labels(gantt_figure(empty)) == ["a"]
    assert gantt_png(empty, tmp_path / "empty.png").stat().st_size > 1000
    assert gantt_figure(Timeline.from_spans([])).layout.height > 0


def test_the_print_shows_each_items_colour_where_its_span_is(tmp_path: Path):
    from matplotlib.image import imread

    t = Timeline.from_spans([("a", "mb0", "forward", 0, 4), ("b", "mb1", "forward", 6, 10)])
    path = gantt_png(t, tmp_path / "g.png", width=8, dpi=80)
    pixels = (imread(path)[:, :, :3] * 255).round().astype(int)
    layout = gantt_layout(as_panels(t, None, None, None))
    spots = []
    for item in (0, 1):
        code = layout.shades[item]["solid"].fill
        rgb = [int(code[i : i + 2], 16) for i in (1, 3, 5)]
        rows, columns = np.nonzero((np.abs(pixels - rgb) <= 2).all(axis=2))
        spots.append((rows.mean(), columns.min(), columns.max()))
    assert spots[0][0] < spots[1][0]  # a above b
    assert spots[0][2] < spots[1][1]  # 4 s before 6 s
    assert (spots[0][2] - spots[0][1]) == pytest.approx(spots[1][2] - spots[1][1], abs=3)


def test_printing_many_spans_makes_few_objects(tmp_path: Path):
    from matplotlib.figure import Figure

    from pathloom.show.gantt_print import place_gantt

    figure = Figure(figsize=(10, 8))
    place_gantt(figure, gantt_layout(as_panels(large(20_000), None, None, None)), top=1, bottom=0)
    (axes,) = figure.axes
    assert len(axes.get_children()) < 200
    assert sum(len(c.get_paths()) for c in axes.collections) == 20_000
