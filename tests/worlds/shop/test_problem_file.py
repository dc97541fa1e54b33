"""Our own file of scheduling problems: everything is said by names, and every mistake is named with its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pathloom.plan import InputError
from pathloom.schedule.check import check_schedule
from pathloom.schedule.model import Model
from pathloom.schedule.problem import AddressRange, Calendar, Demand, Job, Machine, Noise, Precedence, State
from pathloom.schedule.solve import solve
from pathloom.worlds.shop.problem_file import EXAMPLE, problem_from_dict, read_problem


def test_the_example_reads_and_can_be_solved(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(EXAMPLE)
    problem = read_problem(path)
    assert problem.name == "shop" and problem.unit == "min" and len(problem.tasks) == 6
    assert [(r.name, type(r).__name__) for r in problem.resources] == [
        ("saw", "Machine"),
        ("paint booth", "Machine"),
        ("worker", "Renewable"),
    ]
    result = solve(problem, time_limit=60, workers=1)
    assert result.optimal and check_schedule(problem, result.schedule) == []


def test_names_become_positions() -> None:
    data = yaml.safe_load("""
        kind: shop
        resources:
          - {name: booth, kind: machine, states: [white, black], setup: [[0, 4], [9, 0]], initial: black, no_idle: true}
          - {name: crew, kind: renewable, capacity: 3, speeds: [[4, 50]]}
          - {name: paint, kind: consumable, capacity: 7, supplies: [[4, 2]]}
          - {name: sram, kind: addresses, capacity: 16}
          - {name: gas, kind: state, setup: [[0, 1], [1, 0]]}
        jobs:
          - name: door
            due: 9
            link: {min_lag: 2, blocking: true}
            tasks:
              - {name: a, duration: 3, uses: [{resource: booth, state: white}, {resource: crew, amount: 2, end: 2}]}
              - {name: b, uses: sram, duration: 1, noise: {kind: uniform, spread: 0.2}}
          - {ordered: false, tasks: [{duration: 2, uses: {paint: 2}}, {duration: 2, uses: {paint: -1}, cost: 4}]}
        tasks:
          - {modes: [{duration: 1, uses: [{resource: gas, state: "1"}]}, {duration: 2}], optional: true, latest_end: 30}
        precedences: [{first: door.b, second: task 0, relation: start-end, max_lag: 9}]
        selections: [{rule: at-most-one, tasks: [task 0], condition: door.a}]
        objective: [{tardiness: 5, cost: 1}, makespan]
        transport: {booth: {crew: 3}}
        swap: false
    """)
    problem = problem_from_dict(data)
    booth, crew, paint, sram, gas = problem.resources
    assert booth == Machine("booth", Calendar(), ((0, 4), (9, 0)), 1, True)
    assert crew.calendar.changes == ((4, 50),) and paint.supplies == ((4, 2),)  # type: ignore[union-attr]
    assert sram == AddressRange("sram", 16) and gas == State("gas", ((0, 1), (1, 0)))
    assert problem.jobs == (Job("door", due=9), Job())
    assert [task.job for task in problem.tasks] == [0, 0, 1, 1, None]
    assert problem.tasks[0].modes[0].demands == (Demand(0, state=0), Demand(1, 2, 0, 2))
    assert problem.tasks[1].modes[0].noise == Noise("uniform", 0.2)
    assert [task.modes[0].demands[0].amount for task in problem.tasks[2:4]] == [2, -1]
    assert problem.tasks[4].modes[0].demands == (Demand(4, state=1),)
    assert problem.precedences == (
        Precedence(0, 1, "end-start", 2, None, False, True),
        Precedence(1, 4, "start-end", 0, 9),
    )
    assert [[c.measure for c in level] for level in problem.objective] == [["tardiness", "cost"], ["makespan"]]
    assert problem.transport[0] == (0, 3, 0, 0, 0) and not problem.swap and problem.name == "schedule"


def data(**more: Any) -> dict[str, Any]:
    return {
        "kind": "shop",
        "resources": [{"name": "saw", "kind": "machine"}, {"name": "crew", "kind": "renewable", "capacity": 2}],
        "jobs": [{"name": "door", "tasks": [{"name": "cut", "duration": 3, "uses": ["saw"]}]}],
        **more,
    }


def job(**more: Any) -> dict[str, Any]:
    return {"jobs": [{"name": "door", "tasks": [{"name": "cut", "duration": 3, **more}]}]}


def resource(**more: Any) -> dict[str, Any]:
    return {"resources": [{"name": "saw", "kind": "machine", **more}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "grid"}, "kind: expected 'shop'"),
        ({"task": []}, "task: unknown key; did you mean 'tasks'?"),
        ({"resources": 3}, "resources: expected a valid list, found 3"),
        (job(duration=-3), "jobs[0].tasks[0].duration: expected a whole number from 0"),
        (job(duration=2.5), "jobs[0].tasks[0].duration: expected a whole number from 0"),
        (job(duration="long"), "duration: expected a whole number"),
        (job(duration=10**15), "duration: expected a whole number from 0 to"),
        (job(duration=None), "jobs[0].tasks[0]: expected a duration, or a list of modes"),
        (job(modes=[{"duration": 3}]), "jobs[0].tasks[0]: expected a duration, or a list of modes"),
        (
            job(duration=None, modes=[{"duration": 3}], cost=3),
            "jobs[0].tasks[0]: with modes, uses, cost and noise belong to each of them",
        ),
        (job(uses=["swa"]), "jobs[0].tasks[0].uses[0].resource: resource 'swa' is unknown"),
        (job(uses=["swa"]), "did you mean 'saw'?"),
        (job(uses=[3]), "uses[0]: expected keys and values"),
        (job(uses=[{"resource": "saw", "state": "white"}]), "uses[0].state: state 'white' is unknown"),
        (job(uses=[{"resource": "saw", "amount": 2}]), "expected amount 1 of a machine or state, found 2"),
        (job(uses=["saw", "saw"]), "'saw' is demanded twice by one mode"),
        (job(uses=[{"resource": "saw", "start": 1}]), "only a renewable resource can be needed for a part"),
        (job(latest_end=-1), "latest_end: expected a whole number from 0"),
        (job(noise={"kind": "pink"}), "jobs[0].tasks[0].noise.kind: expected 'normal'"),
        (job(noise={"spread": -1}), "noise.spread: expected a number of at least 0"),
        ({"jobs": [{"name": "a"}, {"name": "a"}]}, "jobs[1].name: the name 'a' is taken already"),
        ({"jobs": [{"tasks": [{"name": "a", "duration": 1}] * 2}]}, "jobs[0].tasks[1].name: the task 'job 0.a'"),
        ({"tasks": [{"name": "door.cut", "duration": 1}]}, "tasks[0].name: the task 'door.cut' is there already"),
        (resource(name=""), "resources[0].name: "),
        (resource(kind="robot"), "resources[0].kind: expected 'machine', 'renewable'"),
        (resource(capacity=3), "resources[0].capacity: a machine has no such key"),
        ({"resources": [{"name": "a", "kind": "renewable"}]}, "resources[0].capacity: missing"),
        (
            {"resources": [{"name": "a", "kind": "addresses", "capacity": -4}]},
            "resources[0].capacity: expected a whole",
        ),
        (
            {"resources": [*data()["resources"], {"name": "a", "kind": "state"}]},
            "a state resource needs a set-up time for every pair",
        ),
        ({"resources": [{"name": "a", "kind": "machine"}] * 2}, "resources[1].name: the name 'a' is taken already"),
        (resource(breaks=[[3]]), "resources[0].breaks: expected a list of [number, number]"),
        (resource(breaks=[[3, 3]]), "resources[0]: break [3, 3): expected an end after its start"),
        (resource(breaks=[[1, 3]], speeds=[[4, 50]]), "resources[0]: expected breaks or speeds, not both"),
        (resource(speeds=[[4, -50]]), "resources[0]: changes[0]: expected a speed of at least 0"),
        (resource(setup=[[0, 1]]), "resources[0].setup: expected a square table of times"),
        (resource(setup=[[0]], states=["a", "b"]), "resources[0].setup: expected 2 rows"),
        (resource(setup=[[0]], initial="5"), "resources[0].initial: state '5' is unknown"),
        ({"precedences": [{"first": "door.cut"}]}, "precedences[0].second: missing"),
        ({"precedences": [{"first": "door.cut", "second": "door.cot"}]}, "precedences[0].second: task 'door.cot' is"),
        ({"precedences": [{"first": "door.cut", "second": "door.cut"}]}, "cut cannot precede itself"),
        ({"selections": [{"rule": "two", "tasks": []}]}, "selections[0].rule: expected 'all-or-none'"),
        ({"selections": [{"rule": "exactly-one", "tasks": ["x"]}]}, "selections[0].tasks[0]: task 'x' is unknown"),
        ({"objective": "speed"}, "objective: unknown measure 'speed', expected one of makespan"),
        ({"objective": {"flow": -1}}, "objective: flow: expected a whole number of at least 0"),
        ({"objective": []}, "objective: expected at least one level"),
        ({"objective": [[]]}, "objective: expected a measure, measures with weights"),
        ({"transport": {"saw": {"van": 3}}}, "transport.saw: resource 'van' is unknown"),
        ({"transport": {"saw": {"crew": -3}}}, "transport.saw.crew: expected a whole number from 0"),
        (
            {
                "same_sequences": [
                    dict.fromkeys(("first_machine", "second_machine"), "crew") | {"first_tasks": [], "second_tasks": []}
                ]
            },
            "positions of machines",
        ),
    ],
)
def test_mistakes_are_named_with_their_key(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        problem_from_dict(data(**change), "shop.yaml")
    assert str(caught.value).startswith("shop.yaml: ") and said in str(caught.value)


def test_text_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("kind: shop\njobs: [\n")
    with pytest.raises(InputError, match=r"shop.yaml: line \d: is no valid YAML"):
        read_problem(path)
    path.write_text("kind: shop\nkind: shop\n")
    with pytest.raises(InputError, match="key 'kind' is given twice"):
        read_problem(path)


def test_files_and_the_builder_agree() -> None:
    model = Model("schedule")
    saw, crew = model.machine("saw"), model.renewable("crew", 2)
    door = model.job("door")
    model.task(3, [saw], job=door, name="cut")
    assert problem_from_dict(data()) == model.problem()
    assert crew.position == 1
