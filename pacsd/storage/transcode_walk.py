"""Walks the bytes of a dataset element by element, to any depth, without recursion or reading values.

A dataset is seen as a flat run of nodes (an element, the begin or end of a sequence or an item), each with
the place of its value in the file. Memory grows only with the depth, which is bounded. Runs in a codec
worker: it needs pydicom's data dictionary for implicit VR (PS3.5 §7.1, §7.5, A.1 to A.4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from pydicom.datadict import dictionary_VR, private_dictionary_VR

PIXEL_DATA = 0x7FE00010
MAX_DEPTH = 100_000
UNDEFINED = 0xFFFFFFFF

_ITEM, _ITEM_DELIMITER, _SEQUENCE_DELIMITER = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_WINDOW_BYTES = 1 << 16
_SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())

_BLANK_VR = (b"  ", b"??", b"--")


class MalformedDataset(Exception):
    """The bytes are not a dataset in the syntax they claim. The text names no value, only places."""


class Kind(Enum):
    """What a node is: see Node."""

    ELEMENT = auto()
    SEQUENCE = auto()
    SEQUENCE_END = auto()
    ITEM = auto()
    ITEM_END = auto()
    FRAGMENTS = auto()


@dataclass(frozen=True, slots=True)
class Node:
    """One step of the walk.

    Attributes:
        kind: ELEMENT has a value of `length` bytes at `pos`; FRAGMENTS an encapsulated one (PS3.5 A.4), its
            `length` includes the delimiter; SEQUENCE and ITEM open, the _END kinds close.
        tag: group << 16 | element.
        vr: two letters, or the dictionary's alternatives ("US or SS") where the VR is implicit.
        dataset: place of the first byte of the dataset (or item) that the element is in; for ITEM, of the
            item's own.
        little: the value's byte order.
    """

    kind: Kind
    tag: int
    vr: str
    pos: int
    length: int
    dataset: int
    little: bool


class Source:
    """Random access to an open file through one small window, so that a walk costs few system calls."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size
        self._start = 0
        self._window = b""

    def read(self, pos: int, n_bytes: int) -> bytes:
        """Return exactly `n_bytes` from `pos`; raises MalformedDataset past the end of the file."""
        offset = pos - self._start
        if offset < 0 or offset + n_bytes > len(self._window):
            if pos + n_bytes > self.size:
                raise MalformedDataset(f"an element at byte {pos} runs past the end of the object")
            self._window, self._start, offset = self._read_at(pos, max(n_bytes, _WINDOW_BYTES)), pos, 0
            if len(self._window) < n_bytes:
                raise MalformedDataset("the object shrank while it was read")
        return self._window[offset : offset + n_bytes]

    def chunks(self, pos: int, n_bytes: int, step: int = 1 << 20) -> Iterator[bytes]:
        """Yield a range in pieces of at most `step` bytes (a multiple of 8, so that no word is cut)."""
        end = pos + n_bytes
        if end > self.size:
            raise MalformedDataset(f"a value at byte {pos} runs past the end of the object")
        while pos < end:
            n = min(step, end - pos)
            piece = self.read(pos, n) if n <= _WINDOW_BYTES else self._read_at(pos, n)
            if len(piece) < n:
                raise MalformedDataset("the object shrank while it was read")
            yield piece
            pos += n

    def _read_at(self, pos: int, n_bytes: int) -> bytes:
        parts = []
        while n_bytes and (part := os.pread(self._fd, n_bytes, pos)):
            parts.append(part)
            pos += len(part)
            n_bytes -= len(part)
        return b"".join(parts) if len(parts) != 1 else parts[0]


@dataclass(slots=True)
class _Level:
    """A dataset or item (`items` False), or the list of items of a sequence (`items` True)."""

    end: int | None
    items: bool
    tag: int
    implicit: bool
    little: bool
    dataset: int
    creators: dict[int, str] = field(default_factory=dict)


_standard_vr: dict[int, str] = {}


def _vr_of_standard(tag: int) -> str:
    vr = _standard_vr.get(tag)
    if vr is None:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "UL" if tag & 0xFFFF == 0 else "UN"
        _standard_vr[tag] = vr
    return vr


