"""The nodes of a run as the coordinator sees them: who has joined, who answers, who is lost and why.

A node is lost when its process ends, when its connection does, when it is silent for `patience` seconds, or when it
sits in one task for longer than `task_limit`. A lost node is never heard again: its connection is closed, and its
process, where this machine runs it, is killed, so that one that was merely slow cannot come back into a run that has
gone on without it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pathloom.plan import InputError, stop_requested
from pathloom.worlds.train.runtime.control import Channel, Closed

POLL = 0.1
"""Seconds between looks at processes and clocks."""


class Process(Protocol):
    """What a launcher gives back for a node that it has started."""

    pid: int

    def poll(self) -> int | None:
        """Exit status, None while it runs."""

    def kill(self) -> None:
        """End it at once."""


Launcher = Callable[[str, tuple[str, int]], Process | None]
"""``(node, coordinator's address) -> process``; None for a node that comes by itself."""


@dataclass
class Member:
    """A node that has joined."""

    name: str
    channel: Channel
    address: tuple[str, int]
    pid: int
    heard: float
    busy: float = 0.0


@dataclass(frozen=True)
class Loss:
    """A node that is lost, when that was noticed (monotonic clock), and why."""

    node: str
    second: float
    why: str


class NodeFailed(InputError):
    """A node reports an error that no other node could do better with."""


class Cluster:
    """Connections to all nodes.

    Parameters
    ----------
    host, port
        Where nodes join; port 0 takes a free one.
    launch
        Starts a node's process; None where something else starts them.

    Raises
    ------
    InputError
        If the port is in use.
    """

    def __init__(self, host: str, port: int, launch: Launcher | None, *, patience: float, task_limit: float) -> None:
        self.patience, self.task_limit = patience, task_limit
        try:
            self._listener = socket.create_server((host, port), backlog=1024)
        except OSError as error:
            raise InputError(f"port {port} of {host} cannot be used: {error.strerror or error}", key="--port") from None
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._launch = launch
        self.processes: dict[str, Process] = {}
        self.members: dict[str, Member] = {}
        self.losses: list[Loss] = []
        self._guests: dict[int, Channel] = {}
        self._looked = 0.0

    def join(self, names: tuple[str, ...], timeout: float) -> None:
        """Start the nodes, where that is ours to do, and wait for all of them.

        Raises
        ------
        InputError
            Names the nodes that have not joined in time, or whose process has ended.
        """
        wanted = set(names)
        for name in names:
            if self._launch is not None and name not in self.members:
                process = self._launch(name, self.address)
                if process is not None:
                    self.processes[name] = process
        until = time.monotonic() + timeout
        while wanted - set(self.members):
            for _ in self.events(POLL, wanted=wanted):
                pass
            if stop_requested():
                raise KeyboardInterrupt
            for name in sorted(wanted - set(self.members)):
                process = self.processes.get(name)
                status = None if process is None else process.poll()
                if status is not None:
                    raise InputError(f"node '{name}' ended with status {status} before it joined", key="nodes")
            if time.monotonic() > until:
                missing = ", ".join(f"'{name}'" for name in names if name not in self.members)
                raise InputError(f"{missing} did not join within {timeout:g} s", key="nodes")

    def tell(self, message: Mapping[str, Any] | Callable[[str], Mapping[str, Any]]) -> None:
        """Send one message to every live node, or to each its own."""
        for name, member in list(self.members.items()):
            with contextlib.suppress(Closed):  # `events` will notice
                member.channel.send(dict(message(name) if callable(message) else message))

    def events(self, wait: float, *, wanted: set[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """What nodes say within `wait` seconds, as far as somebody else has to know; losses are added to `losses`.

        The nodes `wanted` may join meanwhile, and nobody else.
        """
        for key, _ in self._selector.select(wait):
            if key.data is None:
                self._accept()
            elif isinstance(key.data, int):
                self._greet(key.data, wanted)
            else:
                yield from self._hear(key.data)
        now = time.monotonic()
        if now - self._looked > POLL:
            self._looked = now
            self._look(now)

    def _hear(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        member = self.members.get(name)
        if member is None:
            return
        try:
            messages = member.channel.available()
        except Closed:
            self.lose(name, self._why_closed(name))
            return
        member.heard = time.monotonic()
        for message in messages:
            if message["say"] == "beat":
                member.busy = float(message["busy"])
            elif message["say"] == "failed":
                error = InputError(message["why"], file=message.get("file"), key=message.get("key"))
                raise NodeFailed(f"node '{name}' failed: {error}")
            else:
                yield name, message

    def _why_closed(self, name: str) -> str:
        process = self.processes.get(name)
        status = None
        for _ in range(20):  # the process may need a moment to be seen as ended
            status = None if process is None else process.poll()
            if process is None or status is not None:
                break
            time.sleep(0.005)
        if status is None:
            return "its connection has ended"
        return f"its process was killed by signal {-status}" if status < 0 else f"its process ended, status {status}"

    def lose(self, name: str, why: str) -> None:
        """Count a node as lost."""
        member = self.members.pop(name, None)
        if member is None:
            return
        self.losses.append(Loss(name, time.monotonic(), why))
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(member.channel.socket)
        member.channel.close()
        process = self.processes.get(name)
        if process is not None and process.poll() is None:
            process.kill()

    def _look(self, now: float) -> None:
        for name, member in list(self.members.items()):
            process = self.processes.get(name)
            status = None if process is None else process.poll()
            if status is not None:
                self.lose(name, self._why_closed(name))
            elif now - member.heard > self.patience:
                self.lose(name, f"silent for {now - member.heard:.1f} s")
            elif member.busy > self.task_limit:
                self.lose(name, f"in one task for {member.busy:.0f} s")

    def forgive_silence(self) -> None:
        """Start all clocks anew, after something has kept this process itself busy."""
        for member in self.members.values():
            member.heard = time.monotonic()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._guests[connection.fileno()] = Channel(connection)
            self._selector.register(connection, selectors.EVENT_READ, connection.fileno())

    def _greet(self, number: int, wanted: set[str] | None) -> None:
        """A connection that has not said yet who it is."""
        channel = self._guests[number]
        try:
            messages = channel.available()
            if not messages:
                return
            hello = messages[0]
            name, pid, (host, port) = str(hello["node"]), int(hello["pid"]), hello["address"]
            if hello["say"] != "hello" or wanted is None or name not in wanted or name in self.members:
                raise ValueError("nobody that is waited for")
        except (Closed, KeyError, TypeError, ValueError):
            self._turn_away(number)
            return
        del self._guests[number]
        self._selector.modify(channel.socket, selectors.EVENT_READ, name)
        self.members[name] = Member(name, channel, (str(host), int(port)), pid, time.monotonic())

    def _turn_away(self, number: int) -> None:
        channel = self._guests.pop(number)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(channel.socket)
        channel.close()

    def close(self, timeout: float = 5.0) -> None:
        """Tell all nodes to stop, wait for their processes, and kill those that do not end."""
        self.tell({"do": "stop"})
        until = time.monotonic() + timeout
        for name, process in self.processes.items():
            while name in self.members and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            if process.poll() is None:
                process.kill()
        for member in self.members.values():
            member.channel.close()
        self._selector.close()
        self._listener.close()
