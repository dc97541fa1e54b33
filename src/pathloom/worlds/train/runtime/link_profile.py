"""What a link between two machines takes: a probe that answers on one of them, and a measurement from the other.

The delay is half the median round trip of a few bytes. The bandwidth comes from streams that grow on one connection
until the last one takes half a second or reaches the largest size; growing warms up TCP's window, so that the figure is
that of a connection in use, as training has them, and not that of its first moments.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from pathloom.plan import InputError

HELLO = b"pathloom-probe-1"
LARGEST = 64 * 1024 * 1024
LIMIT = 2**40
"""Longest stream that a probe takes part in; more is no measurement."""

_COMMAND = struct.Struct("!cQ")
_PING, _TAKE, _GIVE = b"P", b"T", b"G"
_CHUNK = 256 * 1024
_LONG_ENOUGH = 0.5
_ROUNDS = 3


class LinkFigures(NamedTuple):
    """One direction of a link: one-way ``delay`` in seconds, ``bandwidth`` in bytes per second."""

    delay: float
    bandwidth: float


def address(text: str, *, key: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT" (an IPv6 address in brackets).

    Raises
    ------
    InputError
        Names `key`, if it is something else.
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise InputError(f"expected HOST:PORT, such as 10.0.0.7:5600, found '{text}'", key=key)
    return host, int(port)


def serve_probe(
    host: str,
    port: int,
    *,
    ready: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    timeout: float = 30.0,
) -> None:
    """Answer measurements on ``host:port``, one after another, until `stop` is set.

    Parameters
    ----------
    port
        0 takes any free port.
    ready
        Called once with the port when the probe listens.
    stop
        Looked at five times a second; None: serve until the process is interrupted.
    timeout
        Seconds without a byte after which a client is given up, so that the next one is served.

    Raises
    ------
    InputError
        If the port is in use or the address is not one of this machine.
    """
    with _listener(host, port) as listener:
        listener.settimeout(0.2)
        if ready is not None:
            ready(listener.getsockname()[1])
        while stop is None or not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(timeout)
                try:
                    _answer(connection)
                except OSError:
                    continue  # that client has gone or hangs; the next one may be sound


def measure_link(
    host: str,
    port: int,
    *,
    bytes: int = LARGEST,
    back: bool = False,
    round_trips: int = 21,
    timeout: float = 10.0,
) -> LinkFigures:
    """Delay and bandwidth from this machine to the probe at ``host:port``.

    Parameters
    ----------
    bytes
        Largest stream, in bytes; slow links never get that far.
    back
        True: the bandwidth from the probe to here instead. The delay is half a round trip either way.
    round_trips
        Small messages whose median is taken, after two that warm up.
    timeout
        Seconds to wait for the connection, and for every answer.

    Raises
    ------
    InputError
        Names the peer and what it did: no connection, no answer in time, another program, an end in the middle.
    """
    peer = f"{host}:{port}"
    if bytes < 1 or bytes > LIMIT:
        raise InputError(f"expected 1 to {LIMIT} bytes, found {bytes}", key=peer)
    try:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(HELLO)
            if _receive(connection, len(HELLO)) != HELLO:
                raise InputError("answers, but is no probe of pathloom", key=peer)
            trips = [_round_trip(connection) for _ in range(round_trips + 2)][2:]
            trip = median(trips)
            return LinkFigures(trip / 2, _bandwidth(connection, bytes, trip, _GIVE if back else _TAKE))
    except TimeoutError:
        message = f"no answer within {timeout:g} s; expected a probe there that no other measurement keeps busy"
        raise InputError(message, key=peer) from None
    except ConnectionRefusedError:
        raise InputError("refuses connections; expected a probe to be started there first", key=peer) from None
    except socket.gaierror as error:
        raise InputError(f"is no known address: {error.strerror or error}", key=peer) from None
    except (ConnectionError, EOFError):
        raise InputError("closed the connection in the middle of the measurement", key=peer) from None
    except OSError as error:
        raise InputError(f"cannot be reached: {error.strerror or error}", key=peer) from None


def measure_loopback(*, bytes: int = LARGEST) -> LinkFigures:
    """Delay and bandwidth between two processes of this machine, through its loopback device."""
    with local_probe() as port:
        return measure_link("127.0.0.1", port, bytes=bytes)


@contextmanager
def local_probe(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A probe in a thread of this process while the context lasts; gives its port.

    Raises
    ------
    InputError
        As `serve_probe`.
    """
    stop, listening = threading.Event(), threading.Event()
    ports: list[int] = []
    failed: list[InputError] = []

    def ready(bound: int) -> None:
        ports.append(bound)
        listening.set()

    def serve() -> None:
        try:
            serve_probe(host, port, ready=ready, stop=stop)
        except InputError as error:
            failed.append(error)
            listening.set()

    thread = threading.Thread(target=serve, name="pathloom-probe", daemon=True)
    thread.start()
    listening.wait()
    try:
        if failed:
            raise failed[0]
        yield ports[0]
    finally:
        stop.set()
        thread.join()


