"""The learned dispatchers on public instances, none of which they were trained on, beside the rules they are to beat.

A greedy pass and the best of 32 passes of the shipped job-shop checkpoint on Taillard's sets, beside SPT, MWKR, MOR and
FIFO; then our local search for a few seconds, once from the learned policy's best schedule and once from the best
rule's; and the flexible-shop checkpoint, made by the same trainer, beside its rules on Brandimarte's and Hurink's
instances.

Finished instances are kept beside the results, so that a run that was stopped goes on where it was.

Run ``python benchmarks/learned_dispatcher.py --help`` for the settings.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import argparse
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _saved_parts import SavedParts
from _shop_instances import JOB_SHOP_SETS, Instance, flexible_shops, job_shop
from _table import Table, finish, say
from _table import options as table_options
from _targets import TARGETS, Verdict
from pathloom.learn.dispatching.card import SHIPPED, load_policy
from pathloom.learn.dispatching.inference import best_of, greedy
from pathloom.learn.dispatching.policy import DispatchingPolicy
from pathloom.schedule.check import check_schedule
from pathloom.schedule.dispatching import dispatch
from pathloom.schedule.flexible_shop_construction import flexible_shop_start
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.job_shop_search import job_shop_search
from pathloom.schedule.recognised_shapes import Shape, recognised_shape
from pathloom.schedule.shops import FlexibleShop, JobShop

NAME = "learned_dispatcher"
RULES = ("SPT", "MWKR", "MOR", "FIFO")
TAILLARD = [name for name in JOB_SHOP_SETS if name.startswith(("ta01", "ta11", "ta21", "ta31", "ta41"))]
LARGE = "ta71-80 (100x20)"
FLEXIBLE = ["brandimarte", "hurink/edata", "hurink/rdata", "hurink/vdata"]
SETS = [*TAILLARD, LARGE, *FLEXIBLE]
GREEDY, BEST, FROM_RULE, FROM_LEARNED = "greedy", "best", "search from rule", "search from learned"
FORMS = ("", ", first to end")
SECONDS, SAMPLES = 5.0, 32
Part = dict[str, Any]


def judged(instance: Instance, shape: Shape, solution: Any) -> int:
    """Makespan of a solution; its schedule is checked."""
    schedule = shape.schedule(solution)
    violations = check_schedule(instance.problem, schedule)
    if violations:
        raise AssertionError(f"{instance.name}: a schedule breaks a rule: {violations[0]}")
    return int(schedule.makespan)


def by_rules(shop: JobShop | FlexibleShop) -> dict[str, Any]:
    """Solution of every rule, by name; flexible shops have two forms of each.

    The plain form makes non-delay schedules, the other active ones in which an operation takes the alternative that
    ends first.
    """
    found: dict[str, Any] = {rule: dispatch(shop, rule) for rule in RULES}
    if isinstance(shop, FlexibleShop):
        found |= {f"{rule}{FORMS[1]}": flexible_shop_start(shop, rule.lower()) for rule in RULES}
    return found


def searched(shop: JobShop, start: np.ndarray, chosen: argparse.Namespace) -> np.ndarray:
    """Best starts that local search finds in the given seconds from the given ones, in threads of unlike seeds."""
    incumbent: Incumbent[np.ndarray] = Incumbent(chosen.time, copy=np.copy)
    incumbent.offer(int((start + shop.duration).max()), start, "the beginning")
    failed: list[BaseException] = []

    def search(seed: int) -> None:
        try:
            job_shop_search(shop, incumbent, seed=seed, initial=start)
        except BaseException as error:  # a thread must not swallow what broke it
            failed.append(error)

    threads = [threading.Thread(target=search, args=(chosen.seed + n,)) for n in range(chosen.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    assert incumbent.solution is not None
    return incumbent.solution


def measure(instance: Instance, policy: DispatchingPolicy, chosen: argparse.Namespace) -> Part:
    """Makespans of everything on one instance, and the seconds of the policy's passes."""
    shape = recognised_shape(instance.problem)
    assert shape is not None
    shop = shape.view
    assert isinstance(shop, JobShop | FlexibleShop)
    rules = by_rules(shop)
    found = {name: judged(instance, shape, solution) for name, solution in rules.items()}
    first = min(found, key=lambda name: found[name])
    began = time.perf_counter()
    one = greedy(policy, [shop])[0]
    between = time.perf_counter()
    best = best_of(policy, shop, chosen.samples, seed=chosen.seed)
    passes, searching = [between - began, time.perf_counter() - between], [0.0]
    assert best is not None
    solutions = {
        name: each.start if isinstance(shop, JobShop) else (each.alternative.astype(np.int32), each.start)
        for name, each in ((GREEDY, one), (BEST, best))
    }
    found |= {name: judged(instance, shape, solution) for name, solution in solutions.items()}
    if isinstance(shop, JobShop):
        for name, start in ((FROM_RULE, rules[first]), (FROM_LEARNED, solutions[BEST])):
            ended = time.perf_counter()
            better = searched(shop, np.asarray(start), chosen)
            searching.append(time.perf_counter() - ended)
            found[name] = judged(instance, shape, better)
    say(f"{instance.name}: best known {instance.best}, " + ", ".join(f"{k} {v}" for k, v in found.items()))
    return {"best": instance.best, "found": found, "seconds": passes, "searching": max(searching)}


