"""An input file becomes exactly the problem that it describes, or one line that says what is wrong and where."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pathloom.data.network import measured_network
from pathloom.plan import InputError, ProvenInfeasible
from pathloom.worlds.train import files
from pathloom.worlds.train.from_file import problem_of
from pathloom.worlds.train.problem import Reordering, TrainProblem
from pathloom.worlds.train.train_file import Llama, Memory, NodeGroup, Speed, TrainFile

EXAMPLES = Path(__file__).parents[3] / "examples"

BASE = """
name: base
nodes: {count: 6, regions: [Iowa, Oregon, LA], speed: 0.055, memory: 3}
links: {network: gcp12}
model: {dim: 1024, layers: 12, heads: 16, context: 1024}
microbatches: 12
samples: 8
stages: 3
"""


def changed(old: str, new: str, text: str = BASE) -> str:
    assert old in text, f"the text has no {old!r}"
    return text.replace(old, new, 1)


def feasible_routes(problem: TrainProblem) -> None:
    """Deal every microbatch its stages and nodes by the caps alone; fails if they leave no room."""
    placement = np.repeat(np.arange(problem.n_stages), problem.stage_sizes)
    if problem.placement is not None:
        placement = np.asarray(problem.placement)
    node_load, stage_load = np.zeros(problem.n_nodes, int), np.zeros(problem.n_stages, int)
    for _ in range(problem.microbatches):
        source = min(np.flatnonzero(placement == 0), key=lambda n: node_load[n])
        node_load[source] += 1
        room = problem.stage_cap - stage_load
        later = sorted(range(1, problem.n_stages), key=lambda p: -room[p])[: problem.route_length - 1]
        for stage in later:
            stage_load[stage] += 1
            node = min(np.flatnonzero(placement == stage), key=lambda n: node_load[n])
            node_load[node] += 1
    assert (stage_load[1:] <= problem.stage_cap[1:]).all()
    sources = placement == 0
    assert (node_load[sources] <= problem.source_cap).all()
    assert (node_load[~sources] <= problem.node_cap[~sources]).all()


# --- what a file means ------------------------------------------------------------------------------------------------


def test_the_example_loads_and_leaves_room_for_a_plan() -> None:
    problem = files.loads(files.example(), "example.yaml")
    assert problem.n_nodes == 8
    assert problem.route_length == 3
    feasible_routes(problem)


OTHER_WORLDS = ("cell-", "shop")
"""How the names of the other worlds' examples begin."""


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(EXAMPLES.glob("*.yaml")) if not path.name.startswith(OTHER_WORLDS)],
    ids=lambda p: p.name,
)
def test_every_shipped_example_is_recognised_loads_and_leaves_room_for_a_plan(path: Path) -> None:
    assert files.recognise(path, path.read_text()) == files.KIND
    problem = files.load(path)
    assert problem.file == str(path)
    feasible_routes(problem)


def test_commented_alternatives_of_the_example_load_too() -> None:
    """Uncommenting what the example offers must work, or it misleads."""
    text = files.example()
    for old, new in (
        ("  # as_published: true", "  as_published: true"),
        ("  # inside: {", "  inside: {"),
        ("  # missing: none", "  missing: none"),
        ("  # kv_heads: 4", "  kv_heads: 4"),
        ("  # ffn_dim: 2816", "  ffn_dim: 2816"),
    ):
        text = changed(old, new, text)
    for line in ("pairs:", "  - {between: [Iowa, London]", "  - {between: [LA, London]"):
        text = changed(f"  # {line}", f"  {line}", text)
    for line in ("placement:", "  - [Iowa-1", "  - [Oregon-1", "  - [LA-1", "  - [Canada-1"):
        text = changed(f"  # {line}", f"  {line}", text)
    problem = files.loads(text)
    assert problem.placement is not None
    iowa, london = problem.locations.index("Iowa"), problem.locations.index("London")
    assert problem.link[iowa, london] == pytest.approx(0.35 + 0.048 + 32 * 2**20 / (180e6 / 8))


