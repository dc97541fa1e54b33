"""The best collision-free wave as a constraint program, solved to a proven optimum by CP-SAT.

The same problem as `conflict_free`, stated on its own: every microbatch chooses one admissible route; its tasks are
optional intervals on the nodes; holds of a node do not overlap; TC1 bounds the visits. Only the list of routes is
shared. Times are integers: a problem whose durations are whole multiples of `tick` is solved exactly, any other one
to within rounding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train.conflict_free import wave_of
from pathloom.worlds.train.problem import BACKWARD, FORWARD, LOSS, TrainProblem
from pathloom.worlds.train.timed_routes import RoutesFrom
from pathloom.worlds.train.wave import Wave


@dataclass(frozen=True)
class ExactWave:
    """Outcome of the constraint program.

    Attributes
    ----------
    routes, stages
        Shape (A, K) each; None if no wave was found.
    start
        Seconds, shape (A, 2K + 1): start of the forwards, of the loss, and of the backwards (last visit first).
    cost, bound
        Seconds: objective of the wave, and a lower bound on it. Both are infinity where infeasibility is proven.
    proven
        True if `cost` equals `bound`.
    seconds
        Wall time.
    """

    routes: NDArray[np.int64] | None
    stages: NDArray[np.int64] | None
    start: NDArray[np.float64] | None
    cost: float
    bound: float
    proven: bool
    seconds: float


def solve_exact(
    problem: TrainProblem,
    *,
    placement: NDArray[np.int64] | None = None,
    agents: int | None = None,
    objective: str = "max",
    time_limit: float = 60.0,
    seed: int = 0,
    tick: float = 1e-3,
    workers: int = 1,
) -> ExactWave:
    """Solve the wave with CP-SAT.

    Parameters
    ----------
    placement, agents, objective
        As in `conflict_free.solve`.
    tick
        Seconds of one unit of the program's integer time.
    workers
        Threads; with one, the outcome is the same in every run that ends before the time limit.

    Raises
    ------
    ValueError
        If the objective is unknown, or no placement is given.
    """
    from ortools.sat.python import cp_model

    if objective not in ("max", "sum"):
        raise ValueError(f"objective '{objective}' is none of max, sum")
    began = time.perf_counter()
    wave = wave_of(problem, placement, agents)
    program = _Program(wave, objective, tick)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = time_limit
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    solver.parameters.catch_sigint_signal = False  # Ctrl-C belongs to the command line
    status = solver.solve(program.model)
    seconds = time.perf_counter() - began
    if status == cp_model.INFEASIBLE:
        return ExactWave(None, None, None, inf, inf, True, seconds)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return ExactWave(None, None, None, inf, solver.best_objective_bound * tick, False, seconds)
    routes, stages, start = program.read(solver)
    return ExactWave(
        routes,
        stages,
        start,
        round(solver.objective_value) * tick,
        solver.best_objective_bound * tick,
        status == cp_model.OPTIMAL,
        seconds,
    )


class _Program:
    """Variables and constraints of one wave."""

    def __init__(self, wave: Wave, objective: str, tick: float) -> None:
        from ortools.sat.python import cp_model

        self.model: Any = cp_model.CpModel()
        self.wave, self.tick = wave, tick
        self.lists = {
            s: RoutesFrom(wave.problem, wave.placement, s, rests=True) for s in dict.fromkeys(wave.source.tolist())
        }
        self.choice: list[list[Any]] = []
        self.start: list[dict[tuple[int, int], Any]] = []
        self.comes: list[dict[int, Any]] = []
        self.holds: list[list[Any]] = [[] for _ in range(wave.problem.n_nodes)]
        self.horizon = self._horizon()
        ends = [self._agent(agent) for agent in range(wave.agents)]
        for holds in self.holds:
            self.model.add_no_overlap(holds)
        self._caps()
        if objective == "max":
            latest = self.model.new_int_var(0, self.horizon, "latest")
            for end in ends:
                self.model.add(latest >= end)
            self.model.minimize(latest)
        else:
            self.model.minimize(sum(ends))

    def ticks(self, seconds: float) -> int:
        return round(float(seconds) / self.tick)

    def _horizon(self) -> int:
        """Enough for all microbatches one after the other, each on its dearest route."""
        problem = self.wave.problem
        rests = (2 * problem.route_length + 1) * max(problem.gap, problem.injection_gap)
        each = sum(float(self.lists[s].cost.max(initial=0.0)) + rests for s in self.wave.source.tolist())
        return self.ticks(each + float(self.wave.offset.max())) + (2 * problem.route_length + 2) * self.wave.agents

    def _agent(self, agent: int) -> Any:
        """Add one microbatch; returns the end of its last backward pass."""
        model, problem, placement = self.model, self.wave.problem, self.wave.placement
        source = int(self.wave.source[agent])
        routes = self.lists[source]
        choice = [model.new_bool_var(f"route {agent} {r}") for r in range(len(routes.cost))]
        model.add_exactly_one(choice)
        through: dict[int, list[Any]] = {}
        arcs: dict[tuple[int, int], list[Any]] = {}
        last: dict[int, list[Any]] = {}
        for literal, nodes in zip(choice, routes.nodes.tolist(), strict=True):
            for n in nodes:
                through.setdefault(n, []).append(literal)
            for arc in pairwise(nodes):
                arcs.setdefault(arc, []).append(literal)
            last.setdefault(nodes[-1], []).append(literal)
        start: dict[tuple[int, int], Any] = {}
        comes: dict[int, Any] = {}
        end: dict[tuple[int, int], Any] = {}

        def task(n: int, kind: int, seconds: float, rest: float) -> None:
            start[n, kind] = model.new_int_var(0, self.horizon, f"start {agent} {n} {kind}")
            end[n, kind] = start[n, kind] + self.ticks(seconds)
            hold = self.ticks(seconds) + self.ticks(rest)
            self.holds[n].append(
                model.new_optional_fixed_size_interval_var(start[n, kind], hold, comes[n], f"hold {agent} {n} {kind}")
            )

        for n, literals in sorted(through.items()):
            comes[n] = model.new_bool_var(f"comes {agent} {n}")
            model.add(comes[n] == sum(literals))
            p = int(placement[n])
            task(n, FORWARD, problem.forward[n, p], problem.injection_gap if n == source else problem.gap)
            task(n, BACKWARD, problem.backward[n, p], problem.gap)
        task(source, LOSS, problem.loss[source], problem.gap)
        model.add(start[source, FORWARD] >= self.ticks(self.wave.offset[agent]))
        for (a, b), literals in arcs.items():
            taken = self._any(literals)
            there, back = self.ticks(problem.link[a, b]), self.ticks(problem.link[b, a])
            model.add(start[b, FORWARD] >= end[a, FORWARD] + there).only_enforce_if(taken)
            model.add(start[a, BACKWARD] >= end[b, BACKWARD] + back).only_enforce_if(taken)
        for n, literals in last.items():
            taken = self._any(literals)
            home = self.ticks(problem.link[n, source]) if n != source else 0
            back = self.ticks(problem.link[source, n]) if n != source else 0
            model.add(start[source, LOSS] >= end[n, FORWARD] + home).only_enforce_if(taken)
            model.add(start[n, BACKWARD] >= end[source, LOSS] + back).only_enforce_if(taken)
        self.choice.append(choice)
        self.start.append(start)
        self.comes.append(comes)
        return end[source, BACKWARD]

    def _any(self, literals: list[Any]) -> Any:
        """A literal that is true where one of the literals (of which at most one is) is."""
        taken = self.model.new_bool_var("")
        self.model.add(taken == sum(literals))
        return taken

    def _caps(self) -> None:
        """TC1: visits of stages and nodes over the iteration, and activations that a wave leaves at a node."""
        wave, problem = self.wave, self.wave.problem
        for p in range(1, problem.n_stages):
            members = np.flatnonzero(wave.placement == p).tolist()
            at_stage: list[Any] = []
            for n in members:
                visits = [(agent, comes[n]) for agent, comes in enumerate(self.comes) if n in comes]
                repeated = [wave.repeats[agent] * literal for agent, literal in visits]
                self.model.add(sum(repeated) <= int(problem.node_cap[n]))
                self.model.add(sum(literal for _, literal in visits) <= int(wave.slots[n]))
                at_stage.extend(repeated)
            self.model.add(sum(at_stage) <= int(problem.stage_cap[p]))

    def read(self, solver: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Routes, stages and starts of the solution."""
        routes, stages, starts = [], [], []
        for agent, choice in enumerate(self.choice):
            of_source = self.lists[int(self.wave.source[agent])]
            taken = next(r for r, literal in enumerate(choice) if solver.boolean_value(literal))
            nodes = of_source.nodes[taken].tolist()
            kinds = [(n, FORWARD) for n in nodes] + [(nodes[0], LOSS)] + [(n, BACKWARD) for n in reversed(nodes)]
            routes.append(nodes)
            stages.append(of_source.stages[taken])
            starts.append([solver.value(self.start[agent][use]) * self.tick for use in kinds])
        return np.array(routes), np.array(stages), np.array(starts)
