"""Traces: what a valid one is, and parts, speeds and times of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.worlds.serve.trace import LONGEST, Trace


def small() -> Trace:
    """Three requests; the first two share their first block of 4 tokens."""
    return Trace(
        "small",
        np.array([0.0, 1.0, 4.0]),
        np.array([6, 8, 3]),
        np.array([2, 1, 5]),
        block_start=np.array([0, 2, 4, 5]),
        block=np.array([0, 1, 0, 2, 3]),
        block_tokens=4,
    )


def test_what_is_left_out_is_normal() -> None:
    trace = Trace("two", np.array([0.0, 0.0]), np.array([1, 1]), np.array([1, 1]))
    assert trace.user.tolist() == trace.priority.tolist() == [0, 0]
    assert len(trace) == 2 and trace.block_start.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"arrival": [0.0, -1.0, 2.0]}, "request 1, arrival"),
        ({"arrival": [0.0, 2.0, 1.0]}, "request 2, arrival"),
        ({"arrival": [0.0, float("nan"), 1.0]}, "request 1, arrival"),
        ({"prompt": [6, 0, 3]}, "request 1, prompt"),
        ({"output": [2, 1, LONGEST + 1]}, "request 2, output"),
        ({"user": [0, 0]}, "user"),
        ({"priority": [0, -1, 0]}, "request 1, priority"),
        ({"block_start": [0, 1, 4, 5]}, "request 0, block"),
        ({"block_tokens": 0}, "block_tokens"),
        ({"block": [0, 1]}, "block_start"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict, key: str) -> None:
    whole = vars(small()) | {name: np.array(v) if isinstance(v, list) else v for name, v in change.items()}
    with pytest.raises(InputError) as error:
        Trace(**whole)
    assert error.value.key == key


def test_rows_keep_their_blocks() -> None:
    part = small().rows([2, 1][::-1])
    assert part.arrival.tolist() == [1.0, 4.0]
    assert part.block.tolist() == [0, 2, 3] and part.block_start.tolist() == [0, 2, 3]


def test_a_window_begins_at_its_own_zero() -> None:
    part = small().between(1.0, 4.0)
    assert part.arrival.tolist() == [0.0] and part.prompt.tolist() == [8]


def test_rate_and_speed() -> None:
    trace = small()
    assert trace.rate == pytest.approx(0.5)
    assert trace.faster(2.0).rate == pytest.approx(1.0)
    assert trace.at_once().rate == float("inf")
    with pytest.raises(InputError, match="above 0"):
        trace.faster(0.0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_any_choice_of_rows_has_the_same_requests(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    prompt = rng.integers(1, 40, count)
    sizes = -(-prompt // 8)
    trace = Trace(
        "drawn",
        np.sort(rng.random(count)),
        prompt,
        rng.integers(1, 9, count),
        block_start=np.concatenate(([0], np.cumsum(sizes))),
        block=rng.integers(0, 99, sizes.sum()),
        block_tokens=8,
    )
    chosen = np.flatnonzero(rng.integers(0, 2, count))
    part = trace.rows(chosen)
    for place, row in enumerate(chosen):
        mine, whole = (t.block[t.block_start[r] : t.block_start[r + 1]] for t, r in ((part, place), (trace, row)))
        assert mine.tolist() == whole.tolist() and part.prompt[place] == trace.prompt[row]
