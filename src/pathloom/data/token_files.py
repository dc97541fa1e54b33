"""Token data sets on disk: a folder with ``tokens.json`` and one memory-mapped array of token ids a split.

``train.bin`` and ``validation.bin`` hold little-endian 16-bit or 32-bit unsigned ids and nothing else;
``tokenizer.json`` lies beside them where the tokenizer is not the bytes. ``tokens.json`` says what they were made of
and carries their lengths and checksums.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pathloom.data.input_model import InputModel, validated
from pathloom.data.text_stream import text_pieces
from pathloom.data.token_windows import Windows
from pathloom.data.tokenizers import TOKENIZER_FILE, HuggingFaceTokenizer, Tokenizer, load_tokenizer
from pathloom.plan import InputError, OnProgress, Progress

__all__ = ["CARD", "FORMAT", "SPLITS", "TokenCard", "TokenData", "Windows", "write_tokens"]

FORMAT = "pathloom-tokens-1"
CARD = "tokens.json"
SPLITS = ("train", "validation")

_BLOCK = 1 << 20


class SplitCard(InputModel):
    """Number of tokens of one split and the checksum of its file."""

    tokens: int = Field(ge=0, description="a number of tokens")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="a SHA-256 checksum")


class SourceCard(InputModel):
    """One text file that the tokens were made of."""

    file: str = Field(description="a file name")
    tokens: int = Field(ge=0, description="a number of tokens")


class TokenizerCard(InputModel):
    """Which tokenizer made the tokens."""

    name: str = Field(description="a tokenizer's name")
    fingerprint: str = Field(description="a tokenizer's fingerprint")
    end_of_text: int | None = Field(default=None, description="a token id")


class TokenCard(InputModel):
    """Content of ``tokens.json``."""

    format: Literal["pathloom-tokens-1"] = Field(description=f"'{FORMAT}'")
    tokenizer: TokenizerCard = Field(description="name and fingerprint of the tokenizer")
    vocab: int = Field(ge=1, description="a number of token ids")
    dtype: Literal["uint16", "uint32"] = Field(description="'uint16' or 'uint32'")
    validation_share: float = Field(ge=0, le=1, description="a share from 0 to 1")
    train: SplitCard = Field(description="tokens and checksum")
    validation: SplitCard = Field(description="tokens and checksum")
    sources: list[SourceCard] = Field(description="the text files")


@dataclass(frozen=True)
class TokenData:
    """A token data set that lies in a folder.

    Attributes
    ----------
    folder
        Where it lies.
    card
        Content of its ``tokens.json``.
    """

    folder: Path
    card: TokenCard

    @classmethod
    def open(cls, folder: Path, *, verify: bool = False) -> TokenData:
        """Open a folder that `write_tokens` made.

        Parameters
        ----------
        verify
            Whether to read everything and compare checksums; lengths are always compared.

        Raises
        ------
        InputError
            If a file is missing, truncated, too long, or corrupt, or ``tokens.json`` does not say what it must.
        """
        path = folder / CARD
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "no such folder"
            raise InputError(f"{found}; expected a folder made by 'pathloom data tokenize'", file=str(folder))
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                "no such file; expected a folder made by 'pathloom data tokenize'", file=str(path)
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"is no readable JSON ({error})", file=str(path)) from None
        data = cls(folder, validated(TokenCard, content, file=str(path)))
        for name in SPLITS:
            data._check(name, verify)
        return data

    @property
    def vocab(self) -> int:
        """Number of token ids; every token is below it."""
        return self.card.vocab

    @property
    def dtype(self) -> np.dtype:
        """Type of the ids on disk, little-endian."""
        return np.dtype(self.card.dtype).newbyteorder("<")

    @property
    def counts(self) -> dict[str, int]:
        """Number of tokens of each split."""
        return {name: self._split_card(name).tokens for name in SPLITS}

    @property
    def bytes_tokenizer(self) -> bool:
        """Whether a token is a byte, so that bits a byte can be told from a loss."""
        return self.card.tokenizer.name in ("bytes", "bytes+end")

    def file(self, split: str) -> Path:
        """File of a split."""
        return self.folder / f"{split}.bin"

    def split(self, name: str) -> npt.NDArray[Any]:
        """Ids of a split, ``(tokens,)``, read-only and mapped into memory, so that only what is used is read.

        Raises
        ------
        InputError
            If there is no such split, or its file can no longer be read.
        """
        count = self._split_card(name).tokens
        if count == 0:  # an empty file cannot be mapped
            return np.empty(0, self.dtype)
        try:
            return np.memmap(self.file(name), self.dtype, "r", shape=(count,))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be read: {error}", file=str(self.file(name))) from None

    def windows(self, split: str, context: int, seed: int = 0) -> Windows:
        """Shuffled windows of a split.

        Raises
        ------
        InputError
            If the split is shorter than one window.
        """
        tokens = self.split(split)
        if len(tokens) < context + 1:
            raise InputError(
                f"holds {len(tokens)} tokens, expected at least {context + 1} (one window)",
                file=str(self.file(split)),
                key=split,
            )
        return Windows(tokens, context, seed)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens.

        Raises
        ------
        InputError
            If its file is missing or is another tokenizer's.
        """
        path = self.folder / TOKENIZER_FILE
        found = load_tokenizer(self.card.tokenizer.name) if self.bytes_tokenizer else HuggingFaceTokenizer(path)
        if found.fingerprint != self.card.tokenizer.fingerprint:
            raise InputError(
                f"is not the tokenizer '{self.card.tokenizer.name}' that made these tokens", file=str(path)
            )
        return found

    def _split_card(self, name: str) -> SplitCard:
        if name not in SPLITS:
            raise InputError(f"expected {' or '.join(SPLITS)}, found '{name}'", file=str(self.folder), key="split")
        found: SplitCard = getattr(self.card, name)
        return found

    def _check(self, name: str, verify: bool) -> None:
        path, said = self.file(name), self._split_card(name)
        try:
            size = path.stat().st_size
        except OSError:
            raise InputError(f"no such file; {CARD} lists {said.tokens} tokens", file=str(path), key=name) from None
        expected = said.tokens * self.dtype.itemsize
        if size != expected:
            word = "truncated" if size < expected else "too long"
            raise InputError(
                f"is {word}: expected {expected} bytes ({said.tokens} tokens of {self.card.dtype}), found {size}",
                file=str(path),
                key=f"{name}.tokens",
            )
        if verify and _sha256(path) != said.sha256:
            raise InputError(
                f"is corrupt: its content does not have the checksum of {CARD}", file=str(path), key=f"{name}.sha256"
            )


