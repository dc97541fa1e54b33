"""A problem as the mapping that our own file holds, see `pathloom.worlds.shop.problem_file`."""

from __future__ import annotations

from typing import Any

from pathloom.schedule.problem import (
    AddressRange,
    Calendar,
    Consumable,
    Machine,
    Measure,
    Mode,
    Problem,
    Renewable,
    Resource,
    State,
    Task,
)


def file_order(problem: Problem) -> list[int]:
    """Tasks in the order in which the file lists them: those of the first job, of the next, ..., then those of none."""
    last = len(problem.jobs)
    jobs = [last if task.job is None else task.job for task in problem.tasks]
    return sorted(range(len(jobs)), key=lambda task: jobs[task])


def problem_to_dict(problem: Problem) -> dict[str, Any]:
    """A problem as a mapping that `problem_from_dict` reads; keys that say nothing new are left out.

    Tasks come in `file_order`; unnamed jobs and tasks get names, and names that are taken already a number.
    """
    jobs_taken: set[str] = set()
    names = [_untaken(job.name or f"job {number}", jobs_taken) for number, job in enumerate(problem.jobs)]
    own: dict[int | None, list[int]] = {}
    for number, found_task in enumerate(problem.tasks):
        own.setdefault(found_task.job, []).append(number)
    called: dict[int, str] = {}
    taken: set[str] = set()
    entries: dict[int | None, list[dict[str, Any]]] = {}
    for job, members in own.items():
        prefix = "" if job is None else f"{names[job]}."
        entries[job] = []
        for place, task in enumerate(members):
            title = _untaken(problem.tasks[task].name or f"task {place}", taken, prefix)
            called[task] = prefix + title
            entries[job].append({"name": title, **_task_entry(problem, problem.tasks[task])})
    jobs = [
        _kept(
            name=names[number],
            release=job.release or None,
            due=job.due,
            deadline=job.deadline,
            weight=None if job.weight == 1 else job.weight,
        )
        | {"ordered": False, "tasks": entries.get(number, [])}
        for number, job in enumerate(problem.jobs)
    ]
    resources = [resource.name for resource in problem.resources]
    levels: list[dict[Measure, int]] = []
    for level in problem.objective:
        weights: dict[Measure, int] = {}
        for criterion in level:
            weights[criterion.measure] = weights.get(criterion.measure, 0) + criterion.weight
        levels.append(weights)
    found = _kept(
        resources=[_resource_entry(resource) for resource in problem.resources] or None,
        jobs=jobs or None,
        tasks=entries.get(None),
        precedences=[
            {"first": called[link.first], "second": called[link.second]}
            | _kept(
                relation=None if link.relation == "end-start" else link.relation,
                min_lag=link.min_lag or None,
                max_lag=link.max_lag,
                transport=link.transport or None,
                blocking=link.blocking or None,
            )
            for link in problem.precedences
        ]
        or None,
        selections=[
            {"rule": s.rule, "tasks": [called[task] for task in s.tasks]}
            | _kept(condition=None if s.condition is None else called[s.condition])
            for s in problem.selections
        ]
        or None,
        same_resources=[
            {"first": called[pair.first], "second": called[pair.second], "same": pair.same}
            for pair in problem.same_resources
        ]
        or None,
        consecutive=[{"first": called[pair.first], "second": called[pair.second]} for pair in problem.consecutive]
        or None,
        same_sequences=[
            {
                "first_machine": resources[both.first_machine],
                "second_machine": resources[both.second_machine],
                "first_tasks": [called[task] for task in both.first_tasks],
                "second_tasks": [called[task] for task in both.second_tasks],
            }
            for both in problem.same_sequences
        ]
        or None,
        mode_dependencies=[
            {
                "first": called[entry.first],
                "first_mode": entry.first_mode,
                "second": called[entry.second],
                "second_modes": list(entry.second_modes),
            }
            for entry in problem.mode_dependencies
        ]
        or None,
        transport={
            origin: {goal: time for goal, time in zip(resources, row, strict=True) if time}
            for origin, row in zip(resources, problem.transport, strict=False)
        }
        or None,
        swap=None if problem.swap else False,
    )
    titles = _kept(name=problem.name or None, unit=problem.unit or None)
    return {"kind": "shop", **titles, **found, "objective": levels}


def _kept(**entries: Any) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _untaken(name: str, taken: set[str], prefix: str = "") -> str:
    """`name`, with a number if it is in `taken` with the prefix already, to which it is added."""
    title, number = name, 2
    while prefix + title in taken:
        title, number = f"{name} ({number})", number + 1
    taken.add(prefix + title)
    return title


def _resource_entry(resource: Resource) -> dict[str, Any]:
    if isinstance(resource, Machine):
        return {"name": resource.name, "kind": "machine"} | _kept(
            **_clock(resource.calendar),
            setup=[list(row) for row in resource.setup] or None,
            initial=None if resource.initial is None else str(resource.initial),
            no_idle=resource.no_idle or None,
        )
    if isinstance(resource, Renewable):
        return {"name": resource.name, "kind": "renewable", "capacity": resource.capacity, **_clock(resource.calendar)}
    if isinstance(resource, Consumable):
        supplies = [list(supply) for supply in resource.supplies]
        return {"name": resource.name, "kind": "consumable", "capacity": resource.capacity} | _kept(
            supplies=supplies or None
        )
    if isinstance(resource, AddressRange):
        return {"name": resource.name, "kind": "addresses", "capacity": resource.size}
    return {"name": resource.name, "kind": "state", "setup": [list(row) for row in resource.setup]} | _kept(
        initial=None if resource.initial is None else str(resource.initial)
    )


def _clock(calendar: Calendar) -> dict[str, Any]:
    return {"speeds": [list(change) for change in calendar.changes]} if calendar.changes else {}


def _task_entry(problem: Problem, task: Task) -> dict[str, Any]:
    modes = [_mode_entry(problem, mode) for mode in task.modes]
    return (modes[0] if len(modes) == 1 else {"modes": modes}) | _kept(
        optional=task.optional or None,
        earliest_start=task.earliest_start or None,
        latest_start=task.latest_start,
        earliest_end=task.earliest_end or None,
        latest_end=task.latest_end,
        allow_breaks=task.allow_breaks or None,
        allow_idle=task.allow_idle or None,
    )


def _mode_entry(problem: Problem, mode: Mode) -> dict[str, Any]:
    uses = []
    for demand in mode.demands:
        resource = problem.resources[demand.resource]
        stated = isinstance(resource, Machine | State) and bool(resource.setup)
        uses.append(
            {"resource": resource.name}
            | _kept(
                amount=None if demand.amount == 1 else demand.amount,
                start=demand.start or None,
                end=demand.end,
                state=str(demand.state) if stated else None,
            )
        )
    noise = None if mode.noise is None else {"kind": mode.noise.kind, "spread": mode.noise.spread}
    return {"duration": mode.duration} | _kept(uses=uses or None, cost=mode.cost or None, noise=noise)
