"""``pathloom compare FILE...``: plans, simulations and recorded runs of one problem side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pathloom.plan import Plan
    from pathloom.timeline import Comparison, Timeline
    from pathloom.world import World

MOST_KINDS = 6
"""Most kinds of work that get a column of their own."""


def compare(
    files: Annotated[
        list[Path], typer.Argument(help="plan.json files and recorded timelines; the first is the measure.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for page and picture.")] = Path("comparison"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file on standard output.")] = False,
) -> None:
    """Lay plans, simulations and recorded runs of one problem over each other."""
    from pathloom.cli.output import check_folder, write_folder
    from pathloom.cli.results import consoles, print_files, print_json, result_object
    from pathloom.show.table import rich_table
    from pathloom.timeline import compare as compare_timelines

    results, _ = consoles(as_json)
    check_folder(out)
    world, plans, timelines = _read(files)
    compared = compare_timelines(timelines)
    reference = next(iter(plans.values()), None)
    written = write_folder(out, lambda part: draw(world, timelines, reference, part))
    if as_json:
        for position, (name, file) in enumerate(zip(timelines, files, strict=True)):
            figures = _figures(compared, position)
            files_of_all = written if position == 0 else {}
            if name in plans:
                plan = plans[name]
                more = {**plan.metrics, "comparison": figures}
                print_json(
                    result_object(plan, kind=f"{_kind(world)} plan", file=file, files=files_of_all, metrics=more)
                )
            else:
                print_json(_recorded(name, file, timelines[name], files_of_all, figures))
    used = [position for position in range(len(compared.kinds)) if compared.kind_seconds[:, position].any()]
    used = used[:MOST_KINDS]
    kinds = [compared.kinds[position] for position in used]
    titles = ("file", "method", "objective", "bound", "ends at", "mean busy", *kinds, "starts off by", "spans matched")
    rows = [_row(name, plans.get(name), compared, position, used) for position, name in enumerate(timelines)]
    results.print(rich_table(titles, rows))
    print_files(results, written)


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


def _read(files: list[Path]) -> tuple[World | None, dict[str, Plan], dict[str, Timeline]]:
    """The world (None if there is no plan among them), plans and timelines by name.

    Raises
    ------
    InputError
        If a file is neither, or is of another problem than the ones before it.
    """
    from pathloom.cli.opening import open_plan, open_timeline
    from pathloom.plan import InputError

    world: World | None = None
    plans: dict[str, Plan] = {}
    timelines: dict[str, Timeline] = {}
    for name, file in zip(_names(files), files, strict=True):
        found = open_plan(file)
        if found is not None:
            other, plan = found
            first = next(iter(plans.values()), None)
            if world is not None and other.name != world.name:
                raise InputError(
                    f"is a plan of the world '{other.name}', the others are of '{world.name}'", file=str(file)
                )
            if first is not None and plan.problem.name != first.problem.name:
                raise InputError(
                    f"plans '{plan.problem.name}', the others plan '{first.problem.name}'",
                    file=str(file),
                    key="problem",
                )
            world, plans[name] = other, plan
            timelines[name] = plan.timeline
            continue
        timeline = open_timeline(file)
        if timeline is None:
            raise InputError("expected a plan.json or a recorded timeline (JSON)", file=str(file))
        timelines[name] = timeline
    _same_problem(files, timelines)
    return world, plans, timelines


def _same_problem(files: list[Path], timelines: dict[str, Timeline]) -> None:
    from pathloom.plan import InputError

    first = next(iter(timelines.values()))
    for file, timeline in zip(files, timelines.values(), strict=True):
        if timeline.unit != first.unit:
            raise InputError(
                f"counts time in {timeline.unit}, the first file in {first.unit}", file=str(file), key="unit"
            )
        if not set(timeline.resources) & set(first.resources):
            raise InputError("has no resource in common with the first file", file=str(file), key="resources")


def _names(files: list[Path]) -> list[str]:
    """A short, different name for each file: its name alone where that tells them apart, else with its folder."""
    short = [file.stem for file in files]
    if len(set(short)) < len(short):
        short = [f"{file.parent.name}/{file.stem}" if file.parent.name else file.stem for file in files]
    names: list[str] = []
    for name in short:
        again = sum(known == name or known.startswith(f"{name} (") for known in names)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


def _row(name: str, plan: Plan | None, compared: Comparison, position: int, kinds: list[int]) -> tuple[str, ...]:
    shift = compared.start_shift[position]
    return (
        name,
        "recorded" if plan is None else plan.method,
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
    name: str, file: Path, timeline: Timeline, files: Mapping[str, Path], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """The object of a recorded timeline, which has no decisions that a checker could judge."""
    return {
        "problem": {"name": name, "kind": "recorded timeline", "file": str(file)},
        "method": "recorded",
        "objective": {"name": "makespan", "value": timeline.makespan, "unit": timeline.unit, "sense": "min"},
        "bound": None,
        "gap": None,
        "seconds": None,
        "checked": False,
        "seed": None,
        "files": {what: str(path) for what, path in files.items()},
        "metrics": {"comparison": figures},
    }
