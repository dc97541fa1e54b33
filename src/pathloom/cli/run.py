"""``pathloom run plan.json``: carry a plan out for real."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def run(
    file: Annotated[Path, typer.Argument(help="plan.json")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Tokens, see 'pathloom data tokenize'.", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.", show_default=False)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Base learning rate.", show_default=False)] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="Learning-rate schedule: a name, or a file of 'refine-schedule'.", show_default=False),
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(help="Steps between validations (0: none).", show_default=False)
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints (0: only at the end).", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and data order.", show_default=False)] = None,
    emulate_links: Annotated[
        bool, typer.Option("--emulate-links", help="Messages take as long as the plan says.")
    ] = False,
    pad_compute: Annotated[
        bool, typer.Option("--pad-compute", help="Tasks take at least as long as the plan says.")
    ] = False,
    time_scale: Annotated[
        float | None, typer.Option(help="Factor on the plan's times where they are imitated.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of settings.", show_default=False)
    ] = None,
    init: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Hugging Face folder with first weights.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run; <file>-run here if left out.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address at which the nodes join.")] = "127.0.0.1",
    no_launch: Annotated[
        bool, typer.Option("--no-launch", help="The nodes are started elsewhere, and join at --host and --port.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port at which the nodes join; 0 takes a free one.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Run a plan: one process a node, every item on its planned path.

    Started by torchrun, each process is one node of the plan; otherwise all nodes run on this machine. Ctrl-C ends the
    run after the present step with a checkpoint.
    """
    from pathloom.cli.extras import with_extra
    from pathloom.cli.opening import open_json
    from pathloom.cli.results import consoles, print_files, print_json
    from pathloom.cli.stopping import stopping_politely
    from pathloom.plan import InputError
    from pathloom.show.table import rich_table
    from pathloom.world import resolve

    results, notes = consoles(as_json)
    found = open_json(file)
    if found is None or found[1] is None:
        raise InputError("expected a plan.json", file=str(file))
    world = found[1]
    if not world.run:
        raise InputError(f"is a plan of the world '{world.name}', which cannot be run", file=str(file))
    given = {
        "data": None if data is None else str(data),
        "steps": steps,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "seed": seed,
        "links": "planned" if emulate_links else None,
        "compute": "planned" if pad_compute else None,
        "time_scale": time_scale,
    }
    options = {name: value for name, value in given.items() if value is not None} | _settings(set_ or [])
    target = out or Path(f"{_stem(file)}-run")
    with with_extra(world.name), stopping_politely("stopping after the present step"):
        result = resolve(world.run)(
            file,
            out=target,
            options=options,
            config=config,
            resume=resume,
            initial=init,
            host=host,
            port=port,
            launch=not no_launch,
            console=notes,
        )
    if result is None:  # one of several processes, not the one that leads
        return
    if as_json:
        print_json(
            {
                "problem": {"name": result.name, "kind": f"{world.name} run", "file": str(file)},
                "method": "run",
                "objective": {
                    "name": "iteration time",
                    "value": result.figures["iteration_seconds"],
                    "unit": "s",
                    "sense": "min",
                },
                "bound": None,
                "gap": None,
                "seconds": result.figures["seconds"],
                "checked": True,
                "seed": result.figures["seed"],
                "files": {what: str(path) for what, path in result.files.items()},
                "metrics": result.to_dict(),
            }
        )
    results.print(rich_table(result.columns, result.rows))
    print_files(results, result.files)


def _stem(file: Path) -> str:
    """A name for the run: the plan's folder where the file is a mere plan.json."""
    return file.absolute().parent.name if file.stem == "plan" else file.stem


def _settings(given: list[str]) -> dict[str, Any]:
    import yaml

    from pathloom.plan import InputError

    options: dict[str, Any] = {}
    for setting in given:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"expected NAME=VALUE, found '{setting}'", key="--set")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"'{value}' is no value", key=f"--set {name}") from None
    return options
