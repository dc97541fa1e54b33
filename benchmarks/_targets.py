"""The figures that the suite has to reach, each with the benchmark that answers it.

A benchmark asks ``TARGETS[key].judge(value, shown)`` and puts the verdict into its table; the page of results lists all
targets, those that nobody has measured too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Attributes
    ----------
    key
        Its name in the saved results.
    what, reference, reach
        In words: what is measured, what it is compared with, what is to be reached.
    benchmark
        Name of the benchmark that measures it.
    limit, sense
        The figure is reached if it is "at most", "below" or "at least" the limit; None where it is only reported.
    """

    key: str
    what: str
    reference: str
    reach: str
    benchmark: str
    limit: float | None
    sense: Literal["at most", "below", "at least"] = "at most"

    def judge(self, value: float | None, shown: str, *, short_of: str = "") -> Verdict:
        """What was measured, and whether that reaches the target.

        Parameters
        ----------
        value
            The figure that counts; None where there is none, which is a miss.
        shown
            The same in words, with what a reader should know beside it.
        short_of
            In what the run asked for less than the target does ("20 draws"); it then proves nothing. Empty if it did
            not.
        """
        if short_of or self.limit is None:
            return Verdict(self.key, shown, value, None, short_of)
        if value is None:
            return Verdict(self.key, shown, None, False)
        reached = {"at most": value <= self.limit, "below": value < self.limit, "at least": value >= self.limit}
        return Verdict(self.key, shown, value, bool(reached[self.sense]))


@dataclass(frozen=True)
class Verdict:
    """A target's measured figure; `reached` is None where it was only reported, or the run fell short of something."""

    key: str
    shown: str
    value: float | None
    reached: bool | None
    short_of: str = ""

    @property
    def word(self) -> str:
        if self.short_of:
            return f"open (the run is short of: {self.short_of})"
        return "reported" if self.reached is None else "reached" if self.reached else "MISSED"

    def sentence(self) -> str:
        target = TARGETS[self.key]
        return f"Target, {target.what}: {target.reach}. Measured: {self.shown}. {self.word[0].upper()}{self.word[1:]}."

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "shown": self.shown,
            "value": self.value,
            "reached": self.reached,
            "short_of": self.short_of,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Verdict:
        return cls(saved["key"], saved["shown"], saved["value"], saved["reached"], saved.get("short_of", ""))


_PUBLISHED = "SkipPipe's default instance as published"
_SHIPPED = "the instance of SkipPipe's shipped schedule"
_ITS_SEARCH = "its search: 79.82 s after 25 minutes, 79.89 s without collision awareness; 165.39 s full pipeline"
_ITS_SCHEDULE = "33.31 s collision aware, 35.43 s not, 48.92 s random, 79.94 s full pipeline"
_FULL = "DT-FM full pipeline"
_BEST = "the best of DT-FM full, GPipe, 1F1B, interleaved 1F1B and ZB-H1"

