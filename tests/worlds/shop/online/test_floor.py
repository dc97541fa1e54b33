"""The shop floor: equal to the static definition without disturbances, to a slow twin with them, never stuck."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor import HOLD, Deadlock, Floor, View, follow, simulate, simulate_many
from pathloom.worlds.shop.online.rules import RULES, Rule

KINDS = {"swap": (True, True), "no swap": (True, False), "buffers": (False, True)}


def random_shop(
    seed: int, kind: str = "swap", *, jobs: int = 5, machines: int = 4, shortest: int = 1, repeats: bool = False
) -> JobShop:
    """Jobs with routes of any length, each over distinct machines or (`repeats`) over any."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(jobs):
        length = int(rng.integers(1, machines + 1))
        route = rng.integers(machines, size=length) if repeats else rng.permutation(machines)[:length]
        rows.append([(int(m), int(rng.integers(shortest, 10))) for m in route])
    blocking, swap = KINDS[kind]
    return replace(JobShop.from_rows(rows, machines), blocking=blocking, swap=swap)


def longest_paths(shop: JobShop, orders: list[list[int]]) -> list[int] | None:
    """Earliest starts under machine orders, from the definition; None where the orders contradict each other.

    An operation starts after the one before it in its job has ended, and when the one before it on its machine has
    left: at its end, or with blocking when its job starts its next operation.
    """
    last = {int(end) - 1 for end in shop.job_start[1:]}
    arcs = [(o, o + 1, int(shop.duration[o])) for o in range(shop.operations) if o not in last]
    for order in orders:
        for before, after in pairwise(order):
            if before in last or not shop.blocking:
                arcs.append((before, after, int(shop.duration[before])))
            elif before + 1 != after:
                arcs.append((before + 1, after, 0))
    start = [int(shop.release[shop.job[o]]) for o in range(shop.operations)]
    for _ in range(shop.operations + 1):
        changed = False
        for a, b, weight in arcs:
            if start[a] + weight > start[b]:
                start[b] = start[a] + weight
                changed = True
        if not changed:
            break
    else:
        return None
    if shop.blocking and not shop.swap:  # a circle of length zero would be a swap
        after: dict[int, list[int]] = {}
        for a, b, _ in arcs:
            after.setdefault(a, []).append(b)
        state = [0] * shop.operations

        def circular(node: int) -> bool:
            state[node] = 1
            for other in after.get(node, []):
                if state[other] == 1 or (state[other] == 0 and circular(other)):
                    return True
            state[node] = 2
            return False

        if any(state[o] == 0 and circular(o) for o in range(shop.operations)):
            return None
    return start


def orders_of(shop: JobShop, start: np.ndarray) -> list[list[int]]:
    return [sorted(np.flatnonzero(shop.machine == m).tolist(), key=lambda o: start[o]) for m in range(shop.machines)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_an_undisturbed_run_in_given_orders_has_the_starts_of_the_longest_paths(kind: str, seed: int) -> None:
    shop = random_shop(seed, kind, jobs=4, machines=3)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(shop.machine == m)).tolist() for m in range(shop.machines)]
    start = longest_paths(shop, orders)
    if start is None:  # take orders that are possible, those of a run
        run = simulate(shop, "RANDOM", seed=seed)
        orders = orders_of(shop, run.start)
        start = longest_paths(shop, orders)
        assert start is not None
        assert run.start.tolist() == start  # rules leave no machine empty without need: the run is semi-active
    followed = follow(shop, orders)
    assert followed.start.tolist() == start
    assert followed.makespan == max(s + d for s, d in zip(start, shop.duration.tolist()))


