"""Plan files of the train world: ``plan.json`` holds a plan and its problem whole, and reads back without loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom import __version__
from pathloom.data.reading import read_text
from pathloom.plan import InputError, Objective, Plan
from pathloom.timeline import Timeline
from pathloom.worlds.train.llama import LlamaShape
from pathloom.worlds.train.problem import Reordering, TrainDecisions, TrainProblem, Workload

FORMAT = "pathloom-train-plan-1"

_TABLES = ("forward", "backward", "weight", "loss", "link", "sync_latency", "sync_seconds")
_COUNTS = ("memory", "stage_sizes", "stage_cap", "node_cap", "placement")
_NUMBERS = ("microbatches", "route_length", "source_cap")
_TIMES = ("gap", "injection_gap")
_OPTIONAL = ("placement", "sync_latency", "sync_seconds")
_INFINITY = "inf"  # JSON knows no infinity, which stands for a missing link

_ORDERS: dict[str, Any] = {"placement": np.int64, "routes": np.int64, "stages": np.int64, "after": np.int64}
_SECONDS: dict[str, Any] = {"priority": np.float64, "release": np.float64}


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as a plain dictionary; `plan_from_dict` reads it back."""
    return {
        "format": FORMAT,
        "version": __version__,
        "problem": problem_to_dict(plan.problem),
        **plan.record(),
        "decisions": _decisions_to_dict(plan.decisions),
        "timeline": plan.timeline.to_dict(),
    }


def plan_from_dict(data: Mapping[str, Any], file: str | None = None) -> Plan:
    """Read what `plan_to_dict` wrote.

    Parameters
    ----------
    file
        Name of the file, for messages.

    Raises
    ------
    InputError
        Names the file, the key and what was expected.
    """
    return _Reader(file).plan(data)


def problem_from_dict(data: Mapping[str, Any]) -> TrainProblem:
    """Read what stands under "problem" in a plan file; errors as `plan_from_dict`."""
    return _Reader(None).problem(data)