class Walk:
    """Iterates over a dataset's nodes from `start` to the end of the source.

    Args:
        source: the file.
        start: offset of the dataset's first byte.
        implicit, little: as the transfer syntax says; parts in another encoding (UN of undefined length,
            PS3.5 §6.2.2 note; elements without a VR in explicit datasets, seen from old Philips and GE
            consoles) are followed where they show themselves.

    Raises:
        MalformedDataset: from iteration.
    """

    def __init__(self, source: Source, start: int, *, implicit: bool, little: bool) -> None:
        self._source = source
        self._pos = start
        self._stack = [_Level(source.size, False, 0, implicit, little, start)]

    def __iter__(self) -> Iterator[Node]:
        stack = self._stack
        while True:
            level = stack[-1]
            if level.end is not None and self._pos >= level.end:
                if self._pos > level.end:
                    raise MalformedDataset(f"an element before byte {self._pos} is longer than what holds it")
                stack.pop()
                if not stack:
                    return
                yield self._close(level)
            elif level.items:
                yield self._item(level)
            elif len(stack) == 1 and self._only_padding_left():
                return
            elif not self._skip_stray_delimiter(level):
                yield self._element(level)

    def _only_padding_left(self) -> bool:
        left = self._source.size - self._pos
        return left < 8 and not any(self._source.read(self._pos, left))

    def _skip_stray_delimiter(self, level: _Level) -> bool:
        """Pass over an empty item or delimiter that closes nothing (Toshiba, behind empty sequences)."""
        tag, head = self._tag(level)
        if tag >> 16 != 0xFFFE or (tag == _ITEM_DELIMITER and level.end is None):
            return False
        if head[4:] != bytes(4):
            raise MalformedDataset(f"a stray delimiter at byte {self._pos}")
        self._pos += 8
        return True

    def _close(self, level: _Level) -> Node:
        kind = Kind.SEQUENCE_END if level.items else Kind.ITEM_END
        return Node(kind, level.tag, "", self._pos, 0, level.dataset, level.little)

    def _push(self, level: _Level) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise MalformedDataset(f"sequences nested more than {MAX_DEPTH // 2} deep")
        self._stack.append(level)

    def _tag(self, level: _Level) -> tuple[int, bytes]:
        head = self._source.read(self._pos, 8)
        group, element = struct.unpack_from("<HH" if level.little else ">HH", head)
        return group << 16 | element, head

    def _item(self, level: _Level) -> Node:
        tag, head = self._tag(level)
        (length,) = struct.unpack_from("<I" if level.little else ">I", head, 4)
        self._pos += 8
        if tag == _SEQUENCE_DELIMITER:
            self._stack.pop()
            return self._close(level)
        if tag != _ITEM:
            raise MalformedDataset(f"no item at byte {self._pos - 8} of a sequence")
        end = None if length == UNDEFINED else self._pos + length
        self._push(_Level(end, False, level.tag, level.implicit, level.little, self._pos))
        return Node(Kind.ITEM, level.tag, "", self._pos, 0, self._pos, level.little)

    def _element(self, level: _Level) -> Node:
        tag, head = self._tag(level)
        if tag == _ITEM_DELIMITER and level.end is None:
            self._pos += 8
            self._stack.pop()
            return self._close(level)
        vr, length, header_bytes, implicit = self._header(level, tag, head)
        self._pos += header_bytes
        if length == UNDEFINED:
            return self._undefined_length(level, tag, vr, implicit=implicit)
        if vr == "SQ" and (not implicit or self._looks_like_items(level, length)):
            self._push(_Level(self._pos + length, True, tag, implicit, level.little, level.dataset))
            return Node(Kind.SEQUENCE, tag, "SQ", self._pos, length, level.dataset, level.little)
        pos = self._pos
        self._pos += length
        if self._pos > self._source.size:
            raise MalformedDataset(f"an element at byte {pos} runs past the end of the object")
        if tag >> 16 & 1 and 0x10 <= tag & 0xFFFF <= 0xFF and length <= 64:
            level.creators[tag & 0xFF] = self._source.read(pos, length).decode("latin-1").strip(" \0")
        return Node(Kind.ELEMENT, tag, "UN" if vr == "SQ" else vr, pos, length, level.dataset, level.little)

    def _header(self, level: _Level, tag: int, head: bytes) -> tuple[str, int, int, bool]:
        order = "<" if level.little else ">"
        letters = head[4:6]
        if letters in _BLANK_VR and not level.implicit:
            (length,) = struct.unpack_from(order + "H", head, 6)
            return "UN", length, 8, False
        if level.implicit or not (letters.isalpha() and letters.isupper()):
            (length,) = struct.unpack_from(order + "I", head, 4)
            return self._implicit_vr(level, tag), length, 8, True
        if letters in _SHORT_VR:
            (length,) = struct.unpack_from(order + "H", head, 6)
            return letters.decode(), length, 8, False
        (length,) = struct.unpack(order + "I", self._source.read(self._pos + 8, 4))
        return letters.decode(), length, 12, False

    def _implicit_vr(self, level: _Level, tag: int) -> str:
        if not tag >> 16 & 1:
            return _vr_of_standard(tag)
        element = tag & 0xFFFF
        if element == 0:
            return "UL"
        if 0x10 <= element <= 0xFF:
            return "LO"
        creator = level.creators.get(element >> 8)
        if creator is None:
            return "UN"
        try:
            return str(private_dictionary_VR(tag, creator))
        except KeyError:
            return "UN"

    def _looks_like_items(self, level: _Level, length: int) -> bool:
        if length == 0:
            return True
        tag = self._tag(level)[0] if length >= 8 else 0
        return tag in (_ITEM, _SEQUENCE_DELIMITER)

    def _undefined_length(self, level: _Level, tag: int, vr: str, *, implicit: bool) -> Node:
        if tag == PIXEL_DATA or vr in ("OB", "OW", "OB or OW"):
            pos = self._pos
            self._skip_fragments(level)
            return Node(Kind.FRAGMENTS, tag, vr, pos, self._pos - pos, level.dataset, level.little)
        unknown = vr == "UN" and not implicit
        inner = _Level(
            None,
            True,
            tag,
            implicit or unknown,
            True if unknown else level.little,
            level.dataset,
        )
        self._push(inner)
        return Node(Kind.SEQUENCE, tag, "SQ", self._pos, UNDEFINED, level.dataset, level.little)

    def _skip_fragments(self, level: _Level) -> None:
        while True:
            tag, head = self._tag(level)
            (length,) = struct.unpack_from("<I" if level.little else ">I", head, 4)
            self._pos += 8
            if tag == _SEQUENCE_DELIMITER:
                return
            if tag != _ITEM or length == UNDEFINED:
                raise MalformedDataset(f"encapsulated pixel data breaks off at byte {self._pos - 8}")
            self._pos += length
