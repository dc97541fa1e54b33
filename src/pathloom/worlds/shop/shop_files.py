"""Text formats of job shops and flexible job shops: JSPLIB ("standard"), Taillard's, and FJSPLIB.

* JSPLIB: a line ``jobs machines``, then one line a job of ``machine duration`` pairs, machines from 0. Lines that
  begin with ``#`` are comments.
* Taillard: a line that begins with two numbers, jobs and machines, then a table of times and one of machines (from 1),
  each with one row a job; words such as ``Times`` and ``Machines`` stand between.
* FJSPLIB: a line ``jobs machines [flexibility]``, then one line a job: number of operations, then for each the number
  of its alternatives and their ``machine duration`` pairs. Machines count from 0 if some machine is 0, else from 1.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pathloom.data.reading import HEAD_BYTES, read_text
from pathloom.plan import InputError
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import recognised_shape
from pathloom.schedule.shops import FlexibleShop, JobShop

MOST_OPERATIONS = 1_000_000
LONGEST = 10**9
"""Durations above this are taken for mistakes."""
MOST_MACHINES = 100_000
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]*)?$")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}$")
Row = tuple[int, list[int]]
"""Number of a line in the file, and the whole numbers on it."""


def job_shop_kind(head: str) -> str | None:
    """Which of the formats a text begins like, from its first rows."""
    whole = len(head) < HEAD_BYTES  # else the last line may be cut off
    lines = [line.split() for line in (head.splitlines() if whole else head.splitlines()[:-1])]
    lines = [words for words in lines if words and not words[0].startswith("#")]
    if not lines:
        return None
    if len(lines) > 1 and any(word.lower().startswith(("time", "nb")) for words in lines[:2] for word in words):
        words = lines[1] if not lines[0][0].isdigit() else lines[0]
        return "job shop (Taillard)" if len(words) >= 2 and words[0].isdigit() and words[1].isdigit() else None
    sizes = lines[0]
    if not 2 <= len(sizes) <= 3 or not all(_NUMBER.match(word) for word in sizes):
        return None
    if not _WHOLE.match(sizes[0]) or not _WHOLE.match(sizes[1]):
        return None
    jobs, machines = int(sizes[0]), int(sizes[1])
    rows = lines[1 : 1 + max(1, jobs)]
    if not rows or not all(_NUMBER.match(word) for words in rows[:3] for word in words):
        return None
    if len(sizes) == 2 and (_classic(rows, machines) or not _flexible(rows)):
        return "job shop (JSPLIB)"
    if _flexible(rows):
        return "flexible job shop (FJSPLIB)"
    return "job shop (JSPLIB)" if len(sizes) == 2 else "flexible job shop (FJSPLIB)"


def _classic(rows: list[list[str]], machines: int) -> bool:
    """Whether each row visits each machine once."""
    return all(
        len(words) == 2 * machines and {*words[::2]} == {str(number) for number in range(machines)} for words in rows
    )


def _flexible(rows: list[list[str]]) -> bool:
    """Whether each row reads as operations with alternatives, to its very end."""
    for words in rows:
        if not all(_WHOLE.match(word) for word in words):
            return False
        numbers = [int(word) for word in words]
        at = 1
        for _ in range(numbers[0]):
            if at >= len(numbers) or numbers[at] < 1:
                return False
            at += 1 + 2 * numbers[at]
        if at != len(numbers):
            return False
    return True


def read_job_shop(path: Path) -> Problem:
    """Read a JSPLIB file.

    Raises
    ------
    InputError
        Names the line and what was expected.
    """
    rows = _rows(path)
    jobs, machines = _sizes(path, rows, most=2)
    _count(path, rows, jobs)
    _limit(path, jobs * machines)
    table = []
    for number, values in rows[1:]:
        if len(values) != 2 * machines:
            if len(values) % 2:
                raise _wrong(path, number, f"expected pairs of machine and duration, found {len(values)} numbers")
            if len(values) > 2 * machines:
                raise _wrong(path, number, f"expected at most {machines} pairs, found {len(values) // 2}")
        pairs = list(zip(values[::2], values[1::2], strict=True))
        for machine, duration in pairs:
            _machine(path, number, machine, machines, 0)
            _duration(path, number, duration)
        table.append(pairs)
    return _shop(path, table, machines)


def read_taillard(path: Path) -> Problem:
    """Read a file in Taillard's format; errors as `read_job_shop`."""
    rows: list[Row] = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if words and all(_WHOLE.match(word) for word in words):
            rows.append((number, [int(word) for word in words]))
    jobs, machines = _sizes(path, rows)
    tables = rows[1:]
    _limit(path, jobs * machines)
    if len(tables) != 2 * jobs:
        last = tables[-1][0] if tables else rows[0][0]
        raise _wrong(path, last, f"expected {jobs} rows of times and {jobs} of machines, found {len(tables)} rows")
    table = []
    for (number, times), (line, order) in zip(tables[:jobs], tables[jobs:], strict=True):
        for at, values in ((number, times), (line, order)):
            if len(values) != machines:
                raise _wrong(path, at, f"expected {machines} numbers, found {len(values)}")
        for duration in times:
            _duration(path, number, duration)
        for machine in order:
            _machine(path, line, machine, machines, 1)
        table.append([(machine - 1, duration) for machine, duration in zip(order, times, strict=True)])
    return _shop(path, table, machines)