def _listener(host: str, port: int) -> socket.socket:
    peer = f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=16)
    except socket.gaierror as error:
        raise InputError(f"is no known address: {error.strerror or error}", key=peer) from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"cannot be listened on: {reason}; expected a free port of this machine", key=peer) from None


def _answer(connection: socket.socket) -> None:
    """One client's measurement, from the probe's side."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if _receive(connection, len(HELLO)) != HELLO:
            return
        connection.sendall(HELLO)
        while True:
            command, size = _COMMAND.unpack(_receive(connection, _COMMAND.size))
            if size > LIMIT or command not in (_PING, _TAKE, _GIVE):
                return
            if command == _TAKE:
                _swallow(connection, size)
            if command == _GIVE:
                _pour(connection, size)
            else:
                connection.sendall(_COMMAND.pack(command, size))
    except EOFError:
        return


def _round_trip(connection: socket.socket) -> float:
    began = time.perf_counter()
    connection.sendall(_COMMAND.pack(_PING, 0))
    _receive(connection, _COMMAND.size)
    return time.perf_counter() - began


def _bandwidth(connection: socket.socket, largest: int, trip: float, command: bytes) -> float:
    """Bytes per second of the last and longest of growing streams, the median of a few.

    A stream and the word that asks for it or confirms it take one round trip beside the bytes themselves.
    """
    size = min(64 * 1024, largest)
    while True:
        seconds = _stream(connection, size, command)
        if size >= largest or seconds - trip >= _LONG_ENOUGH:
            break
        size = min(4 * size, largest)
    again = [_stream(connection, size, command) for _ in range(_ROUNDS - 1)]
    # Where a whole stream takes no longer than a round trip may, the trips' own spread must not divide by zero.
    moved = median(max(taken - trip, 0.05 * taken, 1e-9) for taken in [seconds, *again])
    return size / moved


def _stream(connection: socket.socket, size: int, command: bytes) -> float:
    began = time.perf_counter()
    connection.sendall(_COMMAND.pack(command, size))
    if command == _TAKE:
        _pour(connection, size)
        _receive(connection, _COMMAND.size)
    else:
        _swallow(connection, size)
    return time.perf_counter() - began


def _pour(connection: socket.socket, size: int) -> None:
    # Random, as a tunnel on the way may compress.
    chunk = memoryview(os.urandom(min(size, _CHUNK)))
    for begin in range(0, size, _CHUNK):
        connection.sendall(chunk[: min(_CHUNK, size - begin)])


def _swallow(connection: socket.socket, size: int) -> None:
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    while size:
        got = connection.recv_into(view[: min(size, _CHUNK)])
        if not got:
            raise EOFError
        size -= got


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise EOFError
        received += part
    return received
