"""Short and long forms of entries come to the same."""

from __future__ import annotations

from typing import Any

import pytest

from pathloom.data.input_model import validated
from pathloom.worlds.shop.problem_entries import ProblemFile, ResourceEntry, TaskEntry


@pytest.mark.parametrize(
    "uses",
    ["crew", ["crew"], {"crew": 1}, [{"resource": "crew"}], {"resource": "crew", "amount": 1}],
)
def test_ways_to_say_what_a_task_uses(uses: Any) -> None:
    (use,) = validated(TaskEntry, {"duration": 1, "uses": uses}).uses
    assert (use.resource, use.amount, use.start, use.end, use.state) == ("crew", 1, 0, None, None)


@pytest.mark.parametrize(
    ("objective", "levels"),
    [
        ("flow", [{"flow": 1}]),
        ({"flow": 2, "cost": 1}, [{"flow": 2, "cost": 1}]),
        (["flow", {"cost": 3}], [{"flow": 1}, {"cost": 3}]),
    ],
)
def test_ways_to_say_the_objective(objective: Any, levels: list[dict[str, int]]) -> None:
    assert validated(ProblemFile, {"kind": "shop", "objective": objective}).objective == levels


def test_the_makespan_is_minimised_if_nothing_is_said() -> None:
    assert validated(ProblemFile, {"kind": "shop"}).objective == [{"makespan": 1}]


def test_pairs_and_tables_are_lists() -> None:
    entry = validated(ResourceEntry, {"name": "a", "kind": "machine", "breaks": [[1, 2]], "setup": [[0, 3], [1, 0]]})
    assert entry.breaks == [(1, 2)] and entry.setup == [[0, 3], [1, 0]]
