"""Random numbers inside compiled searches, from a state that lies in an array."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def uniform(random: NDArray[np.uint64]) -> float:
    """A float in [0, 1) from the xorshift* generator (Vigna 2016) with state `random`, shape (1,), not 0."""
    x = random[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    random[0] = x
    return float((x * np.uint64(2685821657736338717)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
