"""No-wait job shops: clashes of jobs, timetabling, and search."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocking_shops import blocking_shops, broken_rules, generated, least_by_cp_sat

from pathloom.schedule import _no_wait_kernels as kernels
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.no_wait_search import clashes, job_offsets, no_wait_search, timetable
from pathloom.schedule.shops import Ints, JobShop


@pytest.fixture(scope="module", autouse=True)
def _compiled_before_any_clock_runs() -> None:
    """Kernels compile on first use, which may take longer than the time limits below."""
    no_wait_search(generated(4, 3, 0, no_wait=True), Incumbent(0.5))


def makespan(shop: JobShop, start: Ints) -> int:
    return int((start + shop.duration).max())


@st.composite
def no_wait_shops(draw: st.DrawFn, jobs: int = 4, shortest: int = 1) -> JobShop:
    return replace(draw(blocking_shops(jobs=jobs, shortest=shortest)), blocking=False, no_wait=True)


def overlaps(shop: JobShop, i: int, j: int, difference: int) -> bool:
    """Whether jobs i and j clash when j starts `difference` after i; an empty operation may not cut another in two."""
    offset = job_offsets(shop)
    for a in range(shop.job_start[i], shop.job_start[i + 1]):
        for b in range(shop.job_start[j], shop.job_start[j + 1]):
            at, other = int(offset[a]), int(offset[b]) + difference
            if shop.machine[a] == shop.machine[b] and at < other + shop.duration[b] and other < at + shop.duration[a]:
                return True
    return False


@given(no_wait_shops(shortest=0))
@settings(max_examples=60, deadline=None)
def test_clashes_are_exactly_the_differences_at_which_two_jobs_share_a_machine(shop: JobShop) -> None:
    table = clashes(shop)
    for i, j in itertools.permutations(range(shop.jobs), 2):
        row = slice(*table.begin[i * shop.jobs + j : i * shop.jobs + j + 2])
        spans = list(zip(table.low[row].tolist(), table.high[row].tolist(), strict=True))
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        for difference in range(-25, 26):
            assert any(low < difference < high for low, high in spans) == overlaps(shop, i, j, difference)


def slow_timetable(shop: JobShop, sequence: list[int], skips: list[int]) -> list[int]:
    """Starts of the jobs, trying every time; a skip goes past the next time that does not fit."""
    start: dict[int, int] = {}
    for j in sequence:
        last = sum(start.values()) + int(shop.duration.sum() + shop.release.sum()) + 1

        def fits(t: int, j: int = j) -> bool:
            return not any(overlaps(shop, i, j, t - s) for i, s in start.items())

        t = next(t for t in itertools.count(int(shop.release[j])) if fits(t))
        for _ in range(skips[j]):
            gap = next((x for x in range(t + 1, last) if not fits(x)), None)
            if gap is None:
                break
            t = next(x for x in itertools.count(gap) if fits(x))
        start[j] = t
    return [start.get(j, 0) for j in range(shop.jobs)]


@given(no_wait_shops(), st.integers(0, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_each_job_of_a_sequence_starts_at_the_earliest_time_that_fits(shop: JobShop, seed: int) -> None:
    sequence = np.random.default_rng(seed).permutation(shop.jobs)
    start = timetable(shop, sequence)
    expected = np.array(slow_timetable(shop, sequence.tolist(), [0] * shop.jobs))
    assert np.array_equal(start, expected[shop.job] + job_offsets(shop))
    assert broken_rules(shop, start) == []


@given(no_wait_shops(), st.integers(0, 1 << 20))
@settings(max_examples=60, deadline=None)
def test_jobs_that_skip_fitting_times_start_when_the_next_one_begins(shop: JobShop, seed: int) -> None:
    random = np.random.default_rng(seed)
    sequence, skips = random.permutation(shop.jobs), random.integers(0, 3, shop.jobs)
    start = timetable(shop, sequence, skips)
    expected = np.array(slow_timetable(shop, sequence.tolist(), skips.tolist()))
    assert np.array_equal(start, expected[shop.job] + job_offsets(shop))
    assert broken_rules(shop, start) == []


def test_a_timetable_stops_as_soon_as_it_is_above_the_limit() -> None:
    shop = generated(6, 3, 0, no_wait=True)
    table, sequence, none = clashes(shop), np.arange(6), np.zeros(6, np.int64)
    start = np.zeros(6, np.int64)
    value = kernels.lay(table, sequence, none, start, 0, kernels.FAR)
    assert kernels.lay(table, sequence, none, start, 0, value) == value
    assert kernels.lay(table, sequence, none, start, 0, value - 1) == -1
    # from a position on, given the starts before it
    assert kernels.lay(table, sequence, none, start, 3, value) == value


def searched(
    shop: JobShop, seconds: float, *, bound: int | None = None, seed: int = 0, initial: Ints | None = None
) -> Incumbent[Ints]:
    incumbent: Incumbent[Ints] = Incumbent(seconds, bound=bound)
    no_wait_search(shop, incumbent, seed=seed, initial=initial)
    return incumbent


@pytest.mark.parametrize("seed", range(4))
def test_search_agrees_with_a_proof_on_small_shops(seed: int) -> None:
    shop = generated(6, 4, seed, no_wait=True)
    least = least_by_cp_sat(shop)
    assert searched(shop, 20.0, bound=least, seed=seed).value == least


@given(no_wait_shops(jobs=5), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_what_is_offered_keeps_every_rule_and_has_the_value_it_claims(shop: JobShop, seed: int) -> None:
    found = searched(shop, 0.05, seed=seed)
    assert found.solution is not None
    assert broken_rules(shop, found.solution) == []
    assert found.value == makespan(shop, found.solution)


@given(no_wait_shops(jobs=4))
@settings(max_examples=12, deadline=None)
def test_ragged_shops_with_releases_and_second_visits_reach_the_proven_optimum(shop: JobShop) -> None:
    least = least_by_cp_sat(shop)
    assert searched(shop, 20.0, bound=least).value == least


def test_a_given_schedule_is_never_lost() -> None:
    shop = generated(10, 5, 2, no_wait=True)
    good = searched(shop, 0.3)
    assert good.solution is not None and good.value is not None
    again = searched(shop, 0.0, initial=good.solution)
    assert again.value is not None
    assert again.value <= good.value


def test_a_shop_of_fisher_and_thompson_reaches_its_no_wait_optimum() -> None:
    rows = [
        [(2, 1), (0, 3), (1, 6), (3, 7), (5, 3), (4, 6)],
        [(1, 8), (2, 5), (4, 10), (5, 10), (0, 10), (3, 4)],
        [(2, 5), (3, 4), (5, 8), (0, 9), (1, 1), (4, 7)],
        [(1, 5), (0, 5), (2, 5), (3, 3), (4, 8), (5, 9)],
        [(2, 9), (1, 3), (4, 5), (5, 4), (0, 3), (3, 1)],
        [(1, 3), (3, 3), (5, 9), (0, 10), (4, 4), (2, 1)],
    ]
    # ft06: 73 (Mascis and Pacciarelli 2002)
    shop = replace(JobShop.from_rows(rows), no_wait=True)
    assert searched(shop, 20.0, bound=73).value == 73


def test_an_empty_shop_takes_no_time() -> None:
    assert searched(replace(JobShop.from_rows([[]], 1), no_wait=True), 1.0, bound=0).value == 0


def test_shops_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a no-wait shop"):
        searched(generated(2, 2, 0), 1.0)
