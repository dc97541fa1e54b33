"""A trace: which requests arrive at LLM servers, when, how long their prompts and answers are, what prompts share.

Columns rather than objects, because traces have millions of rows; simulators and policies read the same arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LONGEST = 100_000_000
"""Most tokens of a prompt or an answer that are taken for meant."""


def _none() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival.

    Attributes
    ----------
    name
        For people.
    arrival
        Shape (requests,), s, from 0 on, never falling.
    prompt, output
        Shape (requests,): tokens of the prompt and of the answer, each at least 1.
    user
        Shape (requests,): number of whom the request is from; all 0 if left out.
    priority
        Shape (requests,): 0 is normal, larger is more urgent; all 0 if left out.
    block_start, block, block_tokens
        What prompts share: the prompt of request r consists of the blocks ``block[block_start[r]:block_start[r + 1]]``
        of `block_tokens` tokens each, the last one perhaps shorter. Blocks of the same number have the same content
        and the same content before them. `block_tokens` is 0 where nothing is known; nothing is shared then.
    skipped
        Rows of the file that hold no request, such as those that failed without an answer.

    Raises
    ------
    InputError
        Names the request (from 0) and what was expected.
    """

    name: str
    arrival: Floats
    prompt: Ints
    output: Ints
    user: Ints = field(default_factory=_none)
    priority: Ints = field(default_factory=_none)
    block_start: Ints = field(default_factory=_none)
    block: Ints = field(default_factory=_none)
    block_tokens: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        count = len(self.arrival)
        for name in ("user", "priority"):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.zeros(count, np.int64))
        if not len(self.block_start):
            object.__setattr__(self, "block_start", np.zeros(count + 1, np.int64))
        for name in ("prompt", "output", "user", "priority"):
            if len(getattr(self, name)) != count:
                raise InputError(f"expected {count} values, found {len(getattr(self, name))}", key=name)
        self._expect("arrival", ~(np.isfinite(self.arrival) & (self.arrival >= 0)), "a time of at least 0 s")
        self._expect("arrival", np.diff(self.arrival, prepend=0.0) < 0, "no earlier time than that of the one before")
        for name in ("prompt", "output"):
            lengths = getattr(self, name)
            self._expect(name, (lengths < 1) | (lengths > LONGEST), f"from 1 to {LONGEST:,} tokens")
        self._expect("user", self.user < 0, "a number of at least 0")
        self._expect("priority", self.priority < 0, "a number of at least 0")
        sizes = np.diff(self.block_start)
        if len(sizes) != count or len(self.block) != self.block_start[-1] or (sizes < 0).any():
            raise InputError("does not lay out the blocks of every request", key="block_start")
        if self.block_tokens:
            whole = -(-self.prompt // self.block_tokens)
            self._expect("block", sizes != whole, f"one block for every {self.block_tokens} tokens of the prompt")
        elif len(self.block):
            raise InputError("expected a number of tokens, because blocks are given", key="block_tokens")

    def _expect(self, column: str, wrong: NDArray[np.bool_], expected: str) -> None:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(f"expected {expected}", key=f"request {row}, {column}")

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def seconds(self) -> float:
        """Time of the last arrival."""
        return float(self.arrival[-1]) if len(self) else 0.0

    @property
    def rate(self) -> float:
        """Mean number of requests a second between the first and the last."""
        spread = self.seconds - float(self.arrival[0]) if len(self) > 1 else 0.0
        return (len(self) - 1) / spread if spread > 0 else float("inf") if len(self) > 1 else 0.0

    def rows(self, chosen: Sequence[int] | NDArray[np.integer] | slice) -> Trace:
        """Some of the requests, at the times that they have."""
        picked = np.arange(len(self))[chosen]
        sizes = np.diff(self.block_start)[picked]
        start = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        where = np.repeat(self.block_start[picked] - start[:-1], sizes) + np.arange(start[-1])
        return replace(
            self,
            arrival=self.arrival[picked],
            prompt=self.prompt[picked],
            output=self.output[picked],
            user=self.user[picked],
            priority=self.priority[picked],
            block_start=start,
            block=self.block[where],
        )

    def between(self, begin: float, end: float) -> Trace:
        """The requests that arrive in [begin, end) seconds, with `begin` as the new time 0."""
        low, high = np.searchsorted(self.arrival, (begin, end))
        part = self.rows(slice(int(low), int(high)))
        return replace(part, arrival=part.arrival - begin)

    def faster(self, factor: float) -> Trace:
        """The same requests at `factor` times the rate."""
        if not (np.isfinite(factor) and factor > 0):
            raise InputError(f"expected a number above 0, found {factor:g}", key="rate")
        return replace(self, arrival=self.arrival / factor)

    def arriving(self, arrival: Floats) -> Trace:
        """The same requests, in the same order, at other times (those of `arrivals`, for example)."""
        return replace(self, arrival=np.asarray(arrival, np.float64))

    def at_once(self) -> Trace:
        """All requests at time 0: an offline job."""
        return replace(self, arrival=np.zeros(len(self)))
