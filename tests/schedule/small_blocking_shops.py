"""Small blocking and no-wait shops for tests, with plain Python versions of the definitions to compare with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from pathloom.schedule.shops import JobShop


@st.composite
def blocking_shops(
    draw: st.DrawFn, jobs: int = 4, machines: int = 3, length: int = 4, shortest: int = 0, swap: bool | None = None
) -> JobShop:
    """Ragged blocking shops with releases, jobs that visit a machine twice, and (shortest = 0) durations of 0."""
    operation = st.tuples(st.integers(0, machines - 1), st.integers(shortest, 5))
    rows = draw(st.lists(st.lists(operation, max_size=length), min_size=1, max_size=jobs).filter(any))
    releases = draw(st.lists(st.sampled_from([0, 0, 2, 7]), min_size=len(rows), max_size=len(rows)))
    legal = draw(st.booleans()) if swap is None else swap
    shop = JobShop.from_rows(rows, machines)
    return replace(shop, release=np.array(releases, np.int64), blocking=True, swap=legal)


def generated(jobs: int, machines: int, seed: int, *, most: int = 99, **flags: bool) -> JobShop:
    """A shop in which every job visits every machine once, durations 1 to `most`."""
    random = np.random.default_rng(seed)
    rows = [[(int(k), int(random.integers(1, most + 1))) for k in random.permutation(machines)] for _ in range(jobs)]
    return replace(JobShop.from_rows(rows, machines), **flags)


def operations_of(shop: JobShop, machine: int) -> list[int]:
    return [o for o in range(shop.operations) if shop.machine[o] == machine]


def all_orders(shop: JobShop) -> Iterator[list[int]]:
    """Every order of the operations on every machine, as one list grouped by machine."""
    for parts in itertools.product(*(itertools.permutations(operations_of(shop, m)) for m in range(shop.machines))):
        yield [o for part in parts for o in part]


def waits(shop: JobShop, order: list[int]) -> list[tuple[object, object, int]]:
    """Arcs (from, to, least distance) between starts of operations and the way out of each job, ("out", j)."""

    def departure(o: int) -> object:
        j = int(shop.job[o])
        return o + 1 if o + 1 < shop.job_start[j + 1] else ("out", j)

    arcs: list[tuple[object, object, int]] = [(o, departure(o), int(shop.duration[o])) for o in range(shop.operations)]
    for a, b in itertools.pairwise(order):
        if shop.machine[a] == shop.machine[b] and departure(a) != b:
            arcs.append((departure(a), b, 0))
    return arcs


def slow_starts(shop: JobShop, order: list[int]) -> list[int] | None:
    """Bellman-Ford; None after a positive cycle, and, where swaps are illegal, after any cycle."""
    arcs = waits(shop, order)
    time: dict[object, int] = {end: 0 for arc in arcs for end in arc[:2]}
    for j in range(shop.jobs):
        if shop.job_start[j] < shop.job_start[j + 1]:
            time[int(shop.job_start[j])] = int(shop.release[j])
    for _ in range(len(time) + 1):
        late = [(b, time[a] + d) for a, b, d in arcs if time[a] + d > time[b]]
        for b, t in late:
            time[b] = max(time[b], t)
        if not late:
            break
    else:
        return None
    if not shop.swap:
        # hand-overs in a strict order: take away nodes without arcs in until none is left
        nodes = set(time)
        while free := nodes - {b for a, b, _ in arcs if a in nodes and b in nodes}:
            nodes -= free
        if nodes:
            return None
    return [time[o] for o in range(shop.operations)]


def least_makespan(shop: JobShop) -> int:
    """Over all machine orders."""
    found = [slow_starts(shop, order) for order in all_orders(shop)]
    return min(max(t + int(d) for t, d in zip(start, shop.duration, strict=True)) for start in found if start)


def broken_rules(shop: JobShop, start: np.ndarray) -> list[str]:
    """What is wrong with a schedule of a blocking or no-wait shop, straight from the definition; durations above 0."""
    found = []
    departure = start + shop.duration
    for o in range(shop.operations):
        if o == shop.job_start[shop.job[o]]:
            if start[o] < shop.release[shop.job[o]]:
                found.append(f"{o} starts before its release")
        elif start[o] < start[o - 1] + shop.duration[o - 1]:
            found.append(f"{o} starts before {o - 1} ends")
        elif shop.no_wait and start[o] > start[o - 1] + shop.duration[o - 1]:
            found.append(f"{o} waits")
        elif shop.blocking:
            departure[o - 1] = start[o]
    for a, b in itertools.combinations(range(shop.operations), 2):
        if shop.machine[a] == shop.machine[b] and start[a] < departure[b] and start[b] < departure[a]:
            found.append(f"{a} and {b} overlap")
    if shop.blocking and not shop.swap and not found:
        order = [o for m in range(shop.machines) for o in sorted(operations_of(shop, m), key=lambda o: start[o])]
        if slow_starts(shop, order) is None:
            found.append("a swap")
    return found


def least_by_cp_sat(shop: JobShop) -> int:
    """Optimal makespan of a blocking shop with swaps, or of a no-wait shop, by a model of its own."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    horizon = int(shop.duration.sum() + shop.release.max(initial=0))
    start = [model.new_int_var(0, horizon, "") for _ in range(shop.operations)]
    makespan = model.new_int_var(0, horizon, "")
    held: list[list[cp_model.IntervalVar]] = [[] for _ in range(shop.machines)]
    for o in range(shop.operations):
        j, duration = int(shop.job[o]), int(shop.duration[o])
        if o == shop.job_start[j]:
            model.add(start[o] >= int(shop.release[j]))
        model.add(makespan >= start[o] + duration)
        if o + 1 < shop.job_start[j + 1]:
            stay = model.new_int_var(duration, duration if shop.no_wait else horizon, "")
            held[shop.machine[o]].append(model.new_interval_var(start[o], stay, start[o + 1], ""))
        else:
            held[shop.machine[o]].append(model.new_fixed_size_interval_var(start[o], duration, ""))
    for intervals in held:
        model.add_no_overlap(intervals)
    model.minimize(makespan)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False
    assert solver.solve(model) == cp_model.OPTIMAL
    return round(solver.objective_value)
