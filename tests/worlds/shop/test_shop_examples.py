"""The shipped examples of the shop world are what they say, and have schedules that the checker accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pathloom.plan import verified
from pathloom.worlds.shop.check import check
from pathloom.worlds.shop.files import load, recognise
from pathloom.worlds.shop.methods import portfolio

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(("name", "kind"), [("shop.yaml", "scheduling problem"), ("job-shop.txt", "job shop (JSPLIB)")])
def test_a_shipped_example_is_recognised_and_planned(name: str, kind: str) -> None:
    path = EXAMPLES / name
    assert recognise(path, path.read_text(encoding="utf-8")) == kind
    plan = verified(portfolio(load(path), time_limit=5.0), check)
    assert plan.bound is not None and plan.bound <= plan.objective.value
