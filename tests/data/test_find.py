"""Data sets are found where the user says, beside the project, in the cache, or at their public source."""

from __future__ import annotations

import gzip
import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import pathloom.data
from pathloom.data import find, registry
from pathloom.data.registry import DataSet, PublicFile, dataset, datasets, download, verify
from pathloom.plan import InputError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def public(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path / "public"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No local copies: an empty cache, no $PATHLOOM_DATA, no shared folder; returns the cache."""
    monkeypatch.delenv("PATHLOOM_DATA", raising=False)
    monkeypatch.setenv("PATHLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pathloom.data, "__file__", str(tmp_path / "a" / "b" / "c" / "d" / "__init__.py"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache" / "data"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def served(folder: Path, address: str) -> DataSet:
    """A data set of one plain file, kept packed, and one member of an archive."""
    plain, member = b"figures\n" * 10, b"a map\n"
    (folder / "plain.txt").write_bytes(plain)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("maps/one.map", member)
    (folder / "maps.zip").write_bytes(archive.getvalue())
    return DataSet(
        "toy",
        "a toy",
        "CC0-1.0",
        (address,),
        (
            PublicFile("plain.txt.gz", f"{address}/plain.txt", sha(plain)),
            PublicFile("maps/one.map", f"{address}/maps.zip", sha(member), "maps/one.map", sha(archive.getvalue())),
        ),
    )


def test_the_users_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mapf").mkdir()
    monkeypatch.setenv("PATHLOOM_DATA", str(tmp_path))
    assert find("mapf") == tmp_path / "mapf"


def test_the_shared_folder_beside_the_current_one_comes_second(nowhere: Path, tmp_path: Path) -> None:
    (tmp_path / "shared" / "data" / "mapf").mkdir(parents=True)
    assert find("mapf") == tmp_path / "shared" / "data" / "mapf"


def test_a_missing_data_set_is_downloaded_once_and_then_found_in_the_cache(
    nowhere: Path, public: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = public
    monkeypatch.setattr(registry, "_table", lambda: {"toy": served(folder, address)})
    found = find("toy")
    assert found == nowhere / "toy"
    assert gzip.decompress((found / "plain.txt.gz").read_bytes()) == b"figures\n" * 10
    assert (found / "maps" / "one.map").read_bytes() == b"a map\n"
    assert {check.status for check in verify("toy")} == {"ok"}
    assert sorted(p.name for p in found.iterdir()) == ["maps", "plain.txt.gz"]
    for file in folder.iterdir():
        file.unlink()
    assert find("toy") == found


def test_a_download_with_a_wrong_checksum_is_refused(nowhere: Path, public: tuple[Path, str]) -> None:
    folder, address = public
    entry = served(folder, address)
    (folder / "plain.txt").write_bytes(b"other figures\n")
    with pytest.raises(InputError, match="checksum") as raised:
        download(entry, nowhere / "toy")
    assert "\n" not in str(raised.value)
    assert not (nowhere / "toy" / "plain.txt.gz").exists()


def test_an_address_that_does_not_answer_is_one_clear_line(nowhere: Path, public: tuple[Path, str]) -> None:
    _, address = public
    entry = DataSet("toy", "", "", (address,), (PublicFile("x", f"{address}/x", "0" * 64),))
    with pytest.raises(InputError, match="cannot be downloaded") as raised:
        download(entry, nowhere / "toy")
    assert "\n" not in str(raised.value)


def test_a_data_set_without_a_download_says_where_to_get_it(nowhere: Path) -> None:
    with pytest.raises(InputError, match=r"https://github.com/.*PATHLOOM_DATA"):
        find("jsp")


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a\\b", "a\0b"])
def test_a_path_is_no_name_of_a_data_set(name: str) -> None:
    with pytest.raises(InputError, match="no name of a data set"):
        find(name)


def test_an_unknown_name_suggests_the_nearest(nowhere: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'train-gcp'"):
        find("train-gpc")


def test_verify_tells_missing_changed_and_unlisted_files_apart(
    tmp_path: Path, public: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_table", lambda: {"toy": served(*public)})
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "plain.txt.gz").write_bytes(b"no gzip")
    (tmp_path / "toy" / "extra").write_bytes(b"")
    statuses = {check.path: check.status for check in verify("toy", tmp_path / "toy")}
    assert statuses == {"plain.txt.gz": "differs", "maps/one.map": "missing", "extra": "unlisted"}


def test_every_entry_of_the_table_says_what_it_is_and_where_it_comes_from() -> None:
    assert len({entry.name for entry in datasets()}) == len(datasets()) >= 30
    for entry in datasets():
        assert entry.what and entry.licence
        assert entry.sources
        for address in (*entry.sources, *(file.url for file in entry.files)):
            assert address.startswith("https://")
        for file in entry.files:
            assert len(file.sha256) == 64 and bool(file.member) == bool(file.archive_sha256)
            assert not file.path.startswith(("/", ".."))


@pytest.mark.parametrize("name", ["train-gcp", "mapf"])
def test_local_copies_have_the_registered_checksums(name: str) -> None:
    folders = [folder for folder in pathloom.data._local(name) if folder.is_dir()]
    if not folders:
        pytest.skip("no local copy")
    checks = [check for check in verify(name, folders[0]) if check.status != "unlisted"]
    assert len(checks) == len(dataset(name).files) > 0
    assert {check.status for check in checks} == {"ok"}
