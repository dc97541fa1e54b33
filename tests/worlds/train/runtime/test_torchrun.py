"""What torchrun says in the environment: which process this is, and where the one that leads can be found."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402

from pathloom.plan import InputError  # noqa: E402
from pathloom.worlds.train.runtime.torchrun import Rank, started_by_torchrun, this_rank  # noqa: E402

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def store() -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch, store: dist.TCPStore) -> pytest.MonkeyPatch:
    """The environment of rank 1 of 3 under torchrun, whose own store is there already."""
    environment = {
        "RANK": 1,
        "WORLD_SIZE": 3,
        "LOCAL_WORLD_SIZE": 3,
        "LOCAL_RANK": 1,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": store.port,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    return monkeypatch


@pytest.mark.parametrize("missing", [None, *NAMES])
def test_a_process_is_torchruns_if_the_whole_environment_says_so(
    torchrun: pytest.MonkeyPatch, missing: str | None
) -> None:
    if missing is not None:
        torchrun.delenv(missing)
    assert started_by_torchrun() == (missing is None)


def test_a_rank_knows_its_number_and_that_all_are_on_one_machine(torchrun: pytest.MonkeyPatch) -> None:
    rank = this_rank(3)
    assert (rank.rank, rank.size, rank.one_machine, rank.host) == (1, 3, True, "127.0.0.1")
    torchrun.setenv("LOCAL_WORLD_SIZE", "1")
    assert not this_rank(3).one_machine


@pytest.mark.parametrize("nodes", [2, 4])
def test_more_or_fewer_processes_than_nodes_are_refused(torchrun: pytest.MonkeyPatch, nodes: int) -> None:
    with pytest.raises(InputError, match=f"nodes: torchrun has started 3 processes, the plan has {nodes} nodes"):
        this_rank(nodes)


def test_all_ranks_find_the_coordinator(torchrun: pytest.MonkeyPatch, store: dist.TCPStore) -> None:
    Rank(0, 3, True, store).publish(("10.1.2.3", 4711))
    assert this_rank(3).coordinator() == ("10.1.2.3", 4711)


def test_after_a_restart_nobody_finds_the_coordinator_of_before(
    torchrun: pytest.MonkeyPatch, store: dist.TCPStore
) -> None:
    rank = Rank(0, 3, True, store)
    rank.publish(("10.1.2.3", 4711))
    torchrun.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    rank.publish(("10.1.2.3", 4712))
    assert this_rank(3).coordinator() == ("10.1.2.3", 4712)
