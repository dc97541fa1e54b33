"""``pathloom simulate FILE``: what a plan does under noise, stragglers, slow links and failures."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pathloom.plan import Plan
    from pathloom.world import World


def simulate(
    file: Annotated[Path, typer.Argument(help="plan.json, or a problem file, which is planned first.")],
    runs: Annotated[int, typer.Option(help="Number of simulated runs; run r draws its noise from seed + r.")] = 1,
    noise: Annotated[
        float, typer.Option(help="Spread of a random factor on all times (deviation of its logarithm).")
    ] = 0.0,
    straggler: Annotated[
        list[str] | None, typer.Option(metavar="NODE:FACTOR[@FROM-TO]", help="A slow node; may be repeated.")
    ] = None,
    slow_link: Annotated[
        list[str] | None, typer.Option(metavar="A:B:FACTOR[@FROM-TO]", help="A slow link; may be repeated.")
    ] = None,
    fail: Annotated[
        list[str] | None, typer.Option(metavar="NODE@TIME", help="A node that dies; may be repeated.")
    ] = None,
    policy: Annotated[str, typer.Option(help="What to do after a failure: reroute or restart.")] = "reroute",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A disturbance that the world knows, or an option of its reader."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    time: Annotated[float, typer.Option(metavar="SECONDS", help="Time limit of planning a problem file.")] = 30.0,
    method: Annotated[str, typer.Option(help="Method for planning a problem file.", show_default=False)] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the results; <file>-simulation here if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Simulate a plan when things go wrong."""
    from pathloom.cli import disturbances
    from pathloom.cli.compare import draw
    from pathloom.cli.opening import named_values
    from pathloom.cli.output import check_folder, write_folder
    from pathloom.cli.plan import check_search
    from pathloom.cli.progress import shown
    from pathloom.cli.results import consoles, print_files, print_json, result_object
    from pathloom.plan import InputError
    from pathloom.show.table import rich_table
    from pathloom.world import SimulationResult, resolve, worlds

    results, notes = consoles(as_json)
    check_search(time, seed)
    if runs < 1:
        raise InputError(f"expected a whole number of at least 1, found {runs}", key="--runs")
    stragglers = [disturbances.straggler(text) for text in straggler or []]
    slow_links = [disturbances.slow_link(text) for text in slow_link or []]
    failures = [disturbances.failure(text) for text in fail or []]
    folder = out or Path(f"{file.resolve().parent.name if file.name == 'plan.json' else file.stem}-simulation")
    check_folder(folder)
    known = {name for world in worlds().values() for name in world.disturbances}
    wrong = [setting for setting in set_ or [] if setting.partition("=")[0] in known]
    reading = [setting for setting in set_ or [] if setting not in wrong]
    world, kind, plan = _plan_of(file, reading, time, method, seed, notes)
    if not world.simulate:
        raise InputError(f"is a plan of the world '{world.name}', which cannot be simulated", file=str(file))
    further = named_values(wrong, world.disturbances, f"the simulation of world '{world.name}'")
    began = clock.perf_counter()
    with shown(notes, "simulate") as on_progress:
        outcome: SimulationResult = resolve(world.simulate)(
            plan,
            seed=seed,
            runs=runs,
            noise=noise,
            stragglers=stragglers,
            slow_links=slow_links,
            failures=failures,
            policy=policy,
            on_progress=on_progress,
            **further,
        )
    seconds = clock.perf_counter() - began

    def write(part: Path) -> dict[str, Path]:
        recorded = part / "simulation.json"
        outcome.timeline.save(recorded)
        return {
            "simulation": recorded,
            **draw(world, {"plan": plan.timeline, "simulation": outcome.timeline}, plan, part),
        }

    with shown(notes, "pictures"):
        files = write_folder(folder, write)
    if as_json:
        given = {"runs": runs, "noise": noise, "straggler": stragglers, "slow_link": slow_links, "fail": failures}
        print_json(
            result_object(
                plan,
                kind=kind,
                file=file,
                files=files,
                objective=float(sum(outcome.seconds)) / runs,
                seconds=seconds,
                seed=seed,
                metrics=outcome.to_dict(),
                disturbances={**given, "policy": policy, **further},
                # What is proven holds for undisturbed times only.
                bound=None,
                gap=None,
                bound_by=None,
            )
        )
    results.print(rich_table(outcome.columns, outcome.rows, title=f"{plan.problem.name}: {plan.method}, {runs} runs"))
    print_files(results, files)


def _plan_of(
    file: Path, reading: list[str], time: float, method: str, seed: int, notes: Console
) -> tuple[World, str, Plan]:
    """World, kind and checked plan of a plan file, or of a problem file that is planned now."""
    from pathloom.cli.opening import named_values, open_plan, open_problem
    from pathloom.cli.plan import chosen_method
    from pathloom.cli.planning import run_method
    from pathloom.cli.progress import shown
    from pathloom.cli.stopping import stopping_politely

    found = open_plan(file)
    if found is not None:
        named_values(reading, found[0].disturbances, f"the simulation of world '{found[0].name}'")  # refuses them
        return found[0], f"plan of the world '{found[0].name}'", found[1]
    with stopping_politely():
        opened = open_problem(file, reading)
        name = chosen_method(opened.world, method)
        with shown(notes, name, time) as on_progress:
            plan = run_method(opened.world, name, opened.problem, time_limit=time, seed=seed, on_progress=on_progress)
    return opened.world, opened.kind, plan
