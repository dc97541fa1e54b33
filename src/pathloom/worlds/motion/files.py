"""Files of grid problems and plans.

* MovingAI maps (``.map``: ``type``, ``height``, ``width``, ``map``, then rows of which ``.``, ``G`` and ``S`` are free
  and ``@ O T W`` blocked) and scenarios (``.scen``: ``version 1``, then tab-separated rows of bucket, map, width,
  height, start column, start row, goal column, goal row, distance), as https://movingai.com/benchmarks/formats.html
  describes them; also packed with gzip.
* A YAML file that names a scenario and a number of agents, or holds map and agents itself; see `example`.
* ``plan.json``, which `write` writes and `read_plan` reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.data.reading import read_text
from pathloom.plan import InputError, Objective, Plan
from pathloom.timeline import Timeline
from pathloom.worlds.motion.problem import GridProblem

FORMAT = "pathloom-motion-plan-1"
# A scenario file lists up to a thousand agents, of which a benchmark takes the first few.
DEFAULT_AGENTS = 20
_FREE, _BLOCKED = ".GS", "@OTW"

EXAMPLE = """\
# Robots on a grid: pathloom plan robots.yaml
kind: grid

# '.' is free, '@' is blocked. A file in MovingAI's format can be named instead:  map: warehouse.map
map: |
  ........
  .@@.@@..
  ........
  .@@.@@..
  ........

# One line a robot: [row, column] of its start and of its goal, counted from 0 at the upper left.
agents:
  - {start: [0, 0], goal: [4, 7]}
  - {start: [4, 7], goal: [0, 0]}
  - {start: [2, 0], goal: [2, 7]}
  - {start: [2, 7], goal: [2, 0]}

