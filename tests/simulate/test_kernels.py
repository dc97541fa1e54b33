"""The compiled event loop against a slow one that looks at everything at every moment, and what it never breaks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pathloom.simulate._kernels import run_chains, workspace

INF = float("inf")


@dataclass(frozen=True)
class Case:
    """Arguments of `run_chains` by name."""

    node: NDArray[Any]
    duration: NDArray[Any]
    hop: NDArray[Any]
    rest: NDArray[Any]
    slot: NDArray[Any]
    spawn: NDArray[Any]
    chain: int
    release: NDArray[Any]
    after: NDArray[Any]
    key: NDArray[Any]
    use_key: int
    strict: bool
    slots: NDArray[Any]
    fail_at: NDArray[Any]
    cancel_at: NDArray[Any]
    node_windows: NDArray[Any]
    link_windows: NDArray[Any]
    cutoff: float = INF
    loosen_at: float = INF
    first: NDArray[Any] | None = None
    heir: NDArray[Any] | None = None


def compiled(case: Case) -> tuple[float, int, NDArray[Any], NDArray[Any]]:
    shape = case.node.shape
    n_nodes = len(case.slots)
    sequence, sequence_start = np.zeros(0, np.int64), np.zeros(n_nodes + 1, np.int64)
    if case.strict:
        flat = case.node.ravel()
        sequence = np.lexsort((np.arange(flat.size), case.key.ravel(), flat)).astype(np.int64)
        sequence_start[1:] = np.cumsum(np.bincount(flat, minlength=n_nodes))
    start, end = np.empty(shape), np.empty(shape)
    latest, returned = run_chains(
        case.node,
        case.duration,
        case.hop,
        case.rest,
        case.slot,
        case.spawn,
        case.chain,
        case.release,
        case.after,
        case.key,
        case.use_key,
        sequence,
        sequence_start,
        case.slots,
        case.fail_at,
        case.cancel_at,
        case.node_windows,
        case.link_windows,
        case.cutoff,
        start,
        end,
        workspace(*shape, n_nodes),
        case.loosen_at,
        case.first,
        case.heir,
    )
    return float(latest), int(returned), start, end


def watched(case: Case) -> tuple[float, int, NDArray[Any], NDArray[Any]]:
    """The same by looking, at every moment at which something can change, at every node and every task."""
    n_items, n_tasks = case.node.shape
    n_nodes = len(case.slots)
    start, end = np.full((n_items, n_tasks), np.nan), np.full((n_items, n_tasks), np.nan)
    first = [0] * n_items if case.first is None else [int(f) for f in case.first]
    arrives = {(b, first[b]): float(case.release[b]) for b in range(n_items) if case.after[b] < 0}
    free_from = [0.0] * n_nodes
    ancestor = {int(h): b for b, h in enumerate([] if case.heir is None else case.heir) if h >= 0}
    moments = {*arrives.values(), *case.cancel_at.tolist(), case.loosen_at}

    def dropped(b: int, now: float) -> bool:
        return bool(case.cancel_at[b] <= now)

    def held(n: int, now: float) -> int:
        """Slots of a node in use: taken by tasks that have started, less those freed by tasks that have started
        (a node that runs a task looks at nothing before its end, so that the start may stand for the end)."""
        count = 0
        for b in range(n_items):
            if dropped(b, now):
                continue
            inherits = b in ancestor and dropped(ancestor[b], now)
            for t in range(n_tasks):
                if case.node[b, t] == n and (not np.isnan(start[b, t]) or (inherits and t < first[b])):
                    count += int(case.slot[t])
        return count

    def rank(b: int, t: int) -> tuple[float, ...]:
        arrival = arrives[b, t]
        if case.use_key == 1:
            return (case.key[b, t],)
        if case.use_key == 2:
            return (case.key[b, t] if t == 0 else arrival + case.key[b, t],)
        if t == 0:
            return (1, case.release[b])
        return (0 if t < case.chain else 2, arrival)

    def factor(windows: NDArray[Any], key: tuple[int, ...], now: float) -> float:
        product = 1.0
        for *where, begin, until, times in windows.tolist():
            if tuple(where) == key and begin <= now < until:
                product *= times
        return product

    def choose(n: int, now: float) -> tuple[int, int] | None:
        if now >= case.fail_at[n] or free_from[n] > now:
            return None
        open_tasks = [
            (b, t)
            for b in range(n_items)
            for t in range(n_tasks)
            if case.node[b, t] == n and np.isnan(start[b, t]) and not dropped(b, now)
        ]
        here = [task for task in open_tasks if arrives.get(task, INF) <= now]
        if case.strict and now < case.loosen_at:
            open_tasks.sort(key=lambda task: (case.key[task], task))
            here = [task for task in open_tasks[:1] if task in here]
        full = held(n, now) >= case.slots[n]
        here = [(b, t) for b, t in here if not (full and case.slot[t] == 1)]
        return min(here, key=lambda task: (*rank(*task), *task)) if here else None

    while moments:
        now = min(moments)
        moments.discard(now)
        if now == INF:
            continue
        while True:  # tasks of no length make room for others at the same moment
            chosen = [(n, task) for n in range(n_nodes) if (task := choose(n, now)) is not None]
            for n, (b, t) in chosen:
                start[b, t] = now
                finish = now + case.duration[b, t] * factor(case.node_windows, (n,), now)
                free_from[n] = finish + case.rest[t]
                moments.add(free_from[n])
                if finish > case.fail_at[n]:
                    continue
                end[b, t] = finish
                reached: list[tuple[tuple[int, int], float]] = []
                if case.spawn[t] >= 0:
                    reached.append(((b, int(case.spawn[t])), finish))
                if t + 1 < case.chain:
                    m = int(case.node[b, t + 1])
                    arrival = finish + case.hop[b, t] * factor(case.link_windows, (n, m), finish)
                    if arrival <= case.fail_at[n]:
                        reached.append(((b, t + 1), arrival))
                elif t + 1 == case.chain:
                    for waiting in np.flatnonzero(case.after == b):
                        reached.append(((int(waiting), first[waiting]), max(finish, case.release[waiting])))
                for task, time in reached:
                    if time < case.fail_at[case.node[task]] and not dropped(task[0], time):
                        arrives[task] = time
                        moments.add(time)
            if not chosen:
                break
    latest = max(0.0, float(np.nan_to_num(end).max()))
    returned = int(np.isfinite(end[:, case.chain - 1]).sum())
    return (INF if latest > case.cutoff else latest), returned, start, end


@st.composite
def cases(draw: st.DrawFn, whole: bool | None = None, quiet: bool = False, most_items: int = 6) -> Case:
    """Routes there and back over a few nodes, with whole or real times, and all that can go wrong unless `quiet`."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    whole = draw(st.booleans()) if whole is None else whole
    n_items, k, n_nodes = draw(st.integers(1, most_items)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    split = draw(st.booleans())

    def times(*shape: int, least: int = 0, most: int = 6) -> NDArray[Any]:
        if whole:
            return rng.integers(least, most + 1, shape).astype(float)
        return rng.uniform(least, most, shape)

    chain = 2 * k + 1
    n_tasks = chain + (k if split else 0)
    routes = rng.integers(0, n_nodes, (n_items, k))
    back = routes[:, ::-1]
    node = np.concatenate([routes, routes[:, :1], back, back], axis=1)[:, :n_tasks].astype(np.int32)
    link = times(n_nodes, n_nodes)
    link[rng.random((n_nodes, n_nodes)) < draw(st.sampled_from([0.0, 0.0, 0.1]))] = INF
    np.fill_diagonal(link, 0.0)
    hop = np.zeros((n_items, n_tasks))
    hop[:, : chain - 1] = link[node[:, : chain - 1], node[:, 1:chain]]
    slot = np.zeros(n_tasks, np.int8)
    slot[:k] = 1
    slot[chain if split else k + 1 :] = -1
    spawn = np.full(n_tasks, -1, np.int32)
    if split:
        spawn[k + 1 : chain] = np.arange(chain, n_tasks)
    rest = np.full(n_tasks, float(rng.integers(0, 3)) if whole else rng.uniform(0, 1))
    rest[0] *= rng.integers(0, 2)
    after = np.full(n_items, -1, np.int64)
    for b in range(1, n_items):
        if rng.random() < 0.3:
            after[b] = rng.integers(0, b)
    use_key = draw(st.sampled_from([0, 0, 1, 2]))
    fail_at, cancel_at = np.full(n_nodes, INF), np.full(n_items, INF)
    node_windows, link_windows = np.zeros((0, 4)), np.zeros((0, 5))
    loosen_at = INF
    if not quiet:
        some = rng.random(n_nodes) < 0.2
        fail_at[some] = times(int(some.sum()), most=40)
        some = rng.random(n_items) < 0.2
        cancel_at[some] = times(int(some.sum()), most=40)
        if rng.random() < 0.3:
            node_windows = np.array([[rng.integers(n_nodes), *times(1), 20, 2], [rng.integers(n_nodes), 5, 30, 3]])
            link_windows = np.array([[*rng.integers(0, n_nodes, 2), *times(1), 20, 2]])
        if rng.random() < 0.5:
            loosen_at = float(times(1, most=30)[0])
    return Case(
        node=node,
        duration=times(n_items, n_tasks, least=draw(st.sampled_from([0, 1]))),
        hop=hop,
        rest=rest,
        slot=slot,
        spawn=spawn,
        chain=chain,
        release=times(n_items, most=10) * rng.integers(0, 2),
        after=after,
        key=times(n_items, n_tasks, most=20),
        use_key=use_key,
        strict=use_key == 1 and draw(st.booleans()),
        slots=rng.integers(1, 4, n_nodes),
        fail_at=fail_at,
        cancel_at=cancel_at,
        node_windows=node_windows.astype(float),
        link_windows=link_windows.astype(float),
        loosen_at=loosen_at,
    )


many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    assert found[:2] == expected[:2]
    np.testing.assert_array_equal(found[2], expected[2])
    np.testing.assert_array_equal(found[3], expected[3])


@many
@given(cases())
def test_compiled_loop_gives_the_times_of_the_slow_one(case: Case) -> None:
    assert_same(compiled(case), watched(case))


@many
@given(cases(), st.integers(0, 2**32 - 1))
def test_an_item_can_go_on_where_a_dropped_one_stopped(case: Case, seed: int) -> None:
    """Items that begin in mid-chain and inherit slots: the first half is dropped, the second takes over."""
    rng = np.random.default_rng(seed)
    n_items = len(case.node)
    half = n_items // 2
    k = (case.chain - 1) // 2
    first, heir = np.zeros(n_items, np.int64), np.full(n_items, -1)
    cancel_at, after, release, node = (x.copy() for x in (case.cancel_at, case.after, case.release, case.node))
    for old in range(half):
        new = half + old
        heir[old], first[new] = new, rng.integers(0, k + 1)
        cancel_at[old] = release[new] = 10.0 + old
        cancel_at[new] = rng.choice([30.0, INF])
        after[new] = -1
        inherited = np.arange(node.shape[1]) < first[new]
        node[new, inherited] = node[old, inherited]
        # what the heir holds on a node it frees there
        for t in range(k, node.shape[1]):
            visit = {-1: 0}.get(k - t, 2 * k - t if t < case.chain else case.chain + k - 1 - t)
            if 0 <= visit < first[new]:
                node[new, t] = node[new, visit]
    changed = replace(case, node=node, first=first, heir=heir, cancel_at=cancel_at, after=after, release=release)
    assert_same(compiled(changed), watched(changed))


@many
@given(cases(most_items=12), st.floats(0, 60))
def test_cutoff_stops_exactly_the_runs_that_last_longer(case: Case, cutoff: float) -> None:
    latest = compiled(case)[0]
    assert compiled(replace(case, cutoff=cutoff))[0] == (INF if latest > cutoff else latest)


@many
@given(cases(most_items=12))
def test_a_node_does_one_task_at_a_time_and_rests(case: Case) -> None:
    _, _, start, end = compiled(case)
    for n in range(len(case.slots)):
        rows = [(start[b, t], end[b, t], case.rest[t]) for b, t in np.argwhere((case.node == n) & np.isfinite(end))]
        rows.sort()
        for (_, earlier_end, rest), (later_start, _, _) in pairwise(rows):
            assert later_start >= earlier_end + rest


@many
@given(cases(most_items=12, quiet=True))
def test_slots_precedence_and_releases_are_respected(case: Case) -> None:
    _, returned, start, end = compiled(case)
    k = (case.chain - 1) // 2
    freeing = np.flatnonzero(case.slot == -1)[::-1]  # the last one frees the slot of visit 0
    if len(freeing) > k:
        freeing = freeing[:k]
    for n, slots in enumerate(case.slots):
        taken = [
            (start[b, v], end[b, freeing[v]] if np.isfinite(end[b, freeing[v]]) else INF)
            for b, v in np.argwhere((case.node[:, :k] == n) & np.isfinite(start[:, :k]))
        ]
        for moment, _ in taken:
            assert sum(begin <= moment < until for begin, until in taken) <= slots
    for b, t in np.argwhere(np.isfinite(start[:, : case.chain])):
        if t:
            assert start[b, t] >= end[b, t - 1] + case.hop[b, t - 1]
            continue
        assert start[b, 0] >= case.release[b]
        if case.after[b] >= 0:
            assert start[b, 0] >= end[case.after[b], case.chain - 1]
    assert returned == np.isfinite(end[:, case.chain - 1]).sum()


@many
@given(cases(most_items=12))
def test_two_runs_agree(case: Case) -> None:
    assert_same(compiled(case), compiled(case))


@many
@given(cases(most_items=12, quiet=True), st.integers(0, 4), st.floats(0, 60))
def test_a_failure_changes_nothing_that_happened_before_it(case: Case, victim: int, time: float) -> None:
    fail_at = case.fail_at.copy()
    fail_at[victim % len(fail_at)] = time
    calm, shaken = compiled(case), compiled(replace(case, fail_at=fail_at))
    for before, now in zip(calm[2:], shaken[2:]):
        early = before < time
        assert (early == (now < time)).all()
        np.testing.assert_array_equal(before[early], now[early])


@many
@given(cases(most_items=12, quiet=True), st.integers(0, 11), st.floats(0, 60))
def test_dropping_an_item_changes_nothing_that_happened_before(case: Case, item: int, time: float) -> None:
    cancel_at = case.cancel_at.copy()
    cancel_at[item % len(cancel_at)] = time
    calm, dropped = compiled(case), compiled(replace(case, cancel_at=cancel_at))
    early = calm[2] < time
    assert (early == (dropped[2] < time)).all()
    np.testing.assert_array_equal(calm[2][early], dropped[2][early])
    assert not (dropped[2][item % len(cancel_at)] >= time).any()


def two_items(**changes: Any) -> Case:
    """Two items that each do one forward, loss and backward of 1 s on node 0, in that order."""
    case = Case(
        node=np.zeros((2, 3), np.int32),
        duration=np.ones((2, 3)),
        hop=np.zeros((2, 3)),
        rest=np.zeros(3),
        slot=np.array([1, 0, -1], np.int8),
        spawn=np.full(3, -1, np.int32),
        chain=3,
        release=np.zeros(2),
        after=np.full(2, -1),
        key=np.arange(6.0).reshape(2, 3),
        use_key=0,
        strict=False,
        slots=np.array([2]),
        fail_at=np.array([INF]),
        cancel_at=np.full(2, INF),
        node_windows=np.zeros((0, 4)),
        link_windows=np.zeros((0, 5)),
    )
    return replace(case, **changes)


def test_injections_wait_for_chain_tasks_and_go_by_release() -> None:
    # releases that lie closer together than a large key could tell apart
    _, _, start, _ = compiled(two_items(release=np.array([0.05, 0.04]), slots=np.array([1])))
    assert start[:, 0].tolist() == [3.04, 0.04]
    _, _, start, _ = compiled(two_items(release=np.array([0.0, 0.5])))
    assert start.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_strict_order_passes_over_dropped_items() -> None:
    strict = two_items(use_key=1, strict=True, after=np.array([1, -1]))
    assert compiled(strict)[1] == 0  # item 0 must go first and may not
    latest, returned, start, _ = compiled(replace(strict, cancel_at=np.array([5.0, INF])))
    assert (latest, returned) == (8.0, 1)
    assert start[1].tolist() == [5, 6, 7]


def test_an_item_that_holds_two_slots_of_a_node_frees_both_when_dropped() -> None:
    twice = two_items(
        node=np.zeros((2, 5), np.int32),
        duration=np.ones((2, 5)),
        hop=np.array([[0, 0, 0, 9, 0], [0, 0, 0, 0, 0.0]]),
        rest=np.zeros(5),
        slot=np.array([1, 1, 0, -1, -1], np.int8),
        spawn=np.full(5, -1, np.int32),
        chain=5,
        release=np.array([0.0, 6.0]),
        key=np.zeros((2, 5)),
        cancel_at=np.array([6.0, INF]),
    )
    # item 0 has done its first backward pass and waits for the message to its second: one slot is still held
    latest, returned, _, _ = compiled(twice)
    assert (latest, returned) == (11.0, 1)


def test_a_message_dies_with_the_node_that_sends_it() -> None:
    sent = two_items(
        node=np.array([[0, 1, 1]], np.int32),
        duration=np.ones((1, 3)),
        hop=np.array([[2.0, 0, 0]]),
        release=np.zeros(1),
        after=np.full(1, -1),
        key=np.zeros((1, 3)),
        slots=np.array([1, 1]),
        cancel_at=np.full(1, INF),
    )
    assert compiled(replace(sent, fail_at=np.array([2.5, INF])))[1] == 0
    assert compiled(replace(sent, fail_at=np.array([3.0, INF])))[1] == 1


@pytest.mark.parametrize("use_key", [0, 1, 2])
def test_nothing_to_do_takes_no_time(use_key: int) -> None:
    empty = two_items(
        node=np.zeros((0, 3), np.int32),
        duration=np.zeros((0, 3)),
        hop=np.zeros((0, 3)),
        release=np.zeros(0),
        after=np.zeros(0, np.int64),
        key=np.zeros((0, 3)),
        cancel_at=np.zeros(0),
        use_key=use_key,
    )
    assert compiled(empty)[:2] == (0.0, 0)