def read_flexible_shop(path: Path) -> Problem:
    """Read an FJSPLIB file; errors as `read_job_shop`."""
    rows = _rows(path)
    jobs, machines = _sizes(path, rows, most=3)
    _count(path, rows, jobs)
    table: list[list[list[tuple[int, int]]]] = []
    lines = []
    for number, values in rows[1:]:
        if not values or values[0] < 1:
            raise _wrong(path, number, "expected a number of operations of at least 1")
        at = 1
        operations = []
        for operation in range(values[0]):
            if at >= len(values) or values[at] < 1:
                raise _wrong(path, number, f"operation {operation}: expected its number of alternatives, at least 1")
            end = at + 1 + 2 * values[at]
            if end > len(values):
                raise _wrong(
                    path,
                    number,
                    f"operation {operation}: expected {values[at]} pairs of machine and duration, line ends",
                )
            operations.append(list(zip(values[at + 1 : end : 2], values[at + 2 : end : 2], strict=True)))
            at = end
        if at != len(values):
            raise _wrong(path, number, f"expected {values[0]} operations in {at} numbers, found {len(values)} numbers")
        table.append(operations)
        lines.append(number)
    if machines > MOST_MACHINES:
        raise _wrong(path, rows[0][0], f"expected at most {MOST_MACHINES:,} machines, found {machines:,}")
    first = 0 if any(machine == 0 for job in table for op in job for machine, _ in op) else 1
    _limit(path, sum(len(op) for job in table for op in job))
    model = Model(_stem(path))
    resources = [model.machine(f"machine {number}") for number in range(machines)]
    for position, (number, operations) in enumerate(zip(lines, table, strict=True)):
        job = model.job(f"job {position}")
        tasks = []
        for alternatives in operations:
            seen = set()
            for machine, duration in alternatives:
                _machine(path, number, machine, machines, first)
                _duration(path, number, duration)
                if machine in seen:
                    raise _wrong(path, number, f"machine {machine} is twice among the alternatives of one operation")
                seen.add(machine)
            choices = [(duration, resources[machine - first]) for machine, duration in alternatives]
            tasks.append(model.task(alternatives=choices, job=job))
        model.chain(*tasks)
    return model.problem()


def write_job_shop(problem: Problem) -> str:
    """A job shop as a JSPLIB text.

    Raises
    ------
    ValueError
        If the problem says more than the format can.
    """
    shape = recognised_shape(problem)
    view = shape.view if shape else None
    if not isinstance(view, JobShop) or view.blocking or view.no_wait or view.release.any():
        raise ValueError("expected a classic job shop without releases")
    if (np.diff(view.job_start) > view.machines).any():
        raise ValueError("expected no more operations of a job than there are machines")
    lines = [f"{view.jobs} {view.machines}"]
    for job in range(view.jobs):
        span = range(view.job_start[job], view.job_start[job + 1])
        lines.append(" ".join(f"{view.machine[o]} {view.duration[o]}" for o in span))
    return "\n".join(lines) + "\n"


def write_flexible_shop(problem: Problem) -> str:
    """A flexible job shop as an FJSPLIB text (machines from 1); errors as `write_job_shop`."""
    shape = recognised_shape(problem)
    view = shape.view if shape else None
    if not isinstance(view, FlexibleShop) or view.release.any():
        raise ValueError("expected a flexible job shop without releases")
    average = len(view.alternative_machine) / view.operations  # tells the format from that of job shops
    lines = [f"{view.jobs} {view.machines} {average:.2f}"]
    for job in range(view.jobs):
        span = range(view.job_start[job], view.job_start[job + 1])
        words = [str(len(span))]
        for operation in span:
            choices = range(view.alternative_start[operation], view.alternative_start[operation + 1])
            words.append(str(len(choices)))
            words += [f"{view.alternative_machine[a] + 1} {view.alternative_duration[a]}" for a in choices]
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


def _shop(path: Path, table: list[list[tuple[int, int]]], machines: int) -> Problem:
    model = Model(_stem(path))
    resources = [model.machine(f"machine {number}") for number in range(machines)]
    for position, row in enumerate(table):
        job = model.job(f"job {position}")
        model.chain(*(model.task(duration, resources[machine], job=job) for machine, duration in row))
    return model.problem()


def _rows(path: Path) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not rows:  # the first one may end in an average
            words = [word.split(".")[0] or "0" for word in words]
        for word in words:
            if not _WHOLE.match(word):
                raise _wrong(path, number, f"expected whole numbers, found '{word[:20]}'")
        rows.append((number, [int(word) for word in words]))
    return rows


def _sizes(path: Path, rows: list[Row], most: int = 1000) -> tuple[int, int]:
    number, values = rows[0] if rows else (1, [])
    if not 2 <= len(values) <= most:
        raise _wrong(path, number, f"expected the numbers of jobs and machines, found {len(values)} numbers")
    jobs, machines = values[:2]
    if jobs < 1 or machines < 1:
        raise _wrong(path, number, f"expected at least 1 job and 1 machine, found {jobs} and {machines}")
    return jobs, machines


def _count(path: Path, rows: list[Row], jobs: int) -> None:
    if len(rows) - 1 != jobs:
        raise _wrong(path, rows[-1][0], f"expected {jobs} lines of jobs, found {len(rows) - 1}")


def _limit(path: Path, operations: int) -> None:
    if operations > MOST_OPERATIONS:
        raise InputError(f"holds {operations:,} operations, expected at most {MOST_OPERATIONS:,}", file=str(path))


def _machine(path: Path, number: int, machine: int, machines: int, first: int) -> None:
    if not first <= machine < machines + first:
        raise _wrong(path, number, f"expected a machine from {first} to {machines + first - 1}, found {machine}")


def _duration(path: Path, number: int, duration: int) -> None:
    if not 0 <= duration <= LONGEST:
        raise _wrong(path, number, f"expected a duration from 0 to {LONGEST:,}, found {duration}")


def _wrong(path: Path, number: int, message: str) -> InputError:
    return InputError(message, file=str(path), key=f"line {number}")


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return Path(name).stem
