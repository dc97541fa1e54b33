"""Building a training problem from regions, a network and a few numbers, without an input file.

Durations follow SkipPipe's model (N. Blagoev, L. Y. Chen, O. Ersoy, 2025): the forward pass of a stage takes layers x
samples x seconds per layer and sample; backward and loss are multiples of it; a message takes the delay, the bytes over
the bandwidth, and a fixed overhead (copies between accelerator and host, as they measured it: 0.35 s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pathloom.data.network import Network
from pathloom.worlds.train.balance import Balance, even_sizes, tc1_caps
from pathloom.worlds.train.problem import Floats, Ints, Reordering, TrainProblem


@dataclass(frozen=True)
class Times:
    """Durations beside the forward pass.

    Attributes
    ----------
    backward
        Backward pass as a multiple of the forward pass.
    weight
        Share of the backward pass that computes weight gradients.
    loss
        Loss as a multiple of the forward pass through stage 0.
    gap, injection_gap
        Seconds of rest after a task, and after the first forward pass of a microbatch.
    """

    backward: float = 1.5
    weight: float = 0.5
    loss: float = 0.25
    gap: float = 0.13
    injection_gap: float = 0.09


def node_names(locations: Sequence[str]) -> tuple[str, ...]:
    """Names of nodes after their regions, numbered within each: Iowa-1, London-1, Iowa-2."""
    seen: dict[str, int] = {}
    names: list[str] = []
    for region in locations:
        seen[region] = seen.get(region, 0) + 1
        names.append(f"{region}-{seen[region]}")
    return tuple(names)


def round_robin(regions: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` nodes dealt over `regions` in turn, as SkipPipe places its nodes."""
    return tuple(regions[i % len(regions)] for i in range(count))


def link_seconds(network: Network, locations: Sequence[str], n_bytes: float, overhead: float) -> Floats:
    """Seconds per message of `n_bytes` between the nodes at `locations`, shape (N, N); 0 from a node to itself."""
    index = {region: network.index(region) for region in dict.fromkeys(locations)}
    at = np.array([index[region] for region in locations])
    seconds = network.seconds(n_bytes)[np.ix_(at, at)] + overhead
    np.fill_diagonal(seconds, 0.0)
    return seconds


def pipeline_instance(
    locations: Sequence[str],
    network: Network,
    *,
    name: str = "pipeline",
    nodes: Sequence[str] | None = None,
    stages: int | Sequence[int] = 6,
    placement: ArrayLike | None = None,
    layer_seconds: ArrayLike = 0.055,
    stage_layers: ArrayLike = 4,
    samples: int = 8,
    forward: ArrayLike | None = None,
    activation_bytes: float = 4.0 * 1024 * 1024,
    overhead: float = 0.35,
    memory: ArrayLike = 3,
    microbatches: int = 30,
    route_length: int | None = None,
    reordering: Reordering | None = None,
    balance: Balance | None = None,
    times: Times | None = None,
    gradient_bytes: float | None = None,
    file: str = "",
) -> TrainProblem:
    """A training problem over nodes in the regions of a network.

    Parameters
    ----------
    locations
        Region of each of the N nodes.
    network
        Delay and bandwidth between the regions.
    nodes
        Names of the nodes; None: after their regions.
    stages
        Number of stages, sized as evenly as possible with the rest on stage 0, or the size of each.
    placement
        Shape (N,): stage of each node, if it is given.
    layer_seconds
        Seconds per layer and sample of every node, one number or shape (N,).
    stage_layers
        Layers of each stage, one number or shape (S,).
    samples
        Samples of a microbatch.
    forward
        Seconds of the forward pass, shape (N, S), instead of ``stage_layers * samples * layer_seconds``.
    activation_bytes
        Bytes of one sample's activation (4 bytes x dim 1024 x context 1024 in SkipPipe's setting).
    overhead
        Seconds added to every activation message.
    memory
        Activations that each node holds, one number or shape (N,).
    route_length
        Stages that a microbatch visits, stage 0 included; None: all.
    balance, times, reordering
        TC1, durations, reordering budget; None: the defaults.
    gradient_bytes
        Bytes of one stage's gradient where synchronisation is part of the iteration. Its latency is the delay of the
        link alone, as in DT-FM's cost model.

    Raises
    ------
    InputError
        If a region is not in the network.
    ValueError
        If the numbers make no problem, see `TrainProblem`.
    """
    n = len(locations)
    times = times or Times()
    sizes: Ints = even_sizes(n, stages) if isinstance(stages, int) else np.asarray(stages, dtype=np.int64)
    s = len(sizes)
    if forward is None:
        layers = np.broadcast_to(np.asarray(stage_layers, dtype=np.float64), (s,))
        seconds = np.broadcast_to(np.asarray(layer_seconds, dtype=np.float64), (n,))
        forward = np.outer(seconds, layers * samples)
    forward = np.asarray(forward, dtype=np.float64)
    slots = np.array(np.broadcast_to(np.asarray(memory), (n,)))
    length = s if route_length is None else route_length
    source_cap, stage_cap, node_cap = tc1_caps(microbatches, length, sizes, slots, balance)
    sync_latency = sync_seconds = None
    if gradient_bytes is not None:
        sync_latency = link_seconds(network, locations, 0.0, 0.0)
        with np.errstate(invalid="ignore"):
            moved = link_seconds(network, locations, gradient_bytes, 0.0) - sync_latency
        sync_seconds = np.where(np.isnan(moved), np.inf, moved)
    return TrainProblem(
        name=name,
        nodes=tuple(nodes) if nodes is not None else node_names(locations),
        locations=tuple(locations),
        forward=forward,
        backward=times.backward * forward,
        weight=times.weight * times.backward * forward,
        loss=times.loss * forward[:, 0],
        link=link_seconds(network, locations, activation_bytes * samples, overhead),
        memory=slots,
        stage_sizes=sizes,
        microbatches=microbatches,
        route_length=length,
        source_cap=source_cap,
        stage_cap=stage_cap,
        node_cap=node_cap,
        placement=None if placement is None else np.asarray(placement, dtype=np.int64),
        reordering=reordering or Reordering(),
        gap=times.gap,
        injection_gap=times.injection_gap,
        sync_latency=sync_latency,
        sync_seconds=sync_seconds,
        file=file,
    )
