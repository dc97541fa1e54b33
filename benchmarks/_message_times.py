"""How long messages take between namespaces, against what their links are meant to take.

One program listens in each namespace; another one sends it messages of several sizes over one connection. Both read the
same monotonic clock, so that a message's time is one way, from its first byte's sending to its last byte's arrival.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from _namespaces import Method, Namespaces, Unavailable
from pathloom.worlds.train.runtime.link_profile import local_probe, measure_link, serve_probe

MESSAGES = (100_000, 300_000, 1_000_000)
PORT, PROBE = 5601, 5602
TOLERANCE = 0.05
_HEADER = struct.Struct("!dQ")
__all__ = ["Unavailable", "self_check"]
_SCRIPT = str(Path(__file__).resolve())


def receive(host: str) -> None:
    """Answer every message with the seconds that it took, one connection after another, for ever."""
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_server((host, PORT)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while head := connection.recv(_HEADER.size, socket.MSG_WAITALL):
                    sent, left = _HEADER.unpack(head)
                    while left:
                        left -= connection.recv_into(buffer[: min(left, len(buffer))])
                    connection.sendall(struct.pack("!d", time.monotonic() - sent))


def send(host: str, count: int) -> dict[str, object]:
    """Median seconds of messages of every size to `host`, and what the link probe finds there."""
    taken: dict[int, float] = {}
    with socket.create_connection((host, PORT), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in MESSAGES:
            seconds = []
            message = bytearray(_HEADER.size + size)
            for _ in range(count):
                time.sleep(0.25)  # longer than a connection may rest before it counts as idle
                _HEADER.pack_into(message, 0, time.monotonic(), size)
                connection.sendall(message)
                seconds.append(struct.unpack("!d", connection.recv(8, socket.MSG_WAITALL))[0])
            taken[size] = median(seconds)
    return {"messages": taken, "probe": measure_link(host, PROBE, round_trips=7)._asdict()}


def self_check(method: Method, count: int) -> int:
    """Measure eight links of a network of four nodes and print a table; 1 if a figure is off by more than 5 %."""
    nodes = ("a", "b", "c", "d")
    delay = 1e-3 * np.array([[0, 20, 50, 200], [20, 0, 100, 80], [60, 100, 0, 150], [200, 30, 150, 0]])
    rate = 1e6 * np.array([[1, 20, 5, 2], [10, 1, 20, 10], [5, 20, 1, 1], [2, 15, 1, 1]])
    targets = {"a": "bcd", "b": "ac", "c": "ad", "d": "b"}
    worst = 0.0
    with Namespaces(nodes, delay, rate, method=method) as network:
        print(f"delays by {network.method}; node to host {1e6 * _to_host(network):.0f} us one way", flush=True)
        for node in nodes:
            for role in ("receive", "serve"):
                network.run_in(node, [sys.executable, _SCRIPT, role, network.address(node)])
        for a in nodes:
            hosts = [network.address(b) for b in targets[a]]
            command = [sys.executable, _SCRIPT, "send", str(count), *hosts]
            with network.run_in(a, command, stdout=subprocess.PIPE, text=True) as sender:
                for b, line in zip(targets[a], sender.stdout):
                    found = json.loads(line)
                    i, j = nodes.index(a), nodes.index(b)
                    name = f"{a} to {b}: {1e3 * delay[i, j]:.0f} ms, {rate[i, j] / 1e6:.0f} MB/s"
                    rows = [
                        (f"message of {size:,} bytes, s", delay[i, j] + size / rate[i, j], found["messages"][str(size)])
                        for size in MESSAGES
                    ]
                    there_and_back = (delay[i, j] + delay[j, i]) / 2
                    rows.append(("probe: half a round trip, s", there_and_back, found["probe"]["delay"]))
                    rows.append(("probe: bandwidth, MB/s", rate[i, j] / 1e6, found["probe"]["bandwidth"] / 1e6))
                    for what, wanted, measured in rows:
                        off = measured / wanted - 1
                        worst = max(worst, abs(off))
                        print(
                            f"{name:24} {what:29} wanted {wanted:8.4f}  measured {measured:8.4f}  {off:+6.1%}",
                            flush=True,
                        )
    print(f"largest error {worst:.1%}, {'within' if worst <= TOLERANCE else 'beyond'} {TOLERANCE:.0%}")
    return int(worst > TOLERANCE)


def _to_host(network: Namespaces) -> float:
    """Half a round trip from the first node to the host, seconds: the coordinator's way, which has no delay to keep."""
    with local_probe(network.host) as port:
        command = [sys.executable, _SCRIPT, "probe", network.host, str(port)]
        with network.run_in(network.nodes[0], command, stdout=subprocess.PIPE) as process:
            return float(json.loads(process.stdout.read())["delay"])


def connect(host: str, port: int, patience: float = 30.0) -> None:
    """Wait until somebody listens at ``host:port``."""
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, port), timeout=patience).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def main(role: str, *rest: str) -> int:
    """One end of a measurement: receive HOST, serve HOST, send COUNT HOST..., or probe HOST PORT."""
    if role == "receive":
        receive(rest[0])
    elif role == "serve":
        serve_probe(rest[0], PROBE)
    elif role == "send":
        for host in rest[1:]:
            for port in (PORT, PROBE):
                connect(host, port)
            print(json.dumps(send(host, int(rest[0]))), flush=True)
    else:
        print(json.dumps(measure_link(rest[0], int(rest[1]), bytes=1 << 20)._asdict()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
