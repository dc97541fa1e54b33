"""Robot cells: places, robots and the recipe, frozen and validated.

Places are input and output ports, process stations with slots, and buffers. Robots with one or two arms stand on a
fixed base or run on a common track. An item goes through the steps of the recipe, each of which names the stations that
can do it; a station may come in several steps (a re-entrant recipe). Units are seconds, metres and degrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pathloom.data.naming import unknown_name

Law = Literal["fixed", "uniform", "triangular"]
LAWS: tuple[Law, ...] = ("fixed", "uniform", "triangular")
LONGEST = 1e7
"""Seconds, metres and degrees beyond this are slips of a unit."""
MOST_PLACES, MOST_SLOTS, MOST_STEPS, MOST_ITEMS = 64, 64, 64, 100_000


def _number(key: str, value: float, *, least: float = -LONGEST, above: float | None = None) -> None:
    good = isinstance(value, (int, float)) and math.isfinite(value) and least <= value <= LONGEST
    if not good or (above is not None and value <= above):
        limit = f"above {above:g}" if above is not None else f"from {least:g}"
        raise ValueError(f"{key}: expected a number {limit} to {LONGEST:g}, found {value!r}")


@dataclass(frozen=True)
class ProcessTime:
    """Distribution of a processing time in seconds; its support is bounded, so that plans can be safe.

    Parameters
    ----------
    low, high
        Smallest and largest value, equal for a fixed time.
    mode
        Most likely value of a triangular distribution; None: uniform between `low` and `high`.
    """

    low: float
    high: float
    mode: float | None = None

    def __post_init__(self) -> None:
        _number("time", self.low, least=0.0)
        _number("time", self.high, least=0.0)
        if self.high < self.low:
            raise ValueError(f"time: expected low <= high, found {self.low:g} and {self.high:g}")
        if self.mode is not None and not self.low <= self.mode <= self.high:
            raise ValueError(f"time: expected a mode from {self.low:g} to {self.high:g}, found {self.mode:g}")

    @classmethod
    def fixed(cls, seconds: float) -> ProcessTime:
        """Always the same time."""
        return cls(seconds, seconds)

    @property
    def law(self) -> Law:
        """Name of the distribution."""
        return "fixed" if self.low == self.high else "uniform" if self.mode is None else "triangular"

    @property
    def mean(self) -> float:
        """Expected value in seconds."""
        if self.mode is None:
            return 0.5 * (self.low + self.high)
        return (self.low + self.mode + self.high) / 3.0

    def quantile(self, u: float) -> float:
        """The time below which a share `u` in [0, 1] of all times lies."""
        span = self.high - self.low
        if span == 0.0:
            return self.low
        if self.mode is None:
            return self.low + u * span
        if u * span < self.mode - self.low:
            return self.low + math.sqrt(u * span * (self.mode - self.low))
        return self.high - math.sqrt((1.0 - u) * span * (self.high - self.mode))


@dataclass(frozen=True)
class Axis:
    """Top speed and acceleration of an axis: metres or degrees per second (squared)."""

    speed: float
    acceleration: float

    def __post_init__(self) -> None:
        _number("speed", self.speed, above=0.0)
        _number("acceleration", self.acceleration, above=0.0)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a robot picks and places.

    Parameters
    ----------
    x
        Metres along the track.
    angle
        Direction of the place as seen from the robot, in degrees.
    height
        Metres that the lift goes up from its lowest position.
    """

    name: str
    x: float = 0.0
    angle: float = 0.0
    height: float = 0.0
    slots: int = 1

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: expected a name, found none")
        for key in ("x", "angle", "height"):
            _number(f"{self.name}.{key}", getattr(self, key))
        if not 1 <= self.slots <= MOST_SLOTS:
            raise ValueError(f"{self.name}.slots: expected 1 to {MOST_SLOTS}, found {self.slots}")


