"""Recognising and reading the shop world's files, and the plan.json that it writes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.data.reading import read_head, read_text
from pathloom.plan import InputError, Objective, Plan
from pathloom.schedule.problem import Machine, Problem
from pathloom.schedule.schedule import Schedule
from pathloom.timeline import Timeline
from pathloom.worlds.shop.problem_file import EXAMPLE, problem_from_dict, read_problem
from pathloom.worlds.shop.problem_writing import file_order, problem_to_dict
from pathloom.worlds.shop.project_files import is_psplib, read_project
from pathloom.worlds.shop.shop_files import job_shop_kind, read_flexible_shop, read_job_shop, read_taillard

FORMAT = "pathloom-shop-plan-1"
OWN = "scheduling problem"
PROJECT = "project (PSPLIB)"
COLUMNS = ("start", "end", "mode", "departure", "address")
# A line "kind: shop" of YAML, or the key in JSON before anything nested.
_STATED = re.compile(
    r"""^[ \t]*["']?kind["']?[ \t]*:[ \t]*["']?shop["']?[ \t]*,?[ \t]*(\#.*)?$"""
    r"""|\A\s*\{[^{}\[\]]*["']?\bkind["']?\s*:\s*["']?shop["']?\s*[,}]""",
    re.MULTILINE,
)
_TAGGED = re.compile(r"""\A\s*\{[^{}\[\]]*"format"\s*:""")


def example() -> str:
    """A commented example of our own format."""
    return EXAMPLE


def recognise(path: Path, head: str) -> str | None:
    """Kind of scheduling problem that a file holds, from its name and its first text."""
    if path.name.removesuffix(".gz").endswith((".yaml", ".yml", ".json")):
        return OWN if _STATED.search(head) and not _TAGGED.search(head) else None
    if is_psplib(head):
        return PROJECT
    return job_shop_kind(head)


def load(path: Path, blocking: bool = False, no_wait: bool = False, swap: bool = True) -> Problem:
    """Read a problem file.

    Parameters
    ----------
    blocking, no_wait, swap
        Turn a classic job shop into one without buffers (jobs stay on their machines until the next one is free), or
        without waiting at all; `swap` is whether blocked jobs may change places.

    Raises
    ------
    InputError
        Names the file, the line or key, and what was expected.
    """
    path = Path(path)
    for name, value in (("blocking", blocking), ("no_wait", no_wait), ("swap", swap)):
        if not isinstance(value, bool):
            raise InputError(f"expected true or false, found {value!r}", file=str(path), key=name)
    kind = recognise(path, read_head(path))
    if kind == OWN:
        problem = read_problem(path)
    elif kind == PROJECT:
        problem = read_project(path)
    elif kind is None:
        raise InputError("is no problem of the shop world", file=str(path))
    else:
        readers = {"job shop (Taillard)": read_taillard, "flexible job shop (FJSPLIB)": read_flexible_shop}
        problem = readers.get(kind, read_job_shop)(path)
    if blocking and no_wait:
        raise InputError("expected blocking or no_wait, not both", file=str(path), key="no_wait")
    problem = replace(problem, swap=problem.swap and swap)
    if not (blocking or no_wait):
        return problem
    if not all(isinstance(resource, Machine) for resource in problem.resources):
        raise InputError("only shops of machines can be blocking or no-wait", file=str(path))
    links = tuple(
        replace(link, blocking=blocking, max_lag=0 if no_wait else link.max_lag) for link in problem.precedences
    )
    try:
        return replace(problem, precedences=links)
    except ValueError as error:
        raise InputError(str(error), file=str(path)) from None


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """A plan with its problem as a plain dictionary."""
    # The file lists tasks job by job, whatever their order in the problem.
    order = np.array(file_order(plan.problem), dtype=np.int64)
    schedule: Schedule = plan.decisions
    shown = plan.timeline
    place = np.argsort(order).astype(np.int32)
    shown = replace(shown, columns={**shown.columns, "task": place[shown.columns["task"]]})
    return {
        "format": FORMAT,
        "problem": problem_to_dict(plan.problem),
        **plan.record(),
        "schedule": {name: getattr(schedule, name)[order].tolist() for name in COLUMNS},
        "timeline": shown.to_dict(),
    }


def read_plan(path: Path) -> Plan:
    """Read a plan.json.

    Raises
    ------
    InputError
        If it is none, lacks a key or holds something else than a plan.
    """
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error.msg}", file=str(path), key=f"line {error.lineno}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"expected '{FORMAT}'", file=str(path), key="format")
    try:
        problem = problem_from_dict(data["problem"], file=None)
        columns = [np.array(data["schedule"][name], dtype=np.int64) for name in COLUMNS]
        start, end, mode, departure, address = columns
        schedule = Schedule(start, end, mode.astype(np.int32), departure, address)
        if len(schedule.start) != len(problem.tasks):
            raise ValueError(f"{len(problem.tasks)} tasks are expected, {len(schedule.start)} are scheduled")
        return Plan(
            problem=problem,
            decisions=schedule,
            timeline=Timeline.from_dict(data["timeline"]),
            objective=Objective(**data["objective"]),
            method=str(data["method"]),
            settings=dict(data["settings"]),
            seed=int(data["seed"]),
            bound=None if data["bound"] is None else float(data["bound"]),
            bound_by=data["bound_by"],
            seconds=float(data["seconds"]),
            metrics=dict(data["metrics"]),
        )
    except InputError as error:
        raise InputError(error.reason, file=str(path), key=f"problem.{error.key}" if error.key else None) from None
    except KeyError as error:
        raise InputError("expected this key, found none", file=str(path), key=str(error.args[0])) from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"holds no plan: {error}", file=str(path)) from None
