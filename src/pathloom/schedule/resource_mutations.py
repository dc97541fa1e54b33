"""Changes of feasible schedules that break constraints on resources; see `check_mutations`.

Each function adds tasks to a draft that keep a constraint, and gives the change by which they break it alone.
"""

from __future__ import annotations

from pathloom.schedule.drawn_schedules import Draft, random_setups
from pathloom.schedule.problem import (
    AddressRange,
    Consecutive,
    Consumable,
    Demand,
    Machine,
    Mode,
    Precedence,
    Renewable,
    SameResources,
    SameSequence,
    State,
)
from pathloom.schedule.time_mutations import Change, Rng, entry, moved_by, span, upto


def broken_transport(draft: Draft, rng: Rng) -> Change:
    here, there = (draft.resource(Machine(draft.name("machine"))) for _ in range(2))
    move, lag, spare, duration = upto(rng, 6), upto(rng, 3, 0), upto(rng, 3, 0), upto(rng, 5)
    draft.moves[here, there] = move
    start = upto(rng, 20)
    first = draft.task(start, duration, Demand(here))
    arrival = start + duration + lag + move
    second = draft.task(arrival + spare, duration, Demand(there))
    draft.add("precedences", Precedence(first, second, min_lag=lag, max_lag=lag + spare, transport=True))
    late = arrival - upto(rng, move)
    return span(second, late, late + duration)


def broken_blocking(draft: Draft, rng: Rng) -> Change:
    """A task that frees its machine too early or too late, blocked or not."""
    here, there = (draft.resource(Machine(draft.name("machine"))) for _ in range(2))
    start, duration, wait = upto(rng, 20), upto(rng, 5), upto(rng, 5, 0)
    leaves = start + duration + wait
    first = draft.task(start, duration, Demand(here), departure=leaves)
    second = draft.task(leaves, duration, Demand(there))
    draft.add("precedences", Precedence(first, second, blocking=True))
    task = int(rng.choice([first, second]))
    right = draft.columns["departure"][task]
    early = rng.random() < 0.5
    return entry("departure", task, right - upto(rng, right - start) if early else right + upto(rng, 5))


def broken_swap(draft: Draft, rng: Rng) -> Change:
    """Two to four jobs that first move on one after another, then all at one instant."""
    draft.swap = False
    ring = upto(rng, 4, 2)
    machines = [draft.resource(Machine(draft.name("machine"))) for _ in range(ring)]
    durations = [(upto(rng, 4), upto(rng, 4)) for _ in range(ring)]
    at_once = 20
    # From the last job but one on backwards, each goes to the machine that the job before it has just left for good.
    leaving, time = [0] * ring, at_once
    for job in [*range(ring - 2, -1, -1), ring - 1]:
        if job == ring - 1:
            time += durations[job][0]  # this one comes when the others have gone
        leaving[job] = time
        time += durations[job][1]
    changes = []
    for job in range(ring):
        first_start = leaving[job] - durations[job][0] - upto(rng, 3, 0) * (job < ring - 1)
        first_end = first_start + durations[job][0]
        first = draft.task(first_start, durations[job][0], Demand(machines[job]), departure=leaving[job])
        second = draft.task(leaving[job], durations[job][1], Demand(machines[(job + 1) % ring]))
        draft.add("precedences", Precedence(first, second, blocking=True))
        start = min(first_start, at_once - durations[job][0])
        changes.append(span(first, start, start + first_end - first_start, at_once))
        changes.append(span(second, at_once, at_once + durations[job][1]))

    def change(columns: dict[str, list[int]]) -> None:
        for each in changes:
            each(columns)

    return change


def row_of_tasks(draft: Draft, rng: Rng, count: int, gap: int) -> list[int]:
    """Tasks of one new machine, all of one duration, with equal gaps."""
    machine, duration, start = draft.resource(Machine(draft.name("machine"))), upto(rng, 5), upto(rng, 20)
    return [draft.task(start + number * (duration + gap), duration, Demand(machine)) for number in range(count)]


