"""What a command line in a test comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """Exit status, standard output and standard error."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Lines on standard error that are the program's last word, ``pathloom: ...``."""
        return [line for line in self.err.splitlines() if line.startswith("pathloom: ")]


Call = Callable[..., Answer]
Install = Callable[..., Path]
