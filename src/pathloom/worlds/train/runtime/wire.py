"""Messages between nodes: tensors straight from one node to another, each on its way as long as the plan says.

Every node listens on one port and opens one connection to each node that it sends to. A message is a short header and
the tensor's bytes. One thread a node receives whatever comes from whomever; tensors arrive in any order, so no receiver
has to know whose message comes next, and a node that dies closes its connections and disturbs nobody else's. That is
why activations do not travel through a process group of torch.distributed, which the averaging of gradients uses.

Emulated links: a message is handed over no earlier than ``seconds`` after it was sent, where ``seconds`` is what the
plan gives for the link. Messages do not wait for each other, as links are no shared resource in the plan either.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

HEADER = struct.Struct("<IiiiiBBxxqd4i")
"""Magic, iteration, sender, attempt, task, data type, dimensions, bytes, second of sending, four sizes."""
MAGIC = 0x50544C4D
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64)
BUFFER = 8 << 20
"""Bytes asked of the system for a connection's buffers, so that a sender rarely waits for a receiver."""


@dataclass(frozen=True)
class Message:
    """A tensor for task `task` of attempt `row` of an iteration; None as tensor is a mere notice."""

    iteration: int
    sender: int
    row: int
    task: int
    tensor: torch.Tensor | None


@dataclass
class _Incoming:
    """A connection that somebody has opened to us, and what has come over it of the next message."""

    header: bytearray = field(default_factory=lambda: bytearray(HEADER.size))
    filled: int = 0
    fields: tuple[Any, ...] | None = None
    tensor: torch.Tensor | None = None
    body: memoryview | None = None
    sender: int = -1


class _Outgoing:
    """A connection to another node, and what of it has not fitted into the system's buffer yet."""

    def __init__(self, address: tuple[str, int], timeout: float) -> None:
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        self.socket.setblocking(False)
        self.lock = threading.Lock()
        self.waiting: deque[memoryview] = deque()

    def send(self, parts: list[memoryview]) -> bool:
        """Send what fits; True if something is left for `flush`."""
        with self.lock:
            self.waiting.extend(parts)
            return self._push()

    def flush(self) -> bool:
        with self.lock:
            return self._push()

    def _push(self) -> bool:
        while self.waiting:
            part = self.waiting[0]
            try:
                sent = self.socket.send(part)
            except BlockingIOError:
                return True
            if sent == len(part):
                self.waiting.popleft()
            else:
                self.waiting[0] = part[sent:]
        return False


