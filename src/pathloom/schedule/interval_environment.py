"""Building schedules by fixing interval variables one after another, many at a time.

Every operation is an interval variable with a least start. Two propagators raise it: end-before-start along the jobs,
and no-overlap on the machines, which pushes intervals that are not fixed past those that are. The time of an episode is
the least start of all next operations; a decision either fixes one of the operations that can start now, or waits:
then nothing starts before the second smallest of these least starts. Times so never run backwards, and every
semi-active schedule can be reached (each operation of one starts when its job's previous or its machine's previous one
ends, and then that is its least start).

Operations may have alternatives (machine and duration); fixing one chooses it. A job shop is the case of one
alternative each.

The decisions are those of P. Tassel, M. Gebser, K. Schekotihin, "An End-to-End Reinforcement Learning Approach for
Job-Shop Scheduling Problems Based on Constraint Programming", ICAPS 2023, section on the environment. Departures:

- an observation has a row for each next operation on a machine that some operation can take now, because no other job
  takes part in the decision;
- beside its least start an interval shows its latest one, as the same propagators give it from the other side: the
  slack of its job's chain and that of its machine's no-overlap, each for the least horizon that this propagator
  alone does not refute; and an alternative how much later it ends than the operation can. All of these are domains
  of interval variables, not quantities made for shops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule import _interval_kernels as kernels
from pathloom.schedule.shops import FlexibleShop, Ints, JobShop

WAIT = -1
WINDOW = 5
"""Intervals of a job in a row of an observation: the last fixed one, and the next ones."""
VALUES = 5
KINDS = 5
RULES = ("SPT", "MWKR", "MOR", "FIFO")
"""Shortest processing time, most work remaining, most operations remaining, first come (to the machine) first."""

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observation:
    """What a policy sees of several episodes, rows of all of them one after another.

    Attributes
    ----------
    kind
        Shape (rows, WINDOW), int8: what stands in each place of a row: 0 before the job's first operation, 1 after its
        last one, 2 fixed interval, 3 open interval, 4 open interval that can be fixed now.
    position
        Shape (rows, WINDOW), int16: number of the operation plus 1, counted from that of the least advanced job.
    values
        Shape (rows, WINDOW, VALUES): least start less the present time, duration, slack of the chain, slack of the
        no-overlap, and by how much this alternative of the next operation ends after that which ends first (always 0
        in job shops). Durations are standardised by the shop's mean and deviation, times x are
        sign(x) log(1 + |x| / mean duration); slacks of fixed intervals are 0.
    legal, action
        Shape (rows,): whether it can be fixed now, and the alternative that this is.
    group_start
        Shape (groups + 1,): rows of the same episode that want the same machine.
    row_start, episode_group
        Shape (episodes + 1,): the rows, and the groups, of each episode.
    may_wait
        Shape (episodes,).
    """

    kind: NDArray[np.int8]
    position: NDArray[np.int16]
    values: Floats
    legal: Flags
    action: Ints
    group_start: Ints
    row_start: Ints
    episode_group: Ints
    may_wait: Flags

    @property
    def episodes(self) -> int:
        return len(self.may_wait)

    def select(self, episodes: NDArray[np.integer]) -> Observation:
        """The observation of some of the episodes, in the order asked for."""
        rows, row_start = _ranges(self.row_start, episodes)
        groups, episode_group = _ranges(self.episode_group, episodes)
        sizes = np.diff(self.group_start)[groups]
        return Observation(
            self.kind[rows],
            self.position[rows],
            self.values[rows],
            self.legal[rows],
            self.action[rows],
            _summed(sizes),
            row_start,
            episode_group,
            self.may_wait[episodes],
        )

    @classmethod
    def joined(cls, parts: Sequence[Observation]) -> Observation:
        """All episodes of several observations as one."""

        def offsets(name: str) -> Ints:
            return _summed(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

        def arrays(name: str) -> NDArray:
            return np.concatenate([getattr(part, name) for part in parts])

        return cls(
            arrays("kind"),
            arrays("position"),
            arrays("values"),
            arrays("legal"),
            arrays("action"),
            offsets("group_start"),
            offsets("row_start"),
            offsets("episode_group"),
            arrays("may_wait"),
        )


@dataclass(frozen=True, eq=False)
class Snapshot:
    """State of all episodes of an `IntervalEnvironment`, to come back to."""

    arrays: tuple[NDArray, ...]


class IntervalEnvironment:
    """Episodes over job shops and flexible job shops, stepped together.

    Parameters
    ----------
    shops
        What to schedule. `JobShop.blocking` and `JobShop.no_wait` are not stated here and must be False.
    episodes
        Shape (episodes,): position in `shops` of what each episode schedules; one each if left out.
    available
        Shape (machines of all shops,): from when each machine can be used; 0 if left out.

    Raises
    ------
    ValueError
        If a shop is blocking or without waiting, or an operation has no alternative.

    Notes
    -----
    Actions are numbers of alternatives of the episode's own shop (of a job shop: of operations), or `WAIT`.
    """

    def __init__(
        self,
        shops: Sequence[JobShop | FlexibleShop],
        episodes: Sequence[int] | NDArray[np.integer] | None = None,
        *,
        available: Ints | None = None,
    ) -> None:
        self.shops = tuple(shops)
        self.shop_of = np.arange(len(shops)) if episodes is None else np.asarray(episodes, np.int64)
        self._pack, self._release, self._alternatives = _pack(self.shops)
        machines = int(self._pack[2][-1])
        self._available = np.zeros(machines, np.int64) if available is None else np.asarray(available, np.int64)
        if len(self._available) != machines:
            raise ValueError(f"available: expected {machines} times, one a machine, found {len(self._available)}")
        self._first_action = self._alternatives[self.shop_of]
        self._state = _state(self._pack, self.shop_of)
        self.reset()

    @property
    def episodes(self) -> int:
        return len(self.shop_of)

    def reset(self) -> None:
        """Put all episodes at their beginning."""
        kernels.reset(self._pack, self._state, self._release, self._available)

    @property
    def left(self) -> Ints:
        """Shape (episodes,): operations that are not fixed yet."""
        return self._state[13].copy()

    @property
    def active(self) -> Ints:
        """Episodes that are not finished."""
        return np.flatnonzero(self._state[13])

    @property
    def now(self) -> Ints:
        """Shape (episodes,): time of each episode; meaningless once it is finished."""
        return self._state[11].copy()

    @property
    def makespan(self) -> Ints:
        """Shape (episodes,): latest end of a fixed operation."""
        return self._state[14].copy()

    def earliest(self, episode: int) -> tuple[Ints, Ints]:
        """From when each job (end of its last fixed operation, or release) and each machine can go on; ``max(., now)``
        is what binds an operation."""
        p = self.shop_of[episode]
        jobs, machines = (int(self._pack[k][p + 1] - self._pack[k][p]) for k in (0, 2))
        job, machine = int(self._state[1][episode]), int(self._state[3][episode])
        return self._state[5][job : job + jobs].copy(), self._state[6][machine : machine + machines].copy()

    def schedule(self, episode: int) -> tuple[Ints, NDArray[np.int32]]:
        """Start and alternative (a number of the shop's own) of each operation; -1 where it is not fixed."""
        p = self.shop_of[episode]
        count = int(self._pack[1][p + 1] - self._pack[1][p])
        first = int(self._state[2][episode])
        chosen = self._state[9][first : first + count]
        own = np.where(chosen < 0, -1, chosen - self._alternatives[p]).astype(np.int32)
        return self._state[8][first : first + count].copy(), own

    def step(self, actions: NDArray[np.integer], episodes: NDArray[np.integer] | None = None) -> None:
        """Carry out one action each in some episodes (all active ones if left out).

        Raises
        ------
        ValueError
            If an action is not legal; those of the episodes before it have been carried out.
        """
        chosen = self.active if episodes is None else np.asarray(episodes, np.int64)
        asked = np.asarray(actions, np.int64)
        if len(asked) != len(chosen):
            raise ValueError(f"expected {len(chosen)} actions, one an episode, found {len(asked)}")
        moved = np.where(asked < 0, asked, asked + self._first_action[chosen])
        wrong = kernels.act_all(self._pack, self._state, chosen, moved)
        if wrong >= 0:
            raise ValueError(
                f"episode {chosen[wrong]}: action {asked[wrong]} is not legal at time {self.now[chosen[wrong]]}"
            )

    def replay(self, episode: int, actions: NDArray[np.integer]) -> int:
        """Carry out actions one after another in one episode; returns how many were legal before the first that is
        not (or all)."""
        asked = np.asarray(actions, np.int64)
        moved = np.where(asked < 0, asked, asked + self._first_action[episode])
        return int(kernels.replay(self._pack, self._state, episode, moved))

    def legal(self, episode: int) -> list[int]:
        """Legal actions of an episode, `WAIT` last."""
        if self._state[13][episode] == 0:
            return []
        seen = self.observe(np.array([episode]))
        found = sorted(int(a) for a in seen.action[seen.legal])
        return [*found, WAIT] if seen.may_wait[0] else found

    def observe(self, episodes: NDArray[np.integer] | None = None) -> Observation:
        """What a policy sees of some episodes, none of them finished (all active ones if left out)."""
        chosen = self.active if episodes is None else np.asarray(episodes, np.int64)
        row_start = np.zeros(len(chosen) + 1, np.int64)
        episode_group = np.zeros(len(chosen) + 1, np.int64)
        kernels.count_rows(self._pack, self._state, chosen, row_start, episode_group)
        rows = int(row_start[-1])
        group_start = np.zeros(int(episode_group[-1]) + 1, np.int64)
        kind = np.empty((rows, WINDOW), np.int8)
        position = np.empty((rows, WINDOW), np.int16)
        values = np.zeros((rows, WINDOW, VALUES), np.float32)
        legal = np.empty(rows, np.bool_)
        action = np.empty(rows, np.int64)
        arrays = (row_start, episode_group, group_start, kind, position, values, legal, action)
        kernels.observe(self._pack, self._state, chosen, *arrays)
        action -= np.repeat(self._first_action[chosen], np.diff(row_start))
        may_wait = self._state[12][chosen] >= 0
        return Observation(kind, position, values, legal, action, group_start, row_start, episode_group, may_wait)

    def finish_by_rule(self, rule: str, *, patient: bool = False, episodes: NDArray[np.integer] | None = None) -> None:
        """Finish episodes by one of `RULES`; ties go to the first job, and within a job to the shorter duration.

        No machine waits while it could work; with `patient` each job takes only the alternative that would end first
        (which matters in flexible shops only).
        """
        if rule not in RULES:
            raise ValueError(f"expected a rule out of {', '.join(RULES)}, found {rule!r}")
        for episode in self.active if episodes is None else episodes:
            kernels.run_rule(self._pack, self._state, int(episode), RULES.index(rule), patient)

    def snapshot(self) -> Snapshot:
        """The present state of all episodes."""
        return Snapshot(tuple(array.copy() for array in self._state))

    def restore(self, snapshot: Snapshot) -> None:
        """Come back to a state of this environment, or of one over the same shops and episodes."""
        for mine, kept in zip(self._state, snapshot.arrays, strict=True):
            if mine.shape != kept.shape:
                raise ValueError("the snapshot is of other shops or episodes")
        for mine, kept in zip(self._state, snapshot.arrays, strict=True):
            mine[:] = kept

    def clone(self, source: int, targets: Sequence[int] | NDArray[np.integer]) -> None:
        """Copy the state of one episode to others of the same shop."""
        p = self.shop_of[source]
        sizes = [int(self._pack[k][p + 1] - self._pack[k][p]) for k in (0, 1, 2)]
        for target in targets:
            if self.shop_of[target] != p:
                raise ValueError(f"episode {target} is of shop {self.shop_of[target]}, episode {source} of shop {p}")
            for offsets, size, arrays in zip((1, 2, 3), sizes, ((4, 5), (8, 9), (6, 7)), strict=True):
                there, here = int(self._state[offsets][target]), int(self._state[offsets][source])
                for array in arrays:
                    self._state[array][there : there + size] = self._state[array][here : here + size]
            for array in range(10, 15):
                self._state[array][target] = self._state[array][source]


def _summed(sizes: NDArray[np.integer]) -> Ints:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))