class SlowFloor:
    """The floor from its definition, in plain Python: dictionaries, one pass after another until nothing moves."""

    def __init__(self, shop: JobShop, rule: str, trouble: Disturbances, seed: int) -> None:
        self.shop, self.rule, self.seed = shop, rule, seed
        self.trouble, self.mean = trouble, trouble.repair_mean(shop)
        self.real = trouble.durations(shop, seed)
        self.arrival = trouble.arrivals(shop, seed)
        self.routes = [list(range(shop.job_start[j], shop.job_start[j + 1])) for j in range(shop.jobs)]
        self.done = [0] * shop.jobs  # operations started
        self.where: list[int | None] = [None] * shop.jobs
        self.waits_since: list[int | None] = [int(a) for a in self.arrival]
        self.left_over: dict[int, float] = {}  # machine -> work left of the operation on it
        self.repair_at: dict[int, int] = {}
        self.fails_at: dict[int, int] = {}
        self.failures = [0] * shop.machines
        self.gone: set[int] = set()
        self.now = self.draws = 0

    def hash(self, *parts: int) -> float:
        return state.uniform(self.seed, *parts)

    def plan_failure(self, m: int) -> None:
        between = self.trouble.mean_time_between_failures
        if between:
            u = self.hash(m, self.failures[m], 3)
            self.fails_at[m] = self.now + max(1, round(-between * np.log(u)))

    def fail(self, m: int) -> None:
        u = self.hash(m, self.failures[m], 2)
        length = {
            "fixed": lambda: max(1, round(self.mean)),
            "geometric": lambda: 1 + int(np.floor(np.log(u) / np.log1p(-1 / self.mean))) if self.mean > 1 else 1,
            "exponential": lambda: max(1, round(-self.mean * np.log(u))),
        }[self.trouble.repair]()
        self.repair_at[m] = self.now + length
        self.fails_at.pop(m, None)
        self.failures[m] += 1
        if m in self.left_over and self.trouble.after_repair == "restart":
            job = self.on(m)
            self.left_over[m] = int(self.real[self.routes[job][self.done[job] - 1]])

    def on(self, m: int) -> int:
        return next(j for j, at in enumerate(self.where) if at == m)

    def target(self, j: int) -> int:
        return int(self.shop.machine[self.routes[j][self.done[j]]])

    def waiting(self) -> list[int]:
        return [
            j
            for j in range(self.shop.jobs)
            if j not in self.gone and self.waits_since[j] is not None and self.waits_since[j] <= self.now
        ]

    def put(self, j: int, m: int) -> None:
        self.where[j], self.waits_since[j] = m, None
        self.left_over[m] = int(self.real[self.routes[j][self.done[j]]])
        self.done[j] += 1

    def rotate(self) -> None:
        jobs = [j for j in self.waiting() if self.where[j] is not None]
        holder = {self.where[j]: j for j in range(self.shop.jobs) if self.where[j] is not None}
        for first in jobs:
            circle = [first]
            while True:
                following = holder.get(self.target(circle[-1]))
                if following is None or following not in jobs or following in circle[1:]:
                    circle = []
                    break
                if following == first:
                    break
                circle.append(following)
            if not circle or (len(circle) > 1 and not self.shop.swap):
                continue
            if any(self.target(j) in self.repair_at for j in circle):
                continue
            for j in circle:
                self.put(j, self.target(j))
            return self.rotate()

    def key(self, j: int) -> float:
        shop = self.shop
        rest = [int(shop.duration[k]) for k in self.routes[j][self.done[j] :]]
        whole = [int(shop.duration[k]) for k in self.routes[j]]
        due = int(self.arrival[j]) + sum(whole) - sum(rest) + rest[0]
        since = self.waits_since[j]
        assert since is not None
        return {
            "SPT": rest[0],
            "LPT": -rest[0],
            "MWKR": -sum(rest),
            "LWKR": sum(rest),
            "MOR": -len(rest),
            "LOR": len(rest),
            "FIFO": since,
            "LIFO": -since,
            "FDD": due,
            "FDD/MWKR": due / max(1, sum(rest)),
        }[self.rule]

    def decide(self) -> None:
        moved = True
        while moved:
            moved = False
            for m in range(self.shop.machines):
                if m in self.repair_at or m in self.where:
                    continue
                offered = [j for j in self.waiting() if self.target(j) == m]
                if offered:
                    self.put(min(offered, key=lambda j: (self.key(j), j)), m)
                    moved = True

    def run(self) -> int:
        for m in range(self.shop.machines):
            self.plan_failure(m)
        happened, arrived = True, sum(a <= 0 for a in self.arrival)
        while True:
            if happened and self.trouble.breakdown_chance:
                for m in range(self.shop.machines):
                    if m not in self.repair_at and self.hash(m, self.draws, 1) < self.trouble.breakdown_chance:
                        self.fail(m)
            self.draws += happened
            if self.shop.blocking:
                self.rotate()
            self.decide()
            if len(self.gone) == self.shop.jobs:
                return self.now
            times = [self.now + left for m, left in self.left_over.items() if m not in self.repair_at]
            times += [*self.repair_at.values(), *self.fails_at.values()]
            times += [a for a in self.arrival if a > self.now]
            step = int(min(times)) - self.now
            self.now += step
            for m in self.left_over:
                if m not in self.repair_at:
                    self.left_over[m] -= step
            happened = False
            for m in range(self.shop.machines):
                if m not in self.repair_at and self.left_over.get(m) == 0:
                    happened = True
                    del self.left_over[m]
                    j = self.on(m)
                    if self.done[j] == len(self.routes[j]):
                        self.gone.add(j)
                    self.waits_since[j] = self.now
                    if j in self.gone or not self.shop.blocking:
                        self.where[j] = None
            for m in range(self.shop.machines):
                if self.repair_at.get(m) == self.now:
                    del self.repair_at[m]
                    self.plan_failure(m)
                elif self.fails_at.get(m) == self.now:
                    self.fail(m)
            came = sum(a <= self.now for a in self.arrival)
            happened, arrived = happened or came > arrived, came


