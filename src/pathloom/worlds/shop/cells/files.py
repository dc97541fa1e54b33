"""Files of robot cells (YAML or JSON with ``kind: robot-cell``) and of their plans."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pathloom.data.input_model import InputModel, measure, parsed, ratio, shown, validated, whole
from pathloom.data.quantities import quantity
from pathloom.data.reading import read_text
from pathloom.data.strict_yaml import parse_yaml
from pathloom.plan import InputError, Objective, Plan
from pathloom.timeline import Timeline
from pathloom.worlds.shop.cells.cell import LONGEST, Axis, Buffer, Cell, Port, ProcessTime, Robot, Station, Step

FORMAT = "pathloom-cell-plan-1"
KIND = "robot cell"

EXAMPLE = """\
# Two stations tended by a robot with one arm: pathloom plan cell.yaml
kind: robot-cell
name: two stations
lot: 40

# 'x' is the place along the robot's track in metres, 'angle' where it lies seen from the robot.
ports:
  - {name: input, role: input, x: 0, angle: 180}
  - {name: output, role: output, x: 3, angle: 0}

stations:
  - {name: wash, x: 1, angle: 90, time: 30 s}
  - {name: dry, x: 2, angle: 90, time: {low: 35 s, high: 45 s}, longest_wait: 60 s}

robots:
  - name: robot
    arms: 1
    rotation: {speed: 90, acceleration: 180}          # degrees
    extension: {speed: 0.8, acceleration: 1.6}        # metres
    lift: {speed: 0.15, acceleration: 0.6}
    track: {speed: 1.5, acceleration: 1.0}
    stroke: 1.0
    lift_stroke: 0.03
    handshake: 0.4 s

# Every item visits one of the stations of each step.
recipe:
  - stations: [wash]
  - stations: [dry]
"""


def _time(value: Any) -> ProcessTime:
    """A processing time from 60, "60 s", ``{low, high}`` or ``{low, mode, high}``."""
    wanted = "expected seconds (60 or '60 s'), or {low: .., high: ..} with or without a mode"
    if isinstance(value, Mapping):
        unknown = [str(key) for key in value if key not in ("low", "mode", "high")]
        if unknown or not {"low", "high"} <= set(value):
            raise ValueError(wanted)
        read = {key: quantity(number, "time") for key, number in value.items()}
        return ProcessTime(read["low"], read["high"], read.get("mode"))
    try:
        return ProcessTime.fixed(quantity(value, "time"))
    except ValueError as error:
        raise ValueError(f"{wanted}: {error}") from None


def _wait(value: Any) -> float:
    if value is None or value in ("any", math.inf):
        return math.inf
    seconds = quantity(value, "time")
    if seconds < 0.0:
        raise ValueError("expected a time of at least 0 s, or 'any'")
    return seconds


def _zone(value: Any) -> tuple[float, float] | None:
    """The part of the track that a robot serves, from [low, high] or nothing."""
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 2 or not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers):
        raise ValueError("expected [lowest, highest] metre of the track")
    return float(numbers[0]), float(numbers[1])


Seconds = Annotated[float, measure("time", least=0.0, most=LONGEST)]
Number = Annotated[float, ratio(least=-LONGEST, most=LONGEST)]
Length = Annotated[float, ratio(least=0.0, most=LONGEST)]
Positive = Annotated[float, ratio(above=0.0, most=LONGEST)]
Time = Annotated[ProcessTime, parsed(_time, ProcessTime)]


class PlaceFile(InputModel):
    """What all places have."""

    name: str = Field(min_length=1, description="a name")
    x: Number = 0.0
    angle: Number = 0.0
    height: Number = 0.0


class PortFile(PlaceFile):
    """An input or output port."""

    role: Literal["input", "output"] = Field(description="'input' or 'output'")


class StationFile(PlaceFile):
    """A process station."""

    slots: Annotated[int, whole(1, 64)] = 1
    time: Time = Field(description="a processing time such as '60 s' or {low: 50, high: 70}")
    least_stay: Seconds = 0.0
    longest_wait: Annotated[float, parsed(_wait)] = Field(default=math.inf, allow_inf_nan=True)


class BufferFile(PlaceFile):
    """A buffer."""

    slots: Annotated[int, whole(1, 64)] = 1


class AxisFile(InputModel):
    """An axis."""

    speed: Positive = Field(description="metres (degrees) per second")
    acceleration: Positive = Field(description="metres (degrees) per second squared")


class RobotFile(InputModel):
    """A robot."""

    name: str = Field(min_length=1, description="a name")
    arms: Annotated[int, whole(1, 2)] = 1
    arm_angle: Number = 180.0
    rotation: AxisFile = Field(description="{speed: .., acceleration: ..} in degrees")
    extension: AxisFile = Field(description="{speed: .., acceleration: ..} in metres")
    lift: AxisFile = Field(description="{speed: .., acceleration: ..} in metres")
    stroke: Length = Field(description="metres that an arm extends")
    lift_stroke: Length = 0.0
    handshake: Seconds = 0.0
    track: AxisFile | None = None
    home: Number = 0.0
    home_angle: Number = 0.0
    zone: Annotated[tuple[float, float] | None, parsed(_zone, tuple)] = None


class StepFile(InputModel):
    """A step of the recipe."""

    stations: list[str] = Field(min_length=1, description="a list of names of stations")
    time: Time | None = None


class CellFile(InputModel):
    """A whole file."""

    kind: Literal["robot-cell"] = Field(description="'robot-cell'")
    name: str = "cell"
    lot: Annotated[int, whole(1, 100_000)] = 200
    clearance: Length = 0.0
    ports: list[PortFile] = Field(description="a list of input and output ports")
    stations: list[StationFile] = Field(description="a list of stations")
    buffers: list[BufferFile] = Field(default_factory=list)
    robots: list[RobotFile] = Field(description="a list of one or two robots")
    recipe: list[StepFile] = Field(description="a list of steps, each with its stations")


def recognise(path: Path, head: str) -> str | None:
    """`KIND` if the file's first text says ``kind: robot-cell`` (YAML or JSON), else None."""
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        return None
    said = re.search(r"""^\s*\{?\s*["']?kind["']?\s*:\s*["']?robot-cell["']?\s*(,|\}|#|$)""", head, re.MULTILINE)
    return KIND if said else None


