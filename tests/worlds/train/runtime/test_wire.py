"""The wire between nodes: tensors arrive as they were sent, as late as the plan says, and nobody minds the dead."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from pathloom.worlds.train.runtime.wire import DTYPES, HEADER, MAGIC, Message, Wire  # noqa: E402

PATIENCE = 20.0
HOST = "127.0.0.1"

Join = Callable[..., list[Wire]]


@pytest.fixture
def joined() -> Iterator[Join]:
    """Make wires that know each other; they are closed at the end."""
    made: list[Wire] = []

    def make(count: int = 2, seconds: Mapping[int, float] | None = None, *, same_clock: bool = True) -> list[Wire]:
        wires = [Wire(i, HOST, timeout=5.0) for i in range(count)]
        made.extend(wires)
        addresses = {i: wire.address for i, wire in enumerate(wires)}
        for wire in wires:
            wire.join(addresses, seconds or {}, same_clock=same_clock)
            wire.begin(1)
        return wires

    yield make
    for wire in made:
        wire.close()


def received(wire: Wire) -> Message:
    message = wire.take(PATIENCE)
    assert message is not None, "nothing has come"
    return message


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4), (2, 1, 3, 2), ()], ids=str)
def test_a_tensor_arrives_bit_for_bit(joined: Join, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    a, b = joined()
    sent = (torch.randn(shape) * 100).to(dtype)
    a.send(1, row=3, task=4, tensor=sent)
    message = received(b)
    assert (message.iteration, message.sender, message.row, message.task) == (1, 0, 3, 4)
    assert message.tensor is not None
    assert message.tensor.dtype == dtype and message.tensor.shape == shape
    assert bits(message.tensor) == bits(sent)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_messages_of_any_sizes_arrive_whole_and_in_order(joined: Join, sizes: list[int], seed: int) -> None:
    a, b = joined()
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randint(-9, 9, (size,), generator=generator) for size in sizes]
    for row, tensor in enumerate(tensors):
        a.send(1, row, 0, tensor)
    for row, tensor in enumerate(tensors):
        message = received(b)
        assert message.row == row
        assert message.tensor is None if not len(tensor) else torch.equal(message.tensor, tensor)
    for wire in (a, b):
        wire.close()


def test_several_megabytes_in_both_directions_at_once(joined: Join) -> None:
    """More than the system's buffers hold: a node that waited for its peer to read would wait for ever."""
    a, b = joined()
    count, size = 8, 1 << 20
    tensors = {wire.node: [torch.randn(size) for _ in range(count)] for wire in (a, b)}
    for row in range(count):
        a.send(1, row, 0, tensors[0][row])
        b.send(0, row, 0, tensors[1][row])
    for wire, sender in ((b, 0), (a, 1)):
        for row in range(count):
            message = received(wire)
            assert message.sender == sender and message.row == row
            assert message.tensor is not None and torch.equal(message.tensor, tensors[sender][row])


def test_a_sender_does_not_wait_for_a_receiver_that_is_busy(joined: Join) -> None:
    a, b = joined()
    with b.changed:  # its thread can hand nothing over
        for row in range(4):
            a.send(1, row, 0, torch.zeros(3 << 20))
    assert [received(b).row for _ in range(4)] == [0, 1, 2, 3]


def test_parts_of_a_tensor_are_sent_as_what_they_are(joined: Join) -> None:
    a, b = joined()
    whole = torch.arange(24.0).view(4, 6)
    a.send(1, 0, 0, whole.t()[1:3])
    message = received(b)
    assert message.tensor is not None and torch.equal(message.tensor, whole.t()[1:3])


def test_what_arrives_has_no_history(joined: Join) -> None:
    a, b = joined()
    leaf = torch.ones(3, requires_grad=True)
    for to in (0, 1):  # to itself, too: a node may follow on itself
        a.send(to, 0, 0, leaf * 2)
    for wire in (a, b):
        message = received(wire)
        assert message.tensor is not None and message.tensor.is_leaf and not message.tensor.requires_grad


