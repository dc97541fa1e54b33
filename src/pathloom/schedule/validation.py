"""What a `Problem` must keep to make sense: whole numbers in range, positions that exist, flags that fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pathloom.schedule.problem import (
    LATEST,
    MEASURES,
    NOISE_KINDS,
    RELATIONS,
    SELECTION_RULES,
    AddressRange,
    Consumable,
    Demand,
    Machine,
    Mode,
    Precedence,
    Renewable,
    State,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pathloom.schedule.problem import Problem


def validate(problem: Problem) -> None:
    """Raise ``ValueError`` naming the first part that is wrong and what was expected."""
    names: set[str] = set()
    for position, resource in enumerate(problem.resources):
        where = f"resources[{position}]"
        _resource(where, resource)
        _expect(bool(resource.name), where, "expected a name")
        _expect(resource.name not in names, where, f"the name '{resource.name}' is taken already")
        names.add(resource.name)
    for position, job in enumerate(problem.jobs):
        where = f"jobs[{position}]"
        _whole(where, "release", job.release)
        _whole(where, "weight", job.weight)
        for name in ("due", "deadline"):
            if getattr(job, name) is not None:
                _whole(where, name, getattr(job, name))
    for position, task in enumerate(problem.tasks):
        _task(problem, f"tasks[{position}]", task)
    for position, precedence in enumerate(problem.precedences):
        _precedence(problem, f"precedences[{position}]", precedence)
    _further(problem)
    _transport(problem)
    _expect(bool(problem.objective), "objective", "expected at least one level")
    for number, level in enumerate(problem.objective):
        _expect(bool(level), f"objective[{number}]", "expected at least one criterion")
        for criterion in level:
            _expect(criterion.measure in MEASURES, f"objective[{number}]", f"unknown measure '{criterion.measure}'")
            _whole(f"objective[{number}]", "weight", criterion.weight)


def _resource(where: str, resource: object) -> None:
    match resource:
        case Machine():
            _setup(where, resource.setup, resource.initial)
        case Renewable():
            _whole(where, "capacity", resource.capacity)
        case Consumable():
            _whole(where, "capacity", resource.capacity)
            for time, amount in resource.supplies:
                _whole(where, "supplies", time)
                _whole(where, "supplies", amount)
        case AddressRange():
            _whole(where, "size", resource.size)
        case State():
            _expect(bool(resource.setup), where, "a state resource needs a set-up time for every pair of states")
            _setup(where, resource.setup, resource.initial)
        case _:
            raise ValueError(f"{where}: expected a resource, found {type(resource).__name__}")


def _setup(where: str, setup: tuple[tuple[int, ...], ...], initial: int | None) -> None:
    for row in setup:
        _expect(len(row) == len(setup), where, f"set-up times: expected {len(setup)} a row, found {len(row)}")
        for time in row:
            _whole(where, "set-up time", time)
    if initial is not None:
        _position(where, "initial state", initial, len(setup))


def _task(problem: Problem, where: str, task: Task) -> None:
    _expect(bool(task.modes), where, "expected at least one mode")
    if task.job is not None:
        _position(where, "job", task.job, len(problem.jobs))
    for name in ("earliest_start", "earliest_end"):
        _whole(where, name, getattr(task, name))
    for name in ("latest_start", "latest_end"):
        if getattr(task, name) is not None:
            _whole(where, name, getattr(task, name))
    for position, mode in enumerate(task.modes):
        _mode(problem, f"{where}.modes[{position}]", mode)


def _mode(problem: Problem, where: str, mode: Mode) -> None:
    _whole(where, "duration", mode.duration)
    _whole(where, "cost", mode.cost)
    if mode.noise is not None:
        _expect(mode.noise.kind in NOISE_KINDS, where, f"unknown noise '{mode.noise.kind}'")
        _expect(mode.noise.spread >= 0, where, f"expected a spread of at least 0, found {mode.noise.spread}")
    once: set[int] = set()
    for position, demand in enumerate(mode.demands):
        at = f"{where}.demands[{position}]"
        _position(at, "resource", demand.resource, len(problem.resources))
        resource = problem.resources[demand.resource]
        if not isinstance(resource, Renewable):
            _expect(demand.resource not in once, at, f"'{resource.name}' is demanded twice by one mode")
            once.add(demand.resource)
        _demand(at, demand, resource)
    ranges = sum(isinstance(problem.resources[demand.resource], AddressRange) for demand in mode.demands)
    _expect(ranges <= 1, where, f"expected at most one address block, found {ranges}")


def _demand(where: str, demand: Demand, resource: object) -> None:
    least = 1 - LATEST if isinstance(resource, Consumable) else 0
    _whole(where, "amount", demand.amount, least)
    _whole(where, "start", demand.start)
    if demand.end is not None:
        _whole(where, "end", demand.end)
        _expect(demand.start < demand.end, where, f"expected an end after {demand.start}, found {demand.end}")
    if not isinstance(resource, Renewable):
        whole = demand.start == 0 and demand.end is None
        _expect(whole, where, "only a renewable resource can be needed for a part of the time")
    if isinstance(resource, Machine | State):
        _expect(demand.amount == 1, where, f"expected amount 1 of a machine or state, found {demand.amount}")
        _position(where, "state", demand.state, max(1, len(resource.setup)))


def _precedence(problem: Problem, where: str, link: Precedence) -> None:
    for name in ("first", "second"):
        _position(where, name, getattr(link, name), len(problem.tasks))
    _expect(link.first != link.second, where, f"{problem.task_name(link.first)} cannot precede itself")
    _expect(link.relation in RELATIONS, where, f"unknown relation '{link.relation}'")
    _whole(where, "min_lag", link.min_lag, 1 - LATEST)
    if link.max_lag is not None:
        _whole(where, "max_lag", link.max_lag, 1 - LATEST)
        _expect(link.min_lag <= link.max_lag, where, f"expected a max_lag of at least {link.min_lag}")
    if link.transport or link.blocking:
        _expect(link.relation == "end-start", where, "transport and blocking are for the relation 'end-start' only")
        _expect(not link.blocking or link.min_lag >= 0, where, "a blocking precedence needs a min_lag of at least 0")
    if link.transport:
        _expect(bool(problem.transport), where, "needs the transport times of the problem")


def _further(problem: Problem) -> None:
    count = len(problem.tasks)

    def tasks(where: str, positions: Iterable[int]) -> None:
        for task in positions:
            _position(where, "task", task, count)

    for number, selection in enumerate(problem.selections):
        where = f"selections[{number}]"
        _expect(selection.rule in SELECTION_RULES, where, f"unknown rule '{selection.rule}'")
        tasks(where, selection.tasks)
        if selection.condition is not None:
            tasks(where, (selection.condition,))
    for number, pair in enumerate(problem.same_resources):
        tasks(f"same_resources[{number}]", (pair.first, pair.second))
    for number, following in enumerate(problem.consecutive):
        tasks(f"consecutive[{number}]", (following.first, following.second))
    for number, both in enumerate(problem.same_sequences):
        where = f"same_sequences[{number}]"
        for machine in (both.first_machine, both.second_machine):
            _position(where, "machine", machine, len(problem.resources))
            _expect(isinstance(problem.resources[machine], Machine), where, "expected positions of machines")
        tasks(where, both.first_tasks + both.second_tasks)
        _expect(len(both.first_tasks) == len(both.second_tasks), where, "expected as many tasks of each machine")
    for number, dependency in enumerate(problem.mode_dependencies):
        where = f"mode_dependencies[{number}]"
        tasks(where, (dependency.first, dependency.second))
        _position(where, "first_mode", dependency.first_mode, len(problem.tasks[dependency.first].modes))
        for mode in dependency.second_modes:
            _position(where, "second_modes", mode, len(problem.tasks[dependency.second].modes))


def _transport(problem: Problem) -> None:
    if not problem.transport:
        return
    count = len(problem.resources)
    _expect(len(problem.transport) == count, "transport", f"expected {count} rows, found {len(problem.transport)}")
    for number, row in enumerate(problem.transport):
        _expect(len(row) == count, f"transport[{number}]", f"expected {count} times, found {len(row)}")
        for time in row:
            _whole(f"transport[{number}]", "time", time)


def _expect(holds: bool, where: str, message: str) -> None:
    if not holds:
        raise ValueError(f"{where}: {message}")


def _whole(where: str, name: str, value: object, least: int = 0) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}: {name}: expected a whole number, found {value!r}")
    if not least <= value < LATEST:
        raise ValueError(f"{where}: {name}: expected at least {least} and less than 2^40, found {value}")


def _position(where: str, name: str, value: int, count: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < count:
        raise ValueError(f"{where}: {name}: expected a position from 0 to {count - 1}, found {value!r}")