_ALL = (
    Target(
        "published-5s",
        f"{_PUBLISHED}, its own placement, every seed",
        _ITS_SEARCH,
        "at most 76.4 s within 5 s of planning",
        "reference_instances",
        76.4,
    ),
    Target(
        "published-joint",
        f"{_PUBLISHED}, placement and routes together",
        "76.4 s with its own placement",
        "clearly below 76.4 s (read as 5 %: at most 72.58 s) within 60 s",
        "reference_instances",
        72.58,
    ),
    Target(
        "published-gap",
        f"proven gap, {_PUBLISHED}, its own placement",
        "none given",
        "10 % or less",
        "reference_instances",
        10.0,
    ),
    Target(
        "shipped-5s",
        f"{_SHIPPED}, every seed",
        _ITS_SCHEDULE,
        "below 33.31 s within 5 s of planning",
        "reference_instances",
        33.31,
        "below",
    ),
    Target(
        "shipped-60s",
        f"{_SHIPPED}, more time",
        _ITS_SCHEDULE,
        "the least within 60 s",
        "reference_instances",
        None,
    ),
    Target("shipped-gap", f"proven gap, {_SHIPPED}", "none given", "10 % or less", "reference_instances", 10.0),
    Target(
        "draws-skip",
        "corrected network, 20 draws of regions, a third skipped",
        _FULL,
        "median iteration time at least 45 % lower",
        "random_draws",
        45.0,
        "at least",
    ),
    Target(
        "draws-equal",
        "corrected network, 20 draws of regions, nothing skipped",
        _BEST,
        "median iteration time at least 15 % lower",
        "random_draws",
        15.0,
        "at least",
    ),
    Target(
        "unequal-skip",
        "20 draws of regions and of speeds 1x to 4x, a third skipped",
        _FULL,
        "median iteration time at least 45 % lower",
        "random_draws",
        45.0,
        "at least",
    ),
    Target(
        "unequal-equal",
        "20 draws of regions and of speeds 1x to 4x, nothing skipped",
        _BEST,
        "median iteration time at least 15 % lower",
        "random_draws",
        15.0,
        "at least",
    ),
    *(
        target
        for nodes, stages, seconds in ((200, 10, 30), (1000, 16, 120))
        for target in (
            Target(
                f"large-{nodes}-time",
                f"{nodes:,} nodes, {stages} stages, a third skipped: a checked plan",
                "none",
                f"planned and checked within {seconds} s",
                "large_networks",
                float(seconds),
            ),
            Target(
                f"large-{nodes}",
                f"{nodes:,} nodes, {stages} stages, a third skipped: iteration time",
                f"{_FULL}, its placement given the same time",
                "at least 35 % lower",
                "large_networks",
                35.0,
                "at least",
            ),
            Target(
                f"large-{nodes}-memory",
                f"{nodes:,} nodes, {stages} stages: peak memory",
                "none",
                "under 2 GB",
                "large_networks",
                2000.0,
                "below",
            ),
        )
    ),
    Target(
        "kernel-times",
        "event kernel, seconds a call",
        "SkipPipe's simulator",
        "at least 1,000 times faster",
        "event_kernel",
        1000.0,
        "at least",
    ),
    Target(
        "kernel-rate",
        "event kernel, task events a second",
        "none",
        "at least 1,000,000",
        "event_kernel",
        1e6,
        "at least",
    ),
    Target(
        "small-equal",
        "small instances (6 to 9 nodes) where conflict search misses the optimum",
        "CP-SAT optimum",
        "none",
        "small_instances",
        0.0,
    ),
    Target(
        "checker",
        "plans broken in one rule that the checker passes, or rejects without naming the rule",
        "none",
        "0 of 1,000",
        "checker",
        0.0,
    ),
    Target(
        "failure-complete",
        "a node dies in mid-iteration: microbatches that the re-planned iteration loses",
        "none",
        "0",
        "node_failure",
        0.0,
    ),
    Target(
        "failure-lost",
        "a node dies in mid-iteration: time lost, as a share of what a restart loses",
        "restart of the iteration",
        "at most 50 %",
        "node_failure",
        50.0,
    ),
    Target("help", "`pathloom --help`", "none", "below 0.5 s", "start_up", 0.5, "below"),
    Target(
        "main-job", "the main job, example gcp12-llama-500m, 2 cores", "none", "under 60 s", "start_up", 60.0, "below"
    ),
    Target(
        "run-predicted",
        "four plans really run by six processes: measured iteration time against the simulated one",
        "none",
        "within 10 %, order of the plans the same",
        "plan_and_run",
        10.0,
    ),
    Target(
        "run-transports",
        "the same plans over a network of namespaces against links held back by the receiver",
        "none",
        "within 5 %",
        "plan_and_run",
        5.0,
    ),
    Target(
        "run-gain",
        "a third of the stages skipped along planned paths, really run: iteration time",
        "1F1B full pipeline on the same emulated network",
        "at least 45 % shorter",
        "plan_and_run",
        45.0,
        "at least",
    ),
)

TARGETS: dict[str, Target] = {target.key: target for target in _ALL}
