"""The source keeps its own rules: style, format, types, and the walls between floors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

CHECKS = {
    "ruff check": ["ruff", "check", "src", "tests", "benchmarks"],
    "ruff format": ["ruff", "format", "--check", "src", "tests", "benchmarks"],
    "mypy": ["mypy", "-p", "pathloom"],
    "import-linter": ["lint-imports", "--no-cache"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_source_passes(name: str) -> None:
    tool, *arguments = CHECKS[name]
    done = subprocess.run([BIN / tool, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


HEAVY = {"numba", "scipy", "plotly", "matplotlib", "ortools", "pydantic", "highspy", "networkx", "torch", "pooch"}


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"], ["simulate", "--help"], ["--version"]])
def test_heavy_packages_are_not_imported_for_the_help(arguments: list[str]) -> None:
    """They cost seconds, and the help has to answer at once."""
    program = f"""
import sys
import pathloom.cli
assert pathloom.cli.main({arguments!r}) == 0
print("imported:", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.rpartition("imported:")[2].split())
    assert "typer" in imported
    # Newer versions of Typer themselves read the parameters of a command with pydantic where that is installed.
    by_typer = {"pydantic"} if "typer._adapters" in imported else set()
    assert not (HEAVY - by_typer) & imported
    assert not {name for name in imported if name.startswith("pathloom.worlds.")}
