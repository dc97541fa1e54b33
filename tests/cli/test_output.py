"""Results come to their folder whole or not at all, and never cost the user another file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pathloom.cli.output import check_folder, write_folder, write_new_file
from pathloom.plan import InputError


def two_files(folder: Path) -> dict[str, Path]:
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "inner" / "b.txt").write_text("b")
    return {"first": folder / "a.txt", "second": folder / "inner" / "b.txt"}


def test_a_new_folder_holds_exactly_what_was_written(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    files = write_folder(out, two_files)
    assert files == {"first": out / "a.txt", "second": out / "inner" / "b.txt"}
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == ["a.txt", "inner", "inner/b.txt"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~mask


def test_files_of_an_earlier_result_are_replaced_and_others_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("old")
    (out / "other.txt").write_text("other")
    write_folder(out, two_files)
    assert (out / "a.txt").read_text() == "a"
    assert (out / "other.txt").read_text() == "other"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("broken"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_earlier_result_alone(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "out"
    write_folder(out, two_files)
    (out / "a.txt").write_text("earlier")

    def fails(folder: Path) -> dict[str, Path]:
        two_files(folder)
        raise error

    with pytest.raises((InputError, RuntimeError, KeyboardInterrupt)):
        write_folder(out, fails)
    assert (out / "a.txt").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file, expected a folder"):
        check_folder(tmp_path / "out")
    with pytest.raises(InputError, match="--out: cannot be written"):
        check_folder(tmp_path / "out" / "below")


def test_a_new_file_never_replaces_another(tmp_path: Path) -> None:
    write_new_file(tmp_path / "x", "one")
    with pytest.raises(InputError, match="exists already"):
        write_new_file(tmp_path / "x", "two")
    assert (tmp_path / "x").read_text() == "one"
    with pytest.raises(InputError, match="cannot be written"):
        write_new_file(tmp_path / "no" / "x", "one")
