"""Windows of a token array in a random order that is a pure function of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDS = 4
_WORD = (1 << 64) - 1


class Windows:
    """Windows of a token array in a seeded random order, each a pure function of its number.

    Window k of the array covers the tokens from ``k * context`` on: ``context`` inputs and one more, so that the next
    tokens of all inputs are there. The inputs of different windows do not overlap. Number i = epoch * len + j is the
    j-th window of that epoch's permutation; who has used n windows goes on with number n.

    The permutation is a small cipher on 0 .. len - 1, so that it needs no memory, costs the same at any number, and
    does not depend on a library's random stream: generalised Feistel rounds over a grid of a * b cells, and cells
    outside the range are sent on until they fall into it (J. Black, P. Rogaway, "Ciphers with Arbitrary Finite
    Domains", 2002, sections 3 and 4). The rounds' functions are a 64-bit mixer, which scatters well and hides nothing.

    Parameters
    ----------
    tokens
        Ids, ``(n,)``, any integer type.
    context
        Inputs a window.
    seed
        Seed of the order, at least 0.

    Raises
    ------
    ValueError
        If `context` is below 1, `seed` below 0, or the array shorter than one window.
    """

    def __init__(self, tokens: npt.NDArray[Any], context: int, seed: int = 0) -> None:
        if context < 1:
            raise ValueError(f"context: expected at least 1, found {context}")
        if seed < 0:
            raise ValueError(f"seed: expected at least 0, found {seed}")
        if len(tokens) < context + 1:
            raise ValueError(f"tokens: expected at least context + 1 = {context + 1}, found {len(tokens)}")
        self.tokens, self.context, self.seed = tokens, context, seed
        self._count = (len(tokens) - 1) // context
        self._a = max(1, int(np.ceil(np.sqrt(self._count))))
        self._b = -(-self._count // self._a)

    def __len__(self) -> int:
        return self._count

    def place(self, number: int) -> int:
        """Which window of the array window `number` of the random order is, from 0 to len - 1."""
        if number < 0:
            raise IndexError(f"window {number}: expected at least 0")
        epoch, cell = divmod(number, self._count)
        key = _mixed(_mixed(self.seed) ^ epoch)
        while True:
            left, right = divmod(cell, self._b)
            for turn in range(0, 2 * _ROUNDS, 2):
                left = (left + _mixed(key ^ (turn << 48) ^ right)) % self._a
                right = (right + _mixed(key ^ (turn + 1 << 48) ^ left)) % self._b
            cell = left * self._b + right
            if cell < self._count:
                return cell

    def window(self, number: int) -> npt.NDArray[np.int64]:
        """Window `number` of the random order: ``(context + 1,)`` ids."""
        start = self.place(number) * self.context
        return np.asarray(self.tokens[start : start + self.context + 1], np.int64)

    def batch(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Windows `first` to ``first + count - 1``: ``(count, context + 1)`` ids."""
        return np.stack([self.window(number) for number in range(first, first + count)])


def _mixed(value: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, 2014) on the 64-bit word of `value`."""
    word = (value + 0x9E3779B97F4A7C15) & _WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31
