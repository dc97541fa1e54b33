"""``pathloom profile FILE``: measure this machine and its links, and write the figures into the input file."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from pathloom.world import World


class ProfileResult(Protocol):
    """What a world's `World.profile` returns."""

    @property
    def columns(self) -> Sequence[str]:
        """Titles of a table."""

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """Its cells, one sequence a row."""

    def to_dict(self) -> dict[str, Any]:
        """Plain figures for ``--json``: ``name`` of the problem, ``diff`` and ``written``: what became of the file."""


def profile(
    file: Annotated[
        Path | None, typer.Argument(help="Problem file to measure for; with --serve it may be left out.")
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A node that is this machine; may be repeated. Default all."),
    ] = None,
    link: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE:NODE=HOST:PORT",
            help="Measure a link from this machine to the probe at HOST:PORT; may be repeated. "
            "NODE:NODE=loopback where both nodes are this machine.",
        ),
    ] = None,
    serve: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Run the probe that others measure, until Ctrl-C.")
    ] = "",
    compute: Annotated[bool, typer.Option(help="Measure the seconds of layers, not links alone.")] = True,
    threads: Annotated[int, typer.Option(help="Threads of the CPU's kernels, as in the run.")] = 1,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or cuda.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 for matrix products, as in the run.")
    ] = "float32",
    repeats: Annotated[int, typer.Option(help="Rounds of measurement; their median counts.")] = 15,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change; leave the file alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Measure this machine and its links for a problem file."""
    from pathloom.cli.results import consoles, plain, print_json
    from pathloom.plan import InputError
    from pathloom.show.table import rich_table
    from pathloom.world import resolve

    results, notes = consoles(as_json)

    def say(text: str) -> None:
        notes.print(f"profile: {text}", soft_wrap=True, highlight=False, markup=False)

    if file is None and not serve:
        raise InputError("expected a problem file, or --serve HOST:PORT", key="FILE")
    world, kind = _world_of(file)
    began = clock.perf_counter()
    try:
        outcome: ProfileResult = resolve(world.profile)(
            file,
            nodes=node,
            links=link or (),
            serve=serve or None,
            compute=compute,
            threads=threads,
            device=device,
            precision=precision,
            repeats=repeats,
            dry_run=dry_run,
            say=say,
        )
    except ModuleNotFoundError as error:
        raise _missing(world, error) from None
    except KeyboardInterrupt:
        if not serve:
            raise
        say("probe stopped")
        return
    if file is None:
        return
    seconds = clock.perf_counter() - began
    figures = plain(outcome.to_dict())
    if as_json:
        print_json(
            {
                "problem": {"name": figures.pop("name", None), "kind": kind, "file": str(file)},
                "seconds": seconds,
                "files": {"problem": str(file)} if figures.get("written") else {},
                "metrics": figures,
            }
        )
    results.print(rich_table(outcome.columns, outcome.rows, title=f"{file.name}: this machine"))
    if dry_run:
        results.print(figures.get("diff") or "nothing would change", soft_wrap=True, highlight=False, markup=False)
    else:
        changed = f"written into {file}" if figures.get("written") else f"{file} holds these figures already"
        results.print(changed, soft_wrap=True, highlight=False, markup=False)


def _world_of(file: Path | None) -> tuple[World, str]:
    """The world that knows the file (without one, the first that can measure), and the kind of the file."""
    from pathloom.data.recognise import recognise
    from pathloom.plan import InputError
    from pathloom.world import worlds

    known = worlds()
    if file is None:
        able = [world for world in known.values() if world.profile]
        if not able:
            raise InputError("no installed world can measure machines", key="--serve")
        return able[0], ""
    found = recognise(file, known)
    world = known[found.world]
    if not world.profile:
        raise InputError(f"is a problem of the world '{world.name}', which measures no machines", file=str(file))
    return world, found.kind


def _missing(world: World, error: ModuleNotFoundError) -> Exception:
    """One line about a package that an extra brings; what pathloom itself lacks is an internal error."""
    from pathloom.plan import InputError

    if error.name is None or error.name.partition(".")[0] == "pathloom":
        return error
    return InputError(f"needs the extra '{world.name}': pip install 'pathloom[{world.name}]'", key=error.name)
