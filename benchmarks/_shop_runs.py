"""Ours beside CP-SAT through PyJobShop on sets of instances: the runs and the table of the scheduling benchmarks."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _saved_parts import SavedParts
from _shop_instances import Instance
from _shop_peer import Found, peer
from _table import say
from _targets import TARGETS, Verdict
from pathloom.schedule.check import check_schedule
from pathloom.schedule.solve import solve

OURS, PEER = "pathloom", "CP-SAT through PyJobShop"
COLUMNS = [
    "set",
    "instances",
    "pathloom, mean gap %",
    "peer, mean gap %",
    "pathloom, proven",
    "peer, proven",
    "pathloom better",
    "peer better",
    "peer without a schedule",
]


def ours(instance: Instance, seconds: float, workers: int, seed: int) -> Found:
    """Solve with our portfolio; the schedule is checked."""
    began = time.perf_counter()
    result = solve(instance.problem, time_limit=seconds, workers=workers, seed=seed)
    spent = time.perf_counter() - began
    violations = check_schedule(instance.problem, result.schedule)
    if violations:
        raise AssertionError(f"{instance.name}: our schedule breaks a rule: {violations[0]}")
    bound = None if result.bound is None else float(result.bound)
    return Found(result.values[0], bound, spent)


def options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Options of all these benchmarks."""
    parser.add_argument("--time", type=float, default=seconds, help="seconds for each instance and method")
    parser.add_argument("--peer-time", type=float, help="seconds of the peer, if others")
    parser.add_argument("--workers", type=int, default=2, help="threads of each method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="take every n-th instance of a set only")
    parser.add_argument("--sets", nargs="+", help="only these sets")


class Runs:
    """Measured pairs, kept on disk one by one, so that a stopped benchmark goes on."""

    def __init__(self, name: str, chosen: argparse.Namespace) -> None:
        import ortools
        import pyjobshop

        self.chosen = chosen
        self.settings: dict[str, Any] = {
            "seconds": chosen.time,
            "peer seconds": chosen.peer_time or chosen.time,
            "workers": chosen.workers,
            "PyJobShop": getattr(pyjobshop, "__version__", "0.0.9"),
            "OR-Tools": ortools.__version__,
        }
        folder = Path(chosen.out) / "parts"
        self.parts = SavedParts(folder / f"{name}.json", {**self.settings, "seed": chosen.seed})

    def warm(self, instance: Instance) -> None:
        """Compile what an instance of this kind needs, before anything is measured."""
        solve(instance.problem, time_limit=3.0, workers=self.chosen.workers)

    def drawn(self, names: Sequence[str], also: Sequence[str] = ()) -> list[str]:
        """Every n-th of the names, as asked for, those of `also`, and those that were measured before."""
        every = self.chosen.every
        return [name for at, name in enumerate(names) if at % every == 0 or name in also or name in self.parts.parts]

    def pair(self, instance: Instance) -> dict[str, Any]:
        """Ours and the peer's result on one instance."""

        def measure() -> dict[str, Any]:
            mine = ours(instance, self.chosen.time, self.chosen.workers, self.chosen.seed)
            other = peer(instance.problem, self.settings["peer seconds"], self.chosen.workers)
            for found, who in ((mine, OURS), (other, PEER)):
                if found.bound is not None and found.bound > instance.best:
                    raise AssertionError(
                        f"{instance.name}: {who}'s bound {found.bound} is above the best {instance.best}"
                    )
            say(f"{instance.name}: best known {instance.best}, ours {mine.value}, peer {other.value}")
            return {
                "best": instance.best,
                "ours": vars(mine) | {"load": os.getloadavg()[0]},
                "peer": vars(other),
            }

        return self.parts.part(instance.name, measure)


def gaps(pairs: Iterable[Mapping[str, Any]], who: str) -> np.ndarray:
    """Gap to the best known value in percent, NaN where nothing was found."""
    return np.array(
        [np.nan if pair[who]["value"] is None else 100.0 * (pair[who]["value"] / pair["best"] - 1.0) for pair in pairs]
    )


def proven(pair: Mapping[str, Any], who: str) -> bool:
    """Whether the method proved its own schedule optimal."""
    found = pair[who]
    return found["value"] is not None and found["bound"] is not None and found["bound"] >= found["value"] - 1e-6


def row(name: str, pairs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Cells of one set, see `COLUMNS`. Gaps are over the instances on which both found a schedule."""
    mine, other = gaps(pairs, "ours"), gaps(pairs, "peer")
    both = ~np.isnan(mine) & ~np.isnan(other)
    return [
        name,
        len(pairs),
        round(float(mine[both].mean()), 2) if both.any() else None,
        round(float(other[both].mean()), 2) if both.any() else None,
        sum(proven(pair, "ours") for pair in pairs),
        sum(proven(pair, "peer") for pair in pairs),
        int((mine[both] < other[both]).sum()) + int((~np.isnan(mine) & np.isnan(other)).sum()),
        int((other[both] < mine[both]).sum()) + int((np.isnan(mine) & ~np.isnan(other)).sum()),
        int(np.isnan(other).sum()),
    ]


def mean_gap(pairs: Sequence[Mapping[str, Any]], who: str) -> float | None:
    """Mean gap in percent over the instances that both solved; None if there is none."""
    mine, other = gaps(pairs, "ours"), gaps(pairs, "peer")
    both = ~np.isnan(mine) & ~np.isnan(other)
    return float((mine if who == "ours" else other)[both].mean()) if both.any() else None


Pairs = Sequence[Mapping[str, Any]]
LEAST = 8
"""Fewest instances of a sample that say something."""
_RESAMPLES = 4000


def judged(
    key: str, pairs: Pairs, statistic: Callable[[Pairs], float | None], shown: str, *, of: int, short_of: str = ""
) -> Verdict:
    """Whether a statistic of instances reaches its target.

    On a sample of `of` instances the worse end of its 95 % interval (bootstrap over instances) is judged, not the
    statistic itself.
    """
    value = statistic(pairs)
    if short_of or len(pairs) == of or value is None:
        return TARGETS[key].judge(value, shown, short_of=short_of)
    if len(pairs) < LEAST:
        return TARGETS[key].judge(value, shown, short_of=f"{len(pairs)} of {of} instances only")
    generator = np.random.default_rng(0)
    found = [statistic([pairs[k] for k in generator.integers(0, len(pairs), len(pairs))]) for _ in range(_RESAMPLES)]
    worse = 2.5 if TARGETS[key].sense == "at least" else 97.5
    end = float(np.percentile([one for one in found if one is not None], worse))
    shown += f"; {len(pairs)} of {of} instances, the worse end of the 95 % interval is {end:.2f}"
    return TARGETS[key].judge(end, shown)


def behind(pairs: Pairs) -> float | None:
    """Our mean gap less the peer's, points, over the instances that both solved."""
    mine, other = mean_gap(pairs, "ours"), mean_gap(pairs, "peer")
    return None if mine is None or other is None else round(mine - other, 9)