def broken_overlap(draft: Draft, rng: Rng) -> Change:
    gap = upto(rng, 3, 0)
    tasks = row_of_tasks(draft, rng, upto(rng, 4, 2), gap)
    duration = draft.tasks[tasks[-1]].modes[0].duration
    return moved_by(draft, tasks[-1], -gap - upto(rng, duration))


def broken_setup(draft: Draft, rng: Rng) -> Change:
    states = random_setups(rng, 3)
    machine = draft.resource(Machine(draft.name("machine"), setup=states))
    before, after = (int(state) for state in rng.choice(3, 2, replace=False))
    start, duration, spare = upto(rng, 20), upto(rng, 5), upto(rng, 3, 0)
    draft.task(start, duration, Demand(machine, state=before))
    task = draft.task(start + duration + states[before][after] + spare, duration, Demand(machine, state=after))
    return moved_by(draft, task, -spare - upto(rng, states[before][after]))


def broken_initial_state(draft: Draft, rng: Rng) -> Change:
    states = random_setups(rng, 3)
    before, after = (int(state) for state in rng.choice(3, 2, replace=False))
    kind = Machine if rng.random() < 0.5 else State
    resource = draft.resource(kind(draft.name("resource"), setup=states, initial=before))
    spare = upto(rng, 3, 0)
    task = draft.task(states[before][after] + spare, upto(rng, 5), Demand(resource, state=after))
    return moved_by(draft, task, -spare - upto(rng, states[before][after]))


def broken_no_idle(draft: Draft, rng: Rng) -> Change:
    states = random_setups(rng, 2)
    machine = draft.resource(Machine(draft.name("machine"), setup=states, no_idle=True))
    time, state, task = upto(rng, 20), 0, -1
    for _ in range(upto(rng, 4, 2)):
        needed, duration = int(rng.integers(2)), upto(rng, 5)
        time += states[state][needed] if task >= 0 else 0
        task = draft.task(time, duration, Demand(machine, state=needed))
        time, state = time + duration, needed
    return moved_by(draft, task, upto(rng, 9))


def broken_capacity(draft: Draft, rng: Rng) -> Change:
    """Two profiles whose peaks do not fit at one time come to do so."""
    peaks = (upto(rng, 5, 2), upto(rng, 5, 2))
    crew = draft.resource(Renewable(draft.name("crew"), max(peaks)))
    durations, starts = (upto(rng, 9, 2), upto(rng, 9, 2)), (upto(rng, 9), 40)
    peak_at = [upto(rng, duration, 1) - 1 for duration in durations]
    tasks = []
    for start, duration, peak, at in zip(starts, durations, peaks, peak_at, strict=True):
        profile = (Demand(crew, peak, at, at + 1), Demand(crew, 1, at + 1))
        tasks.append(draft.task(start, duration, *profile))
    start = starts[0] + peak_at[0] - peak_at[1]  # both peaks at one time
    if start < 0:
        return span(tasks[0], starts[1] + peak_at[1] - peak_at[0], starts[1] + peak_at[1] - peak_at[0] + durations[0])
    return span(tasks[1], start, start + durations[1])


def broken_stock(draft: Draft, rng: Rng) -> Change:
    """A task takes what is delivered, or made by another task, before it is there."""
    amount, time, duration = upto(rng, 5), upto(rng, 20, 10), upto(rng, 5)
    made = bool(rng.random() < 0.5)
    supplies = () if made else ((time, amount),)
    stock = draft.resource(Consumable(draft.name("stock"), upto(rng, 3) - 1, supplies))
    whole = amount + draft.resources[stock].capacity  # type: ignore[union-attr]
    if made:
        draft.task(time - duration, duration, Demand(stock, -amount))
    task = draft.task(time + upto(rng, 4, 0), duration, Demand(stock, whole))
    start = time - upto(rng, 9)
    return span(task, start, start + duration)