def test_the_main_example_is_skippipes_setting_with_the_corrected_link() -> None:
    problem = files.load(EXAMPLES / "gcp12-llama-500m.yaml")
    assert problem.stage_sizes.tolist() == [5, 3, 3, 3, 3, 3]
    assert (problem.forward == pytest.approx(1.76)) and (problem.backward == pytest.approx(2.64))
    assert (problem.loss == pytest.approx(0.44)) and (problem.memory == 3).all()
    assert (problem.route_length, problem.microbatches, problem.source_cap) == (4, 30, 6)
    assert problem.stage_cap.tolist() == [30, 18, 18, 18, 18, 18]
    assert set(problem.node_cap.tolist()) == {6}
    nl, london = problem.nodes.index("NL-1"), problem.nodes.index("London-1")
    assert problem.link[nl, london] == pytest.approx(0.35 + 0.0048 + 32 / 1024 / 0.2425)
    assert problem.locations[12] == "Australia"


def test_the_network_can_be_a_csv_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("from,to,delay_s,bandwidth_MiB_per_s\na,b,0.1,32\nb,a,0.2,64\n", encoding="utf-8")
    text = changed("[Iowa, Oregon, LA]", "[a, b]", changed("network: gcp12", "csv: own.csv, overhead: 0"))
    path = tmp_path / "problem.yaml.gz"
    path.write_bytes(gzip.compress(text.encode()))
    problem = files.load(path)
    assert problem.nodes[:3] == ("a-1", "b-1", "a-2")
    assert problem.link[0, 1] == pytest.approx(1.1)
    assert problem.link[1, 0] == pytest.approx(0.7)


def test_pairs_alone_make_a_network_and_later_pairs_win() -> None:
    text = """
name: pairs
nodes:
  - {name: one, region: here, speed: 1x, memory: 2}
  - {name: two, region: there, speed: 2x, memory: 2}
  - {name: three, region: there, speed: 4x, memory: 2}
links:
  overhead: 0
  inside: {delay: 0, bandwidth: 1 MB/s}
  pairs:
    - {between: [here, there], delay: 1, bandwidth: 1 MB/s}
    - {between: [one, three], delay: 5, bandwidth: 1 MB/s, both_ways: false}
model:
  table:
    - {forward: 2, activation: 1 MB, parameters: 1 GB, count: 2}
    - {forward: 4, activation: 0.5 MB, parameters: 1 GB}
microbatches: 2
samples: 1
stages: {count: 2}
"""
    problem = files.loads(text)
    assert problem.link.tolist() == [[0, 2, 6], [2, 0, 1], [2, 1, 0]]
    # Two layers of 2 s and one of 4 s balance as 2 + 1; a node of speed 4x needs a quarter.
    assert problem.forward.tolist() == [[4, 4], [2, 2], [1, 1]]
    assert problem.locations == ("here", "there", "there")
    assert problem.route_length == 2


def test_flops_count_two_a_parameter_and_token_and_the_attention() -> None:
    problem = files.loads(changed("speed: 0.055", "speed: 10 TFLOP/s"))
    parameters = 4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024
    flop = 2 * parameters * 1024 + 2 * (2 * 1024 * 1024 * 1024)
    assert problem.forward == pytest.approx(np.full((6, 3), 4 * 8 * flop / 1e13))


def test_memory_in_bytes_holds_parameters_with_their_state_first() -> None:
    parameters = (4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024) * 4 * 4
    head = (2 * 32000 * 1024 + 1024) * 4
    activation = 4 * 4 * 1024 * 1024 * 8
    exactly_two = 4 * (parameters + head) + 2 * activation
    assert (files.loads(changed("memory: 3", f"memory: {exactly_two} B")).memory == 2).all()
    assert (files.loads(changed("memory: 3", f"memory: {exactly_two - 1} B")).memory == 1).all()


def test_with_a_placement_each_node_needs_memory_for_its_own_stage_only() -> None:
    parameters = (4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024) * 4 * 4
    enough_without_head = 4 * parameters + 4 * 4 * 1024 * 1024 * 8
    nodes = "\n".join(
        f"  - {{region: Iowa, memory: {'64 GB' if i < 2 else f'{enough_without_head} B'}, speed: 0.055}}"
        for i in range(6)
    )
    text = changed("nodes: {count: 6, regions: [Iowa, Oregon, LA], speed: 0.055, memory: 3}", f"nodes:\n{nodes}")
    with pytest.raises(InputError, match="expected more, or a placement") as raised:
        files.loads(text)
    assert raised.value.key == "nodes[2].memory"
    placed = "stages: {placement: [[Iowa-1, Iowa-2], [Iowa-3, Iowa-4], [Iowa-5, Iowa-6]]}"
    assert files.loads(changed("stages: 3", placed, text)).memory[2:].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("share", ["2/3", "0.667", "0.67", "0.66", '" 2 / 3 "'])
