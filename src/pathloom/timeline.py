"""Timeline: spans of items on resources, the one currency of the house.

A planner produces a timeline, a simulator produces one, a real run records one. A span says that an item (a
microbatch, a job, a robot) used a resource (a node, a machine, a cell) for an activity of some kind from `start` to
`end`. Spans are stored as columns, so that a million of them cost a few tens of megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "pathloom-timeline-1"


def _positions(name: str, column: Any) -> NDArray[np.int32]:
    """`column` as int32; a value that this would change is an error, not a silently wrong resource."""
    given = np.asarray(column)
    with np.errstate(invalid="ignore"):
        whole = given.astype(np.int32)
    if given.size and not np.array_equal(whole, given):
        raise ValueError(f"column '{name}' holds values that are no positions (whole numbers from 0)")
    return np.ascontiguousarray(whole)


@dataclass(frozen=True)
class Timeline:
    """Spans of items on resources, one row a span.

    Parameters
    ----------
    resource, item, kind
        Integer columns of shape (n,): positions in `resources`, `items` and `kinds`.
    start, end
        Columns of shape (n,) in `unit`, with ``start <= end``, all finite.
    resources, items, kinds
        The names that the integer columns point to.
    unit
        Unit of time, seconds by default.
    columns
        Further columns of shape (n,), for example the stage of a span.

    Raises
    ------
    ValueError
        If the columns differ in length, point outside their names or are no whole numbers, or hold a span that ends
        before it starts.
    """

    resource: NDArray[np.int32]
    item: NDArray[np.int32]
    kind: NDArray[np.int32]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    resources: tuple[str, ...]
    items: tuple[str, ...]
    kinds: tuple[str, ...]
    unit: str = "s"
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("resource", "item", "kind"):
            object.__setattr__(self, name, _positions(name, getattr(self, name)))
        for name in ("start", "end"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        object.__setattr__(self, "columns", {k: np.ascontiguousarray(v) for k, v in self.columns.items()})
        n = len(self.start)
        sized: tuple[tuple[str, NDArray[Any]], ...] = (
            ("start", self.start),
            ("resource", self.resource),
            ("item", self.item),
            ("kind", self.kind),
            ("end", self.end),
            *self.columns.items(),
        )
        for name, column in sized:
            if column.shape != (n,):
                raise ValueError(f"column '{name}' has shape {column.shape}, expected ({n},)")
        for name, column, names in (
            ("resource", self.resource, self.resources),
            ("item", self.item, self.items),
            ("kind", self.kind, self.kinds),
        ):
            if n and (column.min() < 0 or column.max() >= len(names)):
                raise ValueError(f"column '{name}' points outside its {len(names)} names")
        if n and not (np.isfinite(self.start).all() and np.isfinite(self.end).all()):
            raise ValueError("a span starts or ends at a time that is not finite")
        if n and (self.end < self.start).any():
            row = int(np.argmax(self.end < self.start))
            raise ValueError(f"span {row} ends at {self.end[row]} before it starts at {self.start[row]}")

    def __len__(self) -> int:
        return len(self.start)

    def __eq__(self, other: object) -> bool:
        """True where names, unit and every column hold the same values in the same order."""
        if not isinstance(other, Timeline):
            return NotImplemented
        if (self.unit, self.resources, self.items, self.kinds) != (
            other.unit,
            other.resources,
            other.items,
            other.kinds,
        ) or self.columns.keys() != other.columns.keys():
            return False
        pairs = [(getattr(self, name), getattr(other, name)) for name in ("resource", "item", "kind", "start", "end")]
        pairs += [(column, other.columns[name]) for name, column in self.columns.items()]
        return all(np.array_equal(a, b, equal_nan=a.dtype.kind == b.dtype.kind == "f") for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_spans(
        cls,
        spans: Iterable[tuple[str, str, str, float, float]],
        *,
        resources: Sequence[str] = (),
        items: Sequence[str] = (),
        kinds: Sequence[str] = (),
        unit: str = "s",
    ) -> Timeline:
        """Build a timeline from (resource, item, kind, start, end) rows of names; unseen names are appended."""
        rows = list(spans)
        columns: list[list[int]] = []
        names: list[tuple[str, ...]] = []
        for position, known in enumerate((resources, items, kinds)):
            index = {name: i for i, name in enumerate(known)}
            columns.append([index.setdefault(str(row[position]), len(index)) for row in rows])
            names.append(tuple(index))
        return cls(
            np.array(columns[0], dtype=np.int32),
            np.array(columns[1], dtype=np.int32),
            np.array(columns[2], dtype=np.int32),
            np.array([row[3] for row in rows], dtype=np.float64),
            np.array([row[4] for row in rows], dtype=np.float64),
            names[0],
            names[1],
            names[2],
            unit,
        )

    @property
    def makespan(self) -> float:
        """Latest end of any span, 0 for an empty timeline."""
        return float(self.end.max()) if len(self) else 0.0

    def busy(self) -> NDArray[np.float64]:
        """Busy time per resource, shape (len(resources),)."""
        seconds = np.bincount(self.resource, weights=self.end - self.start, minlength=len(self.resources))
        return seconds.astype(np.float64)

    def rows(self, mask: NDArray[Any]) -> Timeline:
        """The timeline of the rows that `mask` (boolean or integer positions) selects."""
        return Timeline(
            self.resource[mask],
            self.item[mask],
            self.kind[mask],
            self.start[mask],
            self.end[mask],
            self.resources,
            self.items,
            self.kinds,
            self.unit,
            {name: column[mask] for name, column in self.columns.items()},
        )

    def sorted(self) -> Timeline:
        """The same spans ordered by (resource, start, end)."""
        return self.rows(np.lexsort((self.end, self.start, self.resource)))

    def overlaps(self, tolerance: float = 1e-9) -> NDArray[np.int64]:
        """Pairs of rows that use one resource at the same time for longer than `tolerance`, shape (m, 2).

        Each span is compared with the span of its resource that reaches furthest before it, so every resource that
        is used twice at once yields at least one pair.
        """
        n = len(self)
        if n < 2:
            return np.zeros((0, 2), dtype=np.int64)
        order = np.lexsort((self.end, self.start, self.resource))
        resource, start, end = self.resource[order], self.start[order], self.end[order]
        # Running maximum of `end` within each resource: whole-number keys that grow with the resource and, inside one,
        # with the rank of the end, so that one accumulate serves all resources and no time loses digits to an offset.
        ends, rank = np.unique(end, return_inverse=True)
        key = resource.astype(np.int64) * len(ends) + rank
        reach = np.maximum.accumulate(key)
        rises = np.concatenate(([True], reach[1:] > reach[:-1]))
        furthest = np.maximum.accumulate(np.where(rises, np.arange(n), 0))
        before, here = furthest[:-1], np.arange(1, n)
        shared = np.minimum(end[before], end[here]) - start[here]
        hit = (resource[before] == resource[here]) & (shared > tolerance)
        return np.stack((order[before[hit]], order[here[hit]]), axis=1).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary that `from_dict` reads back without loss."""
        return {
            "format": FORMAT,
            "unit": self.unit,
            "resources": list(self.resources),
            "items": list(self.items),
            "kinds": list(self.kinds),
            "resource": self.resource.tolist(),
            "item": self.item.tolist(),
            "kind": self.kind.tolist(),
            "start": self.start.tolist(),
            "end": self.end.tolist(),
            "columns": {name: column.tolist() for name, column in self.columns.items()},
            "dtypes": {name: column.dtype.str for name, column in self.columns.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timeline:
        """Read what `to_dict` wrote.

        Raises
        ------
        ValueError
            If the format line or a column is missing or wrong.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            found = repr(data.get("format")) if isinstance(data, Mapping) else f"a {type(data).__name__}"
            raise ValueError(f"expected a timeline with format '{FORMAT}', found {found}")
        dtypes = data.get("dtypes", {})
        try:
            for name in ("resources", "items", "kinds"):
                if not isinstance(data[name], list) or not all(isinstance(entry, str) for entry in data[name]):
                    raise ValueError(f"timeline key '{name}' is no list of names")
            return cls(
                np.array(data["resource"]),
                np.array(data["item"]),
                np.array(data["kind"]),
                np.array(data["start"], dtype=np.float64),
                np.array(data["end"], dtype=np.float64),
                tuple(data["resources"]),
                tuple(data["items"]),
                tuple(data["kinds"]),
                data.get("unit", "s"),
                {name: np.array(column, dtype=dtypes.get(name)) for name, column in data.get("columns", {}).items()},
            )
        except KeyError as error:
            raise ValueError(f"timeline lacks the key {error}") from None
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"timeline holds a column that cannot be read: {error}") from None

    def save(self, path: Path) -> None:
        """Write the timeline as JSON."""
        path.write_text(json.dumps(self.to_dict()), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Timeline:
        """Read a timeline from JSON; raises ValueError where it is none."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Comparison:
    """Several timelines of one problem side by side.

    Attributes
    ----------
    names
        One name a timeline, the first is the reference.
    makespan
        Shape (t,), in the timelines' unit.
    busy_share
        Shape (t, r): busy share of each resource until that timeline's makespan.
    kind_seconds
        Shape (t, k): total duration by kind.
    start_shift
        Shape (t,): mean absolute difference of span starts from the reference, over spans that both have
        (matched by resource, item, kind and occurrence); nan where none match.
    matched
        Shape (t,): number of matched spans.
    """

    names: tuple[str, ...]
    resources: tuple[str, ...]
    kinds: tuple[str, ...]
    makespan: NDArray[np.float64]
    busy_share: NDArray[np.float64]
    kind_seconds: NDArray[np.float64]
    start_shift: NDArray[np.float64]
    matched: NDArray[np.int64]


def _span_keys(timeline: Timeline, names: tuple[dict[str, int], ...]) -> NDArray[np.int64]:
    """One key a span, shape (n, 2): its (resource, item, kind) as one number, and which occurrence of it this is.

    `names` maps the names of all timelines to common positions. Occurrences count by start, ties by row.
    """
    code = np.zeros(len(timeline), dtype=np.int64)
    for column, own, common in zip(
        (timeline.resource, timeline.item, timeline.kind), (timeline.resources, timeline.items, timeline.kinds), names
    ):
        code = code * len(common) + np.array([common[name] for name in own], dtype=np.int64)[column]
    order = np.lexsort((timeline.start, code))
    ordered = code[order]
    position = np.arange(len(timeline))
    first = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(timeline)]
    occurrence = np.empty(len(timeline), dtype=np.int64)
    occurrence[order] = position - np.maximum.accumulate(np.where(first, position, 0))
    return np.stack((code, occurrence), axis=1)


def _start_shift(
    keys: NDArray[np.int64], start: NDArray[np.float64], other_keys: NDArray[np.int64], other: NDArray[np.float64]
) -> tuple[int, float]:
    """Number of spans with equal keys, and the mean absolute difference of their starts (nan if there are none)."""
    _, label = np.unique(np.concatenate((keys, other_keys)), axis=0, return_inverse=True)
    _, here, there = np.intersect1d(label[: len(keys)], label[len(keys) :], assume_unique=True, return_indices=True)
    shift = float(np.mean(np.abs(start[here] - other[there]))) if len(here) else float("nan")
    return len(here), shift


def compare(timelines: Mapping[str, Timeline]) -> Comparison:
    """Lay timelines of one problem over each other; the first is the reference.

    Raises
    ------
    ValueError
        If there is none, or if their units of time differ.
    """
    if not timelines:
        raise ValueError("nothing to compare")
    units = {t.unit for t in timelines.values()}
    if len(units) > 1:
        raise ValueError(f"timelines have different units of time: {', '.join(sorted(units))}")
    resources = tuple(dict.fromkeys(name for t in timelines.values() for name in t.resources))
    kinds = tuple(dict.fromkeys(name for t in timelines.values() for name in t.kinds))
    items = tuple(dict.fromkeys(name for t in timelines.values() for name in t.items))
    names = tuple({name: i for i, name in enumerate(group)} for group in (resources, items, kinds))
    n = len(timelines)
    makespan = np.zeros(n)
    busy_share = np.zeros((n, len(resources)))
    kind_seconds = np.zeros((n, len(kinds)))
    start_shift = np.full(n, np.nan)
    matched = np.zeros(n, dtype=np.int64)
    reference = next(iter(timelines.values()))
    reference_keys = _span_keys(reference, names)
    for row, timeline in enumerate(timelines.values()):
        makespan[row] = timeline.makespan
        np.add.at(
            busy_share[row],
            np.array([names[0][name] for name in timeline.resources], dtype=np.int64),
            timeline.busy() / max(timeline.makespan, 1e-300),
        )
        duration = np.bincount(timeline.kind, weights=timeline.end - timeline.start, minlength=len(timeline.kinds))
        np.add.at(kind_seconds[row], np.array([names[2][name] for name in timeline.kinds], dtype=np.int64), duration)
        keys = _span_keys(timeline, names)
        matched[row], start_shift[row] = _start_shift(keys, timeline.start, reference_keys, reference.start)
    return Comparison(tuple(timelines), resources, kinds, makespan, busy_share, kind_seconds, start_shift, matched)
