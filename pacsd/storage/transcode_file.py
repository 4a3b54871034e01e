"""Rewrites a whole Part 10 file in another transfer syntax: the body of `storage.transcode.convert`.

Two walks over the data set: the first collects, for each item that describes pixels, where its attributes
lie; the second writes, element by element. So Photometric Interpretation can be corrected before the
pixel data that decides on it is met, and icons are treated like the image itself. Worker only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pydicom.encaps import generate_frames

from pacsd.model.errors import CannotConvert
from pacsd.model.syntax import GE_IMPLICIT_BIG_PIXELS, transfer_syntax
from pacsd.storage.codecs import (
    FrameError,
    Image,
    decode_frame,
    encode_rle,
    interleaved,
    pack_bits,
    photometric_after,
)
from pacsd.storage.transcode import RLE_LOSSLESS, ROUTES, Converted
from pacsd.storage.transcode_sink import Sink, file_meta, swapped
from pacsd.storage.transcode_walk import PIXEL_DATA, Kind, MalformedDataset, Node, Source, Walk

MAX_INFLATED_BYTES = 16 << 30
_MAX_META_BYTES = 1 << 20

_SAMPLES, _PHOTOMETRIC, _PLANAR, _N_FRAMES = 0x00280002, 0x00280004, 0x00280006, 0x00280008
_ROWS, _COLUMNS, _ALLOCATED, _STORED, _SIGNED = 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280103
_WAVEFORM_BITS = 0x54001004
_OFFSETS, _OFFSET_LENGTHS, _TOTAL_LENGTH = 0x7FE00001, 0x7FE00002, 0x7FE00003
_IMAGE = (_SAMPLES, _PHOTOMETRIC, _PLANAR, _N_FRAMES, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _SIGNED)
_DESCRIBING = frozenset((*_IMAGE, _WAVEFORM_BITS, _OFFSETS, _OFFSET_LENGTHS, PIXEL_DATA))
_NUMBERS = {"US": "H", "SS": "h", "UL": "I"}

_AS_STORED = ("raw", "deflate")

Survey = dict[int, dict[int, Node]]


def rewrite(source_path: str, target_uid: str, out_path: str) -> Converted:
    """See `storage.transcode.convert`; raises the errors of the parts as they are."""
    with ExitStack() as opened:
        source_file: BinaryIO = opened.enter_context(Path(source_path).open("rb", buffering=0))
        meta, start = read_meta(Source(source_file.fileno()))
        stored_uid = _uid_of(meta)
        route = ROUTES.get(stored_uid)
        if route is None or target_uid not in route.becomes or target_uid == stored_uid:
            names = transfer_syntax(stored_uid).name, transfer_syntax(target_uid).name
            raise CannotConvert(f"no way from {names[0]} to {names[1]}")
        if transfer_syntax(stored_uid).deflated:
            source_file, start = opened.enter_context(_inflated(source_file, start, out_path)), 0
        out = opened.enter_context(Path(out_path).open("wb", buffering=1 << 20))
        dataset_offset = out.write(file_meta(meta, target_uid))
        _Rewrite(source_file, start, stored_uid, target_uid, out).run()
        size_bytes = out.tell()
    return Converted(out_path, size_bytes, dataset_offset, target_uid, route.lossless)


def read_meta(source: Source) -> tuple[list[tuple[int, str, bytes]], int]:
    """Return the file meta's elements and the offset behind them; its group length isn't trusted.

    Raises:
        MalformedDataset: no Part 10 file.
    """
    if source.size < 140 or source.read(128, 4) != b"DICM":
        raise MalformedDataset("not a Part 10 file")
    elements, pos = [], 132
    while pos + 8 <= source.size:
        group, element, letters, length = struct.unpack("<HH2sH", source.read(pos, 8))
        if group != 2:
            break
        pos += 8
        if letters in (b"OB", b"UN"):
            (length,) = struct.unpack("<I", source.read(pos, 4))
            pos += 4
        if pos + length > _MAX_META_BYTES or not letters.isalpha():
            raise MalformedDataset("the file meta is broken")
        elements.append((group << 16 | element, letters.decode("ascii"), source.read(pos, length)))
        pos += length
    return elements, pos


def _uid_of(meta: Iterable[tuple[int, str, bytes]]) -> str:
    for tag, _vr, value in meta:
        if tag == 0x00020010:
            return value.decode("ascii", "replace").strip(" \0")
    raise MalformedDataset("the file meta names no transfer syntax")


def _inflated(packed: BinaryIO, start: int, out_path: str) -> BinaryIO:
    """Inflate a data set (PS3.5 A.5) into an unnamed file beside the output, which the caller closes."""
    path = Path(out_path + ".inflated")
    plain = path.open("w+b", buffering=0)
    path.unlink()
    packed.seek(start)
    try:
        _inflate(packed, plain)
    except BaseException:
        plain.close()
        raise
    return plain


def _inflate(packed: BinaryIO, plain: BinaryIO) -> None:
    """Inflate in bounded pieces up to a bounded size: a bomb ends in an error."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    n_bytes = 0
    while not inflater.eof:
        piece = inflater.unconsumed_tail or packed.read(1 << 18)
        if not piece:
            raise MalformedDataset("the deflated data set ends early")
        try:
            n_bytes += _write_all(plain, inflater.decompress(piece, 1 << 22))
        except zlib.error:
            raise MalformedDataset("the deflated data set is broken") from None
        if n_bytes > MAX_INFLATED_BYTES:
            raise MalformedDataset(f"the deflated data set holds more than {MAX_INFLATED_BYTES} bytes")