def write_tokens(
    folder: Path,
    files: Sequence[Path],
    tokenizer: Tokenizer,
    validation_share: float = 0.1,
    *,
    on_progress: OnProgress | None = None,
) -> TokenData:
    """Make a token data set of text files, whole or not at all.

    Each file is a document: the last share of its tokens goes to the validation split, the rest to the training split,
    and within a split the tokenizer's end-of-text token, where it has one, stands between documents. The files are
    read piece by piece, so that they may be larger than the memory.

    Parameters
    ----------
    folder
        Where to; an earlier token data set there is replaced, any other content is an error.
    files
        UTF-8 text, plain or gzip, at least one.
    validation_share
        From 0 to 1.
    on_progress
        Told how far the work is.

    Raises
    ------
    InputError
        If a file cannot be read as text, if the folder cannot be written or holds something else, or if the share is
        out of range.
    """
    if not 0 <= validation_share <= 1:
        raise InputError(f"expected a share from 0 to 1, found {validation_share}", key="validation")
    if not files:
        raise InputError("expected at least one text file", key="files")
    _check_target(folder)
    dtype = np.dtype("<u2" if tokenizer.vocab <= 1 << 16 else "<u4")
    beside: Path | None = None
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.absolute().parent))
        part = beside / "new"
        part.mkdir()
        sources, tell = [], _Teller(files, on_progress)
        with (part / "train.bin").open("w+b") as train, (part / "validation.bin").open("wb") as validation:
            for file in files:
                count = _add_document(file, tokenizer, validation_share, train, validation, dtype, tell)
                sources.append(SourceCard(file=file.name, tokens=count))
            for stream in (train, validation):
                stream.flush()
                os.fsync(stream.fileno())
        splits = {}
        for name in SPLITS:
            path = part / f"{name}.bin"
            splits[name] = SplitCard(tokens=path.stat().st_size // dtype.itemsize, sha256=_sha256(path))
        if isinstance(tokenizer, HuggingFaceTokenizer):
            _write_text(part / TOKENIZER_FILE, tokenizer.json)
        card = TokenCard(
            format="pathloom-tokens-1",
            tokenizer=TokenizerCard(
                name=tokenizer.name, fingerprint=tokenizer.fingerprint, end_of_text=tokenizer.end_of_text
            ),
            vocab=tokenizer.vocab,
            dtype="uint16" if dtype.itemsize == 2 else "uint32",
            validation_share=validation_share,
            sources=sources,
            **splits,
        )
        _write_text(part / CARD, json.dumps(card.model_dump(), indent=1) + "\n")
        _move(part, folder, beside / "old")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(folder)) from None
    finally:
        if beside is not None and not (beside / "old").exists():
            shutil.rmtree(beside, ignore_errors=True)
    return TokenData.open(folder)