@dataclass(frozen=True, kw_only=True)
class Port(Place):
    """Where items come from (``role="input"``) or go to (``role="output"``); it is never full and never waits."""

    role: Literal["input", "output"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.role not in ("input", "output"):
            raise ValueError(f"{self.name}.role: expected 'input' or 'output', found {self.role!r}")


@dataclass(frozen=True, kw_only=True)
class Station(Place):
    """A process station; each slot treats one item at a time.

    Parameters
    ----------
    time
        Processing time, unless the step of the recipe states its own. It runs from the moment that the arm has left.
    least_stay
        Seconds that an item stays at least, even if its processing is shorter.
    longest_wait
        Seconds within which the robot must begin to take out an item that is ready (its dwell limit); infinite if it
        may wait.
    """

    time: ProcessTime
    least_stay: float = 0.0
    longest_wait: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        _number(f"{self.name}.least_stay", self.least_stay, least=0.0)
        if math.isnan(self.longest_wait) or self.longest_wait < 0.0:
            raise ValueError(f"{self.name}.longest_wait: expected at least 0 s, found {self.longest_wait}")


@dataclass(frozen=True, kw_only=True)
class Buffer(Place):
    """A place where an item may wait between any two steps."""


@dataclass(frozen=True)
class Step:
    """One step of the recipe: the stations that can do it, and a time that replaces theirs."""

    stations: tuple[str, ...]
    time: ProcessTime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stations", tuple(self.stations))
        if not self.stations:
            raise ValueError("stations: expected at least one station, found none")
        if len(set(self.stations)) != len(self.stations):
            raise ValueError(f"stations: a station is named twice in {', '.join(self.stations)}")


@dataclass(frozen=True, kw_only=True)
class Robot:
    """A transfer robot.

    Parameters
    ----------
    arms
        1, or 2 that can hold an item each, so that one visit can take an item out and put another in (a swap).
    rotation, extension, lift
        Its axes: degrees, metres, metres.
    stroke
        Metres that an arm extends into a place.
    lift_stroke
        Metres that the arm lifts or lowers to take over or hand over.
    handshake
        Seconds of sensing and signalling at each hand-over.
    arm_angle
        Degrees from the first to the second arm: 180 for arms that point away from each other, 0 for stacked ones.
    track
        Axis along the track, None for a fixed base.
    home, home_angle
        Where the robot starts, and where it goes to let another pass.
    zone
        Lowest and highest metre of the track that the robot serves; None: all of it.
    """

    name: str
    rotation: Axis
    extension: Axis
    lift: Axis
    stroke: float
    arms: int = 1
    lift_stroke: float = 0.0
    handshake: float = 0.0
    arm_angle: float = 180.0
    track: Axis | None = None
    home: float = 0.0
    home_angle: float = 0.0
    zone: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: expected a name, found none")
        if self.arms not in (1, 2):
            raise ValueError(f"{self.name}.arms: expected 1 or 2, found {self.arms}")
        for key in ("stroke", "lift_stroke", "handshake"):
            _number(f"{self.name}.{key}", getattr(self, key), least=0.0)
        for key in ("arm_angle", "home", "home_angle"):
            _number(f"{self.name}.{key}", getattr(self, key))
        if self.zone is not None:
            low, high = self.zone
            _number(f"{self.name}.zone", low)
            _number(f"{self.name}.zone", high, least=low)


@dataclass(frozen=True)
class Cell:
    """A robot cell and the lot that it has to work off.

    Parameters
    ----------
    ports, stations, buffers, robots
        Names differ from each other. At most two robots; two of them run on one track.
    recipe
        Steps in order.
    lot
        Number of items.
    clearance
        Metres that two robots keep between them.
    name
        What to call the cell.

    Raises
    ------
    ValueError
        Names the key and what was expected.
    """

    ports: tuple[Port, ...]
    stations: tuple[Station, ...]
    robots: tuple[Robot, ...]
    recipe: tuple[Step, ...]
    buffers: tuple[Buffer, ...] = ()
    lot: int = 200
    clearance: float = 0.0
    name: str = "cell"

    def __post_init__(self) -> None:
        for key in ("ports", "stations", "robots", "recipe", "buffers"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        for key, found in (("stations", self.stations), ("robots", self.robots), ("recipe", self.recipe)):
            if not found:
                raise ValueError(f"{key}: expected at least one, found none")
        for role in ("input", "output"):
            if not any(port.role == role for port in self.ports):
                raise ValueError(f"ports: expected at least one with the role '{role}', found none")
        if len(self.places) > MOST_PLACES or len(self.recipe) > MOST_STEPS:
            raise ValueError(f"recipe: expected at most {MOST_PLACES} places and {MOST_STEPS} steps")
        if not isinstance(self.lot, int) or not 1 <= self.lot <= MOST_ITEMS:
            raise ValueError(f"lot: expected 1 to {MOST_ITEMS} items, found {self.lot!r}")
        _number("clearance", self.clearance, least=0.0)
        seen: set[str] = set()
        for name in (*(place.name for place in self.places), *(robot.name for robot in self.robots)):
            if name in seen:
                raise ValueError(f"name: '{name}' is given twice, expected different names")
            seen.add(name)
        known = [station.name for station in self.stations]
        for number, step in enumerate(self.recipe):
            for name in step.stations:
                if name not in known:
                    raise ValueError(f"recipe[{number}].stations: " + unknown_name("station", name, known, "the cell"))
        self._validate_robots()
        self._validate_reach()

    @property
    def places(self) -> tuple[Place, ...]:
        """All places: ports, then stations, then buffers. Their positions in this order are their numbers."""
        return (*self.ports, *self.stations, *self.buffers)

    @cached_property
    def place_number(self) -> dict[str, int]:
        """Number of a place by its name."""
        return {place.name: number for number, place in enumerate(self.places)}

    @property
    def re_entrant(self) -> bool:
        """Whether some station comes in more than one step."""
        named = [name for step in self.recipe for name in step.stations]
        return len(set(named)) < len(named)

    @property
    def random(self) -> bool:
        """Whether some processing time varies."""
        return any(self.step_time(k, name).law != "fixed" for k, name in self._pairs())

    def _pairs(self) -> Iterator[tuple[int, str]]:
        return ((k, name) for k, step in enumerate(self.recipe) for name in step.stations)

    def step_time(self, step: int, station: str) -> ProcessTime:
        """Processing time of a step of the recipe at a station."""
        own = self.recipe[step].time
        if own is not None:
            return own
        place = self.places[self.place_number[station]]
        assert isinstance(place, Station)
        return place.time

    def reaches(self, robot: int, place: int) -> bool:
        """Whether a place lies in a robot's zone and it can stand there while the other robot stands at its home."""
        x, zone = self.places[place].x, self.robots[robot].zone
        if zone is not None and not zone[0] <= x <= zone[1]:
            return False
        if self.robots[robot].track is None:
            return True
        for other, rival in enumerate(self.robots):
            if other == robot:
                continue
            gap = x - rival.home if robot > other else rival.home - x
            if gap < self.clearance - 1e-12:
                return False
        return True

    def _validate_robots(self) -> None:
        if len(self.robots) > 2:
            raise ValueError(f"robots: expected one or two, found {len(self.robots)}")
        for number, robot in enumerate(self.robots):
            if robot.track is None:
                for place in self.places:
                    if abs(place.x - robot.home) > 1e-9:
                        raise ValueError(
                            f"robots[{number}].track: expected a track, since '{place.name}' lies at x = {place.x:g} m "
                            f"and the robot at {robot.home:g} m"
                        )
        if len(self.robots) == 2:
            if any(robot.track is None for robot in self.robots):
                raise ValueError("robots: two robots run on one track, expected both to have one")
            left, right = self.robots
            if self.clearance <= 0.0:
                raise ValueError("clearance: two robots on one track need a distance above 0 m between them")
            if right.home - left.home < self.clearance:
                raise ValueError(
                    f"robots[1].home: expected at least {left.home + self.clearance:g} m, the first robot's home "
                    f"and the clearance, found {right.home:g} m"
                )

    def _validate_reach(self) -> None:
        """Every transfer of the recipe needs a robot that reaches both of its ends."""
        inputs = tuple(port.name for port in self.ports if port.role == "input")
        outputs = tuple(port.name for port in self.ports if port.role == "output")
        stops = [inputs, *(step.stations for step in self.recipe), outputs]
        for number in range(1, len(stops)):
            key = f"recipe[{number - 1}].stations" if number < len(stops) - 1 else "ports"
            for name in stops[number - 1]:
                if not any(self._carries(name, other) for other in stops[number]):
                    raise ValueError(f"{key}: no robot can carry from '{name}' to any of {', '.join(stops[number])}")
            for name in stops[number]:
                if not any(self._carries(other, name) for other in stops[number - 1]):
                    raise ValueError(f"{key}: no robot can bring an item to '{name}'")

    def _carries(self, start: str, end: str) -> bool:
        a, b = self.place_number[start], self.place_number[end]
        return any(self.reaches(robot, a) and self.reaches(robot, b) for robot in range(len(self.robots)))
