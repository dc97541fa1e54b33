"""What is written of a problem is read back as the same problem."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_problems import problems

from pathloom.schedule.drawn_schedules import draw_draft
from pathloom.schedule.model import Model
from pathloom.schedule.problem import Criterion, Job, Mode, Problem, Task
from pathloom.schedule.schedule import Schedule
from pathloom.worlds.shop.problem_file import problem_from_dict
from pathloom.worlds.shop.problem_writing import file_order, problem_to_dict


def reordered(problem: Problem) -> Problem:
    """The problem with its tasks in the order of the file and all names given."""
    order = file_order(problem)
    place = {task: position for position, task in enumerate(order)}

    def moved(entry: object, *fields: str) -> object:
        found = {name: getattr(entry, name) for name in fields}
        return replace(
            entry,  # type: ignore[type-var]
            **{
                name: None if v is None else place[v] if isinstance(v, int) else tuple(place[t] for t in v)
                for name, v in found.items()
            },
        )

    again = problem_from_dict(problem_to_dict(problem))
    tasks = [replace(problem.tasks[old], name=again.tasks[new].name) for new, old in enumerate(order)]
    both = ("first", "second")
    return replace(
        problem,
        tasks=tuple(tasks),
        jobs=tuple(replace(job, name=named.name) for job, named in zip(problem.jobs, again.jobs, strict=True)),
        precedences=tuple(moved(e, *both) for e in problem.precedences),
        selections=tuple(moved(e, "tasks", "condition") for e in problem.selections),
        same_resources=tuple(moved(e, *both) for e in problem.same_resources),
        consecutive=tuple(moved(e, *both) for e in problem.consecutive),
        same_sequences=tuple(moved(e, "first_tasks", "second_tasks") for e in problem.same_sequences),
        mode_dependencies=tuple(moved(e, *both) for e in problem.mode_dependencies),
    )


def one_weight_a_measure(problem: Problem) -> Problem:
    levels = []
    for level in problem.objective:
        weights: dict = {}
        for criterion in level:
            weights[criterion.measure] = weights.get(criterion.measure, 0) + criterion.weight
        levels.append(tuple(Criterion(measure, weight) for measure, weight in weights.items()))
    return replace(problem, objective=tuple(levels))


@given(problems())
@settings(max_examples=60, deadline=None)
def test_random_problems_come_back(problem: Problem) -> None:
    text = json.dumps(problem_to_dict(problem))
    again = problem_from_dict(json.loads(text))
    assert again == one_weight_a_measure(reordered(problem))
    assert problem_from_dict(yaml.safe_load(text)) == again, "JSON is YAML"
    assert problem_to_dict(again) == json.loads(text)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_problems_with_everything_come_back(seed: int) -> None:
    problem = draw_draft(np.random.default_rng(seed), 3).problem()
    assert problem_from_dict(json.loads(json.dumps(problem_to_dict(problem)))) == reordered(problem)


def test_names_that_are_taken_get_a_number() -> None:
    one = (Mode(1),)
    tasks = (Task(one, 0, "a.b"), Task(one, 1, "b"), Task(one, 0, "a.b"), Task(one, None, "x.a.b"), Task(one))
    problem = Problem(tasks, jobs=(Job("x"), Job("x.a"), Job("x")), name="", unit="")
    again = problem_from_dict(problem_to_dict(problem))
    assert len(again.tasks) == 5 and [job.name for job in again.jobs] == ["x", "x.a", "x (2)"]
    assert [task.job for task in again.tasks] == [0, 0, 1, None, None]
    assert problem_from_dict(problem_to_dict(again)) == again


def test_tasks_of_mixed_jobs_are_listed_job_by_job() -> None:
    model = Model()
    jobs = [model.job() for _ in "ab"]
    for number in range(6):
        model.task(number, job=(*jobs, None)[number % 3])
    problem = model.problem()
    assert file_order(problem) == [0, 3, 1, 4, 2, 5]
    again = problem_from_dict(problem_to_dict(problem))
    assert [task.modes[0].duration for task in again.tasks] == [0, 3, 1, 4, 2, 5]
    assert Schedule.of(np.zeros(6), np.zeros(6)).mode.tolist() == [0] * 6