def test_a_notice_arrives_without_a_tensor(joined: Join) -> None:
    a, b = joined(seconds={0: 30.0})
    a.send(1, 5, 0, None)
    assert received(b) == Message(1, 0, 5, 0, None)  # and carries nothing that a link would have to carry


def test_a_message_takes_as_long_as_its_link_in_the_plan(joined: Join) -> None:
    a, b = joined(seconds={0: 0.3, 1: 0.0})
    before = time.monotonic()
    a.send(1, 0, 0, torch.zeros(1))
    assert b.take(0.0) is None
    received(b)
    assert time.monotonic() - before >= 0.3


def test_links_delay_each_sender_by_its_own_time(joined: Join) -> None:
    a, b, c = joined(3, seconds={0: 0.5, 1: 0.05})
    a.send(2, 0, 0, torch.zeros(1))
    b.send(2, 1, 0, torch.zeros(1))
    assert [received(c).sender, received(c).sender] == [1, 0]


def test_messages_do_not_wait_for_each_other_on_a_link(joined: Join) -> None:
    a, b = joined(seconds={0: 0.4})
    before = time.monotonic()
    for row in range(20):
        a.send(1, row, 0, torch.zeros(1))
    sent = time.monotonic()
    for _ in range(20):
        received(b)
    assert time.monotonic() >= before + 0.4
    assert sent - before < 0.4 * 20  # one after another they would have taken eight seconds


def test_without_a_common_clock_the_time_counts_from_the_arrival(joined: Join) -> None:
    a, b = joined(seconds={0: 0.2}, same_clock=False)
    a.send(1, 0, 0, torch.zeros(1))
    while not b.waiting():
        time.sleep(0.001)
    arrived = time.monotonic()
    received(b)
    assert time.monotonic() - arrived >= 0.19


def test_what_is_waiting_is_known_before_it_is_due(joined: Join) -> None:
    a, b = joined(seconds={0: 60.0})
    a.send(1, 7, 2, torch.zeros(1))
    until = time.monotonic() + PATIENCE
    while not b.waiting() and time.monotonic() < until:
        time.sleep(0.001)
    assert b.waiting() == [(7, 2)]
    assert b.take(0.0) is None


def test_messages_of_later_iterations_wait_and_those_of_earlier_ones_are_dropped(joined: Join) -> None:
    a, b = joined()
    a.send(1, 0, 0, torch.zeros(1))  # of iteration 1, not taken in time
    a.begin(2)
    a.send(1, 1, 0, torch.zeros(1))
    a.begin(3)
    a.send(1, 2, 0, torch.zeros(1))
    a.send(1, 3, 0, None)
    while len(b._early) < 3:
        time.sleep(0.001)
    b.begin(2)
    assert received(b).row == 1
    assert b.take(0.05) is None
    b.begin(3)
    assert {received(b).row, received(b).row} == {2, 3}
    a.begin(2)
    a.send(1, 4, 0, None)
    a.begin(3)
    a.send(1, 5, 0, None)
    assert received(b).row == 5  # the same connection keeps its order: the one before was dropped


def test_a_notice_to_oneself_comes_at_its_second(joined: Join) -> None:
    (a,) = joined(1)
    now = time.monotonic()
    a.notify_at(1, 0, now + 0.3)
    a.notify_at(2, 0, now + 0.1)
    assert [received(a).row, received(a).row] == [2, 1]
    assert time.monotonic() >= now + 0.3


def test_an_interruption_ends_the_waiting(joined: Join) -> None:
    (a,) = joined(1)
    threading.Timer(0.1, a.interrupt).start()
    assert a.take(None) is None
    assert a.take(0.0) is None


