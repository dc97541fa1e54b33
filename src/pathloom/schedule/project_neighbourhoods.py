"""Large-neighbourhood search for projects: part of a schedule is left open, CP-SAT looks for a better way to fill it.

Two kinds of question are put to CP-SAT, both about the schedule at hand made shorter by at least one unit of time:

- *Window.* Activities around a time are open. What comes before keeps its left-justified start; what comes after is
  right-justified and moved one unit earlier. Only the open activities are variables, so that questions are small and
  most are answered in milliseconds (in the spirit of the blocks of Palpant, Artigues, Michelon, "LSSPER", Annals of OR
  131 (2004); the shift is ours).
- *Flow.* Open activities are chosen by resource or at random, anywhere. The others keep their modes and stay in the
  order in which the units of resources pass from one to the next (a partial order schedule: Policella, Oddo, Smith,
  Cesta (2004)), without fixed starts.

The number of open activities grows where CP-SAT answers "no", and shrinks where it does not answer in time. Between
questions the schedule wanders to others of the same makespan, so that the same question is hardly asked twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.project_search import ProjectSolution, mode_assignment
from pathloom.schedule.schedule_generation import Generator
from pathloom.schedule.shops import Ints, Positions, Project

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, CpSolver

SOURCE = "project neighbourhoods"

Bools = NDArray[np.bool_]


@dataclass
class NeighbourhoodCounts:
    """How often CP-SAT was asked, and how it answered."""

    asked: int = 0
    improved: int = 0
    refuted: int = 0
    unanswered: int = 0


@dataclass
class _Kind:
    """One way to choose open activities: how many, and how well it has done of late."""

    name: str
    size: float
    credit: float = 1.0


def project_lns(
    project: Project,
    incumbent: Incumbent[ProjectSolution],
    *,
    seed: int = 0,
    workers: int = 1,
    counts: NeighbourhoodCounts | None = None,
) -> None:
    """Improve the incumbent until `incumbent.finished`; begins with a schedule of its own where there is none.

    Where CP-SAT is asked with all activities open and refutes, the incumbent is proven optimal and its bound raised.

    Parameters
    ----------
    workers
        Threads of CP-SAT.
    """
    generator = Generator.of(project)
    if generator is None or project.activities == 0 or incumbent.finished:
        return
    _NeighbourhoodSearch(generator, incumbent, seed, workers, counts or NeighbourhoodCounts()).run()


class _NeighbourhoodSearch:
    """The schedule at hand (local modes, times in units of the generator) and the neighbourhoods' sizes."""

    def __init__(
        self,
        generator: Generator,
        incumbent: Incumbent[ProjectSolution],
        seed: int,
        workers: int,
        counts: NeighbourhoodCounts,
    ) -> None:
        self.generator = generator
        self.network = generator.network
        self.incumbent = incumbent
        self.workers = workers
        self.counts = counts
        self.random = np.random.default_rng(seed)
        self.count = generator.project.activities
        project = generator.project
        self.demand = project.renewable[generator.mode]
        self.capacity = project.renewable_capacity
        start = float(min(self.count, 24))
        self.kinds = [_Kind("window", start), _Kind("resource", start), _Kind("random", start)]
        self.mode: Positions = np.zeros(0, np.int32)
        self.begin: Ints = np.zeros(0, np.int64)
        self.value = 0
        self.known: int | None = None

    def run(self) -> None:
        from pathloom.schedule._project_search_kernels import seed_kernels, wander

        seed_kernels(int(self.random.integers(1 << 31)))
        if not self.begin_with_some():
            return
        while not self.incumbent.finished:
            self.take_up()
            length = wander(self.network, self.generator.scratch, self.mode, self.begin, 60, 0)
            if length < self.value:
                self.value = length
                self.offer()
                continue
            weights = np.array([kind.credit for kind in self.kinds])
            kind = self.kinds[int(self.random.choice(len(self.kinds), p=weights / weights.sum()))]
            self.ask(kind)

    def begin_with_some(self) -> bool:
        """Take the incumbent, or else a schedule by the latest-finish rule. False where no modes can be found."""
        if self.incumbent.best() is not None:
            return True
        mode = mode_assignment(self.generator, self.incumbent.left, seed=int(self.random.integers(1 << 31)))
        if mode is None:
            return False
        order = self.generator.list_by_key(self.generator.latest_starts(mode)[1])
        self.mode = mode
        self.begin = self.generator.justify(self.generator.serial(order, mode), mode) // self.generator.unit
        self.value = self.length()
        self.offer()
        return True

    def take_up(self) -> None:
        """Go on from the incumbent where it is better than, or not the same makespan as, the schedule at hand."""
        best = self.incumbent.best()
        if best is None or (len(self.begin) and best[0] >= self.value * self.generator.unit):
            return
        self.mode = self.generator.local_modes(best[1][0])
        start = self.generator.serial(self.generator.list_by_key(best[1][1]), self.mode)
        self.begin = self.generator.justify(start, self.mode) // self.generator.unit
        self.value = self.length()
        self.offer()

    def length(self) -> int:
        return int((self.begin + self.network.duration[self.mode]).max(initial=0))

    def offer(self) -> None:
        unit = self.generator.unit
        self.incumbent.offer(self.value * unit, (self.generator.mode[self.mode], self.begin * unit), SOURCE)

    def ask(self, kind: _Kind) -> None:
        """Put one question to CP-SAT and draw the conclusions."""
        open_ = self.window(round(kind.size)) if kind.name == "window" else self.scattered(kind)
        began = time.monotonic()
        question = _Question(self, open_)
        possible = question.fix_by_time() if kind.name == "window" and not open_.all() else question.fix_by_flow()
        answer = question.solve(min(self.incumbent.left, 0.4 + 0.01 * self.count)) if possible else "refuted"
        self.counts.asked += 1
        spent = max(time.monotonic() - began, 1e-3)
        if answer == "improved":
            mode, begin = question.schedule()
            length = int((begin + self.network.duration[mode]).max())
            if length < self.value:
                self.counts.improved += 1
                self.mode, self.begin, self.value = mode, begin, length
                self.offer()
            else:  # what was kept left and right of a window got in each other's way
                answer = "refuted"
        if answer == "refuted":
            self.counts.refuted += 1
            if open_.all():
                self.incumbent.raise_bound(self.value * self.generator.unit, SOURCE)
            kind.size = min(self.count, kind.size * 1.04 + 0.5)
        elif answer == "unanswered":
            self.counts.unanswered += 1
            kind.size = max(min(6, self.count), kind.size * 0.93)
        gain = (1.0 if answer == "improved" else 0.0) / spent
        kind.credit = max(0.15, 0.9 * kind.credit + 0.1 * min(gain, 10.0))

    def window(self, size: int) -> Bools:
        """The `size` activities whose middles are nearest to a random time."""
        double_middle = 2 * self.begin + self.network.duration[self.mode]
        when = 2 * self.value * self.random.random()
        open_ = np.zeros(self.count, np.bool_)
        open_[np.argsort(np.abs(double_middle - when), kind="stable")[:size]] = True
        return open_

    def scattered(self, kind: _Kind) -> Bools:
        """Activities that use most of a random resource within a wide window, or at random and their neighbours."""
        size = round(kind.size)
        open_ = np.zeros(self.count, np.bool_)
        if kind.name == "resource" and self.demand.shape[1]:
            wide = np.flatnonzero(self.window(min(self.count, 2 * size)))
            used = self.demand[self.mode[wide], int(self.random.integers(self.demand.shape[1]))]
            open_[wide[np.argsort(-(used + self.random.random(len(wide))), kind="stable")[:size]]] = True
        else:
            open_[self.random.permutation(self.count)[:size]] = True
        return open_