def broken_address_range(draft: Draft, rng: Rng) -> Change:
    size, length = upto(rng, 20, 10), upto(rng, 9)
    memory = draft.resource(AddressRange(draft.name("memory"), size))
    task = draft.task(upto(rng, 20), upto(rng, 5), Demand(memory, length), address=upto(rng, size - length, 0))
    return entry("address", task, size - length + upto(rng, 9) if rng.random() < 0.5 else -upto(rng, 9))


def broken_address_overlap(draft: Draft, rng: Rng) -> Change:
    """Of some blocks in use at one time, one moves onto its neighbour."""
    lengths = [upto(rng, 5) for _ in range(upto(rng, 5, 2))]
    memory = draft.resource(AddressRange(draft.name("memory"), sum(lengths)))
    at, moment = 0, upto(rng, 20, 10)
    for length in lengths:
        start = moment - upto(rng, 5, 0)
        task = draft.task(start, moment + upto(rng, 5) - start, Demand(memory, length), address=at)
        at += length
    return entry("address", task, at - lengths[-1] - upto(rng, lengths[-2]))


def broken_state(draft: Draft, rng: Rng) -> Change:
    """Two tasks in different states come too close, or overlap."""
    states = random_setups(rng, 3)
    oven = draft.resource(State(draft.name("oven"), states))
    before, after = (int(state) for state in rng.choice(3, 2, replace=False))
    start, duration = upto(rng, 20), upto(rng, 5)
    draft.task(start, duration, Demand(oven, state=before))
    setup = states[before][after]
    task = draft.task(start + duration + setup, upto(rng, 5), Demand(oven, state=after))
    draft.task(start + duration + setup, duration, Demand(oven, state=after))
    return moved_by(draft, task, -upto(rng, setup + duration - 1))


def resources_of_pair(draft: Draft, rng: Rng, same: bool) -> Change:
    crews = [draft.resource(Renewable(draft.name("crew"), 100)) for _ in range(3)]
    duration = upto(rng, 5)
    together = Mode(duration, (Demand(crews[0]), Demand(crews[1])))
    reverse = Mode(duration, (Demand(crews[1]), Demand(crews[0])))
    other = Mode(duration, (Demand(crews[2]),))
    first = draft.task(upto(rng, 20), duration, modes=(together,))
    second = draft.task(upto(rng, 20), duration, modes=(reverse, other), mode=0 if same else 1)
    draft.add("same_resources", SameResources(first, second, same))
    return entry("mode", second, 1 if same else 0)


def broken_consecutive(draft: Draft, rng: Rng) -> Change:
    """A third task comes between the two, or they change places."""
    first, second, third = row_of_tasks(draft, rng, 3, 6)
    draft.add("consecutive", Consecutive(first, second))
    start = draft.columns["start"]
    duration = draft.tasks[first].modes[0].duration
    if rng.random() < 0.5:
        between = start[first] + duration + upto(rng, 6 - duration, 0)
        return span(third, between, between + duration)
    return moved_by(draft, first, start[third] - start[first] + duration)


def broken_same_sequence(draft: Draft, rng: Rng) -> Change:
    count = upto(rng, 4, 2)
    first, second = (row_of_tasks(draft, rng, count, upto(rng, 3, 0)) for _ in range(2))
    machines = [draft.tasks[row[0]].modes[0].demands[0].resource for row in (first, second)]
    order = rng.permutation(count)
    rows = [tuple(row[place] for place in order) for row in (first, second)]
    draft.add("same_sequences", SameSequence(machines[0], machines[1], rows[0], rows[1]))
    one, other = (second[int(place)] for place in rng.choice(count, 2, replace=False))
    changes = [
        moved_by(draft, a, draft.columns["start"][b] - draft.columns["start"][a])
        for a, b in ((one, other), (other, one))
    ]

    def change(columns: dict[str, list[int]]) -> None:
        for each in changes:
            each(columns)

    return change
