"""A robot cell in SimPy, written from its description: one robot under the rule "pull", stations as processes.

It shares no code with our simulator but the description of the cell and the table of move times, and tells what the
robot does as rows of (kind, item, place, arm, start, end). Only cells with one robot, no buffers and no dwell limits.
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
    expected: float = float("inf")


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

    def first_out(self, place: int) -> list[Slot]:
        """Full slots in the order in which they are asked: the first one out, then by number."""
        full = [slot for slot in self.slots[place] if slot.item >= 0]
        now = self.environment.now
        first = min(full, key=lambda s: s.ready if s.ready <= now else 1e12 + s.expected, default=None)
        return full if first is None else [first, *(slot for slot in full if slot is not first)]

    def all_leave(self, books: list[tuple[int, int]], arms: int) -> bool:
        """Whether items (place, step), -1 for an arm, can leave in turn while the others stay; `arms` are free."""
        waiting = list(books)
        while waiting:
            for entry in waiting:
                place, step = entry
                taken = [p for p, _ in waiting if p >= 0]
                if place >= 0:
                    taken.remove(place)
                free = [any(taken.count(p) < len(self.slots[p]) for p in group) for group in self.steps[step:-1]]
                if all(free) and (place < 0 or arms > 0):
                    waiting.remove(entry)
                    arms += place < 0
                    break
            else:
                return False
        return True

    def safe(self, *, pick: Slot | int | None = None, into: int = -1, giving: int = -1) -> bool:
        """Whether no deadlock follows a pick (slot, or the number of an input), a place or a swap."""
        books = [(s.place, self.step_of[s.item]) for row in self.slots.values() for s in row if s.item >= 0]
        held = [self.step_of[item] for a, item in enumerate(self.held) if item >= 0 and a != giving]
        if isinstance(pick, Slot):
            books.remove((pick.place, self.step_of[pick.item]))
            held.append(self.step_of[pick.item])
        elif pick is not None:
            held.append(0)
        if giving >= 0 and into not in self.steps[-1]:
            books.append((into, self.step_of[self.held[giving]] + 1))
        arms = self.robot.arms - len(held)
        if self.all_leave([*books, *((-1, step) for step in held)], arms):
            return True
        for i, step in enumerate(held):
            rest = [(-1, other) for j, other in enumerate(held) if j != i]
            for place in self.steps[step] if step < len(self.steps) - 1 else ():
                full = sum(p == place for p, _ in books) >= len(self.slots[place])
                if not full and self.all_leave([*books, *rest, (place, step + 1)], arms + 1):
                    return True
        return False

    def giving_arm(self, place: int) -> int:
        arms = [a for a, item in enumerate(self.held) if item >= 0 and place in self.steps[self.step_of[item]]]
        return max(arms, key=lambda a: (self.step_of[self.held[a]], -a), default=-1)

    def taking_arm(self, place: int) -> int:
        free = [a for a, item in enumerate(self.held) if item < 0]
        return min(free, key=lambda a: self.travel[self.pose][2 * place + a], default=-1)

    def placing_arm(self, place: int) -> int:
        """Arm that gives its item to a free place; the other one if only that is safe."""
        first = self.giving_arm(place)
        others = [a for a, item in enumerate(self.held) if item >= 0 and a != first]
        for arm in [first, *(a for a in others if place in self.steps[self.step_of[self.held[a]]])]:
            if arm >= 0 and self.safe(into=place, giving=arm):
                return arm
        return -1

    def outgoing(self, place: int, giving: int = -1) -> Slot | None:
        """The slot that a pick or swap takes, if it is ready."""
        for slot in self.first_out(place):
            if self.safe(pick=slot, into=place, giving=giving):
                return slot if slot.ready <= self.environment.now else None
        return None

    def can_receive(self, step: int, source: int) -> bool:
        """Whether the next station of an item is free or, for two arms, holds one that is ready."""
        if step == len(self.steps) - 1:
            return True
        for p in self.steps[step]:
            if any(s.item < 0 for s in self.slots[p]):
                return True
            if self.robot.arms == 2 and p != source and any(s.ready <= self.environment.now for s in self.slots[p]):
                return True
        return False

    def decide(self) -> tuple[str, int, int, Slot | None] | None:
        """Kind, place, giving arm and slot of the next action, None to wait."""
        way = self.travel[self.pose]
        outputs = self.steps[-1]
        goals = [p for p in sorted({p for step in self.steps for p in step}) if self.giving_arm(p) >= 0]
        free = [p for p in goals if p in outputs or any(slot.item < 0 for slot in self.slots[p])]
        puts = [(p, self.placing_arm(p)) for p in free]
        puts = [(p, arm) for p, arm in puts if arm >= 0]
        if puts:
            place, arm = min(puts, key=lambda put: way[2 * put[0]])
            return "place", place, arm, None
        if -1 in self.held:
            turns = [(p, self.outgoing(p, self.giving_arm(p))) for p in goals if p not in free]
            swaps = [(p, slot) for p, slot in turns if slot is not None]
            if swaps:
                place, chosen = min(swaps, key=lambda swap: way[2 * swap[0]])
                return "swap", place, self.giving_arm(place), chosen
        best: tuple[float, int, Slot | None] | None = None
        allowed: tuple[int, Slot | None] | None = None
        for p in sorted([*self.inputs, *self.slots]):
            arm = self.taking_arm(p)
            if arm < 0:
                continue
            slot = None
            if p in self.inputs:
                if self.entered == len(self.draws) or not self.safe(pick=p):
                    continue
            else:
                slot = self.outgoing(p)
                if slot is None:
                    continue
            allowed = allowed or (p, slot)
            step = 0 if slot is None else self.step_of[slot.item]
            if self.can_receive(step, p):
                rank = -float(step) + 1e-6 * way[2 * p + arm]
                if best is None or rank < best[0]:
                    best = (rank, p, slot)
        if best is not None:
            return "pick", best[1], -1, best[2]
        idle = all(s.item < 0 or s.ready <= self.environment.now for row in self.slots.values() for s in row)
        # Nothing will happen by itself: the robot takes what it may.
        return ("pick", allowed[0], -1, allowed[1]) if idle and allowed else None

    def tell(self, kind: str, item: int, place: int, arm: int, start: float) -> None:
        if self.environment.now > start:
            self.rows.append((kind, item, place, arm, start, self.environment.now))

    def go(self, place: int, arm: int, item: int, kind: str = "move") -> Generator[Any, Any, None]:
        start = self.environment.now
        yield self.environment.timeout(self.travel[self.pose][2 * place + arm])
        self.pose = 2 * place + arm
        self.tell(kind, item, place, arm, start)

    def take(self, place: int, arm: int, slot: Slot | None) -> Generator[Any, Any, None]:
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
        least = self.cell.stations[[s.name for s in self.cell.stations].index(self.cell.places[place].name)].least_stay
        slot.expected = self.environment.now + max(law.mean, least)
        self.environment.process(self.process(slot, max(law.quantile(float(self.draws[item, step])), least)))
        slot.ready = float("inf")

    def work(self) -> Generator[Any, Any, None]:
        while self.finished < len(self.draws):
            action = self.decide()
            if action is None:
                yield self.news
                continue
            kind, place, other, slot = action
            if kind == "place":
                into = None if place in self.steps[-1] else next(s for s in self.slots[place] if s.item < 0)
                yield from self.go(place, other, self.held[other])
                yield from self.give(place, other, into)
                continue
            yield from self.take(place, self.taking_arm(place), slot)
            if kind == "swap":
                yield from self.go(place, other, self.held[other], "turn")
                yield from self.give(place, other, slot)
            # Stations that finish in this very instant are seen before the next decision.
            yield self.environment.timeout(0)
