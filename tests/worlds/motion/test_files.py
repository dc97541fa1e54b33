"""Reading maps, scenarios and YAML: what is understood, and how mistakes are named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pathloom.plan import InputError
from pathloom.worlds.motion.files import example, load, read_map, read_plan, read_scenario, recognise

MAP = "type octile\nheight 2\nwidth 3\nmap\n.@G\nT.S\n"
SCENARIO = "version 1\n0\tsmall.map\t3\t2\t0\t0\t1\t1\t2\n0\tsmall.map\t3\t2\t2\t0\t2\t1\t1\n"


def folder_with(tmp_path: Path, *, scenario: str = SCENARIO, map_text: str | None = MAP) -> Path:
    if map_text is not None:
        (tmp_path / "small.map").write_text(map_text)
    path = tmp_path / "small-random-1.scen"
    path.write_text(scenario)
    return path


def test_a_map_tells_free_cells_from_walls_and_trees(tmp_path: Path) -> None:
    folder_with(tmp_path)
    assert read_map(tmp_path / "small.map").tolist() == [[True, False, True], [False, True, True]]


def test_a_scenario_says_columns_before_rows(tmp_path: Path) -> None:
    problem = read_scenario(folder_with(tmp_path))
    assert problem.starts.tolist() == [[0, 0], [0, 2]]
    assert problem.goals.tolist() == [[1, 1], [1, 2]]


def test_packed_files_read_the_same(tmp_path: Path) -> None:
    plain = read_scenario(folder_with(tmp_path))
    (tmp_path / "small.map").unlink()
    (tmp_path / "small.map.gz").write_bytes(gzip.compress(MAP.encode()))
    packed = tmp_path / "packed.scen.gz"
    packed.write_bytes(gzip.compress(SCENARIO.encode()))
    again = read_scenario(packed)
    assert (again.free == plain.free).all() and (again.goals == plain.goals).all()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("octile\n", 1, "expected 'type', found 'octile'"),
        ("type octile\nheight x\nwidth 3\nmap\n...\n", 2, "expected 'height N'"),
        ("type octile\nheight 1\nwidth 0\nmap\n\n", 3, "expected 'width N'"),
        ("type octile\nheight 2\nwidth 3\n", 4, "expected 'map', found the end of the file"),
        ("type octile\nheight 2\nwidth 3\nmap\n...\n", 5, "expected 2 rows of the map, found 1"),
        ("type octile\nheight 2\nwidth 3\nmap\n...\n..\n", 6, "expected 3 cells, found 2"),
        ("type octile\nheight 2\nwidth 3\nmap\n...\n.x.\n", 6, "column 1: expected one of"),
    ],
)
def test_a_mistake_in_a_map_is_named_by_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_scenario(folder_with(tmp_path, map_text=text))
    assert caught.value.key == f"line {line}"
    assert caught.value.file == str(tmp_path / "small.map")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("small.map\n", 1, "expected 'version 1'"),
        ("version 1\n\n", 2, "found none"),
        (SCENARIO.replace("\t2\n", "\n", 1), 2, "expected 9 fields .* found 8"),
        (SCENARIO.replace("2\t0\t2\t1", "2\tzero\t2\t1"), 3, "expected whole numbers"),
        (SCENARIO.replace("\t3\t2\t2", "\t4\t2\t2"), 3, "says 4 x 2, its map is 3 x 2"),
        (SCENARIO.replace("0\t0\t1\t1", "1\t0\t1\t1"), 2, "start at column 1, row 0: expected a free cell"),
        (SCENARIO.replace("0\t0\t1\t1", "0\t0\t1\t9"), 2, "goal at column 1, row 9: expected a free cell"),
        (SCENARIO.replace("small", "other", 1), 2, "expected the map 'other.map' in the same folder"),
        (
            SCENARIO.replace("1\n0\tsmall", "1\n0\tsmall").replace("2\n0\tsmall", "2\n0\tother"),
            3,
            "expected the map 'small.map'",
        ),
    ],
)
def test_a_mistake_in_a_scenario_is_named_by_file_and_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = folder_with(tmp_path, scenario=text)
    with pytest.raises(InputError, match=words) as caught:
        read_scenario(path)
    assert (caught.value.file, caught.value.key) == (str(path), f"line {line}")


def test_two_agents_with_one_goal_are_refused(tmp_path: Path) -> None:
    path = folder_with(tmp_path, scenario=SCENARIO.replace("2\t0\t2\t1", "2\t0\t1\t1"))
    with pytest.raises(InputError, match=r"agent 1: goal .* taken by agent 0"):
        read_scenario(path)


@pytest.mark.parametrize("agents", [0, -1, 3])
def test_no_more_agents_than_there_are(tmp_path: Path, agents: int) -> None:
    with pytest.raises(InputError, match=f"holds 2 agents, expected 1 to 2 .* not {agents}"):
        load(folder_with(tmp_path), agents)


def test_a_number_of_agents_is_a_number(tmp_path: Path) -> None:
    for wrong in ("two", 1.5, True, [1]):
        with pytest.raises(InputError, match="expected a number of agents"):
            load(folder_with(tmp_path), wrong)  # type: ignore[arg-type]


def test_the_example_is_recognised_and_read(tmp_path: Path) -> None:
    path = tmp_path / "robots.yaml"
    path.write_text(example())
    assert recognise(path, example()) == "grid of agents"
    problem = load(path)
    assert problem.agents == 4 and problem.free.shape == (5, 8)
    assert load(path, agents=2).agents == 2


def test_a_yaml_file_names_a_scenario_and_how_many(tmp_path: Path) -> None:
    folder_with(tmp_path)
    path = tmp_path / "some.yml"
    path.write_text("kind: grid\nscenario: small-random-1.scen\nagents: 1\n")
    assert load(path).agents == 1
    assert load(path, agents=2).agents == 2


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("kind: [", "line 1", "is not YAML"),
        ("- 1", None, "expected keys"),
        ("kind: train", "kind", "expected 'grid', found 'train'"),
        ("kind: grid\nrobots: 3", "robots", "unknown key"),
        ("kind: grid\nagents: []", "map", "expected rows"),
        ("kind: grid\nmap: |\n  ..\n  .\nagents: []", "map, row 2", "expected 2 cells, found 1"),
        ("kind: grid\nmap: |\n  ..\n  .?\nagents: []", "map, row 2", "column 1"),
        ("kind: grid\nmap: |\n  ..\n  ..\n", "agents", "expected a list"),
        ("kind: grid\nmap: ..\nagents: [{start: [0, 0]}]", "agents[0].goal", "found None"),
        ("kind: grid\nmap: ..\nagents: [{start: [0, .nan], goal: [0, 1]}]", "agents[0].start", "found \\[0, nan\\]"),
        ("kind: grid\nmap: ..\nagents: [{start: [0, 0], goal: [0, 7]}]", None, "outside the map"),
        ("kind: grid\nscenario: 3", "scenario", "expected the name"),
        ("kind: grid\nscenario: a.scen\nmap: ..", "map", "names its own"),
        ("kind: grid\nscenario: a.scen\nagents: yes", "agents", "found True"),
        ("kind: grid\nscenario: a.scen", None, "no such file"),
        ("kind: grid\nscenario: wrong.yaml", "scenario", "expected a scenario file"),
    ],
)
def test_a_mistake_in_yaml_is_named_by_its_key(tmp_path: Path, text: str, key: str | None, words: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        load(path)
    assert caught.value.key == key


def test_other_files_are_left_to_other_worlds() -> None:
    assert recognise(Path("a.scen"), SCENARIO) == recognise(Path("a.scen.gz"), SCENARIO) == "MovingAI scenario"
    assert recognise(Path("a.map"), MAP) is None
    assert recognise(Path("a.yaml"), "nodes: 3\n") is None
    assert recognise(Path("a.scen"), "") is None


def test_a_broken_plan_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for text, words in (("{", "is not JSON"), ("{}", "expected 'pathloom-motion"), ("[]", "expected 'pathloom-motion")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_plan(path)
    path.write_text('{"format": "pathloom-motion-plan-1"}')
    with pytest.raises(InputError, match="problem: expected this key"):
        read_plan(path)


def test_public_scenarios_are_read(benchmark_folder: Path) -> None:
    problem = load(benchmark_folder / "random-32-32-20-random-1.scen.gz")
    assert problem.agents == 20
    assert int(problem.free.sum()) == 819
    assert problem.starts[0].tolist() == [16, 5] and problem.goals[0].tolist() == [24, 31]
    # The warehouse's map is packed; another scenario of it names the map in the same way.
    assert load(benchmark_folder / "warehouse-10-20-10-2-1-random-1.scen.gz", 100).agents == 100
