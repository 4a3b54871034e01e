"""DIMSE messages over P-DATA: put together from fragments, and cut into PDUs (PS3.7 §6.3, PS3.8 Annex E).

A message is a command set and perhaps a data set, both in one presentation context, the command first. Data
sets are passed on as they come and never kept here.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from struct import Struct
from typing import Final

from pacsd.dicom.wire.command import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_ECHO_RSP,
    C_FIND_RQ,
    C_FIND_RSP,
    C_GET_RQ,
    C_GET_RSP,
    C_MOVE_RQ,
    C_MOVE_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    HAS_DATASET,
    MAX_COMMAND_BYTES,
    N_ACTION_RQ,
    N_ACTION_RSP,
    N_CREATE_RQ,
    N_CREATE_RSP,
    N_DELETE_RQ,
    N_DELETE_RSP,
    N_EVENT_REPORT_RQ,
    N_EVENT_REPORT_RSP,
    N_GET_RQ,
    N_GET_RSP,
    N_SET_RQ,
    N_SET_RSP,
    NO_DATASET,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_MEDIUM,
    RESPONSE,
    TAGS,
    Command,
    CommandValue,
    DimseError,
    decode_command,
    encode_command,
    encode_store_response,
)
from pacsd.dicom.wire.receive import DataFragment

__all__ = [
    "CEILING_PDU_LENGTH",
    "C_CANCEL_RQ",
    "C_ECHO_RQ",
    "C_ECHO_RSP",
    "C_FIND_RQ",
    "C_FIND_RSP",
    "C_GET_RQ",
    "C_GET_RSP",
    "C_MOVE_RQ",
    "C_MOVE_RSP",
    "C_STORE_RQ",
    "C_STORE_RSP",
    "HAS_DATASET",
    "MAX_COMMAND_BYTES",
    "MAX_GAPS",
    "NO_DATASET",
    "N_ACTION_RQ",
    "N_ACTION_RSP",
    "N_CREATE_RQ",
    "N_CREATE_RSP",
    "N_DELETE_RQ",
    "N_DELETE_RSP",
    "N_EVENT_REPORT_RQ",
    "N_EVENT_REPORT_RSP",
    "N_GET_RQ",
    "N_GET_RSP",
    "N_SET_RQ",
    "N_SET_RSP",
    "PRIORITY_HIGH",
    "PRIORITY_LOW",
    "PRIORITY_MEDIUM",
    "RESPONSE",
    "TAGS",
    "Command",
    "CommandReceived",
    "CommandValue",
    "DatasetFragment",
    "DimseError",
    "MessageAssembler",
    "decode_command",
    "encode_command",
    "encode_store_response",
    "fragment",
    "frame_into",
    "message",
    "payload_per_pdu",
    "whole_pdus",
]

CEILING_PDU_LENGTH: Final = 1 << 20
"""The largest P-DATA-TF that we send, also to peers without a limit: bounds what waits in a send buffer."""

FLOOR_PDU_LENGTH: Final = 128
"""Departure from PS3.8 §D.1: a peer that announces less gets this. No device is known to; a hostile one would
have us frame every byte."""

MAX_GAPS: Final = 1024
"""What one vectored read takes (IOV_MAX on Linux)."""

_PDATA_HEADER = Struct(">BxIIBB")


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A command set is complete; with `has_dataset`, `DatasetFragment`s follow until one is last."""

    context_id: int
    command: Command
    has_dataset: bool


@dataclass(slots=True)
class DatasetFragment:
    """More of the data set of the last command; `data` may be empty when last. A view: see `DataFragment`."""

    context_id: int
    data: memoryview
    is_last: bool


class MessageAssembler:
    """Put one association's fragments together. Holds at most one command set.

    Args:
        context_ids: the accepted presentation contexts; None takes any.
        max_command_bytes: a longer command set is an error.
    """

    def __init__(
        self, context_ids: Container[int] | None = None, max_command_bytes: int = MAX_COMMAND_BYTES
    ) -> None:
        self.context_ids = context_ids
        self.max_command_bytes = max_command_bytes
        self._held = bytearray()
        self._context_id: int | None = None
        self._in_dataset = False

    @property
    def is_idle(self) -> bool:
        """Whether no message is under way."""
        return self._context_id is None

    @property
    def n_held_bytes(self) -> int:
        """Bytes of an unfinished command set."""
        return len(self._held)

    def receive(self, part: DataFragment) -> CommandReceived | DatasetFragment | None:
        """Take a fragment; give what it completes or continues.

        Raises:
            DimseError: unknown or changed context, data before its command, command before the end of the
                data, a command set too long or unreadable. Abort; the assembler is of no further use.
        """
        context_id, is_command, is_last, data = part
        if context_id != self._context_id:
            self._begin(context_id)
        if is_command:
            if self._in_dataset:
                raise DimseError("command before the end of the data set")
            return self._receive_command(context_id, data, is_last=is_last)
        if not self._in_dataset:
            raise DimseError("data set without a command that announced it")
        if is_last:
            self._in_dataset = False
            self._context_id = None
        elif not data:
            return None
        return DatasetFragment(context_id, data, is_last)

    def _begin(self, context_id: int) -> None:
        if self._context_id is not None:
            raise DimseError("another presentation context before the end of the message")
        if self.context_ids is not None and context_id not in self.context_ids:
            raise DimseError("presentation context that was not accepted")
        self._context_id = context_id

    def _receive_command(self, context_id: int, data: memoryview, *, is_last: bool) -> CommandReceived | None:
        if len(self._held) + len(data) > self.max_command_bytes:
            raise DimseError(f"command set of more than {self.max_command_bytes} bytes")
        if not is_last:
            self._held += data
            return None
        if self._held:
            self._held += data
            command = decode_command(bytes(self._held))
            self._held.clear()
        else:
            command = decode_command(data)
        has_dataset = command.has_dataset
        self._in_dataset = has_dataset
        if not has_dataset:
            self._context_id = None
        return CommandReceived(context_id, command, has_dataset)


