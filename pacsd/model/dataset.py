"""A light data set for identifiers, answers and reports: everything that isn't an image (PS3.5 §7).

Values are plain: text as `str` (IS and DS too), numbers as `int` or `float`, attribute tags as `int`, sequences as
data sets, other bytes in little endian order. Decoding is tolerant of odd encodings and strict about its bounds;
nothing here touches what was received and stored. Pure functions, any thread.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pacsd.model.charset import UTF_8, decode_text, encode_text
from pacsd.model.dictionary import tag_of, vr_of
from pacsd.model.elements import (
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    Header,
    byte_order,
    read_header,
    skip_sequence,
    sniff,
)
from pacsd.model.syntax import TransferSyntax
from pacsd.model.values import CHARSET_VRS, NUMBER_CODES, TEXT_VRS, numbers, split_text, swapped

SPECIFIC_CHARACTER_SET = 0x00080005
MAX_DEPTH = 64
MAX_ELEMENTS = 10_000
MAX_INFLATED_BYTES = 64 << 20

_LONG = frozenset(vr.decode("ascii") for vr in LONG_VRS)
_LITTLE_IMPLICIT = Encoding(implicit=True, big_endian=False)


class DatasetError(ValueError):
    """The bytes are no data set, or one beyond the bounds; or a data set that can't be encoded."""


@dataclass(frozen=True, slots=True)
class Element:
    """A VR and its values; no value: (). One `bytes` for OB, OD, OF, OL, OV, OW and UN."""

    vr: str
    value: tuple[Any, ...] = ()


class Dataset(dict[int, Element]):
    """Elements by tag (`group << 16 | element`)."""

    __slots__ = ()

    @classmethod
    def from_keywords(cls, **values: Any) -> Dataset:
        """Elements by keyword; a value is None, one value, or a list or tuple of them.

        Text for a text VR is split at backslashes where the VR allows several values. Raises KeyError for an
        unknown keyword.
        """
        dataset = cls()
        for keyword, given in values.items():
            tag = tag_of(keyword)
            vr = vr_of(tag)
            many = [] if given is None else given if isinstance(given, list | tuple) else [given]
            plain = tuple(str(one) for one in many) if vr in TEXT_VRS else tuple(many)
            if vr in TEXT_VRS and len(plain) == 1:
                plain = split_text(plain[0], vr)
            dataset[tag] = Element(vr, plain)
        return dataset

    def text(self, tag: int, default: str = "") -> str:
        """The first value as text; `default` when absent or empty."""
        texts = self.texts(tag)
        return texts[0] if texts else default

    def texts(self, tag: int) -> tuple[str, ...]:
        """All values as text; () when absent, empty, a sequence or bytes."""
        element = self.get(tag)
        if element is None or element.vr == "SQ":
            return ()
        return tuple(
            value if isinstance(value, str) else str(value)
            for value in element.value
            if not isinstance(value, bytes | Dataset)
        )

    def sequence(self, tag: int) -> tuple[Dataset, ...]:
        """The items of a sequence; () when absent, empty or none."""
        element = self.get(tag)
        return tuple(item for item in element.value if isinstance(item, Dataset)) if element else ()


def decode(
    data: bytes,
    syntax: TransferSyntax,
    *,
    max_depth: int = MAX_DEPTH,
    max_elements: int = MAX_ELEMENTS,
    default_charset: tuple[str, ...] | None = None,
) -> Dataset:
    """Decode a whole data set. Group lengths and stray delimiters are dropped; of a repeated tag the last one stays.

    Args:
        max_depth: sequences that may nest.
        max_elements: elements in all, items' included.
        default_charset: where the data set declares none.

    Raises:
        DatasetError: an element that ends beyond the data, no element where one must be, or a bound exceeded.
    """
    if syntax.deflated:
        data = _inflated(data)
    encoding, _ = sniff(data, Encoding(syntax.implicit, syntax.big_endian))
    reader = _Reader(data, max_depth, max_elements)
    return reader.elements(0, len(data), encoding, default_charset or (), 0, delimited=False)[0]


def _inflated(data: bytes) -> bytes:
    for bits in (-15, 15):
        stream = zlib.decompressobj(bits)
        try:
            plain = stream.decompress(data, MAX_INFLATED_BYTES)
        except zlib.error:
            continue
        if stream.unconsumed_tail:
            raise DatasetError("the deflated data set is larger than allowed")
        if stream.eof:
            return plain
    if not data or read_header(data, 0, len(data), Encoding(implicit=False, big_endian=False)) is not None:
        return data
    raise DatasetError("the deflated data set can't be inflated")