def load_cell(path: Path) -> Cell:
    """Read a cell.

    Raises
    ------
    InputError
        Names the file, the line or key, and what was expected.
    """
    path = Path(path)
    text, file = read_text(path), str(path)
    if path.suffix.lower() == ".json":
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            line = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else None
            raise InputError("is not JSON", file=file, key=line) from None
    else:
        data = parse_yaml(text, file)
    return cell_of(data, file=file)


def cell_of(data: Any, *, file: str | None = None) -> Cell:
    """The cell that a file's content describes; raises `InputError`."""
    if not isinstance(data, Mapping):
        raise InputError(f"expected 'kind: robot-cell' and its keys, found {shown(data)}", file=file)
    spec = validated(CellFile, data, file=file)
    try:
        return Cell(
            ports=tuple(Port(**port.model_dump()) for port in spec.ports),
            stations=tuple(Station(**_plain(station)) for station in spec.stations),
            buffers=tuple(Buffer(**buffer.model_dump()) for buffer in spec.buffers),
            robots=tuple(_robot(robot) for robot in spec.robots),
            recipe=tuple(Step(tuple(step.stations), step.time) for step in spec.recipe),
            lot=spec.lot,
            clearance=spec.clearance,
            name=spec.name,
        )
    except ValueError as error:
        key, _, reason = str(error).partition(": ")
        raise InputError(reason or key, file=file, key=key if reason else None) from None


def _plain(model: InputModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}


def _robot(spec: RobotFile) -> Robot:
    values = _plain(spec)
    for axis in ("rotation", "extension", "lift", "track"):
        if values[axis] is not None:
            values[axis] = Axis(values[axis].speed, values[axis].acceleration)
    return Robot(**values)


def cell_to_dict(cell: Cell) -> dict[str, Any]:
    """The content of a file that describes `cell`; `cell_of` reads it back."""

    def place(p: Any) -> dict[str, Any]:
        return {"name": p.name, "x": p.x, "angle": p.angle, "height": p.height}

    def law(time: ProcessTime) -> Any:
        if time.law == "fixed":
            return time.low
        return {"low": time.low, "high": time.high} | ({} if time.mode is None else {"mode": time.mode})

    def axis(a: Axis | None) -> dict[str, float] | None:
        return None if a is None else {"speed": a.speed, "acceleration": a.acceleration}

    return {
        "kind": "robot-cell",
        "name": cell.name,
        "lot": cell.lot,
        "clearance": cell.clearance,
        "ports": [{**place(port), "role": port.role} for port in cell.ports],
        "stations": [
            {
                **place(s),
                "slots": s.slots,
                "time": law(s.time),
                "least_stay": s.least_stay,
                "longest_wait": "any" if math.isinf(s.longest_wait) else s.longest_wait,
            }
            for s in cell.stations
        ],
        "buffers": [{**place(b), "slots": b.slots} for b in cell.buffers],
        "robots": [
            {
                **{key: getattr(r, key) for key in ("name", "arms", "arm_angle", "stroke", "lift_stroke")},
                **{key: getattr(r, key) for key in ("handshake", "home", "home_angle")},
                **{key: axis(getattr(r, key)) for key in ("rotation", "extension", "lift", "track")},
                **({} if r.zone is None else {"zone": list(r.zone)}),
            }
            for r in cell.robots
        ],
        "recipe": [
            {"stations": list(step.stations)} | ({} if step.time is None else {"time": law(step.time)})
            for step in cell.recipe
        ],
    }


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """A plan with its cell as a plain dictionary."""
    return {
        "format": FORMAT,
        "problem": cell_to_dict(plan.problem),
        **plan.record(),
        "decisions": plan.decisions,
        "timeline": plan.timeline.to_dict(),
    }


def read_cell_plan(path: Path) -> Plan:
    """Read a plan.json that `pathloom.worlds.shop.cells.pictures.write_cell` wrote.

    Raises
    ------
    InputError
        If it is none, lacks a key or holds something else than a plan.
    """
    file = str(path)
    try:
        data = json.loads(read_text(Path(path)))
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error.msg}", file=file, key=f"line {error.lineno}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"expected '{FORMAT}'", file=file, key="format")
    try:
        return Plan(
            problem=cell_of(data["problem"], file=file),
            decisions=dict(data["decisions"]),
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
        raise InputError("expected this key, found none", file=file, key=str(error.args[0])) from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"holds no plan: {error}", file=file) from None


def example() -> str:
    """A commented example file: a single-armed robot that tends two stations."""
    return EXAMPLE
