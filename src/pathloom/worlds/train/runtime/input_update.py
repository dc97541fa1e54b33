"""Measured values into an input file: only the lines that change, comments and layout of all others kept.

What changes is decided on the file's plain content as a list of `Edit` (`input_edits`); the same edits are then made on
the YAML document, and of its new text only those lines are taken over that differ from its old one. The result is read
again and must hold exactly what the edits say, or nothing is written.
"""

from __future__ import annotations

import difflib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pathloom.data.input_model import validated
from pathloom.data.reading import read_text
from pathloom.data.strict_yaml import parse_yaml
from pathloom.plan import InputError, ProvenInfeasible
from pathloom.worlds.train.files import load
from pathloom.worlds.train.runtime.input_edits import Edit, Measured, apply, edits_for
from pathloom.worlds.train.train_file import TrainFile


def updated(text: str, measured: Measured, *, file: str, folder: Path) -> str:
    """The text of an input file with the measured values in it.

    Parameters
    ----------
    text
        The file as it is: a valid training problem.
    file, folder
        Its name, for messages, and the folder where CSV files that it names lie.

    Raises
    ------
    InputError
        If a node or link is unknown to the file, or if the file is written in a way that values cannot be set in (an
        anchor shared by several nodes, for example).
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    ends = "\r\n" if "\r\n" in text else "\n"
    plain = text.removeprefix(mark).replace("\r\n", "\n")
    data = _unshared(parse_yaml(plain, file))
    validated(TrainFile, data, file=file)
    try:
        edits = edits_for(data, measured, folder)
    except InputError as error:
        raise InputError(error.reason, file=file, key=error.key) from None
    for candidate in _rewritten(plain, edits):
        try:
            if parse_yaml(candidate) == data:
                return mark + candidate.replace("\n", ends)
        except InputError:
            continue
    message = "is written in a way that values cannot be set in without changing others (an anchor used several times?)"
    raise InputError(f"{message}; expected plain keys and values", file=file)


def read_input(path: Path) -> str:
    """An input file's text with its line ends as they are, for `updated` and `replace_input`.

    Raises
    ------
    InputError
        If it cannot be read, or is packed with gzip.
    """
    read_text(path)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError:
        message = "is packed with gzip; expected plain YAML to write measured values into"
        raise InputError(message, file=str(path)) from None


def difference(old: str, new: str, file: str) -> str:
    """A unified diff of the two texts, empty if they are equal."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"{file} (now)", f"{file} (measured)"
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def replace_input(path: Path, old: str, new: str) -> None:
    """Put the text `new` in the place of an input file that held `old`, whole or not at all.

    Raises
    ------
    InputError
        If the new text is no training problem that can be loaded, if somebody has changed the file since `old` was
        read, or if it cannot be written. The file is then as it was.
    """
    target = path.resolve()  # a link stays one
    part: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
        part = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(new)
            stream.flush()
            os.fsync(stream.fileno())
        shutil.copymode(target, part)
        try:
            load(part)
        except (InputError, ProvenInfeasible) as error:
            reason = str(error).replace(str(part), "").lstrip(": ")
            raise InputError(f"would not load with the measured values: {reason}", file=str(path)) from None
        with target.open(encoding="utf-8", newline="") as stream:
            if stream.read() != old:
                raise InputError("has been changed during the measurement; expected it to stay", file=str(path))
        part.replace(target)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(path)) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _unshared(value: Any) -> Any:
    """A copy in which no two places are one object, as those of a YAML anchor are."""
    if isinstance(value, dict):
        return {key: _unshared(entry) for key, entry in value.items()}
    return [_unshared(entry) for entry in value] if isinstance(value, list) else value


def _rewritten(text: str, edits: Sequence[Edit]) -> Iterator[str]:
    """The text with the edits made: only the lines that they touch, and, second best, written anew as a whole."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.util import load_yaml_guess_indent

    try:
        _, indent, offset = load_yaml_guess_indent(text)
        yaml = YAML()
        yaml.preserve_quotes = True
        yaml.width = 10**6
        yaml.indent(mapping=2, sequence=indent or 2, offset=offset or 0)
        document = yaml.load(text)
        before = _dumped(yaml, document)
        for edit in edits:
            apply(document, edit, _styled)
        after = _dumped(yaml, document)
    except (YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        return
    patched = _patched(io.StringIO(text).readlines(), before, after)
    if patched is not None:
        yield patched
    yield "".join(after)


def _dumped(yaml: Any, document: Any) -> list[str]:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return io.StringIO(stream.getvalue()).readlines()


def _styled(value: Any, *, block: bool = False) -> Any:
    """`value` for a YAML document: mappings on one line, a list of mappings with one line each."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, Mapping):
        mapping = CommentedMap((key, _styled(entry)) for key, entry in value.items())
        if not block:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq(_styled(entry) for entry in value)
        if not value or not isinstance(value[0], Mapping):
            sequence.fa.set_flow_style()
        return sequence
    return value


def _patched(lines: list[str], before: list[str], after: list[str]) -> str | None:
    """`lines` with what differs between `before` and `after`, two renderings of them; None if lines do not match.

    New lines go to the end of their own block, ahead of the comments and blank lines that lead to the next one.
    """
    if len(lines) != len(before):
        return None
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, begin, end, new_begin, new_end in reversed(matcher.get_opcodes()):
        if tag == "equal":
            continue
        new = after[new_begin:new_end]
        if tag == "insert":
            indent = len(new[0]) - len(new[0].lstrip())
            while begin > 0 and _leads_on(lines[begin - 1], indent):
                begin = end = begin - 1
            if begin > 0 and not lines[begin - 1].endswith("\n"):
                lines[begin - 1] += "\n"
        lines[begin:end] = new
    return "".join(lines)


def _leads_on(line: str, indent: int) -> bool:
    """Whether a line is blank, or a comment that stands further left than `indent`."""
    bare = line.lstrip()
    return not bare or (bare.startswith("#") and len(line) - len(bare) < indent)
