"""The teacher: CP-SAT finishes a schedule from some decision on, and its answer is read back as decisions.

After Tassel et al. (ICAPS 2023), section on training. What the pupil has fixed before the decision stays; the solver
gets the pupil's own rest as a hint and cannot do worse than it. Departure: their second solver call, which moves
everything as early as it goes, is one pass here that puts the operations in order of the found starts into the first
gap of their machine that takes them: none of them starts later than found, because the place found for it is free.
On whole shops the hint may be the schedule of a short tabu search (`searched`), which is close to the best one in a
tenth of a second where the solver alone would need minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.flexible_shop_construction import flexible_shop_start
from pathloom.schedule.flexible_shop_tabu import FlexibleTabu
from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.interval_environment import WAIT, IntervalEnvironment, Observation
from pathloom.schedule.job_shop_search import job_shop_search
from pathloom.schedule.shops import FlexibleShop, Ints, JobShop, Positions

_FOREVER = 3600.0
_RULES = ("mwkr", "mor")
_UNREACHABLE = "the lesson cannot be reached from the state of the episode"


@dataclass(frozen=True, eq=False)
class Lesson:
    """A complete schedule that agrees with a pupil's first decisions.

    Attributes
    ----------
    makespan
        Of the whole schedule.
    start, alternative
        Shape (operations,): start and chosen alternative, of the pupil where it had fixed them.
    optimal
        Whether the solver proved that nothing better begins with these decisions.
    """

    makespan: int
    start: Ints
    alternative: NDArray[np.int32]
    optimal: bool


@dataclass(frozen=True, eq=False)
class _Alternatives:
    """Alternatives of a shop of either kind: those of operation o are ``first[o]:first[o + 1]``."""

    first: Ints
    machine: Ints
    duration: Ints


def _alternatives(shop: JobShop | FlexibleShop) -> _Alternatives:
    if isinstance(shop, JobShop):
        return _Alternatives(np.arange(shop.operations + 1), shop.machine.astype(np.int64), shop.duration)
    return _Alternatives(
        shop.alternative_start.astype(np.int64), shop.alternative_machine.astype(np.int64), shop.alternative_duration
    )


def teach(
    environment: IntervalEnvironment,
    episode: int,
    *,
    effort: float,
    hint: tuple[Ints, NDArray[np.int32]] | None = None,
    seed: int = 0,
) -> Lesson | None:
    """Finish an episode of the environment, which is left as it is, as well as CP-SAT can.

    Parameters
    ----------
    effort
        Limit in CP-SAT's deterministic time (roughly seconds of one core), so that equal calls give equal lessons.
    hint
        Start and alternative of every operation of a known schedule with the same beginning; the lesson is not worse.
    seed
        Of the solver.

    Returns
    -------
    Lesson | None
        None if nothing was found in time and there is no hint.
    """
    from ortools.sat.python import cp_model

    shop = environment.shops[environment.shop_of[episode]]
    ways = _alternatives(shop)
    fixed_start, fixed_way = environment.schedule(episode)
    ready, free = environment.earliest(episode)
    now = int(environment.now[episode]) if (fixed_start < 0).any() else 0
    done = int(environment.makespan[episode])
    horizon = (
        _makespan(ways, *hint) if hint is not None else int(max(ready.max(), free.max(), now) + ways.duration.sum())
    )

    model = cp_model.CpModel()
    end = model.new_int_var(done, horizon, "")
    starts: dict[int, cp_model.IntVar] = {}
    chosen: dict[int, cp_model.IntVar] = {}
    on_machine: list[list[cp_model.IntervalVar]] = [[] for _ in range(shop.machines)]
    for job in range(shop.jobs):
        previous: cp_model.LinearExpr | int = max(int(ready[job]), now)
        for o in range(int(shop.job_start[job]), int(shop.job_start[job + 1])):
            if fixed_start[o] >= 0:
                continue
            options = range(int(ways.first[o]), int(ways.first[o + 1]))
            starts[o] = model.new_int_var(now, horizon, "")
            model.add(starts[o] >= previous)
            if len(options) == 1:
                way = options[0]
                fixed_length = int(ways.duration[way])
                on_machine[ways.machine[way]].append(model.new_fixed_size_interval_var(starts[o], fixed_length, ""))
                model.add(starts[o] >= int(free[ways.machine[way]]))
                previous = starts[o] + fixed_length
            else:
                durations = ways.duration[options.start : options.stop]
                length = model.new_int_var(int(durations.min()), int(durations.max()), "")
                for way in options:
                    chosen[way] = model.new_bool_var("")
                    part = model.new_optional_fixed_size_interval_var(
                        starts[o], int(ways.duration[way]), chosen[way], ""
                    )
                    on_machine[ways.machine[way]].append(part)
                    model.add(starts[o] >= int(free[ways.machine[way]])).only_enforce_if(chosen[way])
                    model.add(length == int(ways.duration[way])).only_enforce_if(chosen[way])
                model.add_exactly_one(chosen[way] for way in options)
                previous = starts[o] + length
        if not isinstance(previous, int):
            model.add(end >= previous)
    for intervals in on_machine:
        model.add_no_overlap(intervals)
    model.minimize(end)
    if hint is not None:
        for o, variable in starts.items():
            model.add_hint(variable, int(hint[0][o]))
        for way, flag in chosen.items():
            model.add_hint(flag, int(way in hint[1]))
        model.add_hint(end, horizon)

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = effort
    # Without the linear relaxation, small shops close several times faster.
    solver.parameters.linearization_level = 0
    solver.parameters.catch_sigint_signal = False
    status = solver.solve(model)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        start, way_of = fixed_start.copy(), fixed_way.copy()
        for o, variable in starts.items():
            start[o] = solver.value(variable)
            options = range(int(ways.first[o]), int(ways.first[o + 1]))
            way_of[o] = next((way for way in options if way in chosen and solver.value(chosen[way])), options[0])
    elif hint is not None:
        start, way_of = hint[0].copy(), hint[1].copy()
    else:
        return None
    start = _moved_early(shop, ways, start, way_of, fixed_start >= 0, np.maximum(ready, now), np.maximum(free, now))
    return Lesson(_makespan(ways, start, way_of), start, way_of, status == cp_model.OPTIMAL)


def searched(environment: IntervalEnvironment, moves: int) -> tuple[Ints, NDArray[np.int32]]:
    """Start and alternative of every operation of the only shop of an environment, by tabu search.

    Parameters
    ----------
    moves
        Of the search; equal calls give equal schedules, however busy the machine is.
    """
    shop = environment.shops[0]
    if isinstance(shop, JobShop):
        found: Incumbent[Ints] = Incumbent(_FOREVER, copy=np.copy)
        job_shop_search(shop, found, moves=moves)
        assert found.solution is not None
        return found.solution, np.arange(shop.operations, dtype=np.int32)
    best: tuple[int, Ints, Positions] | None = None
    tabu = FlexibleTabu(shop)
    for rule in _RULES:
        tabu.load_start(*flexible_shop_start(shop, rule))
        tabu.run(moves // len(_RULES), moves)
        if best is None or tabu.best < best[0]:
            alternative, start = tabu.schedule(tabu.best_choice, tabu.best_order)
            best = tabu.best, start, alternative
    assert best is not None
    return best[1], best[2]


def decisions(
    environment: IntervalEnvironment, episode: int, lesson: Lesson, generator: np.random.Generator
) -> tuple[Observation, NDArray[np.bool_], Ints]:
    """Carry a lesson out in an episode, and say what was seen and what could have been done at each decision.

    Operations that start at the same time are fixed in random order, and each of those left is as good an answer as
    any other.

    Returns
    -------
    tuple
        The observations (one a decision); for each of their rows whether the lesson starts it at that time (where
        none of a decision's rows is, it waits); the actions taken.

    Raises
    ------
    ValueError
        If the lesson does not begin with what the episode has fixed, or is no semi-active schedule.
    """
    seen: list[Observation] = []
    wanted: list[NDArray[np.bool_]] = []
    actions: list[int] = []
    shop = environment.shops[environment.shop_of[episode]]
    operation = _operation_of(shop)
    duration = _alternatives(shop).duration
    only = np.array([episode])
    while environment.left[episode]:
        view = environment.observe(only)
        o = operation[view.action]
        good = view.legal & (lesson.start[o] == environment.now[episode]) & (lesson.alternative[o] == view.action)
        options = np.flatnonzero(good)
        # An operation of no duration does not keep its machine from one that starts at the same time, if it goes first.
        if len(brief := options[duration[view.action[options]] == 0]):
            options = brief
        action = int(view.action[generator.choice(options)]) if len(options) else WAIT
        if action == WAIT and not view.may_wait[0]:
            raise ValueError(_UNREACHABLE)
        environment.step(np.array([action]), only)
        seen.append(view)
        wanted.append(good)
        actions.append(action)
    start, alternative = environment.schedule(episode)
    if not (np.array_equal(start, lesson.start) and np.array_equal(alternative, lesson.alternative)):
        raise ValueError(_UNREACHABLE)
    return Observation.joined(seen), np.concatenate(wanted), np.array(actions, np.int64)


def _operation_of(shop: JobShop | FlexibleShop) -> Ints:
    if isinstance(shop, JobShop):
        return np.arange(shop.operations)
    return np.repeat(np.arange(shop.operations), np.diff(shop.alternative_start))


def _makespan(ways: _Alternatives, start: Ints, alternative: NDArray[np.int32]) -> int:
    return int((start + ways.duration[alternative]).max(initial=0))


def _moved_early(
    shop: JobShop | FlexibleShop,
    ways: _Alternatives,
    start: Ints,
    alternative: NDArray[np.int32],
    fixed: NDArray[np.bool_],
    ready: Ints,
    free: Ints,
) -> Ints:
    """Starts with every open operation in the first gap of its machine that takes it, in order of the given starts."""
    moved = start.copy()
    ends = ready.copy()
    job_of = shop.job
    busy: list[list[tuple[int, int]]] = [[] for _ in range(shop.machines)]
    duration = ways.duration[alternative]
    # At equal starts those of no duration come first, as they must on the same machine; then along the job.
    for o in np.lexsort((np.arange(len(start)), duration, start)).tolist():
        if fixed[o]:
            continue
        job, machine, length = int(job_of[o]), int(ways.machine[alternative[o]]), int(duration[o])
        at = max(int(ends[job]), int(free[machine]))
        place = 0
        for place, (begin, end) in enumerate(busy[machine]):  # noqa: B007
            if at + length <= begin:
                break
            at = max(at, end)
        else:
            place = len(busy[machine])
        busy[machine].insert(place, (at, at + length))
        moved[o] = at
        ends[job] = at + length
    return moved
