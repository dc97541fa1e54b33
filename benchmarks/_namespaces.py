"""A network of slow links on one Linux machine: a network namespace a node, real TCP between them, delays and rates.

Every node gets a namespace of its own, joined to a bridge; the host has an address on that bridge and is reached
without delay. From node to node, packets take the link's delay and rate: by the kernel's own emulation (``tc``: an HTB
class and a netem queue a destination), or, where the kernel was built without netem, by a process that carries the
packets (`_user_space_links`). Needs root. ``python benchmarks/_namespaces.py`` measures a few links and prints wanted
against measured figures.

TCP would spoil "delay plus bytes over rate" for single messages: a connection begins with a small window and falls back
to one when idle. So the namespaces start with windows of a thousand segments, keep them when idle, and have buffers
beyond any message; Reno takes the place of algorithms that pace, probe, or take delay for congestion. What stays: the
first long message of a connection takes one round trip more, as no kernel announces more than 64 KiB with its SYN.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

PREFIX = "pathloom"
MOST_NODES = 200
_HERE = Path(__file__).parent
_MTU = 9000
_SETTINGS = {
    "net/ipv4/tcp_slow_start_after_idle": "0",
    "net/ipv4/tcp_no_metrics_save": "1",
    # Loss alone slows it down, and links here lose nothing; namespaces may not choose cubic on every kernel
    "net/ipv4/tcp_congestion_control": "reno",
    # No probes of a tail that only waits in a slow link's queue
    "net/ipv4/tcp_early_retrans": "0",
    "net/ipv4/tcp_rmem": "4096 33554432 67108864",
    "net/ipv4/tcp_wmem": "4096 33554432 67108864",
    # Answers come in by another device than requests to the host go out
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/disable_ipv6": "1",
}

Method = Literal["auto", "netem", "user space"]


class Unavailable(Exception):
    """Why no network can be built here, in one line."""


def unavailable() -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    missing = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)} (iproute2)"
    return None


class Namespaces:
    """A network of N nodes as a context: namespaces exist inside it, and are gone after it.

    Parameters
    ----------
    nodes
        Names, all different, at most `MOST_NODES`.
    delay
        Shape (N, N): one-way seconds from node i to node j; infinite where there is no link. The diagonal is ignored.
    rate
        Shape (N, N): bytes per second.
    method
        "netem", "user space", or "auto": netem where the kernel has it.

    Attributes
    ----------
    method
        What makes the delays, once inside: "netem" or "user space".
    host
        The host's address, for the namespaces.

    Raises
    ------
    ValueError
        For matrices of another shape, delays below 0 or rates of 0.
    Unavailable
        On entering, where this machine cannot do it.
    """

    def __init__(self, nodes: Sequence[str], delay: ArrayLike, rate: ArrayLike, *, method: Method = "auto") -> None:
        self.nodes = tuple(nodes)
        n = len(self.nodes)
        if not 0 < n <= MOST_NODES or len(set(self.nodes)) != n:
            raise ValueError(f"nodes: expected 1 to {MOST_NODES} different names")
        self.delay, self.rate = _matrix("delay", delay, n), _matrix("rate", rate, n)
        linked = np.isfinite(self.delay) & ~np.eye(n, dtype=bool)
        if (self.delay[linked] < 0).any() or np.isnan(self.delay).any():
            raise ValueError("delay: expected seconds of 0 or more")
        if not (self.rate[linked] > 0).all():
            raise ValueError("rate: expected bytes per second above 0")
        self.method: Method = method
        self.host = ""
        self._index = {name: i for i, name in enumerate(self.nodes)}
        self._tag = str(os.getpid())
        self._subnet = ""
        self._carrier: subprocess.Popen[bytes] | None = None
        self._before: Any = None
        self._built = False

    def address(self, node: str) -> str:
        """The node's address, for other nodes and for the host."""
        return self._address(self._index[node])

    def run_in(self, node: str, argv: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Start a program in the node's namespace; `options` and result are those of `subprocess.Popen`.

        The process is the program itself, not a wrapper, so signals reach it. Leaving the context kills what is left.
        """
        command = ["ip", "netns", "exec", self._space(self._index[node]), *argv]
        return subprocess.Popen(command, env=None if env is None else dict(env), **options)

    def __enter__(self) -> Namespaces:
        reason = unavailable()
        if reason is not None:
            raise Unavailable(reason)
        if self._built or Path(f"/sys/class/net/{self._bridge}").exists():
            raise RuntimeError("one network a process at a time")
        remove_stale()
        self._built = True
        with suppress(ValueError):  # only the main thread may, and only there signals arrive
            self._before = signal.signal(signal.SIGTERM, _end)
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def _bridge(self) -> str:
        return f"plb{self._tag}"

    def _space(self, node: int) -> str:
        return f"{PREFIX}-{self._tag}-{node}"

    def _address(self, node: int) -> str:
        return f"{self._subnet}.{node + 1}"

    def _build(self) -> None:
        self._subnet = _free_subnet()
        self.host = f"{self._subnet}.254"
        # Links of a bridge and of a pair of devices must have the MTU ahead of the routes that use it
        lines = [
            f"link add {self._bridge} mtu {_MTU} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"addr add {self.host}/24 dev {self._bridge}",
            f"link set {self._bridge} up",
        ]
        for node in range(len(self.nodes)):
            space, device = self._space(node), f"plv{self._tag}n{node}"
            lines += [
                f"netns add {space}",
                f"link add {device} mtu {_MTU} type veth peer name eth0 mtu {_MTU} netns {space}",
                f"link set {device} master {self._bridge} up",
            ]
        _batch(["ip"], lines)
        for node in range(len(self.nodes)):
            script = "\n".join(f"[ ! -e /proc/sys/{k} ] || echo '{v}' > /proc/sys/{k}" for k, v in _SETTINGS.items())
            _run(["ip", "netns", "exec", self._space(node), "sh", "-c", script])
            windows = "initcwnd 1000 initrwnd 1000"
            space_lines = [
                "link set lo up",
                f"addr add {self._address(node)}/24 dev eth0",
                "link set eth0 up txqueuelen 10000",
                f"route change {self._subnet}.0/24 dev eth0 src {self._address(node)} {windows}",
            ]
            _batch(["ip", "-n", self._space(node)], space_lines)
        if self.method == "auto":
            self.method = "netem" if _has_netem(self._space(0)) else "user space"
        if self.method == "netem":
            self._queue()
        else:
            self._carry()

    def _queue(self) -> None:
        """An HTB class and a netem queue for every destination, on the way out of every namespace."""
        for node in range(len(self.nodes)):
            lines = [
                "qdisc add dev eth0 root handle 1: htb default 1",
                "class add dev eth0 parent 1: classid 1:1 htb rate 100gbit quantum 200000",
            ]
            for other in self._others(node):
                way = f"1:{other + 16:x}"
                # The rate is netem's, not the class's, whose bucket would let the first packets through at once
                lines += [
                    f"class add dev eth0 parent 1: classid {way} htb rate 100gbit quantum 200000",
                    f"qdisc add dev eth0 parent {way} netem limit 100000 delay {1e6 * self.delay[node, other]:.0f}us "
                    f"rate {8 * self.rate[node, other]:.0f}bit",
                    f"filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst {self._address(other)}/32 "
                    f"flowid {way}",
                ]
            _batch(["tc", "-n", self._space(node)], lines)
            _batch(["ip", "-n", self._space(node)], self._unreachable(node))

    def _carry(self) -> None:
        """A process with a TUN device in every namespace, through which the routes to all other nodes lead."""
        n = len(self.nodes)
        devices = [f"plt{self._tag}n{node}" for node in range(n)]
        wanted = {
            "devices": devices,
            "addresses": [self._address(node) for node in range(n)],
            "delay": [[d if math.isfinite(d) else None for d in row] for row in self.delay.tolist()],
            "rate": self.rate.tolist(),
        }
        self._carrier = subprocess.Popen(
            [sys.executable, str(_HERE / "_user_space_links.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._carrier.stdin is not None and self._carrier.stdout is not None
        self._carrier.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._carrier.stdin.flush()
        if self._carrier.stdout.readline() != b"ready\n":
            raise Unavailable("needs /dev/net/tun, as the kernel has no netem")
        for node, device in enumerate(devices):
            space, here = self._space(node), self._address(node)
            _batch(["ip"], [f"link set {device} netns {space}"])
            lines = [f"link set {device} name tun0", f"link set tun0 mtu {_MTU} txqueuelen 10000 up"]
            lines += [
                f"route add {self._address(other)}/32 dev tun0 src {here} initcwnd 1000 initrwnd 1000"
                for other in self._others(node)
            ]
            _batch(["ip", "-n", space], [*lines, *self._unreachable(node)])

    def _others(self, node: int) -> list[int]:
        return [j for j in range(len(self.nodes)) if j != node and math.isfinite(self.delay[node, j])]

    def _unreachable(self, node: int) -> list[str]:
        others = self._others(node)
        missing = [j for j in range(len(self.nodes)) if j != node and j not in others]
        return [f"route add unreachable {self._address(j)}/32" for j in missing]

    def _remove(self) -> None:
        if self._carrier is not None:
            assert self._carrier.stdin is not None and self._carrier.stdout is not None
            self._carrier.stdin.close()
            try:
                self._carrier.wait(5)
            except subprocess.TimeoutExpired:
                self._carrier.kill()
                self._carrier.wait()
            self._carrier.stdout.close()
            self._carrier = None
        _remove([self._space(node) for node in range(len(self.nodes))], self._bridge)
        self._built = False
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


def _end(number: int, frame: FrameType | None) -> None:
    # Without a handler the process would end on the spot, and the namespaces would stay
    raise SystemExit(128 + number)


def remove_stale() -> list[str]:
    """Remove namespaces and bridges whose process has ended without doing so; returns the names of the namespaces."""
    spaces: dict[str, list[str]] = {}
    for name in _spaces():
        tag = name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if not Path(f"/proc/{tag}").exists():
            spaces.setdefault(tag, []).append(name)
    for bridge in Path("/sys/class/net").glob("plb*"):
        tag = bridge.name.removeprefix("plb")
        if tag.isdigit() and not Path(f"/proc/{tag}").exists():
            spaces.setdefault(tag, [])
    for tag, names in spaces.items():
        _remove(names, f"plb{tag}")
    return [name for names in spaces.values() for name in names]


def _remove(spaces: Sequence[str], bridge: str) -> None:
    """Kill what runs in the namespaces and delete them; their devices go with them."""
    existing = set(_spaces())
    for space in spaces:
        if space not in existing:
            continue
        found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
        for pid in found.stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
    # A namespace outlives its name while a connection of it is being closed; the host's end of its link must not
    tag = bridge.removeprefix("plb")
    for device in Path("/sys/class/net").glob(f"plv{tag}n*"):
        subprocess.run(["ip", "link", "del", device.name], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


def _spaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in listed.stdout.splitlines() if line.startswith(f"{PREFIX}-")]


def _free_subnet() -> str:
    """First three numbers of a private /24 that no device of this machine uses."""
    used = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    for third in range(os.getpid() % 200, os.getpid() % 200 + 50):
        if f" 10.213.{third}." not in used:
            return f"10.213.{third}"
    raise Unavailable("no private network is free")


def _has_netem(space: str) -> bool:
    """Whether the kernel knows netem, tried on a loopback device that nobody uses."""
    tried = subprocess.run(
        ["tc", "-n", space, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
        capture_output=True,
        check=False,
    )
    if tried.returncode == 0:
        _run(["tc", "-n", space, "qdisc", "del", "dev", "lo", "root"])
    return tried.returncode == 0


def _matrix(name: str, values: ArrayLike, n: int) -> NDArray[np.float64]:
    matrix = np.array(values, dtype=np.float64)
    if matrix.shape != (n, n):
        raise ValueError(f"{name}: has shape {matrix.shape}, expected ({n}, {n})")
    np.fill_diagonal(matrix, 0.0 if name == "delay" else 1.0)
    return matrix


def _batch(command: Sequence[str], lines: Sequence[str]) -> None:
    if lines:
        _run([*command, "-batch", "-"], "\n".join(lines) + "\n")


def _run(command: Sequence[str], given: str | None = None) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise Unavailable(f"{' '.join(command[:4])}: {said or f'status {done.returncode}'}")


def main(argv: list[str] | None = None) -> int:
    """Print wanted against measured figures of a few links; status 1 where one is off by more than 5 %."""
    import _message_times  # which knows this file as a module, and not as the script that it is here

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=["auto", "netem", "user space"], default="auto")
    parser.add_argument("--messages", type=int, default=7, help="messages of each size; their median counts")
    chosen = parser.parse_args(argv)
    try:
        return _message_times.self_check(chosen.method, chosen.messages)
    except _message_times.Unavailable as reason:
        print(f"namespaces: skipped: {reason}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
