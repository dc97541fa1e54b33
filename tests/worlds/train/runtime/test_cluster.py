"""Nodes as the coordinator sees them: who may join, who is missed, and whose loss is noticed by what."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pathloom.plan import InputError, clear_stop, request_stop
from pathloom.worlds.train.runtime.cluster import Cluster, NodeFailed
from pathloom.worlds.train.runtime.control import LENGTH, Channel, Closed

HOST = "127.0.0.1"


class Guest:
    """A connection to the cluster that says what it likes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=20)
        self.channel = Channel(self.socket)

    def hello(self, name: Any, **changes: Any) -> Guest:
        self.channel.send({"say": "hello", "node": name, "pid": 1, "address": ["127.0.0.1", 1], **changes})
        return self

    @property
    def turned_away(self) -> bool:
        with contextlib.suppress(Closed):
            self.channel.receive()
            return False
        return True


@dataclass
class Processes:
    """A launcher of processes that only sleep; the nodes themselves are guests of the test."""

    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __call__(self, name: str, address: tuple[str, int]) -> subprocess.Popen[bytes]:
        self.started[name] = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        return self.started[name]


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes()
    yield made
    for process in made.started.values():
        process.kill()
        process.wait()


Make = Callable[..., Cluster]


@pytest.fixture
def cluster() -> Iterator[Make]:
    made: list[Cluster] = []

    def make(launch: Any = None, *, patience: float = 60.0, task_limit: float = 60.0) -> Cluster:
        made.append(Cluster(HOST, 0, launch, patience=patience, task_limit=task_limit))
        return made[-1]

    yield make
    clear_stop()
    for one in made:
        with contextlib.suppress(ValueError, OSError):
            one.close(timeout=0.1)


def joined(cluster: Cluster, *names: str) -> dict[str, Guest]:
    """Guests that have joined under these names."""
    guests = {name: Guest(cluster.address).hello(name) for name in names}
    cluster.join(names, 20.0)
    return guests


def heard(cluster: Cluster, enough: Callable[[list[Any]], Any], seconds: float = 20.0) -> list[Any]:
    """What nodes say until that is enough."""
    found: list[Any] = []
    until = time.monotonic() + seconds
    while not enough(found):
        found += cluster.events(0.02)
        assert time.monotonic() < until, found
    return found


def test_nodes_join_in_any_order(cluster: Make) -> None:
    own = cluster()
    joined(own, "b", "a")
    assert set(own.members) == {"a", "b"}
    assert own.members["a"].address == ("127.0.0.1", 1)


def test_a_node_that_never_joins_is_named(cluster: Make) -> None:
    own = cluster()
    there = Guest(own.address).hello("a")
    with pytest.raises(InputError, match=r"nodes: 'b', 'c' did not join within 0\.3 s"):
        own.join(("a", "b", "c"), 0.3)
    assert set(own.members) == {"a"} and there.socket.fileno() >= 0


def test_a_process_that_ends_before_it_joins_is_named_at_once(cluster: Make) -> None:
    def broken(name: str, address: tuple[str, int]) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(5)"])

    with pytest.raises(InputError, match="nodes: node 'a' ended with status 5 before it joined"):
        cluster(broken).join(("a",), 60.0)


def test_a_stranger_is_turned_away_and_the_others_still_join(cluster: Make) -> None:
    own = cluster()
    strangers = [
        Guest(own.address).hello("z"),  # no node of the plan
        Guest(own.address).hello("a", say="good evening"),
        Guest(own.address).hello(None),
        Guest(own.address).hello(["a"]),
        Guest(own.address).hello("b", address="nowhere"),
        Guest(own.address).hello("b", pid=None),
    ]
    for body in (b"[1, 2]", b"7", b"not json"):
        strangers.append(Guest(own.address))
        strangers[-1].socket.sendall(LENGTH.pack(len(body)) + body)
    strangers.append(Guest(own.address))
    strangers[-1].socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    silent = Guest(own.address)
    gone = Guest(own.address)
    gone.channel.close()
    joined(own, "a", "b")
    heard(own, lambda _: len(own._guests) == 1)  # the silent one, who may yet say something
    assert all(stranger.turned_away for stranger in strangers)
    assert set(own.members) == {"a", "b"} and own.losses == []
    assert silent.channel.socket.fileno() >= 0


@pytest.mark.parametrize("name", ["a", "b", "z"])
def test_nobody_joins_a_run_that_is_under_way(cluster: Make, name: str) -> None:
    """Neither a second node of the same name, nor one that was given up, nor a stranger."""
    own = cluster()
    guests = joined(own, "a", "b")
    own.lose("b", "for a test")
    late = Guest(own.address).hello(name)
    waiting = threading.Thread(target=lambda: late.turned_away)
    waiting.start()
    heard(own, lambda _: not waiting.is_alive())
    assert set(own.members) == {"a"}
    guests["a"].channel.send({"say": "done"})
    assert heard(own, len) == [("a", {"say": "done"})]


def test_a_port_in_use_is_named() -> None:
    with (
        socket.create_server((HOST, 0)) as other,
        pytest.raises(InputError, match=f"--port: port {other.getsockname()[1]} of {HOST} cannot be used"),
    ):
        Cluster(HOST, other.getsockname()[1], None, patience=1, task_limit=1)


