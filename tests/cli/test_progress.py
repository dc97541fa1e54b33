"""Progress: a log gets plain lines now and then, a terminal a line that moves."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pathloom.cli import progress
from pathloom.plan import Progress


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_log_gets_the_first_plan_at_once_and_then_a_line_every_few_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    with progress.shown(Console(file=stream, width=40), "search", 30.0) as report:
        for second in range(16):
            clock.now = 100.0 + second
            best = None if second < 2 else 80.0 - second
            report(Progress(second, best, 50.0, "joint moves"))
            report(Progress(second, best, 50.0, "joint moves"))
    lines = stream.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["search: 2 s", "search: 7 s", "search: 12 s"]
    assert lines[0] == "search: 2 s, joint moves, best 78, bound 50, gap 35.9%"
    assert "\x1b" not in stream.getvalue()


def test_slow_work_without_a_plan_says_that_it_is_alive(clock: Clock) -> None:
    stream = io.StringIO()
    with progress.shown(Console(file=stream), "search") as report:
        clock.now += progress.EVERY
        report(Progress(5.0, None, None, "placement"))
    assert stream.getvalue() == "search: 5 s, placement\n"


def test_a_terminal_gets_a_line_that_vanishes_at_the_end() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with progress.shown(console, "search", 30.0) as report:
        report(Progress(1.0, 80.0, 60.0, "joint moves"))
    shown = stream.getvalue()
    assert "search" in shown
    assert "best 80, bound 60, gap 25.0%" in shown
    assert shown.rstrip().endswith("\x1b[2K")
