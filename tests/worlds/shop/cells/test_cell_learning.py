"""The learning environments, the policy and its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_cells import ring

from pathloom.plan import InputError, NoPlanFound
from pathloom.worlds.shop.cells.bounds import long_run_bound
from pathloom.worlds.shop.cells.check import check_cell
from pathloom.worlds.shop.cells.environment import CellEnvironment
from pathloom.worlds.shop.cells.files import load_cell
from pathloom.worlds.shop.cells.rules import Rule, run_plan
from pathloom.worlds.shop.cells.simulator import simulate

EXAMPLES = Path(__file__).parents[4] / "examples"


def _play(environment: CellEnvironment, steps: int, seed: int) -> tuple[list[float], int]:
    generator = np.random.default_rng(seed)
    seen = environment.reset(np.arange(environment.copies))
    rewards, ends = [], 0
    for _ in range(steps):
        weights = generator.random(seen["mask"].shape) * seen["mask"]
        seen, reward, done = environment.step(weights.argmax(1))
        rewards += reward.tolist()
        ends += int(done.sum())
        assert seen["mask"].any(1).all()
        assert all(np.isfinite(array).all() for array in seen.values())
    return rewards, ends


def test_copies_run_through_lots_and_repeat_with_the_seed() -> None:
    cell = replace(load_cell(EXAMPLES / "cell-cluster-6.yaml"), lot=10)
    first, second = _play(CellEnvironment(cell, 4), 300, 1), _play(CellEnvironment(cell, 4), 300, 1)
    assert first == second
    assert first[1] >= 4


def test_rewards_of_an_episode_are_items_less_time() -> None:
    """All progress is paid once: a lot of n items earns n less its time in units of the bound."""
    cell = ring([20.0, 30.0], arms=2, lot=6)
    environment = CellEnvironment(cell, 1)
    seen = environment.reset(np.array([0]), staggered=False)
    before = float(environment.state.now[0]) / environment.arrays.scale
    total, finish = 0.0, 0.0
    while True:
        choice = np.array([int(np.argmax(seen["mask"][0]))])
        clock = environment.state
        state_done = clock.done[0]
        seen, reward, done = environment.step(choice)
        total += float(reward[0])
        finish = max(finish, float(clock.finish[0].max()))
        assert state_done <= 6
        if done[0]:
            break
    # What passes before the first choice is not rewarded: the first item's pick, up to rounding of its step share.
    assert total == pytest.approx(6.0 - finish / environment.arrays.scale + before, abs=0.5)


def test_an_action_that_is_not_legal_is_refused() -> None:
    environment = CellEnvironment(ring([20.0]), 1)
    seen = environment.reset(np.array([0]))
    with pytest.raises(ValueError, match="not legal"):
        environment.step(np.array([int(np.argmin(seen["mask"][0]))]))


def test_gymnasium_accepts_the_environment() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    from pathloom.worlds.shop.cells.gymnasium_env import ID, RobotCellEnv, register

    check_env(RobotCellEnv(EXAMPLES / "cell-cluster-6.yaml", lot=5), skip_render_check=True)
    register()
    register()
    made = gymnasium.make(ID, cell=ring([10.0, 10.0], arms=2, lot=4))
    _, info = made.reset(seed=3)
    ended = False
    for _ in range(500):
        _, _, ended, _, info = made.step(np.int64(np.argmax(info["mask"])))
        if ended:
            break
    assert ended
    assert info["finished"] == 4


def test_a_policy_is_saved_read_and_runs_on_any_cell(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from pathloom.worlds.shop.cells.policy import (
        CellPolicy,
        TrainedPolicy,
        fingerprint,
        load_policy,
        policy_for,
        save_policy,
    )

    torch.manual_seed(0)
    cell = ring([20.0, 10.0, 15.0], arms=2, lot=8)
    from pathloom.worlds.shop.cells.policy import FORMAT, GLOBAL_FEATURES, TOKEN_FEATURES

    card = {
        "format": FORMAT,
        "width": 16,
        "features": [TOKEN_FEATURES, GLOBAL_FEATURES],
        "fingerprint": fingerprint(cell),
        "seed": 0,
    }
    policy = TrainedPolicy(CellPolicy(16).eval(), card)
    weights, _ = save_policy(policy, "ring", tmp_path)
    again = load_policy(weights)
    found = policy_for(cell, tmp_path)
    assert found is not None and found.card == card
    assert policy_for(ring([20.0]), tmp_path) is None
    for other in (cell, replace(load_cell(EXAMPLES / "cell-track-12.yaml"), lot=5)):
        first, second = simulate(other, policy), simulate(other, again)
        assert (first.finish == second.finish).all()
        plan = run_plan(first, method="learned", settings={}, seconds=0.0)
        assert {violation.rule for violation in check_cell(other, plan)} <= {"dwell"}
    weights.with_suffix(".json").write_text("{}")
    with pytest.raises(InputError):
        load_policy(weights)


def test_imitation_learns_what_a_rule_does() -> None:
    torch = pytest.importorskip("torch")
    from pathloom.worlds.shop.cells.policy import CellPolicy, imitate

    torch.manual_seed(0)
    cell = ring([20.0, 10.0, 15.0], arms=2, lot=20)
    network = CellPolicy(16)
    assert imitate(network, cell, Rule("pull"), steps=200, copies=16, doubt=0.05) > 0.7


def test_a_cell_without_a_policy_gets_no_learned_plan() -> None:
    pytest.importorskip("torch")
    from pathloom.worlds.shop.cells.learned import learned

    with pytest.raises(NoPlanFound, match="no policy"):
        learned(ring([12.0]))


@pytest.mark.parametrize("name", ["cell-cluster-6", "cell-line-6"])
def test_the_shipped_policy_of_a_reference_cell_comes_near_the_bound_and_keeps_every_limit(name: str) -> None:
    pytest.importorskip("torch")
    from pathloom.worlds.shop.cells.policy import CHECKPOINTS, evaluate, load_policy, policy_for

    cell = load_cell(EXAMPLES / f"{name}.yaml")
    policy, shipped = policy_for(cell), load_policy(CHECKPOINTS / f"{name}.safetensors")
    assert policy is not None
    assert policy.card == shipped.card
    score = evaluate(cell, policy.network, seeds=range(700, 704), lot=100)
    assert long_run_bound(cell).seconds / score.seconds_per_item >= 0.95
    assert score.late == 0


@pytest.mark.slow
def test_training_improves_on_the_imitated_rule() -> None:
    pytest.importorskip("torch")
    from pathloom.worlds.shop.cells.policy import SETTINGS, train_policy

    scores = []
    cell = load_cell(EXAMPLES / "cell-cluster-6.yaml")
    train_policy(
        cell,
        seconds=60.0,
        settings=replace(SETTINGS, updates=40),
        imitation=200,
        on_score=lambda _, score: scores.append(score.seconds_per_item),
    )
    assert min(scores[1:]) < scores[0]


def test_a_training_that_goes_on_keeps_the_best_network_of_the_one_before(tmp_path: Path) -> None:
    """The file says that a network was better than any can be; what is trained on is never taken instead."""
    torch = pytest.importorskip("torch")
    from pathloom.worlds.shop.cells.policy import SETTINGS, _Kept, train_policy

    cell = load_cell(EXAMPLES / "cell-cluster-6.yaml")
    checkpoint = tmp_path / "optimisation.pt"
    quick = replace(SETTINGS, environments=4, steps=8, updates=1)
    first = train_policy(cell, seconds=60.0, settings=quick, width=8, imitation=2, checkpoint=checkpoint)
    kept = _Kept(checkpoint.with_suffix(".best"))
    assert kept.read() and kept.worth < float("inf") and kept.spent > 0
    kept.worth = float("inf")
    for weights in first.network.parameters():
        torch.nn.init.constant_(weights, 0.01)
    kept.take(1e-6, first.network)
    again = train_policy(
        cell, seconds=60.0, settings=replace(quick, updates=2), width=8, imitation=2, checkpoint=checkpoint
    )
    assert again.card["updates"] == 2
    assert again.card["imitated rule"]["agreement"] == first.card["imitated rule"]["agreement"]
    assert all(bool((weights == 0.01).all()) for weights in again.network.parameters())
    checkpoint.with_suffix(".best").write_bytes(b"something else")
    with pytest.raises(InputError, match="is no state of a training"):
        train_policy(cell, seconds=1.0, settings=quick, width=8, imitation=2, checkpoint=checkpoint)
