"""Proximal policy optimisation with masked actions over batched environments, readable from top to bottom.

Implements J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization Algorithms" (2017):
rollouts of a batch of environments, generalised advantage estimation (Schulman et al., "High-Dimensional Continuous
Control Using Generalized Advantage Estimation", 2016), several passes of minibatches over the clipped objective, an
entropy bonus, and a stop of the passes where the new policy has moved too far (estimated Kullback-Leibler divergence).

Departures and additions:

- Actions that the environment forbids get no probability, so that they count neither in the ratio nor in the entropy.
- Rewards are divided by the running standard deviation of the discounted returns; their mean is left alone, as it
  carries meaning where episodes differ in length.
- The learning rate falls linearly with the share of the time (or of the updates) that is spent.
- A checkpoint holds all that training needs. Training that was killed goes on after the last finished update; only the
  episodes that were under way are lost, the environments start anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pathloom.plan import InputError, stop_requested

Observation = Mapping[str, NDArray[Any]]
Tensors = dict[str, Tensor]


class BatchedEnvironment(Protocol):
    """A batch of B environments that move together.

    An observation is a mapping of arrays whose first axis is B and whose shapes never change; its entry "mask",
    boolean (B, A), says which actions are allowed, at least one in each row. An environment whose episode ends starts
    its next one by itself: ``done`` is true in the step that ended it, and the observation is already the new one's.
    """

    def reset(self, seeds: NDArray[np.int64]) -> Observation:
        """Start B episodes, one a seed; all that follows is a function of the seeds and of the actions."""
        ...

    def step(self, actions: NDArray[np.int64]) -> tuple[Observation, NDArray[np.floating], NDArray[np.bool_]]:
        """Take action ``actions[b]`` in environment b: the next observation, the rewards (B,), the ends (B,)."""
        ...


@dataclass(frozen=True)
class PPOSettings:
    """Settings of `train_ppo`.

    Attributes
    ----------
    environments
        Size B of the batch, which the environment must have.
    steps
        Steps of each environment between two updates.
    passes, minibatches
        How often an update goes over its data, and in how many pieces.
    learning_rate, final_learning_rate
        Of Adam, at the beginning and at the end.
    discount, trace
        Discount of rewards, and the lambda of the advantage estimation.
    clip
        By how much the probability of an action may change before the objective stops rewarding it.
    value_weight, entropy_weight, final_entropy_weight
        Weights of the value loss and of the entropy bonus (at the beginning and at the end).
    gradient_norm
        Largest norm of the gradient.
    kl_stop
        Passes stop where the estimated divergence from the policy of the rollout is above this.
    scale_rewards
        Whether rewards are divided by the running standard deviation of the returns.
    value_only
        Number of first updates that teach the value alone, for policies that start from imitation.
    updates
        Training ends after so many updates; None for no such limit.
    """

    environments: int = 16
    steps: int = 64
    passes: int = 4
    minibatches: int = 4
    learning_rate: float = 3e-4
    final_learning_rate: float = 0.0
    discount: float = 1.0
    trace: float = 0.95
    clip: float = 0.2
    value_weight: float = 0.5
    entropy_weight: float = 0.01
    final_entropy_weight: float = 0.0
    gradient_norm: float = 0.5
    kl_stop: float = 0.03
    scale_rewards: bool = True
    value_only: int = 0
    updates: int | None = None

    def __post_init__(self) -> None:
        for name in ("environments", "steps", "passes", "minibatches"):
            if getattr(self, name) < 1:
                raise InputError(f"is {getattr(self, name)}, expected at least 1", key=name)
        for name in ("learning_rate", "clip", "gradient_norm", "kl_stop"):
            if not getattr(self, name) > 0:
                raise InputError(f"is {getattr(self, name)}, expected more than 0", key=name)
        for name in ("discount", "trace"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"is {getattr(self, name)}, expected a number from 0 to 1", key=name)
        if self.minibatches > self.environments * self.steps:
            raise InputError(f"is {self.minibatches}, more than there are samples an update", key="minibatches")


@dataclass(frozen=True)
class Update:
    """What one update did: rollout figures first, then losses.

    `episode_return` and `episode_length` are means over the episodes that ended in the rollout (nan where none did),
    in the environment's own rewards; `explained` is the share of the returns' variance that the value predicts.
    """

    number: int
    seconds: float
    samples: int
    episodes: int
    episode_return: float
    episode_length: float
    policy_loss: float
    value_loss: float
    entropy: float
    divergence: float
    clipped: float
    explained: float
    learning_rate: float


@dataclass
class History:
    """The updates of a training, those before a resumption too."""

    updates: list[Update] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Time spent, over all resumptions."""
        return self.updates[-1].seconds if self.updates else 0.0

    def curve(self, name: str) -> NDArray[np.float64]:
        """One figure of all updates, shape (updates,)."""
        return np.array([getattr(update, name) for update in self.updates], dtype=np.float64)


