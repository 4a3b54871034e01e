"""Writes a Part 10 file element by element: file meta, headers in any VR encoding, values in any byte order.

Sequences and items always get undefined length, so nothing has to be known before it is written. Standard
library only; runs in a codec worker.
"""

from __future__ import annotations

import array
import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

_SHORT_VR = frozenset(
    "AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split(),  # noqa: SIM905 (a row to read)
)
_WORD_BYTES = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
_ARRAY_CODES = {2: "H", 4: "I", 8: "Q"}
_UNDEFINED = 0xFFFFFFFF
_SYNTAX_TAG, _GROUP_LENGTH_TAG = 0x00020010, 0x00020000


class SinkError(Exception):
    """The value can't be written in this syntax."""


def swapped(piece: bytes, word_bytes: int) -> bytes:
    """Turn round each word of `piece`; an odd rest (some devices write odd lengths) stays as it is."""
    whole = len(piece) // word_bytes * word_bytes
    words = array.array(_ARRAY_CODES[word_bytes], piece[:whole])
    words.byteswap()
    return words.tobytes() + piece[whole:]


def file_meta(elements: Iterable[tuple[int, str, bytes]], transfer_syntax: str) -> bytes:
    """Preamble, prefix and file meta information (PS3.10 §7.1) with that syntax in place of the old one."""
    uid = transfer_syntax.encode("ascii")
    values = {tag: (vr, value) for tag, vr, value in elements if tag != _GROUP_LENGTH_TAG}
    values[_SYNTAX_TAG] = ("UI", uid + b"\0" * (len(uid) & 1))
    body = b"".join(_header(tag, vr, len(value)) + value for tag, (vr, value) in sorted(values.items()))
    return bytes(128) + b"DICM" + _header(_GROUP_LENGTH_TAG, "UL", 4) + struct.pack("<I", len(body)) + body


def _header(tag: int, vr: str, length: int, order: str = "<") -> bytes:
    if vr in _SHORT_VR:
        return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)
    return struct.pack(order + "HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)


class Sink:
    """The data set's part of the file.

    Args:
        out: open for writing, positioned behind the file meta.
        implicit, little, deflated: the target syntax.
    """

    def __init__(self, out: BinaryIO, *, implicit: bool, little: bool, deflated: bool) -> None:
        self._out = out
        self._implicit = implicit
        self._little = little
        self._order = "<" if little else ">"
        self._deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS) if deflated else None
        self._n_deflated_bytes = 0

    def finish(self) -> None:
        """End a deflated stream, padded to an even length (PS3.5 A.5)."""
        if self._deflater is not None:
            self._put(self._deflater.flush())
            self._out.write(b"\0" * (self._n_deflated_bytes & 1))

    def element(self, tag: int, vr: str, length: int, pieces: Iterable[bytes], *, little: bool) -> None:
        """Write an element whose value comes in pieces (cut at words) in the byte order `little`.

        A value too long for its VR's 16 bit length becomes UN and stays little endian (PS3.5 §6.2.2).
        """
        if vr in _SHORT_VR and length > 0xFFFF and not self._implicit:
            self._start(tag, "UN", length)
            word_bytes = 0 if little else _WORD_BYTES.get(vr, 0)
        else:
            self._start(tag, vr, length)
            word_bytes = 0 if little == self._little else _WORD_BYTES.get(vr, 0)
        for piece in pieces:
            self._write(swapped(piece, word_bytes) if word_bytes else piece)

    def begin_pixels(self, tag: int, vr: str, length: int) -> None:
        """Write the header of pixel data whose frames follow by `frame`."""
        if length >= _UNDEFINED:
            raise SinkError("native pixel data over 4 GiB can't be written (PS3.5 §7.1)")
        self._start(tag, vr, length)

    def frame(self, piece: bytes, vr: str) -> None:
        """Write little-endian samples of pixel data; at most the last piece may have an odd length."""
        self._write(piece if self._little or vr == "OB" else swapped(piece, _WORD_BYTES[vr]))

    def begin_fragments(self, tag: int) -> None:
        """Open encapsulated pixel data with an empty offset table (PS3.5 A.4)."""
        self._start(tag, "OB", _UNDEFINED)
        self.fragment(b"")

    def fragment(self, data: bytes) -> None:
        """Write one fragment of even length."""
        self._write(struct.pack(self._order + "HHI", 0xFFFE, 0xE000, len(data)))
        self._write(data)

    def begin_sequence(self, tag: int) -> None:
        """Open a sequence; also before fragments' end, `end_sequence` closes it."""
        self._start(tag, "SQ", _UNDEFINED)

    def end_sequence(self) -> None:
        """Close a sequence or fragments."""
        self._write(struct.pack(self._order + "HHI", 0xFFFE, 0xE0DD, 0))

    def begin_item(self) -> None:
        """Open an item of a sequence."""
        self._write(struct.pack(self._order + "HHI", 0xFFFE, 0xE000, _UNDEFINED))

    def end_item(self) -> None:
        """Close an item of a sequence."""
        self._write(struct.pack(self._order + "HHI", 0xFFFE, 0xE00D, 0))

    def _start(self, tag: int, vr: str, length: int) -> None:
        if self._implicit:
            self._write(struct.pack(self._order + "HHI", tag >> 16, tag & 0xFFFF, length))
        else:
            self._write(_header(tag, vr, length, self._order))

    def _write(self, data: bytes) -> None:
        if self._deflater is not None:
            self._put(self._deflater.compress(data))
        else:
            self._out.write(data)

    def _put(self, data: bytes) -> None:
        self._n_deflated_bytes += len(data)
        self._out.write(data)