def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(InputError, match=r"--port: port 0 of 203\.0\.113\.7 cannot be used"):
        Cluster("203.0.113.7", 0, None, patience=1, task_limit=1)


def test_ctrl_c_ends_the_waiting_for_nodes(cluster: Make) -> None:
    own = cluster()
    threading.Timer(0.2, request_stop).start()
    with pytest.raises(KeyboardInterrupt):
        own.join(("a",), 60.0)


def test_everybody_is_told_the_same_or_each_his_own(cluster: Make) -> None:
    own = cluster()
    guests = joined(own, "a", "b")
    own.tell({"do": "stop"})
    own.tell(lambda name: {"you": name})
    for name, guest in guests.items():
        assert guest.channel.receive() == {"do": "stop"}
        assert guest.channel.receive() == {"you": name}


def test_a_connection_that_ends_is_a_loss(cluster: Make) -> None:
    own = cluster()
    guests = joined(own, "a", "b")
    guests["a"].channel.close()
    heard(own, lambda _: own.losses)
    assert [(loss.node, loss.why) for loss in own.losses] == [("a", "its connection has ended")]
    assert set(own.members) == {"b"}
    own.tell({"do": "go on"})
    assert guests["b"].channel.receive() == {"do": "go on"}


def test_the_last_words_of_a_node_are_heard_before_it_counts_as_lost(cluster: Make) -> None:
    own = cluster()
    guest = joined(own, "a")["a"]
    guest.channel.send({"say": "done", "tasks": []})
    guest.channel.close()
    assert heard(own, lambda _: own.losses) == [("a", {"say": "done", "tasks": []})]


def test_a_process_that_is_killed_is_a_loss_that_names_the_signal(cluster: Make, processes: Processes) -> None:
    own = cluster(processes)
    guests = joined(own, "a", "b")
    processes.started["a"].kill()
    heard(own, lambda _: own.losses)
    assert [(loss.node, loss.why) for loss in own.losses] == [("a", "its process was killed by signal 9")]
    assert set(own.members) == set(guests) - {"a"}


def test_silence_is_a_loss_and_kills_the_process(cluster: Make, processes: Processes) -> None:
    """One that was merely slow must not come back into a run that has gone on without it."""
    own = cluster(processes, patience=60.0)
    guests = joined(own, "a", "b")
    own.members["a"].heard -= 61.0
    heard(own, lambda _: own.losses)
    assert [loss.node for loss in own.losses] == ["a"]
    assert own.losses[0].why.startswith("silent for 61.")
    assert processes.started["a"].wait(20) == -signal.SIGKILL
    assert processes.started["b"].poll() is None
    assert guests["a"].turned_away


def test_a_task_without_end_is_a_loss_although_the_node_still_answers(cluster: Make) -> None:
    own = cluster(task_limit=30.0)
    guest = joined(own, "a")["a"]
    guest.channel.send({"say": "beat", "busy": 29.0})
    assert heard(own, lambda _: own.members["a"].busy == 29.0) == []
    guest.channel.send({"say": "beat", "busy": 31.0})
    heard(own, lambda _: own.losses)
    assert own.losses[0].why == "in one task for 31 s"


def test_silence_is_forgiven_after_the_coordinator_itself_was_busy(cluster: Make) -> None:
    own = cluster(patience=60.0)
    guests = joined(own, "a")
    own.members["a"].heard -= 61.0
    own.forgive_silence()
    assert list(own.events(0.15)) == [] and own.losses == []
    assert set(own.members) == set(guests)


def test_a_sign_of_life_ends_the_silence(cluster: Make) -> None:
    """Even one that was there unread while the coordinator was busy."""
    own = cluster(patience=60.0)
    guest = joined(own, "a")["a"]
    guest.channel.send({"say": "beat", "busy": 0.25})
    own.members["a"].heard -= 61.0
    heard(own, lambda _: own.members["a"].busy == 0.25)
    assert own.losses == []


def test_an_error_that_no_other_node_could_do_better_with_ends_the_run(cluster: Make) -> None:
    own = cluster()
    guest = joined(own, "a")["a"]
    guest.channel.send({"say": "failed", "why": "No space left on device", "file": "/full", "key": None})
    with pytest.raises(NodeFailed, match="node 'a' failed: /full: No space left on device"):
        heard(own, lambda _: False)


def test_a_member_that_talks_nonsense_is_a_loss(cluster: Make) -> None:
    own = cluster()
    guest = joined(own, "a")["a"]
    body = json.dumps([1]).encode()
    guest.socket.sendall(LENGTH.pack(len(body)) + body)
    heard(own, lambda _: own.losses)
    assert own.losses[0].node == "a"


def test_at_the_end_processes_that_do_not_stop_are_killed(cluster: Make, processes: Processes) -> None:
    own = cluster(processes)
    guests = joined(own, "a")
    own.close(timeout=0.3)
    assert guests["a"].channel.receive() == {"do": "stop"}
    assert processes.started["a"].wait(20) == -signal.SIGKILL
    with pytest.raises(OSError):
        socket.create_connection(own.address, timeout=1)


def test_a_stopped_process_is_killed_too(cluster: Make, processes: Processes) -> None:
    own = cluster(processes)
    joined(own, "a")
    os.kill(processes.started["a"].pid, signal.SIGSTOP)
    own.close(timeout=0.1)
    assert processes.started["a"].wait(20) == -signal.SIGKILL
