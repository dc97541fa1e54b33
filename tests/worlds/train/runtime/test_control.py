"""Control messages keep their borders over any split of the bytes, and an end of the connection is noticed."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pathloom.worlds.train.runtime.control import LENGTH, Channel, Closed

Pair = tuple[Channel, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A channel, and the bare socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        mine, _ = server.accept()
    channel = Channel(mine)
    mine.settimeout(20)
    other.settimeout(20)
    yield channel, other
    channel.close()
    other.close()


def framed(*messages: object) -> bytes:
    bodies = [json.dumps(message).encode() for message in messages]
    return b"".join(LENGTH.pack(len(body)) + body for body in bodies)


JSON = st.dictionaries(
    st.text(max_size=8),
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=40), st.lists(st.floats(-1, 1))),
    max_size=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(JSON, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_messages_come_out_as_they_went_in_wherever_the_bytes_are_cut(
    pair: Pair, messages: list[dict], cuts: list[int]
) -> None:
    channel, other = pair
    content = framed(*messages)
    borders = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    found: list[dict] = []
    for begin, end in itertools.pairwise(borders):
        if begin == end:
            continue
        other.sendall(content[begin:end])
        while len(channel._buffer) + sum(len(framed(m)) for m in found) < end:
            found += channel.available()
    assert found == messages


def test_waiting_for_one_message_leaves_the_next_where_it_is(pair: Pair) -> None:
    channel, other = pair
    other.sendall(framed({"a": 1}, {"b": 2}))
    assert channel.receive() == {"a": 1}
    assert channel.receive() == {"b": 2}


def test_what_one_end_sends_the_other_receives(pair: Pair) -> None:
    channel, other = pair
    there = Channel(other)
    there.send({"say": "höre", "tasks": [[0, 1, 0.5, 1e-9]]})
    assert channel.receive() == {"say": "höre", "tasks": [[0, 1, 0.5, 1e-9]]}


def test_messages_of_several_threads_do_not_mix(pair: Pair) -> None:
    channel, other = pair
    there = Channel(other)

    def talk(who: int) -> None:
        for number in range(50):
            there.send({"who": who, "number": number, "padding": "x" * 5000})

    threads = [threading.Thread(target=talk, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    heard = [channel.receive() for _ in range(150)]
    for thread in threads:
        thread.join()
    for who in range(3):
        assert [message["number"] for message in heard if message["who"] == who] == list(range(50))


def test_the_end_of_the_connection_is_told(pair: Pair) -> None:
    channel, other = pair
    other.sendall(framed({"last": True})[:-3])
    other.close()
    with pytest.raises(Closed):
        channel.receive()
    with pytest.raises(Closed):
        channel.available()


def test_nothing_can_be_sent_to_somebody_who_has_gone(pair: Pair) -> None:
    channel, other = pair
    other.close()
    with pytest.raises(Closed):
        for _ in range(100):
            channel.send({"padding": "x" * 100_000})


def test_a_closed_channel_says_so_and_can_be_closed_again(pair: Pair) -> None:
    channel, _ = pair
    channel.close()
    channel.close()
    with pytest.raises(Closed):
        channel.send({})


def test_a_length_that_nobody_would_send_ends_the_connection(pair: Pair) -> None:
    channel, other = pair
    other.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(Closed, match="no message of ours"):
        channel.available()


@pytest.mark.parametrize(
    "body", [b"[1, 2]", b"7", b"{", b"\xff\xfe", b""], ids=["list", "number", "cut", "bytes", "nothing"]
)
def test_a_body_that_is_no_mapping_ends_the_connection(pair: Pair, body: bytes) -> None:
    channel, other = pair
    other.sendall(LENGTH.pack(len(body)) + body)
    with pytest.raises(Closed, match="no message of ours"):
        channel.available()