def _ranges(starts: Ints, chosen: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """The numbers of all entries of the chosen ranges, and where each range begins among them."""
    sizes = np.diff(starts)[chosen]
    summed = _summed(sizes)
    return np.repeat(starts[chosen] - summed[:-1], sizes) + np.arange(summed[-1]), summed


def _pack(shops: Sequence[JobShop | FlexibleShop]) -> tuple[tuple[NDArray, ...], Ints, Ints]:
    """The shops' arrays one after another, their releases, and where the alternatives of each begin."""
    job_op, op_alt, alt_machine, alt_duration, release = [], [], [], [], []
    jobs, operations, machines, alternatives = [0], [0], [0], [0]
    scale = np.ones((len(shops), 2))
    for p, shop in enumerate(shops):
        if isinstance(shop, JobShop):
            if shop.blocking or shop.no_wait:
                raise ValueError("expected a shop whose jobs may wait anywhere, found a blocking or no-wait one")
            first: NDArray[np.integer] = np.arange(shop.operations + 1)
            machine, duration = shop.machine, shop.duration
        else:
            first, machine, duration = shop.alternative_start, shop.alternative_machine, shop.alternative_duration
            if (np.diff(first) < 1).any():
                raise ValueError("expected at least one alternative for every operation")
        job_op.append(shop.job_start[:-1].astype(np.int64) + operations[-1])
        op_alt.append(first[:-1].astype(np.int64) + alternatives[-1])
        alt_machine.append(machine.astype(np.int64) + machines[-1])
        alt_duration.append(duration.astype(np.int64))
        release.append(shop.release.astype(np.int64))
        if len(duration):
            scale[p] = (
                max(float(duration.mean()), 1e-9),
                max(float(duration.std()), 1e-3 * float(duration.mean()), 1e-9),
            )
        jobs.append(jobs[-1] + shop.jobs)
        operations.append(operations[-1] + shop.operations)
        machines.append(machines[-1] + shop.machines)
        alternatives.append(alternatives[-1] + len(duration))

    def whole(parts: list[Ints], last: list[int]) -> Ints:
        return np.concatenate([*parts, np.array(last, np.int64)])

    starts, first_alternative = whole(job_op, [operations[-1]]), whole(op_alt, [alternatives[-1]])
    durations = whole(alt_duration, [])
    least = np.minimum.reduceat(durations, first_alternative[:-1]) if operations[-1] else np.zeros(0, np.int64)
    op_job = np.repeat(np.arange(jobs[-1]), np.diff(starts))
    work = _summed(least)
    rest = work[starts[1:]][op_job] - work[:-1]
    alt_op = np.repeat(np.arange(operations[-1]), np.diff(first_alternative))
    offsets = [np.array(part, np.int64) for part in (jobs, operations, machines)]
    pack = (*offsets, starts, first_alternative, whole(alt_machine, []), durations, alt_op, op_job, rest, scale)
    return pack, whole(release, []), np.array(alternatives, np.int64)


def _state(pack: tuple[NDArray, ...], shop_of: Ints) -> tuple[NDArray, ...]:
    """Arrays of the episodes; the kernels name them."""
    job, operation, machine = (_summed(np.diff(pack[k])[shop_of]) for k in (0, 1, 2))
    count = len(shop_of)
    return (
        shop_of,
        job,
        operation,
        machine,
        np.zeros(job[-1], np.int64),
        np.zeros(job[-1], np.int64),
        np.zeros(machine[-1], np.int64),
        np.zeros(machine[-1], np.float64),
        np.zeros(operation[-1], np.int64),
        np.zeros(operation[-1], np.int64),
        *(np.zeros(count, np.int64) for _ in range(5)),
    )
