"""Shops and projects stated as general problems."""

from __future__ import annotations

from pathloom.schedule.model import Model
from pathloom.schedule.problem import Problem
from pathloom.schedule.shops import FlexibleShop, JobShop, Project


def stated_shop(shop: JobShop) -> Problem:
    model = Model()
    machines = [model.machine() for _ in range(shop.machines)]
    for j in range(shop.jobs):
        job = model.job(release=int(shop.release[j]))
        span = range(shop.job_start[j], shop.job_start[j + 1])
        model.chain(
            *(model.task(int(shop.duration[o]), machines[shop.machine[o]], job=job) for o in span),
            blocking=shop.blocking,
            no_wait=shop.no_wait,
        )
    model.swap = shop.swap
    return model.problem()


def stated_flexible_shop(shop: FlexibleShop) -> Problem:
    model = Model()
    machines = [model.machine() for _ in range(shop.machines)]
    for j in range(shop.jobs):
        job = model.job(release=int(shop.release[j]))
        tasks = []
        for o in range(shop.job_start[j], shop.job_start[j + 1]):
            span = range(shop.alternative_start[o], shop.alternative_start[o + 1])
            choices = [(int(shop.alternative_duration[a]), machines[shop.alternative_machine[a]]) for a in span]
            tasks.append(model.task(alternatives=choices, job=job))
        model.chain(*tasks)
    return model.problem()


def stated_project(project: Project) -> Problem:
    model = Model()
    resources = [model.renewable(capacity=int(c)) for c in project.renewable_capacity]
    stocks = [model.consumable(capacity=int(c)) for c in project.consumable_capacity]
    tasks = []
    for activity in range(project.activities):
        choices = [
            (
                int(project.mode_duration[mode]),
                [(r, int(a)) for r, a in zip(resources, project.renewable[mode], strict=True)]
                + [(s, int(a)) for s, a in zip(stocks, project.consumable[mode], strict=True)],
            )
            for mode in range(project.mode_start[activity], project.mode_start[activity + 1])
        ]
        tasks.append(model.task(alternatives=choices, earliest_start=int(project.release[activity])))
    for activity, task in enumerate(tasks):
        for after in project.successor[project.successor_start[activity] : project.successor_start[activity + 1]]:
            model.precede(task, tasks[after])
    return model.problem()
