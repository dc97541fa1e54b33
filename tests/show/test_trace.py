"""A trace keeps the rules of the trace event format and loses no span."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.show.trace import trace_events, write_perfetto
from pathloom.timeline import Timeline


def pipeline() -> Timeline:
    t = Timeline.from_spans(
        [
            ("a", "mb0", "forward", 0.0, 1.0),
            ("b", "mb0", "forward", 1.5, 2.5),
            ("a", "mb0", "loss", 3.0, 3.25),
            ("b", "mb0", "backward", 3.5, 5.5),
            ("b", "mb0", "weight", 5.5, 6.0),
            ("a", "mb0", "backward", 5.75, 7.0),
            ("a", "mb1", "forward", 1.0, 2.0),
            ("a", "sync", "sync", 7.0, 8.0),
            ("b", "sync", "sync", 7.0, 8.0),
        ]
    )
    stage = np.array([0, 1, 0, 1, 1, 0, 0, 0, 1])
    return Timeline(t.resource, t.item, t.kind, t.start, t.end, t.resources, t.items, t.kinds, "s", {"stage": stage})


def by_phase(events):
    found = defaultdict(list)
    for event in events:
        found[event["ph"]].append(event)
    return found


def check_format(events) -> None:
    """What the format asks of every event, whatever the timeline."""
    threads = {(e["pid"], e["tid"]) for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    processes = {e["pid"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    assert {pid for pid, _ in threads} <= processes
    slices = defaultdict(list)
    for event in events:
        assert event["ph"] in "MXsf" and isinstance(event["pid"], int)
        if event["ph"] == "M":
            (value,) = event["args"].values()
            assert isinstance(value, str if event["name"].endswith("_name") else int)
            continue
        assert (event["pid"], event["tid"]) in threads and event["name"] and event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
            slices[event["pid"], event["tid"]].append((event["ts"], round(event["ts"] + event["dur"], 3)))
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert starts.keys() == ends.keys()
    assert len(starts) == sum(e["ph"] == "s" for e in events) and len(ends) == sum(e["ph"] == "f" for e in events)
    for key, start in starts.items():
        end = ends[key]
        assert (start["name"], start["cat"]) == (end["name"], end["cat"]) and end["bp"] == "e"
        assert start["ts"] <= end["ts"]
        for event in (start, end):  # an arrow hangs on the span that is open at its time
            assert any(a <= event["ts"] and (event["ts"] < b or a == b) for a, b in slices[event["pid"], event["tid"]])


def test_spans_are_complete_events_in_microseconds_with_their_arguments():
    events = by_phase(trace_events(pipeline()))["X"]
    assert len(events) == 9
    first = events[0]
    assert first["ts"] == 0.0 and first["dur"] == 1e6 and first["name"] == "mb0 forward" and first["cat"] == "forward"
    assert first["args"] == {"item": "mb0", "kind": "forward", "stage": 0}
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)


def test_groups_are_processes_in_the_order_given_and_resources_their_threads():
    events = trace_events(pipeline(), groups={"b": "stage 1", "a": "stage 0"})
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {1: "stage 1", 2: "stage 0"}
    threads = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "thread_name"}
    assert threads == {"a": 2, "b": 1}
    check_format(events)


def test_arrows_follow_an_item_along_its_way_and_pass_by_what_is_aside():
    phases = by_phase(trace_events(pipeline()))
    ways = Counter(e["name"] for e in phases["s"])
    assert ways == {"mb0": 4}  # four steps between five tasks; weight, sync and a lone task have none
    assert [e["ts"] for e in phases["f"]] == [1.5e6, 3e6, 3.5e6, 5.75e6]
    assert by_phase(trace_events(pipeline(), aside=()))["s"][-1]["name"] == "mb0"


def test_items_differ_in_colour_and_an_item_keeps_its_own():
    colours = defaultdict(set)
    for event in by_phase(trace_events(pipeline()))["X"]:
        colours[event["args"]["item"]].add(event["cname"])
    assert all(len(found) == 1 for found in colours.values())
    assert colours["mb0"] != colours["mb1"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.sampled_from(["x", "y"]),
            st.sampled_from(["forward", "loss"]),
            st.floats(0, 1e4),
            st.one_of(st.just(0.0), st.floats(1e-8, 50)),
        ),
        max_size=12,
    )
)
def test_any_timeline_makes_a_valid_trace(rows):
    t = Timeline.from_spans([(r, i, k, a, a + d) for r, i, k, a, d in rows], resources="abc")
    events = trace_events(t, groups={"a": "g"})
    check_format(events)
    slices = by_phase(events)["X"]
    assert len(slices) == len(rows)
    assert sorted(e["ts"] for e in slices) == pytest.approx(sorted(t.start * 1e6), abs=1e-3)
    assert sum(e["dur"] for e in slices) == pytest.approx(
        float((t.end - t.start).sum()) * 1e6, abs=0.002 * len(rows) + 1e-6
    )


def test_spans_that_touch_stay_apart_after_rounding():
    edges = np.cumsum(np.full(200, 1 / 3))
    t = Timeline.from_spans([("a", f"mb{i}", "forward", a, b) for i, (a, b) in enumerate(pairwise(edges))])
    slices = by_phase(trace_events(t))["X"]
    for before, after in pairwise(slices):
        assert round(before["ts"] + before["dur"], 3) <= after["ts"]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1e6), ("ms", 1e3), ("us", 1.0), ("min", 6e7), ("step", 1e6)])
def test_units_become_microseconds(unit, scale):
    t = Timeline.from_spans([("a", "x", "k", 2, 3)], unit=unit)
    (event,) = by_phase(trace_events(t))["X"]
    assert event["ts"] == 2 * scale and event["dur"] == scale


def test_the_file_is_strict_json_that_says_what_the_events_say(tmp_path: Path):
    t = Timeline.from_spans([('näme "q"', "x</script>", "k", 0, 1)])
    odd = Timeline(
        t.resource, t.item, t.kind, t.start, t.end, t.resources, t.items, t.kinds, "s", {"w": np.array([np.nan])}
    )
    path = write_perfetto(odd, tmp_path / "a.trace.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["traceEvents"] == trace_events(odd) and data["traceEvents"][-1]["args"]["w"] == "nan"


def test_an_unknown_resource_in_groups_is_named_and_an_empty_timeline_is_fine(tmp_path: Path):
    with pytest.raises(ValueError, match="'zz'"):
        trace_events(pipeline(), groups={"zz": "g"})
    assert json.loads(write_perfetto(Timeline.from_spans([]), tmp_path / "e.json").read_text())["traceEvents"] == []
