"""Reading what the index needs from the head of a received data set, without decoding it (PS3.5 §7).

The head is the first bytes of a data set as received, often cut somewhere. One pass over the top-level
elements takes the wanted values as bytes, notes what is odd about the encoding, and says where pixel data
begins. Content never raises: what can't be read ends the pass with a flag, and the object is kept all the same.

Time is linear in the head, whatever it contains; nothing recurses. Pure functions, any thread.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from pacsd.model.elements import (
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    Encoding,
    byte_order,
    is_item_start,
    read_header,
    skip_sequence,
    sniff,
)
from pacsd.model.syntax import TransferSyntax

MAX_PACKED_ELEMENT_BYTES = 1024
MAX_PACKED_SEQUENCE_BYTES = 4096
MAX_PACKED_BYTES = 32 * 1024
MAX_DEPTH = 64
MAX_INFLATED_BYTES = 1 << 20
_FIRST_INFLATED_BYTES = 64 * 1024

_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_FIRST_PIXEL_TAG = 0x7FE00008


class ScanResult(NamedTuple):
    """What one pass found.

    Attributes:
        values: wanted tag -> value bytes as received, padding included; absent when the element is.
        spans: half-open byte ranges of `head` worth keeping in the index (see `packed_head`).
        flags: `odd-length`, `wrong-vr`, `wrong-encoding`, `wrong-byte-order`, `truncated`, `deep-nesting`,
            `out-of-order`, `unparsable`, `wrong-deflate`, `not-deflated`.
        complete: the pass reached pixel data or the end of the data set.
        pixel_offset: where the pixel data element's tag stands, in bytes from the data set's start (of the
            inflated data set for deflated syntaxes); None if it wasn't met.
        resume_offset: where to go on when the head ended first: behind a large element that reaches beyond
            the head, else at the element that it cuts. 0 says that a longer head is needed; None with a
            deflated head, whose offsets are not the file's.
        head: the bytes that offsets and spans count in: the argument itself, or what was inflated from it.
        encoding: the one found.
    """

    values: dict[int, bytes]
    spans: list[tuple[int, int]]
    flags: frozenset[str]
    complete: bool
    pixel_offset: int | None
    resume_offset: int | None
    head: bytes
    encoding: Encoding


_NO_FLAGS: frozenset[str] = frozenset()


def scan_values(
    head: bytes,
    syntax: TransferSyntax,
    wanted: frozenset[int],
    *,
    total_bytes: int | None = None,
    max_depth: int = MAX_DEPTH,
    max_inflated_bytes: int = MAX_INFLATED_BYTES,
) -> ScanResult:
    """Walk the top level of a data set's head up to pixel data.

    Args:
        head: the first bytes of the data set, behind any file meta information.
        syntax: as negotiated or as the file meta says; a different actual encoding is detected and flagged.
        wanted: tags as `group << 16 | element`.
        total_bytes: length of the whole data set when the head may be only its beginning; without it the head
            is taken as the whole, and an element that ends beyond is flagged `truncated`.
        max_depth: sequences nested deeper are flagged `deep-nesting` and left out of `spans`.
        max_inflated_bytes: bound on what is inflated from a deflated head.
    """
    if syntax.deflated:
        return _scan_deflated(head, syntax, wanted, total_bytes, max_depth, max_inflated_bytes)
    encoding, flags = sniff(head, Encoding(syntax.implicit, syntax.big_endian))
    total = len(head) if total_bytes is None else total_bytes
    walk = _walk_implicit if encoding.implicit else _walk_explicit
    return walk(head, wanted, total, _Aside(head, encoding, max_depth, flags))


def packed_head(result: ScanResult) -> bytes:
    """The small elements before pixel data, as received, joined: a data set in the same syntax (inflated).

    Elements over 1,024 bytes (sequences over 4,096) are left out; over 32 KiB in all, private elements go
    first, then the last ones. `pacsd.model.dataset.decode` reads it with `syntax.inflated`.
    """
    head, spans = result.head, result.spans
    if len(spans) == 1:
        start, end = spans[0]
        if end - start <= MAX_PACKED_BYTES:
            return head[start:end]
    packed = b"".join([head[start:end] for start, end in spans])
    return packed if len(packed) <= MAX_PACKED_BYTES else _shrink(packed, result.encoding)


def scan_object(
    head: bytes, syntax: TransferSyntax, wanted: frozenset[int], *, total_bytes: int | None = None
) -> tuple[dict[int, bytes], bytes, frozenset[str], int | None]:
    """`scan_values` and `packed_head` in one: (values, packed head, flags, pixel offset)."""
    result = scan_values(head, syntax, wanted, total_bytes=total_bytes)
    return result.values, packed_head(result), result.flags, result.pixel_offset


def _walk_explicit(  # noqa: C901, PLR0912 - the hot loop stays in one piece
    head: bytes, wanted: frozenset[int], total: int, aside: _Aside
) -> ScanResult:
    """The hot loop: about 0.2 µs an element. Everything unusual leaves it through `_Aside`."""
    order = byte_order(aside.encoding)
    header, long_length = order.explicit, order.long
    short, long = SHORT_VRS, LONG_VRS
    flags = aside.flags
    values: dict[int, bytes] = {}
    end = len(head)
    last_header = end - 8
    pos = run = previous = lengths = 0
    pixel_offset = None
    while pos <= last_header:
        group, element, vr, length = header(head, pos)
        tag = group << 16 | element
        if vr in short:
            value = pos + 8
        elif vr in long and not length:
            if pos + 12 > end:
                break
            length = long_length(head, pos + 8)[0]
            value = pos + 12
        else:
            found = aside.odd_header(pos)
            if found is None:
                break
            value, length = found
        if tag >= _FIRST_PIXEL_TAG and tag in _PIXEL_TAGS:
            pixel_offset = pos
            if length != UNDEFINED and value + length > total:
                flags.add("truncated")
            break
        following = value + length
        if following > end or following - pos > MAX_PACKED_ELEMENT_BYTES:
            following, kept = aside.large(pos, value, length)
            if not kept:
                if pos > run:
                    aside.spans.append((run, pos))
                run = following
            if following > end:
                pos = aside.resume(pos, following, tag in wanted)
                break
            length = 0
        lengths |= length
        if tag <= previous:
            flags.add("out-of-order")
        previous = tag
        if tag in wanted:
            values[tag] = head[value:following]
        pos = following
    if lengths & 1:
        flags.add("odd-length")
    return aside.result(values, run, pos, total, pixel_offset)


def _walk_implicit(  # noqa: C901 - the hot loop stays in one piece
    head: bytes, wanted: frozenset[int], total: int, aside: _Aside
) -> ScanResult:
    header = byte_order(aside.encoding).implicit
    flags = aside.flags
    values: dict[int, bytes] = {}
    end = len(head)
    last_header = end - 8
    pos = run = previous = lengths = 0
    pixel_offset = None
    while pos <= last_header:
        group, element, length = header(head, pos)
        tag = group << 16 | element
        value = pos + 8
        if group == 0xFFFE or (length > total and length != UNDEFINED):
            found = aside.odd_header(pos)
            if found is None:
                break
            value, length = found
        if tag >= _FIRST_PIXEL_TAG and tag in _PIXEL_TAGS:
            pixel_offset = pos
            if length != UNDEFINED and value + length > total:
                flags.add("truncated")
            break
        following = value + length
        if following > end or following - pos > MAX_PACKED_ELEMENT_BYTES:
            following, kept = aside.large(pos, value, length)
            if not kept:
                if pos > run:
                    aside.spans.append((run, pos))
                run = following
            if following > end:
                pos = aside.resume(pos, following, tag in wanted)
                break
            length = 0
        lengths |= length
        if tag <= previous:
            flags.add("out-of-order")
        previous = tag
        if tag in wanted:
            values[tag] = head[value:following]
        pos = following
    if lengths & 1:
        flags.add("odd-length")
    return aside.result(values, run, pos, total, pixel_offset)


class _Aside:
    """What the two loops share beside their common case: odd headers, large elements, the end of the pass."""

    __slots__ = ("encoding", "endless", "flags", "head", "lost", "max_depth", "spans")

    def __init__(self, head: bytes, encoding: Encoding, max_depth: int, flags: set[str]) -> None:
        self.head = head
        self.encoding = encoding
        self.max_depth = max_depth
        self.flags = flags
        self.spans: list[tuple[int, int]] = []
        self.lost = False
        self.endless = False

    def odd_header(self, pos: int) -> tuple[int, int] | None:
        """Value offset and length of an element whose header isn't as the syntax says, None if nothing fits."""
        found = read_header(self.head, pos, len(self.head), self.encoding)
        if found is None:
            self.lost = True
            return None
        if found.flag:
            self.flags.add(found.flag)
        return found.value, found.length

    def large(self, pos: int, value: int, length: int) -> tuple[int, bool]:
        """(where the next element begins, whether this one stays in the packed head).

        The next element lies beyond the head when this one isn't wholly in it; for an undefined length whose end
        isn't in the head it is unknown, and the head's length plus one stands for it.
        """
        head, end = self.head, len(self.head)
        if length == UNDEFINED:
            found = skip_sequence(head, value, end, self.encoding)
            if found.depth > self.max_depth:
                self.flags.add("deep-nesting")
            if found.next is None:
                self.lost = found.malformed
                self.endless = True
                return end + 1, False
            kept = found.next - pos <= MAX_PACKED_SEQUENCE_BYTES and found.depth <= self.max_depth
            return found.next, kept
        following = value + length
        if length & 1:
            self.flags.add("odd-length")
        if not is_item_start(head, value):
            return following, following <= end and following - pos <= MAX_PACKED_ELEMENT_BYTES
        depth = skip_sequence(head, value, min(end, following), self.encoding, following).depth
        if depth > self.max_depth:
            self.flags.add("deep-nesting")
        kept = following - pos <= MAX_PACKED_SEQUENCE_BYTES and following <= end and depth <= self.max_depth
        return following, kept

    def resume(self, pos: int, following: int, wanted: bool) -> int:
        """Where a pass goes on behind an element that isn't wholly in the head: at its start if it matters."""
        matters = wanted or self.endless or following - pos <= MAX_PACKED_SEQUENCE_BYTES
        return pos if matters else following

    def result(self, values: dict[int, bytes], run: int, pos: int, total: int, pixel_offset: int | None) -> ScanResult:
        head, flags = self.head, self.flags
        end = len(head)
        if run < pos <= end:
            self.spans.append((run, pos))
        complete = pixel_offset is not None or (pos == total == end)
        resume = None
        if not complete:
            if self.lost:
                flags.add("unparsable")
            elif pos <= end < total:
                resume = pos
            elif end < pos <= total:
                complete = pos == total
                resume = None if complete else pos
            elif end >= total:
                flags.add("truncated")
        return ScanResult(
            values,
            self.spans,
            frozenset(flags) if flags else _NO_FLAGS,
            complete,
            pixel_offset,
            resume,
            head,
            self.encoding,
        )


