"""The best solution so far: who may replace it, what the threads see of it, and when they must end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pathloom.plan import Progress, clear_stop, request_stop
from pathloom.schedule.incumbent import Incumbent, Translated


@pytest.fixture
def stopping() -> Iterator[None]:
    yield
    clear_stop()


def test_only_better_solutions_and_bounds_are_kept() -> None:
    incumbent: Incumbent[str] = Incumbent(60.0)
    assert incumbent.best() is None and not incumbent.optimal and not incumbent.finished
    assert [incumbent.offer(*offer, "rule") for offer in ((9, "a"), (9, "b"), (10, "c"), (7, "d"))] == [
        True,
        False,
        False,
        True,
    ]
    assert incumbent.best() == (7, "d") and incumbent.source == "rule"
    assert [incumbent.raise_bound(bound, str(bound)) for bound in (3, 2, 3, 5)] == [True, False, False, True]
    assert (incumbent.bound, incumbent.bound_source) == (5, "5")


def test_a_value_that_meets_its_bound_is_optimal_and_ends_the_search() -> None:
    incumbent: Incumbent[str] = Incumbent(60.0, bound=4)
    incumbent.offer(5, "a", "rule")
    assert not incumbent.finished
    incumbent.offer(4, "b", "rule")
    assert incumbent.optimal and incumbent.finished and incumbent.left > 0


def test_the_history_tells_when_what_was_reached_by_whom() -> None:
    seen: list[Progress] = []
    incumbent: Incumbent[str] = Incumbent(60.0, on_progress=seen.append)
    incumbent.raise_bound(3, "path")
    incumbent.offer(8, "a", "rule")
    incumbent.offer(9, "b", "other")
    incumbent.offer(6, "c", "tabu")
    assert [(step.value, step.bound, step.source) for step in incumbent.history] == [
        (None, 3, "path"),
        (8, 3, "rule"),
        (6, 3, "tabu"),
    ]
    times = [step.seconds for step in incumbent.history]
    assert times == sorted(times) and times[0] >= 0
    assert [(p.best, p.bound, p.phase) for p in seen] == [(None, 3.0, "path"), (8.0, 3.0, "rule"), (6.0, 3.0, "tabu")]


def test_a_method_may_go_on_changing_what_it_offered() -> None:
    incumbent: Incumbent[np.ndarray] = Incumbent(60.0, copy=np.copy)
    start = np.array([1, 2, 3])
    incumbent.offer(3, start, "tabu")
    start[:] = 0
    found = incumbent.best()
    assert found is not None and found[1].tolist() == [1, 2, 3]


def test_a_phase_ends_sooner_and_then_the_rest_of_the_time_is_there() -> None:
    incumbent: Incumbent[str] = Incumbent(60.0)
    with incumbent.phase(5.0):
        assert 0 < incumbent.left <= 5
        incumbent.end_phase()
        assert incumbent.left == 0 and incumbent.finished
    assert incumbent.left > 30 and not incumbent.finished
    with incumbent.phase(1000.0):
        assert incumbent.left <= 60, "a phase gives no more than the time limit"
    with pytest.raises(RuntimeError), incumbent.phase(0.0):
        raise RuntimeError
    assert incumbent.left > 30


def test_time_passes() -> None:
    incumbent: Incumbent[str] = Incumbent(0.01)
    time.sleep(0.02)
    assert incumbent.left == 0 and incumbent.finished and incumbent.seconds >= 0.02


@pytest.mark.usefixtures("stopping")
def test_a_stop_ends_every_search() -> None:
    incumbent: Incumbent[str] = Incumbent(60.0)
    request_stop()
    assert incumbent.left == 0 and incumbent.finished
    assert incumbent.offer(3, "found just then", "tabu"), "what has been found is kept all the same"


def test_threads_see_values_with_their_own_solutions() -> None:
    incumbent: Incumbent[tuple[int, int]] = Incumbent(60.0)
    mixed = []

    def work(number: int) -> None:
        for value in range(400, 0, -1):
            incumbent.offer(value, (value, number), str(number))
            incumbent.raise_bound(-value, str(number))
            found = incumbent.best()
            if found is None or found[0] != found[1][0]:
                mixed.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not mixed
    assert (incumbent.value, incumbent.bound) == (1, -1)
    values = [step.value for step in incumbent.history if step.value is not None]
    assert values == sorted(values, reverse=True)


def test_a_translated_incumbent_speaks_another_language() -> None:
    incumbent: Incumbent[str] = Incumbent(60.0)
    seen: Translated[int] = Translated(incumbent, str, int)
    assert seen.best() is None and seen.value is None and seen.bound is None
    assert seen.offer(5, 55, "there") and not seen.offer(5, 66, "there")
    assert incumbent.best() == (5, "55") and seen.best() == (5, 55)
    incumbent.offer(4, "44", "here")
    assert seen.best() == (4, 44)
    assert seen.raise_bound(4, "there") and incumbent.optimal
    assert seen.finished and seen.bound == 4 and seen.left > 0
