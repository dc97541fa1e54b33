"""Slow links between network namespaces, made by one process that carries every packet: for kernels without netem.

Each namespace has a TUN device whose packets end up here. A packet from node i to node j waits until the link's earlier
packets are through, takes its bytes over the rate, and is handed to j's device one delay later. The TCP on both sides
is the kernel's own, so windows, acknowledgements and queues behave as on a real line.

Run by `_namespaces`, which writes a JSON object to standard input, waits for "ready", and closes it to end this.
"""

from __future__ import annotations

import fcntl
import gc
import heapq
import json
import math
import os
import select
import struct
import sys
import time
from contextlib import suppress

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MOST_PACKETS = 64
"""Packets read from one device before the others, and those that are due, get their turn."""


def open_device(name: str) -> int:
    """File descriptor of a new TUN device, whole IP packets without a header; it vanishes when this closes."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


class Links:
    """Queues of packets between N devices.

    Parameters
    ----------
    delay, rate
        N x N seconds and bytes per second from node to node; an infinite delay means no link.
    """

    def __init__(self, delay: list[list[float]], rate: list[list[float]]) -> None:
        self._delay, self._rate = delay, rate
        self._free = [[0.0] * len(delay) for _ in delay]
        self._due: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def send(self, source: int, target: int, packet: bytes, now: float) -> None:
        """Take a packet from `source` that is for `target`."""
        delay = self._delay[source][target]
        if math.isinf(delay):
            return
        free = max(now, self._free[source][target]) + len(packet) / self._rate[source][target]
        self._free[source][target] = free
        self._number += 1
        heapq.heappush(self._due, (free + delay, self._number, target, packet))

    def arrived(self, now: float) -> list[tuple[int, bytes]]:
        """Target and packet of all that are due by `now`, in the order of their arrival."""
        found = []
        while self._due and self._due[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._due)
            found.append((target, packet))
        return found

    def wait(self, now: float) -> float | None:
        """Seconds until the next packet is due, None if none is on its way."""
        return max(0.0, self._due[0][0] - now) if self._due else None


def carry(devices: list[int], addresses: list[bytes], links: Links, until: int) -> None:
    """Carry packets between `devices` until the descriptor `until` is at its end."""
    node_of = {address: node for node, address in enumerate(addresses)}
    source_of = {descriptor: node for node, descriptor in enumerate(devices)}
    clock = time.monotonic
    while True:
        for target, packet in links.arrived(clock()):
            # A full receive queue drops packets, as a router does
            with suppress(BlockingIOError, OSError):
                os.write(devices[target], packet)
        ready, _, _ = select.select([*devices, until], [], [], links.wait(clock()))
        for descriptor in ready:
            if descriptor == until:
                if not os.read(until, 4096):
                    return
                continue
            source = source_of[descriptor]
            for _ in range(_MOST_PACKETS):
                try:
                    packet = os.read(descriptor, 65536)
                except BlockingIOError:
                    break
                target = node_of.get(packet[16:20])
                if target is not None and packet[0] >> 4 == 4:
                    links.send(source, target, packet, clock())


def go_first() -> None:
    """Ahead of the nodes' own work, which would otherwise hold packets up on a busy machine."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
    except OSError:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -15)


def main() -> int:
    """Read the links from one line of standard input, open the devices, and carry packets until it is closed."""
    wanted = json.loads(sys.stdin.buffer.raw.readline())  # unbuffered: the end of input must reach `select`
    links = Links([[math.inf if d is None else d for d in row] for row in wanted["delay"]], wanted["rate"])
    devices = [open_device(name) for name in wanted["devices"]]
    go_first()
    gc.disable()
    print("ready", flush=True)
    carry(devices, [bytes(map(int, address.split("."))) for address in wanted["addresses"]], links, sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
