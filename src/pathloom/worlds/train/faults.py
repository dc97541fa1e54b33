"""What a plan does when things go wrong: many simulated iterations with noise, stragglers, slow links and failures."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from pathloom.plan import InputError, OnProgress, Plan, Progress
from pathloom.timeline import Timeline
from pathloom.worlds.train.fault_outcome import FaultOutcome, simulate_failures
from pathloom.worlds.train.fault_story import Failure
from pathloom.worlds.train.problem import SYNC, Floats, TrainDecisions, TrainProblem
from pathloom.worlds.train.recovery import RecoveryPolicy, policy_named
from pathloom.worlds.train.simulator import Disturbances, simulate, timeline

__all__ = ["Failure", "FaultOutcome", "SimulationReport", "Statistic", "simulate_failures", "simulate_plan"]

COLUMNS = ("figure", "value", "95 % interval")
RESAMPLES = 1000


@dataclass(frozen=True)
class Statistic:
    """A figure over runs, in seconds, with its 95 % bootstrap interval (equal to the value for a single run)."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SimulationReport:
    """What `simulate_plan` found.

    Attributes
    ----------
    name
        Name of the instance.
    planned
        Iteration time of the plan, seconds.
    seconds
        Shape (runs,): iteration time of each run; infinite where microbatches never returned.
    statistics
        Mean, least, largest, and percentiles 5, 25, 50, 75, 95 of `seconds`.
    stuck
        Runs in which microbatches never returned, because nodes waited for each other's memory.
    slowest_node, slowest_factor
        Node whose work took longest compared with the problem's durations, and the factor; of equals the busiest.
    busiest_node, busiest_share
        Node with the largest mean busy share of the iteration, and the share.
    outcomes
        One a run where there are failures; the restart of the iteration is worked out for the first one only.
    timeline
        Of the first run.
    """

    name: str
    planned: float
    seconds: Floats
    statistics: tuple[Statistic, ...]
    stuck: int
    slowest_node: str
    slowest_factor: float
    busiest_node: str
    busiest_share: float
    outcomes: tuple[FaultOutcome, ...]
    timeline: Timeline
    columns: tuple[str, ...] = COLUMNS

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Cells of a table with the titles `columns`."""
        found: list[tuple[str, ...]] = [("planned", f"{self.planned:.2f} s", "")]
        found += [
            (s.name, f"{s.value:.2f} s", f"{s.low:.2f} to {s.high:.2f}" if len(self.seconds) > 1 else "")
            for s in self.statistics
        ]
        found.append(("slowest node", f"{self.slowest_node} ({self.slowest_factor:.2f} x its planned times)", ""))
        found.append(("busiest node", f"{self.busiest_node} ({self.busiest_share:.0%})", ""))
        if self.stuck:
            found.append(("runs that never end", str(self.stuck), ""))
        if self.outcomes:
            first = self.outcomes[0]
            lost = np.array([o.lost_time for o in self.outcomes])
            found.append((f"lost time ({first.policy})", f"{lost.mean():.2f} s", ""))
            if np.isfinite(first.restart_lost_time):
                found.append(("lost time of a restart (first run)", f"{first.restart_lost_time:.2f} s", ""))
            found.append(("microbatches lost (first run)", ", ".join(first.lost) or "none", ""))
            found.append(("routed anew (first run)", ", ".join(first.rerouted) or "none", ""))
            if first.widening.source or first.widening.node:
                wider = f"source +{first.widening.source}, node +{first.widening.node}"
                found.append(("throughput caps exceeded by (first run)", wider, ""))
        return found

    def to_dict(self) -> dict[str, object]:
        """Plain figures for ``--json``."""
        return {
            "planned": self.planned,
            "runs": len(self.seconds),
            "seconds": self.seconds.tolist(),
            "statistics": {s.name: {"value": s.value, "low": s.low, "high": s.high} for s in self.statistics},
            "stuck": self.stuck,
            "slowest_node": self.slowest_node,
            "slowest_factor": self.slowest_factor,
            "busiest_node": self.busiest_node,
            "busiest_share": self.busiest_share,
            "failures": [
                {
                    "policy": o.policy,
                    "iteration_time": o.iteration_time,
                    "nominal": o.nominal,
                    "lost_time": o.lost_time,
                    "restart_lost_time": o.restart_lost_time if np.isfinite(o.restart_lost_time) else None,
                    "lost": list(o.lost),
                    "rerouted": list(o.rerouted),
                    "incomplete_gradients": list(o.incomplete_gradients),
                    "widening": {"source": o.widening.source, "node": o.widening.node},
                    "completed": o.completed,
                }
                for o in self.outcomes
            ],
        }


def simulate_plan(
    plan: Plan,
    *,
    seed: int = 0,
    runs: int = 1,
    noise: float = 0.0,
    stragglers: Sequence[Sequence[str | float]] = (),
    slow_links: Sequence[Sequence[str | float]] = (),
    failures: Sequence[Sequence[str | float]] = (),
    policy: str | RecoveryPolicy = "reroute",
    detection: float = 1.0,
    redo_gradients: bool = False,
    on_progress: OnProgress | None = None,
) -> SimulationReport:
    """Simulate iterations of a plan under disturbances; run r draws its noise from seed + r.

    Parameters
    ----------
    noise
        Standard deviation of the logarithm of a random factor (mean 1) on every task and message.
    stragglers
        (node, factor) or (node, factor, from, to): tasks that start there in the window take factor times as long.
    slow_links
        (node, node, factor) or (node, node, factor, from, to): the same for messages, in both directions.
    failures
        (node, second): the node dies then.
    policy, detection, redo_gradients
        See `pathloom.worlds.train.fault_outcome.simulate_failures`.

    Raises
    ------
    InputError
        For an unknown node or policy, or a number that makes no sense.
    ProvenInfeasible
        If a stage loses its last node.
    NoPlanFound
        If no routes around dead nodes are found.
    """
    problem: TrainProblem = plan.problem
    decisions: TrainDecisions = plan.decisions
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise InputError(f"expected a whole number of at least 1, found {runs!r}", key="runs")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"expected a whole number of at least 0, found {seed!r}", key="seed")
    noise = _number("noise", noise)
    detection = _number("detection", detection)
    chosen = policy if not isinstance(policy, str) else policy_named(policy, evaluations=3000 if runs == 1 else 600)
    node_windows = [_straggler(problem, row) for row in stragglers]
    link_windows = [w for row in slow_links for w in _slow_link(problem, row)]
    deaths = [_failure(problem, row) for row in failures]
    wrong = Disturbances(noise, node_windows, link_windows)

    begun = time.perf_counter()
    seconds = np.empty(runs)
    ratios, shares = np.zeros(problem.n_nodes), np.zeros(problem.n_nodes)
    outcomes: list[FaultOutcome] = []
    first: Timeline | None = None
    for r in range(runs):
        if deaths:
            outcome = simulate_failures(
                problem,
                decisions,
                deaths,
                policy=chosen,
                detection=detection,
                disturbances=wrong,
                seed=seed + r,
                redo_gradients=redo_gradients,
                compare_restart=r == 0,
            )
            outcomes.append(outcome)
            table, seconds[r] = outcome.timeline, outcome.iteration_time
        else:
            run = simulate(problem, decisions, disturbances=wrong, seed=seed + r)
            table = timeline(problem, decisions, run)
            seconds[r] = run.iteration_time if np.isfinite(run.returned).all() else np.inf
        first = table if first is None else first
        factor, share = _by_node(problem, decisions, table)
        ratios += factor / runs
        shares += share / runs
        if on_progress is not None:
            mean = float(seconds[: r + 1].mean())
            on_progress(Progress(time.perf_counter() - begun, mean, None, f"run {r + 1} of {runs}"))
    assert first is not None
    slowest = int(np.lexsort((-shares, -np.round(ratios, 6)))[0])
    busiest = int(shares.argmax())
    return SimulationReport(
        name=problem.name,
        planned=plan.objective.value,
        seconds=seconds,
        statistics=statistics(seconds, seed),
        stuck=int(np.isinf(seconds).sum()),
        slowest_node=problem.nodes[slowest],
        slowest_factor=float(ratios[slowest]),
        busiest_node=problem.nodes[busiest],
        busiest_share=float(shares[busiest]),
        outcomes=tuple(outcomes),
        timeline=first,
    )


def statistics(seconds: Floats, seed: int) -> tuple[Statistic, ...]:
    """Mean, extremes and percentiles with 95 % bootstrap intervals (percentile method)."""
    n = len(seconds)
    drawn = seconds[np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))]
    # "lower" and "higher" keep infinities of runs that never end out of an interpolation
    measures = {
        "mean": (seconds.mean(), drawn.mean(axis=1)),
        "least": (seconds.min(), drawn.min(axis=1)),
        "largest": (seconds.max(), drawn.max(axis=1)),
    }
    for q in (5, 25, 50, 75, 95):
        measures[f"percentile {q}"] = (
            np.percentile(seconds, q, method="higher"),
            np.percentile(drawn, q, axis=1, method="higher"),
        )
    return tuple(
        Statistic(
            name,
            float(value),
            float(np.percentile(again, 2.5, method="lower")),
            float(np.percentile(again, 97.5, method="higher")),
        )
        for name, (value, again) in measures.items()
    )


def _by_node(problem: TrainProblem, decisions: TrainDecisions, table: Timeline) -> tuple[Floats, Floats]:
    """Factor on the planned durations, and busy share, of each node; shape (N,) each."""
    work = table.columns.get("work", table.kind)
    wasted = table.kind >= SYNC + 1
    rows = (work != SYNC) & ~wasted
    node, kind, stage = table.resource[rows], work[rows], table.columns["stage"][rows] % problem.n_stages
    backward = problem.backward - (problem.weight if decisions.split_backward else 0.0)
    lengths = np.stack([problem.forward, backward, problem.weight]) / decisions.chunks
    of_stage = np.where(kind == 0, 0, np.where(kind == 2, 1, 2))
    expected = np.where(kind == 1, problem.loss[node], lengths[of_stage, node, stage])
    taken = (table.end - table.start)[rows]
    total = np.bincount(node, weights=expected, minlength=problem.n_nodes)
    factor = np.bincount(node, weights=taken, minlength=problem.n_nodes) / np.where(total > 0, total, 1.0)
    busy = np.bincount(
        table.resource[work != SYNC], weights=(table.end - table.start)[work != SYNC], minlength=problem.n_nodes
    )
    return factor, busy / max(table.makespan, 1e-300)


def _node(problem: TrainProblem, name: object, key: str) -> int:
    if isinstance(name, str) and name in problem.nodes:
        return problem.nodes.index(name)
    near = get_close_matches(str(name), problem.nodes, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"the nodes are {', '.join(problem.nodes[:20])}"
    raise InputError(f"there is no node '{name}'; {hint}", key=key)


def _number(key: str, value: object, *, above: float | None = None) -> float:
    """A finite number of at least 0, or larger than `above`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"expected a number, found {value!r}", key=key)
    if value < 0 or (above is not None and value <= above):
        least = "of at least 0" if above is None else f"larger than {above:g}"
        raise InputError(f"expected a number {least}, found {value:g}", key=key)
    return float(value)


