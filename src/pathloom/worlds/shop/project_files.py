"""PSPLIB files of projects: single mode (``.sm``) and multi-mode (``.mm``), as ProGen writes them.

R. Kolisch, A. Sprecher: "PSPLIB - a project scheduling problem library", EJOR 96 (1997). The supersource and the sink,
which take no time and nothing else, are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from pathloom.data.reading import read_text
from pathloom.plan import InputError
from pathloom.schedule.model import Model, ResourceHandle
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import recognised_shape
from pathloom.schedule.shops import Project

MOST_JOBS = 100_000
LARGEST = 10**9
"""Durations, requests and capacities above this are taken for mistakes."""


def is_psplib(head: str) -> bool:
    """Whether a text begins like a PSPLIB file."""
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    return bool(lines) and lines[0].startswith("****") and "jobs (incl. supersource/sink" in head


@dataclass
class _Job:
    line: int
    modes: int
    successors: list[int]
    choices: list[tuple[int, list[int]]] = field(default_factory=list)


def read_project(path: Path) -> Problem:
    """Read a PSPLIB file.

    Raises
    ------
    InputError
        Names the line and what was expected.
    """
    lines = read_text(path).splitlines()
    count = _stated(
        path, lines, r"jobs \(incl\. supersource/sink ?\) *: *(-?\d+)", "jobs (incl. supersource/sink ):  N"
    )
    renewable = _stated(path, lines, r"- renewable *: *(-?\d+)", "- renewable : N")
    consumable = _stated(path, lines, r"- nonrenewable *: *(-?\d+)", "- nonrenewable : N")
    if min(renewable, consumable) < 0:
        raise InputError("expected numbers of resources of at least 0", file=str(path), key="RESOURCES")
    if not 2 <= count <= MOST_JOBS:
        raise InputError(f"expected 2 to {MOST_JOBS:,} jobs, found {count}", file=str(path), key="jobs")
    if _stated(path, lines, r"- doubly constrained *: *(-?\d+)", "- doubly constrained : N"):
        raise InputError("doubly constrained resources are not supported", file=str(path), key="resources")
    jobs = _precedences(path, lines, count)
    resources = renewable + consumable
    _requests(path, lines, jobs, resources)
    where, capacities = _capacities(path, lines, resources)
    for capacity in capacities:
        if not 0 <= capacity <= LARGEST:
            raise _wrong(path, where, f"expected capacities from 0 to {LARGEST:,}, found {capacity}")
    model = Model(Path(path.name.removesuffix(".gz")).stem)
    handles: list[ResourceHandle] = [
        model.renewable(f"R{number + 1}", capacities[number])
        if number < renewable
        else model.consumable(f"N{number - renewable + 1}", capacities[number])
        for number in range(resources)
    ]
    # Source and sink order nothing that is not ordered without them, unless something else comes before or after them.
    after = {following for job in jobs.values() for following in job.successors}
    ends = [number for number, outside in ((1, 1 not in after), (count, not jobs[count].successors)) if outside]
    dummies = {number for number in ends if all(not any((d, *needs)) for d, needs in jobs[number].choices)}
    tasks = {}
    for number, job in jobs.items():
        if number in dummies:
            continue
        choices = [
            (duration, [(handles[position], need) for position, need in enumerate(needs) if need])
            for duration, needs in job.choices
        ]
        tasks[number] = model.task(alternatives=choices, name=f"activity {number}")
    if not tasks:
        raise InputError("holds no activity beside source and sink", file=str(path))
    _acyclic(path, jobs)
    for number, job in jobs.items():
        for following in job.successors:
            if number in tasks and following in tasks:
                model.precede(tasks[number], tasks[following])
    return model.problem()


def write_project(problem: Problem) -> str:
    """A project as a PSPLIB text, with supersource and sink.

    Raises
    ------
    ValueError
        If the problem says more than the format can.
    """
    shape = recognised_shape(problem)
    view = shape.view if shape else None
    if not isinstance(view, Project) or view.release.any():
        raise ValueError("expected a project without releases")
    count = view.activities
    followed = {int(activity) for activity in view.successor}
    successors = {1: [a + 2 for a in range(count) if a not in followed]}
    for activity in range(count):
        found = view.successor[view.successor_start[activity] : view.successor_start[activity + 1]]
        successors[activity + 2] = [int(other) + 2 for other in found] or [count + 2]
    rule = "*" * 72
    renewable, consumable = view.renewable.shape[1], view.consumable.shape[1]
    names = [f"R {i + 1}" for i in range(renewable)] + [f"N {i + 1}" for i in range(consumable)]
    lines = [
        rule,
        f"file with basedata            : {problem.name}",
        "initial value random generator: 0",
        rule,
        "projects                      :  1",
        f"jobs (incl. supersource/sink ):  {count + 2}",
        f"horizon                       :  {int(view.mode_duration.sum())}",
        "RESOURCES",
        f"  - renewable                 :  {renewable}   R",
        f"  - nonrenewable              :  {consumable}   N",
        "  - doubly constrained        :  0   D",
        rule,
        "PRECEDENCE RELATIONS:",
        "jobnr.    #modes  #successors   successors",
    ]
    modes = {activity + 2: range(view.mode_start[activity], view.mode_start[activity + 1]) for activity in range(count)}
    for number in range(1, count + 3):
        after = successors.get(number, [])
        lines.append(f"{number} {len(modes.get(number, [0]))} {len(after)} " + " ".join(map(str, after)))
    lines += [rule, "REQUESTS/DURATIONS:", "jobnr. mode duration  " + " ".join(names), "-" * 72]
    for number in range(1, count + 3):
        if number not in modes:
            lines.append(f"{number} 1 0 " + " ".join("0" for _ in names))
            continue
        for position, mode in enumerate(modes[number]):
            needs = [*view.renewable[mode].tolist(), *view.consumable[mode].tolist()]
            lead = f"{number} " if position == 0 else "  "
            lines.append(f"{lead}{position + 1} {view.mode_duration[mode]} " + " ".join(map(str, needs)))
    capacities = [*view.renewable_capacity.tolist(), *view.consumable_capacity.tolist()]
    lines += [rule, "RESOURCEAVAILABILITIES:", " ".join(names), " ".join(map(str, capacities)), rule]
    return "\n".join(lines) + "\n"


def _stated(path: Path, lines: list[str], pattern: str, expected: str) -> int:
    for line in lines:
        found = re.search(pattern, line)
        if found and len(found[1]) < 19:
            return int(found[1])
    raise InputError(f"expected a line '{expected}'", file=str(path))


def _section(path: Path, lines: list[str], title: str) -> int:
    for number, line in enumerate(lines):
        if line.strip().startswith(title):
            return number
    raise InputError(f"expected a section '{title}'", file=str(path))


def _numbers(path: Path, number: int, line: str) -> list[int]:
    try:
        return [int(word) for word in line.split()]
    except ValueError:
        raise _wrong(path, number, f"expected whole numbers, found '{line.strip()[:40]}'") from None


def _body(lines: list[str], start: int) -> list[tuple[int, str]]:
    """Numbered lines of a section, without its titles and rules."""
    found = []
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        text = line.strip()
        if text.startswith("***"):
            break
        if text and (text[0].isdigit() or (text[0] == "-" and not text.startswith("---"))):
            found.append((number, text))
    return found


def _precedences(path: Path, lines: list[str], count: int) -> dict[int, _Job]:
    jobs: dict[int, _Job] = {}
    for number, text in _body(lines, _section(path, lines, "PRECEDENCE RELATIONS")):
        values = _numbers(path, number, text)
        if len(values) < 3 or len(values) != 3 + values[2]:
            raise _wrong(path, number, "expected job, modes, number of successors, and as many successors")
        if values[0] != len(jobs) + 1:
            raise _wrong(path, number, f"expected job {len(jobs) + 1}, found {values[0]}")
        for following in values[3:]:
            if not 1 <= following <= count:
                raise _wrong(path, number, f"expected successors from 1 to {count}, found {following}")
        if values[1] < 1:
            raise _wrong(path, number, f"expected at least 1 mode, found {values[1]}")
        jobs[values[0]] = _Job(number, values[1], values[3:])
    if len(jobs) != count:
        raise InputError(f"expected {count} jobs, found {len(jobs)}", file=str(path), key="PRECEDENCE RELATIONS")
    return jobs


def _requests(path: Path, lines: list[str], jobs: dict[int, _Job], resources: int) -> None:
    present = 0
    for number, text in _body(lines, _section(path, lines, "REQUESTS/DURATIONS")):
        values = _numbers(path, number, text)
        if present == 0 or len(jobs[present].choices) == jobs[present].modes:
            present += 1
            if not values or values[0] != present or present > len(jobs):
                raise _wrong(path, number, f"expected the modes of job {present}, found '{text[:40]}'")
            values = values[1:]
        mode = len(jobs[present].choices) + 1
        if len(values) != 2 + resources or values[0] != mode:
            raise _wrong(
                path, number, f"expected mode {mode} of job {present}: mode, duration and {resources} requests"
            )
        for value in values[1:]:
            if not 0 <= value <= LARGEST:
                raise _wrong(path, number, f"expected durations and requests from 0 to {LARGEST:,}, found {value}")
        jobs[present].choices.append((values[1], values[2:]))
    for name, job in jobs.items():
        if len(job.choices) != job.modes:
            raise InputError(f"expected {job.modes} modes, found {len(job.choices)}", file=str(path), key=f"job {name}")


def _capacities(path: Path, lines: list[str], resources: int) -> tuple[int, list[int]]:
    rows = _body(lines, _section(path, lines, "RESOURCEAVAILABILITIES"))
    number, text = rows[0] if rows else (len(lines), "")
    values = _numbers(path, number, text)
    if len(values) != resources:
        raise _wrong(path, number, f"expected {resources} capacities, found {len(values)}")
    return number, values


def _acyclic(path: Path, jobs: dict[int, _Job]) -> None:
    """Refuse a circle of precedences, naming it."""
    from graphlib import CycleError, TopologicalSorter

    try:
        TopologicalSorter({number: set(job.successors) for number, job in jobs.items()}).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]
        text = " -> ".join(map(str, circle[:8])) + (" -> ..." if len(circle) > 8 else "")
        raise _wrong(path, jobs[circle[0]].line, f"the precedences run in a circle: jobs {text}") from None


def _wrong(path: Path, number: int, message: str) -> InputError:
    return InputError(message, file=str(path), key=f"line {number}")
