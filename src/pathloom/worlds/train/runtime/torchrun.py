"""Nodes started by torchrun: rank r is the r-th node of the plan, rank 0 also leads.

The ranks find the coordinator through torchrun's own store. torchrun ends all processes when one dies, and may start
them again (``--max-restarts``); the run then goes on from its last checkpoint.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from pathloom.plan import InputError

KEY = "pathloom/coordinator"


@dataclass(frozen=True)
class Rank:
    """This process among those that torchrun has started.

    Attributes
    ----------
    rank, size
        Its number and how many there are.
    one_machine
        Whether all run on this machine.
    store
        torchrun's key-value store.
    """

    rank: int
    size: int
    one_machine: bool
    store: Any

    @property
    def host(self) -> str:
        """Address by which other machines reach this one."""
        import socket

        return "127.0.0.1" if self.one_machine else socket.gethostbyname(socket.gethostname())

    @property
    def restarted(self) -> bool:
        """Whether torchrun has started all processes again after a loss."""
        return self._attempt != "0"

    def publish(self, address: tuple[str, int]) -> None:
        """Tell the other ranks where the coordinator is."""
        self.store.set(f"{KEY}/{self._attempt}", f"{address[0]}:{address[1]}")

    def coordinator(self) -> tuple[str, int]:
        """Where the coordinator is; waits until rank 0 has said so."""
        host, _, port = self.store.get(f"{KEY}/{self._attempt}").decode().rpartition(":")
        return host, int(port)

    @property
    def _attempt(self) -> str:
        return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def started_by_torchrun() -> bool:
    """Whether the environment says so."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def this_rank(nodes: int) -> Rank:
    """Join torchrun's store.

    Raises
    ------
    InputError
        If there are more or fewer processes than the plan has nodes.
    """
    from torch.distributed.rendezvous import rendezvous

    size = int(os.environ["WORLD_SIZE"])
    if size != nodes:
        raise InputError(f"torchrun has started {size} processes, the plan has {nodes} nodes", key="nodes")
    store, rank, size = next(rendezvous("env://"))
    return Rank(rank, size, os.environ.get("LOCAL_WORLD_SIZE") == str(size), store)
