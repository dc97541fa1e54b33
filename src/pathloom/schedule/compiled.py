"""A `Problem` as flat arrays, which kernels and vectorised code work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.problem import (
    LATEST,
    RELATIONS,
    AddressRange,
    Consumable,
    Machine,
    Problem,
    Renewable,
    State,
)

Ints = NDArray[np.int64]
Positions = NDArray[np.int32]
Flags = NDArray[np.bool_]
RESOURCE_KINDS = (Machine, Renewable, Consumable, AddressRange, State)
NO_DATE = -1
WHOLE = -1


@dataclass(frozen=True, eq=False)
class Compiled:
    """Columns of a problem; CSR rows are ``start[i]:start[i + 1]``.

    Attributes
    ----------
    job, optional, earliest_start, latest_start, earliest_end, latest_end
        Shape (tasks,): job or -1, and windows in which release and deadline of the job have been taken in; no limit is
        `pathloom.schedule.problem.LATEST`.
    allow_breaks, allow_idle
        Shape (tasks,).
    mode_start, mode_task, mode_duration, mode_cost
        CSR of the modes: shapes (tasks + 1,) and (modes,).
    demand_start, demand_mode, demand_resource, demand_amount, demand_from, demand_until, demand_state
        CSR of the demands: shapes (modes + 1,) and (demands,); `demand_until` is -1 for "to the end".
    first, second, relation, min_lag, max_lag, transported, blocking
        Shape (precedences,); `relation` is a position in `RELATIONS`, no `max_lag` is `LATEST`.
    job_release, job_due, job_deadline, job_weight
        Shape (jobs,); no date is -1.
    resource_kind, capacity
        Shape (resources,): position in `RESOURCE_KINDS`; capacity, size, or 1.
    has_setups
        Whether a machine has set-up times.
    """

    job: Positions
    optional: Flags
    earliest_start: Ints
    latest_start: Ints
    earliest_end: Ints
    latest_end: Ints
    allow_breaks: Flags
    allow_idle: Flags
    mode_start: Positions
    mode_task: Positions
    mode_duration: Ints
    mode_cost: Ints
    demand_start: Positions
    demand_mode: Positions
    demand_resource: Positions
    demand_amount: Ints
    demand_from: Ints
    demand_until: Ints
    demand_state: Positions
    first: Positions
    second: Positions
    relation: Positions
    min_lag: Ints
    max_lag: Ints
    transported: Flags
    blocking: Flags
    job_release: Ints
    job_due: Ints
    job_deadline: Ints
    job_weight: Ints
    resource_kind: Positions
    capacity: Ints
    has_setups: bool


def compile_problem(problem: Problem) -> Compiled:
    """Flatten a problem."""
    tasks = problem.tasks
    modes = [(number, mode) for number, task in enumerate(tasks) for mode in task.modes]
    demands = [(number, demand) for number, (_, mode) in enumerate(modes) for demand in mode.demands]
    jobs, links = problem.jobs, problem.precedences

    def ints(values: Any) -> Ints:
        return np.array(list(values), dtype=np.int64).reshape(-1)

    def positions(values: Any) -> Positions:
        return np.array(list(values), dtype=np.int32).reshape(-1)

    def flags(values: Any) -> Flags:
        return np.array(list(values), dtype=np.bool_).reshape(-1)

    def limit(value: int | None) -> int:
        return LATEST if value is None else value

    def date(value: int | None) -> int:
        return NO_DATE if value is None else value

    release = [0 if task.job is None else jobs[task.job].release for task in tasks]
    deadline = [LATEST if task.job is None else limit(jobs[task.job].deadline) for task in tasks]
    return Compiled(
        job=positions(-1 if task.job is None else task.job for task in tasks),
        optional=flags(task.optional for task in tasks),
        earliest_start=ints(max(task.earliest_start, least) for task, least in zip(tasks, release, strict=True)),
        latest_start=ints(limit(task.latest_start) for task in tasks),
        earliest_end=ints(task.earliest_end for task in tasks),
        latest_end=ints(min(limit(task.latest_end), most) for task, most in zip(tasks, deadline, strict=True)),
        allow_breaks=flags(task.allow_breaks for task in tasks),
        allow_idle=flags(task.allow_idle for task in tasks),
        mode_start=_starts([len(task.modes) for task in tasks]),
        mode_task=positions(number for number, _ in modes),
        mode_duration=ints(mode.duration for _, mode in modes),
        mode_cost=ints(mode.cost for _, mode in modes),
        demand_start=_starts([len(mode.demands) for _, mode in modes]),
        demand_mode=positions(number for number, _ in demands),
        demand_resource=positions(demand.resource for _, demand in demands),
        demand_amount=ints(demand.amount for _, demand in demands),
        demand_from=ints(demand.start for _, demand in demands),
        demand_until=ints(WHOLE if demand.end is None else demand.end for _, demand in demands),
        demand_state=positions(demand.state for _, demand in demands),
        first=positions(link.first for link in links),
        second=positions(link.second for link in links),
        relation=positions(RELATIONS.index(link.relation) for link in links),
        min_lag=ints(link.min_lag for link in links),
        max_lag=ints(limit(link.max_lag) for link in links),
        transported=flags(link.transport for link in links),
        blocking=flags(link.blocking for link in links),
        job_release=ints(job.release for job in jobs),
        job_due=ints(date(job.due) for job in jobs),
        job_deadline=ints(date(job.deadline) for job in jobs),
        job_weight=ints(job.weight for job in jobs),
        resource_kind=positions(RESOURCE_KINDS.index(type(resource)) for resource in problem.resources),
        capacity=ints(_capacity(resource) for resource in problem.resources),
        has_setups=any(isinstance(resource, Machine) and bool(resource.setup) for resource in problem.resources),
    )


def _starts(counts: list[int]) -> Positions:
    return np.concatenate(([0], np.cumsum(np.array(counts, dtype=np.int64)))).astype(np.int32)


def _capacity(resource: object) -> int:
    if isinstance(resource, AddressRange):
        return resource.size
    return resource.capacity if isinstance(resource, Renewable | Consumable) else 1
