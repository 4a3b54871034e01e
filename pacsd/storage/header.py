"""What the index needs of one object: names, dates, UIDs from the first bytes, oddities as flags.

The same reading serves the receive path, the recovery after a crash and `pacsd index rebuild`, so that a
row made again says what the first one said. Content never raises.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from pacsd.model.attributes import COLUMNS, SPECIFIC_CHARACTER_SET
from pacsd.model.charset import decode_text_flagged
from pacsd.model.errors import IntegrityError
from pacsd.model.objects import HEAD_CUT, ObjectHeader
from pacsd.model.scan import MAX_PACKED_BYTES, ScanResult, packed_head, scan_values
from pacsd.model.syntax import TransferSyntax, transfer_syntax
from pacsd.storage.part10 import FileMeta
from pacsd.storage.reader import read_meta

HEAD_BYTES = 64 * 1024

_FINAL_FLAGS = frozenset({"unparsable", "truncated"})
_LARGE_WINDOW_BYTES = 4 << 20
_MAX_WINDOWS = 8
_UNKNOWN_BYTES = 1 << 62

STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
_PATIENT_ID = 0x00100020

WANTED = frozenset({column.tag for column in COLUMNS} | {SPECIFIC_CHARACTER_SET})
_LAST_WANTED_GROUP = max(WANTED) >> 16
_VR_OF = {column.tag: column.vr for column in COLUMNS}
_TIME_VRS = ("DA", "TM")
_CHARSET_VRS = frozenset({"LO", "SH", "PN"})
# 0x5C and 0x7E mean other characters in JIS X 0201, so its texts take the long way
_NOT_ASCII_CHARSETS = frozenset({"ISO_IR 13", "ISO 2022 IR 13"})
_UID_CHARACTERS = b"0123456789."

ByteOrder = Literal["little", "big"]
ReadAt = Callable[[int, int], bytes]
"""(offset in the data set, count) -> bytes, short at the end. Raises OSError."""


def read_header(
    sop_class: str, sop_instance: str, syntax_uid: str, head: bytes, total_bytes: int | None = None
) -> ObjectHeader:
    """Read a header from the head alone.

    Args:
        sop_class, sop_instance: the request's (or file meta's) UIDs; '' takes the data set's.
        total_bytes: length of the data set; None when the head may be cut. Where it is cut before pixel data, the
            flag `HEAD_CUT` says that `read_file_header` may know more.
    """
    syntax = transfer_syntax(syntax_uid)
    found = scan_values(head, syntax, WANTED, total_bytes=_UNKNOWN_BYTES if total_bytes is None else total_bytes)
    flags = found.flags
    if not found.complete and not flags & _FINAL_FLAGS:
        flags |= {HEAD_CUT}
    return _header(sop_class, sop_instance, syntax, found.values, packed_head(found), flags)


def read_file_header(path: str) -> tuple[ObjectHeader, FileMeta]:
    """The header and file meta of a Part 10 file.

    Raises:
        IntegrityError: it is no DICOM file. OSError: it can't be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        meta = read_meta(fd, size)
        if meta is None:
            raise IntegrityError("file is no DICOM file")

        def read_at(offset: int, n_bytes: int) -> bytes:
            return os.pread(fd, n_bytes, meta.dataset_offset + offset)

        head = read_at(0, HEAD_BYTES)
        header = _read_on(
            meta.sop_class_uid,
            meta.sop_instance_uid,
            meta.transfer_syntax_uid,
            head,
            size - meta.dataset_offset,
            read_at,
        )
        return header, meta
    finally:
        os.close(fd)


def _read_on(
    sop_class: str, sop_instance: str, syntax_uid: str, head: bytes, total_bytes: int, read_at: ReadAt
) -> ObjectHeader:
    """Scan window after window until pixel data or the last indexed group, at most `_MAX_WINDOWS` times."""
    syntax = transfer_syntax(syntax_uid)
    found = scan_values(head, syntax, WANTED, total_bytes=total_bytes)
    values, packed, flags = found.values, packed_head(found), found.flags
    offset, window = 0, head
    for _ in range(_MAX_WINDOWS):
        step = _next_window(found, len(window))
        if step is None or offset + step[0] >= total_bytes:
            break
        if not syntax.deflated and _is_past_indexed(read_at(offset + step[0], 2), syntax):
            break
        offset += step[0]
        window = read_at(offset, step[1])
        found = scan_values(window, syntax, WANTED, total_bytes=total_bytes - offset)
        values = {**found.values, **values}
        flags |= found.flags
        more = packed_head(found)
        if syntax.deflated:
            packed = more
        elif len(packed) + len(more) <= MAX_PACKED_BYTES:
            packed += more
    return _header(sop_class, sop_instance, syntax, values, packed, flags)


def _next_window(found: ScanResult, n_window: int) -> tuple[int, int] | None:
    """(offset from this window's start, size) of what to scan next; None when the pass has come to an end."""
    if found.complete or found.flags & _FINAL_FLAGS:
        return None
    if found.resume_offset is not None and found.resume_offset > 0:
        return found.resume_offset, HEAD_BYTES
    if n_window >= _LARGE_WINDOW_BYTES:
        return None
    # an element of unknown end: it begins where the last kept span ends
    inflated = len(found.head) != n_window
    start = found.spans[-1][1] if found.spans and not inflated else 0
    return start, _LARGE_WINDOW_BYTES


