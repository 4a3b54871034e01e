"""The seal log's record: one small object, whole, with the place where its own file lies (docs/adr/0010).

Little endian; each record begins at a multiple of 4 KiB, so that what was synced is never in a page that is written
again:

    offset  bytes  what
    0       4      magic "PSL1"
    4       2      length of the directory's path
    6       2      zero
    8       8      generation of the segment; what an earlier one left behind it doesn't count
    16      8      length of the file
    24      32     SHA-256 of the file, which is its name
    56      8      when it was received, nanoseconds since the epoch: the time of a file that is written anew
    64      4      CRC-32 of all that stands before, and of the path
    68      n      directory below the pool's root, ASCII
    68+n    m      the file
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

PAGE_BYTES = 4096
SMALL_BYTES = 128 * 1024
"""Whole files up to this size go through the log: for larger ones writing twice costs more than a sync."""

_MAGIC = b"PSL1"
_HEAD = struct.Struct("<4sHHQQ32sQ")
_CRC = struct.Struct("<I")
_PREFIX_BYTES = _HEAD.size + _CRC.size
_MAX_PATH_BYTES = 512
_ZEROS = bytes(PAGE_BYTES)


class Record(NamedTuple):
    """One object in the log. `directory`: below the pool's root, as in `StoredFile`."""

    directory: str
    digest: bytes
    data: bytes
    received_ns: int


def padded_bytes(record: Record) -> int:
    """Length of a record in the log. Its directory is ASCII."""
    n_bytes = _PREFIX_BYTES + len(record.directory) + len(record.data)
    return n_bytes + -n_bytes % PAGE_BYTES


def encode(record: Record, generation: int) -> tuple[list[bytes], int]:
    """Buffers of one record, padded to whole pages, and their length."""
    path = record.directory.encode("ascii")
    head = _HEAD.pack(_MAGIC, len(path), 0, generation, len(record.data), record.digest, record.received_ns)
    prefix = b"".join((head, _CRC.pack(zlib.crc32(path, zlib.crc32(head))), path))
    n_bytes = padded_bytes(record)
    return [prefix, record.data, _ZEROS[: n_bytes - len(prefix) - len(record.data)]], n_bytes


def records(fd: int) -> Iterator[tuple[int, Record]]:
    """Offset and content of each record of a segment's present generation, up to the first that isn't whole.

    A torn end is what a power cut leaves of a write that nobody was told of. Raises OSError.
    """
    offset = 0
    generation: int | None = None
    while (found := _read(fd, offset, generation)) is not None:
        generation, record, n_bytes = found
        yield offset, record
        offset += n_bytes


def read_record(fd: int, offset: int, generation: int) -> Record | None:
    """The record at a place; None when there is no whole one of that generation. Raises OSError."""
    found = _read(fd, offset, generation)
    return None if found is None else found[1]


def _read(fd: int, offset: int, generation: int | None) -> tuple[int, Record, int] | None:
    first = os.pread(fd, PAGE_BYTES, offset)
    if len(first) < _PREFIX_BYTES:
        return None
    magic, n_path, _, found_generation, n_data, digest, received_ns = _HEAD.unpack_from(first)
    n_prefix = _PREFIX_BYTES + n_path
    if magic != _MAGIC or n_path > _MAX_PATH_BYTES or n_data > SMALL_BYTES or n_prefix > len(first):
        return None
    if generation is not None and found_generation != generation:
        return None
    path = first[_PREFIX_BYTES:n_prefix]
    if zlib.crc32(path, zlib.crc32(first[: _HEAD.size])) != _CRC.unpack_from(first, _HEAD.size)[0]:
        return None
    data = first[n_prefix : n_prefix + n_data]
    if len(data) < n_data:
        data += os.pread(fd, n_data - len(data), offset + len(first))
    if len(data) < n_data or hashlib.sha256(data).digest() != digest:
        return None
    record = Record(path.decode("ascii", "replace"), digest, data, received_ns)
    return found_generation, record, padded_bytes(record)
