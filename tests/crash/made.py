"""Objects that are made again from two numbers, so that a test needs to remember only their digests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.interop.objects import CT, EXPLICIT, element

ROOT = "1.2.826.0.1.3680043.10.1999"
SIZES = (200, 8_192, 8_192, 20_000, 70_000, 131_072, 140_000, 526_000, 1_300_000)
"""Around every border of the server's: one write, the head it keeps, a flush, a pause."""

SMALL_SIZES = (200, 8_192, 20_000)
"""Such as share a seal log's sync."""

_POOL = random.Random(20241).randbytes(4 << 20)


@dataclass(frozen=True, slots=True)
class Made:
    """One object as it travels, explicit little endian."""

    uid: str
    study: str
    series: str
    data: bytes
    sop_class: str = CT
    syntax: str = EXPLICIT

    @property
    def digest(self) -> bytes:
        """SHA-256 of the data set."""
        return hashlib.sha256(self.data).digest()


def make(seed: int, number: int, n_bytes: int, *, n_studies: int = 3, n_series: int = 2) -> Made:
    """Make object `number` of a run: patient, study and series are shared with others of the run.

    Args: n_bytes: of the pixel data.
    """
    study_number = number % n_studies
    study = f"{ROOT}.{seed}.{study_number + 1}"
    series = f"{study}.{number // n_studies % n_series + 1}"
    uid = f"{series}.{number + 1}"
    return Made(uid, study, series, _head(seed, study_number, number, uid, study, series) + _pixels(number, n_bytes))


def _head(seed: int, study_number: int, number: int, uid: str, study: str, series: str) -> bytes:
    elements = [
        (0x00080016, b"UI", CT),
        (0x00080018, b"UI", uid),
        (0x00080020, b"DA", "20240229"),
        (0x00080050, b"SH", f"A{seed}{study_number}"),
        (0x00080060, b"CS", "CT"),
        (0x00100010, b"PN", f"Crash^Number{seed}"),
        (0x00100020, b"LO", f"C{seed}-{study_number // 2}"),
        (0x0020000D, b"UI", study),
        (0x0020000E, b"UI", series),
        (0x00200013, b"IS", str(number + 1)),
    ]
    return b"".join(element(tag, vr, _padded(vr, value)) for tag, vr, value in elements)


def _padded(vr: bytes, value: str) -> bytes:
    raw = value.encode("ascii")
    return raw + (b"\0" if vr == b"UI" else b" ") * (len(raw) & 1)


def _pixels(number: int, n_bytes: int) -> bytes:
    n_bytes += n_bytes & 1
    start = number * 977 % (len(_POOL) // 2)
    pixels = _POOL[start : start + n_bytes]
    while len(pixels) < n_bytes:
        pixels += _POOL[: n_bytes - len(pixels)]
    return element(0x7FE00010, b"OW", pixels)


def stream(seed: int, first: int, step: int, sizes: Sequence[int] = SIZES) -> Iterator[Made]:
    """Give objects of mixed sizes without end; several senders take different `first` of one `step`."""
    chance = random.Random(f"{seed}-{first}")
    number = first
    while True:
        yield make(seed, number, chance.choice(sizes))
        number += step
