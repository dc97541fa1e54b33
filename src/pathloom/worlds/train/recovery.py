"""Recovery policies: what to do with the microbatches of an iteration when a node has died.

A policy sees a `ClusterView` and returns a `Recovery`; the simulator and a running cluster drive the same object. It is
told what has happened so far and may ask what the iteration would take under a recovery (`ClusterView.expect`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from pathloom.plan import InputError, NoPlanFound
from pathloom.worlds.train.attempts import Reissue
from pathloom.worlds.train.problem import Floats, Ints, TrainProblem
from pathloom.worlds.train.repair import Moved, RouteDraft, Widening

MOST_BEYOND = 2  # most that a cap is widened beyond what is needed
WORTH = 0.1  # share of the remaining time that a further widening must save

Status = Literal["returned", "in flight", "waiting", "lost"]


@dataclass(frozen=True)
class MicrobatchState:
    """A microbatch at the time of a decision.

    Attributes
    ----------
    status
        "returned": its last backward pass has ended; "in flight": injected, and all that it still needs lives;
        "waiting": not injected yet; "lost": injected, and it has unfinished work or an activation on a dead node,
        or a message on its way died with its sender.
    route, stages
        Nodes and stages of its present attempt.
    forwards
        Forward passes that have started, those of the attempts that it continues included.
    resume
        For a lost microbatch: largest visit from which it can go on, because the nodes of all visits before it live and
        hold its activations; 0 if it must begin at a source.
    after
        Microbatch for whose return its injection waits, -1 for none.
    """

    index: int
    status: Status
    route: tuple[int, ...]
    stages: tuple[int, ...]
    forwards: int
    resume: int
    after: int


@dataclass(frozen=True)
class Expectation:
    """What a recovery would lead to: end of the iteration (infinity if it never ends) and each return, shape (B,)."""

    seconds: float
    returned: Floats


@dataclass(frozen=True)
class Recovery:
    """A policy's decision.

    Attributes
    ----------
    reissues
        New attempts, in the order in which they are injected where several are possible. Microbatches without one go
        on as they are.
    restart
        Everything done so far is thrown away, and all microbatches begin anew (one reissue each, none continued).
    widening
        By how much the throughput caps TC1 had to be exceeded.
    """

    reissues: tuple[Reissue, ...] = ()
    restart: bool = False
    widening: Widening = Widening()  # noqa: RUF009 (frozen)


@dataclass(frozen=True)
class ClusterView:
    """State of an iteration at the time at which a failure has been detected.

    Attributes
    ----------
    time
        Seconds since the iteration began.
    problem, placement
        The instance, and the stage of each node.
    chunks
        Model chunks a node, see `TrainDecisions`.
    live
        Shape (N,): nodes not known to be dead.
    microbatches
        One state a microbatch.
    plan_after
        Shape (B,): what the plan lets each injection wait for, for a restart.
    visits
        Shape (N,): microbatches that have been, are, or will be at each node, less the lost and the waiting ones.
    expect
        What the iteration would come to under a recovery: exact but for noise that nobody can know yet.
    """

    time: float
    problem: TrainProblem
    placement: Ints
    chunks: int
    live: np.ndarray
    microbatches: tuple[MicrobatchState, ...]
    plan_after: Ints
    visits: Ints
    expect: Callable[[Recovery], Expectation]

    @property
    def lost(self) -> tuple[MicrobatchState, ...]:
        """The lost microbatches."""
        return tuple(m for m in self.microbatches if m.status == "lost")

    @property
    def stranded(self) -> tuple[MicrobatchState, ...]:
        """Microbatches not injected yet whose route leads through a dead node: nothing is lost, but it cannot stay."""
        return tuple(m for m in self.microbatches if m.status == "waiting" and not self.live[list(m.route)].all())


class RecoveryPolicy(Protocol):
    """Signature of a recovery policy."""

    @property
    def name(self) -> str:
        """Name of the policy."""
        ...

    def decide(self, view: ClusterView) -> Recovery:
        """Say what to do; every lost and every stranded microbatch must get a new attempt."""
        ...


@dataclass(frozen=True)
class Reroute:
    """Ours: what the failure did not touch goes on, the rest is routed anew by local search.

    A lost microbatch goes on from the last node before the gap, which still holds its activation, or begins again at
    its source, whichever the search finds better; if its source has died, another node of stage 0 takes it, whose copy
    of the data it is. Microbatches that wait for injection may change their route. The objective is the simulated end
    of the iteration. A repeated backward pass at a stage that has already counted a microbatch's gradient is taken to
    cost its usual time; the run must not count it again.

    Attributes
    ----------
    evaluations
        Simulations that the search may spend.
    seed
        Seed of the search.
    resume
        Let lost microbatches go on from where their activations are still held.
    move_waiting
        Let microbatches that wait for injection change their route even if the failure did not touch it.
    """

    evaluations: int = 3000
    seed: int = 0
    resume: bool = True
    move_waiting: bool = True
    name: str = "reroute"

    def decide(self, view: ClusterView) -> Recovery:
        must = {m.index for m in (*view.lost, *view.stranded)}
        if not must:
            return Recovery()
        moved = [m for m in view.microbatches if m.index in must or (self.move_waiting and m.status == "waiting")]
        indices = {m.index for m in moved}
        # whoever was injected before has waited enough
        moving = [
            (m.index, m.route, m.stages, m.resume if self.resume else 0, m.after if m.status == "waiting" else -1)
            for m in moved
        ]
        fixed = [m.route for m in view.microbatches if m.index not in indices]
        # a failure long after the last injection leaves few routes to choose, which few trials exhaust
        evaluations = min(self.evaluations, 400 * len(moved))
        return _search(view, moving, fixed, evaluations, self.seed, restart=False)


@dataclass(frozen=True)
class Restart:
    """Baseline: drop the iteration and run it again without the dead node, planned by the same search."""

    evaluations: int = 3000
    seed: int = 0
    name: str = "restart"

    def decide(self, view: ClusterView) -> Recovery:
        if not view.lost and not view.stranded:
            return Recovery()
        moving = [(m.index, m.route, m.stages, 0, int(view.plan_after[m.index])) for m in view.microbatches]
        return _search(view, moving, [], self.evaluations, self.seed, restart=True)


def policy_named(policy: str | RecoveryPolicy, *, evaluations: int | None = None, seed: int = 0) -> RecoveryPolicy:
    """The policy of that name ("reroute" or "restart"), or the given policy itself.

    Raises
    ------
    InputError
        If there is no policy of that name.
    """
    if not isinstance(policy, str):
        return policy
    if policy == "reroute":
        return Reroute(seed=seed) if evaluations is None else Reroute(evaluations, seed)
    if policy == "restart":
        return Restart(seed=seed) if evaluations is None else Restart(evaluations, seed)
    raise InputError(f"expected 'reroute' or 'restart', found '{policy}'", key="policy")


def _search(
    view: ClusterView,
    moving: Sequence[Moved],
    fixed: Sequence[tuple[int, ...]],
    evaluations: int,
    seed: int,
    *,
    restart: bool,
) -> Recovery:
    """Best recovery found within the caps TC1, widened as little as possible.

    A cap that the live nodes cannot keep is widened by the least number that works. That can leave nothing but a node
    behind a very slow link, so one more is allowed where it saves a tenth of the time that remains.
    """
    found: tuple[Recovery, float] | None = None
    for beyond in range(MOST_BEYOND + 1):
        draft = RouteDraft.of(view.problem, view.placement, view.live, moving, fixed, chunks=view.chunks, beyond=beyond)
        if found is not None and draft.widening == found[0].widening:
            break
        recovery, seconds = _anneal(view, draft, evaluations, seed, restart=restart)
        if found is not None and not seconds - view.time <= (1 - WORTH) * (found[1] - view.time):
            break
        found = recovery, seconds
    if found is None or not np.isfinite(found[1]):
        raise NoPlanFound(f"no routes around the dead nodes were found in {evaluations} trials")
    return found[0]


def _anneal(
    view: ClusterView, draft: RouteDraft, evaluations: int, seed: int, *, restart: bool
) -> tuple[Recovery, float]:
    """Anneal the draft's routes; the simulated end of the iteration is the objective."""
    rng = np.random.default_rng(seed)
    moved = np.array([r.microbatch for r in draft.reissues], dtype=np.int64)

    def judge() -> tuple[Recovery, float, float]:
        recovery = Recovery(tuple(draft.reissues), restart, draft.widening)
        expected = view.expect(recovery)
        never = int(np.isnan(expected.returned).sum())
        if never or not np.isfinite(expected.seconds):  # nodes that wait for each other's slots, or a missing link
            return recovery, np.inf, 1e6 * max(never, 1)
        # the mean return breaks ties among routes that leave the last return as it is
        return recovery, expected.seconds, expected.seconds + 0.05 * float(expected.returned[moved].mean())

    best, best_seconds, best_value = judge()
    value = best_value
    scale = max(best_value - view.time, 1e-3) if np.isfinite(best_seconds) else 1.0
    trial = 0
    for _ in range(4 * evaluations):  # proposals that the caps forbid cost no simulation
        if trial == evaluations:
            break
        undo = draft.propose(rng)
        if undo is None:
            continue
        trial += 1
        recovery, seconds, candidate = judge()
        temperature = scale * 0.02 * 0.01 ** (trial / evaluations)
        if candidate <= value - temperature * np.log(max(rng.random(), 1e-300)):
            value = candidate
            if candidate < best_value:
                best, best_seconds, best_value = recovery, seconds, candidate
        else:
            undo()
    return best, best_seconds
