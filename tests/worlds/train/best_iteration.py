"""The best iteration of a tiny instance as a constraint program, and tiny instances whose times are whole ticks.

The program is written from the problem's definition and from what the checker asks of a timetable; it knows nothing of
the simulator. It may choose any placement (where that is open), any routes and any times, and so also what no order of
work of the simulator gives: a node that idles on purpose. Its optimum is what every lower bound must stay below.
`every_plan` lists the decisions of an instance one by one, for those who want to simulate them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
from ortools.sat.python import cp_model
from random_networks import all_orders, all_routes

from pathloom.worlds.train.problem import Ints, Reordering, TrainDecisions, TrainProblem
from pathloom.worlds.train.routes import route_cost

TICK = 0.25


@dataclass(frozen=True)
class BestIteration:
    """Seconds of the best iteration that was found (infinity if there is none), and whether it is proven."""

    seconds: float
    proven: bool


def tiny_problem(seed: int, **changes: Any) -> TrainProblem:
    """An instance of 1 to 6 nodes and 1 to 4 stages with times in whole ticks; the seed settles its features.

    About half of them are short of one thing only (time of sources, of other nodes, or slots), where bounds are sharp.
    """
    rng = np.random.default_rng(seed)
    sharp = rng.random() < 0.5
    s = int(changes.pop("stages", rng.integers(2 if sharp else 1, 4 if sharp else 5)))
    k = int(changes.pop("route_length", rng.integers(min(2, s), min(s, 3) + 1) if sharp else rng.integers(1, s + 1)))
    n = int(changes.pop("n_nodes", rng.integers(s, 5) if sharp else rng.integers(s, 7)))
    k, n = min(k, 3), max(n, s)
    b = int(changes.pop("microbatches", rng.integers(3, 6) if sharp else rng.integers(1, 5)))
    extra = np.bincount(rng.integers(1 if sharp else 0, s, n - s), minlength=s)
    sizes = np.ones(s, dtype=np.int64) + extra
    if rng.random() < 0.5:
        forward = np.full((n, s), TICK * rng.integers(1, 6))
    else:
        forward = TICK * rng.integers(1, 9, (n, s))
    weight = TICK * rng.integers(1, 6, (n, s))
    backward = weight + TICK * rng.integers(0, 8, (n, s))
    link = TICK * rng.integers(0, int(rng.choice([1, 8, 40])) + 1, (n, n)).astype(np.float64)
    if rng.random() < 0.5:
        link = np.minimum(link, link.T)
    if rng.random() < 0.25:
        link[rng.random((n, n)) < 0.15] = np.inf
    np.fill_diagonal(link, 0.0)
    visits, others = b * (k - 1), n - int(sizes[0])
    node_cap = np.maximum(-(-visits // max(others, 1)) + rng.integers(0 if sharp else -1, 3, n), 0)
    stage_cap = np.minimum(b, rng.integers(max(1, b - 1), b + 1, s))
    stage_cap[0] = b
    sync = rng.random() < 0.3
    gaps = TICK * rng.choice([0, 0, 1, 2] if sharp else [0, 1, 2, 12], 2)
    given: dict[str, Any] = {
        "name": f"tiny-{seed}",
        "nodes": tuple(f"n{i}" for i in range(n)),
        "locations": tuple(f"r{i % 2}" for i in range(n)),
        "forward": forward,
        "backward": backward,
        "weight": weight,
        "loss": TICK * rng.integers(0, 4, n),
        "link": link,
        "memory": rng.integers(1, 5, n),
        "stage_sizes": sizes,
        "microbatches": b,
        "route_length": k,
        "source_cap": -(-b // int(sizes[0])) + int(rng.integers(0, 2)),
        "stage_cap": stage_cap,
        "node_cap": node_cap,
        "placement": rng.permutation(np.repeat(np.arange(s), sizes)) if rng.random() < 0.5 else None,
        "reordering": Reordering(*(int(x) for x in rng.integers(0, 3, 3)), jump=int(rng.integers(1, 4))),
        "gap": float(gaps[0]),
        "injection_gap": float(gaps[1]),
        # twice the seconds / g of a stage of g nodes: whole ticks for every g up to 6
        "sync_latency": TICK * rng.integers(0, 4, (n, n)) if sync else None,
        "sync_seconds": 30 * TICK * (rng.random((n, n)) < 0.3) if sync else None,
    }
    return TrainProblem(**{**given, **changes})


def best_iteration(problem: TrainProblem, *, split_backward: bool = False, time_limit: float = 20.0) -> BestIteration:
    """The best iteration over all placements, routes and timetables."""
    program = _Program(problem, split_backward)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = time_limit
    solver.parameters.num_workers = 1
    status = solver.solve(program.model)
    if status == cp_model.INFEASIBLE:
        return BestIteration(float("inf"), True)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return BestIteration(float("inf"), False)
    return BestIteration(round(solver.objective_value) * TICK, status == cp_model.OPTIMAL)


def ticks(seconds: float) -> int:
    whole = round(float(seconds) / TICK)
    assert abs(whole * TICK - seconds) < 1e-9, f"{seconds} s is no whole number of ticks"
    return whole


class _Program:
    def __init__(self, problem: TrainProblem, split: bool) -> None:
        self.model: Any = cp_model.CpModel()
        self.problem, self.split = problem, split
        n, s, k, microbatches = problem.n_nodes, problem.n_stages, problem.route_length, problem.microbatches
        model = self.model
        self.at = [[model.new_bool_var(f"node {i} in {p}") for p in range(s)] for i in range(n)]
        for i in range(n):
            model.add_exactly_one(self.at[i])
            if problem.placement is not None:
                model.add(self.at[i][int(problem.placement[i])] == 1)
        for p in range(s):
            model.add(sum(self.at[i][p] for i in range(n)) == int(problem.stage_sizes[p]))
        self.routes = self._routes()
        longest = 4 + max(1, sum(ticks(x.max(initial=0.0)) for x in (problem.forward, problem.backward)))
        rests = ticks(max(problem.gap, problem.injection_gap))
        hop = ticks(problem.link[np.isfinite(problem.link)].max(initial=0.0))
        loss = ticks(problem.loss.max(initial=0.0))
        self.horizon = microbatches * ((2 * k + 2) * (longest + rests + hop) + loss) + self._longest_sync() + 1
        self.latest = model.new_int_var(0, self.horizon, "iteration time")
        self.holds: list[list[Any]] = [[] for _ in range(n)]
        self.stored: list[list[Any]] = [[] for _ in range(n)]
        self.visits: list[list[list[Any]]] = []  # of each microbatch, by node, by visit
        self.sync = self._sync()
        for b in range(microbatches):
            self._microbatch(b)
        for i in range(n):
            model.add_no_overlap(self.holds[i])
            model.add_cumulative(self.stored[i], [1] * len(self.stored[i]), int(problem.memory[i]))
            starts = [self.visits[b][i][0] for b in range(microbatches)]
            later = [self.visits[b][i][v] for b in range(microbatches) for v in range(1, k)]
            model.add(sum(starts) <= problem.source_cap)
            model.add(sum(later) <= int(problem.node_cap[i]))
        model.minimize(self.latest)

    def _routes(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        problem = self.problem
        orders = all_orders(problem.n_stages, problem.route_length, problem.reordering)
        found = []
        for nodes in permutations(range(problem.n_nodes), problem.route_length):
            ring = [*nodes, nodes[0]] if len(nodes) > 1 else list(nodes)
            if all(np.isfinite(problem.link[i, j] + problem.link[j, i]) for i, j in pairwise(ring)):
                found += [
                    (nodes, order)
                    for order in orders
                    if problem.placement is None
                    or all(problem.placement[i] == p for i, p in zip(nodes, order, strict=True))
                ]
        return found

    def _pair_ticks(self, p: int) -> list[list[int]]:
        problem = self.problem
        assert problem.sync_latency is not None and problem.sync_seconds is not None
        size = int(problem.stage_sizes[p])
        each = 2.0 * (problem.sync_latency + problem.sync_seconds / size)
        return [[ticks(x) for x in row] for row in each.tolist()]

    def _longest_sync(self) -> int:
        if self.problem.sync_latency is None:
            return 0
        return max(max(map(sum, self._pair_ticks(p))) for p in range(self.problem.n_stages))

    def _sync(self) -> list[Any]:
        """Ticks of each stage's gradient averaging; the iteration lasts at least that long."""
        if self.problem.sync_latency is None:
            return []
        n = self.problem.n_nodes
        sync = []
        for p in range(self.problem.n_stages):
            pairs = self._pair_ticks(p)
            seconds = self.model.new_int_var(0, self.horizon, f"sync {p}")
            for i in range(n):
                others = sum(pairs[i][j] * self.at[j][p] for j in range(n) if j != i)
                self.model.add(seconds >= others).only_enforce_if(self.at[i][p])
            self.model.add(self.latest >= seconds)
            sync.append(seconds)
        return sync

    def _microbatch(self, b: int) -> None:
        model, problem, split = self.model, self.problem, self.split
        k, n = problem.route_length, problem.n_nodes
        choice = [model.new_bool_var(f"mb{b} route {r}") for r in range(len(self.routes))]
        model.add_exactly_one(choice)
        for literal, (nodes, order) in zip(choice, self.routes, strict=True):
            for i, p in zip(nodes, order, strict=True):
                model.add_implication(literal, self.at[i][p])
        held = problem.backward - problem.weight if split else problem.backward
        last = 2 * k
        start = [model.new_int_var(0, self.horizon, f"mb{b} task {t}") for t in range(last + 1)]
        late = [model.new_int_var(0, self.horizon, f"mb{b} weight {v}") for v in range(k)] if split else []

        def length(nodes: tuple[int, ...], order: tuple[int, ...], t: int) -> int:
            if t == k:
                return ticks(problem.loss[nodes[0]])
            v = t if t < k else last - t
            return ticks((problem.forward if t < k else held)[nodes[v], order[v]])

        def node(nodes: tuple[int, ...], t: int) -> int:
            return nodes[0] if t == k else nodes[t if t < k else last - t]

        seconds: list[Any] = []
        for t in range(last + 1):
            seconds.append(sum(length(*route, t) * x for x, route in zip(choice, self.routes, strict=True)))
            if t < last:
                hops = [
                    0 if node(r, t) == node(r, t + 1) else ticks(problem.link[node(r, t), node(r, t + 1)])
                    for r, _ in self.routes
                ]
                away = sum(h * x for h, x in zip(hops, choice, strict=True))
                model.add(start[t + 1] >= start[t] + seconds[t] + away)
        model.add(self.latest >= start[last] + seconds[last])

        comes = [[model.new_bool_var(f"mb{b} visit {v} at {i}") for v in range(k)] for i in range(n)]
        for i in range(n):
            for v in range(k):
                model.add(comes[i][v] == sum(x for x, (r, _) in zip(choice, self.routes, strict=True) if r[v] == i))
        self.visits.append(comes)
        by_stage = [
            sum(x for x, (_, order) in zip(choice, self.routes, strict=True) if p in order)
            for p in range(problem.n_stages)
        ]
        if b == 0:
            self.passes = by_stage
        else:
            self.passes = [x + y for x, y in zip(self.passes, by_stage, strict=True)]
        if b == problem.microbatches - 1:
            for p, total in enumerate(self.passes):
                model.add(total <= int(problem.stage_cap[p]))

        def work(begin: Any, size: int, rest: float, i: int, presence: Any) -> None:
            whole = size + ticks(rest)
            self.holds[i].append(model.new_optional_fixed_size_interval_var(begin, whole, presence, f"mb{b} {i}"))

        for v in range(k):
            ends = []
            for i in range(n):
                for p in range(problem.n_stages):
                    here = [x for x, (r, order) in zip(choice, self.routes, strict=True) if r[v] == i and order[v] == p]
                    if not here:
                        continue
                    presence = model.new_bool_var("")
                    model.add(presence == sum(here))
                    rest = problem.injection_gap if v == 0 else problem.gap
                    back = ticks(held[i, p])
                    work(start[v], ticks(problem.forward[i, p]), rest, i, presence)
                    work(start[last - v], back, problem.gap, i, presence)
                    free: Any = start[last - v] + back
                    if split:
                        extra = ticks(problem.weight[i, p])
                        model.add(late[v] >= free).only_enforce_if(presence)
                        work(late[v], extra, problem.gap, i, presence)
                        free = late[v] + extra
                    ends.append((free, p, presence))
                    stay = model.new_int_var(0, self.horizon, "")
                    until = model.new_int_var(0, self.horizon, "")
                    model.add(until == free).only_enforce_if(presence)
                    self.stored[i].append(
                        model.new_optional_interval_var(start[v], stay, until, presence, f"mb{b} held by {i}")
                    )
            for free, p, presence in ends:
                closing = self.sync[p] if self.sync else 0
                model.add(self.latest >= free + closing).only_enforce_if(presence)
        for i in range(n):
            work(start[k], ticks(problem.loss[i]), problem.gap, i, comes[i][0])


