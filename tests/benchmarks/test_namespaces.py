"""Networks of namespaces: packets take delay and rate, nothing is left behind, and what is missing is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import _namespaces
from _namespaces import Namespaces, Unavailable, remove_stale, unavailable
from _user_space_links import Links

NEEDS_ROOT = pytest.mark.skipif(unavailable() is not None, reason=f"no namespaces here: {unavailable()}")
BENCHMARKS = str(Path(_namespaces.__file__).parent)


def two(delay: float = 0.02, rate: float = 10e6) -> Namespaces:
    return Namespaces(("a", "b"), [[0, delay], [delay, 0]], [[1, rate], [rate, 1]])


@given(
    packets=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 9000)), min_size=1, max_size=30),
    delay=st.floats(0, 1),
    rate=st.floats(1e3, 1e8),
)
def test_a_packet_arrives_a_delay_after_the_link_has_let_it_through(
    packets: list[tuple[float, int]], delay: float, rate: float
) -> None:
    links = Links([[0.0, delay], [delay, 0.0]], [[1.0, rate], [rate, 1.0]])
    free, due = 0.0, []
    for number, (at, size) in enumerate(sorted(packets)):
        links.send(0, 1, number.to_bytes(2, "big") + bytes(size), at)
        free = max(free, at) + (size + 2) / rate
        due.append(free + delay)
    arrived: list[tuple[float, int]] = []
    while (time := links.wait(0.0)) is not None:
        arrived += [(time, int.from_bytes(packet[:2], "big")) for _, packet in links.arrived(time)]
    assert [number for _, number in arrived] == list(range(len(packets)))
    assert [time for time, _ in arrived] == pytest.approx(due)


def test_links_are_apart_and_a_link_that_is_none_loses_packets() -> None:
    inf = float("inf")
    links = Links([[0, 1.0, inf], [0.5, 0, 0], [0, 0, 0]], [[1, 10.0, 1], [10.0, 1, 1], [1, 1, 1]])
    links.send(0, 1, b"x" * 10, 0.0)
    links.send(0, 2, b"y" * 10, 0.0)
    links.send(1, 0, b"z" * 10, 0.0)
    assert links.arrived(1.4) == []
    assert links.arrived(1.5) == [(0, b"z" * 10)]
    assert links.arrived(99.0) == [(1, b"x" * 10)]


@pytest.mark.parametrize(
    ("delay", "rate", "message"),
    [
        ([[0, -1], [1, 0]], np.ones((2, 2)), "delay: expected seconds of 0 or more"),
        ([[0, np.nan], [1, 0]], np.ones((2, 2)), "delay: expected seconds"),
        (np.ones((2, 2)), [[1, 0], [1, 1]], "rate: expected bytes per second above 0"),
        (np.ones((3, 3)), np.ones((2, 2)), r"delay: has shape \(3, 3\), expected \(2, 2\)"),
    ],
)
def test_matrices_that_make_no_network_are_refused(delay: object, rate: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Namespaces(("a", "b"), delay, rate)  # type: ignore[arg-type]


def test_without_root_or_tools_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable, match="needs root"), two():
        pass
    assert _namespaces.main([]) == 0
    assert "skipped: needs root" in capsys.readouterr().err
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(_namespaces.shutil, "which", lambda tool: None)
    assert unavailable() in ("needs ip and tc (iproute2)", "needs Linux")


def listed() -> str:
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return spaces + subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


def entered(network: Namespaces) -> Namespaces:
    try:
        return network.__enter__()
    except Unavailable as reason:
        pytest.skip(f"no namespaces here: {reason}")


@NEEDS_ROOT
def test_a_program_runs_at_its_node_and_nothing_outlives_the_network() -> None:
    network = entered(two())
    try:
        tag = str(os.getpid())
        assert f"plb{tag}" in listed()
        shown = network.run_in("b", ["ip", "-4", "addr"], stdout=subprocess.PIPE, text=True).communicate()[0]
        assert network.address("b") in shown
        assert network.address("a") not in shown
        told = network.run_in("a", ["sh", "-c", "echo $WORD"], {**os.environ, "WORD": "x"}, stdout=subprocess.PIPE)
        assert told.communicate()[0] == b"x\n"
        sleeper = network.run_in("a", ["sleep", "600"])
    finally:
        network.__exit__(None, None, None)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert f"pathloom-{tag}" not in listed()
    assert f"plb{tag}" not in listed()


@NEEDS_ROOT
def test_what_a_killed_process_left_is_removed_by_the_next_network() -> None:
    program = (
        f"import sys; sys.path.insert(0, {BENCHMARKS!r})\n"
        "from _namespaces import Namespaces\n"
        "with Namespaces(('a', 'b'), [[0, .02], [.02, 0]], [[1, 1e6], [1e6, 1]]) as network:\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        if other.stdout.readline() != b"up\n":
            pytest.skip("no namespaces here")
        name = f"pathloom-{other.pid}-0"
        assert name not in remove_stale()  # it lives
        assert name in listed()
        other.kill()
        other.wait()
    assert name in remove_stale()
    assert str(other.pid) not in listed()


@NEEDS_ROOT
def test_an_ended_process_cleans_up_behind_itself() -> None:
    program = (
        f"import os, signal, sys; sys.path.insert(0, {BENCHMARKS!r})\n"
        "from _namespaces import Namespaces, Unavailable\n"
        "try:\n"
        "    with Namespaces(('a', 'b'), [[0, .02], [.02, 0]], [[1, 1e6], [1e6, 1]]):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "except Unavailable:\n"
        "    pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as other:
        assert other.wait(30) in (0, 128 + signal.SIGTERM)
    assert f"pathloom-{other.pid}" not in listed()


@NEEDS_ROOT
@pytest.mark.slow
def test_messages_between_nodes_take_delay_and_bytes_over_rate() -> None:
    from _message_times import MESSAGES

    delay, rate = 0.08, 5e6
    network = entered(two(delay, rate))
    script = str(Path(BENCHMARKS) / "_message_times.py")
    try:
        for role in ("receive", "serve"):
            network.run_in("b", [sys.executable, script, role, network.address("b")])
        sender = network.run_in(
            "a", [sys.executable, script, "send", "5", network.address("b")], stdout=subprocess.PIPE
        )
        found = json.loads(sender.communicate()[0])
    finally:
        network.__exit__(None, None, None)
    for size in MESSAGES:
        # Never sooner, whatever the machine is doing; how much later is the self check's affair.
        assert found["messages"][str(size)] >= 0.99 * (delay + size / rate)
    assert found["probe"]["delay"] >= 0.99 * delay
    assert found["probe"]["bandwidth"] <= 1.2 * rate
