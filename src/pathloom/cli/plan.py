"""``pathloom plan FILE``: a problem in its field's format -> checked plan, bound, pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from pathloom.cli.opening import Opened
    from pathloom.cli.planning import Outcome
    from pathloom.world import World


def plan(
    file: Annotated[
        Path | None, typer.Argument(help="Problem file; with --init, where to write the example.", show_default=False)
    ] = None,
    time: Annotated[float, typer.Option(metavar="SECONDS", help="Time limit of the method.")] = 30.0,
    method: Annotated[str, typer.Option(help="Method; the world's default if left out.", show_default=False)] = "",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the results; <file>-plan here if left out.")
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Run the one method, without the others to compare.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Option of the world's file reader.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a plan on standard output.")] = False,
    init: Annotated[bool, typer.Option("--init", help="Write a commented example file and end.")] = False,
    world: Annotated[str, typer.Option(help="With --init: whose example.", show_default=False)] = "",
    list_methods: Annotated[bool, typer.Option("--list-methods", help="List the methods and end.")] = False,
) -> None:
    """Plan a problem: a checked plan, a proven bound, pictures, beside what other methods would do.

    Ctrl-C ends the search early: the best plan so far is checked, shown and saved.
    """
    from pathloom.plan import InputError

    if init:
        _write_example(file, world, as_json)
    elif list_methods:
        _list_methods(file, as_json)
    elif file is None:
        raise InputError("expected a problem file; 'pathloom plan --init' writes an example", key="FILE")
    else:
        check_search(time, seed)
        _plan(file, time, method, seed, out, only, set_ or [], as_json)


def check_search(time: float, seed: int) -> None:
    """Refuse a time limit or seed that makes no sense, with `InputError`."""
    from pathloom.plan import InputError

    if not (math.isfinite(time) and time > 0):
        raise InputError(f"expected a number of seconds above 0, found {time:g}", key="--time")
    if seed < 0:
        raise InputError(f"expected a whole number of at least 0, found {seed}", key="--seed")


def chosen_method(world: World, method: str) -> str:
    """`method`, or the world's default for an empty name; `InputError` for a name that the world does not know."""
    from pathloom.data.naming import unknown_name
    from pathloom.plan import InputError

    if method and method not in world.methods:
        raise InputError(unknown_name("method", method, world.methods, f"world '{world.name}'"), key="--method")
    return method or world.default_method


def _plan(
    file: Path, time: float, method: str, seed: int, out: Path | None, only: bool, settings: list[str], as_json: bool
) -> None:
    from pathloom.cli.opening import open_problem
    from pathloom.cli.output import check_folder, write_folder
    from pathloom.cli.planning import plan_and_compare
    from pathloom.cli.progress import shown
    from pathloom.cli.results import consoles
    from pathloom.cli.stopping import stopping_politely
    from pathloom.world import resolve

    results, notes = consoles(as_json)
    folder = out or Path(f"{_stem(file)}-plan")
    check_folder(folder)
    with stopping_politely():
        opened = open_problem(file, settings)
        name = chosen_method(opened.world, method)
        notes.print(f"{file}: {opened.kind}, world '{opened.world.name}'", soft_wrap=True, highlight=False)
        outcome = plan_and_compare(
            opened.world,
            opened.problem,
            name,
            time_limit=time,
            seed=seed,
            alone=only,
            watch=lambda what, seconds: shown(notes, what, seconds),
        )
        best, others = outcome.plans[0], outcome.plans[1:]
        with shown(notes, "pictures"):
            files = write_folder(folder, lambda part: resolve(opened.world.write)(best, others, part))
    _report(opened, outcome, files, results, notes, as_json, name)


def _report(
    opened: Opened,
    outcome: Outcome,
    files: Mapping[str, Path],
    results: Console,
    notes: Console,
    as_json: bool,
    asked: str,
) -> None:
    from pathloom.cli.results import print_files, print_json, result_object
    from pathloom.show.table import rich_table
    from pathloom.world import resolve

    if as_json:
        for number, plan in enumerate(outcome.plans):
            own = files if number == 0 else {}
            print_json(result_object(plan, kind=opened.kind, file=opened.file, files=own))
    row = resolve(opened.world.row)
    best = outcome.plans[0]
    # A plan's own name may say more than that of its method here; both are the same for most.
    rows = [(f"{plan.method}{' *' if plan is best else ''}", *row(plan)) for plan in outcome.plans]
    results.print(
        rich_table(("method", *opened.world.columns), rows, title=f"{best.problem.name}: {best.objective.name}", best=0)
    )
    if len(rows) > 1:
        results.print(f"* the plan that was kept, checked like all others; {_bound_note(outcome)}", highlight=False)
    for method, reason in outcome.failures.items():
        notes.print(f"{method}: no plan: {reason}", style="yellow", soft_wrap=True, highlight=False, markup=False)
    if asked in outcome.failures:
        notes.print(f"{asked} found no plan, {best.method} did", style="yellow", highlight=False)
    if outcome.interrupted:
        notes.print("interrupted: this is the best plan so far", style="yellow", highlight=False)
    print_files(results, files)


def _bound_note(outcome: Outcome) -> str:
    best = outcome.plans[0]
    if best.bound is None:
        return "no bound is known"
    by = f" ({best.bound_by})" if best.bound_by else ""
    return f"no plan of this problem can be better than {best.bound:.6g} {best.objective.unit}{by}"


def _stem(file: Path) -> str:
    name = file.name.removesuffix(".gz")
    return name[: -len(Path(name).suffix)] if Path(name).suffix else name


def _write_example(file: Path | None, name: str, as_json: bool) -> None:
    from pathloom.cli.opening import world_named
    from pathloom.cli.output import write_new_file
    from pathloom.cli.results import print_json
    from pathloom.world import resolve, worlds

    world = world_named(name) if name else next(iter(worlds().values()))
    path = file or Path(f"{world.name}.yaml")
    write_new_file(path, resolve(world.example)())
    if as_json:
        print_json({"files": {"example": path}, "world": world.name})
    else:
        print(f"{path}: a commented example; plan it with: pathloom plan {path}")


def _list_methods(file: Path | None, as_json: bool) -> None:
    from pathloom.cli.docstrings import function_summary
    from pathloom.cli.results import consoles, print_json
    from pathloom.data.recognise import recognise
    from pathloom.show.table import rich_table
    from pathloom.world import worlds

    known = worlds()
    names = list(known) if file is None else [recognise(file, known).world]
    rows = []
    for world in (known[name] for name in names):
        for method, target in world.methods.items():
            use = "default" if method == world.default_method else "compared" if method in world.default_table else ""
            rows.append((world.name, method, use, function_summary(target)))
    if as_json:
        for world_name, method, use, summary in rows:
            print_json({"world": world_name, "method": method, "use": use, "summary": summary})
        return
    results, _ = consoles(as_json)
    made = rich_table(("world", "method", "", "what it does"), rows)
    results.print(made)
