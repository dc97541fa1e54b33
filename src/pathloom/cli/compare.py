"""``pathloom compare FILE...``: plans, simulations and recorded runs of one problem side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pathloom.cli.compared_files import Entry
    from pathloom.plan import Plan
    from pathloom.timeline import Comparison, Timeline
    from pathloom.world import World

MOST_KINDS = 6
"""Most kinds of work that get a column of their own."""


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(help="plan.json files, recorded timelines and folders of runs; the first is the measure."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for page and picture.")] = Path("comparison"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file on standard output.")] = False,
) -> None:
    """Lay plans, simulations and recorded runs of one problem over each other.

    A run beside its plan is also compared with the simulation of the plan, phase by phase.
    """
    from pathloom.cli.compared_files import names_of, read_files
    from pathloom.cli.output import check_folder, write_folder
    from pathloom.cli.results import consoles, print_files, print_json, result_object
    from pathloom.show.table import rich_table
    from pathloom.timeline import compare as compare_timelines

    results, notes = consoles(as_json)
    check_folder(out)
    names = names_of(files)
    world, entries = read_files(names, files)
    for note in (entry.note for entry in entries.values() if entry.note):
        notes.print(note, soft_wrap=True, highlight=False, markup=False)
    timelines = {name: entry.timeline for name, entry in entries.items()}
    plans = {name: entry.plan for name, entry in entries.items() if entry.plan is not None}
    compared = compare_timelines(timelines)
    reference = next(iter(plans.values()), None)
    runs = {name: file for name, file in zip(names, files, strict=True) if entries[name].kind == "run"}
    written = write_folder(out, lambda part: draw(world, timelines, reference, part) | _losses(world, runs, part))
    errors = {name: _phase_errors(world, entry, entries) for name, entry in entries.items() if entry.measures}
    if as_json:
        named = dict(zip(names, files, strict=True))
        for position, (name, entry) in enumerate(entries.items()):
            if name not in named:  # a simulation, which is part of what is said about its run
                continue
            figures: dict[str, Any] = {"comparison": _figures(compared, position)}
            files_of_all = written if name == names[0] else {}
            if name in errors:
                figures["phase_errors"] = errors[name][2]
                simulation = list(entries).index(entry.simulation) if entry.simulation else None
                figures["simulation"] = None if simulation is None else _figures(compared, simulation)
            if entry.plan is not None:
                more = {**entry.plan.metrics, **figures}
                print_json(
                    result_object(
                        entry.plan, kind=f"{_kind(world)} plan", file=named[name], files=files_of_all, metrics=more
                    )
                )
            else:
                print_json(_recorded(name, entry, named[name], files_of_all, figures))
    used = [position for position in range(len(compared.kinds)) if compared.kind_seconds[:, position].any()]
    used = used[:MOST_KINDS]
    kinds = [compared.kinds[position] for position in used]
    titles = ("file", "method", "objective", "bound", "ends at", "mean busy", *kinds, "starts off by", "spans matched")
    rows = [_row(name, entry, compared, position, used) for position, (name, entry) in enumerate(entries.items())]
    results.print(rich_table(titles, rows))
    for name, (columns, cells, _) in errors.items():
        results.print(
            rich_table(columns, cells, title=f"{name}: error of every phase, measured against the simulation")
        )
    print_files(results, written)


def _losses(world: World | None, runs: Mapping[str, Path], out: Path) -> dict[str, Path]:
    """Learning curves of the runs, one over another, where the world draws them."""
    from pathloom.world import resolve

    if not runs or world is None or not world.losses:
        return {}
    return {f"loss {what}": path for what, path in resolve(world.losses)(runs, out).items()}


def _phase_errors(
    world: World | None, run: Entry, entries: Mapping[str, Entry]
) -> tuple[Sequence[str], Sequence[Sequence[str]], dict[str, Any]]:
    from pathloom.world import resolve

    plan = entries[run.measures].plan
    assert world is not None and plan is not None
    timelines = {"run": run.timeline}
    if run.simulation:
        timelines["simulation"] = entries[run.simulation].timeline
    found: tuple[Sequence[str], Sequence[Sequence[str]], dict[str, Any]] = resolve(world.phase_errors)(plan, timelines)
    return found


def draw(world: World | None, timelines: Mapping[str, Timeline], plan: Plan | None, out: Path) -> dict[str, Path]:
    """Draw timelines one below another: the world's way if it has one, else as a plain Gantt chart."""
    from pathloom.world import resolve

    if world is not None and world.draw and plan is not None:
        drawn: dict[str, Path] = resolve(world.draw)(timelines, plan, out)
        return drawn
    from pathloom.show.gantt import gantt_figure
    from pathloom.show.report import html_report, png_report

    title = ", ".join(timelines)
    return {
        "page": html_report(out / "timelines.html", title=title, figures=[(gantt_figure(timelines), "")]),
        "picture": png_report(out / "timelines.png", timelines, title=title),
    }


def _kind(world: World | None) -> str:
    return "" if world is None else world.name


def _row(name: str, entry: Entry, compared: Comparison, position: int, kinds: list[int]) -> tuple[str, ...]:
    shift = compared.start_shift[position]
    plan = entry.plan
    return (
        name,
        entry.kind if plan is None else plan.method,
        "-" if plan is None else f"{plan.objective.value:.6g} {plan.objective.unit}",
        "-" if plan is None or plan.bound is None else f"{plan.bound:.6g}",
        f"{compared.makespan[position]:.6g}",
        f"{compared.busy_share[position].mean():.1%}",
        *(f"{seconds:.6g}" for seconds in compared.kind_seconds[position, kinds]),
        "-" if shift != shift else f"{shift:.4g}",
        str(compared.matched[position]),
    )


def _figures(compared: Comparison, position: int) -> dict[str, Any]:
    return {
        "makespan": compared.makespan[position],
        "busy_share": dict(zip(compared.resources, compared.busy_share[position].tolist(), strict=True)),
        "kind_time": dict(zip(compared.kinds, compared.kind_seconds[position].tolist(), strict=True)),
        "start_shift": compared.start_shift[position],
        "matched": compared.matched[position],
    }


def _recorded(
    name: str, entry: Entry, file: Path, files: Mapping[str, Path], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """The object of a recorded timeline, which has no decisions that a checker could judge."""
    timeline = entry.timeline
    return {
        "problem": {"name": name, "kind": f"{entry.kind} timeline", "file": str(file)},
        "method": "recorded",
        "objective": {"name": "makespan", "value": timeline.makespan, "unit": timeline.unit, "sense": "min"},
        "bound": None,
        "gap": None,
        "seconds": None,
        "checked": False,
        "seed": None,
        "files": {what: str(path) for what, path in files.items()},
        "metrics": figures,
    }
