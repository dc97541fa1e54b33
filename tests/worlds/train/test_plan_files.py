"""What plan.json says reads back as the very same plan, and what is no plan is refused by key."""

from __future__ import annotations

import gzip
import json
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plans import rigid_plan, varied_case

from pathloom.plan import InputError, Plan
from pathloom.worlds.train.check import check
from pathloom.worlds.train.plan_files import FORMAT, plan_from_dict, plan_to_dict, read_plan, write_plan


def same(a: Any, b: Any) -> bool:
    """Equal in every field, arrays by value and type."""
    if a is None or b is None:
        return a is b
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if hasattr(a, "__dataclass_fields__") and type(a).__name__ != "Timeline":
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return bool(a == b)


def small_plan(seed: int = 0, **changes: Any) -> Plan:
    return rigid_plan(*varied_case(seed, **changes))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(1e-9, 1e9), st.one_of(st.none(), st.floats(0, 1e-9)))
def test_a_plan_reads_back_without_loss_and_passes_its_checker(seed: int, seconds: float, bound: float | None) -> None:
    plan = replace(
        small_plan(seed),
        seconds=seconds,
        bound=bound,
        bound_by=None if bound is None else "rest",
        settings={"a": [1, None]},
    )
    again = plan_from_dict(json.loads(json.dumps(plan_to_dict(plan), allow_nan=False)))
    assert same(plan, again)
    assert check(again.problem, again) == []


def test_missing_links_read_back_as_infinite(tmp_path: Path) -> None:
    for seed in range(200):
        plan = small_plan(seed)
        if np.isinf(plan.problem.link).any():
            break
    else:
        link = np.array(plan.problem.link)
        idle = [n for n in range(len(link)) if not (plan.decisions.routes == n).any()]
        link[idle[0], :] = np.inf
        link[idle[0], idle[0]] = 0.0
        plan = replace(plan, problem=replace(plan.problem, link=link))
    again = read_plan(write_plan(plan, tmp_path / "plan.json"))
    assert same(plan.problem, again.problem)
    assert "Infinity" not in (tmp_path / "plan.json").read_text()


def test_numpy_figures_are_written_as_plain_ones(tmp_path: Path) -> None:
    plan = replace(
        small_plan(), metrics={"share": np.float64(0.5), "visits": np.arange(3)}, settings={"n": np.int64(4)}
    )
    again = read_plan(write_plan(plan, tmp_path / "plan.json"))
    assert again.metrics == {"share": 0.5, "visits": [0, 1, 2]}
    assert again.settings == {"n": 4}


def test_a_packed_plan_reads_like_a_plain_one(tmp_path: Path) -> None:
    plan = small_plan(3)
    text = write_plan(plan, tmp_path / "plan.json").read_bytes()
    (tmp_path / "plan.json.gz").write_bytes(gzip.compress(text))
    assert same(read_plan(tmp_path / "plan.json.gz"), plan)


def test_every_key_of_a_plan_is_needed() -> None:
    whole = json.loads(json.dumps(plan_to_dict(small_plan(1))))
    needed = [(key,) for key in whole if key != "version"]
    needed += [("problem", key) for key in whole["problem"]] + [("decisions", key) for key in whole["decisions"]]
    for path in needed:
        data = deepcopy(whole)
        part = data
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]
        with pytest.raises(InputError) as raised:
            plan_from_dict(data, "plan.json")
        assert str(raised.value).startswith(f"plan.json: {'.'.join(path)}: expected")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("format",), "pathloom-train-plan-0", f"format: expected '{FORMAT}', found 'pathloom-train-plan-0'"),
        (("problem",), [], "problem: expected an object"),
        (("problem", "nodes"), "a", "problem.nodes: expected a list of names"),
        (("problem", "memory"), [1.5], "problem.memory: expected whole numbers"),
        (("problem", "memory"), [True], "problem.memory: expected whole numbers"),
        (("problem", "forward"), [[1, 2], [3]], "problem.forward: expected numbers"),
        (("problem", "forward"), [["fast"]], "problem.forward: expected numbers"),
        (("problem", "forward"), [[-1.0]], "problem.forward: has shape (1, 1)"),
        (("problem", "link"), [["inf"]], "problem.link: has shape (1, 1)"),
        (("problem", "microbatches"), 2.5, "problem.microbatches: expected a whole number, found 2.5"),
        (("problem", "microbatches"), 0, "problem.microbatches: expected a whole number of at least 1"),
        (("problem", "gap"), "0", "problem.gap: expected a number"),
        (("problem", "reordering"), {"swaps": 1}, "problem.reordering.distance: expected this key"),
        (("decisions", "routes"), [[0.5]], "decisions.routes: expected whole numbers"),
        (("decisions", "routes"), None, "decisions.routes: expected whole numbers"),
        (("decisions", "strict"), 1, "decisions.strict: expected true or false, found 1"),
        (("objective", "value"), float("nan"), "objective.value: expected a number"),
        (("bound",), "low", "bound: expected a number"),
        (("timeline", "start"), [0.0], "timeline: column"),
        (("timeline", "format"), "x", "timeline: expected a timeline"),
        (("seed",), None, "seed: expected a whole number"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_value_is_named_by_its_key(path: tuple[str, ...], value: Any, said: str) -> None:
    data = json.loads(json.dumps(plan_to_dict(small_plan(2))))
    part = data
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(InputError) as raised:
        plan_from_dict(data, "plan.json")
    assert said in str(raised.value)


def test_a_truncated_plan_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = write_plan(small_plan(), tmp_path / "plan.json")
    path.write_text(path.read_text()[:-50])
    with pytest.raises(InputError, match=r"plan\.json: line 1: is not JSON, or truncated"):
        read_plan(path)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"plan\.json: (line 1: is not JSON|is nested too deeply)"):
        read_plan(path)