TROUBLES = st.builds(
    Disturbances,
    breakdown_chance=st.sampled_from([0.0, 0.1, 0.3]),
    mean_time_between_failures=st.sampled_from([None, 15.0]),
    mean_repair=st.sampled_from([None, 0.5, 7.0]),
    repair=st.sampled_from(["fixed", "geometric", "exponential"]),
    after_repair=st.sampled_from(["resume", "restart"]),
    noise=st.sampled_from([0.0, 0.4]),
    mean_time_between_arrivals=st.sampled_from([None, 6.0]),
)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["swap", "buffers"]),
    rule=st.sampled_from([name for name in RULES if name != "RANDOM"]),
    trouble=TROUBLES,
    repeats=st.booleans(),
)
def test_the_compiled_floor_does_what_a_slow_floor_does(
    seed: int, kind: str, rule: str, trouble: Disturbances, repeats: bool
) -> None:
    shop = random_shop(seed, kind, repeats=repeats)
    assert simulate(shop, rule, trouble, seed=seed).makespan == SlowFloor(shop, rule, trouble, seed).run()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(list(KINDS)),
    rule=st.sampled_from(list(RULES)),
    trouble=TROUBLES,
    repeats=st.booleans(),
)
def test_every_run_keeps_the_rules_of_the_floor(
    seed: int, kind: str, rule: str, trouble: Disturbances, repeats: bool
) -> None:
    shop = random_shop(seed, kind, repeats=repeats)
    run = simulate(shop, rule, trouble, seed=seed)
    table, real = run.timeline, trouble.durations(shop, seed)
    assert len(table.overlaps()) == 0
    assert (run.start >= trouble.arrivals(shop, seed)[shop.job]).all()
    assert (run.end >= run.start + real).all() and (run.departure >= run.end).all()
    assert run.makespan == run.departure.max() == run.end.max()
    first = np.zeros(shop.operations, dtype=bool)
    first[shop.job_start[:-1]] = True
    follows = np.flatnonzero(~first)
    assert (run.start[follows] >= run.end[follows - 1]).all()
    held = run.departure if shop.blocking else run.end
    if shop.blocking:
        assert (run.departure[follows - 1] == run.start[follows]).all()
    for m in range(shop.machines):
        on = np.flatnonzero(shop.machine == m)
        on = on[np.lexsort((held[on], run.start[on]))]
        assert (run.start[on[1:]] >= held[on[:-1]]).all()
    # What is processed is exactly the true duration; a restart works some of it twice and calls that lost.
    operation, length = table.columns["operation"], table.end - table.start
    process = table.kind == table.kinds.index("process")
    np.testing.assert_array_equal(
        np.bincount(operation[process], weights=length[process], minlength=shop.operations), real
    )
    assert (table.kind == table.kinds.index("lost")).any() <= (trouble.after_repair == "restart")
    assert ((table.kind == table.kinds.index("down")).sum() > 0) <= (run.breakdowns > 0)


