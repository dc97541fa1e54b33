"""The interval environment: the compiled propagation against a slow one, and what episodes can reach."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.schedule.interval_environment import RULES, VALUES, WAIT, WINDOW, IntervalEnvironment, Observation
from pathloom.schedule.shops import FlexibleShop, JobShop

Rows = list[list[list[tuple[int, int]]]]
"""Alternatives (machine, duration) of each operation of each job."""


def shop_of(rows: Rows, machines: int, release: list[int] | None = None) -> FlexibleShop:
    ways = [operation for job in rows for operation in job]
    flat = np.array([way for operation in ways for way in operation], np.int64).reshape(-1, 2)
    return FlexibleShop(
        np.cumsum([0, *map(len, rows)]).astype(np.int32),
        np.cumsum([0, *map(len, ways)]).astype(np.int32),
        flat[:, 0].astype(np.int32),
        flat[:, 1].copy(),
        machines,
        np.array(release or [0] * len(rows), np.int64),
    )


class SlowEpisode:
    """The definition: every interval of every job has a least start; propagate until nothing changes."""

    def __init__(self, rows: Rows, release: list[int]) -> None:
        self.rows, self.release = rows, release
        self.fixed: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.floor = 0

    def next_of(self, job: int) -> int:
        return next(k for k in range(len(self.rows[job]) + 1) if (job, k) not in self.fixed)

    def past_fixed(self, least: int, machine: int, duration: int) -> int:
        """No-overlap: the first time from `least` on at which an interval fits between and after the fixed ones."""
        while True:
            hits = [e for s, e, m in self.fixed.values() if m == machine and least < e and s < least + duration]
            # An interval of no length may not lie inside another one, nor begin with it.
            hits += [e for s, e, m in self.fixed.values() if m == machine and duration == 0 and s <= least < e]
            if not hits:
                return least
            least = min(hits)

    def bounds(self) -> dict[tuple[int, int, int], int]:
        """Least start of each alternative of each open operation."""
        found: dict[tuple[int, int, int], int] = {}
        for job, row in enumerate(self.rows):
            chain = self.release[job]
            for k, ways in enumerate(row):
                if (job, k) in self.fixed:
                    chain = self.fixed[job, k][1]
                    continue
                least = max(chain, self.floor)
                for w, (machine, duration) in enumerate(ways):
                    found[job, k, w] = self.past_fixed(least, machine, duration)
                chain = min(found[job, k, w] for w in range(len(ways))) + min(d for _, d in ways)
        return found

    def next_bounds(self) -> dict[tuple[int, int, int], int]:
        return {key: least for key, least in self.bounds().items() if key[1] == self.next_of(key[0])}

    def legal(self) -> tuple[int, set[tuple[int, int, int]], int | None]:
        bounds = self.next_bounds()
        now = min(bounds.values())
        later = [least for least in bounds.values() if least > now]
        return now, {key for key, least in bounds.items() if least == now}, min(later, default=None)

    def act(self, key: tuple[int, int, int] | None) -> None:
        now, options, later = self.legal()
        if key is None:
            assert later is not None
            self.floor = later
            return
        assert key in options
        job, k, w = key
        machine, duration = self.rows[job][k][w]
        self.fixed[job, k] = (now, now + duration, machine)


@st.composite
def rows_of_shops(draw: st.DrawFn, most: int = 3) -> tuple[Rows, int]:
    machines = draw(st.integers(1, 4))
    way = st.tuples(st.integers(0, machines - 1), st.integers(1, 9))
    operation = st.lists(way, min_size=1, max_size=most, unique_by=lambda pair: pair[0])
    job = st.lists(operation, min_size=1, max_size=7)
    return draw(st.lists(job, min_size=1, max_size=5)), machines


def feasible(rows: Rows, start: np.ndarray, alternative: np.ndarray, release: list[int]) -> bool:
    """By the definition of a flexible job shop."""
    way = 0
    spans: list[tuple[int, int, int]] = []
    o = 0
    for job, row in enumerate(rows):
        least = release[job]
        for ways in row:
            own = int(alternative[o]) - way
            if not 0 <= own < len(ways) or start[o] < least:
                return False
            machine, duration = ways[own]
            least = int(start[o]) + duration
            spans.append((machine, int(start[o]), least))
            way += len(ways)
            o += 1
    return all(a[0] != b[0] or a[2] <= b[1] or b[2] <= a[1] for a, b in itertools.combinations(spans, 2))


@settings(max_examples=80, deadline=None)
@given(rows_of_shops(), st.data())
def test_compiled_propagation_is_that_of_the_definition(shop: tuple[Rows, int], data: st.DataObject) -> None:
    rows, machines = shop
    release = data.draw(st.lists(st.integers(0, 12), min_size=len(rows), max_size=len(rows)))
    environment = IntervalEnvironment([shop_of(rows, machines, release)])
    slow = SlowEpisode(rows, release)
    keys = [(j, k, w) for j, row in enumerate(rows) for k, ways in enumerate(row) for w in range(len(ways))]
    number = {key: position for position, key in enumerate(keys)}
    while len(environment.active):
        now, options, later = slow.legal()
        assert environment.now[0] == now
        assert environment.legal(0) == sorted(number[key] for key in options) + ([WAIT] if later is not None else [])
        compare_observation(environment.observe(), slow, keys, now, options)
        action = data.draw(st.sampled_from(environment.legal(0)))
        environment.step(np.array([action]))
        slow.act(None if action == WAIT else keys[action])
    start, alternative = environment.schedule(0)
    assert feasible(rows, start, alternative, release)
    ends = [end for _, end, _ in slow.fixed.values()]
    assert environment.makespan[0] == max(ends)


def squash(value: float) -> float:
    return float(np.sign(value) * np.log1p(abs(value)))


def compare_observation(
    seen: Observation, slow: SlowEpisode, keys: list[tuple[int, int, int]], now: int, options: set[tuple[int, int, int]]
) -> None:
    bounds = slow.bounds()
    rows = slow.rows
    durations = np.array([d for job in rows for ways in job for _, d in ways], float)
    mean, deviation = durations.mean(), max(durations.std(), 1e-3 * durations.mean())
    wanted = {rows[j][k][w][0] for j, k, w in options}
    shown = [key for key in keys if key[1] == slow.next_of(key[0]) and rows[key[0]][key[1]][key[2]][0] in wanted]
    assert sorted(seen.action.tolist()) == [keys.index(key) for key in shown]
    behind = min(slow.next_of(j) for j in range(len(rows)) if slow.next_of(j) < len(rows[j]))

    def rest(job: int, first: int) -> int:
        return sum(min(d for _, d in ways) for ways in rows[job][first:])

    def soonest(job: int, k: int) -> int:
        return min(bounds[job, k, w] for w in range(len(rows[job][k])))

    def free(machine: int) -> int:
        return max([now, *(end for _, end, m in slow.fixed.values() if m == machine)])

    def load(machine: int) -> float:
        parts = [(j, k, ways) for j, row in enumerate(rows) for k, ways in enumerate(row) if (j, k) not in slow.fixed]
        return sum(d / len(ways) for _, _, ways in parts for m, d in ways if m == machine)

    open_jobs = [j for j in range(len(rows)) if slow.next_of(j) < len(rows[j])]
    chain_end = max(soonest(j, slow.next_of(j)) + rest(j, slow.next_of(j)) for j in open_jobs)
    machines = {m for row in rows for ways in row for m, _ in ways}
    machine_end = max(free(m) + load(m) for m in machines if load(m) > 1e-6)
    for r, action in enumerate(seen.action.tolist()):
        job, first, w = keys[action]
        assert seen.legal[r] == (keys[action] in options)
        expected = np.zeros((WINDOW, VALUES))
        kinds = [0 if first == 0 else 2]
        if first:
            begin, end, _ = slow.fixed[job, first - 1]
            expected[0, :2] = squash((begin - now) / mean), (end - begin - mean) / deviation
        least, (machine, duration) = bounds[keys[action]], rows[job][first][w]
        for place in range(1, WINDOW):
            k = first + place - 1
            if k >= len(rows[job]):
                kinds.append(1)
                continue
            if place > 1:
                chain = least + duration
                past = [
                    max(chain, slow.floor, *(e for _, e, m in slow.fixed.values() if m == n), 0)
                    for n, _ in rows[job][k]
                ]
                least = min(past)
                duration = min(d for _, d in rows[job][k])
                machine = next(m for m, d in rows[job][k] if d == duration)
            kinds.append(4 if place == 1 and seen.legal[r] else 3)
            slack = chain_end - least - duration - rest(job, k + 1)
            late = 0
            if place == 1:
                ends = [bounds[job, k, v] + d for v, (_, d) in enumerate(rows[job][k])]
                late = least + duration - min(ends)
            expected[place] = (
                squash((least - now) / mean),
                (duration - mean) / deviation,
                squash(slack / mean),
                squash((machine_end - free(machine) - load(machine)) / mean),
                squash(late / mean),
            )
        assert seen.kind[r].tolist() == kinds
        assert seen.position[r].tolist() == [first - behind + place for place in range(WINDOW)]
        np.testing.assert_allclose(seen.values[r], expected, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(rows_of_shops(), st.integers(0, 2**32 - 1))
def test_every_semi_active_schedule_can_be_reached(shop: tuple[Rows, int], seed: int) -> None:
    """Random machine choices and orders, each operation as early as these allow; then the decisions that lead there."""
    rows, machines = shop
    generator = np.random.default_rng(seed)
    target: dict[tuple[int, int], tuple[int, int]] = {}
    ready, free, following = [0] * len(rows), [0] * machines, [0] * len(rows)
    while open_jobs := [j for j, row in enumerate(rows) if following[j] < len(row)]:
        job = int(generator.choice(open_jobs))
        w = int(generator.integers(len(rows[job][following[job]])))
        machine, duration = rows[job][following[job]][w]
        begin = max(ready[job], free[machine])
        target[job, following[job]] = (begin, w)
        ready[job] = free[machine] = begin + duration
        following[job] += 1

    keys = [(j, k, w) for j, row in enumerate(rows) for k, ways in enumerate(row) for w in range(len(ways))]
    environment = IntervalEnvironment([shop_of(rows, machines)])
    while len(environment.active):
        now = environment.now[0]
        good = [a for a in environment.legal(0) if a >= 0 and target[keys[a][:2]] == (now, keys[a][2])]
        environment.step(np.array([good[0] if good else WAIT]))
    assert environment.schedule(0)[0].tolist() == [
        target[j, k][0] for j, row in enumerate(rows) for k in range(len(row))
    ]


@pytest.mark.parametrize("rule", RULES)
def test_without_waiting_no_machine_is_idle_while_an_operation_could_run_on_it(rule: str) -> None:
    generator = np.random.default_rng(5)
    rows = [[[(int(m), int(generator.integers(1, 20)))] for m in generator.permutation(4)] for _ in range(6)]
    environment = IntervalEnvironment([shop_of(rows, 4)])
    environment.finish_by_rule(rule)
    start, _ = environment.schedule(0)
    ends = start + np.array([way[0][1] for row in rows for way in row])
    machine = np.array([way[0][0] for row in rows for way in row])
    for o in range(len(start)):
        came = 0 if o % 4 == 0 else int(ends[o - 1])
        for time in range(came, int(start[o])):
            assert ((machine == machine[o]) & (start <= time) & (time < ends)).any()


def test_rules_take_what_their_names_say() -> None:
    """Three jobs want machine 0 first; their durations, rests and numbers of operations differ."""
    shop = JobShop.from_rows([[(0, 5), (1, 9)], [(0, 3), (1, 2)], [(0, 4), (1, 1), (2, 1)]])
    first = {}
    for rule in RULES:
        environment = IntervalEnvironment([shop])
        environment.finish_by_rule(rule)
        start, _ = environment.schedule(0)
        first[rule] = min((0, 2, 4), key=lambda o: start[o]) // 2
    assert first == {"SPT": 1, "MWKR": 0, "MOR": 2, "FIFO": 0}


def test_a_patient_rule_waits_for_the_machine_that_ends_first() -> None:
    """The second job would take 9 on the idle machine, or 3 after the first job's 4."""
    shop = shop_of([[[(0, 4)]], [[(1, 9), (0, 3)]]], 2)
    environment = IntervalEnvironment([shop, shop])
    environment.finish_by_rule("FIFO", episodes=np.array([0]))
    environment.finish_by_rule("FIFO", patient=True, episodes=np.array([1]))
    assert environment.makespan.tolist() == [9, 7]


