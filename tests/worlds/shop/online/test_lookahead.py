"""Decision objects that look ahead: rolling re-solve by CP-SAT, and rollouts of rules."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from pathloom.plan import InputError
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor import HOLD, Deadlock, View, follow, simulate
from pathloom.worlds.shop.online.resolve import RollingResolve
from pathloom.worlds.shop.online.rollout import Rollout
from pathloom.worlds.shop.online.rules import RULES, Rule


def drawn_shop(seed: int, jobs: int, machines: int, *, blocking: bool = True) -> JobShop:
    rng = np.random.default_rng(seed)
    rows = [[(int(m), int(rng.integers(1, 20))) for m in rng.permutation(machines)] for _ in range(jobs)]
    return replace(JobShop.from_rows(rows, machines), blocking=blocking)


def least_makespan(shop: JobShop) -> int:
    """The optimum by trying all machine orders."""
    best = []
    on = [np.flatnonzero(shop.machine == m).tolist() for m in range(shop.machines)]
    for orders in product(*(permutations(each) for each in on)):
        try:
            best.append(follow(shop, orders).makespan)
        except Deadlock:
            continue
    return min(best)


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_without_disturbances_the_re_solve_reaches_the_optimum(seed: int, blocking: bool) -> None:
    shop = drawn_shop(seed, 3, 3, blocking=blocking)
    resolve = RollingResolve(seconds=20.0, deterministic=True)
    assert simulate(shop, resolve).makespan == least_makespan(shop)
    assert resolve.solves == 1


def test_it_plans_again_after_every_breakdown_that_leaves_something_to_decide() -> None:
    shop, trouble = drawn_shop(3, 6, 4), Disturbances(breakdown_chance=0.15)
    resolve = RollingResolve(seconds=0.2, deterministic=True)
    run = simulate(shop, resolve, trouble, seed=1)
    assert 1 < resolve.solves <= run.breakdowns + 1
    rules = [simulate(shop, name, trouble, seed=1).makespan for name in RULES]
    assert run.makespan <= min(rules)
    again = RollingResolve(seconds=0.2, deterministic=True)
    assert simulate(shop, again, trouble, seed=1).start.tolist() == run.start.tolist()


def test_jobs_that_arrive_later_are_planned_when_they_come() -> None:
    shop, trouble = drawn_shop(5, 4, 3), Disturbances(mean_time_between_arrivals=8.0, noise=0.3)
    resolve = RollingResolve(seconds=0.2, deterministic=True)
    run = simulate(shop, resolve, trouble, seed=2)
    assert (run.start >= 0).all() and resolve.solves == 4


def test_one_object_may_serve_several_runs() -> None:
    resolve, trouble = RollingResolve(seconds=0.1, deterministic=True), Disturbances(breakdown_chance=0.1)
    first = [simulate(drawn_shop(k, 4, 3), resolve, trouble, seed=k).makespan for k in range(3)]
    fresh = [
        simulate(drawn_shop(k, 4, 3), RollingResolve(seconds=0.1, deterministic=True), trouble, seed=k).makespan
        for k in range(3)
    ]
    assert first == fresh
    with pytest.raises(InputError, match="seconds"):
        RollingResolve(seconds=0.0)


def test_rollouts_value_a_choice_by_what_the_best_rule_makes_of_it() -> None:
    shop = drawn_shop(7, 6, 4)
    rules = ("SPT", "LOR")
    checked = 0

    class Checking:
        may_hold = True

        def decide(self, view: View) -> int:
            nonlocal checked
            choices, values = Rollout(rules=rules).values(view)
            assert (choices[-1] == HOLD) == view.may_hold
            for choice, value in zip(choices, values):
                ends = []
                for name in rules:
                    outlook = view.outlook()
                    outlook.batch.whole[0] = view.run.whole  # asking, as the run itself
                    outlook.answer_under(RULES[name], int(choice))
                    ends.append(outlook.makespans[0])
                assert value == min(ends)
                checked += 1
            return Rule("SPT").decide(view)

    simulate(shop, Checking())
    assert checked > 20


@pytest.mark.parametrize("chance", [0.0, 0.05])
def test_rollouts_are_better_than_their_rules_on_average(chance: float) -> None:
    trouble = Disturbances(breakdown_chance=chance)
    rollout = Rollout(samples=6, rules=("LOR", "SPT"))
    shops = [drawn_shop(seed, 8, 4) for seed in range(12)]
    ours = np.mean([simulate(shop, rollout, trouble, seed=k).makespan for k, shop in enumerate(shops)])
    for name in rollout.rules:
        assert ours < 0.97 * np.mean([simulate(shop, name, trouble, seed=k).makespan for k, shop in enumerate(shops)])
    with pytest.raises(InputError, match="samples"):
        Rollout(samples=0)
