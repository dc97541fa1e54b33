"""A wave: the microbatches that are planned together, as agents whose routes the whole iteration repeats.

SkipPipe plans one microbatch for each memory slot of each source and lets later microbatches take the same routes: the
next microbatch of an agent is injected when the one before it has returned. So an iteration is a number of waves, and
a route that an agent takes counts as often towards the caps of TC1 as the agent is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import ProvenInfeasible
from pathloom.worlds.train.problem import TrainDecisions, TrainProblem
from pathloom.worlds.train.timed_routes import TimedRoute

STAGGER = 2.5  # seconds between the releases of consecutive waves, as in SkipPipe's create_schedule.py
COPY_STAGGER = 1.0  # seconds between the copies of a group's microbatches, same source


@dataclass(frozen=True)
class Wave:
    """Agents of one wave of A agents.

    Attributes
    ----------
    placement
        Shape (N,): stage of each node.
    source
        Shape (A,): node where the agent's microbatches start.
    rank
        Shape (A,): 0 for the first agent of a source, 1 for its second, ...
    offset
        Seconds, shape (A,): earliest injection; a source injects its agents one forward pass apart.
    agent, wave, copy
        Shape (B,): agent of each microbatch, the wave that it belongs to, and its position in a coarsened group.
    copies
        Microbatches that an agent stands for in one wave (more than one if agents are coarsened).
    slots
        Shape (N,): most microbatches of one wave that may visit a node that is not in stage 0.
    """

    problem: TrainProblem
    placement: NDArray[np.int64]
    source: NDArray[np.int64]
    rank: NDArray[np.int64]
    offset: NDArray[np.float64]
    agent: NDArray[np.int64]
    wave: NDArray[np.int64]
    copy: NDArray[np.int64]
    copies: int
    slots: NDArray[np.int64]

    @property
    def agents(self) -> int:
        return len(self.source)

    @cached_property
    def repeats(self) -> tuple[int, ...]:
        """Microbatches of the iteration that take each agent's route."""
        return tuple(int(n) for n in np.bincount(self.agent, minlength=self.agents))

    def overload(self, visitors: Sequence[int], node: int) -> bool:
        """True if these agents are too many for a node that is not in stage 0, by its cap or its slots (TC1)."""
        if len(visitors) * self.copies > self.slots[node]:
            return True
        return sum(self.repeats[a] for a in visitors) > self.problem.node_cap[node]

    def stage_overload(self, visitors: Sequence[int], stage: int) -> bool:
        """True if these agents are too many for a stage other than stage 0, or for all of its nodes together (TC1)."""
        nodes_cap, slots = self._room[stage]
        if len(visitors) * self.copies > slots:
            return True
        return sum(self.repeats[a] for a in visitors) > min(int(self.problem.stage_cap[stage]), nodes_cap)

    @cached_property
    def _room(self) -> list[tuple[int, int]]:
        """Room of each stage's nodes together, by caps and by slots: an agent needs all of its share at one node."""
        members = [self.placement == p for p in range(self.problem.n_stages)]
        whole = min(self.repeats) if min(self.repeats) == max(self.repeats) else 1
        cap = self.problem.node_cap // whole * whole
        slots = self.slots // self.copies * self.copies
        return [(int(cap[m].sum()), int(slots[m].sum())) for m in members]

    @cached_property
    def _release(self) -> NDArray[np.float64]:
        return STAGGER * self.wave + COPY_STAGGER * self.copy + self.offset[self.agent]

    @cached_property
    def _after(self) -> NDArray[np.int64]:
        after = np.full(len(self.agent), -1, dtype=np.int64)
        latest: dict[tuple[int, int], int] = {}
        for b, key in enumerate(zip(self.agent.tolist(), self.copy.tolist(), strict=True)):
            after[b] = latest.get(key, -1)
            latest[key] = b
        return after

    def decisions(self, routes: Sequence[TimedRoute]) -> TrainDecisions:
        """The iteration in which every wave takes these routes, one an agent; nodes work first come, first served."""
        nodes = np.array([route.nodes for route in routes], dtype=np.int64)
        stages = np.array([route.stages for route in routes], dtype=np.int64)
        return TrainDecisions(
            placement=self.placement,
            routes=nodes[self.agent],
            stages=stages[self.agent],
            release=self._release,
            after=self._after,
        )


def first_wave(
    problem: TrainProblem, placement: NDArray[np.int64], *, agents: int | None = None, copies: int = 1
) -> Wave:
    """Share the microbatches of an iteration out over agents: one for each `copies` memory slots of a source.

    Parameters
    ----------
    agents
        None for all microbatches of the iteration; else the iteration has only this many.
    copies
        Size of the groups of microbatches that share a route.

    Raises
    ------
    ProvenInfeasible
        If the sources may not start as many microbatches as there are.
    ValueError
        If there is no agent, or `copies` is less than 1.
    """
    if copies < 1:
        raise ValueError(f"copies is {copies}, expected at least 1")
    wanted = problem.microbatches if agents is None else agents
    if wanted < 1:
        raise ValueError(f"expected at least one microbatch, found {wanted}")
    sources = np.flatnonzero(placement == 0)
    groups = {int(s): int(problem.memory[s]) // copies for s in sources}
    if wanted > problem.source_cap * sum(1 for size in groups.values() if size):
        raise ProvenInfeasible(
            "source_cap",
            f"{wanted} microbatches start at {len(sources)} nodes that may start {problem.source_cap} each",
        )
    started = dict.fromkeys(groups, 0)
    taken: list[tuple[int, int, int, int]] = []  # wave, source, rank, copy
    wave = 0
    while len(taken) < wanted:
        for copy in range(copies):
            for rank in range(max(groups.values())):
                for s, size in groups.items():
                    if rank < size and started[s] < problem.source_cap and len(taken) < wanted:
                        started[s] += 1
                        taken.append((wave, s, rank, copy))
        wave += 1
    members = sorted({(s, rank) for _, s, rank, _ in taken})
    index = {member: a for a, member in enumerate(members)}
    taken.sort()
    source = np.array([s for s, _ in members], dtype=np.int64)
    ranks = np.array([rank for _, rank in members], dtype=np.int64)
    return Wave(
        problem=problem,
        placement=np.asarray(placement, dtype=np.int64),
        source=source,
        rank=ranks,
        offset=ranks * problem.forward[source, 0],
        agent=np.array([index[s, rank] for _, s, rank, _ in taken], dtype=np.int64),
        wave=np.array([w for w, _, _, _ in taken], dtype=np.int64),
        copy=np.array([c for _, _, _, c in taken], dtype=np.int64),
        copies=copies,
        # Where the cap leaves more visits than memory for a wave has, memory is what the microbatches have to wait for.
        slots=np.where(problem.node_cap <= problem.memory * wave, problem.memory, wanted).astype(np.int64),
    )
