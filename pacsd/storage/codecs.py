"""Decodes one frame of pixel data at a time and says which colour space comes out (PS3.5 §8.2, Annex A.4).

Imports numpy and the codec libraries: for codec workers only, never for a daemon's own process. Before a
library sees a frame, its header is compared with the data set, so that a stream can't ask for more memory
than the attributes admit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from rle import rle

Array = npt.NDArray[Any]

MAX_FRAME_BYTES = 1 << 30

_SAMPLE_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    8: np.dtype("u1"),
    16: np.dtype("<u2"),
    32: np.dtype("<u4"),
}
_JPEG_FRAME_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_UNSUBSAMPLED = {"YBR_FULL_422": "YBR_FULL"}


class FrameError(Exception):
    """The frame can't be decoded, or isn't what the data set says. The text holds no patient data."""


@dataclass(frozen=True, slots=True)
class Image:
    """How pixels are described (PS3.3 C.7.6.3): the attributes that a decoder needs."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planar: int
    n_frames: int

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame; a YBR_FULL_422 one has two samples a pixel (PS3.3 C.7.6.3.1.2)."""
        samples = 2 if self.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") else self.samples
        return self.rows * self.columns * samples * self.bits_allocated


@dataclass(frozen=True, slots=True)
class Stream:
    """What a codestream's own header says."""

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    transform: int | None = None
    component_ids: bytes = b""


def jpeg_stream(data: bytes) -> Stream:
    """Read the frame header of a JPEG or JPEG-LS stream (ISO 10918-1 B.2.2); raises FrameError.

    `transform` is that of an Adobe APP14 segment (0 RGB, 1 YCbCr), None without one.
    """
    if data[:2] != b"\xff\xd8":
        raise FrameError("a frame is no JPEG stream")
    pos, transform = 2, None
    while pos + 4 <= len(data):
        if data[pos] != 0xFF:
            break
        marker = data[pos + 1]
        if marker in (0xFF, 0x01):
            pos += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[pos + 2 : pos + 4], "big")
        body = data[pos + 4 : pos + 2 + length]
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
        if marker in _JPEG_FRAME_MARKERS and len(body) >= 6:
            rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return Stream(rows, columns, body[5], body[0], transform=transform, component_ids=body[6::3])
        pos += 2 + length
    raise FrameError("a JPEG stream has no frame header")


