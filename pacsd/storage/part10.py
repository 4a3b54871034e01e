"""The file meta information of a Part 10 file, read only (PS3.10 §7.1).

    0    128  preamble (any bytes)
    128    4  'DICM'
    132       group 0002, explicit VR little endian; (0002,0000) UL gives the length of what follows it

Files of ours are exact. Foreign files come without a preamble, with a wrong group length, with a data set
only, or with the meta group in implicit VR; they are read as far as possible.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pacsd.model.syntax import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

META_READ_BYTES = 4096
"""Bytes of a file's beginning that nearly always hold the group; `parse_meta` raises for more."""
MAX_META_BYTES = 1 << 20

_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_EXPLICIT = struct.Struct("<HH2sH").unpack_from
_IMPLICIT = struct.Struct("<HHL").unpack_from
_LONG = struct.Struct("<L").unpack_from


class MetaIncompleteError(Exception):
    """The bytes end inside the group; `needed` bytes of the file may be enough."""

    def __init__(self, needed: int) -> None:
        super().__init__("file meta information goes on")
        self.needed = needed


class FileMeta(NamedTuple):
    """What the group says.

    Attributes:
        sop_class_uid, sop_instance_uid: '' where absent.
        transfer_syntax_uid: guessed from the data set where absent.
        source_ae: SourceApplicationEntityTitle or ''.
        dataset_offset: where the data set begins.
        flags: `no-preamble`, `no-meta`, `no-transfer-syntax`, `wrong-meta-length`.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    source_ae: str
    dataset_offset: int
    flags: frozenset[str]


def parse_meta(start: bytes, size_bytes: int) -> FileMeta | None:
    """Read the group from the first bytes of a file; None when it doesn't look like DICOM at all.

    Args:
        start: the file's beginning. size_bytes: of the whole file.

    Raises:
        MetaIncompleteError: `start` isn't the whole file and ends inside the group.
    """
    flags: set[str] = set()
    if start[128:132] == b"DICM":
        begin = 132
    elif start[:4] == b"DICM":
        begin = 4
        flags.add("no-preamble")
    elif _first_group(start) is not None:
        begin = 0
        flags.add("no-preamble")
    else:
        return None
    values, end = _walk(start, begin, size_bytes)
    stated = values.get(0)
    if stated is not None and len(stated) == 4 and begin + 12 + _LONG(stated, 0)[0] != end:
        flags.add("wrong-meta-length")
    if end == begin:
        flags.add("no-meta")
    syntax = _uid(values.get(0x10))
    if not syntax:
        syntax = _guess_syntax(start[end : end + 8])
        flags.add("no-transfer-syntax")
    source = values.get(0x16, b"").decode("ascii", "replace").strip(" \0")
    return FileMeta(_uid(values.get(2)), _uid(values.get(3)), syntax, source, end, frozenset(flags))


def _first_group(start: bytes) -> int | None:
    """The group number of a plausible first element of a file without 'DICM', else None."""
    if len(start) < 8:
        return None
    group, element, vr, _ = _EXPLICIT(start, 0)
    little = group in (0x0002, 0x0008) and element < 0x3000
    big = start[:2] == b"\0\x08" and start[4:6].isalpha()
    plausible = (vr.isalpha() and vr.isupper()) or _IMPLICIT(start, 0)[2] < 1 << 16
    return group if (little and plausible) or big else None


def _walk(start: bytes, begin: int, size_bytes: int) -> tuple[dict[int, bytes], int]:
    """Elements of group 0002 by element number, and where the group ends: at another group's tag."""
    values: dict[int, bytes] = {}
    pos, end = begin, len(start)
    while True:
        if pos + 8 > end:
            return values, _end_or_more(pos, pos + 8, end, size_bytes)
        group, element, vr, length = _EXPLICIT(start, pos)
        if group != 2:
            return values, pos
        value = pos + 8
        if vr in _LONG_VRS:
            if pos + 12 > end:
                return values, _end_or_more(pos, pos + 12, end, size_bytes)
            length = _LONG(start, pos + 8)[0]
            value = pos + 12
        elif not vr.isalpha():
            length = _IMPLICIT(start, pos)[2]
        following = value + length
        if following > size_bytes or following > MAX_META_BYTES:
            return values, pos
        if following > end:
            return values, _end_or_more(pos, following, end, size_bytes)
        values[element] = start[value:following]
        pos = following


def _end_or_more(pos: int, needed: int, have: int, size_bytes: int) -> int:
    if have < size_bytes and needed <= size_bytes:
        raise MetaIncompleteError(min(size_bytes, needed + META_READ_BYTES))
    return pos


def _uid(value: bytes | None) -> str:
    return value.decode("ascii", "replace").strip(" \0") if value else ""


def _guess_syntax(first: bytes) -> str:
    if first[4:6].isalpha() and first[4:6].isupper():
        return EXPLICIT_BIG if first[:1] == b"\0" and first[1:2] != b"\0" else EXPLICIT_LITTLE
    return IMPLICIT_LITTLE
