"""Dispatching: schedules of the promised kind, by priorities of the promised meaning, as fast paths and slow agree."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.schedule.dispatching import MODES, DispatchView, dispatch, dispatch_many
from pathloom.schedule.dispatching_rules import RULES, Work
from pathloom.schedule.shops import FlexibleShop, JobShop


def drawn_shop(rng: np.random.Generator, *, flexible: bool = False, least: int = 0) -> JobShop | FlexibleShop:
    """Up to 6 jobs of up to 5 operations on up to 4 machines, machines visited again now and then, with releases."""
    machines, jobs = int(rng.integers(1, 5)), int(rng.integers(1, 7))
    lengths = rng.integers(0, 6, jobs)
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    release = rng.integers(0, 10, jobs)
    count = int(starts[-1])
    if not flexible:
        machine = rng.integers(0, machines, count).astype(np.int32)
        return JobShop(starts, machine, rng.integers(least, 9, count), machines, release)
    sizes = rng.integers(1, machines + 1, count)
    first = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
    chosen = [rng.permutation(machines)[:size] for size in sizes]
    machine = np.concatenate([*chosen, np.zeros(0, np.int64)]).astype(np.int32)
    return FlexibleShop(starts, first, machine, rng.integers(least, 9, len(machine)), machines, release)


def drawn_priorities(rng: np.random.Generator, shop: JobShop | FlexibleShop) -> np.ndarray:
    return rng.integers(0, 4, shop.operations).astype(float)  # few values: many ties


def on_machines(shop: JobShop, start: np.ndarray) -> list[list[int]]:
    """Operations of every machine in order of their starts."""
    ordered = np.lexsort((np.arange(shop.operations), start + shop.duration, start))
    return [[int(o) for o in ordered if shop.machine[o] == m] for m in range(shop.machines)]


def is_feasible(shop: JobShop, start: np.ndarray) -> bool:
    end = start + shop.duration
    firsts = [o for o in range(shop.operations) if o == shop.job_start[shop.job[o]]]
    return (
        all(start[o] >= shop.release[shop.job[o]] for o in firsts)
        and all(start[o] >= end[o - 1] for o in range(shop.operations) if o not in firsts)
        and all(end[a] <= start[b] for row in on_machines(shop, start) for a, b in itertools.pairwise(row))
    )


def ready_times(shop: JobShop, start: np.ndarray) -> np.ndarray:
    """When every operation's predecessor has ended, or its job is released."""
    ready = np.empty(shop.operations, np.int64)
    for o in range(shop.operations):
        j = shop.job[o]
        ready[o] = shop.release[j] if o == shop.job_start[j] else start[o - 1] + shop.duration[o - 1]
    return ready


