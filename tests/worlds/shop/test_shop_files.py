"""Job shops and flexible job shops as text: what is understood, and how mistakes are named."""

from __future__ import annotations

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import as_flexible_shop, as_job_shop
from pathloom.worlds.shop.files import load, recognise
from pathloom.worlds.shop.shop_files import (
    job_shop_kind,
    read_flexible_shop,
    read_job_shop,
    read_taillard,
    write_flexible_shop,
    write_job_shop,
)

JSPLIB = "# three machines\n2 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n"
TAILLARD = """\
Nb of jobs, Nb of Machines, Time seed, Machine seed, Upper bound, Lower bound
2 3 840612802 398197754 11 9
Times
3 2 2
2 1 4
Machines
1 2 3
1 3 2
"""
FJSPLIB = "2 3 1.5\n2 2 1 5 3 4 1 2 7\n1 1 3 6\n"


def written(folder: Path, text: str, name: str = "shop.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_job_shop_says_machine_and_duration_in_turn(tmp_path: Path) -> None:
    problem = read_job_shop(written(tmp_path, JSPLIB))
    view = as_job_shop(problem)
    assert view is not None
    assert (view.machine.tolist(), view.duration.tolist()) == ([0, 1, 2, 0, 2, 1], [3, 2, 2, 2, 1, 4])
    assert problem.name == "shop" and [r.name for r in problem.resources] == [f"machine {i}" for i in range(3)]


def test_taillards_tables_say_the_same(tmp_path: Path) -> None:
    first, second = (
        as_job_shop(read(written(tmp_path, text)))
        for read, text in ((read_taillard, TAILLARD), (read_job_shop, JSPLIB))
    )
    assert first is not None and second is not None
    assert np.array_equal(first.machine, second.machine) and np.array_equal(first.duration, second.duration)


def test_a_flexible_shop_lists_its_choices(tmp_path: Path) -> None:
    view = as_flexible_shop(read_flexible_shop(written(tmp_path, FJSPLIB)))
    assert view is not None and view.machines == 3
    assert view.alternative_start.tolist() == [0, 2, 3, 4] and view.job_start.tolist() == [0, 2, 3]
    assert view.alternative_machine.tolist() == [0, 2, 1, 2] and view.alternative_duration.tolist() == [5, 4, 7, 6]
    from_zero = as_flexible_shop(read_flexible_shop(written(tmp_path, "2 3 1.5\n2 2 0 5 2 4 1 1 7\n1 1 2 6\n")))
    assert from_zero is not None and from_zero.alternative_machine.tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (JSPLIB, "job shop (JSPLIB)"),
        (TAILLARD, "job shop (Taillard)"),
        (TAILLARD.partition("\n")[2], "job shop (Taillard)"),
        (FJSPLIB, "flexible job shop (FJSPLIB)"),
        (FJSPLIB.replace(" 1.5", ""), "flexible job shop (FJSPLIB)"),
        ("1 2\n0 3 1 4\n", "job shop (JSPLIB)"),
        ("1 1\n1 1 1 5\n", "flexible job shop (FJSPLIB)"),
        ("2 2\n1 1 0 5\n1 1 0 7\n", "job shop (JSPLIB)"),
        ("hello world\n1 2 3\n", None),
        ("1 2 3 4 5\n", None),
        ("2 x\n1 2\n", None),
        ("", None),
        ("# only\n# comments\n", None),
        ("12 3\n", None),
        (f"{'9' * 5000} 2\n0 1\n", None),
        ("4 1\n1 1\n0 2\n0 3\n\u00b2 \u00b2 1\n", "job shop (JSPLIB)"),
    ],
)
def test_what_a_text_begins_like(text: str, kind: str | None) -> None:
    assert job_shop_kind(text) == kind


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("2 3\n0 3 1 2 2 2\n", 2, "expected 2 lines of jobs, found 1"),
        ("1 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n", 3, "expected 1 lines of jobs, found 2"),
        ("1 2\n0 3 1\n", 2, "expected pairs of machine and duration, found 3 numbers"),
        ("1 2\n0 3 1 4 0 5\n", 2, "expected at most 2 pairs, found 3"),
        ("1 2\n0 3 2 4\n", 2, "expected a machine from 0 to 1, found 2"),
        ("1 2\n0 3 -1 4\n", 2, "expected a machine from 0 to 1, found -1"),
        ("1 2\n0 3 1 -4\n", 2, "expected a duration from 0 to 1,000,000,000, found -4"),
        ("1 2\n0 3 1 4000000000\n", 2, "expected a duration from 0 to"),
        ("1 2\n0 3 1 x\n", 2, "expected whole numbers, found 'x'"),
        ("1 2\n0 3 1 2.5\n", 2, "expected whole numbers, found '2.5'"),
        (f"1 2\n0 3 1 {'7' * 6000}\n", 2, "expected whole numbers, found '7777"),
        ("0 2\n0 3 1 4\n", 1, "expected at least 1 job and 1 machine, found 0 and 2"),
        ("5\n0 3 1 4\n", 1, "expected the numbers of jobs and machines, found 1 numbers"),
    ],
)
def test_mistakes_in_a_job_shop_are_named_with_their_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_job_shop(written(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path}/shop.txt: line {line}: {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("3 2 2\n", ""), "line 7: expected 2 rows of times and 2 of machines, found 3 rows"),
        (("1 3 2", "1 3"), "line 8: expected 3 numbers, found 2"),
        (("1 3 2", "1 4 2"), "line 8: expected a machine from 1 to 3, found 4"),
        (("1 3 2", "1 0 2"), "line 8: expected a machine from 1 to 3, found 0"),
        (("3 2 2", "3 -2 2"), "line 4: expected a duration from 0 to"),
    ],
)
def test_mistakes_in_taillards_tables_are_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_taillard(written(tmp_path, TAILLARD.replace(*change)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 3\n2 2 1 5 3 4\n", "line 2: operation 1: expected its number of alternatives"),
        ("1 3\n1 2 1 5 3\n", "line 2: operation 0: expected 2 pairs of machine and duration, line ends"),
        ("1 3\n1 0\n", "line 2: operation 0: expected its number of alternatives"),
        ("1 3\n0 1 1 5\n", "line 2: expected a number of operations of at least 1"),
        ("1 3\n1 1 1 5 9\n", "line 2: expected 1 operations in 4 numbers, found 5 numbers"),
        ("1 3\n1 1 4 5\n", "line 2: expected a machine from 1 to 3, found 4"),
        ("1 3\n1 2 0 5 3 4\n", "line 2: expected a machine from 0 to 2, found 3"),
        ("1 3\n1 1 1 -5\n", "line 2: expected a duration"),
        ("1 3\n1 2 1 5 1 4\n", "line 2: machine 1 is twice among the alternatives"),
        ("2 3\n1 1 1 5\n", "line 2: expected 2 lines of jobs, found 1"),
        ("1 900000000\n1 1 1 5\n", "line 1: expected at most 100,000 machines, found 900,000,000"),
    ],
)
def test_mistakes_in_a_flexible_shop_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_flexible_shop(written(tmp_path, text))


