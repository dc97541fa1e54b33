"""Fixtures of the command line's tests: the counting world instead of the installed ones, in an empty folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import counting_world
import pytest
from answers import Answer, Call

from pathloom.cli import main


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line inside an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return run


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Install the counting world (alone; arguments change it) and write a problem file, whose path comes back."""

    def install(goal: str = "3", others: Sequence[Any] = (), **changes: Any) -> Path:
        found = {world.name: world for world in (counting_world.world(**changes), *others)}
        import pathloom.cli.opening

        monkeypatch.setattr(pathloom.world, "worlds", lambda: found)
        monkeypatch.setattr(pathloom.cli.opening, "worlds", lambda: found)
        path = tmp_path / "three.txt"
        path.write_text(f"count to {goal}\n")
        return path

    return install