def placements(problem: TrainProblem) -> Iterator[Ints]:
    if problem.placement is not None:
        yield np.array(problem.placement)
        return
    whole = np.repeat(np.arange(problem.n_stages), problem.stage_sizes)
    for placement in sorted(set(permutations(whole.tolist()))):
        yield np.array(placement)


def within_caps(problem: TrainProblem, routes: Ints, stages: Ints) -> bool:
    n, s = problem.n_nodes, problem.n_stages
    return bool(
        (np.bincount(routes[:, 0], minlength=n) <= problem.source_cap).all()
        and (np.bincount(routes[:, 1:].ravel(), minlength=n) <= problem.node_cap).all()
        and (np.bincount(stages.ravel(), minlength=s) <= problem.stage_cap).all()
    )


def every_plan(problem: TrainProblem) -> Iterator[TrainDecisions]:
    """All placements and routes of all microbatches that TC1 allows."""
    for placement in placements(problem):
        choices = [route for s in np.flatnonzero(placement == 0) for route in all_routes(problem, placement, int(s))]
        for chosen in product(choices, repeat=problem.microbatches):
            routes, stages = np.array([nodes for nodes, _ in chosen]), np.array([order for _, order in chosen])
            if within_caps(problem, routes, stages) and np.isfinite(route_cost(problem, routes, stages)).all():
                yield TrainDecisions(placement, routes, stages)
