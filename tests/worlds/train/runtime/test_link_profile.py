"""A probe answers measurements of delay and bandwidth, and every failure names the peer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pathloom.plan import InputError
from pathloom.worlds.train.runtime.link_profile import (
    address,
    local_probe,
    measure_link,
    measure_loopback,
    serve_probe,
)

SMALL = 256 * 1024


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that treats its one client as `answer` does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def run() -> None:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                answer(client)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server.getsockname()[1]
    thread.join(5)


@contextmanager
def slow_road(port: int, hold: float, rate: float) -> Iterator[int]:
    """A relay to `port` that keeps every piece of data for `hold` seconds and lets `rate` bytes a second through."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(16 * 1024):
                time.sleep(hold + len(data) / rate)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def relay(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as far:
            back = threading.Thread(target=carry, args=(far, client), daemon=True)
            back.start()
            carry(client, far)
            back.join(5)

    with listening(relay) as entrance:
        yield entrance


def test_loopback_has_a_delay_and_a_bandwidth() -> None:
    figures = measure_loopback(bytes=SMALL)
    assert figures.delay > 0
    assert figures.bandwidth > 0


@pytest.mark.parametrize("back", [False, True])
def test_what_holds_messages_back_is_delay_and_what_thins_streams_is_bandwidth(back: bool) -> None:
    # Bounds that hold however slow the machine is: a sleep never ends early.
    with local_probe() as port, slow_road(port, hold=0.004, rate=4e6) as entrance:
        figures = measure_link("127.0.0.1", entrance, bytes=SMALL, back=back, round_trips=5)
    assert figures.delay >= 0.004
    assert figures.bandwidth <= 4.4e6


def test_a_probe_serves_one_measurement_after_another() -> None:
    with local_probe() as port:
        several = [measure_link("127.0.0.1", port, bytes=size) for size in (1, 1000, SMALL)]
    assert all(figures.delay > 0 and figures.bandwidth > 0 for figures in several)


def test_a_client_that_vanishes_does_not_stop_the_probe() -> None:
    with local_probe() as port:
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", b"pathloom-probe-1T\0\0\0\0\0\1\0\0half"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(sent)
        assert measure_link("127.0.0.1", port, bytes=1000).bandwidth > 0


def test_a_port_in_use_is_refused_by_name() -> None:
    with local_probe() as port, pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: .*in use"):
        serve_probe("127.0.0.1", port)


def test_a_peer_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: refuses connections"):
        measure_link("127.0.0.1", port)


def test_a_peer_that_keeps_silent_is_named_when_time_is_out() -> None:
    silent = threading.Event()
    with listening(lambda client: silent.wait(5) and None) as port:
        with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: no answer within 0\.2 s"):
            measure_link("127.0.0.1", port, timeout=0.2)
        silent.set()


def test_another_program_is_no_probe() -> None:
    greets = listening(lambda client: client.sendall(b"SSH-2.0-OpenSSH_9.2 hello"))
    with greets as port, pytest.raises(InputError, match="no probe of pathloom"):
        measure_link("127.0.0.1", port, timeout=5)


def test_a_peer_that_ends_in_the_middle_is_named() -> None:
    def hang_up(client: socket.socket) -> None:
        client.sendall(client.recv(100))

    with listening(hang_up) as port, pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: closed the connection"):
        measure_link("127.0.0.1", port, timeout=5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.7:5600", ("10.0.0.7", 5600)), ("gpu-3.lab:0", ("gpu-3.lab", 0)), ("[::1]:80", ("::1", 80))],
)
def test_addresses_are_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert address(text, key="--serve") == expected


@pytest.mark.parametrize("text", ["", "here", ":80", "here:", "here:x", "here:70000", "here:-1"])
def test_other_texts_are_no_addresses(text: str) -> None:
    with pytest.raises(InputError, match=r"--serve: expected HOST:PORT"):
        address(text, key="--serve")
