"""A recovery as live nodes carry it out, and whether it can be carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pathloom.worlds.train.problem import Floats
from pathloom.worlds.train.recovery import ClusterView, Recovery
from pathloom.worlds.train.repair import Widening
from pathloom.worlds.train.runtime.gradient_ledger import Gradient


@dataclass(frozen=True)
class NewAttempt:
    """An attempt that the nodes of its route must begin.

    Attributes
    ----------
    row
        Number of the attempt.
    microbatch, route, stages
        As in `Reissue`.
    first
        Visit with which it begins. The nodes of the visits before it hand over what they hold of attempt `parent` for
        those visits, activations and memory slots, and the node of visit ``first - 1`` sends its activation to
        ``route[first]`` (when its forward pass has ended, if that is still going on). 0: from the source, anew.
    parent
        Attempt that it continues, -1 if it begins anew.
    after
        Attempt that must have returned before this one is injected, -1 for none.
    release
        Earliest start of its first task, seconds since the iteration began.
    """

    row: int
    microbatch: int
    route: tuple[int, ...]
    stages: tuple[int, ...]
    first: int
    parent: int
    after: int
    release: float


@dataclass(frozen=True)
class AppliedRecovery:
    """What live nodes have to do after a decision.

    Attributes
    ----------
    time
        When it was applied, seconds since the iteration began.
    restart
        True: every attempt is dropped, and all gradients are set back to zero.
    attempts
        New attempts, in order of injection.
    dropped
        Attempts whose waiting tasks are never begun, and whose activations are thrown away but for what a new attempt
        takes over. A task of theirs that is still going on counts for nothing.
    counted
        Gradients that attempts under way will compute once more although a live node (the value) has counted them in
        an earlier attempt: they must not be counted again. It replaces what an earlier decision said. Stage
        `LOSS_GRADIENT` stands for the head's gradient of the loss.
    keys
        For every attempt that is not over, expected starts of its tasks, shape (T,): the new order of work, in which
        all nodes keep within their memory. 0 for tasks that an attempt takes over from another.
    widening
        By how much throughput caps TC1 are exceeded.
    expected_end
        Expected end of the iteration, seconds since it began.
    stuck
        True: no order of work was found in which the memory of the nodes suffices to bring all back; whoever
        runs this must be ready to exceed it.
    """

    time: float
    restart: bool
    attempts: tuple[NewAttempt, ...]
    dropped: tuple[int, ...]
    counted: Mapping[Gradient, int]
    keys: Mapping[int, Floats]
    widening: Widening
    expected_end: float
    stuck: bool


def must_fit(view: ClusterView, recovery: Recovery) -> None:
    """Raise ValueError where a decision leaves somebody behind or asks for what cannot be done."""
    states = view.microbatches
    given = {r.microbatch for r in recovery.reissues}
    needed = {m.index for m in (*view.lost, *view.stranded)} if not recovery.restart else set(range(len(states)))
    if len(given) < len(recovery.reissues) or not given <= set(range(len(states))):
        raise ValueError("the policy gives a microbatch two new attempts, or one to a microbatch that there is not")
    if needed - given:
        raise ValueError(f"the policy leaves microbatches without a new attempt: {sorted(needed - given)}")
    for r in recovery.reissues:
        old = states[r.microbatch]
        if len(r.route) != len(old.route) or len(r.stages) != len(old.stages):
            raise ValueError(f"the policy gives mb{r.microbatch} a route of another length")
        if not bool(view.live[list(r.route)].all()):
            raise ValueError(f"the policy sends mb{r.microbatch} to a dead node")
        if view.placement[list(r.route)].tolist() != (np.asarray(r.stages) % view.problem.n_stages).tolist():
            raise ValueError(f"the policy sends mb{r.microbatch} to a node of another stage")
        if r.first > (0 if recovery.restart else old.resume):
            raise ValueError(f"mb{r.microbatch} cannot go on from visit {r.first}")
        if r.route[: r.first] != old.route[: r.first] or r.stages[: r.first] != old.stages[: r.first]:
            raise ValueError(f"mb{r.microbatch} cannot go on from visits that it has not made")
    abandoned = {m.index for m in states if m.status != "waiting"} & given
    for m in states:
        if m.status == "waiting" and m.after in abandoned and m.index not in given:
            raise ValueError(f"mb{m.index} waits for mb{m.after}, which gets a new attempt, and has none itself")