def test_a_share_of_the_stages_is_a_number_of_stages(share: str) -> None:
    assert files.loads(BASE + f"run_share: {share}\n").route_length == 2


def test_balance_free_lifts_exactly_its_cap() -> None:
    strict = files.loads(BASE)
    free = files.loads(BASE + "balance: {node: free}\n")
    assert (free.node_cap == 12).all()
    assert (free.source_cap, free.stage_cap.tolist()) == (strict.source_cap, strict.stage_cap.tolist())
    assert files.loads(BASE + "balance: {source: free}\n").source_cap == 12
    assert files.loads(BASE + "balance: {stage: free}\n").stage_cap.tolist() == [12, 12, 12]


def test_all_reduce_moves_the_largest_stage_in_gradient_precision() -> None:
    problem = files.loads(BASE + "synchronisation: {kind: all-reduce, precision: bf16}\n")
    assert problem.sync_latency is not None and problem.sync_seconds is not None
    network = measured_network("gcp12")
    i, j = network.index("Iowa"), network.index("Oregon")
    gradient = 4 * (4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024) * 2
    assert problem.sync_latency[0, 1] == pytest.approx(network.delay_s[i, j])
    assert problem.sync_seconds[0, 1] == pytest.approx(gradient / network.bytes_per_s[i, j])
    assert files.loads(BASE).sync_latency is None


def test_python_builds_the_same_problem_without_a_file() -> None:
    spec = TrainFile(
        name="base",
        nodes=[
            NodeGroup(region=region, speed=Speed("seconds", 0.055), memory=Memory("activations", 3))
            for region in ("Iowa", "Oregon", "LA") * 2
        ],
        links={"network": "gcp12"},
        model=Llama(dim=1024, layers=12, heads=16, context=1024),
        microbatches=12,
        samples=8,
        stages={"count": 3},
    )
    built, loaded = problem_of(spec), files.loads(BASE)
    assert built.nodes == loaded.nodes
    assert (built.link == loaded.link).all() and (built.forward == loaded.forward).all()
    assert built.reordering == Reordering()


def test_missing_none_leaves_a_connected_network_with_gaps(tmp_path: Path) -> None:
    text = changed("{network: gcp12}", "{missing: none, pairs: [%s, %s]}")
    pair = "{between: [%s, %s], delay: 1 ms, bandwidth: 1 GB/s}"
    problem = files.loads(text % (pair % ("Iowa", "Oregon"), pair % ("Oregon", "LA")))
    assert np.isinf(problem.link[0, 2])
    assert np.isfinite(problem.link[0, 1])


def test_recognition_asks_for_more_keys_where_the_name_says_nothing() -> None:
    head = "name: x\nnodes: []\nlinks: gcp12\n"
    assert files.recognise(Path("x.yaml"), head) == files.KIND
    assert files.recognise(Path("x.yml.gz"), head) == files.KIND
    assert files.recognise(Path("x.txt"), head) is None
    assert files.recognise(Path("x"), BASE) == files.KIND
    assert files.recognise(Path("x.yaml"), "agents: 3\nmap: a.map\n") is None
    assert files.recognise(Path("x.map"), "type octile\nheight 3\n") is None


# --- what a file must not say -----------------------------------------------------------------------------------------

LIST = changed(
    "nodes: {count: 6, regions: [Iowa, Oregon, LA], speed: 0.055, memory: 3}",
    "nodes:\n  - {region: Iowa, speed: 0.055, memory: 3}\n  - {region: Oregon, count: 5, speed: 0.055, memory: 3}",
)
PAIR = "{between: [Iowa, Oregon], delay: 1, bandwidth: 1}"
MODEL = "{dim: 1024, layers: 12, heads: 16, context: 1024}"

