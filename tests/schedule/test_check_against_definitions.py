"""The checker against the definitions spelt out unit of time by unit of time, on random schedules, mostly wrong."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.schedule.check import check_schedule
from pathloom.schedule.drawn_schedules import COLUMNS, Draft, draw_draft, schedule_of
from pathloom.schedule.problem import (
    AddressRange,
    Calendar,
    Consumable,
    Demand,
    Machine,
    Precedence,
    Problem,
    Renewable,
    State,
)

HORIZON = 150
Span = dict[str, int]


def speed(problem: Problem, demands: tuple[Demand, ...], time: int) -> int:
    slowest = [100]
    calendars = [
        resource.calendar
        for resource in (problem.resources[demand.resource] for demand in demands)
        if isinstance(resource, Machine | Renewable) and resource.calendar != Calendar()
    ]
    if calendars:
        slowest = [([100] + [s for t, s in c.changes if t <= time])[-1] for c in calendars]
    return min(slowest)


def broken(problem: Problem, columns: dict[str, list[int]]) -> set[str]:
    """Names of the constraints that a schedule breaks, slowly."""
    rules: set[str] = set()
    spans: dict[int, Span] = {}
    for number, task in enumerate(problem.tasks):
        mode = columns["mode"][number]
        if mode == -1 and not task.optional:
            rules.add("presence")
        elif mode < -1 or mode >= len(task.modes):
            rules.add("mode")
        elif mode >= 0:
            spans[number] = {name: columns[name][number] for name in COLUMNS}
    chosen = {number: problem.tasks[number].modes[span["mode"]] for number, span in spans.items()}
    for number, span in spans.items():
        rules |= alone(problem, number, span)
    rules |= between(problem, spans, chosen)
    users: dict[int, list[tuple[int, Demand]]] = {number: [] for number in range(len(problem.resources))}
    for number, mode in chosen.items():
        for demand in mode.demands:
            users[demand.resource].append((number, demand))
    for position, resource in enumerate(problem.resources):
        if isinstance(resource, Machine):
            rules |= on_machine(resource, spans, users[position])
        elif isinstance(resource, State):
            rules |= in_states(resource, spans, users[position])
        elif isinstance(resource, AddressRange):
            rules |= in_range(resource, spans, users[position])
        else:
            rules |= amounts(resource, spans, users[position])
    rules |= chosen_together(problem, spans, chosen)
    rules |= sequenced(problem, spans, users)
    return rules


def alone(problem: Problem, number: int, span: Span) -> set[str]:
    """Duration, breaks, windows."""
    task, start, end = problem.tasks[number], span["start"], span["end"]
    mode, rules = task.modes[span["mode"]], set()

    def work(until: int) -> int:
        return sum(speed(problem, mode.demands, time) for time in range(start, until))

    enough = end >= start and work(end) >= 100 * mode.duration
    needless = end > start and work(end - 1) >= 100 * mode.duration
    if not enough or (needless and not task.allow_idle):
        rules.add("duration")
    if not task.allow_breaks:
        slow = [time for time in range(start, end) if speed(problem, mode.demands, time) == 0]
        inside = start == end and speed(problem, mode.demands, start - 1) == speed(problem, mode.demands, start) == 0
        # a task of no length at the very border of two breaks fits between them
        borders = {
            time
            for demand in mode.demands
            if isinstance(resource := problem.resources[demand.resource], Machine | Renewable)
            for time, _ in resource.calendar.changes
        }
        if slow or (inside and start not in borders):
            rules.add("break")
    latest_start = HORIZON * 9 if task.latest_start is None else task.latest_start
    latest_end = HORIZON * 9 if task.latest_end is None else task.latest_end
    if not (task.earliest_start <= start <= latest_start and task.earliest_end <= end <= latest_end):
        rules.add("window")
    if task.job is not None:
        job = problem.jobs[task.job]
        rules |= {"release"} if start < job.release else set()
        rules |= {"deadline"} if job.deadline is not None and end > job.deadline else set()
    return rules


def move(problem: Problem, chosen: dict, link: Precedence) -> int:
    ends = [chosen[link.first].demands, chosen[link.second].demands]
    if not link.transport or not all(ends):
        return 0
    return problem.transport[ends[0][0].resource][ends[1][0].resource]


def between(problem: Problem, spans: dict[int, Span], chosen: dict) -> set[str]:
    """Lags, transport, blocking."""
    rules = set()
    freed = {number: [span["end"]] for number, span in spans.items()}
    for link in problem.precedences:
        if link.first not in spans or link.second not in spans:
            continue
        event, other = link.relation.split("-")
        gap = spans[link.second][other] - spans[link.first][event]
        time = move(problem, chosen, link)
        if gap < link.min_lag:
            rules.add("min-lag")
        elif gap < link.min_lag + time:
            rules.add("transport")
        if link.max_lag is not None and gap > link.max_lag + time:
            rules.add("max-lag")
        if link.blocking:
            freed[link.first].append(spans[link.second]["start"] - time)
    if any(spans[number]["departure"] != max(times) for number, times in freed.items()):
        rules.add("blocking")
    return rules


def on_machine(machine: Machine, spans: dict[int, Span], users: list[tuple[int, Demand]]) -> set[str]:
    rules = set()
    row = sorted((spans[n]["start"], spans[n]["departure"], n, demand.state) for n, demand in users)
    if any(a[1] > b[0] and b[1] > a[0] for a, b in combinations(row, 2)):  # neither has left when the other comes
        rules.add("overlap")
    for before, after in pairwise(row):
        setup = machine.setup[before[3]][after[3]] if machine.setup else 0
        reached = max(one[1] for one in row[: row.index(after)])
        if reached <= after[0] < before[1] + setup:
            rules.add("set-up")
        if machine.no_idle and after[0] > before[1] + setup:
            rules.add("no-idle")
    if row and machine.initial is not None and row[0][0] < machine.setup[machine.initial][row[0][3]]:
        rules.add("initial-state")
    return rules


def in_states(resource: State, spans: dict[int, Span], users: list[tuple[int, Demand]]) -> set[str]:
    rules = set()
    for (one, demand), (other, next_demand) in permutations(users, 2):
        first, second = spans[one], spans[other]
        order = [(span["start"], span["departure"], number) for span, number in ((first, one), (second, other))]
        if demand.state != next_demand.state and order[0] < order[1]:
            setup = resource.setup[demand.state][next_demand.state]
            rules |= {"state"} if second["start"] < first["departure"] + setup else set()
    for number, demand in users:
        if resource.initial not in (None, demand.state):
            setup = resource.setup[resource.initial][demand.state]
            rules |= {"initial-state"} if spans[number]["start"] < setup else set()
    return rules


def in_range(resource: AddressRange, spans: dict[int, Span], users: list[tuple[int, Demand]]) -> set[str]:
    rules, held = set(), set()
    for number, demand in users:
        span = spans[number]
        addresses = range(span["address"], span["address"] + demand.amount)
        if any(not 0 <= address < resource.size for address in addresses):
            rules.add("address-range")
            continue
        cells = {(address, time) for address in addresses for time in range(span["start"], span["departure"])}
        rules |= {"address-overlap"} if cells & held else set()
        held |= cells
    return rules


def amounts(resource: Renewable | Consumable, spans: dict[int, Span], users: list[tuple[int, Demand]]) -> set[str]:
    for time in range(-HORIZON, HORIZON):
        if isinstance(resource, Renewable):
            used = 0
            for number, demand in users:
                start, leaves = spans[number]["start"], spans[number]["departure"]
                until = leaves if demand.end is None else min(leaves, start + demand.end)
                used += demand.amount if start + demand.start <= time < until else 0
            if used > resource.capacity:
                return {"capacity"}
        else:
            level = resource.capacity + sum(amount for at, amount in resource.supplies if at <= time)
            for number, demand in users:
                happens = spans[number]["start" if demand.amount >= 0 else "end"]
                level -= demand.amount if happens <= time else 0
            if level < 0:
                return {"stock"}
    return set()


def chosen_together(problem: Problem, spans: dict[int, Span], chosen: dict) -> set[str]:
    """Selections, resources of pairs, mode dependencies."""
    rules = set()
    for selection in problem.selections:
        many = sum(task in spans for task in selection.tasks)
        allowed = {
            "all-or-none": {0, len(selection.tasks)},
            "at-least-one": set(range(1, 99)),
            "exactly-one": {1},
            "at-most-one": {0, 1},
        }[selection.rule]
        if (selection.condition is None or selection.condition in spans) and many not in allowed:
            rules.add("selection")
    for pair in problem.same_resources:
        if pair.first in spans and pair.second in spans:
            first, second = ({d.resource for d in chosen[task].demands} for task in (pair.first, pair.second))
            if pair.same and first != second:
                rules.add("same-resources")
            if not pair.same and first & second:
                rules.add("different-resources")
    for link in problem.mode_dependencies:
        if link.first in spans and link.second in spans and spans[link.first]["mode"] == link.first_mode:
            rules |= set() if spans[link.second]["mode"] in link.second_modes else {"mode-dependency"}
    return rules


def sequenced(problem: Problem, spans: dict[int, Span], users: dict[int, list[tuple[int, Demand]]]) -> set[str]:
    rules = set()
    when = {number: (span["start"], span["departure"]) for number, span in spans.items()}
    on = {position: {number for number, _ in row} for position, row in users.items()}
    for link in problem.consecutive:
        for position, resource in enumerate(problem.resources):
            if isinstance(resource, Machine) and {link.first, link.second} <= on[position]:
                first, second = when[link.first], when[link.second]
                if first > second or any(first < when[other] < second for other in on[position]):
                    rules.add("consecutive")
    for both in problem.same_sequences:
        pairs = zip(both.first_tasks, both.second_tasks, strict=True)
        used = [(a, b) for a, b in pairs if a in on[both.first_machine] and b in on[both.second_machine]]
        for (a, b), (c, d) in permutations(used, 2):
            if when[a][0] < when[c][0] and when[b][0] > when[d][0]:
                rules.add("same-sequence")
    return rules


def disturb(rng: np.random.Generator, columns: dict[str, list[int]], changes: int) -> None:
    """Change some entries: shift a task, change one of its columns, or give it the place of another one."""
    count = len(columns["start"])
    for _ in range(changes):
        task, other, kind = int(rng.integers(count)), int(rng.integers(count)), int(rng.integers(4))
        step = int(rng.integers(-6, 7))
        if kind == 0:
            for name in ("start", "end", "departure"):
                columns[name][task] += step
        elif kind == 1:
            columns[COLUMNS[int(rng.integers(5))]][task] += step
        elif kind == 2:
            step = columns["start"][other] - columns["start"][task]
            for name in ("start", "end", "departure"):
                columns[name][task] += step
        else:
            columns["mode"][task] = int(rng.integers(-1, 3))


@given(seed=st.integers(0, 2**32 - 1), changes=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_the_checker_names_what_the_definitions_name(seed: int, changes: int) -> None:
    rng = np.random.default_rng(seed)
    draft = draw_draft(rng, 3)
    columns = {name: list(values) for name, values in draft.columns.items()}
    disturb(rng, columns, changes)
    found = {violation.rule for violation in check_schedule(draft.problem(), schedule_of(columns))}
    assert found == broken(draft.problem(), columns)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_schedule_drawn_with_its_problem_is_feasible(seed: int) -> None:
    draft = draw_draft(np.random.default_rng(seed), 4)
    assert check_schedule(draft.problem(), draft.schedule()) == []


def circle_of_hand_overs(jobs: list[list[tuple[int, int, int]]]) -> bool:
    """Whether no order of the starts of one instant lets every job leave its machine before another one comes.

    `jobs` holds (machine, start, departure) of the operations of each job. All orders are tried in which those of a job
    come one after another, and so do those on one machine: first those that depart at once, as they are numbered.
    """
    starts = {(j, o): jobs[j][o][1] for j in range(len(jobs)) for o in range(len(jobs[j]))}
    for instant in set(starts.values()):
        moving = [key for key, start in starts.items() if start == instant]
        holding = {
            (j, o): machine
            for j, row in enumerate(jobs)
            for o, (machine, start, departure) in enumerate(row)
            if start < instant <= departure and (departure > instant or (j, o + 1) in moving)
        }
        if not any(_works(order, dict(holding), jobs) for order in permutations(moving)):
            return True
    return False


def _works(order: tuple, holding: dict, jobs: list[list[tuple[int, int, int]]]) -> bool:
    done: list[tuple[int, int]] = []
    for j, o in order:
        machine, start, departure = jobs[j][o]
        turn = (departure, j, o)
        if any(jobs[a][b][0] == machine and turn < (jobs[a][b][2], a, b) for a, b in done):
            return False
        if any(a == j and b > o for a, b in done):
            return False
        done.append((j, o))
        own = holding.pop((j, o - 1), None)
        if machine in holding.values() and machine != own:
            return False
        if departure > start or o + 1 < len(jobs[j]):
            holding[j, o] = machine
    return True


@given(seed=st.integers(0, 2**32 - 1), brief=st.booleans())
@settings(max_examples=200, deadline=None)
def test_without_swaps_some_order_of_the_hand_overs_of_every_instant_must_work(seed: int, brief: bool) -> None:
    """Jobs of two or three operations through three machines, all moving on at few instants."""
    rng = np.random.default_rng(seed)
    draft = Draft()
    draft.swap = False
    machines = [draft.resource(Machine(draft.name("machine"))) for _ in range(3)]
    jobs = []
    for _ in range(int(rng.integers(2, 4))):
        length = int(rng.integers(2, 4))
        times = np.sort(rng.choice(np.arange(0, 6), length + 1, replace=brief)).tolist()
        route = rng.permutation(3)[:length].tolist()
        jobs.append([(machine, times[o], times[o + 1]) for o, machine in enumerate(route)])
        before = -1
        for machine, start, departure in jobs[-1]:
            most = departure - start
            duration = int(rng.integers(min(1, most), most + 1)) if departure < times[-1] else most
            task = draft.task(start, duration, Demand(machines[machine]), departure=departure)
            if before >= 0:
                draft.add("precedences", Precedence(before, task, blocking=True))
            before = task
    found = {violation.rule for violation in check_schedule(draft.problem(), draft.schedule())}
    if "overlap" not in found:
        assert found == ({"swap"} if circle_of_hand_overs(jobs) else set())