@settings(max_examples=30, deadline=None)
@given(rows_of_shops(), st.integers(0, 2**32 - 1))
def test_replayed_restored_and_cloned_episodes_go_on_alike(shop: tuple[Rows, int], seed: int) -> None:
    rows, machines = shop
    generator = np.random.default_rng(seed)
    environment = IntervalEnvironment([shop_of(rows, machines)], [0, 0, 0])
    actions = []
    while 0 in environment.active:
        action = int(generator.choice(environment.legal(0)))
        environment.step(np.array([action]), np.array([0]))
        actions.append(action)
    cut = int(generator.integers(len(actions) + 1))
    assert environment.replay(1, np.array(actions[:cut])) == cut
    environment.clone(1, [2])
    kept = environment.snapshot()
    for episode in (1, 2):
        assert environment.replay(episode, np.array(actions[cut:])) == len(actions) - cut
        assert environment.schedule(episode)[0].tolist() == environment.schedule(0)[0].tolist()
    environment.restore(kept)
    assert environment.replay(1, np.array(actions[cut:])) == len(actions) - cut
    assert (environment.makespan[[0, 1]] == environment.makespan[0]).all()


def test_shops_of_unequal_sizes_share_a_batch_without_touching_each_other() -> None:
    generator = np.random.default_rng(1)
    shops = [
        JobShop.from_rows(
            [[(int(m), int(generator.integers(1, 30))) for m in generator.permutation(k)] for _ in range(k + 1)]
        )
        for k in (2, 5, 3)
    ]
    together = IntervalEnvironment(shops, [2, 0, 1, 1])
    together.finish_by_rule("MWKR")
    for episode, which in enumerate((2, 0, 1, 1)):
        alone = IntervalEnvironment([shops[which]])
        alone.finish_by_rule("MWKR")
        assert together.schedule(episode)[0].tolist() == alone.schedule(0)[0].tolist()


