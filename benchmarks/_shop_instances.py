"""Public scheduling instances by set, with their best known values and bounds."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pathloom.data import find
from pathloom.schedule.problem import Problem
from pathloom.worlds.shop.project_files import read_project
from pathloom.worlds.shop.shop_files import read_flexible_shop, read_job_shop


@dataclass(frozen=True)
class Instance:
    """A problem, its best known value, and the bound that goes with it."""

    name: str
    problem: Problem
    best: int
    bound: int


JOB_SHOP_SETS = {
    "la": [f"la{n:02d}" for n in range(1, 41)],
    "abz": [f"abz{n}" for n in range(5, 10)],
    "orb": [f"orb{n:02d}" for n in range(1, 11)],
    "ta01-10 (15x15)": [f"ta{n:02d}" for n in range(1, 11)],
    "ta11-20 (20x15)": [f"ta{n:02d}" for n in range(11, 21)],
    "ta21-30 (20x20)": [f"ta{n:02d}" for n in range(21, 31)],
    "ta31-40 (30x15)": [f"ta{n:02d}" for n in range(31, 41)],
    "ta41-50 (30x20)": [f"ta{n:02d}" for n in range(41, 51)],
    "ta51-60 (50x15)": [f"ta{n:02d}" for n in range(51, 61)],
    "ta61-70 (50x20)": [f"ta{n:02d}" for n in range(61, 71)],
    "ta71-80 (100x20)": [f"ta{n:02d}" for n in range(71, 81)],
    "swv": [f"swv{n:02d}" for n in range(1, 21)],
    "dmu01-40": [f"dmu{n:02d}" for n in range(1, 41)],
    "dmu41-60": [f"dmu{n:02d}" for n in range(41, 61)],
    "ft": ["ft06", "ft10", "ft20"],
}
"""Set -> its 218 instances in all."""


@cache
def _unpacked(name: str, archive: str) -> Path:
    """Folder with the content of an archive, for as long as this process lives."""
    folder = tempfile.TemporaryDirectory(prefix=f"{name}-")
    _unpacked_folders.append(folder)
    with zipfile.ZipFile(find(name) / archive) as packed:
        packed.extractall(folder.name)
    return Path(folder.name)


_unpacked_folders: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _json(name: str, file: str) -> dict:
    return json.loads((find(name) / file).read_text(encoding="utf-8"))


def job_shop(name: str) -> Instance:
    """A classic job shop of JSPLIB or dmu."""
    known = _json("jsp", "bounds.json")[name]
    path = _unpacked("jsp", "instances.zip") / f"{name}.txt"
    return Instance(name, read_job_shop(path), int(known["ub"]), int(known["lb"]))


def blocking_shop(name: str) -> Instance:
    """The same instance without buffers; jobs may swap."""
    classic = job_shop(name)
    known = _json("jsp", "blocking_swap_bounds.json")[name]
    links = tuple(replace(link, blocking=True) for link in classic.problem.precedences)
    return Instance(name, replace(classic.problem, precedences=links), int(known["ub"]), int(known["lb"]))


def flexible_shops(family: str) -> Iterator[Instance]:
    """Flexible job shops of a folder: "brandimarte", "hurink/edata", "hurink/rdata", "hurink/vdata", "dauzere", ..."""
    newer = _json("fjsp", "bounds.json")
    folder = _unpacked("fjsp", "instances.zip")
    entries = json.loads((find("fjsp") / "instances.json").read_text(encoding="utf-8"))
    for entry in sorted(entries, key=lambda entry: entry["path"]):
        if entry["path"].rpartition("/")[0] != family:
            continue
        stem = Path(entry["path"]).stem
        given = newer.get(stem) or newer.get(f"dpp{stem}")
        if given:
            best, bound = given["ub"], given["lb"]
        elif entry["optimum"] is not None:
            best = bound = entry["optimum"]
        elif entry.get("bounds"):
            best, bound = entry["bounds"]["upper"], entry["bounds"]["lower"]
        else:
            continue
        yield Instance(f"{family}/{stem}", read_flexible_shop(folder / entry["path"]), int(best), int(bound))


PENALISED = 10_000
"""Listed makespans from here on are those of instances without any schedule, with a penalty for it."""


def projects(kind: str) -> Iterator[Instance]:
    """Projects of a set: "j30", "j60", "j120", "mm_j10", "mm_j20", "mm_j30"; those without a schedule are left out."""
    multi = kind.startswith("mm_")
    archive = f"{kind}.zip" if multi else f"{kind}.sm.zip"
    known = _json("psplib", "mmrcpsp_bounds.json" if multi else "rcpsp_bounds.json")
    folder = _unpacked("psplib", archive)
    for path in sorted(folder.rglob("*.mm" if multi else "*.sm")):
        for name in (path.name, path.stem):
            if name in known:
                bound, best = known[name]
                if best >= PENALISED:
                    break
                yield Instance(path.stem, read_project(path), int(best), int(bound))
                break
