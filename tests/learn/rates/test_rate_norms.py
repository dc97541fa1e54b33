"""The record of gradient norms: exact for short runs, close to the true medians for long ones, never larger."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.learn.rates import GradientNormRecord


def recorded(norms: np.ndarray, **options: int) -> GradientNormRecord:
    record = GradientNormRecord(**options)
    for step, norm in enumerate(norms):
        record.add(step, norm)
    return record


def noisy(n: int, seed: int = 0) -> np.ndarray:
    """Norms that fall at the start, with a wide spread and one in a hundred a thousand times too large."""
    random = np.random.default_rng(seed)
    norms = (1 + 4 * np.exp(-np.arange(n) / (0.1 * n))) * np.exp(0.5 * random.normal(size=n))
    norms[random.random(n) < 0.01] *= 1000
    return norms


def size(record: GradientNormRecord) -> int:
    """Numbers that a record holds."""
    return len(json.dumps(record.to_dict()).split(","))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_a_short_run_is_kept_as_it_came(norms: list[float]):
    steps, kept = recorded(np.array(norms), capacity=16, width=4).points()
    assert steps.tolist() == list(range(len(norms)))
    assert kept.tolist() == norms


def test_a_long_run_is_kept_as_medians_close_to_the_true_ones():
    n = 60_000
    norms = noisy(n)
    u, curve = recorded(norms, capacity=128, width=8).curve(64)
    for share, found in list(zip(u, curve))[1:-1]:
        around = norms[int((share - 1 / 128) * n) : int((share + 1 / 128) * n)]
        assert found == pytest.approx(float(np.median(around)), rel=0.06)
    means = norms.reshape(60, -1).mean(axis=1)
    assert means.max() > 10 * curve.max()  # means would have drowned in the outliers


def test_the_memory_does_not_grow_with_the_run():
    record = GradientNormRecord(capacity=32, width=4)
    most, sizes = 32 * 4 * 2, []
    for step, norm in enumerate(noisy(40_000)):
        record.add(step, norm)
        if step % 997 == 0:
            sizes.append(size(record))
    assert max(sizes) < most
    assert len(record.points()[0]) >= 16


def test_steps_up_to_a_thousand_million_are_recorded_where_they_are():
    record = GradientNormRecord(capacity=32, width=4)
    for step in range(0, 10**9, 10**6):
        record.add(step, 1.0 if step < 5 * 10**8 else 2.0)
    u, norms = record.curve(11)
    assert norms[u < 0.45] == pytest.approx(np.ones(5), abs=0.01)
    assert norms[u > 0.55] == pytest.approx(np.full(5, 2.0), abs=0.01)


def test_infinite_and_undefined_norms_are_dropped_and_counted():
    record = recorded(np.array([1.0, np.inf, 2.0, np.nan, 3.0]))
    assert (record.count, record.dropped, record.last_step) == (3, 2, 4)
    steps, norms = record.points()
    assert norms.tolist() == [1.0, 2.0, 3.0]
    assert steps.tolist() == [0, 2, 4]


def test_steps_that_a_run_repeats_after_a_checkpoint_count_once():
    record = recorded(np.arange(10.0))
    for step in range(6, 12):
        record.add(step, 100.0 + step)
    assert record.repeated == 4
    assert record.points()[1].tolist() == [*range(10), 110, 111]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 700), st.integers(0, 700))
def test_recording_goes_on_after_json_as_if_nothing_had_been(before: int, after: int):
    norms = noisy(before + after)
    first = recorded(norms[:before], capacity=8, width=4)
    second = GradientNormRecord.from_dict(json.loads(json.dumps(first.to_dict())))
    for step in range(before, before + after):
        second.add(step, norms[step])
    assert second.to_dict() == recorded(norms, capacity=8, width=4).to_dict()


def test_the_grid_has_medians_where_norms_are_dense_and_straight_lines_where_they_are_not():
    dense = recorded(np.repeat([1.0, 2.0, 3.0], 200))
    assert dense.curve(3)[1] == pytest.approx([1.0, 2.0, 3.0])
    sparse = recorded(np.array([0.0, 10.0]))
    assert sparse.curve(5)[1].tolist() == [0.0, 2.5, 5.0, 7.5, 10.0]


def test_the_scatter_is_that_of_neighbours_whatever_the_length_of_the_run():
    random = np.random.default_rng(1)
    for n in (2000, 20_000):
        norms = np.exp(0.5 * random.normal(size=n)) * (1 + 9 * np.exp(-np.arange(n) / (0.1 * n)))
        # Half of a normal distribution lies within 0.674 deviations; of 8 draws, within a little less of their median.
        assert recorded(norms, capacity=128, width=8).scatter() == pytest.approx(0.5 * 0.63, rel=0.18)
    assert recorded(np.ones(100)).scatter() == 0.0
    assert recorded(np.zeros(100)).scatter() == 0.0
    assert GradientNormRecord().scatter() == 0.0


def test_an_empty_record_has_no_curve_but_survives_json():
    empty = GradientNormRecord()
    with pytest.raises(ValueError, match="holds no gradient norms"):
        empty.curve(10)
    assert GradientNormRecord.from_dict(empty.to_dict()).to_dict() == empty.to_dict()


def test_negative_norms_and_odd_sizes_are_refused():
    with pytest.raises(ValueError, match="norm: expected a number of at least 0"):
        GradientNormRecord().add(0, -1.0)
    with pytest.raises(ValueError, match="width: expected an even number"):
        GradientNormRecord(width=7)
    with pytest.raises(ValueError, match="capacity: expected an even number"):
        GradientNormRecord(capacity=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 3}, "rows: expected a list"),
        ({"rows": [[0, 7, [1.0]]]}, "rows: expected"),
        ({"rows": [[0, 3, [1.0, 1.0, 1.0, math.inf]]]}, "rows: expected"),
        ({"rows": [[4, 7, [1.0] * 4], [0, 3, [1.0] * 4]], "open": []}, "rows: the steps do not rise"),
        ({"open": [[8, 1.0]] * 4}, "open: expected fewer than 4"),
        ({"open": [[8, -1.0]]}, "open: expected"),
        ({"rows": [[8, 11, [1.0] * 4]] * 8}, "rows: expected fewer than 8"),
        ({"last_step": "end"}, "last_step: expected a whole number"),
        ({"last_step": 99}, "rows: the steps do not rise up to last_step"),
        ({"width": 3}, "width: "),
        ({"dropped": None}, "dropped: "),
    ],
)
def test_what_no_record_holds_is_refused_with_its_key(change: dict, message: str):
    good = recorded(noisy(10), capacity=8, width=4).to_dict()
    with pytest.raises(ValueError, match=message):
        GradientNormRecord.from_dict(good | change)


def test_a_missing_key_is_named():
    kept = recorded(noisy(10)).to_dict()
    del kept["waiting"]
    with pytest.raises(ValueError, match="waiting: missing"):
        GradientNormRecord.from_dict(kept)
