"""The head of a kept file: preamble, DICM, file meta information (PS3.10 §7.1).

    0-127    preamble, ours all NUL
    128-131  "DICM"
    132-     group 0002 in explicit VR little endian

The data set follows, in the transfer syntax that (0002,0010) names.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from pacsd.dicom.wire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"

ENOUGH_HEAD_BYTES: Final = 64 << 10
"""So much of a file holds every file meta that is not made to be long."""

_SHORT = Struct("<HH2sH")
_LONG_HEADER_BYTES: Final = 12
_IMPLICIT = Struct("<HHI")
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_VERSION: Final = b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"


class Part10Error(ValueError):
    """The head can't be told apart: it ends within its file meta, or holds no data element at all."""


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the head of a file says; '' for what it doesn't.

    `dataset_offset` counts from the head's first byte. `transfer_syntax` is guessed from the first data
    element where the meta has none; `is_guessed` tells.
    """

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    source_ae: str
    implementation_class_uid: str
    implementation_version: str
    dataset_offset: int
    is_guessed: bool


def encode_file_meta(sop_class: str, sop_instance: str, transfer_syntax: str, source_ae: str = "") -> bytes:
    """Give all that comes before the data set: the same arguments give the same bytes, always.

    Raises:
        ValueError: an argument has characters outside Latin-1.
    """
    parts = [
        _VERSION,
        _element(0x0002, b"UI", sop_class),
        _element(0x0003, b"UI", sop_instance),
        _element(0x0010, b"UI", transfer_syntax),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION),
    ]
    if source_ae:
        parts.append(_element(0x0016, b"AE", source_ae))
    body = b"".join(parts)
    return bytes(128) + b"DICM" + _SHORT.pack(2, 0, b"UL", 4) + len(body).to_bytes(4, "little") + body


def decode_file_meta(head: bytes) -> FileMeta:
    """Read the head of any file that may hold a data set.

    Takes a preamble of any content (TIFF), no preamble with or without DICM, a wrong or missing group length,
    group 0002 in implicit VR, and no file meta at all.

    Args:
        head: the file's beginning, at least all of its file meta; `ENOUGH_HEAD_BYTES` will do.

    Raises:
        Part10Error: see there.
    """
    at = _start_of_meta(head)
    values: dict[int, bytes] = {}
    while head[at : at + 2] == b"\x02\x00":
        element, start, after = _read_element(head, at)
        values[element] = head[start:after]
        at = after

    def text(element: int) -> str:
        return values.get(element, b"").strip(b"\0 ").decode("latin-1")

    transfer_syntax = text(0x0010)
    return FileMeta(
        sop_class=text(0x0002),
        sop_instance=text(0x0003),
        transfer_syntax=transfer_syntax or _guess(head, at),
        source_ae=text(0x0016),
        implementation_class_uid=text(0x0012),
        implementation_version=text(0x0013),
        dataset_offset=at,
        is_guessed=not transfer_syntax,
    )


def _element(element: int, vr: bytes, value: str) -> bytes:
    raw = value.encode("latin-1")
    if len(raw) & 1:
        raw += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(2, element, vr, len(raw)) + raw


def _start_of_meta(head: bytes) -> int:
    if head[128:132] == b"DICM":
        return 132
    if head[:4] == b"DICM":
        return 4
    return 0


def _read_element(head: bytes, at: int) -> tuple[int, int, int]:
    if at + _SHORT.size > len(head):
        raise Part10Error("file ends within its file meta")
    _, element, vr, length = _SHORT.unpack_from(head, at)
    start = at + _SHORT.size
    if vr in _LONG_VRS:
        start = at + _LONG_HEADER_BYTES
        length = int.from_bytes(head[start - 4 : start], "little")
    elif vr not in _SHORT_VRS:
        _, _, length = _IMPLICIT.unpack_from(head, at)
    if start + length > len(head):
        raise Part10Error("file ends within its file meta")
    return element, start, start + length


def _guess(head: bytes, at: int) -> str:
    """Tell the encoding from the first element: its VR, and the order of its group, which is below 0100."""
    if len(head) < at + 8:
        raise Part10Error("no data element behind the file meta")
    if head[at + 4 : at + 6] not in _LONG_VRS | _SHORT_VRS:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if head[at] == 0 and head[at + 1] else EXPLICIT_LITTLE
