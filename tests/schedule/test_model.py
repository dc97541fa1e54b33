"""The builder makes the problem that was meant."""

from __future__ import annotations

import pytest

from pathloom.schedule.check import check_schedule
from pathloom.schedule.model import Model
from pathloom.schedule.problem import (
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
from pathloom.schedule.solve import solve


def test_a_shop_in_a_few_lines() -> None:
    model = Model("two jobs", "min")
    saw, lathe = model.machine("saw"), model.machine("lathe")
    for name, cut, turn in (("shaft", 3, 5), ("flange", 4, 2)):
        job = model.job(name, due=9)
        model.chain(model.task(cut, saw, job=job), model.task(turn, lathe, job=job))
    assert model.problem() == Problem(
        tuple(
            Task((Mode(duration, (Demand(machine),)),), job)
            for job, machine, duration in ((0, 0, 3), (0, 1, 5), (1, 0, 4), (1, 1, 2))
        ),
        (Machine("saw"), Machine("lathe")),
        (Job("shaft", due=9), Job("flange", due=9)),
        (Precedence(0, 1), Precedence(2, 3)),
        name="two jobs",
        unit="min",
    )
    assert solve(model.problem(), time_limit=5, workers=1).values == (10,), "Johnson: shaft first"


def test_all_parts_of_a_problem_can_be_built() -> None:
    model = Model()
    booth = model.machine("booth", breaks=[(3, 5)], setup=[[0, 2], [1, 0]], initial=1, no_idle=True)
    crew = model.renewable("crew", 3, calendar=Calendar(((4, 50),)))
    paint = model.consumable("paint", 7, [(4, 2)])
    sram = model.address_range("sram", 16)
    gas = model.state("gas", [[0, 1], [1, 0]], 0)
    job = model.job("door", release=1, due=9, deadline=30, weight=2)
    first = model.task(4, [booth, (crew, 2), Demand(gas.position, state=1)], job=job, name="spray", cost=5)
    second = model.task(alternatives={booth: 3, crew: 6}, optional=True, noise=Noise(spread=0.3))
    third = model.task(alternatives=[(2, (paint, 1)), (3, [sram])], latest_end=40)
    assert model.mode(third, 9, cost=4) == 2
    model.precede(first, second, relation="start-start", min_lag=1, max_lag=6)
    model.chain(second, third, transport=True, blocking=True)
    model.chain(first, third, no_wait=True)
    model.travel(booth, crew, 3)
    model.travel(booth, sram, 2, both_ways=False)
    model.select("at-most-one", second, condition=first)
    model.same_resources(first, second, same=False)
    model.consecutive(first, second)
    model.same_sequence(booth, booth, [first], [second])
    model.mode_dependency(second, 1, third, [0, 2])
    model.minimise(tardiness=5, setup_time=1)
    model.minimise(max_tardiness=1)
    model.swap = False
    found = model.problem()
    assert found.resources == (
        Machine("booth", Calendar.with_breaks([(3, 5)]), ((0, 2), (1, 0)), 1, True),
        Renewable("crew", 3, Calendar(((4, 50),))),
        Consumable("paint", 7, ((4, 2),)),
        found.resources[3],
        State("gas", ((0, 1), (1, 0)), 0),
    )
    assert found.jobs == (Job("door", 1, 9, 30, 2),)
    assert found.tasks == (
        Task((Mode(4, (Demand(0), Demand(1, 2), Demand(4, state=1)), 5),), 0, "spray"),
        Task((Mode(3, (Demand(0),), 0, Noise(spread=0.3)), Mode(6, (Demand(1),), 0, Noise(spread=0.3))), optional=True),
        Task((Mode(2, (Demand(2),)), Mode(3, (Demand(3),)), Mode(9, (), 4)), latest_end=40),
    )
    assert found.precedences == (
        Precedence(0, 1, "start-start", 1, 6),
        Precedence(1, 2, transport=True, blocking=True),
        Precedence(0, 2, max_lag=0),
    )
    assert found.transport == ((0, 3, 0, 2, 0), (3, 0, 0, 0, 0), (0,) * 5, (0,) * 5, (0,) * 5)
    assert found.selections == (Selection("at-most-one", (1,), 0),)
    assert (found.same_resources, found.consecutive) == ((SameResources(0, 1, False),), (Consecutive(0, 1),))
    assert found.same_sequences == (SameSequence(0, 0, (0,), (1,)),)
    assert found.mode_dependencies == (ModeDependency(1, 1, 2, (0, 2)),)
    assert found.objective == (
        (Criterion("tardiness", 5), Criterion("setup-time")),
        (Criterion("max-tardiness"),),
    )
    assert not found.swap


def test_names_and_the_objective_may_be_left_out() -> None:
    model = Model()
    for make in (model.machine, model.renewable, model.consumable, model.address_range):
        make()
    found = model.problem()
    assert [resource.name for resource in found.resources] == ["machine 0", "resource 1", "stock 2", "range 3"]
    assert found.objective == ((Criterion("makespan"),),) and found.transport == ()


def test_a_periodic_task_runs_once_in_each_period() -> None:
    model = Model()
    bus = model.machine("bus")
    made = model.periodic(10, 3, 4, bus, offset=2, name="frame")
    model.task(7, bus)
    problem = model.problem()
    assert [problem.task_name(task.position) for task in made] == ["frame 0", "frame 1", "frame 2"]
    assert [(job.release, job.deadline) for job in problem.jobs] == [(2, 12), (12, 22), (22, 32)]
    result = solve(problem, time_limit=5, workers=1)
    assert check_schedule(problem, result.schedule) == []
    start = result.schedule.start[:3]
    assert all(2 + 10 * i <= start[i] <= 8 + 10 * i for i in range(3)) and result.values == (26,)


def test_mistakes_are_said_at_once() -> None:
    model = Model()
    saw = model.machine("saw")
    with pytest.raises(ValueError, match="expected a duration, or alternatives"):
        model.task()
    with pytest.raises(ValueError, match="expected a duration, or alternatives"):
        model.task(3, alternatives={saw: 3})
    with pytest.raises(ValueError, match="breaks or a calendar, not both"):
        model.machine(breaks=[(1, 2)], calendar=Calendar(((1, 50),)))
    with pytest.raises(ValueError, match="unknown measure 'speed', expected one of makespan"):
        model.minimise(speed=1)
