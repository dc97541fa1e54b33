"""What no problem may say: each mistake is named with its place."""

from __future__ import annotations

from typing import Any

import pytest

from pathloom.schedule.problem import (
    LATEST,
    AddressRange,
    Calendar,
    Consecutive,
    Consumable,
    Criterion,
    Demand,
    Job,
    Machine,
    Mode,
    ModeDependency,
    Noise,
    Precedence,
    Problem,
    Renewable,
    SameResources,
    SameSequence,
    Selection,
    State,
    Task,
)

RESOURCES = (
    Machine("saw", setup=((0, 1), (2, 0))),
    Renewable("crew", 3),
    Consumable("paint", 5),
    AddressRange("sram", 16),
    State("gas", ((0, 4), (4, 0))),
)


def task(*demands: Demand, duration: Any = 3, **more: Any) -> Task:
    return Task((Mode(duration, demands),), **more)


def problem(first: Task | None = None, **more: Any) -> Problem:
    """Two tasks and a resource of each kind."""
    return Problem(**{"tasks": (first or task(), task()), "resources": RESOURCES, **more})


def test_the_plain_one_is_fine() -> None:
    assert len(problem().tasks) == 2


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (Task(()), r"tasks\[0\]: expected at least one mode"),
        (task(duration=-1), r"tasks\[0\]\.modes\[0\]: duration: expected at least 0"),
        (task(duration=2.5), r"duration: expected a whole number, found 2.5"),
        (task(duration=True), r"duration: expected a whole number"),
        (task(duration=LATEST), r"duration: expected at least 0 and less than 2\^40"),
        (task(job=0), r"job: expected a position from 0 to -1, found 0"),
        (task(latest_end=-3), r"latest_end: expected at least 0"),
        (task(earliest_start=-3), r"earliest_start: expected at least 0"),
        (task(Demand(5)), r"demands\[0\]: resource: expected a position from 0 to 4, found 5"),
        (task(Demand(-1)), r"resource: expected a position"),
        (task(Demand(0), Demand(0)), r"demands\[1\]: 'saw' is demanded twice by one mode"),
        (task(Demand(0, 2)), r"expected amount 1 of a machine or state, found 2"),
        (task(Demand(0, state=2)), r"state: expected a position from 0 to 1, found 2"),
        (task(Demand(1, -1)), r"amount: expected at least 0"),
        (task(Demand(1, 1, 2, 2)), r"expected an end after 2, found 2"),
        (task(Demand(0, 1, 1)), r"only a renewable resource can be needed for a part of the time"),
        (task(Demand(2, 1, 0, 2)), r"only a renewable resource"),
        (Task((Mode(1, noise=Noise("odd")),)), r"unknown noise 'odd'"),  # type: ignore[arg-type]
        (Task((Mode(1, noise=Noise(spread=-1.0)),)), r"spread of at least 0"),
        (Task((Mode(1, cost=-1),)), r"cost: expected at least 0"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(tasks: Task, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        problem(tasks)


def test_two_address_blocks_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="at most one address block, found 2"):
        problem(task(Demand(0), Demand(1)), resources=(AddressRange("a", 4), AddressRange("b", 4)))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"resources": (Machine(""),)}, r"resources\[0\]: expected a name"),
        ({"resources": (Machine("a"), Renewable("a", 1))}, r"resources\[1\]: the name 'a' is taken already"),
        ({"resources": ("saw",)}, r"expected a resource, found str"),
        ({"resources": (Renewable("a", -1),)}, r"capacity: expected at least 0"),
        ({"resources": (Consumable("a", 1, ((-1, 2),)),)}, r"supplies: expected at least 0"),
        ({"resources": (AddressRange("a", -2),)}, r"size: expected at least 0"),
        ({"resources": (State("a", ()),)}, r"a state resource needs a set-up time for every pair"),
        ({"resources": (Machine("a", setup=((0, 1),)),)}, r"set-up times: expected 1 a row, found 2"),
        ({"resources": (Machine("a", setup=((0,),), initial=1),)}, r"initial state: expected a position from 0 to 0"),
        ({"resources": (Machine("a", initial=0),)}, r"initial state"),
        ({"resources": (Machine("a", setup=((-1,),)),)}, r"set-up time: expected at least 0"),
        ({"jobs": (Job(release=-1),)}, r"jobs\[0\]: release"),
        ({"jobs": (Job(due=1.5),)}, r"jobs\[0\]: due: expected a whole number"),
        ({"jobs": (Job(weight=-1),)}, r"jobs\[0\]: weight"),
        ({"precedences": (Precedence(0, 2),)}, r"precedences\[0\]: second: expected a position from 0 to 1, found 2"),
        ({"precedences": (Precedence(1, 1),)}, r"task 1 cannot precede itself"),
        ({"precedences": (Precedence(0, 1, "before"),)}, r"unknown relation 'before'"),
        ({"precedences": (Precedence(0, 1, min_lag=3, max_lag=2),)}, r"expected a max_lag of at least 3"),
        ({"precedences": (Precedence(0, 1, "start-start", blocking=True),)}, r"'end-start' only"),
        ({"precedences": (Precedence(0, 1, min_lag=-1, blocking=True),)}, r"blocking precedence needs a min_lag"),
        ({"precedences": (Precedence(0, 1, transport=True),)}, r"needs the transport times"),
        ({"transport": ((0,),)}, r"transport: expected 5 rows, found 1"),
        ({"transport": ((0,),) * 5}, r"transport\[0\]: expected 5 times, found 1"),
        ({"transport": ((0, -1, 0, 0, 0),) * 5}, r"transport\[0\]: time: expected at least 0"),
        ({"selections": (Selection("some", (0,)),)}, r"unknown rule 'some'"),
        ({"selections": (Selection("exactly-one", (0, 7)),)}, r"selections\[0\]: task: expected a position"),
        ({"selections": (Selection("exactly-one", (0,), 9),)}, r"selections\[0\]"),
        ({"same_resources": (SameResources(0, 9),)}, r"same_resources\[0\]"),
        ({"consecutive": (Consecutive(9, 0),)}, r"consecutive\[0\]"),
        ({"same_sequences": (SameSequence(0, 1, (), ()),)}, r"expected positions of machines"),
        ({"same_sequences": (SameSequence(0, 0, (0,), ()),)}, r"expected as many tasks of each machine"),
        ({"mode_dependencies": (ModeDependency(0, 1, 1, (0,)),)}, r"first_mode: expected a position from 0 to 0"),
        ({"mode_dependencies": (ModeDependency(0, 0, 1, (3,)),)}, r"second_modes: expected a position"),
        ({"objective": ()}, r"objective: expected at least one level"),
        ({"objective": ((),)}, r"objective\[0\]: expected at least one criterion"),
        ({"objective": ((Criterion("joy"),),)}, r"unknown measure 'joy'"),
        ({"objective": ((Criterion("flow", -1),),)}, r"objective\[0\]: weight"),
    ],
)
def test_parts_that_do_not_fit_are_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        problem(**more)


def test_lags_may_be_negative_and_a_range_of_them_a_point() -> None:
    assert problem(precedences=(Precedence(0, 1, "start-start", -4, -4),)).precedences[0].max_lag == -4


def test_calendars_are_checked_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="rising"):
        Calendar(((3, 0), (2, 100)))
