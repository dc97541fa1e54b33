"""Progress of long work on standard error: a live line on a terminal, elsewhere plain lines.

Plain lines come with the first plan that a method finds and then every few seconds, so that a log stays short.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from pathloom.plan import OnProgress, Progress

EVERY = 5.0
"""Seconds between plain lines."""


def _gap(progress: Progress) -> str:
    if progress.best is None or progress.bound is None or progress.best == 0:
        return ""
    return f"{abs(progress.best - progress.bound) / abs(progress.best):.1%}"


def _line(progress: Progress) -> str:
    parts = [
        progress.phase,
        "" if progress.best is None else f"best {progress.best:.6g}",
        "" if progress.bound is None else f"bound {progress.bound:.6g}",
        f"gap {_gap(progress)}" if _gap(progress) else "",
    ]
    return ", ".join(part for part in parts if part)


@contextmanager
def shown(console: Console, what: str, expected: float | None = None) -> Iterator[OnProgress]:
    """Show what is reported to the function that this yields.

    Parameters
    ----------
    console
        Where to; a live display needs it to be a terminal.
    what
        Name of the work.
    expected
        Seconds that it will take, for the bar; None if nobody knows.
    """
    if console.is_terminal:
        with _live(console, what, expected) as report:
            yield report
        return
    began = last = time.monotonic()
    first = True

    def say(progress: Progress) -> None:
        nonlocal last, first
        now = time.monotonic()
        if now - last >= EVERY or (first and progress.best is not None):
            last, first = now, first and progress.best is None
            # Not soft-wrapped: one report is one line of a log.
            console.print(f"{what}: {now - began:.0f} s, {_line(progress)}", soft_wrap=True, highlight=False)

    yield say


@contextmanager
def _live(console: Console, what: str, expected: float | None) -> Iterator[OnProgress]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    began = time.monotonic()
    with Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}"),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=expected, line="")

        def update(progress: Progress) -> None:
            spent = time.monotonic() - began
            bar.update(task, completed=spent if expected is None else min(spent, expected), line=_line(progress))

        yield update