def j2k_codestream(data: bytes) -> bytes:
    """Strip the JP2 boxes that some writers leave around a codestream (not allowed by PS3.5 A.4.4)."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(data) < start + 45:
        raise FrameError("a frame is no JPEG 2000 codestream")
    return data[start:] if start else data


def j2k_stream(data: bytes) -> Stream:
    """Read the SIZ segment of a JPEG 2000 codestream (ISO 15444-1 A.5.1); raises FrameError if it was cut."""
    x, y, x0, y0 = (int.from_bytes(data[n : n + 4], "big") for n in (8, 12, 16, 20))
    samples, depth = int.from_bytes(data[40:42], "big"), data[42]
    pos = 4
    while pos + 12 <= len(data) and data[pos - 2 : pos] != b"\xff\x90":
        pos += int.from_bytes(data[pos : pos + 2], "big") + 2
    pos -= 2
    while data[pos : pos + 2] == b"\xff\x90" and (part := int.from_bytes(data[pos + 6 : pos + 10], "big")):
        pos += part
    if pos > len(data):
        raise FrameError("a JPEG 2000 codestream ends early")
    return Stream(y - y0, x - x0, samples, (depth & 0x7F) + 1, signed=bool(depth & 0x80))


def _jpeg_lossy(data: bytes, image: Image, stream: Stream) -> Array:
    if image.samples == 1:
        return imagecodecs.jpeg8_decode(data)
    source = "YCBCR" if _is_ycbcr(image, stream) else "RGB"
    return imagecodecs.jpeg8_decode(data, colorspace=source, outcolorspace="RGB")


def _is_ycbcr(image: Image, stream: Stream) -> bool:
    """Whether a lossy colour JPEG needs the YCbCr transform undone: its own marker outweighs the data set."""
    if stream.transform is not None:
        return stream.transform == 1
    return image.photometric.startswith("YBR") and stream.component_ids != b"RGB"


def _jpeg_lossless(data: bytes, image: Image, _stream: Stream) -> Array:
    if image.samples == 1:
        return imagecodecs.jpeg8_decode(data)
    return imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB")


def _jpeg_ls(data: bytes, _image: Image, _stream: Stream) -> Array:
    return imagecodecs.jpegls_decode(data)


def _j2k(data: bytes, _image: Image, _stream: Stream) -> Array:
    # OpenJPEG for HTJ2K too: imagecodecs' htj2k_decode lets samples beyond the range wrap (255 becomes 0)
    return imagecodecs.jpeg2k_decode(data, planar=False, numthreads=1)


def _jpeg_xl(data: bytes, _image: Image, _stream: Stream) -> Array:
    return imagecodecs.jpegxl_decode(data, keeporientation=True, numthreads=1)


def _rle(data: bytes, image: Image, _stream: Stream) -> Array:
    pixels, bits = image.rows * image.columns, image.bits_allocated
    if bits == 1:
        packed = np.frombuffer(rle.decode_frame(data, (pixels + 7) // 8, 8, "<"), "u1")
        return np.unpackbits(packed, count=pixels, bitorder="little")
    planes = np.frombuffer(rle.decode_frame(data, pixels, bits, "<"), _SAMPLE_TYPES[bits])
    return planes.reshape(image.samples, pixels).T


_DECODERS: dict[str, Callable[[bytes, Image, Stream], Array]] = {
    "jpeg": _jpeg_lossy,
    "jpeg-lossless": _jpeg_lossless,
    "jpeg-ls": _jpeg_ls,
    "jpeg-2000": _j2k,
    "htj2k": _j2k,
    "jpeg-xl": _jpeg_xl,
    "rle": _rle,
}


def _header(decoder: str, data: bytes, image: Image) -> tuple[bytes, Stream]:
    if decoder in ("jpeg", "jpeg-lossless", "jpeg-ls"):
        stream = jpeg_stream(data)
        if data.rfind(b"\xff\xd9") < 0:
            raise FrameError("a JPEG stream has no end")
        return data, stream
    if decoder in ("jpeg-2000", "htj2k"):
        data = j2k_codestream(data)
        return data, j2k_stream(data)
    return data, Stream(image.rows, image.columns, image.samples, image.bits_allocated)


def photometric_after(decoder: str, image: Image) -> str:
    """The colour space of what `decode_frame` returns (PS3.3 C.7.6.3.1.2, PS3.5 §8.2)."""
    before = image.photometric
    if image.samples == 1 or decoder in ("raw", "deflate"):
        return before
    if decoder in ("jpeg", "jpeg-xl") or before in ("YBR_RCT", "YBR_ICT", "XYB"):
        return "RGB"
    return _UNSUBSAMPLED.get(before, before)


def decode_frame(decoder: str, data: bytes, image: Image) -> bytes:
    """Decode one frame to native little-endian samples, colour by pixel.

    Args:
        decoder: a name from the table in `storage.transcode`.
        data: the frame, its fragments joined.

    Returns:
        `image.frame_bits / 8` bytes; for Bits Allocated 1 a byte a pixel, 0 or 1.

    Raises:
        FrameError: it can't be decoded or contradicts `image`.
    """
    if image.frame_bits > MAX_FRAME_BYTES * 8 or image.bits_allocated not in _SAMPLE_TYPES:
        raise FrameError(f"frames of {image.frame_bits} bits with {image.bits_allocated} bits allocated")
    if decoder in ("raw", "deflate"):
        return _plain_frame(decoder, data, image)
    data, stream = _header(decoder, data, image)
    if (stream.rows, stream.columns, stream.samples) != (image.rows, image.columns, image.samples):
        raise FrameError(
            f"a frame of {stream.rows}x{stream.columns}x{stream.samples} where the data set says "
            f"{image.rows}x{image.columns}x{image.samples}",
        )
    try:
        array = _DECODERS[decoder](data, image, stream)
    except MemoryError:
        raise FrameError("a frame needs more memory than a codec worker may use") from None
    except Exception as error:  # noqa: BLE001 (each codec has its own errors, and a base for none)
        raise FrameError(f"the {decoder} decoder failed ({type(error).__name__})") from None
    return _native(array, image, stream, decoder)


def _native(array: Array, image: Image, stream: Stream, decoder: str) -> bytes:
    if array.size != image.rows * image.columns * image.samples:
        raise FrameError(f"a frame decoded to {array.size} samples")
    target = _SAMPLE_TYPES[image.bits_allocated]
    if array.dtype.kind not in "iu" or stream.precision > target.itemsize * 8:
        raise FrameError(f"samples of {stream.precision} bits where {image.bits_allocated} are allocated")
    values = array.astype(target, copy=False)
    if image.bits_allocated > 1:
        values = _fill_unused_bits(values, image, stream, decoder)
    return values.tobytes()


def _fill_unused_bits(values: Array, image: Image, stream: Stream, decoder: str) -> Array:
    """Make the bits above the stored ones what Pixel Representation says: the sign, or zero.

    A stream deeper than Bits Stored carried those bits itself (overlays may be in them) and is left alone.
    A JPEG 2000 stream whose sign contradicts Pixel Representation is read by its own precision; the other
    codecs know no sign.
    """
    if stream.precision > image.bits_stored or stream.signed == image.signed:
        return values
    bits = stream.precision if decoder in ("jpeg-2000", "htj2k") else image.bits_stored
    shift = image.bits_allocated - bits
    cells = (values << shift).astype(values.dtype, copy=False)
    if image.signed:
        cells = cells.view(f"<i{values.dtype.itemsize}")
    return (cells >> shift).view(values.dtype)


def _plain_frame(decoder: str, data: bytes, image: Image) -> bytes:
    size = (image.frame_bits + 7) // 8
    if decoder == "deflate":
        try:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflater.decompress(data, size + 2)
        except zlib.error:
            raise FrameError("a deflated frame is broken") from None
    if not size <= len(data) <= size + 1:
        raise FrameError(f"a frame of {len(data)} bytes where the data set says {size}")
    if image.bits_allocated == 1:
        return np.unpackbits(np.frombuffer(data, "u1"), count=image.frame_bits, bitorder="little").tobytes()
    return data[:size]


def interleaved(frame: bytes, image: Image) -> bytes:
    """Turn a native frame that is colour by plane (PS3.3 C.7.6.3.1.3) into colour by pixel."""
    if image.samples == 1 or image.planar == 0:
        return frame
    planes = np.frombuffer(frame, _SAMPLE_TYPES[image.bits_allocated])
    return planes.reshape(image.samples, image.rows * image.columns).T.tobytes()


def encode_rle(native: bytes, image: Image) -> bytes:
    """Encode one native little-endian frame, colour by pixel, as RLE (PS3.5 Annex G); raises FrameError."""
    try:
        encoded = rle.encode_frame(
            native,
            image.rows,
            image.columns,
            image.samples,
            image.bits_allocated,
            "<",
        )
    except Exception as error:  # noqa: BLE001 (the encoder's errors have no common base)
        raise FrameError(f"the RLE encoder failed ({type(error).__name__})") from None
    return bytes(encoded) + b"\0" * (len(encoded) & 1)


def pack_bits(pixels: bytes, carried: bytes) -> tuple[bytes, bytes]:
    """Pack pixels of one bit behind `carried` ones; frames follow each other without a gap (PS3.5 §8.1.1).

    Returns:
        the full bytes, and the pixels (a byte each, fewer than 8) left for the next frame.
    """
    pixels = carried + pixels
    whole = len(pixels) // 8 * 8
    packed = np.packbits(np.frombuffer(pixels[:whole], "u1") & 1, bitorder="little")
    return packed.tobytes(), pixels[whole:]
