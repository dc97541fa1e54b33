"""The best solution so far of a search, shared by the methods of a portfolio.

Methods run in threads (their kernels release the interpreter's lock) or one after another. Each offers what it finds,
takes up what others found, and ends when `Incumbent.finished` says so: proven optimal, out of time, or asked to stop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from pathloom.plan import Progress, stop_requested

Solution = TypeVar("Solution")


@dataclass(frozen=True)
class Improvement:
    """One entry of `Incumbent.history`: when (s), which value or bound was reached, and by whom."""

    seconds: float
    value: int | None
    bound: int | None
    source: str


class Incumbent(Generic[Solution]):
    """Best value (to be minimised), its solution, the best proven bound, and when to end.

    Parameters
    ----------
    time_limit
        Seconds from now.
    bound
        A proven lower bound on the value.
    on_progress
        Called with every improvement.
    copy
        Called with a solution that has been accepted, so that the caller may go on changing its arrays.
    """

    def __init__(
        self,
        time_limit: float,
        *,
        bound: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        copy: Callable[[Solution], Solution] | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.time_limit = time_limit
        self.value: int | None = None
        self.solution: Solution | None = None
        self.source = ""
        self.bound = bound
        self.bound_source = ""
        self.history: list[Improvement] = []
        self._on_progress = on_progress
        self._copy = copy
        self._phase_end = time_limit

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds until the end of the present phase or the time limit; 0 when it is over or a stop was asked for."""
        return 0.0 if stop_requested() else max(0.0, min(self._phase_end, self.time_limit) - self.seconds)

    @property
    def optimal(self) -> bool:
        """Whether the bound proves that no solution is better."""
        return self.value is not None and self.bound is not None and self.value <= self.bound

    @property
    def finished(self) -> bool:
        """Whether methods should end now."""
        return self.left <= 0 or self.optimal

    @contextmanager
    def phase(self, seconds: float) -> Iterator[None]:
        """Inside, methods end after `seconds` already."""
        self._phase_end = self.seconds + seconds
        try:
            yield
        finally:
            self._phase_end = self.time_limit

    def end_phase(self) -> None:
        """Let the methods of the present phase end."""
        self._phase_end = self.seconds

    def offer(self, value: int, solution: Solution, source: str) -> bool:
        """Keep `solution` if it is better than the best so far, and say whether it was."""
        with self._lock:
            if self.value is not None and value >= self.value:
                return False
            self.solution = self._copy(solution) if self._copy else solution
            self.value = value
            self.source = source
            self._note(source)
        return True

    def raise_bound(self, bound: int, source: str) -> bool:
        """Keep a proven lower bound if it is above the best so far, and say whether it was."""
        with self._lock:
            if self.bound is not None and bound <= self.bound:
                return False
            self.bound = bound
            self.bound_source = source
            self._note(source)
        return True

    def best(self) -> tuple[int, Solution] | None:
        """Value and solution that belong together; None while there is none. Do not change the solution."""
        with self._lock:
            return None if self.value is None or self.solution is None else (self.value, self.solution)

    def _note(self, source: str) -> None:
        self.history.append(Improvement(self.seconds, self.value, self.bound, source))
        if self._on_progress is not None:
            best, bound = self.value, self.bound
            self._on_progress(
                Progress(
                    self.seconds, None if best is None else float(best), None if bound is None else float(bound), source
                )
            )


class Translated(Generic[Solution]):
    """An `Incumbent` seen by a method whose solutions have another form.

    Parameters
    ----------
    incumbent
        The one that is shared.
    to_shared, from_shared
        Translate a solution there and back.
    """

    def __init__(
        self,
        incumbent: Incumbent,
        to_shared: Callable[[Solution], object],
        from_shared: Callable[[object], Solution],
    ) -> None:
        self._incumbent, self._to, self._from = incumbent, to_shared, from_shared

    def offer(self, value: int, solution: Solution, source: str) -> bool:
        """As `Incumbent.offer`."""
        if self.value is not None and value >= self.value:
            return False
        return self._incumbent.offer(value, self._to(solution), source)

    def best(self) -> tuple[int, Solution] | None:
        """As `Incumbent.best`."""
        found = self._incumbent.best()
        return None if found is None else (found[0], self._from(found[1]))

    def raise_bound(self, bound: int, source: str) -> bool:
        """As `Incumbent.raise_bound`."""
        return self._incumbent.raise_bound(bound, source)

    @property
    def value(self) -> int | None:
        """As `Incumbent.value`."""
        return self._incumbent.value

    @property
    def bound(self) -> int | None:
        """As `Incumbent.bound`."""
        return self._incumbent.bound

    @property
    def left(self) -> float:
        """As `Incumbent.left`."""
        return self._incumbent.left

    @property
    def finished(self) -> bool:
        """As `Incumbent.finished`."""
        return self._incumbent.finished
