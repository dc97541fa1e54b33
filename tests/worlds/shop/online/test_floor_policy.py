"""The learning side of the floor: what the network sees, the environment, training, and the policy that ships."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.learn.policy_gradient import PPOSettings  # noqa: E402
from pathloom.plan import InputError  # noqa: E402
from pathloom.schedule.shops import JobShop  # noqa: E402
from pathloom.worlds.shop.online import _floor_state as state  # noqa: E402
from pathloom.worlds.shop.online._view_kernels import GRAPH_FEATURES, NODE_FEATURES  # noqa: E402
from pathloom.worlds.shop.online.disturbances import Disturbances  # noqa: E402
from pathloom.worlds.shop.online.floor import HOLD, Floor, View, simulate, simulate_many  # noqa: E402
from pathloom.worlds.shop.online.policy import (  # noqa: E402
    DrawnShops,
    FloorEnvironment,
    Looker,
    load_policy,
    lower_bound,
    save_policy,
)
from pathloom.worlds.shop.online.rollout import Rollout  # noqa: E402
from pathloom.worlds.shop.online.rules import RULES, Rule  # noqa: E402
from pathloom.worlds.shop.online.training import (  # noqa: E402
    FloorTraining,
    imitate,
    new_network,
    taught,
    train_floor_policy,
)

SMALL = DrawnShops(sizes=((4, 3), (5, 3)), durations=(1, 20))


def drawn_shop(seed: int, jobs: int = 5, machines: int = 4) -> JobShop:
    rng = np.random.default_rng(seed)
    rows = [[(int(m), int(rng.integers(1, 20))) for m in rng.permutation(machines)] for _ in range(jobs)]
    return replace(JobShop.from_rows(rows, machines), blocking=True)


def slow_nodes(view: View) -> dict[int, list[float]]:
    """Features of the operations that are not over, from the view alone."""
    shop, now = view.shop, view.now
    mean = shop.duration.mean()
    known = [j for j in range(shop.jobs) if view.arrived[j] and view.location[j] != state.GONE]
    following = {j: int(view.next_operation[j]) for j in known}
    inside = {j: int(view.location[j]) >= 0 for j in known}
    phase = view.run.machine[:, state.PHASE]
    works = {j: inside[j] and phase[view.location[j]] == state.BUSY for j in known}
    repair = np.where(view.down, view.run.trouble[state.REPAIR], 0.0)
    ready = view.expected_remaining + repair
    ends = {j: int(shop.job_start[j + 1]) for j in known}
    load = view.expected_remaining.astype(float)
    for j in known:
        for o in range(following[j], ends[j]):
            load[shop.machine[o]] += shop.duration[o]
    rest = {j: int(shop.duration[following[j] : ends[j]].sum()) for j in known}
    longest, most = max(1, *rest.values()), max(np.diff(shop.job_start))
    out = {}
    for j in known:
        since = 0.0 if works[j] else now - view.run.job[j, state.SINCE]
        for o in range(following[j] - inside[j], ends[j]):
            m, current = int(shop.machine[o]), o < following[j]
            offered = j in view.candidates and o == following[j]
            out[o] = [
                o > following[j] or (o == following[j] and works[j]),
                o == following[j] and not works[j],
                current and works[j],
                current and not works[j],
                shop.duration[o] / mean,
                (following[j] - shop.job_start[j]) / (ends[j] - shop.job_start[j]),
                (ends[j] - 1 - o) / most,
                since / (since + mean),
                np.log1p(ready[m] / mean) if current and works[j] else 0.0,
                shop.duration[o : ends[j]].sum() / longest,
                view.down[m],
                view.occupant[m] >= 0 and not current,
                np.log1p(ready[m] / mean),
                offered,
                m == view.machine,
                inside[j],
                load[m] / max(1.0, load.max()),
                (o - following[j]) / most,
                phase[m] == state.DONE and not current,
            ]
    return out


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2]))
def test_what_the_network_sees_is_what_the_view_says(seed: int, chance: float) -> None:
    shop = drawn_shop(seed)

    class Comparing:
        may_hold = True

        def decide(self, view: View) -> int:
            seen = Looker(view.floor).look()
            expected = slow_nodes(view)
            assert np.flatnonzero(seen["active"][0]).tolist() == sorted(expected)
            for o, row in expected.items():
                np.testing.assert_allclose(seen["nodes"][0, o], np.array(row, dtype=float), rtol=1e-5, atol=1e-6)
            assert np.flatnonzero(seen["mask"][0, :-1]).tolist() == view.candidates.tolist()
            assert seen["mask"][0, -1] == view.may_hold
            for j in view.candidates:
                assert seen["operation"][0, j] == view.next_operation[j]
            assert np.isfinite(seen["graph"]).all() and seen["nodes"].max() < 50
            return Rule("LOR").decide(view)

    simulate(shop, Comparing(), Disturbances(breakdown_chance=chance), seed=seed)


def test_rewards_add_up_to_minus_the_makespan_over_the_bound() -> None:
    shop = drawn_shop(4)
    environment = FloorEnvironment(lambda rng: (shop, Disturbances()), 2, (8, 4, 40))
    rng, total, ends = np.random.default_rng(0), np.zeros(2), []
    seen = environment.reset(np.array([1, 2]))
    for _ in range(300):
        action = np.array([rng.choice(np.flatnonzero(row)) for row in seen["mask"]])
        seen, reward, done = environment.step(action)
        total += reward
        for b in np.flatnonzero(done):
            ends.append(-total[b] * lower_bound(shop))
            total[b] = 0.0
    assert len(ends) > 3
    np.testing.assert_allclose(ends, np.rint(ends), atol=1e-6)
    assert min(ends) >= lower_bound(shop)


def test_the_environment_repeats_itself_from_its_seeds() -> None:
    def played() -> list[float]:
        environment = FloorEnvironment(SMALL.draw, 3, SMALL.shape)
        seen, out = environment.reset(np.array([5, 6, 7])), []
        for _ in range(60):
            seen, reward, _ = environment.step(seen["mask"].argmax(-1))
            out += [*reward.tolist(), float(seen["nodes"].sum())]
        return out

    assert played() == played()


def test_a_policy_decides_the_same_one_by_one_and_in_a_batch(tmp_path: Path) -> None:
    network = new_network(FloorTraining(), 3)
    save_policy(network, {"made": "for a test"}, tmp_path / "policy.safetensors")
    policy = load_policy(tmp_path / "policy.safetensors")
    assert policy.card["made"] == "for a test"
    shops, trouble = [drawn_shop(1), drawn_shop(2, 6, 3)], Disturbances(breakdown_chance=0.1)
    floor = Floor(shops, trouble, [4, 4], ask_single=True)
    policy.run_all(floor)
    assert floor.makespans.tolist() == [simulate(shop, policy, trouble, seed=4).makespan for shop in shops]


def test_a_file_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        load_policy(path)
    save_policy(new_network(FloorTraining(), 0), {}, path)
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "format": "other"}))
    with pytest.raises(InputError, match="format"):
        load_policy(path)
    wider = {**card, "shape": {**card["shape"], "width": 24}}
    path.with_suffix(".json").write_text(json.dumps(wider))
    with pytest.raises(InputError, match="does not fit"):
        load_policy(path)
    path.with_suffix(".json").write_text(json.dumps(card))
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no weights"):
        load_policy(path)


def test_imitation_learns_what_the_teacher_prefers() -> None:
    training = FloorTraining(shops=SMALL, teacher=Rollout(samples=2, rules=("LOR",)), most_samples=400, batch=64)
    samples = taught(training, seed=1, seconds=1e9)
    assert len(samples["value"]) >= 400 and (samples["loss"] >= 0).all()
    assert (np.where(samples["mask"], samples["loss"], 1.0).min(-1) == 0).all()  # one choice is the best
    network = new_network(training, 1)

    def lost() -> float:
        seen = {name: torch.from_numpy(array) for name, array in samples.items()}
        seen["nodes"] = seen["nodes"].float()
        with torch.no_grad():
            best = network(seen)[0].masked_fill(~seen["mask"], -1e9).argmax(-1, keepdim=True)
        return float(seen["loss"].gather(1, best).mean())

    before, ticks = lost(), iter(range(10_000))
    imitate(network, samples, training, seed=1, seconds=150.0, clock=lambda: float(next(ticks)))
    assert lost() < 0.6 * before


def test_training_writes_a_policy_and_goes_on_where_it_was(tmp_path: Path) -> None:
    training = FloorTraining(
        shops=SMALL,
        teacher=Rollout(samples=1, rules=("LOR",)),
        most_samples=50,
        imitate_share=0.001,
        ppo=PPOSettings(environments=4, steps=8, updates=2),
    )
    train_floor_policy(training, tmp_path, seconds=1000.0, seed=1)
    policy = load_policy(tmp_path / "policy.safetensors")
    assert policy.card["environment steps"] == 64 and policy.card["teacher decisions"] >= 50
    longer = replace(training, ppo=replace(training.ppo, updates=3))
    train_floor_policy(longer, tmp_path, seconds=1000.0, seed=1)
    assert load_policy(tmp_path / "policy.safetensors").card["environment steps"] == 96


def test_the_shipped_policy_beats_every_rule_on_shops_of_any_size() -> None:
    policy = load_policy()
    for chance in (0.0, 0.1):
        trouble = Disturbances(breakdown_chance=chance)
        shops = [drawn_shop(1000 + k, jobs, machines) for k, (jobs, machines) in enumerate([(10, 5), (12, 8)] * 8)]
        floor = Floor(shops, trouble, [0] * len(shops), ask_single=True)
        policy.run_all(floor)
        ours = floor.makespans.mean()
        rules = {name: np.mean([simulate_many(shop, name, trouble, [0])[0] for shop in shops]) for name in RULES}
        assert ours < min(rules.values())


def test_gymnasium_accepts_the_environment() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    from pathloom.worlds.shop.online.gymnasium_env import ID, FloorEnv, register

    register()
    register()
    environment = gymnasium.make(ID, shops=SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(render|Box|infinity).*")
        check_env(environment.unwrapped, skip_render_check=True)
    seen, info = environment.reset(seed=3)
    assert seen["nodes"].shape[1] == NODE_FEATURES and seen["graph"].shape == (GRAPH_FEATURES,)
    total, done = 0.0, False
    while not done:
        seen, reward, done, _, info = environment.step(np.int64(np.argmax(info["action_mask"])))
        assert not info["forbidden"]
        total += float(reward)
    assert info["makespan"] > 0 > total

    one = drawn_shop(1)
    fixed = FloorEnv(shop=one, disturbances=Disturbances())
    _, info = fixed.reset(seed=0)
    assert fixed.action_space.n == one.jobs + 1 and info["action_mask"][-1] == 1
    forbidden = np.int64(np.argmin(info["action_mask"]))
    assert fixed.step(forbidden)[-1]["forbidden"]  # counted as holding
    assert HOLD == -1
