"""What a world declares to the rest of the house.

The command line, the service and the benchmarks find worlds through the entry-point group ``pathloom.worlds`` and
know none by name. A world's package exposes one `World`; its fields name functions by "module:function", so that
finding and listing worlds imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

GROUP = "pathloom.worlds"


def resolve(target: str) -> Any:
    """The object that "module:name" points to."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class World:
    """Declaration of a world; every target is a "module:function" string, imported when it is called.

    Attributes
    ----------
    name, summary
        Name on the command line and one line about it.
    recognise
        ``(path: Path, head: str) -> str | None``: what kind of problem the file is, from its name and its first
        64 KiB of text; None if it is none of this world's. Must be cheap and must not raise.
    load
        ``(path: Path) -> problem``; raises `InputError`.
    check
        The world's checker, ``(problem, plan) -> list[Violation]``.
    methods
        Method name -> target with the `pathloom.plan.Method` signature.
    default_method
        The method whose plan is written and reported first.
    default_table
        Methods that `pathloom plan` runs beside the default one to show what others would do.
    columns, row
        Titles of the table's columns, and ``(plan) -> Sequence[str]`` with one cell a title.
    write
        ``(plan, others: Sequence[Plan], out: Path) -> dict[str, Path]``: writes plan.json, pages, pictures, traces.
    read_plan
        ``(path) -> Plan``: reads the plan.json that `write` wrote; raises `InputError`.
    example
        ``() -> str``: a commented example input file, for ``pathloom plan --init``.
    simulate
        ``(plan, *, seed, runs, noise, stragglers, slow_links, failures, on_progress) -> result`` or empty where the
        world cannot be simulated.
    """

    name: str
    summary: str
    recognise: str
    load: str
    check: str
    methods: Mapping[str, str]
    default_method: str
    default_table: Sequence[str]
    columns: Sequence[str]
    row: str
    write: str
    read_plan: str
    example: str
    simulate: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def worlds() -> dict[str, World]:
    """Every installed world by name, in alphabetical order."""
    found = {point.name: point.load() for point in entry_points(group=GROUP)}
    return dict(sorted(found.items()))
