"""A robot cell in SimPy, written from its description: one robot under the rule "pull", stations as processes.

It shares no code with our simulator but the description of the cell and the table of move times, and tells what the
robot does as rows of (kind, item, place, arm, start, end). Only cells with one robot, no buffers, no dwell limits and
no station in two steps.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy
from numpy.typing import NDArray

from pathloom.worlds.shop.cells.cell import Cell, Port
from pathloom.worlds.shop.cells.kinematics import handling_time, travel_table

Row = tuple[str, int, int, int, float, float]


@dataclass
class Slot:
    """A slot of a station and what is in it."""

    place: int
    item: int = -1
    ready: float = float("inf")


class SimPyCell:
    """One lot in a cell."""

    def __init__(self, cell: Cell, draws: NDArray[Any]) -> None:
        self.cell, self.draws = cell, draws
        self.environment = simpy.Environment()
        self.robot = cell.robots[0]
        self.travel = travel_table(cell, self.robot).tolist()
        self.hand = handling_time(self.robot)
        self.slots = {
            p: [Slot(p) for _ in range(s.slots)] for p, s in enumerate(cell.places) if not isinstance(s, Port)
        }
        self.steps = [[cell.place_number[name] for name in step.stations] for step in cell.recipe]
        self.steps.append([p for p, s in enumerate(cell.places) if isinstance(s, Port) and s.role == "output"])
        self.inputs = [p for p, s in enumerate(cell.places) if isinstance(s, Port) and s.role == "input"]
        self.step_of = [0] * len(draws)
        self.entered = self.finished = 0
        self.held: list[int] = [-1] * self.robot.arms
        self.pose = 2 * len(cell.places)
        self.rows: list[Row] = []
        self.news = self.environment.event()

    def run(self) -> list[Row]:
        """Work the lot off."""
        self.environment.run(self.environment.process(self.work()))
        return self.rows

    def process(self, slot: Slot, seconds: float) -> Generator[Any, Any, None]:
        slot.ready = self.environment.now + seconds
        yield self.environment.timeout(seconds)
        news, self.news = self.news, self.environment.event()
        news.succeed()

    def first_out(self, place: int) -> Slot | None:
        full = [slot for slot in self.slots[place] if slot.item >= 0 and slot.ready <= self.environment.now]
        return min(full, key=lambda slot: slot.ready, default=None)

    def has_room(self, step: int) -> bool:
        return step == len(self.cell.recipe) or any(s.item < 0 for p in self.steps[step] for s in self.slots[p])

    def giving_arm(self, place: int) -> int:
        arms = [a for a, item in enumerate(self.held) if item >= 0 and place in self.steps[self.step_of[item]]]
        return max(arms, key=lambda a: (self.step_of[self.held[a]], -a), default=-1)

    def taking_arm(self, place: int) -> int:
        free = [a for a, item in enumerate(self.held) if item < 0]
        return min(free, key=lambda a: self.travel[self.pose][2 * place + a], default=-1)

    def decide(self) -> tuple[str, int] | None:
        way = self.travel[self.pose]
        outputs = self.steps[-1]
        places = sorted({p for step in self.steps for p in step})
        goals = [p for p in places if self.giving_arm(p) >= 0]
        free = [p for p in goals if p in outputs or any(slot.item < 0 for slot in self.slots[p])]
        if free:
            return "place", min(free, key=lambda p: way[2 * p])
        if -1 in self.held:
            swaps = [p for p in goals if self.first_out(p) is not None]
            if swaps:
                return "swap", min(swaps, key=lambda p: way[2 * p])
        best: tuple[float, int] | None = None
        for p in sorted([*self.inputs, *self.slots]):
            arm = self.taking_arm(p)
            if arm < 0:
                continue
            if p in self.inputs:
                if self.entered == len(self.draws):
                    continue
                step = 0
            else:
                slot = self.first_out(p)
                if slot is None:
                    continue
                step = self.step_of[slot.item]
            others = [a for a in range(self.robot.arms) if a != arm]
            roomy = self.has_room(step) or any(
                self.held[a] < 0 or self.has_room(self.step_of[self.held[a]]) for a in others
            )
            welcome = self.has_room(step) or (
                self.robot.arms == 2 and any(self.first_out(q) is not None for q in self.steps[step] if q != p)
            )
            if roomy and welcome:
                rank = -float(step) + 1e-6 * way[2 * p + arm]
                if best is None or rank < best[0]:
                    best = (rank, p)
        return None if best is None else ("pick", best[1])

    def tell(self, kind: str, item: int, place: int, arm: int, start: float) -> None:
        if self.environment.now > start:
            self.rows.append((kind, item, place, arm, start, self.environment.now))

    def go(self, place: int, arm: int, item: int, kind: str = "move") -> Generator[Any, Any, None]:
        start = self.environment.now
        yield self.environment.timeout(self.travel[self.pose][2 * place + arm])
        self.pose = 2 * place + arm
        self.tell(kind, item, place, arm, start)

    def take(self, place: int, arm: int) -> Generator[Any, Any, Slot | None]:
        slot = None if place in self.inputs else self.first_out(place)
        item = self.entered if slot is None else slot.item
        if slot is None:
            self.entered += 1
        yield from self.go(place, arm, item)
        start = self.environment.now
        yield self.environment.timeout(self.hand)
        self.held[arm] = item
        if slot is not None:
            slot.item, slot.ready = -1, float("inf")
        self.tell("pick", item, place, arm, start)
        return slot

    def give(self, place: int, arm: int, slot: Slot | None) -> Generator[Any, Any, None]:
        start, item = self.environment.now, self.held[arm]
        yield self.environment.timeout(self.hand)
        self.held[arm] = -1
        self.tell("place", item, place, arm, start)
        step = self.step_of[item]
        self.step_of[item] += 1
        if slot is None:
            self.finished += 1
            return
        slot.item = item
        law = self.cell.step_time(step, self.cell.places[place].name)
        self.environment.process(self.process(slot, law.quantile(float(self.draws[item, step]))))
        slot.ready = float("inf")

    def work(self) -> Generator[Any, Any, None]:
        while self.finished < len(self.draws):
            action = self.decide()
            if action is None:
                yield self.news
                continue
            kind, place = action
            if kind == "place":
                arm = self.giving_arm(place)
                slot = None if place in self.steps[-1] else next(s for s in self.slots[place] if s.item < 0)
                yield from self.go(place, arm, self.held[arm])
                yield from self.give(place, arm, slot)
                continue
            arm = self.taking_arm(place)
            other = self.giving_arm(place) if kind == "swap" else -1
            slot = yield from self.take(place, arm)
            if kind == "swap":
                yield from self.go(place, other, self.held[other], "turn")
                yield from self.give(place, other, slot)
            # Stations that finish in this very instant are seen before the next decision.
            yield self.environment.timeout(0)
