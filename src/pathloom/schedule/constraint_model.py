"""A `Problem` stated for CP-SAT, part by part, from the definitions in `pathloom.schedule.problem`.

Each task has a start, an end and, where it may be blocked, a departure; modes are literals; machines are no-overlap
constraints, renewable resources cumulative ones. Speeds of calendars are integrated: with W(t) the work that a
resource can do until t, a task of duration d that starts at s ends at the first e with W(e) - W(s) >= 100 d.
Blocking shops without swaps order the hand-overs of one instant: a task's start is scaled by K and a rank below K is
added, and intervals on a machine are kept one rank apart, so that no circle of hand-overs at one instant is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from pathloom.schedule.problem import (
    FULL_SPEED,
    LATEST,
    AddressRange,
    Calendar,
    Consumable,
    Criterion,
    Demand,
    Machine,
    Problem,
    Renewable,
    State,
)
from pathloom.schedule.schedule import ABSENT, NOWHERE, Schedule

Var = Any  # a variable, a linear expression or a constant


def horizon(problem: Problem) -> int:
    """A time by which some optimal schedule (of a regular objective, where there is any schedule) has ended.

    Every task one after another at its longest, plus all lags, moves and set-ups, after the last date that is named.
    """
    compiled = problem.compiled
    longest = np.zeros(len(problem.tasks), np.int64)
    np.maximum.at(longest, compiled.mode_task, compiled.mode_duration)
    total = int(longest.sum())
    slowest = FULL_SPEED
    dates = [0, int(compiled.earliest_start.max(initial=0)), int(compiled.earliest_end.max(initial=0))]
    dates.append(int(compiled.job_due.max(initial=0)))
    for resource in problem.resources:
        if isinstance(resource, Machine | Renewable):
            dates += [time for time, _ in resource.calendar.changes]
            speeds = [speed for _, speed in resource.calendar.changes[-1:]]
            slowest = min([slowest, *speeds]) if speeds and speeds[0] > 0 else slowest
        if isinstance(resource, Consumable):
            dates += [time for time, _ in resource.supplies]
    setups = [max(map(max, r.setup)) for r in problem.resources if isinstance(r, Machine | State) and r.setup]
    lags = int(np.abs(compiled.min_lag).sum())
    moves = max(map(max, problem.transport), default=0) * int(compiled.transported.sum())
    end = max(dates) + -(-total * FULL_SPEED // max(1, slowest)) + lags + moves + max(setups, default=0) * len(longest)
    return min(int(end) + 1, LATEST)


class ConstraintModel:
    """Variables and constraints of a problem.

    Parameters
    ----------
    problem
        What to state.
    latest
        No task ends after this time; `horizon` by default.

    Attributes
    ----------
    model
        The CP-SAT model, to which callers may add.
    start, end, departure, presence
        One entry a task: variables, expressions, or constants.
    mode
        For each task, the literals of its modes.
    levels
        The expression of each level of the objective.
    """

    def __init__(self, problem: Problem, latest: int | None = None) -> None:
        self.problem = problem
        self.latest = horizon(problem) if latest is None else latest
        self.model = cp_model.CpModel()
        count = len(problem.tasks)
        self.start: list[Var] = [0] * count
        self.end: list[Var] = [0] * count
        self.departure: list[Var] = [0] * count
        self.presence: list[Var] = [1] * count
        self.mode: list[list[Var]] = [[] for _ in range(count)]
        self.address: dict[int, Var] = {}
        self._interval: dict[tuple[int, int], Any] = {}
        self._work: dict[tuple[int, ...], _Work] = {}
        self._setups: list[Var] = []
        self._blocked = {int(task) for task in problem.compiled.first[problem.compiled.blocking]}
        for task in range(count):
            self._task(task)
        self._using: dict[int, list[tuple[int, int, Demand]]] = defaultdict(list)
        for number, task_ in enumerate(problem.tasks):
            for position, mode in enumerate(task_.modes):
                for demand in mode.demands:
                    self._using[demand.resource].append((number, position, demand))
        self._precedences()
        self._departures()
        for position in range(len(problem.resources)):
            self._resource(position)
        self._breaks()
        if not problem.swap and self._blocked:
            self._hand_overs()
        self._further()
        self.levels = [self._level(level) for level in problem.objective]

    # Tasks

    def _task(self, number: int) -> None:
        task, model, compiled = self.problem.tasks[number], self.model, self.problem.compiled
        latest_end = min(self.latest, int(compiled.latest_end[number]))
        latest_start = min(latest_end, int(compiled.latest_start[number]))
        earliest = int(compiled.earliest_start[number])
        if task.optional:
            self.presence[number] = model.new_bool_var("")
        if earliest > latest_start:  # no time for it at all
            model.add_bool_or([~self.presence[number]] if task.optional else [])
            latest_start = earliest
        self.start[number] = start = model.new_int_var(earliest, latest_start, "")
        literals = [self.presence[number]]
        if len(task.modes) > 1:
            literals = [model.new_bool_var("") for _ in task.modes]
            model.add(sum(literals) == self.presence[number])
        self.mode[number] = literals
        clocks = [self._clock(mode.demands) for mode in task.modes]
        durations = {mode.duration for mode in task.modes}
        timed = any(clock.changes for clock in clocks)
        if len(durations) == 1 and not timed and not task.allow_idle:
            self.end[number] = end = start + durations.pop()
            self._within(number, end, task.earliest_end, latest_end)
            return
        self.end[number] = end = model.new_int_var(0, self.latest, "")
        self._within(number, end, task.earliest_end, latest_end)
        for literal, mode, clock in zip(literals, task.modes, clocks, strict=True):
            if not clock.changes:
                if task.allow_idle:
                    self._if(model.add(end >= start + mode.duration), literal)
                else:
                    self._if(model.add(end == start + mode.duration), literal)
            elif mode.duration == 0:
                self._if(model.add(end >= start if task.allow_idle else end == start), literal)
            else:
                work, needed = self._work_until(clock), FULL_SPEED * mode.duration
                before = work.at(model, start)
                self._if(model.add(work.at(model, end) >= before + needed), literal)
                if not task.allow_idle:
                    last = model.new_int_var(0, self.latest, "")
                    self._if(model.add(last == end - 1), literal)
                    self._if(model.add(work.at(model, last) < before + needed), literal)

    def _within(self, task: int, value: Var, low: int, high: int) -> None:
        if low > 0:
            self._if(self.model.add(value >= low), self.presence[task])
        self._if(self.model.add(value <= high), self.presence[task])

    def _clock(self, demands: tuple[Demand, ...]) -> Calendar:
        """The slowest of the calendars of a mode's resources at each time."""
        calendars = []
        for demand in demands:
            resource = self.problem.resources[demand.resource]
            if isinstance(resource, Machine | Renewable) and resource.calendar.changes:
                calendars.append(resource.calendar)
        if len(calendars) <= 1:
            return calendars[0] if calendars else Calendar()
        times = sorted({time for calendar in calendars for time, _ in calendar.changes})
        return Calendar(tuple((time, min(_speed(calendar, time) for calendar in calendars)) for time in times))

    def _work_until(self, clock: Calendar) -> _Work:
        key = tuple(value for change in clock.changes for value in change)
        if key not in self._work:
            self._work[key] = _Work(clock, self.latest)
        return self._work[key]

    def interval(self, task: int, position: int) -> Any:
        """The interval in which the task in one of its modes holds its resources."""
        if (task, position) not in self._interval:
            start, literal = self.start[task], self.mode[task][position]
            size = self.departure[task] - start
            fixed = self.problem.tasks[task].modes[position].duration
            plain = task not in self._blocked and self._exact(task, position)
            self._interval[task, position] = (
                (
                    self.model.new_fixed_size_interval_var(start, fixed, "")
                    if _always(literal)
                    else self.model.new_optional_fixed_size_interval_var(start, fixed, literal, "")
                )
                if plain
                else self._span(start, size, self.departure[task], literal)
            )
        return self._interval[task, position]

    def _exact(self, task: int, position: int) -> bool:
        """Whether the task in this mode takes its duration, neither more nor less."""
        return (
            not self.problem.tasks[task].allow_idle
            and not self._clock(self.problem.tasks[task].modes[position].demands).changes
        )

    def _span(self, start: Var, size: Var, end: Var, literal: Var) -> Any:
        length = self.model.new_int_var(0, self.latest, "")
        self._if(self.model.add(length == size), literal)
        if _always(literal):
            return self.model.new_interval_var(start, length, end, "")
        return self.model.new_optional_interval_var(start, length, end, literal, "")

    # Order

    def _precedences(self) -> None:
        for link in self.problem.precedences:
            event = (self.end if link.relation.startswith("end") else self.start)[link.first]
            second = (self.end if link.relation.endswith("end") else self.start)[link.second]
            both = (self.presence[link.first], self.presence[link.second])
            for literals, extra in self._moves(link.first, link.second) if link.transport else [((), 0)]:
                self._if(self.model.add(second >= event + link.min_lag + extra), *both, *literals)
                if link.max_lag is not None:
                    self._if(self.model.add(second <= event + link.max_lag + extra), *both, *literals)

    def _moves(self, first: int, second: int) -> list[tuple[tuple[Var, ...], int]]:
        """Transport times between two tasks, each with the literals of the modes for which it is so."""
        here, there = self._places(first), self._places(second)
        found = []
        for place, modes in here.items():
            for other, second_modes in there.items():
                time = self.problem.transport[place][other] if place >= 0 <= other else 0
                for mode in modes if len(here) > 1 else [None]:
                    for second_mode in second_modes if len(there) > 1 else [None]:
                        found.append((tuple(literal for literal in (mode, second_mode) if literal is not None), time))
        return found

    def _places(self, task: int) -> dict[int, list[Var]]:
        found: dict[int, list[Var]] = defaultdict(list)
        for literal, mode in zip(self.mode[task], self.problem.tasks[task].modes, strict=True):
            found[mode.demands[0].resource if mode.demands else -1].append(literal)
        return found

    def _departures(self) -> None:
        self.departure = list(self.end)
        for task in self._blocked:
            departure = self.model.new_int_var(0, self.latest, "")
            self.departure[task] = departure
            self.model.add(departure >= self.end[task])
            held = []
            for link in self.problem.precedences:
                if link.first != task or not link.blocking:
                    continue
                for literals, extra in self._moves(task, link.second) if link.transport else [((), 0)]:
                    when = self._all(self.presence[task], self.presence[link.second], *literals)
                    self._if(self.model.add(departure >= self.start[link.second] - extra), when)
                    held.append((when, self.start[link.second] - extra))
            # The departure is one of these times: the first that frees the task, no later.
            if len(held) == 1 and _always(held[0][0]):
                self.model.add(departure == held[0][1])
                continue
            reasons = []
            for when, time in [(self.presence[task], self.end[task]), *held]:
                reason = self.model.new_bool_var("")
                self._if(self.model.add(departure == time), reason)
                if not _always(when):
                    self.model.add_implication(reason, when)
                reasons.append(reason)
            self._if(self.model.add_bool_or(reasons), self.presence[task])

    def _hand_overs(self) -> None:
        brief = {n for n, task in enumerate(self.problem.tasks) if any(mode.duration == 0 for mode in task.modes)}
        scale = 1 + len(brief) + sum(isinstance(resource, Machine) for resource in self.problem.resources)
        last = self.latest * scale + scale
        begin = {}
        for task, start in enumerate(self.start):
            rank = self.model.new_int_var(0, scale - 1, "")
            begin[task] = self.model.new_int_var(0, last, "")
            self.model.add(begin[task] == start * scale + rank)
        # A blocked task leaves at the very hand-over by which the next one begins, and begins before that one.
        hands: dict[int, list[tuple[int, list[Var]]]] = defaultdict(list)
        for link in self.problem.precedences:
            if link.blocking:
                both = self._all(self.presence[link.first], self.presence[link.second])
                self._if(self.model.add(begin[link.second] >= begin[link.first]), both)
                for literals, extra in self._moves(link.first, link.second) if link.transport else [((), 0)]:
                    if extra == 0:
                        hands[link.first].append((link.second, self._all(both, *literals)))
        for position, resource in enumerate(self.problem.resources):
            if not isinstance(resource, Machine):
                continue
            intervals = []
            for task, mode, _ in self._using[position]:
                end, size = self.model.new_int_var(0, last, ""), self.model.new_int_var(1, last, "")
                literal = self.mode[task][mode]
                self._if(self.model.add(end >= self.departure[task] * scale), literal)
                for second, when in hands[task]:
                    # A job that stays on the machine leaves it to nobody.
                    stays = sum(self.mode[other][m] for other, m, _ in self._using[position] if other == second)
                    self._if(self.model.add(end >= begin[second] + 1 - stays), literal, when)
                if _always(literal):
                    intervals.append(self.model.new_interval_var(begin[task], size, end, ""))
                else:
                    intervals.append(self.model.new_optional_interval_var(begin[task], size, end, literal, ""))
            self.model.add_no_overlap(intervals)
            for task, other in combinations(sorted({task for task, _, _ in self._using[position]} & brief), 2):
                self._in_turn(begin, position, task, other)

    def _in_turn(self, begin: Mapping[int, Var], position: int, task: int, other: int) -> None:
        """Of two tasks of no length on a machine at one instant, the one of the smaller number takes its turn first."""
        both = self._all(self._on(position, task), self._on(position, other))
        first, before, after = (self.model.new_bool_var("") for _ in range(3))
        times = [self.start[one] + self.departure[one] for one in (task, other)]
        self._if(self.model.add(begin[task] < begin[other]), first)
        self._if(self.model.add(times[0] < times[1]), before)
        self._if(self.model.add(times[0] > times[1]), after)
        self._if(self.model.add_bool_or(first, before, after), both)

    # Resources

    def _resource(self, position: int) -> None:
        resource, uses = self.problem.resources[position], self._using[position]
        if not uses:
            return
        if isinstance(resource, Machine):
            self.model.add_no_overlap([self.interval(task, mode) for task, mode, _ in uses])
            sequenced = any(
                {link.first, link.second} <= {task for task, _, _ in uses} for link in self.problem.consecutive
            )
            sequenced = sequenced or any(
                position in (same.first_machine, same.second_machine) for same in self.problem.same_sequences
            )
            if resource.setup or resource.no_idle or sequenced:
                self._sequence(position, resource)
        elif isinstance(resource, Renewable):
            self._cumulative(resource, uses)
        elif isinstance(resource, Consumable):
            self._stock(resource, uses)
        elif isinstance(resource, AddressRange):
            self._addresses(resource, uses)
        else:
            self._states(resource, uses)

    def _cumulative(self, resource: Renewable, uses: list[tuple[int, int, Demand]]) -> None:
        intervals, amounts = [], []
        for task, mode, demand in uses:
            if demand.start == 0 and demand.end is None:
                intervals.append(self.interval(task, mode))
            else:
                start = self.start[task] + demand.start
                end = self.departure[task] if demand.end is None else self.start[task] + demand.end
                intervals.append(self._part(task, mode, start, end))
            amounts.append(demand.amount)
        self.model.add_cumulative(intervals, amounts, resource.capacity)

    def _part(self, task: int, mode: int, start: Var, end: Var) -> Any:
        """The part [start, end) of a task's processing, cut off where the task ends sooner."""
        literal = self.mode[task][mode]
        last = self.model.new_int_var(0, self.latest, "")
        self.model.add_min_equality(last, [end, self.departure[task]])
        size = self.model.new_int_var(0, self.latest, "")
        self.model.add_max_equality(size, [last - start, 0])
        stop = self.model.new_int_var(0, 2 * self.latest, "")
        self.model.add(stop == start + size)
        return self.model.new_optional_interval_var(start, size, stop, literal, "")

    def _stock(self, resource: Consumable, uses: list[tuple[int, int, Demand]]) -> None:
        if not resource.supplies and all(demand.amount >= 0 for _, _, demand in uses):
            taken = sum(demand.amount * self.mode[task][mode] for task, mode, demand in uses)
            self.model.add(taken <= resource.capacity)
            return
        times: list[Var] = [0]
        changes, active = [resource.capacity], [1]
        for time, amount in resource.supplies:
            times.append(time)
            changes.append(amount)
            active.append(1)
        for task, mode, demand in uses:
            times.append(self.start[task] if demand.amount >= 0 else self.end[task])
            changes.append(-demand.amount)
            active.append(self.mode[task][mode])
        most = sum(abs(change) for change in changes)
        self.model.add_reservoir_constraint_with_active(times, changes, active, 0, most)

    def _addresses(self, resource: AddressRange, uses: list[tuple[int, int, Demand]]) -> None:
        when, where = [], []
        for task, mode, demand in uses:
            if task not in self.address:
                self.address[task] = self.model.new_int_var(0, resource.size, "")
            address, literal = self.address[task], self.mode[task][mode]
            self._if(self.model.add(address + demand.amount <= resource.size), literal)
            when.append(self.interval(task, mode))
            where.append(self.model.new_optional_fixed_size_interval_var(address, demand.amount, literal, ""))
        self.model.add_no_overlap_2d(when, where)

    def _states(self, resource: State, uses: list[tuple[int, int, Demand]]) -> None:
        for number, (task, mode, demand) in enumerate(uses):
            if resource.initial is not None:
                least = resource.setup[resource.initial][demand.state]
                self._if(self.model.add(self.start[task] >= least), self.mode[task][mode])
            for other, other_mode, other_demand in uses[:number]:
                if other_demand.state == demand.state or other == task:
                    continue
                first = self.model.new_bool_var("")
                both = (self.mode[task][mode], self.mode[other][other_mode])
                there, back = (
                    resource.setup[demand.state][other_demand.state],
                    resource.setup[other_demand.state][demand.state],
                )
                self._if(self.model.add(self.start[other] >= self.departure[task] + there), first, *both)
                self._if(self.model.add(self.start[task] >= self.departure[other] + back), ~first, *both)

    def _sequence(self, position: int, machine: Machine) -> None:
        """Which task directly follows which on a machine, as a circuit through a depot (node 0)."""
        uses = self._using[position]
        arcs: list[tuple[int, int, Var]] = []
        empty = self.model.new_bool_var("")
        arcs.append((0, 0, empty))
        follows: dict[tuple[int, int], list[Var]] = defaultdict(list)
        for node, (task, mode, demand) in enumerate(uses, start=1):
            literal = self.mode[task][mode]
            arcs.append((node, node, ~literal if not _always(literal) else self.model.new_constant(0)))
            if not _always(literal):
                self.model.add_implication(empty, ~literal)
            first, last = self.model.new_bool_var(""), self.model.new_bool_var("")
            arcs += [(0, node, first), (node, 0, last)]
            if machine.setup and machine.initial is not None:
                initial = machine.setup[machine.initial][demand.state]
                self._if(self.model.add(self.start[task] >= initial), first)
                self._setups.append(initial * first)
            for other, (next_task, _, next_demand) in enumerate(uses, start=1):
                if other == node or next_task == task:
                    continue
                arc = self.model.new_bool_var("")
                arcs.append((node, other, arc))
                follows[task, next_task].append(arc)
                setup = machine.setup[demand.state][next_demand.state] if machine.setup else 0
                if machine.no_idle:
                    self._if(self.model.add(self.start[next_task] == self.departure[task] + setup), arc)
                else:
                    self._if(self.model.add(self.start[next_task] >= self.departure[task] + setup), arc)
                if setup:
                    self._setups.append(setup * arc)
                self._one_after_another(task, next_task, arc)
        self.model.add_circuit(arcs)
        for link in self.problem.consecutive:
            used = {task for task, _, _ in uses}
            if {link.first, link.second} <= used:
                both = [self._on(position, task) for task in (link.first, link.second)]
                self._if(self.model.add_bool_or(follows[link.first, link.second]), *both)

    def _one_after_another(self, task: int, next_task: int, *when: Var) -> None:
        """Of tasks of no length at one instant the one of the smaller number comes first."""
        modes = (mode for one in (task, next_task) for mode in self.problem.tasks[one].modes)
        if next_task < task and any(mode.duration == 0 for mode in modes):
            earlier = self.start[task] + self.departure[task]
            self._if(self.model.add(self.start[next_task] + self.departure[next_task] > earlier), *when)

    def _on(self, resource: int, task: int) -> Var:
        """Whether the task uses the resource."""
        literals = [self.mode[number][mode] for number, mode, _ in self._using[resource] if number == task]
        if len(literals) == 1:
            return literals[0]
        either = self.model.new_bool_var("")
        self.model.add(sum(literals) == either)
        return either

    def _breaks(self) -> None:
        """Tasks that no break may interrupt do not overlap those of their resources."""
        for number, task in enumerate(self.problem.tasks):
            if task.allow_breaks:
                continue
            for position, mode in enumerate(task.modes):
                clock = self._clock(mode.demands)
                pauses = [(low, min(high, self.latest)) for low, high in clock.breaks if low < self.latest]
                if not pauses:
                    continue
                interval = self._span(
                    self.start[number],
                    self.end[number] - self.start[number],
                    self.end[number],
                    self.mode[number][position],
                )
                fixed = [self.model.new_fixed_size_interval_var(low, high - low, "") for low, high in pauses]
                self.model.add_no_overlap([interval, *fixed])

    # Further constraints

    def _further(self) -> None:
        model, problem = self.model, self.problem
        for selection in problem.selections:
            present = [self.presence[task] for task in selection.tasks]
            when = [] if selection.condition is None else [self.presence[selection.condition]]
            if selection.rule == "all-or-none":
                for one, other in pairwise(present):
                    self._if(model.add(one == other), *when)
            elif selection.rule == "at-least-one":
                self._if(model.add(sum(present) >= 1), *when)
            elif selection.rule == "exactly-one":
                self._if(model.add(sum(present) == 1), *when)
            else:
                self._if(model.add(sum(present) <= 1), *when)
        for pair in problem.same_resources:
            for literal, mode in zip(self.mode[pair.first], problem.tasks[pair.first].modes, strict=True):
                for other, other_mode in zip(self.mode[pair.second], problem.tasks[pair.second].modes, strict=True):
                    first, second = ({d.resource for d in m.demands} for m in (mode, other_mode))
                    if (first != second) if pair.same else bool(first & second):
                        model.add(literal + other <= 1)
        for both in problem.same_sequences:
            self._same_sequence(both.first_machine, both.second_machine, both.first_tasks, both.second_tasks)
        for dependency in problem.mode_dependencies:
            allowed = [self.mode[dependency.second][mode] for mode in dependency.second_modes]
            first, second = self.mode[dependency.first][dependency.first_mode], self.presence[dependency.second]
            self._if(model.add(sum(allowed) >= 1), first, second)

    def _same_sequence(self, first: int, second: int, tasks: tuple[int, ...], others: tuple[int, ...]) -> None:
        for here, (task, other) in enumerate(zip(tasks, others, strict=True)):
            for next_task, next_other in zip(tasks[:here], others[:here], strict=True):
                before = self.model.new_bool_var("")
                used = [self._on(first, one) for one in (task, next_task)]
                used += [self._on(second, one) for one in (other, next_other)]
                for a, b in ((task, next_task), (other, next_other)):
                    self._if(self.model.add(self.start[b] >= self.departure[a]), before, *used)
                    self._if(self.model.add(self.start[a] >= self.departure[b]), ~before, *used)
                    self._one_after_another(a, b, before, *used)
                    self._one_after_another(b, a, ~before, *used)

    # Objective

    def _level(self, level: tuple[Criterion, ...]) -> Var:
        return sum(criterion.weight * self._measure(criterion.measure) for criterion in level)

    def _measure(self, measure: str) -> Var:
        problem, model = self.problem, self.model
        if measure == "cost":
            return sum(
                mode.cost * literal
                for task, literals in zip(problem.tasks, self.mode, strict=True)
                for mode, literal in zip(task.modes, literals, strict=True)
                if mode.cost
            )
        if measure == "setup-time":
            return sum(self._setups)
        if measure == "makespan":
            makespan = model.new_int_var(0, self.latest, "")
            for task in range(len(problem.tasks)):
                self._if(model.add(makespan >= self.end[task]), self.presence[task])
            return makespan
        terms: list[Var] = []
        for number, job in enumerate(problem.jobs):
            tasks = [task for task, found in enumerate(problem.tasks) if found.job == number]
            if not tasks or (measure != "flow" and job.due is None):
                continue
            terms.append(job.weight * self._job_measure(measure, tasks, job.release, job.due or 0))
        if measure == "max-tardiness":
            worst = model.new_int_var(0, self.latest * max((job.weight for job in problem.jobs), default=1), "")
            for term in terms:
                model.add(worst >= term)
            return worst
        return sum(terms)

    def _job_measure(self, measure: str, tasks: list[int], release: int, due: int) -> Var:
        model = self.model
        done = model.new_int_var(0, self.latest, "")
        has = self._any([self.presence[task] for task in tasks])
        for task in tasks:
            self._if(model.add(done >= self.end[task]), self.presence[task])
        if measure == "earliness":
            # Here a later completion is better, so it must be that of a task.
            last = [model.new_bool_var("") for _ in tasks]
            for task, literal in zip(tasks, last, strict=True):
                self._if(model.add(done <= self.end[task]), literal)
                model.add_implication(literal, self.presence[task])
            self._if(model.add_bool_or(last), has)
        found = model.new_int_var(0, self.latest, "")
        if measure == "tardy-jobs":
            tardy = model.new_bool_var("")
            self._if(model.add(done <= due), ~tardy, has)
            return tardy
        value = {"flow": done - release, "earliness": due - done}.get(measure, done - due)
        self._if(model.add(found >= value), has)
        return found

    # Literals

    def _if(self, constraint: Any, *literals: Var) -> None:
        needed = [literal for literal in literals if not _always(literal)]
        if needed:
            constraint.only_enforce_if(needed)

    def _all(self, *literals: Var) -> Var:
        """A literal that is true if all are."""
        needed = [literal for literal in literals if not _always(literal)]
        if len(needed) <= 1:
            return needed[0] if needed else 1
        every = self.model.new_bool_var("")
        for literal in needed:
            self.model.add_implication(every, literal)
        self.model.add_bool_or([every, *(~literal for literal in needed)])
        return every

    def _any(self, literals: list[Var]) -> Var:
        if any(_always(literal) for literal in literals):
            return 1
        either = self.model.new_bool_var("")
        self.model.add_max_equality(either, literals)
        return either

    # Solutions

    def hint(self, schedule: Schedule) -> None:
        """Let the search begin at a schedule; to be called once."""
        self._hinted: set[int] = set()
        for task, mode in enumerate(schedule.mode.tolist()):
            self._hint(self.start[task], int(schedule.start[task]))
            if mode != ABSENT:
                self._hint(self.end[task], int(schedule.end[task]))
                self._hint(self.departure[task], int(schedule.departure[task]))
            self._hint(self.presence[task], int(mode != ABSENT))
            if len(self.mode[task]) > 1:
                for position, literal in enumerate(self.mode[task]):
                    self._hint(literal, int(position == mode))
        for task, address in self.address.items():
            self._hint(address, max(0, int(schedule.address[task])))
        if self.problem.objective[0] == (Criterion("makespan", 1),):
            self._hint(self.levels[0], schedule.makespan)

    def _hint(self, variable: Var, value: int) -> None:
        if isinstance(variable, cp_model.IntVar) and variable.index not in self._hinted:
            self._hinted.add(variable.index)
            self.model.add_hint(variable, value)

    def schedule(self, value: Any) -> Schedule:
        """The schedule of a solution; `value` gives an expression's value."""
        count = len(self.problem.tasks)
        start, end, departure = (np.zeros(count, np.int64) for _ in range(3))
        mode, address = np.full(count, ABSENT, np.int32), np.full(count, NOWHERE, np.int64)
        for task in range(count):
            chosen = [position for position, literal in enumerate(self.mode[task]) if value(literal)]
            if not chosen:
                continue
            mode[task] = chosen[0]
            start[task], end[task] = value(self.start[task]), value(self.end[task])
            departure[task] = value(self.departure[task])
            if task in self.address and any(
                isinstance(self.problem.resources[demand.resource], AddressRange)
                for demand in self.problem.tasks[task].modes[chosen[0]].demands
            ):
                address[task] = value(self.address[task])
        return Schedule(start, end, mode, departure, address)