def _scan_deflated(
    head: bytes,
    syntax: TransferSyntax,
    wanted: frozenset[int],
    total_bytes: int | None,
    max_depth: int,
    max_inflated_bytes: int,
) -> ScanResult:
    """Inflate as much as the pass needs: a first piece, then up to the bound."""
    inner = syntax.inflated
    limit = min(_FIRST_INFLATED_BYTES, max_inflated_bytes)
    while True:
        plain, whole, flag = inflate_head(head, limit)
        # what lies behind the inflated piece is unknown: only a stream seen to its end can be truncated inside
        total = len(plain) if whole or (total_bytes is None and len(plain) < limit) else 1 << 62
        result = scan_values(plain, inner, wanted, total_bytes=total, max_depth=max_depth)
        if result.complete or whole or len(plain) < limit or limit >= max_inflated_bytes:
            break
        limit = max_inflated_bytes
    flags = result.flags | {flag} if flag else result.flags
    return result._replace(flags=flags, resume_offset=None)


def inflate_head(data: bytes, max_bytes: int) -> tuple[bytes, bool, str | None]:
    """(at most `max_bytes` of what `data` inflates to, whether that is all of it, a flag or None).

    Reads the raw stream of PS3.5 §A.5, a zlib stream (seen instead of it) and data that was not deflated at all.
    """
    for bits, flag in ((-15, None), (15, "wrong-deflate")):
        stream = zlib.decompressobj(bits)
        try:
            plain = stream.decompress(data, max_bytes)
        except zlib.error:
            continue
        if plain or stream.eof:
            return plain, stream.eof, flag
    encoding, _ = sniff(data, Encoding(implicit=False, big_endian=False))
    if read_header(data, 0, len(data), encoding) is not None:
        return data[:max_bytes], len(data) <= max_bytes, "not-deflated"
    return b"", False, "unparsable"


def _shrink(packed: bytes, encoding: Encoding) -> bytes:
    """Cut a packed head to its bound at element borders: without private elements, then without the last ones."""
    public: list[bytes] = []
    pos, size, end = 0, 0, len(packed)
    while pos < end:
        found = read_header(packed, pos, end, encoding)
        if found is None:
            break
        following = found.value + found.length
        if found.length == UNDEFINED:
            beyond = skip_sequence(packed, found.value, end, encoding).next
            if beyond is None:
                break
            following = beyond
        if not found.tag >> 16 & 1:
            size += following - pos
            if size > MAX_PACKED_BYTES:
                break
            public.append(packed[pos:following])
        pos = following
    return b"".join(public)
