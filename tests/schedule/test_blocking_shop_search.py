"""Search for short schedules of blocking shops: feasible, optimal on small shops, known optima on public ones."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocking_shops import blocking_shops, broken_rules, generated, least_by_cp_sat, least_makespan

from pathloom.plan import InputError
from pathloom.schedule.blocking_shop_search import blocking_shop_search
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.shops import Ints, JobShop


@pytest.fixture(scope="module", autouse=True)
def _compiled_before_any_clock_runs() -> None:
    """Kernels compile on first use, which may take longer than the time limits below."""
    blocking_shop_search(generated(4, 3, 0, blocking=True), Incumbent(0.5))
    blocking_shop_search(generated(4, 3, 0, blocking=True), Incumbent(0.5))


def makespan(shop: JobShop, start: Ints) -> int:
    return int((start + shop.duration).max())


def searched(
    shop: JobShop, seconds: float, *, bound: int | None = None, seed: int = 0, initial: Ints | None = None
) -> Incumbent[Ints]:
    incumbent: Incumbent[Ints] = Incumbent(seconds, bound=bound)
    blocking_shop_search(shop, incumbent, seed=seed, initial=initial)
    return incumbent


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_tiny_shops_reach_the_least_makespan_of_all_orders(swap: bool, seed: int) -> None:
    shop = generated(3, 3, seed, most=9, blocking=True, swap=swap)
    least = least_makespan(shop)
    found = searched(shop, 20.0, bound=least, seed=seed)
    assert found.value == least
    assert found.solution is not None
    assert broken_rules(shop, found.solution) == []


@pytest.mark.parametrize("seed", range(2))
def test_search_agrees_with_a_proof_on_shops_of_five_jobs(seed: int) -> None:
    shop = generated(5, 4, seed, blocking=True)
    least = least_by_cp_sat(shop)
    assert searched(shop, 20.0, bound=least).value == least


def test_forbidding_swaps_never_helps_and_here_costs() -> None:
    shop = replace(JobShop.from_rows([[(0, 3), (1, 2)], [(1, 5), (0, 4)]]), blocking=True)
    assert searched(shop, 20.0, bound=9).value == 9
    strict = replace(shop, swap=False)
    assert least_makespan(strict) == 14
    assert searched(strict, 20.0, bound=14).value == 14


@given(blocking_shops(jobs=6, shortest=1), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_every_offer_keeps_every_rule_and_has_the_value_it_claims(shop: JobShop, seed: int) -> None:
    offers: list[tuple[int, Ints]] = []

    class Listening(Incumbent[Ints]):
        def offer(self, value: int, solution: Ints, source: str) -> bool:
            offers.append((value, solution.copy()))
            return super().offer(value, solution, source)

    blocking_shop_search(shop, Listening(0.1), seed=seed)
    assert offers
    for value, start in offers:
        assert broken_rules(shop, start) == []
        assert value == makespan(shop, start)


@given(blocking_shops(jobs=4), st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_durations_of_zero_are_no_trouble(shop: JobShop, seed: int) -> None:
    found = searched(shop, 0.05, seed=seed)
    assert found.solution is not None
    assert found.value == makespan(shop, found.solution)
    assert np.all(found.solution >= shop.release[shop.job])


def test_a_given_schedule_is_taken_up_and_never_lost() -> None:
    shop = generated(8, 5, 3, blocking=True)
    good = searched(shop, 0.5)
    assert good.solution is not None and good.value is not None
    again = searched(shop, 0.0, initial=good.solution)
    assert again.value is not None
    assert again.value <= good.value


def test_a_better_schedule_of_another_method_is_improved_upon() -> None:
    shop = generated(12, 6, 1, blocking=True)
    # a long search, from which the other method's solution comes
    good = searched(shop, 1.0, seed=5)
    assert good.solution is not None and good.value is not None
    incumbent: Incumbent[Ints] = Incumbent(0.4)
    incumbent.offer(good.value, good.solution, "another method")
    blocking_shop_search(shop, incumbent)
    assert incumbent.solution is not None
    assert incumbent.value == makespan(shop, incumbent.solution) <= good.value
    assert broken_rules(shop, incumbent.solution) == []


def test_without_any_time_there_is_still_a_schedule() -> None:
    shop = generated(20, 10, 1, blocking=True, swap=False)
    found = searched(shop, 0.0)
    assert found.solution is not None
    assert broken_rules(shop, found.solution) == []


def test_an_empty_shop_takes_no_time() -> None:
    shop = replace(JobShop.from_rows([[]], 1), blocking=True)
    assert searched(shop, 1.0, bound=0).value == 0


def test_shops_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a blocking shop"):
        searched(generated(2, 2, 0), 1.0)


def public(name: str) -> JobShop:
    from pathloom.data import find

    try:
        folder = find("jsp")
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    with zipfile.ZipFile(folder / "instances.zip") as archive:
        (member,) = (m for m in archive.namelist() if m.rsplit("/", 1)[-1].split(".")[0] == name)
        rows = [line for line in archive.read(member).decode().splitlines() if line.strip() and line[0] != "#"]
    jobs = [np.loadtxt(io.StringIO(row), dtype=int).reshape(-1, 2) for row in rows[1:]]
    return replace(JobShop.from_rows([[(int(m), int(d)) for m, d in job] for job in jobs]), blocking=True)


def test_a_public_shop_of_ten_jobs_reaches_its_optimum() -> None:
    # la05: ten jobs on five machines, optimum 664 (closed by constraint programming)
    assert searched(public("la05"), 30.0, bound=664).value == 664


@pytest.mark.slow
@pytest.mark.parametrize(("name", "optimum"), [("la01", 793), ("la02", 793), ("la03", 715), ("la04", 743)])
def test_closed_public_shops_are_solved(name: str, optimum: int) -> None:
    assert searched(public(name), 60.0, bound=optimum).value == optimum
