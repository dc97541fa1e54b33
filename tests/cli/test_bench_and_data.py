"""``pathloom bench`` and ``pathloom data`` find what lies around them."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from answers import Call

from pathloom.data import registry
from pathloom.data.registry import DataSet, PublicFile


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Something like a clone of the repository with one benchmark."""
    (tmp_path / "src" / "pathloom").mkdir(parents=True)
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    text = '"""What comes back.\n\nMore text.\n"""\n\ndef main(argv=None):\n'
    (folder / "echo_table.py").write_text(text + '    print("heard", *argv)\n    return len(argv) - 1\n')
    (folder / "_shared.py").write_text("")
    return tmp_path


def test_benchmarks_are_listed_by_their_first_line(call: Call, clone: Path) -> None:
    (found,) = [json.loads(line) for line in call("bench", "--json").out.splitlines()]
    assert found["benchmark"] == "echo_table"
    assert found["summary"] == "What comes back."
    assert "echo_table" in call("bench").out


def test_a_benchmark_gets_its_arguments_and_gives_its_status(call: Call, clone: Path) -> None:
    answer = call("bench", "echo-table", "--size")
    assert (answer.status, answer.out) == (0, "heard --size\n")
    assert call("bench", "echo_table", "--size", "3").status == 1


def test_the_repositorys_benchmarks_are_found_from_anywhere(call: Call) -> None:
    names = [json.loads(line)["benchmark"] for line in call("bench", "--json").out.splitlines()]
    assert "checker" in names


def test_data_sets_are_found_listed_and_verified(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"one two three"
    there = DataSet("words", "three words", "CC0", ("https://example.org",), (
        PublicFile("words.txt", "https://example.org/words.txt", sha256(text).hexdigest()),
    ))  # fmt: skip
    absent = DataSet("numbers", "no numbers", "CC0", ("https://example.org",), ())
    monkeypatch.setattr(registry, "_table", lambda: {entry.name: entry for entry in (there, absent)})
    monkeypatch.setenv("PATHLOOM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PATHLOOM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data" / "words"
    folder.mkdir(parents=True)
    (folder / "words.txt").write_bytes(text)

    listed = {entry["name"]: entry for entry in map(json.loads, call("data", "list", "--json").out.splitlines())}
    assert listed["words"]["folder"] == str(folder)
    assert listed["numbers"]["folder"] is None
    assert "three words" in call("data", "list").out
    assert call("data", "where", "words").out.strip() == str(folder)
    assert call("data", "fetch", "words").out.strip() == f"words: {folder}"
    missing = call("data", "where", "numbers")
    assert missing.status == 2
    assert "is not on this machine" in missing.lines[0]
    assert call("data", "fetch", "numbers").status == 2

    assert call("data", "verify").status == 0
    (folder / "words.txt").write_text("one two")
    answer = call("data", "verify", "words")
    assert answer.status == 1
    assert "words.txt: differs" in answer.out
    (folder / "words.txt").unlink()
    (found,) = map(json.loads, call("data", "verify", "words", "--json").out.splitlines())
    assert found == {"name": "words", "ok": False, "files": {"words.txt": "missing"}}
