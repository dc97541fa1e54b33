"""Nodes as processes of this machine: how they end is known, and Ctrl-C is not for them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
from small_runs import wait_for

pytest.importorskip("torch")

from pathloom.worlds.train.runtime import worker
from pathloom.worlds.train.runtime.control import Channel
from pathloom.worlds.train.runtime.local_processes import local_launcher

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def coordinator() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        yield server


def test_a_node_says_who_it_is_and_stops_when_it_is_told_to(coordinator: socket.socket) -> None:
    process = local_launcher()("n7", coordinator.getsockname())
    channel = Channel(coordinator.accept()[0])
    hello = channel.receive()
    assert (hello["say"], hello["node"], hello["pid"]) == ("hello", "n7", process.pid)
    assert hello["address"][0] == "127.0.0.1" and hello["address"][1] > 0
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)  # as a terminal would tell all processes
    channel.send({"do": "stop"})
    assert wait_for(lambda: process.poll() is not None)
    assert process.poll() == 0


def test_a_node_ends_when_its_coordinator_has_gone(coordinator: socket.socket) -> None:
    process = local_launcher()("n7", coordinator.getsockname())
    channel = Channel(coordinator.accept()[0])
    channel.receive()
    channel.close()
    assert wait_for(lambda: process.poll() is not None)
    assert process.poll() == 1


def test_the_signal_that_killed_a_node_is_known(coordinator: socket.socket) -> None:
    process = local_launcher()("n7", coordinator.getsockname())
    channel = Channel(coordinator.accept()[0])
    channel.receive()
    process.kill()
    assert wait_for(lambda: process.poll() is not None)
    assert process.poll() == -signal.SIGKILL
    channel.close()


def test_a_node_whose_coordinator_has_gone_before_it_starts_ends(coordinator: socket.socket) -> None:
    address = coordinator.getsockname()
    coordinator.close()
    process = local_launcher()("n7", address)
    assert wait_for(lambda: process.poll() is not None)
    assert process.poll() == 1


def test_a_node_may_wait_for_its_coordinator_and_does_not_wait_for_ever(coordinator: socket.socket) -> None:
    address = coordinator.getsockname()
    coordinator.close()
    with pytest.raises(ConnectionRefusedError):
        worker._reach(address, 0.1)
    with socket.create_server(address) as late:
        assert worker._reach(address, 60.0).getpeername() == late.getsockname()
