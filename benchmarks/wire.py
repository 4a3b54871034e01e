"""A small blocking DICOM client, so that what is measured is the server and not the client's library.

It shares no code with pacsd. It opens one association, sends requests, streams objects of any size without holding
them, and reads responses; PS3.7 and PS3.8 as far as that needs.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
LARGEST_PDU = 262144
PENDING = (0xFF00, 0xFF01)
_NO_DATASET = 0x0101
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


class Refused(Exception):
    """The peer didn't do what was asked for."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response message; `dataset` is b"" if there is none; `n_completed` sub-operations, where counted."""

    status: int
    dataset: bytes
    n_completed: int = 0


class Association:
    """One association with one presentation context, explicit VR little endian. One thread.

    Raises:
        Refused: the association or its context is rejected.
    """

    def __init__(self, port: int, called: str, abstract_syntax: str, *, calling: str = "BENCH") -> None:
        self._abstract_syntax = abstract_syntax
        self._message_id = 0
        self._waiting: list[tuple[int, bytes]] = []
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb", 1 << 18)
        self._socket.sendall(_associate_request(called, calling, abstract_syntax))
        kind, body = self._read_pdu()
        if kind != 0x02:
            raise Refused(f"association answered by a PDU of type {kind:#04x}")
        result, self._peer_max_pdu = _accepted(body)
        if result:
            raise Refused(f"presentation context refused, result {result}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._socket.sendall(struct.pack(">BxLL", 0x05, 4, 0))
            self._read_pdu()
        self._reader.close()
        self._socket.close()

    def find(self, identifier: bytes) -> Iterator[Response]:
        """C-FIND; the pending responses. Raises Refused for any final status but Success."""
        self._send_command(0x0020, [], has_dataset=True)
        self._send(0x02, identifier)
        while True:
            response = self._response()
            if response.status not in PENDING:
                break
            yield response
        if response.status:
            raise Refused(f"C-FIND ended with status {response.status:#06x}")

    def move(self, identifier: bytes, destination: str) -> Response:
        """C-MOVE; the final response. Raises Refused for any status but Success."""
        self._send_command(0x0021, [(0x0600, _padded(destination, b" "))], has_dataset=True)
        self._send(0x02, identifier)
        while (response := self._response()).status in PENDING:
            pass
        if response.status:
            raise Refused(f"C-MOVE ended with status {response.status:#06x}")
        return response

    def store(self, sop_instance_uid: str, n_bytes: int, parts: Iterable[bytes | memoryview]) -> Response:
        """C-STORE of a data set that comes in `parts`, `n_bytes` in all; none is kept."""
        self._send_command(0x0001, [(0x1000, _padded(sop_instance_uid))], has_dataset=True)
        room = self._peer_max_pdu - 6
        left = n_bytes
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), room):
                piece = view[start : start + room]
                left -= len(piece)
                self._send_fragment(0x00 if left else 0x02, piece)
        assert not left
        return self._response()

    def _send_command(self, field: int, elements: list[tuple[int, bytes]], *, has_dataset: bool) -> None:
        self._message_id += 1
        all_elements = [
            (0x0002, _padded(self._abstract_syntax)),
            (0x0100, struct.pack("<H", field)),
            (0x0110, struct.pack("<H", self._message_id & 0xFFFF)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", 0 if has_dataset else _NO_DATASET)),
            *elements,
        ]
        body = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in sorted(all_elements))
        self._send(0x03, struct.pack("<HHLL", 0, 0, 4, len(body)) + body)

    def _send(self, control: int, body: bytes) -> None:
        room = self._peer_max_pdu - 6
        for start in range(0, len(body), room):
            is_last = start + room >= len(body)
            self._send_fragment(control if is_last else control & 0x01, memoryview(body)[start : start + room])

    def _send_fragment(self, control: int, piece: memoryview) -> None:
        n = len(piece)
        header = struct.pack(">BxLLBB", 0x04, n + 6, n + 2, 1, control)
        n_sent = self._socket.sendmsg([header, piece])
        if n_sent < len(header):
            self._socket.sendall(header[n_sent:])
            n_sent = len(header)
        if n_sent < len(header) + n:
            self._socket.sendall(piece[n_sent - len(header) :])

    def _response(self) -> Response:
        command = self._message()
        values = dict(_elements(command))
        (kind,) = struct.unpack("<H", values[0x0800])
        (status,) = struct.unpack("<H", values[0x0900])
        (n_completed,) = struct.unpack("<H", values.get(0x1021, b"\0\0"))
        return Response(status, self._message() if kind != _NO_DATASET else b"", n_completed)

    def _message(self) -> bytes:
        """The command or the data set of the next message."""
        pieces = []
        while True:
            if not self._waiting:
                self._waiting = self._fragments()
            control, piece = self._waiting.pop(0)
            pieces.append(piece)
            if control & 0x02:
                return b"".join(pieces)

    def _fragments(self) -> list[tuple[int, bytes]]:
        kind, body = self._read_pdu()
        if kind != 0x04:
            raise Refused(f"the peer ended the association by a PDU of type {kind:#04x}")
        found = []
        at = 0
        while at < len(body):
            (length,) = struct.unpack_from(">L", body, at)
            found.append((body[at + 5], body[at + 6 : at + 4 + length]))
            at += 4 + length
        return found

    def _read_pdu(self) -> tuple[int, bytes]:
        header = self._reader.read(6)
        if len(header) < 6:
            raise Refused("the peer closed the connection")
        kind, length = struct.unpack(">BxL", header)
        return kind, self._reader.read(length)


