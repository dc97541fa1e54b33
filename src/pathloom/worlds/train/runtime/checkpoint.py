"""Checkpoints of a training run: sharded by part of the model, written whole or not at all.

A part is what one stage holds: its layers, and possibly embedding and head. Parameters go by their global Hugging Face
names, so that a run with any other cut into stages can load them. A save has one writer a part and one commit:

1. every writer calls `write_shard`, which writes a safetensors file beside its place, syncs it and moves it there;
2. when all have reported their `ShardRecord`, one process calls `commit`, which writes ``checkpoint.json`` last.

A step's folder without ``checkpoint.json`` does not count; `abandon` clears it away where a save has failed.

    RUN/checkpoints/step-00000100/part-00000-3f0c51e9a7d2.safetensors
                                  part-00001-....safetensors
                                  checkpoint.json
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathloom.plan import InputError
from pathloom.worlds.train.runtime.shards import (
    STATE_PREFIX,
    CheckpointFailed,
    ShardRecord,
    check_content,
    check_size,
    decoded,
    discard,
    encoded,
    opened,
    saving_failed,
    write_tensors,
    write_text,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Checkpoint",
    "CheckpointFailed",
    "ShardRecord",
    "abandon",
    "commit",
    "drop_after",
    "latest",
    "prune",
    "step_folder",
    "steps",
    "write_shard",
]

FORMAT = "pathloom-checkpoint-1"
COMMIT = "checkpoint.json"

_STEP = re.compile(r"step-(\d{8,})")


def step_folder(folder: Path, step: int) -> Path:
    """Where the run `folder` keeps the checkpoint after `step` optimizer steps."""
    return folder / "checkpoints" / f"step-{step:08d}"


def write_shard(
    folder: Path,
    step: int,
    part: int,
    parameters: Mapping[str, Tensor],
    optimizer: Mapping[str, Mapping[str, Tensor]],
    extra: Mapping[str, Any],
) -> ShardRecord:
    """Write one part of the model of a step; it counts once `commit` has named it.

    Parameters
    ----------
    folder
        The run's folder.
    step
        Optimizer steps done.
    parameters
        Global name -> tensor, of any shape, device and dtype.
    optimizer
        Parameter name -> its state, for AdamW ``exp_avg``, ``exp_avg_sq`` and ``step``; parameters that have none yet
        may be left out.
    extra
        What else this part needs to go on, as JSON or bytes: random states, for example. Tuples come back as lists.

    Raises
    ------
    CheckpointFailed
        If the file cannot be written; nothing of it is left behind.
    ValueError
        If the optimizer knows a parameter that is not in `parameters`, or a name holds a slash.
    """
    return write_tensors(step_folder(folder, step), part, parameters, optimizer, extra)


def commit(folder: Path, step: int, shards: Sequence[ShardRecord], state: Mapping[str, Any]) -> Path:
    """Make the shards of a step a checkpoint, by writing its ``checkpoint.json``, and remove what it replaces.

    Parameters
    ----------
    folder
        The run's folder.
    shards
        Records of all parts.
    state
        What the run needs to go on, as JSON or bytes: ``windows`` (data position), ``seed``, ``plan`` (hash), ``model``
        (configuration), ``optimizer`` (settings), ``rate_plan``, and whatever else the runtime wants back.

    Returns
    -------
    Path
        The ``checkpoint.json``.

    Raises
    ------
    CheckpointFailed
        If a shard is not there in its full size, or the file cannot be written; the shards are then removed, and an
        earlier checkpoint of the step is as it was.
    ValueError
        If two shards hold the same part or the same parameter.
    """
    _check_disjoint(shards)
    target = step_folder(folder, step)
    content = {
        "format": FORMAT,
        "step": step,
        "state": encoded(state),
        "shards": [shard.to_dict() for shard in sorted(shards, key=lambda shard: shard.part)],
    }
    text = json.dumps(content, indent=1) + "\n"
    try:
        for shard in shards:
            check_size(target, shard)
        write_text(target / COMMIT, text)
    except InputError as error:
        abandon(folder, step)
        raise CheckpointFailed(f"the checkpoint cannot be saved: {error.reason}", file=error.file) from None
    except OSError as error:
        abandon(folder, step)
        raise saving_failed(target / COMMIT, error) from None
    abandon(folder, step)
    return target / COMMIT


def abandon(folder: Path, step: int) -> None:
    """Remove the files of a step that no ``checkpoint.json`` names: those of a save that did not come to its end."""
    target = step_folder(folder, step)
    kept: set[str] = set()
    if (target / COMMIT).exists():
        try:
            kept = {shard.file for shard in Checkpoint.open(target).shards} | {COMMIT}
        except InputError:
            return  # it is broken, and nobody can tell which of its files are still good
    for file in list(target.iterdir()) if target.is_dir() else []:
        if file.name not in kept and file.is_file():
            discard(file)
    if target.is_dir() and not any(target.iterdir()):
        target.rmdir()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk; its tensors are read when they are asked for.

    Attributes
    ----------
    path
        Folder of the step.
    step
        Optimizer steps done.
    state
        What `commit` was given.
    shards
        Its files.
    warnings
        Broken newer checkpoints that `latest` passed over.
    """

    path: Path
    step: int
    state: Mapping[str, Any]
    shards: tuple[ShardRecord, ...]
    warnings: tuple[str, ...] = ()
    _sound: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> Checkpoint:
        """Open the checkpoint in a step's folder (or by its ``checkpoint.json``).

        Sizes of all shards are checked now; their checksums when they are read, or now with `verify`.

        Raises
        ------
        InputError
            If it is missing, incomplete, truncated or corrupt.
        """
        folder = path.parent if path.name == COMMIT else path
        content = _read_commit(folder / COMMIT)
        try:
            shards = tuple(ShardRecord.from_dict(entry) for entry in content["shards"])
            _check_disjoint(shards)
        except ValueError as error:
            raise InputError(str(error), file=str(folder / COMMIT), key="shards") from None
        found = cls(folder, content["step"], decoded(content["state"]), shards)
        for shard in shards:
            check_size(folder, shard)
            if verify:
                found._check(shard)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters."""
        return tuple(name for shard in self.shards for name in shard.names)

    @property
    def parts(self) -> tuple[int, ...]:
        """Numbers of its parts."""
        return tuple(shard.part for shard in self.shards)

    def required(self, key: str) -> Any:
        """Entry of `state`; InputError if it is not there."""
        if key not in self.state:
            raise InputError("missing", file=str(self.path / COMMIT), key=f"state.{key}")
        return self.state[key]

    def parameters(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """The parameters `names` (all if None) on the CPU, bit for bit as they were saved.

        Raises
        ------
        InputError
            If a name is unknown, or a shard is missing, truncated or corrupt.
        """
        found: dict[str, Tensor] = {}
        for shard, wanted in self._by_shard(names):
            self._check(shard)
            with opened(self.path / shard.file) as tensors:
                found.update({name: tensors.get_tensor(name).clone() for name in wanted})
        return found

    def optimizer(self, names: Iterable[str] | None = None) -> dict[str, dict[str, Tensor]]:
        """Optimizer state of the parameters `names` (all if None) by parameter; those without one are left out.

        Raises
        ------
        InputError
            As `parameters`.
        """
        found: dict[str, dict[str, Tensor]] = {}
        for shard, wanted in self._by_shard(names):
            self._check(shard)
            chosen = set(wanted)
            with opened(self.path / shard.file) as tensors:
                for stored in list(tensors.keys()):
                    key, _, name = stored.removeprefix(STATE_PREFIX).partition("/")
                    if stored.startswith(STATE_PREFIX) and name in chosen:
                        found.setdefault(name, {})[key] = tensors.get_tensor(stored).clone()
        return found

    def extra(self, part: int) -> dict[str, Any]:
        """What the writer of `part` added.

        Raises
        ------
        InputError
            If there is no such part, or its shard is broken.
        """
        shard = next((shard for shard in self.shards if shard.part == part), None)
        if shard is None:
            said = f"there is no part {part}, the parts are {list(self.parts)}"
            raise InputError(said, file=str(self.path / COMMIT), key="shards")
        self._check(shard)
        with opened(self.path / shard.file) as tensors:
            header = tensors.metadata() or {}
        found: dict[str, Any] = decoded(json.loads(header.get("extra", "{}")))
        return found

    def _by_shard(self, names: Iterable[str] | None) -> list[tuple[ShardRecord, list[str]]]:
        known = {name: position for position, shard in enumerate(self.shards) for name in shard.names}
        wanted: dict[int, list[str]] = {}
        for name in known if names is None else names:
            if name not in known:
                raise InputError(f"holds no parameter '{name}'", file=str(self.path / COMMIT), key="shards")
            wanted.setdefault(known[name], []).append(name)
        return [(self.shards[position], chosen) for position, chosen in wanted.items()]

    def _check(self, shard: ShardRecord) -> None:
        """Content of a shard, once."""
        if shard.file not in self._sound:
            check_content(self.path, shard)
            self._sound.add(shard.file)


def latest(folder: Path, *, verify: bool = False, warnings: list[str] | None = None) -> Checkpoint | None:
    """The newest sound checkpoint of the run `folder`, None if it has none.

    Parameters
    ----------
    verify
        Also check the checksums of all shards, which reads them once.
    warnings
        Gets one line for each newer checkpoint that is broken and was passed over; so does the result's `warnings`.
    """
    passed: list[str] = []
    found: Checkpoint | None = None
    for step in reversed(steps(folder)):
        try:
            found = Checkpoint.open(step_folder(folder, step), verify=verify)
            break
        except InputError as error:
            passed.append(f"the checkpoint of step {step} is passed over: {error}")
    if warnings is not None:
        warnings += passed
    return None if found is None else replace(found, warnings=tuple(passed))


def steps(folder: Path) -> list[int]:
    """Steps of the run's committed checkpoints in ascending order, broken ones included."""
    return [step for step in _step_folders(folder) if (step_folder(folder, step) / COMMIT).exists()]


