"""What ``pathloom compare`` lays side by side: plans, recorded timelines, runs, simulations of the plans of runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pathloom.cli.opening import open_plan, open_timeline
from pathloom.data.reading import read_text
from pathloom.plan import InputError, Plan
from pathloom.timeline import Timeline
from pathloom.world import World, resolve

RUN, RECORDED, PLAN = "run.json", "timeline.json", "plan.json"
"""Files of a run's folder: what the run was, an iteration that it recorded, and the plan that it followed."""


@dataclass(frozen=True)
class Entry:
    """One timeline of the comparison.

    Attributes
    ----------
    kind
        "plan", "recorded", "run" or "simulation".
    timeline
        What happened, or is to happen.
    plan
        The plan, where it is one.
    followed
        World and plan that a run followed, as its folder holds them.
    measures
        Name of the plan's entry that a run is measured against, empty where there is none or no way to do it.
    simulation
        Name of the entry with the simulation of that plan; empty where the world cannot simulate.
    note
        What a reader has to know about the entry.
    """

    kind: str
    timeline: Timeline
    plan: Plan | None = None
    followed: tuple[World, Plan] | None = None
    measures: str = ""
    simulation: str = ""
    note: str = ""


def read_files(names: Sequence[str], files: Sequence[Path]) -> tuple[World | None, dict[str, Entry]]:
    """The world (None if there is no plan among them) and the entries by name, in the order of the files.

    Where runs stand beside plans, each run belongs to the plan that it followed (else to the first one), and that plan
    is simulated, in an entry of its own behind the plan's. A run without any plan brings the one from its folder.

    Raises
    ------
    InputError
        If a file is none of these, or is of another problem than the ones before it.
    """
    world: World | None = None
    entries: dict[str, Entry] = {}
    for name, file in zip(names, files, strict=True):
        found, entries[name] = (None, _read_run(file)) if file.is_dir() else _read_file(file)
        plan = entries[name].plan
        if plan is None or found is None:
            continue
        known = next((entry.plan for entry in entries.values() if entry.plan is not None), plan)
        if world is not None and found.name != world.name:
            raise InputError(f"is a plan of the world '{found.name}', the others are of '{world.name}'", file=str(file))
        if plan.problem.name != known.problem.name:
            raise InputError(
                f"plans '{plan.problem.name}', the others plan '{known.problem.name}'", file=str(file), key="problem"
            )
        world = found
    _same_problem(files, [entry.timeline for entry in entries.values()])
    if world is None:
        followed = next((entry.followed for entry in entries.values() if entry.followed is not None), None)
        if followed is None:
            return None, entries
        world, plan = followed
        entries = {_unused("plan", entries): Entry("plan", plan.timeline, plan), **entries}
    return world, _with_simulations(world, entries)


def names_of(files: Sequence[Path]) -> list[str]:
    """A short, different name for each file: its name alone where that tells them apart, else with its folder.

    The folder of a run is called "run", of several "run" and the folder's name.
    """
    runs = sum(file.is_dir() for file in files)
    called = {file: "run" if runs == 1 else f"run {file.absolute().name}" for file in files if file.is_dir()}
    short = [called.get(file, file.stem) for file in files]
    if len(set(short)) < len(short):
        short = [
            called.get(file, f"{file.parent.name}/{file.stem}" if file.parent.name else file.stem) for file in files
        ]
    names: list[str] = []
    for name in short:
        again = sum(known == name or known.startswith(f"{name} (") for known in names)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


def _read_file(file: Path) -> tuple[World | None, Entry]:
    found = open_plan(file)
    if found is not None:
        return found[0], Entry("plan", found[1].timeline, found[1])
    timeline = open_timeline(file)
    if timeline is None:
        raise InputError("expected a plan.json, a recorded timeline (JSON), or the folder of a run", file=str(file))
    return None, Entry("recorded", timeline)


def _read_run(folder: Path) -> Entry:
    """A run's recorded iteration, in the seconds of its plan."""
    if not (folder / RUN).is_file():
        raise InputError(f"is a folder without {RUN}, so not of a run; expected a run or a file", file=str(folder))
    if not (folder / RECORDED).is_file():
        raise InputError(f"holds no {RECORDED}: the run has not finished an iteration", file=str(folder))
    timeline = open_timeline(folder / RECORDED)
    if timeline is None:
        raise InputError("expected a recorded timeline (JSON)", file=str(folder / RECORDED))
    scale = _time_scale(folder / RUN)
    note = ""
    if scale != 1.0:
        timeline = replace(timeline, start=timeline.start / scale, end=timeline.end / scale)
        note = f"{folder}: ran at {scale:g} times the plan's seconds; its times are shown in the plan's"
    followed = open_plan(folder / PLAN) if (folder / PLAN).is_file() else None
    return Entry("run", timeline, followed=followed, note=note)


def _time_scale(file: Path) -> float:
    """Seconds of the run for one of its plan, 1 if the run does not say."""
    try:
        content: Any = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise InputError("is not JSON, or a truncated file", file=str(file), key=f"line {error.lineno}") from None
    if not isinstance(content, dict):
        raise InputError("expected a JSON object", file=str(file))
    scale = content.get("time_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
        raise InputError(f"expected a number above 0, found {scale!r}", file=str(file), key="time_scale")
    return float(scale)


def _same_problem(files: Sequence[Path], timelines: Sequence[Timeline]) -> None:
    first = timelines[0]
    for file, timeline in zip(files, timelines, strict=True):
        if timeline.unit != first.unit:
            raise InputError(
                f"counts time in {timeline.unit}, the first file in {first.unit}", file=str(file), key="unit"
            )
        if not set(timeline.resources) & set(first.resources):
            raise InputError("has no resource in common with the first file", file=str(file), key="resources")


def _with_simulations(world: World, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Each run with the plan that it is measured against, and simulations of these plans behind them."""
    plans = {name: entry.plan for name, entry in entries.items() if entry.plan is not None}
    pairs: dict[str, str] = {}
    notes: dict[str, str] = {}
    for name, entry in entries.items():
        if entry.kind == "run" and world.phase_errors:
            own = None if entry.followed is None else entry.followed[1].timeline
            same = [plan for plan, known in plans.items() if own is not None and known.timeline == own]
            pairs[name] = same[0] if same else next(iter(plans))
            odd = f"{name}: did not follow any of these plans, and is measured against '{pairs[name]}'"
            notes[name] = "; ".join(note for note in (entry.note, "" if same or own is None else odd) if note)
    measured = list(dict.fromkeys(pairs.values()))
    simulated: dict[str, str] = {}
    found: dict[str, Entry] = {}
    for name, entry in entries.items():
        found[name] = entry if name not in pairs else replace(entry, measures=pairs[name], note=notes[name])
        if name in measured and world.simulate:
            title = "simulation" if len(measured) == 1 else f"simulation of {name}"
            simulated[name] = _unused(title, {**entries, **found})
            found[simulated[name]] = Entry("simulation", _simulation(world, plans[name]))
    for name, plan in pairs.items():
        found[name] = replace(found[name], simulation=simulated.get(plan, ""))
    return found


def _simulation(world: World, plan: Plan) -> Timeline:
    """What the plan does where nothing goes wrong."""
    outcome = resolve(world.simulate)(
        plan,
        seed=0,
        runs=1,
        noise=0.0,
        stragglers=[],
        slow_links=[],
        failures=[],
        policy="reroute",
        on_progress=None,
    )
    timeline: Timeline = outcome.timeline
    return timeline


def _unused(name: str, entries: Mapping[str, Any]) -> str:
    while name in entries:
        name += "'"
    return name
