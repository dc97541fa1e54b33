"""The shop world's Gymnasium environments: registered, accepted by the library's checker, true to the schedules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("gymnasium")

import gymnasium
from gymnasium.utils.env_checker import check_env

from pathloom.plan import InputError
from pathloom.schedule.job_shop_bounds import job_shop_bound
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop import dispatching_env, gym
from pathloom.worlds.shop.dispatching_env import DispatchingEnv

TWO_JOBS = JobShop.from_rows([[(0, 3), (1, 2)], [(1, 4), (0, 1)]])


def test_all_ids_are_registered_and_registering_twice_does_no_harm() -> None:
    gym.register()
    gym.register()
    assert set(gym.IDS) <= set(gymnasium.registry)


@pytest.mark.filterwarnings("ignore:.*WARN.*")
def test_the_librarys_checker_accepts_dispatching() -> None:
    gym.register()
    check_env(gymnasium.make(dispatching_env.ID, jobs=4, machines=3).unwrapped)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 4))
def test_rewards_of_an_episode_add_up_to_minus_the_makespan_over_its_bound(seed: int, jobs: int, machines: int) -> None:
    environment = DispatchingEnv(jobs=jobs, machines=machines)
    seen, info = environment.reset(seed=seed)
    draw = np.random.default_rng(seed)
    total, done = 0.0, False
    while not done:
        assert environment.observation_space.contains(seen)
        action = np.int64(draw.choice(np.flatnonzero(info["action_mask"])))
        seen, reward, done, _, info = environment.step(action)
        assert not info["forbidden"]
        total += reward
    shop = environment._present
    start = info["start"]
    assert info["makespan"] == (start + shop.duration).max()
    assert total == pytest.approx(-info["makespan"] / job_shop_bound(shop)[0])
    for machine in range(machines):
        mine = np.flatnonzero(shop.machine == machine)
        mine = mine[np.argsort(start[mine])]
        assert (start[mine][1:] >= (start + shop.duration)[mine][:-1]).all()


def test_a_forbidden_action_is_reported_and_replaced() -> None:
    environment = DispatchingEnv(TWO_JOBS)
    _, info = environment.reset(seed=0)
    assert info["action_mask"].tolist()[:2] == [1, 1]
    _, _, _, _, info = environment.step(np.int64(0))
    assert info["action_mask"][0] == 0  # its second operation waits for the first to end
    _, _, _, _, info = environment.step(np.int64(0))
    assert info["forbidden"]


def test_the_same_seed_draws_the_same_shop() -> None:
    first, second = DispatchingEnv(jobs=5, machines=3), DispatchingEnv(jobs=5, machines=3)
    one, _ = first.reset(seed=7)
    two, _ = second.reset(seed=7)
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("wrong", [{"jobs": 0}, {"render_mode": "human"}, {"shop": JobShop.from_rows([], 1)}])
def test_what_cannot_be_played_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        DispatchingEnv(**wrong)


def test_a_step_before_the_first_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        DispatchingEnv(TWO_JOBS).step(np.int64(0))
