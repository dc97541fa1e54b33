"""Pictures of a training plan show its nodes by stage, its paths on the map, and every span."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from small_plans import pair, rigid_plan, serial_plan, varied_case

from pathloom.plan import Plan
from pathloom.timeline import Timeline
from pathloom.worlds.train.pictures import draw, node_map_of, panel_of, write
from pathloom.worlds.train.plan_files import read_plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Two microbatches from Iowa to London and back."""
    problem, decisions = pair(2, nodes=("Iowa-1", "spare"), locations=("Iowa", "London"))
    return with_figures(serial_plan(problem, decisions))


class Fetched(HTMLParser):
    """What a page would load from elsewhere; text inside scripts is none of its tags."""

    @classmethod
    def of(cls, page: str) -> list[tuple[str, str]]:
        parser = cls()
        parser.found = []
        parser.feed(page)
        return parser.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value) for name, value in attrs if name in ("src", "href", "data") and value]


def with_figures(plan: Plan) -> Plan:
    figures = {"bubble_share": 0.5, "busiest_node": plan.problem.nodes[0], "busiest_share": 0.25}
    return replace(plan, metrics={**figures, **plan.metrics})


def test_rows_say_node_region_and_stage_and_stand_together_by_stage() -> None:
    for seed in range(30):
        plan = rigid_plan(*varied_case(seed))
        panel = panel_of(plan)
        assert panel.order is not None and panel.groups is not None and panel.labels is not None
        assert sorted(panel.order) == sorted(plan.problem.nodes)
        stages = [panel.groups[node] for node in panel.order]
        assert stages == sorted(stages, key=lambda title: int(title.removeprefix("stage ")))
        for node, place, stage in zip(plan.problem.nodes, plan.problem.locations, plan.decisions.placement):
            assert panel.groups[node] == f"stage {stage}"
            assert node in panel.labels[node] and place in panel.labels[node]
            assert panel.labels[node].endswith(f"stage {stage}")


def test_a_region_in_the_name_of_a_node_is_not_said_twice(plan: Plan) -> None:
    labels = panel_of(plan).labels
    assert labels == {"Iowa-1": "Iowa-1 · stage 0", "spare": "spare · London · stage 1"}


def test_a_recorded_run_is_grouped_by_the_stages_that_it_says_itself(plan: Plan) -> None:
    line = plan.timeline
    other = Timeline(
        line.resource, line.item, line.kind, line.start, line.end, line.resources, line.items, line.kinds, line.unit,
        {"stage": 1 - line.resource},
    )  # fmt: skip
    groups = panel_of(plan, timeline=other).groups
    assert groups == {"Iowa-1": "stage 1", "spare": "stage 0"}


def test_the_map_counts_the_microbatches_of_each_hop_there_and_back(plan: Plan) -> None:
    node_map = node_map_of(plan)
    assert node_map is not None
    assert node_map.traffic.tolist() == [[0, 2], [2, 0]]
    assert node_map.group.tolist() == [0, 1]
    assert node_map.lat[1] == pytest.approx(51.5, abs=0.5)


def test_without_a_known_position_there_is_no_map() -> None:
    problem, decisions = pair(1, locations=("Iowa", "Atlantis"))
    assert node_map_of(serial_plan(problem, decisions)) is None


def test_everything_is_written_and_the_page_needs_no_network(plan: Plan, tmp_path: Path) -> None:
    other = replace(plan, method="another <method>")
    files = write(replace(plan, bound=1.0, bound_by="patience"), [other], tmp_path)
    assert {path.name for path in files.values()} == {"plan.json", "plan.html", "plan.png", "trace.json"}
    page = files["page"].read_text()
    assert "another &lt;method&gt;" in page
    assert "patience" in page
    assert Fetched.of(page) == []
    assert files["picture"].read_bytes().startswith(b"\x89PNG")
    events = json.loads(files["trace"].read_text())["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == len(plan.timeline)
    assert read_plan(files["plan"]).timeline == plan.timeline


def test_many_spans_of_other_plans_are_left_out_of_the_page(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def charts(folder: str) -> int:
        (tmp_path / folder).mkdir()
        return write(plan, [plan], tmp_path / folder)["page"].read_text().count('<div class="plot"')

    assert charts("few") == 3
    monkeypatch.setattr("pathloom.worlds.train.pictures.MOST_SPANS_BESIDE", len(plan.timeline) - 1)
    assert charts("many") == 2


def test_timelines_are_drawn_one_below_another_wasted_work_too(plan: Plan, tmp_path: Path) -> None:
    line = plan.timeline
    wasted = np.where(np.arange(len(line)) == 0, len(line.kinds), line.kind)
    failed = Timeline(
        line.resource, line.item, wasted, line.start, line.end, line.resources, line.items, (*line.kinds, "wasted"),
        line.unit, line.columns,
    )  # fmt: skip
    files = draw({"the plan": line, "a failure": failed}, plan, tmp_path)
    page = files["page"].read_text()
    assert "the plan" in page and "a failure" in page and "wasted" in page
    assert files["picture"].read_bytes().startswith(b"\x89PNG")
