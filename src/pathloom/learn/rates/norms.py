"""Gradient norms of a run in constant memory: medians over spans of steps that grow with the run.

A row holds a few equally weighted norms of consecutive steps. When the table of rows is full, neighbouring rows are
merged two by two: their norms are sorted together and every two neighbours in that order become their mean. The median
of a row therefore stays close to that of all its steps, and single outliers stay at the row's upper end instead of
leaking into it, as they would if rows held means (the idea of the compactors of Karnin, Lang, Liberty: "Optimal
Quantile Approximation in Streams", 2016, without the randomness). Rows of later steps are merged to the same length
before they enter the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Row:
    """`values` of the steps from `first` to `last`; in the order of the steps as long as the row was never merged."""

    first: int
    last: int
    values: tuple[float, ...]

    def merged(self, later: _Row) -> _Row:
        both = sorted(self.values + later.values)
        halved = tuple(0.5 * (a + b) for a, b in zip(both[::2], both[1::2], strict=True))
        return _Row(self.first, later.last, halved)


class GradientNormRecord:
    """Streaming record of the norm of the gradient, taken before clipping, for
    `pathloom.learn.rates.refinement.refine`.

    Up to ``capacity * width`` norms are kept as they came; from then on the record has between ``capacity / 2`` and
    `capacity` rows of equal length, whatever the length of the run.

    Parameters
    ----------
    capacity
        Rows of the table, an even number of at least 2.
    width
        Norms a row, an even number of at least 2.

    Attributes
    ----------
    count
        Norms taken in.
    dropped
        Infinite and undefined norms (overflows of mixed precision), which are left out.
    repeated
        Norms of steps that were recorded before (a run that went back to a checkpoint); the first ones stay.
    last_step
        Latest step taken in, -1 before the first.
    """

    def __init__(self, capacity: int = 1024, width: int = 8) -> None:
        for name, value in (("capacity", capacity), ("width", width)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 2 or value % 2:
                raise ValueError(f"{name}: expected an even number of at least 2, found {value!r}")
        self.capacity, self.width = capacity, width
        self.count = self.dropped = self.repeated = 0
        self.last_step = -1
        self._rows: list[_Row] = []
        self._level = 0  # rows of the table cover width * 2**level norms
        self._waiting: list[_Row | None] = []  # at place i a row of width * 2**i norms that waits for its neighbour
        self._steps: list[int] = []
        self._norms: list[float] = []

    def add(self, step: int, norm: float) -> None:
        """Take in the norm of one step; steps come in rising order, some may be left out.

        Raises
        ------
        ValueError
            For a negative norm.
        """
        norm = float(norm)
        if step <= self.last_step:
            self.repeated += 1
            return
        if not math.isfinite(norm):
            self.dropped += 1
            return
        if norm < 0:
            raise ValueError(f"norm: expected a number of at least 0, found {norm!r}")
        self.last_step = int(step)
        self.count += 1
        self._steps.append(int(step))
        self._norms.append(norm)
        if len(self._norms) == self.width:
            self._enter(_Row(self._steps[0], self._steps[-1], tuple(self._norms)))
            self._steps, self._norms = [], []

    def _enter(self, row: _Row) -> None:
        """Merge `row` with those that wait, as in adding 1 to a binary number, until it fits the table."""
        for place in range(self._level):
            waiting = self._waiting[place]
            if waiting is None:
                self._waiting[place] = row
                return
            self._waiting[place] = None
            row = waiting.merged(row)
        self._rows.append(row)
        if len(self._rows) == self.capacity:
            self._rows = [a.merged(b) for a, b in zip(self._rows[::2], self._rows[1::2], strict=True)]
            self._level += 1
            self._waiting.append(None)

    def points(self) -> tuple[Array, Array]:
        """Steps and norms that are known, in rising order of steps: single norms at first, later a median per row."""
        steps, norms = [], []
        # Behind the table come the rows that wait, the longest (earliest) first, and the norms of no row yet.
        rows = [*self._rows, *(row for row in reversed(self._waiting) if row is not None)]
        if rows:
            ends = np.array([(row.first, row.last) for row in rows], dtype=np.float64)
            values = np.array([row.values for row in rows])
            if self._level == 0:
                # Exact unless steps were left out within the row; which ones is not kept.
                steps.append(np.linspace(ends[:, 0], ends[:, 1], self.width, axis=1).ravel())
                norms.append(values.ravel())
            else:
                steps.append(ends.mean(axis=1))
                norms.append(np.median(values, axis=1))
        if self._norms:
            if self._level == 0:
                steps.append(np.array(self._steps, dtype=np.float64))
                norms.append(np.array(self._norms))
            else:
                steps.append(np.array([np.mean(self._steps)]))
                norms.append(np.array([np.median(self._norms)]))
        return (np.concatenate(steps), np.concatenate(norms)) if steps else (np.empty(0), np.empty(0))

    def curve(self, n: int) -> tuple[Array, Array]:
        """The norms on an even grid.

        Where several known norms fall to one point of the grid it gets their median, where none does the straight line
        between the neighbours.

        Returns
        -------
        tuple
            u ``(n,)`` from 0 (step 0) to 1 (`last_step`) and the norms there ``(n,)``.

        Raises
        ------
        ValueError
            If `n` is less than 2 or the record is empty.
        """
        if n < 2:
            raise ValueError(f"n: expected at least 2 points, found {n}")
        steps, norms = self.points()
        if not len(steps):
            raise ValueError("the record holds no gradient norms")
        return on_grid(steps / max(self.last_step, 1), norms, n)

    def scatter(self) -> float:
        """How far norms of neighbouring steps lie apart; see `scatter`."""
        rows = [row.values for row in (*self._rows, *self._waiting) if row is not None]
        return scatter(np.array(rows).reshape(-1, self.width))

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values, from which recording can go on."""

        def plain(row: _Row | None) -> list[Any] | None:
            return None if row is None else [row.first, row.last, list(row.values)]

        return {
            "capacity": self.capacity,
            "width": self.width,
            "count": self.count,
            "dropped": self.dropped,
            "repeated": self.repeated,
            "last_step": self.last_step,
            "rows": [plain(row) for row in self._rows],
            "waiting": [plain(row) for row in self._waiting],
            "open": [[step, norm] for step, norm in zip(self._steps, self._norms, strict=True)],
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> GradientNormRecord:
        """The record that `to_dict` wrote.

        Raises
        ------
        ValueError
            For missing keys or values that no record has: ``"key: what was expected"``.
        """
        for key in ("capacity", "width", "count", "dropped", "repeated", "last_step", "rows", "waiting", "open"):
            if key not in given:
                raise ValueError(f"{key}: missing")
        record = cls(given["capacity"], given["width"])
        for key in ("count", "dropped", "repeated", "last_step"):
            value = given[key]
            if isinstance(value, bool) or not isinstance(value, int) or value < (-1 if key == "last_step" else 0):
                raise ValueError(f"{key}: expected a whole number, found {value!r}")
            setattr(record, key, value)
        rows = [_row(row, "rows", record.width) for row in _list(given["rows"], "rows")]
        waiting = [
            None if row is None else _row(row, "waiting", record.width) for row in _list(given["waiting"], "waiting")
        ]
        pairs = [_pair(pair) for pair in _list(given["open"], "open")]
        if len(rows) >= record.capacity:
            raise ValueError(f"rows: expected fewer than {record.capacity}, found {len(rows)}")
        if len(pairs) >= record.width:
            raise ValueError(f"open: expected fewer than {record.width}, found {len(pairs)}")
        record._rows, record._waiting, record._level = rows, waiting, len(waiting)
        record._steps, record._norms = [step for step, _ in pairs], [norm for _, norm in pairs]
        ends = [end for row in (*rows, *reversed(waiting)) if row is not None for end in (row.first, row.last)]
        ends += [step for step in record._steps for _ in range(2)]
        if any(a > b for a, b in pairwise(ends)) or (ends and ends[-1] != record.last_step):
            raise ValueError("rows: the steps do not rise up to last_step")
        return record


def scatter(rows: Array) -> float:
    """Median of ``|log(norm / median of its row)|`` over rows of norms of neighbouring steps ``(n, width)``.

    0 for equal norms; 0.1 to 0.3 where batches see much the same loss; above 0.5 where most batches have next to no
    gradient and a few have a large one. Of rows of 8 it comes out a sixth lower than of long ones. Norms of zero, whose
    logarithm says nothing, are left out.
    """
    middle = np.broadcast_to(np.median(rows, axis=1, keepdims=True), rows.shape) if len(rows) else rows
    told = (rows > 0) & (middle > 0)
    return float(np.median(np.abs(np.log(rows[told] / middle[told])))) if told.any() else 0.0


def on_grid(u: Array, values: Array, n: int) -> tuple[Array, Array]:
    """Medians of `values` at the places `u` (rising, in [0, 1]) on an even grid of `n` points; see `curve`."""
    grid = np.linspace(0.0, 1.0, n)
    if len(u) < n:
        return grid, np.interp(grid, u, values)
    node = np.rint(u * (n - 1)).astype(np.int64)
    order = np.lexsort((values, node))
    start = np.flatnonzero(np.diff(node, prepend=-1))
    size = np.diff(start, append=len(node))
    sorted_values = values[order]
    median = 0.5 * (sorted_values[start + (size - 1) // 2] + sorted_values[start + size // 2])
    return grid, np.interp(grid, np.add.reduceat(u, start) / size, median)


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{key}: expected a list, found {value!r:.60}")
    return value


def _is_norm(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _row(value: Any, key: str, width: int) -> _Row:
    match value:
        case [first, last, [*norms]] if _is_step(first) and _is_step(last) and len(norms) == width:
            if first <= last and all(_is_norm(norm) for norm in norms):
                return _Row(first, last, tuple(float(norm) for norm in norms))
    raise ValueError(f"{key}: expected [first step, last step, [{width} norms]], found {value!r:.60}")


def _pair(value: Any) -> tuple[int, float]:
    match value:
        case [step, norm] if _is_step(step) and _is_norm(norm):
            return step, float(norm)
    raise ValueError(f"open: expected [step, norm], found {value!r:.60}")
