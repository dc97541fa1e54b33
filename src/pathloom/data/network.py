"""Networks of regions: one-way delay and bandwidth between every two of them.

Two measured wide-area networks are carried along (see the source lines in their files): ``gcp12``, twelve Google
Cloud regions, and ``aws10``, ten AWS regions. A user's own network is a CSV of the same shape.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pathloom.data.naming import unknown_name
from pathloom.data.quantities import UNITS
from pathloom.data.reading import read_text
from pathloom.plan import InputError

Floats = NDArray[np.float64]

MEASURED = ("gcp12", "aws10")
"""Names of the networks that `measured_network` knows."""

# Inside one region: what each publisher's own scheduler assumes (seconds, bytes per second).
_INSIDE = {"gcp12": (1e-3, 2.0 * 2**30), "aws10": (5e-3, 2e9 / 8)}

# The published NL-London figure equals 0.2425 / 1024; Belgium-NL, Germany-NL and Belgium-London all have 0.2425 GiB/s.
_CORRECTED = {"gcp12": {("NL", "London"): 0.2425 * 2**30}}

_DELAY_COLUMNS = {"one_way_delay_ms": 1e-3, "delay_ms": 1e-3, "one_way_delay_s": 1.0, "delay_s": 1.0}
_BANDWIDTH_COLUMNS = {
    **{f"bandwidth_{unit.replace('/s', '')}_per_s": f for unit, f in UNITS["bandwidth"].items() if unit.endswith("/s")},
    **{f"bandwidth_{unit}": f for unit, f in UNITS["bandwidth"].items() if unit.endswith("bps")},
}


@dataclass(frozen=True)
class Network:
    """Delay and bandwidth between R regions.

    Attributes
    ----------
    regions
        Names, R of them, all different.
    delay_s
        Shape (R, R): one-way delay in seconds from region i to region j; infinity where there is no link. The
        diagonal is the delay between two machines of one region.
    bytes_per_s
        Shape (R, R): bandwidth in bytes per second; 0 where there is no link.
    name
        Name or file, for messages.
    """

    regions: tuple[str, ...]
    delay_s: Floats
    bytes_per_s: Floats
    name: str = ""

    def __post_init__(self) -> None:
        r = len(self.regions)
        if len(set(self.regions)) != r:
            raise ValueError("regions: a name occurs twice")
        for field in ("delay_s", "bytes_per_s"):
            array = np.array(getattr(self, field), dtype=np.float64)
            if array.shape != (r, r):
                raise ValueError(f"{field}: shape {array.shape}, expected ({r}, {r})")
            if np.isnan(array).any() or (array < 0).any():
                raise ValueError(f"{field}: holds a negative number or NaN")
            array.setflags(write=False)
            object.__setattr__(self, field, array)

    def seconds(self, n_bytes: float) -> Floats:
        """Time to move `n_bytes` between any two regions, shape (R, R): delay plus bytes over bandwidth."""
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(self.bytes_per_s > 0, n_bytes / self.bytes_per_s, np.inf)
        return self.delay_s + moved

    def index(self, region: str) -> int:
        """Position of `region`.

        Raises
        ------
        InputError
            If there is no such region; names the nearest and all known ones.
        """
        if region in self.regions:
            return self.regions.index(region)
        raise InputError(unknown_name("region", region, self.regions, f"network '{self.name}'"))


def measured_network(name: str, *, as_published: bool = False) -> Network:
    """One of the measured networks that come with the package.

    Parameters
    ----------
    name
        "gcp12" (delays and GiB/s published with SkipPipe, 2025) or "aws10" (delays and Gbit/s published with DT-FM,
        2022). Inside one region: 1 ms and 2 GiB/s, and 5 ms and 2 Gbit/s, as their publishers assume.
    as_published
        Keep the publisher's figure for NL-London in gcp12, 1024 times too small, instead of correcting it.

    Raises
    ------
    InputError
        If there is no such network.
    """
    if name not in MEASURED:
        raise InputError(unknown_name("network", name, MEASURED, "the measured networks"))
    text = (files("pathloom.data") / "networks" / f"{name}.csv").read_text(encoding="utf-8")
    network = parse_network(text, f"{name}.csv", inside=_INSIDE[name], name=name)
    if as_published or name not in _CORRECTED:
        return network
    bandwidth = network.bytes_per_s.copy()
    for (a, b), value in _CORRECTED[name].items():
        i, j = network.index(a), network.index(b)
        bandwidth[i, j] = bandwidth[j, i] = value
    return Network(network.regions, network.delay_s, bandwidth, name)


def read_network(path: Path, *, inside: tuple[float, float] = _INSIDE["gcp12"]) -> Network:
    """Read a network from a CSV file, see `parse_network`; a ``.gz`` file is unpacked on the way."""
    return parse_network(read_text(path), str(path), inside=inside, name=path.name)


def parse_network(text: str, file: str, *, inside: tuple[float, float], name: str) -> Network:
    """Read a network from CSV text.

    The first line that is no comment (``#``) names the columns: ``a,b`` for pairs that are alike both ways, or
    ``from,to`` for directed ones; a delay column (``one_way_delay_ms``, ``one_way_delay_s``); and a bandwidth column
    with its unit (``bandwidth_GiB_per_s``, ``bandwidth_Gbit_per_s``, ``bandwidth_MB_per_s``, ...). A row from a region
    to itself says how machines inside that region are joined. Pairs without a row have no link.

    Parameters
    ----------
    inside
        Seconds and bytes per second inside a region that has no row of its own.

    Raises
    ------
    InputError
        Names the file, the line, and what was expected.
    """

    def wrong(line: int, message: str) -> InputError:
        return InputError(message, file=file, key=f"line {line}")

    rows: list[tuple[int, list[str]]] = []
    for line, raw in enumerate(text.splitlines(), start=1):
        if raw.strip() and not raw.lstrip().startswith("#"):
            try:
                rows.append((line, [cell.strip() for cell in next(csv.reader([raw], strict=True))]))
            except csv.Error as error:
                raise wrong(line, f"is no CSV: {error}") from None
    if not rows:
        raise InputError("holds no rows; expected a line of column names and one line a pair of regions", file=file)
    head_line, head = rows[0]
    directed = head[:2] == ["from", "to"]
    if head[:2] not in (["a", "b"], ["from", "to"]):
        raise wrong(head_line, "expected the columns a,b (alike both ways) or from,to first")
    delay_at = [i for i, column in enumerate(head) if column in _DELAY_COLUMNS]
    bandwidth_at = [i for i, column in enumerate(head) if column in _BANDWIDTH_COLUMNS]
    if len(delay_at) != 1:
        raise wrong(head_line, f"expected exactly one delay column, one of {', '.join(_DELAY_COLUMNS)}")
    if len(bandwidth_at) != 1:
        raise wrong(
            head_line,
            "expected exactly one bandwidth column with its unit, such as bandwidth_GiB_per_s or bandwidth_Gbit_per_s",
        )
    delay_unit = _DELAY_COLUMNS[head[delay_at[0]]]
    bandwidth_unit = _BANDWIDTH_COLUMNS[head[bandwidth_at[0]]]

    links: dict[tuple[str, str], tuple[float, float, int]] = {}
    index: dict[str, int] = {}
    for line, cells in rows[1:]:
        if len(cells) != len(head):
            raise wrong(line, f"has {len(cells)} values, expected {len(head)}")
        a, b = cells[:2]
        if not a or not b:
            raise wrong(line, "expected two names of regions")
        index.setdefault(a, len(index))
        index.setdefault(b, len(index))
        delay = _number(cells[delay_at[0]])
        bandwidth = _number(cells[bandwidth_at[0]])
        if delay is None or delay < 0:
            raise wrong(line, f"expected a delay of 0 or more, found '{cells[delay_at[0]][:40]}'")
        if bandwidth is None or bandwidth <= 0:
            raise wrong(line, f"expected a bandwidth above 0, found '{cells[bandwidth_at[0]][:40]}'")
        for pair in {(a, b)} if directed else {(a, b), (b, a)}:
            if pair in links:
                raise wrong(line, f"gives {a}-{b} again, line {links[pair][2]} has it already")
            links[pair] = (delay * delay_unit, bandwidth * bandwidth_unit, line)
    if not index:
        raise InputError("names the columns but holds no pair of regions", file=file)

    delay_s = np.full((len(index), len(index)), np.inf)
    bytes_per_s = np.zeros((len(index), len(index)))
    np.fill_diagonal(delay_s, inside[0])
    np.fill_diagonal(bytes_per_s, inside[1])
    for (a, b), (delay, bandwidth, _) in links.items():
        delay_s[index[a], index[b]] = delay
        bytes_per_s[index[a], index[b]] = bandwidth
    return Network(tuple(index), delay_s, bytes_per_s, name)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Place:
    """Where a region is: network, region, provider and its own name for the region, nearest city, degrees."""

    network: str
    region: str
    provider: str
    provider_region: str
    city: str
    lat: float
    lon: float


def places(network: str | None = None) -> dict[str, Place]:
    """Approximate positions of regions by name.

    Parameters
    ----------
    network
        Only the regions of this measured network; None: of all, where two networks share a name the first wins
        (their positions are the same city).
    """
    text = (files("pathloom.data") / "networks" / "regions.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: dict[str, Place] = {}
    for row in csv.DictReader(lines):
        if network is None or row["network"] == network:
            place = Place(
                row["network"],
                row["region"],
                row["provider"],
                row["provider_region"],
                row["city"],
                float(row["lat"]),
                float(row["lon"]),
            )
            found.setdefault(place.region, place)
    return found