@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_mode_builds_schedules_without_a_conflict(mode: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shop = drawn_shop(rng)
    assert is_feasible(shop, dispatch(shop, drawn_priorities(rng, shop), mode=mode))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_no_machine_of_a_non_delay_schedule_idles_while_it_could_start_an_operation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shop = drawn_shop(rng, least=1)
    start = dispatch(shop, drawn_priorities(rng, shop))
    end, ready = start + shop.duration, ready_times(shop, start)
    for o in range(shop.operations):
        others = shop.machine == shop.machine[o]
        for t in range(ready[o], start[o]):
            assert np.any(others & (start <= t) & (t < end)), f"operation {o} could have started at {t}"


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_no_operation_of_an_active_schedule_fits_into_an_earlier_gap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shop = drawn_shop(rng, least=1)
    start = dispatch(shop, drawn_priorities(rng, shop), mode="active")
    end, ready = start + shop.duration, ready_times(shop, start)
    for o in range(shop.operations):
        others = (shop.machine == shop.machine[o]) & (np.arange(shop.operations) != o)
        for t in range(ready[o], start[o]):
            assert np.any(others & (start < t + shop.duration[o]) & (t < end)), f"operation {o} fits at {t}"


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_every_operation_of_a_semi_active_schedule_waits_for_its_job_or_for_its_machine(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shop = drawn_shop(rng, least=1)
    start = dispatch(shop, drawn_priorities(rng, shop), mode="semi-active")
    ready = ready_times(shop, start)
    for row in on_machines(shop, start):
        for place, o in enumerate(row):
            before = start[row[place - 1]] + shop.duration[row[place - 1]] if place else 0
            assert start[o] == max(ready[o], before)


@pytest.mark.parametrize("flexible", [False, True])
@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_compiled_dispatcher_decides_as_one_that_looks_at_all_operations(
    mode: str, flexible: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shop = drawn_shop(rng, flexible=flexible)
    priorities = drawn_priorities(rng, shop)
    fast = dispatch(shop, priorities, mode=mode)
    slow = dispatch(shop, lambda view: priorities[view.operation], mode=mode)
    np.testing.assert_array_equal(fast, slow)
    many = dispatch_many(shop, np.stack((-priorities, priorities)), mode=mode)
    if isinstance(many, tuple):
        np.testing.assert_array_equal((many[0][1], many[1][1]), fast)
    else:
        np.testing.assert_array_equal(many[1], fast)


def atc(view: DispatchView) -> np.ndarray:
    """The rule ATC as its authors write it, to be maximised there; it decides at `now`."""
    work, o = view.work, view.operation
    later = work.remaining[o] - work.duration[o]
    slack = np.maximum(0.0, work.due[o] - 2.0 * later - later - work.duration[o] - view.now)
    return -work.weight[o] / work.duration[o] * np.exp(-slack / (3.0 * work.duration.mean()))


MOVING = {
    "CR": lambda v: (v.work.due[v.operation] - v.now) / v.work.remaining[v.operation],
    "S/OPN": lambda v: (
        (v.work.due - v.work.remaining)[v.operation] / v.work.left[v.operation] - v.now / v.work.left[v.operation]
    ),
    "MDD": lambda v: np.maximum(v.work.due[v.operation], v.now + v.work.remaining[v.operation]),
    "ATC": atc,
    "FIFO": lambda v: v.ready[v.shop.job[v.operation]],
    "SLACK": lambda v: v.work.due[v.operation] - v.now - v.work.remaining[v.operation],
}


@pytest.mark.parametrize("name", MOVING)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_rules_that_look_at_the_clock_agree_with_their_definitions(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shop = drawn_shop(rng, least=1)
    due, weight = 40.0 * rng.random(shop.jobs), 0.5 + rng.random(shop.jobs)  # no two priorities of jobs are equal
    fast = dispatch(shop, name, due=due, weight=weight)
    np.testing.assert_array_equal(fast, dispatch(shop, MOVING[name], due=due, weight=weight))


def two_jobs() -> JobShop:
    return JobShop.from_rows([[(0, 3), (1, 5)], [(0, 2), (1, 1)]])


def test_rules_prefer_what_their_names_say() -> None:
    shop = two_jobs()
    first = {name: int(np.argmin(dispatch(shop, name)[[0, 2]])) for name in RULES if name != "RANDOM"}
    assert {name for name, job in first.items() if job == 1} == {
        "SPT", "WSPT", "LWKR", "TWK", "EDD", "SLACK", "S/OPN", "MDD", "ATC", "FDD", "ODD",
    }  # fmt: skip


def test_a_random_rule_repeats_itself_with_the_same_seed() -> None:
    rng = np.random.default_rng(5)
    shop = JobShop.from_rows([[(int(m), int(rng.integers(1, 99))) for m in rng.permutation(6)] for _ in range(8)])
    runs = [dispatch(shop, "RANDOM", seed=seed).tolist() for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_an_operation_takes_the_machine_on_which_it_ends_first() -> None:
    # both jobs could go to the fast machine; the second one would rather wait for it (4) than use the slow one (9)
    numbers = np.array([0, 1, 2], np.int32)
    shop = FlexibleShop(
        numbers, 2 * numbers, np.array([0, 1, 0, 1], np.int32), np.array([2, 9, 2, 9]), 2, np.zeros(2, np.int64)
    )
    chosen, start = dispatch(shop, "SPT")
    assert chosen.tolist() == [0, 2] and start.tolist() == [0, 2]


def test_work_counts_what_is_done_and_what_remains() -> None:
    work = Work.of(replace(two_jobs(), release=np.array([4, 0])))
    assert work.remaining.tolist() == [8, 5, 3, 1]
    assert work.done.tolist() == [3, 8, 2, 3]
    assert work.left.tolist() == [2, 1, 2, 1]
    assert work.due.tolist() == [16, 16, 4.5, 4.5]


def test_mistakes_are_named() -> None:
    shop = two_jobs()
    with pytest.raises(ValueError, match="rule: expected one of SPT"):
        dispatch(shop, "SHORTEST")
    with pytest.raises(ValueError, match=r"priorities: expected shape \(4,\)"):
        dispatch(shop, np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        dispatch(shop, np.full(4, np.nan))
    with pytest.raises(ValueError, match="mode: expected one of non-delay"):
        dispatch(shop, mode="lazy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blocking"):
        dispatch(replace(shop, blocking=True))
    with pytest.raises(ValueError, match="due: expected one number a job"):
        dispatch(shop, "EDD", due=np.zeros(3))
    with pytest.raises(ValueError, match="expected 2 priorities"):
        dispatch(shop, lambda view: np.zeros(7))


PUBLISHED = {  # mean gaps to the best known makespans in percent: SPT, MWKR, MOR, FIFO
    "la": (20.0, 12.6, 13.9, 18.9),
    "abz": (25.1, 16.6, 18.0, 24.6),
    "orb": (26.3, 25.2, 29.1, 29.7),
    "ta0": (25.9, 19.2, 20.5, 23.9),
    "ta3": (35.3, 23.9, 22.8, 31.2),
    "ta6": (25.5, 17.9, 17.7, 23.9),
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_gaps_of_non_delay_rules_on_public_shops_are_the_known_ones(family: str) -> None:
    from pathloom.data import find

    try:
        folder = find("jsp")
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    known = json.loads((folder / "bounds.json").read_text(encoding="utf-8"))
    gaps: dict[str, list[float]] = {rule: [] for rule in ("SPT", "MWKR", "MOR", "FIFO")}
    with zipfile.ZipFile(folder / "instances.zip") as archive:
        for member in archive.namelist():
            name = member.rsplit("/", 1)[-1].split(".")[0]
            number = int("".join(filter(str.isdigit, name)) or 0)
            if (f"ta{(number - 1) // 10}" if name.startswith("ta") else name.rstrip("0123456789")) != family:
                continue
            rows = [line for line in archive.read(member).decode().splitlines() if line.strip() and line[0] != "#"]
            jobs = [np.loadtxt(io.StringIO(row), dtype=int).reshape(-1, 2) for row in rows[1:]]
            shop = JobShop.from_rows([[(int(m), int(d)) for m, d in job] for job in jobs])
            for rule in gaps:
                makespan = int((dispatch(shop, rule) + shop.duration).max())
                gaps[rule].append(100.0 * (makespan / known[name]["ub"] - 1.0))
    found = [float(np.mean(values)) for values in gaps.values()]
    assert found == pytest.approx(PUBLISHED[family], abs=0.06)
