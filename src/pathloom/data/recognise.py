"""What kind of problem is a file? Its head is read once and every world is asked.

The worlds are handed in by the caller, because `pathloom.data` lies below them and knows none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

from pathloom.data.reading import read_head
from pathloom.plan import InputError


class Recognising(Protocol):
    """What a world's declaration must have to be asked; `pathloom.world.World` has it."""

    @property
    def summary(self) -> str: ...

    @property
    def recognise(self) -> Any:
        """``(path, head) -> str | None``, or "module:function" that names it."""


@dataclass(frozen=True)
class Recognition:
    """World and kind of problem that a file was taken for."""

    world: str
    kind: str


def recognise(path: Path, worlds: Mapping[str, Recognising]) -> Recognition:
    """Ask every world what `path` is.

    Parameters
    ----------
    path
        A text file, gzip or not.
    worlds
        Name -> declaration; the command line passes `pathloom.world.worlds()`.

    Raises
    ------
    InputError
        If the file cannot be read, if no world knows it (lists what was expected), or if several do.
    """
    head = read_head(path)
    found: list[Recognition] = []
    for name, world in worlds.items():
        target = world.recognise
        ask: Callable[[Path, str], str | None] = resolve_name(target) if isinstance(target, str) else target
        kind = ask(path, head)
        if kind is not None:
            found.append(Recognition(name, kind))
    if not found:
        known = "; ".join(f"{name} ({world.summary.rstrip('.')})" for name, world in worlds.items()) or "no world"
        raise InputError(f"not recognised; expected a problem file of one of the worlds: {known}", file=str(path))
    if len(found) > 1:
        claims = " and ".join(f"{claim.world} ({claim.kind})" for claim in found)
        raise InputError(f"could be of more than one world: {claims}", file=str(path))
    return found[0]
