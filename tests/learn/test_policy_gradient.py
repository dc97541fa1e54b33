"""Proximal policy optimisation: masks, advantages, learning, checkpoints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.learn.policy_gradient import (  # noqa: E402
    PPOSettings,
    ReturnScale,
    advantages_of,
    masked_entropy,
    masked_log_probabilities,
    train_ppo,
)
from pathloom.plan import InputError  # noqa: E402


class Corridor:
    """Walk right along five cells for a reward of 1; the left end is a wall, a step costs 0.05."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.taken_forbidden = 0
        self.seen = {"cell": np.zeros((batch, 5), np.float32), "mask": np.ones((batch, 3), dtype=bool)}

    def observe(self) -> dict[str, np.ndarray]:
        # The same arrays at every step, as fast environments do it.
        self.seen["mask"][:, 0] = self.cell > 0
        self.seen["mask"][:, 2] = False  # an action that is never allowed
        self.seen["cell"][:] = np.eye(5, dtype=np.float32)[self.cell]
        return self.seen

    def reset(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        self.cell = np.asarray(seeds) % 4
        return self.observe()

    def step(self, actions: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        allowed = self.observe()["mask"][np.arange(self.batch), actions]
        self.taken_forbidden += int((~allowed).sum())
        self.cell = self.cell + np.where(actions == 1, 1, -1)
        done = self.cell == 4
        reward = np.where(done, 1.0, -0.05)
        self.cell[done] = 0
        return self.observe(), reward, done


class Linear(torch.nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.logits = torch.nn.Linear(5, 3)
        self.value = torch.nn.Linear(5, 1)

    def forward(self, seen: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits(seen["cell"]), self.value(seen["cell"])[:, 0]


SMALL = PPOSettings(environments=8, steps=32, learning_rate=0.02, discount=0.97, updates=25)


def test_it_learns_to_walk_to_the_goal_and_never_takes_a_forbidden_action() -> None:
    environment, policy = Corridor(8), Linear()
    history = train_ppo(environment, policy, SMALL, seed=1)
    assert environment.taken_forbidden == 0
    assert len(history.updates) == 25
    # From cell 0 the goal is four steps away: 1 - 3 * 0.05.
    assert history.curve("episode_return")[-1] > 0.8 > history.curve("episode_return")[0]
    assert history.curve("episode_length")[-1] < 4.5
    probability = torch.softmax(policy({"cell": torch.eye(5)[:4]})[0][:, :2], dim=-1)[1:, 1]
    assert (probability > 0.8).all()


def test_the_same_seed_gives_the_same_training() -> None:
    first, second = Linear(), Linear()
    short = PPOSettings(environments=4, steps=8, updates=3)
    train_ppo(Corridor(4), first, short, seed=3)
    train_ppo(Corridor(4), second, short, seed=3)
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b)


def test_a_policy_that_starts_from_imitation_may_learn_the_value_alone_first() -> None:
    policy = Linear()
    before = policy.logits.weight.clone()
    train_ppo(Corridor(4), policy, PPOSettings(environments=4, steps=8, updates=2, value_only=2), seed=3)
    assert torch.equal(before, policy.logits.weight)
    train_ppo(Corridor(4), policy, PPOSettings(environments=4, steps=8, updates=3, value_only=2), seed=3)
    assert not torch.equal(before, policy.logits.weight)


def slow_advantages(
    reward: np.ndarray, value: np.ndarray, done: np.ndarray, last: float, discount: float, trace: float
) -> np.ndarray:
    """The definition: a sum of discounted one-step errors until the episode ends."""
    steps = len(reward)
    after = np.append(value[1:], last)
    error = reward + discount * after * (1 - done) - value
    out = np.zeros(steps)
    for t in range(steps):
        weight = 1.0
        for k in range(t, steps):
            out[t] += weight * error[k]
            if done[k]:
                break
            weight *= discount * trace
    return out


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_discounted_sums_of_one_step_errors(
    steps: int, seed: int, discount: float, trace: float
) -> None:
    rng = np.random.default_rng(seed)
    reward, value, last = rng.normal(size=steps), rng.normal(size=steps), rng.normal()
    done = (rng.random(steps) < 0.3).astype(float)
    column = [torch.from_numpy(each)[:, None] for each in (reward, value, done)]
    found = advantages_of(*column, torch.tensor([last], dtype=torch.float64), discount, trace)[:, 0].numpy()
    np.testing.assert_allclose(found, slow_advantages(reward, value, done, last, discount, trace), atol=1e-9)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_forbidden_actions_have_no_probability_and_no_share_in_the_entropy(actions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((3, actions)) < 0.5)
    mask[:, rng.integers(actions)] = True
    logits = torch.from_numpy(rng.normal(size=(3, actions))).requires_grad_()
    log = masked_log_probabilities(logits, mask)
    assert (log.exp()[~mask] == 0).all()
    np.testing.assert_allclose(log.exp().sum(-1).detach(), 1.0)
    entropy = masked_entropy(log, mask)
    for row in range(3):
        p = torch.softmax(logits[row][mask[row]], -1)
        assert entropy[row].item() == pytest.approx(-(p * p.log()).sum().item(), abs=1e-9)
    entropy.sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_the_scale_of_returns_is_their_standard_deviation() -> None:
    scale = ReturnScale(2, 0.0)
    rng = np.random.default_rng(0)
    rewards = rng.normal(3.0, 2.0, size=(4000, 2))
    for row in rewards:
        scale.add(row, np.zeros(2, dtype=bool))
    assert scale.deviation == pytest.approx(rewards.std(), rel=1e-3)


def test_training_that_was_stopped_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "corridor.pt"
    policy = Linear()
    train_ppo(Corridor(4), policy, PPOSettings(environments=4, steps=8, updates=4), seed=2, checkpoint=checkpoint)
    again = Linear(seed=9)
    history = train_ppo(
        Corridor(4), again, PPOSettings(environments=4, steps=8, updates=4), seed=2, checkpoint=checkpoint
    )
    assert len(history.updates) == 4
    for a, b in zip(policy.parameters(), again.parameters()):
        assert torch.equal(a, b)
    more = train_ppo(Corridor(4), again, PPOSettings(environments=4, steps=8, updates=6), seed=2, checkpoint=checkpoint)
    assert [update.number for update in more.updates] == list(range(6))
    assert more.updates[:4] == history.updates


def test_training_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from pathlib import Path
        import torch
        torch.set_num_threads(1)
        from test_policy_gradient import Corridor, Linear
        from pathloom.learn.policy_gradient import PPOSettings, train_ppo
        train_ppo(Corridor(4), Linear(), PPOSettings(environments=4, steps=8, updates=100000), seed=2,
                  checkpoint=Path(sys.argv[2]), on_update=lambda u: print(u.number, flush=True))
        """
    )
    checkpoint = tmp_path / "corridor.pt"
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(checkpoint)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 3:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    done = torch.load(checkpoint, weights_only=True)["history"]
    assert len(done) >= 4
    history = train_ppo(
        Corridor(4),
        Linear(),
        PPOSettings(environments=4, steps=8, updates=len(done) + 2),
        seed=2,
        checkpoint=checkpoint,
    )
    assert [update.number for update in history.updates] == list(range(len(done) + 2))


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "corridor.pt"
    settings = PPOSettings(environments=4, steps=8, updates=1)
    train_ppo(Corridor(4), Linear(), settings, seed=2, checkpoint=checkpoint)
    with pytest.raises(InputError, match="seed 2, expected 3"):
        train_ppo(Corridor(4), Linear(), settings, seed=3, checkpoint=checkpoint)
    with pytest.raises(InputError, match="clip"):
        other = PPOSettings(environments=4, steps=8, updates=1, clip=0.1)
        train_ppo(Corridor(4), Linear(), other, seed=2, checkpoint=checkpoint)
    wider = Linear()
    wider.value = torch.nn.Linear(5, 2)
    with pytest.raises(InputError, match="another network"):
        train_ppo(Corridor(4), wider, settings, seed=2, checkpoint=checkpoint)
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="no training checkpoint"):
        train_ppo(Corridor(4), Linear(), settings, seed=2, checkpoint=checkpoint)


def test_training_ends_when_its_time_is_spent() -> None:
    ticks = iter(range(10_000))
    settings = PPOSettings(environments=4, steps=8)
    history = train_ppo(Corridor(4), Linear(), settings, seconds=60.0, clock=lambda: float(next(ticks)))
    assert 1 <= len(history.updates) <= 60
    assert history.seconds >= 50.0
    assert history.updates[-1].learning_rate < history.updates[0].learning_rate
    with pytest.raises(InputError, match="updates"):
        train_ppo(Corridor(4), Linear(), settings)


@pytest.mark.parametrize(
    ("key", "value"), [("environments", 0), ("learning_rate", 0.0), ("trace", 1.5), ("minibatches", 10_000)]
)
def test_settings_out_of_range_are_named(key: str, value: float) -> None:
    with pytest.raises(InputError) as caught:
        PPOSettings(**{key: value})
    assert caught.value.key == key
