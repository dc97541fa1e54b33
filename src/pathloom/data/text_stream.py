"""Text files of any size, piece by piece: gzip unpacked on the way, mistakes named by file and line."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

from pathloom.plan import InputError

PIECE_BYTES = 1 << 18

_GZIP_MAGIC = b"\x1f\x8b"


def text_pieces(
    path: Path, *, piece_bytes: int = PIECE_BYTES, on_read: Callable[[int], None] | None = None
) -> Iterator[str]:
    """The text of a file in pieces whose concatenation is the whole; a byte order mark at the start is dropped.

    Parameters
    ----------
    path
        UTF-8 text, plain or gzip (recognised by its first bytes, not by its name).
    piece_bytes
        Unpacked bytes read at a time, which bounds the memory used.
    on_read
        Called after every piece with the number of bytes of the file on disk that have been read so far.

    Raises
    ------
    InputError
        If the file is missing, a folder, empty, binary, no UTF-8, a broken gzip file, or cannot be read.
    """
    file = str(path)
    if not path.exists():
        raise InputError("no such file", file=file)
    if path.is_dir():
        raise InputError("is a folder, expected a file", file=file)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    blank = True
    try:
        with path.open("rb") as disk:
            packed = disk.read(2) == _GZIP_MAGIC
            disk.seek(0)
            with gzip.open(disk) if packed else nullcontext(disk) as stream:
                ended = False
                while not ended:
                    data = stream.read(piece_bytes)
                    ended = not data
                    try:
                        text = decoder.decode(data, final=ended)
                    except UnicodeDecodeError as error:
                        line += error.object[: error.start].count(b"\n")
                        found = f"byte 0x{error.object[error.start]:02x}"
                        raise InputError(f"is not UTF-8 text ({found})", file=file, key=f"line {line}") from None
                    if "\0" in text:
                        line += text.count("\n", 0, text.index("\0"))
                        raise InputError("is a binary file (a zero byte), expected text", file=file, key=f"line {line}")
                    line += text.count("\n")
                    blank = blank and not text.strip()
                    if on_read is not None:
                        on_read(disk.tell())
                    if text:
                        yield text
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError("is a broken or truncated gzip file", file=file) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=file) from None
    if blank:
        raise InputError("is empty, expected text", file=file)
