"""Orders of work for synchronous pipelines: GPipe, 1F1B, interleaved 1F1B and ZB-H1.

A pipeline of p stages takes m microbatches forwards through its stages and backwards again before the weights are
updated. A schedule fixes the order in which every stage does its passes; when each of them happens follows from the
order, the durations and the links (`execute`).

Sources: GPipe: Y. Huang et al., 2019, section 2.3. 1F1B: D. Narayanan et al., "PipeDream", 2019, section 3.2, in its
flushing form. Interleaved 1F1B: D. Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters
Using Megatron-LM", 2021, section 2.2. ZB-H1: P. Qi et al., "Zero Bubble Pipeline Parallelism", 2023, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["F", "B", "W"]


class Operation(NamedTuple):
    """One pass of one microbatch on one stage.

    `kind` is "F" (forward), "B" (backward; only its input gradient where the schedule has "W") or "W" (weight
    gradient). `chunk` counts the model chunks that a stage hosts; all but interleaved schedules have one.
    """

    stage: int
    kind: Kind
    microbatch: int
    chunk: int = 0


Orders = list[list[Operation]]
"""``orders[s]``: the operations of stage s in the order in which it does them."""


def warm_up(n_stages: int, limits: Sequence[int] | None = None, *, loss_on_first: bool = False) -> list[int]:
    """Forward passes that every stage of a 1F1B schedule does before its first backward pass.

    Stage s needs ``n_stages - s`` of them to keep a pipeline with free links full. A stage cannot be further ahead
    than the one before it lets it be, so a memory limit of one stage bounds all later ones.

    Parameters
    ----------
    limits
        Activations that each stage can hold, at least 1; None for no limit.
    loss_on_first
        The loss is a task of stage 0 (`StageTimes.loss`). A microbatch's way is then one stage longer, and every stage
        needs one forward pass more, if all have room for it; without it the last stage waits for stage 0 after each of
        its forward passes.
    """
    _need(n_stages >= 1, f"a pipeline has at least one stage, not {n_stages}")
    wanted = [n_stages - s for s in range(n_stages)]
    longer = [lead + 1 for lead in wanted]
    if loss_on_first and n_stages > 1 and (limits is None or all(a <= b for a, b in zip(longer, limits, strict=True))):
        wanted = longer  # where only some stages could be so far ahead, the others would wait for them
    if limits is not None:
        _need(len(limits) == n_stages, f"{len(limits)} memory limits for {n_stages} stages")
        _need(min(limits) >= 1, "every stage must hold at least one activation")
        wanted = [min(pair) for pair in zip(wanted, limits, strict=True)]
    return list(accumulate(wanted, min))


def gpipe(n_stages: int, n_microbatches: int, *, limits: Sequence[int] | None = None) -> Orders:
    """All forward passes, then all backward passes.

    Where the smallest of `limits` (activations per stage) is below the number of microbatches, they go in groups of
    that size: every group is flushed before a stage starts the next one.
    """
    _need(n_stages >= 1 and n_microbatches >= 1, "a pipeline has at least one stage and one microbatch")
    group = n_microbatches if limits is None else min(min(limits), n_microbatches)
    _need(group >= 1, "every stage must hold at least one activation")
    orders: Orders = []
    for s in range(n_stages):
        row = []
        for first in range(0, n_microbatches, group):
            members = range(first, min(first + group, n_microbatches))
            row += [Operation(s, "F", b) for b in members]
            row += [Operation(s, "B", b) for b in members]
        orders.append(row)
    return orders


def one_f_one_b(
    n_stages: int, n_microbatches: int, *, limits: Sequence[int] | None = None, loss_on_first: bool = False
) -> Orders:
    """`warm_up` forward passes, then one backward and one forward in turn, then the remaining backward passes."""
    _need(n_microbatches >= 1, "a pipeline has at least one microbatch")
    orders: Orders = []
    for s, lead in enumerate(warm_up(n_stages, limits, loss_on_first=loss_on_first)):
        forwards = [Operation(s, "F", b) for b in range(n_microbatches)]
        backwards = [Operation(s, "B", b) for b in range(n_microbatches)]
        orders.append(_one_and_one(forwards, backwards, lead))
    return orders


def interleaved(n_stages: int, n_microbatches: int, *, chunks: int, limits: Sequence[int] | None = None) -> Orders:
    """1F1B in which every stage hosts `chunks` parts of the model, so that the pipeline fills in smaller steps.

    A microbatch passes all stages once a chunk. Stages work on groups of as many microbatches as there are stages:
    chunk 0 of the whole group, then chunk 1, and so on; backward passes take the chunks in the opposite order.

    Parameters
    ----------
    limits
        Activations *of one chunk* that each stage can hold, at least `chunks`.

    Notes
    -----
    Megatron-LM asks for a number of microbatches that the stages divide, and for memory for
    ``2 (p - s - 1) + (chunks - 1) p + 1`` chunk activations on stage s. With these the order here is the same. Else
    groups are made as equal as they can be and small enough for the memory (a group of g needs room for
    ``(chunks - 1) g + 1``), and the lead of early stages over the last one is bounded by two groups; more of it would
    let the first backward pass of one chunk wait for a forward pass that waits for it.
    """
    _need(chunks >= 1, f"a stage hosts at least one chunk, not {chunks}")
    if chunks == 1:
        return one_f_one_b(n_stages, n_microbatches, limits=limits)
    _need(n_stages >= 1 and n_microbatches >= 1, "a pipeline has at least one stage and one microbatch")
    size = min(n_stages, n_microbatches)
    if limits is not None:
        _need(len(limits) == n_stages, f"{len(limits)} memory limits for {n_stages} stages")
        _need(min(limits) >= chunks, f"every stage must hold at least {chunks} chunk activations")
        size = min(size, (min(limits) - 1) // (chunks - 1))
    n_groups = -(-n_microbatches // size)
    bounds = [n_microbatches * i // n_groups for i in range(n_groups + 1)]
    sizes = [high - low for low, high in pairwise(bounds)]
    passes = [(b, c) for low, high in pairwise(bounds) for c in range(chunks) for b in range(low, high)]
    leads = [(chunks - 1) * max(sizes) + 1 + min(2 * (n_stages - s - 1), 2 * min(sizes)) for s in range(n_stages)]
    if limits is not None:
        leads = [min(pair) for pair in zip(leads, limits, strict=True)]
    orders: Orders = []
    for s, lead in enumerate(accumulate(leads, min)):
        forwards = [Operation(s, "F", b, c) for b, c in passes]
        backwards = [Operation(s, "B", b, chunks - 1 - c) for b, c in passes]
        orders.append(_one_and_one(forwards, backwards, lead))
    return orders


def zb_h1(n_stages: int, n_microbatches: int, *, limits: Sequence[int] | None = None) -> Orders:
    """1F1B with the backward pass split in two, its weight gradient filling the bubble (ZB-H1).

    No stage holds more activations than stage 0 of a 1F1B pipeline does (an activation is held until its weight
    gradient is done). F and B come in the order of 1F1B; W comes wherever that order would let the stage wait, or
    where F needs its room, if every operation took one unit of time and links took none.
    """
    _need(n_microbatches >= 1, "a pipeline has at least one microbatch")
    leads = warm_up(n_stages, limits)
    room = [leads[0]] * n_stages if limits is None else [min(leads[0], limit) for limit in limits]
    orders: Orders = [[] for _ in range(n_stages)]
    forwards, backwards, weights = ([0] * n_stages for _ in range(3))
    while min(weights) < n_microbatches:
        # what neighbours finish in this unit of time can be used in the next one
        arrived = [n_microbatches, *forwards[:-1]]
        returned = [*backwards[1:], forwards[-1]]
        for s in range(n_stages):
            f, b, w = forwards[s], backwards[s], weights[s]
            forward_next = f < n_microbatches and f - b < leads[s]
            if forward_next and f < arrived[s] and f - w < room[s]:
                orders[s].append(Operation(s, "F", f))
                forwards[s] += 1
            elif not forward_next and b < min(returned[s], f):
                orders[s].append(Operation(s, "B", b))
                backwards[s] += 1
            elif w < b:
                orders[s].append(Operation(s, "W", w))
                weights[s] += 1
    return orders


@dataclass(frozen=True)
class StageTimes:
    """How long the operations of a pipeline take, in any one unit of time.

    Attributes
    ----------
    forward, backward, weight
        One operation on each stage, shape (S,), of one chunk where there are several; a number stands for all stages.
    link
        Shape (S, S) or a number: an activation, or its gradient, from one stage to another; nothing on one stage.
    loss
        None: the loss is part of the last backward pass. Else the loss of a microbatch is a task of its own on stage 0,
        to which the activation travels from the last stage and from which the gradient travels back; stage 0 does it
        when it arrives, before anything that comes later. Pipelines have it there whose first stage holds the
        data, embedding and head.
    rest, injection_rest
        For how long a stage does nothing after an operation, and after a microbatch's first forward pass.
    """

    forward: ArrayLike = 1.0
    backward: ArrayLike = 1.0
    weight: ArrayLike = 1.0
    link: ArrayLike = 0.0
    loss: float | None = None
    rest: float = 0.0
    injection_rest: float = 0.0


@dataclass(frozen=True)
class Execution:
    """What happens when every stage keeps its order.

    Attributes
    ----------
    sequence
        All tasks in the order of their starts; losses have ``stage == 0`` and ``kind == "L"``.
    start, end
        Times, one a task of `sequence`.
    makespan
        Latest end.
    bubble
        Share of the stages' time until the makespan in which they do nothing.
    """

    sequence: list[tuple[int, str, int, int]]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    makespan: float
    bubble: float


def execute(orders: Orders, times: StageTimes | None = None) -> Execution:
    """Let every stage do its operations in order, each as soon as what it needs has arrived.

    Raises
    ------
    ValueError
        If the orders deadlock, or if an order has a pass before one of the same stage that it builds on.
    """
    times = times or StageTimes()
    p = len(orders)
    n_chunks = 1 + max(op.chunk for row in orders for op in row)
    length = {
        kind: [float(x) for x in np.broadcast_to(np.asarray(value, dtype=np.float64), (p,))]
        for kind, value in (("F", times.forward), ("B", times.backward), ("W", times.weight))
    }
    travel = np.array(np.broadcast_to(np.asarray(times.link, dtype=np.float64), (p, p)))
    np.fill_diagonal(travel, 0.0)
    link: list[list[float]] = travel.tolist()
    ready: dict[tuple[int, str, int, int], float] = {}  # when that which a task waits for has arrived
    for op in orders[0]:
        if op.kind == "F" and op.chunk == 0:
            ready[op] = 0.0
    position, free = [0] * p, [0.0] * p
    losses: list[tuple[float, int]] = []
    sequence: list[tuple[int, str, int, int]] = []
    start: list[float] = []
    end: list[float] = []
    total = sum(len(row) for row in orders)
    n_losses = 0

    def next_start(s: int) -> float:
        row = orders[s]
        if position[s] < len(row) and row[position[s]] in ready:
            return max(free[s], ready[row[position[s]]])
        return np.inf

    coming = [next_start(s) for s in range(p)]
    while len(sequence) - n_losses < total or losses:
        when = min(coming)
        s = coming.index(when)
        loss_at = max(free[0], losses[0][0]) if losses else np.inf
        task: tuple[int, str, int, int]
        if loss_at < np.inf and loss_at <= when:
            when, s = loss_at, 0
            microbatch = losses.pop(0)[1]
            task = (0, "L", microbatch, n_chunks - 1)
            n_losses += 1
            finish = when + float(times.loss or 0.0)
            ready[(p - 1, "B", microbatch, n_chunks - 1)] = finish + link[0][p - 1]
        elif when < np.inf:
            task = orders[s][position[s]]
            position[s] += 1
            _, kind, b, c = task
            finish = when + length[kind][s]
            if kind == "F":
                if s < p - 1:
                    ready[(s + 1, "F", b, c)] = finish + link[s][s + 1]
                elif c < n_chunks - 1:
                    ready[(0, "F", b, c + 1)] = finish + link[s][0]
                elif times.loss is None:
                    ready[(s, "B", b, c)] = finish
                else:
                    losses.append((finish + link[s][0], b))
            elif kind == "B":
                ready[(s, "W", b, c)] = finish
                if s > 0:
                    ready[(s - 1, "B", b, c)] = finish + link[s][s - 1]
                elif c > 0:
                    ready[(p - 1, "B", b, c - 1)] = finish + link[0][p - 1]
        else:
            stuck = [f"stage {s} at {row[position[s]]}" for s, row in enumerate(orders) if position[s] < len(row)]
            raise ValueError(f"the orders deadlock: {'; '.join(stuck)}")
        free[s] = finish + (times.injection_rest if task[1] == "F" and s == 0 and task[3] == 0 else times.rest)
        sequence.append(task)
        start.append(when)
        end.append(finish)
        for t in {s, (s + 1) % p, (s - 1) % p, p - 1, 0}:
            coming[t] = next_start(t)
    starts, ends = np.array(start), np.array(end)
    makespan = float(ends.max())
    bubble = 1.0 - float((ends - starts).sum()) / (p * makespan) if makespan > 0 else 0.0
    return Execution(sequence, starts, ends, makespan, bubble)


def _one_and_one(forwards: list[Operation], backwards: list[Operation], lead: int) -> list[Operation]:
    """`lead` forward passes, then backward and forward passes in turn, then the rest of the backward passes."""
    lead = min(lead, len(forwards))
    row = forwards[:lead]
    for backward, forward in zip(backwards, forwards[lead:], strict=False):
        row += [backward, forward]
    return row + backwards[len(forwards) - lead :]


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
