"""What a training consists of at any time, and the file from which it goes on after an interruption."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pathloom.learn.dispatching.lessons import Decisions, StudiedLesson, packed, study, unpacked
from pathloom.learn.dispatching.policy import DispatchingPolicy, PolicyShape
from pathloom.plan import InputError

STATE_VERSION = 1
AVERAGING = 0.99
"""Share of the averaged weights that a step leaves as they are."""


@dataclass
class TrainingState:
    """What a training consists of.

    Attributes
    ----------
    policy, optimizer, average, best
        The weights in training, their optimizer, their running average, and the average that was judged best.
    lessons, known
        What the teacher gave, and the decisions in it.
    used, judged
        Processor time so far, and when it was judged last (s).
    rounds, updates, steps
        Rounds of teaching whole shops, updates by expert suffixes, steps of imitation.
    best_score, history
        Of the judgements.
    """

    policy: DispatchingPolicy
    optimizer: torch.optim.Adam
    average: DispatchingPolicy
    best: dict[str, torch.Tensor]
    lessons: list[StudiedLesson] = field(default_factory=list)
    known: list[Decisions] = field(default_factory=list)
    used: float = 0.0
    rounds: int = 0
    updates: int = 0
    steps: int = 0
    judged: float = float("-inf")
    best_score: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)

    def follow(self) -> None:
        """Move the averaged weights a little; at the beginning they are the plain mean of all so far."""
        share = max(1 - AVERAGING, 1 / (self.steps + self.updates + 1))
        with torch.no_grad():
            for kept, now in zip(self.average.parameters(), self.policy.parameters(), strict=True):
                kept.lerp_(now, share)

    def remember(self, lesson: StudiedLesson) -> None:
        """Keep a lesson for imitation."""
        found = study(lesson)
        if found.count:
            self.lessons.append(lesson)
            self.known.append(found)


def fresh_state(shape: PolicyShape, rate: float, seed: int) -> TrainingState:
    """The state at the beginning."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = DispatchingPolicy(shape)
    average = DispatchingPolicy(shape)
    average.load_state_dict(policy.state_dict())
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate, eps=1e-5)
    return TrainingState(
        policy, optimizer, average, {name: value.clone() for name, value in policy.state_dict().items()}
    )


def saved_state(state: TrainingState, identity: dict[str, Any]) -> bytes:
    """The state as the bytes of a safetensors file."""
    from safetensors.torch import save

    tensors = {f"policy.{name}": value for name, value in state.policy.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for number, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in values.items()}
    tensors |= {f"lessons.{name}": torch.from_numpy(array) for name, array in packed(state.lessons).items()}
    counters = {
        name: getattr(state, name) for name in ("used", "rounds", "updates", "steps", "judged", "best_score", "history")
    }
    about = {"version": str(STATE_VERSION), "identity": json.dumps(identity), "counters": json.dumps(counters)}
    return save({name: value.detach().clone().contiguous() for name, value in tensors.items()}, metadata=about)


def restore(file: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Put a saved state into a fresh one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            about = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        found = json.loads(about.get("identity", "null"))
        if about.get("version") != str(STATE_VERSION) or found is None:
            raise InputError("is no state of a training of this version; remove it to start anew", file=str(file))
        for key, value in identity.items():
            if found.get(key) != value:
                raise InputError(
                    "is the state of an unfinished training with other settings; go on with those, or remove it",
                    file=str(file),
                    key=key,
                )

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {n.removeprefix(prefix): v.clone() for n, v in tensors.items() if n.startswith(prefix)}

        state.policy.load_state_dict(part("policy."))
        state.average.load_state_dict(part("average."))
        state.best = part("best.")
        adam: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in part("adam.").items():
            number, entry = name.split(".")
            adam.setdefault(int(number), {})[entry] = value
        state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": adam})
        lessons = unpacked({name: value.numpy() for name, value in part("lessons.").items()})
        for name, value in json.loads(about["counters"]).items():
            setattr(state, name, value)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise InputError(f"is no state of a training: {error}; remove it to start anew", file=str(file)) from None
    for lesson in lessons:
        state.remember(lesson)
