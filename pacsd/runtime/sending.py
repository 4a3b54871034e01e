"""Sending without waiting for the next turn of the reactor.

Twisted's `write` only queues: the bytes leave after another round of epoll, and a bytearray must be copied into bytes
first. Where nothing is queued before them, the bytes can as well be handed to the kernel at once.
"""

from __future__ import annotations

import socket
from typing import Any


def plain_socket(transport: Any) -> socket.socket | None:
    """The socket under a transport if what is written goes there unchanged; None for TLS and in tests."""
    handle = getattr(transport, "getHandle", None)
    found = handle() if handle is not None else None
    is_plain = isinstance(found, socket.socket) and not getattr(transport, "TLS", False)
    return found if is_plain else None


def n_queued_bytes(transport: Any) -> int:
    """Bytes that were written and that the kernel hasn't taken yet; 0 for a transport that doesn't say."""
    if not hasattr(transport, "_tempDataLen"):
        return 0
    n_bytes: int = transport._tempDataLen + len(transport.dataBuffer) - transport.offset  # noqa: SLF001 - see write_now
    return n_bytes


def write_now(transport: Any, handle: socket.socket | None, data: bytes | bytearray) -> None:
    """Write like `transport.write`, but at once as far as the kernel takes it. Thread: reactor.

    Args:
        handle: what `plain_socket` gave for this transport.
        data: may be changed by the caller afterwards.
    """
    rest: bytes | bytearray | memoryview = data
    # The names with an underscore are Twisted's own: what is queued and not yet sent. tests/runtime/test_sending.py
    # fails when a release of Twisted names them otherwise.
    if handle is not None and not transport.dataBuffer and not transport._tempDataLen and not transport.disconnecting:  # noqa: SLF001 - see above
        try:
            n_sent = handle.send(data)
        except OSError:
            n_sent = 0  # full, or broken: Twisted's own write finds out which and acts on it
        if n_sent == len(data):
            return
        rest = memoryview(data)[n_sent:]
    transport.write(bytes(rest))
