"""Sending at once, over a real socket and Twisted's own transport."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport

from pacsd.runtime.sending import plain_socket, write_now


class Pair:
    def __init__(self) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.peer.settimeout(5)
        self.transport = Connection(ours, Protocol(), MemoryReactor())
        self.transport.connected = True
        self.handle = ours

    def received(self, n_bytes: int) -> bytes:
        data = b""
        while len(data) < n_bytes:
            data += self.peer.recv(n_bytes - len(data))
        return data


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.handle.close()
    made.peer.close()


def test_bytes_leave_before_the_reactor_turns(pair: Pair) -> None:
    write_now(pair.transport, pair.handle, bytearray(b"response"))
    assert pair.received(8) == b"response"
    assert not pair.transport.dataBuffer
    assert not pair.transport._tempDataLen


def test_what_the_kernel_does_not_take_is_queued_in_order(pair: Pair) -> None:
    data = bytes(range(256)) * 20_000
    write_now(pair.transport, pair.handle, data)
    queued = pair.transport._tempDataLen
    assert 0 < queued < len(data)
    write_now(pair.transport, pair.handle, b"last")
    assert pair.transport._tempDataLen == queued + 4
    got = pair.received(len(data) - queued)
    while pair.transport._tempDataLen or len(pair.transport.dataBuffer) > pair.transport.offset:
        pair.transport.doWrite()
        got += pair.peer.recv(1 << 20)
    while len(got) < len(data) + 4:
        got += pair.peer.recv(1 << 20)
    assert got == data + b"last"


def test_a_broken_connection_is_left_to_twisted(pair: Pair) -> None:
    pair.peer.close()
    write_now(pair.transport, pair.handle, b"nobody reads this")
    assert pair.transport._tempDataLen == len(b"nobody reads this")


def test_without_a_plain_socket_the_transport_gets_bytes() -> None:
    transport = StringTransport()
    assert plain_socket(transport) is None
    write_now(transport, None, bytearray(b"abc"))
    assert transport.value() == b"abc"
