"""The table of public data sets: what each is, its licence, where it comes from, and the checksums of its files.

A file is listed with a public address only where its content is byte for byte what that address serves; text may lie
packed (``.gz``) on disk, the checksum is always that of the unpacked content. Data sets without such files have to be
put together from their sources by hand; `pathloom.data.find` still finds them in a folder that the user names.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from pathloom.data.naming import unknown_name
from pathloom.plan import InputError


@dataclass(frozen=True)
class PublicFile:
    """One file of a data set.

    Attributes
    ----------
    path
        Where it lies inside the data set's folder; with ``.gz`` it is kept packed.
    url
        Public address of the file, or of the zip archive that holds it.
    sha256
        Of the unpacked content.
    member, archive_sha256
        Name inside the archive and checksum of the archive; empty for a plain file.
    """

    path: str
    url: str
    sha256: str
    member: str = ""
    archive_sha256: str = ""


@dataclass(frozen=True)
class DataSet:
    """One public data set: name, what it is, licence, addresses of its sources, files that can be downloaded."""

    name: str
    what: str
    licence: str
    sources: tuple[str, ...]
    files: tuple[PublicFile, ...]


@dataclass(frozen=True)
class FileCheck:
    """Outcome for one file: "ok", "missing", "differs" (from its checksum) or "unlisted" (no checksum known)."""

    path: str
    status: str


@cache
def _table() -> dict[str, DataSet]:
    data = json.loads((files("pathloom.data") / "datasets.json").read_text(encoding="utf-8"))
    return {
        row["name"]: DataSet(
            row["name"],
            row["what"],
            row["licence"],
            tuple(row["sources"]),
            tuple(PublicFile(**entry) for entry in row["files"]),
        )
        for row in data["datasets"]
    }


def datasets() -> tuple[DataSet, ...]:
    """Every data set of the table, by name."""
    return tuple(_table()[name] for name in sorted(_table()))


def dataset(name: str) -> DataSet:
    """One data set of the table.

    Raises
    ------
    InputError
        If the table has none of that name.
    """
    try:
        return _table()[name]
    except KeyError:
        raise InputError(unknown_name("data set", name, sorted(_table()), "the table of data sets")) from None


def content_sha256(path: Path) -> str | None:
    """SHA-256 of a file's content, unpacked where its name ends in ``.gz``; None if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except (OSError, EOFError, zlib.error):
        return None
    return digest.hexdigest()


def verify(name: str, folder: Path | None = None) -> list[FileCheck]:
    """Compare the files of a data set with their checksums.

    Parameters
    ----------
    folder
        Where to look; None: wherever `pathloom.data.find` finds it, which may download it.

    Raises
    ------
    InputError
        If the table has no such data set, or it is nowhere to be found.
    """
    entry = dataset(name)
    if folder is None:
        from pathloom.data import find

        folder = find(name)
    checks: list[FileCheck] = []
    for file in entry.files:
        path = folder / file.path
        if not path.is_file():
            checks.append(FileCheck(file.path, "missing"))
        else:
            checks.append(FileCheck(file.path, "ok" if content_sha256(path) == file.sha256 else "differs"))
    listed = {file.path for file in entry.files}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and relative not in listed and path.name != "README.md":
            checks.append(FileCheck(relative, "unlisted"))
    return checks


def is_complete(entry: DataSet, folder: Path) -> bool:
    """Whether every listed file of `entry` lies in `folder` (contents are not read)."""
    return bool(entry.files) and all((folder / file.path).is_file() for file in entry.files)


def download(entry: DataSet, folder: Path) -> None:
    """Fetch the listed files of `entry` into `folder`, each one checked; those that are there are kept.

    Raises
    ------
    InputError
        If the table lists no files for it, if an address cannot be reached, or if a checksum is wrong.
    """
    if not entry.files:
        raise InputError(
            f"data set '{entry.name}' has no direct download; get it from {' or '.join(entry.sources)} "
            f"and put it into a folder '{entry.name}' under $PATHLOOM_DATA"
        )
    archives: dict[str, Path] = {}
    for file in entry.files:
        target = folder / file.path
        if target.is_file():
            continue
        if file.url not in archives:
            archives[file.url] = _retrieve(file.url, file.archive_sha256 or file.sha256, folder / ".downloads")
        content = _member(archives[file.url], file)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and moved, so that an interrupted download never leaves half a file under the final name.
        part = target.with_name(target.name + ".part")
        part.write_bytes(gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)
        part.replace(target)
    for archive in archives.values():
        archive.unlink(missing_ok=True)
    downloads = folder / ".downloads"
    if downloads.is_dir() and not any(downloads.iterdir()):
        downloads.rmdir()


def _retrieve(url: str, sha256: str, folder: Path) -> Path:
    import pooch

    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", path=folder, progressbar=False))
    except ValueError as error:
        raise InputError(f"{url}: downloaded, but its checksum is wrong ({str(error).splitlines()[0]})") from None
    except Exception as error:  # whatever the transport raises: the user needs one line, not its stack
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{url}: cannot be downloaded ({reason})") from None


def _member(path: Path, file: PublicFile) -> bytes:
    if not file.member:
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(file.member)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise InputError(f"{file.url}: holds no readable '{file.member}' ({error})") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise InputError(f"{file.url}: the checksum of '{file.member}' is wrong")
    return content
