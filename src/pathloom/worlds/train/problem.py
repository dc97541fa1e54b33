"""The pipeline-training problem and the decisions that solve it.

One training iteration: `microbatches` activations start at nodes of stage 0 (which hold the data, the embedding and
the head), visit `route_length` stages including stage 0, return to their first node for the loss, and go back the
same way. Source of the model and of its constraints: N. Blagoev, L. Y. Chen, O. Ersoy, "SkipPipe: Partial and
Reordered Pipelining Framework for Training LLMs in Heterogeneous Networks", 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.worlds.train.llama import LlamaShape

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KINDS = ("forward", "loss", "backward", "weight", "sync")
FORWARD, LOSS, BACKWARD, WEIGHT, SYNC = range(5)


@dataclass(frozen=True)
class Reordering:
    """How far a route may leave the order of the stages (CC-c, CC-d).

    The frontier of a route is the furthest stage that it has reached. Visiting a stage behind the frontier is a swap of
    distance ``frontier - stage``; visiting one ahead of it is a jump of length ``stage - frontier``.

    Attributes
    ----------
    distance
        Largest distance of one swap; 0 forbids swaps.
    swaps
        Largest number of swaps of a route.
    total
        Largest sum of a route's swap distances.
    jump
        Largest jump.
    """

    distance: int = 1
    swaps: int = 2
    total: int = 2
    jump: int = 4

    def __post_init__(self) -> None:
        for name in ("distance", "swaps", "total", "jump"):
            object.__setattr__(self, name, _whole(name, getattr(self, name), least=0))


def _whole(name: str, value: object, *, least: int) -> int:
    """`value` as an int of at least `least`; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, found {value!r}")
    return int(value)


def _frozen(array: Any, dtype: type[np.generic]) -> NDArray[Any]:
    """A read-only contiguous array of `dtype`; shared with the caller only if that one cannot write to it either."""
    if (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and not array.flags.writeable
        and array.base is None
        and array.flags.c_contiguous
    ):
        return array
    own = np.array(array, dtype=dtype, order="C")
    own.setflags(write=False)
    return own


def _times(
    name: str, value: object, shape: tuple[int, ...], *, positive: bool = False, missing: bool = False
) -> Floats:
    """Durations of the given shape; `positive` forbids 0, `missing` allows infinity."""
    try:
        array = _frozen(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers of shape {shape}") from None
    if array.shape != shape:
        raise ValueError(f"{name}: has shape {array.shape}, expected {shape}")
    if np.isnan(array).any() or (not missing and not np.isfinite(array).all()):
        raise ValueError(f"{name}: holds NaN" + ("" if missing else " or infinity") + ", expected seconds")
    if (array <= 0).any() if positive else (array < 0).any():
        raise ValueError(f"{name}: expected seconds {'above 0' if positive else 'of 0 or more'} everywhere")
    return array


def _counts(name: str, value: object, shape: tuple[int, ...], *, least: int) -> Ints:
    """Whole numbers of the given shape, each at least `least`."""
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"{name}: has shape {array.shape}, expected {shape}")
    whole = np.issubdtype(array.dtype, np.integer) or (
        np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all() and (array == np.floor(array)).all()
    )
    if not whole:
        raise ValueError(f"{name}: expected whole numbers")
    if (array < least).any():
        raise ValueError(f"{name}: expected at least {least} everywhere")
    return _frozen(value, np.int64)


@dataclass(frozen=True)
class Workload:
    """The model that an iteration trains, which a run needs to know beside the times.

    Attributes
    ----------
    model
        Its shape.
    stage_layers
        Shape (S,): decoder layers of each stage, in the order of the model; stage 0 has the embedding and the head too.
    samples
        Samples of a microbatch, of ``model.context`` tokens each.

    Raises
    ------
    ValueError
        If the layers of the stages are not those of the model.
    """

    model: LlamaShape
    stage_layers: tuple[int, ...]
    samples: int

    def __post_init__(self) -> None:
        layers = tuple(_whole("stage_layers", value, least=0) for value in self.stage_layers)
        object.__setattr__(self, "stage_layers", layers)
        object.__setattr__(self, "samples", _whole("samples", self.samples, least=1))
        if sum(layers) != self.model.layers:
            raise ValueError(f"stage_layers: sum to {sum(layers)}, expected the model's {self.model.layers} layers")