class _Reader:
    """One decoding: the data and what is left of its bounds."""

    __slots__ = ("_data", "_left", "_max_depth")

    def __init__(self, data: bytes, max_depth: int, max_elements: int) -> None:
        self._data = data
        self._max_depth = max_depth
        self._left = max_elements

    def elements(
        self, pos: int, end: int, encoding: Encoding, charset: tuple[str, ...], depth: int, *, delimited: bool
    ) -> tuple[Dataset, int]:
        """Elements from `pos` to `end`, or to an item's delimiter; (data set, where reading goes on)."""
        plain: list[tuple[Header, str]] = []
        sequences: dict[int, Element] = {}
        tags: list[int] = []
        while pos < end:
            header = read_header(self._data, pos, end, encoding)
            if header is None:
                raise DatasetError(f"no element at offset {pos}")
            if header.tag in (ITEM_END, SEQUENCE_END):
                pos = header.value if header.tag == ITEM_END or not delimited else pos
                if delimited:
                    break
                continue
            self._left -= 1
            if self._left < 0:
                raise DatasetError("more elements than allowed")
            vr = self._vr(header)
            if header.length == UNDEFINED and header.vr in {b"OB", b"OW"}:  # fragments: no value for us
                beyond = skip_sequence(self._data, header.value, end, encoding).next
                if beyond is None:
                    raise DatasetError(f"fragments at offset {header.value} have no end")
                sequences[header.tag] = Element(vr)
                tags.append(header.tag)
                pos = beyond
                continue
            if header.length == UNDEFINED or vr == "SQ":
                items, pos = self._sequence(header, end, encoding, charset, depth)
                sequences[header.tag] = Element("SQ", items)
                tags.append(header.tag)
                continue
            pos = header.value + header.length
            if pos > end:
                raise DatasetError(f"element at offset {header.value} ends beyond the data")
            if header.tag == SPECIFIC_CHARACTER_SET:
                raw = self._data[header.value : pos].decode("ascii", "replace")
                charset = tuple(term.strip(" \0") for term in raw.split("\\"))
            if header.tag & 0xFFFF or header.tag < 0x10000:
                plain.append((header, vr))
                tags.append(header.tag)
        values = {header.tag: Element(vr, self._values(header, vr, encoding, charset)) for header, vr in plain}
        values.update(sequences)
        return Dataset({tag: values[tag] for tag in tags}), pos

    @staticmethod
    def _vr(header: Header) -> str:
        vr = "UN" if header.vr is None else header.vr.decode("ascii")
        return vr if vr != "UN" else vr_of(header.tag)

    def _sequence(
        self, header: Header, end: int, encoding: Encoding, charset: tuple[str, ...], depth: int
    ) -> tuple[tuple[Dataset, ...], int]:
        if depth >= self._max_depth:
            raise DatasetError("sequences nest deeper than allowed")
        data, pos = self._data, header.value
        defined = header.length != UNDEFINED
        stop = pos + header.length if defined else end
        if stop > end:
            raise DatasetError(f"sequence at offset {pos} ends beyond the data")
        if header.vr == b"UN":  # PS3.5 §6.2.2: implicit little endian whatever surrounds it, but not from everyone
            explicit = data[pos + 12 : pos + 14].isalpha() and not encoding.big_endian
            encoding = encoding if explicit else _LITTLE_IMPLICIT
        item_header = byte_order(encoding).implicit
        items: list[Dataset] = []
        while pos < stop:
            if pos + 8 > stop:
                raise DatasetError(f"sequence ends within an item's header at offset {pos}")
            group, element, length = item_header(data, pos)
            tag = group << 16 | element
            pos += 8
            if tag == SEQUENCE_END:
                if defined:
                    continue
                return tuple(items), pos
            if tag == ITEM_END:
                continue
            if tag != ITEM:
                raise DatasetError(f"no item at offset {pos - 8}")
            self._left -= 1
            item_end = stop if length == UNDEFINED else pos + length
            if item_end > stop or self._left < 0:
                raise DatasetError(f"item at offset {pos} ends beyond its sequence or is one too many")
            item, after = self.elements(pos, item_end, encoding, charset, depth + 1, delimited=length == UNDEFINED)
            pos = after if length == UNDEFINED else item_end
            items.append(item)
        if not defined:
            raise DatasetError("a sequence has no end")
        return tuple(items), stop

    def _values(self, header: Header, vr: str, encoding: Encoding, charset: tuple[str, ...]) -> tuple[Any, ...]:
        raw = self._data[header.value : header.value + header.length]
        if not raw:
            return ()
        if vr in TEXT_VRS:
            return split_text(decode_text(raw, charset if vr in CHARSET_VRS else (), vr), vr)
        big = encoding.big_endian and header.vr != b"UN"
        if vr in NUMBER_CODES or vr == "AT":
            return numbers(raw, vr, big_endian=big)
        return (swapped(raw, vr) if big else raw,)


def charset_for(dataset: Dataset, preferred: tuple[str, ...] | None) -> tuple[str, ...]:
    """The character set that `encode` uses: () if all is ASCII, `preferred` if it holds every text, else UTF-8."""
    texts = [(text, vr) for text, vr in _texts(dataset, 0) if not text.isascii()]
    if not texts:
        return ()
    if preferred and all(encode_text(text, preferred, vr) is not None for text, vr in texts):
        return preferred
    return (UTF_8,)


