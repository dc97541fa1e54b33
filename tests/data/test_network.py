"""Measured networks hold the published figures; a user's own network is read with errors that name file and line."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from pathloom.data import find
from pathloom.data.network import MEASURED, Network, measured_network, parse_network, places, read_network
from pathloom.plan import InputError

REFERENCE_ORDER = [
    "Australia",
    "Belgium",
    "Canada",
    "Germany",
    "Iowa",
    "Japan",
    "LA",
    "NL",
    "Oregon",
    "Singapore",
    "Taiwan",
    "London",
]


def shared(name: str) -> Path:
    try:
        return find(name)
    except InputError as error:
        pytest.skip(str(error))


def test_gcp12_lists_its_regions_in_the_order_in_which_skippipe_deals_its_nodes() -> None:
    assert list(measured_network("gcp12").regions) == REFERENCE_ORDER


@pytest.mark.parametrize("name", MEASURED)
def test_measured_networks_are_complete_and_alike_both_ways(name: str) -> None:
    network = measured_network(name)
    assert np.isfinite(network.delay_s).all()
    assert (network.bytes_per_s > 0).all()
    assert (network.delay_s == network.delay_s.T).all()
    assert (network.bytes_per_s == network.bytes_per_s.T).all()


@pytest.mark.parametrize(
    ("name", "column", "unit"),
    [("gcp12", "bandwidth_GiB_per_s", 2.0**30), ("aws10", "bandwidth_Gbps", 1e9 / 8)],
)
def test_figures_equal_the_public_data_set(name: str, column: str, unit: float) -> None:
    path = shared("train-gcp") / f"{name}.csv"
    if not path.exists():
        pytest.skip("the data set has no such table here")
    network = measured_network(name, as_published=True)
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(network.regions) * (len(network.regions) - 1) // 2
    for row in rows:
        i, j = network.index(row["a"]), network.index(row["b"])
        delay = row.get("one_way_delay_ms") or row["delay_ms"]
        assert network.delay_s[i, j] == pytest.approx(float(delay) / 1000, rel=1e-12)
        assert network.bytes_per_s[i, j] == pytest.approx(float(row[column]) * unit, rel=1e-12)


def test_only_nl_london_differs_between_the_published_and_the_corrected_gcp12() -> None:
    published, corrected = measured_network("gcp12", as_published=True), measured_network("gcp12")
    changed = np.argwhere(published.bytes_per_s != corrected.bytes_per_s)
    nl, london, belgium = (corrected.index(r) for r in ("NL", "London", "Belgium"))
    assert changed.tolist() == sorted([[nl, london], [london, nl]])
    assert published.bytes_per_s[nl, london] * 1024 == corrected.bytes_per_s[nl, london]
    # The neighbours say what the figure should be.
    assert corrected.bytes_per_s[nl, london] == corrected.bytes_per_s[nl, belgium]
    assert (published.delay_s == corrected.delay_s).all()


def test_aws10_has_nothing_to_correct() -> None:
    one, other = measured_network("aws10"), measured_network("aws10", as_published=True)
    assert (one.bytes_per_s == other.bytes_per_s).all()


def test_inside_a_region_the_publishers_own_assumptions_hold() -> None:
    gcp, aws = measured_network("gcp12"), measured_network("aws10")
    assert set(gcp.delay_s.diagonal()) == {0.001}
    assert set(gcp.bytes_per_s.diagonal()) == {2.0 * 2**30}
    assert set(aws.delay_s.diagonal()) == {0.005}
    assert set(aws.bytes_per_s.diagonal()) == {2.5e8}


def test_moving_bytes_takes_delay_plus_bytes_over_bandwidth() -> None:
    network = measured_network("gcp12")
    seconds = network.seconds(32 * 2**20)
    i, j = network.index("Belgium"), network.index("Germany")
    assert seconds[i, j] == pytest.approx(0.004 + 32 / 1024 / 0.2425, rel=1e-12)


@pytest.mark.parametrize("name", MEASURED)
def test_every_region_has_a_place_on_the_map(name: str) -> None:
    network = measured_network(name)
    found = places(name)
    assert set(found) == set(network.regions)
    for place in found.values():
        assert -60 < place.lat < 70
        assert -180 <= place.lon <= 180


def test_distance_on_the_globe_bounds_the_measured_delay() -> None:
    """Light in fibre covers about 200 km a millisecond: a wrong coordinate would have to beat it."""
    for name in MEASURED:
        network, found = measured_network(name), places(name)
        for i, a in enumerate(network.regions):
            for j, b in enumerate(network.regions[:i]):
                p, q = (np.radians([found[r].lat, found[r].lon]) for r in (a, b))
                half = np.sin((p - q) / 2) ** 2
                km = 2 * 6371 * np.arcsin(np.sqrt(half[0] + np.cos(p[0]) * np.cos(q[0]) * half[1]))
                assert km / 200 / 1000 <= network.delay_s[i, j] * 1.15, (a, b)


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'gcp12'"):
        measured_network("gpc12")


OWN = """# my offices
from,to,one_way_delay_ms,bandwidth_Mbit_per_s
home,office,10,80
office,home,12,40
home,home,1,1000
"""


def test_a_directed_network_keeps_both_directions_apart(tmp_path: Path) -> None:
    path = tmp_path / "own.csv.gz"
    path.write_bytes(gzip.compress(OWN.encode()))
    network = read_network(path)
    assert network.regions == ("home", "office")
    assert network.delay_s.tolist() == pytest.approx(np.array([[0.001, 0.010], [0.012, 0.001]]))
    assert network.bytes_per_s[0, 1] == 1e7
    assert network.bytes_per_s[1, 0] == 5e6
    assert network.bytes_per_s[0, 0] == 1.25e8
    assert network.bytes_per_s[1, 1] == 2.0 * 2**30


def test_a_pair_without_a_row_has_no_link() -> None:
    text = "a,b,delay_s,bandwidth_GB_per_s\nx,y,0.1,1\ny,z,0.1,1\n"
    network = parse_network(text, "n.csv", inside=(0.0, 1e9), name="n")
    assert np.isinf(network.delay_s[0, 2])
    assert np.isinf(network.seconds(1.0)[0, 2])


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("", None, "holds no rows"),
        ("# nothing\n", None, "holds no rows"),
        ("a,b,delay_s,bandwidth_GB_per_s\n", None, "no pair"),
        ("x,y,delay_s,bandwidth_GB_per_s\nx,y,1,1", "line 1", "a,b"),
        ("a,b,bandwidth_GB_per_s\nx,y,1", "line 1", "delay column"),
        ("a,b,delay_s,bandwidth\nx,y,1,1", "line 1", "bandwidth column"),
        ("a,b,delay_s,bandwidth_GB_per_s\nx,y,1", "line 2", "3 values, expected 4"),
        ("a,b,delay_s,bandwidth_GB_per_s\nx,y,fast,1", "line 2", "found 'fast'"),
        ("a,b,delay_s,bandwidth_GB_per_s\nx,y,-1,1", "line 2", "0 or more"),
        ("a,b,delay_s,bandwidth_GB_per_s\nx,y,nan,1", "line 2", "delay"),
        ("a,b,delay_s,bandwidth_GB_per_s\n\nx,y,1,0", "line 3", "above 0"),
        ("a,b,delay_s,bandwidth_GB_per_s\nx,y,1,inf", "line 2", "bandwidth"),
        ("a,b,delay_s,bandwidth_GB_per_s\nx,,1,1", "line 2", "two names"),
        ("a,b,delay_s,bandwidth_GB_per_s\nx,y,1,1\ny,x,1,1", "line 3", "line 2 has it"),
        ('a,b,delay_s,bandwidth_GB_per_s\n"x,y,1,1', "line 2", "no CSV"),
    ],
)
def test_a_broken_network_file_is_named_with_its_line(text: str, key: str | None, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        parse_network(text, "own.csv", inside=(0.0, 1.0), name="own")
    assert (raised.value.file, raised.value.key) == ("own.csv", key)
    assert "\n" not in str(raised.value)


def test_a_network_refuses_wrong_shapes_and_nan() -> None:
    with pytest.raises(ValueError, match="delay_s: shape"):
        Network(("x",), np.zeros((2, 2)), np.ones((1, 1)))
    with pytest.raises(ValueError, match="bytes_per_s"):
        Network(("x",), np.zeros((1, 1)), np.full((1, 1), np.nan))
    with pytest.raises(ValueError, match="twice"):
        Network(("x", "x"), np.zeros((2, 2)), np.ones((2, 2)))
