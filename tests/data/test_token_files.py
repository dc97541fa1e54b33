"""Token data sets: whole or nothing, what was written is what is read, and windows that never repeat in an epoch."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.data import local_folder, token_files
from pathloom.data.text_stream import text_pieces
from pathloom.data.token_files import TokenData, Windows, write_tokens
from pathloom.data.tokenizers import ByteTokenizer, load_tokenizer
from pathloom.plan import InputError, Progress


class WideTokenizer:
    """A token a character, with a vocabulary that takes 32 bits."""

    name, vocab, fingerprint, end_of_text = "wide", 1 << 21, "wide-1", None

    def encode(self, text: str) -> np.ndarray:
        return np.array([ord(c) for c in text], np.int64)

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        return map(self.encode, pieces)

    def decode(self, ids: np.ndarray) -> str:
        return "".join(map(chr, ids))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("0123456789" * 10)
    return path


@pytest.fixture
def folder(tmp_path: Path, text: Path) -> Path:
    return write_tokens(tmp_path / "tokens", [text], ByteTokenizer()).folder


# Writing


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1, max_size=4),
    share=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]),
    end=st.booleans(),
)
def test_the_splits_hold_the_head_and_the_tail_of_every_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], share: float, end: bool
) -> None:
    tmp = tmp_path_factory.mktemp("split")
    tokenizer = ByteTokenizer(end)
    texts = ["a" + text for text in texts]  # neither blank nor with a byte order mark
    heads, tails, files = [], [], []
    for number, text in enumerate(texts):
        files.append(tmp / f"{number}.txt")
        files[-1].write_bytes(text.encode())
        ids = list(text.encode())
        kept = int(len(ids) * (100 - round(share * 100)) // 100)
        heads.append(ids[:kept])
        tails.append(ids[kept:])
    data = write_tokens(tmp / "out", files, tokenizer, share)
    between = [256] if end else []
    for name, parts in (("train", heads), ("validation", tails)):
        expected = parts[0]
        for part in parts[1:]:
            expected = [*expected, *(between if expected and part else []), *part]
        assert data.split(name).tolist() == expected
        assert data.counts[name] == len(expected)
    assert TokenData.open(tmp / "out", verify=True).card == data.card


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_in_pieces_plain_or_packed(tmp_path: Path, packed: bool) -> None:
    text = "Grüße, 日本語 🙂\r\n" * 999
    path = tmp_path / "text"
    path.write_bytes(gzip.compress(text.encode()) if packed else b"\xef\xbb\xbf" + text.encode())
    read: list[int] = []
    pieces = list(text_pieces(path, piece_bytes=101, on_read=read.append))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 101
    assert read[-1] == path.stat().st_size
    assert read == sorted(read)


def test_large_vocabularies_take_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a🙂b")
    data = write_tokens(tmp_path / "out", [path], WideTokenizer(), 0)
    assert data.split("train").tolist() == [97, 0x1F642, 98]
    assert data.card.dtype == "uint32"
    assert (tmp_path / "out" / "train.bin").read_bytes() == np.array([97, 0x1F642, 98], "<u4").tobytes()


def test_tokens_lie_little_endian_without_any_header(folder: Path) -> None:
    assert (folder / "train.bin").read_bytes() == b"".join(bytes([b, 0]) for b in b"0123456789" * 9)


def test_the_tokenizer_travels_with_its_tokens(tmp_path: Path, text: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    engine = tokenizers.Tokenizer(tokenizers.models.BPE())
    engine.train_from_iterator(
        ["0123456789"] * 20, tokenizers.trainers.BpeTrainer(vocab_size=14, special_tokens=["</s>"], show_progress=False)
    )
    engine.save(str(tmp_path / "digits.json"))
    tokenizer = load_tokenizer(tmp_path / "digits.json")
    data = write_tokens(tmp_path / "out", [text, text], tokenizer, 0)
    (tmp_path / "digits.json").unlink()
    found = TokenData.open(tmp_path / "out", verify=True)
    assert not found.bytes_tokenizer
    assert found.tokenizer().fingerprint == tokenizer.fingerprint == found.card.tokenizer.fingerprint
    assert data.split("train").tolist().count(0) == 1  # one end of text between two files
    engine.add_special_tokens(["<pad>"])
    engine.save(str(tmp_path / "out" / "tokenizer.json"))
    with pytest.raises(InputError, match=r"tokenizer.json: is not the tokenizer 'digits' that made these tokens"):
        found.tokenizer()


def test_tinyshakespeare_is_split_as_usual(tmp_path: Path) -> None:
    source = local_folder("text")
    if source is None or not (source / "tinyshakespeare.txt.gz").is_file():
        pytest.skip("the text is not on this machine")
    reports: list[Progress] = []
    path = source / "tinyshakespeare.txt.gz"
    data = write_tokens(tmp_path / "out", [path], ByteTokenizer(), on_progress=reports.append)
    assert data.counts == {"train": 1_003_854, "validation": 111_540}
    assert data.tokenizer().decode(data.split("train")[:14]) == "First Citizen:"
    assert "1,048,576 tokens" in "".join(report.phase for report in reports)


def test_an_earlier_token_data_set_is_replaced(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("abc")
    before = TokenData.open(folder).split("train")
    assert write_tokens(folder, [other], ByteTokenizer(True), 0).split("train").tolist() == [97, 98, 99]
    assert before[:3].tolist() == [48, 49, 50]  # who had it open keeps the old content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.txt", "text.txt", "tokens"]


def test_nothing_else_is_replaced(tmp_path: Path, text: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"mine: holds 'thesis.tex'; expected a new or empty folder"):
        write_tokens(tmp_path / "mine", [text], ByteTokenizer())
    with pytest.raises(InputError, match=r"text.txt: is a file, expected a folder"):
        write_tokens(text, [text], ByteTokenizer())
    (tmp_path / "empty").mkdir()
    assert write_tokens(tmp_path / "empty", [text], ByteTokenizer()).counts["train"] == 90


class FullDisk:
    """Stands for `os.fsync` on a disk without room."""

    def __call__(self, descriptor: int) -> None:
        raise OSError(28, "No space left on device")


def test_a_failure_leaves_nothing_behind_and_the_old_tokens_alone(
    folder: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n" * 70_000 + b"caf\xe9\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=r"bad.txt: line 70001: is not UTF-8 text \(byte 0xe9\)"):
        write_tokens(folder, [text, bad], ByteTokenizer())
    with pytest.raises(InputError, match=r"bad.txt"):
        write_tokens(tmp_path / "new", [bad], ByteTokenizer())
    monkeypatch.setattr(token_files.os, "fsync", FullDisk())
    with pytest.raises(InputError, match=r"tokens: cannot be written: No space left on device"):
        write_tokens(folder, [text], ByteTokenizer())
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert TokenData.open(folder, verify=True).counts["train"] == 90


def test_a_failed_exchange_brings_the_old_tokens_back(
    folder: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = os.replace, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(token_files.os, "replace", second_fails)
    with pytest.raises(InputError, match=r"Input/output error"):
        write_tokens(folder, [text], ByteTokenizer(), 0)
    assert TokenData.open(folder, verify=True).counts["train"] == 90
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt", "tokens"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"a\nb\0c", "line 2: is a binary file"),
        (b"ok\n\xff\xfe", "line 2: is not UTF-8 text"),
        (b"ends inside a character \xe6\x97", "line 1: is not UTF-8 text"),
        (gzip.compress(b"some text" * 99, mtime=0)[:-9], "broken or truncated gzip"),
        (gzip.compress(b"some text" * 99, mtime=0)[:20] + b"garbage" * 9, "broken or truncated gzip"),
    ],
)
def test_what_is_no_text_is_refused_with_file_and_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "source.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"source.txt: .*{message}"):
        write_tokens(tmp_path / "out", [path], ByteTokenizer())
    assert not (tmp_path / "out").exists()


def test_bad_arguments_are_named(tmp_path: Path, text: Path) -> None:
    with pytest.raises(InputError, match=r"validation: expected a share from 0 to 1, found 1.5"):
        write_tokens(tmp_path / "out", [text], ByteTokenizer(), 1.5)
    with pytest.raises(InputError, match=r"at least one text file"):
        write_tokens(tmp_path / "out", [], ByteTokenizer())
    with pytest.raises(InputError, match=r"is a folder, expected a file"):
        write_tokens(tmp_path / "out", [tmp_path], ByteTokenizer())


# Reading


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected a folder made by"):
        TokenData.open(tmp_path / "nowhere")
    (folder / "train.bin").rename(folder / "elsewhere")
    with pytest.raises(InputError, match=r"train.bin: train: no such file; tokens.json lists 90 tokens"):
        TokenData.open(folder)
    (folder / "tokens.json").unlink()
    with pytest.raises(InputError, match=r"tokens.json: no such file"):
        TokenData.open(folder)


@pytest.mark.parametrize(("change", "word"), [(-1, "truncated"), (-180, "truncated"), (2, "too long")])
def test_a_wrong_length_is_always_noticed(folder: Path, change: int, word: str) -> None:
    content = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes((content + bytes(9))[: len(content) + change])
    with pytest.raises(InputError, match=rf"train.bin: train.tokens: is {word}: expected 180 bytes \(90 tokens"):
        TokenData.open(folder)


@settings(max_examples=25, deadline=None)
@given(place=st.integers(0, 179), flip=st.integers(1, 255))
def test_any_changed_byte_is_found_by_the_checksum(
    tmp_path_factory: pytest.TempPathFactory, place: int, flip: int
) -> None:
    tmp = tmp_path_factory.mktemp("flip")
    (tmp / "text.txt").write_text("0123456789" * 10)
    folder = write_tokens(tmp / "tokens", [tmp / "text.txt"], ByteTokenizer()).folder
    content = bytearray((folder / "train.bin").read_bytes())
    content[place] ^= flip
    (folder / "train.bin").write_bytes(content)
    TokenData.open(folder)
    with pytest.raises(InputError, match=r"train.bin: train.sha256: is corrupt"):
        TokenData.open(folder, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pathloom-tokens-9"}, "format: expected 'pathloom-tokens-1'"),
        ({"vocab": "many"}, "vocab: expected a valid integer"),
        ({"dtype": "float32"}, "dtype: expected 'uint16' or 'uint32'"),
        ({"train": {"tokens": -1, "sha256": "0" * 64}}, "train.tokens: expected greater than or equal to 0"),
        ({"extra": 1}, "extra: unknown key"),
        ({"tokenizer": {"name": "bytes"}}, "tokenizer.fingerprint: missing"),
    ],
)
def test_a_wrong_card_is_refused_with_its_key(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "tokens.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=rf"tokens.json: {message}"):
        TokenData.open(folder)


def test_a_card_that_is_cut_off_is_refused(folder: Path) -> None:
    path = folder / "tokens.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(InputError, match=r"tokens.json: is no readable JSON"):
        TokenData.open(folder)


def test_an_empty_split_is_an_empty_array(tmp_path: Path, text: Path) -> None:
    data = write_tokens(tmp_path / "out", [text], ByteTokenizer(), 0)
    assert data.split("validation").shape == (0,)
    with pytest.raises(InputError, match=r"validation.bin: validation: holds 0 tokens, expected at least 9"):
        data.windows("validation", 8)
    with pytest.raises(InputError, match=r"expected train or validation, found 'test'"):
        data.split("test")


def test_a_split_is_mapped_and_cannot_be_changed(folder: Path) -> None:
    tokens = TokenData.open(folder).split("train")
    assert isinstance(tokens, np.memmap)
    with pytest.raises(ValueError, match=r"read-only"):
        tokens[0] = 1


# Windows


@given(n=st.integers(2, 400), context=st.integers(1, 50), seed=st.integers(0, 2**63), epoch=st.integers(0, 10**9))
def test_every_epoch_is_a_permutation_of_windows_that_do_not_overlap(
    n: int, context: int, seed: int, epoch: int
) -> None:
    tokens = np.arange(n)
    if n < context + 1:
        with pytest.raises(ValueError, match=r"tokens: expected at least"):
            Windows(tokens, context, seed)
        return
    windows = Windows(tokens, context, seed)
    assert len(windows) == (n - 1) // context
    seen = [windows.window(epoch * len(windows) + j) for j in range(len(windows))]
    assert all(w.dtype == np.int64 and w.tolist() == list(range(w[0], w[0] + context + 1)) for w in seen)
    inputs = sorted(token for w in seen for token in w[:-1].tolist())
    assert inputs == list(range(len(windows) * context))


@given(number=st.integers(0, 10**12), seed=st.integers(0, 99), others=st.lists(st.integers(0, 10**6), max_size=5))
def test_a_window_depends_on_its_number_and_seed_alone(number: int, seed: int, others: list[int]) -> None:
    tokens = np.arange(1000)
    used = Windows(tokens, 7, seed)
    for other in others:
        used.window(other)
    assert used.window(number).tolist() == Windows(tokens, 7, seed).window(number).tolist()
    assert used.batch(number, 3)[2].tolist() == used.window(number + 2).tolist()


def test_the_order_of_windows_is_the_one_that_old_checkpoints_mean() -> None:
    """Stated here, because a run that resumes counts on it for ever."""
    windows = Windows(np.arange(101), 10, seed=1)
    first, second = [4, 0, 8, 6, 1, 9, 5, 2, 7, 3], [3, 6, 0, 9, 8, 1, 4, 2, 7, 5]
    assert [windows.place(i) for i in range(20)] == first + second


@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_every_window_comes_at_every_place_equally_often(count: int) -> None:
    epochs = 3000
    windows = Windows(np.arange(count + 1), 1, seed=5)
    tally = Counter((j, windows.place(e * count + j)) for e in range(epochs) for j in range(count))
    expected = epochs / count
    chi_square = sum((tally[j, k] - expected) ** 2 / expected for j in range(count) for k in range(count))
    freedom = (count - 1) ** 2
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5


def test_neighbours_of_one_epoch_are_strangers_in_the_next() -> None:
    windows = Windows(np.arange(10_001), 1, seed=0)
    first, second = (np.array([windows.place(e * 10_000 + j) for j in range(10_000)]) for e in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05
    assert np.count_nonzero(first == second) < 12
    assert np.count_nonzero(np.abs(np.diff(first)) == 1) < 15


def test_a_window_with_a_number_below_zero_is_refused() -> None:
    with pytest.raises(IndexError, match=r"window -1"):
        Windows(np.arange(10), 3).window(-1)
    with pytest.raises(ValueError, match=r"context: expected at least 1"):
        Windows(np.arange(10), 0)
    with pytest.raises(ValueError, match=r"seed: expected at least 0"):
        Windows(np.arange(10), 3, -1)