class _Question:
    """A CP-SAT model of the project with some activities open, to end before the schedule at hand does."""

    def __init__(self, search: _NeighbourhoodSearch, open_: Bools) -> None:
        from ortools.sat.python import cp_model

        self.search = search
        self.network = search.network
        self.open = open_
        self.model: CpModel = cp_model.CpModel()
        self.solver: CpSolver | None = None
        self.end = search.value - 1
        self.start: list[Any] = [None] * search.count
        self.finish: list[Any] = [None] * search.count
        self.intervals: list[tuple[Any, int]] = []  # interval and local mode
        self.choices: dict[int, list[Any]] = {}

    def fix_by_time(self) -> bool:
        """Keep what is not open where it is, left of the window, or one unit left of right-justified, right of it.

        Returns whether that leaves every open activity room.
        """
        from pathloom.schedule._project_kernels import right_pass

        search, network = self.search, self.network
        right = search.begin.copy()
        right_pass(network, search.generator.scratch, search.mode, right)
        duration = network.duration[search.mode]
        middle = search.begin + duration / 2
        inside = middle[self.open]
        fixed = np.where(middle < inside.mean(), search.begin, right - 1)
        if (fixed[~self.open] < network.release[~self.open]).any():
            return False
        shortest = np.minimum.reduceat(network.duration, network.mode_start[:-1])
        lower, upper = network.release.copy(), np.full(search.count, self.end, np.int64)
        for activity in network.forward:
            if not self.open[activity]:
                if lower[activity] > fixed[activity]:
                    return False
                lower[activity] = fixed[activity]
            length = shortest[activity] if self.open[activity] else duration[activity]
            after = network.succ[network.succ_start[activity] : network.succ_start[activity + 1]]
            lower[after] = np.maximum(lower[after], lower[activity] + length)
        for activity in network.backward:
            length = shortest[activity] if self.open[activity] else duration[activity]
            if not self.open[activity]:
                if upper[activity] < fixed[activity] + length:
                    return False
                upper[activity] = fixed[activity] + length
            before = network.pred[network.pred_start[activity] : network.pred_start[activity + 1]]
            upper[before] = np.minimum(upper[before], upper[activity] - length)
        if (lower + shortest > upper)[self.open].any():
            return False
        for activity in np.flatnonzero(self.open):
            self.add(int(activity), int(lower[activity]), int(upper[activity]), True)
        first, last = int(lower[self.open].min()), int(upper[self.open].max())
        for activity in np.flatnonzero(~self.open):
            begin, length = int(fixed[activity]), int(duration[activity])
            self.start[activity], self.finish[activity] = begin, begin + length
            if length and begin < last and begin + length > first:
                interval = self.model.new_fixed_size_interval_var(begin, length, "")
                self.intervals.append((interval, int(search.mode[activity])))
        for activity in range(search.count):
            for after in network.succ[network.succ_start[activity] : network.succ_start[activity + 1]]:
                if self.open[activity] and self.open[after]:
                    self.model.add(self.finish[activity] <= self.start[after])
        return True

    def fix_by_flow(self) -> bool:
        """Keep modes and resource flows between activities that are not open. Always returns True."""
        search, network = self.search, self.network
        shortest = np.minimum.reduceat(network.duration, network.mode_start[:-1])
        lower, tail = network.release.copy(), np.zeros(search.count, np.int64)
        for activity in network.forward:
            after = network.succ[network.succ_start[activity] : network.succ_start[activity + 1]]
            lower[after] = np.maximum(lower[after], lower[activity] + shortest[activity])
        for activity in network.backward:
            before = network.pred[network.pred_start[activity] : network.pred_start[activity + 1]]
            tail[before] = np.maximum(tail[before], tail[activity] + shortest[activity])
        if (lower + shortest + tail > self.end).any():
            return False
        for activity in range(search.count):
            self.add(activity, int(lower[activity]), int(self.end - tail[activity]), bool(self.open[activity]))
        givers = np.repeat(np.arange(search.count), np.diff(network.succ_start)).tolist()
        for first, then in set(zip(givers, network.succ.tolist(), strict=True)) | self.flows():
            self.model.add(self.finish[first] <= self.start[then])
        return True

    def flows(self) -> set[tuple[int, int]]:
        """Pairs of activities that are not open, the first of which hands units of a resource on to the second."""
        search = self.search
        duration = self.network.duration[search.mode]
        finish = search.begin + duration
        pairs: set[tuple[int, int]] = set()
        order = [int(a) for a in np.lexsort((finish, search.begin)) if not self.open[a] and duration[a] > 0]
        for resource in range(search.demand.shape[1]):
            idle: list[tuple[int, int]] = [(-1, int(search.capacity[resource]))]
            for activity in order:
                wanted = int(search.demand[search.mode[activity], resource])
                if wanted == 0:
                    continue
                given = wanted
                # Latest ended first: activities that follow each other closely keep their order, the rest stay loose
                idle.sort(key=lambda entry: -1 if entry[0] < 0 else int(finish[entry[0]]))
                kept: list[tuple[int, int]] = []
                while idle and wanted > 0:
                    giver, units = idle.pop()
                    if giver >= 0 and finish[giver] > search.begin[activity]:
                        kept.append((giver, units))
                        continue
                    taken = min(units, wanted)
                    wanted -= taken
                    if giver >= 0:
                        pairs.add((giver, activity))
                    if units > taken:
                        idle.append((giver, units - taken))
                idle += kept
                idle.append((activity, given))
        return pairs

    def add(self, activity: int, lower: int, upper: int, free_mode: bool) -> None:
        """Variables of an activity that runs between `lower` and `upper`, in any mode or in that at hand."""
        search, network, model = self.search, self.network, self.model
        current = int(search.mode[activity])
        modes = range(network.mode_start[activity], network.mode_start[activity + 1]) if free_mode else [current]
        if len(modes) == 1:
            length = int(network.duration[current])
            start = model.new_int_var(lower, max(lower, upper - length), "")
            self.start[activity], self.finish[activity] = start, start + length
            if length:
                self.intervals.append((model.new_fixed_size_interval_var(start, length, ""), current))
        else:
            start = model.new_int_var(lower, upper, "")
            finish = model.new_int_var(lower, upper, "")
            self.start[activity], self.finish[activity] = start, finish
            self.choices[activity] = []
            for mode in modes:
                chosen = model.new_bool_var("")
                length = int(network.duration[mode])
                interval = model.new_optional_interval_var(start, length, finish, chosen, "")
                self.intervals.append((interval, mode))
                self.choices[activity].append(chosen)
                model.add_hint(chosen, mode == current)
            model.add_exactly_one(self.choices[activity])
        model.add_hint(start, min(max(int(search.begin[activity]), lower), upper))

    def solve(self, seconds: float) -> str:
        """Answer: "improved", "refuted" or "unanswered"."""
        from ortools.sat.python import cp_model

        search, network, model = self.search, self.network, self.model
        for resource in range(search.demand.shape[1]):
            users = [(i, int(search.demand[m, resource])) for i, m in self.intervals if search.demand[m, resource] > 0]
            if users:
                model.add_cumulative([i for i, _ in users], [d for _, d in users], int(search.capacity[resource]))
        for kind in range(len(network.stock)):
            left = int(network.stock[kind])
            left -= sum(
                int(network.consumption[search.mode[a], kind]) for a in range(search.count) if a not in self.choices
            )
            chosen = [literal for literals in self.choices.values() for literal in literals]
            used = [
                int(network.consumption[m, kind])
                for a in self.choices
                for m in range(network.mode_start[a], network.mode_start[a + 1])
            ]
            if chosen:
                model.add(cp_model.LinearExpr.weighted_sum(chosen, used) <= left)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = search.workers
        solver.parameters.max_time_in_seconds = max(seconds, 0.0)
        solver.parameters.random_seed = int(search.random.integers(1 << 30))
        solver.parameters.catch_sigint_signal = False
        solver.parameters.linearization_level = 0
        solver.parameters.symmetry_level = 0
        solver.parameters.cp_model_probing_level = 0
        status = solver.solve(model)
        self.solver = solver
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return "improved"
        return "refuted" if status == cp_model.INFEASIBLE else "unanswered"

    def schedule(self) -> tuple[Positions, Ints]:
        """The answer's modes and starts, built anew by the serial scheme in its order and justified."""
        search, network, solver = self.search, self.network, self.solver
        assert solver is not None
        mode = search.mode.copy()
        for activity, literals in self.choices.items():
            taken = next(at for at, literal in enumerate(literals) if solver.boolean_value(literal))
            mode[activity] = network.mode_start[activity] + taken
        start = np.array([solver.value(variable) for variable in self.start], dtype=np.int64)
        generator = search.generator
        begin = generator.serial(generator.list_by_key(start), mode)
        return mode, generator.justify(begin, mode) // generator.unit
