"""Metrics of a run: one JSON object a line in ``metrics.jsonl``, and the same numbers as TensorBoard scalars.

A line is the record of an optimizer step or an event:

    {"step": 12, "loss": 2.31, "tokens": 8192, "tokens_per_second": 5200.0, "seconds": 1.57, ...}
    {"step": 20, "validation_loss": 2.4}
    {"event": "node lost", "step": 21, "node": "Iowa-1"}

``step`` counts the optimizer steps done, so the first record has 1; ``tokens`` and ``seconds`` are those of the one
step. A number that is not finite is written as null. Every line is handed to the operating system at once, so that a
run that is killed loses at most the line that it was writing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pathloom.plan import InputError

FILE = "metrics.jsonl"
SCALARS = "tensorboard"


class MetricsWriter:
    """Appends to the metrics of a run.

    Parameters
    ----------
    folder
        The run's folder, which exists.
    tensorboard
        Also write TensorBoard scalars into ``tensorboard/``. Where the packages are missing there are none, and `note`
        says so.
    resume_step
        Step that the run goes on from: records of later steps are removed, as they will be written again. Events stay,
        as they did happen. None: everything that is there stays, but for a last line that was cut off.

    Attributes
    ----------
    note
        Why there are no TensorBoard scalars although they were asked for; empty otherwise.

    Raises
    ------
    InputError
        If the file cannot be written, or holds a broken line that is not the last one.
    """

    def __init__(self, folder: Path, tensorboard: bool = True, *, resume_step: int | None = None) -> None:
        self.path = folder / FILE
        self.note = ""
        self._scalars: Any = None
        self._scalars_wanted = tensorboard
        self._stream: FileIO | None = None
        self._open(resume_step)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append the record of a step, which needs the key ``step``; its numbers become scalars.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        step = record["step"]
        self._append(record)
        if self._scalars is None:
            return
        for name, value in record.items():
            if name != "step" and isinstance(value, (int, float)) and not isinstance(value, bool):
                self._scalars.add_scalar(_tag(name), value, step)

    def event(self, what: str, **fields: Any) -> None:
        """Append something that happened, such as ``event("node lost", step=21, node="Iowa-1")``."""
        self._append({"event": what, **fields})
        if self._scalars is not None and isinstance(fields.get("step"), int):
            details = ", ".join(f"{name} {value}" for name, value in fields.items() if name != "step")
            self._scalars.add_text("events", f"{what}: {details}" if details else what, fields["step"])

    def rewind(self, step: int) -> None:
        """Remove the records beyond `step`, from where the run goes on after a fault."""
        self.close()
        self._open(step)

    def close(self) -> None:
        """Close the files; a closed writer writes no more, unless it is rewound."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._scalars is not None:
            self._scalars.close()
            self._scalars = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, resume_step: int | None) -> None:
        try:
            if self.path.exists():
                truncate_metrics(self.path, resume_step)
            self._stream = self.path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        if self._scalars_wanted:
            self._open_scalars(resume_step)

    def _open_scalars(self, resume_step: int | None) -> None:
        try:
            # Takes a second or two, and needs torch and tensorboard.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            self.note = f"no TensorBoard scalars: {error}; pip install 'pathloom[train]' brings what they need"
            self._scalars_wanted = False
            return
        # Tells TensorBoard to forget what lies at and beyond the first step that is to come.
        purge = None if resume_step is None else resume_step + 1
        folder = self.path.parent / SCALARS
        try:
            # Untyped in some versions of torch, typed in others.
            self._scalars = SummaryWriter(str(folder), purge_step=purge, flush_secs=10)  # type: ignore[no-untyped-call, unused-ignore]
        except OSError as error:
            raise _unwritable(folder, error) from None

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._stream is None:
            raise ValueError("this writer of metrics is closed")
        line = json.dumps(_finite(record), allow_nan=False).encode() + b"\n"
        try:
            size = os.fstat(self._stream.fileno()).st_size
            try:
                while line:
                    line = line[self._stream.write(line) :]
            except OSError:
                self._stream.truncate(size)  # no half line that a later one would be glued to
                raise
        except OSError as error:
            raise _unwritable(self.path, error) from None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Records and events of a ``metrics.jsonl`` (or of the run's folder that holds one), in their order.

    A last line that was cut off is left out.

    Raises
    ------
    InputError
        If the file cannot be read, or another line is no JSON object.
    """
    file = path / FILE if path.is_dir() else path
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"no such file, expected the {FILE} of a run", file=str(file)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(file)) from None
    lines = text.split(b"\n")
    whole = len(lines) - 1  # what follows the last line end is nothing, or was cut off
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError
        except ValueError:
            if number > whole or not any(rest.strip() for rest in lines[number:]):
                break
            raise InputError(
                f"expected a JSON object, found {line[:40]!r}", file=str(file), key=f"line {number}"
            ) from None
        found.append(record)
    return found


def truncate_metrics(path: Path, resume_step: int | None) -> None:
    """Remove records of steps beyond `resume_step` (none if None) and a line that was cut off, all at once or not.

    Raises
    ------
    InputError
        As `read_metrics`.
    OSError
        If the file cannot be written; it then is as it was.
    """
    kept = [record for record in read_metrics(path) if _stays(record, resume_step)]
    text = "".join(json.dumps(record) + "\n" for record in kept)
    if path.read_bytes() == text.encode():
        return
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _stays(record: Mapping[str, Any], resume_step: int | None) -> bool:
    step = record.get("step")
    return resume_step is None or "event" in record or not isinstance(step, (int, float)) or step <= resume_step


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # NumPy arrays and numbers, tensors
        return _finite(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tag(name: str) -> str:
    return f"validation/{name.removeprefix('validation_')}" if name.startswith("validation_") else f"train/{name}"


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot be written: {error.strerror or error}", file=str(path))
