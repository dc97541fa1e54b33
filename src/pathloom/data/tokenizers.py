"""Tokenizers: bytes, or any Hugging Face ``tokenizer.json``; texts of any size are encoded piece by piece.

A Hugging Face tokenizer may join characters across any place where a text is cut, and may add a mark at the start of
what it is given. Pieces therefore overlap: each is encoded with the end of the one before it, and the two results are
joined at a token on which they agree, so that the tokens are those of the whole text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pathloom.plan import InputError

Ids = npt.NDArray[np.int64]

TOKENIZER_FILE = "tokenizer.json"
OVERLAP = 2048
"""Characters that consecutive pieces share at first; doubled where the two encodings do not agree within them."""

_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<|im_end|>")


class Tokenizer(Protocol):
    """What every tokenizer offers.

    Attributes
    ----------
    name
        "bytes", "bytes+end", or the name of the file's folder.
    vocab
        Number of token ids; every id is below it.
    end_of_text
        Id of the token between documents, None if there is none.
    fingerprint
        Text that is equal for tokenizers that encode alike, and only for those.
    """

    @property
    def name(self) -> str: ...
    @property
    def vocab(self) -> int: ...
    @property
    def end_of_text(self) -> int | None: ...
    @property
    def fingerprint(self) -> str: ...

    def encode(self, text: str) -> Ids:
        """Token ids of a text, without added start or end tokens."""
        ...

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Ids]:
        """Token ids of the text that the pieces make together, in parts."""
        ...

    def decode(self, ids: npt.ArrayLike) -> str:
        """Text of token ids; bytes that are no UTF-8 become replacement characters."""
        ...


class ByteTokenizer:
    """One token a byte of UTF-8: vocabulary 256.

    Parameters
    ----------
    end
        Whether id 256 stands for the end of a text; the vocabulary is then 257.
    """

    def __init__(self, end: bool = False) -> None:
        self.end_of_text: int | None = 256 if end else None
        self.vocab = 257 if end else 256
        self.name = "bytes+end" if end else "bytes"
        self.fingerprint = _fingerprint(self.name)

    def encode(self, text: str) -> Ids:
        """Bytes of a text as ids."""
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64)

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Ids]:
        """Bytes of each piece."""
        return map(self.encode, pieces)

    def decode(self, ids: npt.ArrayLike) -> str:
        """Text of ids; the end of text is left out.

        Raises
        ------
        ValueError
            If an id is outside the vocabulary.
        """
        found = np.asarray(ids, np.int64).ravel()
        if found.size and (found.min() < 0 or found.max() >= self.vocab):
            raise ValueError(f"ids: expected 0 to {self.vocab - 1}, found {found.min()} to {found.max()}")
        return found[found < 256].astype(np.uint8).tobytes().decode("utf-8", errors="replace")


class HuggingFaceTokenizer:
    """A tokenizer in Hugging Face's ``tokenizer.json`` format.

    Special tokens that are written out in a text become their ids; none are added.

    Parameters
    ----------
    path
        The file, or a folder that holds one; ``tokenizer_config.json`` beside it names the end-of-text token, without
        it the usual names are tried.

    Raises
    ------
    InputError
        If there is no such file, it holds no tokenizer, or the package ``tokenizers`` is missing.
    """

    def __init__(self, path: Path) -> None:
        self.file = path / TOKENIZER_FILE if path.is_dir() else path
        if not self.file.is_file():
            raise InputError(f"no such file; expected a Hugging Face {TOKENIZER_FILE}", file=str(self.file))
        try:
            from tokenizers import Tokenizer as Engine
        except ImportError:
            raise InputError(
                "needs the extra 'train': pip install 'pathloom[train]'", file=str(self.file), key="tokenizer"
            ) from None
        try:
            self.json = self.file.read_text(encoding="utf-8")
            content = json.loads(self.json)
            self._engine: Any = Engine.from_str(self.json)
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror or error}", file=str(self.file)) from None
        except Exception as error:  # the engine raises bare Exception for what it cannot parse
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"is no Hugging Face tokenizer ({reason:.120})", file=str(self.file)) from None
        self._engine.no_truncation()
        self._engine.no_padding()
        ids = self._engine.get_vocab(with_added_tokens=True)
        if not ids:
            raise InputError("is a tokenizer without tokens", file=str(self.file), key="model.vocab")
        self.name = self.file.resolve().parent.name if self.file.name == TOKENIZER_FILE else self.file.stem
        self.vocab = max(ids.values()) + 1
        self.end_of_text = _end_of_text(self.file.with_name("tokenizer_config.json"), ids)
        # Batch settings say nothing about how a text is encoded, and other programs rewrite them.
        encoding = {key: value for key, value in content.items() if key not in ("version", "truncation", "padding")}
        self.fingerprint = _fingerprint(json.dumps(encoding, sort_keys=True))

    def encode(self, text: str) -> Ids:
        """Token ids of a text."""
        return np.array(self._engine.encode(text, add_special_tokens=False).ids, np.int64)

    def encode_pieces(self, pieces: Iterable[str], *, overlap: int = OVERLAP) -> Iterator[Ids]:
        """Token ids of the text that the pieces make together.

        Parameters
        ----------
        overlap
            Characters that are encoded twice at every cut, at least 8.
        """
        held, start = "", 0  # text not yet finished with, and where in it the tokens begin that are still to come
        held_tokens: _Placed | None = None
        for piece in pieces:
            if len(held) < 2 * overlap:
                held, held_tokens = held + piece, None
                continue
            if held_tokens is None:
                held_tokens = self._placed(held)
            shared = len(held) - overlap
            following = held[shared:] + piece
            following_tokens = self._placed(following)
            cut = _agreed_cut(held_tokens, following_tokens, shared, overlap)
            if cut is None:
                held, held_tokens = held + piece, None
                continue
            yield held_tokens.ids[(held_tokens.first >= start) & (held_tokens.first < cut)]
            held, start, held_tokens = following, cut - shared, following_tokens
        if held_tokens is None:
            held_tokens = self._placed(held)
        yield held_tokens.ids[held_tokens.first >= start]

    def decode(self, ids: npt.ArrayLike) -> str:
        """Text of token ids, special tokens included.

        Raises
        ------
        ValueError
            If an id is outside the vocabulary.
        """
        found = np.asarray(ids, np.int64).ravel()
        if found.size and (found.min() < 0 or found.max() >= self.vocab):
            raise ValueError(f"ids: expected 0 to {self.vocab - 1}, found {found.min()} to {found.max()}")
        return str(self._engine.decode(found.tolist(), skip_special_tokens=False))

    def _placed(self, text: str) -> _Placed:
        encoding = self._engine.encode(text, add_special_tokens=False)
        places = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return _Placed(np.array(encoding.ids, np.int64), places[:, 0], places[:, 1])


@dataclass(frozen=True)
class _Placed:
    """Token ids with the characters that each covers, from `first` up to before `last`."""

    ids: Ids
    first: Ids
    last: Ids

    def within(self, low: int, high: int) -> _Placed:
        chosen = (self.first >= low) & (self.last <= high)
        return _Placed(self.ids[chosen], self.first[chosen], self.last[chosen])


def _agreed_cut(before: _Placed, after: _Placed, shared: int, overlap: int) -> int | None:
    """Character at which to go over from the tokens `before` to the tokens `after`, None if they do not agree.

    `after` begins at character `shared` of the text of `before`, which ends `overlap` characters later. Near that
    end `before` lacks what follows, and near its own start `after` lacks what precedes: the middle half must agree.
    """
    low, high = shared + overlap // 4, shared + overlap - overlap // 4
    ours, theirs = before.within(low, high), after.within(low - shared, high - shared)
    agreed = (
        len(ours.ids) > 0
        and np.array_equal(ours.ids, theirs.ids)
        and np.array_equal(ours.first, theirs.first + shared)
        and np.array_equal(ours.last, theirs.last + shared)
    )
    return int(ours.first.min()) if agreed else None


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of a name or a path.

    Parameters
    ----------
    name
        "bytes" (256 ids), "bytes+end" (257, the last one ends a text), or a Hugging Face ``tokenizer.json``, or a
        folder that holds one.

    Raises
    ------
    InputError
        If it is neither name nor file, or the file holds no tokenizer.
    """
    if str(name) in ("bytes", "bytes+end"):
        return ByteTokenizer(end=str(name) == "bytes+end")
    path = Path(name)
    if not path.exists():
        raise InputError(
            f"expected 'bytes', 'bytes+end', or a Hugging Face {TOKENIZER_FILE} or the folder of one, found {name}",
            key="tokenizer",
        )
    return HuggingFaceTokenizer(path)


def _fingerprint(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def _end_of_text(config: Path, ids: dict[str, int]) -> int | None:
    """Id of the end-of-text token that the file `config` names, or that has one of the usual names."""
    named: Any = None
    if config.is_file():
        try:
            named = json.loads(config.read_text(encoding="utf-8")).get("eos_token")
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"is no JSON object ({error})", file=str(config)) from None
        named = named.get("content") if isinstance(named, dict) else named
    return next((ids[name] for name in (named, *_ENDS) if name in ids), None)
