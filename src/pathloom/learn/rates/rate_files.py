"""Files of learning rates: the plan that a run follows, and the gradient norms that a run leaves behind.

A plan is a JSON object of the format "pathloom-rate-plan-1" with `plan` (`RatePlan.to_dict`) and, as far as they are
known, `made_from` and `refinement`. Norms are one of the format "pathloom-norms-1" with `optimizer`, `l1` and `l2`
(`GradientNormRecord.to_dict`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathloom.data.reading import read_text
from pathloom.learn.rates.norms import GradientNormRecord
from pathloom.learn.rates.plan import RatePlan
from pathloom.plan import InputError

PLAN_FORMAT = "pathloom-rate-plan-1"
NORMS_FORMAT = "pathloom-norms-1"


@dataclass(frozen=True)
class RecordedNorms:
    """Gradient norms of a run: the name of its optimizer and the records of both norms."""

    optimizer: str
    l1: GradientNormRecord
    l2: GradientNormRecord


def save_rate_plan(path: Path, plan: RatePlan, **more: Any) -> Path:
    """Write a plan, whole or not at all; `more` are further keys of the object (plain JSON values).

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    return _write(path, {"format": PLAN_FORMAT, "plan": plan.to_dict(), **more})


def load_rate_plan(path: Path) -> RatePlan:
    """The plan in a file that `save_rate_plan` wrote.

    Raises
    ------
    InputError
        If the file is missing, no such file, or holds values that no plan has; names the file and the key.
    """
    found = _read(path, PLAN_FORMAT, "a learning-rate plan")
    plan = found.get("plan")
    if not isinstance(plan, dict):
        raise InputError("missing; expected the plan as an object", file=str(path), key="plan")
    try:
        return RatePlan.from_dict(plan)
    except ValueError as error:
        raise _wrong(path, "plan", error) from None


def save_norms(path: Path, norms: RecordedNorms) -> Path:
    """Write the gradient norms of a run, whole or not at all; errors as `save_rate_plan`."""
    records = {"l1": norms.l1.to_dict(), "l2": norms.l2.to_dict()}
    return _write(path, {"format": NORMS_FORMAT, "optimizer": norms.optimizer, **records})


def load_norms(path: Path) -> RecordedNorms:
    """The gradient norms in a file that `save_norms` wrote; errors as `load_rate_plan`."""
    found = _read(path, NORMS_FORMAT, "the gradient norms of a run")
    if not isinstance(found.get("optimizer"), str):
        raise InputError("expected the name of the run's optimizer", file=str(path), key="optimizer")
    records = []
    for key in ("l1", "l2"):
        if not isinstance(found.get(key), Mapping):
            raise InputError("missing; expected a record of gradient norms", file=str(path), key=key)
        try:
            records.append(GradientNormRecord.from_dict(found[key]))
        except ValueError as error:
            raise _wrong(path, key, error) from None
    return RecordedNorms(found["optimizer"], *records)


def _read(path: Path, wanted: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"is no JSON: {error.msg}", file=str(path), key=f"line {error.lineno}") from None
    if not isinstance(found, dict):
        raise InputError(f"expected {what}, a JSON object", file=str(path))
    if found.get("format") != wanted:
        given = found.get("format")
        raise InputError(f"expected '{wanted}' ({what}), found {given!r:.60}", file=str(path), key="format")
    return found


def _write(path: Path, content: Mapping[str, Any]) -> Path:
    # Made as text before anything is opened: a value that JSON cannot hold leaves no trace on the disk.
    text = json.dumps(content, allow_nan=False) + "\n"
    part = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{path.name}-", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as error:
        Path(part).unlink(missing_ok=True) if part else None
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(path)) from None
    return path


def _wrong(path: Path, key: str, error: ValueError) -> InputError:
    """A ``"field: message"`` of `error` as a message about the file."""
    name, separator, message = str(error).partition(": ")
    if not separator:
        return InputError(str(error), file=str(path), key=key)
    return InputError(message, file=str(path), key=f"{key}.{name}")