def payload_per_pdu(max_pdu_length: int) -> int:
    """Bytes of a message that go into one PDU of ours for a peer with this limit (0: none); always even."""
    limit = max_pdu_length or CEILING_PDU_LENGTH
    return (min(max(limit, FLOOR_PDU_LENGTH), CEILING_PDU_LENGTH) - 6) & ~1


def whole_pdus(n_bytes: int, max_pdu_length: int) -> int:
    """Give the largest payload up to `n_bytes` that fills whole PDUs: at least one, at most `MAX_GAPS`.

    The step for sending a data set by several `frame_into`.
    """
    step = payload_per_pdu(max_pdu_length)
    return step * min(max(n_bytes // step, 1), MAX_GAPS)


def fragment(
    context_id: int,
    payload: bytes | memoryview,
    is_command: bool,
    max_pdu_length: int,
) -> list[bytes | memoryview]:
    """Cut a whole command set or data set into P-DATA-TF PDUs, as a list of chunks to be sent in order.

    A payload that fits one PDU gives one chunk; else headers and views into `payload` alternate.
    """
    step = payload_per_pdu(max_pdu_length)
    total = len(payload)
    if total <= step:
        return [_PDATA_HEADER.pack(4, total + 6, total + 2, context_id, is_command | 2) + payload]
    view = memoryview(payload)
    chunks: list[bytes | memoryview] = []
    for at in range(0, total, step):
        size = min(step, total - at)
        control = is_command | (2 if at + size == total else 0)
        chunks.append(_PDATA_HEADER.pack(4, size + 6, size + 2, context_id, control))
        chunks.append(view[at : at + size])
    return chunks


def message(context_id: int, command: bytes, dataset: bytes | None, max_pdu_length: int) -> bytes:
    """Give a whole message as bytes for one write: the encoded command set and a data set held in memory.

    Command and data go in PDUs of their own, as every known peer does: some old ones take only the first
    fragment of a PDU.
    """
    chunks = fragment(context_id, command, True, max_pdu_length)
    if dataset is not None:
        chunks += fragment(context_id, dataset, False, max_pdu_length)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)  # type: ignore[return-value]


def frame_into(
    n_payload_bytes: int,
    context_id: int,
    is_last: bool,
    max_pdu_length: int,
    *,
    is_command: bool = False,
) -> tuple[bytearray, list[memoryview]]:
    """Lay out P-DATA-TF PDUs around a payload yet to be read: headers are written, gaps to be filled.

    `os.preadv(fd, gaps, offset)` puts a file's bytes straight where they're sent from. Release the gaps (drop
    the list) before the buffer is resized.

    Args:
        n_payload_bytes: what will be filled in; all but the last step should come from `whole_pdus`.
        is_last: whether the payload ends the data set.

    Returns:
        The PDUs, and the gaps, whose lengths sum up to `n_payload_bytes`.

    Raises:
        ValueError: more than `MAX_GAPS` gaps would be needed.
    """
    step = payload_per_pdu(max_pdu_length)
    n_pdus = max(-(-n_payload_bytes // step), 1)
    if n_pdus > MAX_GAPS:
        raise ValueError(f"{n_payload_bytes} bytes are more than {MAX_GAPS} PDUs")
    frame = bytearray(n_payload_bytes + n_pdus * _PDATA_HEADER.size)
    view = memoryview(frame)
    gaps = []
    at, left = 0, n_payload_bytes
    for index in range(n_pdus):
        size = min(step, left)
        left -= size
        control = is_command | (2 if is_last and index == n_pdus - 1 else 0)
        _PDATA_HEADER.pack_into(frame, at, 4, size + 6, size + 2, context_id, control)
        at += _PDATA_HEADER.size
        gaps.append(view[at : at + size])
        at += size
    return frame, gaps