class _Work:
    """W(t) of a calendar: work that can be done until t, piecewise linear, as expressions of a model."""

    def __init__(self, clock: Calendar, latest: int) -> None:
        times = [0, *(time for time, _ in clock.changes if 0 < time <= latest)]
        self.pieces: list[tuple[int, int, int, int]] = []  # from, to, work at from, speed
        work = 0
        for number, low in enumerate(times):
            high = times[number + 1] if number + 1 < len(times) else latest + 1
            speed = _speed(clock, low)
            self.pieces.append((low, high, work, speed))
            work += speed * (high - low)
        self.most = work

    def at(self, model: cp_model.CpModel, time: Var) -> Var:
        """An expression of W(time)."""
        work = model.new_int_var(0, self.most, "")
        literals = [model.new_bool_var("") for _ in self.pieces]
        model.add_exactly_one(literals)
        for literal, (low, high, before, speed) in zip(literals, self.pieces, strict=True):
            model.add(time >= low).only_enforce_if(literal)
            model.add(time < high).only_enforce_if(literal)
            model.add(work == before + speed * (time - low)).only_enforce_if(literal)
        return work


def _speed(calendar: Calendar, time: int) -> int:
    speed = FULL_SPEED
    for change, new in calendar.changes:
        if change > time:
            break
        speed = new
    return speed


def _always(literal: Var) -> bool:
    return isinstance(literal, int) and literal == 1
