"""One data element's header, and one sequence's end: what scanning and decoding share (PS3.5 §7.1, §7.5).

Devices write headers that the negotiated syntax doesn't have: unknown or lower-case VRs, an implicit element
in an explicit data set, a short length where a long one belongs, whole data sets in another encoding. What
reads them is here, off the common path. Nothing recurses and nothing raises for content; time is linear in the
bytes passed.

    explicit, short VR   0 group u16 | 2 element u16 | 4 VR | 6 length u16 | 8 value
    explicit, long VR    0 group u16 | 2 element u16 | 4 VR | 6 zero u16 | 8 length u32 | 12 value
    implicit, items      0 group u16 | 2 element u16 | 4 length u32 | 8 value
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
KNOWN_VRS = SHORT_VRS | LONG_VRS

_ITEM_STARTS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_ENDS = (b"\xfe\xff\xdd\xe0", b"\xff\xfe\xe0\xdd")


class ByteOrder(NamedTuple):
    """Readers for one byte order: (group, element, VR, short length), (group, element, length), (length,)."""

    explicit: Callable[[Any, int], tuple[Any, ...]]
    implicit: Callable[[Any, int], tuple[Any, ...]]
    long: Callable[[Any, int], tuple[Any, ...]]


_ORDERS = tuple(
    ByteOrder(
        struct.Struct(mark + "HH2sH").unpack_from,
        struct.Struct(mark + "HHL").unpack_from,
        struct.Struct(mark + "L").unpack_from,
    )
    for mark in "<>"
)


class Encoding(NamedTuple):
    """VR encoding and byte order of a data set."""

    implicit: bool
    big_endian: bool


def byte_order(encoding: Encoding) -> ByteOrder:
    """The readers for the encoding's byte order."""
    return _ORDERS[encoding.big_endian]


class Header(NamedTuple):
    """One element's header; `vr` is None where the encoding doesn't tell it, `flag` says what was odd."""

    tag: int
    vr: bytes | None
    value: int
    length: int
    flag: str | None = None


class SequenceEnd(NamedTuple):
    """Where the element behind a sequence begins (None: not in these bytes), and how deep it nested."""

    next: int | None
    depth: int
    malformed: bool


def sniff(data: bytes, declared: Encoding) -> tuple[Encoding, set[str]]:
    """(encoding, flags) as the first element says, where it contradicts the syntax.

    Only a first element in a group that a data set can begin with decides; otherwise the syntax is believed.
    """
    flags: set[str] = set()
    if len(data) < 8:
        return declared, flags
    implicit, big = declared
    first, second = data[0], data[1]
    if not big and first == 0 and 0 < second <= 0x20 and not second & 1 and data[2] == 0:
        big = True
        flags.add("wrong-byte-order")
    elif big and second == 0 and 0 < first <= 0x20 and not first & 1 and data[3] == 0:
        big = False
        flags.add("wrong-byte-order")
    vr = data[4:6]
    if not implicit:
        if vr not in KNOWN_VRS and not _is_letters(vr):
            length = _ORDERS[big].long(data, 4)[0]
            if (length == UNDEFINED and is_item_start(data, 8)) or _is_next(
                data, 8 + length, Encoding(implicit=True, big_endian=big), 0
            ):
                implicit = True
                flags.add("wrong-encoding")
    elif vr in KNOWN_VRS:
        found = _known_explicit(data, 0, len(data), Encoding(implicit=False, big_endian=big), 0)
        if found and (
            found.length == UNDEFINED
            or _is_next(data, found.value + found.length, Encoding(implicit=False, big_endian=big), 0)
        ):
            implicit = False
            flags.add("wrong-encoding")
    return Encoding(implicit, big), flags


def is_item_start(data: bytes, pos: int) -> bool:
    """Whether an item's or an empty sequence's delimiter stands there, in either byte order."""
    mark = data[pos : pos + 4]
    return mark in _ITEM_STARTS or mark in _ENDS


