"""Schedule-generation schemes for projects, forward and backward, and justification, on compiled kernels.

The serial scheme takes activities in a given order and starts each as early as precedences and resources let it; for a
makespan, some order gives an optimal schedule. The parallel scheme goes through time and starts what is ready and fits.
Kolisch, "Serial and parallel resource-constrained project scheduling methods revisited", EJOR 90 (1996).

Justification (Valls, Ballestín, Quintanilla, "Justification and RCPSP: a technique that pays", EJOR 165 (2005)) moves
every activity of a schedule as far right as the end of the project allows, then as far left as it can: the makespan
never grows and often shrinks. Li and Willis (EJOR 56, 1992) iterate it as forward-backward scheduling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pathloom.plan import InputError
from pathloom.schedule.shops import Ints, Positions, Project

if TYPE_CHECKING:
    from pathloom.schedule._project_order_kernels import Network, Scratch

WORD_BITS = 62
"""Bits of a 64-bit integer that fields take up: the sign stays 0, and one bit is spare."""

LONG_DURATION = 60
"""Where activities take more units of time than this on average, free amounts are kept by knots, not by unit."""


def topological_order(project: Project) -> Positions:
    """Activities such that each follows its predecessors; among equals by number.

    Raises
    ------
    InputError
        Where precedences form a cycle.
    """
    count = project.activities
    waits = np.bincount(project.successor, minlength=count) if len(project.successor) else np.zeros(count, np.int64)
    ready = [activity for activity in range(count) if waits[activity] == 0]
    order: list[int] = []
    for activity in ready:
        order.append(activity)
        for after in project.successor[project.successor_start[activity] : project.successor_start[activity + 1]]:
            waits[after] -= 1
            if waits[after] == 0:
                ready.append(int(after))
    if len(order) < count:
        stuck = ", ".join(str(activity) for activity in range(count) if waits[activity] > 0)
        raise InputError(f"precedences form a cycle through some of the activities {stuck}", key="successors")
    return np.array(order, dtype=np.int32)


def predecessors(project: Project) -> tuple[Positions, Positions]:
    """Start offsets, shape (activities + 1,), and predecessors, shape (precedences,), activity by activity."""
    count = project.activities
    source = np.repeat(np.arange(count, dtype=np.int32), np.diff(project.successor_start))
    by_target = np.argsort(project.successor, kind="stable")
    start = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(project.successor, minlength=count), out=start[1:])
    return start, np.ascontiguousarray(source[by_target])


@dataclass(frozen=True, eq=False)
class Generator:
    """A project made ready for the schemes: useful modes only, demands packed into words.

    Made by `Generator.of`. In its methods and results a mode is a local index into `mode`, which gives the index in the
    project. Methods share working memory: one generator belongs to one thread (see `for_thread`).

    Attributes
    ----------
    project
        What it was made of.
    mode
        Shape (useful modes,): index in the project. Modes are left out that some resource can never provide, and those
        that another mode of the activity equals or betters in duration and every demand (Sprecher, Hartmann, Drexl,
        "An exact algorithm for project scheduling with multiple modes", OR Spektrum 19 (1997)).
    network, scratch
        For the kernels. Durations and times are divided by `unit`.
    unit
        Greatest common divisor of all durations and releases.
    """

    project: Project
    mode: Positions
    network: Network
    scratch: Scratch
    unit: int

    @classmethod
    def of(cls, project: Project) -> Generator | None:
        """The generator of a project, or None where some activity has no mode that the resources can provide.

        Raises
        ------
        InputError
            Where precedences form a cycle.
        """
        from pathloom.schedule._project_order_kernels import Network

        forward = topological_order(project)
        kept, kinds = useful_modes(project)
        owner = np.repeat(np.arange(project.activities), np.diff(project.mode_start))[kept]
        per_activity = np.bincount(owner, minlength=project.activities)
        if (per_activity == 0).any():
            return None
        mode_start = np.concatenate(([0], np.cumsum(per_activity))).astype(np.int32)
        duration = project.mode_duration[kept]
        unit = max(1, int(np.gcd.reduce(np.concatenate((duration, project.release)))) if len(duration) else 1)
        need, full, guard = pack(project.renewable[kept], project.renewable_capacity)
        pred_start, pred = predecessors(project)
        network = Network(
            mode_start,
            duration // unit,
            need,
            np.ascontiguousarray(project.consumable[kept][:, kinds]).astype(np.int64),
            pred_start,
            pred,
            np.ascontiguousarray(project.successor_start, dtype=np.int32),
            np.ascontiguousarray(project.successor, dtype=np.int32),
            np.ascontiguousarray(project.release, dtype=np.int64) // unit,
            forward,
            np.ascontiguousarray(forward[::-1]),
            full,
            guard,
            np.ascontiguousarray(project.consumable_capacity[kinds]).astype(np.int64),
        )
        return cls(project, kept, network, _working_memory(network), unit)

    def for_thread(self) -> Generator:
        """The same with working memory of its own."""
        return Generator(self.project, self.mode, self.network, _working_memory(self.network), self.unit)

    @property
    def horizon(self) -> int:
        """No schedule of the serial scheme is longer, in units of `unit`."""
        return _horizon(self.network)

    def local_modes(self, mode: NDArray[np.integer]) -> Positions:
        """Local indices of modes of the project, shape (activities,); a mode that was left out gives way to one that
        betters it, or to the first where none does."""
        chosen = self.network.mode_start[:-1].copy()
        place = {int(index): local for local, index in enumerate(self.mode)}
        for activity, index in enumerate(mode):
            if int(index) in place:
                chosen[activity] = place[int(index)]
                continue
            for local in range(self.network.mode_start[activity], self.network.mode_start[activity + 1]):
                if _betters(self.project, int(self.mode[local]), int(index)):
                    chosen[activity] = local
                    break
        return chosen

    def serial(self, order: NDArray[np.integer], mode: Positions | None = None) -> Ints:
        """Start times, shape (activities,), of the serial scheme.

        Parameters
        ----------
        order
            All activities, each after its predecessors.
        mode
            Local modes, shape (activities,); the first of each activity by default.
        """
        from pathloom.schedule._project_kernels import serial_pass
        from pathloom.schedule._project_order_kernels import FORWARD

        begin = np.zeros(self.project.activities, np.int64)
        listed = np.ascontiguousarray(order, dtype=np.int32)
        serial_pass(self.network, self.scratch, listed, self._modes(mode), FORWARD, 0.0, begin)
        return begin * self.unit

    def serial_backward(self, order: NDArray[np.integer], mode: Positions | None = None) -> Ints:
        """As `serial`, built from the end of the project: each activity in turn as late as it can.

        `order` lists each activity after its successors. The result is moved so that no activity starts before its
        release and at least one starts at it (or at 0).
        """
        from pathloom.schedule._project_kernels import serial_pass
        from pathloom.schedule._project_order_kernels import BACKWARD

        net = self.network
        mirrored = np.zeros(self.project.activities, np.int64)
        listed = np.ascontiguousarray(order, dtype=np.int32)
        modes = self._modes(mode)
        serial_pass(net, self.scratch, listed, modes, BACKWARD, 0.0, mirrored)
        begin = -(mirrored + net.duration[modes])
        return (begin + int((net.release - begin).max(initial=0))) * self.unit

    def parallel(self, key: NDArray[np.number], mode: Positions | None = None) -> Ints:
        """Start times of the parallel scheme, where the activity of the smallest key comes first."""
        from pathloom.schedule._project_kernels import parallel_pass

        begin = np.zeros(self.project.activities, np.int64)
        parallel_pass(self.network, np.ascontiguousarray(key, dtype=np.float64), self._modes(mode), begin)
        return begin * self.unit

    def justify_right(self, start: Ints, mode: Positions | None = None) -> Ints:
        """The schedule with every activity, latest end first, moved as late as the end of the project lets it."""
        from pathloom.schedule._project_kernels import right_pass

        begin = start // self.unit
        right_pass(self.network, self.scratch, self._modes(mode), begin)
        return begin * self.unit

    def justify_left(self, start: Ints, mode: Positions | None = None) -> Ints:
        """The schedule with every activity, earliest start first, moved as early as it can."""
        from pathloom.schedule._project_kernels import left_pass

        begin = start // self.unit
        left_pass(self.network, self.scratch, self._modes(mode), 0.0, begin)
        return begin * self.unit

    def justify(self, start: Ints, mode: Positions | None = None) -> Ints:
        """Right, then left (double justification): never longer than before."""
        return self.justify_left(self.justify_right(start, mode), mode)

    def list_by_key(self, key: NDArray[np.number]) -> Positions:
        """All activities, each after its predecessors, otherwise by rising key."""
        from pathloom.schedule._project_order_kernels import FORWARD, list_by_key

        order = np.zeros(self.project.activities, np.int32)
        list_by_key(self.network, np.ascontiguousarray(key, dtype=np.float64), FORWARD, order)
        return order

    def latest_starts(self, mode: Positions | None = None) -> tuple[Ints, Ints]:
        """Latest starts and ends on the critical path, shape (activities,): the usual keys of priority rules."""
        duration = self.network.duration[self._modes(mode)] * self.unit
        earliest = np.zeros(self.project.activities, np.int64)
        tail = np.zeros(self.project.activities, np.int64)
        net = self.network
        for activity in net.forward:
            ends = [
                earliest[p] + duration[p] for p in net.pred[net.pred_start[activity] : net.pred_start[activity + 1]]
            ]
            earliest[activity] = max([int(net.release[activity]) * self.unit, *ends])
        for activity in net.backward:
            after = net.succ[net.succ_start[activity] : net.succ_start[activity + 1]]
            tail[activity] = max((int(tail[s] + duration[s]) for s in after), default=0)
        end = int((earliest + duration + tail).max(initial=0)) - tail
        return end - duration, end

    def _modes(self, mode: Positions | None) -> Positions:
        return self.network.mode_start[:-1].copy() if mode is None else np.ascontiguousarray(mode, dtype=np.int32)


def pack(demand: Ints, capacity: Ints) -> tuple[Ints, Ints, Ints]:
    """Demands, shape (modes, resources), in words: (modes, words), word of all that is free and guard bits, (words,).

    Each resource takes a field one bit wider than its capacity needs; a capacity above all demands together is cut to
    them. Resources that nothing asks for are left out; there is at least one word.
    """
    total = demand.sum(axis=0)
    fields: list[tuple[int, int, int]] = []  # word, shift, resource
    words, used = 1, 0
    capacities = np.minimum(capacity, total)
    for resource in np.flatnonzero(total > 0):
        bits = max(int(capacities[resource]), 1).bit_length() + 1
        if used + bits > WORD_BITS:
            words, used = words + 1, 0
        fields.append((words - 1, used, int(resource)))
        used += bits
    need = np.zeros((len(demand), words), np.int64)
    full = np.zeros(words, np.int64)
    guard = np.zeros(words, np.int64)
    for at, shift, column in fields:
        bits = max(int(capacities[column]), 1).bit_length()
        need[:, at] += demand[:, column] << shift
        full[at] += int(capacities[column] + (1 << bits)) << shift
        guard[at] += 1 << (shift + bits)
    return need, full, guard


def useful_modes(project: Project) -> tuple[Positions, Positions]:
    """Modes worth having and consumable resources that can run out, as indices into the project's.

    See `Generator.mode`; leaving out a mode may make a resource plentiful and the other way round, so it is repeated.
    """
    owner = np.repeat(np.arange(project.activities), np.diff(project.mode_start))
    keep: NDArray[np.bool_] = np.asarray((project.renewable <= project.renewable_capacity).all(axis=1))
    stock = project.consumable_capacity
    while True:
        before = int(keep.sum())
        least = np.zeros((project.activities, len(stock)), np.int64)
        most = np.zeros((project.activities, len(stock)), np.int64)
        for activity in range(project.activities):
            own = project.consumable[project.mode_start[activity] : project.mode_start[activity + 1]][
                keep[project.mode_start[activity] : project.mode_start[activity + 1]]
            ]
            if len(own):
                least[activity], most[activity] = own.min(axis=0), own.max(axis=0)
        others = least.sum(axis=0) - least
        keep &= (project.consumable + others[owner] <= stock).all(axis=1)
        scarce = most.sum(axis=0) > stock
        for activity in range(project.activities):
            own_modes = [
                int(m) for m in range(project.mode_start[activity], project.mode_start[activity + 1]) if keep[m]
            ]
            for mode in own_modes:
                for other in own_modes:
                    if other != mode and keep[other] and keep[mode] and _betters(project, other, mode, scarce):
                        keep[mode] = False
        if int(keep.sum()) == before:
            return np.flatnonzero(keep).astype(np.int32), np.flatnonzero(scarce).astype(np.int32)


def _betters(project: Project, other: int, mode: int, scarce: NDArray[np.bool_] | None = None) -> bool:
    """Whether mode `other` is as good as `mode` in duration and every demand (for consumables: the scarce ones)."""
    kinds = np.ones(len(project.consumable_capacity), np.bool_) if scarce is None else scarce
    return bool(
        project.mode_duration[other] <= project.mode_duration[mode]
        and (project.renewable[other] <= project.renewable[mode]).all()
        and (project.consumable[other] <= project.consumable[mode])[kinds].all()
    )


def _horizon(network: Network) -> int:
    longest = np.maximum.reduceat(network.duration, network.mode_start[:-1]) if len(network.duration) else np.zeros(1)
    return int(network.release.max(initial=0) + longest.sum())


def _working_memory(network: Network) -> Scratch:
    from pathloom.schedule._project_order_kernels import Scratch

    count = len(network.release)
    horizon = _horizon(network)
    words = len(network.full)
    if horizon <= LONG_DURATION * (count + 10):
        free = np.tile(network.full, (horizon + 1, 1))
        knots = np.empty(0, np.int64)
    else:
        free = np.zeros((2 * count + 2, words), np.int64)
        knots = np.zeros(2 * count + 2, np.int64)
    return Scratch(
        free,
        knots,
        np.zeros(min(horizon, 20 * count) + 3, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.int32),
    )