def _is_past_indexed(tag_start: bytes, syntax: TransferSyntax) -> bool:
    return int.from_bytes(tag_start, "big" if syntax.big_endian else "little") > _LAST_WANTED_GROUP


def _header(
    sop_class: str,
    sop_instance: str,
    syntax: TransferSyntax,
    raw: dict[int, bytes],
    packed: bytes,
    scan_flags: frozenset[str],
) -> ObjectHeader:
    flags: set[str] = set()
    big_endian = syntax.big_endian != ("wrong-byte-order" in scan_flags)
    values = _texts(raw, "big" if big_endian else "little", flags)
    own_class, own_instance = values.get(_SOP_CLASS_UID, ""), values.get(_SOP_INSTANCE_UID, "")
    sop_class, sop_instance = _clean(sop_class, flags), _clean(sop_instance, flags)
    if (own_class and sop_class and own_class != sop_class) or (
        own_instance and sop_instance and own_instance != sop_instance
    ):
        flags.add("uid-mismatch")
    instance = sop_instance or own_instance
    if not instance:
        flags.add("missing-sop-instance-uid")
        instance = derived_uid("instance", hashlib.sha256(packed).hexdigest())
    if not values.get(_PATIENT_ID):
        flags.add("missing-patient-id")
    return ObjectHeader(
        sop_class or own_class,
        instance,
        syntax.uid,
        _uid_or_derived("study", values.get(STUDY_INSTANCE_UID, ""), instance, flags),
        _uid_or_derived("series", values.get(SERIES_INSTANCE_UID, ""), instance, flags),
        values,
        packed,
        scan_flags | flags if flags else scan_flags,
    )


def _texts(raw: dict[int, bytes], order: ByteOrder, flags: set[str]) -> dict[int, str]:
    charset = raw.get(SPECIFIC_CHARACTER_SET)
    charsets, plain = _charsets(charset) if charset else ((), True)
    values: dict[int, str] = {}
    vr_of = _VR_OF
    for tag, data in raw.items():
        vr = vr_of.get(tag)
        if vr is None:
            continue
        if vr == "US":
            values[tag] = _number(data, order, flags)
        elif vr == "UI":
            values[tag] = _uid_text(data, flags)
        elif data.isascii() and (plain or vr not in _CHARSET_VRS) and b"\x1b" not in data:
            text = data.decode("ascii").strip(" \0")
            values[tag] = _stripped(text) if "\\" in text or "\0" in text else text
            if text and vr in _TIME_VRS:
                _check_time(vr, text, flags)
        else:
            text, repaired = decode_text_flagged(data, charsets if vr in _CHARSET_VRS else (), vr)
            if repaired:
                flags.add("wrong-charset")
            values[tag] = _stripped(text)
            if vr in _TIME_VRS:
                _check_time(vr, text, flags)
    return values


@lru_cache(maxsize=128)
def _charsets(data: bytes) -> tuple[tuple[str, ...], bool]:
    """The terms of SpecificCharacterSet, and whether bytes below 0x80 without escapes are ASCII."""
    terms = tuple(term.strip(" \0") for term in data.decode("ascii", "replace").split("\\"))
    return terms, not _NOT_ASCII_CHARSETS.intersection(terms)


def _stripped(text: str) -> str:
    """Padding off each value; a NUL can't be stored by every database."""
    return "\\".join([value.strip(" \0") for value in text.split("\\")]).replace("\0", " ")


def _number(data: bytes, order: ByteOrder, flags: set[str]) -> str:
    if not data:
        return ""
    if len(data) not in (2, 4):
        flags.add("bad-number")
        data = data[:2]
    return str(int.from_bytes(data, order))


def _uid_text(data: bytes, flags: set[str]) -> str:
    if data[-1:] == b"\0":
        data = data[:-1]
    if data and data.translate(None, _UID_CHARACTERS):
        flags.add("padded-uid" if not data.strip(b" \0").translate(None, _UID_CHARACTERS) else "bad-uid")
    return data.decode("ascii", "replace").strip(" \0\t\r\n").replace("\0", "")


def _clean(uid: str, flags: set[str]) -> str:
    bare = uid.strip(" \0")
    if len(uid) - len(bare) > (uid[-1:] == "\0"):
        flags.add("padded-uid")
    return bare


def _check_time(vr: str, text: str, flags: set[str]) -> None:
    """Flag what is no date (YYYYMMDD) or time (HHMMSS.FFFFFF or less) of PS3.5 §6.2."""
    if vr == "DA":
        if len(text) == 8 and text.isdigit() and "01" <= text[4:6] <= "12" and "01" <= text[6:] <= "31":
            return
        if text:
            flags.add("bad-date")
        return
    whole, _, part = text.partition(".")
    if whole.isdigit() and len(whole) in (2, 4, 6) and whole[:2] < "24" and (not part or part.isdigit()):
        return
    if text:
        flags.add("bad-time")


def _uid_or_derived(what: str, uid: str, instance: str, flags: set[str]) -> str:
    """A usable UID as it is, else a derived one.

    A missing one comes from the instance, an impossible one from its own text: objects that share it stay
    together.
    """
    if not uid:
        flags.add(f"missing-{what}-uid")
        return derived_uid(what, instance)
    if len(uid) > 64 or not uid.replace(".", "").isdigit() or not uid.isascii():
        flags.add(f"bad-{what}-uid")
        return derived_uid(what, uid)
    return uid


def derived_uid(what: str, source: str) -> str:
    """The UID that stands for a missing one: always the same for the same source (PS3.5 §B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{what}:{source}').int}"
