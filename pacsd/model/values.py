"""The value field of an element: which VRs are text, how many values it holds, numbers and words (PS3.5 §6.2).

Pure functions, any thread.
"""

from __future__ import annotations

import struct
from array import array
from typing import Any

CHARSET_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Text VRs to which Specific Character Set applies (PS3.5 §6.1.2.3)."""
TEXT_VRS = CHARSET_VRS | frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
SINGLE_VALUED = frozenset({"LT", "ST", "UR", "UT"})
"""Text VRs in which a backslash is a character."""
_KEEP_LEADING = SINGLE_VALUED | {"PN", "UC"}
NUMBER_CODES = {"FD": "d", "FL": "f", "SL": "l", "SS": "h", "SV": "q", "UL": "L", "US": "H", "UV": "Q"}
_WORDS = {"OW": "H", "OF": "I", "OL": "I", "OD": "Q", "OV": "Q"}


def split_text(text: str, vr: str) -> tuple[str, ...]:
    """The values of a text field, padding off; () for an empty one."""
    if vr in SINGLE_VALUED or "\\" not in text:
        bare = text.rstrip(" \0") if vr in _KEEP_LEADING else text.strip(" \0")
        return (bare,) if bare else ()
    if vr in _KEEP_LEADING:
        return tuple([value.rstrip(" \0") for value in text.split("\\")])
    return tuple([value.strip(" \0") for value in text.split("\\")])


def numbers(raw: bytes, vr: str, *, big_endian: bool) -> tuple[Any, ...]:
    """The numbers of a binary VR, tags of AT as one `int` each; an incomplete last one is left out."""
    code = "HH" if vr == "AT" else NUMBER_CODES[vr]
    mark = ">" if big_endian else "<"
    size = struct.calcsize(mark + code)
    found = list(struct.iter_unpack(mark + code, raw[: len(raw) // size * size]))
    return tuple([one[0] << 16 | one[1] for one in found] if vr == "AT" else [one[0] for one in found])


def swapped(raw: bytes, vr: str) -> bytes:
    """Words of OW, OF, OL, OD, OV in the other byte order."""
    code = _WORDS.get(vr)
    if code is None:
        return raw
    words = array(code)
    whole = len(raw) // words.itemsize * words.itemsize
    words.frombytes(raw[:whole])
    words.byteswap()
    return words.tobytes() + raw[whole:]