@pytest.mark.parametrize("read", [read_job_shop, read_taillard])
def test_files_of_impossible_size_are_refused_before_they_fill_the_memory(tmp_path: Path, read: object) -> None:
    path = written(tmp_path, "1 2000000\n0 3\n")
    with pytest.raises(InputError, match="holds 2,000,000 operations, expected at most 1,000,000"):
        read(path)  # type: ignore[operator]


def test_packed_files_and_files_of_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "la01.txt.gz"
    path.write_bytes(gzip.compress(b"\n\n" + JSPLIB.replace("\n", "\r\n\r\n").encode()))
    problem = load(path)
    assert problem.name == "la01" and len(problem.tasks) == 6


number = st.integers


@st.composite
def job_shops(draw: st.DrawFn) -> Problem:
    """Classic shops in which no job has more operations than there are machines."""
    machines = draw(number(1, 5))
    model = Model("shop")
    places = [model.machine(f"machine {m}") for m in range(machines)]
    for j in range(draw(number(1, 5))):
        job = model.job(f"job {j}")
        order = draw(st.lists(number(0, machines - 1), min_size=1, max_size=machines))
        model.chain(*(model.task(draw(number(0, 99)), places[m], job=job) for m in order))
    return model.problem()


@st.composite
def flexible_shops(draw: st.DrawFn) -> Problem:
    machines = draw(number(2, 5))
    model = Model("shop")
    places = [model.machine(f"machine {m}") for m in range(machines)]
    for j in range(draw(number(1, 4))):
        job = model.job(f"job {j}")
        tasks = []
        for _ in range(draw(number(1, 4))):
            chosen = draw(st.lists(number(0, machines - 1), min_size=1, max_size=machines, unique=True))
            tasks.append(model.task(alternatives=[(draw(number(0, 99)), places[m]) for m in chosen], job=job))
        model.chain(*tasks)
    return model.problem()


