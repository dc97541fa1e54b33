"""Which changes of an input file's content put measured values into it: decided on plain mappings and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pathloom.data.input_model import validated
from pathloom.data.naming import unknown_name
from pathloom.plan import InputError
from pathloom.worlds.train.file_nodes import FileNodes, file_nodes, join, region_network
from pathloom.worlds.train.runtime.link_profile import LinkFigures
from pathloom.worlds.train.train_file import TrainFile

ALIKE = 0.1
"""Two directions of a link whose bandwidths differ by less, as a fraction, are written as one entry for both."""


@dataclass(frozen=True)
class MeasuredLink:
    """Figures of a link from node or region `a` to `b`, and those of the way back."""

    a: str
    b: str
    there: LinkFigures
    back: LinkFigures


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    speed
        Node -> seconds per layer and sample.
    times
        Key of ``times`` -> ratio.
    links
        Links in the order of their measurement.
    """

    speed: Mapping[str, float]
    times: Mapping[str, float]
    links: Sequence[MeasuredLink] = ()


@dataclass(frozen=True)
class Edit:
    """One change: `value` is set at `path`, inserted before the item at `path`, or appended to the list at `path`."""

    kind: Literal["set", "insert", "append"]
    path: tuple[str | int, ...]
    value: Any


def edits_for(data: Any, measured: Measured, folder: Path) -> list[Edit]:
    """Edits that put the measured values into a file's content, and already have been made on `data`.

    Parameters
    ----------
    data
        Content of a valid input file, no two places of it one object.
    folder
        Where CSV files that it names lie.

    Raises
    ------
    InputError
        For a node or a link's end that the file does not have; names the key.
    """
    edits = [*_speeds(data, folder, measured.speed), *_times(measured.times)]
    for edit in edits:
        apply(data, edit)
    for link in measured.links:
        edits += _link(data, folder, link)
    return edits


def _plain(value: Any, *, block: bool = False) -> Any:
    return deepcopy(value)


def apply(data: Any, edit: Edit, styled: Callable[..., Any] = _plain) -> None:
    """Make one change in nested mappings and lists; mappings that are missing on the way are made.

    `styled` turns a plain value into what the document holds; ``block=True`` asks for a mapping over several lines.
    """
    *way, last = edit.path
    for step in way:
        if isinstance(data, dict) and step not in data:
            data[step] = styled({}, block=True)
        data = data[step]
    if edit.kind == "append":
        data[last].append(styled(edit.value))
    elif edit.kind == "insert":
        data.insert(last, styled(edit.value))
    else:
        data[last] = styled(edit.value)


def _significant(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def _seconds(value: float, like: Any = None) -> float | str:
    """Seconds as people write them; a bare number where `like`, the value so far, is one."""
    if isinstance(like, (int, float)) and value >= 1e-4:
        return _significant(value)
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if value >= factor:
            return f"{_significant(value / factor):g} {unit}"
    return f"{_significant(value / 1e-6):g} us"


def _bandwidth(value: float) -> str:
    for unit, factor in (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)):
        if value >= factor:
            return f"{_significant(value / factor):g} {unit}"
    return f"{_significant(value):g} B/s"


def _times(times: Mapping[str, float]) -> Iterator[Edit]:
    for key, value in times.items():
        # YAML 1.1 takes a number such as 1e-06 for text.
        yield Edit("set", ("times", key), _significant(value) if value >= 1e-3 else round(value, 4))


def _nodes(data: Any, folder: Path) -> tuple[TrainFile, FileNodes]:
    spec = validated(TrainFile, data)
    return spec, file_nodes(spec, region_network(spec, folder))


def _speeds(data: Any, folder: Path, speed: Mapping[str, float]) -> list[Edit]:
    """Edits that give nodes their speeds; groups are taken apart where only some of their nodes change."""
    if not speed:
        return []
    _, nodes = _nodes(data, folder)
    for name in speed:
        if name not in nodes.names:
            raise InputError(unknown_name("node", name, nodes.names, "this file"), key="nodes")
    if isinstance(data["nodes"], dict):
        return _spread(data["nodes"], nodes, speed)
    edits: list[Edit] = []
    names = iter(nodes.names)
    at = 0
    for group in data["nodes"]:
        members = [next(names) for _ in range(group.get("count", 1))]
        runs = list(_runs(members, speed, apart=group.get("name") is not None))
        for run in runs[:-1]:
            row = {key: value for key, value in group.items() if key != "count"}
            row |= {"name": run[0]} if group.get("name") is not None else {"count": len(run)} if len(run) > 1 else {}
            if run[0] in speed:
                row["speed"] = _seconds(speed[run[0]], group["speed"])
            edits.append(Edit("insert", ("nodes", at), row))
            at += 1
        last = runs[-1]
        if len(runs) > 1:
            edits.append(Edit("set", ("nodes", at, "count"), len(last)))
            if group.get("name") is not None:
                edits.append(Edit("set", ("nodes", at, "name"), last[0]))
        if last[0] in speed:
            edits.append(Edit("set", ("nodes", at, "speed"), _seconds(speed[last[0]], group["speed"])))
        at += 1
    return edits