def prune(folder: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` sound checkpoints, and what interrupted saves before the newest left behind.

    Returns
    -------
    list of Path
        Folders that were removed.

    Raises
    ------
    ValueError
        If `keep` is less than 1.
    """
    if keep < 1:
        raise ValueError(f"keep: expected at least 1, found {keep}")
    sound: list[int] = []
    for step in reversed(steps(folder)):
        try:
            sound.append(Checkpoint.open(step_folder(folder, step)).step)
        except InputError:
            continue
        if len(sound) == keep:
            break
    gone = [step for step in _step_folders(folder) if sound and step < sound[0] and step not in sound]
    return [_remove(step_folder(folder, step)) for step in gone]


def drop_after(folder: Path, step: int) -> list[Path]:
    """Remove the checkpoints beyond `step`, for a run that goes on from an older one; returns their folders."""
    return [_remove(step_folder(folder, later)) for later in _step_folders(folder) if later > step]


def _step_folders(folder: Path) -> list[int]:
    place = folder / "checkpoints"
    if not place.is_dir():
        return []
    matches = (_STEP.fullmatch(entry.name) for entry in place.iterdir() if entry.is_dir())
    return sorted(int(match[1]) for match in matches if match is not None)


def _remove(target: Path) -> Path:
    # From here on it does not count, however far the removal comes.
    discard(target / COMMIT)
    shutil.rmtree(target, ignore_errors=True)
    return target


def _check_disjoint(shards: Sequence[ShardRecord]) -> None:
    parts: list[Any] = [shard.part for shard in shards]
    names: list[Any] = [name for shard in shards for name in shard.names]
    for what, found in (("part", parts), ("parameter", names)):
        twice = [entry for entry, times in Counter(found).items() if times > 1]
        if twice:
            raise ValueError(f"shards: {what} {twice[0]} is in two of them")


def _read_commit(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"is no complete checkpoint, expected a file {COMMIT} in it", file=str(path.parent)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(path)) from None
    except ValueError:
        raise InputError("is truncated or no JSON", file=str(path)) from None
    tag = content.get("format") if isinstance(content, dict) else None
    if tag != FORMAT:
        raise InputError(f"expected '{FORMAT}', found {tag!r}", file=str(path), key="format")
    for key, kind, what in (("step", int, "a whole number"), ("state", dict, "a mapping"), ("shards", list, "a list")):
        if not isinstance(content.get(key), kind):
            raise InputError(f"expected {what}", file=str(path), key=key)
    return dict(content)