def gaps(parts: Sequence[Part], what: str) -> np.ndarray:
    """Gaps to the best known value in percent, shape (instances,)."""
    return np.array([100.0 * (part["found"][what] / part["best"] - 1.0) for part in parts])


def of_rules(parts: Sequence[Part]) -> dict[str, float]:
    """Mean gap of every rule, in the form that is better on this set."""
    known = parts[0]["found"]
    return {
        rule: min(float(gaps(parts, name).mean()) for name in (rule + form for form in FORMS) if name in known)
        for rule in RULES
    }


def columns(chosen: argparse.Namespace) -> list[str]:
    after = f"after {chosen.time:g} s of search from"
    return [
        "set",
        "instances",
        *(f"{rule}, gap %" for rule in RULES),
        "learned, one pass, gap %",
        f"learned, best of {chosen.samples}, gap %",
        f"{after} the best rule, gap %",
        f"{after} the learned, gap %",
        "one pass, s",
        f"best of {chosen.samples}, s",
    ]


def row(name: str, parts: Sequence[Part]) -> list[Any]:
    """Cells of one set, see `columns`."""
    searches = FROM_RULE in parts[0]["found"]
    seconds = np.array([part["seconds"] for part in parts]).mean(axis=0)
    return [
        name,
        len(parts),
        *(round(gap, 1) for gap in of_rules(parts).values()),
        *(round(float(gaps(parts, what).mean()), 1) for what in (GREEDY, BEST)),
        *(round(float(gaps(parts, what).mean()), 2) if searches else None for what in (FROM_RULE, FROM_LEARNED)),
        *(round(float(each), 2) for each in seconds),
    ]


def ahead(results: Mapping[str, Sequence[Part]], what: str) -> tuple[float, str]:
    """Mean gap less the best rule's on the set where that is largest, in points, and a word on it."""
    worst = {name: float(gaps(p, what).mean()) - min(of_rules(p).values()) for name, p in results.items()}
    name = max(worst, key=lambda each: worst[each])
    return worst[name], f"{worst[name]:+.2f} points" + (f" on {name}" if len(worst) > 1 else "")


