"""Text on its way into the database: what no column refuses, and what every index can hold."""

from __future__ import annotations

import hashlib

MAX_KEY_CHARS = 200
KEPT_CHARS = 120


def clean(text: str) -> str:
    """The same text without what PostgreSQL or UTF-8 can't hold: NUL and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


def key(text: str) -> str:
    """`clean` text for an indexed column: one far longer than DICOM allows becomes a digest of itself.

    An index entry of PostgreSQL holds 2,700 bytes; equal texts stay equal and different ones different.
    """
    text = clean(text).strip()
    if len(text) <= MAX_KEY_CHARS:
        return text
    return f"{text[:KEPT_CHARS]}…{hashlib.sha256(text.encode()).hexdigest()[:40]}"
