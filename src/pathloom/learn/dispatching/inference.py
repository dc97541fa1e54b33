"""Schedules by a policy: one greedy pass, or the best of many sampled ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathloom.learn.dispatching.policy import DispatchingPolicy, Rows, rows_of
from pathloom.schedule.interval_environment import WAIT, IntervalEnvironment, Observation
from pathloom.schedule.shops import FlexibleShop, Ints, JobShop

COOLEST, HOTTEST = 0.05, 0.75
"""Temperatures of the samples of `best_of` are spread evenly between these. Tassel et al. take 0.5 to 2; a policy that
has learned sets of equally good answers spreads its probability more, and wants cooler samples."""

CAUTION = 1.0
"""How much more the logits have to speak for waiting than for starting something, before a finished policy waits: a
wait too many costs more than one too few, because what was learned from good schedules is not where a bad one leads.
Chosen on generated shops."""


@dataclass(frozen=True, eq=False)
class Dispatched:
    """A schedule of a shop: makespan, and per operation its start and its alternative (the shop's own number; in a
    job shop that of the operation)."""

    makespan: int
    start: Ints
    alternative: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Episodes:
    """Decisions of finished episodes.

    Attributes
    ----------
    actions
        What each episode did, in order.
    seen
        If asked for: what was seen before each round of decisions, and which episodes decided in it.
    """

    actions: list[Ints]
    seen: list[tuple[Ints, Observation]]


def roll_out(
    policy: DispatchingPolicy,
    environment: IntervalEnvironment,
    *,
    temperature: Sequence[float] | NDArray[np.floating] | None = None,
    generator: np.random.Generator | None = None,
    caution: float = 0.0,
    stop: Callable[[], bool] | None = None,
    record: bool = False,
) -> Episodes | None:
    """Let the policy finish all episodes of the environment.

    Parameters
    ----------
    temperature
        Shape (episodes,): divides the logits before sampling, first whether to wait, then what to start; 0 takes what
        is likelier. All 0 if left out.
    generator
        Source of the samples; needed where a temperature is above 0.
    caution
        Taken off the logit of waiting.
    stop
        Asked before every decision; when it says so, the episodes are left as they are and the answer is None.
    record
        Whether to keep the observations.
    """
    heat = np.zeros(environment.episodes) if temperature is None else np.asarray(temperature, np.float64)
    if (heat > 0).any() and generator is None:
        raise ValueError("generator: expected one, because a temperature is above 0")
    taken: list[list[int]] = [[] for _ in range(environment.episodes)]
    kept: list[tuple[Ints, Observation]] = []
    with torch.inference_mode():
        while len(active := environment.active):
            if stop is not None and stop():
                return None
            seen = environment.observe(active)
            actions = choose(policy, seen, heat[active], generator, caution)
            environment.step(actions, active)
            if record:
                kept.append((active, seen))
            for episode, action in zip(active.tolist(), actions.tolist(), strict=True):
                taken[episode].append(action)
    return Episodes([np.array(actions, np.int64) for actions in taken], kept)


def choose(
    policy: Callable[[Rows], tuple[Tensor, Tensor]],
    seen: Observation,
    temperature: NDArray[np.floating],
    generator: np.random.Generator | None,
    caution: float = 0.0,
) -> Ints:
    """One action for each observed episode; see `roll_out`. `policy` gives logits as `DispatchingPolicy` does."""
    rows = rows_of(seen)
    start, wait = policy(rows)
    logits = start.numpy().astype(np.float64)
    # The policy has learned sets of equally good answers: however many operations share the probability of starting
    # one, waiting has to be likelier than all of them together.
    margin = (wait - torch.logsumexp(start, 1)).numpy().astype(np.float64) - caution
    hot = temperature > 0
    if hot.any():
        assert generator is not None
        heat = temperature[hot]
        # The largest of logits with Gumbel noise is a sample of their softmax; for two, logistic noise on the
        # difference does the same.
        logits[hot] = logits[hot] / heat[:, None] + generator.gumbel(size=(int(hot.sum()), logits.shape[1]))
        margin[hot] = margin[hot] / heat + generator.logistic(size=int(hot.sum()))
    row = rows.legal_row.numpy()[np.arange(len(logits)), logits.argmax(1)]
    return np.where(margin > 0, WAIT, seen.action[row])


def greedy(policy: DispatchingPolicy, shops: Sequence[JobShop | FlexibleShop]) -> list[Dispatched]:
    """One pass over each shop with the likelier decisions, all shops in one batch."""
    environment = IntervalEnvironment(shops)
    roll_out(policy, environment, caution=CAUTION)
    return [_dispatched(environment, episode) for episode in range(len(shops))]


def best_of(
    policy: DispatchingPolicy,
    shop: JobShop | FlexibleShop,
    samples: int = 32,
    *,
    seed: int = 0,
    stop: Callable[[], bool] | None = None,
) -> Dispatched | None:
    """The best of `samples` passes in one batch, the first of them greedy; None if `stop` ended them.

    The other ones sample with temperatures from `COOLEST` to `HOTTEST`.
    """
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, found {samples}")
    environment = IntervalEnvironment([shop], np.zeros(samples, np.int64))
    heat = np.concatenate(([0.0], np.linspace(COOLEST, HOTTEST, samples - 1)))
    generator = np.random.default_rng(seed)
    if roll_out(policy, environment, temperature=heat, generator=generator, caution=CAUTION, stop=stop) is None:
        return None
    return _dispatched(environment, int(environment.makespan.argmin()))


def _dispatched(environment: IntervalEnvironment, episode: int) -> Dispatched:
    start, alternative = environment.schedule(episode)
    return Dispatched(int(environment.makespan[episode]), start, alternative)