def write_plan(plan: Plan, path: Path) -> Path:
    """Write a plan file."""
    path.write_text(json.dumps(plan_to_dict(plan), default=_plain, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_plan(path: Path) -> Plan:
    """Read a plan file, gzip or not.

    Raises
    ------
    InputError
        Names the file, the line or key and what was expected.
    """
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not JSON, or truncated: {error.msg}", file=str(path), key=f"line {error.lineno}"
        ) from None
    except RecursionError:
        raise InputError("is nested too deeply for a plan", file=str(path)) from None
    return plan_from_dict(data, str(path))


def _plain(value: Any) -> Any:
    """NumPy numbers and arrays in settings and metrics, as JSON knows them."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a plan's settings and metrics hold a {type(value).__name__}, which JSON does not know")


def _numbers(array: NDArray[Any] | None) -> Any:
    """Nested lists of `array`; infinities as text, None as it is."""
    if array is None:
        return None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return np.where(np.isfinite(array), array.astype(object), _INFINITY).tolist()
    return array.tolist()


def problem_to_dict(problem: TrainProblem) -> dict[str, Any]:
    """A problem as a plain dictionary; `problem_from_dict` reads it back."""
    return {
        "name": problem.name,
        "file": problem.file,
        "nodes": list(problem.nodes),
        "locations": list(problem.locations),
        **{name: _numbers(getattr(problem, name)) for name in (*_TABLES, *_COUNTS)},
        **{name: getattr(problem, name) for name in (*_NUMBERS, *_TIMES)},
        "reordering": {entry.name: getattr(problem.reordering, entry.name) for entry in fields(Reordering)},
        "workload": None if problem.workload is None else asdict(problem.workload),
    }


def _decisions_to_dict(decisions: TrainDecisions) -> dict[str, Any]:
    arrays = {}
    for name in (*_ORDERS, *_SECONDS):
        given = getattr(decisions, name)
        arrays[name] = None if given is None else _numbers(np.asarray(given))
    return {
        **arrays,
        "strict": bool(decisions.strict),
        "split_backward": bool(decisions.split_backward),
        "chunks": int(decisions.chunks),
    }


class _Reader:
    """Reads a plan with the path of keys at hand for messages."""

    def __init__(self, file: str | None) -> None:
        self.file = file

    def wrong(self, key: str, message: str) -> InputError:
        return InputError(message, file=self.file, key=key)

    def plan(self, data: Any) -> Plan:
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            found = repr(data.get("format")) if isinstance(data, Mapping) else f"a {type(data).__name__}"
            raise self.wrong("format", f"expected '{FORMAT}', found {found:.80}")
        objective = self.part(data, "objective")
        bound = self.get(data, "bound")
        bound_by = self.get(data, "bound_by")
        return Plan(
            problem=self.problem(self.part(data, "problem")),
            decisions=self.decisions(self.part(data, "decisions")),
            timeline=self.timeline(self.part(data, "timeline")),
            objective=Objective(
                self.text(objective, "name", "objective."),
                self.number(objective, "value", "objective."),
                self.text(objective, "unit", "objective."),
                self.text(objective, "sense", "objective."),
            ),
            method=self.text(data, "method"),
            settings=dict(self.part(data, "settings")),
            seed=self.whole(data, "seed"),
            bound=None if bound is None else self.number(data, "bound"),
            bound_by=None if bound_by is None else self.text(data, "bound_by"),
            seconds=self.number(data, "seconds"),
            metrics=dict(self.part(data, "metrics")),
        )

    def get(self, data: Mapping[str, Any], key: str, prefix: str = "") -> Any:
        if key not in data:
            raise self.wrong(prefix + key, "expected this key, found none")
        return data[key]

    def part(self, data: Mapping[str, Any], key: str, prefix: str = "") -> Mapping[str, Any]:
        value = self.get(data, key, prefix)
        if not isinstance(value, Mapping):
            raise self.wrong(prefix + key, f"expected an object, found {value!r:.40}")
        return value

    def text(self, data: Mapping[str, Any], key: str, prefix: str = "") -> str:
        value = self.get(data, key, prefix)
        if not isinstance(value, str):
            raise self.wrong(prefix + key, f"expected text, found {value!r:.40}")
        return value

    def number(self, data: Mapping[str, Any], key: str, prefix: str = "") -> float:
        value = self.get(data, key, prefix)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise self.wrong(prefix + key, f"expected a number, found {value!r:.40}")
        return float(value)

    def whole(self, data: Mapping[str, Any], key: str, prefix: str = "") -> int:
        value = self.get(data, key, prefix)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(prefix + key, f"expected a whole number, found {value!r:.40}")
        return value

    def switch(self, data: Mapping[str, Any], key: str, prefix: str) -> bool:
        value = self.get(data, key, prefix)
        if not isinstance(value, bool):
            raise self.wrong(prefix + key, f"expected true or false, found {value!r:.40}")
        return value

    def names(self, data: Mapping[str, Any], key: str, prefix: str) -> tuple[str, ...]:
        value = self.get(data, key, prefix)
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise self.wrong(prefix + key, "expected a list of names")
        return tuple(value)

    def array(self, value: Any, key: str, dtype: Any) -> NDArray[Any]:
        """Nested lists as an array of `dtype`, for which no value may be rounded."""
        try:
            if np.issubdtype(dtype, np.integer):
                array = np.array(value)
                if array.size and array.dtype.kind != "i":
                    raise ValueError
                return array.astype(dtype)
            if not _only_numbers(value):
                raise ValueError
            return np.array(value, dtype=object).astype(np.float64)
        except (ValueError, TypeError, OverflowError):
            what = "whole numbers" if np.issubdtype(dtype, np.integer) else "numbers"
            raise self.wrong(key, f"expected {what} in rows of equal length") from None

    def problem(self, data: Mapping[str, Any]) -> TrainProblem:
        prefix = "problem."
        values: dict[str, Any] = {
            "name": self.text(data, "name", prefix),
            "file": self.text(data, "file", prefix),
            "nodes": self.names(data, "nodes", prefix),
            "locations": self.names(data, "locations", prefix),
        }
        for name in (*_TABLES, *_COUNTS):
            value = self.get(data, name, prefix)
            optional = value is None and name in _OPTIONAL
            dtype: Any = np.float64 if name in _TABLES else np.int64
            values[name] = None if optional else self.array(value, prefix + name, dtype)
        for name in _NUMBERS:
            values[name] = self.whole(data, name, prefix)
        for name in _TIMES:
            values[name] = self.number(data, name, prefix)
        budget = self.part(data, "reordering", prefix)
        whole = {entry.name: self.whole(budget, entry.name, "problem.reordering.") for entry in fields(Reordering)}
        try:
            return TrainProblem(**values, reordering=Reordering(**whole), workload=self.workload(data))
        except ValueError as error:
            key, _, message = str(error).partition(": ")
            raise self.wrong(prefix + key, message) from None

    def workload(self, data: Mapping[str, Any]) -> Workload | None:
        if self.get(data, "workload", "problem.") is None:  # the plan of a table of costs
            return None
        prefix = "problem.workload."
        given = self.part(data, "workload", "problem.")
        shape = self.part(given, "model", prefix)
        whole = {
            entry.name: self.whole(shape, entry.name, f"{prefix}model.")
            for entry in fields(LlamaShape)
            if entry.name != "tied"
        }
        layers = self.array(self.get(given, "stage_layers", prefix), f"{prefix}stage_layers", np.int64)
        return Workload(
            LlamaShape(**whole, tied=self.switch(shape, "tied", f"{prefix}model.")),
            tuple(layers.tolist()),
            self.whole(given, "samples", prefix),
        )

    def decisions(self, data: Mapping[str, Any]) -> TrainDecisions:
        prefix = "decisions."
        arrays: dict[str, Any] = {}
        for name, dtype in (*_ORDERS.items(), *_SECONDS.items()):
            value = self.get(data, name, prefix)
            optional = value is None and name in ("after", "priority", "release")
            arrays[name] = None if optional else self.array(value, prefix + name, dtype)
        return TrainDecisions(
            **arrays,
            strict=self.switch(data, "strict", prefix),
            split_backward=self.switch(data, "split_backward", prefix),
            chunks=self.whole(data, "chunks", prefix),
        )

    def timeline(self, data: Mapping[str, Any]) -> Timeline:
        try:
            return Timeline.from_dict(data)
        except ValueError as error:
            raise self.wrong("timeline", str(error)) from None


def _only_numbers(value: Any) -> bool:
    """Whether nested lists hold nothing but numbers and the text that stands for infinity."""
    if isinstance(value, list):
        return all(_only_numbers(entry) for entry in value)
    return value == _INFINITY or (isinstance(value, (int, float)) and not isinstance(value, bool))