@given(job_shops())
@settings(max_examples=40, deadline=None)
def test_a_job_shop_that_was_written_is_read_back(problem: Problem) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), write_job_shop(problem))
        assert read_job_shop(path) == problem


@st.composite
def classic_shops(draw: st.DrawFn) -> Problem:
    machines = draw(number(1, 4))
    model = Model("shop")
    places = [model.machine(f"machine {m}") for m in range(machines)]
    for j in range(draw(number(1, 4))):
        job = model.job(f"job {j}")
        order = draw(st.permutations(range(machines)))
        model.chain(*(model.task(draw(number(0, 9)), places[m], job=job) for m in order))
    return model.problem()


@given(classic_shops())
@settings(max_examples=40, deadline=None)
def test_a_shop_of_jobs_that_visit_each_machine_once_is_recognised_as_such(problem: Problem) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), write_job_shop(problem))
        assert recognise(path, path.read_text()) == "job shop (JSPLIB)"
        assert load(path) == problem


@given(flexible_shops())
@settings(max_examples=40, deadline=None)
def test_a_flexible_shop_that_was_written_is_recognised_and_read_back(problem: Problem) -> None:
    if as_flexible_shop(problem) is None:  # no choice at all
        return
    with TemporaryDirectory() as folder:
        path = written(Path(folder), write_flexible_shop(problem))
        assert recognise(path, path.read_text()) == "flexible job shop (FJSPLIB)"
        assert load(path) == problem


def test_what_a_format_cannot_say_is_not_written() -> None:
    model = Model()
    saw, lathe = model.machine(), model.machine()
    model.chain(*(model.task(2, machine, job=None) for machine in (saw, lathe, saw)))
    with pytest.raises(ValueError, match="no more operations of a job than there are machines"):
        write_job_shop(model.problem())
    with pytest.raises(ValueError, match="a flexible job shop"):
        write_flexible_shop(model.problem())
    late = Model()
    late.task(3, late.machine(), earliest_start=4)
    with pytest.raises(ValueError, match="without releases"):
        write_job_shop(late.problem())


@pytest.mark.parametrize(
    ("folder", "name", "kind", "tasks", "machines"),
    [
        ("jsp", "ft06.txt", "job shop (JSPLIB)", 36, 6),
        ("jsp", "ta01.txt", "job shop (JSPLIB)", 225, 15),
        ("fjsp", "mk01.txt", "flexible job shop (FJSPLIB)", 55, 6),
    ],
)
def test_public_files(folder: str, name: str, kind: str, tasks: int, machines: int) -> None:
    from pathloom.data import find

    try:
        path = find(folder) / "plain" / name
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    if not path.exists():
        pytest.skip(f"{name} is not at hand")
    assert recognise(path, path.read_text()) == kind
    problem = load(path)
    assert (len(problem.tasks), len(problem.resources)) == (tasks, machines)
