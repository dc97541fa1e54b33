"""A quantity is a number with an optional unit of its dimension, and nothing else."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.data.quantities import UNITS, quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("350 ms", "time", 0.35),
        (2, "time", 2.0),
        ("1e-3", "time", 1e-3),
        ("2 h", "time", 7200.0),
        ("24 GiB", "bytes", 24 * 2.0**30),
        ("24GB", "bytes", 24e9),
        ("1.2 Gbit/s", "bandwidth", 1.5e8),
        ("1.2 Gbps", "bandwidth", 1.5e8),
        ("2 GiB/s", "bandwidth", 2.0 * 2**30),
        ("60 TFLOP/s", "compute", 6e13),
        ("60 TFLOPS", "compute", 6e13),
        ("3 GFLOP", "work", 3e9),
    ],
)
def test_units_scale_to_si(text: object, dimension: str, value: float) -> None:
    assert quantity(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("350 mm", "time"),
        ("350 ms", "bytes"),
        ("Gbit/s", "bandwidth"),
        ("", "time"),
        (None, "time"),
        (True, "time"),
        ([1], "time"),
        ("nan", "time"),
        (".inf", "time"),
        (math.inf, "time"),
        (10**400, "time"),
        ("1 2 s", "time"),
        ("9" * 200, "time"),
    ],
)
def test_anything_else_is_refused_with_an_example(text: object, dimension: str) -> None:
    with pytest.raises(ValueError, match=r"expected a number of .* such as '"):
        quantity(text, dimension)


@given(
    number=st.floats(min_value=1e-9, max_value=1e9),
    dimension=st.sampled_from(sorted(UNITS)),
    data=st.data(),
)
def test_every_unit_reads_back_what_was_written(number: float, dimension: str, data: st.DataObject) -> None:
    unit = data.draw(st.sampled_from(sorted(UNITS[dimension])))
    assert quantity(f"{number!r} {unit}", dimension) == pytest.approx(number * UNITS[dimension][unit], rel=1e-12)


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    try:
        assert math.isfinite(quantity(text, "time"))
    except ValueError as error:
        assert "expected" in str(error)
