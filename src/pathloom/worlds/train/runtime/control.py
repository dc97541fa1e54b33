"""Between the coordinator and the nodes: short JSON messages over TCP, each after its length."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Any

LENGTH = struct.Struct("<I")
LONGEST = 256 << 20


class Closed(ConnectionError):
    """The other end has gone."""


class Channel:
    """One end of a control connection; `send` may be called from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self._lock = threading.Lock()
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; `Closed` if nobody is there."""
        body = json.dumps(message, separators=(",", ":")).encode()
        try:
            with self._lock:
                self.socket.sendall(LENGTH.pack(len(body)) + body)
        except OSError as error:
            raise Closed(str(error)) from None

    def receive(self) -> dict[str, Any]:
        """Wait for one message; `Closed` at the end of the connection."""
        while True:
            message = self._next()
            if message is not None:
                return message
            self._read()

    def available(self) -> list[dict[str, Any]]:
        """All messages of what can be read at once; call it when the socket is readable. `Closed` at the end."""
        self._read()
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        return found

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _read(self) -> None:
        try:
            got = self.socket.recv(1 << 16)
        except OSError as error:
            raise Closed(str(error)) from None
        if not got:
            raise Closed("the connection has ended")
        self._buffer += got

    def _next(self) -> dict[str, Any] | None:
        if len(self._buffer) < LENGTH.size:
            return None
        (size,) = LENGTH.unpack_from(self._buffer)
        if size > LONGEST:
            raise Closed("no message of ours")
        if len(self._buffer) < LENGTH.size + size:
            return None
        body = bytes(self._buffer[LENGTH.size : LENGTH.size + size])
        del self._buffer[: LENGTH.size + size]
        try:
            message = json.loads(body)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise Closed("no message of ours")
        return message
