"""``pathloom learn policy``: train the policies of a world, with a card of what they were trained on."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence


def policy(
    name: Annotated[str, typer.Argument(help="Policy to train; --list names them.", show_default=False)] = "",
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Problem that it is for, where it is for one.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Checkpoint to write; <name>.safetensors here if left out.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", "--time", metavar="SECONDS", help="Processor time of the training.")
    ] = 1800.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Option of the trainer.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the policies and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Train a policy: a checkpoint and a card of data, seed, time and scores.

    Ctrl-C ends early with what there is. The same call goes on with a training that was ended in any way.
    """
    from pathloom.cli.extras import with_extra
    from pathloom.cli.plan import check_search
    from pathloom.cli.progress import shown
    from pathloom.cli.results import consoles, print_files, print_json
    from pathloom.cli.stopping import stopping_politely
    from pathloom.data.naming import unknown_name
    from pathloom.plan import InputError
    from pathloom.world import resolve, worlds

    known = {policy: target for world in worlds().values() for policy, target in world.trainers.items()}
    results, notes = consoles(as_json)
    if list_:
        _list(known, as_json)
        return
    if name not in known:
        raise InputError(unknown_name("policy", name, known, "this installation"), key="NAME")
    check_search(seconds, seed)
    target = out or Path(f"{name}.safetensors")
    with with_extra("train"):
        train = resolve(known[name])
        options = _options(file, set_ or [], train, name)
        began = time.perf_counter()
        with (
            stopping_politely("ending the training with the best policy so far"),
            shown(notes, f"training {name}", seconds) as on_progress,
        ):
            written: Path = train(target, seconds=seconds, seed=seed, on_progress=on_progress, **options)
    files = {"policy": written, "card": written.with_suffix(".json")}
    if as_json:
        spent = time.perf_counter() - began
        print_json({"policy": name, "seconds": spent, "seed": seed, "files": {k: str(v) for k, v in files.items()}})
    print_files(results, files)


def _options(file: Path | None, settings: Sequence[str], train: Any, name: str) -> dict[str, Any]:
    """Keyword arguments of a trainer: the file that it is for, if it is for one, and its options."""
    from pathloom.cli.opening import named_values
    from pathloom.plan import InputError

    own = {"out", "seconds", "seed", "on_progress", "settings", "file"}
    parameters = inspect.signature(train).parameters
    known = [parameter for parameter in parameters if parameter not in own]
    options = named_values(settings, known, f"the policy '{name}'")
    if "file" not in parameters:
        if file is not None:
            raise InputError(f"the policy '{name}' is not trained for one file, found '{file}'", key="FILE")
        return options
    if file is None:
        raise InputError(f"the policy '{name}' is trained for the problem in a file, which is missing", key="FILE")
    return {"file": file, **options}


def _list(known: dict[str, str], as_json: bool) -> None:
    from pathloom.cli.docstrings import function_summary
    from pathloom.cli.results import consoles, print_json
    from pathloom.show.table import rich_table

    rows = [(name, function_summary(target)) for name, target in known.items()]
    if as_json:
        for name, summary in rows:
            print_json({"policy": name, "summary": summary})
        return
    results, _ = consoles(as_json)
    results.print(rich_table(("policy", "what is trained"), rows))
