"""Anytime search for short schedules of projects with renewable and consumable resources, in one or several modes.

A steady-state genetic search on activity lists in which every child is justified twice. It joins what the literature
found to work:

- lists by the serial scheme with double justification, parts of high resource use inherited whole (Valls, Ballestín,
  Quintanilla, "A hybrid genetic algorithm for the resource-constrained project scheduling problem", EJOR 185 (2008));
- two-point crossover of lists (Hartmann, Naval Research Logistics 45 (1998));
- modes crossed with the lists, consumable resources by penalty and repair, and a last pass that chooses modes anew (Van
  Peteghem, Vanhoucke, "A genetic algorithm for the preemptive and non-preemptive multi-mode resource-constrained
  project scheduling problem", EJOR 201 (2010)).

Different from these: one steady population with restarts in place of generations; part of the children are one parent
with the order of one window of time shaken; solutions of other methods of a portfolio enter the population.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pathloom.schedule.incumbent import Incumbent
from pathloom.schedule.schedule_generation import Generator
from pathloom.schedule.shops import Ints, Positions, Project

ProjectSolution = tuple[Positions, Ints]
"""Modes (index in the project) and start times, both of shape (activities,)."""

SOURCE = "project search"


@dataclass(frozen=True)
class GeneticSettings:
    """How the genetic search goes.

    Attributes
    ----------
    members
        Size of the population, at least 2.
    shaken
        Share of the children that come from one parent by shaking a window of time.
    patience
        Children for each member without a better best, after which the population is built anew.
    chunk_seconds
        How long the search works between two looks at the clock and at what other methods found.
    """

    members: int = 300
    shaken: float = 0.1
    patience: int = 100
    chunk_seconds: float = 0.1

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"members must be at least 2, not {self.members}")
        if not 0 <= self.shaken <= 1:
            raise ValueError(f"shaken must be a share from 0 to 1, not {self.shaken}")
        if self.patience < 1 or self.chunk_seconds <= 0:
            raise ValueError("patience and chunk_seconds must be positive")


@dataclass
class SearchEffort:
    """What a search did: schedules generated (single passes), children, populations begun, CPU seconds."""

    schedules: int = 0
    children: int = 0
    populations: int = 0
    cpu_seconds: float = 0.0

    @property
    def schedules_per_second(self) -> float:
        """Schedules generated in each second of CPU time."""
        return self.schedules / max(self.cpu_seconds, 1e-9)


def project_search(
    project: Project,
    incumbent: Incumbent[ProjectSolution],
    *,
    seed: int = 0,
    initial: ProjectSolution | None = None,
    settings: GeneticSettings | None = None,
    effort: SearchEffort | None = None,
) -> None:
    """Offer better and better schedules until `incumbent.finished`.

    Returns at once, without an offer, where the modes cannot be chosen within the stocks of consumable resources.

    Parameters
    ----------
    initial
        A feasible solution to begin with.
    effort
        Filled in with counts.
    """
    settings = settings or GeneticSettings()
    effort = effort if effort is not None else SearchEffort()
    generator = Generator.of(project)
    if generator is None or incumbent.finished:
        return
    if project.activities == 0:
        incumbent.offer(0, (np.zeros(0, np.int32), np.zeros(0, np.int64)), SOURCE)
        return
    _GeneticSearch(generator, incumbent, settings, effort, seed).run(initial)


def mode_assignment(generator: Generator, seconds: float, *, seed: int = 0) -> Positions | None:
    """Local modes, shape (activities,), within the stocks of consumable resources, found by CP-SAT.

    Among such choices one is sought with little work on the busiest renewable resource, which makes for a short
    schedule. None where the time ends before one is found or where there is none.
    """
    from ortools.sat.python import cp_model

    network, project = generator.network, generator.project
    if seconds <= 0:
        return None
    model = cp_model.CpModel()
    chosen = [model.new_bool_var("") for _ in range(len(network.duration))]
    for activity in range(project.activities):
        model.add_exactly_one(chosen[network.mode_start[activity] : network.mode_start[activity + 1]])
    for kind in range(len(network.stock)):
        model.add(
            cp_model.LinearExpr.weighted_sum(chosen, network.consumption[:, kind].tolist()) <= network.stock[kind]
        )
    work = scarcity(generator)
    scaled = np.rint(1000 * (work / max(work.max(initial=0.0), 1e-9))).astype(np.int64)
    model.minimize(cp_model.LinearExpr.weighted_sum(chosen, scaled.tolist()))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.catch_sigint_signal = False
    solver.parameters.relative_gap_limit = 0.02
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    taken = [local for local in range(len(chosen)) if solver.boolean_value(chosen[local])]
    return np.array(taken, dtype=np.int32)


def scarcity(generator: Generator) -> NDArray[np.float64]:
    """Shape (local modes,): duration times demand as share of capacities, weighted by how busy a resource is."""
    project, network = generator.project, generator.network
    demand = project.renewable[generator.mode] / np.maximum(project.renewable_capacity, 1)
    work = demand * network.duration[:, None]
    load = np.add.reduceat(work, network.mode_start[:-1], axis=0) / np.diff(network.mode_start)[:, None]
    busy = load.sum(axis=0)
    if busy.max(initial=0) <= 0:
        return np.zeros(len(network.duration))
    return work @ (busy / busy.max()) ** 2


class _GeneticSearch:
    """One population, its random numbers, and its dealings with the incumbent."""

    def __init__(
        self,
        generator: Generator,
        incumbent: Incumbent[ProjectSolution],
        settings: GeneticSettings,
        effort: SearchEffort,
        seed: int,
    ) -> None:
        from pathloom.schedule._project_offspring_kernels import Population

        self.generator = generator
        self.incumbent = incumbent
        self.settings = settings
        self.effort = effort
        self.random = np.random.default_rng(seed)
        count = generator.project.activities
        self.population = Population(
            np.zeros((settings.members, count), np.int32),
            np.zeros((settings.members, count), np.int32),
            np.zeros((settings.members, count), np.int64),
            np.full(settings.members, 1 << 60, np.int64),
            np.zeros(settings.members, np.int64),
        )
        self.weight = scarcity(generator)
        self.seen: int | None = None

    def run(self, initial: ProjectSolution | None) -> None:
        from pathloom.schedule._project_search_kernels import seed_kernels

        seed_kernels(int(self.random.integers(1 << 31)))
        began = time.thread_time()
        self.settle(0)
        if not self.feasible() and not self.find_modes():
            return
        if initial is not None:
            self.admit(initial)
        while not self.incumbent.finished:
            self.evolve_until_stale(began)
            self.settle(0)
        self.effort.cpu_seconds += time.thread_time() - began

    def settle(self, first: int) -> None:
        """Build the population anew, from row `first` on, around the latest-finish rule."""
        from pathloom.schedule._project_search_kernels import settle

        _, latest_end = self.generator.latest_starts()
        if self.effort.populations % 2 == 1:
            latest_end, _ = self.generator.latest_starts()
        settle(self.generator.network, self.generator.scratch, self.population, first, latest_end.astype(np.float64))
        self.effort.populations += 1
        self.effort.schedules += 4 * (self.settings.members - first)
        self.offer_best()

    def feasible(self) -> bool:
        from pathloom.schedule._project_search_kernels import OVERDRAWN

        return bool(self.population.value.min() < OVERDRAWN)

    def find_modes(self) -> bool:
        """Let CP-SAT choose modes within the stocks, and put a schedule with them into the population."""
        from pathloom.schedule._project_search_kernels import justified, put

        generator = self.generator
        mode = mode_assignment(generator, self.incumbent.left, seed=int(self.random.integers(1 << 31)))
        if mode is None:
            return False
        begin = np.zeros(generator.project.activities, np.int64)
        order = generator.list_by_key(generator.latest_starts(mode)[1])
        value = justified(generator.network, generator.scratch, order, mode, 0.0, begin)
        put(generator.network, generator.scratch, self.population, 0, mode, begin, value)
        self.offer_best()
        return True

    def evolve_until_stale(self, began: float) -> None:
        """Evolve in chunks until the time is over or the best has not got better for long."""
        from pathloom.schedule._project_search_kernels import evolve

        generator, population = self.generator, self.population
        count = generator.project.activities
        best_begin, best_mode = np.zeros(count, np.int64), np.zeros(count, np.int32)
        patience = self.settings.patience * self.settings.members
        children, stale = 50, 0
        alone = False  # whether solutions of others may enter; not at once after a restart
        while not self.incumbent.finished and stale < patience:
            if alone or stale > patience // 4 or self.effort.populations == 1:
                alone = True
                self.take_up()
            clock = time.perf_counter()
            found, passes = evolve(
                generator.network,
                generator.scratch,
                population,
                self.weight,
                children,
                self.settings.shaken,
                best_begin,
                best_mode,
            )
            self.effort.children += children
            self.effort.schedules += passes
            stale += children
            if found < 1 << 60:
                stale = 0
                self.offer(best_mode, best_begin, int(found))
            spent = time.perf_counter() - clock
            children = int(
                np.clip(children * self.settings.chunk_seconds / max(spent, 1e-4), children / 4, children * 2)
            )
            children = max(children, 1)

    def take_up(self) -> None:
        """Let the incumbent into the population where another method found it."""
        best = self.incumbent.best()
        if best is None or best[0] == self.seen or best[0] >= int(self.population.value.min()) * self.generator.unit:
            return
        self.seen = best[0]
        self.admit(best[1])

    def admit(self, solution: ProjectSolution) -> None:
        """Let a solution of the project take the place of the worst member."""
        from pathloom.schedule._project_search_kernels import justified, put

        generator = self.generator
        mode = generator.local_modes(solution[0])
        order = generator.list_by_key(solution[1])
        begin = np.zeros(generator.project.activities, np.int64)
        value = justified(generator.network, generator.scratch, order, mode, 0.0, begin)
        row = int(self.population.value.argmax())
        put(generator.network, generator.scratch, self.population, row, mode, begin, value)
        self.offer(mode, begin, int(value))

    def offer_best(self) -> None:
        row = int(self.population.value.argmin())
        self.offer(self.population.mode[row], self.population.begin[row], int(self.population.value[row]))

    def offer(self, mode: Positions, begin: Ints, value: int) -> None:
        from pathloom.schedule._project_search_kernels import OVERDRAWN

        if value < OVERDRAWN:
            generator = self.generator
            self.incumbent.offer(value * generator.unit, (generator.mode[mode], begin * generator.unit), SOURCE)