def test_part_of_an_observation_is_the_observation_of_that_part() -> None:
    generator = np.random.default_rng(3)
    shop = JobShop.from_rows(
        [[(int(m), int(generator.integers(1, 9))) for m in generator.permutation(3)] for _ in range(4)]
    )
    environment = IntervalEnvironment([shop], [0] * 4)
    for episode in range(4):
        for _ in range(2 * episode):
            environment.step(np.array([generator.choice(environment.legal(episode))]), np.array([episode]))
    whole = environment.observe()
    part = whole.select(np.array([3, 1]))
    direct = environment.observe(np.array([3, 1]))
    glued = Observation.joined([environment.observe(np.array([3])), environment.observe(np.array([1]))])
    for name in (
        "kind",
        "position",
        "values",
        "legal",
        "action",
        "group_start",
        "row_start",
        "episode_group",
        "may_wait",
    ):
        np.testing.assert_array_equal(getattr(part, name), getattr(direct, name))
        np.testing.assert_array_equal(getattr(glued, name), getattr(direct, name))


def test_machines_that_are_not_there_yet_hold_their_operations_up() -> None:
    shop = JobShop.from_rows([[(0, 2), (1, 2)], [(1, 3)]])
    environment = IntervalEnvironment([shop], available=np.array([4, 0]))
    environment.finish_by_rule("SPT")
    assert environment.schedule(0)[0].tolist() == [4, 6, 0]


def test_illegal_actions_and_shops_that_it_cannot_state_are_refused() -> None:
    shop = JobShop.from_rows([[(0, 2), (1, 2)], [(0, 3)]])
    environment = IntervalEnvironment([shop])
    for action in (1, 3, 99):
        with pytest.raises(ValueError, match=f"action {action} is not legal at time 0"):
            environment.step(np.array([action]))
    with pytest.raises(ValueError, match="is not legal"):
        environment.step(np.array([WAIT]))
    assert environment.replay(0, np.array([0, 0])) == 1
    with pytest.raises(ValueError, match="blocking"):
        IntervalEnvironment([JobShop(shop.job_start, shop.machine, shop.duration, 2, shop.release, blocking=True)])
    with pytest.raises(ValueError, match="expected a rule out of SPT"):
        environment.finish_by_rule("LPT")
