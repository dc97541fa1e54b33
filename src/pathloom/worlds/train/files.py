"""Input files of the train world: YAML in, `TrainProblem` out, or one line that says what is wrong and where."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from pathloom.data.input_model import validated
from pathloom.data.reading import read_text
from pathloom.data.strict_yaml import parse_yaml
from pathloom.plan import InputError
from pathloom.worlds.train.from_file import problem_of
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.train_file import TrainFile

KIND = "pipeline-parallel training problem (YAML)"

_KEYS = ("nodes", "links", "model", "microbatches", "samples", "stages", "run_share", "route_length")
_TOP_KEY = re.compile(rf"^(?:{'|'.join(_KEYS)})\s*:", re.MULTILINE)
_LARGEST = 16 * 1024 * 1024


def load(path: Path) -> TrainProblem:
    """Read a problem from a YAML file, gzip or not; CSV files that it names are looked for beside it.

    Raises
    ------
    InputError
        Names the file, the line or key, and what was expected.
    ProvenInfeasible
        If no plan can exist.
    """
    return _problem(read_text(path, _LARGEST), str(path), path.parent)


def loads(text: str, name: str = "") -> TrainProblem:
    """Read a problem from YAML text; `name` stands for the file in messages. Errors as `load`."""
    return _problem(text, name, None)


def _problem(text: str, file: str, folder: Path | None) -> TrainProblem:
    data = parse_yaml(text, file or None)
    if data is None:
        raise InputError("is empty; expected keys and values (name, nodes, links, model, ...)", file=file or None)
    return problem_of(validated(TrainFile, data, file=file or None), file=file, folder=folder)


def recognise(path: Path, head: str) -> str | None:
    """`KIND` if the head of a file looks like a training problem, None otherwise.

    Two of its top-level keys are enough in a file named YAML, so that an incomplete file still gets a precise error.
    """
    found = {match.group().rstrip(": \t") for match in _TOP_KEY.finditer(head)}
    name = path.name.lower().removesuffix(".gz")
    return KIND if len(found) >= (2 if name.endswith((".yaml", ".yml")) else 4) else None


def example() -> str:
    """A commented example file, which loads as it stands."""
    return (files("pathloom.worlds.train") / "example.yaml").read_text(encoding="utf-8")