def read_header(data: bytes, pos: int, end: int, encoding: Encoding) -> Header | None:
    """The header at `pos` under the given encoding, or under the one that fits; None if none does.

    Args:
        end: where the readable bytes stop; a value may be announced to end beyond.
    """
    if pos + 8 > end:
        return None
    implicit, big = encoding
    order = _ORDERS[big]
    group, element, length = order.implicit(data, pos)
    tag = group << 16 | element
    if group == 0xFFFE:
        return None if element == 0xE000 else Header(tag, None, pos + 8, 0, "wrong-encoding")
    vr = data[pos + 4 : pos + 6]
    if implicit:
        if length == UNDEFINED or length <= end - pos - 8 or vr not in KNOWN_VRS:
            return Header(tag, None, pos + 8, length)
        found = _known_explicit(data, pos, end, encoding, tag)
        return found and found._replace(flag="wrong-encoding")
    found = _known_explicit(data, pos, end, encoding, tag)
    if found is not None:
        return found
    return _guess(data, pos, end, encoding, tag)


def _known_explicit(data: bytes, pos: int, end: int, encoding: Encoding, tag: int) -> Header | None:
    order = byte_order(encoding)
    vr = data[pos + 4 : pos + 6]
    short = order.explicit(data, pos)[3]
    if vr in SHORT_VRS:
        return Header(tag, vr, pos + 8, short)
    if vr in LONG_VRS and not short and pos + 12 <= end:
        return Header(tag, vr, pos + 12, order.long(data, pos + 8)[0])
    return None


def _guess(data: bytes, pos: int, end: int, encoding: Encoding, tag: int) -> Header | None:
    """An explicit header with a VR that isn't one: the first reading whose next element makes sense."""
    order = byte_order(encoding)
    vr = data[pos + 4 : pos + 6]
    upper = vr.upper()
    short = Header(tag, upper if upper in KNOWN_VRS else None, pos + 8, order.explicit(data, pos)[3], "wrong-vr")
    readings = []
    if pos + 12 <= end and not data[pos + 6] and not data[pos + 7]:
        readings.append(short._replace(value=pos + 12, length=order.long(data, pos + 8)[0]))
    readings.append(short)
    implicit = Header(tag, None, pos + 8, order.long(data, pos + 4)[0], "wrong-encoding")
    if _is_letters(vr):
        if upper in SHORT_VRS:
            readings.reverse()
        readings.append(implicit)
    else:
        readings.insert(0, implicit)
    for reading in readings:
        if reading.length == UNDEFINED:
            if is_item_start(data, reading.value):
                return reading
        elif _is_next(
            data, reading.value + reading.length, Encoding(reading is implicit, encoding.big_endian), tag, end
        ):
            return reading
    return short if _is_letters(vr) else None


def _is_letters(vr: bytes) -> bool:
    return len(vr) == 2 and vr.isalpha()


def _is_next(data: bytes, pos: int, encoding: Encoding, after: int, end: int | None = None) -> bool:
    """Whether an element with a tag over `after`, or the end, stands at `pos`."""
    end = len(data) if end is None else end
    if pos == end:
        return True
    if pos + 8 > end:
        return False
    group, element, length = byte_order(encoding).implicit(data, pos)
    if group == 0xFFFE:
        return element in (0xE00D, 0xE0DD) and not length
    if group << 16 | element <= after:
        return False
    if data[pos + 4 : pos + 6] in KNOWN_VRS:
        return True
    return length == UNDEFINED or (length <= end - pos - 8 and (encoding.implicit or group - (after >> 16) < 0x100))


_SEQUENCE, _ITEM, _FRAGMENTS = 0, 1, 2


