"""Shards of a checkpoint: one safetensors file holds a part of the model with its optimizer state and random state.

Parameters stand in it under their own names, optimizer state under ``optimizer/KEY/NAME``, everything else as JSON in
the file's metadata. The file's name ends in the start of its checksum, so that a step that is saved a second time does
not touch the files of the first.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathloom.plan import InputError

if TYPE_CHECKING:
    from torch import Tensor

STATE_PREFIX = "optimizer/"
"""No parameter of a Hugging Face model has a slash in its name."""

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


class CheckpointFailed(InputError):
    """A checkpoint could not be saved (disk full, no right to write); earlier checkpoints are as they were."""


@dataclass(frozen=True)
class ShardRecord:
    """A shard that stands on disk.

    Attributes
    ----------
    part
        Number of the part of the model.
    file
        Name of the file in the step's folder.
    bytes, checksum
        Its size, and the SHA-256 of its content in hexadecimal digits.
    names
        Names of the parameters in it.
    """

    part: int
    file: str
    bytes: int
    checksum: str
    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for a message or for ``checkpoint.json``."""
        return {**asdict(self), "names": list(self.names)}

    @classmethod
    def from_dict(cls, data: Any) -> ShardRecord:
        """Read what `to_dict` gave.

        Raises
        ------
        ValueError
            If an entry is missing, or is not what it should be.
        """
        try:
            found = cls(data["part"], data["file"], data["bytes"], data["checksum"], tuple(data["names"]))
        except (KeyError, TypeError):
            raise ValueError("expected part, file, bytes, checksum and names of each shard") from None
        whole = all(isinstance(number, int) for number in (found.part, found.bytes))
        text = all(isinstance(entry, str) for entry in (found.file, found.checksum, *found.names))
        if not (whole and text and found.file == Path(found.file).name):
            raise ValueError("expected part and bytes as whole numbers, and file as a name without a folder")
        return found


def write_tensors(
    target: Path,
    part: int,
    parameters: Mapping[str, Tensor],
    optimizer: Mapping[str, Mapping[str, Tensor]],
    extra: Mapping[str, Any],
) -> ShardRecord:
    """Write a shard into the folder `target`; see `pathloom.worlds.train.runtime.checkpoint.write_shard`."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    unknown = sorted(set(optimizer) - set(parameters))
    if unknown:
        raise ValueError(f"optimizer: holds a state of {unknown[0]!r}, which is no parameter of part {part}")
    wrong = next((name for name in parameters if "/" in name), None)
    if wrong is not None:
        raise ValueError(f"parameters: the name {wrong!r} holds a slash")
    tensors = dict(parameters)
    for name, state in optimizer.items():
        tensors.update({f"{STATE_PREFIX}{key}/{name}": tensor for key, tensor in state.items()})
    tensors = _apart({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    header = {"format": "pt", "part": str(part), "extra": json.dumps(encoded(extra))}
    scratch = target / f".part-{part:05d}.{os.getpid()}.tmp"
    try:
        target.mkdir(parents=True, exist_ok=True)
        scratch.touch()
        mode = scratch.stat().st_mode
        save_file(tensors, scratch, header)
        # The library puts a private file of its own in place of the one that was there.
        scratch.chmod(mode)
        with scratch.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        file = target / f"part-{part:05d}-{checksum[:12]}.safetensors"
        size = scratch.stat().st_size
        os.replace(scratch, file)
        _sync_folder(target)
    except (OSError, SafetensorError) as error:
        raise saving_failed(target / f"part-{part:05d}", error) from None
    finally:
        discard(scratch)
    return ShardRecord(part, file.name, size, checksum, tuple(parameters))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, and make it last through a power cut; `OSError` where that fails."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, path)
        _sync_folder(path.parent)
    finally:
        discard(scratch)


def check_size(folder: Path, shard: ShardRecord) -> None:
    """InputError if the shard is not in `folder` in its full size."""
    file = folder / shard.file
    try:
        size = file.stat().st_size
    except OSError:
        raise InputError(f"is missing, expected a shard of {shard.bytes} bytes", file=str(file)) from None
    if size != shard.bytes:
        what = "is truncated" if size < shard.bytes else "was changed"
        raise InputError(f"{what}: {size} bytes, expected {shard.bytes}", file=str(file))


def check_content(folder: Path, shard: ShardRecord) -> None:
    """InputError if the shard in `folder` does not have its size and its checksum."""
    check_size(folder, shard)
    file = folder / shard.file
    try:
        with file.open("rb") as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(file)) from None
    if checksum != shard.checksum:
        raise InputError(f"is corrupt: SHA-256 {checksum[:12]}..., expected {shard.checksum[:12]}...", file=str(file))


def opened(file: Path) -> Any:
    """The safetensors file as a context manager with `get_tensor`; InputError if it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise InputError(f"cannot be read: {error}", file=str(file)) from None


def saving_failed(file: Path, error: Exception) -> CheckpointFailed:
    """What to raise when writing `file` ended in `error`."""
    reason = getattr(error, "strerror", None)
    number = _OS_ERROR.search(str(error))
    if reason is None and number is not None:
        reason = os.strerror(int(number[1]))
    return CheckpointFailed(
        f"the checkpoint cannot be saved: {reason or error}; earlier ones are intact", file=str(file)
    )


def discard(file: Path) -> None:
    """Remove a file that may not exist; one that cannot be removed is no worse than before."""
    with suppress(OSError):
        file.unlink()


def encoded(value: Any) -> Any:
    """`value` as JSON: bytes as base64."""
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return {str(key): encoded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(entry) for entry in value]
    return value


def decoded(value: Any) -> Any:
    """What `encoded` was given, tuples as lists."""
    if isinstance(value, dict):
        if value.keys() == {"base64"}:
            return base64.b64decode(value["base64"])
        return {key: decoded(entry) for key, entry in value.items()}
    return [decoded(entry) for entry in value] if isinstance(value, list) else value


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, copied where two are the same memory, which the format refuses."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        if tensor.numel() and tensor.data_ptr() in seen:
            tensors[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    return tensors


def _sync_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
