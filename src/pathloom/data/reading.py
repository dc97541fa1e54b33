"""Reading input files whole or by their head: gzip unpacked on the way, one clear line when a file cannot be text."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from pathloom.plan import InputError

HEAD_BYTES = 64 * 1024
LARGEST_TEXT = 256 * 1024 * 1024

_GZIP_MAGIC = b"\x1f\x8b"


def _read(path: Path, limit: int) -> bytes:
    """At most `limit` unpacked bytes of `path`."""
    try:
        if not path.exists():
            raise InputError("no such file", file=str(path))
        if path.is_dir():
            raise InputError("is a folder, expected a file", file=str(path))
        with path.open("rb") as plain:
            packed = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            if not packed:
                return plain.read(limit)
            with gzip.open(plain) as unpacked:
                return unpacked.read(limit)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError("is a broken or truncated gzip file", file=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(path)) from None
    except ValueError as error:  # a path that no file can have, such as one with a NUL in it
        raise InputError(f"cannot be read: {error}", file=repr(str(path))[1:-1]) from None


def _as_text(data: bytes, path: Path, *, cut: bool) -> str:
    if not data.strip():
        raise InputError("is empty", file=str(path))
    if b"\0" in data:
        raise InputError("is a binary file, expected text", file=str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The head of a longer file may end inside a character.
        if cut and error.start >= len(data) - 3:
            return data[: error.start].decode("utf-8-sig")
        line = data[: error.start].count(b"\n") + 1
        raise InputError("is not UTF-8 text", file=str(path), key=f"line {line}") from None


def read_head(path: Path, limit: int = HEAD_BYTES) -> str:
    """The first `limit` bytes of a file as text, unpacked if it is gzip.

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, binary, no UTF-8, or cannot be read.
    """
    data = _read(path, limit)
    return _as_text(data, path, cut=len(data) == limit)


def read_text(path: Path, limit: int = LARGEST_TEXT) -> str:
    """A whole file as text, unpacked if it is gzip; errors as `read_head`, and for more than `limit` bytes."""
    data = _read(path, limit + 1)
    if len(data) > limit:
        raise InputError(f"holds more than {limit} bytes", file=str(path))
    return _as_text(data, path, cut=False)
