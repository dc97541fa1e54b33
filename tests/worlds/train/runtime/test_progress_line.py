"""Progress of a run: a log gets a line every few seconds, a terminal one that moves; both say how long it will take."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pathloom.worlds.train.runtime import progress_line
from pathloom.worlds.train.runtime.progress_line import ProgressLine, Smoothed, duration


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress_line, "time", made)
    return made


def record(step: int, **changes: object) -> dict[str, object]:
    given: dict[str, object] = {
        "step": step,
        "loss": 2.0,
        "tokens_per_second": 12345.6,
        "seconds": 1.5,
        "bubble": 0.34,
        "learning_rate": 3e-4,
        "nodes": 6,
    }
    return {**given, **changes}


def test_a_log_gets_the_first_step_one_line_every_few_seconds_and_the_last_step(clock: Clock) -> None:
    stream = io.StringIO()
    with ProgressLine(14, planned_seconds=1.2, console=Console(file=stream, width=40)) as progress:
        for step in range(1, 15):
            clock.now += 1.5
            progress.update(record(step))
    lines = stream.getvalue().splitlines()
    assert [re.findall(r"step (\d+)/14", line) for line in lines] == [["1"], ["5"], ["9"], ["13"], ["14"]]
    assert lines[0] == (
        "step 1/14, loss 2.0000, tokens/s 12,346, iteration 1.5 s (plan 1.2 s, +25%), bubble 34%, rate 0.0003, "
        "nodes 6, left 20 s"
    )
    assert lines[-1].endswith("left 0 s")
    assert "\x1b" not in stream.getvalue()


def test_what_a_record_lacks_is_left_out(clock: Clock) -> None:
    stream = io.StringIO()
    progress = ProgressLine(1000, console=Console(file=stream))
    progress.update({"step": 3, "loss": float("nan"), "nodes": ["a", "b"], "validation_loss": 1.25})
    assert stream.getvalue() == "step 3/1,000, validation 1.2500, nodes 2\n"


def test_an_iteration_is_measured_by_the_plan_of_the_moment_and_the_rest_by_whole_steps(clock: Clock) -> None:
    stream = io.StringIO()
    progress = ProgressLine(11, planned_seconds=9.0, console=Console(file=stream))
    progress.update({"step": 1, "seconds": 4.0, "iteration_seconds": 1.0, "planned_seconds": 0.8})
    assert stream.getvalue() == "step 1/11, iteration 1 s (plan 0.8 s, +25%), left 40 s\n"


def test_an_event_gets_a_line_at_once(clock: Clock) -> None:
    stream = io.StringIO()
    with ProgressLine(10, console=Console(file=stream)) as progress:
        progress.update(record(1))
        progress.say("node lost: Iowa-1 [bold]")
    assert stream.getvalue().splitlines()[-1] == "node lost: Iowa-1 [bold]"


def test_a_terminal_shows_the_last_step_of_all_below_the_events(clock: Clock) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=140)
    with ProgressLine(500, planned_seconds=1.2, console=console) as progress:
        for step in range(1, 500):
            progress.update(record(step))
            if step == 250:
                progress.say("node lost: Iowa-1")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "node lost: Iowa-1" in text
    assert "499/500" in text.rpartition("node lost")[2]
    for word in ("loss", "2.0000", "12,346", "1.5 s (plan 1.2 s, +25%)", "34%", "0.0003", "left"):
        assert word in text
    # The clock stands still: of 500 records one is drawn when it comes, and the last one at the end.
    assert text.count("/500") <= 4
    assert stream.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 0.999))
def test_a_smoothed_value_lies_within_what_it_averages(values: list[float], keep: float) -> None:
    smoothed = Smoothed(keep)
    assert smoothed.value is None
    for value in values:
        smoothed.add(value)
        smoothed.add(None)
        smoothed.add(float("inf"))
    assert smoothed.value is not None
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= smoothed.value <= max(values) + slack


def test_the_first_value_is_the_average_so_far() -> None:
    smoothed = Smoothed(0.95)
    smoothed.add(8.0)
    assert smoothed.value == pytest.approx(8.0)
    smoothed.add(4.0)
    assert smoothed.value == pytest.approx((0.95 * 8 + 4) / 1.95)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (450, "7 min 30 s"),
        (11100, "3 h 05 min"),
        (187200, "2 d 04 h"),
    ],
)
def test_durations_are_said_in_the_units_that_they_fill(seconds: float, said: str) -> None:
    assert duration(seconds) == said