# Instead of map and agents, a scenario in MovingAI's format and how many of its agents to take:
# scenario: random-32-32-20-random-1.scen
# agents: 20
"""


def example() -> str:
    """A commented example of the YAML form."""
    return EXAMPLE


def recognise(path: Path, head: str) -> str | None:
    """Kind of grid problem that a file holds, from its name and its first text."""
    lines = [line.strip() for line in head.splitlines()]
    if lines and lines[0].lower().startswith("version") and ".scen" in path.name:
        return "MovingAI scenario"
    if path.suffix in (".yaml", ".yml") and "kind: grid" in lines:
        return "grid of agents"
    return None


def read_map(path: Path) -> NDArray[np.bool_]:
    """Free cells of a MovingAI map, shape (rows, columns).

    Raises
    ------
    InputError
        If a header line or a row is missing, or is not what the format says; names file and line.
    """
    lines = read_text(path).splitlines()
    sizes: dict[str, int] = {}
    for number, expected in enumerate(("type", "height", "width", "map")):
        words = lines[number].split() if number < len(lines) else []
        if not words or words[0] != expected:
            raise _wrong(path, number + 1, f"expected '{expected}', found {_shown(lines, number)}")
        if expected in ("height", "width"):
            if len(words) != 2 or not words[1].isdecimal() or int(words[1]) < 1:
                raise _wrong(path, number + 1, f"expected '{expected} N' with N at least 1")
            sizes[expected] = int(words[1])
    rows = lines[4:]
    while rows and not rows[-1].strip():
        rows.pop()
    if len(rows) != sizes["height"]:
        raise _wrong(path, 4 + len(rows), f"expected {sizes['height']} rows of the map, found {len(rows)}")
    return _free_cells(rows, sizes["width"], path, first_line=5)


def read_scenario(path: Path, agents: int | None = None) -> GridProblem:
    """The first `agents` agents of a MovingAI scenario (all of them without a number).

    The scenario names its map, which must lie in the same folder, packed or not.

    Raises
    ------
    InputError
        If a line is malformed, the map is missing or contradicts the scenario, or there are too few agents.
    """
    lines = read_text(path).splitlines()
    if not lines or lines[0].split()[:1] != ["version"]:
        raise _wrong(path, 1, f"expected 'version 1', found {_shown(lines, 0)}")
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if not rows:
        raise _wrong(path, 2, "expected a line of bucket, map, width, height, start, goal and distance, found none")
    if agents is not None and not 1 <= agents <= len(rows):
        raise InputError(
            f"holds {len(rows)} agents, expected 1 to {len(rows)} to be asked for, not {agents}", file=str(path)
        )
    wanted = rows[:agents]
    places: list[tuple[int, int, int, int]] = []
    free: NDArray[np.bool_] | None = None
    first = ""
    for number, line in wanted:
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) != 9:
            raise _wrong(path, number, f"expected 9 fields (bucket, map, ..., distance), found {len(fields)}")
        if free is None:
            first = fields[1]
            free = read_map(_beside(path, number, first))
        if fields[1] != first:
            raise _wrong(path, number, f"expected the map '{first}' as in the first line, found '{fields[1]}'")
        try:
            width, height, *place = (int(word) for word in fields[2:8])
        except ValueError:
            raise _wrong(path, number, "expected whole numbers for width, height, start and goal") from None
        if (height, width) != free.shape:
            raise _wrong(path, number, f"says {width} x {height}, its map is {free.shape[1]} x {free.shape[0]}")
        for word, (column, row) in (("start", place[:2]), ("goal", place[2:])):
            if not (0 <= row < height and 0 <= column < width) or not free[row, column]:
                raise _wrong(path, number, f"{word} at column {column}, row {row}: expected a free cell of the map")
        places.append((place[1], place[0], place[3], place[2]))
    assert free is not None
    table = np.array(places, dtype=np.int32)
    name = path.name.removesuffix(".gz").removesuffix(".scen")
    return _problem(path, free, table[:, :2], table[:, 2:], f"{name}, first {len(table)} of {len(rows)} agents")


def load(path: Path, agents: int | None = None) -> GridProblem:
    """Read a scenario or a YAML file.

    Parameters
    ----------
    agents
        How many agents to take, the first ones of the file. Without it, a scenario gives its first
        `DEFAULT_AGENTS`, a YAML file what it says.

    Raises
    ------
    InputError
        Names the file, the line or key, and what was expected.
    """
    path = Path(path)
    if agents is not None and (not isinstance(agents, int) or isinstance(agents, bool)):
        raise InputError(f"expected a number of agents, found {agents!r}", file=str(path), key="agents")
    if path.suffix in (".yaml", ".yml"):
        return _read_yaml(path, agents)
    if agents is not None:
        return read_scenario(path, agents)
    problem = read_scenario(path)
    return read_scenario(path, DEFAULT_AGENTS) if problem.agents > DEFAULT_AGENTS else problem


def _read_yaml(path: Path, agents: int | None) -> GridProblem:
    import yaml

    try:
        data = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark is not None else None
        raise InputError("is not YAML", file=str(path), key=line) from None
    if not isinstance(data, dict):
        raise InputError("expected keys 'kind: grid', 'map' and 'agents', or 'scenario'", file=str(path))
    unknown = [str(key) for key in data if key not in ("kind", "map", "agents", "scenario")]
    if unknown:
        raise InputError("unknown key; expected kind, map, agents or scenario", file=str(path), key=unknown[0])
    if data.get("kind") != "grid":
        raise InputError(f"expected 'grid', found {data.get('kind')!r}", file=str(path), key="kind")
    stated = data.get("agents")
    if "scenario" in data:
        if not isinstance(data["scenario"], str):
            raise InputError("expected the name of a scenario file", file=str(path), key="scenario")
        if "map" in data:
            raise InputError("expected no map beside a scenario, which names its own", file=str(path), key="map")
        if stated is not None and (not isinstance(stated, int) or isinstance(stated, bool)):
            raise InputError(f"expected a number of agents, found {stated!r}", file=str(path), key="agents")
        scenario = path.parent / data["scenario"]
        if scenario.suffix in (".yaml", ".yml"):
            raise InputError("expected a scenario file, found the name of a YAML file", file=str(path), key="scenario")
        return load(scenario, agents if agents is not None else stated)
    text = data.get("map")
    if not isinstance(text, str) or not text.strip():
        raise InputError("expected rows of '.' and '@', or the name of a .map file", file=str(path), key="map")
    if "\n" in text.strip() or set(text.strip()) <= set(_FREE + _BLOCKED):
        rows = text.strip("\n").splitlines()
        free = _free_cells(rows, len(rows[0]), path, first_line=1, key="map, row")
    else:
        free = read_map(path.parent / text)
    if not isinstance(stated, list) or not stated:
        raise InputError(
            "expected a list of '{start: [row, column], goal: [row, column]}'", file=str(path), key="agents"
        )
    places = np.empty((len(stated), 2, 2), dtype=np.int32)
    for index, entry in enumerate(stated):
        for side, word in enumerate(("start", "goal")):
            place = entry.get(word) if isinstance(entry, dict) else None
            if not (
                isinstance(place, list)
                and len(place) == 2
                and all(isinstance(x, int) and not isinstance(x, bool) and abs(x) < 1 << 30 for x in place)
            ):
                key = f"agents[{index}].{word}"
                raise InputError(f"expected [row, column], found {place!r}", file=str(path), key=key)
            places[index, side] = place
    problem = _problem(path, free, places[:, 0], places[:, 1], path.stem)
    if agents is None:
        return problem
    try:
        return problem.first(agents)
    except ValueError as error:
        raise InputError(str(error), file=str(path), key="agents") from None


def _free_cells(rows: Sequence[str], width: int, path: Path, first_line: int, key: str = "line") -> NDArray[np.bool_]:
    free = np.zeros((len(rows), width), dtype=np.bool_)
    for index, row in enumerate(rows):
        if len(row) != width:
            raise _wrong(path, first_line + index, f"expected {width} cells, found {len(row)}", key)
        for column, cell in enumerate(row):
            if cell not in _FREE + _BLOCKED:
                expected = f"expected one of '{_FREE}' or '{_BLOCKED}', found {cell!r}"
                raise _wrong(path, first_line + index, f"column {column}: {expected}", key)
            free[index, column] = cell in _FREE
    return free


def _beside(path: Path, number: int, name: str) -> Path:
    """The map that a scenario names: only its last part counts, since scenarios carry folders of their makers."""
    plain = path.parent / Path(name).name
    for candidate in (plain, plain.with_name(plain.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise _wrong(path, number, f"expected the map '{plain.name}' in the same folder, found none")


def _problem(
    path: Path, free: NDArray[np.bool_], starts: NDArray[np.int32], goals: NDArray[np.int32], name: str
) -> GridProblem:
    try:
        return GridProblem(free, starts, goals, name)
    except ValueError as error:
        raise InputError(str(error), file=str(path)) from None


def _wrong(path: Path, number: int, message: str, key: str = "line") -> InputError:
    return InputError(message, file=str(path), key=f"{key} {number}")


def _shown(lines: Sequence[str], number: int) -> str:
    return repr(lines[number][:40]) if number < len(lines) else "the end of the file"


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """A plan with its problem as a plain dictionary."""
    problem: GridProblem = plan.problem
    return {
        "format": FORMAT,
        "problem": {
            "name": problem.name,
            "map": ["".join("@."[int(free)] for free in row) for row in problem.free],
            "starts": problem.starts.tolist(),
            "goals": problem.goals.tolist(),
        },
        **plan.record(),
        "routes": [route.tolist() for route in plan.decisions],
        "timeline": plan.timeline.to_dict(),
    }


def read_plan(path: Path) -> Plan:
    """Read a plan.json.

    Raises
    ------
    InputError
        If it is none, lacks a key or holds something else than a plan.
    """
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error.msg}", file=str(path), key=f"line {error.lineno}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"expected '{FORMAT}'", file=str(path), key="format")
    try:
        stated = data["problem"]
        free = _free_cells(stated["map"], len(stated["map"][0]), path, 1, "problem.map, row")
        problem = _problem(path, free, stated["starts"], stated["goals"], str(stated["name"]))
        return Plan(
            problem=problem,
            decisions=tuple(np.array(route, dtype=np.int32).reshape(-1, 2) for route in data["routes"]),
            timeline=Timeline.from_dict(data["timeline"]),
            objective=Objective(**data["objective"]),
            method=str(data["method"]),
            settings=dict(data["settings"]),
            seed=int(data["seed"]),
            bound=None if data["bound"] is None else float(data["bound"]),
            bound_by=data["bound_by"],
            seconds=float(data["seconds"]),
            metrics=dict(data["metrics"]),
        )
    except KeyError as error:
        raise InputError("expected this key, found none", file=str(path), key=str(error.args[0])) from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"holds no plan: {error}", file=str(path)) from None