BAD = [
    # (text, key, words)
    (changed("[Iowa, Oregon, LA]", "[Iowa, Oregno, LA]"), "nodes.regions[1]", "did you mean 'Oregon'"),
    (changed("region: Oregon", "region: Mars", LIST), "nodes[1].region", "known: Australia"),
    (changed("count: 5, speed: 0.055", "count: 5, speed: 0", LIST), "nodes[1].speed", "above 0"),
    (changed("count: 5, speed: 0.055", "count: 5, speed: -1", LIST), "nodes[1].speed", "found -1"),
    (changed("count: 5, speed: 0.055", "count: 5, speed: .nan", LIST), "nodes[1].speed", "finite"),
    (changed("count: 5, speed: 0.055", "count: 5, speed: .inf", LIST), "nodes[1].speed", "finite"),
    (changed("count: 5, speed: 0.055", "count: 5, speed: 5 apples", LIST), "nodes[1].speed", "TFLOP/s"),
    (changed("count: 5, speed: 0.055", "count: 5, speed: 2x", LIST), "nodes[1].speed", "for this kind of model"),
    (changed("count: 5, speed: 0.055", "count: 5, speed: 1 FLOP/s", LIST), "nodes[1].speed", "would take"),
    (changed("count: 5, speed: 0.055", "count: 5, sped: 0.055", LIST), "nodes[1].sped", "did you mean 'speed'"),
    (changed("count: 5, speed: 0.055, ", "count: 5, ", LIST), "nodes[1].speed", "missing; expected seconds"),
    (changed("count: 5", "count: 2.5", LIST), "nodes[1].count", "whole number"),
    (changed("count: 5", "count: true", LIST), "nodes[1].count", "whole number"),
    (changed("count: 5", "count: 1000000", LIST), "nodes[1].count", "from 1 to"),
    (changed("count: 5", "count: 5, name: n", LIST).replace("region: Iowa,", "region: Iowa, name: n-2,"),
     "nodes[1].name", "node 'n-2' exists already (nodes[0])"),
    (changed("region: Iowa", "region: no", LIST), "nodes[0].region", "valid string, found False"),
    (changed("memory: 3", "memory: 0"), "nodes.memory", "above 0"),
    (changed("memory: 3", "memory: 1.5"), "nodes.memory", "whole number of activations"),
    (changed("memory: 3", "memory: 3 eggs"), "nodes.memory", "'24 GiB'"),
    (changed("count: 6", "count: 0"), "nodes.count", "from 1"),
    (changed("{count: 6, regions: [Iowa, Oregon, LA], speed: 0.055, memory: 3}", "6"), "nodes", "list of nodes"),
    (changed("{count: 6, regions: [Iowa, Oregon, LA], speed: 0.055, memory: 3}", "[]"), "nodes", "at least 1 item"),
    (changed("network: gcp12", "network: gcp13"), "links.network", "did you mean 'gcp12'"),
    (changed("{network: gcp12}", "gcp13"), "links.network", "known: gcp12, aws10"),
    (changed("network: gcp12", "network: own.csv"), "links.network", "goes under links.csv"),
    (changed("network: gcp12", "network: gcp12, csv: own.csv"), "links", "found both"),
    (changed("network: gcp12", "csv: missing.csv"), "links.csv", "no such file"),
    (changed("network: gcp12", "overhead: 1"), "links", "expected a network"),
    (changed("network: gcp12", f"as_published: true, pairs: [{PAIR}]"), "links.as_published", "measured network"),
    (changed("network: gcp12", "network: gcp12, overhead: -1"), "links.overhead", "at least 0"),
    (changed("network: gcp12", "network: gcp12, overhead: 3 feet"), "links.overhead", "'350 ms'"),
    (changed("network: gcp12", "network: gcp12, precision: fp31"), "links.precision", "bf16"),
    (changed("network: gcp12", f"pairs: [{PAIR}]"), "links", "no link from Iowa to LA"),
    (changed("network: gcp12", f"missing: none, pairs: [{PAIR}]"), "links", "disconnected"),
    (changed("network: gcp12", "network: gcp12, pairs: [{between: [Iowa], delay: 1, bandwidth: 1}]"),
     "links.pairs[0].between", "at least 2"),
    (changed("network: gcp12", "network: gcp12, pairs: [{between: [Iowa, Pluto], delay: 1, bandwidth: 1}]"),
     "links.pairs[0].between[1]", "region or node 'Pluto' is unknown"),
    (changed("network: gcp12", "network: gcp12, pairs: [{between: [Iowa, LA], delay: 1, bandwidth: 0}]"),
     "links.pairs[0].bandwidth", "above 0"),
    (changed("network: gcp12", "network: gcp12, pairs: [{between: [Iowa, LA], delay: 1, bandwidth: 1e-20}]"),
     "links", "a message would take"),
    (changed("dim: 1024", "dim: 1000"), "model.heads", "divisor of dim 1000"),
    (changed("heads: 16", "heads: 16, kv_heads: 5"), "model.kv_heads", "divisor of heads 16"),
    (changed("heads: 16, ", ""), "model.heads", "missing; expected the number of attention heads"),
    (changed("layers: 12", "layers: 2"), "stages", "as layers (2)"),
    (changed("layers: 12", "leyers: 12"), "model.leyers", "did you mean 'layers'"),
    (changed(MODEL, "llama"), "model", "LLaMA shape"),
    (changed(MODEL, "{table: []}"), "model.table", "at least 1 item"),
    (changed(MODEL,
             "{table: [{forward: 1, activation: 1 MB, parameters: 0, count: 5},"
             " {forward: 1 GFLOP, activation: 1 MB, parameters: 0}]}"), "model.table", "expected one of them"),
    (changed(MODEL,
             "{table: [{forward: 1, activation: 0, parameters: 0, count: 5}]}"),
     "model.table[0].activation", "above 0"),
    (changed(MODEL,
             "{table: [{forward: 1, activation: 1 MB, parameters: 0, count: 5}]}"),
     "nodes.speed", "a factor ('1x', '2x')"),
    (changed("microbatches: 12", "microbatches: 0"), "microbatches", "from 1"),
    (changed("microbatches: 12", "microbatches: .nan"), "microbatches", "whole number"),
    (changed("microbatches: 12", "microbatches: twelve"), "microbatches", "found 'twelve'"),
    (changed("microbatches: 12\n", ""), "microbatches", "missing"),
    (changed("samples: 8", "samples: -8"), "samples", "found -8"),
    (changed("stages: 3", "stages: 7"), "stages.count", "as many stages as nodes (6)"),
    (changed("stages: 3", "stages: {}"), "stages", "expected the number of stages"),
    (changed("stages: 3", "stages: {sizes: [2, 2]}"), "stages.sizes", "sum to 4"),
    (changed("stages: 3", "stages: {sizes: [2, 4, 0]}"), "stages.sizes[2]", "from 1"),
    (changed("stages: 3", "stages: {count: 3, sizes: [2, 4]}"), "stages.sizes", "one size a stage"),
    (changed("stages: 3", "stages: {count: 3, sizes: even}"), "stages.sizes", "'auto' or a list"),
    (changed("stages: 3", "stages: {count: 3, layers: [4, 4]}"), "stages.layers", "one number a stage"),
    (changed("stages: 3", "stages: {count: 3, layers: [4, 4, 5]}"), "stages.layers", "sum to 13"),
    (changed("stages: 3", "stages: {placement: [[Iowa-1, Iowa-9]]}"), "stages.placement[0][1]", "did you mean 'Iowa-"),
    (changed("stages: 3", "stages: {placement: [[Iowa-1], [Iowa-1]]}"), "stages.placement[1][0]", "placed twice"),
    (changed("stages: 3", "stages: {placement: [[Iowa-1], []]}"), "stages.placement", "at least one node"),
    (changed("stages: 3", "stages: {placement: [[Iowa-1], [Iowa-2]]}"), "stages.placement", "has none"),
    (BASE + "run_share: 0.5\n", "run_share", "1/3 or 2/3"),
    (BASE + "run_share: 0\n", "run_share", "above 0"),
    (BASE + "run_share: 4/3\n", "run_share", "at most 1"),
    (BASE + "run_share: 1/0\n", "run_share", "above 0"),
    (BASE + "run_share: .nan\n", "run_share", "share of the stages"),
    (BASE + "route_length: 0\n", "route_length", "from 1"),
    (BASE + "route_length: 4\n", "route_length", "at most the 3 stages"),
    (BASE + "route_length: 2\nrun_share: 2/3\n", "run_share", "found both"),
    (BASE + "reordering: {distance: -1}\n", "reordering.distance", "from 0"),
    (BASE + "balance: {node: loose}\n", "balance.node", "'strict' or 'free'"),
    (BASE + "times: {backward: 0}\n", "times.backward", "above 0"),
    (BASE + "times: {weight: 1.5}\n", "times.weight", "at most 1"),
    (BASE + "times: {gap: .inf}\n", "times.gap", "finite"),
    (BASE + "synchronisation: sometimes\n", "synchronisation.kind", "'none' or 'all-reduce'"),
    (BASE + "microbatch: 3\n", "microbatch", "did you mean 'microbatches'"),
    (BASE + "name: again\n", "line 9", "given twice"),
    (BASE + "times: {gap: 1\n", "line 10", "no valid YAML"),
    (BASE + "\tx: 1\n", "line 9", "no valid YAML"),
    (BASE + "released: 2024-13-45\n", None, "no valid YAML"),
    ("", None, "empty"),
    ("# a comment only\n", None, "empty"),
    ("- a\n- list\n", None, "expected keys and values"),
    ("just words", None, "expected keys and values"),
    ("[" * 600, None, "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "words"), BAD, ids=[f"{i}-{row[1]}" for i, row in enumerate(BAD)])
def test_bad_input_names_file_key_and_what_was_expected(text: str, key: str | None, words: str) -> None:
    with pytest.raises(InputError) as raised:
        files.loads(text, "f.yaml")
    assert raised.value.file == "f.yaml"
    assert raised.value.key == key
    assert words in raised.value.reason
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("text", "requirement", "words"),
    [
        (changed("memory: 3", "memory: 1 KiB"), "memory", "node 'Iowa-1' has 1024 bytes"),
        (BASE + "reordering: {jump: 0}\n", "reordering", "jump of 0"),
    ],
)
def test_what_no_plan_can_meet_is_proven_infeasible(text: str, requirement: str, words: str) -> None:
    with pytest.raises(ProvenInfeasible, match=words) as raised:
        files.loads(text, "f.yaml")
    assert raised.value.requirement == requirement
    assert "f.yaml" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"\0\1\2", "binary"), (gzip.compress(BASE.encode(), mtime=0)[:-9], "truncated gzip")],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as raised:
        files.load(path)
    assert raised.value.file == str(path)