def deadlock_free_runs(count: int) -> int:
    """Random blocking shops with swaps under random rules and breakdowns; the number of runs that ended."""
    rng = np.random.default_rng(5)
    finished = 0
    for block in range(count // 20):
        jobs, machines = int(rng.integers(2, 16)), int(rng.integers(2, 9))
        shop = random_shop(block, "swap", jobs=jobs, machines=machines, repeats=bool(rng.integers(2)))
        trouble = Disturbances(breakdown_chance=float(rng.choice([0.0, 0.05, 0.2])))
        finished += len(simulate_many(shop, "RANDOM", trouble, range(20)))
    return finished


def test_no_run_with_swaps_ever_stands_still() -> None:
    assert deadlock_free_runs(300) == 300  # a standstill raises Deadlock


@pytest.mark.slow
def test_no_run_of_ten_thousand_with_swaps_ever_stands_still() -> None:
    assert deadlock_free_runs(10_000) == 10_000


def crossing_jobs(swap: bool) -> JobShop:
    """Two jobs that go the opposite ways over two machines."""
    return replace(JobShop.from_rows([[(0, 3), (1, 2)], [(1, 4), (0, 5)]]), blocking=True, swap=swap)


def test_two_jobs_that_want_each_others_machines_swap() -> None:
    run = simulate(crossing_jobs(True), "SPT")
    assert run.rotations == 1
    assert run.start.tolist() == [0, 4, 0, 4] and run.departure.tolist() == [4, 6, 4, 9]
    blocked = run.timeline.rows(run.timeline.kind == run.timeline.kinds.index("blocked"))
    assert list(zip(blocked.start.tolist(), blocked.end.tolist())) == [(3.0, 4.0)]


def test_without_swaps_they_go_one_after_the_other_or_stand_still() -> None:
    run = simulate(crossing_jobs(False), "SPT")
    assert run.rotations == 0 and run.makespan == 3 + 2 + 4 + 5
    with pytest.raises(Deadlock, match="0 -> 1 -> 0"):
        simulate(crossing_jobs(False), "SPT", safe=False)


def leads_out_by_trying_everything(shop: JobShop, place: tuple[int, ...]) -> bool:
    """Whether jobs that have started so many operations each (0: outside) can all leave without swaps."""
    seen: set[tuple[int, ...]] = set()

    def search(at: tuple[int, ...]) -> bool:
        if at in seen:
            return False
        seen.add(at)
        lengths = np.diff(shop.job_start).tolist()
        holder = {int(shop.machine[shop.job_start[j] + p - 1]): j for j, p in enumerate(at) if 0 < p < lengths[j]}
        if not holder:
            return True
        for j in holder.values():
            to = int(shop.machine[shop.job_start[j] + at[j]])
            if holder.get(to, j) == j and search((*at[:j], at[j] + 1, *at[j + 1 :])):
                return True
        return False

    return search(place)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), repeats=st.booleans())
def test_without_swaps_a_move_is_offered_only_if_all_jobs_can_still_leave(seed: int, repeats: bool) -> None:
    shop = random_shop(seed, "no swap", jobs=4, machines=4, repeats=repeats)
    rng = np.random.default_rng(seed)
    offers = []

    class Any:
        def decide(self, view: View) -> int:
            started = view.next_operation - shop.job_start[:-1]
            for j in range(shop.jobs):
                o = int(view.next_operation[j])
                if o == shop.job_start[j + 1] or shop.machine[o] != view.machine:
                    continue
                at = view.location[j]
                if at >= 0 and view.run.machine[at, state.PHASE] != state.DONE:
                    continue
                after = tuple(int(p) + (k == j) for k, p in enumerate(started))
                safe = leads_out_by_trying_everything(shop, after)
                offers.append((j in view.candidates, safe))
            return int(rng.choice(view.candidates))

    simulate(shop, Any())
    assert all(safe for offered, safe in offers if offered)
    # On floors this small the search is complete: what is safe is offered.
    assert all(offered for offered, safe in offers if safe)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_as_an_object_decides_as_the_compiled_rule(rule: str, kind: str) -> None:
    class Asked:
        def decide(self, view: View) -> int:
            return Rule(rule).decide(view)

    trouble = Disturbances(breakdown_chance=0.1, noise=0.2)
    for seed in range(3):
        shop = random_shop(seed, kind, jobs=8)
        ours, compiled = simulate(shop, Asked(), trouble, seed=seed), simulate(shop, rule, trouble, seed=seed)
        assert ours.start.tolist() == compiled.start.tolist() and ours.makespan == compiled.makespan


def test_many_runs_in_one_call_are_the_single_runs() -> None:
    shop, trouble = random_shop(1, jobs=8), Disturbances(breakdown_chance=0.1, noise=0.3)
    single = [simulate(shop, "LOR", trouble, seed=seed).makespan for seed in range(5)]
    assert simulate_many(shop, "LOR", trouble, range(5)).tolist() == single
    assert len(set(single)) > 1


def test_failures_by_the_clock_are_the_same_whoever_decides() -> None:
    shop = random_shop(3, jobs=8)
    trouble = Disturbances(mean_time_between_failures=12.0, mean_repair=4.0, noise=0.3)
    down = []
    for rule in ("SPT", "LPT"):
        table = simulate(shop, rule, trouble, seed=4).timeline
        spans = table.rows(table.kind == table.kinds.index("down")).sorted()
        down.append(
            [row for row in zip(spans.resource.tolist(), spans.start.tolist(), spans.end.tolist()) if row[2] < 25]
        )
    assert down[0] == down[1] and len(down[0]) >= 3


