"""Samples of instances: which are drawn, and how a target is judged on them."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from _shop_runs import LEAST, Runs, behind, judged


def pairs(ours: list[float], peer: list[float]) -> list[dict]:
    return [{"best": 100, "ours": {"value": a}, "peer": {"value": b}} for a, b in zip(ours, peer, strict=True)]


def test_the_whole_set_is_judged_by_its_mean() -> None:
    verdict = judged("shop-flexible", pairs([101, 103], [103, 101]), behind, "equal", of=2)
    assert (verdict.value, verdict.reached, verdict.shown) == (0.0, True, "equal")


def test_a_sample_is_judged_by_the_worse_end_of_its_interval() -> None:
    """On the mean of the sample we are ahead, but a few instances decide it."""
    ours, peer = [100.0] * 10, [100.0] * 9 + [104.0]
    sure = judged("shop-flexible", pairs(ours, [101.0] * 10), behind, "", of=50)
    unsure = judged("shop-flexible-large", pairs(ours, peer), behind, "", of=50)
    assert sure.reached is True and sure.value == pytest.approx(-1.0)
    assert behind(pairs(ours, peer)) == pytest.approx(-0.4) and unsure.reached is False
    assert "10 of 50 instances" in unsure.shown


def test_where_more_is_better_the_lower_end_counts() -> None:
    generator = np.random.default_rng(1)
    peer = (100 + generator.integers(0, 9, 20)).tolist()

    def ahead(those: list[dict]) -> float:
        return float(np.mean([pair["peer"]["value"] - pair["ours"]["value"] for pair in those]))

    verdict = judged("shop-ta-ahead", pairs([100.0] * 20, peer), ahead, "", of=40)
    assert verdict.value is not None and verdict.value < np.mean(peer) - 100


def test_a_handful_says_nothing() -> None:
    verdict = judged("shop-flexible", pairs([100.0] * (LEAST - 1), [101.0] * (LEAST - 1)), behind, "", of=50)
    assert verdict.reached is None and verdict.short_of == "7 of 50 instances only"


def test_instances_that_were_measured_before_are_taken_along(tmp_path: Path) -> None:
    pytest.importorskip("pyjobshop")
    chosen = argparse.Namespace(time=1.0, peer_time=None, workers=1, seed=0, out=str(tmp_path), every=3)
    runs = Runs("some", chosen)
    runs.parts.part("b", lambda: {})
    assert runs.drawn(list("abcdefg")) == ["a", "b", "d", "g"]
    assert runs.drawn(list("abcdefg"), also=["f"]) == ["a", "b", "d", "f", "g"]
