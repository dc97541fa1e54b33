"""A file's head is read whatever its packing, and exactly one world must know it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import pytest

from pathloom.data.reading import read_head, read_text
from pathloom.data.recognise import Recognition, recognise
from pathloom.plan import InputError


@dataclass(frozen=True)
class FakeWorld:
    summary: str
    recognise: str


def grids(path: Path, head: str) -> str | None:
    return "grid map" if head.startswith("type octile") else None


def anything(path: Path, head: str) -> str | None:
    return "anything"


GRIDS = FakeWorld("robots on grids.", f"{__name__}:grids")
ANYTHING = FakeWorld("takes all", f"{__name__}:anything")


@pytest.mark.parametrize("packed", [False, True])
def test_the_world_that_knows_the_head_gets_the_file(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.map"
    content = b"type octile\nheight 1\n"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert recognise(path, {"motion": GRIDS}) == Recognition("motion", "grid map")


def test_an_unknown_file_lists_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"motion \(robots on grids\)") as raised:
        recognise(path, {"motion": GRIDS})
    assert raised.value.file == str(path)


def test_a_file_that_two_worlds_claim_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.map"
    path.write_text("type octile\n")
    with pytest.raises(InputError, match=r"motion \(grid map\) and other \(anything\)"):
        recognise(path, {"motion": GRIDS, "other": ANYTHING})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (b"\x89PNG\r\n\0\0", "binary"),
        (b"name: caf\xe9\n", "not UTF-8"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-20], "truncated gzip"),
        (b"\x1f\x8b\x08garbage-garbage", "gzip"),
    ],
)
def test_what_is_no_text_is_one_clear_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(content)
    for read in (read_head, read_text):
        with pytest.raises(InputError, match=words) as raised:
            read(path)
        assert raised.value.file == str(path)
        assert "\n" not in str(raised.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_head(tmp_path / "missing")
    with pytest.raises(InputError, match="is a folder"):
        read_head(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read|no such file"):
        read_head(tmp_path / "a\0b")
    with pytest.raises(InputError, match=r"cannot be read|no such file"):
        read_head(tmp_path / ("x" * 5000))


def test_a_head_may_end_inside_a_character(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("aé" * 100, encoding="utf-8")
    assert read_head(path, limit=2) == "a"
    assert read_text(path) == "aé" * 100


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "bom"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_text(path) == "name: x\n"


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"a" * 10_000))
    with pytest.raises(InputError, match="more than 100 bytes"):
        read_text(path, limit=100)
