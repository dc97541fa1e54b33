"""Bounds of job shops: never above the optimum, equal to their definitions, and tight where they are known to be."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from itertools import combinations, pairwise, permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.schedule.job_shop_bounds import (
    EDGE_FINDING,
    LONGEST_JOB,
    ONE_MACHINE,
    heads_and_tails,
    job_shop_bound,
    longest_job,
    machine_bounds,
    refuted,
)
from pathloom.schedule.shops import JobShop


def drawn_shop(rng: np.random.Generator, jobs: int = 3, machines: int = 3) -> JobShop:
    """Every job visits some machines once, in random order, after a random release."""
    rows = [
        [(int(m), int(rng.integers(0, 10))) for m in rng.permutation(machines)[: rng.integers(0, machines + 1)]]
        for _ in range(jobs)
    ]
    return replace(JobShop.from_rows(rows, machines), release=rng.integers(0, 8, jobs))


def optimum(shop: JobShop) -> int:
    """Least makespan over all orders of all machines."""
    on = [np.flatnonzero(shop.machine == m).tolist() for m in range(shop.machines)]
    opening = {int(first): int(release) for first, release in zip(shop.job_start[:-1], shop.release, strict=True)}
    for job in range(shop.jobs):  # of several jobs that begin at one position all but the last are empty
        if shop.job_start[job] < shop.job_start[job + 1]:
            opening[int(shop.job_start[job])] = int(shop.release[job])
    duration = shop.duration.tolist()
    best = 10**9
    for orders in product(*(permutations(row) for row in on)):
        before = {b: a for order in orders for a, b in pairwise(order)}
        end: dict[int, int] = {}
        waiting = list(range(shop.operations))
        while waiting:
            ready = [o for o in waiting if (o in opening or o - 1 in end) and (o not in before or before[o] in end)]
            if not ready:
                break
            for o in ready:
                own = opening[o] if o in opening else end[o - 1]
                end[o] = max(own, end[before[o]] if o in before else 0) + duration[o]
                waiting.remove(o)
        if not waiting:
            best = min(best, max(end.values(), default=0))
    return best


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_no_bound_is_above_the_optimum_and_the_named_one_reaches_it_from_below(seed: int) -> None:
    shop = drawn_shop(np.random.default_rng(seed))
    least, (bound, source) = optimum(shop), job_shop_bound(shop)
    machine, job = int(machine_bounds(shop).max()), longest_job(shop)
    assert max(machine, job) <= bound <= least
    assert {LONGEST_JOB: bound == job, ONE_MACHINE: bound == machine > job, EDGE_FINDING: bound > max(machine, job)}[
        source
    ]
    assert not refuted(shop, least) and not refuted(shop, least + 3)
    assert not shop.operations or refuted(shop, bound - 1)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_one_machine_bound_is_that_of_its_hardest_set_of_operations(seed: int) -> None:
    """Carlier's theorem: the least head, the work and the least tail of a set, of the set for which they are most."""
    rng = np.random.default_rng(seed)
    shop = drawn_shop(rng, int(rng.integers(1, 8)), 2)
    head, tail = heads_and_tails(shop)
    for m, bound in enumerate(machine_bounds(shop)):
        on = np.flatnonzero(shop.machine == m)
        sets = [list(chosen) for size in range(1, len(on) + 1) for chosen in combinations(on, size)]
        most = max((head[s].min() + shop.duration[s].sum() + tail[s].min() for s in sets), default=0)
        assert bound == most


def test_heads_and_tails_are_the_work_before_and_after() -> None:
    shop = replace(JobShop.from_rows([[(0, 3), (1, 5), (2, 1)], [], [(1, 2), (0, 4)]]), release=np.array([2, 9, 1]))
    head, tail = heads_and_tails(shop)
    assert head.tolist() == [2, 5, 10, 1, 3] and tail.tolist() == [6, 1, 0, 4, 0]
    assert longest_job(shop) == 11


def test_edge_finding_sees_that_operations_cannot_be_interrupted() -> None:
    # The long operation must wait for the two short ones or delay both; a preemptive machine would interrupt it.
    shop = JobShop.from_rows([[(0, 10)], [(1, 1), (0, 1), (1, 9)], [(2, 2), (0, 1), (2, 9)]])
    bound, source = job_shop_bound(shop)
    assert (int(machine_bounds(shop).max()), longest_job(shop)) == (12, 12)
    assert source == EDGE_FINDING and bound == optimum(shop) == 13


def test_a_shop_without_work_has_the_bound_zero() -> None:
    assert job_shop_bound(JobShop.from_rows([], 2)) == (0, LONGEST_JOB)
    assert job_shop_bound(JobShop.from_rows([[], []], 2)) == (0, LONGEST_JOB)


@pytest.fixture(scope="module")
def public_shops() -> tuple[dict[str, JobShop], dict[str, dict[str, int]]]:
    from pathloom.data import find

    try:
        folder: Path = find("jsp")
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    shops = {}
    with zipfile.ZipFile(folder / "instances.zip") as archive:
        for member in archive.namelist():
            rows = [line for line in archive.read(member).decode().splitlines() if line.strip() and line[0] != "#"]
            jobs = [np.loadtxt(io.StringIO(row), dtype=int).reshape(-1, 2) for row in rows[1:]]
            name = member.rsplit("/", 1)[-1].split(".")[0]
            if name.startswith(("la", "ft", "ta5", "ta6", "ta7", "ta8")):
                shops[name] = JobShop.from_rows([[(int(m), int(d)) for m, d in job] for job in jobs])
    return shops, json.loads((folder / "bounds.json").read_text(encoding="utf-8"))


def test_public_shops_are_bounded_from_below(
    public_shops: tuple[dict[str, JobShop], dict[str, dict[str, int]]],
) -> None:
    shops, known = public_shops
    found = {name: job_shop_bound(shop)[0] for name, shop in shops.items()}
    assert all(bound <= known[name]["ub"] for name, bound in found.items())
    assert all(found[f"ta{number}"] == known[f"ta{number}"]["ub"] for number in range(71, 81))
    assert sum(found[name] == known[name]["ub"] for name in found if name.startswith("la")) >= 25
    assert found["ft20"] > int(machine_bounds(shops["ft20"]).max())
