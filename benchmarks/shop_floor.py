"""The simulator of blocking shop floors: equality with the static evaluator, deadlocks, speed.

Without disturbances, a run that follows given machine orders must have exactly the starts that the longest paths of the
alternative graph have. Random runs with swaps must never stand still. Speed counts ends of operations, arrivals,
breakdowns and repairs per second of processor time, rules deciding, in one thread.
"""

from __future__ import annotations

import _one_thread  # noqa: F401  # isort: skip

import time
from dataclasses import replace

import numpy as np

from _shop_instances import job_shop
from _table import Table, finish, options, say
from _targets import TARGETS
from pathloom.plan import InputError
from pathloom.schedule.alternative_graph import starts_of_orders
from pathloom.schedule.recognised_shapes import as_job_shop
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor import Deadlock, Floor, follow, simulate
from pathloom.worlds.shop.online.rules import RULES

NAME = "shop_floor"
COLUMNS = ["what", "runs", "as it should be", "events", "million events a second"]
SPEED_SHOPS = ("la01", "la16", "la31", "ta71")
BEYOND = "ta71"
"""Measured and shown, but larger (100x20) than the shops that the target speaks of (la01-40)."""


def random_shop(rng: np.random.Generator, jobs: int, machines: int, *, swap: bool = True) -> JobShop:
    """Routes of any length over distinct machines or, in every second shop, over any."""
    rows, again = [], bool(rng.integers(2))
    for _ in range(jobs):
        length = int(rng.integers(1, machines + 1))
        route = rng.integers(machines, size=length) if again else rng.permutation(machines)[:length]
        rows.append([(int(m), int(rng.integers(1, 100))) for m in route])
    return replace(JobShop.from_rows(rows, machines), blocking=True, swap=swap)


def equal_runs(count: int, seed: int, *, swap: bool) -> int:
    """In how many of `count` random shops the floor and the static evaluator agree on all starts."""
    equal = 0
    for number in range(count):
        rng = np.random.default_rng([seed, number, swap])
        shop = random_shop(rng, int(rng.integers(2, 16)), int(rng.integers(2, 11)), swap=swap)
        drawn = simulate(shop, "RANDOM", seed=number)
        # The order in which they left decides between two that started at one instant (durations of at least 1).
        order = np.lexsort((drawn.departure, drawn.start, shop.machine)).astype(np.int32)
        on = shop.machine[order]
        followed = follow(shop, [order[on == m].tolist() for m in range(shop.machines)])
        static = starts_of_orders(shop, order)
        equal += static is not None and np.array_equal(static, followed.start)
    return equal


def finished_runs(count: int, seed: int) -> tuple[int, int]:
    """Random runs with swaps that came to their end, out of `count`, and their events."""
    finished = events = 0
    batch = 20
    for number in range(count // batch):
        rng = np.random.default_rng([seed, number])
        shop = random_shop(rng, int(rng.integers(2, 21)), int(rng.integers(2, 11)))
        trouble = Disturbances(
            breakdown_chance=float(rng.choice([0.0, 0.05, 0.2])), noise=float(rng.choice([0.0, 0.3]))
        )
        floor = Floor([shop] * batch, trouble, range(batch))
        try:
            floor.advance(int(rng.choice(list(RULES.values()))))
        except Deadlock as error:
            say(f"shop {number}: {error}")
        finished += int((floor.status == state.FINISHED).sum())
        events += int(floor.batch.whole[:, state.EVENTS].sum())
    return finished, events


def speed(shop: JobShop, trouble: Disturbances, runs: int) -> tuple[int, float]:
    """Events of `runs` runs under LOR, and millions of them a second of processor time; the best of three."""
    best, events = 0.0, 0
    for _ in range(3):
        floor = Floor([shop] * runs, trouble, range(runs))
        began = time.process_time()
        floor.advance(RULES["LOR"])
        taken = time.process_time() - began
        events = int(floor.batch.whole[:, state.EVENTS].sum())
        best = max(best, events / taken / 1e6)
    return events, best


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write it as JSON; the exit status is 1 if a run was wrong or stood still."""
    parser = options(NAME, __doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="random runs with swaps")
    parser.add_argument("--orders", type=int, default=1000, help="random orders compared with the static evaluator")
    parser.add_argument("--quick", action="store_true", help="a tenth of both")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(argv)
    count, orders = (chosen.runs // 10, chosen.orders // 10) if chosen.quick else (chosen.runs, chosen.orders)
    count -= count % 20

    rows: list[list[str | int | float | None]] = []
    unequal = 0
    for swap in (True, False):
        equal = equal_runs(orders, chosen.seed, swap=swap)
        unequal += orders - equal
        rows.append([f"starts equal to the longest paths, {'with' if swap else 'no'} swaps", orders, equal, None, None])
    finished, events = finished_runs(count, chosen.seed)
    rows.append(["random runs with swaps that end", count, finished, events, None])
    slowest, where = float("inf"), ""
    for name in SPEED_SHOPS:
        try:
            classic = as_job_shop(job_shop(name).problem)
        except InputError as error:
            say(f"{name}: {error}")
            continue
        assert classic is not None
        shop = replace(classic, blocking=True)
        runs = max(20, 60_000 // shop.operations) // (10 if chosen.quick else 1)
        for chance in (0.0, 0.1):
            counted, rate = speed(shop, Disturbances(breakdown_chance=chance), runs)
            rows.append([f"{name}, breakdown chance {chance:g}", runs, None, counted, round(rate, 3)])
            if rate < slowest and name != BEYOND:
                slowest, where = rate, f"{name}, chance {chance:g}"
    table = Table(
        title="The blocking shop floor: equality with the static evaluator, deadlocks, speed",
        columns=COLUMNS,
        rows=rows,
        settings={"runs": count, "orders": orders},
        seeds=[chosen.seed],
        notes=[
            "Static evaluator: longest paths in the alternative graph, code that the simulator does not share.",
            "Random runs: 2-20 jobs, 2-10 machines, routes with and without repeated machines, any rule, breakdown "
            "chances 0, 0.05 and 0.2, with and without noise.",
            "Speed: blocking with swaps, rule LOR, one thread, processor time, best of three. The target is judged "
            f"by the slowest of la01-40's sizes; {BEYOND} (100x20) shows how it goes on.",
        ],
        verdicts=[
            TARGETS["floor-equal"].judge(unequal, f"{unequal} of {2 * orders:,}", short_of="--quick" * chosen.quick),
            TARGETS["floor-deadlocks"].judge(
                count - finished,
                f"{count - finished} of {count:,}",
                short_of=f"{count:,} runs" if count < 10_000 else "",
            ),
            TARGETS["floor-speed"].judge(
                1e6 * slowest if where else None, f"{1e6 * slowest:,.0f} events a second at least ({where})"
            ),
        ],
    )
    finish(table, NAME, chosen)
    return 0 if unequal == 0 and finished == count else 1


if __name__ == "__main__":
    raise SystemExit(main())
