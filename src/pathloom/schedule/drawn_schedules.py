"""Random feasible schedules of random problems with constraints of every kind, to try the checker on.

A schedule is drawn first, and a problem around it: lags, windows, capacities and so on are what the schedule just
keeps, often with nothing to spare. Nothing here is shared with the checker or with what solves problems.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pathloom.schedule.problem import (
    FULL_SPEED,
    RELATIONS,
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
    Precedence,
    Problem,
    Renewable,
    Resource,
    SameResources,
    SameSequence,
    Selection,
    State,
    Task,
)
from pathloom.schedule.schedule import Schedule

COLUMNS = ("start", "end", "mode", "departure", "address")


class Draft:
    """A problem and a schedule of it in the making.

    Attributes
    ----------
    parts
        Lists of the further parts of the problem, by the name of its field.
    moves
        Transport times by pair of resources.
    columns
        Lists of the schedule's columns.
    """

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.resources: list[Resource] = []
        self.jobs: list[Job] = []
        self.parts: dict[str, list[Any]] = {
            name: []
            for name in (
                *("precedences", "selections", "same_resources", "consecutive", "same_sequences"),
                "mode_dependencies",
            )
        }
        self.moves: dict[tuple[int, int], int] = {}
        self.columns: dict[str, list[int]] = {name: [] for name in COLUMNS}
        self.swap = True

    def resource(self, resource: Resource) -> int:
        """Add a resource; its position."""
        self.resources.append(resource)
        return len(self.resources) - 1

    def name(self, kind: str) -> str:
        """A name that no resource has yet."""
        return f"{kind} {len(self.resources)}"

    def job(self, **fields: Any) -> int:
        """Add a job; its position."""
        self.jobs.append(Job(f"job {len(self.jobs)}", **fields))
        return len(self.jobs) - 1

    def task(
        self,
        start: int,
        duration: int,
        *demands: Demand,
        modes: tuple[Mode, ...] = (),
        mode: int = 0,
        end: int | None = None,
        departure: int | None = None,
        address: int = -1,
        present: bool = True,
        **fields: Any,
    ) -> int:
        """Add a task, with one mode of that duration and these demands if no modes are given; its position."""
        self.tasks.append(Task(modes or (Mode(duration, demands),), name=f"task {len(self.tasks)}", **fields))
        finish = start + duration if end is None else end
        row = (start, finish, mode, finish if departure is None else departure, address)
        for name, value in zip(COLUMNS, row if present else (0, 0, -1, 0, -1), strict=True):
            self.columns[name].append(value)
        return len(self.tasks) - 1

    def add(self, name: str, part: Any) -> None:
        """Add a part of the problem to the field of that name."""
        self.parts[name].append(part)

    def problem(self) -> Problem:
        """The problem."""
        count = len(self.resources)
        moves = tuple(tuple(self.moves.get((a, b), 0) for b in range(count)) for a in range(count))
        objective = (
            (Criterion("makespan"), Criterion("tardiness", 2), Criterion("setup-time")),
            (Criterion("flow"), Criterion("max-tardiness", 3), Criterion("tardy-jobs")),
            (Criterion("earliness"), Criterion("cost")),
        )
        parts: dict[str, Any] = {name: tuple(values) for name, values in self.parts.items()}
        return Problem(
            tuple(self.tasks),
            tuple(self.resources),
            tuple(self.jobs),
            transport=moves if self.moves else (),
            objective=objective,
            swap=self.swap,
            **parts,
        )

    def schedule(self) -> Schedule:
        """The schedule."""
        return schedule_of(self.columns)


def schedule_of(columns: dict[str, list[int]]) -> Schedule:
    """The schedule with these columns."""
    start, end, mode, departure, address = (np.array(columns[name], np.int64) for name in COLUMNS)
    return Schedule(start, end, mode.astype(np.int32), departure, address)


def end_of_work(calendar: Calendar, start: int, duration: int) -> int:
    """When a task ends that starts then, unit of time by unit of time."""
    time, done = start, 0
    while done < FULL_SPEED * duration:
        speed = FULL_SPEED
        for change, new in calendar.changes:
            if change <= time:
                speed = new
        done += speed
        time += 1
    return time


def random_setups(rng: np.random.Generator, states: int, most: int = 5) -> tuple[tuple[int, ...], ...]:
    """Set-up times that no detour shortens."""
    times = rng.integers(1, most + 1, (states, states)) + most  # any two of them are longer than any one
    np.fill_diagonal(times, 0)
    return tuple(tuple(int(time) for time in row) for row in times)


def draw_draft(rng: np.random.Generator, size: int = 4) -> Draft:
    """A feasible schedule in which every kind of constraint occurs, about `size` tasks of each kind; nothing if 0."""
    draft = Draft()
    if not size:
        return draft
    sequences = [_machine(draft, rng, size) for _ in range(2)]
    _calendar(draft, rng, size)
    _renewable(draft, rng, size)
    _stock(draft, rng, size)
    _addresses(draft, rng, size)
    _states(draft, rng, size)
    _blocked_chain(draft, rng, size)
    _choices(draft, rng)
    _windows(draft, rng)
    for first, second in zip(sequences[0], sequences[0][1:], strict=False):
        if rng.random() < 0.5:
            draft.add("consecutive", Consecutive(first, second))
    machines = [draft.tasks[row[0]].modes[0].demands[0].resource for row in sequences]
    draft.add("same_sequences", SameSequence(machines[0], machines[1], tuple(sequences[0]), tuple(sequences[1])))
    _lags(draft, rng, size)
    return draft


def _machine(draft: Draft, rng: np.random.Generator, size: int) -> list[int]:
    """Tasks of one machine, with set-ups, in their order."""
    states, no_idle = int(rng.integers(1, 4)), bool(rng.random() < 0.5)
    setup = random_setups(rng, states)
    state = int(rng.integers(states))
    machine = draft.resource(Machine(draft.name("machine"), setup=setup, initial=state, no_idle=no_idle))
    time, tasks = 0, []
    for number in range(size):
        needed = int(rng.integers(states))
        time += setup[state][needed] + (0 if no_idle and number else int(rng.integers(0, 4)))
        duration = int(rng.integers(1, 6))
        idle = int(rng.integers(0, 3)) if rng.random() < 0.3 else 0
        end = time + duration + idle
        tasks.append(draft.task(time, duration, Demand(machine, state=needed), end=end, allow_idle=idle > 0))
        time, state = end, needed
    return tasks


def _calendar(draft: Draft, rng: np.random.Generator, size: int) -> None:
    """Tasks under one or two calendars, some interrupted by breaks."""
    calendars = []
    for _ in range(2):
        times = np.sort(rng.choice(np.arange(1, 60), 6, replace=False))
        calendars.append(Calendar(tuple((int(t), int(rng.choice([0, 30, 50, 100, 170]))) for t in times[:-1])))
        calendars[-1] = Calendar((*calendars[-1].changes, (int(times[-1]), FULL_SPEED)))
    machine = draft.resource(Machine(draft.name("machine"), calendars[0]))
    crew = draft.resource(Renewable(draft.name("crew"), 1, calendars[1]))
    both = Calendar(
        tuple(
            (time, min(_speed(calendar, time) for calendar in calendars))
            for time in sorted({time for calendar in calendars for time, _ in calendar.changes})
        )
    )
    time = 0
    for _ in range(size):
        time += int(rng.integers(0, 5))
        together = bool(rng.random() < 0.5)
        calendar, duration = both if together else calendars[0], int(rng.integers(0, 7))
        demands = (Demand(machine), Demand(crew))[: 2 if together else 1]
        end = end_of_work(calendar, time, duration)
        interrupted = any(low < end and time < high for low, high in calendar.breaks)
        draft.task(time, duration, *demands, end=end, allow_breaks=interrupted or bool(rng.random() < 0.3))
        time = end


def _speed(calendar: Calendar, time: int) -> int:
    return [FULL_SPEED, *(speed for change, speed in calendar.changes if change <= time)][-1]


def _renewable(draft: Draft, rng: np.random.Generator, size: int) -> None:
    """Tasks with profiles, under a capacity that they just use up."""
    rows, use = [], np.zeros(100, np.int64)
    crew = len(draft.resources)
    for _ in range(size):
        start, duration = int(rng.integers(0, 20)), int(rng.integers(1, 12))
        cut = int(rng.integers(1, duration + 1))
        amounts = [int(amount) for amount in rng.integers(0, 5, 2)]
        demands = [Demand(crew, amounts[0], 0, cut), Demand(crew, amounts[1], cut)]
        use[start : start + cut] += amounts[0]
        use[start + cut : start + duration] += amounts[1]
        rows.append((start, duration, demands))
    draft.resource(Renewable(draft.name("crew"), int(use.max())))
    for start, duration, demands in rows:
        draft.task(start, duration, *demands)


def _stock(draft: Draft, rng: np.random.Generator, size: int) -> None:
    """Tasks that take and tasks that make, of a stock that just suffices."""
    stock = len(draft.resources)
    changes = [(int(rng.integers(0, 30)), int(rng.integers(1, 5))) for _ in range(2)]
    supplies = tuple(sorted(changes))
    for _ in range(size):
        start, duration, amount = int(rng.integers(0, 30)), int(rng.integers(0, 6)), int(rng.integers(-4, 7))
        draft.task(start, duration, Demand(stock, amount))
        changes.append((start, -amount) if amount >= 0 else (start + duration, -amount))
    least = min(sum(change for time, change in changes if time <= now) for now, _ in changes)
    draft.resource(Consumable(draft.name("stock"), max(0, -least), supplies))


def _addresses(draft: Draft, rng: np.random.Generator, size: int) -> None:
    """Blocks at the lowest addresses that are free, in a range just long enough."""
    memory = len(draft.resources)
    held: list[tuple[int, int, int, int]] = []
    for _ in range(size):
        start, duration, length = (int(rng.integers(low, high)) for low, high in ((0, 20), (1, 12), (0, 6)))
        meant = [(a, a + n) for s, e, a, n in held if s < start + duration and start < e]
        address = next(
            a for a in [0, *sorted(end for _, end in meant)] if all(end <= a or a + length <= low for low, end in meant)
        )
        held.append((start, start + duration, address, length))
        draft.task(start, duration, Demand(memory, length), address=address)
    draft.resource(AddressRange(draft.name("memory"), max(a + n for _, _, a, n in held)))


def _states(draft: Draft, rng: np.random.Generator, size: int) -> None:
    """Tasks that overlap in one state, then, after the set-up, in another."""
    states = 3
    setup, state = random_setups(rng, states), int(rng.integers(states))
    oven = draft.resource(State(draft.name("oven"), setup, state))
    time = 0
    for _ in range(max(2, size // 2)):
        needed = int(rng.integers(states))
        time += setup[state][needed] if needed != state else 0
        reach = time
        for _ in range(int(rng.integers(1, 3))):
            start, duration = time + int(rng.integers(0, 3)), int(rng.integers(1, 6))
            draft.task(start, duration, Demand(oven, state=needed))
            reach = max(reach, start + duration)
        time, state = reach, needed


def _blocked_chain(draft: Draft, rng: np.random.Generator, size: int) -> None:
    """A job through machines without room in between, with transport."""
    machines = [draft.resource(Machine(draft.name("machine"))) for _ in range(size)]
    time, job, before = int(rng.integers(0, 5)), draft.job(due=int(rng.integers(0, 40))), -1
    for number, machine in enumerate(machines):
        duration = int(rng.integers(0, 5))
        leaves = time + duration + int(rng.integers(0, 4))
        last = number == size - 1
        task = draft.task(time, duration, Demand(machine), departure=time + duration if last else leaves, job=job)
        if before >= 0:
            draft.add("precedences", Precedence(before, task, transport=True, blocking=True))
        move = int(rng.integers(0, 3))
        if not last:
            draft.moves[machine, machines[number + 1]] = move
        time, before = leaves + move, task


def _choices(draft: Draft, rng: np.random.Generator) -> None:
    """Optional tasks, alternatives, and constraints on them that what was chosen keeps."""
    crews = [draft.resource(Renewable(draft.name("crew"), 100)) for _ in range(3)]
    tasks = []
    for _ in range(4):
        modes = tuple(
            Mode(int(rng.integers(1, 6)), (Demand(int(crew)),), int(rng.integers(0, 9)))
            for crew in rng.choice(crews, 3)
        )
        mode, present = int(rng.integers(3)), bool(rng.random() < 0.6)
        tasks.append(
            draft.task(
                int(rng.integers(0, 20)), modes[mode].duration, modes=modes, mode=mode, present=present, optional=True
            )
        )
    chosen = {task: draft.columns["mode"][task] for task in tasks}
    many = sum(mode >= 0 for mode in chosen.values())
    rules = {
        "at-least-one": many >= 1,
        "exactly-one": many == 1,
        "at-most-one": many <= 1,
        "all-or-none": many % 4 == 0,
    }
    for rule, kept in rules.items():
        absent = [task for task in tasks if chosen[task] < 0]
        if kept:
            draft.add("selections", Selection(rule, tuple(tasks)))  # type: ignore[arg-type]
        elif absent:
            draft.add("selections", Selection(rule, tuple(tasks), absent[0]))  # type: ignore[arg-type]
    for first, second in ((0, 1), (1, 2), (2, 3), (3, 0)):
        one, other = tasks[first], tasks[second]
        if chosen[one] >= 0 and chosen[other] >= 0:
            used = [draft.tasks[task].modes[chosen[task]].demands[0].resource for task in (one, other)]
            draft.add("same_resources", SameResources(one, other, used[0] == used[1]))
        allowed = {int(rng.integers(3)), chosen[other]} - {-1}
        draft.add("mode_dependencies", ModeDependency(one, max(0, chosen[one]), other, tuple(sorted(allowed))))


def _windows(draft: Draft, rng: np.random.Generator) -> None:
    """Tasks with windows, in jobs with releases, due dates and deadlines."""
    for _ in range(2):
        spans = [(int(rng.integers(0, 20)), int(rng.integers(0, 9))) for _ in range(2)]
        release = int(rng.integers(0, min(start for start, _ in spans) + 1))
        deadline = max(start + duration for start, duration in spans) + int(rng.integers(0, 3))
        job = draft.job(
            release=release, deadline=deadline, due=int(rng.integers(0, 30)), weight=int(rng.integers(0, 4))
        )
        for start, duration in spans:
            spare = [int(value) for value in rng.integers(0, 3, 4)]
            draft.task(
                start,
                duration,
                job=job,
                earliest_start=max(0, start - spare[0]),
                latest_start=start + spare[1],
                earliest_end=max(0, start + duration - spare[2]),
                latest_end=start + duration + spare[3],
            )


def _lags(draft: Draft, rng: np.random.Generator, size: int) -> None:
    """Lags of all relations that the times just keep."""
    for _ in range(2 * size):
        first, second = (int(task) for task in rng.choice(len(draft.tasks), 2, replace=False))
        if min(draft.columns["mode"][first], draft.columns["mode"][second]) < 0:
            continue
        relation = RELATIONS[int(rng.integers(4))]
        event, other = (draft.columns[name] for name in relation.split("-"))
        gap = other[second] - event[first]
        most = gap + int(rng.integers(0, 3)) if rng.random() < 0.5 else None
        draft.add("precedences", Precedence(first, second, relation, gap - int(rng.integers(0, 3)), most))
