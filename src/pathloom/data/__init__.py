"""Data: recognising a file's format, measured networks of regions, and the registry of public data sets.

`find` returns the folder of a public data set. `pathloom.data.registry` is the table of them,
`pathloom.data.recognise` says what kind of problem a file holds, `pathloom.data.network` has the measured networks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pathloom.plan import InputError

__all__ = ["find", "local_folder"]


def find(name: str) -> Path:
    """Folder of a public data set.

    Looks at ``$PATHLOOM_DATA/name``, at ``../shared/data/name`` beside the repository and beside the current folder,
    at the user's cache, and then downloads the files that the registry lists, checking them.

    Parameters
    ----------
    name
        Name of the data set, such as "train-gcp" or "mapf"; a folder of that name is found even if the registry does
        not list it.

    Raises
    ------
    InputError
        If the name is no name, or if the data set is in none of these places and cannot be downloaded.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder

    from pathloom.data.registry import dataset, download

    folder = cache_folder() / name
    download(dataset(name), folder)
    return folder


def local_folder(name: str) -> Path | None:
    """Folder of a data set that is on this machine, None if it would have to be downloaded; places as in `find`.

    Raises
    ------
    InputError
        If the name is no name.
    """
    if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
        raise InputError(f"'{name!r:.60}' is no name of a data set", key="name")
    for folder in _local(name):
        if folder.is_dir():
            return folder

    from pathloom.data.registry import datasets, is_complete

    folder = cache_folder() / name
    known = any(entry.name == name and is_complete(entry, folder) for entry in datasets())
    return folder if known else None


def cache_folder() -> Path:
    """Where downloaded data sets are kept: ``$PATHLOOM_CACHE`` or the user's cache folder of the platform."""
    chosen = os.environ.get("PATHLOOM_CACHE")
    if chosen:
        return Path(chosen) / "data"
    import pooch

    return Path(pooch.os_cache("pathloom")) / "data"


def _local(name: str) -> Iterator[Path]:
    """Folders on this machine that come before the cache."""
    chosen = os.environ.get("PATHLOOM_DATA")
    if chosen:
        yield Path(chosen) / name
    # The repository is where the package lies when it is installed in editable mode.
    roots = [Path(__file__).resolve().parents[3], Path.cwd()]
    for root in dict.fromkeys(roots):
        yield root.parent / "shared" / "data" / name
