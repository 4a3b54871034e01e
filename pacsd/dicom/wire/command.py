"""DIMSE command sets: group 0000 in implicit VR little endian (PS3.7 §6.3, §9.3, §10.3, Annex E).

    0-1   group, always 0000
    2-3   element
    4-7   length of what follows
    8-    value

The group length comes first and is not trusted when read.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final

from pacsd.dicom.wire.items import REASON_INVALID_PARAMETER, SERVICE_PROVIDER

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
C_GET_RQ: Final = 0x0010
C_GET_RSP: Final = 0x8010
C_FIND_RQ: Final = 0x0020
C_FIND_RSP: Final = 0x8020
C_MOVE_RQ: Final = 0x0021
C_MOVE_RSP: Final = 0x8021
C_ECHO_RQ: Final = 0x0030
C_ECHO_RSP: Final = 0x8030
N_EVENT_REPORT_RQ: Final = 0x0100
N_EVENT_REPORT_RSP: Final = 0x8100
N_GET_RQ: Final = 0x0110
N_GET_RSP: Final = 0x8110
N_SET_RQ: Final = 0x0120
N_SET_RSP: Final = 0x8120
N_ACTION_RQ: Final = 0x0130
N_ACTION_RSP: Final = 0x8130
N_CREATE_RQ: Final = 0x0140
N_CREATE_RSP: Final = 0x8140
N_DELETE_RQ: Final = 0x0150
N_DELETE_RSP: Final = 0x8150
C_CANCEL_RQ: Final = 0x0FFF

RESPONSE: Final = 0x8000
"""The bit of CommandField that tells a response from its request."""

PRIORITY_MEDIUM: Final = 0x0000
PRIORITY_HIGH: Final = 0x0001
PRIORITY_LOW: Final = 0x0002

NO_DATASET: Final = 0x0101
"""CommandDataSetType when no data set follows; we write 0001 when one does, and read all else as that."""

HAS_DATASET: Final = 0x0001

MAX_COMMAND_BYTES: Final = 64 << 10

CommandValue = str | int | bytes | tuple[int, ...]

# element, VR, keyword: PS3.7 Table E.1-1, then what of Table E.2-1 (retired) peers still send.
_FIELDS: Final = """
0002 UI AffectedSOPClassUID
0003 UI RequestedSOPClassUID
0100 US CommandField
0110 US MessageID
0120 US MessageIDBeingRespondedTo
0600 AE MoveDestination
0700 US Priority
0800 US CommandDataSetType
0900 US Status
0901 AT OffendingElement
0902 LO ErrorComment
0903 US ErrorID
1000 UI AffectedSOPInstanceUID
1001 UI RequestedSOPInstanceUID
1002 US EventTypeID
1005 AT AttributeIdentifierList
1008 US ActionTypeID
1020 US NumberOfRemainingSuboperations
1021 US NumberOfCompletedSuboperations
1022 US NumberOfFailedSuboperations
1023 US NumberOfWarningSuboperations
1030 AE MoveOriginatorApplicationEntityTitle
1031 US MoveOriginatorMessageID
0001 UL CommandLengthToEnd
0010 SH CommandRecognitionCode
0200 AE Initiator
0300 AE Receiver
0400 AE FindLocation
0850 US NumberOfMatches
0860 US ResponseSequenceNumber
"""
TAGS: Final[Mapping[str, int]] = {
    keyword: int(element, 16) for element, _, keyword in map(str.split, _FIELDS.split("\n")[1:-1])
}
"""Tag of each keyword; the group being 0000, it's the element's number."""

KEYWORDS: Final[Mapping[int, str]] = {tag: keyword for keyword, tag in TAGS.items()}

_VRS: Final[dict[int, str]] = {
    int(element, 16): vr for element, vr, _ in map(str.split, _FIELDS.split("\n")[1:-1])
}
_INT_BYTES: Final = {tag: 4 if vr == "UL" else 2 for tag, vr in _VRS.items() if vr in ("US", "UL")}
_AS_UID: Final = frozenset(tag for tag, vr in _VRS.items() if vr == "UI")
_AS_TEXT: Final = frozenset(tag for tag, vr in _VRS.items() if vr in ("UI", "AE", "LO", "SH"))
_AS_TAGS: Final = frozenset(tag for tag, vr in _VRS.items() if vr == "AT")

_COMMAND_FIELD: Final = TAGS["CommandField"]
_DATASET_TYPE: Final = TAGS["CommandDataSetType"]
_STATUS: Final = TAGS["Status"]
_MESSAGE_ID: Final = TAGS["MessageID"]
_RESPONDED_TO: Final = TAGS["MessageIDBeingRespondedTo"]
_ALWAYS_WITH_DATASET: Final = frozenset({C_STORE_RQ, C_FIND_RQ, C_MOVE_RQ, C_GET_RQ})

_ELEMENT = Struct("<HHI")
_TWO_BYTES = Struct("<H")


class DimseError(ValueError):
    """The peer broke PS3.7; abort the association with `source` and `reason`. The text holds no values."""

    source: Final = SERVICE_PROVIDER
    reason: Final = REASON_INVALID_PARAMETER


class Command(dict[int, CommandValue]):
    """A command set as tag → value, in any order; also read and written by keyword as attribute.

    `command.MessageID` is None when absent; `command[0x0110]` raises KeyError then. UIDs and text are str
    without padding, US and UL int, AT a tuple of tags, elements of unknown meaning bytes. None is never
    stored.
    """

    __slots__ = ()

    def __init__(
        self, values: Mapping[int, CommandValue] | None = None, /, **fields: CommandValue | None
    ) -> None:
        super().__init__(values or {})
        for keyword, value in fields.items():
            setattr(self, keyword, value)

    def __getattr__(self, keyword: str) -> Any:
        try:
            return self.get(TAGS[keyword])
        except KeyError:
            raise AttributeError(keyword) from None

    def __setattr__(self, keyword: str, value: CommandValue | None) -> None:
        tag = TAGS.get(keyword)
        if tag is None:
            raise AttributeError(keyword)
        if value is None:
            self.pop(tag, None)
        else:
            self[tag] = value

    @property
    def has_dataset(self) -> bool:
        """Whether a data set follows. Where the peer doesn't say, its message's kind does."""
        dataset_type = self.get(_DATASET_TYPE)
        if dataset_type is None:
            return self.get(_COMMAND_FIELD) in _ALWAYS_WITH_DATASET
        return dataset_type != NO_DATASET

    @property
    def is_response(self) -> bool:
        """Whether it answers one of ours."""
        return bool(self.CommandField & RESPONSE)


def encode_command(command: Mapping[int, CommandValue]) -> bytes:
    """Encode a command set with its group length, in the order of tags.

    Raises:
        ValueError: a value doesn't fit its VR.
    """
    parts = [_encode_element(tag, command[tag]) for tag in sorted(command) if tag]
    body = b"".join(parts)
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def decode_command(raw: bytes | memoryview) -> Command:
    """Read a command set as peers send it: any order, padding of any kind, wrong or no group length.

    Raises:
        DimseError: lengths overrun, an element isn't of group 0000, or there is no command field or message
            id.
    """
    raw = bytes(raw)
    command = Command()
    at, end = 0, len(raw)
    while at < end:
        if end - at < 8:
            raise DimseError("command set ends within an element")
        group, tag, length = _ELEMENT.unpack_from(raw, at)
        at += 8
        after = at + length
        if group or after > end:
            raise DimseError("command set isn't group 0000 in implicit VR little endian")
        if tag in _INT_BYTES:
            if length == 2:
                (command[tag],) = _TWO_BYTES.unpack_from(raw, at)
            elif length:
                command[tag] = int.from_bytes(raw[at : min(after, at + _INT_BYTES[tag])], "little")
        elif tag:
            command[tag] = _decode_value(tag, raw[at:after])
        at = after
    _check_identified(command)
    return command


def encode_store_response(command: Command, status: int, error_comment: str | None = None) -> bytes:
    """Encode the C-STORE-RSP to a C-STORE-RQ, given back with the UIDs it came with (PS3.7 §9.3.1.2)."""
    comment = b"" if error_comment is None else _encode_element(TAGS["ErrorComment"], error_comment)
    body = b"".join(
        (
            _encode_element(TAGS["AffectedSOPClassUID"], command.get(TAGS["AffectedSOPClassUID"], "")),
            _STORE_RESPONSE.pack(
                *(0, _COMMAND_FIELD, 2, C_STORE_RSP),
                *(0, _RESPONDED_TO, 2, command[_MESSAGE_ID]),
                *(0, _DATASET_TYPE, 2, NO_DATASET),
                *(0, _STATUS, 2, status),
            ),
            comment,
            _encode_element(TAGS["AffectedSOPInstanceUID"], command.get(TAGS["AffectedSOPInstanceUID"], "")),
        )
    )
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


_STORE_RESPONSE = Struct("<" + "HHIH" * 4)


def _check_identified(command: Command) -> None:
    field = command.get(_COMMAND_FIELD)
    if not isinstance(field, int):
        raise DimseError("command set without a command field")
    answers = field & RESPONSE or field == C_CANCEL_RQ
    if (_RESPONDED_TO if answers else _MESSAGE_ID) not in command:
        raise DimseError("command set without its message id")


def _decode_value(tag: int, raw: bytes) -> CommandValue:
    if tag in _AS_TEXT:
        return raw.strip(b"\0 ").decode("latin-1")
    if tag in _AS_TAGS:
        words = [int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw) & ~3, 2)]
        return tuple(group << 16 | element for group, element in zip(words[::2], words[1::2], strict=True))
    return raw


def _encode_element(tag: int, value: CommandValue) -> bytes:
    raw = _encode_value(tag, value)
    return _ELEMENT.pack(0, tag, len(raw)) + raw


def _encode_value(tag: int, value: CommandValue) -> bytes:
    if isinstance(value, str):
        raw = value.encode("latin-1", "replace")
        return raw if not len(raw) & 1 else raw + (b"\0" if tag in _AS_UID else b" ")
    if isinstance(value, int):
        n_bytes = _INT_BYTES.get(tag, 2)
        if not 0 <= value < 1 << 8 * n_bytes:
            raise ValueError(f"{KEYWORDS.get(tag, hex(tag))} is out of its range")
        return value.to_bytes(n_bytes, "little")
    if isinstance(value, tuple):
        return b"".join(_TWO_BYTES.pack(one >> 16) + _TWO_BYTES.pack(one & 0xFFFF) for one in value)
    return value
