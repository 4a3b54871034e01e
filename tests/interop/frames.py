"""DIMSE messages as bytes, so that a test decides where each byte goes: in which fragment, PDU and segment."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.interop.objects import WireObject

COMMAND, LAST = 1, 2
A_ABORT = struct.pack(">BxL2xBB", 7, 4, 0, 0)
A_RELEASE_RQ = struct.pack(">BxL4x", 5, 4)


def command(elements: dict[int, bytes | str | int]) -> bytes:
    """A command set: element number in group 0000 → value; text is padded with NUL, numbers are US."""
    body = b""
    for number, value in sorted(elements.items()):
        encoded = _value(value)
        body += struct.pack("<HHL", 0, number, len(encoded)) + encoded
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _value(value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return struct.pack("<H", value)
    return value if isinstance(value, bytes) else value.encode() + b"\0" * (len(value) % 2)


def store_request(item: WireObject, message_id: int = 1) -> bytes:
    """C-STORE-RQ."""
    return command({0x0002: item.sop_class, 0x0100: 0x0001, 0x0110: message_id, 0x0700: 0, 0x0800: 1,
                    0x1000: item.sop_instance})  # fmt: skip


def cancel_request(message_id: int) -> bytes:
    """C-CANCEL-RQ."""
    return command({0x0100: 0x0FFF, 0x0120: message_id, 0x0800: 0x0101})


def pdu(*values: tuple[int, int, bytes]) -> bytes:
    """A P-DATA-TF with these presentation data values: context id, control, fragment."""
    body = b"".join(struct.pack(">LBB", len(data) + 2, context, control) + data for context, control, data in values)
    return struct.pack(">BxL", 4, len(body)) + body


def message(context: int, command_set: bytes, data: bytes | None, sizes: Sequence[int] = (16000,)) -> bytes:
    """A whole message; its fragments have these sizes in turn, each in a PDU of its own."""
    parts = [(COMMAND, command_set)] if data is None else [(COMMAND, command_set), (0, data)]
    out = b""
    for kind, payload in parts:
        at, turn = 0, 0
        while True:
            size = sizes[turn % len(sizes)]
            last = at + size >= len(payload)
            out += pdu((context, kind | (LAST if last else 0), payload[at : at + size]))
            at, turn = at + size, turn + 1
            if last:
                break
    return out
