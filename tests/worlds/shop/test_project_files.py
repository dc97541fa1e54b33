"""PSPLIB files of projects: what is understood, and how mistakes are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.plan import InputError
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem
from pathloom.schedule.recognised_shapes import as_project
from pathloom.worlds.shop.files import PROJECT, load, recognise
from pathloom.worlds.shop.project_files import read_project, write_project

MULTI = """\
************************************************************************
file with basedata            : tiny
initial value random generator: 1
************************************************************************
projects                      :  1
jobs (incl. supersource/sink ):  5
horizon                       :  20
RESOURCES
  - renewable                 :  1   R
  - nonrenewable              :  1   N
  - doubly constrained        :  0   D
************************************************************************
PROJECT INFORMATION:
pronr.  #jobs rel.date duedate tardcost  MPM-Time
    1      3      0       10       5        7
************************************************************************
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          2           2   3
   2        2          1           4
   3        1          1           5
   4        1          1           5
   5        1          0
************************************************************************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  N 1
------------------------------------------------------------------------
  1      1     0       0    0
  2      1     3       2    1
         2     5       1    0
  3      1     4       1    2
  4      1     2       3    0
  5      1     0       0    0
************************************************************************
RESOURCEAVAILABILITIES:
  R 1  N 1
    3    2
************************************************************************
"""


def written(folder: Path, text: str, name: str = "tiny.mm") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_modes_requests_and_precedences_without_source_and_sink(tmp_path: Path) -> None:
    problem = read_project(written(tmp_path, MULTI))
    assert [problem.task_name(task) for task in range(3)] == ["activity 2", "activity 3", "activity 4"]
    view = as_project(problem)
    assert view is not None
    assert view.mode_start.tolist() == [0, 2, 3, 4] and view.mode_duration.tolist() == [3, 5, 4, 2]
    assert view.renewable.tolist() == [[2], [1], [1], [3]] and view.consumable.tolist() == [[1], [0], [2], [0]]
    assert (view.renewable_capacity.tolist(), view.consumable_capacity.tolist()) == ([3], [2])
    assert view.successor_start.tolist() == [0, 1, 1, 1] and view.successor.tolist() == [2]
    assert recognise(tmp_path / "tiny.mm", MULTI) == PROJECT


def test_a_first_job_that_takes_time_is_an_activity(tmp_path: Path) -> None:
    problem = read_project(written(tmp_path, MULTI.replace("  1      1     0       0", "  1      1     6       0", 1)))
    assert len(problem.tasks) == 4 and problem.tasks[0].modes[0].duration == 6
    assert len(problem.precedences) == 3


def test_a_last_job_that_is_followed_by_others_is_not_the_sink(tmp_path: Path) -> None:
    """Job 5 takes no time, but what comes after it waits for what comes before it."""
    text = MULTI.replace("   5        1          0\n", "   5        1          1           4\n")
    text = text.replace("   4        1          1           5\n", "   4        1          0\n")
    problem = read_project(written(tmp_path, text))
    names = [problem.task_name(task) for task in range(len(problem.tasks))]
    links = {(names[link.first], names[link.second]) for link in problem.precedences}
    assert {("activity 3", "activity 5"), ("activity 5", "activity 4")} <= links


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("jobs (incl. supersource/sink ):  5", "jobs: 5"), "expected a line 'jobs (incl."),
        (("sink ):  5", "sink ):  1"), "jobs: expected 2 to 100,000 jobs, found 1"),
        (("sink ):  5", "sink ):  900000000"), "jobs: expected 2 to 100,000 jobs, found 900000000"),
        (("sink ):  5", f"sink ):  {'9' * 6000}"), "expected a line 'jobs (incl."),
        (("sink ):  5", "sink ):  6"), "PRECEDENCE RELATIONS: expected 6 jobs, found 5"),
        (("constrained        :  0", "constrained        :  2"), "doubly constrained resources are not supported"),
        (("- renewable                 :  1", "- renewable                 :  -1"), "RESOURCES: expected numbers"),
        (("PRECEDENCE RELATIONS", "ORDER"), "expected a section 'PRECEDENCE RELATIONS'"),
        (("REQUESTS/DURATIONS", "NEEDS"), "expected a section 'REQUESTS/DURATIONS'"),
        (("RESOURCEAVAILABILITIES", "CAPACITIES"), "expected a section 'RESOURCEAVAILABILITIES'"),
        (("2   3\n", "2\n"), "line 19: expected job, modes, number of successors, and as many successors"),
        (("           4\n", "           9\n"), "line 20: expected successors from 1 to 5, found 9"),
        (("   4        1          1           5", "   7        1          1           5"), "line 22: expected job 4"),
        (("   2        2  ", "   2        0  "), "line 20: expected at least 1 mode, found 0"),
        (("   2        2  ", "   2        3  "), "line 31: expected mode 3 of job 2"),
        (("3       2    1", "3       2"), "line 29: expected mode 1 of job 2: mode, duration and 2 requests"),
        (("3       2    1", "-3       2    1"), "line 29: expected durations and requests from 0 to"),
        (("3       2    1", "3       -2    1"), "line 29: expected durations and requests from 0 to"),
        (("3       2    1", "3000000000000   2    1"), "line 29: expected durations and requests from 0 to"),
        (("3       2    1", "x       2    1"), "line 29: expected whole numbers"),
        (("    3    2\n", "    3\n"), "line 37: expected 2 capacities, found 1"),
        (("    3    2\n", "    3    -2\n"), "line 37: expected capacities from 0 to"),
        (("    3    2\n", ""), "expected 2 capacities, found 0"),
        (("  5      1     0       0    0\n", ""), "job 5: expected 1 modes, found 0"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in MULTI
    with pytest.raises(InputError) as caught:
        read_project(written(tmp_path, MULTI.replace(change[0], change[1], 1)))
    assert said in str(caught.value) and str(caught.value).startswith(f"{tmp_path}/tiny.mm: ")


def test_precedences_in_a_circle_are_named(tmp_path: Path) -> None:
    text = MULTI.replace("   4        1          1           5", "   4        1          2           2   5")
    with pytest.raises(InputError, match=r"the precedences run in a circle: jobs (2 -> 4 -> 2|4 -> 2 -> 4)"):
        read_project(written(tmp_path, text))
    with pytest.raises(InputError, match="in a circle: jobs 3 -> 3"):
        read_project(written(tmp_path, MULTI.replace("   3        1          1           5", "   3  1  1  3")))


def test_a_project_without_activities_is_refused(tmp_path: Path) -> None:
    model = Model()
    model.renewable("R1", 1)
    model.task(1)
    text = write_project(model.problem()).replace("\n2 1 1 0", "\n2 1 0 0", 1)
    only = text.replace(":  3\n", ":  2\n", 1)
    with pytest.raises(InputError):
        read_project(written(tmp_path, only))


number = st.integers


@st.composite
def projects(draw: st.DrawFn) -> Problem:
    """Names and numbering as the reader gives them."""
    model = Model("tiny")
    kinds = draw(st.tuples(number(0, 3), number(0, 2)))
    resources = [model.renewable(f"R{i + 1}", draw(number(0, 9))) for i in range(kinds[0])]
    resources += [model.consumable(f"N{i + 1}", draw(number(0, 9))) for i in range(kinds[1])]
    tasks = []
    for activity in range(draw(number(1, 6))):
        choices = [
            (draw(number(0, 9)), [(r, amount) for r in resources if (amount := draw(number(0, 4)))])
            for _ in range(draw(number(1, 3)))
        ]
        tasks.append(model.task(alternatives=choices, name=f"activity {activity + 2}"))
    for first in range(len(tasks)):
        for second in range(first + 1, len(tasks)):
            if draw(st.booleans()):
                model.precede(tasks[first], tasks[second])
    return model.problem()


@given(projects())
@settings(max_examples=40, deadline=None)
def test_a_project_that_was_written_is_recognised_and_read_back(problem: Problem) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), write_project(problem))
        assert recognise(path, path.read_text()) == PROJECT
        assert load(path) == problem


def test_what_the_format_cannot_say_is_not_written() -> None:
    model = Model()
    model.task(3, [(model.renewable("R1", 2), 1)], earliest_start=4)
    with pytest.raises(ValueError, match="expected a project without releases"):
        write_project(model.problem())
    flow = replace(model.problem(), swap=False, tasks=(replace(model.problem().tasks[0], optional=True),))
    with pytest.raises(ValueError, match="expected a project"):
        write_project(flow)


@pytest.mark.parametrize(("name", "tasks", "modes"), [("j301_1.sm", 30, 30), ("j1010_1.mm", 10, 30)])
def test_public_files(name: str, tasks: int, modes: int) -> None:
    from pathloom.data import find

    try:
        path = find("psplib") / "plain" / name
    except (InputError, FileNotFoundError) as error:
        pytest.skip(f"public instances are not at hand: {error}")
    if not path.exists():
        pytest.skip(f"{name} is not at hand")
    view = as_project(load(path))
    assert view is not None and view.activities == tasks and len(view.mode_duration) == modes
    assert not np.isin(view.successor, []).any() and (view.renewable >= 0).all()
