"""The nodes of an input file, and the network that joins them: measured, from a CSV, or pair by pair."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pathloom.data.naming import unknown_name
from pathloom.data.network import Network, measured_network, read_network
from pathloom.plan import InputError
from pathloom.worlds.train.instance import round_robin
from pathloom.worlds.train.train_file import MOST_NODES, Memory, NodeGroup, Speed, SpreadNodes, TrainFile


@dataclass(frozen=True)
class FileNodes:
    """The N nodes of a file: names, regions, speeds, memories, and the key under which each stands in the file."""

    names: tuple[str, ...]
    regions: tuple[str, ...]
    speed: tuple[Speed, ...]
    memory: tuple[Memory, ...]
    key: tuple[str, ...]


def region_network(spec: TrainFile, folder: Path) -> Network | None:
    """The network that the file names; None where it only lists pairs."""
    links = spec.links
    if links.network is not None and links.csv is not None:
        raise InputError("expected either network or csv, found both", key="links")
    if links.as_published and links.network is None:
        raise InputError("belongs to a measured network (gcp12, aws10), and none is named", key="links.as_published")
    inside = None if links.inside is None else (links.inside.delay, links.inside.bandwidth)
    if links.network is not None:
        try:
            network = measured_network(links.network, as_published=links.as_published)
        except InputError as error:
            hint = "; a file goes under links.csv" if links.network.endswith((".csv", ".csv.gz")) else ""
            raise InputError(error.reason + hint, key="links.network") from None
        if inside is None:
            return network
        delay, bandwidth = network.delay_s.copy(), network.bytes_per_s.copy()
        np.fill_diagonal(delay, inside[0])
        np.fill_diagonal(bandwidth, inside[1])
        return Network(network.regions, delay, bandwidth, network.name)
    if links.csv is not None:
        path = folder / links.csv
        try:
            return read_network(path) if inside is None else read_network(path, inside=inside)
        except InputError as error:
            if error.file == str(path) and error.key is None:
                raise InputError(f"'{links.csv}' {error.reason}", key="links.csv") from None
            raise
    if not links.pairs:
        raise InputError("expected a network (gcp12, aws10), a csv file or a list of pairs", key="links")
    return None


def file_nodes(spec: TrainFile, network: Network | None) -> FileNodes:
    """The nodes one by one; InputError for an unknown region or a name given twice."""
    if isinstance(spec.nodes, SpreadNodes):
        spread = spec.nodes
        if spread.regions is None and network is None:
            raise InputError("expected the regions to deal the nodes over, as no network is named", key="nodes.regions")
        regions = spread.regions if spread.regions is not None else list(network.regions if network else ())
        groups = [
            NodeGroup(region=region, speed=spread.speed, memory=spread.memory)
            for region in round_robin(regions, spread.count)
        ]
        keys = ["nodes"] * len(groups)
        region_keys = [f"nodes.regions[{i % len(regions)}]" for i in range(len(groups))]
    else:
        groups = list(spec.nodes)
        keys = [f"nodes[{i}]" for i in range(len(groups))]
        region_keys = [f"{key}.region" for key in keys]

    total = sum(group.count for group in groups)
    if total > MOST_NODES:
        raise InputError(f"are {total}, expected at most {MOST_NODES}", key="nodes")
    known = dict.fromkeys(network.regions) if network else {}
    known.update(dict.fromkeys(end for pair in spec.links.pairs for end in pair.between))
    names: list[str] = []
    members: list[tuple[NodeGroup, str]] = []
    numbered: dict[str, int] = {}
    taken: dict[str, str] = {}
    for group, key, region_key in zip(groups, keys, region_keys):
        if network is not None and group.region not in known:
            raise InputError(unknown_name("region", group.region, known, f"network '{network.name}'"), key=region_key)
        for copy in range(group.count):
            if group.name is None:
                numbered[group.region] = numbered.get(group.region, 0) + 1
                name = f"{group.region}-{numbered[group.region]}"
            else:
                name = group.name if group.count == 1 else f"{group.name}-{copy + 1}"
            if name in taken:
                raise InputError(f"node '{name}' exists already ({taken[name]}); names must differ", key=f"{key}.name")
            taken[name] = key
            names.append(name)
            members.append((group, key))
    return FileNodes(
        tuple(names),
        tuple(group.region for group, _ in members),
        tuple(group.speed for group, _ in members),
        tuple(group.memory for group, _ in members),
        tuple(key for _, key in members),
    )


def join(spec: TrainFile, nodes: FileNodes, network: Network | None) -> Network:
    """The network between the nodes themselves, with the file's pairs laid over that of the regions."""
    n = len(nodes.names)
    delay, bandwidth = np.full((n, n), np.inf), np.zeros((n, n))
    region = np.array([list(dict.fromkeys(nodes.regions)).index(r) for r in nodes.regions])
    if network is not None:
        index = {name: i for i, name in enumerate(network.regions)}
        at = np.array([index.get(r, -1) for r in nodes.regions])
        here = np.flatnonzero(at >= 0)
        delay[np.ix_(here, here)] = network.delay_s[np.ix_(at[here], at[here])]
        bandwidth[np.ix_(here, here)] = network.bytes_per_s[np.ix_(at[here], at[here])]
    inside = spec.links.inside
    same = (region[:, None] == region[None, :]) & ~np.isfinite(delay)
    delay[same] = inside.delay if inside else 1e-3
    bandwidth[same] = inside.bandwidth if inside else 2.0 * 2**30

    ends: dict[str, list[int]] = {}
    for i, r in enumerate(nodes.regions):
        ends.setdefault(r, []).append(i)
    for i, name in enumerate(nodes.names):
        ends.setdefault(name, [i])
    known = set(ends) | set(network.regions if network else ())
    for number, pair in enumerate(spec.links.pairs):
        for side, end in enumerate(pair.between):
            if end not in known:
                message = unknown_name("region or node", end, sorted(known), "this file")
                raise InputError(message, key=f"links.pairs[{number}].between[{side}]")
        a, b = (ends.get(end, []) for end in pair.between)
        for one, other in ((a, b), (b, a)) if pair.both_ways else ((a, b),):
            delay[np.ix_(one, other)] = pair.delay
            bandwidth[np.ix_(one, other)] = pair.bandwidth
    np.fill_diagonal(delay, 0.0)
    bandwidth[np.diag_indices(n)] = np.maximum(bandwidth.diagonal(), 1.0)
    _connected(spec, nodes, np.isfinite(delay))
    return Network(nodes.names, delay, bandwidth, spec.links.network or spec.links.csv or "pairs")


def _connected(spec: TrainFile, nodes: FileNodes, linked: NDArray[np.bool_]) -> None:
    """Refuse missing links that nobody announced, and nodes that no activation can reach and leave again."""
    if spec.links.missing == "error" and not linked.all():
        i, j = (int(x) for x in np.argwhere(~linked)[0])
        message = f"no link from {nodes.regions[i]} to {nodes.regions[j]} (node {nodes.names[i]} to {nodes.names[j]})"
        raise InputError(f"{message}; expected one, or 'missing: none' to do without", key="links")
    # A gradient goes back the way its activation came.
    both = linked & linked.T
    reached = np.zeros(len(nodes.names), dtype=bool)
    reached[0] = True
    frontier = reached.copy()
    while frontier.any():
        frontier = both[frontier].any(axis=0) & ~reached
        reached |= frontier
    if not reached.all():
        cut = [nodes.names[int(i)] for i in np.flatnonzero(~reached)]
        shown = ", ".join(cut[:5]) + (f" and {len(cut) - 5} more" if len(cut) > 5 else "")
        message = f"the network is disconnected: no links both ways between {nodes.names[0]} and {shown}"
        raise InputError(message + "; expected every node to be reachable", key="links")
