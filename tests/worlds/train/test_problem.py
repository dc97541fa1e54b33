"""A training problem refuses what no instance can mean, and nobody can change it afterwards."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.worlds.train.problem import Reordering, TrainProblem


def small(**changes: Any) -> TrainProblem:
    """Three nodes, two stages of sizes 2 and 1."""
    fields: dict[str, Any] = {
        "name": "small",
        "nodes": ("a", "b", "c"),
        "locations": ("x", "x", "y"),
        "forward": np.full((3, 2), 1.0),
        "backward": np.full((3, 2), 1.5),
        "weight": np.full((3, 2), 0.75),
        "loss": np.full(3, 0.25),
        "link": 1.0 - np.eye(3),
        "memory": np.full(3, 2),
        "stage_sizes": np.array([2, 1]),
        "microbatches": 4,
        "route_length": 2,
        "source_cap": 2,
        "stage_cap": np.array([4, 4]),
        "node_cap": np.full(3, 4),
    }
    return TrainProblem(**(fields | changes))


ARRAYS = ("forward", "backward", "weight", "loss", "link", "memory", "stage_sizes", "stage_cap", "node_cap")
FLOATS = ("forward", "backward", "weight", "loss", "link")


def with_entry(name: str, value: float) -> dict[str, Any]:
    array = np.array(getattr(small(), name), dtype=float)
    array.flat[1] = value
    return {name: array}


def test_arrays_are_coerced_copied_and_read_only() -> None:
    memory = np.array([2, 2, 2], dtype=np.int32)
    problem = small(memory=memory, forward=[[1, 1]] * 3)
    assert problem.memory.dtype == np.int64 and problem.forward.dtype == np.float64
    memory[:] = 99
    assert (problem.memory == 2).all()
    for name in ARRAYS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(problem, name)[0] = 0
    with pytest.raises(FrozenInstanceError):
        problem.microbatches = 5  # type: ignore[misc]


def test_a_changed_copy_shares_what_did_not_change() -> None:
    problem = small()
    other = replace(problem, microbatches=3)
    assert other.link is problem.link
    assert other.microbatches == 3


def test_a_view_that_its_owner_can_still_write_to_is_copied() -> None:
    owner = 1.0 - np.eye(3)
    view = owner[:]
    view.setflags(write=False)
    problem = small(link=view)
    owner[0, 1] = 77
    assert problem.link[0, 1] == 1


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array_must_have_its_shape(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: "):
        small(**{name: np.ones((3, 3, 3))})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, -1.0, -np.inf])
def test_no_duration_is_negative_or_nan(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: "):
        small(**with_entry(name, value))


@pytest.mark.parametrize("name", ["forward", "backward", "weight", "loss"])
def test_no_task_lasts_for_ever(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: .*infinity"):
        small(**with_entry(name, np.inf))


def test_a_missing_link_is_infinite_but_never_within_a_node() -> None:
    assert np.isinf(small(**with_entry("link", np.inf)).link[0, 1])
    with pytest.raises(ValueError, match="link: a node must reach itself"):
        small(link=np.full((3, 3), np.inf))


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_passes_take_time(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: .*above 0"):
        small(**with_entry(name, 0.0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nodes": ("a", "a", "c")}, "nodes: .*different"),
        ({"nodes": (), "locations": ()}, "nodes: "),
        ({"locations": ("x",)}, "locations: .*found 1"),
        ({"microbatches": 0}, "microbatches: .*at least 1"),
        ({"microbatches": 2.5}, "microbatches: .*whole"),
        ({"microbatches": True}, "microbatches: "),
        ({"route_length": 0}, "route_length: "),
        ({"route_length": 3}, "route_length: 3 stages to visit"),
        ({"source_cap": 0}, "source_cap: "),
        ({"stage_sizes": np.array([2, 2])}, "stage_sizes: sum to 4"),
        ({"stage_sizes": np.array([3, 0])}, "stage_sizes: .*at least 1"),
        ({"memory": np.array([1, 0, 1])}, "memory: .*at least 1"),
        ({"memory": np.array([1.5, 1, 1])}, "memory: .*whole"),
        ({"memory": np.array([np.nan, 1, 1])}, "memory: .*whole"),
        ({"memory": np.array(["a", "b", "c"])}, "memory: .*whole"),
        ({"forward": [["a", "b"]] * 3}, "forward: expected numbers"),
        ({"weight": np.full((3, 2), 2.0)}, "weight: .*exceeds"),
        ({"stage_cap": np.array([3, 4])}, "stage_cap: entry 0"),
        ({"node_cap": np.array([-1, 1, 1])}, "node_cap: "),
        ({"placement": np.array([0, 1, 1])}, r"placement: expected \[2, 1\]"),
        ({"placement": np.array([0, 0, 2])}, "placement: "),
        ({"placement": np.array([0, 0])}, "placement: has shape"),
        ({"gap": -0.1}, "gap: "),
        ({"injection_gap": np.nan}, "injection_gap: "),
        ({"sync_latency": np.zeros((3, 3))}, "sync_latency: expected together"),
        ({"sync_latency": np.zeros((3, 3)), "sync_seconds": np.zeros(3)}, "sync_seconds: has shape"),
    ],
)
def test_what_no_instance_can_mean_is_refused_by_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}"):
        small(**changes)


def test_a_placement_fills_the_stages() -> None:
    assert small(placement=[0, 1, 0]).placement.tolist() == [0, 1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["distance", "swaps", "total", "jump"])
def test_a_reordering_budget_is_whole_and_not_negative(name: str) -> None:
    for value in (-1, 0.5, True):
        with pytest.raises(ValueError, match=rf"^{name}: "):
            Reordering(**{name: value})


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_sizes_and_placement_agree_or_are_refused(n: int, s: int, data: st.DataObject) -> None:
    placement = data.draw(st.lists(st.integers(0, s - 1), min_size=n, max_size=n))
    sizes = data.draw(st.lists(st.integers(1, n), min_size=s, max_size=s))
    fields = {
        "nodes": tuple(f"n{i}" for i in range(n)),
        "locations": ("x",) * n,
        "forward": np.ones((n, s)),
        "backward": np.ones((n, s)),
        "weight": np.zeros((n, s)),
        "loss": np.zeros(n),
        "link": np.zeros((n, n)),
        "memory": np.ones(n, dtype=int),
        "stage_sizes": sizes,
        "stage_cap": np.full(s, 4),
        "node_cap": np.full(n, 4),
        "route_length": 1,
        "placement": placement,
    }
    fits = [placement.count(stage) for stage in range(s)] == sizes
    if fits:
        assert small(**fields).n_stages == s
    else:
        with pytest.raises(ValueError, match=r"^(stage_sizes|placement): "):
            small(**fields)
