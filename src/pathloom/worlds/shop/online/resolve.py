"""Rolling re-solve: after each breakdown the rest of the shop is planned anew by CP-SAT, and its order is followed.

The strong and slow counterpart of rules and policies. The model is that of the blocking shop: an operation holds its
machine from its start until the job's next one starts, machines hold one job at a time; half-open times let jobs swap.
Broken machines are expected to work after the mean repair, operations under way to end as planned. The solver starts
from the best of the last plan and of all rules, each played to its end on a copy of the floor, so that a time limit
too short for it never makes things worse than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.worlds.shop.online import _floor_state as state
from pathloom.worlds.shop.online.floor import HOLD, Floor, View
from pathloom.worlds.shop.online.rules import RULES

HINT_RULES = tuple(name for name in RULES if name != "RANDOM")


@dataclass
class RollingResolve:
    """A decision object that plans at the beginning, at arrivals and after each breakdown, and follows its plan.

    Attributes
    ----------
    seconds
        Time limit of each solve. In the simulation no time passes meanwhile.
    workers
        Threads of the solver.
    deterministic
        Limit the solver's own deterministic time instead of the clock's, so that runs can be repeated; much of it is
        about as long as a second on a free core.
    """

    seconds: float = 1.0
    workers: int = 1
    deterministic: bool = False
    may_hold = True
    solves: int = 0
    improved: int = 0
    _floor: Floor | None = field(default=None, repr=False)
    _seen: tuple[int, int, int] = field(default=(-1, -1, -1), repr=False)
    _rank: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError(f"is {self.seconds}, expected more than 0", key="seconds")

    def decide(self, view: View) -> int:
        """The job that the plan puts on the machine next, or `HOLD` until it is there."""
        known = (view.number, view.breakdowns, int(view.arrived.sum()))
        if view.floor is not self._floor or known[0] != self._seen[0]:
            self._floor, self._rank = view.floor, np.zeros(0, np.int64)
            self._seen = (-1, -1, -1)
        if known != self._seen:
            self._seen = known
            self._rank = self._planned(view)
        following = view.next_operation
        waiting = view.candidates
        ranks = self._rank[following[waiting]]
        first = int(waiting[np.argmin(ranks)])
        unstarted = view.run.operation[: view.shop.operations, state.START] < 0
        of_known = view.arrived[view.shop.job]
        on_machine = (view.shop.machine == view.machine) & unstarted & of_known
        is_next = self._rank[following[first]] <= self._rank[on_machine].min()
        return first if is_next or not view.may_hold else HOLD

    def _planned(self, view: View) -> NDArray[np.int64]:
        """Place of each operation in the plan, shape (operations,): its start, as far as it is not over."""
        best: NDArray[np.int64] | None = None
        makespan = state.NEVER
        if len(self._rank):
            floor = view.outlook()
            floor.batch.rank[0, : view.shop.operations] = _places(view, self._rank)
            best, makespan = _played(floor, view, state.ORDER, best, makespan)
        for name in HINT_RULES:
            best, makespan = _played(view.outlook(), view, RULES[name], best, makespan)
        assert best is not None  # rules always end
        self.solves += 1
        found = self._solved(view, best, makespan)
        self.improved += found is not None
        return _ordered(best if found is None else found)

    def _solved(self, view: View, hint: NDArray[np.int64], makespan: int) -> NDArray[np.int64] | None:
        """Starts from CP-SAT that end before `makespan`, None where it found none in time.

        Operations under way start at 0, as do those that are over (and are not in the model).
        """
        from ortools.sat.python import cp_model

        shop, now = view.shop, view.now
        model = cp_model.CpModel()
        horizon = makespan - now
        starts: dict[int, cp_model.IntVar] = {}
        held: list[list[cp_model.IntervalVar]] = [[] for _ in range(shop.machines)]
        remaining, repair = view.expected_remaining, view.expected_repair
        phase = view.run.machine[: shop.machines, state.PHASE]
        end = model.new_int_var(0, horizon, "makespan")
        for j in np.flatnonzero(view.arrived & (view.location != state.GONE)):
            last = int(shop.job_start[j + 1])
            first = int(view.next_operation[j])
            at = int(view.location[j])
            for o in range(first, last):
                # A broken machine takes nobody before its repair.
                starts[o] = model.new_int_var(int(repair[shop.machine[o]]), horizon, f"start {o}")
                model.add_hint(starts[o], int(hint[o]) - now)
            ready = 0
            if at >= 0:
                busy = phase[at] == state.BUSY
                ready = int(remaining[at] + repair[at]) if busy else 0
                if first < last and shop.blocking:
                    model.add(starts[first] >= ready)
                    held[at].append(model.new_interval_var(0, starts[first], starts[first], f"on {at}"))
                elif busy:
                    held[at].append(model.new_fixed_size_interval_var(0, ready, f"on {at}"))
                    if first < last:
                        model.add(starts[first] >= ready)
                if first == last:
                    model.add(end >= ready)
            for o in range(first, last):
                work = int(shop.duration[o])
                machine = held[shop.machine[o]]
                if o + 1 < last:
                    model.add(starts[o + 1] >= starts[o] + work)
                    if shop.blocking:
                        size = model.new_int_var(work, horizon, f"held {o}")
                        machine.append(model.new_interval_var(starts[o], size, starts[o + 1], f"operation {o}"))
                        continue
                else:
                    model.add(end >= starts[o] + work)
                machine.append(model.new_fixed_size_interval_var(starts[o], work, f"operation {o}"))
        for intervals in held:
            if len(intervals) > 1:
                model.add_no_overlap(intervals)
        model.minimize(end)
        solver = cp_model.CpSolver()
        # Ctrl-C is the simulation's to handle, not the solver's.
        solver.parameters.catch_sigint_signal = False
        solver.parameters.num_workers = self.workers
        solver.parameters.random_seed = 0
        if self.deterministic:
            solver.parameters.max_deterministic_time = self.seconds
        else:
            solver.parameters.max_time_in_seconds = self.seconds
        status = solver.solve(model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE) or solver.objective_value >= horizon:
            return None
        found = np.zeros(shop.operations, dtype=np.int64)
        for o, start in starts.items():
            found[o] = solver.value(start) + now
        return found


def _played(
    floor: Floor, view: View, rule: int, best: NDArray[np.int64] | None, makespan: int
) -> tuple[NDArray[np.int64] | None, int]:
    """The better of the plan so far and of what a rule makes of the outlook: starts (operations,), makespan."""
    floor.advance(rule)
    reached = int(floor.makespans[0])
    if reached >= makespan:
        return best, makespan
    return floor.batch.operation[0, : view.shop.operations, state.START].copy(), reached


def _ordered(start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ranks of the starts, shape (operations,): ties go to the operation with the lower number."""
    rank = np.empty(len(start), dtype=np.int64)
    rank[np.argsort(start, kind="stable")] = np.arange(len(start))
    return rank


def _places(view: View, rank: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of every operation on its own machine, those that have started first (as the compiled core wants it)."""
    shop = view.shop
    started = view.run.operation[: shop.operations, state.START]
    order = np.lexsort((np.asarray(rank), np.where(started < 0, state.NEVER, started), shop.machine))
    place = np.empty(shop.operations, dtype=np.int64)
    counts = np.concatenate(([0], np.cumsum(np.bincount(shop.machine, minlength=shop.machines))))
    place[order] = np.arange(shop.operations) - counts[shop.machine[order]]
    return place
