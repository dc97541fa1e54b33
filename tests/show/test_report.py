"""A report is one file: whole without a network, and faithful to what it was given."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pathloom.show.gantt import BAR_LIMIT, gantt_figure
from pathloom.show.report import html_report, png_report
from pathloom.show.world_map import NodeMap, map_figure
from pathloom.timeline import Timeline

PLAN = Timeline.from_spans(
    [("a", "mb0", "forward", 0, 1), ("b", "mb0", "forward", 2, 3), ("b", "mb0", "backward", 3, 5)]
)
WORLD = NodeMap(
    ["a", "b"],
    ["Iowa", "Tokyo"],
    np.array([-95.9, 139.7]),
    np.array([41.3, 35.7]),
    np.array([0, 1]),
    ["stage 0", "stage 1"],
    np.array([[0, 3], [0, 0]]),
)


class Page(HTMLParser):
    """Scripts by id, links to elsewhere, and text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.outside: list[str] = []
        self.words: list[str] = []
        self.ids: set[str] = set()
        self.inside: dict[str, str | None] | None = None
        self.quiet = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if found.get("id") else set()
        self.outside += [str(found[key]) for key in ("src", "href", "srcset", "data") if key in found]
        if tag == "script":
            self.inside = found
            self.scripts.append((found, ""))
        self.quiet = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.inside, self.quiet = None, False

    def handle_data(self, data):
        if self.inside is not None:
            self.scripts[-1] = (self.inside, self.scripts[-1][1] + data)
        elif not self.quiet:
            self.words.append(data)


def page_of(path: Path, **what) -> tuple[str, Page]:
    text = html_report(path, **what).read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_fetches_nothing_and_holds_plotly_once(tmp_path: Path):
    text, page = page_of(
        tmp_path / "r.html", title="T", figures=[(gantt_figure(PLAN), "chart"), (map_figure(WORLD), "map")]
    )
    assert page.outside == [] and "@import" not in text.split("</style>")[0]
    assert len(re.findall(r"plotly\.js v\d", text)) == 1
    assert {"plot0", "plot1", "data0", "data1"} <= page.ids


def test_the_figures_on_the_page_are_the_figures_given(tmp_path: Path):
    figure = gantt_figure(PLAN)
    _, page = page_of(tmp_path / "r.html", title="T", figures=[(figure, "")])
    (data,) = [text for attrs, text in page.scripts if attrs.get("id") == "data0"]
    assert json.loads(data) == json.loads(figure.to_json(engine="json"))


def test_names_cannot_break_out_of_the_page(tmp_path: Path):
    evil = "</script><script>alert(1)</script><!--"
    plan = Timeline.from_spans([(evil, evil, "forward", 0, 1)])
    figure = gantt_figure(plan).update_layout(meta={"raw": evil})
    _, page = page_of(
        tmp_path / "r.html",
        title=evil,
        subtitle=evil,
        columns=[evil],
        rows=[[evil]],
        figures=[(figure, evil)],
        notes=[evil],
    )
    assert len(page.scripts) == 3 and all("alert(1)" not in t for a, t in page.scripts if a.get("type") is None)
    (data,) = [body for attrs, body in page.scripts if attrs.get("id") == "data0"]
    assert json.loads(data)["layout"]["meta"]["raw"] == evil
    assert "".join(page.words).count("alert(1)") == 7  # title twice, subtitle, head, cell, caption, note


def test_table_captions_and_notes_are_on_the_page(tmp_path: Path):
    _, page = page_of(
        tmp_path / "r.html",
        title="Plan",
        subtitle="of 3 spans",
        columns=["method", "time"],
        rows=[["ours", "3.0 s"], ["theirs", "4.0 s"]],
        best=0,
        figures=[(gantt_figure(PLAN), "who works when")],
        notes=["measured links"],
    )
    words = "".join(page.words)
    for said in ("Plan", "of 3 spans", "method", "theirs", "4.0 s", "who works when", "measured links"):
        assert said in words


def test_a_page_without_figures_needs_no_plotly(tmp_path: Path):
    path = html_report(tmp_path / "r.html", title="T", columns=["a"], rows=[["1"]])
    assert path.stat().st_size < 10_000


def test_a_chart_of_many_spans_stays_small_and_brings_its_pointer(tmp_path: Path):
    n = 70_000
    rng = np.random.default_rng(0)
    start = np.arange(n) // 1000 * 1.0
    big = Timeline(
        np.arange(n) % 1000,
        rng.integers(0, 3000, n),
        rng.integers(0, 3, n),
        start,
        start + 0.9,
        tuple(f"n{i}" for i in range(1000)),
        tuple(f"mb{i}" for i in range(3000)),
        ("forward", "loss", "backward"),
    )
    path = html_report(tmp_path / "big.html", title="T", figures=[(gantt_figure(big), "")])
    assert path.stat().st_size < 15_000_000
    text = path.read_text(encoding="utf-8")
    assert "function pathloomPointer" in text and '"gantt"' in text
    assert n > BAR_LIMIT


def test_a_ragged_table_is_an_error(tmp_path: Path):
    for make in (
        lambda: html_report(tmp_path / "r.html", title="T", columns=["a", "b"], rows=[["1"]]),
        lambda: png_report(tmp_path / "r.png", PLAN, columns=["a", "b"], rows=[["1"]]),
    ):
        with pytest.raises(ValueError, match="row 0 has 1 cells for 2 columns"):
            make()


def test_the_picture_grows_with_its_parts_and_is_not_blank(tmp_path: Path):
    from matplotlib.image import imread

    bare = imread(png_report(tmp_path / "a.png", PLAN, dpi=50))
    full = imread(
        png_report(
            tmp_path / "b.png",
            {"plan": PLAN, "run": PLAN},
            node_map=WORLD,
            title="T",
            subtitle="s",
            columns=["method", "time"],
            rows=[["ours", "3.0 s"]],
            best=0,
            groups={"a": "stage 0", "b": "stage 1"},
            dpi=50,
        )
    )
    assert bare.shape[1] == full.shape[1] == 700
    assert full.shape[0] > bare.shape[0] + 250
    assert (full[:, :, :3].min(axis=2) < 0.5).mean() > 0.005
