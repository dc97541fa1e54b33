"""Facts about timelines: what they accept, what they keep, when spans collide, how two timelines differ."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.timeline import Timeline, compare

RESOURCES = ("n0", "n1", "n2")
ITEMS = ("mb0", "mb1", "mb2", "mb3")
KINDS = ("forward", "backward")

# quarters are exact in floating point, and few enough that ties and touching spans are common
quarter = st.integers(0, 24).map(lambda n: n / 4)
spans = st.lists(
    st.tuples(st.sampled_from(RESOURCES), st.sampled_from(ITEMS), st.sampled_from(KINDS), quarter, quarter), max_size=14
).map(lambda rows: [(r, i, k, a, a + d) for r, i, k, a, d in rows])


def timeline(rows: list[tuple[str, str, str, float, float]]) -> Timeline:
    return Timeline.from_spans(rows, resources=RESOURCES, items=ITEMS, kinds=KINDS)


def shared(t: Timeline, a: int, b: int) -> float:
    if t.resource[a] != t.resource[b]:
        return 0.0
    return float(min(t.end[a], t.end[b]) - max(t.start[a], t.start[b]))


@settings(deadline=None)
@given(spans, st.sampled_from([0.0, 1e-9, 0.3, 1.0]))
def test_overlaps_names_only_real_collisions_and_every_resource_that_has_one(rows, tolerance):
    t = timeline(rows)
    pairs = t.overlaps(tolerance)
    assert pairs.shape[1:] == (2,) and pairs.dtype == np.int64
    brute = {(a, b) for a in range(len(t)) for b in range(len(t)) if a != b and shared(t, a, b) > max(tolerance, 0)}
    assert all((int(a), int(b)) in brute for a, b in pairs)
    assert {int(t.resource[a]) for a, _ in pairs} == {int(t.resource[a]) for a, _ in brute}


@settings(deadline=None)
@given(spans)
def test_a_span_that_collides_with_an_earlier_one_is_always_reported(rows):
    t = timeline(rows)
    order = sorted(range(len(t)), key=lambda r: (t.resource[r], t.start[r], t.end[r], r))
    late = {b for i, b in enumerate(order) for a in order[:i] if shared(t, a, b) > 1e-9}
    assert {int(b) for _, b in t.overlaps()} == late


def test_spans_that_touch_do_not_overlap_and_other_resources_do_not_count():
    rows = [("n0", "mb0", "forward", 0, 1), ("n0", "mb1", "forward", 1, 2), ("n1", "mb2", "forward", 0, 2)]
    assert len(timeline(rows).overlaps()) == 0


def test_a_span_shorter_than_the_tolerance_cannot_overlap_by_more_than_it():
    t = timeline([("n0", "mb0", "forward", 0, 10), ("n0", "mb1", "forward", 5, 5.001)])
    assert len(t.overlaps(tolerance=0.01)) == 0
    assert t.overlaps(tolerance=1e-4).tolist() == [[0, 1]]


def test_a_short_span_does_not_hide_the_long_one_that_reaches_further():
    rows = [("n0", "mb0", "forward", 0, 10), ("n0", "mb1", "forward", 1, 2), ("n0", "mb2", "forward", 5, 6)]
    assert timeline(rows).overlaps().tolist() == [[0, 1], [0, 2]]


def test_overlaps_of_empty_and_single_timelines_are_empty():
    assert timeline([]).overlaps().shape == (0, 2)
    assert timeline([("n0", "mb0", "forward", 0, 1)]).overlaps().shape == (0, 2)


@settings(deadline=None)
@given(spans, st.randoms(use_true_random=False))
def test_json_keeps_everything(rows, random):
    base = timeline(rows)
    columns = {
        "stage": np.array([random.randrange(6) for _ in rows], dtype=np.int16),
        "weight": np.array([random.choice([0.5, float("nan")]) for _ in rows], dtype=np.float32),
        "lost": np.array([random.random() < 0.5 for _ in rows], dtype=bool),
        "host": np.array([random.choice(["a", "bc"]) for _ in rows], dtype="<U2"),
    }
    t = Timeline(base.resource, base.item, base.kind, base.start, base.end, RESOURCES, ITEMS, KINDS, "ms", columns)
    back = Timeline.from_dict(json.loads(json.dumps(t.to_dict())))
    assert back == t
    assert {name: c.dtype for name, c in back.columns.items()} == {name: c.dtype for name, c in columns.items()}


def test_a_file_written_before_column_types_were_stored_can_still_be_read():
    data = timeline([("n0", "mb0", "forward", 0.25, 1)]).to_dict()
    del data["dtypes"]
    assert Timeline.from_dict(data).start.tolist() == [0.25]


def test_save_and_load(tmp_path: Path):
    t = timeline([("n0", "mb0", "forward", 0.1, 0.7), ("n1", "mb0", "backward", 1 / 3, 2 / 3)])
    t.save(tmp_path / "t.json")
    assert Timeline.load(tmp_path / "t.json") == t


def test_equality_sees_every_column():
    t = timeline([("n0", "mb0", "forward", 0, 1)])
    assert t == timeline([("n0", "mb0", "forward", 0, 1)])
    assert t != timeline([("n0", "mb0", "forward", 0, 2)])
    assert t != timeline([("n0", "mb1", "forward", 0, 1)])
    assert t != "t"


@settings(deadline=None)
@given(spans)
def test_sorting_keeps_the_spans_and_orders_each_resource_by_start(rows):
    t = timeline(rows).sorted()
    names = [
        (t.resources[r], t.items[i], t.kinds[k], a, b)
        for r, i, k, a, b in zip(t.resource, t.item, t.kind, t.start.tolist(), t.end.tolist())
    ]
    assert sorted(names) == sorted((r, i, k, float(a), float(b)) for r, i, k, a, b in rows)
    keys = list(zip(t.resource.tolist(), t.start.tolist(), t.end.tolist()))
    assert keys == sorted(keys)


@settings(deadline=None)
@given(spans)
def test_busy_time_and_makespan_add_up(rows):
    t = timeline(rows)
    assert t.makespan == max((row[4] for row in rows), default=0.0)
    assert t.busy().sum() == pytest.approx(sum(row[4] - row[3] for row in rows))
    assert t.busy().shape == (len(RESOURCES),)


def test_from_spans_appends_unseen_names_in_order_of_appearance():
    t = Timeline.from_spans([("b", "x", "k", 0, 1), ("a", "y", "k", 0, 1)], resources=["a"])
    assert t.resources == ("a", "b") and t.items == ("x", "y") and t.resource.tolist() == [1, 0]


def columns(**changes):
    given = {
        "resource": np.array([0, 1]),
        "item": np.array([0, 0]),
        "kind": np.array([0, 0]),
        "start": np.array([0.0, 1.0]),
        "end": np.array([1.0, 2.0]),
        "resources": ("n0", "n1"),
        "items": ("mb0",),
        "kinds": ("forward",),
    }
    return given | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end": np.array([1.0])}, "column 'end' has shape"),
        ({"start": np.zeros((2, 2))}, "column 'start' has shape"),
        ({"columns": {"stage": np.zeros(3)}}, "column 'stage' has shape"),
        ({"resource": np.array([0, 2])}, "'resource' points outside its 2 names"),
        ({"item": np.array([0, -1])}, "'item' points outside its 1 names"),
        ({"kind": np.array([0.0, 0.5])}, "'kind' holds values that are no positions"),
        ({"resource": np.array([0, 2**32])}, "'resource' holds values that are no positions"),
        ({"resource": np.array([0, np.nan])}, "'resource' holds values that are no positions"),
        ({"start": np.array([0.0, np.nan])}, "not finite"),
        ({"end": np.array([1.0, np.inf])}, "not finite"),
        ({"start": np.array([0.0, 3.0])}, "span 1 ends at 2.0 before it starts at 3.0"),
    ],
)
def test_wrong_columns_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Timeline(**columns(**changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("format"), "expected a timeline with format"),
        (lambda d: d.pop("kind"), "lacks the key 'kind'"),
        (lambda d: d.update(resource=None), "timeline holds a column|no positions"),
        (lambda d: d.update(resource=[0.5]), "no positions"),
        (lambda d: d.update(items="mb0"), "'items' is no list of names"),
        (lambda d: d.update(start=[{}]), "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(change, message):
    data = timeline([("n0", "mb0", "forward", 0, 1)]).to_dict()
    change(data)
    with pytest.raises(ValueError, match=message):
        Timeline.from_dict(data)


@pytest.mark.parametrize("text", ["[1, 2]", "3", '{"format": "something else"}', '{"format": "pathloom-ti'])
def test_a_file_that_is_no_timeline_is_refused(tmp_path: Path, text: str):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError):
        Timeline.load(tmp_path / "t.json")


def brute_shift(reference: Timeline, other: Timeline) -> tuple[int, float]:
    def starts(t: Timeline) -> dict[tuple[str, str, str, int], float]:
        seen: dict[tuple[str, str, str], int] = defaultdict(int)
        found = {}
        for row in sorted(range(len(t)), key=lambda r: t.start[r]):
            key = (t.resources[t.resource[row]], t.items[t.item[row]], t.kinds[t.kind[row]])
            found[(*key, seen[key])] = float(t.start[row])
            seen[key] += 1
        return found

    a, b = starts(reference), starts(other)
    common = a.keys() & b.keys()
    return len(common), sum(abs(a[key] - b[key]) for key in common) / len(common) if common else float("nan")


@settings(deadline=None)
@given(spans, spans, st.permutations(RESOURCES))
def test_compare_matches_spans_by_name_and_occurrence(first, second, names):
    a = timeline(first)
    b = Timeline.from_spans(second, resources=names)  # other positions, same names
    result = compare({"plan": a, "run": b})
    matched, shift = brute_shift(a, b)
    assert result.matched.tolist() == [len(a), matched]
    assert result.start_shift[1] == pytest.approx(shift, nan_ok=True)
    assert result.makespan.tolist() == [a.makespan, b.makespan]
    for row, t in enumerate((a, b)):
        for column, name in enumerate(result.resources):
            busy = sum(e - s for r, s, e in zip(t.resource, t.start, t.end) if t.resources[r] == name)
            assert result.busy_share[row, column] * max(t.makespan, 1e-300) == pytest.approx(busy)
        for column, name in enumerate(result.kinds):
            busy = sum(e - s for k, s, e in zip(t.kind, t.start, t.end) if t.kinds[k] == name)
            assert result.kind_seconds[row, column] == pytest.approx(busy)


def test_a_timeline_has_no_shift_from_itself_and_a_delayed_copy_is_late_by_the_delay():
    rows = [("n0", f"mb{i}", "forward", float(i), i + 1.0) for i in range(4)]
    late = [(r, i, k, a + 2.5, b + 2.5) for r, i, k, a, b in rows]
    result = compare({"plan": timeline(rows), "again": timeline(rows), "late": timeline(late)})
    assert result.start_shift.tolist() == [0.0, 0.0, 2.5]
    assert result.matched.tolist() == [4, 4, 4]
    assert result.names == ("plan", "again", "late")


def test_compare_refuses_nothing_and_mixed_units():
    with pytest.raises(ValueError, match="nothing to compare"):
        compare({})
    seconds = timeline([("n0", "mb0", "forward", 0, 1)])
    millis = Timeline.from_spans([("n0", "mb0", "forward", 0, 1)], unit="ms")
    with pytest.raises(ValueError, match="different units of time: ms, s"):
        compare({"a": seconds, "b": millis})


def test_compare_of_an_empty_timeline_matches_nothing():
    result = compare({"plan": timeline([("n0", "mb0", "forward", 0, 1)]), "run": Timeline.from_spans([])})
    assert result.matched.tolist() == [1, 0] and np.isnan(result.start_shift[1])
