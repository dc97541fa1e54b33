"""Progress of a run on standard error: a line that moves on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

EVERY = 5.0
"""Seconds between plain lines."""

REFRESH = 0.1
"""Seconds between two pictures of the moving line."""


class Smoothed:
    """Exponential moving average that counts its first values as fully as the later ones."""

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: Any) -> None:
        """Take in a number; anything else, and what is not finite, is passed over."""
        if isinstance(value, (int, float)) and math.isfinite(value):
            self._sum = self.keep * self._sum + (1 - self.keep) * value
            self._weight = self.keep * self._weight + (1 - self.keep)

    @property
    def value(self) -> float | None:
        """The average, None before the first number."""
        return self._sum / self._weight if self._weight else None


class ProgressLine:
    """Shows the records of a run as they come; it needs no thread of its own.

    Parameters
    ----------
    steps
        Optimizer steps of the whole run.
    planned_seconds
        Seconds that the plan says an iteration takes, where the records do not say it themselves (``planned_seconds``).
    console
        Where to; standard error if None.
    smoothing
        Share of the average that a new value leaves in place, for the loss and the times.
    """

    def __init__(
        self,
        steps: int,
        *,
        planned_seconds: float | None = None,
        console: Console | None = None,
        smoothing: float = 0.95,
    ) -> None:
        self.steps = steps
        self.planned_seconds = planned_seconds
        self.console = Console(stderr=True) if console is None else console
        self._loss, self._seconds, self._iteration, self._speed = (Smoothed(smoothing) for _ in range(4))
        self._last: dict[str, Any] = {}
        self._said = -math.inf
        self._drawn = -math.inf
        self._live: Live | None = None

    def update(self, record: Mapping[str, Any]) -> None:
        """Show the record of a step, as `pathloom.worlds.train.runtime.metrics` holds it.

        Of its keys it knows step, loss, validation_loss, tokens_per_second, seconds (of the step), iteration_seconds,
        planned_seconds (of an iteration), bubble, learning_rate and nodes (their number, or their names); all may be
        missing. Without iteration_seconds a step is one iteration.
        """
        self._last.update(record)
        self._loss.add(record.get("loss"))
        self._seconds.add(record.get("seconds"))
        self._iteration.add(record.get("iteration_seconds", record.get("seconds")))
        self._speed.add(record.get("tokens_per_second"))
        now = time.monotonic()
        last = self._last.get("step") == self.steps
        if self.console.is_terminal:
            if now - self._drawn >= REFRESH or last:
                self._drawn = now
                self._open().update(self._picture(), refresh=True)
        elif now - self._said >= EVERY or last:
            self._said = now
            # Not soft-wrapped: one report is one line of a log.
            self.console.print(self.line(), soft_wrap=True, highlight=False, markup=False)

    def say(self, text: str) -> None:
        """A line of its own that stays, for events such as a node that was lost."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last picture standing and give the terminal back."""
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
            self._live.stop()
            self._live = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def remaining(self) -> float | None:
        """Seconds until the run ends, from the smoothed time of a step; None before the first step."""
        seconds = self._seconds.value
        step = self._last.get("step")
        return None if seconds is None or step is None else max(0.0, (self.steps - step) * seconds)

    def line(self) -> str:
        """Everything in one line of text."""
        return ", ".join(f"{name} {value}".strip() for name, value in self._cells() if value)

    def _cells(self) -> list[tuple[str, str]]:
        """(Title, value) pairs, values empty where unknown; the titles read as words in a line of text."""
        last, seconds = self._last, self._iteration.value
        share = last.get("bubble")
        planned = last.get("planned_seconds", self.planned_seconds)
        compared = ""
        if seconds is not None:
            compared = f"{seconds:.3g} s"
            if planned:
                compared += f" (plan {planned:.3g} s, {seconds / planned - 1:+.0%})"
        nodes = last.get("nodes")
        return [
            ("step", f"{last.get('step', 0):,}/{self.steps:,}"),
            ("loss", _number(self._loss.value, ".4f")),
            ("validation", _number(last.get("validation_loss"), ".4f")),
            ("tokens/s", _number(self._speed.value, ",.0f")),
            ("iteration", compared),
            ("bubble", _number(share, ".0%")),
            ("rate", _number(last.get("learning_rate"), ".3g")),
            ("nodes", str(len(nodes) if isinstance(nodes, (list, tuple)) else "" if nodes is None else nodes)),
            ("left", "" if self.remaining is None else duration(self.remaining)),
        ]

    def _open(self) -> Live:
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=False)
            self._live.start()
        return self._live

    def _picture(self) -> Group:
        cells = [Text.assemble((f"{name} ", "dim"), value) for name, value in self._cells() if value]
        bar = ProgressBar(total=max(1, self.steps), completed=min(self._last.get("step", 0), self.steps))
        # A bar does not end its line by itself; in a cell it does.
        line = Table.grid(expand=True)
        line.add_row(bar)
        # As many cells side by side as the terminal is wide.
        return Group(line, Columns(cells, padding=(0, 3)))


def duration(seconds: float) -> str:
    """Seconds in the two largest units that they fill: "52 s", "7 min 30 s", "3 h 05 min", "2 d 04 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, (int, float)) else ""
