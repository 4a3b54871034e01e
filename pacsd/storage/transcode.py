"""Converts a stored object, without loss, for a receiver that doesn't take its transfer syntax.

One table says which stored syntax can be decoded, by what, and what it can become. `targets` is cheap and may
be called anywhere; `convert` blocks and belongs in a worker of `runtime.processes`: only there numpy, pydicom
and the codecs are imported, so that no daemon carries them.

What happens to the object (PS3.5 §8.2, PS3.3 C.7.6.3):

- every element is kept, but group lengths (retired, they would lie) and, with decoded pixels, offset tables;
- decoded colour is written colour by pixel, and Photometric Interpretation says what came out: lossy JPEG and
  JPEG XL become RGB, YBR_RCT and YBR_ICT are undone to RGB, lossless YBR_FULL stays what it was;
- SOP Instance UID, Lossy Image Compression and the ICC profile stay: decoding is no new derivation;
- sequences get undefined length; values of VR UN stay byte for byte (PS3.5 §6.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pacsd.model.errors import CannotConvert
from pacsd.model.syntax import (
    DEFLATED_EXPLICIT_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    GE_IMPLICIT_BIG_PIXELS,
    IMPLICIT_LITTLE,
)

RLE_LOSSLESS = "1.2.840.10008.1.2.5"

_NATIVE = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_EXPLICIT_LITTLE)
_BECOMES = (*_NATIVE, RLE_LOSSLESS)


@dataclass(frozen=True, slots=True)
class Route:
    """What can be done with objects of one stored syntax.

    Attributes:
        decoder: which codec of `storage.codecs` reads its frames; "native" where pixels aren't encapsulated.
        library: what does the work, for the manual's table.
        becomes: target syntaxes, the preferred first.
        lossless: every sample value and every element survives the way to any target.
    """

    decoder: str
    library: str
    becomes: tuple[str, ...] = _BECOMES
    lossless: bool = True


_JPEG = Route("jpeg", "imagecodecs (libjpeg-turbo)")
_JPEG_LOSSLESS = Route("jpeg-lossless", "imagecodecs (libjpeg-turbo 3)")
_JPEG_LS = Route("jpeg-ls", "imagecodecs (CharLS)")
_JPEG_2000 = Route("jpeg-2000", "imagecodecs (OpenJPEG)")
_HTJ2K = Route("htj2k", "imagecodecs (OpenJPEG)")
_JPEG_XL = Route("jpeg-xl", "imagecodecs (libjxl)")
_UNCOMPRESSED = Route("native", "pacsd")

ROUTES: MappingProxyType[str, Route] = MappingProxyType(
    {
        IMPLICIT_LITTLE: _UNCOMPRESSED,
        EXPLICIT_LITTLE: _UNCOMPRESSED,
        DEFLATED_EXPLICIT_LITTLE: _UNCOMPRESSED,
        EXPLICIT_BIG: _UNCOMPRESSED,
        GE_IMPLICIT_BIG_PIXELS: _UNCOMPRESSED,
        "1.2.840.10008.1.2.1.98": Route("raw", "pacsd"),
        "1.2.840.10008.1.2.4.50": _JPEG,
        "1.2.840.10008.1.2.4.51": _JPEG,
        "1.2.840.10008.1.2.4.53": _JPEG,
        "1.2.840.10008.1.2.4.55": _JPEG,
        "1.2.840.10008.1.2.4.57": _JPEG_LOSSLESS,
        "1.2.840.10008.1.2.4.70": _JPEG_LOSSLESS,
        "1.2.840.10008.1.2.4.80": _JPEG_LS,
        "1.2.840.10008.1.2.4.81": _JPEG_LS,
        "1.2.840.10008.1.2.4.90": _JPEG_2000,
        "1.2.840.10008.1.2.4.91": _JPEG_2000,
        "1.2.840.10008.1.2.4.110": _JPEG_XL,
        "1.2.840.10008.1.2.4.111": _JPEG_XL,
        "1.2.840.10008.1.2.4.112": _JPEG_XL,
        "1.2.840.10008.1.2.4.201": _HTJ2K,
        "1.2.840.10008.1.2.4.202": _HTJ2K,
        "1.2.840.10008.1.2.4.203": _HTJ2K,
        RLE_LOSSLESS: Route("rle", "pylibjpeg-rle"),
        "1.2.840.10008.1.2.8.1": Route("deflate", "zlib"),
    },
)


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted object on disk: a Part 10 file, its data set starting at `dataset_offset` bytes."""

    path: str
    size_bytes: int
    dataset_offset: int
    transfer_syntax: str
    lossless: bool


def targets(stored_uid: str) -> tuple[str, ...]:
    """What an object of that syntax can become, the preferred first; empty for video and unknown ones.

    The stored syntax itself isn't among them. A single object may still fail in `convert`. Any thread.
    """
    route = ROUTES.get(stored_uid)
    return tuple(uid for uid in route.becomes if uid != stored_uid) if route else ()


def convert(source_path: str, target_uid: str, out_path: str) -> Converted:
    """Write the stored object to `out_path` in the target syntax. Blocks; run it in a worker process.

    Frames are decoded one at a time, other values copied in pieces: memory is bounded by one frame and its
    codestream, whatever the object's size and however deep its sequences. A deflated source takes a temporary
    file beside `out_path`.

    Args:
        source_path: a Part 10 file.
        target_uid: one of `targets()` of its syntax.
        out_path: created or overwritten; removed again after a failure.

    Raises:
        CannotConvert: broken, contradictory or not in the table; the text holds no patient data.
        OSError: reading or writing failed.
    """
    from pacsd.storage.codecs import FrameError
    from pacsd.storage.transcode_file import rewrite
    from pacsd.storage.transcode_sink import SinkError
    from pacsd.storage.transcode_walk import MalformedDataset

    try:
        return rewrite(source_path, target_uid, out_path)
    except (FrameError, MalformedDataset, SinkError) as error:
        _remove(out_path)
        raise CannotConvert(str(error)) from None
    except MemoryError:
        _remove(out_path)
        raise CannotConvert("the object needs more memory than a codec worker may use") from None
    except BaseException:
        _remove(out_path)
        raise


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)