def _add_document(
    file: Path,
    tokenizer: Tokenizer,
    share: float,
    train: BinaryIO,
    validation: BinaryIO,
    dtype: np.dtype,
    tell: _Teller,
) -> int:
    """Append the tokens of one file to the two splits; returns their number, without ends of text."""
    start = train.tell()
    end = b"" if tokenizer.end_of_text is None else np.array([tokenizer.end_of_text], dtype).tobytes()
    if start:
        train.write(end)
    body, count = train.tell(), 0
    for ids in tokenizer.encode_pieces(text_pieces(file, on_read=partial(tell, file))):
        train.write(ids.astype(dtype).tobytes())
        count += len(ids)
        tell.tokens += len(ids)
    # How many tokens a file has is known only now, so its tail moves from one split to the other.
    kept = count - math.ceil(round(count * share, 6))  # rounded, as 0.07 * 100 is a little more than 7
    cut = body + kept * dtype.itemsize
    if kept < count:
        if validation.tell():
            validation.write(end)
        train.seek(cut)
        shutil.copyfileobj(train, validation, _BLOCK)
    train.seek(cut if kept else start)
    train.truncate()
    return count


class _Teller:
    """Passes on how much of all files has been read."""

    def __init__(self, files: Sequence[Path], on_progress: OnProgress | None) -> None:
        self._on_progress, self._began = on_progress, time.monotonic()
        self.tokens = 0
        self._size = {file: file.stat().st_size if file.is_file() else 0 for file in files}

    def __call__(self, file: Path, read: int) -> None:
        if self._on_progress is not None:
            share = f"{read / 1e6:.1f} of {self._size[file] / 1e6:.1f} MB"
            seconds = time.monotonic() - self._began
            self._on_progress(Progress(seconds, None, phase=f"{file.name}: {share}, {self.tokens:,} tokens in all"))


def _check_target(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier token data set."""
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file, expected a folder", file=str(folder))
    own = {CARD, TOKENIZER_FILE, *(f"{name}.bin" for name in SPLITS)}
    try:
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(folder)) from None
    strange = [name for name in found if name not in own]
    if strange or (found and CARD not in found):
        raise InputError(
            f"holds '{(strange or found)[0]}'; expected a new or empty folder, or a token data set to replace",
            file=str(folder),
        )


def _move(part: Path, folder: Path, aside: Path) -> None:
    """Put the finished folder `part` into the place of `folder`, whose present content waits at `aside`."""
    if not folder.is_dir() or not any(folder.iterdir()):
        os.replace(part, folder)
        return
    os.replace(folder, aside)  # a folder cannot be renamed onto a full one
    try:
        os.replace(part, folder)
    except OSError:
        os.replace(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=str(path)) from None
    return digest.hexdigest()
