"""The network: which of the competing operations starts now, or none.

Attention twice: within a row (the intervals of one job), and among the rows that want the same machine. It sees
interval variables only, and any number of jobs, operations and machines.

After Tassel et al. (ICAPS 2023), section on the policy: their width is 8 with one head (about 2,400 parameters).
Departures: width, heads and hidden units are parameters; the inputs include the slacks that `interval_environment`
shows; attention among jobs also sees those that will want the machine next.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pathloom.schedule.interval_environment import KINDS, VALUES, Observation

_WAVES = 10_000.0


@dataclass(frozen=True)
class PolicyShape:
    """Sizes of a `DispatchingPolicy`: width of an embedding, heads of each attention, units of its feed-forward part,
    and units of the two that give the logits."""

    width: int = 16
    heads: int = 2
    hidden: int = 64
    decision: int = 32

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, found {value!r}")
        if self.width % (2 * self.heads):
            raise ValueError(f"width: expected a multiple of twice the {self.heads} heads, found {self.width}")


@dataclass(frozen=True)
class Rows:
    """An `Observation` as tensors, with what gathers its rows by group and by episode.

    `group_row` (groups, most) and `legal_row` (episodes, most) are positions of rows, with masks of the same shape that
    say which are any.
    """

    kind: Tensor
    position: Tensor
    values: Tensor
    group_row: Tensor
    group_mask: Tensor
    place: Tensor
    legal_row: Tensor
    legal_mask: Tensor
    may_wait: Tensor


def rows_of(seen: Observation) -> Rows:
    """Tensors of an observation."""
    group_row, group_mask = _padded(seen.group_start)
    sizes = np.diff(seen.group_start)
    group = np.repeat(np.arange(len(sizes)), sizes)
    place = group * group_row.shape[1] + np.arange(len(group)) - seen.group_start[:-1][group]
    legal = np.flatnonzero(seen.legal)
    legal_start = np.searchsorted(legal, seen.row_start)
    index, mask = _padded(legal_start)
    return Rows(
        torch.from_numpy(seen.kind.astype(np.int64)),
        torch.from_numpy(seen.position.astype(np.float32)),
        torch.from_numpy(seen.values),
        torch.from_numpy(group_row),
        torch.from_numpy(group_mask),
        torch.from_numpy(place),
        torch.from_numpy(legal[index] if len(legal) else index),
        torch.from_numpy(mask),
        torch.from_numpy(seen.may_wait),
    )


def _padded(starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Entries of ranges as a rectangle, and which of them are any (the others are 0)."""
    sizes = np.diff(starts)
    steps = np.arange(int(sizes.max(initial=1)))
    mask = steps < sizes[:, None]
    return np.where(mask, starts[:-1, None] + steps, 0), mask


class Attention(nn.Module):
    """A transformer encoder layer, normalised first, over short padded sequences."""

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.before = nn.LayerNorm(shape.width)
        self.project = nn.Linear(shape.width, 3 * shape.width)
        self.merge = nn.Linear(shape.width, shape.width)
        self.between = nn.LayerNorm(shape.width)
        self.widen = nn.Linear(shape.width, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, shape.width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """``tokens`` (sequences, length, width); ``mask`` (sequences, length), False where there is none."""
        sequences, length, width = tokens.shape
        parts = self.project(self.before(tokens)).view(sequences, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(sequences, length, width)
        tokens = tokens + self.merge(mixed)
        return tokens + self.narrow(torch.relu(self.widen(self.between(tokens))))


class DispatchingPolicy(nn.Module):
    """Logits of the legal actions of observed episodes."""

    def __init__(self, shape: PolicyShape | None = None) -> None:
        super().__init__()
        self.shape = shape or PolicyShape()
        width = self.shape.width
        self.kind = nn.Embedding(KINDS, 2)
        self.enter = nn.Linear(VALUES + 2, width)
        self.within = Attention(self.shape)
        self.among = Attention(self.shape)
        self.leave = nn.LayerNorm(width)
        self.start = nn.Sequential(nn.Linear(width, self.shape.decision), nn.Tanh(), nn.Linear(self.shape.decision, 1))
        self.wait = nn.Sequential(nn.Linear(width, self.shape.decision), nn.Tanh(), nn.Linear(self.shape.decision, 1))
        waves = torch.exp(torch.arange(0, width, 2) * (-math.log(_WAVES) / width))
        self.waves: Tensor
        self.register_buffer("waves", waves, persistent=False)

    @property
    def parameters_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Logits of the legal rows, shape (episodes, most), -inf where there is none, and of waiting, (episodes,),
        -inf where it is not legal."""
        angles = rows.position[..., None] * self.waves
        code = torch.cat((torch.sin(angles), torch.cos(angles)), -1)
        tokens = self.enter(torch.cat((rows.values, self.kind(rows.kind)), -1)) + code
        jobs = self.within(tokens).mean(1)
        competing = self.among(jobs[rows.group_row], rows.group_mask)
        jobs = self.leave(competing.flatten(0, 1)[rows.place])
        legal = jobs[rows.legal_row]
        start = self.start(legal).squeeze(-1).masked_fill(~rows.legal_mask, -torch.inf)
        votes = self.wait(legal).squeeze(-1).masked_fill(~rows.legal_mask, 0.0)
        wait = votes.sum(1) / rows.legal_mask.sum(1)
        return start, wait.masked_fill(~rows.may_wait, -torch.inf)


def log_probabilities(start: Tensor, wait: Tensor) -> Tensor:
    """Shape (episodes, most + 1): of each legal row, then of waiting."""
    return torch.log_softmax(torch.cat((start, wait[:, None]), 1), 1)


def set_log_probability(probabilities: Tensor, wanted: Tensor) -> Tensor:
    """Shape (episodes,): log of the probability of any of the wanted actions; `wanted` is a mask like
    `log_probabilities` gives."""
    return torch.logsumexp(probabilities.masked_fill(~wanted, -torch.inf), 1)
