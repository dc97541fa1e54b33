"""SkipPipe's instances come out exactly as its authors' scripts make them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from pathloom.data import find
from pathloom.data.network import measured_network
from pathloom.plan import InputError
from pathloom.worlds.train import files
from pathloom.worlds.train.reference import reference_instance, shipped_instance
from pathloom.worlds.train.simulator import simulate

EXAMPLES = Path(__file__).parents[3] / "examples"
ORDER = [
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


@pytest.fixture(scope="module")
def schedule() -> Path:
    try:
        return find("train-gcp") / "skippipe-schedule.json.gz"
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("as_published", [True, False])
def test_the_link_matrix_equals_the_published_formula(as_published: bool) -> None:
    problem = reference_instance(as_published=as_published)
    network = measured_network("gcp12", as_published=as_published)
    n_bytes = 4 * 1024 * 1024 * 8
    for i in range(20):
        for j in range(20):
            a, b = network.index(ORDER[i % 12]), network.index(ORDER[j % 12])
            seconds = 0.0 if i == j else network.delay_s[a, b] + n_bytes / network.bytes_per_s[a, b] + 0.13 + 0.2 + 0.02
            assert problem.link[i, j] == pytest.approx(seconds, rel=1e-12, abs=1e-12)


def test_default_instance_durations_sizes_and_caps() -> None:
    problem = reference_instance()
    assert problem.locations == tuple(ORDER[i % 12] for i in range(20))
    assert problem.forward == pytest.approx(np.full((20, 6), 1.76), rel=1e-12)
    assert problem.backward == pytest.approx(np.full((20, 6), 2.64), rel=1e-12)
    assert problem.loss == pytest.approx(np.full(20, 0.44), rel=1e-12)
    assert (problem.memory == 3).all()
    assert problem.stage_sizes.tolist() == [5, 3, 3, 3, 3, 3]
    assert (problem.microbatches, problem.route_length) == (30, 4)
    assert (problem.source_cap, problem.stage_cap.tolist()) == (6, [30, 18, 18, 18, 18, 18])
    assert (problem.node_cap == 6).all()
    assert (problem.gap, problem.injection_gap) == (0.13, 0.09)
    assert problem.placement is None
    # 32 MiB over a link 1024 times too slow: the figure behind most of the published gap to random routes.
    assert problem.link[7, 11] == pytest.approx(0.35 + 0.0048 + 1024 / 32 / 0.2425)


def test_the_example_file_is_the_default_instance() -> None:
    loaded, built = files.load(EXAMPLES / "gcp12-as-published.yaml"), reference_instance()
    assert loaded.nodes == built.nodes and loaded.locations == built.locations
    for name in ("forward", "backward", "weight", "loss", "link", "memory", "stage_sizes", "stage_cap", "node_cap"):
        assert np.allclose(getattr(loaded, name), getattr(built, name), rtol=1e-12, atol=1e-12), name
    assert loaded.source_cap == built.source_cap and loaded.reordering == built.reordering


def test_a_placement_is_taken_as_given() -> None:
    placement = np.repeat(np.arange(6), [5, 3, 3, 3, 3, 3])
    assert (reference_instance(placement=placement).placement == placement).all()


def test_the_shipped_schedule_has_its_own_delays_and_partitions(schedule: Path) -> None:
    problem, runs = shipped_instance(schedule)
    data = json.loads(gzip.decompress(schedule.read_bytes()))
    assert problem.link.tolist() == data["delays"]
    assert problem.placement is not None
    for stage, part in enumerate(data["partitions"]):
        assert sorted(np.flatnonzero(problem.placement == stage).tolist()) == sorted(part)
    assert problem.forward == pytest.approx(np.full((20, 6), 0.44), rel=1e-12)
    assert {name: round(run.seconds, 2) for name, run in runs.items()} == {
        "full": 79.94,
        "random": 48.92,
        "no-collision": 35.43,
        "collision": 33.31,
    }


def test_the_delays_of_the_shipped_schedule_are_the_published_network_for_eight_samples(schedule: Path) -> None:
    # Its delays divide back to 27 bytes a sample more than the 4 MiB of the script's present constants.
    problem, _ = shipped_instance(schedule)
    network = measured_network("gcp12", as_published=True)
    at = [network.index(region) for region in problem.locations]
    seconds = network.seconds(8 * (4 * 2**20 + 27))[np.ix_(at, at)] + 0.35
    off = ~np.eye(20, dtype=bool)
    assert problem.link[off] == pytest.approx(seconds[off], rel=1e-9)


def test_reference_routes_keep_the_constraints_that_they_were_made_under(schedule: Path) -> None:
    problem, runs = shipped_instance(schedule)
    for name, run in runs.items():
        routes, stages = run.decisions.routes, run.decisions.stages
        assert routes.shape == ((27, 6) if name == "full" else (30, 4))
        assert (stages[:, 0] == 0).all()
        assert all(len(set(row)) == len(row) for row in stages.tolist())
        assert np.bincount(routes[:, 0]).max() <= (9 if name == "full" else problem.source_cap)
        if name != "full":
            visits = np.bincount(routes[:, 1:].ravel(), minlength=20)
            assert (visits <= problem.node_cap).all()
            assert (np.bincount(stages.ravel(), minlength=6) <= problem.stage_cap).all()


@pytest.mark.parametrize("name", ["full", "random", "no-collision", "collision"])
def test_simulating_the_reference_routes_gives_the_reference_times(schedule: Path, name: str) -> None:
    problem, runs = shipped_instance(schedule)
    run = runs[name]
    assert simulate(problem, run.decisions).iteration_time == pytest.approx(run.seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "lacks the key 'partitions'"),
        ("[1]", "is no SkipPipe schedule"),
        ("{", "is no SkipPipe schedule"),
        ('{"partitions": [[0]], "locations": ["x"], "delays": [[0]], "memory": 3}', "is no SkipPipe schedule"),
    ],
)
def test_another_json_file_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words) as raised:
        shipped_instance(path)
    assert raised.value.file == str(path)