def _write_all(out: BinaryIO, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[out.write(view) :]
    return len(data)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one dataset's pixel data becomes, and its attributes' new values, in the order of tags."""

    image: Image
    becomes: Image
    changes: dict[int, tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class _Context:
    """What resolves VRs that the dictionary leaves open (PS3.5 A.1, A.2); an item inherits it."""

    bits_allocated: int
    signed: bool
    waveform_bits: int

    def vr(self, node: Node) -> str:
        if node.tag == PIXEL_DATA:
            return "OW" if self.bits_allocated > 8 else node.vr if node.vr in ("OB", "OW") else "OB"
        if len(node.vr) == 2:
            return node.vr
        if "OW" in node.vr:
            return "OB" if node.tag >> 16 == 0x5400 and self.waveform_bits == 8 else "OW"
        if "SS" in node.vr:
            return "SS" if self.signed else "US"
        return "UN"


class _Rewrite:
    """One conversion: state of the second walk."""

    def __init__(self, file: BinaryIO, start: int, stored_uid: str, target_uid: str, out: BinaryIO) -> None:
        stored, target = transfer_syntax(stored_uid), transfer_syntax(target_uid)
        self._file = file
        self._source = Source(file.fileno())
        self._start = start
        self._stored_uid = stored_uid
        self._implicit, self._little = stored.implicit, not stored.big_endian
        self._target_little = not target.big_endian
        self._decoder = ROUTES[stored_uid].decoder
        self._to_rle = target_uid == RLE_LOSSLESS
        self._sink = Sink(
            out,
            implicit=target.implicit,
            little=not target.big_endian,
            deflated=target.deflated,
        )
        self._survey: Survey = {}
        self._plans: dict[int, _Plan] = {}
        self._contexts: list[_Context] = []

    def run(self) -> None:
        for node in self._walk():
            if node.tag in _DESCRIBING and node.kind in (Kind.ELEMENT, Kind.FRAGMENTS):
                self._survey.setdefault(node.dataset, {})[node.tag] = node
        for dataset, nodes in self._survey.items():
            if PIXEL_DATA in nodes and (plan := self._plan(dataset, nodes)):
                self._plans[dataset] = plan
        self._contexts.append(self._context(self._start, _Context(16, False, 16)))
        for node in self._walk():
            self._write(node)
        self._sink.finish()

    def _walk(self) -> Walk:
        return Walk(self._source, self._start, implicit=self._implicit, little=self._little)

    def _number(self, nodes: dict[int, Node], tag: int, default: int) -> int:
        node = nodes.get(tag)
        if node is None or not 0 < node.length <= 16:
            return default
        value = self._source.read(node.pos, node.length)
        try:
            if node.vr == "IS":
                return int(value.strip(b" \0"))
            code = _NUMBERS.get(node.vr, "H")
            return int(struct.unpack_from(("<" if node.little else ">") + code, value)[0])
        except (ValueError, struct.error):
            raise MalformedDataset(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) holds no number") from None

    def _context(self, dataset: int, outer: _Context) -> _Context:
        nodes = self._survey.get(dataset)
        if not nodes:
            return outer
        return _Context(
            self._number(nodes, _ALLOCATED, outer.bits_allocated),
            bool(self._number(nodes, _SIGNED, outer.signed)),
            self._number(nodes, _WAVEFORM_BITS, outer.waveform_bits),
        )

    def _image(self, nodes: dict[int, Node]) -> Image:
        allocated = self._number(nodes, _ALLOCATED, 0)
        photometric = nodes.get(_PHOTOMETRIC)
        name = self._source.read(photometric.pos, min(photometric.length, 64)) if photometric else b""
        return Image(
            rows=self._number(nodes, _ROWS, 0),
            columns=self._number(nodes, _COLUMNS, 0),
            samples=self._number(nodes, _SAMPLES, 1),
            bits_allocated=allocated,
            bits_stored=self._number(nodes, _STORED, allocated),
            signed=bool(self._number(nodes, _SIGNED, 0)),
            photometric=name.decode("latin-1").strip(" \0"),
            planar=self._number(nodes, _PLANAR, 0),
            n_frames=max(1, self._number(nodes, _N_FRAMES, 1)),
        )

    def _plan(self, dataset: int, nodes: dict[int, Node]) -> _Plan | None:
        """Decide what becomes of a dataset's pixel data; None where its native form is only copied."""
        encapsulated = nodes[PIXEL_DATA].kind is Kind.FRAGMENTS
        if not encapsulated and not (self._to_rle and dataset == self._start):
            return None
        if encapsulated and self._decoder == "native":
            raise MalformedDataset("encapsulated pixel data under an uncompressed transfer syntax")
        image = self._image(nodes)
        if not image.rows or not image.columns or image.samples not in (1, 3) or not image.bits_allocated:
            raise MalformedDataset("the pixel data isn't described")
        changes: dict[int, tuple[str, bytes]] = {}
        after = photometric_after(self._decoder, image) if encapsulated else image.photometric
        if after != image.photometric:
            changes[_PHOTOMETRIC] = ("CS", after.encode("ascii") + b" " * (len(after) & 1))
        if image.samples > 1 and (self._to_rle or self._decoder not in _AS_STORED):
            changes[_PLANAR] = ("US", b"\0\0")
        return _Plan(image, replace(image, photometric=after), changes)

    def _write(self, node: Node) -> None:
        match node.kind:
            case Kind.ELEMENT | Kind.SEQUENCE | Kind.FRAGMENTS:
                self._write_element(node)
            case Kind.ITEM:
                self._contexts.append(self._context(node.dataset, self._contexts[-1]))
                self._sink.begin_item()
            case Kind.ITEM_END:
                self._contexts.pop()
                self._sink.end_item()
            case Kind.SEQUENCE_END:
                self._sink.end_sequence()

    def _write_element(self, node: Node) -> None:
        plan = self._plans.get(node.dataset)
        if plan is not None:
            for tag in [tag for tag in plan.changes if tag <= node.tag]:
                vr, value = plan.changes.pop(tag)
                self._sink.element(tag, vr, len(value), (value,), little=True)
                if tag == node.tag:
                    return
            if node.tag in (_OFFSETS, _OFFSET_LENGTHS, _TOTAL_LENGTH):
                return
            if node.tag == PIXEL_DATA:
                self._write_pixels(node, plan.image, plan.becomes)
                return
        if node.kind is Kind.FRAGMENTS:
            raise MalformedDataset("an encapsulated value that isn't pixel data can't be decoded")
        if node.kind is Kind.SEQUENCE:
            self._sink.begin_sequence(node.tag)
        elif node.tag & 0xFFFF:
            swapped_pixels = node.tag == PIXEL_DATA and self._stored_uid == GE_IMPLICIT_BIG_PIXELS
            little = node.little and not swapped_pixels
            vr = self._contexts[-1].vr(node)
            if node.tag == PIXEL_DATA and not (little and self._target_little):
                self._check_word_order(vr)
            pieces = self._source.chunks(node.pos, node.length)
            self._sink.element(node.tag, vr, node.length, pieces, little=little)

    def _check_word_order(self, vr: str) -> None:
        """Refuse big endian words of pixels deeper than 16 bits: what they look like is disputed.

        By PS3.5 §7.3 bytes are swapped within 16 bit words, and DCMTK does; pydicom and others swap all 4.
        Guessing wrong would scale a dose by 65536.
        """
        if vr == "OW" and self._contexts[-1].bits_allocated > 16:
            raise MalformedDataset("implementations disagree on big endian pixels of more than 16 bits")

    def _write_pixels(self, node: Node, image: Image, becomes: Image) -> None:
        frames = self._decoded(node, image) if node.kind is Kind.FRAGMENTS else self._native(node, image)
        if self._to_rle:
            self._sink.begin_fragments(PIXEL_DATA)
            for frame in frames:
                self._sink.fragment(encode_rle(frame, becomes))
            self._sink.end_sequence()
            return
        n_bytes = (becomes.frame_bits * image.n_frames + 7) // 8
        vr = "OB" if image.bits_allocated <= 8 else "OW"
        if not self._target_little:
            self._check_word_order(vr)
        self._sink.begin_pixels(PIXEL_DATA, vr, n_bytes + (n_bytes & 1))
        carried = b""
        for frame in frames:
            packed, carried = pack_bits(frame, carried) if image.bits_allocated == 1 else (frame, b"")
            self._sink.frame(packed, vr)
        if carried:
            self._sink.frame(pack_bits(carried.ljust(8, b"\0"), b"")[0], vr)
        self._sink.frame(b"\0" * (n_bytes & 1), vr)

    def _decoded(self, node: Node, image: Image) -> Iterator[bytes]:
        n_decoded = 0
        for encoded in self._encoded(node, image):
            n_decoded += 1
            if n_decoded > image.n_frames:
                raise FrameError(f"more frames than the {image.n_frames} that the data set says")
            frame = decode_frame(self._decoder, encoded, image)
            yield interleaved(frame, image) if self._to_rle and self._decoder in _AS_STORED else frame
        if n_decoded < image.n_frames:
            raise FrameError(f"{n_decoded} frames where the data set says {image.n_frames}")

    def _encoded(self, node: Node, image: Image) -> Iterator[bytes]:
        nodes = self._survey[node.dataset]
        offsets = None
        if _OFFSETS in nodes and _OFFSET_LENGTHS in nodes:
            both = nodes[_OFFSETS], nodes[_OFFSET_LENGTHS]
            offsets = tuple(self._source.read(n.pos, n.length) for n in both)
        self._file.seek(node.pos)
        try:
            expected = image.n_frames
            yield from generate_frames(self._file, number_of_frames=expected, extended_offsets=offsets)
        except (ValueError, EOFError, struct.error) as error:
            raise FrameError(f"frames can't be told apart ({type(error).__name__})") from None

    def _native(self, node: Node, image: Image) -> Iterator[bytes]:
        """Frames of native pixel data, as the RLE encoder takes them."""
        is_subsampled = image.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422")
        if is_subsampled or image.bits_allocated not in (8, 16, 32):
            raise FrameError("pixels of this layout aren't RLE encoded")
        little = node.little and self._stored_uid != GE_IMPLICIT_BIG_PIXELS
        if not little:
            self._check_word_order("OW")
        size, n_words = image.frame_bits // 8, image.bits_allocated // 8
        if node.length < size * image.n_frames:
            raise FrameError("the pixel data is shorter than the data set says")
        for n in range(image.n_frames):
            frame = b"".join(self._source.chunks(node.pos + n * size, size))
            if not little and n_words > 1:
                frame = swapped(frame, 2)
            yield interleaved(frame, image)
