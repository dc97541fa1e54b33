"""Small robot cells that tests share."""

from __future__ import annotations

import math

import numpy as np

from pathloom.worlds.shop.cells.cell import Axis, Buffer, Cell, Port, ProcessTime, Robot, Station, Step

ROTATION, EXTENSION, LIFT = Axis(90.0, 180.0), Axis(1.0, 2.0), Axis(0.1, 0.4)


def robot(**changes: object) -> Robot:
    values: dict[str, object] = {
        "name": "robot",
        "rotation": ROTATION,
        "extension": EXTENSION,
        "lift": LIFT,
        "stroke": 0.5,
    }
    return Robot(**{**values, **changes})  # type: ignore[arg-type]


def ring(times: list[float], *, arms: int = 1, lot: int = 20, limit: float = math.inf) -> Cell:
    """A flow cell around a fixed robot: input, one station for each time, output, at equal angles."""
    turn = 360.0 / (len(times) + 2)
    return Cell(
        ports=(
            Port(name="in", role="input", angle=0.0),
            Port(name="out", role="output", angle=turn * (len(times) + 1)),
        ),
        stations=tuple(
            Station(name=f"s{k + 1}", angle=turn * (k + 1), time=ProcessTime.fixed(seconds), longest_wait=limit)
            for k, seconds in enumerate(times)
        ),
        robots=(robot(arms=arms),),
        recipe=tuple(Step((f"s{k + 1}",)) for k in range(len(times))),
        lot=lot,
    )


def random_cell(generator: np.random.Generator) -> Cell:
    """Any cell: one or two robots, one or two arms, groups, slots, buffers, ways back, dwell limits, random times."""
    stations = int(generator.integers(2, 6))
    two = bool(generator.random() < 0.4)
    on_track = two or bool(generator.random() < 0.3)

    def where(k: int) -> dict[str, float]:
        if on_track:
            return {"x": 1.5 + 1.0 * k, "angle": float(generator.choice([90.0, -90.0])), "height": 0.1 * (k % 2)}
        return {"angle": 40.0 * k, "height": 0.1 * (k % 2)}

    def law() -> ProcessTime:
        low = float(generator.uniform(2.0, 30.0))
        high = low * float(generator.uniform(1.0, 2.0))
        return ProcessTime(low, high, None if generator.random() < 0.5 else 0.5 * (low + high))

    made = tuple(
        Station(
            name=f"s{k}",
            slots=int(generator.integers(1, 3)),
            time=law(),
            least_stay=float(generator.choice([0.0, 10.0])),
            longest_wait=float(generator.choice([math.inf, 120.0])),
            **where(k + 1),
        )
        for k in range(stations)
    )
    steps = []
    for _ in range(int(generator.integers(1, 6))):
        group = generator.choice(stations, size=int(generator.integers(1, 3)), replace=False)
        steps.append(Step(tuple(f"s{k}" for k in group), law() if generator.random() < 0.3 else None))
    arms = int(generator.integers(1, 3))
    track = Axis(1.5, 1.0) if on_track else None
    angle = float(generator.choice([180.0, 0.0]))
    robots = [robot(name="r1", arms=arms, arm_angle=angle, track=track, handshake=0.3)]
    if two:
        other = int(generator.integers(1, 3))
        robots.append(robot(name="r2", arms=other, arm_angle=angle, track=track, home=stations + 4.5))
    buffers = (Buffer(name="b", **where(stations + 1)),) if generator.random() < 0.4 else ()
    return Cell(
        ports=(Port(name="in", role="input", **where(0)), Port(name="out", role="output", **where(stations + 1))),
        stations=made,
        buffers=buffers,
        robots=tuple(robots),
        recipe=tuple(steps),
        lot=15,
        clearance=1.0,
    )
