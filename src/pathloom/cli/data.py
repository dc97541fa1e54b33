"""``pathloom data``: list, find, fetch and verify public data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pathloom.cli.tokenize import tokenize

if TYPE_CHECKING:
    from pathloom.data.registry import FileCheck

app = typer.Typer(help="List, find, fetch and verify public data sets; tokenize text.", no_args_is_help=True)
app.command("tokenize")(tokenize)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the data sets: what each is, its licence, and whether it is on this machine."""
    from pathloom.cli.results import consoles, print_json
    from pathloom.data.registry import datasets
    from pathloom.show.table import rich_table

    rows = [(entry, _local(entry.name)) for entry in datasets()]
    if as_json:
        for entry, folder in rows:
            facts = {"name": entry.name, "what": entry.what, "licence": entry.licence, "sources": entry.sources}
            print_json({**facts, "files": len(entry.files), "folder": folder})
        return
    made = rich_table(
        ("data set", "here", "files", "licence", "what it is"),
        [(e.name, "yes" if folder else "no", str(len(e.files) or "-"), e.licence, e.what) for e, folder in rows],
    )
    consoles(as_json)[0].print(made)


@app.command()
def where(name: str, as_json: Json = False) -> None:
    """Print the folder of a data set that is on this machine."""
    from pathloom.cli.results import print_json
    from pathloom.data.registry import dataset
    from pathloom.plan import InputError

    folder = _local(name)
    if folder is None:
        dataset(name)  # says so if nobody knows the name
        raise InputError(f"is not on this machine; 'pathloom data fetch {name}' gets it", key=name)
    if as_json:
        print_json({"name": name, "folder": folder})
    else:
        print(folder)


@app.command()
def fetch(names: list[str], as_json: Json = False) -> None:
    """Download data sets that are not on this machine, and print their folders."""
    from pathloom.cli.results import print_json
    from pathloom.data import find

    for name in names:
        folder = find(name)
        if as_json:
            print_json({"name": name, "folder": folder})
        else:
            print(f"{name}: {folder}")


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets or folders of tokens; all data sets here if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the files of data sets with their checksums; exit status 1 if one differs or is missing.

    A folder that 'pathloom data tokenize' made is checked in the same way.
    """
    from pathloom.cli.results import print_json
    from pathloom.cli.tokenize import verified_tokens
    from pathloom.data.registry import datasets
    from pathloom.data.registry import verify as checks_of
    from pathloom.data.token_files import CARD

    bad = False
    known = {entry.name for entry in datasets()}
    for name in names or [entry.name for entry in datasets() if _local(entry.name) is not None]:
        if (Path(name) / CARD).is_file() or (Path(name).is_dir() and name not in known):
            fault = verified_tokens(Path(name))
            bad = bad or bool(fault)
            if as_json:
                print_json({"name": name, "ok": not fault, "error": fault or None})
            else:
                print(f"{name}: {fault or 'ok'}")
            continue
        checks = checks_of(name, _local(name))
        wrong = [check for check in checks if check.status in ("missing", "differs")]
        bad = bad or bool(wrong)
        if as_json:
            print_json({"name": name, "ok": not wrong, "files": {check.path: check.status for check in checks}})
        else:
            print(f"{name}: {_summary(checks)}")
            for check in wrong:
                print(f"  {check.path}: {check.status}")
    if bad:
        raise typer.Exit(1)


def _summary(checks: list[FileCheck]) -> str:
    counts = {
        status: sum(check.status == status for check in checks) for status in ("ok", "missing", "differs", "unlisted")
    }
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no files"


def _local(name: str) -> Path | None:
    """Folder of a data set if it is on this machine; nothing is downloaded."""
    from pathloom.data import local_folder

    return local_folder(name)