@dataclass(frozen=True)
class TrainProblem:
    """One iteration of pipeline-parallel training over N unequal nodes and S stages.

    Attributes
    ----------
    name, file
        Name of the instance and the file it came from (empty if none).
    nodes, locations
        Names of the N nodes and of the regions where they are.
    forward, backward
        Seconds, shape (N, S): one microbatch through stage p on node n.
    weight
        Seconds, shape (N, S): the part of `backward` that computes weight gradients, which methods that split the
        backward pass (zero bubble) may postpone. ``backward`` is the sum of both parts.
    loss
        Seconds, shape (N,): loss (head) of one microbatch, on the node where the microbatch started.
    link
        Seconds, shape (N, N): one activation (or its gradient) from node i to node j, fixed overheads included;
        infinity where there is no link. Links are not shared resources.
    memory
        Shape (N,): number of activations that node n can hold. A forward pass takes a slot, the end of the
        same microbatch's backward pass on that node frees it; the loss needs none.
    stage_sizes
        Shape (S,): number of nodes of each stage, ``sum(stage_sizes) == N``.
    placement
        Shape (N,): stage of each node where the placement is given, else None.
    microbatches
        Number of microbatches of the iteration.
    route_length
        Number of stages that every microbatch visits, stage 0 included (CC-b).
    reordering
        Reordering budget (CC-c, CC-d).
    source_cap
        TC1: most microbatches that may start at one node of stage 0.
    stage_cap
        TC1: shape (S,), most microbatches that may visit stage p; entry 0 is ``microbatches``.
    node_cap
        TC1: shape (N,), most microbatches that may visit node n when it is not in stage 0.
    gap, injection_gap
        Seconds that a node rests after a task, and after the first forward pass of a microbatch at its source.
    sync_latency, sync_seconds
        Shape (N, N): latency, and seconds to move one whole stage gradient, between two nodes of one stage. The
        gradients of a stage of g nodes are averaged when all its nodes have finished, and that takes
        ``max over members i of sum over other members j of 2 * (sync_latency[i, j] + sync_seconds[i, j] / g)``
        (sharded all-reduce, DT-FM, section 3.2). None: synchronisation is not part of the iteration.
    workload
        The model that is trained; None where the input file gave costs only, and then nothing can be run.

    All arrays are coerced to float64 or int64, copied where the caller could still write to them, and read-only.

    Raises
    ------
    ValueError
        Where a field has the wrong shape or holds what no instance can mean; the message starts with its name.
    """

    name: str
    nodes: tuple[str, ...]
    locations: tuple[str, ...]
    forward: Floats
    backward: Floats
    weight: Floats
    loss: Floats
    link: Floats
    memory: Ints
    stage_sizes: Ints
    microbatches: int
    route_length: int
    source_cap: int
    stage_cap: Ints
    node_cap: Ints
    placement: Ints | None = None
    reordering: Reordering = field(default_factory=Reordering)
    gap: float = 0.13
    injection_gap: float = 0.09
    sync_latency: Floats | None = None
    sync_seconds: Floats | None = None
    file: str = ""
    workload: Workload | None = None

    def __post_init__(self) -> None:
        """Coerce the arrays, make them read-only, and refuse what no instance can mean.

        Raises
        ------
        ValueError
            Names the field and what was expected.
        """
        n = len(self.nodes)
        if n == 0 or len(set(self.nodes)) != n:
            raise ValueError("nodes: expected at least one name, all different")
        if len(self.locations) != n:
            raise ValueError(f"locations: expected one a node ({n}), found {len(self.locations)}")
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "locations", tuple(self.locations))
        for name in ("microbatches", "route_length", "source_cap"):
            object.__setattr__(self, name, _whole(name, getattr(self, name), least=1))

        sizes = _counts("stage_sizes", self.stage_sizes, (np.size(self.stage_sizes),), least=1)
        s = len(sizes)
        if sizes.sum() != n:
            raise ValueError(f"stage_sizes: sum to {sizes.sum()}, expected one place a node ({n})")
        if self.route_length > s:
            raise ValueError(f"route_length: {self.route_length} stages to visit, but there are {s}")
        forward = _times("forward", self.forward, (n, s), positive=True)
        backward = _times("backward", self.backward, (n, s), positive=True)
        weight = _times("weight", self.weight, (n, s))
        if (weight > backward * (1 + 1e-12)).any():
            raise ValueError("weight: is a part of backward, but somewhere exceeds it")
        # Links may be missing (infinity) between nodes, never inside one.
        link = _times("link", self.link, (n, n), missing=True)
        if not np.isfinite(np.diagonal(link)).all():
            raise ValueError("link: a node must reach itself in finite time")
        stage_cap = _counts("stage_cap", self.stage_cap, (s,), least=0)
        if stage_cap[0] < self.microbatches:
            raise ValueError(f"stage_cap: entry 0 is {stage_cap[0]}, expected all {self.microbatches} microbatches")
        coerced: dict[str, Floats | Ints] = {
            "stage_sizes": sizes,
            "forward": forward,
            "backward": backward,
            "weight": weight,
            "link": link,
            "stage_cap": stage_cap,
            "loss": _times("loss", self.loss, (n,)),
            "memory": _counts("memory", self.memory, (n,), least=1),
            "node_cap": _counts("node_cap", self.node_cap, (n,), least=0),
        }
        if self.placement is not None:
            placement = _counts("placement", self.placement, (n,), least=0)
            if placement.max() >= s or (np.bincount(placement, minlength=s) != sizes).any():
                raise ValueError(f"placement: expected {sizes.tolist()} nodes on the stages 0 to {s - 1}")
            coerced["placement"] = placement
        if (self.sync_latency is None) != (self.sync_seconds is None):
            raise ValueError("sync_latency: expected together with sync_seconds, or neither")
        if self.sync_latency is not None and self.sync_seconds is not None:
            coerced["sync_latency"] = _times("sync_latency", self.sync_latency, (n, n), missing=True)
            coerced["sync_seconds"] = _times("sync_seconds", self.sync_seconds, (n, n), missing=True)
        for name in ("gap", "injection_gap"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected 0 seconds or more, found {value}")
            object.__setattr__(self, name, float(value))
        for name, array in coerced.items():
            object.__setattr__(self, name, array)
        if self.workload is not None and len(self.workload.stage_layers) != s:
            raise ValueError(f"workload: has layers of {len(self.workload.stage_layers)} stages, expected {s}")

    @property
    def n_nodes(self) -> int:
        return len(self.nodes)

    @property
    def n_stages(self) -> int:
        return len(self.stage_sizes)


@dataclass(frozen=True)
class TrainDecisions:
    """Placement, routes, and the order in which every node works.

    Attributes
    ----------
    placement
        Shape (N,): stage of each node.
    routes
        Shape (B, K): node of the k-th visit of microbatch b; ``routes[b, 0]`` is its source.
    stages
        Shape (B, K): stage of the k-th visit; ``stages[b, 0] == 0``. With ``chunks`` > 1 a virtual stage in
        ``0 .. S*chunks-1`` that is hosted by stage ``stages % S`` and does ``1/chunks`` of its work and memory.
    priority
        Shape (B, 2K+1) or None: key of each task, smaller goes first among those that wait at a node; the tasks of
        a microbatch are its K forwards, its loss, then its K backwards in the order they happen (from the last
        visit to the source). None: first come, first served, injections last.
    strict
        True: a node waits for the task of smallest priority that it has not done yet, even if others are ready.
    release
        Shape (B,): earliest injection in seconds.
    after
        Shape (B,): microbatch that must have returned before this one is injected, -1 for none.
    split_backward
        True: the weight part of each backward pass is a task of its own, done when nothing else is ready.
    chunks
        Number of model chunks a node (interleaved pipelines); K counts visits of virtual stages.
    """

    placement: Ints
    routes: Ints
    stages: Ints
    priority: Floats | None = None
    strict: bool = False
    release: Floats | None = None
    after: Ints | None = None
    split_backward: bool = False
    chunks: int = 1