def test_a_dead_peer_disturbs_nobody(joined: Join) -> None:
    a, b, c = joined(3)
    a.send(1, 0, 0, torch.zeros(1))
    received(b)
    b.close()
    for row in range(20):
        a.send(1, row, 0, torch.zeros(1 << 18))
        a.send(2, row, 0, torch.zeros(4))
        assert received(c).row == row


def test_a_peer_that_is_given_up_with_its_buffers_full_leaves_the_wire_sound(joined: Join) -> None:
    """The descriptor of its connection is soon another one's."""
    a, c = joined()
    with socket.create_server((HOST, 0)) as deaf:
        a.join({0: a.address, 1: c.address, 2: deaf.getsockname()[:2]}, {}, same_clock=True)
        for row in range(16):
            a.send(2, row, 0, torch.zeros(1 << 20))  # nobody reads
        until = time.monotonic() + PATIENCE
        while not a._flushing and time.monotonic() < until:
            time.sleep(0.001)
        a.forget(2)
        a.send(2, 99, 0, torch.zeros(1))
        for row in range(8):  # new connections take the free descriptors
            with contextlib.closing(Wire(9, HOST)) as other:
                other.join({0: a.address}, {}, same_clock=True)
                other.begin(1)
                other.send(0, row, 0, torch.ones(2))
                assert received(a).row == row
        big = torch.randn(6 << 20)
        a.send(1, 1, 1, big)
        message = received(c)
        assert message.tensor is not None and torch.equal(message.tensor, big)


def test_bytes_that_nobody_will_read_are_given_up(joined: Join) -> None:
    (a,) = joined(1)
    with socket.create_server((HOST, 0)) as server:
        a.join({0: a.address, 1: server.getsockname()[:2]}, {}, same_clock=True)
        for row in range(16):
            a.send(1, row, 0, torch.zeros(1 << 20))
        server.accept()[0].close()
        until = time.monotonic() + PATIENCE
        while (a._flushing or a._asked) and time.monotonic() < until:
            time.sleep(0.001)
        assert not a._flushing  # a descriptor that is always ready would keep the thread busy for ever


def test_a_node_that_has_moved_is_called_at_its_new_address(joined: Join) -> None:
    a, b, c = joined(3)
    a.send(1, 0, 0, None)
    assert received(b).row == 0
    a.forget(1)
    a.join({0: a.address, 1: c.address}, {}, same_clock=True)
    a.send(1, 1, 0, None)
    assert received(c).row == 1
    assert b.take(0.05) is None


def header(**changes: int) -> bytes:
    fields = {"magic": MAGIC, "iteration": 1, "sender": 1, "row": 0, "task": 0, "dtype": 0, "dimensions": 1, "size": 8}
    fields |= changes
    sizes = [2, 0, 0, 0] if "sizes" not in changes else [changes["sizes"]] * 4
    fields.pop("sizes", None)
    return HEADER.pack(*fields.values(), 0.0, *sizes)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 10,
        header(magic=1) + bytes(8),
        header(dtype=200) + bytes(8),
        header(dimensions=9) + bytes(8),
        header(size=9) + bytes(9),
        header(size=-8) + bytes(8),
        header(sizes=-2) + bytes(8),
        header(sizes=1 << 30, dimensions=4) + bytes(8),
        header()[:20],
        header() + bytes(3),
        b"",
    ],
    ids=["http", "magic", "type", "dimensions", "size", "negative", "shape", "huge", "header", "body", "nothing"],
)
def test_garbage_on_the_port_is_refused(joined: Join, garbage: bytes) -> None:
    a, b = joined()
    with socket.create_connection(b.address, timeout=PATIENCE) as stranger:
        with contextlib.suppress(ConnectionError):  # as soon as it is known for what it is
            stranger.sendall(garbage)
        with contextlib.suppress(OSError):
            stranger.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert stranger.recv(1) == b""
    a.send(1, 4, 0, torch.ones(3))
    assert received(b).row == 4
