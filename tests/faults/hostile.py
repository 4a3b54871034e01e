"""What hostile and broken peers send: whole conversations as bytes, and what becomes of them by mutation."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Sequence

from pacsd.dicom.wire import dimse, pdu
from pacsd.dicom.wire.dimse import Command
from pacsd.dicom.wire.sop_classes import STUDY_ROOT_FIND, VERIFICATION
from tests.crash.made import make
from tests.crash.sender import ECHO_CONTEXT, FIND_CONTEXT, STORE_CONTEXT, Address, request
from tests.interop.objects import CT

REQUEST = pdu.encode_pdu(request())
RELEASE = pdu.encode_pdu(pdu.ReleaseRequest())
_KEYS = (
    bytes.fromhex("0800520006000000") + b"STUDY " + bytes.fromhex("1000100002000000") + b"A*"
    + bytes.fromhex("20000d0000000000")
)  # fmt: skip
NUMBERS = (0, 1, 2, 4, 0x7F, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def command(context: int, field: int, sop_class: str, dataset: bytes | None = None, **more: str) -> bytes:
    """A whole request as PDUs."""
    values = Command(
        AffectedSOPClassUID=sop_class, CommandField=field, MessageID=1, Priority=0,
        CommandDataSetType=dimse.NO_DATASET if dataset is None else dimse.HAS_DATASET, **more,
    )  # fmt: skip
    return dimse.message(context, dimse.encode_command(values), dataset, 16384)


def store(uid: str, data: bytes) -> bytes:
    """A C-STORE request as PDUs."""
    return command(STORE_CONTEXT, dimse.C_STORE_RQ, CT, data, AffectedSOPInstanceUID=uid)


def conversations() -> list[bytes]:
    """Good ones, to be spoiled."""
    echo = command(ECHO_CONTEXT, dimse.C_ECHO_RQ, VERIFICATION)
    find = command(FIND_CONTEXT, dimse.C_FIND_RQ, STUDY_ROOT_FIND, _KEYS)
    item = make(900, 1, 300)
    return [
        REQUEST + echo + RELEASE,
        REQUEST + find + RELEASE,
        REQUEST + store("1.2.900.1", item.data) + RELEASE,
        REQUEST + echo + store("1.2.900.2", item.data) + find + echo,
        REQUEST + pdu.encode_pdu(pdu.Abort(0, 0)),
        REQUEST,
    ]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A conversation or data set with a few faults: changed, lost, doubled, swapped pieces, wrong lengths."""
    spoiled = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not spoiled:
            break
        at = chance.randrange(len(spoiled))
        size = chance.choice((1, 1, 2, 4, 8, 40, 200))
        match chance.randrange(7):
            case 0:
                spoiled[at] ^= 1 << chance.randrange(8)
            case 1:
                del spoiled[at : at + size]
            case 2:
                spoiled[at:at] = spoiled[at : at + size]
            case 3:
                spoiled[at : at + size] = chance.randbytes(size)
            case 4:
                spoiled[at : at + 4] = struct.pack(chance.choice("<>") + "L", chance.choice(NUMBERS))
            case 5:
                spoiled[at : at + 2] = struct.pack(chance.choice("<>") + "H", chance.choice(NUMBERS) & 0xFFFF)
            case 6:
                del spoiled[at:]
    return bytes(spoiled)


def talk(address: Address, pieces: Sequence[bytes], limit_s: float = 2.0) -> bytes:
    """Send bytes, say nothing more, and return all that comes until the server has closed.

    AssertionError if it doesn't close within the limit.
    """
    end = time.monotonic() + limit_s
    answer = bytearray()
    with socket.create_connection(address, limit_s) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while got := connection.recv(65536):
                answer += got
                assert time.monotonic() < end, "the server goes on sending"
        except TimeoutError:
            raise AssertionError("the server keeps a connection whose peer has ended") from None
        except OSError:
            # It was reset, or gone before we had said all.
            return bytes(answer)
    return bytes(answer)