def _texts(dataset: Dataset, depth: int) -> Iterable[tuple[str, str]]:
    if depth > MAX_DEPTH:
        raise DatasetError("sequences nest deeper than allowed")
    for element in dataset.values():
        if element.vr in CHARSET_VRS:
            yield from ((value, element.vr) for value in element.value)
        elif element.vr == "SQ":
            for item in element.value:
                yield from _texts(item, depth + 1)


def encode(
    dataset: Dataset,
    syntax: TransferSyntax,
    charset: tuple[str, ...] | None,
    *,
    undefined_lengths: bool = False,
) -> bytes:
    """Encode with sorted tags and even lengths.

    Specific Character Set is ours: set when some text isn't ASCII (see `charset_for`), otherwise left out,
    whatever the data set says; items inherit it.

    Args:
        charset: the terms to prefer; None: UTF-8 where needed.
        undefined_lengths: delimiters instead of lengths for sequences and items.

    Raises:
        DatasetError: a value that its VR can't hold, or sequences that nest too deep.
    """
    used = charset_for(dataset, charset)
    writer = _Writer(Encoding(syntax.implicit, syntax.big_endian), used, undefined_lengths=undefined_lengths)
    plain = Dataset(dataset)
    plain.pop(SPECIFIC_CHARACTER_SET, None)
    if used:
        plain[SPECIFIC_CHARACTER_SET] = Element("CS", used)
    data = writer.elements(plain, 0)
    if syntax.deflated:
        stream = zlib.compressobj(wbits=-15)
        data = stream.compress(data) + stream.flush()
        data += b"\0" * (len(data) & 1)
    return data


class _Writer:
    __slots__ = ("_charset", "_encoding", "_mark", "_undefined")

    def __init__(self, encoding: Encoding, charset: tuple[str, ...], *, undefined_lengths: bool) -> None:
        self._encoding = encoding
        self._charset = charset
        self._undefined = undefined_lengths
        self._mark = ">" if encoding.big_endian else "<"

    def elements(self, dataset: Dataset, depth: int) -> bytes:
        if depth > MAX_DEPTH:
            raise DatasetError("sequences nest deeper than allowed")
        parts: list[bytes] = []
        for tag in sorted(dataset):
            if depth and tag == SPECIFIC_CHARACTER_SET:
                continue
            element = dataset[tag]
            if element.vr == "SQ":
                parts.append(self._sequence(tag, element.value, depth))
            else:
                value = self._value(tag, element)
                parts.append(self._header(tag, element.vr, len(value)) + value)
        return b"".join(parts)

    def _header(self, tag: int, vr: str, length: int) -> bytes:
        group, element = tag >> 16, tag & 0xFFFF
        if self._encoding.implicit or vr == "":
            return struct.pack(self._mark + "HHL", group, element, length)
        if length > 0xFFFE and vr not in _LONG:  # PS3.5 §6.2.2 note: a value too long for its VR goes as UN
            vr = "UN"
        name = vr.encode("ascii", "replace")
        if vr in _LONG:
            return struct.pack(self._mark + "HH2sHL", group, element, name, 0, length)
        return struct.pack(self._mark + "HH2sH", group, element, name, length)

    def _sequence(self, tag: int, items: tuple[Dataset, ...], depth: int) -> bytes:
        parts = []
        for item in items:
            body = self.elements(item, depth + 1)
            if self._undefined:
                parts.append(self._header(ITEM, "", UNDEFINED) + body + self._header(ITEM_END, "", 0))
            else:
                parts.append(self._header(ITEM, "", len(body)) + body)
        value = b"".join(parts)
        if self._undefined:
            return self._header(tag, "SQ", UNDEFINED) + value + self._header(SEQUENCE_END, "", 0)
        return self._header(tag, "SQ", len(value)) + value

    def _value(self, tag: int, element: Element) -> bytes:
        vr, values = element.vr, element.value
        try:
            if vr in TEXT_VRS:
                return self._text("\\".join(map(str, values)), vr)
            if vr == "AT":
                halves = [half for value in values for half in (value >> 16, value & 0xFFFF)]
                return struct.pack(f"{self._mark}{len(halves)}H", *halves)
            if vr in NUMBER_CODES:
                return struct.pack(f"{self._mark}{len(values)}{NUMBER_CODES[vr]}", *values)
            raw = b"".join(values)
        except (struct.error, TypeError, OverflowError):
            raise DatasetError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) holds a value that {vr} can't") from None
        raw += b"\0" * (len(raw) & 1)
        return swapped(raw, vr) if self._encoding.big_endian else raw

    def _text(self, text: str, vr: str) -> bytes:
        raw = None
        if vr in CHARSET_VRS and self._charset:
            raw = encode_text(text, self._charset, vr)
            if raw is None:
                raw = text.encode("utf_8", "replace")
        if raw is None:
            raw = text.encode("ascii", "replace")
        return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) & 1)