def verdicts(results: Mapping[str, Sequence[Part]], chosen: argparse.Namespace) -> list[Verdict]:
    short = "" if chosen.every == 1 else f"every {chosen.every}th instance only"
    of_samples = short or ("" if chosen.samples == SAMPLES else f"{chosen.samples} samples")
    of_search = of_samples or ("" if chosen.time == SECONDS else f"{chosen.time:g} s")
    found = []
    flexible = {name: results[name] for name in FLEXIBLE if name in results}
    groups = [("shop-learned", TAILLARD), ("shop-learned-large", [LARGE]), ("shop-learned-flexible", list(flexible))]
    for key, names in groups:
        if names and set(names) <= set(results):
            for what, goes_short in ((GREEDY, short), (BEST, of_samples)):
                worst, shown = ahead({name: results[name] for name in names}, what)
                found.append(TARGETS[f"{key}-{what}"].judge(worst, shown, short_of=goes_short))
    if set(TAILLARD) <= set(results):
        parts = [part for name in (*TAILLARD, LARGE) if name in results for part in results[name]]
        change = float((gaps(parts, FROM_LEARNED) - gaps(parts, FROM_RULE)).mean())
        at = f"{change:+.3f} points on {len(parts)} instances"
        found.append(TARGETS["shop-learned-search"].judge(change, at, short_of=of_search))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; returns the exit status."""
    parser = table_options(NAME, __doc__)
    parser.add_argument("--time", type=float, default=SECONDS, help="seconds of each local search")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="passes of which the best counts")
    parser.add_argument("--workers", type=int, default=2, help="threads of each local search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="take every n-th instance of a set only")
    parser.add_argument("--sets", nargs="+", choices=SETS, metavar="SET", help=f"only these of {', '.join(SETS)}")
    chosen = parser.parse_args(argv)
    torch.set_num_threads(1)
    trained = {kind: load_policy(SHIPPED / f"{kind}.safetensors") for kind in ("job-shop", "flexible-shop")}
    settings = {
        "seconds of search": chosen.time,
        "threads of search": chosen.workers,
        "samples": chosen.samples,
        **{f"{kind} checkpoint": card["sha256"][:12] for kind, (_, card) in trained.items()},
    }
    saved = SavedParts(Path(chosen.out) / "parts" / f"{NAME}.json", {**settings, "seed": chosen.seed})
    if chosen.sets is None or any(name not in FLEXIBLE for name in chosen.sets):
        # Compiled kernels are loaded before anything is measured.
        quick = argparse.Namespace(**{**vars(chosen), "time": 0.5, "samples": 2})
        measure(job_shop("ft06"), trained["job-shop"][0], quick)
    results: dict[str, list[Part]] = {}
    for name in chosen.sets or SETS:
        flexible = name in FLEXIBLE
        members = flexible_shops(name) if flexible else map(job_shop, JOB_SHOP_SETS[name])
        policy = trained["flexible-shop" if flexible else "job-shop"][0]
        results[name] = []
        for instance in list(members)[:: chosen.every]:
            results[name].append(saved.part(instance.name, lambda i=instance, p=policy: measure(i, p, chosen)))
    longest = max(part["searching"] for parts in results.values() for part in parts)
    times = ", ".join(f"{kind} {card['training']['processor_seconds']:g} s" for kind, (_, card) in trained.items())
    table = Table(
        title="Learned dispatchers: gap to the best known makespans, beside rules and in front of local search",
        columns=columns(chosen),
        rows=[row(name, parts) for name, parts in results.items()],
        settings=settings | {"every": chosen.every},
        seeds=[chosen.seed],
        notes=[
            f"Trained on generated shops only; processor time of the training: {times}.",
            "Every schedule is judged by our checker. Rules make non-delay schedules; in flexible shops each is also "
            "tried in a second form, active schedules with the alternative that ends first; the form that is better on "
            "the set counts.",
            f"Search starts from the best of {chosen.samples} passes, and from the best of the four rules on that very "
            f"instance; the passes' own time is not part of it. The longest search took {longest:.1f} s.",
            "Best known values of Hurink's sets are FJSPLIB's, some of which are not the newest: gaps may be negative.",
        ],
        verdicts=verdicts(results, chosen),
    )
    finish(table, NAME, chosen)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
