"""The simulator of a shop floor, and the one protocol by which anything decides on it.

The problem is that of "Generating Dispatching Rules for the Interrupting Swap-Allowed Blocking Job Shop Problem Using
Graph Neural Network and Reinforcement Learning" (J. Manuf. Sci. Eng. 146(1), 2024, arXiv 2302.02506): a finished job
stays on its machine until the next one is free, jobs that wait for each other in a circle may swap, machines break
down. The shop's flags choose the kind: blocking with swaps, blocking without, or (not blocking) unlimited buffers.

Rules of the floor:

- A machine takes a job when it is empty and works. A job leaves a broken machine if it was done there.
- Jobs in a circle of waiting swap as soon as all their machines work; nothing else could ever move them.
- Without swaps only moves are offered that a banker's test finds safe, so that no circle ever closes.
- Operations on a machine that breaks down stop, and resume or restart after the repair. The job stays there.

Departures from the paper, which leaves some of it open: the chance of a breakdown is drawn at every instant at which an
operation ends or a job arrives (not at repairs, which would feed on themselves), the distribution of the repair times
is a parameter, failures may come by the clock as well, and a decision may hold a machine empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError, NoPlanFound
from pathloom.schedule.shops import JobShop
from pathloom.worlds.shop.online import _floor_kernels as kernels
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online.disturbances import Disturbances
from pathloom.worlds.shop.online.floor_run import FloorRun, finished_run
from pathloom.worlds.shop.online.rules import RULES, Rule
from pathloom.worlds.shop.online.view import HOLD, Decision, View
from pathloom.worlds.shop.online.waiting import circles, wait_for_graph

__all__ = [
    "HOLD",
    "Deadlock",
    "Decision",
    "Disturbances",
    "Floor",
    "FloorRun",
    "View",
    "follow",
    "simulate",
    "simulate_many",
]


class Deadlock(NoPlanFound):
    """Jobs wait for each other in a circle that cannot swap; only without swaps and without the safety test."""


class Floor:
    """A batch of runs, of one shop or of many, that are asked for and given decisions.

    Parameters
    ----------
    shops
        One shop a run.
    disturbances
        The same for all runs, or one a run.
    seeds
        One a run, at least 0.
    safe
        Without swaps: whether only moves that pass the banker's test are offered.
    ask_single
        Whether decisions with one candidate are asked for as well, which matters to those that may hold.
    stop_broken
        Whether `advance` stops after each breakdown.
    log_rows
        Rows of the log to begin with; 0 for no log and no timeline. The log grows as needed.
    shape
        Least numbers of jobs, machines and operations that the arrays have room for.

    Attributes
    ----------
    batch
        The arrays (`_floor_kernels.Run` with one more axis in front).
    """

    def __init__(
        self,
        shops: Sequence[JobShop],
        disturbances: Disturbances | Sequence[Disturbances],
        seeds: Sequence[int] | NDArray[np.int64],
        *,
        safe: bool = True,
        ask_single: bool = False,
        stop_broken: bool = False,
        log_rows: int = 0,
        shape: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        self.shops = list(shops)
        runs = len(self.shops)
        jobs = max(shape[0], *(shop.jobs for shop in self.shops))
        machines = max(shape[1], *(shop.machines for shop in self.shops))
        operations = max(shape[2], *(shop.operations for shop in self.shops))
        trouble = [disturbances] * runs if isinstance(disturbances, Disturbances) else list(disturbances)
        if len(trouble) != runs or len(seeds) != runs:
            raise InputError(f"{len(trouble)} disturbances and {len(seeds)} seeds for {runs} shops", key="seeds")

        def zeros(*shape: int) -> NDArray[np.int64]:
            return np.zeros((runs, *shape), dtype=np.int64)

        self.batch = state.Run(
            first=zeros(jobs + 1),
            on=zeros(operations),
            nominal=zeros(operations),
            actual=zeros(operations),
            work=zeros(operations),
            rank=zeros(operations),
            arrival=zeros(jobs),
            by_arrival=zeros(jobs),
            trouble=np.zeros((runs, 5)),
            job=zeros(jobs, 3),
            machine=zeros(machines, state.MACHINE_COLUMNS),
            operation=zeros(operations, 3),
            served=zeros(machines),
            way=zeros(operations),
            whole=zeros(state.WHOLE_ENTRIES),
            log=zeros(log_rows, 6),
        )
        self._flags = (safe, ask_single, stop_broken)
        self.disturbances = trouble
        for b in range(runs):
            self._fill(b, self.shops[b], trouble[b], int(seeds[b]))
        kernels.begin_all(self.batch)

    def _fill(self, b: int, shop: JobShop, trouble: Disturbances, seed: int) -> None:
        if seed < 0:
            raise InputError(f"is {seed}, expected at least 0", key="seed")
        if shop.no_wait:
            raise InputError("a floor with disturbances cannot promise that no job waits", key="no_wait")
        if (shop.duration < 0).any():
            raise InputError("a duration is negative", key="duration")
        jobs, operations, batch = shop.jobs, shop.operations, self.batch
        batch.first[b] = operations
        batch.first[b, : jobs + 1] = shop.job_start
        batch.on[b, :operations] = shop.machine
        batch.nominal[b, :operations] = shop.duration
        batch.actual[b, :operations] = trouble.durations(shop, seed)
        batch.work[b, :operations] = shop.tail + shop.duration
        arrival = trouble.arrivals(shop, seed)
        batch.arrival[b, :jobs] = arrival
        batch.by_arrival[b, :jobs] = np.argsort(arrival, kind="stable")
        batch.trouble[b] = (
            trouble.breakdown_chance,
            trouble.mean_time_between_failures or 0.0,
            trouble.repair_mean(shop),
            ("fixed", "geometric", "exponential").index(trouble.repair),
            trouble.after_repair == "restart",
        )
        whole = batch.whole[b]
        whole[state.SEED], whole[state.JOBS], whole[state.MACHINES] = seed, jobs, shop.machines
        whole[state.BLOCKING], whole[state.SWAP] = shop.blocking, shop.swap
        whole[state.SAFE], whole[state.ASK_SINGLE], whole[state.STOP_BROKEN] = self._flags

    def __len__(self) -> int:
        return len(self.shops)

    def restart(self, b: int, shop: JobShop, disturbances: Disturbances, seed: int) -> None:
        """Begin run `b` anew with another shop, which must fit into the arrays."""
        self.shops[b], self.disturbances[b] = shop, disturbances
        self._fill(b, shop, disturbances, seed)
        kernels.begin(state.run_of.py_func(self.batch, b))

    def part(self, b: int) -> state.Run:
        """The arrays of run `b` as a batch of one."""
        return state.Run._make(array[b : b + 1] for array in self.batch)

    def view(self, b: int = 0) -> View:
        """What is to be seen of run `b`."""
        return View(self, b)

    @property
    def status(self) -> NDArray[np.int64]:
        """Shape (runs,): see the constants in `_floor_kernels`."""
        return self.batch.whole[:, state.STATUS]

    @property
    def makespans(self) -> NDArray[np.int64]:
        """Shape (runs,): time of the last instant, which in a finished run is its makespan."""
        return self.batch.whole[:, state.NOW]

    def advance(self, rule: int = state.ASK, until: int = state.NEVER) -> None:
        """Let all runs that do not wait for an answer go on, under a rule or to their next decision."""
        rules = np.full(len(self), rule, dtype=np.int64)
        while True:
            kernels.advance_all(self.batch, rules, until)
            if not self._grow_log():
                break
        self._refuse_deadlocks()

    def answer(self, jobs: NDArray[np.int64]) -> None:
        """Answer every run that asks, ``jobs[b]`` for run b, and let it go on to its next decision."""
        kernels.answer_all(self.batch, jobs)
        if self._grow_log():
            self.advance()
        self._refuse_deadlocks()

    def answer_under(self, rule: int, job: int) -> None:
        """Answer all runs that ask with `job`, and let a rule take all later decisions."""
        for b in np.flatnonzero(self.status == state.ASKING):
            kernels.move(state.run_of.py_func(self.batch, int(b)), job, int(self.batch.whole[b, state.ASKED]))
        self.advance(rule)

    def candidate_mask(self) -> NDArray[np.bool_]:
        """Shape (runs, jobs): who may go on the machine that each run asks for."""
        mask = np.empty(self.batch.job.shape[:2], dtype=bool)
        kernels.candidate_mask(self.batch, mask)
        return mask

    def outlook(self, b: int, *, breakdowns: bool = False) -> Floor:
        """See `View.outlook`; the new floor has one run without a log."""
        view, other = self.view(b), object.__new__(Floor)
        other.shops, other.disturbances, other._flags = [self.shops[b]], [self.disturbances[b]], (True, False, False)
        batch = state.Run._make(array.copy() for array in self.part(b))
        other.batch = batch = batch._replace(log=np.zeros((1, 0, 6), dtype=np.int64))
        jobs, machines = view.shop.jobs, view.shop.machines
        machine, whole = batch.machine[0, :machines], batch.whole[0]
        busy = machine[:, state.PHASE] == state.BUSY
        down = view.down
        machine[:, state.END] = np.where(
            busy, view.expected_remaining + np.where(down, 0, view.now), machine[:, state.END]
        )
        machine[:, state.REPAIR_AT] = np.where(down, view.now + view.expected_repair, state.NEVER)
        machine[:, state.FAIL_AT] = state.NEVER
        batch.actual[0] = batch.nominal[0]
        if not breakdowns:
            batch.trouble[0, state.CHANCE] = batch.trouble[0, state.BETWEEN] = 0.0
        unknown = ~view.arrived
        batch.job[0, :jobs][unknown, state.AT] = state.GONE
        whole[state.LEFT] -= int(unknown.sum())
        whole[state.ARRIVED], whole[state.STATUS] = jobs, state.RUNNING
        whole[state.STOP_BROKEN] = whole[state.ASK_SINGLE] = 0
        return other

    def _grow_log(self) -> bool:
        """Whether a log was full; it has twice the rows now."""
        full = self.status == state.LOG_FULL
        if not full.any():
            return False
        self.status[full] = state.RUNNING
        runs, rows, columns = self.batch.log.shape
        log = np.zeros((runs, 2 * rows + 8 * self.batch.machine.shape[1] + 16, columns), dtype=np.int64)
        log[:, :rows] = self.batch.log
        self.batch = self.batch._replace(log=log)
        return True

    def _refuse_deadlocks(self) -> None:
        stuck = np.flatnonzero(self.status == state.DEADLOCKED)
        if len(stuck):
            b = int(stuck[0])
            view = self.view(b)
            machine = view.run.machine[: view.shop.machines]
            target = view.run.on[view.next_operation[machine[:, state.OCCUPANT]] % len(view.run.on)]
            found = circles(wait_for_graph(view.occupant, machine[:, state.PHASE] == state.DONE, target))
            shown = "; ".join(" -> ".join(str(job) for job in (*circle, circle[0])) for circle in found)
            raise Deadlock(f"run {b} stands still at time {view.now}: jobs wait for each other: {shown or 'no circle'}")


def _ask(floor: Floor, decision: Decision) -> None:
    """Run all of a floor under one decision object."""
    floor.advance()
    while (floor.status == state.ASKING).any():
        jobs = np.full(len(floor), HOLD, dtype=np.int64)
        for b in np.flatnonzero(floor.status == state.ASKING):
            view = floor.view(int(b))
            job = int(decision.decide(view))
            if job == HOLD and not view.may_hold:
                raise InputError(f"holds machine {view.machine} although nothing else moves", key="decide")
            if job != HOLD and job not in view.candidates:
                known = ", ".join(map(str, view.candidates))
                raise InputError(f"chose job {job} for machine {view.machine}, expected one of {known}", key="decide")
            jobs[b] = job
        floor.answer(jobs)


def simulate(
    shop: JobShop,
    decision: str | Decision,
    disturbances: Disturbances = Disturbances(),  # noqa: B008 - frozen
    *,
    seed: int = 0,
    safe: bool = True,
) -> FloorRun:
    """One run of a shop to its end.

    Parameters
    ----------
    shop
        Its flags `blocking` and `swap` say how the floor works.
    decision
        Name of a rule (see `rules.RULES`), or any decision object; one that has ``may_hold = True`` is also asked where
        there is but one candidate.
    disturbances, seed
        What happens to it.
    safe
        Without swaps: offer safe moves only.

    Raises
    ------
    InputError
        If the rule is unknown or the decision object chooses a job that it was not offered.
    Deadlock
        Without swaps and without `safe`.
    """
    if isinstance(decision, str):
        decision = Rule(decision)
    asks = bool(getattr(decision, "may_hold", False))
    floor = Floor([shop], disturbances, [seed], safe=safe, ask_single=asks, log_rows=4 * shop.operations + 64)
    if type(decision) is Rule:
        floor.advance(decision.number)
    else:
        _ask(floor, decision)
    return finished_run(floor, 0)


def simulate_many(
    shop: JobShop,
    rule: str,
    disturbances: Disturbances,
    seeds: Sequence[int] | NDArray[np.int64],
    *,
    safe: bool = True,
) -> NDArray[np.int64]:
    """Makespans of many runs under a rule in one compiled call, shape (len(seeds),)."""
    if rule not in RULES:
        raise InputError(f"is '{rule}', expected one of {', '.join(RULES)}", key="rule")
    floor = Floor([shop] * len(seeds), disturbances, seeds, safe=safe)
    floor.advance(RULES[rule])
    return floor.makespans.copy()


def follow(
    shop: JobShop,
    orders: Sequence[Sequence[int]],
    disturbances: Disturbances = Disturbances(),  # noqa: B008 - frozen
    *,
    seed: int = 0,
) -> FloorRun:
    """One run in which each machine serves its operations in the given order, waiting for the next where needed.

    Parameters
    ----------
    orders
        For each machine, its operations in the order in which they are to start. Where following it would stop the
        floor for ever, the earliest operation of the order that could start does.
    """
    floor = Floor([shop], disturbances, [seed], safe=False, log_rows=4 * shop.operations + 64)
    floor.batch.rank[0, : shop.operations] = ranks(shop, orders)
    floor.advance(state.ORDER)
    return finished_run(floor, 0)


def ranks(shop: JobShop, orders: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Place of every operation in the order of its machine, shape (operations,).

    Raises
    ------
    InputError
        If the orders do not hold every operation once, on its own machine.
    """
    rank: NDArray[Any] = np.full(shop.operations, -1, dtype=np.int64)
    for machine, order in enumerate(orders):
        for place, o in enumerate(order):
            if not 0 <= o < shop.operations or shop.machine[o] != machine or rank[o] >= 0:
                raise InputError(f"holds operation {o}, which is not this machine's or comes twice", key=str(machine))
            rank[o] = place
    if (rank < 0).any():
        raise InputError(f"no machine's order holds operation {int(np.argmax(rank < 0))}", key="orders")
    return rank
