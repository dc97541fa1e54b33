"""An attempt's tasks: each stands at the node of its visit, and every slot that is taken is given back there."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pathloom.worlds.train.runtime.attempt import Attempt


def attempt(route: tuple[int, ...], tasks: int, **changes: object) -> Attempt:
    given = {"row": 7, "microbatch": 2, "keys": tuple(float(t) for t in range(tasks)), **changes}
    return Attempt(route=route, stages=tuple(range(len(route))), **given)  # type: ignore[arg-type]


ROUTES = st.lists(st.integers(0, 4), min_size=1, max_size=6).map(tuple)


@given(route=ROUTES, split=st.booleans())
def test_every_task_stands_at_one_node(route: tuple[int, ...], split: bool) -> None:
    k = len(route)
    whole = attempt(route, (3 if split else 2) * k + 1)
    at = [whole.tasks_at(node, split=split) for node in range(5)]
    assert sorted(task for tasks in at for _, task in tasks) == list(range(len(whole.keys)))
    for node, tasks in enumerate(at):
        assert sum(work.slot for work in tasks.values()) == 0
        for (row, task), work in tasks.items():
            assert row == 7 and work.key == float(task)
            assert work.last_resort == (task > 2 * k)
            if task == k:
                assert node == route[0] and work.slot == 0


@given(route=ROUTES, first=st.integers(0, 6), split=st.booleans())
def test_a_continued_attempt_gives_back_the_slots_that_it_takes_over(
    route: tuple[int, ...], first: int, split: bool
) -> None:
    k = len(route)
    later = attempt(route, (3 if split else 2) * k + 1, first=min(first, k - 1), parent=1)
    for node in range(5):
        tasks = later.tasks_at(node, split=split)
        assert later.held_at(node) + sum(work.slot for work in tasks.values()) == 0
        assert all(task >= later.first for _, task in tasks)


@given(route=ROUTES)
def test_an_evaluation_ends_in_its_loss_and_holds_nothing(route: tuple[int, ...]) -> None:
    k = len(route)
    forward = attempt(route, k + 1)
    tasks = {task: work for node in range(5) for (_, task), work in forward.tasks_at(node, split=False).items()}
    assert sorted(tasks) == list(range(k + 1))
    assert all(work.slot == 0 for work in tasks.values())


def test_an_attempt_goes_through_json() -> None:
    one = attempt((0, 3, 1), 7, first=1, parent=4, after=2, release=0.5)
    assert Attempt.from_dict(json.loads(json.dumps(one.to_dict()))) == one