def test_a_broken_csv_is_named_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("a,b,delay_s,bandwidth_GB_per_s\nx,y,fast,1\n")
    path = tmp_path / "x.yaml"
    path.write_text(changed("network: gcp12", "csv: own.csv"))
    with pytest.raises(InputError, match="found 'fast'") as raised:
        files.load(path)
    assert raised.value.file == str(tmp_path / "own.csv")
    assert raised.value.key == "line 2"


def test_a_list_that_contains_itself_is_refused() -> None:
    with pytest.raises(InputError):
        files.loads(changed("[Iowa, Oregon, LA]", "&a [*a]"))


EXAMPLE = files.example()
LINES = EXAMPLE.splitlines()
SCRAPS = st.sampled_from(
    [
        *(
            "0",
            "-1",
            ".nan",
            ".inf",
            "1e400",
            "9" * 30,
            "0x",
            "1:60",
            "2024-02-31",
            "3/4",
            "x",
            "é",
            "null",
            "true",
            "~",
        ),
        *("'", '"', "[", "]", "{", "}", ":", ": ", "- ", "|", ">", "%", "@", "? ", "\t", "\x00", "\u2028"),
        *("&a ", "*a", "<<: ", "!!set", "!!python/object:os.system "),
    ]
)


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """The example with pieces cut, repeated, moved, or replaced by scraps that YAML or numbers might choke on."""
    text = EXAMPLE
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["cut", "insert", "replace", "line", "truncate", "token"]))
        at = draw(st.integers(0, max(len(text) - 1, 0)))
        if kind == "cut":
            text = text[:at] + text[at + draw(st.integers(1, 40)) :]
        elif kind == "insert":
            text = text[:at] + draw(SCRAPS | st.text(max_size=5)) + text[at:]
        elif kind == "replace":
            text = text[:at] + draw(SCRAPS) + text[at + draw(st.integers(1, 10)) :]
        elif kind == "truncate":
            text = text[:at]
        elif kind == "line":
            lines = text.splitlines() or [""]
            lines[draw(st.integers(0, len(lines) - 1))] = draw(st.sampled_from(LINES))
            text = "\n".join(lines)
        else:
            # Values are where the meaning is: replace one after a colon.
            head, colon, tail = text[at:].partition(": ")
            _, end, rest = tail.partition("\n")
            text = text[:at] + head + colon + draw(SCRAPS) + end + rest if colon else text
    return text


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutations())
def test_any_mutation_of_the_example_loads_or_is_refused_in_one_line(text: str) -> None:
    try:
        problem = files.loads(text, "f.yaml")
    except (InputError, ProvenInfeasible) as error:
        assert "\n" not in str(error) and "f.yaml" in str(error)
    else:
        assert isinstance(problem, TrainProblem)