class ReturnScale:
    """Running variance of the discounted return of each environment (Welford's method over batches)."""

    def __init__(self, environments: int, discount: float) -> None:
        self.discount = discount
        self.running = np.zeros(environments)
        self.count, self.mean, self.squares = 1e-4, 0.0, 1e-4

    def add(self, reward: NDArray[np.floating], done: NDArray[np.bool_]) -> None:
        """Take the rewards of one step in."""
        # An undiscounted running sum grows without end in endless tasks; just below 1 it has a variance.
        self.running = self.running * min(self.discount, 0.999) + reward
        n, mean = len(self.running), float(self.running.mean())
        total, shift = self.count + n, mean - self.mean
        self.squares += float(((self.running - mean) ** 2).sum()) + shift**2 * self.count * n / total
        self.mean += shift * n / total
        self.count = total
        self.running[done] = 0.0

    @property
    def deviation(self) -> float:
        """Standard deviation so far."""
        return float(np.sqrt(self.squares / self.count) + 1e-8)


def masked_log_probabilities(logits: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities (B, A) of the allowed actions; forbidden ones get the smallest number of the type.

    Finite numbers instead of minus infinity keep products with zero probabilities, and their gradients, finite.
    """
    return torch.log_softmax(logits.masked_fill(~mask, torch.finfo(logits.dtype).min), dim=-1)


def masked_entropy(log_probabilities: Tensor, mask: Tensor) -> Tensor:
    """Entropy (B,) in nats over the allowed actions."""
    return -(log_probabilities.exp() * log_probabilities).masked_fill(~mask, 0.0).sum(-1)


def tensors_of(observation: Observation) -> Tensors:
    """Copies of the observation's arrays as tensors: environments may write their next one into the same arrays."""
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in observation.items()}


def advantages_of(
    reward: Tensor, value: Tensor, done: Tensor, last_value: Tensor, discount: float, trace: float
) -> Tensor:
    """Generalised advantage estimates, shape (T, B).

    Parameters
    ----------
    reward, value
        Shape (T, B): rewards, and values of the states in which the actions were taken.
    done
        Shape (T, B): whether the episode ended with the step.
    last_value
        Shape (B,): value of the state after the last step.
    """
    advantage, following, after = torch.empty_like(reward), torch.zeros_like(last_value), last_value
    for t in range(len(reward) - 1, -1, -1):
        goes_on = 1.0 - done[t]
        error = reward[t] + discount * after * goes_on - value[t]
        following = error + discount * trace * goes_on * following
        advantage[t], after = following, value[t]
    return advantage