def skip_sequence(data: bytes, pos: int, end: int, encoding: Encoding, stop: int | None = None) -> SequenceEnd:
    """Pass over a sequence (or encapsulated fragments) whose first item stands at `pos`.

    Keeps a stack of open items instead of recursing, and survives stray or missing delimiters. An error
    inside an item or sequence of defined length costs only that one.

    Args:
        end: where the readable bytes stop.
        stop: where the sequence ends when its length is defined; None for an undefined length.
    """
    mark = data[pos : pos + 4]
    if is_item_start(data, pos):
        encoding = Encoding(encoding.implicit, mark in {_ITEM_STARTS[1], _ENDS[1]})
    return _Skip(data, end, encoding, stop).run(pos)


class _Skip:
    """One pass over a sequence: what is open, innermost last, and how deep it went."""

    __slots__ = ("_data", "_deepest", "_depth", "_encoding", "_end", "_malformed", "_open")

    def __init__(self, data: bytes, end: int, encoding: Encoding, stop: int | None) -> None:
        self._data = data
        self._end = end
        self._encoding = encoding
        # (kind, end or None, implicit VRs) of every sequence and item that is open
        self._open: list[tuple[int, int | None, bool]] = [(_SEQUENCE, stop, encoding.implicit)]
        self._depth = self._deepest = 1
        self._malformed = False

    def run(self, pos: int) -> SequenceEnd:
        header = byte_order(self._encoding).implicit
        while self._open:
            kind, limit, _ = self._open[-1]
            if limit is not None and pos >= limit:
                pos = limit
                self._close()
                continue
            if pos + 8 > self._end:
                return SequenceEnd(None, self._deepest, self._malformed)
            group, element, length = header(self._data, pos)
            if group == 0xFFFE:
                after = self._delimiter(element, length, pos + 8)
            elif kind == _ITEM:
                after = self._element(pos)
            else:
                after = None
            if after is None:
                after = self._give_up()
                if after is None:
                    return SequenceEnd(None, self._deepest, malformed=True)
                after = max(pos, after)
            pos = after
        return SequenceEnd(pos, self._deepest, self._malformed)

    def _close(self) -> None:
        self._depth -= self._open.pop()[0] != _ITEM

    def _give_up(self) -> int | None:
        """The end of the innermost open one that has a defined length; None if there is none."""
        self._malformed = True
        while self._open and self._open[-1][1] is None:
            self._close()
        return self._open[-1][1] if self._open else None

    def _delimiter(self, element: int, length: int, after: int) -> int | None:
        """Open or close items; where reading goes on, None for what can't stand there."""
        kind, limit, implicit = self._open[-1]
        if element == 0xE000:
            if kind == _FRAGMENTS:
                return None if length == UNDEFINED else after + length
            if kind == _ITEM:  # the delimiter of the item before is missing
                if limit is not None:
                    return None
                self._close()
            self._open.append((_ITEM, None if length == UNDEFINED else after + length, implicit))
            return after
        if element == 0xE00D:
            if kind == _ITEM and limit is None:
                self._close()
            return after
        if element != 0xE0DD:
            return None
        while self._open[-1][0] == _ITEM:
            self._close()
        if self._open[-1][1] is None:
            self._close()
        return after

    def _element(self, pos: int) -> int | None:
        """Open a nested sequence or pass over a value; where reading goes on, None for what is no element."""
        data, implicit = self._data, self._open[-1][2]
        encoding = Encoding(implicit, self._encoding.big_endian)
        found = read_header(data, pos, self._end, encoding)
        if found is None:
            return None
        defined = found.length != UNDEFINED
        if defined and not (found.length >= 8 and is_item_start(data, found.value)):
            return found.value + found.length
        kind = _SEQUENCE if defined or found.vr not in {b"OB", b"OW"} else _FRAGMENTS
        nested = implicit if found.vr != b"UN" else not _looks_explicit(data, found.value)
        self._open.append((kind, found.value + found.length if defined else None, nested))
        self._depth += 1
        self._deepest = max(self._deepest, self._depth)
        return found.value


def _looks_explicit(data: bytes, pos: int) -> bool:
    """Whether the first item's first element names a VR, in a UN of undefined length (PS3.5 §6.2.2)."""
    return data[pos + 12 : pos + 14] in KNOWN_VRS
