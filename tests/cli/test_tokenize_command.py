"""``pathloom data tokenize`` makes token data sets, and ``pathloom data verify`` finds what has happened to them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from answers import Call

from pathloom.data.token_files import TokenData


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "play.txt"
    path.write_text("To be, or not to be\n" * 50)
    return path


def test_a_text_becomes_tokens(call: Call, text: Path, tmp_path: Path) -> None:
    answer = call("data", "tokenize", text, "--out", "tokens")
    assert answer.status == 0
    assert "900" in answer.out
    assert "tokenizer bytes, vocabulary 256, uint16" in answer.out
    data = TokenData.open(tmp_path / "tokens", verify=True)
    assert data.counts == {"train": 900, "validation": 100}
    assert data.tokenizer().decode(data.split("validation")) == "To be, or not to be\n" * 5


def test_json_says_what_was_made(call: Call, text: Path, tmp_path: Path) -> None:
    packed = tmp_path / "second.txt.gz"
    packed.write_bytes(gzip.compress(b"0123456789"))
    answer = call(
        "data", "tokenize", text, packed, "--out", "t", "--tokenizer", "bytes+end", "--validation", 0.5, "--json"
    )
    (said,) = [json.loads(line) for line in answer.out.splitlines()]
    assert said["tokens"] == {"train": 506, "validation": 506}
    assert said["sources"] == [{"file": "play.txt", "tokens": 1000}, {"file": "second.txt.gz", "tokens": 10}]
    assert (said["vocab"], said["dtype"], said["tokenizer"]["end_of_text"]) == (257, "uint16", 256)
    assert [Path(path).is_file() for path in said["files"].values()] == [True] * 3
    assert said["seconds"] > 0


def test_a_data_set_of_text_may_be_named(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHLOOM_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "text").mkdir(parents=True)
    (tmp_path / "data" / "text" / "README.md").write_text("no text of the data set")
    missing = call("data", "tokenize", "text", "--out", "tokens")
    assert missing.status == 2
    assert "is a data set without text files" in missing.lines[0]
    (tmp_path / "data" / "text" / "play.txt.gz").write_bytes(gzip.compress(b"0123456789"))
    assert call("data", "tokenize", "text", "--out", "tokens").status == 0
    assert TokenData.open(tmp_path / "tokens").split("train").tolist() == list(b"012345678")


def test_tokens_are_verified_like_any_data_set(call: Call, text: Path, tmp_path: Path) -> None:
    call("data", "tokenize", text, "--out", "tokens")
    assert (call("data", "verify", "tokens").status, call("data", "verify", "tokens").out) == (0, "tokens: ok\n")
    file = tmp_path / "tokens" / "train.bin"
    content = file.read_bytes()
    file.write_bytes(content[:7] + b"x" + content[8:])
    answer = call("data", "verify", "tokens")
    assert answer.status == 1
    assert "train.bin: train.sha256: is corrupt" in answer.out
    (said,) = [json.loads(line) for line in call("data", "verify", tmp_path / "tokens", "--json").out.splitlines()]
    assert said["ok"] is False
    assert "is corrupt" in said["error"]
    (tmp_path / "tokens" / "tokens.json").unlink()
    assert "tokens.json: no such file" in call("data", "verify", "./tokens").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.txt"], "nothing.txt: no such file"),
        (["play.txt", "bad.txt"], "bad.txt: line 2: is not UTF-8 text (byte 0xff)"),
        (["play.txt", "--tokenizer", "words"], "tokenizer: expected 'bytes', 'bytes+end', or a Hugging Face"),
        (["play.txt", "--tokenizer", "."], "tokenizer.json: no such file"),
        (["play.txt", "--validation", "2"], "--validation: expected a share from 0 to 1, found 2"),
        (["play.txt", "--validation", "nan"], "--validation: expected a share from 0 to 1, found nan"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    call: Call, text: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\n")
    answer = call("data", "tokenize", *arguments, "--out", "tokens")
    assert answer.status == 2
    assert len(answer.lines) == 1
    assert message in answer.lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.txt", "play.txt"]


def test_a_folder_with_something_else_is_not_touched(call: Call, text: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    answer = call("data", "tokenize", text, "--out", "thesis")
    assert answer.status == 2
    assert "thesis: holds 'thesis.tex'" in answer.lines[0]
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]
