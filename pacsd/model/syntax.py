"""Transfer syntaxes: what the bytes of a data set look like, by UID (PS3.5 §10, PS3.6 Annex A).

A syntax that isn't in the table is not an error: private and future syntaxes are kept as received, and read
as explicit VR little endian with encapsulated pixel data, which PS3.5 §A.4 prescribes for every new one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1.99"
GE_IMPLICIT_BIG_PIXELS = "1.2.840.113619.5.2"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """How one data set is encoded.

    `lossy` says that pixel data may have lost information through this encoding; `encapsulated` that pixel
    data comes in fragments (PS3.5 §A.4); `deflated` that the whole data set behind the file meta is one
    deflate stream (PS3.5 §A.5). `known` is False for UIDs outside the table. `big_endian_pixels` marks GE's
    private syntax, whose native pixel words are swapped against the rest of the data set.
    """

    uid: str
    name: str
    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False
    encapsulated: bool = False
    lossy: bool = False
    known: bool = True
    big_endian_pixels: bool = False

    @property
    def inflated(self) -> TransferSyntax:
        """The same syntax for bytes that have already been inflated; itself when it isn't a deflated one."""
        return replace(self, deflated=False) if self.deflated else self


_ROOT = "1.2.840.10008.1.2"

# n: native, e: encapsulated lossless, l: encapsulated and possibly lossy, r: pixel data referenced elsewhere
_COMPRESSED = """
.1.98 e Encapsulated Uncompressed Explicit VR Little Endian
.4.50 l JPEG Baseline (Process 1)
.4.51 l JPEG Extended (Process 2 and 4)
.4.52 l JPEG Extended (Process 3 and 5)
.4.53 l JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)
.4.54 l JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)
.4.55 l JPEG Full Progression, Non-Hierarchical (Process 10 and 12)
.4.56 l JPEG Full Progression, Non-Hierarchical (Process 11 and 13)
.4.57 e JPEG Lossless, Non-Hierarchical (Process 14)
.4.58 e JPEG Lossless, Non-Hierarchical (Process 15)
.4.59 l JPEG Extended, Hierarchical (Process 16 and 18)
.4.60 l JPEG Extended, Hierarchical (Process 17 and 19)
.4.61 l JPEG Spectral Selection, Hierarchical (Process 20 and 22)
.4.62 l JPEG Spectral Selection, Hierarchical (Process 21 and 23)
.4.63 l JPEG Full Progression, Hierarchical (Process 24 and 26)
.4.64 l JPEG Full Progression, Hierarchical (Process 25 and 27)
.4.65 e JPEG Lossless, Hierarchical (Process 28)
.4.66 e JPEG Lossless, Hierarchical (Process 29)
.4.70 e JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])
.4.80 e JPEG-LS Lossless Image Compression
.4.81 l JPEG-LS Lossy (Near-Lossless) Image Compression
.4.90 e JPEG 2000 Image Compression (Lossless Only)
.4.91 l JPEG 2000 Image Compression
.4.92 e JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)
.4.93 l JPEG 2000 Part 2 Multi-component Image Compression
.4.94 r JPIP Referenced
.4.95 rd JPIP Referenced Deflate
.4.100 l MPEG2 Main Profile / Main Level
.4.100.1 l Fragmentable MPEG2 Main Profile / Main Level
.4.101 l MPEG2 Main Profile / High Level
.4.101.1 l Fragmentable MPEG2 Main Profile / High Level
.4.102 l MPEG-4 AVC/H.264 High Profile / Level 4.1
.4.102.1 l Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1
.4.103 l MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1
.4.103.1 l Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1
.4.104 l MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video
.4.104.1 l Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video
.4.105 l MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video
.4.105.1 l Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video
.4.106 l MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2
.4.106.1 l Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2
.4.107 l HEVC/H.265 Main Profile / Level 5.1
.4.108 l HEVC/H.265 Main 10 Profile / Level 5.1
.4.110 e JPEG XL Lossless
.4.111 l JPEG XL JPEG Recompression
.4.112 l JPEG XL
.4.201 e High-Throughput JPEG 2000 Image Compression (Lossless Only)
.4.202 e High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)
.4.203 l High-Throughput JPEG 2000 Image Compression
.4.204 r JPIP HTJ2K Referenced
.4.205 rd JPIP HTJ2K Referenced Deflate
.5 e RLE Lossless
.6.1 n RFC 2557 MIME encapsulation
.6.2 n XML Encoding
.7.1 n SMPTE ST 2110-20 Uncompressed Progressive Active Video
.7.2 n SMPTE ST 2110-20 Uncompressed Interlaced Active Video
.7.3 n SMPTE ST 2110-30 PCM Digital Audio
.8.1 e Deflated Image Frame Compression
"""


def _table() -> dict[str, TransferSyntax]:
    native = [
        TransferSyntax(IMPLICIT_LITTLE, "Implicit VR Little Endian", implicit=True),
        TransferSyntax(EXPLICIT_LITTLE, "Explicit VR Little Endian"),
        TransferSyntax(DEFLATED_EXPLICIT_LITTLE, "Deflated Explicit VR Little Endian", deflated=True),
        TransferSyntax(EXPLICIT_BIG, "Explicit VR Big Endian", big_endian=True),
        TransferSyntax("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian", implicit=True),
        TransferSyntax(
            GE_IMPLICIT_BIG_PIXELS,
            "GE Private Implicit VR Little Endian with Big Endian Pixels",
            implicit=True,
            big_endian_pixels=True,
        ),
    ]
    table = {syntax.uid: syntax for syntax in native}
    for row in _COMPRESSED.strip().splitlines():
        suffix, traits, name = row.split(" ", 2)
        table[_ROOT + suffix] = TransferSyntax(
            _ROOT + suffix,
            name,
            deflated="d" in traits,
            encapsulated="e" in traits or "l" in traits,
            lossy="l" in traits,
        )
    return table


TRANSFER_SYNTAXES: dict[str, TransferSyntax] = _table()


def transfer_syntax(uid: str) -> TransferSyntax:
    """The syntax of that UID; padding (space or NUL) is ignored, an unknown UID is not an error."""
    found = TRANSFER_SYNTAXES.get(uid)
    return found if found is not None else _unlisted(uid)


@lru_cache(maxsize=256)
def _unlisted(uid: str) -> TransferSyntax:
    bare = uid.strip(" \0")
    found = TRANSFER_SYNTAXES.get(bare)
    return found or TransferSyntax(bare, f"Unknown ({bare[:64]})", encapsulated=True, known=False)
