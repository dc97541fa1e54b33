"""One update of the expert-suffix method: the pupil schedules, the teacher improves its ends, the pupil learns why.

After Tassel et al. (ICAPS 2023), section on training. Each of several episodes on each of several shops is cut after
the same share of its decisions, and the teacher finishes the shop from there.

- Suffix: with A the relative improvement of the makespan, scaled to [0, 1] over the update, the teacher's decisions
  after the cut are pushed up by A and the pupil's own ones down by A.
- Prefix: the pupil's decisions before the cut are pushed down by the z-score, among the episodes of the same shop, of
  the makespan that even the teacher needs after them.

Both with the clipped objective of proximal policy optimisation, ended early when the policy has moved too far.

Departure: all operations that the teacher starts at a time are equally good answers, so that what is pushed up is the
probability of choosing any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathloom.learn.dispatching.inference import roll_out
from pathloom.learn.dispatching.lessons import Decisions, ShopSeed, StudiedLesson, wanted_mask
from pathloom.learn.dispatching.policy import DispatchingPolicy, log_probabilities, rows_of, set_log_probability
from pathloom.learn.dispatching.teacher import decisions, teach
from pathloom.schedule.interval_environment import WAIT, IntervalEnvironment, Observation

_SMALLEST = 1e-8


@dataclass(frozen=True)
class ClippedObjective:
    """Settings of `improve`: ratios are clipped to 1 +- `clip`; at most `epochs` times through the decisions in
    `batches` parts; ends when the mean divergence from the old policy is above `divergence`; weight of the prefix
    part against the suffix part."""

    clip: float = 0.3
    epochs: int = 20
    batches: int = 20
    divergence: float = 0.01
    prefix_weight: float = 0.25


@dataclass(frozen=True, eq=False)
class Attempt:
    """Decisions of an update with the advantage of each, shape (decisions,), and the lessons that they come from."""

    decisions: Decisions
    advantage: NDArray[np.float32]
    lessons: list[StudiedLesson]
    improvement: float


def attempt(
    policy: DispatchingPolicy,
    shops: Sequence[ShopSeed],
    *,
    episodes: int,
    effort: float,
    generator: np.random.Generator,
    settings: ClippedObjective,
    stop: Callable[[], bool] = lambda: False,
) -> Attempt | None:
    """Roll out, cut and let the teacher improve `episodes` episodes on each shop; None if `stop` said so."""
    environment = IntervalEnvironment([shop.make() for shop in shops], np.repeat(np.arange(len(shops)), episodes))
    count = environment.episodes
    tried = roll_out(policy, environment, temperature=np.ones(count), generator=generator, stop=stop, record=True)
    if tried is None:
        return None
    own = _own_decisions(tried.seen, tried.actions, count)
    known = [environment.schedule(e) for e in range(count)]
    made = environment.makespan
    environment.reset()
    cut = generator.random()
    reached = np.zeros(count)
    lessons: list[StudiedLesson] = []
    suffixes: list[Decisions] = []
    cuts = [int(cut * len(actions)) for actions in tried.actions]
    for e in range(count):
        if stop():
            return None
        environment.replay(e, tried.actions[e][: cuts[e]])
        lesson = teach(environment, e, effort=effort, hint=known[e])
        assert lesson is not None
        seen, wanted, _ = decisions(environment, e, lesson, generator)
        suffixes.append(Decisions(seen, wanted))
        reached[e] = lesson.makespan
        lessons.append(StudiedLesson(shops[environment.shop_of[e]], tried.actions[e][: cuts[e]], lesson))

    gain = (made - reached) / made
    scaled = gain / max(float(gain.max()), _SMALLEST)
    per_shop = reached.reshape(len(shops), episodes)
    deviation = per_shop.std(1, keepdims=True)
    score = np.where(deviation > 0, (per_shop - per_shop.mean(1, keepdims=True)) / np.maximum(deviation, 1), 0).ravel()
    parts: list[Decisions] = []
    advantages: list[NDArray] = []
    for e in range(count):
        for part, value in (
            (suffixes[e], scaled[e]),
            (own[e].select(np.arange(cuts[e], own[e].count)), -scaled[e]),
            (own[e].select(np.arange(cuts[e])), -score[e] * settings.prefix_weight),
        ):
            if part.count and value != 0:
                chosen = part.open()
                parts.append(part.select(chosen))
                advantages.append(np.full(len(chosen), value, np.float32))
    if not parts:
        return None
    return Attempt(Decisions.joined(parts), np.concatenate(advantages), lessons, float(gain.mean()))


def improve(
    policy: DispatchingPolicy,
    optimizer: torch.optim.Optimizer,
    tried: Attempt,
    *,
    generator: np.random.Generator,
    settings: ClippedObjective,
    stop: Callable[[], bool] = lambda: False,
) -> float:
    """Maximise the clipped objective; returns the mean divergence from the policy before."""
    count = tried.decisions.count
    advantage = torch.from_numpy(tried.advantage)
    with torch.no_grad():
        before = torch.cat(
            [
                _log_probability(policy, tried.decisions.select(p))
                for p in np.array_split(np.arange(count), settings.batches)
            ]
        )
    divergence = 0.0
    for _ in range(settings.epochs):
        moved: list[float] = []
        for part in np.array_split(generator.permutation(count), settings.batches):
            if not len(part) or stop():
                continue
            difference = _log_probability(policy, tried.decisions.select(part)) - before[part]
            ratio = torch.exp(difference)
            weight = advantage[part]
            clipped = torch.clamp(ratio, 1 - settings.clip, 1 + settings.clip)
            loss = -torch.minimum(ratio * weight, clipped * weight).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()
            moved.append(float((ratio - 1 - difference).detach().mean()))
        divergence = float(np.mean(moved)) if moved else divergence
        if divergence > settings.divergence or stop():
            break
    return divergence


def _log_probability(policy: DispatchingPolicy, chosen: Decisions) -> Tensor:
    rows = rows_of(chosen.seen)
    return set_log_probability(log_probabilities(*policy(rows)), wanted_mask(chosen, rows))


def _own_decisions(
    seen: Sequence[tuple[NDArray[np.int64], Observation]], actions: Sequence[NDArray[np.int64]], episodes: int
) -> list[Decisions]:
    """The pupil's decisions, one entry an episode, in order."""
    whole = Observation.joined([view for _, view in seen])
    who = np.concatenate([episodes_of for episodes_of, _ in seen])
    taken = np.empty(len(who), np.int64)
    for e in range(episodes):
        taken[who == e] = actions[e]
    per_row = np.repeat(taken, np.diff(whole.row_start))
    every = Decisions(whole, whole.legal & (whole.action == per_row) & (per_row != WAIT))
    return [every.select(np.flatnonzero(who == e)) for e in range(episodes)]