def _window(row: Sequence[str | float], at: int, key: str, shape: str) -> tuple[float, float, float]:
    """Factor, and the window in which it applies, of what stands from position `at` on."""
    if len(row) not in (at + 1, at + 3):
        raise InputError(f"expected ({shape}) or ({shape}, from, to), found {tuple(row)!r}", key=key)
    factor = _number(key, row[at], above=0.0)
    if len(row) == at + 1:
        return factor, 0.0, math.inf
    begin = _number(key, row[at + 1])
    if row[at + 2] == math.inf:
        return factor, begin, math.inf
    return factor, begin, _number(key, row[at + 2], above=begin)


def _straggler(problem: TrainProblem, row: Sequence[str | float]) -> tuple[int, float, float, float]:
    factor, begin, until = _window(row, 1, "straggler", "node, factor")
    return _node(problem, row[0], "straggler"), begin, until, factor


def _slow_link(problem: TrainProblem, row: Sequence[str | float]) -> list[tuple[int, int, float, float, float]]:
    factor, begin, until = _window(row, 2, "slow link", "node, node, factor")
    a, b = (_node(problem, name, "slow link") for name in row[:2])
    if a == b:
        raise InputError(f"expected two nodes, found '{row[0]}' twice", key="slow link")
    return [(a, b, begin, until, factor), (b, a, begin, until, factor)]


def _failure(problem: TrainProblem, row: Sequence[str | float]) -> Failure:
    if len(row) != 2:
        raise InputError(f"expected (node, second), found {tuple(row)!r}", key="failure")
    return Failure(_node(problem, row[0], "failure"), _number("failure", row[1]))
