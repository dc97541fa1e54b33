"""Nodes of a stage sum their gradients to the same bits, supply newcomers, and notice when one of them dies."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

from pathloom.worlds.train.runtime.stage_group import StageGroup  # noqa: E402

CPU = torch.device("cpu")
HOST = "127.0.0.1"


def group(port: int, rank: int, size: int, *, name: str = "1/0", timeout: float = 20.0) -> StageGroup:
    store = dist.TCPStore(HOST, port, is_master=False)
    return StageGroup(store, name, rank, size, host=HOST, timeout=timeout, device=CPU)


@pytest.fixture
def port() -> Iterator[int]:
    store = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    yield store.port
    del store


def members(port: int, size: int, act: Callable[[StageGroup, int], Any], **options: Any) -> list[Any]:
    """What each of `size` members, a thread each, gets from `act`."""
    found: list[Any] = [None] * size

    def member(rank: int) -> None:
        own = group(port, rank, size, **options)
        try:
            found[rank] = act(own, rank)
        except Exception as error:  # for the test to look at
            found[rank] = error
        finally:
            own.close()

    threads = [threading.Thread(target=member, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def own_tensor(rank: int, size: int = 1000) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(rank)) * 10.0**rank


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_members_get_the_same_bits_and_keep_their_own_sum(port: int, size: int) -> None:
    def act(one: StageGroup, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        mine = own_tensor(rank)
        return one.summed(mine).clone(), mine

    found = members(port, size, act)
    for rank, (sum_, mine) in enumerate(found):
        assert torch.equal(sum_, found[0][0])
        assert torch.equal(mine, own_tensor(rank))
    exact = sum(own_tensor(rank).double() for rank in range(size))
    torch.testing.assert_close(found[0][0].double(), exact, rtol=1e-6, atol=1e-4)


def test_a_group_can_sum_again_and_tensors_of_another_size(port: int) -> None:
    def act(one: StageGroup, rank: int) -> list[float]:
        return [float(one.summed(torch.full((n,), rank + 1.0)).sum()) for n in (3, 3, 5)]

    assert members(port, 2, act) == [[9.0, 9.0, 15.0]] * 2


def test_a_newcomer_gets_the_tensors_of_an_old_member(port: int) -> None:
    def act(one: StageGroup, rank: int) -> list[torch.Tensor]:
        mine = [own_tensor(rank), torch.tensor(float(rank))]
        one.supply(mine, source=1)
        return mine

    for mine in members(port, 3, act):
        assert torch.equal(mine[0], own_tensor(1))
        assert mine[1] == 1.0


def test_two_groups_of_one_store_do_not_mix(port: int) -> None:
    first = [None, None]

    def pair(name: str, value: float) -> None:
        found = members(port, 2, lambda one, rank: float(one.summed(torch.tensor([value]))), name=name)
        first[int(value) - 1] = found  # type: ignore[call-overload]

    threads = [threading.Thread(target=pair, args=(f"1/{value}", float(value))) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert first == [[2.0, 2.0], [4.0, 4.0]]


def test_a_member_alone_needs_no_group(port: int) -> None:
    alone = StageGroup(None, "1/0", 0, 1, host=HOST, timeout=1.0, device=CPU)
    mine = own_tensor(0)
    assert alone.summed(mine) is mine
    alone.supply([mine], source=0)
    assert torch.equal(mine, own_tensor(0))
    alone.close()
    alone.close()


def _die_before_summing(port: int) -> None:
    group(port, 1, 2)
    os._exit(9)


def test_a_member_that_dies_is_noticed_by_the_other(port: int) -> None:
    """At once, as its connections close with it; nobody waits for the timeout."""
    process = multiprocessing.get_context("fork").Process(target=_die_before_summing, args=(port,))
    process.start()
    own = group(port, 0, 2, timeout=60.0)
    mine = own_tensor(0)
    with pytest.raises(RuntimeError):
        own.summed(mine)
    assert torch.equal(mine, own_tensor(0))  # and can be summed with others
    process.join(30)
    assert process.exitcode == 9
    own.close()
    assert members(port, 2, lambda one, rank: float(one.summed(mine.clone())[0]), name="2/0")[0] == 2 * float(mine[0])


def test_a_member_that_hangs_is_noticed_after_the_timeout(port: int) -> None:
    def act(one: StageGroup, rank: int) -> torch.Tensor:
        if rank == 1:
            threading.Event().wait(3.0)
            raise RuntimeError("too late")
        return one.summed(own_tensor(0))

    assert isinstance(members(port, 2, act, timeout=1.0)[0], RuntimeError)