def _runs(members: Sequence[str], speed: Mapping[str, float], *, apart: bool) -> Iterator[list[str]]:
    """Neighbouring members with one speed; named groups whose members differ fall apart altogether (`apart`).

    Nodes named after their region are numbered in the order of the file, so that parts of a group keep their names.
    """
    runs = [list(run) for _, run in groupby(members, key=lambda name: speed.get(name))]
    if apart and len(runs) > 1:
        runs = [[name] for name in members]
    yield from runs


def _spread(spread: Mapping[str, Any], nodes: FileNodes, speed: Mapping[str, float]) -> list[Edit]:
    if len(speed) == len(nodes.names) and len(set(speed.values())) == 1:
        value = next(iter(speed.values()))
        return [Edit("set", ("nodes", "speed"), _seconds(value, spread["speed"]))]
    rows = [
        {
            "region": region,
            "speed": _seconds(speed[name], spread["speed"]) if name in speed else spread["speed"],
            "memory": spread["memory"],
        }
        for name, region in zip(nodes.names, nodes.regions)
    ]
    return [Edit("set", ("nodes",), rows)]


def _link(data: Any, folder: Path, link: MeasuredLink) -> list[Edit]:
    """Edits, made on `data` already, after which the file's network has the measured link."""
    spec, nodes = _nodes(data, folder)
    known = dict.fromkeys([*nodes.regions, *nodes.names])
    for end in (link.a, link.b):
        if end not in known:
            raise InputError(unknown_name("region or node", end, list(known), "this file"), key="links.pairs")
    alike = abs(link.there.bandwidth - link.back.bandwidth) <= ALIKE * max(link.there.bandwidth, link.back.bandwidth)
    both = LinkFigures((link.there.delay + link.back.delay) / 2, (link.there.bandwidth + link.back.bandwidth) / 2)
    ways = {(link.a, link.b): both if alike else link.there, (link.b, link.a): both if alike else link.back}
    edits: list[Edit] = []

    def make(edit: Edit) -> None:
        apply(data, edit)
        edits.append(edit)

    for number, pair in enumerate(spec.links.pairs):
        way = (pair.between[0], pair.between[1])
        if way in ways:
            make(Edit("set", ("links", "pairs", number, "delay"), _seconds(ways[way].delay)))
            make(Edit("set", ("links", "pairs", number, "bandwidth"), _bandwidth(ways[way].bandwidth)))
            if pair.both_ways and not alike:
                make(Edit("set", ("links", "pairs", number, "both_ways"), False))
    missing = [way for way, figures in ways.items() if not _holds(data, folder, way, figures)]
    one_entry = alike and len(missing) == 2
    if one_entry:
        missing = missing[:1]
    directed = {} if one_entry else {"both_ways": False}
    rows: list[dict[str, Any]] = [
        {
            "between": list(way),
            "delay": _seconds(ways[way].delay),
            "bandwidth": _bandwidth(ways[way].bandwidth),
            **directed,
        }
        for way in missing
    ]
    if rows and isinstance(data["links"], str):
        make(Edit("set", ("links",), {"network": data["links"], "pairs": rows}))
    elif rows and "pairs" not in data["links"]:
        make(Edit("set", ("links", "pairs"), rows))
    else:
        for row in rows:
            make(Edit("append", ("links", "pairs"), row))
    return edits


def _holds(data: Any, folder: Path, way: tuple[str, str], wanted: LinkFigures) -> bool:
    """Whether the network of the file has this link with these figures (to the digits that are written)."""
    spec, nodes = _nodes(data, folder)
    # A file without a link that is about to be added is not connected yet.
    lenient = spec.model_copy(update={"links": spec.links.model_copy(update={"missing": "none"})})
    try:
        network = join(lenient, nodes, region_network(spec, folder))
    except InputError as error:
        if error.key != "links":
            raise
        return False
    ends = [[i for i in range(len(nodes.names)) if end in (nodes.names[i], nodes.regions[i])] for end in way]
    at = np.ix_(*ends)
    off = np.array(ends[0])[:, None] != np.array(ends[1])[None, :]
    return bool(
        np.allclose(network.delay_s[at][off], wanted.delay, rtol=1e-3, atol=0)
        and np.allclose(network.bytes_per_s[at][off], wanted.bandwidth, rtol=1e-3, atol=0)
    )
