"""Job-shop search: known optima within a number of moves, and how it works with others on one incumbent."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_job_shops import (
    assert_feasible,
    generated_shop,
    job_shops,
    least_makespan,
    makespan,
    random_order,
    slow_schedule,
)

from pathloom.plan import InputError
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.job_shop_graph import load_bound
from pathloom.schedule.job_shop_search import job_shop_search
from pathloom.schedule.shops import JobShop

LONG = 600.0  # seconds: the searches here end by proof or by their number of moves


@settings(max_examples=60, deadline=None)
@given(job_shops(jobs=3, machines=3, length=3), st.integers(0, 100))
def test_small_shops_are_solved_to_the_optimum(shop: JobShop, seed: int) -> None:
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, incumbent, seed=seed, moves=400)
    value, start = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shop, start)
    assert makespan(shop, start) == value == least_makespan(shop)


def public_shop(name: str) -> JobShop:
    from pathloom.data import find

    try:
        path: Path = find("jsp") / "instances.zip"
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    import zipfile

    with zipfile.ZipFile(path) as archive:
        (member,) = (entry for entry in archive.namelist() if Path(entry).stem == name)
        text = archive.read(member).decode()
    numbers = [[int(word) for word in line.split()] for line in text.splitlines() if line[:1] != "#" and line.strip()]
    (jobs, machines), rows = numbers[0][:2], numbers[1:]
    return JobShop.from_rows([list(zip(row[::2], row[1::2])) for row in rows[:jobs]], machines)


@pytest.mark.parametrize(
    ("name", "optimum", "moves"),
    [
        ("ft06", 55, 2_000),
        ("la01", 666, 2_000),
        ("la02", 655, 50_000),
        ("la03", 597, 50_000),
        ("la04", 590, 50_000),
        ("la05", 593, 2_000),
        ("ft10", 930, 1_000_000),
        ("ft20", 1165, 300_000),
        ("ta71", 5464, 100_000),
    ],
)
def test_public_shops_reach_their_optimum_within_a_number_of_moves(name: str, optimum: int, moves: int) -> None:
    shop = public_shop(name)
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG, bound=optimum)
    job_shop_search(shop, incumbent, seed=2, moves=moves)
    value, start = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shop, start)
    assert makespan(shop, start) == value == optimum


@pytest.mark.slow
@pytest.mark.parametrize(("name", "best_known"), [("ta21", 1642), ("ta31", 1764), ("ta41", 2005)])
def test_hard_public_shops_come_near_the_best_known(name: str, best_known: int) -> None:
    shop = public_shop(name)
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG, bound=best_known)
    job_shop_search(shop, incumbent, moves=1_000_000)
    assert incumbent.value is not None
    assert best_known <= incumbent.value <= 1.03 * best_known


def test_a_machine_that_never_rests_ends_the_search_by_proof() -> None:
    shop = generated_shop(100, 5, seed=1)
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, incumbent, moves=200_000)
    assert incumbent.optimal
    assert incumbent.value == load_bound(shop)


def test_the_search_is_the_same_for_the_same_seed() -> None:
    shop = generated_shop(10, 10, seed=2)
    values = []
    for _ in range(2):
        incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
        job_shop_search(shop, incumbent, seed=4, moves=40_000)
        values.append([entry.value for entry in incumbent.history])
    # Kernel calls may be cut at other moves, so that steps between can be missing, but not the outcome
    assert values[0][-1] == values[1][-1]


def test_the_search_goes_on_from_a_given_schedule() -> None:
    shop = generated_shop(10, 10, seed=2)
    first: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, first, moves=60_000)
    value, start = first.best() or pytest.fail("no solution")
    again: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, again, seed=9, initial=start, moves=1)
    assert again.value is not None and again.value <= value


def test_the_search_goes_on_from_what_others_have_found() -> None:
    shop = generated_shop(10, 10, seed=2)
    first: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, first, moves=60_000)
    value, start = first.best() or pytest.fail("no solution")
    shared: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, shared, seed=9, moves=1)
    assert shared.value is not None and shared.value > value
    shared.offer(value, start, "another method")
    job_shop_search(shop, shared, seed=9, moves=1)
    assert shared.best() == (value, start) or shared.value < value


def test_two_searches_share_one_incumbent() -> None:
    shop = generated_shop(15, 10, seed=3)
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
    threads = [
        threading.Thread(target=job_shop_search, args=(shop, incumbent), kwargs={"seed": seed, "moves": 60_000})
        for seed in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value, start = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shop, start)
    assert makespan(shop, start) == value
    values = [entry.value for entry in incumbent.history if entry.value is not None]
    assert values == sorted(values, reverse=True)


def test_an_incumbent_that_is_over_gets_no_further_search() -> None:
    shop = generated_shop(10, 10, seed=2)
    incumbent: Incumbent[np.ndarray] = Incumbent(0.0)
    job_shop_search(shop, incumbent)
    assert incumbent.value is None


def test_releases_are_kept() -> None:
    shop = replace(generated_shop(6, 4, seed=1), release=np.array([0, 500, 0, 20, 0, 300], np.int64))
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, incumbent, moves=20_000)
    value, start = incumbent.best() or pytest.fail("no solution")
    assert_feasible(shop, start)
    assert value == load_bound(shop)


def test_a_shop_without_operations_is_done_at_once() -> None:
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(JobShop.from_rows([[], []], 2), incumbent)
    assert incumbent.value == 0


@pytest.mark.parametrize("shape", ["blocking", "no_wait"])
def test_shops_without_buffers_are_refused(shape: str) -> None:
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
    with pytest.raises(ValueError, match="classic"):
        job_shop_search(replace(generated_shop(2, 2, 1), **{shape: True}), incumbent)


def test_the_first_solution_is_no_worse_than_its_start() -> None:
    shop = generated_shop(12, 6, seed=4)
    start = slow_schedule(shop, random_order(shop, 1))
    incumbent: Incumbent[np.ndarray] = Incumbent(LONG)
    job_shop_search(shop, incumbent, initial=start, moves=1)
    assert incumbent.value is not None and incumbent.value <= makespan(shop, start)
