"""Results on disk, whole or not at all: everything is written beside its place and then moved there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pathloom.plan import InputError


def check_folder(out: Path) -> None:
    """Find out before the work whether `out` can hold the results.

    Raises
    ------
    InputError
        If it is a file, or if the nearest folder that exists cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, expected a folder", file=str(out), key="--out")
    existing = out.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"cannot be written: no right to write in {existing}", file=str(out), key="--out")


def write_folder(out: Path, write: Callable[[Path], Mapping[str, Path]]) -> dict[str, Path]:
    """Let `write` fill a temporary folder, then move its files into `out`; other files in `out` stay as they are.

    Parameters
    ----------
    write
        ``(folder) -> {what: path}`` with paths inside the folder.

    Returns
    -------
    dict
        The same names with the final paths.

    Raises
    ------
    InputError
        If `out` cannot be written.
    """
    check_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the place, so that moving is a rename within one file system, which is atomic.
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=".part", dir=out.parent))
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(out), key="--out") from None
    try:
        written = {what: path.relative_to(part) for what, path in write(part).items()}
        part.chmod(0o777 & ~_umask())
        if not out.exists():
            part.rename(out)
        else:
            for path in sorted(p for p in part.rglob("*") if p.is_file()):
                target = out / path.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(out), key="--out") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {what: out / path for what, path in written.items()}


def write_new_file(path: Path, text: str) -> None:
    """Write a file that must not exist yet.

    Raises
    ------
    InputError
        If it exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise InputError("exists already and is not overwritten; name another file", file=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(path)) from None


def _umask() -> int:
    # There is no way to read it without setting it. A temporary folder is private, the finished one is an ordinary one.
    mask = os.umask(0)
    os.umask(mask)
    return mask
