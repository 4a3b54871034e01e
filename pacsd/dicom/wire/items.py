"""The item layout that all association PDUs share, and the error for PDUs that break it.

    0     item type
    1     reserved
    2-3   length of what follows, big endian
    4-    value

PDUs nest at most three of these: item, sub-item, and counted fields within.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

SERVICE_USER: Final = 0
SERVICE_PROVIDER: Final = 2

REASON_NOT_SPECIFIED: Final = 0
REASON_UNRECOGNISED_PDU: Final = 1
REASON_UNEXPECTED_PDU: Final = 2
REASON_UNRECOGNISED_PARAMETER: Final = 4
REASON_UNEXPECTED_PARAMETER: Final = 5
REASON_INVALID_PARAMETER: Final = 6

_HEAD = Struct(">BxH")


class PduError(ValueError):
    """The peer broke PS3.8; what an A-ABORT has to say about it (PS3.8 Table 9-26).

    The text names the field, never its content.
    """

    def __init__(self, text: str, reason: int, source: int = SERVICE_PROVIDER) -> None:
        super().__init__(text)
        self.source = source
        self.reason = reason


def invalid(text: str) -> PduError:
    """The error for a parameter whose value can't be (reason 6)."""
    return PduError(text, REASON_INVALID_PARAMETER)


def walk_items(body: bytes, at: int, end: int, max_items: int) -> Iterator[tuple[int, int, int]]:
    """Give (type, value start, value end) of each item in `body[at:end]`.

    NULs too few for an item are taken as padding: seen from modalities that round lengths up.

    Raises:
        PduError: an item runs past `end`, or there are more than `max_items`.
    """
    n_items = 0
    while at < end:
        if end - at < _HEAD.size:
            if body[at:end].strip(b"\0"):
                raise invalid("bytes left over after the last item")
            return
        n_items += 1
        if n_items > max_items:
            raise invalid(f"more than {max_items} items")
        item_type, length = _HEAD.unpack_from(body, at)
        start = at + _HEAD.size
        at = start + length
        if at > end:
            raise invalid(f"item {item_type:#04x} is longer than what holds it")
        yield item_type, start, at


def counted(body: bytes, at: int, end: int, what: str) -> tuple[bytes, int]:
    """Give the value behind a two-byte length at `at`, and the offset after it.

    Raises:
        PduError: the value runs past `end`.
    """
    if at + 2 > end:
        raise invalid(f"{what} has no length")
    after = at + 2 + int.from_bytes(body[at : at + 2], "big")
    if after > end:
        raise invalid(f"{what} is longer than what holds it")
    return body[at + 2 : after], after


def item(item_type: int, value: bytes) -> bytes:
    """Encode one item. Raises ValueError when the value doesn't fit its two-byte length."""
    return bytes((item_type, 0)) + with_length(value)


def with_length(value: bytes) -> bytes:
    """Encode a value behind its two-byte length. Raises ValueError when it doesn't fit."""
    if len(value) > 0xFFFF:
        raise ValueError(f"{len(value)} bytes do not fit into an item")
    return len(value).to_bytes(2, "big") + value


def uid_text(raw: bytes) -> str:
    """Read a UID as peers write it: padded by NULs or spaces, though PS3.8 §F.1 allows neither."""
    return raw.strip(b"\0 ").decode("latin-1")


def uid_bytes(uid: str) -> bytes:
    """Encode a UID without padding (PS3.8 §F.1). Raises ValueError for characters outside Latin-1."""
    return uid.encode("latin-1")


def ae_title_text(raw: bytes) -> str:
    """Read an AE title: spaces at both ends don't count, a NUL ends it (C strings from older modalities)."""
    return raw.lstrip(b"\0 ").partition(b"\0")[0].rstrip(b" ").decode("latin-1")


def ae_title_bytes(title: str) -> bytes:
    """Encode an AE title in its 16 bytes. Raises ValueError when it's longer."""
    raw = title.encode("latin-1")
    if len(raw) > 16:
        raise ValueError("an AE title has at most 16 characters")
    return raw.ljust(16)