def test_noise_and_arrivals_have_the_given_means() -> None:
    shop = JobShop.from_rows([[(0, 1000)]] * 4000)
    drawn = Disturbances(noise=0.3).durations(shop, 1)
    assert drawn.mean() == pytest.approx(1000, rel=0.02) and drawn.std() == pytest.approx(300, rel=0.06)
    arrivals = Disturbances(mean_time_between_arrivals=50.0).arrivals(shop, 1)
    assert arrivals[0] == 0 and np.diff(arrivals).mean() == pytest.approx(50, rel=0.06)


@pytest.mark.parametrize("repair", ["fixed", "geometric", "exponential"])
def test_repairs_take_their_mean(repair: str) -> None:
    shop = JobShop.from_rows([[(0, 40_000)]])
    run = simulate(shop, "SPT", Disturbances(mean_time_between_failures=20.0, mean_repair=9.0, repair=repair), seed=2)
    table = run.timeline
    lengths = (table.end - table.start)[table.kind == table.kinds.index("down")]
    assert len(lengths) == run.breakdowns == pytest.approx(2000, rel=0.1)
    assert lengths.mean() == pytest.approx(9.0, rel=0.1)


def test_a_view_shows_no_more_than_can_be_known() -> None:
    shop = JobShop.from_rows([[(0, 100), (1, 5)], [(0, 100)], [(0, 7)]])
    trouble = Disturbances(noise=0.5, mean_time_between_arrivals=30.0)
    seen = []

    class Watching:
        may_hold = True

        def decide(self, view: View) -> int:
            seen.append((view.now, view.machine, view.candidates.tolist(), view.arrived.tolist()))
            left = view.expected_remaining
            if view.occupant[0] >= 0:
                started = int(view.run.operation[view.next_operation[view.occupant[0]] - 1, state.START])
                assert left[0] == max(shop.duration[view.next_operation[view.occupant[0]] - 1] - view.now + started, 1)
            return int(view.candidates[0])

    simulate(shop, Watching(), trouble, seed=1)
    assert seen[0] == (0, 0, [0], [True, False, False])


def test_a_decision_may_hold_a_machine_but_not_everything_for_ever() -> None:
    shop = replace(JobShop.from_rows([[(0, 5), (1, 4)], [(1, 3)], [(1, 2)]]), blocking=True)
    asked = []

    class Lazy:
        may_hold = True

        def decide(self, view: View) -> int:
            asked.append((view.now, view.machine, view.may_hold))
            return HOLD if view.may_hold else int(view.candidates[0])

    run = simulate(shop, Lazy())
    assert asked[:4] == [(0, 0, True), (0, 1, True), (0, 0, False), (0, 1, True)]
    assert run.makespan == 5 + 4 + 3 + 2

    class Stubborn:
        may_hold = True

        def decide(self, view: View) -> int:
            return HOLD

    with pytest.raises(InputError, match="nothing else moves"):
        simulate(shop, Stubborn())


def test_an_outlook_is_what_comes_if_nothing_happens() -> None:
    shop = random_shop(2, jobs=8)
    ends = []

    class Looking:
        def decide(self, view: View) -> int:
            outlook = view.outlook()
            outlook.advance(RULES["LOR"])
            ends.append(int(outlook.makespans[0]))
            return Rule("LOR").decide(view)

    assert {*ends, simulate(shop, Looking()).makespan} == {simulate(shop, "LOR").makespan}


def test_logs_grow_as_needed() -> None:
    shop = JobShop.from_rows([[(0, 5000)]])
    run = simulate(shop, "SPT", Disturbances(mean_time_between_failures=5.0, mean_repair=2.0))
    assert len(run.timeline) > 1000 and run.timeline.makespan == run.makespan


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("breakdown_chance", 1.0),
        ("mean_repair", 0.0),
        ("noise", -0.1),
        ("repair", "never"),
        ("after_repair", "forget"),
        ("mean_time_between_failures", -1.0),
    ],
)
def test_disturbances_out_of_range_are_named(key: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        Disturbances(**{key: value})
    assert caught.value.key == key


def test_wrong_orders_rules_and_choices_are_named() -> None:
    shop = crossing_jobs(True)
    with pytest.raises(InputError, match="FIFO"):
        simulate(shop, "SPTT")
    with pytest.raises(InputError, match="operation 0"):
        follow(shop, [[0, 0], [1, 2]])
    with pytest.raises(InputError, match="no machine's order holds operation 3"):
        follow(shop, [[0], [1, 2]])

    class Wrong:
        def decide(self, view: View) -> int:
            return 7

    with pytest.raises(InputError, match="chose job 7"):
        simulate(replace(JobShop.from_rows([[(0, 1)], [(0, 2)]]), blocking=True), Wrong())
    with pytest.raises(InputError, match="no_wait"):
        Floor([replace(shop, no_wait=True)], Disturbances(), [0])