def train_ppo(
    environment: BatchedEnvironment,
    policy: nn.Module,
    settings: PPOSettings,
    *,
    seed: int = 0,
    seconds: float = float("inf"),
    on_update: Callable[[Update], None] | None = None,
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> History:
    """Train `policy` in place and return what happened.

    Parameters
    ----------
    environment
        See `BatchedEnvironment`.
    policy
        Maps tensors of an observation to (logits (B, A), value (B,)).
    settings
        See `PPOSettings`.
    seed
        Of the environments, of the sampled actions and of the minibatches.
    seconds
        Time to train for by `clock`, over all resumptions; the update under way is finished. Ctrl-C ends it as well.
    on_update
        Called after every update.
    checkpoint
        File that is written, whole or not at all, after every update, and that training goes on from if it exists.
    clock
        What counts as time; ``time.process_time`` where a machine is shared.

    Raises
    ------
    InputError
        If the checkpoint cannot be read or belongs to another network, seed or settings; if neither `seconds` nor
        `settings.updates` ends the training.
    """
    if seconds == float("inf") and settings.updates is None:
        raise InputError("needs seconds or a number of updates to end", key="updates")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate, eps=1e-5)
    scale = ReturnScale(settings.environments, settings.discount)
    history = History()
    if checkpoint is not None and checkpoint.exists():
        _load(checkpoint, policy, optimizer, generator, scale, history, settings, seed)
    spent, began = history.seconds, clock()

    def elapsed() -> float:
        return spent + clock() - began

    def share() -> float:
        by_time = elapsed() / seconds if seconds > 0 else 1.0
        return min(1.0, max(by_time, len(history.updates) / settings.updates if settings.updates else 0.0))

    first_seed = np.random.SeedSequence([seed, len(history.updates)]).generate_state(settings.environments)
    observation = tensors_of(environment.reset(first_seed.astype(np.int64)))
    returns, lengths = np.zeros(settings.environments), np.zeros(settings.environments)
    while share() < 1.0 and not stop_requested():
        # Rollout: T steps of B environments with the present policy.
        seen: list[Tensors] = []
        chosen, log_chosen, values, rewards, ends = [], [], [], [], []
        finished: list[tuple[float, float]] = []
        policy.eval()
        for _ in range(settings.steps):
            with torch.no_grad():
                logits, value = policy(observation)
                log_probabilities = masked_log_probabilities(logits, observation["mask"])
                action = torch.multinomial(log_probabilities.exp(), 1, generator=generator)
            following, reward, done = environment.step(action[:, 0].numpy())
            scale.add(reward, done)
            returns += reward
            lengths += 1
            finished += list(zip(returns[done].tolist(), lengths[done].tolist(), strict=True))
            returns[done], lengths[done] = 0.0, 0.0
            seen.append(observation)
            chosen.append(action[:, 0])
            log_chosen.append(log_probabilities.gather(1, action)[:, 0])
            values.append(value)
            rewards.append(torch.from_numpy(np.array(reward, dtype=np.float32)))
            ends.append(torch.from_numpy(done.astype(np.float32)))
            observation = tensors_of(following)
        with torch.no_grad():
            last_value = policy(observation)[1]
        unit = scale.deviation if settings.scale_rewards else 1.0
        value_before = torch.stack(values)
        advantage = advantages_of(
            torch.stack(rewards) / unit,
            value_before,
            torch.stack(ends),
            last_value,
            settings.discount,
            settings.trace,
        )
        target = (advantage + value_before).flatten()
        flat = {name: torch.stack([each[name] for each in seen]).flatten(0, 1) for name in seen[0]}
        action_taken, log_before = torch.cat(chosen), torch.cat(log_chosen)
        advantage = advantage.flatten()

        # Update: several passes over the samples in random minibatches.
        done_share = share()
        rate = settings.learning_rate + (settings.final_learning_rate - settings.learning_rate) * done_share
        entropy_weight = (
            settings.entropy_weight + (settings.final_entropy_weight - settings.entropy_weight) * done_share
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        policy.train()
        figures: list[tuple[float, float, float, float, float]] = []
        policy_weight = 0.0 if len(history.updates) < settings.value_only else 1.0
        for _ in range(settings.passes):
            order = torch.randperm(len(target), generator=generator)
            for rows in order.chunk(settings.minibatches):
                part = {name: array[rows] for name, array in flat.items()}
                logits, value = policy(part)
                log_probabilities = masked_log_probabilities(logits, part["mask"])
                change = log_probabilities.gather(1, action_taken[rows, None])[:, 0] - log_before[rows]
                ratio = change.exp()
                gain = advantage[rows]
                gain = (gain - gain.mean()) / (gain.std(unbiased=False) + 1e-8)
                clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
                policy_loss = -torch.minimum(ratio * gain, clipped * gain).mean()
                value_loss = 0.5 * (value - target[rows]).square().mean()
                entropy = masked_entropy(log_probabilities, part["mask"]).mean()
                loss = policy_weight * (policy_loss - entropy_weight * entropy) + settings.value_weight * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(policy.parameters(), settings.gradient_norm)
                optimizer.step()
                with torch.no_grad():
                    divergence = (ratio - 1 - change).mean().item()  # low-variance estimate, never negative
                    beyond = ((ratio - 1).abs() > settings.clip).float().mean().item()
                figures.append((policy_loss.item(), value_loss.item(), entropy.item(), divergence, beyond))
            if policy_weight and figures[-1][3] > settings.kl_stop:
                break
        mean = np.mean(figures, axis=0)
        spread = float(target.var(unbiased=False))
        missed = float((target - value_before.flatten()).var(unbiased=False))
        update = Update(
            number=len(history.updates),
            seconds=elapsed(),
            samples=len(target),
            episodes=len(finished),
            episode_return=float(np.mean([each[0] for each in finished])) if finished else float("nan"),
            episode_length=float(np.mean([each[1] for each in finished])) if finished else float("nan"),
            policy_loss=float(mean[0]),
            value_loss=float(mean[1]),
            entropy=float(mean[2]),
            divergence=figures[-1][3],
            clipped=float(mean[4]),
            explained=1.0 - missed / spread if spread > 0 else float("nan"),
            learning_rate=rate,
        )
        history.updates.append(update)
        if checkpoint is not None:
            _save(checkpoint, policy, optimizer, generator, scale, history, settings, seed)
        if on_update is not None:
            on_update(update)
    policy.eval()
    return history


def _save(
    path: Path,
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    scale: ReturnScale,
    history: History,
    settings: PPOSettings,
    seed: int,
) -> None:
    state = {
        "policy": policy.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "scale": [scale.count, scale.mean, scale.squares],
        "history": [asdict(update) for update in history.updates],
        "settings": asdict(settings),
        "seed": seed,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _load(
    path: Path,
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    scale: ReturnScale,
    history: History,
    settings: PPOSettings,
    seed: int,
) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved: Sequence[Mapping[str, Any]] = state["history"]
        made_with, of_seed = dict(state["settings"]), state["seed"]
    except Exception as error:  # torch.load raises errors of many unrelated types
        raise InputError(f"is no training checkpoint ({error})", file=str(path)) from None
    if of_seed != seed:
        raise InputError(f"was made with seed {of_seed}, expected {seed}", file=str(path), key="seed")
    # A longer training may take up a shorter one; everything else is to stay as it was.
    for name in (each.name for each in fields(PPOSettings) if each.name != "updates"):
        if made_with.get(name) != getattr(settings, name):
            raise InputError(
                f"was made with {made_with.get(name)}, expected {getattr(settings, name)}", file=str(path), key=name
            )
    try:
        policy.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"belongs to another network ({first})", file=str(path)) from None
    generator.set_state(state["generator"])
    scale.count, scale.mean, scale.squares = state["scale"]
    history.updates = [Update(**row) for row in saved]