class Wire:
    """One node's end of all its links.

    Parameters
    ----------
    node
        Position of this node.
    host
        Address to listen on.
    same_clock
        True if all nodes run on one machine, so that the second of sending means the same to everybody; otherwise an
        emulated link counts from the message's arrival.
    """

    def __init__(self, node: int, host: str, *, same_clock: bool = True, timeout: float = 30.0) -> None:
        self.node, self.timeout, self.same_clock = node, timeout, same_clock
        self.changed = threading.Condition()
        self._arrived: list[tuple[float, int, Message]] = []  # by the second at which they are due
        self._early: list[tuple[float, int, Message]] = []  # of iterations that have not begun here
        self._interrupted = False
        self._count = 0
        self._addresses: dict[int, tuple[str, int]] = {}
        self._out: dict[int, _Outgoing] = {}
        self._lost: set[int] = set()
        self.seconds: Mapping[int, float] = {}
        self.iteration = 0
        self._listener = socket.create_server((host, 0), backlog=1024)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, "listener")
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ, "wake")
        self._flushing: set[_Outgoing] = set()
        self._asked: set[int] = set()
        self._leaving: list[_Outgoing] = []
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="wire", daemon=True)
        self._thread.start()

    def join(self, addresses: Mapping[int, tuple[str, int]], seconds: Mapping[int, float], *, same_clock: bool) -> None:
        """From now on these are the nodes, and a message from node i takes at least ``seconds[i]``."""
        with self.changed:
            self.seconds, self.same_clock = dict(seconds), same_clock
        for node in [node for node in self._out if self._addresses.get(node) != addresses.get(node)]:
            self._hang_up(node)
        self._addresses = dict(addresses)
        self._lost = {node for node in self._lost if node not in addresses}

    def begin(self, iteration: int) -> None:
        """Messages of earlier iterations are dropped from now on; those of later ones wait for theirs."""
        with self.changed:
            self.iteration = iteration
            entries = [entry for entry in (*self._arrived, *self._early) if entry[2].iteration >= iteration]
            self._arrived = [entry for entry in entries if entry[2].iteration == iteration]
            self._early = [entry for entry in entries if entry[2].iteration > iteration]
            heapq.heapify(self._arrived)

    def forget(self, node: int) -> None:
        """A node is lost: send it nothing more."""
        self._lost.add(node)
        self._hang_up(node)

    def _hang_up(self, node: int) -> None:
        link = self._out.pop(node, None)
        if link is not None:
            # Closed by the thread that may be watching it: the next connection could get its descriptor.
            self._leaving.append(link)
            with contextlib.suppress(OSError):
                self._wake_out.send(b"\0")

    def send(self, to: int, row: int, task: int, tensor: torch.Tensor | None) -> None:
        """Send a tensor (or a notice); returns at once. What is sent to a lost node is lost."""
        if to in self._lost:
            return
        if to == self.node:
            own = None if tensor is None else tensor.detach()
            self._deliver(Message(self.iteration, to, row, task, own), time.monotonic())
            return
        body: memoryview | None = None
        sizes = [0, 0, 0, 0]
        dtype = dimensions = 0
        if tensor is not None:
            plain = tensor.detach().to("cpu").contiguous()
            dtype, dimensions = DTYPES.index(plain.dtype), plain.dim()
            sizes[:dimensions] = plain.shape
            body = _bytes_of(plain)
        header = HEADER.pack(
            MAGIC, self.iteration, self.node, row, task, dtype, dimensions, 0 if body is None else len(body),
            time.monotonic(), *sizes,
        )  # fmt: skip
        parts = [memoryview(header)] if body is None else [memoryview(header), body]
        try:
            link = self._out.get(to)
            if link is None:
                link = self._out[to] = _Outgoing(self._addresses[to], self.timeout)
            if link.send(parts):
                self._asked.add(to)
                self._wake_out.send(b"\0")
        except OSError:  # the other end is gone; the coordinator will say what to do
            self._hang_up(to)

    def take(self, wait: float | None = 0.0) -> Message | None:
        """The next message that is due, waiting up to `wait` seconds for one (None: for ever).

        Also returns None as soon as somebody calls `interrupt`.
        """
        until = None if wait is None else time.monotonic() + wait
        with self.changed:
            while True:
                now = time.monotonic()
                if self._arrived and self._arrived[0][0] <= now:
                    return heapq.heappop(self._arrived)[2]
                if self._interrupted:
                    self._interrupted = False
                    return None
                pause = self._arrived[0][0] - now if self._arrived else None
                if until is not None:
                    if now >= until:
                        return None
                    pause = until - now if pause is None else min(pause, until - now)
                self.changed.wait(pause)

    def interrupt(self) -> None:
        """Make a `take` that waits return."""
        with self.changed:
            self._interrupted = True
            self.changed.notify_all()

    def notify_at(self, row: int, task: int, second: float) -> None:
        """Hand over a notice for that task at a second of the monotonic clock."""
        with self.changed:
            self._count += 1
            heapq.heappush(self._arrived, (second, self._count, Message(self.iteration, self.node, row, task, None)))
            self.changed.notify_all()

    def waiting(self) -> list[tuple[int, int]]:
        """(attempt, task) of messages that have arrived, due or not, and have not been taken."""
        with self.changed:
            return [(m.row, m.task) for _, _, m in self._arrived]

    def close(self) -> None:
        """End all connections."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._wake_out.send(b"\0")
        self._thread.join(timeout=5)
        for link in (*self._out.values(), *self._leaving):
            link.socket.close()
        for key in list((self._selector.get_map() or {}).values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._wake_out.close()

    def _deliver(self, message: Message, sent: float) -> None:
        # a notice carries nothing that a link would have to carry
        seconds = 0.0 if message.tensor is None else self.seconds.get(message.sender, 0.0)
        now = time.monotonic()
        due = (sent if self.same_clock else now) + seconds
        with self.changed:
            if message.iteration < self.iteration:
                return
            self._count += 1
            entry = (max(due, now) if seconds else now, self._count, message)
            if message.iteration > self.iteration:
                self._early.append(entry)
                return
            heapq.heappush(self._arrived, entry)
            self.changed.notify_all()

    def _serve(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                if key.data == "listener":
                    with contextlib.suppress(OSError):
                        connection, _ = self._listener.accept()
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
                        connection.setblocking(False)
                        self._selector.register(connection, selectors.EVENT_READ, _Incoming())
                elif key.data == "wake":
                    with contextlib.suppress(BlockingIOError):
                        self._wake_in.recv(4096)
                    self._watch_writes()
                elif isinstance(key.data, _Incoming):
                    self._receive(key.fileobj, key.data)
                else:
                    self._flush(key.data)

    def _watch_writes(self) -> None:
        while self._asked:
            node = self._asked.pop()
            link = self._out.get(node)
            if link is not None and link not in self._flushing:
                with contextlib.suppress(OSError, ValueError, KeyError):
                    self._selector.register(link.socket, selectors.EVENT_WRITE, (node, link))
                    self._flushing.add(link)
        while self._leaving:
            link = self._leaving.pop()
            self._ignore_writes(link)
            link.socket.close()

    def _ignore_writes(self, link: _Outgoing) -> None:
        self._flushing.discard(link)
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._selector.unregister(link.socket)

    def _flush(self, data: tuple[int, _Outgoing]) -> None:
        node, link = data
        try:
            more = link.flush()
        except OSError:  # nobody will read it
            more = False
            with link.lock:
                link.waiting.clear()
        if not more:
            self._ignore_writes(link)
            with link.lock:
                again = bool(link.waiting)
            if again and self._out.get(node) is link:
                self._asked.add(node)
                self._watch_writes()

    def _receive(self, connection: Any, state: _Incoming) -> None:
        try:
            while True:
                if state.fields is None:
                    got = connection.recv_into(memoryview(state.header)[state.filled :])
                    if got == 0:
                        raise ConnectionError
                    state.filled += got
                    if state.filled < HEADER.size:
                        return
                    self._open(state)
                else:
                    assert state.body is not None
                    got = connection.recv_into(state.body[state.filled :])
                    if got == 0:
                        raise ConnectionError
                    state.filled += got
                if state.fields is not None and (state.body is None or state.filled == len(state.body)):
                    _, iteration, sender, row, task, *_, sent, _a, _b, _c, _d = state.fields
                    self._deliver(Message(iteration, sender, row, task, state.tensor), sent)
                    state.fields = state.tensor = state.body = None
                    state.filled = 0
        except BlockingIOError:
            return
        except OSError:
            with contextlib.suppress(OSError, ValueError, KeyError):
                self._selector.unregister(connection)
            connection.close()

    @staticmethod
    def _open(state: _Incoming) -> None:
        fields = HEADER.unpack(state.header)
        magic, _, sender, _, _, dtype, dimensions, size, _, *sizes = fields
        if magic != MAGIC or dtype >= len(DTYPES) or dimensions > 4 or min(sizes) < 0:
            raise ConnectionError("no message of ours")
        state.fields, state.filled, state.sender = fields, 0, sender
        state.tensor = state.body = None
        if size:
            if math.prod(sizes[:dimensions]) * DTYPES[dtype].itemsize != size:
                raise ConnectionError("a tensor of another size than its bytes")
            state.tensor = torch.empty(sizes[:dimensions], dtype=DTYPES[dtype])
            state.body = _bytes_of(state.tensor)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
