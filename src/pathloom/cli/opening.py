"""What a file on the command line is: a problem of some world, a plan, or a recorded timeline."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathloom.data.naming import unknown_name
from pathloom.data.reading import read_text
from pathloom.data.recognise import recognise
from pathloom.plan import InputError, Plan
from pathloom.timeline import FORMAT as TIMELINE_FORMAT
from pathloom.timeline import Timeline
from pathloom.world import World, resolve, worlds


@dataclass(frozen=True)
class Opened:
    """A problem with its world, the kind that the file was taken for, and the file."""

    world: World
    kind: str
    problem: Any
    file: Path


def world_named(name: str) -> World:
    """The world of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    known = worlds()
    if name not in known:
        raise InputError(unknown_name("world", name, known, "this installation"), key="--world")
    return known[name]


def open_problem(file: Path, settings: list[str] | None = None) -> Opened:
    """Read a problem file of whatever world knows it.

    Parameters
    ----------
    settings
        Texts NAME=VALUE for the world's reader.

    Raises
    ------
    InputError
        If the file cannot be read or is none, or if a setting is unknown to the world or no whole text NAME=VALUE.
    """
    known = worlds()
    found = recognise(file, known)
    world = known[found.world]
    options = named_values(settings or [], world.options, f"world '{world.name}'")
    return Opened(world, found.kind, resolve(world.load)(file, **options), file)


def named_values(settings: Sequence[str], known: Collection[str], of: str) -> dict[str, Any]:
    """Values of texts NAME=VALUE, read as YAML.

    Raises
    ------
    InputError
        If a text has another form, its name is not among the `known` ones of something, or its value is none.
    """
    import yaml

    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"expected NAME=VALUE, found '{setting}'", key="--set")
        if name not in known:
            raise InputError(unknown_name("option", name, known, of), key="--set")
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"'{value}' is no value", key=f"--set {name}") from None
    return values


def open_json(file: Path) -> tuple[dict[str, Any], World | None] | None:
    """Content of a plan or recorded timeline and the world of the plan (None for a timeline); None if it is neither.

    Raises
    ------
    InputError
        If the file cannot be read, or looks like JSON and is broken.
    """
    text = read_text(file)
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        if file.suffix != ".json":
            return None  # YAML may begin with a brace too
        raise InputError(
            f"is not JSON, or a truncated file: {error.msg}", file=str(file), key=f"line {error.lineno}"
        ) from None
    tag = data.get("format")
    if tag == TIMELINE_FORMAT:
        return data, None
    for world in worlds().values():
        if tag == world.plan_format:
            return data, world
    if file.suffix == ".json":
        expected = ", ".join([*(f"'{world.plan_format}'" for world in worlds().values()), f"'{TIMELINE_FORMAT}'"])
        raise InputError(f"expected one of {expected}, found {tag!r}", file=str(file), key="format")
    return None


def open_plan(file: Path) -> tuple[World, Plan] | None:
    """World and plan of a plan file that its checker accepts; None if the file is something else.

    Raises
    ------
    InputError
        If the file cannot be read, or holds a plan that breaks a rule (then somebody changed it).
    """
    found = open_json(file)
    if found is None or found[1] is None:
        return None
    world = found[1]
    plan: Plan = resolve(world.read_plan)(file)
    violations = resolve(world.check)(plan.problem, plan)
    if violations:
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InputError(f"holds a plan that its checker rejects: {violations[0]}{more}", file=str(file))
    return world, plan


def open_timeline(file: Path) -> Timeline | None:
    """A recorded timeline; None if the file is something else. Errors as `open_plan`."""
    found = open_json(file)
    if found is None or found[1] is not None:
        return None
    try:
        return Timeline.from_dict(found[0])
    except ValueError as error:
        raise InputError(str(error), file=str(file)) from None