def encode(dataset: Dataset) -> bytes:
    """A data set in explicit VR little endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def decode(data: bytes) -> Dataset:
    """A data set in explicit VR little endian."""
    return read_dataset(DicomBytesIO(data), is_implicit_VR=False, is_little_endian=True)


def held_instances(port: int, called: str, study_uid: str, series_uid: str) -> set[str]:
    """The SOP Instance UIDs by which a server's C-FIND answers for a series."""
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "IMAGE"
    wanted.StudyInstanceUID, wanted.SeriesInstanceUID, wanted.SOPInstanceUID = study_uid, series_uid, ""
    with Association(port, called, STUDY_ROOT_FIND) as association:
        return {str(decode(answer.dataset).SOPInstanceUID) for answer in association.find(encode(wanted))}


def _padded(text: str, padding: bytes = b"\0") -> bytes:
    value = text.encode()
    return value + padding * (len(value) % 2)


def _elements(command: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(command):
        element, length = struct.unpack_from("<2xHL", command, at)
        yield element, command[at + 8 : at + 8 + length]
        at += 8 + length


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _associate_request(called: str, calling: str, abstract_syntax: str) -> bytes:
    syntaxes = _item(0x30, abstract_syntax.encode()) + _item(0x40, ExplicitVRLittleEndian.encode())
    user = _item(0x51, struct.pack(">L", LARGEST_PDU)) + _item(0x52, b"2.25.1") + _item(0x55, b"BENCH")
    body = struct.pack(">H2x16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    body += _item(0x10, _APPLICATION_CONTEXT.encode()) + _item(0x20, b"\x01\0\0\0" + syntaxes) + _item(0x50, user)
    return struct.pack(">BxL", 0x01, len(body)) + body


def _accepted(body: bytes) -> tuple[int, int]:
    """Result of the one presentation context, and how long a PDU may be."""
    result, longest = -1, LARGEST_PDU
    at = 68
    while at < len(body):
        kind, length = struct.unpack_from(">BxH", body, at)
        value = body[at + 4 : at + 4 + length]
        if kind == 0x21:
            result = value[2]
        elif kind == 0x50 and value[0] == 0x51:
            (given,) = struct.unpack_from(">L", value, 4)
            longest = min(given or longest, longest)
        at += 4 + length
    return result, longest
